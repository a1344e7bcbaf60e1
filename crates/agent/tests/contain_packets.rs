//! What an isolation does to real packets, in namespaces.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own tools fail the test")]

mod contain_world;

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use contain_world::bench::{
    Bench, HUB_PORT, PACS_PORT, assert_refused, dial, dial_as, echo, lives,
};
use contain_world::{AGENT_USER, HUB, HUB6, MACHINE, MACHINE6, PACS, PEER, PEER6};
use cordon_agent::contain::protocol::{Ask, Refusal};
use cordon_model::asset::{ClinicalTier, Direction, Lifeline, PortRange, Transport};
use cordon_model::measure::{Isolation, MeasureState};
use cordon_model::signed::seal;

#[test]
fn segment_cuts_a_live_smb_session_and_leaves_the_rest() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    for (address, port) in [(PEER, 445), (PEER6, 445), (PEER, 8080)] {
        echo(&bench.world, address, port);
    }
    let mut smb = dial(&bench.world, PEER, 445).unwrap();
    let mut smb6 = dial(&bench.world, PEER6, 445).unwrap();
    let mut web = dial(&bench.world, PEER, 8080).unwrap();
    assert!(lives(&mut smb) && lives(&mut smb6) && lives(&mut web));
    let receipt = bench.isolate(Isolation::Segment);
    assert_eq!(receipt.state, MeasureState::Verified, "{receipt:?}");
    assert_eq!(receipt.sockets_cut, 2);
    assert!(!lives(&mut smb) && !lives(&mut smb6));
    assert!(lives(&mut web));
    for address in [PEER, PEER6] {
        let error = dial(&bench.world, address, 445).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "told at once");
    }
    // And towards this machine.
    let ours = SocketAddr::new(MACHINE.parse().unwrap(), 445);
    bench.world.machine.spawn(move || {
        let listener = TcpListener::bind(ours).unwrap();
        let _ = listener.accept();
    });
    let reached = bench
        .world
        .peer
        .inside(move || TcpStream::connect_timeout(&ours, Duration::from_millis(700)));
    assert_eq!(reached.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
}

#[test]
fn segment_cuts_a_service_that_is_published_under_another_port() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    bench.world.machine.nft(
        "table ip nat {
           chain pre { type nat hook prerouting priority -100; tcp dport 445 redirect to :8445; }
         }",
    );
    let inside = SocketAddr::new(MACHINE.parse().unwrap(), 8445);
    bench.world.machine.spawn(move || {
        let listener = TcpListener::bind(inside).unwrap();
        while listener.accept().is_ok() {}
    });
    let published = SocketAddr::new(MACHINE.parse().unwrap(), 445);
    let reach = |bench: &Bench, to, patience| {
        bench.world.peer.inside(move || TcpStream::connect_timeout(&to, patience).is_ok())
    };
    // The listener is there before anything is cut, however long it takes to come up.
    while !reach(&bench, published, Duration::from_secs(5)) {}
    bench.isolate(Isolation::Segment);
    assert!(!reach(&bench, published, Duration::from_millis(500)));
    assert!(reach(&bench, inside, Duration::from_secs(5)));
}

