//! What a machine leaves alone because care needs it: people are asked at once, and once.

use super::*;
use cordon_model::finding::ProcessRef;

/// Mode `act`, and what runs is frozen and set aside, too; `isolation` is what else follows.
fn acting(isolation: Isolation) -> Bench {
    Bench::with(1, |policy| {
        policy.mode = Mode::Act;
        policy.budget.count = 50;
        policy.responses[0].isolation = isolation;
        policy.responses[0].also = vec![ActionKind::Freeze, ActionKind::Quarantine];
    })
}

/// A rule matched a start of a program that care needs.
fn viewer(number: u8) -> Arrived {
    let raw_sha256 = [number; 32];
    let rule =
        RuleRef { id: "rule".into(), title: "a rule".into(), level: Level::High, tags: vec![] };
    let process = ProcessRef {
        pid: 70 + u32::from(number),
        started: BootNanos(1),
        image: "/opt/viewer".into(),
    };
    let finding = Finding {
        id: FindingId::of("rule", "m1", &raw_sha256),
        rule,
        host: "m1".into(),
        time: UtcNanos::from_unix_nanos(i64::from(number) * 1_000_000),
        boot_time: None,
        process: Some(process),
        matched: vec![],
        raw: RawEvent { json: "{}".into(), is_cut: false },
        raw_sha256,
    };
    Arrived::Finding(Box::new(finding), vec![])
}

const WHY: &str = "refused: its program /opt/viewer is protected for care";

impl Bench {
    /// The newest order to do something of `kind`.
    fn ordered(&self, kind: ActionKind) -> Order {
        let is_it = |order: &&Order| matches!(&order.instruction, Instruction::Begin { action, .. } if action.kind() == kind);
        let orders = self.hub.orders().map(|life| &life.order).filter(is_it);
        orders.max_by_key(|order| order.sequence).expect("an order").clone()
    }

    /// The machine says what became of its newest order to do something of `kind`, and what it left alone.
    fn came(&mut self, kind: ActionKind, state: MeasureState, spared: &[&str]) -> MeasureId {
        let order = self.ordered(kind);
        let Instruction::Begin { action, .. } = order.instruction.clone() else { panic!() };
        let receipt = Receipt {
            machine: machine(1),
            measure: order.id.into(),
            origin: Origin::Order(order.id),
            action,
            proof: (state == MeasureState::Verified).then(proof),
            state,
            lease_ends: None,
            boot: BootId("m".into()),
            at_boot: BootNanos(0),
            at: UtcNanos::from_unix_nanos(0),
            sockets_cut: 0,
            done: vec![],
            spared: spared.iter().map(|line| (*line).to_owned()).collect(),
        };
        self.report(1, Arrived::Receipt(receipt));
        order.id.into()
    }

    fn refuses(&mut self, kind: ActionKind) -> MeasureId {
        self.came(kind, MeasureState::Failed { why: WHY.into() }, &[WHY])
    }

    fn asked_now(&self) -> Vec<&Approval> {
        self.hub.approvals().filter(|open| open.state == ApprovalState::Open).collect()
    }

    fn told_to_answer(&self, question: ApprovalId) -> usize {
        let is_it = |output: &&Output| **output == Output::Tell(Notice::Asked(question));
        self.outputs.iter().filter(is_it).count()
    }

    fn says_of(&mut self, question: ApprovalId, is_approved: bool) {
        let (now, person) = (self.now(), Approver { name: "ann".into(), is_clinical: false });
        self.dice = self.dice.wrapping_add(1);
        let dice = self.dice;
        let identity = Identity::Session;
        let mut dice = || [dice; 16];
        let answer = self.hub.answer(question, &person, identity, is_approved, "", &now, &mut dice);
        self.carry(answer.unwrap());
    }
}

