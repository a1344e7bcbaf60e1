//! Accounts disabled and given back, in trees of their own, beside the system's own tools; and what the
//! real `su` and `sshd` say to it. The machine's own accounts are never touched.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own tools fail the test")]

mod cut_short;

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use cordon_agent::contain::action::account::{Accounts, Applied, Ended};
use cordon_agent::contain::action::lineage::Seen;
use cordon_agent::contain::action::{ActError, Journal, Protected};
use cordon_model::action::{AccountTarget, FilePath};
use cordon_model::ids::MeasureId;
use cordon_model::time::UtcNanos;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n\
    www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n\
    cordon-agent:x:990:990:Cordon:/nonexistent:/usr/sbin/nologin\n\
    probe:x:54321:54321::/home/probe:/bin/sh\n\
    ann:x:54322:54322::/home/ann:/bin/bash\n\
    bob:x:54323:54323::/home/bob:/bin/bash\n";
/// Whom `sshd` becomes before anybody has signed in.
const SSHD: &str = "sshd:x:54399:65534::/run/sshd:/usr/sbin/nologin\n";
const SHADOW: &str = "root:*:19000:0:99999:7:::\n\
    www-data:*:19000:0:99999:7:::\n\
    cordon-agent:!:19000::::::\n\
    probe:$6$salt$hash:19000:0:99999:7::30000:\n\
    ann:$6$salt$hash:19000:0:99999:7:::\n\
    bob:$6$salt$hash:19000:0:99999:7:::\n";
const GROUP: &str = "root:x:0:\nsudo:x:27:ann,bob\nprobe:x:54321:\nann:x:54322:\nbob:x:54323:\n";
const AGENT_USER: u32 = 990;

struct Tree {
    folder: tempfile::TempDir,
}

impl Tree {
    fn new() -> Self {
        Self::of(tempfile::tempdir().unwrap())
    }

    /// In memory where there is such a place: every write is flushed, hundreds of times.
    fn in_memory() -> Self {
        let memory = Path::new("/dev/shm");
        let folder =
            if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        Self::of(folder.unwrap())
    }

    fn of(folder: tempfile::TempDir) -> Self {
        let tree = Self { folder };
        for name in ["etc", "journal", "home/ann/.ssh", "home/bob/.ssh"] {
            std::fs::create_dir_all(tree.root().join(name)).unwrap();
        }
        for (name, text) in [
            ("passwd", PASSWD),
            ("group", GROUP),
            ("shadow", SHADOW),
            ("nsswitch.conf", "passwd: files systemd\n"),
        ] {
            tree.write(name, text);
        }
        tree
    }

    fn root(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap()
    }

    fn etc(&self, name: &str) -> PathBuf {
        self.root().join("etc").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.etc(name), text).unwrap();
    }

    fn shadow(&self) -> String {
        std::fs::read_to_string(self.etc("shadow")).unwrap()
    }

    fn line(&self, name: &str) -> String {
        let shadow = self.shadow();
        let mut lines = shadow.lines();
        lines.find(|line| line.starts_with(&format!("{name}:"))).unwrap().to_owned()
    }

    fn accounts(&self) -> Accounts {
        accounts(&self.root())
    }

    fn disable(&self, name: &str) -> Result<Applied, ActError> {
        self.accounts().apply(measure(1), &target(name), &Protected::default())
    }

    /// A tool of shadow-utils, on this tree.
    fn tool(&self, program: &str, arguments: &[&str]) -> Output {
        Command::new(program)
            .args(["--prefix", self.root().to_str().unwrap()])
            .args(arguments)
            .output()
            .unwrap()
    }
}

fn accounts(root: &Path) -> Accounts {
    Accounts::new(Journal::open(&root.join("journal")).unwrap(), root, AGENT_USER)
}

fn target(name: &str) -> AccountTarget {
    AccountTarget { name: name.into(), ends_sessions: false }
}

fn measure(number: u8) -> MeasureId {
    MeasureId::new(UtcNanos::from_unix_nanos(0), [number; 10])
}

