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
mod machine;
mod network;
mod observer;
mod random;
mod scenario;
mod shells;
mod world;

use std::fmt;
use std::time::Duration;

use cordon_model::laws::Violation;

pub use scenario::{Sabotage, Scenario};
pub use world::Tally;

/// What to simulate.
#[derive(Debug, Clone)]
pub struct Options {
    /// The first seed.
    pub seed: u64,
    /// How many seeds from there.
    pub seeds: u64,
    /// What happens.
    pub scenario: Scenario,
    /// Which control is off.
    pub sabotage: Option<Sabotage>,
    /// Print every step of every seed (for a replay).
    pub trace: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { seed: 0, seeds: 1_000, scenario: Scenario::Everything, sabotage: None, trace: false }
    }
}

/// What happened in all seeds together.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// How many seeds ran.
    pub seeds: u64,
    /// What happened in them.
    pub tally: Tally,
    /// Virtual time of all of them.
    pub simulated: Duration,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
        )
    }
}

/// Runs the seeds, one after another, until one fails.
///
/// # Errors
/// The first [`Failure`], run a second time with its trace.
pub fn simulate(options: &Options) -> Result<Summary, Box<Failure>> {
    let mut summary = Summary::default();
    for seed in options.seed..options.seed.saturating_add(options.seeds) {
        let (tally, simulated) = match world::run(options, seed, options.trace) {
            Ok(run) => run,
            Err(failure) if options.trace => return Err(failure),
            // The same seed is the same run: once more, with every step written down.
            Err(failure) => return Err(world::run(options, seed, true).err().unwrap_or(failure)),
        };
        summary.seeds += 1;
        summary.simulated += simulated;
        summary.tally.add(&tally);
    }
    Ok(summary)
}
