//! Names of things. An id finds a thing; it is never authority to do anything to it.
//!
//! Random ids are UUIDv7 (RFC 9562 section 5.7), built from a time and randomness that the caller
//! passes in, so that the simulator can replay them. A finding's id is instead the hash of its rule
//! and event: the same finding reported twice is one finding.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::time::UtcNanos;

/// Why a text is not the id that it claims to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {form}, got {got:?}")]
pub struct IdError {
    what: &'static str,
    form: &'static str,
    got: String,
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A UUIDv7 for `now` with `randomness` (74 of the 80 bits are used).
            #[must_use]
            pub fn new(now: UtcNanos, randomness: [u8; 10]) -> Self {
                let millis = now.unix_millis();
                Self(uuid::Builder::from_unix_timestamp_millis(millis, &randomness).into_uuid())
            }

            /// The sixteen bytes, in network order.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// When it was made, to the millisecond, by the clock of whoever made it.
            #[must_use]
            pub fn made_at(&self) -> UtcNanos {
                let mut millis = [0; 8];
                millis[2..].copy_from_slice(&self.as_bytes()[..6]);
                let nanos = u64::from_be_bytes(millis).saturating_mul(1_000_000);
                UtcNanos::from_unix_nanos(i64::try_from(nanos).unwrap_or(i64::MAX))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0.hyphenated(), f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($what, "({})"), self.0.hyphenated())
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Uuid::parse_str(text).map(Self).map_err(|_| IdError {
                    what: $what,
                    form: "a UUID",
                    got: text.chars().take(64).collect(),
                })
            }
        }
    };
}

uuid_id!(
    /// A machine that has an agent. Given by the hub at enrolment, bound to the agent's certificate.
    MachineId, "machine"
);
uuid_id!(
    /// A story: findings that belong together.
    IncidentId, "incident"
);
uuid_id!(
    /// A signed instruction for one target.
    OrderId, "order"
);
uuid_id!(
    /// An effect on a machine. It is the id of the order or permit use that began it.
    MeasureId, "measure"
);
uuid_id!(
    /// A leave, signed ahead, for a machine to segment itself when no hub is in reach.
    PermitId, "permit"
);
uuid_id!(
    /// A question to people that waits for an answer.
    ApprovalId, "approval"
);

impl From<OrderId> for MeasureId {
    /// The measure that an order begins.
    fn from(order: OrderId) -> Self {
        Self(order.0)
    }
}

impl From<PermitId> for MeasureId {
    /// The measure that the (one) use of a permit begins.
    fn from(permit: PermitId) -> Self {
        Self(permit.0)
    }
}

/// A finding: the first 16 bytes of SHA-256 over rule id and event hash, so that doubles fold.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FindingId(#[serde(with = "hex_16")] [u8; 16]);

impl FindingId {
    /// The id of the finding that `rule_id` makes of the event whose raw bytes hash to `event_sha256`
    /// on `host`.
    #[must_use]
    pub fn of(rule_id: &str, host: &str, event_sha256: &[u8; 32]) -> Self {
        let mut hash = Sha256::new();
        for part in [rule_id.as_bytes(), host.as_bytes(), event_sha256] {
            // Length-prefixed, so that no two inputs run together to the same bytes.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let digest = hash.finalize();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        Self(id)
    }
}

impl FindingId {
    /// The raw bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for FindingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for FindingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "finding({self})")
    }
}

impl FromStr for FindingId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        parse_hex_16(text).map(Self).ok_or_else(|| IdError {
            what: "finding",
            form: "32 hexadecimal digits",
            got: text.chars().take(64).collect(),
        })
    }
}

fn parse_hex_16(text: &str) -> Option<[u8; 16]> {
    if text.len() != 32 || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; 16];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[index * 2..index * 2 + 2], 16).ok()?;
    }
    Some(bytes)
}

mod hex_16 {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub fn serialize<S: Serializer>(bytes: &[u8; 16], to: S) -> Result<S::Ok, S::Error> {
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        to.serialize_str(&text)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 16], D::Error> {
        let text = String::deserialize(from)?;
        super::parse_hex_16(&text).ok_or_else(|| D::Error::custom("expected 32 hexadecimal digits"))
    }
}

/// An organisation by its ODS code (Organisation Data Service): 2 to 12 capital letters and digits.
///
/// ODS codes are three to eight characters today (`RJ1`, `A81001`, `X2610001`); the limit leaves
/// room, and the alphabet keeps a code safe in a path or a key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OdsCode(String);

impl OdsCode {
    /// The code as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for OdsCode {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let in_alphabet = text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
        if (2..=12).contains(&text.len()) && in_alphabet {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdError {
                what: "ODS code",
                form: "2 to 12 capital letters and digits, such as RJ1",
                got: text.chars().take(64).collect(),
            })
        }
    }
}

impl TryFrom<String> for OdsCode {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<OdsCode> for String {
    fn from(code: OdsCode) -> Self {
        code.0
    }
}

impl fmt::Display for OdsCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for OdsCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_of_the_same_rule_and_event_has_the_same_id() {
        let event = [7; 32];
        assert_eq!(FindingId::of("r", "h", &event), FindingId::of("r", "h", &event));
        assert_ne!(FindingId::of("rh", "", &event), FindingId::of("r", "h", &event));
    }

    #[test]
    fn ids_survive_text_and_back() {
        let machine = MachineId::new(UtcNanos::from_unix_nanos(1_700_000_000_000_000_000), [9; 10]);
        assert_eq!(machine.to_string().parse(), Ok(machine));
        assert_eq!(machine.made_at().unix_nanos(), 1_700_000_000_000_000_000);
        let finding = FindingId::of("r", "h", &[1; 32]);
        assert_eq!(finding.to_string().parse(), Ok(finding));
    }

    #[test]
    fn an_ods_code_cannot_be_a_path() {
        for bad in ["", "R", "../../etc", "rj1", "RJ1 ", "RJ1/..", "ABCDEFGHIJKLM"] {
            assert!(bad.parse::<OdsCode>().is_err(), "{bad}");
        }
        assert!("RJ1".parse::<OdsCode>().is_ok());
    }
}
