//! Point 1, for what is used up or replaced: killed at any instant while a break-glass code or a permit is
//! used, or while a new assignment changes what an isolation keeps, the machine is as it was or as it is meant
//! to be, nothing opens it unrecorded, and nothing that was used is good again.

use std::collections::BTreeSet;

use cordon_agent::contain::door::{DoorAnswer, DoorAsk, Opened, Unopened, ask};
use cordon_agent::contain::protocol::{Answer, Ask, Refusal};
use cordon_model::asset::{ClinicalTier, Lifeline, PortRange};
use cordon_model::finding::Level;
use cordon_model::ids::{FindingId, PermitId};
use cordon_model::measure::{Isolation, MeasureState, Origin, Receipt};
use cordon_model::order::{Instruction, Permit};
use cordon_model::signed::seal;
use cordon_model::time::UtcNanos;

use crate::contain_world::bench::{Bench, LEASE, assert_refused};
use crate::contain_world::codes::{code, document};
use crate::killed::{Deed, Trigger, table};

fn types(bench: &Bench) -> DoorAnswer {
    let typed = DoorAsk::Code(code(bench.machine, 1, 1).grouped().to_string());
    ask(&bench.folder.path().join("door.sock"), &typed).unwrap()
}

/// How many measures of these receipts were shown to be in force, in all that the agent has not taken yet: what
/// was shown before the end may be shown once more after the next start.
fn measures_shown(bench: &Bench, is_it: impl Fn(&Receipt) -> bool) -> usize {
    let Answer::Obeyed(told) = bench.ask(Ask::Listen) else { panic!() };
    let shown = told.receipts.iter().filter(|told| told.state == MeasureState::Verified);
    shown.filter(|told| is_it(told)).map(|told| told.measure).collect::<BTreeSet<_>>().len()
}

/// *Full* → opened by a code.
#[test]
fn point_1_killed_anywhere_while_a_code_is_used_it_opens_once_and_never_unrecorded() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let codes = seal(&document(bench.machine, 1), &bench.key).unwrap();
    assert!(matches!(bench.ask(Ask::BreakGlass(codes)), Answer::Obeyed(_)));
    bench.isolate(Isolation::Full);
    let typed = code(bench.machine, 1, 1).grouped().to_string();
    let deed = Deed::of(&mut bench, Trigger::Code(typed));
    assert_eq!(deed.after, None);
    let again = bench.order(Instruction::isolate(Isolation::Full, LEASE));
    let (mut recorded, mut unused) = (0, 0);
    deed.is_cut_short(&mut bench, "using a code", |bench, was_new, call| {
        // Who got no answer types it again.
        let is_open = table(bench).is_none();
        assert!(is_open || !was_new, "call {call}: what was open already is closed again");
        if is_open {
            recorded += 1;
        } else {
            unused += 1;
            let opened = types(bench);
            assert!(
                matches!(opened, DoorAnswer::Opened(Opened { code: 1, .. })),
                "{call}: {opened:?}"
            );
        }
        assert_eq!(table(bench), None, "call {call}");
        let opened =
            |receipt: &Receipt| receipt.origin == Origin::BreakGlass { revision: 1, code: 1 };
        assert_eq!(measures_shown(bench, opened), 1, "call {call}: it is told, as one opening");
        // People isolate it again: by that code it opens no more.
        assert!(matches!(bench.give(&again), Answer::Obeyed(_)), "call {call}");
        match types(bench) {
            DoorAnswer::Unopened(Unopened { why, .. }) => {
                assert!(why.contains("used before"), "call {call}: {why}");
            }
            other => panic!("call {call}: a code was used twice: {other:?}"),
        }
        assert!(table(bench).is_some(), "call {call}");
    });
    assert!(recorded > 0 && unused > 0, "both sides of the record were tried");
}

/// *Full* with some lifelines → *full* with others.
#[test]
fn point_1_killed_anywhere_while_lifelines_change_the_machine_is_never_open_and_keeps_one_list() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    bench.isolate(Isolation::Full);
    let mut newer = bench.assignment(2, Some(ClinicalTier::None));
    let first = newer.lifelines[0].clone();
    newer.lifelines = [("10.80.0.0/24", 104), ("10.81.0.0/24", 2575)]
        .map(|(peer, port)| Lifeline {
            peer: peer.parse().unwrap(),
            ports: PortRange::one(port),
            ..first.clone()
        })
        .into();
    let ask = Ask::Assignment(seal(&newer, &bench.key).unwrap());
    let older =
        Ask::Assignment(seal(&bench.assignment(1, Some(ClinicalTier::None)), &bench.key).unwrap());
    let deed = Deed::of(&mut bench, Trigger::Ask(Box::new(ask.clone())));
    assert!(deed.before.is_some() && deed.after.is_some());
    deed.is_cut_short(&mut bench, "replacing lifelines", |bench, was_new, call| {
        if was_new {
            assert_eq!(table(bench), deed.after, "call {call}: a start takes no step back");
        }
        assert!(
            matches!(bench.ask(ask.clone()), Answer::Obeyed(_)),
            "call {call}: it is sent again"
        );
        assert_eq!(table(bench), deed.after, "call {call}");
        let held = bench.status().in_force.unwrap();
        assert_eq!(held.state, MeasureState::Verified, "call {call}");
        assert_refused(&bench.ask(older.clone()), Refusal::NotObeyed, "not above 2");
    });
}

/// Nothing → *segment*, by a permit with no hub in reach.
#[test]
fn point_1_killed_anywhere_while_a_permit_is_used_it_segments_once() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let now = UtcNanos::now();
    let permit = Permit {
        id: PermitId::new(now, [8; 10]),
        organisation: "RJ1".parse().unwrap(),
        machine: bench.machine,
        level_at_least: Level::High,
        lease: LEASE,
        issued_at: now,
        expires_at: now.plus(std::time::Duration::from_secs(3_600)),
    };
    let ask = Ask::UsePermit {
        permit: seal(&permit, &bench.key).unwrap(),
        finding: FindingId::of("rule", "host", &[1; 32]),
        level: Level::High,
    };
    let deed = Deed::of(&mut bench, Trigger::Ask(Box::new(ask.clone())));
    assert_eq!(deed.before, None);
    let release = bench.order(Instruction::Release);
    let (mut recorded, mut unused) = (0, 0);
    deed.is_cut_short(&mut bench, "using a permit", |bench, was_new, call| {
        let is_segmented = bench.is_cut_off();
        assert!(is_segmented || !was_new, "call {call}: what was cut already is open again");
        if is_segmented {
            recorded += 1;
        } else {
            // It was not written down, and so is good still.
            unused += 1;
            let used = bench.ask(ask.clone());
            assert!(matches!(used, Answer::Obeyed(_)), "call {call}: {used:?}");
        }
        let held = bench.status().in_force.unwrap();
        assert_eq!((held.isolation, held.state), (Isolation::Segment, MeasureState::Verified));
        let by_it = |receipt: &Receipt| matches!(receipt.origin, Origin::Permit { permit: of, .. } if of == permit.id);
        assert_eq!(measures_shown(bench, by_it), 1, "call {call}: it is told, as one measure");
        // Released: by that permit it does it no more.
        assert!(matches!(bench.give(&release), Answer::Obeyed(_)), "call {call}");
        assert_refused(&bench.ask(ask.clone()), Refusal::Used, "used already");
        assert!(!bench.is_cut_off(), "call {call}");
    });
    assert!(recorded > 0 && unused > 0, "both sides of the record were tried");
}
