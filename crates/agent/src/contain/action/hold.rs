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

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cordon_model::action::ActionKind;
use cordon_model::ids::MeasureId;
use cordon_model::measure::{Probe, Proof};
use cordon_model::time::BootId;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::time::ClockId;
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use super::journal::Journal;
use super::lineage::{Lineage, Seen};
use super::pens::{Hierarchy, Pens};
use super::spared::{Protected, SparedProcesses};
use super::{ActError, Undone, failed, path_bytes, proof};
use crate::sensor::ProcessId;

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
/// Between the two readings of used processor time.
const WATCHED: Duration = Duration::from_millis(20);

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

    /// Lets the tree go: each process is back in the control group that it came from, or continued.
    ///
    /// # Errors
    /// When the system fails; do it again.
    pub fn release(&self, held: &Held) -> Result<Undone, ActError> {
        let mut undone = Undone::default();
        if !self.is_of_this_boot(held) {
            return Ok(undone);
        }
        if let Some(hierarchy) = &self.hierarchy {
            let pens = Pens::of(hierarchy, held.measure);
            empty(hierarchy, &pens, held, &mut undone)?;
            pens.remove().map_err(failed("removing Cordon's control groups"))?;
        }
        for process in &held.stopped {
            let opened = Handle::open(*process).map_err(failed("opening a stopped process"))?;
            // Also one that does not stand still: it may have been told to stop, and not have come to it yet.
            // It would then stop for good, while a SIGCONT too many changes nothing.
            if let Some(handle) = opened {
                handle.signal(Signal::CONT).map_err(failed("continuing a stopped process"))?;
            }
        }
        Ok(undone)
    }

    /// Reads back whether the tree stands still, and watches its use of the processor.
    ///
    /// # Errors
    /// When the system can't be asked.
    pub fn prove(&self, held: &Held, protected: &Protected) -> Result<Proof, ActError> {
        if !self.is_of_this_boot(held) {
            let gone = "the machine was restarted since: nothing of the tree is left".to_owned();
            return Ok(proof(true, Vec::new(), vec![gone]));
        }
        let pens = self.hierarchy.as_ref().map(|hierarchy| Pens::of(hierarchy, held.measure));
        let pens = pens.filter(Pens::exist);
        let reading = || failed("reading Cordon's control groups");
        let mut unproven = held.doubts.clone();
        let mut moves: Vec<String> = Vec::new();
        if held.is_restless() {
            // What was born last may have left the tree before it was seen.
            moves.push("not all of a tree that somebody keeps moving is known".into());
        }
        let mut inside: HashSet<u32> = HashSet::new();
        if let Some(pens) = &pens {
            inside = pens.inside().map_err(reading())?.into_iter().map(|(_, pid)| pid).collect();
            if !inside.is_empty() && !pens.stand_still().map_err(reading())? {
                moves.push("the kernel says that not all of it stands still yet".into());
            }
        }
        let spared = SparedProcesses::now(protected, self.agent_user);
        let known = inside.iter().filter_map(|pid| Some(Seen::now(*pid)?.id));
        let mut lineage = Lineage::of(&held.roots, known.chain(held.by_signal()));
        let (members, _) = lineage.look();
        for seen in divide(&members, &spared, &mut lineage).0 {
            if !inside.contains(&seen.id.pid) && !seen.is_stopped() {
                moves.push(format!("process {} of the tree is not held", seen.id.pid));
            }
        }
        let stopped: Vec<ProcessId> =
            held.by_signal().filter(|process| is_there(*process)).collect();
        if inside.is_empty() && stopped.is_empty() {
            unproven.push("nothing of the tree is left to stand still".into());
        }
        let used = |pens: Option<&Pens<'_>>| -> io::Result<u64> {
            let inside =
                pens.map_or(Ok(0), |pens| pens.used_micros().map(|micros| micros * 1000))?;
            Ok(inside + stopped.iter().map(|process| used_nanos(process.pid)).sum::<u64>())
        };
        let before = used(pens.as_ref()).map_err(reading())?;
        std::thread::sleep(WATCHED);
        let after = used(pens.as_ref()).map_err(reading())?;
        let probe = Probe {
            tried: format!("processor time of the tree over {} ms", WATCHED.as_millis()),
            should_pass: false,
            did_pass: Some(after > before),
        };
        let is_read_back = moves.is_empty();
        unproven.extend(moves);
        Ok(proof(is_read_back, vec![probe], unproven))
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

