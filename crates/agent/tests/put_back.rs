//! An intruder's changes, seen by a real lookout on real files, put back to the byte and taken back again.
//!
//! The intruder is harmless: a shell that writes below a folder of the test's own, which is the machine's root here.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own tools fail the test")]

mod action_world;
mod cut_short;
mod lookout_world;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use cordon_agent::contain::action::put_back::PutBack;
use cordon_agent::contain::action::quarantine::vault::{Limits, Vault};
use cordon_agent::contain::action::{Journal, Protected};
use cordon_agent::contain::lookout::book::Record;
use cordon_agent::contain::lookout::store::Store;
use cordon_agent::contain::lookout::tell::tell;
use cordon_model::action::PutBackTarget;
use cordon_model::change::Change;
use cordon_model::time::UtcNanos;
use lookout_world::{Intruder, Machine, adorn, apply, is_by, measure, of, target, undo, undone};

#[test]
fn what_an_intruder_changes_is_put_back_to_the_byte_and_that_is_taken_back_too() {
    let Some(mut machine) = Machine::new() else { return };
    let changed = ["etc/crontab", "home/ann/.ssh/authorized_keys", "etc/cron.daily/backup"];
    changed.iter().for_each(|place| adorn(&machine.at(place)));
    let before: Vec<_> = changed.iter().map(|place| machine.whole(place)).collect();
    machine.look_out();
    let mut intruder = Intruder::new();
    let root = machine.root().to_str().unwrap().to_owned();
    intruder.does(&format!("echo '* * * * * root /tmp/x' >> {root}/etc/crontab"));
    intruder.does(&format!("echo 'ssh-rsa EVIL eve' >> {root}/home/ann/.ssh/authorized_keys"));
    intruder.does(&format!("echo '[Service]' > {root}/etc/systemd/system/evil.service"));
    intruder.does(&format!("printf '#!/bin/sh\\n/tmp/x\\n' > {root}/x; chmod 755 {root}/x"));
    intruder.does(&format!("mv {root}/x {root}/etc/cron.daily/backup"));
    let places = ["/etc/crontab", "/home/ann/.ssh/authorized_keys", "/etc/cron.daily/backup"];
    let changes = machine.until("four places are changed", |changes| {
        places
            .iter()
            .chain(["/etc/systemd/system/evil.service"].iter())
            .all(|path| of(changes, path).iter().any(|change| change.is_now))
    });
    for change in &changes {
        assert!(is_by(change, intruder.pid()), "{change:#?}");
    }
    let line = &of(&changes, "/etc/crontab")[0].lines;
    assert_eq!(line[..], ["+ * * * * * root /tmp/x"]);
    assert_eq!(of(&changes, "/home/ann/.ssh/authorized_keys")[0].lines, ["+ ssh-rsa EVIL eve"]);
    let unit = of(&changes, "/etc/systemd/system/evil.service")[0];
    assert_eq!(unit.before.sha256(), None);

    let put_back = machine.put_back();
    for ((path, place), before) in places.iter().zip(changed).zip(&before) {
        let its = of(&changes, path);
        let (first, last) = (its[0], its[its.len() - 1]);
        let evil = machine.whole(place);
        assert!(!machine.is_as(place, before));
        let would = put_back.would(&target(first, last), &Protected::default());
        assert!(would.refused.is_none() && would.of == 1, "{would:?}");
        assert!(!machine.is_as(place, before), "nothing is done by asking");
        apply(&put_back, &target(first, last)).unwrap();
        assert!(machine.is_as(place, before), "{path}");
        // The same again finds it done.
        apply(&put_back, &target(first, last)).unwrap();
        undo(&put_back);
        assert!(machine.is_as(place, &evil), "{path}: undone");
        assert_eq!(machine.leftovers(), Vec::<PathBuf>::new());
        // And once more, by the same order.
        apply(&put_back, &target(first, last)).unwrap();
        assert!(machine.is_as(place, before), "{path}: again");
        undo(&put_back);
    }
    // What was not there before goes, and comes back.
    let evil = machine.whole("etc/systemd/system/evil.service");
    apply(&put_back, &target(unit, unit)).unwrap();
    assert!(!machine.at("etc/systemd/system/evil.service").exists());
    undo(&put_back);
    assert!(machine.is_as("etc/systemd/system/evil.service", &evil));
    assert_eq!(machine.leftovers(), Vec::<PathBuf>::new());
}

