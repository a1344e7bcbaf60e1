//! Who a process is that the kernel named, and who is above it: by what was seen of forks, and by `/proc`.
//!
//! The kernel names a number, and who writes one line and ends is gone before anybody can look. So forks, starts and
//! ends are heard of, where the kernel tells of them (the proc connector: in the machine's first namespaces only), and
//! remembered for a while; elsewhere `/proc` is asked at once, and of who is gone no more is known than the number.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use cordon_model::change::{Doer, MOST_ABOVE, WORD_BYTES};
use cordon_model::finding::ProcessRef;
use cordon_model::time::BootNanos;

use super::group::Witness;
use super::standing::cut;
use crate::contain::moment::boot_time;
use crate::sensor::connector::{Connector, Message};
use crate::sensor::process_table::GRACE;
use crate::sensor::{ProcessId, ProcessTable, proc_files};

/// Messages that are taken at one time: the rest waits in the socket.
const BATCH: usize = 8_192;
/// The kernel tells of a fork some microseconds after it, and of a start in hundredths of a second, rounded down.
const SAME_NANOS: u64 = 20_000_000;
/// Numbers of processes that came twice, and daemons that begin sessions, which are remembered.
const REMEMBERED: usize = 1_024;

/// The processes of this machine, as far as they are known.
pub struct Processes {
    connector: Option<Connector>,
    table: ProcessTable,
    /// Cordon's helper, whose child this process is.
    helper: u32,
    /// Forks, starts and ends that were not heard of.
    lost: u64,
    /// Numbers that were given twice within the time that ended processes are remembered, and when.
    reused: BTreeMap<u32, BootNanos>,
    /// Until then it is not known who had a number that is nobody's now.
    doubtful_until: BootNanos,
    /// Daemons that were seen to begin sessions.
    beginners: BTreeMap<u32, BootNanos>,
}

