//! Less than a whole peer: ports, a transport, who opens; a name; and what only passes through.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use cordon_model::action::{Blocked, BlockedPeer};
use cordon_model::asset::{ClinicalTier, Direction, PortRange, Transport};
use cordon_model::measure::MeasureState;

use crate::contain_world::bench::{Bench, dial, echo, echo_in, lives};
use crate::contain_world::container::{CONTAINER, CONTAINER6, Container};
use crate::contain_world::flow::{comes_back, echo_datagrams};
use crate::contain_world::{MACHINE, MACHINE6, PACS, PACS6, PEER, PEER6, address};
use crate::{block, dial_from, order, session, undo, whole};

const FAMILIES: [(&str, &str); 2] = [(PEER, MACHINE), (PEER6, MACHINE6)];

fn of_port(peer: &str, transport: Transport, port: u16, direction: Option<Direction>) -> Blocked {
    let ports = Some(PortRange::one(port));
    Blocked { transport: Some(transport), ports, direction, ..whole(peer) }
}

#[test]
fn a_port_is_blocked_at_either_side_and_the_others_live() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    for (peer, machine) in FAMILIES {
        for port in [445, 446] {
            echo(&bench.world, peer, port);
            echo_in(&bench.world.machine, machine, port);
        }
        echo_datagrams(&bench.world.peer, SocketAddr::new(address(peer), 445));
        let sessions = |bench: &Bench, port| {
            let inward = dial_from(&bench.world.peer, peer, machine, port, true).unwrap();
            [dial(&bench.world, peer, port).unwrap(), inward]
        };
        let (mut cut, mut kept) = (sessions(&bench, 445), sessions(&bench, 446));
        assert!(cut.iter_mut().chain(&mut kept).all(lives));
        let measure = block(&mut bench, &of_port(peer, Transport::Tcp, 445, None));
        assert!(!cut.iter_mut().any(lives) && kept.iter_mut().all(lives), "{peer}");
        assert!(dial(&bench.world, peer, 445).is_err());
        assert!(dial_from(&bench.world.peer, peer, machine, 445, false).is_err());
        assert!(sessions(&bench, 446).iter_mut().all(lives), "{peer}");
        let datagrams = SocketAddr::new(address(peer), 445);
        assert!(comes_back(&bench.world.machine, datagrams, 4, true), "another transport");
        undo(&mut bench, measure);
    }
}

/// Of each direction, an open session and a new one; of the blocked direction both end, of the other both
/// live, though the peer is the same.
#[test]
fn one_direction_is_blocked_and_the_other_lives() {
    for (peer, machine) in FAMILIES {
        for blocked in [Direction::Outbound, Direction::Inbound] {
            for transport in [None, Some(Transport::Tcp)] {
                let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
                let [out, inward] =
                    [Direction::Outbound, Direction::Inbound].map(|way| way != blocked);
                let world = &bench.world;
                let mut opened = session(&world.machine, machine, &world.peer, peer, 7000);
                // Who waits stays: by that a session that was served is known.
                echo_in(&world.machine, machine, 7001);
                let mut served = dial_from(&world.peer, peer, machine, 7001, true).unwrap();
                assert!(lives(&mut served) && passes(&mut opened));
                echo(world, peer, 7002);
                let limited = Blocked { transport, direction: Some(blocked), ..whole(peer) };
                let receipt = order(&mut bench, &limited);
                assert_eq!(receipt.state, MeasureState::Verified, "{receipt:?}");
                let world = &bench.world;
                assert_eq!((passes(&mut opened), lives(&mut served)), (out, inward), "{limited}");
                assert_eq!(dial(world, peer, 7002).is_ok(), out, "{limited}");
                let new = dial_from(&world.peer, peer, machine, 7001, inward);
                assert_eq!(new.is_ok(), inward, "{limited}");
                let words = receipt.proof.unwrap().unproven.join("; ");
                assert!(words.contains("of one direction only"), "{words}");
            }
        }
    }
}

/// Whether a byte gets from one end to the other.
fn passes(session: &mut (TcpStream, TcpStream)) -> bool {
    use std::io::{Read as _, Write as _};
    session.1.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
    session.0.write_all(&[7]).is_ok() && session.1.read_exact(&mut [0]).is_ok()
}

