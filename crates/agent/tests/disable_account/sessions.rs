//! What runs for an account: listed, and ended where that was ordered.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use cordon_agent::contain::action::account::Ended;
use cordon_agent::contain::action::lineage::Seen;
use cordon_agent::contain::action::{ActError, Journal, Protected};
use cordon_model::action::{AccountTarget, FilePath};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::{PASSWD, SHADOW, Tree, is_root, measure, until};

/// An account of its own, under a number that no other test and no other run of the tests has: each counts
/// what runs for its own.
fn eve() -> (Tree, u32) {
    static BEFORE: AtomicU32 = AtomicU32::new(0);
    let tree = Tree::new();
    // No process has a number above 1 << 22 (proc_pid_max(5)).
    let before = BEFORE.fetch_add(1 << 22, Ordering::Relaxed);
    let user = 1_800_000_000 + before + std::process::id();
    tree.write("passwd", &format!("{PASSWD}eve:x:{user}:{user}::/:/bin/sh\n"));
    tree.write("shadow", &format!("{SHADOW}eve:$6$salt$hash:19000:0:99999:7:::\n"));
    (tree, user)
}

#[test]
fn what_runs_for_the_account_is_listed() {
    if !is_root() {
        return;
    }
    let (tree, user) = eve();
    let mut child = Command::new("sleep").arg("600").uid(user).spawn().unwrap();
    let applied = tree.disable("eve").unwrap();
    let proof = tree.accounts().prove(&applied).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let found = applied.sessions.iter().find(|process| process.pid == child.id()).unwrap();
    assert!(found.image.ends_with("sleep"), "{found:?}");
    assert!(proof.unproven.iter().any(|what| what.contains("go on")), "{proof:?}");
    let proof = tree.accounts().prove(&applied).unwrap();
    assert!(!proof.unproven.iter().any(|what| what.contains("go on")), "{proof:?}");
}

/// Processes that are ended with their test.
struct Running(Vec<Child>);

impl Running {
    /// `script` run by a shell as `user`.
    fn start(&mut self, user: u32, script: &str) -> u32 {
        let mut shell = Command::new("/bin/bash");
        shell.args(["-c", script]).current_dir("/").process_group(0);
        shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.0.push(shell.uid(user).spawn().unwrap());
        self.0.last().unwrap().id()
    }

    fn lives(&mut self, pid: u32) -> bool {
        let child = self.0.iter_mut().find(|child| child.id() == pid).unwrap();
        child.try_wait().unwrap().is_none()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // With all that it started: one that sleeps on would hold the test's output open.
            let group = Pid::from_raw(child.id().cast_signed());
            let _ = killpg(group, Signal::SIGKILL);
            let _ = child.wait();
        }
    }
}

/// Those that run as `user`.
fn run_by(user: u32) -> Vec<u32> {
    let is_its = |seen: &Seen| {
        let owner = std::fs::metadata(format!("/proc/{}", seen.id.pid)).map(|found| found.uid());
        owner.is_ok_and(|owner| owner == user) && !seen.is_over()
    };
    Seen::all().iter().filter(|seen| is_its(seen)).map(|seen| seen.id.pid).collect()
}

fn count(user: u32) -> usize {
    run_by(user).len()
}

#[track_caller]
fn wait_for(user: u32, processes: usize) {
    until(|| count(user) >= processes);
}

/// Waits until so many have become `sleep`: a shell that was forked for it has its place before it has.
#[track_caller]
fn wait_for_sleepers(user: u32, sleepers: usize) {
    let sleeps = |pid: &u32| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
        name.is_ok_and(|name| name.trim_end() == "sleep")
    };
    until(|| run_by(user).iter().filter(|pid| sleeps(pid)).count() >= sleepers);
}

/// Looks again and again until it is so. What never comes fails a test instead of hanging it.
#[track_caller]
#[test]
fn its_sessions_are_ended_with_all_below_them_and_nobody_elses() {
    if !is_root() {
        return;
    }
    let (tree, user) = eve();
    let mut running = Running(Vec::new());
    // What it left in the background goes too; and what goes on starting others.
    running.start(user, "(sleep 600 &) & sleep 600 & wait");
    running.start(user, "while :; do /bin/true; done");
    let other = running.start(54399, "sleep 600; :");
    wait_for_sleepers(user, 2);
    let target = AccountTarget { name: "eve".into(), ends_sessions: true };
    let applied = tree.accounts().apply(measure(1), &target, &Protected::default()).unwrap();
    assert_eq!(count(user), 0);
    assert!(running.lives(other));
    assert!(tree.line("eve").starts_with("eve:!$6$"), "{}", tree.line("eve"));
    let ended = applied.ended.clone().unwrap();
    // One of the four that were waited for may have been a shell that was about to be over.
    assert!(ended.count >= 3 && ended.is_whole && ended.spared.is_empty(), "{ended:?}");
    let proof = tree.accounts().prove(&applied).unwrap();
    assert!(proof.holds() && proof.probes.len() == 1, "{proof:?}");
    // Later ones are counted, and not ended: nobody signs in any more.
    let later = running.start(user, "sleep 600; :");
    wait_for(user, 1);
    let again = tree.accounts().apply(measure(1), &target, &Protected::default()).unwrap();
    assert!(running.lives(later) && again.ended == applied.ended);
    let proof = tree.accounts().prove(&again).unwrap();
    assert!(proof.unproven.iter().any(|what| what.contains("go on")), "{proof:?}");
    let undone = tree.accounts().undo(&applied).unwrap();
    assert!(undone.differs[0].contains("are not brought back"), "{undone:?}");
    assert!(tree.line("eve").starts_with("eve:$6$"));
}

