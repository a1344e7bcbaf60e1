//! What a machine remembers of its looks: when each thing was first seen, and when it was seen to be gone.
//!
//! [`remember`] is pure: a memory, what was seen now, and the time, to a new memory. Its one idea: nothing is
//! said of a time at which nobody looked. A thing is new only if its place was read before and it was not in
//! it; it is gone only if its place is read now and it is not in it.
//!
//! A clock that was set is no reason to call an old thing new, nor to hide a new one. So the time at which a
//! thing was not there yet is told as early as the clocks allow, the time at which it was as late.

use std::collections::{BTreeMap, BTreeSet};

use cordon_model::action::FilePath;
use cordon_model::survey::{
    FirstSeen, MOST_DROPPED, MOST_THINGS, MOST_UNREAD, Survey, Thing, ThingKind, Unread,
};
use cordon_model::time::UtcNanos;
use cordon_respond::clock::Moment;
use serde::{Deserialize, Serialize};

use super::blind::{Blind, Late, hides, is_open_to_all};
use super::limits::{DROPPED_REMEMBERED, REMEMBERED};
use super::places::OPEN_TO_ALL;
use super::unreadable::{Marks, selves};
use super::words;

/// What one look found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Look {
    /// What is there.
    pub present: Vec<Present>,
    /// What could not be looked at.
    pub missed: Vec<Missed>,
    /// Each file and folder where anybody may write that could not be read, whether it is named in `missed` or not.
    pub unread: Vec<Marks>,
}

/// A thing that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    /// What it is.
    pub kind: ThingKind,
    /// See [`Thing::path`].
    pub path: FilePath,
    /// See [`Thing::line`].
    pub line: Option<String>,
    /// See [`Thing::sha256`].
    pub sha256: [u8; 32],
    /// See [`Thing::owner`].
    pub owner: u32,
}

/// A place that could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missed {
    /// Where.
    pub path: FilePath,
    /// Why.
    pub why: String,
    /// Which things nothing is known of.
    pub hides: Hides,
}

/// What a place that could not be looked at hides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hides {
    /// Nothing that was ever looked at.
    Nothing,
    /// What lies in it, not what stands there itself: its lines, or everything below.
    Inside,
    /// All of it.
    All,
}

/// What is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    first: Moment,
    known_since: UtcNanos,
    last: Moment,
    /// The latest that the clock ever said.
    newest: UtcNanos,
    things: Vec<Thing>,
    blind: Blind,
    /// What could not be read at the last look, for people: elsewhere…
    unread: Vec<Unread>,
    /// …of so many.
    unread_of: usize,
    forgotten: Option<Forgotten>,
    /// An earlier memory was damaged when this one began.
    is_begun_anew: bool,
    #[serde(default)]
    dropped: Dropped,
}

/// What is remembered of the places where anybody may write, beside the programs in them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Dropped {
    /// They are looked at. An earlier Cordon did not.
    is_looked_at: bool,
    /// By then some were gone, or could not be looked at, that are not remembered any more.
    forgotten_by: Option<UtcNanos>,
    /// What could not be read there at the last look, for people…
    #[serde(default)]
    unread: Vec<Unread>,
    /// …of so many.
    #[serde(default)]
    unread_of: usize,
}

/// Things that are not remembered any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Forgotten {
    things: u64,
    /// By then they were gone, or could not be looked at.
    by: UtcNanos,
}

/// What could not be read where anybody may write has at least this room in an answer, if it needs it.
const ROOM_FOR_OPEN: usize = 8;

/// Two things with the same key are one.
type Key = (ThingKind, FilePath, bool, [u8; 32]);

fn is_dropped(thing: &Thing) -> bool {
    thing.kind == ThingKind::DroppedProgram
}

fn key_of(thing: &Thing) -> Key {
    (thing.kind, thing.path.clone(), thing.line.is_some(), thing.sha256)
}

/// The memory after one more look; `memory` is `None` at the first.
#[must_use]
pub fn remember(memory: Option<Memory>, look: Look, now: &Moment) -> Memory {
    remember_at_most(REMEMBERED, memory, look, now)
}

