//! What becomes of a measure besides the isolation.

use cordon_model::action::{
    AccountTarget, Action, Blocked, BlockedPeer, Collection, Denied, FilePath, FileTarget, Piece,
    ProcessTarget, Sha256Digest,
};
use cordon_model::approval::Needs;
use cordon_model::asset::{Assignment, ClinicalTier};
use cordon_model::finding::ProcessRef;
use cordon_model::ids::{FindingId, MachineId, OrderId};
use cordon_model::order::{Approver, Authority, Instruction, Order};
use cordon_model::signed::{Document, Verified, seal};
use cordon_model::time::{BootId, BootNanos, UtcNanos};
use ed25519_dalek::SigningKey;

use super::*;
use crate::clock::tests::moment;

const TERMS: Lease = Lease { seconds: 100, step_down_seconds: 50, warn_seconds: 20 };

fn verified<D: Document>(document: &D) -> Verified<D> {
    let key = SigningKey::from_bytes(&[1; 32]);
    seal(document, &key).unwrap().open(&key.verifying_key()).unwrap()
}

fn machine() -> MachineId {
    MachineId::new(UtcNanos::from_unix_nanos(0), [1; 10])
}

fn helper(tier: ClinicalTier) -> HelperCore {
    let mut helper = HelperCore::new("RJ1".parse().unwrap(), machine(), &moment("a", 0));
    let assignment = Assignment::of("RJ1".parse().unwrap(), machine(), "m");
    helper.assign(&verified(&Assignment { tier: Some(tier), ..assignment })).unwrap();
    helper
}

fn process() -> ProcessTarget {
    let process = ProcessRef { pid: 77, started: BootNanos(5), image: "/tmp/worm".into() };
    ProcessTarget { boot: BootId("a".into()), process }
}

fn file() -> FileTarget {
    FileTarget { path: FilePath::new("/tmp/worm"), sha256: None }
}

fn each_kind() -> Vec<Action> {
    let network = BlockedPeer::Network("10.0.0.9/32".parse().unwrap());
    vec![
        Action::Freeze(process()),
        Action::Kill(process()),
        Action::Quarantine(file()),
        Action::Deny(Denied::Path(FilePath::new("/tmp/worm"))),
        Action::Block(Blocked { peer: network, transport: None, ports: None, direction: None }),
        Action::DisableAccount(AccountTarget { name: "eve".into(), ends_sessions: false }),
        Action::Collect(Collection { pieces: vec![Piece::Processes], most_bytes: 1 << 20 }),
    ]
}

fn people(names: &[&str]) -> Authority {
    let approver = |name: &&str| Approver { name: (*name).into(), is_clinical: false };
    Authority::People { approval: None, people: names.iter().map(approver).collect() }
}

fn policy() -> Authority {
    Authority::Policy { revision: 1, finding: FindingId::of("rule", "host", &[0; 32]) }
}

fn reloaded(helper: &HelperCore) -> HelperCore {
    serde_json::from_str(&serde_json::to_string(helper).unwrap()).unwrap()
}

fn order(number: u8, instruction: Instruction, authority: Authority) -> Verified<Order> {
    verified(&Order {
        id: OrderId::new(UtcNanos::from_unix_nanos(0), [number; 10]),
        organisation: "RJ1".parse().unwrap(),
        machine: machine(),
        sequence: number.into(),
        nonce: [0; 16],
        issued_at: UtcNanos::from_unix_nanos(0),
        deliver_until: None,
        instruction,
        authority,
        incident: None,
        reason: "test".into(),
    })
}

fn begun(number: u8, action: Action, authority: Authority) -> Verified<Order> {
    order(number, Instruction::begin(action, TERMS), authority)
}

fn shown() -> Acted {
    let proof = Proof {
        table_handle: None,
        is_read_back: true,
        probes: vec![],
        unproven: vec![],
        at: BootNanos(0),
    };
    Acted::Done { proof: Some(proof), done: vec!["3 processes stand still".into()], spared: vec![] }
}

