//! The places: where something starts by itself on a Linux machine, or lets somebody in; and where anybody may put a
//! program.
//!
//! The one idea: the places are data. Each row says what a thing there is, where, and how it is read; what
//! reading means stands in `read`, once for all of them. A place that no row names is not looked at.

use cordon_model::survey::ThingKind;

/// One place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// What a thing there is.
    pub kind: ThingKind,
    /// Where: below the root, or below a home.
    pub path: &'static str,
    /// How many levels of folders the system itself looks into: 0 if the place is a file.
    pub depth: usize,
    /// What of a file is a thing.
    pub things: Things,
    /// Which names there are none.
    pub except: Except,
}

/// What of a file is a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Things {
    /// All of it.
    Whole,
    /// Each of its lines that says something.
    Lines(Lines),
    /// All of it if it could be run: by its mode, or by how it begins. See `dropped`.
    Programs,
}

/// How lines are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lines {
    /// `#` begins a comment: crontabs, keys, lists of modules.
    Plain,
    /// `etc/passwd`.
    Accounts,
    /// Only lines that run a command instead of loading a module (`install`, `remove`).
    ModuleCommands,
}

/// Names that are no things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Except {
    /// None.
    Nothing,
    /// Those that end so: scopes of systemd's hold what somebody else started, one for each login.
    Ending(&'static str),
    /// Those that begin with a dot: `at` counts its jobs in one.
    Hidden,
}

impl Place {
    const fn file(kind: ThingKind, path: &'static str) -> Self {
        Self { kind, path, depth: 0, things: Things::Whole, except: Except::Nothing }
    }

    const fn folder(kind: ThingKind, path: &'static str) -> Self {
        Self { depth: 1, ..Self::file(kind, path) }
    }

    /// A folder whose folders are looked into, too.
    const fn deep(kind: ThingKind, path: &'static str) -> Self {
        Self { depth: 2, ..Self::file(kind, path) }
    }

    /// A folder where anybody may write: files in it that could be run, and in three levels of folders below, as what
    /// a service of systemd's takes for `/tmp` can be two levels below it (`PrivateTmp=`, systemd.exec(5)).
    const fn open_to_all(path: &'static str) -> Self {
        let things = Things::Programs;
        Self { depth: 4, things, ..Self::file(ThingKind::DroppedProgram, path) }
    }

    const fn lines(self, lines: Lines) -> Self {
        Self { things: Things::Lines(lines), ..self }
    }

    const fn except(self, except: Except) -> Self {
        Self { except, ..self }
    }

    /// Whether a thing there may have this name.
    #[must_use]
    pub fn takes(&self, name: &[u8]) -> bool {
        match self.except {
            Except::Nothing => true,
            Except::Ending(end) => !name.ends_with(end.as_bytes()),
            Except::Hidden => !name.starts_with(b"."),
        }
    }
}

use ThingKind as K;

/// The file with the local accounts: where the homes are.
pub const PASSWD: &str = "etc/passwd";

