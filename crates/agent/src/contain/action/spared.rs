//! What no order may touch.
//!
//! Of processes: pid 1, the kernel's own threads, Cordon's and all above them, and what the organisation
//! has named as needed for care. Of files: Cordon's programs and state, and what a machine needs so that
//! somebody can still log in to it and repair it. A thing is recognised by its inode, so that no other
//! name leads around this.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags, makedev, statx};
use serde::{Deserialize, Serialize};

use super::lineage::Seen;
use super::mounts::{Mount, led_to, mounts};
use super::path_of;
use super::place::Place;
use super::plain::file_near;
use crate::sensor::proc_files;

pub use cordon_model::asset::Protected;

/// A file, whatever it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileId {
    /// The filesystem.
    pub device: u64,
    /// The file in it.
    pub inode: u64,
}

impl FileId {
    /// The file that `path` leads to, links followed. What is known of it already is enough: a
    /// filesystem that another program answers for is not asked, for it might never answer.
    #[must_use]
    pub fn at(path: impl AsRef<Path>) -> Option<Self> {
        let asked = StatxFlags::INO | StatxFlags::TYPE;
        let found = statx(CWD, path.as_ref(), AtFlags::STATX_DONT_SYNC, asked).ok()?;
        let device = makedev(found.stx_dev_major, found.stx_dev_minor);
        Some(Self { device, inode: found.stx_ino })
    }

    /// The file with `metadata`.
    #[must_use]
    pub fn of(metadata: &fs::Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// The processes that may not be touched, as they are now.
#[derive(Debug)]
pub struct SparedProcesses<'a> {
    cordon: HashSet<FileId>,
    cordon_paths: Vec<PathBuf>,
    mount_namespace: Option<FileId>,
    /// The users that Cordon runs as. Whoever else runs its program (`cordon notice` on a desktop) is no part
    /// of it, and spares nobody above.
    own_users: HashSet<u32>,
    above_cordon: HashSet<u32>,
    protected: &'a Protected,
    programs: HashMap<FileId, &'a Path>,
    /// Programs that are not asked what file they are: whoever answers for them may never do so.
    far: Vec<Far<'a>>,
}

/// A protected program on a filesystem that this kernel does not answer for alone.
#[derive(Debug)]
struct Far<'a> {
    named: &'a Path,
    /// Where its links lead, as far as they were followed.
    real: PathBuf,
    /// The filesystem, in words.
    on: String,
}

impl<'a> Far<'a> {
    /// The other way round if it is near: then where it leads.
    fn new(mounts: &[Mount], named: &'a Path) -> Result<Self, PathBuf> {
        match led_to(mounts, named) {
            (real, Some(mount)) => {
                let on = format!("{} ({})", mount.point.display(), mount.kind);
                Ok(Self { named, real, on })
            }
            (real, None) => Err(real),
        }
    }
}

impl<'a> SparedProcesses<'a> {
    /// Looks at the machine, whose agent runs as `agent_user`, if that is known.
    #[must_use]
    pub fn now(protected: &'a Protected, agent_user: Option<u32>) -> Self {
        let cordon_paths = own_programs();
        let files = cordon_paths.iter().filter_map(FileId::at);
        let mut spared = Self {
            cordon: files.chain(FileId::at("/proc/self/exe")).collect(),
            cordon_paths,
            mount_namespace: FileId::at("/proc/thread-self/ns/mnt"),
            own_users: own_users(agent_user),
            above_cordon: HashSet::new(),
            protected,
            programs: HashMap::new(),
            far: Vec::new(),
        };
        let mounts = mounts().unwrap_or_default();
        for path in protected.executables.iter().map(path_of) {
            match Far::new(&mounts, path) {
                Ok(far) => spared.far.push(far),
                Err(near) => {
                    spared.programs.extend(file_near(&mounts, &near).map(|file| (file, path)));
                }
            }
        }
        let all = Seen::all();
        let parents: HashMap<u32, u32> = all.iter().map(|s| (s.id.pid, s.parent)).collect();
        let mut above = HashSet::new();
        for seen in all.iter().filter(|seen| spared.is_cordon(seen.id.pid)) {
            let mut pid = seen.parent;
            // A table read while it changes could go in a circle.
            while pid != 0 && above.insert(pid) {
                pid = parents.get(&pid).copied().unwrap_or(0);
            }
        }
        spared.above_cordon = above;
        spared
    }

