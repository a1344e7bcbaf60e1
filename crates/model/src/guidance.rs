//! What a person in front of a machine needs when it is cut off: where to go, whom to ring.
//!
//! The one idea: it is composed and signed ahead, and kept fresh by the hub, because on the day nothing may
//! be looked up on the machine itself. It is a document of its own, and no part of the
//! [`Assignment`](crate::asset::Assignment): the next working machine changes with every neighbour that
//! fails, and an assignment must not change under an isolation that is in force.

use serde::{Deserialize, Serialize};

use crate::ids::{MachineId, OdsCode};
use crate::limits;
use crate::signed::Document;
use crate::time::UtcNanos;

/// Telephone numbers of one machine or organisation: four fit a glance.
pub const MOST_CONTACTS: usize = 4;

/// The longest of these texts, in bytes: two lines of a screen.
pub const LONGEST_TEXT: usize = 160;

/// Somebody to ring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contact {
    /// Who: `Security operations`, `Duty manager`.
    pub who: String,
    /// The number, as people dial it there.
    pub number: String,
}

/// What the organisation says of a machine for the person in front of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bedside {
    /// Where it stands: `Ward 7, bay 2`.
    pub place: Option<String>,
    /// Where to go when no other machine of its kind is known to work.
    pub instead: Option<String>,
    /// Whom to ring about it; none: as the organisation says in its policy.
    pub ring: Vec<Contact>,
}

/// Why a text can't be shown to people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadGuidance {
    /// A text.
    #[error("{what}: 1 to {LONGEST_TEXT} bytes in one line, with no control characters")]
    Text {
        /// Which.
        what: &'static str,
    },
    /// A number that nobody can dial.
    #[error(
        "a telephone number has 2 to 24 digits, blanks, and + ( ) - # * or ext.; this is {0:?}"
    )]
    Number(String),
    /// Too many to ring.
    #[error("{0} to ring, and {MOST_CONTACTS} are taken")]
    TooMany(usize),
}

fn is_text(text: &str) -> bool {
    (1..=LONGEST_TEXT).contains(&text.len()) && !text.chars().any(char::is_control)
}

fn is_number(number: &str) -> bool {
    let known = |c: char| c.is_ascii_digit() || " +()-#*.ext".contains(c);
    (2..=40).contains(&number.len())
        && number.chars().all(known)
        && (2..=24).contains(&number.chars().filter(char::is_ascii_digit).count())
}

/// Accepts whom to ring, or says what is wrong.
///
/// # Errors
/// See [`BadGuidance`].
pub fn check_contacts(ring: &[Contact]) -> Result<(), BadGuidance> {
    if ring.len() > MOST_CONTACTS {
        return Err(BadGuidance::TooMany(ring.len()));
    }
    ring.iter().try_for_each(|contact| {
        if !is_text(&contact.who) {
            return Err(BadGuidance::Text { what: "whom to ring" });
        }
        if is_number(&contact.number) {
            Ok(())
        } else {
            Err(BadGuidance::Number(contact.number.chars().take(40).collect()))
        }
    })
}

impl Bedside {
    /// Accepts the texts, or says what is wrong.
    ///
    /// # Errors
    /// See [`BadGuidance`].
    pub fn check(&self) -> Result<(), BadGuidance> {
        let text = |text: &Option<String>, what| match text {
            Some(text) if !is_text(text) => Err(BadGuidance::Text { what }),
            Some(_) | None => Ok(()),
        };
        text(&self.place, "the place")?;
        text(&self.instead, "where to go instead")?;
        check_contacts(&self.ring)
    }
}

/// The next machine of the same kind that works, as far as the hub could tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nearest {
    /// What people call it.
    pub name: String,
    /// Ward or department.
    pub group: Option<String>,
    /// Where it stands.
    pub place: Option<String>,
}

/// What to tell a person in front of one machine, signed with the command key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guidance {
    /// Whose machine.
    pub organisation: OdsCode,
    /// Which machine.
    pub machine: MachineId,
    /// Counts up; a machine refuses one that is not newer than what it has.
    pub revision: u64,
    /// What people call it.
    pub name: String,
    /// What it is.
    pub kind: Option<String>,
    /// The next of its kind that worked at that time.
    pub nearest: Option<Nearest>,
    /// Where to go when there is none.
    pub instead: Option<String>,
    /// Whom to ring, the first first.
    pub ring: Vec<Contact>,
    /// When it was signed: as old is what it says of the next machine.
    pub issued_at: UtcNanos,
}

impl Guidance {
    /// Whether it says the same, whenever it was signed.
    #[must_use]
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        let same = Self { revision: self.revision, issued_at: self.issued_at, ..other.clone() };
        *self == same
    }

    /// Whether it is small enough to be kept and shown: what the signer makes always is.
    #[must_use]
    pub fn is_bearable(&self) -> bool {
        let nearest = self.nearest.as_ref();
        let texts = [Some(&self.name), self.kind.as_ref(), self.instead.as_ref()]
            .into_iter()
            .chain([
                nearest.map(|nearest| &nearest.name),
                nearest.and_then(|nearest| nearest.group.as_ref()),
                nearest.and_then(|nearest| nearest.place.as_ref()),
            ])
            .flatten();
        texts.into_iter().all(|text| text.len() <= limits::NAME_BYTES)
            && check_contacts(&self.ring).is_ok()
    }
}

impl Document for Guidance {
    const TYPE: &'static str = "application/vnd.cordon.guidance.v1+cbor";

    fn issued_at(&self) -> Option<UtcNanos> {
        Some(self.issued_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contact(number: &str) -> Contact {
        Contact { who: "Security operations".into(), number: number.into() }
    }

    #[test]
    fn a_number_is_one_that_people_dial_and_a_text_is_one_line() {
        for number in ["5555", "020 7946 0000 ext. 12", "+44 (0)20-7946", "*12#"] {
            assert_eq!(check_contacts(&[contact(number)]), Ok(()), "{number}");
        }
        for number in ["", "5", "ring me", "55\n55", "1234567890123456789012345"] {
            assert!(check_contacts(&[contact(number)]).is_err(), "{number:?}");
        }
        assert!(check_contacts(&vec![contact("5555"); MOST_CONTACTS + 1]).is_err());
        let bedside = Bedside { place: Some("Ward 7\u{1b}[2J".into()), ..Bedside::default() };
        assert!(bedside.check().is_err());
        assert_eq!(Bedside { place: Some("Ward 7, bay 2".into()), ..bedside }.check(), Ok(()));
    }
}
