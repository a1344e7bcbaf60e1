//! What people are shown: plain data, each count with its "of how many", each state with its age.
//!
//! The one idea (laws 4 and 12): of several things that could be said of a machine, the weakest truth is
//! said, and what is not known is `None`, never "fine".

use std::net::IpAddr;
use std::time::Duration;

use cordon_model::action::{Action, FilePath};
use cordon_model::approval::Needs;
use cordon_model::asset::{Assignment, ClinicalTier, Lifeline, PortRange, Protected, Transport};
use cordon_model::finding::ReceivedFinding;
use cordon_model::gate::Statement;
use cordon_model::guidance::Bedside;
use cordon_model::ids::{ApprovalId, IncidentId, MachineId, MeasureId, OrderId};
use cordon_model::incident::Incident;
use cordon_model::look::Would;
use cordon_model::measure::{Isolation, MeasureState, Receipt};
use cordon_model::named::{HostName, NamedDraft, NamedLifeline};
use cordon_model::order::Order;
use cordon_model::policy::Mode;
use cordon_model::record::Record;
use cordon_model::time::UtcNanos;
use cordon_model::wire::{Coverage, Status};
use cordon_respond::approval::Approval;
use cordon_respond::eliminate::Plan;
use cordon_respond::names::Why;
use cordon_respond::return_gate::Gate;
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

/// The word for an isolation that no receipt has shown: never without one (law 4).
pub const SAID_ONLY: &str = "as it last said, not shown";

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
    /// The weakest truth over its measures that are not over, as it was last shown. `None` beside an
    /// isolation: the machine said so and nothing has shown it ([`SAID_ONLY`]).
    pub truth: Option<MeasureState>,
    /// The number of the break-glass code by which somebody opened it, while only people isolate it.
    pub opened_by_code: Option<u8>,
    /// Why nobody knows what is in force on it now; `None`: it has said.
    pub unknown: Option<String>,
    /// What its agent can't see or do, with the reason.
    pub gaps: Vec<Coverage>,
    /// It says that an isolation in full may take it out of its hub's reach; `None`: it does not say so.
    pub lowers: Option<Lowers>,
    /// Names of its lifelines that answer otherwise than what is pinned, for people to confirm.
    pub to_confirm: Vec<ToConfirm>,
    /// What its agent counted since its start, as it last said; `None`: it has not said.
    pub counts: Option<EventCounts>,
}

/// A machine's own word, which nobody else can check, by which it is cut off less than the policy would by
/// itself: it is segmented in place of an isolation in full, and people are asked for the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lowers {
    /// Since when it says so, by the hub's clock.
    pub since: UtcNanos,
    /// How many of the policy's responses were lowered by it since.
    pub times: u32,
}

impl Lowers {
    /// What that means, for whoever looks at the machine.
    #[must_use]
    pub fn in_words(&self) -> String {
        let times = match self.times {
            0 => "not yet".to_owned(),
            1 => "once".to_owned(),
            times => format!("{times} times"),
        };
        format!(
            "lowers what the policy does by itself: it says of its way to the hub, since {}, that an isolation in \
             full may cut it, so it is segmented instead and people are asked for the rest (so far {times}). \
             Nobody else can check that: is it so?",
            self.since
        )
    }
}

/// Addresses of a name that people have to confirm, or else stay cut in an isolation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToConfirm {
    /// The name.
    pub host: HostName,
    /// Its addresses, and why each is not pinned by itself. None in a list that has no room for them.
    pub addresses: Vec<(IpAddr, Why)>,
}

impl ToConfirm {
    /// The command that confirms them. By the machine's id: of two that are called so the signer takes neither, and one
    /// that was struck off, or that a stolen hub made up, may have the name too.
    #[must_use]
    pub fn command(&self, machine: &MachineRow) -> String {
        let mut command = format!("cordon lifelines confirm {} {}", machine.id, self.host);
        for (address, _) in &self.addresses {
            command += &format!(" {address}");
        }
        if self.addresses.iter().any(|(_, why)| *why == Why::LateralMovement) {
            command += " --signed-off-by 'YOUR NAME'";
        }
        command
    }
}

/// How a name of a machine's lifelines is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NameNow {
    /// What is looked up.
    pub host: HostName,
    /// What people call the lifelines of this name.
    pub called: Vec<String>,
    /// Within which networks it is followed without a person.
    pub within: Vec<String>,
    /// What is pinned.
    pub pinned: Vec<IpAddr>,
    /// When it was last looked up since the hub's start; `None`: not yet.
    pub looked_at: Option<UtcNanos>,
    /// When it last answered.
    pub answered_at: Option<UtcNanos>,
    /// Why the last look gave nothing, if so.
    pub trouble: Option<String>,
    /// What people have to confirm.
    pub to_confirm: Vec<(IpAddr, Why)>,
    /// What is pinned, and was not in the last answer. It is kept alive all the same.
    pub unanswered: Vec<IpAddr>,
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
    /// The public key that what it signs is checked by: receipts, and archives of evidence.
    pub receipt_key: Option<[u8; 32]>,
    /// Build of its agent.
    pub build: Option<String>,
    /// What it can and can't see and do.
    pub coverage: Vec<Coverage>,
    /// How it last said it is.
    pub status: Option<Status>,
    /// How the names of its lifelines are.
    pub names: Vec<NameNow>,
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
    /// Whom the policy names for this hour, where only they may agree; `None`: whoever may answer.
    pub night: Option<Vec<String>>,
    /// Others of its kind that are in contact and not cut off, of how many; `None`: no declared kind.
    pub stand_ins: Option<(usize, usize)>,
    /// What a careful person would want to know first.
    pub cautions: Vec<String>,
    /// What is open there now and how it would fare, by the machine's own word; or why that is not known.
    pub open_now: Result<OpenNow, String>,
}