pub(super) fn remember_at_most(
    most: usize,
    memory: Option<Memory>,
    look: Look,
    now: &Moment,
) -> Memory {
    let mut before = memory.unwrap_or_else(|| Memory::empty(now));
    let newest = before.newest.max(now.utc);
    let is_first = before.is_empty();
    if !is_first && !before.dropped.is_looked_at {
        // What lies there now may always have lain there: nobody looked.
        OPEN_TO_ALL.iter().for_each(|place| before.blind.was_never_read(place.path));
    }
    let mut things: BTreeMap<Key, Thing> =
        before.things.iter().map(|thing| (key_of(thing), thing.clone())).collect();
    let mut seen = BTreeSet::new();
    for one in look.present {
        let is_line = one.line.is_some();
        let key = (one.kind, one.path.clone(), is_line, one.sha256);
        seen.insert(key.clone());
        let absent_at = if is_first { None } else { before.absent_at(&one.path, is_line, now) };
        let came = |absent_at| FirstSeen::Between { absent_at, present_at: newest };
        match things.get_mut(&key) {
            Some(thing) => {
                thing.owner = one.owner;
                if let Some(gone_at) = thing.gone_at.take() {
                    // Back again: it was seen not to be there, whatever could be looked at since.
                    thing.first_seen = came(absent_at.unwrap_or(gone_at.min(now.utc)));
                }
            }
            None => {
                let first_seen = absent_at.map_or(FirstSeen::AtTheFirstLook, came);
                let Present { kind, path, line, sha256, owner } = one;
                let thing = Thing { kind, path, line, sha256, owner, first_seen, gone_at: None };
                things.insert(key, thing);
            }
        }
    }
    let unread = selves(&look.unread);
    let mut unseen = BTreeSet::new();
    for (key, thing) in things.iter_mut().filter(|(_, thing)| thing.gone_at.is_none()) {
        if seen.contains(key) {
            continue;
        }
        let is_hidden =
            |missed: &Missed| hides(&missed.path, missed.hides, &thing.path, thing.line.is_some());
        let is_unread = || is_dropped(thing) && Marks::of(&thing.path).is_in(&unread);
        if look.missed.iter().any(is_hidden) || is_unread() {
            unseen.insert(key.clone());
        } else {
            thing.gone_at = Some(newest);
        }
    }
    let mut blind = before.blind.after(&look.missed, look.unread, &before.last, is_first, newest);
    // Whoever fills `/tmp` has nothing else forgotten.
    let is_about = |key: &Key| key.0 == ThingKind::DroppedProgram;
    let cut = cut(&mut things, &unseen, &mut blind, DROPPED_REMEMBERED, is_about, newest);
    let forgotten_by = cut.map(|(_, by)| by).max(before.dropped.forgotten_by);
    let forgotten = forget(&mut things, &unseen, &mut blind, most, before.forgotten, newest);
    let (open, closed): (Vec<_>, Vec<_>) =
        look.missed.into_iter().partition(|missed| is_open_to_all(&missed.path));
    let to_unread = |missed: Missed| Unread { path: missed.path, why: words::cut(missed.why) };
    let known_since = if now.boot == before.first.boot {
        // A clock that is set soon after a start, as most are, also says when that was.
        earlier(now.utc, now, &before.first)
    } else {
        before.known_since
    };
    Memory {
        first: before.first,
        known_since,
        last: now.clone(),
        newest,
        things: things.into_values().collect(),
        blind,
        unread_of: closed.len(),
        unread: closed.into_iter().take(MOST_UNREAD).map(to_unread).collect(),
        forgotten,
        is_begun_anew: before.is_begun_anew,
        dropped: Dropped {
            is_looked_at: true,
            forgotten_by,
            unread_of: open.len(),
            unread: open.into_iter().take(MOST_UNREAD).map(to_unread).collect(),
        },
    }
}

/// `utc`, less what went by from `then` to `now` in one boot.
fn earlier(utc: UtcNanos, now: &Moment, then: &Moment) -> UtcNanos {
    let elapsed = i64::try_from(now.at.since(then.at).as_nanos()).unwrap_or(i64::MAX);
    UtcNanos::from_unix_nanos(utc.unix_nanos().saturating_sub(elapsed))
}

/// The earliest that `then` can have been, by what the clocks said then and say now.
fn at_the_earliest(then: &Moment, now: &Moment) -> UtcNanos {
    let told_now = if then.boot == now.boot { earlier(now.utc, now, then) } else { now.utc };
    then.utc.min(told_now)
}

