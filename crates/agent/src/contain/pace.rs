//! How soon the rules are looked at after a change: at once, but not for ever.
//!
//! The one idea: whoever changes rules in a loop must not have the processor through us, who go before all
//! ordinary work; and whoever changes them a few times in a row must not find the machine open meanwhile. So some
//! looks are had at once, and earned again in time.

use std::time::{Duration, Instant};

/// In which one look is earned. A tool that wipes the rules in a loop costs us at most a hundred transactions a
/// second, and they are open for at most this long each.
const EARNED_IN: Duration = Duration::from_millis(10);
/// Looks that can be saved up: `nft`, a firewall's restart or a container's start is a few changes in a row.
const SAVED: u32 = 8;

/// When the next look may be had.
#[derive(Debug)]
pub(super) struct Pace {
    /// When all looks that can be saved are.
    full: Instant,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { full: now }
    }

    /// How long the next look has to wait: never longer than one is earned in.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        self.full.saturating_duration_since(now + EARNED_IN * (SAVED - 1))
    }

    /// A look was had. Nothing is earned while it lasts, or long ones would follow each other for ever.
    pub(super) fn looked(&mut self, began: Instant, ended: Instant) {
        let lasted = ended.saturating_duration_since(began);
        self.full = self.full.max(began) + lasted + EARNED_IN;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many looks of such a length, as soon as each may be had: how long each had to wait, and when it is over.
    fn looks(
        pace: &mut Pace,
        begin: Instant,
        count: u32,
        length: Duration,
    ) -> (Vec<Duration>, Instant) {
        let (mut now, mut waits) = (begin, Vec::new());
        for _ in 0..count {
            let wait = pace.wait(now);
            waits.push(wait);
            pace.looked(now + wait, now + wait + length);
            now += wait + length;
        }
        (waits, now)
    }

    #[test]
    fn a_few_changes_in_a_row_are_looked_at_at_once_and_a_storm_a_hundred_times_a_second() {
        for length in [0, 5, 50].map(Duration::from_millis) {
            let start = Instant::now();
            let mut pace = Pace::new(start);
            let (waits, end) = looks(&mut pace, start, 100, length);
            assert_eq!(waits[..8], [Duration::ZERO; 8], "{length:?}");
            assert_eq!(waits[8..], [EARNED_IN; 92], "{length:?}");
            // Calm for as long as it takes to earn them, they are there again, and no more of them.
            let (waits, _) = looks(&mut pace, end + EARNED_IN * 1000, 9, length);
            assert_eq!(waits.iter().filter(|wait| wait.is_zero()).count(), 8, "{length:?}");
        }
    }
}
