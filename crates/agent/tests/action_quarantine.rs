//! Quarantining real files on filesystems of the test's own.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own tools fail the test")]

mod action_world;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use action_world::disks::Disks;
use action_world::measure;
use cordon_agent::contain::action::quarantine::metadata::Metadata;
use cordon_agent::contain::action::quarantine::vault::{Limits, Vault};
use cordon_agent::contain::action::quarantine::{Quarantine, Quarantined};
use cordon_agent::contain::action::spared::FileId;
use cordon_agent::contain::action::{ActError, Journal, Protected};
use cordon_model::action::{FilePath, FileTarget, Sha256Digest};
use cordon_model::ids::MeasureId;
use rustix::fs::{IFlags, Timespec, Timestamps, XattrFlags};
use sha2::{Digest as _, Sha256};

/// As small as a test's filesystems are.
const LIMITS: Limits = Limits { file_bytes: 64 << 20, vault_bytes: 256 << 20, free_bytes: 0 };

fn quarantine(state: &Path) -> Quarantine {
    let vault = Vault::open(&state.join("vault"), LIMITS).unwrap();
    Quarantine::new(Journal::open(&state.join("measures")).unwrap(), vault, state.to_owned())
}

fn target(path: &Path) -> FileTarget {
    FileTarget { path: FilePath::new(path.as_os_str().as_bytes()), sha256: None }
}

fn digest(content: &[u8]) -> Option<Sha256Digest> {
    Some(Sha256Digest(Sha256::digest(content).into()))
}

fn apply(quarantine: &Quarantine, path: &Path) -> Result<Quarantined, ActError> {
    quarantine.apply(measure(), &target(path), &Protected::default())
}

fn metadata(path: &Path) -> Metadata {
    let folder = FileId::at(path.parent().unwrap()).unwrap();
    Metadata::read(&File::open(path).unwrap(), path.to_owned(), folder).unwrap()
}

/// What is left of a measure on disk: nothing, once it is over.
fn leftovers(state: &Path) -> BTreeSet<PathBuf> {
    let files = |folder: &str| fs::read_dir(state.join(folder)).unwrap().map(|e| e.unwrap().path());
    files("vault").chain(files("measures")).filter(|path| !path.ends_with("key")).collect()
}

