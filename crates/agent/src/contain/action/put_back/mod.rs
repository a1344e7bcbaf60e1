//! What stood at a place before somebody changed it is put there again, and what is there now is kept.
//!
//! The one idea: two things change places, in one step of the kernel's. What is to be there is built beside, whole and
//! with all that it was; then the two names are exchanged; what is now beside is looked at once more, and removed if it
//! is what was to go. If it is not (somebody was faster), they are exchanged back. So nobody ever sees half of a file,
//! and nothing that anybody wrote is lost. Taking it back is the same with the two the other way round.
//!
//! | step in the journal | the place | beside |
//! |---|---|---|
//! | begun | what is to go | nothing |
//! | sealed | what is to go, and in the vault | nothing |
//! | changing | one of the two | the other, or nothing |
//! | done | what was to come | nothing |
//! | going-back | one of the two | the other, or nothing |
//!
//! Which of the two is where, after a crash, is told by their inodes. **Nothing is touched but what the lookout saw**:
//! if what is there is not what stood there after the last change of the order, the measure fails and says so.

mod swap;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use cordon_model::action::{ActionKind, FilePath, PutBackTarget};
use cordon_model::change::Stood;
use cordon_model::ids::MeasureId;
use cordon_model::look::Would;
use cordon_model::measure::{Probe, Proof};
use cordon_model::survey::ThingKind;
use rustix::fs::{AtFlags, Gid, Timespec, Timestamps, Uid};
use serde::{Deserialize, Serialize};

use super::journal::Journal;
use super::kernel::{ReadLease, lease_for_reading};
use super::place::Place;
use super::quarantine::metadata::FileTime;
use super::quarantine::vault::Vault;
use super::spared::{FileId, Protected, SparedFiles};
use super::{ActError, Undone, failed, path_of, proof};
use crate::contain::lookout::standing::{self, LinkStanding, Standing};
use crate::contain::lookout::store::Store;

use self::swap::{Settled, Swap};

/// How far it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// About to keep what is there.
    Begun,
    /// Kept.
    Sealed,
    /// About to change.
    Changing,
    /// Changed.
    Done,
    /// About to change back.
    GoingBack,
}

/// What was put back, or is on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PutBackMeasure {
    /// The measure.
    pub measure: MeasureId,
    /// What was ordered.
    pub target: PutBackTarget,
    /// How far it came.
    pub step: Step,
    /// What was there when it began: what taking it back puts there again.
    pub found: Standing,
    /// What is put there.
    pub wanted: Standing,
    /// The inode of what was built to be put there last; `None`: nothing was built.
    pub built: Option<FileId>,
    /// Somebody had what was there open for writing, and may go on with what has no name.
    pub was_open_for_writing: bool,
    /// What of it could not be made as it was.
    pub differs: Vec<String>,
}

/// The means to put back.
#[derive(Debug)]
pub struct PutBack {
    journal: Journal,
    vault: Vault,
    /// Where the lookout keeps what it saw.
    lookout: PathBuf,
    /// Cordon's own folder, of which nothing is touched.
    state: PathBuf,
    /// Where the machine's file system begins; `/`, but for a try.
    root: PathBuf,
}

impl PutBack {
    /// With what the lookout keeps in `lookout`, and `vault`, in Cordon's folder `state`.
    #[must_use]
    pub fn new(
        journal: Journal,
        vault: Vault,
        lookout: PathBuf,
        state: PathBuf,
        root: PathBuf,
    ) -> Self {
        Self { journal, vault, lookout, state, root }
    }

    /// Puts back what the order names.
    ///
    /// # Errors
    /// If the lookout does not know it (any more), if what is there is not what it saw, if no order may touch it, or the
    /// disk fails. The place is then as it was.
    pub fn apply(
        &self,
        measure: MeasureId,
        target: &PutBackTarget,
        protected: &Protected,
    ) -> Result<PutBackMeasure, ActError> {
        let begun = self.begun(measure)?;
        if begun.as_ref().is_some_and(|begun| begun.target != *target) {
            return Err(ActError::unfit(
                "this measure began with another place: take it back first",
            ));
        }
        match begun {
            Some(done) if matches!(done.step, Step::Done | Step::GoingBack) => Ok(done),
            Some(changing) if changing.step == Step::Changing => self.go_on(changing),
            // The place is untouched, and may be another since: from the beginning.
            _ => self.start(measure, target, protected),
        }
    }

