//! A helper that is killed while it writes to a filesystem that somebody has filled goes on writing after its next
//! start: what the write had taken out of the reserve is taken back.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own tools fail the test")]

mod cut_short;

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use cordon_agent::contain::disk::{Disk, Found, Reserve};
use cordon_tests::lacks_root;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

const DEED: &str = "CORDON_FULL";
/// As beside the helper's memory, and as beside the journals of measures.
const RESERVES: [Reserve; 2] =
    [Reserve { files: 1, bytes: 64 << 10 }, Reserve { files: 3, bytes: 16 << 10 }];

fn disk(folder: &Path, files: usize) -> Disk {
    let reserve = RESERVES.into_iter().find(|reserve| reserve.files == files).unwrap();
    Disk::open(folder).unwrap().with_reserve(reserve)
}

/// Takes each file that is left, as any user can.
fn fill(folder: &Path) {
    let tries = (0..).map(|number| {
        let name = format!("ballast.{number}");
        OpenOptions::new().append(true).create(true).open(folder.join(name))
    });
    let error = tries.into_iter().find_map(Result::err).unwrap();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
}

/// A filesystem of few files, gone with its test.
struct Small(tempfile::TempDir);

impl Small {
    fn new() -> Self {
        let small = Self(tempfile::tempdir().unwrap());
        let limits = Some("size=16m,nr_inodes=40,mode=700");
        mount(Some("none"), &small.path(), Some("tmpfs"), MsFlags::empty(), limits).unwrap();
        small
    }

    fn path(&self) -> PathBuf {
        self.0.path().canonicalize().unwrap()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = umount2(&self.path(), MntFlags::MNT_DETACH);
    }
}

#[test]
fn the_deed_that_is_cut_short() {
    let Some(words) = cut_short::is_deed(DEED) else { return };
    let (files, folder) = words.split_once(' ').unwrap();
    disk(folder.as_ref(), files.parse().unwrap()).write("state", &"in between").unwrap();
}

#[test]
fn a_write_that_was_cut_short_on_a_full_disk_leaves_the_reserve_to_those_after_it() {
    if lacks_root("filling a filesystem") {
        return;
    }
    // Seen by this test, and what it starts, alone.
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let nothing = None::<&str>;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing).unwrap();
    for Reserve { files, .. } in RESERVES {
        // Of what is replaced, and of what was never written before where that is allowed.
        for has_previous in [false, true] {
            let small = std::cell::RefCell::new(None);
            let calls = cut_short::killed_at_every_call(
                "the_deed_that_is_cut_short",
                |_, command| {
                    let new = Small::new();
                    let folder = new.path();
                    let disk = disk(&folder, files);
                    disk.write("state", &"first").unwrap();
                    if has_previous {
                        disk.write("state", &"second").unwrap();
                    }
                    disk.keep_reserve().unwrap();
                    fill(&folder);
                    command.env(DEED, format!("{files} {}", folder.display()));
                    *small.borrow_mut() = Some(new);
                },
                |call| {
                    let folder = small.borrow().as_ref().unwrap().path();
                    fill(&folder);
                    // As a helper starts.
                    let disk = disk(&folder, files);
                    disk.take_back_reserve().unwrap();
                    let _ = disk.keep_reserve();
                    for number in 0..4 {
                        fill(&folder);
                        let value = format!("after {number}");
                        disk.write("state", &value)
                            .unwrap_or_else(|error| panic!("call {call}, write {number}: {error}"));
                        assert_eq!(disk.read("state").unwrap(), Found::Whole(value));
                    }
                },
            );
            println!("{files} files in reserve: killed before each of {calls} calls");
        }
    }
}

/// Two threads write the measures' journals: what the one has fresh is not taken from it by the other's need.
#[test]
fn what_is_being_written_is_nobodys_reserve_but_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(folder.path(), 3);
    disk.keep_reserve().unwrap();
    std::fs::remove_file(folder.path().join("reserve-2")).unwrap();
    std::fs::write(folder.path().join("other.new"), "being written").unwrap();
    disk.write("state", &1).unwrap();
    disk.remove("state").unwrap();
    disk.keep_reserve().unwrap();
    let other = || std::fs::read_to_string(folder.path().join("other.new"));
    assert_eq!(other().unwrap(), "being written");
    // At the start nobody writes: then it is one that was cut short.
    std::fs::remove_file(folder.path().join("reserve-3")).unwrap();
    disk.take_back_reserve().unwrap();
    assert!(other().is_err() && folder.path().join("reserve-3").exists());
}
