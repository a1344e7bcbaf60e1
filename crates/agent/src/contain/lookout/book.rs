//! What is known to stand at each place, and how it came to that: no input or output, no clock.
//!
//! The one idea: a change is the difference between what was known and what is seen, and is put down to whoever the
//! kernel named for that place since. Where several are named at one time, all are: nobody's doing is ever called
//! somebody else's alone. What one process does in several steps is one change.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

use cordon_model::action::{FilePath, Sha256Digest};
use cordon_model::change::{Doer, MOST_DOERS};
use cordon_model::survey::ThingKind;
use cordon_model::time::{BootId, UtcNanos};
use serde::{Deserialize, Serialize};

use super::limits;
use super::spots::{Realm, SYSTEM};
use super::standing::Standing;

/// What is known of a machine's places.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// What stands where.
    pub standings: BTreeMap<FilePath, Standing>,
    /// The number of the last change that is in it.
    pub through: u64,
    /// Times at which nobody looked out: from, to.
    pub breaks: VecDeque<(UtcNanos, UtcNanos)>,
    /// When somebody looked out for the first time.
    pub since: Option<UtcNanos>,
    /// How often the kernel's queue was full.
    pub overflows: u64,
    /// Changes that are not remembered any more.
    pub forgotten: u64,
    /// Places of which changes are not remembered any more…
    pub unremembered: BTreeSet<FilePath>,
    /// …or it is not remembered either of which.
    pub is_any_unremembered: bool,
    /// Things that are beyond what is known at most.
    pub beyond: u64,
    /// Contents that were not kept for want of room.
    pub unkept: u64,
    /// What can't be looked out for, in words.
    pub gaps: Vec<String>,
    /// Homes (`/`: the system) in which more happened than could be heard, and when last: at most [`limits::LOST`].
    #[serde(default)]
    pub lost_at: BTreeMap<FilePath, UtcNanos>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Its number.
    pub number: u64,
    /// Where.
    pub path: FilePath,
    /// What lies there.
    pub kind: ThingKind,
    /// When it was first seen.
    pub at: UtcNanos,
    /// When it was last added to.
    pub until: UtcNanos,
    /// In which boot.
    pub boot: BootId,
    /// By whom; empty: not known.
    pub by: Vec<Doer>,
    /// More than [`MOST_DOERS`] were named: nobody is.
    pub is_by_many: bool,
    /// Before.
    pub before: Standing,
    /// After.
    pub after: Standing,
    /// Which lines came and went.
    pub lines: Vec<String>,
    /// Earlier changes of this place are not remembered any more.
    pub follows_unknown: bool,
}

/// What became of what was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Noted {
    /// It is as it was known.
    Nothing,
    /// It was not known before, and is from now on.
    Learnt,
    /// This change is to be written: it is new, or was added to.
    Change(u64),
}

/// What is seen at a place, and who is named for it.
#[derive(Debug, Clone)]
pub struct Sight<'a> {
    /// Where.
    pub path: &'a FilePath,
    /// What lies there.
    pub kind: ThingKind,
    /// Whose it is.
    pub realm: Realm,
    /// What stands there now.
    pub now: Standing,
    /// Whom the kernel named since it was looked at last.
    pub doers: Vec<Doer>,
    /// Whether it may have stood there all along: nobody looked at this place before.
    pub is_first_look: bool,
    /// How often it had been heard what happened.
    pub hearing: u64,
}

/// How much of one home, or of the system, is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Share {
    things: usize,
    weight: usize,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Book {
    /// What stands where.
    pub known: Known,
    /// The changes that are remembered, by number.
    pub records: BTreeMap<u64, Record>,
    last_of: BTreeMap<FilePath, u64>,
    shares: BTreeMap<Realm, Share>,
    weight: usize,
    realms: BTreeMap<u64, Realm>,
    /// In which hearing each change was last added to.
    heard_in: BTreeMap<u64, u64>,
}

