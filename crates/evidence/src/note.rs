//! Checkpoints: what a ledger says of itself at one moment, and its signature.
//!
//! The text is that of C2SP tlog-checkpoint (origin, size, root), signed as a C2SP signed note with
//! Ed25519, so that any transparency-log tool can check it:
//!
//! ```text
//! cordon/RJ1/hub
//! 4711
//! CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
//!
//! — cordon/RJ1/hub Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5…
//! ```

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

use crate::merkle::Hash;

/// The longest note that is read: origin (at most [`ORIGIN_BYTES`]), a size of 20 digits, a root of 44
/// characters and up to 8 signature lines of about 400 bytes come to less than 4 KiB.
pub const NOTE_BYTES: usize = 4 << 10;

/// The longest origin. `cordon/` + an ODS code of 12 + a ledger's name.
pub const ORIGIN_BYTES: usize = 128;

/// Signature type of Ed25519 in a note's key id (C2SP signed-note).
const ED25519: u8 = 1;

/// What a ledger says of itself at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which ledger: `cordon/RJ1/hub`. It is also the name of the key that signs it.
    pub origin: String,
    /// How many records it has.
    pub size: u64,
    /// The root of its tree.
    pub root: Hash,
}

/// Why a note is not the signed checkpoint that it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not of the form.
    #[error("not a signed checkpoint: {0}")]
    Malformed(&'static str),
    /// No signature line is by the key that was asked for.
    #[error("the checkpoint is not signed by the key of {name:?} that is known here")]
    NoSuchKey {
        /// The key's name.
        name: String,
    },
    /// There is one, and it does not fit the text.
    #[error("the checkpoint's signature by {name:?} is false: the text was altered")]
    FalseSignature {
        /// The key's name.
        name: String,
    },
}

impl fmt::Display for Checkpoint {
    /// The text that is signed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.size, BASE64.encode(self.root.0))
    }
}

/// Whether `name` may be a ledger's origin and a key's name: not empty, not too long, no white space,
/// no control characters and no plus sign.
#[must_use]
pub fn is_origin(name: &str) -> bool {
    (1..=ORIGIN_BYTES).contains(&name.len())
        && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+')
}

/// The four bytes that say which key made a signature line.
fn key_id(name: &str, key: &VerifyingKey) -> [u8; 4] {
    let mut hash = Sha256::new();
    hash.update(name.as_bytes());
    hash.update([b'\n', ED25519]);
    hash.update(key.as_bytes());
    let digest = hash.finalize();
    [digest[0], digest[1], digest[2], digest[3]]
}

impl Checkpoint {
    /// The signed note.
    #[must_use]
    pub fn sign(&self, key: &SigningKey) -> SignedCheckpoint {
        let text = self.to_string();
        let signature = key.sign(text.as_bytes()).to_bytes();
        let mut line = key_id(&self.origin, &key.verifying_key()).to_vec();
        line.extend_from_slice(&signature);
        let note = format!("{text}\n— {} {}\n", self.origin, BASE64.encode(line));
        SignedCheckpoint { checkpoint: self.clone(), note }
    }

    fn parse(text: &str) -> Result<Self, NoteError> {
        let mut lines = text.split('\n');
        let (Some(origin), Some(size), Some(root), Some("")) =
            (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(NoteError::Malformed("expected the lines origin, size and root"));
        };
        if lines.next().is_some() {
            return Err(NoteError::Malformed(
                "it has extension lines, which this version does not know",
            ));
        }
        if !is_origin(origin) {
            return Err(NoteError::Malformed(
                "the origin has characters that a key's name can't have",
            ));
        }
        let is_canonical = size == "0" || !size.starts_with(['0', '+']);
        let size = size.parse().ok().filter(|_| is_canonical);
        let size = size.ok_or(NoteError::Malformed("the size is not a number"))?;
        let root = BASE64.decode(root).ok().and_then(|bytes| bytes.try_into().ok());
        let root = root.ok_or(NoteError::Malformed("the root is not the base64 of 32 bytes"))?;
        Ok(Self { origin: origin.to_owned(), size, root: Hash(root) })
    }
}

/// A checkpoint with its signature lines, as kept and passed on. Its signature is *not* yet checked:
/// see [`SignedCheckpoint::check`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    note: String,
}

