//! Reading the places of one machine, whatever stands there.
//!
//! No symbolic link is followed, neither on the way nor at the end: a link is a thing by itself, and where it
//! leads to a place that is not looked at, that is said. Nothing but plain files and folders is opened
//! ([`plain`]). What lies on a filesystem that another machine or another program answers for is not asked
//! ([`mounts`]). Everything has a limit ([`limits`]), and what one cuts counts as unread: of an unread place
//! nothing is concluded.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::mpsc::SyncSender;

use cordon_model::action::FilePath;
use cordon_model::survey::{PLACE_BYTES as PATH_BYTES, ThingKind};
use nix::sys::stat::{FileStat, fstat};
use sha2::{Digest as _, Sha256};

use super::limits;
use super::lines::lines_of;
use super::memory::{Hides, Missed, Present};
use super::places::{Place, Things};
use super::unreadable::Marks;
use crate::contain::action::mounts::{Mount, far};
use crate::contain::action::plain::{self, Seen};

/// Links that lead to links, before nobody knows where they lead.
const LINKS: usize = 8;
/// How often a file is read again that changes meanwhile.
const TRIES: usize = 3;

/// What a reader says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    Present(Present),
    Missed(Missed),
    /// See [`Look::unread`](super::memory::Look::unread).
    Unread(Marks),
    /// It is at work, and has nothing to say.
    GoingOn,
    /// No more comes.
    Over,
}

/// Places that are read one after the other, and share what may be read of them.
#[derive(Debug, Clone)]
pub(in crate::contain) struct Task {
    pub(in crate::contain) places: Vec<(&'static Place, PathBuf)>,
    pub(super) things: usize,
    pub(super) bytes: u64,
    /// The home that they are in.
    pub(in crate::contain) home: Option<PathBuf>,
}

/// What is known of the machine's files before they are read.
#[derive(Debug)]
pub(super) struct Files {
    /// Where its file system begins: `/`, but for a try.
    pub(super) root: PathBuf,
    pub(super) mounts: Vec<Mount>,
    /// All places that are looked at, as they really lie.
    pub(super) looked_at: HashSet<PathBuf>,
}

/// The listener is gone.
pub(super) struct Unheard;

pub(super) struct Teller<'a> {
    to: &'a SyncSender<Told>,
    /// How many more may be told.
    pub(super) things: usize,
    /// How much more may be read.
    pub(super) bytes: u64,
}

impl Teller<'_> {
    pub(super) fn present(&mut self, present: Present) -> Result<(), Unheard> {
        self.things = self.things.saturating_sub(1);
        self.to.send(Told::Present(present)).map_err(|_| Unheard)
    }

    pub(super) fn missed(&self, missed: Missed) -> Result<(), Unheard> {
        self.to.send(Told::Missed(missed)).map_err(|_| Unheard)
    }

    pub(super) fn unread(&self, what: Marks) -> Result<(), Unheard> {
        self.to.send(Told::Unread(what)).map_err(|_| Unheard)
    }

    pub(super) fn going_on(&self) -> Result<(), Unheard> {
        self.to.send(Told::GoingOn).map_err(|_| Unheard)
    }
}

impl Files {
    /// The path as the machine knows it.
    pub(super) fn shown(&self, path: &Path) -> FilePath {
        let below = path.strip_prefix(&self.root).unwrap_or(path);
        let mut shown = b"/".to_vec();
        shown.extend_from_slice(below.as_os_str().as_bytes());
        FilePath::new(shown)
    }

    /// That nothing is known of `path`, and why.
    pub(super) fn missed(&self, path: &Path, why: impl Into<String>) -> Missed {
        Missed { path: self.shown(path), why: why.into(), hides: Hides::All }
    }

    /// Reads one task after the other place.
    pub(super) fn read(&self, task: &Task, to: &SyncSender<Told>) {
        let mut tell = Teller { to, things: task.things, bytes: task.bytes };
        for (place, path) in &task.places {
            if self.place(place, path, &mut tell).is_err() {
                return;
            }
        }
        let _ = to.send(Told::Over);
    }

