//! What is remembered of looks, however they come: nothing is new that was there, nothing gone that is.

use cordon_model::action::FilePath;
use cordon_model::survey::{FirstSeen, MOST_THINGS, MOST_UNREAD, Thing, ThingKind};
use cordon_model::time::{BootId, BootNanos, UtcNanos};
use cordon_respond::clock::Moment;
use proptest::prelude::*;

use super::limits::MISSED;
use super::memory::{Hides, Look, Memory, Missed, Present, remember, remember_at_most};
use super::unreadable::Marks;

/// In an undisturbed boot the clock and the boot's time go together.
fn now(second: i64) -> Moment {
    at_clock("boot", second, second)
}

fn at_clock(boot: &str, at: i64, utc: i64) -> Moment {
    Moment {
        boot: BootId(boot.into()),
        at: BootNanos(u64::try_from(at).unwrap() * 1_000_000_000),
        utc: utc_at(utc),
        trusted_utc: None,
    }
}

fn utc_at(second: i64) -> UtcNanos {
    UtcNanos::from_unix_nanos(second * 1_000_000_000)
}

fn thing(path: &str) -> Present {
    let (kind, path) = (ThingKind::CronScript, FilePath::new(path));
    Present { kind, path, line: None, sha256: [1; 32], owner: 0 }
}

fn missed(path: &str, hides: Hides) -> Missed {
    Missed { path: FilePath::new(path), why: "because".into(), hides }
}

fn look(present: &[&str], all_missed: &[&str]) -> Look {
    Look {
        present: present.iter().map(|path| thing(path)).collect(),
        missed: all_missed.iter().map(|path| missed(path, Hides::All)).collect(),
        unread: Vec::new(),
    }
}

/// The memory after these looks, a second apart.
fn after(looks: Vec<Look>) -> Memory {
    let mut memory = None;
    for (second, look) in (0..).zip(looks) {
        memory = Some(remember(memory, look, &now(second)));
    }
    memory.unwrap()
}

fn of<'a>(memory: &'a Memory, path: &str) -> &'a Thing {
    memory.things().iter().find(|thing| thing.path == FilePath::new(path)).unwrap()
}

fn between(absent: i64, present: i64) -> FirstSeen {
    FirstSeen::Between { absent_at: utc_at(absent), present_at: utc_at(present) }
}

fn folder() -> FilePath {
    FilePath::new("/state/survey")
}

#[test]
fn what_was_there_at_first_is_not_new_and_what_comes_is_and_what_goes_is_gone() {
    let memory = after(vec![look(&["/a"], &[]), look(&["/a"], &[]), look(&["/a", "/b"], &[])]);
    assert_eq!(of(&memory, "/a").first_seen, FirstSeen::AtTheFirstLook);
    assert_eq!(of(&memory, "/b").first_seen, between(1, 2));
    let memory = remember(Some(memory), look(&["/b"], &[]), &now(3));
    assert_eq!(of(&memory, "/a").gone_at, Some(utc_at(3)));
    assert_eq!(of(&memory, "/b").gone_at, None);
    // Back again, as what was put away by nobody is: it came after it was gone.
    let memory = remember(Some(memory), look(&["/a", "/b"], &[]), &now(4));
    assert_eq!((of(&memory, "/a").first_seen, of(&memory, "/a").gone_at), (between(3, 4), None));
    assert_eq!(of(&memory, "/b").first_seen, between(1, 2));
}

#[test]
fn a_changed_file_is_another_thing() {
    let mut changed = look(&["/a"], &[]);
    changed.present[0].sha256 = [2; 32];
    changed.present[0].owner = 7;
    let memory = after(vec![look(&["/a"], &[]), changed]);
    let [before, since] = memory.things() else { panic!("{:?}", memory.things()) };
    assert_eq!((before.first_seen, before.gone_at), (FirstSeen::AtTheFirstLook, Some(utc_at(1))));
    assert_eq!((since.first_seen, since.gone_at, since.owner), (between(0, 1), None, 7));
}

