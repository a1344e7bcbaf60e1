//! A plan takes away what surely is the intruder's, leaves the rest to people, and is done when it is seen.

use cordon_model::action::{AccountTarget, FilePath, FileTarget, ProcessTarget, Sha256Digest};
use cordon_model::change::Change;
use cordon_model::event::RawEvent;
use cordon_model::finding::{Finding, Level, ProcessRef, RuleRef};
use cordon_model::ids::{FindingId, MachineId};
use cordon_model::survey::{FirstSeen, Thing, ThingKind, Unread};
use cordon_model::time::BootNanos;
use proptest::prelude::*;

use super::*;

mod changes;
mod dropped;

const TICK: u64 = 10_000_000;

fn at(second: i64) -> UtcNanos {
    UtcNanos::from_unix_nanos((1_700_000_000 + second) * 1_000_000_000)
}

fn finding(level: Level, process: Option<(u32, u64, &str)>) -> ReceivedFinding {
    let process = process.map(|(pid, tick, image)| ProcessRef {
        pid,
        started: BootNanos(tick * TICK + 3),
        image: image.into(),
    });
    let hash = [process.as_ref().map_or(0, |p| u8::try_from(p.pid % 251).unwrap()); 32];
    let finding = Finding {
        id: FindingId::of("rule", "host", &hash),
        rule: RuleRef { id: "rule".into(), title: "A worm".into(), level, tags: vec![] },
        host: "host".into(),
        time: at(10_000),
        boot_time: None,
        process,
        matched: vec![],
        raw: RawEvent { json: "{}".into(), is_cut: false },
        raw_sha256: hash,
    };
    ReceivedFinding { machine: MachineId::new(at(0), [1; 10]), received: at(10_001), finding }
}

fn seen(pid: u32, parent: u32, tick: u64, image: &str) -> SeenProcess {
    SeenProcess {
        process: ProcessRef { pid, started: BootNanos(tick * TICK), image: image.into() },
        parent,
        user: 1000,
        command: format!("{image} --x"),
    }
}

/// Seen between these seconds.
fn thing(kind: ThingKind, path: &str, line: Option<&str>, between: (i64, i64)) -> Thing {
    Thing {
        kind,
        path: FilePath::new(path),
        line: line.map(str::to_owned),
        sha256: [line.map_or(7, |line| u8::try_from(line.len() % 251).unwrap()); 32],
        owner: 0,
        first_seen: FirstSeen::Between { absent_at: at(between.0), present_at: at(between.1) },
        gone_at: None,
    }
}

fn old(kind: ThingKind, path: &str, line: Option<&str>) -> Thing {
    Thing {
        first_seen: FirstSeen::AtTheFirstLook,
        sha256: [1; 32],
        ..thing(kind, path, line, (0, 0))
    }
}

/// Surely after the beginning (10,000 s less the margin), and about it.
const AFTER: (i64, i64) = (9_000, 9_060);
const PERHAPS: (i64, i64) = (6_000, 7_000);

struct Case {
    tier: Option<ClinicalTier>,
    findings: Vec<ReceivedFinding>,
    processes: Result<Vec<SeenProcess>, String>,
    things: Vec<Thing>,
    unread: Vec<Unread>,
    of: Option<u32>,
    known_since: UtcNanos,
    survey_fails: bool,
    is_whole: bool,
    changes: Result<Vec<Change>, String>,
    measures: Vec<Measured>,
    accepted: Vec<Accepted>,
    boot_began: Option<UtcNanos>,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            tier: Some(ClinicalTier::None),
            findings: vec![finding(Level::High, None)],
            processes: Ok(vec![]),
            things: vec![],
            unread: vec![],
            of: None,
            known_since: at(0),
            survey_fails: false,
            is_whole: true,
            changes: Ok(vec![]),
            measures: vec![],
            accepted: vec![],
            boot_began: None,
        }
    }
}

impl Case {
    fn of(things: Vec<Thing>) -> Self {
        Self { things, ..Self::default() }
    }

