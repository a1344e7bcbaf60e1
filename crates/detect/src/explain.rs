//! Why a rule matched, or why not.
//!
//! The one idea: the rule's condition is walked again, slowly, by the definitions of its predicates, and
//! each step is kept. Nothing of the fast way is used but the wiring of names, so an explanation is also
//! a second opinion: the tests compare the two.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use cordon_model::event::{Event, Value};
use cordon_model::finding::MatchedField;

use crate::condition::{Condition, PredicateId};
use crate::fold::fold;
use crate::group::{Group, Slot, Wiring};
use crate::matcher::event_id_of;
use crate::predicate::{Predicate, Seen, Test};
use crate::rule::RuleIndex;
use crate::ruleset::RuleSet;
use crate::taxonomy::Reach;

/// Longest value that is shown, in characters: a command line fits; a script is in the raw event.
pub const SHOWN_CHARACTERS: usize = 256;

/// How a rule fares with an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Whether the event is of the rule's log source. If not, it can't match whatever the rest says.
    pub is_of_log_source: bool,
    /// The condition.
    pub condition: Explained,
}

impl Explanation {
    /// Whether the rule matches.
    #[must_use]
    pub fn is_match(&self) -> bool {
        self.is_of_log_source && self.condition.holds
    }
}

/// How a part of a condition fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// Whether it holds.
    pub holds: bool,
    /// What it is.
    pub part: Part,
}

/// A part of a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A question about a field.
    Field {
        /// The field's name; empty for a keyword.
        field: String,
        /// What is asked of it.
        asked: String,
        /// The value that fits, or what is there instead.
        seen: Vec<String>,
    },
    /// A detection by its name.
    Detection(String, Box<Explained>),
    /// All must hold.
    All(Vec<Explained>),
    /// One must hold.
    Any(Vec<Explained>),
    /// So many must hold.
    AtLeast(u64, Vec<Explained>),
    /// It must not hold.
    Not(Box<Explained>),
}

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Of each part what is there.
    Whole,
    /// What is there only where it fits: a rule with hundreds of words would say hundreds of times why not.
    WhatHolds,
}

pub(crate) fn explain(
    rules: &RuleSet,
    event: &Event<'_>,
    rule: RuleIndex,
    reach: Option<(u32, Reach)>,
    depth: Depth,
) -> Option<Explanation> {
    let condition = rules.conditions.get(rule.0 as usize)?;
    // A rule of another log source is explained as if the event's fields had Sigma's names.
    let of_rule = |group: &&Group| group.rules.iter().any(|(index, _)| *index == rule);
    let (group, way) = match reach {
        Some((number, way)) => (rules.groups.get(number as usize)?, way),
        None => (rules.groups.iter().find(of_rule)?, Reach::Direct),
    };
    let copied = RefCell::default();
    let walk = Walk { rules, event, group, wiring: group.wiring(way), depth, copied };
    Some(Explanation { is_of_log_source: reach.is_some(), condition: walk.explain(condition) })
}

pub(crate) fn why(
    rules: &RuleSet,
    event: &Event<'_>,
    rule: RuleIndex,
    reach: Option<(u32, Reach)>,
) -> Vec<MatchedField> {
    let mut matched = Vec::new();
    if let Some(explanation) = explain(rules, event, rule, reach, Depth::WhatHolds)
        && explanation.is_match()
    {
        explanation.condition.reasons(&mut matched);
    }
    matched
}

impl Explained {
    /// The fields that make it hold. What doesn't hold, as it must not, is no reason that can be shown.
    fn reasons(&self, matched: &mut Vec<MatchedField>) {
        if !self.holds {
            return;
        }
        match &self.part {
            Part::Field { field, asked, seen } => {
                let reason = MatchedField {
                    field: field.clone(),
                    value: seen.first().cloned().unwrap_or_default(),
                    pattern: asked.clone(),
                };
                if !matched.contains(&reason) {
                    matched.push(reason);
                }
            }
            Part::Detection(_, inner) => inner.reasons(matched),
            Part::All(parts) | Part::Any(parts) | Part::AtLeast(_, parts) => {
                parts.iter().for_each(|part| part.reasons(matched));
            }
            Part::Not(_) => {}
        }
    }
}

/// What a value in `slot` says, in Sigma's words where the log has others. None if it is null.
pub(crate) fn text_of(value: &Value<'_>, slot: Slot, wiring: &Wiring) -> Option<Box<str>> {
    if matches!(value, Value::Null) {
        return None;
    }
    let copied = Copied::of(value);
    match wiring.word(slot, &copied.folded) {
        Some((word, _)) => Some(word.into()),
        None => Some(copied.text.into()),
    }
}

struct Walk<'a, 'e> {
    rules: &'a RuleSet,
    event: &'a Event<'e>,
    group: &'a Group,
    wiring: &'a Wiring,
    depth: Depth,
    /// What fields' values were copied to; those of the whole event under no name.
    copied: RefCell<HashMap<Option<&'a str>, Rc<[Copied]>>>,
}

/// A value in the forms that tests want, owned.
struct Copied {
    value: Value<'static>,
    text: String,
    folded: String,
}

