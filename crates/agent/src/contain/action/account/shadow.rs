//! Changing `etc/shadow` as shadow-utils does, so that no other tool loses its change or ours.
//!
//! Both locks are taken that `passwd`, `usermod`, `vipw` and PAM take: a write lock on `.pwd.lock`
//! (lckpwdf(3)), and the file `shadow.lock` with our process number in it, made by a link. A lock file
//! whose process is gone is taken over, by us and by them, so a kill at any moment locks nobody out. The
//! old file is kept as `shadow-`; the new one is written beside, with owner, mode and all extended
//! attributes (labels, access lists) of the old, flushed, and put in place by one rename.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use rustix::fs::{fgetxattr, flistxattr, fsetxattr};

use super::super::{ActError, failed};

/// The largest shadow file that is read: 100,000 accounts of 160 bytes.
pub(super) const FILE_BYTES: u64 = 16 << 20;
/// How long another tool's lock is waited for. The helper does nothing else meanwhile; `passwd` holds it
/// for milliseconds, and an editor (`vipw`) for minutes, which is said and tried again later.
const PATIENCE: Duration = Duration::from_millis(500);
const BETWEEN_TRIES: Duration = Duration::from_millis(20);
/// Extended attributes of one file, and the length of one (`XATTR_SIZE_MAX` is 64 KiB).
const ATTRIBUTE_BYTES: usize = 64 << 10;

/// Reads `file` of the folder `etc`, which must be a plain file.
pub(super) fn read(etc: &Path, file: &str) -> Result<Vec<u8>, ActError> {
    let path = etc.join(file);
    let (file, _) = open(&path).map_err(failed(format!("opening {}", path.display())))?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed(format!("reading {}", path.display())))?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(ActError::unfit(format!("{} is larger than 16 MiB", path.display())));
    }
    Ok(bytes)
}

fn open(path: &Path) -> io::Result<(File, std::fs::Metadata)> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("no plain file"));
    }
    Ok((file, metadata))
}

/// Replaces the shadow file in the folder `etc` by what `change` makes of it, under both locks; with
/// `None` it is left as it is.
pub(super) fn rewrite<T>(
    etc: &Path,
    change: impl FnOnce(&[u8]) -> Result<(T, Option<Vec<u8>>), ActError>,
) -> Result<T, ActError> {
    let _locks = Locks::take(etc)?;
    let before = read(etc, "shadow")?;
    let (result, after) = change(&before)?;
    if let Some(after) = after {
        let doing = || format!("writing {}", etc.join("shadow").display());
        // First the copy that shadow-utils keeps; cut short here, nothing has changed.
        replace(etc, "shadow-", &before).map_err(failed(doing()))?;
        replace(etc, "shadow", &after).map_err(failed(doing()))?;
    }
    Ok(result)
}

/// Puts `bytes` in place of `name`, with everything else as `etc/shadow` has it.
fn replace(etc: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let (model, metadata) = open(&etc.join("shadow"))?;
    let fresh = etc.join("shadow+");
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    fchown(&file, Some(metadata.uid()), Some(metadata.gid()))?;
    file.set_permissions(std::fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
    copy_attributes(&model, &file)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&fresh, etc.join(name))?;
    File::open(etc)?.sync_all()
}

fn copy_attributes(from: &File, to: &File) -> io::Result<()> {
    let mut names = vec![0; ATTRIBUTE_BYTES];
    let length = match flistxattr(from, &mut names[..]) {
        Ok(length) => length,
        // A file system without them.
        Err(rustix::io::Errno::NOTSUP) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    let mut value = vec![0; ATTRIBUTE_BYTES];
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let length = fgetxattr(from, name, &mut value[..])?;
        fsetxattr(to, name, &value[..length], rustix::fs::XattrFlags::empty())?;
    }
    Ok(())
}

/// Both locks; given back when dropped.
struct Locks {
    file: PathBuf,
    /// The write lock goes with it.
    _whole: File,
}

impl Drop for Locks {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

impl Locks {
    fn take(etc: &Path) -> Result<Self, ActError> {
        let since = Instant::now();
        loop {
            match Self::try_take(etc).map_err(failed(format!("locking {}", etc.display())))? {
                Ok(locks) => return Ok(locks),
                Err(holder) if since.elapsed() >= PATIENCE => {
                    let etc = etc.display();
                    let why = format!("{etc}/shadow is being changed by {holder}: try again later");
                    return Err(ActError::unfit(why));
                }
                Err(_) => std::thread::sleep(BETWEEN_TRIES),
            }
        }
    }

    /// The locks, or who has one.
    fn try_take(etc: &Path) -> io::Result<Result<Self, String>> {
        let whole = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(etc.join(".pwd.lock"))?;
        let lock = libc::flock {
            l_type: i16::try_from(libc::F_WRLCK).unwrap_or_default(),
            l_whence: i16::try_from(libc::SEEK_SET).unwrap_or_default(),
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        match fcntl(&whole, FcntlArg::F_SETLK(&lock)) {
            Ok(_) => {}
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES) => {
                return Ok(Err("another tool (.pwd.lock)".into()));
            }
            Err(errno) => return Err(errno.into()),
        }
        // Made whole under another name and linked, so that nobody ever reads an empty lock file.
        let own = etc.join("shadow.cordon");
        let _ = std::fs::remove_file(&own);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&own)?;
        write!(file, "{}\0", std::process::id())?;
        drop(file);
        let place = etc.join("shadow.lock");
        let linked = std::fs::hard_link(&own, &place);
        std::fs::remove_file(&own)?;
        match linked {
            Ok(()) => Ok(Ok(Self { file: place, _whole: whole })),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match holder_of(&place) {
                Some(holder) => Ok(Err(format!("process {holder} (shadow.lock)"))),
                None => {
                    std::fs::remove_file(&place)?;
                    Ok(Err("a process that is gone (shadow.lock)".into()))
                }
            },
            Err(error) => Err(error),
        }
    }
}

/// The living process that a lock file names.
fn holder_of(place: &Path) -> Option<i32> {
    let (file, _) = open(place).ok()?;
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    let holder: i32 = text.trim_end_matches(['\0', '\n']).parse().ok().filter(|pid| *pid > 0)?;
    let is_alive = nix::sys::signal::kill(nix::unistd::Pid::from_raw(holder), None)
        != Err(nix::errno::Errno::ESRCH);
    (is_alive && holder.cast_unsigned() != std::process::id()).then_some(holder)
}
