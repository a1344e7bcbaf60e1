//! `cordon`: one program, three roles, and the tools around them.
//!
//! The binary is thin: it turns words into typed arguments, opens what a role needs, and calls the crate
//! that does the work. `cordon help` is the map; [`cli`] is the same in code.

#![forbid(unsafe_code)]

mod accounts;
mod assign;
mod break_glass;
mod cli;
mod control;
mod gaps;
mod layout;
mod measures;
mod notice;
mod people;
mod questions;
mod roles;
mod supervise;
mod tools;
mod undo;
mod up;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    // One provider for the whole process, before anything speaks TLS: with two in the tree rustls panics.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = cli::Cli::parse();
    begin_logging(cli.log_json);
    match cli::run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cordon: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Logs go to standard error; `CORDON_LOG` chooses what (`info` by default), as the crate
/// `tracing-subscriber` reads it.
fn begin_logging(json: bool) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("CORDON_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if json { logs.json().init() } else { logs.with_target(false).init() }
}
