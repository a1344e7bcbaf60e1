//! Who may sign in to the console, and as what.

use anyhow::Result;
use cordon_hub::control::{Answer, Request};
use cordon_store::Role;

use crate::cli::StateArg;
use crate::control::{Control, ask_at, block_on, plain, tell, tell_night, unexpected};

/// `cordon sign-in`
#[derive(Debug, Clone, clap::Args)]
pub struct SignInArgs {
    #[command(flatten)]
    state: StateArg,
    /// Who signs in; made known if new.
    #[arg(long, default_value = "administrator")]
    name: String,
    /// What a new person may do: viewer, responder or administrator.
    #[arg(long, value_parser = role)]
    role: Option<Role>,
    /// Where the console is.
    #[arg(long, default_value = crate::up::DEFAULT_CONSOLE)]
    console: std::net::SocketAddr,
}

fn role(text: &str) -> Result<Role, String> {
    match text {
        "viewer" => Ok(Role::Viewer),
        "responder" => Ok(Role::Responder),
        "administrator" => Ok(Role::Administrator),
        other => Err(format!("{other:?} is no role: use viewer, responder or administrator")),
    }
}

/// Makes a sign-in link.
pub fn sign_in(args: &SignInArgs) -> Result<()> {
    let control = Control::at(&args.state.layout());
    let secret = block_on(control.sign_in(&args.name, args.role))?;
    println!("{}", cordon_console::sign_in_link(args.console, &secret));
    Ok(())
}

/// `cordon person`
#[derive(Debug, Clone, clap::Args)]
pub struct PersonArgs {
    #[command(flatten)]
    state: StateArg,
    /// Sign-in name.
    name: String,
    /// What this person may do: viewer, responder or administrator.
    #[arg(long, value_parser = role, required_unless_present = "bar")]
    role: Option<Role>,
    /// Whether this person is clinical: where policy or tier ask for two people, one of them clinical, one of
    /// the two must be.
    #[arg(long)]
    clinical: bool,
    /// May not sign in any more; sessions that are open end at once.
    #[arg(long, conflicts_with_all = ["role", "clinical"])]
    bar: bool,
}

/// Makes a person known, or changes what they may do.
pub fn person(args: &PersonArgs) -> Result<()> {
    let name = args.name.clone();
    let request = match args.role {
        Some(role) => Request::PutPerson { name, role, is_clinical: args.clinical },
        None => Request::BarPerson { name },
    };
    match ask_at(&args.state, request)? {
        Answer::Kept { night } => {
            let name = plain(&args.name);
            match args.role {
                Some(role) => {
                    let clinical = if args.clinical { ", clinical" } else { "" };
                    tell(&format!("{name} is {}{clinical}\n", role.as_str()))?;
                }
                None => tell(&format!("{name} is barred: no session of theirs goes on\n"))?,
            }
            tell_night(night.as_ref())
        }
        other => unexpected(&other),
    }
}
