//! Findings, folded: one row for each rule on each machine, with how often, since when and why.
//!
//! What a person reads is what happened, not how loud it was. The table and the report are told from here.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use cordon_model::event::RawEvent;
use cordon_model::finding::{Level, MatchedField, RuleRef};
use cordon_model::time::UtcNanos;

use crate::correlating::Correlated;
use crate::finding::ScanFinding;
use crate::first::{First, Seen, first, is_noise};
use crate::tactic::Tactic;

/// Rows kept: one for each machine and rule. 50,000 rows of about 600 bytes are 30 MB; machine names are the
/// log writer's, so there could be any number. What is over is counted.
const ROWS: usize = 50_000;

/// The longest reason kept with a row, in bytes: two lines of the widest table.
const EVIDENCE_BYTES: usize = 480;

/// Events kept for a report, in bytes. What is below medium has half of it, so that what matters finds room.
const EVENT_BYTES: usize = 64 << 20;

/// Everything found, folded.
#[derive(Default)]
pub(crate) struct Folded {
    machines: BTreeMap<String, HashMap<usize, Row>>,
    rows: usize,
    /// Findings of rows that found no room.
    unshown: u64,
    /// Whether what a report shows is kept.
    keeps_detail: bool,
    /// Bytes of events that are kept.
    event_bytes: usize,
}

/// One rule on one machine.
pub(crate) struct Row {
    pub count: u64,
    pub first: Option<UtcNanos>,
    pub last: Option<UtcNanos>,
    /// Where the first one told stands.
    pub file: usize,
    pub place: Place,
    /// Why it matched, in one line.
    pub evidence: String,
    /// Of the first one told, where a report is made.
    pub detail: Option<Box<Detail>>,
}

/// What a report shows of a row's first finding.
pub(crate) struct Detail {
    pub matched: Vec<MatchedField>,
    /// The event; none of a correlation's, which is several, and none where there was no room.
    pub event: Option<RawEvent>,
    /// What a correlation is made of, a line each.
    pub hits: Vec<String>,
}

/// Where in its file a finding stands, as its reader would look for it.
pub(crate) enum Place {
    Record(u64),
    Line(u64),
    Byte(u64),
}

/// The rules that fire on most machines: on how many, and how often.
pub(crate) type Noise = BTreeMap<usize, (usize, u64)>;

impl Folded {
    /// One that keeps what a report shows.
    pub(crate) fn with_events() -> Self {
        Self { keeps_detail: true, ..Self::default() }
    }

