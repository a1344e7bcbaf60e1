//! What was found as one page for a browser: what to read first, then each machine's story along time.
//!
//! The one idea: the page is read where there is no network, is sent on, and is full of an attacker's text.
//! So it is one file without scripts, loads nothing, and whatever came from a log is text and nothing else.

use std::collections::{BTreeSet, HashMap};
use std::fs::{File, OpenOptions, remove_file};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use cordon_model::finding::{Level, RuleRef};
use cordon_model::time::UtcNanos;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::ScanError;
use crate::files::LogFile;
use crate::first::{First, Seen};
use crate::folded::{Detail, Folded, Noise, Place, Row, judged, named};
use crate::summary::{FileRead, Summary};
use crate::table::{Telling, shown};
use crate::tactic::{Tactic, techniques};
use crate::terminal::{Looks, Safe, count, counted};

const STYLE: &str = include_str!("report.css");

/// Files that are named: more can't be read by a person. The others are counted.
const NAMED: usize = 1_000;

/// The page as a reader of any browser may have it: no script, nothing fetched, no form, no frame.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// A report that is to be written, in a file that is there already and taken away again if it isn't.
pub(crate) struct Report {
    path: PathBuf,
    file: File,
    is_written: bool,
}

/// What a report is of.
#[derive(Clone, Copy)]
pub(crate) struct Of<'s> {
    pub folded: &'s Folded,
    pub rules: &'s [RuleRef],
    pub files: &'s [LogFile],
    pub summary: &'s Summary,
    pub min_level: Level,
    pub with: Telling,
}

/// Makes the file, for its owner alone: what is in it may be about patients. Before the scan, so that nobody
/// waits for an hour to hear that it can't be written.
///
/// # Errors
/// [`ScanError::Report`] where there is such a file already (it could be a log), or none can be made.
pub(crate) fn begin(path: &Path) -> Result<Report, ScanError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path);
    let file = file.map_err(|error| ScanError::Report { path: path.to_owned(), error })?;
    Ok(Report { path: path.to_owned(), file, is_written: false })
}

impl Drop for Report {
    fn drop(&mut self) {
        if !self.is_written {
            let _ = remove_file(&self.path);
        }
    }
}

impl Report {
    /// Writes it.
    ///
    /// # Errors
    /// [`ScanError::Report`] where the disk refuses; no half of a page is left then.
    pub(crate) fn write(mut self, of: &Of<'_>) -> Result<(), ScanError> {
        let mut out = BufWriter::new(&self.file);
        match page(&mut out, of).and_then(|()| out.flush()) {
            Ok(()) => {
                drop(out);
                self.is_written = true;
                Ok(())
            }
            Err(error) => {
                drop(out);
                Err(ScanError::Report { path: self.path.clone(), error })
            }
        }
    }
}

/// One row with its place in the page.
#[derive(Clone, Copy)]
struct Entry<'s> {
    /// Its number, which is its anchor.
    at: usize,
    rule: &'s RuleRef,
    row: &'s Row,
}

/// Writes the page, machine by machine, so that no more than one is in memory twice.
fn page(out: &mut dyn Write, of: &Of<'_>) -> io::Result<()> {
    let rows = of.folded.rows(of.rules);
    let total = of.folded.machines_in_all(of.with.machines);
    let (first, noise) = judged(&rows, total, of.with.with_noise);
    let machines = of.folded.in_order(of.rules, &noise);
    let mut entries: HashMap<&str, Vec<Entry<'_>>> = HashMap::new();
    for (at, (seen, host, row)) in rows.iter().enumerate() {
        if !noise.contains_key(&seen.rule) {
            let entry = Entry { at, rule: &of.rules[seen.rule], row };
            entries.entry(host).or_default().push(entry);
        }
    }
    let head = html! {
        (DOCTYPE)
        html lang="en-GB" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="referrer" content="no-referrer";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Scan: what happened here" }
                style { (PreEscaped(STYLE)) }
            }
        }
    };
    // The end of the frame is written when all machines are.
    let head = head.into_string().replace("</html>", "");
    write!(out, "{head}<body>")?;
    out.write_all(opening(of).into_string().as_bytes())?;
    out.write_all(read_first(&first, &rows, of.rules).into_string().as_bytes())?;
    out.write_all(told_once(&noise, total, of.rules).into_string().as_bytes())?;
    let hosts: Vec<&str> = machines.iter().map(|(host, _)| *host).collect();
    out.write_all(contents(&hosts, &entries).into_string().as_bytes())?;
    for (number, host) in hosts.iter().enumerate() {
        let entries = entries.get(host).map(Vec::as_slice).unwrap_or_default();
        out.write_all(machine(number, host, entries, of.files).into_string().as_bytes())?;
    }
    out.write_all(files(of).into_string().as_bytes())?;
    writeln!(out, "</body></html>")
}

