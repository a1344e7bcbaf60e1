//! Rule texts in, a [`RuleSet`] and the refusals out.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use cordon_model::finding::Level;
use rsigma_parser::{
    CorrelationRule, FilterRule, SigmaCollection, SigmaRule, Status, parse_sigma_yaml,
};

use crate::bounds::within_bounds;
use crate::budget::{Budget, REGEX_BYTES_A_FILE, REGEX_BYTES_A_SET};
use crate::condition::Condition;
use crate::correlation::compile::Pending;
use crate::correlation::section::Written;
use crate::correlation::{self, CORRELATIONS};
use crate::document::{Document, documents};
use crate::filter::{self, Filter};
use crate::lower::{Fault, Predicates, condition_of};
use crate::names::{Names, Referent};
use crate::placeholders::{self, Placeholders, tells_placeholders};
use crate::predicate::Test;
use crate::rule::{LogSource, Refusal, RuleIndex, RuleInfo};
use crate::ruleset::RuleSet;

/// Longest text of one file of rules: SigmaHQ's longest rule has 70 KiB.
pub const TEXT_BYTES: usize = 4 << 20;

/// Most rules in one set: SigmaHQ has 3,754; the benchmark goes to 24,000.
pub const RULES: usize = 200_000;

/// Most field names in one set: SigmaHQ's rules read 390. A group counts them in 16 bits.
pub const FIELDS: usize = 60_000;

/// What became of one text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Added {
    /// Rules taken.
    pub rules: usize,
    /// Correlations taken. Whether the rules that they refer to are there is known when all are.
    pub correlations: usize,
    /// Filters taken. Whether the rules that they are for are there is known when all are.
    pub filters: usize,
    /// Rules and filters that are about another product.
    pub skipped: usize,
    /// Rules whose authors withdrew them ([`Compiler::with_withdrawn`]).
    pub withdrawn: usize,
    /// What was refused; [`Compiler::compile`] says why.
    pub refused: usize,
}

/// Takes rule texts and compiles them.
#[derive(Debug, Default)]
pub struct Compiler {
    product: Option<String>,
    takes_withdrawn: bool,
    placeholders: Placeholders,
    /// Where each placeholder's values were said.
    told_placeholders: HashMap<String, Arc<str>>,
    infos: Vec<RuleInfo>,
    conditions: Vec<Condition>,
    predicates: Predicates,
    fields: HashSet<Box<str>>,
    ids: HashMap<String, Arc<str>>,
    names: Names,
    filters: Vec<Filter>,
    correlations: Vec<Pending>,
    no_correlations: Option<String>,
    refusals: Vec<Refusal>,
    regexes: RegexBytes,
}

/// What regular expressions have used up.
#[derive(Debug, Default)]
struct RegexBytes {
    /// Of this file, refused ones too.
    of_file: usize,
    /// Of all rules that were taken.
    of_set: usize,
}

impl RegexBytes {
    fn budget(&self) -> Budget {
        let of_file = REGEX_BYTES_A_FILE.saturating_sub(self.of_file);
        Budget::with_regex_bytes(of_file.min(REGEX_BYTES_A_SET.saturating_sub(self.of_set)))
    }

    /// Takes what a rule used of `before`.
    fn take(&mut self, before: usize, after: &Budget, is_kept: bool) {
        let used = before.saturating_sub(after.regex_bytes());
        self.of_file += used;
        if is_kept {
            self.of_set += used;
        }
    }
}

impl Compiler {
    /// A compiler with no rules.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes only rules about `product` or about no product in particular: what an agent needs.
    #[must_use]
    pub fn only_product(mut self, product: &str) -> Self {
        self.product = Some(product.to_ascii_lowercase());
        self
    }

    /// Takes also rules and correlations whose status is `deprecated` or `unsupported`. Without this they are
    /// passed over, and counted: their author says that another rule took their place, or that they can't
    /// be used as they are.
    #[must_use]
    pub fn with_withdrawn(mut self) -> Self {
        self.takes_withdrawn = true;
        self
    }