/// Below the root, the first first.
pub const OF_THE_SYSTEM: &[Place] = &[
    // Who gets in.
    Place::file(K::Account, PASSWD).lines(Lines::Accounts),
    Place::file(K::Sudoers, "etc/sudoers"),
    Place::folder(K::Sudoers, "etc/sudoers.d"),
    Place::folder(K::Pam, "etc/pam.d"),
    Place::file(K::Pam, "etc/pam.conf"),
    Place::folder(K::Pam, "usr/lib/pam.d"),
    Place::file(K::AuthorizedKey, "etc/dropbear/authorized_keys").lines(Lines::Plain),
    Place::file(K::Preload, "etc/ld.so.preload"),
    // cron (crontab(5), anacrontab(5)) and at: Debian, Red Hat, SUSE.
    Place::file(K::CronLine, "etc/crontab").lines(Lines::Plain),
    Place::file(K::CronLine, "etc/anacrontab").lines(Lines::Plain),
    Place::folder(K::CronLine, "etc/cron.d").lines(Lines::Plain),
    Place::folder(K::CronLine, "var/spool/cron").lines(Lines::Plain),
    Place::folder(K::CronLine, "var/spool/cron/crontabs").lines(Lines::Plain),
    Place::folder(K::CronLine, "var/spool/cron/tabs").lines(Lines::Plain),
    Place::folder(K::CronScript, "etc/cron.hourly"),
    Place::folder(K::CronScript, "etc/cron.daily"),
    Place::folder(K::CronScript, "etc/cron.weekly"),
    Place::folder(K::CronScript, "etc/cron.monthly"),
    Place::folder(K::CronScript, "etc/cron.yearly"),
    Place::folder(K::AtJob, "var/spool/cron/atjobs").except(Except::Hidden),
    Place::folder(K::AtJob, "var/spool/at").except(Except::Hidden),
    Place::folder(K::AtJob, "var/spool/atjobs").except(Except::Hidden),
    // systemd (systemd.unit(5), systemd.generator(7)): system and all users.
    Place::deep(K::Unit, "etc/systemd/system"),
    Place::deep(K::Unit, "etc/systemd/system.control"),
    Place::deep(K::Unit, "etc/systemd/system.attached"),
    Place::deep(K::Unit, "etc/systemd/user"),
    Place::deep(K::Unit, "run/systemd/system"),
    Place::deep(K::Unit, "run/systemd/system.control"),
    Place::deep(K::Unit, "run/systemd/system.attached"),
    Place::deep(K::Unit, "run/systemd/transient").except(Except::Ending(".scope")),
    Place::deep(K::Unit, "run/systemd/generator"),
    Place::deep(K::Unit, "run/systemd/generator.early"),
    Place::deep(K::Unit, "run/systemd/generator.late"),
    Place::deep(K::Unit, "run/systemd/user"),
    Place::deep(K::Unit, "usr/local/lib/systemd/system"),
    Place::deep(K::Unit, "usr/local/lib/systemd/user"),
    Place::deep(K::Unit, "usr/local/share/systemd/user"),
    Place::deep(K::Unit, "usr/lib/systemd/system"),
    Place::deep(K::Unit, "usr/lib/systemd/user"),
    Place::deep(K::Unit, "usr/share/systemd/user"),
    Place::deep(K::Unit, "lib/systemd/system"),
    Place::folder(K::Generator, "etc/systemd/system-generators"),
    Place::folder(K::Generator, "etc/systemd/user-generators"),
    Place::folder(K::Generator, "etc/systemd/system-environment-generators"),
    Place::folder(K::Generator, "etc/systemd/user-environment-generators"),
    Place::folder(K::Generator, "run/systemd/system-generators"),
    Place::folder(K::Generator, "run/systemd/user-generators"),
    Place::folder(K::Generator, "usr/local/lib/systemd/system-generators"),
    Place::folder(K::Generator, "usr/local/lib/systemd/user-generators"),
    Place::folder(K::Generator, "usr/lib/systemd/system-generators"),
    Place::folder(K::Generator, "usr/lib/systemd/user-generators"),
    Place::folder(K::Generator, "usr/lib/systemd/system-environment-generators"),
    Place::folder(K::Generator, "usr/lib/systemd/user-environment-generators"),
    Place::folder(K::Generator, "lib/systemd/system-generators"),
    // System V's, as still read; Red Hat keeps them below rc.d.
    Place::file(K::InitScript, "etc/rc.local"),
    Place::file(K::InitScript, "etc/rc.d/rc.local"),
    Place::file(K::InitScript, "etc/inittab"),
    Place::folder(K::InitScript, "etc/init.d"),
    Place::folder(K::InitScript, "etc/init"),
    Place::deep(K::InitScript, "etc/rc.d"),
    Place::folder(K::InitScript, "etc/rc0.d"),
    Place::folder(K::InitScript, "etc/rc1.d"),
    Place::folder(K::InitScript, "etc/rc2.d"),
    Place::folder(K::InitScript, "etc/rc3.d"),
    Place::folder(K::InitScript, "etc/rc4.d"),
    Place::folder(K::InitScript, "etc/rc5.d"),
    Place::folder(K::InitScript, "etc/rc6.d"),
    Place::folder(K::InitScript, "etc/rcS.d"),
    // Shells, and what sets their environment.
    Place::file(K::ShellProfile, "etc/profile"),
    Place::folder(K::ShellProfile, "etc/profile.d"),
    Place::file(K::ShellProfile, "etc/environment"),
    Place::folder(K::ShellProfile, "etc/environment.d"),
    Place::folder(K::ShellProfile, "usr/lib/environment.d"),
    Place::file(K::ShellProfile, "etc/bash.bashrc"),
    Place::file(K::ShellProfile, "etc/bash.bash_logout"),
    Place::file(K::ShellProfile, "etc/bashrc"),
    Place::folder(K::ShellProfile, "etc/bash_completion.d"),
    Place::file(K::ShellProfile, "etc/zshenv"),
    Place::file(K::ShellProfile, "etc/zshrc"),
    Place::file(K::ShellProfile, "etc/zprofile"),
    Place::file(K::ShellProfile, "etc/zlogin"),
    Place::folder(K::ShellProfile, "etc/zsh"),
    Place::file(K::ShellProfile, "etc/csh.cshrc"),
    Place::file(K::ShellProfile, "etc/csh.login"),
    Place::file(K::ShellProfile, "etc/fish/config.fish"),
    Place::folder(K::ShellProfile, "etc/fish/conf.d"),
    Place::file(K::ShellProfile, "etc/ssh/sshrc"),
    Place::folder(K::ShellProfile, "etc/X11/Xsession.d"),
    Place::folder(K::ShellProfile, "etc/X11/xinit/xinitrc.d"),
    // Desktops.
    Place::folder(K::Autostart, "etc/xdg/autostart"),
    Place::folder(K::Autostart, "usr/share/gnome/autostart"),
    // udev(7).
    Place::folder(K::UdevRule, "etc/udev/rules.d"),
    Place::folder(K::UdevRule, "run/udev/rules.d"),
    Place::folder(K::UdevRule, "usr/local/lib/udev/rules.d"),
    Place::folder(K::UdevRule, "usr/lib/udev/rules.d"),
    Place::folder(K::UdevRule, "lib/udev/rules.d"),
    // modules-load.d(5), modprobe.d(5).
    Place::file(K::ModuleConfig, "etc/modules").lines(Lines::Plain),
    Place::folder(K::ModuleConfig, "etc/modules-load.d").lines(Lines::Plain),
    Place::folder(K::ModuleConfig, "run/modules-load.d").lines(Lines::Plain),
    Place::folder(K::ModuleConfig, "usr/local/lib/modules-load.d").lines(Lines::Plain),
    Place::folder(K::ModuleConfig, "usr/lib/modules-load.d").lines(Lines::Plain),
    Place::folder(K::ModuleConfig, "etc/modprobe.d").lines(Lines::ModuleCommands),
    Place::folder(K::ModuleConfig, "run/modprobe.d").lines(Lines::ModuleCommands),
    Place::folder(K::ModuleConfig, "usr/local/lib/modprobe.d").lines(Lines::ModuleCommands),
    Place::folder(K::ModuleConfig, "usr/lib/modprobe.d").lines(Lines::ModuleCommands),
    Place::folder(K::ModuleConfig, "lib/modprobe.d").lines(Lines::ModuleCommands),
    // What runs when the network changes: ifupdown, NetworkManager, networkd-dispatcher, DHCP, PPP.
    Place::file(K::NetworkHook, "etc/network/interfaces"),
    Place::folder(K::NetworkHook, "etc/network/interfaces.d"),
    Place::folder(K::NetworkHook, "etc/network/if-pre-up.d"),
    Place::folder(K::NetworkHook, "etc/network/if-up.d"),
    Place::folder(K::NetworkHook, "etc/network/if-down.d"),
    Place::folder(K::NetworkHook, "etc/network/if-post-down.d"),
    Place::deep(K::NetworkHook, "etc/NetworkManager/dispatcher.d"),
    Place::deep(K::NetworkHook, "usr/lib/NetworkManager/dispatcher.d"),
    Place::deep(K::NetworkHook, "etc/networkd-dispatcher"),
    Place::deep(K::NetworkHook, "usr/lib/networkd-dispatcher"),
    Place::file(K::NetworkHook, "etc/dhcp/dhclient-enter-hooks"),
    Place::file(K::NetworkHook, "etc/dhcp/dhclient-exit-hooks"),
    Place::folder(K::NetworkHook, "etc/dhcp/dhclient-enter-hooks.d"),
    Place::folder(K::NetworkHook, "etc/dhcp/dhclient-exit-hooks.d"),
    Place::folder(K::NetworkHook, "etc/dhcp/dhclient.d"),
    Place::file(K::NetworkHook, "etc/dhcpcd.enter-hook"),
    Place::file(K::NetworkHook, "etc/dhcpcd.exit-hook"),
    Place::folder(K::NetworkHook, "etc/wpa_supplicant"),
    Place::file(K::NetworkHook, "etc/ppp/ip-up"),
    Place::file(K::NetworkHook, "etc/ppp/ip-down"),
    Place::folder(K::NetworkHook, "etc/ppp/ip-up.d"),
    Place::folder(K::NetworkHook, "etc/ppp/ip-down.d"),
    // Package managers, kernels, the message of the day, sleep, rotated logs.
    Place::file(K::Hook, "etc/apt/apt.conf"),
    Place::folder(K::Hook, "etc/apt/apt.conf.d"),
    Place::file(K::Hook, "etc/dpkg/dpkg.cfg"),
    Place::folder(K::Hook, "etc/dpkg/dpkg.cfg.d"),
    Place::folder(K::Hook, "etc/yum/pluginconf.d"),
    Place::folder(K::Hook, "etc/dnf/plugins"),
    Place::folder(K::Hook, "etc/kernel/preinst.d"),
    Place::folder(K::Hook, "etc/kernel/postinst.d"),
    Place::folder(K::Hook, "etc/kernel/prerm.d"),
    Place::folder(K::Hook, "etc/kernel/postrm.d"),
    Place::folder(K::Hook, "etc/kernel/install.d"),
    Place::folder(K::Hook, "etc/update-motd.d"),
    Place::folder(K::Hook, "usr/lib/systemd/system-sleep"),
    Place::folder(K::Hook, "usr/lib/systemd/system-shutdown"),
    Place::folder(K::Hook, "etc/logrotate.d"),
];

