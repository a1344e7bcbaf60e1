//! Looking at a machine as it is now, for people who are about to act on it.
//!
//! A question goes over the machine's present link, and whoever asked waits a moment. It is not kept and
//! not repeated: a person who gets no answer is told so, and decides without.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cordon_model::ids::MachineId;
use cordon_model::look::{LookAt, Seen};
use cordon_model::wire::{DROPPED, FromHub};
use cordon_store::Role;
use tokio::sync::oneshot;

use crate::error::HubError;
use crate::handle::Hub;
use crate::people::Who;

/// How long a machine may take: it reads a few hundred files, in some ten milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a survey may take: a few thousand files, read by a process that is the last in every queue of its
/// machine. It takes a second; the machine itself gives up before this.
const PATIENCE_FOR_SURVEY: Duration = Duration::from_secs(20);

/// Questions that wait at once: a few people, each with a few pages open.
const MOST_WAITING: usize = 64;

/// Who waits for which answer. An answer that nobody waits for, or from another machine, is dropped.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    last: AtomicU64,
    waiting: Mutex<HashMap<(MachineId, u64), oneshot::Sender<Seen>>>,
}

impl Looks {
    fn ask(&self, machine: MachineId) -> Option<(u64, oneshot::Receiver<Seen>)> {
        let mut waiting = self.lock();
        waiting.retain(|_, waiter| !waiter.is_closed());
        if waiting.len() >= MOST_WAITING {
            return None;
        }
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let (answer, answered) = oneshot::channel();
        waiting.insert((machine, number), answer);
        Some((number, answered))
    }

    pub fn answer(&self, machine: MachineId, number: u64, seen: Seen) {
        if let Some(waiter) = self.lock().remove(&(machine, number)) {
            let _ = waiter.send(seen);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(MachineId, u64), oneshot::Sender<Seen>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hub {
    /// How a machine is now, by its own word.
    ///
    /// # Errors
    /// [`HubError::NotSeen`] if it is not in contact, does not answer in time, or can't look;
    /// [`HubError::NotAllowed`].
    pub async fn look(&self, machine: MachineId, at: LookAt, who: &Who) -> Result<Seen, HubError> {
        who.must(Role::Responder)?;
        let unseen = |why: &str| HubError::NotSeen(why.to_owned());
        let asked = self.shared.looks.ask(machine);
        let (number, answered) = asked.ok_or_else(|| unseen("too many look at once; try again"))?;
        let patience = match at {
            LookAt::Survey { .. } | LookAt::Changes { .. } => PATIENCE_FOR_SURVEY,
            LookAt::Connections(_) | LookAt::Processes | LookAt::Measure(_) => PATIENCE,
        };
        if !self.shared.links.send_now(machine, FromHub::Look { number, at }) {
            return Err(unseen("it is not in contact"));
        }
        match tokio::time::timeout(patience, answered).await {
            Ok(Ok(Seen::Unable(why))) => Err(HubError::NotSeen(why)),
            Ok(Ok(Seen::Survey(survey))) if self.card(machine)?.version_kept < DROPPED => {
                // Else none told would be none there.
                Ok(Seen::Survey(
                    survey.without_dropped("its agent is of a version that does not look there"),
                ))
            }
            Ok(Ok(seen)) => Ok(seen),
            Ok(Err(_)) | Err(_) => Err(unseen("it did not answer in time")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_model::time::UtcNanos;

    fn machine(number: u8) -> MachineId {
        MachineId::new(UtcNanos::from_unix_nanos(0), [number; 10])
    }

    #[test]
    fn a_machine_answers_for_itself_alone_and_once() {
        let looks = Looks::default();
        let (number, mut answered) = looks.ask(machine(1)).unwrap();
        looks.answer(machine(2), number, Seen::Unable("a lie".into()));
        looks.answer(machine(1), number + 1, Seen::Unable("unasked".into()));
        assert!(answered.try_recv().is_err());
        looks.answer(machine(1), number, Seen::Unable("true".into()));
        looks.answer(machine(1), number, Seen::Unable("again".into()));
        assert_eq!(answered.try_recv(), Ok(Seen::Unable("true".into())));
    }

    #[test]
    fn who_gives_up_waiting_makes_room() {
        let looks = Looks::default();
        let waiting: Vec<_> = (0..MOST_WAITING).map(|_| looks.ask(machine(1)).unwrap()).collect();
        assert!(looks.ask(machine(1)).is_none());
        drop(waiting);
        assert!(looks.ask(machine(1)).is_some());
    }
}
