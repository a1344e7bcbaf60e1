//! People, how they sign in, and their sessions. Secrets are here as hashes only.

use async_trait::async_trait;
use cordon_model::ids::OdsCode;
use cordon_model::time::UtcNanos;
use serde::{Deserialize, Serialize};

use crate::key::{Key, Listed, Page};
use crate::state::StoreError;

/// What a person may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Look.
    Viewer,
    /// Look, and propose and answer.
    Responder,
    /// All that, and enrol machines, say what they are, and set the policy.
    Administrator,
}

impl Role {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Responder => "responder",
            Self::Administrator => "administrator",
        }
    }
}

/// A person.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// Sign-in name.
    pub name: String,
    /// What the person may do.
    pub role: Role,
    /// Whether the person may answer for patients' safety.
    pub is_clinical: bool,
    /// Whether the person may sign in.
    pub is_active: bool,
    /// Argon2 hash of the password (PHC string); `None`: only one-time tokens.
    pub password: Option<String>,
    /// Since when the person is known here.
    pub created_at: UtcNanos,
}

impl std::fmt::Debug for Person {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A hash is no secret, and no log needs it.
        f.debug_struct("Person")
            .field("name", &self.name)
            .field("role", &self.role)
            .field("is_clinical", &self.is_clinical)
            .field("is_active", &self.is_active)
            .finish_non_exhaustive()
    }
}

/// A signed-in person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Who.
    pub person: Person,
    /// Since when.
    pub begun_at: UtcNanos,
    /// Until when.
    pub expires_at: UtcNanos,
}

/// People and sessions.
#[async_trait]
pub trait People {
    /// One person.
    async fn person(&self, key: &Key<String>) -> Result<Option<Person>, StoreError>;

    /// People by name.
    async fn people(
        &self,
        organisation: &OdsCode,
        page: &Page,
    ) -> Result<Listed<Person>, StoreError>;

    /// Keeps a one-time sign-in token (by its hash) for a person.
    async fn put_sign_in_token(
        &self,
        token: &Key<[u8; 32]>,
        name: &str,
        expires_at: UtcNanos,
    ) -> Result<(), StoreError>;

    /// Uses up a sign-in token, and says whose it was; `None` if there is none that is good, or the
    /// person may not sign in.
    async fn use_sign_in_token(
        &self,
        token: &Key<[u8; 32]>,
        now: UtcNanos,
    ) -> Result<Option<Person>, StoreError>;

    /// Begins a session (by the hash of its secret).
    async fn begin_session(
        &self,
        session: &Key<[u8; 32]>,
        name: &str,
        now: UtcNanos,
        expires_at: UtcNanos,
    ) -> Result<(), StoreError>;

    /// The session with this hash, if it is good and its person may still sign in.
    async fn session(
        &self,
        session: &Key<[u8; 32]>,
        now: UtcNanos,
    ) -> Result<Option<Session>, StoreError>;

    /// Ends a session.
    async fn end_session(&self, session: &Key<[u8; 32]>) -> Result<(), StoreError>;

    /// Removes sessions and tokens that ended before `now`, and says how many.
    async fn forget_expired(
        &self,
        organisation: &OdsCode,
        now: UtcNanos,
    ) -> Result<u64, StoreError>;
}
