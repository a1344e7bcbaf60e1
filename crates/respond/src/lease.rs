//! How long a measure lasts on a machine (law 2): counting, warning, and what follows the end.
//!
//! The one idea: a lease counts [running time](crate::clock), so it outlives a crash and a reboot but
//! not its end, whatever anybody does to the wall clock. The helper that holds a measure keeps a
//! [`LeaseClock`] beside it, asks [`LeaseClock::step`] at every wake-up, and writes it to disk at least
//! every [`CHECKPOINT`].
//!
//! ```text
//! begin ──► running ──► warned ──► ended ──► step_down(): segment, with a lease of its own,
//!             ▲  renew()  │  renew()          again and again, until somebody releases it
//!             └───────────┘
//! ```

use std::time::Duration;

use cordon_model::measure::Isolation;
use cordon_model::order::Lease;
use cordon_model::time::BootNanos;
use serde::{Deserialize, Serialize};

use crate::clock::{Moment, RunningClock};

/// How often the holder writes a running lease to disk. A power cut loses what ran since the last
/// writing, so a lease may last this much longer for each power cut: 10 s in a lease of hours, for
/// 8,640 small writes a day.
pub const CHECKPOINT: Duration = Duration::from_secs(10);

/// The longest lease: 7 days. Whoever wants a machine cut off for longer renews, and so looks at it.
pub const LONGEST_SECONDS: u32 = 7 * 24 * 3600;

/// Why a lease's terms are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a lease of {seconds} s stepping down to {step_down_seconds} s: both must be 1 to {LONGEST_SECONDS} s"
)]
pub struct BadTerms {
    seconds: u32,
    step_down_seconds: u32,
}

/// Accepts a lease's terms: every measure has an end, and so has what follows it.
///
/// # Errors
/// [`BadTerms`] when a length is zero or above [`LONGEST_SECONDS`].
pub fn check_terms(terms: &Lease) -> Result<(), BadTerms> {
    let allowed = 1..=LONGEST_SECONDS;
    if allowed.contains(&terms.seconds) && allowed.contains(&terms.step_down_seconds) {
        Ok(())
    } else {
        Err(BadTerms { seconds: terms.seconds, step_down_seconds: terms.step_down_seconds })
    }
}

/// What happened to a lease since the last step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseEvent {
    /// The end is near: tell people, once.
    Warned,
    /// The end is here: step down. Said at every step until the lease is renewed or replaced.
    Ended,
}

/// One measure's lease, as its holder counts it and keeps it on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseClock {
    terms: Lease,
    clock: RunningClock,
    /// On `clock`.
    ends: Duration,
    is_warned: bool,
}

impl LeaseClock {
    /// A lease that begins at `now`. The caller has [checked](check_terms) the terms.
    #[must_use]
    pub fn begin(terms: Lease, now: &Moment) -> Self {
        Self {
            terms,
            clock: RunningClock::start(now),
            ends: Duration::from_secs(terms.seconds.into()),
            is_warned: false,
        }
    }

    /// The lease that follows the end of this one: as long as its terms' step-down, again and again.
    #[must_use]
    pub fn begin_step_down(&self, now: &Moment) -> Self {
        Self::begin(Lease { seconds: self.terms.step_down_seconds, ..self.terms }, now)
    }

    /// Starts counting anew from `now` with new terms.
    pub fn renew(&mut self, terms: Lease, now: &Moment) {
        let elapsed = self.clock.advance(now);
        self.terms = terms;
        self.ends = elapsed.saturating_add(Duration::from_secs(terms.seconds.into()));
        self.is_warned = false;
    }

    /// Counts on to `now` and says what happened.
    pub fn step(&mut self, now: &Moment) -> Option<LeaseEvent> {
        let remaining = self.ends.saturating_sub(self.clock.advance(now));
        if remaining.is_zero() {
            return Some(LeaseEvent::Ended);
        }
        if !self.is_warned && remaining <= Duration::from_secs(self.terms.warn_seconds.into()) {
            self.is_warned = true;
            return Some(LeaseEvent::Warned);
        }
        None
    }

    /// After a start: warn once more, if the end is still near. Whoever was to be told may have died before
    /// that was heard.
    pub fn warn_again(&mut self) {
        self.is_warned = false;
    }

    /// What was ordered.
    #[must_use]
    pub fn terms(&self) -> &Lease {
        &self.terms
    }

    /// Running time left.
    #[must_use]
    pub fn remaining(&self, now: &Moment) -> Duration {
        self.ends.saturating_sub(self.clock.reading(now))
    }

    /// When it ends, in this boot's time.
    #[must_use]
    pub fn ends_at(&self, now: &Moment) -> BootNanos {
        now.at.plus(self.remaining(now))
    }

    /// How long the holder may sleep: until the warning, the end or the next [`CHECKPOINT`].
    #[must_use]
    pub fn next_wake(&self, now: &Moment) -> Duration {
        let remaining = self.remaining(now);
        let warning = Duration::from_secs(self.terms.warn_seconds.into());
        let until_warning =
            if self.is_warned { remaining } else { remaining.saturating_sub(warning) };
        until_warning.min(remaining).min(CHECKPOINT)
    }
}

