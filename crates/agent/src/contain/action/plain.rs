//! Plain files at hostile places, read without waiting for anybody.
//!
//! A path may lead over a symbolic link that somebody planted, to a pipe that nobody writes to, or to a
//! device that does something when it is opened. So the path is walked with no link allowed anywhere in
//! it (`openat2`, RESOLVE_NO_SYMLINKS), to a handle that opens nothing (`O_PATH`); only when that is seen
//! to be a plain file is the very same file opened for reading.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2, readlinkat};
use nix::sys::stat::{FileStat, SFlag, fstat};

use super::mounts::{Mount, far, on_the_way};
use super::spared::FileId;

/// What is at a path, as it was seen before it was opened.
#[derive(Debug)]
pub struct Seen {
    handle: OwnedFd,
    /// What the system says of it.
    pub status: FileStat,
}

/// Looks at `path`, which must be absolute, and opens nothing.
///
/// # Errors
/// When nothing is there, or a link is on the way: then the words say so.
pub fn look(path: &Path) -> io::Result<Seen> {
    look_with(path, OFlag::empty())
}

/// The same, but a symbolic link at the very end of `path` is itself what is looked at. It is not followed
/// either.
///
/// # Errors
/// As [`look`].
pub fn look_at_itself(path: &Path) -> io::Result<Seen> {
    look_with(path, OFlag::O_NOFOLLOW)
}

fn look_with(path: &Path, more: OFlag) -> io::Result<Seen> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC | more)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let handle = openat2(AT_FDCWD, path, how).map_err(|errno| match errno {
        Errno::ELOOP => io::Error::other("a symbolic link is on the way, and is not followed"),
        errno => errno.into(),
    })?;
    let status = fstat(handle.as_fd())?;
    Ok(Seen { handle, status })
}

/// The same, over no mount that is not in `mounts`, and none of those that others answer for: so nobody waits, whatever
/// was mounted somewhere since that table was read.
///
/// # Errors
/// As [`look`]; [`Far`] inside, where others would have to answer.
pub fn look_near(mounts: &[Mount], path: &Path) -> io::Result<Seen> {
    if let Some(mount) = far(mounts, path) {
        return Err(io::Error::other(Far(mount.kind.clone())));
    }
    let handle = walk_near(mounts, path)?;
    let status = fstat(handle.as_fd())?;
    Ok(Seen { handle, status })
}

/// What is called `name` in `folder`, which is at `path`; over no mount but those in `mounts`, as [`look_near`]. A
/// symbolic link is itself what is looked at.
///
/// # Errors
/// As [`look_near`].
pub fn look_in(mounts: &[Mount], folder: &Seen, path: &Path, name: &OsStr) -> io::Result<Seen> {
    match step(folder.as_fd(), Path::new(name), ResolveFlag::RESOLVE_NO_XDEV) {
        Ok(handle) => {
            let status = fstat(handle.as_fd())?;
            Ok(Seen { handle, status })
        }
        // A mount begins there.
        Err(Stop::Mounted) => look_near(mounts, &path.join(name)),
        Err(stop) => Err(stop.into()),
    }
}

/// Which plain file is at `path`, whose links were followed already; `None` if none is, or others would have to answer.
#[must_use]
pub fn file_near(mounts: &[Mount], path: &Path) -> Option<FileId> {
    let seen = look_near(mounts, path).ok().filter(|seen| seen.kind() == "plain file")?;
    Some(FileId { device: seen.status.st_dev, inode: seen.status.st_ino })
}

/// Why a way is not gone to its end.
#[derive(Debug)]
pub(super) enum Stop {
    /// A symbolic link is on it.
    Link,
    /// Something was mounted on it since the table was read.
    Mounted,
    /// What the kernel says.
    Kernel(Errno),
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::ELOOP => Self::Link,
            Errno::EXDEV => Self::Mounted,
            errno => Self::Kernel(errno),
        }
    }
}

impl From<Stop> for io::Error {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Link => Self::other("a symbolic link is on the way, and is not followed"),
            Stop::Mounted => Self::other(Far("something that was mounted just now".to_owned())),
            Stop::Kernel(errno) => errno.into(),
        }
    }
}

