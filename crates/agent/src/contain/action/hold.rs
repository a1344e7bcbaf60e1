//! Keeping a tree of processes still: what freezing and killing have in common.
//!
//! Where the kernel has control groups of version 2, each process is moved into a closed pen
//! ([`super::pens`]): it stops as it arrives, and so do its children. Where it has none, or a process
//! can't be moved, it is stopped by SIGSTOP. Either way the tree is looked at until a look finds nothing
//! new: a process that is not held yet may fork while we look.
//!
//! A process is named by its pid and its start; it is touched through a pidfd where the kernel takes
//! one. A control group takes only a number, so whether the number still meant the same process is asked
//! after the move, and a stranger is put back.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cordon_model::action::ActionKind;
use cordon_model::ids::MeasureId;
use cordon_model::time::BootId;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use super::journal::Journal;
use super::lineage::{Lineage, Seen};
use super::pens::{Hierarchy, Pens};
use super::spared::{Protected, SparedProcesses};
use super::{ActError, failed, path_bytes};
use crate::sensor::ProcessId;
use round::Round;

mod prove;
mod release;
mod round;

/// Roots of one tree: what an incident names is a process and what it is known to have left behind.
pub const ROOTS: usize = 16;
/// Groups that one tree's processes may come from; who comes from another is stopped by a signal. A
/// path of a group has at most 4 KiB, so 256 KiB of the journal's 8 MiB.
const GROUPS: usize = 64;
/// Processes stopped by a signal: 27 bytes each in the journal, 864 KiB.
const STOPPED: usize = 32 << 10;
/// Spared processes that are named one by one; 100 bytes each.
const SPARED: usize = 256;
/// How long a tree is looked at again, at most, once all that the first look found is held. A look takes
/// about a millisecond for 100 processes and a calm tree needs two; one that is not calm by then is kept
/// moving, by who continues what is stopped by signals, and the helper has one thread.
const CALM_WITHIN: Duration = Duration::from_secs(1);
/// What is said of such a tree.
pub(super) const RESTLESS: &str =
    "the tree went on changing for a second: somebody outside it starts it again";
/// Looks one after the other that must find nothing new, and all standing. One could be unlucky: what forks
/// and ends between two entries of the same look is in neither.
const CALM_LOOKS: usize = 2;
/// How long to wait, in all, for what was told to stop. It stops when it next leaves the kernel; only
/// what waits for a disk takes longer, and is told by the proof.
const SETTLE: Duration = Duration::from_millis(500);
/// Between two looks that wait.
const PAUSE: Duration = Duration::from_millis(1);

/// A tree that is held, or about to be: what was found, and all that is needed to let it go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// The measure.
    pub measure: MeasureId,
    /// The boot in which it was done. In another, nothing of it is left.
    pub boot: BootId,
    /// The tree's roots.
    pub roots: Vec<ProcessId>,
    /// The control groups that its processes came from, by the number of the pen.
    pub groups: Vec<Group>,
    /// The processes that were stopped by a signal.
    pub stopped: Vec<ProcessId>,
    /// Those that somebody else had stopped: they stay stopped when the tree goes on.
    pub stood_still: Vec<ProcessId>,
    /// Members of the tree that were left alone, with all below them.
    pub spared: Vec<Spared>,
    /// How many processes stood still in the end.
    pub processes: u32,
    /// What may have been missed.
    pub doubts: Vec<String>,
}

/// A control group's path below the root of the hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Group(#[serde(with = "path_bytes")] pub PathBuf);

/// A process that may not be touched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spared {
    /// Which.
    pub process: ProcessId,
    /// Why.
    pub why: String,
}

impl Held {
    fn new(measure: MeasureId, boot: BootId, roots: &[ProcessId]) -> Self {
        Self {
            measure,
            boot,
            roots: roots.to_vec(),
            groups: Vec::new(),
            stopped: Vec::new(),
            stood_still: Vec::new(),
            spared: Vec::new(),
            processes: 0,
            doubts: Vec::new(),
        }
    }

    /// All that are not in a pen.
    fn by_signal(&self) -> impl Iterator<Item = ProcessId> {
        self.stopped.iter().chain(&self.stood_still).copied()
    }

    /// Forgets who ended: another may have the number by now.
    fn forget_who_is_gone(&mut self) {
        self.stopped.retain(|process| Seen::is_still(*process));
        self.stood_still.retain(|process| Seen::is_still(*process));
    }

    /// Whether it went on changing when it was held last.
    pub(super) fn is_restless(&self) -> bool {
        self.doubts.iter().any(|doubt| doubt == RESTLESS)
    }

    /// A doubt that was said once is not said again when the measure is applied again.
    fn doubt(&mut self, doubt: String) {
        if !self.doubts.contains(&doubt) {
            self.doubts.push(doubt);
        }
    }
}

