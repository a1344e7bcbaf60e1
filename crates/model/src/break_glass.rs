//! Release with hub and network gone: what the signer said ahead about one machine's one-time codes.
//!
//! The one idea (law 1): the authority to open a machine is this signed document, which the machine's
//! helper holds since before any incident. It has hashes only: whoever steals it has no code. What a code
//! looks like, how it is made and how it is hashed is the business of the crate `cordon-code`.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;

use crate::ids::{MachineId, OdsCode};
use crate::signed::Document;
use crate::time::UtcNanos;

/// Codes of one machine: at most 16, so that a sheet of paper holds them in letters that can be read in
/// bad light, and one document stays below 1 KiB (16 × 34 bytes and its head).
pub const MOST_CODES: u8 = 16;

/// The longest that codes are good: 1,100 days, three years and a margin. A sheet that nobody has looked
/// at for longer is found to be missing when it is needed.
pub const LONGEST_GOOD_DAYS: u16 = 1_100;

/// The longest that automatic containment may be held off: 7 days, as the longest lease.
pub const LONGEST_HOLD_OFF_SECONDS: u32 = 7 * 24 * 3600;

/// How a code is hashed: Argon2id (RFC 9106), with these costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hashing {
    /// Memory, in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Hashing {
    /// 19 MiB and 2 passes, the least that OWASP's cheat sheet on password storage names for Argon2id.
    /// More buys nothing here: a code has 74 bits, where a password has perhaps 30.
    pub const DEFAULT: Self = Self { memory_kib: 19 << 10, passes: 2, lanes: 1 };

    /// Whether a machine can bear it: at most 64 MiB and 16 passes, about a second on a slow one. The least
    /// memory is Argon2's own, 8 KiB a lane.
    #[must_use]
    pub fn is_bearable(self) -> bool {
        (1..=4).contains(&self.lanes)
            && (8 * self.lanes..=64 << 10).contains(&self.memory_kib)
            && (1..=16).contains(&self.passes)
    }
}

/// How many wrong codes are borne, counted in the machine's running time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Brake {
    /// So many wrong codes…
    pub tries: u8,
    /// …in so many seconds…
    pub window_seconds: u32,
    /// …and nobody but root may try for so many seconds; twice as many the next time…
    pub pause_seconds: u32,
    /// …up to so many. Not longer: whoever tries codes on purpose must not be able to lock out the person
    /// who has one.
    pub longest_pause_seconds: u32,
}

impl Brake {
    /// Five in a quarter of an hour; then a quarter of an hour, half an hour, and an hour at most. That is
    /// 120 tries a day at the very most, of 2⁷⁴ codes.
    pub const DEFAULT: Self =
        Self { tries: 5, window_seconds: 900, pause_seconds: 900, longest_pause_seconds: 3600 };

    fn is_bearable(self) -> bool {
        let day = 24 * 3600;
        (1..=20).contains(&self.tries)
            && (1..=day).contains(&self.window_seconds)
            && (1..=self.longest_pause_seconds).contains(&self.pause_seconds)
            && self.longest_pause_seconds <= day
    }
}

/// What a policy says of break-glass codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakGlassTerms {
    /// How many codes a machine has.
    pub codes: u8,
    /// For how many days they are good.
    pub good_for_days: u16,
    /// Seconds for which Cordon does not isolate the machine by itself after a code has opened it: the time
    /// that people have to look at it. People may isolate it again at any moment.
    pub hold_off_seconds: u32,
    /// How codes are hashed.
    pub hashing: Hashing,
    /// How many wrong ones are borne.
    pub brake: Brake,
}

impl Default for BreakGlassTerms {
    /// Six codes for 400 days (printed anew once a year, with a month to do it in); four hours held off, as
    /// long as an isolation lasts.
    fn default() -> Self {
        Self {
            codes: 6,
            good_for_days: 400,
            hold_off_seconds: 4 * 3600,
            hashing: Hashing::DEFAULT,
            brake: Brake::DEFAULT,
        }
    }
}

/// Terms that no machine is to be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadBreakGlass {
    /// How many codes.
    #[error("{0} break-glass codes; 1 to {MOST_CODES} are taken")]
    Codes(usize),
    /// How long.
    #[error("break-glass codes for {0} days; 1 to {LONGEST_GOOD_DAYS} are taken")]
    Days(u16),
    /// How long it is held off.
    #[error("{0} s of held-off containment; 1 to {LONGEST_HOLD_OFF_SECONDS} are taken")]
    HoldOff(u32),
    /// The cost of hashing.
    #[error("hashing that a machine can't bear: up to 64 MiB, 16 passes and 4 lanes are taken")]
    Hashing,
    /// The brake.
    #[error(
        "a brake of 1 to 20 tries, with a window and pauses of 1 s to a day that do not shrink, is taken"
    )]
    Brake,
}

