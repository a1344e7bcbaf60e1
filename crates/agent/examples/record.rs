//! What the sensor sees on this machine, kept in a folder for `cordon scan`: as root,
//! `cargo run --release --example record -- FOLDER SECONDS MEBIBYTES`. It ends by itself.
//!
//! The files may hold whatever people type into commands, passwords too: they are for root alone.

#![cfg(target_os = "linux")]

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cordon_agent::sensor::{Recording, Sensor, SensorOptions};

/// How often what was seen goes to the disk, and is counted out.
const EVERY: Duration = Duration::from_secs(60);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, seconds, mebibytes] = arguments.as_slice() else {
        return Err("which folder, how many seconds, at most how many MiB?".into());
    };
    let (folder, lasting) = (PathBuf::from(folder), Duration::from_secs(seconds.parse()?));
    let bytes = mebibytes.parse::<u64>()?.saturating_mul(1 << 20);
    let sensor = Sensor::open(&SensorOptions::default());
    for coverage in sensor.coverage() {
        println!("{coverage}");
    }
    let recording = Arc::new(Mutex::new(Recording::begin(&folder, bytes)?));
    let kept = Arc::clone(&recording);
    let running = sensor.start(move |event, _| {
        let mut recording = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = recording.keep(&event) {
            println!("not kept: {error}");
        }
    })?;
    let began = Instant::now();
    while let Some(left) = lasting.checked_sub(began.elapsed()).filter(|left| !left.is_zero()) {
        std::thread::sleep(left.min(EVERY));
        let mut recording = recording.lock().unwrap_or_else(PoisonError::into_inner);
        recording.flush()?;
        println!("after {} s: {:?}", began.elapsed().as_secs(), recording.counts());
    }
    drop(running);
    recording.lock().unwrap_or_else(PoisonError::into_inner).flush()?;
    Ok(())
}