#[test]
fn a_file_is_gone_and_comes_back_with_all_that_it_was() {
    let Some(disks) = Disks::new() else { return };
    let Some(folder) = disks.ext4("disk") else { return };
    let path = folder.join("a program");
    let content: Vec<u8> = (0..200_000_u32).map(|at| (at % 253) as u8).collect();
    fs::write(&path, &content).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    std::os::unix::fs::chown(&path, Some(1234), Some(5678)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o6751)).unwrap();
    let set = |name: &str, value: &[u8]| {
        rustix::fs::fsetxattr(&file, name, value, XattrFlags::empty()).unwrap();
    };
    set("user.origin", b"https://example.invalid");
    set("trusted.note", b"\0\xff");
    // CAP_NET_RAW, effective; version 2 of linux/capability.h.
    set("security.capability", &[1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    // An access control list, version 2: owner rwx, user 99 r, group r-x, mask r-x, others --x.
    let entry = |tag: u16, may: u16, id: u32| {
        [&tag.to_le_bytes()[..], &may.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let all = u32::MAX;
    let list = [
        2_u32.to_le_bytes().to_vec(),
        entry(1, 7, all),
        entry(2, 4, 99),
        entry(4, 5, all),
        entry(16, 5, all),
        entry(32, 1, all),
    ];
    set("system.posix_acl_access", &list.concat());
    let times = Timestamps {
        last_access: Timespec { tv_sec: 1_111_111_111, tv_nsec: 111_111_111 },
        last_modification: Timespec { tv_sec: 1_222_222_222, tv_nsec: 222_222_222 },
    };
    rustix::fs::futimens(&file, &times).unwrap();
    let fixed = rustix::fs::ioctl_getflags(&file).unwrap();
    drop(file);
    for flags in [IFlags::IMMUTABLE | IFlags::NODUMP, IFlags::APPEND, IFlags::empty()] {
        rustix::fs::ioctl_setflags(File::open(&path).unwrap(), fixed | flags).unwrap();
        let before = metadata(&path);
        assert_eq!(before.attributes.len(), 4);
        let quarantine = quarantine(&disks.state());
        let done = apply(&quarantine, &path).unwrap();
        assert_eq!(done.sha256, digest(&content));
        assert!(!path.exists());
        let proof = quarantine.prove(&done).unwrap();
        assert!(proof.holds(), "{proof:?}");
        let undone = quarantine.undo(&done).unwrap();
        assert!(undone.is_exact(), "{undone:?}");
        let after = metadata(&path);
        assert_eq!(before.differs(&after), Vec::<String>::new());
        assert_eq!(after.mode, 0o6751);
        assert_eq!(before.accessed, after.accessed);
        assert_eq!(fs::read(&path).unwrap(), content);
        assert_eq!(leftovers(&disks.state()), BTreeSet::new());
        assert!(quarantine.undo(&done).unwrap().is_exact(), "taken back twice is taken back once");
        let file = File::open(&path).unwrap();
        rustix::fs::ioctl_setflags(&file, fixed).unwrap();
        rustix::fs::futimens(&file, &times).unwrap();
    }
}

#[test]
fn a_sparse_file_and_an_empty_one_come_back_as_they_were() {
    let Some(disks) = Disks::new() else { return };
    let folder = disks.memory("memory", 64 << 20);
    let quarantine = quarantine(&disks.state());
    let sparse = folder.join("sparse");
    let file = File::create(&sparse).unwrap();
    file.set_len(1 << 30).unwrap();
    for at in [0, 500 << 20, (1 << 30) - 5] {
        file.write_all_at(b"data!", at).unwrap();
    }
    drop(file);
    let empty = folder.join("empty");
    File::create(&empty).unwrap();
    for path in [&sparse, &empty] {
        let before = fs::metadata(path).unwrap();
        let done = apply(&quarantine, path).unwrap();
        assert!(quarantine.undo(&done).unwrap().is_exact());
        let after = fs::metadata(path).unwrap();
        assert_eq!((after.size(), after.blocks()), (before.size(), before.blocks()));
    }
    let file = File::open(&sparse).unwrap();
    let mut bytes = [1; 10];
    file.read_exact_at(&mut bytes, (500 << 20) - 2).unwrap();
    assert_eq!(&bytes, b"\0\0data!\0\0\0");
}

#[test]
fn a_file_that_is_not_the_ordered_one_stays() {
    let Some(disks) = Disks::new() else { return };
    let path = disks.memory("memory", 1 << 20).join("report");
    fs::write(&path, "innocent").unwrap();
    let quarantine = quarantine(&disks.state());
    let before = metadata(&path);
    let ordered = FileTarget { sha256: digest(b"malicious"), ..target(&path) };
    let error = quarantine.apply(measure(), &ordered, &Protected::default()).unwrap_err();
    assert!(matches!(error, ActError::NotThere(_)), "{error}");
    assert_eq!(metadata(&path), before);
    assert_eq!(leftovers(&disks.state()), BTreeSet::new());
    let ordered = FileTarget { sha256: digest(b"innocent"), ..target(&path) };
    quarantine.apply(measure(), &ordered, &Protected::default()).unwrap();
}

#[test]
fn what_is_no_file_with_content_of_its_own_is_refused_in_plain_words() {
    let Some(disks) = Disks::new() else { return };
    let folder = disks.memory("memory", 1 << 20);
    fs::write(folder.join("file"), "x").unwrap();
    fs::create_dir(folder.join("folder")).unwrap();
    symlink("file", folder.join("link")).unwrap();
    symlink("folder", folder.join("way")).unwrap();
    fs::write(folder.join("folder/inside"), "x").unwrap();
    let pipe = folder.join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(folder.join("socket")).unwrap();
    let quarantine = quarantine(&disks.state());
    for (name, word) in [
        ("folder", "a folder"),
        ("link", "a symbolic link"),
        ("way/inside", "leads over a symbolic link"),
        ("pipe", "a pipe"),
        ("socket", "a pipe or socket"),
        ("gone", "is not there"),
        ("gone/file", "is not there"),
        ("file/file", "is not there"),
        ("../memory/file", "absolute path"),
    ] {
        let error = apply(&quarantine, &folder.join(name)).unwrap_err();
        assert!(error.to_string().contains(word), "{name}: {error}");
    }
    for (path, word) in [
        ("/dev/null", "only files on a disk"),
        ("/proc/version", "only files on a disk"),
        ("/sys/kernel/notes", "only files on a disk"),
        ("relative", "absolute path"),
        ("/", "no file"),
    ] {
        let error = apply(&quarantine, Path::new(path)).unwrap_err();
        assert!(error.to_string().contains(word), "{path}: {error}");
    }
    assert_eq!(leftovers(&disks.state()), BTreeSet::new());
}

#[test]
fn what_the_machine_or_care_needs_is_refused_under_any_name() {
    let Some(disks) = Disks::new() else { return };
    let quarantine = quarantine(&disks.state());
    let own = disks.state().join("vault/key");
    fs::write(&own, [0; 32]).unwrap();
    // What process 1 runs is hidden in some containers.
    let needed = ["/bin/bash", "/proc/1/exe", "/proc/self/exe", "/etc/passwd"];
    for path in needed.iter().filter_map(|path| fs::canonicalize(path).ok()).chain([own]) {
        let error = apply(&quarantine, &path).unwrap_err();
        assert!(matches!(error, ActError::Refused(_)), "{}: {error}", path.display());
        assert!(path.exists());
    }
    let viewer = disks.memory("memory", 1 << 20).join("viewer");
    fs::write(&viewer, "x").unwrap();
    let other = viewer.with_file_name("other-name");
    fs::hard_link(&viewer, &other).unwrap();
    let program = FilePath::new(viewer.as_os_str().as_bytes());
    let protected = Protected { executables: vec![program], ..Protected::default() };
    let error = quarantine.apply(measure(), &target(&other), &protected).unwrap_err();
    assert!(matches!(error, ActError::Refused(_)), "{error}");
}

#[test]
fn other_names_are_counted_and_said() {
    let Some(disks) = Disks::new() else { return };
    let folder = disks.memory("memory", 1 << 20);
    let (path, other) = (folder.join("one"), folder.join("other"));
    fs::write(&path, "x").unwrap();
    fs::hard_link(&path, &other).unwrap();
    let quarantine = quarantine(&disks.state());
    let done = apply(&quarantine, &path).unwrap();
    assert_eq!(done.metadata.other_names, 1);
    assert!(!path.exists() && other.exists());
    let proof = quarantine.prove(&done).unwrap();
    assert!(proof.unproven.iter().any(|text| text.contains("1 other names")), "{proof:?}");
    let undone = quarantine.undo(&done).unwrap();
    assert_eq!(undone.differs.len(), 1, "{undone:?}");
}

#[test]
fn what_is_there_by_now_is_never_overwritten() {
    let Some(disks) = Disks::new() else { return };
    let folder = disks.memory("memory", 1 << 20);
    let path = folder.join("program");
    fs::write(&path, "malicious").unwrap();
    let quarantine = quarantine(&disks.state());
    let done = apply(&quarantine, &path).unwrap();
    fs::write(&path, "reinstalled").unwrap();
    assert!(!quarantine.prove(&done).unwrap().holds(), "something is there again");
    for there in ["file", "folder", "dangling link"] {
        match there {
            "file" => {}
            "folder" => fs::create_dir(&path).unwrap(),
            _ => symlink("/nowhere", &path).unwrap(),
        }
        let error = quarantine.undo(&done).unwrap_err();
        assert!(error.to_string().contains("something else"), "{there}: {error}");
        match there {
            "file" => {
                assert_eq!(fs::read(&path).unwrap(), b"reinstalled");
                fs::remove_file(&path).unwrap();
            }
            "folder" => fs::remove_dir(&path).unwrap(),
            _ => fs::remove_file(&path).unwrap(),
        }
    }
    assert!(quarantine.undo(&done).unwrap().is_exact());
    assert_eq!(fs::read(&path).unwrap(), b"malicious");
}

#[test]
fn a_folder_that_is_gone_is_said_and_one_that_was_made_anew_is_good_enough() {
    let Some(disks) = Disks::new() else { return };
    let folder = disks.memory("memory", 1 << 20).join("folder");
    fs::create_dir(&folder).unwrap();
    let path = folder.join("program");
    fs::write(&path, "x").unwrap();
    let quarantine = quarantine(&disks.state());
    let done = apply(&quarantine, &path).unwrap();
    fs::remove_dir(&folder).unwrap();
    assert!(quarantine.prove(&done).unwrap().holds());
    let error = quarantine.undo(&done).unwrap_err();
    assert!(error.to_string().contains("folder"), "{error}");
    fs::create_dir(&folder).unwrap();
    let undone = quarantine.undo(&done).unwrap();
    assert_eq!(undone.differs, ["its folder is another than the one it was taken from"]);
    assert_eq!(fs::read(&path).unwrap(), b"x");
}

#[test]
fn a_full_vault_disk_leaves_the_file_untouched_and_a_full_one_at_its_place_leaves_the_vault() {
    let Some(disks) = Disks::new() else { return };
    let (folder, state) = (disks.memory("memory", 8 << 20), disks.memory("tiny", 2 << 20));
    let path = folder.join("program");
    fs::write(&path, vec![7; 4 << 20]).unwrap();
    let before = metadata(&path);
    let small = quarantine(&state);
    let error = apply(&small, &path).unwrap_err();
    assert!(error.to_string().contains("free"), "{error}");
    assert_eq!(metadata(&path), before);
    // Even where nobody counted, and the disk itself says it.
    fs::write(state.join("filler"), vec![0; 1 << 20]).unwrap();
    let small_file = folder.join("small");
    fs::write(&small_file, vec![7; 1_020 << 10]).unwrap();
    assert!(apply(&small, &small_file).is_err());
    assert!(small_file.exists());
    assert_eq!(leftovers(&state), BTreeSet::new());

    let quarantine = quarantine(&disks.state());
    let done = apply(&quarantine, &path).unwrap();
    fs::write(folder.join("filler"), vec![0; 6 << 20]).unwrap();
    let error = quarantine.undo(&done).unwrap_err();
    assert!(error.to_string().contains("No space left"), "{error}");
    assert!(!path.exists(), "nothing half");
    fs::remove_file(folder.join("filler")).unwrap();
    assert!(quarantine.undo(&done).unwrap().is_exact());
    assert_eq!(fs::read(&path).unwrap(), vec![7; 4 << 20]);
}

#[test]
fn a_filesystem_that_is_read_only_leaves_everything_as_it_was() {
    let Some(disks) = Disks::new() else { return };
    let Some(folder) = disks.ext4("disk") else { return };
    let path = folder.join("program");
    fs::write(&path, "x").unwrap();
    assert!(
        Command::new("mount").args(["-o", "remount,ro"]).arg(&folder).status().unwrap().success()
    );
    let quarantine = quarantine(&disks.state());
    assert!(apply(&quarantine, &path).is_err());
    assert!(path.exists());
    assert_eq!(leftovers(&disks.state()), BTreeSet::new());
}

#[test]
fn a_name_may_be_any_bytes() {
    let Some(disks) = Disks::new() else { return };
    let folder = disks.memory("memory", 1 << 20);
    let quarantine = quarantine(&disks.state());
    let long = [b'n'; 255];
    for name in [&b"\xff\xfe\x01 \n"[..], b"-rf *", b"... ", &long] {
        let path = folder.join(OsStr::from_bytes(name));
        fs::write(&path, "x").unwrap();
        let done = apply(&quarantine, &path).unwrap();
        assert!(!path.exists());
        assert!(quarantine.undo(&done).unwrap().is_exact());
        assert!(path.exists());
    }
}

#[test]
fn a_file_that_somebody_writes_to_is_taken_and_said_or_left_while_it_changes() {
    let Some(disks) = Disks::new() else { return };
    let path = disks.memory("memory", 1 << 20).join("log");
    let mut writer = File::create(&path).unwrap();
    writer.write_all(b"first").unwrap();
    let quarantine = quarantine(&disks.state());
    let done = apply(&quarantine, &path).unwrap();
    assert!(done.was_open_for_writing);
    let proof = quarantine.prove(&done).unwrap();
    assert!(proof.unproven.iter().any(|text| text.contains("open for writing")));
    quarantine.undo(&done).unwrap();
    drop(writer);
    let done = apply(&quarantine, &path).unwrap();
    assert!(!done.was_open_for_writing);
}

/// Tells another thread to stop, also when the test fails.
#[derive(Default)]
struct IsOver(AtomicBool);

impl IsOver {
    fn at_the_end(&self) -> impl Drop + use<'_> {
        struct AtTheEnd<'a>(&'a AtomicBool);
        impl Drop for AtTheEnd<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        AtTheEnd(&self.0)
    }
}

#[test]
fn a_file_that_is_always_written_to_is_not_copied_again_and_again() {
    let Some(disks) = Disks::new() else { return };
    let path = disks.memory("memory", 64 << 20).join("log");
    fs::write(&path, vec![7; 16 << 20]).unwrap();
    let quarantine = quarantine(&disks.state());
    let is_over = IsOver::default();
    let (measure, first) = std::thread::scope(|scope| {
        let _over = is_over.at_the_end();
        let (ready, is_ready) = std::sync::mpsc::channel();
        scope.spawn(|| {
            let file = File::options().write(true).open(&path).unwrap();
            let mut ready = Some(ready);
            while !is_over.0.load(Ordering::Relaxed) {
                file.write_all_at(b"7", 0).unwrap();
                if let Some(ready) = ready.take() {
                    ready.send(()).unwrap();
                }
            }
        });
        is_ready.recv().unwrap();
        let measure = measure();
        (measure, quarantine.apply(measure, &target(&path), &Protected::default()).unwrap_err())
    });
    assert!(first.to_string().contains("is being written to"), "{first}");
    // Nobody writes any more; but it is not its turn yet, and that is said in the same words.
    let again = || quarantine.apply(measure, &target(&path), &Protected::default());
    assert_eq!(again().unwrap_err().to_string(), first.to_string());
    assert_eq!(leftovers(&disks.state()), BTreeSet::new());
    // Another order of it does not wait.
    let other = apply(&quarantine, &path).unwrap();
    quarantine.undo(&other).unwrap();
    let done = loop {
        match again() {
            Ok(done) => break done,
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(100)),
        }
    };
    quarantine.undo(&done).unwrap();
}

