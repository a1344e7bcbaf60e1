//! A machine is cut off, then hub, signer and network are gone: somebody at it, who is nobody, opens it by a
//! code off a printed sheet; and when everything is back, people learn of it.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use cordon_tests::{cordon, lacks_root};
use serde_json::Value;

/// Somebody who owns nothing here.
const NOBODY: u32 = 65_534;

/// Two network namespaces joined by a cable, with a hub in one and a machine in the other.
struct Hospital {
    prefix: String,
    hub: Option<Child>,
    machine: Option<Child>,
    hubs: tempfile::TempDir,
    machines: tempfile::TempDir,
}

fn run(program: &str, words: &[&str]) {
    let status = Command::new(program).args(words).status().unwrap();
    assert!(status.success(), "{program} {words:?}");
}

fn open_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

impl Hospital {
    fn build() -> Self {
        let prefix = format!("bg{}", std::process::id());
        let hospital = Self {
            prefix: prefix.clone(),
            hub: None,
            machine: None,
            hubs: open_folder(),
            machines: open_folder(),
        };
        for (end, address) in [("h", "10.78.0.1/24"), ("m", "10.78.0.2/24")] {
            let space = format!("{prefix}{end}");
            run("ip", &["netns", "add", &space]);
            run("ip", &["-n", &space, "link", "set", "lo", "up"]);
            if end == "m" {
                let (ours, theirs) = (format!("{prefix}vh"), format!("{prefix}vm"));
                let there = format!("{prefix}h");
                run(
                    "ip",
                    &[
                        "link", "add", &ours, "netns", &there, "type", "veth", "peer", "name",
                        &theirs, "netns", &space,
                    ],
                );
                run("ip", &["-n", &there, "addr", "add", "10.78.0.1/24", "dev", &ours]);
                run("ip", &["-n", &there, "link", "set", &ours, "up"]);
                run("ip", &["-n", &space, "addr", "add", address, "dev", &theirs]);
                run("ip", &["-n", &space, "link", "set", &theirs, "up"]);
            }
        }
        hospital
    }

