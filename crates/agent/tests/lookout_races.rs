//! What is made while the lookout looks, by whom is gone before it does, and where it can't write: nothing of it is taken
//! for what it was not.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own tools fail the test")]

mod action_world;
mod lookout_world;

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cordon_agent::contain::action::Protected;
use cordon_model::change::{Change, Stood};
use lookout_world::{Intruder, Machine, apply, is_by, measure, of, target, undo};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

#[test]
fn what_is_written_to_without_end_is_told_of_all_the_same_and_as_it_is_in_the_end() {
    let Some(mut machine) = Machine::new() else { return };
    let path = machine.at("etc/cron.daily/backup");
    // So long that it takes some milliseconds to read.
    fs::write(&path, vec![b'#'; 8 << 20]).unwrap();
    machine.look_out();
    let goes_on = Arc::new(AtomicBool::new(true));
    let (writes, file) = (Arc::clone(&goes_on), File::options().write(true).open(&path).unwrap());
    let writer = std::thread::spawn(move || {
        let mut number = 0_u64;
        while writes.load(Ordering::Relaxed) {
            number += 1;
            file.write_all_at(&number.to_ne_bytes(), 0).unwrap();
        }
        file.write_all_at(b"the last", 0).unwrap();
    });
    let is_told = |change: &Change| matches!(&change.after, Stood::Other(what) if what.contains("without end"));
    let changes = machine.until("it is told", |changes| {
        of(changes, "/etc/cron.daily/backup").iter().any(|change| is_told(change))
    });
    // So much may happen that nobody can be named for it; nobody else is, then.
    let is_by_no_other =
        |change: &Change| change.by.is_empty() || is_by(change, std::process::id());
    assert!(changes.iter().all(is_by_no_other), "{changes:#?}");
    // Others are looked at meanwhile.
    let mut intruder = Intruder::new();
    intruder
        .did(&format!("echo '* * * * * root /tmp/x' >> {}", machine.at("etc/crontab").display()));
    machine.until("the other is told", |changes| {
        of(changes, "/etc/crontab").iter().any(|change| is_by(change, intruder.pid()))
    });
    goes_on.store(false, Ordering::Relaxed);
    writer.join().unwrap();
    let changes = machine.until("it is told as it is in the end", |changes| {
        of(changes, "/etc/cron.daily/backup").last().is_some_and(|last| last.is_now)
    });
    let last = of(&changes, "/etc/cron.daily/backup").pop().unwrap().clone();
    assert!(matches!(last.after, Stood::File { bytes, .. } if bytes == 8 << 20), "{last:#?}");
    assert!(is_by_no_other(&last), "{last:#?}");
    // However fast somebody writes, of all others it is heard who they were.
    assert_eq!(machine.told().gaps, Vec::<String>::new());
}

/// Sets a flag of a file's, as `chattr` does; `false` where the filesystem has none.
fn set(path: &Path, flag: IFlags, is_set: bool) -> bool {
    let file = File::open(path).unwrap();
    let Ok(flags) = ioctl_getflags(&file) else { return false };
    let flags = if is_set { flags | flag } else { flags & !flag };
    ioctl_setflags(&file, flags).is_ok()
}

#[test]
fn a_flag_that_an_intruder_sets_keeps_nothing_from_being_put_back() {
    let Some(mut machine) = Machine::new() else { return };
    let crontab = machine.at("etc/crontab");
    let before = machine.whole("etc/crontab");
    if !set(&crontab, IFlags::NODUMP, true) || !set(&crontab, IFlags::NODUMP, false) {
        return println!("not tried: this filesystem has no flags");
    }
    machine.look_out();
    let mut intruder = Intruder::new();
    for flag in [IFlags::NODUMP, IFlags::IMMUTABLE] {
        intruder.did(&format!("echo '* * * * * root /tmp/x' >> {}", crontab.display()));
        machine.until_idle();
        // The kernel tells nobody of that.
        assert!(set(&crontab, flag, true));
        let evil = machine.whole("etc/crontab");
        machine.until_idle();
        let changes = machine.changes();
        let its = of(&changes, "/etc/crontab");
        let last = its.last().unwrap();
        assert!(last.is_now && is_by(last, intruder.pid()), "{changes:#?}");
        let (put_back, target) = (machine.put_back(), target(last, last));
        let would = put_back.would(&target, &Protected::default());
        assert!(would.refused.is_none(), "{would:?}");
        apply(&put_back, &target).unwrap();
        assert!(machine.is_as("etc/crontab", &before), "{flag:?}");
        undo(&put_back);
        assert!(machine.is_as("etc/crontab", &evil), "{flag:?}: with its flag");
        assert_eq!(machine.leftovers(), Vec::<PathBuf>::new());
        assert!(set(&crontab, flag, false));
        fs::write(&crontab, &before.0).unwrap();
        before.1.put_on(&File::options().write(true).open(&crontab).unwrap()).unwrap();
        machine.until_idle();
    }
}

