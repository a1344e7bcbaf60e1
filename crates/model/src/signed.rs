//! What a signature covers, and a type that proves that one was checked.
//!
//! An [`Envelope`] carries the exact bytes that were signed (as DSSE does, and with its
//! pre-authentication encoding), so that nobody has to agree on a canonical form. Opening it with the
//! right key gives a [`Verified`] document; code that must only act on checked documents takes that
//! type, and there is no other way to make one.

use std::ops::Deref;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::time::UtcNanos;

/// A kind of document that can be signed.
pub trait Document: Serialize + DeserializeOwned {
    /// Its media type, which the signature covers: an order can't pass for a permit.
    const TYPE: &'static str;

    /// When it was signed, if it says so.
    fn issued_at(&self) -> Option<UtcNanos> {
        None
    }
}

/// The first 8 bytes of SHA-256 over an Ed25519 public key: says which key to try, proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyId([u8; 8]);

impl KeyId {
    /// The id of `key`.
    #[must_use]
    pub fn of(key: &VerifyingKey) -> Self {
        let digest = Sha256::digest(key.as_bytes());
        let mut id = [0; 8];
        id.copy_from_slice(&digest[..8]);
        Self(id)
    }
}

/// Signed bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// Media type of the payload.
    pub payload_type: String,
    /// The document, CBOR, exactly as signed.
    #[serde(with = "serde_bytes")]
    pub payload: Vec<u8>,
    /// Which key.
    pub key: KeyId,
    /// Ed25519 (RFC 8032) over the pre-authentication encoding.
    #[serde(with = "serde_bytes")]
    pub signature: [u8; 64],
}

/// Why a document could not be sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The envelope holds another kind of document.
    #[error("expected a document of type {expected}, got {got:?}")]
    WrongType {
        /// What was asked for.
        expected: &'static str,
        /// What the envelope says, cut.
        got: String,
    },
    /// Another key, or altered bytes.
    #[error("the signature is not that of the pinned key: altered, or signed by somebody else")]
    NotGenuine,
    /// Genuine, but not understood: the signer is of another version.
    #[error("a genuine document of type {kind} can't be read: {reason}")]
    Unreadable {
        /// Its type.
        kind: &'static str,
        /// What the decoder said.
        reason: String,
    },
}

/// DSSE v1 pre-authentication encoding, so that type and payload can't run together.
fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes =
        format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

/// Signs `document` with `key`.
///
/// # Errors
/// [`SignatureError::Unreadable`] if the document can't be encoded (no type of this crate does that).
pub fn seal<D: Document>(document: &D, key: &SigningKey) -> Result<Envelope, SignatureError> {
    let mut payload = Vec::new();
    ciborium::into_writer(document, &mut payload)
        .map_err(|error| SignatureError::Unreadable { kind: D::TYPE, reason: error.to_string() })?;
    let signature = key.sign(&pre_authentication_encoding(D::TYPE, &payload)).to_bytes();
    Ok(Envelope {
        payload_type: D::TYPE.to_owned(),
        payload,
        key: KeyId::of(&key.verifying_key()),
        signature,
    })
}

impl Envelope {
    /// Checks type and signature, then decodes.
    ///
    /// # Errors
    /// See [`SignatureError`]. Nothing of the payload is parsed before the signature is checked.
    pub fn open<D: Document>(&self, key: &VerifyingKey) -> Result<Verified<D>, SignatureError> {
        if self.payload_type != D::TYPE {
            return Err(SignatureError::WrongType {
                expected: D::TYPE,
                got: self.payload_type.chars().take(80).collect(),
            });
        }
        let signed = pre_authentication_encoding(&self.payload_type, &self.payload);
        key.verify_strict(&signed, &Signature::from_bytes(&self.signature))
            .map_err(|_| SignatureError::NotGenuine)?;
        let document = ciborium::from_reader(self.payload.as_slice()).map_err(|error| {
            SignatureError::Unreadable { kind: D::TYPE, reason: error.to_string() }
        })?;
        Ok(Verified { document, envelope: self.clone() })
    }

    /// SHA-256 over the signed bytes: names this very document in the ledger and in approvals.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(pre_authentication_encoding(&self.payload_type, &self.payload)).into()
    }
}

/// A document whose signature was checked, with the envelope that proves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified<D> {
    document: D,
    envelope: Envelope,
}

impl<D> Verified<D> {
    /// The envelope that it came in, to pass on or to keep.
    #[must_use]
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// The document alone.
    #[must_use]
    pub fn into_document(self) -> D {
        self.document
    }
}

impl<D> Deref for Verified<D> {
    type Target = D;
    fn deref(&self) -> &D {
        &self.document
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Note(String);
    impl Document for Note {
        const TYPE: &'static str = "application/vnd.cordon.test-note+cbor";
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Other(String);
    impl Document for Other {
        const TYPE: &'static str = "application/vnd.cordon.test-other+cbor";
    }

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    #[test]
    fn a_sealed_document_opens_with_its_key_only() {
        let envelope = seal(&Note("isolate".into()), &key(1)).unwrap();
        assert_eq!(envelope.open::<Note>(&key(1).verifying_key()).unwrap().0, "isolate");
        assert_eq!(
            envelope.open::<Note>(&key(2).verifying_key()).unwrap_err(),
            SignatureError::NotGenuine
        );
    }

    #[test]
    fn one_kind_of_document_cannot_pass_for_another() {
        let mut envelope = seal(&Note("isolate".into()), &key(1)).unwrap();
        assert!(envelope.open::<Other>(&key(1).verifying_key()).is_err());
        envelope.payload_type = Other::TYPE.into();
        assert_eq!(
            envelope.open::<Other>(&key(1).verifying_key()).unwrap_err(),
            SignatureError::NotGenuine
        );
    }

    proptest::proptest! {
        #[test]
        fn any_altered_byte_is_refused(at in 0usize..9, by in 1u8..) {
            let mut envelope = seal(&Note("isolate".into()), &key(1)).unwrap();
            let index = at % envelope.payload.len();
            envelope.payload[index] ^= by;
            proptest::prop_assert_eq!(
                envelope.open::<Note>(&key(1).verifying_key()).unwrap_err(),
                SignatureError::NotGenuine
            );
        }
    }
}
