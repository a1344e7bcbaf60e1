//! What a state machine keeps of itself.
//!
//! The one idea: what people ask for has tables of its own; what a state machine needs to go on from
//! exactly where it was is written as it is, beside them and in the same
//! [`commit`](crate::State::commit).

use async_trait::async_trait;
use cordon_model::ids::OdsCode;

use crate::state::StoreError;

/// The largest row: 4 MiB, an incident at its limits of 10,000 machines and 1,000 findings four times over.
pub const ROW_BYTES: usize = 4 << 20;

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its kind.
    pub kind: String,
    /// Its id within the kind.
    pub id: String,
    /// What its owner wrote.
    pub document: Vec<u8>,
}

/// Rows of state machines, set and removed by [`Change::Row`](crate::Change::Row).
#[async_trait]
pub trait Rows {
    /// All rows of the organisation, by kind and id. For the start: it is all in memory then.
    async fn rows(&self, organisation: &OdsCode) -> Result<Vec<Row>, StoreError>;

    /// What is kept of one thing: for what its owner has put out of its memory.
    async fn row(
        &self,
        organisation: &OdsCode,
        kind: &str,
        id: &str,
    ) -> Result<Option<Vec<u8>>, StoreError>;
}
