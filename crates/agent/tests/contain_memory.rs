//! What a helper does whose memory is lost: with the table, without it, and with the floor as well.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own tools fail the test")]

mod contain_world;

use contain_world::PEER;
use contain_world::bench::{Bench, LEASE, assert_refused, dial, echo, last};
use cordon_agent::contain::door::{DoorAnswer, DoorAsk, Opened, Unopened, ask};
use cordon_agent::contain::protocol::{Answer, Ask, Refusal};
use cordon_code::{Code, MasterKey, slow_hash};
use cordon_model::action::{Action, FilePath, FileTarget};
use cordon_model::asset::ClinicalTier;
use cordon_model::break_glass::{Brake, BreakGlass, Hashing};
use cordon_model::finding::Level;
use cordon_model::ids::{FindingId, PermitId};
use cordon_model::measure::{Isolation, MeasureState};
use cordon_model::order::{Instruction, Order, Permit};
use cordon_model::signed::seal;
use cordon_model::time::UtcNanos;

const MEMORY: [&str; 2] = ["state.cbor", "state.previous"];
const FLOOR: [&str; 2] = ["floor.cbor", "floor.previous"];

/// A machine that was isolated, released, and isolated again; and the order to release it, recorded.
fn isolated_again(bench: &mut Bench) -> Order {
    bench.isolate(Isolation::Full);
    let release = bench.order(Instruction::Release);
    assert!(matches!(bench.give(&release), Answer::Obeyed(_)));
    bench.isolate(Isolation::Full);
    assert!(bench.is_cut_off());
    release
}

fn rot(bench: &Bench, names: &[&str]) {
    for name in names {
        std::fs::write(bench.folder.path().join("state").join(name), b"rotten").unwrap();
    }
}

#[test]
fn a_recorded_release_opens_nothing_though_the_memory_rots() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let recorded = isolated_again(&mut bench);
    bench.kill();
    rot(&bench, &MEMORY);
    bench.start();
    let status = bench.status();
    assert!(status.is_unaccounted_for && status.in_force.is_none());
    assert_eq!(status.last_order, 3, "the floor is where it was");
    assert_refused(&bench.give(&recorded), Refusal::NotObeyed, "sequence");
    assert!(bench.is_cut_off(), "what is in the kernel stays");
    // A new one is obeyed.
    let release = bench.order(Instruction::Release);
    assert!(matches!(bench.give(&release), Answer::Obeyed(_)));
    assert!(!bench.is_cut_off() && !bench.status().is_unaccounted_for);
}

#[test]
fn what_nobody_can_account_for_is_left_in_force_at_every_start_until_an_order_says_more() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    isolated_again(&mut bench);
    lose_the_memory(&mut bench);
    for _ in 0..2 {
        // The memory is whole by now, and knows of no isolation.
        bench.kill();
        bench.start();
        assert!(bench.is_cut_off(), "no start opens it");
        assert!(bench.status().is_unaccounted_for, "and it is said");
    }
    let release = bench.order(Instruction::Release);
    assert!(matches!(bench.give(&release), Answer::Obeyed(_)));
    bench.kill();
    bench.start();
    assert!(!bench.is_cut_off() && !bench.status().is_unaccounted_for);
}

#[test]
fn a_measure_of_another_kind_does_not_account_for_an_isolation() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    isolated_again(&mut bench);
    lose_the_memory(&mut bench);
    bench.assign(1, Some(ClinicalTier::None));
    let path = FilePath::new(bench.folder.path().join("absent").as_os_str().as_encoded_bytes());
    let action = Action::Quarantine(FileTarget { path, sha256: None });
    let order = bench.order(Instruction::begin(action, LEASE));
    assert!(matches!(bench.give(&order), Answer::Obeyed(_)));
    assert!(bench.status().is_unaccounted_for);
    bench.kill();
    bench.start();
    assert!(bench.is_cut_off() && bench.status().is_unaccounted_for);
    // An isolation does: from then on it is known what is in the kernel, and why.
    bench.isolate(Isolation::Segment);
    assert!(bench.is_cut_off() && !bench.status().is_unaccounted_for);
}

#[test]
fn a_memory_that_an_administrator_moved_away_takes_no_old_order_either() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let recorded = isolated_again(&mut bench);
    bench.kill();
    bench.world.machine.nft("delete table inet cordon");
    for name in MEMORY {
        std::fs::remove_file(bench.folder.path().join("state").join(name)).unwrap();
    }
    bench.start();
    let status = bench.status();
    assert!(!status.is_unaccounted_for && status.in_force.is_none(), "{status:?}");
    bench.assign(2, Some(ClinicalTier::None));
    assert_refused(&bench.give(&recorded), Refusal::NotObeyed, "sequence");
    assert_eq!(bench.isolate(Isolation::Segment).state, MeasureState::Verified);
}

