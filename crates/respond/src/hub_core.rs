//! The hub's mind: from findings to incidents, questions and proposals; from signed orders to measures.
//!
//! The one idea: every call returns [`Output`]s of which **all [`Output::Keep`] are committed in one
//! transaction before any other is carried out**. So nothing is acknowledged, sent or asked that a crash
//! could forget, and after a crash [`HubCore::restore`] goes on from the rows: it proposes again what the
//! signer has not answered and sends again what no machine has confirmed.
//!
//! | what | where |
//! |---|---|
//! | a machine's link, and what it says over it of its way here | `link`, `way` |
//! | a finding: placed, decided, proposed or asked | `found`, `intended` |
//! | an order, from the proposal to the machine's disk | `orders`, `documents` |
//! | what a machine shows and says of its measures | `receipts`, `truth` |
//! | people: what they wish, are asked, answer, and leave unanswered | `wishing`, `asking`, `answering`, `waiting`, `since`, `spared` |
//! | people: incidents taken and closed, machines struck off | `working`, `striking` |
//!
//! It signs nothing and believes no machine about another (law 11): who a message is from is said by the
//! link, and messages of an older link are ignored.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use cordon_model::approval::{Needs, Night, Unanswered};
use cordon_model::asset::{Assignment, ClinicalTier};
use cordon_model::break_glass::BreakGlass;
use cordon_model::finding::{Finding, OPENED_BY_CODE, ReceivedFinding};
use cordon_model::guidance::Guidance;
use cordon_model::holds::{Holding, Holds};
use cordon_model::ids::{ApprovalId, IncidentId, MachineId, MeasureId, OdsCode, OrderId};
use cordon_model::incident::{Incident, IncidentState};
use cordon_model::measure::{Isolation, MeasureState, Origin, Receipt};
use cordon_model::order::{Approver, Authority, Instruction, Order, Permit};
use cordon_model::policy::Policy;
use cordon_model::record::{Actor, Deed, Record};
use cordon_model::signed::{Envelope, Verified};
use cordon_model::time::{BootId, BootNanos};
use cordon_model::wire::{Coverage, FromHub, Hello, Status};

use crate::approval::{self, AnswerRefused, Approval, ApprovalState, Identity};
use crate::clock::{Moment, Randomness, id_bytes};
use crate::decision::{self, AskReason, Decision, SERIOUS, Situation, WatchReason};
use crate::delivery::Inbox;
use crate::grouping::{Grouping, How, Story};
use crate::order::{Delivery, MeasureLife, OrderLife};
use crate::signer_core::{Basis, Proposal, Refusal};

mod answering;
mod asking;
mod by_machine;
mod documents;
mod found;
mod intended;
mod link;
mod orders;
mod receipts;
mod since;
mod spared;
mod striking;
mod truth;
mod waiting;
mod way;
mod wishing;
mod words;
mod working;
use asking::one_of_each_story;
use by_machine::ByMachine;
pub use since::is_left;
pub use way::WayWord;
pub use wishing::Wished;
pub use words::{Arrived, Change, ForSigner, MachineRow, Notice, Output, Wish};

/// How long a serious incident may have no owner before it escalates (law 10): 15 minutes.
pub const OWNED_WITHIN: Duration = Duration::from_secs(15 * 60);

/// Closed orders, measures and questions of one machine that are held in memory: 16 of about 2 KB each,
/// so 32 KB for a machine, 320 MB for ten thousand that have all been that busy. The rows stay on disk.
const CLOSED_PER_MACHINE: usize = 16;

/// How often the signer is told that a machine in contact is as it is: every 30 s.
const TELL_EVERY: Duration = Duration::from_secs(30);

/// What is known of a machine while the hub runs.
#[derive(Debug, Clone)]
struct Machine {
    row: MachineRow,
    /// The number of its present link.
    link: Option<u64>,
    /// What it last said of itself on that link.
    status: Option<Status>,
    /// The boot that it was last linked in.
    boot: Option<BootId>,
    /// What its statuses say of some of them in a row, against what is shown.
    said: BTreeMap<MeasureId, truth::Said>,
    signer_told: Option<BootNanos>,
    is_warned: bool,
    /// Of which of its incidents people were told that nothing was blocked, the newest last.
    told: VecDeque<IncidentId>,
    /// Over which link its codes of which revision were sent.
    codes_sent: Option<(u64, u64)>,
    /// The same of its guidance.
    guidance_sent: Option<(u64, u64)>,
}

impl Machine {
    /// It says that a full isolation would cut its link to this hub, or that it does not know.
    fn loses_the_hub(&self) -> bool {
        self.row.way.way.may_lose_the_hub()
    }
}

