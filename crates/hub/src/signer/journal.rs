//! The signer's memory on disk: a snapshot, and the inputs since.
//!
//! The one idea: an input is on disk before anything that follows from it is signed. A start reads the
//! snapshot, applies the inputs that came after it, makes sure that the ledger has the last one's account,
//! writes a new snapshot and begins the journal anew; a crash between any two of these steps leaves something to start from, because inputs are numbered
//! and the snapshot says up to which number it goes.

use std::io;
use std::path::{Path, PathBuf};

use cordon_durable::{FileError, failed, write_whole};
use cordon_evidence::{Log, LogError, TornTail};
use cordon_respond::clock::Moment;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;

use super::state::{Input, Outcome, SignerState};

const FORMAT: &str = "cordon signer journal 1";

/// Inputs after which a new snapshot is written: replaying so many takes about a second.
const INPUTS_PER_SNAPSHOT: u64 = 20_000;

/// Inputs that may be lost without harm (a machine was heard, a measure ended) wait for the next one that
/// may not, at most so many: losing them leaves the signer more careful than it need be.
const INPUTS_HELD_BACK: usize = 64;

/// Why the memory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The journal's file.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The snapshot's file.
    #[error(transparent)]
    File(#[from] FileError),
    /// Something there is not understood.
    #[error("{path} can't be read: {reason}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The decoder's words.
        reason: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Snapshot {
    /// The number of the last input that is in it.
    upto: u64,
    state: SignerState,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Numbered {
    number: u64,
    now: Moment,
    /// What was drawn while it was applied.
    randomness: Vec<ByteArray<16>>,
    input: Input,
}

/// What a start found.
#[derive(Debug)]
pub struct Recovered {
    /// The memory.
    pub state: SignerState,
    /// Inputs that were applied again.
    pub applied: u64,
    /// …of which this version refuses what an earlier one accepted.
    pub refused: u64,
    /// The last of them, when it was, and what came of it: the only one whose account in the ledger a
    /// crash can have cut off.
    pub last: Option<(Input, Moment, Outcome)>,
    /// A part of an input that a crash left; nothing had been signed for it.
    pub torn: Option<TornTail>,
}

/// The journal, open for writing.
#[derive(Debug)]
pub struct Journal {
    directory: PathBuf,
    log: Log,
    last: u64,
    in_log: u64,
    held_back: Vec<Vec<u8>>,
}

impl Journal {
    /// Whether `directory` has a memory at all.
    pub fn is_there(directory: &Path) -> bool {
        directory.join("state").exists() || directory.join("journal").exists()
    }

    /// Opens the memory in `directory`; a new one begins with `first`.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn open(
        directory: &Path,
        first: impl FnOnce() -> SignerState,
    ) -> Result<(Self, Recovered), JournalError> {
        let Snapshot { upto, mut state } = match read_snapshot(&directory.join("state"))? {
            Some(snapshot) => snapshot,
            None => Snapshot { upto: 0, state: first() },
        };
        let path = directory.join("journal");
        let (mut last, mut applied, mut refused) = (upto, 0, 0);
        let mut last_outcome = None;
        let (log, torn) = Log::open(&path, FORMAT, 0, |frame| -> Result<(), JournalError> {
            let entry: Numbered = decode(&path, frame.payload)?;
            if entry.number > last {
                let mut drawn = entry.randomness.iter();
                let mut randomness = || drawn.next().map_or([0; 16], |bytes| **bytes);
                let outcome = state.apply(&entry.input, &entry.now, &mut randomness);
                refused += u64::from(outcome.is_err());
                if let (Err(_), Input::Sign(proposal)) = (&outcome, &entry.input) {
                    state.core.count_sealed(proposal.machine);
                }
                applied += 1;
                last = entry.number;
                last_outcome = outcome.ok().map(|outcome| (entry.input, entry.now, outcome));
            }
            Ok(())
        })?;
        let directory = directory.to_owned();
        let journal = Self { directory, log, last, in_log: applied, held_back: Vec::new() };
        Ok((journal, Recovered { state, applied, refused, last: last_outcome, torn }))
    }

    /// Notes an input that was applied, durably with all before it, unless it `may_wait`.
    ///
    /// # Errors
    /// If the disk refuses: what is in memory is then ahead of the disk, and nothing may be signed any
    /// more.
    pub fn note(
        &mut self,
        input: Input,
        now: &Moment,
        randomness: Vec<[u8; 16]>,
        may_wait: bool,
    ) -> Result<(), JournalError> {
        self.last += 1;
        let randomness = randomness.into_iter().map(ByteArray::new).collect();
        let entry = Numbered { number: self.last, now: now.clone(), randomness, input };
        self.held_back.push(encode(self.log.path(), &entry)?);
        if may_wait && self.held_back.len() < INPUTS_HELD_BACK {
            return Ok(());
        }
        self.flush()
    }

    /// Writes what was held back.
    ///
    /// # Errors
    /// As [`Journal::note`].
    pub fn flush(&mut self) -> Result<(), JournalError> {
        if !self.held_back.is_empty() {
            self.log.append_all(&self.held_back)?;
            self.in_log += self.held_back.len() as u64;
            self.held_back.clear();
        }
        Ok(())
    }

    /// Begins the journal anew if it has grown long.
    ///
    /// # Errors
    /// As [`Journal::note`].
    pub fn compact_if_long(&mut self, state: &SignerState) -> Result<(), JournalError> {
        if self.in_log < INPUTS_PER_SNAPSHOT { Ok(()) } else { self.begin_anew(state) }
    }

    /// Writes a snapshot and begins the journal anew. Everything that follows from its inputs must be
    /// in the ledger by then.
    ///
    /// # Errors
    /// As [`Journal::note`].
    pub fn begin_anew(&mut self, state: &SignerState) -> Result<(), JournalError> {
        self.flush()?;
        write_snapshot(&self.directory, self.last, state)?;
        self.log.clear()?;
        self.in_log = 0;
        Ok(())
    }
}

fn read_snapshot(path: &Path) -> Result<Option<Snapshot>, JournalError> {
    match std::fs::read(path) {
        Ok(bytes) => decode(path, &bytes).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error).into()),
    }
}

