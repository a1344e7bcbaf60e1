//! What is inside a process leaves it only where two people agreed, each signed in: from the command line
//! through the questions on the console to the archive on the machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use cordon_tests::{Person, Up, eventually, lacks_root};
use serde_json::Value;

const SECRET: &str = "a-patient-in-its-memory";

/// A process that holds something; ended with its test.
struct Suspect(Child);

impl Suspect {
    fn new() -> Self {
        let mut command = Command::new("sleep");
        Self(command.arg("600").env("SECRET", SECRET).spawn().unwrap())
    }
}

impl Drop for Suspect {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The archives below `folder`.
fn archives(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(archives(&path));
        } else if name.starts_with("evidence-") && name.ends_with(".tar.gz") {
            found.push(path);
        }
    }
    found
}

fn unpacked(archive: &Path, to: &Path) -> Value {
    let done = Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(to).status().unwrap();
    assert!(done.success());
    serde_json::from_slice(&fs::read(to.join("manifest.json")).unwrap()).unwrap()
}

/// By what the machine is known for at the hub, and so that no byte of it can be another.
fn is_signed_by_the_machine(up: &Up, archive: &Path, folder: &Path) {
    let name = up.linked_machine()["name"].as_str().unwrap().to_owned();
    let key = up.json(&["machines", &name])["receipt_key"].as_str().unwrap().to_owned();
    let verify = |path: &Path| up.cordon(&["verify", path.to_str().unwrap(), "--key", &key]);
    let said = verify(archive).unwrap_or_else(|said| panic!("{said}"));
    assert!(said.trim_end().ends_with("sound"), "{said}");
    let mut bytes = fs::read(archive).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let altered = folder.join("altered.tar.gz");
    fs::write(&altered, bytes).unwrap();
    let said = verify(&altered).unwrap_err();
    assert!(said.contains("NOT SOUND"), "{said}");
    fs::remove_file(altered).unwrap();
}

#[test]
fn memory_and_environment_are_gathered_when_two_people_agreed_and_not_before() {
    if lacks_root("collecting memory") {
        return;
    }
    let up = Up::start();
    let name = up.linked_machine()["name"].as_str().unwrap().to_owned();
    up.cordon(&["assign", &name, "--tier", "0"]).unwrap();
    let suspect = Suspect::new();
    let pid = suspect.0.id().to_string();
    let collect = |more: &[&str]| {
        let words = [&["measure", "collect", &name, "--reason", "test"], more].concat();
        up.cordon(&words)
    };
    assert!(collect(&["--memory", "4194304"]).unwrap_err().contains("has no process"));
    let said = collect(&["--memory", &pid, "--environment", &pid]).unwrap_err();
    assert!(said.contains("not ordered yet: two people"), "{said}");

    let questions = up.json(&["questions"]);
    let question = questions[0]["id"].as_str().unwrap().to_owned();
    let asked = up.cordon(&["questions"]).unwrap();
    assert!(asked.contains(&format!("the MEMORY of process {pid}")), "{asked}");
    // An account at the command line is nobody who is signed in.
    let account = up.cordon(&["answer", &question, "yes", "--reason", "test"]).unwrap_err();
    assert!(account.contains("sign in"), "{account}");

    let (ann, bob) = (Person::signs_in(&up, "ann"), Person::signs_in(&up, "bob"));
    let page = ann.reads(&question);
    assert!(page.contains("MEMORY") && page.contains("ENVIRONMENT"), "it says what it is: {page}");
    assert!(ann.agrees(&question).starts_with("HTTP/1.1 303"));
    assert!(ann.agrees(&question).starts_with("HTTP/1.1 409"), "one person is one voice");
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert!(archives(up.state.path()).is_empty(), "one person alone gets nothing");
    let list = up.cordon(&["measure", "list", &name]).unwrap();
    assert!(list.contains("no measure was ever ordered"), "{list}");

    assert!(bob.agrees(&question).starts_with("HTTP/1.1 303"));
    let archive = eventually("the archive is there", || archives(up.state.path()).pop());
    eventually("it is said to be done", || {
        let list = up.cordon(&["measure", "list", &name]).unwrap();
        list.lines().any(|line| line.contains(" done ") && line.contains("collect")).then_some(())
    });
    let folder = tempfile::tempdir().unwrap();
    is_signed_by_the_machine(&up, &archive, folder.path());
    let manifest = unpacked(&archive, folder.path());
    let mut agreed: Vec<&str> =
        manifest["agreed"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    agreed.sort_unstable();
    assert_eq!(agreed, ["ann", "bob"]);
    let pieces = manifest["pieces"].as_array().unwrap();
    for kind in ["memory", "environment"] {
        let at = pieces.iter().position(|piece| piece["kind"] == kind);
        let at = at.unwrap_or_else(|| panic!("no {kind}: {manifest}"));
        let piece = fs::read(folder.path().join(format!("pieces/{:06}", at + 1))).unwrap();
        let holds = piece.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
        assert!(holds, "{kind} holds what the process holds");
    }
}
