//! `cordon release` and `cordon undo`: taking back, and saying when it was shown to be so.
//!
//! They wait for the machine's own proof ([`shown`](crate::shown)); a machine that is out of reach is said to
//! be, and is not waited for.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use cordon_hub::control::{Answer, Request};
use cordon_hub::view::{Ordered, Undone};

use crate::cli::StateArg;
use crate::control::{Control, block_on, plain, say_order, unexpected};
use crate::shown::{Wanted, until_so};

/// `cordon release`
#[derive(Debug, Clone, clap::Args)]
pub struct ReleaseArgs {
    #[command(flatten)]
    state: StateArg,
    /// The machine's name or id.
    machine: String,
    /// Why it is safe again.
    #[arg(long)]
    reason: String,
    /// Release it although the gate of the return to service is closed, and why.
    #[arg(long, value_name = "WHY")]
    despite: Option<String>,
    /// Do not wait for the machine's proof.
    #[arg(long)]
    no_wait: bool,
}

/// `cordon undo`
#[derive(Debug, Clone, clap::Args)]
pub struct UndoArgs {
    #[command(flatten)]
    state: StateArg,
    /// A machine's name or id, or an incident's id.
    target: String,
    /// Why it was wrong.
    #[arg(long)]
    reason: String,
    /// Do not wait for the machines' proofs.
    #[arg(long)]
    no_wait: bool,
}

/// Takes every isolation of a machine back.
pub fn release(args: &ReleaseArgs) -> Result<ExitCode> {
    let began = Instant::now();
    let control = Control::at(&args.state.layout());
    block_on(async {
        let (machine, reason) = (args.machine.clone(), args.reason.clone());
        let request = Request::Release { machine, reason, despite: args.despite.clone() };
        let (machine, ordered, before) = match control.ask(request).await? {
            Answer::Released { machine, ordered, before } => (machine, ordered, before),
            other => return unexpected(&other),
        };
        // What may be in force is released, whatever the hub knows of it; only the words differ.
        let was_open = before.isolation.is_none() && before.unknown.is_none();
        if was_open {
            println!("nothing isolates {} that anybody knows of", plain(&args.machine));
        }
        say_order(&ordered);
        let Ordered::Signed { is_linked, .. } = ordered else { return Ok(ExitCode::FAILURE) };
        if args.no_wait {
            return Ok(ExitCode::SUCCESS);
        }
        if !is_linked {
            return Ok(ExitCode::FAILURE);
        }
        let word = if was_open { "NOTHING ISOLATED IT" } else { "RELEASED" };
        Ok(until_so(&control, began, word, &[(machine, Wanted::NoIsolation)]).await)
    })
}

/// Takes back everything that Cordon did by itself.
pub fn undo(args: &UndoArgs) -> Result<ExitCode> {
    let began = Instant::now();
    let control = Control::at(&args.state.layout());
    block_on(async {
        let request = Request::UndoAll { target: args.target.clone(), reason: args.reason.clone() };
        let undone = match control.ask(request).await? {
            Answer::Undone(undone) => undone,
            other => return unexpected(&other),
        };
        let mut is_all = true;
        let mut waiting = Vec::new();
        for one in &undone {
            print!("{}", in_words(one));
            is_all &=
                one.refused.is_none() && one.waits.is_empty() && (one.is_linked || args.no_wait);
            if one.is_linked && !one.taken_back.is_empty() {
                let gone = one.taken_back.iter().map(|standing| standing.measure).collect();
                waiting.push((one.machine, Wanted::Gone(gone)));
            }
        }
        println!(
            "If the same rule matches again, Cordon does the same again: `cordon policy mode ask` until it \
             is changed."
        );
        if args.no_wait || waiting.is_empty() {
            return Ok(if is_all { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        let shown = until_so(&control, began, "TAKEN BACK", &waiting).await;
        Ok(if is_all { shown } else { ExitCode::FAILURE })
    })
}

/// A line for each measure, and one for what was not ordered.
fn in_words(undone: &Undone) -> String {
    let name = plain(&undone.name);
    let mut text = String::new();
    for standing in &undone.taken_back {
        let way = if undone.is_linked { "on its way" } else { "waits: it is not in contact" };
        text += &format!("{name}: taking back: {} ({way})\n", plain(&standing.what));
    }
    for standing in &undone.waits {
        text += &format!(
            "{name}: WAITS FOR THE SIGNER: {}. It is kept, and goes out by itself when the signer answers: \
             don't undo it again\n",
            plain(&standing.what)
        );
    }
    if let Some(why) = &undone.refused {
        text += &format!("{name}: NOT ALL: {}\n", plain(why));
    }
    text
}

#[cfg(test)]
mod tests {
    use cordon_hub::view::Standing;
    use cordon_model::ids::{MachineId, MeasureId};
    use cordon_model::time::UtcNanos;

    use super::*;

    #[test]
    fn what_waits_for_the_signer_is_said_to_go_out_by_itself_and_not_to_have_failed() {
        let at = UtcNanos::from_unix_nanos(0);
        let waits = Standing { measure: MeasureId::new(at, [1; 10]), what: "segment".into() };
        let undone = Undone {
            machine: MachineId::new(at, [1; 10]),
            name: "ct-2".into(),
            taken_back: Vec::new(),
            waits: vec![waits],
            refused: None,
            is_linked: true,
        };
        let said = in_words(&undone);
        assert!(said.contains("ct-2: WAITS FOR THE SIGNER: segment"), "{said}");
        assert!(said.contains("by itself") && !said.contains("NOT ALL"), "{said}");
        let both = Undone { refused: Some("a reason".into()), ..undone };
        assert!(in_words(&both).ends_with("ct-2: NOT ALL: a reason\n"));
    }
}
