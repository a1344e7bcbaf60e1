//! What a scan tells of one file: findings, damage, and at its end how it went.

use std::collections::HashSet;
use std::path::Path;

use cordon_intake::{Damage, Form, Unreadable};
use cordon_model::event::RawEvent;
use cordon_model::finding::{MatchedField, RuleRef};
use cordon_model::ids::FindingId;
use cordon_model::time::UtcNanos;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::correlating::{Correlated, KeptHit};

/// One thing told of a file.
#[derive(Debug)]
pub(crate) enum Told {
    Finding(Box<ScanFinding>),
    /// For correlations.
    Hit(Box<KeptHit>),
    Damage(Damage),
    /// The last thing told of a file.
    End(End),
}

/// How the reading of a file went.
#[derive(Debug)]
pub(crate) struct End {
    pub records: u64,
    /// Records that say nowhere what log they are of: rules of a certain log source can't be tried on them.
    pub records_without_source: u64,
    pub form: Result<Form, Unreadable>,
    /// The machines that its records name, by a hash of the name; at most [`MACHINES`].
    pub machines: HashSet<u64>,
}

/// Machines that are told apart: a nation's. 16 MB.
pub(crate) const MACHINES: usize = 1_000_000;

/// A rule matched a record of a file.
#[derive(Debug)]
pub(crate) struct ScanFinding {
    pub id: FindingId,
    /// The rule's number in the compiled set.
    pub rule: usize,
    pub host: Option<String>,
    pub time: Option<UtcNanos>,
    pub record_id: Option<u64>,
    pub offset: u64,
    pub line: Option<u64>,
    pub matched: Vec<MatchedField>,
    /// The event, when it was asked for.
    pub raw: Option<RawEvent>,
    /// Where it is a correlation's: what it is made of.
    pub correlated: Option<Correlated>,
}

/// A finding as one line of JSON. Names are stable: scripts read them.
#[derive(Serialize)]
struct Line<'f> {
    id: FindingId,
    rule_id: &'f str,
    title: &'f str,
    level: &'static str,
    tags: &'f [String],
    file: String,
    record_id: Option<u64>,
    time: Option<String>,
    host: Option<&'f str>,
    offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    matched: &'f [MatchedField],
    /// What a correlation's finding is made of.
    #[serde(skip_serializing_if = "Option::is_none")]
    correlated: Option<&'f Correlated>,
    /// The event as its source gave it.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<Box<RawValue>>,
    /// The event's text where it isn't JSON by itself (cut at its limit, or not quite JSON).
    #[serde(skip_serializing_if = "Option::is_none")]
    event_text: Option<&'f str>,
}

impl ScanFinding {
    /// The finding as one line of JSON, without its end.
    pub(crate) fn json_line(
        &self,
        rule: &RuleRef,
        file: &Path,
        with_event: bool,
    ) -> serde_json::Result<String> {
        let text = self.raw.as_ref().filter(|_| with_event).map(|raw| raw.json.as_str());
        let event = text.and_then(one_line);
        serde_json::to_string(&Line {
            id: self.id,
            rule_id: &rule.id,
            title: &rule.title,
            level: rule.level.as_str(),
            tags: &rule.tags,
            file: file.to_string_lossy().into_owned(),
            record_id: self.record_id,
            time: self.time.and_then(stamp).map(|stamp| stamp.to_string()),
            host: self.host.as_deref(),
            offset: self.offset,
            line: self.line,
            matched: &self.matched,
            correlated: self.correlated.as_ref(),
            event_text: if event.is_none() { text } else { None },
            event,
        })
    }
}

/// `text` as JSON in one line, if it is JSON.
fn one_line(text: &str) -> Option<Box<RawValue>> {
    if text.contains(['\n', '\r']) {
        // Pretty-printed: a line of output must stay one line.
        let value: serde_json::Value = serde_json::from_str(text).ok()?;
        return serde_json::value::to_raw_value(&value).ok();
    }
    RawValue::from_string(text.to_owned()).ok()
}

/// A time as the calendar has it.
pub(crate) fn stamp(time: UtcNanos) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_nanosecond(i128::from(time.unix_nanos())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_model::finding::Level;

    fn finding(json: &str) -> ScanFinding {
        ScanFinding {
            id: FindingId::of("r", "h", &[0; 32]),
            rule: 0,
            host: Some("h".into()),
            time: Some(UtcNanos::from_unix_nanos(1_577_934_245_500_000_000)),
            record_id: Some(7),
            offset: 4608,
            line: None,
            matched: vec![MatchedField {
                field: "CommandLine".into(),
                value: "a\u{1b}[2J".into(),
                pattern: "contains a".into(),
            }],
            raw: Some(RawEvent { json: json.into(), is_cut: false }),
            correlated: None,
        }
    }

    fn line(json: &str) -> serde_json::Value {
        let rule = RuleRef {
            id: "r".into(),
            title: "t".into(),
            level: Level::High,
            tags: vec!["attack.impact".into()],
        };
        let line = finding(json).json_line(&rule, Path::new("a/b.evtx"), true).unwrap();
        assert!(!line.chars().any(char::is_control), "{line}");
        serde_json::from_str(&line).unwrap()
    }

    #[test]
    fn a_line_has_what_scripts_rely_on() {
        let line = line("{\"a\":1}");
        for (name, value) in [
            ("rule_id", "r"),
            ("title", "t"),
            ("level", "high"),
            ("file", "a/b.evtx"),
            ("host", "h"),
            ("time", "2020-01-02T03:04:05.5Z"),
        ] {
            assert_eq!(line[name], value);
        }
        assert_eq!(line["record_id"], 7);
        assert_eq!(line["tags"][0], "attack.impact");
        assert_eq!(line["matched"][0]["field"], "CommandLine");
        assert_eq!(line["event"]["a"], 1);
        assert_eq!(line["id"].as_str().map(str::len), Some(32));
    }

    #[test]
    fn an_event_that_is_not_quite_json_is_kept_as_text() {
        assert_eq!(line("{\"a\":").get("event"), None);
        assert_eq!(line("{\"a\":")["event_text"], "{\"a\":");
        assert_eq!(line("{\n \"a\": 1\n}")["event"]["a"], 1);
    }
}
