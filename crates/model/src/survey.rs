//! What starts by itself on a machine or lets somebody in, which programs lie where anybody may write, and since
//! when: what an intruder leaves behind.
//!
//! The one idea: a machine's helper looks at these places again and again and remembers **when it first
//! saw each thing**. So what came during an incident is told from what was always there by what was seen,
//! not by a file's own times, which its maker can set. As with every [look](crate::look), an answer is the
//! machine's own word.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::action::FilePath;
use crate::limits;
use crate::time::UtcNanos;

/// Things in one answer: 768 of at most 1,000 bytes (a path, a line and some 200 of numbers) are 750 KiB;
/// with [`MOST_UNREAD`] places of at most 1.6 KB, 850 KiB, below a message.
pub const MOST_THINGS: usize = 768;

/// The longest path that is told whole, as it must be to be acted on. A longer one counts as unread.
pub const PLACE_BYTES: usize = 512;

/// Of these at most so many [dropped programs](ThingKind::DroppedProgram): whoever fills `/tmp` takes no room that the
/// others need.
pub const MOST_DROPPED: usize = 256;

/// Places that could not be read, in one answer.
pub const MOST_UNREAD: usize = 64;

/// How much of a line is told.
pub const TEXT_BYTES: usize = 256;

/// What was seen, and how far it can be relied on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Survey {
    /// When these places were last looked at.
    pub taken_at: UtcNanos,
    /// When they were looked at for the first time: of what was there then, nothing is known but that.
    pub known_since: UtcNanos,
    /// At most [`MOST_THINGS`], the newest first…
    pub things: Vec<Thing>,
    /// …of so many.
    pub of: u32,
    /// What could not be looked at: "nothing found" does not speak of these (law 12).
    pub unread: Vec<Unread>,
}

/// One thing that starts by itself or lets somebody in, or a program where anybody may write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thing {
    /// What it is.
    pub kind: ThingKind,
    /// The file that it is, or stands in.
    pub path: FilePath,
    /// Which of the file's lines, if it is one of several that have nothing to do with each other (a key, a
    /// line of a crontab, an account): its text, [`TEXT_BYTES`] at most, without any password. `None`: the
    /// whole file.
    pub line: Option<String>,
    /// SHA-256 of the whole file, or of the whole line (of an account without its password's field); of a
    /// symbolic link, of what it leads to.
    #[serde(with = "serde_bytes")]
    pub sha256: [u8; 32],
    /// The file's owner, by number.
    pub owner: u32,
    /// When it was first seen.
    pub first_seen: FirstSeen,
    /// When it was seen to be gone; `None`: it is there.
    pub gone_at: Option<UtcNanos>,
}

/// When a thing was first seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum FirstSeen {
    /// At the first look that could read its place: it may have been there for years, or minutes.
    AtTheFirstLook,
    /// It was not there at one look, and was there at the next.
    Between {
        /// Not there.
        absent_at: UtcNanos,
        /// There.
        present_at: UtcNanos,
    },
}

impl Thing {
    /// Whether it was surely not there at `time`, by what the machine saw.
    #[must_use]
    pub fn came_after(&self, time: UtcNanos) -> bool {
        match self.first_seen {
            FirstSeen::AtTheFirstLook => false,
            FirstSeen::Between { absent_at, .. } => absent_at >= time,
        }
    }

    /// Whether it may have come after `time`: it was there at no look before.
    #[must_use]
    pub fn may_have_come_after(&self, time: UtcNanos) -> bool {
        match self.first_seen {
            FirstSeen::AtTheFirstLook => false,
            FirstSeen::Between { present_at, .. } => present_at >= time,
        }
    }
}

/// A place that could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unread {
    /// Where.
    pub path: FilePath,
    /// Why.
    pub why: String,
}

