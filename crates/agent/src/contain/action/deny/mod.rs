//! A program can't be started any more, by its content or by its place.
//!
//! The kernel asks before it starts a program (fanotify, `FAN_OPEN_EXEC_PERM`), and the **warden**
//! answers, a process of its own ([`warden`]). The helper keeps what is denied, on disk, and tells the
//! warden the whole list whenever it changes; a warden that was started again holds nothing until it is
//! told ([`Deny::tell_again`]).
//!
//! | denied | where it holds |
//! |---|---|
//! | a path | the file there, also under its other names; another file put there, within a second (at once on a watched filesystem) |
//! | a content | every program of the watched filesystems; elsewhere only the files that are known to have it: what the finding saw, and what runs from them when it is ordered or looked at (`running`) |
//!
//! The filesystem of `/`, and any other that holds what the machine needs, is never watched as a whole
//! ([`marks`]): a mistake there once stood a machine still.

pub mod list;
pub mod marks;
mod running;
pub mod verdict;
pub mod warden;

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cordon_link::frame;
use cordon_model::action::{ActionKind, Denied, FilePath, Sha256Digest};
use cordon_model::ids::MeasureId;
use cordon_model::measure::{Probe, Proof};
use nix::sys::socket::{getsockopt, sockopt};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::journal::Journal;
use super::kernel::could_start;
use super::place::Place;
use super::spared::{FileId, Protected, SparedFiles};
use super::{ActError, Undone, failed, path_of, proof};
use crate::sensor::proc_files;

use self::list::{Ask, DENIED, DenyList, Entry, Holding, KNOWN, MESSAGE_BYTES, Mark};
use self::running::Running;
use self::verdict::FileState;

/// How long the warden may take to answer: it is killed by its own switch before.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);
/// How long a warden that did not answer is not asked again: the rest of the helper's tick. Each of 128
/// denials would wait for it otherwise.
const LEFT_ALONE: Duration = Duration::from_secs(1);
/// What is hashed to see whether a content is one that the machine needs, or runs now. The needed
/// programs and libraries of a Debian have about 60 MB; at 400 MB/s this takes about a second.
const HASHED_BYTES: u64 = 512 << 20;
/// The largest single file of these.
const HASHED_FILE_BYTES: u64 = 64 << 20;

/// A program that is denied: what was found, and all that is needed to allow it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeniedProgram {
    /// What is denied.
    pub entry: Entry,
    /// What of it is not covered, in words.
    pub not_covered: Vec<String>,
}

/// The means to deny.
#[derive(Debug)]
pub struct Deny {
    journal: Journal,
    warden: PathBuf,
    watched: Vec<FilePath>,
    state: PathBuf,
    checked: Mutex<Checked>,
    running: Mutex<Running>,
    /// The socket at which nobody answered, and when that was. A warden that was started again has another, which
    /// may have the number of the first, and is younger.
    silent: Mutex<Option<(FileState, Instant)>>,
}

/// Contents that were seen not to be one that care needs, so that they are not looked for each time.
#[derive(Debug, Default)]
struct Checked {
    /// What was protected then.
    against: Protected,
    measures: HashSet<MeasureId>,
}

impl Deny {
    /// By the warden at the socket `warden`, which is to look at every program of the filesystems that
    /// are mounted at `watched`. Of Cordon's own folder `state` nothing is denied.
    #[must_use]
    pub fn new(journal: Journal, warden: PathBuf, watched: Vec<FilePath>, state: PathBuf) -> Self {
        Self {
            journal,
            warden,
            watched,
            state,
            checked: Mutex::default(),
            running: Mutex::default(),
            silent: Mutex::default(),
        }
    }

    /// From now on the warden is to look at every program of the filesystems mounted at `watched`; it hears of it
    /// with the next list that it is told.
    pub fn watch(&mut self, watched: &[FilePath]) {
        if self.watched != watched {
            self.watched = watched.to_vec();
        }
    }

