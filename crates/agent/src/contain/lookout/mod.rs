//! What is changed where something starts by itself or lets somebody in: seen as it is made, with who made it, and with
//! what stood there before.
//!
//! ```text
//! helper ─► its thread ─► the lookout, a process of its own: group (the kernel's word) ─► watching ─► book ─► store
//! helper ─► Surveyor ──► a process for each question: tell ◄──────────────────────────────────────────────────┘
//! ```
//!
//! The one idea: what an intruder's process changes can be put back exactly only by whoever kept what was there before.
//! So a process of the helper's, as root, keeps the small files of the [survey's places](super::survey) and what they
//! are besides their content, watches their folders by the kernel's notifications, and writes down each change with the
//! process that the kernel names. It changes nothing, decides nothing, and answers nobody: what it keeps is on the
//! disk, in a folder that only root reads, and its own end takes nothing away.
//!
//! | module | owns |
//! |---|---|
//! | [`limits`], [`spots`] | how much at most; where |
//! | [`group`], `kernel` | the kernel's notifications |
//! | [`who`] | who a named process is, and who is above it |
//! | [`waiting`], [`owed`] | what waits to be looked at, and what is looked at later |
//! | [`standing`], [`lines`] | what stands at a place; which lines came and went |
//! | [`book`] | what is a change, and whose (pure) |
//! | [`store`] | the disk |
//! | [`watching`] | these together |
//! | [`tell`] | what people are told of it |

pub mod book;
pub mod group;
mod kernel;
pub mod limits;
pub mod lines;
pub mod owed;
pub mod spots;
pub mod standing;
pub mod store;
pub mod tell;
pub mod waiting;
pub mod watching;
pub mod who;

use std::convert::Infallible;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::moment::Clocks;
use super::resident::give_back;
use super::survey::SurveyConfig;
use super::urgency::{HELPER, end_with_helper};

/// Between two tries to have somebody look out: the first, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// Who looks out, where, and where what was seen is kept.
#[derive(Debug, Clone)]
pub struct LookoutConfig {
    /// The program that looks out and that tells: it is given `role lookout` or `role changes`, the folder and the root.
    pub program: PathBuf,
    /// Where what is seen is kept. Only root may reach it.
    pub folder: PathBuf,
    /// Where the machine's file system begins; `/`, but for a try.
    pub root: PathBuf,
}

impl LookoutConfig {
    /// Of this machine, by this very program.
    #[must_use]
    pub fn of_this_machine(folder: PathBuf) -> Self {
        Self { program: "/proc/self/exe".into(), folder, root: "/".into() }
    }

    /// How it is asked what was seen.
    #[must_use]
    pub fn telling(&self) -> SurveyConfig {
        SurveyConfig {
            program: self.program.clone(),
            arguments: vec!["role".into(), "changes".into()],
            folder: self.folder.clone(),
            root: self.root.clone(),
            // Nothing is done by itself but to see that it can be.
            every: Duration::from_secs(24 * 3600),
        }
    }
}

/// Whether this process could look out here.
///
/// # Errors
/// In words for people: without root, before Linux 5.9, in a container that may not.
pub fn can_look_out() -> io::Result<()> {
    group::Group::open().map(drop)
}

/// At how many places of the machine whose file system begins at `root` it is looked out, and in how many homes besides.
#[must_use]
pub fn places_of(root: &Path) -> (usize, usize) {
    let mounts = crate::contain::action::mounts::mounts().unwrap_or_default();
    spots::Spots::of_machine(root, mounts).size()
}

/// Has somebody look out from now on, and again whenever they end.
///
/// # Errors
/// When the system gives no thread.
pub fn start(config: LookoutConfig) -> io::Result<()> {
    std::thread::Builder::new().name("lookout".into()).spawn(move || go_on(&config)).map(drop)
}

fn go_on(config: &LookoutConfig) {
    if let Err(error) = can_look_out() {
        // No later try is another.
        return tracing::warn!(%error, "nobody looks out for changes on this machine");
    }
    let mut pause = PAUSE.0;
    loop {
        let began = Instant::now();
        let role: [OsString; 2] = ["role".into(), "lookout".into()];
        let child = Command::new(&config.program)
            .args(role)
            .arg(&config.folder)
            .arg(&config.root)
            .env_clear()
            // Whose end is its end: a helper that ended before the kernel was told that is nobody's helper.
            .env(HELPER, std::process::id().to_string())
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn();
        match child.and_then(|mut child| child.wait()) {
            Ok(status) => tracing::warn!(%status, "nobody looks out on this machine; tried again"),
            Err(error) => {
                tracing::warn!(%error, "nobody can look out on this machine; tried again")
            }
        }
        pause = if began.elapsed() > PAUSE.1 { PAUSE.0 } else { (pause * 2).min(PAUSE.1) };
        std::thread::sleep(pause);
    }
}

/// Looks out until the process is ended. To be called by a process that does nothing else: it ends with the helper that
/// started it.
///
/// # Errors
/// When it can't begin, or can't go on.
pub fn run(folder: &Path, root: &Path) -> io::Result<Infallible> {
    let helper = end_with_helper()?;
    let _ = nix::sys::prctl::set_dumpable(false);
    let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0);
    let boot = Clocks::of_this_boot()?.now().boot;
    let mut lookout = watching::Lookout::open(folder, root, boot, helper)?;
    let (folders, things) = lookout.size();
    tracing::info!(folders, things, "looks out for changes");
    // It is idle nearly always: what it holds then is what it costs.
    let (mut is_as_small, mut since) = (false, Instant::now());
    loop {
        if !is_as_small && since.elapsed() >= limits::SETTLED_AFTER {
            give_back();
            is_as_small = true;
        }
        let most = if is_as_small { limits::SIGN_OF_LIFE } else { limits::SETTLED_AFTER };
        if lookout.turn(most)? {
            (is_as_small, since) = (false, Instant::now());
        }
    }
}
