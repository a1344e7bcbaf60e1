//! A machine that is struck off.

use super::*;

impl HubCore {
    /// A machine is struck off: nothing about it is asked or proposed any more, its link counts no more, and what
    /// was never sent to it never is. What is with the signer by now is signed, and dies then. To be said again
    /// after a restart.
    pub fn struck_off(&mut self, machine: MachineId) -> Vec<Output> {
        self.struck_off.insert(machine);
        if let Some(known) = self.machines.get_mut(&machine) {
            known.link = None;
        }
        let is_open = |open: &&Approval| open.state == ApprovalState::Open;
        let open: Vec<ApprovalId> =
            self.approvals.of(machine).filter(is_open).map(|open| open.id).collect();
        let why = "its machine was struck off";
        let mut outputs: Vec<Output> =
            open.into_iter().filter_map(|open| self.withdraw(open, why)).collect();
        let queue = self.queues.get_mut(&machine);
        let behind: Vec<OrderId> =
            queue.into_iter().flat_map(|queue| queue.drain(1.min(queue.len())..)).collect();
        for proposal in behind {
            self.proposals.remove(&proposal);
            outputs.push(Output::Keep(Change::Answered(proposal)));
        }
        let orders: Vec<OrderId> = self.orders.ids_of(machine).collect();
        for order in orders {
            if self.orders.get_mut(order).is_some_and(OrderLife::struck_off) {
                outputs.extend(self.order_died(order));
            }
        }
        outputs
    }
}
