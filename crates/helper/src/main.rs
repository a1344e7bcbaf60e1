//! `cordon-helper`: started by `cordon role helper` and `cordon role warden`, and by nobody else. It takes
//! their very words, so that a service file, `ps` and a person see one program with its roles.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Cordon's part that runs as root on a machine. Start it as `cordon role helper`.
#[derive(Debug, Parser)]
#[command(name = "cordon-helper", version)]
struct Cli {
    /// Write logs as JSON lines.
    #[arg(long, global = true)]
    log_json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one role.
    #[command(subcommand)]
    Role(cordon_helper::Role),
}

fn main() -> ExitCode {
    let Cli { log_json, command: Command::Role(role) } = Cli::parse();
    cordon_helper::begin_logging(log_json);
    match cordon_helper::run(role) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cordon: {error:#}");
            ExitCode::FAILURE
        }
    }
}