    /// Denies a program. `seen_at` are files that had the denied content when they were seen.
    ///
    /// # Errors
    /// If it is one that the machine needs, or the warden does not answer. Nothing is denied then that
    /// was not before.
    pub fn apply(
        &self,
        measure: MeasureId,
        denied: &Denied,
        seen_at: &[FilePath],
        protected: &Protected,
    ) -> Result<DeniedProgram, ActError> {
        let spared = SparedFiles::now(protected, Some(&self.state));
        let before = self.begun(measure)?.filter(|before| before.entry.denied == *denied);
        let (file, known) = match (denied, &before) {
            (Denied::Path(path), _) => (check_path(path, &spared)?, Vec::new()),
            (Denied::Sha256(digest), None) => {
                (None, check_content(digest, seen_at, &spared, &mut self.running())?)
            }
            (Denied::Sha256(digest), Some(before)) => {
                self.check_again(measure, digest, &spared, protected)?;
                let running = &mut self.running();
                (None, known_by_now(digest, &before.entry.known, seen_at, &spared, running))
            }
        };
        if let Denied::Sha256(_) = denied {
            self.note_checked(measure, protected);
        }
        let others = self.journal.measures(ActionKind::Deny)?;
        if others.len() >= DENIED && !others.contains(&measure) {
            return Err(ActError::unfit(format!(
                "{DENIED} programs are denied already: allow some"
            )));
        }
        // Applied again: the file that was at the path when it was denied first stays denied.
        let file = before.as_ref().and_then(|before| before.entry.file).or(file);
        let entry = Entry { measure, denied: denied.clone(), file, known };
        // A look that finds nothing new writes nothing.
        let written = before.as_ref().filter(|before| before.entry == entry);
        let mut program = DeniedProgram { entry, not_covered: Vec::new() };
        if written.is_none() {
            self.journal.write(ActionKind::Deny, measure, &program)?;
        }
        // Told again, the warden begins anew: not for nothing.
        let told = match before.as_ref().and_then(|_| self.holds_already(protected)) {
            Some(holding) => Ok(holding),
            None => self.tell(protected),
        };
        match told {
            Ok(holding) => {
                program.not_covered = self.not_covered(&program.entry, &holding);
                if written != Some(&program) {
                    self.journal.write(ActionKind::Deny, measure, &program)?;
                }
                Ok(program)
            }
            Err(error) => {
                if before.is_none() {
                    self.journal.forget(ActionKind::Deny, measure)?;
                }
                Err(error)
            }
        }
    }

