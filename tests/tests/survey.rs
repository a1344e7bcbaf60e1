//! `cordon survey` as its user runs it: from the command line through hub and agent to the helper, whose
//! process looks at this very machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use cordon_tests::{Up, cordon, eventually, lacks_root};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// A file of this machine's, taken away with its test.
struct Planted(PathBuf);

impl Planted {
    /// A crontab that does nothing, at a time that never comes.
    fn crontab(name: &str) -> Self {
        let path = Path::new("/etc/cron.d").join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all("/etc/cron.d").unwrap();
        fs::write(&path, "# planted by a test\n0 0 31 2 * nobody /bin/true\n").unwrap();
        Self(path)
    }
}

impl Drop for Planted {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// What a survey says of one file.
fn things_of<'a>(survey: &'a Value, path: &Path) -> Vec<&'a Value> {
    let things = survey["things"].as_array().unwrap();
    things.iter().filter(|thing| thing["path"] == path.to_str().unwrap()).collect()
}

/// One after the other: the second makes the machine too busy for the first.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn a_crontab_that_comes_after_the_first_look_is_shown_as_new_and_then_as_gone() {
    if lacks_root("`cordon survey`") {
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let old = Planted::crontab("cordon-test-old");
    let up = Up::start();
    let name = up.linked_machine()["name"].as_str().unwrap().to_owned();
    let began = Instant::now();
    let all = up.json(&["survey", &name, "--all"]);
    println!("{} things in {:?}", all["of"], began.elapsed());
    assert!(all["of"].as_u64().unwrap() > 0);
    assert!(all["things"].as_array().unwrap().iter().any(|thing| thing["kind"] == "account"));

    let new = Planted::crontab("cordon-test-new");
    let survey = up.json(&["survey", &name]);
    let [thing] = things_of(&survey, &new.0)[..] else { panic!("{survey:#}") };
    assert_eq!(thing["line"], "0 0 31 2 * nobody /bin/true");
    assert_eq!((&thing["technique"], &thing["gone_unix_ns"]), (&"T1053.003".into(), &Value::Null));
    let absent = thing["absent_unix_ns"].as_i64().unwrap();
    let present = thing["present_unix_ns"].as_i64().unwrap();
    assert!(survey["known_since_unix_ns"].as_i64().unwrap() <= absent && absent < present);
    assert!(things_of(&survey, &old.0).is_empty(), "it was there at the first look: {survey:#}");

    let shown = up.cordon(&["survey", &name, "--since", "1h"]).unwrap();
    println!("{shown}");
    assert!(shown.contains(&format!("{}: 0 0 31 2 *", new.0.display())), "{shown}");

    // What is taken away is said to be gone, also by a helper that was started again meanwhile.
    let helper = up.role("helper").unwrap();
    kill(helper, Signal::SIGKILL).unwrap();
    eventually("the helper is started again", || up.role("helper").filter(|new| *new != helper));
    let gone = new.0.clone();
    drop(new);
    let survey = eventually("the machine is looked at again", || {
        let text = up.cordon(&["survey", &name, "--json"]).ok()?;
        serde_json::from_str::<Value>(&text).ok()
    });
    let [thing] = things_of(&survey, &gone)[..] else { panic!("{survey:#}") };
    assert!(thing["gone_unix_ns"].as_i64().unwrap() > present);
    assert_eq!(thing["absent_unix_ns"], absent, "and it is remembered when it came");
}

/// A program that takes all of both processors, ended with its test.
struct Busy(Vec<std::process::Child>);

