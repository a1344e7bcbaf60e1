//! What production's agent and helper do around their minds, on simulated disks, kernels and links.

use std::time::Duration;

use cordon_model::asset::Assignment;
use cordon_model::finding::Level;
use cordon_model::ids::FindingId;
use cordon_model::laws::{self, Violation};
use cordon_model::measure::{Isolation, MeasureState, Origin, Proof, Receipt};
use cordon_model::order::{Order, Permit};
use cordon_model::policy::{Mode, Policy};
use cordon_model::signed::{Envelope, Verified};
use cordon_model::time::UtcNanos;
use cordon_model::wire::{FromHub, Hello, Status};
use cordon_respond::agent_core::{Act, AgentCore};
use cordon_respond::clock::Moment;
use cordon_respond::delivery::Spool;
use cordon_respond::helper_core::{Effect, HelperCore, NotObeyed, Outcome};
use cordon_respond::hub_core::Arrived;
use ed25519_dalek::SigningKey;

use crate::machine::InKernel;
use crate::network::{Fate, Way};
use crate::scenario::Sabotage;
use crate::world::{Event, Up, World};

impl World<'_> {
    pub(crate) fn moment(&self, machine: usize) -> Moment {
        self.machines[machine].clock.read(self.now)
    }

    // ── The helper ──────────────────────────────────────────────────────────────────────────────

    /// Writes the helper's state down, with certainty.
    fn keep_helper(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        machine.helper_disk.clone_from(&machine.helper);
    }

    /// Carries out what the helper said, once its state is on disk.
    fn carry_out(&mut self, index: usize, effects: Vec<Effect>) -> Result<(), Violation> {
        self.keep_helper(index);
        if !effects.is_empty() && self.mishap(40) {
            self.tally.count("helper crashes before acting");
            self.helper_dies(index);
            return Ok(());
        }
        for effect in effects {
            self.carry_out_one(index, &effect)?;
            if self.machines[index].helper.is_none() {
                return Ok(());
            }
        }
        self.pass_receipts_on(index);
        Ok(())
    }

    fn carry_out_one(&mut self, index: usize, effect: &Effect) -> Result<(), Violation> {
        let measure = match effect {
            Effect::Enforce { measure, .. } | Effect::Restore { measure } => *measure,
            Effect::Warn { .. } => {
                self.tally.count("warnings before a lease ends");
                return Ok(());
            }
        };
        self.trace(|| format!("m{index}: {effect:?}"));
        let outcome = if self.mishap(30) {
            self.tally.count("refusals by a kernel");
            self.observer.allow(index, Duration::from_secs(2));
            Outcome::Failed { why: "the kernel said no".into() }
        } else {
            self.change_the_kernel(index, effect)?;
            Outcome::Done { proof: Some(self.look(index, effect)), sockets_cut: 0 }
        };
        if self.mishap(40) {
            self.tally.count("helper crashes after acting");
            self.helper_dies(index);
            return Ok(());
        }
        let now = self.moment(index);
        let machine = &mut self.machines[index];
        let Some(helper) = &mut machine.helper else { return Ok(()) };
        let known = helper.unreported.len();
        helper.enforced(measure, outcome, &now);
        let claims: Vec<Receipt> = helper.unreported.iter().skip(known).cloned().collect();
        for receipt in &claims {
            self.observer.claimed(&self.machines[index], receipt)?;
        }
        self.keep_helper(index);
        Ok(())
    }

    fn change_the_kernel(&mut self, index: usize, effect: &Effect) -> Result<(), Violation> {
        let drops_lifelines = self.sabotaged(Sabotage::CutsLifelines);
        let does_nothing = self.sabotaged(Sabotage::FalseProof);
        let machine = &mut self.machines[index];
        let Some(helper) = &machine.helper else { return Ok(()) };
        if does_nothing {
            return Ok(());
        }
        match effect {
            Effect::Enforce { measure, isolation } => {
                let lifelines = helper.assignment.iter().flat_map(|a| &a.lifelines);
                let kept = lifelines.filter(|_| !drops_lifelines).map(|flow| flow.name.clone());
                let kept = kept.collect();
                machine.kernel = Some(InKernel { measure: *measure, isolation: *isolation, kept });
                let origin = origin_of(helper, *measure);
                self.tally.count("isolations put in force");
                self.observer.cut(index, &self.machines, origin, self.now)
            }
            Effect::Restore { .. } => {
                machine.kernel = None;
                self.tally.count("releases");
                self.observer.opened(index, &self.machines[index])
            }
            Effect::Warn { .. } => Ok(()),
        }
    }

    /// Reads back what the kernel has.
    fn look(&self, index: usize, effect: &Effect) -> Proof {
        let kernel = self.machines[index].kernel.as_ref();
        let is_read_back = match effect {
            Effect::Enforce { measure, isolation } => kernel.is_some_and(|in_kernel| {
                in_kernel.measure == *measure && in_kernel.isolation == *isolation
            }),
            Effect::Restore { .. } => kernel.is_none(),
            Effect::Warn { .. } => true,
        };
        Proof {
            table_handle: kernel.map(|_| 1),
            is_read_back: is_read_back || self.sabotaged(Sabotage::FalseProof),
            probes: Vec::new(),
            unproven: Vec::new(),
            at: self.moment(index).at,
        }
    }

    /// Gives the helper's receipts to the agent, which has them on its disk before they are let go.
    fn pass_receipts_on(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        let (Some(helper), Some(agent)) = (&mut machine.helper, &mut machine.agent) else { return };
        agent.isolated(helper.isolation());
        let receipts: Vec<Receipt> = helper.unreported.iter().cloned().collect();
        if receipts.is_empty() {
            return;
        }
        for receipt in &receipts {
            machine.spool.push(Arrived::Receipt(receipt.clone()));
        }
        machine.spool_synced = machine.spool.next_number();
        helper.reported(receipts.len());
        machine.helper_disk = Some(helper.clone());
        self.send_reports(index);
    }

    pub(crate) fn helper_wakes(&mut self, index: usize, life: u64) -> Result<(), Violation> {
        if self.machines[index].helper_life != life || self.machines[index].helper.is_none() {
            return Ok(());
        }
        let now = self.moment(index);
        let mut effects = Vec::new();
        if !self.sabotaged(Sabotage::NoLeaseTimer) {
            let dice = &mut self.random;
            if let Some(helper) = &mut self.machines[index].helper {
                effects = helper.tick(&now, &mut || dice.bytes());
            }
        }
        self.carry_out(index, effects)?;
        self.settle(index)?;
        if let Some(helper) = &self.machines[index].helper {
            let wake = helper.next_wake(&now);
            self.after(wake, Event::HelperWake { machine: index, life });
        }
        Ok(())
    }

    /// Judges what is in force, once nothing is under way.
    fn settle(&mut self, index: usize) -> Result<(), Violation> {
        let machine = &self.machines[index];
        let Some(helper) = &machine.helper else { return Ok(()) };
        let is_unsettled = helper.next.is_some()
            || helper.current.as_ref().is_some_and(|held| held.state.is_unproven());
        if is_unsettled || !machine.is_on {
            return Ok(());
        }
        self.observer.settled(index, machine, self.now)
    }

    pub(crate) fn helper_dies(&mut self, index: usize) {
        if self.machines[index].helper.take().is_none() {
            return;
        }
        self.tally.count("helper crashes");
        self.trace(|| format!("m{index}: the helper dies"));
        let back = self.random.millis(50, 3_000);
        self.observer.allow(index, back);
        let life = self.machines[index].life;
        self.after(back, Event::HelperStart { machine: index, life });
    }

    pub(crate) fn helper_starts(&mut self, index: usize, life: u64) -> Result<(), Violation> {
        if self.machines[index].life != life || self.machines[index].helper.is_some() {
            return Ok(());
        }
        let now = self.moment(index);
        let forgets = self.sabotaged(Sabotage::ForgetsMeasures);
        let machine = &mut self.machines[index];
        machine.helper_life += 1;
        let Some(mut helper) = machine.helper_disk.clone() else { return Ok(()) };
        if forgets {
            helper.current = None;
            helper.next = None;
        }
        let effects = helper.restart(&now);
        machine.helper = Some(helper);
        // Its agent tells it of a newer assignment, should it have died before that was on disk.
        let assignment = machine.documents.assignment.clone();
        self.trace(|| format!("m{index}: the helper is back"));
        self.carry_out(index, effects)?;
        if let Some(assignment) = assignment {
            self.helper_assigned(index, &assignment)?;
        }
        self.settle(index)?;
        let life = self.machines[index].helper_life;
        self.after(Duration::from_millis(20), Event::HelperWake { machine: index, life });
        Ok(())
    }

    /// The kernel told the helper that its table was touched.
    fn helper_looks(&mut self, index: usize) -> Result<(), Violation> {
        let now = self.moment(index);
        let kernel = self.machines[index].kernel.clone();
        let Some(helper) = &mut self.machines[index].helper else { return Ok(()) };
        let Some(current) = helper.current.clone() else { return Ok(()) };
        let is_there = kernel.is_some_and(|in_kernel| in_kernel.measure == current.measure);
        if is_there {
            return Ok(());
        }
        let proof = Proof {
            table_handle: None,
            is_read_back: false,
            probes: Vec::new(),
            unproven: Vec::new(),
            at: now.at,
        };
        helper.looked(current.measure, proof, &now);
        let effects = helper.restart(&now);
        self.carry_out(index, effects)
    }

    pub(crate) fn wipe_the_kernel(&mut self, index: usize) -> Result<(), Violation> {
        let machine = &mut self.machines[index];
        if !machine.is_on || machine.kernel.take().is_none() {
            return Ok(());
        }
        self.tally.count("rulesets wiped by somebody");
        // As the kernel's notification would: at once, before anything else is judged.
        self.helper_looks(index)
    }

    fn helper_assigned(
        &mut self,
        index: usize,
        assignment: &Verified<Assignment>,
    ) -> Result<(), Violation> {
        let Some(helper) = &mut self.machines[index].helper else { return Ok(()) };
        let Ok(effects) = helper.assign(assignment) else { return Ok(()) };
        let names = assignment.lifelines.iter().map(|flow| flow.name.clone()).collect();
        self.observer.assigned(index, names);
        self.carry_out(index, effects)
    }

    /// The agent hands an order to the helper. `None`: the helper is away, so nobody has it.
    fn helper_ordered(
        &mut self,
        index: usize,
        order: &Verified<Order>,
    ) -> Result<Option<Result<(), NotObeyed>>, Violation> {
        if self.sabotaged(Sabotage::NoSequence) {
            self.forget_sequence(index);
        }
        let now = self.moment(index);
        let Some(helper) = &mut self.machines[index].helper else { return Ok(None) };
        let (sequence, floor) = (helper.last_sequence, helper.time_floor());
        let effects = match helper.order(order, &now) {
            Ok(effects) => effects,
            Err(error) => return Ok(Some(Err(error))),
        };
        let is_news = !effects.is_empty() || helper.last_sequence != sequence;
        if is_news {
            self.tally.count("orders taken");
            let at = now.best_utc(floor);
            self.observer.took_order(index, &self.machines[index], order, at, self.now)?;
        }
        self.carry_out(index, effects)?;
        Ok(Some(Ok(())))
    }

    fn forget_sequence(&mut self, index: usize) {
        let Some(helper) = &mut self.machines[index].helper else { return };
        let Ok(mut state) = serde_json::to_value(&*helper) else { return };
        state["last_sequence"] = 0.into();
        state["taken"] = serde_json::json!([]);
        if let Ok(forgetful) = serde_json::from_value::<HelperCore>(state) {
            *helper = forgetful;
        }
    }

    fn use_permit(
        &mut self,
        index: usize,
        permit: &Verified<Permit>,
        finding: FindingId,
        level: Level,
    ) -> Result<bool, Violation> {
        let now = self.moment(index);
        let Some(helper) = &mut self.machines[index].helper else { return Ok(false) };
        let floor = helper.time_floor();
        let Ok(effects) = helper.use_permit(permit, finding, level, &now) else {
            return Ok(false);
        };
        self.tally.count("permits used with no hub in reach");
        self.trace(|| format!("m{index} uses its permit"));
        let at = now.best_utc(floor);
        self.observer.took_permit(index, &self.machines[index], permit, level, at, self.now)?;
        self.carry_out(index, effects)?;
        Ok(true)
    }

    // ── The agent ───────────────────────────────────────────────────────────────────────────────

    pub(crate) fn find(&mut self, index: usize, level: Level, rule: u64) -> Result<(), Violation> {
        let machine = &self.machines[index];
        if !machine.is_on || machine.agent.is_none() {
            return Ok(());
        }
        let finding = self.finding(index, level, rule);
        self.tally.count("findings");
        self.trace(|| format!("m{index} finds rule {rule} ({level})"));
        let is_alone = self.machines[index].link.is_none() || !self.machines[index].is_welcome;
        let is_called_for = is_alone && self.is_ready_to_defend(index, level);
        let machine = &mut self.machines[index];
        let report = Arrived::Finding(Box::new(finding.clone()), Vec::new());
        let Some(number) = machine.spool.push(report) else { return Ok(()) };
        let life = machine.life;
        self.after(Duration::from_millis(50), Event::SyncSpool { machine: index, life });
        let now = self.moment(index);
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
        // A permit that this agent holds since its start, not older than a second short of its time.
        let best = now.best_utc(helper.time_floor().max(permit.issued_at));
        best < permit.expires_at
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
        self.machines[index].documents.permit = None;
        self.use_permit(index, &permit, finding, level)?;
        Ok(())
    }

    pub(crate) fn agent_ticks(&mut self, index: usize, life: u64) -> Result<(), Violation> {
        if self.machines[index].life != life {
            return Ok(());
        }
        let now = self.moment(index);
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
                if machine.cut_off_until <= self.now && self.hub.core.is_some() {
                    self.connect(index);
                }
            }
            Some(_) if machine.is_welcome => {
                let now = self.moment(index);
                if let Some(helper) = &machine.helper {
                    let held = helper.current.as_ref();
                    let status = Status {
                        at_boot: now.at,
                        isolation: helper.isolation().max(held.map(|held| held.isolation)),
                        lease_ends: held.map(|held| held.lease.ends_at(&now)),
                        rules: 1,
                        events: 0,
                        lost: 0,
                    };
                    self.send_up(index, Up::Status(status));
                }
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
        self.send_up(index, Up::Hello(hello));
    }

    fn send_reports(&mut self, index: usize) {
        let machine = &self.machines[index];
        if machine.link.is_some() && machine.is_welcome {
            let batch = machine.spool.batch_after(0);
            if !batch.is_empty() {
                self.send_up(index, Up::Reports(batch));
            }
        }
    }

    fn send_up(&mut self, index: usize, message: Up) {
        let Some(link) = self.machines[index].link else { return };
        let is_cut_off = self.machines[index].cut_off_until > self.now;
        let lost = if self.is_calm { 0 } else { 60 };
        let (now, random) = (self.now, &mut self.random);
        match self.network.fate(link, Way::ToHub, now, is_cut_off, lost, random) {
            Fate::Arrives(when) => {
                if self.mishap(15) {
                    let again = when + self.random.millis(1, 3_000);
                    let message = Box::new(message.clone());
                    self.at(again, Event::ToHub { machine: index, link, message });
                }
                let message = Box::new(message);
                self.at(when, Event::ToHub { machine: index, link, message });
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
        let now = self.moment(index);
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
                        machine.keep_permit(permit, self.now);
                    }
                }
            }
            FromHub::Policy(envelope) => {
                if let Ok(policy) = envelope.open::<Policy>(&self.pinned) {
                    let machine = &mut self.machines[index];
                    let agent = machine.agent.as_mut();
                    if agent.is_some_and(|agent| agent.policy(policy.clone())) {
                        machine.documents.policy = Some(policy);
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
                    }
                }
            }
            FromHub::Welcome { .. } | FromHub::Acknowledged(_) | FromHub::Goodbye { .. } => {}
        }
        Ok(())
    }

    fn agent_ordered(&mut self, index: usize, envelope: &Envelope) -> Result<(), Violation> {
        let known = self.orders.get(&envelope.signature).filter(|o| o.envelope() == envelope);
        let mut opened = known.cloned().map_or_else(|| envelope.open::<Order>(&self.pinned), Ok);
        if opened.is_err() && self.sabotaged(Sabotage::AnyKey) {
            let thief = SigningKey::from_bytes(&[66; 32]);
            opened = envelope.open::<Order>(&thief.verifying_key());
        }
        let Ok(order) = opened else {
            self.tally.count("documents refused for their signature");
            return Ok(());
        };
        match self.helper_ordered(index, &order)? {
            None => {}
            Some(Ok(())) => self.send_up(index, Up::OrderTaken(order.id)),
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
        let now = self.moment(index);
        let machine = &mut self.machines[index];
        let mut agent = AgentCore::default();
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

    /// A hostile agent reports what it likes, of itself and of others.
    pub(crate) fn tell_a_lie(&mut self, index: usize) -> Result<(), Violation> {
        let Some(liar) = self.machines.iter().position(|machine| machine.lies) else {
            return Ok(());
        };
        let victim = if self.random.once_in(2) { index } else { liar };
        let victim_id = self.machines[victim].id;
        let measures = self.hub.core.iter().flat_map(|core| core.measures());
        let of_victim = measures.filter(|life| life.machine == victim_id).last().cloned();
        let Some(life) = of_victim else { return Ok(()) };
        let now = self.moment(liar);
        let state = match self.random.below(3) {
            0 => MeasureState::Verified,
            1 => MeasureState::Released,
            _ => MeasureState::SteppedDown,
        };
        // Of itself it may say that it is open only where the laws about it are not judged; a machine
        // that lies about its own state is out of what one hub can know without a peer's probe.
        if victim == liar && state != MeasureState::Verified {
            return Ok(());
        }
        let receipt = Receipt {
            machine: victim_id,
            measure: life.measure,
            origin: life.origin,
            isolation: Isolation::Full,
            state,
            proof: None,
            lease_ends: None,
            boot: now.boot,
            at_boot: now.at,
            at: UtcNanos::from_unix_nanos(0),
            sockets_cut: 0,
        };
        self.tally.count("lies told to the hub");
        let machine = &mut self.machines[liar];
        if machine.agent.is_some() {
            machine.spool.push(Arrived::Receipt(receipt));
            self.send_reports(liar);
        }
        Ok(())
    }
}

fn origin_of(helper: &HelperCore, measure: cordon_model::ids::MeasureId) -> Origin {
    use cordon_respond::helper_core::Next;
    let next = match &helper.next {
        Some(Next::Hold(next)) => Some(next),
        Some(Next::Free) | None => None,
    };
    let held = next.into_iter().chain(helper.current.as_ref()).find(|held| held.measure == measure);
    held.map_or(Origin::LeaseEnd(measure), |held| held.origin)
}
