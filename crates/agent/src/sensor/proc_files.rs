//! What `/proc` says of processes: at the start for the whole table, and per process where the proc
//! connector only names a pid. Parsing is pure; everything read is bounded and may be gone at any time.

use std::collections::HashMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;

use cordon_model::time::BootNanos;

use super::event::ProcessId;

/// The most that is read of one command line: as much as a kept raw event may have
/// ([`cordon_model::limits::RAW_EVENT_BYTES`]). The kernel itself allows megabytes.
pub(super) const COMMAND_LINE_BYTES: usize = 32 << 10;

/// `/proc/PID/status` has about 60 lines of at most 100 bytes; a group list of 65,536 makes the rest,
/// after all that is read here.
const STATUS_BYTES: usize = 8 << 10;

/// The flag of the kernel's own threads (linux/sched.h).
const PF_KTHREAD: u32 = 0x0020_0000;

/// What `/proc/PID/stat` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stat {
    pub short_name: String,
    /// One letter: `R`, `S`, `D`, `T` (stopped), `t` (traced), `Z`, `X`, `I`.
    pub state: u8,
    pub parent: u32,
    pub session: u32,
    pub is_kernel_thread: bool,
    /// To 10 ms.
    pub started: BootNanos,
}

/// What `/proc/PID/status` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub uid: u32,
    pub effective_uid: u32,
    pub gid: u32,
}

/// All processes now.
pub(crate) fn pids() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// Name, parent and start of `pid`.
pub(crate) fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&read(pid, "stat", 4096)?)
}

/// Who `pid` is, parent included.
pub(crate) fn identity(pid: u32) -> Option<ProcessId> {
    Some(ProcessId { pid, started: stat(pid)?.started })
}

/// Users of `pid`.
pub(crate) fn credentials(pid: u32) -> Option<Credentials> {
    parse_status(&read(pid, "status", STATUS_BYTES)?)
}

/// The arguments of `pid`, each ended by a NUL, at most [`COMMAND_LINE_BYTES`]; empty for a kernel
/// thread.
pub(crate) fn arguments(pid: u32) -> Option<Vec<u8>> {
    read(pid, "cmdline", COMMAND_LINE_BYTES)
}

/// The file that `pid` runs, and whether it is deleted. Only root may ask this of other users'.
pub(crate) fn image(pid: u32) -> Option<(String, bool)> {
    let path = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let path = path.to_string_lossy();
    Some(match path.strip_suffix(" (deleted)") {
        Some(path) => (path.to_owned(), true),
        None => (path.into_owned(), false),
    })
}

/// The working directory of `pid`. Only root may ask this of other users'.
pub(super) fn directory(pid: u32) -> Option<String> {
    Some(fs::read_link(format!("/proc/{pid}/cwd")).ok()?.to_string_lossy().into_owned())
}

/// The network namespace (inode) of `pid`. Only root may ask this of other users'.
pub(crate) fn network_namespace(pid: u32) -> Option<u64> {
    fs::metadata(format!("/proc/{pid}/ns/net")).ok().map(|namespace| namespace.ino())
}

/// The network namespace (inode) of this process.
pub(crate) fn own_network_namespace() -> Option<u64> {
    fs::metadata("/proc/self/ns/net").ok().map(|namespace| namespace.ino())
}

/// Who logged in to start `pid`.
pub(crate) fn login_uid(pid: u32) -> Option<u32> {
    let text = read(pid, "loginuid", 16)?;
    std::str::from_utf8(&text).ok()?.trim().parse().ok().filter(|uid| *uid != u32::MAX)
}

/// The session of a login or a job that `pid` is in, as the kernel's audit numbers them.
pub(crate) fn audit_session(pid: u32) -> Option<u32> {
    let text = read(pid, "sessionid", 16)?;
    std::str::from_utf8(&text).ok()?.trim().parse().ok().filter(|session| *session != u32::MAX)
}

/// The control groups that `pid` is in, a line each: `systemd` has one for each service and session.
pub(crate) fn control_groups(pid: u32) -> Option<String> {
    String::from_utf8(read(pid, "cgroup", 4 << 10)?).ok()
}

/// The listening TCP sockets of this network namespace: port, whether it is an IPv6 socket, process.
/// Only root sees whose other users' are.
pub(super) fn listeners() -> Vec<(u16, bool, ProcessId)> {
    let mut sockets = HashMap::new();
    for (file, is_ipv6) in [("/proc/net/tcp", false), ("/proc/net/tcp6", true)] {
        let text = fs::read_to_string(file).unwrap_or_default();
        for (inode, port) in text.lines().filter_map(parse_listener) {
            sockets.insert(format!("socket:[{inode}]"), (port, is_ipv6));
        }
    }
    let mut found = Vec::new();
    for pid in pids() {
        if sockets.is_empty() {
            break;
        }
        let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        for file in files.filter_map(Result::ok) {
            let Ok(target) = fs::read_link(file.path()) else { continue };
            if let Some((port, is_ipv6)) = target.to_str().and_then(|name| sockets.remove(name)) {
                found.extend(identity(pid).map(|process| (port, is_ipv6, process)));
            }
        }
    }
    found
}

