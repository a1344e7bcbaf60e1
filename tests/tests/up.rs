//! `cordon up`, as its user runs it, in a network namespace of its own so that it can be isolated.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use cordon_tests::{Attack, Up, Where, eventually, lacks_root, log_in};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use serde_json::Value;

#[test]
fn an_attack_is_seen_asked_about_isolated_proven_survives_a_crash_and_is_released() {
    if lacks_root("`cordon up`") {
        return;
    }
    let up = Up::start();
    assert!(up.link.starts_with("http://127.0.0.1:"));

    let machine = up.linked_machine();
    let name = machine["name"].as_str().unwrap().to_owned();
    assert!(machine["tier"].is_null(), "nobody has said what it is");
    eventually("it says that it holds nothing", || {
        up.json(&["machines"])[0]["isolation"].is_null().then_some(())
    });
    let before = up.packet_rules();

    // An attack: seen, and asked about, as the mode is `ask` and the tier unknown.
    let attack = Attack::new("up");
    assert!(up.inside(attack.program()).status().unwrap().success());
    let incident =
        eventually("an incident", || up.json(&["incidents"]).as_array()?.first().cloned());
    assert!(["high", "critical"].iter().any(|level| incident["level"] == *level), "{incident:#}");
    eventually("a question to people", || {
        (up.json(&["incidents"])[0]["questions"].as_u64()? > 0).then_some(())
    });
    assert_eq!(up.packet_rules(), before, "nothing is done without asking");

    // Worked on at the command line, by name.
    let id = incident["id"].as_str().unwrap().to_owned();
    up.cordon(&["incidents", "take", &id]).unwrap();
    up.cordon(&["incidents", "comment", &id, "looks like a test"]).unwrap();
    let full = up.cordon(&["incidents", "show", &id]).unwrap();
    assert!(full.contains("has it") && full.contains("looks like a test"), "{full}");
    let full = up.json(&["incidents", "show", &id]);
    assert!(full["state"] == "owned" && full["machines_now"][0]["name"] == *name, "{full:#}");
    let full = up.json(&["machines", &name]);
    assert!(full["policy_mode"] == "ask" && full["question_count"].as_u64() > Some(0), "{full:#}");

    // The question says what kind of machine it is, and for how long.
    let asked = up.cordon(&["questions"]).unwrap();
    assert!(
        asked.contains("(tier not said: treated as clinical): isolate (segment) for 4 h"),
        "{asked}"
    );

    // A person isolates it, and it is proven by the time that the command ends.
    let isolate = ["isolate", &name, "--mode", "segment", "--reason", "test"];
    let said = up.cordon(&isolate).unwrap();
    println!("{said}");
    assert!(said.contains("treated as clinical: ring whoever is at it first"), "{said}");
    assert!(said.contains("VERIFIED: in force, by the machine's own proof"), "{said}");
    let machine = up.json(&["machines"])[0].clone();
    assert!(machine["isolation"] == "segment" && machine["truth"] == "verified", "{machine:#}");
    assert!(up.packet_rules().contains("table inet cordon"));

    // Hub and helper are killed: both come back and know.
    for role in ["hub", "helper"] {
        let pid = up.role(role).unwrap();
        kill(pid, Signal::SIGKILL).unwrap();
        eventually("the role is started again", || up.role(role).filter(|new| *new != pid));
        assert!(up.packet_rules().contains("table inet cordon"), "what is in force stays in force");
    }
    eventually("the hub knows after a crash", || {
        let text = up.cordon(&["machines", "--json"]).ok()?;
        let machines: Value = serde_json::from_str(&text).ok()?;
        let machine = machines.as_array()?.first()?.clone();
        (machine["isolation"] == "segment" && machine["is_linked"] == true).then_some(())
    });
    assert_eq!(up.json(&["incidents"]).as_array().unwrap().len(), 1);

    // Released exactly.
    let closed = up.cordon(&["release", &name, "--reason", "test over"]).unwrap_err();
    assert!(closed.contains("clean: nobody has looked again"), "{closed}");
    up.cordon(&["release", &name, "--reason", "test over", "--despite", "a test"]).unwrap();
    eventually("the machine is released", || {
        up.json(&["machines"])[0]["isolation"].is_null().then_some(())
    });
    assert_eq!(up.packet_rules(), before, "as it was, to the byte");
    let list = up.cordon(&["measure", "list", &name]).unwrap();
    assert!(list.contains("released     release\n"), "{list}");
    let said = up.cordon(&["release", &name, "--reason", "again"]).unwrap();
    assert!(said.contains("NOTHING ISOLATED IT") && !said.contains("RELEASED"), "{said}");

    // Everything that was done is in the ledger, and it is sound.
    let report = eventually("the ledger is cosigned", || up.cordon(&["verify"]).ok());
    println!("{report}");
}

