//! `cordon release` and `cordon undo`: taking back, and saying when it was shown to be so.
//!
//! The one idea (law 4): an order on its way is not a machine that is open. These commands wait for the
//! machine's own proof and say how long that took, from the command to the proof; a machine that is out of
//! reach is said to be, and is not waited for.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use cordon_hub::control::{Answer, Request};
use cordon_hub::view::{Ordered, StandingNow, Undone};
use cordon_model::ids::{MachineId, MeasureId};

use crate::cli::StateArg;
use crate::control::{Control, block_on, plain, say_ordered, unexpected};

/// How long a proof is waited for: a machine in reach shows it within a second, one with a full disk or a
/// busy processor in a few.
const PROOF_WITHIN: Duration = Duration::from_secs(30);

/// How often the hub is asked meanwhile: it answers from memory.
const LOOK_EVERY: Duration = Duration::from_millis(10);

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
        let request =
            Request::Release { machine: args.machine.clone(), reason: args.reason.clone() };
        let answer = control.ask(request).await?;
        say_ordered(&answer)?;
        let Answer::Ordered { machine, ordered: Ordered::Signed { is_linked, .. } } = answer else {
            return unexpected(&answer);
        };
        if args.no_wait || !is_linked {
            return Ok(ExitCode::SUCCESS);
        }
        Ok(wait(&control, began, "RELEASED", &[(machine, Wanted::NoIsolation)]).await)
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
            say_undone(one);
            is_all &= one.refused.is_none();
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
        let shown = wait(&control, began, "TAKEN BACK", &waiting).await;
        Ok(if is_all { shown } else { ExitCode::FAILURE })
    })
}

fn say_undone(undone: &Undone) {
    let name = plain(&undone.name);
    for standing in &undone.taken_back {
        let way = if undone.is_linked { "on its way" } else { "waits: it is not in contact" };
        println!("{name}: taking back: {} ({way})", plain(&standing.what));
    }
    if let Some(why) = &undone.refused {
        println!("{name}: NOT ALL: {}", plain(why));
    }
}

/// What has to be so on a machine.
enum Wanted {
    /// No isolation stands.
    NoIsolation,
    /// None of these stands.
    Gone(Vec<MeasureId>),
}

impl Wanted {
    fn is_so(&self, now: &StandingNow) -> bool {
        match self {
            // That the hub knows of none is no proof: the machine itself must say that it holds none.
            Self::NoIsolation => now.unknown.is_none() && now.isolation.is_none(),
            Self::Gone(measures) => !now.measures.iter().any(|one| measures.contains(&one.measure)),
        }
    }
}

/// Waits until the machines have shown it, and says how long that took.
async fn wait(
    control: &Control,
    began: Instant,
    what: &str,
    machines: &[(MachineId, Wanted)],
) -> ExitCode {
    let mut left: Vec<_> = machines.iter().collect();
    while began.elapsed() < PROOF_WITHIN {
        let mut still = Vec::new();
        for one in left {
            let (machine, wanted) = one;
            match standing(control, *machine).await {
                Ok(standing) if wanted.is_so(&standing) => {}
                // A hub that is being started again answers soon.
                Ok(_) | Err(_) => still.push(one),
            }
        }
        left = still;
        if left.is_empty() {
            let count = machines.len();
            let took = began.elapsed().as_secs_f64();
            println!("{what}: shown by {count} of {count} machines, {took:.3} s after the command");
            return ExitCode::SUCCESS;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    println!(
        "NOT SHOWN within {} s by {} of {} machines. It is ordered, and the machine goes on trying; until \
         `cordon machines` says otherwise, believe that it is still in force.",
        PROOF_WITHIN.as_secs(),
        left.len(),
        machines.len()
    );
    ExitCode::FAILURE
}

async fn standing(control: &Control, machine: MachineId) -> Result<StandingNow> {
    match control.ask(Request::Standing(machine)).await? {
        Answer::Standing(standing) => Ok(*standing),
        other => bail!("the hub is of another version: it answered {other:?}"),
    }
}
