//! What the whole program sees where it runs: on the machine itself, in a network of its own, in a
//! container, and without eBPF; and that it says what it does not see.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use cordon_tests::{Attack, Up, Where, cannot_be_had, eventually, lacks_root};
use serde_json::Value;

/// What the agent says is missing of one thing, and whether it sees the thing at all.
fn gap(machine: &Value, what: &str) -> (bool, String) {
    let gaps = machine["gaps"].as_array().unwrap();
    let gap = gaps.iter().find(|gap| gap["what"] == what);
    let gap = gap.unwrap_or_else(|| panic!("nothing is missing of {what}: {machine:#}"));
    (gap["by"].is_string(), gap["gap"].as_str().unwrap_or_default().to_owned())
}

/// Whether the hub keeps a finding about this program.
fn hub_knows(up: &Up, program: &Path) -> bool {
    let program = program.as_os_str().as_encoded_bytes();
    let files = std::fs::read_dir(up.state.path().join("hub")).unwrap().flatten();
    let mut kept = files.filter_map(|file| std::fs::read(file.path()).ok());
    kept.any(|bytes| bytes.windows(program.len()).any(|part| part == program))
}

fn lacks_ebpf(machine: &Value) -> bool {
    let gaps = machine["gaps"].as_array().unwrap();
    let starts = gaps.iter().find(|gap| gap["what"] == "process starts");
    let lacks = starts.is_some_and(|gap| gap["by"] != "eBPF");
    if lacks {
        cannot_be_had(&format!("{machine:#}"));
    }
    lacks
}

/// Arguments for a `cordon up` beside others in one network.
fn free_addresses() -> Vec<String> {
    let sockets = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let names = ["--console", "--link", "--enrol"];
    let address = |socket: &TcpListener| socket.local_addr().unwrap().to_string();
    names.iter().zip(&sockets).flat_map(|(name, s)| [(*name).to_owned(), address(s)]).collect()
}

fn on_this_machine(more: &[&str]) -> Up {
    let addresses = free_addresses();
    let arguments: Vec<&str> =
        addresses.iter().map(String::as_str).chain(more.iter().copied()).collect();
    Up::start_in(Where::ThisMachine, &arguments)
}

#[test]
fn on_the_machine_itself_an_attack_in_any_network_is_seen() {
    if lacks_root("`cordon up`") {
        return;
    }
    let up = on_this_machine(&[]);
    if lacks_ebpf(&up.linked_machine()) {
        return;
    }
    let attack = Attack::new("anywhere");
    let elsewhere = Command::new("unshare").arg("--net").arg(attack.program()).status();
    assert!(elsewhere.unwrap().success());
    eventually("the attack is seen", || hub_knows(&up, &attack.program()).then_some(()));
}

#[test]
fn in_a_network_of_its_own_an_agent_looks_at_what_it_can_contain_and_says_so() {
    if lacks_root("`cordon up`") {
        return;
    }
    let up = Up::start();
    let machine = up.linked_machine();
    if lacks_ebpf(&machine) {
        return;
    }
    for what in ["process starts", "outgoing TCP connections", "isolation"] {
        let (is_seen, gap) = gap(&machine, what);
        assert!(is_seen && gap.contains("network namespace"), "{what}: {gap}");
    }
    let (elsewhere, inside) = (Attack::new("elsewhere"), Attack::new("inside"));
    assert!(Command::new(elsewhere.program()).status().unwrap().success());
    assert!(up.inside(inside.program()).status().unwrap().success());
    eventually("the attack inside", || hub_knows(&up, &inside.program()).then_some(()));
    assert!(!hub_knows(&up, &elsewhere.program()), "it could not have contained that one");
    let preview =
        up.cordon(&["isolate", machine["name"].as_str().unwrap(), "--reason", "t", "--preview"]);
    assert!(preview.unwrap().contains("isolates in part"));
}

#[test]
fn in_a_container_an_attack_is_seen_isolated_proven_and_released() {
    if lacks_root("`cordon up`") {
        return;
    }
    let up = Up::start_in(Where::Container, &[]);
    let machine = up.linked_machine();
    if lacks_ebpf(&machine) {
        return;
    }
    let (_, starts) = gap(&machine, "process starts");
    assert!(starts.contains("PID namespace"), "{starts}");
    let (outside, inside) = (Attack::new("outside"), Attack::new("contained"));
    assert!(Command::new(outside.program()).status().unwrap().success());
    assert!(up.inside(inside.program()).status().unwrap().success());
    eventually("the attack inside", || hub_knows(&up, &inside.program()).then_some(()));
    assert!(!hub_knows(&up, &outside.program()), "not a process of the container");

    let before = up.packet_rules();
    let name = machine["name"].as_str().unwrap();
    up.cordon(&["isolate", name, "--mode", "segment", "--reason", "test"]).unwrap();
    eventually("the isolation is verified", || {
        (up.json(&["machines"])[0]["truth"] == "verified").then_some(())
    });
    assert!(up.packet_rules().contains("table inet cordon"));
    up.cordon(&["release", name, "--reason", "test over", "--despite", "a test"]).unwrap();
    eventually("the release", || (up.packet_rules() == before).then_some(()));
}

#[test]
fn without_ebpf_an_attack_that_lasts_is_seen_and_what_ends_at_once_is_counted_as_lost() {
    if lacks_root("`cordon up`") {
        return;
    }
    let up = on_this_machine(&["--no-ebpf"]);
    let machine = up.linked_machine();
    let (is_seen, starts) = gap(&machine, "process starts");
    if !is_seen {
        cannot_be_had(&starts);
        return;
    }
    assert!(starts.contains("no eBPF") && starts.contains("only counted"), "{starts}");
    assert!(!gap(&machine, "outgoing TCP connections").0, "nobody tells of connections");

    let attack = Attack::with("/bin/sleep", "lasting");
    let mut running = Command::new(attack.program()).arg("600").spawn().unwrap();
    eventually("the attack is seen", || hub_knows(&up, &attack.program()).then_some(()));
    running.kill().unwrap();
    running.wait().unwrap();

    // Some of many that end at once are gone before anybody can look at them.
    eventually("a loss is counted", || {
        for _ in 0..100 {
            Command::new("/bin/true").status().unwrap();
        }
        let machine = up.json(&["machines"])[0].clone();
        (machine["lost"].as_u64()? > 0 && machine["events"].as_u64()? > 0).then_some(())
    });
    assert!(up.cordon(&["machines"]).unwrap().contains("LOST "));
}

#[test]
fn without_ebpf_in_a_network_of_its_own_an_agent_says_that_it_sees_nothing() {
    if lacks_root("`cordon up`") {
        return;
    }
    let up = Up::start_in(Where::OwnNetwork, &["--no-ebpf"]);
    let machine = up.linked_machine();
    for what in ["process starts", "process ends", "outgoing TCP connections"] {
        let (is_seen, gap) = gap(&machine, what);
        assert!(!is_seen && !gap.is_empty(), "{what}: {gap}");
    }
    assert!(gap(&machine, "process starts").1.contains("network namespace"));
}
