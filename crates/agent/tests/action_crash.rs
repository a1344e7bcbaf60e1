//! The helper is killed before each of its system calls that change something, one after the other, and
//! what was begun ends right all the same: applied again, or taken back.
//!
//! The helper's part is played by this program, started anew for each try and traced.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own tools fail the test")]

mod action_world;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use action_world::disks::Disks;
use action_world::{BOTH, Means, PATIENCE, World, boot, frozen, group, measure};
use cordon_agent::contain::action::freeze::Freeze;
use cordon_agent::contain::action::hold::Holder;
use cordon_agent::contain::action::kill::Kill;
use cordon_agent::contain::action::lineage::Seen;
use cordon_agent::contain::action::quarantine::Quarantine;
use cordon_agent::contain::action::quarantine::metadata::Metadata;
use cordon_agent::contain::action::quarantine::vault::{Limits, Vault};
use cordon_agent::contain::action::spared::FileId;
use cordon_agent::contain::action::{Journal, Protected};
use cordon_agent::sensor::ProcessId;
use cordon_model::action::{FilePath, FileTarget};
use cordon_model::ids::MeasureId;
use cordon_model::time::BootNanos;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::fs::IFlags;

/// The calls that change something outside the process (asm/unistd_64.h), opening a new file apart.
const CHANGING: [libc::c_long; 24] = [
    libc::SYS_write,
    libc::SYS_pwrite64,
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_ioctl,
    libc::SYS_fchown,
    libc::SYS_fchmod,
    libc::SYS_fsetxattr,
    libc::SYS_utimensat,
    libc::SYS_pidfd_send_signal,
    libc::SYS_kill,
    libc::SYS_tgkill,
    libc::SYS_chmod,
];

fn changes(registers: &libc::user_regs_struct) -> bool {
    let number = registers.orig_rax.cast_signed();
    let makes_a_file = number == libc::SYS_openat
        && registers.rdx.cast_signed() & i64::from(libc::O_CREAT | libc::O_TMPFILE) != 0;
    makes_a_file || CHANGING.contains(&number)
}

/// What one process is to do, in words that fit an environment.
#[derive(Clone)]
struct Deed {
    what: &'static str,
    state: PathBuf,
    measure: MeasureId,
    means: Means,
    root: ProcessId,
    file: PathBuf,
}

const NOBODY: ProcessId = ProcessId { pid: 0, started: BootNanos(0) };

