//! What a block never cuts: refused by its name, or first in the rules if it was declared later.

use std::net::SocketAddr;

use cordon_agent::contain::action::{ActError, Blocks, Journal};
use cordon_model::action::Blocked;
use cordon_model::asset::{Assignment, ClinicalTier, Direction, Lifeline, PortRange, Transport};
use cordon_model::ids::MeasureId;
use cordon_model::measure::MeasureState;
use cordon_model::time::UtcNanos;

use crate::contain_world::bench::{Bench, PACS_PORT, dial, echo, echo_in, lives};
use crate::contain_world::flow::{comes_back, echo_datagrams};
use crate::contain_world::{
    HUB, HUB6, MACHINE, MACHINE6, PACS, PACS6, PEER, PEER6, World, address,
};
use crate::{block, dial_from, network, order, table, undo, whole};

#[test]
fn what_would_cut_what_is_kept_is_refused_by_its_name_and_changes_nothing() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let before = bench.world.machine.ruleset();
    for (blocked, because) in [
        (whole(PACS), "DICOM to the PACS"),
        (network("10.77.0.0/24"), "DICOM to the PACS"),
        (whole(HUB), "the link to the hub"),
        (whole(HUB6), "the link to the hub"),
        (network("fd77::/64"), "the link to the hub"),
        (whole("127.0.0.1"), "loopback"),
        (whole("::1"), "loopback"),
        (whole(MACHINE), "own address"),
        (whole(MACHINE6), "own address"),
    ] {
        let receipt = order(&mut bench, &blocked);
        let MeasureState::Failed { why } = receipt.state else { panic!("{blocked}: {receipt:?}") };
        assert!(why.contains(because) && why.starts_with("refused"), "{blocked}: {why}");
    }
    assert_eq!(bench.world.machine.ruleset(), before);
    let journal = bench.folder.path().join("state").join("measures");
    let names = std::fs::read_dir(journal).unwrap().map(|entry| entry.unwrap().file_name());
    // The room that is kept there is no measure.
    let remembered: Vec<_> =
        names.filter(|name| !name.to_string_lossy().starts_with("reserve")).collect();
    assert!(remembered.is_empty(), "and nothing is remembered: {remembered:?}");
    // What leaves the lifeline out is obeyed.
    echo(&bench.world, PACS, PACS_PORT);
    echo(&bench.world, PACS, 445);
    let smb = Blocked {
        transport: Some(Transport::Tcp),
        ports: Some(PortRange::one(445)),
        ..whole(PACS)
    };
    block(&mut bench, &smb);
    assert!(dial(&bench.world, PACS, 445).is_err());
    assert!(lives(&mut dial(&bench.world, PACS, PACS_PORT).unwrap()));
}

/// Declared after the block: it lives at once, both ways and by either transport, and that is said.
#[test]
fn a_lifeline_that_is_declared_later_wins_at_once() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    for at in [PEER, PEER6] {
        for port in [5555, 4444] {
            echo(&bench.world, at, port);
        }
        echo_datagrams(&bench.world.peer, SocketAddr::new(address(at), 5555));
    }
    for at in [MACHINE, MACHINE6] {
        echo_in(&bench.world.machine, at, 6666);
    }
    let before = bench.world.machine.ruleset();
    let measures = [PEER, PEER6].map(|peer| block(&mut bench, &whole(peer)));
    let mut assignment = bench.assignment(2, Some(ClinicalTier::None));
    for peer in [PEER, PEER6] {
        let new = |transport, port, direction| Lifeline {
            name: format!("flow {port}"),
            peer: address(peer).into(),
            transport,
            ports: PortRange::one(port),
            direction,
            signed_off_by: None,
        };
        assignment.lifelines.extend([
            new(Transport::Tcp, 5555, Direction::Outbound),
            new(Transport::Udp, 5555, Direction::Outbound),
            new(Transport::Tcp, 6666, Direction::Inbound),
        ]);
    }
    bench.reassign(&assignment);
    for (peer, machine) in [(PEER, MACHINE), (PEER6, MACHINE6)] {
        assert!(lives(&mut dial(&bench.world, peer, 5555).unwrap()), "{peer}");
        let datagrams = SocketAddr::new(address(peer), 5555);
        assert!(comes_back(&bench.world.machine, datagrams, 4, true), "{peer}");
        let inward = dial_from(&bench.world.peer, peer, machine, 6666, true);
        assert!(lives(&mut inward.unwrap()), "{peer}");
        assert!(dial(&bench.world, peer, 4444).is_err(), "{peer}: the rest stays blocked");
    }
    let receipt = order(&mut bench, &Blocked { transport: Some(Transport::Udp), ..whole(PEER) });
    assert!(matches!(receipt.state, MeasureState::Failed { .. }), "a new one is refused");
    // A session over the lifeline outlives the next look at the block.
    let mut live = dial(&bench.world, PEER, 5555).unwrap();
    bench.kill();
    bench.start();
    assert!(lives(&mut live));
    assert!(dial(&bench.world, PEER, 4444).is_err());
    measures.into_iter().for_each(|measure| undo(&mut bench, measure));
    assert_eq!(bench.world.machine.ruleset(), before);
}

