//! The hub's mind: from findings to incidents, questions and proposals; from signed orders to measures.
//!
//! The one idea: every call returns [`Output`]s of which **all [`Output::Keep`] are committed in one
//! transaction before any other is carried out**. So nothing is acknowledged, sent or asked that a crash
//! could forget, and after a crash [`HubCore::restore`] goes on from the rows: it proposes again what the
//! signer has not answered and sends again what no machine has confirmed.
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
use crate::decision::{self, AskReason, Decision, SERIOUS, Situation};
use crate::delivery::Inbox;
use crate::grouping::{Grouping, How, Story};
use crate::order::{Delivery, MeasureLife, OrderLife};
use crate::signer_core::{Basis, Proposal, Refusal};

mod asking;
mod by_machine;
mod spared;
mod truth;
mod words;
mod work;
pub use asking::Wished;
use asking::{Question, one_of_each_story};
use by_machine::ByMachine;
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
    /// It says that a full isolation would cut its link to this hub, or that it does not know.
    loses_the_hub: bool,
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
        let mut stories = Vec::new();
        for row in rows {
            match row {
                Change::Story(story) => stories.push(story),
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
        hub.grouping = Grouping::restore(hub.organisation.clone(), stories);
        let mut outputs: Vec<Output> =
            hub.for_a_new_signer().into_iter().map(Output::Signer).collect();
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

    /// The signer signed an assignment: a machine is new, or is now something else.
    pub fn assigned(&mut self, assignment: &Verified<Assignment>) -> Vec<Output> {
        let id = assignment.machine;
        if let Some(machine) = self.machines.get_mut(&id) {
            if machine.row.assignment.revision > assignment.revision {
                // Two were signed at about the same time, and the newer one was here first.
                return Vec::new();
            }
            machine.row.assignment = (**assignment).clone();
            machine.row.assignment_envelope = assignment.envelope().clone();
        } else {
            self.add_machine(MachineRow {
                assignment: (**assignment).clone(),
                assignment_envelope: assignment.envelope().clone(),
                permit: None,
                codes: None,
                guidance: None,
                inbox: Inbox::default(),
                version: 0,
            });
        }
        let mut outputs = self.keep_machine(id);
        outputs.extend(self.send(id, FromHub::Assignment(assignment.envelope().clone())));
        if let Some(permit) = self.early.remove(&id) {
            outputs.extend(self.permitted(&permit));
        }
        outputs
    }

    /// The signer signed a policy.
    pub fn policy_set(&mut self, policy: &Verified<Policy>) -> Vec<Output> {
        self.policy = (**policy).clone();
        self.policy_envelope = policy.envelope().clone();
        let kept = Change::Policy(self.policy.clone(), self.policy_envelope.clone());
        let mut outputs = vec![Output::Keep(kept)];
        let open = self.approvals.all().filter(|open| open.state == ApprovalState::Open);
        outputs.extend(open.filter_map(|open| self.for_the_signer(open)).map(Output::Signer));
        for machine in self.machines.keys() {
            outputs.extend(self.send(*machine, FromHub::Policy(self.policy_envelope.clone())));
        }
        outputs
    }

    /// The signer signed a permit.
    pub fn permitted(&mut self, permit: &Verified<Permit>) -> Vec<Output> {
        let Some(machine) = self.machines.get_mut(&permit.machine) else {
            self.early.insert(permit.machine, permit.clone());
            return Vec::new();
        };
        machine.row.permit = Some(permit.envelope().clone());
        let mut outputs = self.keep_machine(permit.machine);
        outputs.extend(self.send(permit.machine, FromHub::Permit(permit.envelope().clone())));
        outputs
    }

    /// The signer signed the hashes of a machine's break-glass codes.
    pub fn coded(&mut self, document: &Verified<BreakGlass>) -> Vec<Output> {
        let Some(machine) = self.machines.get_mut(&document.machine) else { return Vec::new() };
        let revision = document.revision;
        machine.row.codes = Some((revision, document.envelope().clone()));
        machine.codes_sent = machine.link.map(|link| (link, revision));
        let mut outputs = self.keep_machine(document.machine);
        let message = FromHub::BreakGlass(document.envelope().clone());
        outputs.extend(self.send(document.machine, message));
        outputs
    }

    /// The signer signed what people in front of a machine are told.
    pub fn guided(&mut self, guidance: &Verified<Guidance>) -> Vec<Output> {
        let Some(machine) = self.machines.get_mut(&guidance.machine) else { return Vec::new() };
        let revision = guidance.revision;
        if machine.row.guidance.as_ref().is_some_and(|(held, _)| *held >= revision) {
            return Vec::new();
        }
        machine.row.guidance = Some((revision, guidance.envelope().clone()));
        machine.guidance_sent = machine.link.map(|link| (link, revision));
        let mut outputs = self.keep_machine(guidance.machine);
        let message = FromHub::Guidance(guidance.envelope().clone());
        outputs.extend(self.send(guidance.machine, message));
        outputs
    }

    /// A machine's link is up. `link` counts up; messages that come with an older one are ignored.
    pub fn linked(&mut self, id: MachineId, link: u64, hello: &Hello, now: &Moment) -> Vec<Output> {
        if self.struck_off.contains(&id) {
            return Vec::new();
        }
        let Some(machine) = self.machines.get_mut(&id) else { return Vec::new() };
        if machine.link.is_some_and(|present| present >= link) {
            return Vec::new();
        }
        machine.link = Some(link);
        machine.boot = Some(hello.boot.clone());
        machine.loses_the_hub = hello.coverage.iter().any(Coverage::may_lose_the_hub);
        machine.status = None;
        machine.said.clear();
        let version = hello.version.min(cordon_model::wire::VERSION);
        let is_other_version = std::mem::replace(&mut machine.row.version, version) != version;
        let mut messages = vec![
            FromHub::Welcome { version, now: now.utc },
            FromHub::Acknowledged(machine.row.inbox.highest),
        ];
        if hello.assignment < machine.row.assignment.revision {
            messages.push(FromHub::Assignment(machine.row.assignment_envelope.clone()));
        }
        if hello.policy < self.policy.revision {
            messages.push(FromHub::Policy(self.policy_envelope.clone()));
        }
        messages.extend(machine.row.permit.clone().map(FromHub::Permit));
        let mut outputs: Vec<Output> =
            messages.into_iter().map(|message| Output::Send(id, link, message)).collect();
        if is_other_version {
            outputs.extend(self.keep_machine(id));
        }
        let orders: Vec<OrderId> = self.orders.ids_of(id).collect();
        for order in orders {
            if let Some(life) = self.orders.get_mut(order) {
                life.last_sent = None;
            }
        }
        outputs.extend(self.deliver(id, now));
        outputs
    }

    /// What a machine can see and do has changed since its hello.
    pub fn covered(&mut self, id: MachineId, link: u64, coverage: &[Coverage]) {
        if self.is_present(id, link)
            && let Some(machine) = self.machines.get_mut(&id)
        {
            machine.loses_the_hub = coverage.iter().any(Coverage::may_lose_the_hub);
        }
    }

    /// A machine's link is down.
    pub fn unlinked(&mut self, id: MachineId, link: u64) {
        if let Some(machine) = self.machines.get_mut(&id)
            && machine.link == Some(link)
        {
            machine.link = None;
        }
    }

    /// Reports of a machine, in order of number. Answered with what is taken, also where there are none.
    pub fn arrived(
        &mut self,
        id: MachineId,
        link: u64,
        reports: Vec<(u64, Arrived)>,
        now: &Moment,
        randomness: Randomness<'_>,
    ) -> Vec<Output> {
        if !self.is_present(id, link) {
            return Vec::new();
        }
        let mut outputs = Vec::new();
        let is_news = !reports.is_empty();
        for (number, report) in reports {
            let Some(machine) = self.machines.get_mut(&id) else { break };
            if !machine.row.inbox.take(number) {
                continue;
            }
            outputs.extend(match report {
                Arrived::Finding(finding, touched) => {
                    self.found(id, *finding, &touched, now, randomness)
                }
                Arrived::Receipt(receipt) => self.receipt(id, number, receipt, now, randomness),
                Arrived::OrderRefused(order, why) => self.order_refused(id, order, &why, now),
                Arrived::Gap(what) => {
                    vec![self.record(Actor::Agent(id), Deed::Gap, Some(id), None, what, now)]
                }
            });
        }
        // A status asks for no more than the answer.
        if is_news {
            outputs.extend(self.keep_machine(id));
        }
        let highest = self.machines.get(&id).map_or(0, |machine| machine.row.inbox.highest);
        outputs.extend(self.send(id, FromHub::Acknowledged(highest)));
        outputs
    }

    /// A machine says that it has an order on its disk.
    pub fn order_taken(
        &mut self,
        id: MachineId,
        link: u64,
        order: OrderId,
        now: &Moment,
    ) -> Vec<Output> {
        if !self.is_present(id, link) {
            return Vec::new();
        }
        let mut outputs = Vec::new();
        if self.orders.get(order).is_some_and(|life| life.order.machine != id) {
            let what = "it says that it has another machine's order; refused";
            outputs.push(self.refuse(id, what, now));
        } else if let Some(life) = self.orders.get_mut(order)
            && life.taken()
        {
            let incident = life.order.incident;
            let detail = life.order.instruction.to_string();
            let taken = life.order.clone();
            outputs.push(Output::Keep(Change::Order(life.clone())));
            if let Some(measure) = self.measures.get_mut(order.into())
                && measure.delivered()
            {
                outputs.push(Output::Keep(Change::Measure(measure.clone())));
            }
            outputs.extend(self.let_go(&taken));
            let deed = Deed::Delivered(order);
            outputs.push(self.record(Actor::Agent(id), deed, Some(id), incident, detail, now));
        }
        outputs.extend(self.deliver(id, now));
        outputs
    }

    /// A person takes an incident.
    pub fn own(&mut self, incident: IncidentId, person: &str, now: &Moment) -> Vec<Output> {
        let story = self.grouping.own(incident, person).cloned();
        story.map_or_else(Vec::new, |story| self.taken(story, person, now))
    }

    /// The same of one that made room for others, as it was kept.
    pub fn own_kept(&mut self, kept: Story, person: &str, now: &Moment) -> Vec<Output> {
        let story = self.grouping.own_kept(kept, person);
        story.map_or_else(Vec::new, |story| self.taken(story, person, now))
    }

    fn taken(&self, story: Story, person: &str, now: &Moment) -> Vec<Output> {
        let (actor, incident) = (Actor::Person(person.to_owned()), Some(story.incident.id));
        let deed = Deed::IncidentChanged;
        let record = self.record(actor, deed, None, incident, "taken".into(), now);
        vec![Output::Keep(Change::Story(story)), record]
    }

    /// A person closes an incident. What the policy asked in it is withdrawn at once, with the reason.
    pub fn close(
        &mut self,
        incident: IncidentId,
        person: &str,
        reason: &str,
        now: &Moment,
    ) -> Vec<Output> {
        let story = self.grouping.close(incident);
        story.map_or_else(Vec::new, |story| self.closed(story, person, reason, now))
    }

    /// The same of one that made room for others, as it was kept.
    pub fn close_kept(
        &mut self,
        kept: Story,
        person: &str,
        reason: &str,
        now: &Moment,
    ) -> Vec<Output> {
        let story = self.grouping.close_kept(kept);
        story.map_or_else(Vec::new, |story| self.closed(story, person, reason, now))
    }

    fn closed(&mut self, story: Story, person: &str, reason: &str, now: &Moment) -> Vec<Output> {
        let incident = story.incident.id;
        self.escalated.remove(&incident);
        let actor = Actor::Person(person.to_owned());
        let deed = Deed::IncidentChanged;
        let why = format!("its incident was closed by {person}: {reason}");
        let withdrawn = self.withdraw_of(incident, &why);
        let detail = match withdrawn.len() {
            0 => format!("closed: {reason}"),
            1 => format!("closed: {reason} (withdrawn with it: 1 question)"),
            many => format!("closed: {reason} (withdrawn with it: {many} questions)"),
        };
        let mut outputs = vec![Output::Keep(Change::Story(story))];
        outputs.extend(withdrawn);
        outputs.push(self.record(actor, deed, None, Some(incident), detail, now));
        outputs
    }

    /// The signer's answer to a proposal. Repeated answers change nothing.
    pub fn signer_answered(
        &mut self,
        proposal: OrderId,
        answer: Result<Verified<Order>, Refusal>,
        now: &Moment,
        randomness: Randomness<'_>,
    ) -> Vec<Output> {
        let Some(proposal) = self.proposals.remove(&proposal) else { return Vec::new() };
        let mut outputs = vec![Output::Keep(Change::Answered(proposal.id))];
        outputs.extend(self.next_of(&proposal));
        match answer {
            Ok(order) => {
                outputs.extend(self.ordered(&order, now, randomness));
                outputs.extend(self.ask_for_the_rest(&proposal, now, randomness));
            }
            Err(refusal) => {
                let deed = Deed::OrderRefused;
                let (machine, incident) = (Some(proposal.machine), proposal.incident);
                let detail = refusal.to_string();
                outputs.push(self.record(Actor::Signer, deed, machine, incident, detail, now));
                if let (Refusal::Ask { needs, why }, Basis::Policy { finding, level }) =
                    (&refusal, &proposal.basis)
                {
                    let question = Question {
                        machine: proposal.machine,
                        instruction: proposal.instruction,
                        also: Vec::new(),
                        needs: *needs,
                        why: format!("{why}: {}", proposal.reason),
                        incident: proposal.incident,
                        of: Some((*finding, *level)),
                        refused: None,
                        asked_by: None,
                    };
                    outputs.extend(self.ask(question, now, randomness));
                } else if let Basis::Unanswered { approval, .. }
                | Basis::People { approval: Some(approval), .. } = proposal.basis
                {
                    // Approved or not, nothing is done: it may not lie unread.
                    outputs.extend(self.asked_in_vain(approval, now, randomness));
                } else {
                    outputs.extend(self.not_blocked(&proposal, &refusal));
                }
            }
        }
        outputs
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
}

#[cfg(test)]
mod tests;
