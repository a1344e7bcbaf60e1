//! What stands at a place, with all that is needed to put it there again but its content, which is kept beside.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use cordon_model::action::{FilePath, Sha256Digest};
use cordon_model::change::{Stood, WORD_BYTES};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::limits;
use crate::contain::action::mounts::Mount;
use crate::contain::action::plain::{self, Seen};
use crate::contain::action::quarantine::metadata::{Attribute, FileTime, Metadata};
use crate::contain::action::spared::FileId;

/// Files are read in pieces of so much: one that is not kept is never in memory whole.
const PIECE_BYTES: usize = 64 << 10;

/// What stands at a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Standing {
    /// Nothing.
    Nothing,
    /// A plain file.
    File(Box<FileStanding>),
    /// A symbolic link.
    Link(LinkStanding),
    /// Something of which nothing is kept, and what.
    Other(String),
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileStanding {
    /// All that it is besides its content.
    pub metadata: Metadata,
    /// Of its content.
    pub sha256: Sha256Digest,
    /// Whether its content is kept.
    pub is_kept: bool,
    /// Whether everybody might read it where it lay: what it says may be shown then.
    #[serde(default)]
    pub is_open: bool,
}

/// A link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkStanding {
    /// Which inode.
    pub file: FileId,
    /// Where it leads.
    #[serde(with = "serde_bytes")]
    pub target: Vec<u8>,
    /// Its owner.
    pub user: u32,
    /// Its group.
    pub group: u32,
    /// When it was made.
    pub modified: FileTime,
}

/// It changes while it is read, or the system has no room for a look just now: to be looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restless;

/// How a place is looked at.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// Where the machine's file system begins.
    pub root: &'a Path,
    /// What is mounted: nothing is asked of what others answer for.
    pub mounts: &'a [Mount],
    /// The largest file that is read.
    pub hashed_bytes: u64,
    /// How many bytes were read, all tries together.
    pub read: &'a Cell<u64>,
}

impl Standing {
    /// Whether both are the same to whoever uses them: content, owner, rights, attributes, time of the last change;
    /// not the inode's number.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Nothing, Self::Nothing) => true,
            (Self::File(one), Self::File(other)) => {
                one.sha256 == other.sha256 && one.metadata.differs(&other.metadata).is_empty()
            }
            (Self::Link(one), Self::Link(other)) => {
                (&one.target, one.user, one.group, one.modified)
                    == (&other.target, other.user, other.group, other.modified)
            }
            (Self::Other(one), Self::Other(other)) => one == other,
            _ => false,
        }
    }

    /// The same but for the flags (chattr) of a file: whoever sets one takes nothing from anybody.
    #[must_use]
    pub fn is_but_for_flags(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File(one), Self::File(other)) => {
                one.sha256 == other.sha256 && one.metadata.is_but_for_flags(&other.metadata)
            }
            _ => self.is(other),
        }
    }

    /// The same in the words of an answer.
    #[must_use]
    pub fn told(&self) -> Stood {
        match self {
            Self::Nothing => Stood::Nothing,
            Self::File(file) => Stood::File {
                sha256: file.sha256,
                bytes: file.metadata.size,
                rights: format!(
                    "{}:{} {:o}",
                    file.metadata.user, file.metadata.group, file.metadata.mode
                ),
                is_kept: file.is_kept,
            },
            Self::Link(link) => Stood::Link {
                sha256: Sha256Digest(Sha256::digest(&link.target).into()),
                to: cut(&String::from_utf8_lossy(&link.target), WORD_BYTES),
            },
            Self::Other(what) => Stood::Other(cut(what, WORD_BYTES)),
        }
    }

    /// By what an order names it.
    #[must_use]
    pub fn sha256(&self) -> Option<Sha256Digest> {
        self.told().sha256()
    }

    /// What it takes to know it at `path`, about: in bytes.
    #[must_use]
    pub fn weight(&self, path: &FilePath) -> usize {
        let name = path.as_bytes().len();
        match self {
            Self::Nothing => 0,
            Self::File(file) => {
                let one = |one: &Attribute| one.name.len() + one.value.len() + 32;
                2 * name + 384 + file.metadata.attributes.iter().map(one).sum::<usize>()
            }
            Self::Link(link) => name + 192 + link.target.len(),
            Self::Other(what) => name + 64 + what.len(),
        }
    }

    /// Which inode it was.
    #[must_use]
    pub fn file(&self) -> Option<FileId> {
        match self {
            Self::File(file) => Some(file.metadata.file),
            Self::Link(link) => Some(link.file),
            Self::Nothing | Self::Other(_) => None,
        }
    }
}

