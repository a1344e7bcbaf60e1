//! The ledger itself: a log of records, and the tree over them, in one directory.
//!
//! | file | holds | if it is lost |
//! |---|---|---|
//! | `records` | the records, a frame each; the only file that an append syncs | the ledger is lost |
//! | `checkpoints` | every signed checkpoint, oldest first | the proof against rewriting is lost |
//! | `nodes` | the tree's complete subtrees, 32 bytes each | made again from `records` |
//! | `places` | where each record begins, 8 bytes each | made again from `records` |
//!
//! Opening trusts `nodes` and `places` only as far as the newest checkpoint bears them out, and makes
//! the rest again; so it costs what was written since that checkpoint.

use std::fs::{DirBuilder, File};
use std::io::Write as _;
use std::ops::Range;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use cordon_model::record::Record;

use crate::checkpoints::{open_checkpoints, read_checkpoints};
use crate::derived::{Base, Derived};
use crate::log::{Log, LogError, TornTail};
use crate::merkle::{self, Hash, Peaks};
use crate::note::{Checkpoint, NoteError, SignedCheckpoint, is_origin};

/// First line of `records`.
pub const LEDGER_FORMAT: &str = "cordon ledger 1";

/// The most records that one [`Ledger::read`] gives: a screen's page is 100; a thousand of a few
/// hundred bytes stay far below a mebibyte.
pub const RECORDS_PER_READ: u64 = 1000;

/// Checkpoints that are kept, at most: of about 200 bytes each, so below a megabyte to read at a start.
/// When there are more, every second one goes. Each vouches for all records below it, so nothing is less
/// proven; only the place of an alteration is known less closely.
pub const CHECKPOINTS_KEPT: usize = 4096;

/// Why the ledger can't do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The files below.
    #[error(transparent)]
    Log(#[from] LogError),
    /// What is on disk is not what was signed.
    #[error(
        "the ledger in {dir} is altered: {what}; run `cordon verify` on it, set it aside as evidence \
         and begin a new one"
    )]
    Altered {
        /// The ledger.
        dir: PathBuf,
        /// In what way.
        what: String,
    },
    /// A checkpoint can't be kept.
    #[error("a checkpoint can't be kept")]
    Checkpoint(#[from] NoteError),
    /// A checkpoint of another ledger, or of records that this one does not have.
    #[error("the checkpoint is not of this ledger: {0}")]
    ForeignCheckpoint(&'static str),
    /// A name that can't be an origin.
    #[error("{0:?} can't be a ledger's origin: use letters, digits, / and -")]
    Origin(String),
    /// A record can't be written as CBOR, or what is read is none.
    #[error("record {index} can't be {what}: {reason}")]
    Encoding {
        /// Its number.
        index: u64,
        /// Read or written.
        what: &'static str,
        /// The codec's words.
        reason: String,
    },
    /// No such record, or no tree of that size.
    #[error("the ledger has {size} records; there is no {asked}")]
    OutOfRange {
        /// What was asked for.
        asked: u64,
        /// How many there are.
        size: u64,
    },
}

/// A record with its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Counts from 0.
    pub index: u64,
    /// The record.
    pub record: Record,
}

/// What opening found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// A part of an unacknowledged append that a crash left, set aside.
    pub torn: Option<TornTail>,
    /// Records that were read to make the tree again.
    pub read_again: u64,
    /// Bytes of a checkpoint that a crash cut short, removed.
    pub torn_checkpoint_bytes: u64,
}

/// The ledger, open for writing. One process at a time.
#[derive(Debug)]
pub struct Ledger {
    dir: PathBuf,
    origin: String,
    log: Log,
    derived: Derived,
    peaks: Peaks,
    checkpoints: File,
    checkpoint_count: usize,
    last_checkpoint: Option<SignedCheckpoint>,
}