/// Goes the way to `path`, which must be absolute, from one mount of `mounts` to the next, and crosses to no other: nobody
/// but the filesystems in that table is asked anything. What is at its end is held, and not opened; a symbolic link there
/// is itself what is held. Which filesystems the way leads over is for the caller to judge.
///
/// # Errors
/// [`Stop`].
fn walk_near(mounts: &[Mount], path: &Path) -> Result<OwnedFd, Stop> {
    walk(mounts, path, None)
}

/// The same to a folder, step by step, and each folder on the way as it is, the root first.
///
/// # Errors
/// [`Stop`]: also where the last is no folder.
pub(super) fn folders_near(mounts: &[Mount], path: &Path) -> Result<(OwnedFd, Vec<FileId>), Stop> {
    let mut passed = Vec::new();
    let folder = walk(mounts, path, Some(&mut passed))?;
    Ok((folder, passed))
}

fn walk(
    mounts: &[Mount],
    path: &Path,
    mut passed: Option<&mut Vec<FileId>>,
) -> Result<OwnedFd, Stop> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_DIRECTORY;
    let mut from = nix::fcntl::open("/", flags, nix::sys::stat::Mode::empty())?;
    note(&from, &mut passed)?;
    let mut at = Path::new("/");
    let mut way = on_the_way(mounts, path);
    way.retain(|mount| mount.point != Path::new("/"));
    while let Some(mount) = way.pop() {
        let (Some(above), Some(name)) = (mount.point.parent(), mount.point.file_name()) else {
            continue;
        };
        from = on_one_mount(from, above.strip_prefix(at).unwrap_or(above), &mut passed)?;
        // The one step that crosses: what is mounted there is asked nothing by it, and then not before it is known.
        from = step(from.as_fd(), Path::new(name), ResolveFlag::empty())?;
        if mount_of(&from) != Some(mount.id) {
            return Err(Stop::Mounted);
        }
        note(&from, &mut passed)?;
        at = &mount.point;
    }
    on_one_mount(from, path.strip_prefix(at).unwrap_or(path), &mut passed)
}

/// Goes on from `from` without leaving its mount: in one step, or folder by folder where these are to be noted.
fn on_one_mount(
    mut from: OwnedFd,
    way: &Path,
    passed: &mut Option<&mut Vec<FileId>>,
) -> Result<OwnedFd, Stop> {
    if way.as_os_str().is_empty() {
        return Ok(from);
    }
    if passed.is_none() {
        return step(from.as_fd(), way, ResolveFlag::RESOLVE_NO_XDEV);
    }
    for part in way {
        from = step(from.as_fd(), Path::new(part), ResolveFlag::RESOLVE_NO_XDEV)?;
        note(&from, passed)?;
    }
    Ok(from)
}

fn step(from: BorrowedFd<'_>, way: &Path, more: ResolveFlag) -> Result<OwnedFd, Stop> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let within = ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    Ok(openat2(from, way, OpenHow::new().flags(flags).resolve(within | more))?)
}

/// Notes which folder it is, if that is wanted.
fn note(at: &OwnedFd, passed: &mut Option<&mut Vec<FileId>>) -> Result<(), Stop> {
    let Some(passed) = passed else { return Ok(()) };
    let status = fstat(at.as_fd())?;
    match SFlag::from_bits_truncate(status.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFDIR => {}
        SFlag::S_IFLNK => return Err(Stop::Link),
        _ => return Err(Stop::Kernel(Errno::ENOTDIR)),
    }
    passed.push(FileId { device: status.st_dev, inode: status.st_ino });
    Ok(())
}

/// Others would have to answer, who may never do so: which filesystem.
#[derive(Debug, thiserror::Error)]
#[error("it is on {0}, whose answers may never come")]
pub struct Far(pub String);

/// The kernel's number of the mount that `fd` was opened on.
fn mount_of(fd: &impl std::os::fd::AsRawFd) -> Option<u64> {
    let facts = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
    facts.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().parse().ok()
}