    /// What of it is known by less than it should be, in words.
    pub fn doubts(&self) -> impl Iterator<Item = String> {
        self.far.iter().map(|Far { named, on, .. }| {
            format!(
                "{}, protected for care, is on {on}, which is not asked anything: it was told by its path \
                 only",
                named.display()
            )
        })
    }

    /// Why `seen` may not be touched, if it may not.
    #[must_use]
    pub fn why(&self, seen: &Seen) -> Option<String> {
        let pid = seen.id.pid;
        if pid == 1 {
            Some("it is pid 1, without which the machine stops".into())
        } else if seen.is_kernel_thread {
            Some("it is a part of the kernel".into())
        } else if self.is_cordon(pid) {
            Some("it is Cordon itself".into())
        } else if self.above_cordon.contains(&pid) {
            Some("Cordon runs below it".into())
        } else {
            self.why_protected(pid)
        }
    }

    fn is_cordon(&self, pid: u32) -> bool {
        if pid == std::process::id() {
            return true;
        }
        let is_ours = proc_files::credentials(pid).is_some_and(|user| {
            self.own_users.contains(&user.uid) && self.own_users.contains(&user.effective_uid)
        });
        if !is_ours {
            return false;
        }
        let exe = format!("/proc/{pid}/exe");
        if FileId::at(&exe).is_some_and(|file| self.cordon.contains(&file)) {
            return true;
        }
        // After an upgrade the older one still runs, from a file that is no more. Its path counts only
        // where paths mean what they mean to us: in a container it may be anybody's.
        self.cordon_paths.iter().any(|path| self.is_at(pid, path))
    }

    /// Whether `pid` runs the program at `path` of our own mount namespace, deleted or not.
    fn is_at(&self, pid: u32, path: &Path) -> bool {
        let Some((image, _)) = proc_files::image(pid) else { return false };
        Path::new(&image) == without_deleted(path)
            && FileId::at(format!("/proc/{pid}/ns/mnt")) == self.mount_namespace
    }

    fn why_protected(&self, pid: u32) -> Option<String> {
        let program = FileId::at(format!("/proc/{pid}/exe"))
            .and_then(|file| self.programs.get(&file).copied())
            .or_else(|| {
                let mut paths = self.protected.executables.iter().map(path_of);
                paths.find(|path| self.is_at(pid, path))
            })
            .or_else(|| {
                // In whatever namespace: such a path is all there is to know it by, and one too many is spared
                // rather than one too few.
                let (image, _) = proc_files::image(pid)?;
                let is_it = |far: &&Far<'_>| without_deleted(&far.real) == Path::new(&image);
                self.far.iter().find(is_it).map(|far| far.named)
            });
        if let Some(program) = program {
            return Some(format!("its program {} is protected for care", program.display()));
        }
        group_of(self.protected, pid).map(|name| format!("{name} is protected for care"))
    }
}

/// The unit or control group that `pid` is in and that care needs.
fn group_of(protected: &Protected, pid: u32) -> Option<&str> {
    let groups = fs::read(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    protected_among(protected, &groups)
}

/// `groups` is `/proc/PID/cgroup`: one line a hierarchy, `NUMBER:CONTROLLERS:PATH`. Of one group's name
/// nothing follows for the others: it may be any bytes.
fn protected_among<'a>(protected: &'a Protected, groups: &[u8]) -> Option<&'a str> {
    let path = |line: &'_ [u8]| line.splitn(3, |byte| *byte == b':').nth(2).map(<[u8]>::to_vec);
    groups.split(|byte| *byte == b'\n').filter_map(path).find_map(|path| {
        let path = Path::new(OsStr::from_bytes(&path));
        let unit = protected.units.iter().find(|unit| is_in_unit(path, unit));
        let mut groups = protected.cgroups.iter();
        let group =
            groups.find(|group| !group.trim_matches('/').is_empty() && path.starts_with(group));
        unit.or(group).map(String::as_str)
    })
}

