//! Programs that lie where anybody may write: `/tmp` and its like.
//!
//! The one idea: anybody may put anything there, as much and as fast as they like. So these places have bounds of
//! their own and come last, the upper level is read before the lower, the newest before the old, and each file and
//! folder that could not be read is remembered by itself, however many they are: so that of all others something is
//! known. People are told the first of them, and how many more there are. No link is followed, and no mount entered that
//! is not in the table, or by which a file of another place has a name there; pipes, sockets and devices are no
//! programs, and are not opened.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use cordon_model::survey::PLACE_BYTES as PATH_BYTES;
use nix::sys::stat::fstat;
use sha2::{Digest as _, Sha256};

use super::limits::{DROPPED_MISSED, DROPPED_NAMES, DROPPED_SMALL, DROPPED_TIME, FILE_BYTES};
use super::memory::{Hides, Missed, Present};
use super::places::{OPEN_TO_ALL, Place};
use super::read::{Files, Teller, Unheard, is_absence, is_unchanged};
use super::unreadable::Marks;
use crate::contain::action::mounts::{Mount, far};
use crate::contain::action::plain::{self, Seen};

/// How a program begins that the kernel starts whatever its name (execve(2)).
const BEGINNINGS: [&[u8]; 2] = [b"\x7fELF", b"#!"];
/// How often a file is read again that changes meanwhile.
const TRIES: usize = 2;
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
            elsewhere: lie_elsewhere(&self.mounts, &self.root, at),
            names: DROPPED_NAMES,
            ends: Instant::now() + DROPPED_TIME,
            named: DROPPED_MISSED,
            unnamed: 0,
            untold: BTreeMap::new(),
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
    /// What is mounted below it, though it lies elsewhere, too.
    elsewhere: HashSet<&'a Path>,
    /// Those that are to be read, the uppermost first, each with its depth below the place.
    folders: VecDeque<(PathBuf, usize)>,
    /// How many may still be looked at.
    names: usize,
    ends: Instant,
    /// How much may still be named that could not be read…
    named: usize,
    /// …and how much was not named any more.
    unnamed: usize,
    /// Programs that are not told, by the folder right below the place.
    untold: BTreeMap<PathBuf, usize>,
    /// Something lies deeper than is looked.
    is_deeper: bool,
}

impl Walk<'_, '_> {
    fn all(&mut self) -> Result<(), Unheard> {
        while let Some((folder, depth)) = self.folders.front().cloned() {
            // It stays at the front until it is read, and is among the rest if it is not.
            if let Some(why) = self.folder(&folder, depth)? {
                self.rest(why)?;
                break;
            }
            self.folders.pop_front();
        }
        self.counts()
    }

