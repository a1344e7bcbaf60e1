//! What the helper must know after a crash, on disk.
//!
//! A file is replaced, never changed: written beside, flushed, renamed, the folder flushed. Each ends
//! with a SHA-256 of what is before it, and the one before is kept: a file that is torn or rotten is set
//! aside and the previous one taken, whose state is at most one step older.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

const DIGEST: usize = 32;
/// The largest file: 256 unreported receipts and 64 measures of at most 16 KiB (two paths of 4 KiB, 32
/// lines of 256 bytes), which is 5 MiB, an assignment of 256 lifelines of 1.2 KiB, and half as much again.
const FILE_BYTES: u64 = 8 << 20;

/// A folder that only root reads.
#[derive(Debug, Clone)]
pub struct Disk {
    folder: PathBuf,
}

/// What was found under a name.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<T> {
    /// What was written last.
    Whole(T),
    /// What was written before that: the last is torn.
    Previous(T),
    /// Something, and none of it can be read.
    Torn,
    /// Nothing was ever written.
    Nothing,
}

impl Disk {
    /// Opens `folder`, or makes it.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn open(folder: &Path) -> io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Writes `value` under `name`; on return it is on disk.
    ///
    /// # Errors
    /// When it is not; the previous value then stands.
    pub fn write<T: Serialize>(&self, name: &str, value: &T) -> io::Result<()> {
        let mut bytes = Vec::new();
        ciborium::into_writer(value, &mut bytes).map_err(io::Error::other)?;
        bytes.extend_from_slice(&Sha256::digest(&bytes));
        let fresh = self.path(name, "new");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(&bytes)?;
        file.sync_data()?;
        let current = self.path(name, "cbor");
        match std::fs::rename(&current, self.path(name, "previous")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => std::fs::rename(&fresh, &current)?,
        }
        File::open(&self.folder)?.sync_data()
    }

    /// What is under `name`.
    ///
    /// # Errors
    /// When the disk fails; what can't be understood is [`Found::Torn`], not an error.
    pub fn read<T: DeserializeOwned>(&self, name: &str) -> io::Result<Found<T>> {
        let current = self.read_one(&self.path(name, "cbor"))?;
        if let Some(Some(value)) = current {
            return Ok(Found::Whole(value));
        }
        match self.read_one(&self.path(name, "previous"))? {
            Some(Some(value)) => Ok(Found::Previous(value)),
            Some(None) => Ok(Found::Torn),
            None if current.is_some() => Ok(Found::Torn),
            None => Ok(Found::Nothing),
        }
    }

    /// Removes what is under `name`, if anything.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        // The previous first: cut short, what was written last is still what is read.
        for ending in ["previous", "new", "cbor"] {
            match std::fs::remove_file(self.path(name, ending)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            // In that order on the disk too.
            File::open(&self.folder)?.sync_data()?;
        }
        Ok(())
    }

    /// The names under which something is, in no order and perhaps more than once.
    ///
    /// # Errors
    /// When the folder can't be read.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            let Some((name, ending)) = name.to_str().and_then(|name| name.rsplit_once('.')) else {
                continue;
            };
            if ["cbor", "previous"].contains(&ending) {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// Outer `None`: no file. Inner: not whole.
    fn read_one<T: DeserializeOwned>(&self, path: &Path) -> io::Result<Option<Option<T>>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(FILE_BYTES).read_to_end(&mut bytes)?;
        Ok(Some(bytes.split_last_chunk::<DIGEST>().and_then(|(body, digest)| {
            let is_whole = Sha256::digest(body)[..] == digest[..];
            is_whole.then(|| decode(body)).flatten()
        })))
    }

    fn path(&self, name: &str, ending: &str) -> PathBuf {
        self.folder.join(format!("{name}.{ending}"))
    }
}

/// The value in a file's body, if it is one whole value and nothing after it.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    let mut rest = body;
    let value = ciborium::from_reader(&mut rest).ok()?;
    rest.is_empty().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_torn_anywhere_gives_the_one_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::open(folder.path()).unwrap();
        assert_eq!(disk.read::<String>("state").unwrap(), Found::Nothing);
        disk.write("state", &"first").unwrap();
        assert_eq!(disk.read("state").unwrap(), Found::Whole("first".to_owned()));
        disk.write("state", &"second").unwrap();
        let path = folder.path().join("state.cbor");
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(disk.read("state").unwrap(), Found::Previous("first".to_owned()));
        }
        // Died between the two renames.
        std::fs::remove_file(&path).unwrap();
        assert_eq!(disk.read("state").unwrap(), Found::Previous("first".to_owned()));
        std::fs::write(folder.path().join("state.previous"), b"rotten").unwrap();
        assert_eq!(disk.read::<String>("state").unwrap(), Found::Torn);
    }

    #[test]
    fn only_root_may_read_what_is_kept() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::open(&folder.path().join("helper")).unwrap();
        disk.write("pin", &1u8).unwrap();
        let mode = |path: &str| {
            std::fs::metadata(folder.path().join(path)).unwrap().permissions().mode() & 0o777
        };
        assert_eq!(mode("helper"), 0o700);
        assert_eq!(mode("helper/pin.cbor"), 0o600);
    }
}
