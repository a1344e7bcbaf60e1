//! What the kernel tells of this machine: processes that begin and end, and TCP connections.
//!
//! Open a [`Sensor`] as root, then drop all privileges; give it a function that takes the events:
//!
//! ```no_run
//! use cordon_agent::sensor::{Sensor, SensorOptions};
//!
//! let sensor = Sensor::open(&SensorOptions::default());
//! for coverage in sensor.coverage() {
//!     println!("{coverage}"); // what is seen, by what, and what is not
//! }
//! // … drop root here …
//! let running = sensor.start(|event, processes| {
//!     println!("{}", event.to_json());
//!     let _ = processes.ancestry(1);
//! })?;
//! # drop(running); // stops it
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! The one idea: what matters leaves the kernel inside the event (see `bpf/sensor.bpf.c`), so that the
//! reader needs no privilege and no second look at a process that may be gone. The function runs on the
//! sensor's own thread, which the kernel wakes at once: between a program's start and the function lie
//! tens of microseconds. If the function is slow, the ring buffer holds what comes; if that is full,
//! [`Loss`] says how much is missing.
//!
//! | file | owns |
//! |---|---|
//! | `kernel` | loading, attaching, mapped memory; all the `unsafe` |
//! | `record` | the bytes of the ring buffer as values |
//! | `connector` | the fallback where eBPF is refused |
//! | [`process_table`] | who is who, and who forked whom |
//! | [`event`] | what is told, and its JSON |
//! | [`sigma`] | the same in the words of the rules |
//! | [`Recording`] | what was seen, kept in files for `cordon scan` |
//! | [`Place`] | in which namespaces the agent is, so what it can see |
//! | `proc_files`, `accounts` | `/proc` and `/etc/passwd` |

mod accounts;
pub(crate) mod connector;
pub mod event;
mod kernel;
mod place;
pub(crate) mod proc_files;
pub mod process_table;
mod reading;
mod record;
mod recording;
pub mod sigma;

use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

pub use self::event::{
    Connection, Direction, Endpoint, Loss, LossReason, Parent, ProcessExit, ProcessId,
    ProcessStart, SensorEvent, User,
};
pub use self::place::Place;
pub use self::process_table::ProcessTable;
pub use self::recording::{Recording, RecordingCounts};
pub use self::sigma::SensorFields;

use self::connector::Connector;
use self::kernel::{Kernel, Scope};
use self::reading::Reader;

/// How long the reader sleeps at most when nothing wakes it: records that hurry nobody (forks, ends of
/// processes) and losses are told at least that often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What to sense, and by what.
#[derive(Debug, Clone)]
pub struct SensorOptions {
    /// Only this network namespace (inode of `/proc/PID/ns/net`), or the whole machine. Several agents
    /// on one kernel (a drill) see one each.
    pub network_namespace: Option<u64>,
    /// By what.
    pub choice: SourceChoice,
    /// The ring buffer's size: a power of two, at least one page.
    pub ring_bytes: u32,
}

impl Default for SensorOptions {
    fn default() -> Self {
        Self { network_namespace: None, choice: SourceChoice::Best, ring_bytes: kernel::RING_BYTES }
    }
}

/// Which source to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceChoice {
    /// eBPF; the proc connector where that is refused.
    Best,
    /// The proc connector, even where eBPF would work.
    ProcConnector,
}

/// Whether one thing is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coverage {
    /// The thing.
    pub what: &'static str,
    /// By what it is seen; `None` if it is not.
    pub seen_by: Option<&'static str>,
    /// What is not seen of it, and why.
    pub gap: Option<String>,
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.seen_by {
            Some(source) => write!(f, "{}: seen by {source}", self.what)?,
            None => write!(f, "{}: not seen", self.what)?,
        }
        self.gap.as_ref().map_or(Ok(()), |gap| write!(f, " ({gap})"))
    }
}

enum Source {
    Kernel(Box<Kernel>),
    Connector(Connector),
    Nothing,
}

/// An open sensor. Dropping it detaches all programs.
pub struct Sensor {
    source: Source,
    reader: Reader,
    coverage: Vec<Coverage>,
}

