//! What the person in front of a machine is told by a real helper: in step with the kernel, through crash,
//! restart and release.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own tools fail the test")]

mod contain_world;

use contain_world::PEER;
use contain_world::bench::{Bench, LEASE, assert_refused};
use cordon_agent::contain::door::{DoorAnswer, DoorAsk, ask};
use cordon_agent::contain::protocol::{Answer, Ask, Refusal};
use cordon_model::action::{Action, Blocked, BlockedPeer};
use cordon_model::asset::ClinicalTier;
use cordon_model::guidance::{Contact, Guidance, Nearest};
use cordon_model::ids::MachineId;
use cordon_model::measure::Isolation;
use cordon_model::order::{Instruction, Lease};
use cordon_model::signed::seal;
use cordon_model::time::UtcNanos;

fn guidance(machine: MachineId, revision: u64, next: &str) -> Guidance {
    Guidance {
        organisation: "RJ1".parse().unwrap(),
        machine,
        revision,
        name: "CT 2".into(),
        kind: Some("CT console".into()),
        nearest: Some(Nearest { name: next.into(), group: None, place: Some("room 0.14".into()) }),
        instead: None,
        ring: vec![Contact { who: "Security operations".into(), number: "5555".into() }],
        issued_at: UtcNanos::now(),
    }
}

fn guide(bench: &Bench, revision: u64, next: &str) -> Answer {
    let sealed = seal(&guidance(bench.machine, revision, next), &bench.key).unwrap();
    bench.ask(Ask::Guidance(sealed))
}

/// What stands in the file now, and at the next login.
fn notice(bench: &Bench) -> Option<String> {
    // An answer comes after what was done for it was told.
    bench.status();
    let read = |path: &str| std::fs::read_to_string(bench.folder.path().join(path)).ok();
    let told = read("people/notice");
    assert_eq!(told, read("greetings/cordon"));
    told
}

#[test]
fn people_are_told_what_works_and_where_to_go_and_that_it_is_over() {
    let Some(mut bench) = Bench::new(ClinicalTier::Clinical) else { return };
    assert!(matches!(guide(&bench, 1, "CT 1"), Answer::Obeyed(_)));
    assert_eq!(notice(&bench), None, "nothing was ever cut");
    bench.isolate(Isolation::Segment);
    let told = notice(&bench).unwrap();
    for words in ["CT 2", "WAS CUT OFF", "DICOM to the PACS", "CT 1, room 0.14", "5555"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    // The hub says that another one is the next now; without a new isolation.
    assert!(matches!(guide(&bench, 2, "CT 3"), Answer::Obeyed(_)));
    assert!(notice(&bench).unwrap().contains("CT 3"));
    assert_refused(&guide(&bench, 1, "CT 1"), Refusal::NotObeyed, "not above 2");
    bench.release();
    let told = notice(&bench).unwrap();
    assert!(told.contains("open again since") && !told.contains("WAS CUT OFF"), "{told}");
}

#[test]
fn the_notice_is_in_step_with_the_kernel_after_a_crash_and_a_restart() {
    let Some(mut bench) = Bench::new(ClinicalTier::Clinical) else { return };
    // In what is only said to be another boot, all of this machine's running time is counted.
    let week = Lease { seconds: 7 * 24 * 3600, ..LEASE };
    let order = bench.order(Instruction::isolate(Isolation::Full, week));
    assert!(matches!(bench.give(&order), Answer::Obeyed(_)));
    let told = notice(&bench).unwrap();
    bench.kill();
    // A restart of the machine empties the kernel's rules and `/run`.
    bench.world.machine.nft("flush ruleset");
    for folder in ["people", "greetings"] {
        std::fs::remove_dir_all(bench.folder.path().join(folder)).unwrap();
    }
    bench.begin_boot("another");
    bench.start();
    assert!(bench.is_cut_off());
    assert_eq!(notice(&bench), Some(told), "since the same time");
    // Released, and killed before anybody read it.
    bench.release();
    bench.kill();
    bench.start();
    assert!(notice(&bench).unwrap().contains("open again"));
    // Cut off again: nothing of before is said any more.
    bench.isolate(Isolation::Full);
    assert!(notice(&bench).unwrap().contains("WAS CUT OFF"));
}

#[test]
fn nobody_is_told_that_all_is_as_before_while_something_else_is_stopped() {
    let Some(mut bench) = Bench::new(ClinicalTier::Clinical) else { return };
    bench.isolate(Isolation::Full);
    let peer = BlockedPeer::Network(format!("{PEER}/32").parse().unwrap());
    let blocked = Blocked { peer, transport: None, ports: None, direction: None };
    let action = Action::Block(blocked);
    let order = bench.order(Instruction::begin(action, LEASE));
    assert!(matches!(bench.give(&order), Answer::Obeyed(_)));
    assert!(notice(&bench).unwrap().contains("but for what was stopped on purpose"));
    bench.release();
    let told = notice(&bench).unwrap();
    assert!(told.contains("still stopped on purpose") && !told.contains("as before"), "{told}");
    let undo = bench.order(Instruction::Undo { measure: order.id.into() });
    assert!(matches!(bench.give(&undo), Answer::Obeyed(_)));
    let told = notice(&bench).unwrap();
    assert!(told.contains("works as before") && !told.contains("stopped"), "{told}");
}

#[test]
fn what_somebody_else_signed_is_not_told() {
    let Some(bench) = Bench::new(ClinicalTier::Clinical) else { return };
    let thief = ed25519_dalek::SigningKey::from_bytes(&[66; 32]);
    let forged = seal(&guidance(bench.machine, 1, "the thief's desk"), &thief).unwrap();
    assert_refused(&bench.ask(Ask::Guidance(forged)), Refusal::NotGenuine, "pinned key");
    let other = MachineId::new(UtcNanos::from_unix_nanos(0), [9; 10]);
    let foreign = seal(&guidance(other, 1, "CT 1"), &bench.key).unwrap();
    assert_refused(&bench.ask(Ask::Guidance(foreign)), Refusal::NotObeyed, "another machine");
}

#[test]
fn a_watch_cuts_nothing_and_tells_nobody() {
    let Some(mut bench) = Bench::new(ClinicalTier::Clinical) else { return };
    bench.isolate(Isolation::Watch);
    assert_eq!(notice(&bench), None);
}

#[test]
fn whoever_asks_for_a_code_is_told_whom_to_ring() {
    let Some(bench) = Bench::new(ClinicalTier::Clinical) else { return };
    let door = bench.folder.path().join("door.sock");
    let ring = || match ask(&door, &DoorAsk::Look).unwrap() {
        DoorAnswer::Seen(seen) => seen.ring,
        other => panic!("{other:?}"),
    };
    assert_eq!(ring(), [], "nobody was named");
    assert!(matches!(guide(&bench, 1, "CT 1"), Answer::Obeyed(_)));
    assert_eq!(ring(), guidance(bench.machine, 1, "CT 1").ring);
}