    /// What it would do now. Changes nothing.
    #[must_use]
    pub fn would(&self, target: &PutBackTarget, protected: &Protected) -> Would {
        let checked = self.checked(target, protected);
        let (_, found, wanted) = match checked {
            Ok(checked) => checked,
            Err(error) => return Would::refused(error.to_string()),
        };
        let mut would = Would::default();
        let path = &target.path;
        would.stops(match (&found, &wanted) {
            (_, Standing::Nothing) => format!("{path}: it is removed, and kept"),
            (Standing::Nothing, wanted) => format!("{path}: {} comes back", in_words(wanted)),
            (found, wanted) => {
                format!("{path}: {} becomes {}", in_words(found), in_words(wanted))
            }
        });
        would
    }

    fn start(
        &self,
        measure: MeasureId,
        target: &PutBackTarget,
        protected: &Protected,
    ) -> Result<PutBackMeasure, ActError> {
        let (place, found, wanted) = self.checked(target, protected)?;
        let mut put_back = PutBackMeasure {
            measure,
            target: target.clone(),
            step: Step::Begun,
            found,
            wanted,
            built: None,
            was_open_for_writing: false,
            differs: Vec::new(),
        };
        self.write(&put_back)?;
        let done = self.seal(&mut put_back, &place).and_then(|()| {
            let swap = Swap::between(&put_back.found, &put_back.wanted, self.aside(measure));
            self.build_and_change(&mut put_back, &place, &swap, Step::Changing)
        });
        if let Err(error) = done {
            return Err(self.give_up(&put_back, &place, error));
        }
        self.finish(put_back, &place)
    }

    /// The place, what is there and what is to be: if the lookout knows both, and nobody changed it since.
    fn checked(
        &self,
        target: &PutBackTarget,
        protected: &Protected,
    ) -> Result<(Place, Standing, Standing), ActError> {
        let shown = &target.path;
        let store = Store::open(&self.lookout).map_err(failed("opening what was seen"))?;
        let record = |number| {
            let found = store.change(number).map_err(failed("reading what was seen"))?;
            found.filter(|record| record.path == *shown).ok_or_else(|| {
                ActError::not_there(format!(
                    "change {number} of {shown} is not known here any more"
                ))
            })
        };
        let (first, last) = (record(target.first)?, record(target.last)?);
        if first.before.sha256() != target.wanted || last.after.sha256() != target.found {
            return Err(ActError::unfit(format!(
                "{shown}: what was ordered is not what was seen here: look again"
            )));
        }
        if first.kind == ThingKind::Account {
            return Err(ActError::refused(format!(
                "{shown} is never put back whole: what others changed in it since would be lost"
            )));
        }
        if !first.before.told().can_be_put_back() {
            let what = in_words(&first.before);
            return Err(ActError::unfit(format!("what stood at {shown} is not kept: {what}")));
        }
        let path = self.real(shown);
        let place = Place::find(&path)?;
        let now = stands(&place, &path)?;
        if !now.is(&last.after) {
            return Err(ActError::unfit(format!(
                "{shown} was changed by somebody since: nothing is touched; there is {} now, and was {} after \
                 change {}",
                in_words(&now),
                in_words(&last.after),
                target.last
            )));
        }
        if matches!(now, Standing::Other(_)) {
            return Err(ActError::unfit(format!("{shown} is {}", in_words(&now))));
        }
        let spared = SparedFiles::now(protected, Some(&self.state));
        let file = now.file().unwrap_or(FileId { device: 0, inode: 0 });
        if let Some(why) = spared.why_not_put_back(file, &path) {
            return Err(ActError::refused(why));
        }
        Ok((place, now, first.before))
    }

    /// Keeps what is there, whole and read back, before anything is done to it.
    fn seal(&self, put_back: &mut PutBackMeasure, place: &Place) -> Result<(), ActError> {
        if let Standing::File(file) = &put_back.found {
            let shown = &put_back.target.path;
            let opening = || failed(format!("opening {shown}"));
            let source = place.file()?.open().map_err(opening())?;
            let is_busy = lease_for_reading(&source) == ReadLease::OpenElsewhere;
            let ending = self.vault.seal(put_back.measure, &file.metadata, &source)?;
            if ending.sha256 != file.sha256.0 {
                return Err(changed(shown));
            }
            put_back.was_open_for_writing = is_busy;
        }
        put_back.step = Step::Sealed;
        self.write(put_back)
    }

