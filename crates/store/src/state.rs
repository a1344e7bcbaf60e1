//! The whole of what a hub keeps, and what can go wrong with it.

use async_trait::async_trait;
use cordon_model::ids::OdsCode;
use cordon_model::time::UtcNanos;
use sha2::{Digest, Sha256};

use crate::change::Change;
use crate::findings::Findings;
use crate::incidents::Incidents;
use crate::machines::Machines;
use crate::orders::Orders;
use crate::organisations::Organisations;
use crate::people::People;
use crate::rows::Rows;
use crate::statements::Statements;

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database says no.
    #[error("the state store failed to {what}")]
    Database {
        /// What was tried.
        what: &'static str,
        /// The database's words.
        #[source]
        source: sqlx::Error,
    },
    /// Its tables can't be brought to this version.
    #[error("the state store can't be brought to this version")]
    Migration(#[source] sqlx::migrate::MigrateError),
    /// Its directory can't be used.
    #[error("can't use {path} for the state store")]
    Directory {
        /// Which.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A row holds what this version can't read.
    #[error("a stored {what} can't be read: {reason}")]
    Unreadable {
        /// What it should be.
        what: &'static str,
        /// The decoder's words.
        reason: String,
    },
    /// A row of one organisation was to be written under another.
    #[error("a {what} of another organisation was refused")]
    WrongOrganisation {
        /// What it was.
        what: &'static str,
    },
    /// The row that this one belongs to is not there.
    #[error("no such {what}")]
    Missing {
        /// What is missing.
        what: &'static str,
    },
    /// Larger than the store takes.
    #[error("a {what} of {bytes} bytes; at most {limit} are taken")]
    TooLarge {
        /// What it is.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Not the place in a list that it should be.
    #[error("that is no place in this list: begin it anew")]
    Cursor,
}

/// How much there is of everything, and of how many (law 12).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Machines enrolled.
    pub machines: u64,
    /// …of which the hub has heard since the time that was asked for.
    pub machines_heard: u64,
    /// …of which it has never heard.
    pub machines_never_heard: u64,
    /// …of which people have said what they are.
    pub machines_assigned: u64,
    /// Machines that at least one acting measure is on.
    pub machines_contained: u64,
    /// Incidents.
    pub incidents: u64,
    /// …of which are not closed.
    pub incidents_open: u64,
    /// …of which nobody has.
    pub incidents_unowned: u64,
    /// Findings.
    pub findings: u64,
    /// …of which belong to no incident yet.
    pub findings_ungrouped: u64,
    /// Questions that wait for people.
    pub approvals_open: u64,
    /// Orders that no machine has taken yet.
    pub orders_waiting: u64,
}

/// All that a hub keeps. One process writes.
#[async_trait]
pub trait State:
    Organisations + Machines + Findings + Incidents + Orders + People + Rows + Statements + Send + Sync
{
    /// Makes all `changes` of `organisation`, or none.
    async fn commit(&self, organisation: &OdsCode, changes: &[Change]) -> Result<(), StoreError>;

    /// Counts; a machine is heard if it was seen at or after `heard_since`.
    async fn counts(
        &self,
        organisation: &OdsCode,
        heard_since: UtcNanos,
    ) -> Result<Counts, StoreError>;

    /// Finishes what is under way and closes the files.
    async fn close(&self);
}

/// The hash under which a secret (a token, a session) is kept: SHA-256. The secrets are 128 random bits
/// or more, made by the hub, so that a slow hash would add nothing; passwords are another matter.
#[must_use]
pub fn secret_hash(secret: &[u8]) -> [u8; 32] {
    Sha256::digest(secret).into()
}
