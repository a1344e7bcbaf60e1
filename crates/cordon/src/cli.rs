//! The command line, as types; and which code each command calls.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::layout::Layout;
use crate::{
    assign, break_glass, control, eliminate, gate, incidents, lifelines, machines, measures,
    notice, people, policy, questions, roles, survey, tools, undo, up,
};

/// A security operations centre for health services.
///
/// Begin with `cordon up`: a hub and an agent on this machine, listening on loopback only.
#[derive(Debug, Parser)]
#[command(name = "cordon", version, propagate_version = true)]
pub struct Cli {
    /// Write logs as JSON lines.
    #[arg(long, global = true)]
    pub log_json: bool,
    #[command(subcommand)]
    command: Command,
}

/// How commands end that wait for a machine's proof.
const PROVEN: &str =
    "Exit status: 0: shown by the machine (with --no-wait: ordered); 1: not, and it says why";

/// Where the state is.
#[derive(Debug, Clone, clap::Args)]
pub struct StateArg {
    /// Directory for all state; /var/lib/cordon for root, else below the home directory.
    #[arg(long, value_name = "DIR", global = true)]
    state: Option<PathBuf>,
}

impl StateArg {
    /// The layout that a machine's own Cordon has, whoever asks: root's, unless another was named.
    pub fn machines_layout(&self) -> Layout {
        Layout::new(self.state.clone().unwrap_or_else(|| PathBuf::from(Layout::ROOTS_OWN)))
    }

    /// As it has to be said again with another command, with a blank before it; empty if it need not.
    pub fn in_words(&self) -> String {
        let Some(state) = &self.state else { return String::new() };
        let state = state.display().to_string();
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./".contains(letter);
        match state.chars().all(is_plain) {
            true => format!(" --state {state}"),
            false => format!(" --state '{}'", state.replace('\'', "'\\''")),
        }
    }

    /// The layout below it.
    pub fn layout(&self) -> Layout {
        Layout::new(self.state.clone().unwrap_or_else(Layout::default_root))
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a hub and an agent on this machine, with everything embedded
    Up(Box<up::UpArgs>),

    /// Run Sigma rules over logs at rest
    #[command(after_help = "Exit status: see --help")]
    Scan(Box<cordon_scan::ScanArgs>),

    /// For those who write rules: check, explain, test, coverage
    #[command(subcommand)]
    Rules(cordon_scan::author::RulesCommand),

    /// Machines, their state, and how old that is; one in full
    Machines(machines::MachinesArgs),
    /// Incidents, the newest first; show one, take it, comment on it, close it
    Incidents(incidents::IncidentsArgs),
    /// The questions that wait for people
    Questions(questions::QuestionsArgs),
    /// Answer one: yes or no
    Answer(questions::AnswerArgs),
    /// Cut a machine off, and wait for its proof
    #[command(after_help = PROVEN)]
    Isolate(control::IsolateArgs),
    /// Extend the lease of an isolation that has to go on
    Renew(control::RenewArgs),
    /// Show the plan against what was found on a machine; order it; look again
    Eliminate(eliminate::EliminateArgs),
    /// Show whether a machine may return to service; say that it is patched; sign off
    #[command(
        after_help = "Exit status: 0: the gate is open, or the word that was given counts; 1: not"
    )]
    Gate(gate::GateArgs),
    /// Take an isolation back, exactly, through the gate or despite it
    #[command(after_help = PROVEN)]
    Release(undo::ReleaseArgs),
    /// Take back everything that Cordon did by itself, to one machine or in one incident
    #[command(after_help = PROVEN)]
    Undo(undo::UndoArgs),
    /// Freeze, kill, quarantine, deny, block, disable, collect; and take it back
    #[command(subcommand, after_help = PROVEN)]
    Measure(measures::Measure),
    /// Show what starts by itself on a machine, lets somebody in or lies in /tmp to be run; what came or went
    Survey(survey::SurveyArgs),
    /// Open this machine by a one-time code, with hub and network gone; print codes, read one out
    BreakGlass(break_glass::BreakGlassArgs),
    /// Show what this machine tells the person in front of it
    Notice(notice::NoticeArgs),
    /// Say what a machine is: tier, group, kind and the flows that must live
    Assign(assign::AssignArgs),
    /// Lifelines that are known by name: how they are, look now, confirm an address
    #[command(subcommand)]
    Lifelines(lifelines::Lifelines),
    /// Strike a machine off that is stolen, taken over or gone
    StrikeOff(assign::StrikeOffArgs),
    /// Show or set the policy
    Policy(policy::PolicyArgs),
    /// Make a one-time token that enrols one machine
    EnrolToken(assign::EnrolTokenArgs),
    /// Make a one-time link that signs a person in to the console
    SignIn(people::SignInArgs),
    /// Make a person known, or change what they may do
    Person(people::PersonArgs),

    /// Check the ledger of everything that was done, or an archive of evidence
    Verify(tools::VerifyArgs),
    /// Practise an attack, harmlessly
    Drill(tools::DrillArgs),
    /// Run the decision machines under partitions, loss and crashes, and check the laws
    Simulate(tools::SimulateArgs),

    /// Run one role by itself, as a package's service does
    #[command(subcommand)]
    Role(roles::Role),

    #[command(hide = true)]
    DrillHost(cordon_drill::worm::HostArgs),
    #[command(hide = true)]
    DrillWorm(cordon_drill::worm::WormArgs),
    #[command(hide = true)]
    DrillProbe(tools::DrillProbeArgs),
    #[command(hide = true)]
    DrillSpawn(tools::DrillSpawnArgs),
    #[command(hide = true)]
    DrillCleaner(cordon_drill::cleaner::CleanerArgs),
}

