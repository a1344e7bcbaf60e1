//! What the signer gives up before it touches a key.

use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, geteuid, setgroups, setresgid, setresuid};

/// Why the signer would not be safe.
#[derive(Debug, thiserror::Error)]
#[error("the signer can't {what}: {source}")]
pub struct Unsafe {
    what: &'static str,
    #[source]
    source: nix::Error,
}

/// The user that the signer becomes when it is started as root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Leaves the network (only root can: start the signer as root and name its user), becomes `user` (if root), and forbids itself core dumps, being traced by the same
/// user, and ever gaining a privilege. Returns what could not be given up, in words.
///
/// Call it on the process's only thread: leaving the network concerns the calling thread and those that
/// it starts.
///
/// # Errors
/// If what protects the keys can't be had.
pub fn give_up(user: Option<User>) -> Result<Vec<String>, Unsafe> {
    let mut left = Vec::new();
    umask(Mode::from_bits_truncate(0o077));
    // An empty network namespace: no address, not even loopback. Sockets in the file system still work.
    if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
        left.push(format!("its network namespace is the system's ({error})"));
    }
    match user {
        Some(User { uid, gid }) if geteuid().is_root() => {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            // The kernel forgets it when the user changes: what the supervisor asked for stays.
            let at_parents_end = prctl::get_pdeathsig().map_err(cant("ask for its signal"))?;
            setgroups(&[gid]).map_err(cant("leave its groups"))?;
            setresgid(gid, gid, gid).map_err(cant("change its group"))?;
            setresuid(uid, uid, uid).map_err(cant("change its user"))?;
            prctl::set_pdeathsig(at_parents_end).map_err(cant("keep its signal"))?;
        }
        _ if geteuid().is_root() => left.push("it runs as root".to_owned()),
        _ => {}
    }
    prctl::set_no_new_privs().map_err(cant("forbid itself new privileges"))?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(cant("forbid itself core dumps"))?;
    // After the change of user, which makes a process dumpable or not by itself.
    prctl::set_dumpable(false).map_err(cant("forbid itself to be traced"))?;
    Ok(left)
}

fn cant(what: &'static str) -> impl FnOnce(nix::Error) -> Unsafe {
    move |source| Unsafe { what, source }
}