impl Sensor {
    /// Opens the best source there is. It never fails: what can't be seen is said by
    /// [`Sensor::coverage`]. Everything that needs root happens here.
    #[must_use]
    pub fn open(options: &SensorOptions) -> Self {
        let only = options.network_namespace;
        let place = Place::of_this_process();
        let mut reader = Reader::new(only);
        let by_kernel = match options.choice {
            SourceChoice::ProcConnector => Err("the proc connector was asked for".to_owned()),
            SourceChoice::Best => open_kernel(only, &place, options.ring_bytes),
        };
        let is_root = nix::unistd::geteuid().is_root();
        let by_kernel = by_kernel.map_err(|why| match is_root {
            true => why,
            false => format!("the agent is not root; {why}"),
        });
        let (source, coverage) = match by_kernel {
            Ok(kernel) => (Source::Kernel(Box::new(kernel)), kernel_coverage(only, &place)),
            Err(no_kernel) => match open_connector(only, &place) {
                Ok(connector) => (Source::Connector(connector), connector_coverage(&no_kernel)),
                Err(no_connector) => (Source::Nothing, no_coverage(&no_kernel, &no_connector)),
            },
        };
        // After attaching: what happens meanwhile waits in the buffer, and is applied on top.
        if !matches!(source, Source::Nothing) {
            reader.learn_all();
        }
        Self { source, reader, coverage }
    }

    /// What is seen, by what, and what is not.
    #[must_use]
    pub fn coverage(&self) -> &[Coverage] {
        &self.coverage
    }

    /// Who is who.
    #[must_use]
    pub const fn processes(&self) -> &ProcessTable {
        &self.reader.processes
    }

    /// Hands over what has happened since (of very much, a part: it is to be called again), and does not
    /// wait.
    pub fn read(&mut self, mut handler: impl FnMut(SensorEvent, &ProcessTable)) {
        match &mut self.source {
            Source::Kernel(kernel) => self.reader.drain_kernel(kernel, &mut handler),
            Source::Connector(connector) => self.reader.drain_connector(connector, &mut handler),
            Source::Nothing => {}
        }
    }

    /// Waits until there is something to read, at most `timeout`.
    ///
    /// # Errors
    /// When the kernel refuses to wait (out of memory).
    pub fn wait(&self, timeout: Duration) -> io::Result<()> {
        self.wait_or_stop(timeout, None).map(drop)
    }

    /// Reads on a thread of its own, and calls `handler` there for each event, until the result is
    /// dropped.
    ///
    /// # Errors
    /// When no thread can be made.
    pub fn start<H>(mut self, mut handler: H) -> io::Result<RunningSensor>
    where
        H: FnMut(SensorEvent, &ProcessTable) + Send + 'static,
    {
        let (stop, stopped) = UnixStream::pair()?;
        let thread = std::thread::Builder::new().name("sensor".into()).spawn(move || {
            loop {
                match self.wait_or_stop(LOOK_EVERY, Some(stopped.as_fd())) {
                    Ok(Woken::ToStop) => return,
                    Ok(Woken::ToRead) => {}
                    Err(error) => {
                        // Out of memory for the moment: reading goes on, by the clock.
                        tracing::warn!(%error, "the sensor can't wait for the kernel");
                        std::thread::sleep(LOOK_EVERY);
                    }
                }
                self.read(&mut handler);
            }
        })?;
        Ok(RunningSensor { stop: Some(stop), thread: Some(thread) })
    }

    fn wait_or_stop(
        &self,
        timeout: Duration,
        stopped: Option<BorrowedFd<'_>>,
    ) -> io::Result<Woken> {
        let mut watched = Vec::with_capacity(2);
        watched.extend(stopped.map(|stopped| PollFd::new(stopped, PollFlags::POLLIN)));
        match &self.source {
            Source::Kernel(kernel) => watched.push(PollFd::new(kernel.as_fd(), PollFlags::POLLIN)),
            Source::Connector(connector) => {
                watched.push(PollFd::new(connector.as_fd(), PollFlags::POLLIN));
            }
            Source::Nothing => {}
        }
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        match poll(&mut watched, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        // Our end of the pair closed: any event at all on the other one.
        let is_stopped = stopped.is_some() && watched.first().and_then(PollFd::any) == Some(true);
        Ok(if is_stopped { Woken::ToStop } else { Woken::ToRead })
    }
}

enum Woken {
    ToRead,
    ToStop,
}

/// A sensor that reads on a thread of its own. Dropping it stops it, after the event it is at.
#[derive(Debug)]
pub struct RunningSensor {
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for RunningSensor {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the sensor's thread had panicked");
        }
    }
}

