//! By whose leave the signer signs what a machine is and what holds.
//!
//! The one idea: a hub may be stolen. What would make things weaker ([`weakening`](cordon_respond::weakening))
//! is signed for the **keeper** alone: root on the signer's machine, over the same socket, told apart by the
//! system. For a machine that is still to enrol the keeper says it ahead, once for each enrolment token.

use cordon_model::action::FilePath;
use cordon_model::asset::{Assignment, ClinicalTier, Lifeline, Protected};
use cordon_model::guidance::Bedside;
use cordon_model::named::NamedLifeline;
use cordon_model::time::UtcNanos;
use serde::{Deserialize, Serialize};

/// What is said ahead and not used yet: 1,000 of a few kB at most (a ward is enrolled at once, not a county).
/// The oldest makes room.
pub const SAID_AHEAD: usize = 1_000;

/// The longest that it is good for, in seconds: 31 days, as an enrolment token.
pub const LONGEST_AHEAD: u32 = 31 * 24 * 3600;

/// By whose leave something is signed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Leave {
    /// The hub asked, and nothing becomes weaker; or, in what an earlier version wrote down, whatever it was.
    #[default]
    Hub,
    /// Root on the signer's machine said it there.
    Keeper,
    /// Root on the signer's machine said it ahead; this number of what was said.
    Ahead(u64),
}

/// What is said of a machine before it has enrolled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SaidAhead {
    /// What it is to be called; `None`: as it calls itself.
    pub name: Option<String>,
    /// Its tier.
    pub tier: Option<ClinicalTier>,
    /// What it is.
    pub kind: Option<String>,
    /// Ward or department.
    pub group: Option<String>,
    /// The flows that containment keeps.
    pub lifelines: Vec<Lifeline>,
    /// By which names some of them are known.
    pub names: Vec<NamedLifeline>,
    /// What is needed for care there.
    pub protected: Protected,
    /// The filesystems there that are watched.
    pub watched: Vec<FilePath>,
    /// What the person in front of it is told; `None`, as in what an earlier version wrote down: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bedside: Option<Bedside>,
}

impl SaidAhead {
    /// What `draft` says, but for whose it is; `name`: what it is to be called, if that was said.
    #[must_use]
    pub fn of(draft: Assignment, name: Option<String>, bedside: Option<Bedside>) -> Self {
        let Assignment { tier, kind, group, lifelines, names, protected, watched, .. } = draft;
        Self { name, tier, kind, group, lifelines, names, protected, watched, bedside }
    }

    /// Whether it is just this that the hub wants signed of a new machine.
    #[must_use]
    pub fn is_said_of(&self, draft: &Assignment) -> bool {
        let Self { name, tier, kind, group, lifelines, names, protected, watched, bedside: _ } =
            self;
        name.as_ref().is_none_or(|name| *name == draft.name)
            && *tier == draft.tier
            && *kind == draft.kind
            && *group == draft.group
            && *lifelines == draft.lifelines
            && *names == draft.names
            && *protected == draft.protected
            && *watched == draft.watched
    }
}

/// Something that was said ahead, until it is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ahead {
    /// Counts up from 1.
    pub number: u64,
    /// What.
    pub said: SaidAhead,
    /// Who said it, as the signer's ledger says.
    pub by: String,
    /// Until when it can be used.
    pub good_until: UtcNanos,
}
