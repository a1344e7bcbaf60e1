//! Why a rule matches an event, or why not.
//!
//! Of a log with many events, those are shown that match; if none does, the one that comes closest, since
//! that is what its author wants to see.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use cordon_detect::{
    Explained, Explanation, Matcher, Part, RuleIndex, RuleInfo, RuleSet, SHOWN_CHARACTERS,
};
use cordon_intake::{Item, Reading, Record, read_file};
use cordon_model::event::{Event, Source};

use crate::ScanError;
use crate::finding::stamp;
use crate::rules::{RuleSource, Rules};
use crate::terminal::{Looks, Safe, count, counted};

/// Events that match and are shown, if the command line doesn't say.
const SHOWN: usize = 3;

/// The command line of `cordon rules explain`.
#[derive(Debug, Clone, clap::Args)]
pub struct ExplainArgs {
    /// A rule: its file, or the id, the path or the title of one of the built-in pack
    #[arg(value_name = "RULE")]
    rule: String,

    /// The log with the event: EVTX or JSON
    #[arg(value_name = "LOG")]
    log: PathBuf,

    /// Files or folders that it needs: what its placeholders stand for, and filters. Can be repeated
    #[arg(long = "with", value_name = "PATH")]
    with: Vec<PathBuf>,

    /// Which rule, where the file has several: its id or title
    #[arg(long, value_name = "ID")]
    id: Option<String>,

    /// Only the event that begins on this line of a JSON log
    #[arg(long, value_name = "N")]
    line: Option<u64>,

    /// Only the event with this record id
    #[arg(long, value_name = "N")]
    record: Option<u64>,

    /// Show at most so many events that match
    #[arg(long, value_name = "N", default_value_t = SHOWN)]
    most: usize,

    #[command(flatten)]
    assumed: super::Assumed,
}

