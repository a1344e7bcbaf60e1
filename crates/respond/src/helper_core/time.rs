//! What time it is at least, though the machine has no clock that can be relied on.
//!
//! The one idea (law 1): the helper's wall clock is anybody's (NTP, an empty battery, root). What nobody can
//! forge is when the signer signed something: it is later than that. So the helper keeps a **floor** below
//! which no clock is believed. Each genuine document raises it, running time carries it on, and nothing ever
//! lowers it. A wall clock never raises it: one that runs ahead for a minute must not age every document for
//! good.
//!
//! | the clock | what follows |
//! |---|---|
//! | behind the floor | the floor counts |
//! | behind the floor, and the machine was off | nobody knows for how long: what ends is refused until the clock is set |
//! | ahead | what ends is refused, **as long as** it is ahead; what has no end, and leases, are not touched |
//!
//! A signer's clock may run ahead too. Where the machine's own clock is not shown wrong, a document raises
//! the floor to a little ([`AGREES_WITHIN`]) beyond it at most.
//!
//! What lets people in (a code) is too old only if floor and clock both say so.

use std::time::Duration;

use cordon_model::signed::{Document, Verified};
use cordon_model::time::UtcNanos;

use super::{HelperCore, NotObeyed};
use crate::clock::Moment;

/// How far clocks that are right may differ: 2 h are a clock set to local time, twice over. Whoever can set
/// a clock can set it to the floor itself, so that less would hold nobody back.
pub const AGREES_WITHIN: Duration = Duration::from_secs(2 * 3600);

impl HelperCore {
    /// The time below which no clock is believed, as of the last step.
    #[must_use]
    pub fn time_floor(&self) -> UtcNanos {
        self.time_floor
    }

    /// Takes note that this genuine document is there, and so that it is later than its signing.
    pub fn saw<D: Document>(&mut self, document: &Verified<D>, now: &Moment) {
        self.note_time(now);
        let Some(issued_at) = document.issued_at() else { return };
        let most = if self.is_clock_behind(now) {
            issued_at
        } else {
            now.utc.max(self.time_floor).plus(AGREES_WITHIN)
        };
        self.time_floor = self.time_floor.max(issued_at.min(most));
    }

    /// Counts running time on, and the floor with it.
    pub(super) fn note_time(&mut self, now: &Moment) {
        self.lacks_time_off |= !self.clock.is_of(&now.boot);
        let before = self.clock.total();
        let ran = self.clock.advance(now).saturating_sub(before);
        // The machine was enrolled at the time in its id, at the latest.
        self.time_floor = self.time_floor.max(self.machine.made_at()).plus(ran);
    }

    /// Whether something is still good that is so until then.
    pub(super) fn check_time(&self, until: UtcNanos, now: &Moment) -> Result<(), NotObeyed> {
        if now.utc.max(self.time_floor) >= until {
            return Err(NotObeyed::Expired);
        }
        if self.is_time_unknown(now) {
            let (clock, floor) = (now.utc, self.time_floor);
            return Err(NotObeyed::ClockBehind { clock, floor });
        }
        Ok(())
    }

    /// Whether nobody can tell how long the machine was off: its clock is shown wrong.
    pub(super) fn is_time_unknown(&self, now: &Moment) -> bool {
        self.lacks_time_off && self.is_clock_behind(now)
    }

    /// Whether floor and clock agree that this time is over: for what lets people in.
    pub(super) fn is_surely_over(&self, until: UtcNanos, now: &Moment) -> bool {
        now.utc.min(self.time_floor) >= until
    }

    fn is_clock_behind(&self, now: &Moment) -> bool {
        now.utc.plus(AGREES_WITHIN) < self.time_floor
    }
}

#[cfg(test)]
#[path = "time_tests.rs"]
mod tests;