    fn up(&self, end: &str, state: &Path, words: &[&str]) -> Child {
        Command::new("ip")
            .args(["netns", "exec", &format!("{}{end}", self.prefix)])
            .arg(cordon())
            .args(["up", "--own-network-only", "--organisation", "RJ1", "--state"])
            .arg(state)
            .args(words)
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn start_hub(&mut self) {
        let words = ["--no-agent", "--link", "10.78.0.1:8441", "--enrol", "10.78.0.1:8442"];
        self.hub = Some(self.up("h", self.hubs.path(), &words));
        eventually("the hub answers", || self.at_hub(&["machines"]).ok());
    }

    fn start_machine(&mut self, token: &Path) {
        let token = token.to_string_lossy();
        let words = ["--only-agent", "--host", "ct-2", "--enrol-with", &*token];
        self.machine = Some(self.up("m", self.machines.path(), &words));
    }

    fn at_hub(&self, words: &[&str]) -> Result<String, String> {
        let output = Command::new("ip")
            .args(["netns", "exec", &format!("{}h", self.prefix)])
            .arg(cordon())
            .args(words)
            .arg("--state")
            .arg(self.hubs.path())
            .output()
            .unwrap();
        if output.status.success() {
            Ok(String::from_utf8(output.stdout).unwrap())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    fn json(&self, words: &[&str]) -> Option<Value> {
        let text = self.at_hub(&[words, &["--json"]].concat()).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// At the machine's keyboard, as a user who owns nothing; what is typed comes from there too.
    fn at_the_machine(&self, typed: &str) -> (bool, String) {
        let mut command = Command::new(cordon());
        command.args(["break-glass", "--state"]).arg(self.machines.path());
        command.uid(NOBODY).gid(NOBODY).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // One that asks for no code closes before it has read any.
        let _ = child.stdin.take().unwrap().write_all(typed.as_bytes());
        let output = child.wait_with_output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    }

    /// What anybody at the machine is told.
    fn notice(&self) -> String {
        let mut command = Command::new(cordon());
        command.args(["notice", "--state"]).arg(self.machines.path()).uid(NOBODY).gid(NOBODY);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn cable(&self, state: &str) {
        let (space, link) = (format!("{}m", self.prefix), format!("{}vm", self.prefix));
        run("ip", &["-n", &space, "link", "set", &link, state]);
    }

    fn rules(&self) -> String {
        let output = Command::new("ip")
            .args(["netns", "exec", &format!("{}m", self.prefix), "nft", "list", "ruleset"])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    fn is_isolated(&self, as_what: &str) -> Option<()> {
        let machine = self.json(&["machines"])?.as_array()?.first()?.clone();
        (machine["isolation"] == as_what && machine["truth"] == "verified").then_some(())
    }
}

fn end(child: &mut Option<Child>, signal: nix::sys::signal::Signal) {
    if let Some(mut child) = child.take() {
        if let Ok(pid) = i32::try_from(child.id()) {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
        }
        let _ = child.wait();
    }
}

impl Drop for Hospital {
    fn drop(&mut self) {
        for child in [&mut self.machine, &mut self.hub] {
            end(child, nix::sys::signal::Signal::SIGTERM);
        }
        for end in ["h", "m"] {
            let _ = Command::new("ip")
                .args(["netns", "del", &format!("{}{end}", self.prefix)])
                .status();
        }
    }
}

/// Waits for something that takes its time; the time itself judges nothing but that it comes at all.
fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(100));
    }
}

/// The codes that a sheet shows, by their numbers.
fn codes_on(sheet: &str) -> Vec<String> {
    let lines = sheet.lines().filter_map(|line| line.strip_prefix("[ ] number "));
    lines.map(|line| line.split_whitespace().nth(1).unwrap().to_owned()).collect()
}

#[test]
fn with_hub_signer_and_network_gone_a_code_opens_the_machine_and_people_learn_of_it_later() {
    if lacks_root("`cordon break-glass`") {
        return;
    }
    let mut hospital = Hospital::build();
    hospital.start_hub();
    let token = hospital.at_hub(&["enrol-token", "--called", "ct-2", "--tier", "0"]).unwrap();
    let file = hospital.machines.path().join("token");
    fs::write(&file, token.trim()).unwrap();
    hospital.start_machine(&file);

    // By day: the machine gets the hashes, the sheet is printed into a file that only root reads.
    eventually("the machine has its codes", || {
        hospital.at_hub(&["break-glass", "list"]).ok().filter(|list| list.contains(" yes"))
    });
    let paper = hospital.hubs.path().join("sheet.txt");
    let output = paper.to_string_lossy().into_owned();
    let print = ["break-glass", "print", "--all", "--reason", "yearly", "--output", &output];
    hospital.at_hub(&print).unwrap();
    assert_eq!(fs::metadata(&paper).unwrap().permissions().mode() & 0o777, 0o600);
    let sheet = fs::read_to_string(&paper).unwrap();
    let codes = codes_on(&sheet);
    assert_eq!(codes.len(), 6, "{sheet}");
    assert!(sheet.contains("ct-2") && !sheet.contains("NOTE"), "{sheet}");

    let said = ["assign", "ct-2", "--called", "ct-2", "--tier", "0", "--kind", "CT console"];
    let told = ["--instead", "CT of A&E", "--ring", "Security operations=5555"];
    hospital.at_hub(&[&said[..], &told[..]].concat()).unwrap();
    assert!(hospital.notice().contains("nothing to tell"));

    // An isolation, and then nothing is left: no hub, no signer, no cable.
    hospital.at_hub(&["isolate", "ct-2", "--mode", "full", "--reason", "test"]).unwrap();
    eventually("the isolation is verified", || hospital.is_isolated("full"));
    let (_, said) = hospital.at_the_machine("");
    assert!(said.contains("ct-2") && said.contains("cut off"), "{said}");
    // The person in front of it is told, with what was signed ahead.
    let notice = eventually("the notice has what was said", || {
        Some(hospital.notice()).filter(|notice| notice.contains("Security operations 5555"))
    });
    assert!(notice.contains("WAS CUT OFF") && notice.contains("Go to: CT of A&E"), "{notice}");
    end(&mut hospital.hub, nix::sys::signal::Signal::SIGKILL);
    hospital.cable("down");
    assert!(hospital.rules().contains("table inet cordon"));

    // A slip, a code of another machine's sheet, then the right one, as people type.
    let wrong = codes[0].replace(char::is_alphanumeric, "7");
    let (is_done, said) = hospital.at_the_machine(&format!("{wrong}\n"));
    assert!(!is_done && said.contains("not counted as a try"), "{said}");
    let typed = codes[1].to_lowercase().replace('-', " ");
    let (is_done, said) = hospital.at_the_machine(&format!("{typed}\n"));
    assert!(is_done && said.contains("OPEN AGAIN") && said.contains("number 2"), "{said}");
    assert!(!hospital.rules().contains("table inet cordon"));
    let (is_done, said) = hospital.at_the_machine(&format!("{typed}\n"));
    assert!(is_done && said.contains("No code is needed"), "{said}");
    let notice = hospital.notice();
    assert!(
        notice.contains("open again since") && notice.contains("nobody has looked"),
        "{notice}"
    );

    // Everything is back: it is in front of people, in the ledger, and the code is known to be used.
    hospital.cable("up");
    hospital.start_hub();
    let incident =
        eventually("an incident", || hospital.json(&["incidents"])?.as_array()?.first().cloned());
    assert!(incident["title"].as_str().unwrap().contains("break-glass"), "{incident:#}");
    eventually("the hub shows it open, and watched", || hospital.is_isolated("watch"));
    eventually("the ledger is cosigned", || hospital.at_hub(&["verify"]).ok());
    // At night by phone: the next code, to somebody with a name, for a reason. And they isolate it again.
    let read = ["break-glass", "read", "ct-2", "--for", "Dr Day", "--reason", "trauma room"];
    let told = hospital.at_hub(&read).unwrap();
    assert!(told.contains(&codes[0]) && told.contains("number 1"), "{told}");
    hospital.at_hub(&["isolate", "ct-2", "--mode", "full", "--reason", "again"]).unwrap();
    eventually("the isolation is verified", || hospital.is_isolated("full"));
    let (is_done, said) = hospital.at_the_machine(&format!("{typed}\n"));
    assert!(!is_done && said.contains("used before"), "{said}");
    assert!(hospital.rules().contains("table inet cordon"));

    // No code lies anywhere in clear: not in the state, not in a log, not on a command line.
    for folder in [hospital.hubs.path(), hospital.machines.path()] {
        let found = Command::new("grep")
            .args([
                "-rlaF",
                "--exclude=sheet.txt",
                "-e",
                &codes[1],
                "-e",
                &codes[1].replace('-', ""),
            ])
            .arg(folder)
            .output()
            .unwrap();
        assert!(found.stdout.is_empty(), "{}", String::from_utf8_lossy(&found.stdout));
    }
}