impl Book {
    /// As it was left. What was written of a change counts more than what was written of the whole before it. `whose` says
    /// whose a path is.
    #[must_use]
    pub fn of(
        known: Known,
        records: impl IntoIterator<Item = Record>,
        whose: impl Fn(&FilePath) -> Realm,
    ) -> Self {
        let mut book = Self { known, ..Self::default() };
        for record in records {
            if record.number > book.known.through {
                book.known.standings.insert(record.path.clone(), record.after.clone());
            }
            book.last_of.insert(record.path.clone(), record.number);
            book.realms.insert(record.number, whose(&record.path));
            book.records.insert(record.number, record);
        }
        book.known.standings.retain(|_, standing| *standing != Standing::Nothing);
        let last = book.records.last_key_value().map_or(0, |(number, _)| *number);
        book.known.through = book.known.through.max(last);
        for (path, standing) in &book.known.standings {
            let share = book.shares.entry(whose(path)).or_default();
            let weight = standing.weight(path);
            (share.things, share.weight) = (share.things + 1, share.weight + weight);
            book.weight += weight;
        }
        book
    }

    /// Whether nothing new can be known of these places.
    #[must_use]
    pub fn is_full(&self, realm: Realm) -> bool {
        let share = self.shares.get(&realm).copied().unwrap_or_default();
        self.known.standings.len() >= limits::THINGS
            || self.weight >= limits::KNOWN_BYTES
            || (realm != SYSTEM
                && (share.things >= limits::HOME_THINGS
                    || share.weight >= limits::HOME_KNOWN_BYTES))
    }

    /// Notes what is seen at `at` in this boot.
    pub fn note(&mut self, sight: Sight<'_>, at: UtcNanos, boot: &BootId) -> Noted {
        let Sight { path, kind, realm, now, doers, is_first_look, hearing } = sight;
        let now = self.fitted(path, realm, now);
        let before = match self.known.standings.get(path) {
            Some(before) => before.clone(),
            None if is_first_look => {
                self.stand(path, realm, now);
                return Noted::Learnt;
            }
            None => Standing::Nothing,
        };
        if before.is(&now) {
            // The inode may be another: what has to be there is known by what it is.
            self.stand(path, realm, now);
            return self.late(path, doers, at, hearing);
        }
        self.stand(path, realm, now.clone());
        if let Some(record) = self.going_on(path, &doers, at) {
            // Also if it is now as it was before: that something was there for a moment is told.
            record.after = now;
            record.until = at;
            let number = record.number;
            self.heard_in.insert(number, hearing);
            return Noted::Change(number);
        }
        let number = self.known.through.saturating_add(1);
        self.known.through = number;
        let is_by_many = doers.len() > MOST_DOERS;
        let by = if is_by_many { Vec::new() } else { doers };
        let record = Record {
            number,
            path: path.clone(),
            kind,
            at,
            until: at,
            boot: boot.clone(),
            by,
            is_by_many,
            before,
            after: now,
            lines: Vec::new(),
            follows_unknown: self.known.is_any_unremembered
                || self.known.unremembered.contains(path),
        };
        self.records.insert(number, record);
        self.realms.insert(number, realm);
        self.heard_in.insert(number, hearing);
        self.last_of.insert(path.clone(), number);
        Noted::Change(number)
    }

