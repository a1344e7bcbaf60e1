//! What the helper's mind does, and refuses to do.

use cordon_model::asset::ClinicalTier;
use cordon_model::order::{Approver, Lease};
use cordon_model::signed::{Document, seal};
use cordon_model::time::BootNanos;
use ed25519_dalek::SigningKey;

use super::*;
use crate::clock::tests::moment;

pub(super) fn verified<D: Document>(document: &D) -> Verified<D> {
    let key = SigningKey::from_bytes(&[1; 32]);
    seal(document, &key).unwrap().open(&key.verifying_key()).unwrap()
}

pub(super) fn machine() -> MachineId {
    MachineId::new(UtcNanos::from_unix_nanos(0), [1; 10])
}

pub(super) const TERMS: Lease = Lease { seconds: 100, step_down_seconds: 50, warn_seconds: 20 };

pub(super) fn assignment(revision: u64, tier: ClinicalTier) -> Assignment {
    Assignment {
        organisation: "RJ1".parse().unwrap(),
        machine: machine(),
        revision,
        name: "m".into(),
        tier: Some(tier),
        kind: None,
        group: None,
        lifelines: vec![],
        names: Vec::new(),
        protected: cordon_model::asset::Protected::default(),
        watched: Vec::new(),
        hub: vec![],
    }
}

pub(super) fn helper(tier: ClinicalTier) -> HelperCore {
    let mut helper = HelperCore::new("RJ1".parse().unwrap(), machine(), &moment("a", 0));
    assert_eq!(helper.assign(&verified(&assignment(1, tier))), Ok(vec![]));
    helper
}

#[test]
fn an_assignment_that_is_held_already_is_no_error_and_another_of_its_revision_is() {
    let mut helper = helper(ClinicalTier::None);
    let mut take = |tier| helper.assign(&verified(&assignment(1, tier)));
    assert_eq!(take(ClinicalTier::None), Ok(vec![]));
    let old = NotObeyed::OldRevision { revision: 1, held: 1 };
    assert_eq!(take(ClinicalTier::Clinical), Err(old));
}

pub(super) fn order(sequence: u64, instruction: Instruction) -> Order {
    Order {
        id: OrderId::new(UtcNanos::from_unix_nanos(0), [sequence as u8; 10]),
        organisation: "RJ1".parse().unwrap(),
        machine: machine(),
        sequence,
        nonce: [0; 16],
        issued_at: UtcNanos::from_unix_nanos(0),
        deliver_until: None,
        instruction,
        authority: Authority::People {
            approval: None,
            people: vec![Approver { name: "ann".into(), is_clinical: false }],
        },
        incident: None,
        reason: "test".into(),
    }
}

pub(super) fn isolate(isolation: Isolation) -> Instruction {
    Instruction::isolate(isolation, TERMS)
}

fn proof() -> Proof {
    Proof {
        table_handle: Some(1),
        is_read_back: true,
        probes: vec![],
        unproven: vec![],
        at: BootNanos(0),
    }
}

/// Takes an order and lets the kernel do as told.
pub(super) fn obey(helper: &mut HelperCore, order: &Order, seconds: u64) {
    let now = moment("a", seconds);
    let effects = helper.order(&verified(order), &now).unwrap();
    carry_out(helper, &effects, &now);
}

pub(super) fn carry_out(helper: &mut HelperCore, effects: &[Effect], now: &Moment) {
    for effect in effects {
        if let Effect::Enforce { measure, .. } | Effect::Restore { measure } = effect {
            let done = Outcome::Done { proof: Some(proof()), sockets_cut: 0 };
            helper.enforced(*measure, done, now);
        }
    }
}

pub(super) fn states(helper: &mut HelperCore) -> Vec<(Isolation, MeasureState)> {
    helper
        .unreported
        .drain(..)
        .map(|receipt| (receipt.action.isolation().unwrap(), receipt.state))
        .collect()
}

#[test]
fn an_order_is_obeyed_once_and_only_in_its_turn() {
    let mut helper = helper(ClinicalTier::None);
    let second = order(2, isolate(Isolation::Full));
    obey(&mut helper, &second, 1);
    assert_eq!(helper.order(&verified(&second), &moment("a", 2)), Ok(vec![]), "the same again");
    let older = order(1, isolate(Isolation::Segment));
    let refused = helper.order(&verified(&older), &moment("a", 3));
    assert_eq!(refused, Err(NotObeyed::Stale { sequence: 1, last: 2 }));
    assert_eq!(helper.isolation(), Some(Isolation::Full));
    assert_eq!(states(&mut helper), [(Isolation::Full, MeasureState::Verified)]);
}

