//! Keeping fresh what people in front of machines are told: the next machine of the kind that works.
//!
//! The one idea: it is worked out here, from who was heard in the last seconds and is not cut off, and
//! never on the machine that is under suspicion. What is said of it (its name, its place) is the signer's.

use std::collections::BTreeMap;

use cordon_model::ids::MachineId;
use cordon_model::time::UtcNanos;

use crate::board::Card;
use crate::run::Shared;
use crate::signer::ClientError;
use crate::view::Contact;
use crate::work::Input;

/// Machines whose guidance is signed anew in one round of ten seconds: 500, so that when a ward fails at
/// once its neighbours are right within the minute, and the signer is busy for a tenth of a second.
const SIGNED_PER_ROUND: usize = 500;

/// What a machine's guidance was made from; another value, and it is made anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Basis {
    nearest: Option<MachineId>,
    /// Revisions of the assignments of the two, and of the policy: texts may have changed.
    revisions: (u64, u64, u64),
    /// How often somebody said something for the people at machines, since the start.
    said: u64,
}

impl Shared {
    /// One round: whose next machine is another now is told so.
    pub async fn look_after_guidance(&self) {
        let due = self.due_guidance();
        for (machine, basis) in due.into_iter().take(SIGNED_PER_ROUND) {
            if *self.stop.borrow() {
                return;
            }
            match self.documents.guide(machine, basis.nearest).await {
                Ok(guidance) => {
                    self.board.change(machine, |card| card.guided_by = Some(basis));
                    self.tell(Input::Guided(Box::new(guidance))).await;
                }
                // The signer knows better, or does not know the machine yet: another neighbour next time.
                Err(ClientError::Refused(why)) => {
                    tracing::debug!(%machine, %why, "its guidance stays as it is for now");
                }
                Err(error) => {
                    tracing::warn!(%error, "what people at machines are told is not refreshed");
                    return;
                }
            }
        }
    }

    fn due_guidance(&self) -> Vec<(MachineId, Basis)> {
        let now = UtcNanos::now();
        let policy = self.board.policy().revision;
        let said = self.bedside_said.load(std::sync::atomic::Ordering::Relaxed);
        let machines = self.board.machines();
        let mut kinds: BTreeMap<&str, Vec<(MachineId, &Card)>> = BTreeMap::new();
        for (id, card) in machines.iter().filter(|(_, card)| works(card, now)) {
            if let Some(kind) = card.assignment.as_ref().and_then(|a| a.kind.as_deref()) {
                kinds.entry(kind).or_default().push((*id, card));
            }
        }
        let mut due = Vec::new();
        for (id, card) in machines.iter().filter(|(_, card)| !card.is_struck_off) {
            let Some(assignment) = &card.assignment else { continue };
            let others = assignment.kind.as_deref().and_then(|kind| kinds.get(kind));
            let nearest = others.and_then(|others| nearest_of(*id, card, others));
            let revision = |card: &Card| card.assignment.as_ref().map_or(0, |a| a.revision);
            let other = nearest.and_then(|id| machines.get(&id)).map_or(0, revision);
            let basis = Basis { nearest, revisions: (assignment.revision, other, policy), said };
            if card.guided_by.as_ref() != Some(&basis) {
                due.push((*id, basis));
            }
        }
        due
    }
}

/// In contact, and nothing is or is meant to be cut.
fn works(card: &Card, now: UtcNanos) -> bool {
    !card.is_struck_off
        && matches!(card.contact(now), Contact::Linked { .. })
        && card.measures.is_empty()
}

/// The same ward first; the one that was named before stays, so that a screen does not change for nothing;
/// then by name.
fn nearest_of(machine: MachineId, card: &Card, others: &[(MachineId, &Card)]) -> Option<MachineId> {
    let group = card.assignment.as_ref().and_then(|assignment| assignment.group.as_ref());
    let before = card.guided_by.as_ref().and_then(|basis| basis.nearest);
    let rank = |other: &(MachineId, &Card)| {
        let of_other = other.1.assignment.as_ref().and_then(|assignment| assignment.group.as_ref());
        let is_near = group.is_some() && of_other == group;
        (!is_near, Some(other.0) != before, other.1.name().to_owned(), other.0)
    };
    let others = others.iter().filter(|(other, _)| *other != machine);
    others.min_by_key(|other| rank(other)).map(|(other, _)| *other)
}
