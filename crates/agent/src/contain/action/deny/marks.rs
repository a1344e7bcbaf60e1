//! What the kernel is told to ask about, and what it must never be told.
//!
//! A start that is asked about waits for the answer. So the kernel is asked only about single files, and
//! about filesystems that hold nothing that the machine needs to run or to be repaired: if the answers
//! stay out, only programs from there wait, and only until the warden's end lets them go.

use std::os::fd::{AsFd, AsRawFd as _};
use std::path::Path;

use cordon_model::action::FilePath;
use nix::errno::Errno;
use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};

use super::super::mounts::{Mount, on_the_way};
use super::super::place::{Found, Place};
use super::super::spared::SparedFiles;
use super::super::{ActError, path_of};
use super::list::{DenyList, Mark};

/// A way for the kernel to ask. When it is dropped, or the process ends, all that waits is let go.
#[derive(Debug)]
pub struct Group {
    fanotify: Fanotify,
    /// What it is asked about.
    pub marks: Vec<Mark>,
}

impl Group {
    /// Opens one; it is asked about nothing yet.
    ///
    /// # Errors
    /// Without root, or where the kernel has no such thing.
    pub fn open() -> Result<Self, Errno> {
        // More events than the queue holds (16,384) are allowed by the kernel itself.
        let flags = InitFlags::FAN_CLOEXEC | InitFlags::FAN_NONBLOCK | InitFlags::FAN_CLASS_CONTENT;
        // To look at a file must not change when it was read last.
        let files = EventFFlags::O_RDONLY
            | EventFFlags::O_CLOEXEC
            | EventFFlags::O_LARGEFILE
            | EventFFlags::O_NOATIME;
        Ok(Self { fanotify: Fanotify::init(flags, files)?, marks: Vec::new() })
    }

    /// The kernel's questions.
    #[must_use]
    pub fn fanotify(&self) -> &Fanotify {
        &self.fanotify
    }

    /// Asks about every start of a program of the filesystem at `point`.
    ///
    /// # Errors
    /// If it may not be asked about, in words.
    pub fn watch(
        &mut self,
        mounts: &[Mount],
        spared: &SparedFiles,
        point: &FilePath,
    ) -> Result<(), String> {
        let mount = may_watch(mounts, spared, path_of(point))?;
        let device = mount.device;
        let flags = MarkFlags::FAN_MARK_ADD | MarkFlags::FAN_MARK_FILESYSTEM;
        self.mark(flags, MaskFlags::FAN_OPEN_EXEC_PERM, path_of(point))
            .map_err(|error| format!("{point} can't be watched: {error}"))?;
        self.marks.push(Mark::Filesystem { at: point.clone(), device });
        Ok(())
    }

    /// Asks about every start of the file at `path`, if there is one and it is not asked about yet.
    ///
    /// # Errors
    /// If it may not be asked about, in words.
    pub fn mark_file(
        &mut self,
        mounts: &[Mount],
        spared: &SparedFiles,
        path: &FilePath,
    ) -> Result<(), String> {
        let Some(found) = may_mark(mounts, spared, path_of(path))? else { return Ok(()) };
        let mark = Mark::File { at: path.clone(), file: found.id() };
        if self.marks.contains(&mark) {
            return Ok(());
        }
        let held = format!("/proc/self/fd/{}", found.as_fd().as_raw_fd());
        self.mark(MarkFlags::FAN_MARK_ADD, MaskFlags::FAN_OPEN_EXEC_PERM, Path::new(&held))
            .map_err(|error| format!("{path} can't be watched: {error}"))?;
        // A file that was replaced is denied no more by its place; its old mark does no harm.
        self.marks.retain(|old| !matches!(old, Mark::File { at, .. } if at == path));
        self.marks.push(mark);
        Ok(())
    }

    /// Asks to be told when somebody wrote to the file that `fd` is, which was looked at.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn tell_of_writing(&self, fd: impl AsFd) -> Result<(), Errno> {
        let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
        self.mark(MarkFlags::FAN_MARK_ADD, MaskFlags::FAN_CLOSE_WRITE, Path::new(&path))
    }

    fn mark(&self, flags: MarkFlags, mask: MaskFlags, path: &Path) -> Result<(), Errno> {
        self.fanotify.mark(flags, mask, rustix::fs::CWD, Some(path))
    }

    /// Asks about all of `list`; what can't be is given back in words.
    pub fn mark_all(
        &mut self,
        mounts: &[Mount],
        spared: &SparedFiles,
        list: &DenyList,
    ) -> Vec<String> {
        let mut problems = Vec::new();
        for point in &list.watched {
            problems.extend(self.watch(mounts, spared, point).err());
        }
        problems.extend(self.mark_files(mounts, spared, list));
        problems
    }

    /// Asks about the single files of `list` that are there by now.
    pub fn mark_files(
        &mut self,
        mounts: &[Mount],
        spared: &SparedFiles,
        list: &DenyList,
    ) -> Vec<String> {
        let mut problems = Vec::new();
        for entry in &list.entries {
            let path = match &entry.denied {
                cordon_model::action::Denied::Path(path) => Some(path),
                cordon_model::action::Denied::Sha256(_) => None,
            };
            for path in path.into_iter().chain(&entry.known) {
                problems.extend(self.mark_file(mounts, spared, path).err());
            }
        }
        problems
    }
}

