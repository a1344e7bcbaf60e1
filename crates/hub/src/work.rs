//! The hub's main task: it owns the [`HubCore`] and nobody else touches it.
//!
//! The one idea: every input is one [`Step`]: the mind says what follows, the step becomes a [`Batch`],
//! and the [committer](crate::committer) commits batches in order (several at once when the disk is behind)
//! before anything of them is carried out. Two things need not wait for that commit, because a crash
//! before it makes them happen again in the same way:
//!
//! * asking the signer about what the **policy** proposes: its order's name follows from the finding,
//!   the finding is not yet acknowledged, and so the same order comes out again;
//! * sending an order that the signer has just signed: its proposal is on disk, or will be made again.
//!
//! So from finding to order there is one sync, the signer's own.

use std::collections::{HashMap, VecDeque};
use std::ops::Bound;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cordon_model::asset::Assignment;
use cordon_model::break_glass::BreakGlass;
use cordon_model::finding::Finding;
use cordon_model::guidance::Guidance;
use cordon_model::ids::{MachineId, MeasureId, OrderId};
use cordon_model::measure::Receipt;
use cordon_model::order::{Order, Permit};
use cordon_model::record::{Deed as Done, Record};
use cordon_model::signed::{Envelope, Verified};
use cordon_model::wire::{Coverage, FromHub, Hello, Status};
use cordon_respond::clock::Moment;
use cordon_respond::hub_core::{self as core, Arrived, ForSigner, HubCore, Output};
use cordon_respond::signer_core::{Basis, Proposal, Refusal};
use cordon_store::{Change, Seen, StoreError, TakenReport, TakenWhat};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

use crate::board::{Board, Revisions};
use crate::clock::{Clock, fresh};
use crate::keep::{self, Pending};
use crate::links::Links;
use crate::run::stopped;
use crate::signing::Signers;
use crate::view::News;

/// Inputs that wait for the main task: 1,024. A link whose input finds no room waits, and so does its
/// machine.
pub(crate) const INPUTS: usize = 1_024;

/// Batches that wait for the committer: 1,024, of which most are answers to statuses with nothing to write. It
/// takes all of them at once.
pub(crate) const BATCHES: usize = 1_024;

/// How often what machines say of themselves is written down: every second, of a tenth of the machines, so
/// that no commit with an order in it waits behind ten thousand of them. A killed hub shows at worst that a
/// machine was last heard 10 s before it was.
const SAVE_SEEN_EVERY: Duration = Duration::from_secs(1);
const SAVE_SEEN_PARTS: usize = 10;

/// One report, opened and checked by the link.
#[derive(Debug)]
pub(crate) struct Reported {
    pub number: u64,
    pub what: ReportedWhat,
}

#[derive(Debug)]
pub(crate) enum ReportedWhat {
    /// A finding, and the machines at the other side of its connection.
    Finding(Box<Finding>, Vec<MachineId>),
    /// A genuine receipt of this very machine.
    Receipt(Box<Verified<Receipt>>),
    /// An order was refused.
    OrderRefused(OrderId, String),
    /// Something was lost, or refused.
    Gap(String),
}

/// What the main task is told.
pub(crate) enum Input {
    Linked {
        machine: MachineId,
        link: u64,
        hello: Box<Hello>,
    },
    Unlinked {
        machine: MachineId,
        link: u64,
    },
    Covered {
        machine: MachineId,
        link: u64,
        coverage: Vec<Coverage>,
    },
    /// `turn` is given back once all is on disk.
    Reports {
        machine: MachineId,
        link: u64,
        reports: Vec<Reported>,
        turn: OwnedSemaphorePermit,
    },
    OrderTaken {
        machine: MachineId,
        link: u64,
        order: OrderId,
    },
    /// Answered with what is on disk; `turn` is given back then.
    Status {
        machine: MachineId,
        link: u64,
        status: Box<Status>,
        turn: OwnedSemaphorePermit,
    },
    Signed {
        proposal: OrderId,
        answer: Result<Box<Verified<Order>>, Refusal>,
    },
    Permitted(Vec<Verified<Permit>>),
    Coded(Box<Verified<BreakGlass>>),
    Guided(Box<Verified<Guidance>>),
    Deed(Deed),
}

