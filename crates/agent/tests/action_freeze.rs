//! Freezing trees of real processes, by control groups and by signals.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own tools fail the test")]

mod action_world;

use action_world::{BOTH, Means, World, boot, group, hierarchy, measure, used};
use cordon_agent::contain::action::freeze::Freeze;
use cordon_agent::contain::action::hold::Holder;
use cordon_agent::contain::action::lineage::{Lineage, Seen};
use cordon_agent::contain::action::{ActError, Protected};
use cordon_agent::sensor::ProcessId;
use cordon_model::action::FilePath;
use cordon_model::time::BootId;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Three busy processes.
const BUSY: &str = "work() { while :; do :; done; }; (work & work); :";
const BUSY_TREE: &str = "work() { while :; do :; done; }; work & (work & work)";

fn nothing() -> Protected {
    Protected::default()
}

/// Waits until one of them has used the processor; if none goes on, the test never ends.
fn wait_until_one_goes_on(tree: &[Seen]) {
    let all = || tree.iter().map(|seen| used(seen.id.pid)).collect::<Vec<_>>();
    let before = all();
    while all() == before {
        std::thread::yield_now();
    }
}

#[test]
fn a_frozen_tree_stands_still_and_goes_on_where_it_stood() {
    for means in BOTH {
        let Some(mut world) = World::new() else { return };
        let root = world.shell(BUSY_TREE, 20);
        let tree = world.wait_for(4);
        let groups: Vec<_> = tree.iter().map(|seen| group(seen.id.pid)).collect();
        let freeze = Freeze::new(world.holder(means));
        let measure = measure();
        let held = freeze.apply(measure, &[root], &nothing()).unwrap();
        assert_eq!(held.processes, 4, "{means:?}");
        let proof = freeze.prove(&held, &nothing()).unwrap();
        assert!(proof.holds(), "{means:?}: {proof:?}");
        assert!(proof.unproven.is_empty(), "{proof:?}");
        let before: Vec<_> = tree.iter().map(|seen| used(seen.id.pid)).collect();
        std::thread::sleep(std::time::Duration::from_millis(50));
        let after: Vec<_> = tree.iter().map(|seen| used(seen.id.pid)).collect();
        assert_eq!(before, after, "{means:?}");
        assert_eq!(freeze.begun(measure).unwrap(), Some(held.clone()));
        let undone = freeze.undo(&held).unwrap();
        assert!(undone.is_exact(), "{undone:?}");
        assert_eq!(world.alive().len(), 4);
        let now: Vec<_> = tree.iter().map(|seen| group(seen.id.pid)).collect();
        assert_eq!(now, groups, "each is back where it was");
        assert!(world.alive().iter().all(|seen| !seen.is_stopped()));
        wait_until_one_goes_on(&tree);
        assert_eq!(freeze.begun(measure).unwrap(), None);
        assert!(freeze.undo(&held).unwrap().is_exact(), "taken back twice is taken back once");
    }
}

#[test]
fn nobody_beside_the_tree_is_touched() {
    for means in BOTH {
        let (Some(mut world), Some(mut other)) = (World::new(), World::new()) else { return };
        let root = world.shell(BUSY_TREE, 20);
        other.shell(BUSY, 20);
        world.wait_for(4);
        other.wait_for(2);
        let freeze = Freeze::new(world.holder(means));
        let held = freeze.apply(measure(), &[root], &nothing()).unwrap();
        assert_eq!(held.processes, 4);
        assert!(other.alive().iter().all(|seen| !seen.is_stopped()));
        wait_until_one_goes_on(&other.alive());
        freeze.undo(&held).unwrap();
    }
}

/// Each runs into the next: as many forks as the user may have processes, without an end. All but the
/// root are orphans soon; they stay in the session that the root leads.
const BOMB: &str = "bomb() { bomb | bomb & }; bomb; while :; do sleep 1; done";