/// For whoever has neither hub nor code: the very words of the guide.
#[test]
fn the_guides_steps_by_hand_open_a_machine_that_stays_open_and_obeys_its_hub_again() {
    let guide = include_str!("../../../docs/3am.md");
    let after = guide.split_once("### No code can be had: by hand").unwrap().1;
    let steps = after.split_once("\n## ").unwrap().0;
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    echo(&bench.world, PEER, 8080);
    let opens = |bench: &Bench| dial(&bench.world, PEER, 8080).is_ok();
    let closing = bench.order(Instruction::isolate(Isolation::Full, LEASE));
    assert!(matches!(bench.give(&closing), Answer::Obeyed(_)) && !opens(&bench));

    bench.kill();
    assert!(!opens(&bench), "that the helper is gone opens nothing");
    let command = steps.lines().map(str::trim).find(|line| line.starts_with("nft ")).unwrap();
    let words: Vec<&str> = command.split(' ').collect();
    bench.world.machine.run(words[0], &words[1..]);
    let state = bench.folder.path().join("state");
    let (moves, leaves) = steps.split_once("Leave `pin.cbor`").unwrap();
    for name in MEMORY {
        assert!(moves.contains(&format!("`{name}`")), "{name}");
        std::fs::rename(state.join(name), bench.folder.path().join(name)).unwrap();
    }
    for name in FLOOR {
        assert!(leaves.contains(&format!("`{name}`")), "{name}");
    }
    assert!(opens(&bench));

    bench.start();
    let status = bench.status();
    assert!(status.in_force.is_none() && !status.is_unaccounted_for, "{status:?}");
    assert!(opens(&bench), "nothing is put back");
    bench.assign(2, Some(ClinicalTier::None));
    assert_refused(&bench.give(&closing), Refusal::NotObeyed, "sequence");
    assert!(opens(&bench), "nor by the order of before");
    assert_eq!(bench.isolate(Isolation::Full).state, MeasureState::Verified);
    assert!(!opens(&bench));
}

#[test]
fn a_floor_that_rots_is_written_anew_from_the_memory() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let recorded = isolated_again(&mut bench);
    bench.kill();
    rot(&bench, &FLOOR);
    bench.start();
    bench.kill();
    rot(&bench, &MEMORY);
    bench.start();
    assert_refused(&bench.give(&recorded), Refusal::NotObeyed, "sequence");
    assert!(bench.is_cut_off());
}

#[test]
fn with_neither_memory_nor_floor_nobody_is_obeyed_and_nothing_is_opened() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    isolated_again(&mut bench);
    bench.kill();
    rot(&bench, &MEMORY);
    rot(&bench, &FLOOR);
    let status = bench.spawn().wait().unwrap();
    assert!(!status.success(), "it says why, and does not serve");
    assert!(!bench.folder.path().join("helper.sock").exists());
    assert!(bench.is_cut_off());
}

#[test]
fn an_order_that_was_refused_is_not_obeyed_later_not_even_after_a_restart() {
    let Some(mut bench) = Bench::bare() else { return };
    bench.pin();
    let early = bench.order(Instruction::isolate(Isolation::Full, LEASE));
    assert_refused(&bench.give(&early), Refusal::NotObeyed, "no assignment");
    bench.kill();
    bench.start();
    bench.assign(1, Some(ClinicalTier::None));
    assert_refused(&bench.give(&early), Refusal::NotObeyed, "sequence");
    assert!(!bench.is_cut_off());
}

/// The helper dies, and all that it knew is lost but for whom it obeys and its floor.
fn lose_the_memory(bench: &mut Bench) {
    bench.kill();
    rot(bench, &MEMORY);
    bench.start();
}

fn in_ten_minutes() -> UtcNanos {
    UtcNanos::now().plus(std::time::Duration::from_secs(600))
}

#[test]
fn a_used_permit_is_no_good_again_though_the_memory_rots() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let permit = |number: u8| {
        let permit = Permit {
            id: PermitId::new(UtcNanos::now(), [number; 10]),
            organisation: "RJ1".parse().unwrap(),
            machine: bench.machine,
            level_at_least: Level::High,
            lease: LEASE,
            issued_at: UtcNanos::now(),
            expires_at: in_ten_minutes(),
        };
        let permit = seal(&permit, &bench.key).unwrap();
        let finding = FindingId::of("rule", "host", &[number; 32]);
        Ask::UsePermit { permit, finding, level: Level::Critical }
    };
    let (used, other) = (permit(1), permit(2));
    assert_eq!(last(bench.ask(used.clone())).state, MeasureState::Verified);
    bench.release();
    lose_the_memory(&mut bench);
    bench.assign(1, Some(ClinicalTier::None));
    assert_refused(&bench.ask(used), Refusal::Used, "used already");
    assert!(!bench.is_cut_off());
    assert_eq!(
        last(bench.ask(other)).state,
        MeasureState::Verified,
        "it defends itself all the same"
    );
}

