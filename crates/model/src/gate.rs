//! The gate of the return to service: what a machine needs before it is open again, and what was shown or
//! said of it on the way there.
//!
//! The one idea: what Cordon can look at is looked at, what it can't is a person's word with a name and a
//! reason, and neither is ever taken for the other. The terms are data in the signed policy; whether the
//! gate is open is decided by `respond::return_gate`. It closes nothing: a release is always possible
//! despite it, and says so.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::asset::ClinicalTier;
use crate::finding::Level;
use crate::ids::{IncidentId, MachineId};
use crate::record::Actor;
use crate::time::UtcNanos;

/// Findings from this level on give steps of a plan and shut the gate. What is below is for context only, or
/// rarely worth a look by itself (Sigma specification 2.1, `level`).
pub const COUNTS_FROM: Level = Level::Medium;

/// What a machine may need before it returns to service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Need {
    /// It was looked at anew, nothing of the plan against what was found is left, and no finding came since.
    Clean,
    /// A person says that what let the intruder in is closed. Cordon assesses no patches.
    Patched,
    /// It is in contact, and what it says and shows now contradicts nothing.
    Probed,
    /// A person answers for its return, after all else.
    SignedOff,
}

impl Need {
    /// All, in the order in which people come to them.
    pub const ALL: [Self; 4] = [Self::Clean, Self::Patched, Self::Probed, Self::SignedOff];

    /// The word that people and files use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Patched => "patched",
            Self::Probed => "probed",
            Self::SignedOff => "signed-off",
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What an organisation asks of a machine before it returns to service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReturnTerms {
    /// What is asked; nothing: every release passes.
    pub needs: Vec<Need>,
    /// Seconds that a look or a person's word counts.
    pub counts_for_seconds: u32,
    /// The tiers where somebody else signs off than who said or did the rest, signed in by name.
    pub another_signs_off: Vec<ClinicalTier>,
}

impl Default for ReturnTerms {
    /// Everything is asked. A word counts for twelve hours, the longest shift: whoever comes next looks again.
    /// On clinical machines a second person signs off, as for any device that returns to patients.
    fn default() -> Self {
        Self {
            needs: Need::ALL.to_vec(),
            counts_for_seconds: 12 * 3600,
            another_signs_off: vec![ClinicalTier::Clinical, ClinicalTier::LifeSustaining],
        }
    }
}

/// Shorter than it takes to walk to the next desk.
const LEAST_COUNTS_SECONDS: u32 = 60;
/// After a week nobody knows what the machine did meanwhile.
const MOST_COUNTS_SECONDS: u32 = 7 * 24 * 3600;

/// Why terms of the return can't be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadReturnTerms {
    /// Too short or too long.
    #[error(
        "a word on a machine's return can't count for {0} s: {LEAST_COUNTS_SECONDS} to {MOST_COUNTS_SECONDS} \
         are taken"
    )]
    CountsFor(u32),
    /// Said twice.
    #[error("{0} is asked for twice for a machine's return")]
    Twice(Need),
    /// Named twice.
    #[error("a tier is named twice for who signs off a machine's return")]
    TierTwice,
}

impl ReturnTerms {
    /// Whether these terms can be kept.
    ///
    /// # Errors
    /// The first that can't, in words.
    pub fn check(&self) -> Result<(), BadReturnTerms> {
        if !(LEAST_COUNTS_SECONDS..=MOST_COUNTS_SECONDS).contains(&self.counts_for_seconds) {
            return Err(BadReturnTerms::CountsFor(self.counts_for_seconds));
        }
        for (place, need) in self.needs.iter().enumerate() {
            if self.needs[..place].contains(need) {
                return Err(BadReturnTerms::Twice(*need));
            }
        }
        for (place, tier) in self.another_signs_off.iter().enumerate() {
            if self.another_signs_off[..place].contains(tier) {
                return Err(BadReturnTerms::TierTwice);
            }
        }
        Ok(())
    }
}