#[test]
fn a_fork_bomb_is_frozen_whole() {
    for means in BOTH {
        let Some(mut world) = World::new() else { return };
        let root = world.session(BOMB, 200);
        world.wait_for(100);
        let freeze = Freeze::new(world.holder(means));
        let held = freeze.apply(measure(), &[root], &nothing()).unwrap();
        let all = world.alive();
        let proof = freeze.prove(&held, &nothing()).unwrap();
        assert!(proof.holds(), "{means:?}: {proof:?}");
        assert_eq!(held.processes as usize, all.len(), "{means:?}");
        let before: Vec<_> = all.iter().map(|seen| (seen.id, used(seen.id.pid))).collect();
        std::thread::sleep(std::time::Duration::from_millis(50));
        let all = world.alive();
        let after: Vec<_> = all.iter().map(|seen| (seen.id, used(seen.id.pid))).collect();
        assert_eq!(before, after, "nobody moves, and nobody is born");
        assert!(freeze.undo(&held).unwrap().is_exact());
    }
}

/// A process that lives just long enough to fork the next, and another in a tree of its own.
const RUNNER: &str = "run() { run & exit; }; (run) & while :; do sleep 1; done";

#[test]
fn who_runs_from_parent_to_child_is_caught() {
    if nix::unistd::Uid::effective().is_root() && !hears_forks() {
        eprintln!("skipped: the kernel does not tell of forks here");
        return;
    }
    for means in BOTH {
        let Some(mut world) = World::new() else { return };
        let root = world.session(RUNNER, 50);
        world.wait_for(3);
        let freeze = Freeze::new(world.holder(means));
        let held = freeze.apply(measure(), &[root], &nothing()).unwrap();
        let proof = freeze.prove(&held, &nothing()).unwrap();
        assert!(proof.holds(), "{means:?}: {proof:?}");
        let before: Vec<_> = world.alive().iter().map(|seen| seen.id).collect();
        std::thread::sleep(std::time::Duration::from_millis(50));
        let after: Vec<_> = world.alive().iter().map(|seen| seen.id).collect();
        assert_eq!(before, after, "{means:?}: it still runs");
        assert_eq!(held.processes as usize, after.len());
        freeze.undo(&held).unwrap();
    }
}

/// The kernel speaks of forks in its first network namespace only.
fn hears_forks() -> bool {
    let mut lineage = Lineage::of(&[], []);
    lineage.look();
    lineage.doubt().is_none()
}

#[test]
fn what_somebody_else_stopped_stays_stopped() {
    let Some(mut world) = World::new() else { return };
    let root = world.shell(BUSY_TREE, 20);
    let stopped = *world.wait_for(4).iter().find(|seen| seen.id.pid != root.pid).unwrap();
    let pid = Pid::from_raw(stopped.id.pid.cast_signed());
    kill(pid, Signal::SIGSTOP).unwrap();
    for means in BOTH {
        let freeze = Freeze::new(world.holder(means));
        let held = freeze.apply(measure(), &[root], &nothing()).unwrap();
        assert!(freeze.prove(&held, &nothing()).unwrap().holds());
        freeze.undo(&held).unwrap();
        let now = world.alive();
        let still: Vec<_> = now.iter().filter(|seen| seen.is_stopped()).collect();
        assert_eq!(still.len(), 1, "{means:?}");
        assert!(still[0].id.is(stopped.id));
    }
}

#[test]
fn a_number_that_another_has_by_now_is_refused() {
    for means in BOTH {
        let Some(mut world) = World::new() else { return };
        let root = world.shell(BUSY, 20);
        let mut other = root;
        other.started.0 += 50_000_000;
        let freeze = Freeze::new(world.holder(means));
        let measure = measure();
        let error = freeze.apply(measure, &[other], &nothing()).unwrap_err();
        assert!(matches!(error, ActError::NotThere(_)), "{error}");
        assert_eq!(freeze.begun(measure).unwrap(), None);
    }
}

