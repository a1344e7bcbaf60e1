//! From the worm's first process start to the isolation read back from the kernel: the drill itself,
//! repeated.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::{Row, cordon};

/// Each run ends in an isolation at least: so at least 200 with the hub in reach, and 50 with it cut off.
/// The worm alone is always the same, so a few runs show what it would do.
const RUNS: &str = "200";
const CUT_OFF_RUNS: &str = "50";
const UNPROTECTED_RUNS: &str = "5";

pub fn measure() -> Result<Vec<Row>> {
    if !nix::unistd::geteuid().is_root() {
        println!("event to isolation: skipped, as the drill needs root");
        return Ok(Vec::new());
    }
    println!(
        "event to isolation: {RUNS} outbreaks and {CUT_OFF_RUNS} with the hub cut off; this takes about \
         twelve minutes"
    );
    let output = Command::new(cordon())
        .args(["drill", "outbreak", "--runs", RUNS, "--cut-off-runs", CUT_OFF_RUNS])
        .args(["--unprotected-runs", UNPROTECTED_RUNS, "--json"])
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
    let count = |key: &str| report[key].as_f64().unwrap_or(f64::NAN);
    let n = report["n"].as_u64().unwrap_or(0);
    rows.push(
        Row::new(
            "machines infected at most, beside none defended",
            count("infected_with"),
            "machines",
            n,
        )
        .beside(count("infected_without")),
    );
    let cut_off = &report["hub_cut_off"];
    rows.push(Row::new(
        "machines infected at most, hub cut off",
        cut_off["infected_with"].as_f64().unwrap_or(f64::NAN),
        "machines",
        cut_off["n"].as_u64().unwrap_or(0),
    ));
    rows.push(Row::new("machines in the drill", machines, "machines", n));
    for (name, key, unit) in [
        ("machines isolated though not infected", "isolated_uninfected", "machines"),
        ("machines infected and never isolated", "never_isolated", "machines"),
        ("lifelines broken", "lifelines_broken", "sessions"),
        ("neighbours' tries that contradict", "probes_wrong", "tries"),
    ] {
        rows.push(Row::new(name, count(key), unit, n));
    }
    Ok(rows)
}
