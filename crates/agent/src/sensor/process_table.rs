//! Who is who: every process that the sensor knows, with what it runs and who forked it.
//!
//! The one idea: ancestry is remembered from forks, not asked of the kernel, because a parent that
//! forks and ends at once (the usual way to get rid of one's past) leaves the kernel saying `init`.
//! So a process that ended is kept for [`GRACE`], and nothing is looked up in `/proc` per event.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use cordon_model::time::BootNanos;

use super::event::{Parent, ProcessId};

/// How many processes are remembered: the classic highest number of pids. Beyond it the one known
/// longest is forgotten. With [`COMMAND_LINE_BYTES_KEPT`] the worst is 32,768 × (2 KiB + 4 KiB of path
/// + 0.2 KiB) = 203 MiB; a usual one is 32,768 × 0.4 KiB = 13 MiB.
pub const PROCESSES: usize = 32_768;

/// How much of a command line is remembered for the children of a process.
pub const COMMAND_LINE_BYTES_KEPT: usize = 2 << 10;

/// How long a process is remembered after its end. A child begins its program within milliseconds of
/// its fork, on a loaded machine seconds.
pub const GRACE: Duration = Duration::from_secs(30);

/// The longest line of ancestors that is followed.
pub const ANCESTORS: usize = 32;

/// The processes that the sensor knows.
#[derive(Debug, Default)]
pub struct ProcessTable {
    processes: HashMap<u32, Known>,
    /// In the order in which they became known; entries may be stale (compared by start).
    known: VecDeque<ProcessId>,
    /// In the order in which they ended.
    ended: VecDeque<(BootNanos, ProcessId)>,
}

#[derive(Debug, Clone)]
struct Known {
    started: BootNanos,
    image: Option<Arc<str>>,
    command_line: Option<Arc<str>>,
    parent: Option<ProcessId>,
}

impl ProcessTable {
    /// The line of ancestors of `pid`, its parent first, as far as it is known.
    #[must_use]
    pub fn ancestry(&self, pid: u32) -> Vec<Parent> {
        let mut line = Vec::new();
        let mut next = self.processes.get(&pid).and_then(|process| process.parent);
        while let Some(process) = next {
            if line.len() == ANCESTORS || process.pid == pid {
                break;
            }
            line.push(self.describe(process));
            next = self.find(process).and_then(|known| known.parent);
        }
        line
    }

    /// What is known of `pid` now.
    #[must_use]
    pub fn process(&self, pid: u32) -> Option<Parent> {
        let started = self.processes.get(&pid)?.started;
        Some(self.describe(ProcessId { pid, started }))
    }

    /// How many processes are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.processes.len()
    }

    /// Whether no process is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.processes.is_empty()
    }

    /// `parent` forked `child`, which runs the same program until it begins another.
    pub(crate) fn forked(&mut self, parent: ProcessId, child: ProcessId) {
        let known = self.find(parent);
        let entry = Known {
            started: child.started,
            image: known.and_then(|known| known.image.clone()),
            command_line: known.and_then(|known| known.command_line.clone()),
            parent: Some(parent),
        };
        self.insert(child, entry);
    }

    /// `process` began a program. `told` is the parent that the kernel names now. Returns the parent to
    /// show: who forked it, if that was seen, else `told`.
    pub(crate) fn started(
        &mut self,
        process: ProcessId,
        image: Option<Arc<str>>,
        command_line: &Arc<str>,
        told: Option<ProcessId>,
    ) -> Option<Parent> {
        let parent = self.find(process).and_then(|known| known.parent).or(told);
        let command_line = Some(shortened(command_line));
        self.insert(process, Known { started: process.started, image, command_line, parent });
        parent.map(|parent| self.describe(parent))
    }

    /// `process` ended; it is forgotten after the grace.
    pub(crate) fn ended(&mut self, process: ProcessId, now: BootNanos) {
        if self.find(process).is_some() {
            self.ended.push_back((now, process));
        }
        while let Some((at, gone)) = self.ended.front().copied() {
            if now.since(at) < GRACE && self.ended.len() <= PROCESSES {
                break;
            }
            self.ended.pop_front();
            self.forget(gone);
        }
    }

    /// `process` with what is known of it.
    pub(super) fn describe(&self, process: ProcessId) -> Parent {
        let known = self.find(process);
        Parent {
            process,
            image: known.and_then(|known| known.image.clone()),
            command_line: known
                .and_then(|known| known.command_line.clone())
                .filter(|text| !text.is_empty()),
        }
    }

    /// Whether nobody has looked at what `process` runs: it is unknown, or only its fork was seen, from
    /// a parent that was unknown.
    pub(super) fn is_blank(&self, process: ProcessId) -> bool {
        self.find(process).is_none_or(|known| known.image.is_none() && known.command_line.is_none())
    }

    /// Whether `process` is known.
    pub(super) fn knows(&self, process: ProcessId) -> bool {
        self.find(process).is_some()
    }

    fn find(&self, process: ProcessId) -> Option<&Known> {
        let known = self.processes.get(&process.pid)?;
        process.is(ProcessId { pid: process.pid, started: known.started }).then_some(known)
    }

    fn insert(&mut self, process: ProcessId, entry: Known) {
        let is_new = self.find(process).is_none();
        self.processes.insert(process.pid, entry);
        if !is_new {
            return;
        }
        self.known.push_back(process);
        while self.processes.len() > PROCESSES {
            let Some(oldest) = self.known.pop_front() else { break };
            self.forget(oldest);
        }
        // What was forgotten leaves its place in `known` behind: swept once in as many insertions as
        // the table is long, so that each costs the same on average.
        if self.known.len() > 2 * PROCESSES {
            let mut known = std::mem::take(&mut self.known);
            known.retain(|process| self.find(*process).is_some());
            self.known = known;
        }
    }

    fn forget(&mut self, process: ProcessId) {
        if self.find(process).is_some() {
            self.processes.remove(&process.pid);
        }
    }
}