#[test]
fn a_used_code_opens_nothing_though_the_memory_rots_and_the_others_do() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let machine = bench.machine;
    let code = |revision, number| -> Code {
        MasterKey::new([4; 32]).code(&"RJ1".parse().unwrap(), machine, revision, number)
    };
    let document = |revision| {
        let mut document = BreakGlass {
            organisation: "RJ1".parse().unwrap(),
            machine,
            revision,
            salt: [3; 16].into(),
            hashing: Hashing { memory_kib: 256, passes: 1, lanes: 1 },
            codes: Vec::new(),
            brake: Brake::DEFAULT,
            hold_off_seconds: 3_600,
            issued_at: UtcNanos::now(),
            expires_at: in_ten_minutes(),
        };
        let hash = |number| slow_hash(&document, &code(revision, number)).unwrap().into();
        document.codes = (1..=3).map(hash).collect();
        document
    };
    let (older, newest) = (document(1), document(2));
    let give = |bench: &Bench, document: &BreakGlass| {
        bench.ask(Ask::BreakGlass(seal(document, &bench.key).unwrap()))
    };
    let types = |bench: &Bench, revision, number| {
        let typed = DoorAsk::Code(code(revision, number).grouped().to_string());
        ask(&bench.folder.path().join("door.sock"), &typed).unwrap()
    };
    for document in [&older, &newest] {
        assert!(matches!(give(&bench, document), Answer::Obeyed(_)));
    }
    bench.isolate(Isolation::Full);
    assert!(matches!(types(&bench, 2, 1), DoorAnswer::Opened(Opened { code: 1, .. })));
    bench.isolate(Isolation::Full);
    lose_the_memory(&mut bench);
    assert!(bench.is_cut_off() && bench.status().is_unaccounted_for);
    assert_refused(&give(&bench, &older), Refusal::NotObeyed, "revision");
    assert!(matches!(give(&bench, &newest), Answer::Obeyed(_)));
    let DoorAnswer::Unopened(Unopened { why, .. }) = types(&bench, 2, 1) else { panic!() };
    assert!(why.contains("used before"), "{why}");
    assert!(bench.is_cut_off());
    // Whoever has another one is not locked out.
    assert!(matches!(types(&bench, 2, 3), DoorAnswer::Opened(Opened { code: 3, .. })));
    assert!(!bench.is_cut_off());
    // And once more: what was used since is no good either.
    lose_the_memory(&mut bench);
    bench.assign(1, Some(ClinicalTier::None));
    assert!(matches!(give(&bench, &newest), Answer::Obeyed(_)));
    bench.isolate(Isolation::Full);
    assert!(matches!(types(&bench, 2, 3), DoorAnswer::Unopened(_)));
    assert!(matches!(types(&bench, 2, 1), DoorAnswer::Unopened(_)));
    assert!(bench.is_cut_off());
}

#[test]
fn an_older_assignment_does_not_come_back_though_the_memory_rots() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    bench.assign(2, Some(ClinicalTier::Clinical));
    lose_the_memory(&mut bench);
    let older = seal(&bench.assignment(1, Some(ClinicalTier::None)), &bench.key).unwrap();
    assert_refused(&bench.ask(Ask::Assignment(older)), Refusal::NotObeyed, "revision");
    bench.assign(2, Some(ClinicalTier::Clinical));
    assert_eq!(bench.status().assignment, 2);
}

#[test]
fn what_cannot_be_written_beside_the_memory_is_not_done() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    // Where the floor is written first, a folder stands in the way.
    let in_the_way = bench.folder.path().join("state/floor.new");
    std::fs::create_dir(&in_the_way).unwrap();
    let order = bench.order(Instruction::isolate(Isolation::Full, LEASE));
    assert_refused(&bench.give(&order), Refusal::Unable, "disk");
    assert!(!Refusal::Unable.is_final(), "its hub is not told to give it up");
    assert!(!bench.is_cut_off() && bench.status().in_force.is_none());
    std::fs::remove_dir(&in_the_way).unwrap();
    assert!(matches!(bench.give(&order), Answer::Obeyed(_)), "and it was not used up");
    assert!(bench.is_cut_off());
}
