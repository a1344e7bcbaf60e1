//! What a file is besides its content, and putting all of that on a new one.
//!
//! Owner, group, mode, times to the nanosecond; every extended attribute, which on Linux holds access
//! control lists, file capabilities and SELinux labels too; the inode's flags (immutable, append-only and
//! the rest). What no program can set is kept only to be told: the inode's number and the time of its
//! last change.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use rustix::fs::{Gid, IFlags, Mode, Timespec, Timestamps, Uid, XattrFlags};
use serde::{Deserialize, Serialize};

use super::super::path_bytes;
use super::super::spared::FileId;

/// Names and values of all attributes of one file: 16 of the longest (64 KiB, `XATTR_SIZE_MAX`).
pub const ATTRIBUTE_BYTES: usize = 1 << 20;

/// The flags that `chattr` may set (linux/fs.h, `FS_FL_USER_MODIFIABLE`, and those of btrfs, ext4 and
/// xfs that belong to them): s u c S i a d A j t T C P. The others say how the filesystem keeps the file.
const SETTABLE: u32 =
    0x0000_00FF | 0x0000_4000 | 0x0000_8000 | 0x0002_0000 | 0x0080_0000 | 0x2000_0000;
/// Set by a call of its own (fs-verity), and not put back.
const VERITY: u32 = 0x0010_0000;
/// Those that keep a file from being removed.
const HINDERING: u32 = 0x10 | 0x20;

/// One extended attribute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attribute {
    /// Its name: `security.capability`.
    #[serde(with = "serde_bytes")]
    pub name: Vec<u8>,
    /// Its value.
    #[serde(with = "serde_bytes")]
    pub value: Vec<u8>,
}

/// Seconds and nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FileTime(pub (i64, u32));

/// What a file was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// Where it was.
    #[serde(with = "path_bytes")]
    pub path: PathBuf,
    /// Which file it was.
    pub file: FileId,
    /// Which folder it was in, by its inode.
    pub folder: FileId,
    /// How many other names it had.
    pub other_names: u64,
    /// Its size, holes included.
    pub size: u64,
    /// Permissions, with set-user-id, set-group-id and sticky.
    pub mode: u32,
    /// Its owner.
    pub user: u32,
    /// Its group.
    pub group: u32,
    /// When it was read last.
    pub accessed: FileTime,
    /// When its content was changed last.
    pub modified: FileTime,
    /// When anything of it was changed last.
    pub changed: FileTime,
    /// The inode's flags, where the filesystem has any.
    pub flags: Option<u32>,
    /// The extended attributes, by name.
    pub attributes: Vec<Attribute>,
}

impl Metadata {
    /// Reads it from `file`, which was found at `path` in `folder`.
    ///
    /// # Errors
    /// What the kernel says, or if the attributes are too long.
    pub fn read(file: &File, path: PathBuf, folder: FileId) -> io::Result<Self> {
        let found = file.metadata()?;
        Ok(Self {
            path,
            file: FileId::of(&found),
            folder,
            other_names: found.nlink().saturating_sub(1),
            size: found.size(),
            mode: found.mode() & 0o7777,
            user: found.uid(),
            group: found.gid(),
            accessed: time(found.atime(), found.atime_nsec()),
            modified: time(found.mtime(), found.mtime_nsec()),
            changed: time(found.ctime(), found.ctime_nsec()),
            flags: flags(file),
            attributes: attributes(file)?,
        })
    }

    /// Whether `now` is the same file with the same content, as far as the kernel tells.
    #[must_use]
    pub fn is_unchanged(&self, now: &std::fs::Metadata) -> bool {
        FileId::of(now) == self.file
            && now.size() == self.size
            && time(now.mtime(), now.mtime_nsec()) == self.modified
    }

    /// The same as `now` in all but its flags.
    #[must_use]
    pub fn is_but_for_flags(&self, now: &Self) -> bool {
        let bare = |one: &Self| Self { flags: None, ..one.clone() };
        bare(self).differs(&bare(now)).is_empty()
    }

    /// Whether its flags keep it from being removed.
    #[must_use]
    pub fn is_hindered(&self) -> bool {
        self.flags.is_some_and(|flags| flags & HINDERING != 0)
    }