/// A service that waits at another port than peers open, as a program without root does for DICOM's port.
#[test]
fn an_inbound_lifeline_is_known_by_the_port_that_was_opened_where_it_is_redirected() {
    const DICOM: u16 = 104;
    const OTHER: u16 = 105;
    const TO_SMB: u16 = 106;
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let redirect = format!(
        "chain pre {{ type nat hook prerouting priority -100;
           tcp dport {{ {DICOM}, {OTHER} }} redirect to :{PACS_PORT}
           tcp dport {TO_SMB} redirect to :445
         }}"
    );
    for family in ["ip", "ip6"] {
        bench.world.machine.nft(&format!("table {family} nat {{ {redirect}\n }}"));
    }
    for at in [MACHINE, MACHINE6] {
        for port in [PACS_PORT, 445] {
            contain_world::bench::echo_in(&bench.world.machine, at, port);
        }
    }
    let mut assignment = bench.assignment(2, Some(ClinicalTier::None));
    for network in ["10.77.0.0/24", "fd77::/64"] {
        for port in [DICOM, TO_SMB] {
            let mut lifeline = assignment.lifelines[0].clone();
            lifeline.peer = network.parse().unwrap();
            lifeline.ports = PortRange::one(port);
            lifeline.direction = Direction::Inbound;
            assignment.lifelines.push(lifeline);
        }
    }
    bench.reassign(&assignment);
    let reach = |bench: &Bench, at: &str, port, seconds| {
        let to = SocketAddr::new(at.parse().unwrap(), port);
        bench
            .world
            .peer
            .inside(move || TcpStream::connect_timeout(&to, Duration::from_secs_f64(seconds)))
    };
    let all =
        |bench: &Bench, port| [MACHINE, MACHINE6].map(|at| reach(bench, at, port, 5.0).unwrap());
    let (mut dicom, mut smb) = (all(&bench, DICOM), all(&bench, TO_SMB));
    let mut other = all(&bench, OTHER);
    assert!(dicom.iter_mut().chain(&mut smb).chain(&mut other).all(lives));
    for isolation in [Isolation::Segment, Isolation::Full] {
        let receipt = bench.isolate(isolation);
        assert_eq!(receipt.state, MeasureState::Verified, "{receipt:?}");
        assert!(dicom.iter_mut().all(lives), "{isolation}: the open sessions");
        assert!(!smb.iter_mut().any(lives), "{isolation}: no port that worms move by");
        let is_full = isolation == Isolation::Full;
        assert_eq!(
            other.iter_mut().any(lives),
            !is_full,
            "{isolation}: a port that is no lifeline"
        );
        for at in [MACHINE, MACHINE6] {
            assert!(lives(&mut reach(&bench, at, DICOM, 5.0).unwrap()), "{isolation}, {at}");
            assert!(reach(&bench, at, TO_SMB, 0.4).is_err(), "{isolation}, {at}");
            for port in [OTHER, PACS_PORT] {
                let patience = if is_full { 0.4 } else { 5.0 };
                assert_eq!(
                    reach(&bench, at, port, patience).is_err(),
                    is_full,
                    "{isolation}, {at}"
                );
            }
        }
    }
}

#[test]
fn full_keeps_an_open_session_with_the_pacs_and_the_hub_and_cuts_everything_else() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    for (address, port) in [
        (PEER, 8080),
        (PEER6, 8080),
        (PACS, PACS_PORT),
        (PACS, 8080),
        (HUB, HUB_PORT),
        (HUB6, HUB_PORT),
    ] {
        echo(&bench.world, address, port);
    }
    let world = &bench.world;
    let mut cut = [
        dial(world, PEER, 8080).unwrap(),
        dial(world, PEER6, 8080).unwrap(),
        dial(world, PACS, 8080).unwrap(),
        dial_as(world, 12345, HUB, HUB_PORT).unwrap(),
    ];
    let mut kept = [
        dial(world, PACS, PACS_PORT).unwrap(),
        dial_as(world, AGENT_USER, HUB, HUB_PORT).unwrap(),
        dial_as(world, AGENT_USER, HUB6, HUB_PORT).unwrap(),
    ];
    assert!(cut.iter_mut().chain(&mut kept).all(lives));
    let receipt = bench.isolate(Isolation::Full);
    assert_eq!(receipt.state, MeasureState::Verified, "{receipt:?}");
    let proof = receipt.proof.unwrap();
    for tried in ["udp 10.77.0.4:9 outbound", "udp [fd77::4]:9 outbound"] {
        let probe = proof.probes.iter().find(|probe| probe.tried == tried).unwrap();
        assert_eq!((probe.should_pass, probe.did_pass), (false, Some(false)));
    }
    let hub = proof.probes.iter().find(|probe| probe.tried.contains("agent's user")).unwrap();
    assert_eq!(hub.did_pass, Some(true));
    assert!(proof.unproven.iter().any(|what| what.contains("inbound")), "{proof:?}");
    assert_eq!(receipt.sockets_cut, 4);
    assert!(!cut.iter_mut().any(lives));
    for stream in &mut kept {
        assert!(lives(stream), "{stream:?}");
    }
    let world = &bench.world;
    assert!(lives(&mut dial(world, PACS, PACS_PORT).unwrap()), "and a new one can be opened");
    assert!(lives(&mut dial_as(world, AGENT_USER, HUB, HUB_PORT).unwrap()));
    assert!(dial_as(world, 12345, HUB, HUB_PORT).is_err(), "the exemption is the agent's alone");
    assert!(dial(world, PACS, 8080).is_err());
    // DNS, the usual exit, is shut; so is every other datagram.
    let refused = world.machine.inside(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.send_to(b"exfil", (PEER, 53)).unwrap_err().kind()
    });
    assert_eq!(refused, std::io::ErrorKind::PermissionDenied);
}