/// Looks at `path`, over no symbolic link and no late mount, and leaves when it was read last as it was. The content comes
/// with a file of which it may be kept. What can't be looked at is something else than it was, too.
///
/// # Errors
/// [`Restless`].
pub fn look(path: &Path, view: View<'_>) -> Result<(Standing, Option<Vec<u8>>), Restless> {
    let looked = plain::look_near(view.mounts, path).and_then(|seen| match seen.kind() {
        "plain file" => of_file(path, &seen, view),
        "symbolic link" => Ok(Some((Standing::Link(of_link(&seen)?), None))),
        other => Ok(Some((Standing::Other(format!("a {other}")), None))),
    });
    match looked {
        Ok(looked) => looked.ok_or(Restless),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok((Standing::Nothing, None)),
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::OutOfMemory => {
                Err(Restless)
            }
            _ if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => Err(Restless),
            _ => {
                Ok((Standing::Other(cut(&format!("what can't be looked at: {error}"), 128)), None))
            }
        },
    }
}

fn of_link(seen: &Seen) -> io::Result<LinkStanding> {
    use std::os::unix::ffi::OsStringExt as _;
    let status = &seen.status;
    Ok(LinkStanding {
        file: FileId { device: status.st_dev, inode: status.st_ino },
        target: seen.target()?.into_vec(),
        user: status.st_uid,
        group: status.st_gid,
        modified: FileTime((status.st_mtime, u32::try_from(status.st_mtime_nsec).unwrap_or(0))),
    })
}

/// `None`: it changes while it is read.
fn of_file(
    path: &Path,
    seen: &Seen,
    view: View<'_>,
) -> io::Result<Option<(Standing, Option<Vec<u8>>)>> {
    for _ in 0..limits::TRIES {
        let file = seen.open()?;
        let looked = read(&file, path, view.hashed_bytes)?;
        let bytes = seen.status.st_size.max(0).unsigned_abs().min(view.hashed_bytes);
        view.read.set(view.read.get().saturating_add(bytes));
        let Some((standing, content)) = looked else { continue };
        let standing = match standing {
            Standing::File(file) => {
                let is_open = file.metadata.mode & 0o004 != 0 && may_all_come_to(path, view);
                Standing::File(Box::new(FileStanding { is_open, ..*file }))
            }
            other => other,
        };
        return Ok(Some((standing, content)));
    }
    Ok(None)
}

/// Whether everybody may pass through all folders on the way.
fn may_all_come_to(path: &Path, view: View<'_>) -> bool {
    let on_the_way = path.ancestors().skip(1).take_while(|folder| folder.starts_with(view.root));
    on_the_way.into_iter().all(|folder| {
        let seen = plain::look_near(view.mounts, folder);
        seen.is_ok_and(|seen| seen.status.st_mode & 0o001 != 0)
    })
}

/// What an open file is, with its content where that may be kept; `None`: it changed meanwhile.
///
/// # Errors
/// What the system says.
pub fn read(
    file: &File,
    path: &Path,
    hashed_bytes: u64,
) -> io::Result<Option<(Standing, Option<Vec<u8>>)>> {
    // Which folder it is in is asked nowhere: by its path, somebody who never answers might be.
    let folder = FileId { device: 0, inode: 0 };
    let metadata = Metadata::read(file, path.to_owned(), folder)?;
    let FileTime((seconds, nanos)) = metadata.modified;
    // With its time: another such file is another.
    let at = format!("{} bytes, last written at {seconds}.{nanos:09}", metadata.size);
    if metadata.size > hashed_bytes {
        return Ok(Some((Standing::Other(format!("a file of {at}, which is not read")), None)));
    }
    let attributes: usize =
        metadata.attributes.iter().map(|one| one.name.len() + one.value.len()).sum();
    if attributes > limits::ATTRIBUTE_BYTES {
        let what =
            format!("a file of {at}, with {attributes} bytes of attributes: too many to keep");
        return Ok(Some((Standing::Other(what), None)));
    }
    let is_kept = metadata.size <= limits::FILE_BYTES;
    let (mut kept, mut hash, mut length) = (Vec::new(), Sha256::new(), 0_u64);
    if is_kept {
        kept.reserve_exact(usize::try_from(metadata.size).unwrap_or(0));
    }
    // One more than it has, so that a longer one is seen to be longer.
    let mut rest = file.take(metadata.size.saturating_add(1));
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = match rest.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let read = piece.get(..count).unwrap_or_default();
        hash.update(read);
        length = length.saturating_add(count as u64);
        if is_kept {
            kept.extend_from_slice(read);
        }
    }
    let now = file.metadata()?;
    let FileTime((seconds, nanos)) = metadata.changed;
    let is_unchanged =
        (now.ctime(), now.ctime_nsec()) == (seconds, i64::from(nanos)) && length == metadata.size;
    if !is_unchanged {
        return Ok(None);
    }
    let sha256 = Sha256Digest(hash.finalize().into());
    let standing = FileStanding { metadata, sha256, is_kept, is_open: false };
    Ok(Some((Standing::File(Box::new(standing)), is_kept.then_some(kept))))
}

/// At most `most` bytes of it.
pub(super) fn cut(text: &str, most: usize) -> String {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
