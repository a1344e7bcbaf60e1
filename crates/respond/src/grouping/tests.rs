//! Where findings go, what they bring, and what is remembered of it.

use super::*;
use cordon_model::event::RawEvent;
use cordon_model::finding::{Finding, ProcessRef, RuleRef};
use cordon_model::time::{BootNanos, UtcNanos};

fn machine(number: u8) -> MachineId {
    MachineId::new(UtcNanos::from_unix_nanos(0), [number; 10])
}

fn received(on: u8, rule: &str, level: Level, seconds: i64) -> ReceivedFinding {
    let time = UtcNanos::from_unix_nanos(seconds * 1_000_000_000);
    let event = (seconds as u64).to_be_bytes();
    let mut sha = [on; 32];
    sha[..8].copy_from_slice(&event);
    ReceivedFinding {
        machine: machine(on),
        received: time,
        finding: Finding {
            id: FindingId::of(rule, &on.to_string(), &sha),
            rule: RuleRef {
                id: rule.into(),
                title: format!("rule {rule}"),
                level,
                tags: vec!["attack.execution".into(), "attack.t1059".into()],
            },
            host: format!("pc-{on}"),
            time,
            boot_time: None,
            process: Some(ProcessRef {
                pid: 1,
                started: BootNanos(0),
                image: format!("/tmp/{rule}"),
            }),
            matched: vec![],
            raw: RawEvent { json: "{}".into(), is_cut: false },
            raw_sha256: sha,
        },
    }
}

struct Bench {
    grouping: Grouping,
    next: u8,
}

impl Bench {
    fn new() -> Self {
        Self { grouping: Grouping::new("RJ1".parse().unwrap()), next: 0 }
    }

    fn place(&mut self, received: &ReceivedFinding) -> Placed {
        self.place_touching(received, &[])
    }

    fn place_touching(&mut self, received: &ReceivedFinding, touched: &[MachineId]) -> Placed {
        let next = &mut self.next;
        self.grouping.place(received, "bed 7", touched, &mut || {
            *next += 1;
            [*next; 16]
        })
    }

    fn risk(&self, placed: Placed) -> u32 {
        self.grouping.story(placed.incident).unwrap().incident.risk
    }
}

#[test]
fn what_spreads_to_a_machine_is_new_there_though_another_had_it() {
    let mut bench = Bench::new();
    bench.place(&received(1, "a", Level::High, 0));
    bench.place(&received(2, "a", Level::High, 1));
    let b = bench.place(&received(2, "b", Level::High, 2));
    let news = |bench: &Bench| bench.grouping.news_of(b.incident, machine(1));
    let before = news(&bench);
    let spread = bench.place(&received(1, "b", Level::High, 3));
    assert_eq!((spread.incident, spread.is_news), (b.incident, false), "known in the story");
    assert_eq!(news(&bench), before + 1);
    bench.place(&received(1, "b", Level::High, 4));
    assert_eq!(news(&bench), before + 1, "and there from then on");
}

#[test]
fn findings_of_one_machine_within_the_window_are_one_story() {
    let mut bench = Bench::new();
    let first = bench.place(&received(1, "a", Level::Medium, 0));
    assert_eq!(first.how, How::Opened);
    let second = bench.place(&received(1, "b", Level::High, 3_600));
    assert_eq!((second.how, second.incident), (How::Joined, first.incident));
    let much_later = bench.place(&received(1, "b", Level::High, 7_300));
    assert_eq!(much_later.how, How::Opened);
}

#[test]
fn doubles_fold_and_repeats_add_no_risk() {
    let mut bench = Bench::new();
    let first = bench.place(&received(1, "a", Level::High, 0));
    let risk = bench.risk(first);
    assert_eq!(risk, risk_of(Level::High) + RISK_OF_TACTIC);
    assert_eq!(bench.place(&received(1, "a", Level::High, 0)).how, How::Double);
    let repeat = bench.place(&received(1, "a", Level::High, 1));
    assert_eq!((repeat.how, repeat.is_news, bench.risk(repeat)), (How::Joined, false, risk));
    let news = bench.place(&received(1, "b", Level::Critical, 2));
    assert!(news.is_news);
    assert_eq!(bench.risk(news), risk + risk_of(Level::Critical));
    let incident = &bench.grouping.story(news.incident).unwrap().incident;
    assert_eq!((incident.finding_count, incident.title.as_str()), (3, "rule b on bed 7"));
}

