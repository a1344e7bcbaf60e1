//! How often people are told of questions: a wrong rule on many machines must not call them as many times.

use super::*;
use crate::approval::Answer;
use cordon_model::action::{AccountTarget, Collection, Piece, ProcessTarget};
use cordon_model::finding::ProcessRef;
use cordon_model::order::Lease;

/// One program on this machine that a rule matches: the same everywhere, so one story.
fn same_everywhere(number: u8) -> Arrived {
    let host = format!("m{number}");
    let raw_sha256 = [number; 32];
    let rule =
        RuleRef { id: "rule".into(), title: "a rule".into(), level: Level::High, tags: vec![] };
    let process =
        Some(ProcessRef { pid: 1, started: BootNanos(0), image: "/usr/bin/program".into() });
    let finding = Finding {
        id: FindingId::of("rule", &host, &raw_sha256),
        rule,
        host,
        time: UtcNanos::from_unix_nanos(i64::from(number) * 1_000_000),
        boot_time: None,
        process,
        matched: vec![],
        raw: RawEvent { json: "{}".into(), is_cut: false },
        raw_sha256,
    };
    Arrived::Finding(Box::new(finding), vec![])
}

fn asked(outputs: &[Output]) -> usize {
    outputs.iter().filter(|output| matches!(output, Output::Tell(Notice::Asked(_)))).count()
}

#[test]
fn a_rule_on_many_machines_asks_of_each_and_tells_people_of_the_first_the_second_the_fourth() {
    let machines = 45;
    let mut bench = Bench::new(machines);
    (1..=machines).for_each(|number| bench.report(number, same_everywhere(number)));
    assert_eq!(bench.hub.incidents().count(), 1);
    assert_eq!(bench.hub.approvals().count(), 40, "five were done, of the others each is asked");
    assert_eq!(asked(&bench.outputs), 6, "1, 2, 4, 8, 16 and 32");
    // A hub that starts again says it once, and so does one that nobody answered.
    let questions = bench.hub.approvals().cloned().map(Change::Approval).collect();
    let (mut hub, outputs) = HubCore::restore(&bench.policy, questions);
    assert_eq!(asked(&outputs), 1);
    let open_for = Duration::from_secs(bench.policy.approval.open_for_seconds.into());
    let late = moment("hub", bench.seconds + open_for.as_secs() + 1);
    let late = Moment { utc: bench.now().utc.plus(open_for), ..late };
    let outputs = hub.tick(&late, &mut || [7; 16]);
    let unanswered = |output: &&Output| matches!(output, Output::Tell(Notice::Unanswered(_)));
    assert_eq!(outputs.iter().filter(unanswered).count(), 1);
    let kept = |output: &&Output| matches!(output, Output::Keep(Change::Approval(_)));
    assert_eq!(outputs.iter().filter(kept).count(), 40);
}

#[test]
fn a_question_that_needs_more_people_than_those_before_is_told_of_at_once() {
    let mut bench = Bench::new(8);
    // Five are done, and of two questions each is told of. A third would not be…
    (1..=7).for_each(|number| bench.report(number, same_everywhere(number)));
    assert_eq!(asked(&bench.outputs), 2);
    // …but that life hangs on the machine.
    let mut draft = bench.signer.assignment(machine(8)).unwrap().clone();
    draft.tier = Some(ClinicalTier::LifeSustaining);
    let assignment = verified(&bench.signer.assign(draft).unwrap());
    bench.hub.assigned(&assignment);
    bench.report(8, same_everywhere(8));
    assert_eq!(bench.hub.approvals().count(), 3);
    assert_eq!(asked(&bench.outputs), 3);
}

impl Bench {
    /// Time goes by, on both clocks.
    pub(super) fn ticks_after(&mut self, seconds: u64) -> Vec<Output> {
        self.seconds += seconds;
        self.dice = self.dice.wrapping_add(1);
        let (now, dice) = (self.now(), self.dice);
        let outputs = self.hub.tick(&now, &mut || [dice; 16]);
        self.carry(outputs.clone());
        outputs
    }