#[test]
fn what_is_for_another_or_too_late_is_refused() {
    let mut helper = helper(ClinicalTier::None);
    let mut foreign = order(1, isolate(Isolation::Full));
    foreign.machine = MachineId::new(UtcNanos::from_unix_nanos(0), [9; 10]);
    let now = moment("a", 1);
    assert_eq!(helper.order(&verified(&foreign), &now), Err(NotObeyed::WrongTarget));
    let mut late = order(1, isolate(Isolation::Full));
    late.deliver_until = Some(UtcNanos::from_unix_nanos(0));
    assert_eq!(helper.order(&verified(&late), &now), Err(NotObeyed::Expired));
    assert_eq!(helper.isolation(), None);
}

#[test]
fn an_order_that_was_refused_is_not_obeyed_when_the_reason_is_gone() {
    let mut bare = HelperCore::new("RJ1".parse().unwrap(), machine(), &moment("a", 0));
    let early = verified(&order(1, isolate(Isolation::Full)));
    assert_eq!(bare.order(&early, &moment("a", 1)), Err(NotObeyed::NoAssignment));
    bare.assignment = helper(ClinicalTier::None).assignment;
    let again = bare.order(&early, &moment("a", 2));
    assert_eq!(again, Err(NotObeyed::Stale { sequence: 1, last: 1 }));
    assert!(bare.order(&verified(&order(2, isolate(Isolation::Full))), &moment("a", 3)).is_ok());
    // One for another machine has no turn here.
    let mut foreign = order(9, isolate(Isolation::Full));
    foreign.machine = MachineId::new(UtcNanos::from_unix_nanos(0), [9; 10]);
    assert!(bare.order(&verified(&foreign), &moment("a", 4)).is_err());
    assert_eq!(bare.last_sequence, 2);
}

#[test]
fn tiers_are_checked_here_too() {
    let mut clinical = helper(ClinicalTier::Clinical);
    let mut automatic = order(1, isolate(Isolation::Segment));
    automatic.authority =
        Authority::Policy { revision: 1, finding: FindingId::of("r", "h", &[0; 32]) };
    let refused = clinical.order(&verified(&automatic), &moment("a", 1));
    assert_eq!(refused, Err(NotObeyed::NeedsPeople(ClinicalTier::Clinical)));
    let mut theatre = helper(ClinicalTier::LifeSustaining);
    let one = theatre.order(&verified(&order(1, isolate(Isolation::Segment))), &moment("a", 1));
    assert_eq!(one, Err(NotObeyed::NotEnoughPeople(Needs::TwoKeysOneClinical)));
    let mut unknown = HelperCore::new("RJ1".parse().unwrap(), machine(), &moment("a", 0));
    let nothing = unknown.order(&verified(&order(1, isolate(Isolation::Full))), &moment("a", 1));
    assert_eq!(nothing, Err(NotObeyed::NoAssignment));
}

#[test]
fn the_end_of_a_lease_steps_down_again_and_again_until_released() {
    let mut helper = helper(ClinicalTier::None);
    obey(&mut helper, &order(1, isolate(Isolation::Full)), 0);
    let mut dice = 0;
    let mut tick = |helper: &mut HelperCore, seconds| {
        dice += 1;
        let now = moment("a", seconds);
        let effects = helper.tick(&now, &mut || [dice; 16]);
        carry_out(helper, &effects, &now);
    };
    states(&mut helper);
    tick(&mut helper, 100);
    assert_eq!(
        states(&mut helper),
        [
            (Isolation::Segment, MeasureState::Verified),
            (Isolation::Full, MeasureState::SteppedDown)
        ],
        "what is in force now is said first"
    );
    tick(&mut helper, 150);
    assert_eq!(helper.isolation(), Some(Isolation::Segment), "again");
    obey(&mut helper, &order(2, Instruction::Release), 151);
    assert_eq!((helper.isolation(), helper.current.as_ref()), (None, None));
}

#[test]
fn a_crash_at_any_point_ends_in_what_was_meant() {
    let mut before = helper(ClinicalTier::None);
    before.order(&verified(&order(1, isolate(Isolation::Full))), &moment("a", 1)).unwrap();
    // It died here: the kernel may or may not have it. The disk has what was meant.
    let kept = serde_json::to_string(&before).unwrap();
    let mut after: HelperCore = serde_json::from_str(&kept).unwrap();
    let now = moment("b", 1);
    let effects = after.restart(&now);
    assert!(matches!(effects[..], [Effect::Enforce { isolation: Isolation::Full, .. }]));
    carry_out(&mut after, &effects, &now);
    assert_eq!(states(&mut after), [(Isolation::Full, MeasureState::Verified)]);
}

