//! What could not be read where anybody may write: files and folders, as many as there are.
//!
//! The one idea: whoever makes thousands of files there that can't be read must not thereby make the whole place
//! unread. So each is remembered, and nothing but each: by eight bytes of its path's SHA-256, with those of the folders
//! that it is in. Whoever finds two paths with the same bytes has two files of their own taken for one.

use std::collections::{BTreeMap, HashMap, HashSet};

use cordon_model::action::FilePath;
use cordon_respond::clock::Moment;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::blind::{Spot, older};

/// Different looks that are told apart: more than a day's. Of older ones the older is believed.
const MOST_LOOKS: usize = 32;

/// A file or a folder: the bytes that stand for it, and for each folder that it is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks(Vec<u64>);

impl Marks {
    /// Of the file at this path: below it nothing lies, and whatever is there later was not there.
    #[must_use]
    pub fn of(path: &FilePath) -> Self {
        let file = mark(&[path.as_bytes(), b"\0"].concat());
        Self([vec![file], Self::of_folder(path).0].concat())
    }

    /// Of the folder at this path, with all that is in it, or of what nobody knows.
    #[must_use]
    pub fn of_folder(path: &FilePath) -> Self {
        let path = path.as_bytes();
        let ends = path.iter().enumerate().filter(|(at, byte)| *at > 0 && **byte == b'/');
        let mut marks: Vec<u64> = ends.map(|(at, _)| mark(&path[..at])).collect();
        marks.push(mark(path));
        marks.reverse();
        Self(marks)
    }

    fn itself(&self) -> u64 {
        self.0.first().copied().unwrap_or_default()
    }

    /// All, itself first.
    pub(super) fn all(&self) -> impl Iterator<Item = u64> {
        self.0.iter().copied()
    }

    /// Whether it is, or lies in, one of these.
    pub(super) fn is_in(&self, these: &HashSet<u64>) -> bool {
        self.0.iter().any(|mark| these.contains(mark))
    }
}

fn mark(path: &[u8]) -> u64 {
    let digest = Sha256::digest(path);
    digest.iter().take(8).fold(0, |mark, byte| mark << 8 | u64::from(*byte))
}

/// These, by themselves.
pub(super) fn selves(of: &[Marks]) -> HashSet<u64> {
    of.iter().map(Marks::itself).collect()
}

/// All that could not be read at the last look.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Unreadable {
    /// By when it was read last, or was seen not to be there.
    groups: Vec<Group>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    /// `None`: never.
    last_read: Option<Moment>,
    of: BTreeMap<u64, Marks>,
}

impl Unreadable {
    /// After a look that could not read `now`. `start` is when the look before was; `None`: there was none. Among
    /// `spots` are those that nothing was known of at that look.
    pub(super) fn after(&self, now: Vec<Marks>, start: Option<&Moment>, spots: &[Spot]) -> Self {
        let (mut itself, mut below) = (HashMap::new(), HashMap::new());
        for (number, marks) in self.all() {
            itself.insert(marks.itself(), number);
            for above in marks.0.iter().skip(1) {
                below.entry(*above).or_insert_with(Vec::new).push(number);
            }
        }
        // Of a folder all that is below counts: each group once.
        below.values_mut().for_each(|groups| {
            groups.sort_unstable();
            groups.dedup();
        });
        let spots: Vec<(u64, &Spot)> =
            spots.iter().map(|spot| (mark(spot.place()), spot)).collect();
        let mut after = Self::default();
        for marks in now {
            let mut read = start.cloned();
            let of_itself = marks.0.iter().filter_map(|mark| itself.get(mark));
            let of_below = below.get(&marks.itself()).into_iter().flatten();
            for number in of_itself.chain(of_below) {
                read =
                    older(read, self.groups.get(*number).and_then(|group| group.last_read.clone()));
            }
            for (mark, spot) in &spots {
                if spot.place() == b"/" || marks.0.contains(mark) {
                    read = older(read, spot.last_read.clone());
                }
            }
            after.put(read, marks);
        }
        after.merge();
        after
    }

    fn all(&self) -> impl Iterator<Item = (usize, &Marks)> {
        let numbered = self.groups.iter().enumerate();
        numbered.flat_map(|(number, group)| group.of.values().map(move |marks| (number, marks)))
    }

    fn put(&mut self, last_read: Option<Moment>, marks: Marks) {
        let group = match self.groups.iter_mut().find(|group| group.last_read == last_read) {
            Some(group) => group,
            None => self.groups.push_mut(Group { last_read, of: BTreeMap::new() }),
        };
        group.of.insert(marks.itself(), marks);
    }

    /// Brings the groups down to [`MOST_LOOKS`]: the two newest become one.
    fn merge(&mut self) {
        let at = |group: &Group| group.last_read.as_ref().map(|read| read.utc);
        self.groups.sort_by_key(at);
        while self.groups.len() > MOST_LOOKS {
            let Some(newest) = self.groups.pop() else { return };
            if let Some(group) = self.groups.last_mut() {
                group.of.extend(newest.of);
            }
        }
    }

    /// When what is at this path was read last, if it could not be read at the last look: then `Some`, and in it `None`
    /// if that was never.
    pub(super) fn last_read(&self, path: &Marks) -> Option<Option<&Moment>> {
        let mut holding = self.groups.iter().filter(|group| group.holds(path));
        let first = holding.next()?.last_read.as_ref();
        let read = holding.fold(first, |read, group| {
            let (read, other) = (read?, group.last_read.as_ref()?);
            Some(if other.utc < read.utc { other } else { read })
        });
        Some(read)
    }

    /// The longest that something in `place` was not read, and `read` if that is longer.
    pub(super) fn oldest_in(&self, place: &FilePath, read: Option<Moment>) -> Option<Moment> {
        let place = (place.as_bytes() != b"/").then(|| mark(place.as_bytes()));
        let is_in = |marks: &Marks| place.is_none_or(|place| marks.0.contains(&place));
        let groups = self.groups.iter().filter(|group| group.of.values().any(is_in));
        groups.fold(read, |read, group| older(read, group.last_read.clone()))
    }

    /// Whether something that was never read was read now, or is gone.
    pub(super) fn was_settled(&self, after: &Self) -> impl Iterator<Item = &Marks> {
        let left: HashSet<u64> = after.all().map(|(_, marks)| marks.itself()).collect();
        let never = self.groups.iter().filter(|group| group.last_read.is_none());
        never.flat_map(|group| group.of.values()).filter(move |marks| !marks.is_in(&left))
    }

    /// Of what was read at this path nothing is remembered any more.
    pub(super) fn forget_what_was_read(&mut self, path: &Marks) {
        let hides: HashSet<u64> = path.0.iter().copied().collect();
        let mut never = Vec::new();
        for group in self.groups.iter_mut().filter(|group| group.last_read.is_some()) {
            never.extend(group.of.extract_if(.., |mark, _| hides.contains(mark)));
        }
        never.into_iter().for_each(|(_, marks)| self.put(None, marks));
    }
}

impl Group {
    /// Whether what is at this path is one of these, or lies in one.
    fn holds(&self, path: &Marks) -> bool {
        path.0.iter().any(|mark| self.of.contains_key(mark))
    }
}