/// Brings `things` down to `most`.
fn forget(
    things: &mut BTreeMap<Key, Thing>,
    unseen: &BTreeSet<Key>,
    blind: &mut Blind,
    most: usize,
    before: Option<Forgotten>,
    now: UtcNanos,
) -> Option<Forgotten> {
    let Some((count, by)) = cut(things, unseen, blind, most, |_| true, now) else { return before };
    let so_far = before.map_or(0, |forgotten| forgotten.things);
    let things = so_far.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
    Some(Forgotten { things, by: before.map_or(by, |forgotten| forgotten.by.max(by)) })
}

/// Brings those of `things` that it is about down to `most`: first what is gone the longest, then what could not be
/// looked at. How many were cut, and by when they were gone; `None`: none.
fn cut(
    things: &mut BTreeMap<Key, Thing>,
    unseen: &BTreeSet<Key>,
    blind: &mut Blind,
    most: usize,
    is_about: impl Fn(&Key) -> bool,
    now: UtcNanos,
) -> Option<(usize, UtcNanos)> {
    let mut over = things.keys().filter(|key| is_about(key)).count().saturating_sub(most);
    if over == 0 {
        return None;
    }
    let mut gone: Vec<(UtcNanos, Key)> = things
        .iter()
        .filter(|(key, _)| is_about(key))
        .filter_map(|(key, thing)| Some((thing.gone_at?, key.clone())))
        .collect();
    gone.sort();
    gone.truncate(over);
    let mut by = gone.last().map_or(now, |(at, _)| *at);
    let mut count = gone.len();
    over -= count;
    for (_, key) in gone {
        things.remove(&key);
    }
    for key in unseen.iter().filter(|key| is_about(key)) {
        if over == 0 {
            break;
        }
        if let Some(thing) = things.remove(key) {
            // When it is seen again, nobody knows that it was there before.
            blind.forget_what_was_read(&thing);
            (over, count, by) = (over - 1, count + 1, now);
        }
    }
    Some((count, by))
}

impl Memory {
    /// Before the first look.
    fn empty(now: &Moment) -> Self {
        Self {
            first: now.clone(),
            known_since: now.utc,
            last: now.clone(),
            newest: UtcNanos::from_unix_nanos(i64::MIN),
            things: Vec::new(),
            blind: Blind::default(),
            unread: Vec::new(),
            unread_of: 0,
            forgotten: None,
            is_begun_anew: false,
            dropped: Dropped::default(),
        }
    }

    /// Before the first look after an earlier memory turned out to be damaged.
    #[must_use]
    pub fn anew(now: &Moment) -> Self {
        Self { is_begun_anew: true, ..Self::empty(now) }
    }

    /// Whether nobody has looked yet.
    fn is_empty(&self) -> bool {
        self.newest == UtcNanos::from_unix_nanos(i64::MIN)
    }

    /// When what is seen there now for the first time was surely not there; `None` if nobody could look.
    fn absent_at(&self, path: &FilePath, is_line: bool, now: &Moment) -> Option<UtcNanos> {
        let mut at = at_the_earliest(&self.last, now);
        for spot in self.blind.spots.iter().filter(|spot| spot.hides(path, is_line)) {
            at = at.min(at_the_earliest(spot.last_read.as_ref()?, now));
        }
        if is_open_to_all(path)
            && let Some(read) = self.blind.unreadable.last_read(&Marks::of(path))
        {
            at = at.min(at_the_earliest(read?, now));
        }
        Some(at)
    }

