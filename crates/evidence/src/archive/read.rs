//! Judging an archive from its bytes, in one pass and constant memory: nothing is unpacked to disk.

use std::fmt;
use std::io::{self, BufReader, Read};

use cordon_model::signed::{Document as _, Envelope, KeyId};
use ed25519_dalek::VerifyingKey;
use flate2::bufread::MultiGzDecoder;
use sha2::{Digest as _, Sha256};

use super::tar::{self, BLOCK};
use super::write::piece_name;
use super::{
    ArchiveError, CONTENT_BYTES, FORMAT, Hex, MANIFEST_BYTES, Manifest, PIECES, SEAL_BYTES,
    Statement,
};
use crate::faults::Faults;

/// One thing that is not as it was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArchiveFault {
    /// The file is cut short, or no archive of ours, from some byte of its unpacked form on.
    Structure {
        /// Where, unpacked.
        offset: u64,
        /// In what way.
        what: String,
    },
    /// The manifest can't be read, or contradicts itself.
    Manifest {
        /// In what way.
        what: String,
    },
    /// A piece is not what the manifest says.
    Altered {
        /// Its number.
        piece: u32,
        /// Where it is from, as the manifest says.
        source: String,
    },
    /// The manifest names a piece that is not there, or does not name one that is.
    Count {
        /// Pieces found.
        found: u32,
        /// Pieces named.
        named: u32,
    },
    /// The seal is not about this archive.
    Seal {
        /// In what way.
        what: String,
    },
}

impl fmt::Display for ArchiveFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Structure { offset, what } => {
                write!(f, "from byte {offset} (unpacked) on it is no archive: {what}")
            }
            Self::Manifest { what } => write!(f, "the manifest: {what}"),
            Self::Altered { piece, source } => {
                write!(f, "piece {piece} ({source}) is not the one that was gathered")
            }
            Self::Count { found, named } => {
                write!(f, "{found} pieces are there, and the manifest names {named}")
            }
            Self::Seal { what } => write!(f, "the seal: {what}"),
        }
    }
}

/// Whose word it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signature {
    /// It was signed with the given key.
    Genuine,
    /// It has a seal, and no key was given to check it by.
    NotChecked(KeyId),
    /// It was never sealed, or the seal is cut off.
    None,
    /// The seal is false.
    False,
}

/// What [`check`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveReport {
    /// The manifest, if it could be read.
    pub manifest: Option<Manifest>,
    /// What was signed, if anything.
    pub statement: Option<Statement>,
    /// Whose word it is.
    pub signature: Signature,
    /// Pieces read.
    pub pieces: u32,
    /// Their bytes.
    pub bytes: u64,
    /// What is wrong.
    pub faults: Faults<ArchiveFault>,
}

impl ArchiveReport {
    /// Whether nothing is wrong, and it is known whose word it is.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.is_whole() && self.signature == Signature::Genuine
    }

    /// Whether every piece is what the manifest says, whoever wrote it.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.faults.count() == 0 && self.manifest.is_some()
    }
}

impl fmt::Display for ArchiveReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(manifest) = &self.manifest {
            let cut = manifest.pieces.iter().filter(|piece| piece.cut.is_some()).count();
            writeln!(
                f,
                "evidence of machine {} ({}), measure {}",
                manifest.machine,
                super::printable(manifest.host.as_bytes()),
                manifest.measure
            )?;
            writeln!(
                f,
                "{} pieces of {} bytes, {cut} of them cut at a limit, {} missing",
                self.pieces,
                self.bytes,
                manifest.missing.len()
            )?;
        }
        write!(f, "{}", self.faults)?;
        match self.signature {
            Signature::Genuine => {}
            Signature::NotChecked(_) => {
                writeln!(
                    f,
                    "not checked whose word it is: give the machine's receipt key with --key"
                )?;
            }
            Signature::None => writeln!(f, "it is not sealed: nobody answers for it")?,
            Signature::False => writeln!(f, "its seal is not by the given key")?,
        }
        if self.is_sound() { f.write_str("sound") } else { f.write_str("NOT SOUND") }
    }
}

