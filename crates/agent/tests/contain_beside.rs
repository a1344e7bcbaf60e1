//! What takes long is done beside: meanwhile the helper puts wiped rules back and obeys, as if nothing were.
//!
//! No clock judges here. The thread that copies a file into the vault is **stopped in the middle of it** by
//! the kernel (ptrace), so that its copying has not ended for as long as the test likes.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own tools fail the test")]

mod contain_world;

use std::path::{Path, PathBuf};

use contain_world::bench::{Bench, LEASE, last};
use contain_world::until;
use cordon_agent::contain::protocol::{Answer, Ask, Event};
use cordon_model::action::{Action, FilePath, FileTarget};
use cordon_model::asset::ClinicalTier;
use cordon_model::ids::MeasureId;
use cordon_model::measure::{Isolation, MeasureState};
use cordon_model::order::Instruction;
use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// One thread of the helper, which runs only as far as the test lets it. It goes on when this is dropped.
struct Stopped(Pid);

impl Stopped {
    /// The helper's thread of this name.
    fn named(bench: &Bench, name: &str) -> Self {
        let process = bench.helper.as_ref().unwrap().id();
        let mut found = None;
        until(|| {
            let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
            found = tasks.flatten().find_map(|task| {
                let said = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
                (said.trim() == name).then(|| task.file_name().to_str().unwrap().parse().unwrap())
            });
            found.is_some()
        });
        let thread = Pid::from_raw(found.unwrap());
        ptrace::seize(thread, Options::PTRACE_O_TRACESYSGOOD).unwrap();
        ptrace::interrupt(thread).unwrap();
        waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap();
        Self(thread)
    }

    /// Lets it run from one system call to the next, until it is there.
    fn run_until(&self, is_there: impl Fn() -> bool) {
        while !is_there() {
            ptrace::syscall(self.0, None).unwrap();
            waitpid(self.0, Some(WaitPidFlag::__WALL)).unwrap();
        }
    }
}

/// As `kill -9` does, while one of its threads is stopped: it is not gone before whoever stopped that has seen it.
fn kill_with(bench: &mut Bench, stopped: Stopped) {
    bench.helper.as_mut().unwrap().kill().unwrap();
    let _ = waitpid(stopped.0, Some(WaitPidFlag::__WALL));
    bench.kill();
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = ptrace::detach(self.0, None);
    }
}

fn name(path: &Path) -> FilePath {
    FilePath::new(path.as_os_str().as_encoded_bytes())
}

/// A file of some MiB, what is in it, and its copying that is under way and stands still.
fn half_done(bench: &mut Bench) -> (PathBuf, Vec<u8>, MeasureId, Stopped) {
    let path = bench.folder.path().join("large");
    let content: Vec<u8> = (0..8_u32 << 20).map(|at| (at % 251) as u8).collect();
    std::fs::write(&path, &content).unwrap();
    let copies = Stopped::named(bench, "quarantine");
    let action = Action::Quarantine(FileTarget { path: name(&path), sha256: None });
    let order = bench.order(Instruction::begin(action, LEASE));
    let measure = order.id.into();
    assert!(matches!(bench.give(&order), Answer::Obeyed(_)), "the order is taken");
    let fresh = bench.folder.path().join(format!("state/vault/{measure}.new"));
    copies.run_until(|| std::fs::metadata(&fresh).is_ok_and(|copy| copy.len() > 1 << 20));
    (path, content, measure, copies)
}

#[test]
fn while_a_large_file_is_set_aside_a_wipe_is_put_right_and_an_order_to_isolate_is_obeyed() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let mut agent = bench.connect();
    agent.ask(Ask::Listen);
    let (path, _, measure, copies) = half_done(&mut bench);

    let order = bench.order(Instruction::isolate(Isolation::Full, LEASE));
    let isolated = last(agent.ask(Ask::Order(bench.sealed(&order))));
    assert_eq!((isolated.measure, isolated.state), (order.id.into(), MeasureState::Verified));
    assert!(path.exists(), "before the file was set aside");
    bench.world.machine.nft("flush ruleset");
    let wiped = agent.event(|event| matches!(event, Event::Wiped { .. }));
    assert!(matches!(wiped, Event::Wiped { restored: Some(_), .. }), "{wiped:?}");
    assert!(bench.is_cut_off());
    // A lease goes on too, and what is under way is said to be held.
    let short = cordon_model::order::Lease { seconds: 1, ..LEASE };
    let order = bench.order(Instruction::isolate(Isolation::Full, short));
    agent.ask(Ask::Order(bench.sealed(&order)));
    agent.receipt(|receipt| receipt.state == MeasureState::SteppedDown);
    assert!(bench.status().holds.iter().any(|held| held.measure == measure));
    assert_eq!(bench.release().state, MeasureState::Released);
    assert!(path.exists(), "all this before the file was set aside");

    drop(copies);
    let aside = agent.receipt(|receipt| receipt.measure == measure);
    assert_eq!(aside.state, MeasureState::Verified, "{aside:?}");
    assert!(!path.exists());
}

#[test]
fn taken_back_while_it_is_set_aside_it_is_where_it_was_in_the_end() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let mut agent = bench.connect();
    agent.ask(Ask::Listen);
    let (path, content, measure, copies) = half_done(&mut bench);
    let undo = bench.order(Instruction::Undo { measure });
    assert!(matches!(bench.give(&undo), Answer::Obeyed(_)));
    assert_eq!(bench.status().holds.len(), 1, "not taken for undone before it is");
    drop(copies);
    let receipt = agent.receipt(|receipt| receipt.measure == measure);
    assert_eq!(receipt.state, MeasureState::Released, "{receipt:?}");
    assert_eq!(std::fs::read(&path).unwrap(), content);
    assert!(bench.status().holds.is_empty());
}

#[test]
fn a_helper_killed_while_it_sets_a_file_aside_leaves_the_file_and_goes_on_after_its_start() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let (path, content, measure, copies) = half_done(&mut bench);
    kill_with(&mut bench, copies);
    assert_eq!(std::fs::read(&path).unwrap(), content, "the old state, whole");
    bench.start();
    let mut agent = bench.connect();
    agent.ask(Ask::Listen);
    let aside = agent.receipt(|receipt| receipt.measure == measure);
    assert_eq!(aside.state, MeasureState::Verified, "{aside:?}");
    assert!(!path.exists());
    let back = bench.undo(measure);
    assert_eq!(back.done, Vec::<String>::new(), "exactly");
    assert_eq!(std::fs::read(&path).unwrap(), content);
}

#[test]
fn what_may_not_be_set_aside_is_refused_and_not_first_taken_for_half_done() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let shell = std::fs::canonicalize("/bin/sh").unwrap();
    let copies = Stopped::named(&bench, "quarantine");
    let action = Action::Quarantine(FileTarget { path: name(&shell), sha256: None });
    let order = bench.order(Instruction::begin(action, LEASE));
    let mut agent = bench.connect();
    agent.ask(Ask::Listen);
    agent.ask(Ask::Order(bench.sealed(&order)));
    // The helper looks at it again, which is no second try of something that may be half done.
    let short = cordon_model::order::Lease { seconds: 1, ..LEASE };
    let isolate = bench.order(Instruction::isolate(Isolation::Full, short));
    agent.ask(Ask::Order(bench.sealed(&isolate)));
    agent.receipt(|receipt| receipt.state == MeasureState::SteppedDown);
    drop(copies);
    let receipt = agent.receipt(|receipt| receipt.measure == order.id.into());
    assert!(matches!(receipt.state, MeasureState::Failed { .. }), "{receipt:?}");
}
