//! Organisations, their settings and their policies.

use async_trait::async_trait;
use cordon_model::ids::OdsCode;
use cordon_model::signed::Envelope;
use cordon_model::time::UtcNanos;

use crate::key::Key;
use crate::state::StoreError;

/// The largest setting: 1 MiB, a state machine's snapshot of some thousand machines. What grows beyond
/// that deserves a table.
pub const SETTING_BYTES: usize = 1 << 20;

/// Somebody whose machines these are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Organisation {
    /// Its code.
    pub code: OdsCode,
    /// What people call it.
    pub name: String,
    /// Since when it is known here.
    pub created_at: UtcNanos,
}

/// Organisations, their settings and their policies.
#[async_trait]
pub trait Organisations {
    /// Makes the organisation known; its name is changed if it is.
    async fn put_organisation(&self, organisation: &Organisation) -> Result<(), StoreError>;

    /// One organisation.
    async fn organisation(&self, code: &OdsCode) -> Result<Option<Organisation>, StoreError>;

    /// A named value, set by [`Change::Setting`](crate::Change::Setting).
    async fn setting(&self, key: &Key<String>) -> Result<Option<Vec<u8>>, StoreError>;

    /// The newest policy, with its revision.
    async fn policy(&self, organisation: &OdsCode) -> Result<Option<(u64, Envelope)>, StoreError>;
}
