//! Watching what is in the kernel: somebody else's change is put right, and told.
//!
//! Two tables are watched, the isolation's and that of blocked peers, each by itself: whoever flushes all
//! rules is told of twice. Both are back in the kernel before either is shown, told or written to disk.

use cordon_model::action::ActionKind;
use cordon_model::ids::MeasureId;
use cordon_model::measure::Isolation;
use cordon_model::time::BootNanos;
use cordon_respond::helper_core::{Effect, Outcome, Phase};

use super::super::enforce::Standing;
use super::super::netlink::NetlinkError;
use super::super::protocol::Event;
use super::super::table::Change;
use super::Executor;

impl Executor {
    /// The numbers by which the kernel's notifications tell what was done from here.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn ports(&self) -> Result<[u32; 2], NetlinkError> {
        Ok([self.enforcer.port()?, self.means.port()?])
    }

    /// Looks whether the kernel still holds what is meant, and puts it back if not. `change` is what
    /// made us look, noticed then; without one it is time to.
    pub fn look(&mut self, change: Option<Change>, noticed: BootNanos) {
        let cuts = self.held().filter(|(_, isolation)| *isolation != Isolation::Watch);
        // What can't be put back so is found by the looks that follow.
        let is_back = cuts.is_some() && self.enforcer.put_back().unwrap_or(false);
        let are_blocks_back = self.means.put_blocks_back().unwrap_or(false);
        if let Some((measure, isolation)) = cuts {
            self.look_at_isolation(measure, isolation, change.clone(), noticed, is_back);
        }
        self.look_at_blocks(change, noticed, are_blocks_back);
    }

    fn look_at_isolation(
        &mut self,
        measure: MeasureId,
        isolation: Isolation,
        change: Option<Change>,
        noticed: BootNanos,
        is_back: bool,
    ) {
        let was_wiped = is_back
            || match self.enforcer.standing() {
                // What could not be shown (at boot, loopback may not be there yet) is tried again in time.
                Ok(Standing::AsMeant) if change.is_none() && self.is_unproven() => false,
                Ok(Standing::AsMeant) => return,
                Ok(Standing::Changed) | Err(_) => true,
                // Others were at it while it was put there; without them it is the kernel that differs.
                Ok(Standing::NeverAsMeant) => change.is_some(),
                // The kernel refused it. It is tried again in time, not at every change of others.
                Ok(Standing::NothingPut) if change.is_some() => return,
                Ok(Standing::NothingPut) => false,
            };
        let outcome = self.enforce(measure, isolation);
        let now = self.clocks.now();
        let restored = match &outcome {
            Outcome::Done { proof: Some(proof), .. } if proof.is_read_back => Some(proof.at),
            Outcome::Done { .. } | Outcome::Failed { .. } => None,
        };
        self.with_core(|core| core.enforced(measure, outcome, &now));
        if was_wiped {
            self.was_wiped(measure, change, noticed, restored);
        }
        self.save_or_say();
    }

    fn is_unproven(&self) -> bool {
        let current = self.enrolled.as_ref().and_then(|held| held.kept.core.current.as_ref());
        current.is_some_and(|held| held.state.is_unproven())
    }

    /// The same for the table of blocked peers.
    pub(super) fn look_at_blocks(
        &mut self,
        change: Option<Change>,
        noticed: BootNanos,
        is_back: bool,
    ) {
        let was_wiped = is_back
            || match self.means.blocks_standing() {
                // One that was not put there is tried again in time, not at every change of others.
                Ok(None | Some(Standing::AsMeant | Standing::NothingPut)) => false,
                Ok(Some(Standing::NeverAsMeant)) => change.is_some(),
                Ok(Some(Standing::Changed)) | Err(_) => true,
            };
        if !was_wiped {
            return;
        }
        self.apply_blocks_again();
        let Some(&measure) = self.blocks().first() else { return };
        let proof = self.enrolled.as_ref().and_then(|enrolled| {
            enrolled.kept.core.acting.get(&measure).and_then(|acting| acting.proof.as_ref())
        });
        let restored = proof.filter(|proof| proof.is_read_back).map(|proof| proof.at);
        self.was_wiped(measure, change, noticed, restored);
        self.save_or_say();
    }

    /// Puts all blocks in place again, under what is kept by now.
    pub(super) fn apply_blocks_again(&mut self) {
        let again = self.blocks().into_iter().map(|measure| Effect::LookAgain { measure });
        let again: Vec<Effect> = again.collect();
        if !again.is_empty() {
            self.carry_out(again);
            self.save_or_say();
        }
    }

    /// The blocks that are meant.
    fn blocks(&self) -> Vec<MeasureId> {
        let Some(enrolled) = &self.enrolled else { return Vec::new() };
        let acting = enrolled.kept.core.acting.values().filter(|acting| {
            acting.action.kind() == ActionKind::Block && acting.phase != Phase::TakingBack
        });
        acting.map(|acting| acting.measure).collect()
    }

    fn was_wiped(
        &mut self,
        measure: MeasureId,
        change: Option<Change>,
        noticed: BootNanos,
        restored: Option<BootNanos>,
    ) {
        self.wiped = self.wiped.saturating_add(1);
        let change = change.unwrap_or_default();
        let by = (change.process, change.name);
        tracing::warn!(process = by.0, name = %by.1, "the rules were wiped");
        self.tell(Event::Wiped { measure, by, noticed, restored });
    }
}
