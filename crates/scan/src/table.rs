//! Findings as a table for people: by machine, then by ATT&CK tactic, the gravest first.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};

use cordon_model::finding::{Level, RuleRef};
use cordon_model::time::UtcNanos;

use crate::files::LogFile;
use crate::finding::stamp;
use crate::first::{First, Seen};
use crate::folded::{Folded, Noise, Place, Row, judged, named};
use crate::tactic::{Tactic, techniques};
use crate::terminal::{Looks, count, counted, fitted, padded};

/// How findings are told to people.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Telling {
    /// Machines that were looked at, whether or not anything was found on them.
    pub machines: usize,
    /// Whether what fires on most of them stays where it is, instead of being told once.
    pub with_noise: bool,
}

/// Writes the table: what to read first, what is noise, and then machine by machine.
pub(crate) fn write(
    out: &mut dyn Write,
    folded: &Folded,
    rules: &[RuleRef],
    files: &[LogFile],
    with: Telling,
    looks: Looks,
) -> io::Result<()> {
    let total = folded.machines_in_all(with.machines);
    let rows = folded.rows(rules);
    let (first, noise) = judged(&rows, total, with.with_noise);
    read_first(out, &first, &rows, rules, files, looks)?;
    tell_noise(out, &noise, total, rules, looks)?;
    for (host, rows) in folded.in_order(rules, &noise) {
        machine(out, host, rows, &noise, rules, files, looks)?;
    }
    if folded.unshown() > 0 {
        let unshown = counted(folded.unshown(), "finding");
        writeln!(
            out,
            "{unshown} of further machines and rules not shown: the table is full. Use --output ndjson.\n"
        )?;
    }
    Ok(())
}

/// Tells what to read first, with why.
fn read_first(
    out: &mut dyn Write,
    first: &[First],
    rows: &[(Seen, &str, &Row)],
    rules: &[RuleRef],
    files: &[LogFile],
    looks: Looks,
) -> io::Result<()> {
    if first.is_empty() {
        return Ok(());
    }
    writeln!(out, "{}", looks.heading("Read first"))?;
    for First { at, why } in first {
        let Some((seen, host, of)) = rows.get(*at) else { continue };
        // The name is its machine's own word, of any length: the reason has its room first.
        let room = looks.width.saturating_sub(4 + why.len());
        writeln!(out, "\n  {}: {why}", fitted(named(host), room))?;
        row(out, &rules[seen.rule], of, files, looks)?;
    }
    writeln!(out)
}

/// Tells once what fires on most machines.
fn tell_noise(
    out: &mut dyn Write,
    noise: &Noise,
    machines: usize,
    rules: &[RuleRef],
    looks: Looks,
) -> io::Result<()> {
    if noise.is_empty() {
        return Ok(());
    }
    writeln!(out, "{}", looks.heading("On most machines, and left out below (--with-noise)"))?;
    for (rule, (on, count)) in noise {
        let rule = &rules[*rule];
        let level = looks.level(rule.level, &padded(rule.level.as_str(), LEVEL + 5));
        let about = format!(": {} on {on} of {machines}", counted(*count, "finding"));
        let width = looks.width.saturating_sub(4 + LEVEL + 5 + 1 + about.len());
        writeln!(out, "    {level} {}{about}", fitted(&rule.title, width))?;
    }
    writeln!(out)
}

