//! The kernel's word on what is written, made, moved and removed in some folders, and by which process.
//!
//! These are fanotify's *notifications*: nobody waits for an answer, so nothing stands still if we do. (Its permission
//! events are the warden's, and never about the filesystem of `/`.) A folder is watched by itself, not its filesystem:
//! whoever compiles or unpacks elsewhere costs nothing here.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use cordon_model::change::MOST_DOERS;
use cordon_model::time::BootNanos;
use nix::errno::Errno;
use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};

use super::kernel::{Handle, handle_of, taken};
use super::limits;
use super::spots::{Realm, SYSTEM};
use crate::contain::action::mounts::Mount;
use crate::contain::action::plain;
use crate::sensor::proc_files;

/// linux/fanotify.h: events name the folder and the name in it. Since Linux 5.9.
const FAN_REPORT_DFID_NAME: libc::c_uint = 0x0000_0400 | 0x0000_0800;
/// linux/fanotify.h: events come with a descriptor of the process. Since Linux 5.15.
const FAN_REPORT_PIDFD: libc::c_uint = 0x0000_0080;
/// linux/fanotify.h: the head of an event, and the kinds of what follows it.
const HEAD_BYTES: usize = 24;
const INFO_DFID_NAME: u8 = 2;
const INFO_PIDFD: u8 = 4;
/// linux/fanotify.h: the process has ended and was reaped.
const NO_PIDFD: i32 = -1;
/// The most that is taken at once. The shortest event has some 70 bytes, so that no more than 230 descriptors are open,
/// where a process may have 1,024.
pub const BUFFER_BYTES: usize = 16 << 10;

/// What the kernel says of a process that did something, besides its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Witness {
    /// It runs, or was not reaped, and started then: its number is nobody else's.
    Runs(BootNanos),
    /// It has ended: who has its number now is another.
    Ended,
    /// Nothing (before Linux 5.15).
    Unsaid,
}

/// What one thing in a folder went through.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Happened {
    /// In which folder.
    folder: Handle,
    /// Under which name.
    name: OsString,
    /// It is a folder itself.
    is_folder: bool,
    /// By which process.
    pid: u32,
    /// The descriptor of the process, or why there is none.
    pidfd: Option<i32>,
}

/// Things and folders of one home or of the system, with all who are named for each.
pub type ByPlace = BTreeMap<(PathBuf, bool), Vec<(u32, Witness)>>;

/// What came out of one hearing.
#[derive(Debug, Default)]
pub struct Heard {
    /// What happened, and where: each once, with whether it is a folder.
    pub happened: BTreeMap<Realm, ByPlace>,
    /// Of these more happened than is remembered at once.
    pub crowded: BTreeSet<Realm>,
    /// Something is missing: the kernel's queue was full.
    pub is_lossy: bool,
}

