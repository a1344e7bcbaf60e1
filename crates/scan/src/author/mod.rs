//! `cordon rules`: what the authors of rules need.
//!
//! The one idea: an author asks the engine that will run the rule, not a second one beside it. `check` shows
//! what it refuses and what it would take but nobody should ship; `explain` has it walk one rule over one
//! event; `test` asks it about the events that lie beside a rule; `coverage` counts the techniques that
//! rules name.

mod check;
mod coverage;
mod explain;
mod test;

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use cordon_detect::LogSource;
use cordon_model::event::Source;

use crate::ScanError;
use crate::rules::{RuleSource, Rules};
use crate::terminal::Looks;

pub use check::CheckArgs;
pub use coverage::CoverageArgs;
pub use explain::ExplainArgs;
pub use test::TestArgs;

/// For those who write rules.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum RulesCommand {
    /// Say what is wrong with rules: what is refused, and what would be taken but is worth a second look
    #[command(after_help = CHECK_STATUS)]
    Check(CheckArgs),
    /// Show part by part why a rule matches an event, or why not
    #[command(after_help = EXPLAIN_STATUS)]
    Explain(ExplainArgs),
    /// Ask rules about the events that lie beside them in NAME.test.json
    #[command(after_help = TEST_STATUS)]
    Test(TestArgs),
    /// Count rules by ATT&CK technique, and write a layer for the ATT&CK Navigator
    Coverage(CoverageArgs),
}

const CHECK_STATUS: &str =
    "Exit status: 0: nothing was refused (with --strict: and nothing noted); 1: something was";
const EXPLAIN_STATUS: &str =
    "Exit status: 0: the rule matches an event that was asked about; 1: none";
const TEST_STATUS: &str = "Exit status: 0: every rule did as its events say (with --strict: and every rule has events); 1: not";

/// Files and folders of rules.
#[derive(Debug, Clone, clap::Args)]
pub struct RulePaths {
    /// Rules: files, or folders with all that is under them. The built-in pack if none is given
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
}

/// Where events come from that don't say so themselves.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Assumed {
    /// Product of JSON events that don't say it; the rule's own if nothing is said here
    #[arg(long, value_name = "NAME", help_heading = "Log source of JSON events")]
    product: Option<String>,

    /// Category of JSON events that don't say it; likewise
    #[arg(long, value_name = "NAME", help_heading = "Log source of JSON events")]
    category: Option<String>,

    /// Service of JSON events that don't say it; likewise
    #[arg(long, value_name = "NAME", help_heading = "Log source of JSON events")]
    service: Option<String>,
}

impl Assumed {
    /// What was said; if nothing was, what the rule asks for, except of Windows: its events say their
    /// channel, and whether the rule's category has its place there is the question.
    fn source(&self, rule: &LogSource) -> Source<'static> {
        let owned = |name: &Option<String>| name.clone().map(Into::into);
        let said = Source {
            product: owned(&self.product),
            category: owned(&self.category),
            service: owned(&self.service),
            ..Source::default()
        };
        if said != Source::default() || rule.product.as_deref() == Some("windows") {
            return said;
        }
        let owned = |name: &Option<Box<str>>| name.as_deref().map(|name| name.to_owned().into());
        Source {
            product: owned(&rule.product),
            category: owned(&rule.category),
            service: owned(&rule.service),
            ..Source::default()
        }
    }
}

impl RulePaths {
    /// All of them, withdrawn ones too: their authors may ask about them.
    fn source(&self) -> RuleSource<'_> {
        RuleSource { paths: &self.paths, builtin: false, with_withdrawn: true }
    }

    /// Compiles them. Whatever is refused is told to `err`.
    fn load(&self, err: &mut dyn Write) -> Result<Rules, ScanError> {
        Self::compiled(self.source(), err)
    }

    /// Those that a scan or an agent would use.
    fn load_in_force(&self, err: &mut dyn Write) -> Result<Rules, ScanError> {
        Self::compiled(RuleSource { with_withdrawn: false, ..self.source() }, err)
    }

    fn compiled(source: RuleSource<'_>, err: &mut dyn Write) -> Result<Rules, ScanError> {
        let rules = Rules::load(source, None)?;
        let _ = rules.tell(true, err);
        if rules.references.is_empty() {
            return Err(ScanError::NoRules { refused: rules.refused() });
        }
        Ok(rules)
    }
}

/// Does what was asked, with the answer on stdout and the rest on stderr.
///
/// # Errors
/// When rules or events can't be read, or the answer can't be written.
pub fn run(command: &RulesCommand) -> Result<ExitCode, ScanError> {
    let looks = Looks::of_this_process(true);
    let mut out = BufWriter::new(io::stdout().lock());
    answer(command, looks, &mut out, &mut io::stderr())
}

/// Does what was asked, with the answer to `out` and the rest to `err`.
///
/// # Errors
/// As [`run`]. That `out` has no reader any more is none.
pub fn answer(
    command: &RulesCommand,
    looks: Looks,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<ExitCode, ScanError> {
    let answered = match command {
        RulesCommand::Check(args) => check::check(args, looks, out),
        RulesCommand::Explain(args) => explain::explain(args, looks, out, err),
        RulesCommand::Test(args) => test::test(args, looks, out, err),
        RulesCommand::Coverage(args) => coverage::coverage(args, looks, out, err),
    };
    match answered.and_then(|good| Ok(out.flush().map(|()| good)?)) {
        Ok(true) => Ok(ExitCode::SUCCESS),
        Ok(false) => Ok(ExitCode::FAILURE),
        Err(ScanError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => Err(error),
    }
}
