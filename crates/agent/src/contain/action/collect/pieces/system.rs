//! The kernel's modules, the mounts, and what the kernel says of itself.

use std::fs::File;

use serde::Serialize;

use super::super::gather::{About, Gatherer, Sink};
use super::super::limits::SMALL_FILE_BYTES;

const WORDS: [&str; 12] = [
    "/proc/modules",
    "/proc/self/mountinfo",
    "/proc/cmdline",
    "/proc/version",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/partitions",
    "/proc/sys/kernel/tainted",
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/kernel/random/boot_id",
];

#[derive(Serialize)]
struct ModuleRow {
    name: String,
    /// Whether `/proc/modules` lists it too: one that does not is hidden from `lsmod`.
    is_listed: bool,
    taint: String,
    source_version: String,
}

/// All of it.
pub(in super::super) fn all(gatherer: &mut Gatherer) {
    for path in WORDS {
        let about =
            About { kind: "kernel", source: path.as_bytes(), how: "read", most: SMALL_FILE_BYTES };
        gatherer.piece(
            about,
            Box::new(move |sink: &mut Sink| {
                let mut file = File::open(path).map_err(|error| error.to_string())?;
                sink.copy(&mut file, SMALL_FILE_BYTES + 1)
            }),
        );
    }
    let about = About {
        kind: "kernel",
        source: b"/sys/module",
        how: "read, a row of JSON for each loaded module",
        most: SMALL_FILE_BYTES,
    };
    gatherer.piece(about, Box::new(modules));
}

fn modules(sink: &mut Sink) -> Result<(), String> {
    // Without this file the kernel has no modules at all; what /sys then shows is the stranger.
    let listed = std::fs::read_to_string("/proc/modules").unwrap_or_default();
    let listed: Vec<&str> = listed.lines().filter_map(|line| line.split(' ').next()).collect();
    let entries = std::fs::read_dir("/sys/module").map_err(|error| error.to_string())?;
    for entry in entries.filter_map(Result::ok) {
        let path = entry.path();
        // What is built into the kernel has no state.
        if !path.join("initstate").exists() {
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        let word = |file: &str| {
            std::fs::read_to_string(path.join(file)).unwrap_or_default().trim().to_owned()
        };
        sink.row(&ModuleRow {
            is_listed: listed.contains(&name.as_str()),
            name,
            taint: word("taint"),
            source_version: word("srcversion"),
        })?;
    }
    Ok(())
}