#[test]
fn what_was_given_up_leaves_nothing_behind_and_what_is_somebody_elses_is_left_and_told() {
    let Some(mut machine) = Machine::new() else { return };
    let before = machine.whole("etc/crontab");
    machine.look_out();
    let mut intruder = Intruder::new();
    intruder
        .did(&format!("echo '* * * * * root /tmp/x' >> {}", machine.at("etc/crontab").display()));
    machine.until_idle();
    let changes = machine.changes();
    let [change] = &changes[..] else { panic!("{changes:#?}") };
    let evil = machine.whole("etc/crontab");
    let (put_back, target) = (machine.put_back(), target(change, change));
    // What stood there before can't be read any more: found when it is built, after what is there was kept.
    let content = machine.state().join("lookout/contents").join(target.wanted.unwrap().to_string());
    let aside = content.with_extension("aside");
    fs::rename(&content, &aside).unwrap();
    let error = apply(&put_back, &target).unwrap_err().to_string();
    assert!(error.contains("reading what stood at /etc/crontab"), "{error}");
    assert_eq!(machine.leftovers(), Vec::<PathBuf>::new());
    assert_eq!(put_back.begun(measure()).unwrap(), None);
    assert!(machine.is_as("etc/crontab", &evil));
    fs::rename(&aside, &content).unwrap();
    // Somebody's folder has the name that it would be built under.
    let theirs = machine.at(&format!("etc/.cordon-put-back-{}", measure()));
    fs::create_dir(&theirs).unwrap();
    let error = apply(&put_back, &target).unwrap_err().to_string();
    assert!(error.contains("something is left as .cordon-put-back-"), "{error}");
    assert!(theirs.is_dir() && machine.is_as("etc/crontab", &evil));
    fs::remove_dir(&theirs).unwrap();
    apply(&put_back, &target).unwrap();
    assert!(machine.is_as("etc/crontab", &before));
    undo(&put_back);
    assert!(machine.is_as("etc/crontab", &evil));
    assert_eq!(machine.leftovers(), Vec::<PathBuf>::new());
}

/// Whether forks are heard of here: in the machine's first namespaces only.
fn hears_forks(machine: &Machine) -> bool {
    let hears = !machine.told().gaps.iter().any(|gap| gap.contains("forks are not heard of"));
    if !hears {
        println!("not tried: the kernel tells of no forks here");
    }
    hears
}

/// When a process started, in hundredths of a second since the machine did.
fn started(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(')').next().unwrap().split_whitespace().nth(19).unwrap().parse().unwrap()
}

#[test]
fn who_had_ended_with_all_above_before_anybody_looked_is_named_with_them_and_their_starts() {
    let Some(mut machine) = Machine::new() else { return };
    machine.look_out();
    if !hears_forks(&machine) {
        return;
    }
    let crontab = machine.at("etc/crontab");
    // It starts one that starts another, which writes; each ends before the next line.
    let script = format!(
        "read go; (sh -c '(echo \"* * * * * root /tmp/x\" >> {}) & wait'; :) & wait",
        crontab.display()
    );
    let mut intruder =
        Command::new("/bin/sh").args(["-c", &script]).stdin(Stdio::piped()).spawn().unwrap();
    let (pid, start) = (intruder.id(), started(intruder.id()));
    intruder.stdin.take().unwrap().write_all(b"\n").unwrap();
    intruder.wait().unwrap();
    machine.until_idle();
    let changes = machine.changes();
    let [change] = &of(&changes, "/etc/crontab")[..] else { panic!("{changes:#?}") };
    assert!(is_by(change, pid), "{change:#?}");
    let its = change.by.iter().flat_map(|doer| doer.line()).find(|(above, _)| *above == pid);
    let (_, told) = its.unwrap();
    assert_eq!(told.0 / 10_000_000, start, "the start by which a finding names it");
    assert!(change.by.iter().all(|doer| doer.process.is_some() && doer.pid != pid), "{change:#?}");
}

