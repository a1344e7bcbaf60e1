//! What the agent and its privileged helper say to each other, over a Unix socket.
//!
//! Framing is [`cordon_link::frame`]'s, capped at [`limits::MESSAGE_BYTES`]. The agent has no authority
//! of its own here: it carries signed documents to the helper, which checks each by the pinned command
//! key, and it carries the helper's receipts away. Receipts are numbered; the helper keeps them on disk
//! until the agent says that it has them.

use cordon_evidence::archive::Statement;
use cordon_model::action::Action;
use cordon_model::finding::Level;
use cordon_model::holds::Holding;
use cordon_model::ids::{FindingId, MachineId, MeasureId, OdsCode};
use cordon_model::limits;
use cordon_model::look::Would;
use cordon_model::measure::{Isolation, MeasureState, Receipt};
use cordon_model::signed::Envelope;
use cordon_model::time::{BootNanos, UtcNanos};
use serde::{Deserialize, Serialize};

use super::printers::PrintQueue;

/// The longest message: the cap of every link.
pub const MESSAGE_BYTES: usize = limits::MESSAGE_BYTES;

/// From the agent, or from an administrator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The asker's own number; the answer carries it.
    pub id: u64,
    /// What is asked.
    pub ask: Ask,
}

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ask {
    /// At enrolment, once: whom this machine obeys from now on. Any other pin is refused for ever; the
    /// same one again is not an error.
    Pin(Pin),
    /// A signed [`Assignment`](cordon_model::asset::Assignment).
    Assignment(Envelope),
    /// A signed [`Order`](cordon_model::order::Order).
    Order(Envelope),
    /// A signed [`Permit`](cordon_model::order::Permit) that the agent keeps: by when it was signed the helper
    /// knows that it is later.
    Permit(Envelope),
    /// To use a signed [`Permit`](cordon_model::order::Permit), with no hub in reach.
    UsePermit {
        /// The permit.
        permit: Envelope,
        /// What it is used for.
        finding: FindingId,
        /// How serious that is.
        level: Level,
    },
    /// Signed hashes of this machine's [break-glass codes](cordon_model::break_glass::BreakGlass).
    BreakGlass(Envelope),
    /// A signed [`Guidance`](cordon_model::guidance::Guidance) for the person in front of this machine.
    Guidance(Envelope),
    /// How things are.
    Status,
    /// Send [`Event`]s here from now on, those that waited first.
    Listen,
    /// The agent's signature over the statement of an archive of evidence.
    Seal {
        /// Which measure gathered it.
        measure: MeasureId,
        /// The sealed statement.
        seal: Envelope,
    },
    /// Have this machine looked at anew for what starts by itself or lets somebody in. Needs no order, as it
    /// changes nothing. The answer is the number of the look, to ask for what came of it.
    Survey {
        /// See [`LookAt::Survey`](cordon_model::look::LookAt::Survey).
        since: Option<UtcNanos>,
    },
    /// What came of a look.
    Surveyed {
        /// Its number.
        number: u64,
    },
    /// What the lookout saw to be changed at this time or later. Needs no order. The answer is as to a survey.
    Changes {
        /// See [`LookAt::Changes`](cordon_model::look::LookAt::Changes).
        since: UtcNanos,
    },
    /// What came of that.
    ChangesTold {
        /// Its number.
        number: u64,
    },
    /// Which print queues of this machine print elsewhere: only root can read that. Changes nothing.
    Printers,
    /// What a measure would stop, take away or leave alone now. Needs no order, as it changes nothing.
    Would(Action),
    /// Receipts up to this number are on the agent's disk.
    Reported {
        /// The number of the first that is not.
        before: u64,
    },
}

/// Whom a machine obeys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// The organisation's command key (Ed25519).
    #[serde(with = "serde_bytes")]
    pub command_key: [u8; 32],
    /// Whose machine it is.
    pub organisation: OdsCode,
    /// Which machine it is.
    pub machine: MachineId,
}

/// From the helper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum FromHelper {
    /// To a [`Request`].
    Answer {
        /// The request's number.
        to: u64,
        /// The answer.
        answer: Answer,
    },
    /// Something happened by itself.
    Event(Event),
}

/// To an [`Ask`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Answer {
    /// It was obeyed, or had been before; these receipts wait for the agent.
    Obeyed(Receipts),
    /// How things are.
    Status(Box<Status>),
    /// How far a look is.
    Survey(Surveyed),
    /// To [`Ask::Printers`].
    Printers(Vec<PrintQueue>),
    /// To [`Ask::Would`].
    Would(Would),
    /// Nothing has changed.
    Refused {
        /// Of what kind the reason is.
        kind: Refusal,
        /// In words.
        why: String,
    },
}