    /// What the journal has of `measure`.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn begun(&self, measure: MeasureId) -> Result<Option<DeniedProgram>, ActError> {
        self.journal.read(ActionKind::Deny, measure)
    }

    /// Tells the warden what is denied if it holds something else: it was started again. Whether it did.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn tell_again(&self, protected: &Protected) -> Result<bool, ActError> {
        let list = self.list(protected)?;
        let held = self.ask(&Ask::Say)?.0.list;
        // A warden that was just started holds an empty list of nothing watched: as good as ours if that is
        // empty too.
        if held == list || (held.entries.is_empty() && list.entries.is_empty()) {
            return Ok(false);
        }
        self.tell(protected)?;
        Ok(true)
    }

    /// Shows that the kernel asks the warden, and that the program can't be started. It is not started
    /// to see that: the kernel is asked whether it would be (since Linux 6.14).
    ///
    /// # Errors
    /// When the system can't be asked.
    pub fn prove(&self, program: &DeniedProgram) -> Result<Proof, ActError> {
        let mut unproven = program.not_covered.clone();
        let measure = program.entry.measure;
        let (holding, pid) = match self.ask(&Ask::Say) {
            Ok(answer) => answer,
            Err(error) => {
                unproven
                    .push(format!("the warden does not answer, and nothing is denied: {error}"));
                return Ok(proof(false, Vec::new(), unproven));
            }
        };
        let is_held = holding.list.entries.contains(&program.entry);
        if !is_held {
            unproven.push("the warden was started again and not told yet".into());
        }
        let missing = missing_marks(pid, &holding);
        if missing > 0 {
            unproven.push(format!("the kernel does not know of {missing} of the warden's marks"));
        }
        let mut probes = Vec::new();
        for path in self.paths(&program.entry) {
            probes.extend(probe(path, false, &mut unproven));
        }
        if probes.is_empty() {
            unproven.push("no file is known to try it with: read back, not tried".into());
        }
        // What must go on goes on.
        if let Ok(shell) = std::fs::canonicalize("/bin/sh") {
            let shell = FilePath::new(shell.as_os_str().as_encoded_bytes());
            probes.extend(probe(&shell, true, &mut unproven));
        }
        // Held in the list is not in force: nobody is asked about a program that no mark covers.
        let is_covered = self.is_covered(&program.entry, &holding);
        tracing::debug!(%measure, refused = holding.refused, "looked at what is denied");
        Ok(proof(is_held && missing == 0 && is_covered, probes, unproven))
    }

    /// Allows the program again.
    ///
    /// # Errors
    /// If the warden is there and does not answer; do it again.
    pub fn undo(&self, measure: MeasureId, protected: &Protected) -> Result<Undone, ActError> {
        // The warden first: what it still holds must stay in the journal, or nobody would take it back.
        let mut list = self.list(protected)?;
        list.entries.retain(|entry| entry.measure != measure);
        match self.hold(list) {
            Ok(_) => {}
            // Nobody is there: nobody denies anything.
            Err(ActError::Io { source, .. })
                if matches!(
                    source.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) => {}
            Err(error) => return Err(error),
        }
        if self.begun(measure)?.is_some() {
            self.journal.forget(ActionKind::Deny, measure)?;
        }
        self.checked().measures.remove(&measure);
        Ok(Undone::default())
    }

    /// The files by which a denial can be tried.
    fn paths<'a>(&self, entry: &'a Entry) -> impl Iterator<Item = &'a FilePath> {
        let path = match &entry.denied {
            Denied::Path(path) => Some(path),
            Denied::Sha256(_) => None,
        };
        path.into_iter().chain(&entry.known)
    }

    /// Refuses a content that was denied before, and that care needs by now. What the machine itself needs was
    /// looked at when it began, and the warden looks at each file before it refuses it.
    fn check_again(
        &self,
        measure: MeasureId,
        digest: &Sha256Digest,
        spared: &SparedFiles,
        protected: &Protected,
    ) -> Result<(), ActError> {
        let checked = self.checked();
        if checked.against == *protected && checked.measures.contains(&measure) {
            return Ok(());
        }
        drop(checked);
        let named = spared.iter().map(|(_, path)| path);
        let named =
            named.filter(|path| protected.executables.iter().any(|one| path_of(one) == *path));
        refuse_needed(digest, named, &mut { HASHED_BYTES })
    }

    fn note_checked(&self, measure: MeasureId, protected: &Protected) {
        let mut checked = self.checked();
        if checked.against != *protected {
            *checked = Checked { against: protected.clone(), measures: HashSet::new() };
        }
        checked.measures.insert(measure);
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn checked(&self) -> MutexGuard<'_, Checked> {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the warden holds, if that is all that is denied, and the kernel asks it about all of it.
    fn holds_already(&self, protected: &Protected) -> Option<Holding> {
        let list = self.list(protected).ok()?;
        let (holding, pid) = self.ask(&Ask::Say).ok()?;
        let is_whole = holding.list == list
            && holding.problems.is_empty()
            && missing_marks(pid, &holding) == 0;
        is_whole.then_some(holding)
    }

    /// Whether the kernel asks about anything that `entry` denies. A path where no file is yet is looked at
    /// by the warden itself.
    fn is_covered(&self, entry: &Entry, holding: &Holding) -> bool {
        let is_watched = holding.marks.iter().any(|mark| matches!(mark, Mark::Filesystem { .. }));
        match entry.denied {
            Denied::Path(_) => true,
            Denied::Sha256(_) => is_watched || !entry.known.is_empty(),
        }
    }

    fn not_covered(&self, entry: &Entry, holding: &Holding) -> Vec<String> {
        let mut not_covered = holding.problems.clone();
        if let Denied::Sha256(_) = entry.denied {
            let watched: Vec<String> = holding
                .marks
                .iter()
                .filter_map(|mark| match mark {
                    Mark::Filesystem { at, .. } => Some(at.to_string()),
                    Mark::File { .. } => None,
                })
                .collect();
            not_covered.push(match (watched.is_empty(), entry.known.len()) {
                (true, 0) => {
                    "no filesystem is watched and no file is known: nothing is denied yet".into()
                }
                (true, known) => format!("only {known} known files: a copy can be started"),
                (false, known) => format!(
                    "only programs on {} and {known} known files: a copy elsewhere can be started",
                    watched.join(", ")
                ),
            });
        }
        not_covered
    }

    fn list(&self, protected: &Protected) -> Result<DenyList, ActError> {
        let mut entries = Vec::new();
        for measure in self.journal.measures(ActionKind::Deny)? {
            match self.begun(measure) {
                Ok(program) => entries.extend(program.map(|program| program.entry)),
                // One damaged entry must not keep the others from being denied.
                Err(error) => tracing::error!(%error, %measure, "a denial can't be read"),
            }
        }
        Ok(DenyList { entries, watched: self.watched.clone(), protected: protected.clone() })
    }

    fn tell(&self, protected: &Protected) -> Result<Holding, ActError> {
        self.hold(self.list(protected)?)
    }

    fn hold(&self, list: DenyList) -> Result<Holding, ActError> {
        let (holding, _) = self.ask(&Ask::Hold(list.clone()))?;
        // With nothing to deny it holds nothing, and does not remember what it was to watch.
        let denies_nothing = list.entries.is_empty() && holding.list.entries.is_empty();
        if holding.list == list || denies_nothing {
            Ok(holding)
        } else {
            Err(ActError::unfit("the warden did not take the list"))
        }
    }

    /// The warden's answer, and its pid as the kernel tells it.
    fn ask(&self, ask: &Ask) -> Result<(Holding, i32), ActError> {
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        let socket = std::fs::symlink_metadata(&self.warden).ok().map(|it| FileState::of(&it));
        if let Some((at, when)) = *silent
            && Some(at) == socket
            && when.elapsed() < LEFT_ALONE
        {
            return Err(ActError::unfit("the warden did not answer a moment ago"));
        }
        let asked = self.ask_now(ask);
        *silent = match (&asked, socket) {
            (Err(_), Some(socket)) => Some((socket, Instant::now())),
            _ => None,
        };
        asked
    }

    fn ask_now(&self, ask: &Ask) -> Result<(Holding, i32), ActError> {
        let asking = || failed(format!("asking the warden at {}", self.warden.display()));
        let mut warden = UnixStream::connect(&self.warden).map_err(asking())?;
        warden.set_read_timeout(Some(ANSWERED_WITHIN)).map_err(asking())?;
        warden.set_write_timeout(Some(ANSWERED_WITHIN)).map_err(asking())?;
        let peer = getsockopt(&warden, sockopt::PeerCredentials)
            .map_err(|errno| asking()(errno.into()))?;
        if peer.uid() != nix::unistd::geteuid().as_raw() {
            return Err(ActError::unfit("another user answers in the warden's place"));
        }
        let failed_frame = |error: frame::FrameError| asking()(io::Error::other(error));
        frame::blocking::write(&mut warden, ask, MESSAGE_BYTES).map_err(failed_frame)?;
        let answer = frame::blocking::read(&mut warden, MESSAGE_BYTES).map_err(failed_frame)?;
        let holding = answer.ok_or_else(|| {
            asking()(io::Error::other("it hung up: it ended, or did not understand"))
        })?;
        Ok((holding, peer.pid()))
    }
}

