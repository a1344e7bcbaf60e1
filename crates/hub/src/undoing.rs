//! Taking back what Cordon did by itself, on every machine of an incident at once.
//!
//! The one idea: each machine is tried whatever became of the others, all is proposed before anything is waited for,
//! and then the signer is waited for once. Of each measure is said what is true: its order is signed, it waits for the
//! signer and goes out by itself, or it was not ordered and why.

use std::collections::BTreeSet;

use cordon_model::ids::{IncidentId, MachineId, MeasureId};
use cordon_model::order::Instruction;
use cordon_respond::hub_core::HubCore;
use cordon_respond::signer_core::Refusal;
use cordon_store::{Key, Role, StoreError};
use tokio::time::{Instant, sleep, timeout_at};

use crate::act::{PATIENCE, Put, SignersAnswer, Wanted, not_proposed};
use crate::assigning::text;
use crate::error::HubError;
use crate::handle::Hub;
use crate::keep;
use crate::people::Who;
use crate::view::{Standing, Undone};

/// What is to be taken back on one machine.
struct ToUndo {
    machine: MachineId,
    /// Each instruction, with the measures that it ends.
    instructions: Vec<(Instruction, Vec<Standing>)>,
    /// What can't be judged there, and why.
    unread: Option<String>,
}

/// What was tried on one machine.
struct Tried {
    undone: Undone,
    proposed: Vec<(SignersAnswer, Vec<Standing>)>,
}

impl Hub {
    /// Takes back everything that Cordon did to these machines by itself, every measure of it. What people
    /// ordered stays. What can't be ordered on one machine (the signer refuses it, say) is said, and the rest goes on.
    ///
    /// # Errors
    /// [`HubError::Missing`] if there is nothing of that kind; [`HubError::NotAllowed`].
    pub async fn undo_all(
        &self,
        machines: &[MachineId],
        reason: &str,
        who: &Who,
    ) -> Result<Vec<Undone>, HubError> {
        who.must(Role::Responder)?;
        text("reason", reason)?;
        let mut to_undo = self.to_undo(machines).await?;
        // The signer is asked first what a machine is that has no assignment: these wait for it, and nobody for them.
        let is_assigned =
            |machine| self.shared.board.card(machine).is_some_and(|card| card.assignment.is_some());
        to_undo.sort_by_key(|one| !is_assigned(one.machine));
        let until = Instant::now() + PATIENCE;
        let mut tried = Vec::new();
        for one in to_undo {
            tried.push(self.try_to_undo(one, until, reason, who).await);
        }
        if tried.is_empty() {
            let cards = machines.iter().filter_map(|machine| self.shared.board.card(*machine));
            let is_peoples = cards.map(|card| card.measures.len()).sum::<usize>() > 0;
            return Err(HubError::Missing {
                what: match is_peoples {
                    true => {
                        "measure that Cordon began by itself: people ordered what is in force there, and \
                         take it back by `cordon release` (an isolation) or `cordon measure undo`"
                    }
                    false => "measure that Cordon began by itself: nothing is in force there",
                },
            });
        }
        let mut undone = answered(tried, sleep(PATIENCE)).await;
        for one in &mut undone {
            one.is_linked = self.is_in_contact(one.machine);
        }
        Ok(undone)
    }

