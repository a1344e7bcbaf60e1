//! What a finding may be left to: nothing that the signer may refuse with nobody asked again, nothing that is about to
//! end, and nothing that has ended.

use std::iter;

use cordon_model::policy::Response;

use super::again::of_rule;
use super::asking::{OPEN_FOR, isolate};
use super::*;

/// In mode act, and the signer asks about each isolation by the policy: its budget is spent.
fn spent() -> Bench {
    Bench::with(1, |policy| {
        policy.mode = Mode::Act;
        policy.budget.count = 0;
    })
}

impl Bench {
    fn closes(&mut self, incident: Option<IncidentId>) -> Vec<Output> {
        let now = self.now();
        self.dice = self.dice.wrapping_add(1);
        let dice = self.dice;
        self.hub.close(incident.unwrap(), "ann", "a test", &now, &mut || [dice; 16])
    }

    /// The words of all open questions.
    fn words(&self) -> Vec<&str> {
        self.open().iter().map(|open| open.why.as_str()).collect()
    }

    fn in_story(&self, incident: Option<IncidentId>) -> bool {
        self.open().iter().any(|open| open.incident == incident)
    }
}

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

/// The wish to open the machine waits for the signer still: what was found since is asked about, whatever the signer
/// makes of the wish.
#[test]
fn what_is_in_force_answers_no_question_while_a_wish_that_opens_waits_for_the_signer() {
    let mut bench = Bench::with(1, |_| ());
    let lease = bench.policy.lease;
    for opens in [Instruction::Release, Instruction::isolate(Isolation::Watch, lease)] {
        let mut bench = Bench::with(1, |_| ());
        bench.wish(1, isolate());
        let order = bench.take(1);
        let outputs = wished(&mut bench, opens.clone());
        bench.find(1);
        assert_eq!(bench.open().len(), 1, "{opens}");
        bench.receipt(1, order.id.into(), Origin::Order(order.id), MeasureState::Verified);
        assert_eq!(bench.open().len(), 1, "{opens} is signed in a moment");
        bench.carry(outputs);
        assert_eq!(bench.open().len(), 1, "nobody was asked about it before {opens}");
    }
    // Refused, it opens nothing: nobody has to answer.
    bench.wish(1, isolate());
    let order = bench.take(1);
    drop(wished(&mut bench, Instruction::Release));
    bench.find(1);
    bench.receipt(1, order.id.into(), Origin::Order(order.id), MeasureState::Verified);
    assert_eq!(bench.open().len(), 1);
    let now = bench.now();
    let refused = Err(Refusal::Terms("a test".into()));
    bench.hub.signer_answered(OrderId::new(now.utc, [66; 10]), refused, &now, &mut || [7; 16]);
    let every = bench.policy.approval.remind_seconds;
    bench.ticks_after(1);
    bench.ticks_after(every.into());
    assert!(bench.open().is_empty(), "{:?}", bench.open());
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

/// The machine's clock is at its beginning: what it closes now has an older id than all that was closed before.
#[test]
fn what_a_machine_closes_now_is_not_forgotten_for_the_time_in_its_id() {
    let mut bench = Bench::new(1);
    let code = Origin::BreakGlass { revision: 1, code: 1 };
    for number in 1..=20 {
        let before = MeasureId::new(bench.now().utc, [number; 10]);
        bench.receipt(1, before, code, MeasureState::Released);
    }
    let measure = MeasureId::new(UtcNanos::from_unix_nanos(0), [1; 10]);
    bench.receipt(1, measure, Origin::LeaseEnd(measure), MeasureState::Verified);
    bench.says(1, Bench::holds(measure));
    assert_eq!(bench.hub.intended(machine(1)), Some(Isolation::Segment));
    let mut receipt = bench.hub.measure(measure).unwrap().receipt.clone().unwrap();
    receipt.state = MeasureState::Superseded;
    receipt.boot = bench.hub.machines[&machine(1)].boot.clone().unwrap();
    receipt.at_boot = BootNanos(u64::MAX);
    bench.report(1, Arrived::Receipt(receipt));
    assert_eq!(bench.hub.intended(machine(1)), None, "a code opened it");
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

/// Two rules match in one message, and the signer has not answered the second when people are asked about the first.
#[test]
fn what_the_signer_has_not_answered_is_in_the_words_of_what_is_asked_and_the_worst_first() {
    let mut bench = spent();
    let mild = of_rule("mild", 1, Level::High);
    let outputs = bench.hears_all(1, [mild, of_rule("worse", 2, Level::Critical)]);
    bench.carry(outputs);
    let [open] = bench.open()[..] else { panic!("{:?}", bench.open()) };
    let at = |what| open.why.find(what);
    assert!(at("rule worse").is_some() && at("rule worse") < at("rule mild"), "{}", open.why);
    assert_eq!((open.level, open.since.len()), (Some(Level::Critical), 0), "{open:?}");
    // Her no to that covers all.
    let question = open.id;
    bench.said_by("ann", false, question);
    bench.report(1, of_rule("mild", 3, Level::High));
    bench.report(1, of_rule("worse", 4, Level::Critical));
    assert!(bench.open().is_empty(), "{:?}", bench.open());
}

/// She says no before the signer has answered about the others: she has read of all of them.
#[test]
fn a_no_that_is_quicker_than_the_signer_covers_what_it_was_said_to_and_is_not_asked_again() {
    let mut bench = spent();
    let rules = ["one", "two", "three"].map(|id| of_rule(id, id.len() as u8, Level::High));
    drop(bench.hears_all(1, rules));
    bench.next_is_refused();
    let [why] = bench.words()[..] else { panic!("{:?}", bench.open()) };
    let names = |id| why.matches(id).count();
    assert_eq!(["rule one", "rule two", "rule three"].map(names), [1, 1, 1], "{why}");
    let question = bench.open()[0].id;
    bench.next_is_refused();
    bench.said_by("ann", false, question);
    bench.next_is_refused();
    bench.ticks_after(1);
    assert!(bench.open().is_empty(), "{:?}", bench.open());
    // What she has not read of is asked.
    bench.report(1, of_rule("four", 9, Level::High));
    assert!(matches!(bench.words()[..], [why] if why.contains("rule four")), "{:?}", bench.open());
}

/// Of more than people read the rest is counted, in the question and in the no.
#[test]
fn of_many_proposals_that_wait_the_first_are_named_and_the_others_counted() {
    let mut bench = spent();
    let number = 1..=6;
    let rules = number.map(|number| of_rule(&format!("r{number}"), number, Level::High));
    drop(bench.hears_all(1, rules));
    bench.next_is_refused();
    let [why] = bench.words()[..] else { panic!("{:?}", bench.open()) };
    assert!(why.contains("rule r2") && why.contains("rule r4 (high); and 2 more"), "{why}");
}

/// People are asked at once about the one, and the signer has not answered about the other: a no to both is one, and the
/// first, found again, is not asked again.
#[test]
fn what_is_asked_at_once_names_what_waits_for_the_signer() {
    let mut bench = Bench::with(1, |policy| {
        policy.mode = Mode::Act;
        policy.budget.count = 0;
        let asks = policy.responses[0].clone();
        policy
            .responses
            .insert(0, Response { level_at_least: Level::Critical, by_itself: false, ..asks });
    });
    let both = [of_rule("one", 1, Level::High), of_rule("two", 2, Level::Critical)];
    drop(bench.hears_all(1, both));
    let [why] = bench.words()[..] else { panic!("{:?}", bench.open()) };
    assert!(why.contains("rule one") && why.contains("rule two"), "{why}");
    let question = bench.open()[0].id;
    bench.said_by("ann", false, question);
    bench.report(1, of_rule("two", 3, Level::Critical));
    assert!(bench.open().is_empty(), "{:?}", bench.open());
    bench.next_is_refused();
    bench.ticks_after(1);
    assert!(bench.open().is_empty(), "{:?}", bench.open());
}

/// She says no while a third thing waits for the signer, and with it what came beside her question: both are asked
/// together.
#[test]
fn what_came_beside_and_waits_for_the_signer_is_in_the_words_of_what_is_asked_then() {
    let mut bench = spent();
    bench.report(1, of_rule("one", 1, Level::High));
    let question = bench.open()[0].id;
    bench.report(1, of_rule("two", 2, Level::High));
    drop(bench.hears_of(1, of_rule("three", 3, Level::High)));
    bench.said_by("ann", false, question);
    assert!(bench.open().is_empty(), "it waits: {:?}", bench.open());
    bench.next_is_refused();
    let [why] = bench.words()[..] else { panic!("{:?}", bench.open()) };
    assert!(why.contains("rule two") && why.contains("rule three"), "{why}");
    bench.ticks_after(1);
    let [open] = bench.open()[..] else { panic!("{:?}", bench.open()) };
    assert!(open.since.is_empty(), "{open:?}");
    let question = open.id;
    bench.said_by("ann", false, question);
    bench.ticks_after(1);
    assert!(bench.open().is_empty(), "{:?}", bench.open());
}

/// So many rules match in one message of another story while she is asked, and the signer asks about each of them.
fn came_at_once(count: u8) -> (Bench, ApprovalId) {
    let mut bench = spent();
    bench.report(1, of_rule("first", 1, Level::High));
    let question = bench.open()[0].id;
    bench.seconds += 3_601;
    let rules = (1..=count).map(|number| of_rule(&format!("r{number}"), 1 + number, Level::High));
    let outputs = bench.hears_all(1, rules);
    bench.carry(outputs);
    (bench, question)
}

#[test]
fn what_comes_beside_in_one_moment_is_all_in_the_words_of_what_is_asked_then() {
    let (mut bench, question) = came_at_once(2);
    bench.said_by("ann", false, question);
    let [why] = bench.words()[..] else { panic!("{:?}", bench.open()) };
    assert!(why.contains("rule r1") && why.contains("rule r2"), "{why}");
    // Her no to that covers both.
    let question = bench.open()[0].id;
    bench.said_by("ann", false, question);
    bench.report(1, of_rule("r2", 9, Level::High));
    bench.ticks_after(1);
    assert!(bench.open().is_empty(), "{:?}", bench.open());
}

/// A rule that matches again and again is said once, and is not kept anew each time.
#[test]
fn of_many_that_come_beside_there_are_more_and_no_repetition_is_news() {
    let (mut bench, question) = came_at_once(4);
    let since = |bench: &Bench| bench.hub.approval(question).unwrap().since.clone();
    let before = since(&bench);
    let [came] = &before[..] else { panic!("{before:?}") };
    assert!(came.in_words().contains("rule r3 (high); and 1 more"), "{}", came.in_words());
    for number in 1..=4 {
        bench.report(1, of_rule(&format!("r{number}"), 20 + number, Level::High));
    }
    assert_eq!(since(&bench), before);
    // What is more serious than all of it is said all the same.
    let worse = [of_rule("worse", 30, Level::Critical), of_rule("worst", 31, Level::Critical)];
    let outputs = bench.hears_all(1, worse);
    bench.carry(outputs);
    let came = since(&bench)[0].in_words();
    assert!(came.contains("rule worse"), "{came}");
}

/// Her yes is on its way to the signer, and what came while she was asked with it.
#[test]
fn what_came_beside_a_yes_that_is_on_its_way_is_in_the_words_of_what_is_asked_meanwhile() {
    let mut bench = Bench::with(1, |_| ());
    bench.report(1, of_rule("one", 1, Level::High));
    let question = bench.open()[0].id;
    bench.report(1, of_rule("two", 2, Level::High));
    bench.said_by("ann", true, question);
    bench.report(1, of_rule("three", 3, Level::High));
    let [why] = bench.words()[..] else { panic!("{:?}", bench.open()) };
    assert!(why.contains("rule two") && why.contains("rule three"), "{why}");
}

/// What the signer refuses beside a proposal of another story, which is closed meanwhile.
#[test]
fn no_finding_of_another_story_is_left_to_what_the_policy_has_only_proposed() {
    let mut bench = spent();
    let mut proposed = bench.hears_of(1, of_rule("one", 1, Level::High));
    let first = bench.hub.incidents().next().map(|of| of.id);
    bench.seconds += 3_601;
    proposed.extend(bench.hears_of(1, of_rule("two", 2, Level::High)));
    proposed.extend(bench.closes(first));
    bench.carry(proposed);
    assert!(bench.words().iter().any(|why| why.contains("rule two")), "{:?}", bench.open());
}

/// One is signed and the others need not be: people hear nothing of it.
#[test]
fn what_one_order_does_for_several_findings_is_done_once_and_asked_of_nobody() {
    let mut bench = Bench::new(1);
    let outputs =
        bench.hears_all(1, [of_rule("one", 1, Level::High), of_rule("two", 2, Level::High)]);
    bench.carry(outputs);
    let is_told = |output: &Output| matches!(output, Output::Tell(_));
    assert_eq!(bench.hub.orders().count(), 1);
    assert!(bench.open().is_empty() && !bench.outputs.iter().any(is_told), "{:?}", bench.outputs);
}

/// The same where the machine would lose its hub: it is segmented once, and for the rest of both people are asked.
#[test]
fn for_the_rest_of_all_that_was_found_people_are_asked() {
    let mut bench = Bench::with(1, |policy| {
        policy.mode = Mode::Act;
        policy.responses[0].isolation = Isolation::Full;
    });
    bench.covered(machine(1), 1, &super::out_of_reach::way(true));
    let outputs =
        bench.hears_all(1, [of_rule("one", 1, Level::High), of_rule("two", 2, Level::High)]);
    bench.carry(outputs);
    assert_eq!(bench.hub.orders().count(), 1);
    let [open] = bench.open()[..] else { panic!("{:?}", bench.open()) };
    assert!(open.why.contains("rule one") && open.why.contains("rule two"), "{}", open.why);
    let question = open.id;
    bench.said_by("ann", false, question);
    bench.ticks_after(1);
    assert!(bench.open().is_empty(), "{:?}", bench.open());
}

/// A second story's proposal waits while the first one's question falls due: that is not withdrawn for it.
#[test]
fn no_question_is_withdrawn_for_what_the_policy_has_only_proposed() {
    for expires in [false, true] {
        let mut bench = spent();
        bench.report(1, of_rule("one", 1, Level::High));
        let first = bench.open()[0].incident;
        bench.seconds += 3_601;
        let proposed = bench.hears_of(1, of_rule("two", 2, Level::High));
        bench.seconds += if expires { OPEN_FOR } else { 901 };
        let now = bench.now();
        // The signer is away: nothing of what it is told now is answered.
        drop(bench.hub.tick(&now, &mut || [99; 16]));
        assert!(bench.in_story(first), "{:?}", bench.open());
        bench.carry(proposed);
        let second = bench.open().iter().find(|open| open.incident != first).map(|open| open.id);
        if let Some(second) = second {
            bench.said_by("ann", false, second);
        }
        assert!(bench.in_story(first), "{:?}", bench.open());
    }
}

/// The signer signs neither what people said yes to nor what the policy proposes of another story after that.
#[test]
fn no_yes_is_forgotten_for_what_the_policy_has_only_proposed() {
    let (mut bench, first, _) = said_yes();
    drop(bench.hears_of(1, of_rule("two", 2, Level::High)));
    bench.signer_is_stricter();
    bench.next_is_refused();
    assert!(bench.in_story(first), "{:?}", bench.open());
    bench.next_is_refused();
    let asked = bench.words().join(" ");
    assert!(bench.in_story(first) && asked.contains("rule one"), "{asked}");
    let question = bench.open()[0].id;
    bench.said_by("ann", false, question);
    assert!(bench.words().iter().any(|why| why.contains("rule two")), "{:?}", bench.open());
}

/// The budget is spent, people are asked, more than an hour later about another story as well, and say yes: that is on
/// its way to the signer. With it: the two stories.
fn said_yes() -> (Bench, Option<IncidentId>, Option<IncidentId>) {
    let mut bench = spent();
    bench.report(1, of_rule("one", 1, Level::High));
    let (question, first) = (bench.open()[0].id, bench.open()[0].incident);
    bench.seconds += 3_601;
    bench.report(1, of_rule("beside", 3, Level::High));
    let [open] = bench.open()[..] else { panic!("{:?}", bench.open()) };
    let beside = open.since[0].incident;
    bench.said_by("ann", true, question);
    (bench, first, beside)
}

/// Whoever says yes closes the story often. What was found in another one is not done then.
#[test]
fn what_came_beside_is_asked_where_the_signer_refuses_the_yes_of_a_closed_story() {
    let (mut bench, first, beside) = said_yes();
    drop(bench.closes(first));
    bench.signer_is_stricter();
    bench.next_is_refused();
    assert!(bench.in_story(beside), "{:?}", bench.open());
}

/// The same where a third story's proposal waits meanwhile, also over a restart of the hub.
#[test]
fn what_came_beside_a_refused_yes_waits_for_the_next_answer_and_is_asked_then() {
    let (mut bench, first, beside) = said_yes();
    bench.seconds += 3_601;
    drop(bench.hears_of(1, of_rule("three", 4, Level::High)));
    drop(bench.closes(first));
    bench.signer_is_stricter();
    bench.next_is_refused();
    let question = bench.hub.approvals().find(|of| of.incident == first).unwrap().clone();
    assert!(question.is_in_vain && question.since.len() == 1, "{question:?}");
    bench
        .hub
        .approvals
        .put(serde_json::from_value(serde_json::to_value(question).unwrap()).unwrap());
    bench.next_is_refused();
    bench.ticks_after(1);
    let [open] = bench.open()[..] else { panic!("{:?}", bench.open()) };
    assert!(open.since.iter().any(|came| came.incident == beside), "{open:?}");
}

/// People's release waits, or a milder isolation: what the policy would do besides isolating is asked all the same.
#[test]
fn what_would_be_done_besides_is_not_left_to_a_wish_that_opens() {
    let mut bench = Bench::with(1, |policy| {
        policy.mode = Mode::Act;
        policy.budget.count = 1;
        policy.responses[0].also = vec![ActionKind::Freeze];
    });
    bench.report(1, of_rule("one", 1, Level::High));
    let order = bench.take(1);
    bench.receipt(1, order.id.into(), Origin::Order(order.id), MeasureState::Verified);
    let (asked, lease) = (bench.open().len(), bench.policy.lease);
    let proposed = bench.hears_of(1, of_rule("two", 2, Level::High));
    let wish = wished(&mut bench, Instruction::isolate(Isolation::Watch, lease));
    assert!(wish.iter().all(|output| matches!(output, Output::Keep(_))), "it waits: {wish:?}");
    bench.next_is_refused();
    drop(proposed);
    assert!(bench.open().len() > asked, "{:?}", bench.hub.approvals().collect::<Vec<_>>());
}

/// Two findings in one moment, and the budget is spent somewhere among what the policy would do about them: the second
/// isolation is nothing that people will be asked about. Each thing that is not done is asked about.
#[test]
fn what_would_be_done_besides_is_not_left_to_an_isolation_that_is_done_already() {
    let mut tried = Vec::new();
    for budget in 1..=6 {
        let mut bench = Bench::with(1, |policy| {
            policy.mode = Mode::Act;
            policy.budget.count = budget;
            policy.responses[0].also = vec![ActionKind::Freeze, ActionKind::Kill];
        });
        let found = [of_rule("one", 7, Level::High), of_rule("two", 8, Level::High)];
        let outputs = bench.hears_all(1, found);
        bench.carry(outputs);
        let open = bench.open();
        if open.iter().any(|open| open.instruction.isolation().is_some()) {
            continue; // They are asked for what matters most, and once.
        }
        tried.push(budget);
        let asked = open.iter().flat_map(|open| iter::once(&open.instruction).chain(&open.also));
        let done = bench.hub.orders().map(|life| &life.order.instruction);
        let minded: Vec<(ActionKind, u32)> = asked.chain(done).filter_map(stops).collect();
        for each in
            [ActionKind::Freeze, ActionKind::Kill].map(|kind| [(kind, 7), (kind, 8)]).concat()
        {
            assert!(minded.contains(&each), "budget {budget}: {each:?} is in none of {minded:?}");
        }
    }
    assert!(tried.len() > 3, "{tried:?}");
}

/// What an instruction stops, and of which process.
fn stops(instruction: &Instruction) -> Option<(ActionKind, u32)> {
    match instruction {
        Instruction::Begin { action: action @ (Action::Freeze(of) | Action::Kill(of)), .. } => {
            Some((action.kind(), of.process.pid))
        }
        _ => None,
    }
}