#[test]
fn what_was_removed_and_what_was_a_link_is_there_again() {
    let Some(mut machine) = Machine::new() else { return };
    adorn(&machine.at("home/ann/.profile"));
    let profile = machine.whole("home/ann/.profile");
    let link = machine.at("etc/systemd/system/b.service");
    let linked = fs::symlink_metadata(&link).unwrap();
    machine.look_out();
    let mut intruder = Intruder::new();
    let root = machine.root().to_str().unwrap().to_owned();
    intruder.does(&format!("rm {root}/home/ann/.profile"));
    intruder.does(&format!("ln -sfn /dev/null {root}/etc/systemd/system/b.service"));
    intruder.does(&format!("ln -s /tmp/evil {root}/etc/cron.daily/evil"));
    let paths = ["/home/ann/.profile", "/etc/systemd/system/b.service", "/etc/cron.daily/evil"];
    let changes = machine.until("three places are changed", |changes| {
        paths.iter().all(|path| of(changes, path).iter().any(|change| change.is_now))
    });
    let put_back = machine.put_back();
    let ends = |path: &str| {
        let its = of(&changes, path);
        target(its[0], its[its.len() - 1])
    };
    apply(&put_back, &ends(paths[0])).unwrap();
    assert!(machine.is_as("home/ann/.profile", &profile));
    undo(&put_back);
    assert!(!machine.at("home/ann/.profile").exists());

    apply(&put_back, &ends(paths[1])).unwrap();
    let now = fs::symlink_metadata(&link).unwrap();
    assert_eq!(fs::read_link(&link).unwrap(), Path::new("a.service"));
    assert_eq!(
        (now.mtime(), now.mtime_nsec(), now.uid()),
        (linked.mtime(), linked.mtime_nsec(), 0)
    );
    undo(&put_back);
    assert_eq!(fs::read_link(&link).unwrap(), Path::new("/dev/null"));

    apply(&put_back, &ends(paths[2])).unwrap();
    assert!(fs::symlink_metadata(machine.at("etc/cron.daily/evil")).is_err());
    undo(&put_back);
    assert_eq!(fs::read_link(machine.at("etc/cron.daily/evil")).unwrap(), Path::new("/tmp/evil"));
    assert_eq!(machine.leftovers(), Vec::<PathBuf>::new());
}

#[test]
fn what_an_administrator_changed_since_is_left_as_it_is() {
    let Some(mut machine) = Machine::new() else { return };
    machine.look_out();
    let mut intruder = Intruder::new();
    let crontab = machine.at("etc/crontab").to_str().unwrap().to_owned();
    intruder.does(&format!("echo '* * * * * root /tmp/x' >> {crontab}"));
    let changes = machine.until("the intruder is seen", |changes| !changes.is_empty());
    let mut administrator = Intruder::new();
    administrator.does(&format!("echo '5 5 * * * root /usr/bin/ours' >> {crontab}"));
    let both = machine.until("both are seen", |changes| changes.len() == 2);
    assert!(is_by(&both[0], intruder.pid()) && is_by(&both[1], administrator.pid()));
    let now = machine.whole("etc/crontab");
    let put_back = machine.put_back();
    let target = target(&changes[0], &changes[0]);
    let error = apply(&put_back, &target).unwrap_err().to_string();
    assert!(error.contains("changed by somebody since"), "{error}");
    assert!(put_back.would(&target, &Protected::default()).refused.is_some());
    assert!(machine.is_as("etc/crontab", &now));
    assert_eq!(machine.leftovers(), Vec::<PathBuf>::new());
}

