//! Where the agent stands among the kernel's namespaces: on the machine itself, or in a container.
//!
//! The one idea: an agent in a network namespace of its own contains only that one, so it looks at that
//! one alone, and says so; and one in a PID namespace of its own names processes by the numbers that its
//! own `/proc` has, for by those they are looked up and acted on.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// The inode of the kernel's first PID namespace (`PROC_PID_INIT_INO`, include/linux/proc_ns.h), the
/// same since Linux 3.8.
const FIRST_PID_NAMESPACE: u64 = 0xefff_fffc;

/// Where this process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its network namespace (inode), if `/proc` tells.
    pub network: Option<u64>,
    /// Whether that is the machine's first one; `None` if it can't be told here.
    pub is_first_network: Option<bool>,
    /// Its PID namespace (inode), if it is not the machine's first one.
    pub own_pid_namespace: Option<u64>,
}

impl Place {
    /// Looks.
    #[must_use]
    pub fn of_this_process() -> Self {
        Self {
            network: inode("/proc/self/ns/net"),
            is_first_network: is_first_network(Path::new("/proc/sys/net/core")),
            own_pid_namespace: inode("/proc/self/ns/pid").filter(|pid| *pid != FIRST_PID_NAMESPACE),
        }
    }

    /// The network namespace that this process has for itself, where it surely has one.
    #[must_use]
    pub fn own_network(&self) -> Option<u64> {
        self.network.filter(|_| self.is_first_network == Some(false))
    }

    /// What an isolation from here does not reach.
    #[must_use]
    pub fn isolation_gap(&self) -> Option<String> {
        match (self.is_first_network, self.network) {
            (Some(true), _) => None,
            (Some(false), Some(own)) => {
                Some(format!("only of network namespace {own}, the agent's own"))
            }
            _ => Some(
                "whether this is the whole machine's network can't be told: /proc/sys is hidden"
                    .to_owned(),
            ),
        }
    }
}

/// Whether these are the settings of the first network namespace. Each has `somaxconn`; `dev_weight` is
/// the whole machine's, and the kernel shows it in the first one alone (net/core/sysctl_net_core.c: one
/// table is registered for `init_net`, the other for every namespace). Process 1 would tell too, but may
/// not be looked at everywhere, and in a container it is another.
fn is_first_network(settings: &Path) -> Option<bool> {
    let has = |name| settings.join(name).exists();
    has("somaxconn").then(|| has("dev_weight"))
}

fn inode(path: &str) -> Option<u64> {
    fs::metadata(path).ok().map(|namespace| namespace.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_settings_can_be_seen_says_whether_the_network_is_the_first() {
        let settings = tempfile::tempdir().unwrap();
        let told = || is_first_network(settings.path());
        assert_eq!(told(), None, "hidden settings tell nothing");
        fs::write(settings.path().join("somaxconn"), "4096").unwrap();
        assert_eq!(told(), Some(false));
        fs::write(settings.path().join("dev_weight"), "64").unwrap();
        assert_eq!(told(), Some(true));
    }

    #[test]
    fn a_new_network_namespace_is_told_from_the_one_around_it() {
        if cordon_tests::lacks_root("a network namespace") {
            return;
        }
        let around = Place::of_this_process();
        let inside = std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            // `/proc/self` is the whole process; settings are those of the thread that looks.
            (is_first_network(Path::new("/proc/sys/net/core")), inode("/proc/thread-self/ns/net"))
        });
        let (is_first, network) = inside.join().unwrap();
        assert_eq!(is_first, Some(false));
        assert_ne!(network, around.network);
    }
}