#[test]
fn an_unread_place_loses_nothing_and_what_is_read_in_it_at_last_is_not_new() {
    // Unread at first: whatever is found there may always have been there.
    let memory = after(vec![
        look(&["/a"], &["/home"]),
        look(&["/a"], &["/home"]),
        look(&["/a", "/home/eve/key"], &[]),
    ]);
    assert_eq!(of(&memory, "/home/eve/key").first_seen, FirstSeen::AtTheFirstLook);
    // And that is said, to whoever asks about the time before.
    let said = |since| memory.survey(Some(utc_at(since)), &folder()).unread;
    assert_eq!(said(1)[0].path, FilePath::new("/home"));
    assert!(said(1)[0].why.contains("not read before"), "{:?}", said(1));
    assert!(said(2).is_empty(), "{:?}", said(2));

    // Read, unread for a while, read again: what came meanwhile came since it was read.
    let memory = after(vec![
        look(&["/home/a"], &[]),
        look(&[], &["/home"]),
        look(&[], &["/home"]),
        look(&["/home/a", "/home/b"], &[]),
    ]);
    assert_eq!(of(&memory, "/home/a").first_seen, FirstSeen::AtTheFirstLook);
    assert_eq!(of(&memory, "/home/a").gone_at, None);
    assert_eq!(of(&memory, "/home/b").first_seen, between(0, 3));
}

#[test]
fn a_place_within_an_unread_one_was_not_read_either() {
    // The whole, then a part of it, then the whole again: /home/a was never read.
    let memory = after(vec![
        look(&[], &["/home"]),
        look(&["/home/b/x"], &["/home/a"]),
        look(&["/home/b/x"], &["/home"]),
        look(&["/home/a/x", "/home/b/x", "/home/b/y"], &[]),
    ]);
    for path in ["/home/a/x", "/home/b/x", "/home/b/y"] {
        assert_eq!(of(&memory, path).first_seen, FirstSeen::AtTheFirstLook, "{path}");
    }
    // A neighbour whose name begins the same is another place.
    let memory = after(vec![look(&[], &["/home"]), look(&["/homes"], &[])]);
    assert_eq!(of(&memory, "/homes").first_seen, between(0, 1));
}

#[test]
fn a_link_in_place_of_a_file_hides_its_lines_and_is_itself_a_thing() {
    let line =
        |digest| Present { line: Some("key".into()), sha256: [digest; 32], ..thing("/keys") };
    let with =
        |present: Vec<Present>, missed: Vec<Missed>| Look { present, missed, unread: Vec::new() };
    let memory = after(vec![
        with(vec![line(1)], vec![]),
        with(vec![thing("/keys")], vec![missed("/keys", Hides::Inside)]),
        with(vec![line(1), line(2)], vec![]),
    ]);
    let found: Vec<_> = memory
        .things()
        .iter()
        .map(|thing| (thing.line.is_some(), thing.first_seen, thing.gone_at.is_some()))
        .collect();
    assert_eq!(
        found,
        [
            (false, between(0, 1), true),
            (true, FirstSeen::AtTheFirstLook, false),
            (true, between(0, 2), false),
        ]
    );
}

#[test]
fn a_clock_that_was_set_back_makes_nothing_old_new_and_hides_nothing_new() {
    let first = remember(None, look(&["/a"], &[]), &at_clock("one", 0, 1_000));
    // Set back by an hour of a wrong zone, half an hour after the first look.
    let memory =
        remember(Some(first), look(&["/a", "/b"], &[]), &at_clock("one", 1_800, 1_000 - 1_800));
    assert_eq!(of(&memory, "/a").first_seen, FirstSeen::AtTheFirstLook);
    // Not there half an hour ago by the clock of now; there at the latest that any clock said.
    let came = between(1_000 - 3_600, 1_000);
    assert_eq!(of(&memory, "/b").first_seen, came);
    // By the clock of now the first look was then, too.
    let survey = memory.survey(None, &folder());
    assert_eq!(survey.known_since, utc_at(1_000 - 3_600));
    assert_eq!(survey.taken_at, utc_at(1_000 - 1_800));
    // To whoever asks what came since the first look it is told, whichever clock they mean.
    for since in [-2_600, 0, 1_000] {
        assert_eq!(memory.survey(Some(utc_at(since)), &folder()).of, 1, "{since}");
    }
    // In another boot the clock begins in 1970, as one without a battery does.
    let memory = remember(Some(memory), look(&["/a", "/b", "/c"], &[]), &at_clock("two", 9, 0));
    assert_eq!(of(&memory, "/b").first_seen, came, "it stays as it was told");
    assert!(of(&memory, "/c").may_have_come_after(utc_at(1_000)));
    assert!(!of(&memory, "/c").came_after(utc_at(1)), "nobody can say so");
}