impl Processes {
    /// Learns all that run. Why forks are not heard of, if they are not.
    #[must_use]
    pub fn now(helper: u32) -> (Self, Option<String>) {
        let (connector, why) = match Connector::open() {
            Ok(connector) => (Some(connector), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let mut processes = Self {
            connector,
            table: ProcessTable::default(),
            helper,
            lost: 0,
            reused: BTreeMap::new(),
            doubtful_until: BootNanos(0),
            beginners: BTreeMap::new(),
        };
        for pid in proc_files::pids() {
            processes.learn(pid);
        }
        (processes, why)
    }

    /// Hears what waits. Before anybody is asked about.
    pub fn hear(&mut self) {
        let lost = self.lost;
        self.hear_some();
        if self.lost != lost {
            self.doubtful_until = BootNanos(boot_time().0.saturating_add(grace()));
        }
    }

    fn hear_some(&mut self) {
        for _ in 0..BATCH {
            let Some(reading) = self.connector.as_mut().and_then(Connector::next) else { return };
            self.lost = self.lost.saturating_add(reading.missing);
            match reading.message {
                Some(Message::Forked { parent, child }) => {
                    let forked = reading.at.map_or_else(boot_time, |at| at.of_boot());
                    let parent = self
                        .known(parent)
                        .or_else(|| proc_files::identity(parent))
                        .unwrap_or(ProcessId { pid: parent, started: BootNanos(0) });
                    // Gone already, or its number is another's by now: it began when the kernel told of it.
                    let child = proc_files::identity(child)
                        .filter(|now| now.started.0.abs_diff(forked.0) < SAME_NANOS)
                        .unwrap_or(ProcessId { pid: child, started: forked });
                    self.is_used_again(child);
                    self.table.forked(parent, child);
                }
                Some(Message::Started { pid }) => self.started(pid),
                Some(Message::Exited { pid, .. }) => {
                    if let Some(process) = self.known(pid) {
                        self.table.ended(process, boot_time());
                    }
                }
                Some(Message::Answer(_) | Message::Other) => {}
                None => self.lost = self.lost.saturating_add(1),
            }
        }
    }

    /// Whether forks, starts or ends were missed.
    #[must_use]
    pub fn has_lost(&self) -> bool {
        self.lost > 0
    }

    /// Who `pid` is, that did something just now, by what the kernel said of it besides. Who can't be told from another
    /// that had the number is nobody.
    #[must_use]
    pub fn doer(&mut self, pid: u32, witness: Witness) -> Doer {
        let nobody = Doer { pid, process: None, above: Vec::new(), is_cordon: false };
        let known = self.table.process(pid).filter(|_| self.connector.is_some());
        let now = proc_files::identity(pid);
        let process = match (witness, known) {
            (Witness::Runs(started), Some(known))
                if known.process.is(ProcessId { pid, started }) =>
            {
                known.process
            }
            (Witness::Runs(started), _) => return self.asked(ProcessId { pid, started }),
            (Witness::Ended, Some(known))
                if !self.is_doubtful(pid) && now.is_none_or(|now| !now.is(known.process)) =>
            {
                known.process
            }
            (Witness::Unsaid, Some(known)) if !self.is_doubtful(pid) => known.process,
            (Witness::Unsaid, None) => match now {
                Some(now) => return self.asked(now),
                None => return nobody,
            },
            (Witness::Ended | Witness::Unsaid, _) => return nobody,
        };
        let image = now
            .filter(|now| now.is(process))
            .and_then(|_| proc_files::image(pid).map(|(image, _)| image))
            .or_else(|| self.table.process(pid)?.image.as_deref().map(str::to_owned));
        let line = self.table.ancestry(pid).into_iter().map(|one| one.process);
        self.told(process, image, line.collect())
    }

    /// The same, by what `/proc` says now.
    fn asked(&mut self, process: ProcessId) -> Doer {
        let pid = process.pid;
        let nobody = Doer { pid, process: None, above: Vec::new(), is_cordon: false };
        let is_it = |stat: &proc_files::Stat| process.is(ProcessId { pid, started: stat.started });
        let Some(stat) = proc_files::stat(pid).filter(is_it) else { return nobody };
        let image = proc_files::image(pid).map(|(image, _)| image).unwrap_or(stat.short_name);
        let mut line = Vec::new();
        let mut parent = stat.parent;
        while parent > 0 && line.len() < MOST_ABOVE {
            let Some(stat) = proc_files::stat(parent) else { break };
            line.push(ProcessId { pid: parent, started: stat.started });
            parent = stat.parent;
        }
        self.told(process, Some(image), line)
    }

    fn told(&mut self, process: ProcessId, image: Option<String>, line: Vec<ProcessId>) -> Doer {
        let is_beginner = |one: ProcessId| {
            self.beginners.get(&one.pid).is_some_and(|began| *began == one.started)
        };
        let (line, began_by) = within_session(process, line, sits, is_daemon, is_beginner);
        if let Some(daemon) = began_by {
            if self.beginners.len() >= REMEMBERED {
                self.beginners.clear();
            }
            self.beginners.insert(daemon.pid, daemon.started);
        }
        Doer {
            pid: process.pid,
            process: Some(named(process, image)),
            above: line.into_iter().map(|one| (one.pid, one.started)).take(MOST_ABOVE).collect(),
            is_cordon: process.pid == self.helper,
        }
    }

    /// Notes that a number is given again while who had it before may still be asked about.
    fn is_used_again(&mut self, child: ProcessId) {
        if self.known(child.pid).is_none_or(|known| known.is(child)) {
            return;
        }
        let now = boot_time();
        self.reused.retain(|_, at| now.0.saturating_sub(at.0) < grace());
        if self.reused.len() >= REMEMBERED {
            self.doubtful_until = BootNanos(now.0.saturating_add(grace()));
            self.reused.clear();
        }
        self.reused.insert(child.pid, now);
    }

    /// Whether who had this number a moment ago may be another than is known.
    fn is_doubtful(&self, pid: u32) -> bool {
        let now = boot_time();
        now < self.doubtful_until
            || self.reused.get(&pid).is_some_and(|at| now.0.saturating_sub(at.0) < grace())
    }

    /// Readable when there is something to hear.
    #[must_use]
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        use std::os::fd::AsFd as _;
        self.connector.as_ref().map(|connector| connector.as_fd())
    }

    fn known(&self, pid: u32) -> Option<ProcessId> {
        self.table.process(pid).map(|known| known.process)
    }

    fn learn(&mut self, pid: u32) {
        let Some(stat) = proc_files::stat(pid) else { return };
        let parent = proc_files::identity(stat.parent);
        let process = ProcessId { pid, started: stat.started };
        let image = proc_files::image(pid).map(|(image, _)| Arc::from(image));
        self.table.started(process, image, &Arc::from(""), parent);
    }

    fn started(&mut self, pid: u32) {
        let Some(process) = self.known(pid).or_else(|| proc_files::identity(pid)) else { return };
        let image = proc_files::image(pid).map(|(image, _)| Arc::from(image));
        self.table.started(process, image, &Arc::from(""), None);
    }
}

fn grace() -> u64 {
    u64::try_from(GRACE.as_nanos()).unwrap_or(u64::MAX)
}

/// In which session of a person or a job a process is, and in which service: the kernel's own words for both.
fn sits(process: ProcessId) -> Option<(Option<u32>, String)> {
    let pid = process.pid;
    let found = (proc_files::audit_session(pid), proc_files::control_groups(pid)?);
    // Asked before and looked at after: it was this very process.
    proc_files::identity(pid).filter(|now| now.is(process)).map(|_| found)
}

/// Whether a process is a daemon of the system's: root's, and the first process's, as who was started by it or left to it by
/// who ended at once. Nobody else begins sessions of others; and what somebody without root leaves behind is none.
fn is_daemon(process: ProcessId) -> bool {
    let stat = proc_files::stat(process.pid);
    let is_left = stat.is_some_and(|stat| {
        stat.parent == 1 && process.is(ProcessId { pid: process.pid, started: stat.started })
    });
    is_left
        && proc_files::credentials(process.pid)
            .is_some_and(|user| user.uid == 0 && user.effective_uid == 0)
}

/// Of those above a process, its parent first, those that it came of: without the daemon that began its session, as `sshd`
/// and `cron` do, and who is above that: for whatever is found of a daemon is nothing that its sessions do. A daemon began
/// a session if who descends from it sits elsewhere. Which daemon that was, if it was seen now.
fn within_session(
    process: ProcessId,
    mut line: Vec<ProcessId>,
    sits: impl Fn(ProcessId) -> Option<(Option<u32>, String)>,
    is_daemon: impl Fn(ProcessId) -> bool,
    is_beginner: impl Fn(ProcessId) -> bool,
) -> (Vec<ProcessId>, Option<ProcessId>) {
    let first = line.iter().position(|one| one.pid == 1);
    line.truncate(first.unwrap_or(line.len()));
    let began = line.iter().enumerate().find_map(|(at, daemon)| {
        let here = is_daemon(*daemon).then(|| sits(*daemon)).flatten()?;
        let below = line.iter().take(at).rev().chain([&process]);
        match below.copied().find_map(&sits) {
            Some(there) => (here != there).then_some((at, Some(*daemon))),
            // Who had ended sat where their parent sits, unless that is known to begin sessions.
            None => is_beginner(*daemon).then_some((at, None)),
        }
    });
    let Some((at, daemon)) = began else { return (line, None) };
    line.truncate(at);
    (line, daemon)
}

fn named(process: ProcessId, image: Option<String>) -> ProcessRef {
    let image = image.map_or_else(String::new, |image| cut(&image, WORD_BYTES));
    ProcessRef { pid: process.pid, started: process.started, image }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(pid: u32) -> ProcessId {
        ProcessId { pid, started: BootNanos(u64::from(pid)) }
    }

    /// Of those above the first of `of`, where these sit so, and some are daemons, and known to begin sessions.
    fn line(of: &[u32], sits: &[(u32, &str)], daemons: &[u32], beginners: &[u32]) -> Vec<u32> {
        let at = |one: ProcessId| {
            let found = sits.iter().find(|(pid, _)| *pid == one.pid);
            found.map(|(_, where_)| (None, (*where_).to_owned()))
        };
        let above = of[1..].iter().map(|pid| id(*pid)).collect();
        let is_daemon = |one: ProcessId| daemons.contains(&one.pid);
        let is_beginner = |one: ProcessId| beginners.contains(&one.pid);
        let (line, _) = within_session(id(of[0]), above, at, is_daemon, is_beginner);
        line.into_iter().map(|one| one.pid).collect()
    }

    #[test]
    fn what_a_session_does_did_not_come_of_the_daemon_that_began_it() {
        // A shell below sshd's session, in a group of its own.
        let sits = [(9, "/session"), (8, "/session"), (7, "/session"), (5, "/ssh.service")];
        assert_eq!(line(&[9, 8, 7, 5, 1], &sits, &[5], &[]), [8, 7]);
        // A service that does something itself, by what it started.
        let sits = [(9, "/x.service"), (5, "/x.service")];
        assert_eq!(line(&[9, 5, 1], &sits, &[5], &[]), [5]);
        assert_eq!(line(&[5, 1], &sits, &[5], &[]), [0; 0]);
        // Whoever is gone already sat where its parent sits: unless the daemon was seen to begin sessions.
        let sits = [(5, "/cron.service")];
        assert_eq!(line(&[9, 5, 1], &sits, &[5], &[]), [5]);
        assert_eq!(line(&[9, 5, 1], &sits, &[5], &[5]), [0; 0]);
        let sits = [(5, "/cron.service"), (8, "/cron.service")];
        assert_eq!(line(&[9, 8, 5, 1], &sits, &[5], &[5]), [8, 5], "who is there is asked");
        // Of what is not known to be a daemon nothing is left out.
        let sits = [(9, "/a"), (5, "/b"), (4, "/c")];
        assert_eq!(line(&[9, 5, 4], &sits, &[], &[4]), [5, 4]);
    }

    #[test]
    fn a_daemon_that_left_who_started_it_begins_sessions_like_any_other() {
        // 4 began 5 and ended; for a while it is remembered whose child it was, then not even that. Or it was begun by hand.
        let sits = [(9, "/session"), (7, "/session"), (5, "/ssh.service"), (3, "/by-hand")];
        for of in [&[9, 7, 5, 4, 1][..], &[9, 7, 5, 4], &[9, 7, 5, 4, 3, 2, 1]] {
            assert_eq!(line(of, &sits, &[5, 2], &[]), [7], "{of:?}");
        }
        // What it does itself came of whoever began it by hand, too, and not of the daemon of that session.
        let sits = [(9, "/ssh.service"), (5, "/ssh.service"), (3, "/by-hand"), (2, "/getty")];
        assert_eq!(line(&[9, 5, 4, 3, 2, 1], &sits, &[5, 2], &[]), [5, 4, 3]);
        // What an intruder left to the first process, who has something moved elsewhere, is no daemon.
        let sits = [(9, "/scope"), (5, "/session"), (2, "/ssh.service")];
        assert_eq!(line(&[9, 5, 4, 2, 1], &sits, &[2], &[]), [5, 4]);
        assert_eq!(line(&[9, 5, 4], &sits, &[2], &[]), [5, 4]);
    }
}
