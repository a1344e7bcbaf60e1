//! `cordon rules` as an author types it: what is said, and whether all is well.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test states what it expects")]

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use cordon_scan::author::{RulesCommand, answer};
use cordon_scan::{Looks, ScanError};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

#[derive(clap::Parser)]
struct Cli {
    #[command(subcommand)]
    rules: RulesCommand,
}

const PLAIN: Looks = Looks { width: 100, has_colour: false, has_bar: false };

struct Answer {
    is_good: Result<bool, ScanError>,
    out: String,
    err: String,
}

fn asked(arguments: &[&str]) -> Answer {
    let cli = Cli::parse_from(["rules"].iter().chain(arguments));
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let answered = answer(&cli.rules, PLAIN, &mut out, &mut err);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let is_good = answered.map(|code| format!("{code:?}") == format!("{:?}", ExitCode::SUCCESS));
    Answer { is_good, out: text(out), err: text(err) }
}

const SHADOWS: &str = r"
title: Shadow copies deleted
id: 5e2a7d0c-0000-4000-8000-000000000001
status: stable
description: Somebody deletes the copies that files could be brought back from.
author: a hospital
date: 2026-03-01
tags: [attack.impact, attack.t1490]
logsource: { product: linux, category: process_creation }
detection:
    tool: { Image|endswith: /vssadmin }
    what: { CommandLine|contains|all: [delete, shadows] }
    backup: { User: svc_backup }
    condition: tool and what and not backup
falsepositives: [Administrators who free space]
level: high
";

const LOGONS: &str = r"
title: Failed logon
id: 5e2a7d0c-0000-4000-8000-000000000002
name: failed_logon
logsource: { product: linux, category: authentication }
detection:
    failed: { Result: failure }
    condition: failed
---
title: Many failed logons
id: 5e2a7d0c-0000-4000-8000-000000000003
correlation:
    type: event_count
    rules: [failed_logon]
    group-by: [User]
    timespan: 5m
    condition: { gte: 3 }
level: high
";

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn at(folder: &TempDir, name: &str) -> String {
    folder.path().join(name).to_str().unwrap().to_owned()
}

fn path(folder: &TempDir) -> &str {
    folder.path().to_str().unwrap()
}

#[test]
fn check_says_nothing_of_a_rule_that_is_well_written() {
    let rules = folder(&[("shadows.yml", SHADOWS)]);
    let answer = asked(&["check", "--strict", path(&rules)]);
    assert_eq!(answer.out, "1 rule in 1 file: 0 refused, 0 notes\n");
    assert!(answer.is_good.unwrap());
}

#[test]
fn check_names_what_is_refused_with_its_line_and_what_is_worth_a_second_look() {
    let bad =
        SHADOWS.replace("not backup", "not backups").replace("product: linux", "product: windows");
    let careless = r"
title: Something
logsource: { product: windows, category: proces_creation }
detection: { a: { Image: x }, condition: a }
level: high
";
    let rules = folder(&[("bad.yml", &bad), ("careless.yml", careless), ("good.yml", LOGONS)]);
    let answer = asked(&["check", path(&rules)]);
    assert!(!answer.is_good.unwrap());
    let line =
        |with: &[&str]| answer.out.lines().any(|line| with.iter().all(|part| line.contains(part)));
    assert!(line(&["bad.yml:", "refused", "backups"]), "{}", answer.out);
    assert!(line(&["careless.yml:1", "note", "`proces_creation`"]), "{}", answer.out);
    assert!(line(&["careless.yml:1", "note", "no `id`"]), "{}", answer.out);
    assert!(line(&["careless.yml:1", "note", "ATT&CK"]), "{}", answer.out);
    assert!(answer.out.contains("3 rules in 3 files: 1 refused"), "{}", answer.out);
    // Of several documents in a file, the line is that of the right one.
    assert!(line(&["good.yml:1:", "missing_level"]), "{}", answer.out);
    // Notes alone fail only who wants that.
    let only = at(&rules, "careless.yml");
    assert!(asked(&["check", &only]).is_good.unwrap());
    assert!(!asked(&["check", "--strict", &only]).is_good.unwrap());
    let json = asked(&["check", "--json", path(&rules)]).out;
    assert_eq!(json.lines().count(), answer.out.lines().count() - 1);
    for line in json.lines() {
        let remark: Json = serde_json::from_str(line).unwrap();
        assert!(remark["file"].is_string() && remark["line"].is_u64(), "{remark}");
    }
}

