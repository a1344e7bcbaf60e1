//! `make bench`: what Cordon costs and how fast it is, on this machine, now.
//!
//! Each measurement prints its n, the load and CPU seconds, and becomes rows in
//! `target/bench/results.json`. Where there is a peer it runs in the same process on the same events, and
//! the ratio of CPU time is what counts; a number without its peer depends on the machine.

#![forbid(unsafe_code)]

mod agent_cost;
mod detection;
mod isolation;
mod undo;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::Serialize;

/// One row of the results.
#[derive(Debug, Clone, Serialize)]
struct Row {
    /// What was measured.
    name: String,
    /// How much.
    value: f64,
    /// Of what.
    unit: &'static str,
    /// How many times, or how many things.
    n: u64,
    /// What the peer did, in the same unit.
    peer: Option<f64>,
    /// The value over the peer's, so that more is better for rates.
    ratio: Option<f64>,
}

impl Row {
    fn new(name: impl Into<String>, value: f64, unit: &'static str, n: u64) -> Self {
        Self { name: name.into(), value, unit, n, peer: None, ratio: None }
    }

    fn beside(mut self, peer: f64) -> Self {
        self.peer = Some(peer);
        self.ratio = (peer != 0.0).then(|| self.value / peer);
        self
    }
}

fn main() -> Result<()> {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load before: {}", load.trim());
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|one| one == name);
    let mut rows = Vec::new();
    if wants("detection") {
        rows.extend(detection::measure()?);
    }
    if wants("isolation") {
        rows.extend(isolation::measure()?);
    }
    if wants("undo") {
        rows.extend(undo::measure()?);
    }
    if wants("agent") {
        rows.extend(agent_cost::measure()?);
    }
    for row in &rows {
        let beside = match (row.peer, row.ratio) {
            (Some(peer), Some(ratio)) => format!("   peer {peer:.1}, ratio {ratio:.2}"),
            _ => String::new(),
        };
        println!("{:<58} {:>14.2} {:<10} n={}{beside}", row.name, row.value, row.unit, row.n);
    }
    let file = PathBuf::from("target/bench/results.json");
    std::fs::create_dir_all("target/bench").context("making target/bench")?;
    std::fs::write(&file, serde_json::to_string_pretty(&rows)?)
        .with_context(|| file.display().to_string())?;
    println!("written to {}", file.display());
    Ok(())
}

/// The built program.
fn cordon() -> PathBuf {
    PathBuf::from("target/release/cordon")
}

/// CPU seconds of this process so far, user and system.
fn cpu_seconds() -> f64 {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF);
    usage.map_or(0.0, |usage| {
        let seconds = |time: nix::sys::time::TimeVal| {
            time.tv_sec() as f64 + time.tv_usec() as f64 / 1_000_000.0
        };
        seconds(usage.user_time()) + seconds(usage.system_time())
    })
}
