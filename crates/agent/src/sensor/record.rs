//! The records that the kernel program writes, as Rust values: the other side of `bpf/sensor.bpf.c`.
//! Pure: bytes in, a record or a reason out. Text is borrowed from the ring buffer's own memory.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cordon_model::time::BootNanos;

/// What one record says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Record<'a> {
    Forked(Forked),
    Started(Box<Started<'a>>),
    Exited(Exited),
    Connection(SocketState<'a>),
}

/// A process was made by another. It still runs that one's program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Forked {
    pub started: BootNanos,
    pub parent_started: BootNanos,
    pub pid: u32,
    pub parent: u32,
}

/// A process began a program (`execve`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Started<'a> {
    pub network_namespace: u32,
    pub time: BootNanos,
    pub started: BootNanos,
    pub parent_started: BootNanos,
    pub cgroup: u64,
    pub pid: u32,
    pub parent: u32,
    pub uid: u32,
    pub effective_uid: u32,
    pub gid: u32,
    pub login_uid: u32,
    pub image: Path,
    pub directory: Path,
    pub file_name: Cow<'a, str>,
    pub short_name: Cow<'a, str>,
    /// The arguments as they lie in memory: each ended by a NUL, the last one perhaps cut.
    pub arguments: &'a [u8],
    /// How many bytes the arguments have in the process; more than are here if they were cut.
    pub arguments_total: u32,
}

/// A path as the kernel program found it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Path {
    /// Absolute, unless it is cut or below no root.
    pub text: String,
    pub is_deleted: bool,
    pub is_cut: bool,
}

/// A process ended, with all its threads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Exited {
    pub time: BootNanos,
    pub started: BootNanos,
    pub pid: u32,
    /// As `waitpid` gives it: the exit code times 256, or the signal.
    pub status: i32,
}

/// What happened to a TCP socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SocketEvent {
    Outgoing,
    Incoming,
    Listening,
}

/// A TCP socket's new state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SocketState<'a> {
    pub event: SocketEvent,
    pub network_namespace: u32,
    pub time: BootNanos,
    /// Start of the process; zero for [`SocketEvent::Incoming`], whose process the kernel does not say.
    pub started: BootNanos,
    pub pid: u32,
    pub uid: u32,
    pub local: (IpAddr, u16),
    pub remote: (IpAddr, u16),
    pub short_name: Cow<'a, str>,
}

/// Why a record was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum RecordError {
    #[error("the record ends after {0} bytes, inside its fields")]
    Short(usize),
    #[error("records of kind {0} are unknown")]
    Kind(u32),
    #[error("the socket event or address family {0} is unknown")]
    Socket(u16),
}

const ARGUMENTS_UNREADABLE: u32 = 2;
const IMAGE_FLAGS: u32 = 4;
const DIRECTORY_FLAGS: u32 = 32;
const CUT: u32 = 1;
const DELETED: u32 = 2;
const DETACHED: u32 = 4;

/// Reads one record.
pub(super) fn parse(bytes: &[u8]) -> Result<Record<'_>, RecordError> {
    let mut rest = Fields { bytes, at: 0 };
    match rest.u32()? {
        1 => {
            rest.take(4 + 8)?;
            let (started, parent_started) = (BootNanos(rest.u64()?), BootNanos(rest.u64()?));
            let (pid, parent) = (rest.u32()?, rest.u32()?);
            Ok(Record::Forked(Forked { started, parent_started, pid, parent }))
        }
        2 => Ok(Record::Started(Box::new(started(rest)?))),
        3 => {
            rest.take(4)?;
            let (time, started) = (BootNanos(rest.u64()?), BootNanos(rest.u64()?));
            let (pid, status) = (rest.u32()?, rest.u32()?.cast_signed());
            Ok(Record::Exited(Exited { time, started, pid, status }))
        }
        4 => Ok(Record::Connection(socket_state(rest)?)),
        kind => Err(RecordError::Kind(kind)),
    }
}

