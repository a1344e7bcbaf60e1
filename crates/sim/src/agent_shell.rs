//! What production's agent does around its mind, on a simulated disk and link.

use std::time::Duration;

use cordon_model::asset::Assignment;
use cordon_model::break_glass::BreakGlass;
use cordon_model::finding::Level;
use cordon_model::holds::Holds;
use cordon_model::ids::FindingId;
use cordon_model::laws::{self, Violation};
use cordon_model::order::Order;
use cordon_model::policy::{Mode, Policy};
use cordon_model::signed::Envelope;
use cordon_model::wire::{FromHub, Hello, Status};
use cordon_respond::agent_core::{Act, AgentCore};
use cordon_respond::clock::Moment;
use cordon_respond::delivery::Spool;
use cordon_respond::helper_core::HelperCore;
use cordon_respond::hub_core::Arrived;
use ed25519_dalek::SigningKey;

use crate::besides;
use crate::network::{Fate, Way};
use crate::scenario::Sabotage;
use crate::world::{Event, Up, World};

/// What an agent says of its helper, which may be away.
fn holds_of(helper: Option<&HelperCore>, now: &Moment) -> Holds {
    match helper {
        Some(helper) => Holds::Measures(helper.holdings(now)),
        None => Holds::Unknown { why: "the helper is away".into() },
    }
}

