//! A file is taken out of its place into an encrypted vault, and can be put back as it was.
//!
//! The order: the file is found by a way that nobody can bend ([`super::place`]), copied into the vault,
//! the copy flushed and read back; only then the file is moved aside, looked at once more, and removed.
//! Where anything is not as it should be, all of it is taken back, and the file is where it was.
//!
//! | step in the journal | the file | the vault |
//! |---|---|---|
//! | begun | untouched | perhaps half a copy |
//! | sealed | untouched | a whole copy |
//! | removing | there, aside, or gone | a whole copy |
//! | removed | gone | a whole copy |
//! | restored | there again | perhaps a copy |
//!
//! This can take seconds for a large file, and its thread does nothing else meanwhile: the helper has one for
//! it beside its own (`contain::beside`).

pub mod chunks;
pub mod metadata;
pub mod records;
pub mod vault;

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cordon_model::action::{ActionKind, FileTarget, Sha256Digest};
use cordon_model::ids::MeasureId;
use cordon_model::measure::{Probe, Proof};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::backoff::Backoff;
use super::journal::Journal;
use super::kernel::{ReadLease, lease_for_reading};
use super::place::{Found, Place};
use super::spared::{FileId, Protected, SparedFiles};
use super::{ActError, Undone, failed, path_of, proof};

use self::metadata::Metadata;
use self::vault::Vault;

/// A file that somebody goes on writing to is copied again after this long at most. A GiB takes about ten
/// seconds, in which no other file is set aside.
const COPIED_AGAIN_WITHIN: Duration = Duration::from_secs(300);

/// How far it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// About to copy.
    Begun,
    /// Copied.
    Sealed,
    /// About to remove.
    Removing,
    /// Removed.
    Removed,
    /// Put back.
    Restored,
}

/// A file in quarantine, or on its way there: what was found and done, and all that is needed to put it
/// back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quarantined {
    /// The measure.
    pub measure: MeasureId,
    /// What was ordered.
    pub target: FileTarget,
    /// How far it came.
    pub step: Step,
    /// What the file was.
    pub metadata: Metadata,
    /// The SHA-256 of what is in the vault.
    pub sha256: Option<Sha256Digest>,
    /// Somebody had it open for writing: what they write later is in no vault.
    pub was_open_for_writing: bool,
    /// The helper was cut short, and by the next look the file was gone.
    pub was_gone: bool,
}

impl Quarantined {
    /// The name that the file has for the moment between its own and none. Only Cordon knows it before.
    fn aside(&self) -> OsString {
        format!(".cordon-quarantine-{}", self.measure).into()
    }

    /// Whether `found` is the file, and nobody changed it.
    fn is_it(&self, found: &Found) -> bool {
        self.metadata.is_unchanged(&found.metadata)
    }
}

/// The means to quarantine.
#[derive(Debug)]
pub struct Quarantine {
    journal: Journal,
    vault: Vault,
    /// Cordon's own folder, of which nothing is taken.
    state: PathBuf,
    /// Files that were written to while they were copied.
    busy: Backoff,
}

impl Quarantine {
    /// With `vault`, in Cordon's folder `state`.
    #[must_use]
    pub fn new(journal: Journal, vault: Vault, state: PathBuf) -> Self {
        Self { journal, vault, state, busy: Backoff::new(COPIED_AGAIN_WITHIN) }
    }

    /// Takes the file out of its place. One that is being written to is copied again not each time, but
    /// after pauses that grow.
    ///
    /// # Errors
    /// If it may not be touched, is not there, is not a file with content of its own, is not what was
    /// ordered, changes meanwhile, or has no room in the vault. It is then where it was.
    pub fn apply(
        &self,
        measure: MeasureId,
        target: &FileTarget,
        protected: &Protected,
    ) -> Result<Quarantined, ActError> {
        let begun = self.begun(measure)?;
        if let Some(begun) = &begun
            && begun.target != *target
        {
            return Err(ActError::unfit(
                "this measure began with another file: take it back first",
            ));
        }
        match begun {
            Some(done) if matches!(done.step, Step::Removed | Step::Restored) => Ok(done),
            Some(begun) if begun.step == Step::Removing => self.finish(begun),
            // The file is untouched, and may have changed since: from the beginning.
            _ => match self.busy.waits(measure, Instant::now()) {
                Some(why) => Err(ActError::unfit(why)),
                None => self.start(measure, target, protected),
            },
        }
    }

