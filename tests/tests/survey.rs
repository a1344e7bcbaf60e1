//! `cordon survey` as its user runs it: from the command line through hub and agent to the helper, whose
//! process looks at this very machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use cordon_tests::{Up, eventually, lacks_root};
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
    nix::sys::signal::kill(helper, nix::sys::signal::Signal::SIGKILL).unwrap();
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
