//! A deed that is killed before each of its system calls in turn.
//!
//! The deed is a test of the running program itself, started again by name: it waits for a line on its
//! standard input, does what is to be cut short, and ends. It is traced from that line on, and gets
//! `kill -9` at its first system call, then (from the beginning) at its second, and so on until it
//! comes through; past the first few hundred, which hold all that is written, only at some. So nothing
//! depends on luck or speed.

#![allow(dead_code, reason = "each test file uses its part")]

use std::io::Write as _;
use std::process::{Child, Command, Stdio};

use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// More calls than any deed here makes: a deed that never ends fails instead of hanging.
const MOST_CALLS: usize = 100_000;
/// Calls at each of which a deed is killed. What comes later looks at `/proc`, thousands of calls that
/// change nothing; there it is killed at every so many.
const EACH: usize = 200;
const LATER: usize = 499;

/// Kills the deed `test` at its 1st, 2nd… system call until it comes through, calling `before` with the
/// number and the command before each start, and `after` with the number after each end. Gives the
/// number of calls.
pub fn killed_at_every_call(
    test: &str,
    mut before: impl FnMut(usize, &mut Command),
    mut after: impl FnMut(usize),
) -> usize {
    for number in (1..EACH).chain((EACH..MOST_CALLS).step_by(LATER)) {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
        before(number, &mut command);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let came_through = trace(child, number);
        after(number);
        if came_through {
            return number;
        }
    }
    panic!("{test} makes more than {MOST_CALLS} system calls");
}

/// The same, but for what happens there: the deed stands still at its 1st, 2nd… system call while somebody does
/// `meanwhile`, and then goes on to its end, however that is.
pub fn met_at_every_call(
    test: &str,
    mut before: impl FnMut(usize, &mut Command),
    mut meanwhile: impl FnMut(),
    mut after: impl FnMut(usize),
) -> usize {
    for number in (1..EACH).chain((EACH..MOST_CALLS).step_by(LATER)) {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
        before(number, &mut command);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = child.spawn().unwrap();
        let stands_still = stopped_at(&mut child, number);
        if let Some(thread) = stands_still {
            meanwhile();
            ptrace::detach(thread, None).unwrap();
            child.wait().unwrap();
        }
        after(number);
        if stands_still.is_none() {
            return number;
        }
    }
    panic!("{test} makes more than {MOST_CALLS} system calls");
}

/// Kills the deed `test` around each of its system calls whose name is among `numbers`: before the kernel does it, when it has
/// done it and nobody was told yet, and before the next call. The rest as [`killed_at_every_call`]; gives how many such
/// calls there are. One that makes fewer another time comes through.
pub fn killed_around_calls(
    test: &str,
    numbers: &[libc::c_long],
    mut before: impl FnMut(&mut Command),
    mut after: impl FnMut(usize),
) -> usize {
    let start = |before: &mut dyn FnMut(&mut Command)| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
        before(&mut command);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let is_one = |stop: usize, number| stop % 2 == 1 && numbers.contains(&number);
    let mut calls = 0;
    let mut child = start(&mut before);
    let came_through = stopped_when(&mut child, |stop, number| {
        calls += usize::from(is_one(stop, number));
        false
    });
    assert!(came_through.is_none());
    after(0);
    // Counted among themselves: what else it calls depends on what runs on the machine.
    for call in 0..calls {
        for further in 0..3 {
            let mut child = start(&mut before);
            let (mut met, mut met_at) = (0, None);
            let stood_still = stopped_when(&mut child, |stop, number| {
                if is_one(stop, number) {
                    met += 1;
                    if met == call + 1 {
                        met_at = Some(stop);
                    }
                }
                met_at.is_some_and(|at| stop == at + further)
            });
            if let Some(thread) = stood_still {
                child.kill().unwrap();
                let _ = waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap();
                child.wait().unwrap();
            }
            after(3 * call + further);
        }
    }
    calls
}

/// Lets the deed's thread make `calls - 1` system calls and kills `child` at the next; whether it ended
/// before.
fn trace(mut child: Child, calls: usize) -> bool {
    let Some(thread) = stopped_at(&mut child, calls) else { return true };
    child.kill().unwrap();
    let _ = waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap();
    child.wait().unwrap();
    false
}

/// Lets the deed's thread make `calls - 1` system calls; the thread, which stands still before the next. `None`: it ended
/// before, and well.
fn stopped_at(child: &mut Child, calls: usize) -> Option<Pid> {
    stopped_when(child, |stop, _| stop == 2 * calls - 1)
}

/// Lets the deed's thread go on until `is_it` says so of a stop, told by its number (each call stops twice: before, and
/// after) and the call's; the thread, which stands still there. `None`: it ended before, and well.
fn stopped_when(
    child: &mut Child,
    mut is_it: impl FnMut(usize, libc::c_long) -> bool,
) -> Option<Pid> {
    let thread = reading_thread(child);
    ptrace::seize(thread, Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_EXITKILL).unwrap();
    ptrace::interrupt(thread).unwrap();
    let wait = || waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap();
    let _ = wait();
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let call = format!("/proc/{}/task/{thread}/syscall", child.id());
    let mut stops = 0;
    loop {
        ptrace::syscall(thread, None).unwrap();
        match wait() {
            WaitStatus::PtraceSyscall(_) => {
                stops += 1;
                let text = std::fs::read_to_string(&call).unwrap_or_default();
                let number = text.split_whitespace().next().and_then(|it| it.parse().ok());
                if is_it(stops, number.unwrap_or(-1)) {
                    return Some(thread);
                }
            }
            WaitStatus::Exited(..) => {
                assert!(child.wait().unwrap().success(), "the deed failed by itself");
                return None;
            }
            WaitStatus::Signaled(_, signal, _) => panic!("the deed died of {signal}"),
            _ => {}
        }
    }
}

/// The thread that has come up and waits, in read(2) of standard input (number 0 on x86-64, 63 elsewhere).
fn reading_thread(child: &Child) -> Pid {
    loop {
        for thread in std::fs::read_dir(format!("/proc/{}/task", child.id())).unwrap() {
            let path = thread.unwrap().path();
            let call = std::fs::read_to_string(path.join("syscall")).unwrap_or_default();
            let mut words = call.split_whitespace();
            if matches!(words.next(), Some("0" | "63")) && words.next() == Some("0x0") {
                let number = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
                return Pid::from_raw(number);
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// In the deed: waits to be let go; false if this program was not started as one.
pub fn is_deed(variable: &str) -> Option<String> {
    let value = std::env::var(variable).ok()?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    assert_eq!(line, "go\n");
    Some(value)
}