/// What follows when the lease of `isolation` ends: **segment** (never silently open), or nothing where
/// nothing was cut.
#[must_use]
pub fn step_down(isolation: Isolation) -> Option<Isolation> {
    match isolation {
        Isolation::Watch => None,
        Isolation::Segment | Isolation::Full => Some(Isolation::Segment),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::tests::{moment, trusted};

    const TERMS: Lease = Lease { seconds: 100, step_down_seconds: 50, warn_seconds: 20 };

    fn reloaded(lease: &LeaseClock) -> LeaseClock {
        serde_json::from_str(&serde_json::to_string(lease).unwrap()).unwrap()
    }

    #[test]
    fn a_lease_warns_once_and_then_ends() {
        let mut lease = LeaseClock::begin(TERMS, &moment("a", 1_000));
        assert_eq!(lease.step(&moment("a", 1_079)), None);
        assert_eq!(lease.step(&moment("a", 1_080)), Some(LeaseEvent::Warned));
        assert_eq!(lease.step(&moment("a", 1_090)), None);
        assert_eq!(lease.step(&moment("a", 1_100)), Some(LeaseEvent::Ended));
        assert_eq!(lease.step(&moment("a", 1_101)), Some(LeaseEvent::Ended));
    }

    #[test]
    fn a_lease_outlives_a_crash_but_not_its_end() {
        let mut lease = LeaseClock::begin(TERMS, &moment("a", 1_000));
        lease.step(&moment("a", 1_010));
        // The holder died at once and came back 40 s later in the same boot: nothing is lost.
        let lease = reloaded(&lease);
        assert_eq!(lease.remaining(&moment("a", 1_050)), Duration::from_secs(50));
        assert_eq!(reloaded(&lease).step(&moment("a", 1_100)), Some(LeaseEvent::Ended));
    }

    #[test]
    fn a_lease_outlives_a_reboot_and_counts_the_time_off_once_it_is_known() {
        let mut lease = LeaseClock::begin(TERMS, &trusted("a", 1_000, 50_000));
        lease.step(&moment("a", 1_010));
        let mut lease = reloaded(&lease);
        assert_eq!(lease.remaining(&moment("b", 5)), Duration::from_secs(85));
        assert_eq!(lease.step(&trusted("b", 6, 50_100)), Some(LeaseEvent::Ended));
    }

    #[test]
    fn a_clock_set_back_does_not_lengthen_a_lease_and_one_set_forward_does_not_shorten_it() {
        for utc in [i64::MIN, 0, i64::MAX] {
            let mut lease = LeaseClock::begin(TERMS, &moment("a", 0));
            let mut now = moment("a", 60);
            now.utc = cordon_model::time::UtcNanos::from_unix_nanos(utc);
            assert_eq!(lease.step(&now), None);
            assert_eq!(lease.remaining(&now), Duration::from_secs(40));
        }
    }

    #[test]
    fn a_renewed_lease_counts_from_the_renewal() {
        let mut lease = LeaseClock::begin(TERMS, &moment("a", 0));
        lease.step(&moment("a", 85));
        lease.renew(TERMS, &moment("a", 90));
        assert_eq!(lease.ends_at(&moment("a", 90)), BootNanos(190_000_000_000));
        assert_eq!(lease.step(&moment("a", 170)), Some(LeaseEvent::Warned), "warned anew");
    }

    #[test]
    fn the_end_steps_down_and_never_opens_what_was_cut() {
        assert_eq!(step_down(Isolation::Full), Some(Isolation::Segment));
        assert_eq!(step_down(Isolation::Segment), Some(Isolation::Segment));
        assert_eq!(step_down(Isolation::Watch), None);
        let lease = LeaseClock::begin(TERMS, &moment("a", 0)).begin_step_down(&moment("a", 100));
        assert_eq!(lease.remaining(&moment("a", 100)), Duration::from_secs(50));
    }

    #[test]
    fn a_lease_without_end_is_refused() {
        assert!(check_terms(&TERMS).is_ok());
        assert!(check_terms(&Lease { seconds: 0, ..TERMS }).is_err());
        assert!(check_terms(&Lease { step_down_seconds: 0, ..TERMS }).is_err());
        assert!(check_terms(&Lease { seconds: u32::MAX, ..TERMS }).is_err());
    }

    proptest::proptest! {
        #[test]
        fn the_holder_wakes_before_anything_is_missed(begin in 0u64..1_000, after in 0u64..200) {
            let mut lease = LeaseClock::begin(TERMS, &moment("a", begin));
            let now = moment("a", begin + after);
            lease.step(&now);
            let wake = lease.next_wake(&now);
            proptest::prop_assert!(wake <= lease.remaining(&now) && wake <= CHECKPOINT);
        }
    }
}