    pub(super) fn open(&self) -> Vec<&Approval> {
        self.hub.approvals().filter(|open| open.state == ApprovalState::Open).collect()
    }
}

pub(super) const OPEN_FOR: u64 = 4 * 3600;

pub(super) fn isolate() -> Instruction {
    let policy = Policy::default_for("RJ1".parse().unwrap());
    Instruction::isolate(Isolation::Segment, policy.lease)
}

#[test]
fn what_nobody_answers_is_asked_again_as_long_as_it_matters() {
    let mut bench = Bench::with(1, |_| ());
    bench.find(1);
    let first = bench.open()[0].id;
    let outputs = bench.ticks_after(OPEN_FOR);
    assert!(outputs.contains(&Output::Tell(Notice::Unanswered(first))));
    let again: Vec<ApprovalId> = bench.open().iter().map(|open| open.id).collect();
    assert!(again.len() == 1 && again[0] != first, "asked anew");
    assert!(bench.order(1).is_none(), "and nothing is done");
    // Isolated by somebody meanwhile: nothing is left to ask.
    bench.wish(1, isolate());
    bench.ticks_after(OPEN_FOR);
    assert!(bench.open().is_empty(), "{:?}", bench.open());
    // And not about a story that is closed.
    let mut bench = Bench::with(1, |_| ());
    bench.find(1);
    let incident = bench.hub.incidents().next().unwrap().id;
    let now = bench.now();
    bench.hub.close(incident, "ann", "a test", &now, &mut || [98; 16]);
    bench.ticks_after(OPEN_FOR);
    assert!(bench.open().is_empty());
}

#[test]
fn where_the_policy_says_so_a_machine_that_nobody_answers_for_is_segmented() {
    let mut bench = Bench::with(2, |policy| {
        policy.approval.unanswered = Unanswered::Segment;
        policy.responses[0].isolation = Isolation::Full;
    });
    bench.find(1);
    bench.ticks_after(OPEN_FOR - 1);
    assert!(bench.order(1).is_none());
    let now = bench.now();
    for number in [1, 2] {
        bench.signer.heard(machine(number), Some(Isolation::Watch), &now);
    }
    bench.ticks_after(1);
    let order = bench.order(1).expect("an order");
    assert_eq!(order.instruction, isolate(), "segment, whatever the question was about");
    assert!(matches!(order.authority, Authority::Policy { .. }));
    assert!(order.reason.contains("nobody answered"), "{}", order.reason);
    assert!(bench.open().is_empty());
}

/// The signer is slow, or away: people released the machine while the time of the question ran out.
#[test]
fn nobody_is_taken_to_be_silent_about_a_machine_that_people_have_wished_to_release() {
    let after_release = |is_signed: bool| {
        let segment = |policy: &mut Policy| policy.approval.unanswered = Unanswered::Segment;
        let mut bench = Bench::with(2, segment);
        bench.find(1);
        let question = bench.open()[0].id;
        let people = vec![Approver { name: "ann".into(), is_clinical: false }];
        let release = Proposal {
            id: OrderId::new(bench.now().utc, [66; 10]),
            machine: machine(1),
            instruction: Instruction::Release,
            basis: Basis::People { approval: None, people },
            incident: None,
            reason: "a test".into(),
        };
        let outputs = bench.hub.propose_this(release.clone());
        for after in [OPEN_FOR, 60] {
            bench.seconds += after;
            let now = bench.now();
            // What it has for the signer does not arrive.
            bench.hub.tick(&now, &mut || [97; 16]);
            assert!(bench.hub.proposed_for(machine(1)).eq([&Instruction::Release]));
        }
        let now = bench.now();
        for number in [1, 2] {
            bench.signer.heard(machine(number), Some(Isolation::Watch), &now);
        }
        if is_signed {
            bench.carry(outputs);
        } else {
            let refused = Refusal::UnknownMachine;
            let outputs =
                bench.hub.signer_answered(release.id, Err(refused), &now, &mut || [99; 16]);
            bench.carry(outputs);
        }
        bench.ticks_after(1);
        (bench, question)
    };
    let (bench, question) = after_release(true);
    assert_eq!(bench.order(1).unwrap().instruction, Instruction::Release);
    assert!(bench.open().is_empty());
    let known = bench.hub.approval(question).unwrap();
    assert_eq!(known.withdrawn.as_deref(), Some("its machine was released by people since"));
    // Where it is not signed after all, nobody has answered.
    let (bench, _) = after_release(false);
    assert_eq!(bench.order(1).unwrap().instruction, isolate());
}

