//! Control groups of Cordon's own that stand still: whatever is moved in stops, and so does whatever is
//! born inside.
//!
//! A measure has one folder, `cordon-frozen/MEASURE`, whose freezer is closed before the first process
//! comes; below it is a **pen** for each group that its processes came from, numbered. So the kernel
//! itself remembers where each goes back to, also a child that was born in a pen, and the journal grows
//! with the groups and not with the processes.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Component, Path, PathBuf};

use cordon_model::ids::MeasureId;
use nix::errno::Errno;

use super::mounts::mounts;

/// Below the root of the hierarchy. Not in the processes' own groups: those may be delegated to a user,
/// who could then move a process out of its pen.
const FOLDER: &str = "cordon-frozen";

/// A list of 4,194,304 pids (the kernel's highest `pid_max`) of 8 bytes.
const LIST_BYTES: u64 = 32 << 20;

/// The hierarchy of control groups, version 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    mount: PathBuf,
}

impl Hierarchy {
    /// Finds the whole hierarchy, wherever it is mounted; `None` where there is none, or where only a
    /// part of it is shown (in a container).
    #[must_use]
    pub fn find() -> Option<Self> {
        let mounts = mounts().ok()?;
        let whole =
            |mount: &&super::mounts::Mount| mount.kind == "cgroup2" && mount.root == Path::new("/");
        Some(Self { mount: mounts.iter().find(whole)?.point.clone() })
    }

    /// The group that `pid` is in.
    #[must_use]
    pub fn group_of(&self, pid: u32) -> Option<PathBuf> {
        // In bytes: who names a group need not care for UTF-8, and may not get out of the way by that.
        let text = fs::read(format!("/proc/{pid}/cgroup")).ok()?;
        let path = text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"0::"))?;
        Some(PathBuf::from(OsStr::from_bytes(path)))
    }

    /// Whether a process may be taken out of `group` and put back whole: it is inside this hierarchy,
    /// and its threads are all in it. (In a threaded group each thread may be in another.)
    #[must_use]
    pub fn can_give_back(&self, group: &Path) -> bool {
        let Some(folder) = self.folder_of(group) else { return false };
        match fs::read_to_string(folder.join("cgroup.type")) {
            Ok(kind) => kind.trim() == "domain",
            // The root has no such file.
            Err(_) => group == Path::new("/") && folder.is_dir(),
        }
    }

    /// The measure and the pen that `group` is, if it is one.
    #[must_use]
    pub fn pen(group: &Path) -> Option<(MeasureId, usize)> {
        let rest = group.strip_prefix("/").ok()?.strip_prefix(FOLDER).ok()?;
        let (measure, pen) = rest.to_str()?.split_once('/')?;
        Some((measure.parse().ok()?, pen.parse().ok()?))
    }

    /// Moves `pid` into `group`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn put(&self, pid: u32, group: &Path) -> io::Result<()> {
        let folder = self.folder_of(group).ok_or(Errno::EINVAL)?;
        write(&folder.join("cgroup.procs"), &pid.to_string())
    }

    /// Whether `group` is there.
    #[must_use]
    pub fn has(&self, group: &Path) -> bool {
        self.folder_of(group).is_some_and(|folder| folder.is_dir())
    }

    /// Makes `group` again, which is gone.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn make_again(&self, group: &Path) -> io::Result<()> {
        let folder = self.folder_of(group).ok_or(Errno::EINVAL)?;
        fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)
    }

    /// `None` for a path that leads out.
    fn folder_of(&self, group: &Path) -> Option<PathBuf> {
        let rest = group.strip_prefix("/").ok()?;
        let is_inside = rest.components().all(|part| matches!(part, Component::Normal(_)));
        is_inside.then(|| self.mount.join(rest))
    }
}

/// The pens of one measure.
#[derive(Debug)]
pub struct Pens<'a> {
    hierarchy: &'a Hierarchy,
    measure: MeasureId,
    folder: PathBuf,
}

impl<'a> Pens<'a> {
    /// Those of `measure`, whether or not they are there.
    #[must_use]
    pub fn of(hierarchy: &'a Hierarchy, measure: MeasureId) -> Self {
        let folder = hierarchy.mount.join(FOLDER).join(measure.to_string());
        Self { hierarchy, measure, folder }
    }

    /// Makes the folder and closes it: from now on whatever comes in stands still.
    ///
    /// # Errors
    /// What the kernel says: `EACCES` or `ENOENT` where there is no freezer (before Linux 5.2).
    pub fn close(&self) -> io::Result<()> {
        loop {
            make(&self.hierarchy.mount.join(FOLDER))?;
            match make(&self.folder) {
                // The last of another measure's pens were removed just now, and the folder with them.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                done => break done?,
            }
        }
        write(&self.folder.join("cgroup.freeze"), "1")
    }

    /// Whether the folder is there.
    #[must_use]
    pub fn exist(&self) -> bool {
        self.folder.is_dir()
    }