    fn plan(&self) -> Plan {
        let survey = Survey {
            taken_at: at(11_000),
            known_since: self.known_since,
            of: self.of.unwrap_or(u32::try_from(self.things.len()).unwrap()),
            things: self.things.clone(),
            unread: self.unread.clone(),
        };
        let processes = self.processes.clone().map(|listed| Processes {
            of: u32::try_from(listed.len()).unwrap(),
            listed,
            boot: BootId("now".into()),
        });
        plan(&Facts {
            name: "office-1",
            tier: self.tier,
            incidents: &[],
            findings: &self.findings,
            findings_of: self.findings.len() as u64,
            boot_began: self.boot_began,
            processes,
            survey: if self.survey_fails { Err("no answer".into()) } else { Ok(survey) },
            changes: self.changes.clone().map(|changes| Changes {
                taken_at: at(11_000),
                watched_since: at(0),
                of: u32::try_from(changes.len()).unwrap(),
                changes,
                gaps: vec![],
            }),
            is_whole: self.is_whole,
            measures: &self.measures,
            accepted: &self.accepted,
            now: at(11_000),
        })
    }

    fn orders(&self) -> Vec<Action> {
        self.plan().to_order().map(|(_, action)| action.clone()).collect()
    }

    fn by_hand(&self) -> Vec<String> {
        let plan = self.plan();
        let hands = plan.left().filter(|step| matches!(step.how, How::ByHand { .. }));
        hands.map(|step| step.what.clone()).collect()
    }
}

fn aside(path: &str, sha256: Option<[u8; 32]>) -> Action {
    let sha256 = sha256.map(Sha256Digest);
    Action::Quarantine(FileTarget { path: FilePath::new(path), sha256 })
}

#[test]
fn what_came_surely_is_taken_away_before_what_runs_ends() {
    let case = Case {
        findings: vec![finding(Level::High, Some((77, 5, "/dev/shm/worm")))],
        processes: Ok(vec![seen(77, 1, 5, "/dev/shm/worm"), seen(78, 77, 6, "/bin/sleep")]),
        things: vec![
            thing(ThingKind::Unit, "/etc/systemd/system/evil.service", None, AFTER),
            thing(ThingKind::Account, "/etc/passwd", Some("mallory:x:1007:1007::/:/bin/sh"), AFTER),
            old(ThingKind::Account, "/etc/passwd", Some("bob:x:1000:1000::/home/bob:/bin/sh")),
        ],
        ..Case::default()
    };
    let mallory = AccountTarget { name: "mallory".into(), ends_sessions: true };
    let process =
        ProcessRef { pid: 77, started: BootNanos(5 * TICK + 3), image: "/dev/shm/worm".into() };
    let kill = Action::Kill(ProcessTarget { boot: BootId("now".into()), process });
    assert_eq!(
        case.orders(),
        [
            aside("/etc/systemd/system/evil.service", Some([7; 32])),
            Action::DisableAccount(mallory),
            aside("/dev/shm/worm", None),
            kill,
        ]
    );
    let plan = case.plan();
    let How::Order { does, .. } = &plan.steps[3].how else { panic!() };
    assert!(does.contains("78 /bin/sleep") && does.contains("can't be taken back"), "{does}");
    assert!(plan.steps[3].why[0].contains("A worm"));
}

#[test]
fn a_number_that_another_process_has_by_now_is_left_alone() {
    let named = |tick| Case {
        findings: vec![finding(Level::High, Some((77, tick, "/tmp/worm")))],
        processes: Ok(vec![seen(77, 1, 5, "/usr/bin/pacs")]),
        ..Case::default()
    };
    let kills = |case: &Case| case.orders().iter().filter(|a| matches!(a, Action::Kill(_))).count();
    assert_eq!((kills(&named(5)), kills(&named(6))), (1, 0));
    // The same number and start of an earlier boot is another process.
    let restarted = Case { boot_began: Some(at(10_400)), ..named(5) };
    assert_eq!(kills(&restarted), 0);
}

#[test]
fn of_two_processes_of_one_tree_the_root_is_ended() {
    let case = Case {
        findings: vec![
            finding(Level::High, Some((77, 5, "/tmp/worm"))),
            finding(Level::High, Some((79, 7, "/tmp/worm"))),
        ],
        processes: Ok(vec![
            seen(77, 1, 5, "/tmp/worm"),
            seen(78, 77, 6, "/bin/sh"),
            seen(79, 78, 7, "/tmp/worm"),
        ]),
        ..Case::default()
    };
    let kills = case.orders().into_iter().filter(|a| matches!(a, Action::Kill(_))).count();
    assert_eq!(kills, 1);
    assert_eq!(case.orders().len(), 2, "and its program is set aside once");
}