/// Cordon's programs, which lie beside each other: whichever of them this is, the others are Cordon too.
const OWN_PROGRAMS: [&str; 2] = ["cordon", "cordon-helper"];

/// Where they are.
fn own_programs() -> Vec<PathBuf> {
    fs::read_link("/proc/self/exe").map_or_else(|_| Vec::new(), |own| beside(&own))
}

fn beside(own: &Path) -> Vec<PathBuf> {
    let own = without_deleted(own);
    let others = OWN_PROGRAMS.iter().map(|name| own.with_file_name(name));
    std::iter::once(own.to_owned()).chain(others.filter(|other| other != own)).collect()
}

/// Names of the users that Cordon's roles run as.
pub(super) const OWN_USERS: [&str; 3] = ["cordon-agent", "cordon-hub", "cordon-signer"];

/// Their numbers, and root's. Of the machine's own file: a directory service might not answer.
fn own_users(agent_user: Option<u32>) -> HashSet<u32> {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let is_own = OWN_USERS.contains(&fields.next()?);
        fields.nth(1)?.parse().ok().filter(|_| is_own)
    });
    let itself = nix::unistd::geteuid().as_raw();
    named.chain([0, itself]).chain(agent_user).collect()
}

/// Whether `path` is the control group of systemd's own unit `unit`, or below it: only slices may stand
/// above a unit. What stands below a service (a user's own manager, a container) was named by others.
fn is_in_unit(path: &Path, unit: &str) -> bool {
    let mut names = path.as_os_str().as_bytes().split(|byte| *byte == b'/');
    let is_unit = |name: &[u8]| name == unit.as_bytes();
    let first =
        names.find(|name| !name.is_empty() && (!name.ends_with(b".slice") || is_unit(name)));
    first.is_some_and(is_unit)
}

fn without_deleted(path: &Path) -> &Path {
    path.to_str().and_then(|text| text.strip_suffix(" (deleted)")).map_or(path, Path::new)
}

/// What a machine needs so that somebody can log in and repair it: init, the shells, login and remote
/// login, becoming root, services and their log, mounting, moving files, network, and the terminal.
#[rustfmt::skip]
const NEEDED: &[&str] = &[
    "agetty", "bash", "busybox", "cat", "chmod", "chown", "cp", "dash", "dbus-broker", "dbus-daemon",
    "env", "fsck", "getty", "init", "ip", "journalctl", "kill", "killall", "kmod", "less", "ln", "login",
    "ls", "mkdir", "modprobe", "mount", "mv", "nft", "passwd", "ps", "reboot", "rm", "sed", "sh",
    "shutdown", "ssh", "sshd", "su", "sudo", "sulogin", "systemctl", "systemd", "systemd-udevd", "umount",
    "unix_chkpwd", "xtables-nft-multi", "zsh",
];

/// Where those are.
const PROGRAMS: &[&str] = &["/bin", "/sbin", "/usr/bin", "/usr/sbin"];

/// Folders of which every file is needed: systemd's own programs, what sshd starts for a session, how
/// people are let in.
#[rustfmt::skip]
const WHOLE: &[&str] = &[
    "/lib/systemd", "/usr/lib/systemd", "/usr/lib/openssh", "/usr/libexec/openssh", "/usr/lib/ssh",
    "/etc/pam.d", "/lib/security", "/lib64/security", "/lib/x86_64-linux-gnu/security",
    "/lib/aarch64-linux-gnu/security", "/boot", "/boot/grub",
];

