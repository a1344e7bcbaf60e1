//! The edge at which time and randomness come in.

use cordon_model::time::{BootId, BootNanos, UtcNanos};
use cordon_respond::clock::Moment;
use nix::time::{ClockId, clock_gettime};

/// Reads this machine's clocks.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    boot: BootId,
}

impl Clock {
    pub fn start() -> std::io::Result<Self> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        Ok(Self { boot: BootId(boot.trim().to_owned()) })
    }

    pub fn now(&self) -> Moment {
        // The clock exists on every kernel since 2.6.39; without it nothing would be sent again in time,
        // and everything else goes on.
        let at = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |at| {
            u64::try_from(std::time::Duration::from(at).as_nanos()).unwrap_or(u64::MAX)
        });
        Moment {
            boot: self.boot.clone(),
            at: BootNanos(at),
            utc: UtcNanos::now(),
            trusted_utc: None,
        }
    }
}

/// Sixteen fresh random bytes.
#[expect(
    clippy::expect_used,
    reason = "the kernel's randomness can't fail once the system is up, and a \
                                        hub that repeats ids must not go on"
)]
pub(crate) fn fresh() -> [u8; 16] {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the kernel gives randomness");
    bytes
}

/// Ten fresh random bytes, as an id takes.
pub(crate) fn fresh_id() -> [u8; 10] {
    let mut id = [0; 10];
    id.copy_from_slice(&fresh()[..10]);
    id
}
