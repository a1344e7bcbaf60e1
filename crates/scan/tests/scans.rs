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

const LOGONS: &str = r"
title: Failed logon
name: failed_logon
logsource: { product: windows, service: security }
detection:
    failed: { EventID: 4625 }
    condition: failed
level: low
---
title: Successful logon
name: successful_logon
logsource: { product: windows, service: security }
detection:
    successful: { EventID: 4624 }
    condition: successful
level: informational
---
title: Many failed logons
name: many_failed
correlation:
    type: event_count
    rules: [failed_logon]
    group-by: [TargetUserName]
    timespan: 10m
    condition: { gte: 3 }
level: medium
---
title: Many failed logons, then a successful one
id: 5e2a7d0c-0000-4000-8000-000000000003
correlation:
    type: temporal_ordered
    rules: [many_failed, successful_logon]
    group-by: [TargetUserName]
    timespan: 10m
tags: [attack.credential-access]
level: high
";

fn logon(id: u32, user: &str, computer: &str, minute: u32, record: u32) -> String {
    format!(
        "{{\"Channel\":\"Security\",\"EventID\":{id},\"TargetUserName\":\"{user}\",\"Computer\":\"{computer}\",\"EventRecordID\":{record},\"@timestamp\":\"2026-03-09T02:{minute:02}:00Z\"}}\n"
    )
}

#[test]
fn correlations_go_by_time_whatever_files_the_events_stand_in() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("logons.yml"), LOGONS).unwrap();
    fs::create_dir(at("logs")).unwrap();
    // The file that is read first has what happened last; another user never got in.
    let last = logon(4624, "nurse", "WARD-9", 5, 9) + &logon(4625, "bob", "WARD-9", 1, 8);
    fs::write(at("logs/a.ndjson"), last).unwrap();
    let first: String = (1..=3)
        .rev()
        .map(|n| {
            logon(4625, "Nurse", &format!("WARD-{n}"), n, n)
                + &logon(4625, "eve", "WARD-1", n, 10 + n)
        })
        .collect();
    fs::write(at("logs/b.ndjson"), first + &logon(4624, "eve", "WARD-1", 0, 20)).unwrap();
    let (logs, rules) = (path(&dir, "logs"), path(&dir, "logons.yml"));

    let table = scanned([&*logs, "--rules", &rules]);
    assert_eq!(table.verdict.unwrap(), Verdict { highest: Some(Level::High), is_complete: true });
    assert!(table.err.contains("4 rules loaded, 0 refused"), "{}", table.err);
    assert!(table.err.contains("3 rules are only part of correlations"), "{}", table.err);
    for expected in [
        "WARD-9\n1 finding of 1 rule, 2026-03-09 02:05:00 UTC",
        "Many failed logons, then a successful one",
        "3 × Failed logon, then Successful logon on 4 mac",
        "a.ndjson #9",
        "1 finding (1 high)",
    ] {
        assert!(table.out.contains(expected), "{expected}\n{}", table.out);
    }

    let lines = |threads: &str| {
        let arguments = [&*logs, "--rules", &rules, "--output", "ndjson", "--threads", threads];
        scanned(arguments).out
    };
    let told = lines("1");
    assert_eq!(told, lines("4"));
    assert_eq!(told.lines().count(), 1);
    let finding: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(finding["rule_id"], "5e2a7d0c-0000-4000-8000-000000000003");
    assert_eq!(finding["matched"][0]["field"], "TargetUserName");
    let correlated = &finding["correlated"];
    assert_eq!(correlated["since"], "2026-03-09T02:03:00Z");
    let hits: Vec<String> = correlated["hits"]
        .as_array()
        .unwrap()
        .iter()
        .map(|hit| format!("{} {}", hit["title"].as_str().unwrap(), hit["record_id"]))
        .collect();
    assert_eq!(hits, ["Failed logon 1", "Failed logon 2", "Failed logon 3", "Successful logon 9"]);

    // What is less grave than asked for is still a part of what is not.
    let grave = scanned([&*logs, "--rules", &rules, "--min-level", "high"]);
    assert!(grave.out.contains("1 finding of level high or above (1 high)"), "{}", grave.out);
}

#[test]
fn hits_that_cannot_be_correlated_are_told() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("logons.yml"), LOGONS).unwrap();
    let untimed = r#"{"Channel":"Security","EventID":4625,"TargetUserName":"nurse"}"#;
    let nobody = r#"{"Channel":"Security","EventID":4625,"@timestamp":"2026-03-09T02:00:00Z"}"#;
    fs::write(dir.path().join("a.ndjson"), format!("{untimed}\n{nobody}\n")).unwrap();
    let (log, rules) = (path(&dir, "a.ndjson"), path(&dir, "logons.yml"));
    let scanned = scanned([&*log, "--rules", &rules]);
    assert!(!scanned.verdict.unwrap().is_complete);
    assert!(
        scanned.out.contains("1 hit not correlated: the event has no time."),
        "{}",
        scanned.out
    );
    assert!(
        scanned.out.contains("1 hit left out of a correlation: they lack a field"),
        "{}",
        scanned.out
    );
    assert!(!scanned.out.contains("Not everything could be read"), "{}", scanned.out);
}

