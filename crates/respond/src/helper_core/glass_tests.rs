//! What a one-time code opens, and what it does not.

use cordon_model::action::{Action, Blocked, BlockedPeer};
use cordon_model::asset::ClinicalTier;
use cordon_model::break_glass::Hashing;
use cordon_model::finding::Level;
use cordon_model::ids::{FindingId, MachineId, PermitId};
use cordon_model::measure::MeasureState;
use cordon_model::order::{Authority, Instruction, Permit};
use cordon_model::time::UtcNanos;

use super::super::tests::{
    TERMS, carry_out, helper, isolate, machine, obey, order, states, verified,
};
use super::*;
use crate::clock::tests::moment;

pub(in super::super) const HASHES: [[u8; 32]; 3] = [[1; 32], [2; 32], [3; 32]];
const HOLD_OFF: u32 = 60;
/// Somebody ordinary.
const USER: u32 = 1_000;

pub(in super::super) fn document(revision: u64) -> BreakGlass {
    BreakGlass {
        organisation: "RJ1".parse().unwrap(),
        machine: machine(),
        revision,
        salt: [0; 16].into(),
        hashing: Hashing::DEFAULT,
        codes: HASHES.map(Into::into).to_vec(),
        brake: Brake {
            tries: 3,
            window_seconds: 100,
            pause_seconds: 50,
            longest_pause_seconds: 90,
        },
        hold_off_seconds: HOLD_OFF,
        issued_at: UtcNanos::from_unix_nanos(0),
        expires_at: UtcNanos::from_unix_nanos(1_000_000_000),
    }
}

/// Isolated in full since second 1, with codes.
fn isolated() -> HelperCore {
    let mut helper = helper(ClinicalTier::None);
    helper.take_codes(&verified(&document(1))).unwrap();
    obey(&mut helper, &order(1, isolate(Isolation::Full)), 1);
    states(&mut helper);
    helper
}

pub(in super::super) fn try_code(
    helper: &mut HelperCore,
    hash: [u8; 32],
    seconds: u64,
) -> Result<u8, NotOpened> {
    let now = moment("a", seconds);
    helper.begin_code(USER, false, &now)?;
    let (code, effects) = helper.open_by(&hash, USER, &now, &mut || [9; 16])?;
    carry_out(helper, &effects, &now);
    Ok(code)
}

fn reloaded(helper: &HelperCore) -> HelperCore {
    serde_json::from_str(&serde_json::to_string(helper).unwrap()).unwrap()
}

#[test]
fn a_code_opens_what_an_order_cut_and_both_are_reported() {
    let mut helper = isolated();
    assert_eq!(try_code(&mut helper, HASHES[1], 2), Ok(2));
    assert_eq!(helper.isolation(), Some(Isolation::Watch), "nothing is cut");
    let origins: Vec<_> = helper.unreported.iter().map(|receipt| receipt.origin).collect();
    assert_eq!(origins[0], Origin::BreakGlass { revision: 1, code: 2 });
    assert!(helper.unreported.iter().all(|receipt| receipt.proof.is_some()));
    assert_eq!(
        states(&mut helper),
        [(Isolation::Watch, MeasureState::Verified), (Isolation::Full, MeasureState::Released)]
    );
}

#[test]
fn a_code_opens_once_however_often_the_helper_dies() {
    let mut helper = isolated();
    let now = moment("a", 2);
    helper.begin_code(USER, false, &now).unwrap();
    helper.open_by(&HASHES[0], USER, &now, &mut || [9; 16]).unwrap();
    // It died after writing, before opening: the next start opens, and the code is used up.
    let mut helper = reloaded(&helper);
    let effects = helper.restart(&moment("a", 3));
    carry_out(&mut helper, &effects, &moment("a", 3));
    assert_eq!(helper.isolation(), Some(Isolation::Watch));
    obey(&mut helper, &order(2, isolate(Isolation::Full)), 4);
    assert_eq!(try_code(&mut helper, HASHES[0], 5), Err(NotOpened::Used { code: 1 }));
    assert_eq!(helper.isolation(), Some(Isolation::Full));
    assert_eq!(try_code(&mut helper, HASHES[1], 6), Ok(2));
}

