//! The hits of rules that correlations refer to, kept until they can be taken in the order of time.
//!
//! The one idea: files are read in the order of their names, and what they tell is of any time and
//! machine. So hits are kept, small, and correlated when all are read. Where they are more than fit, they
//! are correlated in parts, file by file as they come, and it is said that what spans two parts was not
//! looked for.

use std::path::Path;
use std::time::Duration;

use cordon_detect::{Correlator, CorrelatorLimits, Evidence, Firing, RuleSet, Unheard};
use cordon_model::finding::{MatchedField, RuleRef};
use cordon_model::ids::FindingId;
use cordon_model::time::UtcNanos;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::files::LogFile;
use crate::finding::{ScanFinding, stamp};

/// Hits kept at once, each about 300 bytes with a machine's name and some values.
const HITS: usize = 100_000;
/// Most memory for them, in bytes. What correlates them may take as much again.
const BYTES: usize = 32 << 20;

/// A hit of a rule that a correlation refers to, and where its event stands.
#[derive(Debug)]
pub(crate) struct KeptHit {
    pub hit: cordon_detect::Hit,
    /// The id that a finding of this rule and event has.
    pub id: FindingId,
    pub time: Option<UtcNanos>,
    pub host: Option<String>,
    pub record_id: Option<u64>,
    pub offset: u64,
    pub line: Option<u64>,
}

/// What a correlation's finding says beside the rest.
#[derive(Debug, Serialize)]
pub(crate) struct Correlated {
    /// When its first hit was.
    since: Option<String>,
    /// What was counted or reckoned.
    pub outcome: String,
    /// How many hits there are within its timespan.
    pub hits_in_all: usize,
    /// The hits that made it fire, the first and the latest of them where they are many.
    pub hits: Vec<HitLine>,
}

/// A hit of a correlation, for people and scripts.
#[derive(Debug, Serialize)]
pub(crate) struct HitLine {
    rule_id: String,
    pub title: String,
    time: Option<String>,
    pub host: Option<String>,
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    record_id: Option<u64>,
    offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
}

/// How correlating went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Account {
    /// Parts that hits were correlated in.
    pub parts: u64,
    /// Hits without a time.
    pub untimed: u64,
    pub unheard: Unheard,
}

impl Account {
    /// Whether everything that could be correlated was.
    pub(crate) fn is_whole(&self) -> bool {
        self.parts <= 1 && self.untimed == 0 && self.unheard.given_up == 0 && self.unheard.cut == 0
    }
}

/// Keeps hits and correlates them.
pub(crate) struct Correlating<'r> {
    set: &'r RuleSet,
    references: &'r [RuleRef],
    files: &'r [LogFile],
    kept: Vec<(usize, KeptHit)>,
    bytes: usize,
    account: Account,
}

impl<'r> Correlating<'r> {
    pub(crate) fn new(set: &'r RuleSet, references: &'r [RuleRef], files: &'r [LogFile]) -> Self {
        Self { set, references, files, kept: Vec::new(), bytes: 0, account: Account::default() }
    }

    /// Keeps a hit of file number `file`. At the limit, what was kept is correlated: what came of it.
    pub(crate) fn keep(&mut self, file: usize, hit: KeptHit) -> Vec<(usize, ScanFinding)> {
        if hit.time.is_none() {
            self.account.untimed += 1;
            return Vec::new();
        }
        self.bytes += size_of::<(usize, KeptHit)>()
            + hit.hit.bytes()
            + hit.host.as_ref().map_or(0, String::len);
        self.kept.push((file, hit));
        if self.kept.len() >= HITS || self.bytes >= BYTES { self.correlate() } else { Vec::new() }
    }

    /// Correlates what was kept, and forgets it: the findings, each with the number of the file that its
    /// last hit stands in.
    pub(crate) fn correlate(&mut self) -> Vec<(usize, ScanFinding)> {
        if self.kept.is_empty() {
            return Vec::new();
        }
        self.account.parts += 1;
        self.bytes = 0;
        let mut kept = std::mem::take(&mut self.kept);
        // Stable: of one time, in the order of the files.
        kept.sort_by_key(|(_, hit)| hit.time);
        let limits = CorrelatorLimits {
            lateness: Duration::ZERO,
            // Each hit may belong to several correlations and groups.
            hits: 10 * HITS,
            bytes: BYTES,
        };
        let mut correlator = Correlator::new(limits);
        let mut firings: Vec<Firing> = Vec::new();
        let mut hear = |at: UtcNanos, hits: Vec<cordon_detect::Hit>| {
            correlator.hear(self.set, at, hits, &mut |firing| firings.push(firing));
        };
        let mut moment: Option<(UtcNanos, Vec<cordon_detect::Hit>)> = None;
        for (tag, (_, kept)) in (0..).zip(&kept) {
            let Some(time) = kept.time else { continue };
            let mut hit = kept.hit.clone();
            hit.tag = tag;
            match &mut moment {
                Some((at, hits)) if *at == time => hits.push(hit),
                _ => {
                    if let Some((at, hits)) = moment.replace((time, vec![hit])) {
                        hear(at, hits);
                    }
                }
            }
        }
        if let Some((at, hits)) = moment {
            hear(at, hits);
        }
        let unheard = correlator.unheard();
        let sum = &mut self.account.unheard;
        sum.late += unheard.late;
        sum.ungrouped += unheard.ungrouped;
        sum.uncounted += unheard.uncounted;
        sum.given_up += unheard.given_up;
        sum.cut += unheard.cut;
        firings.iter().filter_map(|firing| self.finding(firing, &kept)).collect()
    }