/// Below every local account's home.
pub const AT_HOME: &[Place] = &[
    Place::file(K::ShellProfile, ".profile"),
    Place::file(K::ShellProfile, ".bashrc"),
    Place::file(K::ShellProfile, ".bash_profile"),
    Place::file(K::ShellProfile, ".bash_login"),
    Place::file(K::ShellProfile, ".bash_logout"),
    Place::file(K::ShellProfile, ".bash_aliases"),
    Place::file(K::ShellProfile, ".zshenv"),
    Place::file(K::ShellProfile, ".zprofile"),
    Place::file(K::ShellProfile, ".zshrc"),
    Place::file(K::ShellProfile, ".zlogin"),
    Place::file(K::ShellProfile, ".zlogout"),
    Place::file(K::ShellProfile, ".kshrc"),
    Place::file(K::ShellProfile, ".cshrc"),
    Place::file(K::ShellProfile, ".tcshrc"),
    Place::file(K::ShellProfile, ".login"),
    Place::file(K::ShellProfile, ".config/fish/config.fish"),
    Place::folder(K::ShellProfile, ".config/fish/conf.d"),
    Place::folder(K::ShellProfile, ".config/environment.d"),
    Place::file(K::ShellProfile, ".pam_environment"),
    Place::file(K::ShellProfile, ".ssh/rc"),
    Place::file(K::ShellProfile, ".ssh/environment"),
    Place::file(K::ShellProfile, ".xprofile"),
    Place::file(K::ShellProfile, ".xinitrc"),
    Place::file(K::ShellProfile, ".xsession"),
    Place::file(K::ShellProfile, ".xsessionrc"),
    Place::folder(K::Autostart, ".config/autostart"),
    Place::folder(K::Autostart, ".config/autostart-scripts"),
    Place::folder(K::Autostart, ".config/plasma-workspace/env"),
    Place::deep(K::Unit, ".config/systemd/user"),
    Place::deep(K::Unit, ".config/systemd/user.control"),
    Place::deep(K::Unit, ".local/share/systemd/user"),
];

