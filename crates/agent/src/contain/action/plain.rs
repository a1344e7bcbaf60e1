//! Plain files at hostile places, read without waiting for anybody.
//!
//! A path may lead over a symbolic link that somebody planted, to a pipe that nobody writes to, or to a
//! device that does something when it is opened. So the path is walked with no link allowed anywhere in
//! it (`openat2`, RESOLVE_NO_SYMLINKS), to a handle that opens nothing (`O_PATH`); only when that is seen
//! to be a plain file is the very same file opened for reading.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
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
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let handle = openat2(AT_FDCWD, path, how).map_err(|errno| match errno {
        Errno::ELOOP => io::Error::other("a symbolic link is on the way, and is not followed"),
        errno => errno.into(),
    })?;
    let status = fstat(handle.as_fd())?;
    Ok(Seen { handle, status })
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
        // The way through /proc leads to the very file that was looked at, wherever its name is now.
        let path = format!("/proc/self/fd/{}", self.handle.as_raw_fd());
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
        let opened = nix::fcntl::open(Path::new(&path), flags, nix::sys::stat::Mode::empty())?;
        Ok(opened.into())
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