fn is_root() -> bool {
    !cordon_tests::lacks_root("changing accounts")
}

#[test]
fn a_disabled_account_is_locked_and_expired_and_undone_to_the_byte() {
    let tree = Tree::new();
    let applied = tree.disable("probe").unwrap();
    assert_eq!(tree.line("probe"), "probe:!$6$salt$hash:19000:0:99999:7::1:");
    let changed =
        tree.shadow().replace(&tree.line("probe"), "probe:$6$salt$hash:19000:0:99999:7::30000:");
    assert_eq!(changed, SHADOW, "no other line");
    assert_eq!(std::fs::read_to_string(tree.etc("shadow-")).unwrap(), SHADOW, "the usual copy");
    let proof = tree.accounts().prove(&applied).unwrap();
    assert!(
        proof.holds() && proof.unproven.iter().any(|what| what.contains("not tried")),
        "{proof:?}"
    );
    assert_eq!(tree.disable("probe").unwrap().uid, applied.uid, "again");
    assert!(tree.accounts().undo(&applied).unwrap().is_exact());
    assert_eq!(tree.shadow(), SHADOW);
    assert!(!tree.accounts().prove(&applied).unwrap().is_read_back);
    assert!(tree.accounts().undo(&applied).unwrap().is_exact(), "again");
    let left: Vec<_> =
        std::fs::read_dir(tree.etc("")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 6, "passwd group shadow shadow- nsswitch.conf .pwd.lock: {left:?}");
    assert_eq!(std::fs::read_dir(tree.root().join("journal")).unwrap().count(), 0);
}

#[test]
fn owner_mode_and_attributes_of_the_file_are_kept() {
    if !is_root() {
        return;
    }
    let tree = Tree::new();
    let path = tree.etc("shadow");
    std::os::unix::fs::chown(&path, Some(7), Some(42)).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let set = rustix::fs::setxattr(&path, "user.label", b"kept", rustix::fs::XattrFlags::empty());
    let look = || {
        let metadata = std::fs::metadata(&path).unwrap();
        let mut label = [0; 16];
        let length = rustix::fs::getxattr(&path, "user.label", &mut label[..]).unwrap_or(0);
        (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777, label[..length].to_vec())
    };
    let before = look();
    assert_eq!(before, (7, 42, 0o640, if set.is_ok() { b"kept".to_vec() } else { Vec::new() }));
    let applied = tree.disable("probe").unwrap();
    assert_eq!(look(), before);
    tree.accounts().undo(&applied).unwrap();
    assert_eq!(look(), before);
}

#[test]
fn other_lines_may_change_meanwhile_and_a_line_changed_by_others_has_the_last_word() {
    if !is_root() {
        return;
    }
    let tree = Tree::new();
    let applied = tree.disable("probe").unwrap();
    // By the system's own tools, which also find our locks given back.
    let output = tree.tool("usermod", &["--expiredate", "2031-01-01", "bob"]);
    assert!(output.status.success(), "{output:?}");
    let output = tree.tool("userdel", &["www-data"]);
    assert!(output.status.success(), "{output:?}");
    assert!(tree.accounts().undo(&applied).unwrap().is_exact());
    assert_eq!(tree.line("probe"), "probe:$6$salt$hash:19000:0:99999:7::30000:");
    assert!(tree.line("bob").ends_with("::22280:") && !tree.shadow().contains("www-data"));

    let applied = tree.disable("probe").unwrap();
    let output = tree.tool("usermod", &["--unlock", "probe"]);
    assert!(output.status.success(), "{output:?}");
    let theirs = tree.line("probe");
    assert!(!tree.accounts().prove(&applied).unwrap().is_read_back);
    let again = tree.disable("probe").unwrap_err().to_string();
    assert!(again.contains("somebody else"), "{again}");
    let undone = tree.accounts().undo(&applied).unwrap();
    assert!(undone.differs[0].contains("somebody else"), "{undone:?}");
    assert_eq!(tree.line("probe"), theirs);
}