fn started(mut rest: Fields<'_>) -> Result<Started<'_>, RecordError> {
    let network_namespace = rest.u32()?;
    let time = BootNanos(rest.u64()?);
    let started = BootNanos(rest.u64()?);
    let parent_started = BootNanos(rest.u64()?);
    let cgroup = rest.u64()?;
    let (pid, parent) = (rest.u32()?, rest.u32()?);
    let (uid, effective_uid, gid) = (rest.u32()?, rest.u32()?, rest.u32()?);
    let login_uid = rest.u32()?;
    let flags = rest.u32()?;
    let arguments_total = rest.u32()?;
    let image_bytes = rest.u16()?;
    let directory_bytes = rest.u16()?;
    let file_name_bytes = rest.u16()?;
    let arguments_bytes = rest.u16()?;
    rest.take(8)?; // the kernel side's own count, and its filler
    let short_name = text(rest.take(16)?);
    let image = path(rest.take(image_bytes.into())?, flags / IMAGE_FLAGS);
    let directory = path(rest.take(directory_bytes.into())?, flags / DIRECTORY_FLAGS);
    let file_name = text(rest.take(file_name_bytes.into())?);
    let arguments = rest.take(arguments_bytes.into())?;
    let arguments_total =
        if flags & ARGUMENTS_UNREADABLE != 0 { arguments_total.max(1) } else { arguments_total };
    Ok(Started {
        network_namespace,
        time,
        started,
        parent_started,
        cgroup,
        pid,
        parent,
        uid,
        effective_uid,
        gid,
        login_uid,
        image,
        directory,
        file_name,
        short_name,
        arguments,
        arguments_total,
    })
}

fn socket_state(mut rest: Fields<'_>) -> Result<SocketState<'_>, RecordError> {
    let network_namespace = rest.u32()?;
    let (time, started) = (BootNanos(rest.u64()?), BootNanos(rest.u64()?));
    let (pid, uid) = (rest.u32()?, rest.u32()?);
    let event = match rest.u16()? {
        1 => SocketEvent::Outgoing,
        2 => SocketEvent::Incoming,
        3 => SocketEvent::Listening,
        other => return Err(RecordError::Socket(other)),
    };
    let family = rest.u16()?;
    let (local_port, remote_port) = (rest.u16()?, rest.u16()?);
    let local = address(family, rest.take(16)?)?;
    let remote = address(family, rest.take(16)?)?;
    let short_name = text(rest.take(16)?);
    Ok(SocketState {
        event,
        network_namespace,
        time,
        started,
        pid,
        uid,
        local: (local, local_port),
        remote: (remote, remote_port),
        short_name,
    })
}

/// Family numbers as of `sys/socket.h`: 2 is IPv4, 10 is IPv6. `bytes` are 16, in network order.
fn address(family: u16, bytes: &[u8]) -> Result<IpAddr, RecordError> {
    let bytes: [u8; 16] = bytes.try_into().map_err(|_| RecordError::Short(bytes.len()))?;
    match family {
        2 => Ok(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into()),
        10 => Ok(Ipv6Addr::from(bytes).to_canonical()),
        other => Err(RecordError::Socket(other)),
    }
}

/// Text up to its first NUL; what is not UTF-8 is replaced.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default())
}

/// Turns names from the leaf up, each with its NUL, into a path from the root down.
fn path(names: &[u8], flags: u32) -> Path {
    let mut text = String::with_capacity(names.len() + 1);
    let is_rooted = flags & (CUT | DETACHED) == 0;
    let names = names.strip_suffix(&[0]).unwrap_or(names);
    if is_rooted && names.is_empty() {
        text.push('/');
    }
    for (number, name) in names.rsplit(|byte| *byte == 0).filter(|n| !n.is_empty()).enumerate() {
        if is_rooted || number > 0 {
            text.push('/');
        }
        text.push_str(&String::from_utf8_lossy(name));
    }
    Path { text, is_deleted: flags & DELETED != 0, is_cut: flags & CUT != 0 }
}

/// A cursor over one record.
struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], RecordError> {
        let end = self.at.saturating_add(count);
        let taken = self.bytes.get(self.at..end).ok_or(RecordError::Short(self.bytes.len()))?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let length = self.bytes.len();
        self.take(N)?.try_into().map_err(|_| RecordError::Short(length))
    }

    fn u16(&mut self) -> Result<u16, RecordError> {
        self.array().map(u16::from_ne_bytes)
    }

    fn u32(&mut self) -> Result<u32, RecordError> {
        self.array().map(u32::from_ne_bytes)
    }

    fn u64(&mut self) -> Result<u64, RecordError> {
        self.array().map(u64::from_ne_bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The bytes of a start, as the kernel program lays them out.
    fn start(image: &[u8], directory: &[u8], name: &[u8], arguments: &[u8], flags: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend([2_u32, 4_026_531_840].map(u32::to_ne_bytes).concat());
        bytes.extend([30_u64, 20, 10, 77].map(u64::to_ne_bytes).concat());
        let total = u32::try_from(arguments.len()).unwrap();
        let words = [501_u32, 500, 1000, 0, 100, u32::MAX, flags, total];
        bytes.extend(words.map(u32::to_ne_bytes).concat());
        for part in [image, directory, name, arguments] {
            bytes.extend(u16::try_from(part.len()).unwrap().to_ne_bytes());
        }
        bytes.extend([0; 8]);
        bytes.extend(*b"cat\0............");
        for part in [image, directory, name, arguments] {
            bytes.extend(part);
        }
        bytes
    }

    #[test]
    fn a_start_is_read_field_by_field() {
        let bytes = start(b"cat\0bin\0usr\0", b"", b"./cat\0", b"cat\0a b\0", 0);
        let Record::Started(start) = parse(&bytes).unwrap() else { panic!("not a start") };
        assert_eq!((start.pid, start.parent, start.uid, start.effective_uid), (501, 500, 1000, 0));
        assert_eq!((start.time.0, start.started.0, start.parent_started.0), (30, 20, 10));
        assert_eq!((start.cgroup, start.network_namespace), (77, 4_026_531_840));
        assert_eq!(start.image.text, "/usr/bin/cat");
        assert_eq!(start.directory.text, "/");
        assert_eq!((&*start.file_name, &*start.short_name), ("./cat", "cat"));
        assert_eq!(start.arguments, b"cat\0a b\0");
    }

    #[test]
    fn a_file_below_no_root_and_a_deleted_one_say_so() {
        let bytes = start(b"memfd:x\0", b"gone\0tmp\0", b"", b"", 16 | 64);
        let Record::Started(start) = parse(&bytes).unwrap() else { panic!("not a start") };
        assert_eq!(start.image.text, "memfd:x");
        assert!(!start.image.is_deleted && start.directory.is_deleted);
        assert_eq!(start.directory.text, "/tmp/gone");
    }

    #[test]
    fn a_torn_start_is_refused_at_every_length() {
        let bytes = start(b"cat\0bin\0", b"root\0", b"cat\0", b"cat\0", 0);
        for length in 0..bytes.len() {
            assert_eq!(parse(&bytes[..length]), Err(RecordError::Short(length)));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_record_or_a_reason(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn any_bytes_of_a_known_kind_are_a_record_or_a_reason(
            kind in 0_u32..6,
            bytes in prop::collection::vec(any::<u8>(), 0..512),
        ) {
            let mut record = kind.to_ne_bytes().to_vec();
            record.extend(bytes);
            let _ = parse(&record);
        }

        #[test]
        fn a_path_comes_back_whole(names in prop::collection::vec("[^/\0]{1,40}", 0..12)) {
            let mut leaf_first = Vec::new();
            for name in names.iter().rev() {
                leaf_first.extend(name.as_bytes());
                leaf_first.push(0);
            }
            let expected = format!("/{}", names.join("/"));
            prop_assert_eq!(path(&leaf_first, 0).text, expected);
        }
    }
}
