//! What the agent costs while the machine starts processes as fast as it can, and what it loses.

use std::time::Duration;

use anyhow::{Context as _, Result};
use cordon_drill::cast::Cast;
use cordon_drill::hospital;

use crate::{Row, cordon, memory};

/// Long enough that the first moments do not matter.
const SECONDS: u32 = 10;
/// An agent says every 2 s what it has counted.
const HEARD_WITHIN: Duration = Duration::from_secs(5);

pub fn measure() -> Result<Vec<Row>> {
    if !nix::unistd::geteuid().is_root() {
        println!("agent cost: skipped, as it needs root");
        return Ok(Vec::new());
    }
    println!("agent cost: {SECONDS} s of process starts without the agent, then with it");
    let hospital = hospital::machines(1);
    let program = cordon().canonicalize().context("finding the built program")?;
    let mut cast = Cast::assemble(&hospital, &program)?;
    let without = cast.start_processes("m01", SECONDS)?;
    cast.start_hub()?;
    cast.start_agents(&hospital, 1)?;
    let pid = cast.agent_process("m01")?;
    let idle = cpu_ticks(pid)?;
    std::thread::sleep(HEARD_WITHIN);
    let before = cpu_ticks(pid)?;
    let (seen_before, lost_before) = cast.events_of("m01")?;
    let with = cast.start_processes("m01", SECONDS)?;
    std::thread::sleep(HEARD_WITHIN);
    // What waits in the buffer belongs to the cost, so the agent is given the time to read it.
    let cpu = seconds(cpu_ticks(pid)? - before);
    let (seen, lost) = cast.events_of("m01")?;
    let (seen, lost) = (seen.saturating_sub(seen_before), lost.saturating_sub(lost_before));
    let resident = memory::mebibytes(pid, "VmHWM")?;
    let rate = |count: u64| count as f64 / f64::from(SECONDS);
    Ok(vec![
        Row::new(
            "process starts a second with the agent, beside none",
            rate(with),
            "starts/s",
            with,
        )
        .beside(rate(without)),
        Row::new("events that the agent saw of that", seen as f64, "events", with),
        Row::new("events lost at that rate", lost as f64, "events", seen + lost),
        Row::new("agent CPU at that rate", 100.0 * cpu / f64::from(SECONDS), "% of core", with),
        Row::new("agent CPU a process start", 1e6 * cpu / with.max(1) as f64, "us", with),
        Row::new(
            "agent CPU when idle",
            100.0 * seconds(before - idle) / HEARD_WITHIN.as_secs_f64(),
            "% of core",
            1,
        ),
        Row::new("agent memory at its highest", resident, "MiB", 1),
    ])
}

/// User and system time of a process in ticks (`/proc/PID/stat`, fields 14 and 15).
pub fn cpu_ticks(pid: u32) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("the agent is gone")?;
    // The name may hold spaces; fields are counted from the last bracket.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let tick = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
    Ok(tick(11).context("no user time")? + tick(12).context("no system time")?)
}

pub fn seconds(ticks: u64) -> f64 {
    // Linux shows times to user space in hundredths of a second on every architecture that we build for.
    ticks as f64 / 100.0
}
