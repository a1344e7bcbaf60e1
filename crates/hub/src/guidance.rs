//! Keeping fresh what people in front of machines are told: the next machine of the kind that works.
//!
//! The one idea: it is worked out here, from who was heard in the last seconds and is not cut off, and
//! never on the machine that is under suspicion. What is said of it (its name, its place) is the signer's.

use std::collections::BTreeMap;

use cordon_model::asset::Assignment;
use cordon_model::ids::MachineId;
use cordon_model::time::UtcNanos;

use crate::board::Card;
use crate::run::Shared;
use crate::signer::ClientError;
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
                Err(error @ ClientError::Refused(_)) => {
                    self.board.note_held_up(&error, UtcNanos::now());
                    tracing::debug!(%machine, %error, "its guidance stays as it is for now");
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
        let working = Working::of(&machines, now);
        let mut due = Vec::new();
        for (id, card) in machines.iter().filter(|(_, card)| !card.is_struck_off) {
            let Some(assignment) = &card.assignment else { continue };
            let before = card.guided_by.as_ref().and_then(|basis| basis.nearest);
            let nearest = working.nearest_to(*id, assignment, before);
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

/// The machines that work, in the order in which they are named to people.
#[derive(Default)]
struct Working<'a> {
    /// By kind; and by kind and group.
    of_kind: BTreeMap<&'a str, Vec<MachineId>>,
    of_group: BTreeMap<(&'a str, &'a str), Vec<MachineId>>,
    all: BTreeMap<MachineId, &'a Assignment>,
}

impl<'a> Working<'a> {
    fn of(machines: &'a BTreeMap<MachineId, Card>, now: UtcNanos) -> Self {
        let mut named: Vec<(&str, MachineId, &Assignment)> = machines
            .iter()
            .filter(|(_, card)| works(card, now))
            .filter_map(|(id, card)| Some((card.name(), *id, card.assignment.as_deref()?)))
            .collect();
        named.sort_unstable_by_key(|(name, id, _)| (*name, *id));
        let mut working = Self::default();
        for (_, id, assignment) in named {
            let Some(kind) = assignment.kind.as_deref() else { continue };
            working.of_kind.entry(kind).or_default().push(id);
            if let Some(group) = assignment.group.as_deref() {
                working.of_group.entry((kind, group)).or_default().push(id);
            }
            working.all.insert(id, assignment);
        }
        working
    }

    /// The same ward first; the one that was named before stays, so that a screen does not change for
    /// nothing; then by name.
    fn nearest_to(
        &self,
        machine: MachineId,
        assignment: &Assignment,
        before: Option<MachineId>,
    ) -> Option<MachineId> {
        let kind = assignment.kind.as_deref()?;
        let group = assignment.group.as_deref();
        let of_group = group.and_then(|group| self.of_group.get(&(kind, group)));
        let of_kind = self.of_kind.get(kind);
        let first = |of: Option<&Vec<MachineId>>| {
            of.and_then(|of| of.iter().copied().find(|other| *other != machine))
        };
        let (near, any) = (first(of_group), first(of_kind));
        let stays = before.filter(|other| {
            let of_other = self
                .all
                .get(other)
                .filter(|of_other| *other != machine && of_other.kind.as_deref() == Some(kind));
            of_other.is_some_and(|of_other| near.is_none() || of_other.group.as_deref() == group)
        });
        stays.or(near).or(any)
    }
}

/// It surely works, and nothing is or is meant to be done to it.
fn works(card: &Card, now: UtcNanos) -> bool {
    !card.is_struck_off && card.surely_works(now) && card.measures.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(number: u8) -> MachineId {
        MachineId::new(UtcNanos::from_unix_nanos(0), [number; 10])
    }

    fn assignment(number: u8, group: &str) -> Assignment {
        Assignment {
            kind: Some("CT console".into()),
            group: Some(group.into()),
            ..Assignment::of("RJ1".parse().unwrap(), machine(number), format!("ct-{number}"))
        }
    }

    #[test]
    fn the_same_ward_comes_first_and_a_screen_does_not_change_for_nothing() {
        let [here, near, also_near, far] = [(1, "a"), (2, "a"), (3, "a"), (4, "b")]
            .map(|(number, group)| assignment(number, group));
        let nearest = |works: &[u8], before: Option<u8>| {
            let mut known = Working::default();
            for of in [&here, &near, &also_near, &far] {
                if !works.iter().any(|number| machine(*number) == of.machine) {
                    continue;
                }
                known.of_kind.entry("CT console").or_default().push(of.machine);
                let group = of.group.as_deref().unwrap();
                known.of_group.entry(("CT console", group)).or_default().push(of.machine);
                known.all.insert(of.machine, of);
            }
            let found = known.nearest_to(machine(1), &here, before.map(machine));
            found.map(|found| found.as_bytes()[15])
        };
        let all = [1, 2, 3, 4];
        assert_eq!(nearest(&all, None), Some(2), "by name");
        assert_eq!(nearest(&all, Some(3)), Some(3), "as before");
        assert_eq!(nearest(&all, Some(4)), Some(2), "but the same ward first");
        assert_eq!(nearest(&[1, 4], Some(3)), Some(4), "who does not work is named no more");
        assert_eq!(nearest(&[1], None), None, "never itself");
    }
}
