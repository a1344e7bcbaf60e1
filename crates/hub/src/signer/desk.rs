//! Answers one request at a time: the rules, then the disk, then the key, in this order.
//!
//! The one idea: nothing is signed before what allowed it is on disk. That is one disk sync, in the
//! journal; the account of it in the ledger is a second one, done by [`Desk::settle`] once the hub has
//! its answer and before the next request. A crash in between is made good at the start, from the
//! journal. A failed disk is an end: [`Broken`], and the process stops rather than sign what it could
//! forget.

use std::path::Path;

use cordon_code::MasterKey;
use cordon_evidence::merkle::{Hash, proves_consistency};
use cordon_evidence::{Checkpoint, FRAME_BYTES, Ledger, LedgerError, RECORDS_PER_READ};
use cordon_model::break_glass::BreakGlass;
use cordon_model::ids::{MachineId, OdsCode};
use cordon_model::limits::NAME_BYTES;
use cordon_model::measure::{Origin, Receipt};
use cordon_model::policy::Policy;
use cordon_model::record::{Deed, Record};
use cordon_model::signed::{Document, Envelope, SignatureError, seal};
use cordon_respond::clock::Moment;
use cordon_respond::signer_core::{Proposal, Refusal};
use ed25519_dalek::{SigningKey, VerifyingKey};
use serde_bytes::ByteArray;

use super::account::{RefusalBrake, Subject, accounts, record};
use super::brake::{About, DocumentBrake, Kind};
use super::journal::{Journal, JournalError};
use super::keys::{KeyError, load_or_make};
use super::protocol::{
    Answer, Keys, PROOF_STEPS, Peer, Refused, Request, hub_origin, signer_origin,
};
use super::state::{Input, Outcome, SignerState};

mod assigning;
mod codes;

/// The largest input that is taken: it must fit in a frame of the journal beside a moment and what was
/// drawn (2 KiB: 128 draws of 16 bytes).
const INPUT_BYTES: usize = FRAME_BYTES - (2 << 10);

/// Records of the signer's ledger between two of its own checkpoints.
const RECORDS_PER_CHECKPOINT: u64 = 256;

