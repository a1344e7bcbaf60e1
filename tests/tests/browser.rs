//! The console in a real browser: signed in by the one-time link, an attack seen as it happens, the machine
//! isolated and released, with JavaScript and without it; nothing leaves the console's own address.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use cordon_tests::{cordon, lacks_root, root};

/// Why there is no browser to test with, if there is none.
fn lacks_browser() -> Option<String> {
    let chromium =
        std::env::var("CORDON_CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".to_owned());
    if !Path::new(&chromium).exists() {
        return Some(format!("there is no {chromium} (CORDON_CHROMIUM names another)"));
    }
    for program in ["node", "npm"] {
        let is_there = Command::new(program).arg("--version").stdout(Stdio::null()).status();
        if !is_there.is_ok_and(|status| status.success()) {
            return Some(format!("there is no {program}"));
        }
    }
    let directory = root().join("tests/browser");
    if directory.join("node_modules/playwright-core/package.json").exists() {
        return None;
    }
    let npm = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
        .current_dir(&directory)
        .status();
    match npm {
        Ok(status) if status.success() => None,
        _ => Some("npm could not install playwright-core".to_owned()),
    }
}

/// A running `cordon up` in a network namespace of its own; ended when dropped.
struct Up {
    child: Child,
    _state: tempfile::TempDir,
    link: String,
}

impl Up {
    fn start() -> Self {
        let state = tempfile::tempdir().unwrap();
        // Roles of other users must be able to enter.
        fs::set_permissions(state.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let script = format!(
            "ip link set lo up && exec {} up --own-network-only --state {} --organisation RJ1 --name 'Test hospital'",
            cordon().display(),
            state.path().display()
        );
        let mut child = Command::new("unshare")
            .args(["--net", "--", "sh", "-c", &script])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let link = lines
            .by_ref()
            .map(Result::unwrap)
            .find(|line| line.trim().starts_with("http://") && line.contains("sign-in"))
            .expect("`cordon up` prints a sign-in link");
        // What it says later must not stop it for want of a reader.
        thread::spawn(move || lines.for_each(drop));
        Self { child, _state: state, link: link.trim().to_owned() }
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let pid = nix::unistd::Pid::from_raw(pid);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        }
        let _ = self.child.wait();
    }
}

/// A program where malware puts its own: a rule of ours names such places. A call of it does no more than
/// `true`. Removed when dropped.
struct Attack {
    directory: PathBuf,
}

impl Attack {
    fn new(name: &str) -> Self {
        let directory = PathBuf::from(format!("/dev/shm/.B{}-{name}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        fs::copy("/bin/true", directory.join("kworkerd")).unwrap();
        Self { directory }
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn drive(script: &str) {
    if lacks_root("the console in a browser") {
        return;
    }
    if let Some(why) = lacks_browser() {
        println!("skipped: the console in a browser: {why}");
        return;
    }
    let up = Up::start();
    let attack = Attack::new(script);
    let pictures = cordon().parent().unwrap().join("pictures");
    let status = Command::new("nsenter")
        .args(["--net", "--target", &up.child.id().to_string(), "--", "node"])
        .arg(root().join("tests/browser/console.mjs"))
        .args([&up.link, script])
        .arg(attack.directory.join("kworkerd"))
        .arg(&pictures)
        .status()
        .unwrap();
    assert!(status.success(), "see above, and the pictures in {}", pictures.display());
}

#[test]
fn a_person_sees_an_attack_live_and_isolates_and_releases_the_machine() {
    drive("on");
}

#[test]
fn a_person_without_javascript_can_do_the_same() {
    drive("off");
}
