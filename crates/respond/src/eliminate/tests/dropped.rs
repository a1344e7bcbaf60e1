//! Programs where anybody may write: what surely is the intruder's is set aside, what may be somebody's work is not.

use super::*;

const WORM: &str = "/tmp/worm";
/// As which the intruder's process runs.
const INTRUDER: u32 = 1000;
const SOMEBODY: u32 = 1001;
/// What the worm holds.
const BAD: u8 = 66;

fn dropped(path: &str, content: u8, owner: u32, between: (i64, i64)) -> Thing {
    let thing = thing(ThingKind::DroppedProgram, path, None, between);
    Thing { sha256: [content; 32], owner, ..thing }
}

/// A worm runs as this user, and these lie there.
fn infected(user: u32, things: Vec<Thing>) -> Case {
    Case {
        findings: vec![finding(Level::High, Some((77, 5, WORM)))],
        processes: Ok(vec![SeenProcess { user, ..seen(77, 1, 5, WORM) }]),
        ..Case::of(things)
    }
}

fn asides(case: &Case) -> Vec<Action> {
    let is_aside = |action: &Action| matches!(action, Action::Quarantine(_));
    let mut asides: Vec<_> = case.orders().into_iter().filter(is_aside).collect();
    asides.retain(|action| *action != aside(WORM, None));
    asides
}

/// What becomes of one program beside the worm, if a step tells of it: ordered, or by hand and why.
fn becomes(user: u32, thing: Thing) -> Option<Result<Action, String>> {
    let path = thing.path.to_string();
    let worm = dropped(WORM, BAD, user, AFTER);
    let plan = infected(user, vec![worm, thing]).plan();
    let step = plan.steps.iter().find(|step| step.what.starts_with(&format!("{path} (")))?;
    Some(match &step.how {
        How::Order { action, .. } => Ok(action.clone()),
        How::ByHand { because, .. } => Err(because.clone()),
    })
}

#[test]
fn a_program_is_set_aside_if_it_surely_came_and_its_owner_or_content_tells() {
    const GOOD: u8 = 7;
    let path = "/dev/shm/x";
    let all = [
        // Whom the worm runs as, who owns it, what it holds, when it came; and what becomes of it.
        (INTRUDER, INTRUDER, GOOD, AFTER, "ordered"),
        (INTRUDER, SOMEBODY, BAD, AFTER, "ordered"),
        (0, SOMEBODY, BAD, AFTER, "ordered"),
        (INTRUDER, SOMEBODY, GOOD, AFTER, "somebody's work"),
        // Root and nobody are many.
        (0, 0, GOOD, AFTER, "somebody's work"),
        (65_534, 65_534, GOOD, AFTER, "somebody's work"),
        (INTRUDER, INTRUDER, BAD, PERHAPS, "only may have come"),
        (INTRUDER, INTRUDER, BAD, (1_000, 2_000), "no step"),
    ];
    for (user, owner, content, between, expected) in all {
        let came = becomes(user, dropped(path, content, owner, between));
        match came {
            None => assert_eq!(expected, "no step", "{owner} {content} {between:?}"),
            Some(Ok(action)) => {
                assert_eq!(action, aside(path, Some([content; 32])));
                assert_eq!(expected, "ordered", "{owner} {content} {between:?}");
            }
            Some(Err(because)) => {
                assert!(because.contains(expected), "{because}: {owner} {content} {between:?}");
            }
        }
    }
    let first =
        Thing { first_seen: FirstSeen::AtTheFirstLook, ..dropped(path, BAD, INTRUDER, AFTER) };
    assert_eq!(becomes(INTRUDER, first), None);
    // A user's own copy of what runs others' programs is as innocent as the system's.
    let python = becomes(INTRUDER, dropped("/tmp/venv/python3", GOOD, INTRUDER, AFTER));
    assert!(python.unwrap().unwrap_err().contains("own copy"));
}

