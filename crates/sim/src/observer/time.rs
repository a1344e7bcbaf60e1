//! The observer's own account of what time it is at least, for all that a helper was shown.
//!
//! The one idea: a helper has no clock but a wall clock that anybody sets and a running clock that stops with
//! the power. So what it can know is told from outside as well: the newest genuine document that it was shown,
//! carried on by how long the machine was on since. What a power cut or a lost memory may have taken from that
//! is taken off where it is judged what the helper may not do, and left where it is judged what it must.

use std::time::Duration;

use cordon_model::time::UtcNanos;

use super::Observer;
use crate::machine::BEGINNING;

/// How far a signer's clock may be ahead, and a machine's behind what is over for sure. Said here once more:
/// what judges the helper does not ask it.
const AGREES_WITHIN: Duration = Duration::from_secs(3600);

/// A time, and how long the machine had been awake then.
#[derive(Debug, Clone, Copy)]
struct Mark(UtcNanos, Duration);

impl Mark {
    /// The clock that counts may be fast by a thousandth, which is left out.
    fn at(self, awake: Duration) -> UtcNanos {
        self.0.plus(awake.saturating_sub(self.1).mul_f64(0.999))
    }
}

/// What is over for sure when a signer's clock says so.
fn surely_over(issued_at: UtcNanos) -> UtcNanos {
    UtcNanos::from_unix_nanos(issued_at.unix_nanos() - 3_600_000_000_000)
}

/// What a helper must know of the time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    /// It knows this at least…
    low: Mark,
    /// …and this at most.
    high: Mark,
    /// It can't know for how long the machine was off.
    lacks_time_off: bool,
}

impl Default for Known {
    /// As it is enrolled.
    fn default() -> Self {
        let begin = Mark(surely_over(UtcNanos::from_unix_nanos(BEGINNING)), Duration::ZERO);
        Self { low: begin, high: begin, lacks_time_off: false }
    }
}

impl Known {
    fn saw(&mut self, issued_at: UtcNanos, wall: UtcNanos, awake: Duration) {
        for mark in [&mut self.low, &mut self.high] {
            let known = mark.at(awake);
            let over = surely_over(issued_at);
            let most = if wall.plus(AGREES_WITHIN) < known { over } else { wall };
            *mark = Mark(known.max(over.min(most)), awake);
        }
    }

    /// Its machine lost power, or has it again: what ran since it last wrote is lost.
    pub(super) fn restarted(&mut self, unwritten: Duration) {
        self.lacks_time_off = true;
        // A helper that was away, and what it had not written.
        let lost = unwritten + Duration::from_secs(5);
        self.low.1 = self.low.1.saturating_add(lost);
    }

    /// It has nothing but what stands beside its memory.
    pub(super) fn lost(&mut self, floor: Option<UtcNanos>, awake: Duration) {
        self.lacks_time_off = true;
        let begin = surely_over(UtcNanos::from_unix_nanos(BEGINNING));
        self.low = Mark(floor.map_or(begin, |floor| floor.max(begin)), awake);
        self.low.1 = self.low.1.saturating_add(Duration::from_secs(5));
    }
}

impl Observer {
    /// A helper was shown a genuine document.
    pub(crate) fn saw(&mut self, index: usize, issued_at: UtcNanos, wall: UtcNanos, now: Duration) {
        let awake = self.awake(index, now);
        self.machines[index].known.saw(issued_at, wall, awake);
    }

    /// What time it is for a machine whose clock says `wall`. The end of all time where it can't tell: then
    /// nothing that ends is good.
    pub(crate) fn time(&self, index: usize, wall: UtcNanos, now: Duration) -> UtcNanos {
        let known = &self.machines[index].known;
        let floor = known.low.at(self.awake(index, now));
        if known.lacks_time_off && wall.plus(AGREES_WITHIN) < floor {
            UtcNanos::from_unix_nanos(i64::MAX)
        } else {
            wall.max(floor)
        }
    }

    /// Whether it is before `until` by all that a machine may go by.
    pub(crate) fn is_surely_before(
        &self,
        index: usize,
        until: UtcNanos,
        wall: UtcNanos,
        now: Duration,
    ) -> bool {
        let floor = self.machines[index].known.high.at(self.awake(index, now));
        wall.plus(AGREES_WITHIN) >= floor && wall.max(floor) < until
    }
}