impl Preview {
    /// Whether the machine says that its hub would not reach it any more.
    #[must_use]
    pub fn loses_the_hub(&self) -> bool {
        self.isolation == Isolation::Full && self.machine.gaps.iter().any(Coverage::loses_the_hub)
    }
}

/// What a measure besides the isolation would do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeasurePreview {
    /// The machine.
    pub machine: MachineRow,
    /// What would be done.
    pub action: Action,
    /// What the organisation has named as needed for care there: no order touches it.
    pub protected: Protected,
    /// Who has to agree.
    pub needs: Needs,
    /// Whom the policy names for this hour, where only they may agree; `None`: whoever may answer.
    pub night: Option<Vec<String>>,
    /// What a careful person would want to know first.
    pub cautions: Vec<String>,
    /// What it would stop, take away or leave alone now, by the machine's own word; or why that is not known.
    pub would: Result<Would, String>,
}

/// What is open on a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenNow {
    /// By service, those that stop first: what is open, and what the machine is known to offer or use.
    pub flows: Vec<Flow>,
    /// What of these could not be looked for, and why.
    pub unseen: Vec<String>,
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
        /// Whether the machine is in contact: linked, and heard in the last seconds. If not, it gets the
        /// order at the next contact.
        is_linked: bool,
    },
    /// Others have to agree first, and are asked.
    Asked {
        /// The question.
        approval: ApprovalId,
        /// Who has to agree.
        needs: Needs,
        /// Whom the policy names for this hour, where only they may say yes.
        night: Option<Vec<String>>,
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
    /// What is being taken back, by a signed order; it is over once the machine has shown it.
    pub taken_back: Vec<Standing>,
    /// What waits for the signer: it is taken back by itself once the signer answers.
    pub waits: Vec<Standing>,
    /// What was not ordered, and why.
    pub refused: Option<String>,
    /// Whether the machine is in contact: linked, and heard in the last seconds.
    pub is_linked: bool,
}

/// The plan against what was found on a machine, as it was made just now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanView {
    /// The machine.
    pub machine: MachineRow,
    /// Names what is left of the plan: it is ordered by this.
    pub digest: String,
    /// The plan.
    pub plan: Plan,
}

/// What came of the wish to have a plan ordered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum PlanOrdered {
    /// Nothing is ordered: looked at again, it is another plan. This one.
    Differs(Box<PlanView>),
    /// Each of its steps that a measure does.
    Ordered(Vec<StepOrdered>),
}

/// What came of one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepOrdered {
    /// Its id in the plan.
    pub id: String,
    /// What it is about.
    pub what: String,
    /// What came of it.
    pub came: StepCame,
}

/// See [`StepOrdered`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum StepCame {
    /// An order was signed.
    Signed {
        /// The order.
        order: OrderId,
        /// Whether the machine's link is up now.
        is_linked: bool,
    },
    /// Others have to agree first, and are asked.
    Asked {
        /// The question.
        approval: ApprovalId,
        /// Who has to agree.
        needs: Needs,
    },
    /// It was not ordered, and why.
    Refused(String),
}

/// Whether a machine may return to service, with what was said of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateView {
    /// The machine.
    pub machine: MachineRow,
    /// Whether it may.
    pub is_open: bool,
    /// What is met and what is missing.
    pub gate: Gate,
    /// Since when it is isolated; `None`: it is not, or nobody knows.
    pub isolated_since: Option<UtcNanos>,
    /// What was shown and said, the newest first…
    pub statements: Vec<Statement>,
    /// …of so many.
    pub of: u64,
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
    /// Those that people know by name, before the hub has resolved them.
    pub named: Vec<NamedDraft>,
    /// By which names some of [`AssignmentDraft::lifelines`] are known; the hub's to fill in.
    pub names: Vec<NamedLifeline>,
    /// What is needed for care there; `None`: as it was said before.
    pub protected: Option<Protected>,
    /// The filesystems there that are watched for denied contents; `None`: as it was said before.
    pub watched: Option<Vec<FilePath>>,
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
    /// On which machine, and what people call it; of an incident with several the first. `None`: of an
    /// incident that names none.
    pub machine: Option<(MachineId, String)>,
    /// How many more of the same story there are: machines of an incident, questions.
    pub and_more: usize,
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
    /// Which rows could not be read at the start, and what to do; `None`: all could.
    pub set_aside: Option<String>,
    /// `None`: the signer answered last time; else what was seen.
    pub signer_away: Option<String>,
    /// Why descriptions, addresses of names, guidance and codes wait: the signer signed too many of them. `None`:
    /// they do not.
    pub held_up: Option<String>,
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