/// Something that a person or the hub itself does: it may use the mind, and adds to the step.
pub(crate) type Deed = Box<dyn FnOnce(&mut Step<'_>) + Send>;

/// One step of the main task.
pub(crate) struct Step<'a> {
    pub core: &'a mut HubCore,
    pub now: Moment,
    /// What the mind said.
    pub outputs: Vec<Output>,
    /// What has to be in the store before what the mind said.
    pub changes: Vec<Change>,
    /// What is carried out once all is on disk.
    pub after: Vec<After>,
    /// Receipts of this step as they were signed.
    receipts: Vec<Verified<Receipt>>,
    may_hurry: bool,
}

impl Step<'_> {
    /// Calls `answer` once the step is on disk.
    pub fn afterwards(&mut self, answer: impl FnOnce() + Send + 'static) {
        self.after.push(After::Call(Box::new(answer)));
    }

    /// Takes what was signed of a machine. A permit that came before it is kept with it: when it came, the store may
    /// not have known the machine, and passed over it.
    pub fn assigned(&mut self, assignment: &Verified<Assignment>) {
        self.changes.extend(self.core.early_permit(assignment.machine).map(keep::permit));
        self.outputs.extend(self.core.assigned(assignment));
    }

    /// Writes a record that the mind knows nothing of.
    pub fn record(&mut self, record: Record) {
        self.outputs.push(Output::Record(record));
    }
}

/// What is carried out once a step is on disk.
#[expect(clippy::large_enum_variant, reason = "a step's few exist at once, each moved once")]
pub(crate) enum After {
    Send(MachineId, u64, FromHub),
    Signer(ForSigner),
    Learn(MachineId, MeasureId, Envelope),
    News(News),
    Call(Box<dyn FnOnce() + Send>),
}

/// What a step leaves for the committer.
#[derive(Default)]
pub(crate) struct Batch {
    pub changes: Vec<Pending>,
    pub records: Vec<(u64, Record)>,
    pub after: Vec<After>,
}

/// People (or tasks) who wait for the signer's answer to a proposal.
#[derive(Debug, Default)]
pub(crate) struct Waiters(Mutex<HashMap<OrderId, oneshot::Sender<Result<(), Refusal>>>>);

impl Waiters {
    pub fn wait(&self, order: OrderId) -> oneshot::Receiver<Result<(), Refusal>> {
        let (answer, answered) = oneshot::channel();
        let mut waiters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiters.retain(|_, waiter| !waiter.is_closed());
        waiters.insert(order, answer);
        answered
    }

    fn take(&self, order: OrderId) -> Option<oneshot::Sender<Result<(), Refusal>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&order)
    }
}

/// The main task's belongings.
pub(crate) struct Work {
    pub core: HubCore,
    pub clock: Clock,
    pub board: Arc<Board>,
    pub links: Arc<Links>,
    pub signers: Signers,
    pub waiters: Arc<Waiters>,
    pub committer: mpsc::Sender<Batch>,
    /// The next number in the outbox.
    pub next_record: u64,
    /// The last machine of which it was written down that it was seen; what comes after it is next.
    pub saved_up_to: Option<MachineId>,
    /// Parts of rounds of that since the start.
    pub ticks_of_seen: usize,
    pub stop: watch::Receiver<bool>,
}

