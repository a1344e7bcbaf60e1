//! What runs, by its content: where no filesystem is watched, a denied content is found there or nowhere.
//!
//! The one idea: a file is hashed once, and again only when anything of it was changed. A look goes through all
//! that runs and hashes so much of what is new, no more, for the helper's one thread has other things to do; the
//! next look begins where this one stopped. So whoever starts thousands of files delays that one is found, and
//! keeps nobody busy.
//!
//! A file is looked at by its path, as everywhere here ([`Place`]): one on a filesystem that another machine or
//! program answers for is not asked anything.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cordon_model::action::Sha256Digest;
use cordon_model::time::UtcNanos;

use super::super::mounts::{Mount, mounts};
use super::super::place::{Found, Place};
use super::verdict::{Content, FileState, Memory};
use super::{digest_of_file, exe};
use crate::sensor::proc_files;

/// What one look hashes: at 400 MB/s, 40 ms of the helper's thread; with the last file, which may be as large as
/// any that is hashed, a fifth of a second.
const LOOK_BYTES: u64 = 16 << 20;
/// What a file counts as at least: to open it takes time too.
const LEAST_BYTES: u64 = 64 << 10;
/// How long a look is as good as a new one: the 128 denials of a machine are looked at one after the other.
const GOOD_FOR: Duration = Duration::from_millis(500);
/// Programs that one look tells, of different paths: a path has at most 4 KiB, so 16 MiB, and a few hundred KiB
/// on any machine that nobody floods.
const TOLD: usize = 4096;

/// Files whose content is known, and what ran at the last look.
#[derive(Debug, Default)]
pub struct Running {
    memory: Memory,
    told: Vec<(PathBuf, Sha256Digest)>,
    looked: Option<Instant>,
    /// The process with which the next look begins to hash.
    first: u32,
}

impl Running {
    /// Where programs run from that have the content, as far as it is known.
    pub fn with(&mut self, digest: &Sha256Digest) -> Vec<PathBuf> {
        if self.looked.is_none_or(|at| at.elapsed() >= GOOD_FOR) {
            self.look();
            self.looked = Some(Instant::now());
        }
        let of_it = self.told.iter().filter(|(_, content)| content == digest);
        of_it.map(|(path, _)| path.clone()).collect()
    }

    /// The content of `file`, hashed if it is not known; `None` if it can't be read, is too large, or more than
    /// `left` was read by now: then that is 0.
    pub fn content(&mut self, file: &Found, left: &mut u64) -> Option<Sha256Digest> {
        let state = FileState::of(&file.metadata);
        let content = match self.memory.recall(&state) {
            Some(content) => content,
            None => {
                let digest = file.open().ok().and_then(|file| digest_of_file(file, left));
                if *left == 0 {
                    return None;
                }
                let content = digest.map_or(Content::Unknown, Content::Is);
                let seconds = UtcNanos::now().unix_nanos() / 1_000_000_000;
                self.memory.note(state, content, seconds);
                content
            }
        };
        match content {
            Content::Is(digest) => Some(digest),
            Content::Unknown => None,
        }
    }

    fn look(&mut self) {
        self.told.clear();
        let Ok(mounts) = mounts() else { return };
        let (mut pids, first) = (proc_files::pids(), self.first);
        pids.sort_unstable_by_key(|pid| (*pid < first, *pid));
        let (mut left, mut seen) = (LOOK_BYTES, HashSet::new());
        let mut stopped_at = None;
        for pid in pids {
            // What the kernel itself runs has none.
            let Ok(path) = std::fs::read_link(exe(pid)) else { continue };
            if seen.len() >= TOLD || !seen.insert(path.clone()) {
                continue;
            }
            match self.look_at(&mounts, &path, &mut left) {
                Some(Content::Is(digest)) => self.told.push((path, digest)),
                Some(Content::Unknown) => {}
                None => stopped_at = stopped_at.or(Some(pid)),
            }
        }
        self.first = stopped_at.unwrap_or(0);
    }

    /// The content of what is at `path`; `None`: this look has hashed enough.
    fn look_at(&mut self, mounts: &[Mount], path: &Path, left: &mut u64) -> Option<Content> {
        let place = Place::find_among(mounts, path);
        let Ok(file) = place.and_then(|place| place.file()) else { return Some(Content::Unknown) };
        let state = FileState::of(&file.metadata);
        if let Some(content) = self.memory.recall(&state) {
            return Some(content);
        }
        if *left == 0 {
            return None;
        }
        *left = left.saturating_sub(state.size.max(LEAST_BYTES));
        // The one that is begun is hashed whole.
        let digest = self.content(&file, &mut { u64::MAX });
        Some(digest.map_or(Content::Unknown, Content::Is))
    }
}
