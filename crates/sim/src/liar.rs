//! A machine whose agent is hostile: what it may say, it says.
//!
//! The one idea: it owns its own machine and its own key, so it may say anything of itself; of others it may
//! say nothing, and by no word may it gain what the laws keep from it, or keep the honest ones from being
//! heard. Its helper is genuine: whoever is root replaces that too, and then the machine is the attacker's.

use cordon_model::action::{Action, ActionKind};
use cordon_model::finding::Level;
use cordon_model::holds::{Holding, Holds};
use cordon_model::ids::{MeasureId, OrderId};
use cordon_model::laws::{self, Violation};
use cordon_model::limits;
use cordon_model::measure::{Isolation, MeasureState, Origin, Receipt};
use cordon_model::time::{BootNanos, UtcNanos};
use cordon_respond::delivery::MOST_WAITING;
use cordon_respond::grouping::{FINDINGS_PER_INCIDENT, OPEN_INCIDENTS};
use cordon_respond::hub_core::Arrived;

use crate::world::{Up, World};

/// Receipts of measures that nobody ordered, in one flood: more than a machine may show.
const FLOOD_OF_MEASURES: usize = limits::STANDING_PER_MACHINE + 30;

/// Findings in one flood: some messages full.
const FLOOD_OF_FINDINGS: usize = 5 * limits::FINDINGS_PER_MESSAGE;

