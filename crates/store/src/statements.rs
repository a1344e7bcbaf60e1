//! What was shown and said of a machine on its way back to service: kept in order, and for good.

use async_trait::async_trait;
use cordon_model::gate::Statement;
use cordon_model::ids::MachineId;

use crate::key::{Key, Listed, Page};
use crate::state::StoreError;

/// Statements, added by [`Change::Statement`](crate::Change::Statement).
#[async_trait]
pub trait Statements {
    /// A machine's statements, newest first.
    async fn statements(
        &self,
        machine: &Key<MachineId>,
        page: &Page,
    ) -> Result<Listed<Statement>, StoreError>;
}
