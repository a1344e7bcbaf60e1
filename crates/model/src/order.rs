//! Signed instructions, and leaves given ahead.
//!
//! The agent's helper acts on nothing else (law 1): an [`Order`] from the signer, or its own use of a
//! [`Permit`] when no hub is in reach (law 6).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::action::Action;
use crate::finding::Level;
use crate::ids::{
    ApprovalId, FindingId, IncidentId, MachineId, MeasureId, OdsCode, OrderId, PermitId,
};
use crate::measure::Isolation;
use crate::signed::Document;
use crate::time::UtcNanos;

/// How long a measure lasts, and what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// Seconds of boot time that the measure lasts unless renewed.
    pub seconds: u32,
    /// At the end the machine steps down to **segment** for this many seconds, again and again, until
    /// somebody shows it clean and releases it (law 2: never silently open, never silently shut).
    pub step_down_seconds: u32,
    /// Seconds before the end at which people are warned.
    pub warn_seconds: u32,
}

/// Who allowed an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Authority {
    /// The signed policy, for a finding, within the budget.
    Policy {
        /// The policy's revision.
        revision: u64,
        /// What it acted on.
        finding: FindingId,
    },
    /// People.
    People {
        /// The question that they answered, if there was one.
        approval: Option<ApprovalId>,
        /// Who they are.
        people: Vec<Approver>,
    },
}

impl Authority {
    /// The people who allowed it; none: the policy did.
    #[must_use]
    pub fn people(&self) -> &[Approver] {
        match self {
            Self::Policy { .. } => &[],
            Self::People { people, .. } => people,
        }
    }
}

/// A person who answers for an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approver {
    /// Sign-in name.
    pub name: String,
    /// Whether the person may answer for patients' safety.
    pub is_clinical: bool,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Instruction {
    /// Begin a measure.
    Begin {
        /// What it does.
        action: Action,
        /// For how long.
        lease: Lease,
    },
    /// Extend the lease of a measure in force.
    Renew {
        /// Which.
        measure: MeasureId,
        /// For how long from now.
        lease: Lease,
    },
    /// Take one measure back, exactly.
    Undo {
        /// Which.
        measure: MeasureId,
    },
    /// Take every isolation back, exactly.
    Release,
}

impl Instruction {
    /// Cut the machine off, so far, for so long.
    #[must_use]
    pub fn isolate(isolation: Isolation, lease: Lease) -> Self {
        Self::Begin { action: Action::Isolate(isolation), lease }
    }

    /// How far the machine is to be cut off by it; `None` if it begins no isolation.
    #[must_use]
    pub fn isolation(&self) -> Option<Isolation> {
        match self {
            Self::Begin { action, .. } => action.isolation(),
            Self::Renew { .. } | Self::Undo { .. } | Self::Release => None,
        }
    }
}

impl fmt::Display for Instruction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin { action, .. } if action.kind().is_done_at_once() => write!(f, "{action}"),
            Self::Begin { action, lease } => write!(f, "{action} for {} s", lease.seconds),
            Self::Renew { lease, .. } => write!(f, "renew for {} s", lease.seconds),
            Self::Undo { .. } => f.write_str("take one measure back"),
            Self::Release => f.write_str("release"),
        }
    }
}

/// An instruction for one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Its id; the measure that it begins has the same bytes.
    pub id: OrderId,
    /// Whose machine.
    pub organisation: OdsCode,
    /// Which machine.
    pub machine: MachineId,
    /// Counts up per machine; an agent refuses one that is not above the last it took.
    pub sequence: u64,
    /// Randomness, so that no two orders have the same bytes.
    #[serde(with = "serde_bytes")]
    pub nonce: [u8; 16],
    /// When it was signed.
    pub issued_at: UtcNanos,
    /// Until when it may be delivered; `None` means until superseded.
    pub deliver_until: Option<UtcNanos>,
    /// What to do.
    pub instruction: Instruction,
    /// Who allowed it.
    pub authority: Authority,
    /// The story that it belongs to.
    pub incident: Option<IncidentId>,
    /// Why, for people.
    pub reason: String,
}

impl Document for Order {
    const TYPE: &'static str = "application/vnd.cordon.order.v1+cbor";
}

/// A leave, signed ahead, for one machine to **segment** itself when no hub is in reach.
///
/// Segment is all that it can allow, and only on tiers 0 and 1 (law 6). The signer gives so many per
/// group that an organisation's total stays within its budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Permit {
    /// Its id. One permit is used once.
    pub id: PermitId,
    /// Whose machine.
    pub organisation: OdsCode,
    /// Which machine.
    pub machine: MachineId,
    /// The least serious finding that it may be used for.
    pub level_at_least: Level,
    /// How long the measure lasts.
    pub lease: Lease,
    /// When it was signed.
    pub issued_at: UtcNanos,
    /// When it is no longer good.
    pub expires_at: UtcNanos,
}

impl Document for Permit {
    const TYPE: &'static str = "application/vnd.cordon.permit.v1+cbor";
}