/// A service that waits at another port than its peer opens: what is declared for that port lives, sessions
/// that are open too, and what is not ends, in the rules and by its socket.
#[test]
fn an_open_session_is_judged_by_the_port_that_was_opened_where_it_is_redirected() {
    const DICOM: u16 = 104;
    const OTHER: u16 = 105;
    const WAITS_AT: u16 = 11104;
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    for family in ["ip", "ip6"] {
        bench.world.machine.nft(&format!(
            "table {family} nat {{
               chain pre {{ type nat hook prerouting priority -100;
                 tcp dport {{ {DICOM}, {OTHER} }} redirect to :{WAITS_AT}
               }}
             }}"
        ));
    }
    let mut assignment = bench.assignment(2, Some(ClinicalTier::None));
    for (peer, machine) in [(PEER, MACHINE), (PEER6, MACHINE6)] {
        echo_in(&bench.world.machine, machine, WAITS_AT);
        let mut lifeline = assignment.lifelines[0].clone();
        lifeline.peer = address(peer).into();
        lifeline.ports = PortRange::one(DICOM);
        lifeline.direction = Direction::Inbound;
        assignment.lifelines.push(lifeline);
    }
    bench.reassign(&assignment);
    for (peer, machine) in [(PEER, MACHINE), (PEER6, MACHINE6)] {
        let open =
            |bench: &Bench, port| dial_from(&bench.world.peer, peer, machine, port, true).unwrap();
        let (mut dicom, mut other) = (open(&bench, DICOM), open(&bench, OTHER));
        assert!(lives(&mut dicom) && lives(&mut other));
        // Where the service waits, named as such: the lifeline lives, what else is redirected there does not.
        let of = |port, direction| {
            let ports = Some(PortRange::one(port));
            Blocked { transport: Some(Transport::Tcp), ports, direction, ..whole(peer) }
        };
        let measure = block(&mut bench, &of(WAITS_AT, None));
        assert!(lives(&mut dicom), "{peer}: the open session of a lifeline");
        assert!(!lives(&mut other), "{peer}");
        assert!(lives(&mut open(&bench, DICOM)), "{peer}: a new one");
        undo(&mut bench, measure);
        // By the port that its peers open, also of one direction, of which only the socket can end what is open.
        for direction in [None, Some(Direction::Inbound)] {
            let mut other = open(&bench, OTHER);
            assert!(lives(&mut other));
            let measure = block(&mut bench, &of(OTHER, direction));
            assert!(!lives(&mut other), "{peer}, {direction:?}");
            let far = format!(":{}", other.local_addr().unwrap().port());
            let sockets = bench.world.machine.run("ss", &["-Htn", "dport", "=", &far]);
            assert_eq!(sockets, "", "{direction:?}: its socket is closed");
            assert!(lives(&mut dicom), "{peer}, {direction:?}");
            undo(&mut bench, measure);
        }
    }
}