fn machine(
    out: &mut dyn Write,
    host: &str,
    rows: &HashMap<usize, Row>,
    noise: &Noise,
    rules: &[RuleRef],
    files: &[LogFile],
    looks: Looks,
) -> io::Result<()> {
    let rows: Vec<(usize, &Row)> = rows
        .iter()
        .filter(|(rule, _)| !noise.contains_key(rule))
        .map(|(rule, row)| (*rule, row))
        .collect();
    let findings = rows.iter().map(|(_, row)| row.count).sum();
    let about =
        format!("{} of {}", counted(findings, "finding"), counted(rows.len() as u64, "rule"));
    let first = rows.iter().filter_map(|(_, row)| row.first).min();
    let last = rows.iter().filter_map(|(_, row)| row.last).max();
    let when = match (first, last) {
        (Some(first), Some(last)) if first == last => format!(", {} UTC", shown(first)),
        (Some(first), Some(last)) => format!(", {} to {} UTC", shown(first), shown(last)),
        _ => String::new(),
    };
    writeln!(out, "{}", looks.heading(&fitted(named(host), looks.width)))?;
    writeln!(out, "{about}{when}")?;

    let mut tactics: BTreeMap<Tactic, Vec<(&RuleRef, &Row)>> = BTreeMap::new();
    for (rule, row) in rows {
        let rule = &rules[rule];
        tactics.entry(Tactic::of(&rule.tags)).or_default().push((rule, row));
    }
    for (tactic, mut rows) in tactics {
        rows.sort_by(|(left, left_row), (right, right_row)| {
            let grave = right.level.cmp(&left.level);
            let early = left_row.first.cmp(&right_row.first);
            grave
                .then(early)
                .then_with(|| left.title.cmp(&right.title))
                .then_with(|| left.id.cmp(&right.id))
        });
        writeln!(out, "\n  {}", looks.heading(tactic.name()))?;
        for (rule, row) in rows {
            self::row(out, rule, row, files, looks)?;
        }
    }
    writeln!(out)
}

/// Columns before a row's title: four blanks, the level, two blanks.
const BEFORE_TITLE: usize = 4 + LEVEL + 2;
const LEVEL: usize = 8;
/// A time, to the second.
const TIME: usize = 19;
/// How often: `×123,456`.
const TIMES: usize = 8;

fn row(
    out: &mut dyn Write,
    rule: &RuleRef,
    row: &Row,
    files: &[LogFile],
    looks: Looks,
) -> io::Result<()> {
    let level = match rule.level {
        Level::Informational => "info",
        level => level.as_str(),
    };
    let level = looks.level(rule.level, &padded(level, LEVEL));
    let title_width = looks.width.saturating_sub(BEFORE_TITLE + 1 + TIMES + 2 + TIME);
    let title = padded(&fitted(&rule.title, title_width), title_width);
    let times = if row.count > 1 { format!("×{}", count(row.count)) } else { String::new() };
    let when = row.first.map(shown).unwrap_or_default();
    let line = format!("    {level}  {title} {}  {when}", padded(&times, TIMES));
    writeln!(out, "{}", line.trim_end())?;

    // Under the title, why; under how often and when, where.
    let techniques = techniques(&rule.tags);
    let dot = if techniques.is_empty() || row.evidence.is_empty() { "" } else { " · " };
    let why = fitted(&format!("{techniques}{dot}{}", row.evidence), title_width);
    let name = files[row.file].path.file_name().unwrap_or_default().to_string_lossy();
    let place = place(&name, &row.place);
    let second = format!("{} {place}", padded(&why, title_width));
    writeln!(out, "{}{}", " ".repeat(BEFORE_TITLE), looks.faint(second.trim_end()))
}

/// File and place in the columns under count and time; of a longer name the beginning is shown.
fn place(file: &str, place: &Place) -> String {
    let place = match place {
        Place::Record(record) => format!(" #{record}"),
        Place::Line(line) => format!(" line {line}"),
        Place::Byte(offset) => format!(" byte {offset}"),
    };
    let file = fitted(file, (TIMES + 2 + TIME).saturating_sub(place.len()));
    format!("{file}{place}")
}

