//! What is known to stand at each place, and how it came to that: no input or output, no clock.
//!
//! The one idea: a change is the difference between what was known and what is seen, and is put down to whoever the
//! kernel named for that place since. Where several are named at one time, all are: nobody's doing is ever called
//! somebody else's alone. What one process does in several steps is one change.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cordon_model::action::{FilePath, Sha256Digest};
use cordon_model::change::{Doer, MOST_DOERS};
use cordon_model::survey::ThingKind;
use cordon_model::time::{BootId, UtcNanos};
use serde::{Deserialize, Serialize};

use super::limits;
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
    /// This change was taken back by whoever made it, and is none any more.
    Undone(u64),
}

/// What is seen at a place, and who is named for it.
#[derive(Debug, Clone)]
pub struct Sight<'a> {
    /// Where.
    pub path: &'a FilePath,
    /// What lies there.
    pub kind: ThingKind,
    /// What stands there now.
    pub now: Standing,
    /// Whom the kernel named since it was looked at last.
    pub doers: Vec<Doer>,
    /// Whether it may have stood there all along: nobody looked at this place before.
    pub is_first_look: bool,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Book {
    /// What stands where.
    pub known: Known,
    /// The changes that are remembered, by number.
    pub records: BTreeMap<u64, Record>,
    last_of: BTreeMap<FilePath, u64>,
}

impl Book {
    /// As it was left. What was written of a change counts more than what was written of the whole before it.
    #[must_use]
    pub fn of(known: Known, records: impl IntoIterator<Item = Record>) -> Self {
        let mut book = Self { known, ..Self::default() };
        for record in records {
            if record.number > book.known.through {
                book.known.standings.insert(record.path.clone(), record.after.clone());
            }
            book.last_of.insert(record.path.clone(), record.number);
            book.records.insert(record.number, record);
        }
        let last = book.records.last_key_value().map_or(0, |(number, _)| *number);
        book.known.through = book.known.through.max(last);
        book
    }

