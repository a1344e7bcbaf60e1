//! Each wipe of Cordon's rules is a finding: from `nft flush ruleset` on the machine to an incident that people see.

use std::process::Command;

use cordon_tests::{Up, eventually, lacks_root};
use nix::sys::signal::{Signal, kill};

const WIPE: &str = "Cordon's packet rules were changed or removed by somebody else";

fn flush(up: &Up) {
    let flushed: std::io::Result<_> = Command::status(up.inside("nft").args(["flush", "ruleset"]));
    assert!(flushed.unwrap().success());
}

/// What the findings say of each wipe, in every incident.
fn wipes(up: &Up) -> Vec<String> {
    let incidents = up.json(&["incidents"]);
    let mut said = Vec::new();
    for incident in incidents.as_array().unwrap() {
        let full = up.cordon(&["incidents", "show", incident["id"].as_str().unwrap()]).unwrap();
        said.extend(full.lines().filter(|line| line.contains(WIPE)).map(str::to_owned));
    }
    said
}

#[test]
fn rules_that_are_wiped_are_an_incident_also_where_no_helper_ran_to_notice_it() {
    if lacks_root("wiping rules") {
        return;
    }
    let up = Up::start();
    let name = up.linked_machine()["name"].as_str().unwrap().to_owned();
    up.cordon(&["assign", &name, "--tier", "0"]).unwrap();
    up.cordon(&["isolate", &name, "--reason", "test"]).unwrap();
    let before = wipes(&up).len();

    flush(&up);
    eventually("a wipe that the helper noticed is an incident", || {
        (wipes(&up).len() > before).then_some(())
    });
    assert!(up.packet_rules().contains("table inet cordon"), "and put back");

    // One that it can't notice: it is stopped, and ends before it could.
    let found = || {
        let machine = up.json(&["machines", &name]);
        let findings = machine["findings"].as_array().unwrap().iter();
        findings.filter(|one| one["title"].as_str().is_some_and(|it| it == WIPE)).count()
    };
    let noticed = found();
    assert!(noticed > 0);
    let helper = up.role("helper").unwrap();
    kill(helper, Signal::SIGSTOP).unwrap();
    flush(&up);
    kill(helper, Signal::SIGKILL).unwrap();
    eventually("the helper is started again", || up.role("helper").filter(|new| *new != helper));
    eventually("that is a finding too", || (found() > noticed).then_some(()));
    assert!(up.packet_rules().contains("table inet cordon"), "and put back");
}
