//! What the hub asks of the signer, and goes on asking until it answers.
//!
//! The one idea: orders have a connection of their own, so that none waits behind a receipt or a
//! checkpoint. The signer answers a repeated proposal alike, so every failure is followed by the same
//! question, after a pause.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cordon_model::ids::{MachineId, MeasureId, OrderId};
use cordon_model::signed::Envelope;
use cordon_respond::hub_core::ForSigner;
use cordon_respond::signer_core::{Proposal, Refusal};
use tokio::sync::{Notify, mpsc, watch};

use crate::board::Board;
use crate::run::stopped;
use crate::signer::{Client, ClientError, Refused};
use crate::work::Input;
use notes::{Note, Notes, Owed};
use telling::Teller;
pub(crate) use telling::{Kept, Telling};

mod notes;
mod telling;

/// Connections for orders: while one waits for the signer's sync, the next is already at its door.
pub(crate) const ORDER_CONNECTIONS: usize = 2;

/// Notes that wait for the signer as they are: 10,000, an hour of a hospital's receipts. What is beyond is told
/// from what the hub has kept, once these are.
pub(crate) const NOTES: usize = 10_000;

/// First and longest pause before the signer is asked again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// The hub's connections to its signer.
pub(crate) struct Connections {
    pub orders: Vec<Arc<Client>>,
    /// For everything but orders.
    pub notes: Arc<Client>,
}

/// The ways to the signer.
#[derive(Clone)]
pub(crate) struct Signers {
    orders: Arc<[Arc<Client>]>,
    next: Arc<AtomicUsize>,
    /// Proposals that are being asked for: the mind proposes again every second, and each is asked once.
    asked: Arc<Mutex<BTreeSet<OrderId>>>,
    notes: Arc<Waiting>,
    work: mpsc::WeakSender<Input>,
    board: Arc<Board>,
    stop: watch::Receiver<bool>,
}

impl Signers {
    /// Begins. `room`: how many notes wait as they are; what is beyond is told from what is `kept`.
    pub fn start(
        Connections { orders, notes: client }: Connections,
        kept: Kept,
        room: usize,
        work: mpsc::WeakSender<Input>,
        board: Arc<Board>,
        stop: watch::Receiver<bool>,
    ) -> (Self, Telling) {
        let notes = Mutex::new(Notes::new(room));
        let notes = Arc::new(Waiting { room, notes, more: Notify::new() });
        let teller = Teller { client, waiting: notes.clone(), kept, board: board.clone() };
        let orders = orders.into();
        let asked = Arc::default();
        let signers = Self { orders, next: Arc::default(), asked, notes, work, board, stop };
        (signers, teller.start())
    }

    /// Proposes, again and again until the signer answers; the answer comes as an input.
    pub fn propose(&self, proposal: Proposal) {
        if !lock(&self.asked).insert(proposal.id) {
            return;
        }
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let Some(client) = self.orders.get(turn % self.orders.len().max(1)).cloned() else {
            return;
        };
        let (board, work, mut stop) = (self.board.clone(), self.work.clone(), self.stop.clone());
        let asked = self.asked.clone();
        tokio::spawn(async move {
            let id = proposal.id;
            let mut pause = PAUSES.0;
            let answer = loop {
                match client.sign(proposal.clone()).await {
                    Ok(order) => break Ok(Box::new(order)),
                    Err(ClientError::Refused(Refused::Rule(refusal))) => break Err(refusal),
                    Err(ClientError::Refused(refused)) if is_final(&refused) => {
                        break Err(Refusal::Terms(refused.to_string()));
                    }
                    Err(error) => {
                        tracing::warn!(order = %id, %error, "the signer did not answer; asking again");
                        board.set_signer_away(Some(error.to_string()));
                    }
                }
                tokio::select! {
                    () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSES.1),
                    () = stopped(&mut stop) => return,
                }
            };
            board.set_signer_away(None);
            lock(&asked).remove(&id);
            if let Some(work) = work.upgrade() {
                // A hub that ends asks again at its next start.
                let _ = work.send(Input::Signed { proposal: id, answer }).await;
            }
        });
    }

    /// Tells the signer what it has to know.
    pub fn tell(&self, message: ForSigner) {
        match message {
            ForSigner::Propose(proposal) => self.propose(proposal),
            ForSigner::Learn(receipt) => {
                self.notes.put(Note::Owed(Owed::Newest(receipt.machine, receipt.measure)));
            }
            ForSigner::NeverBegun(machine, order) => {
                self.notes.put(Note::Owed(Owed::NeverBegun(machine, order)));
            }
            ForSigner::Heard(machine, isolation) => {
                self.notes.put(Note::Heard(machine, isolation));
            }
            ForSigner::NotInForce(machine, measure) => {
                self.notes.put(Note::Owed(Owed::NotInForce(machine, measure)));
            }
            ForSigner::Asked(machine, approval) => {
                self.notes.put(Note::Owed(Owed::Asked(machine, approval)));
            }
        }
    }

    /// Passes a receipt on, as it was signed.
    pub fn learn(&self, machine: MachineId, measure: MeasureId, receipt: Envelope) {
        self.notes.put(Note::Learn(machine, measure, receipt));
    }
}

/// The notes that wait, and who waits for one.
struct Waiting {
    room: usize,
    notes: Mutex<Notes>,
    more: Notify,
}

impl Waiting {
    fn put(&self, note: Note) {
        if lock(&self.notes).push(note) {
            let room = self.room;
            tracing::warn!("{room} notes wait for the signer; what comes is told after them");
        }
        self.more.notify_one();
    }
}

/// What is behind these locks is whole whoever panicked.
fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether asking again could not change the answer.
fn is_final(refused: &Refused) -> bool {
    match refused {
        Refused::Rule(_)
        | Refused::NeedsPerson(_)
        | Refused::NeedsKeeper(_)
        | Refused::BadName
        | Refused::NotForTheHub
        | Refused::Ceiling(_)
        | Refused::NotGenuine(_)
        | Refused::Malformed(_) => true,
        Refused::Inconsistent { .. } | Refused::Disk(_) | Refused::TooMany(_) => false,
    }
}

#[cfg(test)]
mod tests;
