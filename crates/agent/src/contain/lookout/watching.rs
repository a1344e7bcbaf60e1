//! The lookout at work: what the kernel tells of is looked at, put down to whom it named, and written.
//!
//! The order in which it is asked matters: first who forked, then what happened, then the place is looked at, then once
//! more what happened. So whoever wrote before the look is named with it, though the kernel told of them after it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cordon_model::action::FilePath;
use cordon_model::change::Doer;
use cordon_model::limits::NAME_BYTES;
use cordon_model::survey::PLACE_BYTES;
use cordon_model::time::{BootId, UtcNanos};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::book::{Book, Noted, Sight};
use super::group::{Group, Heard};
use super::limits;
use super::lines;
use super::spots::Spots;
use super::standing::{self, Standing, Unseen, cut};
use super::store::Store;
use super::who::Processes;
use crate::contain::action::mounts::{Mount, far, mounts};
use crate::contain::action::plain;
use crate::contain::survey::limits::NAMES;
use crate::contain::survey::tasks::Plan;

/// Rounds of one turn: whoever writes without end has others wait no longer.
const ROUNDS: usize = 8;
/// Contents that nothing needs any more are removed after so many changes.
const TIDIED_AFTER: usize = 256;
/// Gaps that are remembered.
const GAPS: usize = 16;

/// What is to be looked at: a thing, or a folder that came or went, and who is named for it.
type Pending = Vec<(PathBuf, bool, Vec<Doer>)>;

/// The lookout.
pub struct Lookout {
    root: PathBuf,
    boot: BootId,
    store: Store,
    _alone: File,
    book: Book,
    group: Group,
    spots: Spots,
    mounts: Vec<Mount>,
    processes: Processes,
    pending: Pending,
    kept_bytes: u64,
    gaps: BTreeSet<String>,
    since_tidied: usize,
    dirty: Option<Instant>,
    lived: Option<Instant>,
}

impl Lookout {
    /// Looks at all places of the machine whose file system begins at `root`, and watches them from now on. What is
    /// kept is in `folder`; `helper` is the process whose changes are Cordon's own.
    ///
    /// # Errors
    /// Without root, before Linux 5.9, if another one looks out, or when the disk fails.
    pub fn open(folder: &Path, root: &Path, boot: BootId, helper: u32) -> io::Result<Self> {
        let store = Store::open(folder)?;
        let alone = store.lock()?;
        let alone = alone.ok_or_else(|| io::Error::other("somebody else looks out here"))?;
        let now = UtcNanos::now();
        let known = store.known()?;
        let is_first = known.is_none();
        let mut known = known.unwrap_or_default();
        match known.since {
            None => known.since = Some(now),
            Some(since) => {
                known.breaks.push_back((store.alive().unwrap_or(since), now));
                while known.breaks.len() > limits::BREAKS {
                    known.breaks.pop_front();
                }
            }
        }
        let records = store.changes()?;
        let group = Group::open()?;
        let (processes, why) = Processes::now(helper);
        let mut lookout = Self {
            root: root.to_owned(),
            boot,
            store,
            _alone: alone,
            book: Book::of(known, records),
            group,
            spots: Spots::default(),
            mounts: mounts()?,
            processes,
            pending: Vec::new(),
            kept_bytes: 0,
            gaps: BTreeSet::new(),
            since_tidied: 0,
            dirty: None,
            lived: None,
        };
        if let Some(why) = why {
            lookout.gap(format!(
                "forks are not heard of ({why}): who ends at once after a change is known by number only"
            ));
        }
        lookout.find_spots();
        // Those whose content is gone with a crash are kept anew.
        lookout.tidy()?;
        lookout.look_at_all(is_first);
        lookout.live()?;
        lookout.write_known()?;
        lookout.store.flush()?;
        Ok(lookout)
    }