impl Deed {
    fn start(&self) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_process_that_is_killed", "--ignored", "--nocapture"])
            .env("CORDON_DEED", self.what)
            .env("CORDON_STATE", &self.state)
            .env("CORDON_MEASURE", self.measure.to_string())
            .env("CORDON_GROUPS", if self.means == Means::Groups { "yes" } else { "no" })
            .env("CORDON_PID", self.root.pid.to_string())
            .env("CORDON_STARTED", self.root.started.0.to_string())
            .env("CORDON_FILE", &self.file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn from_environment() -> Option<Self> {
        let word = |name: &str| std::env::var(name).ok();
        let what = ["freeze", "thaw", "kill", "quarantine", "restore"];
        Some(Self {
            what: what.into_iter().find(|what| word("CORDON_DEED").as_deref() == Some(what))?,
            state: word("CORDON_STATE")?.into(),
            measure: word("CORDON_MEASURE")?.parse().ok()?,
            means: if word("CORDON_GROUPS")? == "yes" { Means::Groups } else { Means::Signals },
            root: ProcessId {
                pid: word("CORDON_PID")?.parse().ok()?,
                started: BootNanos(word("CORDON_STARTED")?.parse().ok()?),
            },
            file: word("CORDON_FILE")?.into(),
        })
    }

    fn journal(&self) -> Journal {
        Journal::open(&self.state.join("measures")).unwrap()
    }

    fn holder(&self) -> Holder {
        Holder::new(self.journal(), boot(), self.means == Means::Groups)
    }

    fn quarantine(&self) -> Quarantine {
        let limits = Limits { free_bytes: 0, ..Limits::default() };
        let vault = Vault::open(&self.state.join("vault"), limits).unwrap();
        Quarantine::new(self.journal(), vault, self.state.clone())
    }

    fn target(&self) -> FileTarget {
        FileTarget { path: FilePath::new(self.file.as_os_str().as_bytes()), sha256: None }
    }

    fn go(&self) {
        let nothing = Protected::default();
        match self.what {
            "freeze" => {
                Freeze::new(self.holder()).apply(self.measure, &[self.root], &nothing).unwrap();
            }
            "thaw" => {
                let freeze = Freeze::new(self.holder());
                let held = freeze.begun(self.measure).unwrap().unwrap();
                freeze.undo(&held).unwrap();
            }
            "kill" => {
                Kill::new(self.holder()).apply(self.measure, &[self.root], &nothing).unwrap();
            }
            "quarantine" => {
                self.quarantine().apply(self.measure, &self.target(), &nothing).unwrap();
            }
            _ => {
                let quarantine = self.quarantine();
                let done = quarantine.begun(self.measure).unwrap().unwrap();
                quarantine.undo(&done).unwrap();
            }
        }
    }

    /// Lets a process do it, and kills that before its changing call with the number `at`. The name of
    /// that call, or `None` if it made so few and is done.
    fn cut_short(&self, at: usize) -> Option<i64> {
        let mut child = self.start();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let thread = lines.find_map(|line| line.unwrap().strip_prefix("thread ")?.parse().ok());
        let thread = Pid::from_raw(thread.unwrap());
        ptrace::seize(thread, ptrace::Options::PTRACE_O_TRACESYSGOOD).unwrap();
        ptrace::interrupt(thread).unwrap();
        waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap();
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        // Reads go on where they were: the first changing call is the deed's own.
        let (mut seen, mut is_entry, mut signal) = (0, true, None);
        let killed = loop {
            ptrace::syscall(thread, signal.take()).unwrap();
            match waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap() {
                WaitStatus::PtraceSyscall(_) => {
                    let registers = ptrace::getregs(thread).unwrap();
                    if is_entry && changes(&registers) {
                        if seen == at {
                            break Some(registers.orig_rax.cast_signed());
                        }
                        seen += 1;
                    }
                    is_entry = !is_entry;
                }
                WaitStatus::Stopped(_, with) => signal = Some(with),
                WaitStatus::Exited(..) | WaitStatus::Signaled(..) => break None,
                _ => {}
            }
        };
        if killed.is_some() {
            kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL).unwrap();
            while waitpid(thread, Some(WaitPidFlag::__WALL)).is_ok() {}
        }
        let status = child.wait().unwrap();
        assert!(killed.is_some() || status.success(), "the deed itself failed: {}", self.what);
        killed
    }
}

#[test]
#[ignore = "it is what the other tests start and kill"]
fn the_process_that_is_killed() {
    let Some(deed) = Deed::from_environment() else { return };
    println!("thread {}", nix::unistd::gettid());
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    deed.go();
}

/// Whoever has a tree of processes stand still, and nobody beside: how each stands, by its pid.
fn state(world: &World) -> Vec<(u32, String, bool)> {
    let stands = |seen: &Seen| Some((seen.id.pid, group(seen.id.pid)?, seen.is_stopped()));
    world.alive().iter().filter_map(stands).collect()
}

