//! What a process holds in memory, by the kernel's word.

use anyhow::{Context as _, Result};

/// One of the fields of `/proc/PID/status` that are in kibibytes, in mebibytes.
pub fn mebibytes(pid: u32, field: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("the process {pid} is gone"))?;
    let is_it = |line: &&str| line.split(':').next() == Some(field);
    let line = status.lines().find(is_it).with_context(|| format!("no {field}"))?;
    let kibibytes = line.split_whitespace().nth(1).and_then(|number| number.parse::<f64>().ok());
    Ok(kibibytes.with_context(|| format!("no number in {field}"))? / 1024.0)
}