#[test]
fn a_worm_on_many_machines_is_one_story() {
    let mut bench = Bench::new();
    let first = bench.place(&received(1, "worm", Level::High, 0));
    let same = bench.place(&received(2, "worm", Level::High, 5));
    assert_eq!(same.incident, first.incident, "same serious rule and program");
    let touched = bench.place_touching(&received(3, "other", Level::Low, 6), &[machine(2)]);
    assert_eq!(touched.incident, first.incident, "it connected to a machine of the story");
    let unrelated = bench.place(&received(4, "noise", Level::Low, 7));
    assert_ne!(unrelated.incident, first.incident);
    let also_noise = bench.place(&received(5, "noise", Level::Low, 8));
    assert_ne!(also_noise.incident, unrelated.incident, "a mild rule joins no machines");
}

#[test]
fn a_closed_incident_takes_nothing_more() {
    let mut bench = Bench::new();
    let first = bench.place(&received(1, "a", Level::High, 0));
    let closed = bench.grouping.close(first.incident).unwrap();
    assert_eq!(closed.incident.state, IncidentState::Closed);
    assert_eq!(bench.place(&received(1, "a", Level::High, 1)).how, How::Opened);
}

#[test]
fn one_that_made_room_is_taken_and_closed_as_it_was_kept_and_not_once_it_is_closed() {
    let mut bench = Bench::new();
    let first = bench.place(&received(1, "a", Level::High, 0)).incident;
    let kept = bench.grouping.story(first).unwrap().clone();
    assert!(bench.grouping.own_kept(kept.clone(), "ann").is_none(), "it is at hand as it is now");
    bench.grouping.give_up(first);
    bench.grouping.given_up.insert(first);
    assert!(bench.grouping.own(first, "ann").is_none());
    let taken = bench.grouping.own_kept(kept.clone(), "ann").unwrap();
    assert_eq!(taken.incident.owner.as_deref(), Some("ann"));
    assert_eq!((taken.incident.state, &taken.rules), (IncidentState::Owned, &kept.rules));
    assert!(bench.grouping.is_open(first));
    let closed = bench.grouping.close_kept(taken).unwrap();
    assert_eq!(closed.incident.state, IncidentState::Closed);
    assert!(!bench.grouping.is_open(first));
    // Whoever read it before that does not open it again.
    assert!(bench.grouping.own_kept(kept, "bob").is_none());
    assert!(bench.grouping.close_kept(closed).is_none());
}

#[test]
fn what_was_restored_goes_on() {
    let mut bench = Bench::new();
    let first = bench.place(&received(1, "a", Level::High, 0));
    let stories: Vec<Story> = bench.grouping.stories().cloned().collect();
    let seats: Vec<Seat> = bench.grouping.seats_of(first.incident).cloned().collect();
    let news = bench.grouping.news_of(first.incident, machine(1));
    bench.grouping = Grouping::restore("RJ1".parse().unwrap(), stories, seats).0;
    assert_eq!((news, bench.grouping.news_of(first.incident, machine(1))), (1, 1));
    assert_eq!(bench.place(&received(1, "a", Level::High, 0)).how, How::Double);
    assert_eq!(bench.place(&received(1, "b", Level::Low, 1)).incident, first.incident);
}

#[test]
fn after_a_restart_a_double_is_still_told_from_another_machines_finding_of_the_same_id() {
    let mut grouping = Grouping::new("RJ1".parse().unwrap());
    let first = received(1, "rule", Level::High, 1);
    let mut second = received(2, "rule", Level::High, 1);
    second.finding.id = first.finding.id;
    let placed = grouping.place(&first, "bed 7", &[], &mut || [1; 16]);
    assert_eq!(grouping.place(&second, "bed 7", &[machine(1)], &mut || [2; 16]).how, How::Joined);
    let story = grouping.story(placed.incident).unwrap();
    let story: Story = serde_json::from_str(&serde_json::to_string(story).unwrap()).unwrap();
    let mut restored = Grouping::restore("RJ1".parse().unwrap(), [story.clone()], []).0;
    let mut how = |of| restored.place(of, "bed 7", &[], &mut || [3; 16]).how;
    assert_eq!((how(&first), how(&second)), (How::Double, How::Double));
    let mut third = received(3, "rule", Level::High, 1);
    third.finding.id = first.finding.id;
    assert_ne!(how(&third), How::Double);
    // A story that was kept before this was known, of one machine: nothing is doubled.
    let mut older = Grouping::new("RJ1".parse().unwrap());
    let incident = older.place(&first, "bed 7", &[], &mut || [1; 16]).incident;
    let mut kept = serde_json::to_value(older.story(incident).unwrap()).unwrap();
    kept.as_object_mut().unwrap().remove("found_on");
    let story = serde_json::from_value(kept).unwrap();
    let mut restored = Grouping::restore("RJ1".parse().unwrap(), [story], []).0;
    assert_eq!(restored.place(&first, "bed 7", &[], &mut || [3; 16]).how, How::Double);
}

