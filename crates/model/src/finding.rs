//! What an event means: a rule matched it (OCSF 2004, Detection Finding).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::event::RawEvent;
use crate::ids::{FindingId, MachineId};
use crate::time::{BootNanos, UtcNanos};

/// The rule of the finding that a machine's agent makes of its opening by a break-glass code. The hub opens
/// an incident for it and isolates nothing because of it: people opened the machine.
pub const OPENED_BY_CODE: &str = "0c4c7c0e-6a0b-4ad0-9d3a-6d0b6c1f7e52";

/// How serious a rule's author says a match is (Sigma specification 2.1, `level`).
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// For context only.
    #[default]
    Informational,
    /// Rarely worth a look by itself.
    Low,
    /// Worth a look today.
    Medium,
    /// Worth a look now.
    High,
    /// Act.
    Critical,
}

impl Level {
    /// Sigma's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Informational => "informational",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// OCSF `severity_id`: 1 informational to 5 critical.
    #[must_use]
    pub fn ocsf_severity(self) -> u8 {
        self as u8 + 1
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Level {
    type Err = UnknownLevel;
    fn from_str(text: &str) -> Result<Self, UnknownLevel> {
        [Self::Informational, Self::Low, Self::Medium, Self::High, Self::Critical]
            .into_iter()
            .find(|level| level.as_str() == text)
            .ok_or_else(|| UnknownLevel(text.chars().take(64).collect()))
    }
}

/// A word that is no level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no level: use informational, low, medium, high or critical")]
pub struct UnknownLevel(String);

/// The rule behind a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleRef {
    /// The rule's id, a UUID in most packs.
    pub id: String,
    /// The rule's title.
    pub title: String,
    /// Its level.
    pub level: Level,
    /// Its tags as written: `attack.lateral-movement`, `attack.t1021.002`…
    pub tags: Vec<String>,
}

/// One reason of a match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MatchedField {
    /// The field's name; empty for a keyword.
    pub field: String,
    /// The value that was seen, cut to a readable length.
    pub value: String,
    /// What the rule asked of it: `endswith \vssadmin.exe`.
    pub pattern: String,
}

/// The process that a finding is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessRef {
    /// Process id on its machine.
    pub pid: u32,
    /// When it started; with the pid it names one process of one boot.
    pub started: BootNanos,
    /// Path of its executable.
    pub image: String,
}

/// A rule matched an event. What an agent says of its own machine; who the machine is follows from
/// the link's certificate, never from here (law 11).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// Names rule and event; doubles fold.
    pub id: FindingId,
    /// The rule.
    pub rule: RuleRef,
    /// The machine's name as the event says it.
    pub host: String,
    /// When the event happened, by that machine's clock.
    pub time: UtcNanos,
    /// When it happened in that machine's boot time, for live events.
    pub boot_time: Option<BootNanos>,
    /// The process concerned, for live process events.
    pub process: Option<ProcessRef>,
    /// Why it matched.
    pub matched: Vec<MatchedField>,
    /// The event in full.
    pub raw: RawEvent,
    /// SHA-256 of the complete raw event, before any cut.
    #[serde(with = "serde_bytes")]
    pub raw_sha256: [u8; 32],
}

/// A finding as its hub received it: with the machine that the link proved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceivedFinding {
    /// The machine that reported it.
    pub machine: MachineId,
    /// When the hub had it on disk.
    pub received: UtcNanos,
    /// What was found.
    pub finding: Finding,
}
