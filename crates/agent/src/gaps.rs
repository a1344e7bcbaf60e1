//! What was not seen, gathered until it is told (law 7).
//!
//! The one idea: a flood loses something at every look, and a report of each would be a flood of its own,
//! in the spool and in the ledger. So the first loss of a kind is told at once, and what follows is added
//! up and told at the end of [`TELL_EVERY`]. The count in the agent's status is never late.

use std::collections::BTreeMap;
use std::time::Duration;

use cordon_model::time::BootNanos;

use crate::sensor::LossReason;

/// How often a gap of one kind is told while it goes on: 8,640 reports a day for each kind at most.
pub const TELL_EVERY: Duration = Duration::from_secs(10);

/// Why something is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// The sensor says why.
    Sensor(LossReason),
    /// Rules matched more often than this agent could take in.
    Unheard,
}

impl Why {
    /// For the ledger.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Sensor(LossReason::BufferFull) => {
                "the kernel's events came faster than they were read"
            }
            Self::Sensor(LossReason::Unreadable) => "the kernel's events could not be read",
            Self::Sensor(LossReason::Interrupted) => {
                "the kernel left the sensor out, because a packet interrupted it"
            }
            Self::Sensor(LossReason::GoneBeforeSeen) => {
                "processes ended before the agent, which has no eBPF, could look at them"
            }
            Self::Unheard => "rules matched faster than the agent took it in",
        }
    }
}

/// Gaps that wait to be told.
#[derive(Debug, Default)]
pub struct Gaps {
    kinds: BTreeMap<Why, Kind>,
}

#[derive(Debug, Default)]
struct Kind {
    untold: u64,
    told_at: Option<BootNanos>,
}

impl Gaps {
    /// So many more are missing.
    pub fn add(&mut self, why: Why, count: u64) {
        let kind = self.kinds.entry(why).or_default();
        kind.untold = kind.untold.saturating_add(count);
    }

    /// Whether anything is untold.
    #[must_use]
    pub fn are_waiting(&self) -> bool {
        self.kinds.values().any(|kind| kind.untold > 0)
    }

    /// What is to be told now.
    pub fn due(&mut self, now: BootNanos) -> Vec<(Why, u64)> {
        self.take(now, |kind| kind.told_at.is_none_or(|told| now.since(told) >= TELL_EVERY))
    }

    /// All that is untold: the agent stops.
    pub fn rest(&mut self, now: BootNanos) -> Vec<(Why, u64)> {
        self.take(now, |_| true)
    }

    fn take(&mut self, now: BootNanos, is_due: impl Fn(&Kind) -> bool) -> Vec<(Why, u64)> {
        let due = self.kinds.iter_mut().filter(|(_, kind)| kind.untold > 0 && is_due(kind));
        due.map(|(why, kind)| {
            kind.told_at = Some(now);
            (*why, std::mem::take(&mut kind.untold))
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: Why = Why::Sensor(LossReason::BufferFull);

    fn at(milliseconds: u64) -> BootNanos {
        BootNanos(milliseconds * 1_000_000)
    }

    #[test]
    fn the_first_gap_is_told_at_once_and_a_flood_of_them_as_one_sum() {
        let mut gaps = Gaps::default();
        let mut told = Vec::new();
        for look in 0..25_000 {
            gaps.add(FULL, 3);
            told.extend(gaps.due(at(look)));
        }
        assert_eq!(told.len(), 3, "in 25 s: at 0, 10 and 20 s");
        assert_eq!(told[0], (FULL, 3));
        told.extend(gaps.rest(at(25_000)));
        assert_eq!(told.iter().map(|(_, count)| count).sum::<u64>(), 75_000, "none is forgotten");
        assert!(!gaps.are_waiting());
    }

    #[test]
    fn one_kind_does_not_wait_for_another() {
        let mut gaps = Gaps::default();
        gaps.add(FULL, 1);
        assert_eq!(gaps.due(at(0)), [(FULL, 1)]);
        gaps.add(FULL, 1);
        gaps.add(Why::Unheard, 2);
        assert_eq!(gaps.due(at(1)), [(Why::Unheard, 2)]);
        assert!(gaps.are_waiting());
    }
}
