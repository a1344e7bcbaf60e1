//! The warden: a process of its own that answers the kernel whether a program may be started.
//!
//! Who waits for its answer stands still, so everything here is made so that no answer is worse than a
//! wrong one, and in doubt the answer is yes:
//!
//! * **A dead man's switch.** While anything is denied, a timer of the kernel's kills this process unless
//!   it is wound up again within [`DEADLINE`]: stuck, stopped, starved or broken, it ends, and with its
//!   end the kernel lets all go that waited.
//! * **It never starts anything.** The kernel itself refuses it to fork or start a program: a child would
//!   have to be let start by its parent, which waits for the child.
//! * **It is asked only about what the machine can spare** ([`super::marks`]), and before it refuses it
//!   looks once more that it is nothing that is needed.
//! * **A look at a content is short**, in bytes and in time; who takes longer is let go.
//! * It is one thread, and its memory is locked: it waits for no disk but that of the file it looks at.
//!
//! It holds nothing when it starts. The helper tells it what to deny, each time the whole list.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cordon_link::frame;
use cordon_model::action::{FilePath, Sha256Digest};
use cordon_model::ids::MeasureId;
use cordon_model::limits::WATCHED;
use cordon_model::time::UtcNanos;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::fanotify::{FanotifyEvent, FanotifyResponse, MaskFlags, Response};
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::signal::{SigEvent, SigevNotify, Signal};
use nix::sys::socket::{getsockopt, sockopt};
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use nix::time::ClockId;
use sha2::{Digest as _, Sha256};

use super::super::kernel::give_up_begetting;
use super::super::mounts::mounts;
use super::super::spared::SparedFiles;
use super::list::{Ask, DENIED, DenyList, Holding, MESSAGE_BYTES, REFUSALS, Refused};
use super::marks::Group;
use super::verdict::{Content, FileState, Memory, Rules};
use crate::contain::urgency::go_first;

/// Without a sign of life for so long it is ended. A person does not notice half a second; a slow disk
/// answers within a tenth.
pub const DEADLINE: Duration = Duration::from_millis(500);
/// How often it gives one when nothing happens: one may be missed, and a second.
const SIGN_OF_LIFE: Duration = Duration::from_millis(125);
/// How long one look at a content may take.
const LOOK: Duration = Duration::from_millis(125);
/// The largest content that is looked at: at 500 MB/s and more it is read and hashed in [`LOOK`].
const CONTENT_BYTES: u64 = 64 << 20;
/// How often it looks whether other files are at the denied paths by now.
const LOOK_AT_PATHS: Duration = Duration::from_secs(1);
/// How old what is needed may be when it is looked at before a refusal. Who is refused again and again must
/// not have hundreds of files looked at each time.
const NEEDED_AGAIN: Duration = Duration::from_secs(1);
/// How long the helper may take to say what it wants.
const ASKED_WITHIN: Duration = Duration::from_millis(50);

/// What a warden is told at its start.
#[derive(Debug, Clone)]
pub struct WardenConfig {
    /// Its socket, for the helper alone. The folder must be one that only root can write to.
    pub socket: PathBuf,
}

