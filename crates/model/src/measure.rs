//! The effect of an order, and how sure we are of it.
//!
//! The one idea (law 4): a measure is **verified** only when it was read back from the kernel and
//! probed. Every screen shows the weakest truth that holds.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::action::Action;
use crate::ids::{FindingId, MachineId, MeasureId, OrderId, PermitId};
use crate::signed::Document;
use crate::time::{BootId, BootNanos, UtcNanos};

/// How far a machine is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// Nothing is cut; the machine is observed more closely.
    Watch,
    /// Lateral-movement services are cut both ways; everything else, and every lifeline, lives.
    Segment,
    /// Everything is cut but loopback, address configuration, the hub's link and the lifelines.
    Full,
}

impl Isolation {
    /// The next stricter one; `None`: there is none.
    #[must_use]
    pub fn further(self) -> Option<Self> {
        match self {
            Self::Watch => Some(Self::Segment),
            Self::Segment => Some(Self::Full),
            Self::Full => None,
        }
    }

    /// The word that people and files use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Watch => "watch",
            Self::Segment => "segment",
            Self::Full => "full",
        }
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Where a measure is in its life.
///
/// `Requested → Delivered → Applied → Verified → Released`; the others say what went otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is", deny_unknown_fields)]
pub enum MeasureState {
    /// Signed, and not yet with the machine.
    Requested,
    /// The machine has it.
    Delivered,
    /// The kernel took it; not yet proven.
    Applied,
    /// Read back and probed: what must fail fails, what must live lives.
    Verified,
    /// Applied, and a probe or the read-back says otherwise.
    Unproven {
        /// What was seen.
        why: String,
    },
    /// The lease ended without renewal; the milder measure that followed is in force.
    SteppedDown,
    /// A newer order's measure took its place in one step.
    Superseded,
    /// Taken back exactly; the machine is as it was.
    Released,
    /// Done and shown, and nothing of it stays in force: a process was ended, evidence was gathered.
    Done,
    /// Refused or not possible; the machine is unchanged.
    Failed {
        /// What prevented it.
        why: String,
    },
}

impl MeasureState {
    /// Whether the measure may be changing the machine now, proven or not.
    #[must_use]
    pub fn is_acting(&self) -> bool {
        matches!(self, Self::Applied | Self::Verified | Self::Unproven { .. })
    }

    /// Whether it was applied and a look says otherwise.
    #[must_use]
    pub fn is_unproven(&self) -> bool {
        matches!(self, Self::Unproven { .. })
    }

    /// Whether nothing more will come of it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(
            self,
            Self::Released
                | Self::Done
                | Self::Failed { .. }
                | Self::SteppedDown
                | Self::Superseded
        )
    }
}

/// What one probe tried and saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// In words: `tcp 10.0.0.9:445 outbound`.
    pub tried: String,
    /// Whether it was to get through.
    pub should_pass: bool,
    /// Whether it did; `None` where this machine can't tell.
    pub did_pass: Option<bool>,
}

/// What shows that a measure is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// The kernel's handle of Cordon's table, which changes if anyone replaces it; `None` once
    /// released.
    pub table_handle: Option<u64>,
    /// Whether the ruleset read back from the kernel is the one that was meant.
    pub is_read_back: bool,
    /// What was tried.
    pub probes: Vec<Probe>,
    /// What stays unproven from this machine, in words: `inbound read back, not probed by a peer`.
    pub unproven: Vec<String>,
    /// When the read-back was done.
    pub at: BootNanos,
}

impl Proof {
    /// Whether everything that was tried came out as it should.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.is_read_back
            && self
                .probes
                .iter()
                .all(|probe| probe.did_pass.is_none_or(|did| did == probe.should_pass))
    }
}

/// What began a measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Origin {
    /// A signed order.
    Order(OrderId),
    /// A use of a signed permit, for a finding, with no hub in reach.
    Permit {
        /// The permit.
        permit: PermitId,
        /// Why it was used.
        finding: FindingId,
    },
    /// The lease of an earlier measure ended.
    LeaseEnd(MeasureId),
    /// A one-time code, typed at the machine: what it was isolated by is over, and for the length of this
    /// measure Cordon does not isolate it by itself.
    BreakGlass {
        /// Which of its signed documents the code is of.
        revision: u64,
        /// The code's number, from 1. Never the code.
        code: u8,
    },
}

/// What a machine says of one of its measures: signed by the agent, at every change of state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// The machine.
    pub machine: MachineId,
    /// The measure.
    pub measure: MeasureId,
    /// What began it.
    pub origin: Origin,
    /// What it does.
    pub action: Action,
    /// What it is now.
    pub state: MeasureState,
    /// What shows it, once there is something to show.
    pub proof: Option<Proof>,
    /// When its lease ends in this boot's time; `None` when nothing is in force.
    pub lease_ends: Option<BootNanos>,
    /// Which boot the boot times are of.
    pub boot: BootId,
    /// When the state was reached.
    pub at_boot: BootNanos,
    /// The same, by the machine's clock.
    pub at: UtcNanos,
    /// How many open sockets were cut when it was applied.
    pub sockets_cut: u32,
    /// What was found and done, in words, at most [`limits::DONE_LINES`](crate::limits::DONE_LINES) lines.
    #[serde(default)]
    pub done: Vec<String>,
    /// What it left alone because no order may touch it, each with the reason, in as many words and lines.
    /// With [`MeasureState::Failed`]: all of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spared: Vec<String>,
}

impl Receipt {
    /// What the machine did, and what it left alone. Of a measure that is refused the state says that.
    pub fn told(&self) -> impl Iterator<Item = &str> {
        let is_refused = matches!(self.state, MeasureState::Failed { .. });
        let spared = if is_refused { &[] } else { self.spared.as_slice() };
        self.done.iter().chain(spared).map(String::as_str)
    }
}

impl Document for Receipt {
    const TYPE: &'static str = "application/vnd.cordon.receipt.v1+cbor";
}
