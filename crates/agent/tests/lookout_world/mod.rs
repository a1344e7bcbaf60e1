//! A machine's tree of files below a folder of the test's own, somebody who looks out on it, and a harmless intruder.

#![allow(dead_code, reason = "each test file uses its part of the world")]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cordon_agent::contain::action::put_back::PutBack;
use cordon_agent::contain::action::quarantine::metadata::Metadata;
use cordon_agent::contain::action::quarantine::vault::{Limits, Vault};
use cordon_agent::contain::action::spared::FileId;
use cordon_agent::contain::action::{ActError, Journal, Protected};
use cordon_agent::contain::lookout::tell::tell;
use cordon_agent::contain::lookout::watching::Lookout;
use cordon_model::action::{FilePath, PutBackTarget, UndoneProcess};
use cordon_model::change::{Change, Changes, Doer};
use cordon_model::ids::MeasureId;
use cordon_model::time::{BootId, UtcNanos};
use cordon_tests::lacks_root;
use rustix::fs::{Timespec, Timestamps, XattrFlags};

use crate::action_world::{PATIENCE, boot};

const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nann:x:1000:1000::/home/ann:/bin/bash\n";

/// The one measure of each machine.
pub fn measure() -> MeasureId {
    "018f0000-0000-7000-8000-000000000001".parse().unwrap()
}

/// A machine's tree of files, and somebody who looks out on it.
pub struct Machine {
    folder: tempfile::TempDir,
    pub lookout: Option<Lookout>,
}

impl Machine {
    pub fn new() -> Option<Self> {
        if lacks_root("looking out for changes") {
            return None;
        }
        Some(Self::in_folder(tempfile::tempdir().unwrap()))
    }

    /// The same, on the filesystem of `folder`.
    pub fn in_folder(folder: tempfile::TempDir) -> Self {
        let machine = Self { folder, lookout: None };
        machine.write("etc/passwd", PASSWD);
        machine.write("etc/crontab", "17 * * * * root run-parts /etc/cron.hourly\n");
        machine.write("etc/cron.daily/backup", "#!/bin/sh\nexit 0\n");
        machine.write("etc/systemd/system/a.service", "[Service]\nExecStart=/bin/true\n");
        machine.write("home/ann/.ssh/authorized_keys", "ssh-ed25519 AAAA ann@ward\n");
        machine.write("home/ann/.profile", "umask 022\n");
        symlink("a.service", machine.at("etc/systemd/system/b.service")).unwrap();
        machine
    }

    pub fn root(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join("root")
    }

    pub fn at(&self, place: &str) -> PathBuf {
        self.root().join(place)
    }

    pub fn state(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join("state")
    }

    pub fn write(&self, place: &str, text: &str) {
        let path = self.at(place);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// From now on somebody looks out.
    pub fn look_out(&mut self) {
        let folder = self.state().join("lookout");
        self.lookout = Some(Lookout::open(&folder, &self.root(), boot(), 0).unwrap());
    }

    /// Lets the lookout work until its changes are as they should be.
    pub fn until(&mut self, what: &str, is_so: impl Fn(&[Change]) -> bool) -> Vec<Change> {
        let ends = Instant::now() + PATIENCE;
        loop {
            self.lookout.as_mut().unwrap().turn(Duration::from_millis(20)).unwrap();
            let changes = self.changes();
            if is_so(&changes) {
                return changes;
            }
            assert!(Instant::now() < ends, "never: {what}: {changes:#?}");
        }
    }

    pub fn changes(&self) -> Vec<Change> {
        let mut told = self.told();
        told.changes.reverse();
        told.changes
    }

    /// All that is told, the newest first.
    pub fn told(&self) -> Changes {
        let all = UtcNanos::from_unix_nanos(0);
        let folder = self.state().join("lookout");
        let told = tell(&folder, &self.root(), all, UtcNanos::now()).unwrap();
        assert!(told.is_bounded());
        told
    }

    /// Lets the lookout work until it says that it misses something of which the words have this.
    pub fn until_missed(&mut self, words: &str) {
        let ends = Instant::now() + PATIENCE;
        loop {
            self.lookout.as_mut().unwrap().turn(Duration::from_millis(20)).unwrap();
            let gaps = self.told().gaps;
            if gaps.iter().any(|gap| gap.contains(words)) {
                return;
            }
            assert!(Instant::now() < ends, "never told: {words}: {gaps:?}");
        }
    }

    /// Lets the lookout work until nothing is left to do.
    pub fn until_idle(&mut self) {
        let lookout = self.lookout.as_mut().unwrap();
        let ends = Instant::now() + PATIENCE;
        while lookout.turn(Duration::from_millis(20)).unwrap() {
            assert!(Instant::now() < ends, "the lookout is never done");
        }
    }

    pub fn put_back(&self) -> PutBack {
        let limits = Limits { free_bytes: 0, ..Limits::default() };
        let state = self.state();
        let vault = Vault::open(&state.join("vault"), limits).unwrap();
        let journal = Journal::open(&state.join("measures")).unwrap();
        PutBack::new(journal, vault, state.join("lookout"), state.join("own"), self.root())
    }

    /// Everything that a file is, but for what no program can set.
    pub fn whole(&self, place: &str) -> (Vec<u8>, Metadata) {
        let path = self.at(place);
        let file = File::open(&path).unwrap();
        let folder = FileId::at(path.parent().unwrap()).unwrap();
        let metadata = Metadata::read(&file, path.clone(), folder).unwrap();
        (fs::read(&path).unwrap(), metadata)
    }

    pub fn is_as(&self, place: &str, before: &(Vec<u8>, Metadata)) -> bool {
        let now = self.whole(place);
        now.0 == before.0 && before.1.differs(&now.1).is_empty()
    }

    pub fn leftovers(&self) -> Vec<PathBuf> {
        let mut left = Vec::new();
        for folder in ["etc", "etc/cron.daily", "etc/systemd/system", "home/ann", "home/ann/.ssh"] {
            let entries = fs::read_dir(self.at(folder)).unwrap().map(|entry| entry.unwrap().path());
            left.extend(entries.filter(|path| path.to_str().unwrap().contains("/.cordon-")));
        }
        for folder in ["vault", "measures"] {
            let Ok(entries) = fs::read_dir(self.state().join(folder)) else { continue };
            let paths = entries.map(|entry| entry.unwrap().path());
            left.extend(paths.filter(|path| !path.ends_with("key")));
        }
        left
    }
}

/// A shell that does each line that it is told, until it is dropped.
pub struct Intruder(Child);

impl Intruder {
    pub fn new() -> Self {
        let mut shell = Command::new("/bin/sh");
        shell.stdin(Stdio::piped()).stdout(Stdio::piped());
        Self(shell.spawn().unwrap())
    }

