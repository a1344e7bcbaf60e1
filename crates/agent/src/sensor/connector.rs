//! The fallback where eBPF is refused: the kernel's proc connector, a netlink multicast that names each
//! process that forks, begins a program, or ends. It gives pids only; the rest is read from `/proc`,
//! if the process is still there and we may. Before Linux 6.6 it needs `CAP_NET_ADMIN` to open; always
//! the first network namespace: the kernel speaks in no other.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use cordon_model::time::BootNanos;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, NetlinkAddr, bind, recvfrom, sendto, setsockopt, sockopt};
use nix::time::{ClockId, clock_gettime};

use super::kernel::connector_socket;

/// `CN_IDX_PROC` and `CN_VAL_PROC` (linux/connector.h).
const PROCESSES: [u32; 2] = [1, 1];
/// `PROC_CN_MCAST_LISTEN` (linux/cn_proc.h).
const LISTEN: u32 = 1;
/// The socket's buffer: a message is 76 bytes and about 768 in the kernel's accounting; a process makes
/// three. At 1,640 starts a second 8 MiB last 2 s.
const BUFFER_BYTES: usize = 8 << 20;
/// How long the kernel may take to answer that it listens: it answers within the send.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// What the connector says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message {
    /// The kernel's answer to our wish to listen: an error number, or 0.
    Answer(u32),
    Forked {
        parent: u32,
        child: u32,
    },
    Started {
        pid: u32,
    },
    Exited {
        pid: u32,
        status: u32,
    },
    /// Of threads, or something that we do not need.
    Other,
}

/// What came out of one reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reading {
    /// That many messages are missing before this one.
    pub missing: u64,
    /// `None` for what could not be read.
    pub message: Option<Message>,
    /// When the kernel told of it.
    pub at: Option<Told>,
}

/// A time of the kernel's, which does not count while the machine sleeps (`CLOCK_MONOTONIC`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told(u64);

impl Told {
    /// The same since the machine was started, as the starts of processes are told. To be asked soon: a sleep of the
    /// machine's in between is counted too.
    pub fn of_boot(self) -> BootNanos {
        let nanos = |clock| {
            clock_gettime(clock).map_or(0, |time| {
                let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
                seconds * 1_000_000_000 + u64::try_from(time.tv_nsec()).unwrap_or(0)
            })
        };
        let (counted, boot) = (nanos(ClockId::CLOCK_MONOTONIC), nanos(ClockId::CLOCK_BOOTTIME));
        BootNanos(self.0.saturating_add(boot.saturating_sub(counted)))
    }
}

/// The open connector.
pub(crate) struct Connector {
    socket: OwnedFd,
    /// The kernel numbers its messages per processor.
    numbers: HashMap<u32, u32>,
    buffer: Vec<u8>,
}

impl Connector {
    /// Opens the connector and waits until the kernel says that it listens.
    pub fn open() -> io::Result<Self> {
        let socket = connector_socket()?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 1 << (PROCESSES[0] - 1)))?;
        // Above the system's limit, which root may pass.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &BUFFER_BYTES);
        let wish = listen_message();
        sendto(socket.as_raw_fd(), &wish, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        let mut connector = Self { socket, numbers: HashMap::new(), buffer: vec![0; 4096] };
        let began = std::time::Instant::now();
        while let Some(left) = ANSWER_WITHIN.checked_sub(began.elapsed()) {
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            poll(&mut [PollFd::new(connector.socket.as_fd(), PollFlags::POLLIN)], timeout)?;
            while let Some(reading) = connector.next() {
                match reading.message {
                    Some(Message::Answer(0)) => return Ok(connector),
                    Some(Message::Answer(error)) => {
                        return Err(io::Error::from_raw_os_error(error.cast_signed()));
                    }
                    _ => {}
                }
            }
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "the kernel did not answer"))
    }

    /// The next thing to know, if there is one.
    pub fn next(&mut self) -> Option<Reading> {
        loop {
            let received = recvfrom::<NetlinkAddr>(self.socket.as_raw_fd(), &mut self.buffer);
            let (length, sender) = match received {
                Ok(received) => received,
                // The socket's buffer was full: the numbers of the next messages say how many.
                Err(Errno::ENOBUFS | Errno::EINTR) => continue,
                Err(_) => return None,
            };
            // Any process may send to a netlink socket; the kernel is port 0.
            if sender.is_none_or(|sender| sender.pid() != 0) {
                continue;
            }
            let bytes = self.buffer.get(..length).unwrap_or_default();
            let Some((processor, number, message)) = parse(bytes) else {
                return Some(Reading { missing: 0, message: None, at: None });
            };
            let last = self.numbers.get(&processor).copied();
            let mut missing = 0;
            // An answer to whoever begins to listen is told to all: newer kernels count it with the rest.
            let is_counted = !matches!(message, Message::Answer(_))
                || last.is_some_and(|last| number == last.wrapping_add(1));
            if is_counted {
                self.numbers.insert(processor, number);
                missing = last.map_or(0, |last| number.wrapping_sub(last).wrapping_sub(1)).into();
            }
            return Some(Reading { missing, message: Some(message), at: time(bytes) });
        }
    }
}

