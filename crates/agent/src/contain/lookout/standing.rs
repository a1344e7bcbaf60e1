//! What stands at a place, with all that is needed to put it there again but its content, which is kept beside.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use cordon_model::action::Sha256Digest;
use cordon_model::change::{Stood, WORD_BYTES};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::limits;
use crate::contain::action::plain::{self, Seen};
use crate::contain::action::quarantine::metadata::{FileTime, Metadata};
use crate::contain::action::spared::FileId;

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

/// Why a place could not be looked at.
#[derive(Debug)]
pub enum Unseen {
    /// It changes while it is read: the kernel tells of that once more.
    Restless,
    /// The system says no.
    Io(io::Error),
}

impl From<io::Error> for Unseen {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
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

/// Looks at `path`, over no symbolic link, and leaves when it was read last as it was. The content comes with a file of
/// which it may be kept.
///
/// # Errors
/// [`Unseen`].
pub fn look(path: &Path) -> Result<(Standing, Option<Vec<u8>>), Unseen> {
    let seen = match plain::look_at_itself(path) {
        Ok(seen) => seen,
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            return Ok((Standing::Nothing, None));
        }
        Err(error) => return Err(error.into()),
    };
    match seen.kind() {
        "plain file" => of_file(path, &seen),
        "symbolic link" => Ok((Standing::Link(of_link(&seen)?), None)),
        other => Ok((Standing::Other(format!("a {other}")), None)),
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

fn of_file(path: &Path, seen: &Seen) -> Result<(Standing, Option<Vec<u8>>), Unseen> {
    for _ in 0..limits::TRIES {
        let file = seen.open()?;
        if let Some(read) = read(&file, path)? {
            return Ok(read);
        }
    }
    Err(Unseen::Restless)
}

/// What an open file is, with its content where that may be kept; `None`: it changed meanwhile.
///
/// # Errors
/// What the system says.
pub fn read(file: &File, path: &Path) -> io::Result<Option<(Standing, Option<Vec<u8>>)>> {
    let folder = path.parent().and_then(FileId::at).unwrap_or(FileId { device: 0, inode: 0 });
    let metadata = Metadata::read(file, path.to_owned(), folder)?;
    if metadata.size > limits::HASHED_BYTES {
        let what = format!("a file of {} bytes, which is not read", metadata.size);
        return Ok(Some((Standing::Other(what), None)));
    }
    let mut bytes = Vec::new();
    // One more than it has, so that a longer one is seen to be longer.
    file.take(metadata.size.saturating_add(1)).read_to_end(&mut bytes)?;
    let now = file.metadata()?;
    let FileTime((seconds, nanos)) = metadata.changed;
    let is_unchanged = (now.ctime(), now.ctime_nsec()) == (seconds, i64::from(nanos))
        && bytes.len() as u64 == metadata.size;
    if !is_unchanged {
        return Ok(None);
    }
    let sha256 = Sha256Digest(Sha256::digest(&bytes).into());
    let is_kept = metadata.size <= limits::FILE_BYTES;
    let standing = FileStanding { metadata, sha256, is_kept };
    Ok(Some((Standing::File(Box::new(standing)), is_kept.then_some(bytes))))
}

/// At most `most` bytes of it.
pub(super) fn cut(text: &str, most: usize) -> String {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
