//! One look's worth of holding: whom a look found goes into a pen, or is stopped by a signal.

use std::collections::HashMap;

use nix::errno::Errno;
use rustix::process::Signal;

use super::super::lineage::{Lineage, Seen};
use super::super::pens::{Hierarchy, Pens};
use super::super::spared::SparedProcesses;
use super::super::{ActError, failed};
use super::{GROUPS, Group, Handle, Held, Holder, SPARED, STOPPED, Spared};
use crate::sensor::ProcessId;

/// One look's worth of holding.
pub(super) struct Round<'a> {
    pub(super) holder: &'a Holder,
    pub(super) spared: &'a SparedProcesses<'a>,
    pub(super) pens: Option<&'a Pens<'a>>,
    /// Pens that are surely there.
    pub(super) made: usize,
}

/// What came of it.
pub(super) struct Outcome {
    /// Something was not held before.
    pub(super) is_new: bool,
    /// Something was told to stop, and did not yet.
    pub(super) is_pending: bool,
}

impl Round<'_> {
    /// What somebody else stopped stays his: it is left as it is, and not continued later.
    pub(super) fn go(
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
pub(super) fn divide(
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
