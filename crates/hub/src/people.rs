//! Who asks: a signed-in person, or somebody at the hub's own command line.
//!
//! The one idea: what a person may do is checked in the [`Hub`](crate::Hub) handle itself, so that
//! console, API and command line can't differ. Secrets (sign-in links, sessions) are 256 random bits,
//! kept as hashes, and shown once.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cordon_model::order::Approver;
use cordon_model::record::Actor;
use cordon_model::time::UtcNanos;
use cordon_respond::approval::Identity;
use cordon_store::{Role, Session};

use crate::error::HubError;

/// The longest that a sign-in link or an enrolment token may be good: 30 days.
pub(crate) const LONGEST_TOKEN: Duration = Duration::from_secs(30 * 24 * 3600);

/// Somebody who asks the hub for something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    name: String,
    role: Role,
    is_clinical: bool,
    is_local: bool,
}

impl Who {
    /// The person of a session.
    #[must_use]
    pub fn of(session: &Session) -> Self {
        Self {
            name: session.person.name.clone(),
            role: session.person.role,
            is_clinical: session.person.is_clinical,
            is_local: false,
        }
    }

    /// Somebody at the hub's own command line, whom the system's user `account` names: whoever may open
    /// the control socket administers the hub. Never clinical: that is said of a person, not of a user.
    #[must_use]
    pub fn local(account: &str) -> Self {
        Self {
            name: format!("{account} (command line)"),
            role: Role::Administrator,
            is_clinical: false,
            is_local: true,
        }
    }

    /// Sign-in name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether this person may do what `role` may.
    #[must_use]
    pub fn may(&self, role: Role) -> bool {
        self.role >= role
    }

    pub(crate) fn must(&self, role: Role) -> Result<(), HubError> {
        if self.may(role) { Ok(()) } else { Err(HubError::NotAllowed { needs: role }) }
    }

    pub(crate) fn actor(&self) -> Actor {
        if self.is_local {
            Actor::LocalOperator(self.name.clone())
        } else {
            Actor::Person(self.name.clone())
        }
    }

    /// How sure it is who this is.
    pub(crate) fn identity(&self) -> Identity {
        if self.is_local { Identity::Account } else { Identity::Session }
    }

    pub(crate) fn approver(&self) -> Approver {
        Approver { name: self.name.clone(), is_clinical: self.is_clinical }
    }
}

/// 256 random bits that open something. Shown once; never in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 32]);

impl Secret {
    pub(crate) fn new() -> Result<Self, HubError> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)
            .map_err(|error| HubError::Invalid { what: "randomness", why: error.to_string() })?;
        Ok(Self(bytes))
    }

    /// The secret as text, for a link or a cookie.
    #[must_use]
    pub fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    pub(crate) fn bytes(&self) -> [u8; 32] {
        self.0
    }

    /// The hash of the secret that `text` should be; `None` if it is none.
    pub(crate) fn hash_of(text: &str) -> Option<[u8; 32]> {
        let mut bytes = [0; 32];
        // Decoded into its exact size: a longer text is refused before anything is allocated for it.
        match URL_SAFE_NO_PAD.decode_slice(text.trim(), &mut bytes) {
            Ok(32) => Some(cordon_store::secret_hash(&bytes)),
            _ => None,
        }
    }

    pub(crate) fn hash(&self) -> [u8; 32] {
        cordon_store::secret_hash(&self.0)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A one-time sign-in link's secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignIn {
    /// What the link carries.
    pub token: Secret,
    /// Whose it is.
    pub name: String,
    /// Until when.
    pub expires_at: UtcNanos,
}

/// A session that has just begun.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// What the cookie carries.
    pub secret: Secret,
    /// Whose it is and until when.
    pub session: Session,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_survives_as_text_and_never_shows_in_debug() {
        let secret = Secret([9; 32]);
        assert_eq!(Secret::hash_of(&secret.text()), Some(secret.hash()));
        assert!(!format!("{secret:?}").contains(&secret.text()));
    }

    proptest::proptest! {
        #[test]
        fn no_text_of_another_length_is_a_secret(text in ".{0,100}") {
            let is_one = Secret::hash_of(&text).is_some();
            proptest::prop_assert!(!is_one || text.trim().len() == 43);
        }
    }
}
