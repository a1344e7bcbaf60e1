//! Telling the person in front of the machine: a file for everybody, the greeting at the next login, and the
//! terminals that are open now.
//!
//! The one idea: it follows what is really in force. [`Bulletin::tell`] is called after everything that
//! changes that, compares with what was told last, and only then writes; so it is in step again after a
//! crash or a restart of the machine. Nothing here reads anything from the people it tells, and no terminal
//! can hold the helper up or make it write anywhere else.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _,
};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cordon_model::measure::Isolation;
use cordon_model::time::UtcNanos;
use cordon_respond::notice::Situation;
use serde::{Deserialize, Serialize};

/// How long it is said that a machine is open again: 12 hours, until everybody of a shift has seen it.
const SAID_OPEN_FOR: Duration = Duration::from_secs(12 * 3600);

/// How soon a notice that could not be written is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(10);

/// Terminals that are written to: 64. A machine at a bedside has one or two.
const MOST_TERMINALS: usize = 64;

/// The file's name, in the folder that everybody may read.
pub const FILE: &str = "notice";

/// Where to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// A folder of root's that everybody may enter: the file [`FILE`] in it is the notice.
    pub folder: PathBuf,
    /// The folder of greetings at login (`pam_motd(8)`: `/run/motd.d`).
    pub greetings: Option<PathBuf>,
    /// The folder of devices, whose terminals are written to (`/dev`).
    pub devices: Option<PathBuf>,
}

/// What is remembered over a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Told {
    /// Cut off since then.
    cut_since: Option<UtcNanos>,
    /// Open again since then, and whether by a code.
    open_since: Option<(UtcNanos, bool)>,
    /// What the terminals were told of last.
    on_terminals: Option<(Option<Isolation>, bool)>,
}

/// How the machine is, as far as shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Now {
    /// Cut off this far, and whether that was shown.
    CutOff(Isolation, bool),
    /// Not cut off; whether a code opened it.
    Open(bool),
}

/// The bulletin.
#[derive(Debug)]
pub struct Bulletin {
    places: Places,
    told: Told,
    /// The text that is in the file now, or that there is none; `None`: not known.
    written: Option<Option<String>>,
    /// When it could not be written.
    failed: Option<Instant>,
}

impl Bulletin {
    /// A bulletin that goes on from what was told.
    #[must_use]
    pub fn new(places: Places, told: Told) -> Self {
        Self { places, told, written: None, failed: None }
    }

    /// What has to be remembered.
    #[must_use]
    pub fn told(&self) -> &Told {
        &self.told
    }

    /// Takes note of how the machine is. The situation to tell, if there is one.
    pub fn situation(&mut self, now: Now, at: UtcNanos) -> Option<Situation> {
        match now {
            Now::CutOff(isolation, is_shown) => {
                self.told.open_since = None;
                let since = *self.told.cut_since.get_or_insert(at);
                Some(Situation::CutOff { isolation, since: clock_time(since), is_shown })
            }
            Now::Open(by_code) => {
                if self.told.cut_since.take().is_some() {
                    self.told.open_since = Some((at, by_code));
                }
                let (since, by_code) = self.told.open_since?;
                if at.since(since) > SAID_OPEN_FOR {
                    self.told.open_since = None;
                    return None;
                }
                Some(Situation::OpenAgain { since: clock_time(since), by_code })
            }
        }
    }

    /// Tells `text`, or withdraws what was told. Whether anything that must be remembered has changed.
    pub fn tell(&mut self, now: Now, text: Option<&str>) {
        let is_news = self.written.as_ref().map(Option::as_deref) != Some(text);
        if is_news && self.failed.is_none_or(|failed| failed.elapsed() >= TRY_AGAIN) {
            match self.write(text) {
                Ok(()) => (self.written, self.failed) = (Some(text.map(str::to_owned)), None),
                Err(error) => {
                    let folder = self.places.folder.display();
                    tracing::warn!(%error, %folder, "the notice can't be written; trying again");
                    self.failed = Some(Instant::now());
                }
            }
        }
        let to_terminals = match (now, text) {
            (Now::CutOff(isolation, is_shown), Some(_)) => Some((Some(isolation), is_shown)),
            (Now::Open(by_code), Some(_)) => Some((None, by_code)),
            (_, None) => None,
        };
        if self.told.on_terminals != to_terminals {
            self.told.on_terminals = to_terminals;
            if let (Some(devices), Some(text)) = (&self.places.devices, text) {
                let count = tell_terminals(devices, text);
                tracing::info!(count, "terminals were told");
            }
        }
    }

    fn write(&self, text: Option<&str>) -> io::Result<()> {
        put(&self.places.folder, FILE, text)?;
        match &self.places.greetings {
            Some(folder) => put(folder, "cordon", text),
            None => Ok(()),
        }
    }
}

/// Puts a file in place of another, or takes it away. Readers see the old text or the new, nothing between.
fn put(folder: &Path, name: &str, text: Option<&str>) -> io::Result<()> {
    let path = folder.join(name);
    let Some(text) = text else {
        return match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    };
    DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    let found = std::fs::symlink_metadata(folder)?;
    // Whoever else could write there could have root write elsewhere.
    let own = nix::unistd::geteuid().as_raw();
    if !found.is_dir() || found.uid() != own || found.mode() & 0o022 != 0 {
        return Err(io::Error::other("somebody else may write in that folder"));
    }
    let fresh = folder.join(format!(".{name}.new"));
    let _ = std::fs::remove_file(&fresh);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&fresh)?;
    file.write_all(text.as_bytes())?;
    // The mode given at creation is cut by the umask.
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    std::fs::rename(&fresh, &path)
}