#[test]
fn what_a_kernel_refuses_is_said_and_tried_again_and_can_be_released() {
    let mut helper = helper(ClinicalTier::None);
    let now = moment("a", 1);
    let order_1 = order(1, isolate(Isolation::Full));
    helper.order(&verified(&order_1), &now).unwrap();
    helper.enforced(order_1.id.into(), Outcome::Failed { why: "no".into() }, &now);
    let unproven = MeasureState::Unproven { why: "no".into() };
    assert_eq!(states(&mut helper), [(Isolation::Full, unproven)]);
    let again = helper.tick(&moment("a", 2), &mut || [0; 16]);
    assert!(matches!(again[..], [Effect::Enforce { isolation: Isolation::Full, .. }]));
    // It may be in the kernel all the same (a crash before): a release takes it back for certain.
    obey(&mut helper, &order(2, Instruction::Release), 3);
    let receipts: Vec<_> = helper.unreported.drain(..).collect();
    assert!(receipts.iter().all(|receipt| receipt.state == MeasureState::Released));
    let measures: Vec<_> = receipts.iter().map(|receipt| receipt.measure).collect();
    assert_eq!(measures, [order(2, Instruction::Release).id.into(), order_1.id.into()]);
}

#[test]
fn a_release_of_what_is_not_known_here_is_carried_out_and_shown_all_the_same() {
    let mut helper = helper(ClinicalTier::None);
    let release = order(1, Instruction::Release);
    let now = moment("a", 1);
    let effects = helper.order(&verified(&release), &now).unwrap();
    assert_eq!(effects, [Effect::Restore { measure: release.id.into() }]);
    helper.enforced(release.id.into(), Outcome::Failed { why: "no".into() }, &now);
    assert!(helper.unreported.is_empty() && helper.next_wake(&now) <= TRY_AGAIN);
    let mut helper: HelperCore =
        serde_json::from_str(&serde_json::to_string(&helper).unwrap()).unwrap();
    let again = helper.tick(&moment("a", 2), &mut || [0; 16]);
    assert_eq!((&again, &helper.restart(&moment("a", 2))), (&effects, &effects));
    carry_out(&mut helper, &again, &moment("a", 2));
    let [receipt] = helper.unreported.make_contiguous() else { panic!() };
    assert_eq!(receipt.measure, release.id.into());
    assert!(receipt.state == MeasureState::Released && receipt.proof.is_some());
    assert!(helper.tick(&moment("a", 3), &mut || [0; 16]).is_empty(), "once");
}

/// The kernel took the deletion, and a look finds a table of that name: somebody put it there since.
fn still_there() -> Outcome {
    Outcome::Done { proof: Some(Proof { is_read_back: false, ..proof() }), sockets_cut: 0 }
}

#[test]
fn a_release_after_which_a_table_is_still_there_is_none_and_is_tried_again() {
    let mut helper = helper(ClinicalTier::None);
    obey(&mut helper, &order(1, isolate(Isolation::Full)), 0);
    states(&mut helper);
    let release = order(2, Instruction::Release);
    let mut effects = helper.order(&verified(&release), &moment("a", 1)).unwrap();
    for (seconds, outcome) in
        [(1, still_there()), (2, still_there()), (3, Outcome::Done { proof: None, sockets_cut: 0 })]
    {
        let [Effect::Restore { measure }] = effects[..] else { panic!("{effects:?}") };
        helper.enforced(measure, outcome, &moment("a", seconds));
        effects = helper.tick(&moment("a", seconds + 1), &mut || [1; 16]);
    }
    let told = states(&mut helper);
    let [(Isolation::Full, MeasureState::Unproven { why })] = &told[..] else { panic!("{told:?}") };
    assert!(why.contains("still there"), "{why}");
    carry_out(&mut helper, &effects, &moment("a", 5));
    assert!(states(&mut helper).iter().all(|(_, state)| *state == MeasureState::Released));
    assert!(helper.current.is_none());
    // The same where nothing was known to be held.
    let release = order(3, Instruction::Release);
    helper.order(&verified(&release), &moment("a", 6)).unwrap();
    helper.enforced(release.id.into(), still_there(), &moment("a", 6));
    assert!(helper.unreported.is_empty() && helper.is_releasing());
}

