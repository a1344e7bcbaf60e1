//! Freezing trees of real processes, by control groups and by signals.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own tools fail the test")]

mod action_world;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use action_world::disks::Disks;
use action_world::{BOTH, Means, World, boot, frozen, group, hierarchy, measure, until, used};
use cordon_agent::contain::action::freeze::Freeze;
use cordon_agent::contain::action::hold::{Held, Holder};
use cordon_agent::contain::action::lineage::{Lineage, Seen};
use cordon_agent::contain::action::spared::{FileId, SparedFiles};
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

/// Waits until one of them has used the processor.
#[track_caller]
fn wait_until_one_goes_on(tree: &[Seen]) {
    let all = || tree.iter().map(|seen| used(seen.id.pid)).collect::<Vec<_>>();
    let before = all();
    until(|| all() != before);
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
        let (held, proof) = frozen(&freeze, measure, &[root], &nothing());
        assert_eq!(held.processes, 4, "{means:?}");
        // Another test's processes fork faster than the kernel's word of it is read.
        let is_lost = |doubt: &String| doubt.contains("messages about forks were lost");
        assert!(proof.unproven.iter().all(is_lost), "{proof:?}");
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
        other.wait_for(3);
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
        let (held, _) = frozen(&freeze, measure(), &[root], &nothing());
        let all = world.alive();
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
        cordon_tests::cannot_be_had("the kernel does not tell of forks here");
        return;
    }
    for means in BOTH {
        let Some(mut world) = World::new() else { return };
        let root = world.session(RUNNER, 50);
        world.wait_for(3);
        let freeze = Freeze::new(world.holder(means));
        let (held, _) = frozen(&freeze, measure(), &[root], &nothing());
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
    // When its turn on the processor comes; before that nobody could know that it is somebody else's.
    until(|| Seen::now(stopped.id.pid).unwrap().is_stopped());
    for means in BOTH {
        let freeze = Freeze::new(world.holder(means));
        let (held, _) = frozen(&freeze, measure(), &[root], &nothing());
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
    until(|| world.alive().iter().any(runs_it));
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
        cordon_tests::copy_program("/bin/bash", &viewer);
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
        let (held, _) = frozen(&freeze, measure(), &[root], &protected);
        assert_eq!(held.processes, 2, "{held:?}");
        assert_eq!(held.spared.len(), 1, "{held:?}");
        assert!(held.spared[0].why.contains("viewer"), "{held:?}");
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
fn a_program_that_care_needs_on_a_filesystem_that_does_not_answer_holds_nobody_up() {
    let (Some(mut world), Some(disks)) = (World::new(), Disks::new()) else { return };
    let point = disks.folder.path().join("far");
    std::fs::create_dir(&point).unwrap();
    // Whoever looks at anything there waits until this is closed.
    let Ok(silent) = std::fs::File::options().read(true).write(true).open("/dev/fuse") else {
        cordon_tests::cannot_be_had("a filesystem that hangs needs /dev/fuse");
        return;
    };
    let number = std::os::fd::AsRawFd::as_raw_fd(&silent);
    let options = format!("fd={number},rootmode=40000,user_id=0,group_id=0");
    let none = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("dead"), &point, Some("fuse"), none, Some(&*options)).unwrap();
    let link = disks.folder.path().join("viewer");
    std::os::unix::fs::symlink(point.join("viewer"), &link).unwrap();
    let protected = Protected {
        executables: [point.join("viewer"), link]
            .map(|path| FilePath::new(path.as_os_str().as_bytes()))
            .to_vec(),
        ..Protected::default()
    };
    let root = world.shell(BUSY_TREE, 20);
    world.wait_for(4);
    let freeze = Freeze::new(world.holder(Means::Signals));
    let (state, far) = (disks.state(), point.join("viewer"));
    let (tell, told) = std::sync::mpsc::channel();
    // Sees the same mounts; left where it hangs, if it does.
    std::thread::spawn(move || {
        let held = freeze.apply(measure(), &[root], &protected);
        let spared = SparedFiles::now(&protected, Some(&state));
        let nobody = FileId { device: 0, inode: 0 };
        let why = [far.as_path(), Path::new("/etc/hostname")]
            .map(|path| spared.why_named(path).is_some());
        assert_eq!(spared.why_by_path(nobody, Some(Path::new("/etc/hostname"))), None);
        let _ = tell.send((held.map(|held| (freeze.undo(&held), held)), why));
    });
    let outcome = told.recv_timeout(Duration::from_secs(60));
    drop(silent);
    let (held, why) = outcome.expect("the helper waits for who never answers");
    let (undone, held) = held.unwrap();
    assert!(undone.unwrap().is_exact());
    assert_eq!((held.processes, why), (4, [true, false]));
    let says = held.doubts.iter().filter(|doubt| doubt.contains("told by its path only"));
    assert_eq!(says.count(), 2, "{held:?}");
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
    let back = group(root.pid).unwrap();
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
    let back = group(root.pid).unwrap();
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
    let before = group(root.pid).unwrap();
    let freeze = Freeze::new(world.holder(Means::Groups));
    let (held, _) = frozen(&freeze, measure(), &[root], &nothing());
    let during = group(root.pid).unwrap();
    freeze.undo(&held).unwrap();
    drop(world);
    for folder in [&threads, &folder] {
        while std::fs::remove_dir(folder).is_err() {
            std::thread::yield_now();
        }
    }
    assert_eq!(held.stopped.len(), 1);
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
        let (again, _) = frozen(&freeze, measure, &[root], &nothing());
        assert_eq!(again.processes, 4);
        freeze.undo(&again).unwrap();
        assert!(world.alive().iter().all(|seen| !seen.is_stopped()));
    }
}

