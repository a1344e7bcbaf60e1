//! Rules that somebody changes while no helper runs to notice it: put back at its next start, and counted on the
//! disk until the hub has heard of it.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own tools fail the test")]

mod contain_world;

use contain_world::PEER;
use contain_world::bench::{Bench, LEASE};
use cordon_model::action::{Action, Blocked, BlockedPeer};
use cordon_model::asset::ClinicalTier;
use cordon_model::measure::{Isolation, MeasureState};
use cordon_model::order::{Instruction, Lease};

/// Starts it again after this was done meanwhile; how many changes it knows of by then.
fn meanwhile(bench: &mut Bench, script: &str) -> u64 {
    bench.kill();
    if !script.is_empty() {
        bench.world.machine.nft(script);
    }
    bench.start();
    bench.status().unwatched.total
}

fn block(bench: &mut Bench) {
    let peer = BlockedPeer::Network(format!("{PEER}/32").parse().unwrap());
    let action = Action::Block(Blocked { peer, transport: None, ports: None, direction: None });
    assert_eq!(bench.begin(action, LEASE).state, MeasureState::Verified);
}

#[test]
fn what_is_wiped_while_no_helper_runs_is_counted_and_not_forgotten() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    bench.isolate(Isolation::Full);
    let mut expected = 0;
    for script in [
        "flush ruleset",
        "delete table inet cordon",
        "flush chain inet cordon input",
        "insert rule inet cordon output accept",
    ] {
        expected += 1;
        assert_eq!(meanwhile(&mut bench, script), expected, "{script}");
        assert!(bench.is_cut_off(), "{script}: put back");
        assert!(bench.status().unwatched.noticed.is_some());
        assert_eq!(meanwhile(&mut bench, ""), expected, "{script}: known, and counted once");
    }
    // Each of the two tables by itself.
    block(&mut bench);
    assert_eq!(meanwhile(&mut bench, "flush ruleset"), expected + 2);
    assert_eq!(meanwhile(&mut bench, "delete table inet cordon-blocks"), expected + 3);
}

#[test]
fn what_is_changed_from_here_or_gone_with_a_restart_of_the_machine_is_nobodys_doing() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    assert_eq!(meanwhile(&mut bench, "flush ruleset"), 0, "there was nothing");
    bench.isolate(Isolation::Segment);
    bench.isolate(Isolation::Full);
    block(&mut bench);
    assert_eq!(meanwhile(&mut bench, ""), 0);
    bench.assign(2, Some(ClinicalTier::Supports));
    assert_eq!(meanwhile(&mut bench, "add table inet other"), 0);
    // One that is noticed at once is told with the name of who did it, and is none of these.
    bench.world.machine.nft("flush ruleset");
    contain_world::until(|| bench.status().wiped == 2);
    assert_eq!(meanwhile(&mut bench, ""), 0);
    let step_down = Lease { seconds: 1, ..LEASE };
    let order = bench.order(Instruction::isolate(Isolation::Full, step_down));
    bench.give(&order);
    contain_world::until(|| bench.status().in_force.unwrap().isolation == Isolation::Segment);
    assert_eq!(meanwhile(&mut bench, ""), 0);
    bench.begin_boot("another");
    assert_eq!(meanwhile(&mut bench, "flush ruleset"), 0, "a boot begins with none");
    bench.release();
    assert_eq!(meanwhile(&mut bench, ""), 0);
}