fn write_snapshot(directory: &Path, upto: u64, state: &SignerState) -> Result<(), JournalError> {
    #[derive(Serialize)]
    struct Borrowed<'a> {
        upto: u64,
        state: &'a SignerState,
    }
    let path = directory.join("state");
    let bytes = encode(&path, &Borrowed { upto, state })?;
    Ok(write_whole(&path, &bytes)?)
}

fn encode<T: Serialize>(path: &Path, value: &T) -> Result<Vec<u8>, JournalError> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).map_err(|error| JournalError::Unreadable {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    Ok(bytes)
}

fn decode<T: for<'de> Deserialize<'de>>(path: &Path, bytes: &[u8]) -> Result<T, JournalError> {
    ciborium::from_reader(bytes).map_err(|error| JournalError::Unreadable {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_model::asset::{Assignment, ClinicalTier};
    use cordon_model::ids::{MachineId, OrderId};
    use cordon_model::order::{Approver, Instruction};
    use cordon_model::policy::{Mode, Policy};
    use cordon_model::time::{BootId, BootNanos, UtcNanos};
    use cordon_respond::signer_core::{Basis, Proposal};
    use proptest::prelude::*;

    fn moment(second: u64) -> Moment {
        Moment {
            boot: BootId("boot".into()),
            at: BootNanos(second * 1_000_000_000),
            utc: UtcNanos::from_unix_nanos(1_700_000_000_000_000_000),
            trusted_utc: None,
        }
    }

    fn first() -> SignerState {
        SignerState::new(Policy::default_for("RJ1".parse().unwrap()), &moment(0))
    }

    fn input(kind: u8, machine: u8, id: u8) -> Input {
        let organisation: cordon_model::ids::OdsCode = "RJ1".parse().unwrap();
        let by = Approver { name: "ada".into(), is_clinical: true };
        let machine = MachineId::new(UtcNanos::from_unix_nanos(0), [machine; 10]);
        match kind {
            0 => Input::Assign {
                draft: Box::new(Assignment {
                    organisation,
                    machine,
                    revision: 0,
                    name: "pc".into(),
                    tier: ClinicalTier::from_number(id % 3),
                    kind: None,
                    group: None,
                    lifelines: vec![],
                    names: Vec::new(),
                    protected: cordon_model::asset::Protected::default(),
                    watched: Vec::new(),
                    hub: vec![],
                }),
                receipt_key: Some(ByteArray::new([id; 32])),
                by: Some(by),
                leave: super::super::leave::Leave::Keeper,
            },
            1 => Input::SetPolicy {
                draft: Box::new(Policy { mode: Mode::Act, ..Policy::default_for(organisation) }),
                by,
                leave: super::super::leave::Leave::Keeper,
            },
            2 => Input::RenewPermits,
            3 => Input::Heard { machine, isolation: None },
            4 => Input::NotInForce {
                machine,
                measure: OrderId::new(UtcNanos::from_unix_nanos(0), [id; 10]).into(),
            },
            5 => Input::Cosigned { size: u64::from(id), root: ByteArray::new([id; 32]) },
            _ => Input::Sign(Box::new(Proposal {
                id: OrderId::new(UtcNanos::from_unix_nanos(0), [id; 10]),
                machine,
                instruction: Instruction::Release,
                basis: Basis::People { approval: None, people: vec![by] },
                incident: None,
                reason: "test".into(),
            })),
        }
    }

    /// Opens it, also while a process that a neighbouring test has just forked still holds the lock for the
    /// moment until it runs its own program.
    fn open_again(directory: &Path) -> (Journal, Recovered) {
        for _ in 0..200 {
            match Journal::open(directory, first) {
                Err(JournalError::Log(cordon_evidence::LogError::Busy { .. })) => {
                    std::thread::sleep(std::time::Duration::from_millis(10));
                }
                opened => return opened.unwrap(),
            }
        }
        panic!("the journal stays locked");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        /// Whatever was applied, and wherever the process was killed or the journal begun anew: what is
        /// read again is what was in memory.
        #[test]
        fn the_memory_that_is_read_again_is_the_one_that_was_lost(
            steps in proptest::collection::vec((0u8..8, 0u8..4, any::<u8>(), 0u8..8), 1..40),
        ) {
            let directory = tempfile::tempdir().unwrap();
            let (mut journal, recovered) = open_again(directory.path());
            let mut state = recovered.state;
            let mut seed = 0u8;
            for (second, (kind, machine, id, then)) in steps.into_iter().enumerate() {
                let now = moment(second as u64);
                let mut drawn = Vec::new();
                let mut randomness = || {
                    seed = seed.wrapping_add(1);
                    drawn.push([seed; 16]);
                    [seed; 16]
                };
                let input = input(kind, machine, id);
                let before = state.clone();
                match state.apply(&input, &now, &mut randomness) {
                    Ok(_) => journal.note(input, &now, drawn, false).unwrap(),
                    Err(_) => prop_assert_eq!(&state, &before, "a refusal changes nothing"),
                }
                match then {
                    0 => {
                        drop(journal);
                        let (again, recovered) = open_again(directory.path());
                        prop_assert_eq!(&recovered.state, &state);
                        prop_assert_eq!(recovered.refused, 0);
                        journal = again;
                    }
                    1 => journal.begin_anew(&state).unwrap(),
                    _ => {}
                }
            }
            drop(journal);
            let (_, recovered) = open_again(directory.path());
            prop_assert_eq!(&recovered.state, &state);
        }
    }
}