/// One look's worth of holding.
struct Round<'a> {
    holder: &'a Holder,
    spared: &'a SparedProcesses<'a>,
    pens: Option<&'a Pens<'a>>,
    /// Pens that are surely there.
    made: usize,
}

/// What came of it.
struct Outcome {
    /// Something was not held before.
    is_new: bool,
    /// Something was told to stop, and did not yet.
    is_pending: bool,
}

impl Round<'_> {
    /// What somebody else stopped stays his: it is left as it is, and not continued later.
    fn go(
        &mut self,
        held: &mut Held,
        members: &[Seen],
        lineage: &mut Lineage,
        save: &mut dyn FnMut(&Held) -> Result<(), ActError>,
    ) -> Result<Outcome, ActError> {
        let (touchable, spared) = divide(members, self.spared, lineage);
        for spared in spared {
            let is_known = held.spared.iter().any(|known| known.process.is(spared.process));
            if !is_known && held.spared.len() < SPARED {
                held.spared.push(spared);
            }
        }
        let mut outcome = Outcome { is_new: false, is_pending: false };
        let ours: HashMap<u32, ProcessId> = held.stopped.iter().map(|p| (p.pid, *p)).collect();
        let is_ours = |seen: &Seen| ours.get(&seen.id.pid).is_some_and(|p| p.is(seen.id));
        let mut by_signal = Vec::new();
        for seen in touchable {
            if is_ours(&seen) {
                by_signal.push(seen);
            } else if let Some(pens) = self.pens {
                match self.pen(pens, held, &seen, save)? {
                    Penned::Before => {}
                    Penned::Now => outcome.is_new = true,
                    Penned::Not => by_signal.push(seen),
                }
            } else {
                by_signal.push(seen);
            }
        }
        if let Some(pens) = self.pens {
            outcome.is_pending |= !pens.stand_still().unwrap_or(true);
        }
        let (still, moving): (Vec<Seen>, Vec<Seen>) =
            by_signal.into_iter().partition(|seen| seen.is_stopped());
        for seen in still.iter().filter(|seen| !is_ours(seen)) {
            if !held.stood_still.iter().any(|process| process.is(seen.id)) {
                held.stood_still.push(seen.id);
            }
        }
        let fresh: Vec<ProcessId> =
            moving.iter().filter(|seen| !is_ours(seen)).map(|seen| seen.id).collect();
        if !fresh.is_empty() {
            outcome.is_new = true;
            held.stopped.extend(fresh);
            if held.stopped.len() + held.stood_still.len() > STOPPED {
                return Err(ActError::unfit(format!(
                    "more than {STOPPED} processes that can only be stopped one by one"
                )));
            }
            save(held)?;
        }
        for seen in moving {
            outcome.is_pending = true;
            if let Some(handle) = Handle::open(seen.id).map_err(failed("opening a process"))? {
                handle.signal(Signal::STOP).map_err(failed("stopping a process"))?;
            }
        }
        Ok(outcome)
    }

    fn pen(
        &mut self,
        pens: &Pens<'_>,
        held: &mut Held,
        seen: &Seen,
        save: &mut dyn FnMut(&Held) -> Result<(), ActError>,
    ) -> Result<Penned, ActError> {
        let Some(hierarchy) = &self.holder.hierarchy else { return Ok(Penned::Not) };
        let pid = seen.id.pid;
        let Some(now) = hierarchy.group_of(pid) else { return Ok(Penned::Not) };
        let came_from = match Hierarchy::pen(&now) {
            Some((measure, _)) if measure == held.measure => return Ok(Penned::Before),
            Some((measure, pen)) => match self.holder.group_behind(measure, pen) {
                Some(group) => group,
                None => return Ok(Penned::Not),
            },
            None => now,
        };
        if !hierarchy.can_give_back(&came_from) {
            return Ok(Penned::Not);
        }
        let number = match held.groups.iter().position(|Group(path)| *path == came_from) {
            Some(number) => number,
            None if held.groups.len() >= GROUPS => return Ok(Penned::Not),
            None => {
                held.groups.push(Group(came_from));
                save(held)?;
                held.groups.len() - 1
            }
        };
        while self.made <= number {
            pens.make(self.made).map_err(failed("making a control group"))?;
            self.made += 1;
        }
        let Some(handle) = Handle::open(seen.id).map_err(failed("opening a process"))? else {
            return Ok(Penned::Before);
        };
        match pens.put(pid, number) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(Errno::ESRCH as i32) => {
                return Ok(Penned::Before);
            }
            // A real-time process, or a kernel with rules of its own.
            Err(_) => return Ok(Penned::Not),
        }
        if handle.is_over() {
            put_stranger_back(hierarchy, pens, seen.id);
        }
        Ok(Penned::Now)
    }
}