impl AsFd for Seen {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

impl Seen {
    /// In a word: `plain file`, `folder`, `pipe`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match SFlag::from_bits_truncate(self.status.st_mode & SFlag::S_IFMT.bits()) {
            SFlag::S_IFREG => "plain file",
            SFlag::S_IFDIR => "folder",
            SFlag::S_IFLNK => "symbolic link",
            SFlag::S_IFIFO => "pipe",
            SFlag::S_IFSOCK => "socket",
            SFlag::S_IFCHR | SFlag::S_IFBLK => "device",
            _ => "something unknown",
        }
    }

    /// Opens it to read, if it is a plain file.
    ///
    /// # Errors
    /// When it is none, or the system refuses.
    pub fn open(&self) -> io::Result<File> {
        if self.kind() != "plain file" {
            return Err(io::Error::other(format!("it is no plain file but a {}", self.kind())));
        }
        Ok(self.opened(OFlag::O_NOCTTY)?.into())
    }

    /// The first `most` names in it, if it is a folder, and whether these are all.
    ///
    /// # Errors
    /// When it is none, or the system refuses.
    pub fn names(&self, most: usize) -> io::Result<(Vec<OsString>, bool)> {
        let mut names = Vec::new();
        let mut folder = rustix::fs::Dir::new(self.opened(OFlag::O_DIRECTORY)?)?;
        while let Some(entry) = folder.read() {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            if names.len() == most {
                return Ok((names, false));
            }
            names.push(name.to_owned());
        }
        Ok((names, true))
    }

    /// What it leads to, if it is a symbolic link.
    ///
    /// # Errors
    /// When it is none.
    pub fn target(&self) -> io::Result<OsString> {
        Ok(readlinkat(self.handle.as_fd(), "")?)
    }

    /// Opens the very thing that was looked at, wherever its name is now: the way through /proc leads there.
    /// When it was read last is left as it was, where the system allows that: a look is no use of it.
    fn opened(&self, more: OFlag) -> io::Result<OwnedFd> {
        let path = format!("/proc/self/fd/{}", self.handle.as_raw_fd());
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | more;
        let open = |flags| nix::fcntl::open(Path::new(&path), flags, nix::sys::stat::Mode::empty());
        Ok(open(flags | OFlag::O_NOATIME).or_else(|errno| match errno {
            Errno::EPERM => open(flags),
            errno => Err(errno),
        })?)
    }
}

/// The first `most` bytes of the plain file at `path`.
///
/// # Errors
/// As [`look`] and [`Seen::open`].
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    look(path)?.open()?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The same, over no mount that others answer for, or that is not in `mounts`.
///
/// # Errors
/// As [`look_near`] and [`Seen::open`].
pub fn read_near(mounts: &[Mount], path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    look_near(mounts, path)?.open()?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_plain_files_are_opened_and_no_link_is_followed_anywhere() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().canonicalize().unwrap().join(name);
        std::fs::create_dir(at("inner")).unwrap();
        std::fs::write(at("inner/secret"), "12345").unwrap();
        symlink(at("inner/secret"), at("link")).unwrap();
        symlink(at("inner"), at("way")).unwrap();
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        assert_eq!(read(&at("inner/secret"), 3).unwrap(), b"123");
        for (name, because) in [
            ("link", "symbolic link"),
            ("way/secret", "symbolic link"),
            ("pipe", "pipe"),
            ("socket", "socket"),
            ("inner", "folder"),
        ] {
            let error = read(&at(name), 9).unwrap_err().to_string();
            assert!(error.contains(because), "{name}: {error}");
        }
        let error = read(Path::new("/dev/null"), 9).unwrap_err().to_string();
        assert!(error.contains("device"), "{error}");
        assert!(read(&at("nothing"), 9).is_err());
    }

    #[test]
    fn a_folder_tells_its_names_up_to_a_limit_and_a_link_where_it_leads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        for name in ["a", "b", "c"] {
            std::fs::write(path.join(name), "").unwrap();
        }
        let seen = look(&path).unwrap();
        let (mut names, is_all) = seen.names(3).unwrap();
        names.sort();
        assert_eq!((names, is_all), (["a", "b", "c"].map(OsString::from).to_vec(), true));
        let (names, is_all) = seen.names(2).unwrap();
        assert_eq!((names.len(), is_all), (2, false));
        assert!(look(&path.join("a")).unwrap().names(9).is_err());
        symlink("../nowhere", path.join("link")).unwrap();
        let link = look_at_itself(&path.join("link")).unwrap();
        assert_eq!((link.kind(), link.target().unwrap()), ("symbolic link", "../nowhere".into()));
        assert!(link.open().is_err());
        symlink(&path, path.join("way")).unwrap();
        assert!(look_at_itself(&path.join("way/a")).is_err(), "none on the way");
    }

    #[test]
    fn what_was_looked_at_is_what_is_opened_whatever_stands_there_by_then() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().join("file");
        std::fs::write(&path, "first").unwrap();
        let seen = look(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut text = String::new();
        seen.open().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "first");
    }
}
