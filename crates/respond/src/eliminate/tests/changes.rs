//! What is put back of changes that were seen as they were made, and what is for a person's hand.

use cordon_model::action::{PutBackTarget, UndoneProcess};
use cordon_model::change::{Doer, Stood};

use super::*;

/// A change of a file that held 1 by then and holds 2 now, by these processes: pid and tick of each and of one above it.
fn change(number: u64, path: &str, sides: (u8, u8), by: &[(u32, u64)]) -> Change {
    let file = |content: u8| match content {
        0 => Stood::Nothing,
        content => Stood::File {
            sha256: Sha256Digest([content; 32]),
            bytes: 9,
            rights: "0:0 644".into(),
            is_kept: true,
        },
    };
    let doer = |(pid, tick): &(u32, u64)| Doer {
        pid: *pid + 1,
        process: Some(ProcessRef {
            pid: *pid + 1,
            started: BootNanos((tick + 1) * TICK),
            image: "/bin/sh".into(),
        }),
        above: vec![(*pid, BootNanos(tick * TICK))],
        is_cordon: *pid == 1,
    };
    Change {
        number,
        path: FilePath::new(path),
        kind: ThingKind::CronLine,
        at: at(9_100 + i64::try_from(number).unwrap()),
        boot: BootId("now".into()),
        by: by.iter().map(doer).collect(),
        before: file(sides.0),
        after: file(sides.1),
        lines: vec!["+ * * * * * root /tmp/x".into()],
        follows_unknown: false,
        is_now: true,
    }
}

const INTRUDER: (u32, u64) = (700, 50);
const SOMEBODY: (u32, u64) = (800, 60);
const CORDON: (u32, u64) = (1, 1);

fn changed(changes: Vec<Change>) -> Case {
    Case {
        findings: vec![finding(Level::High, Some((INTRUDER.0, INTRUDER.1, "/tmp/x")))],
        changes: Ok(changes),
        ..Case::default()
    }
}

fn about<'a>(plan: &'a Plan, path: &str) -> &'a Step {
    plan.steps.iter().find(|step| step.what.starts_with(&format!("{path} ("))).unwrap()
}

const TAB: &str = "/etc/crontab";

#[test]
fn what_came_of_a_findings_process_is_put_back_as_it_was_before_the_first_of_its_changes() {
    let changes = vec![change(3, TAB, (1, 2), &[INTRUDER]), change(4, TAB, (2, 3), &[INTRUDER])];
    let plan = changed(changes).plan();
    let step = about(&plan, TAB);
    let target = PutBackTarget {
        path: FilePath::new(TAB),
        first: 3,
        last: 4,
        found: Some(Sha256Digest([3; 32])),
        wanted: Some(Sha256Digest([1; 32])),
        by: vec![UndoneProcess {
            boot: BootId("now".into()),
            pid: INTRUDER.0,
            started: BootNanos(INTRUDER.1 * TICK),
        }],
    };
    assert_eq!(step.to_order(), Some(&Action::PutBack(target)));
    assert!(step.why[0].contains("process 701") && step.why[0].contains("/tmp/x"), "{step:?}");
    // What came is set aside as any file is, by what it holds.
    let plan = changed(vec![change(3, "/etc/cron.d/x", (0, 2), &[INTRUDER])]).plan();
    let aside =
        FileTarget { path: FilePath::new("/etc/cron.d/x"), sha256: Some(Sha256Digest([2; 32])) };
    assert_eq!(about(&plan, "/etc/cron.d/x").to_order(), Some(&Action::Quarantine(aside)));
}

#[test]
fn what_anybody_else_changed_since_is_for_a_person_and_what_they_changed_before_is_not() {
    let after = vec![change(3, TAB, (1, 2), &[INTRUDER]), change(4, TAB, (2, 3), &[SOMEBODY])];
    let unknown = vec![change(3, TAB, (1, 2), &[INTRUDER]), change(4, TAB, (2, 3), &[])];
    let between = vec![
        change(3, TAB, (1, 2), &[INTRUDER]),
        change(4, TAB, (2, 3), &[SOMEBODY]),
        change(5, TAB, (3, 4), &[INTRUDER]),
    ];
    for changes in [after, unknown, between] {
        let plan = changed(changes).plan();
        let step = about(&plan, TAB);
        assert!(step.to_order().is_none() && step.is_left(), "{step:?}");
        let How::ByHand { because, .. } = &step.how else { panic!("{step:?}") };
        assert!(because.contains("somebody else changed it since"), "{because}");
    }
    let before = vec![change(3, TAB, (1, 2), &[SOMEBODY]), change(4, TAB, (2, 3), &[INTRUDER])];
    let plan = changed(before).plan();
    let Some(Action::PutBack(target)) = about(&plan, TAB).to_order() else { panic!() };
    assert_eq!((target.first, target.wanted), (4, Some(Sha256Digest([2; 32]))));
    // Two at one time can't be told apart: it is not the intruder's alone.
    let plan = changed(vec![change(3, TAB, (1, 2), &[INTRUDER, SOMEBODY])]).plan();
    assert!(plan.steps.iter().all(|step| !step.what.contains("as it was before")));
}