    fn start(
        &self,
        measure: MeasureId,
        target: &FileTarget,
        protected: &Protected,
    ) -> Result<Quarantined, ActError> {
        let path = path_of(&target.path);
        let place = Place::find(path)?;
        let found = place.file()?;
        let spared = SparedFiles::now(protected, Some(&self.state));
        if let Some(why) = spared.why(found.id(), Some(&place)) {
            return Err(ActError::refused(why));
        }
        let shown = &target.path;
        let source = found.open().map_err(failed(format!("opening {shown}")))?;
        let lease = lease_for_reading(&source);
        let folder = place.folder_id().unwrap_or(FileId { device: 0, inode: 0 });
        let metadata = Metadata::read(&source, path.to_owned(), folder)
            .map_err(failed(format!("reading what {shown} is")))?;
        let mut quarantined = Quarantined {
            measure,
            target: target.clone(),
            step: Step::Begun,
            metadata,
            sha256: None,
            was_open_for_writing: lease == ReadLease::OpenElsewhere,
            was_gone: false,
        };
        self.write(&quarantined)?;
        self.seal(&mut quarantined, &source)
            .and_then(|()| self.remove(&mut quarantined, &place, &source))
            .map_err(|error| self.take_back(&quarantined, &place, &source, error))?;
        self.done(quarantined, &place)
    }

    fn seal(&self, quarantined: &mut Quarantined, source: &File) -> Result<(), ActError> {
        let ending = self.vault.seal(quarantined.measure, &quarantined.metadata, source)?;
        let shown = &quarantined.target.path;
        let now = source.metadata().map_err(failed(format!("looking at {shown} again")))?;
        if !quarantined.metadata.is_unchanged(&now) {
            let why = format!(
                "{shown} is being written to: freeze or kill what writes it, then quarantine it"
            );
            self.busy.came_to_nothing(quarantined.measure, Instant::now(), why.clone());
            return Err(ActError::unfit(why));
        }
        if let Some(ordered) = quarantined.target.sha256
            && ordered.0 != ending.sha256
        {
            return Err(ActError::not_there(format!(
                "{shown} is not the file that was ordered: its SHA-256 is {}",
                Sha256Digest(ending.sha256)
            )));
        }
        quarantined.sha256 = Some(Sha256Digest(ending.sha256));
        quarantined.step = Step::Sealed;
        self.write(quarantined)
    }

    /// From sealed to removed, save that the folder is not flushed.
    fn remove(
        &self,
        quarantined: &mut Quarantined,
        place: &Place,
        source: &File,
    ) -> Result<(), ActError> {
        let shown = &quarantined.target.path.clone();
        let removing = || failed(format!("removing {shown}"));
        let replaced = || {
            ActError::not_there(format!("{shown} was replaced or changed meanwhile: look again"))
        };
        if !place.found()?.is_some_and(|found| quarantined.is_it(&found)) {
            return Err(replaced());
        }
        quarantined.step = Step::Removing;
        self.write(quarantined)?;
        quarantined.metadata.unhinder(source).map_err(removing())?;
        let aside = quarantined.aside();
        let last = match place.rename(place.name(), &aside) {
            Ok(()) => aside.as_os_str(),
            // A filesystem that can't: what is removed is what has the name at that moment.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => place.name(),
            Err(error) => return Err(removing()(error.into())),
        };
        if !place.found_as(last)?.is_some_and(|found| quarantined.is_it(&found)) {
            return Err(replaced());
        }
        place.unlink(last).map_err(|error| removing()(error.into()))
    }

    /// The last step, or the last steps of an `apply` that was cut short.
    fn done(&self, mut quarantined: Quarantined, place: &Place) -> Result<Quarantined, ActError> {
        place.flush().map_err(failed("flushing the folder that the file was in"))?;
        quarantined.step = Step::Removed;
        self.write(&quarantined)?;
        self.busy.forget(quarantined.measure);
        Ok(quarantined)
    }

    fn finish(&self, mut quarantined: Quarantined) -> Result<Quarantined, ActError> {
        let place = match Place::find(path_of(&quarantined.target.path)) {
            Ok(place) => place,
            // The folder is gone, and the file with it.
            Err(ActError::NotThere(_)) => {
                quarantined.step = Step::Removed;
                quarantined.was_gone = true;
                self.write(&quarantined)?;
                return Ok(quarantined);
            }
            Err(error) => return Err(error),
        };
        let aside = quarantined.aside();
        let is_aside = place.found_as(&aside)?.is_some_and(|found| quarantined.is_it(&found));
        if is_aside {
            place.unlink(&aside).map_err(|error| failed("removing the file")(error))?;
            return self.done(quarantined, &place);
        }
        match place.found()?.filter(|found| quarantined.is_it(found)) {
            Some(found) => {
                let source = found.open().map_err(failed("opening the file"))?;
                quarantined.step = Step::Sealed;
                self.remove(&mut quarantined, &place, &source)
                    .map_err(|error| self.take_back(&quarantined, &place, &source, error))?;
            }
            None => quarantined.was_gone = true,
        }
        self.done(quarantined, &place)
    }

