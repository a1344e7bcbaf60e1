//! A look at a machine as it is now, for people who are about to act on it. Looking changes nothing.
//!
//! The one idea: what stops and what lives is said of what is really open, not only of what was declared.
//! An answer is what the machine says of itself: shown as that, and believed by nobody else (law 11).

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::asset::Transport;
use crate::finding::ProcessRef;
use crate::measure::Isolation;
use crate::time::BootId;

/// Connections in one answer. A busy server has a few thousand; 4,096 of about 80 bytes are a third of a
/// message, and the answer says of how many.
pub const MOST_CONNECTIONS: usize = 4_096;

/// Processes in one answer: 1,024 of at most 640 bytes are 640 KiB, below a message.
pub const MOST_PROCESSES: usize = 1_024;

/// How much of a command line is shown: enough to tell two shells apart.
pub const COMMAND_BYTES: usize = 256;

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum LookAt {
    /// Its open connections, and which would go on under this isolation.
    Connections(Isolation),
    /// Its processes.
    Processes,
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
    /// It can't be looked at, and why.
    Unable(String),
}

impl Seen {
    /// Whether it is no larger than it may be: a machine's answer is taken apart by nobody else first.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        match self {
            Self::Connections { listed, .. } => listed.len() <= MOST_CONNECTIONS,
            Self::Processes { listed, .. } => {
                listed.len() <= MOST_PROCESSES
                    && listed.iter().all(|one| {
                        one.command.len() <= COMMAND_BYTES
                            && one.process.image.len() <= COMMAND_BYTES
                    })
            }
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
