//! What normal work looks like here: findings of an earlier scan that are not to be told again.
//!
//! A finding is subtracted only if the same rule matched by the same values before, on whatever machine. That
//! is about the fields that the rule looks at: what it does not look at may be something else each time. So
//! nothing of level high or above is ever subtracted, no correlation (it is known by its group alone), and
//! nothing whose values were not shown whole. What is subtracted is counted by level.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use cordon_detect::SHOWN_CHARACTERS;
use cordon_model::finding::{Level, MatchedField, RuleRef};
use cordon_model::limits::MATCHED_FIELDS_PER_FINDING;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::ScanError;
use crate::finding::ScanFinding;

/// Findings that a baseline may have: 17 bytes of a table that is at least half full and grows by doubling,
/// 110 MB at the most.
const FINDINGS: usize = 2_000_000;
/// The longest line that is read: longer than any finding without its event.
const LINE_BYTES: u64 = 1 << 20;

/// The findings of one or more earlier scans.
#[derive(Debug, Default)]
pub(crate) struct Baseline(HashSet<[u8; 16]>);

/// What of a line of `--output ndjson` counts.
#[derive(Deserialize)]
struct Line {
    rule_id: String,
    matched: Vec<MatchedField>,
}

impl Baseline {
    /// Reads the findings in these files.
    pub(crate) fn load(paths: &[std::path::PathBuf]) -> Result<Self, ScanError> {
        let mut baseline = Self::default();
        for path in paths {
            baseline.read(path)?;
        }
        Ok(baseline)
    }

    fn read(&mut self, path: &Path) -> Result<(), ScanError> {
        let fault = |reason: String| ScanError::Baseline { path: path.to_owned(), reason };
        let file = File::open(path).map_err(|error| fault(error.to_string()))?;
        let mut input = BufReader::new(file);
        let mut line = Vec::new();
        for number in 1_u64.. {
            line.clear();
            let read = std::io::Read::take(&mut input, LINE_BYTES)
                .read_until(b'\n', &mut line)
                .map_err(|error| fault(error.to_string()))?;
            if read == 0 {
                break;
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            let finding: Line = serde_json::from_slice(&line).map_err(|error| {
                fault(format!("line {number} is no finding of --output ndjson: {error}"))
            })?;
            self.0.insert(key(&finding.rule_id, &finding.matched));
            if self.0.len() > FINDINGS {
                return Err(fault(format!("more than {FINDINGS} different findings")));
            }
        }
        Ok(())
    }

    /// Whether `rule` matched by the values of this finding before, and may be passed over for it.
    pub(crate) fn has(&self, rule: &RuleRef, finding: &ScanFinding) -> bool {
        let is_whole = |matched: &MatchedField| matched.value.chars().count() < SHOWN_CHARACTERS;
        !self.0.is_empty()
            && rule.level < Level::High
            && finding.correlated.is_none()
            && !finding.matched.is_empty()
            && finding.matched.len() < MATCHED_FIELDS_PER_FINDING
            && finding.matched.iter().all(is_whole)
            && self.0.contains(&key(&rule.id, &finding.matched))
    }
}

/// One number for a rule and the values that it matched by, in whatever order.
fn key(rule: &str, matched: &[MatchedField]) -> [u8; 16] {
    let mut values: Vec<(&str, &str)> =
        matched.iter().map(|matched| (&*matched.field, &*matched.value)).collect();
    values.sort_unstable();
    values.dedup();
    let mut hasher = Sha256::new();
    let mut add = |text: &str| {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text);
    };
    add(rule);
    for (field, value) in values {
        add(field);
        add(value);
    }
    let mut key = [0; 16];
    key.copy_from_slice(&hasher.finalize()[..16]);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matched(pairs: &[(&str, &str)]) -> Vec<MatchedField> {
        let field = |(field, value): &(&str, &str)| MatchedField {
            field: (*field).into(),
            value: (*value).into(),
            pattern: "contains x".into(),
        };
        pairs.iter().map(field).collect()
    }

    #[test]
    fn the_same_rule_by_the_same_values_has_one_number_in_whatever_order() {
        let one = key("r", &matched(&[("Image", "a"), ("User", "b")]));
        assert_eq!(one, key("r", &matched(&[("User", "b"), ("Image", "a"), ("Image", "a")])));
        assert_ne!(one, key("s", &matched(&[("Image", "a"), ("User", "b")])));
        assert_ne!(one, key("r", &matched(&[("Image", "a")])));
        assert_ne!(one, key("r", &matched(&[("Image", "aUser"), ("b", "")])));
    }

    #[test]
    fn what_is_grave_or_not_wholly_known_is_told_again() {
        let finding = |value: &str| ScanFinding {
            id: cordon_model::ids::FindingId::of("", "", &[0; 32]),
            rule: 0,
            host: None,
            time: None,
            record_id: None,
            offset: 0,
            line: None,
            matched: matched(&[("CommandLine", value)]),
            raw: None,
            correlated: None,
        };
        let rule = |level| RuleRef { id: "r".into(), title: "r".into(), level, tags: Vec::new() };
        let long = "x".repeat(SHOWN_CHARACTERS);
        let mut baseline = Baseline::default();
        for value in ["a", &long] {
            baseline.0.insert(key("r", &finding(value).matched));
        }
        assert!(baseline.has(&rule(Level::Medium), &finding("a")));
        assert!(!baseline.has(&rule(Level::High), &finding("a")), "it may be acted on");
        assert!(!baseline.has(&rule(Level::Medium), &finding(&long)), "it was cut");
        let nothing = ScanFinding { matched: Vec::new(), ..finding("a") };
        baseline.0.insert(key("r", &[]));
        assert!(!baseline.has(&rule(Level::Medium), &nothing), "it says nothing");
    }
}