/// Below `/run/user/NUMBER` of every local account: its own systemd's, until the machine is restarted.
pub const AT_RUN: &[Place] = &[
    Place::deep(K::Unit, "systemd/user"),
    Place::deep(K::Unit, "systemd/user.control"),
    Place::deep(K::Unit, "systemd/transient").except(Except::Ending(".scope")),
    Place::deep(K::Unit, "systemd/generator"),
    Place::deep(K::Unit, "systemd/generator.early"),
    Place::deep(K::Unit, "systemd/generator.late"),
];

/// Where anybody may write, below the root (Filesystem Hierarchy Standard; tmpfs(5)). Not `/run/user/NUMBER`: it is its
/// user's alone, as a home is.
///
/// Only a survey looks there: a lookout would have to hear of all that a busy machine does.
pub const OPEN_TO_ALL: &[Place] =
    &[Place::open_to_all("tmp"), Place::open_to_all("var/tmp"), Place::open_to_all("dev/shm")];

/// A file with keys, wherever `sshd` is told to look for it.
pub const KEYS: Place = Place::file(K::AuthorizedKey, "").lines(Lines::Plain);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_kind_of_thing_has_a_place() {
        let all =
            || OF_THE_SYSTEM.iter().chain(AT_HOME).chain(AT_RUN).chain(OPEN_TO_ALL).chain([&KEYS]);
        let mut kinds: BTreeSet<ThingKind> = all().map(|place| place.kind).collect();
        // Told from the units among which it stands.
        kinds.insert(ThingKind::UnitLink);
        assert_eq!(kinds.len(), 19, "{kinds:?}");
    }

    #[test]
    fn each_place_is_plain_and_named_once() {
        for table in [OF_THE_SYSTEM, AT_HOME, AT_RUN, OPEN_TO_ALL] {
            let paths: BTreeSet<&str> = table.iter().map(|place| place.path).collect();
            assert_eq!(paths.len(), table.len());
            let is_plain = |path: &&str| {
                Path::new(path)
                    .components()
                    .all(|part| matches!(part, std::path::Component::Normal(_)))
            };
            assert!(paths.iter().all(is_plain), "{paths:?}");
        }
    }
}
