//! What each measure is about to do, on disk before it does it.
//!
//! One file a measure, in the form of [`Disk`]: replaced in one step, sealed with a hash, so that after
//! a crash the last thing written, or the one before it if the write never returned, is there whole.

use std::io;
use std::path::Path;

use cordon_model::action::ActionKind;
use cordon_model::ids::MeasureId;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::disk::{Disk, Found, Reserve};
use super::{ActError, failed};

/// What is set aside for a full disk. Entries are a few KiB each; one of a tree of 9,000 processes that are
/// stopped by signals has 243 KiB. Where no file is free, each measure that begins keeps one of these for as
/// long as it lasts, and one more is needed to write any of them again: so eight begin, and what is ordered
/// beyond them is not begun before one of them has ended.
const RESERVE: Reserve = Reserve { files: 9, bytes: 256 << 10 };

/// The journal of all measures but isolation.
#[derive(Debug, Clone)]
pub struct Journal {
    disk: Disk,
}

impl Journal {
    /// Opens the journal in `folder`, or makes it.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn open(folder: &Path) -> io::Result<Self> {
        Ok(Self { disk: Disk::open(folder)?.with_reserve(RESERVE) })
    }

    /// Sees to it that it can be written when the filesystem is full.
    ///
    /// # Errors
    /// When there is too little room for that now.
    pub fn keep_reserve(&self) -> io::Result<()> {
        self.disk.keep_reserve()
    }

    /// Takes back what a write that was cut short had taken out of the reserve. Before anybody writes here.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn take_back_reserve(&self) -> io::Result<()> {
        self.disk.take_back_reserve()
    }

    /// Writes what `measure` is about to do; on return it is on disk.
    ///
    /// # Errors
    /// When it is not: then don't do it.
    pub fn write<T: Serialize>(
        &self,
        kind: ActionKind,
        measure: MeasureId,
        entry: &T,
    ) -> Result<(), ActError> {
        self.disk
            .write(&name(kind, measure), entry)
            .map_err(failed("writing the measure's journal"))
    }

    /// What was written last of `measure`, if anything.
    ///
    /// # Errors
    /// When the disk fails, or what is there can't be read: what the measure changed is then not
    /// known, and people must look.
    pub fn read<T: DeserializeOwned>(
        &self,
        kind: ActionKind,
        measure: MeasureId,
    ) -> Result<Option<T>, ActError> {
        let name = name(kind, measure);
        match self.disk.read(&name).map_err(failed("reading the measure's journal"))? {
            // Died between the two renames: the write never returned, and nothing was done after it.
            Found::Whole(entry) | Found::Previous(entry) => Ok(Some(entry)),
            Found::Nothing => Ok(None),
            Found::Torn => Err(ActError::unfit(format!(
                "the journal {name} is damaged: look at what this measure changed, put it right by \
                 hand, then remove that file"
            ))),
        }
    }

    /// Forgets `measure`; nothing of it is left to undo.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn forget(&self, kind: ActionKind, measure: MeasureId) -> Result<(), ActError> {
        self.disk.remove(&name(kind, measure)).map_err(failed("removing the measure's journal"))
    }

    /// All measures of `kind` that are in force or half done.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn measures(&self, kind: ActionKind) -> Result<Vec<MeasureId>, ActError> {
        let names = self.disk.names().map_err(failed("reading the journal's folder"))?;
        let prefix = prefix(kind);
        let mut found: Vec<MeasureId> =
            names.iter().filter_map(|name| name.strip_prefix(&prefix)?.parse().ok()).collect();
        found.sort();
        found.dedup();
        Ok(found)
    }
}

fn name(kind: ActionKind, measure: MeasureId) -> String {
    format!("{}{measure}", prefix(kind))
}

/// What the names of a kind's files begin with.
fn prefix(kind: ActionKind) -> String {
    format!("{}-", kind.as_str())
}

#[cfg(test)]
mod tests {
    use std::str::FromStr as _;

    use super::*;

    fn measure(last: u8) -> MeasureId {
        MeasureId::from_str(&format!("018f0000-0000-7000-8000-0000000000{last:02x}")).unwrap()
    }

    #[test]
    fn what_is_forgotten_does_not_come_back_whenever_the_forgetting_is_cut_short() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path()).unwrap();
        for entry in ["older", "newer"] {
            journal.write(ActionKind::Freeze, measure(1), &entry).unwrap();
        }
        // Cut short after the first of its two steps: the newer is still there, never the older alone.
        std::fs::remove_file(folder.path().join(format!("freeze-{}.previous", measure(1))))
            .unwrap();
        let read = |number| journal.read::<String>(ActionKind::Freeze, measure(number)).unwrap();
        assert_eq!(read(1).as_deref(), Some("newer"));
        journal.forget(ActionKind::Freeze, measure(1)).unwrap();
        assert_eq!(read(1), None);
        journal.forget(ActionKind::Freeze, measure(1)).unwrap();
    }

    #[test]
    fn each_kind_knows_its_own_measures() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path()).unwrap();
        journal.write(ActionKind::Freeze, measure(2), &1).unwrap();
        journal.write(ActionKind::Freeze, measure(2), &2).unwrap();
        journal.write(ActionKind::Freeze, measure(1), &3).unwrap();
        journal.write(ActionKind::Deny, measure(3), &4).unwrap();
        assert_eq!(journal.measures(ActionKind::Freeze).unwrap(), [measure(1), measure(2)]);
        assert_eq!(journal.measures(ActionKind::Deny).unwrap(), [measure(3)]);
        assert_eq!(journal.measures(ActionKind::Kill).unwrap(), []);
    }

    #[test]
    fn a_damaged_entry_is_said_and_not_taken_for_none() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path()).unwrap();
        journal.write(ActionKind::Kill, measure(1), &"entry").unwrap();
        std::fs::write(folder.path().join(format!("kill-{}.cbor", measure(1))), b"x").unwrap();
        let error = journal.read::<String>(ActionKind::Kill, measure(1)).unwrap_err();
        assert!(error.to_string().contains("damaged"), "{error}");
    }
}