#[test]
fn a_clinical_machine_that_nobody_answers_for_is_asked_about_again() {
    let mut bench = Bench::with(1, |policy| policy.approval.unanswered = Unanswered::Segment);
    let mut draft = bench.signer.assignment(machine(1)).unwrap().clone();
    draft.tier = Some(ClinicalTier::Clinical);
    let assignment = verified(&bench.signer.assign(draft).unwrap());
    bench.hub.assigned(&assignment);
    bench.find(1);
    bench.ticks_after(OPEN_FOR);
    assert!(bench.order(1).is_none());
    assert_eq!(bench.open().len(), 1);
}

#[test]
fn what_the_signer_does_not_let_the_policy_answer_is_asked_again() {
    // The only one of its kind: the hub leaves that to the signer.
    let mut bench = Bench::with(2, |policy| policy.approval.unanswered = Unanswered::Segment);
    bench.find(1);
    let first = bench.open()[0].id;
    // The other was not heard for hours.
    bench.ticks_after(OPEN_FOR);
    assert!(bench.order(1).is_none());
    assert!(bench.open().len() == 1 && bench.open()[0].id != first);
}

#[test]
fn people_are_told_again_of_what_is_still_open() {
    let mut bench = Bench::with(1, |_| ());
    bench.find(1);
    let question = bench.open()[0].id;
    let told = |outputs: &[Output]| outputs.contains(&Output::Tell(Notice::Asked(question)));
    assert!(!told(&bench.ticks_after(1)));
    assert!(!told(&bench.ticks_after(899)));
    assert!(told(&bench.ticks_after(1)));
    assert!(!told(&bench.ticks_after(1)));
    assert!(told(&bench.ticks_after(900)));
}

#[test]
fn what_needs_two_people_is_a_question_to_the_second() {
    let more = cordon_model::approval::NeedsMore {
        tiers: vec![ClinicalTier::None],
        needs: Needs::TwoPeople,
    };
    let mut bench = Bench::with(1, |policy| policy.approval.needs = vec![more]);
    let Ok(Wished::Asked(question)) = bench.wish_of("ann", 1, isolate()) else { panic!() };
    assert!(bench.order(1).is_none());
    assert_eq!(bench.hub.approval(question).unwrap().answers.len(), 1, "her own yes");
    let twice = bench.wish_of("ann", 1, isolate());
    assert_eq!(twice, Err(AnswerRefused::Twice { name: "ann".into() }));
    assert!(matches!(bench.wish_of("bob", 1, isolate()), Ok(Wished::Proposed(_))));
    let order = bench.order(1).unwrap();
    assert_eq!(order.authority.people().len(), 2);
    // Opening takes one.
    bench.release(1);
    assert_eq!(bench.order(1).unwrap().instruction, Instruction::Release);
}

#[test]
fn at_night_the_wish_of_somebody_else_is_a_question_to_those_who_are_named() {
    let night = Night {
        from: "00:00".into(),
        until: "23:59".into(),
        time_zone: "UTC".into(),
        tiers: vec![ClinicalTier::None],
        people: vec!["bob".into()],
    };
    let mut bench = Bench::with(1, |policy| policy.approval.night = Some(night));
    let Ok(Wished::Asked(question)) = bench.wish_of("ann", 1, isolate()) else { panic!() };
    assert!(bench.hub.approval(question).unwrap().answers.is_empty(), "hers does not count");
    let now = bench.now();
    let ann = Approver { name: "ann".into(), is_clinical: false };
    let answer =
        bench.hub.answer(question, &ann, Identity::Session, true, "worm", &now, &mut || [9; 16]);
    assert_eq!(answer, Err(AnswerRefused::Night { people: vec!["bob".into()] }));
    assert!(matches!(bench.wish_of("bob", 1, isolate()), Ok(Wished::Proposed(_))));
    assert!(bench.order(1).is_some());
    bench.release(1);
    assert_eq!(bench.order(1).unwrap().instruction, Instruction::Release, "by anybody");
}

