//! A rule's condition as a tree over predicates, and what can be concluded from it before any event.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::pattern::Shape;
use crate::predicate::{Predicate, Test};
use crate::stored::deeper;

/// A predicate's number in the one table of all rules' predicates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PredicateId(pub u32);

/// A condition.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Condition {
    /// The predicate holds.
    Holds(PredicateId),
    /// All hold.
    All(#[serde(deserialize_with = "deeper")] Vec<Condition>),
    /// One or more hold.
    Any(#[serde(deserialize_with = "deeper")] Vec<Condition>),
    /// So many or more hold.
    AtLeast(u64, #[serde(deserialize_with = "deeper")] Vec<Condition>),
    /// It doesn't hold.
    Not(#[serde(deserialize_with = "deeper")] Arc<Condition>),
    /// A detection of the rule, by the name that its author gave.
    Named(Arc<str>, #[serde(deserialize_with = "deeper")] Arc<Condition>),
}

impl Condition {
    /// How many predicates the tree asks, counting repeats, up to `limit`.
    #[must_use]
    pub fn size(&self, limit: usize) -> usize {
        match self {
            Self::Holds(_) => 1,
            Self::Not(inner) | Self::Named(_, inner) => inner.size(limit),
            Self::All(parts) | Self::Any(parts) | Self::AtLeast(_, parts) => {
                let mut sum = 0;
                for part in parts {
                    sum += part.size(limit);
                    if sum > limit {
                        break;
                    }
                }
                sum
            }
        }
    }

    /// The event ids outside of which the condition can't hold, if it names any: what lets a rule be
    /// reached by event id.
    #[must_use]
    pub fn event_ids(&self, predicates: &[Predicate]) -> Option<BTreeSet<u32>> {
        match self {
            Self::Holds(id) => {
                predicates.get(id.0 as usize).and_then(one_event_id).map(|id| [id].into())
            }
            Self::Named(_, inner) => inner.event_ids(predicates),
            Self::Not(_) => None,
            Self::All(parts) => parts
                .iter()
                .filter_map(|part| part.event_ids(predicates))
                .reduce(|left, right| left.intersection(&right).copied().collect()),
            Self::Any(parts) => union(parts, predicates),
            Self::AtLeast(0, _) => None,
            Self::AtLeast(_, parts) => union(parts, predicates),
        }
    }

    /// Calls `visit` with every predicate of the tree.
    pub fn for_each(&self, visit: &mut impl FnMut(PredicateId)) {
        match self {
            Self::Holds(id) => visit(*id),
            Self::Not(inner) | Self::Named(_, inner) => inner.for_each(visit),
            Self::All(parts) | Self::Any(parts) | Self::AtLeast(_, parts) => {
                for part in parts {
                    part.for_each(visit);
                }
            }
        }
    }
}

fn union(parts: &[Condition], predicates: &[Predicate]) -> Option<BTreeSet<u32>> {
    parts.iter().try_fold(BTreeSet::new(), |mut ids, part| {
        ids.extend(part.event_ids(predicates)?);
        Some(ids)
    })
}

/// The field that holds a Windows event's id in Sigma's taxonomy.
pub const EVENT_ID: &str = "EventID";

fn one_event_id(predicate: &Predicate) -> Option<u32> {
    if predicate.field.as_deref() != Some(EVENT_ID) {
        return None;
    }
    let Test::Text(pattern) = &predicate.test else { return None };
    let Shape::Equals(text) = pattern.shape() else { return None };
    // `04624` or `+4624` would be another text than the id has.
    text.parse::<u32>().ok().filter(|id| id.to_string() == text)
}