#[test]
fn nothing_that_is_written_meanwhile_is_lost() {
    // An honest program replaces its file again and again, whole, as editors and package managers do.
    let Some(disks) = Disks::new() else { return };
    let folder = disks.memory("memory", 8 << 20);
    let path = folder.join("file");
    let quarantine = quarantine(&disks.state());
    let is_over = IsOver::default();
    let (mut done, mut written) = (Vec::<Quarantined>::new(), 0_u64);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut number = 0_u64;
            while !is_over.0.load(Ordering::Relaxed) {
                number += 1;
                let fresh = folder.join("fresh");
                fs::write(&fresh, number.to_string()).unwrap();
                fs::rename(&fresh, &path).unwrap();
            }
            number
        });
        let end = is_over.at_the_end();
        for _ in 0..300 {
            match apply(&quarantine, &path) {
                Ok(quarantined) => done.push(quarantined),
                Err(ActError::NotThere(_) | ActError::Unfit(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        drop(end);
        written = writer.join().unwrap();
    });
    // Whoever looks at the end finds the last version: at its place, in the vault, or aside where its
    // place was taken again.
    let mut versions: BTreeSet<u64> = BTreeSet::new();
    if let Ok(text) = fs::read_to_string(&path) {
        versions.insert(text.parse().unwrap());
    }
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().is_some_and(|name| name.as_bytes().starts_with(b".cordon-quarantine")) {
            versions.insert(fs::read_to_string(&path).unwrap().parse().unwrap());
        }
    }
    for quarantined in &done {
        let _ = fs::remove_file(&path);
        quarantine.undo(quarantined).unwrap();
        versions.insert(fs::read_to_string(&path).unwrap().parse().unwrap());
    }
    eprintln!("{} of 300 taken, {written} written", done.len());
    assert_eq!(versions.last(), Some(&written));
    assert_eq!(leftovers(&disks.state()), BTreeSet::new());
}

