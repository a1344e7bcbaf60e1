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
//! | a content | every program of the watched filesystems; elsewhere only the files that are known to have it |
//!
//! The filesystem of `/`, and any other that holds what the machine needs, is never watched as a whole
//! ([`marks`]): a mistake there once stood a machine still.

pub mod list;
pub mod marks;
pub mod verdict;
pub mod warden;

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cordon_link::frame;
use cordon_model::action::{Denied, FilePath, Sha256Digest};
use cordon_model::ids::MeasureId;
use cordon_model::measure::{Probe, Proof};
use nix::sys::socket::{getsockopt, sockopt};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::journal::{Journal, Kind};
use super::kernel::could_start;
use super::lineage::Seen;
use super::place::Place;
use super::spared::{FileId, Protected, SparedFiles};
use super::{ActError, Undone, failed, path_of, proof};

use self::list::{Ask, DENIED, DenyList, Entry, Holding, KNOWN, MESSAGE_BYTES, Mark};

/// How long the warden may take to answer: it is killed by its own switch before.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);
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
}

impl Deny {
    /// By the warden at the socket `warden`, which is to look at every program of the filesystems that
    /// are mounted at `watched`. Of Cordon's own folder `state` nothing is denied.
    #[must_use]
    pub fn new(journal: Journal, warden: PathBuf, watched: Vec<FilePath>, state: PathBuf) -> Self {
        Self { journal, warden, watched, state }
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
        let (file, known) = match denied {
            Denied::Path(path) => (check_path(path, &spared)?, Vec::new()),
            Denied::Sha256(digest) => (None, self.check_content(digest, seen_at, &spared)?),
        };
        let others = self.journal.measures(Kind::Deny)?;
        if others.len() >= DENIED && !others.contains(&measure) {
            return Err(ActError::unfit(format!(
                "{DENIED} programs are denied already: allow some"
            )));
        }
        let before = self.begun(measure)?;
        // Applied again: the file that was at the path when it was denied first stays denied.
        let file = before.as_ref().and_then(|before| before.entry.file).or(file);
        let entry = Entry { measure, denied: denied.clone(), file, known };
        let mut program = DeniedProgram { entry, not_covered: Vec::new() };
        self.journal.write(Kind::Deny, measure, &program)?;
        match self.tell(protected) {
            Ok(holding) => {
                program.not_covered = self.not_covered(&program.entry, &holding);
                self.journal.write(Kind::Deny, measure, &program)?;
                Ok(program)
            }
            Err(error) => {
                if before.is_none() {
                    self.journal.forget(Kind::Deny, measure)?;
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
        self.journal.read(Kind::Deny, measure)
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
        let asked = marks_in_kernel(pid, &holding).unwrap_or_default();
        let missing = holding.marks.iter().filter(|mark| !asked.contains(&words(mark))).count();
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
            self.journal.forget(Kind::Deny, measure)?;
        }
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

    /// Refuses a content that the machine needs, and finds files that have it: those that were named,
    /// and those that run now.
    fn check_content(
        &self,
        digest: &Sha256Digest,
        seen_at: &[FilePath],
        spared: &SparedFiles,
    ) -> Result<Vec<FilePath>, ActError> {
        let mut left = HASHED_BYTES;
        for (_, path) in spared.iter() {
            if digest_of(path, &mut left).as_ref() == Some(digest) {
                let why = format!("{} has this content, and is needed", path.display());
                return Err(ActError::refused(why));
            }
        }
        if left == 0 {
            return Err(ActError::unfit(format!(
                "the programs that the machine needs have more than {HASHED_BYTES} bytes: whether this \
                 is one of them can't be seen"
            )));
        }
        let mut known = Vec::new();
        let mut looked_at = HashSet::new();
        let running = Seen::all().into_iter().filter(|seen| !seen.is_kernel_thread);
        let running = running.filter_map(|seen| std::fs::read_link(exe(seen.id.pid)).ok());
        for path in seen_at.iter().map(|path| path_of(path).to_owned()).chain(running) {
            let Some(file) = Place::find(&path).ok().and_then(|place| place.file().ok()) else {
                continue;
            };
            let is_new = known.len() < KNOWN && looked_at.insert(file.id());
            if !is_new || spared.why(file.id(), Some(&path)).is_some() {
                continue;
            }
            if file.open().ok().and_then(|f| digest_of_file(f, &mut left)).as_ref() == Some(digest)
            {
                known.push(FilePath::new(path.as_os_str().as_encoded_bytes()));
            }
        }
        Ok(known)
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
        for measure in self.journal.measures(Kind::Deny)? {
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

/// The file at the path now, if it may be denied.
fn check_path(path: &FilePath, spared: &SparedFiles) -> Result<Option<FileId>, ActError> {
    let shown = path_of(path);
    // By its name too: what is put there later is needed as much.
    if let Some((_, needed)) = spared.iter().find(|(_, needed)| *needed == shown) {
        let why = format!("{} is needed to run and repair this machine", needed.display());
        return Err(ActError::refused(why));
    }
    let found = match Place::find(shown).and_then(|place| place.file()) {
        Ok(found) => found,
        // It need not be there yet.
        Err(ActError::NotThere(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    match spared.why(found.id(), Some(shown)) {
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
