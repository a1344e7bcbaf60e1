//! What the lookout keeps, on disk: only root reads the folder, for what is kept may hold secrets.
//!
//! | file | holds |
//! |---|---|
//! | `known` | what stands where, in the form of [`Disk`] |
//! | `change-N` | one change, in the same form, written when it is seen |
//! | `contents/SHA256` | a content, by its hash, which is looked at whenever it is used |
//! | `alive` | when somebody last looked out |

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use cordon_model::action::Sha256Digest;
use cordon_model::time::UtcNanos;
use sha2::{Digest as _, Sha256};

use super::book::{Known, Record};
use super::limits;
use crate::contain::disk::{Disk, Found};

const KNOWN: &str = "known";
const CHANGE: &str = "change-";

/// The folder.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
    disk: Disk,
}

impl Store {
    /// Opens it, or makes it.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let disk = Disk::open(folder)?;
        DirBuilder::new().recursive(true).mode(0o700).create(folder.join("contents"))?;
        Ok(Self { folder: folder.to_owned(), disk })
    }

    /// Holds it alone, until the file is dropped; `None`: somebody else does.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn lock(&self) -> io::Result<Option<File>> {
        let path = self.folder.join("lock");
        let file =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        Ok(file.try_lock().is_ok().then_some(file))
    }

    /// What was known; `None`: nobody has looked out yet, or what was known is damaged, which begins it anew.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn known(&self) -> io::Result<Option<Known>> {
        Ok(match self.disk.read(KNOWN)? {
            Found::Whole(known) | Found::Previous(known) => Some(known),
            Found::Nothing | Found::Torn => None,
        })
    }

    /// Writes what is known.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write_known(&self, known: &Known) -> io::Result<()> {
        self.disk.write(KNOWN, known)
    }

    /// Writes a change. It is not flushed: that comes before what is known is written, once for many.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write_change(&self, record: &Record) -> io::Result<()> {
        self.disk.write_unflushed(&name(record.number), record)
    }

    /// The change with this number. Where what was written of it last is torn (power was cut), nobody is named: others
    /// may have been since what was written before.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn change(&self, number: u64) -> io::Result<Option<Record>> {
        Ok(match self.disk.read(&name(number))? {
            Found::Whole(record) => Some(record),
            Found::Previous(record) => Some(Record { by: Vec::new(), ..record }),
            Found::Nothing | Found::Torn => None,
        })
    }

    /// All changes that can be read, the oldest first.
    ///
    /// # Errors
    /// When the folder can't be read.
    pub fn changes(&self) -> io::Result<Vec<Record>> {
        let names = self.disk.names()?;
        let numbers: BTreeSet<u64> =
            names.iter().filter_map(|name| name.strip_prefix(CHANGE)?.parse().ok()).collect();
        Ok(numbers.into_iter().filter_map(|number| self.change(number).ok().flatten()).collect())
    }

    /// Removes a change.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn forget(&self, number: u64) -> io::Result<()> {
        for ending in ["previous", "new", "cbor"] {
            match fs::remove_file(self.folder.join(format!("{}.{ending}", name(number)))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Keeps a content. It is not flushed: whoever uses it sees by its hash whether it is whole.
    ///
    /// # Errors
    /// When there is no room for it.
    pub fn keep(&self, sha256: Sha256Digest, content: &[u8]) -> io::Result<()> {
        let path = self.content_path(sha256);
        if fs::metadata(&path).is_ok_and(|kept| kept.len() == content.len() as u64) {
            return Ok(());
        }
        let fresh = self.folder.join("contents/new");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(content)?;
        fs::rename(&fresh, &path)
    }

    /// A content, whole.
    ///
    /// # Errors
    /// When it is not kept, or is damaged.
    pub fn content(&self, sha256: Sha256Digest) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        let file = File::open(self.content_path(sha256))?;
        file.take(limits::FILE_BYTES + 1).read_to_end(&mut content)?;
        if Sha256::digest(&content)[..] != sha256.0 {
            return Err(io::Error::other("what was kept of it is damaged"));
        }
        Ok(content)
    }

    /// Removes all contents but these, and says how many bytes the rest has.
    ///
    /// # Errors
    /// When the folder can't be read.
    pub fn keep_only(&self, needed: &BTreeSet<Sha256Digest>) -> io::Result<u64> {
        let mut bytes = 0;
        for entry in fs::read_dir(self.folder.join("contents"))? {
            let entry = entry?;
            let digest = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if digest.is_some_and(|digest| needed.contains(&digest)) {
                bytes += entry.metadata()?.len();
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(bytes)
    }

    /// Has all that was kept on the disk.
    ///
    /// # Errors
    /// What the disk says.
    pub fn flush(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(File::open(&self.folder)?)?)
    }

    /// When somebody last looked out.
    #[must_use]
    pub fn alive(&self) -> Option<UtcNanos> {
        let text = fs::read_to_string(self.folder.join("alive")).ok()?;
        Some(UtcNanos::from_unix_nanos(text.trim().parse().ok()?))
    }

    /// Somebody looks out at this time. Not flushed: after a power cut the break is told as longer than it was.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn live(&self, at: UtcNanos) -> io::Result<()> {
        let path = self.folder.join("alive");
        // Written over and always as long, so that it can be written when the disk is full.
        let file =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        file.write_all_at(format!("{:020}\n", at.unix_nanos()).as_bytes(), 0)
    }

    fn content_path(&self, sha256: Sha256Digest) -> PathBuf {
        self.folder.join("contents").join(sha256.to_string())
    }
}

fn name(number: u64) -> String {
    format!("{CHANGE}{number}")
}
