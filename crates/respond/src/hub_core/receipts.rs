//! Receipts: what a machine signed about a measure, and what follows from it.

use cordon_model::action::Action;
use cordon_model::limits;

use super::*;

impl HubCore {
    pub(super) fn receipt(
        &mut self,
        id: MachineId,
        number: u64,
        receipt: Receipt,
        now: &Moment,
        randomness: Randomness<'_>,
    ) -> Vec<Output> {
        if receipt.machine != id {
            let what = "it sent a receipt in another machine's name; refused";
            return vec![self.refuse(id, what, now)];
        }
        if self.is_of_a_release(&receipt) {
            // No measure of its own: the word by which the signer takes the machine for free.
            let detail = "release: carried out, and nothing is in force".to_owned();
            let (deed, incident) =
                (Deed::MeasureChanged(receipt.measure), self.incident_of(id, receipt.origin));
            let said = self.record(Actor::Agent(id), deed, Some(id), incident, detail, now);
            return vec![said, Output::Signer(ForSigner::Learn(receipt))];
        }
        let has_room = receipt.state.is_over() || self.has_room_for_a_measure(id);
        let is_news = match self.measures.get_mut(receipt.measure) {
            Some(life) if life.machine != id => {
                let what = "it sent a receipt of another machine's measure; refused";
                return vec![self.refuse(id, what, now)];
            }
            Some(life) => life.take(number, &receipt),
            None if !has_room => {
                let what = "it reports more measures than a machine may hold; refused";
                return vec![self.refuse(id, what, now)];
            }
            // By an order that this hub never had: either a lie, or an order of before a loss of data.
            // Shown all the same: a machine that says it is cut off must not look open.
            None => {
                let follows_itself = match receipt.origin {
                    Origin::LeaseEnd(of) => {
                        self.measures.get(of).is_some_and(|before| before.is_by_itself)
                    }
                    _ => false,
                };
                let life = MeasureLife::reported(number, receipt.clone(), follows_itself);
                self.measures.put(life);
                true
            }
        };
        if !is_news {
            return Vec::new();
        }
        // What was said before it no longer counts.
        if let Some(machine) = self.machines.get_mut(&id) {
            machine.said.remove(&receipt.measure);
        }
        let mut outputs = Vec::new();
        let shown = self.measures.get(receipt.measure).map(|life| life.state.clone());
        if let Some(life) = self.measures.get(receipt.measure) {
            outputs.push(Output::Keep(Change::Measure(life.clone())));
        }
        let shown = shown.unwrap_or_else(|| receipt.state.clone());
        let incident = self.incident_of(id, receipt.origin);
        if matches!(shown, MeasureState::Verified | MeasureState::Done)
            && let Origin::Order(order) = receipt.origin
            && let Some(order) = self.orders.get(order).map(|life| life.order.clone())
            && !self.is_to_end(&order)
        {
            outputs.extend(self.answered_by(&order, now, randomness));
        }
        if let Origin::BreakGlass { revision, code } = receipt.origin
            && receipt.state == MeasureState::Verified
            && self.told_open.insert(receipt.measure)
        {
            let deed = Deed::OpenedByCode { revision, code };
            let detail = format!("by code number {code}, typed at the machine");
            outputs.push(self.record(Actor::Agent(id), deed, Some(id), incident, detail, now));
            outputs.push(Output::Tell(Notice::OpenedByCode { machine: id, code, at: receipt.at }));
        }
        let detail = state_in_words(&receipt.action, &shown);
        let deed = Deed::MeasureChanged(receipt.measure);
        outputs.push(self.record(Actor::Agent(id), deed, Some(id), incident, detail, now));
        if let MeasureState::Failed { why } | MeasureState::Unproven { why } = shown {
            let measure = receipt.measure;
            outputs.push(Output::Tell(Notice::NotInForce { machine: id, measure, why }));
        }
        outputs.extend(self.ask_about_spared(&receipt, now, randomness));
        let is_over = receipt.state.is_over();
        outputs.push(Output::Signer(ForSigner::Learn(receipt)));
        if is_over {
            self.forget_closed_measures(id);
        }
        outputs
    }

    /// Whether what an order began is to end already: what was found since people took it back, or wished to, is asked,
    /// and is not answered by what is in force for a moment still.
    fn is_to_end(&self, order: &Order) -> bool {
        let ends = |later: &Instruction| match later {
            Instruction::Release => order.instruction.isolation().is_some(),
            Instruction::Undo { measure } => *measure == order.id.into(),
            // A milder isolation takes its place.
            Instruction::Begin { .. } => {
                let milder = later.isolation();
                milder.is_some() && milder < order.instruction.isolation()
            }
            Instruction::Renew { .. } => false,
        };
        let mut orders = self.orders.of(order.machine).filter(|life| !life.is_dead());
        orders.any(|life| life.order.sequence > order.sequence && ends(&life.order.instruction))
            || self.wishes_for(order.machine).any(|wish| ends(&wish.instruction))
    }

    fn is_of_a_release(&self, receipt: &Receipt) -> bool {
        let Origin::Order(order) = receipt.origin else { return false };
        let known = self.orders.get(order).filter(|life| life.order.machine == receipt.machine);
        receipt.measure == order.into()
            && receipt.state == MeasureState::Released
            && known.is_some_and(|life| life.order.instruction == Instruction::Release)
    }

    fn has_room_for_a_measure(&self, id: MachineId) -> bool {
        let standing = self.measures.of(id).filter(|life| !life.state.is_over());
        standing.count() < limits::STANDING_PER_MACHINE
    }

    /// The story that a measure belongs to, if that is known.
    pub(super) fn incident_of(&self, id: MachineId, origin: Origin) -> Option<IncidentId> {
        match origin {
            Origin::Order(order) => self.orders.get(order).and_then(|life| life.order.incident),
            Origin::BreakGlass { .. } => self.grouping.of_machine(id),
            Origin::Permit { .. } | Origin::LeaseEnd(_) => None,
        }
    }

    /// Lets go of what was closed the longest ago. A machine numbers what it reports; the ids that it makes may be of any
    /// time, where its clock is wrong.
    pub(super) fn forget_closed_measures(&mut self, id: MachineId) {
        let closed = self.measures.of(id).filter(|life| life.state.is_over());
        let mut closed: Vec<_> = closed.map(|life| (life.reported_as(), life.measure)).collect();
        closed.sort_unstable();
        for (_, old) in closed.iter().rev().skip(CLOSED_PER_MACHINE) {
            self.measures.remove(*old);
            self.told_open.remove(old);
        }
    }
}

fn state_in_words(action: &Action, state: &MeasureState) -> String {
    let state = match state {
        MeasureState::Requested => "requested".to_owned(),
        MeasureState::Delivered => "delivered".to_owned(),
        MeasureState::Applied => "applied, not yet proven".to_owned(),
        MeasureState::Verified => "in force: read back and probed".to_owned(),
        MeasureState::Unproven { why } => format!("unproven: {why}"),
        MeasureState::SteppedDown => "its lease ended; it stepped down".to_owned(),
        MeasureState::Superseded => "another took its place".to_owned(),
        MeasureState::Released => "released".to_owned(),
        MeasureState::Done => "done".to_owned(),
        MeasureState::Failed { why } => format!("failed: {why}"),
    };
    format!("{action}: {state}")
}
