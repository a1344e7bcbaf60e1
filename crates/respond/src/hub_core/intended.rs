//! How far a machine is isolated, or meant to be, as far as the hub knows.

use cordon_model::wire::CONDITIONS;

use super::*;

impl HubCore {
    /// How far a machine is isolated or meant to be, as far as the hub knows. What a person wishes and the signer has
    /// not signed counts only where it opens the machine: no finding is left to what is about to end, nor to what
    /// the signer may refuse, for nobody is asked again then.
    pub(super) fn intended(&self, id: MachineId) -> Option<Isolation> {
        self.unless_opened(id, self.intended_by(id, Self::may_be_left_to))
    }

    /// How far a machine is isolated or will be, whatever the signer makes of what it has not signed yet.
    pub(super) fn secured(&self, id: MachineId) -> Option<Isolation> {
        self.unless_opened(id, self.intended_by(id, |_| false))
    }

    /// How far a machine will be isolated once what people wish is signed, where that opens it.
    fn unless_opened(&self, id: MachineId, known: Option<Isolation>) -> Option<Isolation> {
        let wished = self.wishes_for(id).filter_map(|wish| match wish.instruction {
            Instruction::Release => Some(None),
            _ => wish.instruction.isolation().map(Some),
        });
        wished.min().map_or(known, |wished| known.min(wished))
    }

    /// What is proposed for a machine and the signer has not answered.
    pub(super) fn waiting_for(&self, id: MachineId) -> impl Iterator<Item = &Proposal> {
        let waiting = self.queues.get(&id).into_iter().flatten();
        waiting.filter_map(|proposal| self.proposals.get(proposal))
    }

    /// What people wish for a machine of themselves, and the signer has not answered.
    pub(super) fn wishes_for(&self, id: MachineId) -> impl Iterator<Item = &Proposal> {
        self.waiting_for(id).filter(|proposal| self.is_a_persons_wish(proposal))
    }

    /// How far a machine will be isolated if the signer signs what is not signed yet, but for people's own wishes.
    pub(super) fn proposed(&self, id: MachineId) -> Option<Isolation> {
        let counts = self.waiting_for(id).filter(|proposal| Self::may_be_left_to(proposal));
        counts.filter_map(|proposal| proposal.instruction.isolation()).max()
    }

    /// Whether the policy has proposed to isolate a machine for something in a story further than it is or surely will be,
    /// and the signer has not answered: of no more the signer only says that there is nothing to do, and nobody is asked.
    pub(super) fn is_proposed_in(&self, id: MachineId, incident: Option<IncidentId>) -> bool {
        let secured = self.secured(id);
        let mut waiting = self.waiting_for(id).filter(|proposal| proposal.incident == incident);
        waiting.any(|proposal| {
            Self::isolates_by_policy(proposal) && proposal.instruction.isolation() > secured
        })
    }

    /// Whether the policy proposes to isolate a machine, for one finding.
    pub(super) fn isolates_by_policy(proposal: &Proposal) -> bool {
        let isolation = proposal.instruction.isolation();
        matches!(proposal.basis, Basis::Policy { .. }) && isolation > Some(Isolation::Watch)
    }

    /// Whether the signer has not answered yet what people said yes to.
    pub(super) fn is_on_its_way(&self, question: &Approval) -> bool {
        self.waiting_for(question.machine).any(|proposal| {
            matches!(proposal.basis, Basis::People { approval, .. } if approval == Some(question.id))
        })
    }

    /// Whether a receipt shows that a measure is over which is younger than what its machine said last: so it is
    /// where a code opened the machine a moment ago.
    fn is_over_since(&self, id: MachineId, measure: MeasureId) -> bool {
        let Some(machine) = self.machines.get(&id) else { return false };
        let said = machine.status.as_ref().map(|status| status.at_boot);
        let life = self.measures.get(measure).filter(|life| life.state.is_over());
        let receipt = life.and_then(|life| life.receipt.as_ref());
        receipt.is_some_and(|receipt| {
            Some(&receipt.boot) == machine.boot.as_ref() && Some(receipt.at_boot) >= said
        })
    }

    /// Whether a finding may be left to what is not signed yet. Where the signer refuses what follows of people's yes, or
    /// of nobody's answer, only that question is asked again, in its own story.
    fn may_be_left_to(proposal: &Proposal) -> bool {
        matches!(proposal.basis, Basis::Policy { .. })
    }

    fn is_a_persons_wish(&self, proposal: &Proposal) -> bool {
        let Basis::People { approval, .. } = &proposal.basis else { return false };
        let question = approval.and_then(|approval| self.approvals.get(approval));
        question.is_none_or(|question| question.asked_by.is_some())
    }

    /// The same, of the proposals that the signer has not answered only those that count.
    pub(super) fn intended_by(
        &self,
        id: MachineId,
        counts: impl Fn(&Proposal) -> bool,
    ) -> Option<Isolation> {
        let proposed = self
            .waiting_for(id)
            .filter(|proposal| counts(proposal))
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
        // The same of a milder isolation that was signed last: what goes further still is about to end.
        let begun = last_order.and_then(|life| {
            let measure = self.measures.get(life.order.id.into())?;
            life.order.instruction.isolation().filter(|_| !measure.state.is_over())
        });
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
        // What it said last may be ahead of its receipts, which wait their turn.
        let status = self.machines.get(&id).and_then(|machine| machine.status.as_ref());
        let held = status.into_iter().flat_map(|status| status.holds.known());
        let held = held.filter(|holding| !is_undone(holding.measure));
        let held = held.filter(|holding| !self.is_over_since(id, holding.measure));
        let known = shown.max(held.filter_map(|holding| holding.isolation).max());
        if begun.is_some() { known.min(begun) } else { known }
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
            && self.intended_by(machine, |of| of.instruction.closes()) > Some(isolation)
    }
}