#[test]
fn without_that_order_nobodys_session_is_ended() {
    if !is_root() {
        return;
    }
    let (tree, user) = eve();
    let mut running = Running(Vec::new());
    let session = running.start(user, "sleep 600; :");
    let applied = tree.disable("eve").unwrap();
    assert!(running.lives(session) && applied.ended.is_none());
    assert!(tree.accounts().undo(&applied).unwrap().is_exact());
}

#[test]
fn nothing_of_its_sessions_is_ended_while_care_needs_a_part_of_them() {
    if !is_root() {
        return;
    }
    let (tree, user) = eve();
    std::fs::set_permissions(tree.root(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let viewer = tree.root().join("viewer");
    cordon_tests::copy_program("/bin/bash", &viewer);
    let mut running = Running(Vec::new());
    let script = format!("sleep 600 & {} -c 'sleep 600; :' & wait", viewer.display());
    let shell = running.start(user, &script);
    // A compositor need not stand above what it shows.
    let beside = running.start(user, "sleep 600; :");
    wait_for(user, 6);
    let executables = vec![FilePath::new(viewer.as_os_str().as_encoded_bytes())];
    let protected = Protected { executables, ..Protected::default() };
    let target = AccountTarget { name: "eve".into(), ends_sessions: true };
    let applied = tree.accounts().apply(measure(1), &target, &protected).unwrap();
    let ended = applied.ended.clone().unwrap();
    assert_eq!((ended.count, ended.spared.len(), ended.is_whole), (0, 6, true), "{ended:?}");
    assert!(ended.spared[0].why.starts_with("its program"), "{ended:?}");
    let viewer = format!("for process {} could end with it", ended.spared[0].process.pid);
    assert!(ended.spared[1..].iter().all(|one| one.why.contains(&viewer)), "{ended:?}");
    assert_eq!(count(user), 6);
    assert!(running.lives(shell) && running.lives(beside));
    // Taken up after a crash, before it was whole: what is left is ended then.
    let journal = Journal::open(&tree.root().join("journal")).unwrap();
    let mut half = applied;
    half.ended = Some(Ended { is_whole: false, ..ended });
    let kind = cordon_model::action::ActionKind::DisableAccount;
    journal.write(kind, measure(1), &half).unwrap();
    assert!(!tree.accounts().prove(&half).unwrap().holds());
    let whole = tree.accounts().apply(measure(1), &target, &Protected::default()).unwrap();
    assert_eq!(count(user), 0);
    assert_eq!(whole.ended.unwrap().count, 6);
}

#[test]
fn a_container_whose_user_has_the_same_number_is_not_its_session() {
    if !is_root() {
        return;
    }
    let (tree, user) = eve();
    let mut running = Running(Vec::new());
    // As a container's engine does: the namespaces are root's, and only what runs in them is the user.
    let inside = format!("setpriv --reuid {user} --clear-groups bash -c 'sleep 600 & wait'");
    let container = running
        .start(0, &format!("exec unshare --pid --mount --fork --kill-child sh -c \"{inside}; :\""));
    let session = running.start(user, "sleep 600; :");
    wait_for(user, 4);
    let target = AccountTarget { name: "eve".into(), ends_sessions: true };
    let applied = tree.accounts().apply(measure(1), &target, &Protected::default()).unwrap();
    let ended = applied.ended.unwrap();
    assert!(running.lives(container) && !running.lives(session));
    assert_eq!(count(user), 2, "{ended:?}");
    assert_eq!((ended.count, ended.spared.len(), ended.is_whole), (2, 1, true), "{ended:?}");
    assert!(ended.spared[0].why.contains("namespaces of its own"), "{ended:?}");
}

#[test]
fn sessions_that_can_not_be_told_from_others_are_not_ended() {
    let tree = Tree::new();
    tree.write("passwd", &format!("{PASSWD}twin:x:54321:1::/:/bin/sh\ntoor:x:0:0::/:/bin/sh\n"));
    tree.write("shadow", &format!("{SHADOW}toor:$6$salt$hash:19000:0:99999:7:::\n"));
    let before = tree.shadow();
    for (name, because) in [("probe", "twin has the same user number"), ("toor", "user number 0")] {
        let target = AccountTarget { name: name.into(), ends_sessions: true };
        let error = tree.accounts().apply(measure(1), &target, &Protected::default()).unwrap_err();
        assert!(matches!(error, ActError::Refused(_)), "{error}");
        assert!(error.to_string().contains(because), "{error}");
    }
    assert_eq!(tree.shadow(), before);
}
