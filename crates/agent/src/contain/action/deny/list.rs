//! What may not be started, as the helper tells it to the warden, and what the warden says of itself.

use cordon_model::action::{Denied, FilePath};
use cordon_model::ids::MeasureId;
use cordon_model::time::UtcNanos;
use serde::{Deserialize, Serialize};

use super::super::spared::{FileId, Protected};

/// Programs that may not be started, of all measures. Each is at most 4 KiB of path, nine of them
/// ([`KNOWN`]) with a content: 128 × 36 KiB, in one message.
pub const DENIED: usize = 128;
/// Files that are known to have a denied content, for one measure.
pub const KNOWN: usize = 8;
/// The longest message between helper and warden: see [`DENIED`], and 256 protected paths of 4 KiB.
pub const MESSAGE_BYTES: usize = 8 << 20;
/// Refusals that the warden remembers to tell: a page.
pub const REFUSALS: usize = 64;

/// One thing that may not be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// By which measure.
    pub measure: MeasureId,
    /// What.
    pub denied: Denied,
    /// The file that was at the path when it was denied: denied under any other name too.
    pub file: Option<FileId>,
    /// Files that had the denied content.
    pub known: Vec<FilePath>,
}

/// All that may not be started, and where contents are looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DenyList {
    /// By measure.
    pub entries: Vec<Entry>,
    /// Mount points whose every program is looked at before it starts.
    pub watched: Vec<FilePath>,
    /// What is never denied besides what a machine needs.
    pub protected: Protected,
}

/// What the helper asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ask {
    /// Deny these, and nothing else.
    Hold(DenyList),
    /// Say what you hold.
    Say,
}

/// What the warden holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holding {
    /// The list, as it was given.
    pub list: DenyList,
    /// What it is asked about by the kernel.
    pub marks: Vec<Mark>,
    /// What it could not do, in words.
    pub problems: Vec<String>,
    /// The number of the open file by which the kernel asks it; `None` if it is asked nothing.
    pub group: Option<i32>,
    /// Starts that it was asked about, ever.
    pub asked: u64,
    /// Of these, refused.
    pub refused: u64,
    /// Of these, allowed because there was no time or no way to look.
    pub doubted: u64,
    /// The last refusals.
    pub refusals: Vec<Refused>,
}

/// What the kernel asks about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Mark {
    /// Every start of a program of a filesystem.
    Filesystem {
        /// By its mount point.
        at: FilePath,
        /// Its device, as the kernel writes it.
        device: (u32, u32),
    },
    /// Every start of one file.
    File {
        /// By its path.
        at: FilePath,
        /// Which.
        file: FileId,
    },
}

/// A start that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// By which measure.
    pub measure: MeasureId,
    /// Who wanted to start it.
    pub pid: u32,
    /// What.
    pub path: FilePath,
    /// When.
    pub at: UtcNanos,
}
