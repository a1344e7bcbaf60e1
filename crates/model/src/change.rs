//! What was changed in the places where something starts by itself or lets somebody in, and by whom.
//!
//! The one idea: a machine's **lookout** sees such changes as they are made, and keeps what stood there before, so
//! that it can be put back exactly. What it tells is hashes, names and a few lines, never a whole file; as with every
//! [look](crate::look), it is the machine's own word.

use serde::{Deserialize, Serialize};

use crate::action::{FilePath, Sha256Digest};
use crate::finding::ProcessRef;
use crate::limits;
use crate::survey::{PLACE_BYTES, ThingKind};
use crate::time::{BootId, BootNanos, UtcNanos};

/// Changes in one answer: 192 of at most 4.6 KB (a path of 512 bytes, 8 lines of 160, three processes of 720, links
/// of 256) are 880 KB, below a message.
pub const MOST_CHANGES: usize = 192;
/// Lines of a change that are told, and the bytes of each.
pub const MOST_LINES: usize = 8;
/// See [`MOST_LINES`].
pub const LINE_BYTES: usize = 160;
/// Processes that are named as having changed one thing at once. Of more, nobody is told apart.
pub const MOST_DOERS: usize = 3;
/// Processes above one that are named: each is a number and a start.
pub const MOST_ABOVE: usize = 16;
/// The longest name of a program, or of what a link leads to, that is told.
pub const WORD_BYTES: usize = 256;
/// What the lookout can't see, in one answer.
pub const MOST_GAPS: usize = 16;

/// What was seen to change, and how far that can be relied on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Changes {
    /// When this was told.
    pub taken_at: UtcNanos,
    /// Since when somebody looks out there, without a break that is not named among the gaps.
    pub watched_since: UtcNanos,
    /// At most [`MOST_CHANGES`], the newest first…
    pub changes: Vec<Change>,
    /// …of so many.
    pub of: u32,
    /// What was not seen: "nothing changed" does not speak of it (law 12).
    pub gaps: Vec<String>,
}

/// One thing that became another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Its number on its machine: 1, 2, 3…
    pub number: u64,
    /// Where.
    pub path: FilePath,
    /// What lies there.
    pub kind: ThingKind,
    /// When it was first seen.
    pub at: UtcNanos,
    /// In which boot: a process's number and start are of one.
    pub boot: BootId,
    /// Who did it: several, if they did it at one time and can't be told apart. Empty: that is not known.
    pub by: Vec<Doer>,
    /// What was there before.
    pub before: Stood,
    /// What was there after it.
    pub after: Stood,
    /// Lines that came (`+`) and went (`-`), if these may be told.
    pub lines: Vec<String>,
    /// Earlier changes of this place are not remembered any more: what was there before may be somebody's doing, too.
    pub follows_unknown: bool,
    /// Whether what stands there now, looked at for this answer, is what was there after it.
    pub is_now: bool,
}

/// What stands at a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Stood {
    /// Nothing.
    Nothing,
    /// A file.
    File {
        /// Of its content.
        sha256: Sha256Digest,
        /// Its length.
        bytes: u64,
        /// Owner, group and mode in octal digits, as people read them: `0:0 644`.
        rights: String,
        /// Whether the machine keeps its content, so that it can be put back.
        is_kept: bool,
    },
    /// A symbolic link.
    Link {
        /// Of what it leads to.
        sha256: Sha256Digest,
        /// Where it leads, [`WORD_BYTES`] at most.
        to: String,
    },
    /// Something that can't be put back, and what.
    Other(String),
}

impl Stood {
    /// By what an order names it; `None`: nothing stands there.
    #[must_use]
    pub fn sha256(&self) -> Option<Sha256Digest> {
        match self {
            Self::File { sha256, .. } | Self::Link { sha256, .. } => Some(*sha256),
            Self::Nothing | Self::Other(_) => None,
        }
    }

    /// Whether a machine that says this can put it there.
    #[must_use]
    pub fn can_be_put_back(&self) -> bool {
        match self {
            Self::Nothing | Self::Link { .. } => true,
            Self::File { is_kept, .. } => *is_kept,
            Self::Other(_) => false,
        }
    }

    /// Whether both are the same, as far as is told.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Nothing, Self::Nothing) => true,
            (
                Self::File { sha256, rights, .. },
                Self::File { sha256: others, rights: other_rights, .. },
            ) => sha256 == others && rights == other_rights,
            (Self::Link { sha256, .. }, Self::Link { sha256: other, .. }) => sha256 == other,
            _ => false,
        }
    }
}

/// A process that changed something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Doer {
    /// Its number.
    pub pid: u32,
    /// When it started and what it ran; `None`: it had ended before it could be looked at.
    pub process: Option<ProcessRef>,
    /// Those above it, its parent first: number and start.
    pub above: Vec<(u32, BootNanos)>,
    /// It is Cordon's own helper, by an order.
    pub is_cordon: bool,
}

impl Doer {
    /// Itself and those above it.
    pub fn line(&self) -> impl Iterator<Item = (u32, BootNanos)> {
        let own = self.process.iter().map(|process| (process.pid, process.started));
        own.chain(self.above.iter().copied())
    }
}

impl Changes {
    /// Whether it is no larger than it may be: a machine's answer is taken apart by nobody else first.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        self.changes.len() <= MOST_CHANGES
            && self.gaps.len() <= MOST_GAPS
            && self.gaps.iter().all(|gap| gap.len() <= limits::NAME_BYTES)
            && self.changes.iter().all(Change::is_bounded)
    }
}

impl Change {
    fn is_bounded(&self) -> bool {
        let is_short = |stood: &Stood| match stood {
            Stood::Nothing => true,
            Stood::File { rights, .. } => rights.len() <= WORD_BYTES,
            Stood::Link { to, .. } => to.len() <= WORD_BYTES,
            Stood::Other(what) => what.len() <= WORD_BYTES,
        };
        let doer_fits = |doer: &Doer| {
            doer.above.len() <= MOST_ABOVE
                && doer.process.as_ref().is_none_or(|process| process.image.len() <= WORD_BYTES)
        };
        self.path.as_bytes().len() <= PLACE_BYTES
            && self.boot.0.len() <= WORD_BYTES
            && self.lines.len() <= MOST_LINES
            && self.lines.iter().all(|line| line.len() <= LINE_BYTES)
            && self.by.len() <= MOST_DOERS
            && self.by.iter().all(doer_fits)
            && is_short(&self.before)
            && is_short(&self.after)
    }

    /// Whether Cordon itself did it, and nobody else.
    #[must_use]
    pub fn is_by_cordon(&self) -> bool {
        !self.by.is_empty() && self.by.iter().all(|doer| doer.is_cordon)
    }
}
