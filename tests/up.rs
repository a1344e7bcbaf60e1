//! A running `cordon up` for a test to look at, as its user runs it: on this machine, in a network of its
//! own, or in a container.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::cordon;

/// The log in a state directory.
const LOG: &str = "test.log";

/// Where `cordon up` is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Where {
    /// On this machine itself, beside everything else. Nothing may be isolated there.
    ThisMachine,
    /// In a network namespace of its own, so that it can be isolated.
    OwnNetwork,
    /// In a network of its own, where names are what the test says: `hosts` and `resolv.conf` in the state
    /// directory lie over those of `/etc`.
    OwnNames,
    /// In a network, a PID and a mount namespace of its own, as a container has them.
    Container,
}

/// A running `cordon up`; ended when dropped.
#[derive(Debug)]
pub struct Up {
    /// The link that it printed, to sign in once.
    pub link: String,
    /// What it printed before that.
    pub said: String,
    /// Its state directory.
    pub state: tempfile::TempDir,
    child: Child,
    /// The process of `cordon up` itself.
    pid: Pid,
    place: Where,
}

impl Up {
    /// Starts one in a network of its own.
    ///
    /// # Panics
    /// As [`Up::start_in`].
    #[must_use]
    pub fn start() -> Self {
        Self::start_in(Where::OwnNetwork, &[])
    }