#[test]
fn what_is_changed_while_the_disk_is_full_is_told_when_there_is_room_and_nobody_stops_looking_out()
{
    let Some(mut machine) = Machine::new() else { return };
    let state = machine.state();
    fs::create_dir_all(&state).unwrap();
    mount(Some("small"), &state, Some("tmpfs"), MsFlags::empty(), Some("size=1m,mode=700"))
        .unwrap();
    machine.look_out();
    machine.until_idle();
    let mut filling = File::create(state.join("filling")).unwrap();
    while filling.write_all(&[7; 512]).is_ok() {}
    let mut intruder = Intruder::new();
    let root = machine.root().to_str().unwrap().to_owned();
    intruder.did(&format!("echo '* * * * * root /tmp/x' >> {root}/etc/crontab"));
    intruder.did(&format!("echo '#!/bin/sh' > {root}/etc/cron.daily/evil"));
    machine.until_idle();
    // It is tried again once a second, and nobody stops.
    assert!(machine.changes().is_empty());
    fs::remove_file(state.join("filling")).unwrap();
    drop(filling);
    let changes = machine.until("they are told", |changes| {
        ["/etc/crontab", "/etc/cron.daily/evil"].iter().all(|path| !of(changes, path).is_empty())
    });
    assert!(changes.iter().all(|change| is_by(change, intruder.pid())), "{changes:#?}");
    machine.lookout = None;
    umount2(&state, MntFlags::MNT_DETACH).unwrap();
}

#[test]
fn whoever_has_much_of_theirs_read_has_nobody_else_wait() {
    let Some(mut machine) = Machine::new() else { return };
    let folder = machine.at("home/ann/.config/autostart");
    fs::create_dir_all(&folder).unwrap();
    for number in 0..400 {
        fs::write(folder.join(format!("{number:03}.desktop")), vec![b'x'; 1 << 20]).unwrap();
    }
    machine.look_out();
    machine.until_idle();
    // All of theirs is new, and is 400 MiB; and there is more than can be heard; then one line of the system's.
    for number in 0..400 {
        let file = File::options().write(true).open(folder.join(format!("{number:03}.desktop")));
        file.unwrap().write_all_at(b"y", 0).unwrap();
    }
    for number in 0..2_000 {
        File::create(folder.join(format!("more-{number}"))).unwrap();
    }
    let mut intruder = Intruder::new();
    intruder
        .did(&format!("echo '* * * * * root /tmp/x' >> {}", machine.at("etc/crontab").display()));
    let changes = machine.until("the system's is told", |changes| {
        of(changes, "/etc/crontab").iter().any(|change| is_by(change, intruder.pid()))
    });
    // Of theirs a few seconds' worth at most was looked at before: the rest waits for its turn.
    let number = of(&changes, "/etc/crontab")[0].number;
    assert!(number < 200, "it is change {number}");
}

#[test]
fn what_may_have_been_written_to_by_another_name_is_nobodys_doing() {
    let Some(mut machine) = Machine::new() else { return };
    machine.look_out();
    let mut other = Intruder::new();
    let home = machine.at("home/ann");
    let (profile, elsewhere) = (home.join(".profile"), home.join("elsewhere"));
    fs::create_dir(&elsewhere).unwrap();
    machine.until_idle();
    fs::hard_link(&profile, elsewhere.join("same")).unwrap();
    // Nobody is told of that one…
    fs::write(elsewhere.join("same"), "umask 077\n").unwrap();
    // …and it is not the doing of whoever comes by.
    other.did(&format!("chmod 600 {}", profile.display()));
    machine.until_idle();
    let changes = machine.changes();
    let its = of(&changes, "/home/ann/.profile");
    assert!(!its.is_empty() && its.iter().all(|change| change.by.is_empty()), "{changes:#?}");
}

/// A real `sshd` of the test's own, as its package starts it: it leaves who started it. And a control group for sessions, as
/// `pam_systemd` has one.
struct Sshd {
    folder: tempfile::TempDir,
    port: u16,
    pid: u32,
    group: PathBuf,
}

