//! What stands at a place, what the lookout's book says of it, and whether the one may take the place of the other. Nothing
//! is changed here.
//!
//! The one idea: an order names changes by their numbers and what was seen by its hashes; whose they are, whether others
//! came between, and what stood there first is read from this machine's own book. What that does not know, no order puts back.

use std::path::Path;

use cordon_model::action::{FilePath, PutBackTarget, UndoneProcess};
use cordon_model::change::{Doer, Stood};
use cordon_model::look::Would;
use cordon_model::survey::ThingKind;

use super::super::place::{Found, Place};
use super::super::quarantine::metadata::FileTime;
use super::super::spared::{FileId, Protected, SparedFiles};
use super::super::{ActError, failed};
use super::PutBack;
use crate::contain::lookout::book::Record;
use crate::contain::lookout::limits::HASHED_BYTES;
use crate::contain::lookout::standing::{self, LinkStanding, Standing};
use crate::contain::lookout::store::Store;

impl PutBack {
    /// What it would do now. Changes nothing, and reads no content: whoever asks is the helper's one thread, which must not
    /// wait for a disk.
    #[must_use]
    pub fn would(&self, target: &PutBackTarget, protected: &Protected) -> Would {
        let looked = self.records(target).and_then(|(first, last)| {
            let place = Place::find(&self.real(&target.path))?;
            let file = self.seems(&place, &last, target)?;
            self.may_touch(file, &place, protected)?;
            Ok((last.after, first.before))
        });
        let (found, wanted) = match looked {
            Ok(looked) => looked,
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
        would.notes.push(
            "only if it holds what was seen last, and nobody else changed it since: that is looked at when it is done"
                .into(),
        );
        would
    }

    /// Whether what is there seems to be what was seen last, by all but its content. Which file it is.
    fn seems(
        &self,
        place: &Place,
        last: &Record,
        target: &PutBackTarget,
    ) -> Result<FileId, ActError> {
        let found = place.found()?;
        let is_it = match (&last.after, &found) {
            (Standing::Nothing, None) => true,
            (Standing::File(file), Some(found)) => file.metadata.is_unchanged(&found.metadata),
            (Standing::Link(_), Some(found)) => {
                found.metadata.is_symlink() && link(found)?.is(&last.after)
            }
            _ => false,
        };
        if !is_it {
            return Err(changed(&target.path));
        }
        Ok(found.map_or(FileId { device: 0, inode: 0 }, |found| found.id()))
    }

    /// The first and the last change that are undone: if the lookout knows both, and they are what was ordered.
    fn records(&self, target: &PutBackTarget) -> Result<(Record, Record), ActError> {
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
        Ok((first, last))
    }

    /// Whether nobody but those of the order changed the place since the first of their changes, by the lookout's own book:
    /// an order says whose changes are undone, never that others made none.
    fn judge(&self, target: &PutBackTarget) -> Result<(), ActError> {
        let store = Store::open(&self.lookout).map_err(failed("opening what was seen"))?;
        let records = store.changes().map_err(failed("reading what was seen"))?;
        let its = records.into_iter().filter(|record| record.path == target.path);
        for record in its.filter(|record| record.number >= target.first) {
            if !is_by(&record, target) {
                return Err(ActError::refused(format!(
                    "{} was changed by somebody since: change {} at {} is not by whom the order names; nothing is \
                     touched; look again",
                    target.path, record.number, record.at
                )));
            }
        }
        Ok(())
    }

    /// Whether no order may touch it.
    fn may_touch(
        &self,
        file: FileId,
        place: &Place,
        protected: &Protected,
    ) -> Result<(), ActError> {
        let spared = SparedFiles::now(protected, Some(&self.state));
        spared.why_not_put_back(file, place).map_or(Ok(()), |why| Err(ActError::refused(why)))
    }

    /// The place, what is there and what is to be: if the lookout knows both, and nobody else changed it since.
    pub(super) fn checked(
        &self,
        target: &PutBackTarget,
        protected: &Protected,
    ) -> Result<(Place, Standing, Standing), ActError> {
        let shown = &target.path;
        let (first, last) = self.records(target)?;
        self.judge(target)?;
        let path = self.real(shown);
        let place = Place::find(&path)?;
        let now = stands(&place, &path)?;
        // Whoever set a flag (chattr) since wrote nothing: an intruder who does keeps nothing from being put back.
        if !now.is_but_for_flags(&last.after) {
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
        let file = now.file().unwrap_or(FileId { device: 0, inode: 0 });
        self.may_touch(file, &place, protected)?;
        Ok((place, now, first.before))
    }
}

/// What stands at a place that is held.
pub(super) fn stands(place: &Place, path: &Path) -> Result<Standing, ActError> {
    let looking = || failed(format!("looking at {}", path.display()));
    let Some(found) = place.found()? else { return Ok(Standing::Nothing) };
    let kind = found.metadata.file_type();
    if kind.is_symlink() {
        return link(&found);
    }
    if !kind.is_file() {
        return Ok(Standing::Other("no file and no link".into()));
    }
    let file = place.file()?.open().map_err(looking())?;
    let read = standing::read(&file, path, HASHED_BYTES).map_err(looking())?;
    let (now, _) =
        read.ok_or_else(|| ActError::unfit(format!("{} is being written to", path.display())))?;
    Ok(now)
}

/// A link that is held.
pub(super) fn link(found: &Found) -> Result<Standing, ActError> {
    let target = rustix::fs::readlinkat(found, "", Vec::new()).map_err(failed("reading a link"))?;
    Ok(Standing::Link(link_of(&found.metadata, target.into_bytes())))
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

/// Whether the change was made by those whom the order names, and what came of them, or by Cordon.
fn is_by(record: &Record, target: &PutBackTarget) -> bool {
    let is_named = |doer: &Doer| {
        let mut line = doer.line().filter(|(pid, _)| *pid != 1);
        doer.is_cordon
            || line.any(|(pid, started)| {
                let named = UndoneProcess { boot: record.boot.clone(), pid, started };
                target.by.contains(&named)
            })
    };
    !record.is_by_many && !record.by.is_empty() && record.by.iter().all(is_named)
}

pub(super) fn changed(path: &FilePath) -> ActError {
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
