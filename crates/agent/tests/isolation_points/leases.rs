//! Point 8: every isolation has a lease. At its end it steps down, with a warning before: never silently
//! open, never silently shut.
//!
//! Answers Wazuh #376 (blocks that stay for ever) and #9370 (of many timeouts only the first is undone).
//! A release by a code read out on the telephone: `../contain_break_glass.rs`.

use std::net::SocketAddr;

use cordon_agent::contain::protocol::{Ask, Event};
use cordon_model::action::Action;
use cordon_model::asset::{ClinicalTier, PortRange};
use cordon_model::measure::{Isolation, MeasureState, Origin};
use cordon_model::order::{Instruction, Lease};

use crate::contain_world::bench::{Bench, PACS_PORT, dial, echo, last, lives};
use crate::contain_world::flow::Flood;
use crate::contain_world::wiretap::Wiretap;
use crate::contain_world::{PACS, PEER, PEER6, address, until};

/// A program tries NetBIOS and web traffic all the while. *Full* cuts both; at the end of its lease
/// *segment* follows, and cuts NetBIOS still, again and again: not one datagram of it ever leaves, until
/// a person releases.
#[test]
fn point_8_at_the_end_of_its_lease_full_becomes_segment_and_is_never_open() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    for peer in [PEER, PEER6] {
        echo(&bench.world, peer, 8080);
    }
    let netbios = [PEER, PEER6].map(|peer| SocketAddr::new(address(peer), 137)).to_vec();
    let mut agent = bench.connect();
    agent.ask(Ask::Listen);
    // Long enough that a busy machine shows *full* before it is over.
    let lease = Lease { seconds: 10, step_down_seconds: 1, warn_seconds: 1 };
    let order = bench.order(Instruction::isolate(Isolation::Full, lease));
    let envelope = bench.sealed(&order);
    let first = last(agent.ask(Ask::Order(envelope)));
    assert_eq!(first.state, MeasureState::Verified);
    let mut tap = Wiretap::on(&bench.world);
    let flood = Flood::from(&bench.world.machine, netbios);
    for peer in [PEER, PEER6] {
        assert!(dial(&bench.world, peer, 8080).is_err(), "full: {peer}");
    }
    let warned = agent.event(|event| matches!(event, Event::LeaseEnds { .. }));
    assert!(matches!(warned, Event::LeaseEnds { measure, .. } if measure == first.measure));
    let mut measure = first.measure;
    for time in 1..=2 {
        // Told in order: what is in force now, then that the other is over.
        let told = agent.event(|event| match event {
            Event::Receipts(receipts) => receipts.receipts.iter().any(|receipt| {
                receipt.measure == measure && receipt.state == MeasureState::SteppedDown
            }),
            _ => false,
        });
        let Event::Receipts(told) = told else { unreachable!() };
        let next = told.receipts.iter().find(|r| r.origin == Origin::LeaseEnd(measure)).unwrap();
        assert_eq!(next.action, Action::Isolate(Isolation::Segment));
        assert_eq!(next.state, MeasureState::Verified);
        measure = next.measure;
        for peer in [PEER, PEER6] {
            assert!(dial(&bench.world, peer, 8080).is_ok(), "segment, time {time}: {peer}");
            assert!(dial(&bench.world, peer, 445).is_err(), "segment, time {time}: {peer}");
        }
    }
    flood.is_refused(50);
    let leaked: Vec<_> =
        tap.settle().into_iter().filter(|frame| frame.at_port(137).is_some()).collect();
    assert_eq!(leaked, []);
    bench.release();
    tap.await_frames(1, |frame| frame.at_port(137).is_some());
    // It was trying all the while. A frame is on the wire before who sent it counts it.
    until(|| flood.counts().0 > 0);
}

/// A clinical machine is no exception: at the end of its lease *full* becomes *segment*. Its lifelines live
/// through it, a signed share among them; web, printing and all else that intruders do
/// not move by comes back; an undeclared share and remote desktop stay cut, and are what care has to declare.
#[test]
fn point_8_a_clinical_machine_steps_down_to_segment_and_undeclared_shares_stay_cut() {
    const RAW_PRINTING: u16 = 9100;
    let Some(mut bench) = Bench::new(ClinicalTier::Clinical) else { return };
    for (at, port) in [(PACS, PACS_PORT), (PACS, 445), (PEER, 445), (PEER, 3389)] {
        echo(&bench.world, at, port);
    }
    for port in [8080, RAW_PRINTING] {
        echo(&bench.world, PEER, port);
    }
    let mut assignment = bench.assignment(2, Some(ClinicalTier::Clinical));
    let mut share = assignment.lifelines[0].clone();
    share.ports = PortRange::one(445);
    share.signed_off_by = Some("Dr Osei".into());
    assignment.lifelines.push(share);
    bench.reassign(&assignment);
    let mut kept = [PACS_PORT, 445].map(|port| dial(&bench.world, PACS, port).unwrap());
    let lease = Lease { seconds: 10, step_down_seconds: 1800, warn_seconds: 1 };
    let order = bench.order(Instruction::isolate(Isolation::Full, lease));
    assert_eq!(last(bench.give(&order)).state, MeasureState::Verified);
    for (at, port) in [(PEER, 8080), (PEER, RAW_PRINTING), (PEER, 445), (PEER, 3389)] {
        assert!(dial(&bench.world, at, port).is_err(), "full: {at}:{port}");
    }
    until(|| {
        assert!(kept.iter_mut().all(lives), "the lifelines, while the lease ends");
        bench.status().in_force.unwrap().isolation != Isolation::Full
    });
    let held = bench.status().in_force.unwrap();
    assert_eq!((held.isolation, held.state), (Isolation::Segment, MeasureState::Verified));
    assert!(kept.iter_mut().all(lives), "the lifelines, after it");
    for port in [8080, RAW_PRINTING] {
        assert!(lives(&mut dial(&bench.world, PEER, port).unwrap()), "segment: {port}");
    }
    for port in [445, 3389] {
        assert!(dial(&bench.world, PEER, port).is_err(), "segment: {port}, declared by nobody");
    }
    assert!(lives(&mut dial(&bench.world, PACS, 445).unwrap()), "segment: the signed share");
}

/// Twelve machines whose leases end at the same time: every one steps down, none is left as it was and
/// none is open. And what has stepped down is released like anything else.
#[test]
fn point_8_of_many_leases_that_end_together_every_one_steps_down() {
    let benches: Vec<Bench> = (0..12).filter_map(|_| Bench::new(ClinicalTier::None)).collect();
    let lease = Lease { seconds: 2, ..crate::contain_world::bench::LEASE };
    let mut machines = Vec::new();
    for mut bench in benches {
        let order = bench.order(Instruction::isolate(Isolation::Full, lease));
        bench.give(&order);
        machines.push(bench);
    }
    for bench in &mut machines {
        until(|| bench.status().in_force.unwrap().isolation != Isolation::Full);
        let held = bench.status().in_force.unwrap();
        assert_eq!((held.isolation, held.state), (Isolation::Segment, MeasureState::Verified));
        assert!(dial(&bench.world, PEER, 445).is_err());
        echo(&bench.world, PEER, 8080);
        assert!(dial(&bench.world, PEER, 8080).is_ok());
        assert_eq!(bench.release().state, MeasureState::Released);
        assert_eq!(bench.world.machine.ruleset(), "");
    }
}
