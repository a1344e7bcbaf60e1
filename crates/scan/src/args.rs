//! The command line of `cordon scan`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::ValueEnum;
use cordon_model::event::Source;
use cordon_model::finding::Level;

use crate::rules::RuleSource;

/// Run Sigma rules over logs at rest: Windows event logs (EVTX) and JSON events (lines, arrays or objects in
/// a row; flat, evtx_dump, Winlogbeat), files or whole folders.
#[derive(Debug, Clone, clap::Args)]
#[command(after_long_help = EXIT_STATUS)]
pub struct ScanArgs {
    /// Files or folders to read; folders with all that is under them. What a file is follows from its
    /// content
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,

    /// Sigma rules to use instead of the built-in pack: a file, or a folder such as a SigmaHQ checkout.
    /// May be given more than once
    #[arg(long, value_name = "DIR")]
    pub rules: Vec<PathBuf>,

    /// Use the built-in pack beside --rules
    #[arg(long)]
    pub builtin: bool,

    /// Use also rules whose author withdrew them (status deprecated or unsupported)
    #[arg(long)]
    pub with_deprecated: bool,

    /// Findings of an earlier scan of normal work (--output ndjson). What the same rule matched by the same
    /// values is counted and not told again, below level high. May be given more than once
    #[arg(long, value_name = "FILE")]
    pub baseline: Vec<PathBuf>,

    /// In the table: leave what fires on most machines where it is, instead of telling it once
    #[arg(long)]
    pub with_noise: bool,

    /// A table for people, or one finding a line as JSON (then the summary goes to stderr)
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub output: Output,

    /// Write a report for a browser too: a story for each machine along time, with the events behind it.
    /// The file must not exist
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,

    /// Report findings of this level and above
    #[arg(long, value_name = "LEVEL", default_value = "informational")]
    pub min_level: Level,

    /// How many files to read at once; as many as there are processors if not given
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,

    /// Name every rule that was refused, and why; without it they are counted
    #[arg(long)]
    pub show_refused: bool,

    /// Compile the rules anew. Without it they are kept, compiled, in the user's cache directory, and used again
    /// by a scan with the same rules
    #[arg(long)]
    pub no_cache: bool,

    /// With --output ndjson: put the complete event into each line
    #[arg(long)]
    pub raw: bool,

    /// Product of JSON events that don't say it (windows, linux, …)
    #[arg(long, value_name = "NAME", help_heading = "Log source of JSON events")]
    pub product: Option<String>,

    /// Category of JSON events that don't say it (process_creation, …)
    #[arg(long, value_name = "NAME", help_heading = "Log source of JSON events")]
    pub category: Option<String>,

    /// Service of JSON events that don't say it (auditd, sshd, …)
    #[arg(long, value_name = "NAME", help_heading = "Log source of JSON events")]
    pub service: Option<String>,
}

/// How findings are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Grouped by machine and ATT&CK tactic.
    Table,
    /// One JSON object a line.
    Ndjson,
}

/// What `--help` says of the exit status; [`crate::Verdict::exit_code`] is what does it.
const EXIT_STATUS: &str = "\
Exit status:
  0   everything was read; no finding above level informational
  3   no finding above level informational, but not everything could be read or correlated
  10  the highest finding is of level low
  11  … medium
  12  … high
  13  … critical
  1   the scan could not be made (no such path, no rules, nothing readable)
  2   wrong usage";

impl ScanArgs {
    /// Where its rules come from.
    pub(crate) fn rule_source(&self) -> RuleSource<'_> {
        RuleSource {
            paths: &self.rules,
            builtin: self.builtin,
            with_withdrawn: self.with_deprecated,
        }
    }

    /// Where events come from that don't say so themselves.
    pub(crate) fn assumed_source(&self) -> Source<'static> {
        let owned = |name: &Option<String>| name.clone().map(Into::into);
        Source {
            product: owned(&self.product),
            category: owned(&self.category),
            service: owned(&self.service),
            ..Source::default()
        }
    }
}
