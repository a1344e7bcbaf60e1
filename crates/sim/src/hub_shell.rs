//! What production's hub does around its mind: one transaction, then messages.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cordon_model::asset::ClinicalTier;
use cordon_model::finding::ReceivedFinding;
use cordon_model::ids::{ApprovalId, FindingId, IncidentId, MachineId, MeasureId, OrderId};
use cordon_model::laws::{self, Violation};
use cordon_model::measure::{MeasureState, Origin};
use cordon_model::order::{Instruction, Order};
use cordon_model::policy::{Mode, Policy};
use cordon_model::record::Deed;
use cordon_model::signed::{Verified, seal};
use cordon_model::wire::FromHub;
use cordon_respond::approval::{Approval, ApprovalState};
use cordon_respond::clock::{Moment, Randomness};
use cordon_respond::grouping::Story;
use cordon_respond::hub_core::{Arrived, Change, HubCore, MachineRow, Notice, Output};
use cordon_respond::order::{MeasureLife, OrderLife};
use cordon_respond::signer_core::{Basis, Proposal, Refusal};

use crate::besides;
use crate::declined::Declined;
use crate::machine::Clock;
use crate::network::{Fate, Way};
use crate::scenario::{self, Sabotage};
use crate::world::{Event, PEOPLE, Up, World};

/// The hub's database: rows by their keys, and the ledger beside them.
#[derive(Debug, Clone, Default)]
struct Rows {
    stories: BTreeMap<IncidentId, Story>,
    findings: BTreeSet<(MachineId, FindingId)>,
    machines: BTreeMap<MachineId, MachineRow>,
    approvals: BTreeMap<ApprovalId, Approval>,
    proposals: BTreeMap<OrderId, Proposal>,
    orders: BTreeMap<OrderId, OrderLife>,
    measures: BTreeMap<MeasureId, MeasureLife>,
    ledger: BTreeSet<OrderId>,
}

impl Rows {
    fn write(&mut self, change: Change) {
        match change {
            Change::Story(row) => drop(self.stories.insert(row.incident.id, row)),
            Change::Finding(row, _) => {
                self.findings.insert((row.machine, row.finding.id));
            }
            Change::Machine(row) => drop(self.machines.insert(row.assignment.machine, row)),
            Change::Approval(row) => drop(self.approvals.insert(row.id, row)),
            Change::Proposed(row) => drop(self.proposals.insert(row.id, row)),
            Change::Answered(id) => drop(self.proposals.remove(&id)),
            Change::Order(row) => drop(self.orders.insert(row.order.id, row)),
            Change::Measure(row) => drop(self.measures.insert(row.measure, row)),
            Change::Policy(..) => {}
        }
    }

    fn all(&self) -> Vec<Change> {
        let rows = self.clone();
        let mut all: Vec<Change> = rows.stories.into_values().map(Change::Story).collect();
        all.extend(rows.machines.into_values().map(Change::Machine));
        all.extend(rows.approvals.into_values().map(Change::Approval));
        all.extend(rows.proposals.into_values().map(Change::Proposed));
        all.extend(rows.orders.into_values().map(Change::Order));
        all.extend(rows.measures.into_values().map(Change::Measure));
        all
    }
}

/// The hub's process and host.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) core: Option<HubCore>,
    rows: Rows,
    pub(crate) clock: Clock,
    pub(crate) policy: Policy,
    sealed_policy: Option<Verified<Policy>>,
    life: u64,
    /// Incidents of which people were told.
    told: BTreeSet<IncidentId>,
    /// Machines on which a measure is not in force, of which people were told.
    told_of: BTreeSet<MachineId>,
    /// When each machine was last heard, as the hub shows it.
    heard: BTreeMap<MachineId, Duration>,
    /// What people said no to.
    declined: Declined,
}

impl Hub {
    pub(crate) fn new(clock: Clock, policy: Policy) -> Self {
        Self {
            core: None,
            rows: Rows::default(),
            clock,
            policy,
            sealed_policy: None,
            life: 0,
            told: BTreeSet::new(),
            told_of: BTreeSet::new(),
            heard: BTreeMap::new(),
            declined: Declined::default(),
        }
    }
}

