//! What is wrong with rules.
//!
//! Two kinds of remark: *refused*, from the compiler, in a rule author's words; and *note*, about a rule that
//! is loaded but won't do what its author hopes, or will puzzle whoever is woken by it. The general ones are
//! the linter's of `rsigma-parser`; those that depend on this engine are ours.

use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::sync::Arc;

use cordon_detect::taxonomy::Taxonomy;
use cordon_detect::{LogSource, RuleInfo, tells_placeholders};
use rsigma_parser::lint::{LintConfig, LintRule, Severity, lint_yaml_str_with_config};
use serde::Serialize;

use super::RulePaths;
use crate::ScanError;
use crate::rules::Rules;
use crate::tactic::techniques;
use crate::terminal::{Looks, Safe, counted};

/// Longest text whose style is looked at: the linter goes over all of it for each remark. SigmaHQ's longest
/// rule has 70 KiB.
const STYLE_BYTES: usize = 256 << 10;

/// The command line of `cordon rules check`.
#[derive(Debug, Clone, clap::Args)]
pub struct CheckArgs {
    #[command(flatten)]
    rules: RulePaths,

    /// Also fail when there are notes
    #[arg(long)]
    strict: bool,

    /// Also what is a matter of taste
    #[arg(long)]
    hints: bool,

