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
//! What nothing lowers must not run ahead of the true time, or orders that come in time would be refused for
//! good. So it is kept below what it could be:
//!
//! * The signer's clock may have been ahead when it signed: what was signed counts as [`AGREES_WITHIN`]
//!   older. Where the machine's own clock is not shown to be behind, no document raises the floor beyond that
//!   clock, however far ahead the signer's is.
//! * The clock that counts running time may be fast (a crystal by some ten millionths): one thousandth is
//!   left out, forty minutes in a month.
//!
//! What is left: a signer's clock that is hours ahead while a machine's clock is hours ahead too (one time
//! server that is wrong for both) or hours behind; a hub's clock that is days ahead at the enrolment; a
//! running clock that leaps (a laptop's battery clock jumps while it sleeps). Then that machine refuses what
//! ends until the time has caught up, or it is enrolled again; releases, what has no end, and codes it takes.
//!
//! A fresh signature that agrees with the machine's clock does not lower the floor: whoever withheld the newest
//! document and sets the clock back to its signing would have it, and all that ended since, good again.
//!
//! What lets people in (a code) is too old only if floor and clock both say so.

use std::time::Duration;

use cordon_model::signed::{Document, Verified};
use cordon_model::time::UtcNanos;

use super::{HelperCore, NotObeyed};
use crate::clock::Moment;

/// How far ahead a signer's clock may be without any harm, and how far behind the floor a machine's own
/// without being shown wrong: an hour is a clock set to local time. Whoever can set a clock can set it to the
/// floor itself, so that less would hold nobody back.
pub const AGREES_WITHIN: Duration = Duration::from_secs(3600);

/// Of this much running time one part is not counted.
const RUNNING_PARTS: u32 = 1000;

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
        let surely = surely_over(issued_at);
        let most = if self.is_clock_behind(now) { surely } else { now.utc };
        self.time_floor = self.time_floor.max(surely.min(most));
    }

    /// Counts running time on, and the floor with it.
    pub(super) fn note_time(&mut self, now: &Moment) {
        self.lacks_time_off |= !self.clock.is_of(&now.boot);
        let before = self.clock.total();
        let ran = self.clock.advance(now).saturating_sub(before);
        // The machine was enrolled at the time in its id, by its hub's clock.
        let begun = self.time_floor.max(surely_over(self.machine.made_at()));
        self.time_floor = begun.plus(ran - ran / RUNNING_PARTS);
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

/// What is over for sure when a signer's clock says `issued_at`.
pub(super) fn surely_over(issued_at: UtcNanos) -> UtcNanos {
    let allowed = i64::try_from(AGREES_WITHIN.as_nanos()).unwrap_or(i64::MAX);
    UtcNanos::from_unix_nanos(issued_at.unix_nanos().saturating_sub(allowed))
}

#[cfg(test)]
#[path = "time_tests.rs"]
mod tests;
