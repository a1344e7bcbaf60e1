//! What people said no to is not asked again until something new is found, whoever was asked what beside it.

use cordon_model::policy::Response;

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
    pub(super) fn next_is_refused(&mut self) {
        let proposal = self.hub.next_proposals().next().unwrap();
        let (now, id) = (self.now(), proposal.id);
        let refusal = self.signer.sign(&proposal, &now, &mut || [9; 16]).unwrap_err();
        self.dice += 1;
        let dice = self.dice;
        drop(self.hub.signer_answered(id, Err(refusal), &now, &mut || [dice; 16]));
    }

    pub(super) fn said_by(&mut self, name: &str, is_approved: bool, question: ApprovalId) {
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
    pub(super) fn signer_is_stricter(&mut self) {
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

/// A no to something else, or to what a person wished, says nothing about cutting the machine off.
#[test]
fn who_said_no_to_something_else_is_asked_whether_to_cut_the_machine_off() {
    let kill = of_process(7);
    let kill = match kill {
        Arrived::Finding(finding, _) => crate::plan::action_for(
            ActionKind::Kill,
            &finding,
            Some(&cordon_model::time::BootId("m1".into())),
        ),
        _ => None,
    };
    let after_a_no_to = |instruction: Instruction, asked_by: Option<&str>| {
        let mut bench = Bench::with(1, |_| ());
        bench.find(1);
        let mut asked = bench.open()[0].clone();
        asked.state = ApprovalState::Expired;
        bench.hub.approvals.put(asked.clone());
        asked.id = ApprovalId::new(bench.now().utc, [200; 10]);
        asked.state = ApprovalState::Declined;
        asked.news = u32::MAX;
        asked.instruction = instruction;
        asked.asked_by = asked_by.map(str::to_owned);
        bench.hub.approvals.put(asked);
        bench.report(1, of_process(8));
        bench.open().iter().filter(|open| open.instruction.isolation().is_some()).count()
    };
    let lease = Policy::default_for("RJ1".parse().unwrap()).lease;
    let kill = Instruction::begin(kill.unwrap(), lease);
    assert_eq!(after_a_no_to(kill.clone(), None), 1);
    assert_eq!(after_a_no_to(kill, Some("ann")), 1);
    assert_eq!(after_a_no_to(isolate(), None), 0, "they said no to that");
}

/// Another rule, which is one more reason for what is asked already.
fn another(number: u8) -> Arrived {
    of_rule("another", number, Level::High)
}

pub(super) fn of_rule(id: &str, number: u8, level: Level) -> Arrived {
    match of_process(number) {
        Arrived::Finding(mut finding, touched) => {
            finding.rule =
                RuleRef { id: id.into(), title: format!("rule {id}"), level, ..finding.rule };
            finding.id = FindingId::of(id, "m1", &finding.raw_sha256);
            Arrived::Finding(finding, touched)
        }
        other => other,
    }
}

/// What is found while a question is open is not in its words: a no to it does not cover that.
#[test]
fn what_is_found_while_people_are_asked_is_asked_about_at_once_after_their_no() {
    let mut bench = Bench::with(1, |_| ());
    bench.find(1);
    let question = bench.open()[0].id;
    bench.report(1, another(8));
    assert_eq!(bench.open().len(), 1, "asked already");
    bench.said_by("ann", false, question);
    let [again] = bench.open()[..] else { panic!("{:?}", bench.open()) };
    let why = &again.why;
    assert!(
        why.contains("NEW since the question that ann said no to") && why.contains("rule another"),
        "{why}"
    );
    assert!(!why.contains("a rule"), "what she said no to is not why: {why}");
    let again = again.id;
    bench.report(1, another(9));
    bench.said_by("ann", false, again);
    assert!(bench.open().is_empty(), "found again, and nothing new: {:?}", bench.open());
    bench.report(1, another(10));
    assert!(bench.open().is_empty(), "nor at the next finding");
}

#[test]
fn what_came_while_people_were_asked_outlives_the_hub() {
    let mut bench = Bench::with(1, |_| ());
    bench.find(1);
    let question = bench.open()[0].id;
    let outputs = bench.hears_of(1, another(8));
    let kept = outputs.iter().rev().find_map(|output| match output {
        Output::Keep(Change::Approval(kept)) => Some(kept.clone()),
        _ => None,
    });
    let kept: Approval = serde_json::from_str(&serde_json::to_string(&kept).unwrap()).unwrap();
    assert_eq!((kept.id, kept.since.len()), (question, 1), "on its row, in the same step");
    bench.said_by("ann", false, question);
    assert_eq!(bench.open().len(), 1);
    assert!(bench.hub.approval(question).unwrap().since.is_empty(), "and asked once");
}

/// What is critical is to be cut off in full, all else as ever.
fn asked_for_full_at_critical() -> Bench {
    Bench::with(1, |policy| {
        let critical = Response {
            level_at_least: Level::Critical,
            isolation: Isolation::Full,
            ..policy.responses[0].clone()
        };
        policy.responses.insert(0, critical);
    })
}

#[test]
fn a_no_to_full_is_no_no_to_the_segment_that_was_found_to_be_needed_beside_it() {
    let mut bench = asked_for_full_at_critical();
    bench.report(1, of_rule("worst", 7, Level::Critical));
    let question = bench.open()[0].id;
    assert_eq!(bench.open()[0].instruction.isolation(), Some(Isolation::Full));
    bench.report(1, another(8));
    bench.report(1, another(9));
    let since = &bench.hub.approval(question).unwrap().since[0];
    assert_eq!(since.whys.len(), 1, "the same rule again is not news: {since:?}");
    bench.said_by("ann", false, question);
    let [again] = bench.open()[..] else { panic!("{:?}", bench.open()) };
    assert_eq!(again.instruction.isolation(), Some(Isolation::Segment));
}

#[test]
fn many_things_that_came_are_one_question_that_names_the_first_and_counts_the_rest() {
    let mut bench = Bench::with(1, |_| ());
    bench.find(1);
    let question = bench.open()[0].id;
    for number in 1..=6 {
        bench.report(1, of_rule(&format!("r{number}"), number, Level::High));
    }
    bench.said_by("ann", false, question);
    let [again] = bench.open()[..] else { panic!("{:?}", bench.open()) };
    assert!(again.why.contains("rule r1") && again.why.contains("rule r3"), "{}", again.why);
    assert!(again.why.ends_with("and 3 more"), "{}", again.why);
}

/// However much else is found first: nobody says no to the worst without knowing it.
#[test]
fn the_most_serious_of_many_things_that_came_is_named_and_named_first() {
    let mut bench = Bench::with(1, |_| ());
    bench.find(1);
    let question = bench.open()[0].id;
    for number in 1..=4 {
        bench.report(1, of_rule(&format!("r{number}"), number, Level::High));
    }
    bench.report(1, of_rule("worst", 5, Level::Critical));
    bench.report(1, of_rule("last", 6, Level::High));
    bench.said_by("ann", false, question);
    let [again] = bench.open()[..] else { panic!("{:?}", bench.open()) };
    let why = &again.why;
    let at = |what| why.find(what);
    assert!(at("rule worst").is_some() && at("rule worst") < at("rule r1"), "{why}");
    assert!(why.contains("rule r2") && why.ends_with("and 3 more"), "{why}");
}

/// Of what came some asks for more, and is a question of its own: whoever answers the other one has to know it.
#[test]
fn what_came_and_asks_for_more_is_in_the_words_of_what_came_and_asks_for_less() {
    let mut bench = asked_for_full_at_critical();
    bench.report(1, of_rule("worst", 7, Level::Critical));
    let question = bench.open()[0].id;
    bench.report(1, another(8));
    bench.report(1, of_rule("as bad", 9, Level::Critical));
    bench.said_by("ann", false, question);
    let open = bench.open();
    let [less, more] = open[..] else { panic!("{open:?}") };
    assert_eq!(less.instruction.isolation(), Some(Isolation::Segment));
    assert!(less.why.contains("rule another") && less.why.contains("rule as bad"), "{}", less.why);
    assert!(more.why.contains("rule as bad"), "{}", more.why);
}

/// More than is asked is found to be needed, and it is asked by itself: whoever answers that has to know all.
#[test]
fn what_came_beside_an_open_question_is_in_the_words_of_one_that_asks_for_more() {
    let mut bench = asked_for_full_at_critical();
    bench.find(1);
    bench.report(1, another(8));
    bench.report(1, of_rule("worst", 9, Level::Critical));
    let asked = bench.open().into_iter().find(|of| of.why.contains("rule worst"));
    let asked = asked.unwrap();
    assert_eq!(asked.instruction.isolation(), Some(Isolation::Full));
    assert!(asked.why.contains("rule another"), "{}", asked.why);
}

/// Nobody answers about a machine and about a process on it, nor about more that was found meanwhile, and the signer is
/// slow: all is in the next questions' words, and nothing of it is asked by itself.
#[test]
fn what_is_in_the_words_of_what_is_asked_again_is_not_asked_by_itself() {
    let mut bench = Bench::with(1, |policy| {
        policy.mode = Mode::Act;
        policy.budget.count = 0;
        policy.approval.open_for_seconds = 600;
    });
    bench.report(1, of_rule("one", 1, Level::High));
    let incident = bench.open()[0].incident;
    let deny = Action::Deny(Denied::Sha256(Sha256Digest([7; 32])));
    let instruction = Instruction::begin(deny, bench.policy.lease);
    let ask = |bench: &mut Bench, number: u8, why: &str| {
        let of = (FindingId::of("r", "m1", &[number; 32]), Level::High);
        let (needs, why) = (Needs::OnePerson, why.to_owned());
        let wish = instruction.clone();
        let question = Question::of_the_policy(machine(1), wish, needs, why, incident, of);
        let now = bench.now();
        drop(bench.hub.ask(question, &now, &mut || [number; 16]));
    };
    ask(&mut bench, 201, "the first");
    bench.report(1, of_rule("two", 2, Level::High));
    ask(&mut bench, 202, "the second");
    assert!(bench.open().iter().all(|open| open.since.len() == 1), "{:?}", bench.open());
    drop(bench.hears_of(1, of_rule("three", 3, Level::High)));
    bench.seconds += 601;
    let (now, mut dice) = (bench.now(), 99);
    let mut each = || {
        dice += 1;
        [dice; 16]
    };
    drop(bench.hub.tick(&now, &mut each));
    let words: Vec<&str> = bench.open().iter().map(|open| open.why.as_str()).collect();
    let says = |both: [&str; 2]| words.iter().any(|why| both.iter().all(|of| why.contains(of)));
    assert!(says(["rule one", "rule two"]) && says(["the first", "the second"]), "{words:?}");
    let over = bench.hub.approvals().filter(|of| of.state == ApprovalState::Expired);
    assert_eq!(over.filter(|of| of.since.is_empty()).count(), 2);
}

/// A story that made room for others knows no more how much was found in it: what came while it was one is asked.
#[test]
fn a_no_covers_nothing_that_came_since_though_its_story_made_room_for_others() {
    let mut bench = Bench::with(1, |_| ());
    bench.find(1);
    let (question, story) = (bench.open()[0].id, bench.open()[0].incident);
    bench.report(1, another(8));
    for number in 0..10_001_u32 {
        let id = MachineId::new(UtcNanos::from_unix_nanos(0), [200; 10]);
        let Arrived::Finding(mut finding, _) = another(9) else { panic!() };
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        finding.raw_sha256[..4].copy_from_slice(&number.to_be_bytes());
        finding.id = FindingId::of("another", "m2", &finding.raw_sha256);
        finding.process = None;
        let time = bench.now().utc.plus(Duration::from_secs(u64::from(number + 1) * 3_601));
        let received = ReceivedFinding { machine: id, received: time, finding: *finding };
        bench.hub.grouping.place(&received, "m2", &[], &mut || bytes);
    }
    let story = story.unwrap();
    assert!(bench.hub.grouping.story(story).is_none() && bench.hub.grouping.is_open(story));
    bench.said_by("ann", false, question);
    assert!(matches!(bench.open()[..], [again] if again.why.contains("rule another")));
}

#[test]
fn what_nobody_answers_is_asked_again_with_what_came_meanwhile() {
    let mut bench = Bench::with(1, |_| ());
    bench.find(1);
    bench.report(1, another(8));
    bench.ticks_after(OPEN_FOR);
    let [again] = bench.open()[..] else { panic!("{:?}", bench.open()) };
    assert!(again.why.starts_with("NEW: ") && again.why.contains("rule another"), "{}", again.why);
    let again = again.id;
    bench.said_by("ann", false, again);
    assert!(bench.open().is_empty(), "she was told of both: {:?}", bench.open());
}

#[test]
fn what_is_not_wanted_any_more_is_not_asked_after_a_no() {
    let mut bench = Bench::with(1, |_| ());
    bench.find(1);
    let question = bench.open()[0].id;
    bench.report(1, another(8));
    // Somebody has ordered as much meanwhile; until it is shown the question stays.
    bench.wish(1, isolate());
    bench.said_by("ann", false, question);
    bench.ticks_after(1);
    assert!(bench.open().is_empty(), "{:?}", bench.open());
}

/// Nothing is new, and yet nobody was asked that: whoever would not have it cut off in full may have it segmented.
#[test]
fn less_than_what_people_said_no_to_is_asked_at_once_too() {
    let mut bench = asked_for_full_at_critical();
    bench.report(1, of_rule("worst", 7, Level::Critical));
    let question = bench.open()[0].id;
    bench.report(1, of_rule("worst", 8, Level::High));
    bench.said_by("ann", false, question);
    let [again] = bench.open()[..] else { panic!("{:?}", bench.open()) };
    assert_eq!(again.instruction.isolation(), Some(Isolation::Segment));
}

#[test]
fn what_an_earlier_version_kept_of_a_story_is_kept_anew_at_once() {
    let mut bench = Bench::with(1, |_| ());
    bench.find(1);
    let story = bench.hub.grouping.stories().next().unwrap().clone();
    let mut older = serde_json::to_value(&story).unwrap();
    older.as_object_mut().unwrap().insert("news_on".into(), serde_json::json!([1]));
    let older = Change::Story(serde_json::from_value(older).unwrap());
    let (hub, outputs) = HubCore::restore(&bench.policy, vec![older]);
    let seat = hub.grouping.seat(story.incident.id, machine(1)).unwrap().clone();
    let at = |change| {
        let kept = Output::Keep(change);
        outputs.iter().position(|output| *output == kept)
    };
    let (seat, story) = (at(Change::Seat(seat)), at(Change::Story(story)));
    assert!(seat.is_some() && seat < story, "before the story forgets it: {outputs:?}");
}

#[test]
fn what_belongs_to_another_story_is_asked_when_the_question_is_closed_with_its_own() {
    let mut bench = Bench::with(1, |_| ());
    bench.find(1);
    let first = bench.hub.incidents().next().unwrap().id;
    // More than an hour later: another story of the same machine, while people are still asked about the first.
    bench.seconds += 2 * 3600;
    bench.report(1, another(8));
    assert_eq!((bench.hub.incidents().count(), bench.open().len()), (2, 1));
    let now = bench.now();
    bench.hub.close(first, "ann", "a test", &now, &mut || [98; 16]);
    let [again] = bench.open()[..] else { panic!("{:?}", bench.open()) };
    assert!(again.incident != Some(first) && again.why.contains("rule another"), "{}", again.why);
    bench.ticks_after(1);
    assert_eq!(bench.open().len(), 1, "once");
}

/// What is later is counted: whatever the hub's clock says by then.
#[test]
fn a_no_is_later_than_what_it_answers_though_the_hubs_clock_was_set_back() {
    for back in [true, false] {
        let mut bench = Bench::with(1, |policy| policy.responses[0].also = vec![ActionKind::Kill]);
        bench.seconds += 100_000;
        bench.report(1, of_process(7));
        let question = bench.open()[0].id;
        bench.signer_is_stricter();
        bench.said_by("ann", true, question);
        bench.next_is_refused();
        let again = bench.open()[0].id;
        bench.seconds = if back { bench.seconds - 86_400 } else { bench.seconds + 3_600 };
        bench.said_by("bob", false, again);
        bench.next_is_refused();
        assert!(bench.open().is_empty(), "bob said no to all of it: {:?}", bench.open());
    }
}

/// What is done besides isolating is asked about each process: those no's must not push out the one that counts.
#[test]
fn a_no_to_isolating_is_remembered_however_much_else_is_declined() {
    let mut bench = Bench::with(1, |_| ());
    bench.find(1);
    let no = bench.open()[0].id;
    bench.said_by("ann", false, no);
    let kill = |number: u32| {
        let target = cordon_model::action::ProcessTarget {
            boot: BootId("m1".into()),
            process: cordon_model::finding::ProcessRef {
                pid: number,
                started: BootNanos(0),
                image: "/tmp/x".into(),
            },
        };
        Instruction::begin(Action::Kill(target), Policy::default_for("RJ1".parse().unwrap()).lease)
    };
    let incident = bench.hub.approval(no).unwrap().incident;
    for number in 0..40 {
        let (now, dice) = (bench.now(), number as u8);
        let asked = Question {
            machine: machine(1),
            instruction: kill(number),
            also: Vec::new(),
            needs: Needs::OnePerson,
            why: "test".into(),
            incident,
            of: None,
            refused: None,
            asked_by: None,
        };
        let (_, id) = bench.hub.put_question(asked, &now, &mut || [dice; 16]);
        bench.said_by("ann", false, id);
        bench.hub.forget_closed(machine(1));
    }
    assert!(bench.hub.approvals().count() <= CLOSED_PER_MACHINE + 2);
    assert!(bench.hub.approval(no).is_some());
    bench.find(1);
    assert!(bench.open().is_empty(), "{:?}", bench.open());
}

/// The question about the machine, declined by Ann, and how long her no holds.
fn declined_for(hold: u32) -> (Bench, ApprovalId) {
    let mut bench = Bench::with(1, |policy| policy.approval.no_holds_for_seconds = hold);
    bench.find(1);
    let question = bench.open()[0].id;
    bench.said_by("ann", false, question);
    (bench, question)
}

#[test]
fn a_no_is_over_in_the_end_and_what_is_found_again_is_asked_again() {
    let (mut bench, question) = declined_for(3_000);
    let no = bench.hub.approval(question).unwrap();
    let said_at = no.no().unwrap().at;
    assert_eq!(no.no_until, Some(said_at.plus(Duration::from_secs(3_000))));
    bench.ticks_after(2_990);
    bench.find(1);
    assert!(bench.open().is_empty(), "it holds: {:?}", bench.open());
    bench.ticks_after(20);
    assert!(bench.open().is_empty(), "nothing is found, and nothing asked");
    bench.find(1);
    let [again] = bench.open()[..] else { panic!("{:?}", bench.open()) };
    assert!(again.why.contains("the no of ann is over"), "{}", again.why);
}

#[test]
fn a_no_of_before_ages_were_kept_holds_as_long_as_the_policy_says() {
    let (mut bench, question) = declined_for(3_000);
    let mut older = bench.hub.approval(question).unwrap().clone();
    older.no_until = None;
    bench.hub.approvals.put(older);
    bench.ticks_after(2_000);
    bench.find(1);
    assert!(bench.open().is_empty(), "{:?}", bench.open());
    bench.ticks_after(1_001);
    bench.find(1);
    assert_eq!(bench.open().len(), 1);
}

/// A clock that is set back keeps no no: what has gone by is counted in running time too.
#[test]
fn a_no_is_over_in_the_end_though_the_hubs_clock_was_set_back() {
    let (mut bench, _) = declined_for(3_000);
    let back = |bench: &Bench| {
        let now = bench.now();
        Moment { utc: UtcNanos::from_unix_nanos(0), ..now }
    };
    for (after, asked) in [(2_990, 0), (20, 1)] {
        bench.seconds += after;
        let (now, number) = (back(&bench), bench.number + 1);
        bench.number = number;
        let finding = Arrived::Finding(Box::new(bench.finding(1)), vec![]);
        drop(
            bench
                .hub
                .arrived(machine(1), 1, vec![(number, finding)], &now, &mut || [number as u8; 16]),
        );
        assert_eq!(bench.open().len(), asked, "after {after} s");
    }
}

/// Also where the question has no place left for another story.
#[test]
fn what_no_place_is_left_for_on_a_question_is_counted_there_and_asked_about_after_the_no() {
    let mut bench = Bench::with(1, |_| ());
    bench.find(1);
    let question = bench.open()[0].id;
    let mut open = bench.hub.approval(question).unwrap().clone();
    open.since = (0..8)
        .map(|number| crate::approval::Since {
            incident: Some(IncidentId::new(bench.now().utc, [100 + number; 10])),
            instruction: isolate(),
            also: Vec::new(),
            finding: open.finding.unwrap(),
            level: Level::High,
            whys: vec![format!("story {number}")],
            more: 0,
            news: 1,
        })
        .collect();
    bench.hub.approvals.put(open);
    bench.find_more(1, &["attack.lateral-movement"], Level::High);
    bench.report(1, of_rule("worst", 7, Level::Critical));
    let since = bench.hub.approval(question).unwrap().since.clone();
    assert_eq!(since.len(), 9, "{since:?}");
    bench.said_by("ann", false, question);
    let [again] = bench.open()[..] else { panic!("{:?}", bench.open()) };
    let why = &again.why;
    assert!(why.contains("in further stories") && why.contains("rule worst"), "{why}");
}