    /// Builds what is to come, and has it change places with what is to go.
    fn build_and_change(
        &self,
        put_back: &mut PutBackMeasure,
        place: &Place,
        swap: &Swap,
        step: Step,
    ) -> Result<(), ActError> {
        let shown = put_back.target.path.clone();
        let building = || failed(format!("building what stood at {shown}"));
        // Half of it may be there from before.
        swap.clear(place, put_back.built).map_err(building())?;
        let (built, differs) = self.build(put_back, place, swap)?;
        put_back.built = built;
        put_back.differs = differs;
        put_back.step = step;
        self.write(put_back)?;
        swap.change(place, built).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound => changed(&shown),
            _ => failed(format!("changing {shown}"))(error),
        })
    }

    /// Under the name beside, but for what is built without one; its inode.
    fn build(
        &self,
        put_back: &PutBackMeasure,
        place: &Place,
        swap: &Swap,
    ) -> Result<(Option<FileId>, Vec<String>), ActError> {
        let shown = &put_back.target.path;
        let building = || failed(format!("building what stood at {shown}"));
        let file = match swap.comes() {
            Standing::Nothing | Standing::Other(_) => return Ok((None, Vec::new())),
            Standing::Link(link) => {
                return Ok((Some(make_link(place, swap, link).map_err(building())?), Vec::new()));
            }
            Standing::File(file) => file,
        };
        let new = place.make(swap.aside()).map_err(|error| building()(error.into()))?;
        if put_back.step == Step::Done || put_back.step == Step::GoingBack {
            let put = |offset: u64, bytes: &[u8]| new.write_all_at(bytes, offset);
            let (_, ending) = self.vault.restore(put_back.measure, put)?;
            new.set_len(ending.size).map_err(building())?;
        } else {
            let store = Store::open(&self.lookout).map_err(failed("opening what was seen"))?;
            let content = store
                .content(file.sha256)
                .map_err(failed(format!("reading what stood at {shown}")))?;
            new.write_all_at(&content, 0).map_err(building())?;
        }
        let differs = file.metadata.put_on(&new).map_err(building())?;
        new.sync_all().map_err(building())?;
        let id = FileId::of(&new.metadata().map_err(building())?);
        Ok((Some(id), differs))
    }

    /// From changed to done: the folder is flushed, and what is there is looked at.
    fn finish(
        &self,
        mut put_back: PutBackMeasure,
        place: &Place,
    ) -> Result<PutBackMeasure, ActError> {
        put_flags(place, &put_back.wanted, &mut put_back.differs)?;
        place.flush().map_err(failed("flushing the folder"))?;
        put_back.step = Step::Done;
        self.write(&put_back)?;
        Ok(put_back)
    }

    /// Goes on with an `apply` that was cut short while the two changed places.
    fn go_on(&self, mut put_back: PutBackMeasure) -> Result<PutBackMeasure, ActError> {
        let place = Place::find(&self.real(&put_back.target.path))?;
        let swap = Swap::between(&put_back.found, &put_back.wanted, self.aside(put_back.measure));
        match swap.settle(&place, put_back.built).map_err(failed("looking what was done"))? {
            Settled::Changed => self.finish(put_back, &place),
            Settled::Untouched => {
                let again = self.build_and_change(&mut put_back, &place, &swap, Step::Changing);
                match again {
                    Ok(()) => self.finish(put_back, &place),
                    Err(error) => Err(self.give_up(&put_back, &place, error)),
                }
            }
            Settled::Another => Err(changed(&put_back.target.path)),
        }
    }

    /// Leaves nothing behind of an `apply` that can't go on; gives back why.
    fn give_up(&self, put_back: &PutBackMeasure, place: &Place, error: ActError) -> ActError {
        let swap = Swap::between(&put_back.found, &put_back.wanted, self.aside(put_back.measure));
        let is_clean = swap.clear(place, put_back.built).is_ok()
            && matches!(place.found_as(swap.aside()), Ok(None));
        if !is_clean {
            return ActError::unfit(format!(
                "{error}; something is left as {} beside it",
                swap.aside().display()
            ));
        }
        if let Standing::File(file) = &put_back.found
            && let Ok(Some(found)) = place.found()
            && found.id() == file.metadata.file
        {
            let _ = file.metadata.put_flags(&found);
        }
        let cleaned = self
            .vault
            .remove(put_back.measure)
            .and_then(|()| self.journal.forget(ActionKind::PutBack, put_back.measure));
        if let Err(also) = cleaned {
            tracing::error!(%also, measure = %put_back.measure, "what was kept stays");
        }
        error
    }

    fn write(&self, put_back: &PutBackMeasure) -> Result<(), ActError> {
        self.journal.write(ActionKind::PutBack, put_back.measure, put_back)
    }

    /// What the journal has of `measure`.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn begun(&self, measure: MeasureId) -> Result<Option<PutBackMeasure>, ActError> {
        self.journal.read(ActionKind::PutBack, measure)
    }

    /// Shows that what was put there is there, to the byte and with all its attributes, and that what was there is kept.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn prove(&self, put_back: &PutBackMeasure) -> Result<Proof, ActError> {
        let mut unproven = put_back.differs.clone();
        let is_kept = match &put_back.found {
            Standing::File(file) => {
                self.vault.look(put_back.measure)?.is_some_and(|kept| kept == file.metadata)
            }
            _ => true,
        };
        if !is_kept {
            unproven
                .push("what was there before is not in the vault: it can't be taken back".into());
        }
        if put_back.was_open_for_writing {
            unproven.push(
                "somebody had it open for writing, and may go on with what has no name".into(),
            );
        }
        if let Standing::File(file) = &put_back.found
            && file.metadata.other_names > 0
        {
            unproven.push(format!(
                "what was there had {} other names (hard links): it is still there under those",
                file.metadata.other_names
            ));
        }
        let path = self.real(&put_back.target.path);
        let is_there = match Place::find(&path) {
            Ok(place) => Some(stands(&place, &path)?.is(&put_back.wanted)),
            Err(ActError::NotThere(_)) => Some(put_back.wanted == Standing::Nothing),
            Err(error) => {
                unproven.push(format!("its place: {error}"));
                None
            }
        };
        let probes = vec![Probe {
            tried: format!("whether {} is as it was", put_back.target.path),
            should_pass: true,
            did_pass: is_there,
        }];
        Ok(proof(is_kept, probes, unproven))
    }

    /// Puts what was there when it began there again.
    ///
    /// # Errors
    /// If somebody changed the place since, which is then left as it is; or the disk fails. What was there is still kept.
    pub fn undo(&self, put_back: &PutBackMeasure) -> Result<Undone, ActError> {
        let Some(mut begun) = self.begun(put_back.measure)? else { return Ok(Undone::default()) };
        if matches!(begun.step, Step::Begun | Step::Sealed) {
            return self.over(&begun, Undone::default());
        }
        let path = self.real(&begun.target.path);
        let place = Place::find(&path)?;
        let settling = || failed("looking what was done");
        if begun.step == Step::Changing {
            let swap = Swap::between(&begun.found, &begun.wanted, self.aside(begun.measure));
            match swap.settle(&place, begun.built).map_err(settling())? {
                Settled::Untouched => return self.over(&begun, Undone::default()),
                Settled::Changed => {
                    put_flags(&place, &begun.wanted, &mut begun.differs)?;
                    begun.step = Step::Done;
                }
                Settled::Another => return Err(changed(&begun.target.path)),
            }
        }
        self.go_back(&mut begun, &place, &path)?;
        let mut differs = Vec::new();
        put_flags(&place, &begun.found, &mut differs)?;
        place.flush().map_err(failed("flushing the folder"))?;
        let now = stands(&place, &path)?;
        match (&now, &begun.found) {
            (Standing::File(now), Standing::File(found)) => {
                differs.extend(found.metadata.differs(&now.metadata));
                if now.sha256 != found.sha256 {
                    differs.push("its content is another".into());
                }
            }
            (now, found) if now.is(found) => {}
            _ => differs.push("it is another than it was".into()),
        }
        differs.sort();
        differs.dedup();
        self.over(&begun, Undone { differs })
    }

    /// The two change places the other way round, as often as that is begun.
    fn go_back(
        &self,
        begun: &mut PutBackMeasure,
        place: &Place,
        path: &Path,
    ) -> Result<(), ActError> {
        let (found, mut wanted) = (begun.found.clone(), begun.wanted.clone());
        if begun.step == Step::GoingBack {
            // What was put there keeps the inode that it had: the journal's is by now that of what comes back.
            let swap = Swap::between(&wanted, &found, self.aside(begun.measure));
            let settled =
                swap.settle(place, begun.built).map_err(failed("looking what was done"))?;
            match settled {
                Settled::Changed => return Ok(()),
                Settled::Untouched => {}
                Settled::Another => return Err(changed(&begun.target.path)),
            }
        } else {
            let now = stands(place, path)?;
            if !now.is(&wanted) {
                return Err(changed(&begun.target.path));
            }
            // From now on it is known by its own inode.
            wanted = now;
            begun.wanted = wanted.clone();
        }
        let swap = Swap::between(&wanted, &found, self.aside(begun.measure));
        self.build_and_change(begun, place, &swap, Step::GoingBack)
    }

    fn over(&self, begun: &PutBackMeasure, undone: Undone) -> Result<Undone, ActError> {
        self.journal.forget(ActionKind::PutBack, begun.measure)?;
        // Without its journal nothing leads to it any more.
        self.vault.remove(begun.measure)?;
        Ok(undone)
    }

    fn aside(&self, measure: MeasureId) -> std::ffi::OsString {
        format!(".cordon-put-back-{measure}").into()
    }

    fn real(&self, shown: &FilePath) -> PathBuf {
        match path_of(shown).strip_prefix("/") {
            Ok(below) => self.root.join(below),
            Err(_) => path_of(shown).to_owned(),
        }
    }
}

