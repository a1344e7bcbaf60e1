//! Reports that arrive exactly once: at least once by sending again, at most once by number (law 7).
//!
//! The one idea: the agent numbers its reports upwards for ever and keeps each until its number is
//! acknowledged; the hub acknowledges a number only when it is on disk, and takes a number only once.
//! Numbers may skip (an agent reserves them in blocks, and a crash leaves some unused); they never
//! repeat. A link keeps order, and what still comes over an older link is ignored: it will be sent again.

use std::collections::VecDeque;

use cordon_model::limits;
use serde::{Deserialize, Serialize};

/// Reports that wait on a machine when no hub takes them: 10,000 × at most 36 KiB = 360 MB, usually 2 KiB
/// each. Beyond it findings are counted as lost, and said as a gap.
pub const MOST_WAITING: usize = 10_000;

/// The agent's side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spool<R> {
    next: u64,
    waiting: VecDeque<(u64, R)>,
    lost: u64,
}

impl<R> Default for Spool<R> {
    fn default() -> Self {
        Self { next: 1, waiting: VecDeque::new(), lost: 0 }
    }
}

impl<R: Clone> Spool<R> {
    /// A spool that goes on from what was kept: the reports that wait, in order, and the next number to
    /// give, which must never have been given.
    #[must_use]
    pub fn resume(waiting: VecDeque<(u64, R)>, next: u64) -> Self {
        Self { next, waiting, lost: 0 }
    }

    /// The number that the next report will have.
    #[must_use]
    pub fn next_number(&self) -> u64 {
        self.next
    }

    /// Numbers a report and keeps it. `None`: there is no room, and it is counted as lost.
    pub fn push(&mut self, report: R) -> Option<u64> {
        if self.waiting.len() >= MOST_WAITING {
            self.lost = self.lost.saturating_add(1);
            return None;
        }
        let number = self.next;
        self.waiting.push_back((number, report));
        self.next = self.next.saturating_add(1);
        Some(number)
    }

    /// Forgets what is acknowledged.
    pub fn acknowledged(&mut self, number: u64) {
        while self.waiting.front().is_some_and(|(waiting, _)| *waiting <= number) {
            self.waiting.pop_front();
        }
    }

    /// The oldest waiting reports above `after`, one message full.
    #[must_use]
    pub fn batch_after(&self, after: u64) -> Vec<(u64, R)> {
        let above = self.waiting.iter().filter(|(number, _)| *number > after);
        above.take(limits::FINDINGS_PER_MESSAGE).cloned().collect()
    }

    /// Those that wait.
    #[must_use]
    pub fn waiting(&self) -> &VecDeque<(u64, R)> {
        &self.waiting
    }

    /// How many were lost for want of room since this was last asked.
    pub fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }
}

/// The hub's side, one for each machine: durable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inbox {
    /// The highest number that was taken.
    pub highest: u64,
}

impl Inbox {
    /// Whether a report of this number is new; it counts as taken then.
    pub fn take(&mut self, number: u64) -> bool {
        let is_new = number > self.highest;
        self.highest = self.highest.max(number);
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_again_is_taken_once() {
        let (mut spool, mut inbox) = (Spool::default(), Inbox::default());
        for events in 0..40 {
            spool.push(events).unwrap();
        }
        let mut taken = Vec::new();
        for _ in 0..10 {
            // Every message arrives twice.
            for (number, _) in spool.batch_after(0).iter().chain(&spool.batch_after(0)) {
                if inbox.take(*number) {
                    taken.push(*number);
                }
            }
            spool.acknowledged(inbox.highest);
        }
        assert_eq!(taken, (1..=40).collect::<Vec<_>>());
        assert!(spool.waiting().is_empty());
    }

    #[test]
    fn numbers_may_skip_but_never_repeat() {
        let mut inbox = Inbox::default();
        assert!(inbox.take(1) && inbox.take(1_001) && !inbox.take(2) && !inbox.take(1_001));
    }

    #[test]
    fn a_full_spool_counts_what_it_loses() {
        let mut spool = Spool::default();
        for _ in 0..MOST_WAITING {
            spool.push(1).unwrap();
        }
        assert!(spool.push(1).is_none());
        assert_eq!((spool.take_lost(), spool.take_lost()), (1, 0));
    }
}
