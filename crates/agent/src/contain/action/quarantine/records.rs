//! What a file of the vault says, once its chunks are opened: what the file was ([`Metadata`]), then its
//! pieces with their offsets (a hole has none), at the end its size and SHA-256.

use std::io::{self, Read, Write};

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::chunks::{Opening, PREFIX_BYTES, Sealing, VaultError, VaultKey};
use super::metadata::Metadata;
use crate::contain::disk;

/// The longest [`Metadata`]: attributes of 1 MiB in all ([`super::metadata::ATTRIBUTE_BYTES`]), as
/// CBOR, with paths.
const METADATA_BYTES: usize = 2 << 20;
/// The longest piece: read and held at once.
pub const PIECE_BYTES: usize = 1 << 20;
/// The largest file, holes included: its SHA-256, for which a hole is as long as data, takes some ten
/// seconds on one slow core at 400 MB/s.
pub const APPARENT_BYTES: u64 = 4 << 30;

const END: u8 = 0;
const PIECE: u8 = 1;

/// What a whole file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// Its size, holes included.
    pub size: u64,
    /// Its SHA-256, holes read as zeros.
    pub sha256: [u8; 32],
}

/// Hashes a file of which only the pieces that are no holes are told.
#[derive(Clone, Default)]
struct Whole {
    hash: Sha256,
    size: u64,
}

impl Whole {
    fn zeros_until(&mut self, offset: u64) {
        // On the stack, and so in memory, whether there is a hole or not.
        let zeros = [0; 4 << 10];
        while self.size < offset {
            let count = usize::try_from(offset - self.size).unwrap_or(zeros.len()).min(zeros.len());
            self.hash.update(&zeros[..count]);
            self.size += count as u64;
        }
    }

    fn piece(&mut self, offset: u64, bytes: &[u8]) {
        self.zeros_until(offset);
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
    }

    fn end(mut self, size: u64) -> Ending {
        self.zeros_until(size);
        Ending { size: self.size, sha256: self.hash.finalize().into() }
    }
}

/// Writes the records of one file.
pub struct Recording<W> {
    to: Sealing<W>,
    whole: Whole,
}

impl<W: Write> Recording<W> {
    /// Begins, with randomness that was never used before.
    ///
    /// # Errors
    /// What the disk says, or if the metadata is too long.
    pub fn begin(
        to: W,
        key: &VaultKey,
        prefix: [u8; PREFIX_BYTES],
        metadata: &Metadata,
    ) -> io::Result<Self> {
        let mut bytes = Vec::new();
        ciborium::into_writer(metadata, &mut bytes).map_err(io::Error::other)?;
        if bytes.len() > METADATA_BYTES {
            return Err(io::Error::other("its attributes are too long for the vault"));
        }
        let mut to = Sealing::begin(to, key, prefix)?;
        to.write(&u32::try_from(bytes.len()).map_err(io::Error::other)?.to_be_bytes())?;
        to.write(&bytes)?;
        Ok(Self { to, whole: Whole::default() })
    }

    /// Adds a piece of at most [`PIECE_BYTES`]; each is behind the one before it.
    ///
    /// # Errors
    /// What the disk says, or if the piece is empty, too long or lies nowhere.
    pub fn piece(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        check_piece(&self.whole, offset, bytes.len()).map_err(io::Error::other)?;
        self.to.write(&[PIECE])?;
        self.to.write(&offset.to_be_bytes())?;
        self.to.write(&u32::try_from(bytes.len()).map_err(io::Error::other)?.to_be_bytes())?;
        self.to.write(bytes)?;
        self.whole.piece(offset, bytes);
        Ok(())
    }

    /// Ends a file of `size` bytes, holes included.
    ///
    /// # Errors
    /// What the disk says.
    pub fn end(mut self, size: u64) -> io::Result<(W, Ending)> {
        let ending = self.whole.end(size);
        self.to.write(&[END])?;
        self.to.write(&ending.size.to_be_bytes())?;
        self.to.write(&ending.sha256)?;
        Ok((self.to.end()?, ending))
    }
}

fn check_piece(whole: &Whole, offset: u64, length: usize) -> Result<(), VaultError> {
    let end = offset.checked_add(length as u64);
    let is_somewhere = offset >= whole.size && end.is_some_and(|end| end <= APPARENT_BYTES);
    if length == 0 || length > PIECE_BYTES || !is_somewhere {
        return Err(VaultError::Unreadable("a piece that lies nowhere"));
    }
    Ok(())
}

/// Reads the records of one file.
pub struct Recorded<R> {
    from: Opening<R>,
    whole: Whole,
}

impl<R: Read> Recorded<R> {
    /// Opens `from`, which `key` sealed, and reads what the file was.
    ///
    /// # Errors
    /// See [`VaultError`].
    pub fn begin(from: R, key: &VaultKey) -> Result<(Metadata, Self), VaultError> {
        let mut from = Opening::begin(from, key)?;
        let length = u32::from_be_bytes(from.bytes()?) as usize;
        if length > METADATA_BYTES {
            return Err(VaultError::Unreadable("its metadata is too long"));
        }
        let mut bytes = vec![0; length];
        from.read(&mut bytes)?;
        let metadata =
            disk::decode(&bytes).ok_or(VaultError::Unreadable("its metadata is not known here"))?;
        Ok((metadata, Self { from, whole: Whole::default() }))
    }

