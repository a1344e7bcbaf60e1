//! What agent and hub say to each other.
//!
//! Framing: a big-endian `u32` length, then one CBOR message of at most
//! [`limits::MESSAGE_BYTES`](crate::limits::MESSAGE_BYTES). The hello carries the version; versions N
//! and N−1 are spoken, and within a version unknown fields are refused. Delivery is at least once: the
//! agent numbers what it reports and keeps it until the hub acknowledged the number; ids fold doubles.

use serde::{Deserialize, Serialize};

use crate::finding::Finding;
use crate::holds::Holds;
use crate::ids::{MachineId, OdsCode, OrderId};
use crate::look::{LookAt, Seen};
use crate::signed::Envelope;
use crate::time::{BootId, BootNanos, UtcNanos};

/// The version that this build speaks. Since 2 an order may have a [condition](CONDITIONS), and an
/// assignment [filesystems to watch](WATCHED); since 3 a survey may tell of [dropped programs](DROPPED).
pub const VERSION: u16 = 3;

/// The first version in which an order may say that it is only for a machine that is isolated
/// ([`Instruction::Begin`](crate::order::Instruction)). One that speaks an earlier version is sent none.
pub const CONDITIONS: u16 = 2;

/// The first version in which an agent may say its [coverage](FromAgent::Coverage) after the hello. A hub that
/// speaks an earlier one is told in the hello only.
pub const COVERAGE: u16 = 2;

/// The first version in which an [assignment](crate::asset::Assignment) may name filesystems that are watched for
/// denied contents. For a machine that speaks an earlier version none is signed that does.
pub const WATCHED: u16 = 2;

/// The first version in which a machine may be asked [what was changed](crate::look::LookAt::Changes), and be ordered
/// to [put it back](crate::action::Action::PutBack). One that speaks an earlier version is asked and ordered neither.
pub const CHANGES: u16 = 2;

/// The first version in which a survey may tell of [dropped programs](crate::survey::ThingKind::DroppedProgram). A hub
/// that speaks an earlier one is told of none, and one that hears none from a machine that speaks an earlier one knows
/// that it does not look for them.
pub const DROPPED: u16 = 3;

/// From an enrolling machine, over TLS with the hub's pinned certificate and no client certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolRequest {
    /// The one-time token's secret half.
    pub token: String,
    /// The machine's name for itself: shown, never trusted.
    pub host: String,
    /// PKCS #10 certificate request (DER) for a P-256 key that never leaves the machine.
    #[serde(with = "serde_bytes")]
    pub certificate_request: Vec<u8>,
    /// Ed25519 key that the agent will sign receipts with.
    #[serde(with = "serde_bytes")]
    pub receipt_key: [u8; 32],
}

/// The hub's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum EnrolAnswer {
    /// Welcome.
    Enrolled(Box<Enrolled>),
    /// No, and why, in words that give nothing away to a stranger.
    Refused {
        /// For the person who enrols the machine.
        why: String,
    },
}

/// What an enrolled machine is and trusts from now on. It refuses to be re-homed by any message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolled {
    /// Which machine it is.
    pub machine: MachineId,
    /// Whose.
    pub organisation: OdsCode,
    /// Its certificate chain (DER), leaf first.
    pub certificates: Vec<serde_bytes::ByteBuf>,
    /// The organisation's certificate authority (DER), which the hub's link must chain to.
    #[serde(with = "serde_bytes")]
    pub authority: Vec<u8>,
    /// The organisation's command key (Ed25519), pinned.
    #[serde(with = "serde_bytes")]
    pub command_key: [u8; 32],
    /// Where the link is.
    pub link: Vec<std::net::SocketAddr>,
    /// Name in the hub's certificate.
    pub hub_name: String,
}

/// First message on a link, from the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// Highest version that the agent speaks.
    pub version: u16,
    /// Build of the agent, for people.
    pub build: String,
    /// Its name for itself: shown, never trusted.
    pub host: String,
    /// Its boot.
    pub boot: BootId,
    /// Highest order sequence that it has taken.
    pub last_order: u64,
    /// Revision of the assignment that it holds (0: none).
    pub assignment: u64,
    /// Revision of the policy that it holds (0: none).
    pub policy: u64,
    /// What it can see and do, and what not, with the reason.
    pub coverage: Vec<Coverage>,
}

/// What [`Coverage::what`] is of the way to the hub, where that leads through a tunnel: whether it lives when
/// the machine is isolated in full.
pub const HUB_LINK: &str = "link to the hub under full isolation";

/// What [`Coverage::what`] is of the way to the hub where the kernel does not tell it.
pub const HUB_WAY: &str = "way to the hub";

/// What a machine says of its way to the hub: its own word, which nobody else can check.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Way {
    /// Through no tunnel that it knows of; or it has not said.
    #[default]
    Plain,
    /// Through one that an isolation in full keeps, and by what.
    Kept(String),
    /// By a way that an isolation in full cuts, and why.
    Cut(String),
    /// It does not know, and why.
    Unknown(String),
}

