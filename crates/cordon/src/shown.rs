//! Waiting for a machine's own proof of what was ordered, and saying how long it took.
//!
//! The one idea (law 4): an order on its way is not a machine that is cut off, nor one that is open. Commands
//! that order wait until the machine has shown it, and end with 0 only then.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use cordon_hub::control::{Answer, Request};
use cordon_hub::view::{Ordered, StandingNow};
use cordon_model::ids::{MachineId, MeasureId};
use cordon_model::measure::MeasureState;

use crate::control::{Control, plain, say_ordered, unexpected};

/// How long a proof is waited for: a machine in reach shows it within a second, one with a full disk or a
/// busy processor in a few.
pub const PROOF_WITHIN: Duration = Duration::from_secs(30);

/// How long evidence is waited for: what a slow disk reads and packs in minutes.
pub const GATHERED_WITHIN: Duration = Duration::from_secs(300);

/// A proof that failed is tried again by itself within two seconds; what is still unproven then is said.
const UNPROVEN_FOR: Duration = Duration::from_secs(5);

/// How often the hub is asked meanwhile: it answers from memory.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What has to be so on a machine.
pub enum Wanted {
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
pub async fn until_so(
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

/// How what was ordered is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Wait {
    /// When the command began.
    pub began: Instant,
    /// How long it is waited for; `None`: not at all.
    pub within: Option<Duration>,
}

impl Wait {
    /// From now on, unless it is not to be waited for.
    pub fn from_now(no_wait: bool, within: Duration) -> Self {
        Self { began: Instant::now(), within: (!no_wait).then_some(within) }
    }
}

/// Says what came of an order that begins a measure, and waits until its machine has shown it. Ends with 0
/// if it is shown, or ordered where nobody waits for more; with 1 if it is not (yet) so.
///
/// # Errors
/// If the hub answered something else.
pub async fn ordered(control: &Control, wait: Wait, answer: &Answer) -> Result<ExitCode> {
    say_ordered(answer)?;
    let (machine, order, is_linked) = match answer {
        Answer::Ordered { machine, ordered: Ordered::Signed { order, is_linked } } => {
            (*machine, *order, *is_linked)
        }
        Answer::Ordered { ordered: Ordered::Asked { .. }, .. } => return Ok(ExitCode::FAILURE),
        other => return unexpected(other),
    };
    let Some(within) = wait.within else { return Ok(ExitCode::SUCCESS) };
    if !is_linked {
        return Ok(ExitCode::FAILURE);
    }
    let (mut last, mut unproven_since) = (None, None);
    while wait.began.elapsed() < within {
        // A hub that is being started again answers soon.
        if let Ok(state) = state_of(control, machine, order.into()).await {
            unproven_since = match &state {
                Some(MeasureState::Unproven { .. }) => unproven_since.or(Some(Instant::now())),
                _ => None,
            };
            let is_settled = unproven_since.is_some_and(|since| since.elapsed() >= UNPROVEN_FOR);
            match state.as_ref().and_then(|state| outcome(state, is_settled)) {
                Some(Ok(word)) => {
                    let took = wait.began.elapsed().as_secs_f64();
                    println!("{word}, {took:.3} s after it was ordered");
                    return Ok(ExitCode::SUCCESS);
                }
                Some(Err(words)) => {
                    println!("{words}");
                    return Ok(ExitCode::FAILURE);
                }
                None => last = state,
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let so_far = match last {
        Some(MeasureState::Requested) | None => "the machine has not taken it",
        Some(MeasureState::Delivered) => "the machine has it, and has not said more",
        Some(MeasureState::Unproven { .. }) => "it is applied, and not proven",
        Some(_) => "the machine is at it, and has not proven it",
    };
    println!(
        "NOT SHOWN within {} s: {so_far}. It is ordered, and the machine goes on trying; until `cordon \
         measure list` says otherwise, believe that it is not in force.",
        within.as_secs()
    );
    Ok(ExitCode::FAILURE)
}

/// What a state means for whoever waits: it is shown, or it won't be; `None`: not yet known.
fn outcome(state: &MeasureState, is_settled: bool) -> Option<Result<&'static str, String>> {
    match state {
        MeasureState::Verified => Some(Ok("VERIFIED: in force, by the machine's own proof")),
        MeasureState::Done => Some(Ok("DONE: shown by the machine")),
        MeasureState::Unproven { why } if is_settled => Some(Err(format!(
            "UNPROVEN: {}. Treat it as not in force; the machine goes on trying",
            plain(why)
        ))),
        MeasureState::Failed { why } => {
            Some(Err(format!("FAILED: {}. The machine is unchanged", plain(why))))
        }
        MeasureState::Superseded => {
            Some(Err("SUPERSEDED: a newer order took its place: `cordon machines`".to_owned()))
        }
        MeasureState::Released => {
            Some(Err("RELEASED: it was taken back meanwhile: `cordon machines`".to_owned()))
        }
        MeasureState::SteppedDown => {
            Some(Err("STEPPED DOWN: its lease ended already: `cordon machines`".to_owned()))
        }
        MeasureState::Requested
        | MeasureState::Delivered
        | MeasureState::Applied
        | MeasureState::Unproven { .. } => None,
    }
}

async fn state_of(
    control: &Control,
    machine: MachineId,
    measure: MeasureId,
) -> Result<Option<MeasureState>> {
    match control.ask(Request::Measure { machine, measure }).await? {
        Answer::Measure(state) => Ok(state),
        other => unexpected(&other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_shown_ends_well() {
        let why = || "no".to_owned();
        for state in [MeasureState::Verified, MeasureState::Done] {
            assert!(matches!(outcome(&state, false), Some(Ok(_))), "{state:?}");
        }
        for state in [
            MeasureState::Failed { why: why() },
            MeasureState::Superseded,
            MeasureState::Released,
            MeasureState::SteppedDown,
        ] {
            assert!(matches!(outcome(&state, false), Some(Err(_))), "{state:?}");
        }
        for state in [MeasureState::Requested, MeasureState::Delivered, MeasureState::Applied] {
            assert!(outcome(&state, true).is_none(), "{state:?}");
        }
        // A proof that failed may yet be given, for a moment.
        let unproven = MeasureState::Unproven { why: why() };
        assert!(outcome(&unproven, false).is_none());
        let said = outcome(&unproven, true).unwrap().unwrap_err();
        assert!(said.starts_with("UNPROVEN: no.") && said.contains("not in force"), "{said}");
    }
}