fn states(helper: &mut HelperCore) -> Vec<MeasureState> {
    helper.unreported.drain(..).map(|receipt| receipt.state).collect()
}

fn tick(helper: &mut HelperCore, second: u64) -> Vec<Effect> {
    helper.tick(&moment("a", second), &mut || [7; 16])
}

#[test]
fn what_is_spared_is_told_with_the_refusal_and_once_of_what_is_in_force() {
    let mut helper = helper(ClinicalTier::None);
    let freeze = begun(1, Action::Freeze(process()), policy());
    helper.order(&freeze, &moment("a", 1)).unwrap();
    let why = "refused: it is protected for care".to_owned();
    helper.acted(freeze.id.into(), Acted::Refused { why: why.clone() }, &moment("a", 1));
    let told = helper.unreported.pop_back().unwrap();
    assert_eq!((told.state, told.spared), (MeasureState::Failed { why: why.clone() }, vec![why]));
    // Of one that ended by itself nothing was spared.
    let freeze = begun(2, Action::Freeze(process()), policy());
    helper.order(&freeze, &moment("a", 1)).unwrap();
    helper.acted(freeze.id.into(), Acted::Gone { why: "gone".into() }, &moment("a", 1));
    assert!(helper.unreported.pop_back().unwrap().spared.is_empty());

    let freeze = begun(3, Action::Freeze(process()), policy());
    helper.order(&freeze, &moment("a", 2)).unwrap();
    helper.acted(freeze.id.into(), shown(), &moment("a", 2));
    let mut sparing = |number: u32| {
        let Acted::Done { proof, done, .. } = shown() else { panic!() };
        let spared = vec![format!("process {number} was left alone")];
        helper.acted(freeze.id.into(), Acted::Done { proof, done, spared }, &moment("a", 3));
        helper.unreported.len()
    };
    let before = sparing(1);
    assert_eq!((sparing(2), sparing(3)), (before, before), "a tree that goes on starting it");
    let told = helper.unreported.pop_back().unwrap();
    assert_eq!((told.state, told.spared.len()), (MeasureState::Verified, 1));
    assert_eq!(told.spared, ["process 1 was left alone"]);
}

#[test]
fn a_measure_is_begun_shown_and_taken_back_and_leaves_nothing() {
    let mut helper = helper(ClinicalTier::None);
    let begun = begun(1, Action::Freeze(process()), people(&["ann"]));
    let measure = begun.id.into();
    let effects = helper.order(&begun, &moment("a", 1)).unwrap();
    assert!(matches!(&effects[..], [Effect::Apply { .. }]));
    helper.acted(measure, shown(), &moment("a", 1));
    let undo = order(2, Instruction::Undo { measure }, people(&["ann"]));
    let effects = helper.order(&undo, &moment("a", 2)).unwrap();
    assert_eq!(effects, [Effect::TakeBack { measure }]);
    // Undone, and a look shows it all the same.
    let Acted::Done { proof: Some(proof), .. } = shown() else { panic!() };
    let seen = Some(Proof { is_read_back: false, ..proof });
    helper.taken_back(measure, TakenBack::Done { proof: seen, done: vec![] }, &moment("a", 2));
    let told = states(&mut helper);
    let [MeasureState::Verified, MeasureState::Unproven { why }] = &told[..] else {
        panic!("{told:?}")
    };
    assert!(why.contains("still there"), "{why}");
    assert_eq!(tick(&mut helper, 3), [Effect::TakeBack { measure }], "tried again");
    let back = TakenBack::Done { proof: None, done: vec![] };
    helper.taken_back(measure, back, &moment("a", 3));
    assert_eq!(states(&mut helper), [MeasureState::Released]);
    assert!(helper.acting.is_empty());
}