/// The hub's state.
#[derive(Debug, Clone)]
pub struct HubCore {
    organisation: OdsCode,
    policy: Policy,
    policy_envelope: Envelope,
    machines: BTreeMap<MachineId, Machine>,
    grouping: Grouping,
    approvals: ByMachine<Approval>,
    proposals: BTreeMap<OrderId, Proposal>,
    /// The proposals of each machine in the order in which they were made. The signer has one at a time
    /// of each: so orders come in their order, and no machine refuses one as older than another.
    queues: BTreeMap<MachineId, VecDeque<OrderId>>,
    orders: ByMachine<OrderLife>,
    measures: ByMachine<MeasureLife>,
    /// Serious incidents that escalated; forgotten at a restart, and then said once more.
    escalated: BTreeSet<IncidentId>,
    /// Of which openings by a code people were told; forgotten at a restart, and then said once more.
    told_open: BTreeSet<MeasureId>,
    /// Since when each no is known here: see [`HubCore::holds_still`].
    no_since: BTreeMap<ApprovalId, BootNanos>,
    /// When people were last told of the open questions of a story.
    told_last: BTreeMap<asking::Story, BootNanos>,
    /// Permits that came before the assignment of their machine: the signer knows a machine a little
    /// earlier, and signs no second permit for it soon.
    early: BTreeMap<MachineId, Verified<Permit>>,
    /// Machines that were struck off: no link of theirs is taken, and nothing is sent to them.
    struck_off: BTreeSet<MachineId>,
    /// What machines said and was not taken, since the start.
    refused: u64,
}

impl HubCore {
    /// A hub with its first signed policy.
    #[must_use]
    pub fn new(policy: &Verified<Policy>) -> Self {
        Self {
            organisation: policy.organisation.clone(),
            policy: (**policy).clone(),
            policy_envelope: policy.envelope().clone(),
            machines: BTreeMap::new(),
            grouping: Grouping::new(policy.organisation.clone()),
            approvals: ByMachine::new(),
            proposals: BTreeMap::new(),
            queues: BTreeMap::new(),
            orders: ByMachine::new(),
            measures: ByMachine::new(),
            escalated: BTreeSet::new(),
            told_open: BTreeSet::new(),
            no_since: BTreeMap::new(),
            told_last: BTreeMap::new(),
            early: BTreeMap::new(),
            struck_off: BTreeSet::new(),
            refused: 0,
        }
    }

    /// The hub as its rows say. The outputs tell the signer and people again what they may have missed.
    #[must_use]
    pub fn restore(policy: &Verified<Policy>, rows: Vec<Change>) -> (Self, Vec<Output>) {
        let mut hub = Self::new(policy);
        let (mut stories, mut seats) = (Vec::new(), Vec::new());
        for row in rows {
            match row {
                Change::Story(story) => stories.push(story),
                Change::Seat(seat) => seats.push(seat),
                Change::Finding(..) | Change::Answered(_) | Change::Policy(..) => {}
                Change::Machine(row) => hub.add_machine(row),
                Change::Approval(approval) => hub.approvals.put(approval),
                Change::Proposed(proposal) => {
                    hub.queues.entry(proposal.machine).or_default().push_back(proposal.id);
                    hub.proposals.insert(proposal.id, proposal);
                }
                Change::Order(order) => hub.orders.put(order),
                Change::Measure(measure) => hub.measures.put(measure),
            }
        }
        let (grouping, older) = Grouping::restore(hub.organisation.clone(), stories, seats);
        hub.grouping = grouping;
        let mut outputs = hub.keep_stories(&older);
        outputs.extend(hub.for_a_new_signer().into_iter().map(Output::Signer));
        // What people were to be told may have died with the hub: it is said once more.
        let open = hub.approvals.all().filter(|open| open.state == ApprovalState::Open);
        let first = one_of_each_story(open);
        outputs.extend(first.into_iter().map(|open| Output::Tell(Notice::Asked(open))));
        let unowned = hub
            .incidents()
            .filter(|incident| incident.state == IncidentState::New && incident.level >= SERIOUS);
        outputs.extend(unowned.map(|incident| Output::Tell(Notice::NobodyHasIt(incident.id))));
        (hub, outputs)
    }

    /// Stories that were kept in the form of an earlier version, as this one keeps them.
    fn keep_stories(&self, stories: &[IncidentId]) -> Vec<Output> {
        let mut outputs = Vec::new();
        for id in stories {
            let seats = self.grouping.seats_of(*id).cloned().map(Change::Seat);
            outputs.extend(seats.map(Output::Keep));
            let story = self.grouping.story(*id).cloned().map(Change::Story);
            outputs.extend(story.map(Output::Keep));
        }
        outputs
    }

