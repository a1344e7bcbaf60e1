//! The lookout at work: what the kernel tells of is looked at, put down to whom it named, and written.
//!
//! The order in which it is asked matters: first who forked, then what happened, then a few places are looked at, then
//! once more what happened. So whoever wrote before the look is named with it, though the kernel told of them after it.
//! Where the kernel's word was lost, all that is of these is looked at anew and put down to nobody: never to those who
//! happened to be heard.

mod writing;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cordon_model::action::FilePath;
use cordon_model::change::Doer;
use cordon_model::survey::PLACE_BYTES;
use cordon_model::time::{BootId, UtcNanos};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::book::{Book, Noted, Sight};
use super::group::{BUFFER_BYTES, Group, Heard};
use super::limits;
use super::owed::{Debt, Owed, Spent, wait_after};
use super::spots::{Realm, SYSTEM, Spots};
use super::standing::{self, Restless, Standing, View};
use super::store::Store;
use super::waiting::{Waiting, Waits, add_doer};
use super::who::Processes;
use crate::contain::action::mounts::{Mount, far, mounts};
use crate::contain::action::plain;
use crate::contain::survey::limits::NAMES;

/// Rounds of one turn: whoever writes without end has others wait no longer.
const ROUNDS: usize = 64;
/// It is looked whether there are too many changes after so many.
const FORGOTTEN_AFTER: usize = 64;

/// What came of a look: what stands there, with its content if that may be kept.
type Looked = Result<(Standing, Option<Vec<u8>>), Restless>;

