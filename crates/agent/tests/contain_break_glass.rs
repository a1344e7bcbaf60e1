//! One-time codes at a real helper: with nobody in reach, by an ordinary user, against a real kernel.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own tools fail the test")]

mod contain_world;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use contain_world::bench::{Bench, LEASE, assert_refused, last};
use contain_world::codes::{code, document};
use cordon_agent::contain::door::{DoorAnswer, DoorAsk, Opened, Seen, Unopened, ask};
use cordon_agent::contain::protocol::{Answer, Ask, Event, Refusal};
use cordon_link::frame::blocking as frame;
use cordon_model::asset::ClinicalTier;
use cordon_model::finding::Level;
use cordon_model::ids::{FindingId, MachineId, PermitId};
use cordon_model::measure::{Isolation, MeasureState, Origin};
use cordon_model::order::{Instruction, Permit};
use cordon_model::signed::seal;
use cordon_model::time::UtcNanos;

/// Somebody who owns nothing here.
const PERSON: u32 = 1_234;
const OTHER_PERSON: u32 = 1_235;
/// What a program types that only knocks.
const CROWD: &str = "crowd";

fn give_codes(bench: &Bench, revision: u64) -> Answer {
    let sealed = seal(&document(bench.machine, revision), &bench.key).unwrap();
    bench.ask(Ask::BreakGlass(sealed))
}

/// A machine that is cut off in full and has codes; others than root may come to its door.
fn cut_off() -> Option<Bench> {
    let mut bench = Bench::new(ClinicalTier::None)?;
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(bench.folder.path(), open).unwrap();
    assert!(matches!(give_codes(&bench, 1), Answer::Obeyed(_)));
    bench.isolate(Isolation::Full);
    assert!(bench.is_cut_off());
    Some(bench)
}

/// Not a test: somebody at the keyboard, as a user of their own.
#[test]
fn the_person_at_the_machine() {
    let Ok(door) = std::env::var("CORDON_TEST_DOOR") else { return };
    let typed = std::env::var("CORDON_TEST_TYPED").unwrap();
    if typed == CROWD {
        // Connections that say nothing, until whoever started this has seen enough.
        let crowd: Vec<_> = (0..50).map(|_| UnixStream::connect(&door).unwrap()).collect();
        println!("ANSWER {}", crowd.len());
        let _ = std::io::stdin().read(&mut [0]);
        return;
    }
    let ask_for = if typed.is_empty() { DoorAsk::Look } else { DoorAsk::Code(typed) };
    let answer = ask(door.as_ref(), &ask_for).unwrap();
    println!("ANSWER {}", serde_json::to_string(&answer).unwrap());
}

fn person(bench: &Bench, user: u32, typed: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "the_person_at_the_machine", "--nocapture"])
        .env("CORDON_TEST_DOOR", bench.folder.path().join("door.sock"))
        .env("CORDON_TEST_TYPED", typed)
        .uid(user)
        .gid(user);
    command
}