/// Runs the command.
pub fn run(cli: Cli) -> Result<ExitCode> {
    match cli.command {
        Command::Up(args) => up::run(&args).map(done),
        Command::Scan(args) => Ok(cordon_scan::run(&args)?.exit_code()),
        Command::Rules(what) => Ok(cordon_scan::author::run(&what)?),
        Command::Machines(args) => machines::machines(&args).map(done),
        Command::Incidents(args) => incidents::incidents(&args).map(done),
        Command::Questions(args) => questions::questions(&args).map(done),
        Command::Answer(args) => questions::answer(&args),
        Command::Isolate(args) => control::isolate(&args),
        Command::Renew(args) => control::renew(&args).map(done),
        Command::Eliminate(args) => eliminate::run(&args),
        Command::Gate(args) => gate::run(&args),
        Command::Release(args) => undo::release(&args),
        Command::Undo(args) => undo::undo(&args),
        Command::Measure(measure) => measures::run(&measure),
        Command::Survey(args) => survey::survey(&args).map(done),
        Command::BreakGlass(args) => break_glass::run(&args),
        Command::Notice(args) => notice::run(&args).map(done),
        Command::Assign(args) => assign::assign(&args).map(done),
        Command::Lifelines(what) => lifelines::run(&what).map(done),
        Command::StrikeOff(args) => assign::strike_off(&args).map(done),
        Command::Policy(args) => policy::policy(&args).map(done),
        Command::EnrolToken(args) => assign::enrol_token(&args).map(done),
        Command::SignIn(args) => people::sign_in(&args).map(done),
        Command::Person(args) => people::person(&args).map(done),
        Command::Verify(args) => tools::verify(&args),
        Command::Drill(args) => tools::drill(&args),
        Command::Simulate(args) => tools::simulate(&args),
        Command::Role(role) => roles::run(role).map(done),
        Command::DrillHost(args) => cordon_drill::worm::run_host(args).map(done),
        Command::DrillWorm(args) => cordon_drill::worm::run_worm(&args).map(done),
        Command::DrillProbe(args) => Ok(tools::drill_probe(&args)),
        Command::DrillSpawn(args) => Ok(tools::drill_spawn(&args)),
        Command::DrillCleaner(args) => {
            cordon_drill::cleaner::run(&args);
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn done((): ()) -> ExitCode {
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn incidents_are_listed_or_one_is_worked_on() {
        let id = "01890a5d-ac96-774b-bcce-b302099a8057";
        let takes =
            |words: &[&str]| Cli::try_parse_from([&["cordon", "incidents"][..], words].concat());
        for words in [
            &[][..],
            &["--all", "--json", "--state", "there"],
            &["show", id, "--json", "--state", "there"],
            &["take", id],
            &["comment", id, "looks like a scan"],
            &["close", id, "--reason", "a drill"],
        ] {
            assert!(takes(words).is_ok(), "{words:?}: {:?}", takes(words).err());
        }
        for words in [&["--all", "take", id][..], &["close", id], &["take", "number 7"]] {
            assert!(takes(words).is_err(), "{words:?}");
        }
    }
}