#[test]
fn a_path_that_is_bent_meanwhile_leads_nowhere_else() {
    let Some(disks) = Disks::new() else { return };
    let folder = disks.memory("memory", 8 << 20);
    let (real, away) = (folder.join("real"), folder.join("away"));
    let victim = folder.join("victim");
    for folder in [&real, &victim] {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join("file"), folder.as_os_str().as_bytes()).unwrap();
    }
    let before = metadata(&victim.join("file"));
    let quarantine = quarantine(&disks.state());
    let is_over = IsOver::default();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.0.load(Ordering::Relaxed) {
                // The folder becomes a link to another's, and a folder again.
                fs::rename(&real, &away).unwrap();
                symlink(&victim, &real).unwrap();
                fs::remove_file(&real).unwrap();
                fs::rename(&away, &real).unwrap();
            }
        });
        let _end = is_over.at_the_end();
        let mut taken = 0;
        for _ in 0..300 {
            if let Ok(done) = apply(&quarantine, &real.join("file")) {
                taken += 1;
                while quarantine.undo(&done).is_err() {}
            }
        }
        eprintln!("{taken} of 300 taken");
    });
    assert_eq!(metadata(&victim.join("file")), before, "the other's file was never touched");
    assert_eq!(fs::read(real.join("file")).unwrap(), real.as_os_str().as_bytes());
    assert_eq!(leftovers(&disks.state()), BTreeSet::new());
}

