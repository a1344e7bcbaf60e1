//! The signed documents that an agent holds, as the envelopes they came in.
//!
//! The one idea: the agent keeps the sealed bytes and checks the signature again each time it reads them,
//! so that a file that somebody changed is as good as none.

use std::io;
use std::path::{Path, PathBuf};

use cordon_link::frame;
use cordon_model::asset::Assignment;
use cordon_model::break_glass::BreakGlass;
use cordon_model::guidance::Guidance;
use cordon_model::limits;
use cordon_model::order::Permit;
use cordon_model::policy::Policy;
use cordon_model::signed::{Document, Envelope, Verified};
use ed25519_dalek::VerifyingKey;

/// Documents that are kept, and under which name.
pub trait Kept: Document {
    /// The file's name.
    const NAME: &'static str;
}

impl Kept for Policy {
    const NAME: &'static str = "policy";
}

impl Kept for Assignment {
    const NAME: &'static str = "assignment";
}

impl Kept for Permit {
    const NAME: &'static str = "permit";
}

impl Kept for Guidance {
    const NAME: &'static str = "guidance";
}

impl Kept for BreakGlass {
    const NAME: &'static str = "break-glass";
}

/// Where the documents are.
#[derive(Debug)]
pub struct Documents {
    directory: PathBuf,
}

impl Documents {
    /// The documents below the agent's `directory`.
    ///
    /// # Errors
    /// If the directory can't be made.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let directory = directory.join("documents");
        std::fs::create_dir_all(&directory)?;
        Ok(Self { directory })
    }

    /// The document of this kind, if there is one that the pinned key signed.
    #[must_use]
    pub fn read<D: Kept>(&self, key: &VerifyingKey) -> Option<Verified<D>> {
        let bytes = std::fs::read(self.directory.join(D::NAME)).ok()?;
        let envelope: Result<Envelope, _> = frame::decode(&bytes);
        match envelope
            .map_err(|error| error.to_string())
            .and_then(|envelope| envelope.open::<D>(key).map_err(|error| error.to_string()))
        {
            Ok(document) => Some(document),
            Err(why) => {
                tracing::warn!(
                    document = D::NAME,
                    why,
                    "a kept document can't be used; the hub will send it again"
                );
                None
            }
        }
    }

    /// Keeps a document in place of the last of its kind.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn write<D: Kept>(&self, document: &Verified<D>) -> io::Result<()> {
        let bytes =
            frame::encode(document.envelope(), limits::MESSAGE_BYTES).map_err(io::Error::other)?;
        // The length before the item is the frame's; a file needs none.
        Ok(cordon_durable::write_whole(&self.directory.join(D::NAME), &bytes[4..])?)
    }

    /// Forgets the document of this kind: a permit that was used.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn forget<D: Kept>(&self) -> io::Result<()> {
        match std::fs::remove_file(self.directory.join(D::NAME)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_model::signed::seal;
    use ed25519_dalek::SigningKey;

    #[test]
    fn a_kept_document_is_checked_again_when_it_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let documents = Documents::open(directory.path()).unwrap();
        let key = SigningKey::from_bytes(&[1; 32]);
        let policy = Policy::default_for("RJ1".parse().unwrap());
        let sealed = seal(&policy, &key).unwrap().open(&key.verifying_key()).unwrap();
        documents.write::<Policy>(&sealed).unwrap();
        assert_eq!(documents.read::<Policy>(&key.verifying_key()), Some(sealed));
        let other = SigningKey::from_bytes(&[2; 32]).verifying_key();
        assert_eq!(documents.read::<Policy>(&other), None);
        documents.forget::<Policy>().unwrap();
        assert_eq!(documents.read::<Policy>(&key.verifying_key()), None);
    }
}