#[test]
fn init_the_kernel_cordon_and_what_is_above_it_are_refused() {
    let Some(world) = World::new() else { return };
    let freeze = Freeze::new(world.holder(Means::Groups));
    let own = std::process::id();
    let mut above = own;
    let mut targets = vec![1, own];
    if std::fs::read_to_string("/proc/2/comm").is_ok_and(|name| name.trim() == "kthreadd") {
        targets.push(2);
    }
    while above > 1 {
        above = Seen::now(above).unwrap().parent;
        targets.push(above);
    }
    for pid in targets.into_iter().filter(|pid| *pid != 0) {
        let target = Seen::now(pid).unwrap().id;
        let measure = measure();
        let error = freeze.apply(measure, &[target], &nothing()).unwrap_err();
        assert!(matches!(error, ActError::Refused(_)), "{pid}: {error}");
        assert_eq!(freeze.begun(measure).unwrap(), None);
    }
}

/// Not a test: Cordon's program, as a test has it run by whoever it likes, until that is ended.
#[test]
fn cordons_program() {
    if std::env::var_os("CORDON_TEST_RUNS").is_some() {
        loop {
            std::thread::park();
        }
    }
}

#[test]
fn whoever_runs_cordons_program_as_another_user_is_no_part_of_cordon() {
    let Some(mut world) = World::new() else { return };
    let program = std::env::current_exe().unwrap();
    let script =
        format!("export CORDON_TEST_RUNS=1; {} --exact cordons_program & wait", program.display());
    let runs_it = |seen: &Seen| {
        std::fs::read_link(format!("/proc/{}/exe", seen.id.pid)).is_ok_and(|exe| exe == program)
    };
    let root = world.shell(&script, 20);
    while !world.alive().iter().any(runs_it) {
        std::thread::yield_now();
    }
    let freeze = Freeze::new(world.holder(Means::Groups));
    let held = freeze.apply(measure(), &[root], &nothing()).unwrap();
    assert!(held.spared.is_empty() && held.processes >= 2, "{held:?}");
    freeze.undo(&held).unwrap();
    // As the agent's user it is a part, whatever that user is called; and so is root's.
    let of_agent = Freeze::new(world.holder(Means::Groups).beside_agent(world.user));
    let error = of_agent.apply(measure(), &[root], &nothing()).unwrap_err();
    assert!(error.to_string().contains("Cordon runs below it"), "{error}");
}

#[test]
fn a_program_that_care_needs_is_left_alone_with_all_below_it() {
    for means in BOTH {
        let Some(mut world) = World::new() else { return };
        // A copy, as an organisation's viewer would be a program of its own.
        let viewer = world.folder.path().join("viewer");
        std::fs::copy("/bin/bash", &viewer).unwrap();
        let public = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(world.folder.path(), public).unwrap();
        let script = format!(
            "work() {{ while :; do :; done; }}; work & {} -c 'work() {{ while :; do :; done; }}; work & wait' & wait",
            viewer.display()
        );
        let root = world.shell(&script, 20);
        world.wait_for(4);
        let protected = Protected {
            executables: vec![FilePath::new(viewer.as_os_str().as_encoded_bytes())],
            ..Protected::default()
        };
        let freeze = Freeze::new(world.holder(means));
        let held = freeze.apply(measure(), &[root], &protected).unwrap();
        assert_eq!(held.processes, 2, "{held:?}");
        assert_eq!(held.spared.len(), 1, "{held:?}");
        assert!(held.spared[0].why.contains("viewer"), "{held:?}");
        let proof = freeze.prove(&held, &protected).unwrap();
        assert!(proof.holds(), "{proof:?}");
        let spared = held.spared[0].process;
        let below: Vec<_> = world.alive().into_iter().filter(|s| s.parent == spared.pid).collect();
        assert!(!below.is_empty());
        wait_until_one_goes_on(&below);
        freeze.undo(&held).unwrap();
        // And as the order's own target it is refused.
        let error = freeze.apply(measure(), &[spared], &protected).unwrap_err();
        assert!(matches!(error, ActError::Refused(_)), "{error}");
    }
}

