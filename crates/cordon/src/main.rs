//! `cordon`: one program, three roles, and the tools around them.
//!
//! The binary is thin: it turns words into typed arguments, opens what a role needs, and calls the crate
//! that does the work. `cordon help` is the map; [`cli`] is the same in code.

#![forbid(unsafe_code)]

mod accounts;
mod alarms;
mod assign;
mod break_glass;
mod cli;
mod control;
mod eliminate;
mod evidence;
mod gaps;
mod gate;
mod incidents;
mod keeper;
mod layout;
mod lifelines;
mod machines;
mod measures;
mod notice;
mod people;
mod policy;
mod questions;
mod roles;
mod shown;
mod supervise;
mod survey;
mod tools;
mod undo;
mod up;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    // One provider for the whole process, before anything speaks TLS: with two in the tree rustls panics.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = cli::Cli::parse();
    cordon_helper::begin_logging(cli.log_json);
    match cli::run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cordon: {}", with_causes(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error with what caused it, each once: some say their cause themselves.
fn with_causes(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let because = cause.to_string();
        if !text.ends_with(&because) {
            text = format!("{text}: {because}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let refused = || std::io::Error::other("connection refused");
        let failed = cordon_link::frame::FrameError::Stream(refused());
        let error = anyhow::Error::from(failed).context("no hub answers");
        let said = with_causes(&error);
        assert_eq!(said, "no hub answers: the connection failed: connection refused");
        let error = anyhow::Error::from(refused()).context("reading the file");
        assert_eq!(with_causes(&error), "reading the file: connection refused");
    }
}
