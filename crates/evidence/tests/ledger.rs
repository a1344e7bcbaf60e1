//! The ledger as a whole: it finds again what it acknowledged, and nothing in it can be altered unseen.

#![allow(clippy::unwrap_used, reason = "tests state expectations by unwrapping")]

use std::fs::{self, OpenOptions};
use std::path::Path;

use cordon_evidence::merkle::{leaf_hash, proves_consistency, proves_inclusion};
use cordon_evidence::{
    CHECKPOINTS_KEPT, Fault, Ledger, LedgerError, Report, SignedCheckpoint, verify,
};
use cordon_model::record::{Actor, Deed, Record};
use cordon_model::time::UtcNanos;
use ed25519_dalek::SigningKey;
use proptest::prelude::*;

const ORIGIN: &str = "cordon/RJ1/hub";

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn record(number: u64) -> Record {
    Record {
        at: UtcNanos::from_unix_nanos(1_700_000_000_000_000_000 + number as i64),
        organisation: "RJ1".parse().unwrap(),
        actor: Actor::Hub,
        deed: Deed::SignedIn,
        machine: None,
        incident: None,
        detail: format!("record {number}"),
    }
}

fn records(range: std::ops::Range<u64>) -> Vec<Record> {
    range.map(record).collect()
}

fn open(dir: &Path) -> Ledger {
    Ledger::open(dir, ORIGIN).unwrap().0
}

fn checkpoint(ledger: &mut Ledger) {
    let signed = ledger.checkpoint().sign(&key());
    ledger.keep(&signed).unwrap();
}

fn report(dir: &Path) -> Report {
    verify(dir, &key().verifying_key()).unwrap()
}

/// Ten records under a checkpoint, ten more under a second, five under none.
fn twenty_five(dir: &Path) {
    let mut ledger = open(dir);
    ledger.append_all(&records(0..10)).unwrap();
    checkpoint(&mut ledger);
    ledger.append_all(&records(10..20)).unwrap();
    checkpoint(&mut ledger);
    ledger.append_all(&records(20..25)).unwrap();
}

#[test]
fn what_was_appended_is_read_again_and_verifies() {
    let dir = tempfile::tempdir().unwrap();
    twenty_five(dir.path());
    let (ledger, recovery) = Ledger::open(dir.path(), ORIGIN).unwrap();
    assert_eq!(recovery.read_again, 5, "only what no checkpoint covers is read");
    assert_eq!(recovery.torn, None);
    let entries = ledger.read(0..100).unwrap();
    assert_eq!(entries.iter().map(|e| e.record.clone()).collect::<Vec<_>>(), records(0..25));
    assert_eq!(ledger.read(23..24).unwrap()[0].index, 23);
    let report = report(dir.path());
    assert!(report.is_sound(), "{report}");
    assert_eq!((report.records, report.covered, report.uncovered), (25, 20, 5));
    assert_eq!((report.checkpoints, report.root), (2, ledger.root()));
}

#[test]
fn its_proofs_hold() {
    let dir = tempfile::tempdir().unwrap();
    twenty_five(dir.path());
    let ledger = open(dir.path());
    let root = ledger.root();
    for index in 0..25 {
        let proof = ledger.inclusion_proof(index, 25).unwrap();
        let leaf = leaf_hash(&ledger.leaf(index).unwrap());
        assert!(proves_inclusion(&proof, index, leaf, 25, root));
    }
    for old in 0..=25 {
        let proof = ledger.consistency_proof(old, 25).unwrap();
        assert!(proves_consistency(&proof, (old, ledger.root_at(old).unwrap()), (25, root)));
    }
    assert!(matches!(ledger.inclusion_proof(25, 25), Err(LedgerError::OutOfRange { .. })));
    assert!(matches!(ledger.consistency_proof(3, 26), Err(LedgerError::OutOfRange { .. })));
}

#[test]
fn any_altered_byte_of_records_or_checkpoints_is_found() {
    let dir = tempfile::tempdir().unwrap();
    twenty_five(dir.path());
    for file in ["records", "checkpoints"] {
        let path = dir.path().join(file);
        let honest = fs::read(&path).unwrap();
        for at in 0..honest.len() {
            let mut altered = honest.clone();
            altered[at] ^= 0x20;
            fs::write(&path, &altered).unwrap();
            // A first line that is another format's is an error; everything else is a fault.
            let is_found = verify(dir.path(), &key().verifying_key())
                .map_or(true, |report| !report.is_sound());
            assert!(is_found, "{file}, byte {at}");
        }
        fs::write(&path, &honest).unwrap();
    }
    assert!(report(dir.path()).is_sound());
}

