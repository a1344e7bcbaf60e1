//! `cordon gate`: whether an isolated machine may return to service, and people's words on it.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::Result;
use cordon_hub::control::{Answer, Request};
use cordon_hub::view::GateView;
use cordon_model::gate::Need;
use serde_json::json;

use crate::cli::StateArg;
use crate::control::{ask_at, plain, tell, unexpected};

/// `cordon gate`
#[derive(Debug, Clone, clap::Args)]
#[group(id = "word", multiple = false, args = ["patched", "sign_off"])]
pub struct GateArgs {
    #[command(flatten)]
    state: StateArg,
    /// The machine's name or id.
    machine: String,
    /// Say that what let the intruder in is closed, how, and how you know.
    #[arg(long, value_name = "WHY")]
    patched: Option<String>,
    /// Answer for its return, after all else.
    #[arg(long, value_name = "WHY")]
    sign_off: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Shows the gate, after a word on it was taken. Ends with 0 if it is open, or if the word that was given
/// counts now; else with 1.
pub fn run(args: &GateArgs) -> Result<ExitCode> {
    let machine = args.machine.clone();
    let request = match (&args.patched, &args.sign_off) {
        (Some(reason), _) => Request::SayPatched { machine, reason: reason.clone() },
        (None, Some(reason)) => Request::SignOff { machine, reason: reason.clone() },
        (None, None) => Request::Gate { machine },
    };
    let view = match ask_at(&args.state, request)? {
        Answer::Gate(view) => view,
        other => return unexpected(&other),
    };
    tell(&if args.json { in_json(&view)? } else { in_words(&view)? })?;
    let given = match (&args.patched, &args.sign_off) {
        (Some(_), _) => Some(Need::Patched),
        (None, Some(_)) => Some(Need::SignedOff),
        (None, None) => None,
    };
    let is_well = view.is_open || given.is_some_and(|need| counts(&view, need));
    if !view.is_open
        && !args.json
        && let Some(need) = given
    {
        let word = if is_well { "counts" } else { "is noted, and DOES NOT COUNT (above is why)" };
        tell(&format!("your word ({need}) {word}; the gate is still CLOSED\n"))?;
    }
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether the need is met now, or is not asked for.
fn counts(view: &GateView, need: Need) -> bool {
    !view.gate.missing().any(|asked| asked.need == need)
}

fn in_words(view: &GateView) -> Result<String> {
    let name = plain(&view.machine.name);
    let mut text = String::new();
    let word = if view.is_open { "OPEN" } else { "CLOSED" };
    match view.isolated_since {
        Some(since) => writeln!(text, "{name}: the gate is {word}; isolated since {since}")?,
        None => writeln!(text, "{name}: the gate is {word}")?,
    }
    if let Some(why) = &view.gate.nothing_asked {
        writeln!(text, "  nothing is asked: {}", plain(why))?;
    }
    for asked in &view.gate.needs {
        let word = if asked.is_met { "yes" } else { "MISSING" };
        writeln!(text, "  {:<10} {word:<8} {}", asked.need, plain(&asked.because))?;
        if !asked.is_met && view.gate.nothing_asked.is_none() {
            writeln!(text, "             {}", plain(&asked.command(&view.machine.name)))?;
        }
    }
    if !view.statements.is_empty() {
        writeln!(
            text,
            "said and seen, {} of {}, the newest first:",
            view.statements.len(),
            view.of
        )?;
    }
    for statement in &view.statements {
        writeln!(text, "  {}  {}", statement.at, plain(&statement.in_words()))?;
    }
    if view.is_open {
        writeln!(text, "it may return: cordon release {name} --reason \"...\"")?;
    } else {
        writeln!(
            text,
            "if care needs it now: cordon release {name} --reason \"...\" --despite \"why\""
        )?;
    }
    Ok(text)
}

fn in_json(view: &GateView) -> Result<String> {
    let needs: Vec<_> = view
        .gate
        .needs
        .iter()
        .map(
            |asked| json!({ "need": asked.need, "is_met": asked.is_met, "because": asked.because }),
        )
        .collect();
    let gate = json!({
        "machine": view.machine.name,
        "is_open": view.is_open,
        "nothing_asked": view.gate.nothing_asked,
        "needs": needs,
        "isolated_since_unix_ns": view.isolated_since.map(cordon_model::time::UtcNanos::unix_nanos),
        "statements": view.statements,
        "of": view.of,
    });
    Ok(serde_json::to_string_pretty(&gate)? + "\n")
}