#[test]
fn loopback_addresses_and_neighbours_stay_through_full() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    assert_eq!(bench.isolate(Isolation::Full).state, MeasureState::Verified);
    let world = &bench.world;
    world.machine.inside(|| {
        for address in ["127.0.0.1", "::1", MACHINE, MACHINE6] {
            let address: std::net::IpAddr = address.parse().unwrap();
            let listener = TcpListener::bind(SocketAddr::new(address, 0)).unwrap();
            let to = listener.local_addr().unwrap();
            TcpStream::connect_timeout(&to, Duration::from_secs(2)).unwrap();
        }
    });
    // Neighbour discovery: the hub's IPv6 address is found again from nothing.
    echo(world, HUB6, HUB_PORT);
    world.machine.run("ip", &["-6", "neigh", "flush", "dev", &world.link()]);
    assert!(lives(&mut dial_as(world, AGENT_USER, HUB6, HUB_PORT).unwrap()));
    // DHCP renewal, unicast as at half of the lease: the datagrams pass both ways.
    let server = world.peer.inside(|| UdpSocket::bind((PEER, 67)).unwrap());
    let client = world.machine.inside(|| UdpSocket::bind((MACHINE, 68)).unwrap());
    server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    client.send_to(b"request", (PEER, 67)).unwrap();
    let mut bytes = [0; 16];
    let (_, from) = server.recv_from(&mut bytes).unwrap();
    server.send_to(b"acknowledge", from).unwrap();
    assert_eq!(client.recv(&mut bytes).unwrap(), 11);
}

#[test]
fn forwarded_traffic_is_cut_as_the_machines_own() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let world = &bench.world;
    // A container: a namespace behind the machine.
    let inner = format!("{}c", world.machine.name);
    contain_world::run("ip", &["netns", "add", &inner]);
    let container = contain_world::Namespace { name: inner.clone() };
    let (ours, theirs) = (format!("{inner}a"), format!("{inner}b"));
    contain_world::run(
        "ip",
        &[
            "link",
            "add",
            &ours,
            "netns",
            &world.machine.name,
            "type",
            "veth",
            "peer",
            "name",
            &theirs,
            "netns",
            &inner,
        ],
    );
    world.machine.run("ip", &["addr", "add", "172.31.7.1/24", "dev", &ours]);
    world.machine.run("ip", &["link", "set", &ours, "up"]);
    container.run("ip", &["addr", "add", "172.31.7.2/24", "dev", &theirs]);
    container.run("ip", &["link", "set", &theirs, "up"]);
    container.run("ip", &["route", "add", "default", "via", "172.31.7.1"]);
    world.machine.run("sysctl", &["-qw", "net.ipv4.ip_forward=1"]);
    world.peer.run("ip", &["route", "add", "172.31.7.0/24", "via", MACHINE]);
    echo(world, PEER, 8080);
    echo(world, PACS, PACS_PORT);
    let dial = |address: &'static str, port, patience| {
        container.inside(move || {
            let address = SocketAddr::new(address.parse().unwrap(), port);
            TcpStream::connect_timeout(&address, Duration::from_millis(patience))
        })
    };
    let mut live = dial(PEER, 8080, 10_000).unwrap();
    let mut pacs = dial(PACS, PACS_PORT, 10_000).unwrap();
    assert!(lives(&mut live) && lives(&mut pacs));
    bench.isolate(Isolation::Full);
    assert!(!lives(&mut live), "no socket here to cut, and its packets die");
    assert!(dial(PEER, 8080, 700).is_err());
    assert!(lives(&mut pacs), "the lifeline is the machine's, whichever container serves it");
    contain_world::run("ip", &["netns", "del", &inner]);
}

