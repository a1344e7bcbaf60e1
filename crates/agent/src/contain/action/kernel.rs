//! The few calls to the kernel that no dependency wraps: leases on files, asking whether a program could
//! be started, and giving up the power to start any, or to do anything but read. **The only file of the measures with `unsafe` in
//! it.**

#![allow(unsafe_code, reason = "each call takes numbers and pointers to values that outlive it")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use nix::errno::Errno;

/// linux/fcntl.h, `F_LINUX_SPECIFIC_BASE` and asm-generic/fcntl.h. The libc crate has these for some
/// platforms only.
const F_SETLEASE: libc::c_int = 1024;
const F_SETSIG: libc::c_int = 10;
/// linux/fcntl.h, since Linux 6.14.
const AT_EXECVE_CHECK: libc::c_int = 0x10000;

/// Whether nobody can write to a file while we read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadLease {
    /// Nobody has it open for writing, and who wants to waits until we close it.
    Taken,
    /// Somebody has it open for writing.
    OpenElsewhere,
    /// The filesystem has no leases.
    NotHere,
}

/// Takes a lease on a file that is open for reading only. It ends when the file is closed, and after
/// `/proc/sys/fs/lease-break-time` (45 s) of somebody's waiting.
pub fn lease_for_reading(file: &impl AsFd) -> ReadLease {
    let fd = file.as_fd().as_raw_fd();
    // Who waits is told to us by a signal; the default one would end this process. This one is ignored
    // unless somebody asked for it, and nobody here does.
    // SAFETY: takes numbers only, and `fd` is open.
    unsafe { libc::fcntl(fd, F_SETSIG, libc::SIGURG) };
    // SAFETY: takes numbers only, and `fd` is open.
    match Errno::result(unsafe { libc::fcntl(fd, F_SETLEASE, libc::F_RDLCK) }) {
        Ok(_) => ReadLease::Taken,
        Err(Errno::EAGAIN) => ReadLease::OpenElsewhere,
        Err(_) => ReadLease::NotHere,
    }
}

/// Whether this process might start the program at `path` now, asked without starting it. `None` where
/// the kernel can't be asked (before Linux 6.14).
///
/// # Errors
/// If the file can't be looked at: it is gone.
pub fn could_start(path: &Path) -> io::Result<Option<bool>> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let arguments = [path.as_ptr(), std::ptr::null()];
    let environment = [std::ptr::null::<libc::c_char>()];
    let flags = AT_EXECVE_CHECK | libc::AT_SYMLINK_NOFOLLOW;
    // SAFETY: the strings and the two lists, each ended by a null, outlive the call. A kernel that knows
    // the flag never replaces this process; one that does not refuses the flag (EINVAL) before it looks
    // at anything else.
    let result = unsafe {
        libc::syscall(
            libc::SYS_execveat,
            libc::AT_FDCWD,
            path.as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            flags,
        )
    };
    match Errno::result(result) {
        Ok(_) => Ok(Some(true)),
        Err(Errno::EPERM | Errno::EACCES) => Ok(Some(false)),
        Err(Errno::EINVAL | Errno::ENOSYS) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xC000_003E; // AUDIT_ARCH_X86_64 (linux/audit.h)
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xC000_00B7; // AUDIT_ARCH_AARCH64

/// The calls by which a process makes another or becomes one.
#[cfg(target_arch = "x86_64")]
const BEGETTING: &[libc::c_long] = &[
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_execve,
    libc::SYS_execveat,
];
#[cfg(target_arch = "aarch64")]
const BEGETTING: &[libc::c_long] =
    &[libc::SYS_clone, libc::SYS_clone3, libc::SYS_execve, libc::SYS_execveat];

/// Gives up, for this thread and for ever, forking, making threads and starting programs: the kernel
/// answers `EPERM`.
///
/// # Errors
/// What the kernel says; the power is then kept.
pub fn give_up_begetting() -> io::Result<()> {
    confine(&filter())
}

/// Has the kernel judge this thread's calls by `filter` from now on, for ever.
fn confine(filter: &[libc::sock_filter]) -> io::Result<()> {
    nix::sys::prctl::set_no_new_privs()?;
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(io::Error::other)?,
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: the program and its list outlive the call; the kernel copies and checks both.
    let result =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    Errno::result(result).map(drop).map_err(Into::into)
}

/// What a reader of hostile bytes needs whatever it is given: memory, its end, and what the language's runtime asks.
const TO_THINK: &[libc::c_long] = &[
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_yield,
    libc::SYS_sigaltstack,
];

/// Gives up, for this thread and for ever, everything but reading its standard input, writing to its standard
/// output and error, and memory that holds no code: the kernel answers `EPERM` to the rest. What is open under
/// another number could still be mapped: see [`close_all_others`].
///
/// # Errors
/// What the kernel says; the power is then kept.
pub fn give_up_all_but_reading() -> io::Result<()> {
    confine(&reading_only())
}

/// Closes, for the whole process, everything that is open but its standard input, output and error. For a process that
/// is about to [give up all but those](give_up_all_but_reading).
///
/// # Errors
/// What the kernel says (before Linux 5.9 it can't).
pub fn close_all_others() -> io::Result<()> {
    // SAFETY: the call has no pointers. Whatever in this process owns one of these descriptors is told `EBADF` from now
    // on, and no number of them is given away again where nothing is opened any more.
    if unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// In the words of linux/filter.h: as [`filter`], with everything refused that is not named.
fn reading_only() -> Vec<libc::sock_filter> {
    // seccomp_data: the low halves of the first and the third argument (both architectures begin with those).
    const FIRST_AT: u32 = 16;
    const THIRD_AT: u32 = 32;
    const HAS_BITS: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
    let number = |call: libc::c_long| u32::try_from(call).unwrap_or(u32::MAX);
    let allow = || step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW);
    let mut filter = of_our_architecture();
    for call in TO_THINK {
        filter.extend([step(IS_EQUAL, 0, 1, number(*call)), allow()]);
    }
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        let executable = libc::PROT_EXEC.cast_unsigned();
        filter.extend([
            step(IS_EQUAL, 0, 4, number(call)),
            step(LOAD, 0, 0, THIRD_AT),
            step(HAS_BITS, 0, 1, executable),
            refuse(),
            allow(),
        ]);
    }
    for (call, descriptors) in [(libc::SYS_read, [0, 0]), (libc::SYS_write, [1, 2])] {
        filter.extend([
            step(IS_EQUAL, 0, 5, number(call)),
            step(LOAD, 0, 0, FIRST_AT),
            step(IS_EQUAL, 1, 0, descriptors[0]),
            step(IS_EQUAL, 0, 1, descriptors[1]),
            allow(),
            refuse(),
        ]);
    }
    filter.push(refuse());
    filter
}

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const IS_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const IS_ABOVE: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

