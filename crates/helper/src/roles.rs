//! The roles and their arguments. `cordon` takes these among its own, so their words stand here only.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Subcommand;
use cordon_agent::contain::action::deny::warden::{self, WardenConfig};
use cordon_agent::contain::bulletin::Places;
use cordon_agent::contain::helper::{self, HelperConfig};
use cordon_agent::contain::lookout::{self, LookoutConfig};
use cordon_agent::contain::survey::SurveyConfig;
use cordon_agent::contain::survey::take::{self, Wanted};
use nix::sys::signal::Signal;

/// A role.
#[derive(Debug, Subcommand)]
pub enum Role {
    /// The agent's privileged helper: the only one that changes a machine
    Helper(HelperArgs),
    /// The helper's warden: answers the kernel whether a program may be started
    Warden(WardenArgs),
    /// Gathers evidence for the helper, which starts it
    #[command(hide = true)]
    Collect(CollectArgs),
    /// Looks at what starts by itself or lets somebody in, for the helper, which starts it
    #[command(hide = true)]
    Survey(SurveyArgs),
    /// Looks out for changes of what starts by itself or lets somebody in, for the helper, which starts it
    #[command(hide = true)]
    Lookout(LookoutArgs),
    /// Tells the helper what its lookout saw
    #[command(hide = true)]
    Changes(SurveyArgs),
}

/// The helper's arguments.
#[derive(Debug, Clone, clap::Args)]
pub struct HelperArgs {
    /// The helper's own directory.
    #[arg(long)]
    pub directory: PathBuf,
    /// Its socket.
    #[arg(long)]
    pub socket: PathBuf,
    /// The warden's socket.
    #[arg(long)]
    pub warden: PathBuf,
    /// The socket that any user of this machine may speak to, to open it by a break-glass code.
    #[arg(long)]
    pub door: Option<PathBuf>,
    /// The folder for the notice to the person in front of this machine, which everybody may read.
    #[arg(long)]
    pub notice: Option<PathBuf>,
    /// Tell it at the next login and on the open terminals too: not for several helpers on one machine.
    #[arg(long, requires = "notice")]
    pub tell_everybody: bool,
    /// Do not look again and again at what starts by itself on this machine or lets somebody in: for all but
    /// one of several helpers on one machine.
    #[arg(long)]
    pub no_survey: bool,
    /// Do not look out for each change there as it is made, nor keep what stood there before: no plan can put it back
    /// then. So it is with --no-survey, too.
    #[arg(long)]
    pub no_look_out: bool,
    /// The only user, besides root, that it speaks to, by number or name; the hub's link is this user's
    /// alone.
    #[arg(long, value_parser = user_number)]
    pub agent_uid: u32,
}

/// The warden's arguments.
#[derive(Debug, Clone, clap::Args)]
pub struct WardenArgs {
    /// Its socket, for the helper.
    #[arg(long)]
    pub socket: PathBuf,
}

/// What a helper says to the process that gathers evidence for it.
#[derive(Debug, Clone, clap::Args)]
pub struct CollectArgs {
    /// The folder of the helper's journal.
    pub journal: PathBuf,
    /// The measure.
    pub measure: cordon_model::ids::MeasureId,
}

/// What a helper says to the process that looks at the machine for it.
#[derive(Debug, Clone, clap::Args)]
pub struct SurveyArgs {
    /// The folder in which what was seen is remembered.
    pub folder: PathBuf,
    /// Where the machine's file system begins.
    pub root: PathBuf,
    /// What is to be said: `nothing`, `all`, or what came or went since a time (nanoseconds since 1970).
    #[arg(allow_hyphen_values = true)]
    pub wanted: Wanted,
}

/// What a helper says to the process that looks out for it.
#[derive(Debug, Clone, clap::Args)]
pub struct LookoutArgs {
    /// The folder in which what is seen is kept.
    pub folder: PathBuf,
    /// Where the machine's file system begins.
    pub root: PathBuf,
}

/// A user by number, or by name, as a service file that is the same on every machine has to say it.
///
/// # Errors
/// In words, if there is none such.
pub fn user_number(text: &str) -> Result<u32, String> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    match nix::unistd::User::from_name(text) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        Ok(None) => Err(format!("there is no user {text}")),
        Err(error) => Err(format!("looking up user {text}: {error}")),
    }
}

/// Runs a role until it is asked to stop.
///
/// # Errors
/// If it can't begin, or can't go on.
pub fn run(role: Role) -> Result<()> {
    // What `ps` and `ss` call it.
    let _ = nix::sys::prctl::set_name(match role {
        Role::Helper(_) => c"cordon-helper",
        Role::Warden(_) => c"cordon-warden",
        Role::Collect(_) => c"cordon-collect",
        Role::Survey(_) => c"cordon-survey",
        Role::Lookout(_) => c"cordon-lookout",
        Role::Changes(_) => c"cordon-changes",
    });
    crate::speak_from_the_background().context("blocking a signal")?;
    match role {
        Role::Helper(args) => run_helper(args),
        Role::Warden(args) => {
            let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGTERM);
            let config = WardenConfig { socket: args.socket };
            match warden::serve(&config).context("the warden")? {}
        }
        Role::Collect(args) => {
            let result =
                cordon_agent::contain::action::collect::collect(&args.journal, args.measure);
            // Not by returning: what it reads may hang, and is not waited for.
            std::process::exit(i32::from(result.is_err()));
        }
        Role::Survey(args) => {
            let code = take::run(&args.folder, &args.root, args.wanted);
            // Nor is this.
            std::process::exit(code);
        }
        Role::Lookout(args) => {
            match lookout::run(&args.folder, &args.root).context("the lookout")? {}
        }
        Role::Changes(args) => {
            std::process::exit(lookout::tell::run(&args.folder, &args.root, args.wanted));
        }
    }
}

fn run_helper(args: HelperArgs) -> Result<()> {
    let survey = SurveyConfig::of_this_machine(args.directory.join("survey"));
    let lookout = LookoutConfig::of_this_machine(args.directory.join("lookout"));
    let config = HelperConfig {
        socket: args.socket,
        door: args.door,
        notice: args.notice.map(|folder| Places {
            folder,
            greetings: args.tell_everybody.then(|| PathBuf::from("/run/motd.d")),
            devices: args.tell_everybody.then(|| PathBuf::from("/dev")),
        }),
        state: args.directory,
        warden: args.warden,
        agent_user: args.agent_uid,
        survey: (!args.no_survey).then_some(survey),
        lookout: (!args.no_look_out && !args.no_survey).then_some(lookout),
        boot: None,
    };
    let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGTERM);
    match helper::serve(&config).context("the helper")? {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_known_by_number_or_name() {
        assert_eq!(user_number("4711"), Ok(4711));
        assert_eq!(user_number("root"), Ok(0));
        assert!(user_number("nobody-of-that-name").is_err());
    }
}