impl World<'_> {
    /// A hostile agent reports what it likes, of itself and of others.
    pub(crate) fn tell_a_lie(&mut self, index: usize) -> Result<(), Violation> {
        let Some(liar) = self.machines.iter().position(|machine| machine.lies) else {
            return Ok(());
        };
        let machine = &self.machines[liar];
        if machine.agent.is_none() || !machine.is_on {
            return Ok(());
        }
        match self.random.below(12) {
            0 => self.flood_with_measures(liar),
            1 => self.flood_with_findings(liar)?,
            2 => self.send_an_old_receipt(liar),
            3 | 4 => self.speak_of_an_order(liar),
            _ => self.lie_about_a_measure(liar, index),
        }
        self.send_reports(liar);
        Ok(())
    }

    /// It says of a measure, its own or another machine's, what is not so.
    fn lie_about_a_measure(&mut self, liar: usize, index: usize) {
        let victim = if self.random.once_in(2) { index } else { liar };
        let victim_id = self.machines[victim].id;
        let measures = self.hub.core.iter().flat_map(|core| core.measures());
        let of_victim = measures.filter(|life| life.machine == victim_id).last().cloned();
        let Some(life) = of_victim else { return };
        let state = match self.random.below(3) {
            0 => MeasureState::Verified,
            1 => MeasureState::Released,
            _ => MeasureState::SteppedDown,
        };
        // Of itself it may say that it is open: what it gains by that is judged by the laws. Only what it
        // began by itself it says the truth of: whoever used a permit after a release frees a permit so.
        let is_by_order = matches!(life.origin, Origin::Order(_));
        if victim == liar && state != MeasureState::Verified && !is_by_order {
            return;
        }
        self.tally.count("lies told to the hub");
        let receipt = self.invented(liar, life.measure, life.origin, state);
        let action = life.action;
        self.report_receipt(liar, Receipt { machine: victim_id, action, ..receipt });
    }

    /// Measures that nobody ordered, more than a machine may hold; among them an opening by a code.
    fn flood_with_measures(&mut self, liar: usize) {
        self.tally.count("floods of measures");
        for number in 0..FLOOD_OF_MEASURES {
            let bytes = self.random.bytes();
            let mut id = [0; 10];
            id.copy_from_slice(&bytes[..10]);
            let measure = MeasureId::new(self.moment(liar).utc, id);
            let origin = match number {
                0 => Origin::BreakGlass { revision: 1, code: 1 },
                _ => Origin::LeaseEnd(measure),
            };
            let mut receipt = self.invented(liar, measure, origin, MeasureState::Applied);
            if number % 2 == 1 {
                receipt.action = self.any_act(liar);
            }
            self.report_receipt(liar, receipt);
        }
    }

    fn flood_with_findings(&mut self, liar: usize) -> Result<(), Violation> {
        self.tally.count("floods of findings");
        for number in 0..FLOOD_OF_FINDINGS {
            let level = if number % 8 == 0 { Level::Critical } else { Level::Low };
            let (rule, program) = (self.random.below(1_000), self.random.below(1_000));
            let finding = self.finding(liar, level, rule, program);
            self.machines[liar].spool.push(Arrived::Finding(Box::new(finding), Vec::new()));
        }
        laws::within(
            self.machines[liar].id,
            "reports that wait",
            self.machines[liar].spool.waiting().len(),
            MOST_WAITING,
        )
    }

    /// What it sealed once, under a new number.
    fn send_an_old_receipt(&mut self, liar: usize) {
        let Some(old) = self.random.one_of(&self.machines[liar].sealed).cloned() else { return };
        self.tally.count("old receipts sent again");
        self.machines[liar].spool.push(Arrived::Receipt(old));
    }

    /// It has, or refuses, an order: one of its own that it never took, or another machine's.
    fn speak_of_an_order(&mut self, liar: usize) {
        let orders: Vec<OrderId> =
            self.hub.core.iter().flat_map(|core| core.orders()).map(|life| life.order.id).collect();
        let Some(order) = self.random.one_of(&orders).copied() else { return };
        self.tally.count("words of orders that are not so");
        if self.random.once_in(2) {
            self.send_up(liar, Up::OrderTaken(order));
        } else {
            self.machines[liar].spool.push(Arrived::OrderRefused(order, "no".into()));
        }
    }

    /// What it says that it holds: nothing, or an isolation that nobody ordered.
    pub(crate) fn claimed_holdings(&mut self, index: usize) -> Holds {
        if self.random.once_in(2) {
            return Holds::NOTHING;
        }
        self.tally.count("isolations claimed that nobody ordered");
        let now = self.moment(index);
        let measure = MeasureId::new(now.utc, [self.random.bytes()[0]; 10]);
        let isolation = Some(Isolation::Full);
        let lease_ends = BootNanos(u64::MAX);
        Holds::Measures(vec![Holding { measure, kind: ActionKind::Isolate, isolation, lease_ends }])
    }

    fn invented(
        &self,
        liar: usize,
        measure: MeasureId,
        origin: Origin,
        state: MeasureState,
    ) -> Receipt {
        let now = self.moment(liar);
        Receipt {
            machine: self.machines[liar].id,
            measure,
            origin,
            action: Action::Isolate(Isolation::Full),
            state,
            proof: None,
            lease_ends: None,
            boot: now.boot,
            at_boot: now.at,
            at: UtcNanos::from_unix_nanos(0),
            sockets_cut: 0,
            done: Vec::new(),
            spared: Vec::new(),
        }
    }

    fn report_receipt(&mut self, liar: usize, receipt: Receipt) {
        let machine = &mut self.machines[liar];
        if receipt.machine == machine.id {
            // Its own key seals whatever it says of itself.
            machine.sealed.push(receipt.clone());
        }
        machine.spool.push(Arrived::Receipt(receipt));
    }

    /// Law 8, of what the hub keeps of a machine that floods it.
    pub(crate) fn judge_what_is_kept(&self, index: usize) -> Result<(), Violation> {
        let id = self.machines[index].id;
        let claimed = self.hub.claimed(id);
        laws::within(id, "measures that it claims", claimed, limits::STANDING_PER_MACHINE)?;
        let Some(core) = &self.hub.core else { return Ok(()) };
        let findings = core.incidents().map(|incident| incident.findings.len()).max();
        laws::within(id, "findings of an incident", findings.unwrap_or(0), FINDINGS_PER_INCIDENT)?;
        laws::within(id, "open incidents", core.incidents().count(), OPEN_INCIDENTS)
    }
}