#[test]
fn what_a_machine_does_not_stop_by_itself_for_care_is_asked_about_at_once_and_once() {
    let mut bench = acting(Isolation::Segment);
    bench.report(1, viewer(1));
    assert!(bench.asked_now().is_empty());
    let refused = bench.refuses(ActionKind::Freeze);
    let asked = bench.asked_now();
    assert_eq!(asked.len(), 1);
    let question = asked[0].clone();
    assert_eq!(bench.told_to_answer(question.id), 1);
    assert_eq!((question.refused, &question.asked_by), (Some(refused), &None));
    assert_eq!(question.needs, Needs::OnePerson);
    // It is segmented by itself; what people can do beside that is to cut it off further.
    assert_eq!(question.instruction.isolation(), Some(Isolation::Full));
    for said in [
        "did NOT freeze process 71 (/opt/viewer)",
        WHY,
        "Found: a rule (high)",
        "cordon assign",
        "cordon measure",
        "A yes cuts the machine off in full",
    ] {
        assert!(question.why.contains(said), "{said:?} is not in {}", question.why);
    }

    // The same finding, another thing that was not done; and another finding of the same story.
    bench.refuses(ActionKind::Quarantine);
    bench.report(1, viewer(2));
    bench.refuses(ActionKind::Freeze);
    assert_eq!(bench.asked_now().len(), 1, "asked once");

    // Like any other question it is withdrawn when what it asks for is in force…
    let full = Instruction::isolate(Isolation::Full, bench.policy.lease);
    bench.wish(1, full);
    bench.came(ActionKind::Isolate, MeasureState::Verified, &[]);
    assert!(bench.asked_now().is_empty(), "{:?}", bench.asked_now());
    let closed = bench.hub.approval(question.id).unwrap();
    assert_eq!(closed.withdrawn.as_deref(), Some("what it asks for is in force since"));
    // …and of what was found before, nothing is asked again.
    bench.refuses(ActionKind::Quarantine);
    let of_first = bench.hub.approvals().filter(|known| known.finding == question.finding);
    assert_eq!(of_first.count(), 1);
}

#[test]
fn what_is_left_alone_of_a_tree_that_is_frozen_is_asked_about_too() {
    let mut bench = acting(Isolation::Watch);
    bench.report(1, viewer(1));
    let left = "process 90 was left alone: its program /opt/viewer is protected for care";
    bench.came(ActionKind::Freeze, MeasureState::Verified, &[left]);
    let asked = bench.asked_now();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].instruction.isolation(), Some(Isolation::Segment), "it is open");
    assert!(asked[0].why.contains(left) && asked[0].why.contains("did not wholly"));
}

#[test]
fn a_machine_that_is_cut_off_in_full_is_asked_about_by_what_was_refused() {
    let mut bench = acting(Isolation::Full);
    bench.report(1, viewer(1));
    bench.refuses(ActionKind::Freeze);
    let freeze = bench.ordered(ActionKind::Freeze).instruction;
    let asked = bench.asked_now();
    assert_eq!((asked.len(), &asked[0].instruction), (1, &freeze));
    assert!(asked[0].why.contains("refused again until then"), "{}", asked[0].why);
}

#[test]
fn who_is_asked_to_isolate_already_is_told_what_was_left_alone_in_the_same_question() {
    let mut bench = acting(Isolation::Watch);
    bench.report(1, viewer(1));
    let question = asked_in_its_story(&mut bench, Needs::OnePerson);
    let refused = bench.refuses(ActionKind::Freeze);
    let asked = bench.asked_now();
    assert_eq!((asked.len(), asked[0].id, asked[0].refused), (1, question, Some(refused)));
    assert!(asked[0].why.contains(WHY) && asked[0].why.contains("another reason"));
    assert_eq!(bench.told_to_answer(question), 2, "told again, for it is more");
    let kept = Output::Keep(Change::Approval(asked[0].clone()));
    assert!(bench.outputs.contains(&kept));
    bench.refuses(ActionKind::Quarantine);
    assert_eq!(bench.told_to_answer(question), 2);
}

/// A question in the story of what was found last, to segment the machine.
fn asked_in_its_story(bench: &mut Bench, needs: Needs) -> ApprovalId {
    let incident = bench.hub.incidents().next().unwrap().id;
    let question = Question {
        machine: machine(1),
        instruction: Instruction::isolate(Isolation::Segment, bench.policy.lease),
        also: vec![],
        needs,
        why: "another reason".into(),
        incident: Some(incident),
        of: None,
        refused: None,
        asked_by: None,
    };
    let now = bench.now();
    let outputs = bench.hub.ask(question, &now, &mut || [250; 16]);
    bench.carry(outputs);
    bench.asked_now()[0].id
}

