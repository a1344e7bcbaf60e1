//! What people said no to is not asked again until something new is found, whoever was asked what beside it.

use super::asking::{OPEN_FOR, isolate, of_process, two_people};
use super::*;

/// Two open questions: whether to segment the machine, and the same with the end of a process.
fn asked_for_a_part_and_for_all(change: impl FnOnce(&mut Policy)) -> (Bench, [ApprovalId; 2]) {
    let mut bench = Bench::with(1, |policy| {
        policy.responses[0].also = vec![ActionKind::Kill];
        change(policy);
    });
    bench.find(1);
    bench.report(1, of_process(7));
    let asked: Vec<(ApprovalId, usize)> =
        bench.open().iter().map(|open| (open.id, open.also.len())).collect();
    let [(part, 0), (all, 1)] = asked[..] else { panic!("{asked:?}") };
    bench.seconds += 1;
    (bench, [part, all])
}

impl Bench {
    /// The signer refuses what is proposed next of its machine, and is not asked for what comes after yet.
    fn next_is_refused(&mut self) {
        let proposal = self.hub.next_proposals().next().unwrap();
        let (now, id) = (self.now(), proposal.id);
        let refusal = self.signer.sign(&proposal, &now, &mut || [9; 16]).unwrap_err();
        self.dice += 1;
        let dice = self.dice;
        drop(self.hub.signer_answered(id, Err(refusal), &now, &mut || [dice; 16]));
    }

    fn said_by(&mut self, name: &str, is_approved: bool, question: ApprovalId) {
        let (now, person) = (self.now(), Approver { name: name.into(), is_clinical: false });
        self.dice += 1;
        let dice = self.dice;
        let mut bytes = [dice; 16];
        let mut each = || {
            bytes[0] = bytes[0].wrapping_add(1);
            bytes
        };
        let said = Identity::Session;
        drop(self.hub.answer(question, &person, said, is_approved, "", &now, &mut each).unwrap());
        self.seconds += 1;
    }

    /// The signer has heard of a policy that needs more people, and the hub has not yet.
    fn signer_is_stricter(&mut self) {
        let mut stricter = (*self.policy).clone();
        two_people(&mut stricter);
        self.signer.set_policy(stricter).unwrap();
    }
}

#[test]
fn of_one_yes_that_is_refused_bit_by_bit_people_are_asked_once_and_their_no_holds() {
    let mut bench = Bench::with(1, |policy| policy.responses[0].also = vec![ActionKind::Kill]);
    bench.report(1, of_process(7));
    let question = bench.open()[0].id;
    bench.signer_is_stricter();
    bench.said_by("ann", true, question);
    bench.next_is_refused();
    let [again] = bench.open()[..] else { panic!("it does not lie unread: {:?}", bench.open()) };
    let again = again.id;
    assert_ne!(again, question);
    bench.said_by("bob", false, again);
    // The rest of Ann's yes is answered only now.
    bench.next_is_refused();
    assert!(bench.open().is_empty(), "bob said no to all of it: {:?}", bench.open());
    assert!(bench.hub.next_proposals().next().is_none());
}

#[test]
fn what_people_said_no_to_is_not_asked_again_because_nobody_answered_less() {
    let (mut bench, [_, all]) = asked_for_a_part_and_for_all(|_| ());
    bench.said_by("bob", false, all);
    bench.ticks_after(OPEN_FOR);
    // Who would have neither isolated nor ended anything has answered whether to isolate.
    assert!(bench.open().is_empty(), "{:?}", bench.open());
}

#[test]
fn silence_is_no_yes_to_what_people_said_no_to() {
    let (mut bench, [_, all]) = asked_for_a_part_and_for_all(|policy| {
        policy.approval.unanswered = Unanswered::Segment;
    });
    bench.said_by("bob", false, all);
    bench.ticks_after(OPEN_FOR);
    assert!(bench.order(1).is_none() && bench.hub.next_proposals().next().is_none());
}

#[test]
fn what_nobody_said_no_to_is_asked_again() {
    // The no was to less: nobody has said anything of the process.
    let (mut bench, [part, _]) = asked_for_a_part_and_for_all(|_| ());
    bench.said_by("bob", false, part);
    bench.ticks_after(OPEN_FOR);
    assert_eq!(bench.open().len(), 1, "{:?}", bench.open());
    // A yes is later than the no.
    let (mut bench, [part, all]) = asked_for_a_part_and_for_all(|_| ());
    bench.said_by("bob", false, all);
    bench.signer_is_stricter();
    bench.said_by("ann", true, part);
    bench.next_is_refused();
    let [again] = bench.open()[..] else { panic!("{:?}", bench.open()) };
    assert_eq!((&again.instruction, again.also.len()), (&isolate(), 0));
    // Something new was found since.
    let (mut bench, [_, all]) = asked_for_a_part_and_for_all(|_| ());
    bench.said_by("bob", false, all);
    bench.find_more(1, &["attack.lateral-movement"], Level::High);
    bench.ticks_after(OPEN_FOR);
    assert_eq!(bench.open().len(), 1, "{:?}", bench.open());
}
