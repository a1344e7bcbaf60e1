//! Who has an account on a machine against its lookout: each test is an attack that once had it forget, miss or misjudge.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own tools fail the test")]

mod action_world;
mod lookout_world;

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError, channel};

use cordon_agent::contain::action::mounts::mounts;
use cordon_agent::contain::action::place::Place;
use cordon_agent::contain::action::plain::look_near;
use cordon_agent::contain::action::spared::{FileId, Protected, SparedFiles};
use cordon_agent::contain::lookout::tell::tell;
use cordon_agent::contain::lookout::watching::Lookout;
use cordon_model::change::Change;
use cordon_model::time::UtcNanos;
use lookout_world::{Intruder, Machine, is_by, of};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rustix::fs::XattrFlags;

/// Names so long that the kernel's word on some thousand of them is more than one reading.
fn flood(folder: &Path, count: usize) {
    fs::create_dir_all(folder).unwrap();
    let tail = "x".repeat(200);
    for number in 0..count {
        File::create(folder.join(format!("{number}-{tail}"))).unwrap();
    }
}

fn by_nobody(change: &Change) -> bool {
    change.by.is_empty()
}

#[test]
fn a_change_of_the_accounts_has_nothing_learnt_that_is_still_on_its_way() {
    let Some(mut machine) = Machine::new() else { return };
    machine.look_out();
    let mut intruder = Intruder::new();
    let root = machine.root().to_str().unwrap().to_owned();
    intruder.did(&format!("echo 'bob:x:1001:1001::/home/bob:/bin/sh' >> {root}/etc/passwd"));
    flood(&machine.at("etc"), 6_000);
    intruder.did(&format!("echo '* * * * * root /tmp/x' > {root}/etc/cron.daily/evil"));
    intruder.did(&format!("echo '* * * * * root /tmp/x' >> {root}/etc/crontab"));
    machine.until_idle();
    let changes = machine.changes();
    for path in ["/etc/cron.daily/evil", "/etc/crontab"] {
        let its = of(&changes, path);
        assert!(
            !its.is_empty() && its.iter().all(|one| is_by(one, intruder.pid())),
            "{changes:#?}"
        );
    }
}

#[test]
fn a_home_that_was_elsewhere_for_a_moment_is_still_known() {
    let Some(mut machine) = Machine::new() else { return };
    machine.look_out();
    let mut intruder = Intruder::new();
    let root = machine.root().to_str().unwrap().to_owned();
    intruder.did(&format!("sed -i s:/home/ann:/home/not: {root}/etc/passwd"));
    machine.until_idle();
    intruder.did(&format!("echo '/tmp/x' > {root}/home/ann/.bashrc"));
    machine.until_idle();
    intruder.did(&format!("sed -i s:/home/not:/home/ann: {root}/etc/passwd"));
    machine.until_idle();
    let changes = machine.changes();
    let its = of(&changes, "/home/ann/.bashrc");
    assert!(!its.is_empty() && is_by(its[0], intruder.pid()), "{changes:#?}");
}

#[test]
fn where_the_kernels_word_was_lost_nobody_is_named_alone() {
    let Some(mut machine) = Machine::new() else { return };
    machine.look_out();
    let (mut administrator, mut intruder) = (Intruder::new(), Intruder::new());
    let root = machine.root().to_str().unwrap().to_owned();
    administrator.did(&format!("touch {root}/etc/crontab"));
    flood(&machine.at("etc"), 17_000);
    intruder.did(&format!("echo '* * * * * root /tmp/x' >> {root}/etc/crontab"));
    machine.until_idle();
    let changes = machine.changes();
    let its = of(&changes, "/etc/crontab");
    assert!(!its.is_empty() && its.iter().all(|change| by_nobody(change)), "{changes:#?}");
    machine.until_missed("more than could be heard");
}

#[test]
fn what_one_user_floods_loses_only_what_is_theirs() {
    let Some(mut machine) = Machine::new() else { return };
    let flooded = machine.at("home/ann/.config/autostart");
    fs::create_dir_all(&flooded).unwrap();
    machine.look_out();
    flood(&flooded, 20_000);
    let mut intruder = Intruder::new();
    let root = machine.root().to_str().unwrap().to_owned();
    intruder.did(&format!("echo '* * * * * root /tmp/x' >> {root}/etc/crontab"));
    machine.until_idle();
    let told = machine.told();
    let its = of(&told.changes, "/etc/crontab");
    assert!(!its.is_empty() && its.iter().all(|one| is_by(one, intruder.pid())), "{its:#?}");
    machine.until_missed("more happened than could be heard in /home/ann");
}

