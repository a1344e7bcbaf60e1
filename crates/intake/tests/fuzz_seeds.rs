//! The fuzzers' seeds as plain tests, so that what a fuzzer once found stays found.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test states what it expects"
)]

mod support;

use std::io::Cursor;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use cordon_intake::{Item, Reading, read};
use cordon_model::event::{FieldTable, Source};
use support::{TestLog, process_starts};

fn seeds_of(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target)
}

/// Every prefix of every seed, in steps: a cut file is the commonest damage.
fn run_seeds(target: &str) -> usize {
    let fields = FieldTable::default();
    let reading = Reading { fields: &fields, every_value: true, assumed: Source::default() };
    let mut records = 0;
    for seed in std::fs::read_dir(seeds_of(target)).unwrap() {
        let bytes = std::fs::read(seed.unwrap().path()).unwrap();
        let step = (bytes.len() / 200).max(1);
        for cut in (0..bytes.len()).step_by(step).chain([bytes.len()]) {
            let _ = read(Cursor::new(&bytes[..cut]), false, &reading, &mut |item| {
                records += usize::from(matches!(item, Item::Record(_)));
                ControlFlow::Continue(())
            });
        }
    }
    records
}

#[test]
fn every_evtx_seed_is_survived_whole_and_cut() {
    assert!(run_seeds("intake_evtx") > 0);
}

#[test]
fn every_json_seed_is_survived_whole_and_cut() {
    assert!(run_seeds("intake_json") > 0);
}

/// The seeds that are written by a program are what that program writes today. With `UPDATE_SEEDS=1` they
/// are written anew.
#[test]
fn written_seeds_are_up_to_date() {
    let cut = |log: TestLog, last: u64| {
        let mut bytes = log.bytes();
        // The unused rest of the last chunk is nothing to start from.
        bytes.truncate(log.place_of(last).1);
        bytes
    };
    let mut torn = cut(process_starts(1, 4), 4);
    let (second, _) = process_starts(1, 4).place_of(2);
    torn[second] = 0;
    for (name, bytes) in [("whole.evtx", cut(process_starts(1, 3), 3)), ("torn.evtx", torn)] {
        let path = seeds_of("intake_evtx").join(name);
        if std::env::var_os("UPDATE_SEEDS").is_some() {
            std::fs::write(&path, &bytes).unwrap();
        }
        assert!(std::fs::read(&path).unwrap() == bytes, "{name} is stale: run with UPDATE_SEEDS=1");
    }
}
