//! The service files: systemd takes them, they start roles that there are by arguments that there are, and
//! the one order that matters stands in them.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use cordon_tests::{cordon, lacks_programs, root};

fn units() -> BTreeMap<String, String> {
    let folder = root().join("packaging/systemd");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            // A line that ends in a backslash goes on.
            (name, fs::read_to_string(path).unwrap().replace("\\\n", " "))
        })
        .collect()
}

fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    let lines = unit.lines().filter_map(|line| line.split_once('='));
    lines.filter(|(name, _)| *name == key).flat_map(|(_, value)| value.split_whitespace()).collect()
}

#[test]
fn every_unit_starts_a_role_by_arguments_that_it_takes() {
    let units = units();
    let roles: Vec<_> = units.keys().map(String::as_str).collect();
    assert_eq!(
        roles,
        ["agent", "helper", "hub", "signer", "warden"].map(|role| format!("cordon-{role}.service"))
    );
    for (name, unit) in &units {
        let started = values(unit, "ExecStart");
        assert_eq!(started[..2], ["/usr/bin/cordon", "role"], "{name}");
        assert_eq!(format!("cordon-{}.service", started[2]), *name);
        let help = Command::new(cordon()).args(["role", started[2], "--help"]).output().unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        for option in started.iter().filter(|word| word.starts_with("--")) {
            assert!(
                help.contains(&format!("{option} ")) || help.contains(&format!("{option}\n")),
                "{name}: {option}"
            );
        }
        assert_eq!(values(unit, "NoNewPrivileges"), ["yes"], "{name}");
        assert_eq!(
            values(unit, "Restart"),
            ["always"],
            "{name}: a role that ends is started again"
        );
        assert!(unit.contains("\nCapabilityBoundingSet="), "{name}");
        // The two that stay root place themselves.
        let places_itself = ["helper", "warden"].contains(&started[2]);
        let nice: &[&str] = if places_itself { &[] } else { &["-5"] };
        assert_eq!(values(unit, "Nice"), nice, "{name}");
        // Nothing that a stop would take out of the kernel.
        assert!(values(unit, "ExecStop").is_empty() && values(unit, "ExecStopPost").is_empty());
    }
}

/// The hub and the signer hold no right to change a machine; nobody but the helper keeps one.
#[test]
fn only_the_helper_keeps_the_right_to_change_the_machine() {
    let units = units();
    let rights =
        |role: &str| values(&units[&format!("cordon-{role}.service")], "CapabilityBoundingSet");
    assert_eq!(rights("hub"), [""; 0]);
    assert!(!rights("signer").contains(&"CAP_NET_ADMIN"));
    assert!(rights("helper").contains(&"CAP_NET_ADMIN"));
    for role in ["agent", "warden", "signer"] {
        for right in ["CAP_DAC_OVERRIDE", "CAP_KILL", "CAP_SYS_MODULE", "CAP_SYS_BOOT"] {
            assert!(!rights(role).contains(&right), "{role}: {right}");
        }
    }
}

/// Answers Velociraptor on Linux ("lost at reboot"): the network waits for the helper, and the helper says
/// when it is ready. That it does so is shown by `crates/agent/tests/foes/boot.rs`.
#[test]
fn the_network_waits_for_the_helper() {
    let units = units();
    let helper = &units["cordon-helper.service"];
    assert_eq!(values(helper, "Type"), ["notify"]);
    assert!(values(helper, "Before").contains(&"network-pre.target"));
    assert_eq!(values(helper, "Wants"), ["network-pre.target"], "or nobody waits for that target");
    assert_eq!(
        values(helper, "DefaultDependencies"),
        ["no"],
        "or it is started after sysinit.target"
    );
    assert_eq!(values(helper, "WantedBy"), ["sysinit.target"]);
    assert!(values(helper, "After").contains(&"nftables.service"), "whose file flushes everything");
}

#[test]
fn systemd_takes_every_unit() {
    if lacks_programs(&["systemd-analyze"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("systemd-analyze");
    command.args(["verify", "--man=no"]);
    for (name, unit) in units() {
        let path = folder.path().join(name);
        fs::write(&path, unit.replace("/usr/bin/cordon", cordon().to_str().unwrap())).unwrap();
        command.arg(path);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // What else is installed on this machine may have faults of its own.
    let of_ours: Vec<&str> = said.lines().filter(|line| line.contains("cordon-")).collect();
    assert!(output.status.success() && of_ours.is_empty(), "{said}");
}