    /// Reads what is in `folder`; why it ended before its end, if it did.
    fn folder(&mut self, folder: &Path, depth: usize) -> Result<Option<Cut>, Unheard> {
        self.tell.going_on()?;
        let (names, is_all, seen) = match self.names_in(folder) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(None),
            Err(error) => return self.unread(folder, &error.to_string()).map(|()| None),
        };
        self.names -= names.len().min(self.names);
        let mut plain = Vec::new();
        for (number, name) in names.into_iter().enumerate() {
            if let Some(why) = self.goes_on(number)? {
                return Ok(Some(why));
            }
            let path = folder.join(&name);
            if self.elsewhere.contains(path.as_path()) {
                self.unread(&path, "what is mounted there lies elsewhere, too")?;
                continue;
            }
            let Some(found) = self.look_in(&seen, folder, &name)? else { continue };
            let is_long = self.files.shown(&path).as_bytes().len() > PATH_BYTES;
            match found.kind() {
                _ if is_long && is_something(&found) => {
                    let why = format!("something below has a path of more than {PATH_BYTES} bytes");
                    self.miss(folder, &why)?;
                }
                _ if is_long => {}
                "folder" if depth + 1 < self.place.depth => {
                    self.folders.push_back((path, depth + 1));
                }
                "folder" => self.is_deeper = self.is_deeper || is_something(&found),
                "plain file" if found.status.st_size > 0 => {
                    // Nobody but root can set when a file was last changed.
                    let changed = (found.status.st_ctime, found.status.st_ctime_nsec);
                    plain.push((Reverse(changed), name));
                }
                // A link is followed nowhere, and nothing else holds a program.
                _ => {}
            }
        }
        // The newest first, so that whoever is too late to be told is old.
        plain.sort_unstable();
        for (number, (_, name)) in plain.into_iter().enumerate() {
            if let Some(why) = self.goes_on(number)? {
                return Ok(Some(why));
            }
            if let Some(found) = self.look_in(&seen, folder, &name)? {
                self.file(&folder.join(&name), &found)?;
            }
        }
        Ok((!is_all).then_some("more lies there than is looked at"))
    }

    /// Why nothing more is read. Whoever listens hears something meanwhile.
    fn goes_on(&self, number: usize) -> Result<Option<Cut>, Unheard> {
        if number % HEARD_EVERY == HEARD_EVERY - 1 {
            self.tell.going_on()?;
        }
        Ok((Instant::now() >= self.ends).then_some("no time was left"))
    }

    /// The names in it, and whether these are all; `None` if it is no folder any more.
    fn names_in(&self, folder: &Path) -> io::Result<Option<(Vec<OsString>, bool, Seen)>> {
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

    /// What has this name in `folder`; `None` if it is gone already, or can't be looked at.
    fn look_in(
        &mut self,
        seen: &Seen,
        folder: &Path,
        name: &OsStr,
    ) -> Result<Option<Seen>, Unheard> {
        match plain::look_in(&self.files.mounts, seen, folder, name) {
            Ok(found) => Ok(Some(found)),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => self.unread(&folder.join(name), &error.to_string()).map(|()| None),
        }
    }

    fn file(&mut self, path: &Path, found: &Seen) -> Result<(), Unheard> {
        match is_program(found) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) => return self.unread_file(path, &error.to_string()),
        }
        if self.tell.things == 0 {
            let folder = path.parent().unwrap_or(path);
            *self.untold.entry(self.top_of(folder)).or_default() += 1;
            return self.tell.unread(Marks::of(&self.files.shown(path)));
        }
        self.tell.going_on()?;
        match digest_of(found, &mut self.tell.bytes) {
            Ok(sha256) => self.tell.present(Present {
                kind: self.place.kind,
                path: self.files.shown(path),
                line: None,
                sha256,
                owner: found.status.st_uid,
            }),
            Err(why) => self.unread_file(path, &why),
        }
    }

    /// Nothing more is read: which folders are not known now.
    fn rest(&mut self, why: Cut) -> Result<(), Unheard> {
        let mut tops = BTreeSet::new();
        for (folder, _) in std::mem::take(&mut self.folders) {
            self.tell.unread(Marks::of_folder(&self.files.shown(&folder)))?;
            tops.insert(self.top_of(&folder));
        }
        self.named = self.named.max(1);
        if tops.len() > self.named || tops.contains(self.at) {
            tops = BTreeSet::from([self.at.to_owned()]);
        }
        tops.iter().try_for_each(|top| self.miss(top, why))
    }

    /// What is said of the place as a whole.
    fn counts(&mut self) -> Result<(), Unheard> {
        let mut untold = std::mem::take(&mut self.untold);
        self.named = self.named.max(1);
        if untold.len() > self.named {
            untold = BTreeMap::from([(self.at.to_owned(), untold.values().sum())]);
        }
        for (top, count) in untold {
            self.miss(&top, &format!("{count} more programs lie there than are told"))?;
        }
        let mut said = Vec::new();
        if self.unnamed > 0 {
            said.push(format!("{} more could not be read there than are named", self.unnamed));
        }
        if self.is_deeper {
            said.push(format!("folders {} levels below it are not looked into", self.place.depth));
        }
        self.named = said.len();
        said.iter().try_for_each(|why| self.miss(self.at, why))
    }

    /// The folder right below the place that `folder` is in, or is; of the place, itself.
    fn top_of(&self, folder: &Path) -> PathBuf {
        let first = folder.strip_prefix(self.at).ok().and_then(|below| below.iter().next());
        first.map_or_else(|| self.at.to_owned(), |first| self.at.join(first))
    }

    /// A folder, or what nobody knows, could not be read: of it, and of all that is in it, nothing is known.
    fn unread(&mut self, path: &Path, why: &str) -> Result<(), Unheard> {
        self.tell.unread(Marks::of_folder(&self.files.shown(path)))?;
        self.miss(path, why)
    }

    fn unread_file(&mut self, path: &Path, why: &str) -> Result<(), Unheard> {
        self.tell.unread(Marks::of(&self.files.shown(path)))?;
        self.miss(path, why)
    }

    /// Said to people, as far as it is not too much.
    fn miss(&mut self, path: &Path, why: &str) -> Result<(), Unheard> {
        if self.named == 0 {
            self.unnamed += 1;
            return Ok(());
        }
        self.named -= 1;
        // What it hides is told apart from it: see `Look::unread`.
        let missed = self.files.missed(path, why);
        self.tell.missed(Missed { hides: Hides::Nothing, ..missed })
    }
}

