//! What people are shown: plain data, each count with its "of how many", each state with its age.
//!
//! The one idea (laws 4 and 12): of several things that could be said of a machine, the weakest truth is
//! said, and what is not known is `None`, never "fine".

use std::time::Duration;

use cordon_model::approval::Needs;
use cordon_model::asset::{Assignment, ClinicalTier, Lifeline, PortRange, Protected, Transport};
use cordon_model::finding::ReceivedFinding;
use cordon_model::guidance::Bedside;
use cordon_model::ids::{ApprovalId, IncidentId, MachineId, MeasureId, OrderId};
use cordon_model::incident::Incident;
use cordon_model::measure::{Isolation, MeasureState, Receipt};
use cordon_model::order::Order;
use cordon_model::policy::Mode;
use cordon_model::record::Record;
use cordon_model::time::UtcNanos;
use cordon_model::wire::{Coverage, Status};
use cordon_respond::approval::Approval;
use cordon_respond::signer_core::CodesRow;
use cordon_store::{Counts, Organisation, StoredMeasure};
use serde::{Deserialize, Serialize};

use crate::foretell::Flow;

/// Something changed: look again. For server-sent events; carries nothing that needs a permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum News {
    /// An incident, or its timeline.
    Incident(IncidentId),
    /// A machine, its link or its measures.
    Machine(MachineId),
    /// A question to people.
    Approval(ApprovalId),
    /// The policy.
    Policy,
    /// The list of things that people must see.
    Attention,
}

/// Whether a machine is in contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contact {
    /// Its link is up, and it said how it is at this time.
    Linked {
        /// When it was last heard.
        heard: UtcNanos,
    },
    /// Nothing was heard since.
    Silent {
        /// When it was last heard.
        heard: UtcNanos,
    },
    /// It was enrolled and never heard.
    Never,
}

/// One machine in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MachineRow {
    /// Its id.
    pub id: MachineId,
    /// What people call it: the assignment's name, else what it calls itself.
    pub name: String,
    /// What it calls itself: shown, never trusted.
    pub host: String,
    /// Its tier as people said it; `None`: nobody has, and it is treated as clinical.
    pub tier: Option<ClinicalTier>,
    /// What it is, where others can stand in for it.
    pub kind: Option<String>,
    /// Ward or department.
    pub group: Option<String>,
    /// Whether it is in contact.
    pub contact: Contact,
    /// How far it is, or is meant to be, cut off: the strongest measure that is not over, or that it says it
    /// holds. `None` is "not isolated" only where [`MachineRow::unknown`] is `None` too.
    pub isolation: Option<Isolation>,
    /// The weakest truth over its measures that are not over, as it was last shown.
    pub truth: Option<MeasureState>,
    /// Why nobody knows what is in force on it now; `None`: it has said.
    pub unknown: Option<String>,
    /// What its agent can't see or do, with the reason.
    pub gaps: Vec<Coverage>,
    /// What its agent counted since its start, as it last said; `None`: it has not said.
    pub counts: Option<EventCounts>,
}

/// Events that an agent counted since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventCounts {
    /// Seen.
    pub seen: u64,
    /// Lost: known to have happened, and not seen.
    pub lost: u64,
}

/// One machine in full.
#[derive(Debug, Clone, PartialEq)]
pub struct MachineView {
    /// The row in the list.
    pub row: MachineRow,
    /// What the organisation said of it; `None`: not yet signed.
    pub assignment: Option<Assignment>,
    /// When it was enrolled.
    pub enrolled_at: UtcNanos,
    /// Build of its agent.
    pub build: Option<String>,
    /// What it can and can't see and do.
    pub coverage: Vec<Coverage>,
    /// How it last said it is.
    pub status: Option<Status>,
    /// How its break-glass codes are; `None`: the signer has not said yet.
    pub codes: Option<CodesRow>,
    /// What the organisation says for the person in front of it; `None`: the signer is away.
    pub bedside: Option<Bedside>,
    /// Its measures, newest first.
    pub measures: Vec<MeasureView>,
    /// Its newest findings…
    pub findings: Vec<ReceivedFinding>,
    /// …of so many.
    pub finding_count: u64,
    /// Questions about it that wait for an answer.
    pub questions: Vec<Approval>,
}

/// A measure with what began and what shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct MeasureView {
    /// The measure.
    pub measure: StoredMeasure,
    /// The order that began it, if one did and the hub has it.
    pub order: Option<Order>,
    /// What the machine signed about it, in order.
    pub receipts: Vec<Receipt>,
}

/// One incident in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IncidentRow {
    /// The incident.
    pub incident: Incident,
    /// Names of its first machines, at most [`NAMES_IN_ROW`]; `incident.machines` has all.
    pub machine_names: Vec<String>,
    /// How many of its machines are cut off, proven or not.
    pub isolated: usize,
    /// Questions of it that wait for an answer.
    pub questions: usize,
}

/// Names in an incident's row: what fits a line.
pub const NAMES_IN_ROW: usize = 5;

/// One incident in full.
#[derive(Debug, Clone, PartialEq)]
pub struct IncidentView {
    /// The incident.
    pub incident: Incident,
    /// Its machines, the first [`MACHINES_IN_VIEW`].
    pub machines: Vec<MachineRow>,
    /// What happened, oldest first.
    pub timeline: Vec<TimelineEntry>,
    /// How many entries there are; `timeline` has the first [`cordon_store::PAGE_ROWS`] after the cursor.
    pub timeline_total: u64,
    /// Where the timeline goes on.
    pub timeline_next: Option<cordon_store::Cursor>,
    /// Measures on its machines that belong to it, newest first.
    pub measures: Vec<MeasureView>,
    /// Its questions, answered ones too.
    pub questions: Vec<Approval>,
}

