//! Which filesystems there are, and whose word is behind them.
//!
//! Read from `/proc/thread-self/mountinfo`, which asks no filesystem anything: a look at a path can hang for
//! ever where another user's program answers for it (FUSE) or another machine does (NFS). Who knows
//! first what lies on the way need not go there.

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use super::plain;

/// A mount table of 8 MiB: 100,000 mounts of 80 bytes, the kernel's own limit for one namespace
/// (`fs.mount-max`).
const TABLE_BYTES: u64 = 8 << 20;

/// Filesystems whose answers come from this kernel and a disk or memory of this machine.
const LOCAL: &[&str] = &[
    "bcachefs", "btrfs", "erofs", "exfat", "ext2", "ext3", "ext4", "f2fs", "iso9660", "jfs",
    "msdos", "ntfs3", "overlay", "ramfs", "squashfs", "tmpfs", "udf", "vfat", "xfs", "zfs",
];

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The kernel's number of it.
    pub id: u64,
    /// The filesystem's device, the same for every mount and every subvolume of it.
    pub device: (u32, u32),
    /// Which folder of the filesystem is mounted.
    pub root: PathBuf,
    /// Where.
    pub point: PathBuf,
    /// Its kind: `ext4`.
    pub kind: String,
    /// The machine that it is of, where the kernel says so (NFS, CIFS).
    pub address: Option<IpAddr>,
}

impl Mount {
    /// Whether this kernel alone answers for it, from files on a disk or in memory.
    #[must_use]
    pub fn is_local(&self) -> bool {
        LOCAL.contains(&self.kind.as_str())
    }
}

/// The mounts of this process's mount namespace, as mounted one after the other.
///
/// # Errors
/// When the kernel can't be asked.
pub fn mounts() -> io::Result<Vec<Mount>> {
    let mut text = Vec::new();
    std::fs::File::open("/proc/thread-self/mountinfo")?.take(TABLE_BYTES).read_to_end(&mut text)?;
    Ok(text.split(|byte| *byte == b'\n').filter_map(parse).collect())
}

/// The mount that `path`, absolute and without symbolic links, lies on, and those that lie on the way
/// there, the last first.
pub fn on_the_way<'a>(mounts: &'a [Mount], path: &Path) -> Vec<&'a Mount> {
    let mut way: Vec<&Mount> =
        mounts.iter().filter(|mount| path.starts_with(&mount.point)).collect();
    // Of two at one place, the later hides the earlier; the longer path is the nearer.
    way.reverse();
    way.sort_by_key(|mount| std::cmp::Reverse(mount.point.as_os_str().len()));
    way.dedup_by(|hidden, seen| hidden.point == seen.point);
    way
}

/// The mount on the way to `path` that this kernel does not answer for alone: whoever answers may never do so.
#[must_use]
pub fn far<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    const KERNELS_OWN: [&str; 4] = ["devtmpfs", "proc", "sysfs", "rootfs"];
    let is_far = |mount: &&Mount| !mount.is_local() && !KERNELS_OWN.contains(&mount.kind.as_str());
    on_the_way(mounts, path).into_iter().find(is_far)
}

/// Links that are followed on one way, as the kernel does (path_resolution(7)).
const LINKS: usize = 40;

/// Where `path`, which is absolute, leads with its links followed, and the mount on the way that is [`far`],
/// if one is: beyond it nothing was asked, and the rest of the path is as it was named.
#[must_use]
pub fn led_to<'a>(mounts: &'a [Mount], path: &Path) -> (PathBuf, Option<&'a Mount>) {
    let parts = |path: &Path| -> Vec<OsString> {
        path.iter().rev().filter(|part| *part != "/").map(OsString::from).collect()
    };
    let (mut at, mut left, mut links) = (PathBuf::from("/"), parts(path), 0);
    while let Some(part) = left.pop() {
        if part == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&part);
        if let Some(mount) = far(mounts, &next) {
            return (left.iter().rev().fold(next, |way, part| way.join(part)), Some(mount));
        }
        // Over nothing that was mounted since, either.
        let target = plain::look_near(mounts, &next).and_then(|seen| seen.target());
        match target.map(PathBuf::from) {
            Ok(target) if links < LINKS => {
                links += 1;
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                left.extend(parts(&target));
            }
            _ => at = next,
        }
    }
    (at, None)
}

