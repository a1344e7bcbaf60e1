//! What a machine says of the measures on it, now.
//!
//! The one idea (laws 4 and 12): "nothing is in force" is the word of whoever holds the rules, and "nobody
//! could be asked" is another. They are different words, so that no screen can take one for the other.

use serde::{Deserialize, Serialize};

use crate::action::ActionKind;
use crate::ids::MeasureId;
use crate::limits;
use crate::measure::Isolation;
use crate::time::BootNanos;

/// What is in force on a machine, by its own word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Holds {
    /// Its helper was asked: these are in force or on their way into the kernel, and no others. At most
    /// [`limits::HOLDINGS_PER_MACHINE`].
    Measures(Vec<Holding>),
    /// Its helper could not be asked, or can't account for what the kernel holds.
    Unknown {
        /// Why, in words.
        why: String,
    },
}

/// One measure that a machine holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holding {
    /// Which.
    pub measure: MeasureId,
    /// What kind of thing it does.
    pub kind: ActionKind,
    /// How far it isolates, if that is what it does.
    pub isolation: Option<Isolation>,
    /// When its lease ends.
    pub lease_ends: BootNanos,
}

impl Holds {
    /// The helper was asked, and holds nothing.
    pub const NOTHING: Self = Self::Measures(Vec::new());

    /// What is held, as far as it is known: nothing while it is unknown.
    #[must_use]
    pub fn known(&self) -> &[Holding] {
        match self {
            Self::Measures(held) => held,
            Self::Unknown { .. } => &[],
        }
    }

    /// Why it is not known, if it is not.
    #[must_use]
    pub fn unknown(&self) -> Option<&str> {
        match self {
            Self::Measures(_) => None,
            Self::Unknown { why } => Some(why),
        }
    }

    /// Whether the helper was asked and holds nothing.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        matches!(self, Self::Measures(held) if held.is_empty())
    }

    /// One measure, if it is held.
    #[must_use]
    pub fn holding(&self, measure: MeasureId) -> Option<&Holding> {
        self.known().iter().find(|held| held.measure == measure)
    }

    /// The strongest isolation that is known to be held.
    #[must_use]
    pub fn isolation(&self) -> Option<Isolation> {
        self.known().iter().filter_map(|held| held.isolation).max()
    }

    /// When the first lease ends of what stays in force until then.
    #[must_use]
    pub fn lease_ends(&self) -> Option<BootNanos> {
        let stays = self.known().iter().filter(|held| !held.kind.is_done_at_once());
        stays.map(|held| held.lease_ends).min()
    }

    /// Whether it is of a size that a border lets through.
    #[must_use]
    pub fn is_within_limits(&self) -> bool {
        match self {
            Self::Measures(held) => held.len() <= limits::HOLDINGS_PER_MACHINE,
            Self::Unknown { why } => why.len() <= limits::NAME_BYTES,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::UtcNanos;

    #[test]
    fn what_is_not_known_is_not_nothing() {
        let unknown = Holds::Unknown { why: "the helper does not answer".into() };
        assert!(Holds::NOTHING.is_nothing() && !unknown.is_nothing());
        assert_eq!((Holds::NOTHING.unknown(), unknown.isolation()), (None, None));
        assert!(unknown.unknown().is_some());
    }

    #[test]
    fn of_several_the_strongest_and_the_first_end_are_said() {
        let held = |number, isolation, ends| Holding {
            measure: MeasureId::new(UtcNanos::from_unix_nanos(0), [number; 10]),
            kind: ActionKind::Isolate,
            isolation: Some(isolation),
            lease_ends: BootNanos(ends),
        };
        let kill =
            Holding { kind: ActionKind::Kill, isolation: None, ..held(3, Isolation::Full, 1) };
        let holds = Holds::Measures(vec![
            held(1, Isolation::Full, 9),
            held(2, Isolation::Segment, 5),
            kill,
        ]);
        assert_eq!(holds.isolation(), Some(Isolation::Full));
        assert_eq!(holds.lease_ends(), Some(BootNanos(5)), "what is done at once ends by itself");
        assert!(holds.holding(held(2, Isolation::Full, 0).measure).is_some());
        let many = Holds::Measures(vec![kill; limits::HOLDINGS_PER_MACHINE + 1]);
        assert!(holds.is_within_limits() && !many.is_within_limits());
    }
}