#[test]
fn one_machine_can_not_fill_the_list_of_questions() {
    let mut bench = Bench::with(1, |policy| policy.responses[0].also = vec![ActionKind::Kill]);
    for number in 1..=40 {
        bench.report(1, of_process(number));
    }
    assert_eq!(bench.open().len(), cordon_model::limits::QUESTIONS_PER_MACHINE);
    let told = |output: &&Output| matches!(output, Output::Tell(Notice::NotBlocked { why, .. }) if why.contains("too many"));
    assert_eq!(bench.outputs.iter().filter(told).count(), 1, "and that is said");
}

/// Another process each time.
pub(super) fn of_process(number: u8) -> Arrived {
    let Arrived::Finding(mut finding, touched) = same_everywhere(1) else { panic!() };
    finding.raw_sha256 = [number; 32];
    finding.id = FindingId::of("rule", "m1", &finding.raw_sha256);
    finding.boot_time = Some(BootNanos(u64::from(number)));
    finding.process = Some(ProcessRef {
        pid: u32::from(number),
        started: BootNanos(u64::from(number)),
        image: "/usr/bin/program".into(),
    });
    Arrived::Finding(finding, touched)
}

/// Each tier needs two, whoever they are.
pub(super) fn two_people(policy: &mut Policy) {
    let tiers = vec![ClinicalTier::None];
    let more = cordon_model::approval::NeedsMore { tiers, needs: Needs::TwoPeople };
    policy.approval.needs = vec![more];
}

impl Bench {
    fn answers(
        &mut self,
        name: &str,
        identity: Identity,
        question: ApprovalId,
    ) -> Result<(), AnswerRefused> {
        let (now, person) = (self.now(), Approver { name: name.into(), is_clinical: false });
        self.dice = self.dice.wrapping_add(1);
        let dice = self.dice;
        let mut dice = || [dice; 16];
        let outputs = self.hub.answer(question, &person, identity, true, "yes", &now, &mut dice)?;
        self.carry(outputs);
        Ok(())
    }
}

#[test]
fn an_answer_that_comes_too_late_takes_nothing_from_what_follows() {
    let mut bench = Bench::with(1, |_| ());
    bench.find(1);
    let question = bench.open()[0].id;
    bench.seconds += OPEN_FOR;
    let late = bench.answers("ann", Identity::Session, question);
    assert_eq!(late, Err(AnswerRefused::Closed(ApprovalState::Expired)));
    let outputs = bench.ticks_after(0);
    assert!(outputs.contains(&Output::Tell(Notice::Unanswered(question))));
    assert_eq!(bench.open().len(), 1, "asked again");
}

#[test]
fn a_wish_for_less_is_no_yes_to_more() {
    let mut bench = Bench::with(1, |policy| {
        two_people(policy);
        policy.responses[0].isolation = Isolation::Full;
    });
    bench.find(1);
    let question = bench.open()[0].id;
    bench.answers("bob", Identity::Session, question).unwrap();
    // Ann has rung the ward: segment, and no more.
    let Ok(Wished::Asked(other)) = bench.wish_of("ann", 1, isolate()) else { panic!() };
    assert_ne!(other, question);
    assert!(bench.order(1).is_none());
    // And what she asks does not hide what the policy asks.
    assert_eq!(bench.open().len(), 2);
}