#[test]
fn whatever_stops_by_itself_obeys_clinical_tiers_exactly_as_isolation_does() {
    for action in each_kind() {
        for tier in [ClinicalTier::Clinical, ClinicalTier::LifeSustaining] {
            let mut helper = helper(tier);
            let by_itself = helper.order(&begun(1, action.clone(), policy()), &moment("a", 1));
            let is_allowed = !action.kind().stops_something() && tier == ClinicalTier::Clinical;
            assert_eq!(by_itself.is_ok(), is_allowed, "{action} on {tier}");
        }
        let mut clinical = helper(ClinicalTier::Clinical);
        assert!(
            clinical.order(&begun(2, action.clone(), people(&["ann"])), &moment("a", 1)).is_ok()
        );
        let mut theatre = helper(ClinicalTier::LifeSustaining);
        let refused = theatre.order(&begun(2, action, people(&["ann"])), &moment("a", 1));
        assert_eq!(refused, Err(NotObeyed::NotEnoughPeople(Needs::TwoKeysOneClinical)));
    }
}

#[test]
fn what_is_inside_a_process_takes_two_people() {
    let mut helper = helper(ClinicalTier::None);
    let mut number = 0;
    for piece in [Piece::Memory(process()), Piece::Environment(process())] {
        let action = Action::Collect(Collection { pieces: vec![piece], most_bytes: 1 << 20 });
        let mut next = |by| {
            number += 1;
            helper.order(&begun(number, action.clone(), by), &moment("a", 1))
        };
        for too_few in [people(&["ann"]), people(&["ann", "ann"]), policy()] {
            assert_eq!(next(too_few), Err(NotObeyed::NotEnoughPeople(Needs::TwoPeople)));
        }
        assert!(next(people(&["ann", "bob"])).is_ok());
    }
}

#[test]
fn what_is_done_without_people_has_a_brake() {
    let mut helper = helper(ClinicalTier::None);
    for number in 1..=20 {
        let order = begun(number, Action::Kill(process()), policy());
        helper.order(&order, &moment("a", 1)).unwrap();
        helper.acted(order.id.into(), shown(), &moment("a", 1));
    }
    let refused = helper.order(&begun(21, Action::Kill(process()), policy()), &moment("a", 2));
    assert!(matches!(refused, Err(NotObeyed::Braked(_))));
    assert!(
        helper
            .order(&begun(22, Action::Kill(process()), people(&["ann"])), &moment("a", 2))
            .is_ok()
    );
}

#[test]
fn many_measures_end_each_in_its_own_way_and_none_is_forgotten() {
    for (tier, goes_on) in [(ClinicalTier::None, true), (ClinicalTier::Clinical, false)] {
        let mut helper = helper(tier);
        for number in 1..=9 {
            let order = begun(number, Action::Freeze(process()), people(&["ann"]));
            helper.order(&order, &moment("a", 0)).unwrap();
            helper.acted(order.id.into(), shown(), &moment("a", 0));
        }
        let warned = tick(&mut helper, 80);
        assert_eq!(warned.iter().filter(|e| matches!(e, Effect::Warn { .. })).count(), 9);
        helper.unreported.clear();
        let ended = tick(&mut helper, 100);
        let back = ended.iter().filter(|e| matches!(e, Effect::TakeBack { .. })).count();
        assert_eq!((back, helper.unreported.len()), if goes_on { (0, 9) } else { (9, 0) });
        assert_eq!(helper.acting.len(), 9, "nothing is over before it is shown to be");
        if goes_on {
            assert!(
                helper
                    .acting
                    .values()
                    .all(|a| a.lease.ends_at(&moment("a", 100)) == BootNanos(150_000_000_000))
            );
        }
    }
}

#[test]
fn a_crash_at_any_point_does_again_what_is_meant() {
    let mut helper = helper(ClinicalTier::None);
    let begun = begun(1, Action::Quarantine(file()), people(&["ann"]));
    let measure: MeasureId = begun.id.into();
    helper.order(&begun, &moment("a", 1)).unwrap();
    let mut crashed = reloaded(&helper);
    let again = crashed.restart(&moment("a", 2));
    assert!(matches!(&again[..], [Effect::Apply { .. }]));
    crashed.acted(measure, shown(), &moment("a", 2));
    let mut crashed = reloaded(&crashed);
    assert!(matches!(&crashed.restart(&moment("b", 1))[..], [Effect::Apply { .. }]));
    assert!(
        crashed.acting[&measure].state.is_unproven(),
        "nothing is proven until it is looked at"
    );
    crashed
        .order(&order(2, Instruction::Undo { measure }, people(&["ann"])), &moment("b", 2))
        .unwrap();
    let mut crashed = reloaded(&crashed);
    assert_eq!(crashed.restart(&moment("b", 3)), [Effect::TakeBack { measure }]);
}

