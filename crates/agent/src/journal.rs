//! The agent's own account of what it did: every receipt as it was signed, and notes in words.
//!
//! The one idea: a machine that is cut off from everything still has its story, in order, on its own
//! disk. The receipts go up to the hub as reports too; this is what an inspector finds on the machine.
//! Appended only, torn ends skipped, two files of at most `MOST_BYTES` each.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use cordon_link::frame;
use cordon_model::limits;
use cordon_model::measure::Receipt;
use cordon_model::signed::Envelope;
use cordon_model::time::UtcNanos;
use serde::{Deserialize, Serialize};

/// When the file is this long it becomes the old one: 16 MiB hold some 20,000 receipts of 800 bytes.
const MOST_BYTES: u64 = 16 << 20;

/// A line as it is kept.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Line {
    Receipt(Envelope),
    Note { at: UtcNanos, text: String },
}

/// A line as it is read. The reader has not checked the receipt's signature; `Envelope::open` with the
/// machine's receipt key does.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// A measure changed its state.
    Receipt(Box<Receipt>),
    /// Something else that people will want to know.
    Note {
        /// When.
        at: UtcNanos,
        /// In words.
        text: String,
    },
}

/// The journal, open for appending.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Opens the journal in `directory`. A torn end (the machine died while writing) is cut off: what
    /// comes after it could not be read.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let path = path_in(directory);
        let file = append_to(&path)?;
        let bytes = std::fs::read(&path)?;
        let (_, whole) = lines_of(&bytes);
        if whole < bytes.len() {
            file.set_len(whole as u64)?;
        }
        Ok(Self { path, file })
    }

    /// Writes a sealed receipt down.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn receipt(&mut self, envelope: &Envelope) -> io::Result<()> {
        self.append(&Line::Receipt(envelope.clone()))
    }

    /// Writes a note down.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn note(&mut self, at: UtcNanos, text: impl Into<String>) -> io::Result<()> {
        self.append(&Line::Note { at, text: text.into() })
    }

    fn append(&mut self, line: &Line) -> io::Result<()> {
        let mut length = self.file.metadata()?.len();
        if length > MOST_BYTES {
            std::fs::rename(&self.path, self.path.with_extension("old.cbor"))?;
            self.file = append_to(&self.path)?;
            length = 0;
        }
        let bytes = frame::encode(line, limits::MESSAGE_BYTES).map_err(io::Error::other)?;
        self.file.write_all(&bytes).inspect_err(|_| {
            // Half a line would hide all that come after it.
            let _ = self.file.set_len(length);
        })
    }
}

/// All whole lines of the journal in `directory`, oldest first; none if there is no journal yet.
///
/// # Errors
/// If a file is there and can't be read.
pub fn read(directory: &Path) -> io::Result<Vec<Entry>> {
    let path = path_in(directory);
    let mut entries = Vec::new();
    for path in [path.with_extension("old.cbor"), path] {
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for line in lines_of(&bytes).0 {
            match line {
                Line::Note { at, text } => entries.push(Entry::Note { at, text }),
                Line::Receipt(envelope) => {
                    if let Ok(receipt) = ciborium::from_reader(envelope.payload.as_slice()) {
                        entries.push(Entry::Receipt(Box::new(receipt)));
                    }
                }
            }
        }
    }
    Ok(entries)
}

/// The whole lines of `bytes`, and how many bytes they fill. Stops at the first that is not whole.
fn lines_of(bytes: &[u8]) -> (Vec<Line>, usize) {
    let mut lines = Vec::new();
    let mut whole = 0;
    let mut rest = bytes;
    while let Ok(Some(line)) = frame::blocking::read::<Line>(&mut rest, limits::MESSAGE_BYTES) {
        lines.push(line);
        whole = bytes.len() - rest.len();
    }
    (lines, whole)
}

fn path_in(directory: &Path) -> PathBuf {
    directory.join("journal.cbor")
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_is_read_in_order_and_a_torn_end_is_skipped() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(read(directory.path()).unwrap(), []);
        let mut journal = Journal::open(directory.path()).unwrap();
        let at = UtcNanos::from_unix_nanos(1);
        journal.note(at, "one").unwrap();
        journal.note(at, "two").unwrap();
        append_to(&path_in(directory.path())).unwrap().write_all(&[0, 0, 0, 9, 1]).unwrap();
        let texts: Vec<_> = read(directory.path()).unwrap();
        assert_eq!(texts.len(), 2);
        assert_eq!(texts[1], Entry::Note { at, text: "two".into() });
    }

    #[test]
    fn what_is_written_after_a_torn_end_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let at = UtcNanos::from_unix_nanos(1);
        Journal::open(directory.path()).unwrap().note(at, "before").unwrap();
        append_to(&path_in(directory.path())).unwrap().write_all(&[0, 0, 0, 9, 1]).unwrap();
        Journal::open(directory.path()).unwrap().note(at, "after").unwrap();
        let texts = read(directory.path()).unwrap();
        assert_eq!(texts.len(), 2);
        assert_eq!(texts[1], Entry::Note { at, text: "after".into() });
    }
}
