//! What the sensor says: one type per thing that can happen, complete enough to decide and to explain,
//! and its JSON form for people and for the lake.
//!
//! The JSON is made only when somebody wants it (a rule hit). Its form is stable: names below are never
//! changed or reused, new ones may come; what the sensor could not see is left out.

use std::net::IpAddr;
use std::sync::Arc;

use cordon_model::event::RawEvent;
use cordon_model::limits;
use cordon_model::time::{BootNanos, UtcNanos};
use serde::{Deserialize, Serialize};

/// One thing that the kernel told.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum SensorEvent {
    /// A process began a program.
    ProcessStart(ProcessStart),
    /// A process ended.
    ProcessExit(ProcessExit),
    /// A TCP connection was begun here, or came in and was accepted by the kernel.
    Connection(Connection),
    /// Something was not seen.
    Loss(Loss),
}

/// Which process: a pid alone is used again by others, a pid and its start are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessId {
    /// The thread group's id, in the first pid namespace.
    pub pid: u32,
    /// When the process was forked. Exact from the kernel program; to 10 ms when read from `/proc`,
    /// and so compared ([`ProcessId::is`]).
    pub started: BootNanos,
}

impl ProcessId {
    /// Whether both name the same process.
    #[must_use]
    pub const fn is(self, other: Self) -> bool {
        // `/proc/PID/stat` counts in hundredths of a second, rounded down.
        const TICK: u64 = 10_000_000;
        self.pid == other.pid && self.started.0 / TICK == other.started.0 / TICK
    }
}

/// A process began a program (`execve` succeeded).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProcessStart {
    /// When, by the calendar.
    pub time: UtcNanos,
    /// When, since boot: what latencies are counted from.
    pub boot_time: BootNanos,
    /// Which process.
    #[serde(flatten)]
    pub process: ProcessId,
    /// The file that runs, as the kernel names it: absolute, links resolved. For a script it is the
    /// interpreter. `None` if the source can't see it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<Arc<str>>,
    /// The file was already deleted when it began to run.
    #[serde(skip_serializing_if = "is_false")]
    pub image_is_deleted: bool,
    /// Nobody may tell which file it is, and this is what the process calls itself (its first argument):
    /// true of most, and hostile ones may lie.
    #[serde(skip_serializing_if = "is_false")]
    pub image_is_claimed: bool,
    /// The path is deeper than the sensor follows (128 names, 4 KiB): only its end is here.
    #[serde(skip_serializing_if = "is_false")]
    pub image_is_cut: bool,
    /// The file as it was named to `execve`: perhaps relative, a link, or a script.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_name: Option<String>,
    /// The arguments, joined by single spaces and not quoted: the form that auditd and Sysmon for
    /// Linux log and that rules are written against. [`ProcessStart::arguments`] keeps them apart.
    pub command_line: Arc<str>,
    /// The arguments one by one. What was not UTF-8 is replaced by U+FFFD.
    pub arguments: Vec<String>,
    /// The process has more arguments than are here.
    #[serde(skip_serializing_if = "is_false")]
    pub arguments_are_cut: bool,
    /// Working directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// The kernel's own short name of the process (at most 15 bytes).
    pub short_name: String,
    /// Who it runs as.
    pub user: User,
    /// Its network namespace (inode), if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_namespace: Option<u64>,
    /// Its version 2 control group (id, which is the directory's inode), if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<u64>,
    /// Who forked it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
}

/// The process that forked another one. It may have ended meanwhile (the kernel then says `init`;
/// this says who it really was).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Parent {
    /// Which process.
    #[serde(flatten)]
    pub process: ProcessId,
    /// The file it runs, if it was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<Arc<str>>,
    /// Its command line, if it was seen, at most
    /// [`COMMAND_LINE_BYTES_KEPT`](super::process_table::COMMAND_LINE_BYTES_KEPT) long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command_line: Option<Arc<str>>,
}

/// Who a process runs as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct User {
    /// Name of the effective user by `/etc/passwd`, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Arc<str>>,
    /// Real user id.
    pub uid: u32,
    /// Effective user id: what it may do.
    pub effective_uid: u32,
    /// Real group id, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// Who logged in, whatever happened since (`su`, `sudo`); `None` for what no login began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub login_uid: Option<u32>,
}

/// A process ended, with all its threads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProcessExit {
    /// When, by the calendar.
    pub time: UtcNanos,
    /// When, since boot.
    pub boot_time: BootNanos,
    /// Which process.
    #[serde(flatten)]
    pub process: ProcessId,
    /// As `waitpid` gives it: the exit code times 256, or the signal that ended it.
    pub status: i32,
}

