//! How far a machine is isolated, or meant to be, as far as the hub knows.

use cordon_model::wire::CONDITIONS;

use super::*;

impl HubCore {
    /// How far a machine is isolated or meant to be, as far as the hub knows.
    pub(super) fn intended(&self, id: MachineId) -> Option<Isolation> {
        self.intended_by(id, |_| true)
    }

    /// The same, of the proposals that the signer has not answered only those that count.
    pub(super) fn intended_by(
        &self,
        id: MachineId,
        counts: impl Fn(&Instruction) -> bool,
    ) -> Option<Isolation> {
        let waiting = self.queues.get(&id).into_iter().flatten();
        let proposed = waiting
            .filter_map(|proposal| self.proposals.get(proposal))
            .filter(|proposal| counts(&proposal.instruction))
            .filter_map(|proposal| proposal.instruction.isolation())
            .max();
        if proposed.is_some() {
            return proposed;
        }
        // After a release was signed nothing counts until a new isolation is: what is in force still is
        // about to end, and a finding that comes meanwhile must not be taken for answered.
        let last_order = self
            .orders
            .of(id)
            .filter(|life| life.is_of_isolation() && !life.is_dead())
            .max_by_key(|life| life.order.sequence);
        if last_order.is_some_and(|life| life.order.instruction == Instruction::Release) {
            return None;
        }
        let is_undone = |measure: MeasureId| {
            let mut orders = self.orders.of(id).filter(|life| !life.is_dead());
            orders.any(|life| life.order.instruction == Instruction::Undo { measure })
        };
        let shown = self
            .measures
            .of(id)
            .filter(|life| life.may_be_counted_on())
            .filter(|life| !is_undone(life.measure))
            .filter_map(|life| life.action.isolation())
            .max();
        // What it says now may be ahead of its receipts, which wait their turn.
        let status = self.machines.get(&id).and_then(|machine| machine.status.as_ref());
        let held = status.into_iter().flat_map(|status| status.holds.known());
        let held = held.filter(|holding| !is_undone(holding.measure));
        shown.max(held.filter_map(|holding| holding.isolation).max())
    }

    /// Whether an isolation would only open what a stricter one cuts: that is shown to be in force, or was sent
    /// to the machine and may be; nobody has ordered it to end, and the machine knows of orders with a condition.
    #[must_use]
    pub fn would_only_open(&self, machine: MachineId, isolation: Isolation) -> bool {
        let knows = |known: &Machine| known.row.version >= CONDITIONS;
        // Its receipt may be lost or late, and the machine opened by a code since.
        let is_sent = |life: &MeasureLife| {
            let order = match life.origin {
                Origin::Order(order) => self.orders.get(order),
                _ => None,
            };
            order.is_some_and(|of| matches!(of.delivery, Delivery::Sent | Delivery::Taken))
        };
        let shown = self
            .measures
            .of(machine)
            .filter(|life| life.state.is_acting() || is_sent(life))
            .filter(|life| life.may_be_counted_on() && !life.is_let_go());
        self.machines.get(&machine).is_some_and(knows)
            && shown.filter_map(|life| life.action.isolation()).max() > Some(isolation)
            // What was ordered since, and is on its way, is not closed by halves; but what only opens closes
            // nothing.
            && self.intended_by(machine, Instruction::closes) > Some(isolation)
    }
}
