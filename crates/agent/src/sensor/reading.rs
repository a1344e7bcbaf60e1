//! From what a source says to [`SensorEvent`]s: names for users, parents from the process table, clocks.
//! Every message changes the table; most become an event.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cordon_model::time::{BootNanos, UtcNanos};
use nix::time::{ClockId, clock_gettime};

use super::accounts::Accounts;
use super::connector::{Connector, Message};
use super::event::{
    Connection, Direction, Endpoint, Loss, LossReason, ProcessExit, ProcessId, ProcessStart,
    SensorEvent, User,
};
use super::kernel::Kernel;
use super::proc_files;
use super::process_table::ProcessTable;
use super::record::{self, Record, SocketEvent, SocketState, Started};

/// The listening ports that are remembered: a machine has tens; a hostile program can open 65,536 for
/// each address family and namespace. Beyond the limit those of processes that ended are forgotten,
/// then no new ones are taken: their connections come without a process.
const LISTENERS: usize = 16_384;

/// How often the kernel's count of skipped programs is read: four small files.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// The most messages that one reading takes: about one second of the highest rate. So that losses are
/// told, and a wish to stop is heard, in a flood that never ends.
const BATCH: usize = 4096;

/// Which listening socket: network namespace, whether its socket is IPv6, port.
type Listener = (u32, bool, u16);

/// What the reader remembers between messages.
pub(super) struct Reader {
    pub processes: ProcessTable,
    listeners: HashMap<Listener, ProcessId>,
    accounts: Accounts,
    only: Option<u64>,
    own: Option<u64>,
    lost: u64,
    skipped: u64,
    counted: Option<Instant>,
}

/// Calendar time of a boot time, for the events of one reading.
#[derive(Clone, Copy)]
struct Calendar {
    now: UtcNanos,
    boot_now: BootNanos,
}

impl Calendar {
    fn read() -> Self {
        Self { now: UtcNanos::now(), boot_now: boot_time() }
    }

    fn of(self, boot: BootNanos) -> UtcNanos {
        let ago = i64::try_from(self.boot_now.since(boot).as_nanos()).unwrap_or(i64::MAX);
        UtcNanos::from_unix_nanos(self.now.unix_nanos().saturating_sub(ago))
    }
}

