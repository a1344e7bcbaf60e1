//! Files: named ones, those that say who may sign in, those that say what starts by itself.
//!
//! Passwords' hashes stay on the machine: of the shadow file only a table is taken. Homes and folders on
//! network and user-answered file systems are not walked (whoever answers for them may never do so, and
//! they are not this machine's); a file named in the order is tried wherever it is, with patience.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::super::gather::{About, Gatherer, Sink, Step, last_of};
use super::super::limits::{FILE_BYTES, LOGIN_BYTES, SMALL_FILE_BYTES, WALKED_DEPTH, WALKED_FILES};
use crate::contain::action::mounts::{Mount, far};
use crate::contain::action::plain;

/// Where things begin by themselves, below the root. A file or a folder each.
const PERSISTENCE: &[&str] = &[
    "etc/crontab",
    "etc/anacrontab",
    "etc/cron.d",
    "etc/cron.hourly",
    "etc/cron.daily",
    "etc/cron.weekly",
    "etc/cron.monthly",
    "var/spool/cron",
    "var/spool/at",
    "etc/systemd",
    "run/systemd/system",
    "run/systemd/generator",
    "usr/local/lib/systemd",
    "etc/init.d",
    "etc/rc.local",
    "etc/inittab",
    "etc/profile",
    "etc/profile.d",
    "etc/bash.bashrc",
    "etc/bashrc",
    "etc/zsh",
    "etc/environment",
    "etc/ld.so.preload",
    "etc/ld.so.conf",
    "etc/ld.so.conf.d",
    "etc/modules",
    "etc/modules-load.d",
    "etc/modprobe.d",
    "etc/udev/rules.d",
    "etc/pam.d",
    "etc/security",
    "etc/xdg/autostart",
    "etc/update-motd.d",
    "etc/apt/apt.conf.d",
    "etc/NetworkManager/dispatcher.d",
    "etc/network",
];
/// The same in every home.
const PERSISTENCE_AT_HOME: &[&str] = &[
    ".bashrc",
    ".bash_profile",
    ".bash_login",
    ".bash_logout",
    ".profile",
    ".zshrc",
    ".config/systemd/user",
    ".config/autostart",
    ".ssh/rc",
    ".ssh/environment",
];
/// Who there is and who may do what. Never the shadow file itself.
const ACCOUNTS: &[&str] = &[
    "etc/passwd",
    "etc/group",
    "etc/nsswitch.conf",
    "etc/login.defs",
    "etc/sudoers",
    "etc/sudoers.d",
    "etc/doas.conf",
    "etc/ssh",
    "etc/hosts.allow",
    "etc/hosts.deny",
    "etc/krb5.conf",
    "etc/sssd/conf.d",
];
/// Files below these that hold secrets and say nothing of who did what.
const SECRETS: &[&str] = &["etc/ssh/ssh_host_", "etc/security/opasswd"];
const ACCOUNTS_AT_HOME: &[&str] =
    &[".ssh/authorized_keys", ".ssh/authorized_keys2", ".ssh/known_hosts"];
/// Records of logins, of which the end matters.
const LOGINS: &[&str] = &["run/utmp", "var/log/wtmp", "var/log/btmp", "var/log/lastlog"];

/// The part of a machine's files that is walked.
pub(in super::super) struct Files<'a> {
    pub(in super::super) root: &'a Path,
    pub(in super::super) mounts: &'a [Mount],
}

