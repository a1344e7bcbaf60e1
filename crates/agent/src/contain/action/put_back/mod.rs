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

mod building;
mod looks;
mod swap;

use std::path::{Path, PathBuf};

use cordon_model::action::{ActionKind, FilePath, PutBackTarget};
use cordon_model::ids::MeasureId;
use cordon_model::measure::{Probe, Proof};
use serde::{Deserialize, Serialize};

use super::journal::Journal;
use super::kernel::{ReadLease, lease_for_reading};
use super::place::Place;
use super::quarantine::vault::Vault;
use super::spared::{FileId, Protected};
use super::{ActError, Undone, failed, path_of, proof};
use crate::contain::lookout::standing::Standing;

use self::building::put_flags;
use self::looks::{changed, stands};
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

    /// From changed to done: the folder is flushed, and what is there is looked at.
    fn finish(
        &self,
        mut put_back: PutBackMeasure,
        place: &Place,
    ) -> Result<PutBackMeasure, ActError> {
        put_flags(place, &put_back.wanted, put_back.built, &mut put_back.differs)?;
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
            Settled::Another => Err(another(&put_back, &swap, &place)),
        }
    }

    /// Leaves nothing behind of an `apply` that can't go on; gives back why.
    fn give_up(&self, put_back: &PutBackMeasure, place: &Place, error: ActError) -> ActError {
        let swap = Swap::between(&put_back.found, &put_back.wanted, self.aside(put_back.measure));
        if let Some(left) = leftover(&swap, place, put_back.built) {
            return ActError::unfit(format!("{error}{left}"));
        }
        let mut nothing = Vec::new();
        let _ = put_flags(place, &put_back.found, put_back.found.file(), &mut nothing);
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
        let path = self.real(&begun.target.path);
        if matches!(begun.step, Step::Begun | Step::Sealed) {
            let differs = self.leave_nothing_built(&begun, &path);
            return self.over(&begun, Undone { differs });
        }
        let place = Place::find(&path)?;
        let settling = || failed("looking what was done");
        if begun.step == Step::Changing {
            let swap = Swap::between(&begun.found, &begun.wanted, self.aside(begun.measure));
            match swap.settle(&place, begun.built).map_err(settling())? {
                Settled::Untouched => return self.over(&begun, Undone::default()),
                Settled::Changed => {
                    put_flags(&place, &begun.wanted, begun.built, &mut begun.differs)?;
                    begun.step = Step::Done;
                }
                Settled::Another => return Err(another(&begun, &swap, &place)),
            }
        }
        self.go_back(&mut begun, &place, &path)?;
        let mut differs = Vec::new();
        put_flags(&place, &begun.found, begun.built, &mut differs)?;
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
                Settled::Another => return Err(another(begun, &swap, place)),
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

    /// Removes what a try had built that was cut short before it could be written that it had; what of it stays, in words.
    fn leave_nothing_built(&self, begun: &PutBackMeasure, path: &Path) -> Vec<String> {
        // Where its folder is gone, it went with it.
        let Ok(place) = Place::find(path) else { return Vec::new() };
        let swap = Swap::between(&begun.found, &begun.wanted, self.aside(begun.measure));
        let left = swap.clear_half_built(&place, begun.built).err();
        let words = |_| format!("something is left as {} beside it", swap.aside().display());
        left.map(words).into_iter().collect()
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

/// Somebody else's is there: nothing of ours is left beside it.
fn another(put_back: &PutBackMeasure, swap: &Swap, place: &Place) -> ActError {
    let left = leftover(swap, place, put_back.built).unwrap_or_default();
    ActError::unfit(format!("{}{left}", changed(&put_back.target.path)))
}

/// What is left beside the place and is not ours to remove, in words.
fn leftover(swap: &Swap, place: &Place, built: Option<FileId>) -> Option<String> {
    let is_clean = swap.clear(place, built).unwrap_or(false);
    let words = || format!("; something is left as {} beside it", swap.aside().display());
    (!is_clean).then(words)
}
