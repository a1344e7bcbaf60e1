//! Orders on their way, permits given out, and the measures that came of them.

use async_trait::async_trait;
use cordon_model::action::Action;
use cordon_model::ids::{IncidentId, MachineId, MeasureId, OdsCode, OrderId, PermitId};
use cordon_model::measure::{MeasureState, Receipt};
use cordon_model::signed::Envelope;
use cordon_model::time::UtcNanos;
use serde::{Deserialize, Serialize};

use crate::key::{Key, Listed, Page};
use crate::state::StoreError;

/// Where an order is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum OrderState {
    /// Signed; the machine does not have it yet.
    Waiting,
    /// On the machine's disk.
    Taken,
    /// The machine refused it.
    Refused {
        /// Why.
        why: String,
    },
    /// A newer order took its place before it was taken.
    Superseded,
    /// It could not be delivered in time.
    Expired,
}

/// A signed order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredOrder {
    /// Its id.
    pub id: OrderId,
    /// For which machine.
    pub machine: MachineId,
    /// Its place in that machine's orders.
    pub sequence: u64,
    /// The story that it belongs to.
    pub incident: Option<IncidentId>,
    /// Where it is.
    pub state: OrderState,
    /// The signed order.
    pub envelope: Envelope,
}

/// A signed permit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPermit {
    /// Its id.
    pub id: PermitId,
    /// For which machine.
    pub machine: MachineId,
    /// When it is no longer good.
    pub expires_at: UtcNanos,
    /// The signed permit.
    pub envelope: Envelope,
}

/// A measure as it is known to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredMeasure {
    /// Its id.
    pub id: MeasureId,
    /// On which machine.
    pub machine: MachineId,
    /// What it does.
    pub action: Action,
    /// What it is now.
    pub state: MeasureState,
    /// Whether its machine says that it does not hold it, against what it showed: it counts as no isolation.
    #[serde(default)]
    pub is_denied: bool,
    /// Since when, by the hub's clock.
    pub since: UtcNanos,
    /// What the machine last said of it; `None` before it said anything.
    pub receipt: Option<Receipt>,
}

/// Orders, permits and measures.
#[async_trait]
pub trait Orders {
    /// One order.
    async fn order(&self, key: &Key<OrderId>) -> Result<Option<StoredOrder>, StoreError>;

    /// Orders that the machine has not taken, in sequence.
    async fn waiting_orders(
        &self,
        machine: &Key<MachineId>,
    ) -> Result<Vec<StoredOrder>, StoreError>;

    /// All waiting orders of the organisation, machine by machine, in sequence.
    async fn all_waiting_orders(
        &self,
        organisation: &OdsCode,
    ) -> Result<Vec<StoredOrder>, StoreError>;

    /// The machine's permits that are good at `now`, the longest first.
    async fn permits(
        &self,
        machine: &Key<MachineId>,
        now: UtcNanos,
    ) -> Result<Vec<StoredPermit>, StoreError>;

    /// One measure.
    async fn measure(
        &self,
        key: &Key<(MachineId, MeasureId)>,
    ) -> Result<Option<StoredMeasure>, StoreError>;

    /// A machine's measures, newest first.
    async fn measures_of(
        &self,
        machine: &Key<MachineId>,
        page: &Page,
    ) -> Result<Listed<StoredMeasure>, StoreError>;

    /// Measures of the organisation that are not over, oldest first.
    async fn measures_not_over(
        &self,
        organisation: &OdsCode,
        page: &Page,
    ) -> Result<Listed<StoredMeasure>, StoreError>;

    /// What the machine signed about a measure, in order, at most
    /// [`PAGE_ROWS`](crate::PAGE_ROWS).
    async fn receipts(
        &self,
        key: &Key<(MachineId, MeasureId)>,
    ) -> Result<Vec<Envelope>, StoreError>;

    /// What the machine signed last about a measure.
    async fn newest_receipt(
        &self,
        key: &Key<(MachineId, MeasureId)>,
    ) -> Result<Option<Envelope>, StoreError>;
}
