//! What was found and that nobody has dealt with yet: an account of each machine in each story, kept from outside.
//!
//! The one idea: a serious finding *waits* until something has dealt with it that an onlooker can see: an isolation is
//! proven, people are told of it, they say no to a question that was put after it, or they open its machine. While it
//! waits it has to be in somebody's hands. Who was told of a story was told of what had been found by then, and of
//! nothing that is found later.

use std::collections::{BTreeMap, BTreeSet};

use cordon_model::finding::Level;
use cordon_model::ids::{IncidentId, MachineId, OrderId};

/// The last of the serious findings on a machine in a story that wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wait {
    pub(crate) level: Level,
    /// How often something new had been found there by then.
    pub(crate) news: u32,
    /// Its place in all that happened at the hub.
    at: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Unread {
    waits: BTreeMap<(MachineId, IncidentId), Wait>,
    /// Where people were told that nothing is blocked: of a machine of a story they are told once.
    not_blocked: BTreeSet<(MachineId, IncidentId)>,
    /// When people wished for what is not signed yet.
    wished: BTreeMap<OrderId, u64>,
    /// Incidents of which people were told that nobody has them.
    nobodys: BTreeSet<IncidentId>,
    steps: u64,
}

impl Unread {
    fn next(&mut self) -> u64 {
        self.steps += 1;
        self.steps
    }

    /// A serious finding is on the hub's disk.
    pub(crate) fn found(&mut self, of: (MachineId, IncidentId), level: Level, news: u32) {
        let at = self.next();
        if !self.not_blocked.contains(&of) {
            self.waits.insert(of, Wait { level, news, at });
        }
    }

    pub(crate) fn waits(&self, of: (MachineId, IncidentId)) -> Option<Wait> {
        self.waits.get(&of).copied()
    }

    /// All that waits on a machine.
    pub(crate) fn of(&self, machine: MachineId) -> Vec<(IncidentId, Wait)> {
        let of_it = self.waits.iter().filter(|((id, _), _)| *id == machine);
        of_it.map(|((_, incident), wait)| (*incident, *wait)).collect()
    }

    /// The machines on which something waits.
    pub(crate) fn machines(&self) -> BTreeSet<MachineId> {
        self.waits.keys().map(|(machine, _)| *machine).collect()
    }

    /// It waits no more.
    pub(crate) fn seen_to(&mut self, of: (MachineId, IncidentId)) {
        self.waits.remove(&of);
    }

    /// Its isolation is proven, or people were told that it is not as it should be.
    pub(crate) fn seen_to_on(&mut self, machine: MachineId) {
        self.waits.retain(|(of, _), _| *of != machine);
    }

    /// People were told of a story that nobody has, or somebody closed it.
    pub(crate) fn seen_to_in(&mut self, incident: IncidentId) {
        self.waits.retain(|(_, of), _| *of != incident);
    }

    pub(crate) fn told_that_nobody_has(&mut self, incident: IncidentId) {
        self.nobodys.insert(incident);
        self.seen_to_in(incident);
    }

    pub(crate) fn was_told_that_nobody_has(&self, incident: IncidentId) -> bool {
        self.nobodys.contains(&incident)
    }

    pub(crate) fn told_that_nothing_is_blocked(&mut self, of: (MachineId, IncidentId)) {
        self.not_blocked.insert(of);
        self.seen_to(of);
    }

    pub(crate) fn was_told_that_nothing_is_blocked(&self, of: (MachineId, IncidentId)) -> bool {
        self.not_blocked.contains(&of)
    }

    /// People said no to a question that was put when so much had been found.
    pub(crate) fn said_no(&mut self, of: (MachineId, IncidentId), asked_with: u32) {
        if self.waits.get(&of).is_some_and(|wait| wait.news <= asked_with) {
            self.waits.remove(&of);
        }
    }

    /// People said yes: what they want done waits until it is, whatever was said before.
    pub(crate) fn said_yes(&mut self, of: (MachineId, IncidentId), level: Level, asked_with: u32) {
        let at = self.next();
        self.waits.entry(of).or_insert(Wait { level, news: asked_with, at });
    }

    /// People want this done.
    pub(crate) fn wished(&mut self, order: OrderId) {
        let at = self.next();
        self.wished.entry(order).or_insert(at);
    }

    /// An order that opens a machine is signed. If people wished for it, what had been found by then is dealt with.
    pub(crate) fn opened(&mut self, machine: MachineId, order: OrderId) {
        if let Some(wished) = self.wished.remove(&order) {
            self.waits.retain(|(of, _), wait| *of != machine || wait.at > wished);
        }
    }
}