/// Whether it could be run: by its mode, or by how it begins, which a loader or a shell is content with.
fn is_program(found: &Seen) -> io::Result<bool> {
    const MAY_RUN: u32 = 0o111;
    if found.kind() != "plain file" || found.status.st_size == 0 {
        return Ok(false);
    }
    if found.status.st_mode & MAY_RUN != 0 {
        return Ok(true);
    }
    let mut beginning = Vec::with_capacity(4);
    found.open()?.take(4).read_to_end(&mut beginning)?;
    Ok(BEGINNINGS.iter().any(|one| beginning.starts_with(one)))
}

/// Whether it could be a program, or hold one.
fn is_something(found: &Seen) -> bool {
    match found.kind() {
        "folder" => !found.names(1).is_ok_and(|(names, _)| names.is_empty()),
        "plain file" => is_program(found).unwrap_or(true),
        _ => false,
    }
}

/// The SHA-256 of all of it, piece by piece; in words, why not. Of what is not small `room` bytes are left to be read.
fn digest_of(found: &Seen, room: &mut u64) -> Result<[u8; 32], String> {
    let words = |error: io::Error| error.to_string();
    for _ in 0..TRIES {
        let mut file = found.open().map_err(words)?;
        let before = fstat(file.as_fd()).map_err(|errno| words(errno.into()))?;
        let length = u64::try_from(before.st_size).unwrap_or(0);
        if length > FILE_BYTES {
            return Err(format!("it has {length} bytes, and at most {FILE_BYTES} are read"));
        }
        if length > DROPPED_SMALL && length > *room {
            return Err("there is more than is read of one place".into());
        }
        let mut hash = Sha256::new();
        // One more than it has, so that a longer one is seen to be longer.
        let read = io::copy(&mut (&mut file).take(length.saturating_add(1)), &mut hash);
        let read = read.map_err(words)?;
        if length > DROPPED_SMALL {
            *room = room.saturating_sub(read);
        }
        let after = fstat(file.as_fd()).map_err(|errno| words(errno.into()))?;
        if read == length && is_unchanged(&before, &after) {
            return Ok(hash.finalize().into());
        }
    }
    Err("it changes while it is read".into())
}

/// Mounts of what lies elsewhere, too, below `at`: a file there is another place's, under a name that says nothing of
/// it.
fn lie_elsewhere<'a>(mounts: &'a [Mount], root: &Path, at: &Path) -> HashSet<&'a Path> {
    let is_open =
        |point: &Path| OPEN_TO_ALL.iter().any(|one| point.starts_with(root.join(one.path)));
    let known = mounts.iter().filter(|mount| !is_open(&mount.point));
    let known: HashSet<(u32, u32)> = known.map(|mount| mount.device).collect();
    let is_it = |mount: &&Mount| {
        mount.point.starts_with(at) && mount.point != at && known.contains(&mount.device)
    };
    mounts.iter().filter(is_it).map(|mount| mount.point.as_path()).collect()
}
