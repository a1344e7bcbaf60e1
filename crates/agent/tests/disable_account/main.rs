//! Accounts disabled and given back, in trees of their own, beside the system's own tools; and what the
//! real `su` and `sshd` say to it. The machine's own accounts are never touched.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own tools fail the test")]

#[path = "../cut_short/mod.rs"]
mod cut_short;

mod interrupted;
mod programs;
mod sessions;

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use cordon_agent::contain::action::account::{Accounts, Applied};
use cordon_agent::contain::action::{ActError, Journal, Protected};
use cordon_model::action::AccountTarget;
use cordon_model::ids::MeasureId;
use cordon_model::time::UtcNanos;

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

fn until(mut is_so: impl FnMut() -> bool) {
    let ends = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < ends, "it never was so");
        std::thread::sleep(Duration::from_millis(2));
    }
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