/// Files without which nobody can log in, or nothing is mounted.
#[rustfmt::skip]
const FILES: &[&str] = &[
    "/etc/fstab", "/etc/group", "/etc/gshadow", "/etc/ld.so.cache", "/etc/nsswitch.conf", "/etc/passwd",
    "/etc/shadow", "/etc/ssh/sshd_config", "/etc/sudoers", "/proc/1/exe", "/proc/self/exe",
];

/// Where dynamic loaders and the libraries of the needed programs are.
#[rustfmt::skip]
const LIBRARIES: &[&str] = &[
    "/lib", "/lib64", "/lib32", "/libx32", "/usr/lib", "/usr/lib64", "/usr/lib32",
    "/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu",
];

/// How those begin: every program starts by a loader, and nobody logs in without the rest.
#[rustfmt::skip]
const LIBRARY: &[&str] = &[
    "ld-", "ld.so", "libacl.", "libattr.", "libaudit.", "libblkid.", "libc-", "libc.", "libcap", "libcrypt",
    "libdl.", "libgcc_s.", "libkmod.", "liblzma.", "libm.", "libmount.", "libnss_", "libpam",
    "libpcre2-8.", "libpthread.", "libresolv.", "libselinux.", "libsystemd", "libtinfo.", "libz.",
    "libzstd.",
];

/// Folders of Cordon's own, whatever its state is called: what it is told by, and what it tells people.
const OWN_FOLDERS: &[&str] = &["/etc/cordon", "/run/cordon"];

/// What lies beside the helper's folder in Cordon's state (`helper`): the other roles', and their sockets.
const BESIDE_THE_HELPER: &[&str] = &["agent", "hub", "signer", "run"];

/// The files that may not be denied or taken away, as they are now, each with the name by which it is
/// known.
#[derive(Debug, Default)]
pub struct SparedFiles {
    files: HashMap<FileId, PathBuf>,
    /// Programs on filesystems that are not asked anything, by where they are.
    far: HashMap<PathBuf, PathBuf>,
    /// Which of these names the organisation has named as needed for care.
    for_care: HashSet<PathBuf>,
    /// Which of the files run in units and groups that it has named so, whatever they are called there.
    run_for_care: HashSet<FileId>,
    /// Folders of Cordon's own, as far as they are there.
    folders: Vec<(PathBuf, Option<FileId>)>,
}

impl SparedFiles {
    /// Looks at the machine. `state` is the helper's own folder; in `helper` of Cordon's state, the folders of
    /// all roles are spared with it.
    #[must_use]
    pub fn now(protected: &Protected, state: Option<&Path>) -> Self {
        let mut spared = Self::default();
        FILES.iter().for_each(|path| spared.add(Path::new(path)));
        own_programs().iter().for_each(|path| spared.add(path));
        for folder in PROGRAMS {
            NEEDED.iter().for_each(|name| spared.add(&Path::new(folder).join(name)));
        }
        WHOLE.iter().for_each(|folder| spared.add_all(Path::new(folder), |_| true));
        let is_library = |name: &str| LIBRARY.iter().any(|begins| name.starts_with(begins));
        LIBRARIES.iter().for_each(|folder| spared.add_all(Path::new(folder), is_library));
        let mounts = mounts().unwrap_or_default();
        for path in protected.executables.iter().map(path_of) {
            spared.for_care.insert(path.to_owned());
            match Far::new(&mounts, path) {
                Ok(Far { named, real, .. }) => {
                    spared.far.insert(real, named.to_owned());
                }
                Err(near) => {
                    let file = file_near(&mounts, &near);
                    spared.files.extend(file.map(|file| (file, path.to_owned())));
                }
            }
        }
        spared.add_running(protected, &mounts);
        let mut folders: Vec<PathBuf> = OWN_FOLDERS.iter().map(PathBuf::from).collect();
        if let Some(state) = state {
            folders.push(state.to_owned());
            if let (Some("helper"), Some(root)) =
                (state.file_name().and_then(|name| name.to_str()), state.parent())
            {
                folders.extend(BESIDE_THE_HELPER.iter().map(|name| root.join(name)));
            }
        }
        let with_id = |folder: PathBuf| {
            let id = FileId::at(&folder);
            (folder, id)
        };
        spared.folders = folders.into_iter().map(with_id).collect();
        spared
    }

