//! Who a process is that the kernel named, and who is above it: by what was seen of forks, and by `/proc`.
//!
//! The kernel names a number, and who writes one line and ends is gone before anybody can look. So forks, starts and
//! ends are heard of, where the kernel tells of them (the proc connector: in the machine's first namespaces only), and
//! remembered for a while; elsewhere `/proc` is asked at once, and of who is gone no more is known than the number.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use cordon_model::change::{Doer, MOST_ABOVE, WORD_BYTES};
use cordon_model::finding::ProcessRef;
use cordon_model::time::BootNanos;

use super::standing::cut;
use crate::contain::moment::boot_time;
use crate::sensor::connector::{Connector, Message};
use crate::sensor::{ProcessId, ProcessTable, proc_files};

/// Messages that are taken at one time: the rest waits in the socket.
const BATCH: usize = 8_192;

/// The processes of this machine, as far as they are known.
pub struct Processes {
    connector: Option<Connector>,
    table: ProcessTable,
    /// Cordon's helper, whose child this process is.
    helper: u32,
    /// Forks, starts and ends that were not heard of.
    pub lost: u64,
}

impl Processes {
    /// Learns all that run. Why forks are not heard of, if they are not.
    #[must_use]
    pub fn now(helper: u32) -> (Self, Option<String>) {
        let (connector, why) = match Connector::open() {
            Ok(connector) => (Some(connector), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let mut processes = Self { connector, table: ProcessTable::default(), helper, lost: 0 };
        for pid in proc_files::pids() {
            processes.learn(pid);
        }
        (processes, why)
    }

    /// Hears what waits. Before anybody is asked about.
    pub fn hear(&mut self) {
        for _ in 0..BATCH {
            let Some(reading) = self.connector.as_mut().and_then(Connector::next) else { return };
            self.lost = self.lost.saturating_add(reading.missing);
            match reading.message {
                Some(Message::Forked { parent, child }) => {
                    let parent = self
                        .known(parent)
                        .or_else(|| proc_files::identity(parent))
                        .unwrap_or(ProcessId { pid: parent, started: BootNanos(0) });
                    // Gone already: it began a moment ago.
                    let child = proc_files::identity(child)
                        .unwrap_or(ProcessId { pid: child, started: boot_time() });
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

    /// Who `pid` is, that did something just now.
    #[must_use]
    pub fn doer(&self, pid: u32) -> Doer {
        let is_cordon = pid == self.helper;
        let Some(known) = self.table.process(pid).filter(|_| self.connector.is_some()) else {
            return self.asked(pid, is_cordon);
        };
        let image = proc_files::identity(pid)
            .filter(|now| now.is(known.process))
            .and_then(|_| proc_files::image(pid).map(|(image, _)| image))
            .or_else(|| known.image.as_deref().map(str::to_owned));
        let above = self.table.ancestry(pid);
        Doer {
            pid,
            process: Some(named(known.process, image)),
            above: above
                .into_iter()
                .map(|one| (one.process.pid, one.process.started))
                .take(MOST_ABOVE)
                .collect(),
            is_cordon,
        }
    }

    /// The same, by what `/proc` says now.
    fn asked(&self, pid: u32, is_cordon: bool) -> Doer {
        let nobody = Doer { pid, process: None, above: Vec::new(), is_cordon };
        let Some(stat) = proc_files::stat(pid) else { return nobody };
        let image = proc_files::image(pid).map(|(image, _)| image).unwrap_or(stat.short_name);
        let process = named(ProcessId { pid, started: stat.started }, Some(image));
        let mut above = Vec::new();
        let mut parent = stat.parent;
        while parent > 1 && above.len() < MOST_ABOVE {
            let Some(stat) = proc_files::stat(parent) else { break };
            above.push((parent, stat.started));
            parent = stat.parent;
        }
        Doer { process: Some(process), above, ..nobody }
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

fn named(process: ProcessId, image: Option<String>) -> ProcessRef {
    let image = image.map_or_else(String::new, |image| cut(&image, WORD_BYTES));
    ProcessRef { pid: process.pid, started: process.started, image }
}