#[test]
fn release_leaves_the_ruleset_as_it_was_to_the_byte() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    bench.world.machine.nft(
        "table inet firewalld {
           set s { type ipv4_addr; elements = { 10.0.0.9 }; }
           chain input { type filter hook input priority 0; policy accept;
             ct state established,related accept
             ip saddr @s tcp dport 22 counter accept
           }
         }
         table ip nat {
           chain post { type nat hook postrouting priority 100; ip saddr 172.17.0.0/16 masquerade; }
         }",
    );
    let before = bench.world.machine.ruleset();
    for isolation in [Isolation::Segment, Isolation::Full] {
        assert_eq!(bench.isolate(isolation).state, MeasureState::Verified);
        let during = bench.world.machine.ruleset();
        assert!(during.starts_with(&before), "others' tables are not touched\n{during}");
    }
    let receipt = bench.release();
    assert_eq!(receipt.state, MeasureState::Released);
    assert_eq!(receipt.proof.unwrap().table_handle, None);
    assert_eq!(bench.world.machine.ruleset(), before);
}

#[test]
fn another_tables_accept_does_not_overrule_a_cut() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    for priority in [-300, 0, 300] {
        bench.world.machine.nft(&format!(
            "table inet docker{} {{
               chain o {{ type filter hook output priority {priority}; policy accept; accept; }}
             }}",
            priority + 300
        ));
    }
    echo(&bench.world, PEER, 445);
    bench.isolate(Isolation::Segment);
    assert!(dial(&bench.world, PEER, 445).is_err());
}

#[test]
fn new_lifelines_take_effect_in_force_and_old_ones_are_refused() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    echo(&bench.world, PEER, 2575);
    bench.isolate(Isolation::Full);
    assert!(dial(&bench.world, PEER, 2575).is_err());
    let mut assignment = bench.assignment(2, Some(ClinicalTier::None));
    assignment.lifelines.push(Lifeline {
        name: "HL7 to its engine".into(),
        peer: format!("{PEER}/32").parse().unwrap(),
        transport: Transport::Tcp,
        ports: PortRange::one(2575),
        direction: Direction::Outbound,
        signed_off_by: None,
    });
    bench.ask(Ask::Assignment(seal(&assignment, &bench.key).unwrap()));
    assert!(lives(&mut dial(&bench.world, PEER, 2575).unwrap()));
    assert_eq!(bench.status().wiped, 0);
    let old = seal(&bench.assignment(1, None), &bench.key).unwrap();
    assert_refused(&bench.ask(Ask::Assignment(old)), Refusal::NotObeyed, "revision");
    let mut smb = bench.assignment(3, None);
    smb.lifelines[0].ports = PortRange::one(445);
    let smb = seal(&smb, &bench.key).unwrap();
    assert_refused(&bench.ask(Ask::Assignment(smb)), Refusal::NotObeyed, "lateral-movement");
}
