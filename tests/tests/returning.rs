//! From an intruder on a machine to its return to service, by the real commands: found, isolated, planned,
//! eliminated, looked at again, said to be patched, signed off, released.
//!
//! The intruder is harmless: a shell whose child sleeps, where malware puts its own, a unit that nothing starts, and
//! programs that nobody starts where anybody may write. Others put programs there meanwhile, as tests do that run
//! beside this one: nothing of theirs is ordered, as no finding names their owner, which is root, or their content.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use cordon_tests::{Attack, Up, copy_program, cordon, eventually, lacks_root};
use serde_json::Value;

/// Something that could bring an intruder back, and does nothing: no link starts it. Removed when dropped.
struct Planted(PathBuf);

impl Planted {
    fn new() -> Self {
        let name = format!("cordon-test-{}.service", std::process::id());
        let path = Path::new("/etc/systemd/system").join(name);
        fs::create_dir_all("/etc/systemd/system").unwrap();
        fs::write(&path, "[Service]\nExecStart=/bin/true\n").unwrap();
        Self(path)
    }
}

impl Drop for Planted {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Programs where anybody may write, which nobody ever starts. Removed when dropped.
struct Dropped {
    /// Of the account as which the intruder's process runs.
    by_owner: PathBuf,
    /// The same as what the intruder runs, and root's.
    by_content: PathBuf,
    /// Somebody's work.
    work: PathBuf,
}

impl Dropped {
    fn new() -> Self {
        let at = |folder: &str, what: &str| {
            Path::new(folder).join(format!("cordon-test-{}-{what}", std::process::id()))
        };
        Self {
            by_owner: at("/dev/shm", "owner"),
            by_content: at("/var/tmp", "content"),
            // Not in `/tmp`: where much lies that is too large to be read, nothing is known to be new.
            work: at("/var/tmp", "work"),
        }
    }
}

impl Drop for Dropped {
    fn drop(&mut self) {
        for path in [&self.by_owner, &self.by_content, &self.work] {
            let _ = fs::remove_file(path);
        }
    }
}

/// A process that is ended with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn child_of(process: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

/// What ended and nobody has waited for yet has no command line any more.
fn runs(process: u32) -> bool {
    fs::read(format!("/proc/{process}/cmdline")).is_ok_and(|line| !line.is_empty())
}

/// What a command says, and whether it ended well: some say no and why.
fn said(up: &Up, words: &[&str]) -> (bool, String) {
    let output =
        Command::new(cordon()).args(words).arg("--state").arg(up.state.path()).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

fn plan(up: &Up, name: &str) -> Value {
    up.json(&["eliminate", name])
}

fn steps(plan: &Value) -> &Vec<Value> {
    plan["steps"].as_array().unwrap()
}

fn is_left(step: &Value) -> bool {
    step["status"] == "to-do" || step["status"] == "unknown"
}

/// A step that nobody can tell of, and that no measure does.
fn is_untold(step: &Value) -> bool {
    step["status"] == "unknown" && step["how"] == "by-hand"
}

/// A step about a program that may be of somebody's work.
fn may_be_work(step: &Value) -> bool {
    let is_dropped = step["what"].as_str().unwrap().ends_with("(dropped program)");
    is_dropped && step["status"] == "to-do" && step["how"] == "by-hand"
}

/// What a machine can't tell of itself, and whose work a program is, is for a person: here the test is that person, by
/// each step's id. How many steps that were.
fn accept_what_only_people_know(up: &Up, name: &str) -> usize {
    let plan = plan(up, name);
    let accepted: Vec<&str> = steps(&plan)
        .iter()
        .filter(|step| is_untold(step) || may_be_work(step))
        .map(|step| step["id"].as_str().unwrap())
        .collect();
    for ids in accepted.chunks(16) {
        let mut words = vec!["eliminate", name, "--reason", "this machine was set up just now"];
        words.extend(ids.iter().flat_map(|id| ["--ours", id]));
        // What other tests put into `/tmp` may be gone by now.
        let _ = said(up, &words);
    }
    accepted.len()
}

/// Waits as `eventually` does, but longer: a look reads thousands of files, behind everything else.
fn in_the_end<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(240);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn an_intruder_is_found_eliminated_and_shown_gone_before_the_machine_returns_to_service() {
    if lacks_root("`cordon eliminate`") {
        return;
    }
    let up = Up::start();
    let name = up.linked_machine()["name"].as_str().unwrap().to_owned();
    let name = name.as_str();
    up.cordon(&["assign", name, "--tier", "0"]).unwrap();
    let before = up.packet_rules();
    in_the_end("what starts by itself there is known", || {
        let seen = plan(&up, name)["looked_at"].to_string();
        (!seen.contains("NOT LOOKED AT")).then_some(())
    });

    // The intruder: something that brings them back, a program that runs as an account that nobody else has, and two
    // that were brought and never started.
    let unit = Planted::new();
    let program = Attack::with("/bin/sh", "return");
    let dropped = Dropped::new();
    let shell = |script: &str, path: &Path| {
        let done = Command::new("/bin/sh").args(["-c", script]).arg(path).status().unwrap();
        assert!(done.success(), "{script}");
    };
    // Other tests copy the same shell: this one's is like none of theirs.
    shell(&format!("echo {} >> \"$0\"", std::process::id()), &program.program());
    copy_program(program.program(), &dropped.by_content);
    shell("printf '#!/bin/sh\\nexit 0\\n' > \"$0\" && chmod 755 \"$0\"", &dropped.work);
    let script = format!(
        "printf '#!/bin/sh\\nexit 0\\n' > {}; /bin/sleep 600 & wait",
        dropped.by_owner.display()
    );
    let account = (50_000 + std::process::id() % 10_000).to_string();
    let mut intruder = up.inside("setpriv");
    intruder.args(["--reuid", &account, "--regid", &account, "--clear-groups"]);
    intruder.arg(program.program()).args(["-c", &script]);
    let mut process = Running(intruder.spawn().unwrap());
    let child = eventually("it has a child", || child_of(process.0.id()));
    assert!(runs(child));
    eventually("an incident", || up.json(&["incidents"]).as_array()?.first().cloned());
    up.cordon(&["isolate", name, "--reason", "an intruder"]).unwrap();
    eventually("the isolation is verified", || {
        (up.json(&["machines"])[0]["truth"] == "verified").then_some(())
    });

    // It does not return like this, and says what is missing, with the commands.
    let refused = up.cordon(&["release", name, "--reason", "please"]).unwrap_err();
    println!("{refused}");
    for missing in ["clean", "patched", "signed-off", "--verify", "--despite"] {
        assert!(refused.contains(missing), "{missing}: {refused}");
    }
    let (is_open, gate) = said(&up, &["gate", name]);
    assert!(!is_open && gate.contains("CLOSED"), "{gate}");

    // The plan: shown, and nothing is done by showing it.
    let shown = up.cordon(&["eliminate", name]).unwrap();
    println!("{shown}");
    let first = plan(&up, name);
    // Of somebody's work a person is asked.
    let is_work = |step: &&Value| {
        let what = step["what"].as_str().unwrap();
        // By itself, or with what other tests left there as root.
        what.contains(dropped.work.to_str().unwrap())
            || what.contains("programs of account 0 in /var/tmp")
    };
    let work = steps(&first).iter().find(is_work).unwrap_or_else(|| panic!("{first:#}"));
    assert!(may_be_work(work), "{work:#}");
    assert!(work["because"].as_str().unwrap().contains("somebody's work"), "{work:#}");
    let to_order: Vec<&Value> = steps(&first)
        .iter()
        .filter(|step| step["status"] == "to-do" && step["how"] != "by-hand")
        .collect();
    let about = |what: &Path, how: &str| {
        let what = what.to_str().unwrap();
        to_order
            .iter()
            .any(|step| step["how"] == how && step["what"].as_str().unwrap().contains(what))
    };
    assert!(about(&unit.0, "quarantine"), "{first:#}");
    assert!(about(&program.program(), "quarantine"), "{first:#}");
    assert!(about(&program.program(), "kill"), "{first:#}");
    assert!(about(&dropped.by_owner, "quarantine"), "{first:#}");
    assert!(about(&dropped.by_content, "quarantine"), "{first:#}");
    // Nothing else of this machine, which runs other tests, may be touched.
    assert_eq!(to_order.len(), 5, "{to_order:#?}");
    assert!(unit.0.exists() && program.program().exists());
    assert!(dropped.by_owner.exists() && dropped.by_content.exists());
    assert!(process.0.try_wait().unwrap().is_none(), "it runs");

    // Another plan than the one that was seen is not ordered.
    let order = |digest: &str| {
        said(&up, &["eliminate", name, "--order", digest, "--reason", "the intruder"])
    };
    let (is_done, other) = order("000000000000");
    assert!(!is_done && other.contains("NOTHING IS ORDERED"), "{other}");
    assert!(unit.0.exists());
    let (is_clean, text) = said(&up, &["eliminate", name, "--verify"]);
    assert!(!is_clean && text.contains("NOT CLEAN"), "{text}");

    // Ordered, carried out, and shown by looking.
    let (is_done, text) = order(first["digest"].as_str().unwrap());
    println!("{text}");
    assert!(is_done, "{text}");
    eventually("the process is ended", || process.0.try_wait().unwrap());
    eventually("and what came from it", || (!runs(child)).then_some(()));
    eventually("the unit is set aside", || (!unit.0.exists()).then_some(()));
    eventually("the program is set aside", || (!program.program().exists()).then_some(()));
    for path in [&dropped.by_owner, &dropped.by_content] {
        eventually("what never ran is set aside", || (!path.exists()).then_some(()));
    }
    in_the_end("looks show that only what people know is left", || {
        let plan = plan(&up, name);
        let is_for_people = |step: &Value| is_untold(step) || may_be_work(step);
        steps(&plan).iter().all(|step| !is_left(step) || is_for_people(step)).then_some(())
    });
    let looked = plan(&up, name);
    for path in [&dropped.by_owner, &dropped.by_content] {
        let is_it = |step: &&Value| step["what"].as_str().unwrap().contains(path.to_str().unwrap());
        let step = steps(&looked).iter().find(is_it).unwrap_or_else(|| panic!("{looked:#}"));
        assert_eq!(step["status"], "done", "a look shows it: {step:#}");
    }
    assert!(accept_what_only_people_know(&up, name) > 0, "nobody had looked before");

    in_the_end("a look is clean", || {
        accept_what_only_people_know(&up, name);
        let (is_clean, text) = said(&up, &["eliminate", name, "--verify"]);
        println!("{text}");
        (is_clean && text.contains("CLEAN: nothing of the plan is left")).then_some(())
    });
    let closed = up.cordon(&["release", name, "--reason", "please"]).unwrap_err();
    assert!(closed.contains("patched") && closed.contains("signed-off"), "{closed}");
    assert!(!closed.contains("clean: "), "that is met: {closed}");

    // Through the gate. What is lost or found meanwhile on a busy machine shuts it again: look again.
    in_the_end("the gate is open", || {
        // It ends well if the word counts, though the gate is still closed.
        up.cordon(&["gate", name, "--patched", "it came by hand: nothing to patch"]).unwrap();
        said(&up, &["gate", name, "--sign-off", "seen by the test"]);
        let (is_open, gate) = said(&up, &["gate", name]);
        println!("{gate}");
        if !is_open {
            accept_what_only_people_know(&up, name);
            said(&up, &["eliminate", name, "--verify"]);
        }
        is_open.then_some(())
    });
    let released = up.cordon(&["release", name, "--reason", "clean"]).unwrap();
    assert!(released.contains("RELEASED: shown by 1 of 1 machines"), "{released}");
    assert_eq!(up.packet_rules(), before, "as it was, to the byte");
    let (_, gate) = said(&up, &["gate", name]);
    assert!(gate.contains("released it: clean") && gate.contains("looked again"), "{gate}");
    eventually("the ledger is cosigned, and sound", || up.cordon(&["verify"]).ok());

    assert!(dropped.work.exists(), "somebody's work was left alone");

    // What was set aside can be put back, exactly.
    let list = up.cordon(&["measure", "list", name]).unwrap();
    let line = list
        .lines()
        .find(|line| line.contains(" quarantine ") && line.contains(unit.0.to_str().unwrap()))
        .unwrap();
    let measure = line.split_whitespace().next().unwrap();
    up.cordon(&["measure", "undo", name, measure, "--reason", "a test"]).unwrap();
    eventually("the unit is back", || {
        let text = fs::read_to_string(&unit.0).ok()?;
        (text == "[Service]\nExecStart=/bin/true\n").then_some(())
    });
}

#[test]
fn a_machine_that_care_needs_is_released_despite_the_gate_by_one_command() {
    if lacks_root("`cordon release --despite`") {
        return;
    }
    let up = Up::start();
    let name = up.linked_machine()["name"].as_str().unwrap().to_owned();
    let attack = Attack::new("despite");
    assert!(up.inside(attack.program()).status().unwrap().success());
    eventually("an incident", || up.json(&["incidents"]).as_array()?.first().cloned());
    up.cordon(&["isolate", &name, "--reason", "an intruder"]).unwrap();
    eventually("the isolation is verified", || {
        (up.json(&["machines"])[0]["truth"] == "verified").then_some(())
    });
    let release = ["release", &name, "--reason", "theatre 2", "--despite", "a patient needs it"];
    let text = up.cordon(&release).unwrap();
    assert!(text.contains("RELEASED: shown by 1 of 1 machines"), "{text}");
    let (_, gate) = said(&up, &["gate", &name]);
    assert!(gate.contains("DESPITE clean") && gate.contains("a patient needs it"), "{gate}");
}
