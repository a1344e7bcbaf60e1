//! Rules against the events that lie beside them.
//!
//! Beside `NAME.yml` lies `NAME.test.json`: `{"matches": […], "misses": […]}`. Each entry is an event, or
//! several in a list, in order of time, as correlations need them. An entry is matched when a rule of the
//! file makes a finding of it: rules that are only part of correlations make none.

use std::collections::HashSet;
use std::fs;
use std::io::{Cursor, Read as _, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cordon_detect::{Correlator, CorrelatorLimits, Hit, LogSource, RuleIndex, RuleInfo, RuleSet};
use cordon_intake::{Item, Reading, Record, read};
use cordon_model::finding::Level;
use cordon_model::time::UtcNanos;
use serde::Deserialize;
use serde_json::Value as Json;

use super::explain::tree;
use super::{Assumed, RulePaths};
use crate::ScanError;
use crate::terminal::{Looks, Safe, counted};

/// The longest file of test events that is read, in bytes.
const TEST_BYTES: u64 = 16 << 20;

/// The command line of `cordon rules test`.
#[derive(Debug, Clone, clap::Args)]
pub struct TestArgs {
    /// Rules with their NAME.test.json beside them: files, or folders with all that is under them
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,

    /// Also fail when a rule has no events that it must match
    #[arg(long)]
    strict: bool,

    #[command(flatten)]
    assumed: Assumed,
}

/// What lies beside a file of rules.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tests {
    #[serde(default)]
    matches: Vec<Json>,
    #[serde(default)]
    misses: Vec<Json>,
}

/// Writes what doesn't do as its events say; whether all do.
pub(super) fn test(
    args: &TestArgs,
    looks: Looks,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<bool, ScanError> {
    let rules = RulePaths { paths: args.paths.clone() }.load(err)?;
    let set = rules.set();
    let mut files: Vec<(Arc<str>, Vec<RuleIndex>)> = Vec::new();
    for (index, rule) in (0..).map(RuleIndex).zip(set.rules()) {
        match files.iter_mut().find(|(origin, _)| *origin == rule.origin) {
            Some((_, rules)) => rules.push(index),
            None => files.push((rule.origin.clone(), vec![index])),
        }
    }
    let (mut tested, mut events, mut wrong, mut untested) = (0_u64, 0_u64, 0_u64, Vec::new());
    for (origin, own) in &files {
        let path = Path::new(&**origin).with_extension("test.json");
        let tests = match tests_in(&path) {
            Ok(Some(tests)) => tests,
            Ok(None) => {
                untested.push(origin);
                continue;
            }
            Err(error) => {
                wrong += 1;
                writeln!(out, "{}", looks.level(Level::High, &error.to_string()))?;
                continue;
            }
        };
        if tests.matches.is_empty() {
            untested.push(origin);
        }
        tested += 1;
        let file = File { set, own, assumed: &args.assumed, path: &path };
        for (entries, is_wanted) in [(&tests.matches, true), (&tests.misses, false)] {
            for (number, entry) in entries.iter().enumerate() {
                events += 1;
                let found = match file.found(entry) {
                    Ok(found) => found,
                    Err(error) => {
                        wrong += 1;
                        writeln!(out, "{}", looks.level(Level::High, &error.to_string()))?;
                        continue;
                    }
                };
                if found.is_empty() != is_wanted {
                    continue;
                }
                wrong += 1;
                let place = if is_wanted { "matches" } else { "misses" };
                let head = format!("{}: {place}[{number}]", path.display());
                writeln!(out, "{}", looks.level(Level::High, &Safe(&head).to_string()))?;
                if is_wanted {
                    writeln!(out, "  no rule of the file matches it:")?;
                    write!(out, "{}", file.why_not(entry, looks)?)?;
                } else {
                    for index in found {
                        let title = set.rule(index).map_or("", |rule| &*rule.title);
                        writeln!(out, "  it is matched by {:?}:", Safe(title).to_string())?;
                        write!(out, "{}", file.why(entry, index, looks)?)?;
                    }
                }
            }
        }
    }
    for origin in &untested {
        writeln!(out, "{}: {}", Safe(origin), looks.faint("no event that it must match"))?;
    }
    writeln!(
        out,
        "{} of {} tested with {}: {wrong} wrong; {} without an event to match",
        tested,
        counted(files.len() as u64, "file"),
        counted(events, "event"),
        untested.len()
    )?;
    if rules.refused() > 0 {
        let refused = counted(rules.refused() as u64, "rule");
        writeln!(out, "{refused} refused, and so not tested: see above")?;
    }
    let is_covered = untested.is_empty() || !args.strict;
    Ok(wrong == 0 && rules.refused() == 0 && is_covered)
}

/// Test events that can't be used. What is said of them is other people's text.
fn unfit(path: &Path, reason: &str) -> ScanError {
    ScanError::Tests { path: path.to_owned(), reason: Safe(reason).to_string() }
}

/// The tests in a file, if it is there.
fn tests_in(path: &Path) -> Result<Option<Tests>, ScanError> {
    let fault = |reason: String| unfit(path, &reason);
    match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fault(format!("can't be read: {error}"))),
        // A pipe or a device has no end.
        Ok(about) if !about.is_file() => return Err(fault("not a file".into())),
        Ok(_) => {}
    }
    let mut text = String::new();
    let read = fs::File::open(path)
        .and_then(|file| file.take(TEST_BYTES + 1).read_to_string(&mut text))
        .map_err(|error| fault(format!("can't be read: {error}")))?;
    if read as u64 > TEST_BYTES {
        return Err(fault(format!("longer than {} MiB: split it", TEST_BYTES >> 20)));
    }
    let form = |what: String| {
        fault(format!(
            "not of the form {{\"matches\": [event, …], \"misses\": [event, …]}}: {what}"
        ))
    };
    let json: Json = serde_json::from_str(&text).map_err(|error| form(error.to_string()))?;
    if !json.is_object() {
        return Err(form("it is no object".into()));
    }
    serde_json::from_value(json).map(Some).map_err(|error| form(error.to_string()))
}

