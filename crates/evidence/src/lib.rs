//! The ledger: an append-only log of everything done, that cannot be altered unseen; and [`archive`]s
//! of what was gathered on a machine.
//!
//! A [`Ledger`] is a directory. [`Ledger::append_all`] returns when the records are on disk;
//! [`Ledger::open`] after a crash finds every record that was acknowledged, and says what it had to
//! cut off. Over the records grows a Merkle tree ([`merkle`]); a [`Checkpoint`] states its root, and
//! once another process has signed it (which it does only for a tree that
//! [begins with](merkle::proves_consistency) the one that it signed before) nobody can alter, swap or
//! remove a record below it without [`verify`] finding it, the ledger's own writer included.
//!
//! ```
//! use cordon_evidence::{Ledger, verify};
//! use cordon_model::record::{Actor, Deed, Record};
//! # let dir = tempfile::tempdir()?;
//! # let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
//! let (mut ledger, _) = Ledger::open(dir.path(), "cordon/RJ1/hub")?;
//! ledger.append(&Record {
//!     at: cordon_model::time::UtcNanos::now(),
//!     organisation: "RJ1".parse()?,
//!     actor: Actor::Hub,
//!     deed: Deed::Began,
//!     machine: None,
//!     incident: None,
//!     detail: String::new(),
//! })?;
//! ledger.keep(&ledger.checkpoint().sign(&key))?; // in production the signer process does this
//! let report = verify(dir.path(), &key.verifying_key())?;
//! assert!(report.is_sound() && report.uncovered == 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Log`] is the layer below: frames in one file, torn tails found and set aside. Others use it for
//! journals of their own.

#![forbid(unsafe_code)]

pub mod archive;
mod checkpoints;
mod derived;
mod faults;
mod ledger;
mod log;
pub mod merkle;
mod note;
mod verify;

pub use faults::Faults;
pub use ledger::{
    CHECKPOINTS_KEPT, Entry, LEDGER_FORMAT, Ledger, LedgerError, RECORDS_PER_READ, Recovery,
};
pub use log::{FRAME_BYTES, Frame, Log, LogError, TornTail};
pub use note::{Checkpoint, NOTE_BYTES, NoteError, ORIGIN_BYTES, SignedCheckpoint, is_origin};
pub use verify::{Fault, Report, VerifyError, verify};
