//! What a hub shows of all machines, held against what there is (law 12).

use std::time::Duration;

use cordon_model::ids::MachineId;
use cordon_model::laws::{self, Violation};

use crate::scenario::Sabotage;
use crate::world::World;

/// The longest that a word is on its way, with what the network repeats.
const ON_ITS_WAY: Duration = Duration::from_secs(5);

impl World<'_> {
    /// Law 12, of the row of numbers on top of every screen: how many machines, and how old the word of each.
    pub(crate) fn judge_what_is_shown(&mut self) -> Result<(), Violation> {
        let Some(core) = &self.hub.core else { return Ok(()) };
        let linked = |id: &&MachineId| core.is_linked(**id);
        if self.sabotaged(Sabotage::NothingIsOld) {
            let links: Vec<MachineId> = self.index.keys().filter(linked).copied().collect();
            self.hub.heard.extend(links.into_iter().map(|id| (id, self.now)));
        }
        let Some(core) = &self.hub.core else { return Ok(()) };
        let enrolled = self.hub.rows.machines.keys();
        let shown: Vec<&MachineId> = if self.sabotaged(Sabotage::CountsOnlyTheHeard) {
            enrolled.filter(|id| self.hub.heard.contains_key(id)).collect()
        } else {
            enrolled.collect()
        };
        let (in_contact, away): (Vec<&MachineId>, Vec<&MachineId>) =
            shown.iter().copied().partition(|id| core.is_linked(**id));
        let (away, never): (Vec<&MachineId>, Vec<&MachineId>) =
            away.into_iter().partition(|id| self.hub.heard.contains_key(id));
        let parts = [in_contact.len(), away.len(), never.len()];
        laws::adds_up("machines", shown.len(), &parts, self.machines.len())?;
        for machine in &self.machines {
            if let (Some(heard), Some(said)) = (self.hub.heard.get(&machine.id), machine.said_at) {
                let shown = self.now.saturating_sub(*heard);
                laws::age(machine.id, shown, self.now.saturating_sub(said), ON_ITS_WAY)?;
            }
        }
        Ok(())
    }
}
