//! The helper as a program of its own: taken where only root can have put it, and it spares the others.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use cordon_tests::{Up, cordon, eventually, lacks_root};

/// The file that a process runs.
fn program_of(pid: impl std::fmt::Display) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe")).ok()
}

/// Whether nobody but root can have put anything into `folder`.
fn is_roots(folder: &Path) -> bool {
    folder.ancestors().all(|part| {
        fs::metadata(part).is_ok_and(|found| found.uid() == 0 && found.mode() & 0o022 == 0)
    })
}

/// A helper by itself, in a network of its own.
struct Alone(Child);

impl Alone {
    /// Started from `folder`, which holds the programs; comes back when it is ready.
    fn start(folder: &Path) -> Self {
        let state = folder.join("state");
        fs::create_dir_all(&state).unwrap();
        let socket = folder.join("helper.sock");
        let _ = fs::remove_file(&socket);
        let child = Command::new("unshare")
            .args(["--net", "--"])
            .arg(folder.join("cordon"))
            .args(["role", "helper", "--agent-uid", "65534", "--directory"])
            .arg(state)
            .arg("--socket")
            .arg(&socket)
            .arg("--warden")
            .arg(folder.join("warden.sock"))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let alone = Self(child);
        eventually("the helper listens", || socket.exists().then_some(()));
        alone
    }

    fn runs(&self) -> String {
        let program = program_of(self.0.id()).unwrap();
        program.file_name().unwrap().to_str().unwrap().to_owned()
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_small_program_is_the_helper_only_where_root_alone_can_have_put_it() {
    if lacks_root("the helper") {
        return;
    }
    // Beside the real ones, so that a second name costs no copy.
    let real = cordon().parent().unwrap();
    let folder = tempfile::tempdir_in(real).unwrap();
    let at = |name: &str| folder.path().join(name);
    let mode = |mode| fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
    fs::hard_link(real.join("cordon"), at("cordon")).unwrap();
    mode(0o755);
    assert_eq!(Alone::start(folder.path()).runs(), "cordon", "there is no other");

    fs::hard_link(real.join("cordon-helper"), at("cordon-helper")).unwrap();
    let expected = if is_roots(folder.path()) { "cordon-helper" } else { "cordon" };
    assert_eq!(Alone::start(folder.path()).runs(), expected);

    mode(0o777);
    assert_eq!(Alone::start(folder.path()).runs(), "cordon", "anybody may have put it there");

    // Another version's words may be others.
    mode(0o755);
    fs::remove_file(at("cordon-helper")).unwrap();
    fs::write(at("cordon-helper"), "#!/bin/sh\necho cordon-helper 0.0.1\n").unwrap();
    fs::set_permissions(at("cordon-helper"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(Alone::start(folder.path()).runs(), "cordon", "it is of another version");
}

#[test]
fn whichever_program_the_helper_is_no_order_ends_or_takes_away_the_others() {
    if lacks_root("`cordon measure`") {
        return;
    }
    let up = Up::start();
    let name = up.linked_machine()["name"].as_str().unwrap().to_owned();
    up.cordon(&["assign", &name, "--tier", "0"]).unwrap();
    let helper = program_of(up.role("helper").unwrap()).unwrap();
    if is_roots(cordon().parent().unwrap()) {
        assert_eq!(helper, cordon().with_file_name("cordon-helper"));
    }
    let refused = |kind: &str, why: &str| {
        eventually(&format!("{kind} is refused: {why}"), || {
            let list = up.cordon(&["measure", "list", &name]).ok()?;
            // The newest first, each with the reason below it.
            let mut lines = list.lines().skip_while(|line| !line.contains(&format!(" {kind} ")));
            let (what, reason) = (lines.next()?, lines.next()?);
            (what.contains("failed") && format!("{what} {reason}").contains(why)).then_some(())
        });
    };

    let agent = up.role("agent").unwrap();
    let pid = agent.to_string();
    let said = up.cordon(&["measure", "kill", &name, "--pid", &pid, "--reason", "test"]);
    assert!(said.unwrap_err().contains("FAILED"));
    refused("kill", "Cordon itself");
    assert_eq!(up.role("agent"), Some(agent));

    for program in [cordon().to_owned(), cordon().with_file_name("cordon-helper")] {
        let path = program.to_str().unwrap();
        let said = up.cordon(&["measure", "quarantine", &name, path, "--reason", "test"]);
        assert!(said.unwrap_err().contains("FAILED"));
        refused("quarantine", program.file_name().unwrap().to_str().unwrap());
        assert!(program.exists(), "{path}");
    }
}
