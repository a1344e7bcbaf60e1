//! How long it takes to undo a wrong isolation: from the command to the machine's proof that it is open.
//!
//! The real program in a network namespace of its own: the command, the hub, the signer's sync, the link, the
//! helper's sync, the kernel, the read-back, the receipt, the hub's disk. Both ways back: `cordon undo` of what
//! the policy did by itself about a program that a rule matches, and `cordon release` of what a person ordered.
//! Printed, and judged by nobody.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::{Row, cordon, quantile};

/// What an undo of a wrong isolation may take: the machine is reachable, and somebody waits beside it.
const AIM: Duration = Duration::from_secs(5);

/// Isolations by a person, and releases; 100, so that p99 is the second worst and no single one.
const ROUNDS: usize = 100;

/// A machine isolates itself no more than 5 times in 10 minutes without people, whatever the policy says: so
/// each of so many machines…
const MACHINES: usize = 6;
/// …is undone so often.
const UNDONE_EACH: usize = 5;

/// How long anything may take to come at all.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running `cordon up`; ended when dropped.
struct Up {
    child: Child,
    program: PathBuf,
    state: PathBuf,
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

impl Up {
    fn start(number: usize) -> Result<Self> {
        let program = cordon().canonicalize().context("finding the built program")?;
        let state = format!("cordon-bench-undo-{}-{number}", std::process::id());
        let state = std::env::temp_dir().join(state);
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
        Ok(Self { child, program, state })
    }

    fn run(&self, words: &[&str]) -> Result<String> {
        let output =
            Command::new(&self.program).args(words).arg("--state").arg(&self.state).output()?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            bail!("{words:?}: {}", String::from_utf8_lossy(&output.stderr))
        }
    }

    /// What the hub says of its one machine.
    fn machine(&self) -> Option<serde_json::Value> {
        let machines = self.run(&["machines", "--json"]).ok()?;
        let machines: serde_json::Value = serde_json::from_str(&machines).ok()?;
        machines.as_array()?.first().cloned()
    }

    /// Its name, once it is in contact.
    fn linked(&self) -> Result<String> {
        eventually("a machine in contact", || {
            let machine = self.machine().filter(|machine| machine["is_linked"] == true)?;
            Some(machine["name"].as_str()?.to_owned())
        })
    }

    fn until(&self, what: &str, key: &str, value: &serde_json::Value) -> Result<()> {
        eventually(what, || self.machine().filter(|machine| machine[key] == *value)).map(drop)
    }

    /// How long a command took that has to say so, with the start of the program, as a person at the keyboard
    /// counts; in milliseconds.
    fn timed(&self, words: &[&str], shown: &str) -> Result<f64> {
        let began = Instant::now();
        let said = self.run(words)?;
        let took = began.elapsed().as_secs_f64() * 1e3;
        if said.contains(shown) { Ok(took) } else { bail!("{words:?} was not shown: {said}") }
    }
}

pub fn measure() -> Result<Vec<Row>> {
    if !nix::unistd::geteuid().is_root() {
        println!("command to proof of undo and release: skipped, as isolating needs root");
        return Ok(Vec::new());
    }
    println!(
        "command to proof: {} undone isolations of the policy, {ROUNDS} released ones of people (aim: each < {} s)",
        MACHINES * UNDONE_EACH,
        AIM.as_secs()
    );
    let mut undone = Vec::with_capacity(MACHINES * UNDONE_EACH);
    for number in 0..MACHINES {
        undo(number, &mut undone)?;
    }
    let mut rows = shares("command to proof of undo", &mut undone);
    rows.extend(shares("command to proof of release", &mut released()?));
    Ok(rows)
}

fn shares(name: &str, took: &mut [f64]) -> Vec<Row> {
    let n = took.len() as u64;
    let shares = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)];
    let rows = shares.map(|(what, share)| {
        let value = quantile(took, share);
        Row::new(format!("{name} {what}"), value, "ms", n).with_aim_below(AIM.as_secs_f64() * 1e3)
    });
    rows.into()
}

/// What the policy does by itself about a program of ours, taken back by the one command.
fn undo(number: usize, took: &mut Vec<f64>) -> Result<()> {
    let up = Up::start(number)?;
    let name = up.linked()?;
    up.run(&["assign", &name, "--tier", "0"])?;
    up.run(&["policy", "mode", "act"])?;
    // Where malware puts its own, so that a rule says so; what runs is `true`.
    let program = Harmless::put(number)?;
    for _ in 0..UNDONE_EACH {
        let pid = up.child.id().to_string();
        let network = ["--target", &pid, "--net", "--"];
        let status = Command::new("nsenter").args(network).arg(&program.0).status()?;
        if !status.success() {
            bail!("the harmless program did not run: {status}");
        }
        up.until("the policy isolates by itself", "truth", &"verified".into())?;
        took.push(up.timed(&["undo", &name, "--reason", "measured"], "TAKEN BACK: shown")?);
        up.until("nothing isolates it", "isolation", &serde_json::Value::Null)?;
    }
    Ok(())
}

/// What a person ordered, released.
fn released() -> Result<Vec<f64>> {
    let up = Up::start(MACHINES)?;
    let name = up.linked()?;
    let mut took = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        up.run(&["isolate", &name, "--mode", "full", "--reason", "measured"])?;
        up.until("the isolation is verified", "truth", &"verified".into())?;
        let release = ["release", &name, "--reason", "measured", "--despite", "a measurement"];
        took.push(up.timed(&release, "RELEASED: shown")?);
    }
    Ok(took)
}

/// A copy of `true` in memory; removed when dropped.
struct Harmless(PathBuf);

impl Drop for Harmless {
    fn drop(&mut self) {
        let _ = self.0.parent().map(std::fs::remove_dir_all);
    }
}

impl Harmless {
    fn put(number: usize) -> Result<Self> {
        let folder = format!("/dev/shm/.T{}-undo-{number}", std::process::id());
        let program = Path::new(&folder).join("kworkerd");
        std::fs::create_dir_all(&folder)?;
        std::fs::copy("/bin/true", &program)?;
        Ok(Self(program))
    }
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