/// Reads a whole archive and computes everything anew; with `key`, the machine's receipt key, also whose
/// word it is.
///
/// # Errors
/// When the file can't be read. What is altered is no error but in the [`ArchiveReport`].
pub fn check(
    archive: impl Read,
    key: Option<&VerifyingKey>,
) -> Result<ArchiveReport, ArchiveError> {
    // The packed bytes' own hash in the statement is for whoever moves the file: two packings of one
    // content are equally true.
    check_unpacked(MultiGzDecoder::new(BufReader::new(archive)), key)
}

/// The same of an archive that is unpacked already, as `gunzip` gives it.
///
/// # Errors
/// As [`check`].
pub fn check_unpacked(
    archive: impl Read,
    key: Option<&VerifyingKey>,
) -> Result<ArchiveReport, ArchiveError> {
    let mut report = ArchiveReport {
        manifest: None,
        statement: None,
        signature: Signature::None,
        pieces: 0,
        bytes: 0,
        faults: Faults::none(),
    };
    let mut members = Members { from: archive, offset: 0 };
    if let Err(stop) = read_all(&mut members, key, &mut report) {
        match stop {
            Stop::Io(error) => return Err(error.into()),
            Stop::Bad(what) => {
                report.faults.add(ArchiveFault::Structure { offset: members.offset, what });
            }
        }
    }
    Ok(report)
}

/// Why reading ended early.
enum Stop {
    Io(io::Error),
    Bad(String),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // What the unpacker says of bytes that are not gzip's, or end too soon.
            io::ErrorKind::InvalidInput
            | io::ErrorKind::InvalidData
            | io::ErrorKind::UnexpectedEof => Self::Bad(error.to_string()),
            _ => Self::Io(error),
        }
    }
}

fn bad(what: impl Into<String>) -> Stop {
    Stop::Bad(what.into())
}

fn read_all<R: Read>(
    members: &mut Members<R>,
    key: Option<&VerifyingKey>,
    report: &mut ArchiveReport,
) -> Result<(), Stop> {
    let mut digests: Vec<(u64, [u8; 32])> = Vec::new();
    // Pieces, until the manifest.
    let size = loop {
        let Some((name, size)) = members.next()? else {
            return Err(bad("it ends without a manifest"));
        };
        if name == "manifest.json" {
            break size;
        }
        let number = u32::try_from(digests.len()).unwrap_or(u32::MAX).saturating_add(1);
        if number > PIECES || name != piece_name(number) {
            return Err(bad(format!(
                "{} where piece {number} should be",
                super::printable(name.as_bytes())
            )));
        }
        if report.bytes.saturating_add(size) > CONTENT_BYTES {
            return Err(bad(format!("more than {CONTENT_BYTES} bytes of pieces")));
        }
        digests.push((size, members.digest(size)?));
        report.pieces = number;
        report.bytes += size;
    };
    let text = members.whole(size, MANIFEST_BYTES)?;
    let manifest_sha256: [u8; 32] = Sha256::digest(&text).into();
    match serde_json::from_slice::<Manifest>(&text) {
        Ok(manifest) => {
            compare(&manifest, &digests, report);
            report.manifest = Some(manifest);
        }
        Err(error) => report.faults.add(ArchiveFault::Manifest { what: error.to_string() }),
    }
    // The seal, if it was sealed; then nothing but zeros.
    let Some((name, size)) = members.next_or_end()? else { return Ok(()) };
    if name != "seal.cbor" {
        return Err(bad(format!("{} where the seal should be", super::printable(name.as_bytes()))));
    }
    let text = members.whole(size, SEAL_BYTES)?;
    judge_seal(&text, manifest_sha256, key, report);
    members.end()
}

fn compare(manifest: &Manifest, digests: &[(u64, [u8; 32])], report: &mut ArchiveReport) {
    if manifest.format != FORMAT {
        let what = format!("format {}, and {FORMAT} is understood", manifest.format);
        report.faults.add(ArchiveFault::Manifest { what });
    }
    if manifest.pieces.len() != digests.len() {
        let named = u32::try_from(manifest.pieces.len()).unwrap_or(u32::MAX);
        report.faults.add(ArchiveFault::Count { found: report.pieces, named });
    }
    for (number, (named, (bytes, sha256))) in (1..).zip(manifest.pieces.iter().zip(digests)) {
        if named.bytes != *bytes || named.sha256 != Hex(sha256).to_string() {
            let source = super::printable(named.source.as_bytes());
            report.faults.add(ArchiveFault::Altered { piece: number, source });
        }
    }
}

