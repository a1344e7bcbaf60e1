//! The run itself: virtual time, what is to happen when, and what goes wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use cordon_model::event::RawEvent;
use cordon_model::finding::{Finding, Level, ProcessRef, RuleRef};
use cordon_model::ids::{ApprovalId, FindingId, MachineId, OrderId};
use cordon_model::laws::{Law, Violation};
use cordon_model::order::{Order, Permit};
use cordon_model::signed::Verified;
use cordon_model::time::BootNanos;
use cordon_model::wire::{FromHub, Hello, Status};
use cordon_respond::agent_core::AgentCore;
use cordon_respond::delivery::Spool;
use cordon_respond::helper_core::{Floor, HelperCore};
use cordon_respond::hub_core::{Arrived, ForSigner};
use cordon_respond::signer_core::Refusal;
use ed25519_dalek::{SigningKey, VerifyingKey};

use crate::hub_shell::Hub;
use crate::machine::{Clock, Documents, Machine, Recorded};
use crate::network::{Network, Place, Way};
use crate::observer::Observer;
use crate::random::Random;
use crate::scenario::{self, Sabotage, Scenario};
use crate::signer_shell::Signer;
use crate::wrong_rule::Notes;
use crate::{Failure, Options, Summary};

/// What happened, in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct Tally {
    counts: BTreeMap<&'static str, u64>,
}

impl Tally {
    pub(crate) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (what, count) in &other.counts {
            *self.counts.entry(what).or_default() += count;
        }
    }

    /// How often this happened.
    #[must_use]
    pub fn of(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.counts.iter().try_for_each(|(what, count)| writeln!(f, "{count:>12}  {what}"))
    }
}

/// What an agent sends.
#[derive(Debug, Clone)]
pub(crate) enum Up {
    Hello(Hello),
    Reports(Vec<(u64, Arrived)>),
    OrderTaken(OrderId),
    Status(Status),
}

/// What is to happen.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Finding { machine: usize, level: Level, rule: u64, program: u64 },
    CutOff { machine: usize, until: Duration },
    UndoAll,
    HubStolen,
    Theft,
    HelperWake { machine: usize, life: u64 },
    HelperStart { machine: usize, life: u64 },
    AgentStart { machine: usize, life: u64 },
    AgentWake { machine: usize, life: u64 },
    AgentTick { machine: usize, life: u64 },
    PowerOn { machine: usize },
    SyncSpool { machine: usize, life: u64 },
    ToHub { machine: usize, place: Place, message: Box<Up> },
    ToAgent { machine: usize, place: Place, message: Box<FromHub> },
    LinkLostAtAgent { machine: usize, link: u64 },
    LinkLostAtHub { machine: usize, link: u64 },
    HubStart,
    HubTick { life: u64 },
    SignerStart,
    SignerRound { life: u64 },
    ToSigner(Box<ForSigner>),
    FromSigner { proposal: OrderId, answer: Box<Result<Verified<Order>, Refusal>> },
    Answer { approval: ApprovalId, person: usize },
    Trouble,
}

pub(crate) struct World<'o> {
    pub(crate) options: &'o Options,
    pub(crate) random: Random,
    pub(crate) now: Duration,
    queue: BTreeMap<(Duration, u64), Event>,
    queued: u64,
    pub(crate) key: SigningKey,
    pub(crate) pinned: VerifyingKey,
    /// Documents by their signatures, checked once: the same bytes under the same key give the same
    /// answer, and checking is most of what a run costs.
    pub(crate) orders: BTreeMap<[u8; 64], Verified<Order>>,
    pub(crate) permits: BTreeMap<[u8; 64], Verified<Permit>>,
    pub(crate) machines: Vec<Machine>,
    pub(crate) index: BTreeMap<MachineId, usize>,
    pub(crate) hub: Hub,
    pub(crate) signer: Signer,
    pub(crate) network: Network,
    pub(crate) observer: Observer,
    pub(crate) tally: Tally,
    pub(crate) notes: Notes,
    pub(crate) is_calm: bool,
    /// A thief stands in the place of the hub's mind.
    pub(crate) is_stolen: bool,
    /// One that has in people's names only releases signed, and keeps them to itself: to free places while
    /// their machines stay cut off.
    pub(crate) is_patient: bool,
    /// Questions that the thief told the signer of.
    pub(crate) invented: Vec<ApprovalId>,
    is_traced: bool,
    trace: Vec<String>,
}

