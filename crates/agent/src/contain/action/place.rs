//! A file by its path, where others may change the path while we walk it.
//!
//! The folder is opened with no symbolic link allowed anywhere on the way, and held; all that follows is
//! done in that folder, by one name, and by the file's own handle. So nobody can lead us elsewhere
//! between two steps. What lies on a filesystem that another machine or another program answers for is
//! refused before it is looked at ([`super::mounts`]), and what was mounted since that was known is never
//! entered ([`super::plain`]): whoever answers there may never do so, and nobody waits for them.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, ResolveFlags};

use super::mounts::{Mount, mounts, on_the_way};
use super::plain::{Stop, folders_near};
use super::spared::{FileId, is_plain};
use super::{ActError, failed};

/// The longest path that the kernel takes (`PATH_MAX`).
const PATH_BYTES: usize = 4096;

/// A name in a folder that is held open.
#[derive(Debug)]
pub struct Place {
    folder: OwnedFd,
    above: Vec<FileId>,
    name: OsString,
    path: PathBuf,
}

/// A file that is held without being opened.
#[derive(Debug)]
pub struct Found {
    handle: File,
    /// What it is.
    pub metadata: Metadata,
}

impl Found {
    /// Which file.
    #[must_use]
    pub fn id(&self) -> FileId {
        FileId::of(&self.metadata)
    }

    /// Opens this very file for reading, whatever its name leads to by now.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open(&self) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOATIME;
        let path = format!("/proc/self/fd/{}", self.handle.as_raw_fd());
        Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
    }

    /// Looks again at this very file.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn look_again(&self) -> io::Result<Metadata> {
        self.handle.metadata()
    }
}

impl AsFd for Found {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

impl Place {
    /// Finds the folder of `path` and holds it.
    ///
    /// # Errors
    /// If the path is not plain, leads over a symbolic link, onto a filesystem that others answer for,
    /// or into nowhere.
    pub fn find(path: &Path) -> Result<Self, ActError> {
        Self::find_among(&mounts().map_err(failed("reading the mount table"))?, path)
    }

    /// The same, where the mount table was read already.
    ///
    /// # Errors
    /// As [`Place::find`].
    pub fn find_among(mounts: &[Mount], path: &Path) -> Result<Self, ActError> {
        let shown = path.display();
        if !is_plain(path) || path.as_os_str().len() >= PATH_BYTES {
            return Err(ActError::unfit(format!(
                "{shown:?} is no absolute path of at most {PATH_BYTES} bytes without . and .."
            )));
        }
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(ActError::unfit(format!("{shown} is no file")));
        };
        let way = on_the_way(mounts, path);
        if let Some(mount) = way.iter().find(|mount| !mount.is_local() && !is_passed(mount, &way)) {
            return Err(ActError::unfit(format!(
                "{shown} is on {} ({}): only files on a disk or in memory of this machine are touched; \
                 do it where the file is kept",
                mount.point.display(),
                mount.kind
            )));
        }
        let mounted =
            || ActError::unfit(format!("what {shown} is on was mounted just now: try again"));
        // What the root itself is on is in the table, or nobody knows who answers.
        if way.last().is_none_or(|first| first.point != Path::new("/")) {
            return Err(mounted());
        }
        let no_folder = || ActError::not_there(format!("the folder of {shown} is not there"));
        let linked = || {
            ActError::unfit(format!(
                "the way to {shown} leads over a symbolic link: name the file by its real path"
            ))
        };
        let (folder, above) = match folders_near(mounts, folder) {
            Ok(found) => found,
            Err(Stop::Link) => return Err(linked()),
            Err(Stop::Mounted) => return Err(mounted()),
            Err(Stop::Kernel(Errno::ENOENT | Errno::ENOTDIR)) => return Err(no_folder()),
            Err(Stop::Kernel(errno)) => {
                return Err(failed(format!("opening the folder of {shown}"))(errno));
            }
        };
        Ok(Self { folder, above, name: name.to_owned(), path: path.to_owned() })
    }

    /// The folder, held.
    pub(super) fn folder(&self) -> &OwnedFd {
        &self.folder
    }