#[test]
fn root_cordons_own_users_and_the_last_administrator_are_refused() {
    let tree = Tree::new();
    let refused = |name: &str, because: &str| {
        let error = tree.disable(name).unwrap_err();
        assert!(matches!(error, ActError::Refused(_)), "{name}: {error}");
        assert!(error.to_string().contains(because), "{name}: {error}");
        assert_eq!(tree.shadow(), tree.shadow());
    };
    refused("root", "root is never disabled");
    refused("cordon-agent", "Cordon's own");
    // Root can't sign in here, so of two administrators one goes, and the other stays.
    let applied = tree.disable("ann").unwrap();
    refused("bob", "the last account");
    tree.accounts().undo(&applied).unwrap();
    // Bob's password is gone, and he has a key.
    tree.write("shadow", &SHADOW.replace("bob:$6$salt$hash", "bob:*"));
    refused("ann", "the last account");
    let keys = tree.root().join("home/bob/.ssh/authorized_keys");
    std::fs::write(&keys, "# none\n\n").unwrap();
    refused("ann", "the last account");
    std::fs::write(&keys, "ssh-ed25519 AAAA bob\n").unwrap();
    let applied = tree.disable("ann").unwrap();
    tree.accounts().undo(&applied).unwrap();
    // A link out of the home is no key of his.
    std::fs::remove_file(&keys).unwrap();
    std::os::unix::fs::symlink(tree.etc("passwd"), &keys).unwrap();
    refused("ann", "the last account");
    tree.write("shadow", &SHADOW.replace("root:*", "root:$6$salt$hash"));
    tree.disable("ann").unwrap();
}

#[test]
fn accounts_that_are_not_local_or_not_shadowed_or_twice_there_are_said_to_be() {
    let tree = Tree::new();
    let why = |name: &str| tree.disable(name).unwrap_err().to_string();
    assert!(why("carol").contains("no local account"));
    tree.write("nsswitch.conf", "passwd: files sss\n");
    assert!(why("carol").contains("sss"), "{}", why("carol"));
    let applied = tree.disable("probe").unwrap();
    let unproven = tree.accounts().prove(&applied).unwrap().unproven.join("\n");
    assert!(unproven.contains("that sss knows"), "{unproven}");
    let other = tree
        .accounts()
        .apply(measure(2), &target("probe"), &Protected::default())
        .unwrap_err()
        .to_string();
    assert!(other.contains("disabled already"), "{other}");
    tree.accounts().undo(&applied).unwrap();
    tree.write("passwd", &PASSWD.replace("probe:x:", "probe:hash:"));
    assert!(why("probe").contains("pwconv"));
    tree.write("passwd", &format!("{PASSWD}twin:x:54321:1::/:/bin/sh\n"));
    let applied = tree.disable("probe").unwrap();
    let unproven = tree.accounts().prove(&applied).unwrap().unproven.join("\n");
    assert!(unproven.contains("the account twin has the same user number"), "{unproven}");
    tree.accounts().undo(&applied).unwrap();
    tree.write("shadow", &format!("{SHADOW}probe:*:::::::\n"));
    assert!(why("probe").contains("more than one line"));
    tree.write("shadow", "root:*:::::::\n");
    assert!(why("probe").contains("no line"));
}

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
fn until(mut is_so: impl FnMut() -> bool) {
    let ends = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < ends, "it never was so");
        std::thread::sleep(Duration::from_millis(2));
    }
}

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

/// Not a test: one who holds a lock until killed, when a test starts this program again.
#[test]
fn one_who_holds_a_lock() {
    let Ok(path) = std::env::var("CORDON_TEST_HOLDS") else { return };
    let path = PathBuf::from(path);
    if path.ends_with("shadow.lock") {
        std::fs::write(&path, format!("{}\0", std::process::id())).unwrap();
    } else {
        let file = std::fs::File::create(&path).unwrap();
        let lock = libc::flock {
            l_type: libc::F_WRLCK.try_into().unwrap(),
            l_whence: 0,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_SETLK(&lock)).unwrap();
        std::mem::forget(file);
    }
    std::fs::write(path.with_extension("held"), "").unwrap();
    loop {
        std::thread::sleep(Duration::from_secs(60));
    }
}

