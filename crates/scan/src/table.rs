//! Findings as a table for people: by machine, then by ATT&CK tactic, the gravest first.
//!
//! The same rule on the same machine is one row with a count, however often it fired: what a person reads
//! is what happened, not how loud it was.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};

use cordon_model::finding::{Level, RuleRef};
use cordon_model::time::UtcNanos;

use crate::files::LogFile;
use crate::finding::{ScanFinding, stamp};
use crate::tactic::{Tactic, techniques};
use crate::terminal::{Looks, count, counted, fitted, padded};

/// Rows kept: one for each machine and rule. 50,000 rows of about 600 bytes are 30 MB; machine names are the
/// log writer's, so there could be any number. What is over is counted.
const ROWS: usize = 50_000;

/// The longest reason kept with a row, in bytes: two lines of the widest table.
const EVIDENCE_BYTES: usize = 480;

/// Everything found, folded.
#[derive(Default)]
pub(crate) struct Table {
    machines: BTreeMap<String, HashMap<usize, Row>>,
    rows: usize,
    /// Findings of rows that found no room.
    unshown: u64,
}

/// One rule on one machine.
struct Row {
    count: u64,
    first: Option<UtcNanos>,
    last: Option<UtcNanos>,
    /// Where the first one told stands.
    file: usize,
    place: Place,
    evidence: String,
}

/// Where in its file a finding stands, as its reader would look for it.
enum Place {
    Record(u64),
    Line(u64),
    Byte(u64),
}

impl Table {
    /// Adds one finding of file number `file`.
    pub(crate) fn add(&mut self, file: usize, finding: &ScanFinding) {
        let host = finding.host.as_deref().unwrap_or("");
        if let Some(row) = self.machines.get_mut(host).and_then(|rows| rows.get_mut(&finding.rule))
        {
            row.count += 1;
            row.first = row.first.into_iter().chain(finding.time).min();
            row.last = row.last.into_iter().chain(finding.time).max();
            return;
        }
        if self.rows >= ROWS {
            self.unshown += 1;
            return;
        }
        self.rows += 1;
        let place = match (finding.record_id, finding.line) {
            (Some(record), _) => Place::Record(record),
            (None, Some(line)) => Place::Line(line),
            (None, None) => Place::Byte(finding.offset),
        };
        let row = Row {
            count: 1,
            first: finding.time,
            last: finding.time,
            file,
            place,
            evidence: evidence(finding),
        };
        self.machines.entry(host.to_owned()).or_default().insert(finding.rule, row);
    }

    /// Writes the table.
    pub(crate) fn write(
        &self,
        out: &mut dyn Write,
        rules: &[RuleRef],
        files: &[LogFile],
        looks: Looks,
    ) -> io::Result<()> {
        let mut machines: Vec<_> = self.machines.iter().collect();
        let gravest = |rows: &HashMap<usize, Row>| rows.keys().map(|rule| rules[*rule].level).max();
        // Stable, so that machines of one level stay in the order of their names.
        machines.sort_by_key(|(_, rows)| std::cmp::Reverse(gravest(rows)));
        for (host, rows) in machines {
            machine(out, host, rows, rules, files, looks)?;
        }
        if self.unshown > 0 {
            let unshown = counted(self.unshown, "finding");
            writeln!(
                out,
                "{unshown} of further machines and rules not shown: the table is full. Use --output ndjson.\n"
            )?;
        }
        Ok(())
    }
}

fn machine(
    out: &mut dyn Write,
    host: &str,
    rows: &HashMap<usize, Row>,
    rules: &[RuleRef],
    files: &[LogFile],
    looks: Looks,
) -> io::Result<()> {
    let findings = rows.values().map(|row| row.count).sum();
    let host = if host.is_empty() { "(no machine named)" } else { host };
    let about =
        format!("{} of {}", counted(findings, "finding"), counted(rows.len() as u64, "rule"));
    let first = rows.values().filter_map(|row| row.first).min();
    let last = rows.values().filter_map(|row| row.last).max();
    let when = match (first, last) {
        (Some(first), Some(last)) if first == last => format!(", {} UTC", shown(first)),
        (Some(first), Some(last)) => format!(", {} to {} UTC", shown(first), shown(last)),
        _ => String::new(),
    };
    writeln!(out, "{}", looks.heading(&fitted(host, looks.width)))?;
    writeln!(out, "{about}{when}")?;

    let mut tactics: BTreeMap<Tactic, Vec<(&RuleRef, &Row)>> = BTreeMap::new();
    for (rule, row) in rows {
        let rule = &rules[*rule];
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

/// Fields that say what kind of event it was rather than what happened: told last.
const KINDS: [&str; 8] = [
    "Channel",
    "Company",
    "Description",
    "EventID",
    "Initiated",
    "OriginalFileName",
    "Product",
    "Provider_Name",
];

/// Why a rule matched, in one line: what was done first, by what, then the kind of event.
fn evidence(finding: &ScanFinding) -> String {
    let rank = |field: &str| match field {
        "CommandLine" | "ScriptBlockText" => 0,
        kind if KINDS.contains(&kind) => 3,
        path if path.ends_with("Image") => 2,
        _ => 1,
    };
    let mut reasons: Vec<_> = finding.matched.iter().collect();
    reasons.sort_by_key(|matched| rank(&matched.field));
    // One value can match in several ways; it is shown once.
    reasons.dedup_by(|right, left| right.field == left.field && right.value == left.value);
    let mut text = String::new();
    for matched in reasons {
        if text.len() >= EVIDENCE_BYTES {
            break;
        }
        if !text.is_empty() {
            text.push_str(", ");
        }
        if !matched.field.is_empty() {
            text.push_str(&matched.field);
            text.push_str(": ");
        }
        text.push_str(&matched.value);
    }
    if text.len() > EVIDENCE_BYTES {
        let mut end = EVIDENCE_BYTES;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    text
}

/// A time, to the second, in UTC.
fn shown(time: UtcNanos) -> String {
    stamp(time).map_or_else(String::new, |stamp| stamp.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
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
        }
    }

    fn written(findings: &[ScanFinding], width: usize) -> String {
        let rules = [
            rule("Shadow copies deleted", Level::Critical, &["attack.impact", "attack.t1490"]),
            rule("A very long title ".repeat(9).trim(), Level::Informational, &[]),
            rule("Remote service", Level::High, &["attack.lateral-movement"]),
        ];
        let files = [LogFile { path: "logs/sysmon.evtx".into(), bytes: 1, is_named: true }];
        let mut table = Table::default();
        for finding in findings {
            table.add(0, finding);
        }
        let mut out = Vec::new();
        table
            .write(&mut out, &rules, &files, Looks { width, has_colour: false, has_bar: false })
            .unwrap();
        String::from_utf8(out).unwrap()
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