    /// Gives each piece to `take`, in order, and says what the whole file was. What was taken is to be
    /// believed only when this returns.
    ///
    /// # Errors
    /// See [`VaultError`], or what `take` says.
    pub fn each(
        mut self,
        mut take: impl FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> Result<Ending, VaultError> {
        let mut piece = Zeroizing::new(Vec::new());
        loop {
            match self.from.bytes::<1>()? {
                [END] => break,
                [PIECE] => {}
                _ => return Err(VaultError::Unreadable("a record of a kind not known here")),
            }
            let offset = u64::from_be_bytes(self.from.bytes()?);
            let length = u32::from_be_bytes(self.from.bytes()?) as usize;
            check_piece(&self.whole, offset, length)?;
            piece.resize(length, 0);
            self.from.read(&mut piece)?;
            self.whole.piece(offset, &piece);
            take(offset, &piece).map_err(VaultError::NotTaken)?;
        }
        let ending =
            Ending { size: u64::from_be_bytes(self.from.bytes()?), sha256: self.from.bytes()? };
        if !self.from.is_at_end() {
            return Err(VaultError::Unreadable("something comes after its end"));
        }
        if ending.size < self.whole.size || ending.size > APPARENT_BYTES {
            return Err(VaultError::Unreadable("a size that does not fit its pieces"));
        }
        if self.whole.end(ending.size) != ending {
            return Err(VaultError::Unreadable("its pieces do not make the file that was sealed"));
        }
        Ok(ending)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::chunks::tests::{key, sealed};
    use super::super::metadata::tests::any_metadata;
    use super::*;

    type Pieces = Vec<(u64, Vec<u8>)>;

    fn recorded(metadata: &Metadata, pieces: &[(u64, Vec<u8>)], size: u64) -> (Vec<u8>, Ending) {
        let mut recording =
            Recording::begin(Vec::new(), &key(1), [5; PREFIX_BYTES], metadata).unwrap();
        for (offset, bytes) in pieces {
            recording.piece(*offset, bytes).unwrap();
        }
        recording.end(size).unwrap()
    }

    fn read(bytes: &[u8]) -> Result<(Metadata, Pieces, Ending), VaultError> {
        let (metadata, recorded) = Recorded::begin(bytes, &key(1))?;
        let mut pieces = Vec::new();
        let ending = recorded.each(|offset, piece| {
            pieces.push((offset, piece.to_vec()));
            Ok(())
        })?;
        Ok((metadata, pieces, ending))
    }

    /// Pieces with holes between them, and the size of the whole.
    fn any_pieces() -> impl Strategy<Value = (Pieces, u64)> {
        let one = (0_u64..5_000, prop::collection::vec(any::<u8>(), 1..3_000));
        (prop::collection::vec(one, 0..8), 0_u64..5_000).prop_map(|(parts, tail)| {
            let mut at = 0;
            let mut pieces = Vec::new();
            for (hole, bytes) in parts {
                at += hole;
                let length = bytes.len() as u64;
                pieces.push((at, bytes));
                at += length;
            }
            (pieces, at + tail)
        })
    }

    proptest! {
        #[test]
        fn a_file_comes_back_with_its_holes_and_its_hash(
            metadata in any_metadata(), (pieces, size) in any_pieces(),
        ) {
            let (bytes, ending) = recorded(&metadata, &pieces, size);
            let mut whole = vec![0; usize::try_from(size).unwrap()];
            for (offset, piece) in &pieces {
                let at = usize::try_from(*offset).unwrap();
                whole[at..at + piece.len()].copy_from_slice(piece);
            }
            prop_assert_eq!(ending, Ending { size, sha256: Sha256::digest(&whole).into() });
            prop_assert_eq!(read(&bytes).unwrap(), (metadata, pieces, ending));
        }

        #[test]
        fn any_sealed_content_is_read_or_refused(content in prop::collection::vec(any::<u8>(), 0..400)) {
            // Beyond what an attacker can do: the seal is right, and the sense is not.
            let _ = read(&sealed(&content));
        }

        #[test]
        fn any_records_behind_whole_metadata_are_read_or_refused(
            metadata in any_metadata(),
            records in prop::collection::vec(
                (0_u8..3, 0_u64..3_000_000, 0_u32..2_000, 0_usize..2_000), 0..6),
        ) {
            let mut bytes = Vec::new();
            ciborium::into_writer(&metadata, &mut bytes).unwrap();
            let mut content = u32::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
            content.extend(bytes);
            for (kind, offset, length, given) in records {
                content.push(kind);
                content.extend(offset.to_be_bytes());
                content.extend(length.to_be_bytes());
                content.extend(vec![1; given]);
            }
            let _ = read(&sealed(&content));
        }
    }

    #[test]
    fn a_piece_that_lies_nowhere_is_neither_written_nor_read() {
        let metadata = super::super::metadata::tests::plain();
        let mut recording =
            Recording::begin(Vec::new(), &key(1), [5; PREFIX_BYTES], &metadata).unwrap();
        recording.piece(10, b"x").unwrap();
        assert!(recording.piece(10, b"y").is_err(), "over the one before it");
        assert!(recording.piece(11, b"").is_err());
        assert!(recording.piece(APPARENT_BYTES, b"x").is_err());
        assert!(recording.piece(u64::MAX, b"x").is_err());
    }
}