/// The same once it is as `expected`, or when that has not come as it is: a process that is told to go on goes on
/// when the kernel next has time for it.
fn settled(world: &World, expected: &[(u32, String, bool)]) -> Vec<(u32, String, bool)> {
    let began = std::time::Instant::now();
    loop {
        let now = state(world);
        if now == expected || began.elapsed() > PATIENCE {
            return now;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

const TREE: &str = "sleep 1000 & (sleep 1000 & sleep 1000; :) & wait";

fn pens() -> BTreeSet<String> {
    let Some(hierarchy) = action_world::hierarchy() else { return BTreeSet::new() };
    let found = fs::read_dir(hierarchy.join("cordon-frozen"));
    found.map_or(BTreeSet::new(), |entries| {
        entries.filter_map(|entry| entry.unwrap().file_name().into_string().ok()).collect()
    })
}

#[test]
fn a_freeze_that_is_cut_short_anywhere_ends_right() {
    let nothing = Protected::default();
    for means in BOTH {
        let mut at = 0;
        loop {
            let Some(mut world) = World::new() else { return };
            let root = world.shell(TREE, 20);
            world.wait_for(5);
            let before = state(&world);
            let state_folder = world.folder.path().to_owned();
            let deed = Deed {
                what: "freeze",
                state: state_folder,
                measure: measure(),
                means,
                root,
                file: PathBuf::new(),
            };
            let cut = deed.cut_short(at);
            let freeze = Freeze::new(deed.holder());
            let begun = freeze.begun(deed.measure).unwrap();
            // Every other time the order comes again first.
            let held = if at % 2 == 0 || begun.is_none() {
                let (held, _) = frozen(&freeze, deed.measure, &[root], &nothing);
                assert_eq!(held.processes, 5, "{means:?} {at} {cut:?}");
                Some(held)
            } else {
                begun
            };
            let undone = freeze.undo(&held.unwrap()).unwrap();
            assert!(undone.is_exact(), "{means:?} {at} {cut:?}: {undone:?}");
            assert_eq!(settled(&world, &before), before, "{means:?}, cut short at {at} ({cut:?})");
            assert!(!pens().contains(&deed.measure.to_string()));
            if cut.is_none() {
                break;
            }
            at += 1;
        }
        eprintln!("{means:?}: freezing was cut short at {at} places");
        assert!(at > 5);
    }
}

#[test]
fn a_thaw_that_is_cut_short_anywhere_ends_right() {
    for means in BOTH {
        let mut at = 0;
        loop {
            let Some(mut world) = World::new() else { return };
            let root = world.shell(TREE, 20);
            world.wait_for(5);
            let before = state(&world);
            let deed = Deed {
                what: "thaw",
                state: world.folder.path().to_owned(),
                measure: measure(),
                means,
                root,
                file: PathBuf::new(),
            };
            let freeze = Freeze::new(deed.holder());
            let held = freeze.apply(deed.measure, &[root], &Protected::default()).unwrap();
            let cut = deed.cut_short(at);
            assert!(freeze.undo(&held).unwrap().is_exact());
            assert_eq!(settled(&world, &before), before, "{means:?}, cut short at {at} ({cut:?})");
            assert!(!pens().contains(&deed.measure.to_string()));
            assert_eq!(freeze.begun(deed.measure).unwrap(), None);
            if cut.is_none() {
                break;
            }
            at += 1;
        }
        eprintln!("{means:?}: thawing was cut short at {at} places");
        assert!(at > 5);
    }
}

#[test]
fn a_kill_that_is_cut_short_anywhere_is_finished_or_was_never_begun() {
    let nothing = Protected::default();
    for means in BOTH {
        let mut at = 0;
        loop {
            let Some(mut world) = World::new() else { return };
            let root = world.shell(TREE, 20);
            world.wait_for(5);
            let before = state(&world);
            let deed = Deed {
                what: "kill",
                state: world.folder.path().to_owned(),
                measure: measure(),
                means,
                root,
                file: PathBuf::new(),
            };
            let cut = deed.cut_short(at);
            let kill = Kill::new(deed.holder());
            let begun = kill.begun(deed.measure).unwrap();
            match begun {
                Some(begun) if at % 2 == 1 => {
                    let undone = kill.undo(&begun).unwrap();
                    assert_eq!(undone.is_exact(), !begun.has_begun, "{means:?} {at}");
                    let now = if begun.has_begun { Vec::new() } else { before };
                    assert_eq!(
                        settled(&world, &now),
                        now,
                        "{means:?}, cut short at {at} ({cut:?})"
                    );
                }
                _ => {
                    let killed = kill.apply(deed.measure, &[root], &nothing).unwrap();
                    assert_eq!(killed.count, 5, "{means:?} {at} {cut:?}");
                    assert!(kill.prove(&killed).unwrap().holds());
                    assert_eq!(world.alive(), [], "{means:?}, cut short at {at} ({cut:?})");
                    kill.undo(&killed).unwrap();
                }
            }
            assert!(!pens().contains(&deed.measure.to_string()));
            if cut.is_none() {
                break;
            }
            at += 1;
        }
        eprintln!("{means:?}: killing was cut short at {at} places");
        assert!(at > 5);
    }
}

/// A file that has something of everything, and the flag that keeps it from being removed.
fn a_file(folder: &Path) -> PathBuf {
    let path = folder.join("program");
    if let Ok(file) = File::open(&path) {
        let flags = rustix::fs::ioctl_getflags(&file).unwrap();
        rustix::fs::ioctl_setflags(&file, flags - IFlags::IMMUTABLE).unwrap();
        fs::remove_file(&path).unwrap();
    }
    fs::write(&path, vec![7; 100_000]).unwrap();
    std::os::unix::fs::chown(&path, Some(12), Some(34)).unwrap();
    let file = File::open(&path).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::fsetxattr(&file, "user.note", b"x", flags).unwrap();
    let flags = rustix::fs::ioctl_getflags(&file).unwrap();
    rustix::fs::ioctl_setflags(&file, flags | IFlags::IMMUTABLE).unwrap();
    path
}

fn metadata(path: &Path) -> Metadata {
    let folder = FileId::at(path.parent().unwrap()).unwrap();
    Metadata::read(&File::open(path).unwrap(), path.to_owned(), folder).unwrap()
}

/// The file is there as it was, and nothing else is.
fn assert_as_before(deed: &Deed, before: &Metadata, when: &str) {
    let after = metadata(&deed.file);
    assert_eq!(before.differs(&after), Vec::<String>::new(), "{when}");
    assert_eq!(fs::read(&deed.file).unwrap(), vec![7; 100_000], "{when}");
    let names = |folder: &Path| -> BTreeSet<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    let expected = BTreeSet::from(["lost+found".to_owned(), "program".to_owned()]);
    assert_eq!(names(deed.file.parent().unwrap()), expected, "{when}");
    assert!(names(&deed.state.join("measures")).is_empty(), "{when}");
    let mut kept = names(&deed.state.join("vault"));
    kept.retain(|name| !name.starts_with("key"));
    assert!(kept.is_empty(), "{when}: {kept:?}");
}

#[test]
fn a_quarantine_that_is_cut_short_anywhere_ends_right() {
    let Some(disks) = Disks::new() else { return };
    let Some(folder) = disks.ext4("disk") else { return };
    let mut at = 0;
    loop {
        let file = a_file(&folder);
        let before = metadata(&file);
        let deed = Deed {
            what: "quarantine",
            state: disks.state(),
            measure: measure(),
            means: Means::Groups,
            root: NOBODY,
            file,
        };
        let cut = deed.cut_short(at);
        let when = format!("cut short at {at} ({cut:?})");
        let quarantine = deed.quarantine();
        let begun = quarantine.begun(deed.measure).unwrap();
        let done = if let (Some(begun), true) = (begun, at % 2 == 1) {
            begun
        } else {
            let nothing = Protected::default();
            let done = quarantine.apply(deed.measure, &deed.target(), &nothing).unwrap();
            assert!(!deed.file.exists(), "{when}");
            assert!(quarantine.prove(&done).unwrap().holds(), "{when}");
            done
        };
        let undone = quarantine.undo(&done).unwrap();
        assert!(undone.is_exact(), "{when}: {undone:?}");
        assert_as_before(&deed, &before, &when);
        if cut.is_none() {
            break;
        }
        at += 1;
    }
    eprintln!("quarantining was cut short at {at} places");
    assert!(at > 20);
}

#[test]
fn a_restoring_that_is_cut_short_anywhere_ends_right() {
    let Some(disks) = Disks::new() else { return };
    let Some(folder) = disks.ext4("disk") else { return };
    let mut at = 0;
    loop {
        let file = a_file(&folder);
        let before = metadata(&file);
        let deed = Deed {
            what: "restore",
            state: disks.state(),
            measure: measure(),
            means: Means::Groups,
            root: NOBODY,
            file,
        };
        let quarantine = deed.quarantine();
        let nothing = Protected::default();
        let done = quarantine.apply(deed.measure, &deed.target(), &nothing).unwrap();
        let cut = deed.cut_short(at);
        let when = format!("cut short at {at} ({cut:?})");
        let undone = quarantine.undo(&done).unwrap();
        assert!(undone.is_exact(), "{when}: {undone:?}");
        assert_as_before(&deed, &before, &when);
        if cut.is_none() {
            break;
        }
        at += 1;
    }
    eprintln!("restoring was cut short at {at} places");
    assert!(at > 15);
}
