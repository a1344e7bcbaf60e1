//! `cordon scan`: logs at rest to findings; and [`author`], `cordon rules`.
//!
//! ```no_run
//! use std::process::ExitCode;
//! use clap::Parser;
//!
//! #[derive(Parser)]
//! struct Cli {
//!     #[command(flatten)]
//!     scan: cordon_scan::ScanArgs,
//! }
//!
//! fn main() -> ExitCode {
//!     match cordon_scan::run(&Cli::parse().scan) {
//!         Ok(verdict) => verdict.exit_code(),
//!         Err(error) => {
//!             eprintln!("{error}");
//!             ExitCode::FAILURE
//!         }
//!     }
//! }
//! ```
//!
//! The way through: `files` says what to read, `rules` with what; `ordered` spreads the files over
//! threads and keeps their order; each thread has the intake read its file and asks the engine about every
//! record; what comes back is told as a `table` or as lines of JSON (`finding`), and `summary` says of
//! what it is the result. Nothing grows with the input but the table's rows, which are counted.

#![forbid(unsafe_code)]

mod args;
pub mod author;
mod baseline;
mod cache;
mod correlating;
mod files;
mod finding;
mod first;
mod folded;
mod ordered;
mod report;
mod rules;
mod summary;
mod table;
mod tactic;
mod terminal;

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

use cordon_intake::{Item, Reader, Reading, Record};
use cordon_model::event::Event;
use cordon_model::finding::{Level, MatchedField};
use cordon_model::ids::FindingId;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

pub use args::{Output, ScanArgs};
pub use terminal::Looks;

use baseline::Baseline;
use cache::Cache;
use correlating::{Correlating, KeptHit};
use files::{Files, LogFile};
use finding::{End, MACHINES, ScanFinding, Told};
use folded::Folded;
use rules::{Hit, Hits, Rules};
use summary::Summary;
use table::Telling;

/// Why a scan could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// A path given with `--rules` can't be read.
    #[error("rules can't be read from {}: {error}", terminal::Safe(&path.to_string_lossy()))]
    Rules {
        /// The path.
        path: PathBuf,
        /// The operating system's reason.
        error: io::Error,
    },
    /// A baseline can't be used.
    #[error("the baseline {} can't be used: {reason}", terminal::Safe(&path.to_string_lossy()))]
    Baseline {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A log that was named can't be read.
    #[error("{} can't be read: {reason}", terminal::Safe(&path.to_string_lossy()))]
    Log {
        /// The log.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The event that was asked about isn't there.
    #[error(
        "{} has no such event (it has {events}): --line counts the lines of a JSON log from 1, \
         --record takes an event's record id", terminal::Safe(&path.to_string_lossy())
    )]
    NoSuchEvent {
        /// The log.
        path: PathBuf,
        /// How many events it has.
        events: u64,
    },
    /// It is not clear which rule is meant, or it can't be explained.
    #[error("{0}")]
    WhichRule(String),
    /// Test events can't be used.
    #[error("{}: {reason}", terminal::Safe(&path.to_string_lossy()))]
    Tests {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Not one rule was loaded.
    #[error("no rule was loaded ({refused} refused)")]
    NoRules {
        /// How many were refused.
        refused: usize,
    },
    /// Not one file could be read; the reasons were told.
    #[error("no file could be read")]
    NothingRead,
    /// A layer can't be written.
    #[error("{} can't be written: {error}", terminal::Safe(&path.to_string_lossy()))]
    Layer {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        error: io::Error,
    },
    /// A report can't be written.
    #[error("the report {} can't be written: {error}", terminal::Safe(&path.to_string_lossy()))]
    Report {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        error: io::Error,
    },
    /// The findings can't be written.
    #[error("what was found can't be written: {0}")]
    Output(#[from] io::Error),
}

/// What a scan came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The highest level found.
    pub highest: Option<Level>,
    /// Whether all that was asked for was read.
    pub is_complete: bool,
}

impl Verdict {
    /// The process's exit status, as `--help` states it.
    #[must_use]
    pub fn exit_code(self) -> ExitCode {
        ExitCode::from(self.status())
    }

    fn status(self) -> u8 {
        match self.highest {
            Some(Level::Critical) => 13,
            Some(Level::High) => 12,
            Some(Level::Medium) => 11,
            Some(Level::Low) => 10,
            Some(Level::Informational) | None if self.is_complete => 0,
            Some(Level::Informational) | None => 3,
        }
    }
}

/// Scans, with findings to stdout and the rest to stderr.
///
/// # Errors
/// When the scan could not be made: see [`ScanError`].
pub fn run(args: &ScanArgs) -> Result<Verdict, ScanError> {
    let looks = Looks::of_this_process(args.output == Output::Table);
    let kept = if args.no_cache { Ok(None) } else { Cache::of_this_user() };
    let cache = kept.unwrap_or_else(|why| {
        eprintln!("compiled rules are not kept: {}", terminal::Safe(&why));
        None
    });
    let out = &mut BufWriter::new(io::stdout().lock());
    scan_with(args, cache.as_ref(), looks, out, &mut io::stderr())
}