    /// Makes the pen with `number`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn make(&self, number: usize) -> io::Result<()> {
        make(&self.folder.join(number.to_string()))
    }

    /// Moves `pid` into the pen with `number`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn put(&self, pid: u32, number: usize) -> io::Result<()> {
        let pen = self.folder.join(number.to_string());
        write(&pen.join("cgroup.procs"), &pid.to_string())
    }

    /// Whether `pid` is in one of these.
    #[must_use]
    pub fn hold(&self, pid: u32) -> bool {
        self.hierarchy
            .group_of(pid)
            .and_then(|group| Hierarchy::pen(&group))
            .is_some_and(|(measure, _)| measure == self.measure)
    }

    /// Every process inside, with its pen's number. What ended already is not inside.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn inside(&self) -> io::Result<Vec<(usize, u32)>> {
        let mut found = Vec::new();
        for number in self.numbers()? {
            let mut text = String::new();
            let list = self.folder.join(number.to_string()).join("cgroup.procs");
            fs::File::open(list)?.take(LIST_BYTES).read_to_string(&mut text)?;
            found.extend(text.lines().filter_map(|line| Some((number, line.parse().ok()?))));
        }
        Ok(found)
    }

    /// Whether the kernel says that all inside stand still.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn stand_still(&self) -> io::Result<bool> {
        Ok(self.event("frozen")? == Some(1))
    }

    /// Whether anything is inside that did not end.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn are_populated(&self) -> io::Result<bool> {
        Ok(self.event("populated")? != Some(0))
    }

    /// Processor time that was used inside, ever, in microseconds.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn used_micros(&self) -> io::Result<u64> {
        let text = fs::read_to_string(self.folder.join("cpu.stat"))?;
        value(&text, "usage_usec").ok_or_else(|| Errno::ENODATA.into())
    }

    /// Kills all inside at once, also what is being born.
    ///
    /// # Errors
    /// What the kernel says: `ENOENT` before Linux 5.14, which can't.
    pub fn kill(&self) -> io::Result<()> {
        write(&self.folder.join("cgroup.kill"), "1")
    }

    /// Takes the pens away, which must be empty. What is gone already is fine.
    ///
    /// # Errors
    /// What the kernel says: `EBUSY` if somebody is inside.
    pub fn remove(&self) -> io::Result<()> {
        for number in self.numbers()? {
            remove(&self.folder.join(number.to_string()))?;
        }
        remove(&self.folder)?;
        // Another measure's pens may be there.
        let _ = fs::remove_dir(self.hierarchy.mount.join(FOLDER));
        Ok(())
    }

    fn numbers(&self) -> io::Result<Vec<usize>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut numbers = Vec::new();
        for entry in entries {
            numbers.extend(entry?.file_name().to_str().and_then(|name| name.parse::<usize>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn event(&self, name: &str) -> io::Result<Option<u64>> {
        Ok(value(&fs::read_to_string(self.folder.join("cgroup.events"))?, name))
    }
}

/// The value of `name` in lines of `NAME VALUE`.
fn value(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// A file of the kernel's: it is there or it is not, and is never made.
fn write(file: &Path, text: &str) -> io::Result<()> {
    fs::OpenOptions::new().write(true).open(file)?.write_all(text.as_bytes())
}

fn make(folder: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o755).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done,
    }
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_leads_out_of_the_hierarchy_is_no_group() {
        let hierarchy = Hierarchy { mount: "/sys/fs/cgroup".into() };
        for path in ["/../x", "x", "", "/a/../../b"] {
            assert_eq!(hierarchy.folder_of(Path::new(path)), None, "{path}");
        }
        let folder = hierarchy.folder_of(Path::new("/system.slice/x.service")).unwrap();
        assert_eq!(folder, Path::new("/sys/fs/cgroup/system.slice/x.service"));
        assert_eq!(hierarchy.folder_of(Path::new("/")).unwrap(), Path::new("/sys/fs/cgroup"));
    }

    #[test]
    fn a_pen_is_told_from_other_groups() {
        let measure = "018f0000-0000-7000-8000-000000000001";
        let pen = |path: String| Hierarchy::pen(Path::new(&path));
        assert_eq!(pen(format!("/{FOLDER}/{measure}/3")), Some((measure.parse().unwrap(), 3)));
        assert_eq!(pen(format!("/{FOLDER}/{measure}")), None);
        assert_eq!(pen(format!("/x/{FOLDER}/{measure}/3")), None);
        assert_eq!(pen("/".into()), None);
    }

    #[test]
    fn values_are_found_by_their_whole_name() {
        let text = "populated 1\nfrozen 0\nnot_frozen 7\n";
        assert_eq!(value(text, "frozen"), Some(0));
        assert_eq!(value(text, "populated"), Some(1));
        assert_eq!(value(text, "pop"), None);
    }
}