impl Way {
    /// What of all that a machine says is about its way; of several words the worst.
    #[must_use]
    pub fn said_in(coverage: &[Coverage]) -> Self {
        let gap = |of: &Coverage| of.gap.clone().unwrap_or_default();
        let cut = coverage.iter().find(|of| of.loses_the_hub()).map(|of| Self::Cut(gap(of)));
        let unknown = || coverage.iter().find(|of| of.may_lose_the_hub());
        let kept = || coverage.iter().find(|of| of.what == HUB_LINK);
        cut.or_else(|| unknown().map(|of| Self::Unknown(gap(of))))
            .or_else(|| kept().map(|of| Self::Kept(of.by.clone().unwrap_or_default())))
            .unwrap_or_default()
    }

    /// Whether an isolation in full may take the machine out of its hub's reach.
    #[must_use]
    pub fn may_lose_the_hub(&self) -> bool {
        matches!(self, Self::Cut(_) | Self::Unknown(_))
    }
}

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Plain => f.write_str("through no tunnel that it knows of"),
            Self::Kept(by) => write!(f, "through a tunnel that an isolation in full keeps ({by})"),
            Self::Cut(why) => write!(f, "an isolation in full would cut it ({why})"),
            Self::Unknown(why) => {
                write!(f, "whether an isolation in full would cut it is not known ({why})")
            }
        }
    }
}

/// One thing that an agent can or can't see or do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Coverage {
    /// `process starts`, `connections`, `isolation`…
    pub what: String,
    /// By what it is done, or `None`.
    pub by: Option<String>,
    /// Why not, or what is missing.
    pub gap: Option<String>,
}

impl Coverage {
    /// Whether it says that the hub would not reach the machine any more when it is isolated in full.
    #[must_use]
    pub fn loses_the_hub(&self) -> bool {
        self.what == HUB_LINK && self.gap.is_some()
    }

    /// The same, or that it is not known: what nobody decides about counts on no way that is not known.
    #[must_use]
    pub fn may_lose_the_hub(&self) -> bool {
        self.loses_the_hub() || self.what == HUB_WAY && self.gap.is_some()
    }
}

/// A report with its number on this machine (1, 2, 3…, across restarts).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Numbered {
    /// Its number.
    pub number: u64,
    /// The report.
    pub report: Report,
}

/// What an agent reports: kept on its disk until acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Report {
    /// A rule matched.
    Finding(Box<Finding>),
    /// A measure changed its state: a [`Receipt`](crate::measure::Receipt), sealed with the agent's
    /// receipt key.
    Receipt(Envelope),
    /// An order was refused.
    OrderRefused {
        /// Which.
        order: OrderId,
        /// Why.
        why: String,
    },
    /// Events were lost.
    Gap {
        /// How many, if known.
        events: u64,
        /// Where, in words.
        what: String,
        /// When it was noticed.
        at: UtcNanos,
    },
}

/// From agent to hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum FromAgent {
    /// First message.
    Hello(Hello),
    /// Reports, in order of number, at most
    /// [`limits::FINDINGS_PER_MESSAGE`](crate::limits::FINDINGS_PER_MESSAGE).
    Reports(Vec<Numbered>),
    /// An order is on the machine's disk.
    OrderTaken(OrderId),
    /// What it can see and do has changed since the hello: all of it, anew.
    Coverage(Vec<Coverage>),
    /// I am here, and this is how I am.
    Status(Status),
    /// To [`FromHub::Look`].
    Looked {
        /// The look's number.
        number: u64,
        /// What was seen.
        seen: Seen,
    },
}

/// How a machine is. Sent every few seconds; a hub that hears none says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// Boot time when this was written.
    pub at_boot: BootNanos,
    /// What is in force, as its helper says.
    pub holds: Holds,
    /// Rules loaded.
    pub rules: u32,
    /// Events seen since start.
    pub events: u64,
    /// Events lost since start.
    pub lost: u64,
    /// Revision of the break-glass codes that it holds (0: none).
    #[serde(default)]
    pub break_glass: u64,
    /// Revision of the guidance for people that it holds (0: none).
    #[serde(default)]
    pub guidance: u64,
}

/// From hub to agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum FromHub {
    /// Answer to the hello.
    Welcome {
        /// The version that is spoken from here on.
        version: u16,
        /// The hub's clock.
        now: UtcNanos,
    },
    /// Everything up to this number is on the hub's disk.
    Acknowledged(u64),
    /// A signed [`Order`](crate::order::Order).
    Order(Envelope),
    /// A signed [`Permit`](crate::order::Permit).
    Permit(Envelope),
    /// A signed [`Policy`](crate::policy::Policy).
    Policy(Envelope),
    /// A signed [`Assignment`](crate::asset::Assignment).
    Assignment(Envelope),
    /// Somebody who is about to act wants to see how it is there. Needs no order, as it changes nothing.
    Look {
        /// The answer carries it.
        number: u64,
        /// What is looked at.
        at: LookAt,
    },
    /// The signed hashes of its break-glass codes: a [`BreakGlass`](crate::break_glass::BreakGlass).
    BreakGlass(Envelope),
    /// What to tell people in front of it: a signed [`Guidance`](crate::guidance::Guidance).
    Guidance(Envelope),
    /// The hub will not go on, and why.
    Goodbye {
        /// In words.
        why: String,
    },
}