    /// Takes the flags off `file` that keep it from being removed.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn unhinder(&self, file: &impl AsFd) -> io::Result<()> {
        let Some(flags) = self.flags.filter(|_| self.is_hindered()) else { return Ok(()) };
        Ok(rustix::fs::ioctl_setflags(file, IFlags::from_bits_retain(flags & !HINDERING))?)
    }

    /// Puts everything on `file` but the flags: [`Metadata::put_flags`] comes last, for an immutable file
    /// takes nothing more.
    ///
    /// # Errors
    /// What the kernel says of owner, mode or times. What else it does not take is given back in words.
    pub fn put_on(&self, file: &File) -> io::Result<Vec<String>> {
        let mut differs = Vec::new();
        // In this order: a new owner takes set-user-id and capabilities away, a list changes the mode.
        rustix::fs::fchown(file, Some(Uid::from_raw(self.user)), Some(Gid::from_raw(self.group)))?;
        rustix::fs::fchmod(file, Mode::from_bits_retain(self.mode))?;
        for Attribute { name, value } in &self.attributes {
            let put = rustix::fs::fsetxattr(file, name.as_slice(), value, XattrFlags::empty());
            if let Err(error) = put {
                let name = String::from_utf8_lossy(name);
                differs.push(format!("its attribute {name} can't be set: {error}"));
            }
        }
        let times = Timestamps {
            last_access: timespec(self.accessed),
            last_modification: timespec(self.modified),
        };
        rustix::fs::futimens(file, &times)?;
        Ok(differs)
    }

    /// Puts the flags on `file`, if they differ.
    #[must_use]
    pub fn put_flags(&self, file: &impl AsFd) -> Option<String> {
        let (meant, now) = (self.flags?, flags(file)?);
        if meant & SETTABLE == now & SETTABLE {
            return None;
        }
        let all = IFlags::from_bits_retain(now & !SETTABLE | meant & SETTABLE);
        let put = rustix::fs::ioctl_setflags(file, all);
        put.err().map(|error| format!("its flags (chattr) can't be set: {error}"))
    }

    /// What of `now` is not as it was, in words, save what no program can set.
    #[must_use]
    pub fn differs(&self, now: &Self) -> Vec<String> {
        let compared = |flags: Option<u32>| flags.map(|flags| flags & (SETTABLE | VERITY));
        let is_same = [
            (self.size == now.size, "its size is another"),
            (self.mode == now.mode, "its mode is another"),
            (self.user == now.user && self.group == now.group, "its owner is another"),
            (self.modified == now.modified, "the time of its last change is another"),
            (self.attributes == now.attributes, "its extended attributes are others"),
            (compared(self.flags) == compared(now.flags), "its flags (chattr) are others"),
        ];
        is_same.into_iter().filter(|(same, _)| !same).map(|(_, what)| what.to_owned()).collect()
    }
}

fn time(seconds: i64, nanos: i64) -> FileTime {
    FileTime((seconds, u32::try_from(nanos).unwrap_or(0)))
}

fn timespec(FileTime((seconds, nanos)): FileTime) -> Timespec {
    Timespec { tv_sec: seconds, tv_nsec: nanos.into() }
}

/// `None` where the filesystem has none.
fn flags(file: &impl AsFd) -> Option<u32> {
    rustix::fs::ioctl_getflags(file).ok().map(|flags| flags.bits())
}

