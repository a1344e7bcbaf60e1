//! Machines: how they are enrolled, and what they last said of themselves.

use async_trait::async_trait;
use cordon_model::ids::{MachineId, OdsCode};
use cordon_model::signed::Envelope;
use cordon_model::time::{BootId, UtcNanos};
use cordon_model::wire::{Coverage, Status};
use serde::{Deserialize, Serialize};

use crate::key::{Key, Listed, Page};
use crate::state::StoreError;

/// A leave to enrol one machine, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolmentToken {
    /// [`secret_hash`](crate::secret_hash) of its secret half.
    pub hash: [u8; 32],
    /// Who made it.
    pub made_by: String,
    /// When.
    pub made_at: UtcNanos,
    /// Until when it is good.
    pub expires_at: UtcNanos,
    /// What the hub wants to remember of it (which tier and group the machine is to have…).
    pub note: Vec<u8>,
}

/// Why a token did not enrol a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnrolmentRefused {
    /// There is none such.
    #[error("no such enrolment token")]
    Unknown,
    /// It was used before.
    #[error("the enrolment token has been used")]
    Used,
    /// It is no longer good.
    #[error("the enrolment token has expired")]
    Expired,
}

/// A machine's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCertificate {
    /// SHA-256 of the certificate (DER).
    pub fingerprint: [u8; 32],
    /// Its serial number.
    pub serial: Vec<u8>,
}

/// A machine that enrols.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMachine {
    /// The id that the hub gives it.
    pub id: MachineId,
    /// Its name for itself: shown, never trusted.
    pub host: String,
    /// Its certificate.
    pub certificate: NewCertificate,
    /// Ed25519 key that it signs receipts with.
    pub receipt_key: [u8; 32],
}

/// What a machine last said of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// When the hub heard it.
    pub at: UtcNanos,
    /// Its boot.
    pub boot: BootId,
    /// Build of its agent.
    pub build: String,
    /// What it can see and do.
    pub coverage: Vec<Coverage>,
    /// How it is; `None` between its hello and its first status.
    pub status: Option<Status>,
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Its id.
    pub id: MachineId,
    /// Its name for itself: shown, never trusted.
    pub host: String,
    /// SHA-256 of its certificate.
    pub certificate: [u8; 32],
    /// Its certificate's serial number.
    pub serial: Vec<u8>,
    /// Ed25519 key that it signs receipts with.
    pub receipt_key: [u8; 32],
    /// When it was enrolled.
    pub enrolled_at: UtcNanos,
    /// What it last said; `None` if it never did.
    pub seen: Option<Seen>,
    /// The newest signed assignment; `Err`: it can't be read, in the decoder's words.
    pub assignment: Result<Option<Envelope>, String>,
    /// Highest report number that is on disk.
    pub reported: u64,
}

/// Machines.
#[async_trait]
pub trait Machines {
    /// What a token would enrol, used or not.
    async fn enrolment_token(
        &self,
        key: &Key<[u8; 32]>,
    ) -> Result<Option<EnrolmentToken>, StoreError>;

    /// Uses up the token with this hash and makes the machine known, together or not at all.
    async fn enrol(
        &self,
        token: &Key<[u8; 32]>,
        machine: &NewMachine,
        now: UtcNanos,
    ) -> Result<Result<(), EnrolmentRefused>, StoreError>;

    /// One machine.
    async fn machine(&self, key: &Key<MachineId>) -> Result<Option<Machine>, StoreError>;

    /// The machine whose certificate has this SHA-256.
    async fn machine_with_certificate(
        &self,
        fingerprint: &Key<[u8; 32]>,
    ) -> Result<Option<Machine>, StoreError>;

    /// Machines in the order of enrolment.
    async fn machines(
        &self,
        organisation: &OdsCode,
        page: &Page,
    ) -> Result<Listed<Machine>, StoreError>;
}