impl Files<'_> {
    /// A file that the order names: the first of it, or of a log the last.
    pub(in super::super) fn named(&self, path: &Path, gatherer: &mut Gatherer) {
        let path = self.below(path);
        let is_log = path.starts_with(self.root.join("var/log"));
        let how = if is_log { "read, the end of it" } else { "read" };
        let about = About { kind: "file", source: self.shown(&path), how, most: FILE_BYTES };
        gatherer.piece(about, contents(path.clone(), FILE_BYTES, is_log));
    }

    /// What starts by itself.
    pub(in super::super) fn persistence(&self, gatherer: &mut Gatherer) {
        let places = PERSISTENCE.iter().map(|place| self.root.join(place));
        let at_home =
            self.homes().flat_map(|home| PERSISTENCE_AT_HOME.iter().map(move |p| home.join(p)));
        let places: Vec<PathBuf> = places.chain(at_home).collect();
        self.small("persistence", places, gatherer);
    }

    /// Who may sign in, and who did.
    pub(in super::super) fn accounts(&self, gatherer: &mut Gatherer) {
        let places = ACCOUNTS.iter().map(|place| self.root.join(place));
        let at_home =
            self.homes().flat_map(|home| ACCOUNTS_AT_HOME.iter().map(move |p| home.join(p)));
        let places: Vec<PathBuf> = places.chain(at_home).collect();
        self.small("accounts", places, gatherer);
        let shadow = self.root.join("etc/shadow");
        let about = About {
            kind: "accounts",
            source: self.shown(&shadow),
            how: "a table of it, without the passwords' hashes",
            most: SMALL_FILE_BYTES,
        };
        gatherer.piece(about, without_hashes(shadow.clone()));
        for place in LOGINS {
            let path = self.root.join(place);
            let about = About {
                kind: "accounts",
                source: self.shown(&path),
                how: "read, the end of it",
                most: LOGIN_BYTES,
            };
            gatherer.piece(about, contents(path.clone(), LOGIN_BYTES, true));
        }
    }

    /// Every plain file at or below `places`, within the limits.
    fn small(&self, kind: &'static str, places: Vec<PathBuf>, gatherer: &mut Gatherer) {
        let mut waiting: Vec<(PathBuf, usize)> =
            places.into_iter().rev().map(|place| (place, 0)).collect();
        let mut files = 0;
        while let Some((path, depth)) = waiting.pop() {
            if gatherer.is_over() {
                return gatherer.lacks(
                    kind,
                    self.shown(&path),
                    "no time or room was left for it and what follows",
                );
            }
            if let Some(far) = far(self.mounts, &path) {
                let why = format!("it is on {}, whose answers may never come", far.kind);
                gatherer.lacks(kind, self.shown(&path), &why);
                continue;
            }
            let seen = match plain::look(&path) {
                Ok(seen) => seen,
                // Most machines have only some of these.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => {
                    gatherer.lacks(kind, self.shown(&path), &error.to_string());
                    continue;
                }
            };
            match seen.kind() {
                "folder" if depth < WALKED_DEPTH => {
                    match entries(&path) {
                        Ok(below) => {
                            waiting.extend(below.into_iter().rev().map(|path| (path, depth + 1)))
                        }
                        Err(error) => gatherer.lacks(kind, self.shown(&path), &error.to_string()),
                    }
                    continue;
                }
                "folder" => gatherer.lacks(kind, self.shown(&path), "it lies too deep"),
                "symbolic link" => {
                    let to = std::fs::read_link(&path).unwrap_or_default();
                    let to = cordon_evidence::archive::printable(to.as_os_str().as_bytes());
                    gatherer.lacks(
                        kind,
                        self.shown(&path),
                        &format!("a symbolic link to {to}, not followed"),
                    );
                }
                "plain file" if self.is_secret(&path) => {
                    gatherer.lacks(kind, self.shown(&path), "a secret, left out on purpose");
                }
                "plain file" if files < WALKED_FILES => {
                    files += 1;
                    let about = About {
                        kind,
                        source: self.shown(&path),
                        how: "read",
                        most: SMALL_FILE_BYTES,
                    };
                    gatherer.piece(about, contents(path.clone(), SMALL_FILE_BYTES, false));
                }
                "plain file" => {
                    return gatherer.lacks(
                        kind,
                        self.shown(&path),
                        "too many files: it and what follows",
                    );
                }
                other => gatherer.lacks(kind, self.shown(&path), &format!("it is a {other}")),
            }
        }
    }

    fn is_secret(&self, path: &Path) -> bool {
        let is_public = path.extension().is_some_and(|extension| extension == "pub");
        let path = path.as_os_str().as_bytes();
        let starts =
            |secret: &&str| path.starts_with(self.root.join(secret).as_os_str().as_bytes());
        !is_public && SECRETS.iter().any(starts)
    }

    /// Homes of the local accounts, each once.
    fn homes(&self) -> impl Iterator<Item = PathBuf> {
        let passwd =
            plain::read(&self.root.join("etc/passwd"), SMALL_FILE_BYTES).unwrap_or_default();
        let mut homes: Vec<PathBuf> = passwd
            .split(|byte| *byte == b'\n')
            .filter_map(|line| line.split(|byte| *byte == b':').nth(5))
            .filter(|home| home.len() > 1 && home.starts_with(b"/"))
            .map(|home| self.below(Path::new(std::ffi::OsStr::from_bytes(home))))
            .collect();
        homes.sort();
        homes.dedup();
        homes.into_iter()
    }

    fn below(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The path as the machine knows it.
    fn shown<'p>(&self, path: &'p Path) -> &'p [u8] {
        let bytes = path.as_os_str().as_bytes();
        let root = self.root.as_os_str().as_bytes();
        bytes.strip_prefix(root).filter(|rest| rest.starts_with(b"/")).unwrap_or(bytes)
    }
}

fn entries(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)?
        .take(WALKED_FILES)
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    paths.sort();
    Ok(paths)
}

/// The bytes of a plain file, from its beginning or of its end.
fn contents(path: PathBuf, most: u64, is_end: bool) -> Step {
    Box::new(move |sink| {
        let seen = plain::look(&path).map_err(|error| error.to_string())?;
        let mut file = seen.open().map_err(|error| error.to_string())?;
        let length = u64::try_from(seen.status.st_size).unwrap_or(0);
        sink.length(length);
        if is_end && length > most {
            return last_of(&file, length, most, sink);
        }
        // One byte more than the limit, so that what is longer is seen to be cut.
        sink.copy(&mut file, most.saturating_add(1))
    })
}

#[derive(Serialize)]
struct ShadowRow<'a> {
    name: &'a str,
    /// `none`, `locked` or `set`.
    password: &'static str,
    last_change: &'a str,
    expires: &'a str,
}

fn without_hashes(path: PathBuf) -> Step {
    Box::new(move |sink: &mut Sink| {
        let text = plain::read(&path, 16 << 20).map_err(|error| error.to_string())?;
        for line in String::from_utf8_lossy(&text).lines() {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, password, last_change, .., expires, _] = fields[..] else { continue };
            let password = match password {
                "" => "none",
                locked if locked.starts_with(['!', '*']) => "locked",
                _ => "set",
            };
            sink.row(&ShadowRow { name, password, last_change, expires })?;
        }
        Ok(())
    })
}