/// Law 4: what a screen says is in force is in force, or the screen says that it is not known.
#[test]
fn an_isolation_that_is_lost_with_the_helpers_memory_is_not_shown_as_in_force() {
    if lacks_root("losing an isolation") {
        return;
    }
    let up = Up::start();
    let name = up.linked_machine()["name"].as_str().unwrap().to_owned();
    up.cordon(&["isolate", &name, "--reason", "test"]).unwrap();
    eventually("the isolation is verified", || {
        (up.json(&["machines"])[0]["truth"] == "verified").then_some(())
    });
    let before = up.json(&["incidents"]).as_array().unwrap().len();

    // Table and memory go together, as by a disk that was set back; the helper can do nothing meanwhile.
    let helper = up.role("helper").unwrap();
    kill(helper, Signal::SIGSTOP).unwrap();
    assert!(up.inside("nft").args(["flush", "ruleset"]).status().unwrap().success());
    for entry in fs::read_dir(up.state.path().join("helper")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("state") {
            fs::remove_file(path).unwrap();
        }
    }
    kill(helper, Signal::SIGKILL).unwrap();
    eventually("the helper is started again", || up.role("helper").filter(|new| *new != helper));
    assert!(!up.packet_rules().contains("table inet cordon"), "nobody remembers it");

    eventually("the machine contradicts what was said to be in force", || {
        (up.json(&["machines"])[0]["truth"] == "unproven").then_some(())
    });
    let shown = up.cordon(&["machines"]).unwrap();
    println!("{shown}");
    assert!(!shown.contains("verified") && shown.contains("unproven"), "{shown}");
    eventually("people are told", || {
        (up.json(&["incidents"]).as_array()?.len() > before).then_some(())
    });

    // A person isolates it again, and now it is so.
    up.cordon(&["isolate", &name, "--reason", "again"]).unwrap();
    eventually("the isolation is verified again", || {
        (up.json(&["machines"])[0]["truth"] == "verified").then_some(())
    });
    assert!(up.packet_rules().contains("table inet cordon"));
}

#[test]
fn ctrl_c_stops_every_role_in_order_and_the_next_start_goes_on() {
    if lacks_root("`cordon up`") {
        return;
    }
    let roles = ["signer", "hub", "helper", "agent"];
    let up = Up::start();
    let first = up.linked_machine();
    let running: Vec<_> = roles.iter().map(|name| up.role(name).unwrap()).collect();
    let (state, status) = up.interrupt();
    let log = log_in(&state);
    assert!(status.success(), "{status}: {log}");
    assert!(!log.contains("starting it again"), "{log}");
    for (role, pid) in roles.iter().zip(running) {
        assert_eq!(kill(pid, None), Err(Errno::ESRCH), "the {role} is gone");
    }

    let up = Up::start_on(state, Where::OwnNetwork, &[]);
    assert_eq!(up.linked_machine()["id"], first["id"]);
    assert!(!up.log().contains("WARN"), "{}", up.log());
}