/// A time, to the second, in UTC.
pub(crate) fn shown(time: UtcNanos) -> String {
    stamp(time).map_or_else(String::new, |stamp| stamp.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::ScanFinding;
    use cordon_model::finding::MatchedField;
    use cordon_model::ids::FindingId;

    fn rule(title: &str, level: Level, tags: &[&str]) -> RuleRef {
        let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        RuleRef { id: title.to_owned(), title: title.to_owned(), level, tags }
    }

    fn finding(rule: usize, host: &str, second: i64, command: &str) -> ScanFinding {
        let matched = |field: &str, value: &str| MatchedField {
            field: field.into(),
            value: value.into(),
            pattern: String::new(),
        };
        ScanFinding {
            id: FindingId::of("", "", &[0; 32]),
            rule,
            host: Some(host.into()),
            time: Some(UtcNanos::from_unix_nanos(second * 1_000_000_000)),
            record_id: Some(12),
            offset: 0,
            line: None,
            matched: vec![matched("EventID", "1"), matched("CommandLine", command)],
            raw: None,
            correlated: None,
        }
    }

    fn written(findings: &[ScanFinding], width: usize) -> String {
        written_with(findings, width, false)
    }

    fn written_with(findings: &[ScanFinding], width: usize, with_noise: bool) -> String {
        let rules = [
            rule("Shadow copies deleted", Level::Critical, &["attack.impact", "attack.t1490"]),
            rule("A very long title ".repeat(9).trim(), Level::Informational, &[]),
            rule("Remote service", Level::High, &["attack.lateral-movement"]),
        ];
        let files = [LogFile { path: "logs/sysmon.evtx".into(), bytes: 1, is_named: true }];
        let mut folded = Folded::default();
        for finding in findings {
            folded.add(0, rules[finding.rule].level, finding);
        }
        let mut out = Vec::new();
        let looks = Looks { width, has_colour: false, has_bar: false };
        let with = Telling { machines: 0, with_noise };
        write(&mut out, &folded, &rules, &files, with, looks).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_to_read_first_stands_first_and_noise_is_told_once() {
        let host = |number: usize| format!("ward-{number}");
        let mut findings: Vec<ScanFinding> =
            (0..12).map(|number| finding(1, &host(number), 1_700_000_000, "update")).collect();
        findings.push(finding(0, &host(3), 1_700_000_100, "vssadmin delete shadows"));
        let text = written(&findings, 100);
        let expected = "\
Read first

  ward-3: critical; on this machine alone of 12
    critical  Shadow copies deleted                                              2023-11-14 22:15:00
              T1490 · CommandLine: vssadmin delete shadows, EventID: 1 sysmon.evtx #12

On most machines, and left out below (--with-noise)
    informational A very long title";
        assert!(text.starts_with(expected), "{text}");
        assert!(text.contains(": 12 findings on 12 of 12"), "{text}");
        // The machines that have nothing else are not listed; with the noise they all are.
        assert_eq!(text.matches("\nward-").count(), 1, "{text}");
        assert_eq!(written_with(&findings, 100, true).matches("\nward-").count(), 12);
    }

    #[test]
    fn the_gravest_machine_comes_first_and_one_rule_is_one_row() {
        let hostile = "vssadmin delete shadows\u{1b}[2J";
        let findings = [
            finding(2, "ward-1", 1_700_000_100, "psexec"),
            finding(0, "ward-7", 1_700_000_000, hostile),
            finding(0, "ward-7", 1_700_000_060, hostile),
            finding(2, "ward-7", 1_700_000_030, "psexec"),
        ];
        let expected = "\
ward-7
3 findings of 2 rules, 2023-11-14 22:13:20 to 2023-11-14 22:14:20 UTC

  Lateral movement
    high      Remote service                                                     2023-11-14 22:13:50
              CommandLine: psexec, EventID: 1                          sysmon.evtx #12

  Impact
    critical  Shadow copies deleted                                    ×2        2023-11-14 22:13:20
              T1490 · CommandLine: vssadmin delete shadows\\u{1b}[2J, … sysmon.evtx #12

ward-1
1 finding of 1 rule, 2023-11-14 22:15:00 UTC

  Lateral movement
    high      Remote service                                                     2023-11-14 22:15:00
              CommandLine: psexec, EventID: 1                          sysmon.evtx #12

";
        assert_eq!(written(&findings, 100), expected);
    }

    #[test]
    fn no_line_is_wider_than_asked() {
        let long = "x".repeat(1000);
        let findings = [finding(0, &long, 1, &long), finding(1, "h", 2, &long)];
        for width in [80, 100, 120] {
            for line in written(&findings, width).lines() {
                assert!(line.chars().count() <= width, "{width}: {line}");
            }
        }
    }
}