    /// Puts all back as it was before an `apply` that can't go on; gives back why.
    fn take_back(
        &self,
        quarantined: &Quarantined,
        place: &Place,
        source: &File,
        error: ActError,
    ) -> ActError {
        let aside = quarantined.aside();
        let _ = quarantined.metadata.put_flags(source);
        let moved = place.found_as(&aside);
        let is_back = match &moved {
            Ok(Some(_)) => place.rename(&aside, place.name()).is_ok(),
            Ok(None) => true,
            Err(_) => false,
        };
        let error = if is_back {
            error
        } else {
            // The name is taken by now: nothing is overwritten, and nothing is thrown away.
            ActError::unfit(format!("{error}; what had the name is now {} there", aside.display()))
        };
        // Ours stays in the journal until an undo finds its name free; another's is not our business.
        if !is_back && !matches!(moved, Ok(Some(found)) if !quarantined.is_it(&found)) {
            return error;
        }
        let cleaned = self
            .vault
            .remove(quarantined.measure)
            .and_then(|()| self.journal.forget(ActionKind::Quarantine, quarantined.measure));
        if let Err(also) = cleaned {
            tracing::error!(%also, measure = %quarantined.measure, "the vault's copy stays");
        }
        error
    }

    fn write(&self, quarantined: &Quarantined) -> Result<(), ActError> {
        self.journal.write(ActionKind::Quarantine, quarantined.measure, quarantined)
    }

    /// What the journal has of `measure`.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn begun(&self, measure: MeasureId) -> Result<Option<Quarantined>, ActError> {
        self.journal.read(ActionKind::Quarantine, measure)
    }

    /// Shows that the file is not in its place, and that the vault's copy is there. Of the copy only the
    /// beginning is opened: it was read back whole when it was made.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn prove(&self, quarantined: &Quarantined) -> Result<Proof, ActError> {
        let mut unproven = Vec::new();
        let kept = self.vault.look(quarantined.measure);
        let is_kept = match kept {
            Ok(Some(metadata)) => metadata == quarantined.metadata,
            Ok(None) => {
                unproven.push("the vault's copy is gone: the file can't be put back".into());
                false
            }
            Err(error) => {
                unproven.push(format!("the vault's copy: {error}"));
                false
            }
        };
        let there = match Place::find(path_of(&quarantined.target.path)) {
            Ok(place) => Some(place.found()?.is_some()),
            Err(ActError::NotThere(_)) => Some(false),
            Err(error) => {
                unproven.push(format!("its place: {error}"));
                None
            }
        };
        if quarantined.metadata.other_names > 0 {
            unproven.push(format!(
                "the file had {} other names (hard links): its content is still there under those",
                quarantined.metadata.other_names
            ));
        }
        if quarantined.was_open_for_writing {
            unproven.push(
                "somebody had it open for writing, and may go on with what has no name".into(),
            );
        }
        if quarantined.was_gone {
            unproven.push(
                "the helper was cut short and found it gone: removed by it, or moved by somebody"
                    .into(),
            );
        }
        let probes = vec![Probe {
            tried: format!("whether {} is there", quarantined.target.path),
            should_pass: false,
            did_pass: there,
        }];
        Ok(proof(is_kept, probes, unproven))
    }

    /// Puts the file back as it was: content, owner, mode, times, attributes, flags. Its inode's number
    /// and the time of its last change of any kind are new: no program can set them.
    ///
    /// # Errors
    /// If something else has its name by now, which is never touched; or its folder is gone, or the disk
    /// is full. The vault then still has it: do it again when that is mended.
    pub fn undo(&self, quarantined: &Quarantined) -> Result<Undone, ActError> {
        self.busy.forget(quarantined.measure);
        let Some(mut begun) = self.begun(quarantined.measure)? else {
            return Ok(Undone::default());
        };
        let undone = match begun.step {
            Step::Begun | Step::Sealed | Step::Restored => Undone::default(),
            Step::Removing | Step::Removed => self.put_back(&begun)?,
        };
        if begun.step != Step::Restored {
            begun.step = Step::Restored;
            self.write(&begun)?;
        }
        self.vault.remove(begun.measure)?;
        self.journal.forget(ActionKind::Quarantine, begun.measure)?;
        Ok(undone)
    }

    fn put_back(&self, quarantined: &Quarantined) -> Result<Undone, ActError> {
        let place = Place::find(path_of(&quarantined.target.path))?;
        let shown = &quarantined.target.path;
        if quarantined.step == Step::Removing
            && let Some(undone) = put_itself_back(quarantined, &place)?
        {
            return Ok(undone);
        }
        let taken = || {
            ActError::unfit(format!(
                "something else is at {shown} by now, and is not touched: move it away, then undo again"
            ))
        };
        let (file, mut differs) = match place.found()? {
            None => self.restore(quarantined, &place, taken)?,
            // An undo that was cut short may have put it back already.
            Some(found) => match is_restored(quarantined, &found)? {
                Some(file) => (file, Vec::new()),
                None => return Err(taken()),
            },
        };
        differs.extend(quarantined.metadata.put_flags(&file));
        place.flush().map_err(failed("flushing the folder"))?;
        let folder = place.folder_id().unwrap_or(FileId { device: 0, inode: 0 });
        if folder != quarantined.metadata.folder {
            differs.push("its folder is another than the one it was taken from".into());
        }
        let now = Metadata::read(&file, quarantined.metadata.path.clone(), folder)
            .map_err(failed(format!("reading {shown} back")))?;
        differs.extend(quarantined.metadata.differs(&now));
        if quarantined.metadata.other_names > 0 {
            differs.push(format!(
                "its {} other names (hard links) lead to another file than this one now",
                quarantined.metadata.other_names
            ));
        }
        differs.sort();
        differs.dedup();
        Ok(Undone { differs })
    }

    fn restore(
        &self,
        quarantined: &Quarantined,
        place: &Place,
        taken: impl Fn() -> ActError,
    ) -> Result<(File, Vec<String>), ActError> {
        let shown = &quarantined.target.path;
        let restoring = || failed(format!("putting {shown} back"));
        let aside = quarantined.aside();
        let (file, has_name) = match place.nameless() {
            Ok(file) => (file, false),
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR) => {
                // Half of it may be there from before.
                let _ = place.unlink(&aside);
                (place.make(&aside).map_err(|error| restoring()(error.into()))?, true)
            }
            Err(error) => return Err(restoring()(error.into())),
        };
        let put = |offset: u64, bytes: &[u8]| file.write_all_at(bytes, offset);
        let filled = self.vault.restore(quarantined.measure, put).and_then(|(metadata, ending)| {
            file.set_len(ending.size).map_err(restoring())?;
            let differs = metadata.put_on(&file).map_err(restoring())?;
            file.sync_all().map_err(restoring())?;
            Ok(differs)
        });
        let linked = filled.and_then(|differs| {
            let named =
                if has_name { place.rename(&aside, place.name()) } else { place.link(&file) };
            match named {
                Ok(()) => Ok(differs),
                Err(rustix::io::Errno::EXIST) => Err(taken()),
                Err(error) => Err(restoring()(error.into())),
            }
        });
        if linked.is_err() && has_name {
            let _ = place.unlink(&aside);
        }
        Ok((file, linked?))
    }
}