/// Steps shown before a failure.
const TRACED: usize = 60;

/// Who answers questions.
pub(crate) const PEOPLE: &[(&str, bool)] =
    &[("ann", false), ("bob", false), ("dr cole", true), ("dr day", true)];

/// Runs one seed.
pub(crate) fn run(options: &Options, seed: u64, is_traced: bool) -> Result<Summary, Box<Failure>> {
    let mut world = World::build(options, seed, is_traced);
    match world.play() {
        Ok(()) => {
            let is_of_a_rule = options.scenario == Scenario::WrongRule;
            let wrong_rule = is_of_a_rule.then(|| world.wrong_rule(seed));
            Ok(Summary { seeds: 1, tally: world.tally, simulated: world.now, wrong_rule })
        }
        Err(violation) => Err(Box::new(Failure {
            seed,
            scenario: options.scenario,
            machines: options.machines,
            at: world.now,
            violation,
            trace: world.trace,
        })),
    }
}

impl World<'_> {
    pub(crate) fn sabotaged(&self, control: Sabotage) -> bool {
        self.options.sabotage == Some(control)
    }

    /// Something goes wrong once in `many` times, unless it is calm.
    pub(crate) fn mishap(&mut self, many: u64) -> bool {
        !self.is_calm && self.options.scenario != Scenario::WrongRule && self.random.once_in(many)
    }

    pub(crate) fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    pub(crate) fn at(&mut self, when: Duration, event: Event) {
        self.queued += 1;
        self.queue.insert((when, self.queued), event);
    }

    pub(crate) fn trace(&mut self, line: impl FnOnce() -> String) {
        if self.is_traced {
            if self.options.trace {
                // A replay that was asked for shows everything.
                self.trace.push(format!("{:>9.3}  {}", self.now.as_secs_f64(), line()));
                return;
            }
            if self.trace.len() >= TRACED {
                self.trace.remove(0);
            }
            self.trace.push(format!("{:>9.3}  {}", self.now.as_secs_f64(), line()));
        }
    }

    fn play(&mut self) -> Result<(), Violation> {
        self.begin()?;
        let trouble = self.options.scenario.trouble();
        let end = trouble + self.options.scenario.calm();
        while let Some(((when, _), event)) = self.queue.pop_first() {
            if when > end {
                break;
            }
            self.now = when;
            if !self.is_calm && when >= trouble {
                self.is_calm = true;
                for machine in &mut self.machines {
                    machine.cut_off_until = Duration::ZERO;
                }
            }
            self.step(event)?;
        }
        self.now = end;
        self.judge_the_end()
    }

    fn note_the_order(&mut self, machine: usize, way: Way, place: Place) {
        if let Some(how) = self.network.heard(machine, way, place) {
            self.tally.count(how);
        }
    }

    fn step(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Finding { machine, level, rule, program } => {
                self.find(machine, level, rule, program)
            }
            Event::CutOff { machine, until } => {
                self.cut_off(machine, until);
                Ok(())
            }
            Event::UndoAll => self.undo_all(),
            Event::HubStolen => self.hub_is_stolen(),
            Event::Theft => self.theft(),
            Event::HelperWake { machine, life } => self.helper_wakes(machine, life),
            Event::HelperStart { machine, life } => self.helper_starts(machine, life),
            Event::AgentStart { machine, life } => self.agent_starts(machine, life),
            Event::AgentWake { machine, life } => self.agent_wakes(machine, life),
            Event::AgentTick { machine, life } => self.agent_ticks(machine, life),
            Event::PowerOn { machine } => self.power_on(machine),
            Event::SyncSpool { machine, life } => {
                if self.machines[machine].life == life {
                    let machine = &mut self.machines[machine];
                    machine.spool_synced = machine.spool.next_number();
                }
                Ok(())
            }
            Event::ToHub { machine, place, message } => {
                if self.hub.core.is_some() || self.is_stolen {
                    self.note_the_order(machine, Way::ToHub, place);
                }
                self.hub_hears(machine, place.link, *message)
            }
            Event::ToAgent { machine, place, message } => {
                if self.machines[machine].agent.is_some() {
                    self.note_the_order(machine, Way::ToAgent, place);
                }
                self.agent_hears(machine, place.link, *message)
            }
            Event::LinkLostAtAgent { machine, link } => self.link_lost_at_agent(machine, link),
            Event::LinkLostAtHub { machine, link } => {
                let id = self.machines[machine].id;
                if let Some(core) = &mut self.hub.core {
                    core.unlinked(id, link);
                }
                Ok(())
            }
            Event::HubStart => self.hub_starts(),
            Event::HubTick { life } => self.hub_ticks(life),
            Event::SignerStart => {
                self.signer_starts();
                Ok(())
            }
            Event::SignerRound { life } => self.signer_round(life),
            Event::ToSigner(message) => self.signer_hears(*message),
            Event::FromSigner { proposal, answer } => self.hub_hears_signer(proposal, *answer),
            Event::Answer { approval, person } => self.person_answers(approval, person),
            Event::Trouble => self.trouble(),
        }
    }
}