#[test]
fn an_order_that_says_nothing_of_others_between_is_refused_by_the_machines_own_book() {
    let Some(mut machine) = Machine::new() else { return };
    machine.look_out();
    let (mut intruder, mut administrator) = (Intruder::new(), Intruder::new());
    let crontab = machine.at("etc/crontab").to_str().unwrap().to_owned();
    intruder.did(&format!("echo '* * * * * root /tmp/x' >> {crontab}"));
    machine.until_idle();
    administrator.did(&format!("echo '5 5 * * * root /usr/bin/ours' >> {crontab}"));
    machine.until_idle();
    intruder.did(&format!("echo '* * * * * root /tmp/y' >> {crontab}"));
    machine.until_idle();
    let changes = machine.changes();
    let [first, between, last] = &changes[..] else { panic!("{changes:#?}") };
    assert!(is_by(between, administrator.pid()));
    let now = machine.whole("etc/crontab");
    let put_back = machine.put_back();
    // A hub that lies, or did not look: from the first to the last, as if nobody had been between.
    let all = target(first, last);
    let error = apply(&put_back, &all).unwrap_err().to_string();
    assert!(
        error.contains("change 2 at") && error.contains("changed by somebody since"),
        "{error}"
    );
    // Nor may it undo the last alone in the name of another, or of nobody.
    let mut others = target(last, last);
    others.by = target(between, between).by;
    assert!(apply(&put_back, &others).is_err());
    others.by.clear();
    assert!(apply(&put_back, &others).is_err());
    let mut of_before = target(last, last);
    of_before.by.iter_mut().for_each(|one| one.boot.0.push('x'));
    assert!(apply(&put_back, &of_before).is_err(), "a number of another boot is another's");
    assert!(machine.is_as("etc/crontab", &now));
    apply(&put_back, &target(last, last)).unwrap();
    undo(&put_back);
    assert_eq!(machine.leftovers(), Vec::<PathBuf>::new());
}

#[test]
fn a_preview_reads_no_content() {
    let Some(mut machine) = Machine::new() else { return };
    machine.look_out();
    let mut intruder = Intruder::new();
    let script = machine.at("etc/cron.daily/backup");
    intruder.did(&format!("head -c 9000000 /dev/zero >> {}", script.display()));
    machine.until_idle();
    let changes = machine.changes();
    let (first, last) = (changes.first().unwrap(), changes.last().unwrap());
    let before = read_by_this_thread();
    let would = machine.put_back().would(&target(first, last), &Protected::default());
    let read = read_by_this_thread() - before;
    assert!(would.refused.is_none() && would.of == 1, "{would:?}");
    assert!(read < 1_000_000, "{read} bytes");
    // And sees all the same that somebody wrote to it since.
    let mut file = File::options().append(true).open(&script).unwrap();
    std::io::Write::write_all(&mut file, b"# ours").unwrap();
    let would = machine.put_back().would(&target(first, last), &Protected::default());
    assert!(would.refused.is_some(), "{would:?}");
}

/// As the kernel counts it, from the disk or not.
fn read_by_this_thread() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/io").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("rchar: "));
    line.unwrap().parse().unwrap()
}

#[test]
fn what_was_changed_after_it_was_put_back_is_not_taken_back_over_that() {
    let Some(mut machine) = Machine::new() else { return };
    machine.look_out();
    let mut intruder = Intruder::new();
    let crontab = machine.at("etc/crontab");
    intruder.does(&format!("echo '* * * * * root /tmp/x' >> {}", crontab.display()));
    let changes = machine.until("it is seen", |changes| !changes.is_empty());
    let put_back = machine.put_back();
    apply(&put_back, &target(&changes[0], &changes[0])).unwrap();
    fs::write(&crontab, "# ours\n").unwrap();
    let begun = put_back.begun(measure()).unwrap().unwrap();
    let error = put_back.undo(&begun).unwrap_err().to_string();
    assert!(error.contains("changed by somebody since"), "{error}");
    assert_eq!(fs::read_to_string(&crontab).unwrap(), "# ours\n");
    assert!(!put_back.prove(&begun).unwrap().holds());
}

