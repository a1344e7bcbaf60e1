//! Writing an archive: pieces one after the other, the manifest, later the seal.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek as _, SeekFrom, Write};

use cordon_model::signed::Envelope;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};

use super::tar::{self, BLOCK, END, MEMBER_BYTES};
use super::{ArchiveError, MANIFEST_BYTES, Manifest, PIECES};

/// Writes the pieces and the manifest.
#[derive(Debug)]
pub struct ArchiveWriter<W: Write> {
    to: GzEncoder<Counted<W>>,
    pieces: u32,
}

/// What was written, without its seal.
#[derive(Debug)]
pub struct Finished<W> {
    /// Where it was written to.
    pub to: W,
    /// SHA-256 of the manifest's bytes.
    pub manifest_sha256: [u8; 32],
    /// The length of everything, packed.
    pub bytes: u64,
    /// SHA-256 of everything, packed.
    pub sha256: [u8; 32],
}

impl<W: Write> ArchiveWriter<W> {
    /// Begins one at the beginning of `to`.
    pub fn new(to: W) -> Self {
        let to = Counted { to: BufWriter::new(to), digest: Sha256::new(), bytes: 0 };
        // The fastest level: evidence is mostly text, which that packs to a fifth already, and a machine
        // in trouble has other work.
        Self { to: GzEncoder::new(to, Compression::fast()), pieces: 0 }
    }

    /// Adds the next piece: exactly `bytes` from `from`. Gives its SHA-256 in hexadecimal.
    ///
    /// # Errors
    /// When there are too many, one is too large or shorter than said, or the disk fails.
    pub fn piece(&mut self, bytes: u64, from: &mut impl Read) -> io::Result<String> {
        if self.pieces >= PIECES || bytes > MEMBER_BYTES {
            let why = format!("{PIECES} pieces of {MEMBER_BYTES} bytes are the most");
            return Err(io::Error::other(why));
        }
        self.pieces += 1;
        let name = piece_name(self.pieces);
        let digest = self.member(&name, bytes, from)?;
        Ok(super::Hex(&digest).to_string())
    }

    /// Ends it with the manifest.
    ///
    /// # Errors
    /// When the manifest is too long or does not fit the pieces, or the disk fails.
    pub fn finish(mut self, manifest: &Manifest) -> Result<Finished<W>, ArchiveError> {
        let text = serde_json::to_vec_pretty(manifest)
            .map_err(|error| ArchiveError::Manifest(error.to_string()))?;
        if text.len() as u64 > MANIFEST_BYTES {
            return Err(ArchiveError::Manifest(format!("it has {} bytes", text.len())));
        }
        if manifest.pieces.len() != self.pieces as usize {
            let why = format!("{} pieces for {}", self.pieces, manifest.pieces.len());
            return Err(ArchiveError::Manifest(why));
        }
        let manifest_sha256 = self.member("manifest.json", text.len() as u64, &mut &text[..])?;
        let counted = self.to.finish()?;
        let to = counted.to.into_inner().map_err(io::IntoInnerError::into_error)?;
        let sha256 = counted.digest.finalize().into();
        Ok(Finished { to, manifest_sha256, bytes: counted.bytes, sha256 })
    }

    fn member(&mut self, name: &str, bytes: u64, from: &mut impl Read) -> io::Result<[u8; 32]> {
        self.to.write_all(&tar::header(name, bytes))?;
        let mut digest = Sha256::new();
        let mut left = bytes;
        let mut buffer = vec![0; 64 << 10];
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let count = from.read(&mut buffer[..most])?;
            if count == 0 {
                return Err(io::Error::other(format!("{name} is {left} bytes shorter than said")));
            }
            digest.update(&buffer[..count]);
            self.to.write_all(&buffer[..count])?;
            left -= count as u64;
        }
        self.to.write_all(&[0; BLOCK][..tar::padding(bytes)])?;
        Ok(digest.finalize().into())
    }
}

pub(super) fn piece_name(number: u32) -> String {
    format!("pieces/{number:06}")
}

/// Appends the seal to an archive of `bytes` (see [`Finished::bytes`]); what stood behind them, a seal
/// that was cut short or another, is replaced. On return it is on disk.
///
/// # Errors
/// When the disk fails; do it again.
pub fn append_seal(archive: &mut File, bytes: u64, seal: &Envelope) -> io::Result<()> {
    let mut text = Vec::new();
    ciborium::into_writer(seal, &mut text).map_err(io::Error::other)?;
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(&tar::header("seal.cbor", text.len() as u64))?;
    packed.write_all(&text)?;
    packed.write_all(&[0; BLOCK][..tar::padding(text.len() as u64)])?;
    packed.write_all(&END)?;
    let packed = packed.finish()?;
    archive.set_len(bytes)?;
    archive.seek(SeekFrom::Start(bytes))?;
    archive.write_all(&packed)?;
    archive.sync_all()
}

/// Counts and hashes what passes.
#[derive(Debug)]
struct Counted<W: Write> {
    to: BufWriter<W>,
    digest: Sha256,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        self.digest.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