    /// What is said of it: all, or what may have come at `since` or later, or was seen to be gone since. What
    /// is not known of the memory itself is said of the folder that it is kept in.
    #[must_use]
    pub fn survey(&self, since: Option<UtcNanos>, kept_in: &FilePath) -> Survey {
        let is_asked_for = |thing: &&Thing| {
            since.is_none_or(|since| {
                thing.may_have_come_after(since) || thing.gone_at.is_some_and(|gone| gone >= since)
            })
        };
        let newest_first = |thing: &&Thing| std::cmp::Reverse(last_change(thing));
        let (mut dropped, mut things): (Vec<&Thing>, Vec<&Thing>) =
            self.things.iter().filter(is_asked_for).partition(|thing| is_dropped(thing));
        // Those that are there matter most, and are fewer.
        dropped.sort_by_key(|thing| (thing.gone_at.is_some(), newest_first(thing)));
        let are_untold = dropped.len() > MOST_DROPPED;
        dropped.truncate(MOST_DROPPED);
        let of = u32::try_from(things.len() + dropped.len()).unwrap_or(u32::MAX);
        // Among those of one time, as they are kept: by kind and path.
        things.sort_by_key(newest_first);
        things.truncate(MOST_THINGS - dropped.len());
        things.extend(dropped);
        things.sort_by_key(newest_first);
        Survey {
            taken_at: self.last.utc,
            known_since: self.known_since,
            things: things.into_iter().cloned().collect(),
            of,
            unread: self.unread_for(since, are_untold, kept_in),
        }
    }

    fn unread_for(
        &self,
        since: Option<UtcNanos>,
        are_untold: bool,
        kept_in: &FilePath,
    ) -> Vec<Unread> {
        let of_memory = |why: String| Unread { path: kept_in.clone(), why };
        let of_open = |why: String| Unread { path: FilePath::new("/tmp"), why };
        let mut unread = Vec::new();
        if self.is_begun_anew {
            let since = words::time(self.known_since);
            let why = format!("what was remembered was damaged, and began anew at {since}");
            unread.push(of_memory(why));
        }
        if let Some(Forgotten { things, by }) = self.forgotten {
            let by = words::time(by);
            let why = format!("{things} things that were gone by {by} are not remembered any more");
            unread.push(of_memory(why));
        }
        unread.extend(self.unread.iter().cloned());
        let mut of = unread.len() - self.unread.len() + self.unread_of;
        let mut open = Vec::new();
        let is_forgotten =
            self.dropped.forgotten_by.is_some_and(|by| since.is_none_or(|since| since <= by));
        if are_untold || is_forgotten {
            // Without a number, so that a person's word on it stays.
            let why = "more programs came and went where anybody may write than are told: those that are there \
                       come first, then the newest";
            open.push(of_open(why.to_owned()));
        }
        let is_of_interest = |late: &&Late| since.is_none_or(|since| since < late.first_read);
        for late in self.blind.late.iter().filter(is_of_interest) {
            let when = words::time(late.first_read);
            let what = if late.is_part { "something that lies there was " } else { "" };
            let why = format!(
                "{what}not read before {when}: what came there until then is not told apart"
            );
            let late = Unread { path: late.path.clone(), why };
            if is_open_to_all(&late.path) {
                open.push(late);
            } else {
                of += 1;
                unread.push(late);
            }
        }
        let open_of = open.len() + self.dropped.unread_of;
        open.extend(self.dropped.unread.iter().cloned());
        // Whoever fills `/tmp` takes no room from what else could not be read, and changes no word of it: the last of
        // each says how many more there are.
        let room = MOST_UNREAD - open_of.min(ROOM_FOR_OPEN);
        shorten(&mut unread, of, room, |more| {
            of_memory(format!("{more} more places could not be read"))
        });
        let room = MOST_UNREAD - unread.len();
        shorten(&mut open, open_of, room, |more| {
            of_open(format!("{more} more could not be read where anybody may write"))
        });
        unread.extend(open);
        unread
    }

    /// How many spots nothing is known of, for tests of what is kept.
    #[cfg(test)]
    pub(super) fn spots(&self) -> usize {
        self.blind.spots.len()
    }

    /// All things, for tests of what is kept.
    #[cfg(test)]
    pub(super) fn things(&self) -> &[Thing] {
        &self.things
    }
}

/// Brings what could not be read, which is of `of`, into `room`: the last says how many more there are.
fn shorten(told: &mut Vec<Unread>, of: usize, room: usize, more: impl Fn(usize) -> Unread) {
    if of > room {
        told.truncate(room.saturating_sub(1));
        told.push(more(of - told.len()));
    }
}

fn last_change(thing: &Thing) -> UtcNanos {
    let came = match thing.first_seen {
        FirstSeen::AtTheFirstLook => UtcNanos::from_unix_nanos(i64::MIN),
        FirstSeen::Between { present_at, .. } => present_at,
    };
    thing.gone_at.map_or(came, |gone| gone.max(came))
}