/// Never calm while somebody continues what is stopped: each forks as long as it runs.
const FORKS: &str = "forks() { while :; do (:); done; }; forks & forks & forks";
/// That somebody: any process of the same user, in a session of its own: SIGCONT reaches every process of the
/// sender's session, whosever it is (kill(2)), and so those of the tests beside this one.
const CONTINUES: &str = r#"exec perl -e 'kill "CONT", -1 while 1'"#;

#[test]
fn a_tree_that_somebody_keeps_moving_does_not_hold_the_helper_up() {
    let Some(mut world) = World::new() else { return };
    let root = world.shell(FORKS, 50);
    world.wait_for(4);
    let outside = world.session(CONTINUES, 50);
    let freeze = Freeze::new(world.holder(Means::Signals));
    let measure = measure();
    let apply = || {
        let began = Instant::now();
        (freeze.apply(measure, &[root], &nothing()).unwrap(), began.elapsed())
    };
    let says = |held: &Held| held.doubts.iter().any(|doubt| doubt.contains("went on changing"));
    // Whoever moves it may not have begun yet.
    let first = loop {
        let (held, took) = apply();
        assert!(took < Duration::from_secs(60), "{took:?}: {:?}", held.doubts);
        if says(&held) {
            break held;
        }
        assert!(Seen::is_still(outside), "nobody moves it");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(!freeze.prove(&first, &nothing()).unwrap().holds(), "who left it last is not known");
    let (again, _) = apply();
    assert!(again == first, "it was held again at once");
    kill(Pid::from_raw(outside.pid.cast_signed()), Signal::SIGKILL).unwrap();
    // Left alone, it is held when its turn comes.
    let (calm, _) = frozen(&freeze, measure, &[root], &nothing());
    freeze.undo(&calm).unwrap();
}

#[test]
fn a_group_whose_name_is_not_utf8_holds_nobody_back_from_being_frozen() {
    let Some(mut world) = World::new() else { return };
    let Some(hierarchy) = hierarchy() else { return };
    let root = world.shell(BUSY, 20);
    let tree = world.wait_for(3);
    let mut name = format!("cordon-test-{}-", world.user).into_bytes();
    name.push(0xff);
    let group = hierarchy.join(OsStr::from_bytes(&name));
    std::fs::create_dir(&group).unwrap();
    for seen in &tree {
        std::fs::write(group.join("cgroup.procs"), seen.id.pid.to_string()).unwrap();
    }
    let freeze = Freeze::new(world.holder(Means::Groups));
    let held = freeze.apply(measure(), &[root], &nothing());
    let is_penned = held.as_ref().is_ok_and(|held| held.stopped.is_empty() && held.processes > 1);
    let undone = held.as_ref().map(|held| freeze.undo(held));
    let there = std::fs::read_to_string(group.join("cgroup.procs")).unwrap();
    drop(world);
    while std::fs::remove_dir(&group).is_err() {
        std::thread::yield_now();
    }
    assert!(is_penned, "{held:?}");
    assert!(undone.is_ok_and(|undone| undone.unwrap().is_exact()));
    assert_eq!(there.lines().count(), tree.len(), "each is back where it was");
}

#[test]
fn applied_again_it_forgets_who_ended() {
    let Some(mut world) = World::new() else { return };
    let root = world.shell(BUSY_TREE, 20);
    world.wait_for(4);
    let freeze = Freeze::new(world.holder(Means::Signals));
    let measure = measure();
    let held = freeze.apply(measure, &[root], &nothing()).unwrap();
    assert_eq!(held.stopped.len(), 4);
    kill(Pid::from_raw(root.pid.cast_signed()), Signal::SIGKILL).unwrap();
    while Seen::now(root.pid).is_some_and(|seen| seen.id.is(root)) {
        world.reap();
    }
    let (again, _) = frozen(&freeze, measure, &[root], &nothing());
    assert!(again.stopped.iter().all(|process| !process.is(root)), "{again:?}");
    assert_eq!((again.stopped.len(), again.processes), (3, 3));
    freeze.undo(&again).unwrap();
}

/// Waits in the kernel, where no signal but SIGKILL reaches it, until its child has ended (`clone` with
/// `CLONE_VFORK`, by number); and that ends when there is a file of this name.
#[cfg(target_arch = "x86_64")]
fn waits_for_its_child(until: &Path) -> String {
    let until = until.display();
    format!(
        "exec perl -e 'if (syscall(56, 0x4011, 0, 0, 0, 0) == 0) \
         {{ select(undef, undef, undef, 0.01) until -e \"{until}\"; exit }} sleep 1000'"
    )
}

#[test]
#[cfg(target_arch = "x86_64")]
fn what_is_let_go_before_it_came_to_stand_still_does_not_stop_later() {
    let Some(mut world) = World::new() else { return };
    let public = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(world.folder.path(), public).unwrap();
    let over = world.folder.path().join("over");
    let root = world.shell(&waits_for_its_child(&over), 20);
    world.wait_for(2);
    let freeze = Freeze::new(world.holder(Means::Signals));
    let held = freeze.apply(measure(), &[root], &nothing()).unwrap();
    assert_eq!(held.stopped.len(), 2);
    assert!(!Seen::now(root.pid).unwrap().is_stopped(), "it can't have come to it");
    assert!(!freeze.prove(&held, &nothing()).unwrap().holds());
    freeze.undo(&held).unwrap();
    std::fs::write(&over, "").unwrap();
    until(|| world.alive().len() == 1);
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert!(world.alive().iter().all(|seen| !seen.is_stopped()));
    assert_eq!(world.alive().len(), 1);
}

#[test]
fn after_a_restart_of_the_machine_nobody_is_taken_for_who_was_frozen_before() {
    let Some(mut world) = World::new() else { return };
    let root = world.shell(BUSY, 20);
    world.wait_for(3);
    let freeze = Freeze::new(world.holder(Means::Signals));
    let (held, _) = frozen(&freeze, measure(), &[root], &nothing());
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
