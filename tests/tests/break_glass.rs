//! A machine is cut off, then hub, signer and network are gone: somebody at it, who is nobody, opens it by a
//! code that was read out by phone, and once more by one off a printed sheet; and when everything is back, people
//! learn of it.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use cordon_tests::{End, Hospital, cordon, eventually, lacks_root};
use nix::sys::signal::Signal;

/// Somebody who owns nothing here.
const NOBODY: u32 = 65_534;

/// At the machine's keyboard, as a user who owns nothing; what is typed comes from there too.
fn at_the_machine(hospital: &Hospital, typed: &str) -> (bool, String) {
    let mut command = Command::new(cordon());
    command.args(["break-glass", "--state"]).arg(hospital.machines.path());
    command.uid(NOBODY).gid(NOBODY).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // One that asks for no code closes before it has read any.
    let _ = child.stdin.take().unwrap().write_all(typed.as_bytes());
    let output = child.wait_with_output().unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
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
    let mut hospital = Hospital::build("bg");
    hospital.start_hub();
    hospital.start_machine();

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
    let (_, said) = at_the_machine(&hospital, "");
    assert!(said.contains("ct-2") && said.contains("cut off"), "{said}");
    // The person in front of it is told, with what was signed ahead.
    let notice = eventually("the notice has what was said", || {
        Some(hospital.notice()).filter(|notice| notice.contains("Security operations 5555"))
    });
    assert!(notice.contains("WAS CUT OFF") && notice.contains("Go to: CT of A&E"), "{notice}");
    hospital.cable("down");
    hospital.kill_hub_alone();
    let error = hospital.at_hub(&["machines"]).unwrap_err();
    assert!(error.contains("cordon: "), "the hub is gone: {error}");
    // By phone: the next code, to somebody with a name, for a reason; the signer alone reads it out.
    let read = ["break-glass", "read", "ct-2", "--for", "Dr Day", "--reason", "trauma room"];
    let told = hospital.at_hub(&read).unwrap();
    assert!(told.contains("number 1"), "{told}");
    let mut words = told.split_whitespace();
    let by_phone =
        words.find(|word| **word == codes[0]).expect("the first of the sheet is read out");
    hospital.end(End::Hub, Signal::SIGKILL);
    assert!(hospital.rules().contains("table inet cordon"));

    // A slip, a code of another machine's sheet, then the right one, as people type.
    let wrong = codes[0].replace(char::is_alphanumeric, "7");
    let (is_done, said) = at_the_machine(&hospital, &format!("{wrong}\n"));
    assert!(!is_done && said.contains("not counted as a try"), "{said}");
    let typed = by_phone.to_lowercase().replace('-', " ");
    let (is_done, said) = at_the_machine(&hospital, &format!("{typed}\n"));
    assert!(is_done && said.contains("OPEN AGAIN") && said.contains("number 1"), "{said}");
    assert!(!hospital.rules().contains("table inet cordon"));
    let (is_done, said) = at_the_machine(&hospital, &format!("{typed}\n"));
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
    // Who read it out to whom and why, and that it opened the machine.
    for (role, words) in [
        ("signer", "code number 1 was read out for Dr Day: trauma room"),
        ("hub", "code number 1 was read out for Dr Day: trauma room"),
        ("hub", "opened-by-code"),
    ] {
        assert!(hospital.ledger_says(role, words), "{role}: {words}");
    }
    // They isolate it again. A code opens once; the next, off the sheet, opens it.
    hospital.at_hub(&["isolate", "ct-2", "--mode", "full", "--reason", "again"]).unwrap();
    eventually("the isolation is verified", || hospital.is_isolated("full"));
    let (is_done, said) = at_the_machine(&hospital, &format!("{typed}\n"));
    assert!(!is_done && said.contains("used before"), "{said}");
    assert!(hospital.rules().contains("table inet cordon"));
    let (is_done, said) = at_the_machine(&hospital, &format!("{}\n", codes[1]));
    assert!(is_done && said.contains("OPEN AGAIN") && said.contains("number 2"), "{said}");
    assert!(!hospital.rules().contains("table inet cordon"));

    // No code lies anywhere in clear: not in the state, not in a log, not on a command line.
    for folder in [hospital.hubs.path(), hospital.machines.path()] {
        let found = Command::new("grep")
            .args(["-rlaF", "--exclude=sheet.txt"])
            .args(
                codes[..2]
                    .iter()
                    .flat_map(|code| [code.clone(), code.replace('-', "")])
                    .flat_map(|clear| ["-e".to_owned(), clear]),
            )
            .arg(folder)
            .output()
            .unwrap();
        assert!(found.stdout.is_empty(), "{}", String::from_utf8_lossy(&found.stdout));
    }
}