/// Serves until the process is ended.
///
/// # Errors
/// When it can't begin; nothing is denied then.
pub fn serve(config: &WardenConfig) -> io::Result<Infallible> {
    // Kept where it is: a page of ours on a disk whose driver waits for us would be the end.
    if let Err(error) = mlockall(MlockAllFlags::from_bits_retain(
        libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT,
    )) {
        tracing::warn!(%error, "the warden's memory can't be locked");
    }
    go_first();
    let switch = DeadMansSwitch::new()?;
    // Before anybody can ask anything of it.
    give_up_begetting()?;
    let listener = listen(&config.socket)?;
    let mut warden =
        Warden { switch, held: None, memory: Memory::default(), told: Told::default() };
    loop {
        warden.turn(&listener)?;
    }
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// A timer of the kernel's that kills this process unless it is wound up in time.
struct DeadMansSwitch(Timer);

impl DeadMansSwitch {
    fn new() -> io::Result<Self> {
        // Not a signal that could be blocked, handled, or wait until a stopped process goes on.
        let kill = SigevNotify::SigevSignal { signal: Signal::SIGKILL, si_value: 0 };
        Ok(Self(Timer::new(ClockId::CLOCK_MONOTONIC, SigEvent::new(kill))?))
    }

    fn wind_up(&mut self) -> io::Result<()> {
        self.set(DEADLINE)
    }

    fn stop(&mut self) -> io::Result<()> {
        self.set(Duration::ZERO)
    }

    fn set(&mut self, within: Duration) -> io::Result<()> {
        Ok(self.0.set(Expiration::OneShot(within.into()), TimerSetTimeFlags::empty())?)
    }
}

struct Held {
    list: DenyList,
    rules: Rules,
    group: Group,
    problems: Vec<String>,
    looked_at_paths: Instant,
    needed: SparedFiles,
    looked_at_needed: Instant,
}

impl Held {
    /// What may not be denied, looked at a moment ago: it changes, by an upgrade.
    fn needed(&mut self) -> &SparedFiles {
        if self.looked_at_needed.elapsed() >= NEEDED_AGAIN {
            self.needed = SparedFiles::now(&self.list.protected, None);
            self.looked_at_needed = Instant::now();
        }
        &self.needed
    }
}

#[derive(Default)]
struct Told {
    asked: u64,
    refused: u64,
    doubted: u64,
    refusals: VecDeque<Refused>,
}

struct Warden {
    switch: DeadMansSwitch,
    held: Option<Held>,
    memory: Memory,
    told: Told,
}

impl Warden {
    fn turn(&mut self, listener: &UnixListener) -> io::Result<()> {
        let timeout = if self.held.is_some() {
            self.switch.wind_up()?;
            PollTimeout::try_from(SIGN_OF_LIFE).unwrap_or(PollTimeout::ZERO)
        } else {
            // Nobody waits for it: it may sleep as long as it likes.
            self.switch.stop()?;
            PollTimeout::NONE
        };
        let mut waiting = vec![PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        if let Some(held) = &self.held {
            waiting.push(PollFd::new(held.group.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut waiting, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let is_asked = |fd: &PollFd<'_>| fd.revents().is_none_or(|events| !events.is_empty());
        let (has_caller, has_question) =
            (is_asked(&waiting[0]), waiting.get(1).is_some_and(is_asked));
        drop(waiting);
        if has_question {
            self.answer_all()?;
        }
        if has_caller && let Ok((caller, _)) = listener.accept() {
            self.serve(caller)?;
        }
        self.look_at_paths();
        Ok(())
    }

    /// Answers what was asked by now, a page full at most: all of it, for what is taken from the kernel and not
    /// answered would wait. Then callers have their turn, [`DEADLINE`] after they came at the latest.
    fn answer_all(&mut self) -> io::Result<()> {
        let Some(held) = &self.held else { return Ok(()) };
        let events = match held.group.fanotify().read_events() {
            Ok(events) => events,
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => return Ok(()),
            // The kernel refuses a start whose file it can't open for us (too many are open): better
            // to end than to refuse what nobody meant.
            Err(errno) => return Err(errno.into()),
        };
        let began = Instant::now();
        for event in events {
            self.switch.wind_up()?;
            let Some(fd) = event.fd() else { continue };
            if event.mask().contains(MaskFlags::FAN_OPEN_EXEC_PERM) {
                // Who is behind many others is not to wait longer for it.
                let is_in_haste = began.elapsed() > DEADLINE / 2;
                let refusal = self.refusal(fd, is_in_haste);
                self.answer(&event, fd, refusal)?;
            } else if let Ok(metadata) = metadata(fd) {
                self.memory.forget(FileState::of(&metadata).file);
            }
        }
        Ok(())
    }

    fn answer(
        &mut self,
        event: &FanotifyEvent,
        fd: BorrowedFd<'_>,
        refusal: Option<MeasureId>,
    ) -> io::Result<()> {
        let Some(held) = &self.held else { return Ok(()) };
        let response = if refusal.is_some() { Response::FAN_DENY } else { Response::FAN_ALLOW };
        held.group.fanotify().write_response(FanotifyResponse::new(fd, response))?;
        self.told.asked = self.told.asked.saturating_add(1);
        if let Some(measure) = refusal {
            self.told.refused = self.told.refused.saturating_add(1);
            if self.told.refusals.len() >= REFUSALS {
                self.told.refusals.pop_front();
            }
            let path = path(fd).unwrap_or_default();
            self.told.refusals.push_back(Refused {
                measure,
                pid: event.pid().unsigned_abs(),
                path: FilePath::new(path.as_os_str().as_encoded_bytes()),
                at: UtcNanos::now(),
            });
        }
        Ok(())
    }

    /// Which measure refuses the start of the file `fd`, if any does.
    fn refusal(&mut self, fd: BorrowedFd<'_>, is_in_haste: bool) -> Option<MeasureId> {
        let held = self.held.as_mut()?;
        let metadata = metadata(fd).ok()?;
        let state = FileState::of(&metadata);
        let path = path(fd);
        let measure = held.rules.by_name(path.as_deref(), state.file).or_else(|| {
            if !held.rules.look_at_contents() {
                return None;
            }
            let content = match self.memory.recall(&state) {
                Some(content) => content,
                None if is_in_haste => Content::Unknown,
                None => {
                    // First: what is written while it is read is then told.
                    let is_told = held.group.tell_of_writing(fd).is_ok();
                    let content = content(fd, &state);
                    if is_told {
                        let seconds = UtcNanos::now().unix_nanos() / 1_000_000_000;
                        self.memory.note(state, content, seconds);
                    }
                    content
                }
            };
            match content {
                Content::Is(digest) => held.rules.by_content(&digest),
                Content::Unknown => {
                    self.told.doubted = self.told.doubted.saturating_add(1);
                    None
                }
            }
        })?;
        // The folders on its way are not asked: who answers for one of them may never do so, and whoever waits here is ended by
        // the kernel's timer.
        if let Some(why) = held.needed().why_by_path(state.file, path.as_deref()) {
            tracing::error!(%why, "a start was not refused");
            return None;
        }
        Some(measure)
    }

    /// A file that was put at a denied path is asked about from now on.
    fn look_at_paths(&mut self) {
        let Some(held) = &mut self.held else { return };
        // Also where a file had the denied content: another that was put in its place has no mark.
        let has_places = held.rules.look_at_paths()
            || held.list.entries.iter().any(|entry| !entry.known.is_empty());
        if !has_places || held.looked_at_paths.elapsed() < LOOK_AT_PATHS {
            return;
        }
        held.looked_at_paths = Instant::now();
        let Ok(mounts) = mounts() else { return };
        held.needed();
        let _ = held.group.mark_files(&mounts, &held.needed, &held.list);
    }

    fn serve(&mut self, mut caller: UnixStream) -> io::Result<()> {
        let user = getsockopt(&caller, sockopt::PeerCredentials).map(|peer| peer.uid());
        if user != Ok(nix::unistd::geteuid().as_raw()) {
            tracing::warn!(?user, "a connection was refused");
            return Ok(());
        }
        caller.set_nonblocking(false)?;
        caller.set_read_timeout(Some(ASKED_WITHIN))?;
        caller.set_write_timeout(Some(ASKED_WITHIN))?;
        let asked = match frame::blocking::read::<Ask>(&mut caller, MESSAGE_BYTES) {
            Ok(Some(asked)) => asked,
            Ok(None) => return Ok(()),
            Err(error) => {
                tracing::warn!(%error, "not a request");
                return Ok(());
            }
        };
        if let Ask::Hold(list) = asked {
            self.hold(list)?;
        }
        if let Err(error) = frame::blocking::write(&mut caller, &self.holding(), MESSAGE_BYTES) {
            tracing::warn!(%error, "the helper did not hear the answer");
        }
        Ok(())
    }

    /// The new list is in force before the old one is given up.
    fn hold(&mut self, list: DenyList) -> io::Result<()> {
        if list.entries.is_empty() {
            self.held = None;
            return Ok(());
        }
        if list.entries.len() > DENIED || list.watched.len() > WATCHED {
            return Ok(());
        }
        self.switch.wind_up()?;
        let mounts = mounts()?;
        let needed = SparedFiles::now(&list.protected, None);
        let looked_at_needed = Instant::now();
        let mut group = Group::open()?;
        let problems = group.mark_all(&mounts, &needed, &list);
        // What was remembered is told of changes by the old group only.
        self.memory = Memory::default();
        let rules = Rules::of(&list);
        let looked_at_paths = Instant::now();
        self.held =
            Some(Held { list, rules, group, problems, looked_at_paths, needed, looked_at_needed });
        Ok(())
    }

    fn holding(&self) -> Holding {
        let held = self.held.as_ref();
        Holding {
            list: held.map(|held| held.list.clone()).unwrap_or_default(),
            marks: held.map(|held| held.group.marks.clone()).unwrap_or_default(),
            problems: held.map(|held| held.problems.clone()).unwrap_or_default(),
            group: held.map(|held| held.group.as_fd().as_raw_fd()),
            asked: self.told.asked,
            refused: self.told.refused,
            doubted: self.told.doubted,
            refusals: self.told.refusals.iter().cloned().collect(),
        }
    }
}

fn metadata(fd: BorrowedFd<'_>) -> io::Result<std::fs::Metadata> {
    File::from(fd.try_clone_to_owned()?).metadata()
}

/// Where the file is, as this process sees it.
fn path(fd: BorrowedFd<'_>) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()
}

fn content(fd: BorrowedFd<'_>, state: &FileState) -> Content {
    if state.size > CONTENT_BYTES {
        return Content::Unknown;
    }
    digest(fd, Instant::now() + LOOK).map_or(Content::Unknown, Content::Is)
}

/// `None` if it can't be read until then.
fn digest(fd: BorrowedFd<'_>, until: Instant) -> Option<Sha256Digest> {
    let file = File::from(fd.try_clone_to_owned().ok()?);
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    let mut at = 0;
    loop {
        match file.read_at(&mut buffer, at) {
            Ok(0) => return Some(Sha256Digest(hash.finalize().into())),
            Ok(count) => {
                hash.update(&buffer[..count]);
                at += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
        if Instant::now() > until || at > CONTENT_BYTES {
            return None;
        }
    }
}