/// What stands at a place that is held.
fn stands(place: &Place, path: &Path) -> Result<Standing, ActError> {
    let looking = || failed(format!("looking at {}", path.display()));
    let Some(found) = place.found()? else { return Ok(Standing::Nothing) };
    let kind = found.metadata.file_type();
    if kind.is_symlink() {
        let target = rustix::fs::readlinkat(&found, "", Vec::new())
            .map_err(|error| looking()(error.into()))?;
        return Ok(Standing::Link(link_of(&found.metadata, target.into_bytes())));
    }
    if !kind.is_file() {
        return Ok(Standing::Other("no file and no link".into()));
    }
    let file = place.file()?.open().map_err(looking())?;
    let read = standing::read(&file, path).map_err(looking())?;
    let (now, _) =
        read.ok_or_else(|| ActError::unfit(format!("{} is being written to", path.display())))?;
    Ok(now)
}

fn link_of(metadata: &std::fs::Metadata, target: Vec<u8>) -> LinkStanding {
    use std::os::unix::fs::MetadataExt as _;
    LinkStanding {
        file: FileId::of(metadata),
        target,
        user: metadata.uid(),
        group: metadata.gid(),
        modified: FileTime((metadata.mtime(), u32::try_from(metadata.mtime_nsec()).unwrap_or(0))),
    }
}

