//! `cordon verify`: recomputes a ledger from its bytes, and says what is altered, and where.
//!
//! The one idea: the records alone are read; `nodes` and `places` are used only to say *which* record
//! is not as it was, and never to call a ledger sound.

use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use cordon_model::record::Record;
use ed25519_dalek::VerifyingKey;

use crate::checkpoints::read_checkpoints;
use crate::faults::Faults;
use crate::ledger::{LEDGER_FORMAT, LedgerError};
use crate::log::{FRAME_BYTES, Log, LogError};
use crate::merkle::{Hash, Peaks, empty_root, leaf_hash};
use crate::note::SignedCheckpoint;

/// Why a ledger could not be judged at all.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The files can't be read.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// One thing that is not as it was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// A record's bytes don't fit their own checksum.
    Damaged {
        /// Its number.
        record: u64,
        /// Where it begins in `records`.
        offset: u64,
        /// In what way.
        what: &'static str,
    },
    /// A record fits its checksum, and is not the one that the tree was grown with.
    Replaced {
        /// Its number.
        record: u64,
        /// Where it begins in `records`.
        offset: u64,
    },
    /// A record fits its checksum, and is no record.
    Unreadable {
        /// Its number.
        record: u64,
        /// Where it begins in `records`.
        offset: u64,
        /// The decoder's words.
        reason: String,
    },
    /// An inner hash of the tree's file is false: proofs made from it fail.
    FalseNode {
        /// Its position in `nodes`.
        position: u64,
    },
    /// The records up to a checkpoint are not those that were signed.
    Rewritten {
        /// The first record that may be altered, removed or swapped.
        from: u64,
        /// The first record above the checkpoint.
        to: u64,
    },
    /// There are fewer records than were signed.
    Missing {
        /// How many there are.
        have: u64,
        /// How many were signed.
        signed: u64,
    },
    /// A checkpoint is false.
    Checkpoint {
        /// Its number, from 0.
        number: usize,
        /// The size that it states.
        size: u64,
        /// In what way.
        what: String,
    },
    /// The file of checkpoints can't be read, or not to its end.
    Checkpoints {
        /// In what way.
        what: String,
    },
    /// Bytes behind the last whole record that are none: torn by a crash, being written now, or
    /// altered.
    Tail {
        /// Where they begin in `records`.
        offset: u64,
        /// How many there are.
        bytes: u64,
        /// In what way.
        what: &'static str,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged { record, offset, what } => {
                write!(f, "record {record} (byte {offset}) is damaged or altered: {what}")
            }
            Self::Replaced { record, offset } => {
                write!(f, "record {record} (byte {offset}) is not the one that was written")
            }
            Self::Unreadable { record, offset, reason } => {
                write!(f, "record {record} (byte {offset}) is no record: {reason}")
            }
            Self::FalseNode { position } => {
                write!(f, "hash {position} of the tree's file is false; it can be made again")
            }
            Self::Rewritten { from, to } => write!(
                f,
                "records {from} to {last} are not those that were signed: altered, removed or swapped",
                last = to.saturating_sub(1)
            ),
            Self::Missing { have, signed } => {
                write!(f, "{have} whole records are left of {signed} that were signed")
            }
            Self::Checkpoint { number, size, what } => {
                write!(f, "checkpoint {number} (of {size} records) is false: {what}")
            }
            Self::Checkpoints { what } => write!(f, "the file of checkpoints: {what}"),
            Self::Tail { offset, bytes, what } => write!(
                f,
                "{bytes} bytes behind the last whole record (byte {offset}) are none: {what}; torn \
                 by a crash, being written now, or altered"
            ),
        }
    }
}

/// What [`verify`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Whole records read.
    pub records: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Root of the tree over the records as they are.
    pub root: Hash,
    /// Checkpoints whose signature is true and whose root is that of the records.
    pub checkpoints: u64,
    /// Records that a true checkpoint covers.
    pub covered: u64,
    /// Records that none covers yet: an alteration of these by somebody who also rewrites the tree's
    /// file can't be seen.
    pub uncovered: u64,
    /// What is wrong.
    pub faults: Faults<Fault>,
}

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.faults.count() == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { records, bytes, root, checkpoints, covered, uncovered, .. } = self;
        writeln!(f, "{records} records in {bytes} bytes, root {root}")?;
        writeln!(
            f,
            "{covered} of them are covered by {checkpoints} true checkpoints, {uncovered} are not yet"
        )?;
        write!(f, "{}", self.faults)?;
        if self.is_sound() { f.write_str("sound") } else { f.write_str("NOT SOUND") }
    }
}