#[test]
fn a_table_that_a_liar_made_round_makes_a_plan_all_the_same() {
    let case = Case {
        findings: vec![finding(Level::High, Some((77, 5, "/tmp/worm")))],
        processes: Ok(vec![seen(77, 78, 5, "/tmp/worm"), seen(78, 77, 6, "/tmp/worm")]),
        ..Case::default()
    };
    assert_eq!(case.orders().len(), 2);
}

#[test]
fn a_clock_that_was_years_wrong_makes_nothing_older_suspect() {
    let unit = "/etc/systemd/system/vendor.service";
    let weeks_ago = -30 * 86_400;
    let mut wrong = finding(Level::High, None);
    wrong.finding.time = UtcNanos::from_unix_nanos(0);
    let case = Case {
        findings: vec![wrong, finding(Level::High, None)],
        known_since: at(weeks_ago - 86_400),
        ..Case::of(vec![thing(ThingKind::Unit, unit, None, (weeks_ago, weeks_ago + 60))])
    };
    assert_eq!(case.orders(), []);
}

#[test]
fn a_steps_id_is_too_long_to_be_found_by_trying() {
    let unit = "/etc/systemd/system/evil.service";
    let plan = Case::of(vec![thing(ThingKind::Unit, unit, None, AFTER)]).plan();
    assert!(!plan.steps.is_empty());
    for step in &plan.steps {
        assert!(step.id.len() == 16 && step.id.bytes().all(|b| b.is_ascii_hexdigit()), "{step:?}");
    }
    // And so has the one that stands for the rest.
    let path = |number: usize| format!("/etc/systemd/system/evil-{number}.service");
    let things = (0..MOST_STEPS + 1).map(|one| thing(ThingKind::Unit, &path(one), None, AFTER));
    let plan = Case::of(things.collect()).plan();
    let rest = plan.steps.iter().find(|step| step.what.ends_with("more steps")).unwrap();
    assert_eq!(rest.id.len(), 16);
}

#[test]
fn what_is_below_medium_gives_no_step() {
    let case = Case {
        findings: vec![finding(Level::Low, Some((77, 5, "/tmp/tool")))],
        processes: Ok(vec![seen(77, 1, 5, "/tmp/tool")]),
        ..Case::default()
    };
    assert_eq!(case.plan().steps, []);
}

#[test]
fn a_program_of_a_package_is_for_a_persons_hand() {
    let case = Case {
        findings: vec![finding(Level::High, Some((77, 5, "/usr/bin/python3.11")))],
        processes: Ok(vec![seen(77, 1, 5, "/usr/bin/python3.11")]),
        ..Case::default()
    };
    assert!(matches!(case.orders()[..], [Action::Kill(_)]), "{:?}", case.orders());
    assert_eq!(case.by_hand(), ["the program /usr/bin/python3.11"]);
    // Of one without a name nothing is left to set aside.
    for image in ["/memfd:x (deleted)", "/tmp/x (deleted)", "kworker"] {
        let findings = vec![finding(Level::High, Some((77, 5, image)))];
        assert_eq!(Case { findings, ..Case::default() }.plan().steps, [], "{image}");
    }
}

#[test]
fn a_line_of_a_file_that_was_there_is_for_a_persons_hand_with_the_line() {
    let path = "/root/.ssh/authorized_keys";
    let key = thing(ThingKind::AuthorizedKey, path, Some("ssh-ed25519 AAAA mallory"), AFTER);
    let beside = old(ThingKind::AuthorizedKey, path, Some("ssh-ed25519 BBBB us"));
    let case = Case::of(vec![key.clone(), beside]);
    assert_eq!(case.orders(), []);
    let plan = case.plan();
    let How::ByHand { todo, .. } = &plan.steps[0].how else { panic!() };
    assert!(todo.contains(path) && todo.contains("AAAA mallory"), "{todo}");
    // A file that came whole goes whole, unless more may be in it than was told.
    assert_eq!(Case::of(vec![key.clone()]).orders(), [aside(path, None)]);
    let cut = Case { of: Some(2), ..Case::of(vec![key.clone()]) };
    assert_eq!(cut.orders(), []);
    let only_what_came = Case { is_whole: false, ..Case::of(vec![key]) };
    assert_eq!(only_what_came.orders(), []);
}

