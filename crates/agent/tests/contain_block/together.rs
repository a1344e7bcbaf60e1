//! Several blocks, an isolation beside them, and what else happens to a machine.

use std::net::SocketAddr;

use cordon_agent::contain::protocol::{Ask, Event};
use cordon_model::asset::ClinicalTier;
use cordon_model::measure::{Isolation, MeasureState};
use cordon_model::order::Lease;

use crate::contain_world::bench::{Bench, LEASE, dial, echo, last, lives};
use crate::contain_world::flow::Flood;
use crate::contain_world::{PACS6, PEER, PEER6, address};
use crate::{begin, block, order, receipt_of, table, undo, whole};

#[test]
fn several_blocks_are_one_table_and_each_is_taken_back_by_itself() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let peers = [PEER, PEER6, PACS6];
    for peer in peers {
        echo(&bench.world, peer, 4444);
    }
    let before = bench.world.machine.ruleset();
    let mut held = Vec::new();
    for peer in peers {
        held.push((peer, block(&mut bench, &whole(peer))));
    }
    assert_eq!(bench.world.machine.ruleset().matches("table inet cordon-blocks").count(), 1);
    // In another order than they came.
    held.swap(0, 1);
    while let Some((peer, measure)) = held.pop() {
        undo(&mut bench, measure);
        assert!(lives(&mut dial(&bench.world, peer, 4444).unwrap()), "{peer}");
        for (other, _) in &held {
            assert!(dial(&bench.world, other, 4444).is_err(), "{other} is still blocked");
        }
    }
    assert_eq!(bench.world.machine.ruleset(), before, "to the byte");
}

/// The isolation comes, changes and goes; the block stays as it is, to the table's handle.
#[test]
fn a_block_and_an_isolation_do_not_touch_each_other() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    for peer in [PEER, PACS6] {
        echo(&bench.world, peer, 4444);
    }
    let before = bench.world.machine.ruleset();
    let blocked = block(&mut bench, &whole(PEER));
    let with_block = bench.world.machine.run("nft", &["-a", "list", "ruleset"]);
    for isolation in [Isolation::Segment, Isolation::Full] {
        assert_eq!(bench.isolate(isolation).state, MeasureState::Verified);
        assert!(dial(&bench.world, PEER, 4444).is_err());
        let is_open = dial(&bench.world, PACS6, 4444).is_ok();
        assert_eq!(is_open, isolation == Isolation::Segment);
    }
    bench.release();
    assert_eq!(bench.world.machine.run("nft", &["-a", "list", "ruleset"]), with_block);
    assert!(dial(&bench.world, PEER, 4444).is_err(), "a release ends the isolation only");
    // And the other way round.
    bench.isolate(Isolation::Full);
    let second = block(&mut bench, &whole(PEER6));
    undo(&mut bench, second);
    undo(&mut bench, blocked);
    assert!(bench.is_cut_off() && table(&bench).is_none());
    assert_eq!(bench.status().in_force.unwrap().state, MeasureState::Verified);
    assert_eq!(bench.status().wiped, 0, "what was done from here is no wipe");
    bench.release();
    assert_eq!(bench.world.machine.ruleset(), before);
}

#[test]
fn blocks_that_somebody_wipes_are_put_back_at_once_and_it_is_told() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let measure = block(&mut bench, &whole(PEER));
    let other = block(&mut bench, &whole(PEER6));
    let meant = table(&bench);
    let mut agent = bench.connect();
    agent.ask(Ask::Listen);
    let everywhere = [PEER, PEER6].map(|peer| SocketAddr::new(address(peer), 9)).to_vec();
    let flood = Flood::from(&bench.world.machine, everywhere);
    let mut took = Vec::new();
    for script in [
        "flush ruleset",
        "delete table inet cordon-blocks",
        "flush table inet cordon-blocks",
        "flush chain inet cordon-blocks to-peer",
        "insert rule inet cordon-blocks output accept",
        "add table inet cordon-blocks { flags dormant; }",
        "delete table inet cordon-blocks; add table inet cordon-blocks",
    ] {
        bench.world.machine.nft(script);
        let wiped = agent.event(|event| matches!(event, Event::Wiped { .. }));
        let Event::Wiped { measure: of, by, noticed, restored } = wiped else { unreachable!() };
        assert_eq!(of, measure, "{script}");
        assert!(by.1 == "nft" || by.1.is_empty(), "{script}: {by:?}");
        took.push(restored.expect(script).since(noticed));
        assert_eq!(table(&bench), meant, "{script}");
        flood.is_refused(50);
    }
    took.sort();
    eprintln!("put back after {took:?}");
    assert_eq!(bench.status().wiped, 7);
    let answer = agent.ask(Ask::Reported { before: 0 });
    for measure in [measure, other] {
        assert_eq!(receipt_of(answer.clone(), measure).state, MeasureState::Verified);
    }
    // Nobody else's change is a wipe.
    bench.world.machine.nft("table inet somebody { }");
    agent.ask(Ask::Status);
    assert_eq!(bench.status().wiped, 7);
}