impl Copied {
    fn of(value: &Value<'_>) -> Self {
        let (value, text) = match value {
            Value::Null => (Value::Null, String::new()),
            Value::Bool(bool) => (Value::Bool(*bool), bool.to_string()),
            Value::Int(whole) => (Value::Int(*whole), whole.to_string()),
            Value::Unsigned(whole) => (Value::Unsigned(*whole), whole.to_string()),
            Value::Float(real) => (Value::Float(*real), real.to_string()),
            Value::Text(text) => {
                (Value::Text(text.clone().into_owned().into()), text.clone().into_owned())
            }
        };
        Self { value, folded: fold(&text), text }
    }

    fn seen(&self) -> Seen<'_> {
        Seen { value: &self.value, text: &self.text, folded: &self.folded }
    }
}

impl<'a> Walk<'a, '_> {
    fn explain(&self, condition: &Condition) -> Explained {
        let all =
            |parts: &[Condition]| parts.iter().map(|part| self.explain(part)).collect::<Vec<_>>();
        match condition {
            Condition::Holds(id) => self.explain_predicate(*id),
            Condition::Named(name, inner) => {
                let inner = self.explain(inner);
                Explained {
                    holds: inner.holds,
                    part: Part::Detection(name.to_string(), Box::new(inner)),
                }
            }
            Condition::Not(inner) => {
                let inner = self.explain(inner);
                Explained { holds: !inner.holds, part: Part::Not(Box::new(inner)) }
            }
            Condition::All(parts) => {
                let parts = all(parts);
                Explained { holds: parts.iter().all(|part| part.holds), part: Part::All(parts) }
            }
            Condition::Any(parts) => {
                let parts = all(parts);
                Explained { holds: parts.iter().any(|part| part.holds), part: Part::Any(parts) }
            }
            Condition::AtLeast(count, parts) => {
                let parts = all(parts);
                let holding = parts.iter().filter(|part| part.holds).count() as u64;
                Explained { holds: holding >= *count, part: Part::AtLeast(*count, parts) }
            }
        }
    }

    fn explain_predicate(&self, id: PredicateId) -> Explained {
        let Some(Predicate { field, test }) = self.rules.predicates.get(id.0 as usize) else {
            let part = Part::Field { field: String::new(), asked: String::new(), seen: Vec::new() };
            return Explained { holds: false, part };
        };
        let values = self.values_of(field.as_deref());
        let fitting: Vec<&Copied> = match test {
            Test::SameAs(reference) => {
                let others = self.values_of(Some(&reference.field));
                let same = |value: &Copied, other: &Copied| {
                    let (text, part) = match reference.cased {
                        true => (&value.text, &other.text),
                        false => (&value.folded, &other.folded),
                    };
                    !value.seen().is_null()
                        && !other.seen().is_null()
                        && reference.place.holds(text, part)
                };
                values
                    .iter()
                    .filter(|value| others.iter().any(|other| same(value, other)))
                    .collect()
            }
            _ => values.iter().filter(|value| test.holds(value.seen())).collect(),
        };
        let holds = !fitting.is_empty() || (matches!(test, Test::Null) && values.is_empty());
        if !holds && self.depth == Depth::WhatHolds {
            let part = Part::Field { field: String::new(), asked: String::new(), seen: Vec::new() };
            return Explained { holds, part };
        }
        // For a field that doesn't fit, what is there; for a keyword that would be the whole event.
        let shown: Vec<&Copied> = match (holds, field) {
            (false, Some(_)) => values.iter().collect(),
            _ => fitting,
        };
        let part = Part::Field {
            field: field.as_deref().unwrap_or_default().to_owned(),
            asked: test.to_string(),
            seen: shown
                .into_iter()
                .map(|value| value.text.chars().take(SHOWN_CHARACTERS).collect())
                .collect(),
        };
        Explained { holds, part }
    }

    /// The values of the field that Sigma calls `name`, or of the whole event.
    fn values_of(&self, name: Option<&'a str>) -> Rc<[Copied]> {
        if let Some(values) = self.copied.borrow().get(&name) {
            return Rc::clone(values);
        }
        let values: Rc<[Copied]> = match name {
            Some(name) => self.copy_of(name).into(),
            None => self.event.fields.iter().map(|(_, value)| Copied::of(value)).collect(),
        };
        self.copied.borrow_mut().insert(name, Rc::clone(&values));
        values
    }

    fn copy_of(&self, name: &str) -> Vec<Copied> {
        let Some(slot) = self.group.slot(name) else { return Vec::new() };
        let feeds = |(field, _): &&(_, _)| self.wiring.slots(*field).any(|fed| fed == slot);
        let mut values: Vec<Copied> =
            self.event.fields.iter().filter(feeds).map(|(_, value)| Copied::of(value)).collect();
        let words: Vec<Copied> = values
            .iter()
            .filter_map(|value| self.wiring.word(slot, &value.folded))
            .map(|(word, _)| Copied::of(&Value::Text(word.into())))
            .collect();
        values.extend(words);
        if values.is_empty()
            && self.group.event_id == Some(slot)
            && let Some(id) = event_id_of(self.rules, self.event)
        {
            values.push(Copied::of(&Value::Unsigned(u64::from(id))));
        }
        values
    }
}
