//! What a measure does to its machine.
//!
//! The one idea: every measure, from cutting a machine off to setting one file aside, is an [`Action`]
//! under a lease, with one life ([`MeasureState`](crate::measure::MeasureState)), one proof and, where
//! there is one, one exact way back. What is stopped, what is only looked at, and what can't be taken back
//! is said here, once, as data: [`ActionKind`].

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::asset::ClinicalTier;
use crate::finding::ProcessRef;
use crate::limits;
use crate::measure::Isolation;
use crate::time::{BootId, BootNanos};

mod blocked;
mod digest;

pub use blocked::{Blocked, BlockedPeer};
pub use digest::{NoDigest, Sha256Digest};

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Action {
    /// The machine is cut off, so far.
    Isolate(Isolation),
    /// A process and all that descend from it stand still.
    Freeze(ProcessTarget),
    /// A process and all that descend from it are ended. Can't be taken back.
    Kill(ProcessTarget),
    /// A file is moved into the machine's vault, encrypted, with all that is needed to put it back.
    Quarantine(FileTarget),
    /// A program can't be started.
    Deny(Denied),
    /// A peer can't be spoken to.
    Block(Blocked),
    /// A local account can't sign in.
    DisableAccount(AccountTarget),
    /// Evidence is gathered into a signed, capped archive. Changes nothing.
    Collect(Collection),
    /// What stood at a place before it was changed is there again; what is there now is kept.
    PutBack(PutBackTarget),
}

/// The kind of an action: what policies speak of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActionKind {
    /// See [`Action::Isolate`].
    Isolate,
    /// See [`Action::Freeze`].
    Freeze,
    /// See [`Action::Kill`].
    Kill,
    /// See [`Action::Quarantine`].
    Quarantine,
    /// See [`Action::Deny`].
    Deny,
    /// See [`Action::Block`].
    Block,
    /// See [`Action::DisableAccount`].
    DisableAccount,
    /// See [`Action::Collect`].
    Collect,
    /// See [`Action::PutBack`].
    PutBack,
}

/// What follows the end of a lease that nobody renewed (law 2: never silently open, never silently shut).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AtEnd {
    /// The same again, or what is milder and still holds, with a lease of its own, until somebody ends it.
    StepDown,
    /// It is taken back, and people are told.
    TakeBack,
    /// Nothing: it was done when it was done.
    Over,
}

impl ActionKind {
    /// The word that people and files use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Isolate => "isolate",
            Self::Freeze => "freeze",
            Self::Kill => "kill",
            Self::Quarantine => "quarantine",
            Self::Deny => "deny",
            Self::Block => "block",
            Self::DisableAccount => "disable-account",
            Self::Collect => "collect",
            Self::PutBack => "put-back",
        }
    }

    /// Whether it may stop something that somebody works with. What stops nothing needs no brake.
    #[must_use]
    pub fn stops_something(self) -> bool {
        self != Self::Collect
    }

    /// Whether a finding names its target, so that a policy may ask for it: the others are aimed by people.
    #[must_use]
    pub fn follows_from_a_finding(self) -> bool {
        matches!(self, Self::Freeze | Self::Kill | Self::Quarantine | Self::Deny)
    }

    /// Whether it is done at once and leaves nothing in force.
    #[must_use]
    pub fn is_done_at_once(self) -> bool {
        matches!(self, Self::Kill | Self::Collect)
    }

    /// What follows the end of its lease on a machine of `tier`. On a clinical machine what stops care is
    /// taken back; a file that was set aside stays aside everywhere, as nothing runs without it by then, and what was
    /// put back stays back: its end would bring the intruder back. An
    /// isolation steps down to *segment* on every tier: it keeps the lifelines and all but the services that
    /// intruders move by. What care uses of those (file shares, remote desktops, printing by a Windows server)
    /// lives only where it was declared as a lifeline.
    #[must_use]
    pub fn at_end(self, tier: ClinicalTier) -> AtEnd {
        match self {
            Self::Kill | Self::Collect => AtEnd::Over,
            Self::Isolate | Self::Quarantine | Self::PutBack => AtEnd::StepDown,
            Self::Freeze | Self::Deny | Self::Block | Self::DisableAccount => {
                if tier.is_clinical() { AtEnd::TakeBack } else { AtEnd::StepDown }
            }
        }
    }
}