/// The heading, and of how much this is the result.
fn opening(of: &Of<'_>) -> Markup {
    let read = of.summary.files();
    let records = read.iter().map(|read| read.records).sum();
    let findings = read.iter().map(|read| read.findings).sum();
    let unshown = of.folded.unshown();
    html! {
        h1 { "What happened here" }
        p {
            (counted(findings, "finding")) " in " (counted(records, "record")) " of "
            (counted(read.len() as u64, "file")) ", read with " (counted(of.rules.len() as u64, "rule")) "."
            @if !of.summary.is_complete() { " " a href="#files" { strong { "Not everything could be read." } } }
        }
        @if unshown > 0 {
            p { (counted(unshown, "finding")) " of further machines and rules not shown: there are too many. Use --output ndjson." }
        }
        p.faint {
            "Times are UTC, as the logs have them. A rule that matched on a machine again and again is one line. "
            "Click a line to see what matched, and the first event."
        }
    }
}

fn read_first(first: &[First], rows: &[(Seen, &str, &Row)], rules: &[RuleRef]) -> Markup {
    html! {
        @if !first.is_empty() {
            h2 { "Read first" }
            ol.first {
                @for First { at, why } in first {
                    @if let Some((seen, host, row)) = rows.get(*at) {
                        @let rule = &rules[seen.rule];
                        li {
                            (level(rule.level)) " " a href=(format!("#f{at}")) { (safe(&rule.title)) }
                            " on " strong { (safe(named(host))) }
                            @if let Some(first) = row.first { ", " (shown(first)) }
                            br;
                            span.faint { (why) "; " (safe(&row.evidence)) }
                        }
                    }
                }
            }
        }
    }
}

/// What fires on most machines.
fn told_once(noise: &Noise, machines: usize, rules: &[RuleRef]) -> Markup {
    html! {
        @if !noise.is_empty() {
            h2 { "On most machines, and left out below" }
            table {
                @for (rule, (on, number)) in noise {
                    @let rule = &rules[*rule];
                    tr {
                        td { (level(rule.level)) }
                        td { (safe(&rule.title)) }
                        td { (counted(*number, "finding")) " on " (on) " of " (machines) }
                    }
                }
            }
        }
    }
}

/// The machines, to go to.
fn contents(hosts: &[&str], entries: &HashMap<&str, Vec<Entry<'_>>>) -> Markup {
    html! {
        @if hosts.len() > 1 {
            h2 { "Machines" }
            table {
                @for (number, host) in hosts.iter().enumerate() {
                    @let entries = entries.get(host).map(Vec::as_slice).unwrap_or_default();
                    @let gravest = entries.iter().map(|entry| entry.rule.level).max();
                    tr {
                        td { a href=(format!("#m{number}")) { (safe(named(host))) } }
                        td { @if let Some(gravest) = gravest { (level(gravest)) } }
                        td { (about(entries)) }
                    }
                }
            }
        }
    }
}