    /// Those changes that are beyond what is remembered; they are forgotten by this. Of whoever has too many, the oldest of
    /// the place that has the most: so no home has another's forgotten, and whoever changes one place over and over not
    /// those of the others. And those that follow one of them, which are to be written again.
    pub fn beyond(&mut self) -> (Vec<u64>, Vec<u64>) {
        let (mut gone, mut follow) = (Vec::new(), BTreeSet::new());
        for number in self.all_beyond() {
            let path = self.records.get(&number).map(|record| record.path.clone());
            self.forget(number);
            follow.remove(&number);
            self.known.forgotten = self.known.forgotten.saturating_add(1);
            gone.push(number);
            let Some(path) = path else { continue };
            let knows_all = |record: &&mut Record| record.path == path && !record.follows_unknown;
            for record in self.records.values_mut().filter(knows_all) {
                record.follows_unknown = true;
                follow.insert(record.number);
            }
            if self.known.unremembered.len() < limits::UNREMEMBERED {
                self.known.unremembered.insert(path);
            } else if !self.known.unremembered.contains(&path) {
                self.known.is_any_unremembered = true;
            }
        }
        (gone, follow.into_iter().collect())
    }

    /// The changes that are to be forgotten, if there are too many of some.
    fn all_beyond(&self) -> Vec<u64> {
        // Most of the time there are few of all.
        if self.records.len() <= limits::HOME_CHANGES {
            return Vec::new();
        }
        let mut of: BTreeMap<Realm, Vec<&Record>> = BTreeMap::new();
        let mut momentary: BTreeMap<Realm, Vec<&Record>> = BTreeMap::new();
        for record in self.records.values() {
            let is_momentary = record.before.is(&record.after);
            let kept = if is_momentary { &mut momentary } else { &mut of };
            kept.entry(self.realm(record.number)).or_default().push(record);
        }
        let mut gone = most_numerous(&mut momentary, limits::MOMENTARY);
        let system = of.remove(&SYSTEM).into_iter().map(|records| (SYSTEM, records)).collect();
        gone.extend(too_many(system, limits::CHANGES));
        let mut homes: BTreeMap<Realm, Vec<&Record>> = BTreeMap::new();
        for (realm, records) in of {
            let gone_of_it: BTreeSet<u64> =
                too_many([(realm, records.clone())].into(), limits::HOME_CHANGES)
                    .into_iter()
                    .collect();
            let is_left = |record: &&Record| !gone_of_it.contains(&record.number);
            homes.insert(realm, records.into_iter().filter(is_left).collect());
            gone.extend(gone_of_it);
        }
        gone.extend(most_numerous(&mut homes, limits::HOMES_CHANGES));
        gone
    }

    fn realm(&self, number: u64) -> Realm {
        self.realms.get(&number).copied().unwrap_or(SYSTEM)
    }

    /// How many bytes of contents are kept for each: for what stands there, and for what was changed. `whose` as in
    /// [`Book::of`].
    #[must_use]
    pub fn bytes_kept(&self, whose: impl Fn(&FilePath) -> Realm) -> BTreeMap<Realm, u64> {
        let mut contents: BTreeMap<Realm, BTreeMap<Sha256Digest, u64>> = BTreeMap::new();
        let mut add = |realm: Realm, standing: &Standing| {
            if let Standing::File(file) = standing
                && file.is_kept
            {
                contents.entry(realm).or_default().insert(file.sha256, file.metadata.size);
            }
        };
        for (path, standing) in &self.known.standings {
            add(whose(path), standing);
        }
        for record in self.records.values() {
            add(self.realm(record.number), &record.before);
            add(self.realm(record.number), &record.after);
        }
        let sum = |(realm, of): (Realm, BTreeMap<Sha256Digest, u64>)| (realm, of.values().sum());
        contents.into_iter().map(sum).collect()
    }

    /// Every content that may be needed.
    #[must_use]
    pub fn contents(&self) -> BTreeSet<Sha256Digest> {
        let of = |standing: &Standing| match standing {
            Standing::File(file) if file.is_kept => Some(file.sha256),
            _ => None,
        };
        let sides = self.records.values().flat_map(|record| [&record.before, &record.after]);
        self.known.standings.values().chain(sides).filter_map(of).collect()
    }

