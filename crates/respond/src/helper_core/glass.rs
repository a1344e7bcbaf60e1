//! Opening the machine by a one-time code, with hub and network gone.
//!
//! The one idea: what a code begins is a measure like any other, **watch**, which cuts nothing and takes the
//! isolation's place. So it is proven, reported and counted down by the same rules, and as long as it lasts
//! nothing isolates the machine but people. Everything that makes a code good once is part of the one
//! state that is written to disk before the kernel is touched.
//!
//! ```text
//! begin_code ── counted, on disk ──► slow hash (the shell's) ──► open_by ── used up, on disk ──► Enforce(watch)
//! ```

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use cordon_model::action::ActionKind;
use cordon_model::break_glass::{Brake, BreakGlass};
use cordon_model::ids::MeasureId;
use cordon_model::measure::{Isolation, Origin};
use cordon_model::order::Lease;
use cordon_model::signed::Verified;
use serde::{Deserialize, Serialize};

use super::floor::check_revision;
use super::{Effect, HelperCore, Next, NotObeyed};
use crate::clock::{Moment, Randomness, id_bytes};

/// Pauses double this often at most: 2²⁰ of the shortest pause (1 s) is beyond the longest (a day).
const MOST_DOUBLINGS: u32 = 20;

/// Why a code opens nothing, in the words of the person who typed it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotOpened {
    /// Nothing to open.
    #[error("this computer is not cut off by Cordon: no code is needed, and none was used up")]
    NotCutOff,
    /// Nothing to compare with.
    #[error(
        "this computer was never given any codes: only an order from the hub, or an administrator at this \
         computer, can release it"
    )]
    NoCodes,
    /// Too old.
    #[error(
        "the codes for this computer are too old (check the date and time on it): none is taken"
    )]
    Expired,
    /// Too many wrong ones.
    #[error("too many wrong codes were typed here: wait {}, then try again", at_least(*seconds))]
    Wait {
        /// For so long, in the machine's running time.
        seconds: u64,
    },
    /// No code of this machine.
    #[error("that code does not open this computer ({left} more tries before you must wait)")]
    Unknown {
        /// Tries before there is a pause.
        left: u32,
    },
    /// A code that opened it once.
    #[error("code number {code} was used before, and a code opens once: ask for the next one")]
    Used {
        /// Its number.
        code: u8,
    },
}

/// What the machine keeps of its codes, in the helper's durable state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Glass {
    /// What the signer said ahead.
    pub document: Option<BreakGlass>,
    /// Numbers of the codes, of the newest document that was ever taken, that opened this machine.
    pub used: BTreeSet<u8>,
    /// Wrong codes, ever: the agent tells the number, so that whoever guesses is seen.
    pub wrong: u64,
    /// Which user of the system typed the last of them.
    pub wrong_by: Option<u32>,
    /// When (in running time) tries began that were not shown to be right.
    tries: VecDeque<Duration>,
    /// Until when (in running time) nobody but root may try.
    paused_until: Duration,
    /// How many pauses there were since a code was right.
    pauses: u32,
}

impl Glass {
    /// How many codes are left, if there are any codes at all.
    #[must_use]
    pub fn unused(&self) -> Option<usize> {
        let document = self.document.as_ref()?;
        Some(document.codes.len().saturating_sub(self.used.len()))
    }

    fn may_begin(&mut self, brake: Brake, running: Duration) -> Result<(), NotOpened> {
        if running < self.paused_until {
            let left = self.paused_until - running;
            return Err(NotOpened::Wait { seconds: left.as_secs() + 1 });
        }
        let window = Duration::from_secs(brake.window_seconds.into());
        self.tries.retain(|began| began.saturating_add(window) > running);
        Ok(())
    }

    /// Counted before anything is looked at: whoever pulls the plug in between has had his try.
    fn count(&mut self, brake: Brake, running: Duration) {
        self.tries.push_back(running);
        if self.tries.len() >= usize::from(brake.tries) {
            let doubled = brake.pause_seconds.saturating_mul(1 << self.pauses.min(MOST_DOUBLINGS));
            let pause = doubled.min(brake.longest_pause_seconds);
            self.paused_until = running.saturating_add(Duration::from_secs(pause.into()));
            self.pauses = self.pauses.saturating_add(1);
            self.tries.clear();
        }
    }

    fn forgive(&mut self) {
        self.tries.clear();
        self.paused_until = Duration::ZERO;
        self.pauses = 0;
    }
}

/// A length of time in words, rounded up: nobody is to come too early.
fn at_least(seconds: u64) -> String {
    match seconds {
        0..=90 => format!("{seconds} seconds"),
        91..=5_400 => format!("{} minutes", seconds.div_ceil(60)),
        _ => format!("{} hours", seconds.div_ceil(3_600)),
    }
}

impl HelperCore {
    /// The machine's codes.
    #[must_use]
    pub fn glass(&self) -> &Glass {
        &self.glass
    }

