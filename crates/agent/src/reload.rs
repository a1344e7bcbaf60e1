//! New rules while the agent runs.
//!
//! The one idea: rules are read and compiled beside the sensor's thread, and only a set that is whole is handed
//! to it. The thread takes it between two events, with all that it keeps for correlations: each event is judged
//! once, by the one set or the other, and none waits for a compiler. Whether a set may take the place of the one
//! in force is judged by [`in_force`](crate::in_force).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cordon_detect::RuleSet;
use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, watch};

use cordon_model::wire::Coverage;

use crate::in_force::{InForce, ReadRules};
use crate::local::Noticed;

/// Rules on their way to the sensor's thread.
#[derive(Clone, Default)]
pub struct Handover {
    /// Looked at for each event, so that no lock is.
    is_there: Arc<AtomicBool>,
    next: Arc<Mutex<Option<RuleSet>>>,
}

impl Handover {
    /// Gives `rules`, in place of those that were given and not taken yet.
    pub fn give(&self, rules: RuleSet) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(rules);
        self.is_there.store(true, Ordering::Release);
    }

    /// What was given last, if it wasn't taken yet.
    pub fn take(&self) -> Option<RuleSet> {
        if !self.is_there.swap(false, Ordering::AcqRel) {
            return None;
        }
        self.next.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Reads the rules again at each hangup, and says to the hub what is wrong with them.
pub(crate) async fn renew_at_each(
    mut hangups: Signal,
    read: Option<ReadRules>,
    mut in_force: InForce,
    handover: Handover,
    coverage: watch::Sender<Vec<Coverage>>,
    say: mpsc::WeakSender<Noticed>,
) {
    while hangups.recv().await.is_some() {
        let Some(read) = read.clone() else {
            tracing::warn!(
                "SIGHUP: the rules are part of this program, so there is nothing to read"
            );
            continue;
        };
        let mut next = in_force.clone();
        let judged = tokio::task::spawn_blocking(move || {
            let rules = next.renew(read());
            (next, rules)
        });
        let rules = match judged.await {
            Ok((next, rules)) => {
                in_force = next;
                rules
            }
            Err(error) => {
                tracing::error!(%error, "SIGHUP: reading rules failed, those in force stay");
                continue;
            }
        };
        if let Some(rules) = rules {
            handover.give(rules);
        }
        coverage.send_if_modified(|coverage| in_force.put_into(coverage));
        // Not tried once: a flood of findings must not hide it.
        if let (Some(gap), Some(say)) = (in_force.gap(), say.upgrade()) {
            let _ = say.send(Noticed::Rules(gap)).await;
        }
    }
}