#[test]
fn a_permit_is_used_once_and_for_serious_findings_only() {
    let mut helper = helper(ClinicalTier::None);
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
    let now = moment("a", 1);
    let mild = helper.use_permit(&permit, finding, Level::Medium, &now);
    assert!(matches!(mild, Err(NotObeyed::TooMild { .. })));
    let effects = helper.use_permit(&permit, finding, Level::High, &now).unwrap();
    carry_out(&mut helper, &effects, &now);
    assert_eq!(helper.isolation(), Some(Isolation::Segment));
    obey(&mut helper, &order(1, Instruction::Release), 2);
    let again = helper.use_permit(&permit, finding, Level::High, &moment("a", 3));
    assert_eq!(again, Err(NotObeyed::Used));
}

#[test]
fn a_wiped_table_is_unproven_until_it_is_back() {
    let mut helper = helper(ClinicalTier::None);
    let order_1 = order(1, isolate(Isolation::Full));
    obey(&mut helper, &order_1, 1);
    states(&mut helper);
    let now = moment("a", 2);
    let wiped = Proof { table_handle: None, is_read_back: false, ..proof() };
    helper.looked(order_1.id.into(), wiped, &now);
    assert!(matches!(states(&mut helper)[..], [(Isolation::Full, MeasureState::Unproven { .. })]));
    let effects = helper.tick(&moment("a", 3), &mut || [0; 16]);
    carry_out(&mut helper, &effects, &moment("a", 3));
    assert_eq!(states(&mut helper), [(Isolation::Full, MeasureState::Verified)]);
}

fn warned(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::Warn { .. })).count()
}

#[test]
fn a_warning_that_died_with_the_helper_is_said_again() {
    let mut helper = helper(ClinicalTier::None);
    obey(&mut helper, &order(1, isolate(Isolation::Full)), 0);
    assert_eq!(warned(&helper.tick(&moment("a", 85), &mut || [1; 16])), 1);
    assert_eq!(warned(&helper.tick(&moment("a", 86), &mut || [1; 16])), 0, "once");
    // It had written that down, and died before anybody heard.
    let mut helper: HelperCore =
        serde_json::from_str(&serde_json::to_string(&helper).unwrap()).unwrap();
    let now = moment("a", 87);
    let effects = helper.restart(&now);
    carry_out(&mut helper, &effects, &now);
    assert!(helper.next_wake(&now) <= LEAST_SLEEP);
    assert_eq!(warned(&helper.tick(&moment("a", 88), &mut || [1; 16])), 1);
    assert_eq!(warned(&helper.tick(&moment("a", 89), &mut || [1; 16])), 0);
}

#[test]
fn a_warning_is_said_whatever_else_there_is_to_do() {
    let mut helper = helper(ClinicalTier::None);
    obey(&mut helper, &order(1, isolate(Isolation::Segment)), 0);
    // A release that the kernel does not take is tried again at every tick.
    let now = moment("a", 70);
    let effects = helper.order(&verified(&order(2, Instruction::Release)), &now).unwrap();
    for effect in effects {
        let Effect::Restore { measure } = effect else { panic!("{effect:?}") };
        helper.enforced(measure, Outcome::Failed { why: "no".into() }, &now);
    }
    let effects = helper.tick(&moment("a", 85), &mut || [1; 16]);
    assert_eq!(warned(&effects), 1, "{effects:?}");
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Restore { .. })));
}

#[test]
fn a_release_that_the_kernel_did_not_take_is_tried_again_until_it_is_shown() {
    let mut helper = helper(ClinicalTier::None);
    obey(&mut helper, &order(1, isolate(Isolation::Segment)), 0);
    let now = moment("a", 1);
    let mut effects = helper.order(&verified(&order(2, Instruction::Release)), &now).unwrap();
    for seconds in 2..5 {
        let [Effect::Restore { measure }] = effects[..] else { panic!("{effects:?}") };
        let now = moment("a", seconds);
        helper.enforced(measure, Outcome::Failed { why: "no".into() }, &now);
        assert!(helper.next_wake(&now) <= TRY_AGAIN);
        effects = helper.tick(&moment("a", seconds + 1), &mut || [1; 16]);
    }
    carry_out(&mut helper, &effects, &moment("a", 6));
    assert!(helper.isolation().is_none() && helper.current.is_none());
}