    /// Waits until something happens, at most so long, and notes it.
    ///
    /// # Errors
    /// When the kernel or the disk fails.
    pub fn turn(&mut self, most: Duration) -> io::Result<()> {
        let until = match self.dirty {
            _ if !self.pending.is_empty() => Duration::ZERO,
            Some(since) => limits::WRITTEN_AFTER.saturating_sub(since.elapsed()),
            None => limits::SIGN_OF_LIFE,
        };
        let wait = PollTimeout::try_from(most.min(until)).unwrap_or(PollTimeout::ZERO);
        let mut ready = vec![PollFd::new(self.group.descriptor(), PollFlags::POLLIN)];
        ready.extend(self.processes.descriptor().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        match poll(&mut ready, wait) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        drop(ready);
        let mut pending = std::mem::take(&mut self.pending);
        add(&mut pending, self.hear()?);
        for _ in 0..ROUNDS {
            if pending.is_empty() {
                break;
            }
            pending = self.round(pending)?;
        }
        self.pending = pending;
        if self.dirty.is_some_and(|since| since.elapsed() >= limits::WRITTEN_AFTER) {
            self.write_known()?;
        }
        if self.lived.is_none_or(|lived| lived.elapsed() >= limits::SIGN_OF_LIFE) {
            self.live()?;
        }
        Ok(())
    }

    /// How many folders are watched, and how many things are known.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        (self.group.folders(), self.book.known.standings.len())
    }

    /// Looks at what is pending; what has happened meanwhile is given back.
    fn round(&mut self, pending: Pending) -> io::Result<Pending> {
        let mut seen = Vec::new();
        let mut folders = Vec::new();
        for (path, is_folder, doers) in pending {
            match is_folder {
                true => folders.push((path, doers)),
                false => seen.push((standing::look(&path), path, doers)),
            }
        }
        let mut more = Pending::new();
        add(&mut more, self.hear()?);
        let mut moves_homes = false;
        for (looked, path, mut doers) in seen {
            // They may have written before the look.
            for (_, _, others) in more.iter().filter(|(other, ..)| *other == path) {
                others.iter().for_each(|doer| add_doer(&mut doers, doer.clone()));
            }
            moves_homes |= self.says_where_places_are(&path);
            self.note(&path, looked, doers, false);
        }
        for (path, doers) in folders {
            self.mounts = mounts().unwrap_or_default();
            match plain::look_at_itself(&path).is_ok_and(|seen| seen.kind() == "folder") {
                true => self.cover(&path, &doers, false),
                false => self.lost_folder(&path, &doers),
            }
        }
        if moves_homes {
            self.find_spots();
            let root = self.root.clone();
            self.cover(&root, &[], true);
        }
        Ok(more)
    }

    /// What has happened, by whom, of what is looked out for.
    fn hear(&mut self) -> io::Result<Pending> {
        self.processes.hear();
        let Heard { happened, is_lossy } = self.group.hear()?;
        self.processes.hear();
        let mut doers: BTreeMap<u32, Doer> = BTreeMap::new();
        let mut pending = Pending::new();
        for one in &happened {
            for path in self.group.places(one) {
                let counts = match one.is_folder {
                    true => self.spots.watches(&path).is_some(),
                    false => self.spots.kind_of(&path).is_some(),
                };
                if counts {
                    let known = doers.entry(one.pid);
                    let doer = known.or_insert_with(|| self.processes.doer(one.pid)).clone();
                    add(&mut pending, vec![(path, one.is_folder, vec![doer])]);
                }
            }
        }
        if is_lossy {
            self.book.known.overflows = self.book.known.overflows.saturating_add(1);
            self.dirty.get_or_insert_with(Instant::now);
            self.look_at_all(false);
        }
        Ok(pending)
    }

