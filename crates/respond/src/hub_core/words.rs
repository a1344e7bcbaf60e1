//! What the hub is told and what it says: the words between its mind and its shell.

use std::time::Duration;

use cordon_model::asset::Assignment;
use cordon_model::finding::{Finding, ReceivedFinding};
use cordon_model::ids::{ApprovalId, IncidentId, MachineId, MeasureId, OrderId};
use cordon_model::measure::{Isolation, Receipt};
use cordon_model::order::{Approver, Instruction};
use cordon_model::policy::Policy;
use cordon_model::record::Record;
use cordon_model::signed::Envelope;
use cordon_model::time::UtcNanos;
use cordon_model::wire::FromHub;
use serde::{Deserialize, Serialize};

use super::WayWord;
use crate::approval::{Approval, Identity};
use crate::delivery::Inbox;
use crate::grouping::{Seat, Story};
use crate::order::{MeasureLife, OrderLife};
use crate::signer_core::Proposal;

/// Something to keep on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Change {
    /// An incident, with what grouping knows of it.
    Story(Story),
    /// What a machine has brought to an incident; gone with it.
    Seat(Seat),
    /// A finding and its incident.
    Finding(ReceivedFinding, IncidentId),
    /// A machine's row.
    Machine(MachineRow),
    /// A question.
    Approval(Approval),
    /// A proposal that the signer has not answered yet.
    Proposed(Proposal),
    /// It has now.
    Answered(OrderId),
    /// An order.
    Order(OrderLife),
    /// A measure.
    Measure(MeasureLife),
    /// The policy in force.
    Policy(Policy, Envelope),
}

/// What is kept of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineRow {
    /// What it is, as signed.
    pub assignment: Assignment,
    /// The same as an envelope, to deliver.
    pub assignment_envelope: Envelope,
    /// Its newest permit, to deliver.
    pub permit: Option<Envelope>,
    /// The hashes of its break-glass codes, to deliver, and their revision.
    #[serde(default)]
    pub codes: Option<(u64, Envelope)>,
    /// What people in front of it are told, to deliver, and its revision.
    #[serde(default)]
    pub guidance: Option<(u64, Envelope)>,
    /// Which of its reports are taken.
    pub inbox: Inbox,
    /// The version that was spoken on its last link; 0: it had none, or of before this was kept.
    #[serde(default)]
    pub version: u16,
    /// What it says of its way to the hub.
    #[serde(default)]
    pub way: WayWord,
}

/// Something that people must see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// They are asked.
    Asked(ApprovalId),
    /// Nobody answered in time.
    Unanswered(ApprovalId),
    /// Seen, and not blocked.
    NotBlocked {
        /// The story.
        incident: IncidentId,
        /// The machine.
        machine: MachineId,
        /// Why nothing was done.
        why: String,
    },
    /// Ordered, and the machine shows that it is not, or not surely, in force.
    NotInForce {
        /// On which machine.
        machine: MachineId,
        /// Which measure.
        measure: MeasureId,
        /// What was seen.
        why: String,
    },
    /// Somebody at a machine opened it by a break-glass code.
    OpenedByCode {
        /// Which machine.
        machine: MachineId,
        /// The code's number.
        code: u8,
        /// When, by the machine's clock.
        at: UtcNanos,
    },
    /// Names of a machine's lifelines answer with what nobody has signed for.
    NameMoved {
        /// Which machine.
        machine: MachineId,
        /// Which names.
        names: Vec<String>,
        /// The commands that confirm them.
        commands: Vec<String>,
    },
    /// Serious, and nobody has it.
    NobodyHasIt(IncidentId),
    /// A lease ends soon.
    LeaseEnds {
        /// On which machine.
        machine: MachineId,
        /// In how long.
        within: Duration,
    },
}

impl Notice {
    /// The one machine that it is about, if it is about one.
    #[must_use]
    pub fn machine(&self) -> Option<MachineId> {
        match self {
            Self::NotBlocked { machine, .. }
            | Self::NotInForce { machine, .. }
            | Self::OpenedByCode { machine, .. }
            | Self::NameMoved { machine, .. }
            | Self::LeaseEnds { machine, .. } => Some(*machine),
            Self::Asked(_) | Self::Unanswered(_) | Self::NobodyHasIt(_) => None,
        }
    }
}

/// What the signer has to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForSigner {
    /// Sign this, or say why not.
    Propose(Proposal),
    /// A machine's receipt: see `SignerCore::learn`.
    Learn(Receipt),
    /// See `SignerCore::asked`.
    Asked(MachineId, ApprovalId),
    /// See `SignerCore::never_begun`.
    NeverBegun(MachineId, OrderId),
    /// See `SignerCore::heard`.
    Heard(MachineId, Option<Isolation>),
    /// See `SignerCore::not_in_force`.
    NotInForce(MachineId, MeasureId),
}

/// What the shell has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "one step has a handful, each moved once")]
pub enum Output {
    /// Write this down; all of one call in one transaction, before anything else.
    Keep(Change),
    /// Append this to the ledger, in the same transaction.
    Record(Record),
    /// Send this to a machine over this link.
    Send(MachineId, u64, FromHub),
    /// Tell the signer.
    Signer(ForSigner),
    /// Tell people.
    Tell(Notice),
}

/// What a person wants done, for a reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// To which machine.
    pub machine: MachineId,
    /// What.
    pub instruction: Instruction,
    /// Who.
    pub person: Approver,
    /// How sure that is.
    pub identity: Identity,
    /// In which story.
    pub incident: Option<IncidentId>,
    /// Why.
    pub reason: String,
}

/// A report that arrived, its receipt's signature checked by the shell against the machine's own key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "at most a message's sixteen exist at once")]
pub enum Arrived {
    /// A finding, and the machines that its event names as the other side.
    Finding(Box<Finding>, Vec<MachineId>),
    /// A genuine receipt.
    Receipt(Receipt),
    /// An order was refused.
    OrderRefused(OrderId, String),
    /// Events were lost, or a report could not be read: said, and gone on.
    Gap(String),
}
