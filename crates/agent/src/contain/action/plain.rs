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