impl Hub {
    /// How many measures of a machine its disk shows as not over that no order of the signer's began.
    pub(crate) fn claimed(&self, machine: MachineId) -> usize {
        let of_it = self.rows.measures.values().filter(|life| life.machine == machine);
        let is_ordered = |life: &MeasureLife| match life.origin {
            Origin::Order(order) => self.rows.orders.contains_key(&order),
            _ => false,
        };
        of_it.filter(|life| !life.state.is_over() && !is_ordered(life)).count()
    }

    fn taken_of(&self, machine: MachineId) -> u64 {
        self.rows.machines.get(&machine).map_or(0, |row| row.inbox.highest)
    }
}

impl World<'_> {
    pub(crate) fn hub_moment(&self) -> Moment {
        self.hub.clock.read(self.now)
    }

    /// One call of the hub's mind and all that follows.
    pub(crate) fn hub_step(
        &mut self,
        call: impl FnOnce(&mut HubCore, &Moment, Randomness<'_>) -> Vec<Output>,
    ) -> Result<(), Violation> {
        let now = self.hub_moment();
        let dice = &mut self.random;
        let Some(core) = &mut self.hub.core else { return Ok(()) };
        let outputs = call(core, &now, &mut || dice.bytes());
        self.hub_carries_out(outputs, None)
    }

    fn hub_carries_out(
        &mut self,
        outputs: Vec<Output>,
        heard_from: Option<MachineId>,
    ) -> Result<(), Violation> {
        if self.mishap(400) {
            self.tally.count("hub crashes before it wrote");
            self.hub_dies();
            return Ok(());
        }
        let mut serious = Vec::new();
        let mut unwritten = Vec::new();
        let mut others = Vec::new();
        for output in outputs {
            match output {
                Output::Keep(change) => {
                    let change = if self.sabotaged(Sabotage::AsksForIsolationsOnly) {
                        without_acts(change)
                    } else {
                        change
                    };
                    if let (Change::Measure(life), Some(from)) = (&change, heard_from) {
                        laws::distrust(from, life.machine, true)?;
                    }
                    if let Change::Finding(received, incident) = &change {
                        self.hub.declined.found(received, *incident);
                        serious.push((received.clone(), *incident));
                    }
                    if let Change::Approval(question) = &change {
                        self.hub.declined.kept(question)?;
                    }
                    if let Change::Approval(question) = &change
                        && !self.hub.rows.approvals.contains_key(&question.id)
                    {
                        self.tally.count("questions to people");
                    }
                    unwritten.push(change);
                }
                Output::Record(record) => {
                    if let Deed::Ordered(order) = record.deed
                        && !self.sabotaged(Sabotage::NoLedger)
                    {
                        self.hub.rows.ledger.insert(order);
                    }
                }
                other => others.push(other),
            }
        }
        let is_early = self.sabotaged(Sabotage::AcknowledgesEarly);
        if !is_early {
            // One transaction.
            unwritten.drain(..).for_each(|change| self.hub.rows.write(change));
        }
        if self.mishap(400) {
            self.tally.count("hub crashes after it wrote, before it told");
            self.hub_dies();
            return Ok(());
        }
        for output in others {
            self.hub_does(output)?;
        }
        unwritten.into_iter().for_each(|change| self.hub.rows.write(change));
        for (received, incident) in serious {
            let machine = received.machine;
            // One that lies may take back, in the next word, the isolation that its finding was left to.
            if self.index.get(&machine).is_some_and(|index| self.machines[*index].lies) {
                continue;
            }
            let is_seen_to = self.is_seen_to(machine, incident);
            laws::attention(machine, received.finding.rule.level, is_seen_to)?;
            self.judge_what_is_asked(&received, incident)?;
        }
        Ok(())
    }

    /// What the policy would do besides isolating about a finding on a clinical machine is asked at once.
    fn judge_what_is_asked(
        &self,
        received: &ReceivedFinding,
        incident: IncidentId,
    ) -> Result<(), Violation> {
        let (id, finding, policy) = (received.machine, &received.finding, &self.hub.policy);
        let Some(index) = self.index.get(&id).copied() else { return Ok(()) };
        let tier = scenario::tier(self.options.scenario, index);
        let tier = tier.unwrap_or(ClinicalTier::WHEN_UNKNOWN);
        let level = finding.rule.level;
        let mut responses = policy.responses.iter();
        let response = responses.find(|of| level >= of.level_at_least && of.tiers.contains(&tier));
        let (Some(response), Some(process)) = (response, &finding.process) else { return Ok(()) };
        let is_told = self.hub.told.contains(&incident);
        if !tier.is_clinical() || policy.mode == Mode::Observe || is_told {
            return Ok(());
        }
        let of_it = || self.hub.rows.approvals.values().filter(|question| question.machine == id);
        let is_no = |question: &Approval| {
            question.state == ApprovalState::Declined && question.incident == Some(incident)
        };
        for kind in &response.also {
            let is_it = |wish: &Instruction| match wish {
                Instruction::Begin { action, .. } => {
                    action.kind() == *kind
                        && besides::program_of(action) == Some(process.image.as_bytes())
                }
                _ => false,
            };
            let asks = |question: &Approval| {
                let mut wishes = std::iter::once(&question.instruction).chain(&question.also);
                question.state == ApprovalState::Open && wishes.any(is_it)
            };
            // A receipt that came in the same message may show it in force: nobody need be asked then.
            let is_shown = self.hub.core.iter().flat_map(HubCore::measures).any(|life| {
                let is_so = matches!(life.state, MeasureState::Verified | MeasureState::Done);
                let (action, lease) = (life.action.clone(), policy.lease);
                is_so && life.machine == id && is_it(&Instruction::begin(action, lease))
            });
            let is_asked = is_shown || of_it().any(|question| asks(question) || is_no(question));
            laws::asked(id, tier, *kind, is_asked)?;
        }
        Ok(())
    }

    /// Whether somebody or something deals with a finding on this machine.
    fn is_seen_to(&self, machine: MachineId, incident: IncidentId) -> bool {
        let Some(core) = &self.hub.core else { return true };
        let rows = &self.hub.rows;
        // What somebody wished, and what is done besides isolating, sees to nothing that is found later.
        let is_asked = rows
            .approvals
            .values()
            .any(|question| question.machine == machine && question.asked_by.is_none());
        let is_proposed = rows
            .proposals
            .values()
            .any(|proposal| proposal.machine == machine && !besides::begins(&proposal.instruction));
        let is_ordered = core.orders().any(|life| {
            let order = &life.order;
            order.machine == machine && life.is_open() && !besides::begins(&order.instruction)
        });
        let is_in_force = core.measures().any(|life| {
            let cuts = life.action.isolation().is_some();
            life.machine == machine && cuts && life.may_be_counted_on()
        });
        let is_told = self.hub.told.contains(&incident) || self.hub.told_of.contains(&machine);
        is_asked && !self.sabotaged(Sabotage::TellsNobody)
            || is_proposed
            || is_ordered
            || is_in_force
            || is_told
    }

    fn hub_does(&mut self, output: Output) -> Result<(), Violation> {
        match output {
            Output::Keep(_) | Output::Record(_) => Ok(()),
            Output::Signer(message) => {
                let when = self.random.millis(1, 5);
                self.after(when, Event::ToSigner(Box::new(message)));
                Ok(())
            }
            Output::Tell(notice) => {
                self.hub_tells(notice);
                Ok(())
            }
            Output::Send(machine, link, message) => {
                if let FromHub::Acknowledged(number) = &message {
                    let row = self.hub.rows.machines.get(&machine);
                    let on_disk = row.map_or(0, |row| row.inbox.highest);
                    laws::nothing_lost(machine, *number, on_disk)?;
                }
                if let FromHub::Order(envelope) = &message
                    && let Some(core) = &self.hub.core
                    && let Some(life) = core.orders().find(|life| life.envelope == *envelope)
                {
                    let is_recorded = self.hub.rows.ledger.contains(&life.order.id);
                    laws::accountable(&life.order, is_recorded)?;
                }
                self.send_down(machine, link, message);
                Ok(())
            }
        }
    }

    fn hub_tells(&mut self, notice: Notice) {
        if self.sabotaged(Sabotage::TellsNobody) {
            return;
        }
        self.trace(|| format!("people are told: {notice:?}"));
        if let Notice::NotBlocked { why, .. } = &notice
            && why.starts_with("the signer")
        {
            if self.sabotaged(Sabotage::HidesRefusals) {
                return;
            }
            self.tally.count("refused by the signer: people told");
        }
        match notice {
            Notice::Asked(approval) => {
                self.tally.count("people told of questions");
                self.people_look_at_the_list(approval);
            }
            Notice::Unanswered(_) => self.tally.count("questions that nobody answered"),
            Notice::NotBlocked { incident, .. } => {
                self.tally.count("seen, not blocked: people told");
                self.hub.told.insert(incident);
            }
            Notice::NotInForce { machine, .. } => {
                self.tally.count("not in force: people told");
                self.hub.told_of.insert(machine);
            }
            Notice::OpenedByCode { machine, .. } => {
                self.tally.count("openings by a code: people told");
                self.hub.told_of.insert(machine);
            }
            Notice::NobodyHasIt(incident) => {
                self.hub.told.insert(incident);
            }
            // Names are looked up by the shell, and this one has none.
            Notice::NameMoved { .. } => {}
            Notice::LeaseEnds { .. } => self.tally.count("people told that a lease ends"),
        }
    }

    /// Who is told of one question finds all others of its story in the list.
    fn people_look_at_the_list(&mut self, told: ApprovalId) {
        let asked = self.hub.rows.approvals.get(&told).and_then(|question| question.incident);
        self.notes.told(asked);
        if self.options.scenario == scenario::Scenario::WrongRule {
            return;
        }
        let of_story = |question: &&Approval| {
            let is_of_it = question.incident.is_some() && question.incident == asked;
            question.id == told || (is_of_it && question.state == ApprovalState::Open)
        };
        let open = self.hub.rows.approvals.values().filter(of_story);
        let open: Vec<ApprovalId> = open.map(|question| question.id).collect();
        // Whoever is asked about everything answers less.
        let seldom = if self.hub.policy.mode == Mode::Ask { 8 } else { 3 };
        for approval in open {
            for person in 0..PEOPLE.len() {
                if self.random.once_in(seldom) {
                    let when = self.random.millis(500, 20_000);
                    self.after(when, Event::Answer { approval, person });
                }
            }
        }
    }

    pub(crate) fn send_down(&mut self, id: MachineId, link: u64, message: FromHub) {
        let Some(machine) = self.index.get(&id).copied() else { return };
        let is_cut_off = self.machines[machine].cut_off_until > self.now;
        let lost = if self.is_calm { 0 } else { 60 };
        if matches!(message, FromHub::Order(_)) && self.mishap(4) {
            // Recorded by somebody, and replayed much later.
            self.tally.count("orders repeated by the network");
            let again = self.random.millis(1, 60_000);
            let message = message.clone();
            self.after(again, Event::ToAgent { machine, link: 0, message: Box::new(message) });
        }
        let (now, random) = (self.now, &mut self.random);
        match self.network.fate(link, Way::ToAgent, now, is_cut_off, lost, random) {
            Fate::Arrives(when) => {
                self.at(when, Event::ToAgent { machine, link, message: Box::new(message) })
            }
            Fate::Tears(when) | Fate::Vanishes(when) => {
                self.tally.count("messages lost");
                self.at(when, Event::LinkLostAtHub { machine, link });
                let at_agent = when + self.random.millis(1, 2_000);
                self.at(at_agent, Event::LinkLostAtAgent { machine, link });
            }
        }
    }

    pub(crate) fn hub_hears(
        &mut self,
        index: usize,
        link: u64,
        message: Up,
    ) -> Result<(), Violation> {
        let id = self.machines[index].id;
        let trusts = self.sabotaged(Sabotage::BelievesSenders);
        let deaf = self.sabotaged(Sabotage::IgnoresStatuses);
        let folds = self.sabotaged(Sabotage::FoldsFindings);
        let chokes = self.sabotaged(Sabotage::ChokesOnBad);
        let hoards = self.sabotaged(Sabotage::TakesEverything);
        let before = self.hub.taken_of(id);
        let reported = match &message {
            Up::Reports(reports) => reports.clone(),
            Up::Hello(_) | Up::OrderTaken(_) | Up::Status(_) => Vec::new(),
        };
        if self.is_stolen {
            self.thief_hears(index, link, message);
            return Ok(());
        }
        let now = self.hub_moment();
        let dice = &mut self.random;
        let Some(core) = &mut self.hub.core else {
            // Nobody is there: the connection is refused.
            self.after(Duration::from_millis(5), Event::LinkLostAtAgent { machine: index, link });
            return Ok(());
        };
        self.hub.heard.insert(id, self.now);
        if deaf && matches!(message, Up::Status(_)) {
            return Ok(());
        }
        let outputs = match message {
            Up::Hello(hello) => core.linked(id, link, &hello, &now),
            Up::OrderTaken(order) => core.order_taken(id, link, order, &now),
            Up::Status(status) => core.status(id, link, status, &now),
            Up::Reports(mut reports) => {
                let mut outputs = Vec::new();
                if folds {
                    let known = &self.hub.rows.findings;
                    let is_known = |id| known.iter().any(|(_, finding)| *finding == id);
                    reports.retain(|(_, report)| match report {
                        Arrived::Finding(finding, _) => !is_known(finding.id),
                        _ => true,
                    });
                }
                if chokes && let Some(bad) = reports.iter().position(|(_, of)| is_bad(id, of)) {
                    reports.truncate(bad);
                }
                if hoards {
                    outputs.extend(all_measures(id, &reports));
                }
                if trusts {
                    outputs.extend(core.believe(&mut reports, &now));
                }
                outputs.extend(core.arrived(id, link, reports, &now, &mut || dice.bytes()));
                outputs
            }
        };
        self.hub_carries_out(outputs, Some(id))?;
        if let Some((last, _)) = reported.last() {
            laws::goes_on(id, before, *last, self.hub.taken_of(id))?;
        }
        if self.machines[index].lies {
            self.judge_what_is_kept(index)?;
        }
        self.judge_what_was_taken(index, &reported)
    }

    /// Whatever other machines say: a finding whose number the hub has taken is on its disk, as this
    /// machine's.
    fn judge_what_was_taken(
        &self,
        index: usize,
        reported: &[(u64, Arrived)],
    ) -> Result<(), Violation> {
        let machine = &self.machines[index];
        let rows = &self.hub.rows;
        let highest = self.hub.taken_of(machine.id);
        for (number, report) in reported.iter().filter(|(number, _)| *number <= highest) {
            if let Arrived::Finding(finding, _) = report
                && !machine.lies
            {
                let is_kept = rows.findings.contains(&(machine.id, finding.id));
                laws::kept(machine.id, *number, is_kept)?;
            }
        }
        Ok(())
    }

    pub(crate) fn hub_hears_signer(
        &mut self,
        proposal: OrderId,
        answer: Result<Verified<Order>, Refusal>,
    ) -> Result<(), Violation> {
        if self.is_stolen {
            return answer.map_or(Ok(()), |order| self.thief_has_signed(&order));
        }
        let asked = self.hub.rows.proposals.get(&proposal).cloned();
        let is_refused = answer.is_err();
        self.hub_step(|core, now, dice| core.signer_answered(proposal, answer, now, dice))?;
        // A serious finding that nothing is signed for is somebody's all the same.
        let Some(asked) = asked.filter(|_| is_refused && self.hub.core.is_some()) else {
            return Ok(());
        };
        let lies = self.index.get(&asked.machine).is_some_and(|index| self.machines[*index].lies);
        if let (Basis::Policy { level, .. }, Some(incident), false) =
            (asked.basis, asked.incident, lies)
        {
            self.tally.count("refusals that people were to hear of");
            laws::attention(asked.machine, level, self.is_seen_to(asked.machine, incident))?;
        }
        Ok(())
    }

    pub(crate) fn hub_ticks(&mut self, life: u64) -> Result<(), Violation> {
        if self.hub.life != life {
            return Ok(());
        }
        self.after(Duration::from_secs(1), Event::HubTick { life });
        self.hub_step(|core, now, dice| core.tick(now, dice))?;
        self.judge_what_is_shown()
    }

    /// Law 12, of the row of numbers on top of every screen: how many machines, and how old the word of each.
    fn judge_what_is_shown(&mut self) -> Result<(), Violation> {
        let Some(core) = &self.hub.core else { return Ok(()) };
        let linked = |id: &&MachineId| core.is_linked(**id);
        if self.sabotaged(Sabotage::NothingIsOld) {
            let links: Vec<MachineId> = self.index.keys().filter(linked).copied().collect();
            self.hub.heard.extend(links.into_iter().map(|id| (id, self.now)));
        }
        let Some(core) = &self.hub.core else { return Ok(()) };
        let enrolled = self.hub.rows.machines.keys();
        let shown: Vec<&MachineId> = if self.sabotaged(Sabotage::CountsOnlyTheHeard) {
            enrolled.filter(|id| self.hub.heard.contains_key(id)).collect()
        } else {
            enrolled.collect()
        };
        let (in_contact, away): (Vec<&MachineId>, Vec<&MachineId>) =
            shown.iter().copied().partition(|id| core.is_linked(**id));
        let (away, never): (Vec<&MachineId>, Vec<&MachineId>) =
            away.into_iter().partition(|id| self.hub.heard.contains_key(id));
        let parts = [in_contact.len(), away.len(), never.len()];
        laws::adds_up("machines", shown.len(), &parts, self.machines.len())?;
        for machine in &self.machines {
            if let (Some(heard), Some(said)) = (self.hub.heard.get(&machine.id), machine.said_at) {
                let shown = self.now.saturating_sub(*heard);
                laws::age(machine.id, shown, self.now.saturating_sub(said), ON_ITS_WAY)?;
            }
        }
        Ok(())
    }

    pub(crate) fn hub_dies(&mut self) {
        if self.hub.core.take().is_none() {
            return;
        }
        self.tally.count("hub crashes");
        self.trace(|| "the hub dies".into());
        self.hub.life += 1;
        for machine in 0..self.machines.len() {
            if let Some(link) = self.machines[machine].link {
                let when = self.random.millis(1, 2_000);
                self.after(when, Event::LinkLostAtAgent { machine, link });
            }
        }
        let back = self.random.millis(100, 8_000);
        self.after(back, Event::HubStart);
    }

    pub(crate) fn hub_starts(&mut self) -> Result<(), Violation> {
        if self.hub.core.is_some() || self.is_stolen {
            return Ok(());
        }
        if self.hub.sealed_policy.is_none() {
            let opened =
                seal(&self.hub.policy, &self.key).and_then(|e| e.open::<Policy>(&self.pinned));
            self.hub.sealed_policy = opened.ok();
        }
        let forgets = self.sabotaged(Sabotage::ForgetsNo);
        let Some(policy) = &self.hub.sealed_policy else { return Ok(()) };
        let mut rows = self.hub.rows.all();
        let is_no = |row: &Change| matches!(row, Change::Approval(question) if question.state == ApprovalState::Declined);
        rows.retain(|row| !forgets || !is_no(row));
        let (core, outputs) = HubCore::restore(policy, rows);
        self.hub.core = Some(core);
        let life = self.hub.life;
        self.after(Duration::from_secs(1), Event::HubTick { life });
        self.trace(|| "the hub is up".into());
        self.hub_carries_out(outputs, None)
    }
}