/// Why the signer can't go on.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// Its memory.
    #[error("the signer's memory fails")]
    Journal(#[from] JournalError),
    /// Its ledger.
    #[error("the signer's ledger fails")]
    Ledger(#[from] LedgerError),
    /// Its keys.
    #[error("the signer's keys can't be used")]
    Keys(#[from] KeyError),
    /// Its memory is another organisation's.
    #[error("this signer is {found}'s, not {asked}'s")]
    OtherOrganisation {
        /// Whose it is.
        found: OdsCode,
        /// Whose it was to be.
        asked: OdsCode,
    },
    /// No randomness.
    #[error("the system gives no randomness: {0}")]
    Randomness(String),
    /// A document could not be encoded.
    #[error("a document can't be signed")]
    Sealing(#[from] SignatureError),
}

/// The signer at work.
pub struct Desk {
    organisation: OdsCode,
    command: SigningKey,
    ledger_key: SigningKey,
    codes_key: MasterKey,
    state: SignerState,
    journal: Journal,
    ledger: Ledger,
    /// What the ledger is still to say of the last request.
    unwritten: Vec<Record>,
    brake: RefusalBrake,
    documents: DocumentBrake,
}

/// Says which part is which; never shows a key.
impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").field("organisation", &self.organisation).finish_non_exhaustive()
    }
}

impl Desk {
    /// Opens the signer in `directory`, or makes it: keys, and a policy that asks about everything.
    ///
    /// # Errors
    /// See [`Broken`].
    pub fn open(directory: &Path, organisation: &OdsCode, now: &Moment) -> Result<Self, Broken> {
        let is_new = !Journal::is_there(directory);
        let command = load_or_make(&directory.join("command.key"), is_new)?;
        let ledger_key = load_or_make(&directory.join("ledger.key"), is_new)?;
        let first = || SignerState::new(Policy::default_for(organisation.clone()), now);
        let (journal, recovered) = Journal::open(directory, first)?;
        let state = recovered.state;
        let found = &state.core.policy().organisation;
        if found != organisation {
            let (found, asked) = (found.clone(), organisation.clone());
            return Err(Broken::OtherOrganisation { found, asked });
        }
        // A signer of before there were codes has none yet; one that made some must not make other codes
        // than those that machines hold the hashes of.
        let codes_key = load_or_make(&directory.join("break-glass.key"), !state.core.has_codes())?;
        let (ledger, repaired) =
            Ledger::open(&directory.join("ledger"), &signer_origin(organisation))?;
        let mut desk = Self {
            organisation: organisation.clone(),
            command,
            ledger_key,
            codes_key: MasterKey::new(codes_key.to_bytes()),
            state,
            journal,
            ledger,
            unwritten: Vec::new(),
            brake: RefusalBrake::default(),
            documents: DocumentBrake::start(now.at),
        };
        let mut told = format!("{} inputs applied again", recovered.applied);
        if recovered.refused > 0 {
            told += &format!("; {} of them are refused by this version", recovered.refused);
        }
        for torn in [&recovered.torn, &repaired.torn].into_iter().flatten() {
            told += &format!("; a torn tail of {} bytes set aside", torn.bytes);
        }
        if let Some((input, then, outcome)) = &recovered.last {
            told += desk.complete_ledger(input, outcome, then)?;
        }
        desk.journal.begin_anew(&desk.state)?;
        if desk.ledger.size() == 0 {
            desk.write(Deed::Began, String::new(), now)?;
        }
        desk.write(Deed::Started, told, now)?;
        desk.checkpoint()?;
        Ok(desk)
    }

    /// What it remembers.
    #[cfg(test)]
    pub(super) fn state(&self) -> &SignerState {
        &self.state
    }

    /// As if a hub had had signed all that it may at once.
    #[cfg(test)]
    pub(super) fn spend_documents(&mut self, now: &Moment) {
        self.documents.spend(now.at);
    }

    /// Answers one request of the hub.
    ///
    /// # Errors
    /// [`Broken`]: stop, and sign nothing more.
    pub fn answer(&mut self, request: Request, now: &Moment) -> Result<Answer, Broken> {
        self.answer_to(Peer::Hub, request, None, now)
    }

    /// Answers one request of `peer`, with the codes that were made for it.
    ///
    /// # Errors
    /// [`Broken`], as [`Desk::answer`].
    pub fn answer_to(
        &mut self,
        peer: Peer,
        request: Request,
        made: Option<BreakGlass>,
        now: &Moment,
    ) -> Result<Answer, Broken> {
        self.settle()?;
        let subject = Subject::of(&request);
        Ok(match self.decide(peer, request, made, now)? {
            Ok(answer) => answer,
            Err(refused) => {
                let line = subject.refused(&refused, &mut self.brake, &self.organisation, now);
                self.unwritten.extend(line);
                Answer::Refused(refused)
            }
        })
    }

    /// Brings the ledger up to date. Call it when an answer has been sent.
    ///
    /// # Errors
    /// [`Broken`], as [`Desk::answer`].
    pub fn settle(&mut self) -> Result<(), Broken> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        self.ledger.append_all(&self.unwritten)?;
        self.unwritten.clear();
        let last = self.ledger.last_checkpoint().map_or(0, |last| last.unchecked().size);
        if self.ledger.size() >= last + RECORDS_PER_CHECKPOINT {
            self.checkpoint()?;
        }
        // Only now may the journal forget.
        Ok(self.journal.compact_if_long(&self.state)?)
    }

    /// Writes what was held back, and a last checkpoint.
    ///
    /// # Errors
    /// See [`Broken`].
    pub fn close(mut self) -> Result<(), Broken> {
        self.settle()?;
        self.journal.flush()?;
        self.checkpoint()
    }

    fn decide(
        &mut self,
        peer: Peer,
        request: Request,
        made: Option<BreakGlass>,
        now: &Moment,
    ) -> Result<Result<Answer, Refused>, Broken> {
        match request {
            Request::Keys => Ok(Ok(Answer::Keys(self.keys()))),
            Request::Peer => Ok(Ok(Answer::Peer(peer))),
            Request::Assign { draft, receipt_key, by } => {
                self.assign(peer, draft, receipt_key, by, now)
            }
            Request::SayAhead { said, by, good_for_seconds } => {
                self.say_ahead(peer, said, by, good_for_seconds, now)
            }
            Request::Pin { machine, pin } => self.pin(peer, machine, pin, now),
            Request::SetPolicy { draft, by } => self.set_policy(peer, draft, by, now),
            Request::Policy => {
                let policy = self.state.core.policy().clone();
                Ok(Ok(Answer::Document(self.seal(&policy)?)))
            }
            Request::Assignment(machine) => match self.state.core.assignment(machine).cloned() {
                Some(assignment) => Ok(Ok(Answer::Document(self.seal(&assignment)?))),
                None => Ok(Err(Refused::Rule(Refusal::UnknownMachine))),
            },
            Request::Sign(proposal) => self.sign(proposal, now),
            Request::RenewPermits => self.renew_permits(now),
            Request::Learn { machine, receipt } => self.learn(machine, &receipt, now),
            Request::NeverBegun { machine, order } => {
                // Behind no brake: what waits behind it is what machines say. Said again it leaves no line.
                let noted = self.apply(Input::NeverBegun { machine, order }, now, true)?;
                Ok(noted.map(|_| Answer::Done))
            }
            // On disk before it is answered: forgotten, it would leave findings to what is not there.
            Request::NotInForce { machine, measure } => {
                let noted = self.apply(Input::NotInForce { machine, measure }, now, false)?;
                Ok(noted.map(|_| Answer::Done))
            }
            // Forgotten, its time counts from when it is told again: later, never sooner.
            Request::Asked { machine, approval } => {
                let noted = self.apply(Input::Asked { machine, approval }, now, true)?;
                Ok(noted.map(|_| Answer::Done))
            }
            Request::Heard { machine, isolation } => {
                let noted = self.apply(Input::Heard { machine, isolation }, now, true)?;
                Ok(noted.map(|_| Answer::Done))
            }
            Request::Situation(machine) => {
                Ok(Ok(Answer::Situation(self.state.core.situation(machine, now))))
            }
            Request::LastCosigned => {
                let (size, root) = self.state.cosigned;
                Ok(Ok(Answer::Cosigned { size, root }))
            }
            Request::Cosign { size, root, proof } => self.cosign(size, root, &proof, now),
            Request::Codes(ask) => self.codes(ask, made, peer, now),
            Request::SetBedside { machine, bedside, by } => {
                self.set_bedside(peer, machine, bedside, by, now)
            }
            Request::Bedside(machine) => Ok(match self.state.core.bedside(machine) {
                Some(bedside) => Ok(Answer::Bedside(Box::new(bedside.clone()))),
                None => Err(Refused::Rule(Refusal::UnknownMachine)),
            }),
            // It may wait for the disk: forgotten, it is made again, with a higher number.
            Request::Guide { machine, nearest } => {
                match self.braked(peer, Input::Guide { machine, nearest }, now, true)? {
                    Ok(Outcome::Guidance(guidance)) => {
                        Ok(Ok(Answer::Document(self.seal(&guidance)?)))
                    }
                    Ok(_) => Ok(Err(confused())),
                    Err(refused) => Ok(Err(refused)),
                }
            }
        }
    }

    fn keys(&self) -> Keys {
        Keys {
            organisation: self.organisation.clone(),
            command: ByteArray::new(self.command.verifying_key().to_bytes()),
            ledger: ByteArray::new(self.ledger_key.verifying_key().to_bytes()),
            hub_origin: hub_origin(&self.organisation),
            signer_origin: signer_origin(&self.organisation),
        }
    }

    fn sign(
        &mut self,
        proposal: Box<Proposal>,
        now: &Moment,
    ) -> Result<Result<Answer, Refused>, Broken> {
        if self.state.core.remembers(proposal.machine, proposal.id) {
            // Asked again: the same order, and nothing for the disk.
            let again = self.state.apply(&Input::Sign(proposal), now, &mut || [0; 16]);
            return match again {
                Ok(Outcome::Order(order)) => Ok(Ok(Answer::Document(self.seal(&order)?))),
                Ok(_) => Ok(Err(confused())),
                Err(refusal) => Ok(Err(Refused::Rule(refusal))),
            };
        }
        if !self.state.core.has_place_for(proposal.machine, proposal.id, now.utc) {
            return Ok(Err(Refused::Rule(Refusal::UsedId)));
        }
        let order = match self.apply(Input::Sign(proposal), now, false)? {
            Ok(Outcome::Order(order)) => order,
            Ok(_) => return Ok(Err(confused())),
            Err(refused) => return Ok(Err(refused)),
        };
        Ok(Ok(Answer::Document(self.seal(&order)?)))
    }

    fn renew_permits(&mut self, now: &Moment) -> Result<Result<Answer, Refused>, Broken> {
        let permits = match self.apply(Input::RenewPermits, now, false)? {
            Ok(Outcome::Permits(permits)) => permits,
            Ok(_) => return Ok(Err(confused())),
            Err(refused) => return Ok(Err(refused)),
        };
        let envelopes: Result<_, Broken> = permits.iter().map(|permit| self.seal(permit)).collect();
        Ok(Ok(Answer::Documents(envelopes?)))
    }

    fn learn(
        &mut self,
        machine: MachineId,
        envelope: &Envelope,
        now: &Moment,
    ) -> Result<Result<Answer, Refused>, Broken> {
        let Some(key) = self.state.receipt_keys.get(&machine) else {
            return Ok(Err(Refused::NotGenuine("its receipt key is not known here".into())));
        };
        let receipt = VerifyingKey::from_bytes(key)
            .map_err(|_| "its receipt key is none".to_owned())
            .and_then(|key| envelope.open::<Receipt>(&key).map_err(|error| error.to_string()))
            .and_then(|receipt| match receipt.machine == machine {
                true => Ok(receipt.into_document()),
                false => Err("it speaks for another machine".to_owned()),
            });
        let receipt = match receipt {
            Ok(receipt) => receipt,
            Err(why) => return Ok(Err(Refused::NotGenuine(why))),
        };
        // Forgetting that a machine isolated itself would make the signer less careful; forgetting the
        // rest makes it more so.
        let began_by_itself = !matches!(receipt.origin, Origin::Order(_));
        let may_wait = !(began_by_itself && receipt.state.is_acting());
        let noted = self.apply(Input::Learn(Box::new(receipt)), now, may_wait)?;
        Ok(noted.map(|_| Answer::Done))
    }

    fn cosign(
        &mut self,
        size: u64,
        root: ByteArray<32>,
        proof: &[ByteArray<32>],
        now: &Moment,
    ) -> Result<Result<Answer, Refused>, Broken> {
        let (old_size, old_root) = self.state.cosigned;
        let steps: Vec<Hash> = proof.iter().take(PROOF_STEPS).map(|step| Hash(**step)).collect();
        let (old, new) = ((old_size, Hash(*old_root)), (size, Hash(*root)));
        if proof.len() > PROOF_STEPS || !proves_consistency(&steps, old, new) {
            return Ok(Err(Refused::Inconsistent { size: old_size }));
        }
        if (size, root) != self.state.cosigned
            && let Err(refused) = self.apply(Input::Cosigned { size, root }, now, false)?
        {
            return Ok(Err(refused));
        }
        let origin = hub_origin(&self.organisation);
        let signed = Checkpoint { origin, size, root: Hash(*root) }.sign(&self.ledger_key);
        Ok(Ok(Answer::Note(signed.note().to_owned())))
    }

    /// Applies an input, unless it is the hub's and there were too many of its documents lately.
    fn braked(
        &mut self,
        peer: Peer,
        input: Input,
        now: &Moment,
        may_wait: bool,
    ) -> Result<Result<Outcome, Refused>, Broken> {
        if peer == Peer::Keeper {
            return self.apply(input, now, may_wait);
        }
        let about = self.about(&input);
        if let Err(why) = self.documents.may_sign(about, now.at) {
            return Ok(Err(Refused::TooMany(why)));
        }
        let lines = self.unwritten.len();
        let outcome = self.apply(input, now, may_wait)?;
        // What says the same as before has no line, and costs nothing.
        if outcome.is_ok() && self.unwritten.len() > lines {
            self.documents.signed(about, now.at);
        }
        Ok(outcome)
    }

    /// What a document is about that comes of this input.
    fn about(&self, input: &Input) -> About {
        let machine = input.machine();
        let kind = match input {
            Input::CodesMade { .. } => Kind::Codes,
            Input::Guide { .. } => Kind::Guidance,
            _ => Kind::Description,
        };
        let is_described = machine.is_none_or(|machine| self.state.core.is_described(machine));
        About { machine, kind, is_described }
    }

    /// Applies an input, and notes it on disk.
    fn apply(
        &mut self,
        input: Input,
        now: &Moment,
        may_wait: bool,
    ) -> Result<Result<Outcome, Refused>, Broken> {
        let mut size = Counter(0);
        if ciborium::into_writer(&input, &mut size).is_err() || size.0 > INPUT_BYTES {
            let why = format!("{} bytes; at most {INPUT_BYTES} are taken", size.0);
            return Ok(Err(Refused::Malformed(why)));
        }
        let (mut drawn, mut failed) = (Vec::new(), None);
        let mut randomness = || {
            let mut bytes = [0; 16];
            if let Err(error) = getrandom::fill(&mut bytes) {
                failed = Some(error.to_string());
            }
            drawn.push(bytes);
            bytes
        };
        let outcome = match self.state.apply(&input, now, &mut randomness) {
            Ok(outcome) => outcome,
            Err(refusal) => return Ok(Err(Refused::Rule(refusal))),
        };
        if let Some(error) = failed {
            return Err(Broken::Randomness(error));
        }
        // Permits are asked for often and seldom due. What changed then is a reading of the clock,
        // which the next input brings anyway.
        if outcome != Outcome::Permits(Vec::new()) {
            self.unwritten.extend(accounts(&self.organisation, &input, &outcome, now));
            self.journal.note(input, now, drawn, may_wait)?;
        }
        Ok(Ok(outcome))
    }

    /// Writes the account of the last input, as far as a crash came before it was written.
    fn complete_ledger(
        &mut self,
        input: &Input,
        outcome: &Outcome,
        then: &Moment,
    ) -> Result<&'static str, Broken> {
        let mut records = accounts(&self.organisation, input, outcome, then);
        let size = self.ledger.size();
        let written = self.ledger.read(size.saturating_sub(RECORDS_PER_READ)..size)?;
        records.retain(|record| !written.iter().any(|entry| entry.record == *record));
        if records.is_empty() {
            return Ok("");
        }
        self.ledger.append_all(&records)?;
        Ok("; the account of the last one was not written down before")
    }

    fn seal<D: Document>(&self, document: &D) -> Result<Envelope, Broken> {
        Ok(seal(document, &self.command)?)
    }

    fn checkpoint(&mut self) -> Result<(), Broken> {
        let signed = self.ledger.checkpoint().sign(&self.ledger_key);
        Ok(self.ledger.keep(&signed)?)
    }

    fn write(&mut self, deed: Deed, said: String, now: &Moment) -> Result<(), Broken> {
        let record = record(&self.organisation, deed, (None, None), said, now);
        self.ledger.append(&record)?;
        Ok(())
    }
}

fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES).contains(&name.len()) && !name.chars().any(char::is_control)
}

/// A state machine answered something else than it was asked: not possible, and not worth a panic.
fn confused() -> Refused {
    Refused::Malformed("the signer's rules gave another kind of answer".into())
}

/// Counts the bytes that are written to it.
struct Counter(usize);

impl std::io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
