//! Programs of a test's own.

use std::path::Path;
use std::process::Command;

/// Copies the program `from` to `to`, where it can be started at once.
///
/// By another process: whatever this one has open for writing, a child that another test forks meanwhile has open
/// too, until it starts its own program, and the kernel starts no file that somebody has open for writing
/// (`ETXTBSY`).
///
/// # Panics
/// If it can't be copied.
#[track_caller]
pub fn copy_program(from: impl AsRef<Path>, to: impl AsRef<Path>) {
    let copied = Command::new("cp").arg("--").arg(from.as_ref()).arg(to.as_ref()).status();
    let is_copied = copied.is_ok_and(|status| status.success());
    assert!(is_copied, "{} can't be copied", from.as_ref().display());
}