/// One process, held by the kernel's own handle so that its number can't come to mean another.
#[derive(Debug)]
pub(super) struct Handle(OwnedFd);

impl Handle {
    /// `None` if the process is gone, whatever has its number now.
    pub(super) fn open(process: ProcessId) -> io::Result<Option<Self>> {
        let Some(pid) = rustix::process::Pid::from_raw(process.pid.cast_signed()) else {
            return Ok(None);
        };
        let fd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // Asked after the handle was opened: if the number still means the process now, it did then.
        let is_it = Seen::is_still(process);
        Ok(is_it.then_some(Self(fd)))
    }

    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.0, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn is_over(&self) -> bool {
        use std::os::fd::AsFd as _;
        let mut waiting = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        poll(&mut waiting, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }
}

/// The means to hold trees of processes.
#[derive(Debug)]
pub struct Holder {
    journal: Journal,
    boot: BootId,
    hierarchy: Option<Hierarchy>,
    agent_user: Option<u32>,
}

impl Holder {
    /// With the control groups of this machine, if `may_use_groups`.
    #[must_use]
    pub fn new(journal: Journal, boot: BootId, may_use_groups: bool) -> Self {
        let hierarchy = may_use_groups.then(Hierarchy::find).flatten();
        Self { journal, boot, hierarchy, agent_user: None }
    }

    /// The same on a machine whose agent runs as `user`, whatever that is called.
    #[must_use]
    pub fn beside_agent(mut self, user: u32) -> Self {
        self.agent_user = Some(user);
        self
    }

    /// The journal of all measures.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// What is to be held for `measure`: what is known of it already, if it began in this boot.
    ///
    /// # Errors
    /// If no tree of that many roots is taken, or the measure began with others.
    pub fn begin(
        &self,
        measure: MeasureId,
        roots: &[ProcessId],
        known: Option<Held>,
    ) -> Result<Held, ActError> {
        if roots.is_empty() || roots.len() > ROOTS {
            let count = roots.len();
            return Err(ActError::unfit(format!("{count} roots, and 1 to {ROOTS} are taken")));
        }
        match known {
            Some(held) if held.boot == self.boot && held.roots == roots => Ok(held),
            Some(held) if held.boot == self.boot => Err(ActError::unfit(
                "this measure began with other processes: take it back, and give the order anew",
            )),
            _ => Ok(Held::new(measure, self.boot.clone(), roots)),
        }
    }

    /// Holds the tree. `save` writes what is about to be done to disk.
    ///
    /// # Errors
    /// When a root may not be touched or is gone, or the system fails. What was done until then is in
    /// what was saved: [`Holder::release`] it.
    pub fn hold(
        &self,
        held: &mut Held,
        protected: &Protected,
        save: &mut dyn FnMut(&Held) -> Result<(), ActError>,
    ) -> Result<(), ActError> {
        let spared = SparedProcesses::now(protected, self.agent_user);
        held.forget_who_is_gone();
        held.doubts.retain(|doubt| doubt != RESTLESS);
        check_roots(held, &spared)?;
        spared.doubts().for_each(|doubt| held.doubt(doubt));
        save(held)?;
        let pens = self.close_pens(held);
        let mut inside: Vec<ProcessId> = held.by_signal().collect();
        if let Some(pens) = &pens {
            let pids = pens.inside().map_err(failed("reading Cordon's control groups"))?;
            inside.extend(pids.iter().filter_map(|(_, pid)| Some(Seen::now(*pid)?.id)));
        }
        let mut lineage = Lineage::of(&held.roots, inside.iter().copied());
        let mut round = Round { holder: self, spared: &spared, pens: pens.as_ref(), made: 0 };
        let (mut calm, mut settled, mut waited) = (0, 0, Instant::now());
        let mut until = None;
        loop {
            let (members, has_forked) = lineage.look();
            let mut outcome = round.go(held, &members, &mut lineage, save)?;
            outcome.is_new |= has_forked;
            let until = *until.get_or_insert_with(|| Instant::now() + CALM_WITHIN);
            while Instant::now() < until
                && let born = lineage.just_born()
                && !born.is_empty()
            {
                outcome = round.go(held, &born, &mut lineage, save)?;
                outcome.is_new = true;
            }
            calm = if outcome.is_new { 0 } else { calm + 1 };
            // What does not stand yet may be about to fork, and may stand by the time that its entry of the
            // same look is read: what it left behind is then in none of the entries before.
            settled = if outcome.is_new || outcome.is_pending { 0 } else { settled + 1 };
            if outcome.is_new {
                waited = Instant::now();
            }
            let is_patient = outcome.is_pending && waited.elapsed() < SETTLE;
            let is_over = outcome.is_pending && calm >= CALM_LOOKS && !is_patient;
            if settled >= CALM_LOOKS || is_over {
                break;
            }
            if Instant::now() >= until {
                held.doubt(RESTLESS.into());
                break;
            }
            if calm > 0 && is_patient {
                std::thread::sleep(PAUSE);
            }
        }
        if let Some(doubt) = lineage.doubt() {
            held.doubt(doubt);
        }
        held.processes = self.count(held, pens.as_ref())?;
        if held.processes == 0 {
            return Err(ActError::not_there("the process and all that came from it are gone"));
        }
        save(held)
    }