#[test]
fn what_one_user_changes_over_and_over_crowds_out_nobody_elses_changes() {
    let Some(mut machine) = Machine::new() else { return };
    let folder = machine.at("home/ann/.config/autostart");
    fs::create_dir_all(&folder).unwrap();
    machine.look_out();
    let mut intruder = Intruder::new();
    let root = machine.root().to_str().unwrap().to_owned();
    intruder.did(&format!("echo '* * * * * root /tmp/x' >> {root}/etc/crontab"));
    machine.until_idle();
    for batch in 0..13 {
        for number in 0..100 {
            let name = folder.join(format!("{batch}-{number}.desktop"));
            fs::write(&name, "[Desktop Entry]\n").unwrap();
        }
        machine.until_idle();
        // By others each time, so that it is another change.
        intruder.did(&format!("rm -f {}/*", folder.display()));
        machine.until_idle();
    }
    machine.until_idle();
    let changes = machine.changes();
    let its = of(&changes, "/etc/crontab");
    assert!(!its.is_empty() && is_by(its[0], intruder.pid()), "told are {}", changes.len());
    assert!(!its[0].follows_unknown);
}

#[test]
fn who_is_named_for_what_cant_be_looked_at_is_not_forgotten() {
    let Some(mut machine) = Machine::new() else { return };
    machine.look_out();
    let mut intruder = Intruder::new();
    let home = machine.at("home/ann").to_str().unwrap().to_owned();
    intruder.did(&format!("mv {home}/.ssh {home}/x && ln -s x {home}/.ssh"));
    machine.until_idle();
    let changes = machine.changes();
    let its = of(&changes, "/home/ann/.ssh/authorized_keys");
    assert!(!its.is_empty() && its.iter().all(|one| is_by(one, intruder.pid())), "{changes:#?}");
}

#[test]
fn what_is_missed_of_the_system_is_told_however_much_is_missed_of_a_home() {
    let Some(mut machine) = Machine::new() else { return };
    let units = machine.at("home/ann/.config/systemd/user");
    fs::create_dir_all(&units).unwrap();
    machine.look_out();
    // More folders than are watched in one home, each told of by its own name.
    for number in 0..300 {
        fs::create_dir(units.join(format!("{number}.service.d"))).unwrap();
    }
    machine.until_idle();
    machine.until_missed("is not watched: more than");
    let long = machine.at("etc/systemd/system").join("x".repeat(250));
    fs::create_dir(&long).unwrap();
    machine.until_idle();
    fs::write(long.join("y".repeat(250)), "").unwrap();
    machine.until_missed("paths of more than");
    let of_ann = machine.told().gaps.iter().filter(|gap| gap.contains("/home/ann")).count();
    assert!(of_ann <= 2, "{of_ann}");
}

#[test]
fn attributes_tear_nothing_of_what_is_known() {
    if cordon_tests::lacks_root("looking out for changes") {
        return;
    }
    let mut machine = Machine::in_folder(tempfile::tempdir_in("/dev/shm").unwrap());
    let folder = machine.at("home/ann/.config/autostart");
    fs::create_dir_all(&folder).unwrap();
    let value = vec![7; 60 << 10];
    let mut attributes = 0;
    for number in 0..20 {
        let file = File::create(folder.join(format!("{number}.desktop"))).unwrap();
        for name in 0..16 {
            let set =
                rustix::fs::fsetxattr(&file, format!("user.{name}"), &value, XattrFlags::empty());
            attributes += usize::from(set.is_ok());
        }
    }
    assert!(attributes > 200, "this filesystem takes too few attributes for this test");
    machine.look_out();
    let since = machine.told().watched_since;
    let known = fs::metadata(machine.state().join("lookout/known.cbor")).unwrap().len();
    assert!(known < 1 << 20, "{known} bytes");
    machine.lookout = None;
    fs::write(machine.at("etc/crontab"), "* * * * * root /tmp/x\n").unwrap();
    machine.look_out();
    assert!(machine.told().watched_since > since);
    assert_eq!(of(&machine.changes(), "/etc/crontab").len(), 1, "what was known is known still");
}

