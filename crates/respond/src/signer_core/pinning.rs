//! Which addresses of a name the signer pins: its own look, from its own registry.

use cordon_model::asset::Assignment;
use cordon_model::ids::MachineId;

use super::{Refusal, SignerCore};
use crate::names::{self, Pin};

impl SignerCore {
    /// The assignment to sign once `pin` is done: with the machine's next revision, or as it is if nothing
    /// changes. Without a person's name in it only what a person's signed bound allows is done
    /// ([`names::pin`]); nothing else of the assignment is the hub's to say here.
    ///
    /// # Errors
    /// [`Refusal::UnknownMachine`], [`Refusal::Pin`].
    pub fn pin(&mut self, machine: MachineId, pin: &Pin) -> Result<Assignment, Refusal> {
        let known = self.machines.get_mut(&machine).ok_or(Refusal::UnknownMachine)?;
        let next = names::pin(&known.assignment, pin)?;
        if next != known.assignment {
            let revision = known.assignment.revision.saturating_add(1);
            known.assignment = Assignment { revision, ..next };
        }
        Ok(known.assignment.clone())
    }
}
