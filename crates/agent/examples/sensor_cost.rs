//! What the sensor costs, and how soon it tells: `cargo run --release --example sensor_cost`, as root.
//!
//! Prints rows of name, value, unit, n. Nothing here judges: the machine may be busy.

#![cfg(target_os = "linux")]

use std::os::unix::fs::MetadataExt as _;
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use cordon_agent::sensor::{RunningSensor, Sensor, SensorEvent, SensorOptions};
use nix::time::{ClockId, clock_gettime};

const STARTS: u32 = 2_000;

fn main() -> std::io::Result<()> {
    let options = |namespace| SensorOptions {
        network_namespace: Some(namespace),
        ..SensorOptions::default()
    };
    // Alone in a new network namespace, so that others' processes are not counted.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)?;
    let here = std::fs::metadata("/proc/thread-self/ns/net")?.ino();
    start_many(200)?; // warm

    row("start, no sensor", start_many(STARTS)?, "us", STARTS);
    let began = Instant::now();
    let (sender, latencies) = mpsc::channel();
    let one = listen(&options(here), sender)?;
    row("open", began.elapsed().as_secs_f64() * 1e3, "ms", 1);
    row("start, 1 sensor that tells", start_many(STARTS)?, "us", STARTS);
    report("latency, one after the other", &latencies);

    for _ in 0..300 {
        std::thread::sleep(Duration::from_millis(10));
        start_many(1)?;
    }
    report("latency, idle", &latencies);

    let began = Instant::now();
    let (nowhere, _unheard) = mpsc::channel();
    let others = (0..19)
        .map(|_| listen(&options(1), nowhere.clone()))
        .collect::<std::io::Result<Vec<RunningSensor>>>()?;
    row("open, each of 19 more", began.elapsed().as_secs_f64() * 1e3 / 19.0, "ms", 19);
    let cpu = processor_time();
    row("start, 1 sensor that tells and 19 that do not", start_many(STARTS)?, "us", STARTS);
    report("latency, 20 sensors", &latencies);
    let used = (processor_time() - cpu).as_secs_f64() * 1e6 / f64::from(STARTS);
    row("processor time of this process a start (with its spawning)", used, "us", STARTS);
    drop(others);
    drop(one);
    row("start, none again", start_many(STARTS)?, "us", STARTS);
    Ok(())
}

/// Starts `/bin/true` so many times; returns the median in microseconds.
fn start_many(count: u32) -> std::io::Result<f64> {
    let mut times = Vec::new();
    for _ in 0..count {
        let began = Instant::now();
        Command::new("/bin/true").status()?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2].as_secs_f64() * 1e6)
}

/// A sensor that sends how long after each start it was told.
fn listen(options: &SensorOptions, to: mpsc::Sender<u64>) -> std::io::Result<RunningSensor> {
    Sensor::open(options).start(move |event, _| match event {
        SensorEvent::ProcessStart(start) => {
            let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from);
            let now = u64::try_from(now.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX);
            let _ = to.send(now.saturating_sub(start.boot_time.0));
        }
        SensorEvent::Loss(loss) => println!("lost: {loss:?}"),
        _ => {}
    })
}

fn report(name: &str, latencies: &mpsc::Receiver<u64>) {
    std::thread::sleep(Duration::from_millis(200));
    let mut all: Vec<u64> = latencies.try_iter().collect();
    all.sort_unstable();
    let n = u32::try_from(all.len()).unwrap_or(u32::MAX);
    for (part, of) in [("p50", 500), ("p99", 990), ("p99.9", 999)] {
        if let Some(nanos) = all.get(all.len() * of / 1000) {
            row(
                &format!("{name}, {part}"),
                Duration::from_nanos(*nanos).as_secs_f64() * 1e6,
                "us",
                n,
            );
        }
    }
}

fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

fn row(name: &str, value: f64, unit: &str, n: u32) {
    println!("{name:60} {value:10.1} {unit}  n={n}");
}
