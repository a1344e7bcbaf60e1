//! How long it takes to undo a wrong isolation: from the command to the machine's proof that it is open.
//!
//! The real program in a network namespace of its own: the command, the hub, the signer's sync, the link, the
//! helper's sync, the kernel, the read-back, the receipt, the hub's disk. Printed, and judged by nobody.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::{Row, cordon, quantile};

const ROUNDS: usize = 30;

/// How long anything may take to come at all.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running `cordon up`; ended when dropped.
struct Up {
    child: Child,
    state: std::path::PathBuf,
}

impl Drop for Up {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let pid = nix::unistd::Pid::from_raw(pid);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        }
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.state);
    }
}

pub fn measure() -> Result<Vec<Row>> {
    if !nix::unistd::geteuid().is_root() {
        println!("command to proof of release: skipped, as isolating needs root");
        return Ok(Vec::new());
    }
    println!("command to proof of release: {ROUNDS} isolations and releases");
    let program = cordon().canonicalize().context("finding the built program")?;
    let state = std::env::temp_dir().join(format!("cordon-bench-undo-{}", std::process::id()));
    std::fs::create_dir_all(&state)?;
    let script = format!(
        "ip link set lo up && exec {} up --own-network-only --state {}",
        program.display(),
        state.display()
    );
    let child = Command::new("unshare")
        .args(["--net", "--", "sh", "-c", &script])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let up = Up { child, state };
    let name = eventually("a machine in contact", || {
        let machines = json(&program, &up.state, &["machines", "--json"])?;
        let linked = machines.as_array()?.iter().find(|machine| machine["is_linked"] == true)?;
        Some(linked["name"].as_str()?.to_owned())
    })?;
    let mut took = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        run(&program, &up.state, &["isolate", &name, "--mode", "full", "--reason", "measured"])?;
        eventually("the isolation is verified", || {
            let machines = json(&program, &up.state, &["machines", "--json"])?;
            (machines[0]["truth"] == "verified").then_some(())
        })?;
        let began = Instant::now();
        let said = run(&program, &up.state, &["release", &name, "--reason", "measured"])?;
        if !said.contains("RELEASED: shown") {
            bail!("the release was not shown: {said}");
        }
        // With the start of the program, as a person at the keyboard counts.
        took.push(began.elapsed().as_secs_f64() * 1e3);
    }
    let shares = [("p50", 0.5), ("p90", 0.9), ("max", 1.0)];
    let rows = shares.map(|(what, share)| {
        let value = quantile(&mut took, share);
        Row::new(format!("command to proof of release {what}"), value, "ms", ROUNDS as u64)
    });
    Ok(rows.into())
}

fn run(program: &Path, state: &Path, words: &[&str]) -> Result<String> {
    let output = Command::new(program).args(words).arg("--state").arg(state).output()?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        bail!("{words:?}: {}", String::from_utf8_lossy(&output.stderr))
    }
}

fn json(program: &Path, state: &Path, words: &[&str]) -> Option<serde_json::Value> {
    serde_json::from_str(&run(program, state, words).ok()?).ok()
}

fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if began.elapsed() > PATIENCE {
            bail!("never: {what}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