#[test]
fn the_altered_record_is_named_and_the_rest_is_read() {
    let dir = tempfile::tempdir().unwrap();
    twenty_five(dir.path());
    let path = dir.path().join("records");
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(8).position(|window| window == b"record 7").unwrap();
    bytes[at + 7] = b'8';
    fs::write(&path, &bytes).unwrap();
    let report = report(dir.path());
    assert!(matches!(report.faults.listed()[0], Fault::Damaged { record: 7, .. }), "{report}");
    assert!(report.faults.listed().contains(&Fault::Rewritten { from: 0, to: 10 }), "{report}");
    assert_eq!(report.records, 25);
}

/// Somebody who can write all four files and knows their forms, but has no key.
fn rewrite(dir: &Path, new: &[Record]) {
    for file in ["records", "nodes", "places"] {
        fs::remove_file(dir.join(file)).unwrap();
    }
    let checkpoints = fs::read(dir.join("checkpoints")).unwrap();
    fs::remove_file(dir.join("checkpoints")).unwrap();
    open(dir).append_all(new).unwrap();
    fs::write(dir.join("checkpoints"), checkpoints).unwrap();
}

#[test]
fn a_consistently_rewritten_ledger_is_found_by_its_checkpoints() {
    let mut altered = records(0..25);
    altered[13].detail = "nothing happened".into();
    let mut swapped = records(0..25);
    swapped.swap(3, 4);
    let mut removed = records(0..25);
    removed.remove(19);
    let mut inserted = records(0..25);
    inserted.insert(0, record(99));
    let cut = records(0..15);
    for (what, new, expected) in [
        ("altered", altered, Fault::Rewritten { from: 10, to: 20 }),
        ("swapped", swapped, Fault::Rewritten { from: 0, to: 10 }),
        ("removed", removed, Fault::Rewritten { from: 10, to: 20 }),
        ("inserted", inserted, Fault::Rewritten { from: 0, to: 10 }),
        ("cut", cut, Fault::Missing { have: 15, signed: 20 }),
    ] {
        let dir = tempfile::tempdir().unwrap();
        twenty_five(dir.path());
        rewrite(dir.path(), &new);
        let report = report(dir.path());
        assert_eq!(report.faults.listed(), [expected], "{what}");
        let opened = Ledger::open(dir.path(), ORIGIN);
        assert!(matches!(opened, Err(LedgerError::Altered { .. })), "{what}: opening refuses too");
    }
}

#[test]
fn a_checkpoint_by_another_key_is_found() {
    let dir = tempfile::tempdir().unwrap();
    twenty_five(dir.path());
    let other = SigningKey::from_bytes(&[8; 32]).verifying_key();
    let report = verify(dir.path(), &other).unwrap();
    assert_eq!((report.faults.count(), report.covered), (2, 0));
}

#[test]
fn a_torn_tail_is_cut_and_said_and_nothing_acknowledged_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    ledger.append_all(&records(0..3)).unwrap();
    drop(ledger);
    let path = dir.path().join("records");
    let acknowledged = fs::metadata(&path).unwrap().len();
    let mut ledger = open(dir.path());
    ledger.append(&record(3)).unwrap();
    drop(ledger);
    let length = fs::metadata(&path).unwrap().len();
    for cut in acknowledged + 1..length {
        OpenOptions::new().write(true).open(&path).unwrap().set_len(cut).unwrap();
        assert!(matches!(report(dir.path()).faults.listed(), [Fault::Tail { .. }]));
        let (mut ledger, recovery) = Ledger::open(dir.path(), ORIGIN).unwrap();
        assert_eq!(recovery.torn.unwrap().bytes, cut - acknowledged);
        assert_eq!(ledger.size(), 3);
        ledger.append(&record(3)).unwrap();
        drop(ledger);
        assert!(report(dir.path()).is_sound());
    }
}