fn judge_seal(
    text: &[u8],
    manifest_sha256: [u8; 32],
    key: Option<&VerifyingKey>,
    report: &mut ArchiveReport,
) {
    let envelope: Envelope = match ciborium::from_reader(text) {
        Ok(envelope) => envelope,
        Err(error) => {
            report.signature = Signature::False;
            return report.faults.add(ArchiveFault::Seal { what: error.to_string() });
        }
    };
    let Some(key) = key else {
        report.signature = Signature::NotChecked(envelope.key);
        return;
    };
    // What the signature does not cover (which key it says it is of, how it is spelt) has one form only.
    let mut spelt = Vec::new();
    let is_ours = ciborium::into_writer(&envelope, &mut spelt).is_ok() && spelt == text;
    if !is_ours || envelope.key != KeyId::of(key) {
        report.signature = Signature::False;
        return report.faults.add(ArchiveFault::Seal { what: "it is not by this key".into() });
    }
    let statement = match envelope.open::<Statement>(key) {
        Ok(statement) => statement.into_document(),
        Err(error) => {
            report.signature = Signature::False;
            return report.faults.add(ArchiveFault::Seal { what: error.to_string() });
        }
    };
    report.signature = Signature::Genuine;
    let is_about_it = statement.manifest_sha256 == manifest_sha256
        && report.manifest.as_ref().is_some_and(|manifest| {
            manifest.machine == statement.machine
                && manifest.organisation == statement.organisation
                && manifest.measure == statement.measure
        });
    if !is_about_it {
        let what = format!("a genuine {} about another archive", Statement::TYPE);
        report.faults.add(ArchiveFault::Seal { what });
    }
    report.statement = Some(statement);
}

/// The members of a tar, one after the other.
struct Members<R> {
    from: R,
    offset: u64,
}

impl<R: Read> Members<R> {
    /// The next member's name and size.
    fn next(&mut self) -> Result<Option<(String, u64)>, Stop> {
        match self.block()? {
            Some(block) => tar::read(&block).map_err(bad),
            None => Err(bad("it is cut short")),
        }
    }

    /// The same, where the file may end.
    fn next_or_end(&mut self) -> Result<Option<(String, u64)>, Stop> {
        match self.block()? {
            Some(block) => match tar::read(&block).map_err(bad)? {
                Some(member) => Ok(Some(member)),
                None => self.end().map(|()| None),
            },
            None => Ok(None),
        }
    }

    /// Nothing but zeros until the end.
    fn end(&mut self) -> Result<(), Stop> {
        while let Some(block) = self.block()? {
            if block.iter().any(|byte| *byte != 0) {
                return Err(bad("something stands behind the end"));
            }
        }
        Ok(())
    }

    /// A block, or `None` at the end.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, Stop> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.from.read(&mut block[filled..])? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(bad("it is cut short")),
                count => filled += count,
            }
        }
        self.offset += BLOCK as u64;
        Ok(Some(block))
    }

    /// Passes a member of `size` and its padding by, with `each` block of it.
    fn pass(&mut self, size: u64, mut each: impl FnMut(&[u8])) -> Result<(), Stop> {
        let mut left = size;
        while left > 0 {
            let block = self.block()?.ok_or_else(|| bad("it is cut short"))?;
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(BLOCK);
            each(&block[..count]);
            if block[count..].iter().any(|byte| *byte != 0) {
                return Err(bad("something stands in the padding"));
            }
            left -= count as u64;
        }
        Ok(())
    }

    fn digest(&mut self, size: u64) -> Result<[u8; 32], Stop> {
        let mut digest = Sha256::new();
        self.pass(size, |bytes| digest.update(bytes))?;
        Ok(digest.finalize().into())
    }

    /// A member of at most `most` bytes; room is made as they come, not as they are announced.
    fn whole(&mut self, size: u64, most: u64) -> Result<Vec<u8>, Stop> {
        if size > most {
            return Err(bad(format!("a member of {size} bytes, and {most} are the most")));
        }
        let mut bytes = Vec::new();
        self.pass(size, |block| bytes.extend_from_slice(block))?;
        Ok(bytes)
    }
}