#[test]
fn what_is_forgotten_is_the_longest_gone_and_it_is_said() {
    let mut memory = None;
    for (second, path) in (0..).zip(["/a", "/b", "/c", "/d"]) {
        memory = Some(remember_at_most(3, memory, look(&[path, "/stays"], &[]), &now(second)));
    }
    let memory = memory.unwrap();
    let kept: Vec<_> = memory.things().iter().map(|thing| thing.path.to_string()).collect();
    assert_eq!(kept, ["/c", "/d", "/stays"]);
    let said = memory.survey(None, &folder()).unread;
    assert!(said[0].why.starts_with("2 things that were gone by"), "{said:?}");
    // It is not called new when it comes back: it was not there at the look before.
    let memory = remember_at_most(3, Some(memory), look(&["/a", "/stays"], &[]), &now(9));
    assert_eq!(of(&memory, "/a").first_seen, between(3, 9));
}

#[test]
fn what_can_be_forgotten_only_because_nobody_could_look_is_not_new_when_it_is_seen_again() {
    let all: Vec<String> = (0..5).map(|number| format!("/home/{number}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let memory = remember_at_most(5, None, look(&all, &[]), &now(0));
    let others = look(&["/a", "/b"], &["/home"]);
    let memory = remember_at_most(5, Some(memory), others, &now(1));
    assert_eq!(memory.things().len(), 5);
    let memory = remember_at_most(9, Some(memory), look(&all, &[]), &now(2));
    for path in all {
        assert_eq!(of(&memory, path).first_seen, FirstSeen::AtTheFirstLook, "{path}");
    }
}

#[test]
fn a_damaged_memory_begins_anew_and_says_so_for_ever() {
    let memory = remember(Some(Memory::anew(&now(5))), look(&["/a"], &[]), &now(5));
    let memory = remember(Some(memory), look(&["/a", "/b"], &[]), &now(6));
    let survey = memory.survey(Some(utc_at(6)), &folder());
    assert_eq!((survey.known_since, survey.of), (utc_at(5), 1));
    assert!(survey.unread[0].why.contains("damaged"), "{:?}", survey.unread);
}

#[test]
fn the_fullest_answer_fits_a_message() {
    let path = |number: usize| FilePath::new(format!("/{number:0>511}"));
    let present = (0..2 * MOST_THINGS).map(|number| Present {
        kind: ThingKind::ModuleConfig,
        path: path(number),
        line: Some("x".repeat(256)),
        sha256: [255; 32],
        owner: u32::MAX,
    });
    let all_missed = (0..2 * MOST_UNREAD).map(|number| Missed {
        path: path(number),
        why: "y".repeat(5_000),
        hides: Hides::Nothing,
    });
    let clock = |second| at_clock("boot", second, 1_800_000_000 + second);
    let full =
        Look { present: present.collect(), missed: all_missed.collect(), unread: Vec::new() };
    let memory = remember(None, Look::default(), &clock(0));
    let memory = remember(Some(memory), full, &clock(1));
    let gone = Look {
        missed: (0..9).map(|at| missed(&format!("/{at}"), Hides::All)).collect(),
        ..Look::default()
    };
    let mut survey = memory.survey(None, &folder());
    assert_eq!((survey.things.len(), survey.of), (MOST_THINGS, 2 * MOST_THINGS as u32));
    assert_eq!(survey.unread.len(), MOST_UNREAD);
    assert!(
        survey.unread[MOST_UNREAD - 1].why.starts_with("65 more"),
        "{:?}",
        survey.unread.last()
    );
    let gone = remember(Some(memory), gone, &clock(2)).survey(None, &folder());
    assert!(gone.things.iter().all(|thing| thing.gone_at.is_some()));
    survey.things = gone.things;
    assert!(survey.is_bounded());
    let mut bytes = Vec::new();
    ciborium::into_writer(&survey, &mut bytes).unwrap();
    println!("{} bytes", bytes.len());
    // The rest of the message around it has less.
    assert!(bytes.len() + 4_096 < cordon_model::limits::MESSAGE_BYTES, "{} bytes", bytes.len());
}

#[test]
fn more_places_than_are_remembered_each_count_as_if_nothing_had_been_read() {
    let names: Vec<String> = (0..=MISSED).map(|number| format!("/p/{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let blind = after(vec![look(&["/a", "/p/0"], &[]), look(&["/a"], &names)]);
    assert_eq!((blind.spots(), of(&blind, "/p/0").gone_at), (1, None));
    let memory = remember(Some(blind), look(&["/a", "/p/0", "/b"], &[]), &now(2));
    for path in ["/a", "/p/0"] {
        assert_eq!(of(&memory, path).first_seen, FirstSeen::AtTheFirstLook, "{path}");
    }
    assert_eq!(of(&memory, "/b").first_seen, between(0, 2));
}

/// What is really there, and what of it can be read, at each look.
fn any_world() -> impl Strategy<Value = Vec<(Vec<bool>, Vec<bool>, i64)>> {
    let step = (
        prop::collection::vec(any::<bool>(), 6),
        prop::collection::vec(prop::bool::weighted(0.3), 3),
        -10_000_i64..10_000,
    );
    prop::collection::vec(step, 1..12)
}

const THINGS: [&str; 6] = ["/a/x", "/a/y", "/b/x", "/b/y", "/c/x", "/c/y"];
const PLACES: [&str; 3] = ["/a", "/b", "/c"];

const OPEN: [&str; 4] = ["/tmp/a/x", "/tmp/a/y", "/tmp/b", "/var/tmp/z"];

/// Which of [`OPEN`] are there, which of these can't be read, and whether `/tmp/a` or all of `/tmp` can't.
fn any_open_world() -> impl Strategy<Value = Vec<([bool; 4], [bool; 4], bool, bool)>> {
    let some = || prop::array::uniform4(any::<bool>());
    let seldom = |how: f64| prop_oneof![Just(0.0), Just(how)].prop_flat_map(prop::bool::weighted);
    prop::collection::vec((some(), some(), seldom(0.2), seldom(0.2)), 1..12)
}

proptest! {
    /// A model that keeps everything, beside the memory that keeps only what it needs.
    #[test]
    fn nothing_is_said_of_a_time_at_which_nobody_looked(world in any_world()) {
        let mut memory: Option<Memory> = None;
        let mut history: Vec<[Option<bool>; 6]> = Vec::new();
        let mut utc = 0;
        let mut latest = i64::MIN;
        for (second, (there, unread, jump)) in (0_i64..).zip(&world) {
            // The clock jumps as it likes; boot time goes on.
            utc += jump;
            latest = latest.max(utc);
            let can_read = |at: usize| !unread[at / 2];
            let present: Vec<&str> =
                (0..6).filter(|at| there[*at] && can_read(*at)).map(|at| THINGS[at]).collect();
            let all_missed: Vec<&str> =
                (0..3).filter(|at| unread[*at]).map(|at| PLACES[at]).collect();
            let moment = at_clock("boot", second, utc);
            memory = Some(remember(memory, look(&present, &all_missed), &moment));
            history.push(std::array::from_fn(|at| can_read(at).then_some(there[at])));
            let memory = memory.as_ref().unwrap();
            for (at, path) in THINGS.iter().enumerate() {
                let read: Vec<bool> = history.iter().filter_map(|look| look[at]).collect();
                let thing = memory.things().iter().find(|thing| thing.path == FilePath::new(*path));
                prop_assert_eq!(thing.is_some(), read.contains(&true), "{}", path);
                let Some(thing) = thing else { continue };
                prop_assert_eq!(thing.gone_at.is_none(), read.last() == Some(&true));
                // The run of looks that saw it last: absent before it, or never looked at.
                let until = read.iter().rposition(|is_there| *is_there).unwrap();
                let was_absent = read[..until].contains(&false);
                let is_new = thing.first_seen != FirstSeen::AtTheFirstLook;
                prop_assert_eq!(is_new, was_absent, "{} {:?}", path, history);
                if let FirstSeen::Between { absent_at, present_at } = thing.first_seen {
                    prop_assert!(absent_at <= present_at);
                    prop_assert!(present_at <= utc_at(latest));
                }
            }
        }
    }

    /// The same where anybody may write: each file, a folder, or a whole place may be what could not be read.
    #[test]
    fn nothing_is_said_of_a_file_that_could_not_be_read(world in any_open_world()) {
        let mut memory: Option<Memory> = None;
        let mut history: Vec<[Option<bool>; 4]> = Vec::new();
        let is_coarse = world.iter().any(|(_, _, is_folder, is_place)| *is_folder || *is_place);
        for (second, (there, unread, is_folder, is_place)) in (0_i64..).zip(&world) {
            let can_read = |at: usize| {
                !(there[at] && unread[at] || *is_folder && at < 2 || *is_place && at < 3)
            };
            let program = |path: &str| Present { kind: ThingKind::DroppedProgram, ..thing(path) };
            let mut marks: Vec<Marks> = (0..4)
                .filter(|at| there[*at] && !can_read(*at) && (*at == 3 || !is_place))
                .map(|at| Marks::of(&FilePath::new(OPEN[at])))
                .collect();
            marks.extend(is_folder.then(|| Marks::of_folder(&FilePath::new("/tmp/a"))));
            let now_seen = Look {
                present: (0..4).filter(|at| there[*at] && can_read(*at)).map(|at| program(OPEN[at])).collect(),
                missed: is_place.then(|| missed("/tmp", Hides::All)).into_iter().collect(),
                unread: marks,
            };
            memory = Some(remember(memory, now_seen, &now(second)));
            history.push(std::array::from_fn(|at| can_read(at).then_some(there[at])));
            let memory = memory.as_ref().unwrap();
            for (at, path) in OPEN.iter().enumerate() {
                let read: Vec<(i64, bool)> =
                    (0_i64..).zip(&history).filter_map(|(when, look)| Some((when, look[at]?))).collect();
                let known = memory.things().iter().find(|thing| thing.path == FilePath::new(*path));
                prop_assert_eq!(known.is_some(), read.iter().any(|(_, is_there)| *is_there), "{}", path);
                let Some(known) = known else { continue };
                prop_assert_eq!(known.gone_at.is_none(), read.last().unwrap().1, "{} {:?}", path, history);
                let until = read.iter().rposition(|(_, is_there)| *is_there).unwrap();
                let absent = read[..until].iter().rev().find(|(_, is_there)| !is_there);
                match (known.first_seen, absent) {
                    (FirstSeen::Between { absent_at, .. }, Some((when, _))) => {
                        prop_assert!(absent_at <= utc_at(*when), "{} {:?}", path, history);
                        prop_assert!(is_coarse || absent_at == utc_at(*when), "{} {:?}", path, history);
                    }
                    (FirstSeen::AtTheFirstLook, None) => {}
                    (first, absent) => {
                        let is_vague = is_coarse && first == FirstSeen::AtTheFirstLook;
                        prop_assert!(is_vague, "{} {:?} {:?}", path, absent, history);
                    }
                }
            }
        }
    }

    #[test]
    fn what_stays_is_never_new_whatever_the_clocks_say(
        jumps in prop::collection::vec((any::<bool>(), -1_000_000_i64..1_000_000), 1..20),
    ) {
        let mut memory = None;
        let (mut boot, mut utc) = (0, 0);
        for (second, (restarts, jump)) in (0_i64..).zip(jumps) {
            boot += i32::from(restarts);
            utc += jump;
            let moment = at_clock(&boot.to_string(), second, utc);
            memory = Some(remember(memory, look(&["/a"], &[]), &moment));
            let survey = memory.as_ref().unwrap().survey(Some(utc_at(-1_000_000_000)), &folder());
            prop_assert_eq!(survey.of, 0);
        }
    }

    #[test]
    fn the_memory_stays_within_its_limit(
        looks in prop::collection::vec(prop::collection::vec(0_u8..20, 0..5), 1..20),
        unread in prop::collection::vec(any::<bool>(), 20),
    ) {
        let mut memory = None;
        for (second, (numbers, is_unread)) in (0_i64..).zip(looks.into_iter().zip(unread)) {
            let paths: Vec<String> = numbers.iter().map(|number| format!("/p/{number}")).collect();
            let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
            let hidden: &[&str] = if is_unread { &["/p"] } else { &[] };
            let next = remember_at_most(6, memory, look(&paths, hidden), &now(second));
            prop_assert!(next.things().len() <= 6);
            memory = Some(next);
        }
    }
}