impl Answer {
    /// Whether a permit that this answers for is of no more use: it was used, now or before. One that was
    /// refused for any other reason may still be good for the next finding; also one whose time seems to be
    /// over, as the clock may be wrong.
    #[must_use]
    pub fn spends_permit(&self) -> bool {
        matches!(self, Self::Obeyed(_) | Self::Refused { kind: Refusal::Used, .. })
    }
}

/// How far a look at what starts by itself or lets somebody in is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Surveyed {
    /// It is not done.
    Running {
        /// Its number.
        number: u64,
    },
    /// A [`Survey`](cordon_model::survey::Survey) or [`Changes`](cordon_model::change::Changes), in the bytes in which the process wrote it that looked: the
    /// helper understands none of it.
    Done(#[serde(with = "serde_bytes")] Vec<u8>),
}

/// Why the helper does not do what it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// The machine is not enrolled.
    NotPinned,
    /// The machine is enrolled elsewhere.
    PinnedElsewhere,
    /// The document is not signed by the pinned key, or not understood.
    NotGenuine,
    /// The document is genuine, and is not to be obeyed here and now.
    NotObeyed,
    /// The permit is genuine, and was used already.
    Used,
    /// It should be done and can't be (no disk).
    Unable,
}

impl Refusal {
    /// Whether the same document would be refused again however often it came. Otherwise it is not used up,
    /// and whoever sent it is told nothing that would have it given up.
    #[must_use]
    pub fn is_final(self) -> bool {
        match self {
            Self::NotPinned
            | Self::PinnedElsewhere
            | Self::NotGenuine
            | Self::NotObeyed
            | Self::Used => true,
            Self::Unable => false,
        }
    }
}

/// Receipts that the agent has not taken yet, oldest first, as many as one message takes: the rest comes in the
/// answer to [`Ask::Reported`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipts {
    /// Number of the first; a jump means that receipts were lost.
    pub first: u64,
    /// Unsigned: the agent seals them with its own key.
    pub receipts: Vec<Receipt>,
}

/// What the helper tells unasked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Event {
    /// A measure changed its state.
    Receipts(Receipts),
    /// A lease ends soon: tell people.
    LeaseEnds {
        /// Of which measure.
        measure: MeasureId,
        /// When, in this boot's time.
        ends: BootNanos,
    },
    /// Somebody changed or removed Cordon's table. This is a finding.
    Wiped {
        /// The measure that it held.
        measure: MeasureId,
        /// The process that changed nftables last, as the kernel says: number and name.
        by: (u32, String),
        /// When it was noticed.
        noticed: BootNanos,
        /// When it was read back in force again; `None` if that failed.
        restored: Option<BootNanos>,
    },
    /// Somebody typed a code that opens nothing here. This is a finding; [`Status::wrong_codes`] has the rest.
    WrongCode,
    /// An archive of evidence is whole, and waits for the agent's signature.
    Gathered {
        /// Which measure gathered it.
        measure: MeasureId,
        /// What is to be signed.
        statement: Statement,
    },
    /// Events that could not wait for a listener any longer.
    Lost {
        /// How many.
        events: u64,
    },
}

/// How things are with the helper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// Whose machine it is and which; `None` before enrolment.
    pub pinned: Option<(OdsCode, MachineId)>,
    /// Highest order sequence taken.
    pub last_order: u64,
    /// Revision of the assignment held; 0: none.
    pub assignment: u64,
    /// Which isolation is in force.
    pub in_force: Option<InForce>,
    /// Everything that is held: in force, or on its way to be, or back.
    pub holds: Vec<Holding>,
    /// Cordon's table is in the kernel and nothing on disk says why: left alone until an order comes.
    pub is_unaccounted_for: bool,
    /// How often the table was wiped since the helper started.
    pub wiped: u64,
    /// What was changed while no helper ran to notice it. This is a finding.
    pub unwatched: Unwatched,
    /// Revision of the break-glass codes held; 0: none.
    pub break_glass: u64,
    /// Revision of the guidance for people that is held; 0: none.
    pub guidance: u64,
    /// Wrong break-glass codes that were typed here.
    pub wrong_codes: WrongCodes,
}

/// Changes of Cordon's tables by others while no helper ran, as its next start found them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unwatched {
    /// How many, ever.
    pub total: u64,
    /// When the last of them was found; `None`: there was none.
    pub noticed: Option<UtcNanos>,
}

/// Break-glass codes that were typed at this machine and opened nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrongCodes {
    /// How many, ever.
    pub total: u64,
    /// The user of the system who typed the last of them.
    pub user: Option<u32>,
    /// For so many seconds more nobody but root may try.
    pub pause_seconds: u64,
}

/// An isolation in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InForce {
    /// Which.
    pub measure: MeasureId,
    /// How far.
    pub isolation: Isolation,
    /// How sure that is.
    pub state: MeasureState,
    /// When its lease ends, in this boot's time.
    pub lease_ends: BootNanos,
}
