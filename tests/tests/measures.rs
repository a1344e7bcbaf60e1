//! `cordon measure` as its user runs it: from the command line through hub, signer and agent to the machine,
//! and back.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command};

use cordon_tests::{Up, Where, eventually, lacks_root};

/// A process that is ended with its test.
struct Victim(Child);

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process that counts, so that it is seen to stand still.
fn counting(file: &std::path::Path) -> Victim {
    let script =
        format!("i=0; while :; do i=$((i+1)); echo $i > {}; sleep 0.01; done", file.display());
    Victim(Command::new("/bin/sh").args(["-c", &script]).spawn().unwrap())
}

/// The words of the newest measure of `kind` in the machine's list.
fn listed(up: &Up, name: &str, kind: &str) -> Option<String> {
    let list = up.cordon(&["measure", "list", name]).ok()?;
    list.lines().find(|line| line.contains(&format!(" {kind} "))).map(str::to_owned)
}

/// Waits until the newest measure of `kind` is said to be `state`; its id.
fn until(up: &Up, name: &str, kind: &str, state: &str) -> String {
    eventually(&format!("{kind} is {state}"), || {
        let line = listed(up, name, kind)?;
        let mut words = line.split_whitespace();
        let id = words.next()?.to_owned();
        (words.next()? == state).then_some(id)
    })
}

#[test]
fn a_tree_is_frozen_and_goes_on_a_file_is_set_aside_and_put_back_and_evidence_is_gathered() {
    if lacks_root("`cordon measure`") {
        return;
    }
    let up = Up::start();
    let name = up.linked_machine()["name"].as_str().unwrap().to_owned();
    up.cordon(&["assign", &name, "--tier", "0"]).unwrap();
    let folder = tempfile::tempdir().unwrap();

    // Frozen: it counts no more; taken back: it counts on.
    let counter = folder.path().join("counter");
    let victim = counting(&counter);
    let count = || fs::read_to_string(&counter).unwrap_or_default();
    eventually("it counts", || (!count().trim().is_empty()).then_some(()));
    let pid = victim.0.id().to_string();
    let said = up.cordon(&["measure", "freeze", &name, "--pid", &pid, "--reason", "test"]).unwrap();
    assert!(said.contains("is signed") && said.contains("VERIFIED"), "{said}");
    let freeze = until(&up, &name, "freeze", "verified");
    let before = count();
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(count(), before, "it stands still");
    let said = up.cordon(&["measure", "undo", &name, &freeze, "--reason", "a backup"]).unwrap();
    assert!(said.contains("TAKEN BACK: shown by 1 of 1 machines"), "{said}");
    until(&up, &name, "freeze", "released");
    eventually("it counts on", || (count() != before).then_some(()));

    // Ended, with all that came from it.
    let said = up.cordon(&["measure", "kill", &name, "--pid", &pid, "--reason", "test"]).unwrap();
    assert!(said.contains("DONE"), "{said}");
    until(&up, &name, "kill", "done");
    let mut victim = victim;
    assert!(!victim.0.wait().unwrap().success(), "it was killed");

    // Set aside, and back in its place as it was.
    let file = folder.path().join("dropper");
    fs::write(&file, b"what an intruder left").unwrap();
    let path = file.to_str().unwrap();
    up.cordon(&["measure", "quarantine", &name, path, "--reason", "test"]).unwrap();
    let aside = until(&up, &name, "quarantine", "verified");
    assert!(!file.exists());
    up.cordon(&["measure", "undo", &name, &aside, "--reason", "ours"]).unwrap();
    until(&up, &name, "quarantine", "released");
    assert_eq!(fs::read(&file).unwrap(), b"what an intruder left");

    // Gathered, by a process of its own.
    up.cordon(&["measure", "collect", &name, "--file", path, "--reason", "test"]).unwrap();
    until(&up, &name, "collect", "done");

    // What can't be is said, with why.
    let shell = fs::canonicalize("/bin/sh").unwrap();
    let said =
        up.cordon(&["measure", "quarantine", &name, shell.to_str().unwrap(), "--reason", "test"]);
    let said = said.unwrap_err();
    assert!(said.contains("FAILED: refused") && said.contains("unchanged"), "{said}");
    until(&up, &name, "quarantine", "failed");
    let list = up.cordon(&["measure", "list", &name]).unwrap();
    assert!(list.contains("refused"), "{list}");
    assert!(fs::metadata("/bin/sh").is_ok());
}

/// An account that no machine has.
const ACCOUNT: &str = "cordon-leaver";