/// Scans, with findings to `out` and the rest to `err`, and with rules that are compiled anew. A reader of `out`
/// that went away ends the scan without an error: it has what it wanted.
///
/// # Errors
/// When the scan could not be made: see [`ScanError`].
pub fn scan(
    args: &ScanArgs,
    looks: Looks,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<Verdict, ScanError> {
    scan_with(args, None, looks, out, err)
}

fn scan_with(
    args: &ScanArgs,
    cache: Option<&Cache>,
    looks: Looks,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<Verdict, ScanError> {
    let rules = Rules::load(args.rule_source(), cache)?;
    // What goes to stderr is company, not result: that it can't be written stops nothing.
    let _ = rules.tell(args.show_refused, err);
    if rules.references.is_empty() {
        return Err(ScanError::NoRules { refused: rules.refused() });
    }
    let baseline = Baseline::load(&args.baseline)?;
    let files = Files::under(&args.paths);
    let mut summary = Summary::with_rules(rules.references.len(), rules.refused());
    for (path, error) in &files.refused {
        summary.refused(path, error.to_string());
    }
    let report = args.report.as_deref().map(report::begin).transpose()?;
    let mut folded = if report.is_some() { Folded::with_events() } else { Folded::default() };
    let written = read_all(args, looks, &rules, &baseline, &files, &mut summary, &mut folded, out);
    let with = Telling { machines: summary.machines(), with_noise: args.with_noise };
    // Before what is told: a reader of that who goes away has asked for the report all the same.
    if let (Some(report), Ok(())) = (report, &written) {
        let of = report::Of {
            folded: &folded,
            rules: &rules.references,
            files: &files.files,
            summary: &summary,
            min_level: args.min_level,
            with,
        };
        report.write(&of)?;
    }
    let told = written.and_then(|()| {
        match args.output {
            Output::Table => {
                table::write(out, &folded, &rules.references, &files.files, with, looks)?;
                summary.write(out, args.min_level, looks)?;
            }
            Output::Ndjson => {
                let plain = Looks { has_colour: false, ..looks };
                let _ = summary.write(err, args.min_level, plain);
            }
        }
        out.flush()
    });
    match told {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    if !summary.has_read_anything() && !summary.is_complete() {
        return Err(ScanError::NothingRead);
    }
    Ok(Verdict { highest: summary.highest(), is_complete: summary.is_complete() })
}

/// Reads every file and tells of each in turn.
#[expect(clippy::too_many_arguments, reason = "what a scan is made of, each for one thing")]
fn read_all(
    args: &ScanArgs,
    looks: Looks,
    rules: &Rules,
    baseline: &Baseline,
    files: &Files,
    summary: &mut Summary,
    folded: &mut Folded,
    out: &mut dyn Write,
) -> io::Result<()> {
    let bar = progress_bar(files, looks);
    let mut written = Ok(());
    let mut correlating = Correlating::new(rules.set(), &rules.references, &files.files);
    let processors = || std::thread::available_parallelism().map_or(1, usize::from);
    let mut found = |file: usize, finding: &ScanFinding, summary: &mut Summary| {
        let rule = &rules.references[finding.rule];
        if rule.level < args.min_level {
            return Ok(());
        }
        if baseline.has(rule, finding) {
            summary.subtracted(rule.level);
            return Ok(());
        }
        summary.found(file, rule.level);
        if args.output == Output::Table || args.report.is_some() {
            folded.add(file, rule.level, finding);
        }
        if args.output == Output::Table {
            return Ok(());
        }
        let line =
            finding.json_line(rule, &files.files[file].path, args.raw).map_err(io::Error::from);
        line.and_then(|line| writeln!(out, "{line}"))
    };
    let reading = Reading {
        fields: rules.fields(),
        every_value: rules.read_every_value(),
        assumed: args.assumed_source(),
    };
    let threads = args.threads.map_or_else(processors, usize::from);
    let parcels = files::parcels(&files.files, threads);
    ordered::in_order(
        parcels.len(),
        threads,
        || (Reader::new(&reading), rules.hits()),
        |(reader, hits), parcel, tell| {
            for file in parcels[parcel].clone() {
                let mut flow = ControlFlow::Continue(());
                scan_file(args, rules, reader, hits, &files.files[file], &bar, &mut |told| {
                    flow = tell((file, told));
                    flow
                });
                if flow.is_break() {
                    return;
                }
            }
        },
        |_, (file, told)| {
            let log = &files.files[file];
            match told {
                Told::Finding(finding) => written = found(file, &finding, summary),
                Told::Hit(hit) => {
                    let findings = correlating.keep(file, *hit);
                    written = findings
                        .iter()
                        .try_for_each(|(file, finding)| found(*file, finding, summary));
                }
                Told::Damage(damage) => summary.damaged(&log.path, damage),
                Told::End(end) => summary.ended(file, log, end),
            }
            if written.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        },
    );
    bar.finish_and_clear();
    written?;
    let findings = correlating.correlate();
    summary.correlated(correlating.account());
    findings.iter().try_for_each(|(file, finding)| found(*file, finding, summary))
}

/// How often the bar hears of a file being read: once a megabyte, some milliseconds of work.
const BAR_STEP_BYTES: u64 = 1 << 20;

/// Reads one file and asks the rules about each of its records.
fn scan_file(
    args: &ScanArgs,
    rules: &Rules,
    reader: &mut Reader<'_>,
    hits: &mut Hits<'_>,
    file: &LogFile,
    bar: &ProgressBar,
    tell: &mut dyn FnMut(Told) -> ControlFlow<()>,
) {
    let mut end = End {
        records: 0,
        records_without_source: 0,
        form: Ok(cordon_intake::Form::Evtx),
        machines: HashSet::new(),
    };
    let mut last_host = String::new();
    let mut seen_bytes = 0;
    let with_event = args.raw || args.report.is_some();
    end.form = reader.read_file(&file.path, &mut |item| {
        let record = match item {
            Item::Damage(damage) => return tell(Told::Damage(damage)),
            Item::Record(record) => record,
        };
        end.records += 1;
        end.records_without_source += u64::from(!says_its_source(&record.event));
        if let Some(host) = record.event.host.as_deref().filter(|host| *host != last_host)
            && end.machines.len() < MACHINES
        {
            last_host.clear();
            last_host.push_str(host);
            let mut hasher = DefaultHasher::new();
            host.hash(&mut hasher);
            end.machines.insert(hasher.finish());
        }
        if record.offset > seen_bytes + BAR_STEP_BYTES {
            bar.inc(record.offset - seen_bytes);
            seen_bytes = record.offset;
        }
        let wanted = |rule: usize| rules.references[rule].level >= args.min_level;
        hits.of(&record.event, wanted, &mut |hit| {
            tell(match hit {
                Hit::Finding(rule, matched) => {
                    Told::Finding(Box::new(finding_of(&record, rule, matched, rules, with_event)))
                }
                Hit::Part(hit) => Told::Hit(Box::new(kept_hit(&record, hit, rules))),
            })
        })
    });
    bar.inc(file.bytes.saturating_sub(seen_bytes));
    let _ = tell(Told::End(end));
}

fn id_of(record: &Record<'_>, rule: usize, rules: &Rules) -> FindingId {
    let host = record.event.host.as_deref().unwrap_or("");
    FindingId::of(&rules.references[rule].id, host, &record.sha256())
}

fn kept_hit(record: &Record<'_>, hit: cordon_detect::Hit, rules: &Rules) -> KeptHit {
    let event = &record.event;
    KeptHit {
        id: id_of(record, hit.rule.0 as usize, rules),
        hit,
        time: event.time,
        host: event.host.as_deref().map(str::to_owned),
        record_id: event.record_id,
        offset: record.offset,
        line: record.line,
    }
}

fn finding_of(
    record: &Record<'_>,
    rule: usize,
    matched: Vec<MatchedField>,
    rules: &Rules,
    with_raw: bool,
) -> ScanFinding {
    let event = &record.event;
    let host = event.host.as_deref();
    ScanFinding {
        id: id_of(record, rule, rules),
        rule,
        host: host.map(str::to_owned),
        time: event.time,
        record_id: event.record_id,
        offset: record.offset,
        line: record.line,
        matched,
        raw: with_raw.then(|| record.raw()),
        correlated: None,
    }
}

/// Whether rules that are bound to a log source can be tried on the event.
fn says_its_source(event: &Event<'_>) -> bool {
    let source = &event.source;
    source.channel.is_some() || source.category.is_some() || source.service.is_some()
}

fn progress_bar(files: &Files, looks: Looks) -> ProgressBar {
    if !looks.has_bar {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(files.bytes()), ProgressDrawTarget::stderr());
    let style =
        "reading {decimal_bytes} of {decimal_total_bytes} [{wide_bar}] {percent} %, {eta} left";
    // A template that can't be parsed would only cost the bar its looks.
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_status_follows_the_gravest_finding() {
        let status = |highest, is_complete| Verdict { highest, is_complete }.status();
        assert_eq!(status(None, true), 0);
        assert_eq!(status(None, false), 3);
        assert_eq!(status(Some(Level::Informational), true), 0);
        assert_eq!(status(Some(Level::Low), true), 10);
        assert_eq!(status(Some(Level::Critical), false), 13);
    }
}
