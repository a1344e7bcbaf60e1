//! What production's hub does around its mind: one transaction, then messages.

use std::collections::BTreeMap;
use std::time::Duration;

use cordon_model::ids::MachineId;
use cordon_model::incident::IncidentState;
use cordon_model::laws::{self, Violation};
use cordon_model::measure::{MeasureState, Origin};
use cordon_model::policy::Policy;
use cordon_model::record::Deed;
use cordon_model::signed::{Verified, seal};
use cordon_model::wire::FromHub;
use cordon_respond::clock::{Moment, Randomness};
use cordon_respond::hub_core::{Change, HubCore, Output};
use cordon_respond::order::MeasureLife;

use crate::declined::Declined;
use crate::hub_astray::{self, without_acts};
use crate::hub_rows::Rows;
use crate::machine::Clock;
use crate::scenario::Sabotage;
use crate::unread::Unread;
use crate::world::{Event, World};

/// The hub's process and host.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) core: Option<HubCore>,
    pub(crate) rows: Rows,
    pub(crate) clock: Clock,
    pub(crate) policy: Policy,
    sealed_policy: Option<Verified<Policy>>,
    life: u64,
    /// When each machine was last heard, as the hub shows it.
    pub(crate) heard: BTreeMap<MachineId, Duration>,
    /// What people said no to.
    pub(crate) declined: Declined,
    /// What was found and nobody has dealt with.
    pub(crate) unread: Unread,
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
            heard: BTreeMap::new(),
            declined: Declined::default(),
            unread: Unread::default(),
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

    /// Up to which number a machine's reports are on its disk.
    pub(crate) fn taken_of(&self, machine: MachineId) -> u64 {
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

    pub(crate) fn hub_carries_out(
        &mut self,
        outputs: Vec<Output>,
        heard_from: Option<MachineId>,
    ) -> Result<(), Violation> {
        if self.mishap(400) {
            self.tally.count("hub crashes before it wrote");
            self.hub_dies();
            return Ok(());
        }
        self.hub.declined.goes_on();
        let mut serious = Vec::new();
        // What was in force until this message.
        let mut released = Vec::new();
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
                    let of = match &change {
                        Change::Measure(life) => Some(life.machine),
                        Change::Finding(received, _) => Some(received.machine),
                        Change::Machine(row) => Some(row.assignment.machine),
                        _ => None,
                    };
                    if let (Some(of), Some(from)) = (of, heard_from) {
                        laws::distrust(from, of, true)?;
                    }
                    if let Change::Measure(life) = &change
                        && life.state == MeasureState::Released
                    {
                        released.push(life.clone());
                    }
                    if let Change::Finding(received, incident) = &change {
                        serious.push((received.clone(), *incident));
                    }
                    self.take_note(&change)?;
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
            if !self.lies(received.machine) {
                self.judge_what_waits_on(received.machine)?;
                self.judge_what_is_asked(&received, incident, &released)?;
            }
        }
        Ok(())
    }

    fn hub_does(&mut self, output: Output) -> Result<(), Violation> {
        match output {
            Output::Keep(_) | Output::Record(_) => Ok(()),
            Output::Signer(message) => {
                if self.mishap(15) {
                    self.tally.count("messages to the signer repeated");
                    let again = self.random.millis(1, 3_000);
                    self.after(again, Event::ToSigner(Box::new(message.clone())));
                }
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

    pub(crate) fn hub_ticks(&mut self, life: u64) -> Result<(), Violation> {
        if self.hub.life != life {
            return Ok(());
        }
        self.after(Duration::from_secs(1), Event::HubTick { life });
        self.hub_step(|core, now, dice| core.tick(now, dice))?;
        self.judge_what_waits()?;
        self.judge_what_is_shown()
    }

    /// The power of the hub's machine goes, the signer's with it: its boot time begins anew, and its battery clock
    /// may say anything.
    pub(crate) fn hub_loses_power(&mut self) {
        self.tally.count("power cuts of the hub");
        self.hub_dies();
        self.signer_dies();
        self.hub.clock.reboot(self.now);
        if self.random.once_in(2) {
            self.hub_clock_jumps();
        }
    }

    /// The hub's clock is set by up to a day, one way or the other, or to what is right.
    pub(crate) fn hub_clock_jumps(&mut self) {
        self.tally.count("hub clocks set wrong by up to a day");
        let by = i64::try_from(self.random.below(172_800)).unwrap_or(0) - 86_400;
        self.hub.clock.wrong_by = if self.random.once_in(3) { 0 } else { by * 1_000_000_000 };
        self.trace(|| format!("the hub's clock is wrong by {by} s, or right"));
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
            if let Some(policy) = &self.hub.sealed_policy {
                let envelope = policy.envelope().clone();
                self.signer_writes_down(&envelope);
            }
        }
        let Some(policy) = self.hub.sealed_policy.clone() else { return Ok(()) };
        let rows = hub_astray::rows_at_a_start(self.options.sabotage, self.hub.rows.all());
        let astray = hub_astray::policy(self.options.sabotage, &policy, &self.key);
        let policy = astray.unwrap_or(policy);
        self.signer_writes_down(policy.envelope());
        let (core, outputs) = HubCore::restore(&policy, rows);
        // What people were to be told died with the hub: of what somebody has, that person reads in the incident.
        let owned = core.incidents().filter(|incident| incident.state == IncidentState::Owned);
        owned.for_each(|incident| self.hub.unread.seen_to_in(incident.id));
        self.hub.core = Some(core);
        let life = self.hub.life;
        self.after(Duration::from_secs(1), Event::HubTick { life });
        self.trace(|| "the hub is up".into());
        self.hub_carries_out(outputs, None)
    }
}