/// Datagrams have no opening packet: who began is what tracking says.
#[test]
fn datagrams_are_blocked_by_who_asked_first() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    for (peer, machine) in FAMILIES {
        let (theirs, ours) =
            (SocketAddr::new(address(peer), 5000), SocketAddr::new(address(machine), 5000));
        echo_datagrams(&bench.world.peer, theirs);
        echo_datagrams(&bench.world.machine, ours);
        for (blocked, out, inward) in
            [(Direction::Outbound, false, true), (Direction::Inbound, true, false)]
        {
            let limited = of_port(peer, Transport::Udp, 5000, Some(blocked));
            let receipt = order(&mut bench, &limited);
            assert_eq!(receipt.state, MeasureState::Verified, "{receipt:?}");
            let world = &bench.world;
            assert_eq!(comes_back(&world.machine, theirs, 4, out), out, "{limited}");
            let from_peer = from_address(&bench, peer, ours, inward);
            assert_eq!(from_peer, inward, "{limited}");
            undo(&mut bench, receipt.measure);
        }
    }
}

fn from_address(bench: &Bench, source: &str, to: SocketAddr, should: bool) -> bool {
    let source = SocketAddr::new(address(source), 0);
    let (patience, attempts) = if should { (1000, 10) } else { (150, 2) };
    bench.world.peer.inside(move || {
        let socket = std::net::UdpSocket::bind(source).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(patience))).unwrap();
        (0..attempts).any(|_| socket.send_to(b"?", to).is_ok() && socket.recv(&mut [0; 4]).is_ok())
    })
}

/// A name is the addresses in the order, of both families; nothing is resolved here.
#[test]
fn a_name_is_blocked_at_all_addresses_that_the_order_gives() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    for at in [PEER, PEER6, PACS, PACS6] {
        echo(&bench.world, at, 4444);
    }
    let addresses = vec![address(PEER), address(PEER6), address(PEER)];
    let peer = BlockedPeer::Domain { name: "c2.example".into(), addresses };
    let blocked = Blocked { peer, ..whole(PEER) };
    let before = bench.world.machine.ruleset();
    let receipt = order(&mut bench, &blocked);
    assert_eq!(receipt.state, MeasureState::Verified, "{receipt:?}");
    assert!(receipt.done.iter().any(|line| line.starts_with("c2.example: ")), "{receipt:?}");
    assert!(bench.world.machine.ruleset().contains("c2.example"), "people see which it is");
    for at in [PEER, PEER6] {
        assert!(dial(&bench.world, at, 4444).is_err(), "{at}");
    }
    for at in [PACS, PACS6] {
        assert!(lives(&mut dial(&bench.world, at, 4444).unwrap()), "{at}");
    }
    undo(&mut bench, receipt.measure);
    assert_eq!(bench.world.machine.ruleset(), before);
}

/// A container's sessions are the machine's to judge, in either direction and also when they are open; and
/// a service that the machine publishes is known by the port that the peer opened.
#[test]
fn containers_are_blocked_too() {
    const PUBLISHED: u16 = 8042;
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let container = Container::behind(&bench.world);
    Container::publish(&bench.world, PUBLISHED, 80);
    for at in [PEER, PEER6, PACS, PACS6] {
        echo(&bench.world, at, 8080);
    }
    for at in [CONTAINER, CONTAINER6] {
        echo_in(&container.namespace, at, 80);
    }
    let families = [(PEER, PACS, MACHINE), (PEER6, PACS6, MACHINE6)];
    let mut cut = Vec::new();
    let mut kept = Vec::new();
    for (peer, other, machine) in families {
        for (at, sessions) in [(peer, &mut cut), (other, &mut kept)] {
            sessions.push(container.dial(at, 8080, true).unwrap());
            sessions.push(dial_from(&bench.world.peer, at, machine, PUBLISHED, true).unwrap());
        }
    }
    assert!(cut.iter_mut().chain(&mut kept).all(lives));
    let before = bench.world.machine.ruleset();
    let measures = [PEER, PEER6].map(|peer| block(&mut bench, &whole(peer)));
    assert!(!cut.iter_mut().any(lives), "forwarded sessions end");
    assert!(kept.iter_mut().all(lives));
    for (peer, other, machine) in families {
        let refused = container.dial(peer, 8080, false).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{peer}: told at once");
        let inward =
            |from, should| dial_from(&bench.world.peer, from, machine, PUBLISHED, should).is_ok();
        assert!(!inward(peer, false) && inward(other, true), "{peer}");
    }
    measures.into_iter().for_each(|measure| undo(&mut bench, measure));
    assert_eq!(bench.world.machine.ruleset(), before);
    // By the published port alone: the container's own is another.
    for (peer, _, machine) in families {
        let inward = |bench: &Bench, should| {
            dial_from(&bench.world.peer, peer, machine, PUBLISHED, should).is_ok()
        };
        for direction in [None, Some(Direction::Inbound)] {
            let one = of_port(peer, Transport::Tcp, PUBLISHED, direction);
            let measure = block(&mut bench, &one);
            assert!(!inward(&bench, false), "{one}");
            undo(&mut bench, measure);
            assert!(inward(&bench, true), "{one}");
        }
    }
}