fn step(code: u16, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

fn refuse() -> libc::sock_filter {
    step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned())
}

/// Another architecture than ours is refused, and the x32 calls above 2³⁰; the call's number is loaded then.
fn of_our_architecture() -> Vec<libc::sock_filter> {
    const NUMBER_AT: u32 = 0;
    const ARCHITECTURE_AT: u32 = 4;
    const X32: u32 = 0x4000_0000;
    vec![
        step(LOAD, 0, 0, ARCHITECTURE_AT),
        step(IS_EQUAL, 1, 0, ARCHITECTURE),
        refuse(),
        step(LOAD, 0, 0, NUMBER_AT),
        step(IS_ABOVE, 0, 1, X32),
        refuse(),
    ]
}

/// In the words of linux/filter.h: the calls of [`BEGETTING`] are refused; the rest is allowed.
fn filter() -> Vec<libc::sock_filter> {
    let mut filter = of_our_architecture();
    for number in BEGETTING {
        // Call numbers are below 1,000.
        filter.push(step(IS_EQUAL, 0, 1, u32::try_from(*number).unwrap_or(u32::MAX)));
        filter.push(refuse());
    }
    filter.push(step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    filter
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_file_that_somebody_writes_to_gives_no_lease() {
        let mut written = tempfile::NamedTempFile::new().unwrap();
        let read = std::fs::File::open(written.path()).unwrap();
        if lease_for_reading(&read) == ReadLease::NotHere {
            cordon_tests::cannot_be_had("no leases on this filesystem");
            return;
        }
        assert_eq!(lease_for_reading(&read), ReadLease::OpenElsewhere);
        written.write_all(b"x").unwrap();
        let path = written.into_temp_path();
        assert_eq!(lease_for_reading(&read), ReadLease::Taken);
        drop(path);
    }

    #[test]
    fn whether_a_program_could_start_is_asked_without_starting_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        std::fs::write(&path, "#!/bin/sh\n").unwrap();
        let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(&path, mode(0o755)).unwrap();
        let Some(could) = could_start(&path).unwrap() else {
            cordon_tests::cannot_be_had("this kernel can't be asked");
            return;
        };
        assert!(could);
        std::fs::set_permissions(&path, mode(0o644)).unwrap();
        assert_eq!(could_start(&path).unwrap(), Some(false));
        assert!(could_start(&folder.path().join("gone")).is_err());
    }

    #[test]
    fn who_gave_up_begetting_can_neither_fork_nor_start_a_program_nor_take_it_back() {
        std::thread::spawn(|| {
            give_up_begetting().unwrap();
            let error = std::process::Command::new("/bin/true").spawn().unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EPERM));
            assert!(std::thread::Builder::new().spawn(|| {}).is_err());
            assert!(std::fs::read("/proc/self/stat").is_ok(), "all else goes on");
        })
        .join()
        .unwrap();
    }

    #[test]
    fn who_only_reads_opens_nothing_connects_nowhere_and_starts_nothing() {
        use std::os::fd::AsRawFd as _;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let open = std::fs::File::open("/etc/hostname").unwrap();
        let refused = std::thread::spawn(move || {
            give_up_all_but_reading().unwrap();
            let is_refused = |error: io::Error| error.raw_os_error() == Some(libc::EPERM);
            let mut byte = [0];
            let through = |result: nix::Result<usize>| result == Err(Errno::EPERM);
            [
                std::fs::File::open("/etc/hostname").is_err_and(is_refused),
                std::net::TcpStream::connect(at).is_err_and(is_refused),
                std::process::Command::new("/bin/true").spawn().is_err(),
                through(nix::unistd::read(&open, &mut byte)),
                through(nix::unistd::write(&open, &byte)),
                nix::sys::signal::kill(nix::unistd::Pid::this(), None) == Err(Errno::EPERM),
                nix::unistd::dup(&open).is_err(),
                open.as_raw_fd() > 2 && vec![1_u8; 64 << 20].iter().all(|byte| *byte == 1),
            ]
        });
        assert_eq!(refused.join().unwrap(), [true; 8]);
    }
}