#[test]
fn what_was_put_back_is_done_by_a_look_and_is_left_again_when_that_is_taken_back() {
    let mut changes = vec![change(3, TAB, (1, 2), &[INTRUDER]), change(4, TAB, (2, 1), &[CORDON])];
    let plan = changed(changes.clone()).plan();
    assert!(matches!(about(&plan, TAB).status, StepStatus::Done { .. }));
    changes.push(change(5, TAB, (1, 2), &[CORDON]));
    let plan = changed(changes.clone()).plan();
    let Some(Action::PutBack(target)) = about(&plan, TAB).to_order() else { panic!() };
    assert_eq!((target.first, target.last), (3, 3));
    // Put back, and changed by somebody of the hospital's since: nothing of the intruder's is left.
    let since = vec![changes[0].clone(), changes[1].clone(), change(5, TAB, (1, 3), &[SOMEBODY])];
    assert!(matches!(about(&changed(since.clone()).plan(), TAB).status, StepStatus::Done { .. }));
    // Who comes back after that is put back to what stood there then.
    let mut again = since;
    again.push(change(6, TAB, (3, 4), &[INTRUDER]));
    let plan = changed(again).plan();
    let Some(Action::PutBack(target)) = about(&plan, TAB).to_order() else { panic!() };
    assert_eq!((target.first, target.wanted), (6, Some(Sha256Digest([3; 32]))));
    // What is not there as it was seen last is put back by nobody.
    changes[2].is_now = false;
    let plan = changed(changes).plan();
    assert!(about(&plan, TAB).to_order().is_none());
}

#[test]
fn what_may_have_been_theirs_before_is_not_what_is_put_back() {
    let unknown = vec![change(3, TAB, (1, 2), &[]), change(4, TAB, (2, 3), &[INTRUDER])];
    let mut forgotten = vec![change(4, TAB, (2, 3), &[INTRUDER])];
    forgotten[0].follows_unknown = true;
    for changes in [unknown, forgotten] {
        let plan = changed(changes).plan();
        let step = about(&plan, TAB);
        assert!(step.to_order().is_none() && step.is_left(), "{step:?}");
    }
    // Long before the beginning it was somebody of the hospital's, whoever that was.
    let mut old = change(3, TAB, (1, 2), &[]);
    old.at = at(100);
    let plan = changed(vec![old, change(4, TAB, (2, 3), &[INTRUDER])]).plan();
    assert!(about(&plan, TAB).to_order().is_some());
}

#[test]
fn a_process_of_another_boot_did_nothing_in_this_one() {
    let mut one = change(3, TAB, (1, 2), &[INTRUDER]);
    one.boot = BootId("before".into());
    let case = Case { boot_began: Some(at(9_000)), ..changed(vec![one]) };
    assert!(case.plan().steps.iter().all(|step| !step.what.contains("as it was before")));
    let no_words = Case { changes: Err("an older agent".into()), ..changed(vec![]) };
    assert!(no_words.plan().looked_at.iter().any(|it| it.contains("NOT SEEN: an older agent")));
}

#[test]
fn a_process_of_one_earlier_boot_did_nothing_in_another_earlier_one() {
    let earlier = |number, boot: &str, second| Change {
        boot: BootId(boot.into()),
        at: at(second),
        ..change(number, TAB, (1, 2), &[INTRUDER])
    };
    let puts_back = |changes: Vec<Change>| {
        // Found at 10,000, in a boot that was over at 20,000.
        let case = Case { boot_began: Some(at(20_000)), ..changed(changes) };
        case.plan().steps.iter().any(|step| step.what.contains("as it was before"))
    };
    assert!(puts_back(vec![earlier(3, "one", 9_900)]));
    let by = change(4, TAB, (1, 2), &[SOMEBODY]).by;
    let between = Change { path: FilePath::new("/etc/x"), by, ..earlier(4, "two", 9_950) };
    assert!(!puts_back(vec![earlier(3, "one", 9_900), between]), "another boot lies between");
    // Found a minute after this boot began: its number may have been another's before.
    let case = |started: u64, boot: &str| {
        let mut case = changed(vec![earlier(3, boot, 9_900)]);
        let by = (INTRUDER.0, started);
        case.changes =
            Ok(vec![Change { by: change(3, TAB, (1, 2), &[by]).by, ..earlier(3, boot, 9_900) }]);
        case.findings = vec![finding(Level::High, Some((by.0, by.1, "/tmp/x")))];
        Case { boot_began: Some(at(9_850)), ..case }
    };
    let puts_back =
        |case: Case| case.plan().steps.iter().any(|step| step.what.contains("as it was before"));
    assert!(puts_back(case(50, "now")));
    // Up for days when it was found: that was not this boot.
    assert!(!puts_back(case(10 * 24 * 3_600 * 100, "now")));
    assert!(puts_back(case(10 * 24 * 3_600 * 100, "before")));
}

#[test]
fn what_decides_who_signs_in_is_put_right_by_hand() {
    for (kind, path) in [
        (ThingKind::Pam, "/etc/pam.d/sshd"),
        (ThingKind::Sudoers, "/etc/sudoers"),
        (ThingKind::Sudoers, "/etc/sudoers.d/ours"),
    ] {
        let plan = changed(vec![Change { kind, ..change(3, path, (1, 2), &[INTRUDER]) }]).plan();
        let step = about(&plan, path);
        let How::ByHand { because, .. } = &step.how else { panic!("{step:?}") };
        assert!(because.contains("who can sign in") && step.is_left(), "{step:?}");
    }
    // A line of an account is no step here: whoever came is disabled.
    let account =
        Change { kind: ThingKind::Account, ..change(3, "/etc/passwd", (1, 2), &[INTRUDER]) };
    let plan = changed(vec![account]).plan();
    assert!(plan.steps.iter().all(|step| !step.what.contains("as it was before")));
}

#[test]
fn a_place_of_which_more_is_known_has_one_step() {
    let case = Case {
        things: vec![thing(ThingKind::CronLine, TAB, Some("* * * * * root /tmp/x"), AFTER)],
        ..changed(vec![change(3, TAB, (1, 2), &[INTRUDER])])
    };
    let plan = case.plan();
    let about = plan.steps.iter().filter(|step| step.what.contains(TAB)).count();
    assert_eq!(about, 1, "{plan:#?}");
}
