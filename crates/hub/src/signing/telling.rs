//! Telling the signer its notes, one after another, until the hub has ended and none is left.
//!
//! The one idea: the order in which they are told is their meaning, so what can't be told now holds up what is behind
//! it; only what never can be is passed over.

use std::sync::Arc;
use std::time::Duration;

use cordon_model::ids::{MachineId, MeasureId, OdsCode};
use cordon_model::signed::Envelope;
use cordon_store::{Key, State, StoreError};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::notes::{Note, Owed};
use super::{PAUSES, Waiting, is_final, lock};
use crate::board::Board;
use crate::run::stopped;
use crate::signer::{Client, ClientError, Refused};

/// How long a hub that ends goes on telling: 3 s, thousands of notes. The next one tells anew what is still so.
const END_WITHIN: Duration = Duration::from_secs(3);

/// What the hub has kept, and whose it is.
pub(crate) struct Kept {
    pub store: Arc<dyn State>,
    pub organisation: OdsCode,
}

/// The task that tells.
pub(crate) struct Telling {
    /// That no more notes come.
    last: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Telling {
    /// Says that no more notes come, and waits until those that there are were told, as far as the signer hears.
    pub async fn end(mut self) {
        let _ = self.last.send(true);
        if tokio::time::timeout(END_WITHIN, &mut self.task).await.is_err() {
            tracing::warn!("the signer did not hear all in time; the next start tells it");
            self.task.abort();
        }
    }
}

/// Whoever tells.
pub(super) struct Teller {
    pub client: Arc<Client>,
    pub waiting: Arc<Waiting>,
    pub kept: Kept,
    pub board: Arc<Board>,
}

impl Teller {
    pub fn start(self) -> Telling {
        let (last, is_last) = watch::channel(false);
        Telling { last, task: tokio::spawn(self.tell_all(is_last)) }
    }

    async fn tell_all(self, mut last: watch::Receiver<bool>) {
        loop {
            // Read before the queue: what was put before this was said is still found there.
            let is_last = *last.borrow() || last.has_changed().is_err();
            let next = lock(&self.waiting.notes).next();
            let Some(note) = next else {
                if is_last {
                    return;
                }
                tokio::select! {
                    () = self.waiting.more.notified() => {}
                    () = stopped(&mut last) => {}
                }
                continue;
            };
            let mut pause = PAUSES.0;
            while !self.is_done_with(&note).await {
                tokio::select! {
                    () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSES.1),
                    () = stopped(&mut last) => return,
                }
            }
        }
    }

    /// Tells a note. Whether it is done with: it was heard, or can never be.
    pub async fn is_done_with(&self, note: &Note) -> bool {
        let client = &self.client;
        let told = match note {
            Note::Learn(machine, _, receipt) => self.learn(*machine, receipt).await,
            Note::Heard(machine, isolation) => client.heard(*machine, *isolation).await,
            Note::Owed(Owed::NeverBegun(machine, order)) => {
                client.never_begun(*machine, *order).await
            }
            Note::Owed(Owed::NotInForce(machine, measure)) => {
                client.not_in_force(*machine, *measure).await
            }
            Note::Owed(Owed::Asked(machine, approval)) => client.asked(*machine, *approval).await,
            Note::Owed(Owed::Newest(machine, measure)) => {
                match self.newest(*machine, *measure).await {
                    Ok(Some(newest)) => self.learn(*machine, &newest).await,
                    Ok(None) => return true,
                    Err(error @ StoreError::Unreadable { .. }) => {
                        tracing::error!(%machine, %error, "a measure's newest receipt is damaged: the signer never hears it");
                        return true;
                    }
                    Err(error) => {
                        tracing::error!(%machine, %error, "a receipt can't be read for the signer; trying again");
                        return false;
                    }
                }
            }
        };
        match (told, note) {
            (Ok(()), _) => true,
            (Err(ClientError::Refused(refused)), _) if is_final(&refused) => {
                tracing::warn!(%refused, "the signer does not believe a note");
                true
            }
            // It is said every half minute anyway.
            (Err(_), Note::Heard(..)) => true,
            (Err(error), _) => {
                tracing::warn!(%error, "the signer did not hear a note");
                false
            }
        }
    }

    async fn newest(
        &self,
        machine: MachineId,
        measure: MeasureId,
    ) -> Result<Option<Envelope>, StoreError> {
        let key = Key::new(&self.kept.organisation, (machine, measure));
        self.kept.store.newest_receipt(&key).await
    }

    /// Tells a receipt. A signer that knows the machine by root's word alone has no key to judge it by: it is told the
    /// one that the machine enrolled with, and then believes it. It takes no other key for one that it has.
    async fn learn(&self, machine: MachineId, receipt: &Envelope) -> Result<(), ClientError> {
        let client = &self.client;
        let told = client.learn(machine, receipt.clone()).await;
        let Err(ClientError::Refused(Refused::NotGenuine(_))) = &told else { return told };
        let key = self.board.card(machine).and_then(|card| card.receipt_key);
        let Some(key) = key else { return told };
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
}