impl fmt::Display for ActionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Action {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> ActionKind {
        match self {
            Self::Isolate(_) => ActionKind::Isolate,
            Self::Freeze(_) => ActionKind::Freeze,
            Self::Kill(_) => ActionKind::Kill,
            Self::Quarantine(_) => ActionKind::Quarantine,
            Self::Deny(_) => ActionKind::Deny,
            Self::Block(_) => ActionKind::Block,
            Self::DisableAccount(_) => ActionKind::DisableAccount,
            Self::Collect(_) => ActionKind::Collect,
            Self::PutBack(_) => ActionKind::PutBack,
        }
    }

    /// How far it cuts the machine off; `None` for what is no isolation.
    #[must_use]
    pub fn isolation(&self) -> Option<Isolation> {
        match self {
            Self::Isolate(isolation) => Some(*isolation),
            _ => None,
        }
    }

    /// Whether it gathers what is inside a process, which may be passwords and patients' data: this takes two
    /// people.
    #[must_use]
    pub fn looks_into_a_process(&self) -> bool {
        matches!(self, Self::Collect(collection) if collection.looks_into_a_process())
    }

    /// Accepts the action's terms, or says what is wrong with them.
    ///
    /// # Errors
    /// See [`ActionError`].
    pub fn check(&self) -> Result<(), ActionError> {
        match self {
            Self::Isolate(_) => Ok(()),
            Self::Freeze(target) | Self::Kill(target) => target.check(),
            Self::Quarantine(target) => target.path.check(),
            Self::Deny(Denied::Sha256(_)) => Ok(()),
            Self::Deny(Denied::Path(path)) => path.check(),
            Self::Block(blocked) => blocked.check(),
            Self::DisableAccount(account) => account.check(),
            Self::Collect(collection) => collection.check(),
            Self::PutBack(target) => {
                if target.by.len() > MOST_UNDONE {
                    return Err(ActionError::Undone);
                }
                target.path.check()
            }
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Isolate(Isolation::Watch) => f.write_str("watch (nothing is cut)"),
            Self::Isolate(isolation) => write!(f, "isolate ({isolation})"),
            Self::Freeze(target) => write!(f, "freeze {target}"),
            Self::Kill(target) => write!(f, "kill {target}"),
            Self::Quarantine(target) => write!(f, "quarantine {}", target.path),
            Self::Deny(Denied::Path(path)) => write!(f, "deny starting {path}"),
            Self::Deny(Denied::Sha256(digest)) => {
                write!(f, "deny starting sha256:{digest}")
            }
            Self::Block(blocked) => write!(f, "block {blocked}"),
            Self::DisableAccount(account) => write!(f, "disable the account {}", account.name),
            Self::PutBack(target) => write!(f, "put {} back as it was", target.path),
            Self::Collect(collection) => {
                write!(f, "collect evidence ({} pieces", collection.pieces.len())?;
                // Whoever is asked has to know what they agree to.
                for piece in &collection.pieces {
                    match piece {
                        Piece::Memory(target) => write!(f, ", the MEMORY of {}", target.alone())?,
                        Piece::Environment(target) => {
                            write!(f, ", the ENVIRONMENT of {}", target.alone())?;
                        }
                        _ => {}
                    }
                }
                f.write_str(")")
            }
        }
    }
}