    /// Starts one at `place`, with more arguments.
    ///
    /// # Panics
    /// If it does not start: then a test can say nothing.
    #[must_use]
    #[expect(clippy::unwrap_used, reason = "a harness stops where it can't go on")]
    pub fn start_in(place: Where, more: &[&str]) -> Self {
        let state = tempfile::tempdir().unwrap();
        // Roles of other users must be able to enter.
        fs::set_permissions(state.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self::start_on(state, place, more)
    }

    /// Starts one on the state of an earlier one.
    ///
    /// # Panics
    /// As [`Up::start_in`].
    #[must_use]
    #[expect(
        clippy::expect_used,
        clippy::unwrap_used,
        reason = "a harness stops where it can't go on"
    )]
    pub fn start_on(state: tempfile::TempDir, place: Where, more: &[&str]) -> Self {
        let mut command = match place {
            Where::ThisMachine => Command::new(cordon()),
            Where::OwnNetwork => unshared(&["--net"], "true"),
            Where::OwnNames => {
                let mut command = unshared(&["--net", "--mount"], NAMES);
                command.env("CORDON_TEST_NAMES", state.path());
                command
            }
            Where::Container => {
                unshared(&["--net", "--pid", "--fork", "--kill-child", "--mount-proc"], "true")
            }
        };
        command.args(["up", "--organisation", "RJ1", "--name", "Test hospital"]);
        command.arg("--state").arg(state.path()).args(more);
        let log = fs::File::create(state.path().join(LOG)).unwrap();
        // A process group of its own, as a terminal gives each command line.
        command.process_group(0).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let is_link = |line: &str| line.trim().starts_with("http://") && line.contains("sign-in");
        let mut said = String::new();
        let link = loop {
            let line = lines.next().expect("`cordon up` prints a sign-in link").unwrap();
            if is_link(&line) {
                break line;
            }
            said += &(line + "\n");
        };
        // What it says later must not stop it for want of a reader.
        thread::spawn(move || lines.for_each(drop));
        let started = child.id();
        let pid = match place {
            Where::ThisMachine | Where::OwnNetwork | Where::OwnNames => started,
            Where::Container => children(started).first().copied().expect("`unshare` forks once"),
        };
        let pid = Pid::from_raw(pid.try_into().expect("process ids are positive"));
        Self { link: link.trim().to_owned(), said, state, child, pid, place }
    }

    /// The process of `cordon up` itself.
    #[must_use]
    pub const fn pid(&self) -> Pid {
        self.pid
    }

    /// Ctrl-C in the terminal that it was started from: every process of the command line gets it. What is
    /// left: the state, and how it ended.
    ///
    /// # Panics
    /// If it can't be waited for.
    #[must_use]
    #[expect(clippy::unwrap_used, reason = "a harness stops where it can't go on")]
    pub fn interrupt(mut self) -> (tempfile::TempDir, ExitStatus) {
        kill(Pid::from_raw(-self.pid.as_raw()), Signal::SIGINT).unwrap();
        let status = self.child.wait().unwrap();
        (std::mem::replace(&mut self.state, tempfile::tempdir().unwrap()), status)
    }

    /// What it logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        log_in(&self.state)
    }

    /// Runs one command line against it; what it printed, or what it printed and complained of.
    ///
    /// # Errors
    /// If the command failed.
    pub fn cordon(&self, words: &[&str]) -> Result<String, String> {
        let output = Command::new(cordon())
            .args(words)
            .arg("--state")
            .arg(self.state.path())
            .output()
            .map_err(|error| error.to_string())?;
        if output.status.success() {
            String::from_utf8(output.stdout).map_err(|error| error.to_string())
        } else {
            Err(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
        }
    }

    /// A command line on a terminal of its own, made by script(1), where `answer` is typed; what was on its screen.
    ///
    /// # Panics
    /// If there is no script(1).
    #[must_use]
    #[expect(clippy::unwrap_used, reason = "a harness stops where it can't go on")]
    pub fn on_a_terminal(&self, words: &[&str], answer: &str) -> String {
        let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        let (program, state) = (cordon().display(), self.state.path().display());
        let line = format!("'{program}' {} --state '{state}'", quoted.join(" "));
        let mut terminal = Command::new("script")
            .args(["--quiet", "--return", "--echo", "never", "--command", &line, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut typing = terminal.stdin.take().unwrap();
        typing.write_all(answer.as_bytes()).unwrap();
        let output = terminal.wait_with_output().unwrap();
        drop(typing);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What a command prints with `--json`.
    ///
    /// # Panics
    /// If it fails, or prints something else.
    #[must_use]
    #[expect(clippy::unwrap_used, reason = "a harness stops where it can't go on")]
    pub fn json(&self, words: &[&str]) -> Value {
        let text = self.cordon(&[words, &["--json"]].concat()).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// Its own machine, as soon as it is linked.
    #[must_use]
    pub fn linked_machine(&self) -> Value {
        eventually("the machine is linked", || {
            let machines = self.json(&["machines"]);
            machines.as_array()?.iter().find(|machine| machine["is_linked"] == true).cloned()
        })
    }

    /// `program`, to be run where it is.
    #[must_use]
    pub fn inside(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid.to_string()]);
        match self.place {
            Where::ThisMachine => return Command::new(program.as_ref()),
            Where::OwnNetwork => command.arg("--net"),
            Where::OwnNames => command.args(["--net", "--mount"]),
            Where::Container => command.args(["--net", "--pid", "--mount"]),
        };
        command.arg("--").arg(program.as_ref());
        command
    }

    /// All of its kernel's packet rules.
    ///
    /// # Panics
    /// If `nft` does not run.
    #[must_use]
    #[expect(clippy::unwrap_used, reason = "a harness stops where it can't go on")]
    pub fn packet_rules(&self) -> String {
        let output = self.inside("nft").args(["list", "ruleset"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// The process of a role, if it runs.
    #[must_use]
    pub fn role(&self, name: &str) -> Option<Pid> {
        role_on(self.state.path(), name)
    }
}

/// The process of a role on this state, if it runs.
pub(crate) fn role_on(state: &Path, name: &str) -> Option<Pid> {
    let state = state.to_string_lossy().into_owned();
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid = entry.file_name().to_string_lossy().parse().ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let is_it = line.contains(&format!("role {name} ")) && line.contains(&state);
        is_it.then_some(Pid::from_raw(pid))
    })
}

impl Drop for Up {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill(self.pid, Signal::SIGTERM);
            let _ = self.child.wait();
        }
        if thread::panicking() {
            eprintln!("the log of `cordon up`:\n{}", self.log());
        }
    }
}

/// What a `cordon up` with this state logged, the last one that was started.
#[must_use]
pub fn log_in(state: &tempfile::TempDir) -> String {
    fs::read_to_string(state.path().join(LOG)).unwrap_or_default()
}

/// Lays a test's names over the system's.
const NAMES: &str = "for name in hosts resolv.conf nsswitch.conf; do \
                     mount --bind \"$CORDON_TEST_NAMES/$name\" \"$(readlink -f /etc/$name)\" || exit 1; done";

/// `cordon` in namespaces of its own, with its loopback up, after `first` is done there.
fn unshared(namespaces: &[&str], first: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(namespaces);
    let script = format!("{first}; ip link set lo up && exec \"$0\" \"$@\"");
    command.args(["--", "sh", "-c", &script]).arg(cordon());
    command
}

fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Waits for something that takes its time; the time itself judges nothing but that it comes at all.
///
/// # Panics
/// If it does not come within two minutes.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(100));
    }
}

/// A program where malware puts its own: a rule of ours names such places. What runs is
/// harmless. Removed when dropped.
#[derive(Debug)]
pub struct Attack {
    directory: PathBuf,
}

impl Attack {
    /// One that ends at once, and can be told from others by `name`.
    ///
    /// # Panics
    /// If it can't be put there.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self::with("/bin/true", name)
    }

    /// One that does what `harmless` does.
    ///
    /// # Panics
    /// If it can't be put there.
    #[must_use]
    #[expect(clippy::unwrap_used, reason = "a harness stops where it can't go on")]
    pub fn with(harmless: &str, name: &str) -> Self {
        let directory = PathBuf::from(format!("/dev/shm/.T{}-{name}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let attack = Self { directory };
        crate::copy_program(harmless, attack.program());
        attack
    }

    /// The program.
    #[must_use]
    pub fn program(&self) -> PathBuf {
        self.directory.join("kworkerd")
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}