/// Now, since boot.
pub(super) fn boot_time() -> BootNanos {
    // Linux has had this clock since 2.6.39; with none, all is at zero and only shown so.
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default();
    BootNanos(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
}

impl Reader {
    pub fn new(only: Option<u64>) -> Self {
        Self {
            processes: ProcessTable::default(),
            listeners: HashMap::new(),
            accounts: Accounts::load(),
            only,
            own: proc_files::own_network_namespace(),
            lost: 0,
            skipped: 0,
            counted: None,
        }
    }

    /// Learns all processes and listeners that are there already.
    pub fn learn_all(&mut self) {
        for pid in proc_files::pids() {
            self.learn(pid);
        }
        let Some(Ok(own)) = self.own.map(u32::try_from) else { return };
        if self.only.is_some_and(|only| only != u64::from(own)) {
            return;
        }
        for (port, is_ipv6, process) in proc_files::listeners() {
            self.listen((own, is_ipv6, port), process);
        }
    }

    /// Tells all that waits in the ring buffer.
    pub fn drain_kernel(
        &mut self,
        kernel: &mut Kernel,
        tell: &mut impl FnMut(SensorEvent, &ProcessTable),
    ) {
        let calendar = Calendar::read();
        let mut unreadable = 0;
        for _ in 0..BATCH {
            let Some(bytes) = kernel.next() else { break };
            match record::parse(&bytes) {
                Ok(record) => {
                    if let Some(event) = self.apply(record, calendar) {
                        tell(event, &self.processes);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a record of the eBPF programs was refused");
                    unreadable += 1;
                }
            }
        }
        let lost = kernel.lost();
        self.tell_loss(lost.saturating_sub(self.lost), LossReason::BufferFull, tell);
        self.lost = lost;
        self.tell_loss(unreadable, LossReason::Unreadable, tell);
        if self.counted.is_none_or(|counted| counted.elapsed() > COUNT_EVERY) {
            self.counted = Some(Instant::now());
            let skipped = kernel.skipped();
            self.tell_loss(skipped.saturating_sub(self.skipped), LossReason::Interrupted, tell);
            self.skipped = skipped;
        }
    }

    /// Tells all that waits in the connector.
    pub fn drain_connector(
        &mut self,
        connector: &mut Connector,
        tell: &mut impl FnMut(SensorEvent, &ProcessTable),
    ) {
        let calendar = Calendar::read();
        let (mut missing, mut unreadable, mut gone) = (0, 0, 0);
        for _ in 0..BATCH {
            let Some(reading) = connector.next() else { break };
            missing += reading.missing;
            match reading.message {
                None => unreadable += 1,
                Some(Message::Started { pid }) => match self.look_at(pid, calendar) {
                    Some(start) if self.is_elsewhere(&start) => {}
                    Some(start) => tell(SensorEvent::ProcessStart(start), &self.processes),
                    None => gone += 1,
                },
                Some(Message::Forked { parent, child }) => self.learn_fork(parent, child),
                Some(Message::Exited { pid, status }) => {
                    if let Some(known) = self.processes.process(pid) {
                        let status = status.cast_signed();
                        let exit = self.ended(known.process, calendar.boot_now, status, calendar);
                        tell(exit, &self.processes);
                    }
                }
                Some(Message::Answer(_) | Message::Other) => {}
            }
        }
        self.tell_loss(missing, LossReason::BufferFull, tell);
        self.tell_loss(unreadable, LossReason::Unreadable, tell);
        self.tell_loss(gone, LossReason::GoneBeforeSeen, tell);
    }

    fn tell_loss(
        &self,
        count: u64,
        reason: LossReason,
        tell: &mut impl FnMut(SensorEvent, &ProcessTable),
    ) {
        if count > 0 {
            let loss = Loss { time: UtcNanos::now(), count, reason };
            tell(SensorEvent::Loss(loss), &self.processes);
        }
    }

    fn apply(&mut self, record: Record<'_>, calendar: Calendar) -> Option<SensorEvent> {
        match record {
            Record::Forked(forked) => {
                let parent = ProcessId { pid: forked.parent, started: forked.parent_started };
                let child = ProcessId { pid: forked.pid, started: forked.started };
                self.processes.forked(parent, child);
                None
            }
            Record::Started(started) => {
                Some(SensorEvent::ProcessStart(self.started(&started, calendar)))
            }
            Record::Exited(exited) => {
                let process = ProcessId { pid: exited.pid, started: exited.started };
                Some(self.ended(process, exited.time, exited.status, calendar))
            }
            Record::Connection(state) => self.socket_state(&state, calendar),
        }
    }

    fn started(&mut self, start: &Started<'_>, calendar: Calendar) -> ProcessStart {
        let process = ProcessId { pid: start.pid, started: start.started };
        let image = Some(start.image.text.as_str()).filter(|text| !text.is_empty()).map(Arc::from);
        let (arguments, arguments_are_cut) = whole_arguments(start);
        let command_line: Arc<str> = arguments.join(" ").into();
        let told = ProcessId { pid: start.parent, started: start.parent_started };
        let mut parent = self.processes.started(process, image.clone(), &command_line, Some(told));
        if let Some(parent) = &mut parent
            && self.processes.is_blank(parent.process)
        {
            self.learn(parent.process.pid);
            *parent = self.processes.describe(parent.process);
        }
        ProcessStart {
            time: calendar.of(start.time),
            boot_time: start.time,
            process,
            image,
            image_is_deleted: start.image.is_deleted,
            image_is_claimed: false,
            image_is_cut: start.image.is_cut,
            file_name: Some(start.file_name.to_string()).filter(|name| !name.is_empty()),
            command_line,
            arguments,
            arguments_are_cut,
            directory: Some(start.directory.text.clone()).filter(|text| !text.is_empty()),
            short_name: start.short_name.to_string(),
            user: User {
                name: self.accounts.name(start.effective_uid),
                uid: start.uid,
                effective_uid: start.effective_uid,
                gid: Some(start.gid),
                login_uid: Some(start.login_uid).filter(|uid| *uid != u32::MAX),
            },
            network_namespace: Some(start.network_namespace.into()),
            cgroup: Some(start.cgroup).filter(|id| *id != 0),
            parent,
        }
    }

    fn ended(
        &mut self,
        process: ProcessId,
        boot_time: BootNanos,
        status: i32,
        calendar: Calendar,
    ) -> SensorEvent {
        self.processes.ended(process, boot_time);
        let time = calendar.of(boot_time);
        SensorEvent::ProcessExit(ProcessExit { time, boot_time, process, status })
    }

    fn socket_state(&mut self, state: &SocketState<'_>, calendar: Calendar) -> Option<SensorEvent> {
        let listener =
            |is_ipv6: bool| -> Listener { (state.network_namespace, is_ipv6, state.local.1) };
        let named = ProcessId { pid: state.pid, started: state.started };
        let (direction, process) = match state.event {
            SocketEvent::Listening => {
                self.listen(listener(state.local.0.is_ipv6()), named);
                return None;
            }
            SocketEvent::Outgoing => (Direction::Outgoing, Some(named)),
            SocketEvent::Incoming => {
                // IPv4 may have come through a socket that listens on IPv6.
                let own = self.listeners.get(&listener(state.local.0.is_ipv6()));
                let found = own.or_else(|| self.listeners.get(&listener(true))).copied();
                (Direction::Incoming, found.filter(|process| process.pid != 0))
            }
        };
        let known = process.map(|process| {
            if self.processes.is_blank(process) {
                self.learn(process.pid);
            }
            self.processes.describe(process)
        });
        let (image, command_line) = known.map_or((None, None), |p| (p.image, p.command_line));
        Some(SensorEvent::Connection(Connection {
            time: calendar.of(state.time),
            boot_time: state.time,
            direction,
            local: Endpoint { address: state.local.0, port: state.local.1 },
            remote: Endpoint { address: state.remote.0, port: state.remote.1 },
            process,
            image,
            command_line,
            short_name: state.short_name.to_string(),
            uid: state.uid,
            user: self.accounts.name(state.uid),
            network_namespace: state.network_namespace.into(),
        }))
    }

    fn listen(&mut self, listener: Listener, process: ProcessId) {
        if self.listeners.len() >= LISTENERS {
            let processes = &self.processes;
            self.listeners.retain(|_, process| processes.knows(*process));
        }
        if self.listeners.len() < LISTENERS {
            self.listeners.insert(listener, process);
        }
    }

    /// Looks `pid` up in `/proc`, as far as we may.
    fn learn(&mut self, pid: u32) {
        let Some(stat) = proc_files::stat(pid) else { return };
        let arguments = split(&proc_files::arguments(pid).unwrap_or_default());
        let seen = proc_files::image(pid).map(|(image, _)| Arc::from(image));
        let image = seen.or_else(|| claimed_image(&arguments));
        let process = ProcessId { pid, started: stat.started };
        let told = proc_files::identity(stat.parent);
        self.processes.started(process, image, &arguments.join(" ").into(), told);
    }

    /// Whether `start` is known to be in a network namespace that nobody asked for.
    fn is_elsewhere(&self, start: &ProcessStart) -> bool {
        matches!((self.only, start.network_namespace), (Some(only), Some(its)) if only != its)
    }

    fn learn_fork(&mut self, parent: u32, child: u32) {
        let Some(child) = proc_files::identity(child) else { return };
        if let Some(parent) = self.processes.process(parent) {
            self.processes.forked(parent.process, child);
        }
    }

    /// A start as far as `/proc` still shows it.
    fn look_at(&mut self, pid: u32, calendar: Calendar) -> Option<ProcessStart> {
        let stat = proc_files::stat(pid)?;
        let credentials = proc_files::credentials(pid)?;
        let arguments = proc_files::arguments(pid)?;
        let arguments_are_cut = arguments.len() >= proc_files::COMMAND_LINE_BYTES;
        let arguments = split(&arguments);
        let command_line: Arc<str> = arguments.join(" ").into();
        let seen = proc_files::image(pid);
        let image_is_deleted = seen.as_ref().is_some_and(|(_, is_deleted)| *is_deleted);
        let seen: Option<Arc<str>> = seen.map(|(image, _)| image.into());
        let claimed = claimed_image(&arguments).filter(|_| seen.is_none());
        let image_is_claimed = claimed.is_some();
        let image = seen.or(claimed);
        let process = ProcessId { pid, started: stat.started };
        let told = proc_files::identity(stat.parent);
        let parent = self.processes.started(process, image.clone(), &command_line, told);
        Some(ProcessStart {
            time: calendar.now,
            boot_time: calendar.boot_now,
            process,
            image,
            image_is_deleted,
            image_is_claimed,
            image_is_cut: false,
            file_name: None,
            command_line,
            arguments,
            arguments_are_cut,
            directory: proc_files::directory(pid),
            short_name: stat.short_name,
            user: User {
                name: self.accounts.name(credentials.effective_uid),
                uid: credentials.uid,
                effective_uid: credentials.effective_uid,
                gid: Some(credentials.gid),
                login_uid: proc_files::login_uid(pid),
            },
            network_namespace: proc_files::network_namespace(pid),
            cgroup: None,
            parent,
        })
    }
}

/// The arguments of a start, and whether they are still cut. What the record has no room for is read
/// from the process itself, if it is still there and still has the beginning that was seen.
fn whole_arguments(start: &Started<'_>) -> (Vec<String>, bool) {
    let total = start.arguments_total as usize;
    if start.arguments.len() >= total {
        return (split(start.arguments), false);
    }
    match proc_files::arguments(start.pid) {
        Some(now) if now.starts_with(start.arguments) => (split(&now), now.len() < total),
        _ => (split(start.arguments), true),
    }
}

/// What a process calls itself, if that is a whole path: which file it really runs, only root may ask of
/// other users' processes.
fn claimed_image(arguments: &[String]) -> Option<Arc<str>> {
    arguments.first().filter(|name| name.starts_with('/')).map(|name| name.as_str().into())
}

/// Arguments as they lie in memory, one by one.
fn split(bytes: &[u8]) -> Vec<String> {
    if bytes.is_empty() {
        return Vec::new();
    }
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    bytes.split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn empty_arguments_are_arguments() {
        assert_eq!(split(b"a\0\0b\0"), ["a", "", "b"]);
        assert_eq!(split(b"\0"), [""]);
        assert!(split(b"").is_empty());
        assert_eq!(split(b"a\0cut"), ["a", "cut"]);
    }

    #[test]
    fn an_event_of_the_past_is_put_in_the_past() {
        let calendar = Calendar { now: UtcNanos::from_unix_nanos(1_000), boot_now: BootNanos(100) };
        assert_eq!(calendar.of(BootNanos(40)), UtcNanos::from_unix_nanos(940));
        assert_eq!(calendar.of(BootNanos(140)), UtcNanos::from_unix_nanos(1_000));
    }

    proptest! {
        #[test]
        fn arguments_come_back_one_by_one(arguments in prop::collection::vec("[^\0]{0,20}", 1..8)) {
            let bytes: Vec<u8> = arguments.iter().flat_map(|a| [a.as_bytes(), b"\0"].concat()).collect();
            prop_assert_eq!(split(&bytes), arguments);
        }
    }
}