#[test]
fn an_older_document_brings_no_code_back_and_a_newer_one_brings_others() {
    let mut helper = isolated();
    helper.take_codes(&verified(&document(5))).unwrap();
    try_code(&mut helper, HASHES[0], 2).unwrap();
    let same_revision = BreakGlass { codes: document(5).codes[1..].to_vec(), ..document(5) };
    for old in [document(1), same_revision] {
        let refused = helper.take_codes(&verified(&old));
        assert_eq!(refused, Err(NotObeyed::OldRevision { revision: old.revision, held: 5 }));
    }
    helper.take_codes(&verified(&document(5))).expect("a hub that starts again brings it again");
    assert_eq!(helper.glass().unused(), Some(2));
    helper.take_codes(&verified(&document(6))).unwrap();
    assert_eq!(helper.glass().unused(), Some(3));
}

#[test]
fn codes_of_another_machine_or_organisation_are_not_taken() {
    let mut helper = helper(ClinicalTier::None);
    let mut foreign = document(1);
    foreign.machine = MachineId::new(UtcNanos::from_unix_nanos(0), [9; 10]);
    assert_eq!(helper.take_codes(&verified(&foreign)), Err(NotObeyed::WrongTarget));
    let foreign = BreakGlass { organisation: "RJ2".parse().unwrap(), ..document(1) };
    assert_eq!(helper.take_codes(&verified(&foreign)), Err(NotObeyed::WrongTarget));
    let empty = BreakGlass { codes: vec![], ..document(1) };
    assert!(matches!(helper.take_codes(&verified(&empty)), Err(NotObeyed::BreakGlass(_))));
    assert_eq!(helper.glass().document, None);
}

#[test]
fn where_nothing_is_cut_no_code_is_used_up_or_counted() {
    let mut helper = helper(ClinicalTier::None);
    helper.take_codes(&verified(&document(1))).unwrap();
    for _ in 0..10 {
        assert_eq!(try_code(&mut helper, HASHES[0], 2), Err(NotOpened::NotCutOff));
    }
    obey(&mut helper, &order(1, isolate(Isolation::Segment)), 3);
    assert_eq!(try_code(&mut helper, HASHES[0], 4), Ok(1));
    assert_eq!(try_code(&mut helper, HASHES[1], 5), Err(NotOpened::NotCutOff), "it is open");
}

#[test]
fn what_no_state_accounts_for_can_be_opened_too() {
    let mut helper = helper(ClinicalTier::None);
    helper.take_codes(&verified(&document(1))).unwrap();
    let now = moment("a", 2);
    helper.begin_code(USER, true, &now).unwrap();
    let (_, effects) = helper.open_by(&HASHES[0], USER, &now, &mut || [9; 16]).unwrap();
    assert!(matches!(effects[..], [Effect::Enforce { isolation: Isolation::Watch, .. }]));
}

#[test]
fn a_code_that_had_its_time_opens_nothing() {
    let mut helper = isolated();
    let mut late = moment("a", 3_700);
    late.utc = UtcNanos::from_unix_nanos(1_000_000_000);
    // By the machine's clock, and by how long it ran since they were signed.
    assert_eq!(helper.begin_code(USER, false, &late), Err(NotOpened::Expired));
}

#[test]
fn guessing_is_held_up_longer_each_time_and_over_restarts_but_never_for_ever() {
    let mut helper = isolated();
    let wrong = [7; 32];
    assert_eq!(try_code(&mut helper, wrong, 10), Err(NotOpened::Unknown { left: 2 }));
    assert_eq!(try_code(&mut helper, wrong, 11), Err(NotOpened::Unknown { left: 1 }));
    assert_eq!(try_code(&mut helper, wrong, 12), Err(NotOpened::Wait { seconds: 51 }));
    let said = NotOpened::Wait { seconds: 841 }.to_string();
    assert!(said.contains("wait 15 minutes"), "nobody comes too early: {said}");
    assert_eq!((helper.glass().wrong, helper.glass().wrong_by), (3, Some(USER)));
    // A restart of the helper, and of the machine, forgets nothing: 20 s of the 50 are over.
    let mut helper = reloaded(&helper);
    assert_eq!(try_code(&mut helper, HASHES[0], 32), Err(NotOpened::Wait { seconds: 31 }));
    let rebooted = moment("b", 10);
    assert_eq!(
        helper.begin_code(USER, false, &rebooted),
        Err(NotOpened::Wait { seconds: 21 }),
        "by running time"
    );
    // Root is not held up: it could take the rules away by hand.
    assert!(helper.begin_code(0, false, &rebooted).is_ok());
    // The next pause is longer, up to the longest.
    let now = |seconds| moment("b", seconds);
    let mut guess = |seconds| {
        helper.begin_code(USER, false, &now(seconds)).unwrap();
        helper.open_by(&wrong, USER, &now(seconds), &mut || [9; 16]).unwrap_err()
    };
    guess(100);
    assert_eq!(guess(101), NotOpened::Wait { seconds: 91 }, "a try of root's counts");
    let right = {
        helper.begin_code(USER, false, &now(200)).unwrap();
        helper.open_by(&HASHES[2], USER, &now(200), &mut || [9; 16]).unwrap()
    };
    assert_eq!(right.0, 3);
    assert_eq!(helper.code_pause(&now(200)), Duration::ZERO, "a right code forgives");
}