/// In an `/etc` of a test's own, which the helper sees in the real one's place.
#[test]
fn an_account_is_disabled_and_given_back_to_the_byte() {
    if lacks_root("`cordon measure disable-account`") {
        return;
    }
    let state = tempfile::tempdir().unwrap();
    fs::set_permissions(state.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["hosts", "resolv.conf", "nsswitch.conf"] {
        fs::copy(format!("/etc/{name}"), state.path().join(name)).unwrap();
    }
    let up = Up::start_on(state, Where::OwnNames, &[]);
    let name = up.linked_machine()["name"].as_str().unwrap().to_owned();
    up.cordon(&["assign", &name, "--called", &name, "--tier", "0"]).unwrap();
    let etc = up.state.path().join("etc");
    fs::create_dir(&etc).unwrap();
    let lay = "cp -a /etc/. \"$0\" && mount --bind \"$0\" /etc";
    assert!(up.inside("sh").args(["-c", lay]).arg(&etc).status().unwrap().success());
    let shadow = etc.join("shadow");
    let add = |file: &std::path::Path, line: &str| {
        let text = fs::read_to_string(file).unwrap();
        fs::write(file, format!("{text}{ACCOUNT}:{line}\n")).unwrap();
    };
    add(&etc.join("passwd"), "x:54377:54377::/nonexistent:/bin/sh");
    add(&shadow, "$6$salt$hash:19000:0:99999:7::30000:");
    let before = fs::read(&shadow).unwrap();

    let disable = ["measure", "disable-account", &name, ACCOUNT, "--reason", "test"];
    let said = up.cordon(&disable).unwrap();
    assert!(said.contains("VERIFIED"), "{said}");
    let disabled = until(&up, &name, "disable the account", "verified");
    let line = fs::read_to_string(&shadow).unwrap();
    let line = line.lines().find(|line| line.starts_with(ACCOUNT)).unwrap().to_owned();
    assert!(line.contains(":!"), "its password is locked: {line}");
    assert!(!String::from_utf8_lossy(&fs::read("/etc/shadow").unwrap()).contains(ACCOUNT));

    up.cordon(&["measure", "undo", &name, &disabled, "--reason", "still here"]).unwrap();
    until(&up, &name, "disable the account", "released");
    assert_eq!(fs::read(&shadow).unwrap(), before);
}

/// Whether a datagram to `to` leaves the machine.
fn leaves(up: &Up, to: &str) -> bool {
    let script = format!("echo x > /dev/udp/{to}/9");
    up.inside("bash").args(["-c", &script]).status().unwrap().success()
}

#[test]
fn peers_are_blocked_by_address_and_by_name_and_given_back_to_the_byte() {
    if lacks_root("`cordon measure block`") {
        return;
    }
    let up = Up::start();
    let name = up.linked_machine()["name"].as_str().unwrap().to_owned();
    // A cable with nobody at its end (RFC 5737, RFC 3849).
    for words in [
        "link add cable type veth peer name end",
        "addr add 192.0.2.1/24 dev cable",
        "addr add 2001:db8::1/64 dev cable nodad",
        "link set cable up",
        "link set end up",
    ] {
        let done = up.inside("ip").args(words.split(' ')).status().unwrap();
        assert!(done.success(), "ip {words}");
    }
    up.cordon(&["assign", &name, "--tier", "0", "--lifeline", "PACS=outbound tcp 192.0.2.9 104"])
        .unwrap();
    let before = up.packet_rules();
    let block = |more: &[&str]| {
        let words = [&["measure", "block", &name, "--reason", "test"], more].concat();
        let said = up.cordon(&words).unwrap_or_else(|said| said);
        assert!(said.contains("is signed"), "{said}");
    };

    block(&["192.0.2.7"]);
    let by_address = until(&up, &name, "block", "verified");
    assert!(!leaves(&up, "192.0.2.7") && leaves(&up, "192.0.2.8"));
    block(&["c2.example", "--address", "192.0.2.8", "--address", "2001:db8::8"]);
    let by_name = eventually("both are verified", || {
        let newest = until(&up, &name, "block", "verified");
        (newest != by_address).then_some(newest)
    });
    assert!(!leaves(&up, "192.0.2.7") && !leaves(&up, "192.0.2.8"));
    assert!(!leaves(&up, "2001:db8::8") && leaves(&up, "2001:db8::7"));
    let list = up.cordon(&["measure", "list", &name]).unwrap();
    assert!(list.contains("c2.example: 2 addresses"), "{list}");

    // What would cut a lifeline is refused by the machine, by its name.
    block(&["192.0.2.9"]);
    until(&up, &name, "block", "failed");
    let list = up.cordon(&["measure", "list", &name]).unwrap();
    assert!(list.contains("PACS"), "{list}");

    let state = |measure: &str| {
        let list = up.cordon(&["measure", "list", &name]).unwrap();
        let line = list.lines().find(|line| line.starts_with(measure)).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    for measure in [&by_address, &by_name] {
        up.cordon(&["measure", "undo", &name, measure, "--reason", "ours"]).unwrap();
        eventually("it is released", || (state(measure) == "released").then_some(()));
    }
    assert!(leaves(&up, "192.0.2.7") && leaves(&up, "192.0.2.8") && leaves(&up, "2001:db8::8"));
    assert_eq!(up.packet_rules(), before);
}
