//! What a finding may be left to: nothing that the signer may refuse with nobody asked again, nothing that is about to
//! end, and nothing that has ended.

use super::asking::{OPEN_FOR, isolate};
use super::*;

/// What ann wishes for, on its way to the signer.
fn wished(bench: &mut Bench, instruction: Instruction) -> Vec<Output> {
    let people = vec![Approver { name: "ann".into(), is_clinical: false }];
    let proposal = Proposal {
        id: OrderId::new(bench.now().utc, [66; 10]),
        machine: machine(1),
        instruction,
        basis: Basis::People { approval: None, people },
        incident: None,
        reason: "a test".into(),
    };
    bench.hub.propose_this(proposal)
}

#[test]
fn no_finding_is_left_to_a_wish_that_the_signer_may_refuse() {
    let mut bench = Bench::with(1, |_| ());
    let outputs = wished(&mut bench, isolate());
    bench.find(1);
    assert_eq!(bench.open().len(), 1);
    // Once it is signed and shown, nobody has to answer.
    bench.carry(outputs);
    let order = bench.take(1);
    bench.receipt(1, order.id.into(), Origin::Order(order.id), MeasureState::Verified);
    assert!(bench.open().is_empty());
}

#[test]
fn what_a_wish_has_done_just_before_is_no_news_that_nothing_was_blocked() {
    let mut bench = Bench::new(1);
    let outputs = wished(&mut bench, isolate());
    bench.find(1);
    bench.carry(outputs);
    let is_told = |output: &Output| matches!(output, Output::Tell(Notice::NotBlocked { .. }));
    assert!(bench.order(1).is_some() && bench.hub.next_proposals().next().is_none());
    assert!(!bench.outputs.iter().any(is_told), "{:?}", bench.outputs);
}

#[test]
fn what_is_in_force_for_a_moment_still_answers_no_question_of_after_the_release() {
    let mut bench = Bench::with(1, |_| ());
    bench.wish(1, isolate());
    let order = bench.take(1);
    bench.release(1);
    bench.find(1);
    assert_eq!(bench.open().len(), 1);
    bench.receipt(1, order.id.into(), Origin::Order(order.id), MeasureState::Verified);
    assert_eq!(bench.open().len(), 1, "it is released in a moment");
}

#[test]
fn what_is_in_force_for_a_moment_still_answers_no_question_of_after_a_milder_isolation() {
    let mut bench = Bench::with(1, |_| ());
    let lease = bench.policy.lease;
    bench.wish(1, isolate());
    let order = bench.take(1);
    bench.wish(1, Instruction::isolate(Isolation::Watch, lease));
    bench.find(1);
    assert_eq!(bench.open().len(), 1);
    bench.receipt(1, order.id.into(), Origin::Order(order.id), MeasureState::Verified);
    assert_eq!(bench.open().len(), 1, "it is only watched in a moment");
}

#[test]
fn no_finding_is_left_to_an_isolation_in_whose_place_a_milder_one_was_signed() {
    let mut bench = Bench::with(1, |_| ());
    let lease = bench.policy.lease;
    bench.wish(1, Instruction::isolate(Isolation::Full, lease));
    let order = bench.take(1);
    bench.receipt(1, order.id.into(), Origin::Order(order.id), MeasureState::Verified);
    bench.wish(1, Instruction::isolate(Isolation::Watch, lease));
    assert_eq!(bench.hub.intended(machine(1)), Some(Isolation::Watch));
    bench.find(1);
    assert_eq!(bench.open().len(), 1);
}

#[test]
fn no_finding_is_left_to_what_was_held_before_a_code_opened_the_machine() {
    let mut bench = Bench::new(1);
    let measure = bench.isolated(1);
    bench.says(1, Bench::holds(measure));
    let life = bench.hub.measure(measure).unwrap();
    let mut receipt = life.receipt.clone().unwrap();
    receipt.state = MeasureState::Superseded;
    receipt.boot = bench.hub.machines[&machine(1)].boot.clone().unwrap();
    receipt.at_boot = BootNanos(u64::MAX);
    bench.report(1, Arrived::Receipt(receipt));
    assert_eq!(bench.hub.intended(machine(1)), None);
}

#[test]
fn what_is_found_after_people_wished_to_release_is_asked_whatever_was_asked_before() {
    let mut bench = Bench::with(1, |_| ());
    bench.find(1);
    let before = bench.open()[0].id;
    let outputs = wished(&mut bench, Instruction::Release);
    // The hub's clock is set back: no time tells which came first.
    bench.seconds = bench.seconds.saturating_sub(60);
    bench.find(1);
    bench.carry(outputs);
    let [after] = bench.open()[..] else { panic!("{:?}", bench.open()) };
    assert_ne!(after.id, before);
}

/// What came in another story while people were asked waits for the signer's answer too.
#[test]
fn what_came_beside_is_not_dropped_for_what_the_signer_may_refuse() {
    let mut bench = Bench::with(2, |policy| policy.approval.unanswered = Unanswered::Segment);
    bench.find(1);
    bench.seconds += 3_601;
    bench.find(1);
    let [open] = bench.open()[..] else { panic!("{:?}", bench.open()) };
    assert_eq!(open.since.len(), 1, "of another story");
    // Nobody answers, and the signer lets the policy isolate no machine that may be the last of its kind.
    bench.ticks_after(OPEN_FOR - 3_601);
    assert!(bench.order(1).is_none());
    let [again] = bench.open()[..] else { panic!("{:?}", bench.open()) };
    assert_eq!(again.since.len(), 1, "{again:?}");
}

/// While the signer has not answered what is to follow of nobody's answer, another story begins on the machine.
#[test]
fn no_finding_of_another_story_is_left_to_what_follows_of_nobodys_answer() {
    let mut bench = Bench::with(2, |policy| policy.approval.unanswered = Unanswered::Segment);
    bench.find(1);
    let first = bench.open()[0].incident;
    bench.seconds += OPEN_FOR;
    let now = bench.now();
    let proposed = bench.hub.tick(&now, &mut || [97; 16]);
    bench.find(1);
    // The signer refuses it: the machine may be the last of its kind. Then the first story is closed.
    bench.carry(proposed);
    let now = bench.now();
    let closed = bench.hub.close(first.unwrap(), "ann", "a test", &now, &mut || [98; 16]);
    bench.carry(closed);
    let [left] = bench.open()[..] else { panic!("{:?}", bench.open()) };
    assert_ne!(left.incident, first);
}

/// The same while it has not answered people's yes.
#[test]
fn no_finding_of_another_story_is_left_to_a_yes_that_the_signer_has_not_answered() {
    let mut bench = Bench::with(1, |_| ());
    bench.find(1);
    let (question, first) = (bench.open()[0].id, bench.open()[0].incident);
    bench.seconds += 3_601;
    let (now, ann) = (bench.now(), Approver { name: "ann".into(), is_clinical: false });
    let said = Identity::Session;
    drop(bench.hub.answer(question, &ann, said, true, "yes", &now, &mut || [97; 16]).unwrap());
    assert!(bench.open().is_empty(), "approved, and on its way to the signer");
    bench.find(1);
    let [asked] = bench.open()[..] else { panic!("{:?}", bench.open()) };
    assert_ne!(asked.incident, first);
}