/// The longest that a word is on its way, with what the network repeats.
const ON_ITS_WAY: Duration = Duration::from_secs(5);

/// Whether a report speaks for another machine.
fn is_bad(from: MachineId, report: &Arrived) -> bool {
    matches!(report, Arrived::Receipt(receipt) if receipt.machine != from)
}

/// A question as a hub asks it that forgets all but the isolation.
fn without_acts(change: Change) -> Change {
    let Change::Approval(mut question) = change else { return change };
    question.also.clear();
    if besides::begins(&question.instruction) {
        question.state = ApprovalState::Expired;
    }
    Change::Approval(question)
}

/// What a hub without limits would keep.
fn all_measures(from: MachineId, reports: &[(u64, Arrived)]) -> Vec<Output> {
    let kept = reports.iter().filter_map(|(number, report)| match report {
        Arrived::Receipt(receipt) if receipt.machine == from => {
            let life = MeasureLife::reported(*number, receipt.clone(), false);
            Some(Output::Keep(Change::Measure(life)))
        }
        _ => None,
    });
    kept.collect()
}

/// What a hub that believes senders would do: take a receipt as if from whom it names.
trait Gullible {
    fn believe(&mut self, reports: &mut Vec<(u64, Arrived)>, now: &Moment) -> Vec<Output>;
}

impl Gullible for HubCore {
    fn believe(&mut self, reports: &mut Vec<(u64, Arrived)>, _: &Moment) -> Vec<Output> {
        let mut outputs = Vec::new();
        for (_, report) in reports.iter() {
            if let Arrived::Receipt(receipt) = report
                && let Some(life) = self.measures().find(|life| life.measure == receipt.measure)
            {
                let mut life = life.clone();
                life.state = receipt.state.clone();
                outputs.push(Output::Keep(Change::Measure(life)));
            }
        }
        outputs
    }
}