#[test]
fn a_step_says_by_what_the_program_is_told_and_stands_before_what_runs() {
    let case = infected(
        INTRUDER,
        vec![
            dropped(WORM, BAD, 0, AFTER),
            dropped("/var/tmp/a", BAD, 0, AFTER),
            dropped("/tmp/b", 7, INTRUDER, AFTER),
            thing(ThingKind::Unit, "/etc/systemd/system/evil.service", None, AFTER),
        ],
    );
    let plan = case.plan();
    let ordered: Vec<&str> = plan.to_order().map(|(step, _)| step.what.as_str()).collect();
    assert!(ordered[0].contains("evil.service") && ordered[4].starts_with("process"));
    let why = |path: &str| {
        let step = plan.steps.iter().find(|step| step.what.starts_with(path)).unwrap();
        step.why.join("; ")
    };
    assert!(why("/var/tmp/a").contains("the same to the byte as /tmp/worm"), "{plan:#?}");
    assert!(why("/tmp/b").contains("the account 1000 owns it"));
    assert!(why("/tmp/b").contains("T1105"));
    // The worm itself has one step, of its own.
    assert_eq!(ordered.iter().filter(|what| what.contains(WORM)).count(), 2, "{ordered:?}");
}

#[test]
fn what_was_replaced_there_is_for_people() {
    let before = Thing {
        first_seen: FirstSeen::AtTheFirstLook,
        gone_at: Some(at(9_060)),
        ..dropped("/tmp/x", 1, SOMEBODY, AFTER)
    };
    let case = infected(INTRUDER, vec![before, dropped("/tmp/x", 7, INTRUDER, AFTER)]);
    assert_eq!((asides(&case).len(), case.by_hand().len()), (0, 1));
}

