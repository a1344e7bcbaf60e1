//! Point 3: IPv4 and IPv6 alike. Loopback and neighbour discovery stay; the exemption is the agent's own.
//!
//! Answers Velociraptor (IPv6 unfinished, loopback dropped), Elastic (all IPv6 dropped, an allowed
//! address open to every process), Yuzu (IPv6 open). Containers: [`super::containers`].

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use cordon_model::asset::ClinicalTier;
use cordon_model::measure::{Isolation, MeasureState};

use crate::contain_world::bench::{Bench, HUB_PORT, PACS_PORT, dial, dial_as, echo, lives};
use crate::contain_world::wiretap::Wiretap;
use crate::contain_world::{
    AGENT_USER, HUB, HUB6, MACHINE, MACHINE6, PACS, PACS6, PEER, PEER6, address,
};

/// What the machine says to itself, by TCP and UDP, on loopback and on its own addresses: sessions that
/// are open and new ones.
#[test]
fn point_3_loopback_stays() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let addresses: Vec<IpAddr> = ["127.0.0.1", "::1", MACHINE, MACHINE6].map(address).to_vec();
    let machine = bench.world.machine.clone();
    let open = {
        let addresses = addresses.clone();
        machine.inside(move || addresses.into_iter().map(pair).collect::<Vec<_>>())
    };
    assert_eq!(bench.isolate(Isolation::Full).state, MeasureState::Verified);
    machine.inside(move || {
        for (mut one, mut other) in open {
            speak(&mut one, &mut other);
        }
        for address in addresses {
            let (mut one, mut other) = pair(address);
            speak(&mut one, &mut other);
            let one = UdpSocket::bind((address, 0)).unwrap();
            let other = UdpSocket::bind((address, 0)).unwrap();
            one.send_to(b"word", other.local_addr().unwrap()).unwrap();
            assert_eq!(other.recv(&mut [0; 8]).unwrap(), 4);
        }
    });
}

fn pair(address: IpAddr) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (one, listener.accept().unwrap().0)
}

fn speak(one: &mut TcpStream, other: &mut TcpStream) {
    one.write_all(b"word").unwrap();
    other.read_exact(&mut [0; 4]).unwrap();
}

/// Both sides forget each other's hardware addresses; ARP and neighbour discovery find them again, asked
/// from either side.
#[test]
fn point_3_arp_and_neighbour_discovery_stay() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    for hub in [HUB, HUB6] {
        echo(&bench.world, hub, HUB_PORT);
    }
    bench.isolate(Isolation::Full);
    let world = &bench.world;
    let mut tap = Wiretap::on(world);
    for (namespace, link) in [(&world.machine, world.link()), (&world.peer, world.far_link())] {
        for hub in [HUB, HUB6] {
            let family = if hub.contains(':') { "-6" } else { "-4" };
            namespace.run("ip", &[family, "neigh", "flush", "dev", &link]);
            assert!(lives(&mut dial_as(world, AGENT_USER, hub, HUB_PORT).unwrap()), "{hub}");
        }
    }
    let seen = tap.settle();
    assert!(seen.iter().filter(|frame| frame.is_housekeeping()).count() >= 2, "{seen:?}");
}

/// The hub's address and port are open to the agent's user, and to nobody else: another user, root, and
/// root with the connection's mark.
#[test]
fn point_3_the_exemption_belongs_to_the_agents_user_and_not_to_root() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    for hub in [HUB, HUB6] {
        echo(&bench.world, hub, HUB_PORT);
    }
    bench.isolate(Isolation::Full);
    let world = &bench.world;
    let mut tap = Wiretap::on(world);
    for hub in [HUB, HUB6] {
        for user in [0, 1, 12345, AGENT_USER - 1, AGENT_USER + 1] {
            let error = dial_as(world, user, hub, HUB_PORT).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{hub} as {user}");
        }
        assert_eq!(tap.settle_traffic(), [], "{hub}");
        assert!(lives(&mut dial_as(world, AGENT_USER, hub, HUB_PORT).unwrap()));
        // And the agent's user has that one way, and no other.
        for (address, port) in [(hub, HUB_PORT + 1), (PEER, HUB_PORT), (PEER6, HUB_PORT)] {
            assert!(dial_as(world, AGENT_USER, address, port).is_err(), "{address}:{port}");
        }
        let only = address(hub);
        for frame in tap.settle_traffic() {
            assert!(frame.at_port(HUB_PORT).is_some_and(|p| p.destination == only), "{frame:?}");
        }
    }
}