/// What a thing is. Each names the technique of MITRE ATT&CK that uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ThingKind {
    /// A unit of systemd (service, timer, path, socket, or a drop-in), of the system or of a user.
    Unit,
    /// A generator of systemd's, which writes units at each start.
    Generator,
    /// A link by which a unit is started.
    UnitLink,
    /// A line of a crontab.
    CronLine,
    /// A script that cron runs (`cron.daily` and the like).
    CronScript,
    /// A job of `at`.
    AtJob,
    /// A script of System V's, or `rc.local`.
    InitScript,
    /// A file that shells run when they start.
    ShellProfile,
    /// A program that a desktop starts.
    Autostart,
    /// A rule of udev's.
    UdevRule,
    /// The dynamic linker's preload list.
    Preload,
    /// A configuration of PAM's.
    Pam,
    /// A rule of sudo's.
    Sudoers,
    /// A key that opens an account by SSH.
    AuthorizedKey,
    /// A local account.
    Account,
    /// A kernel module that is loaded at start, or a command that stands for one.
    ModuleConfig,
    /// A script that runs when the network changes.
    NetworkHook,
    /// A script that a package manager or the message of the day runs.
    Hook,
    /// A program that lies where anybody may write: `/tmp` and its like. Most are of somebody's work.
    DroppedProgram,
}

impl ThingKind {
    /// The words that people read.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unit => "systemd unit",
            Self::Generator => "systemd generator",
            Self::UnitLink => "link that starts a unit",
            Self::CronLine => "line of a crontab",
            Self::CronScript => "script of cron",
            Self::AtJob => "job of at",
            Self::InitScript => "start script",
            Self::ShellProfile => "shell profile",
            Self::Autostart => "desktop autostart",
            Self::UdevRule => "udev rule",
            Self::Preload => "preloaded library list",
            Self::Pam => "PAM configuration",
            Self::Sudoers => "sudo rule",
            Self::AuthorizedKey => "authorised SSH key",
            Self::Account => "local account",
            Self::ModuleConfig => "kernel module configuration",
            Self::NetworkHook => "network script",
            Self::Hook => "package or login script",
            Self::DroppedProgram => "dropped program",
        }
    }

    /// The technique of MITRE ATT&CK (Enterprise, version 15 and later) that it is used for.
    #[must_use]
    pub fn technique(self) -> &'static str {
        match self {
            Self::Unit | Self::Generator | Self::UnitLink => "T1543.002",
            Self::CronLine | Self::CronScript => "T1053.003",
            Self::AtJob => "T1053.002",
            Self::InitScript => "T1037.004",
            Self::ShellProfile => "T1546.004",
            Self::Autostart => "T1547.013",
            Self::UdevRule => "T1546.017",
            Self::Preload => "T1574.006",
            Self::Pam => "T1556.003",
            Self::Sudoers => "T1548.003",
            Self::AuthorizedKey => "T1098.004",
            Self::Account => "T1136.001",
            Self::ModuleConfig => "T1547.006",
            Self::NetworkHook | Self::Hook => "T1546",
            // Ingress Tool Transfer: brought, and not started yet.
            Self::DroppedProgram => "T1105",
        }
    }
}

impl fmt::Display for ThingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Survey {
    /// The same without dropped programs, and with the word that they are not told, and why: for whoever knows no such
    /// things, or of whoever looks for none.
    #[must_use]
    pub fn without_dropped(mut self, why: &str) -> Self {
        let before = self.things.len();
        self.things.retain(|thing| thing.kind != ThingKind::DroppedProgram);
        let fewer = u32::try_from(before - self.things.len()).unwrap_or(u32::MAX);
        self.of = self.of.saturating_sub(fewer);
        let mut why = format!("programs in /tmp, /var/tmp and /dev/shm are not told: {why}");
        if self.unread.len() >= MOST_UNREAD {
            self.unread.truncate(MOST_UNREAD - 1);
            why.push_str(". More could not be read than is named here");
        }
        self.unread.push(Unread { path: FilePath::new("/tmp"), why });
        self
    }

    /// Whether it is no larger than it may be: a machine's answer is taken apart by nobody else first.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        let path_fits = |path: &FilePath| path.as_bytes().len() <= PLACE_BYTES;
        self.things.len() <= MOST_THINGS
            && self.unread.len() <= MOST_UNREAD
            && self.things.iter().all(|thing| {
                path_fits(&thing.path) && thing.line.as_ref().is_none_or(|l| l.len() <= TEXT_BYTES)
            })
            && self
                .unread
                .iter()
                .all(|one| path_fits(&one.path) && one.why.len() <= limits::NAME_BYTES)
    }
}