/// How much was found on a machine, and when.
fn about(entries: &[Entry<'_>]) -> String {
    let findings = entries.iter().map(|entry| entry.row.count).sum();
    let rules = counted(entries.len() as u64, "rule");
    let when = match times(entries) {
        Some((first, last)) if first == last => format!(", {}", shown(first)),
        Some((first, last)) => format!(", {} to {}", shown(first), shown(last)),
        None => String::new(),
    };
    format!("{} of {rules}{when}", counted(findings, "finding"))
}

fn times(entries: &[Entry<'_>]) -> Option<(UtcNanos, UtcNanos)> {
    let first = entries.iter().filter_map(|entry| entry.row.first).min()?;
    let last = entries.iter().filter_map(|entry| entry.row.last).max()?;
    Some((first, last))
}

/// One machine's story: a picture of it, then what happened in the order of time.
fn machine(number: usize, host: &str, entries: &[Entry<'_>], files: &[LogFile]) -> Markup {
    let mut entries = entries.to_vec();
    // What has no time stands last; of one time the graver stands first.
    entries.sort_by(|left, right| {
        let untimed = left.row.first.is_none().cmp(&right.row.first.is_none());
        let early = left.row.first.cmp(&right.row.first);
        let grave = right.rule.level.cmp(&left.rule.level);
        untimed.then(early).then(grave).then_with(|| left.rule.title.cmp(&right.rule.title))
    });
    html! {
        section id=(format!("m{number}")) {
            h2 { (safe(named(host))) }
            p { (about(&entries)) }
            (picture(&entries))
            @for entry in &entries { (finding(*entry, files)) }
        }
    }
}

/// The picture's measures, in its own units.
const WIDTH: i64 = 1_000;
const LABELS: i64 = 170;
const LANE: i64 = 24;

/// Time from left to right, a lane for each tactic from top to bottom; each mark leads to what it stands for.
fn picture(entries: &[Entry<'_>]) -> Markup {
    let Some((begin, end)) = times(entries) else { return html! {} };
    let tactics: BTreeSet<Tactic> =
        entries.iter().map(|entry| Tactic::of(&entry.rule.tags)).collect();
    let lanes: Vec<Tactic> = tactics.into_iter().collect();
    let height = LANE * i64::try_from(lanes.len()).unwrap_or(0) + LANE;
    let across = |time: UtcNanos| {
        let whole = i128::from(end.unix_nanos()) - i128::from(begin.unix_nanos());
        let part = i128::from(time.unix_nanos()) - i128::from(begin.unix_nanos());
        // Room for a mark at both ends.
        let room = i128::from(WIDTH - LABELS - 20);
        LABELS + 10 + i64::try_from(part * room / whole.max(1)).unwrap_or(0)
    };
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {height}")) role="img" aria-label="The findings along time, by tactic" {
            @for (lane, tactic) in (0..).zip(&lanes) {
                @let middle = LANE * lane + LANE / 2;
                text x="0" y=(middle + 5) { (tactic.name()) }
                line.lane x1=(LABELS) x2=(WIDTH) y1=(middle) y2=(middle) {}
            }
            @for entry in entries {
                @let lane = lanes.binary_search(&Tactic::of(&entry.rule.tags)).unwrap_or(0);
                @let middle = LANE * i64::try_from(lane).unwrap_or(0) + LANE / 2;
                @if let (Some(first), Some(last)) = (entry.row.first, entry.row.last) {
                    a href=(format!("#f{}", entry.at)) class=(entry.rule.level.as_str()) {
                        title { (shown(first)) " " (safe(&entry.rule.title)) }
                        @if first < last {
                            line.span x1=(across(first)) x2=(across(last)) y1=(middle) y2=(middle) {}
                        }
                        circle cx=(across(first)) cy=(middle) r="6" {}
                    }
                }
            }
            text x=(LABELS) y=(height - 6) { (shown(begin)) }
            @if begin != end {
                text x=(WIDTH) y=(height - 6) text-anchor="end" { (shown(end)) }
            }
        }
    }
}

/// One line of a story; opened, what it rests on.
fn finding(entry: Entry<'_>, files: &[LogFile]) -> Markup {
    let Entry { at, rule, row } = entry;
    let path = files.get(row.file).map(|file| file.path.to_string_lossy()).unwrap_or_default();
    let place = match row.place {
        Place::Record(record) => format!("record {record}"),
        Place::Line(line) => format!("line {line}"),
        Place::Byte(offset) => format!("byte {offset}"),
    };
    html! {
        details id=(format!("f{at}")) {
            summary {
                time { (row.first.map(shown).unwrap_or_default()) }
                (level(rule.level))
                span.title { strong { (safe(&rule.title)) } " " span.faint { (Tactic::of(&rule.tags).name()) " " (techniques(&rule.tags)) } }
                span { @if row.count > 1 { "×" (count(row.count)) } }
                span.why { (safe(&row.evidence)) }
            }
            div {
                @if let (true, Some(last)) = (row.count > 1, row.last) {
                    p { (counted(row.count, "time")) ", the last at " (shown(last)) ". The first:" }
                }
                @if let Some(detail) = &row.detail { (behind(detail)) }
                p.faint { (safe(&path)) ", " (place) "; rule " code { (safe(&rule.id)) } }
            }
        }
    }
}

/// What a finding rests on: what matched, and the event.
fn behind(detail: &Detail) -> Markup {
    html! {
        @if !detail.hits.is_empty() {
            pre { @for hit in &detail.hits { (safe(hit)) "\n" } }
        }
        table {
            tr { th { "Field" } th { "Value" } th { "What the rule asked" } }
            @for matched in &detail.matched {
                tr {
                    td { (safe(if matched.field.is_empty() { "(any)" } else { &matched.field })) }
                    td { code { (safe(&matched.value)) } }
                    td { code { (safe(&matched.pattern)) } }
                }
            }
        }
        @if let Some(event) = &detail.event {
            p { "The event" @if event.is_cut { ", cut" } ":" }
            pre { (pretty(&event.json)) }
        } @else if detail.hits.is_empty() {
            p.faint { "The event itself is not in this report, which is full: scan its file alone, or use --output ndjson --raw." }
        }
    }
}

/// What was read and what was not, and what each file came to.
fn files(of: &Of<'_>) -> Markup {
    let read = of.summary.files();
    let (telling, silent): (Vec<&FileRead>, Vec<&FileRead>) =
        read.iter().partition(|read| read.findings > 0);
    let name = |file: usize| {
        of.files.get(file).map(|file| safe(&file.path.to_string_lossy())).unwrap_or_default()
    };
    let mut account = Vec::new();
    let plain = Looks { width: 100, has_colour: false, has_bar: false };
    // Into memory: nothing to refuse it.
    let _ = of.summary.write(&mut account, of.min_level, plain);
    let account = String::from_utf8_lossy(&account);
    html! {
        h2 id="files" { "Files" }
        pre { (account.trim_end()) }
        @if !telling.is_empty() {
            table {
                tr { th { "File" } th { "Findings" } th { "Records" } }
                @for read in telling.iter().take(NAMED) {
                    tr { td { (name(read.file)) } td { (count(read.findings)) } td { (count(read.records)) } }
                }
            }
            (others(telling.len()))
        }
        @if !silent.is_empty() {
            h3 { "Files that add nothing: no rule matched there" }
            table {
                tr { th { "File" } th { "Records" } }
                @for read in silent.iter().take(NAMED) {
                    tr { td { (name(read.file)) } td { (count(read.records)) } }
                }
            }
            (others(silent.len()))
        }
    }
}

fn others(number: usize) -> Markup {
    let others = number.saturating_sub(NAMED) as u64;
    html! { @if others > 0 { p { "and " (counted(others, "file")) " more" } } }
}

fn level(level: Level) -> Markup {
    html! { span class=(format!("level {}", level.as_str())) { (level.as_str()) } }
}

/// Text from outside: escaped for HTML by the page, and here for the eye.
fn safe(text: &str) -> String {
    Safe(text).to_string()
}

/// An event to be read: indented if it is JSON.
fn pretty(json: &str) -> String {
    let parsed: Option<serde_json::Value> = serde_json::from_str(json).ok();
    let text = parsed.and_then(|value| serde_json::to_string_pretty(&value).ok());
    let text = text.as_deref().unwrap_or(json);
    text.lines().map(safe).collect::<Vec<_>>().join("\n")
}