    /// Adds one finding of file number `file`, by a rule of `level`.
    pub(crate) fn add(&mut self, file: usize, level: Level, finding: &ScanFinding) {
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
            detail: self.detail(level, finding),
        };
        self.machines.entry(host.to_owned()).or_default().insert(finding.rule, row);
    }

    fn detail(&mut self, level: Level, finding: &ScanFinding) -> Option<Box<Detail>> {
        if !self.keeps_detail {
            return None;
        }
        let room = if level < Level::Medium { EVENT_BYTES / 2 } else { EVENT_BYTES };
        let fits = |raw: &&RawEvent| self.event_bytes + raw.json.len() <= room;
        let event = finding.raw.as_ref().filter(fits);
        self.event_bytes += event.map_or(0, |raw| raw.json.len());
        Some(Box::new(Detail {
            matched: finding.matched.clone(),
            event: event.cloned(),
            hits: finding.correlated.as_ref().map(Correlated::lines).unwrap_or_default(),
        }))
    }

    /// Findings that no row tells.
    pub(crate) fn unshown(&self) -> u64 {
        self.unshown
    }

    /// Its rows in a steady order, each with what its place is judged by.
    pub(crate) fn rows(&self, rules: &[RuleRef]) -> Vec<(Seen, &str, &Row)> {
        let mut machines_of: HashMap<usize, usize> = HashMap::new();
        for rule in self.machines.values().flat_map(HashMap::keys) {
            *machines_of.entry(*rule).or_default() += 1;
        }
        let mut all = Vec::with_capacity(self.rows);
        for (machine, (host, rows)) in self.machines.iter().enumerate() {
            let telling = rows.keys().filter(|rule| rules[**rule].level >= Level::Medium);
            let tactics: BTreeSet<Tactic> =
                telling.map(|rule| Tactic::of(&rules[*rule].tags)).collect();
            let mut rows: Vec<_> = rows.iter().collect();
            rows.sort_by_key(|(rule, _)| **rule);
            all.extend(rows.into_iter().map(|(rule, row)| {
                let seen = Seen {
                    machine,
                    rule: *rule,
                    level: rules[*rule].level,
                    count: row.count,
                    first: row.first,
                    tactics: tactics.len(),
                    machines: machines_of.get(rule).copied().unwrap_or(1),
                };
                (seen, host.as_str(), row)
            }));
        }
        all
    }

    /// How many machines there are where `looked_at` were looked at: findings without a machine's name count
    /// as one more.
    pub(crate) fn machines_in_all(&self, looked_at: usize) -> usize {
        looked_at.max(self.machines.len())
    }

    /// The machines in the order in which they are told, the gravest first, but for those that have nothing
    /// except noise.
    pub(crate) fn in_order(
        &self,
        rules: &[RuleRef],
        noise: &Noise,
    ) -> Vec<(&str, &HashMap<usize, Row>)> {
        let gravest = |rows: &HashMap<usize, Row>| {
            let telling = rows.keys().filter(|rule| !noise.contains_key(rule));
            telling.map(|rule| rules[*rule].level).max()
        };
        let mut machines: Vec<_> = self
            .machines
            .iter()
            .filter(|(_, rows)| gravest(rows).is_some())
            .map(|(host, rows)| (host.as_str(), rows))
            .collect();
        // Stable, so that machines of one level stay in the order of their names.
        machines.sort_by_key(|(_, rows)| std::cmp::Reverse(gravest(rows)));
        machines
    }
}

/// What to read first of `rows`, and what is noise, on `machines` machines.
pub(crate) fn judged(
    rows: &[(Seen, &str, &Row)],
    machines: usize,
    with_noise: bool,
) -> (Vec<First>, Noise) {
    let seen: Vec<Seen> = rows.iter().map(|(seen, ..)| *seen).collect();
    let mut noise = Noise::new();
    for row in seen.iter().filter(|row| !with_noise && is_noise(row, machines)) {
        let (machines, count) = noise.entry(row.rule).or_default();
        *machines += 1;
        *count += row.count;
    }
    (first(&seen, machines, with_noise), noise)
}

/// A machine's name, or that none was named.
pub(crate) fn named(host: &str) -> &str {
    if host.is_empty() { "(no machine named)" } else { host }
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
    // Of a correlation first what it is made of.
    let mut text = finding.correlated.as_ref().map(Correlated::summed).unwrap_or_default();
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

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_model::ids::FindingId;

    fn finding(rule: usize, json: String) -> ScanFinding {
        ScanFinding {
            id: FindingId::of("", "", &[0; 32]),
            rule,
            host: Some("h".into()),
            time: None,
            record_id: None,
            offset: 0,
            line: None,
            matched: Vec::new(),
            raw: Some(RawEvent { json, is_cut: false }),
            correlated: None,
        }
    }

    #[test]
    fn events_have_an_end_and_what_matters_finds_room() {
        let mut folded = Folded::with_events();
        let megabyte = 1 << 20;
        for rule in 0..80 {
            folded.add(0, Level::Low, &finding(rule, "x".repeat(megabyte)));
        }
        for rule in 80..200 {
            folded.add(0, Level::High, &finding(rule, "x".repeat(megabyte)));
        }
        let kept = |rules: std::ops::Range<usize>| {
            let details = rules.filter_map(|rule| folded.machines["h"][&rule].detail.as_ref());
            details.filter(|detail| detail.event.is_some()).count()
        };
        assert_eq!(kept(0..80), 32);
        assert_eq!(kept(80..200), 32);
        assert_eq!(folded.unshown(), 0);
    }

    #[test]
    fn without_a_report_no_event_is_kept() {
        let mut folded = Folded::default();
        folded.add(0, Level::High, &finding(0, "x".into()));
        assert!(folded.machines["h"][&0].detail.is_none());
    }
}