impl BreakGlassTerms {
    /// Accepts the terms, or says what is wrong.
    ///
    /// # Errors
    /// See [`BadBreakGlass`].
    pub fn check(&self) -> Result<(), BadBreakGlass> {
        if !(1..=LONGEST_GOOD_DAYS).contains(&self.good_for_days) {
            return Err(BadBreakGlass::Days(self.good_for_days));
        }
        check(self.codes.into(), self.hold_off_seconds, self.hashing, self.brake)
    }
}

fn check(
    codes: usize,
    hold_off_seconds: u32,
    hashing: Hashing,
    brake: Brake,
) -> Result<(), BadBreakGlass> {
    if !(1..=usize::from(MOST_CODES)).contains(&codes) {
        return Err(BadBreakGlass::Codes(codes));
    }
    if !(1..=LONGEST_HOLD_OFF_SECONDS).contains(&hold_off_seconds) {
        return Err(BadBreakGlass::HoldOff(hold_off_seconds));
    }
    if !hashing.is_bearable() {
        return Err(BadBreakGlass::Hashing);
    }
    if brake.is_bearable() { Ok(()) } else { Err(BadBreakGlass::Brake) }
}

/// One machine's one-time codes, as hashes, signed with the command key.
///
/// It is shipped ahead and pinned by the helper. A code of it opens this machine once, whatever holds it
/// isolated, with nobody in reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakGlass {
    /// Whose machine.
    pub organisation: OdsCode,
    /// Which machine.
    pub machine: MachineId,
    /// Counts up; a machine refuses one that is not newer than what it has, so that an old one can't bring
    /// back codes that were used.
    pub revision: u64,
    /// What all its codes are hashed with. One for all: a try costs one hash, and with 74 bits in a code
    /// nobody gains by trying one hash against several.
    pub salt: ByteArray<16>,
    /// How.
    pub hashing: Hashing,
    /// The codes' hashes; the first is code number 1.
    pub codes: Vec<ByteArray<32>>,
    /// How many wrong ones are borne.
    pub brake: Brake,
    /// See [`BreakGlassTerms::hold_off_seconds`].
    pub hold_off_seconds: u32,
    /// When it was signed.
    pub issued_at: UtcNanos,
    /// When its codes are no longer good.
    pub expires_at: UtcNanos,
}

impl BreakGlass {
    /// Accepts the document's numbers, or says what is wrong.
    ///
    /// # Errors
    /// See [`BadBreakGlass`].
    pub fn check(&self) -> Result<(), BadBreakGlass> {
        check(self.codes.len(), self.hold_off_seconds, self.hashing, self.brake)
    }

    /// The number of the code that has this hash, from 1.
    #[must_use]
    pub fn number_of(&self, hash: &[u8; 32]) -> Option<u8> {
        let at = self.codes.iter().position(|code| **code == *hash)?;
        u8::try_from(at + 1).ok()
    }
}

impl Document for BreakGlass {
    const TYPE: &'static str = "application/vnd.cordon.break-glass.v1+cbor";

    fn issued_at(&self) -> Option<UtcNanos> {
        Some(self.issued_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_terms_are_taken_and_terms_that_harm_are_not() {
        let terms = BreakGlassTerms::default();
        assert_eq!(terms.check(), Ok(()));
        assert!(BreakGlassTerms { codes: 0, ..terms }.check().is_err());
        assert!(BreakGlassTerms { codes: MOST_CODES + 1, ..terms }.check().is_err());
        assert!(BreakGlassTerms { good_for_days: 0, ..terms }.check().is_err());
        assert!(BreakGlassTerms { hold_off_seconds: 0, ..terms }.check().is_err());
        // A gibibyte would kill other programs on a small machine.
        let hungry = Hashing { memory_kib: 1 << 20, ..Hashing::DEFAULT };
        assert!(BreakGlassTerms { hashing: hungry, ..terms }.check().is_err());
        // A pause of a year would be a way to lock people out.
        let endless = Brake { longest_pause_seconds: 365 * 24 * 3600, ..Brake::DEFAULT };
        assert!(BreakGlassTerms { brake: endless, ..terms }.check().is_err());
    }
}