fn make_link(place: &Place, swap: &Swap, link: &LinkStanding) -> io::Result<FileId> {
    let folder = place.folder();
    rustix::fs::symlinkat(link.target.as_slice(), folder, swap.aside())?;
    let owner = (Some(Uid::from_raw(link.user)), Some(Gid::from_raw(link.group)));
    rustix::fs::chownat(folder, swap.aside(), owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
    let time = Timespec { tv_sec: link.modified.0.0, tv_nsec: link.modified.0.1.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(folder, swap.aside(), &times, AtFlags::SYMLINK_NOFOLLOW)?;
    let made = place.found_as(swap.aside()).ok().flatten();
    made.map(|made| made.id()).ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// The flags come last: an immutable file takes nothing more.
fn put_flags(
    place: &Place,
    standing: &Standing,
    differs: &mut Vec<String>,
) -> Result<(), ActError> {
    if let Standing::File(file) = standing
        && let Some(found) = place.found()?
        && found.metadata.is_file()
    {
        let opened = found.open().map_err(failed("opening what was put back"))?;
        differs.extend(file.metadata.put_flags(&opened));
    }
    Ok(())
}

fn changed(path: &FilePath) -> ActError {
    ActError::unfit(format!("{path} was changed by somebody since: nothing is touched; look again"))
}

fn in_words(standing: &Standing) -> String {
    match standing.told() {
        Stood::Nothing => "nothing".into(),
        Stood::File { sha256, bytes, rights, .. } => {
            format!("a file of {bytes} bytes ({rights}, sha256 {sha256})")
        }
        Stood::Link { to, .. } => format!("a link to {to}"),
        Stood::Other(what) => what,
    }
}

/// The file that a standing is of, opened to take off what hinders its going.
fn unhinder(found: &Standing, file: &File) -> io::Result<()> {
    match found {
        Standing::File(standing) => standing.metadata.unhinder(file),
        _ => Ok(()),
    }
}