#[test]
fn an_account_of_the_system_is_no_second_person() {
    let mut bench = Bench::with(1, two_people);
    let Ok(Wished::Asked(question)) = bench.wish_of("ann", 1, isolate()) else { panic!() };
    let root = bench.answers("root (command line)", Identity::Account, question);
    assert_eq!(root, Err(AnswerRefused::NeedsSession { needs: Needs::TwoPeople }));
    assert!(bench.order(1).is_none());
}

#[test]
fn a_policy_that_became_stricter_holds_for_questions_that_are_open() {
    let mut bench = Bench::with(1, |_| ());
    bench.find(1);
    let question = bench.open()[0].id;
    let mut stricter = (*bench.policy).clone();
    two_people(&mut stricter);
    let policy = verified(&bench.signer.set_policy(stricter).unwrap());
    let outputs = bench.hub.policy_set(&policy);
    bench.carry(outputs);
    bench.answers("ann", Identity::Session, question).unwrap();
    assert!(bench.order(1).is_none() && bench.open().len() == 1, "one is not enough any more");
    bench.answers("bob", Identity::Session, question).unwrap();
    assert!(bench.order(1).is_some());
}

#[test]
fn what_people_agreed_to_and_the_signer_refuses_is_asked_again() {
    let mut bench = Bench::with(1, |_| ());
    bench.find(1);
    let question = bench.open()[0].id;
    // The signer has heard of a stricter policy, and the hub has not yet.
    let mut stricter = (*bench.policy).clone();
    two_people(&mut stricter);
    bench.signer.set_policy(stricter).unwrap();
    bench.answers("ann", Identity::Session, question).unwrap();
    assert!(bench.order(1).is_none());
    assert!(bench.open().len() == 1 && bench.open()[0].id != question, "it does not lie unread");
}

#[test]
fn a_story_of_many_questions_is_told_of_again_once_and_what_is_done_is_closed() {
    let mut bench = Bench::with(9, |policy| policy.mode = Mode::Ask);
    for number in 1..=9 {
        bench.report(number, same_everywhere(number));
        bench.ticks_after(60);
    }
    assert_eq!(bench.open().len(), 9);
    let told: usize = (0..900).map(|_| asked(&bench.ticks_after(1))).sum();
    assert_eq!(told, 1, "in a quarter of an hour, though each was asked at another time");
    bench.wish(1, isolate());
    (0..900).for_each(|_| drop(bench.ticks_after(1)));
    assert_eq!(bench.open().len(), 8, "that one is isolated by now");
}

#[test]
fn one_person_can_not_bury_the_others_in_questions() {
    let mut bench = Bench::with(1, two_people);
    let most = cordon_model::limits::QUESTIONS_PER_PERSON;
    for number in 0..most + 5 {
        let lease = Lease { seconds: 60 + number as u32, ..bench.policy.lease };
        let wished = bench.wish_of("ann", 1, Instruction::isolate(Isolation::Segment, lease));
        assert_eq!(wished.is_ok(), number < most, "{number}: {wished:?}");
    }
    bench.find(1);
    assert_eq!(bench.open().len(), most + 1, "the policy's own question is asked all the same");
}

#[test]
fn what_else_was_asked_is_not_answered_by_silence() {
    let mut bench = Bench::with(2, |policy| {
        policy.approval.unanswered = Unanswered::Segment;
        policy.responses[0].also = vec![ActionKind::Kill];
    });
    bench.report(1, of_process(7));
    bench.seconds += OPEN_FOR;
    for number in [1, 2] {
        let now = bench.now();
        bench.signer.heard(machine(number), Some(Isolation::Watch), &now);
    }
    bench.ticks_after(0);
    assert_eq!(bench.order(1).unwrap().instruction, isolate());
    let [rest] = bench.open()[..] else { panic!("{:?}", bench.open()) };
    assert!(matches!(&rest.instruction, Instruction::Begin { action: Action::Kill(_), .. }));
}

#[test]
fn nothing_is_asked_about_a_machine_that_is_struck_off() {
    let mut bench = Bench::with(1, |_| ());
    bench.find(1);
    let outputs = bench.hub.struck_off(machine(1));
    assert!(matches!(outputs[..], [Output::Keep(Change::Approval(_))]));
    bench.ticks_after(OPEN_FOR);
    assert!(bench.open().is_empty());
}

