//! What the helper must know after a crash, on disk.
//!
//! A file is replaced, never changed: written beside, flushed, renamed, the folder flushed. Each ends
//! with a SHA-256 of what is before it, and the one before is kept: a file that is torn or rotten is set
//! aside and the previous one taken, whose state is at most one step older.
//!
//! Any user can fill a filesystem, by bytes or by files, and a machine has to be isolated and released all
//! the same. So a **reserve** lies in the folder: files that have their blocks already. When the filesystem
//! is full one of them becomes the file that is written, by renaming, so that nobody can take its room in
//! between; and the file that the write makes superfluous becomes the next reserve. Only what was never
//! written before makes none superfluous, and keeps the one that it took until it is removed. The last one
//! is never taken for that: what is written already has to be written again.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{CWD, FallocateFlags, RenameFlags, fallocate, fstatvfs, renameat_with};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

const DIGEST: usize = 32;
/// The largest file: 256 unreported receipts and 64 measures of at most 16 KiB (two paths of 4 KiB, 32
/// lines of 256 bytes), which is 5 MiB, an assignment of 256 lifelines of 1.2 KiB, and half as much again.
const FILE_BYTES: u64 = 8 << 20;

/// What is set aside in a folder for a time when its filesystem is full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reserve {
    /// So many files.
    pub files: usize,
    /// Each of so many bytes.
    pub bytes: u64,
}

impl Reserve {
    /// Beside the helper's memory: the longest memory twice, as one may be written while the one before it is
    /// still there. All names there are written when the machine is enrolled.
    pub const OF_MEMORY: Self = Self { files: 1, bytes: 2 * FILE_BYTES };
}

/// What a reserve that is less than it should be leaves to the filesystem for its own records.
const LEFT_FREE: u64 = 64 << 10;

/// The name of the first file of the reserve; the others have a number behind it. It has no ending, so it is
/// nobody's value.
const RESERVE: &str = "reserve";

/// Held while files of a reserve are taken, given back or filled: two threads write the measures' journals.
/// Whoever writes where there is room needs none of that.
static RESERVES: Mutex<()> = Mutex::new(());

fn reserves_alone() -> MutexGuard<'static, ()> {
    RESERVES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A folder that only root reads.
