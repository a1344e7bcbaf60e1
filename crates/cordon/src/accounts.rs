//! The system users that the roles run as.
//!
//! As root each role gets a user of its own, so that the hub can't read the signer's key and the agent's
//! exemption from isolation belongs to nobody else. Without root every role runs as the caller.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use nix::unistd::{Gid, Uid, User};

/// A user that a role runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its user id.
    pub uid: Uid,
    /// Its group id.
    pub gid: Gid,
}

impl Account {
    /// The caller's own.
    pub fn own() -> Self {
        let uid = Uid::effective();
        let name =
            User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
        Self { name, uid, gid: Gid::effective() }
    }

    /// The system user `name`, made now if there is none and the caller is root. Without root: the
    /// caller's own.
    ///
    /// # Errors
    /// If the user can't be made.
    pub fn for_role(name: &str) -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            return Ok(Self::own());
        }
        if let Some(account) = Self::find(name)? {
            return Ok(account);
        }
        let output = Command::new("useradd")
            .args(["--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"])
            .args(["--shell", "/usr/sbin/nologin", "--comment", "Cordon", name])
            .stdin(Stdio::null())
            .output()
            .context("running useradd (install the package passwd)")?;
        match Self::find(name)? {
            Some(account) => Ok(account),
            None => bail!(
                "user {name} can't be made: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            ),
        }
    }

    fn find(name: &str) -> Result<Option<Self>> {
        let user = User::from_name(name).with_context(|| format!("looking up user {name}"))?;
        Ok(user.map(|user| Self { name: user.name, uid: user.uid, gid: user.gid }))
    }

    /// Makes this user the owner of `path` (only root can; others own what they make).
    ///
    /// # Errors
    /// If the system refuses.
    pub fn give(&self, path: &Path) -> Result<()> {
        if !nix::unistd::geteuid().is_root() {
            return Ok(());
        }
        nix::unistd::chown(path, Some(self.uid), Some(self.gid))
            .with_context(|| format!("giving {} to {}", path.display(), self.name))
    }
}
