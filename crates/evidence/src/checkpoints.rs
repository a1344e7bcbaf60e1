//! The file of checkpoints: notes one after the other, an empty line behind each.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::ledger::LedgerError;
use crate::log::{LogError, sync_directory_of};
use crate::note::{NoteError, SignedCheckpoint};

/// All whole checkpoints, and how many bytes of a last one a crash cut short.
pub(crate) fn read_checkpoints(path: &Path) -> Result<(Vec<SignedCheckpoint>, u64), LedgerError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        Err(error) => return Err(LogError::io("read", path)(error).into()),
    };
    let mut notes = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        // A note is text, an empty line, signature lines; another empty line ends it.
        let rest = &bytes[at..];
        let Some(end) = nth_empty_line(rest, 2) else {
            return Ok((notes, rest.len() as u64));
        };
        let note = std::str::from_utf8(&rest[..end])
            .map_err(|_| NoteError::Malformed("a kept checkpoint is not text"))?;
        notes.push(SignedCheckpoint::parse(note)?);
        at += end + 1;
    }
    Ok((notes, 0))
}

/// How many bytes come before the newline that makes the `n`th empty line.
fn nth_empty_line(bytes: &[u8], n: usize) -> Option<usize> {
    bytes.windows(2).enumerate().filter(|(_, two)| *two == b"\n\n").nth(n - 1).map(|(at, _)| at + 1)
}

/// Opens the file to append to, without the bytes that a crash cut short.
pub(crate) fn open_checkpoints(path: &Path, torn_bytes: u64) -> Result<File, LedgerError> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map_err(LogError::io("open", path))?;
    let length = file.metadata().map_err(LogError::io("look at", path))?.len();
    file.set_len(length.saturating_sub(torn_bytes)).map_err(LogError::io("cut", path))?;
    file.sync_all().map_err(LogError::io("sync", path))?;
    sync_directory_of(path)?;
    Ok(file)
}
