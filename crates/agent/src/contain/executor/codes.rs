//! Break-glass codes at the executor: signed hashes in, a machine opened.
//!
//! The one idea: a try is on disk before its code is hashed, and a code is used up on disk, together with
//! what is meant instead, before the kernel is touched. A disk that can't be written opens nothing.

use cordon_model::break_glass::BreakGlass;
use cordon_model::measure::{Isolation, MeasureState};
use cordon_model::signed::{Envelope, Verified};
use cordon_respond::helper_core::NotOpened;

use super::super::door::{Opened, Seen, Unopened};
use super::super::protocol::Event;
use super::{Executor, Refused, fresh};

impl Executor {
    pub(super) fn take_codes(&mut self, envelope: &Envelope) -> Result<(), Refused> {
        let document: Verified<BreakGlass> = self.open(envelope)?;
        self.obey(|core, now| {
            core.saw(&document, now);
            core.take_codes(&document).map(|()| Vec::new())
        })
    }

    /// What anybody at the machine may know.
    #[must_use]
    pub fn seen(&self) -> Seen {
        let now = self.clocks.now();
        let core = self.enrolled.as_ref().map(|enrolled| &enrolled.kept.core);
        let held = core.and_then(|core| core.current.as_ref());
        Seen {
            name: core
                .and_then(|core| core.assignment.as_ref())
                .map(|assignment| assignment.name.clone()),
            isolation: match held {
                Some(held) => Some(held.isolation),
                None => self.is_unaccounted_for.then_some(Isolation::Full),
            },
            unused_codes: core
                .and_then(|core| core.glass().unused())
                .map(|unused| u32::try_from(unused).unwrap_or(u32::MAX)),
            pause_seconds: core.map_or(0, |core| core.code_pause(&now).as_secs()),
            ring: core
                .and_then(|core| core.guidance())
                .map(|guidance| guidance.ring.clone())
                .unwrap_or_default(),
        }
    }

    /// A user of the system wants to try a code: counts it, and says what to hash it by.
    ///
    /// # Errors
    /// Why no code is tried now, in words.
    pub fn begin_code(&mut self, user: u32) -> Result<BreakGlass, Unopened> {
        let now = self.clocks.now();
        let is_unaccounted_for = self.is_unaccounted_for;
        let begun = self
            .with_core(|core| core.begin_code(user, is_unaccounted_for, &now))
            .unwrap_or(Err(NotOpened::NoCodes));
        let document = begun.map_err(|why| unopened(&why))?;
        // One that is not on disk does not count after a restart: then it is not tried either.
        self.save().map_err(|error| unable(&error))?;
        Ok(document)
    }

    /// Opens the machine by the code with this hash, which `user` typed.
    ///
    /// # Errors
    /// Why it opens nothing, in words.
    pub fn open_by(&mut self, hash: &[u8; 32], user: u32) -> Result<Opened, Unopened> {
        let now = self.clocks.now();
        let Some(enrolled) = self.enrolled.as_mut() else {
            return Err(unopened(&NotOpened::NoCodes));
        };
        let before = enrolled.kept.clone();
        let (code, effects) = match enrolled.kept.core.open_by(hash, user, &now, &mut fresh) {
            Ok(opened) => opened,
            Err(why) => {
                tracing::warn!(user, %why, "a break-glass code opened nothing");
                self.save_or_say();
                self.tell(Event::WrongCode);
                return Err(unopened(&why));
            }
        };
        self.save_all_or_forget(before).map_err(|error| unable(&error))?;
        tracing::warn!(user, code, "a break-glass code opens this machine");
        self.carry_out(effects);
        self.is_unaccounted_for = false;
        self.save_or_say();
        let core = self.enrolled.as_ref().map(|enrolled| &enrolled.kept.core);
        let held = core.and_then(|core| core.current.as_ref());
        let is_proven = held.is_some_and(|held| {
            held.isolation == Isolation::Watch && held.state == MeasureState::Verified
        });
        Ok(Opened {
            code,
            is_proven,
            hold_off_seconds: core
                .and_then(|core| core.glass().document.as_ref())
                .map_or(0, |document| document.hold_off_seconds),
        })
    }
}

fn unopened(why: &NotOpened) -> Unopened {
    let wait_seconds = match why {
        NotOpened::Wait { seconds } => Some(*seconds),
        _ => None,
    };
    Unopened { why: why.to_string(), wait_seconds }
}

fn unable(error: &std::io::Error) -> Unopened {
    let why = format!(
        "this computer's disk can't be written ({error}), so no code can be taken: an administrator has \
         to make room on it first"
    );
    Unopened { why, wait_seconds: None }
}