    /// The machines of an incident; where its own row can't be read, by what the hub goes on from.
    ///
    /// # Errors
    /// [`HubError::Missing`]; [`HubError::Store`] if neither can be read.
    pub async fn machines_of(&self, incident: IncidentId) -> Result<Vec<MachineId>, HubError> {
        let (store, organisation) = (&*self.shared.store, &self.shared.organisation.code);
        match store.incident(&Key::new(organisation, incident)).await {
            Ok(Some(known)) => Ok(known.machines),
            Ok(None) => Err(HubError::Missing { what: "incident" }),
            Err(error @ StoreError::Unreadable { .. }) => {
                let story = keep::story(store, organisation, incident).await?;
                Ok(story.ok_or(error)?.incident.machines)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What is to be taken back, of machines where there is something, or where nobody can tell.
    async fn to_undo(&self, machines: &[MachineId]) -> Result<Vec<ToUndo>, HubError> {
        let of_card = |machine: &MachineId| -> (MachineId, Option<Vec<MeasureId>>) {
            let card = self.shared.board.card(*machine);
            (*machine, card.map(|card| card.measures.into_keys().collect()))
        };
        let shown: Vec<_> = machines.iter().map(of_card).collect();
        self.deed(move |step| {
            let core = &*step.core;
            let all = shown.into_iter().map(|(machine, shown)| to_undo(core, machine, shown));
            all.filter(|one| !one.instructions.is_empty() || one.unread.is_some()).collect()
        })
        .await
    }

    /// Proposes what ends the measures on one machine; what has to be signed before, `until` then.
    async fn try_to_undo(&self, to_undo: ToUndo, until: Instant, reason: &str, who: &Who) -> Tried {
        let ToUndo { machine, instructions, unread } = to_undo;
        let (mut proposed, mut refused) = (Vec::new(), unread);
        let assigned = timeout_at(until, self.shared.ensure_assigned(machine)).await;
        let is_late = assigned.is_err();
        for (instruction, measures) in instructions {
            let put = match is_late {
                true => Err(not_proposed(HubError::SignerAway { why: "no answer".to_owned() })),
                false => {
                    let wanted = Wanted { machine, instruction, reason, incident: None, who };
                    self.propose(wanted).await
                }
            };
            match put {
                Ok(Put::Proposed(_, answer)) => proposed.push((answer, measures)),
                Ok(Put::Asked(question)) => {
                    refuse(
                        &mut refused,
                        format!("others have to agree first: question {question}"),
                    );
                }
                Err(error) => refuse(&mut refused, error.to_string()),
            }
        }
        let undone = Undone {
            machine,
            name: self.machine_name(machine),
            taken_back: Vec::new(),
            waits: Vec::new(),
            refused,
            is_linked: false,
        };
        Tried { undone, proposed }
    }
}

/// By what the hub's mind and its board (`shown`; `None`: it has no card there) know of a machine.
fn to_undo(core: &HubCore, machine: MachineId, shown: Option<Vec<MeasureId>>) -> ToUndo {
    let standing = |measure: MeasureId| {
        let what = core.measure(measure).map(|life| life.action.to_string());
        Standing { measure, what: what.unwrap_or_else(|| measure.to_string()) }
    };
    let undoing = core.undoing(machine).into_iter();
    let instructions = undoing
        .map(|(instruction, measures)| (instruction, measures.into_iter().map(standing).collect()));
    let unread = match shown {
        None => Some("what is kept of this machine can't be read".to_owned()),
        Some(shown) => {
            let dim: BTreeSet<String> = shown
                .iter()
                .filter(|measure| core.measure(**measure).is_none())
                .map(ToString::to_string)
                .collect();
            (!dim.is_empty()).then(|| {
                format!(
                    "who began {} can't be read any more: `cordon release` (an isolation) or `cordon measure \
                     undo` takes it back",
                    Vec::from_iter(dim).join(", ")
                )
            })
        }
    };
    ToUndo { machine, instructions: instructions.collect(), unread }
}

/// Adds to what was not ordered.
fn refuse(refused: &mut Option<String>, why: String) {
    *refused = Some(match refused.take() {
        Some(before) if before != why => format!("{before}; {why}"),
        _ => why,
    });
}

/// What the signer says to all that was proposed, in one `patience`. What it has not answered then waits.
async fn answered(tried: Vec<Tried>, patience: impl Future<Output = ()>) -> Vec<Undone> {
    tokio::pin!(patience);
    let mut is_over = false;
    let mut all = Vec::with_capacity(tried.len());
    for Tried { mut undone, proposed } in tried {
        for (mut answer, measures) in proposed {
            let answer: Option<Result<(), Refusal>> = if is_over {
                answer.try_recv().ok()
            } else {
                tokio::select! {
                    biased;
                    // A hub that ends has the proposal on disk, and asks at its next start.
                    answer = &mut answer => answer.ok(),
                    () = &mut patience => { is_over = true; None }
                }
            };
            match answer {
                Some(Ok(())) => undone.taken_back.extend(measures),
                Some(Err(refusal)) => {
                    refuse(&mut undone.refused, HubError::Refused(refusal).to_string());
                }
                None => undone.waits.extend(measures),
            }
        }
        all.push(undone);
    }
    all
}

#[cfg(test)]
mod tests {
    use cordon_model::time::UtcNanos;
    use tokio::sync::oneshot;

    use super::*;

    fn tried(number: u8, answers: Vec<SignersAnswer>) -> Tried {
        let at = UtcNanos::from_unix_nanos(0);
        let standing = |part: usize| Standing {
            measure: MeasureId::new(at, [u8::try_from(part).unwrap(); 10]),
            what: "segment".into(),
        };
        let machine = MachineId::new(at, [number; 10]);
        Tried {
            undone: Undone {
                machine,
                name: machine.to_string(),
                taken_back: Vec::new(),
                waits: Vec::new(),
                refused: None,
                is_linked: false,
            },
            proposed: answers
                .into_iter()
                .enumerate()
                .map(|(n, a)| (a, vec![standing(n)]))
                .collect(),
        }
    }

    #[tokio::test]
    async fn one_patience_is_waited_out_for_all_and_what_was_answered_counts_after_it_too() {
        let (_never, first) = oneshot::channel();
        let (_never_too, second) = oneshot::channel();
        let (said, third) = oneshot::channel();
        let (refused, fourth) = oneshot::channel();
        said.send(Ok(())).unwrap();
        refused.send(Err(Refusal::UnknownMachine)).unwrap();
        let all =
            vec![tried(1, vec![first]), tried(2, vec![second, third]), tried(3, vec![fourth])];
        // It is over once: a second one would never end.
        let mut left = 1;
        let patience = std::future::poll_fn(move |_| match left {
            0 => std::task::Poll::Pending,
            _ => {
                left -= 1;
                std::task::Poll::Ready(())
            }
        });
        let undone = answered(all, patience).await;
        let counts = undone.iter().map(|one| {
            (one.taken_back.len(), one.waits.len(), one.refused.as_deref().unwrap_or_default())
        });
        let refusal = HubError::Refused(Refusal::UnknownMachine).to_string();
        let expected = [(0, 1, ""), (1, 1, ""), (0, 0, refusal.as_str())];
        assert_eq!(counts.collect::<Vec<_>>(), expected);
    }
}
