//! Encrypted and sealed piece by piece, so that content of any length is written and read in a small
//! memory, and any changed, missing, moved or added byte is found.
//!
//! ```text
//! header (64 bytes)  "CORDVLT1" · key id (16) · nonce prefix (19) · zeros (21)
//! chunk, chunk, …    each 64 KiB of content + 16 bytes of seal; the last is shorter, perhaps empty
//! ```
//!
//! Chunks are XChaCha20-Poly1305 in the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár, 2015):
//! the nonce is the prefix, the chunk's number and whether it is the last; the header is sealed along
//! with each. The prefix is random, 152 bits: no two files ever share one, and nobody has to count.

use std::fmt;
use std::io::{self, Read, Write};

use chacha20poly1305::aead::{AeadInOut as _, KeyInit as _};
use chacha20poly1305::{Key, Tag, XChaCha20Poly1305, XNonce};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// The header.
pub const HEADER_BYTES: usize = 64;
/// The first bytes of every file of the vault. The digit is the version of its form.
const MAGIC: &[u8; 8] = b"CORDVLT1";
/// The random part of every nonce of one file.
pub const PREFIX_BYTES: usize = 19;
const KEY_ID_BYTES: usize = 16;
/// Content of one chunk: large beside its seal (0.02 %), small in memory.
pub const CHUNK_BYTES: usize = 64 << 10;
/// What seals a chunk.
pub const SEAL_BYTES: usize = 16;

/// Why a file of the vault can't be read.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// It does not begin as one.
    #[error("it is no file of the vault, or of a version that is not known here")]
    NotOne,
    /// It was sealed with another key.
    #[error("it was sealed with another key than the vault's")]
    OtherKey,
    /// The seal of a chunk is wrong.
    #[error("it is damaged, or was changed: the seal of chunk {0} does not fit")]
    Broken(u32),
    /// What is sealed makes no sense.
    #[error("what is sealed in it is not understood: {0}")]
    Unreadable(&'static str),
    /// The disk failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Whoever it was read for failed.
    #[error("writing what was read of it: {0}")]
    NotTaken(io::Error),
}

/// The key of one machine's vault.
pub struct VaultKey(Zeroizing<[u8; 32]>);

impl VaultKey {
    /// From its bytes.
    #[must_use]
    pub fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// By what a file says which key sealed it; the key can't be found from it.
    fn id(&self) -> [u8; KEY_ID_BYTES] {
        let mut hash = Sha256::new();
        hash.update(b"cordon vault key id\0");
        hash.update(self.0.as_slice());
        let mut id = [0; KEY_ID_BYTES];
        id.copy_from_slice(&hash.finalize()[..KEY_ID_BYTES]);
        id
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&Key::from(*self.0))
    }
}

impl fmt::Debug for VaultKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VaultKey")
    }
}

/// The first 64 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    key_id: [u8; KEY_ID_BYTES],
    prefix: [u8; PREFIX_BYTES],
}

impl Header {
    /// Reads a header.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Self, VaultError> {
        let (magic, rest) = bytes.split_at(MAGIC.len());
        let (key, rest) = rest.split_at(KEY_ID_BYTES);
        let (nonce, zeros) = rest.split_at(PREFIX_BYTES);
        if magic != MAGIC || zeros.iter().any(|byte| *byte != 0) {
            return Err(VaultError::NotOne);
        }
        let (mut key_id, mut prefix) = ([0; KEY_ID_BYTES], [0; PREFIX_BYTES]);
        key_id.copy_from_slice(key);
        prefix.copy_from_slice(nonce);
        Ok(Self { key_id, prefix })
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let parts = MAGIC.iter().chain(&self.key_id).chain(&self.prefix);
        bytes.iter_mut().zip(parts).for_each(|(to, from)| *to = *from);
        bytes
    }

    fn nonce(&self, number: u32, is_last: bool) -> XNonce {
        let mut nonce = [0; PREFIX_BYTES + 5];
        nonce[..PREFIX_BYTES].copy_from_slice(&self.prefix);
        nonce[PREFIX_BYTES..PREFIX_BYTES + 4].copy_from_slice(&number.to_be_bytes());
        nonce[PREFIX_BYTES + 4] = u8::from(is_last);
        XNonce::from(nonce)
    }
}

/// Writes content as sealed chunks.
pub struct Sealing<W> {
    to: W,
    cipher: XChaCha20Poly1305,
    header: Header,
    number: u32,
    chunk: Zeroizing<Vec<u8>>,
}