#[test]
fn what_can_not_be_done_is_said_and_not_tried_for_ever() {
    let mut helper = helper(ClinicalTier::None);
    let begun = begun(1, Action::Freeze(process()), people(&["ann"]));
    helper.order(&begun, &moment("a", 1)).unwrap();
    let why = "no such process: it has ended".to_owned();
    helper.acted(begun.id.into(), Acted::Gone { why: why.clone() }, &moment("a", 1));
    assert_eq!(states(&mut helper), [MeasureState::Failed { why }]);
    assert!(helper.acting.is_empty() && tick(&mut helper, 2).is_empty());
}

#[test]
fn what_no_order_may_do_is_refused_before_it_is_in_force_and_taken_back_after() {
    let mut helper = helper(ClinicalTier::None);
    let order = begun(1, Action::Deny(Denied::Path(FilePath::new("/x"))), people(&["ann"]));
    let measure = order.id.into();
    let refused = || Acted::Refused { why: "care needs it now".into() };
    helper.order(&order, &moment("a", 1)).unwrap();
    let mut never_began = helper.clone();
    never_began.acted(measure, refused(), &moment("a", 1));
    assert!(matches!(&states(&mut never_began)[..], [MeasureState::Failed { .. }]));
    assert!(never_began.acting.is_empty());
    helper.acted(measure, shown(), &moment("a", 1));
    helper.acted(measure, refused(), &moment("a", 2));
    assert!(helper.next_wake(&moment("a", 2)) <= TRY_AGAIN, "it is taken back soon");
    assert_eq!(tick(&mut helper, 3), [Effect::TakeBack { measure }]);
    let back = TakenBack::Done { proof: None, done: vec![] };
    helper.taken_back(measure, back, &moment("a", 3));
    let states = states(&mut helper);
    let [MeasureState::Verified, MeasureState::Unproven { why }, MeasureState::Released] =
        &states[..]
    else {
        panic!("{states:?}")
    };
    assert!(why.contains("care needs it now"), "{why}");
    assert!(helper.acting.is_empty());
}

#[test]
fn what_a_crash_may_have_left_done_is_taken_back_when_it_is_refused_by_then() {
    let mut helper = helper(ClinicalTier::None);
    let order = begun(1, Action::Deny(Denied::Path(FilePath::new("/x"))), people(&["ann"]));
    let measure = order.id.into();
    helper.order(&order, &moment("a", 1)).unwrap();
    // It was done, and the helper died before it could write that down.
    let mut helper = reloaded(&helper);
    assert!(matches!(&helper.restart(&moment("a", 2))[..], [Effect::Apply { .. }]));
    helper.acted(measure, Acted::Refused { why: "care needs it now".into() }, &moment("a", 2));
    assert_eq!(tick(&mut helper, 3), [Effect::TakeBack { measure }]);
    helper.taken_back(measure, TakenBack::Done { proof: None, done: vec![] }, &moment("a", 3));
    assert_eq!(states(&mut helper).last(), Some(&MeasureState::Released));
    assert!(helper.acting.is_empty());
}

#[test]
fn what_care_came_to_need_is_found_at_once() {
    let mut helper = helper(ClinicalTier::None);
    let order = begun(1, Action::Freeze(process()), people(&["ann"]));
    let measure = order.id.into();
    helper.order(&order, &moment("a", 1)).unwrap();
    helper.acted(measure, shown(), &moment("a", 1));
    let newer = Assignment { revision: 2, ..helper.assignment.clone().unwrap() };
    assert_eq!(helper.assign(&verified(&newer)), Ok(vec![Effect::LookAgain { measure }]));
}