impl Ledger {
    /// Opens the ledger in `dir`, or begins one. `origin` names it in its checkpoints:
    /// `cordon/RJ1/hub`.
    ///
    /// # Errors
    /// [`LedgerError::Altered`] if what is on disk contradicts the newest checkpoint: nothing is
    /// changed then. Others if files can't be used.
    pub fn open(dir: &Path, origin: &str) -> Result<(Self, Recovery), LedgerError> {
        if !is_origin(origin) {
            return Err(LedgerError::Origin(origin.to_owned()));
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(LogError::io("make", dir))?;
        let mut log = Log::lock(&dir.join("records"), LEDGER_FORMAT)?;
        let (notes, torn_checkpoint_bytes) = read_checkpoints(&dir.join("checkpoints"))?;
        let last_checkpoint = notes.last().cloned();
        if let Some(signed) = &last_checkpoint
            && signed.unchecked().origin != origin
        {
            return Err(LedgerError::ForeignCheckpoint("it has another origin"));
        }
        let mut derived = Derived::open(dir)?;
        let base = last_checkpoint
            .as_ref()
            .map_or(Base::default(), |signed| derived.base(&log, signed.unchecked()));
        derived.cut_to(base.size)?;
        let mut peaks = Peaks::of(&derived, base.size)?;
        let mut root_at_checkpoint = (base.size > 0).then(|| peaks.root());
        let checkpoint = last_checkpoint.as_ref().map(SignedCheckpoint::unchecked);
        let end = log.scan(base.offset.max(log.first()), |frame| -> Result<(), LedgerError> {
            derived.push(frame.offset, frame.hash, &mut peaks);
            if checkpoint.is_some_and(|checkpoint| checkpoint.size == peaks.size()) {
                root_at_checkpoint = Some(peaks.root());
            }
            Ok(derived.write_if_large()?)
        })?;
        if let Some(checkpoint) = checkpoint.filter(|checkpoint| checkpoint.size > 0)
            && root_at_checkpoint != Some(checkpoint.root)
        {
            let what = if peaks.size() < checkpoint.size {
                format!("{} whole records of {} that were signed", peaks.size(), checkpoint.size)
            } else {
                format!("records below {} are not those that were signed", checkpoint.size)
            };
            return Err(LedgerError::Altered { dir: dir.to_owned(), what });
        }
        derived.write()?;
        let torn = log.set_aside_behind(end)?;
        let checkpoints = open_checkpoints(&dir.join("checkpoints"), torn_checkpoint_bytes)?;
        let recovery =
            Recovery { torn, read_again: peaks.size() - base.size, torn_checkpoint_bytes };
        let dir = dir.to_owned();
        let origin = origin.to_owned();
        let checkpoint_count = notes.len();
        let ledger = Self {
            dir,
            origin,
            log,
            derived,
            peaks,
            checkpoints,
            checkpoint_count,
            last_checkpoint,
        };
        Ok((ledger, recovery))
    }

    /// Appends one record; see [`Ledger::append_all`].
    ///
    /// # Errors
    /// As there.
    pub fn append(&mut self, record: &Record) -> Result<u64, LedgerError> {
        Ok(self.append_all(std::slice::from_ref(record))?.start)
    }

    /// Appends `records` with one sync between them (a group commit), and returns their numbers once
    /// they are on disk.
    ///
    /// # Errors
    /// If a record is too large, or the disk refuses; after the latter, open the ledger again.
    pub fn append_all(&mut self, records: &[Record]) -> Result<Range<u64>, LedgerError> {
        let first = self.peaks.size();
        let mut payloads = Vec::with_capacity(records.len());
        for (index, record) in (first..).zip(records) {
            let mut payload = Vec::new();
            ciborium::into_writer(record, &mut payload).map_err(|error| LedgerError::Encoding {
                index,
                what: "written",
                reason: error.to_string(),
            })?;
            payloads.push(payload);
        }
        // What a failed write left behind of the derived files comes first: it is not in them yet.
        self.derived.write()?;
        for (offset, hash) in self.log.append_all(&payloads)? {
            self.derived.push(offset, hash, &mut self.peaks);
        }
        // The records are on disk, so this append has succeeded. What is not written now is written
        // before the next one, or made again by the next open.
        if let Err(error) = self.derived.write() {
            tracing::warn!(%error, "the ledger's tree lags behind its records");
        }
        Ok(first..self.peaks.size())
    }

    /// How many records there are.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.peaks.size()
    }

