//! A machine is off while people order one thing and then another: when it is back the last order is carried
//! out, and those before it never are. Shown by packets, from the moment that its rules are back.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cordon_tests::{End, HUBS_ADDRESS, Hospital, eventually, lacks_root};
use nix::sys::signal::Signal;

/// A service that *full* cuts and *segment* does not.
const WEB: u16 = 8080;
/// One that both cut.
const SMB: u16 = 445;

fn at(port: u16) -> SocketAddr {
    SocketAddr::new(HUBS_ADDRESS.parse().unwrap(), port)
}

/// Services beside the hub, which take whoever comes.
fn serve(hospital: &Hospital) {
    for port in [WEB, SMB] {
        let bound = hospital.on_a_thread(End::Hub, move || TcpListener::bind(at(port)).unwrap());
        let listener = bound.join().unwrap();
        std::thread::spawn(move || while listener.accept().is_ok() {});
    }
}

fn is_open(port: u16) -> bool {
    TcpStream::connect_timeout(&at(port), Duration::from_secs(5)).is_ok()
}

fn reaches(hospital: &Hospital, port: u16) -> bool {
    hospital.on_a_thread(End::Machine, move || is_open(port)).join().unwrap()
}

/// All that was ordered for the machine, the newest first: its id, and what is said of it.
fn ordered(hospital: &Hospital) -> Vec<(String, String)> {
    let list = hospital.at_hub(&["measure", "list", "ct-2"]).unwrap_or_default();
    let mut all: Vec<(String, String)> = Vec::new();
    for line in list.lines() {
        match (line.strip_prefix("    "), all.last_mut()) {
            (Some(more), Some((_, said))) => *said += &format!(": {more}"),
            _ => {
                let (id, said) = line.split_once(' ').unwrap();
                all.push((id.to_owned(), said.trim().to_owned()));
            }
        }
    }
    all
}

#[test]
fn of_what_was_ordered_while_a_machine_was_off_the_last_is_in_force_and_no_other_ever_was() {
    if lacks_root("a hub and a machine, each in a network of its own,") {
        return;
    }
    let mut hospital = Hospital::build("aw");
    hospital.start_hub();
    hospital.start_machine();
    serve(&hospital);
    let linked = |hospital: &Hospital| Some(hospital.machine()?["is_linked"] == true);
    eventually("it is linked", || linked(&hospital)?.then_some(()));
    assert!(reaches(&hospital, WEB) && reaches(&hospital, SMB), "before");
    hospital.at_hub(&["isolate", "ct-2", "--mode", "segment", "--reason", "test"]).unwrap();
    assert!(reaches(&hospital, WEB) && !reaches(&hospital, SMB), "segment");

    // Switched off: agent and helper are gone, and all that the kernel held.
    hospital.end(End::Machine, Signal::SIGTERM);
    assert!(hospital.rules().contains("table inet cordon"), "what is isolated stays so");
    let wiped = hospital.inside(End::Machine, "nft").args(["flush", "ruleset"]).status();
    assert!(wiped.unwrap().success());
    assert!(reaches(&hospital, SMB), "the kernel has forgotten it");
    eventually("the hub sees that it is away", || (!linked(&hospital)?).then_some(()));

    // Meanwhile people change their minds; and the hub is restarted, so that nobody remembers but disks.
    let isolate = |mode: &str| {
        let words = ["isolate", "ct-2", "--mode", mode, "--reason", "test", "--no-wait"];
        hospital.at_hub(&words).unwrap();
    };
    isolate("full");
    let release = ["release", "ct-2", "--reason", "it was nothing", "--despite", "a test"];
    hospital.at_hub(&[&release[..], &["--no-wait"]].concat()).unwrap();
    isolate("segment");
    let (last, said) = ordered(&hospital).remove(0);
    assert!(said.contains("isolate (segment)"), "{said}");
    hospital.end(End::Hub, Signal::SIGTERM);

    // Switched on, out of the hub's reach: what was in force before is, from its own disk.
    hospital.start_machine();
    eventually("its rules are back", || {
        (hospital.rules().contains("table inet cordon") && !reaches(&hospital, SMB)).then_some(())
    });
    // From here on somebody tries both services all the while.
    let is_over = Arc::new(AtomicBool::new(false));
    let ends = Arc::clone(&is_over);
    let trying = hospital.on_a_thread(End::Machine, move || {
        let (mut tries, mut web_cut, mut smb_open) = (0u32, 0u32, 0u32);
        while !ends.load(Ordering::Relaxed) {
            tries += 1;
            web_cut += u32::from(!is_open(WEB));
            smb_open += u32::from(is_open(SMB));
            std::thread::sleep(Duration::from_millis(1));
        }
        (tries, web_cut, smb_open)
    });
    hospital.start_hub();
    eventually("the last order is shown to be in force", || {
        let all = ordered(&hospital);
        let (id, said) = all.first()?;
        (*id == last && said.starts_with("verified")).then_some(())
    });
    eventually("and the hub shows the machine so", || hospital.is_isolated("segment"));
    is_over.store(true, Ordering::Relaxed);
    let (tries, web_cut, smb_open) = trying.join().unwrap();
    println!("{tries} tries of each service while the orders came");
    assert!(tries > 20, "{tries}");
    assert_eq!(web_cut, 0, "the superseded full isolation was never done");
    assert_eq!(smb_open, 0, "nor was the superseded release");

    let all = ordered(&hospital);
    println!("{all:#?}");
    // A release that was never sent leaves nothing behind that it could be listed as.
    let [_, (_, full), (_, first)] = &all[..] else { panic!("three: {all:#?}") };
    assert!(full.contains("isolate (full): superseded before it was delivered"), "{full}");
    assert!(first.starts_with("superseded"), "{first}");

    // And it goes on from there: a newer word is obeyed.
    hospital.at_hub(&release).unwrap();
    assert!(reaches(&hospital, SMB) && reaches(&hospital, WEB), "released");
}