    pub fn does(&mut self, line: &str) {
        use std::io::Write as _;
        let input = self.0.stdin.as_mut().unwrap();
        input.write_all(line.as_bytes()).unwrap();
        input.write_all(b"\n").unwrap();
    }

    /// The same, and waits until it is done.
    pub fn did(&mut self, line: &str) {
        use std::io::Read as _;
        self.does(&format!("{line}\necho"));
        self.0.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Intruder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn of<'a>(changes: &'a [Change], path: &str) -> Vec<&'a Change> {
    changes.iter().filter(|change| change.path == FilePath::new(path)).collect()
}

/// Whether this process did it, or one below it, and nobody else.
pub fn is_by(change: &Change, pid: u32) -> bool {
    !change.by.is_empty() && change.by.iter().all(|doer| doer.line().any(|(above, _)| above == pid))
}

pub fn target(first: &Change, last: &Change) -> PutBackTarget {
    PutBackTarget {
        path: first.path.clone(),
        first: first.number,
        last: last.number,
        found: last.after.sha256(),
        wanted: first.before.sha256(),
        by: {
            let all = [first, last].into_iter().flat_map(|one| undone(&one.boot, &one.by));
            all.collect::<BTreeSet<_>>().into_iter().collect()
        },
    }
}

/// Those who changed it, and the shell that started them.
pub fn undone(boot: &BootId, by: &[Doer]) -> Vec<UndoneProcess> {
    let lines = by.iter().flat_map(|doer| {
        let image = doer.process.as_ref().map_or("", |process| &process.image);
        let is_shell = image.ends_with("sh") || image.contains("/put_back-");
        doer.line().take(if is_shell { 1 } else { 2 })
    });
    lines.map(|(pid, started)| UndoneProcess { boot: boot.clone(), pid, started }).collect()
}

pub fn apply(put_back: &PutBack, target: &PutBackTarget) -> Result<(), ActError> {
    let done = put_back.apply(measure(), target, &Protected::default())?;
    let proof = put_back.prove(&done)?;
    assert!(proof.holds() && proof.unproven.is_empty(), "{proof:?}");
    Ok(())
}

pub fn undo(put_back: &PutBack) {
    let begun = put_back.begun(measure()).unwrap().unwrap();
    let undone = put_back.undo(&begun).unwrap();
    assert!(undone.is_exact(), "{undone:?}");
}

/// What is hard to put back: owner, mode, times, attributes.
pub fn adorn(path: &Path) {
    std::os::unix::fs::chown(path, Some(1000), Some(1001)).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o640)).unwrap();
    let file = File::options().write(true).open(path).unwrap();
    let _ = rustix::fs::fsetxattr(&file, "user.note", b"a\0b", XattrFlags::empty());
    let times = Timestamps {
        last_access: Timespec { tv_sec: 1_000, tv_nsec: 7 },
        last_modification: Timespec { tv_sec: 2_000, tv_nsec: 999_999_999 },
    };
    rustix::fs::futimens(&file, &times).unwrap();
}