/// Why an action's terms can't be accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ActionError {
    /// A path.
    #[error(
        "{path}: a path must be absolute, without `.` or `..` in it, and at most {limit} bytes long",
        limit = limits::PATH_BYTES
    )]
    Path {
        /// As given, made readable.
        path: String,
    },
    /// A process number.
    #[error("process {pid}: no such target; 0 and 1 are the kernel and the first process")]
    Process {
        /// As given.
        pid: u32,
    },
    /// A port range.
    #[error("ports {first}-{last} are not a range of ports from 1 to 65535, or have no transport")]
    Ports {
        /// As given.
        first: u16,
        /// As given.
        last: u16,
    },
    /// A domain.
    #[error("{name:?} is no domain name, or has no address or more than {limit}", limit = limits::ADDRESSES_PER_DOMAIN)]
    Domain {
        /// As given.
        name: String,
    },
    /// A block of everything.
    #[error("{network} holds more than half of all addresses: isolate the machine instead")]
    TooWide {
        /// As given.
        network: ipnet::IpNet,
    },
    /// An account's name.
    #[error("{name:?} is no account name")]
    Account {
        /// As given.
        name: String,
    },
    /// An archive.
    #[error("an archive takes 1 to {pieces} pieces and 1 to {bytes} bytes", pieces = limits::PIECES_PER_COLLECTION, bytes = limits::COLLECTION_BYTES)]
    Collection,
    /// What is put back.
    #[error(
        "changes of more than {MOST_UNDONE} processes are not undone by one order: put it back by hand"
    )]
    Undone,
}

/// One process of one boot. A number alone may be another process by now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessTarget {
    /// In which boot.
    pub boot: BootId,
    /// Which process.
    pub process: ProcessRef,
}

impl ProcessTarget {
    fn check(&self) -> Result<(), ActionError> {
        let pid = self.process.pid;
        if pid > 1 { Ok(()) } else { Err(ActionError::Process { pid }) }
    }

    /// The one process, without what descends from it.
    fn alone(&self) -> String {
        format!("process {} ({})", self.process.pid, self.process.image)
    }
}

impl fmt::Display for ProcessTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({}) and its descendants", self.process.pid, self.process.image)
    }
}

/// An absolute path on a machine, as bytes: a file system knows no characters, and an intruder's file need
/// not have a readable name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FilePath(serde_bytes::ByteBuf);

impl FilePath {
    /// As given; [`FilePath::check`] accepts it.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(serde_bytes::ByteBuf::from(bytes.into()))
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Accepts it, or says that it is no absolute, plain path.
    ///
    /// # Errors
    /// [`ActionError::Path`].
    pub fn check(&self) -> Result<(), ActionError> {
        let bytes = self.as_bytes();
        let is_plain = bytes.len() > 1
            && bytes.len() <= limits::PATH_BYTES
            && bytes.starts_with(b"/")
            && !bytes.contains(&0)
            && bytes[1..]
                .split(|byte| *byte == b'/')
                .all(|part| !matches!(part, b"" | b"." | b".."));
        if is_plain { Ok(()) } else { Err(ActionError::Path { path: self.to_string() }) }
    }
}

impl fmt::Display for FilePath {
    /// Readable, whatever the bytes: what is not printable is escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.as_bytes().utf8_chunks() {
            for character in chunk.valid().chars() {
                if character.is_control() {
                    write!(f, "{}", character.escape_default())?;
                } else {
                    write!(f, "{character}")?;
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileTarget {
    /// Where it is.
    pub path: FilePath,
    /// What it must hold; another file at the same place is left alone. `None`: whatever it holds.
    pub sha256: Option<Sha256Digest>,
}

/// What is put back, by what a machine's lookout saw: see [`crate::change`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PutBackTarget {
    /// Where.
    pub path: FilePath,
    /// The machine's number of the first change that is undone: what stood there before it is put back.
    pub first: u64,
    /// The number of the last: what stood there after it must be there still, or nothing is touched.
    pub last: u64,
    /// The digest of what must be there, as [`Stood::sha256`](crate::change::Stood) says it; `None`: nothing may be.
    pub found: Option<Sha256Digest>,
    /// The digest of what is put there; `None`: nothing is.
    pub wanted: Option<Sha256Digest>,
    /// Whose changes are undone: the machine judges by its own book that nobody else made any since. At most
    /// [`MOST_UNDONE`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by: Vec<UndoneProcess>,
}

/// Processes whose changes one order undoes.
pub const MOST_UNDONE: usize = 32;

/// A process whose changes, with those of all that came of it, are undone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UndoneProcess {
    /// In which boot.
    pub boot: BootId,
    /// Its number.
    pub pid: u32,
    /// When it started.
    pub started: BootNanos,
}

/// A program that can't be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Denied {
    /// Whatever file has these contents.
    Sha256(Sha256Digest),
    /// The file at this place.
    Path(FilePath),
}