#[test]
fn who_ends_at_once_is_told_with_who_was_above_them() {
    let Some(mut machine) = Machine::new() else { return };
    machine.look_out();
    let mut intruder = Intruder::new();
    let root = machine.root().to_str().unwrap().to_owned();
    // Each by a process of its own, whose parent ends before it, as one does to get rid of one's past.
    for number in 0..20 {
        let to = format!("{root}/etc/cron.daily/dropped-{number}");
        intruder.does(&format!("(cp {root}/etc/cron.daily/backup {to} &)"));
    }
    let changes = machine.until("all are seen", |changes| {
        (0..20).all(|number| {
            let its = of(changes, &format!("/etc/cron.daily/dropped-{number}"));
            its.iter().any(|change| change.is_now)
        })
    });
    let theirs = changes.iter().filter(|change| is_by(change, intruder.pid())).count();
    println!("{theirs} of {} told with the intruder above them", changes.len());
    assert_eq!(theirs, changes.len(), "{changes:#?}");
}

#[test]
fn what_is_dropped_into_a_folder_that_was_made_for_it_is_seen() {
    let Some(mut machine) = Machine::new() else { return };
    machine.look_out();
    let mut intruder = Intruder::new();
    let home = machine.at("home/ann").to_str().unwrap().to_owned();
    let folder = format!("{home}/.config/systemd/user");
    intruder.does(&format!("mkdir -p {folder} && echo '[Service]' > {folder}/evil.service"));
    let path = "/home/ann/.config/systemd/user/evil.service";
    let changes = machine
        .until("the unit is seen", |changes| of(changes, path).iter().any(|change| change.is_now));
    assert!(of(&changes, path).iter().all(|change| is_by(change, intruder.pid())), "{changes:#?}");
    // The folder goes with all that is in it.
    intruder.does(&format!("mv {home}/.config {home}/elsewhere"));
    machine.until("it is gone", |changes| {
        of(changes, path).last().is_none_or(|last| last.after.sha256().is_none() && last.is_now)
    });
}

#[test]
fn what_was_changed_while_nobody_looked_out_is_told_by_nobody_known_and_put_back_by_no_order() {
    let Some(mut machine) = Machine::new() else { return };
    let before = machine.whole("etc/crontab");
    machine.look_out();
    machine.lookout = None;
    fs::write(machine.at("etc/crontab"), "* * * * * root /tmp/x\n").unwrap();
    machine.look_out();
    let changes = machine.changes();
    let [change] = &changes[..] else { panic!("{changes:#?}") };
    assert!(change.by.is_empty() && change.is_now);
    let all = UtcNanos::from_unix_nanos(0);
    let told =
        tell(&machine.state().join("lookout"), &machine.root(), all, UtcNanos::now()).unwrap();
    assert!(told.gaps.iter().any(|gap| gap.contains("nobody looked out")), "{:?}", told.gaps);
    let error = apply(&machine.put_back(), &target(change, change)).unwrap_err().to_string();
    assert!(error.contains("not by whom the order names"), "{error}");
    assert!(!machine.is_as("etc/crontab", &before));
}

#[test]
fn only_root_reads_what_is_kept_and_no_content_is_in_what_is_told() {
    let Some(mut machine) = Machine::new() else { return };
    machine.write("etc/wpa_supplicant/a.conf", "psk=oldsecret\n");
    let path = machine.at("etc/wpa_supplicant/a.conf");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    machine.look_out();
    fs::write(&path, "psk=newsecret\n").unwrap();
    machine.until("it is seen", |changes| !changes.is_empty());
    let lookout = machine.state().join("lookout");
    let mut waiting = vec![lookout.clone()];
    let mut files = 0;
    while let Some(path) = waiting.pop() {
        let mode = fs::metadata(&path).unwrap().mode() & 0o077;
        // What says only that somebody lives may be read; nobody else gets that far.
        assert!(mode == 0 || path.ends_with("alive"), "{}: {mode:o}", path.display());
        if path.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        files += 1;
        let is_content = path.parent().unwrap().ends_with("contents");
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        assert!(is_content || !text.contains("secret"), "{}", path.display());
    }
    assert!(files > 5);
    let told = tell(&lookout, &machine.root(), UtcNanos::from_unix_nanos(0), UtcNanos::now());
    assert!(!format!("{told:?}").contains("secret"));
}