/// Writes it; whether an event that was asked about matches.
pub(super) fn explain(
    args: &ExplainArgs,
    looks: Looks,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<bool, ScanError> {
    let path = PathBuf::from(&args.rule);
    let is_file = path.exists();
    let mut paths = args.with.clone();
    if is_file {
        paths.insert(0, path.clone());
    }
    let source = RuleSource { paths: &paths, builtin: !is_file, with_withdrawn: true };
    let rules = Rules::load(source, None)?;
    if is_file {
        let _ = rules.tell(true, err);
    }
    let of = if is_file { Of::File(&path) } else { Of::Pack(&args.rule) };
    let index = find(rules.set(), of, args.id.as_deref())?;
    let Some(rule) = rules.set().rule(index) else { return Ok(false) };
    writeln!(out, "{}", looks.heading(&Safe(&rule.title).to_string()))?;
    let of = format!("{}:{}, level {}, {}", rule.origin, rule.line, rule.level, rule.log_source);
    writeln!(out, "{}\n", looks.faint(&Safe(&of).to_string()))?;
    let mut reading = Asked { args, rules: &rules, index, looks, out, seen: Seen::default() };
    let written = reading.read(&args.log)?;
    written?;
    let seen = reading.seen;
    if seen.matching == 0
        && let Some((_, text)) = seen.closest
    {
        if seen.asked > 1 {
            writeln!(out, "None of {} matches. The closest one:\n", counted(seen.asked, "event"))?;
        }
        write!(out, "{text}")?;
    }
    if seen.asked == 0 {
        return Err(ScanError::NoSuchEvent { path: args.log.clone(), events: seen.events });
    }
    if seen.matching > args.most as u64 {
        writeln!(
            out,
            "Not shown, and matching: {}. --most shows more, --line and --record one",
            counted(seen.matching - args.most as u64, "event")
        )?;
    }
    Ok(seen.matching > 0)
}

/// Where the rule is that is meant.
#[derive(Debug, Clone, Copy)]
enum Of<'a> {
    /// In this file, or in one of this folder.
    File(&'a Path),
    /// It is so called in the built-in pack.
    Pack(&'a str),
}

/// The one rule that is meant, by where it is and by what `--id` says.
fn find(set: &RuleSet, of: Of<'_>, id: Option<&str>) -> Result<RuleIndex, ScanError> {
    let is_called = |rule: &RuleInfo, name: &str| {
        rule.id == name || rule.title == name || &*rule.origin == name
    };
    let is_there = |rule: &RuleInfo| match of {
        Of::File(path) => Path::new(&*rule.origin).starts_with(path),
        Of::Pack(name) => is_called(rule, name),
    };
    let is_meant = |rule: &RuleInfo| is_there(rule) && id.is_none_or(|id| is_called(rule, id));
    let all = || (0..).map(RuleIndex).zip(set.rules()).filter(|(_, rule)| is_meant(rule));
    let mut meant = all();
    match (meant.next(), meant.next()) {
        (Some((index, rule)), None) => match is_correlation(set, index) {
            false => Ok(index),
            true => Err(ScanError::WhichRule(format!(
                "{} is a correlation: explain the rules that it refers to, each by its own event",
                Safe(&rule.title)
            ))),
        },
        (None, _) => Err(ScanError::WhichRule(match (of, id) {
            (Of::File(_), None) => "no rule of the file could be loaded: see above".into(),
            (Of::File(_), Some(id)) => format!("the file has no rule called {}", Safe(id)),
            (Of::Pack(name), _) => format!("there is no file and no rule called {}", Safe(name)),
        })),
        (Some(_), Some(_)) => {
            let names: Vec<String> = all()
                .take(10)
                .map(|(_, rule)| format!("\n  {}  {}", Safe(&rule.id), Safe(&rule.title)))
                .collect();
            Err(ScanError::WhichRule(format!(
                "there are {} rules; say which with --id:{}",
                count(all().count() as u64),
                names.concat()
            )))
        }
    }
}

/// Correlations have a number and no condition over one event.
fn is_correlation(set: &RuleSet, index: RuleIndex) -> bool {
    set.matcher().explain(set, &Event::default(), index).is_none()
}

/// What was met so far.
#[derive(Default)]
struct Seen {
    /// Events of the log.
    events: u64,
    /// Events that were asked about.
    asked: u64,
    matching: u64,
    /// How close the closest one comes, and how it is shown.
    closest: Option<(f64, String)>,
}

struct Asked<'a> {
    args: &'a ExplainArgs,
    rules: &'a Rules,
    index: RuleIndex,
    looks: Looks,
    out: &'a mut dyn Write,
    seen: Seen,
}

impl Asked<'_> {
    fn read(&mut self, log: &Path) -> Result<io::Result<()>, ScanError> {
        let set = self.rules.set();
        let log_source = set.rule(self.index).map(|rule| rule.log_source.clone());
        let reading = Reading {
            fields: set.fields(),
            every_value: set.has_keywords(),
            assumed: self.args.assumed.source(&log_source.unwrap_or_default()),
        };
        let mut matcher = set.matcher();
        let mut written = Ok(());
        let read = read_file(log, &reading, &mut |item| {
            match item {
                Item::Damage(damage) => {
                    written = writeln!(self.out, "{}", Safe(&damage.to_string()));
                }
                Item::Record(record) => written = self.hear(&record, &mut matcher),
            }
            if written.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        read.map_err(|error| ScanError::Log { path: log.to_owned(), reason: error.to_string() })?;
        Ok(written)
    }

    fn hear(&mut self, record: &Record<'_>, matcher: &mut Matcher) -> io::Result<()> {
        self.seen.events += 1;
        let is_other = |wanted: Option<u64>, is: Option<u64>| wanted.is_some() && wanted != is;
        if is_other(self.args.line, record.line)
            || is_other(self.args.record, record.event.record_id)
        {
            return Ok(());
        }
        let set = self.rules.set();
        let Some(explanation) = matcher.explain(set, &record.event, self.index) else {
            return Ok(());
        };
        self.seen.asked += 1;
        if explanation.is_match() {
            self.seen.matching += 1;
            if self.seen.matching <= self.args.most as u64 {
                let text = self.shown(record, &explanation);
                write!(self.out, "{text}")?;
            }
            return Ok(());
        }
        let close = closeness(&explanation);
        if self.seen.closest.as_ref().is_none_or(|(closest, _)| close > *closest) {
            self.seen.closest = Some((close, self.shown(record, &explanation)));
        }
        Ok(())
    }

    fn shown(&self, record: &Record<'_>, explanation: &Explanation) -> String {
        let event = &record.event;
        let mut place = match (record.line, event.record_id) {
            (Some(line), _) => format!("line {line}"),
            (None, Some(id)) => format!("record {id}"),
            (None, None) => format!("byte {}", record.offset),
        };
        let extras = [
            event.host.as_deref().map(str::to_owned),
            event.time.and_then(stamp).map(|at| at.to_string()),
        ];
        for extra in extras.into_iter().flatten() {
            place = format!("{place}, {extra}");
        }
        let verdict = if explanation.is_match() { "matches" } else { "does not match" };
        let mut text = format!("{}: {}\n", Safe(&place), self.looks.heading(verdict));
        if !explanation.is_of_log_source {
            let asked = self.rules.set().rule(self.index).map(|rule| rule.log_source.to_string());
            let line = format!(
                "  it is not of the rule's log source ({}), but {}; if it were:\n",
                asked.unwrap_or_default(),
                in_words(&event.source)
            );
            text.push_str(&Safe(line.trim_end()).to_string());
            text.push('\n');
        }
        tree(&explanation.condition, 1, self.looks, &mut text);
        text.push('\n');
        text
    }
}

/// Where an event comes from.
fn in_words(source: &Source<'_>) -> String {
    let id = source.event_id.map(|id| id.to_string());
    let parts = [
        ("product", source.product.as_deref()),
        ("category", source.category.as_deref()),
        ("service", source.service.as_deref()),
        ("channel", source.channel.as_deref()),
        ("event id", id.as_deref()),
    ];
    let said: Vec<String> =
        parts.iter().filter_map(|(name, part)| Some(format!("{name} {}", (*part)?))).collect();
    if said.is_empty() {
        return "doesn't say of which (--product, --category and --service say it)".into();
    }
    format!("of {}", said.join(", "))
}

/// Writes what held and what didn't, each part below the one that it belongs to.
pub(super) fn tree(explained: &Explained, depth: usize, looks: Looks, text: &mut String) {
    let mut line = |what: &str| {
        let mark = if explained.holds { "yes" } else { "no " };
        let what = Safe(what).to_string();
        let what = if explained.holds { what } else { looks.faint(&what) };
        text.push_str(&format!("{:indent$}{mark}  {what}\n", "", indent = 2 * depth));
    };
    match &explained.part {
        Part::Field { field, asked, seen } => {
            let field = if field.is_empty() { "any value" } else { field };
            let quoted: Vec<String> = seen.iter().map(|value| quoted(value)).collect();
            let there = match (quoted.as_slice(), explained.holds) {
                ([], _) => "not there".to_owned(),
                ([one], _) => format!("it is {one}"),
                ([one, more @ ..], true) => format!("it is {one} and {} more", more.len()),
                (many, false) => format!("there are {}", many.join(", ")),
            };
            line(&format!("{field} {asked}: {there}"));
        }
        Part::Detection(name, inner) => {
            line(name);
            tree(inner, depth + 1, looks, text);
        }
        Part::Not(inner) => {
            line("not");
            tree(inner, depth + 1, looks, text);
        }
        Part::All(parts) | Part::Any(parts) | Part::AtLeast(_, parts) => {
            let what = match &explained.part {
                Part::All(_) => "all of".to_owned(),
                Part::Any(_) => "one of".to_owned(),
                _ => format!("{} of", least(&explained.part)),
            };
            line(&what);
            for part in parts {
                tree(part, depth + 1, looks, text);
            }
        }
    }
}

/// A value as the event has it: no backslash is doubled. One that was cut says so.
fn quoted(value: &str) -> String {
    let cut = if value.chars().count() >= SHOWN_CHARACTERS { "…" } else { "" };
    format!("\"{value}{cut}\"")
}

fn least(part: &Part) -> u64 {
    match part {
        Part::AtLeast(number, _) => *number,
        _ => 0,
    }
}

/// How close an event that doesn't match comes: below 0 if it is of another log source, else the share of
/// what is asked for that it has.
pub(super) fn closeness(explanation: &Explanation) -> f64 {
    share(&explanation.condition) - if explanation.is_of_log_source { 0.0 } else { 1.0 }
}

fn share(explained: &Explained) -> f64 {
    if explained.holds {
        return 1.0;
    }
    let best = |parts: &[Explained], number: usize| {
        let mut shares: Vec<f64> = parts.iter().map(share).collect();
        shares.sort_by(|a, b| b.total_cmp(a));
        shares.iter().take(number).sum::<f64>() / number.max(1) as f64
    };
    match &explained.part {
        Part::Field { .. } | Part::Not(_) => 0.0,
        Part::Detection(_, inner) => share(inner),
        Part::All(parts) => best(parts, parts.len()),
        Part::Any(parts) => best(parts, 1),
        Part::AtLeast(number, parts) => best(parts, usize::try_from(*number).unwrap_or(usize::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(holds: bool) -> Explained {
        let part = Part::Field { field: "Image".into(), asked: "is x".into(), seen: Vec::new() };
        Explained { holds, part }
    }

    fn of(condition: Explained, is_of_log_source: bool) -> f64 {
        closeness(&Explanation { is_of_log_source, condition })
    }

    #[test]
    fn the_event_that_has_more_of_it_is_closer() {
        let all = |held: &[bool]| Explained {
            holds: held.iter().all(|held| *held),
            part: Part::All(held.iter().map(|held| field(*held)).collect()),
        };
        assert!(of(all(&[true, true, false]), true) > of(all(&[true, false, false]), true));
        assert!(of(all(&[false, false]), true) > of(all(&[true, false]), false));
        let any =
            Explained { holds: false, part: Part::Any(vec![field(false), all(&[true, false])]) };
        assert!((of(any, true) - 0.5).abs() < 1e-9);
    }
}
