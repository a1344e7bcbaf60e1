//! Whole scans: logs and rules on disk, what is told, and the exit status.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test states what it expects"
)]

#[path = "../../intake/tests/support/mod.rs"]
mod support;

use std::fs;
use std::io::{self, Write};

use clap::Parser as _;
use cordon_model::finding::Level;
use cordon_scan::{Looks, ScanArgs, ScanError, Verdict, scan};
use support::process_starts;
use tempfile::TempDir;

#[derive(clap::Parser)]
struct Cli {
    #[command(flatten)]
    scan: ScanArgs,
}

const PLAIN: Looks = Looks { width: 100, has_colour: false, has_bar: false };

struct Scanned {
    verdict: Result<Verdict, ScanError>,
    out: String,
    err: String,
}

/// Scans with a command line as a person types it.
fn scanned<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Scanned {
    let cli = Cli::parse_from(["scan"].into_iter().chain(arguments));
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let verdict = scan(&cli.scan, PLAIN, &mut out, &mut err);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Scanned { verdict, out: text(out), err: text(err) }
}

const SHADOWS: &str = r"
title: Shadow copies deleted
id: 5e2a7d0c-0000-4000-8000-000000000001
logsource: { product: windows, category: process_creation }
detection:
    tool:
        Image|endswith: '\vssadmin.exe'
        CommandLine|contains|all: [delete, shadows]
    condition: tool
tags: [attack.impact, attack.t1490]
level: high
";

const ANY_NURSE: &str = r"
title: A nurse did something
id: 5e2a7d0c-0000-4000-8000-000000000002
logsource: { product: windows, category: process_creation }
detection:
    who:
        User|endswith: '\nurse'
    condition: who
level: low
";

const BROKEN: &str =
    "title: Broken\nlogsource: { product: windows }\ndetection:\n    condition: nothing\n";

/// A folder with rules and logs: five files, ten process starts each, one of them torn, one no log.
fn folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir_all(at("rules/deep")).unwrap();
    fs::create_dir_all(at("logs/deep")).unwrap();
    fs::write(at("rules/shadows.yml"), SHADOWS).unwrap();
    fs::write(at("rules/deep/nurse.yaml"), ANY_NURSE).unwrap();
    fs::write(at("rules/deep/broken.yml"), BROKEN).unwrap();
    fs::write(at("rules/README.md"), "not a rule").unwrap();
    fs::write(at("rules/deep/info.yml"), "about: test data\n").unwrap();
    fs::create_dir(at("rules/.github")).unwrap();
    fs::write(at("rules/.github/build.yml"), "detection: none\n").unwrap();
    let log = process_starts(2, 5);
    for name in ["logs/a.evtx", "logs/deep/b.evtx", "logs/c.evtx"] {
        fs::write(at(name), log.bytes()).unwrap();
    }
    let mut torn = log.bytes();
    torn[log.place_of(4).0] = 0;
    fs::write(at("logs/torn.evtx"), torn).unwrap();
    fs::write(at("logs/notes.txt"), "call the vendor").unwrap();
    dir
}

fn path(dir: &TempDir, name: &str) -> String {
    dir.path().join(name).to_str().unwrap().to_owned()
}

#[test]
fn a_folder_is_scanned_with_a_folder_of_rules() {
    let dir = folder();
    let (logs, rules) = (path(&dir, "logs"), path(&dir, "rules"));
    let scanned = scanned([&*logs, "--rules", &rules]);
    let verdict = scanned.verdict.unwrap();
    assert_eq!(verdict, Verdict { highest: Some(Level::High), is_complete: false });
    assert!(scanned.err.contains("2 rules loaded, 1 refused"), "{}", scanned.err);
    let out = &scanned.out;
    for expected in [
        "WARD-7.hospital.example\n78 findings of 2 rules, 2023-11-14 22:13:20 to 2023-11-14 22:13:29 UTC",
        "  Impact\n    high      Shadow copies deleted",
        "×39",
        "T1490 · CommandLine: vssadmin.exe delete shadows /all",
        "lost record 4 (",
        "Read 39 records in 4 files",
        "with 2 rules: 78 findings (39 high, 39 low).",
        "1 rule refused and not tried; --show-refused says why.",
        "1 file passed over: neither EVTX nor JSON.",
        "Not everything could be read: see above.",
    ] {
        assert!(out.contains(expected), "{expected} is not in:\n{out}");
    }
}

#[test]
fn a_refused_rule_is_named_with_its_line_and_reason() {
    let dir = folder();
    let (logs, rules) = (path(&dir, "logs"), path(&dir, "rules"));
    let scanned = scanned([&*logs, "--rules", &rules, "--show-refused"]);
    assert!(scanned.err.contains("broken.yml:"), "{}", scanned.err);
    assert!(scanned.err.contains("info.yml: passed over, holds no rule"), "{}", scanned.err);
    assert!(!scanned.err.contains(".github"), "{}", scanned.err);
}

#[test]
fn lines_are_json_in_the_order_of_files_and_records_for_any_number_of_threads() {
    let dir = folder();
    let (logs, rules) = (path(&dir, "logs"), path(&dir, "rules"));
    let lines = |threads: &str| {
        scanned([&*logs, "--rules", &rules, "--output", "ndjson", "--threads", threads]).out
    };
    let alone = lines("1");
    assert_eq!(lines("3"), alone);
    let findings: Vec<serde_json::Value> =
        alone.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(findings.len(), 78);
    let files: Vec<_> = findings.iter().map(|finding| finding["file"].as_str().unwrap()).collect();
    assert!(files.is_sorted(), "{files:?}");
    assert!(findings[..20].is_sorted_by_key(|finding| finding["record_id"].as_u64()));
    let first = &findings[0];
    assert_eq!(first["rule_id"], "5e2a7d0c-0000-4000-8000-000000000002");
    assert_eq!(first["title"], "A nurse did something");
    assert_eq!(first["level"], "low");
    assert_eq!(first["host"], "WARD-7.hospital.example");
    assert_eq!(first["time"], "2023-11-14T22:13:20Z");
    assert_eq!(first["record_id"], 1);
    assert_eq!(first["matched"][0]["field"], "User");
    // The same event in another file is the same finding.
    assert_eq!(first["id"], findings[20]["id"]);
    assert_ne!(first["id"], findings[1]["id"]);
}

