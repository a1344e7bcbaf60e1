//! The process that takes a survey: it looks, remembers, and says what it was asked for.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Instant;

use cordon_model::action::FilePath;
use cordon_model::survey::{MOST_UNREAD, PLACE_BYTES, Survey, Unread};
use cordon_model::time::UtcNanos;
use cordon_respond::clock::Moment;

use super::STEP;
use super::kept::{self, Kept};
use super::limits::{ONE_BEFORE, ONE_BEFORE_ASKED, PROCESSOR_SECONDS};
use super::look::look;
use super::memory::{Memory, remember};
use super::words;
use crate::contain::action::mounts::mounts;
use crate::contain::moment::Clocks;
use crate::contain::urgency::{end_with_helper, stand_last};

/// What is to be said of a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing: it is taken to be remembered.
    Nothing,
    /// All that is remembered.
    All,
    /// What came or went at this time or later.
    Since(UtcNanos),
}

impl Wanted {
    /// What a person asked for.
    #[must_use]
    pub fn of(since: Option<UtcNanos>) -> Self {
        since.map_or(Self::All, Self::Since)
    }
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::All => f.write_str("all"),
            Self::Since(time) => write!(f, "{}", time.unix_nanos()),
        }
    }
}

impl std::str::FromStr for Wanted {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "nothing" => Self::Nothing,
            "all" => Self::All,
            nanos => Self::Since(UtcNanos::from_unix_nanos(nanos.parse()?)),
        })
    }
}

/// Takes a survey of the machine whose file system begins at `root`, and writes what is wanted of it to
/// standard output; what it returns is the process's exit code. To be called by a process that does nothing
/// else: it goes behind all others, and ends with whoever started it.
#[must_use]
pub fn run(folder: &Path, root: &Path, wanted: Wanted) -> i32 {
    stand_last(PROCESSOR_SECONDS);
    let clocks = end_with_helper().and_then(|_| Clocks::of_this_boot());
    let said = clocks.and_then(|clocks| take(folder, root, wanted, || clocks.now()));
    let said = said.and_then(|survey| {
        let mut bytes = Vec::new();
        if let Some(survey) = survey {
            ciborium::into_writer(&survey, &mut bytes).map_err(io::Error::other)?;
        }
        Ok(bytes)
    });
    let (bytes, code) = match said {
        Ok(bytes) => (bytes, 0),
        Err(error) => (words::cut(error.to_string()).into_bytes(), 1),
    };
    let mut out = io::stdout().lock();
    let is_said = out.write_all(&bytes).and_then(|()| out.flush()).is_ok();
    if is_said { code } else { 1 }
}

/// Takes a survey; `now` says the time when the look begins. What is remembered is in `folder`, which only
/// root reads.
///
/// # Errors
/// When the memory can't be read, or another look is at work and goes on. Nothing is forgotten then.
pub fn take(
    folder: &Path,
    root: &Path,
    wanted: Wanted,
    now: impl FnOnce() -> Moment,
) -> io::Result<Option<Survey>> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let _lock = alone(folder, wanted)?;
    let kept = kept::read(folder)?;
    // Of the beginning: what came while it was looked at may have been missed.
    let now = now();
    let memory = match kept {
        Kept::Whole(memory) => Some(*memory),
        Kept::Nothing => None,
        Kept::Damaged => Some(Memory::anew(&now)),
    };
    let memory = remember(memory, look(root, mounts()?), &now);
    let written = kept::write(folder, &memory);
    let since = match wanted {
        Wanted::Nothing => return written.map(|()| None),
        Wanted::All => None,
        Wanted::Since(time) => Some(time),
    };
    let kept_in = shown(folder);
    let mut survey = memory.survey(since, &kept_in);
    if let Err(error) = written {
        // It is true all the same; the next look will not know of this one.
        survey.unread.truncate(MOST_UNREAD - 1);
        let why = words::cut(format!("what was seen could not be kept: {error}"));
        survey.unread.insert(0, Unread { path: kept_in, why });
    }
    Ok(Some(survey))
}

/// Waits until no other look is at work. A process of an earlier helper's may not be gone yet.
fn alone(folder: &Path, wanted: Wanted) -> io::Result<File> {
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(folder.join("lock"))?;
    let patience = match wanted {
        Wanted::Nothing => ONE_BEFORE,
        Wanted::All | Wanted::Since(_) => ONE_BEFORE_ASKED,
    };
    let began = Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) if began.elapsed() < patience => {
                std::thread::sleep(STEP);
            }
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::other("another look is still at work"));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// The folder's name, as far as an answer has room for it.
fn shown(folder: &Path) -> FilePath {
    let fits = |path: &&Path| path.as_os_str().len() <= PLACE_BYTES;
    let path = folder.ancestors().find(fits).map_or(OsStr::new("/"), Path::as_os_str);
    FilePath::new(path.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_is_said_and_understood() {
        for wanted in [
            Wanted::Nothing,
            Wanted::All,
            Wanted::Since(UtcNanos::from_unix_nanos(-7)),
            Wanted::of(Some(UtcNanos::from_unix_nanos(i64::MAX))),
            Wanted::of(None),
        ] {
            assert_eq!(wanted.to_string().parse(), Ok(wanted));
        }
        assert!("yesterday".parse::<Wanted>().is_err());
    }

    #[test]
    fn a_look_waits_for_one_before_that_is_about_to_end() {
        let (folder, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let before = alone(folder.path(), Wanted::All).unwrap();
        let next = std::thread::scope(|scope| {
            let next = scope.spawn(|| alone(folder.path(), Wanted::All).map(drop));
            // However late this one comes to it, or that one.
            std::thread::sleep(10 * STEP);
            drop(before);
            next.join().unwrap()
        });
        next.unwrap();
        let clocks = Clocks::of_this_boot().unwrap();
        let taken = take(folder.path(), root.path(), Wanted::Nothing, || clocks.now());
        assert!(taken.unwrap().is_none(), "it is let go again");
    }
}