/// All attributes, by name; none where the filesystem has none.
fn attributes(file: &File) -> io::Result<Vec<Attribute>> {
    let names = match grown(|buffer| rustix::fs::flistxattr(file, buffer)) {
        Err(rustix::io::Errno::OPNOTSUPP) => return Ok(Vec::new()),
        names => names?,
    };
    let mut found = Vec::new();
    let mut bytes = 0;
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let value = match grown(|buffer| rustix::fs::fgetxattr(file, name, buffer)) {
            // Removed since the names were listed.
            Err(rustix::io::Errno::NODATA) => continue,
            value => value?,
        };
        bytes += name.len() + value.len();
        if bytes > ATTRIBUTE_BYTES {
            let why = format!("its extended attributes have more than {ATTRIBUTE_BYTES} bytes");
            return Err(io::Error::other(why));
        }
        found.push(Attribute { name: name.to_vec(), value });
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

/// Reads into a buffer as long as it takes, at most [`ATTRIBUTE_BYTES`].
fn grown(
    mut read: impl FnMut(&mut [u8]) -> rustix::io::Result<usize>,
) -> rustix::io::Result<Vec<u8>> {
    let mut buffer = vec![0; 1 << 10];
    loop {
        match read(&mut buffer) {
            Err(rustix::io::Errno::RANGE) if buffer.len() < ATTRIBUTE_BYTES => {
                buffer.resize(buffer.len() * 4, 0);
            }
            Err(error) => return Err(error),
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
        }
    }
}

#[cfg(test)]
pub(in crate::contain) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub fn plain() -> Metadata {
        Metadata {
            path: "/tmp/a file".into(),
            file: FileId { device: 1, inode: 2 },
            folder: FileId { device: 1, inode: 3 },
            other_names: 0,
            size: 0,
            mode: 0o644,
            user: 0,
            group: 0,
            accessed: FileTime((1, 2)),
            modified: FileTime((3, 4)),
            changed: FileTime((5, 6)),
            flags: None,
            attributes: Vec::new(),
        }
    }

    pub fn any_metadata() -> impl Strategy<Value = Metadata> {
        use std::os::unix::ffi::OsStringExt as _;
        let bytes = || prop::collection::vec(any::<u8>(), 0..200);
        let attribute = (bytes(), bytes()).prop_map(|(name, value)| Attribute { name, value });
        let attributes = prop::collection::vec(attribute, 0..4);
        (bytes(), any::<u64>(), any::<i64>(), any::<Option<u32>>(), attributes).prop_map(
            |(path, number, seconds, flags, attributes)| Metadata {
                path: std::ffi::OsString::from_vec(path).into(),
                file: FileId { device: number, inode: !number },
                other_names: number,
                accessed: FileTime((seconds, 999_999_999)),
                flags,
                attributes,
                ..plain()
            },
        )
    }

    #[test]
    fn all_that_can_be_set_is_put_on_another_file() {
        if cordon_tests::lacks_root("giving files away") {
            return;
        }
        let one = tempfile::tempfile().unwrap();
        let set = |name: &str, value: &[u8]| {
            rustix::fs::fsetxattr(&one, name, value, XattrFlags::empty())
        };
        rustix::fs::fchown(&one, Some(Uid::from_raw(12)), Some(Gid::from_raw(34))).unwrap();
        rustix::fs::fchmod(&one, Mode::from_bits_retain(0o4751)).unwrap();
        let _ = set("user.note", b"a\0b");
        // CAP_NET_RAW, effective (linux/capability.h, VFS_CAP_REVISION_2).
        let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        set("security.capability", &capability).unwrap();
        let times = Timestamps {
            last_access: Timespec { tv_sec: 1_000, tv_nsec: 7 },
            last_modification: Timespec { tv_sec: -5, tv_nsec: 999_999_999 },
        };
        rustix::fs::futimens(&one, &times).unwrap();
        let folder = FileId { device: 0, inode: 0 };
        let before = Metadata::read(&one, "/x".into(), folder).unwrap();
        assert_eq!(before.modified, FileTime((-5, 999_999_999)));
        assert!(before.attributes.iter().any(|attribute| attribute.name == b"security.capability"));
        let other = tempfile::tempfile().unwrap();
        assert_eq!(before.put_on(&other).unwrap(), Vec::<String>::new());
        assert_eq!(before.put_flags(&other), None);
        let after = Metadata::read(&other, "/x".into(), folder).unwrap();
        assert_eq!(before.differs(&after), Vec::<String>::new());
        assert_eq!(after.accessed, before.accessed);
        assert_eq!(after.mode, 0o4751);
    }

    #[test]
    fn what_differs_is_named() {
        let other = Metadata {
            mode: 0o600,
            attributes: vec![Attribute { name: b"user.x".to_vec(), value: vec![] }],
            ..plain()
        };
        let differs = plain().differs(&other);
        assert_eq!(differs, ["its mode is another", "its extended attributes are others"]);
    }
}
