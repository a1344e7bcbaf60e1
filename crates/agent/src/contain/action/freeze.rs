//! A process and all that came from it stand still, and go on later where they stood.

use std::time::{Duration, Instant};

use cordon_model::action::ActionKind;
use cordon_model::ids::MeasureId;
use cordon_model::measure::Proof;

use super::backoff::Backoff;
use super::hold::{Held, Holder, RESTLESS};
use super::spared::Protected;
use super::{ActError, Undone};
use crate::sensor::ProcessId;

/// A tree that somebody keeps moving is held again after this long at most. Each try takes a second of the
/// helper's one thread; what was let loose meanwhile runs for so long.
const HELD_AGAIN_WITHIN: Duration = Duration::from_secs(16);

/// The means to freeze.
#[derive(Debug)]
pub struct Freeze {
    holder: Holder,
    restless: Backoff,
}

impl Freeze {
    /// By `holder`.
    #[must_use]
    pub fn new(holder: Holder) -> Self {
        Self { holder, restless: Backoff::new(HELD_AGAIN_WITHIN) }
    }

    /// Freezes what descends from `roots`, and them. Applied again, it takes in what is new; a tree that
    /// somebody keeps moving not each time, but after pauses that grow.
    ///
    /// # Errors
    /// When a root may not be touched or none is there, or the system fails: nothing is frozen then.
    pub fn apply(
        &self,
        measure: MeasureId,
        roots: &[ProcessId],
        protected: &Protected,
    ) -> Result<Held, ActError> {
        let mut held = self.holder.begin(measure, roots, self.begun(measure)?)?;
        if held.is_restless() && self.restless.waits(measure, Instant::now()).is_some() {
            match self.holder.check(&held, protected) {
                Ok(()) => return Ok(held),
                Err(error) => return Err(self.failed(&held, error)),
            }
        }
        let mut save = |held: &Held| self.holder.journal().write(ActionKind::Freeze, measure, held);
        match self.holder.hold(&mut held, protected, &mut save) {
            Ok(()) if held.is_restless() => {
                self.restless.came_to_nothing(measure, Instant::now(), RESTLESS);
                Ok(held)
            }
            Ok(()) => {
                self.restless.forget(measure);
                Ok(held)
            }
            Err(error) => Err(self.failed(&held, error)),
        }
    }

    /// What was done is taken back; gives back why.
    fn failed(&self, held: &Held, error: ActError) -> ActError {
        if let Err(also) = self.undo(held) {
            tracing::error!(%also, measure = %held.measure, "what was frozen could not be let go");
        }
        error
    }

    /// What the journal has of `measure`.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn begun(&self, measure: MeasureId) -> Result<Option<Held>, ActError> {
        self.holder.journal().read(ActionKind::Freeze, measure)
    }

    /// Shows whether the tree stands still.
    ///
    /// # Errors
    /// When the system can't be asked.
    pub fn prove(&self, held: &Held, protected: &Protected) -> Result<Proof, ActError> {
        self.holder.prove(held, protected)
    }

    /// Lets the tree go on.
    ///
    /// # Errors
    /// When the system fails; do it again.
    pub fn undo(&self, held: &Held) -> Result<Undone, ActError> {
        // An `apply` that was cut short may know of more than the one that returned.
        let begun = self.begun(held.measure)?;
        let undone = self.holder.release(begun.as_ref().unwrap_or(held))?;
        self.holder.journal().forget(ActionKind::Freeze, held.measure)?;
        self.restless.forget(held.measure);
        Ok(undone)
    }
}