    /// The root of the tree over all of them.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.peaks.root()
    }

    /// The name that its checkpoints bear.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What the ledger says of itself now, for somebody to sign.
    #[must_use]
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint { origin: self.origin.clone(), size: self.size(), root: self.root() }
    }

    /// The newest checkpoint that was kept.
    #[must_use]
    pub fn last_checkpoint(&self) -> Option<&SignedCheckpoint> {
        self.last_checkpoint.as_ref()
    }

    /// Keeps a signed checkpoint of this ledger, durably.
    ///
    /// # Errors
    /// If it is of another ledger, of another history, or older than the last.
    pub fn keep(&mut self, signed: &SignedCheckpoint) -> Result<(), LedgerError> {
        let checkpoint = signed.unchecked();
        if checkpoint.origin != self.origin {
            return Err(LedgerError::ForeignCheckpoint("it has another origin"));
        }
        let last = self.last_checkpoint.as_ref().map_or(0, |last| last.unchecked().size);
        if checkpoint.size < last {
            return Err(LedgerError::ForeignCheckpoint("it is older than the last one kept"));
        }
        if checkpoint.size > self.size() || self.root_at(checkpoint.size)? != checkpoint.root {
            return Err(LedgerError::ForeignCheckpoint("its root is not that of these records"));
        }
        // The tree must be on disk before a checkpoint vouches for it; see `Derived::base`.
        self.derived.sync()?;
        let path = self.dir.join("checkpoints");
        let text = format!("{}\n", signed.note());
        self.checkpoints
            .write_all(text.as_bytes())
            .and_then(|()| self.checkpoints.sync_data())
            .map_err(LogError::io("append to", &path))?;
        self.checkpoint_count += 1;
        self.last_checkpoint = Some(signed.clone());
        if self.checkpoint_count > CHECKPOINTS_KEPT {
            self.thin_checkpoints(&path)?;
        }
        Ok(())
    }

    /// Drops every second checkpoint, never the newest.
    fn thin_checkpoints(&mut self, path: &Path) -> Result<(), LedgerError> {
        let (notes, _) = read_checkpoints(path)?;
        let kept: Vec<&SignedCheckpoint> = notes.iter().rev().step_by(2).collect();
        let text: String = kept.iter().rev().map(|note| format!("{}\n", note.note())).collect();
        cordon_durable::write_whole(path, text.as_bytes()).map_err(LogError::from)?;
        self.checkpoint_count = kept.len();
        self.checkpoints = open_checkpoints(path, 0)?;
        Ok(())
    }

    /// The root of the first `size` records.
    ///
    /// # Errors
    /// If there are not so many.
    pub fn root_at(&self, size: u64) -> Result<Hash, LedgerError> {
        self.has_size(size)?;
        Ok(merkle::root(&self.derived, size)?)
    }

    /// Shows that record `index` is in the tree of `size` records.
    ///
    /// # Errors
    /// If there is no such record or size.
    pub fn inclusion_proof(&self, index: u64, size: u64) -> Result<Vec<Hash>, LedgerError> {
        self.has_size(size)?;
        if index >= size {
            return Err(LedgerError::OutOfRange { asked: index, size });
        }
        Ok(merkle::inclusion_proof(&self.derived, index, size)?)
    }

    /// Shows that the tree of `old` records is the beginning of that of `new`.
    ///
    /// # Errors
    /// If there are not so many.
    pub fn consistency_proof(&self, old: u64, new: u64) -> Result<Vec<Hash>, LedgerError> {
        self.has_size(new)?;
        if old > new {
            return Err(LedgerError::OutOfRange { asked: old, size: new });
        }
        Ok(merkle::consistency_proof(&self.derived, old, new)?)
    }

    fn has_size(&self, asked: u64) -> Result<(), LedgerError> {
        let size = self.size();
        if asked <= size { Ok(()) } else { Err(LedgerError::OutOfRange { asked, size }) }
    }

    /// The records of `range`, as far as there are any, at most [`RECORDS_PER_READ`].
    ///
    /// # Errors
    /// If a record is damaged.
    pub fn read(&self, range: Range<u64>) -> Result<Vec<Entry>, LedgerError> {
        let end = range.end.min(self.size()).min(range.start.saturating_add(RECORDS_PER_READ));
        (range.start..end)
            .map(|index| {
                let payload = self.leaf(index)?;
                let record = ciborium::from_reader(payload.as_slice()).map_err(|error| {
                    LedgerError::Encoding { index, what: "read", reason: error.to_string() }
                })?;
                Ok(Entry { index, record })
            })
            .collect()
    }

    /// The very bytes of record `index`, which its leaf hash and [`Ledger::inclusion_proof`] are of.
    ///
    /// # Errors
    /// If there is no such record, or it is damaged.
    pub fn leaf(&self, index: u64) -> Result<Vec<u8>, LedgerError> {
        if index >= self.size() {
            return Err(LedgerError::OutOfRange { asked: index, size: self.size() });
        }
        Ok(self.log.read(self.derived.place(index)?)?)
    }
}
