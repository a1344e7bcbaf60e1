//! The account of what was done: one line of the ledger (law 9). No patient data, ever.

use serde::{Deserialize, Serialize};

use crate::ids::{
    ApprovalId, FindingId, IncidentId, MachineId, MeasureId, OdsCode, OrderId, PermitId,
};
use crate::time::UtcNanos;

/// Who or what did it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Actor {
    /// A signed-in person.
    Person(String),
    /// The policy of this revision.
    Policy(u64),
    /// The hub itself.
    Hub,
    /// The signer.
    Signer,
    /// A machine's agent, as its link's certificate proved.
    Agent(MachineId),
    /// Somebody at the machine's own command line.
    LocalOperator(String),
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Deed {
    /// The ledger began.
    Began,
    /// A role started.
    Started,
    /// A person signed in.
    SignedIn,
    /// A sign-in was refused.
    SignInRefused,
    /// A person may sign in once with a link.
    SignInAllowed,
    /// A machine may enrol once with a token.
    EnrolmentAllowed,
    /// A machine was enrolled.
    Enrolled,
    /// An enrolment was refused.
    EnrolmentRefused,
    /// A machine was struck off: it may speak no more.
    StruckOff,
    /// What a machine is was said or changed.
    Assigned,
    /// A name of a machine's lifelines answers with what is not pinned, and people have to confirm it.
    NameChanged,
    /// What a machine says of its way to the hub has changed.
    WaySaid,
    /// What the policy does by itself was lowered by what a machine says of its way to the hub.
    ResponseLowered,
    /// A policy was set.
    PolicySet,
    /// A finding was received.
    Found(FindingId),
    /// An incident was opened.
    IncidentOpened,
    /// An incident was taken, commented or closed.
    IncidentChanged,
    /// People are asked.
    Asked(ApprovalId),
    /// A person answered.
    Answered {
        /// The question.
        approval: ApprovalId,
        /// Yes or no.
        is_approved: bool,
    },
    /// An order was signed.
    Ordered(OrderId),
    /// An order was refused by the signer.
    OrderRefused,
    /// A permit was signed.
    Permitted(PermitId),
    /// An order reached its machine.
    Delivered(OrderId),
    /// A measure changed its state.
    MeasureChanged(MeasureId),
    /// What people in front of a machine are told was said or changed.
    BedsideSaid,
    /// The hashes of a machine's break-glass codes were signed.
    CodesSigned,
    /// Break-glass codes were printed, or one was read out to somebody.
    CodesShown,
    /// A break-glass code opened a machine.
    OpenedByCode {
        /// Which of the machine's signed documents the code is of.
        revision: u64,
        /// The code's number.
        code: u8,
    },
    /// A plan against what was found on a machine was ordered.
    EliminationOrdered,
    /// A machine was looked at anew, against the plan.
    LookedAgain {
        /// Whether nothing of it is left.
        is_clean: bool,
    },
    /// A person's word on a machine's return to service.
    ReturnSaid,
    /// A machine's return to service was ordered.
    Returned {
        /// Although the gate was closed.
        is_despite: bool,
    },
    /// A gap: something that should have been seen was not.
    Gap,
}

impl Deed {
    /// What was done, as people read it.
    #[must_use]
    pub fn in_words(&self) -> &'static str {
        match self {
            Self::Began => "The ledger began",
            Self::Started => "A role started",
            Self::SignedIn => "Signed in",
            Self::SignInRefused => "A sign-in was refused",
            Self::SignInAllowed => "A sign-in was allowed",
            Self::EnrolmentAllowed => "An enrolment was allowed",
            Self::StruckOff => "The machine was struck off",
            Self::Enrolled => "A machine was enrolled",
            Self::EnrolmentRefused => "An enrolment was refused",
            Self::Assigned => "What the machine is was said",
            Self::NameChanged => "A lifeline’s name answers otherwise",
            Self::WaySaid => "What the machine says of its way to the hub changed",
            Self::ResponseLowered => "The machine’s own word lowered the policy’s response",
            Self::PolicySet => "The policy was set",
            Self::Found(_) => "A finding",
            Self::IncidentOpened => "The incident was opened",
            Self::IncidentChanged => "Worked on",
            Self::Asked(_) => "People are asked",
            Self::Answered { is_approved: true, .. } => "Answered: yes",
            Self::Answered { is_approved: false, .. } => "Answered: no",
            Self::Ordered(_) => "An order was signed",
            Self::OrderRefused => "An order was refused",
            Self::Permitted(_) => "A permit was signed",
            Self::Delivered(_) => "The order reached the machine",
            Self::MeasureChanged(_) => "The measure changed",
            Self::BedsideSaid => "What people at the machine are told was said",
            Self::CodesSigned => "Break-glass codes were made",
            Self::CodesShown => "Break-glass codes were shown",
            Self::OpenedByCode { .. } => "A break-glass code opened the machine",
            Self::EliminationOrdered => "A plan against what was found was ordered",
            Self::LookedAgain { is_clean: true } => "Looked at again: clean",
            Self::LookedAgain { is_clean: false } => "Looked at again: not clean, or not known",
            Self::ReturnSaid => "A word on the return to service",
            Self::Returned { is_despite: false } => "Released through the gate",
            Self::Returned { is_despite: true } => "Released despite the closed gate",
            Self::Gap => "A gap: something was not seen",
        }
    }
}

/// One line of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// When it was written down.
    pub at: UtcNanos,
    /// Whose ledger.
    pub organisation: OdsCode,
    /// Who did it.
    pub actor: Actor,
    /// What was done.
    pub deed: Deed,
    /// To which machine.
    pub machine: Option<MachineId>,
    /// In which story.
    pub incident: Option<IncidentId>,
    /// In words: the reason, the state, what changed.
    pub detail: String,
}
