//! The memory on disk: one file that is whole or not there, with its own digest at its end.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::limits::MEMORY_BYTES;
use super::memory::Memory;
use crate::contain::disk::decode;

const DIGEST: usize = 32;

/// What was found of an earlier memory.
#[derive(Debug, PartialEq, Eq)]
pub enum Kept {
    /// All of it.
    Whole(Box<Memory>),
    /// Something that is no whole memory.
    Damaged,
    /// Nothing: nobody has looked yet.
    Nothing,
}

/// Where it is, in the survey's folder.
#[must_use]
pub fn place(folder: &Path) -> PathBuf {
    folder.join("memory")
}

/// Reads it.
///
/// # Errors
/// When the disk fails. What can't be understood is [`Kept::Damaged`], not an error: who mistook one for the
/// other would forget for a disk's bad moment.
pub fn read(folder: &Path) -> io::Result<Kept> {
    let file = match File::open(place(folder)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Kept::Nothing),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(MEMORY_BYTES).read_to_end(&mut bytes)?;
    let memory = bytes.split_last_chunk::<DIGEST>().and_then(|(body, digest)| {
        let is_whole = Sha256::digest(body)[..] == digest[..];
        is_whole.then(|| decode(body)).flatten()
    });
    Ok(memory.map_or(Kept::Damaged, Kept::Whole))
}

/// Writes it: on disk when this returns.
///
/// # Errors
/// When it is not; the memory before then stands.
pub fn write(folder: &Path, memory: &Memory) -> io::Result<()> {
    let mut bytes = Vec::new();
    ciborium::into_writer(memory, &mut bytes).map_err(io::Error::other)?;
    bytes.extend_from_slice(&Sha256::digest(&bytes));
    if bytes.len() as u64 > MEMORY_BYTES {
        return Err(io::Error::other("the memory is larger than it may be"));
    }
    Ok(cordon_durable::write_whole(&place(folder), &bytes)?)
}
