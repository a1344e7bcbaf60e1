//! Keeps a set of roles running, each a process of its own.
//!
//! A role that ends is started again, later each time (up to [`LONGEST_PAUSE`]); a role that was well
//! for a while starts afresh. Ending is a path of its own: every child is asked to stop, in the reverse
//! order of its start, and given [`GRACE`] before it is killed. What containment did stays in the
//! kernel through all of this. A Ctrl-C reaches this process alone, for each role has a process group of
//! its own: else all would end at once, in no order, and be started again meanwhile.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// The longest pause before a role that keeps failing is started again.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The first pause.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// A role that ran this long was well: its next pause is the first again.
const WELL_AFTER: Duration = Duration::from_secs(60);
/// How long a role may take to stop.
const GRACE: Duration = Duration::from_secs(10);

/// A role to keep running.
#[derive(Debug, Clone)]
pub struct Role {
    /// What people call it.
    pub name: &'static str,
    /// Arguments to this same program.
    pub arguments: Vec<String>,
    /// The user that it is started as; `None`: the caller's.
    pub user: Option<crate::accounts::Account>,
    /// Whether a hangup is passed on to it. It is started with SIGHUP held back, and listens for it when it can:
    /// one that comes before would end it.
    pub hears_hangups: bool,
}

impl Role {
    fn start(&self) -> Result<Child> {
        // Not by its path: the role's user may not be able to reach the directory that it was built in.
        let mut command = Command::new("/proc/self/exe");
        command.arg0("cordon").args(&self.arguments).stdin(Stdio::null()).kill_on_drop(true);
        command.process_group(0);
        if let Some(user) = &self.user {
            // The standard library drops the caller's other groups when it changes the user.
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        let starting = || format!("starting the {}", self.name);
        // A process begins with what is held back in the thread that starts it.
        let held = SigSet::from_iter(self.hears_hangups.then_some(Signal::SIGHUP));
        held.thread_block().with_context(starting)?;
        let started = command.spawn();
        held.thread_unblock().with_context(starting)?;
        started.with_context(starting)
    }
}

/// A role that is kept running until [`Kept::stop`].
#[derive(Debug)]
pub struct Kept {
    name: &'static str,
    stop: watch::Sender<bool>,
    hangup: Arc<Notify>,
    task: tokio::task::JoinHandle<()>,
}

/// Starts `role` and keeps it running.
///
/// # Errors
/// If it can't be started the first time; later failures are told and tried again.
pub fn keep(role: Role) -> Result<Kept> {
    let child = role.start()?;
    let (stop, stopped) = watch::channel(false);
    let name = role.name;
    let hangup = Arc::new(Notify::new());
    let task = tokio::spawn(run(role, child, stopped, Arc::clone(&hangup)));
    Ok(Kept { name, stop, hangup, task })
}

impl Kept {
    /// What people call it.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Passes a hangup on: to the process that runs, or to the next if none does.
    pub fn hang_up(&self) {
        self.hangup.notify_one();
    }

    /// Asks the role to stop, and waits until it has.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        if self.task.await.is_err() {
            tracing::error!(role = self.name, "its keeper failed");
        }
    }
}

async fn run(
    role: Role,
    mut child: Child,
    mut stopped: watch::Receiver<bool>,
    hangup: Arc<Notify>,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        let began = Instant::now();
        loop {
            tokio::select! {
                _ = stopped.changed() => return end(&role, child).await,
                () = hangup.notified(), if role.hears_hangups => send(&child, Signal::SIGHUP),
                status = child.wait() => {
                    match status {
                        Ok(status) => tracing::warn!(role = role.name, %status, "ended; starting it again"),
                        Err(error) => tracing::warn!(role = role.name, %error, "lost; starting it again"),
                    }
                    break;
                }
            }
        }
        if began.elapsed() > WELL_AFTER {
            pause = FIRST_PAUSE;
        }
        child = loop {
            tokio::select! {
                _ = stopped.changed() => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            match role.start() {
                Ok(child) => break child,
                Err(error) => tracing::error!(role = role.name, "{error:#}"),
            }
        };
    }
}

async fn end(role: &Role, mut child: Child) {
    send(&child, Signal::SIGTERM);
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        tracing::warn!(role = role.name, "did not stop in {} s; killed", GRACE.as_secs());
        let _ = child.kill().await;
    }
}

/// To a child that was not waited for yet, so that its number is surely its own.
fn send(child: &Child, signal: Signal) {
    if let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}