    /// What a signer that was away may have missed; each is harmless to repeat. For when its socket
    /// comes back.
    #[must_use]
    pub fn for_a_new_signer(&self) -> Vec<ForSigner> {
        // The receipt of a measure that its machine denies by now would make it count again.
        let told = self.measures.all().filter_map(|life| match life.is_denied() {
            true => Some(ForSigner::NotInForce(life.machine, life.measure)),
            false => life.receipt.clone().map(ForSigner::Learn),
        });
        let mut messages: Vec<ForSigner> = told.collect();
        let dead = self.orders.all().filter(|o| matches!(o.delivery, Delivery::Dead { .. }));
        messages.extend(dead.map(|o| ForSigner::NeverBegun(o.order.machine, o.order.id)));
        let open = self.approvals.all().filter(|open| open.state == ApprovalState::Open);
        messages.extend(open.filter_map(|open| self.for_the_signer(open)));
        messages.extend(self.next_proposals().map(ForSigner::Propose));
        messages
    }

    /// The open incidents.
    pub fn incidents(&self) -> impl Iterator<Item = &Incident> {
        self.grouping.stories().map(|story| &story.incident)
    }

    /// The questions.
    pub fn approvals(&self) -> impl Iterator<Item = &Approval> {
        self.approvals.all()
    }

    /// One question.
    #[must_use]
    pub fn approval(&self, approval: ApprovalId) -> Option<&Approval> {
        self.approvals.get(approval)
    }

    /// The questions about a machine that wait for an answer, the oldest first.
    #[must_use]
    pub fn questions_about(&self, machine: MachineId) -> Vec<Approval> {
        let of_it = self.approvals.of(machine);
        of_it.filter(|open| open.state == ApprovalState::Open).cloned().collect()
    }

    /// How many questions of each of these incidents wait for an answer.
    #[must_use]
    pub fn count_questions(&self, incidents: &[IncidentId]) -> BTreeMap<IncidentId, usize> {
        let mut counts: BTreeMap<_, _> = incidents.iter().map(|incident| (*incident, 0)).collect();
        for open in self.approvals.all().filter(|open| open.state == ApprovalState::Open) {
            if let Some(count) = open.incident.and_then(|incident| counts.get_mut(&incident)) {
                *count += 1;
            }
        }
        counts
    }

    /// Which machine a yes to a question that waits would open by a watch; `None`: it would not.
    #[must_use]
    pub fn would_be_watched(&self, question: ApprovalId) -> Option<MachineId> {
        let question = self.approvals.get(question)?;
        let mut wishes = std::iter::once(&question.instruction).chain(&question.also);
        let is_watch = wishes.any(|wish| wish.isolation() == Some(Isolation::Watch));
        (question.state == ApprovalState::Open && is_watch).then_some(question.machine)
    }

    /// The orders.
    pub fn orders(&self) -> impl Iterator<Item = &OrderLife> {
        self.orders.all()
    }

    /// The measures.
    pub fn measures(&self) -> impl Iterator<Item = &MeasureLife> {
        self.measures.all()
    }

    /// One measure.
    #[must_use]
    pub fn measure(&self, measure: MeasureId) -> Option<&MeasureLife> {
        self.measures.get(measure)
    }

    /// How to take back everything that Cordon did to a machine by itself, and what that is: one instruction
    /// for each measure, or one release where all that cuts the machine off was done by itself.
    #[must_use]
    pub fn undoing(&self, machine: MachineId) -> Vec<(Instruction, Vec<MeasureId>)> {
        let standing = self.measures.of(machine).filter(|life| !life.state.is_over());
        let (isolations, others): (Vec<_>, Vec<_>) =
            standing.partition(|life| life.action.isolation().is_some());
        let mut undoing = Vec::new();
        if !isolations.is_empty() && isolations.iter().all(|life| life.is_by_itself) {
            let measures = isolations.iter().map(|life| life.measure).collect();
            undoing.push((Instruction::Release, measures));
        }
        // An isolation of people's took the place of the one that was done by itself; it stays.
        let by_itself =
            others.iter().filter(|life| life.is_by_itself && !life.action.kind().is_done_at_once());
        undoing.extend(by_itself.map(|life| {
            let measure = life.measure;
            (Instruction::Undo { measure }, vec![measure])
        }));
        undoing
    }

    /// How many words of machines were not taken since the start: of another's measure or order, or more than
    /// a machine may have (law 8).
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Whether a machine's link is up.
    #[must_use]
    pub fn is_linked(&self, machine: MachineId) -> bool {
        self.machines.get(&machine).is_some_and(|known| known.link.is_some())
    }

