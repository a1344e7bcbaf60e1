//! What time it is on this machine, for leases and proofs.

use cordon_model::time::{BootId, BootNanos, UtcNanos};
use cordon_respond::clock::Moment;
use nix::time::{ClockId, clock_gettime};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Reads the clocks of one boot.
#[derive(Debug, Clone)]
pub struct Clocks {
    boot: BootId,
}

impl Clocks {
    /// Those of this boot.
    ///
    /// # Errors
    /// When the kernel does not say which boot it is.
    pub fn of_this_boot() -> std::io::Result<Self> {
        let boot = std::fs::read_to_string(BOOT_ID)?;
        Ok(Self { boot: BootId(boot.trim().to_owned()) })
    }

    /// As if the machine's boot were `boot`: for drills and tests of a restart.
    #[must_use]
    pub fn of_boot(boot: BootId) -> Self {
        Self { boot }
    }

    /// Now. No hub's clock is known to the helper, so none is trusted.
    #[must_use]
    pub fn now(&self) -> Moment {
        Moment { boot: self.boot.clone(), at: boot_time(), utc: UtcNanos::now(), trusted_utc: None }
    }
}

/// Time since boot, suspend included.
#[must_use]
pub fn boot_time() -> BootNanos {
    // The clock has been there since Linux 2.6.39; a reading can't fail.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(BootNanos(0), |time| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
        let nanos = u64::try_from(time.tv_nsec()).unwrap_or(0);
        BootNanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
    })
}