/// What was shown or said of a machine on its way back to service. Kept for good, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// Of which machine.
    pub machine: MachineId,
    /// When, by the hub's clock.
    pub at: UtcNanos,
    /// Who.
    pub by: Actor,
    /// How many findings from [`COUNTS_FROM`] on the hub had of the machine then: a later one is told by the
    /// number, whatever a clock says.
    pub findings: u64,
    /// What.
    pub said: Said,
}

impl Statement {
    /// Who, as people read it.
    #[must_use]
    pub fn who(&self) -> &str {
        match &self.by {
            Actor::Person(name) | Actor::LocalOperator(name) => name,
            Actor::Policy(_) | Actor::Hub | Actor::Signer | Actor::Agent(_) => "Cordon",
        }
    }

    /// One line for people.
    #[must_use]
    pub fn in_words(&self) -> String {
        let by = self.who();
        match &self.said {
            Said::Ordered { digest, ordered, of, reason } => {
                format!("{by} ordered plan {digest} ({ordered} of {of} steps): {reason}")
            }
            Said::Accepted { step, what, reason } => {
                format!("{by} accepted step {step}, {what}: {reason}")
            }
            Said::Looked(Looked { is_clean: true, .. }) => format!("looked again for {by}: clean"),
            Said::Looked(looked) => {
                format!("looked again for {by}: {} left or not known", looked.left_of)
            }
            Said::Patched { reason } => format!("{by} says that it is patched: {reason}"),
            Said::SignedOff { reason } => format!("{by} signed off: {reason}"),
            Said::Returned { reason, despite: None } => format!("{by} released it: {reason}"),
            Said::Returned { reason, despite: Some(Despite { missing, why }) } => {
                format!("{by} released it DESPITE {}: {why} ({reason})", missing.join("; "))
            }
        }
    }
}

/// See [`Statement`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Said {
    /// A plan against what was found was ordered.
    Ordered {
        /// Its digest.
        digest: String,
        /// How many of its steps were signed or asked about…
        ordered: u32,
        /// …of so many that were to be ordered.
        of: u32,
        /// Why.
        reason: String,
    },
    /// Of one step of a plan a person says that the thing may stay, or was dealt with by hand.
    Accepted {
        /// The step's id.
        step: String,
        /// What it is about.
        what: String,
        /// Why.
        reason: String,
    },
    /// It was looked at anew, against the plan.
    Looked(Looked),
    /// What let the intruder in is closed, by a person's word.
    Patched {
        /// How, and how that is known.
        reason: String,
    },
    /// A person answers for the return.
    SignedOff {
        /// On what ground.
        reason: String,
    },
    /// A release was ordered.
    Returned {
        /// Why.
        reason: String,
        /// What was missing and why it was released all the same; `None`: through the open gate.
        despite: Option<Despite>,
    },
}

/// What came of a look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Looked {
    /// Whether nothing of the plan is left and everything could be looked at.
    pub is_clean: bool,
    /// Whose findings the plan is about.
    pub incidents: Vec<IncidentId>,
    /// What is left or could not be told, the first [`MOST_LEFT`]…
    pub left: Vec<String>,
    /// …of so many.
    pub left_of: u32,
    /// What was looked at: of how many, how old.
    pub looked_at: Vec<String>,
    /// Events that the machine's agent had lost by then, since its start.
    pub lost: Option<u64>,
}

/// How many of the things that are left one statement names: a screen of them. A plan names all.
pub const MOST_LEFT: usize = 16;

/// A release with the gate closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Despite {
    /// What was missing, in words.
    pub missing: Vec<String>,
    /// Why it was released all the same.
    pub why: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_that_cannot_be_kept_are_refused() {
        let default = ReturnTerms::default();
        default.check().unwrap();
        ReturnTerms { needs: Vec::new(), ..default.clone() }.check().unwrap();
        for bad in [
            ReturnTerms { counts_for_seconds: 59, ..default.clone() },
            ReturnTerms { counts_for_seconds: u32::MAX, ..default.clone() },
            ReturnTerms { needs: vec![Need::Clean, Need::Clean], ..default.clone() },
            ReturnTerms {
                another_signs_off: vec![ClinicalTier::None, ClinicalTier::None],
                ..default.clone()
            },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }
}
