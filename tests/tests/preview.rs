//! Before an act its preview, as its user sees it: what a measure would stop and leave alone, and the typed yes
//! before a machine is cut off on which care may depend.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};

use cordon_tests::{End, Hospital, Up, Where, eventually, lacks_programs, lacks_root};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A process with a group of its own, which is ended with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let group = i32::try_from(self.0.id()).unwrap_or(i32::MAX);
        let _ = kill(Pid::from_raw(-group), Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

#[test]
fn a_measure_is_previewed_with_what_it_would_hit_and_what_is_spared_and_nothing_is_done() {
    if lacks_root("a preview of a measure") {
        return;
    }
    let up = Up::start();
    let name = up.linked_machine()["name"].as_str().unwrap().to_owned();
    let folder = tempfile::tempdir().unwrap();
    let viewer = folder.path().join("viewer");
    fs::copy("/bin/sleep", &viewer).unwrap();
    let path = viewer.to_str().unwrap();
    up.cordon(&["assign", &name, "--called", &name, "--tier", "2", "--protect", path]).unwrap();

    // A shell, a plain program below it, and one that care needs.
    let script = format!("/bin/sleep 1001 & {path} 1002 & wait");
    let tree =
        Running(Command::new("/bin/sh").args(["-c", &script]).process_group(0).spawn().unwrap());
    let pid = tree.0.id().to_string();
    let preview = |words: &[&str]| {
        up.cordon(&[&["measure"], words, &["--preview"]].concat()).unwrap_or_else(|said| said)
    };
    for (kind, verb) in [("freeze", "stand still"), ("kill", "then end")] {
        let said = eventually("the tree is whole", || {
            let said = preview(&[kind, &name, "--pid", &pid]);
            (said.contains(&format!("{path} 1002: ")) && said.contains("sleep 1001"))
                .then_some(said)
        });
        let stops: Vec<&str> = said.lines().filter(|line| line.starts_with("  stops")).collect();
        assert!(stops.len() == 2 && stops[1].contains("sleep 1001"), "{said}");
        for told in [
            verb,
            "spares process",
            "protected for care",
            "ring whoever is at it first",
            "nothing is ordered",
            &format!("spared there: {path}"),
        ] {
            assert!(said.contains(told), "{told:?} is not in {said}");
        }
    }
    // Its own target.
    let of_viewer = eventually("the viewer runs", || {
        let children = format!("/proc/{pid}/task/{pid}/children");
        let children = fs::read_to_string(children).ok()?;
        let is_it =
            |pid: &&str| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == viewer);
        children.split_whitespace().find(is_it).map(str::to_owned)
    });
    let said = preview(&["freeze", &name, "--pid", &of_viewer]);
    assert!(said.contains("REFUSED") && said.contains("protected for care"), "{said}");

    // Files and programs.
    let file = folder.path().join("dropper");
    fs::write(&file, b"twelve bytes").unwrap();
    let said = preview(&["quarantine", &name, file.to_str().unwrap()]);
    assert!(said.contains("dropper (12 bytes)"), "{said}");
    let said = preview(&["quarantine", &name, path]);
    assert!(said.contains("REFUSED") && said.contains("protected for care"), "{said}");
    let said = preview(&["quarantine", &name, "/no/such/file"]);
    assert!(said.contains("REFUSED"), "{said}");
    let said = preview(&["deny", &name, "--path", file.to_str().unwrap()]);
    assert!(said.contains("dropper") && said.contains("What runs already goes on"), "{said}");

    // Peers and accounts.
    let said = preview(&["block", &name, "192.0.2.7"]);
    assert!(said.contains("no connection with it is open now"), "{said}");
    let said = preview(&["disable-account", &name, "root"]);
    assert!(said.contains("REFUSED") && said.contains("root is never disabled"), "{said}");
    let said = preview(&["disable-account", &name, "daemon"]);
    assert!(said.contains("stops  signing in as daemon"), "{said}");

    let list = up.cordon(&["measure", "list", &name]).unwrap();
    assert!(list.contains("no measure was ever ordered"), "{list}");
    let missing = up.cordon(&["measure", "freeze", &name, "--pid", &pid]).unwrap_err();
    assert!(missing.contains("--reason"), "an order says why: {missing}");
}

