//! What an intruder's processes change, from their first line to everything being as it was, by the real commands: seen,
//! found, planned, put back, looked at again, and taken back once more.
//!
//! The intruder is harmless: a shell that lies where malware puts its own, and adds lines that never do anything to files
//! that are this test's own. It is this very machine that is looked out on.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cordon_tests::{Attack, Up, Where, cordon, eventually, lacks_root};
use serde_json::Value;

/// Files of this test's own where something starts by itself or lets somebody in; taken away with it.
struct Planted {
    crontab: PathBuf,
    shared: PathBuf,
    script: PathBuf,
    keys: PathBuf,
    unit: PathBuf,
    made: Vec<PathBuf>,
}

impl Planted {
    fn new() -> Self {
        let name = format!("cordon-test-undo-{}", std::process::id());
        let in_folder = |folder: &str| Path::new(folder).join(&name);
        let mut planted = Self {
            crontab: in_folder("/etc/cron.d"),
            shared: Path::new("/etc/cron.d").join(format!("{name}-shared")),
            script: in_folder("/etc/cron.yearly"),
            keys: "/etc/dropbear/authorized_keys".into(),
            unit: Path::new("/etc/systemd/system").join(format!("{name}.service")),
            made: Vec::new(),
        };
        for path in planted.files() {
            let folder = path.parent().unwrap();
            if !folder.exists() {
                fs::create_dir_all(folder).unwrap();
                planted.made.push(folder.to_owned());
            }
        }
        assert!(
            !planted.keys.exists(),
            "another program keeps keys here: this test would change them"
        );
        fs::write(&planted.crontab, "0 0 31 2 * nobody /bin/true\n").unwrap();
        fs::write(&planted.shared, "0 0 31 2 * nobody /bin/true\n").unwrap();
        fs::write(&planted.script, "#!/bin/sh\nexit 0\n").unwrap();
        fs::write(&planted.keys, "ssh-ed25519 AAAA ward\n").unwrap();
        for (path, mode) in [(&planted.keys, 0o600), (&planted.script, 0o755)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        planted
    }

    fn files(&self) -> Vec<PathBuf> {
        let files = [&self.crontab, &self.shared, &self.script, &self.keys, &self.unit];
        files.map(Clone::clone).to_vec()
    }
}

impl Drop for Planted {
    fn drop(&mut self) {
        for path in self.files() {
            let _ = fs::remove_file(path);
        }
        for folder in &self.made {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// A process that is ended with its test.
struct Running(Child);

impl Running {
    fn does(&mut self, line: &str) {
        writeln!(self.0.stdin.as_mut().unwrap(), "{line}").unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// All that a file is, as programs see it.
#[derive(Debug, PartialEq, Eq)]
struct Whole {
    content: Vec<u8>,
    mode: u32,
    owner: (u32, u32),
    modified: (i64, i64),
}

fn whole(path: &Path) -> Option<Whole> {
    let found = fs::metadata(path).ok()?;
    Some(Whole {
        content: fs::read(path).ok()?,
        mode: found.mode(),
        owner: (found.uid(), found.gid()),
        modified: (found.mtime(), found.mtime_nsec()),
    })
}

/// The step about a file, if it is one of what was seen to be changed.
fn step<'a>(plan: &'a Value, path: &Path) -> Option<&'a Value> {
    let path = path.to_str().unwrap();
    plan["steps"].as_array().unwrap().iter().find(|step| {
        let what = step["what"].as_str().unwrap();
        what.starts_with(&format!("{path} (")) && what.contains("as it was before")
    })
}

fn in_the_end<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(240);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn whoever_wants_nobody_to_look_out_is_obeyed_and_told_what_that_costs() {
    if lacks_root("looking out for changes") {
        return;
    }
    let up = Up::start_in(Where::OwnNetwork, &["--no-look-out"]);
    assert!(up.said.contains("nobody looks out for changes here (as you said)"), "{}", up.said);
    // The helper serves by now: whom it has look out, it had begin before that.
    let _ = up.linked_machine();
    let helper = format!("PPid:\t{}\n", up.role("helper").unwrap());
    let of_helper = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let status = fs::read_to_string(entry.unwrap().path().join("status")).ok()?;
        status.contains(&helper).then(|| status.lines().next().unwrap_or_default().to_owned())
    });
    let all: Vec<_> = of_helper.collect();
    assert!(!all.iter().any(|name| name.contains("lookout")), "{all:?}");
    assert!(!up.state.path().join("helper/lookout").exists());
}

#[test]
fn what_an_intruder_changed_is_seen_put_back_and_shown_to_be_as_it_was() {
    if lacks_root("looking out for changes") {
        return;
    }
    let planted = Planted::new();
    let up = Up::start_in(Where::OwnNetwork, &[]);
    assert!(up.said.contains("looks out    for each change at "), "{}", up.said);
    let name = up.linked_machine()["name"].as_str().unwrap().to_owned();
    let name = name.as_str();
    up.cordon(&["assign", name, "--tier", "0"]).unwrap();
    let known = up.state.path().join("helper/lookout/known.cbor");
    in_the_end("somebody looks out", || known.exists().then_some(()));
    let changed = [&planted.crontab, &planted.script, &planted.keys];
    let before: Vec<_> = changed.iter().map(|path| whole(path)).collect();

    let attack = Attack::with("/bin/sh", "undo");
    let mut intruder = up.inside(attack.program());
    let mut intruder = Running(intruder.stdin(Stdio::piped()).spawn().unwrap());
    eventually("an incident", || up.json(&["incidents"]).as_array()?.first().cloned());
    for (line, path) in [
        ("echo '0 0 31 2 * root /tmp/evil' >>", &planted.crontab),
        ("echo '0 0 31 2 * root /tmp/evil' >>", &planted.shared),
        ("echo 'ssh-ed25519 EVIL eve' >>", &planted.keys),
        ("printf '#!/bin/sh\\n/tmp/evil\\n' >", &planted.script),
        ("echo '[Service]' >", &planted.unit),
    ] {
        intruder.does(&format!("{line} {}", path.display()));
    }
    // Somebody of the hospital's adds a line of theirs meanwhile.
    eventually("the intruder was there", || {
        fs::read_to_string(&planted.shared).unwrap().contains("evil").then_some(())
    });
    in_the_end("that is seen", || step(&up.json(&["eliminate", name]), &planted.shared).map(drop));
    let mut shared = OpenOptions::new().append(true).open(&planted.shared).unwrap();
    shared.write_all(b"5 5 31 2 * nobody /usr/bin/ours\n").unwrap();
    drop(shared);

    // Shown first: who did what, which lines, and nothing is done by it.
    let plan = in_the_end("all of it is in the plan", || {
        let plan = up.json(&["eliminate", name]);
        let is_there = changed.iter().all(|path| step(&plan, path).is_some());
        let shared = step(&plan, &planted.shared)?;
        let is_by_hand = shared["how"] == "by-hand";
        (is_there && is_by_hand && step(&plan, &planted.unit).is_some()).then_some(plan)
    });
    println!("{}", up.cordon(&["eliminate", name]).unwrap());
    for path in changed {
        let step = step(&plan, path).unwrap();
        assert_eq!(
            (&step["how"], &step["status"]),
            (&"put-back".into(), &"to-do".into()),
            "{step:#}"
        );
        let why = step["why"].to_string();
        assert!(why.contains(&format!("process {}", intruder.0.id())), "{why}");
    }
    let why = step(&plan, &planted.crontab).unwrap()["why"].to_string();
    assert!(why.contains("+ 0 0 31 2 * root /tmp/evil") && why.contains("sha256"), "{why}");
    assert_eq!(step(&plan, &planted.unit).unwrap()["how"], "quarantine");
    let because = step(&plan, &planted.shared).unwrap()["because"].to_string();
    assert!(because.contains("somebody else changed it since"), "{because}");
    let evil: Vec<_> = changed.iter().map(|path| whole(path)).collect();
    assert_ne!(evil, before);
    let shared = whole(&planted.shared);

    // Ordered, done, and looked at again.
    let digest = plan["digest"].as_str().unwrap();
    let ordered = up.cordon(&["eliminate", name, "--order", digest, "--reason", "the intruder"]);
    println!("{}", ordered.unwrap());
    eventually("the unit is set aside", || (!planted.unit.exists()).then_some(()));
    for (path, before) in changed.iter().zip(&before) {
        eventually("it is as it was", || (whole(path) == *before).then_some(()));
    }
    assert_eq!(whole(&planted.shared), shared, "what somebody else changed is left");
    in_the_end("a look shows it", || {
        let plan = up.json(&["eliminate", name]);
        let is_done =
            |path: &PathBuf| step(&plan, path).is_some_and(|step| step["status"] == "done");
        (changed.iter().all(|path| is_done(path)) && is_done(&planted.unit)).then_some(())
    });
    let verified = Command::new(cordon())
        .args(["eliminate", name, "--verify", "--state"])
        .arg(up.state.path())
        .output()
        .unwrap();
    let text = String::from_utf8(verified.stdout).unwrap();
    println!("{text}");
    assert!(text.contains("it is as it was before, by a look"), "{text}");

    // What was put back is taken back: the changed one is there again, to the byte.
    let list = up.cordon(&["measure", "list", name]).unwrap();
    let line = list
        .lines()
        .find(|line| {
            line.contains("back as it was")
                && line.contains(&format!("put {} ", planted.crontab.display()))
        })
        .unwrap_or_else(|| panic!("{list}"));
    let measure = line.split_whitespace().next().unwrap();
    up.cordon(&["measure", "undo", name, measure, "--reason", "a test"]).unwrap();
    eventually("it is as the intruder left it", || {
        (whole(&planted.crontab) == evil[0]).then_some(())
    });
    in_the_end("and the plan has it again", || {
        let plan = up.json(&["eliminate", name]);
        (step(&plan, &planted.crontab)?["status"] == "to-do").then_some(())
    });
    eventually("the ledger is cosigned, and sound", || up.cordon(&["verify"]).ok());
}