/// A local account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountTarget {
    /// Its name.
    pub name: String,
    /// Whether what runs under it is ended too.
    pub ends_sessions: bool,
}

impl AccountTarget {
    /// The form that shadow-utils takes: a letter or underscore, then letters, digits, `_`, `-`, `.`; at
    /// most 32.
    fn check(&self) -> Result<(), ActionError> {
        let mut bytes = self.name.bytes();
        let begins = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
        let is_name = begins
            && self.name.len() <= 32
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
        if is_name { Ok(()) } else { Err(ActionError::Account { name: shortened(&self.name) }) }
    }
}

/// What evidence is gathered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Collection {
    /// Which pieces, in this order.
    pub pieces: Vec<Piece>,
    /// How large the archive may be, in bytes; what does not fit is left out and said.
    pub most_bytes: u64,
}

/// One piece of evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Piece {
    /// Processes: command lines, parents, users, executables and their hashes, open files, maps.
    Processes,
    /// Sockets, addresses, routes, neighbours.
    Network,
    /// The packet filter's rules.
    Rules,
    /// Accounts, logins, keys that may sign in.
    Accounts,
    /// What starts by itself: units, cron, profiles, preloaded libraries.
    Persistence,
    /// Kernel modules and mounts.
    Kernel,
    /// A file.
    File(FilePath),
    /// A process's memory: takes two people.
    Memory(ProcessTarget),
    /// What a process was given at its start, passwords and tokens among it: takes two people.
    Environment(ProcessTarget),
}

impl Piece {
    /// What is gathered from every machine, whatever is suspected of it: the pieces that name no file and no
    /// process, and take no second person.
    pub const OF_ANY_MACHINE: [Self; 6] = [
        Self::Processes,
        Self::Network,
        Self::Rules,
        Self::Accounts,
        Self::Persistence,
        Self::Kernel,
    ];

    /// The process that it looks into, if it does: this takes two people.
    #[must_use]
    pub fn inside_of(&self) -> Option<&ProcessTarget> {
        match self {
            Self::Memory(target) | Self::Environment(target) => Some(target),
            Self::Processes
            | Self::Network
            | Self::Rules
            | Self::Accounts
            | Self::Persistence
            | Self::Kernel
            | Self::File(_) => None,
        }
    }
}

impl Collection {
    /// Whether any piece is what a process holds inside.
    #[must_use]
    pub fn looks_into_a_process(&self) -> bool {
        self.pieces.iter().any(|piece| piece.inside_of().is_some())
    }

    fn check(&self) -> Result<(), ActionError> {
        let is_bounded = (1..=limits::PIECES_PER_COLLECTION).contains(&self.pieces.len())
            && (1..=limits::COLLECTION_BYTES).contains(&self.most_bytes);
        if !is_bounded {
            return Err(ActionError::Collection);
        }
        self.pieces.iter().try_for_each(|piece| match (piece, piece.inside_of()) {
            (Piece::File(path), _) => path.check(),
            (_, Some(target)) => target.check(),
            (_, None) => Ok(()),
        })
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_absolute_and_plain_and_readable_whatever_its_bytes() {
        for bad in ["", "/", "a", "a/b", "/a/../b", "/a//b", "/a/./b", "/a/", "/a\0b"] {
            assert!(FilePath::new(bad).check().is_err(), "{bad:?}");
        }
        let odd = FilePath::new(&b"/tmp/\xff\n\x1b[2Jx"[..]);
        assert!(odd.check().is_ok());
        assert_eq!(odd.to_string(), "/tmp/\\xff\\n\\u{1b}[2Jx");
    }

    #[test]
    fn what_stops_care_ends_with_its_lease_on_a_clinical_machine() {
        for kind in [ActionKind::Freeze, ActionKind::Deny, ActionKind::Block] {
            assert_eq!(kind.at_end(ClinicalTier::Clinical), AtEnd::TakeBack);
            assert_eq!(kind.at_end(ClinicalTier::None), AtEnd::StepDown);
        }
        assert_eq!(ActionKind::Isolate.at_end(ClinicalTier::LifeSustaining), AtEnd::StepDown);
        assert_eq!(ActionKind::Kill.at_end(ClinicalTier::None), AtEnd::Over);
    }
}