/// Refuses a content that the machine needs, and finds files that have it: those that were named, and
/// those that run now. Hundreds of megabytes are read: once, when it begins.
fn check_content(
    digest: &Sha256Digest,
    seen_at: &[FilePath],
    spared: &SparedFiles,
    running: &mut Running,
) -> Result<Vec<FilePath>, ActError> {
    let mut left = HASHED_BYTES;
    refuse_needed(digest, spared.iter().map(|(_, path)| path), &mut left)?;
    let runs = proc_files::pids().into_iter().filter_map(|pid| std::fs::read_link(exe(pid)).ok());
    let candidates = seen_at.iter().map(|path| path_of(path).to_owned()).chain(runs);
    Ok(files_with(digest, candidates, KNOWN, spared, running, &mut left))
}

/// The files that were known to have a content, and what is new of `seen_at` and of what runs, and has it.
fn known_by_now(
    digest: &Sha256Digest,
    known: &[FilePath],
    seen_at: &[FilePath],
    spared: &SparedFiles,
    running: &mut Running,
) -> Vec<FilePath> {
    let candidates =
        seen_at.iter().map(|path| path_of(path).to_owned()).chain(running.with(digest));
    let is_new = |path: &PathBuf| !known.iter().any(|known| path_of(known) == path);
    let fresh: Vec<PathBuf> = candidates.filter(is_new).collect();
    let mut known = known.to_vec();
    if fresh.is_empty() {
        return known;
    }
    if known.len() >= KNOWN {
        // One that is not there any more gives its place to one that is.
        known.retain(|path| Place::find(path_of(path)).is_ok_and(|place| place.file().is_ok()));
    }
    let most = KNOWN.saturating_sub(known.len());
    let found = files_with(digest, fresh.into_iter(), most, spared, running, &mut { HASHED_BYTES });
    known.extend(found);
    known
}

fn refuse_needed<'a>(
    digest: &Sha256Digest,
    needed: impl Iterator<Item = &'a Path>,
    left: &mut u64,
) -> Result<(), ActError> {
    for path in needed {
        if digest_of(path, left).as_ref() == Some(digest) {
            let why = format!("{} has this content, and is needed", path.display());
            return Err(ActError::refused(why));
        }
    }
    if *left == 0 {
        return Err(ActError::unfit(format!(
            "the programs that the machine needs have more than {HASHED_BYTES} bytes: whether this is one \
             of them can't be seen"
        )));
    }
    Ok(())
}