#[test]
fn what_was_left_alone_in_another_story_is_asked_in_its_own_once_and_stays_when_the_other_is_closed()
 {
    let mut bench = acting(Isolation::Watch);
    bench.report(1, viewer(1));
    let other = asked_in_its_story(&mut bench, Needs::OnePerson);
    bench.seconds += 3_601;
    bench.report(1, viewer(2));
    // The machine says it again and again.
    for state in [MeasureState::Applied, MeasureState::Verified, MeasureState::Applied] {
        bench.came(ActionKind::Freeze, state, &[WHY]);
    }
    assert_eq!(bench.asked_now().len(), 2);
    let its = bench.asked_now().into_iter().find(|open| open.id != other).unwrap().clone();
    assert!(its.why.contains(WHY) && its.refused.is_some(), "{its:?}");
    assert_eq!((bench.told_to_answer(its.id), bench.told_to_answer(other)), (1, 1));
    let known = bench.hub.approval(other).unwrap().clone();
    assert_eq!((&*known.why, known.refused), ("another reason", None));
    assert_ne!(known.incident, its.incident);
    // Neither a no to the other nor its end answers this one.
    let mut declined = bench;
    declined.says_of(other, false);
    assert!(declined.asked_now().iter().any(|open| open.id == its.id));
    let now = declined.now();
    let closed = known.incident.unwrap();
    let outputs = declined.hub.close(closed, "ann", "a test", &now, &mut || [98; 16]);
    declined.carry(outputs);
    let [open] = declined.asked_now()[..] else { panic!("{:?}", declined.asked_now()) };
    assert_eq!(open.id, its.id);
}

#[test]
fn no_words_are_added_to_a_question_to_which_somebody_has_said_yes() {
    let more = cordon_model::approval::NeedsMore {
        tiers: vec![ClinicalTier::None],
        needs: Needs::TwoPeople,
    };
    let mut bench = Bench::with(1, |policy| {
        policy.mode = Mode::Act;
        policy.approval.needs = vec![more];
        policy.responses[0].isolation = Isolation::Watch;
        policy.responses[0].also = vec![ActionKind::Freeze, ActionKind::Quarantine];
    });
    bench.report(1, viewer(1));
    let first = asked_in_its_story(&mut bench, Needs::TwoPeople);
    bench.says_of(first, true);
    assert_eq!(bench.asked_now().len(), 1, "a second one has to agree");
    let refused = bench.refuses(ActionKind::Freeze);
    bench.refuses(ActionKind::Quarantine);
    assert_eq!(bench.hub.approval(first).unwrap().why, "another reason");
    let asked = bench.asked_now();
    assert_eq!(asked.len(), 2);
    assert!(asked.iter().any(|open| open.refused == Some(refused)), "{asked:?}");
}

#[test]
fn what_people_have_decided_in_a_story_is_not_asked_again_in_it() {
    let mut bench = acting(Isolation::Segment);
    bench.report(1, viewer(1));
    bench.refuses(ActionKind::Freeze);
    let question = bench.asked_now()[0].id;
    bench.says_of(question, false);
    bench.report(1, viewer(2));
    bench.refuses(ActionKind::Freeze);
    assert!(bench.asked_now().is_empty(), "they said no");
    // A story that is closed asks nothing any more.
    let mut bench = acting(Isolation::Segment);
    bench.report(1, viewer(1));
    let (incident, now) = (bench.hub.incidents().next().unwrap().id, bench.now());
    let outputs = bench.hub.close(incident, "ann", "a test", &now, &mut || [98; 16]);
    bench.carry(outputs);
    bench.refuses(ActionKind::Freeze);
    assert!(bench.asked_now().is_empty());
}

#[test]
fn what_people_order_themselves_and_what_merely_fails_is_no_question() {
    let mut bench = acting(Isolation::Segment);
    bench.report(1, viewer(1));
    bench.came(ActionKind::Freeze, MeasureState::Failed { why: "it has ended".into() }, &[]);
    assert!(bench.asked_now().is_empty());
    let freeze = bench.ordered(ActionKind::Freeze).instruction;
    bench.wish(1, freeze);
    bench.refuses(ActionKind::Freeze);
    assert!(bench.asked_now().is_empty(), "whoever ordered it is told");
}

#[test]
fn a_machine_chooses_neither_how_often_nor_how_long_people_are_asked() {
    let mut bench = acting(Isolation::Segment);
    bench.report(1, viewer(1));
    let long = "é".repeat(100_000);
    let lines = vec![long.as_str(); 40];
    bench.came(ActionKind::Freeze, MeasureState::Verified, &lines);
    let asked = bench.asked_now();
    assert_eq!(asked.len(), 1);
    let why = &asked[0].why;
    assert!(why.chars().count() < 2_048 && why.contains("and 37 more"), "{}", why.len());
}
