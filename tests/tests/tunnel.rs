//! A machine that reaches its hub through a tunnel only, as its user sees it: told before it is isolated in
//! full, and kept by the lifelines to the tunnel's gateway.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use cordon_tests::{cordon, eventually, lacks_root};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const HUB: &str = "10.99.0.4";
const GATEWAY: &str = "10.88.0.2";
/// What `cordon machines` calls it.
const GAP: &str = "link to the hub under full isolation";

/// A hub and a machine in namespaces of their own: a cable between them, and the tunnel through it.
struct Site {
    children: Vec<Child>,
    hub: String,
    machine: String,
    state: tempfile::TempDir,
}

impl Drop for Site {
    fn drop(&mut self) {
        for child in self.children.iter_mut().rev() {
            let pid = child.id().try_into().map(Pid::from_raw);
            let _ = pid.map(|pid| kill(pid, Signal::SIGTERM));
            let _ = child.wait();
        }
        if std::thread::panicking() {
            for log in ["hub.log", "machine.log"] {
                let text = fs::read_to_string(self.state.path().join(log)).unwrap_or_default();
                eprintln!("{log}:\n{text}");
            }
        }
        for namespace in [&self.hub, &self.machine] {
            let _ = Command::new("ip").args(["netns", "del", namespace]).status();
        }
    }
}

fn ip(line: &str) -> bool {
    Command::new("ip").args(line.split(' ')).status().unwrap().success()
}

impl Site {
    /// `None` where the kernel makes no such tunnel.
    fn build() -> Option<Self> {
        let id = std::process::id();
        let site = Self {
            children: Vec::new(),
            hub: format!("ctun{id}h"),
            machine: format!("ctun{id}m"),
            state: tempfile::tempdir().unwrap(),
        };
        // Roles of other users must be able to enter.
        fs::set_permissions(site.state.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let (hub, machine) = (&site.hub, &site.machine);
        for namespace in [hub, machine] {
            assert!(ip(&format!("netns add {namespace}")));
            assert!(ip(&format!("-n {namespace} link set lo up")));
        }
        assert!(ip(&format!("link add eth0 netns {machine} type veth peer name eth0 netns {hub}")));
        for (namespace, here, there, inside) in
            [(machine, "10.88.0.1", GATEWAY, "10.99.0.1"), (hub, GATEWAY, "10.88.0.1", HUB)]
        {
            assert!(ip(&format!("-n {namespace} addr add {here}/24 dev eth0")));
            assert!(ip(&format!("-n {namespace} link set eth0 up")));
            let tunnel = format!(
                "-n {namespace} link add vx7 type vxlan id 7 dstport 4789 local {here} remote {there}"
            );
            if !ip(&tunnel) {
                cordon_tests::cannot_be_had("the kernel makes no VXLAN device");
                return None;
            }
            assert!(ip(&format!("-n {namespace} addr add {inside}/24 dev vx7")));
            assert!(ip(&format!("-n {namespace} link set vx7 up")));
        }
        Some(site)
    }

    /// Starts `cordon up` in a namespace.
    fn up(&mut self, name: &str, words: &[&str]) {
        let namespace = if name == "hub" { &self.hub } else { &self.machine };
        let log = File::create(self.state.path().join(format!("{name}.log"))).unwrap();
        let child = Command::new("nsenter")
            .arg(format!("--net=/run/netns/{namespace}"))
            .arg("--")
            .arg(cordon())
            .arg("up")
            .args(words)
            .arg("--state")
            .arg(self.state.path().join(name))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.children.push(child.unwrap());
    }

    fn ask(&self, words: &[&str]) -> Result<String, String> {
        let hub = self.state.path().join("hub");
        let output = Command::new(cordon()).args(words).arg("--state").arg(hub).output().unwrap();
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match output.status.success() {
            true => Ok(said(&output.stdout)),
            false => Err(said(&[output.stdout, output.stderr].concat())),
        }
    }

    /// What the hub says of the machine.
    fn row(&self) -> Option<Value> {
        let machines: Value =
            serde_json::from_str(&self.ask(&["machines", "--json"]).ok()?).ok()?;
        machines.as_array()?.first().filter(|machine| machine["is_linked"] == true).cloned()
    }

    /// What it says is missing of the way to the hub.
    fn gap(&self) -> Option<Option<String>> {
        let row = self.row()?;
        let mut gaps = row["gaps"].as_array()?.iter();
        let gap = gaps.find(|gap| gap["what"] == GAP);
        Some(gap.map(|gap| gap["gap"].as_str().unwrap_or_default().to_owned()))
    }
}

fn write_token(at: &Path, token: &str) {
    fs::write(at, token.trim()).unwrap();
    fs::set_permissions(at, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_machine_behind_a_tunnel_says_so_and_is_isolated_and_released_once_its_gateway_is_a_lifeline() {
    if lacks_root("`cordon up` behind a tunnel") {
        return;
    }
    let Some(mut site) = Site::build() else { return };
    let (link, enrol) = (format!("{HUB}:7801"), format!("{HUB}:7802"));
    let hub = ["--no-agent", "--organisation", "RJ1", "--name", "Test hospital"];
    let at = ["--link", &link, "--enrol", &enrol, "--console", "127.0.0.1:0"];
    site.up("hub", &[&hub[..], &at[..]].concat());
    eventually("the hub", || site.ask(&["machines", "--json"]).ok());
    let token = site.state.path().join("token");
    write_token(&token, &site.ask(&["enrol-token", "--tier", "0"]).unwrap());
    let agent = ["--only-agent", "--own-network-only", "--host", "pc", "--enrol-with"];
    site.up("machine", &[&agent[..], &[token.to_str().unwrap()]].concat());

    let gap = eventually("the gap is told", || site.gap()?);
    assert!(gap.contains("through tunnel vx7 (vxlan)") && gap.contains(GATEWAY), "{gap}");
    let listed = site.ask(&["machines"]).unwrap();
    assert!(listed.contains("NOT KEPT") && listed.contains("tunnel vx7"), "{listed}");
    let isolate = ["isolate", "pc", "--reason", "a test", "--mode"];
    let preview = |mode: &str| site.ask(&[&isolate[..], &[mode, "--preview"]].concat()).unwrap();
    let (full, segment) = (preview("full"), preview("segment"));
    assert!(full.contains("tunnel vx7") && full.contains("only a break-glass code"), "{full}");
    assert!(full.contains("stops  the link to the hub"), "{full}");
    assert!(!segment.contains("tunnel vx7"), "{segment}");

    let lifelines =
        ["outbound", "inbound"].map(|way| format!("tunnel vx7={way} udp {GATEWAY} 4789"));
    let [out, back] = &lifelines;
    site.ask(&["assign", "pc", "--tier", "0", "--lifeline", out, "--lifeline", back]).unwrap();
    eventually("the gap is closed", || site.gap()?.is_none().then_some(()));
    assert!(!preview("full").contains("break-glass"));
    // The hub hears the proof, and is heard when it takes the isolation back.
    let isolated = site.ask(&[&isolate[..], &["full"]].concat()).unwrap();
    assert!(isolated.contains("VERIFIED"), "{isolated}");
    let release = ["release", "pc", "--reason", "a test", "--despite", "a test"];
    let released = site.ask(&release).unwrap();
    assert!(released.contains("RELEASED: shown"), "{released}");
}
