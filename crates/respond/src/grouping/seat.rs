//! What one machine has brought to a story, kept apart from the story: a no is judged by it.
//!
//! The one idea: each machine has a share of its own. A wrong rule on thousands of machines, or one machine that
//! makes up rules, leaves every other's share as it was; and a finding rewrites the one small row of its machine.

use std::collections::BTreeSet;

use cordon_model::finding::ReceivedFinding;
use cordon_model::ids::{FindingId, IncidentId, MachineId};
use serde::{Deserialize, Serialize};

use super::tactic_of;

/// Rules and tactics that are remembered of one machine in one story: 128 × 9 bytes, so a row of about 1.2 KB, and
/// 12 MB for a story of ten thousand machines that each had so many. More than match on one machine in an outbreak.
pub const SEEN_PER_MACHINE: usize = 128;

/// A machine of a story.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seat {
    /// The story.
    pub incident: IncidentId,
    /// The machine.
    pub machine: MachineId,
    /// How often findings on it brought something new: a rule, a tactic, a higher level, or itself.
    pub(super) news: u32,
    /// The rules and tactics that were seen on it, as hashes.
    pub(super) seen: BTreeSet<u64>,
}

/// What of a finding was not seen on its machine before, though perhaps on another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct NewThere {
    /// Something is: what spreads to a machine is new there. What is beyond what is remembered is new each time:
    /// people are asked about it again after a no, rather than never.
    pub is_any: bool,
    /// The rule is, and is remembered from now on.
    pub rule: bool,
    /// How many of its tactics are, and are remembered from now on.
    pub tactics: u32,
}

impl Seat {
    pub(super) fn new(incident: IncidentId, machine: MachineId) -> Self {
        Self { incident, machine, news: 0, seen: BTreeSet::new() }
    }

    /// A share of which nobody can read what it was: all that is found on the machine is new there, as no no is
    /// known to cover it. `covered`: how much the furthest no about it covers.
    #[must_use]
    pub fn of_unknown(incident: IncidentId, machine: MachineId, covered: u32) -> Self {
        Self { news: covered.saturating_add(1), ..Self::new(incident, machine) }
    }

    /// Takes note of what a finding on this machine says.
    pub(super) fn takes(&mut self, received: &ReceivedFinding) -> NewThere {
        let mut new = NewThere::default();
        let rule = &received.finding.rule;
        for tactic in rule.tags.iter().filter_map(|tag| tactic_of(tag)) {
            let is_remembered = self.sees(hash_of_tactic(tactic, self.machine), &mut new.is_any);
            new.tactics += u32::from(is_remembered);
        }
        new.rule = self.sees(hash_of_rule(&rule.id, self.machine), &mut new.is_any);
        new
    }

    /// Whether it is remembered from now on, and was not before.
    fn sees(&mut self, what: u64, is_any: &mut bool) -> bool {
        if self.seen.contains(&what) {
            return false;
        }
        *is_any = true;
        self.seen.len() < SEEN_PER_MACHINE && self.seen.insert(what)
    }
}

pub(super) fn hash_of_rule(rule: &str, machine: MachineId) -> u64 {
    hash(&format!("rule {rule}"), machine)
}

pub(super) fn hash_of_tactic(tactic: &str, machine: MachineId) -> u64 {
    hash(&format!("tactic {tactic}"), machine)
}

/// As the one set of a whole story had them, so that what was kept then is read still.
fn hash(what: &str, machine: MachineId) -> u64 {
    let hash = FindingId::of(what, &machine.to_string(), &[0; 32]);
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_be_bytes(first)
}
