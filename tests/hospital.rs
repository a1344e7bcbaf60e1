//! A hub and a machine as a hospital has them: each in a network namespace of its own, joined by a cable, each
//! switched on and off by itself.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::up::role_on;
use crate::{cordon, eventually};

/// Two network namespaces joined by a cable, with a hub in one and a machine called `ct-2` in the other.
#[derive(Debug)]
pub struct Hospital {
    prefix: String,
    hub: Option<Child>,
    machine: Option<Child>,
    /// What the hub keeps.
    pub hubs: tempfile::TempDir,
    /// What the machine keeps.
    pub machines: tempfile::TempDir,
}

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Where hub and signer are.
    Hub,
    /// Where agent and helper are.
    Machine,
}

impl End {
    fn letter(self) -> &'static str {
        match self {
            Self::Hub => "h",
            Self::Machine => "m",
        }
    }
}

/// The hub's address.
pub const HUBS_ADDRESS: &str = "10.78.0.1";
const MACHINES_ADDRESS: &str = "10.78.0.2";

/// A user who owns nothing.
const NOBODY: u32 = 65_534;

fn run(program: &str, words: &[&str]) {
    let status = Command::new(program).args(words).status();
    assert!(status.is_ok_and(|status| status.success()), "{program} {words:?}");
}

#[expect(clippy::unwrap_used, reason = "a harness stops where it can't go on")]
fn open_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

#[expect(clippy::unwrap_used, reason = "a harness stops where it can't go on")]
impl Hospital {
    /// Builds it, with nothing switched on. Names of namespaces begin with `called`, of two letters.
    ///
    /// # Panics
    /// If it can't be built.
    #[must_use]
    pub fn build(called: &str) -> Self {
        let prefix = format!("{called}{}", std::process::id());
        let hospital =
            Self { prefix, hub: None, machine: None, hubs: open_folder(), machines: open_folder() };
        let [hub, machine] = [End::Hub, End::Machine].map(|end| hospital.space(end));
        let [hubs, machines] = [End::Hub, End::Machine].map(|end| hospital.link(end));
        for space in [&hub, &machine] {
            run("ip", &["netns", "add", space]);
            run("ip", &["-n", space, "link", "set", "lo", "up"]);
        }
        run(
            "ip",
            &[
                "link", "add", &hubs, "netns", &hub, "type", "veth", "peer", "name", &machines,
                "netns", &machine,
            ],
        );
        for (space, link, address) in
            [(&hub, &hubs, HUBS_ADDRESS), (&machine, &machines, MACHINES_ADDRESS)]
        {
            run("ip", &["-n", space, "addr", "add", &format!("{address}/24"), "dev", link]);
            run("ip", &["-n", space, "link", "set", link, "up"]);
        }
        hospital
    }

    fn space(&self, end: End) -> String {
        format!("{}{}", self.prefix, end.letter())
    }

    /// The network device at one end of the cable.
    #[must_use]
    pub fn link(&self, end: End) -> String {
        format!("{}v{}", self.prefix, end.letter())
    }

