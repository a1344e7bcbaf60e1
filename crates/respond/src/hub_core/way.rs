//! A machine's way to its hub, by its own word, and what that word changes.
//!
//! The one idea (laws 9 and 11): a machine that says that an isolation in full would take it out of its hub's
//! reach is segmented by itself, and people are asked for the rest. Nobody else can check what it says, and
//! whoever took it over may say it to be cut off less. So each change of that word is a record in the ledger,
//! each response that it lowers is another, and both are kept with the machine, for people to see.

use serde::{Deserialize, Serialize};

use cordon_model::time::UtcNanos;
use cordon_model::wire::Way;

use super::*;

/// What a machine says of its way to the hub, and what came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WayWord {
    /// What it says.
    pub way: Way,
    /// Since when it loses the hub by its word, or does not, by the hub's clock; `None`: it never said anything.
    pub since: Option<UtcNanos>,
    /// How many of the policy's responses that lowered since then.
    pub lowered: u32,
    /// Counts up with each change of the others.
    pub revision: u64,
}

/// What a lowered response is: done in part…
pub(super) const SEGMENTED: &str = "segment, and people are asked for the rest";

/// …or, where that is done already, asked.
pub(super) const ASKED: &str = "people are asked";

impl HubCore {
    /// Whether a machine says that an isolation in full may take it out of its hub's reach.
    pub(super) fn loses_the_hub(&self, id: MachineId) -> bool {
        self.machines.get(&id).is_some_and(Machine::loses_the_hub)
    }

    /// Takes what a machine says of its way to the hub. Whatever is new in it is kept and written down.
    pub(super) fn says_of_its_way(
        &mut self,
        id: MachineId,
        coverage: &[Coverage],
        now: &Moment,
    ) -> Vec<Output> {
        let Some(machine) = self.machines.get_mut(&id) else { return Vec::new() };
        let (way, word) = (Way::said_in(coverage), &mut machine.row.way);
        if word.way == way {
            return Vec::new();
        }
        let before = std::mem::replace(&mut word.way, way);
        // Other words for the same make nothing new of it.
        if !(before.may_lose_the_hub() && word.way.may_lose_the_hub()) {
            (word.since, word.lowered) = (Some(now.utc), 0);
        }
        word.revision = word.revision.saturating_add(1);
        let follows = if word.way.may_lose_the_hub() {
            "; while it says so, it is segmented where the policy would isolate it in full by itself, and \
             people are asked for the rest"
        } else {
            ""
        };
        let detail = format!("now: {}; before: {before}{follows}", word.way);
        let mut outputs = self.keep_machine(id);
        outputs.push(self.record(Actor::Agent(id), Deed::WaySaid, Some(id), None, detail, now));
        outputs
    }

    /// The policy would have isolated a machine in full, and its word of its way made it `less`: in words.
    pub(super) fn lowered(
        &mut self,
        id: MachineId,
        less: &str,
        of: &str,
        incident: Option<IncidentId>,
        now: &Moment,
    ) -> Vec<Output> {
        let Some(machine) = self.machines.get_mut(&id) else { return Vec::new() };
        let word = &mut machine.row.way;
        word.lowered = word.lowered.saturating_add(1);
        word.revision = word.revision.saturating_add(1);
        let detail = format!(
            "full isolation → {less}: the machine says of its way to the hub that {}; {of}",
            word.way
        );
        let deed = Deed::ResponseLowered;
        let mut outputs = self.keep_machine(id);
        outputs.push(self.record(Actor::Hub, deed, Some(id), incident, detail, now));
        outputs
    }
}
