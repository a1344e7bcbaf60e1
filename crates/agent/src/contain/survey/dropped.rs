//! Programs that lie where anybody may write: `/tmp` and its like.
//!
//! The one idea: anybody may put anything there, as much and as fast as they like. So these places have bounds of
//! their own and come last, the upper level is read before the lower, and a bound that cuts says which folders were
//! not read, so that of the others something is known. No link is followed and no mount entered that is not in the
//! table; pipes, sockets and devices are no programs, and are not opened.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use cordon_model::survey::PLACE_BYTES as PATH_BYTES;
use sha2::{Digest as _, Sha256};

use super::limits::{DROPPED_MISSED, DROPPED_NAMES, DROPPED_TIME};
use super::memory::{Hides, Missed, Present};
use super::places::{OPEN_TO_ALL, Place};
use super::read::{Files, Teller, Unheard, contents, is_absence};
use crate::contain::action::mounts::far;
use crate::contain::action::plain::{self, Seen};

/// How a program begins that the kernel starts whatever its name (execve(2)).
const BEGINNINGS: [&[u8]; 2] = [b"\x7fELF", b"#!"];
/// Whoever listens hears something after so many names at the latest.
const HEARD_EVERY: usize = 64;

/// Why the rest of a place is not read.
type Cut = &'static str;

impl Files {
    /// Reads one place where anybody may write.
    pub(super) fn dropped(
        &self,
        place: &Place,
        at: &Path,
        tell: &mut Teller<'_>,
    ) -> Result<(), Unheard> {
        if let Some(mount) = far(&self.mounts, at) {
            let why = format!("it is on {}, whose answers may never come", mount.kind);
            let point = if mount.point.starts_with(&self.root) { &mount.point } else { &self.root };
            return tell.missed(self.missed(point, why));
        }
        let is_open = |path: &Path| {
            path != at && OPEN_TO_ALL.iter().any(|one| self.root.join(one.path) == path)
        };
        match plain::look_near(&self.mounts, at) {
            Ok(seen) if seen.kind() == "folder" => {}
            Err(error) if is_absence(&error) => return Ok(()),
            // As `/tmp` leads to `/var/tmp` on some machines.
            _ if self.leads_to(at, is_open) => return Ok(()),
            Ok(seen) => {
                let why = format!("it is a {}, and not a folder", seen.kind());
                return tell.missed(self.missed(at, why));
            }
            Err(error) => return tell.missed(self.missed(at, error.to_string())),
        }
        let mut walk = Walk {
            files: self,
            place,
            at,
            tell,
            folders: VecDeque::from([(at.to_owned(), 0)]),
            names: DROPPED_NAMES,
            ends: Instant::now() + DROPPED_TIME,
            missed: 0,
            is_deeper: false,
        };
        walk.all()
    }
}

/// Reading one place.
struct Walk<'a, 't> {
    files: &'a Files,
    place: &'a Place,
    at: &'a Path,
    tell: &'a mut Teller<'t>,
    /// Those that are to be read, the uppermost first, each with its depth below the place.
    folders: VecDeque<(PathBuf, usize)>,
    /// How many may still be looked at.
    names: usize,
    ends: Instant,
    missed: usize,
    /// Something lies deeper than is looked.
    is_deeper: bool,
}

impl Walk<'_, '_> {
    fn all(&mut self) -> Result<(), Unheard> {
        while let Some((folder, depth)) = self.folders.front().cloned() {
            // It stays at the front until it is read, and is among the rest if it is not.
            if let Some(why) = self.folder(&folder, depth)? {
                return self.rest(why);
            }
            self.folders.pop_front();
        }
        if self.is_deeper {
            let why = format!("folders {} levels below it are not looked into", self.place.depth);
            let missed = self.files.missed(self.at, why);
            // Nothing in them was ever looked at.
            let missed = Missed { hides: Hides::Nothing, ..missed };
            return self.tell.missed(missed);
        }
        Ok(())
    }