/// A TCP connection.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Connection {
    /// When, by the calendar.
    pub time: UtcNanos,
    /// When, since boot.
    pub boot_time: BootNanos,
    /// Who began it.
    pub direction: Direction,
    /// The end on this machine. The port of an outgoing connection is 0 unless the program chose one:
    /// the kernel chooses it only after it has told us.
    pub local: Endpoint,
    /// The other end.
    pub remote: Endpoint,
    /// The process that connects, or the one that listens for what came in; `None` if the listener
    /// listened before the sensor looked, or the connection is the kernel's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessId>,
    /// The file that the process runs, if it was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<Arc<str>>,
    /// Its command line, as in [`Parent::command_line`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command_line: Option<Arc<str>>,
    /// The kernel's short name of the process; empty if there is none.
    pub short_name: String,
    /// The user that the socket belongs to.
    pub uid: u32,
    /// That user's name by `/etc/passwd`, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Arc<str>>,
    /// The network namespace (inode).
    pub network_namespace: u64,
}

/// Who began a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// This machine: the first packet (SYN) is about to leave.
    Outgoing,
    /// Another machine; the handshake is done.
    Incoming,
}

/// An address and a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Endpoint {
    /// IPv4 or IPv6; IPv4 through an IPv6 socket is IPv4.
    pub address: IpAddr,
    /// TCP port.
    pub port: u16,
}

/// Something was not seen, and how much.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// When it was noticed.
    pub time: UtcNanos,
    /// How many messages.
    pub count: u64,
    /// Why.
    pub reason: LossReason,
}

/// Why something was not seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LossReason {
    /// The reader was slower than the kernel: the buffer between them was full.
    BufferFull,
    /// Messages that the reader did not understand.
    Unreadable,
    /// The kernel skipped the program, because a packet came in while it ran on that processor. Counted
    /// for the whole machine, whichever network namespace is looked at.
    Interrupted,
    /// A process began, but ended before the proc connector's reader could look at it.
    GoneBeforeSeen,
}

impl SensorEvent {
    /// The whole event as one JSON object.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Only maps with keys that are not text can fail, and there are none.
        serde_json::to_string(self).unwrap_or_else(|error| format!("{{\"type\":\"{error}\"}}"))
    }

    /// The whole event as it is kept with a finding: cut at [`limits::RAW_EVENT_BYTES`], saying so.
    #[must_use]
    pub fn to_raw(&self) -> RawEvent {
        let mut json = self.to_json();
        let is_cut = json.len() > limits::RAW_EVENT_BYTES;
        if is_cut {
            json.truncate(json.floor_char_boundary(limits::RAW_EVENT_BYTES));
        }
        RawEvent { json, is_cut }
    }

    /// When it happened.
    #[must_use]
    pub const fn time(&self) -> UtcNanos {
        match self {
            Self::ProcessStart(start) => start.time,
            Self::ProcessExit(exit) => exit.time,
            Self::Connection(connection) => connection.time,
            Self::Loss(loss) => loss.time,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_reads_as_json() {
        let connection = SensorEvent::Connection(Connection {
            time: UtcNanos::from_unix_nanos(5),
            boot_time: BootNanos(7),
            direction: Direction::Outgoing,
            local: Endpoint { address: IpAddr::from([192, 0, 2, 1]), port: 0 },
            remote: Endpoint { address: IpAddr::from([192, 0, 2, 2]), port: 445 },
            process: Some(ProcessId { pid: 9, started: BootNanos(3) }),
            image: Some("/usr/bin/nc".into()),
            command_line: None,
            short_name: "nc".into(),
            uid: 0,
            user: Some("root".into()),
            network_namespace: 1,
        });
        assert_eq!(
            connection.to_json(),
            r#"{"type":"connection","time":5,"boot_time":7,"direction":"outgoing","#.to_owned()
                + r#""local":{"address":"192.0.2.1","port":0},"#
                + r#""remote":{"address":"192.0.2.2","port":445},"#
                + r#""process":{"pid":9,"started":3},"image":"/usr/bin/nc","short_name":"nc","#
                + r#""uid":0,"user":"root","network_namespace":1}"#
        );
    }

    #[test]
    fn a_loss_says_how_much_and_why() {
        let loss = SensorEvent::Loss(Loss {
            time: UtcNanos::from_unix_nanos(5),
            count: 3,
            reason: LossReason::BufferFull,
        });
        let expected = r#"{"type":"loss","time":5,"count":3,"reason":"buffer_full"}"#;
        assert_eq!(loss.to_json(), expected);
    }

    #[test]
    fn the_same_pid_with_another_start_is_another_process() {
        let exact = ProcessId { pid: 1, started: BootNanos(1_234_567_891) };
        assert!(exact.is(ProcessId { pid: 1, started: BootNanos(1_230_000_000) }));
        assert!(!exact.is(ProcessId { pid: 1, started: BootNanos(1_240_000_000) }));
        assert!(!exact.is(ProcessId { pid: 2, started: exact.started }));
    }
}
