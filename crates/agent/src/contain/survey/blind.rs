//! Where a machine could not look, and since when: nothing is said of what happened there.

use std::collections::HashSet;

use cordon_model::action::FilePath;
use cordon_model::survey::Thing;
use cordon_model::time::UtcNanos;
use cordon_respond::clock::Moment;
use serde::{Deserialize, Serialize};

use super::limits::MISSED;
use super::memory::{Hides, Missed};
use super::places::{OPEN_TO_ALL, Place};
use super::unreadable::{Marks, Unreadable};

/// The places that nothing is known of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Blind {
    /// At the last look.
    pub(super) spots: Vec<Spot>,
    /// Read by now, and not at first.
    pub(super) late: Vec<Late>,
    /// Where anybody may write, at the last look.
    #[serde(default)]
    pub(super) unreadable: Unreadable,
}

/// A place that could not be read at the last look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Spot {
    path: FilePath,
    hides: Hides,
    /// When it was read last; `None`: never.
    pub(super) last_read: Option<Moment>,
}

/// A place that the first look could not read, and a later one could.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Late {
    /// Where.
    pub(super) path: FilePath,
    /// When it was read for the first time.
    pub(super) first_read: UtcNanos,
    /// Not all of it: something that lies there.
    #[serde(default)]
    pub(super) is_part: bool,
}

impl Spot {
    /// Where.
    pub(super) fn place(&self) -> &[u8] {
        self.path.as_bytes()
    }

    pub(super) fn hides(&self, path: &FilePath, is_line: bool) -> bool {
        hides(&self.path, self.hides, path, is_line)
    }
}

/// Whether a place that could not be read hides a thing at `path`.
pub(super) fn hides(place: &FilePath, how: Hides, path: &FilePath, is_line: bool) -> bool {
    let (place, path) = (place.as_bytes(), path.as_bytes());
    match how {
        Hides::Nothing => false,
        Hides::Inside => is_below(place, path) || place == path && is_line,
        Hides::All => place == path || is_below(place, path),
    }
}

fn is_below(place: &[u8], path: &[u8]) -> bool {
    let rest = path.strip_prefix(place);
    place == b"/" || rest.is_some_and(|rest| rest.starts_with(b"/"))
}

impl Blind {
    /// After a look that missed `missed`, and where anybody may write `unread`. `last` is when the look before was, `now`
    /// is this one's time.
    pub(super) fn after(
        &self,
        missed: &[Missed],
        unread: Vec<Marks>,
        last: &Moment,
        is_first: bool,
        now: UtcNanos,
    ) -> Self {
        let read_last = |missed: &Missed| {
            if is_first {
                return None;
            }
            // Of several that are in it, or that it is in, the one that was read the longest ago.
            let mut read = Some(last.clone());
            for spot in self.spots.iter().filter(|spot| spot.touches(&missed.path)) {
                read = older(read, spot.last_read.clone());
            }
            match touches_open(&missed.path) {
                true => self.unreadable.oldest_in(&missed.path, read),
                false => read,
            }
        };
        let hiding = || missed.iter().filter(|missed| missed.hides != Hides::Nothing);
        let mut spots: Vec<Spot> = Vec::new();
        if hiding().count() > MISSED {
            let start = if is_first { None } else { Some(last.clone()) };
            let all = self.spots.iter().map(|spot| spot.last_read.clone());
            let last_read = self.unreadable.oldest_in(&FilePath::new("/"), all.fold(start, older));
            spots.push(Spot { path: FilePath::new("/"), hides: Hides::All, last_read });
        } else {
            spots.extend(hiding().map(|missed| Spot {
                path: missed.path.clone(),
                hides: missed.hides,
                last_read: read_last(missed),
            }));
        }
        let mut late = self.late.clone();
        for spot in self.spots.iter().filter(|spot| spot.last_read.is_none()) {
            if !spots.iter().any(|still| still.holds(&spot.path)) {
                late.retain(|one| one.path != spot.path || one.is_part);
                late.push(Late { path: spot.path.clone(), first_read: now, is_part: false });
            }
        }
        let start = (!is_first).then_some(last);
        let unreadable = self.unreadable.after(unread, start, &self.spots);
        let settled: HashSet<u64> =
            self.unreadable.was_settled(&unreadable).flat_map(Marks::all).collect();
        for place in OPEN_TO_ALL {
            let path = FilePath::new(format!("/{}", place.path));
            if Marks::of_folder(&path).is_in(&settled)
                && !spots.iter().any(|still| still.holds(&path))
            {
                late.retain(|one| one.path != path || !one.is_part);
                late.push(Late { path, first_read: now, is_part: true });
            }
        }
        if late.len() > MISSED {
            late = vec![Late { path: FilePath::new("/"), first_read: now, is_part: false }];
        }
        Self { spots, late, unreadable }
    }

    /// This place, below the root, was never read so far.
    pub(super) fn was_never_read(&mut self, place: &str) {
        let path = FilePath::new(format!("/{place}"));
        self.spots.push(Spot { path, hides: Hides::All, last_read: None });
    }

    /// Of what was read where `thing` was, nothing is remembered any more.
    pub(super) fn forget_what_was_read(&mut self, thing: &Thing) {
        let is_line = thing.line.is_some();
        for spot in self.spots.iter_mut().filter(|spot| spot.hides(&thing.path, is_line)) {
            spot.last_read = None;
        }
        if is_open_to_all(&thing.path) {
            self.unreadable.forget_what_was_read(&Marks::of(&thing.path));
        }
    }
}

/// Whether a place where anybody may write is in it, or it in one.
fn touches_open(path: &FilePath) -> bool {
    let is_below = |place: &Place| is_below(path.as_bytes(), format!("/{}", place.path).as_bytes());
    is_open_to_all(path) || OPEN_TO_ALL.iter().any(is_below)
}

/// Whether it is, or lies in, a place where anybody may write.
pub(super) fn is_open_to_all(path: &FilePath) -> bool {
    OPEN_TO_ALL.iter().any(|place| {
        let rest = path
            .as_bytes()
            .strip_prefix(b"/")
            .and_then(|path| path.strip_prefix(place.path.as_bytes()));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    })
}

impl Spot {
    /// Whether `path` is in it.
    fn holds(&self, path: &FilePath) -> bool {
        self.path == *path || is_below(self.path.as_bytes(), path.as_bytes())
    }

    /// Whether one is in the other.
    fn touches(&self, path: &FilePath) -> bool {
        self.holds(path) || is_below(path.as_bytes(), self.path.as_bytes())
    }
}

/// The one that is longer ago; never is the longest.
pub(super) fn older(one: Option<Moment>, other: Option<Moment>) -> Option<Moment> {
    let (one, other) = (one?, other?);
    Some(if other.utc < one.utc { other } else { one })
}