impl Sshd {
    fn start(which: &str) -> Option<Self> {
        if cordon_tests::lacks_programs(&["sshd", "ssh", "ssh-keygen", "unshare"]) {
            return None;
        }
        let name = format!("cordon-test-{which}-{}", std::process::id());
        let groups = ["freezer", "systemd", "unified", ""];
        let group = groups.map(|kind| Path::new("/sys/fs/cgroup").join(kind).join(&name));
        let group = group.into_iter().find(|group| {
            fs::create_dir(group).is_ok()
                && (group.join("cgroup.procs").exists() || fs::remove_dir(group).is_err())
        });
        let Some(group) = group else {
            println!("not tried: no control group can be made here");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let at = |name: &str| folder.path().join(name).display().to_string();
        let settings = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile {}\nUsePAM no\n\
             StrictModes no\nPermitRootLogin yes\n",
            at("host"),
            at("user.pub"),
            at("pid"),
        );
        fs::write(at("settings"), settings).unwrap();
        let script = format!(
            "cd {} && ssh-keygen -q -t ed25519 -N '' -f host && ssh-keygen -q -t ed25519 -N '' -f user && \
             mount -t tmpfs none /run && mkdir /run/sshd && exec /usr/sbin/sshd -f settings -E log",
            folder.path().display()
        );
        let started = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", &script])
            .output()
            .unwrap();
        assert!(started.status.success(), "{started:?}");
        let ends = std::time::Instant::now() + action_world::PATIENCE;
        let pid = loop {
            let pid = fs::read_to_string(at("pid")).unwrap_or_default();
            match pid.trim().parse() {
                Ok(pid) => break pid,
                Err(_) => assert!(std::time::Instant::now() < ends, "sshd does not start"),
            }
        };
        Some(Self { folder, port, pid, group })
    }

    /// Signs in, and has the session's shell do this; the session goes on until it is ended.
    fn session_does(&self, what: &str) -> Session {
        let at = |name: &str| self.folder.path().join(name).display().to_string();
        let client = Command::new("ssh")
            .args(["-F", "none", "-i", &at("user"), "-p", &self.port.to_string()])
            .args(["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"])
            .args(["-o", "UserKnownHostsFile=/dev/null", "root@127.0.0.1"])
            .arg(format!("{what}; read until"))
            .stdin(Stdio::piped())
            .spawn();
        Session(client.unwrap())
    }

    /// What puts a session into a group of its own: its shell, and `sshd`'s processes that serve it alone.
    fn enter_group(&self) -> String {
        let group = self.group.join("cgroup.procs").display().to_string();
        format!(
            "p=$PPID; while [ $p -gt 1 ] && [ $p != {} ]; do echo $p > {group}; \
             p=$(cut -d' ' -f4 /proc/$p/stat); done; echo $$ > {group}",
            self.pid
        )
    }
}

/// A session, which ends with it.
struct Session(std::process::Child);

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.pid).unwrap());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        // Its sessions end with their client.
        let ends = std::time::Instant::now() + action_world::PATIENCE;
        while fs::remove_dir(&self.group).is_err() && std::time::Instant::now() < ends {
            std::thread::yield_now();
        }
    }
}

/// The change that brought a line with these words.
fn by<'a>(changes: &'a [Change], words: &str) -> Option<&'a Change> {
    changes.iter().find(|change| change.lines.iter().any(|line| line.contains(words)))
}

#[test]
fn what_is_found_of_a_real_sshd_is_nothing_that_its_sessions_do() {
    let Some(mut machine) = Machine::new() else { return };
    let Some(before) = Sshd::start("before") else { return };
    machine.look_out();
    if !hears_forks(&machine) {
        return;
    }
    let crontab = machine.at("etc/crontab").display().to_string();
    let Some(meanwhile) = Sshd::start("while") else { return };
    let writes = |what: &str| format!("echo '# {what}' >> {crontab}");
    for (sshd, when) in [(&before, "before"), (&meanwhile, "while")] {
        let stat = fs::read_to_string(format!("/proc/{}/stat", sshd.pid)).unwrap();
        let parent = stat.rsplit(')').next().unwrap().split_whitespace().nth(1);
        if parent != Some("1") {
            return println!("not tried: what is left here is not the first process's");
        }
        // A session of somebody's that goes on, one that is over before anybody looks, and what sshd itself does.
        let its_own = format!("{}; {}", sshd.enter_group(), writes(&format!("{when} goes on")));
        let words = ["goes on", "is over", "sshd itself"].map(|what| format!("{when} {what}"));
        let session = sshd.session_does(&its_own);
        machine.until("it is seen", |changes| by(changes, &words[0]).is_some());
        drop(session);
        drop(sshd.session_does(&format!("{}; {}", sshd.enter_group(), writes(&words[1]))));
        machine.until("it is seen", |changes| by(changes, &words[1]).is_some());
        let session = sshd.session_does(&writes(&words[2]));
        let changes = machine.until("it is seen", |changes| by(changes, &words[2]).is_some());
        drop(session);
        let names_sshd = words.each_ref().map(|words| {
            let change = by(&changes, words).unwrap();
            assert!(!change.by.is_empty(), "{change:#?}");
            change.by.iter().any(|doer| doer.line().any(|(above, _)| above == sshd.pid))
        });
        assert_eq!(names_sshd, [false, false, true], "{when}: {changes:#?}");
    }
}
