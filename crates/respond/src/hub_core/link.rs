//! A machine's link: up, what it says over it, and down.

use super::*;

impl HubCore {
    /// A machine's link is up. `link` counts up; messages that come with an older one are ignored.
    pub fn linked(&mut self, id: MachineId, link: u64, hello: &Hello, now: &Moment) -> Vec<Output> {
        if self.struck_off.contains(&id) {
            return Vec::new();
        }
        let Some(machine) = self.machines.get_mut(&id) else { return Vec::new() };
        if machine.link.is_some_and(|present| present >= link) {
            return Vec::new();
        }
        machine.link = Some(link);
        machine.boot = Some(hello.boot.clone());
        machine.status = None;
        machine.said.clear();
        let version = hello.version.min(cordon_model::wire::VERSION);
        let is_other_version = std::mem::replace(&mut machine.row.version, version) != version;
        let mut messages = vec![
            FromHub::Welcome { version, now: now.utc },
            FromHub::Acknowledged(machine.row.inbox.highest),
        ];
        if hello.assignment < machine.row.assignment.revision {
            messages.push(FromHub::Assignment(machine.row.assignment_envelope.clone()));
        }
        if hello.policy < self.policy.revision {
            messages.push(FromHub::Policy(self.policy_envelope.clone()));
        }
        messages.extend(machine.row.permit.clone().map(FromHub::Permit));
        let mut outputs: Vec<Output> =
            messages.into_iter().map(|message| Output::Send(id, link, message)).collect();
        if is_other_version {
            outputs.extend(self.keep_machine(id));
        }
        // Before anything is delivered: what waits for it is judged by what it says now.
        outputs.extend(self.says_of_its_way(id, &hello.coverage, now));
        let orders: Vec<OrderId> = self.orders.ids_of(id).collect();
        for order in orders {
            if let Some(life) = self.orders.get_mut(order) {
                life.last_sent = None;
            }
        }
        outputs.extend(self.deliver(id, now));
        outputs
    }

    /// What a machine can see and do has changed since its hello. What came over a link that another has
    /// replaced is the older word, whenever it arrives.
    pub fn covered(
        &mut self,
        id: MachineId,
        link: u64,
        coverage: &[Coverage],
        now: &Moment,
    ) -> Vec<Output> {
        if !self.is_present(id, link) {
            return Vec::new();
        }
        self.says_of_its_way(id, coverage, now)
    }

    /// A machine's link is down.
    pub fn unlinked(&mut self, id: MachineId, link: u64) {
        if let Some(machine) = self.machines.get_mut(&id)
            && machine.link == Some(link)
        {
            machine.link = None;
        }
    }

    /// Reports of a machine, in order of number. Answered with what is taken, also where there are none.
    pub fn arrived(
        &mut self,
        id: MachineId,
        link: u64,
        reports: Vec<(u64, Arrived)>,
        now: &Moment,
        randomness: Randomness<'_>,
    ) -> Vec<Output> {
        if !self.is_present(id, link) {
            return Vec::new();
        }
        let mut outputs = Vec::new();
        let is_news = !reports.is_empty();
        for (number, report) in reports {
            let Some(machine) = self.machines.get_mut(&id) else { break };
            if !machine.row.inbox.take(number) {
                continue;
            }
            outputs.extend(match report {
                Arrived::Finding(finding, touched) => {
                    self.found(id, *finding, &touched, now, randomness)
                }
                Arrived::Receipt(receipt) => self.receipt(id, number, receipt, now, randomness),
                Arrived::OrderRefused(order, why) => self.order_refused(id, order, &why, now),
                Arrived::Gap(what) => {
                    vec![self.record(Actor::Agent(id), Deed::Gap, Some(id), None, what, now)]
                }
            });
        }
        // A status asks for no more than the answer.
        if is_news {
            outputs.extend(self.keep_machine(id));
        }
        let highest = self.machines.get(&id).map_or(0, |machine| machine.row.inbox.highest);
        outputs.extend(self.send(id, FromHub::Acknowledged(highest)));
        outputs
    }

    pub(super) fn is_present(&self, id: MachineId, link: u64) -> bool {
        self.machines.get(&id).is_some_and(|machine| machine.link == Some(link))
    }

    pub(super) fn send(&self, id: MachineId, message: FromHub) -> Option<Output> {
        let link = self.machines.get(&id)?.link?;
        Some(Output::Send(id, link, message))
    }
}
