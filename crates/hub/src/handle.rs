//! The [`Hub`] handle: all that people can ask of a running hub.
//!
//! The one idea: console, API, command line and drill use this one handle, so none can do what another
//! may not. Reading (here and in `look`) is answered from the store and from memory; whatever changes
//! something (`act`, `sign_in`) is a deed of the main task, takes a [`Who`](crate::Who) and a reason, is
//! in the ledger, and is on disk when the call returns.

use std::sync::Arc;

use cordon_model::ids::MachineId;
use cordon_model::policy::Policy;
use cordon_model::time::UtcNanos;
use tokio::sync::broadcast;

use crate::error::HubError;
use crate::run::Shared;
use crate::view::{Attention, Contact, HubStatus, LedgerStatus, MachineRow, News};
use crate::work::Step;

/// A running hub. Cheap to clone.
#[derive(Clone)]
pub struct Hub {
    pub(crate) shared: Arc<Shared>,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub")
            .field("organisation", &self.shared.organisation)
            .finish_non_exhaustive()
    }
}

impl Hub {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Whose hub it is.
    #[must_use]
    pub fn organisation(&self) -> &cordon_store::Organisation {
        &self.shared.organisation
    }

    /// Says when something changed. A listener that falls behind is told so, and looks at everything.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<News> {
        self.shared.news.subscribe()
    }

    /// How the hub is.
    ///
    /// # Errors
    /// [`HubError::Store`]; so for all that look.
    pub async fn status(&self) -> Result<HubStatus, HubError> {
        let now = UtcNanos::now();
        let nanos = i64::try_from(crate::board::SILENT_AFTER.as_nanos()).unwrap_or(i64::MAX);
        let since = UtcNanos::from_unix_nanos(now.unix_nanos() - nanos);
        let board = &self.shared.board;
        let mut counts = self.shared.store.counts(&self.shared.organisation.code, since).await?;
        // Who was heard in these seconds is known here before it is on disk.
        let (mut known, mut heard, mut never) = (0, 0, 0);
        for card in board.machines().values().filter(|card| !card.is_struck_off) {
            known += 1;
            match card.contact(now) {
                Contact::Linked { .. } => heard += 1,
                Contact::Silent { .. } => {}
                Contact::Never => never += 1,
            }
        }
        counts.machines = known;
        counts.machines_heard = heard;
        counts.machines_never_heard = never;
        Ok(HubStatus {
            organisation: self.shared.organisation.clone(),
            mode: board.policy().mode,
            counts,
            linked: self.shared.links.count(),
            ledger: board.ledger(),
            ledger_alarm: board.ledger_alarm(),
            set_aside: board.set_aside(),
            signer_away: board.signer_away(),
            held_up: board.held_up(now),
            refused: board.refused(),
        })
    }

    /// How the ledger is.
    #[must_use]
    pub fn ledger(&self) -> LedgerStatus {
        self.shared.board.ledger()
    }

    /// Records of the ledger, at most a thousand.
    ///
    /// # Errors
    /// If a record is damaged.
    pub async fn ledger_records(
        &self,
        range: std::ops::Range<u64>,
    ) -> Result<Vec<cordon_evidence::Entry>, HubError> {
        let read = self.shared.ledger.read(range).await.ok_or(HubError::Closing)?;
        read.map_err(|error| HubError::Document(error.to_string()))
    }

    /// What people must see now: of each kind the newest, the most pressing kind first, then the next of each.
    #[must_use]
    pub fn attention(&self) -> Vec<Attention> {
        self.shared.board.attention(UtcNanos::now())
    }

    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> Arc<Policy> {
        self.shared.board.policy()
    }

    /// All machines, by name; how many there are is the list's length.
    #[must_use]
    pub fn machines(&self) -> Vec<MachineRow> {
        let now = UtcNanos::now();
        let machines = self.shared.board.machines();
        let known = machines.iter().filter(|(_, card)| !card.is_struck_off);
        let mut rows: Vec<MachineRow> = known.map(|(id, card)| card.row(*id, now)).collect();
        drop(machines);
        rows.sort_by(|a, b| a.name.cmp(&b.name).then(a.id.cmp(&b.id)));
        rows
    }

    /// The machine that people call `name`, if exactly one is called so, or that has this id.
    #[must_use]
    pub fn machine_called(&self, name: &str) -> Option<MachineId> {
        let machines = self.shared.board.machines();
        if let Some(id) = name.parse().ok().filter(|id| machines.contains_key(id)) {
            return Some(id);
        }
        // A struck-off machine's name may be another's by now; else whoever says it hears what became of it.
        let only = |is_struck_off: bool| {
            let mut called = machines
                .iter()
                .filter(|(_, card)| card.is_struck_off == is_struck_off && card.name() == name);
            (called.next().map(|(id, _)| *id), called.next().is_none())
        };
        match only(false) {
            (Some(id), true) => Some(id),
            (Some(_), false) => None,
            (None, _) => only(true).0.filter(|_| only(true).1),
        }
    }

    /// What a machine is called; its id if it has no name any more.
    #[must_use]
    pub fn machine_name(&self, id: MachineId) -> String {
        self.card(id).map_or_else(|_| id.to_string(), |card| card.name().to_owned())
    }

    pub(crate) fn card(&self, id: MachineId) -> Result<crate::board::Card, HubError> {
        self.shared.board.card(id).ok_or(HubError::Missing { what: "machine" })
    }

    /// Does something as a step of the main task; on disk when this returns.
    pub(crate) async fn deed<T: Send + 'static>(
        &self,
        does: impl FnOnce(&mut Step<'_>) -> T + Send + 'static,
    ) -> Result<T, HubError> {
        self.shared.deed(does).await
    }
}