/// At most `most` of `candidates` that have the content, each file once, by the first of its names.
fn files_with(
    digest: &Sha256Digest,
    candidates: impl Iterator<Item = PathBuf>,
    most: usize,
    spared: &SparedFiles,
    running: &mut Running,
    left: &mut u64,
) -> Vec<FilePath> {
    let (mut known, mut looked_at) = (Vec::new(), HashSet::new());
    for path in candidates {
        let Ok(place) = Place::find(&path) else { continue };
        let Ok(file) = place.file() else { continue };
        let is_new = known.len() < most && looked_at.insert(file.id());
        if !is_new || spared.why(file.id(), Some(&place)).is_some() {
            continue;
        }
        if running.content(&file, left).as_ref() == Some(digest) {
            known.push(FilePath::new(path.as_os_str().as_encoded_bytes()));
        }
    }
    known
}

/// The file at the path now, if it may be denied.
fn check_path(path: &FilePath, spared: &SparedFiles) -> Result<Option<FileId>, ActError> {
    let shown = path_of(path);
    // By its name too: what is put there later is needed as much.
    if let Some(why) = spared.why_named(shown) {
        return Err(ActError::refused(why));
    }
    let found = Place::find(shown).and_then(|place| Ok((place.file()?, place)));
    let (found, place) = match found {
        Ok(found) => found,
        // It need not be there yet.
        Err(ActError::NotThere(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    match spared.why(found.id(), Some(&place)) {
        Some(why) => Err(ActError::refused(why)),
        None => Ok(Some(found.id())),
    }
}

fn probe(path: &FilePath, should_pass: bool, unproven: &mut Vec<String>) -> Option<Probe> {
    let did_pass = match could_start(path_of(path)) {
        Ok(could) => could,
        // It is gone: nobody starts it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            unproven.push(format!("whether {path} could be started: {error}"));
            None
        }
    };
    if did_pass.is_none() {
        unproven
            .push(format!("{path} was not tried: this kernel can't be asked without starting it"));
    }
    Some(Probe { tried: format!("whether {path} could be started"), should_pass, did_pass })
}

fn exe(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/exe"))
}

fn digest_of(path: &Path, left: &mut u64) -> Option<Sha256Digest> {
    digest_of_file(File::open(path).ok()?, left)
}

/// `None` if it can't be read, is too large, or too much was read already; then `left` is 0.
fn digest_of_file(file: File, left: &mut u64) -> Option<Sha256Digest> {
    let size = file.metadata().ok()?.len();
    if size > HASHED_FILE_BYTES {
        return None;
    }
    *left = left.saturating_sub(size);
    if *left == 0 {
        return None;
    }
    let mut hash = Sha256::new();
    let mut reader =
        io::BufReader::with_capacity(256 << 10, io::Read::take(file, HASHED_FILE_BYTES));
    io::copy(&mut reader, &mut hash).ok()?;
    Some(Sha256Digest(hash.finalize().into()))
}

/// How many of the warden's marks the kernel does not know of.
fn missing_marks(pid: i32, holding: &Holding) -> usize {
    let asked = marks_in_kernel(pid, holding).unwrap_or_default();
    holding.marks.iter().filter(|mark| !asked.contains(&words(mark))).count()
}

/// The marks that the kernel shows of the warden's group, in its own words (proc_pid_fdinfo(5)).
fn marks_in_kernel(pid: i32, holding: &Holding) -> Option<HashSet<String>> {
    let facts = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{}", holding.group?)).ok()?;
    let mut found = HashSet::new();
    for line in facts.lines().filter_map(|line| line.strip_prefix("fanotify ")) {
        let field = |name: &str| {
            line.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix(':'))
        };
        let mask = field("mask").and_then(|mask| u64::from_str_radix(mask, 16).ok());
        if mask.is_none_or(|mask| mask & libc::FAN_OPEN_EXEC_PERM == 0) {
            continue;
        }
        let Some(device) = field("sdev") else { continue };
        found.insert(match field("ino") {
            Some(inode) => format!("ino:{inode} sdev:{device}"),
            None => format!("sdev:{device}"),
        });
    }
    Some(found)
}

/// A mark in the kernel's words; it writes a device as major × 2²⁰ + minor.
fn words(mark: &Mark) -> String {
    let device =
        |major: u32, minor: u32| format!("{:x}", (u64::from(major) << 20) | u64::from(minor));
    match mark {
        Mark::Filesystem { device: (major, minor), .. } => {
            format!("sdev:{}", device(*major, *minor))
        }
        Mark::File { file: FileId { device: number, inode }, .. } => {
            let (major, minor) = (rustix::fs::major(*number), rustix::fs::minor(*number));
            format!("ino:{inode:x} sdev:{}", device(major, minor))
        }
    }
}