#[test]
fn what_is_in_force_and_gone_by_itself_is_done_and_not_failed() {
    let mut helper = helper(ClinicalTier::None);
    let order = begun(1, Action::Freeze(process()), people(&["ann"]));
    helper.order(&order, &moment("a", 1)).unwrap();
    helper.acted(order.id.into(), shown(), &moment("a", 1));
    helper.acted(order.id.into(), Acted::Gone { why: "it ended".into() }, &moment("a", 2));
    assert_eq!(states(&mut helper), [MeasureState::Verified, MeasureState::Done]);
    assert!(helper.acting.is_empty());
}

/// A content that nothing covers is no more covered a second later; one that is covered may begin to run from
/// another file.
#[test]
fn a_denied_content_is_looked_for_every_few_seconds_whether_or_not_anything_covers_it() {
    let mut helper = helper(ClinicalTier::None);
    let content = Denied::Sha256(Sha256Digest([7; 32]));
    let order = begun(1, Action::Deny(content), people(&["ann"]));
    let measure = order.id.into();
    helper.order(&order, &moment("a", 1)).unwrap();
    let Acted::Done { proof: Some(covered), done, .. } = shown() else { panic!() };
    let uncovered = Proof { is_read_back: false, ..covered.clone() };
    for (second, proof) in [(2, &uncovered), (6, &uncovered), (10, &covered)] {
        let now = moment("a", second);
        helper.acted(
            measure,
            Acted::Done { proof: Some(proof.clone()), done: done.clone(), spared: Vec::new() },
            &now,
        );
        assert_eq!(helper.next_wake(&now), LOOK_FOR_CONTENT, "{proof:?}");
        assert_eq!(tick(&mut helper, second + 4).len(), 1);
    }
    // A warden that does not answer is asked again at once, and so is all after a start.
    helper.acted(measure, Acted::Failed { why: "no answer".into() }, &moment("a", 14));
    assert_eq!(helper.next_wake(&moment("a", 14)), TRY_AGAIN);
    helper.acted(measure, shown(), &moment("a", 15));
    helper.restart(&moment("a", 16));
    assert_eq!(helper.next_wake(&moment("a", 16)), TRY_AGAIN);
}

#[test]
fn what_is_under_way_is_neither_proven_nor_failed_and_is_asked_about_soon() {
    let mut helper = helper(ClinicalTier::None);
    let pieces = Collection { pieces: vec![Piece::Processes], most_bytes: 1 << 20 };
    let order = begun(1, Action::Collect(pieces), people(&["ann"]));
    let measure = order.id.into();
    helper.order(&order, &moment("a", 1)).unwrap();
    for second in 2..5 {
        let under_way =
            Acted::Done { proof: None, done: vec!["it is being gathered".into()], spared: vec![] };
        helper.acted(measure, under_way, &moment("a", second));
        assert!(helper.next_wake(&moment("a", second)) <= TRY_AGAIN);
        assert_eq!(tick(&mut helper, second), [Effect::LookAgain { measure }]);
    }
    helper.acted(measure, shown(), &moment("a", 6));
    assert_eq!(states(&mut helper), [MeasureState::Applied, MeasureState::Done]);
}

#[test]
fn what_did_not_work_is_tried_again_and_reported_once() {
    let mut helper = helper(ClinicalTier::None);
    let begun = begun(1, Action::Kill(process()), people(&["ann"]));
    helper.order(&begun, &moment("a", 1)).unwrap();
    for second in 2..6 {
        let why = "the disk is full".into();
        helper.acted(begun.id.into(), Acted::Failed { why }, &moment("a", second));
        assert!(matches!(&tick(&mut helper, second)[..], [Effect::Apply { .. }]));
    }
    assert_eq!(states(&mut helper).len(), 1);
    helper.acted(begun.id.into(), shown(), &moment("a", 9));
    assert_eq!(states(&mut helper), [MeasureState::Done]);
}