/// The log sources of `rules`, each once, without that of correlations.
fn distinct<'r>(rules: impl Iterator<Item = &'r RuleInfo>) -> Vec<LogSource> {
    let mut sources: Vec<LogSource> = Vec::new();
    for rule in rules {
        if rule.log_source != LogSource::default() && !sources.contains(&rule.log_source) {
            sources.push(rule.log_source.clone());
        }
    }
    sources
}

/// A file of rules, and where its tests are.
struct File<'a> {
    set: &'a RuleSet,
    own: &'a [RuleIndex],
    assumed: &'a Assumed,
    path: &'a Path,
}

impl File<'_> {
    /// The rules of the file that make a finding of `entry`.
    fn found(&self, entry: &Json) -> Result<HashSet<RuleIndex>, ScanError> {
        let own: HashSet<RuleIndex> = self.own.iter().copied().collect();
        let mut found = HashSet::new();
        let mut hits: Vec<(UtcNanos, Vec<Hit>)> = Vec::new();
        let mut untimed = false;
        // Each log source that its rules name is assumed in turn: a file may hold rules of several.
        let sources = self.log_sources();
        for source in &sources {
            let mut matcher = self.set.matcher();
            self.read(entry, source, &mut |record| {
                let matched = matcher.matches(self.set, &record.event).to_vec();
                let is_its = |index: &RuleIndex| {
                    sources.len() == 1
                        || self.set.rule(*index).is_some_and(|rule| rule.log_source == *source)
                };
                let matched: Vec<RuleIndex> = matched.into_iter().filter(is_its).collect();
                found.extend(matched.iter().filter(|index| self.set.is_told(**index)));
                let parts: Vec<Hit> = matched
                    .iter()
                    .filter_map(|index| matcher.hit(self.set, &record.event, *index, 0))
                    .collect();
                match record.event.time {
                    _ if parts.is_empty() => {}
                    Some(time) => hits.push((time, parts)),
                    None => untimed = true,
                }
            })?;
        }
        let mut correlator = Correlator::new(CorrelatorLimits::default());
        hits.sort_by_key(|(time, _)| *time);
        for (time, hits) in hits {
            correlator.hear(self.set, time, hits, &mut |firing| {
                found.insert(firing.correlation);
            });
        }
        correlator.finish(self.set, &mut |firing| {
            found.insert(firing.correlation);
        });
        found.retain(|index| own.contains(index) && self.set.is_told(*index));
        if untimed && found.is_empty() {
            let reason = "an event that correlations count needs its time: give it \"@timestamp\"";
            return Err(unfit(self.path, reason));
        }
        Ok(found)
    }

    /// The log sources that test events may be of: those of the file's rules. Correlations have none; if the
    /// file has nothing else, the rules that they refer to are in another, and those of all rules count.
    fn log_sources(&self) -> Vec<LogSource> {
        let own = self.own.iter().filter_map(|index| self.set.rule(*index));
        let mut sources = distinct(own);
        if sources.is_empty() {
            sources = distinct(self.set.rules().iter());
        }
        if sources.is_empty() {
            sources.push(LogSource::default());
        }
        sources
    }

    /// Gives each event of an entry to `each`.
    fn read(
        &self,
        entry: &Json,
        source: &LogSource,
        each: &mut dyn FnMut(&Record<'_>),
    ) -> Result<(), ScanError> {
        let fault = |reason: String| unfit(self.path, &reason);
        let reading = Reading {
            fields: self.set.fields(),
            every_value: self.set.has_keywords(),
            assumed: self.assumed.source(source),
        };
        let mut damaged = None;
        let read = read(Cursor::new(entry.to_string()), false, &reading, &mut |item| {
            match item {
                Item::Record(record) => each(&record),
                Item::Damage(damage) => damaged = Some(damage.to_string()),
            }
            ControlFlow::Continue(())
        });
        read.map_err(|error| fault(format!("an entry is neither an event nor a list: {error}")))?;
        damaged.map_or(Ok(()), |damage| Err(fault(damage)))
    }

    /// How each rule of the file fares with the entry's events.
    fn why_not(&self, entry: &Json, looks: Looks) -> Result<String, ScanError> {
        let mut text = String::new();
        for index in self.own {
            text.push_str(&self.why(entry, *index, looks)?);
        }
        Ok(text)
    }

    /// How one rule fares with the entry's events.
    fn why(&self, entry: &Json, index: RuleIndex, looks: Looks) -> Result<String, ScanError> {
        let Some(rule) = self.set.rule(index) else { return Ok(String::new()) };
        let mut text = String::new();
        let mut matcher = self.set.matcher();
        self.read(entry, &rule.log_source, &mut |record| {
            if let Some(explanation) = matcher.explain(self.set, &record.event, index) {
                if !explanation.is_of_log_source {
                    text.push_str(&format!(
                        "    not of its log source ({}); if it were:\n",
                        Safe(&rule.log_source.to_string())
                    ));
                }
                tree(&explanation.condition, 2, looks, &mut text);
            }
        })?;
        if text.is_empty() {
            text = format!("    {:?} is a correlation\n", Safe(&rule.title).to_string());
        }
        Ok(text)
    }
}
