//! A parsed rule to a condition over interned predicates.
//!
//! The one idea: what the rule says is translated whole or refused whole. Nothing that isn't understood
//! is skipped, because a rule that is half understood is silent when it matters, or cries when it
//! doesn't.

use std::collections::HashMap;
use std::sync::Arc;

use rsigma_parser::{
    ConditionExpr, Detection, DetectionItem, Detections, FieldSpec, Quantifier, SelectorPattern,
};

use crate::budget::{Budget, DETECTIONS};
use crate::condition::{Condition, PredicateId};
use crate::modifiers::translate;
use crate::placeholders::Placeholders;
use crate::predicate::{Predicate, Test};

/// Most predicates that one rule may ask, repeats counted. SigmaHQ's largest asks about 1,400.
pub const PREDICATES_A_RULE: usize = 20_000;

/// Every predicate of all rules, each once.
#[derive(Debug, Default)]
pub struct Predicates {
    all: Vec<Predicate>,
    numbers: HashMap<Predicate, PredicateId>,
}

impl Predicates {
    /// The number of `predicate`, given now if it had none.
    pub fn intern(&mut self, predicate: Predicate) -> PredicateId {
        if let Some(id) = self.numbers.get(&predicate) {
            return *id;
        }
        let id = PredicateId(u32::try_from(self.all.len()).unwrap_or(u32::MAX));
        self.all.push(predicate.clone());
        self.numbers.insert(predicate, id);
        id
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.all.len()
    }

    /// Forgets all but the first `count`: those of a rule that was refused in the end.
    pub(crate) fn forget_after(&mut self, count: usize) {
        for predicate in self.all.drain(count.min(self.all.len())..) {
            self.numbers.remove(&predicate);
        }
    }

    /// The predicates by number.
    #[must_use]
    pub fn all(&self) -> &[Predicate] {
        &self.all
    }

    /// The predicates by number, for good.
    #[must_use]
    pub fn into_all(self) -> Vec<Predicate> {
        self.all
    }
}

/// Why a rule can't be translated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong, in a rule author's words.
    pub reason: String,
    /// A text of the rule near the fault, to find its line by.
    pub near: Option<String>,
}

impl Fault {
    fn at(reason: impl Into<String>, near: impl Into<String>) -> Self {
        Self { reason: reason.into(), near: Some(near.into()) }
    }
}

/// The condition of a rule's or a filter's detections.
///
/// # Errors
/// What can't be translated, and near which text of the rule.
pub(crate) fn condition_of(
    detection: &Detections,
    placeholders: &Placeholders,
    predicates: &mut Predicates,
    budget: &mut Budget,
) -> Result<Condition, Fault> {
    if detection.named.len() > DETECTIONS {
        let reason = format!("the rule has more than {DETECTIONS} detections: split it");
        return Err(Fault::at(reason, "detection"));
    }
    if detection.timeframe.is_some() {
        return Err(Fault::at(
            "`timeframe` belongs to aggregations, which Sigma has replaced by correlation rules",
            "timeframe",
        ));
    }
    let mut detections: Vec<(Arc<str>, Arc<Condition>)> = Vec::new();
    // By name, so that the same rule always gives the same plan.
    let mut named: Vec<_> = detection.named.iter().collect();
    named.sort_by_key(|(name, _)| *name);
    for (name, detection) in named {
        let mut lowering = Lowering { placeholders, predicates, budget };
        let condition = lowering.detection(detection).map_err(|mut fault| {
            fault.reason = format!("in `{name}`: {}", fault.reason);
            fault.near.get_or_insert_with(|| name.clone());
            fault
        })?;
        detections.push((Arc::from(name.as_str()), Arc::new(condition)));
    }
    let mut alternatives = Vec::new();
    let mut left = PREDICATES_A_RULE;
    for expression in &detection.conditions {
        let condition = expression_over(expression, &detections, &mut left)
            .map_err(|reason| Fault::at(format!("in `condition`: {reason}"), "condition"))?;
        alternatives.push(condition);
    }
    let condition = match alternatives.len() {
        0 => return Err(Fault::at("there is no condition", "condition")),
        1 => alternatives.remove(0),
        _ => Condition::Any(alternatives),
    };
    if condition.size(PREDICATES_A_RULE) > PREDICATES_A_RULE {
        return Err(Fault::at(
            format!("the rule asks more than {PREDICATES_A_RULE} things: split it"),
            "condition",
        ));
    }
    Ok(condition)
}

struct Lowering<'a> {
    placeholders: &'a Placeholders,
    predicates: &'a mut Predicates,
    budget: &'a mut Budget,
}