impl SignedCheckpoint {
    /// Reads a note.
    ///
    /// # Errors
    /// [`NoteError::Malformed`].
    pub fn parse(note: &str) -> Result<Self, NoteError> {
        if note.len() > NOTE_BYTES {
            return Err(NoteError::Malformed("it is longer than any note"));
        }
        let (text, signatures) = note
            .split_once("\n\n")
            .ok_or(NoteError::Malformed("no empty line before signatures"))?;
        if !signatures.ends_with('\n') || signatures.contains("\n\n") {
            return Err(NoteError::Malformed("the signature lines are cut"));
        }
        if !signatures.lines().all(|line| line.starts_with("— ")) {
            return Err(NoteError::Malformed("a signature line must be: — name base64"));
        }
        let checkpoint = Checkpoint::parse(&format!("{text}\n"))?;
        Ok(Self { checkpoint, note: note.to_owned() })
    }

    /// What the checkpoint says, signed or not.
    #[must_use]
    pub fn unchecked(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The note as text.
    #[must_use]
    pub fn note(&self) -> &str {
        &self.note
    }

    /// Checks the signature of the key that has the origin's name.
    ///
    /// # Errors
    /// See [`NoteError`].
    pub fn check(&self, key: &VerifyingKey) -> Result<&Checkpoint, NoteError> {
        check_note(&self.note, &self.checkpoint.origin, key)?;
        Ok(&self.checkpoint)
    }
}

/// Checks that `note` has a true signature by `key` under `name`.
fn check_note(note: &str, name: &str, key: &VerifyingKey) -> Result<(), NoteError> {
    // C2SP signed-note: the text is everything up to the *last* empty line, its newline included.
    let end = note.rfind("\n\n").ok_or(NoteError::Malformed("no empty line before signatures"))?;
    let (text, signatures) = (&note[..=end], &note[end + 2..]);
    let id = key_id(name, key);
    for line in signatures.lines() {
        let Some((signer, bytes)) = line.strip_prefix("— ").and_then(|rest| rest.split_once(' '))
        else {
            return Err(NoteError::Malformed("a signature line must be: — name base64"));
        };
        let bytes =
            BASE64.decode(bytes).map_err(|_| NoteError::Malformed("a signature is not base64"))?;
        if signer != name || bytes.get(..4) != Some(&id) {
            continue;
        }
        let signature: [u8; 64] = bytes[4..]
            .try_into()
            .map_err(|_| NoteError::Malformed("an Ed25519 signature has 64 bytes"))?;
        return key
            .verify_strict(text.as_bytes(), &Signature::from_bytes(&signature))
            .map_err(|_| NoteError::FalseSignature { name: name.to_owned() });
    }
    Err(NoteError::NoSuchKey { name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::leaf_hash;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn checkpoint() -> Checkpoint {
        Checkpoint { origin: "cordon/RJ1/hub".into(), size: 4711, root: leaf_hash(b"root") }
    }

    /// The note and key that Go's `golang.org/x/mod/sumdb/note` publishes as its example.
    #[test]
    fn a_published_note_is_genuine() {
        let note = "If you think cryptography is the answer to your problem,\n\
                    then you don't know what your problem is.\n\n\
                    — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgK\
                    vqfqdngotpRZb6KE6RyyBwJnAM=\n";
        let encoded = BASE64.decode("ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW").unwrap();
        assert_eq!(encoded[0], ED25519);
        let key = VerifyingKey::from_bytes(encoded[1..].try_into().unwrap()).unwrap();
        assert_eq!(key_id("PeterNeumann", &key), [0xc7, 0x4f, 0x20, 0xa3]);
        check_note(note, "PeterNeumann", &key).unwrap();
        let altered = note.replace("your problem is", "our problem is");
        assert!(matches!(
            check_note(&altered, "PeterNeumann", &key),
            Err(NoteError::FalseSignature { .. })
        ));
    }

    #[test]
    fn a_signed_checkpoint_reads_back_and_checks() {
        let signed = checkpoint().sign(&key(1));
        let read = SignedCheckpoint::parse(signed.note()).unwrap();
        assert_eq!(read.check(&key(1).verifying_key()), Ok(&checkpoint()));
        assert!(matches!(read.check(&key(2).verifying_key()), Err(NoteError::NoSuchKey { .. })));
    }

    #[test]
    fn no_byte_of_a_checkpoint_can_be_altered() {
        let signed = checkpoint().sign(&key(1));
        for at in 0..signed.note().len() {
            let mut bytes = signed.note().as_bytes().to_vec();
            bytes[at] ^= 1;
            let Ok(text) = String::from_utf8(bytes) else { continue };
            let accepted = SignedCheckpoint::parse(&text)
                .is_ok_and(|note| note.check(&key(1).verifying_key()).is_ok());
            assert!(!accepted, "byte {at}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*(\n\\PC*){0,6}") {
            if let Ok(note) = SignedCheckpoint::parse(&text) {
                let _ = note.check(&key(1).verifying_key());
            }
        }
    }
}
