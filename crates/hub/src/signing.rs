//! What the hub asks of the signer, and goes on asking until it answers.
//!
//! The one idea: orders have a connection of their own, so that none waits behind a receipt or a
//! checkpoint. The signer answers a repeated proposal alike, so every failure is followed by the same
//! question, after a pause.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cordon_model::ids::{MachineId, MeasureId, OdsCode, OrderId};
use cordon_model::signed::Envelope;
use cordon_respond::hub_core::ForSigner;
use cordon_respond::signer_core::{Proposal, Refusal};
use cordon_store::{Key, State};
use tokio::sync::{Notify, mpsc, watch};

use crate::board::Board;
use crate::run::stopped;
use crate::signer::{Client, ClientError, Refused};
use crate::work::Input;
use notes::{Note, Notes, Owed};

mod notes;

/// Connections for orders: while one waits for the signer's sync, the next is already at its door.
pub(crate) const ORDER_CONNECTIONS: usize = 2;

/// Notes that wait for the signer as they are: 10,000, an hour of a hospital's receipts. What is beyond is told
/// from what the hub has kept, once these are.
const NOTES: usize = 10_000;

/// First and longest pause before the signer is asked again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

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
    /// Begins; `notes_client` is the connection for everything but orders.
    pub fn start(
        orders: Vec<Arc<Client>>,
        notes_client: Arc<Client>,
        store: Arc<dyn State>,
        organisation: OdsCode,
        work: mpsc::WeakSender<Input>,
        board: Arc<Board>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let notes = Arc::new(Waiting { notes: Mutex::new(Notes::new(NOTES)), more: Notify::new() });
        let (from, kept) = (notes.clone(), (store, organisation));
        tokio::spawn(tell_for_ever(notes_client, from, kept, board.clone(), stop.clone()));
        let orders = orders.into();
        Self { orders, next: Arc::default(), asked: Arc::default(), notes, work, board, stop }
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
    notes: Mutex<Notes>,
    more: Notify,
}

impl Waiting {
    fn put(&self, note: Note) {
        if lock(&self.notes).push(note) {
            tracing::warn!("{NOTES} notes wait for the signer; what comes is told after them");
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

async fn tell_for_ever(
    client: Arc<Client>,
    waiting: Arc<Waiting>,
    (store, organisation): (Arc<dyn State>, OdsCode),
    board: Arc<Board>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let next = lock(&waiting.notes).next();
        let Some(note) = next else {
            tokio::select! {
                () = waiting.more.notified() => continue,
                () = stopped(&mut stop) => return,
            }
        };
        let mut pause = PAUSES.0;
        loop {
            let done = match &note {
                Note::Learn(machine, _, receipt) => learn(&client, &board, *machine, receipt).await,
                Note::Heard(machine, isolation) => client.heard(*machine, *isolation).await,
                Note::Owed(Owed::NeverBegun(machine, order)) => {
                    client.never_begun(*machine, *order).await
                }
                Note::Owed(Owed::NotInForce(machine, measure)) => {
                    client.not_in_force(*machine, *measure).await
                }
                Note::Owed(Owed::Asked(machine, approval)) => {
                    client.asked(*machine, *approval).await
                }
                Note::Owed(Owed::Newest(machine, measure)) => {
                    let key = Key::new(&organisation, (*machine, *measure));
                    match store.receipts(&key).await {
                        Ok(envelopes) => match envelopes.into_iter().next_back() {
                            Some(newest) => learn(&client, &board, *machine, &newest).await,
                            None => break,
                        },
                        Err(error) => {
                            tracing::error!(%error, "a receipt can't be told to the signer again");
                            break;
                        }
                    }
                }
            };
            match (done, &note) {
                (Ok(()), _) => break,
                (Err(ClientError::Refused(refused)), _) if is_final(&refused) => {
                    tracing::warn!(%refused, "the signer does not believe a note");
                    break;
                }
                // It is said every half minute anyway.
                (Err(_), Note::Heard(..)) => break,
                (Err(error), _) => tracing::warn!(%error, "the signer did not hear a note"),
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSES.1),
                () = stopped(&mut stop) => return,
            }
        }
    }
}

/// Tells a receipt. A signer that knows the machine by root's word alone has no key to judge it by: it is told the one
/// that the machine enrolled with, and then believes it. It takes no other key for one that it has.
async fn learn(
    client: &Client,
    board: &Board,
    machine: MachineId,
    receipt: &Envelope,
) -> Result<(), ClientError> {
    let told = client.learn(machine, receipt.clone()).await;
    let Err(ClientError::Refused(Refused::NotGenuine(_))) = &told else { return told };
    let Some(key) = board.card(machine).and_then(|card| card.receipt_key) else { return told };
    let known = match client.assignment(machine).await {
        Ok(known) => known,
        Err(ClientError::Refused(_)) => return told,
        Err(error) => return Err(error),
    };
    match client.assign((*known).clone(), Some(key.to_bytes()), None).await {
        Ok(_) => client.learn(machine, receipt.clone()).await,
        // It has another key; or it signs no more documents just now, and hears it with the next receipt.
        Err(ClientError::Refused(_)) => told,
        Err(error) => Err(error),
    }
}