#[test]
fn a_process_that_ended_is_told_by_the_findings_own_event_and_no_other_text_is_believed() {
    let with = |json: &str| {
        let mut case = infected(0, vec![dropped("/tmp/x", 7, INTRUDER, AFTER)]);
        case.processes = Ok(vec![]);
        case.findings[0].finding.raw = RawEvent { json: json.into(), is_cut: false };
        asides(&case).len()
    };
    let start = r#"{"type":"process_start","pid":77,"user":{"uid":1000,"effective_uid":0}}"#;
    assert_eq!(with(start), 1);
    assert_eq!(with(&start.replace("1000", "1001")), 0);
    assert_eq!(
        with(r#"{"type":"process_start","pid":77,"user":{"uid":0,"effective_uid":1000}}"#),
        1
    );
    assert_eq!(with(r#"{"type":"connection","process":{"pid":77},"uid":1000,"user":"bob"}"#), 1);
    for other in [
        "",
        "{}",
        "[1000]",
        &start[..start.len() - 9],
        r#"{"type":"process_start","pid":78,"user":{"uid":1000}}"#,
        r#"{"type":"process_start","pid":77,"user":"1000"}"#,
        r#"{"type":"process_start","pid":77,"user":{"uid":4294968296}}"#,
        r#"{"type":"process_start","pid":77,"user":{"uid":-1000}}"#,
        r#"{"type":"other","pid":77,"user":{"uid":1000},"uid":1000}"#,
        r#"{"type":"connection","uid":1000}"#,
    ] {
        assert_eq!(with(other), 0, "{other}");
    }
}

#[test]
fn a_finding_that_does_not_count_and_a_number_of_another_process_tell_nobody() {
    let things = vec![dropped("/tmp/x", 7, INTRUDER, AFTER), dropped("/tmp/worm", 7, 0, AFTER)];
    let low = Case {
        findings: vec![finding(Level::Low, Some((77, 5, WORM))), finding(Level::High, None)],
        ..infected(INTRUDER, things.clone())
    };
    assert_eq!(low.orders(), []);
    let mut other = infected(INTRUDER, things);
    other.findings = vec![finding(Level::High, Some((77, 6, WORM)))];
    // What its program holds is told all the same.
    assert_eq!(asides(&other), [aside("/tmp/x", Some([7; 32]))]);
    other.things[0].sha256 = [8; 32];
    assert_eq!(asides(&other), []);
}

#[test]
fn what_the_program_of_a_finding_held_long_before_is_not_the_intruders() {
    let gone =
        |second| Thing { gone_at: Some(at(second)), ..dropped(WORM, BAD, SOMEBODY, (500, 1_000)) };
    let copy = dropped("/tmp/copy", BAD, SOMEBODY, AFTER);
    assert_eq!(asides(&infected(0, vec![gone(2_000), copy.clone()])).len(), 0);
    assert_eq!(asides(&infected(0, vec![gone(9_100), copy])).len(), 1);
}

#[test]
fn what_was_set_aside_is_done_when_a_look_shows_it_gone_and_what_work_took_away_is_no_step() {
    let path = "/dev/shm/x";
    let measured = |path: &str, sha256| Measured {
        action: aside(path, sha256),
        state: MeasureState::Verified,
    };
    let mut case = infected(INTRUDER, vec![dropped(path, 7, INTRUDER, AFTER)]);
    case.processes = Ok(vec![SeenProcess { user: INTRUDER, ..seen(77, 1, 5, WORM) }]);
    case.measures = vec![measured(path, Some([7; 32])), measured(WORM, None)];
    let status = |case: &Case, what: &str| {
        let plan = case.plan();
        plan.steps.iter().find(|step| step.what.starts_with(what)).map(|step| step.status.clone())
    };
    let again = StepStatus::ToDo { last: Some("it was set aside, and is there again".into()) };
    assert_eq!(status(&case, path), Some(again.clone()));
    case.things[0].gone_at = Some(at(10_500));
    assert!(matches!(status(&case, path), Some(StepStatus::Done { .. })));
    // Set aside by a person, whoever owned it: it is said.
    case.things[0].owner = SOMEBODY;
    assert!(matches!(status(&case, path), Some(StepStatus::Done { .. })));
    case.measures.remove(0);
    assert_eq!(status(&case, path), None, "work took it away");
    // There before, and gone now: nobody has to put it back.
    case.things[0].first_seen = FirstSeen::AtTheFirstLook;
    assert_eq!(status(&case, path), None);

    // The worm's own step knows what a look saw, too.
    let worm = format!("the program {WORM}");
    assert!(matches!(status(&case, &worm), Some(StepStatus::Done { .. })));
    case.things = vec![dropped(WORM, 9, INTRUDER, AFTER)];
    assert_eq!(status(&case, &worm), Some(again));
    // Gone before anybody set it aside: a look shows it.
    case.measures = vec![Measured {
        state: MeasureState::Failed { why: "not there".into() },
        ..measured(WORM, None)
    }];
    assert!(matches!(status(&case, &worm), Some(StepStatus::ToDo { .. })));
    case.things[0].gone_at = Some(at(10_500));
    assert!(matches!(status(&case, &worm), Some(StepStatus::Done { .. })));
}

#[test]
fn a_persons_word_lets_a_program_stay_and_work_beside_changes_no_digest() {
    let ours = dropped("/tmp/ours", 7, SOMEBODY, AFTER);
    let case = infected(INTRUDER, vec![ours.clone()]);
    let plan = case.plan();
    let step = plan.steps.iter().find(|step| step.what.starts_with("/tmp/ours")).unwrap();
    assert!(step.is_left() && step.to_order().is_none() && step.named == Named::Never);
    let word = Accepted { step: step.id.clone(), by: "ann".into(), why: "a report".into() };
    let accepted = Case { accepted: vec![word], ..infected(INTRUDER, vec![ours]) };
    assert_eq!(accepted.plan().left().count(), 2, "the worm's program and its process");
    // While a person reads, work goes on.
    let alone = infected(INTRUDER, vec![]).plan().digest();
    assert_eq!(case.plan().digest(), alone);
    let unread = Unread { path: FilePath::new("/tmp/a"), why: "no time was left".into() };
    let case = Case { unread: vec![unread], ..infected(INTRUDER, vec![]) };
    assert_eq!(case.plan().digest(), alone);
    assert_eq!(case.plan().left().count(), 3, "and what could not be read is left");
    // What is ordered is in it.
    let more = infected(INTRUDER, vec![dropped("/tmp/x", 7, INTRUDER, AFTER)]);
    assert_ne!(more.plan().digest(), alone);
}

#[test]
fn work_without_end_hides_no_other_step() {
    let mut things: Vec<Thing> = (0..4 * MOST_STEPS)
        .map(|number| {
            dropped(&format!("/tmp/{number}"), 7, 2_000 + u32::try_from(number).unwrap(), AFTER)
        })
        .collect();
    things.push(thing(ThingKind::Pam, "/etc/pam.d/x", None, AFTER));
    let unread = Unread { path: FilePath::new("/home/x"), why: "it may never answer".into() };
    let plan = Case { unread: vec![unread], ..infected(INTRUDER, things) }.plan();
    for what in ["/etc/pam.d/x", "/home/x", WORM] {
        assert!(plan.steps.iter().any(|step| step.what.contains(what)), "{what}");
    }
    assert!(plan.steps.len() == MOST_STEPS && plan.steps.last().unwrap().is_left());
}

/// As a build leaves them.
fn build(owner: u32, count: u8) -> Vec<Thing> {
    (0..count)
        .map(|number| dropped(&format!("/tmp/build/{number}.o"), number, owner, AFTER))
        .collect()
}

#[test]
fn of_a_build_a_person_is_asked_once_and_accepts_what_they_saw_alone() {
    let left = |case: &Case| -> Vec<Step> {
        let plan = case.plan();
        plan.left().filter(|step| step.what.contains("dropped program")).cloned().collect()
    };
    let mut case = infected(INTRUDER, build(SOMEBODY, 200));
    let [step] = &left(&case)[..] else { panic!("{:#?}", left(&case)) };
    assert_eq!(step.what, "200 programs of account 1001 in /tmp (dropped program)");
    assert_eq!(
        (step.to_order(), step.named, step.why.len()),
        (None, Named::Never, MOST_REASONS + 1)
    );
    case.accepted =
        vec![Accepted { step: step.id.clone(), by: "ann".into(), why: "a build".into() }];
    assert_eq!(left(&case), []);
    // One more, another content, one fewer: nobody has said a word of these.
    for change in [
        |things: &mut Vec<Thing>| things.push(dropped("/tmp/build/x", 7, SOMEBODY, AFTER)),
        |things: &mut Vec<Thing>| things[3].sha256 = [201; 32],
        |things: &mut Vec<Thing>| drop(things.pop()),
    ] {
        let mut case =
            Case { accepted: case.accepted.clone(), ..infected(INTRUDER, build(SOMEBODY, 200)) };
        change(&mut case.things);
        assert_eq!(left(&case).len(), 1);
    }
    // Whose they are and where they lie is told apart, and so is why nobody can tell; few are asked of one by one.
    let mut things = [build(SOMEBODY, 9), build(0, 9)].concat();
    things.extend((0..9).map(|number| dropped(&format!("/dev/shm/{number}"), 7, SOMEBODY, AFTER)));
    things.extend((0..9).map(|number| dropped(&format!("/tmp/p{number}"), 7, SOMEBODY, PERHAPS)));
    things.extend((0..4).map(|number| dropped(&format!("/var/tmp/{number}"), 7, SOMEBODY, AFTER)));
    assert_eq!(left(&infected(INTRUDER, things)).len(), 8);
}

#[test]
fn a_flood_of_the_intruders_own_hides_no_other_step_and_keeps_nothing_from_ending() {
    let mut things = build(INTRUDER, 250);
    things.push(thing(ThingKind::Pam, "/etc/pam.d/x", None, AFTER));
    let unread = Unread { path: FilePath::new("/home/x"), why: "it may never answer".into() };
    let plan = Case { unread: vec![unread], ..infected(INTRUDER, things) }.plan();
    let place = |what: &str| plan.steps.iter().position(|step| step.what.contains(what)).unwrap();
    let is_dropped = |step: &&Step| step.named == Named::Apart;
    // Among those that are ordered at once.
    assert_eq!(
        plan.to_order().position(|(_, action)| matches!(action, Action::Kill(_))),
        Some(FIRST_DROPPED + 1)
    );
    assert!(place("/etc/pam.d/x") < 20 && place("/home/x") < 20, "{plan:#?}");
    assert_eq!(plan.steps.iter().take(place("process")).filter(is_dropped).count(), FIRST_DROPPED);
    assert!(plan.steps.len() == MOST_STEPS && plan.steps.last().unwrap().is_left());
    assert_eq!(plan.steps.last().unwrap().named, Named::Apart);
}

#[test]
fn whoever_drops_a_file_a_second_keeps_no_plan_from_being_ordered() {
    let seen = infected(INTRUDER, build(INTRUDER, 3)).plan();
    let digest = seen.digest();
    assert_eq!((digest.len(), seen.agrees(&digest)), (25, Agrees::Whole));
    let mut case = infected(INTRUDER, build(INTRUDER, 4));
    assert_eq!(case.plan().agrees(&digest), Agrees::ButDropped);
    case.things.clear();
    assert_eq!(case.plan().agrees(&digest), Agrees::ButDropped, "they are gone");
    assert_eq!(seen.agrees(&case.plan().digest()), Agrees::ButDropped, "they came");
    // What comes elsewhere is another plan.
    case.things.push(thing(ThingKind::Unit, "/etc/systemd/system/evil.service", None, AFTER));
    assert_eq!(case.plan().agrees(&digest), Agrees::Not);
    for other in ["", "-", "0123456789ab", "0123456789ab-0123456789ab"] {
        assert_eq!(seen.agrees(other), Agrees::Not, "{other}");
    }
    // If nothing else is to be ordered, whoever looks sees it first.
    let alone = |count| {
        let mut case = infected(INTRUDER, build(INTRUDER, count));
        case.processes = Ok(vec![]);
        case.measures = vec![Measured { action: aside(WORM, None), state: MeasureState::Verified }];
        let start = r#"{"type":"process_start","pid":77,"user":{"uid":1000}}"#;
        case.findings[0].finding.raw = RawEvent { json: start.into(), is_cut: false };
        case.plan()
    };
    assert_eq!(asides(&infected(INTRUDER, build(INTRUDER, 3))).len(), 3);
    assert_eq!(alone(3).agrees(&alone(4).digest()), Agrees::Not);

    // Whatever can't be read there, or is of somebody's work, and however much: no other plan.
    let quiet = infected(INTRUDER, vec![]).plan().digest();
    let unread =
        |number| Unread { path: FilePath::new(format!("/tmp/{number}")), why: "large".into() };
    let noisy =
        Case { unread: (0..400).map(unread).collect(), ..infected(INTRUDER, build(SOMEBODY, 9)) };
    assert_eq!(noisy.plan().digest(), quiet);
    assert_eq!(noisy.plan().steps.len(), MOST_STEPS);
}

fn any_dropped() -> impl Strategy<Value = Thing> {
    let path = prop_oneof![
        Just(WORM),
        Just("/tmp/a"),
        Just("/tmp/python3"),
        Just("/var/tmp/b"),
        Just("/dev/shm/c/d"),
    ];
    let owner = prop_oneof![Just(0), Just(INTRUDER), Just(SOMEBODY), Just(65_534)];
    let between = (any::<bool>(), 0..12_000i64, 0..1_000i64);
    let gone = prop::option::of(9_000..10_000i64);
    (path, 64..68u8, owner, between, gone).prop_map(
        |(path, content, owner, (is_first, absent, later), gone)| {
            let mut thing = dropped(path, content, owner, (absent, absent + later));
            thing.gone_at = gone.map(at);
            if is_first {
                thing.first_seen = FirstSeen::AtTheFirstLook;
            }
            thing
        },
    )
}

proptest! {
    /// Whatever lies there: set aside is only what surely came, and is the intruder's by its owner or its content;
    /// nothing of it that is there and came is left out.
    #[test]
    fn only_the_intruders_is_ordered_and_nothing_that_came_is_left_out(
        user in prop_oneof![Just(0), Just(INTRUDER), Just(65_534)],
        things in prop::collection::vec(any_dropped(), 0..12),
    ) {
        let case = infected(user, things);
        let plan = case.plan();
        let since = plan.since.unwrap();
        for action in asides(&case) {
            prop_assert!(action.check().is_ok());
            let Action::Quarantine(target) = action else { panic!() };
            let sha256 = target.sha256.unwrap().0;
            let is_it = |thing: &&Thing| thing.path == target.path && thing.sha256 == sha256;
            let bad = |one: &Thing| case.things.iter().any(|worm| {
                worm.path == FilePath::new(WORM) && worm.sha256 == one.sha256
            });
            prop_assert!(target.path != FilePath::new(WORM) && !target.path.to_string().contains("python"));
            let may_be_ordered = |one: &Thing| {
                one.gone_at.is_none()
                    && one.came_after(since)
                    && (bad(one) || one.owner == INTRUDER && user == INTRUDER)
            };
            prop_assert!(case.things.iter().filter(is_it).any(may_be_ordered));
        }
        for one in case.things.iter().filter(|one| one.gone_at.is_none()) {
            let place = place::open_to_all(&one.path).unwrap();
            let many = format!("programs of account {} in {place} (", one.owner);
            let is_told = plan.steps.iter().any(|step| {
                step.what.contains(&one.path.to_string()) || step.what.contains(&many)
            });
            prop_assert!(is_told || !one.may_have_come_after(since));
        }
    }
}