/// Recomputes the ledger in `dir` and checks every checkpoint with `key`. It may be in use.
///
/// # Errors
/// If the files can't be read. What is altered is no error but in the [`Report`].
pub fn verify(dir: &Path, key: &VerifyingKey) -> Result<Report, VerifyError> {
    // A ledger in use may grow between our look at the checkpoints and the end of the records; that
    // is no fault. Its last frame may be half-written: a bad tail is looked at again.
    const LOOKS: usize = 3;
    let mut report = look(dir, key)?;
    for _ in 1..LOOKS {
        let may_be_in_flight =
            |fault: &Fault| matches!(fault, Fault::Tail { .. } | Fault::Checkpoints { .. });
        if !report.faults.listed().iter().any(may_be_in_flight) {
            break;
        }
        let again = look(dir, key)?;
        if again == report {
            break;
        }
        report = again;
    }
    Ok(report)
}

fn look(dir: &Path, key: &VerifyingKey) -> Result<Report, VerifyError> {
    let mut report = Report {
        records: 0,
        bytes: 0,
        root: empty_root(),
        checkpoints: 0,
        covered: 0,
        uncovered: 0,
        faults: Faults::none(),
    };
    let signed = match read_checkpoints(&dir.join("checkpoints")) {
        Ok((signed, 0)) => signed,
        Ok((signed, cut)) => {
            let what = format!("the last {cut} bytes are no whole checkpoint: torn or altered");
            report.faults.add(Fault::Checkpoints { what });
            signed
        }
        Err(LedgerError::Log(error)) => return Err(error.into()),
        Err(error) => {
            let cause =
                std::error::Error::source(&error).map_or(String::new(), |c| format!(": {c}"));
            report.faults.add(Fault::Checkpoints { what: format!("{error}{cause}") });
            Vec::new()
        }
    };
    let mut claims = Claims::of(&signed, key, &mut report);
    let log = Log::open_to_read(&dir.join("records"), LEDGER_FORMAT)?;
    let mut hints = Hints::open(dir);
    let mut peaks = Peaks::default();
    let mut from = log.first();
    claims.meet(&peaks, &mut report);
    loop {
        let end = log.scan(from, |frame| -> Result<(), LogError> {
            if let Err(reason) = ciborium::from_reader::<Record, _>(frame.payload) {
                let reason = reason.to_string();
                report.faults.add(Fault::Unreadable {
                    record: peaks.size(),
                    offset: frame.offset,
                    reason,
                });
            }
            hints.grow(&mut peaks, frame.offset, frame.hash, &mut report);
            claims.meet(&peaks, &mut report);
            Ok(())
        })?;
        let Some(what) = end.trouble else {
            report.bytes = end.offset;
            break;
        };
        // A damaged record in the middle: go on behind it, if `places` knows where that is.
        let record = peaks.size();
        let length = log.length()?;
        let next = hints.place(record + 1).filter(|next| *next > end.offset && *next < length);
        let Some(next) = next else {
            report.bytes = end.offset;
            let bytes = length.saturating_sub(end.offset);
            report.faults.add(Fault::Tail { offset: end.offset, bytes, what });
            break;
        };
        report.faults.add(Fault::Damaged { record, offset: end.offset, what });
        let as_it_is = log.bytes(end.offset, next.min(end.offset + FRAME_BYTES as u64))?;
        hints.grow_past(&mut peaks, leaf_hash(&as_it_is));
        claims.meet(&peaks, &mut report);
        from = next;
    }
    report.records = peaks.size();
    report.root = peaks.root();
    claims.finish(&peaks, &mut report);
    report.uncovered = report.records.saturating_sub(report.covered);
    Ok(report)
}

