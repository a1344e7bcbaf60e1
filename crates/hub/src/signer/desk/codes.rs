//! Break-glass codes: making, signing, showing.
//!
//! The one idea: hashing takes long, and orders must not wait for it. So [`Desk::codes_to_make`] says what
//! is to be made, the socket's task has it hashed with the desk free for others, and the answer comes with
//! what was made. Codes in clear exist here for as long as an answer is on its way, and nowhere on disk.

use cordon_code::{Code, slow_hash};
use cordon_model::break_glass::BreakGlass;
use cordon_model::ids::MachineId;
use cordon_respond::clock::Moment;
use cordon_respond::signer_core::{CodeFate, CodesToMake, Refusal};

use super::super::codes::{Asker, ClearCode, CodesAnswer, CodesAsk, ROWS, SHOWN_PER_ANSWER, Sheet};
use super::super::protocol::{Answer, Peer, Refused};
use super::super::state::{Input, Outcome};
use super::{Broken, Desk, confused, is_name};

/// Codes that are to be hashed, for one machine.
#[derive(Debug)]
pub struct Making {
    document: BreakGlass,
    codes: Vec<Code>,
}

impl Making {
    /// Hashes the codes: about 25 ms for each, on no lock.
    ///
    /// # Errors
    /// In words, for costs that can't be paid.
    pub fn hash(self) -> Result<BreakGlass, String> {
        let Self { mut document, codes } = self;
        for code in &codes {
            let hash = slow_hash(&document, code).map_err(|error| error.to_string())?;
            document.codes.push(hash.into());
        }
        Ok(document)
    }
}

impl Desk {
    /// What has to be made before `ask` can be answered, if anything.
    ///
    /// # Errors
    /// Outer: [`Broken`]. Inner: the refusal that the ask will get.
    pub fn codes_to_make(
        &self,
        ask: &CodesAsk,
        now: &Moment,
    ) -> Result<Result<Option<Making>, Refused>, Broken> {
        let (machine, wants_new) = match ask {
            CodesAsk::Document(machine) => (*machine, false),
            CodesAsk::Renew { machine, by } if is_asker(by) => (*machine, true),
            CodesAsk::Renew { .. } => return Ok(Err(Refused::BadName)),
            CodesAsk::Rows { .. }
            | CodesAsk::Sheet { .. }
            | CodesAsk::ReadOne { .. }
            | CodesAsk::Shown { .. } => return Ok(Ok(None)),
        };
        match self.state.core.codes_to_make(machine, wants_new, now) {
            Ok(None) => Ok(Ok(None)),
            Ok(Some(to_make)) => self.making(&to_make).map(|making| Ok(Some(making))),
            Err(refusal) => Ok(Err(Refused::Rule(refusal))),
        }
    }

    fn making(&self, to_make: &CodesToMake) -> Result<Making, Broken> {
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(|error| Broken::Randomness(error.to_string()))?;
        let document = to_make.document(salt);
        let codes = (1..=to_make.terms.codes).map(|number| self.code(&document, number)).collect();
        Ok(Making { document, codes })
    }

    fn code(&self, document: &BreakGlass, number: u8) -> Code {
        let BreakGlass { organisation, machine, revision, .. } = document;
        self.codes_key.code(organisation, *machine, *revision, number)
    }

    /// Answers what is asked about codes, with what was made for it.
    pub(super) fn codes(
        &mut self,
        ask: CodesAsk,
        made: Option<BreakGlass>,
        peer: Peer,
        now: &Moment,
    ) -> Result<Result<Answer, Refused>, Broken> {
        match ask {
            CodesAsk::Document(machine) => self.document_of_codes(peer, machine, made, None, now),
            CodesAsk::Renew { machine, by } => {
                self.document_of_codes(peer, machine, made, Some(by), now)
            }
            CodesAsk::Rows { after } => {
                let rows = self.state.core.codes_rows(after, ROWS, now.utc);
                Ok(Ok(Answer::Codes(CodesAnswer::Rows(rows))))
            }
            CodesAsk::Shown { after } => {
                let shown = self.state.shown.iter().filter(|shown| shown.number > after);
                let shown = shown.take(SHOWN_PER_ANSWER).cloned().collect();
                Ok(Ok(Answer::Codes(CodesAnswer::Shown(shown))))
            }
            CodesAsk::Sheet { .. } | CodesAsk::ReadOne { .. } if peer != Peer::Keeper => {
                Ok(Err(Refused::NotForTheHub))
            }
            CodesAsk::Sheet { machine, by } => self.show(machine, None, by, now),
            CodesAsk::ReadOne { machine, by } => match self.state.core.next_code(machine) {
                Ok(number) => self.show(machine, Some(number), by, now),
                Err(refusal) => Ok(Err(Refused::Rule(refusal))),
            },
        }
    }

    fn document_of_codes(
        &mut self,
        peer: Peer,
        machine: MachineId,
        made: Option<BreakGlass>,
        by: Option<Asker>,
        now: &Moment,
    ) -> Result<Result<Answer, Refused>, Broken> {
        let Some(made) = made else {
            return match self.state.core.codes(machine).cloned() {
                Some(held) => Ok(Ok(Answer::Document(self.seal(&held)?))),
                None => Ok(Err(Refused::Rule(Refusal::UnknownMachine))),
            };
        };
        let made = Input::CodesMade { document: Box::new(made), by };
        match self.braked(peer, made, now, false)? {
            Ok(Outcome::Codes(document)) => Ok(Ok(Answer::Document(self.seal(&document)?))),
            Ok(_) => Ok(Err(confused())),
            Err(refused) => Ok(Err(refused)),
        }
    }

    /// Notes on disk that codes are shown, and only then shows them.
    fn show(
        &mut self,
        machine: MachineId,
        code: Option<u8>,
        by: Asker,
        now: &Moment,
    ) -> Result<Result<Answer, Refused>, Broken> {
        if !is_asker(&by) {
            return Ok(Err(Refused::BadName));
        }
        // What became of each before this.
        let row = self.state.core.codes_row(machine, now.utc);
        if let Err(refused) = self.apply(Input::CodesShown { machine, code, by }, now, false)? {
            return Ok(Err(refused));
        }
        let core = &self.state.core;
        let (Some(document), Some(assignment), Some(row)) =
            (core.codes(machine), core.assignment(machine), row)
        else {
            return Ok(Err(Refused::Rule(Refusal::NoCodes)));
        };
        let numbered = (1..).zip(row.fates);
        let wanted = numbered.filter(|(number, _)| code.is_none_or(|code| code == *number));
        let sheet = Sheet {
            organisation: document.organisation.clone(),
            machine,
            name: assignment.name.clone(),
            kind: assignment.kind.clone(),
            group: assignment.group.clone(),
            revision: document.revision,
            issued_at: document.issued_at,
            expires_at: document.expires_at,
            hold_off_seconds: document.hold_off_seconds,
            codes: wanted
                .filter(|(_, fate)| *fate != CodeFate::Used)
                .map(|(number, fate)| (number, ClearCode::new(&self.code(document, number)), fate))
                .collect(),
        };
        Ok(Ok(Answer::Codes(CodesAnswer::Sheet(Box::new(sheet)))))
    }
}

fn is_asker(by: &Asker) -> bool {
    is_name(&by.name) && is_name(&by.reason)
}
