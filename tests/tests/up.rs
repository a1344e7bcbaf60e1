//! `cordon up`, as its user runs it, in a network namespace of its own so that it can be isolated.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use cordon_tests::{cordon, lacks_root};
use serde_json::Value;

/// A running `cordon up`; ended when dropped.
struct Up {
    child: Child,
    state: tempfile::TempDir,
    link: String,
}

impl Up {
    fn start() -> Self {
        let state = tempfile::tempdir().unwrap();
        // Roles of other users must be able to enter.
        fs::set_permissions(state.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let script = format!(
            "ip link set lo up && exec {} up --own-network-only --state {} --organisation RJ1 --name 'Test hospital'",
            cordon().display(),
            state.path().display()
        );
        let mut child = Command::new("unshare")
            .args(["--net", "--", "sh", "-c", &script])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let link = lines
            .by_ref()
            .map(Result::unwrap)
            .find(|line| line.trim().starts_with("http://") && line.contains("sign-in"))
            .expect("`cordon up` prints a sign-in link");
        // What it says later must not stop it for want of a reader.
        thread::spawn(move || lines.for_each(drop));
        Self { child, state, link: link.trim().to_owned() }
    }

    fn cordon(&self, words: &[&str]) -> Result<String, String> {
        let output = Command::new(cordon())
            .args(words)
            .arg("--state")
            .arg(self.state.path())
            .output()
            .unwrap();
        if output.status.success() {
            Ok(String::from_utf8(output.stdout).unwrap())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    fn json(&self, words: &[&str]) -> Value {
        let text = self.cordon(&[words, &["--json"]].concat()).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    fn nft(&self) -> String {
        let output = Command::new("nsenter")
            .args(["--net", "--target", &self.child.id().to_string(), "nft", "list", "ruleset"])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a program in the namespace that `cordon up` watches.
    fn run_inside(&self, program: &Path) {
        let status = Command::new("nsenter")
            .args(["--net", "--target", &self.child.id().to_string(), "--"])
            .arg(program)
            .status()
            .unwrap();
        assert!(status.success());
    }

    fn role(&self, name: &str) -> Option<i32> {
        let state = self.state.path().to_string_lossy().into_owned();
        fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
            let pid = entry.file_name().to_string_lossy().parse().ok()?;
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            (line.contains(&format!("role {name} ")) && line.contains(&state)).then_some(pid)
        })
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(pid),
                nix::sys::signal::Signal::SIGTERM,
            );
        }
        let _ = self.child.wait();
    }
}

/// Waits for something that takes its time; the time itself judges nothing but that it comes at all.
fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(100));
    }
}