    /// What runs at this moment in units and control groups that care needs: whoever goes on must be able to start
    /// again. After an upgrade what runs is no more, and what has its name now is spared beside it.
    fn add_running(&mut self, protected: &Protected, mounts: &[Mount]) {
        if protected.units.is_empty() && protected.cgroups.is_empty() {
            return;
        }
        let ours = FileId::at("/proc/thread-self/ns/mnt");
        for pid in proc_files::pids() {
            if group_of(protected, pid).is_none() {
                continue;
            }
            let Some((image, _)) = proc_files::image(pid) else { continue };
            let path = without_deleted(Path::new(&image)).to_owned();
            let runs = FileId::at(format!("/proc/{pid}/exe"));
            let is_named_so_here = FileId::at(format!("/proc/{pid}/ns/mnt")) == ours;
            let named = is_named_so_here.then(|| file_near(mounts, &path)).flatten();
            for file in runs.into_iter().chain(named) {
                // What is needed to repair the machine may be put back, a service's or not.
                if let Entry::Vacant(free) = self.files.entry(file) {
                    free.insert(path.clone());
                    self.run_for_care.insert(file);
                }
            }
        }
    }

    fn add(&mut self, path: &Path) {
        if let Ok(metadata) = fs::metadata(path)
            && metadata.is_file()
        {
            self.files.entry(FileId::of(&metadata)).or_insert_with(|| path.to_owned());
        }
    }

    fn add_all(&mut self, folder: &Path, is_meant: impl Fn(&str) -> bool) {
        let Ok(entries) = fs::read_dir(folder) else { return };
        for entry in entries.filter_map(Result::ok) {
            if entry.file_name().to_str().is_some_and(&is_meant) {
                self.add(&entry.path());
            }
        }
    }

    /// Why `file`, found at a place, may not be touched, if it may not.
    #[must_use]
    pub fn why(&self, file: FileId, place: Option<&Place>) -> Option<String> {
        // By what the folders are, too: a second mount gives them another name.
        self.why_below(file, place.map(|place| (place.path(), place.above())))
    }

    /// The same, where nothing but the path of the file is known, and the folders on the way are not asked.
    #[must_use]
    pub fn why_by_path(&self, file: FileId, path: Option<&Path>) -> Option<String> {
        self.why_below(file, path.map(|path| (path, &[][..])))
    }

    /// The same, of a file that was found by its path, which is below these folders.
    fn why_below(&self, file: FileId, found: Option<(&Path, &[FileId])>) -> Option<String> {
        let by_path = || found.as_ref().and_then(|(path, _)| self.far.get(*path));
        if let Some(name) = self.files.get(&file).or_else(by_path) {
            return Some(self.in_words(name, Some(file)));
        }
        let (path, above) = found?;
        let is_above = |folder: &Path, id: Option<FileId>| {
            (path.starts_with(folder) && path != folder) || id.is_some_and(|id| above.contains(&id))
        };
        self.folders
            .iter()
            .find(|(folder, id)| is_above(folder, *id))
            .map(|(folder, _)| format!("{} is Cordon's own", folder.display()))
    }

    /// Why what stood at `place` before may not be put in the place of `file`. A file by which people log in may: what is
    /// put there is what let them in before somebody changed it.
    #[must_use]
    pub fn why_not_put_back(&self, file: FileId, place: &Place) -> Option<String> {
        let name = self.files.get(&file).or_else(|| self.far.get(place.path()));
        let is_needed_only = name.is_some_and(|name| {
            !self.for_care.contains(name) && !self.run_for_care.contains(&file)
        });
        if is_needed_only { None } else { self.why(file, Some(place)) }
    }