impl Busy {
    fn new() -> Self {
        let spin = || std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn();
        let count = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Self((0..2 * count).map(|_| spin().unwrap()).collect())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn an_isolation_does_not_wait_for_a_look_that_a_busy_machine_delays() {
    if lacks_root("isolating while a machine is looked at") {
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let up = Up::start();
    let name = up.linked_machine()["name"].as_str().unwrap().to_owned();
    let _busy = Busy::new();
    std::thread::scope(|scope| {
        let looks = scope.spawn(|| up.cordon(&["survey", &name, "--all"]));
        std::thread::sleep(Duration::from_millis(200));
        up.cordon(&["isolate", &name, "--reason", "test", "--no-wait"]).unwrap();
        eventually("it is isolated", || {
            (up.json(&["machines"])[0]["truth"] == "verified").then_some(())
        });
        // It comes, or it is said why it does not: nobody waits for ever.
        match looks.join().unwrap() {
            Ok(_) => {}
            Err(why) => {
                assert!(why.contains("the machine is busy") || why.contains("in time"), "{why}")
            }
        }
    });
}

/// The memory that a `cordon up`'s looks have, held so that none of them begins.
fn held(up: &Up) -> fs::File {
    let lock = up.state.path().join("helper/survey/lock");
    let lock = eventually("a look begins", || fs::File::options().write(true).open(&lock).ok());
    lock.lock().unwrap();
    lock
}

/// The process of a role that a process started.
fn child_of(parent: Pid, role: &str) -> Option<u32> {
    let threads = fs::read_dir(format!("/proc/{parent}/task")).ok()?.flatten();
    let children = threads.filter_map(|of| fs::read_to_string(of.path().join("children")).ok());
    let children: Vec<u32> =
        children.flat_map(|all| all.split(' ').flat_map(str::parse).collect::<Vec<_>>()).collect();
    children.into_iter().find(|child| {
        let words = fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&words).contains(&format!("role\0{role}\0"))
    })
}

#[test]
fn a_look_ends_with_its_helper_however_that_ends_and_the_next_one_waits_until_it_is_gone() {
    if lacks_root("ending a helper") {
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let up = Up::start();
    let name = up.linked_machine()["name"].as_str().unwrap().to_owned();
    let lock = held(&up);
    // One that waits as long as they do, from before they begin: by itself none ends before it.
    let folder = up.state.path().join("helper/survey");
    let mut witness = std::process::Command::new(cordon());
    witness.args(["role", "survey"]).args([&folder, Path::new("/")]).arg("nothing");
    witness.env("CORDON_HELPER", std::process::id().to_string());
    let mut witness = witness.stdout(std::process::Stdio::null()).spawn().unwrap();
    let helper_ends = || {
        let helper = up.role("helper").unwrap();
        kill(helper, Signal::SIGKILL).unwrap();
        let next = || up.role("helper").filter(|next| *next != helper);
        let next = eventually("the helper is started again", next);
        eventually("a look at its start", || child_of(next, "survey"))
    };
    let look = helper_ends();
    let of_the_next = helper_ends();
    eventually("the look is gone with its helper", || {
        let words = fs::read(format!("/proc/{look}/cmdline")).unwrap_or_default();
        words.is_empty().then_some(())
    });
    assert!(witness.try_wait().unwrap().is_none(), "it ended by itself");
    // The look of the next helper's start finds another at work for a moment, and says nothing of it.
    assert_ne!(look, of_the_next);
    drop(lock);
    witness.wait().unwrap();
    eventually("the machine is looked at again", || up.cordon(&["survey", &name]).ok());
    assert!(!up.log().contains("was not looked at"), "{}", up.log());
}

#[test]
fn a_look_whose_helper_ended_before_the_kernel_was_told_ends_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let look = |helper: u32| {
        let mut look = std::process::Command::new(cordon());
        look.args(["role", "survey"]).args([folder.path(), folder.path()]).arg("nothing");
        look.env("CORDON_HELPER", helper.to_string()).output().unwrap()
    };
    let said = look(std::process::id());
    assert!(said.status.success(), "{said:?}");
    // Its parent by now is another.
    let said = look(1);
    let words = String::from_utf8_lossy(&said.stdout);
    assert!(!said.status.success() && words.contains("not started by a helper"), "{said:?}");
}
