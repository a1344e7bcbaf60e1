//! The kernel's word on what is written, made, moved and removed in some folders, and by which process.
//!
//! These are fanotify's *notifications*: nobody waits for an answer, so nothing stands still if we do. (Its permission
//! events are the warden's, and never about the filesystem of `/`.) A folder is watched by itself, not its filesystem:
//! whoever compiles or unpacks elsewhere costs nothing here.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};

use super::kernel::{Handle, handle_of};
use super::limits;
use crate::contain::action::plain;

/// linux/fanotify.h: events name the folder and the name in it. Since Linux 5.9.
const FAN_REPORT_DFID_NAME: libc::c_uint = 0x0000_0400 | 0x0000_0800;
/// linux/fanotify.h: the head of an event, and the kinds of what follows it that name a folder.
const HEAD_BYTES: usize = 24;
const INFO_DFID_NAME: u8 = 2;
/// The most that is taken at once: some 1,000 events.
const BUFFER_BYTES: usize = 64 << 10;

/// What one thing in a folder went through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happened {
    /// In which folder.
    pub folder: Handle,
    /// Under which name.
    pub name: OsString,
    /// It is a folder itself.
    pub is_folder: bool,
    /// By which process.
    pub pid: u32,
}

/// What came out of one reading.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// In the order in which it happened.
    pub happened: Vec<Happened>,
    /// The kernel's queue was full: something is missing.
    pub is_lossy: bool,
}

/// The watched folders.
#[derive(Debug)]
pub struct Group {
    fanotify: Fanotify,
    paths: HashMap<Handle, Vec<PathBuf>>,
    marked: HashMap<PathBuf, (Handle, bool)>,
}

impl Group {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// Without root, or before Linux 5.9.
    pub fn open() -> io::Result<Self> {
        let flags = InitFlags::FAN_CLOEXEC
            | InitFlags::FAN_NONBLOCK
            | InitFlags::FAN_CLASS_NOTIF
            | InitFlags::FAN_UNLIMITED_MARKS
            | InitFlags::from_bits_retain(FAN_REPORT_DFID_NAME);
        let files = EventFFlags::O_RDONLY | EventFFlags::O_CLOEXEC;
        let fanotify = Fanotify::init(flags, files)?;
        Ok(Self { fanotify, paths: HashMap::new(), marked: HashMap::new() })
    }

    /// Watches the folder at `path`: what is done to the files in it, too, if `is_for_files`.
    ///
    /// # Errors
    /// If it is no folder, there are too many, or its filesystem can't tell.
    pub fn watch(&mut self, path: &Path, is_for_files: bool) -> io::Result<()> {
        let seen = plain::look_at_itself(path)?;
        if seen.kind() != "folder" {
            return Err(io::Error::other(format!("it is no folder but a {}", seen.kind())));
        }
        let handle = handle_of(&seen)?;
        if self
            .marked
            .get(path)
            .is_some_and(|(old, files)| *old == handle && *files >= is_for_files)
        {
            return Ok(());
        }
        if self.marked.len() >= limits::FOLDERS && !self.marked.contains_key(path) {
            return Err(io::Error::other(format!("more than {} folders", limits::FOLDERS)));
        }
        let mut mask = MaskFlags::FAN_CREATE
            | MaskFlags::FAN_DELETE
            | MaskFlags::FAN_MOVED_FROM
            | MaskFlags::FAN_MOVED_TO
            | MaskFlags::FAN_ONDIR;
        if is_for_files {
            mask |= MaskFlags::FAN_MODIFY
                | MaskFlags::FAN_CLOSE_WRITE
                | MaskFlags::FAN_ATTRIB
                | MaskFlags::FAN_EVENT_ON_CHILD;
        }
        let held = format!("/proc/self/fd/{}", seen.as_fd().as_raw_fd());
        let flags = MarkFlags::FAN_MARK_ADD | MarkFlags::FAN_MARK_ONLYDIR;
        self.fanotify.mark(flags, mask, rustix::fs::CWD, Some(Path::new(&held)))?;
        self.forget(path);
        self.paths.entry(handle.clone()).or_default().push(path.to_owned());
        self.marked.insert(path.to_owned(), (handle, is_for_files));
        Ok(())
    }

    /// Takes the folder at `path`, and all below, for gone: the kernel lets go of it by itself.
    pub fn forget_below(&mut self, path: &Path) {
        let gone: Vec<PathBuf> =
            self.marked.keys().filter(|marked| marked.starts_with(path)).cloned().collect();
        gone.iter().for_each(|path| self.forget(path));
    }

    fn forget(&mut self, path: &Path) {
        let Some((handle, _)) = self.marked.remove(path) else { return };
        if let Some(paths) = self.paths.get_mut(&handle) {
            paths.retain(|other| other != path);
            if paths.is_empty() {
                self.paths.remove(&handle);
            }
        }
    }

    /// Where a thing is, by its folder's handle: two filesystems may give the same, then at each.
    pub fn places(&self, happened: &Happened) -> impl Iterator<Item = PathBuf> {
        let folders = self.paths.get(&happened.folder).into_iter().flatten();
        folders.map(|folder| folder.join(&happened.name))
    }

    /// How many folders are watched.
    #[must_use]
    pub fn folders(&self) -> usize {
        self.marked.len()
    }