    fn stand(&mut self, path: &FilePath, realm: Realm, now: Standing) {
        let weight = now.weight(path);
        let old = self.known.standings.get(path).map(|old| old.weight(path));
        if old.is_none() && now == Standing::Nothing {
            return;
        }
        if old.is_none() && self.is_full(realm) {
            self.known.beyond = self.known.beyond.saturating_add(1);
            return;
        }
        let share = self.shares.entry(realm).or_default();
        share.weight = (share.weight + weight).saturating_sub(old.unwrap_or(0));
        self.weight = (self.weight + weight).saturating_sub(old.unwrap_or(0));
        if now == Standing::Nothing {
            share.things = share.things.saturating_sub(1);
            self.known.standings.remove(path);
        } else {
            share.things += usize::from(old.is_none());
            self.known.standings.insert(path.clone(), now);
        }
    }

    /// What is to be known of it: where it weighs more than there is room for, only that something stands there.
    fn fitted(&self, path: &FilePath, realm: Realm, now: Standing) -> Standing {
        let weight = now.weight(path);
        let old = self.known.standings.get(path).map_or(0, |old| old.weight(path));
        let share = self.shares.get(&realm).copied().unwrap_or_default();
        let is_too_much = |has: usize, most: usize| (has + weight).saturating_sub(old) > most;
        let fits = !is_too_much(self.weight, limits::KNOWN_BYTES)
            && (realm == SYSTEM || !is_too_much(share.weight, limits::HOME_KNOWN_BYTES));
        if fits || weight <= old {
            return now;
        }
        Standing::Other("more than is known of one home or machine".to_owned())
    }

    /// The change that `doers` go on with.
    fn going_on(&mut self, path: &FilePath, doers: &[Doer], at: UtcNanos) -> Option<&mut Record> {
        let record = self.records.get_mut(self.last_of.get(path)?)?;
        let is_theirs = !doers.is_empty()
            && doers.len() == record.by.len()
            && doers.iter().all(|doer| record.by.iter().any(|known| is_same(known, doer)));
        (is_theirs && at.since(record.until) <= limits::TOGETHER).then_some(record)
    }

    /// Somebody is named for a place where nothing is new: they may have had their part in what was seen just before.
    fn late(&mut self, path: &FilePath, doers: Vec<Doer>, at: UtcNanos, hearing: u64) -> Noted {
        let Some(record) = self.last_of.get(path).and_then(|number| self.records.get_mut(number))
        else {
            return Noted::Nothing;
        };
        // However long the look took: what was heard next is of before it, or of the moment after.
        let last_heard = self.heard_in.get(&record.number);
        let is_next = last_heard.is_some_and(|last| hearing <= last.saturating_add(2));
        let is_late = is_next || at.since(record.until) <= limits::LATE;
        if !is_late || record.is_by_many || record.by.is_empty() {
            return Noted::Nothing;
        }
        let mut is_new = false;
        for doer in doers {
            if !record.by.iter().any(|known| is_same(known, &doer)) {
                record.by.push(doer);
                is_new = true;
            }
        }
        if record.by.len() > MOST_DOERS {
            record.by.clear();
            record.is_by_many = true;
        }
        if is_new { Noted::Change(record.number) } else { Noted::Nothing }
    }

    fn forget(&mut self, number: u64) {
        let Some(record) = self.records.remove(&number) else { return };
        self.realms.remove(&number);
        self.heard_in.remove(&number);
        if self.last_of.get(&record.path) == Some(&number) {
            let earlier = self.records.values().rev().find(|other| other.path == record.path);
            match earlier.map(|earlier| earlier.number) {
                Some(earlier) => self.last_of.insert(record.path, earlier),
                None => self.last_of.remove(&record.path),
            };
        }
    }
}

