//! What runs for an account: its own processes, and those that became another user after it signed in; and
//! their end.
//!
//! The kernel remembers who signed in (the audit login number) through `su` and `sudo`, so a root shell
//! that grew out of the account's session is *listed* too. *Ended* is less: what runs as the account, and what
//! descends from that. A service that somebody started by `sudo` carries their login number for ever, and is
//! not their session.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use cordon_model::finding::ProcessRef;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::super::hold::{Handle, Spared};
use super::super::lineage::Seen;
use super::super::spared::{Protected, SparedProcesses};
use crate::sensor::proc_files;

/// Processes that are listed: a desktop session has some two hundred. What is more is still counted as
/// "or more".
pub(super) const LISTED: usize = 256;
/// Spared processes that are named, at some 100 bytes each.
const SPARED: usize = 16;
/// How long they are looked for, and waited for, at one time. What is killed ends when it next leaves the
/// kernel; only what waits for a disk takes longer, and is tried again.
const GONE_WITHIN: Duration = Duration::from_secs(2);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(2);
/// Looks one after the other that must find nobody. One could be unlucky: what forks and ends between two
/// entries of the same look is in neither.
const CALM_LOOKS: usize = 3;

/// What became of an account's sessions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    /// How many processes were ended.
    pub count: u32,
    /// Those that were left alone, with all below them.
    pub spared: Vec<Spared>,
    /// None was left but those. From then on nobody is looked for any more: nobody signs in.
    pub is_whole: bool,
}

/// The processes of user `uid`; of user 0 none, for those are the system's.
pub(super) fn of(uid: u32) -> Vec<ProcessRef> {
    if uid == 0 {
        return Vec::new();
    }
    let is_its = |pid: u32| proc_files::login_uid(pid) == Some(uid) || runs_as(pid, uid);
    let describe = |pid: u32| {
        let started = proc_files::stat(pid)?.started;
        let image = proc_files::image(pid).map(|(path, _)| path).unwrap_or_default();
        Some(ProcessRef { pid, started, image })
    };
    let own = std::process::id();
    let mut found: Vec<ProcessRef> = proc_files::pids()
        .into_iter()
        .filter(|pid| *pid > 1 && *pid != own && is_its(*pid))
        .filter_map(describe)
        .take(LISTED)
        .collect();
    found.sort_by_key(|process| process.pid);
    found
}

/// Ends what runs as user `uid` and descends from it, but for what no order may touch and what is below that.
/// The user must not be 0. What can't be ended now is tried again by the next call.
pub(super) fn end(uid: u32, agent_user: u32, protected: &Protected, ended: &mut Ended) {
    let spared = SparedProcesses::now(protected, Some(agent_user));
    let mut killed = HashSet::new();
    let (began, mut calm) = (Instant::now(), 0);
    while calm < CALM_LOOKS && began.elapsed() < GONE_WITHIN {
        let (theirs, left_alone) = divide(&Seen::all(), &spared, |pid| runs_as(pid, uid));
        ended.spared = left_alone;
        calm = if theirs.is_empty() { calm + 1 } else { 0 };
        for seen in theirs {
            // Through a handle, so that its number can't come to mean another.
            let signalled = Handle::open(seen.id).and_then(|handle| match handle {
                Some(handle) => handle.signal(Signal::KILL).map(|()| true),
                None => Ok(false),
            });
            match signalled {
                Ok(true) => drop(killed.insert(seen.id)),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%error, pid = seen.id.pid, "a process could not be ended");
                }
            }
        }
        if calm < CALM_LOOKS {
            std::thread::sleep(PAUSE);
        }
    }
    ended.count = ended.count.saturating_add(u32::try_from(killed.len()).unwrap_or(u32::MAX));
    ended.is_whole = calm >= CALM_LOOKS;
}

fn runs_as(pid: u32, uid: u32) -> bool {
    proc_files::credentials(pid).is_some_and(|user| user.uid == uid || user.effective_uid == uid)
}

/// Who is to be ended, and who of them may not be.
fn divide(
    all: &[Seen],
    spared: &SparedProcesses<'_>,
    runs_as_it: impl Fn(u32) -> bool,
) -> (Vec<Seen>, Vec<Spared>) {
    let of_pid: HashMap<u32, &Seen> = all.iter().map(|seen| (seen.id.pid, seen)).collect();
    let running = all.iter().filter(|seen| seen.id.pid > 1 && !seen.is_over());
    let runs: HashSet<u32> =
        running.clone().map(|seen| seen.id.pid).filter(|pid| runs_as_it(*pid)).collect();
    let (mut theirs, mut left_alone) = (Vec::new(), Vec::new());
    for seen in running {
        let mut line = Vec::new();
        let mut next = Some(seen);
        // A table read while it changes could go in a circle.
        while let Some(above) = next.filter(|above| above.id.pid > 1 && line.len() < all.len()) {
            line.push(above);
            next = of_pid.get(&above.parent).copied();
        }
        // What stands above the account's own first process is none of its, and shields nobody below.
        let own = line.iter().rposition(|above| runs.contains(&above.id.pid));
        let Some(own) = own else { continue };
        if line[..=own].iter().skip(1).any(|above| spared.why(above).is_some()) {
            continue;
        }
        match spared.why(seen) {
            None => theirs.push(*seen),
            Some(why) if left_alone.len() < SPARED => {
                left_alone.push(Spared { process: seen.id, why });
            }
            Some(_) => {}
        }
    }
    (theirs, left_alone)
}
