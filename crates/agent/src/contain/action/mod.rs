//! What can be done to a machine besides isolating it: the mechanisms, and nothing of whether
//! they should be done.
//!
//! | measure | does | undo |
//! |---|---|---|
//! | [`Freeze`] | a process and all that came from it stand still | they go on where they stood |
//! | [`Kill`] | the same, then they end | none |
//! | [`Quarantine`] | a file is taken out of its place into an encrypted vault | it is back, as it was |
//! | [`PutBack`] | what stood at a place before it was changed is there again | what was there is |
//! | [`Deny`] | a program can't be started any more | it can |
//! | [`Blocks`] | a peer can't be spoken to any more | it can |
//! | [`account::Accounts`] | a local account can't sign in any more | it can |
//! | [`collect::Collector`] | evidence is gathered | changes nothing |
//!
//! Each has the same four verbs. `apply` does it and says what was found and done, in a value that can
//! be written to disk and that holds all that an exact undo needs; `prove` reads back and tries; `undo`
//! takes it back; `begun` gives what is in the journal, for a measure whose `apply` never returned.
//!
//! The one idea: **what is about to be changed is written to disk before it is changed** ([`Journal`]),
//! and every step may be done twice. Killed between any two system calls, the next `apply` ends where
//! the first would have, and the next `undo` leaves the machine as it was. An `apply` that fails takes
//! back what it did before it returns.
//!
//! Nothing here asks who may order it. What no order may do is refused here all the same, in
//! [`spared`]: the parts of a machine without which nobody could repair it, Cordon itself, and what the
//! organisation has named as needed for care.
//!
//! | module | owns |
//! |---|---|
//! | [`freeze`], [`kill`], [`quarantine`], [`put_back`], [`deny`], [`block`], [`account`], [`collect`] | the measures |
//! | [`hold`], [`lineage`], [`pens`] | keeping a tree of processes still |
//! | [`spared`] | what is never touched |
//! | [`journal`], [`mounts`], [`place`] | the disk, the mount table, walking a hostile path |
//! | [`plain`], [`reader`] | reading at hostile places, and never waiting for what does not answer |
//! | [`would`] | what a measure would do, for people who are about to order it |
//! | `backoff` | when what came to nothing is tried again |
//! | `kernel` | the few calls that no safe wrapper has |

pub mod account;
mod backoff;
pub mod block;
pub mod collect;
pub mod deny;
pub mod freeze;
pub mod hold;
pub mod journal;
pub mod kernel;
pub mod kill;
pub mod lineage;
pub mod mounts;
pub mod pens;
pub mod place;
pub mod plain;
pub mod put_back;
pub mod quarantine;
pub mod reader;
pub mod spared;
pub mod would;

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use cordon_model::action::FilePath;
use cordon_model::measure::{Probe, Proof};
use serde::{Deserialize, Serialize};

use super::moment::boot_time;

pub use block::Blocks;
pub use deny::Deny;
pub use freeze::Freeze;
pub use journal::Journal;
pub use kill::Kill;
pub use put_back::PutBack;
pub use quarantine::Quarantine;
pub use spared::Protected;

/// Why something was not done. The machine is then as it was before, unless the words say otherwise.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// No order may do this.
    #[error("refused: {0}")]
    Refused(String),
    /// What the order names is not there, or is something else by now.
    #[error("{0}")]
    NotThere(String),
    /// It is there, and can't be acted upon.
    #[error("{0}")]
    Unfit(String),
    /// The system failed.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// What happened.
        source: io::Error,
    },
}

impl ActError {
    fn refused(why: impl Into<String>) -> Self {
        Self::Refused(why.into())
    }

    fn not_there(why: impl Into<String>) -> Self {
        Self::NotThere(why.into())
    }

    fn unfit(why: impl Into<String>) -> Self {
        Self::Unfit(why.into())
    }
}

/// Says what was being done when the system failed.
fn failed<E: Into<io::Error>>(doing: impl Into<String>) -> impl FnOnce(E) -> ActError {
    let doing = doing.into();
    move |source| ActError::Io { doing, source: source.into() }
}

/// What became of taking a measure back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Undone {
    /// What is not as it was before, and why. Empty: it is, exactly.
    pub differs: Vec<String>,
}

impl Undone {
    /// Whether the machine is as it was before the measure.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.differs.is_empty()
    }
}

/// The proof of a measure that has no nftables table.
fn proof(is_read_back: bool, probes: Vec<Probe>, unproven: Vec<String>) -> Proof {
    Proof { table_handle: None, is_read_back, probes, unproven, at: boot_time() }
}

/// The path that an order or an assignment names.
fn path_of(path: &FilePath) -> &Path {
    Path::new(OsStr::from_bytes(path.as_bytes()))
}

/// A path, which on Linux is any bytes but NUL, in a document.
mod path_bytes {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    use std::path::{Path, PathBuf};

    use serde::{Deserializer, Serializer};

    pub fn serialize<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
        serde_bytes::serialize(path.as_os_str().as_bytes(), to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
        let bytes: Vec<u8> = serde_bytes::deserialize(from)?;
        Ok(OsString::from_vec(bytes).into())
    }
}