/// Where the deed finds its machine.
const DEED: &str = "CORDON_PUT_BACK";

#[test]
fn the_deed_that_is_cut_short() {
    let Some(words) = cut_short::is_deed(DEED) else { return };
    let mut words = words.split('\n');
    let (what, state, root) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
    let state = PathBuf::from(state);
    let limits = Limits { free_bytes: 0, ..Limits::default() };
    let vault = Vault::open(&state.join("vault"), limits).unwrap();
    let journal = Journal::open(&state.join("measures")).unwrap();
    let put_back =
        PutBack::new(journal, vault, state.join("lookout"), state.join("own"), root.into());
    match what {
        "apply" => {
            let store = Store::open(&state.join("lookout")).unwrap();
            let record = store.changes().unwrap().remove(0);
            put_back.apply(measure(), &of_record(&record), &Protected::default()).unwrap();
        }
        _ => {
            let begun = put_back.begun(measure()).unwrap().unwrap();
            put_back.undo(&begun).unwrap();
        }
    }
}

fn of_record(record: &Record) -> PutBackTarget {
    PutBackTarget {
        path: record.path.clone(),
        first: record.number,
        last: record.number,
        found: record.after.sha256(),
        wanted: record.before.sha256(),
        by: undone(&record.boot, &record.by)
            .into_iter()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect(),
    }
}

/// What stood at a place: a file, a link, or nothing.
fn looks(path: &Path) -> Option<(Option<PathBuf>, Vec<u8>, u32, i64)> {
    let found = fs::symlink_metadata(path).ok()?;
    let link = fs::read_link(path).ok();
    let content = if link.is_some() { Vec::new() } else { fs::read(path).unwrap() };
    Some((link, content, found.mode(), found.mtime_nsec()))
}

fn cut_short_at_each_call(place: &str, intrusion: &str) {
    let Some(mut machine) = Machine::new() else { return };
    let path = machine.at(place);
    let good = looks(&path);
    machine.look_out();
    let mut intruder = Intruder::new();
    intruder.does(&intrusion.replace("PLACE", path.to_str().unwrap()));
    let changes =
        machine.until("it is seen", |changes| changes.last().is_some_and(|one| one.is_now));
    assert_eq!(changes.len(), 1, "{changes:#?}");
    machine.lookout = None;
    let evil = looks(&path);
    assert_ne!(good, evil);
    let words =
        |what: &str| format!("{what}\n{}\n{}", machine.state().display(), machine.root().display());
    let put_back = machine.put_back();
    let target = target(&changes[0], &changes[0]);
    let deed = "the_deed_that_is_cut_short";
    for then in ["apply", "undo"] {
        let calls = cut_short::killed_at_every_call(
            deed,
            |_, command| {
                assert_eq!(looks(&path), evil);
                command.env(DEED, words("apply"));
            },
            |call| {
                let now = looks(&path);
                assert!(now == good || now == evil, "call {call}: {now:?}");
                if then == "apply" {
                    apply(&put_back, &target).unwrap();
                    assert_eq!(looks(&path), good, "call {call}");
                    undo(&put_back);
                } else if put_back.begun(measure()).unwrap().is_some() {
                    undo(&put_back);
                }
                assert_eq!(looks(&path), evil, "call {call}");
                // Of what was killed before its journal only what nothing leads to may be left.
                let _ = fs::remove_file(
                    machine.state().join("vault").join(format!("{}.new", measure())),
                );
                assert_eq!(machine.leftovers(), Vec::<PathBuf>::new(), "call {call}, {then}");
            },
        );
        println!("{place}: {then} after each of {calls} calls");
    }
    let calls = cut_short::killed_at_every_call(
        deed,
        |_, command| {
            if put_back.begun(measure()).unwrap().is_none() {
                apply(&put_back, &target).unwrap();
            }
            command.env(DEED, words("undo"));
        },
        |call| {
            let now = looks(&path);
            assert!(now == good || now == evil, "call {call}: {now:?}");
            if put_back.begun(measure()).unwrap().is_some() {
                undo(&put_back);
            }
            assert_eq!(looks(&path), evil, "call {call}");
        },
    );
    println!("{place}: undo after each of {calls} calls");
}

