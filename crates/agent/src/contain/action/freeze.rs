//! A process and all that came from it stand still, and go on later where they stood.

use cordon_model::ids::MeasureId;
use cordon_model::measure::Proof;

use super::hold::{Held, Holder};
use super::journal::Kind;
use super::spared::Protected;
use super::{ActError, Undone};
use crate::sensor::ProcessId;

/// The means to freeze.
#[derive(Debug)]
pub struct Freeze {
    holder: Holder,
}

impl Freeze {
    /// By `holder`.
    #[must_use]
    pub fn new(holder: Holder) -> Self {
        Self { holder }
    }

    /// Freezes what descends from `roots`, and them. Applied again, it takes in what is new.
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
        let mut save = |held: &Held| self.holder.journal().write(Kind::Freeze, measure, held);
        match self.holder.hold(&mut held, protected, &mut save) {
            Ok(()) => Ok(held),
            Err(error) => {
                if let Err(also) = self.undo(&held) {
                    tracing::error!(%also, %measure, "what was frozen could not be let go");
                }
                Err(error)
            }
        }
    }

    /// What the journal has of `measure`.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn begun(&self, measure: MeasureId) -> Result<Option<Held>, ActError> {
        self.holder.journal().read(Kind::Freeze, measure)
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
        self.holder.journal().forget(Kind::Freeze, held.measure)?;
        Ok(undone)
    }
}