    /// All that has happened and was not heard yet. Never waits.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn hear(&self) -> io::Result<Heard> {
        let mut heard = Heard::default();
        let mut buffer = vec![0; BUFFER_BYTES];
        // Whoever writes without end must not keep us reading without end.
        for _ in 0..16 {
            match nix::unistd::read(&self.fanotify, &mut buffer) {
                Ok(length) => parse(buffer.get(..length).unwrap_or_default(), &mut heard),
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(heard)
    }

    /// Readable when something has happened.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.fanotify.as_fd()
    }
}

/// Reads events as linux/fanotify.h lays them out: a head (length, version, length of the head, mask, file, pid), then
/// pieces with a kind and a length each; of those the one that names folder and name. What can't be read ends it.
fn parse(bytes: &[u8], heard: &mut Heard) {
    let mut rest = bytes;
    while let Some(head) = rest.get(..HEAD_BYTES) {
        let number = |at: usize| head.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
        let (Some(length), Some(pid)) = (number(0), number(20)) else { return };
        let Some(mask) = head.get(8..16).and_then(|bytes| bytes.try_into().ok()) else { return };
        let mask = MaskFlags::from_bits_retain(u64::from_ne_bytes(mask));
        let length = length as usize;
        let Some(event) = rest.get(..length).filter(|_| length >= HEAD_BYTES) else { return };
        rest = rest.get(length..).unwrap_or_default();
        if mask.contains(MaskFlags::FAN_Q_OVERFLOW) {
            heard.is_lossy = true;
            continue;
        }
        let named = event.get(HEAD_BYTES..).and_then(folder_and_name);
        let Some((folder, name)) = named else { continue };
        let is_folder = mask.contains(MaskFlags::FAN_ONDIR);
        heard.happened.push(Happened { folder, name, is_folder, pid });
    }
}

/// The first piece that names a folder and a name in it: kind, a byte, length (2), filesystem (8), then the handle's
/// length, kind and bytes, then the name and a NUL.
fn folder_and_name(mut pieces: &[u8]) -> Option<(Handle, OsString)> {
    loop {
        let kind = *pieces.first()?;
        let length = u16::from_ne_bytes(pieces.get(2..4)?.try_into().ok()?) as usize;
        let piece = pieces.get(..length).filter(|piece| piece.len() >= 20)?;
        if kind == INFO_DFID_NAME {
            let count = u32::from_ne_bytes(piece.get(12..16)?.try_into().ok()?) as usize;
            let kind = i32::from_ne_bytes(piece.get(16..20)?.try_into().ok()?);
            let end = 20_usize.checked_add(count)?;
            let bytes = piece.get(20..end)?.to_vec();
            let name = piece.get(end..)?.split(|byte| *byte == 0).next()?;
            // The folder itself.
            if name.is_empty() || name == b"." {
                return None;
            }
            return Some((Handle { kind, bytes }, OsStr::from_bytes(name).to_owned()));
        }
        pieces = pieces.get(length..)?;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An event as the kernel writes one.
    fn event(mask: MaskFlags, pid: u32, name: &str) -> Vec<u8> {
        let mut piece = vec![INFO_DFID_NAME, 0, 0, 0];
        piece.extend([9; 8]);
        piece.extend(4_u32.to_ne_bytes());
        piece.extend(7_i32.to_ne_bytes());
        piece.extend([1, 2, 3, 4]);
        piece.extend(name.as_bytes());
        piece.push(0);
        piece.resize(piece.len().next_multiple_of(4), 0);
        let length = u16::try_from(piece.len()).unwrap();
        piece[2..4].copy_from_slice(&length.to_ne_bytes());
        let mut bytes = u32::try_from(HEAD_BYTES + piece.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend([3, 0, 24, 0]);
        bytes.extend(mask.bits().to_ne_bytes());
        bytes.extend((-1_i32).to_ne_bytes());
        bytes.extend(pid.to_ne_bytes());
        bytes.extend(piece);
        bytes
    }

    #[test]
    fn who_did_what_under_which_name_is_read_and_a_loss_is_noticed() {
        let mut bytes = event(MaskFlags::FAN_MODIFY, 812, "crontab");
        bytes.extend(event(MaskFlags::FAN_Q_OVERFLOW, 0, ""));
        bytes.extend(event(MaskFlags::FAN_CREATE | MaskFlags::FAN_ONDIR, 813, "cron.d"));
        bytes.extend(event(MaskFlags::FAN_ATTRIB | MaskFlags::FAN_ONDIR, 814, "."));
        let mut heard = Heard::default();
        parse(&bytes, &mut heard);
        let folder = Handle { kind: 7, bytes: vec![1, 2, 3, 4] };
        let happened = |name: &str, is_folder, pid| Happened {
            folder: folder.clone(),
            name: name.into(),
            is_folder,
            pid,
        };
        assert!(heard.is_lossy);
        assert_eq!(
            heard.happened,
            [happened("crontab", false, 812), happened("cron.d", true, 813)]
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            parse(&bytes, &mut Heard::default());
        }

        #[test]
        fn any_pieces_are_read_or_refused(
            pieces in prop::collection::vec(any::<u8>(), 0..200), length in any::<u16>(),
        ) {
            let mut pieces = pieces;
            if pieces.len() > 4 {
                pieces[0] = INFO_DFID_NAME;
                pieces[2..4].copy_from_slice(&length.to_ne_bytes());
            }
            let _ = folder_and_name(&pieces);
        }
    }
}
