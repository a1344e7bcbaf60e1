//! What passes between the agent and its privileged helper: who it is told to obey, what it did, and how
//! things are.
//!
//! The one idea: the helper's last word stands only until it is asked to do something. From then on nobody
//! knows, and the hub is told so, until the helper has said again how things are.

use cordon_evidence::archive::Statement;
use cordon_model::asset::Assignment;
use cordon_model::break_glass::BreakGlass;
use cordon_model::guidance::Guidance;
use cordon_model::holds::Holds;
use cordon_model::ids::MeasureId;
use cordon_model::signed::seal;
use cordon_model::wire::Report;

use super::{Agent, AgentError, locked};
use crate::contain::protocol::{Answer, Ask, Event, Pin, Receipts, Refusal};
use crate::helper_link::{HelperGone, Told};
use crate::helper_word::holds_of;
use crate::noticed;

impl Agent {
    /// Hears what the helper tells by itself.
    pub(super) async fn listen(&mut self, word: Told) -> Result<(), AgentError> {
        match word {
            Told::Here => self.introduce().await?,
            Told::Gone => {
                self.not_known("the privileged helper is gone");
                self.report_gap(
                    0,
                    "the privileged helper is gone: until it is back, nothing is contained or released here"
                        .into(),
                );
            }
            Told::Event(Event::Receipts(receipts)) => {
                self.take(receipts).await;
                self.look_if(true).await;
            }
            Told::Event(Event::LeaseEnds { measure, .. }) => {
                self.note(format!("the lease of measure {measure} ends soon"));
            }
            Told::Event(Event::Wiped { by: (pid, name), noticed, restored, .. }) => {
                let finding = noticed::wiped(&self.host, pid, &name, noticed, restored);
                self.find(finding).await;
            }
            // The status that every look asks for has the number.
            Told::Event(Event::WrongCode) => self.look_if(true).await,
            Told::Event(Event::Gathered { measure, statement }) => {
                self.seal_archive(measure, &statement).await;
            }
            Told::Event(Event::Lost { events }) => {
                self.report_gap(events, "the helper told more than was heard".into());
            }
        }
        Ok(())
    }

    /// Signs an archive of evidence. What is not done is asked for again by the helper, until it is.
    async fn seal_archive(&mut self, measure: MeasureId, statement: &Statement) {
        let seal = match seal(statement, self.identity.receipt_key()) {
            Ok(seal) => seal,
            Err(error) => return tracing::error!(%error, %measure, "an archive can't be sealed"),
        };
        match self.ask(Ask::Seal { measure, seal }).await {
            Ok(Answer::Obeyed(receipts)) => {
                self.take(receipts).await;
                self.look_if(true).await;
            }
            Ok(Answer::Refused { why, .. }) => {
                tracing::error!(why, %measure, "the archive is not sealed; the helper asks again");
            }
            Ok(_) | Err(HelperGone) => {
                tracing::warn!(%measure, "whether the archive is sealed is not known");
            }
        }
    }

    /// Tells a helper that has just appeared whom to obey and what this machine is, and asks to hear.
    async fn introduce(&mut self) -> Result<(), AgentError> {
        let pin = Pin {
            command_key: self.identity.command_key().to_bytes(),
            organisation: self.identity.organisation().clone(),
            machine: self.identity.machine(),
        };
        match self.ask(Ask::Pin(pin)).await {
            Ok(Answer::Refused { kind: Refusal::PinnedElsewhere, why }) => {
                return Err(AgentError::PinnedElsewhere(why));
            }
            Ok(Answer::Refused { why, .. }) => tracing::error!(why, "the helper can't be pinned"),
            Ok(
                Answer::Obeyed(_)
                | Answer::Status(_)
                | Answer::Survey(_)
                | Answer::Printers(_)
                | Answer::Would(_),
            )
            | Err(HelperGone) => {}
        }
        let key = *self.identity.command_key();
        if let Some(assignment) = self.documents.read::<Assignment>(&key) {
            self.assign(assignment.envelope().clone(), assignment.revision).await;
        }
        if let Some(guidance) = self.documents.read::<Guidance>(&key) {
            self.take_guidance(guidance.envelope().clone()).await;
        }
        match self.documents.read::<BreakGlass>(&key) {
            Some(codes) => self.take_codes(codes.envelope().clone()).await,
            None => self.look_if(true).await,
        }
        Ok(())
    }