enum Penned {
    /// It was, or it is gone.
    Before,
    Now,
    /// It can't be.
    Not,
}

/// A process ended while it was moved by its number. If the number means another by now, that one was
/// moved; it goes where its parent is, for there it was born.
fn put_stranger_back(hierarchy: &Hierarchy, pens: &Pens<'_>, meant: ProcessId) {
    let Some(stranger) = Seen::now(meant.pid).filter(|seen| !seen.id.is(meant)) else { return };
    if pens.hold(meant.pid)
        && !pens.hold(stranger.parent)
        && let Some(group) = hierarchy.group_of(stranger.parent)
        && let Err(error) = hierarchy.put(meant.pid, &group)
    {
        tracing::error!(%error, pid = meant.pid, "a process that does not belong to the tree is held");
    }
}

/// The members that may be touched, and those that may not; what is below one that may not is left
/// alone with it.
fn divide(
    members: &[Seen],
    spared: &SparedProcesses<'_>,
    lineage: &mut Lineage,
) -> (Vec<Seen>, Vec<Spared>) {
    let (mut touchable, mut left_alone) = (Vec::new(), Vec::new());
    let mut below: HashMap<u32, ProcessId> = HashMap::new();
    for seen in members.iter().filter(|seen| !seen.is_over()) {
        if below.contains_key(&seen.parent) {
            below.insert(seen.id.pid, seen.id);
        } else if let Some(why) = spared.why(seen) {
            below.insert(seen.id.pid, seen.id);
            left_alone.push(Spared { process: seen.id, why });
        } else {
            touchable.push(*seen);
        }
    }
    lineage.leave_alone(below.into_values());
    (touchable, left_alone)
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

/// Moves all out of the pens, back to where they came from.
fn empty(
    hierarchy: &Hierarchy,
    pens: &Pens<'_>,
    held: &Held,
    undone: &mut Undone,
) -> Result<(), ActError> {
    // What goes on may fork, but not into a pen: each look finds fewer.
    loop {
        let inside = pens.inside().map_err(failed("reading Cordon's control groups"))?;
        if inside.is_empty() {
            return Ok(());
        }
        for (number, pid) in inside {
            let group = held.groups.get(number).map_or(Path::new("/"), |Group(path)| path);
            give_back(hierarchy, pid, group, undone)?;
        }
    }
}

fn give_back(
    hierarchy: &Hierarchy,
    pid: u32,
    group: &Path,
    undone: &mut Undone,
) -> Result<(), ActError> {
    let differs = |text: String, undone: &mut Undone| {
        if !undone.differs.contains(&text) {
            undone.differs.push(text);
        }
    };
    if !hierarchy.has(group) && hierarchy.make_again(group).is_ok() {
        let text =
            format!("control group {} had been removed, and was made again", group.display());
        differs(text, undone);
    }
    let is_gone = |error: &io::Error| error.raw_os_error() == Some(Errno::ESRCH as i32);
    match hierarchy.put(pid, group) {
        Ok(()) => return Ok(()),
        Err(error) if is_gone(&error) => return Ok(()),
        Err(error) => {
            let group = group.display();
            let text =
                format!("control group {group} takes no process any more ({error}): in the root");
            differs(text, undone);
        }
    }
    // Never left standing: the root takes every process.
    match hierarchy.put(pid, Path::new("/")) {
        Err(error) if !is_gone(&error) => Err(failed("moving a process out of its pen")(error)),
        _ => Ok(()),
    }
}

fn is_there(process: ProcessId) -> bool {
    Seen::now(process.pid).is_some_and(|seen| seen.id.is(process) && !seen.is_over())
}

/// Processor time of all threads that `pid` ever had; 0 if it is gone.
fn used_nanos(pid: u32) -> u64 {
    let clock = ClockId::pid_cpu_clock_id(nix::unistd::Pid::from_raw(pid.cast_signed()));
    let time = clock.and_then(nix::time::clock_gettime);
    time.map_or(0, |time| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
        seconds.saturating_mul(1_000_000_000) + u64::try_from(time.tv_nsec()).unwrap_or(0)
    })
}