impl<'o> World<'o> {
    fn build(options: &'o Options, seed: u64, is_traced: bool) -> Self {
        let mut random = Random::of(seed);
        let key = SigningKey::from_bytes(&[7; 32]);
        let pinned = key.verifying_key();
        #[expect(clippy::expect_used, reason = "a constant code that is tested")]
        let organisation = scenario::organisation().expect("a valid ODS code");
        let policy = scenario::policy(options.scenario, organisation.clone(), &mut random);
        let mut observer = Observer::new(policy.clone());
        let count = options.machines.unwrap_or_else(|| options.scenario.machines());
        let mut machines = Vec::with_capacity(count);
        let liar = random.once_in(2).then(|| random.below(count as u64));
        for index in 0..count {
            let id = scenario::machine_id(index);
            let clock = Clock::new(format!("m{index}"));
            let assignment = scenario::assignment(options.scenario, index, organisation.clone(), 0);
            observer.add(assignment.tier, assignment.kind, assignment.group.unwrap_or_default());
            let helper = HelperCore::new(organisation.clone(), id, &clock.read(Duration::ZERO));
            machines.push(Machine {
                id,
                clock,
                is_on: true,
                kernel: None,
                acts: BTreeMap::new(),
                did: BTreeSet::new(),
                ended: BTreeSet::new(),
                helper: Some(helper.clone()),
                helper_disk: Some(helper),
                floor: Floor::default(),
                said_at: None,
                sealed: Vec::new(),
                agent: Some(AgentCore::new(organisation.clone(), id)),
                documents: Documents::default(),
                recorded: Recorded::default(),
                spool: Spool::default(),
                spool_synced: 0,
                life: 0,
                helper_life: 0,
                wakes_at: Duration::ZERO,
                agent_life: 0,
                link: None,
                is_welcome: false,
                cut_off_until: Duration::ZERO,
                lies: options.scenario != Scenario::WrongRule && liar == Some(index as u64),
                findings: 0,
            });
        }
        let hub_clock = Clock::new("hub".into());
        let signer = Signer::new(&policy, &hub_clock.read(Duration::ZERO), options.sabotage);
        Self {
            options,
            random,
            now: Duration::ZERO,
            queue: BTreeMap::new(),
            queued: 0,
            key,
            pinned,
            orders: BTreeMap::new(),
            permits: BTreeMap::new(),
            index: machines.iter().enumerate().map(|(index, m)| (m.id, index)).collect(),
            machines,
            hub: Hub::new(hub_clock, policy),
            signer,
            network: Network::default(),
            observer,
            tally: Tally::default(),
            notes: Notes::default(),
            is_calm: false,
            is_stolen: false,
            is_patient: false,
            invented: Vec::new(),
            is_traced,
            trace: Vec::new(),
        }
    }