impl Work {
    /// Works until the inputs end, or a step can't be written down.
    pub async fn run(
        mut self,
        mut inputs: mpsc::Receiver<Input>,
        at_start: Vec<Output>,
    ) -> Result<(), StoreError> {
        let mut stop = self.stop.clone();
        self.step(|step| step.outputs = at_start).await?;
        let mut every_second = tokio::time::interval(Duration::from_secs(1));
        every_second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut save_seen = tokio::time::interval(SAVE_SEEN_EVERY);
        save_seen.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                input = inputs.recv() => match input {
                    Some(input) => self.take(input).await?,
                    None => break,
                },
                _ = every_second.tick() => {
                    self.step(|step| step.outputs = step.core.tick(&step.now, &mut fresh)).await?;
                }
                _ = save_seen.tick() => self.save_a_part_of_seen().await?,
                // Handles that people still hold keep the inputs open.
                () = stopped(&mut stop) => break,
            }
        }
        self.saved_up_to = None;
        self.save_seen(usize::MAX).await
    }

    async fn take(&mut self, input: Input) -> Result<(), StoreError> {
        match input {
            Input::Linked { machine, link, hello } => {
                self.linked(machine, link, &hello);
                self.step(|step| {
                    step.outputs = step.core.linked(machine, link, &hello, &step.now);
                    step.after.push(After::News(News::Machine(machine)));
                })
                .await
            }
            Input::Unlinked { machine, link } => {
                self.board.change(machine, |card| {
                    if card.link == Some(link) {
                        card.link = None;
                        card.address = None;
                    }
                });
                self.step(|step| {
                    step.core.unlinked(machine, link);
                    step.after.push(After::News(News::Machine(machine)));
                })
                .await
            }
            Input::Covered { machine, link, coverage } => {
                self.board.change(machine, |card| {
                    if card.link == Some(link)
                        && let Some(seen) = &mut card.seen
                    {
                        seen.coverage.clone_from(&coverage);
                        card.is_unsaved = true;
                    }
                });
                self.step(|step| {
                    step.outputs = step.core.covered(machine, link, &coverage, &step.now);
                    step.after.push(After::News(News::Machine(machine)));
                })
                .await
            }
            Input::Reports { machine, link, reports, turn } => {
                self.step(|step| {
                    take_reports(step, machine, link, reports);
                    step.afterwards(move || drop(turn));
                })
                .await
            }
            Input::OrderTaken { machine, link, order } => {
                self.step(|step| {
                    step.outputs = step.core.order_taken(machine, link, order, &step.now);
                })
                .await
            }
            Input::Status { machine, link, status, turn } => {
                let is_news = self.heard(machine, link, &status);
                self.step(|step| {
                    step.outputs = step.core.status(machine, link, *status, &step.now);
                    let answer = step.core.arrived(machine, link, vec![], &step.now, &mut fresh);
                    step.outputs.extend(answer);
                    step.afterwards(move || drop(turn));
                    if is_news {
                        step.after.push(After::News(News::Machine(machine)));
                    }
                })
                .await
            }
            Input::Signed { proposal, answer } => {
                let waiter = self.waiters.take(proposal);
                let said = answer.as_ref().map(|_| ()).map_err(Clone::clone);
                self.step(|step| {
                    let answer = answer.map(|order| *order);
                    step.outputs =
                        step.core.signer_answered(proposal, answer, &step.now, &mut fresh);
                    step.may_hurry = true;
                    if let Some(waiter) = waiter {
                        step.afterwards(move || drop(waiter.send(said)));
                    }
                })
                .await
            }
            Input::Permitted(permits) => {
                self.step(|step| {
                    for permit in &permits {
                        step.changes.push(keep::permit(permit));
                        step.outputs.extend(step.core.permitted(permit));
                    }
                })
                .await
            }
            Input::Coded(document) => {
                self.step(|step| step.outputs = step.core.coded(&document)).await
            }
            Input::Guided(guidance) => {
                self.step(|step| step.outputs = step.core.guided(&guidance)).await
            }
            Input::Deed(deed) => self.step(deed).await,
        }
    }

    /// What the board shows of a machine whose link is up. Two that came up one after the other may be told of
    /// the other way round: the newer one stands, as the mind has it.
    fn linked(&self, machine: MachineId, link: u64, hello: &Hello) {
        let at = self.clock.now().utc;
        self.board.change(machine, |card| {
            if card.link.is_some_and(|present| present >= link) {
                return;
            }
            card.link = Some(link);
            card.is_unsaved = true;
            card.seen = Some(Seen {
                at,
                boot: hello.boot.clone(),
                build: hello.build.clone(),
                coverage: hello.coverage.clone(),
                status: None,
            });
        });
    }

    /// Whether it is of interest to who looks at the machine.
    fn heard(&self, machine: MachineId, link: u64, status: &Status) -> bool {
        let at = self.clock.now().utc;
        let mut is_news = false;
        self.board.change(machine, |card| {
            if card.link == Some(link)
                && let Some(seen) = &mut card.seen
            {
                let said = |status: &Status| {
                    let held = status.holds.known().iter().map(|held| held.measure);
                    (status.holds.unknown().is_some(), held.collect::<Vec<_>>())
                };
                is_news = seen.status.as_ref().map(said) != Some(said(status));
                seen.at = at;
                seen.status = Some(status.clone());
                card.is_unsaved = true;
                card.heard(status);
            }
        });
        is_news
    }

    async fn save_a_part_of_seen(&mut self) -> Result<(), StoreError> {
        let is_a_new_round = self.ticks_of_seen.is_multiple_of(SAVE_SEEN_PARTS);
        self.ticks_of_seen = self.ticks_of_seen.wrapping_add(1);
        // A small hub is through with all at the first, and rests.
        if self.saved_up_to.is_none() && !is_a_new_round {
            return Ok(());
        }
        let part = self.board.machines().len().div_ceil(SAVE_SEEN_PARTS);
        self.save_seen(part).await
    }

    /// Writes down of the next `most` machines when they were seen.
    async fn save_seen(&mut self, most: usize) -> Result<(), StoreError> {
        let changes = self.unsaved_of_next(most);
        if changes.is_empty() {
            return Ok(());
        }
        self.step(|step| step.changes = changes).await
    }

    fn unsaved_of_next(&mut self, most: usize) -> Vec<Change> {
        let from = self.saved_up_to.take().map_or(Bound::Unbounded, Bound::Excluded);
        let mut changes = Vec::new();
        let mut machines = self.board.machines_mut();
        let mut next = machines.range_mut((from, Bound::Unbounded));
        for (id, card) in next.by_ref().take(most) {
            self.saved_up_to = Some(*id);
            if std::mem::take(&mut card.is_unsaved) {
                let seen = card.seen.clone().map(Box::new);
                changes.extend(seen.map(|seen| Change::Seen { machine: *id, seen }));
            }
        }
        if next.next().is_none() {
            self.saved_up_to = None;
        }
        changes
    }

    async fn step(&mut self, does: impl FnOnce(&mut Step<'_>)) -> Result<(), StoreError> {
        let mut step = Step {
            now: self.clock.now(),
            core: &mut self.core,
            outputs: Vec::new(),
            changes: Vec::new(),
            after: Vec::new(),
            receipts: Vec::new(),
            may_hurry: false,
        };
        does(&mut step);
        let Step { now, outputs, changes, after, receipts, may_hurry, .. } = step;
        self.board.refused_words.store(self.core.refused(), Ordering::Relaxed);
        let changes = changes.into_iter().map(Pending::from).collect();
        let mut batch = Batch { changes, records: Vec::new(), after };
        for output in outputs {
            self.carry(output, &mut batch, &receipts, may_hurry, &now)?;
        }
        if batch.changes.is_empty() && batch.records.is_empty() && batch.after.is_empty() {
            return Ok(());
        }
        // A committer that is gone has ended the hub already.
        let _ = self.committer.send(batch).await;
        Ok(())
    }

    fn carry(
        &mut self,
        output: Output,
        batch: &mut Batch,
        receipts: &[Verified<Receipt>],
        may_hurry: bool,
        now: &Moment,
    ) -> Result<(), StoreError> {
        match output {
            Output::Keep(change) => {
                // Before the board shows the change.
                let kept = match &change {
                    core::Change::Machine(row) => self.board.revisions(row.assignment.machine),
                    _ => Revisions::default(),
                };
                batch.after.extend(self.mirror(&change, now).map(After::News));
                batch.changes.extend(keep::changes_of(change, kept, now.utc)?);
            }
            Output::Record(mut record) => {
                cut(&mut record.detail, RECORD_BYTES);
                if let Some(incident) = record.incident {
                    let entry = Change::Timeline { incident, record: record.clone() };
                    batch.changes.push(entry.into());
                    batch.after.push(After::News(News::Incident(incident)));
                }
                if let (Done::Gap, Some(machine)) = (&record.deed, record.machine) {
                    self.board.change(machine, |card| card.gap_at = Some(now.utc));
                    batch.changes.push(keep::gap(machine, now.utc)?.into());
                }
                batch.changes.push(keep::outbox(self.next_record, Some(&record))?.into());
                batch.records.push((self.next_record, record));
                self.next_record += 1;
            }
            Output::Send(machine, link, message) => {
                let hurries = may_hurry && matches!(message, FromHub::Order(_));
                if !(hurries && self.links.is_welcomed(machine, link)) {
                    batch.after.push(After::Send(machine, link, message));
                } else {
                    self.links.send(machine, link, message);
                }
            }
            Output::Signer(ForSigner::Propose(proposal)) if is_policys(&proposal) => {
                self.signers.propose(proposal);
            }
            Output::Signer(ForSigner::Learn(receipt)) => {
                match receipts.iter().find(|signed| ***signed == receipt) {
                    Some(signed) => {
                        let envelope = signed.envelope().clone();
                        let (machine, measure) = (receipt.machine, receipt.measure);
                        batch.after.push(After::Learn(machine, measure, envelope));
                    }
                    None => batch.after.push(After::Signer(ForSigner::Learn(receipt))),
                }
            }
            Output::Signer(message) => batch.after.push(After::Signer(message)),
            Output::Tell(notice) => {
                self.board.told(notice, now.utc);
                batch.after.push(After::News(News::Attention));
            }
        }
        Ok(())
    }

    /// Shows a change on the board; what it is news of.
    fn mirror(&self, change: &core::Change, now: &Moment) -> Option<News> {
        self.board.standing().take(change);
        match change {
            core::Change::Story(story) => Some(News::Incident(story.incident.id)),
            core::Change::Approval(approval) => Some(News::Approval(approval.id)),
            core::Change::Measure(life) => {
                self.board.measure(&keep::stored_measure(life, now.utc));
                Some(News::Machine(life.machine))
            }
            core::Change::Machine(row) => {
                let assignment = &row.assignment;
                let mut is_news = false;
                self.board.change(assignment.machine, |card| {
                    let known = card.assignment.as_ref().map_or(0, |known| known.revision);
                    is_news = known < assignment.revision;
                    if is_news {
                        card.assignment = Some(Arc::new(assignment.clone()));
                    }
                    card.codes_kept = row.codes.as_ref().map_or(0, |(revision, _)| *revision);
                    card.version_kept = row.version;
                    card.way.clone_from(&row.way);
                    card.guidance_kept = row.guidance.as_ref().map_or(0, |(held, _)| *held);
                });
                is_news.then_some(News::Machine(assignment.machine))
            }
            core::Change::Policy(policy, _) => {
                self.board.set_policy(policy.clone());
                Some(News::Policy)
            }
            core::Change::Seat(_)
            | core::Change::Finding(..)
            | core::Change::Proposed(_)
            | core::Change::Answered(_)
            | core::Change::Order(_) => None,
        }
    }
}