    /// Why what has the name `path` may not be touched, if it may not: also where no file is there, or was looked at.
    #[must_use]
    pub fn why_named(&self, path: &Path) -> Option<String> {
        let far = self.far.iter().find(|(real, named)| *real == path || *named == path);
        let far = far.map(|(_, named)| (named.as_path(), None));
        let near = || {
            let mut near = self.iter().filter(|(_, name)| *name == path);
            near.next().map(|(file, name)| (name, Some(file)))
        };
        far.or_else(near).map(|(name, file)| self.in_words(name, file))
    }

    fn in_words(&self, name: &Path, file: Option<FileId>) -> String {
        let runs = file.is_some_and(|file| self.run_for_care.contains(&file));
        let why = match runs || self.for_care.contains(name) {
            true => "is protected for care",
            false => "is needed to run and repair this machine",
        };
        format!("{} {why}", name.display())
    }

    /// Each spared file and its name.
    pub fn iter(&self) -> impl Iterator<Item = (FileId, &Path)> {
        self.files.iter().map(|(file, path)| (*file, path.as_path()))
    }
}

/// Whether `path` is absolute, and has no `.`, `..` or empty parts.
#[must_use]
pub fn is_plain(path: &Path) -> bool {
    let mut parts = path.components();
    parts.next() == Some(Component::RootDir)
        && parts.all(|part| matches!(part, Component::Normal(_)))
        // `components` forgives a dot, a doubled stroke and one at the end.
        && path.components().collect::<PathBuf>().as_os_str() == path.as_os_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn protected() -> Protected {
        Protected {
            units: vec!["pacs.service".into()],
            cgroups: vec!["/machine.slice/modality".into(), "/".into()],
            executables: vec![],
        }
    }

    #[test]
    fn a_unit_is_systemds_own_and_not_one_that_others_named_so() {
        let is_in = |path: &str, unit| is_in_unit(Path::new(path), unit);
        assert!(is_in("/system.slice/pacs.service", "pacs.service"));
        assert!(is_in("/clinical.slice/clinical-ct.slice/pacs.service/worker", "pacs.service"));
        assert!(is_in("/clinical.slice/x.service", "clinical.slice"));
        for path in [
            "/user.slice/user-1000.slice/user@1000.service/app.slice/pacs.service",
            "/system.slice/docker-1.scope/pacs.service",
            "/system.slice/pacs.service.d",
            "/pacs/pacs.service",
            "/",
        ] {
            assert!(!is_in(path, "pacs.service"), "{path}");
        }
    }

    #[test]
    fn a_group_protects_all_below_it_and_nothing_beside_it() {
        let protected = protected();
        let why = |groups: &str| protected_among(&protected, groups.as_bytes()).is_some();
        assert!(why("4:memory:/machine.slice/modality/1\n0::/user.slice"));
        assert!(why("1:name=systemd:/system.slice/pacs.service\n0::/"));
        assert!(!why("0::/machine.slice/modality2"));
        assert!(!why("0::/machine.slice"));
        let beside = b"1:name=systemd:/user.slice/\xff\n0::/system.slice/pacs.service/\xff\n";
        assert!(
            protected_among(&protected, beside).is_some(),
            "a name that is not UTF-8 unprotects nobody"
        );
        assert!(!why("0::/x"), "a protected root would spare everything");
    }

    #[test]
    fn whichever_of_cordons_programs_this_is_the_others_are_cordon_too() {
        let both = ["/usr/bin/cordon", "/usr/bin/cordon-helper"].map(PathBuf::from);
        for own in ["/usr/bin/cordon", "/usr/bin/cordon-helper (deleted)"] {
            let mut found = beside(Path::new(own));
            found.sort();
            assert_eq!(found, both, "{own}");
        }
    }

    #[test]
    fn init_the_kernel_cordon_and_what_is_above_it_are_spared() {
        let protected = Protected::default();
        let spared = SparedProcesses::now(&protected, None);
        let why = |pid| spared.why(&Seen::now(pid).unwrap());
        assert!(why(1).is_some());
        assert!(why(std::process::id()).is_some());
        assert!(why(std::os::unix::process::parent_id()).is_some());
        if let Some(kernel) = Seen::now(2).filter(|seen| seen.is_kernel_thread) {
            assert!(spared.why(&kernel).is_some());
        }
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let is_spared = why(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(is_spared, None);
    }

    /// Of a file whose path leads over links, as over another mount.
    fn why(spared: &SparedFiles, path: &Path) -> Option<String> {
        let above: Vec<FileId> = path.ancestors().skip(1).filter_map(FileId::at).collect();
        spared.why_below(FileId::at(path).unwrap(), Some((path, &above)))
    }

    #[test]
    fn shells_loaders_init_and_cordon_may_not_be_touched_by_any_name() {
        let folder = tempfile::tempdir().unwrap();
        let spared = SparedFiles::now(&Protected::default(), Some(folder.path()));
        let why = |path: &Path| why(&spared, path);
        for path in ["/bin/sh", "/usr/bin/env", "/proc/self/exe", "/bin/mount"] {
            assert!(why(Path::new(path)).is_some(), "{path}");
        }
        assert!(spared.iter().any(|(_, path)| path.to_string_lossy().contains("/ld-")));
        let link = folder.path().join("innocent");
        std::os::unix::fs::symlink("/bin/sh", &link).unwrap();
        assert!(why(&link).is_some());
        let own = folder.path().join("key");
        std::fs::write(&own, b"x").unwrap();
        assert!(why(&own).is_some());
        let other = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(why(other.path()), None);
    }

    #[test]
    fn what_any_role_of_cordon_keeps_is_spared_and_nothing_beside_it() {
        let root = tempfile::tempdir().unwrap();
        let keeps = |role: &str| {
            let folder = root.path().join(role).join("below");
            std::fs::create_dir_all(&folder).unwrap();
            let file = folder.join("key");
            std::fs::write(&file, b"x").unwrap();
            file
        };
        let spared = SparedFiles::now(&Protected::default(), Some(&root.path().join("helper")));
        let of_roles = ["helper", "agent", "hub", "signer", "run"].map(keeps);
        let at_once = SparedFiles::now(&Protected::default(), Some(&root.path().join("helper")));
        for path in of_roles {
            let why_of = |spared: &SparedFiles| {
                let place = Place::find(&path).unwrap();
                spared.why(place.file().unwrap().id(), Some(&place))
            };
            assert!(why_of(&spared).is_some() && why_of(&at_once).is_some(), "{}", path.display());
            // Led there by a link, as by another mount.
            let link = root.path().join("link");
            std::os::unix::fs::symlink(path.ancestors().nth(2).unwrap(), &link).unwrap();
            let other_name = link.join("below/key");
            assert!(why(&at_once, &other_name).is_some(), "{}", path.display());
            std::fs::remove_file(&link).unwrap();
        }
        let other = keeps("patients");
        assert_eq!(why(&at_once, &other), None);
        // A folder of another name says nothing of what lies beside it.
        let alone = SparedFiles::now(&Protected::default(), Some(&root.path().join("elsewhere")));
        let hub = root.path().join("hub/below/key");
        assert_eq!(why(&alone, &hub), None);
    }

    #[test]
    fn only_a_path_that_can_be_read_in_one_way_is_plain() {
        assert!(is_plain(Path::new("/a/b.c")));
        for path in ["", "a", "/a/../b", "/a/./b", "/a//b", "/a/", "//a", "/a/."] {
            assert!(!is_plain(Path::new(path)), "{path}");
        }
    }
}