#[test]
fn a_unit_that_care_needs_is_refused() {
    let (Some(mut world), Some(hierarchy)) = (World::new(), hierarchy()) else { return };
    let unit = format!("cordon-test-{}.service", world.user);
    let folder = hierarchy.join(&unit);
    std::fs::create_dir(&folder).unwrap();
    let root = world.shell(BUSY, 20);
    std::fs::write(folder.join("cgroup.procs"), root.pid.to_string()).unwrap();
    let freeze = Freeze::new(world.holder(Means::Groups));
    let protected = Protected { units: vec![unit.clone()], ..nothing() };
    let error = freeze.apply(measure(), &[root], &protected).unwrap_err();
    let held = freeze.apply(measure(), &[root], &nothing()).unwrap();
    // Where it came from counts, wherever it is held.
    let again = freeze.apply(measure(), &[root], &nothing()).unwrap();
    freeze.undo(&again).unwrap();
    freeze.undo(&held).unwrap();
    let back = group(root.pid);
    drop(world);
    while std::fs::remove_dir(&folder).is_err() {
        std::thread::yield_now();
    }
    assert!(matches!(error, ActError::Refused(_)), "{error}");
    assert_eq!(back, format!("/{unit}"));
}

#[test]
fn a_group_that_was_removed_meanwhile_is_made_again_and_said() {
    let (Some(mut world), Some(hierarchy)) = (World::new(), hierarchy()) else { return };
    let name = format!("cordon-test-{}.scope", world.user);
    let folder = hierarchy.join(&name);
    std::fs::create_dir(&folder).unwrap();
    let root = world.shell("while :; do :; done", 20);
    std::fs::write(folder.join("cgroup.procs"), root.pid.to_string()).unwrap();
    let freeze = Freeze::new(world.holder(Means::Groups));
    let held = freeze.apply(measure(), &[root], &nothing()).unwrap();
    std::fs::remove_dir(&folder).unwrap();
    let undone = freeze.undo(&held).unwrap();
    let back = group(root.pid);
    drop(world);
    while std::fs::remove_dir(&folder).is_err() {
        std::thread::yield_now();
    }
    assert_eq!(back, format!("/{name}"));
    assert_eq!(undone.differs.len(), 1, "{undone:?}");
}

#[test]
fn a_process_whose_threads_are_in_groups_of_their_own_is_stopped_where_it_is() {
    let (Some(mut world), Some(hierarchy)) = (World::new(), hierarchy()) else { return };
    let name = format!("cordon-test-{}", world.user);
    let folder = hierarchy.join(&name);
    let threads = folder.join("threads");
    std::fs::create_dir(&folder).unwrap();
    std::fs::create_dir(&threads).unwrap();
    std::fs::write(threads.join("cgroup.type"), "threaded").unwrap();
    let root = world.shell("while :; do :; done", 20);
    std::fs::write(folder.join("cgroup.procs"), root.pid.to_string()).unwrap();
    std::fs::write(threads.join("cgroup.threads"), root.pid.to_string()).unwrap();
    let before = group(root.pid);
    let freeze = Freeze::new(world.holder(Means::Groups));
    let held = freeze.apply(measure(), &[root], &nothing()).unwrap();
    let proof = freeze.prove(&held, &nothing()).unwrap();
    let during = group(root.pid);
    freeze.undo(&held).unwrap();
    drop(world);
    for folder in [&threads, &folder] {
        while std::fs::remove_dir(folder).is_err() {
            std::thread::yield_now();
        }
    }
    assert_eq!(held.stopped.len(), 1);
    assert!(proof.holds(), "{proof:?}");
    assert_eq!((before.as_str(), during), (format!("/{name}/threads").as_str(), before.clone()));
}

