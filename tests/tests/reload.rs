//! New rules while everything runs: by a hangup that `cordon up` passes on, and what people are told of them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use cordon_tests::{Up, Where, eventually, lacks_root};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Puts a rule into the folder; one whose field is nonsense is refused.
fn write(folder: &Path, id: &str, field: &str) {
    let text = format!(
        "title: {id}\nid: {id}\nlogsource: {{product: linux, category: process_creation}}\ndetection:\n  s: {{'{field}': /nowhere/{id}}}\n  condition: s\nlevel: low\n"
    );
    fs::write(folder.join(format!("{id}.yml")), text).unwrap();
}

/// What the hub shows of this machine's rules.
fn gap(up: &Up) -> Option<String> {
    let machine = up.json(&["machines"])[0].clone();
    let gap = machine["gaps"].as_array()?.iter().find(|gap| gap["what"] == "rules")?.clone();
    Some(gap["gap"].as_str()?.to_owned())
}

fn told(up: &Up, words: &str) {
    eventually("the hub is told", || gap(up).filter(|gap| gap.contains(words)));
}

#[test]
fn cordon_up_passes_a_hangup_on_and_what_was_refused_is_told_and_not_taken_by_a_restart() {
    if lacks_root("rules that are read again by an agent of another user") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for id in ["one", "two", "three"] {
        write(folder.path(), id, "Image");
    }
    let path = folder.path().to_str().unwrap();
    let up = Up::start_in(Where::OwnNetwork, &["--rules", path]);
    let _ = up.linked_machine();
    assert_eq!(gap(&up), None);
    let agent = up.role("agent").unwrap();
    let hang_up = || kill(up.pid(), Signal::SIGHUP).unwrap();

    // One that is refused: told where people look, and nothing is taken.
    write(folder.path(), "two", "Image|nonsense");
    hang_up();
    told(&up, "new rules were not taken, those in force stay: refused and was not before: two.yml");
    let shown = up.cordon(&["machines"]).unwrap();
    assert!(shown.contains("rules: new rules were not taken"), "{shown}");

    // Nor by a restart, with a hangup right after it.
    kill(agent, Signal::SIGKILL).unwrap();
    let again =
        eventually("the agent is started again", || up.role("agent").filter(|a| *a != agent));
    for _ in 0..20 {
        hang_up();
    }
    let _ = up.linked_machine();
    told(&up, "new rules were not taken");
    assert_eq!(up.role("agent"), Some(again), "a hangup ends no agent that has just begun");

    // Put right, and one fewer: taken, told, and affirmed by one more.
    fs::remove_file(folder.path().join("two.yml")).unwrap();
    hang_up();
    told(&up, "2 rules where there were 3");
    hang_up();
    eventually("it is affirmed", || gap(&up).is_none().then_some(()));
    let alive = |pid: Pid| kill(pid, None).is_ok();
    assert!(alive(again) && alive(up.pid()), "nobody was ended by a hangup");
}
