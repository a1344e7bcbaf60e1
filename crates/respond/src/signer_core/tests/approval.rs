//! Who has to agree, who may at night, and what is signed when nobody answers.

use cordon_model::approval::{NeedsMore, Night, Unanswered};
use cordon_model::ids::ApprovalId;

use super::*;

const DESK: Option<ClinicalTier> = Some(ClinicalTier::Supports);
const WARD: Option<ClinicalTier> = Some(ClinicalTier::Clinical);
const OPEN_FOR: u64 = 4 * 3600;

fn isolate() -> Instruction {
    Instruction::isolate(Isolation::Segment, LEASE)
}

fn question() -> ApprovalId {
    ApprovalId::new(UtcNanos::from_unix_nanos(0), [7; 10])
}

fn unanswered(number: u8, id: u8) -> Proposal {
    let finding = FindingId::of("r", "h", &[id; 32]);
    let basis = Basis::Unanswered { approval: question(), finding, level: Level::High };
    Proposal { basis, ..by_policy(number, id) }
}

impl Bench {
    fn with(tiers: &[Option<ClinicalTier>], change: impl FnOnce(&mut Policy)) -> Self {
        let mut bench = Self::new(tiers, None);
        let mut policy = bench.signer.policy().clone();
        policy.mode = Mode::Ask;
        change(&mut policy);
        bench.signer.set_policy(policy).unwrap();
        bench
    }

    fn asked(&mut self, number: u8, seconds: u64) {
        self.signer.asked(machine(number), question(), &moment("a", seconds));
    }
}

#[test]
fn a_tier_that_needs_two_by_policy_is_not_isolated_for_one() {
    let more = NeedsMore { tiers: vec![ClinicalTier::Supports], needs: Needs::TwoPeople };
    let mut bench = Bench::with(&[DESK], |policy| policy.approval.needs = vec![more]);
    let one = bench.sign(&by_people(1, 1, isolate(), &[("ann", false)]), 1);
    assert_eq!(one, Err(Refusal::NotEnoughPeople { needs: Needs::TwoPeople }));
    bench.sign(&by_people(1, 2, isolate(), &[("ann", false), ("bob", false)]), 1).unwrap();
    bench.sign(&by_people(1, 3, Instruction::Release, &[("ann", false)]), 1).unwrap();
}

#[test]
fn at_night_only_the_named_isolate_and_anybody_opens() {
    let night = Night {
        from: "00:00".into(),
        until: "23:59".into(),
        time_zone: "UTC".into(),
        tiers: vec![ClinicalTier::Clinical],
        people: vec!["cat".into()],
    };
    let mut bench = Bench::with(&[WARD, DESK], |policy| policy.approval.night = Some(night));
    let refused = bench.sign(&by_people(1, 1, isolate(), &[("ann", false)]), 1);
    assert!(matches!(refused, Err(Refusal::Night { .. })), "{refused:?}");
    let told = refused.unwrap_err().to_string();
    assert!(told.contains("cat"), "whom to wake: {told}");
    bench.sign(&by_people(2, 2, isolate(), &[("ann", false)]), 1).expect("another tier");
    bench.sign(&by_people(1, 3, isolate(), &[("cat", true)]), 1).unwrap();
    let ease = Instruction::ease(Isolation::Segment, LEASE);
    bench.sign(&by_people(1, 5, ease, &[("ann", false)]), 1).expect("it can only open");
    bench.sign(&by_people(1, 4, Instruction::Release, &[("ann", false)]), 1).unwrap();
}

#[test]
fn what_nobody_answered_is_signed_when_the_signers_own_clock_says_so() {
    let mut bench = Bench::with(&[DESK], |policy| policy.approval.unanswered = Unanswered::Segment);
    let refused = bench.sign(&unanswered(1, 1), OPEN_FOR);
    let never = Refusal::StillAsked { known_seconds: 0, open_for_seconds: OPEN_FOR as u32 };
    assert_eq!(refused, Err(never), "a question that the signer never heard of");
    bench.asked(1, 10);
    bench.asked(1, 5_000);
    let refused = bench.sign(&unanswered(1, 1), OPEN_FOR - 60);
    assert!(matches!(refused, Err(Refusal::StillAsked { .. })), "{refused:?}");
    bench.sign(&unanswered(1, 1), OPEN_FOR + 10).expect("told twice, it counts from the first");
}

#[test]
fn nothing_that_binds_mode_act_is_loosened_where_nobody_answers() {
    let segment = |policy: &mut Policy| policy.approval.unanswered = Unanswered::Segment;
    let late = OPEN_FOR + 10;
    let refused = |bench: &mut Bench, proposal: &Proposal| {
        bench.asked(1, 1);
        bench.sign(proposal, late).unwrap_err()
    };
    for tier in [WARD, None] {
        let refusal = refused(&mut Bench::with(&[tier], segment), &unanswered(1, 1));
        assert!(matches!(refusal, Refusal::Ask { .. }), "{tier:?}: {refusal:?}");
    }
    // A policy that would have it asked again.
    let refusal = refused(&mut Bench::with(&[DESK], |_| ()), &unanswered(1, 1));
    assert!(matches!(refusal, Refusal::Ask { why: AskReason::ModeIsAsk, .. }), "{refusal:?}");
    // One that only looks.
    let mut observing = Bench::with(&[DESK], |policy| {
        segment(policy);
        policy.mode = Mode::Observe;
    });
    let refusal = refused(&mut observing, &unanswered(1, 1));
    assert_eq!(refusal, Refusal::NothingToDo(WatchReason::Observing));
    // Further than segment.
    let full = Instruction::isolate(Isolation::Full, LEASE);
    let full = Proposal { instruction: full, ..unanswered(1, 1) };
    let refusal = refused(&mut Bench::with(&[DESK], segment), &full);
    assert_eq!(refusal, Refusal::NotThePolicys { would: Isolation::Segment });
    // The budget of two.
    let mut bench = Bench::with(&[DESK, DESK, DESK], segment);
    (1..=3).for_each(|number| bench.asked(number, 1));
    bench.sign(&unanswered(1, 1), late).unwrap();
    bench.sign(&unanswered(2, 2), late).unwrap();
    let refusal = bench.sign(&unanswered(3, 3), late).unwrap_err();
    assert!(matches!(refusal, Refusal::Ask { why: AskReason::BudgetSpent(_), .. }), "{refusal:?}");
}

#[test]
fn one_unanswered_question_is_one_order_and_not_for_ever() {
    let segment = |policy: &mut Policy| policy.approval.unanswered = Unanswered::Segment;
    let mut bench = Bench::with(&[DESK], segment);
    bench.asked(1, 1);
    bench.sign(&unanswered(1, 1), OPEN_FOR + 10).unwrap();
    bench.sign(&by_people(1, 2, Instruction::Release, &[("ann", false)]), OPEN_FOR + 11).unwrap();
    let again = bench.sign(&unanswered(1, 3), OPEN_FOR + 12);
    assert!(matches!(again, Err(Refusal::StillAsked { .. })), "{again:?}");
    // One that was kept for later.
    let mut bench = Bench::with(&[DESK], segment);
    bench.asked(1, 1);
    let banked = bench.sign(&unanswered(1, 1), 2 * OPEN_FOR + 10);
    assert!(matches!(banked, Err(Refusal::StillAsked { .. })), "{banked:?}");
}