    fn place(&self, place: &Place, at: &Path, tell: &mut Teller<'_>) -> Result<(), Unheard> {
        if place.things == Things::Programs {
            return self.dropped(place, at, tell);
        }
        let mut waiting = vec![(at.to_owned(), 0)];
        while let Some((path, depth)) = waiting.pop() {
            if self.shown(&path).as_bytes().len() > PATH_BYTES {
                let folder = self.short_enough(&path);
                let why = format!("something below has a path of more than {PATH_BYTES} bytes");
                let missed = Missed { hides: Hides::Inside, ..self.missed(&folder, why) };
                tell.missed(missed)?;
                continue;
            }
            if let Some(mount) = far(&self.mounts, &path) {
                let why = format!("it is on {}, whose answers may never come", mount.kind);
                // All that is on it at once; of a root that is far, all.
                let point =
                    if mount.point.starts_with(&self.root) { &mount.point } else { &self.root };
                tell.missed(self.missed(point, why))?;
                return Ok(());
            }
            let seen = match plain::look_at_itself(&path) {
                Ok(seen) => seen,
                // Most machines have only some of these.
                Err(error) if is_absence(&error) => continue,
                Err(error) => {
                    // Where a folder leads to that is looked at under its own name, nothing is missed.
                    if !self.leads_to_one_that_is_looked_at(&path) {
                        // All that lies behind a link at once.
                        let link = self.first_link(&path).map(|(link, _)| link);
                        tell.missed(self.missed(&link.unwrap_or(path), error.to_string()))?;
                    }
                    continue;
                }
            };
            if tell.things == 0 {
                return tell.missed(self.missed(at, "there are more things than are looked at"));
            }
            match seen.kind() {
                "folder" if depth < place.depth => {
                    let names = match seen.names(limits::NAMES) {
                        Ok((mut names, is_all)) => {
                            if !is_all {
                                let why = format!("it holds more than {} names", limits::NAMES);
                                let missed =
                                    Missed { hides: Hides::Inside, ..self.missed(&path, why) };
                                tell.missed(missed)?;
                            }
                            names.sort_unstable();
                            names
                        }
                        Err(error) => {
                            tell.missed(self.missed(&path, error.to_string()))?;
                            continue;
                        }
                    };
                    let things = names.iter().rev().filter(|name| place.takes(name.as_bytes()));
                    waiting.extend(things.map(|name| (path.join(name), depth + 1)));
                }
                // Nothing that the system looks into.
                "folder" => {}
                "symbolic link" => self.link(place, &path, &seen, tell)?,
                "plain file" => self.file(place, &path, &seen, tell)?,
                other => tell.missed(self.missed(&path, format!("it is a {other}")))?,
            }
        }
        Ok(())
    }

    /// A link is a thing by itself: where it leads is what is told of it.
    fn link(
        &self,
        place: &Place,
        path: &Path,
        seen: &Seen,
        tell: &mut Teller<'_>,
    ) -> Result<(), Unheard> {
        let target = match seen.target() {
            Ok(target) => target,
            Err(error) => return tell.missed(self.missed(path, error.to_string())),
        };
        let kind = if place.kind == ThingKind::Unit { ThingKind::UnitLink } else { place.kind };
        tell.present(Present {
            kind,
            path: self.shown(path),
            line: None,
            sha256: Sha256::digest(target.as_bytes()).into(),
            owner: seen.status.st_uid,
        })?;
        let leads_to_nothing = target == "/dev/null";
        if leads_to_nothing || self.leads_to_one_that_is_looked_at(path) {
            return Ok(());
        }
        let target = FilePath::new(target.as_bytes());
        let why = format!("a symbolic link to {target}, which is not looked at");
        // What was read there before it was a link is not gone: it may be where the link leads.
        tell.missed(Missed { hides: Hides::Inside, ..self.missed(path, why) })
    }

    fn file(
        &self,
        place: &Place,
        path: &Path,
        seen: &Seen,
        tell: &mut Teller<'_>,
    ) -> Result<(), Unheard> {
        let contents = match contents(seen, tell.bytes) {
            Ok(contents) => contents,
            Err(why) => return tell.missed(self.missed(path, why)),
        };
        tell.bytes = tell.bytes.saturating_sub(contents.len() as u64);
        let present = |line, sha256| Present {
            kind: place.kind,
            path: self.shown(path),
            line,
            sha256,
            owner: seen.status.st_uid,
        };
        let Things::Lines(lines) = place.things else {
            return tell.present(present(None, Sha256::digest(&contents).into()));
        };
        let mut lines = lines_of(lines, &contents);
        for line in lines.by_ref().take(tell.things.min(limits::LINES)) {
            tell.present(present(Some(line.text), line.sha256))?;
        }
        match lines.next() {
            None => Ok(()),
            Some(_) => tell.missed(self.missed(path, "it has more lines than are looked at")),
        }
    }

    /// The nearest folder of `path` whose own path is told whole.
    fn short_enough(&self, path: &Path) -> PathBuf {
        let is_short = |path: &&Path| self.shown(path).as_bytes().len() <= PATH_BYTES;
        path.ancestors().find(is_short).unwrap_or(&self.root).to_owned()
    }

