//! The committer: it writes steps down, in order, and only then has them carried out (law 7).
//!
//! The one idea: while one commit is on its way to the disk, steps gather, and the next commit takes all
//! of them: under load a sync is shared, and an idle hub answers after one.

use std::sync::Arc;

use cordon_model::ids::OdsCode;
use cordon_respond::hub_core::ForSigner;
use cordon_store::State;
use tokio::sync::{broadcast, mpsc};

use crate::keep::{self, Pending};
use crate::ledger::{Appended, LedgerDesk};
use crate::links::Links;
use crate::run::HubFailure;
use crate::signing::Signers;
use crate::view::News;
use crate::work::{After, Batch};

/// Steps with something to write in one commit: 128, of usually 10 kB each.
const WRITTEN_PER_COMMIT: usize = 128;

/// Steps in all that are taken at once. Most of ten thousand machines' only answer a status: if they took the
/// place of those that write, an order would wait for more commits than its own.
const STEPS_AT_ONCE: usize = 4_096;

/// The committer's belongings.
pub(crate) struct Committer {
    pub organisation: OdsCode,
    pub store: Arc<dyn State>,
    pub ledger: LedgerDesk,
    pub links: Arc<Links>,
    pub signers: Signers,
    pub news: broadcast::Sender<News>,
    /// Numbers that the ledger has and the outbox still holds.
    pub drained: Vec<u64>,
}

impl Committer {
    /// Keeps until the steps end, or something can't be kept.
    pub async fn run(
        mut self,
        mut steps: mpsc::Receiver<Batch>,
        mut appended: Appended,
    ) -> Result<(), HubFailure> {
        loop {
            tokio::select! {
                biased;
                done = appended.recv() => match done {
                    Some(numbers) => self.drained.extend(numbers?),
                    None => return Err(HubFailure::LedgerEnded),
                },
                step = steps.recv() => {
                    let Some(step) = step else { break };
                    let mut written = usize::from(!step.changes.is_empty());
                    let mut batches = vec![step];
                    while written < WRITTEN_PER_COMMIT
                        && batches.len() < STEPS_AT_ONCE
                        && let Ok(step) = steps.try_recv()
                    {
                        written += usize::from(!step.changes.is_empty());
                        batches.push(step);
                    }
                    self.keep(batches).await?;
                }
            }
        }
        // What the ledger has done since leaves the outbox at the next start.
        self.commit(Vec::new()).await
    }

    async fn keep(&mut self, batches: Vec<Batch>) -> Result<(), HubFailure> {
        let (mut changes, mut records, mut after) = (Vec::new(), Vec::new(), Vec::new());
        for batch in batches {
            changes.extend(batch.changes);
            records.extend(batch.records);
            after.extend(batch.after);
        }
        if !changes.is_empty() {
            self.commit(changes).await?;
        }
        if !records.is_empty() {
            self.ledger.append(records).await;
        }
        for after in after {
            self.carry_out(after);
        }
        Ok(())
    }

    async fn commit(&mut self, mut changes: Vec<Pending>) -> Result<(), HubFailure> {
        for number in self.drained.drain(..) {
            changes.push(keep::outbox(number, None)?.into());
        }
        Ok(self.store.commit(&self.organisation, &keep::folded(changes)?).await?)
    }

    fn carry_out(&self, after: After) {
        match after {
            After::Send(machine, link, message) => self.links.send(machine, link, message),
            After::Signer(ForSigner::Propose(proposal)) => self.signers.propose(proposal),
            After::Signer(message) => self.signers.tell(message),
            After::Learn(machine, measure, receipt) => {
                self.signers.learn(machine, measure, receipt)
            }
            // Nobody may be listening.
            After::News(news) => drop(self.news.send(news)),
            After::Call(answer) => answer(),
        }
    }
}