    fn begin(&mut self) -> Result<(), Violation> {
        // Enrolment is over before anything goes wrong: whoever enrols a machine sees that it worked.
        self.is_calm = true;
        self.hub_starts()?;
        for index in 0..self.machines.len() {
            self.assign(index, 0)?;
            self.yesterdays_permit(index);
            let start = self.random.millis(0, 3_000);
            self.after(start, Event::AgentWake { machine: index, life: 0 });
            self.plan_wake(index, start);
        }
        self.is_calm = false;
        self.after(Duration::from_millis(100), Event::SignerRound { life: 0 });
        match self.options.scenario {
            Scenario::Everything => self.after(Duration::from_secs(2), Event::Trouble),
            Scenario::WrongRule => self.let_the_wrong_rule_loose(),
            Scenario::StolenHub => {
                self.after(Duration::from_secs(2), Event::Trouble);
                let when = self.random.millis(5_000, 60_000);
                self.after(when, Event::HubStolen);
            }
        }
        Ok(())
    }

    pub(crate) fn finding(
        &mut self,
        machine: usize,
        level: Level,
        rule: u64,
        program: u64,
    ) -> Finding {
        let rule_id = format!("rule-{rule}");
        let machine = &mut self.machines[machine];
        machine.findings += 1;
        let mut raw_sha256 = [0; 32];
        raw_sha256[..8].copy_from_slice(&machine.findings.to_be_bytes());
        let host = machine.id.to_string();
        let pid = machine.process_of(program);
        let moment = machine.clock.read(self.now);
        Finding {
            id: FindingId::of(&rule_id, &host, &raw_sha256),
            rule: RuleRef { id: rule_id, title: format!("rule {rule}"), level, tags: Vec::new() },
            host,
            time: moment.utc,
            boot_time: Some(moment.at),
            process: Some(ProcessRef {
                pid,
                started: BootNanos(0),
                image: format!("/tmp/program-{program}"),
            }),
            matched: Vec::new(),
            raw: RawEvent { json: "{}".into(), is_cut: false },
            raw_sha256,
        }
    }

    fn judge_the_end(&mut self) -> Result<(), Violation> {
        if self.options.scenario == Scenario::WrongRule {
            self.judge_the_undoing()?;
        }
        if self.is_stolen {
            // What the hub has is the thief's, and no report is anywhere else.
            return Ok(());
        }
        let of_hub = self.hub_moment().utc;
        // After a minute of calm nothing waits: every report is with the hub, every order with its machine.
        for (index, machine) in self.machines.iter().enumerate() {
            if machine.lies {
                continue;
            }
            let now = machine.clock.read(self.now).at;
            let waits = |report: &Arrived| match report {
                // One that was written a moment ago is on its way.
                Arrived::Receipt(receipt) => now.since(receipt.at_boot) > Duration::from_secs(5),
                Arrived::OrderRefused(order, ..) => {
                    of_hub.since(order.made_at()) > Duration::from_secs(5)
                }
                Arrived::Finding(..) | Arrived::Gap(_) => true,
            };
            let waiting =
                machine.spool.waiting().iter().filter(|(_, report)| waits(report)).count();
            if waiting > 0 {
                let how = format!(
                    "m{index} still has {waiting} reports that the hub has not taken (link {:?}, \
                     welcome {}, on {})",
                    machine.link, machine.is_welcome, machine.is_on
                );
                return Err(Violation { law: Law::NothingLost, how });
            }
            let is_settled = machine.is_on
                && machine.is_welcome
                && !machine.spool.waiting().iter().any(|(_, r)| matches!(r, Arrived::Receipt(_)));
            let shown = self.hub.core.iter().flat_map(|core| core.measures());
            for life in shown.filter(|life| is_settled && life.machine == machine.id) {
                self.observer.shown(machine, life)?;
            }
            // One that was signed a moment ago is on its way, too.
            let is_late = |order: &Order| of_hub.since(order.issued_at) > Duration::from_secs(5);
            let mut orders = self.hub.core.iter().flat_map(|core| core.orders());
            if let Some(life) =
                orders.find(|o| o.order.machine == machine.id && o.is_open() && is_late(&o.order))
            {
                let how = format!("order {} never reached m{index}", life.order.id);
                return Err(Violation { law: Law::NothingLost, how });
            }
        }
        Ok(())
    }
}