#[test]
fn killed_at_any_call_a_changed_file_is_whole_and_the_next_try_ends_right() {
    cut_short_at_each_call("etc/crontab", "echo '* * * * * root /tmp/x' >> PLACE");
}

#[test]
fn killed_at_any_call_a_removed_file_is_whole_or_not_there() {
    cut_short_at_each_call("home/ann/.profile", "rm PLACE");
}

#[test]
fn killed_at_any_call_a_link_is_one_of_the_two() {
    cut_short_at_each_call("etc/systemd/system/b.service", "ln -sfn /dev/null PLACE");
}

#[test]
fn killed_at_any_call_what_came_is_there_or_gone() {
    cut_short_at_each_call("etc/cron.daily/evil", "echo '#!/bin/sh' > PLACE");
}

/// The exchange itself, each removal, and the building before: killed before the kernel does it, when it has, and before the
/// next call.
fn cut_short_at_the_exchange(place: &str, intrusion: &str, least: usize) {
    let Some(mut machine) = Machine::new() else { return };
    let path = machine.at(place);
    let good = looks(&path);
    machine.look_out();
    let mut intruder = Intruder::new();
    intruder.did(&intrusion.replace("PLACE", path.to_str().unwrap()));
    machine.until_idle();
    let changes = machine.changes();
    assert_eq!(changes.len(), 1, "{changes:#?}");
    machine.lookout = None;
    let evil = looks(&path);
    let words =
        |what: &str| format!("{what}\n{}\n{}", machine.state().display(), machine.root().display());
    let put_back = machine.put_back();
    let target = target(&changes[0], &changes[0]);
    let numbers = [libc::SYS_renameat2, libc::SYS_unlinkat, libc::SYS_symlinkat, libc::SYS_fchmod];
    let is_one = |stop: usize| {
        let now = looks(&path);
        assert!(now == good || now == evil, "stop {stop}: {now:?}");
    };
    for then in ["apply", "undo"] {
        let calls = cut_short::killed_around_calls(
            "the_deed_that_is_cut_short",
            &numbers,
            |command| {
                assert_eq!(looks(&path), evil);
                command.env(DEED, words("apply"));
            },
            |stop| {
                is_one(stop);
                if then == "apply" {
                    apply(&put_back, &target).unwrap();
                    assert_eq!(looks(&path), good, "stop {stop}");
                }
                if put_back.begun(measure()).unwrap().is_some() {
                    undo(&put_back);
                }
                assert_eq!(looks(&path), evil, "stop {stop}");
                assert_eq!(machine.leftovers(), Vec::<PathBuf>::new(), "stop {stop}, {then}");
            },
        );
        println!("{place}: killed around {calls} calls, then {then}");
        assert!(calls >= least, "{calls}");
    }
    let calls = cut_short::killed_around_calls(
        "the_deed_that_is_cut_short",
        &numbers,
        |command| {
            if put_back.begun(measure()).unwrap().is_none() {
                apply(&put_back, &target).unwrap();
            }
            command.env(DEED, words("undo"));
        },
        |stop| {
            is_one(stop);
            if put_back.begun(measure()).unwrap().is_some() {
                undo(&put_back);
            }
            assert_eq!(looks(&path), evil, "stop {stop}");
            assert_eq!(machine.leftovers(), Vec::<PathBuf>::new(), "stop {stop}");
        },
    );
    assert!(calls >= least, "{calls}");
}

#[test]
fn killed_around_the_exchange_a_file_is_one_of_the_two() {
    cut_short_at_the_exchange("etc/crontab", "echo '* * * * * root /tmp/x' >> PLACE", 2);
}

