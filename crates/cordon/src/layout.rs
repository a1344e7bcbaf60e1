//! Where everything is below one state directory, and whose it is.
//!
//! The one idea: each role has a directory that only its own user can read, and one for its sockets that
//! others may enter but only it may write; the check of the peer's credentials says who may speak.

use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::accounts::Account;

/// The paths below a state directory.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Where root's state is.
    pub const ROOTS_OWN: &str = "/var/lib/cordon";

    /// The layout below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Where state is kept when nobody says: `/var/lib/cordon` for root, else the user's state directory
    /// (`$XDG_STATE_HOME`, XDG Base Directory Specification).
    pub fn default_root() -> PathBuf {
        if nix::unistd::geteuid().is_root() {
            return PathBuf::from(Self::ROOTS_OWN);
        }
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
        std::env::var_os("XDG_STATE_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .or_else(home)
            .unwrap_or_else(std::env::temp_dir)
            .join("cordon")
    }

    /// The state directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The hub's state.
    pub fn hub(&self) -> PathBuf {
        self.root.join("hub")
    }

    /// The signer's keys, registry and log.
    pub fn signer(&self) -> PathBuf {
        self.root.join("signer")
    }

    /// The agent's identity, spool and journal.
    pub fn agent(&self) -> PathBuf {
        self.root.join("agent")
    }

    /// The helper's pinned key, leases and journal.
    pub fn helper(&self) -> PathBuf {
        self.root.join("helper")
    }

    /// Where the signer listens, for the hub.
    pub fn signer_socket(&self) -> PathBuf {
        self.sockets_of("signer").join("signer.sock")
    }

    /// Where the helper listens, for the agent.
    pub fn helper_socket(&self) -> PathBuf {
        self.sockets_of("helper").join("helper.sock")
    }

    /// Where the helper listens to anybody at the machine who has a break-glass code.
    pub fn door_socket(&self) -> PathBuf {
        self.sockets_of("helper").join("break-glass.sock")
    }

    /// What the person in front of the machine is told: the system's own place for root's Cordon.
    pub fn notice(&self) -> PathBuf {
        self.notice_folder().join(cordon_agent::contain::bulletin::FILE)
    }

    /// The folder that it is in.
    pub fn notice_folder(&self) -> PathBuf {
        if self.root == Path::new(Self::ROOTS_OWN) {
            PathBuf::from("/run/cordon")
        } else {
            self.root.join("run").join("notice")
        }
    }

    /// Where the warden listens, for the helper.
    pub fn warden_socket(&self) -> PathBuf {
        self.sockets_of("warden").join("warden.sock")
    }

    /// Where the hub listens, for the command line.
    pub fn control_socket(&self) -> PathBuf {
        self.sockets_of("hub").join("hub.sock")
    }

    /// The directory of one role's sockets: others may enter it, only the role may make anything there.
    fn sockets_of(&self, role: &str) -> PathBuf {
        self.root.join("run").join(role)
    }

    /// Makes the directory of `role`'s sockets.
    ///
    /// # Errors
    /// If it can't be made.
    pub fn make_socket_directory(&self, role: &str, owner: &Account) -> Result<()> {
        let path = self.sockets_of(role);
        make_directory(&path, 0o755)?;
        owner.give(&path)
    }

    /// Makes the directory of one role, for `owner` alone.
    ///
    /// # Errors
    /// If it can't be made, or is somebody else's.
    pub fn make_role_directory(&self, path: &Path, owner: &Account) -> Result<()> {
        make_directory(path, 0o700)?;
        owner.give(path)
    }

    /// Makes the state directory and the directory for sockets; every role may enter both.
    ///
    /// # Errors
    /// If they can't be made.
    pub fn make(&self) -> Result<()> {
        make_directory(&self.root, 0o755)?;
        make_directory(&self.root.join("run"), 0o755)
    }
}

impl Layout {
    /// Holds the state directory for this process alone; freed when dropped, or when the process ends
    /// however it ends.
    ///
    /// # Errors
    /// If another `cordon up` holds it.
    pub fn lock(&self) -> Result<nix::fcntl::Flock<std::fs::File>> {
        let path = self.root.join("up.lock");
        let file = std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("opening {}", path.display()))?;
        nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock).map_err(|(_, error)| {
            anyhow::anyhow!(
                "another `cordon up` runs on {} ({error}): stop it, or give --state another directory",
                self.root.display()
            )
        })
    }
}

fn make_directory(path: &Path, mode: u32) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .with_context(|| format!("making {}", path.display()))?;
    // The mode given at creation is cut by the umask, and an older directory keeps its own.
    std::fs::set_permissions(path, Permissions::from_mode(mode))
        .with_context(|| format!("setting the mode of {}", path.display()))
}