    /// Reads what is in `folder`; why it ended before its end, if it did.
    fn folder(&mut self, folder: &Path, depth: usize) -> Result<Option<Cut>, Unheard> {
        self.tell.going_on()?;
        let (names, is_all, seen) = match self.names_in(folder) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(None),
            Err(error) => {
                return self.miss(folder, error.to_string(), Hides::All).map(|()| None);
            }
        };
        self.names -= names.len().min(self.names);
        for (number, name) in names.iter().enumerate() {
            if Instant::now() >= self.ends {
                return Ok(Some("no time was left"));
            }
            if number % HEARD_EVERY == HEARD_EVERY - 1 {
                self.tell.going_on()?;
            }
            let path = folder.join(name);
            if self.files.shown(&path).as_bytes().len() > PATH_BYTES {
                let why = format!("something below has a path of more than {PATH_BYTES} bytes");
                self.miss(folder, why, Hides::Inside)?;
                continue;
            }
            let found = match plain::look_in(&self.files.mounts, &seen, folder, name) {
                Ok(found) => found,
                // It is gone already.
                Err(error) if is_absence(&error) => continue,
                Err(error) => {
                    self.miss(&path, error.to_string(), Hides::All)?;
                    continue;
                }
            };
            match found.kind() {
                "folder" if depth + 1 < self.place.depth => {
                    self.folders.push_back((path, depth + 1));
                }
                "folder" => self.is_deeper = self.is_deeper || !is_empty(&found),
                "plain file" => {
                    if let Some(why) = self.file(&path, &found)? {
                        return Ok(Some(why));
                    }
                }
                // A link is followed nowhere, and nothing else holds a program.
                _ => {}
            }
        }
        Ok((!is_all).then_some("more lies there than is looked at"))
    }

    /// The names in it, sorted, and whether these are all; `None` if it is no folder any more.
    fn names_in(&self, folder: &Path) -> io::Result<Option<(Vec<std::ffi::OsString>, bool, Seen)>> {
        let seen = match plain::look_near(&self.files.mounts, folder) {
            Ok(seen) if seen.kind() == "folder" => seen,
            Ok(_) => return Ok(None),
            Err(error) if is_absence(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let (mut names, is_all) = seen.names(self.names)?;
        names.sort_unstable();
        Ok(Some((names, is_all, seen)))
    }

    fn file(&mut self, path: &Path, found: &Seen) -> Result<Option<Cut>, Unheard> {
        match is_program(found) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(error) => return self.miss(path, error.to_string(), Hides::All).map(|()| None),
        }
        if self.tell.things == 0 {
            return Ok(Some("there are more programs than are looked at"));
        }
        let contents = match contents(found, self.tell.bytes) {
            Ok(contents) => contents,
            Err(why) => return self.miss(path, why, Hides::All).map(|()| None),
        };
        self.tell.bytes = self.tell.bytes.saturating_sub(contents.len() as u64);
        self.tell.present(Present {
            kind: self.place.kind,
            path: self.files.shown(path),
            line: None,
            sha256: Sha256::digest(&contents).into(),
            owner: found.status.st_uid,
        })?;
        Ok(None)
    }

    /// Nothing more is read: which folders are not known now.
    fn rest(&mut self, why: Cut) -> Result<(), Unheard> {
        let tops: BTreeSet<PathBuf> =
            self.folders.iter().map(|(folder, _)| self.top_of(folder)).collect();
        let is_named = self.missed + tops.len() < DROPPED_MISSED && !tops.contains(self.at);
        let all = BTreeSet::from([self.at.to_owned()]);
        for top in if is_named { tops } else { all } {
            let missed = self.files.missed(&top, why);
            self.tell.missed(Missed { hides: Hides::Inside, ..missed })?;
        }
        Ok(())
    }

    /// The folder right below the place that `folder` is in, or is; of the place, itself.
    fn top_of(&self, folder: &Path) -> PathBuf {
        let first = folder.strip_prefix(self.at).ok().and_then(|below| below.iter().next());
        first.map_or_else(|| self.at.to_owned(), |first| self.at.join(first))
    }

    /// Whoever makes much there that can't be read has the place unread, and nothing else.
    fn miss(&mut self, path: &Path, why: String, hides: Hides) -> Result<(), Unheard> {
        self.missed += 1;
        let (path, why, hides) = match self.missed.cmp(&DROPPED_MISSED) {
            std::cmp::Ordering::Less => (path, why, hides),
            std::cmp::Ordering::Equal => {
                (self.at, "more could not be read there than is named".to_owned(), Hides::Inside)
            }
            std::cmp::Ordering::Greater => return Ok(()),
        };
        let missed = self.files.missed(path, why);
        self.tell.missed(Missed { hides, ..missed })
    }
}

/// Whether it could be run: by its mode, or by how it begins, which a loader or a shell is content with.
fn is_program(found: &Seen) -> io::Result<bool> {
    const MAY_RUN: u32 = 0o111;
    if found.status.st_size == 0 {
        return Ok(false);
    }
    if found.status.st_mode & MAY_RUN != 0 {
        return Ok(true);
    }
    let mut beginning = Vec::with_capacity(4);
    found.open()?.take(4).read_to_end(&mut beginning)?;
    Ok(BEGINNINGS.iter().any(|one| beginning.starts_with(one)))
}

/// Nothing lies in an empty folder, however deep it is.
fn is_empty(found: &Seen) -> bool {
    found.names(1).is_ok_and(|(names, _)| names.is_empty())
}