#[test]
fn check_takes_the_built_in_pack_and_finds_nothing_refused() {
    let answer = asked(&["check"]);
    assert!(answer.is_good.unwrap(), "{}", answer.out);
    assert!(answer.out.contains(": 0 refused"), "{}", answer.out);
}

const DELETED: &str =
    r#"{"Image":"/opt/vssadmin","CommandLine":"vssadmin delete shadows","User":"root"}"#;
const LISTED: &str =
    r#"{"Image":"/opt/vssadmin","CommandLine":"vssadmin list shadows","User":"root"}"#;
const OTHER: &str = r#"{"Image":"/bin/true","CommandLine":"true","User":"root"}"#;

#[test]
fn explain_shows_which_part_held() {
    let log = format!("{OTHER}\n{DELETED}\n");
    let rules = folder(&[("shadows.yml", SHADOWS), ("log.ndjson", &log)]);
    let answer = asked(&["explain", &at(&rules, "shadows.yml"), &at(&rules, "log.ndjson")]);
    assert!(answer.is_good.unwrap());
    let expected = "\
line 2: matches
  yes  all of
    yes  tool
      yes  Image endswith /vssadmin: it is \"/opt/vssadmin\"
    yes  what
      yes  all of
        yes  CommandLine contains delete: it is \"vssadmin delete shadows\"
        yes  CommandLine contains shadows: it is \"vssadmin delete shadows\"
    yes  not
      no   backup
        no   User is svc_backup: it is \"root\"
";
    assert!(answer.out.contains(expected), "{}", answer.out);
}

#[test]
fn explain_shows_the_closest_event_if_none_matches() {
    let log = format!("{OTHER}\n{LISTED}\n{OTHER}\n");
    let rules = folder(&[("shadows.yml", SHADOWS), ("log.ndjson", &log)]);
    let (rule, log) = (at(&rules, "shadows.yml"), at(&rules, "log.ndjson"));
    let answer = asked(&["explain", &rule, &log]);
    assert!(!answer.is_good.unwrap());
    assert!(answer.out.contains("None of 3 events matches. The closest one:"), "{}", answer.out);
    assert!(answer.out.contains("line 2: does not match"), "{}", answer.out);
    assert!(answer.out.contains("no   CommandLine contains delete"), "{}", answer.out);
    // One that was asked for is shown, however far.
    let answer = asked(&["explain", &rule, &log, "--line", "3"]);
    assert!(answer.out.contains("line 3: does not match"), "{}", answer.out);
    let answer = asked(&["explain", &rule, &log, "--line", "9"]);
    assert!(matches!(answer.is_good, Err(ScanError::NoSuchEvent { events: 3, .. })));
}

#[test]
fn explain_says_when_the_log_source_is_another() {
    let rules = folder(&[("shadows.yml", SHADOWS), ("log.ndjson", DELETED)]);
    let (rule, log) = (at(&rules, "shadows.yml"), at(&rules, "log.ndjson"));
    let answer = asked(&["explain", &rule, &log, "--product", "linux", "--category", "dns"]);
    assert!(!answer.is_good.unwrap());
    let said = "not of the rule's log source (product linux, category process_creation), \
                but of product linux, category dns";
    assert!(answer.out.contains(said), "{}", answer.out);
}