/// Writes to the terminals of people who are logged in; how many took it.
fn tell_terminals(devices: &Path, text: &str) -> usize {
    let names = |folder: &Path| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let is_console = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // A virtual console that nobody is logged in at belongs to root.
        name.strip_prefix("tty").is_some_and(|rest| rest.parse::<u8>().is_ok())
            && std::fs::symlink_metadata(path).is_ok_and(|found| found.uid() != 0)
    };
    let pseudo = names(&devices.join("pts"));
    let consoles = names(devices).into_iter().filter(is_console);
    let text = format!("\r\n\u{7}{}\r\n", text.replace('\n', "\r\n"));
    pseudo
        .into_iter()
        .chain(consoles)
        .take(MOST_TERMINALS)
        .filter(|path| tell_terminal(path, text.as_bytes()).is_ok())
        .count()
}

/// Writes to one terminal, if it is one, without waiting for anybody. What it does not take is not said
/// again: the notice's file has it.
fn tell_terminal(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut terminal = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(path)?;
    // Of what was opened, not of the name.
    let found = terminal.metadata()?;
    let major = nix::sys::stat::major(found.rdev());
    // 4: consoles; 136 to 143: Unix98 pseudo-terminals (the kernel's devices.txt).
    if !found.file_type().is_char_device() || !(major == 4 || (136..=143).contains(&major)) {
        return Err(io::Error::other("not a terminal"));
    }
    terminal.write(text).map(drop)
}

/// A time as people on a ward write it, in the machine's own time zone.
fn clock_time(at: UtcNanos) -> String {
    jiff::Timestamp::from_nanosecond(at.unix_nanos().into()).map_or_else(
        |_| "an unknown time".to_owned(),
        |at| {
            at.to_zoned_datetime(jiff::tz::TimeZone::system())
                .strftime("%H:%M on %A %-d %B")
                .to_string()
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::unix::fs::PermissionsExt as _;

    fn at(seconds: i64) -> UtcNanos {
        UtcNanos::from_unix_nanos(seconds * 1_000_000_000)
    }

    fn bulletin(folder: &Path) -> Bulletin {
        let places = Places {
            folder: folder.join("cordon"),
            greetings: Some(folder.join("motd.d")),
            devices: None,
        };
        Bulletin::new(places, Told::default())
    }

    #[test]
    fn it_says_since_when_also_after_a_restart_and_that_it_is_open_again_for_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = bulletin(folder.path());
        assert_eq!(first.situation(Now::Open(false), at(1)), None, "nothing was ever cut");
        let cut = Now::CutOff(Isolation::Full, true);
        let told = first.situation(cut, at(10)).unwrap();
        let mut again = Bulletin::new(first.places.clone(), first.told().clone());
        assert_eq!(again.situation(cut, at(500)), Some(told), "since the same time");
        let open = again.situation(Now::Open(true), at(600));
        assert!(matches!(open, Some(Situation::OpenAgain { by_code: true, .. })));
        let late = 600 + i64::try_from(SAID_OPEN_FOR.as_secs()).unwrap() + 1;
        assert_eq!(again.situation(Now::Open(false), at(late)), None);
    }

    #[test]
    fn everybody_may_read_it_nobody_else_may_write_it_and_it_is_withdrawn() {
        let folder = tempfile::tempdir().unwrap();
        let mut bulletin = bulletin(folder.path());
        let cut = Now::CutOff(Isolation::Full, true);
        bulletin.tell(cut, Some("cut off\n"));
        for path in ["cordon/notice", "motd.d/cordon"] {
            let path = folder.path().join(path);
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "cut off\n");
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        }
        bulletin.tell(Now::Open(false), None);
        assert!(!folder.path().join("cordon/notice").exists());
        assert!(!folder.path().join("motd.d/cordon").exists());
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_not_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let open = folder.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(put(&open, FILE, Some("x")).is_err());
        // Nor through a link to somewhere else.
        let elsewhere = folder.path().join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, folder.path().join("link")).unwrap();
        assert!(put(&folder.path().join("link"), FILE, Some("x")).is_err());
        assert!(std::fs::read_dir(&elsewhere).unwrap().next().is_none());
    }

    #[test]
    fn a_terminal_is_told_and_one_that_does_not_read_holds_nobody_up() {
        let pair = nix::pty::openpty(None, None).unwrap();
        let name = nix::unistd::ttyname(&pair.slave).unwrap();
        tell_terminal(&name, b"cut off\r\n").unwrap();
        let mut master = std::fs::File::from(pair.master);
        let mut read = [0; 7];
        master.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"cut off");
        // Nobody reads any more: it takes some, then none, and we come back each time.
        let long = vec![b'x'; 64 << 10];
        for _ in 0..50 {
            let _ = tell_terminal(&name, &long);
        }
    }

    #[test]
    fn what_is_no_terminal_is_not_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tty9");
        std::fs::write(&file, "mine").unwrap();
        assert!(tell_terminal(&file, b"x").is_err());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(tell_terminal(&pipe, b"x").is_err(), "and nobody waits for a reader");
        assert!(tell_terminal(Path::new("/dev/null"), b"x").is_err());
        let link = folder.path().join("link");
        let pair = nix::pty::openpty(None, None).unwrap();
        std::os::unix::fs::symlink(nix::unistd::ttyname(&pair.slave).unwrap(), &link).unwrap();
        assert!(tell_terminal(&link, b"x").is_err());
    }
}