#[test]
fn lost_or_false_derived_files_are_made_again() {
    let dir = tempfile::tempdir().unwrap();
    twenty_five(dir.path());
    let root = open(dir.path()).root();
    for damage in ["missing", "cut", "false"] {
        for file in ["nodes", "places"] {
            let path = dir.path().join(file);
            let mut bytes = fs::read(&path).unwrap();
            match damage {
                "missing" => bytes.clear(),
                "cut" => bytes.truncate(37),
                // The last 8 bytes below the second checkpoint, which covers 20 records.
                _ if file == "places" => bytes[19 * 8] ^= 1,
                _ => bytes[38 * 32 - 1] ^= 1,
            }
            fs::write(&path, bytes).unwrap();
            let ledger = open(dir.path());
            assert_eq!((ledger.size(), ledger.root()), (25, root), "{file} {damage}");
            assert_eq!(ledger.read(0..25).unwrap().len(), 25);
            drop(ledger);
            assert!(report(dir.path()).is_sound(), "{file} {damage}");
        }
    }
}

#[test]
fn a_checkpoint_that_a_crash_cut_is_removed_and_said() {
    let dir = tempfile::tempdir().unwrap();
    twenty_five(dir.path());
    let path = dir.path().join("checkpoints");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 5]).unwrap();
    let (ledger, recovery) = Ledger::open(dir.path(), ORIGIN).unwrap();
    assert!(recovery.torn_checkpoint_bytes > 0);
    assert_eq!(ledger.last_checkpoint().unwrap().unchecked().size, 10);
}

#[test]
fn checkpoints_beyond_the_limit_are_thinned_and_vouch_for_as_much() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    // As if so many had been kept: all of one size, which is allowed.
    ledger.append_all(&records(0..3)).unwrap();
    let note = ledger.checkpoint().sign(&key()).note().to_owned();
    drop(ledger);
    let many = format!("{note}\n").repeat(CHECKPOINTS_KEPT);
    fs::write(dir.path().join("checkpoints"), many).unwrap();
    let mut ledger = open(dir.path());
    ledger.append_all(&records(3..5)).unwrap();
    checkpoint(&mut ledger);
    ledger.append_all(&records(5..6)).unwrap();
    checkpoint(&mut ledger);
    drop(ledger);
    let report = report(dir.path());
    assert!(report.is_sound(), "{report}");
    assert_eq!((report.covered, report.checkpoints), (6, CHECKPOINTS_KEPT as u64 / 2 + 2));
    assert_eq!(open(dir.path()).size(), 6);
}

#[test]
fn only_a_checkpoint_of_these_records_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    twenty_five(dir.path());
    let mut ledger = open(dir.path());
    let mut other = ledger.checkpoint();
    other.root = leaf_hash(b"other");
    assert!(matches!(ledger.keep(&other.sign(&key())), Err(LedgerError::ForeignCheckpoint(_))));
    let mut foreign = ledger.checkpoint();
    foreign.origin = "cordon/RJ2/hub".into();
    assert!(matches!(ledger.keep(&foreign.sign(&key())), Err(LedgerError::ForeignCheckpoint(_))));
    let mut older = ledger.checkpoint();
    (older.size, older.root) = (10, ledger.root_at(10).unwrap());
    assert!(matches!(ledger.keep(&older.sign(&key())), Err(LedgerError::ForeignCheckpoint(_))));
    let note = ledger.checkpoint().sign(&key()).note().to_owned();
    ledger.keep(&SignedCheckpoint::parse(&note).unwrap()).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    /// Whatever the batches and wherever it is opened anew or checkpointed, the tree is the same.
    #[test]
    fn batches_reopenings_and_checkpoints_do_not_change_the_tree(
        steps in proptest::collection::vec((0u64..6, any::<bool>(), any::<bool>()), 1..12),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = open(dir.path());
        let mut size = 0;
        for (count, is_reopened, is_checkpointed) in steps {
            ledger.append_all(&records(size..size + count)).unwrap();
            size += count;
            if is_checkpointed {
                checkpoint(&mut ledger);
            }
            if is_reopened {
                drop(ledger);
                ledger = open(dir.path());
            }
        }
        let other = tempfile::tempdir().unwrap();
        let mut at_once = open(other.path());
        at_once.append_all(&records(0..size)).unwrap();
        prop_assert_eq!(ledger.root(), at_once.root());
        prop_assert!(report(dir.path()).is_sound());
    }
}