#[test]
fn another_tools_lock_is_respected_and_a_dead_ones_taken_over() {
    for lock in ["shadow.lock", ".pwd.lock"] {
        let tree = Tree::new();
        let mut holder = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "one_who_holds_a_lock"])
            .env("CORDON_TEST_HOLDS", tree.etc(lock))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        until(|| tree.etc(lock).with_extension("held").exists());
        let why = tree.disable("probe").unwrap_err().to_string();
        assert!(why.contains("is being changed by") && why.contains(lock), "{why}");
        assert_eq!(tree.shadow(), SHADOW);
        holder.kill().unwrap();
        holder.wait().unwrap();
        tree.disable("probe").unwrap();
        assert_ne!(tree.shadow(), SHADOW);
        assert!(!tree.etc("shadow.lock").exists());
    }
}

/// Not a test: see [`cut_short`].
#[test]
fn one_who_disables() {
    let Some(root) = cut_short::is_deed("CORDON_TEST_DISABLES") else { return };
    accounts(Path::new(&root)).apply(measure(1), &target("probe"), &Protected::default()).unwrap();
}

/// Not a test: see [`cut_short`].
#[test]
fn one_who_undoes() {
    let Some(root) = cut_short::is_deed("CORDON_TEST_UNDOES") else { return };
    let accounts = accounts(Path::new(&root));
    let applied = accounts.begun(measure(1)).unwrap().unwrap();
    assert!(accounts.undo(&applied).unwrap().is_exact());
}

#[test]
fn killed_at_any_call_applying_again_and_undoing_end_where_they_should() {
    if !is_root() {
        return;
    }
    let fresh = std::cell::RefCell::new(Tree::in_memory());
    let calls = cut_short::killed_at_every_call(
        "one_who_disables",
        |_, command| {
            *fresh.borrow_mut() = Tree::in_memory();
            command.env("CORDON_TEST_DISABLES", fresh.borrow().root());
        },
        |number| {
            let tree = fresh.borrow();
            let half = tree.shadow();
            assert!(half == SHADOW || half.contains("probe:!"), "call {number}: {half}");
            if number % 2 == 0 {
                // The system's own tools are not locked out.
                let output = tree.tool("usermod", &["--expiredate", "2031-01-01", "bob"]);
                assert!(output.status.success(), "call {number}: {output:?}");
                let output = tree.tool("usermod", &["--expiredate", "", "bob"]);
                assert!(output.status.success(), "call {number}: {output:?}");
            }
            // Undone from the journal alone, as after a crash; or done again, and then undone.
            if number % 3 == 0 {
                if let Some(begun) = tree.accounts().begun(measure(1)).unwrap() {
                    assert!(tree.accounts().undo(&begun).unwrap().is_exact(), "call {number}");
                }
            } else {
                let applied = tree.disable("probe").unwrap();
                assert!(tree.accounts().prove(&applied).unwrap().is_read_back, "call {number}");
                assert_eq!(tree.line("probe"), "probe:!$6$salt$hash:19000:0:99999:7::1:");
                assert!(tree.accounts().undo(&applied).unwrap().is_exact(), "call {number}");
            }
            assert_eq!(tree.shadow(), SHADOW, "call {number}");
        },
    );
    eprintln!("killed before each of {calls} calls of apply");
    assert!(calls > 50, "{calls}");
    let calls = cut_short::killed_at_every_call(
        "one_who_undoes",
        |_, command| {
            *fresh.borrow_mut() = Tree::in_memory();
            fresh.borrow().disable("probe").unwrap();
            command.env("CORDON_TEST_UNDOES", fresh.borrow().root());
        },
        |number| {
            let tree = fresh.borrow();
            if let Some(begun) = tree.accounts().begun(measure(1)).unwrap() {
                assert!(tree.accounts().undo(&begun).unwrap().is_exact(), "call {number}");
            }
            assert_eq!(tree.shadow(), SHADOW, "call {number}");
        },
    );
    eprintln!("killed before each of {calls} calls of undo");
    assert!(calls > 50, "{calls}");
}

