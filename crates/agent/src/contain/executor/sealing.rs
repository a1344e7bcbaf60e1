//! Having archives of evidence signed: asked for until it is done.
//!
//! The one idea: the disk knows what is not sealed, and no event has to arrive. Each look at a collection that is
//! whole and not sealed asks for its seal anew, and whoever begins to listen is asked for all that are missing.

use cordon_evidence::archive::Statement;
use cordon_model::action::ActionKind;
use cordon_model::ids::MeasureId;
use cordon_model::signed::Envelope;

use super::super::means::Under;
use super::super::protocol::{Event, Refusal};
use super::{Executor, Refused};

/// Seals that are asked for of one listener at once: a quarter of the events that may wait. The rest is asked for
/// when it listens again, or when its measure is looked at.
const ASKED_AT_ONCE: usize = 16;

impl Executor {
    /// Asks for the seal, if that does not wait to be asked already.
    pub(super) fn tell_gathered(&mut self, statement: Statement) {
        let measure = statement.measure;
        let asks =
            |event: &Event| matches!(event, Event::Gathered { measure: of, .. } if *of == measure);
        if !self.events.iter().any(asks) {
            self.tell(Event::Gathered { measure, statement });
        }
    }

    /// Asks for the seals of everything that has none.
    pub(super) fn tell_unsealed(&mut self) {
        match self.means.unsealed(ASKED_AT_ONCE) {
            Ok(unsealed) => {
                unsealed.into_iter().for_each(|statement| self.tell_gathered(statement))
            }
            Err(error) => tracing::error!(%error, "which archives are not sealed is not known"),
        }
    }

    /// Puts the agent's seal to an archive, and says what came of its measure then.
    pub(super) fn seal(&mut self, measure: MeasureId, seal: &Envelope) -> Result<(), Refused> {
        let sealed = self.means.seal(measure, seal);
        if let Some((action, assignment, people)) = self.acting(measure)
            && action.kind() == ActionKind::Collect
        {
            let under = Under { assignment: &assignment, people };
            if let Some(outcome) = self.means.look(measure, &action, under) {
                self.say_acted(measure, outcome);
                self.save_or_say();
            }
        }
        sealed.map_err(|error| Refused(Refusal::NotObeyed, error.to_string()))
    }
}
