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
    /// A gap: something that should have been seen was not.
    Gap,
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
