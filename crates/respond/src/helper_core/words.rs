//! What the helper is told and what it says: the words between its mind and its shell.

use cordon_model::action::{Action, ActionKind};
use cordon_model::approval::Needs;
use cordon_model::asset::ClinicalTier;
use cordon_model::break_glass::BadBreakGlass;
use cordon_model::finding::Level;
use cordon_model::ids::MeasureId;
use cordon_model::measure::{Isolation, MeasureState, Origin, Proof};
use cordon_model::time::{BootNanos, UtcNanos};
use serde::{Deserialize, Serialize};

use super::MOST_USED_PERMITS;
use crate::budget::Exhausted;
use crate::lease::{BadTerms, LeaseClock};

/// Why a document was not obeyed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotObeyed {
    /// For another machine or organisation.
    #[error("it is for another machine or organisation")]
    WrongTarget,
    /// A newer order was taken already.
    #[error("its sequence {sequence} is not above {last}, the last that was taken")]
    Stale {
        /// Its sequence.
        sequence: u64,
        /// The last that was taken.
        last: u64,
    },
    /// Too late.
    #[error("it was to be delivered before now, or its time is over")]
    Expired,
    /// Nobody knows how late it is.
    #[error(
        "this machine was off, and its clock ({clock}) is behind what it knows was signed ({floor}), so nobody \
         can tell whether this came in time: set its clock, or order what has no time"
    )]
    ClockBehind {
        /// The machine's clock.
        clock: UtcNanos,
        /// It is later than this.
        floor: UtcNanos,
    },
    /// The lease's terms.
    #[error(transparent)]
    Terms(#[from] BadTerms),
    /// Without an assignment nobody has said which flows must live.
    #[error(
        "this machine has no assignment, so its lifelines are unknown; nothing can be cut safely"
    )]
    NoAssignment,
    /// Nothing is done to a clinical machine without people.
    #[error("the machine is {0}: this needs people")]
    NeedsPeople(ClinicalTier),
    /// Nobody who may allow it did: tier 3, memory, or what opens.
    #[error("this needs {0}")]
    NotEnoughPeople(Needs),
    /// A permit is used once.
    #[error("the permit was used already")]
    Used,
    /// No more used permits are remembered, and one that is not could be used again.
    #[error(
        "{MOST_USED_PERMITS} permits were used here, and no more are remembered: people isolate this machine, \
         or enrol it again"
    )]
    RememberedPermits,
    /// The finding is milder than the permit allows for.
    #[error("the permit is for findings of level {least} and above, this is {level}")]
    TooMild {
        /// The permit's.
        least: Level,
        /// The finding's.
        level: Level,
    },
    /// Isolated as far already, or further.
    #[error("the machine is isolated as far already")]
    AlreadyContained,
    /// It is only for a machine that is isolated.
    #[error(
        "it was only for a machine that is still isolated ({least} at least), and by now this one is isolated \
         less ({}): if it has to be cut off again, order that", now.map_or("not at all", Isolation::as_str)
    )]
    OpenedMeanwhile {
        /// At least so far.
        least: Isolation,
        /// How far it is.
        now: Option<Isolation>,
    },
    /// The action's terms.
    #[error("{0}")]
    Action(String),
    /// The table of measures is full.
    #[error(
        "{limit} measures are in force here, as many as fit: end some first",
        limit = cordon_model::limits::MEASURES_PER_MACHINE
    )]
    TooManyMeasures,
    /// There is no way back.
    #[error("to {0} can't be taken back")]
    NoWayBack(ActionKind),
    /// A measure that is not in force.
    #[error("no such measure is in force here")]
    UnknownMeasure,
    /// The helper's own brake.
    #[error("this machine's own brake: {0}")]
    Braked(Exhausted),
    /// People opened the machine by a code, and are looking at it.
    #[error("a break-glass code opened this machine: for a time only people isolate it again")]
    HeldOpen,
    /// Guidance that can't be shown.
    #[error(
        "the guidance for people is longer than can be shown, or has no telephone number in it"
    )]
    Guidance,
    /// Codes that can't be used.
    #[error(transparent)]
    BreakGlass(#[from] BadBreakGlass),
    /// Not newer than what it has.
    #[error("its revision {revision} is not above {held}, the one held")]
    OldRevision {
        /// Its revision.
        revision: u64,
        /// The one held.
        held: u64,
    },
}

/// What the shell has to do, in this order, once the state is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Put this isolation into the kernel in one step, in place of what is there, keeping the
    /// assignment's lifelines; then report [`HelperCore::enforced`](super::HelperCore::enforced).
    Enforce {
        /// For this measure.
        measure: MeasureId,
        /// This far.
        isolation: Isolation,
    },
    /// Take everything back exactly; then report [`HelperCore::enforced`](super::HelperCore::enforced).
    Restore {
        /// The measure that ends.
        measure: MeasureId,
    },
    /// Carry out a measure besides the isolation, or see that it was; then report
    /// [`HelperCore::acted`](super::HelperCore::acted). Repeated until it is shown: doing it twice is doing
    /// it once.
    Apply {
        /// For this measure.
        measure: MeasureId,
        /// What.
        action: Action,
    },
    /// Look whether it still holds; then report [`HelperCore::acted`](super::HelperCore::acted).
    LookAgain {
        /// Which measure.
        measure: MeasureId,
    },
    /// Take a measure back exactly; then report
    /// [`HelperCore::taken_back`](super::HelperCore::taken_back).
    TakeBack {
        /// Which.
        measure: MeasureId,
    },
    /// The lease of this measure ends soon: tell people.
    Warn {
        /// Which.
        measure: MeasureId,
        /// When, in this boot's time.
        ends: BootNanos,
    },
}

/// How carrying out an [`Effect::Enforce`] or [`Effect::Restore`] went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The kernel took it. The proof says what was read back and probed; none yet: applied, unproven.
    Done {
        /// What shows it.
        proof: Option<Proof>,
        /// Sockets cut.
        sockets_cut: u32,
    },
    /// The kernel is as it was before.
    Failed {
        /// Why.
        why: String,
    },
}

/// A measure that is, or is to be, in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// Its id.
    pub measure: MeasureId,
    /// What began it.
    pub origin: Origin,
    /// Whether people allowed it; what follows its lease's end inherits this.
    pub is_by_people: bool,
    /// How far.
    pub isolation: Isolation,
    /// Its lease.
    pub lease: LeaseClock,
    /// Where it is.
    pub state: MeasureState,
    /// The last proof.
    pub proof: Option<Proof>,
}

/// What is to replace the current measure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[expect(clippy::large_enum_variant, reason = "there is one per helper, and it is short-lived")]
pub enum Next {
    /// Another measure.
    Hold(Held),
    /// None.
    Free,
}
