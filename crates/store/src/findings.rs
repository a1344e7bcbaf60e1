//! What machines report, taken exactly once (law 7).
//!
//! A machine numbers its reports and keeps each until it is acknowledged, so a report may come twice.
//! Taking reports stores them and moves the machine's highest number in one transaction: what is at or
//! below the number is on disk, and a repetition changes nothing.

use async_trait::async_trait;
use cordon_model::finding::{Finding, Level, ReceivedFinding};
use cordon_model::ids::{FindingId, IncidentId, MachineId, OdsCode};
use cordon_model::measure::Receipt;
use cordon_model::signed::Verified;
use cordon_model::time::UtcNanos;

use crate::key::{Key, Listed, Page};
use crate::state::StoreError;

/// One numbered report, checked by the hub.
#[derive(Debug, Clone, PartialEq)]
pub struct TakenReport {
    /// The machine's number for it.
    pub number: u64,
    /// What it says.
    pub what: TakenWhat,
}

/// What the store keeps of a report.
#[derive(Debug, Clone, PartialEq)]
pub enum TakenWhat {
    /// A finding.
    Finding(Box<Finding>),
    /// A receipt, opened with the machine's own key. The measure is moved to its state.
    Receipt(Box<Verified<Receipt>>),
    /// Something that is kept elsewhere (a gap, a refused order: the ledger and the orders), or was
    /// refused (law 8): only its number is taken.
    Other,
}

/// What came of taking reports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// The machine's highest number on disk now: what to acknowledge.
    pub reported: u64,
    /// Findings that were not known before, in order.
    pub new_findings: Vec<FindingId>,
    /// Measures whose newest state came with these reports, by number of the report.
    pub new_receipts: Vec<u64>,
    /// Reports that were on disk already.
    pub repeated: u64,
    /// Numbers that the machine passed over: first and last. A gap, to be recorded.
    pub missing: Vec<(u64, u64)>,
}

/// Which findings; what is `None` does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FindingFilter {
    /// Of this machine.
    pub machine: Option<MachineId>,
    /// Of this incident.
    pub incident: Option<IncidentId>,
    /// With this id (several machines may claim one).
    pub id: Option<FindingId>,
    /// At least as serious.
    pub level_at_least: Option<Level>,
}

/// Findings.
#[async_trait]
pub trait Findings {
    /// Takes reports of one machine; numbers must rise.
    async fn take_reports(
        &self,
        machine: &Key<MachineId>,
        received: UtcNanos,
        reports: &[TakenReport],
    ) -> Result<Taken, StoreError>;

    /// Findings, newest first.
    async fn findings(
        &self,
        organisation: &OdsCode,
        filter: &FindingFilter,
        page: &Page,
    ) -> Result<Listed<ReceivedFinding>, StoreError>;

    /// Findings that belong to no incident yet, oldest first, at most [`PAGE_ROWS`](crate::PAGE_ROWS):
    /// what a hub that was killed between taking and grouping takes up again.
    async fn ungrouped_findings(
        &self,
        organisation: &OdsCode,
    ) -> Result<Vec<ReceivedFinding>, StoreError>;
}
