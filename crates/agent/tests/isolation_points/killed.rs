//! Point 1: one atomic transaction. Killed at any instant: the old state or the new, nothing between.
//!
//! Answers Velociraptor on Linux, which puts about ten `nft` commands one after another. Here the real
//! helper is let run to each of its system calls in turn and killed there, in everything that changes
//! the kernel. What is then in the kernel is the old table to the last expression, or the new one; and a
//! helper that is started again ends in what is meant, and never takes a step back on its way there.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;

use cordon_agent::contain::door::{self, DoorAsk};
use cordon_agent::contain::nft::{Expression, Table};
use cordon_agent::contain::protocol::{Answer, Ask, MESSAGE_BYTES, Request};
use cordon_agent::contain::table::{InForce, Tables};
use cordon_link::frame::blocking as frame;
use cordon_model::asset::{ClinicalTier, Lifeline, PortRange};
use cordon_model::measure::{Isolation, MeasureState};
use cordon_model::order::{Instruction, Lease, Order};

use crate::contain_world::bench::{Bench, LEASE};
use crate::contain_world::traced::{Ran, Traced, await_gate};
use crate::contain_world::until;

/// What makes the helper change the kernel.
pub enum Trigger {
    /// It is given an order.
    Order(Box<Order>),
    /// The agent asks for something else.
    Ask(Box<Ask>),
    /// Somebody types a code.
    Code(String),
    /// Somebody wipes all rules.
    Wipe,
    /// It is started.
    Start,
}

/// A deed to be cut short.
pub struct Deed {
    /// The helper's folder as it was before.
    folder: tempfile::TempDir,
    /// The kernel's table as it was before.
    pub before: Option<Table>,
    trigger: Trigger,
    /// The table that it ends in, as an uninterrupted run left it.
    pub after: Option<Table>,
}

fn kernel(bench: &Bench) -> Option<InForce> {
    bench.world.machine.inside(|| Tables::open().unwrap().read_back().unwrap())
}

pub fn table(bench: &Bench) -> Option<Table> {
    kernel(bench).map(|in_force| in_force.table)
}

/// What the usual tool lists, with the handles that change when rules are put there again.
fn rule_handles(bench: &Bench) -> String {
    bench.world.machine.run("nft", &["-a", "list", "ruleset"])
}