    /// Whether the links on the way of `path` lead to a place that is looked at anyway, as `/lib` does to
    /// `/usr/lib`. Only names are compared: nothing is read there.
    fn leads_to_one_that_is_looked_at(&self, path: &Path) -> bool {
        // A place holds what lies in it, and in its folders.
        self.leads_to(path, |next| {
            next.ancestors().take(3).any(|place| self.looked_at.contains(place))
        })
    }

    /// Whether the links on the way of `path` lead to one of these, by their letters.
    pub(super) fn leads_to(&self, path: &Path, is_it: impl Fn(&Path) -> bool) -> bool {
        let mut path = path.to_owned();
        for _ in 0..LINKS {
            let Some((_, next)) = self.first_link(&path) else { break };
            if is_it(&next) {
                return true;
            }
            path = next;
        }
        false
    }

    /// The first link in `path`, and where `path` goes on behind it.
    fn first_link(&self, path: &Path) -> Option<(PathBuf, PathBuf)> {
        let below = path.strip_prefix(&self.root).ok()?;
        let mut so_far = self.root.clone();
        let mut parts = below.components();
        while let Some(part) = parts.next() {
            let next = so_far.join(part);
            if far(&self.mounts, &next).is_some() {
                return None;
            }
            let seen = plain::look_at_itself(&next).ok()?;
            if seen.kind() == "symbolic link" {
                let target = PathBuf::from(seen.target().ok()?).join(parts.as_path());
                let onward = self.resolved(&so_far, &target)?;
                return Some((next, onward));
            }
            so_far = next;
        }
        None
    }

    /// `target` as seen from `folder`, by its letters.
    fn resolved(&self, folder: &Path, target: &Path) -> Option<PathBuf> {
        let mut at = if target.is_absolute() { self.root.clone() } else { folder.to_owned() };
        for part in target.components() {
            match part {
                Component::RootDir | Component::CurDir => {}
                Component::ParentDir if at == self.root => {}
                Component::ParentDir => drop(at.pop()),
                Component::Normal(name) => at.push(name),
                Component::Prefix(_) => return None,
            }
        }
        Some(at)
    }

    /// The whole of one file that has to be read before the rest, if it is there.
    ///
    /// # Errors
    /// In words, why it can't be read.
    pub(super) fn whole(&self, below: impl AsRef<Path>) -> Result<Option<Vec<u8>>, String> {
        let path = self.root.join(below);
        if let Some(mount) = far(&self.mounts, &path) {
            return Err(format!("it is on {}, whose answers may never come", mount.kind));
        }
        match plain::look(&path) {
            Ok(seen) => contents(&seen, limits::FILE_BYTES).map(Some),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The names in a folder that has to be known before the rest; none if it can't be read.
    pub(super) fn names(&self, below: &str) -> Vec<PathBuf> {
        let path = self.root.join(below);
        if far(&self.mounts, &path).is_some() {
            return Vec::new();
        }
        let names = plain::look(&path).and_then(|seen| seen.names(limits::NAMES));
        let mut names = names.map(|(names, _)| names).unwrap_or_default();
        names.sort_unstable();
        names.iter().map(|name| Path::new(below).join(OsStr::new(name))).collect()
    }
}

pub(super) fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// All bytes of a plain file, of which `room` are left to be read; in words, why not.
fn contents(seen: &Seen, room: u64) -> Result<Vec<u8>, String> {
    let words = |error: io::Error| error.to_string();
    for _ in 0..TRIES {
        let file = seen.open().map_err(words)?;
        let before = fstat(file.as_fd()).map_err(|errno| words(errno.into()))?;
        let length = u64::try_from(before.st_size).unwrap_or(0);
        if length > limits::FILE_BYTES {
            let most = limits::FILE_BYTES;
            return Err(format!("it has {length} bytes, and at most {most} are read"));
        }
        if length > room {
            return Err("there is more than is read of one place".into());
        }
        let mut bytes = Vec::new();
        // One more than it has, so that a longer one is seen to be longer.
        (&file).take(length.saturating_add(1)).read_to_end(&mut bytes).map_err(words)?;
        let after = fstat(file.as_fd()).map_err(|errno| words(errno.into()))?;
        if is_unchanged(&before, &after) && bytes.len() as u64 == length {
            return Ok(bytes);
        }
    }
    Err("it changes while it is read".into())
}

pub(super) fn is_unchanged(before: &FileStat, after: &FileStat) -> bool {
    let state = |stat: &FileStat| {
        (stat.st_size, stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime, stat.st_ctime_nsec)
    };
    state(before) == state(after)
}