#[test]
fn what_the_baseline_has_is_counted_and_not_told_again() {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let event = |host: &str, command: &str| {
        format!(
            r#"{{"Channel":"Microsoft-Windows-Sysmon/Operational","EventID":1,"Computer":"{host}","Image":"C:\\x\\vssadmin.exe","CommandLine":"{command}"}}"#
        )
    };
    fs::write(at("rule.yml"), SHADOWS.replace("level: high", "level: medium")).unwrap();
    fs::write(at("quiet.ndjson"), event("a", "vssadmin delete shadows /all")).unwrap();
    let quiet = scanned(["--rules", &at("rule.yml"), "--output", "ndjson", &at("quiet.ndjson")]);
    assert_eq!(quiet.out.lines().count(), 1, "{}{}", quiet.out, quiet.err);
    fs::write(at("normal.ndjson"), &quiet.out).unwrap();
    // The same on another machine is normal, another command is not.
    let log =
        [event("b", "vssadmin delete shadows /all"), event("b", "vssadmin delete shadows /for=C:")];
    fs::write(at("log.ndjson"), log.join("\n")).unwrap();
    let with = ["--rules", &at("rule.yml"), "--baseline", &at("normal.ndjson"), &at("log.ndjson")];
    let scan = scanned(with);
    assert!(scan.out.contains("/for=C:") && !scan.out.contains("/all"), "{}", scan.out);
    assert!(scan.out.contains("1 finding not told: the baseline has the same (1 "), "{}", scan.out);
    // What may be acted on is told whatever is normal.
    fs::write(at("rule.yml"), SHADOWS).unwrap();
    assert!(scanned(with).out.contains("/all"));
    // A file that is no baseline is refused with its line, before anything is read.
    fs::write(at("normal.ndjson"), format!("{}not a finding\n", quiet.out)).unwrap();
    let refused = scanned(with).verdict.unwrap_err().to_string();
    assert!(refused.contains("normal.ndjson") && refused.contains("line 2"), "{refused}");
}

#[test]
fn a_report_tells_the_story_and_lets_nothing_of_a_log_be_more_than_text() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::write(at("rule.yml"), SHADOWS).unwrap();
    let event = |second: u32, command: &str| {
        let fields = serde_json::json!({
            "Channel": "Microsoft-Windows-Sysmon/Operational", "EventID": 1, "EventRecordID": second,
            "Provider_Name": "Microsoft-Windows-Sysmon", "Computer": "ward-<b>7</b>",
            "@timestamp": format!("2026-03-09T02:41:{second:02}Z"),
            "Image": r"C:\Windows\System32\vssadmin.exe", "CommandLine": command,
        });
        format!("{fields}\n")
    };
    let hostile = "vssadmin delete shadows \"><script>alert(1)</script>\u{202e}";
    fs::write(at("log.ndjson"), event(3, hostile) + &event(9, "vssadmin delete shadows")).unwrap();
    fs::write(at("quiet.ndjson"), event(1, "vssadmin list")).unwrap();
    let report = at("report.html");
    let run = |output: &str| {
        let (rules, log, quiet) = (at("rule.yml"), at("log.ndjson"), at("quiet.ndjson"));
        scanned(["--rules", &rules, "--output", output, "--report", &report, &log, &quiet])
    };
    let told = run("table");
    assert_eq!(told.verdict.unwrap().highest, Some(Level::High));
    assert!(told.out.contains("1 file adds nothing"), "{}", told.out);
    let page = fs::read_to_string(&report).unwrap();
    assert!(
        !page.contains("<script") && !page.contains("<b>") && !page.contains('\u{202e}'),
        "{page}"
    );
    for wanted in [
        "default-src 'none'",
        "ward-&lt;b&gt;7&lt;/b&gt;",
        "Shadow copies deleted",
        "×2",
        "2 times, the last at 2026-03-09 02:41:09",
        "&lt;script&gt;alert(1)&lt;/script&gt;",
        "Files that add nothing",
        "quiet.ndjson",
        "href=\"#f0\"",
        "id=\"f0\"",
        "contains shadows",
    ] {
        assert!(page.contains(wanted), "{wanted} is not in {page}");
    }
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(fs::metadata(&report).unwrap().permissions().mode() & 0o777, 0o600);
    // A log that is named by mistake is not written over, and nothing is scanned for it.
    let again = run("ndjson");
    assert!(matches!(again.verdict, Err(ScanError::Report { .. })), "{:?}", again.verdict);
    assert_eq!((fs::read_to_string(&report).unwrap(), again.out.as_str()), (page, ""));
    // Lines of JSON have the events only where --raw asks for them, report or not.
    fs::remove_file(&report).unwrap();
    assert!(!run("ndjson").out.contains("\"event\""));
}

#[test]
fn a_report_that_can_not_be_written_leaves_no_half_of_one() {
    let dir = folder();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let report = at("report.html");
    let told = scanned(["--rules", &at("rules"), "--report", &report, &at("no-such-log")]);
    assert!(told.verdict.is_err());
    // Nothing was read, which the report says.
    assert!(fs::read_to_string(&report).unwrap().contains("no-such-log"));
}
