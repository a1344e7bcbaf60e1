//! What runs for an account: its own processes, and those that became another user after it signed in; and
//! their end.
//!
//! The kernel remembers who signed in (the audit login number) through `su` and `sudo`, so a root shell
//! that grew out of the account's session is *listed* too. *Ended* is less: what runs as the account, and what
//! descends from that. A service that somebody started by `sudo` carries their login number for ever, and is
//! not their session. Nor is a container, whose user of the same number is this account only by that number.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
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
    /// Those that were left alone, with all below them; the first of them.
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

/// Ends what runs as user `uid` and descends from it; but nothing while a part of that may be touched by no
/// order, and no container. The user must not be 0. What can't be ended now is tried again by the next call.
pub(super) fn end(uid: u32, agent_user: u32, protected: &Protected, ended: &mut Ended) {
    let spared = SparedProcesses::now(protected, Some(agent_user));
    let homes = [namespaces(std::process::id()), namespaces(1)];
    let mut killed = HashSet::new();
    let (began, mut calm) = (Instant::now(), 0);
    while calm < CALM_LOOKS && began.elapsed() < GONE_WITHIN {
        let (theirs, left_alone) = divide(
            &Seen::all(),
            |pid| runs_as(pid, uid),
            // What was killed gives its namespaces up before it is gone.
            |seen| !killed.contains(&seen.id) && is_elsewhere(namespaces(seen.id.pid), homes),
            |seen| spared.why(seen),
        );
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
    // A browser's sandboxed part ends with its parent, and was not left alone then.
    ended.spared.retain(|one| {
        Seen::now(one.process.pid).is_some_and(|now| now.id == one.process && !now.is_over())
    });
    ended.count = ended.count.saturating_add(u32::try_from(killed.len()).unwrap_or(u32::MAX));
    ended.is_whole = calm >= CALM_LOOKS;
}

fn runs_as(pid: u32, uid: u32) -> bool {
    proc_files::credentials(pid).is_some_and(|user| user.uid == uid || user.effective_uid == uid)
}

/// The PID, mount and user namespace of a process, if they can be read.
fn namespaces(pid: u32) -> [Option<u64>; 3] {
    ["pid", "mnt", "user"].map(|kind| {
        fs::metadata(format!("/proc/{pid}/ns/{kind}")).ok().map(|namespace| namespace.ino())
    })
}

/// Whether one of `its` namespaces is none of the machine's own, or can't be told.
fn is_elsewhere(its: [Option<u64>; 3], homes: [[Option<u64>; 3]; 2]) -> bool {
    its.iter().enumerate().any(|(kind, namespace)| {
        namespace.is_none() || homes.iter().all(|home| home[kind] != *namespace)
    })
}

/// Who is to be ended, and who of them is left alone.
///
/// One that may not be touched spares all: a viewer dies with its shell, its desktop's compositor or its
/// user's service manager, and those need not stand above it.
fn divide(
    all: &[Seen],
    runs_as_it: impl Fn(u32) -> bool,
    is_elsewhere: impl Fn(&Seen) -> bool,
    why_spared: impl Fn(&Seen) -> Option<String>,
) -> (Vec<Seen>, Vec<Spared>) {
    let of_pid: HashMap<u32, &Seen> = all.iter().map(|seen| (seen.id.pid, seen)).collect();
    let running = all.iter().filter(|seen| seen.id.pid > 1 && !seen.is_over());
    let runs: HashSet<u32> =
        running.clone().map(|seen| seen.id.pid).filter(|pid| runs_as_it(*pid)).collect();
    let (mut theirs, mut needed, mut elsewhere) = (Vec::new(), Vec::new(), Vec::new());
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
        // A viewer in a sandbox hangs on the session that it descends from; a container on none.
        if !is_elsewhere(line[own])
            && let Some(why) = why_spared(seen)
        {
            needed.push(Spared { process: seen.id, why });
        } else if line[..=own].iter().skip(1).any(|above| is_elsewhere(above)) {
            // One above it is named.
        } else if is_elsewhere(seen) {
            let why = "it runs in namespaces of its own, as containers do";
            elsewhere.push(Spared { process: seen.id, why: why.into() });
        } else {
            theirs.push(*seen);
        }
    }
    if let Some(one) = needed.first() {
        let why = format!(
            "nothing of the account is ended, for process {} could end with it: {}",
            one.process.pid, one.why
        );
        let with_it = |seen: Seen| Spared { process: seen.id, why: why.clone() };
        needed.extend(std::mem::take(&mut theirs).into_iter().map(with_it));
    }
    needed.extend(elsewhere);
    needed.truncate(SPARED);
    (theirs, needed)
}
