//! Showing that a tree stands still: by what the kernel says of it, and by its use of the processor.

use std::collections::HashSet;
use std::io;
use std::time::Duration;

use cordon_model::measure::{Probe, Proof};
use nix::time::ClockId;

use super::super::lineage::{Lineage, Seen};
use super::super::pens::Pens;
use super::super::spared::{Protected, SparedProcesses};
use super::super::{ActError, failed, proof};
use super::round::divide;
use super::{Held, Holder, is_there};
use crate::sensor::ProcessId;

/// Between the two readings of used processor time.
const WATCHED: Duration = Duration::from_millis(20);

impl Holder {
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