/// What the checkpoints claim, in order of size.
struct Claims {
    /// Size and root of the checkpoints whose signature is true, largest first (the next is last).
    ahead: Vec<(u64, Hash)>,
    agreed: u64,
    has_disagreed: bool,
}

impl Claims {
    fn of(signed: &[SignedCheckpoint], key: &VerifyingKey, report: &mut Report) -> Self {
        let mut ahead = Vec::new();
        let mut largest = 0;
        let origin = signed.last().map(|last| last.unchecked().origin.clone());
        for (number, signed) in signed.iter().enumerate() {
            let checkpoint = signed.unchecked();
            let size = checkpoint.size;
            let fault = match signed.check(key) {
                Err(error) => Some(error.to_string()),
                Ok(_) if Some(&checkpoint.origin) != origin.as_ref() => {
                    Some(format!("it is of another ledger, {:?}", checkpoint.origin))
                }
                Ok(_) if size < largest => Some(format!("it comes after one of {largest} records")),
                Ok(_) => None,
            };
            match fault {
                Some(what) => report.faults.add(Fault::Checkpoint { number, size, what }),
                None => {
                    ahead.push((size, checkpoint.root));
                    largest = size;
                }
            }
        }
        ahead.reverse();
        Self { ahead, agreed: 0, has_disagreed: false }
    }

    /// Compares the claims about trees of exactly this size.
    fn meet(&mut self, peaks: &Peaks, report: &mut Report) {
        while let Some((size, root)) = self.ahead.last().copied() {
            if size != peaks.size() {
                break;
            }
            self.ahead.pop();
            if root == peaks.root() {
                report.checkpoints += 1;
                report.covered = size;
                self.agreed = size;
            } else if !self.has_disagreed {
                // Every later root differs too; the first says where.
                self.has_disagreed = true;
                report.faults.add(Fault::Rewritten { from: self.agreed, to: size });
            }
        }
    }

    fn finish(&mut self, peaks: &Peaks, report: &mut Report) {
        if let Some((signed, _)) = self.ahead.first().copied() {
            report.faults.add(Fault::Missing { have: peaks.size(), signed });
        }
    }
}

/// `nodes` and `places`, as far as they are there: they say where to look, and prove nothing.
struct Hints {
    nodes: Option<BufReader<File>>,
    places: Option<File>,
    position: u64,
    is_tree_comparable: bool,
}

impl Hints {
    fn open(dir: &Path) -> Self {
        Self {
            nodes: File::open(dir.join("nodes")).ok().map(BufReader::new),
            places: File::open(dir.join("places")).ok(),
            position: 0,
            is_tree_comparable: true,
        }
    }

    fn place(&self, record: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.places.as_ref()?.read_exact_at(&mut bytes, record.checked_mul(8)?).ok()?;
        Some(u64::from_le_bytes(bytes))
    }

    /// Grows the tree by a leaf and compares what becomes complete with the tree's file.
    fn grow(&mut self, peaks: &mut Peaks, offset: u64, leaf: Hash, report: &mut Report) {
        let record = peaks.size();
        let mut complete = Vec::new();
        peaks.push(leaf, |hash| complete.push(hash));
        for (level, hash) in complete.into_iter().enumerate() {
            let Some(kept) = self.next_node() else { continue };
            if kept == hash {
                continue;
            }
            if level == 0 {
                // Every inner hash above it differs too, and says nothing new.
                self.is_tree_comparable = false;
                report.faults.add(Fault::Replaced { record, offset });
            } else if self.is_tree_comparable {
                report.faults.add(Fault::FalseNode { position: self.position - 1 });
            }
        }
    }

    /// The same for a record that is known to be damaged: nothing is compared.
    fn grow_past(&mut self, peaks: &mut Peaks, leaf: Hash) {
        self.is_tree_comparable = false;
        let mut complete = 0;
        peaks.push(leaf, |_| complete += 1);
        for _ in 0..complete {
            self.next_node();
        }
    }

    fn next_node(&mut self) -> Option<Hash> {
        let mut bytes = [0; 32];
        if self.nodes.as_mut()?.read_exact(&mut bytes).is_err() {
            // The file may lag behind the records.
            self.nodes = None;
            return None;
        }
        self.position += 1;
        Some(Hash(bytes))
    }
}