impl AsFd for Connector {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// `nlmsghdr`, `cn_msg` and the wish to listen.
fn listen_message() -> Vec<u8> {
    const LENGTH: u32 = 16 + 20 + 4;
    const NLMSG_DONE: u16 = 3;
    let mut bytes = Vec::with_capacity(LENGTH as usize);
    bytes.extend(LENGTH.to_ne_bytes());
    bytes.extend(NLMSG_DONE.to_ne_bytes());
    bytes.extend([0; 2 + 4]); // flags, sequence
    bytes.extend(std::process::id().to_ne_bytes());
    bytes.extend(PROCESSES.map(u32::to_ne_bytes).concat());
    bytes.extend([0; 4 + 4]); // sequence, acknowledgement
    bytes.extend(4_u16.to_ne_bytes());
    bytes.extend([0; 2]);
    bytes.extend(LISTEN.to_ne_bytes());
    bytes
}

/// When the kernel told of it: [`parse`] says where that is.
fn time(bytes: &[u8]) -> Option<Told> {
    Some(Told(u64::from_ne_bytes(bytes.get(44..52)?.try_into().ok()?)))
}

/// Processor, the message's number on it, and the message. After `nlmsghdr` (16 bytes) and `cn_msg`
/// (20: two ids, number, acknowledgement, length, flags) comes `proc_event`: what, processor, time,
/// then by kind.
fn parse(bytes: &[u8]) -> Option<(u32, u32, Message)> {
    let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    if [word(16)?, word(20)?] != PROCESSES {
        return None;
    }
    let number = word(24)?;
    let (what, processor) = (word(36)?, word(40)?);
    let body = |at: usize| word(36 + 16 + at);
    let message = match what {
        0 => Message::Answer(body(0)?),
        // Parent's thread and process, child's thread and process.
        1 if body(8)? == body(12)? => Message::Forked { parent: body(4)?, child: body(12)? },
        2 => Message::Started { pid: body(4)? },
        0x8000_0000 if body(0)? == body(4)? => Message::Exited { pid: body(4)?, status: body(8)? },
        _ => Message::Other,
    };
    Some((processor, number, message))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn who_begins_to_listen_is_no_loss_of_those_who_listen_already() {
        let Ok(mut first) = Connector::open() else {
            return println!("not tried: the kernel tells this process of no others");
        };
        let mut missing = 0;
        let mut heard = 0;
        for _ in 0..50 {
            drop(Connector::open().unwrap());
            std::process::Command::new("/bin/true").status().unwrap();
            while let Some(reading) = first.next() {
                (heard, missing) = (heard + 1, missing + reading.missing);
            }
        }
        assert!(heard > 100 && missing == 0, "{missing} beside {heard}");
    }

    #[test]
    fn a_fork_is_told_with_when_it_was_also_of_who_is_gone() {
        let Ok(mut connector) = Connector::open() else {
            return println!("not tried: the kernel tells this process of no others");
        };
        let mut child = std::process::Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let known = crate::sensor::proc_files::identity(child.id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        while let Some(reading) = connector.next() {
            if let Some(Message::Forked { child, .. }) = reading.message
                && child == known.pid
            {
                let told = reading.at.unwrap().of_boot();
                // The start is rounded down to a hundredth of a second.
                let late = told.0.checked_sub(known.started.0).unwrap();
                assert!(late < 20_000_000, "{late}");
                return;
            }
        }
        panic!("nobody told of it");
    }

    fn message(what: u32, body: &[u32]) -> Vec<u8> {
        let mut bytes = vec![0; 16];
        bytes.extend(PROCESSES.map(u32::to_ne_bytes).concat());
        bytes.extend([7_u32, 0, 0].map(u32::to_ne_bytes).concat());
        bytes.extend([what, 3, 0, 0].map(u32::to_ne_bytes).concat());
        bytes.extend(body.iter().flat_map(|word| word.to_ne_bytes()));
        bytes
    }

    #[test]
    fn forks_starts_and_ends_of_processes_are_told_from_those_of_threads() {
        let read = |what, body: &[u32]| parse(&message(what, body)).unwrap();
        let forked = Message::Forked { parent: 10, child: 20 };
        assert_eq!(read(1, &[11, 10, 20, 20]), (3, 7, forked));
        assert_eq!(read(1, &[11, 10, 21, 20]).2, Message::Other);
        assert_eq!(read(2, &[20, 20]).2, Message::Started { pid: 20 });
        assert_eq!(
            read(0x8000_0000, &[20, 20, 256, 17]).2,
            Message::Exited { pid: 20, status: 256 }
        );
        assert_eq!(read(0x8000_0000, &[21, 20, 0, 17]).2, Message::Other);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..128)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn any_body_is_read_or_refused(what in any::<u32>(), body in prop::collection::vec(any::<u32>(), 0..6)) {
            let _ = parse(&message(what, &body));
        }
    }
}