    /// One remark a line, as JSON
    #[arg(long)]
    json: bool,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Remark {
    file: Arc<str>,
    /// From 1.
    line: usize,
    kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Refused,
    Note,
}

/// Writes what is wrong; whether nothing that counts is.
pub(super) fn check(
    args: &CheckArgs,
    looks: Looks,
    out: &mut dyn Write,
) -> Result<bool, ScanError> {
    let mut remarks: Vec<Remark> = Vec::new();
    let mut files = 0_u64;
    let rules = Rules::load_with(args.rules.source(), |origin, text| {
        files += 1;
        remarks.extend(style(origin, text, args.hints));
    })?;
    // The compiler's own words say more than the linter's.
    let refused: HashSet<(&str, usize)> =
        rules.refusals().iter().map(|refusal| (&*refusal.origin, refusal.line)).collect();
    remarks.retain(|note| !refused.contains(&(&*note.file, note.line)));
    for path in rules.not_rules() {
        remarks.push(Remark {
            file: path.to_string_lossy().into(),
            line: 1,
            kind: Kind::Note,
            rule: None,
            reason: "passed over: no line begins with detection:, correlation:, filter: or vars:"
                .into(),
        });
    }
    if files == 0 && remarks.is_empty() && rules.refusals().is_empty() {
        return Err(ScanError::NoRules { refused: 0 });
    }
    for refusal in rules.refusals() {
        remarks.push(Remark {
            file: refusal.origin.clone(),
            line: refusal.line,
            kind: Kind::Refused,
            rule: refusal.rule.clone(),
            reason: refusal.reason.clone(),
        });
    }
    for rule in rules.set().rules() {
        remarks.extend(notes(rule).into_iter().map(|reason| Remark {
            file: rule.origin.clone(),
            line: rule.line,
            kind: Kind::Note,
            rule: Some(rule.title.clone()),
            reason,
        }));
    }
    remarks.sort();
    for remark in &remarks {
        if args.json {
            let line = serde_json::to_string(remark).map_err(std::io::Error::from)?;
            writeln!(out, "{line}")?;
        } else {
            remark.write(looks, out)?;
        }
    }
    let of = |kind| remarks.iter().filter(|remark| remark.kind == kind).count();
    let (refused, noted) = (of(Kind::Refused), of(Kind::Note));
    if !args.json {
        writeln!(
            out,
            "{} in {}: {refused} refused, {}",
            counted(rules.references.len() as u64, "rule"),
            counted(files, "file"),
            counted(noted as u64, "note")
        )?;
    }
    Ok(refused == 0 && (noted == 0 || !args.strict))
}

impl Remark {
    fn write(&self, looks: Looks, out: &mut dyn Write) -> std::io::Result<()> {
        let kind = match self.kind {
            Kind::Refused => looks.level(cordon_model::finding::Level::High, "refused"),
            Kind::Note => looks.faint("note"),
        };
        let rule = self.rule.as_ref().map(|rule| format!("{rule}: ")).unwrap_or_default();
        let text = format!("{rule}{}", self.reason);
        writeln!(out, "{}:{}: {kind}: {}", Safe(&self.file), self.line, Safe(&text))
    }
}

/// What the linter of the parser finds in one text, at most one remark of a kind and line.
fn style(origin: &str, text: &str, with_hints: bool) -> Vec<Remark> {
    let file: Arc<str> = Arc::from(origin);
    if text.len() > STYLE_BYTES {
        return vec![Remark {
            file,
            line: 1,
            kind: Kind::Note,
            rule: None,
            reason: format!("longer than {} KiB: its style was not looked at", STYLE_BYTES >> 10),
        }];
    }
    let mut found: BTreeMap<(usize, String), String> = BTreeMap::new();
    let least = if with_hints { Severity::Hint } else { Severity::Warning };
    for (before, document) in documents(text) {
        if tells_placeholders(&document) {
            continue;
        }
        for warning in lint_yaml_str_with_config(&document, &LintConfig::default()) {
            if rank(warning.severity) > rank(least) || is_ours(warning.rule) {
                continue;
            }
            let line = warning.span.map_or(1, |span| span.start_line as usize + 1);
            found.entry((before + line, warning.rule.to_string())).or_insert(warning.message);
        }
    }
    let remark = |((line, rule), message): ((usize, String), String)| Remark {
        file: file.clone(),
        line,
        kind: Kind::Note,
        rule: None,
        reason: format!("{message} ({rule})"),
    };
    found.into_iter().map(remark).collect()
}

/// The documents of a text, each with the number of lines before it: the linter counts the lines of a
/// missing key from the wrong one where there are several.
fn documents(text: &str) -> Vec<(usize, String)> {
    let mut documents = vec![(0, String::new())];
    for (number, line) in text.lines().enumerate() {
        if line.trim_end() == "---" {
            documents.push((number + 1, String::new()));
        } else if let Some((_, document)) = documents.last_mut() {
            document.push_str(line);
            document.push('\n');
        }
    }
    documents.retain(|(_, document)| !document.trim().is_empty());
    documents
}

/// The gravest first.
fn rank(severity: Severity) -> u8 {
    match severity {
        Severity::Error => 0,
        Severity::Warning => 1,
        Severity::Info => 2,
        Severity::Hint => 3,
    }
}

/// What is refused by the compiler with a better reason, or is none of this engine's business.
fn is_ours(rule: LintRule) -> bool {
    matches!(
        rule,
        LintRule::YamlParseError
            | LintRule::NotAMapping
            | LintRule::FileReadError
            | LintRule::UnsupportedSigmaVersion
            | LintRule::ArrayMatchingWithoutVersion
            | LintRule::SigmaVersionMismatch
    )
}

/// What this engine, and whoever is woken by it, will miss of a rule.
fn notes(rule: &RuleInfo) -> Vec<String> {
    let mut notes = Vec::new();
    if rule.id == rule.title {
        notes.push("it has no `id`: when its title changes, nobody knows its old findings".into());
    }
    if techniques(&rule.tags).is_empty() {
        notes.push(
            "no ATT&CK technique among its `tags` (attack.t1059.001): it counts for no coverage"
                .into(),
        );
    }
    notes.extend(unreached(&rule.log_source));
    notes
}

/// Why no event of a Windows log can reach a rule with this log source.
fn unreached(source: &LogSource) -> Option<String> {
    if !source.product.as_deref().is_some_and(|product| product.eq_ignore_ascii_case("windows")) {
        return None;
    }
    let taxonomy = Taxonomy::windows();
    let folded = |text: &str| text.trim().to_lowercase();
    let unknown = |what, text: &str| {
        format!(
            "no Windows log is known for {what} `{text}`: it matches only events that say so themselves"
        )
    };
    let category =
        source.category.as_deref().filter(|name| !taxonomy.knows_category(&folded(name)));
    let service = source.service.as_deref().filter(|name| !taxonomy.knows_service(&folded(name)));
    category
        .map(|name| unknown("category", name))
        .or_else(|| service.map(|name| unknown("service", name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_source_that_no_windows_log_has_is_noted() {
        let source = |product: &str, category: &str, service: &str| {
            let some = |text: &str| (!text.is_empty()).then(|| text.into());
            LogSource { product: some(product), category: some(category), service: some(service) }
        };
        assert_eq!(unreached(&source("windows", "process_creation", "")), None);
        assert_eq!(unreached(&source("Windows", "", "Security")), None);
        assert_eq!(unreached(&source("linux", "proces_creation", "")), None);
        assert!(unreached(&source("windows", "proces_creation", "")).unwrap().contains("category"));
        assert!(unreached(&source("windows", "", "securty")).unwrap().contains("service"));
    }
}