#[test]
fn killed_around_the_exchange_what_was_removed_is_whole_or_not_there() {
    cut_short_at_the_exchange("home/ann/.profile", "rm PLACE", 1);
}

#[test]
fn killed_around_the_exchange_a_link_is_one_of_the_two() {
    cut_short_at_the_exchange("etc/systemd/system/b.service", "ln -sfn /dev/null PLACE", 2);
}

/// Somebody of the hospital's changes the crontab while it is put back, at each of its system calls: by another file in
/// its place, as editors do, and by a line at its end.
fn an_administrator_meets(what: &str, changes_it: impl Fn(&Path)) {
    let Some(mut machine) = Machine::new() else { return };
    let path = machine.at("etc/crontab");
    let good = fs::read(&path).unwrap();
    machine.look_out();
    let mut intruder = Intruder::new();
    intruder.does(&format!("echo '* * * * * root /tmp/x' >> {}", path.display()));
    let seen = |changes: &[Change]| changes.last().is_some_and(|one| one.is_now);
    let changes = machine.until("it is seen", seen);
    machine.lookout = None;
    let target = target(&changes[0], &changes[0]);
    let evil = machine.whole("etc/crontab");
    let state = machine.state();
    let words = format!("apply\n{}\n{}", state.display(), machine.root().display());
    let is_met = std::cell::Cell::new(false);
    let calls = cut_short::met_at_every_call(
        "the_deed_that_is_cut_short",
        |_, command| {
            // As the intruder left it, whatever came before.
            let _ = fs::remove_dir_all(state.join("measures"));
            let _ = fs::remove_dir_all(state.join("vault"));
            let _ = fs::remove_file(&path);
            fs::write(&path, &evil.0).unwrap();
            evil.1.put_on(&File::options().write(true).open(&path).unwrap()).unwrap();
            command.env(DEED, &words);
        },
        || {
            changes_it(&path);
            is_met.set(true);
        },
        |call| {
            let now = fs::read(&path).unwrap();
            let has_theirs = String::from_utf8_lossy(&now).contains("ours");
            // The last comes through, and nobody met it.
            let is_right = if is_met.take() { has_theirs } else { now == good };
            assert!(is_right, "{what}, call {call}: {now:?}");
            assert!(now != evil.0, "{what}, call {call}");
            let beside =
                fs::read_dir(machine.at("etc")).unwrap().map(|entry| entry.unwrap().path());
            let left: Vec<_> =
                beside.filter(|path| path.to_str().unwrap().contains("/.cordon-")).collect();
            assert_eq!(left, Vec::<PathBuf>::new(), "{what}, call {call}");
        },
    );
    println!("{what}: at each of {calls} calls");
    let put_back = machine.put_back();
    assert!(put_back.would(&target, &Protected::default()).refused.is_some());
}

#[test]
fn an_administrator_who_is_faster_at_any_call_keeps_what_they_wrote() {
    an_administrator_meets("another file", |path| {
        let fresh = path.with_extension("fresh");
        fs::write(&fresh, "5 5 * * * root /usr/bin/ours\n").unwrap();
        fs::rename(&fresh, path).unwrap();
    });
    // Of the same length, with its times set as they were: only what it holds tells.
    an_administrator_meets("other words", |path| {
        use std::os::unix::fs::FileExt as _;
        let file = File::options().write(true).open(path).unwrap();
        let was = file.metadata().unwrap();
        file.write_all_at(b"ours", 0).unwrap();
        let times = rustix::fs::Timestamps {
            last_access: rustix::fs::Timespec { tv_sec: was.atime(), tv_nsec: was.atime_nsec() },
            last_modification: rustix::fs::Timespec {
                tv_sec: was.mtime(),
                tv_nsec: was.mtime_nsec(),
            },
        };
        rustix::fs::futimens(&file, &times).unwrap();
    });
    an_administrator_meets("another line", |path| {
        use std::io::Write as _;
        let mut file = File::options().append(true).open(path).unwrap();
        file.write_all(b"5 5 * * * root /usr/bin/ours\n").unwrap();
    });
}