#[test]
fn what_the_policy_asked_in_a_closed_story_is_withdrawn_and_says_why() {
    let mut bench = Bench::with(1, two_people);
    bench.find(1);
    let question = bench.open()[0].id;
    let incident = bench.hub.incidents().next().unwrap().id;
    // Ann wants more, in the same story: that is hers.
    let wish = Wish {
        machine: machine(1),
        instruction: Instruction::isolate(Isolation::Full, bench.policy.lease),
        person: Approver { name: "ann".into(), is_clinical: false },
        identity: Identity::Session,
        incident: Some(incident),
        reason: "worse".into(),
    };
    let now = bench.now();
    let wished = bench.hub.people_propose(wish, &now, &mut || [99; 16]).unwrap().0;
    let Wished::Asked(hers) = wished else { panic!("{wished:?}") };

    let outputs = bench.hub.close(incident, "cat", "a wrong rule", &now, &mut || [98; 16]);
    let withdrawn = bench.hub.approval(question).unwrap();
    assert_ne!(withdrawn.state, ApprovalState::Open);
    let why = "its incident was closed by cat: a wrong rule".to_owned();
    assert_eq!(withdrawn.withdrawn, Some(why.clone()));
    assert!(outputs.contains(&Output::Keep(Change::Approval(withdrawn.clone()))));
    let is_said = |output: &Output| matches!(output, Output::Record(record) if record.detail.contains("withdrawn with it: 1 question"));
    assert!(outputs.iter().any(is_said), "{outputs:?}");
    let late = bench.answers("bob", Identity::Session, question);
    assert_eq!(late, Err(AnswerRefused::Withdrawn { why }), "whoever answers is told");
    // And what she asked can still be answered.
    assert_eq!(bench.open().iter().map(|open| open.id).collect::<Vec<_>>(), [hers]);
    bench.answers("bob", Identity::Session, hers).unwrap();
    assert!(bench.order(1).is_some());
}

#[test]
fn a_story_that_makes_room_for_others_keeps_its_question() {
    let mut bench = Bench::with(1, |_| ());
    bench.find(1);
    let incident = bench.hub.incidents().next().unwrap().id;
    for number in 0..crate::grouping::OPEN_INCIDENTS {
        let number = u16::try_from(number).unwrap();
        let mut bytes = [9; 10];
        bytes[4..6].copy_from_slice(&number.to_be_bytes());
        let received = ReceivedFinding {
            machine: MachineId::new(UtcNanos::from_unix_nanos(0), bytes),
            received: UtcNanos::from_unix_nanos(2_000_000_000),
            finding: distrust::finding_of(2, 1, Level::Low),
        };
        let mut random = [1; 16];
        random[4..6].copy_from_slice(&number.to_be_bytes());
        bench.hub.grouping.place(&received, "m1", &[], &mut || random);
    }
    assert!(bench.hub.incidents().all(|one| one.id != incident), "it made room");
    assert!(bench.hub.own(incident, "ann", &bench.now()).is_empty(), "and is in no memory");
    let question = bench.open()[0].id;
    bench.ticks_after(1);
    bench.ticks_after(3_600);
    assert_eq!(bench.open()[0].id, question, "people were told again, and it waits");
    bench.ticks_after(OPEN_FOR);
    assert!(bench.open().len() == 1 && bench.open()[0].id != question, "nobody did: asked again");
    let question = bench.open()[0].id;
    bench.answers("ann", Identity::Session, question).unwrap();
    assert!(bench.order(1).is_some());
}