/// For what a place is looked at.
#[derive(Debug, Clone, Copy)]
enum For<'a> {
    /// Somebody, or nobody known, changed it.
    Change(&'a [Doer]),
    /// It is the very first look at this machine.
    FirstLook,
    /// It is a place since now, and these were before.
    NewPlaces(&'a Spots),
    /// More happened there than could be heard: by whom it is another is not known. Of homes it is looked at later.
    Loss,
}

/// The lookout.
pub struct Lookout {
    root: PathBuf,
    boot: BootId,
    store: Store,
    _alone: File,
    book: Book,
    /// The first is the system's; each home has one of the others.
    groups: BTreeMap<usize, Group>,
    spots: Spots,
    mounts: Vec<Mount>,
    /// Readable, as the kernel has it, when something was mounted or unmounted.
    mounted: File,
    processes: Processes,
    waiting: Waiting,
    /// Of these more happened than could be heard: they are to be looked at anew.
    lost: BTreeSet<Realm>,
    /// What is looked at later.
    owed: Owed,
    spent: Spent,
    hearing: u64,
    kept: BTreeMap<Realm, u64>,
    /// What can't be looked out for: whose it is, and in words.
    gaps: BTreeSet<(Realm, String)>,
    /// Changes that are not on the disk yet.
    unwritten: BTreeSet<u64>,
    /// It was said that the disk takes nothing.
    is_disk_full: bool,
    since_tidied: usize,
    since_beyond: usize,
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
        let groups = BTreeMap::from([(0, Group::open()?)]);
        let (processes, why) = Processes::now(helper);
        let mounted = File::open("/proc/self/mountinfo")?;
        let mounts = mounts()?;
        let spots = Spots::of_machine(root, mounts.clone());
        let book = Book::of(known, records, |path| spots.realm_of(&in_root(root, path)));
        let mut lookout = Self {
            root: root.to_owned(),
            boot,
            store,
            _alone: alone,
            book,
            groups,
            spots,
            mounts,
            mounted,
            processes,
            waiting: Waiting::default(),
            lost: BTreeSet::new(),
            owed: Owed::default(),
            spent: Spent::default(),
            hearing: 0,
            kept: BTreeMap::new(),
            gaps: BTreeSet::new(),
            unwritten: BTreeSet::new(),
            is_disk_full: false,
            since_tidied: 0,
            since_beyond: 0,
            dirty: None,
            lived: None,
        };
        if let Some(why) = why {
            lookout.gap(
                SYSTEM,
                format!(
                    "forks are not heard of ({why}): who ends at once after a change is known by number only"
                ),
            );
        }
        // Those whose content is gone with a crash are kept anew.
        lookout.tidy()?;
        if is_first {
            lookout.cover(root, For::FirstLook, None);
        } else {
            lookout.look_anew(None);
        }
        lookout.live();
        lookout.write_known();
        Ok(lookout)
    }

    /// Waits until something happens, at most so long, and notes it; whether anything had, or is still to be looked at.
    ///
    /// # Errors
    /// When the kernel or the disk fails.
    pub fn turn(&mut self, most: Duration) -> io::Result<bool> {
        let mut until = match self.dirty {
            _ if self.has_work() => Duration::ZERO,
            Some(since) => limits::WRITTEN_AFTER.saturating_sub(since.elapsed()),
            None => limits::SIGN_OF_LIFE,
        };
        if let Some(next) = self.owed.next_in(Instant::now()) {
            until = until.min(next);
        }
        let wait = PollTimeout::try_from(most.min(until)).unwrap_or(PollTimeout::ZERO);
        let groups = self.groups.values();
        let mut asked: Vec<_> =
            groups.map(|group| PollFd::new(group.descriptor(), PollFlags::POLLIN)).collect();
        let groups = asked.len();
        asked.extend(self.processes.descriptor().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        match poll(&mut asked, wait) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let is_ready = |fd: &PollFd<'_>| fd.revents().is_none_or(|events| !events.is_empty());
        let has_happened = asked.iter().take(groups).any(is_ready);
        drop(asked);
        // Most of the time somebody only forked: then nothing else is asked, or each start of a program would cost a reading
        // of every queue.
        match has_happened || self.has_work() {
            true => self.hear()?,
            false => self.processes.hear(),
        }
        let was_idle = !self.has_work() && self.owed.is_empty();
        for _ in 0..ROUNDS {
            if !self.has_work() {
                break;
            }
            self.recover()?;
            self.round()?;
        }
        if self.dirty.is_some_and(|since| since.elapsed() >= limits::WRITTEN_AFTER) {
            self.write_known();
        }
        if self.lived.is_none_or(|lived| lived.elapsed() >= limits::SIGN_OF_LIFE) {
            self.live();
        }
        Ok(!was_idle)
    }

    fn has_work(&self) -> bool {
        let is_due = || self.owed.next_in(Instant::now()).is_some_and(|wait| wait.is_zero());
        !self.waiting.is_empty() || !self.lost.is_empty() || is_due()
    }

    /// How many folders are watched, and how many things are known.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        (self.groups.values().map(Group::folders).sum(), self.book.known.standings.len())
    }

    /// Looks at some of what waits, hears what happened meanwhile, and notes what was seen.
    fn round(&mut self) -> io::Result<()> {
        self.see_mounts();
        let (mut seen, mut folders) = (Vec::new(), Vec::new());
        let mut left = limits::AT_ONCE_BYTES;
        while seen.len() + folders.len() < limits::AT_ONCE && left > 0 {
            let (path, debt) = match self.waiting.take() {
                Some(one) if one.is_folder => {
                    folders.push(one);
                    continue;
                }
                Some(Waits { realm, path, doers, .. }) => {
                    (path, Debt { realm, doers, is_lost: false, tries: 0 })
                }
                None => match self.owed.take_due(Instant::now()) {
                    Some(debt) => debt,
                    None => break,
                },
            };
            if let Some(pause) = self.spent.pause(debt.realm, Instant::now()) {
                self.owe(&path, debt, pause);
                continue;
            }
            let looked = self.look(&path, debt.realm);
            left = left.saturating_sub(match &looked {
                Some(Ok((_, Some(content)))) => content.len(),
                _ => 1,
            });
            seen.extend(looked.map(|looked| (looked, path, debt)));
        }
        self.hear()?;
        let mut moves_homes = false;
        for (looked, path, mut debt) in seen {
            // What was seen is older than what was lost: they are looked at anew.
            if self.lost.contains(&debt.realm) {
                continue;
            }
            // They may have written before the look.
            let others = self.waiting.named(debt.realm, &path).to_vec();
            others.into_iter().for_each(|doer| add_doer(&mut debt.doers, doer));
            let is_new = self.note_or_owe(&path, looked, debt);
            moves_homes |= is_new && self.says_where_places_are(&path);
        }
        for Waits { path, doers, .. } in folders {
            match plain::look_near(&self.mounts, &path).is_ok_and(|seen| seen.kind() == "folder") {
                true => self.cover(&path, For::Change(&doers), None),
                false => self.lost_folder(&path, &doers),
            }
        }
        if moves_homes {
            self.find_new_places();
        }
        Ok(())
    }

    /// Notes what was seen, or has it looked at later; whether it is new.
    fn note_or_owe(&mut self, path: &Path, looked: Looked, mut debt: Debt) -> bool {
        let is_restless = looked.is_err();
        let doers = if debt.is_lost { Vec::new() } else { debt.doers.clone() };
        debt.tries += u32::from(is_restless);
        // Also what never rests is told of in the end.
        let is_new = (!is_restless || debt.tries == limits::RESTLESS)
            && self.note(path, debt.realm, looked, doers, false);
        if is_restless {
            // Who was heard of meanwhile is in it.
            self.waiting.forget(debt.realm, path);
            let again = Instant::now() + wait_after(debt.tries);
            self.owe(path, debt, again);
        }
        is_new
    }

    fn owe(&mut self, path: &Path, debt: Debt, at: Instant) {
        let realm = debt.realm;
        if !self.owed.owe(path, debt, at) {
            // By whom is not known, then.
            self.lose(realm);
        }
    }

    /// Hears what has happened, by whom, of what is looked out for; it waits from then on.
    fn hear(&mut self) -> io::Result<()> {
        self.hearing += 1;
        self.processes.hear();
        let (mut all, mut buffer) = (Vec::new(), vec![0; BUFFER_BYTES]);
        for (number, group) in &self.groups {
            let counts = |path: &Path, is_folder: bool| {
                let counts = match is_folder {
                    true => self.spots.watches(path).is_some(),
                    false => self.spots.kind_of(path).is_some(),
                };
                counts.then(|| self.spots.realm_of(path))
            };
            all.push((*number, group.hear(&mut buffer, counts)?));
        }
        self.processes.hear();
        if self.processes.has_lost() {
            self.gap(
                SYSTEM,
                "so many processes began at once that not all were heard of: who ended at once after a change then may \
                 be known by number only"
                    .to_owned(),
            );
        }
        let mut doers = BTreeMap::new();
        for (number, Heard { happened, crowded, is_lossy }) in all {
            let mut lost = crowded;
            if is_lossy {
                self.book.known.overflows = self.book.known.overflows.saturating_add(1);
                let all = self.spots.realms().chain([SYSTEM]);
                lost.extend(all.filter(|realm| queue_of(*realm) == number));
            }
            lost.into_iter().for_each(|realm| self.lose(realm));
            for (realm, places) in happened {
                for ((path, is_folder), by) in places {
                    if self.lost.contains(&realm) {
                        break;
                    }
                    let mut named = Vec::new();
                    for one in by {
                        let doer = doers
                            .entry((one.0, format!("{:?}", one.1)))
                            .or_insert_with(|| self.processes.doer(one.0, one.1));
                        named.push(doer.clone());
                    }
                    let named = match is_folder {
                        true => Some(named),
                        false => self.owed.name(&path, named),
                    };
                    // Else it is looked at later, and they are named then.
                    let Some(named) = named else { continue };
                    if !self.waiting.add(Waits { realm, path, is_folder, doers: named }) {
                        self.lose(realm);
                    }
                }
            }
        }
        Ok(())
    }

    /// More happened there than could be heard: nobody is named for what is different when it is looked at anew.
    fn lose(&mut self, realm: Realm) {
        self.waiting.give_up(realm);
        self.owed.give_up(realm);
        if !self.lost.insert(realm) {
            return;
        }
        self.dirty.get_or_insert_with(Instant::now);
        let home = self.spots.home(realm).map(Path::to_owned);
        let shown = home.map_or_else(|| FilePath::new("/"), |home| self.shown(&home));
        let lost_at = &mut self.book.known.lost_at;
        lost_at.insert(shown, UtcNanos::now());
        while lost_at.len() > limits::LOST {
            let oldest = lost_at.iter().min_by_key(|(_, at)| **at).map(|(home, _)| home.clone());
            oldest.map(|home| lost_at.remove(&home));
        }
    }

    /// Looks anew at what more happened to than could be heard, and at what is of queues with too many strays.
    fn recover(&mut self) -> io::Result<()> {
        let strays: Vec<usize> =
            self.groups.iter().filter(|(_, group)| group.has_strays()).map(|(at, _)| *at).collect();
        for number in strays {
            if let Some(group) = self.groups.get_mut(&number) {
                group.let_go()?;
            }
            let all: Vec<Realm> = self.spots.realms().chain([SYSTEM]).collect();
            all.into_iter().filter(|one| queue_of(*one) == number).for_each(|one| self.lose(one));
        }
        while let Some(realm) = self.lost.first().copied() {
            self.see_mounts();
            self.look_anew(Some(realm));
            self.lost.remove(&realm);
        }
        Ok(())
    }

    /// What stands there; `None`: of these nothing new can be known.
    fn look(&mut self, path: &Path, realm: Realm) -> Option<Looked> {
        let shown = self.shown(path);
        let is_known = self.book.known.standings.contains_key(&shown);
        if !is_known && self.book.is_full(realm) {
            plain::look_near(&self.mounts, path).ok()?;
            self.book.known.beyond = self.book.known.beyond.saturating_add(1);
            self.dirty.get_or_insert_with(Instant::now);
            return None;
        }
        let is_systems = realm == SYSTEM;
        let most = if is_systems { limits::HASHED_BYTES } else { limits::HOME_HASHED_BYTES };
        let read = Cell::new(0);
        let view = View { root: &self.root, mounts: &self.mounts, hashed_bytes: most, read: &read };
        let looked = standing::look(path, view);
        self.spent.spend(realm, read.get(), Instant::now());
        Some(looked)
    }

    /// Notes what was seen; whether it is new.
    fn note(
        &mut self,
        path: &Path,
        realm: Realm,
        looked: Looked,
        mut doers: Vec<Doer>,
        is_first_look: bool,
    ) -> bool {
        let Some(kind) = self.spots.kind_of(path) else { return false };
        let (mut now, content) = match looked {
            Ok(looked) => looked,
            Err(Restless) => (Standing::Other("what is written to without end".into()), None),
        };
        if matches!(&now, Standing::Other(what) if what.contains("can't be looked at")) {
            self.gap(realm, format!("{} can't be looked at", path.display()));
        }
        let shown = self.shown(path);
        if shown.as_bytes().len() > PLACE_BYTES {
            self.gap(realm, format!("paths of more than {PLACE_BYTES} bytes are not looked at"));
            return false;
        }
        if has_other_names(&now)
            || self.book.known.standings.get(&shown).is_some_and(has_other_names)
        {
            // By another name it may have been written to by somebody whom nobody saw.
            doers.clear();
        }
        self.keep(&shown, realm, &mut now, content.as_deref());
        let at = UtcNanos::now();
        let hearing = self.hearing;
        let sight = Sight { path: &shown, kind, realm, now, doers, is_first_look, hearing };
        let noted = self.book.note(sight, at, &self.boot);
        if noted == Noted::Nothing {
            return false;
        }
        self.dirty.get_or_insert_with(Instant::now);
        if let Noted::Change(number) = noted {
            self.write_change(number, content.as_deref());
        }
        // Once for many: it looks at all of them.
        self.since_beyond += 1;
        if self.since_beyond < FORGOTTEN_AFTER {
            return true;
        }
        self.since_beyond = 0;
        let (gone, follow) = self.book.beyond();
        gone.into_iter().for_each(|number| self.forget(number));
        for number in follow {
            if let Some(record) = self.book.records.get(&number)
                && self.store.write_change(record).is_err()
            {
                self.unwritten.insert(number);
            }
        }
        true
    }

    /// Watches `folder` and what below it leads to places, and looks at all things there; of one home, if that is all that
    /// is wanted.
    fn cover(&mut self, folder: &Path, why: For<'_>, only: Option<Realm>) {
        let Some(is_for_files) = self.spots.watches(folder) else { return };
        let realm = self.spots.realm_of(folder);
        if let Some(mount) = far(&self.mounts, folder) {
            let why = format!("it is on {}, whose answers may never come", mount.kind);
            return self.gap(realm, format!("{} is not watched: {why}", folder.display()));
        }
        match self.watch(folder, is_for_files, realm) {
            Ok(()) => {}
            // Most machines have only some; a link leads to where is looked out anyhow, or is said by a survey.
            Err(error) if is_absence(&error) => return,
            Err(error) => {
                self.gap(realm, format!("{} is not watched: {error}", folder.display()));
            }
        }
        let mut inside: BTreeSet<PathBuf> = self.spots.names_in(folder).collect();
        if self.spots.is_place(folder) {
            let names = plain::look_near(&self.mounts, folder).and_then(|seen| seen.names(NAMES));
            match names {
                Ok((names, is_all)) => {
                    inside.extend(names.iter().map(|name| folder.join(name)));
                    if !is_all {
                        let what = format!("{} holds more than {NAMES} names", folder.display());
                        self.gap(realm, what);
                    }
                }
                Err(error) => {
                    self.gap(realm, format!("{} can't be read: {error}", folder.display()));
                }
            }
        }
        for path in inside {
            let realm = self.spots.realm_of(&path);
            let kind = plain::look_near(&self.mounts, &path).map(|seen| seen.kind());
            if kind.is_ok_and(|kind| kind == "folder") {
                // Another home may be in a folder of the system's.
                if only.is_none_or(|only| only == realm) {
                    self.cover(&path, why, only);
                }
                continue;
            }
            let is_wanted = only.is_none_or(|only| only == realm);
            if !is_wanted || self.spots.kind_of(&path).is_none() {
                continue;
            }
            match why {
                // As much as somebody has room for may come with a folder of theirs.
                For::Change(doers) if realm != SYSTEM => {
                    let debt = Debt { realm, doers: doers.to_vec(), is_lost: false, tries: 0 };
                    self.owe(&path, debt, Instant::now());
                }
                For::Change(doers) => self.look_and_note(&path, realm, doers.to_vec(), false),
                For::FirstLook => self.look_and_note(&path, realm, Vec::new(), true),
                // What was known before is not learnt: what is different is still on its way.
                For::NewPlaces(before) if before.kind_of(&path).is_some() => {}
                For::NewPlaces(_) => self.look_and_note(&path, realm, Vec::new(), true),
                For::Loss => self.look_after_loss(&path, realm),
            }
        }
    }

    fn look_and_note(&mut self, path: &Path, realm: Realm, doers: Vec<Doer>, is_first: bool) {
        match self.look(path, realm) {
            None => {}
            Some(looked) if is_first => {
                self.note(path, realm, looked, doers, true);
            }
            Some(looked) => {
                self.note_or_owe(path, looked, Debt { realm, doers, is_lost: false, tries: 0 });
            }
        }
    }

    /// By whom it is another is not known. What is in a home waits for its turn: whoever floods theirs has nobody else wait.
    fn look_after_loss(&mut self, path: &Path, realm: Realm) {
        let debt = Debt { realm, doers: Vec::new(), is_lost: true, tries: 0 };
        if realm == SYSTEM {
            if let Some(looked) = self.look(path, realm) {
                self.note_or_owe(path, looked, debt);
            }
        } else if !self.owed.owe(path, debt, Instant::now()) {
            self.book.known.beyond = self.book.known.beyond.saturating_add(1);
            self.dirty.get_or_insert_with(Instant::now);
        }
    }

    fn watch(&mut self, folder: &Path, is_for_files: bool, realm: Realm) -> io::Result<()> {
        let group = match self.groups.entry(queue_of(realm)) {
            std::collections::btree_map::Entry::Occupied(group) => group.into_mut(),
            std::collections::btree_map::Entry::Vacant(none) => none.insert(Group::open()?),
        };
        group.watch(&self.mounts, folder, is_for_files, realm)
    }

    /// A folder is gone, and all that was known below it.
    fn lost_folder(&mut self, folder: &Path, doers: &[Doer]) {
        self.groups.values_mut().for_each(|group| group.forget_below(folder));
        for path in self.known_below(folder) {
            let realm = self.spots.realm_of(&path);
            self.look_and_note(&path, realm, doers.to_vec(), false);
        }
    }

    /// Looks at all places, or those of one home, and at all that was known to stand there. By whom it is another is not
    /// known.
    fn look_anew(&mut self, only: Option<Realm>) {
        let from = only.and_then(|realm| self.spots.home(realm)).unwrap_or(&self.root).to_owned();
        // What is known first: of more than may be looked at, what is new is left out.
        for path in self.known_below(&from) {
            let realm = self.spots.realm_of(&path);
            if only.is_none_or(|only| only == realm) {
                self.look_after_loss(&path, realm);
            }
        }
        self.cover(&from, For::Loss, only);
    }

    /// The things that are known at `folder` or below it.
    fn known_below(&self, folder: &Path) -> Vec<PathBuf> {
        let first = self.shown(folder);
        let known = self.book.known.standings.range(first..).map(|(shown, _)| shown);
        let all = known.map(|shown| in_root(&self.root, shown));
        all.take_while(|path| is_led_by(path, folder)).filter(|it| it.starts_with(folder)).collect()
    }

    /// Other homes may be places now. What was one stays one: it is never looked at as new again.
    fn find_new_places(&mut self) {
        self.see_mounts();
        let now = Spots::of_machine(&self.root, self.mounts.clone());
        let (spots, is_all) = now.keeping(&self.spots, limits::PLACES);
        if !is_all {
            let what = format!("more than {} places were looked out on", limits::PLACES);
            self.gap(SYSTEM, what);
        }
        let before = std::mem::replace(&mut self.spots, spots);
        let root = self.root.clone();
        self.cover(&root, For::NewPlaces(&before), None);
    }

    /// Whether other homes, or other files with keys, may be places by what stands there now.
    fn says_where_places_are(&self, path: &Path) -> bool {
        path == self.root.join("etc/passwd")
    }

    /// Reads the table of mounts anew if it is another.
    fn see_mounts(&mut self) {
        use std::os::fd::AsFd as _;
        let changed = PollFlags::POLLERR | PollFlags::POLLPRI;
        let mut asked = [PollFd::new(self.mounted.as_fd(), changed)];
        let is_other = poll(&mut asked, PollTimeout::ZERO).is_ok_and(|count| count > 0);
        if is_other && let Ok(mounts) = mounts() {
            self.mounts = mounts;
        }
    }

    fn shown(&self, path: &Path) -> FilePath {
        let below = path.strip_prefix(&self.root).unwrap_or(path);
        let mut shown = b"/".to_vec();
        shown.extend_from_slice(below.as_os_str().as_bytes());
        FilePath::new(shown)
    }
}

fn has_other_names(standing: &Standing) -> bool {
    matches!(standing, Standing::File(file) if file.metadata.other_names > 0)
}

/// The queue that the folders of one home are heard by: all of a flood in one home is lost there.
fn queue_of(realm: Realm) -> usize {
    let homes = limits::QUEUES - 1;
    if realm == SYSTEM { 0 } else { 1 + (realm as usize - 1) % homes }
}

/// Whether a path begins with these letters: in the order of letters those below a folder come in one piece, with some
/// that are beside it.
fn is_led_by(path: &Path, folder: &Path) -> bool {
    path.as_os_str().as_bytes().starts_with(folder.as_os_str().as_bytes())
}

fn in_root(root: &Path, shown: &FilePath) -> PathBuf {
    let below = shown.as_bytes().strip_prefix(b"/").unwrap_or_default();
    root.join(OsStr::from_bytes(below))
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        || error.to_string().contains("symbolic link")
}
