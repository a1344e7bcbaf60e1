//! Filters: conditions of one document that are added to the rules of others.
//!
//! The one idea: a filter is compiled like a rule's detection, waits until every rule is known, and is
//! then joined to each rule that it is for by *and*: the rule matches what its own condition and the
//! filter's hold for. So an exclusion says `condition: not selection`, and the order in which files are
//! read doesn't matter. At run time there are no filters any more.

use std::sync::Arc;

use rsigma_parser::{FilterRule, FilterRuleTarget};

use crate::budget::Budget;
use crate::condition::Condition;
use crate::document::Document;
use crate::lower::{Fault, PREDICATES_A_RULE, Predicates, condition_of};
use crate::names::{Names, Referent};
use crate::placeholders::Placeholders;
use crate::rule::{LogSource, Refusal, RuleInfo};

/// Most predicates that filters may add to rules, counted once for each rule that a filter is added to.
/// A filter of ten predicates for all of SigmaHQ's 2,407 rules for Windows adds 24,070.
pub const PREDICATES_OF_FILTERS: usize = 2_000_000;

/// A filter that waits for its rules.
#[derive(Debug)]
pub(crate) struct Filter {
    origin: Arc<str>,
    line: usize,
    /// Its id or title, for people.
    label: String,
    title: String,
    target: Target,
    log_source: LogSource,
    condition: Arc<Condition>,
}

#[derive(Debug)]
enum Target {
    /// Every rule of the log source.
    Any,
    /// These, each with the line that names it.
    These(Vec<(String, usize)>),
}

impl Filter {
    /// Translates a parsed filter.
    pub(crate) fn new(
        filter: &FilterRule,
        document: &Document<'_>,
        origin: &Arc<str>,
        placeholders: &Placeholders,
        predicates: &mut Predicates,
        budget: &mut Budget,
    ) -> Result<Self, Fault> {
        let fault = |reason: &str, near: &str| Fault {
            reason: reason.to_owned(),
            near: Some(near.to_owned()),
        };
        let Some(log_source) = &filter.logsource else {
            return Err(fault("`logsource` is missing: say which rules' logs it is for", "filter"));
        };
        let log_source = LogSource::of(log_source)?;
        // The parser takes what it can't read, or doesn't find, for `any`.
        let section = document.section("filter");
        let rules = section.as_ref().and_then(|section| section.get("rules"));
        let target = match (&filter.rules, rules) {
            (_, None) => {
                return Err(fault(
                    "`rules` is missing: name rules, or write `rules: any`",
                    "filter",
                ));
            }
            (FilterRuleTarget::Any, Some(yaml_serde::Value::String(_))) => Target::Any,
            (FilterRuleTarget::Specific(named), Some(written))
                if written.as_sequence().is_none_or(|list| list.len() == named.len()) =>
            {
                let line = |name: &String| document.line_of(name).unwrap_or(document.line);
                Target::These(named.iter().map(|name| (name.clone(), line(name))).collect())
            }
            _ => {
                let reason = "`rules` must be a list of ids and names, each a text, or `any`";
                return Err(fault(reason, "rules"));
            }
        };
        let condition = condition_of(&filter.detection, placeholders, predicates, budget)?;
        Ok(Self {
            origin: origin.clone(),
            line: document.line,
            label: filter.id.clone().unwrap_or_else(|| filter.title.clone()),
            title: filter.title.clone(),
            target,
            log_source,
            condition: Arc::new(condition),
        })
    }

    /// What it asks.
    pub(crate) fn condition(&self) -> &Condition {
        &self.condition
    }

    fn fits(&self, rule: &LogSource) -> bool {
        let same = |ours: &Option<Box<str>>, theirs: &Option<Box<str>>| match (ours, theirs) {
            (None, _) => true,
            (Some(ours), Some(theirs)) => ours.trim().eq_ignore_ascii_case(theirs.trim()),
            (Some(_), None) => false,
        };
        same(&self.log_source.product, &rule.product)
            && same(&self.log_source.category, &rule.category)
            && same(&self.log_source.service, &rule.service)
    }
}

/// Adds filters to the rules that they are for. Each rule that a filter names and can't be added to is
/// told by itself; the filter is added to the others.
pub(crate) fn apply(
    filters: &[Filter],
    names: &Names,
    infos: &[RuleInfo],
    conditions: &mut [Condition],
    refusals: &mut Vec<Refusal>,
) {
    let mut added = 0;
    for filter in filters {
        let mut refuse = |line: usize, reason: String| {
            refusals.push(Refusal {
                origin: filter.origin.clone(),
                line,
                rule: Some(filter.label.clone()),
                reason,
            });
        };
        let mut add = |index: usize| -> Result<(), String> {
            let Some(condition) = conditions.get_mut(index) else {
                return Err("the rule is not loaded".to_owned());
            };
            let size = filter.condition.size(PREDICATES_A_RULE);
            if condition.size(PREDICATES_A_RULE) + size > PREDICATES_A_RULE {
                return Err(format!(
                    "with it the rule would ask more than {PREDICATES_A_RULE} things"
                ));
            }
            if added + size > PREDICATES_OF_FILTERS {
                return Err(format!(
                    "filters add more than {PREDICATES_OF_FILTERS} things to rules"
                ));
            }
            added += size;
            let own = std::mem::replace(condition, Condition::Any(Vec::new()));
            let name = format!("filter {}", filter.title).into();
            let also = Condition::Named(name, filter.condition.clone());
            *condition = Condition::All(vec![own, also]);
            Ok(())
        };
        match &filter.target {
            Target::Any => {
                let fitting =
                    infos.iter().enumerate().filter(|(_, info)| filter.fits(&info.log_source));
                let mut any = false;
                for (index, info) in fitting {
                    any = true;
                    if let Err(reason) = add(index) {
                        refuse(filter.line, format!("not added to `{}`: {reason}", info.title));
                        break;
                    }
                }
                if !any {
                    refuse(
                        filter.line,
                        format!("no rule of its log source ({}) is loaded", filter.log_source),
                    );
                }
            }
            Target::These(rules) => {
                for (reference, line) in rules {
                    let index = match names.find(reference) {
                        Some(Referent::Rule(index)) => index.0 as usize,
                        // An agent's rules are those of its product; the filter's other rules aren't wrong. Nor is
                        // one that its author withdrew.
                        Some(Referent::PassedOver | Referent::Withdrawn) => continue,
                        Some(Referent::Correlation(_)) => {
                            let reason = format!(
                                "`{reference}` is a correlation: name the rules that it refers to"
                            );
                            refuse(*line, reason);
                            continue;
                        }
                        other => {
                            refuse(*line, Names::reason(reference, other));
                            continue;
                        }
                    };
                    let Some(info) = infos.get(index) else { continue };
                    if !filter.fits(&info.log_source) {
                        let reason = format!(
                            "not added to `{reference}`: the filter is for {}, the rule for {}",
                            filter.log_source, info.log_source
                        );
                        refuse(*line, reason);
                    } else if let Err(reason) = add(index) {
                        refuse(*line, format!("not added to `{reference}`: {reason}"));
                    }
                }
            }
        }
    }
}