impl<W: Write> Sealing<W> {
    /// Begins, with a prefix that was never used before.
    ///
    /// # Errors
    /// What the disk says.
    pub fn begin(mut to: W, key: &VaultKey, prefix: [u8; PREFIX_BYTES]) -> io::Result<Self> {
        let header = Header { key_id: key.id(), prefix };
        to.write_all(&header.bytes())?;
        let chunk = Zeroizing::new(Vec::with_capacity(CHUNK_BYTES));
        Ok(Self { to, cipher: key.cipher(), header, number: 0, chunk })
    }

    /// Adds content.
    ///
    /// # Errors
    /// What the disk says.
    pub fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            // Sealed only when more comes: which chunk is the last is known at the end.
            if self.chunk.len() == CHUNK_BYTES {
                self.seal(false)?;
            }
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK_BYTES - self.chunk.len()));
            self.chunk.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    /// Ends it.
    ///
    /// # Errors
    /// What the disk says.
    pub fn end(mut self) -> io::Result<W> {
        self.seal(true)?;
        Ok(self.to)
    }

    fn seal(&mut self, is_last: bool) -> io::Result<()> {
        let nonce = self.header.nonce(self.number, is_last);
        let header = self.header.bytes();
        let seal = self
            .cipher
            .encrypt_inout_detached(&nonce, &header, self.chunk.as_mut_slice().into())
            .map_err(|_| io::Error::other("a chunk can't be sealed"))?;
        self.to.write_all(&self.chunk)?;
        self.to.write_all(&seal)?;
        self.chunk.clear();
        // 2³² chunks of 64 KiB are 256 TiB.
        self.number = self.number.checked_add(1).ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(())
    }
}

/// Opens sealed chunks one after the other.
pub struct Opening<R> {
    from: R,
    cipher: XChaCha20Poly1305,
    header: Header,
    number: u32,
    opened: Zeroizing<Vec<u8>>,
    at: usize,
    /// Read ahead: whether something follows decides how the chunk before it is opened.
    ahead: Vec<u8>,
    is_over: bool,
}

