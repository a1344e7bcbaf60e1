//! How often signing in may fail from one address.
//!
//! A token is 256 random bits, so guessing is hopeless whatever the rate; the limit keeps a guesser from
//! filling the ledger with refusals.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failures from one address in [`WINDOW`]: somebody who mistypes tries a few times.
const MOST_FAILURES: u32 = 10;

/// How long failures count: 1 minute, so at most 14,400 refusals a day and address get into the ledger.
const WINDOW: Duration = Duration::from_secs(60);

/// Addresses that are remembered: 1,024 of about 50 bytes. Beyond that, everybody waits for the window.
const MOST_ADDRESSES: usize = 1_024;

/// Failures of late.
#[derive(Debug, Default)]
pub struct Attempts(Mutex<HashMap<IpAddr, (Instant, u32)>>);

impl Attempts {
    /// Whether `address` may try.
    pub fn may_try(&self, address: IpAddr, now: Instant) -> bool {
        let mut attempts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.retain(|_, (since, _)| now.duration_since(*since) < WINDOW);
        match attempts.get(&address) {
            Some((_, failures)) => *failures < MOST_FAILURES,
            None => attempts.len() < MOST_ADDRESSES,
        }
    }

    /// `address` failed.
    pub fn failed(&self, address: IpAddr, now: Instant) {
        let mut attempts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, failures) = attempts.entry(address).or_insert((now, 0));
        *failures = failures.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_fails_too_often_waits_and_others_do_not() {
        let attempts = Attempts::default();
        let (one, two) = ([127, 0, 0, 1].into(), [127, 0, 0, 2].into());
        let now = Instant::now();
        for _ in 0..MOST_FAILURES {
            assert!(attempts.may_try(one, now));
            attempts.failed(one, now);
        }
        assert!(!attempts.may_try(one, now));
        assert!(attempts.may_try(two, now));
        assert!(attempts.may_try(one, now + WINDOW));
    }
}
