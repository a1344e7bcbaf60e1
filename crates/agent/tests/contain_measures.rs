//! Measures besides the isolation as the helper carries them out: what is told, and what no order touches.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own tools fail the test")]

mod contain_world;

use std::process::{Child, Command};
use std::time::Duration;

use contain_world::bench::{Bench, LEASE, last};
use cordon_agent::contain::action::lineage::Seen;
use cordon_agent::contain::protocol::Answer;
use cordon_model::action::{Action, Collection, FilePath, Piece, ProcessTarget};
use cordon_model::asset::{Assignment, ClinicalTier, Protected};
use cordon_model::finding::ProcessRef;
use cordon_model::measure::{MeasureState, Receipt};
use cordon_model::order::Instruction;
use cordon_model::time::BootId;

/// Not a test: what gathers for the helper, when the helper of a test starts this program as that. It never
/// comes to an end, until its helper does.
#[test]
fn role_of_who_never_ends() {
    if std::env::args().nth(1).as_deref() != Some("role") {
        return;
    }
    let helper = std::os::unix::process::parent_id();
    while std::os::unix::process::parent_id() == helper {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A process that is ended with its test.
struct Running(Child);

impl Running {
    fn start(program: &std::path::Path) -> Self {
        Self(Command::new(program).arg("1000").spawn().unwrap())
    }

    fn target(&self) -> ProcessTarget {
        let seen = Seen::now(self.0.id()).unwrap();
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let process =
            ProcessRef { pid: seen.id.pid, started: seen.id.started, image: "sleep".into() };
        ProcessTarget { boot: BootId(boot.trim().into()), process }
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn begin(bench: &mut Bench, action: Action) -> Receipt {
    let order = bench.order(Instruction::Begin { action, lease: LEASE });
    match bench.give(&order) {
        answer @ Answer::Obeyed(_) => last(answer),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_care_needs_is_left_alone_also_when_people_order_it() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let viewer = bench.folder.path().join("viewer");
    std::fs::copy("/bin/sleep", &viewer).unwrap();
    let executables = vec![FilePath::new(viewer.as_os_str().as_encoded_bytes())];
    let protected = Protected { executables, ..Protected::default() };
    let assignment = bench.assignment(2, Some(ClinicalTier::None));
    bench.reassign(&Assignment { protected, ..assignment });
    let mut running = Running::start(&viewer);
    for action in [Action::Kill(running.target()), Action::Freeze(running.target())] {
        let receipt = begin(&mut bench, action);
        let MeasureState::Failed { why } = &receipt.state else { panic!("{receipt:?}") };
        assert!(why.contains("protected for care"), "{why}");
        assert!(running.lives());
    }
    let mut other = Running::start("/bin/sleep".as_ref());
    let receipt = begin(&mut bench, Action::Kill(other.target()));
    assert_eq!(receipt.state, MeasureState::Done, "{receipt:?}");
    assert!(!other.lives());
}

#[test]
fn evidence_that_is_being_gathered_is_neither_proven_nor_said_to_have_failed() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let pieces = vec![Piece::Kernel];
    let receipt = begin(&mut bench, Action::Collect(Collection { pieces, most_bytes: 1 << 20 }));
    assert_eq!((receipt.state, receipt.proof), (MeasureState::Applied, None));
    assert_eq!(receipt.done, ["it is still being gathered"]);
}