#[test]
fn what_lies_in_a_home_that_nobody_else_may_enter_is_not_shown() {
    let Some(mut machine) = Machine::new() else { return };
    let open = fs::Permissions::from_mode(0o644);
    fs::set_permissions(machine.at("home/ann/.profile"), open).unwrap();
    for folder in ["", "home", "etc", "etc/cron.daily"] {
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(machine.at(folder), open).unwrap();
    }
    machine.write("etc/profile.d/ours.sh", "umask 022\n");
    for path in ["etc/profile.d", "etc/profile.d/ours.sh"] {
        fs::set_permissions(machine.at(path), fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::set_permissions(machine.at("home/ann"), fs::Permissions::from_mode(0o700)).unwrap();
    machine.look_out();
    let mut owner = Intruder::new();
    let root = machine.root().to_str().unwrap().to_owned();
    owner.did(&format!("echo 'export TOKEN=secret' >> {root}/home/ann/.profile"));
    owner.did(&format!("echo 'export PLAIN=known' >> {root}/etc/profile.d/ours.sh"));
    machine.until_idle();
    let told = format!("{:?}", machine.told());
    assert!(!told.contains("secret"), "{told}");
    assert!(told.contains("PLAIN=known"), "{told}");
    // What was closed when it was written is not shown when the home is opened later, by another.
    fs::set_permissions(machine.at("home/ann"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(machine.at("home/ann/.profile"), "umask 077\n").unwrap();
    machine.until_idle();
    let told = machine.told();
    assert_eq!(of(&told.changes, "/home/ann/.profile").len(), 2);
    assert!(!format!("{told:?}").contains("secret"), "{told:?}");
}

#[test]
fn what_was_there_for_a_moment_only_is_told_all_the_same() {
    let Some(mut machine) = Machine::new() else { return };
    machine.look_out();
    // By one process, and within the time in which what it does is one change.
    let evil = machine.at("etc/cron.daily/evil");
    fs::write(&evil, "#!/bin/sh\n/tmp/x\n").unwrap();
    machine.until_idle();
    fs::remove_file(&evil).unwrap();
    machine.until_idle();
    let changes = machine.changes();
    let [change] = of(&changes, "/etc/cron.daily/evil")[..] else { panic!("{changes:#?}") };
    assert!(is_by(change, std::process::id()) && change.after.sha256().is_none());
    assert!(change.lines.iter().any(|line| line.contains("/tmp/x")), "{changes:#?}");
}

#[test]
fn a_number_that_is_somebody_elses_by_now_names_nobody() {
    let Some(mut machine) = Machine::new() else { return };
    machine.look_out();
    let crontab = machine.at("etc/crontab").to_str().unwrap().to_owned();
    // Other tests start processes too: until one gets the number.
    for _ in 0..200 {
        let script = format!("echo '# again' >> {crontab}");
        let mut intruder = Command::new("/bin/sh").args(["-c", &script]).spawn().unwrap();
        let number = intruder.id();
        intruder.wait().unwrap();
        fs::write("/proc/sys/kernel/ns_last_pid", (number - 1).to_string()).unwrap();
        let mut other = Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let is_same = other.id() == number;
        machine.until_idle();
        let changes = machine.changes();
        let last = of(&changes, "/etc/crontab").pop().cloned();
        other.kill().unwrap();
        other.wait().unwrap();
        if is_same {
            let last = last.unwrap();
            let images = last.by.iter().filter_map(|doer| Some(&doer.process.as_ref()?.image));
            let images: Vec<_> = images.collect();
            assert!(!images.iter().any(|image| image.contains("sleep")), "{last:#?}");
            return;
        }
    }
    panic!("no number came twice");
}

/// Has a filesystem be at `point`, as fusermount does it for any user, of which nobody ever answers; of this mode its root is.
fn never_answers(point: &Path, mode: &str) -> Option<File> {
    let Ok(device) = File::options().read(true).write(true).open("/dev/fuse") else {
        println!("not tried: this machine has no FUSE");
        return None;
    };
    let options =
        format!("fd={},rootmode={mode},user_id=0,group_id=0,allow_other", device.as_raw_fd());
    mount(Some("never"), point, Some("fuse"), MsFlags::empty(), Some(options.as_str())).unwrap();
    Some(device)
}

#[test]
fn a_filesystem_that_came_a_moment_ago_is_asked_nothing() {
    if cordon_tests::lacks_root("mounting") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().canonicalize().unwrap().join(name);
    for place in ["a/b/c", "near/d"] {
        fs::create_dir_all(at(place)).unwrap();
    }
    for file in ["a/b/c/file", "near/file", "near/other", "near/d/file"] {
        fs::write(at(file), "").unwrap();
    }
    // The table of before whatever comes.
    let table = mounts().unwrap();
    let place = Place::find_among(&table, &at("a/b/c/file")).unwrap();
    assert_eq!(place.above().len(), at("a/b/c").ancestors().count());
    let ends = [FileId::at("/").unwrap(), FileId::at(at("a/b/c")).unwrap()];
    assert_eq!([place.above()[0], place.above()[place.above().len() - 1]], ends);
    let far = [never_answers(&at("a/b"), "40000"), never_answers(&at("near/file"), "100644")];
    if far.iter().any(Option::is_none) {
        return;
    }
    mount(Some("t"), &at("near/d"), Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    let paths = ["a/b/c/file", "a/b/file", "a/b", "near/file", "near/d/file", "near/other"].map(at);
    let (done, is_done) = channel();
    let asked = std::thread::spawn(move || {
        for path in paths {
            let found = Place::find_among(&table, &path).and_then(|place| place.file());
            let near = look_near(&table, &path).map(drop);
            done.send((path, found.map(drop), near)).unwrap();
        }
        // What is held was there before: it is none of theirs.
        place.file().unwrap();
        let spared = SparedFiles::now(&Protected::default(), None);
        spared.why(FileId { device: 0, inode: 0 }, Some(&place))
    });
    let mut came = Vec::new();
    // It is over when nobody is left to tell: before anybody answered.
    let is_over = loop {
        match is_done.recv_timeout(action_world::PATIENCE / 4) {
            Ok(one) => came.push(one),
            Err(why) => break why == RecvTimeoutError::Disconnected,
        }
    };
    drop(far);
    for point in ["a/b", "near/file", "near/d"] {
        umount2(&at(point), MntFlags::MNT_DETACH).unwrap();
    }
    assert!(is_over && came.len() == 6, "it hangs: {came:?}");
    for (path, found, near) in &came[..5] {
        let why = found.as_ref().unwrap_err().to_string();
        assert!(why.contains("mounted"), "{}: {why}", path.display());
        let why = near.as_ref().unwrap_err().to_string();
        assert!(why.contains("mounted just now"), "{}: {why}", path.display());
    }
    assert!(came[5].1.is_ok() && came[5].2.is_ok(), "{came:?}");
    assert_eq!(asked.join().unwrap(), None);
}

#[test]
fn a_filesystem_that_never_answers_holds_nobody_up() {
    let Some(mut machine) = Machine::new() else { return };
    let folder = machine.at("home/ann/.config/autostart");
    fs::create_dir_all(&folder).unwrap();
    machine.look_out();
    let mut intruder = Intruder::new();
    intruder.did(&format!("echo x > {}/x.desktop", folder.display()));
    machine.until_idle();
    let point = machine.at("home/ann/.config");
    let Some(device) = never_answers(&point, "40000") else { return };
    let passwd = machine.at("etc/passwd");
    let root = machine.root();
    let state = machine.state();
    let (done, is_done) = channel();
    std::thread::spawn(move || {
        let mut text = fs::read_to_string(&passwd).unwrap();
        text.push_str("bob:x:1001:1001::/home/bob:/bin/sh\n");
        fs::write(&passwd, text).unwrap();
        machine.until_idle();
        tell(&state.join("lookout"), &root, UtcNanos::from_unix_nanos(0), UtcNanos::now()).unwrap();
        let again = state.join("again");
        let boot = action_world::boot();
        Lookout::open(&again, &root, boot, 0).unwrap();
        done.send(machine).unwrap();
    });
    let came = is_done.recv_timeout(action_world::PATIENCE / 2);
    // Whoever waits is let go.
    drop(device);
    umount2(&point, MntFlags::MNT_DETACH).unwrap();
    let Ok(machine) = came else { panic!("the lookout hangs") };
    drop(machine);
}

/// How many folders the kernel watches for this process.
fn marks() -> usize {
    let files = fs::read_dir("/proc/self/fdinfo").unwrap().filter_map(Result::ok);
    let of = |path: &Path| {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().filter(|line| line.starts_with("fanotify ino:")).count()
    };
    files.map(|file| of(&file.path())).sum()
}

#[test]
fn what_is_moved_away_is_not_watched_for_ever() {
    let deed = "what_is_moved_away_is_not_watched_for_ever";
    if cordon_tests::lacks_root("looking out for changes") {
        return;
    }
    // The others of this program watch folders, too.
    if std::env::var_os("CORDON_ALONE").is_none() {
        let alone = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", deed, "--nocapture"])
            .env("CORDON_ALONE", "1")
            .status();
        assert!(alone.unwrap().success());
        return;
    }
    let mut machine = Machine::new().unwrap();
    machine.look_out();
    let before = marks();
    let home = machine.at("home/ann");
    for number in 0..2_000 {
        fs::create_dir(home.join(".config")).unwrap();
        machine.until_idle();
        fs::rename(home.join(".config"), home.join(format!("away-{number}"))).unwrap();
        machine.until_idle();
    }
    let after = marks();
    assert!(before > 3 && after < before + 600, "{before} and {after}");
    let mut intruder = Intruder::new();
    intruder.did(&format!("echo '/tmp/x' >> {}/.profile", home.display()));
    machine.until_idle();
    assert!(machine.changes().iter().any(|change| is_by(change, intruder.pid())));
}

#[test]
fn a_link_in_the_way_is_no_way_to_other_places() {
    let Some(mut machine) = Machine::new() else { return };
    fs::create_dir_all(machine.at("home/ann/.config")).unwrap();
    symlink("/etc", machine.at("home/ann/.config/autostart")).unwrap();
    machine.look_out();
    machine.until_idle();
    assert!(machine.changes().is_empty());
}
