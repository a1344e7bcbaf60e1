//! Killing trees of real processes, so that none escapes.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own tools fail the test")]

mod action_world;

use action_world::{BOTH, World, boot, measure, until};
use cordon_agent::contain::action::freeze::Freeze;
use cordon_agent::contain::action::kill::{Kill, Killed};
use cordon_agent::contain::action::lineage::Seen;
use cordon_agent::contain::action::{ActError, Protected};
use cordon_model::action::ActionKind;

/// It does not care about polite signals.
const STUBBORN: &str = "trap '' TERM INT HUP; sleep 1000 & (trap '' TERM; sleep 1000) & wait";

fn nothing() -> Protected {
    Protected::default()
}

#[test]
fn a_killed_tree_is_gone_and_that_is_shown_and_named() {
    for means in BOTH {
        let Some(mut world) = World::new() else { return };
        let root = world.shell(STUBBORN, 20);
        let tree = world.wait_for(3);
        let kill = Kill::new(world.holder(means));
        let measure = measure();
        let killed = kill.apply(measure, &[root], &nothing()).unwrap();
        assert_eq!(killed.count as usize, tree.len(), "{killed:?}");
        assert!(killed.victims.iter().any(|victim| victim.program.ends_with("/bash")));
        assert!(kill.prove(&killed).unwrap().holds(), "{means:?}");
        assert_eq!(world.alive(), [], "{means:?}");
        // The same order again finds it done.
        assert_eq!(kill.apply(measure, &[root], &nothing()).unwrap(), killed);
        let undone = kill.undo(&killed).unwrap();
        assert!(!undone.is_exact(), "it says that nobody is brought back");
        assert!(undone.differs[0].starts_with(&format!("{} processes", tree.len())));
        assert_eq!(kill.begun(measure).unwrap(), None);
    }
}

#[test]
fn a_fork_bomb_is_killed_whole() {
    for means in BOTH {
        let Some(mut world) = World::new() else { return };
        let bomb = "bomb() { bomb | bomb & }; bomb; while :; do sleep 1; done";
        let root = world.session(bomb, 200);
        world.wait_for(100);
        let kill = Kill::new(world.holder(means));
        let measure = measure();
        let killed = kill.apply(measure, &[root], &nothing()).unwrap();
        assert!(killed.count >= 50, "{}", killed.count);
        if kill.prove(&killed).unwrap().holds() {
            assert_eq!(world.alive(), [], "{means:?}: none is left that could fork");
            continue;
        }
        // On a busy machine a second may be too short to hold it whole. That is said, and it is done again.
        assert!(killed.held.doubts.iter().any(|doubt| doubt.contains("went on changing")));
        until(|| {
            let _ = kill.apply(measure, &[root], &nothing()).unwrap();
            world.alive().is_empty()
        });
    }
}

#[test]
fn a_tree_that_is_frozen_can_be_killed_and_the_freeze_ends_with_it() {
    for means in BOTH {
        let Some(mut world) = World::new() else { return };
        let root = world.shell(STUBBORN, 20);
        world.wait_for(3);
        let freeze = Freeze::new(world.holder(means));
        let held = freeze.apply(measure(), &[root], &nothing()).unwrap();
        let kill = Kill::new(world.holder(means));
        let killed = kill.apply(measure(), &[root], &nothing()).unwrap();
        assert_eq!(killed.count, 3, "{means:?}");
        assert_eq!(world.alive(), []);
        assert!(freeze.undo(&held).unwrap().is_exact());
    }
}

#[test]
fn a_kill_that_never_began_lets_the_tree_go_on() {
    for means in BOTH {
        let Some(mut world) = World::new() else { return };
        let root = world.shell(STUBBORN, 20);
        world.wait_for(3);
        // The helper died when the tree stood still, before the first was killed.
        let measure = measure();
        let holder = world.holder(means);
        let mut held = holder.begin(measure, &[root], None).unwrap();
        let journal = world.journal();
        let killed = |held: &_| Killed {
            held: Clone::clone(held),
            has_begun: false,
            count: 0,
            victims: Vec::new(),
        };
        let mut save = |held: &_| journal.write(ActionKind::Kill, measure, &killed(held));
        holder.hold(&mut held, &nothing(), &mut save).unwrap();
        let kill = Kill::new(holder);
        let begun = kill.begun(measure).unwrap().unwrap();
        assert!(kill.undo(&begun).unwrap().is_exact());
        let alive = world.alive();
        assert_eq!(alive.len(), 3);
        assert!(alive.iter().all(|seen| !seen.is_stopped()), "{means:?}");
    }
}

#[test]
fn nobody_is_killed_for_having_the_number_of_who_is_gone() {
    for means in BOTH {
        let Some(mut world) = World::new() else { return };
        let mut root = world.shell(STUBBORN, 20);
        world.wait_for(3);
        root.started.0 += 50_000_000;
        let kill = Kill::new(world.holder(means));
        let measure = measure();
        let error = kill.apply(measure, &[root], &nothing()).unwrap_err();
        assert!(matches!(error, ActError::NotThere(_)), "{error}");
        assert_eq!(kill.begun(measure).unwrap(), None);
        assert_eq!(world.alive().len(), 3);
    }
}

#[test]
fn init_and_cordon_are_never_killed() {
    let Some(world) = World::new() else { return };
    let kill = Kill::new(world.holder(BOTH[0]));
    for pid in [1, std::process::id(), std::os::unix::process::parent_id()] {
        let target = Seen::now(pid).unwrap().id;
        let error = kill.apply(measure(), &[target], &nothing()).unwrap_err();
        assert!(matches!(error, ActError::Refused(_)), "{pid}: {error}");
    }
    assert!(!boot().0.is_empty());
}
