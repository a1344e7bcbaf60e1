//! In the middle of other tools' changes, and killed in the middle of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use cordon_agent::contain::action::Protected;

use super::{SHADOW, Tree, accounts, cut_short, is_root, measure, target, until};

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
            .args(["--exact", "interrupted::one_who_holds_a_lock"])
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
        "interrupted::one_who_disables",
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
        "interrupted::one_who_undoes",
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