#[test]
fn the_yes_of_somebody_who_may_answer_no_more_does_not_count() {
    let mut bench = Bench::with(1, two_people);
    let Ok(Wished::Asked(question)) = bench.wish_of("ann", 1, isolate()) else { panic!() };
    let now = bench.now();
    let outputs = bench.hub.answers_no_more("ann", &now);
    assert!(matches!(outputs[..], [Output::Keep(Change::Approval(_)), Output::Record(_)]));
    bench.answers("bob", Identity::Session, question).unwrap();
    assert!(bench.order(1).is_none(), "bob is one");
    bench.answers("cat", Identity::Session, question).unwrap();
    let order = bench.order(1).unwrap();
    let names: Vec<_> = order.authority.people().iter().map(|one| one.name.clone()).collect();
    assert_eq!(names, ["bob", "cat"]);
}

fn no_eve() -> Action {
    Action::DisableAccount(AccountTarget { name: "eve".into(), ends_sessions: false })
}

#[test]
fn what_somebody_has_ordered_meanwhile_is_asked_no_more() {
    let mut bench = Bench::with(1, |_| ());
    bench.find(1);
    let question = bench.open()[0].id;
    bench.seconds += 60;
    // A wish for less answers nothing.
    let watch = Instruction::isolate(Isolation::Watch, bench.policy.lease);
    bench.wish(1, watch);
    assert_eq!(bench.open().len(), 1);
    bench.wish(1, isolate());
    assert!(bench.order(1).is_some_and(|order| order.instruction == isolate()));
    assert_eq!(bench.open().len(), 1, "an order may die on its way: it is not shown yet");
    let order = bench.take(1);
    let measure = order.id.into();
    bench.receipt(1, measure, Origin::Order(order.id), MeasureState::Verified);
    assert!(bench.open().is_empty(), "at once: {:?}", bench.open());
    let closed = bench.hub.approval(question).unwrap();
    let why = "what it asks for is in force since";
    assert_eq!((&closed.state, closed.withdrawn.as_deref()), (&ApprovalState::Expired, Some(why)));
    // It was kept so: a restart does not bring it back.
    let is_kept =
        |output: &Output| matches!(output, Output::Keep(Change::Approval(of)) if of == closed);
    assert!(bench.outputs.iter().any(is_kept));
    let refused = bench.answers("bob", Identity::Session, question);
    assert!(refused.is_err(), "a late yes cuts nothing off");
}

#[test]
fn after_peoples_release_nothing_is_asked_that_was_asked_before_it() {
    let mut bench = Bench::with(1, |policy| policy.mode = Mode::Act);
    let measure = bench.isolated(1);
    // Something else is asked about it: what runs there; and by a person, what that person wants.
    let incident = bench.hub.incidents().next().unwrap().id;
    let ask = |bench: &mut Bench| {
        let question = Question {
            machine: machine(1),
            instruction: Instruction::begin(no_eve(), bench.policy.lease),
            also: vec![],
            needs: Needs::OnePerson,
            why: "a test".into(),
            incident: Some(incident),
            of: None,
            refused: None,
            asked_by: None,
        };
        bench.dice = bench.dice.wrapping_add(1);
        let (now, dice) = (bench.now(), bench.dice);
        let outputs = bench.hub.ask(question, &now, &mut || [dice; 16]);
        bench.carry(outputs);
    };
    ask(&mut bench);
    let mut his = bench.open()[0].clone();
    his.id = ApprovalId::new(bench.now().utc, [200; 10]);
    his.asked_by = Some("bob".into());
    bench.hub.approvals.put(his);
    assert_eq!(bench.open().len(), 2);
    bench.seconds += 60;
    bench.release(1);
    assert_eq!(bench.order(1).unwrap().instruction, Instruction::Release);
    let left: Vec<Option<String>> = bench.open().iter().map(|open| open.asked_by.clone()).collect();
    assert_eq!(left, [Some("bob".to_owned())], "what a person asked stays theirs");
    // What is found after it is asked about, or answered, anew.
    let release = bench.take(1);
    bench.receipt(1, measure, Origin::Order(release.id), MeasureState::Released);
    bench.seconds += 60;
    ask(&mut bench);
    assert_eq!(bench.open().len(), 2);
}