#[test]
fn applied_again_it_takes_in_what_is_new_and_what_was_let_go() {
    for means in BOTH {
        let Some(mut world) = World::new() else { return };
        let root = world.shell(BUSY_TREE, 20);
        let tree = world.wait_for(4);
        let freeze = Freeze::new(world.holder(means));
        let measure = measure();
        let held = freeze.apply(measure, &[root], &nothing()).unwrap();
        // Somebody with the power to lets one go.
        let escaped = tree[2].id.pid;
        match means {
            Means::Groups => {
                let Some(hierarchy) = hierarchy() else { return };
                std::fs::write(hierarchy.join("cgroup.procs"), escaped.to_string()).unwrap();
            }
            Means::Signals => {
                kill(Pid::from_raw(escaped.cast_signed()), Signal::SIGCONT).unwrap();
            }
        }
        let proof = freeze.prove(&held, &nothing()).unwrap();
        assert!(!proof.holds(), "{proof:?}");
        let again = freeze.apply(measure, &[root], &nothing()).unwrap();
        assert_eq!(again.processes, 4);
        assert!(freeze.prove(&again, &nothing()).unwrap().holds());
        freeze.undo(&again).unwrap();
        assert!(world.alive().iter().all(|seen| !seen.is_stopped()));
    }
}

/// Waits in the kernel, where no signal but SIGKILL reaches it, until its child has ended (`clone` with
/// `CLONE_VFORK`, by number).
#[cfg(target_arch = "x86_64")]
const WAITS_FOR_ITS_CHILD: &str =
    "exec perl -e 'if (syscall(56, 0x4011, 0, 0, 0, 0) == 0) { sleep 1; exit } sleep 1000'";

#[test]
#[cfg(target_arch = "x86_64")]
fn what_is_let_go_before_it_came_to_stand_still_does_not_stop_later() {
    let Some(mut world) = World::new() else { return };
    let root = world.shell(WAITS_FOR_ITS_CHILD, 20);
    world.wait_for(2);
    let freeze = Freeze::new(world.holder(Means::Signals));
    let held = freeze.apply(measure(), &[root], &nothing()).unwrap();
    assert_eq!(held.stopped.len(), 2);
    assert!(!Seen::now(root.pid).unwrap().is_stopped(), "it can't have come to it");
    assert!(!freeze.prove(&held, &nothing()).unwrap().holds());
    freeze.undo(&held).unwrap();
    while world.alive().len() == 2 {
        std::thread::yield_now();
    }
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert!(world.alive().iter().all(|seen| !seen.is_stopped()));
    assert_eq!(world.alive().len(), 1);
}

#[test]
fn after_a_restart_of_the_machine_nobody_is_taken_for_who_was_frozen_before() {
    let Some(mut world) = World::new() else { return };
    let root = world.shell(BUSY, 20);
    world.wait_for(2);
    let freeze = Freeze::new(world.holder(Means::Signals));
    let held = freeze.apply(measure(), &[root], &nothing()).unwrap();
    let later = Holder::new(world.journal(), BootId("another boot".into()), false);
    let later = Freeze::new(later);
    // The same numbers, and even the same start: another boot's processes all the same.
    assert!(later.undo(&held).unwrap().is_exact());
    assert!(world.alive().iter().all(|seen| seen.is_stopped()));
    assert_ne!(boot(), BootId("another boot".into()));
    freeze.undo(&held).unwrap();
}

#[test]
fn a_tree_is_named_by_one_to_sixteen_roots() {
    let Some(mut world) = World::new() else { return };
    let freeze = Freeze::new(world.holder(Means::Groups));
    assert!(matches!(freeze.apply(measure(), &[], &nothing()), Err(ActError::Unfit(_))));
    let one = world.shell("sleep 1000 & wait", 20);
    let many: Vec<ProcessId> = vec![one; 17];
    assert!(matches!(freeze.apply(measure(), &many, &nothing()), Err(ActError::Unfit(_))));
    // Two trees that one incident joined, one of them gone by now.
    let two = world.shell("sleep 1000 & wait", 20);
    world.wait_for(4);
    let mut gone = two;
    gone.started.0 += 50_000_000;
    let held = freeze.apply(measure(), &[one, gone, two], &nothing()).unwrap();
    assert_eq!(held.processes, 4);
    freeze.undo(&held).unwrap();
}
