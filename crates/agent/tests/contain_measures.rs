//! Measures besides the isolation as the helper carries them out: what is told, and what no order touches.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own tools fail the test")]

mod contain_world;

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use contain_world::bench::{Bench, LEASE};
use contain_world::running::Running;
use cordon_model::action::{Action, Collection, FilePath, FileTarget, Piece};
use cordon_model::asset::{Assignment, ClinicalTier, Protected};
use cordon_model::ids::FindingId;
use cordon_model::measure::{MeasureState, Receipt};
use cordon_model::order::{Authority, Instruction, Order};

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

fn begin(bench: &mut Bench, action: Action) -> Receipt {
    bench.begin(action, LEASE)
}

/// A machine on which care needs a program, and where that is.
fn with_a_viewer() -> Option<(Bench, PathBuf)> {
    let bench = Bench::new(ClinicalTier::None)?;
    let viewer = bench.folder.path().join("viewer");
    cordon_tests::copy_program("/bin/sleep", &viewer);
    let executables = vec![FilePath::new(viewer.as_os_str().as_encoded_bytes())];
    let protected = Protected { executables, ..Protected::default() };
    let assignment = bench.assignment(2, Some(ClinicalTier::None));
    bench.reassign(&Assignment { protected, ..assignment });
    Some((bench, viewer))
}

#[test]
fn what_care_needs_is_left_alone_also_when_people_order_it() {
    let Some((mut bench, viewer)) = with_a_viewer() else { return };
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

/// Orders it as the signed policy does, with nobody asked.
fn by_itself(bench: &mut Bench, action: Action) -> Receipt {
    let finding = FindingId::of("rule", "m", &[0; 32]);
    let authority = Authority::Policy { revision: 1, finding };
    let order = Order { authority, ..bench.order(Instruction::begin(action, LEASE)) };
    bench.outcome(&order, order.id.into(), |_| true)
}

#[test]
fn what_the_policy_orders_leaves_alone_what_care_needs_and_the_receipt_says_so() {
    let Some((mut bench, viewer)) = with_a_viewer() else { return };
    let mut running = Running::start(&viewer);
    for action in [
        Action::Freeze(running.target()),
        Action::Kill(running.target()),
        Action::Quarantine(FileTarget {
            path: FilePath::new(viewer.as_os_str().as_encoded_bytes()),
            sha256: None,
        }),
    ] {
        let receipt = by_itself(&mut bench, action);
        let MeasureState::Failed { why } = &receipt.state else { panic!("{receipt:?}") };
        assert!(why.contains("protected for care"), "{why}");
        assert_eq!(receipt.spared, std::slice::from_ref(why), "the hub asks people by this");
        assert!(running.lives() && viewer.exists());
    }

    // Of a tree that is not protected, the part that is goes on.
    let script = format!("{} 1000 & echo $!; wait", viewer.display());
    let mut shell = Command::new("/bin/sh");
    let mut tree = Running(shell.args(["-c", &script]).stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(tree.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let child = line.trim().to_owned();
    // The shell has forked it; it is the viewer once it has started that.
    let exe = format!("/proc/{child}/exe");
    while std::fs::read_link(&exe).is_ok_and(|exe| exe != viewer) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let receipt = by_itself(&mut bench, Action::Freeze(tree.target()));
    let [left] = &receipt.spared[..] else { panic!("{receipt:?}") };
    assert!(left.starts_with(&format!("process {child} was left alone")), "{left}");
    assert!(left.contains("protected for care"), "{left}");
    let undo = bench.order(Instruction::Undo { measure: receipt.measure });
    bench.give(&undo);
    let _ = Command::new("kill").arg(&child).status();
}

#[test]
fn evidence_that_is_being_gathered_is_neither_proven_nor_said_to_have_failed() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let pieces = vec![Piece::Kernel];
    let receipt = begin(&mut bench, Action::Collect(Collection { pieces, most_bytes: 1 << 20 }));
    assert_eq!((receipt.state, receipt.proof), (MeasureState::Applied, None));
    assert_eq!(receipt.done, ["it is still being gathered"]);
}