impl AsFd for Group {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fanotify.as_fd()
    }
}

/// The mount at `point`, if every start of a program of its filesystem may be asked about.
///
/// # Errors
/// If it is no mount point, others answer for its files, or the machine needs something of it.
pub fn may_watch<'a>(
    mounts: &'a [Mount],
    spared: &SparedFiles,
    point: &Path,
) -> Result<&'a Mount, String> {
    let shown = point.display();
    let way = on_the_way(mounts, point);
    let Some(mount) = way.first().filter(|mount| mount.point == point) else {
        return Err(format!("{shown} is no mount point: name one that is"));
    };
    if way.iter().any(|mount| !mount.is_local() && mount.point != Path::new("/dev")) {
        return Err(format!("{shown} ({}) is not answered for by this machine alone", mount.kind));
    }
    // One filesystem may be mounted at many places, and in parts: what counts is the device.
    let device_of = |path: &Path| on_the_way(mounts, path).first().map(|mount| mount.device);
    let needed = [Path::new("/")].into_iter().chain(spared.iter().map(|(_, path)| path));
    for path in needed {
        let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if device_of(&real) == Some(mount.device) {
            return Err(format!(
                "{shown} is the filesystem of {}: if its answers stayed out, the machine would stand \
                 still; only single files of it can be denied",
                real.display()
            ));
        }
    }
    // The same by the files themselves, whose paths may lie.
    let (major, minor) = mount.device;
    let device = rustix::fs::makedev(major, minor);
    if spared.iter().any(|(needed, _)| needed.device == device) {
        return Err(format!("{shown} holds programs that the machine needs"));
    }
    Ok(mount)
}

/// The file at `path`, if every start of it may be asked about; `None` if there is none.
///
/// # Errors
/// If it is no file, or the machine needs it.
pub fn may_mark(
    mounts: &[Mount],
    spared: &SparedFiles,
    path: &Path,
) -> Result<Option<Found>, String> {
    let found = Place::find_among(mounts, path).and_then(|place| Ok((place.file()?, place)));
    let (found, place) = match found {
        Ok(found) => found,
        Err(ActError::NotThere(_)) => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    match spared.why(found.id(), Some(&place)) {
        Some(why) => Err(format!("{}: {why}", path.display())),
        None => Ok(Some(found)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::mounts::mounts;
    use super::super::super::spared::Protected;
    use super::*;

    #[test]
    fn the_filesystem_of_the_root_is_never_watched_by_any_of_its_names() {
        let mounts = mounts().unwrap();
        let spared = SparedFiles::now(&Protected::default(), None);
        let root = on_the_way(&mounts, Path::new("/"))[0].clone();
        assert!(may_watch(&mounts, &spared, Path::new("/")).is_err());
        // A part of it, mounted elsewhere: another point, another root, the same device.
        let part =
            Mount { id: 9999, root: "/data".into(), point: "/srv/data".into(), ..root.clone() };
        let with_part = [mounts.clone(), vec![part]].concat();
        let error = may_watch(&with_part, &spared, Path::new("/srv/data")).unwrap_err();
        assert!(error.contains("stand still"), "{error}");
        let data =
            Mount { device: (250, 77), kind: "xfs".into(), ..with_part.last().unwrap().clone() };
        let with_data = [mounts.clone(), vec![data.clone()]].concat();
        assert!(may_watch(&with_data, &spared, Path::new("/srv/data")).is_ok());
        assert!(
            may_watch(&with_data, &spared, Path::new("/srv/data/x")).is_err(),
            "no mount point"
        );
        let remote = Mount { kind: "nfs4".into(), ..data };
        let with_remote = [mounts, vec![remote]].concat();
        assert!(may_watch(&with_remote, &spared, Path::new("/srv/data")).is_err());
    }

    #[test]
    fn what_the_machine_needs_is_never_marked() {
        let mounts = mounts().unwrap();
        let spared = SparedFiles::now(&Protected::default(), None);
        for path in ["/bin/sh", "/bin/bash", "/proc/self/exe"] {
            let path = std::fs::canonicalize(path).unwrap();
            let error = may_mark(&mounts, &spared, &path).unwrap_err();
            assert!(error.contains("needed"), "{error}");
        }
        let other = tempfile::NamedTempFile::new().unwrap();
        assert!(may_mark(&mounts, &spared, other.path()).unwrap().is_some());
        let gone = other.path().to_owned();
        drop(other);
        assert!(may_mark(&mounts, &spared, &gone).unwrap().is_none());
    }
}
