//! What the hub may ask of the signer, and why the signer may say no.

use std::time::Duration;

use cordon_model::action::ActionError;
use cordon_model::approval::Needs;
use cordon_model::asset::LifelineError;
use cordon_model::finding::Level;
use cordon_model::ids::{ApprovalId, FindingId, IncidentId, MachineId, OrderId};
use cordon_model::measure::Isolation;
use cordon_model::order::{Approver, Instruction};
use cordon_model::time::span;
use serde::{Deserialize, Serialize};

use super::{MOST_MACHINES, MOST_UNDESCRIBED};
use crate::decision::{AskReason, WatchReason};
use crate::lease::BadTerms;
use crate::names::PinRefused;
use crate::peoples_brake::Spent;

/// What the hub wants signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proposal {
    /// The order's id, chosen by the hub: the same id gets the same answer.
    pub id: OrderId,
    /// Which machine.
    pub machine: MachineId,
    /// What to do.
    pub instruction: Instruction,
    /// Who allows it.
    pub basis: Basis,
    /// The story.
    pub incident: Option<IncidentId>,
    /// Why, for people.
    pub reason: String,
}

/// Who allows a proposal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Basis {
    /// The signed policy, for a finding.
    Policy {
        /// The finding.
        finding: FindingId,
        /// Its level.
        level: Level,
    },
    /// The signed policy, for a finding about which people were asked and nobody answered in time.
    Unanswered {
        /// The question.
        approval: ApprovalId,
        /// The finding.
        finding: FindingId,
        /// Its level.
        level: Level,
    },
    /// People.
    People {
        /// The question that they answered, if there was one.
        approval: Option<ApprovalId>,
        /// Who.
        people: Vec<Approver>,
    },
}

impl Basis {
    /// The question of which it follows, answered or not.
    #[must_use]
    pub fn question(&self) -> Option<ApprovalId> {
        match self {
            Self::Policy { .. } => None,
            Self::Unanswered { approval, .. } => Some(*approval),
            Self::People { approval, .. } => *approval,
        }
    }
}

/// Why the signer does not sign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Refusal {
    /// Not in the registry.
    #[error("no such machine: assign it first")]
    UnknownMachine,
    /// Too many machines.
    #[error(
        "the signer knows {MOST_MACHINES} machines, or {MOST_UNDESCRIBED} that nobody described: its limits. Where it \
         is the second, one that root describes with its token (`cordon enrol-token`) is taken all the same"
    )]
    TooManyMachines,
    /// Of another organisation.
    #[error("that belongs to another organisation")]
    WrongOrganisation,
    /// A lifeline can't be accepted.
    #[error("the assignment is refused: {0}")]
    Assignment(String),
    /// An address of a name is not pinned.
    #[error("not pinned: {0}")]
    Pin(String),
    /// One order, one id.
    #[error(
        "an older order to this machine has that id, or may have had it: propose it under a new one, of now"
    )]
    UsedId,
    /// The lease's terms.
    #[error("{0}")]
    Terms(String),
    /// The action's terms.
    #[error("{0}")]
    Action(String),
    /// The policy alone does not allow it: people have to be asked.
    #[error("ask {needs}: {why}")]
    Ask {
        /// Who has to agree.
        needs: Needs,
        /// Why.
        why: AskReason,
    },
    /// The policy sees nothing to do.
    #[error("nothing to do: {0}")]
    NothingToDo(WatchReason),
    /// The policy would do something else.
    #[error("the policy would isolate ({would}), with its own lease, and nothing else")]
    NotThePolicys {
        /// How far it would.
        would: Isolation,
    },
    /// The policy isolates; renewing and releasing is for people.
    #[error("the policy may isolate and nothing else: a renewal or release needs people")]
    NeedsPeople,
    /// Not who is needed.
    #[error("this needs {needs}")]
    NotEnoughPeople {
        /// Who is.
        needs: Needs,
    },
    /// Not they, at this hour.
    #[error("at this hour only these may say yes to it: {}; {needs} of them must", people.join(", "))]
    Night {
        /// Who may.
        people: Vec<String>,
        /// How many of them.
        needs: Needs,
    },
    /// The signer does not know of it for long enough.
    #[error(
        "as far as the signer knows people have not had their time to answer: {} of {}",
        span(Duration::from_secs(*known_seconds)),
        span(Duration::from_secs((*open_for_seconds).into()))
    )]
    StillAsked {
        /// For how long it has known of the question; 0: not at all.
        known_seconds: u64,
        /// For how long a question is open.
        open_for_seconds: u32,
    },
    /// A session is not enough.
    #[error("this needs {needs}, which this version can't check yet")]
    NeedsStrongIdentity {
        /// Who has to agree.
        needs: Needs,
    },
    /// Too many orders by people in too short a time: who holds the web tier must not be able to isolate
    /// or release a hospital in a second.
    #[error("{0}")]
    PeoplesBudget(Spent),
    /// Not the next one.
    #[error(
        "that machine can't be named as the next one that works: it is of another kind, not known, not in \
         contact, or may be isolated"
    )]
    NoStandIn,
    /// Nothing to read out.
    #[error("this machine has no break-glass code left that was not used: have new ones made")]
    NoCodes,
    /// Nothing to renew.
    #[error("no such measure on that machine, as far as the signer knows")]
    UnknownMeasure,
}

impl From<LifelineError> for Refusal {
    fn from(error: LifelineError) -> Self {
        Self::Assignment(error.to_string())
    }
}

impl From<PinRefused> for Refusal {
    fn from(error: PinRefused) -> Self {
        Self::Pin(error.to_string())
    }
}

impl From<ActionError> for Refusal {
    fn from(error: ActionError) -> Self {
        Self::Action(error.to_string())
    }
}

impl From<BadTerms> for Refusal {
    fn from(error: BadTerms) -> Self {
        Self::Terms(error.to_string())
    }
}