/// The file itself, where its removal was cut short, is the best that can be put back.
fn put_itself_back(quarantined: &Quarantined, place: &Place) -> Result<Option<Undone>, ActError> {
    let aside = quarantined.aside();
    let putting = || failed("putting the file back from aside");
    if place.found_as(&aside)?.is_some_and(|found| quarantined.is_it(&found)) {
        match place.rename(&aside, place.name()) {
            Ok(()) => {}
            Err(rustix::io::Errno::EXIST) => {
                return Err(ActError::unfit(format!(
                    "something else is at {} by now, and is not touched: move it away, then undo again",
                    quarantined.target.path
                )));
            }
            Err(error) => return Err(putting()(error.into())),
        }
        place.flush().map_err(putting())?;
    }
    let Some(found) = place.found()?.filter(|found| quarantined.is_it(found)) else {
        return Ok(None);
    };
    let file = found.open().map_err(putting())?;
    let differs = quarantined.metadata.put_flags(&file).into_iter().collect();
    Ok(Some(Undone { differs }))
}

/// The file at the place, if it is what would be put there: same content, and all else the same.
fn is_restored(quarantined: &Quarantined, found: &Found) -> Result<Option<File>, ActError> {
    let looking = || failed(format!("looking at {}", quarantined.target.path));
    let metadata = &quarantined.metadata;
    if !found.metadata.is_file() || found.metadata.len() != metadata.size {
        return Ok(None);
    }
    let file = found.open().map_err(looking())?;
    let now = Metadata::read(&file, metadata.path.clone(), metadata.folder).map_err(looking())?;
    // The flags come last.
    if !(Metadata { flags: metadata.flags, ..now }).differs(metadata).is_empty() {
        return Ok(None);
    }
    let mut hash = Sha256::new();
    let mut reader = std::io::BufReader::with_capacity(1 << 20, &file);
    std::io::copy(&mut reader, &mut hash).map_err(looking())?;
    Ok((Some(Sha256Digest(hash.finalize().into())) == quarantined.sha256).then_some(file))
}
