//! How much one sender may send: a bucket that fills with time (law 11).
//!
//! The one idea: whoever sends more is not cut off but slowed down: its connection is not read until the
//! bucket allows, so that TCP holds it back and neither memory nor disk of the hub does.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// A bucket's size and how fast it fills.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowance {
    /// What may come at once.
    pub burst: f64,
    /// What may come each second, for ever.
    pub per_second: f64,
}

/// Reports of one machine. At once: its whole spool after an outage, 10,000
/// (`respond::delivery::MOST_WAITING`). For ever: 20 a second, far above what rules worth having find on
/// one machine.
pub(crate) const REPORTS: Allowance = Allowance { burst: 10_000.0, per_second: 20.0 };

/// Bytes of one machine. At once 32 MiB, 10,000 usual reports of 3 KiB; for ever 64 KiB a second: a
/// machine that lies all day fills 5.6 GB, and 100 such machines are seen long before a disk is full.
pub(crate) const BYTES: Allowance =
    Allowance { burst: 32.0 * 1024.0 * 1024.0, per_second: 64.0 * 1024.0 };

/// Messages of one machine, of whatever kind: 200 at once, 20 a second; an honest agent sends one in two
/// seconds, and one for each batch of findings.
pub(crate) const MESSAGES: Allowance = Allowance { burst: 2_000.0, per_second: 20.0 };

/// Connections from one address that did not turn out to be a machine's: 200 at once, 20 a second, so
/// that a site of 5,000 behind one translator is back in minutes even when the signer is away, and a
/// stranger costs the hub a hundredth of a core.
pub(crate) const ATTEMPTS_OF_ADDRESS: Allowance = Allowance { burst: 200.0, per_second: 20.0 };

/// Enrolments from one address that did not succeed (one that does is put back, so that a ward behind
/// one translator enrols as fast as it can): 30 at once, then one in two seconds.
pub(crate) const ENROLMENTS_OF_ADDRESS: Allowance = Allowance { burst: 30.0, per_second: 0.5 };

/// The same from all addresses: 200 at once, 20 a second; a handshake costs half a millisecond, so
/// strangers cost the hub a hundredth of a core.
pub(crate) const ENROLMENTS: Allowance = Allowance { burst: 200.0, per_second: 20.0 };

/// Refusals of strangers that are written to the ledger: 100 at once, then one a second. All are refused
/// alike; a flood of them must not fill the disk.
pub(crate) const RECORDED_REFUSALS: Allowance = Allowance { burst: 100.0, per_second: 1.0 };

/// Machines whose break-glass codes are made right at their enrolment: 8 at once, what one person brings
/// in at one time, and then one in ten seconds. Each takes some tenths of a second of one core. The others'
/// are made by and by ([`crate::codes`]): ten thousand that were asked for at once would keep a person who
/// needs new ones waiting for an hour.
pub(crate) const CODES_AT_ONCE: Allowance = Allowance { burst: 8.0, per_second: 0.1 };

/// A bucket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    allowance: Allowance,
    level: f64,
    at: Instant,
}

impl Bucket {
    pub fn full(allowance: Allowance, now: Instant) -> Self {
        Self { allowance, level: allowance.burst, at: now }
    }

    /// Takes `amount`, which may leave the bucket in debt, and says how long to wait until the debt is
    /// paid.
    pub fn take(&mut self, amount: f64, now: Instant) -> Duration {
        self.fill(now);
        self.level -= amount;
        if self.level >= 0.0 {
            return Duration::ZERO;
        }
        Duration::from_secs_f64((-self.level / self.allowance.per_second).min(3600.0))
    }

    /// Takes one if there is one.
    pub fn try_take(&mut self, now: Instant) -> bool {
        self.fill(now);
        let has_one = self.level >= 1.0;
        if has_one {
            self.level -= 1.0;
        }
        has_one
    }

    /// Puts one back.
    pub fn put_back(&mut self) {
        self.level = (self.level + 1.0).min(self.allowance.burst);
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.level = (self.level + passed * self.allowance.per_second).min(self.allowance.burst);
        self.at = now;
    }

    fn is_full(&self, now: Instant) -> bool {
        let mut later = *self;
        later.fill(now);
        later.level >= self.allowance.burst
    }
}

/// Buckets of many senders: at most `most`; beyond that, who is not known yet shares one bucket.
#[derive(Debug)]
pub(crate) struct Buckets<K> {
    allowance: Allowance,
    most: usize,
    known: HashMap<K, Bucket>,
    rest: Bucket,
}

impl<K: Eq + Hash> Buckets<K> {
    pub fn new(allowance: Allowance, most: usize, now: Instant) -> Self {
        Self { allowance, most, known: HashMap::new(), rest: Bucket::full(allowance, now) }
    }

    pub fn try_take(&mut self, who: K, now: Instant) -> bool {
        if self.known.len() >= self.most && !self.known.contains_key(&who) {
            // A full bucket says nothing that a new one would not.
            self.known.retain(|_, bucket| !bucket.is_full(now));
            if self.known.len() >= self.most {
                return self.rest.try_take(now);
            }
        }
        let allowance = self.allowance;
        self.known.entry(who).or_insert_with(|| Bucket::full(allowance, now)).try_take(now)
    }

    pub fn put_back(&mut self, who: &K) {
        self.known.get_mut(who).unwrap_or(&mut self.rest).put_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: Allowance = Allowance { burst: 10.0, per_second: 2.0 };

    #[test]
    fn a_burst_passes_and_what_follows_waits_for_its_turn() {
        let now = Instant::now();
        let mut bucket = Bucket::full(TEN, now);
        assert_eq!(bucket.take(10.0, now), Duration::ZERO);
        assert_eq!(bucket.take(4.0, now), Duration::from_secs(2));
        assert_eq!(bucket.take(0.0, now + Duration::from_secs(2)), Duration::ZERO);
    }

    #[test]
    fn strangers_beyond_the_limit_share_one_bucket() {
        let now = Instant::now();
        let mut buckets = Buckets::new(TEN, 2, now);
        for who in 0..2 {
            assert!(buckets.try_take(who, now));
        }
        let passed = (2..100).filter(|who| buckets.try_take(*who, now)).count();
        assert_eq!(passed, 10);
        assert!(buckets.try_take(0, now), "who was known before keeps its own");
    }
}