#[test]
fn explain_finds_rules_of_the_pack_and_asks_which_of_several_is_meant() {
    let rules = folder(&[("two.yml", LOGONS), ("log.ndjson", r#"{"Result":"failure"}"#)]);
    let (two, log) = (at(&rules, "two.yml"), at(&rules, "log.ndjson"));
    let which = asked(&["explain", &two, &log]).is_good.unwrap_err().to_string();
    assert!(which.contains("2 rules") && which.contains("Failed logon"), "{which}");
    assert!(asked(&["explain", &two, &log, "--id", "Failed logon"]).is_good.unwrap());
    let correlation = asked(&["explain", &two, &log, "--id", "Many failed logons"]).is_good;
    assert!(correlation.unwrap_err().to_string().contains("is a correlation"));
    let (origin, _) = cordon_rules::all().next().unwrap();
    let answer = asked(&["explain", origin, &log]);
    assert!(!answer.is_good.unwrap() && answer.out.contains(origin), "{}", answer.out);
    assert!(asked(&["explain", "no such rule", &log]).is_good.is_err());
}

const REPLICATION: &str = r"
title: Directory replicated by no domain controller
id: 5e2a7d0c-0000-4000-8000-000000000009
logsource: { product: linux, category: authentication }
detection:
    asked: { Right: replicate }
    known: { Host|expand: '%domain_controllers%' }
    condition: asked and not known
level: high
";

const CONTROLLERS: &str = "vars:\n    domain_controllers: ['dc1.*', dc2]\n";

/// The list is a file of its own among the rules, before or after them, and nothing is guessed without it.
#[test]
fn placeholders_are_said_beside_the_rules() {
    let stranger = r#"{"Right":"replicate","Host":"dc3.trust"}"#;
    let known = r#"{"Right":"replicate","Host":"DC1.trust"}"#;
    let events = tests(&[event(stranger)], &[event(known)]);
    for (name, other) in [("a.yml", "z.yml"), ("z.yml", "a.yml")] {
        let beside = other.replace(".yml", ".test.json");
        let rules = folder(&[(other, REPLICATION), (&beside, &events)]);
        let alone = asked(&["check", path(&rules)]);
        assert!(!alone.is_good.unwrap());
        assert!(
            alone.out.contains("the placeholder %domain_controllers% has no values"),
            "{}",
            alone.out
        );
        fs::write(at(&rules, name), CONTROLLERS).unwrap();
        let answer = asked(&["test", "--strict", path(&rules)]);
        assert!(answer.is_good.unwrap(), "{}{}", answer.out, answer.err);
        let checked = asked(&["check", path(&rules)]);
        assert!(checked.is_good.unwrap(), "{}", checked.out);
        assert!(
            !checked.out.contains(&format!("{name}:")),
            "no rule, so none of its style: {}",
            checked.out
        );

        fs::write(at(&rules, "log.ndjson"), known).unwrap();
        let (rule, log) = (at(&rules, other), at(&rules, "log.ndjson"));
        let refused = asked(&["explain", &rule, &log]);
        assert!(refused.err.contains("has no values"), "{}", refused.err);
        let answer = asked(&["explain", &rule, &log, "--with", &at(&rules, name)]);
        assert!(!answer.is_good.unwrap());
        assert!(answer.out.contains("yes  known"), "{}", answer.out);
    }
}

#[test]
fn what_is_wrong_with_placeholders_is_said_and_takes_no_rule_with_it() {
    let twice = "vars:\n    domain_controllers: dc9\n";
    let pipeline =
        "vars:\n  a: b\ntransformations:\n  - type: field_name_mapping\n    mapping: {A: B}\n";
    let shapes = "vars:\n    good: 1\n    bad:\n        nested: 2\n";
    let rules = folder(&[
        ("a.yml", CONTROLLERS),
        ("b.yml", twice),
        ("c.yml", pipeline),
        ("d.yml", shapes),
        ("rule.yml", REPLICATION),
    ]);
    let answer = asked(&["check", path(&rules)]);
    assert!(!answer.is_good.unwrap());
    for said in [
        "b.yml:2: refused: what %domain_controllers% stands for is said in",
        "c.yml:3: refused: `transformations` of a pipeline are not applied here",
        "d.yml:3: refused: each value of %bad% must be a text or a number",
        "1 rule in 5 files: 3 refused",
    ] {
        assert!(answer.out.contains(said), "{said}: {}", answer.out);
    }
}

fn tests(matches: &[Json], misses: &[Json]) -> String {
    json!({ "matches": matches, "misses": misses }).to_string()
}

fn event(text: &str) -> Json {
    serde_json::from_str(text).unwrap()
}

#[test]
fn test_asks_each_rule_about_the_events_beside_it() {
    let good = tests(&[event(DELETED)], &[event(LISTED), event(OTHER)]);
    let rules = folder(&[("shadows.yml", SHADOWS), ("shadows.test.json", &good)]);
    let answer = asked(&["test", "--strict", path(&rules)]);
    assert!(answer.is_good.unwrap(), "{}", answer.out);
    assert!(answer.out.contains("1 of 1 file tested with 3 events: 0 wrong"), "{}", answer.out);

    let bad = tests(&[event(LISTED)], &[event(DELETED)]);
    fs::write(at(&rules, "shadows.test.json"), bad).unwrap();
    let answer = asked(&["test", path(&rules)]);
    assert!(!answer.is_good.unwrap());
    assert!(answer.out.contains("2 wrong"), "{}", answer.out);
    assert!(answer.out.contains("no   CommandLine contains delete"), "{}", answer.out);
    assert!(answer.out.contains("matched by \"Shadow copies deleted\""), "{}", answer.out);
}

#[test]
fn test_gives_correlations_several_events() {
    let failure = |second: u32, user: &str| json!({ "@timestamp": format!("2026-03-01T02:00:{second:02}Z"), "Result": "failure", "User": user });
    let many = json!([failure(1, "a"), failure(2, "a"), failure(3, "a")]);
    let few = json!([failure(1, "a"), failure(2, "b"), failure(3, "a")]);
    let rules = folder(&[
        ("logons.yml", LOGONS),
        ("logons.test.json", &tests(std::slice::from_ref(&many), std::slice::from_ref(&few))),
    ]);
    let answer = asked(&["test", path(&rules)]);
    assert!(answer.is_good.unwrap(), "{}", answer.out);
    fs::write(at(&rules, "logons.test.json"), tests(&[few], &[many])).unwrap();
    let answer = asked(&["test", path(&rules)]);
    assert!(answer.out.contains("2 wrong"), "{}", answer.out);
    // Without a time nothing can be counted, and that is said.
    let untimed = json!([{ "Result": "failure", "User": "a" }]);
    fs::write(at(&rules, "logons.test.json"), tests(&[untimed], &[])).unwrap();
    let refused = asked(&["test", path(&rules)]);
    assert!(!refused.is_good.unwrap() && refused.out.contains("@timestamp"), "{}", refused.out);
}

#[test]
fn test_says_what_has_no_events_and_what_is_no_test() {
    let rules = folder(&[("shadows.yml", SHADOWS)]);
    let answer = asked(&["test", path(&rules)]);
    assert!(answer.is_good.unwrap());
    assert!(answer.out.contains("no event that it must match"), "{}", answer.out);
    assert!(!asked(&["test", "--strict", path(&rules)]).is_good.unwrap());
    for hostile in ["{", "[]", r#"{"match":[]}"#, r#"{"matches":["text"]}"#, r#"{"matches":[[1]]}"#]
    {
        fs::write(at(&rules, "shadows.test.json"), hostile).unwrap();
        let refused = asked(&["test", path(&rules)]);
        assert!(!refused.is_good.unwrap(), "{hostile}");
        assert!(refused.out.contains("shadows.test.json: "), "{hostile}: {}", refused.out);
    }
    // A rule that is not even loaded is no rule that did as its events say.
    fs::write(at(&rules, "shadows.test.json"), tests(&[event(DELETED)], &[])).unwrap();
    fs::write(at(&rules, "bad.yml"), SHADOWS.replace("not backup", "not backups")).unwrap();
    let refused = asked(&["test", path(&rules)]);
    assert!(!refused.is_good.unwrap());
    assert!(refused.out.contains("1 rule refused, and so not tested"), "{}", refused.out);
}

#[test]
fn nothing_from_a_rule_or_a_test_drives_the_terminal() {
    let evil = LOGONS.replace("title: Failed logon", r#"title: "Failed\e[2J logon""#);
    let rules = folder(&[
        ("two.yml", &evil),
        ("two.test.json", "{\"\u{1b}[2J\": []}"),
        ("log.ndjson", r#"{"Result":"failure"}"#),
    ]);
    let (two, log) = (at(&rules, "two.yml"), at(&rules, "log.ndjson"));
    let which = asked(&["explain", &two, &log]).is_good.unwrap_err().to_string();
    assert!(which.contains(r"Failed\u{1b}[2J logon"), "{which}");
    for arguments in
        [vec!["test", path(&rules)], vec!["check", path(&rules)], vec!["coverage", path(&rules)]]
    {
        let answer = asked(&arguments);
        assert!(!answer.out.contains('\u{1b}'), "{arguments:?}: {:?}", answer.out);
        assert!(!answer.err.contains('\u{1b}'), "{arguments:?}: {:?}", answer.err);
    }
}

#[test]
fn values_are_shown_as_the_event_has_them() {
    let rule = SHADOWS
        .replace("product: linux", "product: windows")
        .replace("/vssadmin", r"\vssadmin.exe");
    let log = r#"{"Channel":"Microsoft-Windows-Sysmon/Operational","EventID":1,"Image":"C:\\Windows\\vssadmin.exe","CommandLine":"\"vssadmin\" list","User":"a"}"#;
    let rules = folder(&[("shadows.yml", &rule), ("log.ndjson", log)]);
    let answer = asked(&["explain", &at(&rules, "shadows.yml"), &at(&rules, "log.ndjson")]);
    let shown = r#"Image endswith \vssadmin.exe: it is "C:\Windows\vssadmin.exe""#;
    assert!(answer.out.contains(shown), "{}", answer.out);
    assert!(answer.out.contains(r#"it is ""vssadmin" list""#), "{}", answer.out);
}

/// The pack's own rules do as their own events say, by the command that the guide names.
#[test]
fn the_pack_passes_its_tests() {
    let pack = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../rules");
    let folders = ["linux", "windows"].map(|name| pack.join(name).to_str().unwrap().to_owned());
    let answer = asked(&["test", "--strict", &folders[0], &folders[1]]);
    assert!(answer.is_good.unwrap(), "{}{}", answer.out, answer.err);
    assert!(answer.out.contains(&format!("{} of", cordon_rules::all().len())), "{}", answer.out);
}

#[test]
fn coverage_counts_rules_by_technique_and_writes_a_layer() {
    let rules = folder(&[("shadows.yml", SHADOWS), ("logons.yml", LOGONS)]);
    let file = at(&rules, "layer.json");
    let answer = asked(&["coverage", "--layer", &file, "--name", "Ward", path(&rules)]);
    assert!(answer.is_good.unwrap());
    assert!(
        answer.out.contains("Naming a technique: 1 rule (1 technique); naming none: 2."),
        "{}",
        answer.out
    );
    let impact = answer.out.lines().find(|line| line.starts_with("Impact")).unwrap();
    assert_eq!(impact.split_whitespace().collect::<Vec<_>>(), ["Impact", "1", "1"]);
    let layer: Json = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!(layer["name"], "Ward");
    assert_eq!(layer["versions"]["layer"], "4.5");
    assert_eq!(layer["domain"], "enterprise-attack");
    assert_eq!(layer["techniques"][0]["techniqueID"], "T1490");
    assert_eq!(layer["techniques"][0]["score"], 1);
    assert_eq!(layer["techniques"][0]["metadata"][0]["value"], "Shadow copies deleted");
    // The specification: the upper bound lies above the lower one.
    assert!(layer["gradient"]["maxValue"].as_u64() > layer["gradient"]["minValue"].as_u64());
    let alone = asked(&["coverage", "--layer", "-"]);
    assert!(serde_json::from_str::<Json>(&alone.out).is_ok(), "{}", alone.out);
}

/// It is passed over otherwise, and that is said.
#[test]
fn a_withdrawn_rule_is_still_checked() {
    let old = SHADOWS.replace("status: stable", "status: deprecated");
    let rules = folder(&[("old.yml", &old)]);
    let answer = asked(&["check", path(&rules)]);
    assert!(answer.out.contains("1 rule in 1 file: 0 refused"), "{}", answer.out);
    let answer = asked(&["coverage", path(&rules)]);
    assert!(matches!(answer.is_good, Err(ScanError::NoRules { .. })));
    assert!(answer.err.contains("1 rule is withdrawn by its author"), "{}", answer.err);
}