    /// Refuses correlations with this reason, for whoever has no [`Correlator`](crate::Correlator). The
    /// rules that they refer to then are rules like all others.
    #[must_use]
    pub fn without_correlations(mut self, reason: &str) -> Self {
        self.no_correlations = Some(reason.to_owned());
        self
    }

    /// Says what `%name%` stands for in rules with the modifier `expand`.
    #[must_use]
    pub fn placeholder(mut self, name: &str, values: impl IntoIterator<Item = String>) -> Self {
        self.placeholders.entry(name.to_owned()).or_default().extend(values);
        self
    }

    /// Takes the rules of all these texts (YAML, one or more documents each), each with its origin: where it
    /// comes from, for people. Placeholders that any of them explains are known to all of them, in whatever
    /// order they come. What can't be loaded is refused by itself; the rest is taken.
    pub fn add_texts<'t>(
        &mut self,
        texts: impl IntoIterator<Item = (&'t str, &'t str), IntoIter: Clone>,
    ) -> Added {
        let refused_before = self.refusals.len();
        let texts = texts.into_iter();
        for (origin, text) in texts.clone().filter(|(_, text)| text.len() <= TEXT_BYTES) {
            let all = documents(text);
            for document in all.iter().filter(|document| tells_placeholders(document.text)) {
                self.learn_placeholders(&Arc::from(origin), document);
            }
        }
        let mut added = Added::default();
        texts.for_each(|(origin, text)| self.add_text(origin, text, &mut added));
        added.refused = self.refusals.len() - refused_before;
        added
    }

    /// The same, of one text.
    pub fn add_yaml(&mut self, origin: &str, text: &str) -> Added {
        self.add_texts([(origin, text)])
    }

    fn add_text(&mut self, origin: &str, text: &str, added: &mut Added) {
        let origin: Arc<str> = Arc::from(origin);
        if text.len() > TEXT_BYTES {
            let reason = format!("the file is longer than {} MiB: split it", TEXT_BYTES >> 20);
            self.refusals.push(Refusal { origin, line: 1, rule: None, reason });
            return;
        }
        self.regexes.of_file = 0;
        for document in documents(text) {
            if !tells_placeholders(document.text) {
                self.add_document(&origin, &document, added);
            }
        }
    }

    /// Takes what a document says of placeholders.
    fn learn_placeholders(&mut self, origin: &Arc<str>, document: &Document<'_>) {
        if let Err((line, reason)) = within_bounds(document.text) {
            let line = document.line + line.saturating_sub(1);
            self.refuse_document(origin, document, line, reason);
            return;
        }
        let (said, mut wrong) = match placeholders::said_in(document) {
            Ok(said) => said,
            Err(wrong) => (Placeholders::new(), vec![wrong]),
        };
        for (name, values) in said {
            if let Some(other) = self.told_placeholders.get(&name) {
                let reason = format!("what %{name}% stands for is said in {other} already");
                wrong.push((name, reason));
                continue;
            }
            self.told_placeholders.insert(name.clone(), origin.clone());
            self.placeholders.entry(name).or_default().extend(values);
        }
        for (near, reason) in wrong {
            let line = document.line_of(&near).unwrap_or(document.line);
            self.refuse_document(origin, document, line, reason);
        }
    }

    /// The compiled rules, and what was refused.
    #[must_use]
    pub fn compile(mut self) -> (RuleSet, Vec<Refusal>) {
        filter::apply(
            &self.filters,
            &self.names,
            &self.infos,
            &mut self.conditions,
            &mut self.refusals,
        );
        let correlations = correlation::compile::compile(
            self.correlations,
            &self.names,
            &mut self.infos,
            &mut self.refusals,
        );
        let set =
            RuleSet::compile(self.infos, self.conditions, self.predicates.into_all(), correlations);
        (set, self.refusals)
    }

    fn add_document(&mut self, origin: &Arc<str>, document: &Document<'_>, added: &mut Added) {
        if let Err((line, reason)) = within_bounds(document.text) {
            let line = document.line + line.saturating_sub(1);
            self.refuse_document(origin, document, line, reason);
            return;
        }
        let collection = match parse_sigma_yaml(document.text) {
            Ok(collection) => collection,
            Err(error) => {
                let (line, reason) = document.parser_reason(&error.to_string());
                self.refuse_document(origin, document, line, reason);
                return;
            }
        };
        let SigmaCollection { rules, correlations, filters, errors } = collection;
        let mut level_is_wrong = false;
        for error in &errors {
            // These the parser passes over, and so may we: they change neither the match nor its weight.
            if ["invalid status", "related[", "'related'"]
                .iter()
                .any(|start| error.starts_with(start))
            {
                continue;
            }
            level_is_wrong |= error.starts_with("invalid level");
            let (line, reason) = document.parser_reason(error);
            self.refuse_document(origin, document, line, reason);
        }
        for correlation in &correlations {
            let referent = if level_is_wrong && correlation.level.is_none() {
                Referent::Refused
            } else if self.is_withdrawn(correlation.status) {
                added.withdrawn += 1;
                Referent::Withdrawn
            } else {
                match self.add_correlation(origin, document, correlation) {
                    Ok(number) => {
                        added.correlations += 1;
                        Referent::Correlation(number)
                    }
                    Err(fault) => {
                        let id = correlation.id.as_ref();
                        self.refuse(origin, document, &correlation.title, id, fault);
                        Referent::Refused
                    }
                }
            };
            self.names.add(correlation.id.as_deref(), correlation.name.as_deref(), referent);
        }
        for filter in &filters {
            let referent = match self.add_filter(origin, document, filter) {
                Ok(true) => {
                    added.filters += 1;
                    Referent::Filter
                }
                Ok(false) => {
                    added.skipped += 1;
                    Referent::PassedOver
                }
                Err(fault) => {
                    self.refuse(origin, document, &filter.title, filter.id.as_ref(), fault);
                    Referent::Refused
                }
            };
            self.names.add(filter.id.as_deref(), filter.name.as_deref(), referent);
        }
        for rule in rules {
            let referent = if level_is_wrong && rule.level.is_none() {
                Referent::Refused
            } else if self.is_about_another_product(rule.logsource.product.as_deref()) {
                added.skipped += 1;
                Referent::PassedOver
            } else if self.is_withdrawn(rule.status) {
                added.withdrawn += 1;
                Referent::Withdrawn
            } else {
                match self.add_rule(origin, document, &rule) {
                    Ok(index) => {
                        added.rules += 1;
                        Referent::Rule(index)
                    }
                    Err(fault) => {
                        self.refuse(origin, document, &rule.title, rule.id.as_ref(), fault);
                        Referent::Refused
                    }
                }
            };
            self.names.add(rule.id.as_deref(), rule.name.as_deref(), referent);
        }
    }

    /// Refuses what `document` is about.
    fn refuse(
        &mut self,
        origin: &Arc<str>,
        document: &Document<'_>,
        title: &str,
        id: Option<&String>,
        fault: Fault,
    ) {
        let near = fault.near.as_deref();
        self.refusals.push(Refusal {
            origin: origin.clone(),
            line: near.and_then(|near| document.line_of(near)).unwrap_or(document.line),
            rule: Some(id.map_or(title, |id| id).to_owned()),
            reason: fault.reason,
        });
    }

    /// Refuses a document of which no more is known than its text.
    fn refuse_document(
        &mut self,
        origin: &Arc<str>,
        document: &Document<'_>,
        line: usize,
        reason: String,
    ) {
        let rule = document.value_of("title");
        self.names.add(document.value_of("id"), document.value_of("name"), Referent::Refused);
        self.refusals.push(Refusal {
            origin: origin.clone(),
            line,
            rule: rule.map(str::to_owned),
            reason,
        });
    }

    fn is_about_another_product(&self, product: Option<&str>) -> bool {
        match (&self.product, product) {
            (Some(ours), Some(theirs)) => !theirs.trim().eq_ignore_ascii_case(ours),
            _ => false,
        }
    }

    fn is_withdrawn(&self, status: Option<Status>) -> bool {
        let is_so = matches!(status, Some(Status::Deprecated | Status::Unsupported));
        is_so && !self.takes_withdrawn
    }

    /// Takes a filter. False if it is about another product.
    fn add_filter(
        &mut self,
        origin: &Arc<str>,
        document: &Document<'_>,
        filter: &FilterRule,
    ) -> Result<bool, Fault> {
        let product = filter.logsource.as_ref().and_then(|source| source.product.as_deref());
        if self.is_about_another_product(product) {
            return Ok(false);
        }
        let filter = self.translated(
            |placeholders, predicates, budget| {
                Filter::new(filter, document, origin, placeholders, predicates, budget)
            },
            Filter::condition,
        )?;
        self.filters.push(filter);
        Ok(true)
    }

    /// Takes a correlation; its place among them.
    fn add_correlation(
        &mut self,
        origin: &Arc<str>,
        document: &Document<'_>,
        rule: &CorrelationRule,
    ) -> Result<usize, Fault> {
        let fault = |reason: String| Fault { reason, near: Some("correlation".to_owned()) };
        if let Some(reason) = &self.no_correlations {
            return Err(fault(reason.clone()));
        }
        if self.correlations.len() >= CORRELATIONS {
            return Err(fault(format!("more than {CORRELATIONS} correlations")));
        }
        let id = self.free_id(rule.id.as_ref(), &rule.title)?;
        let written = Written::of(rule, document)?;
        let new: HashSet<&str> =
            written.fields().filter(|field| !self.fields.contains(*field)).collect();
        check_fields(self.fields.len() + new.len(), "correlation")?;
        self.fields.extend(new.into_iter().map(Into::into));
        self.ids.insert(id.clone(), origin.clone());
        let line = |key| document.line_of(key).unwrap_or(document.line);
        self.correlations.push(Pending {
            rules_line: line("rules"),
            aliases_line: line("aliases"),
            written,
            info: RuleInfo {
                id,
                title: rule.title.clone(),
                level: rule.level.map_or(Level::Informational, level),
                tags: rule.tags.clone(),
                log_source: LogSource::default(),
                author: rule.author.clone(),
                description: rule.description.clone(),
                false_positives: rule.falsepositives.clone(),
                references: rule.references.clone(),
                origin: origin.clone(),
                line: document.line,
            },
        });
        Ok(self.correlations.len() - 1)
    }

    /// The id of a rule, which no other may have.
    fn free_id(&self, id: Option<&String>, title: &str) -> Result<String, Fault> {
        let id = id.map_or(title, |id| id).to_owned();
        match self.ids.get(&id) {
            Some(other) => Err(Fault {
                reason: format!("the id is that of a rule already loaded from {other}"),
                near: Some("id".to_owned()),
            }),
            None => Ok(id),
        }
    }

    /// What `translate` makes of a rule or a filter, whose condition `condition` says. Of one that is refused
    /// nothing stays: no predicate, no field.
    fn translated<T>(
        &mut self,
        translate: impl FnOnce(&Placeholders, &mut Predicates, &mut Budget) -> Result<T, Fault>,
        condition: impl Fn(&T) -> &Condition,
    ) -> Result<T, Fault> {
        let mut budget = self.regexes.budget();
        let (before, known) = (budget.regex_bytes(), self.predicates.count());
        let translated = translate(&self.placeholders, &mut self.predicates, &mut budget)
            .and_then(|made| self.note_fields(condition(&made)).map(|()| made));
        self.regexes.take(before, &budget, translated.is_ok());
        if translated.is_err() {
            self.predicates.forget_after(known);
        }
        translated
    }

    /// Counts the fields that `condition` reads among those of all rules, if all have room there.
    fn note_fields(&mut self, condition: &Condition) -> Result<(), Fault> {
        let mut new: HashSet<&str> = HashSet::new();
        condition.for_each(&mut |id| {
            let Some(known) = self.predicates.all().get(id.0 as usize) else { return };
            let other = match &known.test {
                Test::SameAs(reference) => Some(&*reference.field),
                _ => None,
            };
            let read = known.field.as_deref().into_iter().chain(other);
            new.extend(read.filter(|field| !self.fields.contains(*field)));
        });
        check_fields(self.fields.len() + new.len(), "detection")?;
        self.fields.extend(new.into_iter().map(Into::into));
        Ok(())
    }

    fn add_rule(
        &mut self,
        origin: &Arc<str>,
        document: &Document<'_>,
        rule: &SigmaRule,
    ) -> Result<RuleIndex, Fault> {
        let fault = |reason: String, near: &str| Fault { reason, near: Some(near.to_owned()) };
        if self.infos.len() >= RULES {
            return Err(fault(format!("more than {RULES} rules"), "title"));
        }
        let log_source = LogSource::of(&rule.logsource)?;
        let id = self.free_id(rule.id.as_ref(), &rule.title)?;
        let condition = self.translated(
            |placeholders, predicates, budget| {
                condition_of(&rule.detection, placeholders, predicates, budget)
            },
            |condition| condition,
        )?;
        self.ids.insert(id.clone(), origin.clone());
        self.conditions.push(condition);
        self.infos.push(RuleInfo {
            id,
            title: rule.title.clone(),
            level: rule.level.map_or(Level::Informational, level),
            tags: rule.tags.clone(),
            log_source,
            author: rule.author.clone(),
            description: rule.description.clone(),
            false_positives: rule.falsepositives.clone(),
            references: rule.references.clone(),
            origin: origin.clone(),
            line: document.line,
        });
        Ok(RuleIndex(u32::try_from(self.infos.len() - 1).unwrap_or(u32::MAX)))
    }
}