    /// The path that it was found by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What has the name now, held; `None` if nothing has.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn found(&self) -> Result<Option<Found>, ActError> {
        self.found_as(&self.name)
    }

    /// What has `name` in the same folder now.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn found_as(&self, name: &OsStr) -> Result<Option<Found>, ActError> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let looking = || failed(format!("looking at {}", self.path.display()));
        // Of what is mounted under the very name nobody is asked anything, either.
        let within = ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(&self.folder, name, flags, Mode::empty(), within) {
            Ok(handle) => {
                let handle = File::from(handle);
                let metadata = handle.metadata().map_err(looking())?;
                Ok(Some(Found { handle, metadata }))
            }
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(rustix::io::Errno::XDEV) => Err(ActError::unfit(format!(
                "another file is mounted over {}: unmount it first",
                self.path.with_file_name(name).display()
            ))),
            Err(error) => Err(looking()(error.into())),
        }
    }

    /// The same, if it is a regular file on the folder's own filesystem.
    ///
    /// # Errors
    /// If nothing is there, or something that has no content of its own.
    pub fn file(&self) -> Result<Found, ActError> {
        let shown = self.path.display();
        let Some(found) = self.found()? else {
            return Err(ActError::not_there(format!("{shown} is not there")));
        };
        let kind = found.metadata.file_type();
        let is = if kind.is_file() {
            None
        } else if kind.is_dir() {
            Some("a folder: name its files one by one")
        } else if kind.is_symlink() {
            Some("a symbolic link: name the file that it leads to")
        } else if kind.is_fifo() || kind.is_socket() {
            Some("a pipe or socket, which has no content")
        } else {
            Some("a device")
        };
        if let Some(is) = is {
            return Err(ActError::unfit(format!("{shown} is {is}")));
        }
        Ok(found)
    }

    /// Gives what has the name another one, if that is free.
    ///
    /// # Errors
    /// What the kernel says: `EEXIST` if it is not.
    pub fn rename(&self, from: &OsStr, to: &OsStr) -> rustix::io::Result<()> {
        rustix::fs::renameat_with(&self.folder, from, &self.folder, to, RenameFlags::NOREPLACE)
    }

    /// Removes `name` from the folder.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn unlink(&self, name: &OsStr) -> rustix::io::Result<()> {
        rustix::fs::unlinkat(&self.folder, name, AtFlags::empty())
    }

    /// Gives `file`, which was made by [`Place::nameless`], the name of this place, if it is free.
    ///
    /// # Errors
    /// What the kernel says: `EEXIST` if it is not.
    pub fn link(&self, file: &impl AsFd) -> rustix::io::Result<()> {
        rustix::fs::linkat(file, "", &self.folder, &self.name, AtFlags::EMPTY_PATH)
    }

    /// A new file on the folder's filesystem, without a name: nobody sees it before it is whole, and a
    /// crash leaves nothing of it.
    ///
    /// # Errors
    /// What the kernel says: `EOPNOTSUPP` where the filesystem has no such files.
    pub fn nameless(&self) -> rustix::io::Result<File> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        rustix::fs::openat(&self.folder, ".", flags, Mode::RUSR | Mode::WUSR).map(File::from)
    }

    /// A new file with `name`, for filesystems that have no nameless ones.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn make(&self, name: &OsStr) -> rustix::io::Result<File> {
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.folder, name, flags, Mode::RUSR | Mode::WUSR).map(File::from)
    }

    /// Its name in the folder.
    #[must_use]
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// Flushes the folder: which names it has is on disk on return.
    ///
    /// # Errors
    /// What the disk says.
    pub fn flush(&self) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::fsync(rustix::fs::openat(&self.folder, ".", flags, Mode::empty())?)?)
    }

    /// Whether the folder is the one that it was, by its inode.
    #[must_use]
    pub fn folder_id(&self) -> Option<FileId> {
        let found = rustix::fs::fstat(&self.folder).ok()?;
        Some(FileId { device: found.st_dev, inode: found.st_ino })
    }

    /// The folders that the file is below, the root first, by what they were when they were passed: nobody is asked anew.
    #[must_use]
    pub fn above(&self) -> &[FileId] {
        &self.above
    }

    /// How many bytes the folder's filesystem has room for.
    #[must_use]
    pub fn room(&self) -> Option<u64> {
        let found = rustix::fs::fstatvfs(&self.folder).ok()?;
        found.f_bavail.checked_mul(found.f_frsize)
    }
}

/// A filesystem of the kernel's that is only passed through: `/dev` on the way to `/dev/shm`.
fn is_passed(mount: &Mount, way: &[&Mount]) -> bool {
    let is_last = way.first().is_some_and(|last| last.id == mount.id);
    !is_last && matches!(mount.kind.as_str(), "devtmpfs" | "sysfs" | "rootfs")
}

/// How many other names the file has.
#[must_use]
pub fn other_names(metadata: &Metadata) -> u64 {
    metadata.nlink().saturating_sub(1)
}