#[test]
fn a_try_counts_though_the_plug_is_pulled_before_it_is_judged() {
    let mut helper = isolated();
    for seconds in 10..13 {
        helper.begin_code(USER, false, &moment("a", seconds)).unwrap();
        helper = reloaded(&helper);
    }
    let held_up = helper.begin_code(USER, false, &moment("a", 13));
    assert_eq!(held_up, Err(NotOpened::Wait { seconds: 50 }));
}

#[test]
fn tries_long_ago_do_not_count() {
    let mut helper = isolated();
    for seconds in [10, 200, 400, 600] {
        let told = try_code(&mut helper, [7; 32], seconds);
        assert_eq!(told, Err(NotOpened::Unknown { left: 2 }), "{seconds}");
    }
}

fn policys(sequence: u64) -> cordon_model::order::Order {
    let finding = FindingId::of("r", "h", &[0; 32]);
    let mut automatic = order(sequence, isolate(Isolation::Full));
    automatic.authority = Authority::Policy { revision: 1, finding };
    automatic
}

#[test]
fn only_people_isolate_again_until_the_time_held_off_is_over() {
    let mut helper = isolated();
    try_code(&mut helper, HASHES[0], 2).unwrap();
    let permit = verified(&Permit {
        id: PermitId::new(UtcNanos::from_unix_nanos(0), [3; 10]),
        organisation: "RJ1".parse().unwrap(),
        machine: machine(),
        level_at_least: Level::High,
        lease: TERMS,
        issued_at: UtcNanos::from_unix_nanos(0),
        expires_at: UtcNanos::from_unix_nanos(i64::MAX),
    });
    let finding = FindingId::of("r", "h", &[0; 32]);
    let now = moment("a", 3);
    let by_permit = helper.use_permit(&permit, finding, Level::Critical, &now);
    assert_eq!(by_permit, Err(NotObeyed::HeldOpen));
    assert_eq!(helper.order(&verified(&policys(2)), &now), Err(NotObeyed::HeldOpen));
    assert!(!helper.would_act_by_itself(&now));
    // The time runs out by itself, and survives a restart.
    let mut helper = reloaded(&helper);
    let end = moment("a", 2 + u64::from(HOLD_OFF));
    let effects = helper.tick(&end, &mut || [4; 16]);
    carry_out(&mut helper, &effects, &end);
    assert_eq!(helper.isolation(), None);
    assert!(helper.use_permit(&permit, finding, Level::Critical, &end).is_ok());
}

#[test]
fn people_may_isolate_again_at_once_and_release_as_ever() {
    let mut helper = isolated();
    try_code(&mut helper, HASHES[0], 2).unwrap();
    obey(&mut helper, &order(2, isolate(Isolation::Segment)), 3);
    assert_eq!(helper.isolation(), Some(Isolation::Segment));
    assert!(!helper.is_held_open());
    try_code(&mut helper, HASHES[1], 4).unwrap();
    obey(&mut helper, &order(3, Instruction::Release), 5);
    assert_eq!((helper.isolation(), helper.is_held_open()), (None, false));
}