    /// `program`, to be run at one end.
    #[must_use]
    pub fn inside(&self, end: End, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.space(end)]).arg(program.as_ref());
        command
    }

    /// Runs `what` on a thread that is in one end's network.
    pub fn on_a_thread<T: Send + 'static>(
        &self,
        end: End,
        what: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let space = PathBuf::from("/run/netns").join(self.space(end));
        thread::spawn(move || {
            setns(fs::File::open(space).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            what()
        })
    }

    fn up(&self, end: End, state: &Path, words: &[&str]) -> Child {
        self.inside(end, cordon())
            .args(["up", "--own-network-only", "--organisation", "RJ1", "--state"])
            .arg(state)
            .args(words)
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Starts the hub, and comes back when it answers.
    ///
    /// # Panics
    /// If it does not.
    pub fn start_hub(&mut self) {
        self.start_hub_with(&["--no-agent"]);
    }

    /// The same, and the hub's own machine is watched as one called `called`.
    ///
    /// # Panics
    /// If the hub does not answer.
    pub fn start_hub_on_a_machine(&mut self, called: &str) {
        self.start_hub_with(&["--host", called]);
    }

    fn start_hub_with(&mut self, words: &[&str]) {
        let [link, enrol] = ["8441", "8442"].map(|port| format!("{HUBS_ADDRESS}:{port}"));
        let words = [words, &["--link", &link, "--enrol", &enrol]].concat();
        self.hub = Some(self.up(End::Hub, self.hubs.path(), &words));
        eventually("the hub answers", || self.at_hub(&["machines"]).ok());
    }

    /// The hub's directory of state.
    #[must_use]
    pub fn hubs_state(&self) -> &Path {
        self.hubs.path()
    }

    /// Whether the ledger of `role`, hub or signer, has `words` somewhere.
    ///
    /// # Panics
    /// If it can't be read.
    #[must_use]
    pub fn ledger_says(&self, role: &str, words: &str) -> bool {
        let files = fs::read_dir(self.hubs.path().join(role).join("ledger")).unwrap();
        let mut texts = files.map(|file| fs::read(file.unwrap().path()).unwrap());
        texts.any(|text| text.windows(words.len()).any(|window| window == words.as_bytes()))
    }

    /// Has the machine enrol with `token`, not with one that root makes.
    ///
    /// # Panics
    /// If it can't be written.
    pub fn give_token(&self, token: &str) {
        fs::write(self.machines.path().join("token"), token.trim()).unwrap();
    }

    /// Starts the machine; the first time it enrols, as one of tier 0.
    ///
    /// # Panics
    /// If the hub gives no token.
    pub fn start_machine(&mut self) {
        let file = self.machines.path().join("token");
        if !file.exists() {
            let token = self.at_hub(&["enrol-token", "--called", "ct-2", "--tier", "0"]).unwrap();
            fs::write(&file, token.trim()).unwrap();
        }
        let token = file.to_string_lossy();
        let words = ["--only-agent", "--host", "ct-2", "--enrol-with", &*token];
        self.machine = Some(self.up(End::Machine, self.machines.path(), &words));
    }

    /// Ends all roles of one end.
    pub fn end(&mut self, which: End, signal: Signal) {
        let child = match which {
            End::Hub => &mut self.hub,
            End::Machine => &mut self.machine,
        };
        if let Some(mut child) = child.take() {
            if let Ok(pid) = i32::try_from(child.id()) {
                let _ = kill(Pid::from_raw(pid), signal);
            }
            let _ = child.wait();
        }
    }

    /// Kills the hub's process, and nobody starts it again; its signer lives.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill_hub_alone(&self) {
        let supervisor = self.hub.as_ref().map(|hub| i32::try_from(hub.id()).unwrap());
        kill(Pid::from_raw(supervisor.unwrap()), Signal::SIGSTOP).unwrap();
        let hub = || role_on(self.hubs.path(), "hub");
        kill(hub().unwrap(), Signal::SIGKILL).unwrap();
        eventually("the hub is gone", || hub().is_none().then_some(()));
    }

    /// What a command at the hub prints.
    ///
    /// # Errors
    /// What it complained of, if it failed.
    pub fn at_hub(&self, words: &[&str]) -> Result<String, String> {
        let mut command = self.inside(End::Hub, cordon());
        let output = command.args(words).arg("--state").arg(self.hubs.path()).output().unwrap();
        if output.status.success() {
            Ok(String::from_utf8(output.stdout).unwrap())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// The same with `--json`, read.
    #[must_use]
    pub fn json(&self, words: &[&str]) -> Option<Value> {
        let text = self.at_hub(&[words, &["--json"]].concat()).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// The machine as the hub knows it.
    #[must_use]
    pub fn machine(&self) -> Option<Value> {
        self.json(&["machines"])?.as_array()?.first().cloned()
    }

    /// Whether the hub shows the machine as isolated so, verified.
    #[must_use]
    pub fn is_isolated(&self, as_what: &str) -> Option<()> {
        let machine = self.machine()?;
        (machine["isolation"] == as_what && machine["truth"] == "verified").then_some(())
    }

    /// What anybody in front of the machine is told, who owns nothing there.
    ///
    /// # Panics
    /// If it can't be read.
    #[must_use]
    pub fn notice(&self) -> String {
        let mut command = Command::new(cordon());
        command.args(["notice", "--state"]).arg(self.machines.path()).uid(NOBODY).gid(NOBODY);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Plugs the machine's cable in (`up`) or pulls it (`down`).
    pub fn cable(&self, state: &str) {
        let (space, link) = (self.space(End::Machine), self.link(End::Machine));
        run("ip", &["-n", &space, "link", "set", &link, state]);
    }

    /// The machine's packet rules.
    ///
    /// # Panics
    /// If `nft` does not run.
    #[must_use]
    pub fn rules(&self) -> String {
        let output = self.inside(End::Machine, "nft").args(["list", "ruleset"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Hospital {
    fn drop(&mut self) {
        for end in [End::Machine, End::Hub] {
            self.end(end, Signal::SIGTERM);
        }
        for end in [End::Hub, End::Machine] {
            let _ = Command::new("ip").args(["netns", "del", &self.space(end)]).status();
        }
    }
}