fn put(bench: &Bench, table: Option<Table>) {
    bench.world.machine.inside(move || {
        let mut tables = Tables::open().unwrap();
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

/// The same table whatever the measure is called: a step-down's gets its name when it happens.
fn unnamed(table: Option<Table>) -> Option<Table> {
    table.map(|mut table| {
        for step in table.chains.iter_mut().flat_map(|chain| &mut chain.rules).flatten() {
            if let Expression::Comment(label) = step {
                label.truncate(label.find(", measure").unwrap());
            }
        }
        table
    })
}

#[track_caller]
fn is_same(table: &Option<Table>, new: &Option<Table>, what: &str, call: usize) {
    let labels = [table, new].map(|table| table.as_ref().map(Table::label));
    assert!(table == new, "{what}, call {call}: neither the old nor the new: {labels:?}");
}

impl Deed {
    /// Takes the helper's folder and the kernel's table as they are now.
    pub fn of(bench: &mut Bench, trigger: Trigger) -> Self {
        bench.kill();
        let folder = tempfile::tempdir().unwrap();
        let before = table(bench);
        copy(&bench.folder.path().join("state"), folder.path());
        let mut deed = Self { folder, before, trigger, after: None };
        deed.restore(bench);
        let (mut traced, _told) = deed.begin(bench);
        traced.run_to(usize::MAX, || deed.looks_done(bench), |_| {});
        traced.kill();
        deed.after = table(bench);
        assert_ne!(deed.before, deed.after, "a deed that changes nothing tries nothing");
        deed
    }

    fn restore(&self, bench: &mut Bench) {
        bench.kill();
        copy(self.folder.path(), &bench.folder.path().join("state"));
        put(bench, self.before.clone());
    }

    /// Starts the helper, stopped at the point from which the deed runs. What it is told through is kept
    /// open by the caller.
    fn begin(&self, bench: &mut Bench) -> (Traced, Option<UnixStream>) {
        if let Trigger::Start = self.trigger {
            let mut command = bench.command();
            command.env("CORDON_TEST_GATE", "shut").stdin(Stdio::piped());
            let mut process = command.spawn().unwrap();
            await_gate(&process);
            let mut gate = process.stdin.take().unwrap();
            let traced = Traced::seize(process);
            gate.write_all(&[1]).unwrap();
            return (traced, None);
        }
        bench.start();
        // Answered once, it is at rest again.
        let mut connection = bench.connect();
        connection.ask(Ask::Status);
        let traced = Traced::seize(bench.helper.take().unwrap());
        let asked = match &self.trigger {
            Trigger::Order(order) => Some(Ask::Order(bench.sealed(order))),
            Trigger::Ask(ask) => Some((**ask).clone()),
            Trigger::Code(typed) => {
                let mut door = UnixStream::connect(bench.folder.path().join("door.sock")).unwrap();
                let typed = DoorAsk::Code(typed.clone());
                frame::write(&mut door, &typed, door::MESSAGE_BYTES).unwrap();
                return (traced, Some(door));
            }
            Trigger::Wipe => {
                bench.world.machine.nft("flush ruleset");
                None
            }
            Trigger::Start => None,
        };
        if let Some(ask) = asked {
            let request = Request { id: 2, ask };
            frame::write(&mut connection.stream, &request, MESSAGE_BYTES).unwrap();
        }
        (traced, Some(connection.stream))
    }

    /// An order is worked off before the helper sleeps; a lease that has ended is found after a nap.
    fn looks_done(&self, bench: &Bench) -> bool {
        match self.trigger {
            Trigger::Order(_) | Trigger::Ask(_) => true,
            Trigger::Wipe => table(bench).is_some(),
            // It sleeps while the code is hashed beside it.
            Trigger::Code(_) => table(bench).is_none(),
            Trigger::Start => {
                let steps_down = self.before.is_some();
                !steps_down || table(bench) != self.before
            }
        }
    }

    /// Kills it at every call in turn, and says how many there were. Whatever was left, another helper ends in
    /// what is meant.
    fn is_cut_short_everywhere(&self, bench: &mut Bench, what: &str) {
        self.killed_at_every_call(bench, what, |deed, bench, left, call| {
            deed.is_finished_by_another(bench, left, what, call);
        });
    }

    /// The same, where another helper is started on what the killed one left, and `judge` is asked whether the
    /// kernel held the new state and at which call.
    pub fn is_cut_short(
        &self,
        bench: &mut Bench,
        what: &str,
        mut judge: impl FnMut(&mut Bench, bool, usize),
    ) {
        self.killed_at_every_call(bench, what, |deed, bench, left, call| {
            let was_new = left.as_ref().map(|left| left.table.clone()) == deed.after;
            bench.start();
            judge(bench, was_new, call);
        });
    }

    fn killed_at_every_call(
        &self,
        bench: &mut Bench,
        what: &str,
        mut judge: impl FnMut(&Self, &mut Bench, &Option<InForce>, usize),
    ) {
        let (mut stayed, mut changed) = (0, 0);
        for call in 1.. {
            self.restore(bench);
            let (mut traced, told) = self.begin(bench);
            let ran = traced.run_to(call, || self.looks_done(bench), |_| {});
            traced.kill();
            drop(told);
            let left = kernel(bench);
            let left_table = left.as_ref().map(|left| left.table.clone());
            // After a wipe the old state is none: that is what the wipe left.
            let old = if let Trigger::Wipe = self.trigger { None } else { self.before.clone() };
            if left_table == old {
                stayed += 1;
            } else {
                changed += 1;
                self.is_after(&left_table, what, call);
            }
            judge(self, bench, &left, call);
            if let Ran::ToTheEnd { calls } = ran {
                eprintln!(
                    "{what}: killed at each of {calls} system calls; {stayed} times the kernel held \
                     the old state, {changed} times the new"
                );
                assert!(stayed > 0 && changed > 0, "{what}: both sides of the change were tried");
                return;
            }
        }
    }

    fn is_after(&self, table: &Option<Table>, what: &str, call: usize) {
        if let Trigger::Start = self.trigger {
            is_same(&unnamed(table.clone()), &unnamed(self.after.clone()), what, call);
        } else {
            is_same(table, &self.after, what, call);
        }
    }

    /// A helper that is started on what the killed one left ends in what is meant.
    fn is_finished_by_another(
        &self,
        bench: &mut Bench,
        left: &Option<InForce>,
        what: &str,
        call: usize,
    ) {
        let was_new =
            unnamed(left.as_ref().map(|left| left.table.clone())) == unnamed(self.after.clone());
        let handles = rule_handles(bench);
        bench.start();
        if was_new {
            let now = rule_handles(bench);
            assert_eq!(now, handles, "{what}, call {call}: what was new already is left alone");
        }
        match &self.trigger {
            Trigger::Order(order) => {
                // Delivery is at least once: who got no answer asks again.
                let answer = bench.give(order);
                assert!(matches!(answer, Answer::Obeyed(_)), "{what}, call {call}: {answer:?}");
                assert_eq!(bench.status().last_order, order.sequence);
            }
            Trigger::Ask(_) | Trigger::Code(_) | Trigger::Wipe => {}
            Trigger::Start => {
                until(|| unnamed(table(bench)) == unnamed(self.after.clone()));
            }
        }
        self.is_after(&table(bench), what, call);
        let held = bench.status().in_force;
        assert_eq!(held.is_some(), self.after.is_some(), "{what}, call {call}");
        if let Some(held) = held {
            assert_eq!(held.state, MeasureState::Verified, "{what}, call {call}");
            let label = self.after.as_ref().unwrap().label().unwrap();
            assert!(label.starts_with(&format!("cordon: {}", held.isolation)), "{label}");
        }
    }
}

fn isolate(isolation: Isolation) -> Instruction {
    Instruction::isolate(isolation, LEASE)
}

/// A machine with so many lifelines that they are in sets.
fn machine() -> Option<Bench> {
    let bench = Bench::new(ClinicalTier::None)?;
    let mut assignment = bench.assignment(2, Some(ClinicalTier::None));
    let first = assignment.lifelines[0].clone();
    let more = [("10.80.0.0/24", 104), ("10.81.0.0/24", 104), ("10.80.7.7/32", 2575)];
    assignment.lifelines.extend(more.map(|(peer, port)| Lifeline {
        peer: peer.parse().unwrap(),
        ports: PortRange::one(port),
        ..first.clone()
    }));
    bench.reassign(&assignment);
    Some(bench)
}

/// Nothing → *full*.
#[test]
fn point_1_killed_anywhere_while_it_isolates_the_machine_is_open_or_isolated() {
    let Some(mut bench) = machine() else { return };
    let order = bench.order(isolate(Isolation::Full));
    let deed = Deed::of(&mut bench, Trigger::Order(Box::new(order)));
    assert_eq!(deed.before, None);
    deed.is_cut_short_everywhere(&mut bench, "isolating");
}

/// *Segment* → *full*: one set of rules takes the place of another.
#[test]
fn point_1_killed_anywhere_while_it_tightens_the_machine_is_never_open() {
    let Some(mut bench) = machine() else { return };
    bench.isolate(Isolation::Segment);
    let order = bench.order(isolate(Isolation::Full));
    let deed = Deed::of(&mut bench, Trigger::Order(Box::new(order)));
    deed.is_cut_short_everywhere(&mut bench, "tightening");
}

/// *Full* → nothing.
#[test]
fn point_1_killed_anywhere_while_it_releases_the_machine_is_isolated_or_free() {
    let Some(mut bench) = machine() else { return };
    bench.isolate(Isolation::Full);
    let order = bench.order(Instruction::Release);
    let deed = Deed::of(&mut bench, Trigger::Order(Box::new(order)));
    assert_eq!(deed.after, None);
    deed.is_cut_short_everywhere(&mut bench, "releasing");
}

/// *Full* → *segment* at the end of its lease, from the start of the helper on.
#[test]
fn point_1_killed_anywhere_while_it_steps_down_the_machine_is_never_open() {
    let Some(mut bench) = machine() else { return };
    let lease = Lease { seconds: 1, ..LEASE };
    let order = bench.order(Instruction::isolate(Isolation::Full, lease));
    bench.give(&order);
    bench.kill();
    // The lease ends while nobody counts it.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let deed = Deed::of(&mut bench, Trigger::Start);
    assert!(deed.before.is_some());
    deed.is_cut_short_everywhere(&mut bench, "stepping down");
}

/// Wiped by somebody → *full* again.
#[test]
fn point_1_killed_anywhere_while_it_puts_wiped_rules_back_they_are_there_whole_or_not_at_all() {
    let Some(mut bench) = machine() else { return };
    bench.isolate(Isolation::Full);
    let mut deed = Deed::of_wipe(&mut bench);
    deed.after.clone_from(&deed.before);
    deed.is_cut_short_everywhere(&mut bench, "putting back");
}

/// A machine that was switched off → *full* again.
#[test]
fn point_1_killed_anywhere_while_it_starts_on_an_empty_kernel_the_next_start_ends_it() {
    let Some(mut bench) = machine() else { return };
    bench.isolate(Isolation::Full);
    bench.kill();
    put(&bench, None);
    let deed = Deed::of(&mut bench, Trigger::Start);
    assert_eq!(deed.before, None);
    deed.is_cut_short_everywhere(&mut bench, "starting again");
}

impl Deed {
    fn of_wipe(bench: &mut Bench) -> Self {
        bench.kill();
        let folder = tempfile::tempdir().unwrap();
        copy(&bench.folder.path().join("state"), folder.path());
        Self { folder, before: table(bench), trigger: Trigger::Wipe, after: None }
    }
}