fn as_user(bench: &Bench, user: u32, typed: &str) -> DoorAnswer {
    let output = person(bench, user, typed).stderr(Stdio::inherit()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find_map(|line| line.split_once("ANSWER ")).unwrap().1;
    serde_json::from_str(line).unwrap()
}

fn types(bench: &Bench, number: u8) -> DoorAnswer {
    as_user(bench, PERSON, &code(bench.machine, 1, number).grouped())
}

#[track_caller]
fn why(answer: DoorAnswer) -> String {
    match answer {
        DoorAnswer::Unopened(Unopened { why, .. }) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn anybody_at_the_machine_opens_it_by_a_code_with_nobody_in_reach() {
    let Some(bench) = cut_off() else { return };
    // No agent, no hub, and no network at all.
    bench.world.machine.run("ip", &["link", "set", &bench.world.link(), "down"]);
    let DoorAnswer::Seen(seen) = as_user(&bench, PERSON, "") else { panic!() };
    let expected = Seen {
        name: Some("ward 7".into()),
        isolation: Some(Isolation::Full),
        unused_codes: Some(3),
        pause_seconds: 0,
        ring: Vec::new(),
    };
    assert_eq!(seen, expected);
    let opened = types(&bench, 2);
    assert_eq!(
        opened,
        DoorAnswer::Opened(Opened { code: 2, is_proven: true, hold_off_seconds: 3_600 })
    );
    assert!(!bench.is_cut_off(), "the kernel's rules are gone");
    // What is told once somebody listens again: the opening, and the end of what was in force.
    let Answer::Obeyed(receipts) = bench.ask(Ask::Listen) else { panic!() };
    let told: Vec<_> = receipts
        .receipts
        .iter()
        .rev()
        .take(2)
        .map(|receipt| (receipt.action.isolation().unwrap(), receipt.state.clone()))
        .collect();
    assert_eq!(
        told,
        [(Isolation::Full, MeasureState::Released), (Isolation::Watch, MeasureState::Verified)]
    );
    let opening = &receipts.receipts[receipts.receipts.len() - 2];
    assert_eq!(opening.origin, Origin::BreakGlass { revision: 1, code: 2 });
    assert!(opening.proof.as_ref().unwrap().holds() && opening.lease_ends.is_some());
}

#[test]
fn a_code_opens_once_and_kill_9_does_not_bring_it_back() {
    let Some(mut bench) = cut_off() else { return };
    assert!(matches!(types(&bench, 1), DoorAnswer::Opened(_)));
    bench.kill();
    bench.start();
    assert!(!bench.is_cut_off(), "it stays open");
    // People isolate it again: the code that was used opens nothing.
    bench.isolate(Isolation::Full);
    assert!(why(types(&bench, 1)).contains("used before"));
    assert!(bench.is_cut_off());
    // Neither does the same document, given once more.
    assert_refused(&give_codes(&bench, 1), Refusal::NotObeyed, "not above 1");
    assert!(why(types(&bench, 1)).contains("used before"));
    assert!(matches!(types(&bench, 3), DoorAnswer::Opened(_)), "another one does");
}

#[test]
fn after_a_code_only_people_isolate_again() {
    let Some(mut bench) = cut_off() else { return };
    assert!(matches!(types(&bench, 1), DoorAnswer::Opened(_)));
    let now = UtcNanos::now();
    let permit = Permit {
        id: PermitId::new(now, [8; 10]),
        organisation: "RJ1".parse().unwrap(),
        machine: bench.machine,
        level_at_least: Level::High,
        lease: LEASE,
        issued_at: now,
        expires_at: now.plus(std::time::Duration::from_secs(600)),
    };
    let finding = FindingId::of("r", "h", &[1; 32]);
    let use_it = Ask::UsePermit {
        permit: seal(&permit, &bench.key).unwrap(),
        finding,
        level: Level::Critical,
    };
    assert_refused(&bench.ask(use_it.clone()), Refusal::NotObeyed, "only people");
    bench.kill();
    bench.start();
    assert_refused(&bench.ask(use_it), Refusal::NotObeyed, "only people");
    assert!(!bench.is_cut_off());
    let isolate = bench.order(Instruction::isolate(Isolation::Full, LEASE));
    assert_eq!(last(bench.give(&isolate)).state, MeasureState::Superseded);
    assert!(bench.is_cut_off());
}

#[test]
fn guessing_is_held_up_over_restarts_and_seen_and_root_is_not_held_up() {
    let Some(mut bench) = cut_off() else { return };
    // Well-formed, and of another machine: no slip, a guess.
    let foreign = MachineId::new(UtcNanos::from_unix_nanos(0), [9; 10]);
    let guess = code(foreign, 1, 1);
    let mut agent = bench.connect();
    agent.ask(Ask::Listen);
    for _ in 0..2 {
        assert!(why(as_user(&bench, PERSON, &guess.grouped())).contains("does not open"));
        agent.event(|event| *event == Event::WrongCode);
    }
    bench.kill();
    bench.start();
    assert!(why(as_user(&bench, PERSON, &guess.grouped())).contains("wait 24 hours"));
    let status = bench.status();
    assert_eq!((status.wrong_codes.total, status.wrong_codes.user), (3, Some(PERSON)));
    assert!(status.wrong_codes.pause_seconds > 0);
    bench.kill();
    bench.begin_boot("another");
    bench.start();
    // The right code too, and whoever types it; until the pause is over in running time.
    assert!(
        why(as_user(&bench, OTHER_PERSON, &code(bench.machine, 1, 1).grouped())).contains("wait")
    );
    assert!(bench.is_cut_off());
    assert!(matches!(
        as_user(&bench, 0, &code(bench.machine, 1, 1).grouped()),
        DoorAnswer::Opened(Opened { code: 1, .. })
    ));
}

#[test]
fn a_slip_of_the_tongue_costs_no_try() {
    let Some(bench) = cut_off() else { return };
    let right = code(bench.machine, 1, 1).characters();
    let slip = if right.starts_with('A') { "B" } else { "A" };
    for typed in
        [format!("{slip}{}", &right[1..]), right[..15].to_owned(), format!("{}0", &right[..15])]
    {
        for _ in 0..3 {
            let told = why(as_user(&bench, PERSON, &typed));
            assert!(!told.contains("wait"), "{told}");
        }
    }
    assert_eq!(bench.status().wrong_codes.total, 0);
    assert!(matches!(types(&bench, 1), DoorAnswer::Opened(_)));
}

#[test]
fn codes_that_the_pinned_key_did_not_sign_or_that_are_anothers_are_not_taken() {
    let Some(bench) = Bench::new(ClinicalTier::None) else { return };
    let thief = ed25519_dalek::SigningKey::from_bytes(&[66; 32]);
    let forged = seal(&document(bench.machine, 1), &thief).unwrap();
    assert_refused(&bench.ask(Ask::BreakGlass(forged)), Refusal::NotGenuine, "pinned key");
    let other = MachineId::new(UtcNanos::from_unix_nanos(0), [9; 10]);
    let foreign = seal(&document(other, 1), &bench.key).unwrap();
    assert_refused(&bench.ask(Ask::BreakGlass(foreign)), Refusal::NotObeyed, "another machine");
    // What would take a gibibyte at each try.
    let mut hungry = document(bench.machine, 1);
    hungry.hashing.memory_kib = 1 << 20;
    let hungry = seal(&hungry, &bench.key).unwrap();
    assert_refused(&bench.ask(Ask::BreakGlass(hungry)), Refusal::NotObeyed, "bear");
    assert_eq!(bench.status().break_glass, 0);
}

#[test]
fn the_door_takes_nothing_but_codes_and_a_crowd_does_not_close_it() {
    let Some(bench) = cut_off() else { return };
    let door = bench.folder.path().join("door.sock");
    let hung_up = |stream: &mut UnixStream| stream.read(&mut [0; 64]).unwrap_or(0) == 0;
    // What the agent may ask is not understood here.
    let mut stream = UnixStream::connect(&door).unwrap();
    let status = cordon_agent::contain::protocol::Request { id: 1, ask: Ask::Status };
    frame::write(&mut stream, &status, 1 << 20).unwrap();
    assert!(hung_up(&mut stream));
    // A length above the cap.
    let mut stream = UnixStream::connect(&door).unwrap();
    stream.write_all(&u32::MAX.to_be_bytes()).unwrap();
    assert!(hung_up(&mut stream));
    // A program that knocks all the time has two places, and others come in.
    let mut crowd = person(&bench, OTHER_PERSON, CROWD);
    let mut crowd = crowd.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(crowd.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("ANSWER 50")));
    assert!(matches!(types(&bench, 1), DoorAnswer::Opened(_)));
    drop(crowd.stdin.take());
    assert!(crowd.wait().unwrap().success());
    // Who says nothing is sent away.
    let mut stream = UnixStream::connect(&door).unwrap();
    assert!(hung_up(&mut stream));
    assert!(matches!(bench.ask(Ask::Status), Answer::Status(_)), "the agent was served all along");
}

#[test]
fn a_machine_that_is_not_cut_off_uses_up_no_code() {
    let Some(mut bench) = cut_off() else { return };
    bench.release();
    for _ in 0..5 {
        assert!(why(types(&bench, 1)).contains("not cut off"));
    }
    bench.isolate(Isolation::Segment);
    assert!(matches!(types(&bench, 1), DoorAnswer::Opened(Opened { code: 1, .. })));
    assert!(!bench.is_cut_off());
}
