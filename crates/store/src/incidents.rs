//! Stories with their timelines, and questions to people.

use async_trait::async_trait;
use cordon_model::ids::{ApprovalId, IncidentId, OdsCode};
use cordon_model::incident::{Incident, IncidentState};
use cordon_model::record::Record;
use cordon_model::time::UtcNanos;

use crate::key::{Key, Listed, Page};
use crate::state::StoreError;

/// A question to people. What is asked and answered is the caller's (`respond::approval`): the store
/// keeps it as it is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredApproval {
    /// Its id.
    pub id: ApprovalId,
    /// Whether it waits for an answer.
    pub is_open: bool,
    /// Until when.
    pub expires_at: UtcNanos,
    /// The incident that it belongs to.
    pub incident: Option<IncidentId>,
    /// Whether it is over and counts all the same, for something lies on it that is still to be asked about.
    pub is_left: bool,
    /// The question with its answers, encoded by the caller.
    pub document: Vec<u8>,
}

/// Which incidents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IncidentFilter {
    /// All.
    #[default]
    Any,
    /// Those that are not closed.
    Open,
    /// Those in one state.
    In(IncidentState),
}

/// Incidents and approvals.
#[async_trait]
pub trait Incidents {
    /// One incident.
    async fn incident(&self, key: &Key<IncidentId>) -> Result<Option<Incident>, StoreError>;

    /// Incidents, the newest (by when it was opened) first.
    async fn incidents(
        &self,
        organisation: &OdsCode,
        filter: IncidentFilter,
        page: &Page,
    ) -> Result<Listed<Incident>, StoreError>;

    /// What happened in an incident, in order.
    async fn timeline(
        &self,
        key: &Key<IncidentId>,
        page: &Page,
    ) -> Result<Listed<Record>, StoreError>;

    /// One question.
    async fn approval(&self, key: &Key<ApprovalId>) -> Result<Option<StoredApproval>, StoreError>;

    /// Questions that may count still, oldest first: those that wait, those that are left, and all of incidents that
    /// are not closed.
    async fn approvals_that_count(
        &self,
        organisation: &OdsCode,
        page: &Page,
    ) -> Result<Listed<StoredApproval>, StoreError>;

    /// Questions of an incident, oldest first.
    async fn approvals_of(
        &self,
        key: &Key<IncidentId>,
        page: &Page,
    ) -> Result<Listed<StoredApproval>, StoreError>;

    /// Questions, oldest first; only those that wait, or all.
    async fn approvals(
        &self,
        organisation: &OdsCode,
        only_open: bool,
        page: &Page,
    ) -> Result<Listed<StoredApproval>, StoreError>;
}
