//! How soon the rules are looked at after a change: at once, but not for ever.
//!
//! The one idea: whoever changes rules in a loop must not have the processor through us, who go before all
//! ordinary work; and whoever changes them a few times in a row must not find the machine open meanwhile. So some
//! looks are had at once, and earned again in time.

use std::time::{Duration, Instant};

use cordon_model::time::BootNanos;

use super::table::Change;

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

/// Whose change a look is for, and when that was noticed: the one that asked for it, and perhaps one that was
/// heard of while the look had to wait. If only the later one was at our tables, what the look finds is its work:
/// told with the change before, it would seem older than it is, and another's.
pub(super) fn looked_for(
    first: (Change, BootNanos),
    later: Option<(Change, BootNanos)>,
) -> (Change, BootNanos) {
    match later {
        Some(later) if later.0.was_at_ours && !first.0.was_at_ours => later,
        // Ours may lie open since the first.
        Some(_) | None => first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_wiped_while_a_look_had_to_wait_is_told_of_who_wiped_it_and_of_when() {
        let by = |process, was_at_ours| Change { process, name: String::new(), was_at_ours };
        let (foreign, wipe, another) = (by(1, false), by(2, true), by(3, true));
        let told = |first: &Change, later: Option<&Change>| {
            let later = later.map(|later| (later.clone(), BootNanos(20)));
            let (change, noticed) = looked_for((first.clone(), BootNanos(10)), later);
            (change.process, noticed.0)
        };
        assert_eq!(told(&foreign, Some(&wipe)), (2, 20));
        assert_eq!(told(&wipe, Some(&foreign)), (2, 10));
        assert_eq!(told(&wipe, Some(&another)), (2, 10), "open since the first");
        assert_eq!(told(&foreign, Some(&foreign)), (1, 10));
        assert_eq!(told(&wipe, None), (2, 10));
    }

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

    /// Law 4's hundred milliseconds until wiped rules are back leave a look nine tenths of them.
    const _: () = assert!(EARNED_IN.as_millis() * 10 <= 100);

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