    fn note(
        &mut self,
        path: &Path,
        looked: Result<(Standing, Option<Vec<u8>>), Unseen>,
        doers: Vec<Doer>,
        is_first_look: bool,
    ) {
        let Some(kind) = self.spots.kind_of(path) else { return };
        let (mut now, content) = match looked {
            Ok(looked) => looked,
            // Whoever writes to it is told of again.
            Err(Unseen::Restless) => return,
            Err(Unseen::Io(error)) => {
                return self.gap(format!("{} can't be looked at: {error}", path.display()));
            }
        };
        let shown = self.shown(path);
        if shown.as_bytes().len() > PLACE_BYTES {
            return self.gap(format!("paths of more than {PLACE_BYTES} bytes are not looked at"));
        }
        self.keep(&shown, &mut now, content.as_deref());
        let at = UtcNanos::now();
        let sight = Sight { path: &shown, kind, now, doers, is_first_look };
        match self.book.note(sight, at, &self.boot) {
            Noted::Nothing => {}
            Noted::Learnt => {
                self.dirty.get_or_insert_with(Instant::now);
            }
            Noted::Change(number) => {
                self.dirty.get_or_insert_with(Instant::now);
                self.write_change(number, content.as_deref());
            }
            Noted::Undone(number) => {
                self.dirty.get_or_insert_with(Instant::now);
                self.forget(number);
            }
        }
        let (gone, follow) = self.book.beyond();
        gone.into_iter().for_each(|number| self.forget(number));
        for number in follow {
            if let Some(record) = self.book.records.get(&number)
                && let Err(error) = self.store.write_change(record)
            {
                tracing::error!(%error, number, "a change can't be written");
            }
        }
    }

    /// Keeps the content of what stands there now, if that is another than before.
    fn keep(&mut self, shown: &FilePath, now: &mut Standing, content: Option<&[u8]>) {
        let (Standing::File(file), Some(content)) = (now, content) else { return };
        let before = self.book.known.standings.get(shown);
        if let Some(Standing::File(before)) = before
            && before.sha256 == file.sha256
        {
            file.is_kept = before.is_kept;
            return;
        }
        let length = content.len() as u64;
        let user = file.metadata.user;
        let is_theirs_full =
            user != 0 && self.book.bytes_of(user).saturating_add(length) > limits::USER_BYTES;
        if is_theirs_full || self.kept_bytes.saturating_add(length) > limits::KEPT_BYTES {
            file.is_kept = false;
            self.book.known.unkept = self.book.known.unkept.saturating_add(1);
            return;
        }
        match self.store.keep(file.sha256, content) {
            Ok(()) => self.kept_bytes = self.kept_bytes.saturating_add(length),
            Err(error) => {
                file.is_kept = false;
                self.gap(format!("what stood somewhere is not kept: {error}"));
            }
        }
    }

    fn write_change(&mut self, number: u64, after: Option<&[u8]>) {
        let Some(record) = self.book.records.get_mut(&number) else { return };
        let before = match &record.before {
            Standing::File(file) if file.is_kept => self.store.content(file.sha256).ok(),
            _ => None,
        };
        let sides = ((&record.before, before.as_deref()), (&record.after, after));
        let may_be_shown = !matches!(&record.after, Standing::File(_)) || after.is_some();
        let told = if may_be_shown { lines::told(record.kind, sides.0, sides.1) } else { vec![] };
        // Of whoever is named later for the same nothing is read anew.
        if !told.is_empty() {
            record.lines = told;
        }
        if let Err(error) = self.store.write_change(record) {
            tracing::error!(%error, number, "a change can't be written");
        }
        self.since_tidied += 1;
        if self.since_tidied >= TIDIED_AFTER
            && let Err(error) = self.tidy()
        {
            tracing::warn!(%error, "what is kept can't be tidied");
        }
    }

    fn forget(&self, number: u64) {
        if let Err(error) = self.store.forget(number) {
            tracing::warn!(%error, number, "a change can't be forgotten");
        }
    }

    /// Watches `folder` and what below it leads to places, and looks at all things there.
    fn cover(&mut self, folder: &Path, doers: &[Doer], is_first_look: bool) {
        let Some(is_for_files) = self.spots.watches(folder) else { return };
        if let Some(mount) = far(&self.mounts, folder) {
            let why = format!("it is on {}, whose answers may never come", mount.kind);
            return self.gap(format!("{} is not watched: {why}", folder.display()));
        }
        match self.group.watch(folder, is_for_files) {
            Ok(()) => {}
            // Most machines have only some; a link leads to where is looked out anyhow, or is said by a survey.
            Err(error) if is_absence(&error) => return,
            Err(error) => self.gap(format!("{} is not watched: {error}", folder.display())),
        }
        let mut inside: BTreeSet<PathBuf> = self.spots.names_in(folder).collect();
        if self.spots.is_place(folder) {
            match plain::look(folder).and_then(|seen| seen.names(NAMES)) {
                Ok((names, is_all)) => {
                    inside.extend(names.iter().map(|name| folder.join(name)));
                    if !is_all {
                        self.gap(format!("{} holds more than {NAMES} names", folder.display()));
                    }
                }
                Err(error) => self.gap(format!("{} can't be read: {error}", folder.display())),
            }
        }
        for path in inside {
            let is_folder = plain::look_at_itself(&path).is_ok_and(|seen| seen.kind() == "folder");
            if is_folder {
                self.cover(&path, doers, is_first_look);
            } else if self.spots.kind_of(&path).is_some() {
                let looked = standing::look(&path);
                self.note(&path, looked, doers.to_vec(), is_first_look);
            }
        }
    }