/// At most [`COMMAND_LINE_BYTES_KEPT`] of it.
fn shortened(command_line: &Arc<str>) -> Arc<str> {
    if command_line.len() <= COMMAND_LINE_BYTES_KEPT {
        return Arc::clone(command_line);
    }
    command_line[..command_line.floor_char_boundary(COMMAND_LINE_BYTES_KEPT)].into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(pid: u32, started_ticks: u64) -> ProcessId {
        ProcessId { pid, started: BootNanos(started_ticks * 10_000_000) }
    }

    fn start(table: &mut ProcessTable, process: ProcessId, image: &str) -> Option<Parent> {
        table.started(process, Some(image.into()), &image.into(), None)
    }

    #[test]
    fn a_parent_that_ended_is_still_the_parent() {
        let mut table = ProcessTable::default();
        start(&mut table, id(10, 1), "/bin/shell");
        table.forked(id(10, 1), id(11, 2));
        table.forked(id(11, 2), id(12, 3));
        table.ended(id(11, 2), BootNanos(5));
        let told = Some(id(1, 0)); // what the kernel says by now
        let parent = table.started(id(12, 3), Some("/bin/worm".into()), &"worm".into(), told);
        assert_eq!(parent.unwrap().process, id(11, 2));
        let line: Vec<_> = table.ancestry(12).iter().map(|parent| parent.process.pid).collect();
        assert_eq!(line, [11, 10]);
        assert_eq!(table.ancestry(12)[0].image.as_deref(), Some("/bin/shell"), "inherited by fork");
    }

    #[test]
    fn a_pid_used_again_is_not_taken_for_the_old_process() {
        let mut table = ProcessTable::default();
        start(&mut table, id(10, 1), "/bin/old");
        table.ended(id(10, 1), BootNanos(0));
        start(&mut table, id(10, 9), "/bin/new");
        // The end of the grace of the old one leaves the new one alone.
        start(&mut table, id(11, 9), "/bin/other");
        table.ended(id(11, 9), BootNanos(0).plus(GRACE));
        assert_eq!(table.process(10).unwrap().image.as_deref(), Some("/bin/new"));
        assert_eq!(table.describe(id(10, 1)).image, None);
    }

    #[test]
    fn what_ended_is_forgotten_after_the_grace() {
        let mut table = ProcessTable::default();
        start(&mut table, id(10, 1), "/bin/a");
        start(&mut table, id(11, 1), "/bin/b");
        table.ended(id(10, 1), BootNanos(7));
        assert_eq!(table.len(), 2);
        table.ended(id(11, 1), BootNanos(7).plus(GRACE));
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn the_table_stays_within_its_limit_and_keeps_what_lives_long() {
        let mut table = ProcessTable::default();
        start(&mut table, id(1, 0), "/sbin/init");
        for pid in 2..200_000 {
            table.forked(id(1, 0), id(pid, 1));
            table.ended(id(pid, 1), BootNanos(u64::from(pid) * 100_000_000));
        }
        assert!(table.len() <= PROCESSES && table.known.len() <= 2 * PROCESSES + 1);
        assert_eq!(table.process(1).unwrap().image.as_deref(), Some("/sbin/init"));
        for pid in 2..200_000 {
            table.forked(id(1, 0), id(pid, 3));
        }
        assert!(table.len() <= PROCESSES);
    }

    #[test]
    fn ancestry_ends_even_in_a_circle() {
        let mut table = ProcessTable::default();
        table.forked(id(2, 1), id(1, 1));
        table.forked(id(1, 1), id(2, 1));
        assert_eq!(table.ancestry(1).len(), 1);
        table.forked(id(3, 1), id(3, 1));
        assert!(table.ancestry(3).len() <= ANCESTORS);
    }

    #[test]
    fn a_long_command_line_is_kept_in_part_at_a_character() {
        let kept = shortened(&"ä".repeat(COMMAND_LINE_BYTES_KEPT).into());
        assert!(kept.len() <= COMMAND_LINE_BYTES_KEPT && kept.chars().all(|c| c == 'ä'));
    }
}
