//! Evidence from a machine in one file: what was gathered, how, what was cut, and whose word it is.
//!
//! An archive is a gzipped tar, so that everybody's tools open it on any machine, and so plain a one that
//! our own reader is a page long. In this order, and nothing else:
//!
//! | member | is |
//! |---|---|
//! | `pieces/000001`… | the pieces, numbered; a hostile name is in the manifest and never a path |
//! | `manifest.json` | a [`Manifest`]: each piece's source, size, SHA-256, time, and what was cut; what is missing, and why |
//! | `seal.cbor` | an envelope with a [`Statement`] about that very manifest, signed with the machine's receipt key |
//!
//! The one idea: the signature covers the manifest's hash, the manifest covers every byte of every
//! piece, and [`check`] computes all of it anew from the bytes. The seal is a gzip member of its own
//! behind the rest (gzip allows this, RFC 1952 section 2.2): whoever gathers and whoever holds the key
//! are two processes, and the second only appends.
//!
//! An archive comes from a machine that may be hostile: nothing of it is unpacked, believed or allocated
//! for because it says so.

mod read;
mod tar;
mod write;

use std::fmt;

use cordon_model::ids::{MachineId, MeasureId, OdsCode};
use cordon_model::signed::Document;
use cordon_model::time::{BootId, UtcNanos};
use serde::{Deserialize, Serialize};

pub use read::{ArchiveFault, ArchiveReport, Signature, check, check_unpacked};
pub use write::{ArchiveWriter, Finished, append_seal};

/// The form that this code writes and reads.
pub const FORMAT: u32 = 1;
/// Pieces in one archive: 4,096 files of what starts by itself, twice, and as many again of the rest.
pub const PIECES: u32 = 16_384;
/// The longest manifest: [`PIECES`] of 2 KiB (a path of 4 KiB is rare) are 32 MiB.
pub const MANIFEST_BYTES: u64 = 32 << 20;
/// The longest seal: a statement of 300 bytes in an envelope of as many.
pub const SEAL_BYTES: u64 = 4 << 10;
/// All pieces together, unpacked: the most that an order may ask for.
pub const CONTENT_BYTES: u64 = cordon_model::limits::COLLECTION_BYTES;

/// What is in an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// Which program wrote it.
    pub written_by: String,
    /// Whose machine.
    pub organisation: OdsCode,
    /// Which machine.
    pub machine: MachineId,
    /// By which measure.
    pub measure: MeasureId,
    /// What the machine calls itself.
    pub host: String,
    /// Its kernel.
    pub kernel: String,
    /// Which boot.
    pub boot: BootId,
    /// When it began, by the machine's clock.
    pub began: UtcNanos,
    /// When it ended.
    pub ended: UtcNanos,
    /// Who agreed that memory is read; empty: none was.
    pub agreed: Vec<String>,
    /// The limits that held, in words.
    pub limits: Vec<String>,
    /// What was gathered, in the order of the members.
    pub pieces: Vec<PieceRecord>,
    /// What was not, and why.
    pub missing: Vec<Missing>,
}

/// One piece.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PieceRecord {
    /// Of what kind: `processes`, `file`.
    pub kind: String,
    /// Where it is from, made [printable].
    pub source: String,
    /// How it was read.
    pub how: String,
    /// Its length here.
    pub bytes: u64,
    /// Its length there, where that was known.
    pub bytes_there: Option<u64>,
    /// SHA-256 of what is here, in hexadecimal.
    pub sha256: String,
    /// When reading began.
    pub began: UtcNanos,
    /// When it ended.
    pub ended: UtcNanos,
    /// What was cut, at which limit.
    pub cut: Option<String>,
}

/// Something that could not be gathered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Missing {
    /// Of what kind.
    pub kind: String,
    /// Where it should have been from, made [printable].
    pub source: String,
    /// Why it is not here.
    pub why: String,
}

/// What a machine says of one archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// Whose machine.
    pub organisation: OdsCode,
    /// Which machine.
    pub machine: MachineId,
    /// By which measure.
    pub measure: MeasureId,
    /// SHA-256 of the manifest, as it is in the archive.
    #[serde(with = "serde_bytes")]
    pub manifest_sha256: [u8; 32],
    /// How many pieces.
    pub pieces: u32,
    /// How many are missing.
    pub missing: u32,
    /// The archive's length without its seal.
    pub bytes: u64,
    /// SHA-256 of the archive without its seal.
    #[serde(with = "serde_bytes")]
    pub sha256: [u8; 32],
    /// When it was done, by the machine's clock.
    pub ended: UtcNanos,
}

impl Document for Statement {
    const TYPE: &'static str = "application/vnd.cordon.evidence.v1+cbor";
}

/// Why an archive can't be written or judged at all.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The disk.
    #[error("the archive can't be read or written: {0}")]
    Io(#[from] std::io::Error),
    /// The manifest can't be written.
    #[error("the manifest can't be written: {0}")]
    Manifest(String),
}

/// Bytes as text that hides nothing and can't be taken for anything else: control characters, backslashes
/// and bytes that are no UTF-8 are escaped.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                c if c.is_control() || is_invisible(c) => text.extend(c.escape_default()),
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// Marks that turn the direction of writing, join, or show nothing (Unicode's "format" characters that
/// are used to deceive).
fn is_invisible(character: char) -> bool {
    matches!(character, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// Lower-case hexadecimal.
pub(crate) struct Hex<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
