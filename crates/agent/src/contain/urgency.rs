//! Going before other work on the processor.
//!
//! Ransomware that encrypts on every core must not delay the isolation that stops it. The helper is one
//! thread that sleeps until it is asked, and each thing it does takes a few milliseconds at most, so it
//! takes a real-time place (round robin, the lowest of them); where that is refused, the best ordinary
//! one. The kernel's own limit on real-time work (95 % of a second) stays.

#![allow(unsafe_code, reason = "two calls that take numbers; no dependency wraps them safely")]

use std::io;

/// By which a helper tells a process that it starts who it is.
pub(in crate::contain) const HELPER: &str = "CORDON_HELPER";

/// What this thread got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// Before all ordinary work.
    RealTime,
    /// First among ordinary work.
    First,
    /// Like everybody else.
    Ordinary,
}

/// Puts this thread before others. Processes that it starts are ordinary again.
pub fn go_first() -> Urgency {
    // SAFETY: every field of `sched_param` is a number (zero is valid), and it outlives the call.
    let is_real_time = unsafe {
        let mut parameters: libc::sched_param = std::mem::zeroed();
        parameters.sched_priority = 1;
        libc::sched_setscheduler(
            0,
            libc::SCHED_RR | libc::SCHED_RESET_ON_FORK,
            &raw const parameters,
        )
    } == 0;
    if is_real_time {
        return Urgency::RealTime;
    }
    // SAFETY: takes numbers only; 0 is the calling thread.
    let is_first = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) } == 0;
    if is_first { Urgency::First } else { Urgency::Ordinary }
}

/// Puts this process behind all others, on the processor and at the disk: it can wait.
fn go_last() {
    /// `ioprio_set(2)`: of one process; class 3 (only when nobody else reads), shifted by 13.
    const PROCESS: libc::c_int = 1;
    const IDLE: libc::c_int = 3 << 13;
    // SAFETY: each takes numbers only, or a structure of numbers that outlives the call; 0 is the caller.
    unsafe {
        let parameters: libc::sched_param = std::mem::zeroed();
        libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters);
        libc::setpriority(libc::PRIO_PROCESS, 0, 19);
        libc::syscall(libc::SYS_ioprio_set, PROCESS, 0, IDLE);
    }
}

/// For a process that does nothing but read this machine for the helper: it goes behind all others, ends
/// with the helper, uses so many processor seconds at most, and leaves no core file, in which what it read
/// could be found.
pub fn stand_last(processor_seconds: u64) {
    use nix::sys::resource::{Resource, setrlimit};
    let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
    let _ = nix::sys::prctl::set_dumpable(false);
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    let _ = setrlimit(Resource::RLIMIT_CPU, processor_seconds, processor_seconds);
    go_last();
}

/// Has this process end with the helper that started it, however that one ends: the kernel kills it. Which helper that is.
///
/// # Errors
/// When that helper has ended before the kernel was told, so that nothing would ever end this process; or when none
/// started it.
pub(in crate::contain) fn end_with_helper() -> io::Result<u32> {
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    let helper = std::os::unix::process::parent_id();
    if std::env::var(HELPER).ok() != Some(helper.to_string()) {
        return Err(io::Error::other(
            "it is not started by a helper that runs: it looks for nobody",
        ));
    }
    Ok(helper)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_goes_before_others_and_its_children_do_not() {
        if cordon_tests::lacks_root("going first") {
            return;
        }
        std::thread::spawn(|| {
            assert_ne!(go_first(), Urgency::Ordinary);
            let child = std::process::Command::new("cat").arg("/proc/self/stat").output().unwrap();
            let stat = String::from_utf8(child.stdout).unwrap();
            // Fields after the name in brackets: state is 0, nice 16, policy 38 (proc_pid_stat(5)).
            let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
            assert_eq!(fields[38], "0", "{stat}");
        })
        .join()
        .unwrap();
    }
}
