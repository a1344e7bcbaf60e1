//! What time it is, as far as a machine can know, and how long it has been running.
//!
//! The one idea: durations that matter (a lease, a budget's window) are counted as **running time**,
//! summed over boots, never as the difference of two wall-clock readings. A wall clock can be set back
//! to keep a lease for ever, or forward to refill a budget; boot time can't.

use std::time::Duration;

use cordon_model::time::{BootId, BootNanos, UtcNanos};
use serde::{Deserialize, Serialize};

/// Sixteen fresh random bytes at each call. Passed in, so that the simulator can replay a run.
pub type Randomness<'a> = &'a mut dyn FnMut() -> [u8; 16];

/// The first ten bytes of fresh randomness: what an id takes.
pub(crate) fn id_bytes(randomness: Randomness<'_>) -> [u8; 10] {
    let mut bytes = [0; 10];
    bytes.copy_from_slice(&randomness()[..10]);
    bytes
}

/// The time as one process reads it at one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// This boot.
    pub boot: BootId,
    /// Boot time.
    pub at: BootNanos,
    /// The machine's wall clock, which anybody with root may set.
    pub utc: UtcNanos,
    /// What the hub's authenticated clock says (its `Welcome.now` carried on by boot time); `None`
    /// until a hub was reached in this boot.
    pub trusted_utc: Option<UtcNanos>,
}

impl Moment {
    /// The best guess at UTC: the trusted clock, else the wall clock but never before `floor`, a time that
    /// is known to be over.
    #[must_use]
    pub fn best_utc(&self, floor: UtcNanos) -> UtcNanos {
        self.trusted_utc.unwrap_or(self.utc.max(floor))
    }
}

/// Sums running time over boots; time spent off is added once trusted time is back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunningClock {
    boot: BootId,
    at: BootNanos,
    total: Duration,
    /// A trusted time, and the total then: from these the time off is known later.
    mark: Option<(UtcNanos, Duration)>,
    /// The machine was restarted since the mark, so the total lacks the time off.
    lacks_time_off: bool,
}

impl RunningClock {
    /// A clock that reads zero at `now`.
    #[must_use]
    pub fn start(now: &Moment) -> Self {
        Self {
            boot: now.boot.clone(),
            at: now.at,
            total: Duration::ZERO,
            mark: now.trusted_utc.map(|utc| (utc, Duration::ZERO)),
            lacks_time_off: false,
        }
    }

    /// Counts on to `now` and says the total.
    pub fn advance(&mut self, now: &Moment) -> Duration {
        if now.boot == self.boot {
            self.total = self.total.saturating_add(now.at.since(self.at));
            self.at = self.at.max(now.at);
        } else {
            // Boot time began at zero in the new boot, so all of it was spent running.
            self.total = self.total.saturating_add(Duration::from_nanos(now.at.0));
            self.boot = now.boot.clone();
            self.at = now.at;
            self.lacks_time_off = true;
        }
        if let Some(utc) = now.trusted_utc {
            if let (true, Some((marked_utc, marked_total))) = (self.lacks_time_off, self.mark) {
                let counted = self.total.saturating_sub(marked_total);
                let uncounted = utc.since(marked_utc).saturating_sub(counted);
                self.total = self.total.saturating_add(uncounted);
            }
            self.lacks_time_off = false;
            self.mark = Some((utc, self.total));
        }
        self.total
    }

    /// What was counted so far.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.total
    }

    /// Whether it was counted on in this boot.
    #[must_use]
    pub fn is_of(&self, boot: &BootId) -> bool {
        self.boot == *boot
    }

    /// The total at `now`, without counting on.
    #[must_use]
    pub fn reading(&self, now: &Moment) -> Duration {
        self.clone().advance(now)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn moment(boot: &str, seconds: u64) -> Moment {
        Moment {
            boot: BootId(boot.into()),
            at: BootNanos(seconds * 1_000_000_000),
            utc: UtcNanos::from_unix_nanos(0),
            trusted_utc: None,
        }
    }

    pub(crate) fn trusted(boot: &str, seconds: u64, utc_seconds: i64) -> Moment {
        let utc = UtcNanos::from_unix_nanos(utc_seconds * 1_000_000_000);
        Moment { utc, trusted_utc: Some(utc), ..moment(boot, seconds) }
    }

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn running_time_is_summed_over_boots_and_ignores_the_wall_clock() {
        let mut clock = RunningClock::start(&moment("a", 100));
        let mut jumped = moment("a", 160);
        jumped.utc = UtcNanos::from_unix_nanos(i64::MAX);
        assert_eq!(clock.advance(&jumped), seconds(60));
        assert_eq!(clock.advance(&moment("b", 30)), seconds(90));
        assert_eq!(clock.advance(&moment("b", 20)), seconds(90), "boot time never goes back");
    }

    #[test]
    fn time_off_counts_only_when_trusted_time_is_back() {
        let mut clock = RunningClock::start(&trusted("a", 100, 1_000));
        assert_eq!(clock.advance(&moment("a", 110)), seconds(10));
        assert_eq!(clock.advance(&moment("b", 5)), seconds(15), "off, and how long is unknown");
        assert_eq!(clock.advance(&trusted("b", 6, 1_500)), seconds(500));
        assert_eq!(clock.advance(&trusted("b", 8, 9_999)), seconds(502), "counted once");
    }

    #[test]
    fn a_trusted_clock_that_went_back_adds_nothing() {
        let mut clock = RunningClock::start(&trusted("a", 0, 1_000));
        assert_eq!(clock.advance(&trusted("b", 5, 900)), seconds(5));
    }
}
