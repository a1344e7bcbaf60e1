//! Signed instructions, and leaves given ahead.
//!
//! The agent's helper acts on nothing else (law 1): an [`Order`] from the signer, or its own use of a
//! [`Permit`] when no hub is in reach (law 6).

use std::fmt;
use std::time::Duration;

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
        /// Only if the machine is isolated at least so far when the order is carried out: an order that was to
        /// open a machine a little must not close one that somebody has opened meanwhile. A machine that does
        /// not know of it ([`wire::CONDITIONS`](crate::wire::CONDITIONS)) can't read the order.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        if_isolated: Option<Isolation>,
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
    /// Begin a measure, however the machine is isolated.
    #[must_use]
    pub fn begin(action: Action, lease: Lease) -> Self {
        Self::Begin { action, lease, if_isolated: None }
    }

    /// Cut the machine off, so far, for so long.
    #[must_use]
    pub fn isolate(isolation: Isolation, lease: Lease) -> Self {
        Self::begin(Action::Isolate(isolation), lease)
    }

    /// Isolate a machine that is still isolated further no further than so, for so long. Nothing is stricter
    /// than *full*, which is ordered as ever.
    #[must_use]
    pub fn ease(isolation: Isolation, lease: Lease) -> Self {
        let action = Action::Isolate(isolation);
        Self::Begin { action, lease, if_isolated: isolation.further() }
    }

    /// Whether it may close what is open, or keep it closed for longer: what opens is for anybody, at any hour.
    #[must_use]
    pub fn closes(&self) -> bool {
        match self {
            Self::Begin { action, if_isolated, .. } => {
                action.isolation().is_none() || *if_isolated <= action.isolation()
            }
            Self::Renew { .. } => true,
            Self::Undo { .. } | Self::Release => false,
        }
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
            Self::Begin { action, lease, if_isolated } => {
                write!(f, "{action} for {}", span(lease.seconds))?;
                match if_isolated {
                    Some(Isolation::Full) => f.write_str(", if it is still isolated (full)"),
                    Some(least) => write!(f, ", if it is still isolated ({least} or further)"),
                    None => Ok(()),
                }
            }
            Self::Renew { lease, .. } => write!(f, "renew for {}", span(lease.seconds)),
            Self::Undo { .. } => f.write_str("take one measure back"),
            Self::Release => f.write_str("release"),
        }
    }
}

fn span(seconds: u32) -> String {
    crate::time::span(Duration::from_secs(seconds.into()))
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

    fn issued_at(&self) -> Option<UtcNanos> {
        Some(self.issued_at)
    }
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

    fn issued_at(&self) -> Option<UtcNanos> {
        Some(self.issued_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Lease = Lease { seconds: 60, step_down_seconds: 60, warn_seconds: 10 };

    fn bytes(instruction: &impl Serialize) -> Vec<u8> {
        let mut bytes = Vec::new();
        ciborium::into_writer(instruction, &mut bytes).unwrap();
        bytes
    }

    /// As machines of before orders had conditions know it.
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields)]
    enum Earlier {
        Begin { action: Action, lease: Lease },
    }

    #[test]
    fn an_earlier_machine_reads_what_has_no_condition_and_passes_over_none() {
        let plain = Instruction::isolate(Isolation::Segment, LEASE);
        let earlier = Earlier::Begin { action: Action::Isolate(Isolation::Segment), lease: LEASE };
        assert_eq!(bytes(&plain), bytes(&earlier), "what is signed did not change");
        let read: Instruction = ciborium::from_reader(&bytes(&earlier)[..]).unwrap();
        assert_eq!(read, plain);
        let eased = bytes(&Instruction::ease(Isolation::Segment, LEASE));
        let refused = ciborium::from_reader::<Earlier, _>(&eased[..]).unwrap_err().to_string();
        assert!(refused.contains("if_isolated"), "{refused}");
        let read: Instruction = ciborium::from_reader(&eased[..]).unwrap();
        assert_eq!(read, Instruction::ease(Isolation::Segment, LEASE));
    }

    #[test]
    fn an_instruction_is_said_as_people_say_it() {
        let lease = Lease { seconds: 14_400, ..LEASE };
        let said = |isolation| Instruction::isolate(isolation, lease).to_string();
        assert_eq!(said(Isolation::Full), "isolate (full) for 4 h");
        assert_eq!(said(Isolation::Watch), "watch (nothing is cut) for 4 h");
        let ease = Instruction::ease(Isolation::Segment, lease).to_string();
        assert_eq!(ease, "isolate (segment) for 4 h, if it is still isolated (full)");
    }

    #[test]
    fn what_can_only_open_does_not_close() {
        for isolation in [Isolation::Watch, Isolation::Segment] {
            assert!(Instruction::isolate(isolation, LEASE).closes());
            assert!(!Instruction::ease(isolation, LEASE).closes());
        }
        let full = Instruction::isolate(Isolation::Full, LEASE);
        assert_eq!(Instruction::ease(Isolation::Full, LEASE), full, "nothing is stricter");
        for if_isolated in [Isolation::Watch, Isolation::Segment].map(Some) {
            let action = Action::Isolate(Isolation::Segment);
            let not_less = Instruction::Begin { action, lease: LEASE, if_isolated };
            assert!(not_less.closes(), "it may go further, or give another lease to the same");
        }
        let disable = Action::DisableAccount(crate::action::AccountTarget {
            name: "eve".into(),
            ends_sessions: false,
        });
        let if_isolated = Some(Isolation::Watch);
        assert!(Instruction::Begin { action: disable, lease: LEASE, if_isolated }.closes());
        assert!(!Instruction::Release.closes());
    }
}