#[test]
fn what_only_may_have_come_or_was_changed_or_is_a_packages_is_for_people() {
    let unit = "/etc/systemd/system/x.service";
    let perhaps = Case::of(vec![thing(ThingKind::Unit, unit, None, PERHAPS)]);
    let before = Thing { gone_at: Some(at(9_060)), ..old(ThingKind::Unit, unit, None) };
    let changed = Case::of(vec![thing(ThingKind::Unit, unit, None, AFTER), before]);
    let package =
        Case::of(vec![thing(ThingKind::Unit, "/usr/lib/systemd/system/x.service", None, AFTER)]);
    let link =
        Case::of(vec![thing(ThingKind::UnitLink, "/etc/systemd/system/a.wants/x", None, AFTER)]);
    let pam = Case::of(vec![thing(ThingKind::Pam, "/etc/pam.d/x", None, AFTER)]);
    let shared = Case::of(vec![thing(ThingKind::ShellProfile, "/etc/profile", None, AFTER)]);
    for case in [perhaps, changed, package, link, pam, shared] {
        assert_eq!(case.orders(), [], "{:?}", case.things);
        assert_eq!(case.by_hand().len(), 1, "{:?}", case.plan().steps);
    }
}

#[test]
fn what_was_there_before_is_no_step() {
    let early = (1_000, 2_000);
    let case = Case::of(vec![
        old(ThingKind::Unit, "/etc/systemd/system/ours.service", None),
        thing(ThingKind::CronScript, "/etc/cron.daily/ours", None, early),
    ]);
    assert_eq!(case.plan().steps, []);
}

#[test]
fn an_account_with_roots_number_or_that_was_there_is_for_people() {
    let line = |line| thing(ThingKind::Account, "/etc/passwd", Some(line), AFTER);
    let toor = Case::of(vec![line("toor:x:0:0::/root:/bin/sh")]);
    let odd = Case::of(vec![line("a b$(x):x:1:1::/:/bin/sh")]);
    let before = old(ThingKind::Account, "/etc/passwd", Some("bob:x:1000:1000::/:/bin/sh"));
    let before = Thing { gone_at: Some(at(9_060)), ..before };
    let changed = Case::of(vec![line("bob:x:1000:0::/:/bin/sh"), before]);
    for case in [toor, odd, changed] {
        assert!(!case.orders().iter().any(
            |a| matches!(a, Action::DisableAccount(t) if t.name == "toor" || t.name == "bob")
        ));
        assert!(!case.by_hand().is_empty() || !case.orders().is_empty());
    }
}

#[test]
fn on_a_clinical_machine_an_accounts_programs_go_on_and_care_comes_first() {
    for tier in [None, Some(ClinicalTier::Clinical), Some(ClinicalTier::LifeSustaining)] {
        let line = Some("mallory:x:1007:1007::/:/bin/sh");
        let things = vec![thing(ThingKind::Account, "/etc/passwd", line, AFTER)];
        let case = Case { tier, ..Case::of(things) };
        let mallory = AccountTarget { name: "mallory".into(), ends_sessions: false };
        assert_eq!(case.orders(), [Action::DisableAccount(mallory)]);
        assert_eq!(case.plan().cautions.len(), 1);
    }
}

#[test]
fn what_runs_as_an_account_that_is_shut_is_left() {
    let line = Some("mallory:x:1000:1000::/:/bin/sh");
    let target = AccountTarget { name: "mallory".into(), ends_sessions: true };
    let shut = Measured { action: Action::DisableAccount(target), state: MeasureState::Verified };
    let case = Case {
        processes: Ok(vec![seen(500, 1, 9, "/bin/sh")]),
        measures: vec![shut],
        ..Case::of(vec![thing(ThingKind::Account, "/etc/passwd", line, AFTER)])
    };
    assert_eq!(case.by_hand(), ["1 processes that run as mallory"]);
    assert_eq!(Case { processes: Ok(vec![]), ..case }.plan().left().count(), 0);
}

