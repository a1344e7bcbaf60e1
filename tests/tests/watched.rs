//! A content that is denied on a whole filesystem: named by people, signed, and refused by the machine's kernel
//! whatever a copy is called.
//!
//! The filesystem is one in memory that only the test's own thread, and what it starts, can see.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cordon_tests::{Up, cordon, eventually, lacks_root};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use sha2::{Digest as _, Sha256};

/// A filesystem in memory, taken away when it is dropped.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new() -> Self {
        let disk = Self(tempfile::tempdir().unwrap());
        let options = Some("size=64m,mode=755");
        mount(Some("none"), disk.0.path(), Some("tmpfs"), MsFlags::empty(), options).unwrap();
        disk
    }

    /// A program of its own that does nothing: the content of the machine's own is never denied.
    fn program(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = umount2(self.0.path(), MntFlags::MNT_DETACH);
    }
}

fn can_start(path: &Path) -> bool {
    match Command::new(path).stdout(Stdio::null()).status() {
        Ok(status) => status.success(),
        Err(error) => {
            assert_eq!(error.raw_os_error(), Some(nix::libc::EPERM), "{}", path.display());
            false
        }
    }
}

#[test]
fn a_renamed_copy_of_what_is_denied_does_not_start_on_a_filesystem_that_people_named() {
    if lacks_root("watching a filesystem") {
        return;
    }
    // Built before anything is denied.
    let _ = cordon();
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let nothing = None::<&str>;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing).unwrap();
    let (watched, other) = (Disk::new(), Disk::new());
    let up = Up::start();
    let name = up.linked_machine()["name"].as_str().unwrap().to_owned();
    let at = watched.0.path().to_str().unwrap();

    // The filesystem of `/` is refused before anything is signed.
    let assign = ["assign", &name, "--called", &name, "--tier", "0"];
    let wrong = up.cordon(&[&assign[..], &["--watch-for-content", "/"]].concat()).unwrap_err();
    assert!(wrong.contains("another filesystem"), "{wrong}");
    let said = up.cordon(&[&assign[..], &["--watch-for-content", at]].concat()).unwrap();
    assert!(said.contains(&format!("watched    {at}")), "{said}");
    // What was said stays said.
    up.cordon(&assign).unwrap();
    let shown = up.cordon(&["machines", &name]).unwrap();
    assert!(shown.contains(&format!("watched    {at} for denied contents")), "{shown}");
    assert_eq!(up.json(&["machines", &name])["watched"][0], at);

    let mut worm = fs::read("/bin/true").unwrap();
    worm.extend(b"a worm");
    let digest: String = Sha256::digest(&worm).iter().map(|byte| format!("{byte:02x}")).collect();
    let before = watched.program("before", &worm);
    assert!(can_start(&before));
    let said = up.cordon(&["measure", "deny", &name, "--sha256", &digest, "--reason", "test"]);
    // What could not be tried is said with it; that it is in force is shown below.
    let said = said.unwrap_or_else(|said| said);
    let denied = |path: &Path| eventually("it is denied", || (!can_start(path)).then_some(()));
    denied(&before);
    let list = up.cordon(&["measure", "list", &name]).unwrap();
    assert!(list.contains("deny") && list.contains(at), "{said}\n{list}");
    let copy = watched.program("renamed", &worm);
    assert!(!can_start(&copy), "whatever it is called");
    assert!(can_start(&watched.program("honest", &[&worm[..], b"?"].concat())));
    assert!(can_start(&other.program("elsewhere", &worm)), "as is said: only there");

    // Named no more, it is watched no more; and taken back, it starts.
    up.cordon(&[&assign[..], &["--watch-nothing"]].concat()).unwrap();
    let fresh = watched.program("fresh", &worm);
    eventually("it is not watched", || can_start(&fresh).then_some(()));
    let measure = list.lines().find(|line| line.contains(" deny ")).unwrap();
    let measure = measure.split_whitespace().next().unwrap();
    up.cordon(&["measure", "undo", &name, measure, "--reason", "test"]).unwrap();
    eventually("it is allowed", || can_start(&before).then_some(()));
}