    /// Whether the tree may still be held.
    ///
    /// # Errors
    /// When a root may not be touched, or nothing of the tree is left.
    pub(super) fn check(&self, held: &Held, protected: &Protected) -> Result<(), ActError> {
        check_roots(held, &SparedProcesses::now(protected, self.agent_user))
    }

    /// `None` where processes are stopped by signals.
    fn close_pens(&self, held: &mut Held) -> Option<Pens<'_>> {
        let pens = Pens::of(self.hierarchy.as_ref()?, held.measure);
        match pens.close() {
            Ok(()) => Some(pens),
            Err(error) => {
                let _ = pens.remove();
                held.doubt(format!(
                    "control groups can't be used here ({error}): stopped by signals"
                ));
                None
            }
        }
    }

    fn count(&self, held: &Held, pens: Option<&Pens<'_>>) -> Result<u32, ActError> {
        let inside = match pens {
            Some(pens) => pens.inside().map_err(failed("reading Cordon's control groups"))?.len(),
            None => 0,
        };
        let stopped = held.by_signal().filter(|process| is_there(*process)).count();
        Ok(u32::try_from(inside + stopped).unwrap_or(u32::MAX))
    }
    /// Kills what is held, all at once where the kernel can.
    ///
    /// # Errors
    /// When the system fails; do it again.
    pub(super) fn kill(&self, held: &Held) -> Result<(), ActError> {
        if !self.is_of_this_boot(held) {
            return Ok(());
        }
        let killing = || failed("killing the tree");
        if let Some(hierarchy) = &self.hierarchy {
            let pens = Pens::of(hierarchy, held.measure);
            // Before Linux 5.14 one by one: they stand still, so none is born meanwhile.
            if pens.exist() && pens.kill().is_err() {
                for (_, pid) in pens.inside().map_err(killing())? {
                    let Some(seen) = Seen::now(pid) else { continue };
                    if let Some(handle) = Handle::open(seen.id).map_err(killing())?
                        && pens.hold(pid)
                    {
                        handle.signal(Signal::KILL).map_err(killing())?;
                    }
                }
            }
        }
        for process in held.by_signal() {
            if let Some(handle) = Handle::open(process).map_err(killing())? {
                handle.signal(Signal::KILL).map_err(killing())?;
            }
        }
        Ok(())
    }

    /// Whether what was noted in `held` can still be there: after a restart other processes have the
    /// same numbers, and may have the same starts.
    pub(super) fn is_of_this_boot(&self, held: &Held) -> bool {
        held.boot == self.boot
    }

    /// The processes that are held now.
    pub(super) fn held_now(&self, held: &Held) -> Result<Vec<ProcessId>, ActError> {
        if !self.is_of_this_boot(held) {
            return Ok(Vec::new());
        }
        let mut found: Vec<ProcessId> =
            held.by_signal().filter(|process| is_there(*process)).collect();
        if let Some(hierarchy) = &self.hierarchy {
            let inside = Pens::of(hierarchy, held.measure).inside();
            let inside = inside.map_err(failed("reading Cordon's control groups"))?;
            found.extend(inside.iter().filter_map(|(_, pid)| Some(Seen::now(*pid)?.id)));
        }
        Ok(found)
    }

    /// Where a process in another measure's pen came from.
    fn group_behind(&self, measure: MeasureId, pen: usize) -> Option<PathBuf> {
        let journal = &self.journal;
        let held = match journal.read::<Held>(ActionKind::Freeze, measure).ok()? {
            Some(held) => held,
            None => journal.read::<super::kill::Killed>(ActionKind::Kill, measure).ok()??.held,
        };
        held.groups.get(pen).map(|Group(path)| path.clone())
    }
}

fn check_roots(held: &Held, spared: &SparedProcesses<'_>) -> Result<(), ActError> {
    let mut is_any_there = !held.groups.is_empty() || held.by_signal().next().is_some();
    for root in &held.roots {
        let Some(seen) = Seen::now(root.pid).filter(|seen| seen.id.is(*root)) else { continue };
        is_any_there |= !seen.is_over();
        if let Some(why) = spared.why(&seen) {
            return Err(ActError::refused(format!("process {}: {why}", root.pid)));
        }
    }
    if is_any_there {
        Ok(())
    } else {
        Err(ActError::not_there("the process is gone, or its number is another's by now"))
    }
}

fn is_there(process: ProcessId) -> bool {
    Seen::now(process.pid).is_some_and(|seen| seen.id.is(process) && !seen.is_over())
}