/// Machines that one incident's page shows in full.
pub const MACHINES_IN_VIEW: usize = 200;

/// One thing that happened in an incident.
#[derive(Debug, Clone, PartialEq)]
pub struct TimelineEntry {
    /// What was written in the ledger about it.
    pub record: Record,
    /// The finding in full (raw event, matched fields), where the record is about one.
    pub finding: Option<Box<ReceivedFinding>>,
}

/// What an isolation would do to a machine, before anybody decides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Preview {
    /// The machine.
    pub machine: MachineRow,
    /// How far.
    pub isolation: Isolation,
    /// What lives.
    pub lifelines: Vec<Lifeline>,
    /// Services that are cut; empty and [`Preview::cuts_everything_else`]: all but the lifelines.
    pub cut: Vec<(Transport, PortRange)>,
    /// Whether everything but lifelines, loopback, address configuration and the hub's link is cut.
    pub cuts_everything_else: bool,
    /// Who has to agree.
    pub needs: Needs,
    /// Others of its kind that are in contact and not cut off, of how many; `None`: no declared kind.
    pub stand_ins: Option<(usize, usize)>,
    /// What a careful person would want to know first.
    pub cautions: Vec<String>,
    /// What is open there now and how it would fare, by the machine's own word; or why that is not known.
    pub open_now: Result<OpenNow, String>,
}

/// What is open on a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenNow {
    /// By service, those that stop first.
    pub flows: Vec<Flow>,
    /// Connections that these are made of…
    pub listed: usize,
    /// …of so many.
    pub of: usize,
}

/// What came of a person's wish to do something to a machine, or to take it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ordered {
    /// An order was signed.
    Signed {
        /// The order, on its way to the machine.
        order: OrderId,
        /// Whether the machine's link is up now; if not, it gets the order at the next contact.
        is_linked: bool,
    },
    /// Others have to agree first, and are asked.
    Asked {
        /// The question.
        approval: ApprovalId,
        /// Who has to agree.
        needs: Needs,
    },
}

impl Ordered {
    /// The order, if one was signed.
    #[must_use]
    pub fn order(&self) -> Option<OrderId> {
        match self {
            Self::Signed { order, .. } => Some(*order),
            Self::Asked { .. } => None,
        }
    }
}

/// A measure that is not over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standing {
    /// Which.
    pub measure: MeasureId,
    /// What it does, in words.
    pub what: String,
}

/// What stands on one machine, for all that the hub and the machine itself say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StandingNow {
    /// The measures that the hub knows of.
    pub measures: Vec<Standing>,
    /// How far it is isolated; `None`: neither the hub knows of an isolation nor the machine says one.
    pub isolation: Option<Isolation>,
    /// Why nobody knows what is in force on it now, if so.
    pub unknown: Option<String>,
}

/// What came of the wish to take back what Cordon did to one machine by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Undone {
    /// Which machine.
    pub machine: MachineId,
    /// What people call it.
    pub name: String,
    /// What is being taken back; it is over once the machine has shown it.
    pub taken_back: Vec<Standing>,
    /// What was not ordered, and why.
    pub refused: Option<String>,
    /// Whether the machine's link is up now.
    pub is_linked: bool,
}

/// What the organisation says of a machine: what a person fills in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AssignmentDraft {
    /// Its name; `None`: as it calls itself.
    pub name: Option<String>,
    /// Its tier.
    pub tier: Option<ClinicalTier>,
    /// What it is, where others can stand in for it.
    pub kind: Option<String>,
    /// Ward or department.
    pub group: Option<String>,
    /// The flows that containment keeps.
    pub lifelines: Vec<Lifeline>,
    /// What is needed for care there; `None`: as it was said before.
    pub protected: Option<Protected>,
    /// What the person in front of it is told; `None`: as it was said before.
    pub bedside: Option<Bedside>,
}

/// Something that people must see, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attention {
    /// Since when.
    pub at: UtcNanos,
    /// What.
    pub notice: cordon_respond::hub_core::Notice,
}

/// How the ledger is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerStatus {
    /// Records on disk.
    pub size: u64,
    /// Records that the signer's newest checkpoint covers.
    pub covered: u64,
    /// When that checkpoint was kept by this process; `None`: not since the start.
    pub checkpoint_at: Option<UtcNanos>,
}

impl LedgerStatus {
    /// How old the newest checkpoint is.
    #[must_use]
    pub fn checkpoint_age(&self, now: UtcNanos) -> Option<Duration> {
        self.checkpoint_at.map(|at| now.since(at))
    }
}

/// How the hub is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubStatus {
    /// Whose hub.
    pub organisation: Organisation,
    /// How much is done without asking.
    pub mode: Mode,
    /// How much there is of everything.
    pub counts: Counts,
    /// Machines whose link is up.
    pub linked: usize,
    /// The ledger.
    pub ledger: LedgerStatus,
    /// Why the signer does not sign the ledger any more: it was altered, or restored from a backup. An
    /// alarm, until somebody has found out.
    pub ledger_alarm: Option<String>,
    /// `None`: the signer answered last time; else what was seen.
    pub signer_away: Option<String>,
    /// What arrived and was refused since the start, by kind.
    pub refused: Refused,
}

/// What arrived and was refused since the start (law 8).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Enrolments.
    pub enrolments: u64,
    /// Connections that TLS, the store or the version refused.
    pub links: u64,
    /// Messages and reports that could not be read or were not genuine.
    pub messages: u64,
}
