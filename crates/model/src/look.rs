//! A look at a machine as it is now, for people who are about to act on it. Looking changes nothing.
//!
//! The one idea: what stops and what lives is said of what is really open, not only of what was declared.
//! An answer is what the machine says of itself: shown as that, and believed by nobody else (law 11).

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::action::Action;
use crate::asset::Transport;
use crate::change::Changes;
use crate::finding::ProcessRef;
use crate::measure::Isolation;
use crate::survey::Survey;
use crate::time::{BootId, UtcNanos};

/// Connections in one answer. A busy server has a few thousand; 4,096 of about 80 bytes are a third of a
/// message, and the answer says of how many.
pub const MOST_CONNECTIONS: usize = 4_096;

/// Processes in one answer: 1,024 of at most 640 bytes are 640 KiB, below a message.
pub const MOST_PROCESSES: usize = 1_024;

/// Services in one answer: a machine has a few dozen. 256 of at most 256 bytes are 64 KiB, beside the
/// connections.
pub const MOST_SERVICES: usize = 256;

/// How much of the name of a print queue or of a folder is shown.
pub const SERVICE_BYTES: usize = 128;

/// Lines of each kind in which is told what a measure would do: a page of them.
pub const WOULD_LINES: usize = 32;
/// The bytes of each. With a path of 4 KiB in a line only its beginning is told: 3 × 32 × 512 bytes are 48 KiB.
const WOULD_BYTES: usize = 512;

/// Kinds of services that could not be looked for, each said once.
const MOST_UNSEEN: usize = 8;

/// How much of a command line is shown: enough to tell two shells apart.
pub const COMMAND_BYTES: usize = 256;

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum LookAt {
    /// Its open connections and the services that it is known to offer or use, though idle, and which would go
    /// on under this isolation.
    Connections(Isolation),
    /// Its processes.
    Processes,
    /// What starts by itself there or lets somebody in: its places are looked at anew, and the answer
    /// says since when each thing is known.
    Survey {
        /// Only what may have come at this time or later, or was seen to be gone since. `None`: all.
        since: Option<UtcNanos>,
    },
    /// What this would stop, take away or leave alone there now.
    Measure(Box<Action>),
    /// What its lookout saw to be changed. Only of a machine that knows the question:
    /// [`wire::CHANGES`](crate::wire::CHANGES).
    Changes {
        /// Only what changed at this time or later.
        since: UtcNanos,
    },
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Seen {
    /// Open connections that leave the machine.
    Connections {
        /// At most [`MOST_CONNECTIONS`]…
        listed: Vec<OpenConnection>,
        /// …of so many.
        of: u32,
        /// What it offers or uses, though nothing may be open to it now; [`MOST_SERVICES`] at most.
        #[serde(default)]
        services: Vec<IdleService>,
        /// What of these could not be looked for, and why.
        #[serde(default)]
        unseen: Vec<String>,
    },
    /// Processes.
    Processes {
        /// At most [`MOST_PROCESSES`]…
        listed: Vec<SeenProcess>,
        /// …of so many.
        of: u32,
        /// In which boot.
        boot: BootId,
    },
    /// What starts by itself or lets somebody in.
    Survey(Survey),
    /// What a measure would do.
    Would(Would),
    /// What was changed.
    Changes(Changes),
    /// It can't be looked at, and why.
    Unable(String),
}

impl Seen {
    /// Whether it is no larger than it may be: a machine's answer is taken apart by nobody else first.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        match self {
            Self::Connections { listed, services, unseen, .. } => {
                let is_long = |why: &String| why.len() > crate::limits::NAME_BYTES;
                listed.len() <= MOST_CONNECTIONS
                    && services.len() <= MOST_SERVICES
                    && services.iter().all(|service| service.called().len() <= SERVICE_BYTES)
                    && unseen.len() <= MOST_UNSEEN
                    && !unseen.iter().any(is_long)
            }
            Self::Processes { listed, .. } => {
                listed.len() <= MOST_PROCESSES
                    && listed.iter().all(|one| {
                        one.command.len() <= COMMAND_BYTES
                            && one.process.image.len() <= COMMAND_BYTES
                    })
            }
            Self::Survey(survey) => survey.is_bounded(),
            Self::Would(would) => would.is_bounded(),
            Self::Changes(changes) => changes.is_bounded(),
            Self::Unable(why) => why.len() <= crate::limits::NAME_BYTES,
        }
    }
}

