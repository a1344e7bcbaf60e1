//! Point 3: containers and forwarded traffic are included.
//!
//! Answers LimaCharlie and Yuzu, whose rules stand at the machine's own sockets: what a container or a
//! virtual machine sends through the machine passes them.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use cordon_model::asset::{ClinicalTier, Direction, PortRange};
use cordon_model::measure::Isolation;

use crate::contain_world::bench::{Bench, PACS_PORT, echo, echo_in, lives};
use crate::contain_world::container::{CONTAINER, CONTAINER6, Container};
use crate::contain_world::wiretap::Wiretap;
use crate::contain_world::{MACHINE, MACHINE6, PACS, PEER, PEER6, address};

/// The port at which the machine publishes a service of its container.
const PUBLISHED: u16 = 8042;

fn from_peer(bench: &Bench, at: &str, port: u16, should: bool) -> Option<TcpStream> {
    let to = SocketAddr::new(address(at), port);
    let patience = Duration::from_millis(if should { 10_000 } else { 300 });
    bench.world.peer.inside(move || TcpStream::connect_timeout(&to, patience).ok())
}

/// A container with an address of its own, and one that hides behind the machine's.
#[test]
fn point_3_a_containers_sessions_are_cut_and_its_lifeline_lives() {
    for is_hidden in [false, true] {
        let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
        let container = Container::behind(&bench.world);
        if is_hidden {
            Container::publish(&bench.world, PUBLISHED, 80);
        }
        for (at, port) in [(PEER, 8080), (PEER6, 8080), (PACS, PACS_PORT)] {
            echo(&bench.world, at, port);
        }
        let mut live =
            [(PEER, 8080), (PEER6, 8080)].map(|(at, port)| container.dial(at, port, true).unwrap());
        let mut pacs = container.dial(PACS, PACS_PORT, true).unwrap();
        assert!(live.iter_mut().all(lives) && lives(&mut pacs));
        bench.isolate(Isolation::Full);
        let mut tap = Wiretap::on(&bench.world);
        assert!(!live.iter_mut().any(lives));
        for at in [PEER, PEER6] {
            assert!(container.dial(at, 8080, false).is_err(), "{at}");
        }
        assert_eq!(tap.settle_traffic(), [], "hidden: {is_hidden}");
        assert!(lives(&mut pacs), "the lifeline is the machine's, whoever in it serves it");
        assert!(lives(&mut container.dial(PACS, PACS_PORT, true).unwrap()));
    }
}

/// A service in a container, published at a port of the machine by translation: cut when it is no
/// lifeline, and alive when it is, known by the port that the peer opened.
#[test]
fn point_3_a_published_port_is_cut_unless_it_is_a_lifeline() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let container = Container::behind(&bench.world);
    Container::publish(&bench.world, PUBLISHED, 80);
    for at in [CONTAINER, CONTAINER6] {
        echo_in(&container.namespace, at, 80);
    }
    let machine = [MACHINE, MACHINE6];
    let mut live = machine.map(|at| from_peer(&bench, at, PUBLISHED, true).unwrap());
    assert!(live.iter_mut().all(lives));
    bench.isolate(Isolation::Full);
    let mut tap = Wiretap::on(&bench.world);
    assert!(!live.iter_mut().any(lives), "open sessions");
    for at in machine {
        assert!(from_peer(&bench, at, PUBLISHED, false).is_none(), "{at}");
    }
    for at in [CONTAINER, CONTAINER6] {
        assert!(from_peer(&bench, at, 80, false).is_none(), "{at}, by the router's way");
    }
    assert_eq!(tap.settle_traffic(), []);

    let mut assignment = bench.assignment(2, Some(ClinicalTier::None));
    // The peer dials over IPv6 from whichever of its addresses.
    for network in ["10.77.0.2/32", "fd77::/64"] {
        let mut lifeline = assignment.lifelines[0].clone();
        lifeline.peer = network.parse().unwrap();
        lifeline.ports = PortRange::one(PUBLISHED);
        lifeline.direction = Direction::Inbound;
        assignment.lifelines.push(lifeline);
    }
    bench.reassign(&assignment);
    for at in machine {
        assert!(lives(&mut from_peer(&bench, at, PUBLISHED, true).expect(at)), "{at}");
    }
    for at in [CONTAINER, CONTAINER6] {
        assert!(
            from_peer(&bench, at, 80, false).is_none(),
            "{at}: the lifeline opens no other way"
        );
    }
}

/// *Segment* judges a published service by the port that is opened and by the one that it really has.
#[test]
fn point_3_smb_in_a_container_is_cut_whatever_its_port_is_called() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let container = Container::behind(&bench.world);
    Container::publish(&bench.world, PUBLISHED, 445);
    for at in [CONTAINER, CONTAINER6] {
        echo_in(&container.namespace, at, 445);
    }
    echo(&bench.world, PEER, 445);
    let machine = [MACHINE, MACHINE6];
    let mut live = machine.map(|at| from_peer(&bench, at, PUBLISHED, true).unwrap());
    let mut outward = container.dial(PEER, 445, true).unwrap();
    assert!(live.iter_mut().all(lives) && lives(&mut outward));
    bench.isolate(Isolation::Segment);
    assert!(!live.iter_mut().any(lives) && !lives(&mut outward));
    for at in machine {
        assert!(from_peer(&bench, at, PUBLISHED, false).is_none(), "{at}");
    }
    assert!(container.dial(PEER, 445, false).is_err());
}