#[derive(Debug, Clone)]
pub struct Disk {
    folder: PathBuf,
    reserve: Reserve,
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
        Ok(Self { folder: folder.to_owned(), reserve: Reserve::default() })
    }

    /// Writes `value` under `name`; on return it is on disk.
    ///
    /// # Errors
    /// When it is not; the previous value then stands.
    pub fn write<T: Serialize>(&self, name: &str, value: &T) -> io::Result<()> {
        self.put(name, value, true)
    }

    /// The same for what nothing is done by: it leaves the reserve to others.
    ///
    /// # Errors
    /// As [`Disk::write`].
    pub fn write_if_room<T: Serialize>(&self, name: &str, value: &T) -> io::Result<()> {
        self.put(name, value, false)
    }

    /// The same, not flushed: after a power cut it may be torn, or not there.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write_unflushed<T: Serialize>(&self, name: &str, value: &T) -> io::Result<()> {
        let mut bytes = Vec::new();
        ciborium::into_writer(value, &mut bytes).map_err(io::Error::other)?;
        bytes.extend_from_slice(&Sha256::digest(&bytes));
        let fresh = self.path(name, "new");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(&bytes)?;
        self.take_its_place(name)
    }

    fn put<T: Serialize>(&self, name: &str, value: &T, is_needed: bool) -> io::Result<()> {
        let mut bytes = Vec::new();
        ciborium::into_writer(value, &mut bytes).map_err(io::Error::other)?;
        bytes.extend_from_slice(&Sha256::digest(&bytes));
        let fresh = self.path(name, "new");
        match write_fresh(&fresh, &bytes) {
            Err(error) if is_needed && is_full(&error) => {
                self.write_in_reserve(name, &bytes, error)?;
                File::open(&self.folder)?.sync_data()?;
                // At once, or whoever fills the disk is faster. The next that needs it may find less.
                let _ = self.keep_reserve();
                return Ok(());
            }
            written => written?,
        }
        self.take_its_place(name)?;
        File::open(&self.folder)?.sync_data()
    }

    /// What is fresh becomes what was written last, and that the one before it.
    fn take_its_place(&self, name: &str) -> io::Result<()> {
        let current = self.path(name, "cbor");
        match std::fs::rename(&current, self.path(name, "previous")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => std::fs::rename(self.path(name, "new"), &current),
        }
    }

    /// The same, with so much to be set aside for a time when the filesystem is full: see
    /// [`Disk::keep_reserve`].
    #[must_use]
    pub fn with_reserve(self, reserve: Reserve) -> Self {
        Self { reserve, ..self }
    }

    /// Sees to it that what is to be set aside is.
    ///
    /// # Errors
    /// When there is less room than that; what could be had is kept.
    pub fn keep_reserve(&self) -> io::Result<()> {
        let _alone = reserves_alone();
        // All of them: one may be there for its file where another is not for its bytes.
        let kept: Vec<io::Result<()>> = self.reserves().map(|path| self.keep_one(&path)).collect();
        kept.into_iter().collect()
    }

    /// Takes back the files that writes which were cut short had taken out of the reserve: where no file is free, they
    /// are the only ones that it can have. What was fresh and never took its place is nothing that anybody was told was
    /// written. To be called at the start, before anybody writes here: what is fresh later is being written.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn take_back_reserve(&self) -> io::Result<()> {
        let _alone = reserves_alone();
        let mut fresh = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|ending| ending == "new") {
                fresh.push(path);
            }
        }
        let missing: Vec<PathBuf> = self.reserves().filter(|path| !path.exists()).collect();
        let mut missing = missing.into_iter();
        for path in fresh {
            match missing.next() {
                Some(reserve) => std::fs::rename(path, reserve)?,
                None => break,
            }
        }
        File::open(&self.folder)?.sync_data()
    }

    fn keep_one(&self, path: &Path) -> io::Result<()> {
        let bytes = self.reserve.bytes;
        let file =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let held = file.metadata()?;
        // A block is counted as 512 bytes here, whatever the filesystem's are.
        if held.len() >= bytes && held.blocks().saturating_mul(512) >= bytes {
            return Ok(());
        }
        // What is left, if that is less: a part of a reserve is better than none.
        let left = fstatvfs(&file)?;
        let left = left.f_bfree.saturating_mul(left.f_frsize).saturating_sub(LEFT_FREE);
        let had = held.len().min(held.blocks().saturating_mul(512));
        let part = bytes.min(had.saturating_add(left));
        if part > had {
            fallocate(&file, FallocateFlags::empty(), 0, part)?;
            file.sync_all()?;
            File::open(&self.folder)?.sync_data()?;
        }
        if part == bytes { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    }

    /// Where the files of the reserve are, or are to be.
    fn reserves(&self) -> impl Iterator<Item = PathBuf> {
        (1..=self.reserve.files).map(|number| match number {
            1 => self.folder.join(RESERVE),
            _ => self.folder.join(format!("{RESERVE}-{number}")),
        })
    }

    /// A file of the reserve that was taken; `None` also where nothing was ever set aside.
    fn missing_reserve(&self) -> Option<PathBuf> {
        let (there, missing): (Vec<_>, Vec<_>) = self.reserves().partition(|path| path.exists());
        missing.into_iter().next().filter(|_| !there.is_empty())
    }

    /// Writes what has no room elsewhere; `full` is what the filesystem said. Afterwards the reserve has the
    /// file that the write makes superfluous: no file more is needed, however often.
    fn write_in_reserve(&self, name: &str, bytes: &[u8], full: io::Error) -> io::Result<()> {
        let _alone = reserves_alone();
        let (fresh, current) = (self.path(name, "new"), self.path(name, "cbor"));
        match std::fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let there: Vec<PathBuf> = self.reserves().filter(|path| path.exists()).collect();
        let is_first = !current.exists() && !self.path(name, "previous").exists();
        if is_first && there.len() == 1 && self.reserve.files > 1 {
            return Err(full);
        }
        let mut written = Err(full);
        for reserve in there {
            written = self.write_over_one(name, bytes, &reserve);
            if !written.as_ref().is_err_and(is_full) {
                break;
            }
        }
        written
    }

    fn write_over_one(&self, name: &str, bytes: &[u8], reserve: &Path) -> io::Result<()> {
        let (fresh, current) = (self.path(name, "new"), self.path(name, "cbor"));
        std::fs::rename(reserve, &fresh)?;
        if let Err(error) = write_over(&fresh, bytes) {
            std::fs::rename(&fresh, reserve)?;
            return Err(error);
        }
        let is_spared = std::fs::rename(self.path(name, "previous"), reserve).is_ok();
        // Where there is no previous one, none is kept: better than no reserve for what comes next.
        if !is_spared && renameat_with(CWD, &fresh, CWD, &current, RenameFlags::EXCHANGE).is_ok() {
            return std::fs::rename(&fresh, reserve);
        }
        self.take_its_place(name)
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
            let path = self.path(name, ending);
            let alone = reserves_alone();
            // Whoever took all files of the filesystem would take the one that is let go of, too.
            let removed = match self.missing_reserve() {
                Some(missing) => std::fs::rename(&path, missing),
                None => std::fs::remove_file(&path),
            };
            match removed {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            drop(alone);
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

fn write_fresh(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_data()
}

/// Into the blocks that a file has already.
fn write_over(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    match file.write_all(bytes) {
        // Where nothing is ever written over (btrfs), the room is had by letting go of it.
        Err(error) if is_full(&error) => {
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(bytes)?;
        }
        written => written?,
    }
    file.set_len(u64::try_from(bytes.len()).map_err(io::Error::other)?)?;
    file.sync_all()
}

/// No bytes, no files, or no more for this user.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
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
    fn what_is_removed_becomes_the_reserve_that_was_taken_and_is_nobodys_value() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::open(folder.path()).unwrap();
        let disk = disk.with_reserve(Reserve { files: 2, bytes: 4096 });
        let names = || {
            let names = std::fs::read_dir(folder.path()).unwrap();
            let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let come_and_go = || {
            ["older", "newer"].iter().for_each(|value| disk.write("state", value).unwrap());
            disk.remove("state").unwrap();
            assert_eq!(disk.read::<String>("state").unwrap(), Found::Nothing);
        };
        come_and_go();
        assert!(names().is_empty(), "nothing was set aside here");
        disk.keep_reserve().unwrap();
        std::fs::remove_file(folder.path().join("reserve")).unwrap();
        for _ in 0..2 {
            come_and_go();
            assert_eq!(names(), ["reserve", "reserve-2"]);
            assert_eq!(disk.names().unwrap(), Vec::<String>::new());
        }
        disk.keep_reserve().unwrap();
        let length =
            |name: &std::ffi::OsString| std::fs::metadata(folder.path().join(name)).unwrap().len();
        assert_eq!(names().iter().map(length).collect::<Vec<_>>(), [4096, 4096]);
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
