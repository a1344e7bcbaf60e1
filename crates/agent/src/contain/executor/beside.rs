//! Hearing what came of what is done beside this thread.

use std::os::fd::BorrowedFd;

use cordon_model::ids::MeasureId;

use super::super::beside::Came;
use super::Executor;

impl Executor {
    /// Readable when there is something for [`Executor::hear`].
    #[must_use]
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.means.descriptor()
    }

    /// Takes note of what has come to an end beside. Never waits; cheap where nothing has.
    pub fn hear(&mut self) {
        let came = self.means.finished();
        if came.is_empty() {
            return;
        }
        self.say_came(came);
        self.save_or_say();
    }

    pub(super) fn say_came(&mut self, came: Vec<(MeasureId, Came)>) {
        for (measure, came) in came {
            match came {
                Came::Acted(outcome) => self.say_acted(measure, outcome),
                Came::TakenBack(outcome) => self.say_taken_back(measure, outcome),
            }
        }
    }
}