    /// How it went so far.
    pub(crate) fn account(&self) -> Account {
        self.account
    }

    fn finding(&self, firing: &Firing, kept: &[(usize, KeptHit)]) -> Option<(usize, ScanFinding)> {
        let of = |evidence: &Evidence| kept.get(usize::try_from(evidence.tag).ok()?);
        let index = firing.correlation.0 as usize;
        let rule = self.references.get(index)?;
        let mut ids = Sha256::new();
        let mut hits = Vec::new();
        for evidence in &firing.hits {
            let (file, hit) = of(evidence)?;
            ids.update(hit.id.as_bytes());
            let reference = self.references.get(evidence.rule.0 as usize)?;
            hits.push(HitLine {
                rule_id: reference.id.clone(),
                title: reference.title.clone(),
                time: stamp(evidence.time).map(|stamp| stamp.to_string()),
                host: hit.host.clone(),
                file: self.files.get(*file).map(|file| shown(&file.path)).unwrap_or_default(),
                record_id: hit.record_id,
                offset: hit.offset,
                line: hit.line,
            });
        }
        // It stands where its last hit does: there it was complete.
        let (file, last) = of(firing.hits.last()?)?;
        let matched = |(name, value): &(Box<str>, Box<str>)| MatchedField {
            field: name.to_string(),
            value: value.to_string(),
            pattern: "the same in all hits".to_owned(),
        };
        let finding = ScanFinding {
            id: FindingId::of(&rule.id, last.host.as_deref().unwrap_or(""), &ids.finalize().into()),
            rule: index,
            host: last.host.clone(),
            time: Some(firing.time),
            record_id: last.record_id,
            offset: last.offset,
            line: last.line,
            matched: firing.group.iter().map(matched).collect(),
            raw: None,
            correlated: Some(Correlated {
                since: stamp(firing.since).map(|stamp| stamp.to_string()),
                outcome: firing.outcome.to_string(),
                hits_in_all: firing.hits_in_all,
                hits,
            }),
        };
        Some((*file, finding))
    }
}

impl Correlated {
    /// What it is made of, a line each: what was counted, then hit by hit.
    pub(crate) fn lines(&self) -> Vec<String> {
        let since =
            self.since.as_deref().map(|since| format!(" since {since}")).unwrap_or_default();
        let mut lines = vec![format!("{}{since}, {} hits in all", self.outcome, self.hits_in_all)];
        lines.extend(self.hits.iter().map(|hit| {
            let place = match (hit.record_id, hit.line) {
                (Some(record), _) => format!("#{record}"),
                (None, Some(line)) => format!("line {line}"),
                (None, None) => format!("byte {}", hit.offset),
            };
            let words = [
                hit.time.as_deref().unwrap_or("no time"),
                hit.host.as_deref().unwrap_or("(no machine named)"),
                &hit.title,
                &hit.file,
                &place,
            ];
            words.join("  ")
        }));
        lines
    }

    /// The hits in one line: how often which rule, on how many machines.
    pub(crate) fn summed(&self) -> String {
        let mut titles: Vec<(&str, usize)> = Vec::new();
        let mut hosts: Vec<&str> = Vec::new();
        for hit in &self.hits {
            match titles.iter_mut().find(|(title, _)| *title == hit.title) {
                Some((_, count)) => *count += 1,
                None => titles.push((&hit.title, 1)),
            }
            let host = hit.host.as_deref().unwrap_or("");
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        let mut text = titles
            .into_iter()
            .map(|(title, count)| match count {
                1 => title.to_owned(),
                _ => format!("{count} × {title}"),
            })
            .collect::<Vec<_>>()
            .join(", then ");
        if hosts.len() > 1 {
            text += &format!(" on {} machines", hosts.len());
        }
        text
    }
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
