//! Point 5, over an upgrade: what an earlier version's helper kept on disk is taken up by this one. The
//! machine is cut off as it was, and what it must refuse it refuses still.
//!
//! The seeds are the files of a helper that held *full* when it ended, frozen: a change that can't read them
//! would open isolated machines at the upgrade, or leave them to nobody.

use std::path::{Path, PathBuf};

use cordon_agent::contain::disk::{Disk, Found};
use cordon_agent::contain::protocol::Refusal;
use cordon_model::asset::ClinicalTier;
use cordon_model::measure::{Isolation, MeasureState};
use cordon_model::order::Instruction;

use crate::contain_world::bench::{Bench, PACS_PORT, assert_refused, dial, echo, lives};
use crate::contain_world::wiretap::Wiretap;
use crate::contain_world::{PACS, PEER, PEER6, until};

/// With all that is kept today.
const WITH_FLOOR: &str = "with-floor";
/// Of before there were codes, guidance and a floor beside the memory.
const BEFORE_CODES: &str = "before-codes";
/// The fields that the memory got since, of the memory itself and of its core.
const SINCE_THEN: [&str; 5] = ["is_unaccounted_for", "glass", "guidance", "revisions", "releasing"];

/// The files of a helper's memory.
const FILES: [&str; 3] = ["pin.cbor", "state.cbor", "floor.cbor"];

fn seed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/isolation_points/seeds").join(name)
}

/// A machine, switched off, whose disk is that of the seed.
fn off_with(name: &str) -> Option<Bench> {
    let bench = Bench::off()?;
    let state = bench.folder.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let mut copied = 0;
    for file in FILES {
        copied += u32::from(std::fs::copy(seed(name).join(file), state.join(file)).is_ok());
    }
    assert!(copied >= 2, "the seed {name} is there");
    Some(bench)
}

#[test]
fn point_5_what_an_earlier_version_kept_is_in_force_after_the_upgrade_and_is_released() {
    for name in [BEFORE_CODES, WITH_FLOOR] {
        let Some(mut bench) = off_with(name) else { return };
        for (at, port) in [(PEER, 8080), (PEER6, 8080), (PACS, PACS_PORT)] {
            echo(&bench.world, at, port);
        }
        let mut live = [PEER, PEER6].map(|at| dial(&bench.world, at, 8080).unwrap());
        let mut pacs = dial(&bench.world, PACS, PACS_PORT).unwrap();
        assert!(live.iter_mut().all(lives) && lives(&mut pacs), "{name}: before");

        bench.begin_boot("after the upgrade");
        bench.start();
        let status = bench.status();
        let held = status.in_force.unwrap_or_else(|| panic!("{name}: it holds nothing"));
        assert_eq!(held.isolation, Isolation::Full, "{name}");
        assert!(!status.is_unaccounted_for, "{name}");
        until(|| bench.status().in_force.unwrap().state == MeasureState::Verified);
        let mut tap = Wiretap::on(&bench.world);
        assert!(!live.iter_mut().any(lives), "{name}: open sessions");
        for at in [PEER, PEER6] {
            assert!(dial(&bench.world, at, 8080).is_err(), "{name}: {at}");
        }
        assert_eq!(tap.settle_traffic(), [], "{name}");
        assert!(lives(&mut pacs), "{name}: the lifeline that it kept");

        // Its orders go on from where they were: the old ones are not good again, a newer one is obeyed.
        bench.machine = status.pinned.unwrap().1;
        assert_eq!(status.last_order, 2, "{name}");
        let replayed = bench.order(Instruction::Release);
        assert_eq!(replayed.sequence, 1);
        assert_refused(&bench.give(&replayed), Refusal::NotObeyed, "");
        assert!(bench.is_cut_off(), "{name}");
        bench.sequence = status.last_order;
        assert_eq!(bench.release().state, MeasureState::Released, "{name}");
        assert!(dial(&bench.world, PEER, 8080).is_ok(), "{name}: released");
        assert_eq!(bench.world.machine.ruleset(), "", "{name}");
    }
}

/// Makes the seed of today's form anew, and from it the one of before: only when no machine has the form
/// that is frozen here. A new form gets a seed beside these.
#[test]
#[ignore = "it writes the seeds that the other test reads"]
fn make_the_seeds() {
    let mut bench = Bench::new(ClinicalTier::Supports).unwrap();
    bench.isolate(Isolation::Segment);
    bench.isolate(Isolation::Full);
    bench.kill();
    let [now, before] = [WITH_FLOOR, BEFORE_CODES].map(seed);
    for folder in [&now, &before] {
        let _ = std::fs::remove_dir_all(folder);
        std::fs::create_dir_all(folder).unwrap();
    }
    for file in FILES {
        std::fs::copy(bench.folder.path().join("state").join(file), now.join(file)).unwrap();
    }
    std::fs::copy(now.join("pin.cbor"), before.join("pin.cbor")).unwrap();
    let Found::Whole(mut memory) =
        Disk::open(&now).unwrap().read::<ciborium::Value>("state").unwrap()
    else {
        panic!("the memory is not whole");
    };
    let without = |map: &mut Vec<(ciborium::Value, ciborium::Value)>| {
        map.retain(|(name, _)| !SINCE_THEN.iter().any(|since| name.as_text() == Some(*since)));
    };
    let kept = memory.as_map_mut().unwrap();
    without(kept);
    let core = kept.iter_mut().find(|(name, _)| name.as_text() == Some("core")).unwrap();
    without(core.1.as_map_mut().unwrap());
    Disk::open(&before).unwrap().write("state", &memory).unwrap();
}