/// A mount namespace in which `/etc` is a copy with our accounts in it: for the real programs.
struct Machine {
    tree: Tree,
}

impl Machine {
    fn new() -> Option<Self> {
        if !is_root() {
            return None;
        }
        let tree = Tree::new();
        let etc = tree.etc("");
        // Whoever else changes something there meanwhile takes files away that `cp` has seen.
        until(|| {
            let _ = std::fs::remove_dir_all(&etc);
            let copied = Command::new("cp").args(["-a", "/etc"]).arg(&etc).output().unwrap();
            copied.status.success()
        });
        for (name, text) in
            [("passwd", &*format!("{PASSWD}{SSHD}")), ("group", GROUP), ("shadow", SHADOW)]
        {
            let mut all = std::fs::read_to_string(tree.etc(name)).unwrap();
            let known: Vec<String> =
                all.lines().map(|line| line.split(':').next().unwrap().to_owned()).collect();
            for line in text.lines() {
                if !known.iter().any(|name| line.starts_with(&format!("{name}:"))) {
                    all.push_str(line);
                    all.push('\n');
                }
            }
            std::fs::write(tree.etc(name), all).unwrap();
        }
        Some(Self { tree })
    }

    fn runs(&self, script: &str) -> Output {
        let script = format!(
            "mount --bind '{}' /etc && mount -t tmpfs none /run && mkdir /run/sshd && {script}",
            self.tree.etc("").display()
        );
        Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", &script])
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }
}

#[test]
fn the_real_su_lets_a_disabled_account_in_no_more_and_again_after_the_undo() {
    let Some(machine) = Machine::new() else { return };
    // As root, su asks for no password: what refuses is PAM's account phase, which keys pass too.
    let su = || machine.runs("su probe -c 'id -un'");
    let output = su();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "probe\n", "{output:?}");
    let applied = machine.tree.disable("probe").unwrap();
    let output = su();
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("expired"), "{output:?}");
    assert!(machine.tree.accounts().undo(&applied).unwrap().is_exact());
    assert_eq!(String::from_utf8_lossy(&su().stdout), "probe\n");
}

#[test]
fn the_real_sshd_refuses_a_disabled_accounts_key_with_pam_and_without() {
    let Some(machine) = Machine::new() else { return };
    if cordon_tests::lacks_programs(&["sshd", "ssh"]) {
        return;
    }
    // It starts itself anew for each connection, and wants to know where it is.
    let sshd = "/usr/sbin/sshd";
    let root = machine.tree.root();
    let keys = root.join("keys");
    let script = format!(
        "mkdir -p {keys} && cd {keys} && ssh-keygen -q -t ed25519 -N '' -f host && \
         ssh-keygen -q -t ed25519 -N '' -f user && cp user.pub authorized && chmod 711 {root} && \
         chmod 755 {keys} && chmod 644 authorized",
        keys = keys.display(),
        root = root.display(),
    );
    let output = machine.runs(&script);
    assert!(output.status.success(), "{output:?}");
    let signs_in = |pam: &str| {
        let keys = keys.display();
        let output = machine.runs(&format!(
            "ssh -F none -i {keys}/user -o BatchMode=yes -o StrictHostKeyChecking=no \
             -o UserKnownHostsFile=/dev/null -o ProxyCommand='{sshd} -i -e -f /dev/null -h {keys}/host \
             -o UsePAM={pam} -o StrictModes=no -o AuthorizedKeysFile={keys}/authorized' \
             probe@machine id -un"
        ));
        eprintln!("UsePAM={pam}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout == b"probe\n"
    };
    assert!(signs_in("yes") && signs_in("no"));
    let applied = machine.tree.disable("probe").unwrap();
    assert!(!signs_in("yes") && !signs_in("no"));
    machine.tree.accounts().undo(&applied).unwrap();
    assert!(signs_in("yes") && signs_in("no"));
}
