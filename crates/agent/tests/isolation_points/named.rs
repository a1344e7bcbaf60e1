//! Point 2, for lifelines that people know by name: what the machine keeps alive are the addresses that were
//! signed, a further one from the moment that it is signed, and the old ones without a gap.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cordon_model::asset::{Assignment, ClinicalTier, Direction, PortRange, Transport};
use cordon_model::measure::{Isolation, MeasureState};
use cordon_model::named::{NamedLifeline, Service};
use cordon_respond::names::{Pin, pin, read};

use crate::contain_world::bench::{Bench, PACS_PORT, dial, echo};
use crate::contain_world::wiretap::Wiretap;
use crate::contain_world::{HUB, PACS, PACS6, PEER, address};
use crate::pinned::HostileResolver;

/// The assignment of a machine that knows its PACS by name only, bound to the PACS's network.
fn by_name(bench: &Bench) -> Assignment {
    let service = Service {
        transport: Transport::Tcp,
        ports: PortRange::one(PACS_PORT),
        direction: Direction::Outbound,
        signed_off_by: None,
    };
    let within = ["10.77.0.0/24", "fd77::/64"].map(|network| network.parse().unwrap());
    Assignment {
        lifelines: vec![service.at(address(PACS), "PACS")],
        names: vec![NamedLifeline {
            name: "PACS".into(),
            host: "pacs.trust.example".parse().unwrap(),
            within: within.to_vec(),
        }],
        ..bench.assignment(2, Some(ClinicalTier::Clinical))
    }
}

/// A session with a lifeline that was declared by name speaks without pause through an isolation. Then the
/// name has further addresses: the assignment that the signer's rules make of it reaches the machine, which
/// reaches them from then on, and not one word of the session is lost. The machine's resolver is the
/// intruder's all the while, and is asked nothing.
#[test]
fn point_2_a_lifeline_by_name_lives_and_gets_its_new_address_without_a_gap_for_the_old() {
    let Some(mut bench) = Bench::off() else { return };
    let _hostile = HostileResolver::of(&bench.world);
    for at in [PACS, PACS6, HUB, PEER] {
        echo(&bench.world, at, PACS_PORT);
    }
    bench.start();
    bench.pin();
    let before = by_name(&bench);
    bench.reassign(&before);
    let mut session = dial(&bench.world, PACS, PACS_PORT).unwrap();
    session.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut tap = Wiretap::on(&bench.world);
    let receipt = bench.isolate(Isolation::Full);
    assert_eq!(receipt.state, MeasureState::Verified);
    let (is_over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let speaking = std::thread::spawn({
        let (is_over, answered) = (is_over.clone(), answered.clone());
        move || -> std::io::Result<()> {
            while !is_over.load(Ordering::Relaxed) {
                session.write_all(b"?")?;
                session.read_exact(&mut [0])?;
                answered.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_micros(200));
            }
            Ok(())
        }
    });
    // The hub's address stands in for a second front end: it is none of the machine's lifelines.
    for new in [HUB, PACS6] {
        assert!(dial(&bench.world, new, PACS_PORT).is_err(), "{new} is not signed for yet");
    }

    let found = [HUB, PACS6].map(address).into_iter().collect();
    let host = "pacs.trust.example".parse().unwrap();
    let follow = read(&before, &host, Some(&found)).follow;
    assert_eq!(follow, found, "within what a person signed");
    let asked = Pin { host, add: follow, drop: Default::default(), signed_off_by: None };
    let mut assignment = pin(&before, &asked).unwrap();
    for revision in 3..20 {
        assignment.revision = revision;
        bench.reassign(&assignment);
    }
    for at in [PACS, HUB, PACS6] {
        let at: SocketAddr = SocketAddr::new(address(at), PACS_PORT);
        let reached = bench.world.machine.inside(move || {
            std::net::TcpStream::connect_timeout(&at, Duration::from_secs(2)).map(drop)
        });
        assert!(reached.is_ok(), "{at}: {reached:?}");
    }
    assert!(dial(&bench.world, PEER, PACS_PORT).is_err(), "and nobody else");
    let words = answered.load(Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(100));
    is_over.store(true, Ordering::Relaxed);
    let ended = speaking.join().unwrap();
    assert!(ended.is_ok(), "after {words} words: {ended:?}");
    assert!(answered.load(Ordering::Relaxed) > words, "it speaks to the end");
    let frames = tap.settle();
    let resolver: IpAddr = address(PEER);
    assert!(
        frames.iter().all(|frame| frame.at_port(53).is_none()),
        "nothing was asked of {resolver}"
    );
}