    /// A folder is gone, and all that was known below it.
    fn lost_folder(&mut self, folder: &Path, doers: &[Doer]) {
        self.group.forget_below(folder);
        for path in self.known_below(folder) {
            let looked = standing::look(&path);
            self.note(&path, looked, doers.to_vec(), false);
        }
    }

    /// Looks at all places, and at all that was known to stand somewhere. By whom it is another is not known.
    fn look_at_all(&mut self, is_first_look: bool) {
        let root = self.root.clone();
        self.cover(&root, &[], is_first_look);
        if !is_first_look {
            for path in self.known_below(&root) {
                let looked = standing::look(&path);
                self.note(&path, looked, Vec::new(), false);
            }
        }
    }

    fn known_below(&self, folder: &Path) -> Vec<PathBuf> {
        let real = |shown: &FilePath| {
            let below = shown.as_bytes().strip_prefix(b"/").unwrap_or_default();
            self.root.join(OsStr::from_bytes(below))
        };
        let all = self.book.known.standings.keys().map(real);
        all.filter(|path| path.starts_with(folder)).collect()
    }

    fn find_spots(&mut self) {
        let plan = Plan::of(&self.root, self.mounts.clone());
        let places = plan.tasks.into_iter().flat_map(|task| task.places);
        self.spots = Spots::of(&self.root, places);
    }

    /// Whether other homes, or other files with keys, may be places by what stands there now.
    fn says_where_places_are(&self, path: &Path) -> bool {
        path == self.root.join("etc/passwd")
    }

    fn shown(&self, path: &Path) -> FilePath {
        let below = path.strip_prefix(&self.root).unwrap_or(path);
        let mut shown = b"/".to_vec();
        shown.extend_from_slice(below.as_os_str().as_bytes());
        FilePath::new(shown)
    }

    fn gap(&mut self, what: String) {
        let what = cut(&what, NAME_BYTES);
        if self.gaps.len() < GAPS && self.gaps.insert(what.clone()) {
            // It is told with every answer: a place that is known to see less is no fault.
            tracing::info!(what, "the lookout misses something");
            self.dirty.get_or_insert_with(Instant::now);
        }
    }

    fn tidy(&mut self) -> io::Result<()> {
        self.since_tidied = 0;
        self.kept_bytes = self.store.keep_only(&self.book.contents())?;
        Ok(())
    }

    fn live(&mut self) -> io::Result<()> {
        self.lived = Some(Instant::now());
        self.store.live(UtcNanos::now())
    }

    fn write_known(&mut self) -> io::Result<()> {
        self.dirty = None;
        self.book.known.gaps = self.gaps.iter().cloned().collect();
        self.store.write_known(&self.book.known)
    }
}

/// Each path once, with all who are named for it.
fn add(pending: &mut Pending, more: Pending) {
    for (path, is_folder, doers) in more {
        let known =
            pending.iter_mut().find(|(other, folder, _)| *other == path && *folder == is_folder);
        match known {
            Some((.., known)) => doers.into_iter().for_each(|doer| add_doer(known, doer)),
            None => pending.push((path, is_folder, doers)),
        }
    }
}

/// One more than may be named is enough to know that it is too many.
fn add_doer(doers: &mut Vec<Doer>, doer: Doer) {
    if doers.len() <= cordon_model::change::MOST_DOERS && !doers.contains(&doer) {
        doers.push(doer);
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        || error.to_string().contains("symbolic link")
}