    /// Time goes by: sends again, drops what is too late, and escalates what lies unread. Call every
    /// second.
    pub fn tick(&mut self, now: &Moment, randomness: Randomness<'_>) -> Vec<Output> {
        let mut outputs = Vec::new();
        // The signer may have died before it answered; the same id gets the same answer.
        let proposals = self.next_proposals();
        outputs.extend(proposals.map(|proposal| Output::Signer(ForSigner::Propose(proposal))));
        let open: BTreeSet<MachineId> =
            self.orders.all().filter(|o| o.is_open()).map(|o| o.order.machine).collect();
        for machine in open {
            outputs.extend(self.deliver(machine, now));
        }
        outputs.extend(self.mind_questions(now, randomness));
        let grouping = &self.grouping;
        self.escalated.retain(|incident| grouping.story(*incident).is_some());
        for story in self.grouping.stories() {
            let incident = &story.incident;
            let is_unread = incident.state == IncidentState::New
                && incident.level >= SERIOUS
                && now.utc.since(incident.id.made_at()) >= OWNED_WITHIN;
            if is_unread && self.escalated.insert(incident.id) {
                outputs.push(Output::Tell(Notice::NobodyHasIt(incident.id)));
            }
        }
        outputs
    }

    /// What a machine said is not taken: counted, and in the ledger.
    fn refuse(&mut self, id: MachineId, what: &str, now: &Moment) -> Output {
        self.refused = self.refused.saturating_add(1);
        self.record(Actor::Agent(id), Deed::Gap, Some(id), None, what.to_owned(), now)
    }

    /// Lets go of what has long been closed. Ids say when only as well as the clock did.
    fn forget_closed(&mut self, id: MachineId) {
        let orders = self.orders.of(id).filter(|o| !o.is_open());
        let mut orders: Vec<_> = orders.map(|o| (o.order.sequence, o.order.id)).collect();
        orders.sort_unstable();
        for (_, old) in orders.iter().rev().skip(CLOSED_PER_MACHINE) {
            self.orders.remove(*old);
        }
        self.forget_closed_measures(id);
        let closed = self.approvals.of(id).filter(|a| a.state != ApprovalState::Open);
        let is_needed = |of: &Approval| self.counts_still(of) || since::is_left(of);
        let closed = closed.filter(|approval| !is_needed(approval));
        let mut closed: Vec<_> = closed.map(|a| (a.turn, a.id)).collect();
        closed.sort_unstable();
        for (_, old) in closed.iter().rev().skip(CLOSED_PER_MACHINE) {
            self.approvals.remove(*old);
            self.no_since.remove(old);
        }
    }

    /// Whether it is a no that counts in an open story: forgotten, people would be asked again. Of what is done
    /// besides isolating the last one counts; of isolations each that no later one covers, so two or three.
    fn counts_still(&self, approval: &Approval) -> bool {
        let is_no = |of: &Approval| of.state == ApprovalState::Declined;
        let isolation = waiting::wishes(approval).find(|wish| wish.isolation().is_some());
        let is_later = |of: &Approval| {
            let covers =
                |wish| waiting::wishes(of).any(|declined| waiting::is_less(wish, declined));
            is_no(of)
                && of.incident == approval.incident
                && (of.news, of.turn, of.id) > (approval.news, approval.turn, approval.id)
                && isolation.is_none_or(covers)
        };
        is_no(approval)
            && approval.incident.is_some_and(|incident| self.grouping.is_open(incident))
            && !self.approvals.of(approval.machine).any(is_later)
    }

    fn add_machine(&mut self, row: MachineRow) {
        let id = row.assignment.machine;
        let machine = Machine {
            row,
            link: None,
            status: None,
            boot: None,
            said: BTreeMap::new(),
            signer_told: None,
            is_warned: false,
            told: VecDeque::new(),
            codes_sent: None,
            guidance_sent: None,
        };
        self.machines.insert(id, machine);
    }

    fn keep_machine(&self, id: MachineId) -> Vec<Output> {
        let row = self.machines.get(&id).map(|machine| machine.row.clone());
        row.map(|row| Output::Keep(Change::Machine(row))).into_iter().collect()
    }

    fn record(
        &self,
        actor: Actor,
        deed: Deed,
        machine: Option<MachineId>,
        incident: Option<IncidentId>,
        detail: String,
        now: &Moment,
    ) -> Output {
        Output::Record(Record {
            at: now.utc,
            organisation: self.organisation.clone(),
            actor,
            deed,
            machine,
            incident,
            detail,
        })
    }
}

#[cfg(test)]
mod tests;