/// Names are resolved where the machine asks for them; an address that becomes a resolver later goes on
/// answering, and only that.
#[test]
fn the_resolution_of_names_is_kept() {
    let Some(world) = World::new() else { return };
    let root = tempfile::tempdir().unwrap();
    let etc = root.path().join("etc");
    std::fs::create_dir(&etc).unwrap();
    let resolver = |address: &str| {
        std::fs::write(etc.join("resolv.conf"), format!("nameserver {address}\n")).unwrap();
    };
    resolver("127.0.0.53");
    for at in [PEER, PEER6] {
        echo_datagrams(&world.peer, SocketAddr::new(address(at), 53));
        echo_datagrams(&world.peer, SocketAddr::new(address(at), 54));
        echo(&world, at, 53);
    }
    let journal = Journal::open(&root.path().join("measures")).unwrap();
    let id = cordon_model::ids::MachineId::new(UtcNanos::now(), [1; 10]);
    let assignment = Assignment::of("RJ1".parse().unwrap(), id, "ward 7");
    let [refused, one, other] = [1, 2, 3].map(|last| MeasureId::new(UtcNanos::now(), [last; 10]));
    for (measure, at) in [(one, PEER), (other, PEER6)] {
        let apply = |measure| {
            let (journal, assignment) = (journal.clone(), assignment.clone());
            let root = root.path().to_owned();
            world.machine.inside(move || {
                Blocks::open(journal, &root)?.apply(measure, &whole(at), &assignment)
            })
        };
        let asks = |port, should| {
            comes_back(&world.machine, SocketAddr::new(address(at), port), 4, should)
        };
        resolver(at);
        let Err(ActError::Refused(why)) = apply(refused) else { panic!("{at} is a resolver") };
        assert!(why.contains("the resolution of names"), "{why}");
        resolver("127.0.0.53");
        let shown = apply(measure).unwrap();
        assert!(shown.proof.holds() && shown.overruled.is_empty(), "{shown:?}");
        assert!(!asks(53, false) && !asks(54, false));
        resolver(at);
        let shown = apply(measure).unwrap();
        assert_eq!(shown.overruled, [format!("the resolution of names at {at}")]);
        assert!(shown.proof.holds(), "{shown:?}");
        assert!(asks(53, true) && !asks(54, false));
        assert!(lives(&mut dial(&world, at, 53).unwrap()), "by either transport");
    }
}

/// Neighbours are found and an address is renewed whatever is blocked: here all of multicast, by which IPv6
/// asks for neighbours, and the very server that gives the address.
#[test]
fn neighbour_discovery_and_address_configuration_are_kept() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    echo(&bench.world, PACS6, 4444);
    for (at, port) in [(PEER, 67), (PEER, 69)] {
        echo_datagrams(&bench.world.peer, SocketAddr::new(address(at), port));
    }
    block(&mut bench, &network("ff00::/8"));
    block(&mut bench, &whole(PEER));
    for namespace in [&bench.world.machine, &bench.world.peer] {
        namespace.run("ip", &["-6", "neigh", "flush", "all"]);
    }
    assert!(lives(&mut dial(&bench.world, PACS6, 4444).unwrap()), "its neighbour is found");
    let renews = |port: u16| {
        bench.world.machine.inside(move || {
            let client = std::net::UdpSocket::bind(("0.0.0.0", 68)).unwrap();
            client.set_read_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
            (0..5).any(|_| {
                client.send_to(b"renew", (PEER, port)).is_ok() && client.recv(&mut [0; 8]).is_ok()
            })
        })
    };
    assert!(renews(67) && !renews(69));
}

/// An assignment that this machine never had: nothing is begun that nobody knows the lifelines for.
#[test]
fn without_an_assignment_nothing_is_blocked() {
    let Some(mut bench) = Bench::bare() else { return };
    bench.pin();
    let order = bench.order(crate::begin(&whole(PEER), crate::contain_world::bench::LEASE));
    let _ = bench.give(&order);
    assert_eq!(table(&bench), None);
}