#[test]
fn what_was_used_lately_and_is_idle_is_said_to_stop_before_a_machine_is_cut_off() {
    if lacks_root("a preview of an isolation") {
        return;
    }
    let up = Up::start();
    let machine = up.linked_machine();
    let name = machine["name"].as_str().unwrap().to_owned();
    let senses =
        |gap: &serde_json::Value| gap["what"] == "outgoing TCP connections" && gap["by"].is_null();
    if machine["gaps"].as_array().is_some_and(|gaps| gaps.iter().any(senses)) {
        cordon_tests::cannot_be_had("what was used lately needs eBPF, which sees connections");
        return;
    }
    // A cable with nobody at its end (RFC 5737).
    for words in [
        "link add cable type veth peer name end",
        "addr add 192.0.2.1/24 dev cable",
        "link set cable up",
        "link set end up",
    ] {
        assert!(up.inside("ip").args(words.split(' ')).status().unwrap().success(), "ip {words}");
    }
    let dicom = "DICOM to the PACS=outbound tcp 192.0.2.9 11112";
    up.cordon(&["assign", &name, "--called", &name, "--tier", "1", "--lifeline", dicom]).unwrap();
    for to in ["192.0.2.7/9100", "192.0.2.9/11112"] {
        let dial = format!("exec 3<>/dev/tcp/{to}");
        let _ = up.inside("timeout").args(["1", "bash", "-c", &dial]).status().unwrap();
    }
    let preview = ["isolate", &name, "--mode", "full", "--reason", "test", "--preview"];
    let said = eventually("it is idle", || {
        let said = up.cordon(&preview).unwrap();
        said.contains("printing stops (nothing is open now; last used").then_some(said)
    });
    let lives = "DICOM to the PACS goes on (nothing is open now; last used";
    assert!(said.contains(lives), "{said}");
}

/// `/etc` of a test's own, with a queue on another machine and one at a cable of this one. Nobody prints now, so no
/// connection shows the queue: only CUPS's own file does, which the helper reads.
#[test]
fn a_print_queue_that_nobody_prints_to_now_is_said_to_stop() {
    if lacks_root("a mount namespace") {
        return;
    }
    let state = tempfile::tempdir().unwrap();
    fs::set_permissions(state.path(), PermissionsExt::from_mode(0o755)).unwrap();
    for name in ["hosts", "resolv.conf", "nsswitch.conf"] {
        fs::copy(format!("/etc/{name}"), state.path().join(name)).unwrap();
    }
    let up = Up::start_on(state, Where::OwnNames, &[]);
    let name = up.linked_machine()["name"].as_str().unwrap().to_owned();
    up.cordon(&["assign", &name, "--called", &name, "--tier", "1"]).unwrap();
    let preview = || {
        let words = ["isolate", &name, "--mode", "full", "--reason", "test", "--preview"];
        up.cordon(&words).unwrap()
    };
    let before = preview();
    assert!(!before.contains("the print queue ward-7"), "{before}");

    let etc = up.state.path().join("etc");
    let lay = "cp -a /etc/. \"$0\" && mkdir -p \"$0/cups\" && mount --bind \"$0\" /etc";
    fs::create_dir(&etc).unwrap();
    assert!(up.inside("sh").args(["-c", lay]).arg(&etc).status().unwrap().success());
    let queues = "<Printer ward-7>\nDeviceURI ipp://user:secret@192.0.2.21/ipp/print\n</Printer>\n\
                  <Printer desk>\nDeviceURI usb://Maker/Desk\n</Printer>\n";
    fs::write(etc.join("cups/printers.conf"), queues).unwrap();
    fs::set_permissions(etc.join("cups/printers.conf"), PermissionsExt::from_mode(0o600)).unwrap();
    let said = preview();
    assert!(said.contains("the print queue ward-7 stops"), "{said}");
    assert!(!said.contains("desk") && !said.contains("secret"), "{said}");
}

/// Before a person cuts a machine off in full, they read what of its work goes on and what stops, by its own
/// connections as they are: images to the PACS, and a print job.
#[test]
fn what_is_open_now_is_said_to_go_on_where_it_is_a_lifeline_and_else_to_stop() {
    if lacks_root("networks of our own") || lacks_programs(&["ip", "nft"]) {
        return;
    }
    let mut hospital = Hospital::build("pv");
    for server in ["10.78.0.7/24", "10.78.0.9/24"] {
        let mut add = hospital.inside(End::Hub, "ip");
        add.args(["addr", "add", server, "dev", &hospital.link(End::Hub)]);
        assert!(add.status().unwrap().success());
    }
    hospital.start_hub();
    hospital.start_machine();
    eventually("it is linked", || {
        (hospital.json(&["machines", "ct-2"])?["is_linked"] == true).then_some(())
    });
    let pacs = "DICOM to the PACS=outbound tcp 10.78.0.9 11112";
    hospital
        .at_hub(&["assign", "ct-2", "--called", "ct-2", "--tier", "2", "--lifeline", pacs])
        .unwrap();

    let serve = |address: &'static str| {
        hospital.on_a_thread(End::Hub, move || TcpListener::bind(address).unwrap()).join().unwrap()
    };
    let (_pacs, _printer) = (serve("10.78.0.9:11112"), serve("10.78.0.7:9100"));
    let dial = |address: &'static str| {
        hospital.on_a_thread(End::Machine, move || TcpStream::connect(address).unwrap())
    };
    let associations = [(); 3].map(|()| dial("10.78.0.9:11112").join().unwrap());
    let job = dial("10.78.0.7:9100").join().unwrap();

    let preview = ["isolate", "ct-2", "--mode", "full", "--reason", "test", "--preview"];
    let goes_on = "now    3 DICOM associations to the PACS go on (with one other)";
    let said = eventually("the lifeline is known there", || {
        hospital.at_hub(&preview).ok().filter(|said| said.contains(goes_on))
    });
    assert!(said.contains("now    1 connection to a printer stops (with one other)"), "{said}");
    // Nothing was done: all four are open still.
    for one in associations.iter().chain([&job]) {
        assert!(one.take_error().unwrap().is_none() && one.peer_addr().is_ok());
    }
    eventually("the hub knows that it is open", || {
        hospital.machine()?["isolation"].is_null().then_some(())
    });
}