#[test]
fn what_could_not_be_looked_at_is_a_step_that_is_left() {
    let unread = Unread { path: FilePath::new("/home/x"), why: "it may never answer".into() };
    for case in [
        Case { survey_fails: true, ..Case::default() },
        Case { processes: Err("no answer".into()), ..Case::default() },
        Case { unread: vec![unread], ..Case::default() },
        Case { known_since: at(9_000), ..Case::default() },
        Case {
            of: Some(9),
            things: vec![thing(ThingKind::Unit, "/x/y", None, PERHAPS)],
            ..Case::default()
        },
    ] {
        let plan = case.plan();
        assert!(
            plan.left().any(|step| matches!(step.status, StepStatus::Unknown { .. })),
            "{plan:?}"
        );
        assert_eq!(case.orders(), []);
    }
    assert_eq!(Case::default().plan().left().count(), 0);
}

#[test]
fn a_step_is_done_when_a_look_shows_it_and_not_when_it_was_ordered() {
    let state = |state| {
        let measures = vec![Measured { action: aside("/tmp/worm", None), state }];
        let findings = vec![finding(Level::High, Some((77, 5, "/tmp/worm")))];
        let plan = Case { findings, measures, ..Case::default() }.plan();
        plan.steps[0].clone()
    };
    for waits in [MeasureState::Requested, MeasureState::Delivered, MeasureState::Applied] {
        let step = state(waits);
        assert!(step.is_left() && step.to_order().is_none(), "{step:?}");
    }
    assert!(!state(MeasureState::Verified).is_left());
    for again in [
        MeasureState::Released,
        MeasureState::Failed { why: "a full disk".into() },
        MeasureState::Unproven { why: "it is there".into() },
    ] {
        assert!(state(again).to_order().is_some());
    }
}

#[test]
fn what_is_there_again_after_it_was_set_aside_is_to_do_again() {
    let path = "/etc/systemd/system/evil.service";
    let measures =
        vec![Measured { action: aside(path, Some([7; 32])), state: MeasureState::Verified }];
    let unit = thing(ThingKind::Unit, path, None, AFTER);
    let case = Case { measures, ..Case::of(vec![unit.clone()]) };
    assert_eq!(case.orders().len(), 1);
    let gone = Thing { gone_at: Some(at(10_900)), ..unit };
    let case = Case { things: vec![gone], ..case };
    assert_eq!(case.plan().left().count(), 0, "a look shows that it is gone");
    assert_eq!(case.plan().steps.len(), 1, "and it is said");
}

#[test]
fn what_was_there_before_and_is_gone_is_for_people() {
    let gone = old(ThingKind::Unit, "/etc/systemd/system/guard.service", None);
    let case = Case::of(vec![Thing { gone_at: Some(at(9_500)), ..gone }]);
    assert_eq!(case.by_hand().len(), 1);
}

#[test]
fn a_persons_word_settles_one_step_and_no_other_content() {
    let path = "/usr/lib/systemd/system/x.service";
    let case = Case::of(vec![thing(ThingKind::Unit, path, None, AFTER)]);
    let step = case.plan().steps[0].id.clone();
    let word = Accepted { step, by: "ann".into(), why: "an update".into() };
    let case = Case { accepted: vec![word.clone()], ..case };
    assert_eq!(case.plan().left().count(), 0);
    let mut other = Case { accepted: vec![word], ..Case::of(case.things.clone()) };
    other.things[0].sha256 = [8; 32];
    assert_eq!(other.plan().left().count(), 1);
}

#[test]
fn a_word_on_the_first_look_outlives_a_clock_that_is_set_a_little_and_not_a_lost_memory() {
    let id = |known_since| {
        let plan = Case { known_since, ..Case::default() }.plan();
        plan.steps.iter().find(|step| step.what.contains("first looked at")).unwrap().id.clone()
    };
    // 9,010 s after a whole minute's beginning at 8,980.
    let first = id(at(9_010));
    assert_eq!(first, id(UtcNanos::from_unix_nanos(at(9_010).unix_nanos() + 777)));
    assert_ne!(first, id(at(9_900)));
}