impl World<'_> {
    /// The time as the agent of a machine reads it.
    fn agent_moment(&self, machine: usize) -> Moment {
        self.machines[machine].clock.read_as_agent(self.now)
    }

    pub(crate) fn find(
        &mut self,
        index: usize,
        level: Level,
        rule: u64,
        program: u64,
    ) -> Result<(), Violation> {
        let machine = &self.machines[index];
        if !machine.is_on || machine.agent.is_none() {
            return Ok(());
        }
        let mut finding = self.finding(index, level, rule, program);
        if self.machines[index].lies && self.mishap(3) {
            // It says that it was found on another machine, under the id that the next finding there will have.
            let victim = (index + 1) % self.machines.len();
            let (next, host) = (self.machines[victim].findings + 1, self.machines[victim].id);
            let mut raw_sha256 = [0; 32];
            raw_sha256[..8].copy_from_slice(&next.to_be_bytes());
            finding.host = host.to_string();
            finding.id = FindingId::of(&finding.rule.id, &finding.host, &raw_sha256);
            self.tally.count("finding ids taken by a liar");
        }
        self.tally.count("findings");
        self.note_match();
        self.trace(|| format!("m{index} finds rule {rule} ({level})"));
        let is_alone = self.machines[index].link.is_none() || !self.machines[index].is_welcome;
        let is_called_for = is_alone && self.is_ready_to_defend(index, level);
        let machine = &mut self.machines[index];
        let report = Arrived::Finding(Box::new(finding.clone()), Vec::new());
        let Some(number) = machine.spool.push(report) else { return Ok(()) };
        let life = machine.life;
        self.after(Duration::from_millis(50), Event::SyncSpool { machine: index, life });
        let now = self.agent_moment(index);
        let deaf = self.sabotaged(Sabotage::NoSelfDefence);
        let agent = self.machines[index].agent.as_mut().filter(|_| !deaf);
        let act = agent.and_then(|agent| agent.found(&finding, number, &now));
        let mishaps = self.mishaps();
        self.act(index, act)?;
        self.send_reports(index);
        let is_cut = self.machines[index].kernel.is_some() || self.mishaps() != mishaps;
        laws::self_defence(self.machines[index].id, is_called_for, is_cut)?;
        if self.machines[index].agent.as_ref().is_some_and(AgentCore::is_waiting) {
            self.after(Duration::from_millis(50), Event::AgentTick { machine: index, life });
        }
        Ok(())
    }

    /// How many crashes and refusals there were: whoever met one may come later.
    fn mishaps(&self) -> u64 {
        self.tally.of("helper crashes") + self.tally.of("refusals by a kernel")
    }

    /// Whether, for all that an onlooker knows, this machine could and should defend itself.
    fn is_ready_to_defend(&self, index: usize, level: Level) -> bool {
        let machine = &self.machines[index];
        let now = self.moment(index);
        let (Some(helper), Some(permit)) = (&machine.helper, &machine.documents.permit) else {
            return false;
        };
        let documents = &machine.documents;
        // A permit that this agent holds since its start, not older than a second short of its time by any
        // clock that it may go by.
        let agents = self.agent_moment(index).best_utc(permit.issued_at);
        self.observer.is_surely_before(index, permit.expires_at, now.utc, self.now)
            && agents < permit.expires_at
            && level >= Level::High
            && documents.policy.as_ref().is_some_and(|policy| policy.mode == Mode::Act)
            && documents
                .assignment
                .as_ref()
                .is_some_and(|a| a.tier.is_some_and(|tier| !tier.is_clinical()))
            && helper.assignment.is_some()
            && helper.isolation().is_none()
            && helper.would_act_by_itself(&now)
            && !helper.has_used(permit.id)
            && machine.permit_is_young(self.now)
    }

    fn act(&mut self, index: usize, act: Option<Act>) -> Result<(), Violation> {
        let Some(Act::UsePermit { permit, finding, level }) = act else { return Ok(()) };
        if self.use_permit(index, &permit, finding, level)? {
            let machine = &mut self.machines[index];
            machine.documents.permit = None;
            if let Some(agent) = &mut machine.agent {
                agent.used(permit.id);
            }
        }
        Ok(())
    }

    pub(crate) fn agent_ticks(&mut self, index: usize, life: u64) -> Result<(), Violation> {
        if self.machines[index].life != life {
            return Ok(());
        }
        let now = self.agent_moment(index);
        let act = self.machines[index].agent.as_mut().and_then(|agent| agent.tick(&now));
        self.act(index, act)?;
        if self.machines[index].agent.as_ref().is_some_and(AgentCore::is_waiting) {
            self.after(Duration::from_millis(50), Event::AgentTick { machine: index, life });
        }
        Ok(())
    }

    /// Every few seconds: a link if there is none, a status if there is.
    pub(crate) fn agent_wakes(&mut self, index: usize, life: u64) -> Result<(), Violation> {
        let machine = &self.machines[index];
        if machine.agent_life != life || machine.agent.is_none() || !machine.is_on {
            return Ok(());
        }
        let next = self.random.millis(1_500, 3_000);
        self.after(next, Event::AgentWake { machine: index, life });
        self.pass_receipts_on(index);
        let machine = &self.machines[index];
        match machine.link {
            None => {
                let is_there = self.hub.core.is_some() || self.is_stolen;
                if machine.cut_off_until <= self.now && is_there {
                    self.connect(index);
                }
            }
            Some(_) if machine.is_welcome => {
                let now = self.moment(index);
                let honest = holds_of(machine.helper.as_ref(), &now);
                let codes = machine.helper.as_ref().and_then(|h| h.glass().document.as_ref());
                let break_glass = codes.map_or(0, |document| document.revision);
                let lies = machine.lies && self.mishap(2);
                let holds = if lies { self.claimed_holdings(index) } else { honest };
                let status = Status {
                    at_boot: now.at,
                    holds,
                    rules: 1,
                    events: 0,
                    lost: 0,
                    guidance: 0,
                    break_glass,
                };
                self.send_up(index, Up::Status(status));
                self.send_reports(index);
            }
            Some(_) => {}
        }
        Ok(())
    }

    fn connect(&mut self, index: usize) {
        let link = self.network.new_link();
        let now = self.moment(index);
        let machine = &mut self.machines[index];
        machine.link = Some(link);
        machine.is_welcome = false;
        let documents = &machine.documents;
        let hello = Hello {
            version: cordon_model::wire::VERSION,
            build: "simulated".into(),
            host: String::new(),
            boot: now.boot,
            last_order: machine.helper.as_ref().map_or(0, |helper| helper.last_sequence),
            assignment: documents.assignment.as_ref().map_or(0, |document| document.revision),
            policy: documents.policy.as_ref().map_or(0, |document| document.revision),
            coverage: Vec::new(),
        };
        self.tally.count("links opened");
        let mut hello = hello;
        if self.machines[index].lies && self.mishap(3) {
            // It says that it has whatever will ever be said of it: a tier of its own choice, as it were.
            (hello.assignment, hello.policy) = (u64::MAX, u64::MAX);
            self.tally.count("newer assignments claimed");
        }
        self.send_up(index, Up::Hello(hello));
    }

    pub(crate) fn send_reports(&mut self, index: usize) {
        let machine = &self.machines[index];
        if machine.link.is_some() && machine.is_welcome {
            let batch = machine.spool.batch_after(0);
            if !batch.is_empty() {
                self.send_up(index, Up::Reports(batch));
            }
        }
    }

    pub(crate) fn send_up(&mut self, index: usize, message: Up) {
        let Some(link) = self.machines[index].link else { return };
        let is_cut_off = self.machines[index].cut_off_until > self.now;
        let lost = if self.is_calm { 0 } else { 60 };
        let (now, random) = (self.now, &mut self.random);
        match self.network.fate(link, Way::ToHub, now, is_cut_off, lost, random) {
            Fate::Arrives(when, place) => {
                if self.mishap(15) {
                    self.tally.count("messages to the hub repeated");
                    let again = when + self.random.millis(1, 3_000);
                    let message = Box::new(message.clone());
                    self.at(again, Event::ToHub { machine: index, place, message });
                }
                let message = Box::new(message);
                self.machines[index].said_at = Some(self.now);
                self.at(when, Event::ToHub { machine: index, place, message });
            }
            Fate::Tears(when) | Fate::Vanishes(when) => {
                self.tally.count("messages lost");
                self.at(when, Event::LinkLostAtAgent { machine: index, link });
                let at_hub = when + self.random.millis(1, 2_000);
                self.at(at_hub, Event::LinkLostAtHub { machine: index, link });
            }
        }
    }

    pub(crate) fn link_lost_at_agent(&mut self, index: usize, link: u64) -> Result<(), Violation> {
        let machine = &mut self.machines[index];
        if machine.link != Some(link) {
            return Ok(());
        }
        machine.link = None;
        machine.is_welcome = false;
        if let Some(agent) = &mut machine.agent {
            agent.link(false);
        }
        let life = machine.life;
        self.agent_ticks(index, life)
    }

    pub(crate) fn agent_hears(
        &mut self,
        index: usize,
        link: u64,
        message: FromHub,
    ) -> Result<(), Violation> {
        let now = self.agent_moment(index);
        let machine = &mut self.machines[index];
        if !machine.is_on || machine.agent.is_none() {
            return Ok(());
        }
        let is_present = machine.link == Some(link);
        match message {
            FromHub::Welcome { now: hub_now, .. } if is_present => {
                machine.clock.trusted = Some((hub_now, now.at));
                machine.is_welcome = true;
                if let Some(agent) = &mut machine.agent {
                    agent.link(true);
                }
                self.send_reports(index);
            }
            FromHub::Acknowledged(number) if is_present => {
                let before = machine.spool.waiting().len();
                machine.spool.acknowledged(number);
                let after = machine.spool.waiting().len();
                let is_fewer = after < before;
                if let Some(agent) = &mut machine.agent {
                    agent.acknowledged(number);
                }
                if is_fewer && after > 0 {
                    self.send_reports(index);
                }
            }
            FromHub::Order(envelope) => return self.agent_ordered(index, &envelope),
            FromHub::Permit(envelope) => {
                let held = machine.documents.permit.as_ref();
                if held.is_some_and(|permit| *permit.envelope() == envelope) {
                    return Ok(());
                }
                let known = self.permits.get(&envelope.signature).cloned();
                let known = known.filter(|permit| *permit.envelope() == envelope);
                if let Ok(permit) = known.map_or_else(|| envelope.open(&self.pinned), Ok) {
                    let machine = &mut self.machines[index];
                    let agent = machine.agent.as_mut();
                    if agent.is_some_and(|agent| agent.permit(permit.clone(), &now)) {
                        machine.keep_permit(permit.clone(), self.now);
                        self.helper_sees_permit(index, &permit);
                        self.judge_the_account(index, "a permit", &envelope)?;
                    }
                }
            }
            FromHub::Policy(envelope) => {
                if let Ok(policy) = envelope.open::<Policy>(&self.pinned) {
                    let machine = &mut self.machines[index];
                    let agent = machine.agent.as_mut();
                    if agent.is_some_and(|agent| agent.policy(policy.clone())) {
                        machine.documents.policy = Some(policy);
                        self.judge_the_account(index, "a policy", &envelope)?;
                    }
                }
            }
            FromHub::Assignment(envelope) => {
                if let Ok(assignment) = envelope.open::<Assignment>(&self.pinned) {
                    let machine = &mut self.machines[index];
                    let agent = machine.agent.as_mut();
                    if agent.is_some_and(|agent| agent.assign(assignment.clone())) {
                        machine.documents.assignment = Some(assignment.clone());
                        self.helper_assigned(index, &assignment)?;
                        self.judge_the_account(index, "an assignment", &envelope)?;
                    }
                }
            }
            FromHub::BreakGlass(envelope) => {
                if let Ok(codes) = envelope.open::<BreakGlass>(&self.pinned) {
                    self.machines[index].documents.codes = Some(codes);
                    self.give_codes(index)?;
                    self.judge_the_account(index, "hashes of codes", &envelope)?;
                }
            }
            FromHub::Welcome { .. }
            | FromHub::Acknowledged(_)
            | FromHub::Look { .. }
            | FromHub::Guidance(_)
            | FromHub::Goodbye { .. } => {}
        }
        Ok(())
    }

    fn agent_ordered(&mut self, index: usize, envelope: &Envelope) -> Result<(), Violation> {
        let known = self.orders.get(&envelope.signature).filter(|o| o.envelope() == envelope);
        let mut opened = known.cloned().map_or_else(|| envelope.open::<Order>(&self.pinned), Ok);
        let is_genuine = opened.is_ok();
        if !is_genuine && self.sabotaged(Sabotage::AnyKey) {
            let thief = SigningKey::from_bytes(&[66; 32]);
            opened = envelope.open::<Order>(&thief.verifying_key());
        }
        let Ok(order) = opened else {
            self.tally.count("documents refused for their signature");
            return Ok(());
        };
        match self.helper_ordered(index, &order)? {
            None => {}
            Some(Ok(())) => {
                if is_genuine {
                    self.judge_the_account(index, "an order", envelope)?;
                }
                self.send_up(index, Up::OrderTaken(order.id));
            }
            Some(Err(why)) => {
                self.tally.count("orders refused by their machine");
                self.trace(|| format!("m{index} refuses order {}: {why}", order.sequence));
                let machine = &mut self.machines[index];
                machine.spool.push(Arrived::OrderRefused(order.id, why.to_string()));
                machine.spool_synced = machine.spool.next_number();
                self.send_reports(index);
            }
        }
        Ok(())
    }

    pub(crate) fn agent_dies(&mut self, index: usize) {
        if self.machines[index].agent.take().is_none() {
            return;
        }
        self.tally.count("agent crashes");
        self.trace(|| format!("m{index}: the agent dies"));
        self.machines[index].link = None;
        self.machines[index].is_welcome = false;
        let back = self.random.millis(50, 3_000);
        let life = self.machines[index].life;
        self.after(back, Event::AgentStart { machine: index, life });
    }

    pub(crate) fn agent_starts(&mut self, index: usize, life: u64) -> Result<(), Violation> {
        if self.machines[index].life != life || self.machines[index].agent.is_some() {
            return Ok(());
        }
        let now = self.agent_moment(index);
        let machine = &mut self.machines[index];
        let mut agent = AgentCore::new(self.hub.policy.organisation.clone(), machine.id);
        let documents = machine.documents.clone();
        if let Some(policy) = documents.policy {
            agent.policy(policy);
        }
        if let Some(assignment) = documents.assignment {
            agent.assign(assignment);
        }
        if let Some(permit) = documents.permit {
            agent.permit(permit, &now);
        }
        machine.agent = Some(agent);
        machine.agent_life += 1;
        let life = machine.agent_life;
        self.pass_receipts_on(index);
        self.after(Duration::from_millis(100), Event::AgentWake { machine: index, life });
        Ok(())
    }

    pub(crate) fn power_cut(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        if !machine.is_on {
            return;
        }
        machine.is_on = false;
        machine.kernel = None;
        // Files and accounts outlive it; processes end, and the kernel forgets.
        machine.acts.retain(|_, action| besides::outlives_a_power_cut(action));
        machine.ended.clear();
        machine.helper = None;
        machine.agent = None;
        machine.link = None;
        machine.is_welcome = false;
        machine.life += 1;
        // What was not synced is gone; its numbers are never given again.
        let synced = machine.spool_synced;
        let kept = machine.spool.waiting().iter().filter(|(number, _)| *number < synced);
        let next = machine.spool.next_number() + 1_000;
        machine.spool = Spool::resume(kept.cloned().collect(), next);
        machine.spool_synced = machine.spool.next_number();
        self.observer.power(index, false, self.now);
        self.tally.count("power cuts");
        self.trace(|| format!("m{index} loses power"));
        let back = self.random.millis(500, 30_000);
        self.after(back, Event::PowerOn { machine: index });
    }

    pub(crate) fn power_on(&mut self, index: usize) -> Result<(), Violation> {
        let now = self.now;
        let machine = &mut self.machines[index];
        machine.is_on = true;
        machine.clock.reboot(now);
        let life = machine.life;
        self.observer.power(index, true, now);
        self.trace(|| format!("m{index} is on again"));
        // The helper first: what is meant is in force before there is a network.
        self.helper_starts(index, life)?;
        self.agent_starts(index, life)
    }
}