/// Whether `what` can't be tried here for want of root, or of script(1), which makes terminals (util-linux).
fn lacks_a_terminal(what: &str) -> bool {
    lacks_root(what) || lacks_programs(&["script"])
}

#[test]
fn on_a_terminal_a_clinical_machine_is_cut_off_only_after_a_typed_yes() {
    if lacks_a_terminal("a typed yes") {
        return;
    }
    let up = Up::start();
    let name = up.linked_machine()["name"].as_str().unwrap().to_owned();
    let isolation = || up.json(&["machines"])[0]["isolation"].clone();
    let isolate = ["isolate", &name, "--mode", "segment", "--reason", "test"];

    eventually("it says that it is open", || isolation().is_null().then_some(()));
    // Nobody has said what depends on it.
    let said = up.on_a_terminal(&isolate, "y\n");
    assert!(
        said.contains("type yes to order this") && said.contains("nothing is ordered"),
        "{said}"
    );
    assert!(isolation().is_null());
    let said = up.on_a_terminal(&isolate, "yes\n");
    assert!(said.contains("stops") && said.contains("VERIFIED"), "{said}");
    assert_eq!(isolation(), "segment");

    // Asked neither with --yes, nor without a terminal, nor for less than everything where no care depends on it.
    let full = ["isolate", &name, "--mode", "full", "--reason", "test"];
    let said = up.on_a_terminal(&[&full[..], &["--yes"]].concat(), "");
    assert!(!said.contains("type yes") && said.contains("VERIFIED"), "{said}");
    let said = up.cordon(&isolate).unwrap();
    assert!(!said.contains("type yes") && said.contains("VERIFIED"), "{said}");
    up.cordon(&["assign", &name, "--called", &name, "--tier", "0"]).unwrap();
    let said = up.on_a_terminal(&isolate, "");
    assert!(!said.contains("type yes") && said.contains("VERIFIED"), "{said}");
    let said = up.on_a_terminal(&full, "no\n");
    assert!(said.contains("type yes") && said.contains("nothing is ordered"), "{said}");
}

#[test]
fn a_measure_shows_what_stops_before_it_is_ordered_and_what_is_not_brought_back_asks() {
    if lacks_a_terminal("a measure ordered on a terminal") {
        return;
    }
    let up = Up::start();
    let name = up.linked_machine()["name"].as_str().unwrap().to_owned();
    up.cordon(&["assign", &name, "--called", &name, "--tier", "0"]).unwrap();
    let start =
        || Running(Command::new("/bin/sleep").arg("1003").process_group(0).spawn().unwrap());
    let (frozen, mut ended) = (start(), start());
    let on = |kind: &'static str, of: &Running| {
        let pid = of.0.id().to_string();
        ["measure", kind, &name, "--pid", &pid, "--reason", "test"].map(str::to_owned)
    };
    let typed = |words: &[String], answer: &str| {
        up.on_a_terminal(&words.iter().map(String::as_str).collect::<Vec<_>>(), answer)
    };
    let said = typed(&on("freeze", &frozen), "");
    assert!(said.contains("  stops") && said.contains("sleep 1003"), "{said}");
    assert!(!said.contains("type yes") && said.contains("VERIFIED"), "{said}");
    let said = typed(&on("kill", &ended), "no\n");
    assert!(said.contains("type yes") && said.contains("nothing is ordered"), "{said}");
    assert!(ended.0.try_wait().unwrap().is_none(), "it was ended all the same");
    let said = typed(&on("kill", &ended), "yes\n");
    assert!(said.contains("is signed"), "{said}");
    assert!(ended.0.wait().is_ok());
}