#[test]
fn a_digest_names_what_is_left_and_not_how_a_tree_grows() {
    let case = |things, children: u32| Case {
        findings: vec![finding(Level::High, Some((77, 5, "/tmp/worm")))],
        processes: Ok((0..=children)
            .map(|n| seen(77 + n, if n == 0 { 1 } else { 77 }, 5 + u64::from(n), "/tmp/worm"))
            .collect()),
        ..Case::of(things)
    };
    let unit = thing(ThingKind::Unit, "/etc/systemd/system/evil.service", None, AFTER);
    let digest = case(vec![], 0).plan().digest();
    assert_eq!(digest.len(), 12);
    assert_eq!(case(vec![], 3).plan().digest(), digest);
    assert_ne!(case(vec![unit], 0).plan().digest(), digest);
}

fn any_thing() -> impl Strategy<Value = Thing> {
    let kind = prop_oneof![
        Just(ThingKind::Unit),
        Just(ThingKind::CronLine),
        Just(ThingKind::Account),
        Just(ThingKind::Pam),
        Just(ThingKind::UnitLink),
        Just(ThingKind::AuthorizedKey),
    ];
    let path = prop_oneof![
        Just("/etc/cron.d/a"),
        Just("/etc/passwd"),
        Just("/usr/lib/systemd/system/a.service"),
        Just("/etc/systemd/system/a.service"),
        Just("/etc/systemd/system/b.service"),
    ];
    let line =
        prop::option::of(prop_oneof![Just("a:x:5:5"), Just("root:x:0:0"), Just("* * * * * x")]);
    (
        kind,
        path,
        line,
        0..12_000i64,
        0..1_000i64,
        any::<bool>(),
        prop::option::of(9_000..10_000i64),
        any::<u8>(),
    )
        .prop_map(|(kind, path, line, absent, later, is_first, gone, hash)| Thing {
            first_seen: match is_first {
                true => FirstSeen::AtTheFirstLook,
                false => {
                    FirstSeen::Between { absent_at: at(absent), present_at: at(absent + later) }
                }
            },
            gone_at: gone.map(at),
            sha256: [hash; 32],
            ..thing(kind, path, line, (0, 0))
        })
}

proptest! {
    /// Whatever a machine says of itself: nothing is ordered about a thing that was there before, that only
    /// may have come, or where packages put files; every order can be signed; nothing is left out silently.
    #[test]
    fn only_what_surely_came_is_ordered(things in prop::collection::vec(any_thing(), 0..20)) {
        let case = Case::of(things);
        let plan = case.plan();
        let since = plan.since.unwrap();
        for (_, action) in plan.to_order() {
            prop_assert!(action.check().is_ok());
            let path = match action {
                Action::Quarantine(target) => target.path.clone(),
                Action::DisableAccount(_) => continue,
                other => panic!("{other:?}"),
            };
            prop_assert!(place::file_by_hand(&path).is_none());
            let there = case.things.iter().filter(|t| t.path == path && t.gone_at.is_none());
            prop_assert!(there.clone().any(|t| t.came_after(since)));
            let Action::Quarantine(target) = action else { continue };
            if target.sha256.is_none() {
                prop_assert!(case.things.iter().filter(|t| t.path == path).all(|t| t.came_after(since)));
            }
        }
        let came = case.things.iter().filter(|t| t.gone_at.is_none() && t.came_after(since));
        prop_assert!(came.count() == 0 || plan.left().count() > 0);
        prop_assert_eq!(plan.digest(), case.plan().digest());
        prop_assert!(plan.steps.len() <= MOST_STEPS);
    }

    /// A plan of any length is bounded, and what is left over is said.
    #[test]
    fn a_long_plan_is_cut_and_says_so(count in 200..400u32) {
        let things = (0..count)
            .map(|n| thing(ThingKind::Unit, &format!("/etc/systemd/system/{n}.service"), None, AFTER))
            .collect();
        let plan = Case::of(things).plan();
        prop_assert!(plan.steps.len() <= MOST_STEPS);
        if count as usize > MOST_STEPS {
            let last = plan.steps.last().unwrap();
            prop_assert!(last.is_left() && last.what.contains("more steps"));
        }
    }
}