#[test]
fn the_complete_event_comes_on_demand() {
    let dir = folder();
    let (log, rules) = (path(&dir, "logs/a.evtx"), path(&dir, "rules"));
    let scanned = scanned([&*log, "--rules", &rules, "--output", "ndjson", "--raw"]);
    let first: serde_json::Value =
        serde_json::from_str(scanned.out.lines().next().unwrap()).unwrap();
    assert_eq!(first["event"]["Event"]["EventData"]["User"], "WARD-7\\nurse");
}

#[test]
fn findings_below_the_wanted_level_are_not_told() {
    let dir = folder();
    let (log, rules) = (path(&dir, "logs/a.evtx"), path(&dir, "rules"));
    let low = scanned([&*log, "--rules", &rules, "--min-level", "critical"]);
    assert_eq!(low.verdict.unwrap(), Verdict { highest: None, is_complete: true });
    let expected = "Read 10 records in 1 file (135.1 kB) with 2 rules. No rule of level critical or above matched a record.";
    assert!(low.out.starts_with(expected), "{}", low.out);
}

#[test]
fn the_built_in_pack_finds_deleted_shadow_copies() {
    let dir = folder();
    let log = path(&dir, "logs/a.evtx");
    let alone = scanned([&*log]);
    assert!(alone.verdict.unwrap().highest >= Some(Level::High), "{}", alone.out);
    let rules = path(&dir, "rules");
    let both = scanned([&*log, "--rules", &rules, "--builtin"]);
    assert!(both.out.contains("A nurse did something"), "{}", both.out);
}

#[test]
fn json_events_meet_the_rules_of_the_source_they_are_said_to_be_of() {
    let dir = folder();
    let log = dir.path().join("starts.ndjson");
    let event =
        r#"{"Image":"C:\\vssadmin.exe","CommandLine":"vssadmin delete shadows","Hostname":"h"}"#;
    fs::write(&log, format!("{event}\n{{\"torn\n{event}\n")).unwrap();
    let (log, rules) = (log.to_str().unwrap(), path(&dir, "rules"));
    let unsaid = scanned([log, "--rules", &rules]);
    assert_eq!(unsaid.verdict.unwrap().highest, None);
    assert!(unsaid.out.contains("2 records don't say what log they are of"), "{}", unsaid.out);
    assert!(unsaid.out.contains("(line 2): torn object"), "{}", unsaid.out);
    let said = ["--product", "windows", "--category", "process_creation", "--output", "ndjson"];
    let said = scanned([log, "--rules", &rules].into_iter().chain(said));
    assert_eq!(said.out.lines().count(), 2);
    assert!(said.out.contains("\"line\":3"), "{}", said.out);
}

#[test]
fn a_scan_that_could_not_be_made_is_an_error() {
    let dir = folder();
    let (logs, rules) = (path(&dir, "logs"), path(&dir, "rules"));
    let nowhere = scanned(["/no/such/log", "--rules", &rules]);
    assert!(matches!(nowhere.verdict, Err(ScanError::NothingRead)));
    assert!(nowhere.out.contains("/no/such/log: No such file"), "{}", nowhere.out);
    let no_folder = scanned([&*logs, "--rules", "/no/such/rules"]);
    assert!(matches!(no_folder.verdict, Err(ScanError::Rules { .. })));
    let broken = path(&dir, "rules/deep/broken.yml");
    let no_rule = scanned([&*logs, "--rules", &broken]);
    assert!(matches!(no_rule.verdict, Err(ScanError::NoRules { refused: 1 })));
}

/// Takes some bytes, then its reader is gone.
struct Gone(usize);
impl Write for Gone {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.0 -= 1;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_went_away_is_no_error() {
    let dir = folder();
    let (logs, rules) = (path(&dir, "logs"), path(&dir, "rules"));
    for output in ["table", "ndjson"] {
        let cli = Cli::parse_from(["scan", &logs, "--rules", &rules, "--output", output]);
        let verdict = scan(&cli.scan, PLAIN, &mut Gone(3), &mut io::sink());
        assert_eq!(verdict.unwrap().highest, Some(Level::High), "{output}");
    }
}

#[test]
fn hostile_event_data_reaches_the_terminal_only_escaped() {
    let dir = folder();
    let log = dir.path().join("hostile.ndjson");
    let event = r#"{"Image":"C:\\vssadmin.exe","CommandLine":"\u001b[2Jdelete shadows\u202e","Hostname":"\u001b]0;h\u0007"}"#;
    fs::write(&log, event).unwrap();
    let (log, rules) = (log.to_str().unwrap(), path(&dir, "rules"));
    let said = ["--product", "windows", "--category", "process_creation"];
    let scanned = scanned([log, "--rules", &rules].into_iter().chain(said));
    assert!(scanned.out.contains("\\u{1b}]0;h\\u{7}\n1 finding"), "{}", scanned.out);
    assert!(!scanned.out.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{}", scanned.out);
}

#[test]
fn help_states_the_exit_status() {
    let help = <Cli as clap::CommandFactory>::command().render_long_help().to_string();
    assert!(help.contains("13  … critical"), "{help}");
}
