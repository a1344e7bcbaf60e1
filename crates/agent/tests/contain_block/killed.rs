//! The helper is killed at each of its system calls in turn, in everything that changes blocks. What is then
//! in the kernel is the old table to the last expression, or the new one; and a helper that is started again
//! ends in what is meant.

use std::path::Path;

use cordon_agent::contain::action::block::TABLE;
use cordon_agent::contain::nft::Table;
use cordon_agent::contain::protocol::{Answer, Ask, MESSAGE_BYTES, Request};
use cordon_agent::contain::table::Tables;
use cordon_link::frame::blocking as frame;
use cordon_model::asset::ClinicalTier;
use cordon_model::measure::MeasureState;
use cordon_model::order::{Instruction, Order};

use crate::contain_world::bench::{Bench, LEASE};
use crate::contain_world::traced::{Ran, Traced};
use crate::contain_world::{PEER, PEER6};
use crate::{begin, block, receipt_of, table, whole};

/// More calls than any order takes: a deed that never ends fails instead of hanging.
const MOST_CALLS: usize = 5_000;

fn put(bench: &Bench, table: Option<Table>) {
    bench.world.machine.inside(move || {
        let mut tables = Tables::open_for(TABLE).unwrap();
        match table {
            Some(table) => tables.replace(&table).unwrap(),
            None => tables.remove().unwrap(),
        }
    });
}

fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let there = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &there);
        } else {
            std::fs::copy(entry.path(), there).unwrap();
        }
    }
}

/// An order to be cut short, on a machine as it is now.
struct Deed {
    folder: tempfile::TempDir,
    before: Option<Table>,
    order: Order,
    after: Option<Table>,
    /// Blocks that are held when all is done.
    held: usize,
}

impl Deed {
    fn of(bench: &mut Bench, instruction: Instruction, held: usize) -> Self {
        let order = bench.order(instruction);
        bench.kill();
        let folder = tempfile::tempdir().unwrap();
        copy(&bench.folder.path().join("state"), folder.path());
        let before = table(bench);
        let mut deed = Self { folder, before, order, after: None, held };
        deed.restore(bench);
        bench.start();
        assert!(matches!(bench.give(&deed.order), Answer::Obeyed(_)));
        deed.after = table(bench);
        assert_ne!(deed.before, deed.after, "a deed that changes nothing tries nothing");
        deed
    }

    fn restore(&self, bench: &mut Bench) {
        bench.kill();
        copy(self.folder.path(), &bench.folder.path().join("state"));
        put(bench, self.before.clone());
    }

    fn is_cut_short_everywhere(&self, bench: &mut Bench, what: &str) {
        let (mut stayed, mut changed) = (0, 0);
        for call in 1..MOST_CALLS {
            self.restore(bench);
            bench.start();
            let mut connection = bench.connect();
            connection.ask(Ask::Status);
            let mut traced = Traced::seize(bench.helper.take().unwrap());
            let request = Request { id: 2, ask: Ask::Order(bench.sealed(&self.order)) };
            frame::write(&mut connection.stream, &request, MESSAGE_BYTES).unwrap();
            let ran = traced.run_to(call, || true, |_| {});
            traced.kill();
            drop(connection);
            let left = table(bench);
            if left == self.before {
                stayed += 1;
            } else {
                assert!(left == self.after, "{what}, call {call}: neither the old nor the new");
                changed += 1;
            }
            self.is_finished_by_another(bench, what, call);
            if let Ran::ToTheEnd { calls } = ran {
                eprintln!(
                    "{what}: killed at each of {calls} system calls; {stayed} times the kernel held the \
                     old state, {changed} times the new"
                );
                assert!(stayed > 0 && changed > 0, "{what}: both sides of the change were tried");
                return;
            }
        }
        panic!("{what}: more than {MOST_CALLS} calls");
    }

    fn is_finished_by_another(&self, bench: &mut Bench, what: &str, call: usize) {
        bench.start();
        // Delivery is at least once: who got no answer asks again.
        let answer = bench.give(&self.order);
        assert!(matches!(answer, Answer::Obeyed(_)), "{what}, call {call}: {answer:?}");
        assert!(table(bench) == self.after, "{what}, call {call}: another ends in what is meant");
        let holds = bench.status().holds;
        assert_eq!(holds.len(), self.held, "{what}, call {call}: {holds:?}");
        for holding in holds {
            let receipt = receipt_of(answer.clone(), holding.measure);
            assert_eq!(receipt.state, MeasureState::Verified, "{what}, call {call}");
        }
    }
}

#[test]
fn killed_anywhere_while_it_blocks_the_peer_is_blocked_or_not() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let deed = Deed::of(&mut bench, begin(&whole(PEER), LEASE), 1);
    assert_eq!(deed.before, None);
    deed.is_cut_short_everywhere(&mut bench, "blocking");
}

#[test]
fn killed_anywhere_while_it_blocks_another_the_first_stays_blocked() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    block(&mut bench, &whole(PEER));
    let deed = Deed::of(&mut bench, begin(&whole(PEER6), LEASE), 2);
    assert!(deed.before.is_some());
    deed.is_cut_short_everywhere(&mut bench, "blocking another");
}

#[test]
fn killed_anywhere_while_it_takes_one_back_the_other_stays_blocked() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let measure = block(&mut bench, &whole(PEER));
    block(&mut bench, &whole(PEER6));
    let deed = Deed::of(&mut bench, Instruction::Undo { measure }, 1);
    deed.is_cut_short_everywhere(&mut bench, "taking one back");
}

#[test]
fn killed_anywhere_while_it_takes_the_last_back_the_rules_are_there_or_gone() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let measure = block(&mut bench, &whole(PEER));
    let deed = Deed::of(&mut bench, Instruction::Undo { measure }, 0);
    assert_eq!(deed.after, None);
    deed.is_cut_short_everywhere(&mut bench, "taking the last back");
}
