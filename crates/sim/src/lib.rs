//! Virtual time and a seeded network: the production state machines under partitions, loss and crashes.
//!
//! One run is one seed. It builds an organisation (machines of every tier, a hub, a signer), lets things go
//! wrong, and judges every step by the laws of [`cordon_model::laws`]. Nothing is mocked that decides:
//! [`cordon_respond`]'s four cores are driven as production drives them, real signatures included; what is
//! simulated is time, disks, kernels, the network, people and attackers.
//!
//! ```
//! let options = cordon_sim::Options { seeds: 3, ..Default::default() };
//! let summary = cordon_sim::simulate(&options).map_err(|failure| failure.to_string())?;
//! assert_eq!(summary.seeds, 3);
//! # Ok::<(), String>(())
//! ```
//!
//! A failure says which law, when, and how to replay it; the same seed gives the same run, and the replay
//! carries a trace. [`Sabotage`] turns one control off, so that tests can show that the law's break is seen.

#![forbid(unsafe_code)]

mod agent_shell;
mod attention;
mod besides;
mod declined;
mod glass;
mod helper_shell;
mod hub_astray;
mod hub_link;
mod hub_rows;
mod hub_shell;
mod liar;
mod machine;
mod network;
mod observer;
mod random;
mod scenario;
mod shown;
mod signer_shell;
mod stolen_hub;
mod trouble;
mod unread;
mod weaker;
mod world;
mod wrong_rule;

use std::fmt;
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cordon_model::laws::Violation;
use serde::Serialize;

pub use scenario::{Sabotage, Scenario};
pub use world::Tally;
pub use wrong_rule::{Alive, Asked, Spent, Undone, WrongRule};

/// What to simulate.
#[derive(Debug, Clone)]
pub struct Options {
    /// The first seed.
    pub seed: u64,
    /// How many seeds from there.
    pub seeds: u64,
    /// What happens.
    pub scenario: Scenario,
    /// On how many machines; `None`: as many as the scenario usually has.
    pub machines: Option<usize>,
    /// Which control is off.
    pub sabotage: Option<Sabotage>,
    /// Print every step of every seed (for a replay).
    pub trace: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 0,
            seeds: 1_000,
            scenario: Scenario::Everything,
            machines: None,
            sabotage: None,
            trace: false,
        }
    }
}

/// What happened in all seeds together.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Summary {
    /// How many seeds ran.
    pub seeds: u64,
    /// What happened in them.
    pub tally: Tally,
    /// Virtual time of all of them.
    pub simulated: Duration,
    /// What came of a wrong rule in the first of them, if that was what happened.
    pub wrong_rule: Option<WrongRule>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(wrong_rule) = &self.wrong_rule {
            writeln!(f, "{wrong_rule}")?;
        }
        writeln!(f, "{} seeds, {} s of virtual time", self.seeds, self.simulated.as_secs())?;
        self.tally.fmt(f)
    }
}

/// A law was broken, or a run came to a wrong end.
#[derive(Debug, Clone)]
pub struct Failure {
    /// In which seed.
    pub seed: u64,
    /// In which scenario.
    pub scenario: Scenario,
    /// On how many machines, if that was said.
    pub machines: Option<usize>,
    /// When, in virtual time.
    pub at: Duration,
    /// What.
    pub violation: Violation,
    /// The last steps before it.
    pub trace: Vec<String>,
}

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(f, "  {line}")?;
        }
        writeln!(f, "seed {} at {:.3} s: {}", self.seed, self.at.as_secs_f64(), self.violation)?;
        write!(
            f,
            "replay: cordon simulate --scenario {} --seed {} --seeds 1 --trace",
            self.scenario, self.seed
        )?;
        self.machines.map_or(Ok(()), |machines| write!(f, " --machines {machines}"))
    }
}

/// Runs the seeds, on as many threads as there are processors; each seed is a run of its own.
///
/// # Errors
/// The failure of the lowest seed that fails, run a second time with its trace.
pub fn simulate(options: &Options) -> Result<Summary, Box<Failure>> {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get) as u64;
    let threads = threads.min(options.seeds).max(1);
    // The lowest seed that failed so far: nobody goes on above it.
    let failed = AtomicU64::new(u64::MAX);
    let parts: Vec<Result<Summary, Box<Failure>>> = std::thread::scope(|scope| {
        let parts: Vec<_> = (0..threads)
            .map(|part| {
                let failed = &failed;
                scope.spawn(move || simulate_part(options, part, threads, failed))
            })
            .collect();
        parts.into_iter().filter_map(|part| part.join().ok()).collect()
    });
    let mut summary = Summary::default();
    let mut first: Option<Box<Failure>> = None;
    for part in parts {
        match part {
            Ok(part) => summary.add(&part),
            Err(failure) if first.as_ref().is_none_or(|first| failure.seed < first.seed) => {
                first = Some(failure);
            }
            Err(_) => {}
        }
    }
    match first {
        None => Ok(summary),
        Some(failure) if options.trace => Err(failure),
        // The same seed is the same run: once more, with every step written down.
        Some(failure) => Err(world::run(options, failure.seed, true).err().unwrap_or(failure)),
    }
}

/// Every `of`-th seed from the `part`-th on.
fn simulate_part(
    options: &Options,
    part: u64,
    of: u64,
    failed: &AtomicU64,
) -> Result<Summary, Box<Failure>> {
    let mut summary = Summary::default();
    let mut offset = part;
    while offset < options.seeds {
        let seed = options.seed.saturating_add(offset);
        if seed > failed.load(Ordering::Relaxed) {
            break;
        }
        let one = world::run(options, seed, options.trace).inspect_err(|failure| {
            failed.fetch_min(failure.seed, Ordering::Relaxed);
        })?;
        summary.add(&one);
        offset += of;
    }
    Ok(summary)
}

impl Summary {
    fn add(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.simulated += other.simulated;
        self.tally.add(&other.tally);
        let is_earlier = |of: &WrongRule| self.wrong_rule.as_ref().is_none_or(|w| of.seed < w.seed);
        if let Some(earlier) = other.wrong_rule.as_ref().filter(|of| is_earlier(of)) {
            self.wrong_rule = Some(earlier.clone());
        }
    }
}
