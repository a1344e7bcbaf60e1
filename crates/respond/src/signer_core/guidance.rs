//! What people in front of machines are told: said by the organisation, made ready by the signer.
//!
//! The one idea: the hub says which neighbour works (it hears them), and may say no more than that. The
//! texts, the places and whom to ring come from this registry, where a person's name stands for each; so a
//! stolen hub can't put a telephone number of its own on a hospital's screens.

use cordon_model::guidance::{Bedside, Guidance, Nearest};
use cordon_model::ids::MachineId;

use super::{Known, Refusal, SignerCore};
use crate::clock::Moment;

impl SignerCore {
    /// What the organisation says of a machine for the person in front of it.
    #[must_use]
    pub fn bedside(&self, machine: MachineId) -> Option<&Bedside> {
        self.machines.get(&machine).map(|known| &known.bedside)
    }

    /// Takes what the organisation says for the person in front of a machine.
    ///
    /// # Errors
    /// [`Refusal::UnknownMachine`], [`Refusal::Terms`].
    pub fn set_bedside(&mut self, machine: MachineId, bedside: Bedside) -> Result<(), Refusal> {
        bedside.check().map_err(|error| Refusal::Terms(error.to_string()))?;
        let known = self.machines.get_mut(&machine).ok_or(Refusal::UnknownMachine)?;
        known.bedside = bedside;
        Ok(())
    }

    /// The guidance to sign for a machine, with the next working machine of its kind as the hub knows it.
    /// The same as before if it would say the same.
    ///
    /// # Errors
    /// [`Refusal::UnknownMachine`]; [`Refusal::NoStandIn`] if that machine can't be the next one for all
    /// that is known here.
    pub fn guide(
        &mut self,
        machine: MachineId,
        nearest: Option<MachineId>,
        now: &Moment,
    ) -> Result<Guidance, Refusal> {
        let known = self.machines.get(&machine).ok_or(Refusal::UnknownMachine)?;
        let nearest = nearest.map(|other| self.stand_in(machine, known, other, now)).transpose()?;
        let held = known.guidance.as_ref();
        // As with codes: a signer that was restored from a backup gives no number that was seen.
        let seconds = u64::try_from(now.utc.unix_nanos() / 1_000_000_000).unwrap_or(0);
        let next = held.map_or(1, |held| held.revision.saturating_add(1));
        let ring = if known.bedside.ring.is_empty() {
            self.policy.ring.clone()
        } else {
            known.bedside.ring.clone()
        };
        let guidance = Guidance {
            organisation: self.policy.organisation.clone(),
            machine,
            revision: next.max(seconds),
            name: known.assignment.name.clone(),
            kind: known.assignment.kind.clone(),
            nearest,
            instead: known.bedside.instead.clone(),
            ring,
            issued_at: now.utc,
        };
        if let Some(held) = held.filter(|held| held.says_the_same_as(&guidance)) {
            return Ok(held.clone());
        }
        let known = self.machines.get_mut(&machine).ok_or(Refusal::UnknownMachine)?;
        known.guidance = Some(guidance.clone());
        Ok(guidance)
    }

    fn stand_in(
        &self,
        machine: MachineId,
        known: &Known,
        other: MachineId,
        now: &Moment,
    ) -> Result<Nearest, Refusal> {
        let kind = known.assignment.kind.as_ref();
        let running = self.clock.reading(now);
        let stands_in = self.machines.get(&other).filter(|stands_in| {
            other != machine
                && kind.is_some()
                && stands_in.assignment.kind.as_ref() == kind
                && !stands_in.may_be_contained()
                && stands_in.was_heard(running)
        });
        let stands_in = stands_in.ok_or(Refusal::NoStandIn)?;
        Ok(Nearest {
            name: stands_in.assignment.name.clone(),
            group: stands_in.assignment.group.clone(),
            place: stands_in.bedside.place.clone(),
        })
    }
}