    /// Notes what is seen at `at` in this boot.
    pub fn note(&mut self, sight: Sight<'_>, at: UtcNanos, boot: &BootId) -> Noted {
        let Sight { path, kind, now, doers, is_first_look } = sight;
        let before = match self.known.standings.get(path) {
            Some(before) => before.clone(),
            None if is_first_look => {
                self.stand(path, now);
                return Noted::Learnt;
            }
            None => Standing::Nothing,
        };
        if before.is(&now) {
            // The inode may be another: what has to be there is known by what it is.
            self.stand(path, now);
            return self.late(path, doers, at);
        }
        self.stand(path, now.clone());
        if let Some(record) = self.going_on(path, &doers, at) {
            record.after = now;
            record.until = at;
            let number = record.number;
            if record.before.is(&record.after) {
                self.forget(number);
                return Noted::Undone(number);
            }
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
        self.last_of.insert(path.clone(), number);
        Noted::Change(number)
    }

    /// Those changes that are beyond what is remembered; they are forgotten by this. The oldest of the place that has the
    /// most: whoever changes one place over and over does not have the others forgotten. And those that follow one of
    /// them, which are to be written again.
    pub fn beyond(&mut self) -> (Vec<u64>, Vec<u64>) {
        let (mut gone, mut follow) = (Vec::new(), BTreeSet::new());
        while self.records.len() > limits::CHANGES {
            let mut of: BTreeMap<&FilePath, (usize, u64)> = BTreeMap::new();
            for record in self.records.values() {
                let (count, _) = of.entry(&record.path).or_insert((0, record.number));
                *count += 1;
            }
            let most = of.values().max_by_key(|(count, first)| (*count, u64::MAX - first));
            let Some(&(_, number)) = most else { break };
            let path = self.records.get(&number).map(|record| record.path.clone());
            self.forget(number);
            follow.remove(&number);
            self.known.forgotten = self.known.forgotten.saturating_add(1);
            gone.push(number);
            let Some(path) = path else { continue };
            for record in self.records.values_mut().filter(|record| record.path == path) {
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

    /// How many bytes of contents of this user's are kept.
    #[must_use]
    pub fn bytes_of(&self, user: u32) -> u64 {
        let of = |standing: &Standing| match standing {
            Standing::File(file) if file.is_kept && file.metadata.user == user => {
                file.metadata.size
            }
            _ => 0,
        };
        self.known.standings.values().map(of).sum()
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

    fn stand(&mut self, path: &FilePath, now: Standing) {
        if now == Standing::Nothing {
            self.known.standings.remove(path);
        } else if self.known.standings.contains_key(path)
            || (self.known.standings.len() < limits::THINGS && self.has_room_for(&now))
        {
            self.known.standings.insert(path.clone(), now);
        } else {
            self.known.beyond = self.known.beyond.saturating_add(1);
        }
    }

    /// Whether the thing's owner has not too many already.
    fn has_room_for(&self, now: &Standing) -> bool {
        let user = |standing: &Standing| match standing {
            Standing::File(file) => file.metadata.user,
            Standing::Link(link) => link.user,
            Standing::Nothing | Standing::Other(_) => 0,
        };
        let owner = user(now);
        let theirs = || self.known.standings.values().filter(|other| user(other) == owner).count();
        owner == 0 || theirs() < limits::USER_THINGS
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
    fn late(&mut self, path: &FilePath, doers: Vec<Doer>, at: UtcNanos) -> Noted {
        let Some(record) = self.last_of.get(path).and_then(|number| self.records.get_mut(number))
        else {
            return Noted::Nothing;
        };
        if at.since(record.until) > limits::LATE || record.is_by_many || record.by.is_empty() {
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
        if self.last_of.get(&record.path) == Some(&number) {
            let earlier = self.records.values().rev().find(|other| other.path == record.path);
            match earlier.map(|earlier| earlier.number) {
                Some(earlier) => self.last_of.insert(record.path, earlier),
                None => self.last_of.remove(&record.path),
            };
        }
    }
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

    fn see(book: &mut Book, now: Standing, doers: &[u32], second: i64) -> Noted {
        let path = FilePath::new(PATH);
        let doers = doers.iter().map(|pid| doer(*pid)).collect();
        let kind = ThingKind::CronLine;
        let sight = Sight { path: &path, kind, now, doers, is_first_look: false };
        book.note(sight, at(second), &BootId("boot".into()))
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
    fn what_is_taken_back_at_once_by_whoever_did_it_is_no_change() {
        let mut book = Book::default();
        assert_eq!(see(&mut book, link("a"), &[7], 0), Noted::Change(1));
        assert_eq!(see(&mut book, Standing::Nothing, &[7], 1), Noted::Undone(1));
        assert!(book.records.is_empty());
        assert_eq!(see(&mut book, link("a"), &[7], 2), Noted::Change(2), "no number comes twice");
    }

    #[test]
    fn who_is_named_a_moment_later_for_nothing_new_may_have_had_a_part_in_it() {
        let mut book = Book::default();
        see(&mut book, link("a"), &[7], 0);
        assert_eq!(see(&mut book, link("a"), &[9], 1), Noted::Change(1));
        assert_eq!(by(&book, 1), [7, 9]);
        assert_eq!(see(&mut book, link("a"), &[11], 50), Noted::Nothing);
        assert_eq!(by(&book, 1), [7, 9]);
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
        let again = Book::of(known, book.records.values().cloned());
        assert_eq!(again.known.standings, book.known.standings);
        assert_eq!(again.known.through, 2);
        let mut again = again;
        assert_eq!(see(&mut again, link("b"), &[], 100), Noted::Nothing);
    }

    #[test]
    fn what_was_never_looked_at_is_learnt_and_is_no_change() {
        let mut book = Book::default();
        let path = FilePath::new(PATH);
        let sight = Sight {
            path: &path,
            kind: ThingKind::CronLine,
            now: link("a"),
            doers: Vec::new(),
            is_first_look: true,
        };
        assert_eq!(book.note(sight, at(0), &BootId("boot".into())), Noted::Learnt);
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

    #[test]
    fn one_user_does_not_fill_what_can_be_known() {
        let mut book = Book::default();
        let theirs = |to: &str| match link(to) {
            Standing::Link(link) => Standing::Link(LinkStanding { user: 1000, ..link }),
            other => other,
        };
        for number in 0..=limits::USER_THINGS {
            let path = FilePath::new(format!("/home/ann/{number}"));
            book.stand(&path, theirs("a"));
        }
        assert_eq!((book.known.standings.len(), book.known.beyond), (limits::USER_THINGS, 1));
        book.stand(&FilePath::new("/etc/crontab"), link("a"));
        book.stand(&FilePath::new("/home/ann/1"), theirs("b"));
        assert_eq!((book.known.standings.len(), book.known.beyond), (limits::USER_THINGS + 1, 1));
    }

    #[test]
    fn who_changes_one_place_over_and_over_has_no_other_forgotten() {
        let mut book = Book::default();
        let other = FilePath::new("/etc/crontab");
        let sight = Sight {
            path: &other,
            kind: ThingKind::CronLine,
            now: link("evil"),
            doers: vec![doer(7)],
            is_first_look: false,
        };
        assert_eq!(book.note(sight, at(0), &BootId("boot".into())), Noted::Change(1));
        for number in 0..limits::CHANGES + 3 {
            see(&mut book, link(&number.to_string()), &[u32::try_from(number).unwrap() + 9], 0);
        }
        assert_eq!(book.beyond().0, [2, 3, 4, 5]);
        assert!(!book.records[&1].follows_unknown);
    }
}