#[test]
fn a_kernel_that_does_not_let_go_is_tried_again_and_not_called_open() {
    let mut helper = isolated();
    let now = moment("a", 2);
    helper.begin_code(USER, false, &now).unwrap();
    let (_, effects) = helper.open_by(&HASHES[0], USER, &now, &mut || [9; 16]).unwrap();
    let Effect::Enforce { measure, .. } = effects[0] else { unreachable!() };
    helper.enforced(measure, super::super::Outcome::Failed { why: "no".into() }, &now);
    assert_eq!(
        states(&mut helper),
        [(Isolation::Watch, MeasureState::Unproven { why: "no".into() })]
    );
    let later = moment("a", 4);
    let effects = helper.tick(&later, &mut || [9; 16]);
    carry_out(&mut helper, &effects, &later);
    assert_eq!(helper.isolation(), Some(Isolation::Watch));
    assert_eq!(
        states(&mut helper)[..2],
        [(Isolation::Watch, MeasureState::Verified), (Isolation::Full, MeasureState::Released)]
    );
}

#[test]
fn a_code_takes_back_blocked_peers_too_and_holds_off_what_else_is_done_by_itself() {
    let mut helper = isolated();
    let block = |sequence| {
        let peer = BlockedPeer::Network("10.0.0.9/32".parse().unwrap());
        let action = Action::Block(Blocked { peer, transport: None, ports: None, direction: None });
        order(sequence, Instruction::begin(action, TERMS))
    };
    let blocked = block(2);
    helper.order(&verified(&blocked), &moment("a", 2)).unwrap();
    let now = moment("a", 3);
    helper.begin_code(USER, false, &now).unwrap();
    let (_, effects) = helper.open_by(&HASHES[0], USER, &now, &mut || [9; 16]).unwrap();
    assert!(effects.contains(&Effect::TakeBack { measure: blocked.id.into() }), "{effects:?}");
    let mut automatic = block(3);
    automatic.authority = policys(3).authority;
    assert_eq!(helper.order(&verified(&automatic), &now), Err(NotObeyed::HeldOpen));
}

/// The code was typed while an order to isolate less was on its way.
#[test]
fn an_order_that_was_to_open_a_machine_a_little_does_not_close_one_that_was_opened_meanwhile() {
    let mut helper = isolated();
    try_code(&mut helper, HASHES[0], 2).unwrap();
    let ease = |sequence| verified(&order(sequence, Instruction::ease(Isolation::Segment, TERMS)));
    let refused = helper.order(&ease(2), &moment("a", 3)).unwrap_err();
    let now = Some(Isolation::Watch);
    assert_eq!(refused, NotObeyed::OpenedMeanwhile { least: Isolation::Full, now });
    assert!(refused.to_string().contains("isolated less (watch)"), "{refused}");
    assert_eq!(helper.isolation(), Some(Isolation::Watch), "it stays open");
    obey(&mut helper, &order(3, Instruction::Release), 4);
    let refused = helper.order(&ease(4), &moment("a", 5)).unwrap_err();
    assert_eq!(refused, NotObeyed::OpenedMeanwhile { least: Isolation::Full, now: None });
    assert_eq!(helper.isolation(), None);
    // One that is isolated further is then isolated so far, and once.
    obey(&mut helper, &order(5, isolate(Isolation::Full)), 6);
    obey(&mut helper, &order(6, Instruction::ease(Isolation::Segment, TERMS)), 7);
    assert_eq!(helper.isolation(), Some(Isolation::Segment));
    let again = helper.order(&ease(7), &moment("a", 8));
    assert!(matches!(again, Err(NotObeyed::OpenedMeanwhile { .. })), "no new lease by it");
    // Another measure may be under the same condition.
    let block = |sequence, if_isolated| {
        let peer = BlockedPeer::Network("192.0.2.0/24".parse().unwrap());
        let action = Action::Block(Blocked { peer, transport: None, ports: None, direction: None });
        order(sequence, Instruction::Begin { action, lease: TERMS, if_isolated })
    };
    let refused = helper.order(&verified(&block(8, Some(Isolation::Full))), &moment("a", 8));
    assert!(matches!(refused, Err(NotObeyed::OpenedMeanwhile { .. })), "{refused:?}");
    assert!(helper.order(&verified(&block(9, Some(Isolation::Segment))), &moment("a", 9)).is_ok());
}
