//! The signer's two private keys: made at its first start, never sent, never logged.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use cordon_durable::{FileError, failed, write_whole};
use ed25519_dalek::SigningKey;
use zeroize::Zeroizing;

/// Why a key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// Somebody else could read or replace it.
    #[error(
        "{path} must be a file of this user with mode 600; it may have been read: make new keys"
    )]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// Not a key.
    #[error("{path} has {bytes} bytes; a key has 32")]
    Length {
        /// The file.
        path: PathBuf,
        /// How many it has.
        bytes: usize,
    },
    /// There is a registry, and the key that machines pinned is gone.
    #[error("{path} is missing, and this signer has signed before: restore it from its backup")]
    Missing {
        /// The file.
        path: PathBuf,
    },
}

/// Reads the key in `path`; makes one if there is none and `may_make`.
///
/// # Errors
/// See [`KeyError`].
pub fn load_or_make(path: &Path, may_make: bool) -> Result<SigningKey, KeyError> {
    match File::open(path) {
        Ok(file) => load(path, file),
        Err(error) if error.kind() == io::ErrorKind::NotFound && may_make => make(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(KeyError::Missing { path: path.to_owned() })
        }
        Err(error) => Err(failed("open", path)(error).into()),
    }
}

fn load(path: &Path, mut file: File) -> Result<SigningKey, KeyError> {
    // Of the open file, not of the name: it can't be exchanged in between.
    let metadata = file.metadata().map_err(failed("look at", path))?;
    let own = nix::unistd::geteuid().as_raw();
    if !metadata.is_file() || metadata.uid() != own || metadata.mode() & 0o077 != 0 {
        return Err(KeyError::Exposed { path: path.to_owned() });
    }
    // One byte more than a key, so that a longer file is seen; room for it, so that nothing moves.
    let mut bytes = Zeroizing::new([0; 33]);
    let mut length = 0;
    loop {
        match file.read(&mut bytes[length..]).map_err(failed("read", path))? {
            0 => break,
            count => length += count,
        }
    }
    let mut seed = Zeroizing::new([0; 32]);
    if length != seed.len() {
        return Err(KeyError::Length { path: path.to_owned(), bytes: length });
    }
    seed.copy_from_slice(&bytes[..32]);
    Ok(SigningKey::from_bytes(&seed))
}

fn make(path: &Path) -> Result<SigningKey, KeyError> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut seed[..]).map_err(|error| {
        failed("draw randomness for", path)(io::Error::other(error.to_string()))
    })?;
    write_whole(path, &seed[..])?;
    Ok(SigningKey::from_bytes(&seed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_key_is_made_once_and_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("command.key");
        assert!(matches!(load_or_make(&path, false), Err(KeyError::Missing { .. })));
        let made = load_or_make(&path, true).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(load_or_make(&path, false).unwrap(), made);
    }

    #[test]
    fn a_key_that_others_can_read_or_that_is_cut_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("command.key");
        load_or_make(&path, true).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(load_or_make(&path, true), Err(KeyError::Exposed { .. })));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        for bytes in [0, 31, 33, 100] {
            std::fs::write(&path, vec![1; bytes]).unwrap();
            assert!(matches!(load_or_make(&path, true), Err(KeyError::Length { .. })));
        }
    }
}
