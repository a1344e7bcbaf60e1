//! `make bench`: what Cordon costs and how fast it is, on this machine, now.
//!
//! Each measurement prints its n, the load and CPU seconds, and becomes rows in
//! `target/bench/results.json`. Where there is a peer it runs in the same process on the same events, and
//! the ratio of CPU time is what counts; a number without its peer depends on the machine.

#![forbid(unsafe_code)]

mod agent_cost;
mod detection;
mod false_positives;
mod fleet;
mod helper;
mod isolation;
mod memory;
mod undo;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use nix::sys::resource::UsageWho;
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
    /// What it is to stay below, in the same unit, and whether it did.
    aim: Option<(f64, bool)>,
}

impl Row {
    fn new(name: impl Into<String>, value: f64, unit: &'static str, n: u64) -> Self {
        Self { name: name.into(), value, unit, n, peer: None, ratio: None, aim: None }
    }

    fn beside(mut self, peer: f64) -> Self {
        self.peer = Some(peer);
        self.ratio = (peer != 0.0).then(|| self.value / peer);
        self
    }

    fn with_aim_below(mut self, aim: f64) -> Self {
        self.aim = Some((aim, self.value < aim));
        self
    }
}

/// A measurement, by the name that chooses it. What one that fails had measured before is in the rows.
type Measurement = (&'static str, fn(&mut Vec<Row>) -> Result<()>);

/// All of them. The isolations last, as they take longest.
const MEASUREMENTS: [Measurement; 8] = [
    ("detection", |rows| all_of(detection::measure, rows)),
    ("false-positives", |rows| all_of(false_positives::measure, rows)),
    ("agent", |rows| all_of(agent_cost::measure, rows)),
    ("helper", |rows| all_of(helper::measure, rows)),
    ("lookout", |rows| all_of(helper::measure_with_lookout, rows)),
    ("undo", |rows| all_of(undo::measure, rows)),
    ("fleet", fleet::measure),
    ("isolation", |rows| all_of(isolation::measure, rows)),
];

/// Of one that gives its rows all together.
fn all_of(measure: fn() -> Result<Vec<Row>>, rows: &mut Vec<Row>) -> Result<()> {
    rows.extend(measure()?);
    Ok(())
}

fn main() -> Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if let Some(unknown) =
        wanted.iter().find(|one| MEASUREMENTS.iter().all(|(name, _)| name != one))
    {
        let names = MEASUREMENTS.map(|(name, _)| name).join(", ");
        bail!("there is no measurement {unknown:?}: there are {names}");
    }
    std::fs::create_dir_all("target/bench").context("making target/bench")?;
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|one| one == name);
    let chosen: Vec<_> = MEASUREMENTS.into_iter().filter(|(name, _)| is_wanted(name)).collect();
    let (rows, failures) = measured(&chosen);
    for row in &rows {
        let beside = match (row.peer, row.ratio) {
            (Some(peer), Some(ratio)) => format!("   peer {peer:.1}, ratio {ratio:.2}"),
            _ => String::new(),
        };
        let aim = row.aim.map_or(String::new(), |(aim, is_met)| {
            format!("   aim: below {aim:.1}: {}", if is_met { "met" } else { "MISSED" })
        });
        println!("{:<58} {:>14.2} {:<10} n={}{beside}{aim}", row.name, row.value, row.unit, row.n);
    }
    let file = PathBuf::from("target/bench/results.json");
    std::fs::write(&file, serde_json::to_string_pretty(&rows)?)
        .with_context(|| file.display().to_string())?;
    println!("written to {}", file.display());
    if !failures.is_empty() {
        bail!("these could not be measured, and why is said above: {}", failures.join(", "));
    }
    Ok(())
}

/// The rows of these, and which of them failed.
fn measured(chosen: &[Measurement]) -> (Vec<Row>, Vec<&'static str>) {
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    for (name, measure) in chosen {
        let (began, cpu, load) =
            (Instant::now(), cpu_seconds() + cpu_seconds_of_children(), load());
        // One that fails does not take the others' rows away.
        if let Err(error) = measure(&mut rows) {
            println!("  FAILED: {error:#}");
            failures.push(*name);
        }
        println!(
            "  took {:.0} s and {:.1} CPU seconds of this program and what it started; load {load} before",
            began.elapsed().as_secs_f64(),
            cpu_seconds() + cpu_seconds_of_children() - cpu,
        );
    }
    (rows, failures)
}

/// The data that lies beside the project, if it does (`CORDON_SHARED` says where).
fn shared_data() -> PathBuf {
    let shared =
        std::env::var_os("CORDON_SHARED").map_or_else(|| "../shared".into(), PathBuf::from);
    shared.join("data")
}

/// The built program.
fn cordon() -> PathBuf {
    PathBuf::from("target/release/cordon")
}

/// The value below which so great a share of `values` lies; sorts them.
fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1) as f64;
    values.get((last * share).round() as usize).copied().unwrap_or(f64::NAN)
}

/// How busy the machine was over the last minute: processes that ran or wanted to.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
}

/// CPU seconds of this process so far, user and system.
fn cpu_seconds() -> f64 {
    seconds_of(UsageWho::RUSAGE_SELF)
}

/// The same of all that it started and that has ended.
fn cpu_seconds_of_children() -> f64 {
    seconds_of(UsageWho::RUSAGE_CHILDREN)
}

fn seconds_of(whom: UsageWho) -> f64 {
    let usage = nix::sys::resource::getrusage(whom);
    usage.map_or(0.0, |usage| {
        let seconds = |time: nix::sys::time::TimeVal| {
            time.tv_sec() as f64 + time.tv_usec() as f64 / 1_000_000.0
        };
        seconds(usage.user_time()) + seconds(usage.system_time())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fleet takes half an hour: what it measured in it is not thrown away.
    #[test]
    fn one_that_fails_leaves_what_it_measured_and_is_named() {
        fn breaks_off(rows: &mut Vec<Row>) -> Result<()> {
            rows.push(Row::new("all linked", 3.0, "s", 1));
            bail!("only 1 of 2 linked")
        }
        fn whole() -> Result<Vec<Row>> {
            Ok(vec![Row::new("one more", 1.0, "s", 1)])
        }
        let (rows, failures) =
            measured(&[("fleet", breaks_off), ("other", |rows| all_of(whole, rows))]);
        let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!((names, failures), (vec!["all linked", "one more"], vec!["fleet"]));
    }
}
