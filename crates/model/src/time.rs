//! Three clocks, and what each may be used for.
//!
//! * [`UtcNanos`] is what a person reads and what crosses machines. It may jump; nothing is ordered
//!   or leased by it alone.
//! * [`BootNanos`] (`CLOCK_BOOTTIME`) never jumps and counts through suspend, within one boot. Leases
//!   and latencies count it.
//! * [`BootId`] says which boot a [`BootNanos`] belongs to; two readings of different boots can't be
//!   compared, and the types' users must check.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Nanoseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UtcNanos(i64);

impl UtcNanos {
    /// The time that is `nanos` nanoseconds after the Unix epoch.
    #[must_use]
    pub const fn from_unix_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// What the system's clock says now. For the edges only: pure code takes time as an argument.
    #[must_use]
    pub fn now() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self(since.map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// Nanoseconds since the Unix epoch.
    #[must_use]
    pub const fn unix_nanos(self) -> i64 {
        self.0
    }

    /// Whole milliseconds since the Unix epoch; 0 before it.
    #[must_use]
    pub fn unix_millis(self) -> u64 {
        u64::try_from(self.0 / 1_000_000).unwrap_or(0)
    }

    /// This time and `duration`, held at the end of representable time (the year 2262).
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this is; zero if it is not after.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for UtcNanos {
    /// To the second, as people read it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_nanosecond(i128::from(self.0)) {
            Ok(at) => write!(f, "{}", at.strftime("%Y-%m-%d %H:%M:%S UTC")),
            Err(_) => write!(f, "{} ns", self.0),
        }
    }
}

/// Nanoseconds since this boot, suspend included (`CLOCK_BOOTTIME`).
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct BootNanos(pub u64);

impl BootNanos {
    /// This time and `duration`, held at the largest representable.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` (of the same boot) this is; zero if it is not after.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// One boot of one machine (`/proc/sys/kernel/random/boot_id`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootId(pub String);

impl fmt::Debug for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A length of time to two units: `4 h`, `1 h 20 min`, `3 days`.
#[must_use]
pub fn span(length: Duration) -> String {
    let seconds = length.as_secs();
    let two = |large: u64, large_word: &str, small: u64, small_word: &str| {
        if small == 0 {
            format!("{large} {large_word}")
        } else {
            format!("{large} {large_word} {small} {small_word}")
        }
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => two(seconds / 60, "min", if seconds < 600 { seconds % 60 } else { 0 }, "s"),
        3600..172_800 => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => two(seconds / 86_400, "days", seconds % 86_400 / 3600, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_said_as_people_say_it() {
        let said = |seconds| span(Duration::from_secs(seconds));
        assert_eq!(
            [said(0), said(30), said(600), said(250)],
            ["0 s", "30 s", "10 min", "4 min 10 s"]
        );
        assert_eq!([said(5_400), said(14_400), said(259_200)], ["1 h 30 min", "4 h", "3 days"]);
    }
}