/// One of as many machines as there are.
fn one_of_many(number: u16, rule: &str, level: Level) -> ReceivedFinding {
    let of = received(1, rule, level, i64::from(number));
    let mut bytes = [0; 10];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    let machine = MachineId::new(UtcNanos::from_unix_nanos(1), bytes);
    ReceivedFinding { machine, received: UtcNanos::from_unix_nanos(1), ..of }
}

#[test]
fn a_rule_on_thousands_of_machines_is_remembered_on_each() {
    let mut bench = Bench::new();
    let machines = 3_000;
    let first = bench.place(&one_of_many(0, "wrong", Level::High));
    for number in 1..machines {
        let placed = bench.place(&one_of_many(number, "wrong", Level::High));
        assert_eq!((placed.incident, placed.is_news_there), (first.incident, true));
    }
    for number in [0, 1, 2_047, 2_048, 2_999] {
        let mut again = one_of_many(number, "wrong", Level::High);
        again.finding.id = FindingId::of("again", "x", &[7; 32]);
        let placed = bench.place(&again);
        assert_eq!((placed.incident, placed.is_news_there), (first.incident, false), "{number}");
        assert_eq!(bench.grouping.news_of(first.incident, again.machine), 1);
    }
    // Nothing of that is in what each finding rewrites.
    let story = bench.grouping.story(first.incident).unwrap();
    let kept = serde_json::to_value(story).unwrap();
    assert!(kept.get("seen_on").is_none() && kept.get("news_on").is_none());
    let closed = bench.grouping.close(first.incident).unwrap();
    assert!(bench.grouping.seats.is_empty(), "{:?}", closed.incident.id);
}

#[test]
fn a_machine_that_makes_up_rules_uses_up_its_own_share_and_no_other() {
    let mut bench = Bench::new();
    let first = bench.place(&received(1, "first", Level::High, 0));
    bench.place_touching(&received(2, "second", Level::High, 0), &[machine(1)]);
    let mut told = 0;
    for number in 1..=300 {
        let placed =
            bench.place(&received(1, &format!("made up {number}"), Level::Informational, number));
        assert_eq!(placed.incident, first.incident);
        told += u32::from(placed.is_news);
    }
    // It tells people no more than its share, though each of its rules is new there for a no.
    assert!(told < SEEN_PER_MACHINE as u32, "{told}");
    assert_eq!(bench.grouping.news_of(first.incident, machine(1)), 301);
    let risk = bench.risk(first);
    let worm = bench.place(&received(2, "worm", Level::Critical, 301));
    assert_eq!(
        (worm.is_news, worm.is_news_there),
        (true, true),
        "the names are full, and it is news"
    );
    let risk_now = bench.risk(worm);
    assert_eq!(risk_now, risk + risk_of(Level::Critical));
    let other = bench.place(&received(2, "another", Level::High, 302));
    assert!(other.is_news, "also where the level is no news");
    let news = bench.grouping.news_of(first.incident, machine(2));
    let again = bench.place(&received(2, "another", Level::High, 303));
    assert_eq!((again.is_news, again.is_news_there), (false, false));
    assert_eq!(bench.grouping.news_of(first.incident, machine(2)), news);
}

#[test]
fn what_an_earlier_version_kept_of_all_machines_together_is_taken_over() {
    let mut bench = Bench::new();
    bench.place(&received(1, "a", Level::High, 0));
    bench.place(&received(2, "a", Level::High, 1));
    let first = bench.place(&received(2, "b", Level::High, 2)).incident;
    let seats: Vec<Seat> = bench.grouping.seats_of(first).cloned().collect();
    let seen: BTreeSet<u64> = seats.iter().flat_map(|seat| seat.seen.clone()).collect();
    let mut kept = serde_json::to_value(bench.grouping.story(first).unwrap()).unwrap();
    let older = kept.as_object_mut().unwrap();
    older.insert("news_on".into(), serde_json::json!([1, 2]));
    older.insert("seen_on".into(), serde_json::json!(seen));
    let story: Story = serde_json::from_value(kept).unwrap();
    let (grouping, older) = Grouping::restore("RJ1".parse().unwrap(), [story.clone()], []);
    assert_eq!(older, vec![first]);
    assert_eq!(grouping.seats_of(first).cloned().collect::<Vec<_>>(), seats);
    // What this version has kept of it since is newer.
    let newer = Seat { news: 9, ..seats[0].clone() };
    let (grouping, _) = Grouping::restore("RJ1".parse().unwrap(), [story], [newer]);
    assert_eq!(grouping.news_of(first, machine(1)), 9);
    let (again, older) = Grouping::restore(
        "RJ1".parse().unwrap(),
        grouping.stories().cloned().collect::<Vec<_>>(),
        seats.clone(),
    );
    assert!(older.is_empty(), "kept again in this form");
    assert_eq!(again.seats.len(), 2);
}