fn is_policys(proposal: &Proposal) -> bool {
    matches!(proposal.basis, Basis::Policy { .. })
}

/// Reports go to the store as they came, and to the mind as it knows them; both number alike.
fn take_reports(step: &mut Step<'_>, machine: MachineId, link: u64, reports: Vec<Reported>) {
    let mut taken = Vec::with_capacity(reports.len());
    let mut arrived = VecDeque::with_capacity(reports.len());
    for Reported { number, what } in reports {
        let (stored, known) = match what {
            ReportedWhat::Finding(finding, touched) => {
                (TakenWhat::Finding(finding.clone()), Arrived::Finding(finding, touched))
            }
            ReportedWhat::Receipt(receipt) => {
                let known = Arrived::Receipt((**receipt).clone());
                step.receipts.push((*receipt).clone());
                // One that comes after the measure's end must not move what the store shows of it.
                let is_over = step
                    .core
                    .measure(receipt.measure)
                    .is_some_and(|life| life.state.is_over() || life.machine != machine);
                let stored = if is_over { TakenWhat::Other } else { TakenWhat::Receipt(receipt) };
                (stored, known)
            }
            ReportedWhat::OrderRefused(order, why) => {
                (TakenWhat::Other, Arrived::OrderRefused(order, why))
            }
            ReportedWhat::Gap(what) => (TakenWhat::Other, Arrived::Gap(what)),
        };
        taken.push(TakenReport { number, what: stored });
        arrived.push_back((number, known));
    }
    let outputs = step.core.arrived(machine, link, arrived.into(), &step.now, &mut fresh);
    if outputs.is_empty() {
        // Of a link that another has replaced: it will all be sent again.
        return;
    }
    // A message may be empty.
    if !taken.is_empty() {
        step.changes.push(Change::Reports { machine, received: step.now.utc, reports: taken });
    }
    step.outputs = outputs;
}

