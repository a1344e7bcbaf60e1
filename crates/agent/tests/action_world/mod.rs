//! Trees of real processes, and a folder for the journal of what is done to them.
//!
//! Needs root; [`World::new`] is `None` without it and says so. Each world's processes run as a user of
//! their own, so that they can be found and ended whatever they did, and none else.

#![allow(dead_code, reason = "each test file uses its part of the world")]

pub mod disks;

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use cordon_agent::contain::action::freeze::Freeze;
use cordon_agent::contain::action::hold::{Held, Holder};
use cordon_agent::contain::action::lineage::Seen;
use cordon_agent::contain::action::{Journal, Protected};
use cordon_agent::contain::moment::Clocks;
use cordon_agent::sensor::ProcessId;
use cordon_model::ids::MeasureId;
use cordon_model::measure::Proof;
use cordon_model::time::{BootId, UtcNanos};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

static COUNT: AtomicU32 = AtomicU32::new(0);
static WORLDS: AtomicU32 = AtomicU32::new(0);

/// Users that no machine has: [`USERS`] of them for each number that a process can have (2^22 at most).
const FIRST_USER: u32 = 1_900_000_000;
/// More worlds than one program has at the same time: those of another would end its processes.
const USERS: u32 = 512;

/// What never comes fails a test instead of hanging it, however busy the machine is.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct World {
    pub folder: tempfile::TempDir,
    pub user: u32,
    children: Vec<Child>,
}

impl World {
    pub fn new() -> Option<Self> {
        if cordon_tests::lacks_root("stopping other users' processes") {
            return None;
        }
        let number = WORLDS.fetch_add(1, Ordering::Relaxed) % USERS;
        let user = FIRST_USER + std::process::id() * USERS + number;
        Some(Self { folder: tempfile::tempdir().unwrap(), user, children: Vec::new() })
    }

    /// A shell that runs `script`, with at most `most` processes beside it.
    pub fn shell(&mut self, script: &str, most: u32) -> ProcessId {
        self.start(Command::new("/bin/bash"), script, most)
    }

    /// The same, as the leader of a session of its own.
    pub fn session(&mut self, script: &str, most: u32) -> ProcessId {
        let mut command = Command::new("setsid");
        command.arg("/bin/bash");
        self.start(command, script, most)
    }

    fn start(&mut self, mut command: Command, script: &str, most: u32) -> ProcessId {
        let script = format!("ulimit -u {most}; {script}");
        let child = command
            .args(["-c", &script])
            .uid(self.user)
            .gid(self.user)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let id = Seen::now(child.id()).unwrap().id;
        self.children.push(child);
        id
    }

    /// Its processes that did not end.
    pub fn alive(&self) -> Vec<Seen> {
        let is_ours = |seen: &Seen| {
            let owner = std::fs::metadata(format!("/proc/{}", seen.id.pid)).map(|m| m.uid());
            owner.is_ok_and(|owner| owner == self.user) && !seen.is_over()
        };
        Seen::all().into_iter().filter(is_ours).collect()
    }

    /// Waits until that many run.
    #[track_caller]
    pub fn wait_for(&self, count: usize) -> Vec<Seen> {
        let mut alive = Vec::new();
        until(|| {
            alive = self.alive();
            alive.len() >= count
        });
        alive
    }

    pub fn journal(&self) -> Journal {
        Journal::open(&self.folder.path().join("measures")).unwrap()
    }

    pub fn holder(&self, by: Means) -> Holder {
        Holder::new(self.journal(), boot(), by == Means::Groups)
    }

    /// Takes notice of those that ended.
    pub fn reap(&mut self) {
        for child in &mut self.children {
            let _ = child.try_wait();
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // What forks is stopped first, until nothing new comes; a frozen one dies of SIGKILL too.
        for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
            for _ in 0..1_000 {
                let alive = self.alive();
                if alive.iter().all(|seen| signal == Signal::SIGSTOP && seen.is_stopped()) {
                    break;
                }
                for seen in alive {
                    let _ = kill(Pid::from_raw(seen.id.pid.cast_signed()), signal);
                }
                self.reap();
            }
        }
    }
}

/// By what processes are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Means {
    Groups,
    Signals,
}

pub const BOTH: [Means; 2] = [Means::Groups, Means::Signals];

pub fn boot() -> BootId {
    Clocks::of_this_boot().unwrap().now().boot
}

pub fn measure() -> MeasureId {
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut random = [0; 10];
    random[..4].copy_from_slice(&std::process::id().to_be_bytes());
    random[4..8].copy_from_slice(&number.to_be_bytes());
    MeasureId::new(UtcNanos::now(), random)
}

/// The processor time that `pid` used, in the finest unit there is.
pub fn used(pid: u32) -> String {
    let clock = nix::time::ClockId::pid_cpu_clock_id(Pid::from_raw(pid.cast_signed())).unwrap();
    format!("{}", nix::time::clock_gettime(clock).unwrap())
}

/// The control group of version 2 that `pid` is in; `None` if it is gone by now.
pub fn group(pid: u32) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    Some(text.lines().find_map(|line| line.strip_prefix("0::"))?.to_owned())
}

/// Where the control groups of version 2 are.
pub fn hierarchy() -> Option<std::path::PathBuf> {
    let text = std::fs::read_to_string("/proc/mounts").unwrap();
    let line = text.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
    let found = line.map(|line| Path::new(line.split(' ').nth(1).unwrap()).to_owned());
    if found.is_none() {
        cordon_tests::cannot_be_had("there are no control groups of version 2 here");
    }
    found
}

/// The tree, held and proven, applied again as long as it is not: as the helper does it. On a busy machine
/// what was told to stop does so late, and the kernel may lose word of a fork.
#[track_caller]
pub fn frozen(
    freeze: &Freeze,
    measure: MeasureId,
    roots: &[ProcessId],
    protected: &Protected,
) -> (Held, Proof) {
    let began = Instant::now();
    loop {
        let held = freeze.apply(measure, roots, protected).unwrap();
        let proof = freeze.prove(&held, protected).unwrap();
        if proof.holds() {
            return (held, proof);
        }
        assert!(began.elapsed() < PATIENCE, "{proof:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Looks again and again until it is so.
#[track_caller]
pub fn until(mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "it never was so");
        std::thread::sleep(Duration::from_millis(1));
    }
}