impl Lowering<'_> {
    fn detection(&mut self, detection: &Detection) -> Result<Condition, Fault> {
        match detection {
            Detection::AllOf(items) => {
                let lines: Vec<Condition> =
                    items.iter().map(|item| self.line(item)).collect::<Result<_, _>>()?;
                joined(lines, Condition::All)
            }
            Detection::And(parts) => {
                let parts =
                    parts.iter().map(|part| self.detection(part)).collect::<Result<_, _>>()?;
                joined(parts, Condition::All)
            }
            Detection::AnyOf(parts) => {
                let parts =
                    parts.iter().map(|part| self.detection(part)).collect::<Result<_, _>>()?;
                joined(parts, Condition::Any)
            }
            Detection::Keywords(values) => self.line(&DetectionItem {
                field: FieldSpec::new(None, Vec::new()),
                values: values.clone(),
            }),
            Detection::ArrayMatch { field, .. } => Err(Fault::at(
                format!("`{field}[…]`: matching the members of an array isn't part of Sigma 2"),
                field.clone(),
            )),
            Detection::Conditional { .. } => Err(Fault {
                reason: "a condition inside a detection isn't part of Sigma 2".into(),
                near: None,
            }),
        }
    }

    fn line(&mut self, item: &DetectionItem) -> Result<Condition, Fault> {
        let field: Option<Box<str>> = item.field.name.as_deref().map(|name| unescaped(name).into());
        let shown = item.field.name.clone().unwrap_or_else(|| "keywords".into());
        let line = translate(item, self.placeholders, self.budget).map_err(|reason| Fault {
            reason: format!("{shown}: {reason}"),
            near: item.field.name.clone(),
        })?;
        let tests: Vec<Condition> = line
            .tests
            .into_iter()
            .map(|(test, expected)| {
                let holds = Condition::Holds(
                    self.predicates.intern(Predicate { field: field.clone(), test }),
                );
                if expected { holds } else { Condition::Not(Arc::new(holds)) }
            })
            .collect();
        let joined = joined(tests, if line.all { Condition::All } else { Condition::Any })?;
        if !line.negated {
            return Ok(joined);
        }
        // `neq`: the field is there and is none of the values. A comparison with what isn't there
        // holds no more than `lt` does.
        let Some(field) = field else {
            return Err(Fault { reason: "`neq` needs a field".into(), near: None });
        };
        let exists = self.predicates.intern(Predicate { field: Some(field), test: Test::Exists });
        Ok(Condition::All(vec![Condition::Holds(exists), Condition::Not(Arc::new(joined))]))
    }
}

fn joined(
    mut parts: Vec<Condition>,
    join: impl FnOnce(Vec<Condition>) -> Condition,
) -> Result<Condition, Fault> {
    match parts.len() {
        0 => Err(Fault { reason: "it is empty".into(), near: None }),
        1 => Ok(parts.remove(0)),
        _ => Ok(join(parts)),
    }
}

/// A field's name as the author wrote it: the parser escapes brackets, which have a meaning of their
/// own in later drafts of Sigma only.
fn unescaped(name: &str) -> String {
    name.replace("\\[", "[").replace("\\]", "]")
}

fn expression_over(
    expression: &ConditionExpr,
    detections: &[(Arc<str>, Arc<Condition>)],
    left: &mut usize,
) -> Result<Condition, String> {
    // Each detection that it names asks one thing or more; `1 of them` may stand in it thousands of times.
    let take = |count: usize, left: &mut usize| -> Result<(), String> {
        *left = left.checked_sub(count).ok_or_else(|| {
            format!("it asks more than {PREDICATES_A_RULE} things: split the rule")
        })?;
        Ok(())
    };
    let all = |parts: &[ConditionExpr], left: &mut usize| -> Result<Vec<Condition>, String> {
        parts.iter().map(|part| expression_over(part, detections, left)).collect()
    };
    Ok(match expression {
        ConditionExpr::And(parts) => Condition::All(all(parts, left)?),
        ConditionExpr::Or(parts) => Condition::Any(all(parts, left)?),
        ConditionExpr::Not(inner) => {
            Condition::Not(Arc::new(expression_over(inner, detections, left)?))
        }
        ConditionExpr::Identifier(name) => {
            take(1, left)?;
            detections
                .iter()
                .find(|(known, _)| **known == **name)
                .map(|(name, condition)| Condition::Named(name.clone(), condition.clone()))
                .ok_or_else(|| format!("there is no detection `{name}`"))?
        }
        ConditionExpr::Selector { quantifier, pattern } => {
            let parts: Vec<Condition> = detections
                .iter()
                .filter(|(name, _)| match pattern {
                    SelectorPattern::Them => !name.starts_with('_'),
                    SelectorPattern::Pattern(pattern) => name_matches(pattern, name),
                })
                .map(|(name, condition)| Condition::Named(name.clone(), condition.clone()))
                .collect();
            take(parts.len(), left)?;
            if parts.is_empty() {
                return Err(format!("`{expression}` selects no detection"));
            }
            match quantifier {
                Quantifier::Any | Quantifier::Count(1) => Condition::Any(parts),
                Quantifier::All => Condition::All(parts),
                Quantifier::Count(0) => return Err(format!("`{expression}` always holds")),
                Quantifier::Count(count) if *count > parts.len() as u64 => {
                    return Err(format!(
                        "`{expression}` asks for more than the {} that there are",
                        parts.len()
                    ));
                }
                Quantifier::Count(count) => Condition::AtLeast(*count, parts),
            }
        }
    })
}

/// Whether a detection's name matches a selector, in which any number of `*` may stand anywhere. Each part
/// takes the first place that it fits: no later one could leave more to the parts after it.
fn name_matches(pattern: &str, name: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut rest) = name.strip_prefix(head) else { return false };
    let mut parts: Vec<&str> = tail.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::name_matches;

    #[test]
    fn stars_in_selectors_stand_anywhere() {
        assert!(name_matches("selection_*", "selection_"));
        assert!(name_matches("*_main", "selection_main"));
        assert!(name_matches("sel*_*n", "selection_main"));
        assert!(!name_matches("sel*_*x", "selection_main"));
        assert!(!name_matches("selection", "selection_main"));
        assert!(name_matches("*", "") && name_matches("a*a", "aa") && !name_matches("a*a", "a"));
        // One that took time without end when each star tried every place.
        let (pattern, name) = ("*a".repeat(5_000) + "*b", "a".repeat(20_000));
        assert!(!name_matches(&pattern, &name));
    }
}