/// A program where malware puts its own: a rule of ours names such places.
fn hidden_program() -> (PathBuf, PathBuf) {
    let directory = PathBuf::from(format!("/dev/shm/.T{}-unix", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let program = directory.join("kworkerd");
    fs::copy("/bin/true", &program).unwrap();
    (directory, program)
}

#[test]
fn an_attack_is_seen_asked_about_isolated_proven_survives_a_crash_and_is_released() {
    if lacks_root("`cordon up`") {
        return;
    }
    let up = Up::start();
    assert!(up.link.starts_with("http://127.0.0.1:"));

    let machine = eventually("the machine is linked", || {
        let machines = up.json(&["machines"]);
        machines.as_array()?.iter().find(|m| m["is_linked"] == true).cloned()
    });
    let name = machine["name"].as_str().unwrap().to_owned();
    assert!(machine["tier"].is_null(), "nobody has said what it is");
    assert!(machine["isolation"].is_null());
    let before = up.nft();

    // An attack: seen, and asked about, as the mode is `ask` and the tier unknown.
    let (directory, program) = hidden_program();
    up.run_inside(&program);
    fs::remove_dir_all(directory).unwrap();
    let incident =
        eventually("an incident", || up.json(&["incidents"]).as_array()?.first().cloned());
    assert!(["high", "critical"].iter().any(|level| incident["level"] == *level), "{incident:#}");
    eventually("a question to people", || {
        (up.json(&["incidents"])[0]["questions"].as_u64()? > 0).then_some(())
    });
    assert_eq!(up.nft(), before, "nothing is done without asking");

    // A person isolates it, and it is proven.
    up.cordon(&["isolate", &name, "--mode", "segment", "--reason", "test"]).unwrap();
    eventually("the isolation is verified", || {
        let machine = up.json(&["machines"])[0].clone();
        (machine["isolation"] == "segment" && machine["truth"] == "verified").then_some(())
    });
    assert!(up.nft().contains("table inet cordon"));

    // Hub and helper are killed: both come back and know.
    for role in ["hub", "helper"] {
        let pid = up.role(role).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)
            .unwrap();
        eventually("the role is started again", || up.role(role).filter(|new| *new != pid));
        assert!(up.nft().contains("table inet cordon"), "what is in force stays in force");
    }
    eventually("the hub knows after a crash", || {
        let text = up.cordon(&["machines", "--json"]).ok()?;
        let machines: Value = serde_json::from_str(&text).ok()?;
        let machine = machines.as_array()?.first()?.clone();
        (machine["isolation"] == "segment" && machine["is_linked"] == true).then_some(())
    });
    assert_eq!(up.json(&["incidents"]).as_array().unwrap().len(), 1);

    // Released exactly.
    up.cordon(&["release", &name, "--reason", "test over"]).unwrap();
    eventually("the machine is released", || {
        up.json(&["machines"])[0]["isolation"].is_null().then_some(())
    });
    assert_eq!(up.nft(), before, "as it was, to the byte");

    // Everything that was done is in the ledger, and it is sound.
    let report = eventually("the ledger is cosigned", || up.cordon(&["verify"]).ok());
    println!("{report}");
}

#[test]
fn what_cordon_did_by_itself_is_undone_by_one_command_and_shown() {
    if lacks_root("`cordon undo`") {
        return;
    }
    let up = Up::start();
    let machine = eventually("the machine is linked", || {
        let machines = up.json(&["machines"]);
        machines.as_array()?.iter().find(|m| m["is_linked"] == true).cloned()
    });
    let name = machine["name"].as_str().unwrap().to_owned();
    up.cordon(&["assign", &name, "--tier", "0"]).unwrap();
    up.cordon(&["policy", "mode", "act"]).unwrap();
    let before = up.nft();
    assert!(up.cordon(&["undo", &name, "--reason", "nothing was done"]).is_err());
    let (directory, program) = hidden_program();
    up.run_inside(&program);
    fs::remove_dir_all(directory).unwrap();
    eventually("it is isolated by itself", || {
        let machine = up.json(&["machines"])[0].clone();
        (machine["isolation"] == "segment" && machine["truth"] == "verified").then_some(())
    });
    let incident = up.json(&["incidents"])[0]["id"].as_str().unwrap().to_owned();
    let said = up.cordon(&["undo", &incident, "--reason", "our own program"]).unwrap();
    println!("{said}");
    assert!(said.contains("taking back: isolate (segment)"), "{said}");
    assert!(said.contains("TAKEN BACK: shown by 1 of 1 machines"), "{said}");
    // By the time that it says so, it is so.
    assert_eq!(up.nft(), before, "as it was, to the byte");
    // What people ordered is people's to take back.
    up.cordon(&["isolate", &name, "--reason", "a person wants it"]).unwrap();
    eventually("the isolation is verified", || {
        (up.json(&["machines"])[0]["truth"] == "verified").then_some(())
    });
    assert!(up.cordon(&["undo", &name, "--reason", "not mine"]).is_err());
    let said = up.cordon(&["release", &name, "--reason", "test over"]).unwrap();
    println!("{said}");
    assert!(said.contains("RELEASED: shown by 1 of 1 machines"), "{said}");
    assert_eq!(up.nft(), before);
}

#[test]
fn roles_run_as_users_of_their_own_and_listen_on_loopback_only() {
    if lacks_root("`cordon up`") {
        return;
    }
    let up = Up::start();
    eventually("the agent", || up.role("agent"));
    let user = |role| {
        let status =
            fs::read_to_string(format!("/proc/{}/status", up.role(role).unwrap())).unwrap();
        let line = status.lines().find(|line| line.starts_with("Uid:")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<u32>().unwrap()
    };
    let users = eventually("the agent has given up root", || {
        let users = [user("hub"), user("signer"), user("agent")];
        users.iter().all(|uid| *uid != 0).then_some(users)
    });
    assert!(users[0] != users[1] && users[1] != users[2] && users[0] != users[2], "{users:?}");
    assert_eq!(user("helper"), 0);
    let output = Command::new("nsenter")
        .args(["--net", "--target", &up.child.id().to_string(), "ss", "-Hltun"])
        .output()
        .unwrap();
    let listening = String::from_utf8(output.stdout).unwrap();
    for line in listening.lines() {
        let local = line.split_whitespace().nth(4).unwrap();
        assert!(local.starts_with("127.") || local.starts_with("[::1]"), "{line}");
    }
    // No other user reads a role's state.
    for role in ["hub", "signer", "agent", "helper"] {
        let mode = fs::metadata(up.state.path().join(role)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{role}");
    }
}