/// How much of what a record says is kept: a page. What machines name is in it, and a record that the ledger
/// can't take (it takes 64 KiB) would end the hub at every start.
const RECORD_BYTES: usize = 8 << 10;

fn cut(text: &mut String, bytes: usize) {
    if text.len() > bytes {
        text.truncate(text.floor_char_boundary(bytes));
    }
}

#[cfg(test)]
mod tests {
    use cordon_model::finding::Level;
    use cordon_model::ids::PermitId;
    use cordon_model::policy::Policy;
    use cordon_model::signed::{Document, seal};
    use cordon_model::time::{BootId, BootNanos, UtcNanos};
    use ed25519_dalek::SigningKey;

    use super::*;

    fn signed<T: Document>(document: &T) -> Verified<T> {
        let key = SigningKey::from_bytes(&[7; 32]);
        seal(document, &key).unwrap().open(&key.verifying_key()).unwrap()
    }

    /// The store passed over it when it came: alone, the machine would be without a permit after a restart.
    #[test]
    fn a_permit_that_came_before_its_machine_is_kept_in_the_step_that_keeps_the_machine() {
        let (at, organisation) = (UtcNanos::from_unix_nanos(0), "RJ1".parse().unwrap());
        let machine = MachineId::new(at, [1; 10]);
        let policy = Policy::default_for(organisation);
        let permit = signed(&Permit {
            id: PermitId::new(at, [2; 10]),
            organisation: policy.organisation.clone(),
            machine,
            level_at_least: Level::High,
            lease: policy.lease,
            issued_at: at,
            expires_at: at.plus(Duration::from_secs(60)),
        });
        let assignment = signed(&Assignment {
            revision: 1,
            ..Assignment::of(policy.organisation.clone(), machine, "pc-1")
        });
        let mut core = HubCore::new(&signed(&policy));
        assert!(core.permitted(&permit).is_empty());
        let now =
            Moment { boot: BootId("boot".into()), at: BootNanos(0), utc: at, trusted_utc: None };
        let (outputs, changes, after) = (Vec::new(), Vec::new(), Vec::new());
        let receipts = Vec::new();
        let mut step =
            Step { core: &mut core, now, outputs, changes, after, receipts, may_hurry: false };
        step.assigned(&assignment);
        assert_eq!(step.changes, [keep::permit(&permit)]);
        assert!(matches!(
            &step.outputs[..],
            [.., Output::Keep(core::Change::Machine(row))] if row.permit.is_some()
        ));
    }
}
