//! The hub's links: what goes down to machines, and what it hears of them and of its signer.
//!
//! What is judged here is what a message may do: what was taken is kept, what comes again is worth nothing, and a part
//! that is refused stops nothing after it.

use std::time::Duration;

use cordon_model::ids::{MachineId, OrderId};
use cordon_model::laws::{self, Violation};
use cordon_model::order::Order;
use cordon_model::signed::Verified;
use cordon_model::wire::FromHub;
use cordon_respond::hub_core::{Arrived, Change, Output};
use cordon_respond::signer_core::{Basis, Refusal};

use crate::hub_astray::{Gullible, all_measures, believe_hosts, is_bad};
use crate::network::{Fate, Place, Way};
use crate::scenario::Sabotage;
use crate::world::{Event, Up, World};

impl World<'_> {
    pub(crate) fn send_down(&mut self, id: MachineId, link: u64, message: FromHub) {
        let Some(machine) = self.index.get(&id).copied() else { return };
        let is_cut_off = self.machines[machine].cut_off_until > self.now;
        let lost = if self.is_calm { 0 } else { 60 };
        if matches!(message, FromHub::Order(_)) && self.mishap(4) {
            // Recorded by somebody, and replayed much later.
            self.tally.count("orders repeated by the network");
            let again = self.random.millis(1, 60_000);
            let message = message.clone();
            let (place, message) = (Place::default(), Box::new(message));
            self.after(again, Event::ToAgent { machine, place, message });
        }
        let (now, random) = (self.now, &mut self.random);
        match self.network.fate(link, Way::ToAgent, now, is_cut_off, lost, random) {
            Fate::Arrives(when, place) => {
                let message = Box::new(message);
                if self.mishap(15) {
                    self.tally.count("messages to agents repeated");
                    let again = when + self.random.millis(1, 3_000);
                    self.at(again, Event::ToAgent { machine, place, message: message.clone() });
                }
                self.at(when, Event::ToAgent { machine, place, message })
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
        let twice = self.sabotaged(Sabotage::TakesTwice);
        let believes_hosts = self.sabotaged(Sabotage::BelievesHosts);
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
                let is_again = reports.last().is_some_and(|(last, _)| *last <= before);
                if is_again && twice {
                    let numbers = before + 1..;
                    reports.iter_mut().zip(numbers).for_each(|(report, number)| report.0 = number);
                }
                let mut came = core.arrived(id, link, reports, &now, &mut || dice.bytes());
                laws::once(id, "reports", !is_again || !came.iter().any(is_news))?;
                if believes_hosts {
                    believe_hosts(&mut came, self.index.keys());
                }
                outputs.extend(came);
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
        let Some(asked) = asked.filter(|_| is_refused && self.hub.core.is_some()) else {
            return Ok(());
        };
        if matches!(asked.basis, Basis::Policy { .. }) && !self.lies(asked.machine) {
            self.tally.count("refusals that people were to hear of");
        }
        // What nothing is signed for is somebody's all the same.
        self.judge_what_waits_on(asked.machine)
    }
}

/// Whether something is kept or recorded, besides that the machine was heard.
fn is_news(output: &Output) -> bool {
    match output {
        Output::Keep(change) => !matches!(change, Change::Machine(_)),
        Output::Record(_) | Output::Tell(_) => true,
        Output::Send(..) | Output::Signer(_) => false,
    }
}