#[test]
fn the_same_order_again_finds_it_done_and_another_one_is_refused() {
    let Some(disks) = Disks::new() else { return };
    let folder = disks.memory("memory", 1 << 20);
    let (path, other) = (folder.join("one"), folder.join("other"));
    fs::write(&path, "x").unwrap();
    fs::write(&other, "y").unwrap();
    let quarantine = quarantine(&disks.state());
    let measure: MeasureId = measure();
    let nothing = Protected::default();
    let done = quarantine.apply(measure, &target(&path), &nothing).unwrap();
    // Dropped anew: that is another file, and another measure's business; the proof tells.
    fs::write(&path, "z").unwrap();
    assert_eq!(quarantine.apply(measure, &target(&path), &nothing).unwrap(), done);
    assert_eq!(fs::read(&path).unwrap(), b"z");
    assert!(quarantine.apply(measure, &target(&other), &nothing).is_err());
    assert!(other.exists());
}

#[test]
fn a_damaged_copy_is_said_and_nothing_is_put_back_from_it() {
    let Some(disks) = Disks::new() else { return };
    let path = disks.memory("memory", 1 << 20).join("file");
    fs::write(&path, vec![5; 200_000]).unwrap();
    let quarantine = quarantine(&disks.state());
    let done = apply(&quarantine, &path).unwrap();
    let copy = disks.state().join(format!("vault/{}.vault", done.measure));
    let file = File::options().write(true).open(&copy).unwrap();
    file.write_all_at(b"x", 150_000).unwrap();
    let error = quarantine.undo(&done).unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
    assert!(!path.exists());
    fs::remove_file(&copy).unwrap();
    assert!(!quarantine.prove(&done).unwrap().holds());
}