/// Of records of which there are more than `most`: the oldest of the place that has the most, again and again.
fn too_many(of: BTreeMap<Realm, Vec<&Record>>, most: usize) -> Vec<u64> {
    let mut gone = Vec::new();
    for records in of.into_values() {
        let beyond = records.len().saturating_sub(most);
        if beyond == 0 {
            continue;
        }
        let mut places: BTreeMap<&FilePath, VecDeque<u64>> = BTreeMap::new();
        for record in records {
            places.entry(&record.path).or_default().push_back(record.number);
        }
        let weigh = |numbers: &VecDeque<u64>| (numbers.len(), Reverse(numbers.front().copied()));
        let mut heap: BinaryHeap<_> =
            places.iter().map(|(path, numbers)| (weigh(numbers), *path)).collect();
        while gone.len() < beyond
            && let Some((_, path)) = heap.pop()
            && let Some(numbers) = places.get_mut(path)
        {
            gone.extend(numbers.pop_front());
            if !numbers.is_empty() {
                heap.push((weigh(numbers), path));
            }
        }
    }
    gone
}

/// Of records of which there are more than `most` together: the oldest of whoever has the most, again and again.
fn most_numerous(of: &mut BTreeMap<Realm, Vec<&Record>>, most: usize) -> Vec<u64> {
    let mut gone = Vec::new();
    let all: usize = of.values().map(Vec::len).sum();
    let mut heap: BinaryHeap<(usize, Realm)> =
        of.iter().map(|(realm, records)| (records.len(), *realm)).collect();
    of.values_mut().for_each(|records| records.reverse());
    while gone.len() < all.saturating_sub(most)
        && let Some((_, realm)) = heap.pop()
        && let Some(records) = of.get_mut(&realm)
    {
        gone.extend(records.pop().map(|record| record.number));
        heap.push((records.len(), realm));
    }
    gone
}

