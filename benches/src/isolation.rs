//! From the worm's first process start to the isolation read back from the kernel: the drill itself,
//! repeated.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::{Row, cordon};

/// At least 200 isolations with a hub, and some with the hub cut off.
const RUNS: &str = "200";
const CUT_OFF_RUNS: &str = "4";

pub fn measure() -> Result<Vec<Row>> {
    if !nix::unistd::geteuid().is_root() {
        println!("event to isolation: skipped, as the drill needs root");
        return Ok(Vec::new());
    }
    println!("event to isolation: {RUNS} outbreaks; this takes about ten minutes");
    let output = Command::new(cordon())
        .args(["drill", "outbreak", "--runs", RUNS, "--cut-off-runs", CUT_OFF_RUNS, "--json"])
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("running the drill")?;
    if !output.status.success() {
        bail!("the drill failed: {}", String::from_utf8_lossy(&output.stdout));
    }
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let mut rows = Vec::new();
    let mut latency = |name: &str, from: &serde_json::Value| {
        let n = from["n"].as_u64().unwrap_or(0);
        for quantile in ["p50", "p99", "max"] {
            let value = from["event_to_isolation_ms"][quantile].as_f64().unwrap_or(f64::NAN);
            rows.push(Row::new(format!("{name} {quantile}"), value, "ms", n));
        }
    };
    latency("event to isolation", &report);
    latency("event to isolation, hub cut off", &report["hub_cut_off"]);
    let machines = report["machines"].as_f64().unwrap_or(0.0);
    let infected = |key: &str| report[key].as_f64().unwrap_or(f64::NAN);
    let n = report["n"].as_u64().unwrap_or(0);
    rows.push(
        Row::new(
            "machines infected at most, beside none defended",
            infected("infected_with"),
            "machines",
            n,
        )
        .beside(infected("infected_without")),
    );
    rows.push(Row::new("machines in the drill", machines, "machines", n));
    rows.push(Row::new("lifelines broken", infected("lifelines_broken"), "sessions", n));
    Ok(rows)
}
