//! When something that did not come to an end is tried again: later each time.
//!
//! The helper looks every second at what is not proven, and does it again. Where somebody who is hostile
//! can keep it from ever being done, its one thread would do nothing else. So each try that came to
//! nothing makes the next wait twice as long. Kept in memory only: after a start all is tried at once.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cordon_model::ids::MeasureId;

/// How long the first pause is: longer than the helper's second, so that something else has its turn.
const FIRST: Duration = Duration::from_secs(2);

/// Measures that wait for their next try.
#[derive(Debug)]
pub struct Backoff {
    longest: Duration,
    waiting: Mutex<HashMap<MeasureId, Wait>>,
}

#[derive(Debug)]
struct Wait {
    pause: Duration,
    until: Instant,
    why: String,
}

impl Backoff {
    /// Pauses of at most `longest`.
    #[must_use]
    pub fn new(longest: Duration) -> Self {
        Self { longest, waiting: Mutex::default() }
    }

    /// Why `measure` came to nothing the last time, if it has to wait at `now`; `None` if it may be tried.
    #[must_use]
    pub fn waits(&self, measure: MeasureId, now: Instant) -> Option<String> {
        let waiting = self.waiting();
        waiting.get(&measure).filter(|wait| now < wait.until).map(|wait| wait.why.clone())
    }

    /// A try came to nothing at `now`, because of `why`.
    pub fn came_to_nothing(&self, measure: MeasureId, now: Instant, why: impl Into<String>) {
        let mut waiting = self.waiting();
        // Who is not tried any more is not remembered.
        waiting.retain(|_, wait| now < wait.until + self.longest);
        let before = waiting.get(&measure).map(|wait| wait.pause);
        let pause = before.map_or(FIRST, |before| before.saturating_mul(2)).min(self.longest);
        waiting.insert(measure, Wait { pause, until: now + pause, why: why.into() });
    }

    /// It was done, or is not wanted any more.
    pub fn forget(&self, measure: MeasureId) {
        self.waiting().remove(&measure);
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<MeasureId, Wait>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measure(last: u8) -> MeasureId {
        format!("018f0000-0000-7000-8000-0000000000{last:02x}").parse().unwrap()
    }

    #[test]
    fn each_try_that_came_to_nothing_doubles_the_pause_up_to_the_longest() {
        let backoff = Backoff::new(Duration::from_secs(10));
        let mut now = Instant::now();
        assert_eq!(backoff.waits(measure(1), now), None);
        for seconds in [2, 4, 8, 10, 10] {
            let pause = Duration::from_secs(seconds);
            backoff.came_to_nothing(measure(1), now, "it moves");
            now += pause - Duration::from_nanos(1);
            assert_eq!(backoff.waits(measure(1), now).as_deref(), Some("it moves"));
            assert_eq!(backoff.waits(measure(2), now), None, "another does not wait for it");
            now += Duration::from_nanos(1);
            assert_eq!(backoff.waits(measure(1), now), None);
        }
        backoff.came_to_nothing(measure(1), now, "it moves");
        backoff.forget(measure(1));
        assert_eq!(backoff.waits(measure(1), now), None);
        // What nobody tries any more takes no room.
        backoff.came_to_nothing(measure(1), now, "");
        backoff.came_to_nothing(measure(2), now + Duration::from_secs(12), "");
        assert_eq!(backoff.waiting().len(), 1);
    }
}
