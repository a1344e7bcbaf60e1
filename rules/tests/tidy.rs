//! What every rule of the pack has, so that whoever is woken by one can act on it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on has failed")]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use rsigma_parser::{Level, SigmaRule, parse_sigma_yaml};

/// The rules, each with its path in the pack and its text.
fn rules() -> impl Iterator<Item = (&'static str, SigmaRule, &'static str)> {
    cordon_rules::all().map(|(origin, yaml)| {
        let mut parsed = parse_sigma_yaml(yaml).unwrap_or_else(|error| panic!("{origin}: {error}"));
        assert!(parsed.errors.is_empty(), "{origin}: {:?}", parsed.errors);
        assert_eq!(parsed.rules.len(), 1, "{origin}: one file, one rule");
        (origin, parsed.rules.remove(0), yaml)
    })
}

fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `directory`, by its path in the pack.
fn files_below(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(&path, found);
        } else {
            found.push(path.strip_prefix(home()).unwrap().to_path_buf());
        }
    }
}

#[test]
fn the_pack_holds_every_rule_file_and_nothing_else_lies_there() {
    let mut found = Vec::new();
    files_below(&home().join("linux"), &mut found);
    files_below(&home().join("windows"), &mut found);
    let of_pack: Vec<PathBuf> = cordon_rules::all().map(|(origin, _)| origin.into()).collect();
    assert!(!of_pack.is_empty());
    for path in found {
        let name = path.to_str().unwrap();
        let rule = match name.strip_suffix(".test.json") {
            Some(stem) => PathBuf::from(format!("{stem}.yml")),
            None => path.clone(),
        };
        assert!(of_pack.contains(&rule), "{name} belongs to no rule");
    }
}

#[test]
fn ids_and_titles_are_unique() {
    let mut ids = HashMap::new();
    let mut titles = HashMap::new();
    for (origin, rule, _) in rules() {
        let id = rule.id.unwrap_or_else(|| panic!("{origin} has no id"));
        let is_version_4 = id.len() == 36 && id.as_bytes()[14] == b'4';
        assert!(is_version_4, "{origin}: id {id} is no UUID of version 4");
        assert_eq!(ids.insert(id, origin), None, "{origin}: id used twice");
        assert_eq!(titles.insert(rule.title, origin), None, "{origin}: title used twice");
    }
}

#[test]
fn every_rule_says_what_it_means_and_what_to_do() {
    for (origin, rule, yaml) in rules() {
        let description = rule.description.unwrap_or_default();
        assert!(
            description.contains("At 3 a.m.") || description.contains("At\n3 a.m."),
            "{origin}: what to look at first?"
        );
        assert!(rule.title.len() <= 80, "{origin}: the title is too long for a table");
        assert!(!rule.falsepositives.is_empty(), "{origin}: what else may look like this?");
        assert!(!rule.references.is_empty(), "{origin}: references");
        assert_eq!(rule.author.as_deref(), Some("Cordon"), "{origin}: author");
        assert!(rule.date.is_some() && rule.status.is_some(), "{origin}: date and status");
        assert!(rule.level.is_some(), "{origin}: level");
        assert!(
            yaml.lines().all(|line| line.len() <= 1024 && !line.ends_with(' ')),
            "{origin}: lines"
        );
    }
}

#[test]
fn every_rule_names_a_tactic_and_a_technique_of_attack() {
    for (origin, rule, _) in rules() {
        let is_technique = |tag: &&String| {
            tag.strip_prefix("attack.t").is_some_and(|rest| {
                let (number, sub) = rest.split_once('.').unwrap_or((rest, "000"));
                number.len() == 4
                    && sub.len() == 3
                    && rest.bytes().all(|b| b.is_ascii_digit() || b == b'.')
            })
        };
        assert!(rule.tags.iter().any(|tag| is_technique(&tag)), "{origin}: no technique");
        let tactics = [
            "initial-access",
            "execution",
            "persistence",
            "privilege-escalation",
            "defense-evasion",
            "credential-access",
            "discovery",
            "lateral-movement",
            "collection",
            "command-and-control",
            "exfiltration",
            "impact",
        ];
        let has_tactic = |tag: &String| {
            tag.strip_prefix("attack.").is_some_and(|tactic| tactics.contains(&tactic))
        };
        assert!(rule.tags.iter().any(has_tactic), "{origin}: no tactic");
        for tag in &rule.tags {
            assert!(is_technique(&tag) || has_tactic(tag), "{origin}: unknown tag {tag}");
        }
    }
}

#[test]
fn a_rule_lies_where_its_log_source_says() {
    for (origin, rule, _) in rules() {
        let product = rule.logsource.product.as_deref().unwrap_or_default();
        assert!(origin.starts_with(&format!("{product}/")), "{origin}: product {product}");
        // What the live sensor delivers; anything else would never be seen.
        if product == "linux" {
            let category = rule.logsource.category.as_deref();
            assert!(
                matches!(category, Some("process_creation" | "network_connection")),
                "{origin}"
            );
        }
    }
}

/// The levels that policy acts on by itself are for what does not happen in normal work: such a rule
/// has to show more near-misses than others do.
#[test]
fn a_rule_that_may_isolate_a_machine_shows_normal_work_that_it_leaves_alone() {
    for (origin, rule, _) in rules() {
        let path = home().join(origin.replace(".yml", ".test.json"));
        let text =
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let test: serde_json::Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{origin}: {error}"));
        let keys: Vec<&String> = test.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["matches", "misses"], "{origin}");
        let (matches, misses) =
            (test["matches"].as_array().unwrap(), test["misses"].as_array().unwrap());
        assert!(matches.len() >= 2 && misses.len() >= 2, "{origin}: two of each at least");
        let is_acted_upon = matches!(rule.level, Some(Level::High | Level::Critical));
        if is_acted_upon && origin.starts_with("linux/") {
            assert!(misses.len() >= 3, "{origin}: three near-misses at least");
        }
    }
}

/// The engine runs a regular expression only where a text that each of its matches needs was found. One that
/// needs none would be run on every value, unless another item of its part, which is no expression, fails first.
#[test]
fn no_rule_runs_a_regular_expression_on_every_event() {
    let mut asked = 0;
    let mut slow = Vec::new();
    for (origin, _, yaml) in rules() {
        let detection = yaml.lines().skip_while(|line| *line != "detection:").skip(1);
        let lines: Vec<&str> = detection.take_while(|line| line.starts_with("  ")).collect();
        let begins = |line: &&str| !line.starts_with("   ") && !line.trim_start().starts_with('#');
        for part in lines.chunk_by(|_, next| !begins(next)) {
            // A filter is asked when all else holds.
            let is_filter = part.first().is_some_and(|name| name.starts_with("  filter_"));
            let is_held_back = is_filter
                || part.iter().skip(1).any(|line| {
                    let key = line.trim_start().trim_start_matches("- ").split(':').next();
                    key.is_some_and(|key| {
                        key.starts_with(char::is_uppercase) && !key.contains("|re")
                    })
                });
            for line in part.iter().filter(|line| line.contains("|re")) {
                let Some((_, value)) = line.split_once(": '") else { continue };
                let expression = value.strip_suffix('\'').unwrap_or(value).replace("''", "'");
                asked += 1;
                if cordon_detect::required_texts(&expression).is_none() && !is_held_back {
                    slow.push(format!("{origin}: {expression}"));
                }
            }
        }
    }
    assert!(asked > 100, "{asked} found");
    assert!(slow.is_empty(), "{}", slow.join("\n"));
}
