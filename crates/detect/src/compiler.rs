//! Rule texts in, a [`RuleSet`] and the refusals out.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use cordon_model::finding::Level;
use rsigma_parser::{SigmaCollection, SigmaRule, parse_sigma_yaml};

use crate::condition::Condition;
use crate::lower::{Fault, Predicates, condition_of};
use crate::modifiers::Placeholders;
use crate::predicate::Test;
use crate::rule::{LogSource, Refusal, RuleInfo};
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
    /// Rules that are about another product.
    pub skipped: usize,
    /// Rules refused; [`Compiler::compile`] says why.
    pub refused: usize,
}

/// Takes rule texts and compiles them.
#[derive(Debug, Default)]
pub struct Compiler {
    product: Option<String>,
    placeholders: Placeholders,
    infos: Vec<RuleInfo>,
    conditions: Vec<Condition>,
    predicates: Predicates,
    fields: HashSet<Box<str>>,
    ids: HashMap<String, Arc<str>>,
    refusals: Vec<Refusal>,
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

    /// Says what `%name%` stands for in rules with the modifier `expand`.
    #[must_use]
    pub fn placeholder(mut self, name: &str, values: impl IntoIterator<Item = String>) -> Self {
        self.placeholders.entry(name.to_owned()).or_default().extend(values);
        self
    }

    /// Takes the rules of one text (YAML, one or more documents). `origin` is where the text comes from,
    /// for people. What can't be loaded is refused by itself; the rest is taken.
    pub fn add_yaml(&mut self, origin: &str, text: &str) -> Added {
        let origin: Arc<str> = Arc::from(origin);
        let refused_before = self.refusals.len();
        let mut added = Added::default();
        if text.len() > TEXT_BYTES {
            let reason = format!("the file is longer than {} MiB: split it", TEXT_BYTES >> 20);
            self.refusals.push(Refusal { origin, line: 1, rule: None, reason });
        } else {
            for document in documents(text) {
                self.add_document(&origin, &document, &mut added);
            }
        }
        added.refused = self.refusals.len() - refused_before;
        added
    }

    /// The compiled rules, and what was refused.
    #[must_use]
    pub fn compile(self) -> (RuleSet, Vec<Refusal>) {
        let set = RuleSet::compile(self.infos, self.conditions, self.predicates.into_all());
        (set, self.refusals)
    }

    fn add_document(&mut self, origin: &Arc<str>, document: &Document<'_>, added: &mut Added) {
        let refuse = |rule: Option<String>, line: usize, reason: String| Refusal {
            origin: origin.clone(),
            line,
            rule,
            reason,
        };
        let collection = match parse_sigma_yaml(document.text) {
            Ok(collection) => collection,
            Err(error) => {
                let (line, reason) = document.parser_reason(&error.to_string());
                self.refusals.push(refuse(document.title(), line, reason));
                return;
            }
        };
        let SigmaCollection { rules, correlations, filters, errors } = collection;
        let title = |title: &str, id: Option<&String>| Some(id.map_or(title, |id| id).to_owned());
        for correlation in &correlations {
            let line = document.line_of("correlation").unwrap_or(document.line);
            let reason = "correlation rules can't be run yet".to_owned();
            self.refusals.push(refuse(
                title(&correlation.title, correlation.id.as_ref()),
                line,
                reason,
            ));
        }
        for filter in &filters {
            let line = document.line_of("filter").unwrap_or(document.line);
            let reason =
                "filters can't be run yet: the rules that it is meant for match without it"
                    .to_owned();
            self.refusals.push(refuse(title(&filter.title, filter.id.as_ref()), line, reason));
        }
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
            self.refusals.push(refuse(document.title(), line, reason));
        }
        for rule in rules {
            if level_is_wrong && rule.level.is_none() {
                continue;
            }
            if self.is_about_another_product(&rule) {
                added.skipped += 1;
                continue;
            }
            match self.add_rule(origin, document, &rule) {
                Ok(()) => added.rules += 1,
                Err(fault) => {
                    let line = fault
                        .near
                        .as_deref()
                        .and_then(|near| document.line_of(near))
                        .unwrap_or(document.line);
                    self.refusals.push(refuse(
                        title(&rule.title, rule.id.as_ref()),
                        line,
                        fault.reason,
                    ));
                }
            }
        }
    }

    fn is_about_another_product(&self, rule: &SigmaRule) -> bool {
        match (&self.product, &rule.logsource.product) {
            (Some(ours), Some(theirs)) => !theirs.trim().eq_ignore_ascii_case(ours),
            _ => false,
        }
    }

    fn add_rule(
        &mut self,
        origin: &Arc<str>,
        document: &Document<'_>,
        rule: &SigmaRule,
    ) -> Result<(), Fault> {
        let fault = |reason: String, near: &str| Fault { reason, near: Some(near.to_owned()) };
        if self.infos.len() >= RULES {
            return Err(fault(format!("more than {RULES} rules"), "title"));
        }
        if let Some(unknown) = rule.logsource.custom.keys().min() {
            return Err(fault(
                format!(
                    "in `logsource`: `{unknown}` is not known; use product, category and service"
                ),
                unknown,
            ));
        }
        let id = rule.id.clone().unwrap_or_else(|| rule.title.clone());
        if let Some(other) = self.ids.get(&id) {
            return Err(fault(
                format!("the id is that of a rule already loaded from {other}"),
                "id",
            ));
        }
        let condition = condition_of(rule, &self.placeholders, &mut self.predicates)?;
        condition.for_each(&mut |id| {
            let Some(known) = self.predicates.all().get(id.0 as usize) else { return };
            let other = match &known.test {
                Test::SameAs(reference) => Some(&*reference.field),
                _ => None,
            };
            for field in known.field.as_deref().into_iter().chain(other) {
                if !self.fields.contains(field) {
                    self.fields.insert(field.into());
                }
            }
        });
        if self.fields.len() > FIELDS {
            return Err(fault(
                format!("the rules read more than {FIELDS} different fields"),
                "detection",
            ));
        }
        self.ids.insert(id.clone(), origin.clone());
        self.conditions.push(condition);
        self.infos.push(RuleInfo {
            id,
            title: rule.title.clone(),
            level: rule.level.map_or(Level::Informational, level),
            tags: rule.tags.clone(),
            log_source: LogSource {
                product: rule.logsource.product.as_deref().map(Into::into),
                category: rule.logsource.category.as_deref().map(Into::into),
                service: rule.logsource.service.as_deref().map(Into::into),
            },
            author: rule.author.clone(),
            description: rule.description.clone(),
            false_positives: rule.falsepositives.clone(),
            references: rule.references.clone(),
            origin: origin.clone(),
            line: document.line,
        });
        Ok(())
    }
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

