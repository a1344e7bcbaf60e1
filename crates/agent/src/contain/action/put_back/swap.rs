//! Two things that change places under one name, whichever of them may be nothing.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;

use rustix::fs::RenameFlags;

use super::looks;
use crate::contain::action::place::{Found, Place};
use crate::contain::action::spared::FileId;
use crate::contain::lookout::limits::HASHED_BYTES;
use crate::contain::lookout::standing::{Standing, read};

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

    /// Removes what a try that was cut short had half built: nothing is known of it yet.
    ///
    /// # Errors
    /// If what is to go is there, or the disk fails.
    pub fn clear_half_built(&self, place: &Place, built: Option<FileId>) -> io::Result<()> {
        match place.found_as(&self.aside).map_err(io::Error::other)? {
            None => Ok(()),
            // What is to go is never thrown away here.
            Some(found) if Some(found.id()) == self.goes.file() && built != self.goes.file() => {
                Err(io::Error::other("what was there is beside it"))
            }
            Some(_) => Ok(place.unlink(&self.aside)?),
        }
    }

    /// Removes what was built and did not come to its place, and what went and is kept; nothing else: whether nothing is
    /// left beside.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn clear(&self, place: &Place, built: Option<FileId>) -> io::Result<bool> {
        let Some(found) = place.found_as(&self.aside).map_err(io::Error::other)? else {
            return Ok(true);
        };
        let is_ours = Some(found.id()) == built || self.is_what_goes(place, &found);
        if is_ours {
            place.unlink(&self.aside)?;
        }
        Ok(is_ours)
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
        if !self.is_what_goes(place, &found) {
            return Err(another());
        }
        let held = found.metadata.is_file().then(|| found.open()).transpose()?;
        if let Some(held) = &held {
            unhinder(&self.goes, held)?;
        }
        match built {
            Some(_) => place.exchange(aside, name)?,
            None => place.rename(name, aside)?,
        }
        let gone = place.found_as(aside).map_err(io::Error::other)?;
        if !gone.is_some_and(|gone| self.is_what_goes(place, &gone)) {
            // Somebody was faster: theirs is put where they put it.
            match built {
                Some(_) => place.exchange(aside, name)?,
                None => place.rename(aside, name)?,
            }
            if let (Standing::File(file), Some(held)) = (&self.goes, &held) {
                let _ = file.metadata.put_flags(held);
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
            Ok::<_, io::Error>(found.map(|found| (found.id(), self.is_what_goes(place, &found))))
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

    /// By its inode, and by all that it is: its times can be set by whoever wrote to it, what it holds can't. Only of its
    /// flags some may be taken off, so that it can go.
    fn is_what_goes(&self, place: &Place, found: &Found) -> bool {
        if Some(found.id()) != self.goes.file() {
            return false;
        }
        match &self.goes {
            Standing::File(file) if found.metadata.is_file() => {
                let read = found.open().and_then(|it| read(&it, place.path(), HASHED_BYTES));
                matches!(read, Ok(Some((Standing::File(now), _)))
                    if now.sha256 == file.sha256 && file.metadata.is_but_for_flags(&now.metadata))
            }
            Standing::Link(_) => looks::link(found).is_ok_and(|now| now.is(&self.goes)),
            Standing::File(_) | Standing::Nothing | Standing::Other(_) => false,
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

/// The file that a standing is of, opened to take off what hinders its going.
fn unhinder(found: &Standing, file: &File) -> io::Result<()> {
    match found {
        Standing::File(standing) => standing.metadata.unhinder(file),
        _ => Ok(()),
    }
}
