//! What belongs together: findings of one story, growing in risk (OCSF 2005, Incident Finding).

use serde::{Deserialize, Serialize};

use crate::finding::Level;
use crate::ids::{FindingId, IncidentId, MachineId, OdsCode};
use crate::time::UtcNanos;

/// Where people are with an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IncidentState {
    /// Nobody has it: it escalates (law 10).
    New,
    /// Somebody has it.
    Owned,
    /// Done, with a reason.
    Closed,
}

/// A story.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Incident {
    /// Its id.
    pub id: IncidentId,
    /// Whose.
    pub organisation: OdsCode,
    /// What to call it: the most serious finding's rule and machine.
    pub title: String,
    /// Where people are with it.
    pub state: IncidentState,
    /// Who has it.
    pub owner: Option<String>,
    /// The most serious finding's level.
    pub level: Level,
    /// Grows with each new kind of finding; see `respond::grouping`.
    pub risk: u32,
    /// First event.
    pub first: UtcNanos,
    /// Last event.
    pub last: UtcNanos,
    /// Machines concerned, in the order in which they joined.
    pub machines: Vec<MachineId>,
    /// Its findings, newest last, at most the limit that `respond::grouping` states.
    pub findings: Vec<FindingId>,
    /// How many findings it has had, those beyond the limit included.
    pub finding_count: u64,
}