/// Also when both tables are wiped by one stroke.
#[test]
fn an_isolation_and_a_block_that_are_wiped_together_are_both_back() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    block(&mut bench, &whole(PEER));
    bench.isolate(Isolation::Segment);
    let meant = table(&bench);
    let mut agent = bench.connect();
    agent.ask(Ask::Listen);
    bench.world.machine.nft("flush ruleset");
    for _ in 0..2 {
        agent.event(|event| matches!(event, Event::Wiped { restored: Some(_), .. }));
    }
    assert!(bench.is_cut_off());
    assert_eq!(table(&bench), meant);
}

/// A helper that is started again finds its table, and leaves it alone; on an empty kernel (the machine was
/// switched off) it is back before the helper speaks.
#[test]
fn a_block_outlives_its_helper_and_the_machines_restart() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let measures = [PEER, PEER6].map(|peer| block(&mut bench, &whole(peer)));
    let handles = bench.world.machine.run("nft", &["-a", "list", "ruleset"]);
    bench.kill();
    bench.start();
    assert_eq!(bench.world.machine.run("nft", &["-a", "list", "ruleset"]), handles);
    let meant = table(&bench);
    bench.kill();
    bench.world.restart();
    bench.begin_boot("another");
    assert_eq!(table(&bench), None);
    bench.start();
    assert_eq!(table(&bench), meant, "before the network is");
    bench.world.plug();
    for peer in [PEER, PEER6] {
        echo(&bench.world, peer, 4444);
        assert!(dial(&bench.world, peer, 4444).is_err(), "{peer}");
    }
    measures.into_iter().for_each(|measure| undo(&mut bench, measure));
    for peer in [PEER, PEER6] {
        assert!(lives(&mut dial(&bench.world, peer, 4444).unwrap()), "{peer}");
    }
    assert_eq!(bench.world.machine.ruleset(), "");
}

/// On a clinical machine a block is taken back at the end of its lease, elsewhere it goes on; with a warning
/// before.
#[test]
fn at_the_end_of_its_lease_a_block_goes_on_or_is_taken_back_as_its_tier_says() {
    for (tier, stays) in [(ClinicalTier::None, true), (ClinicalTier::Clinical, false)] {
        let Some(mut bench) = Bench::new(tier) else { return };
        let before = bench.world.machine.ruleset();
        let mut agent = bench.connect();
        agent.ask(Ask::Listen);
        let lease = Lease { seconds: 2, step_down_seconds: 3600, warn_seconds: 1 };
        let order = bench.order(begin(&whole(PEER), lease));
        let envelope = bench.sealed(&order);
        assert_eq!(last(agent.ask(Ask::Order(envelope))).state, MeasureState::Verified);
        agent.event(|event| matches!(event, Event::LeaseEnds { .. }));
        let told = agent.event(|event| match event {
            Event::Receipts(receipts) => receipts.receipts.iter().any(|receipt| {
                receipt.state == MeasureState::Released
                    || receipt.done.iter().any(|line| line.contains("its lease ended"))
            }),
            _ => false,
        });
        let Event::Receipts(told) = told else { unreachable!() };
        let ended = told.receipts.last().unwrap();
        assert_eq!(ended.state == MeasureState::Verified, stays, "{ended:?}");
        assert_eq!(table(&bench).is_some(), stays);
        if !stays {
            assert_eq!(bench.world.machine.ruleset(), before);
        }
    }
}

/// The same order again, as delivery at least once means it, is one block.
#[test]
fn the_same_order_twice_is_one_block() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let order = bench.order(begin(&whole(PEER), LEASE));
    let measure = order.id.into();
    assert_eq!(receipt_of(bench.give(&order), measure).state, MeasureState::Verified);
    let once = table(&bench);
    bench.give(&order);
    assert_eq!(table(&bench), once);
    undo(&mut bench, measure);
    assert_eq!(table(&bench), None);
}

/// More than a machine takes is refused; what is blocked stays.
#[test]
fn at_most_so_many_addresses_are_blocked() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let many = |from: u32| {
        let address = |at| std::net::Ipv4Addr::from(0xC612_0000 + from + at).into();
        let peer = cordon_model::action::BlockedPeer::Domain {
            name: "c2.example".into(),
            addresses: (0..64).map(address).collect(),
        };
        cordon_model::action::Blocked { peer, ..whole(PEER) }
    };
    // Unproven at most: 198.18.0.0/15 has no route here.
    for number in 0..16 {
        let receipt = order(&mut bench, &many(64 * number));
        assert_eq!(receipt.state, MeasureState::Verified, "{number}: {receipt:?}");
    }
    let full = table(&bench);
    let receipt = order(&mut bench, &whole(PEER));
    let MeasureState::Unproven { why } = receipt.state else { panic!("{receipt:?}") };
    assert!(why.contains("1024 addresses and networks are blocked already"), "{why}");
    assert_eq!(table(&bench), full);
}
