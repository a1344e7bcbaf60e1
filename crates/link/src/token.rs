//! The one line that brings a machine to its hub: where the hub is, which authority it must show, and a
//! secret that works once.
//!
//! Form: `cordon-enrol-1.` and base64url of authority hash (32 bytes), secret (32 bytes) and the
//! addresses as text. Because the authority's hash is in it, the machine can't be lured to another hub.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

const PREFIX: &str = "cordon-enrol-1.";
/// Addresses in one token: a hub has a few.
const MOST_ADDRESSES: usize = 8;

/// An enrolment token. Its text is a secret until it is used.
#[derive(Clone, PartialEq, Eq)]
pub struct EnrolToken {
    /// SHA-256 of the organisation's certificate authority (DER).
    pub authority_sha256: [u8; 32],
    /// What the hub knows the hash of.
    pub secret: [u8; 32],
    /// Where the hub takes enrolments, first choice first.
    pub addresses: Vec<SocketAddr>,
}

/// Why a text is no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token at all.
    #[error("an enrolment token begins with {PREFIX:?}: copy the whole line")]
    NotAToken,
    /// Cut or changed.
    #[error("the enrolment token is damaged: copy the whole line again")]
    Damaged,
}

impl EnrolToken {
    /// The secret as the hub is told it.
    #[must_use]
    pub fn secret_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.secret)
    }
}

impl fmt::Display for EnrolToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [self.authority_sha256, self.secret].concat();
        let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        bytes.extend_from_slice(addresses.join(",").as_bytes());
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl fmt::Debug for EnrolToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the secret: tokens end up in logs by way of Debug.
        f.debug_struct("EnrolToken").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl FromStr for EnrolToken {
    type Err = TokenError;
    fn from_str(text: &str) -> Result<Self, TokenError> {
        let body = text.trim().strip_prefix(PREFIX).ok_or(TokenError::NotAToken)?;
        let bytes = URL_SAFE_NO_PAD.decode(body).map_err(|_| TokenError::Damaged)?;
        let (authority, rest) = bytes.split_first_chunk::<32>().ok_or(TokenError::Damaged)?;
        let (secret, rest) = rest.split_first_chunk::<32>().ok_or(TokenError::Damaged)?;
        let addresses = std::str::from_utf8(rest)
            .map_err(|_| TokenError::Damaged)?
            .split(',')
            .take(MOST_ADDRESSES)
            .map(|address| address.parse().map_err(|_| TokenError::Damaged))
            .collect::<Result<_, _>>()?;
        Ok(Self { authority_sha256: *authority, secret: *secret, addresses })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_being_pasted() {
        let token = EnrolToken {
            authority_sha256: [1; 32],
            secret: [2; 32],
            addresses: vec!["127.0.0.1:8443".parse().unwrap(), "[::1]:8443".parse().unwrap()],
        };
        assert_eq!(format!("  {token}\n").parse(), Ok(token.clone()));
        assert!(!format!("{token:?}").contains("secret"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_a_token_by_accident(text in ".{0,200}") {
            let parsed = format!("{PREFIX}{text}").parse::<EnrolToken>();
            proptest::prop_assert!(parsed.is_err() || text.len() > 80);
        }
    }
}
