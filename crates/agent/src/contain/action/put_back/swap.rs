//! Two things that change places under one name, whichever of them may be nothing.

use std::ffi::{OsStr, OsString};
use std::io;

use rustix::fs::RenameFlags;

use super::unhinder;
use crate::contain::action::place::Place;
use crate::contain::action::spared::FileId;
use crate::contain::lookout::standing::Standing;

/// What goes, what comes, and the name beside that is Cordon's own.
#[derive(Debug)]
pub(super) struct Swap {
    goes: Standing,
    comes: Standing,
    aside: OsString,
}

/// How things stand after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    /// What is to go is there; beside is nothing.
    Untouched,
    /// What was to come is there; beside is nothing.
    Changed,
    /// Somebody else's: nothing was touched.
    Another,
}

impl Swap {
    pub fn between(goes: &Standing, comes: &Standing, aside: OsString) -> Self {
        Self { goes: goes.clone(), comes: comes.clone(), aside }
    }

    pub fn comes(&self) -> &Standing {
        &self.comes
    }

    pub fn aside(&self) -> &OsStr {
        &self.aside
    }

    /// Removes what was built and never came to its place.
    ///
    /// # Errors
    /// If something else has that name, or the disk fails.
    pub fn clear(&self, place: &Place, built: Option<FileId>) -> io::Result<()> {
        match place.found_as(&self.aside).map_err(io::Error::other)? {
            None => Ok(()),
            // What is to go is never thrown away here. A half-built one has no entry in the journal yet.
            Some(found) if Some(found.id()) == self.goes.file() && built != self.goes.file() => {
                Err(io::Error::other("what was there is beside it"))
            }
            Some(_) => Ok(place.unlink(&self.aside)?),
        }
    }

    /// What was built comes, and what is there goes, if it is what is to go.
    ///
    /// # Errors
    /// `EEXIST` or `ENOENT` if it is not: all is then as before, but for what was built.
    pub fn change(&self, place: &Place, built: Option<FileId>) -> io::Result<()> {
        let another = || io::Error::from(io::ErrorKind::NotFound);
        let (name, aside) = (place.name(), self.aside.as_os_str());
        if self.goes == Standing::Nothing {
            return Ok(place.rename(aside, name)?);
        }
        let found = place.found().map_err(io::Error::other)?.ok_or_else(another)?;
        if !self.is_what_goes(&found.metadata) {
            return Err(another());
        }
        if found.metadata.is_file() {
            unhinder(&self.goes, &found.open()?)?;
        }
        match built {
            Some(_) => place.exchange(aside, name)?,
            None => place.rename(name, aside)?,
        }
        let gone = place.found_as(aside).map_err(io::Error::other)?;
        if !gone.is_some_and(|gone| self.is_what_goes(&gone.metadata)) {
            // Somebody was faster: theirs is put where they put it.
            match built {
                Some(_) => place.exchange(aside, name)?,
                None => place.rename(aside, name)?,
            }
            return Err(another());
        }
        Ok(place.unlink(aside)?)
    }

    /// Looks how far a change came that was cut short, and ends it: what was built and did not come is removed, what went
    /// and is still beside too.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn settle(&self, place: &Place, built: Option<FileId>) -> io::Result<Settled> {
        let id = |name: &OsStr| {
            let found = place.found_as(name).map_err(io::Error::other)?;
            Ok::<_, io::Error>(found.map(|found| (found.id(), self.is_what_goes(&found.metadata))))
        };
        let (here, beside) = (id(place.name())?, id(&self.aside)?);
        let goes_is_nothing = self.goes == Standing::Nothing;
        let is_built =
            |found: Option<(FileId, bool)>| found.is_some() && found.map(|(id, _)| id) == built;
        let is_old = |found: Option<(FileId, bool)>| found.is_some_and(|(_, is_it)| is_it);
        let has_come = if built.is_some() { is_built(here) } else { here.is_none() };
        let is_there = if goes_is_nothing { here.is_none() } else { is_old(here) };
        if has_come && (is_old(beside) || (beside.is_none() && !is_there)) {
            if beside.is_some() {
                place.unlink(&self.aside)?;
            }
            return Ok(Settled::Changed);
        }
        if is_there && (beside.is_none() || is_built(beside)) {
            if beside.is_some() {
                place.unlink(&self.aside)?;
            }
            return Ok(Settled::Untouched);
        }
        Ok(Settled::Another)
    }

    /// By its inode, and that nobody wrote to it.
    fn is_what_goes(&self, now: &std::fs::Metadata) -> bool {
        match &self.goes {
            Standing::File(file) => file.metadata.is_unchanged(now),
            Standing::Link(link) => now.is_symlink() && FileId::of(now) == link.file,
            Standing::Nothing | Standing::Other(_) => false,
        }
    }
}

impl Place {
    /// Has two names of the folder change places, in one step.
    ///
    /// # Errors
    /// What the kernel says: `EINVAL` on a filesystem that can't.
    fn exchange(&self, one: &OsStr, other: &OsStr) -> rustix::io::Result<()> {
        let folder = self.folder();
        rustix::fs::renameat_with(folder, one, folder, other, RenameFlags::EXCHANGE)
    }
}
