//! Takes a drill's leavings away, however the drill ended.
//!
//! The one idea: a process of its own, in a process group of its own (Ctrl-C does not reach it), that
//! waits for the drill's end of a pipe to close. That happens when the drill ends well, and just as
//! surely when it is killed.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::network;

/// Roles are given this long to end by themselves once the drill is gone.
const ROLES_END_WITHIN: Duration = Duration::from_secs(2);

/// What to take away.
#[derive(Debug, Clone, clap::Args)]
pub struct CleanerArgs {
    /// What the drill's namespaces' names begin with.
    #[arg(long)]
    pub prefix: String,
    /// Directories.
    #[arg(long)]
    pub directory: Vec<PathBuf>,
}

/// The drill's side; dropping it lets the cleaner begin, and waits for it.
#[derive(Debug)]
pub struct Cleaner {
    child: Child,
}

impl Cleaner {
    /// Starts the cleaner, before there is anything to clean.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn start(program: &Path, args: &CleanerArgs) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(["drill-cleaner", "--prefix", &args.prefix]);
        for directory in &args.directory {
            command.arg("--directory").arg(directory);
        }
        command.stdin(Stdio::piped()).process_group(0);
        Ok(Self { child: command.spawn().context("starting the drill's cleaner")? })
    }
}

impl Drop for Cleaner {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Waits for the drill's end, then takes everything away.
pub fn run(args: &CleanerArgs) {
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    if network::namespaces(&args.prefix).next().is_some() {
        // The drill was killed: its roles end when they see that it is gone.
        thread::sleep(ROLES_END_WITHIN);
        network::remove_all(&args.prefix);
    }
    for directory in &args.directory {
        let _ = std::fs::remove_dir_all(directory);
    }
}
