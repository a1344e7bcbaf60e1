//! Having this machine looked at: for what starts by itself or lets somebody in, for its print queues, and for what
//! a measure would do. Nothing here waits, and nothing is changed.

use std::io;
use std::path::Path;

use cordon_model::action::Action;
use cordon_model::time::UtcNanos;

use super::super::means::Under;
use super::super::printers::queues;
use super::super::protocol::{Answer, Refusal, Surveyed};
use super::super::survey::{Progress, SurveyConfig, Surveyor};
use super::Executor;

impl Executor {
    /// From now on this machine is looked at: at once, again and again, and when somebody asks.
    ///
    /// # Errors
    /// When the system gives no thread for it.
    pub fn survey_by(&mut self, config: SurveyConfig) -> io::Result<()> {
        self.surveyor = Some(Surveyor::start(config)?);
        Ok(())
    }

    /// From now on it can be asked what was changed here.
    ///
    /// # Errors
    /// When the system gives no thread for it.
    pub fn tell_changes_by(&mut self, config: SurveyConfig) -> io::Result<()> {
        self.changes = Some(Surveyor::start(config)?);
        Ok(())
    }

    pub(super) fn begin_changes(&mut self, since: UtcNanos) -> Answer {
        match self.changes.as_mut().map(|changes| changes.ask(Some(since))) {
            Some(Ok(number)) => Answer::Survey(Surveyed::Running { number }),
            Some(Err(why)) => unable(why),
            None => unable("this helper has nobody look out".into()),
        }
    }

    pub(super) fn changes_told(&mut self, number: u64) -> Answer {
        answered(self.changes.as_mut(), number)
    }

    pub(super) fn begin_survey(&mut self, since: Option<UtcNanos>) -> Answer {
        match self.surveyor.as_mut().map(|surveyor| surveyor.ask(since)) {
            Some(Ok(number)) => Answer::Survey(Surveyed::Running { number }),
            Some(Err(why)) => unable(why),
            None => unable("this helper looks at nothing".into()),
        }
    }

    pub(super) fn surveyed(&mut self, number: u64) -> Answer {
        answered(self.surveyor.as_mut(), number)
    }
}

fn answered(surveyor: Option<&mut Surveyor>, number: u64) -> Answer {
    match surveyor.map(|surveyor| surveyor.look(number)) {
        Some(Progress::Running) => Answer::Survey(Surveyed::Running { number }),
        Some(Progress::Done(bytes)) => Answer::Survey(Surveyed::Done(bytes)),
        Some(Progress::Failed(why)) => unable(why),
        None => unable("this helper looks at nothing".into()),
    }
}

impl Executor {
    /// Has it looked at what a measure would do here now: the number of the look, of which [`Executor::previewed`] says
    /// what came. Or why not.
    pub fn begin_preview(&mut self, action: &Action) -> Result<u64, Answer> {
        action.check().map_err(|error| unable(error.to_string()))?;
        let assignment = self.assignment().ok_or_else(|| {
            unable("nobody has said what this machine is: nothing can be done to it".into())
        })?;
        let under = Under { assignment: &assignment, people: Vec::new() };
        self.means.would(action, &under).map_err(unable)
    }

    /// What was seen by looks that were begun. Never waits.
    pub fn previewed(&mut self) -> Vec<(u64, Answer)> {
        let seen = self.means.previewed().into_iter();
        seen.map(|(number, would)| (number, Answer::Would(would))).collect()
    }
}

/// The print queues of this machine.
pub(super) fn printers() -> Answer {
    match queues(Path::new("/")) {
        Ok(queues) => Answer::Printers(queues),
        Err(error) => unable(format!("its print queues can't be read: {error}")),
    }
}

fn unable(why: String) -> Answer {
    Answer::Refused { kind: Refusal::Unable, why }
}