/// A lifeline over IPv6 lives as one over IPv4 does; what is none is cut in both, also where a header
/// stands between the address and the port.
#[test]
fn point_3_ipv6_is_neither_open_nor_forgotten() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let mut assignment = bench.assignment(2, Some(ClinicalTier::None));
    let mut over_ipv6 = assignment.lifelines[0].clone();
    over_ipv6.peer = format!("{PACS6}/128").parse().unwrap();
    assignment.lifelines.push(over_ipv6);
    bench.reassign(&assignment);
    for address in [PACS, PACS6] {
        echo(&bench.world, address, PACS_PORT);
        echo(&bench.world, address, 445);
    }
    let mut open = [dial(&bench.world, PACS, PACS_PORT), dial(&bench.world, PACS6, PACS_PORT)]
        .map(Result::unwrap);
    for isolation in [Isolation::Segment, Isolation::Full] {
        bench.isolate(isolation);
        let mut tap = Wiretap::on(&bench.world);
        for address in [PACS, PACS6] {
            assert!(dial(&bench.world, address, 445).is_err(), "{address}");
        }
        assert_eq!(options_in_between(&bench, 445), "refused");
        assert_eq!(tap.settle_traffic(), [], "{isolation}");
        for stream in &mut open {
            assert!(lives(stream), "{stream:?}");
        }
        for address in [PACS, PACS6] {
            assert!(lives(&mut dial(&bench.world, address, PACS_PORT).unwrap()), "{address}");
        }
        assert_eq!(options_in_between(&bench, PACS_PORT), "connected");
    }
}

/// Dials with destination options (RFC 8200 section 4.6) in every packet.
fn options_in_between(bench: &Bench, port: u16) -> String {
    bench.world.machine.run(
        "perl",
        &[
            "-MSocket=:all",
            "-e",
            // IPPROTO_IPV6 41, IPV6_DSTOPTS 59: next header, length 0, and one option of padding.
            "socket($s, AF_INET6, SOCK_STREAM, 0) or die $!;
             setsockopt($s, 41, 59, pack('C8', 0, 0, 1, 4, 0, 0, 0, 0)) or die $!;
             print connect($s, pack_sockaddr_in6($ARGV[1], inet_pton(AF_INET6, $ARGV[0])))
                 ? 'connected' : 'refused'",
            PACS6,
            &port.to_string(),
        ],
    )
}

/// From outside to inside: services of the machine, asked over either family, as TCP, UDP and ping.
#[test]
fn point_3_what_comes_in_is_cut_in_both_families() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let machine = bench.world.machine.clone();
    let addresses = [MACHINE, MACHINE6];
    for at in addresses {
        crate::contain_world::bench::echo_in(&machine, at, 8080);
        crate::contain_world::flow::echo_datagrams(&machine, SocketAddr::new(address(at), 8081));
    }
    let reach = |bench: &Bench, at: &str, should| {
        let to = SocketAddr::new(address(at), 8080);
        let patience = Duration::from_millis(if should { 5000 } else { 300 });
        let peer = &bench.world.peer;
        let tcp = peer.inside(move || TcpStream::connect_timeout(&to, patience).is_ok());
        let to = SocketAddr::new(to.ip(), 8081);
        let udp = crate::contain_world::flow::comes_back(peer, to, 8, should);
        [tcp, udp, crate::contain_world::flow::answers_ping(peer, to.ip(), should)]
    };
    for at in addresses {
        assert_eq!(reach(&bench, at, true), [true; 3], "{at}");
    }
    bench.isolate(Isolation::Full);
    let mut tap = Wiretap::on(&bench.world);
    for at in addresses {
        assert_eq!(reach(&bench, at, false), [false; 3], "{at}");
    }
    assert_eq!(tap.settle_traffic(), [], "and not a word is answered");
}
