//! Filesystems of a test's own, mounted where nobody else sees them.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// A folder below which filesystems can be mounted that only this thread sees. They are gone with it.
pub struct Disks {
    pub folder: tempfile::TempDir,
}

impl Disks {
    pub fn new() -> Option<Self> {
        if cordon_tests::lacks_root("mounting a filesystem") {
            return None;
        }
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let nothing = None::<&str>;
        mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing).unwrap();
        Some(Self { folder: tempfile::tempdir().unwrap() })
    }

    /// Where Cordon's own state is, apart from the filesystems.
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("cordon")
    }

    fn point(&self, name: &str) -> PathBuf {
        let point = self.folder.path().join(name);
        std::fs::create_dir(&point).unwrap();
        point
    }

    /// One in memory, of that many bytes.
    pub fn memory(&self, name: &str, bytes: u64) -> PathBuf {
        let point = self.point(name);
        let size = format!("size={bytes},mode=755");
        mount(Some("none"), &point, Some("tmpfs"), MsFlags::empty(), Some(size.as_str())).unwrap();
        point
    }

    /// One on a disk, with all that such a one has.
    pub fn ext4(&self, name: &str) -> Option<PathBuf> {
        if cordon_tests::lacks_programs(&["mkfs.ext4"]) {
            return None;
        }
        let point = self.point(name);
        let image = self.folder.path().join(format!("{name}.image"));
        std::fs::File::create(&image).unwrap().set_len(32 << 20).unwrap();
        let made = Command::new("mkfs.ext4").arg("-q").arg(&image).status();
        let is_mounted = made.is_ok_and(|status| status.success())
            && Command::new("mount")
                .args(["-o", "loop"])
                .arg(&image)
                .arg(&point)
                .status()
                .unwrap()
                .success();
        if !is_mounted {
            cordon_tests::cannot_be_had("no ext4 on a loop device here");
            return None;
        }
        Some(point)
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        // The last mounted first; the thread's namespace would go on while another thread looks at it.
        let mounted = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let own = |line: &&str| {
            line.split(' ')
                .nth(4)
                .is_some_and(|point| Path::new(point).starts_with(self.folder.path()))
        };
        for line in mounted.lines().rev().filter(own) {
            let point = line.split(' ').nth(4).unwrap();
            let _ = nix::mount::umount2(point, nix::mount::MntFlags::MNT_DETACH);
        }
    }
}