    /// Takes the helper's receipts, one message after another until none waits or there is no room for more.
    pub(super) async fn take(&mut self, mut receipts: Receipts) {
        while !receipts.receipts.is_empty() {
            let end = receipts.first.saturating_add(receipts.receipts.len() as u64);
            let before = self.write_down(&receipts);
            match self.ask(Ask::Reported { before }).await {
                Ok(Answer::Obeyed(rest)) if before == end && rest.first >= end => receipts = rest,
                // What is left is told again.
                Ok(_) => return,
                Err(HelperGone) => {
                    tracing::warn!("the helper will tell these receipts again");
                    return;
                }
            }
        }
    }

    /// Seals receipts, writes them down and sends them up; the number of the first that is still the helper's
    /// to keep.
    fn write_down(&mut self, receipts: &Receipts) -> u64 {
        let mut before = receipts.first;
        for receipt in &receipts.receipts {
            tracing::info!(action = %receipt.action, state = ?receipt.state, "measure");
            let sealed = match seal(receipt, self.identity.receipt_key()) {
                Ok(sealed) => sealed,
                Err(error) => {
                    tracing::error!(%error, "a receipt can't be sealed");
                    before += 1;
                    continue;
                }
            };
            if let Err(error) = self.journal.receipt(&sealed) {
                tracing::error!(%error, "the journal can't be written");
            }
            if self.report(Report::Receipt(sealed)).is_none() {
                // The helper keeps it, and this and the next are told again.
                break;
            }
            if let Some(finding) = noticed::opened_by_code(receipt, &self.host) {
                self.report(Report::Finding(Box::new(finding)));
            }
            before += 1;
        }
        before
    }

    /// Asks the helper how things are, for the status and for the core. One that has just not answered is
    /// not waited for once more: it is asked again beside everything else.
    pub(super) async fn look_if(&mut self, is_here: bool) {
        if is_here && self.helper.is_some() {
            let answer = self.ask(Ask::Status).await;
            self.hear_helper(answer);
        }
    }

    /// Takes what the helper said of how things are, into the status and into the core.
    pub(super) fn hear_helper(&mut self, answer: Result<Answer, HelperGone>) {
        let Ok(Answer::Status(status)) = answer else {
            return self.not_known("the privileged helper does not answer");
        };
        let holds = holds_of(&status);
        if holds.unknown().is_none() {
            self.core.isolated(holds.isolation());
        }
        let wrong = status.wrong_codes;
        if wrong.total > self.wrong_codes {
            self.wrong_codes = wrong.total;
            let finding = noticed::wrong_code(&wrong, &self.host);
            self.report(Report::Finding(Box::new(finding)));
        }
        if status.unwatched.total > self.unwatched {
            self.unwatched = status.unwatched.total;
            // Told again by the next process of this agent: the same finding, and no other.
            let finding = noticed::wiped_unwatched(&status.unwatched, &self.host);
            self.report(Report::Finding(Box::new(finding)));
        }
        let mut view = locked(&self.view);
        view.status.break_glass = status.break_glass;
        view.status.guidance = status.guidance;
        view.last_order = view.last_order.max(status.last_order);
        view.status.holds = holds;
    }

    /// Until the helper has said, the hub is told that nobody knows; what it was asked before this says
    /// nothing any more. The core goes by what it last said.
    pub(super) fn not_known(&mut self, why: impl Into<String>) {
        self.turn += 1;
        locked(&self.view).status.holds = Holds::Unknown { why: why.into() };
    }

    /// Asks the helper to do something. What it said of itself before is out of date from here on.
    pub(super) async fn tell(&mut self, ask: Ask) -> Result<Answer, HelperGone> {
        if self.helper.is_some() {
            self.not_known("the privileged helper is at work");
        }
        self.ask(ask).await
    }

    /// Asks the helper what changes no measure.
    pub(super) async fn ask(&self, ask: Ask) -> Result<Answer, HelperGone> {
        self.helper.as_ref().ok_or(HelperGone)?.ask(ask).await
    }
}