#[test]
fn a_hub_that_opens_its_link_to_others_keeps_its_own_machine() {
    if lacks_root("`cordon up`") {
        return;
    }
    let up = Up::start();
    let first = up.linked_machine();
    let (state, _) = up.interrupt();
    let up = Up::start_on(state, Where::OwnNetwork, &["--link", "127.0.0.2:7001"]);
    let machine = up.linked_machine();
    assert_eq!(machine["id"], first["id"]);

    let name = machine["name"].as_str().unwrap();
    up.cordon(&["isolate", name, "--mode", "full", "--reason", "test"]).unwrap();
    eventually("it is isolated, and not from its own hub", || {
        let machine = up.json(&["machines"])[0].clone();
        (machine["truth"] == "verified" && machine["is_linked"] == true).then_some(())
    });
}

#[test]
fn what_cordon_did_by_itself_is_undone_by_one_command_and_shown() {
    if lacks_root("`cordon undo`") {
        return;
    }
    let up = Up::start();
    let name = up.linked_machine()["name"].as_str().unwrap().to_owned();
    up.cordon(&["assign", &name, "--tier", "0"]).unwrap();
    let said = up.cordon(&["policy", "mode", "act"]).unwrap();
    assert!(said.contains("mode is now act (policy of revision 2)"), "{said}");
    let before = up.packet_rules();
    assert!(up.cordon(&["undo", &name, "--reason", "nothing was done"]).is_err());
    let attack = Attack::new("undo");
    assert!(up.inside(attack.program()).status().unwrap().success());
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
    assert_eq!(up.packet_rules(), before, "as it was, to the byte");
    // What people ordered is people's to take back.
    up.cordon(&["isolate", &name, "--reason", "a person wants it"]).unwrap();
    eventually("the isolation is verified", || {
        (up.json(&["machines"])[0]["truth"] == "verified").then_some(())
    });
    let said = up.cordon(&["undo", &name, "--reason", "not mine"]).unwrap_err();
    assert!(said.contains("people ordered") && said.contains("cordon release"), "{said}");
    let said = up.cordon(&["strike-off", &name, "--reason", "stolen"]).unwrap_err();
    assert!(said.contains("it is cut off (segment). That stays so"), "{said}");
    let release = ["release", &name, "--reason", "test over", "--despite", "a test"];
    let said = up.cordon(&release).unwrap();
    println!("{said}");
    assert!(said.contains("RELEASED: shown by 1 of 1 machines"), "{said}");
    assert_eq!(up.packet_rules(), before);
}

