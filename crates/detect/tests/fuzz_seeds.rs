//! The fuzzers' seeds as plain tests, so that what a fuzzer once found stays found.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside of test functions: it stops at the first thing that is wrong"
)]

mod support;

use std::path::Path;

use cordon_detect::Compiler;
use cordon_detect::stored::Stored;
use cordon_model::event::Source;
use regex_automata::meta::Regex;
use serde_json::json;
use support::event_of;

/// Every prefix of every seed, in steps: a file that somebody is still writing.
fn seeds(target: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut cut = Vec::new();
    for seed in std::fs::read_dir(folder).unwrap() {
        let bytes = std::fs::read(seed.unwrap().path()).unwrap();
        let step = (bytes.len() / 100).max(1);
        for end in (0..bytes.len()).step_by(step).chain([bytes.len()]) {
            cut.push(String::from_utf8_lossy(&bytes[..end]).into_owned());
        }
    }
    assert!(!cut.is_empty(), "no seeds of {target}");
    cut
}

#[test]
fn every_seed_of_rules_is_survived_whole_and_cut() {
    let mut loaded = 0;
    for text in seeds("detect_rules") {
        let mut compiler = Compiler::new().placeholder("p", ["a".to_owned()]);
        compiler.add_yaml("seed.yml", &text);
        let (rules, refusals) = compiler.compile();
        loaded += rules.rules().len();
        let stored = Stored { set: &rules, refusals: &refusals[..], withdrawn: 0 }.to_bytes();
        assert!(Stored::from_bytes(&stored.unwrap()).is_some(), "{text}");
    }
    assert!(loaded > 0);
}

#[test]
fn every_seed_of_expressions_matches_as_its_own_engine_says() {
    let mut taken = 0;
    for text in seeds("detect_regex") {
        let Some((pattern, value)) = text.split_once('\n') else { continue };
        let quoted = serde_json::to_string(pattern).unwrap();
        let mut compiler = Compiler::new();
        compiler.add_yaml("seed.yml", &format!(
            "title: t\nlogsource: {{product: p}}\ndetection:\n  s:\n    A|re: {quoted}\n  condition: s\n"
        ));
        let (rules, _) = compiler.compile();
        let Ok(theirs) = Regex::new(pattern) else { continue };
        if rules.rules().is_empty() {
            continue;
        }
        let json = json!({"A": value});
        let source = Source { product: Some("p".into()), ..Source::default() };
        let ours = !rules.matcher().matches(&rules, &event_of(&rules, source, &json)).is_empty();
        assert_eq!(ours, theirs.is_match(value), "{pattern} {value}");
        taken += 1;
    }
    assert!(taken > 0);
}