/// One document of a text and the line it starts on.
#[derive(Debug, PartialEq, Eq)]
struct Document<'t> {
    text: &'t str,
    line: usize,
}

/// Splits a text at its document marks, so that a fault in one document doesn't take the next ones with
/// it (a line that starts with `---` can't be inside a YAML value). Documents that build on one another
/// (`action: global` and the like) stay together.
fn documents(text: &str) -> Vec<Document<'_>> {
    let is_mark = |line: &str| {
        line.strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
    };
    let builds_on_others = text.lines().any(|line| line.starts_with("action:"));
    let mut documents = Vec::new();
    let (mut start, mut first_line) = (0, 1);
    let mut at = 0;
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        if is_mark(line) && !builds_on_others {
            documents
                .push(Document { text: text.get(start..at).unwrap_or_default(), line: first_line });
            // What follows the mark on its line belongs to the document.
            (start, first_line) = (at, number);
        }
        at += line.len();
    }
    documents.push(Document { text: text.get(start..).unwrap_or_default(), line: first_line });
    let is_empty = |text: &str| {
        text.lines().all(|line| {
            line.trim().is_empty() || line.trim_start().starts_with('#') || line.trim() == "---"
        })
    };
    documents.retain(|document| !is_empty(document.text));
    documents
}

impl Document<'_> {
    /// The line, in the file, of the first line that has `key` as its key, or else has it anywhere.
    fn line_of(&self, key: &str) -> Option<usize> {
        let is_key = |line: &str| {
            let line = line.trim_start().trim_start_matches("- ").trim_start_matches(['\'', '"']);
            line.strip_prefix(key).is_some_and(|rest| rest.starts_with(['|', ':', '\'', '"', ' ']))
        };
        let mut lines = self.text.lines();
        let at = lines
            .position(is_key)
            .or_else(|| self.text.lines().position(|line| line.contains(key)))?;
        Some(self.line + at)
    }

    /// The title as written, for a document that couldn't be parsed.
    fn title(&self) -> Option<String> {
        let line = self.text.lines().find_map(|line| line.strip_prefix("title:"))?;
        Some(line.trim().trim_matches(['\'', '"']).to_owned()).filter(|title| !title.is_empty())
    }

    /// The parser's message with the line it means, in the file.
    fn parser_reason(&self, message: &str) -> (usize, String) {
        let by_number = message.split_once("at line ").and_then(|(_, rest)| {
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<usize>().ok()
        });
        let quoted = message.split(['\'', '`']).nth(1);
        let by_text = || quoted.and_then(|text| self.line_of(text));
        let is_of_condition = message.contains("ondition");
        let line = match by_number {
            // In a condition's message the line counts within the condition.
            Some(number) if !is_of_condition => Some(self.line + number.saturating_sub(1)),
            _ if is_of_condition => self.line_of("condition"),
            _ => by_text(),
        };
        (line.unwrap_or(self.line), in_one_line(message))
    }
}

/// The parser draws where in a condition it stopped, over several lines; the place and what it expected
/// say the same in one.
fn in_one_line(message: &str) -> String {
    let Some((head, drawing)) = message.split_once("-->") else { return message.trim().to_owned() };
    let expected = drawing.rsplit_once("= ").map_or("", |(_, expected)| expected.trim());
    let expected = expected
        .replace("EOI", "its end")
        .replace("or_op", "`or`")
        .replace("and_op", "`and`")
        .replace("not_op", "`not`")
        .replace("ident", "the name of a detection");
    format!("{} {expected}", head.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_split_at_their_marks_and_keep_their_lines() {
        let text = "title: a\n---\ntitle: b\n--- # c\ntitle: c\n";
        let lines: Vec<usize> = documents(text).iter().map(|document| document.line).collect();
        assert_eq!(lines, [1, 2, 4]);
        assert_eq!(documents("# nothing\n---\n"), []);
        assert_eq!(documents("action: global\n---\ntitle: b\n").len(), 1);
    }
}