/// `ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAG…] - KIND SOURCE OPTIONS` (proc_pid_mountinfo(5)).
fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let text = |field: &[u8]| std::str::from_utf8(field).ok().map(str::to_owned);
    let id = text(fields.next()?)?.parse().ok()?;
    let device = text(fields.nth(1)?)?;
    let (major, minor) = device.split_once(':')?;
    let device = (major.parse().ok()?, minor.parse().ok()?);
    let (root, point) = (path(fields.next()?), path(fields.next()?));
    let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
    let kind = text(fields.next()?)?;
    let options = fields.nth(1).unwrap_or_default();
    let address = options
        .split(|byte| *byte == b',')
        .find_map(|option| std::str::from_utf8(option.strip_prefix(b"addr=")?).ok()?.parse().ok());
    Some(Mount { id, device, root, point, kind, address })
}

/// Blank, tab, newline and backslash are written as a backslash and three octal digits.
fn path(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let digits = after
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(digits.unwrap_or(*first));
        rest = if digits.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mount(id: u64, point: &str, kind: &str) -> Mount {
        let line = format!("{id} 1 8:{id} / {point} rw - {kind} none rw");
        parse(line.as_bytes()).unwrap()
    }

    #[test]
    fn a_line_is_read_with_its_escapes_and_however_many_tags() {
        let line =
            br"36 35 98:7 /mnt1 /mnt\0402\134 rw,noatime master:1 shared:9 - ext3 /dev/root rw";
        let expected = Mount {
            id: 36,
            device: (98, 7),
            root: "/mnt1".into(),
            point: r"/mnt 2\".into(),
            kind: "ext3".into(),
            address: None,
        };
        assert_eq!(parse(line), Some(expected));
        assert_eq!(parse(b"36 35 98:7 / /x rw - tmpfs tmpfs rw").unwrap().kind, "tmpfs");
        let share = b"40 35 0:52 / /scans rw - cifs //files/scans rw,vers=3.0,addr=10.0.0.5,uid=0";
        assert_eq!(parse(share).unwrap().address, Some([10, 0, 0, 5].into()));
    }

    #[test]
    fn the_nearest_mount_comes_first_and_a_hidden_one_not_at_all() {
        let mounts = [
            mount(1, "/", "ext4"),
            mount(2, "/home", "ext4"),
            mount(3, "/home/a/remote", "fuse.sshfs"),
            mount(4, "/home", "nfs4"),
            mount(5, "/hom", "tmpfs"),
        ];
        let way = |path: &str| {
            on_the_way(&mounts, Path::new(path)).iter().map(|m| m.id).collect::<Vec<_>>()
        };
        assert_eq!(way("/home/a/remote/x"), [3, 4, 1]);
        assert_eq!(way("/home/b"), [4, 1]);
        assert_eq!(way("/hom/b"), [5, 1]);
        assert_eq!(way("/etc"), [1]);
        assert!(!mounts[2].is_local() && !mounts[3].is_local() && mounts[4].is_local());
        let is_far = |path: &str| far(&mounts, Path::new(path)).map(|mount| mount.id);
        assert_eq!(
            (is_far("/home/a/remote/x"), is_far("/home/b"), is_far("/hom/b")),
            (Some(3), Some(4), None)
        );
    }

    #[test]
    fn a_link_is_followed_up_to_what_is_far_and_no_further() {
        // No mount has so high a number.
        const FAR: u64 = 4_000_000_000;
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("near/deep")).unwrap();
        std::fs::create_dir(root.join("far")).unwrap();
        for (link, target) in
            [("away", "far/app"), ("near/deep/up", "../../away"), ("loop", "loop")]
        {
            std::os::unix::fs::symlink(target, root.join(link)).unwrap();
        }
        let text = root.to_str().unwrap();
        let far = mount(FAR, &format!("{text}/far"), "nfs4");
        let mounts: Vec<Mount> = mounts().unwrap().into_iter().chain([far]).collect();
        let led = |path: &str| {
            let (at, far) = led_to(&mounts, &root.join(path));
            (at.strip_prefix(&root).unwrap().to_str().unwrap().to_owned(), far.map(|m| m.id))
        };
        assert_eq!(led("near/deep"), ("near/deep".into(), None));
        for path in ["away/bin/viewer", "near/deep/up/bin/viewer", "far/app/bin/viewer"] {
            assert_eq!(led(path), ("far/app/bin/viewer".into(), Some(FAR)), "{path}");
        }
        assert_eq!(led("loop"), ("loop".into(), None), "a circle ends");
    }

    #[test]
    fn this_machine_has_a_root() {
        let mounts = mounts().unwrap();
        assert_eq!(on_the_way(&mounts, Path::new("/")).len(), 1);
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(line in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&line);
            let _ = path(&line);
        }
    }
}
