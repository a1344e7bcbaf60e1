//! Compiled rules as bytes, and back: for whoever starts often with the same rules.
//!
//! The one idea: what is stored is the compiled set itself, all its tables, so that nothing is parsed and
//! nothing searched when it is read. Only regular expressions are stored as their texts, and compiled when an
//! event first needs one.
//!
//! The bytes say nothing of whether they are to be trusted. Reading them never panics and always ends, but a
//! set that somebody else wrote has the rules that he wanted: keep them where only their owner writes, beside a
//! checksum, and under a name made of [`FORMAT`] and of all that the set was compiled from.

use std::cell::Cell;

use cordon_model::event::{FieldId, FieldTable};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::rule::Refusal;
use crate::ruleset::RuleSet;

/// Tells one version of the engine from another: made of its source texts and its dependencies' versions. A set
/// that was stored by another version is never read.
pub const FORMAT: &str = env!("CORDON_DETECT_SOURCES");

/// How deep conditions are stored in one another: the parser's 64 brackets within brackets, each with an `and`,
/// an `or` and a `not`, above [`NESTING`](crate::NESTING) lists.
const DEPTH: u32 = 400;

/// Compiled rules and what was said of the others.
#[derive(Debug, Serialize, Deserialize)]
pub struct Stored<Set = RuleSet, Refusals = Vec<Refusal>> {
    /// The rules.
    pub set: Set,
    /// What was refused.
    pub refusals: Refusals,
    /// How many rules their authors withdrew.
    pub withdrawn: usize,
}

impl Stored<&RuleSet, &[Refusal]> {
    /// As bytes; none if they can't be, which no set that was compiled brings about.
    #[must_use]
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        postcard::to_allocvec(self).ok()
    }
}

impl Stored {
    /// What [`to_bytes`](Stored::to_bytes) of the same [`FORMAT`] wrote; none if it is anything else.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (stored, rest) = postcard::take_from_bytes::<Self>(bytes).ok()?;
        (rest.is_empty() && stored.set.names_rules_that_are_there()).then_some(stored)
    }
}

thread_local! {
    static IN: Cell<u32> = const { Cell::new(0) };
}

/// Reads what is a level deeper, as long as that is no deeper than [`DEPTH`]: the stack is not the bytes' to
/// use up.
pub(crate) fn deeper<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    let depth = IN.get() + 1;
    if depth > DEPTH {
        return Err(serde::de::Error::custom("conditions too deep in one another"));
    }
    IN.set(depth);
    let read = T::deserialize(deserializer);
    IN.set(depth - 1);
    read
}

/// A table of fields is its names, in order.
pub(crate) mod names {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(fields: &FieldTable, to: S) -> Result<S::Ok, S::Error> {
        let names = (0..fields.len() as u32).filter_map(|number| fields.name(FieldId(number)));
        names.collect::<Vec<&str>>().serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<FieldTable, D::Error> {
        let mut fields = FieldTable::default();
        for name in Vec::<&str>::deserialize(from)? {
            fields.intern(name);
        }
        Ok(fields)
    }
}

/// A field by its number.
pub(crate) mod field {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(
        field: &Option<FieldId>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        field.map(|field| field.0).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<FieldId>, D::Error> {
        Ok(Option::deserialize(from)?.map(FieldId))
    }
}

/// Which fields feed which slots.
pub(crate) mod fed {
    use super::*;
    use crate::group::Slot;

    pub(crate) fn serialize<S: Serializer>(
        fed: &[(FieldId, Slot)],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        fed.iter().map(|(field, slot)| (field.0, *slot)).collect::<Vec<_>>().serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Box<[(FieldId, Slot)]>, D::Error> {
        let fed = Vec::<(u32, Slot)>::deserialize(from)?;
        Ok(fed.into_iter().map(|(field, slot)| (FieldId(field), slot)).collect())
    }
}

#[cfg(test)]
mod tests {
    use crate::condition::Condition;

    /// A level is stored by its place among `model`'s levels.
    #[test]
    fn the_format_is_another_one_with_other_words_in_the_model() {
        assert!(
            env!("CORDON_DETECT_OF_MODEL").parse::<u32>().unwrap() > 10,
            "no source of the model"
        );
    }

    #[test]
    fn conditions_in_one_another_without_end_are_not_read() {
        // "Not" is the fifth kind of condition, "Holds" the first: not not … not the predicate 0.
        let nots = |depth: usize| [vec![4; depth], vec![0, 0]].concat();
        assert!(postcard::from_bytes::<Condition>(&nots(300)).is_ok());
        assert!(postcard::from_bytes::<Condition>(&nots(1_000_000)).is_err());
        assert!(
            postcard::from_bytes::<Condition>(&nots(300)).is_ok(),
            "and the next is read again"
        );
    }
}