impl<R: Read> Opening<R> {
    /// Begins to open what `key` sealed.
    ///
    /// # Errors
    /// See [`VaultError`].
    pub fn begin(mut from: R, key: &VaultKey) -> Result<Self, VaultError> {
        let mut bytes = [0; HEADER_BYTES];
        match from.read_exact(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(VaultError::NotOne);
            }
            done => done?,
        }
        let header = Header::parse(&bytes)?;
        if header.key_id != key.id() {
            return Err(VaultError::OtherKey);
        }
        let mut opening = Self {
            from,
            cipher: key.cipher(),
            header,
            number: 0,
            opened: Zeroizing::new(Vec::new()),
            at: 0,
            ahead: Vec::new(),
            is_over: false,
        };
        opening.ahead = opening.read_one()?;
        Ok(opening)
    }

    /// Fills `to` with the next content.
    ///
    /// # Errors
    /// See [`VaultError`]; also if there is not so much.
    pub fn read(&mut self, mut to: &mut [u8]) -> Result<(), VaultError> {
        while !to.is_empty() {
            if self.at == self.opened.len() {
                self.open_next()?;
                continue;
            }
            let ready = &self.opened[self.at..];
            let count = ready.len().min(to.len());
            let (now, later) = to.split_at_mut(count);
            now.copy_from_slice(&ready[..count]);
            self.at += count;
            to = later;
        }
        Ok(())
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// As [`Opening::read`].
    pub fn bytes<const N: usize>(&mut self) -> Result<[u8; N], VaultError> {
        let mut bytes = [0; N];
        self.read(&mut bytes)?;
        Ok(bytes)
    }

    /// Whether the last chunk was opened and all of it read.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.is_over && self.at == self.opened.len()
    }

    fn read_one(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(CHUNK_BYTES + SEAL_BYTES);
        let limit = (CHUNK_BYTES + SEAL_BYTES) as u64;
        self.from.by_ref().take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn open_next(&mut self) -> Result<(), VaultError> {
        if self.is_over {
            return Err(VaultError::Unreadable("it ends too early"));
        }
        let following = self.read_one()?;
        self.is_over = following.is_empty();
        let mut bytes = Zeroizing::new(std::mem::replace(&mut self.ahead, following));
        let broken = VaultError::Broken(self.number);
        let Some(length) = bytes.len().checked_sub(SEAL_BYTES) else { return Err(broken) };
        let (content, seal) = bytes.split_at_mut(length);
        let Ok(seal) = Tag::try_from(&*seal) else { return Err(broken) };
        let nonce = self.header.nonce(self.number, self.is_over);
        let header = self.header.bytes();
        if self.cipher.decrypt_inout_detached(&nonce, &header, content.into(), &seal).is_err() {
            return Err(broken);
        }
        bytes.truncate(length);
        self.opened = bytes;
        self.at = 0;
        self.number = self.number.saturating_add(1);
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub fn key(number: u8) -> VaultKey {
        VaultKey::new(Zeroizing::new([number; 32]))
    }

    pub fn sealed(content: &[u8]) -> Vec<u8> {
        let mut sealing = Sealing::begin(Vec::new(), &key(1), [7; PREFIX_BYTES]).unwrap();
        sealing.write(content).unwrap();
        sealing.end().unwrap()
    }

    fn opened(bytes: &[u8], length: usize) -> Result<Vec<u8>, VaultError> {
        let mut opening = Opening::begin(bytes, &key(1))?;
        let mut content = vec![0; length];
        opening.read(&mut content)?;
        // An empty last chunk is sealed too.
        if !opening.is_at_end() {
            opening.open_next()?;
        }
        assert!(opening.is_at_end());
        Ok(content)
    }

    #[test]
    fn content_of_any_length_around_a_chunk_comes_back() {
        for length in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES] {
            let content: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let bytes = sealed(&content);
            let chunks = length.div_ceil(CHUNK_BYTES).max(1);
            assert_eq!(bytes.len(), HEADER_BYTES + length + chunks * SEAL_BYTES);
            assert_eq!(opened(&bytes, length).unwrap(), content);
            if length > 64 {
                assert!(!bytes.windows(64).any(|part| part == &content[..64]), "it is encrypted");
            }
        }
    }

    #[test]
    fn a_chunk_that_is_left_out_moved_or_added_is_found() {
        let content = vec![9; 3 * CHUNK_BYTES];
        let bytes = sealed(&content);
        let one = CHUNK_BYTES + SEAL_BYTES;
        let (header, chunks) = bytes.split_at(HEADER_BYTES);
        let chunk = |number: usize| &chunks[number * one..(number + 1) * one];
        for (order, broken) in [
            (vec![0, 1], 1),
            (vec![1, 0, 2], 0),
            (vec![0, 2], 1),
            (vec![0, 1, 2, 2], 2),
            (vec![0, 0, 1, 2], 1),
        ] {
            let mut other = header.to_vec();
            order.iter().for_each(|number| other.extend_from_slice(chunk(*number)));
            let error = opened(&other, order.len() * CHUNK_BYTES).unwrap_err();
            assert!(matches!(error, VaultError::Broken(at) if at == broken), "{order:?}: {error}");
        }
    }

    #[test]
    fn another_key_or_another_form_is_said() {
        let bytes = sealed(b"content");
        assert!(matches!(Opening::begin(&bytes[..], &key(2)), Err(VaultError::OtherKey)));
        assert!(matches!(Opening::begin(&bytes[..63], &key(1)), Err(VaultError::NotOne)));
        let mut newer = bytes;
        newer[7] = b'2';
        assert!(matches!(Opening::begin(&newer[..], &key(1)), Err(VaultError::NotOne)));
    }

    proptest! {
        #[test]
        fn any_changed_byte_is_found(
            length in 0..2 * CHUNK_BYTES, at in any::<prop::sample::Index>(), flip in 1_u8..,
        ) {
            let mut bytes = sealed(&vec![3; length]);
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            prop_assert!(opened(&bytes, length).is_err());
        }

        #[test]
        fn any_cut_is_found(length in 0..2 * CHUNK_BYTES, at in any::<prop::sample::Index>()) {
            let bytes = sealed(&vec![3; length]);
            prop_assert!(opened(&bytes[..at.index(bytes.len())], length).is_err());
        }

        #[test]
        fn any_header_is_read_as_it_was_written_or_refused(bytes in prop::collection::vec(any::<u8>(), 64)) {
            let mut bytes: [u8; HEADER_BYTES] = bytes.try_into().unwrap();
            prop_assert!(Header::parse(&bytes).is_err());
            bytes[..8].copy_from_slice(MAGIC);
            bytes[64 - 21..].fill(0);
            prop_assert_eq!(Header::parse(&bytes).unwrap().bytes(), bytes);
        }
    }
}
