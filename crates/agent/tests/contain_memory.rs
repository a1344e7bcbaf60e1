//! What a helper does whose memory is lost: with the table, without it, and with the floor as well.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own tools fail the test")]

mod contain_world;

use contain_world::bench::{Bench, LEASE, assert_refused};
use cordon_agent::contain::protocol::{Answer, Refusal};
use cordon_model::asset::ClinicalTier;
use cordon_model::measure::{Isolation, MeasureState};
use cordon_model::order::{Instruction, Order};

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