/// Law 4: a command does not call done what a machine that froze can't do.
#[test]
fn an_order_for_a_machine_that_is_not_in_contact_is_said_to_wait() {
    if lacks_root("`cordon isolate`") {
        return;
    }
    let up = Up::start();
    let name = up.linked_machine()["name"].as_str().unwrap().to_owned();
    let agent = up.role("agent").unwrap();
    kill(agent, Signal::SIGSTOP).unwrap();
    eventually("the machine is silent", || {
        (up.json(&["machines"])[0]["is_linked"] == false).then_some(())
    });
    let said = up.cordon(&["isolate", &name, "--reason", "test"]).unwrap_err();
    println!("{said}");
    assert!(said.contains("is signed; it WAITS: the machine is not in contact"), "{said}");
    assert!(!said.contains("on its way") && !said.contains("VERIFIED"), "{said}");
    let unwatched = ["isolate", &name, "--reason", "test", "--no-wait"];
    assert!(up.cordon(&unwatched).is_ok(), "ordered is all that was asked for");
    kill(agent, Signal::SIGCONT).unwrap();
    eventually("it is carried out when the machine is back", || {
        (up.json(&["machines"])[0]["truth"] == "verified").then_some(())
    });
    // What opens it says so, and is what was asked for.
    let full = ["isolate", &name, "--mode", "full", "--reason", "test"];
    assert!(up.cordon(&full).unwrap().contains("VERIFIED"));
    let milder = up.cordon(&["isolate", &name, "--reason", "test", "--preview"]).unwrap();
    assert!(milder.contains("this OPENS what full cuts and segment does not"), "{milder}");
    assert!(milder.contains("(tier not said: treated as clinical):"), "{milder}");
    // Nobody can isolate a machine of tier 3: what to do then is said.
    up.cordon(&["assign", &name, "--tier", "3"]).unwrap();
    let refused = up.cordon(&["isolate", &name, "--mode", "full", "--reason", "test"]).unwrap_err();
    assert!(refused.contains("tier 3: life-sustaining: this will be refused"), "{refused}");
    assert!(refused.contains("Nothing is cut. Ring the clinical lead"), "{refused}");
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
    // The signer, which holds the keys, reaches no network, not even this one's loopback.
    let network =
        |role: &str| fs::read_link(format!("/proc/{}/ns/net", up.role(role).unwrap())).unwrap();
    assert_ne!(network("signer"), network("hub"));
    let output = up.inside("ss").arg("-Hltun").output().unwrap();
    let listening = String::from_utf8(output.stdout).unwrap();
    for line in listening.lines() {
        let local = line.split_whitespace().nth(4).unwrap();
        assert!(local.starts_with("127.") || local.starts_with("[::1]"), "{line}");
    }
    // A busy machine does not delay them, and every thread has a place of its own.
    // Fields after the name in brackets: state is 0, nice 16 (proc_pid_stat(5)).
    let nice = |stat: &Path| -> i32 {
        let stat = fs::read_to_string(stat).unwrap();
        stat.rsplit(')').next().unwrap().split_whitespace().nth(16).unwrap().parse().unwrap()
    };
    let ours = nice(Path::new("/proc/self/stat"));
    for role in ["hub", "signer", "agent"] {
        for thread in fs::read_dir(format!("/proc/{}/task", up.role(role).unwrap())).unwrap() {
            let theirs = nice(&thread.unwrap().path().join("stat"));
            // The signer's hashing of codes goes behind others.
            assert!(theirs == ours - 5 || theirs == ours + 5, "{role}: {theirs} from {ours}");
        }
    }
    // No other user reads a role's state.
    for role in ["hub", "signer", "agent", "helper"] {
        let mode = fs::metadata(up.state.path().join(role)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{role}");
    }
}

#[test]
fn a_hub_takes_as_many_links_as_the_system_allows_and_not_a_services_thousand() {
    let state = tempfile::tempdir().unwrap();
    let at = |name: &str| state.path().join(name);
    // As systemd starts it: few files, and leave to have more. Nobody is its signer, for whom it waits.
    let mut hub = std::process::Command::new("sh")
        .args(["-c", "ulimit -Sn 256 && exec \"$@\"", "sh"])
        .arg(cordon_tests::cordon())
        .args(["role", "hub", "--organisation", "RJ1", "--name", "Test"])
        .args(["--link", "127.0.0.1:0", "--enrol", "127.0.0.1:0", "--console", "127.0.0.1:0"])
        .arg("--directory")
        .arg(at("hub"))
        .arg("--signer")
        .arg(at("signer.sock"))
        .arg("--control")
        .arg(at("hub.sock"))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let limits = format!("/proc/{}/limits", hub.id());
    let raised = eventually_or_gone(&mut hub, || {
        let limits = fs::read_to_string(&limits).ok()?;
        let line = limits.lines().find(|line| line.starts_with("Max open files"))?;
        let words: Vec<&str> = line.split_whitespace().collect();
        (words[3] == words[4] && words[3] != "256").then_some(())
    });
    let _ = hub.kill();
    let _ = hub.wait();
    assert!(raised, "its soft limit is its hard one");
}

/// Whether it came while the process lived.
fn eventually_or_gone(
    process: &mut std::process::Child,
    mut look: impl FnMut() -> Option<()>,
) -> bool {
    while process.try_wait().unwrap().is_none() {
        if look().is_some() {
            return true;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    false
}