/// The watched folders of one queue.
#[derive(Debug)]
pub struct Group {
    fanotify: Fanotify,
    paths: HashMap<Handle, Vec<PathBuf>>,
    marked: HashMap<PathBuf, (Handle, bool, Realm)>,
    of: BTreeMap<Realm, usize>,
    /// Folders that went elsewhere, and are watched by the kernel still.
    strayed: usize,
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
        let with_processes = flags | InitFlags::from_bits_retain(FAN_REPORT_PIDFD);
        let fanotify = match Fanotify::init(with_processes, files) {
            Err(Errno::EINVAL) => Fanotify::init(flags, files),
            fanotify => fanotify,
        };
        let fanotify = fanotify.map_err(|errno| {
            let why = match errno {
                Errno::EPERM => "it may not: without root, or in a container",
                Errno::EINVAL | Errno::ENOSYS => "this kernel does not tell: it takes Linux 5.9",
                Errno::EMFILE => "so many look out already that the kernel has no more queues",
                errno => return io::Error::from(errno),
            };
            io::Error::new(io::Error::from(errno).kind(), why)
        })?;
        let (paths, marked) = (HashMap::new(), HashMap::new());
        Ok(Self { fanotify, paths, marked, of: BTreeMap::new(), strayed: 0 })
    }

    /// Watches the folder at `path`: what is done to the files in it, too, if `is_for_files`.
    ///
    /// # Errors
    /// If it is no folder, there are too many, or its filesystem can't tell.
    pub fn watch(
        &mut self,
        mounts: &[Mount],
        path: &Path,
        is_for_files: bool,
        realm: Realm,
    ) -> io::Result<()> {
        let seen = plain::look_near(mounts, path)?;
        if seen.kind() != "folder" {
            return Err(io::Error::other(format!("it is no folder but a {}", seen.kind())));
        }
        let handle = handle_of(&seen)?;
        let marked = self.marked.get(path);
        if marked.is_some_and(|(old, files, _)| *old == handle && *files >= is_for_files) {
            return Ok(());
        }
        let most = if realm == SYSTEM { limits::FOLDERS } else { limits::HOME_FOLDERS };
        if self.of.get(&realm).is_some_and(|count| *count >= most) && marked.is_none() {
            return Err(io::Error::other(format!("more than {most} folders")));
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
        let is_same = marked.is_some_and(|(old, ..)| *old == handle);
        let held = format!("/proc/self/fd/{}", seen.as_fd().as_raw_fd());
        let flags = MarkFlags::FAN_MARK_ADD | MarkFlags::FAN_MARK_ONLYDIR;
        self.fanotify.mark(flags, mask, rustix::fs::CWD, Some(Path::new(&held)))?;
        if !is_same && marked.is_some() {
            // What was there is elsewhere now, or gone.
            self.strayed += 1;
        }
        self.forget(path);
        self.paths.entry(handle.clone()).or_default().push(path.to_owned());
        self.marked.insert(path.to_owned(), (handle, is_for_files, realm));
        *self.of.entry(realm).or_default() += 1;
        Ok(())
    }

    /// Takes the folder at `path`, and all below, for gone. Of what was moved the kernel does not let go by itself.
    pub fn forget_below(&mut self, path: &Path) {
        let gone: Vec<PathBuf> =
            self.marked.keys().filter(|marked| marked.starts_with(path)).cloned().collect();
        self.strayed += gone.len();
        gone.iter().for_each(|path| self.forget(path));
    }

    /// Whether so many strayed that all are to be let go of, and watched anew.
    #[must_use]
    pub fn has_strays(&self) -> bool {
        self.strayed > limits::STRAYED
    }

    /// Lets go of all folders.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn let_go(&mut self) -> io::Result<()> {
        let all = MarkFlags::FAN_MARK_FLUSH;
        let root = Some(Path::new("/"));
        self.fanotify.mark(all, MaskFlags::empty(), rustix::fs::CWD, root)?;
        self.paths.clear();
        self.marked.clear();
        self.of.clear();
        self.strayed = 0;
        Ok(())
    }

    fn forget(&mut self, path: &Path) {
        let Some((handle, _, realm)) = self.marked.remove(path) else { return };
        if let Some(count) = self.of.get_mut(&realm) {
            *count = count.saturating_sub(1);
        }
        if let Some(paths) = self.paths.get_mut(&handle) {
            paths.retain(|other| other != path);
            if paths.is_empty() {
                self.paths.remove(&handle);
            }
        }
    }

    /// How many folders are watched.
    #[must_use]
    pub fn folders(&self) -> usize {
        self.marked.len()
    }

    /// All that had happened when it was called and was not heard yet, of what `counts`: whose it is. Never waits, and
    /// ends also where somebody writes faster than it reads: what happens meanwhile is heard next time. `buffer` has
    /// [`BUFFER_BYTES`].
    ///
    /// # Errors
    /// What the kernel says.
    pub fn hear(
        &self,
        buffer: &mut [u8],
        counts: impl Fn(&Path, bool) -> Option<Realm>,
    ) -> io::Result<Heard> {
        let mut heard = Heard::default();
        // What is queued counts for the length of its head, whatever else comes with it.
        let queued = rustix::io::ioctl_fionread(&self.fanotify)?;
        let mut left = usize::try_from(queued).unwrap_or(usize::MAX).div_ceil(HEAD_BYTES);
        while left > 0 {
            // For so short a time a number is one process's.
            let mut known = HashMap::new();
            let (happened, events, is_lossy) = match nix::unistd::read(&self.fanotify, buffer) {
                Ok(length) => parse(buffer.get(..length).unwrap_or_default()),
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            left = left.saturating_sub(events.max(1));
            heard.is_lossy |= is_lossy;
            let raw: Vec<i32> = happened.iter().map(|one| one.pidfd.unwrap_or(NO_PIDFD)).collect();
            let descriptors = taken(raw);
            for (one, descriptor) in happened.into_iter().zip(&descriptors) {
                for folder in self.paths.get(&one.folder).into_iter().flatten() {
                    let path = folder.join(&one.name);
                    let Some(realm) = counts(&path, one.is_folder) else { continue };
                    let witness = match (one.pidfd, descriptor) {
                        (Some(_), Some(descriptor)) => witness(one.pid, descriptor, &mut known),
                        (Some(NO_PIDFD), None) => Witness::Ended,
                        _ => Witness::Unsaid,
                    };
                    heard.add(realm, (path, one.is_folder), (one.pid, witness));
                }
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

impl Heard {
    fn add(&mut self, realm: Realm, place: (PathBuf, bool), by: (u32, Witness)) {
        if self.crowded.contains(&realm) {
            return;
        }
        let places = self.happened.entry(realm).or_default();
        let most = if realm == SYSTEM { limits::WAITING } else { limits::HOME_WAITING };
        if places.len() >= most && !places.contains_key(&place) {
            self.happened.remove(&realm);
            self.crowded.insert(realm);
            return;
        }
        let all = places.entry(place).or_default();
        // One more than may be named is enough to know that it is too many.
        if all.len() <= MOST_DOERS && !all.contains(&by) {
            all.push(by);
        }
    }
}

/// When the process started, if it still is the one of the descriptor.
fn witness(pid: u32, descriptor: &OwnedFd, known: &mut HashMap<(u32, u64), Witness>) -> Witness {
    // Since Linux 6.9 each process has a number of its own there.
    let number = rustix::fs::fstat(descriptor).map_or(0, |status| status.st_ino);
    *known.entry((pid, number)).or_insert_with(|| {
        let started = proc_files::stat(pid).map(|stat| stat.started);
        let facts = format!("/proc/self/fdinfo/{}", descriptor.as_raw_fd());
        let facts = std::fs::read_to_string(facts).unwrap_or_default();
        let is_there = facts.lines().any(|line| {
            line.strip_prefix("Pid:").is_some_and(|number| number.trim() == pid.to_string())
        });
        match started {
            Some(started) if is_there => Witness::Runs(started),
            _ => Witness::Ended,
        }
    })
}

/// Reads events as linux/fanotify.h lays them out: a head (length, version, length of the head, mask, file, pid), then
/// pieces with a kind and a length each; of those the one that names folder and name, and the one of the process. What
/// can't be read ends it. How many there were, and whether the kernel's queue was full.
fn parse(bytes: &[u8]) -> (Vec<Happened>, usize, bool) {
    let (mut all, mut events, mut is_lossy) = (Vec::new(), 0, false);
    let mut rest = bytes;
    while let Some(head) = rest.get(..HEAD_BYTES) {
        let number = |at: usize| head.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
        let (Some(length), Some(pid)) = (number(0), number(20)) else { break };
        let Some(mask) = head.get(8..16).and_then(|bytes| bytes.try_into().ok()) else { break };
        let mask = MaskFlags::from_bits_retain(u64::from_ne_bytes(mask));
        let length = length as usize;
        let Some(event) = rest.get(..length).filter(|_| length >= HEAD_BYTES) else { break };
        rest = rest.get(length..).unwrap_or_default();
        events += 1;
        if mask.contains(MaskFlags::FAN_Q_OVERFLOW) {
            is_lossy = true;
            continue;
        }
        let pieces = event.get(HEAD_BYTES..).unwrap_or_default();
        let pidfd = pidfd(pieces);
        // Of one that names nothing the descriptor is to be closed, too.
        let named = folder_and_name(pieces);
        let (folder, name) =
            named.unwrap_or((Handle { kind: 0, bytes: Vec::new() }, OsString::new()));
        let is_folder = mask.contains(MaskFlags::FAN_ONDIR);
        all.push(Happened { folder, name, is_folder, pid, pidfd });
    }
    (all, events, is_lossy)
}

/// The descriptor of the process in the piece that has one: kind, a byte, length (2), descriptor.
fn pidfd(mut pieces: &[u8]) -> Option<i32> {
    loop {
        let kind = *pieces.first()?;
        let length = u16::from_ne_bytes(pieces.get(2..4)?.try_into().ok()?) as usize;
        let piece = pieces.get(..length).filter(|piece| piece.len() >= 8)?;
        if kind == INFO_PIDFD {
            return Some(i32::from_ne_bytes(piece.get(4..8)?.try_into().ok()?));
        }
        pieces = pieces.get(length..)?;
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
        piece.extend([INFO_PIDFD, 0, 8, 0, 7, 0, 0, 0]);
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
        let (all, events, is_lossy) = parse(&bytes);
        let folder = Handle { kind: 7, bytes: vec![1, 2, 3, 4] };
        let happened = |name: &str, is_folder, pid, pidfd| Happened {
            folder: folder.clone(),
            name: name.into(),
            is_folder,
            pid,
            pidfd: Some(pidfd),
        };
        assert!(is_lossy && events == 4);
        assert_eq!(
            all[..2],
            [happened("crontab", false, 812, 7), happened("cron.d", true, 813, 7)]
        );
        assert_eq!((all[2].name.as_os_str(), all[2].pidfd), (OsStr::new(""), Some(7)));
    }

    #[test]
    fn of_one_home_only_so_much_is_remembered_and_of_one_place_only_so_many() {
        let mut heard = Heard::default();
        for number in 0..=u32::try_from(limits::HOME_WAITING).unwrap() {
            heard.add(1, (format!("/a/{number}").into(), false), (number, Witness::Ended));
            heard.add(2, ("/b".into(), false), (number, Witness::Ended));
            heard.add(SYSTEM, (format!("/c/{number}").into(), false), (1, Witness::Unsaid));
        }
        assert_eq!(heard.crowded, BTreeSet::from([1]));
        assert!(!heard.happened.contains_key(&1));
        assert_eq!(heard.happened[&2][&("/b".into(), false)].len(), MOST_DOERS + 1);
        assert_eq!(heard.happened[&SYSTEM].len(), limits::HOME_WAITING + 1);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
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
            let _ = (folder_and_name(&pieces), pidfd(&pieces));
        }
    }
}