fn check_fields(count: usize, near: &str) -> Result<(), Fault> {
    if count > FIELDS {
        return Err(Fault {
            reason: format!("the rules read more than {FIELDS} different fields"),
            near: Some(near.to_owned()),
        });
    }
    Ok(())
}

fn level(level: rsigma_parser::Level) -> Level {
    match level {
        rsigma_parser::Level::Informational => Level::Informational,
        rsigma_parser::Level::Low => Level::Low,
        rsigma_parser::Level::Medium => Level::Medium,
        rsigma_parser::Level::High => Level::High,
        rsigma_parser::Level::Critical => Level::Critical,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_stays_of_a_rule_that_is_refused() {
        let rule = |id: &str, field: &str, last: &str| {
            format!(
                "title: {id}\nid: {id}\nlogsource: {{product: windows}}\ndetection:\n  s:\n    {field}: [a, b]\n    {field}2|re: 'k+l'\n    {last}\n  condition: s\n"
            )
        };
        let mut compiler = Compiler::new();
        compiler.add_yaml("good.yml", &rule("good", "A", "B: c"));
        let state = |compiler: &Compiler| {
            (compiler.predicates.count(), compiler.fields.len(), compiler.regexes.of_set)
        };
        let before = state(&compiler);
        assert_eq!((before.0, before.1), (4, 3));
        compiler.add_yaml("bad.yml", &rule("bad", "C", "D|re: '(?=a)'"));
        assert_eq!(state(&compiler), before);
        assert!(compiler.regexes.of_file > 0, "what was tried counts for the file");
        // The same predicates, of a rule that is taken, have their numbers all the same.
        compiler.add_yaml("good.yml", &rule("other", "C", "D: c"));
        assert_eq!(compiler.predicates.count(), 8);
    }
}
