//! Which files a plan may set aside by itself, told by where they lie.
//!
//! The one idea: where packages and administrators put files, a finding that names one says nothing against
//! the file: whoever starts `python` maliciously leaves `python` innocent. So a program is set aside by the
//! plan only where nobody but users, and intruders, put programs; everything else is for people, with the
//! reason said.

use cordon_model::action::FilePath;

/// Where no package and no administrator puts programs: what lies there was brought.
const BROUGHT: &[&str] = &["/tmp/", "/var/tmp/", "/dev/shm/"];

/// Where users, web servers and mail put files.
const OF_USERS: &[&str] = &[
    "/home/",
    "/root/",
    "/run/user/",
    "/var/www/",
    "/var/spool/",
    "/var/mail/",
    "/srv/",
    "/media/",
    "/mnt/",
];

/// Where packages put files.
const OF_PACKAGES: &[&str] = &[
    "/usr/",
    "/bin/",
    "/sbin/",
    "/lib/",
    "/lib32/",
    "/lib64/",
    "/libx32/",
    "/boot/",
    "/opt/",
    "/snap/",
    "/nix/",
    "/gnu/",
    "/var/lib/",
];

/// Where administrators put their own.
const OF_ADMINISTRATORS: &[&str] = &["/usr/local/", "/etc/"];

/// Programs that run what others wrote: a user's own copy in a home is as innocent as the system's.
const INTERPRETERS: &[&str] = &[
    "sh", "bash", "dash", "zsh", "ksh", "fish", "busybox", "python", "pypy", "perl", "ruby",
    "node", "deno", "bun", "php", "java", "lua", "luajit", "tclsh", "pwsh", "mono", "dotnet",
    "guile", "r", "rscript", "julia", "electron",
];

/// Files that an older machine has too: what a new version of one holds has to be put back, not taken away.
const SHARED: &[&str] = &[
    "/etc/passwd",
    "/etc/shadow",
    "/etc/group",
    "/etc/sudoers",
    "/etc/crontab",
    "/etc/anacrontab",
    "/etc/profile",
    "/etc/bash.bashrc",
    "/etc/bashrc",
    "/etc/environment",
    "/etc/rc.local",
    "/etc/modules",
    "/etc/inittab",
];

fn lies_in(path: &[u8], places: &[&str]) -> bool {
    places.iter().any(|place| path.starts_with(place.as_bytes()))
}

/// The place where anybody may write that it lies in, without the last stroke.
#[must_use]
pub fn open_to_all(path: &FilePath) -> Option<&'static str> {
    let place = BROUGHT.iter().find(|place| path.as_bytes().starts_with(place.as_bytes()));
    place.map(|place| place.trim_end_matches('/'))
}

/// Whether it is, or lies in, a place where anybody may write.
#[must_use]
pub fn is_open_to_all(path: &FilePath) -> bool {
    let path = path.as_bytes();
    lies_in(path, BROUGHT) || lies_in(&[path, b"/"].concat(), BROUGHT)
}

/// Why the program that a finding names is not set aside by the plan; `None`: it is.
#[must_use]
pub fn program_by_hand(path: &FilePath) -> Option<&'static str> {
    let path = path.as_bytes();
    if lies_in(path, BROUGHT) {
        return None;
    }
    if lies_in(path, OF_ADMINISTRATORS) {
        return Some("administrators put programs there: it may be yours");
    }
    if lies_in(path, OF_PACKAGES) {
        return Some(
            "packages put programs there: that an intruder used it says nothing against the program",
        );
    }
    if !lies_in(path, OF_USERS) {
        return Some("its place does not tell whether it belongs there");
    }
    copy(path)
}

/// Why a program that no finding names is not set aside by the plan though it is the intruder's by its owner or
/// content; `None`: it is.
#[must_use]
pub fn copy_by_hand(path: &FilePath) -> Option<&'static str> {
    copy(path.as_bytes())
}

fn copy(path: &[u8]) -> Option<&'static str> {
    is_interpreter(path)
        .then_some("it is a program that runs what others wrote, and may be the user's own copy")
}

/// Why a file that starts something by itself is not set aside by the plan, as far as its place tells;
/// `None`: it may be.
#[must_use]
pub fn file_by_hand(path: &FilePath) -> Option<&'static str> {
    let path = path.as_bytes();
    if SHARED.iter().any(|shared| path == shared.as_bytes()) {
        return Some("every machine has this file: what was in it before has to be put back");
    }
    if path.starts_with(b"/run/") {
        return Some("the machine makes files there while it runs, and forgets them at a restart");
    }
    if lies_in(path, OF_PACKAGES) && !lies_in(path, OF_ADMINISTRATORS) {
        // A mail or cron spool is no package's, and is not among these.
        return Some("packages put files there: an update may have brought it");
    }
    None
}

fn is_interpreter(path: &[u8]) -> bool {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    // `python3.11` is `python`.
    let bare = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    INTERPRETERS.contains(&bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(path: &str) -> Option<&'static str> {
        program_by_hand(&FilePath::new(path))
    }

    #[test]
    fn what_was_brought_is_set_aside_and_what_belongs_there_never_is() {
        for brought in [
            "/tmp/worm",
            "/tmp/python3",
            "/var/tmp/.x/a",
            "/dev/shm/kworkerd",
            "/home/bob/worm",
            "/root/.cache/x",
            "/var/www/html/uploads/shell.elf",
            "/run/user/1000/x",
        ] {
            assert_eq!(program(brought), None, "{brought}");
        }
        for innocent in [
            "/usr/bin/python3.11",
            "/usr/bin/curl",
            "/bin/bash",
            "/sbin/init",
            "/lib/systemd/systemd",
            "/usr/lib/jvm/java-17/bin/java",
            "/usr/local/bin/backup",
            "/opt/pacs/viewer",
            "/snap/firefox/1/firefox",
            "/etc/init.d/x",
            "/data/x",
            "/home/bob/miniconda3/bin/python3.12",
            "/home/bob/.nvm/node",
            "/home/bob/bash",
        ] {
            assert!(program(innocent).is_some(), "{innocent}");
        }
    }

    #[test]
    fn a_path_that_only_begins_like_a_place_is_not_in_it() {
        assert!(program("/tmpfoo/x").is_some());
        assert!(program("/usr").is_some());
    }

    #[test]
    fn what_starts_by_itself_is_set_aside_where_packages_put_nothing() {
        let file = |path: &str| file_by_hand(&FilePath::new(path));
        for may in [
            "/etc/systemd/system/evil.service",
            "/etc/cron.d/evil",
            "/var/spool/cron/crontabs/bob",
            "/home/bob/.config/autostart/evil.desktop",
            "/usr/local/lib/systemd/system/evil.service",
            "/etc/ld.so.preload",
        ] {
            assert_eq!(file(may), None, "{may}");
        }
        for by_hand in [
            "/run/systemd/transient/session-1.scope",
            "/usr/lib/systemd/system/a.service",
            "/lib/udev/rules.d/1.rules",
            "/etc/crontab",
            "/etc/profile",
        ] {
            assert!(file(by_hand).is_some(), "{by_hand}");
        }
    }
}