/// Whether both are one process. One that had ended before it could be looked at is nobody else's.
fn is_same(one: &Doer, other: &Doer) -> bool {
    match (&one.process, &other.process) {
        (Some(a), Some(b)) => (a.pid, a.started) == (b.pid, b.started),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use cordon_model::finding::ProcessRef;
    use cordon_model::time::BootNanos;

    use super::super::standing::LinkStanding;
    use super::*;
    use crate::contain::action::quarantine::metadata::FileTime;
    use crate::contain::action::spared::FileId;

    const PATH: &[u8] = b"/etc/cron.d/x";

    fn link(to: &str) -> Standing {
        Standing::Link(LinkStanding {
            file: FileId { device: 1, inode: 1 },
            target: to.into(),
            user: 0,
            group: 0,
            modified: FileTime((0, 0)),
        })
    }

    fn doer(pid: u32) -> Doer {
        let process = ProcessRef { pid, started: BootNanos(u64::from(pid)), image: "/x".into() };
        Doer { pid, process: Some(process), above: Vec::new(), is_cordon: false }
    }

    fn at(seconds: i64) -> UtcNanos {
        UtcNanos::from_unix_nanos(seconds * 1_000_000_000)
    }

    /// What is seen of the system's place of the tests, in the first hearing.
    fn sight<'a>(path: &'a FilePath, now: Standing, doers: &[u32]) -> Sight<'a> {
        let doers = doers.iter().map(|pid| doer(*pid)).collect();
        let (kind, realm) = (ThingKind::CronLine, SYSTEM);
        Sight { path, kind, realm, now, doers, is_first_look: false, hearing: 0 }
    }

    fn note(book: &mut Book, sight: Sight<'_>, second: i64) -> Noted {
        book.note(sight, at(second), &BootId("boot".into()))
    }

    fn see(book: &mut Book, now: Standing, doers: &[u32], second: i64) -> Noted {
        let path = FilePath::new(PATH);
        let hearing = u64::try_from(second).unwrap() * 100;
        note(book, Sight { hearing, ..sight(&path, now, doers) }, second)
    }

    fn by(book: &Book, number: u64) -> Vec<u32> {
        book.records[&number].by.iter().map(|doer| doer.pid).collect()
    }

    #[test]
    fn what_one_process_does_in_steps_is_one_change_and_what_two_do_is_two() {
        let mut book = Book::default();
        assert_eq!(see(&mut book, link("a"), &[7], 0), Noted::Change(1));
        assert_eq!(see(&mut book, link("b"), &[7], 1), Noted::Change(1));
        assert_eq!(see(&mut book, link("c"), &[8], 2), Noted::Change(2));
        // Long after, the same process begins another change.
        assert_eq!(see(&mut book, link("d"), &[8], 60), Noted::Change(3));
        assert_eq!(
            (&book.records[&1].before, &book.records[&1].after),
            (&Standing::Nothing, &link("b"))
        );
        assert_eq!((by(&book, 1), by(&book, 2)), (vec![7], vec![8]));
    }

    #[test]
    fn what_is_taken_back_at_once_by_whoever_did_it_is_told_all_the_same() {
        let mut book = Book::default();
        assert_eq!(see(&mut book, link("a"), &[7], 0), Noted::Change(1));
        assert_eq!(see(&mut book, Standing::Nothing, &[7], 1), Noted::Change(1));
        assert_eq!(book.records[&1].after, Standing::Nothing);
        assert_eq!(see(&mut book, link("a"), &[8], 2), Noted::Change(2));
    }

    #[test]
    fn who_is_named_a_moment_later_for_nothing_new_may_have_had_a_part_in_it() {
        let mut book = Book::default();
        see(&mut book, link("a"), &[7], 0);
        assert_eq!(see(&mut book, link("a"), &[9], 1), Noted::Change(1));
        assert_eq!(by(&book, 1), [7, 9]);
        assert_eq!(see(&mut book, link("a"), &[11], 50), Noted::Nothing);
        assert_eq!(by(&book, 1), [7, 9]);
        // However late: it was heard next after the look.
        let path = FilePath::new(PATH);
        let late = Sight { hearing: 2, ..sight(&path, link("a"), &[13]) };
        assert_eq!(note(&mut book, late, 55), Noted::Change(1));
        assert_eq!(by(&book, 1), [7, 9, 13]);
        // So many at once are nobody.
        see(&mut book, link("b"), &[1, 2, 3, 4], 60);
        assert!(book.records[&2].is_by_many && by(&book, 2).is_empty());
    }

    #[test]
    fn a_change_that_was_written_counts_more_than_the_whole_that_was_written_before_it() {
        let mut book = Book::default();
        see(&mut book, link("a"), &[7], 0);
        let known = book.known.clone();
        see(&mut book, link("b"), &[8], 0);
        let again = Book::of(known, book.records.values().cloned(), |_| SYSTEM);
        assert_eq!(again.known.standings, book.known.standings);
        assert_eq!(again.known.through, 2);
        let mut again = again;
        assert_eq!(see(&mut again, link("b"), &[], 100), Noted::Nothing);
    }

    #[test]
    fn what_was_never_looked_at_is_learnt_and_is_no_change() {
        let mut book = Book::default();
        let path = FilePath::new(PATH);
        let first = Sight { is_first_look: true, ..sight(&path, link("a"), &[]) };
        assert_eq!(note(&mut book, first, 0), Noted::Learnt);
        assert_eq!(see(&mut book, link("b"), &[7], 1), Noted::Change(1));
        assert_eq!(book.records[&1].before, link("a"));
    }

    #[test]
    fn only_so_many_changes_are_remembered_and_those_that_are_not_are_counted() {
        let mut book = Book::default();
        for number in 0..limits::CHANGES + 3 {
            see(&mut book, link(&number.to_string()), &[u32::try_from(number).unwrap() + 2], 0);
        }
        let (gone, follow) = book.beyond();
        assert_eq!((&gone[..], follow.len()), (&[1, 2, 3][..], limits::CHANGES));
        assert_eq!((book.records.len(), book.known.forgotten), (limits::CHANGES, 3));
        assert!(book.records.values().all(|record| record.follows_unknown));
    }

    fn in_home(book: &mut Book, realm: Realm, name: &str, now: Standing, pid: u32) -> Noted {
        let path = FilePath::new(format!("/home/{realm}/{name}"));
        let (kind, hearing) = (ThingKind::Autostart, u64::from(pid) * 100);
        let seen = Sight { kind, realm, hearing, ..sight(&path, now, &[pid]) };
        note(book, seen, i64::from(pid) * 60)
    }

    #[test]
    fn one_home_fills_only_what_may_be_known_of_it() {
        let mut book = Book::default();
        for number in 0..=limits::HOME_THINGS {
            in_home(&mut book, 1, &number.to_string(), link("a"), 7);
        }
        assert!(book.is_full(1) && !book.is_full(2) && !book.is_full(SYSTEM));
        assert_eq!((book.known.standings.len(), book.known.beyond), (limits::HOME_THINGS, 1));
        // Long names count as much.
        let long = "x".repeat(4 << 10);
        for number in 0..limits::HOME_THINGS {
            in_home(&mut book, 2, &number.to_string(), link(&long), 8);
        }
        assert!(book.is_full(2) && book.shares[&2].weight < limits::HOME_KNOWN_BYTES + 1_000);
        // What is known grows no further than that either, and nobody else has less room.
        for number in 0..limits::HOME_THINGS {
            in_home(&mut book, 1, &number.to_string(), link(&long), 9);
        }
        assert!(book.shares[&1].weight <= limits::HOME_KNOWN_BYTES + (64 << 10));
        see(&mut book, link("b"), &[7], 0);
        assert_eq!(book.known.standings[&FilePath::new(PATH)], link("b"));
        for number in 0..limits::HOME_THINGS {
            in_home(&mut book, 1, &number.to_string(), Standing::Nothing, 10);
        }
        assert_eq!(book.shares[&1], Share::default(), "and all of it is given back");
    }

    #[test]
    fn one_home_has_only_its_own_changes_forgotten() {
        let mut book = Book::default();
        see(&mut book, link("evil"), &[7], 0);
        in_home(&mut book, 2, "theirs", link("evil"), 7);
        for number in 0..u32::try_from(limits::CHANGES).unwrap() {
            in_home(&mut book, 1, &number.to_string(), link("a"), number + 9);
        }
        let (gone, _) = book.beyond();
        assert_eq!(gone.len(), limits::CHANGES - limits::HOME_CHANGES);
        assert!(book.records.contains_key(&1) && book.records.contains_key(&2));
        // What was there for a moment only goes first.
        for number in 0..u32::try_from(limits::MOMENTARY).unwrap() + 5 {
            in_home(&mut book, 3, &format!("m{number}"), link("a"), 5_000 + number);
            in_home(&mut book, 3, &format!("m{number}"), Standing::Nothing, 5_000 + number);
        }
        let (gone, _) = book.beyond();
        assert!(gone.iter().all(|number| *number > 2) && gone.len() >= 5);
        assert!(book.records.contains_key(&1) && book.records.contains_key(&2));
    }

    #[test]
    fn who_changes_one_place_over_and_over_has_no_other_forgotten() {
        let mut book = Book::default();
        let other = FilePath::new("/etc/crontab");
        let sight = Sight {
            path: &other,
            kind: ThingKind::CronLine,
            realm: SYSTEM,
            now: link("evil"),
            doers: vec![doer(7)],
            is_first_look: false,
            hearing: 0,
        };
        assert_eq!(book.note(sight, at(0), &BootId("boot".into())), Noted::Change(1));
        for number in 0..limits::CHANGES + 3 {
            see(&mut book, link(&number.to_string()), &[u32::try_from(number).unwrap() + 9], 0);
        }
        assert_eq!(book.beyond().0, [2, 3, 4, 5]);
        assert!(!book.records[&1].follows_unknown);
    }
}