/// A connection between this machine and another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenConnection {
    /// Its transport.
    pub transport: Transport,
    /// This machine's side.
    pub local: SocketAddr,
    /// The other side.
    pub remote: SocketAddr,
    /// The user that it belongs to, by number.
    pub user: u32,
    /// Whether it would go on.
    pub goes_on: bool,
}

/// How a service is known that may be idle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum KnownBy {
    /// A print queue of this machine whose printer is elsewhere, by its name.
    PrintQueue(String),
    /// A folder of another machine, by where it is here.
    NetworkFolder(String),
    /// A program of this machine waits at its port for others.
    Waiting,
    /// This machine opened a connection to it so many seconds ago.
    Used(u64),
}

/// A service that a machine offers or uses, whether or not anything is open to it now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdleService {
    /// How it is known.
    pub known_by: KnownBy,
    /// Its transport.
    pub transport: Transport,
    /// Its port, on whichever side serves.
    pub port: u16,
    /// The other side; `None`: anybody, or one that is known by a name, which nobody looks up here.
    pub peer: Option<IpAddr>,
    /// Whether it would go on; `None`: that can't be told by a name.
    pub goes_on: Option<bool>,
}

impl IdleService {
    /// What it is called on this machine; empty if it has no name of its own.
    #[must_use]
    pub fn called(&self) -> &str {
        match &self.known_by {
            KnownBy::PrintQueue(name) | KnownBy::NetworkFolder(name) => name,
            KnownBy::Waiting | KnownBy::Used(_) => "",
        }
    }
}

/// What a measure would do on its machine, in words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Would {
    /// Why all of it would be refused; `None`: it would be done.
    pub refused: Option<String>,
    /// What it would stop or take away: the first [`WOULD_LINES`]…
    pub stops: Vec<String>,
    /// …of so many.
    pub of: u32,
    /// What it would leave alone, because no order may touch it: the first so many…
    pub spares: Vec<String>,
    /// …of so many.
    pub spares_of: u32,
    /// What else a person wants to know.
    pub notes: Vec<String>,
}

impl Would {
    /// All of it would be refused.
    #[must_use]
    pub fn refused(why: impl Into<String>) -> Self {
        Self { refused: Some(why.into()), ..Self::default() }
    }

    /// It would stop this, or take it away.
    pub fn stops(&mut self, what: String) {
        self.of = self.of.saturating_add(1);
        if self.stops.len() < WOULD_LINES {
            self.stops.push(what);
        }
    }

    /// It would leave this alone.
    pub fn spares(&mut self, what: String) {
        self.spares_of = self.spares_of.saturating_add(1);
        if self.spares.len() < WOULD_LINES {
            self.spares.push(what);
        }
    }

    /// The same in no more than an answer may have.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        for lines in [&mut self.stops, &mut self.spares, &mut self.notes] {
            lines.truncate(WOULD_LINES);
            lines.iter_mut().for_each(shorten);
        }
        self.refused.iter_mut().for_each(shorten);
        self
    }

    fn is_bounded(&self) -> bool {
        let lines = [&self.stops, &self.spares, &self.notes];
        let is_short = |line: &String| line.len() <= WOULD_BYTES;
        self.refused.iter().all(is_short)
            && lines.iter().all(|lines| lines.len() <= WOULD_LINES && lines.iter().all(is_short))
    }
}

fn shorten(line: &mut String) {
    let mut end = line.len().min(WOULD_BYTES);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line.truncate(end);
}

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeenProcess {
    /// Which; its image is as much of it as could be read.
    pub process: ProcessRef,
    /// Its parent's number.
    pub parent: u32,
    /// Its user, by number.
    pub user: u32,
    /// The beginning of its command line, [`COMMAND_BYTES`] at most.
    pub command: String,
}
