//! What runs for an account: its own processes, and those that became another user after it signed in.
//!
//! The kernel remembers who signed in (the audit login number) through `su` and `sudo`, so a root shell
//! that grew out of the account's session is found too.

use cordon_model::finding::ProcessRef;

use crate::sensor::proc_files;

/// Processes that are listed: a desktop session has some two hundred. What is more is still counted as
/// "or more".
pub(super) const LISTED: usize = 256;

/// The processes of user `uid`; of user 0 none, for those are the system's.
pub(super) fn of(uid: u32) -> Vec<ProcessRef> {
    if uid == 0 {
        return Vec::new();
    }
    let is_its = |pid: u32| {
        proc_files::login_uid(pid) == Some(uid)
            || proc_files::credentials(pid)
                .is_some_and(|user| user.uid == uid || user.effective_uid == uid)
    };
    let describe = |pid: u32| {
        let started = proc_files::stat(pid)?.started;
        let image = proc_files::image(pid).map(|(path, _)| path).unwrap_or_default();
        Some(ProcessRef { pid, started, image })
    };
    let own = std::process::id();
    let mut found: Vec<ProcessRef> = proc_files::pids()
        .into_iter()
        .filter(|pid| *pid > 1 && *pid != own && is_its(*pid))
        .filter_map(describe)
        .take(LISTED)
        .collect();
    found.sort_by_key(|process| process.pid);
    found
}