#[test]
fn what_was_done_at_once_has_no_way_back() {
    let mut helper = helper(ClinicalTier::None);
    let begun = begun(1, Action::Kill(process()), people(&["ann"]));
    let measure = begun.id.into();
    helper.order(&begun, &moment("a", 1)).unwrap();
    let undo = order(2, Instruction::Undo { measure }, people(&["ann"]));
    assert!(matches!(helper.order(&undo, &moment("a", 1)), Err(NotObeyed::NoWayBack(_))));
}

#[test]
fn a_table_that_is_full_refuses_and_holds_what_it_has() {
    let mut helper = helper(ClinicalTier::None);
    for number in 1..=64 {
        helper
            .order(&begun(number, Action::Freeze(process()), people(&["ann"])), &moment("a", 1))
            .unwrap();
    }
    let one_more = begun(65, Action::Freeze(process()), people(&["ann"]));
    assert_eq!(helper.order(&one_more, &moment("a", 1)), Err(NotObeyed::TooManyMeasures));
    assert_eq!(helper.acting.len(), limits::MEASURES_PER_MACHINE);
}

#[test]
fn a_release_leaves_other_measures_and_one_undo_leaves_the_others() {
    let mut helper = helper(ClinicalTier::None);
    let isolate = Instruction::isolate(cordon_model::measure::Isolation::Full, TERMS);
    helper.order(&order(1, isolate, people(&["ann"])), &moment("a", 1)).unwrap();
    for number in 2..=3 {
        helper
            .order(&begun(number, Action::Freeze(process()), people(&["ann"])), &moment("a", 1))
            .unwrap();
    }
    helper.order(&order(4, Instruction::Release, people(&["ann"])), &moment("a", 2)).unwrap();
    assert_eq!(helper.acting.len(), 2);
    let second = OrderId::new(UtcNanos::from_unix_nanos(0), [2; 10]).into();
    helper
        .order(&order(5, Instruction::Undo { measure: second }, people(&["ann"])), &moment("a", 2))
        .unwrap();
    let phases: Vec<Phase> = helper.acting.values().map(|acting| acting.phase).collect();
    assert_eq!(phases, [Phase::TakingBack, Phase::Applying]);
}

#[test]
fn only_people_who_are_named_open_anything() {
    let mut helper = helper(ClinicalTier::None);
    let frozen = begun(1, Action::Freeze(process()), people(&["ann"]));
    let measure = frozen.id.into();
    helper.order(&frozen, &moment("a", 1)).unwrap();
    let isolate = Instruction::isolate(cordon_model::measure::Isolation::Full, TERMS);
    helper.order(&order(2, isolate, people(&["ann"])), &moment("a", 1)).unwrap();
    let before = (helper.acting.clone(), helper.current.clone(), helper.next.clone());
    let opening = [Instruction::Undo { measure }, Instruction::Release];
    let nobody = [policy(), people(&[]), people(&[""])];
    let mut number = 2;
    for instruction in opening {
        for authority in nobody.clone() {
            number += 1;
            let refused = order(number, instruction.clone(), authority);
            let refused = helper.order(&refused, &moment("a", 2));
            assert_eq!(refused, Err(NotObeyed::NotEnoughPeople(Needs::OnePerson)));
            assert_eq!(
                (&helper.acting, &helper.current, &helper.next),
                (&before.0, &before.1, &before.2)
            );
        }
        number += 1;
        assert!(
            helper.order(&order(number, instruction, people(&["ann"])), &moment("a", 2)).is_ok()
        );
        helper.acting.values_mut().for_each(|acting| acting.phase = Phase::Applying);
    }
}

#[test]
fn what_is_said_of_what_was_done_is_bounded() {
    let long = bounded((0..100).map(|line| format!("{line} {}", "é".repeat(400))).collect());
    assert_eq!(long.len(), limits::DONE_LINES);
    assert!(long.iter().all(|line| line.len() <= limits::DONE_LINE_BYTES));
    assert!(long[31].starts_with("99 "), "the newest is kept");
}