#[test]
fn of_a_question_about_several_things_what_is_not_in_force_stays_asked() {
    let mut bench = Bench::with(1, |_| ());
    bench.find(1);
    let disable = Instruction::begin(no_eve(), bench.policy.lease);
    let mut question = bench.open()[0].clone();
    question.also = vec![disable.clone()];
    bench.hub.approvals.put(question.clone());
    bench.wish(1, isolate());
    let order = bench.take(1);
    bench.receipt(1, order.id.into(), Origin::Order(order.id), MeasureState::Verified);
    let open = bench.open();
    assert_eq!(open.len(), 1);
    assert_eq!((open[0].id, &open[0].instruction), (question.id, &disable));
    assert!(open[0].also.is_empty());
}

/// Memory needs two people, and an isolation one: what is left of the question may have its yes already.
#[test]
fn a_yes_that_suffices_for_what_is_left_of_a_question_is_acted_on_at_once() {
    let process = ProcessRef { pid: 7, started: BootNanos(7), image: "/usr/bin/program".into() };
    let pieces = vec![Piece::Memory(ProcessTarget { boot: BootId("m".into()), process })];
    let action = Action::Collect(Collection { pieces, most_bytes: 1 << 20 });
    let lease = Policy::default_for("RJ1".parse().unwrap()).lease;
    let collect = Instruction::begin(action, lease);
    let part_is_in_force = |night: bool| {
        let mut bench = Bench::with(1, |policy| {
            policy.approval.night = night.then(|| Night {
                from: "00:00".into(),
                until: "23:59".into(),
                time_zone: "UTC".into(),
                tiers: vec![ClinicalTier::None],
                people: vec!["bob".into(), "cat".into()],
            });
        });
        bench.find(1);
        let mut question = bench.open()[0].clone();
        question.also = vec![collect.clone()];
        question.needs = Needs::TwoPeople;
        // The yes of the evening, before the night began.
        question.answers.push(Answer {
            person: Approver { name: "ann".into(), is_clinical: false },
            identity: Identity::Session,
            is_approved: true,
            at: question.asked_at,
        });
        bench.hub.approvals.put(question.clone());
        // Two others want the memory now.
        let Ok(Wished::Asked(theirs)) = bench.wish_of("bob", 1, collect.clone()) else { panic!() };
        bench.answers("cat", Identity::Session, theirs).unwrap();
        let order = bench.take(1);
        assert_eq!(order.instruction, collect);
        assert!(
            bench.open().iter().any(|open| open.id == question.id),
            "one yes is not enough yet"
        );
        bench.receipt(1, order.id.into(), Origin::Order(order.id), MeasureState::Done);
        (bench, question.id)
    };
    let (bench, question) = part_is_in_force(false);
    assert_eq!(bench.hub.approval(question).unwrap().state, ApprovalState::Approved);
    let order = bench.order(1).unwrap();
    assert_eq!(order.instruction, isolate());
    let by = |name: &str| vec![Approver { name: name.into(), is_clinical: false }];
    let people = Authority::People { approval: Some(question), people: by("ann") };
    assert_eq!(order.authority, people);
    let said = |output: &Output| {
        matches!(output, Output::Record(record)
        if record.deed == Deed::Asked(question) && record.detail.contains("the yes of ann is enough"))
    };
    assert!(bench.outputs.iter().any(said), "and the ledger says why");

    // As it would be with a yes that came now: at night only of those whom the policy names.
    let (bench, question) = part_is_in_force(true);
    let left = bench.hub.approval(question).unwrap();
    assert_eq!((left.state, left.needs), (ApprovalState::Open, Needs::OnePerson));
    assert_eq!(bench.order(1).unwrap().instruction, collect);
}

#[test]
fn nobody_orders_anything_for_a_machine_that_is_struck_off() {
    let mut bench = Bench::with(1, |_| ());
    bench.hub.struck_off(machine(1));
    for wish in [isolate(), Instruction::Release] {
        assert_eq!(bench.wish_of("ann", 1, wish), Err(AnswerRefused::StruckOff));
    }
    assert_eq!(bench.hub.proposed_for(machine(1)).count(), 0);
}