    /// Takes the hashes of this machine's codes, in place of any older ones. What is held already changes
    /// nothing, brings no used code back, and is no error.
    ///
    /// # Errors
    /// [`NotObeyed::WrongTarget`]; [`NotObeyed::OldRevision`], so that an old document can't bring back
    /// codes that were used; [`NotObeyed::BreakGlass`].
    pub fn take_codes(&mut self, document: &Verified<BreakGlass>) -> Result<(), NotObeyed> {
        self.check_target(&document.organisation, document.machine)?;
        document.check()?;
        if self.glass.document.as_ref() == Some(&**document) {
            return Ok(());
        }
        let held = self.glass.document.as_ref().map(|held| held.revision);
        let known = self.newest_revisions().codes;
        check_revision(document.revision, held, known)?;
        // Given again after the memory was lost: what was used of it stays used.
        if document.revision > known {
            self.glass.used.clear();
        }
        self.glass.document = Some((**document).clone());
        Ok(())
    }

    /// Whether a code opened this machine and the time is not over in which only people isolate it.
    #[must_use]
    pub fn is_held_open(&self) -> bool {
        let held = match &self.next {
            Some(Next::Hold(next)) => Some(next),
            Some(Next::Free) => None,
            None => self.current.as_ref(),
        };
        held.is_some_and(|held| matches!(held.origin, Origin::BreakGlass { .. }))
    }

    /// The system's user `user` wants to try a code: the try is counted, and what to hash it by is given.
    /// `is_unaccounted_for`: something of Cordon's is in the kernel that this state knows nothing of. Root
    /// is counted and not held up: it could take the rules away by hand.
    ///
    /// # Errors
    /// See [`NotOpened`]. Write the state down before anything is hashed.
    pub fn begin_code(
        &mut self,
        user: u32,
        is_unaccounted_for: bool,
        now: &Moment,
    ) -> Result<BreakGlass, NotOpened> {
        self.note_time(now);
        let running = self.clock.total();
        let is_cut_off = self.isolation() > Some(Isolation::Watch) || is_unaccounted_for;
        if !is_cut_off {
            return Err(NotOpened::NotCutOff);
        }
        let document = self.glass.document.clone().ok_or(NotOpened::NoCodes)?;
        if self.is_surely_over(document.expires_at, now) {
            return Err(NotOpened::Expired);
        }
        match self.glass.may_begin(document.brake, running) {
            Err(_) if user == 0 => {}
            may => may?,
        }
        self.glass.count(document.brake, running);
        Ok(document)
    }

    /// Opens the machine by a code with this hash, typed by `user`.
    ///
    /// # Errors
    /// See [`NotOpened`]. Write the state down before the effects are carried out, and if it can't be
    /// written, forget it all: then nothing was opened and no code used up.
    pub fn open_by(
        &mut self,
        hash: &[u8; 32],
        user: u32,
        now: &Moment,
        randomness: Randomness<'_>,
    ) -> Result<(u8, Vec<Effect>), NotOpened> {
        let Some(document) = &self.glass.document else { return Err(NotOpened::NoCodes) };
        let Some(code) = document.number_of(hash) else {
            self.glass.wrong = self.glass.wrong.saturating_add(1);
            self.glass.wrong_by = Some(user);
            let left = u32::from(document.brake.tries)
                .saturating_sub(u32::try_from(self.glass.tries.len()).unwrap_or(u32::MAX));
            let running = self.clock.reading(now);
            if running < self.glass.paused_until {
                let seconds = (self.glass.paused_until - running).as_secs() + 1;
                return Err(NotOpened::Wait { seconds });
            }
            return Err(NotOpened::Unknown { left });
        };
        // Whoever has a code of this machine, used or not, does not guess.
        let (revision, seconds) = (document.revision, document.hold_off_seconds);
        self.glass.forgive();
        if self.glass.used.contains(&code) {
            return Err(NotOpened::Used { code });
        }
        self.glass.used.insert(code);
        let lease = Lease { seconds, step_down_seconds: seconds, warn_seconds: 0 };
        let measure = MeasureId::new(now.utc, id_bytes(randomness));
        let origin = Origin::BreakGlass { revision, code };
        let mut effects = self.hold(measure, origin, true, Isolation::Watch, lease, now);
        // Peers that can't be spoken to keep a machine from its work as much.
        let blocks: Vec<MeasureId> = self
            .acting
            .values()
            .filter(|acting| acting.action.kind() == ActionKind::Block)
            .map(|acting| acting.measure)
            .collect();
        for block in blocks {
            effects.extend(self.undo(block, now).unwrap_or_default());
        }
        Ok((code, effects))
    }

    /// For how long nobody but root may try a code.
    #[must_use]
    pub fn code_pause(&self, now: &Moment) -> Duration {
        self.glass.paused_until.saturating_sub(self.clock.reading(now))
    }
}

#[cfg(test)]
#[path = "glass_tests.rs"]
pub(super) mod tests;