/// Inode and port of a line of `/proc/net/tcp` whose socket listens (state 0A).
fn parse_listener(line: &str) -> Option<(u64, u16)> {
    let mut fields = line.split_ascii_whitespace();
    let (_, port) = fields.nth(1)?.rsplit_once(':')?;
    if fields.nth(1)? != "0A" {
        return None;
    }
    Some((fields.nth(5)?.parse().ok()?, u16::from_str_radix(port, 16).ok()?))
}

fn read(pid: u32, file: &str, limit: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = fs::File::open(format!("/proc/{pid}/{file}")).ok()?;
    file.take(limit as u64).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// `PID (name) state parent group session terminal foreground flags …`; the name may hold anything,
/// brackets and spaces too, so the rest begins after the last bracket. Start is field 22, in hundredths
/// of a second since boot.
pub(crate) fn parse_stat(bytes: &[u8]) -> Option<Stat> {
    let open = bytes.iter().position(|byte| *byte == b'(')?;
    let close = bytes.iter().rposition(|byte| *byte == b')')?;
    let short_name = String::from_utf8_lossy(bytes.get(open + 1..close)?).into_owned();
    let mut fields = std::str::from_utf8(bytes.get(close + 1..)?).ok()?.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    let flags: u32 = fields.nth(9 - 7)?.parse().ok()?;
    let hundredths: u64 = fields.nth(22 - 10)?.parse().ok()?;
    let started = BootNanos(hundredths.checked_mul(10_000_000)?);
    let is_kernel_thread = flags & PF_KTHREAD != 0;
    Some(Stat { short_name, state, parent, session, is_kernel_thread, started })
}

fn parse_status(bytes: &[u8]) -> Option<Credentials> {
    let text = String::from_utf8_lossy(bytes);
    let line = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let number = |line: &str, which| line.split_ascii_whitespace().nth(which)?.parse().ok();
    let (users, groups) = (line("Uid:")?, line("Gid:")?);
    Some(Credentials {
        uid: number(users, 0)?,
        effective_uid: number(users, 1)?,
        gid: number(groups, 0)?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_confuse() {
        let line = b"7 (a) S 9 (b)) R 3 1 2 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 4321 99 100";
        let expected = Stat {
            short_name: "a) S 9 (b)".into(),
            state: b'R',
            parent: 3,
            session: 2,
            is_kernel_thread: false,
            started: BootNanos(43_210_000_000),
        };
        assert_eq!(parse_stat(line), Some(expected));
    }

    #[test]
    fn the_kernels_own_threads_are_told_from_programs_with_their_names() {
        assert!(stat(2).is_none_or(|kthreadd| kthreadd.is_kernel_thread));
        assert!(!stat(std::process::id()).unwrap().is_kernel_thread);
    }

    #[test]
    fn real_and_effective_user_are_told_apart() {
        let text = b"Name:\tsudo\nUid:\t1000\t0\t0\t0\nGid:\t100\t0\t0\t0\n";
        let expected = Credentials { uid: 1000, effective_uid: 0, gid: 100 };
        assert_eq!(parse_status(text), Some(expected));
    }

    #[test]
    fn a_listening_socket_is_told_from_a_connected_one() {
        let line = "0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:0 0 0 0 4711 1 x";
        assert_eq!(parse_listener(line), Some((4711, 8080)));
        assert_eq!(parse_listener(&line.replace(" 0A ", " 01 ")), None);
    }

    #[test]
    fn this_process_is_found_by_the_port_that_it_listens_on() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let found = listeners().into_iter().find(|(listening, ..)| *listening == port).unwrap();
        assert_eq!(found.2.pid, std::process::id());
    }

    #[test]
    fn this_process_is_found() {
        let pid = std::process::id();
        assert!(pids().contains(&pid));
        assert!(arguments(pid).unwrap().ends_with(&[0]));
        let (image, is_deleted) = image(pid).unwrap();
        assert_eq!(image, std::env::current_exe().unwrap().to_string_lossy());
        assert!(!is_deleted);
        assert_eq!(network_namespace(pid), own_network_namespace());
        assert_eq!(stat(pid).unwrap().parent, std::os::unix::process::parent_id());
        assert_eq!(credentials(pid).unwrap().uid, nix::unistd::getuid().as_raw());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse_stat(&bytes);
            let _ = parse_status(&bytes);
            let _ = parse_listener(&String::from_utf8_lossy(&bytes));
        }
    }
}
