//! A helper that is watched system call by system call, and killed at whichever is asked for.
//!
//! The one idea: what a crash can leave behind is what was done before some system call and not what was
//! to be done after it. The kernel stops the helper at the entry of every call; killed there, the call is
//! not made. So trying every call in turn tries every state that a crash can leave, but for what the
//! kernel does within one call.

use std::process::Child;
use std::time::Duration;

use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// The calls by which a thread waits for any of several things.
#[cfg(target_arch = "x86_64")]
pub const POLL: [i64; 2] = [libc::SYS_poll, libc::SYS_ppoll];
#[cfg(not(target_arch = "x86_64"))]
pub const POLL: [i64; 1] = [libc::SYS_ppoll];

/// What became of letting it run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ran {
    /// It stands at the entry of the call that was asked for.
    ToTheCall,
    /// It did everything, and sleeps until something happens.
    ToTheEnd {
        /// Calls that it made on the way.
        calls: usize,
    },
}

/// The helper's own thread, stopped. All of this is done by one thread of the test, as the kernel asks.
pub struct Traced {
    pub process: Child,
    thread: Pid,
    /// A signal that is to be handed on, not swallowed.
    pending: Option<Signal>,
}

impl Drop for Traced {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Traced {
    /// Stops the helper in `process`, which waits for something.
    pub fn seize(process: Child) -> Self {
        let thread = helper_thread(&process);
        ptrace::seize(thread, Options::PTRACE_O_TRACESYSGOOD).unwrap();
        ptrace::interrupt(thread).unwrap();
        waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap();
        Self { process, thread, pending: None }
    }

    /// Lets it run to the entry of its `call`-th system call from here (the first is 1), or until it
    /// sleeps for want of work and `is_done`. `look` is asked at the entry of every call.
    pub fn run_to(
        &mut self,
        call: usize,
        mut is_done: impl FnMut() -> bool,
        mut look: impl FnMut(usize),
    ) -> Ran {
        let mut calls = 0;
        loop {
            let may_sleep = self.waits_for_work();
            ptrace::syscall(self.thread, self.pending.take()).unwrap();
            match self.wait(may_sleep, &mut is_done) {
                None => {
                    // Asleep; stopped again so that it can go on from here.
                    ptrace::interrupt(self.thread).unwrap();
                    waitpid(self.thread, Some(WaitPidFlag::__WALL)).unwrap();
                    return Ran::ToTheEnd { calls };
                }
                Some(status) => match status {
                    WaitStatus::PtraceSyscall(_) => {
                        let stop = ptrace::syscall_info(self.thread).unwrap();
                        if stop.op == libc::PTRACE_SYSCALL_INFO_ENTRY {
                            calls += 1;
                            look(calls);
                            if calls == call {
                                return Ran::ToTheCall;
                            }
                        }
                    }
                    WaitStatus::Stopped(_, signal) => self.pending = Some(signal),
                    WaitStatus::PtraceEvent(..) => {}
                    other => panic!("the helper ended by itself: {other:?}"),
                },
            }
        }
    }

    /// As `kill -9` does; the call at whose entry it stands is not made.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = waitpid(self.thread, Some(WaitPidFlag::__WALL));
        let _ = self.process.wait();
    }

    /// The number of the call at whose entry it stands.
    pub fn call(&self) -> i64 {
        let line = std::fs::read_to_string(self.proc("syscall")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Whether it stands at the entry of the call by which the helper waits for requests and changes.
    fn waits_for_work(&self) -> bool {
        let Ok(line) = std::fs::read_to_string(self.proc("syscall")) else { return false };
        let mut words = line.split_whitespace();
        let number = words.next().and_then(|number| number.parse::<i64>().ok());
        // A probe waits for one socket; the helper for its notifications, its listener and whoever asks.
        let sockets = words
            .nth(1)
            .and_then(|word| u32::from_str_radix(word.trim_start_matches("0x"), 16).ok());
        number.is_some_and(|number| POLL.contains(&number)) && sockets.is_some_and(|many| many > 1)
    }

    /// Waits for the next stop; `None` if it `may_sleep`, does, and is done.
    fn wait(&self, may_sleep: bool, is_done: &mut impl FnMut() -> bool) -> Option<WaitStatus> {
        if !may_sleep {
            return Some(waitpid(self.thread, Some(WaitPidFlag::__WALL)).unwrap());
        }
        loop {
            let flags = WaitPidFlag::__WALL | WaitPidFlag::WNOHANG;
            match waitpid(self.thread, Some(flags)).unwrap() {
                WaitStatus::StillAlive => {}
                status => return Some(status),
            }
            let stat = std::fs::read_to_string(self.proc("stat")).unwrap_or_default();
            // The state follows the name in brackets: S is asleep, t stopped for us.
            let is_asleep = stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('S'));
            if is_asleep && is_done() {
                return None;
            }
            std::thread::sleep(Duration::from_micros(20));
        }
    }

    fn proc(&self, file: &str) -> String {
        format!("/proc/{}/task/{}/{file}", self.process.id(), self.thread)
    }
}

/// Waits until the helper in `process` stands at its gate.
pub fn await_gate(process: &Child) {
    let thread = helper_thread(process);
    let syscall = format!("/proc/{}/task/{thread}/syscall", process.id());
    let at_gate = format!("{} 0x0 ", libc::SYS_read);
    super::until(|| std::fs::read_to_string(&syscall).is_ok_and(|line| line.starts_with(&at_gate)));
}

/// The test harness has a thread of its own; the helper is the one named after its "test".
fn helper_thread(process: &Child) -> Pid {
    let mut found = None;
    super::until(|| {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", process.id())).unwrap();
        found = tasks.flatten().find_map(|task| {
            let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            let is_it = name.starts_with("contain_world::");
            is_it.then(|| task.file_name().to_str().unwrap().parse().unwrap())
        });
        found.is_some()
    });
    Pid::from_raw(found.unwrap())
}
