//! What stays used up though the memory is lost.

use cordon_model::asset::ClinicalTier;
use cordon_model::break_glass::BreakGlass;
use cordon_model::finding::Level;
use cordon_model::ids::FindingId;
use cordon_model::measure::Isolation;
use cordon_model::order::{Instruction, Permit};

use super::super::glass::tests::{HASHES, document, try_code};
use super::super::tests::{TERMS, assignment, helper, isolate, machine, obey, order, verified};
use super::super::{HelperCore, NotObeyed, NotOpened};
use super::*;
use crate::clock::Moment;
use crate::clock::tests::moment;

fn permit(number: u8) -> Permit {
    Permit {
        id: PermitId::new(UtcNanos::from_unix_nanos(0), [number; 10]),
        organisation: "RJ1".parse().unwrap(),
        machine: machine(),
        level_at_least: Level::High,
        lease: TERMS,
        issued_at: UtcNanos::from_unix_nanos(0),
        expires_at: UtcNanos::from_unix_nanos(1_000_000_000_000),
    }
}

fn uses(helper: &mut HelperCore, permit: &Permit, seconds: u64) -> Result<(), NotObeyed> {
    let finding = FindingId::of("rule", "host", &[0; 32]);
    let now = moment("a", seconds);
    helper.use_permit(&verified(permit), finding, Level::Critical, &now).map(|_| ())
}

/// A helper that knows nothing but what stood beside its memory.
fn after_a_loss(of: &HelperCore) -> HelperCore {
    let mut fresh = HelperCore::new("RJ1".parse().unwrap(), machine(), &moment("a", 50));
    fresh.meet(&of.floor());
    fresh
}

#[test]
fn a_used_permit_stays_used_though_the_memory_is_lost() {
    let mut helper = helper(ClinicalTier::None);
    uses(&mut helper, &permit(1), 1).unwrap();
    let mut fresh = after_a_loss(&helper);
    fresh.assign(&verified(&assignment(1, ClinicalTier::None))).unwrap();
    assert_eq!(uses(&mut fresh, &permit(1), 51), Err(NotObeyed::Used));
    assert_eq!(uses(&mut fresh, &permit(2), 51), Ok(()), "another is good");
}

#[test]
fn a_permit_that_was_forgotten_as_expired_does_not_look_young_again() {
    let mut helper = helper(ClinicalTier::None);
    uses(&mut helper, &permit(1), 1).unwrap();
    obey(&mut helper, &order(1, Instruction::Release), 2);
    let issued_at = UtcNanos::from_unix_nanos(20_000_000_000_000);
    let expires_at = UtcNanos::from_unix_nanos(90_000_000_000_000);
    let later = Permit { issued_at, expires_at, ..permit(2) };
    let now = Moment { utc: issued_at, ..moment("a", 3) };
    let finding = FindingId::of("rule", "host", &[0; 32]);
    helper.use_permit(&verified(&later), finding, Level::Critical, &now).unwrap();
    assert!(!helper.has_used(permit(1).id), "expired, and forgotten");
    // The memory is lost, and the clock is set back.
    let mut fresh = after_a_loss(&helper);
    fresh.assign(&verified(&assignment(1, ClinicalTier::None))).unwrap();
    assert_eq!(uses(&mut fresh, &permit(1), 51), Err(NotObeyed::Expired));
}

#[test]
fn used_codes_stay_used_though_their_document_is_given_again() {
    let mut helper = helper(ClinicalTier::None);
    helper.take_codes(&verified(&document(3))).unwrap();
    obey(&mut helper, &order(1, isolate(Isolation::Full)), 1);
    assert_eq!(try_code(&mut helper, HASHES[0], 2), Ok(1));
    let mut fresh = after_a_loss(&helper);
    fresh.assign(&verified(&assignment(1, ClinicalTier::None))).unwrap();
    let old = NotObeyed::OldRevision { revision: 2, held: 3 };
    assert_eq!(fresh.take_codes(&verified(&document(2))), Err(old));
    fresh.take_codes(&verified(&document(3))).unwrap();
    obey(&mut fresh, &order(2, isolate(Isolation::Full)), 51);
    assert_eq!(try_code(&mut fresh, HASHES[0], 52), Err(NotOpened::Used { code: 1 }));
    assert_eq!(try_code(&mut fresh, HASHES[1], 53), Ok(2));
    // Lost once more: both.
    let mut again = after_a_loss(&fresh);
    assert_eq!(again.floor(), fresh.floor());
    again.take_codes(&verified(&document(4))).unwrap();
    assert_eq!(again.glass().used, BTreeSet::new(), "new codes are good");
}

#[test]
fn a_memory_with_older_codes_than_the_floor_opens_by_none_of_them() {
    let mut behind = helper(ClinicalTier::None);
    behind.take_codes(&verified(&document(1))).unwrap();
    let mut ahead = behind.clone();
    ahead.take_codes(&verified(&document(2))).unwrap();
    obey(&mut ahead, &order(1, isolate(Isolation::Full)), 1);
    try_code(&mut ahead, HASHES[1], 2).unwrap();
    behind.meet(&ahead.floor());
    obey(&mut behind, &order(2, isolate(Isolation::Full)), 3);
    assert_eq!(try_code(&mut behind, HASHES[0], 4), Err(NotOpened::NoCodes));
    let other = BreakGlass { hold_off_seconds: 5, ..document(1) };
    assert!(behind.take_codes(&verified(&other)).is_err());
    behind.take_codes(&verified(&document(2))).unwrap();
    assert_eq!(try_code(&mut behind, HASHES[1], 5), Err(NotOpened::Used { code: 2 }));
}

#[test]
fn an_older_assignment_does_not_come_back_and_the_newest_is_taken_again() {
    let mut helper = helper(ClinicalTier::None);
    helper.assign(&verified(&assignment(2, ClinicalTier::Clinical))).unwrap();
    let mut fresh = after_a_loss(&helper);
    let old = NotObeyed::OldRevision { revision: 1, held: 2 };
    let mut take = |revision, tier| fresh.assign(&verified(&assignment(revision, tier)));
    assert_eq!(take(1, ClinicalTier::None), Err(old));
    assert_eq!(take(2, ClinicalTier::Clinical), Ok(vec![]));
    assert_eq!(fresh.floor().marks.revisions.assignment, 2);
}

#[test]
fn of_memory_and_floor_the_stricter_counts_whichever_is_behind() {
    let mut ahead = helper(ClinicalTier::None);
    uses(&mut ahead, &permit(1), 1).unwrap();
    obey(&mut ahead, &order(7, Instruction::Release), 2);
    let all = ahead.floor();
    ahead.meet(&Floor::default());
    assert_eq!(ahead.floor(), all, "a floor of an earlier version takes nothing away");
    let mut fresh = helper(ClinicalTier::None);
    fresh.meet(&all);
    assert_eq!(fresh.floor(), all);
    assert_eq!(
        fresh.order(&verified(&order(7, isolate(Isolation::Full))), &moment("a", 60)),
        Err(NotObeyed::Stale { sequence: 7, last: 7 })
    );
}