fn open_kernel(only: Option<u64>, place: &Place, ring_bytes: u32) -> Result<Kernel, String> {
    let number = |namespace: Option<u64>| {
        let number = namespace.map_or(Ok(0), u32::try_from);
        number.map_err(|_| "namespaces have numbers of 32 bits".to_owned())
    };
    let scope =
        Scope { network_namespace: number(only)?, pid_namespace: number(place.own_pid_namespace)? };
    Kernel::open(scope, ring_bytes).map_err(|error| with_causes(&error))
}

fn open_connector(only: Option<u64>, place: &Place) -> Result<Connector, String> {
    if place.own_pid_namespace.is_some() {
        // It would not even answer (drivers/connector/cn_proc.c).
        return Err(
            "the proc connector tells nothing to a PID namespace of its own, and the agent \
                    is in one"
                .to_owned(),
        );
    }
    if only.is_some() && only != place.network {
        return Err("the proc connector can't tell network namespaces apart once the agent is \
                    unprivileged, and another one than its own was asked for"
            .to_owned());
    }
    Connector::open().map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "the proc connector is not in this network namespace, or not in this kernel".to_owned()
        }
        _ => format!("the proc connector was refused: {error}"),
    })
}

/// An error and what caused it, in one line; causes that repeat the line before are left out.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let line = next.to_string();
        if !text.contains(&line) {
            text = format!("{text}: {line}");
        }
        cause = next.source();
    }
    // The verifier's log follows the first line; it is for those who change the program.
    text.lines().next().unwrap_or_default().to_owned()
}

const STARTS: &str = "process starts";
const ENDS: &str = "process ends";
const OUTGOING: &str = "outgoing TCP connections";
const INCOMING: &str = "incoming TCP connections";
const DATAGRAMS: &str = "UDP and other traffic";
const FILES: &str = "files written";

const EBPF: &str = "eBPF";
const CONNECTOR: &str = "the proc connector";

fn not_built(what: &'static str) -> Coverage {
    let gap = Some("no sensor for it in this version".to_owned());
    Coverage { what, seen_by: None, gap }
}

fn kernel_coverage(only: Option<u64>, place: &Place) -> Vec<Coverage> {
    let elsewhere = only.map(|only| format!("only those of network namespace {only}"));
    let outside = place
        .own_pid_namespace
        .map(|own| format!("only of processes in PID namespace {own}, the agent's own"));
    let seen = |what, gap: Option<&str>| {
        let limits = elsewhere.as_deref().into_iter().chain(outside.as_deref());
        let gaps: Vec<&str> = gap.into_iter().chain(limits).collect();
        let gap = Some(gaps.join("; ")).filter(|gap| !gap.is_empty());
        Coverage { what, seen_by: Some(EBPF), gap }
    };
    vec![
        seen(STARTS, None),
        seen(ENDS, None),
        seen(OUTGOING, Some("their local port only if the program chose it")),
        seen(INCOMING, Some("with the process that listens, not the one that accepts")),
        not_built(DATAGRAMS),
        not_built(FILES),
    ]
}

fn connector_coverage(no_kernel: &str) -> Vec<Coverage> {
    let seen = |what, gap: &str| Coverage {
        what,
        seen_by: Some(CONNECTOR),
        gap: Some(format!("{gap}; no eBPF: {no_kernel}")),
    };
    let unseen = |what| Coverage { what, seen_by: None, gap: Some(no_kernel.to_owned()) };
    vec![
        seen(
            STARTS,
            "those that end at once are only counted; of other users' programs an agent without root sees \
             the file only as the program names itself, and neither the directory nor the network \
             namespace",
        ),
        seen(ENDS, "late when many"),
        unseen(OUTGOING),
        unseen(INCOMING),
        not_built(DATAGRAMS),
        not_built(FILES),
    ]
}

fn no_coverage(no_kernel: &str, no_connector: &str) -> Vec<Coverage> {
    let unseen = |what, gap: String| Coverage { what, seen_by: None, gap: Some(gap) };
    let processes = format!("{no_kernel}; {no_connector}");
    let connections = no_kernel.to_owned();
    vec![
        unseen(STARTS, processes.clone()),
        unseen(ENDS, processes),
        unseen(OUTGOING, connections.clone()),
        unseen(INCOMING, connections),
        not_built(DATAGRAMS),
        not_built(FILES),
    ]
}
