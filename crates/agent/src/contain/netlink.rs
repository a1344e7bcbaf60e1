//! Netlink messages as bytes, and a socket that exchanges them with the kernel of this namespace.
//!
//! The one idea: a request is written and the answer read in the same process, so that nothing is
//! started, found on a path or parsed from text between an order and the kernel. Everything here is
//! safe code: messages are built and taken apart as byte slices, never by casting structures.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, getsockname,
    recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

/// `NLM_F_REQUEST`: this goes to the kernel.
pub(super) const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`: answer even when all is well.
pub(super) const ACK: u16 = 0x4;
/// `NLM_F_ROOT | NLM_F_MATCH`: list everything.
pub(super) const DUMP: u16 = 0x300;
/// `NLM_F_CREATE`: make it if it is not there.
pub(super) const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`: at the end of the list.
pub(super) const APPEND: u16 = 0x800;
/// `NLM_F_DUMP_INTR`: the list changed while it was read.
const DUMP_INTERRUPTED: u16 = 0x10;

/// `NLMSG_ERROR`, which also carries acknowledgements (error 0).
const ERROR: u16 = 2;
/// `NLMSG_DONE`: the end of a list.
const DONE: u16 = 3;

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;

/// The largest datagram read. The kernel builds dumps in buffers of at most 32 KiB
/// (`NLMSG_GOODSIZE` and the reader's own buffer); twice that leaves room.
const DATAGRAM_BYTES: usize = 64 << 10;

/// Send buffer asked for: a transaction of the most pieces that a ruleset may have (4,096 in four rules
/// each of 400 bytes, 6.6 MB), with room.
const SEND_BUFFER_BYTES: usize = 8 << 20;

/// How often a list that changed while being read is read again before giving up.
const DUMP_ATTEMPTS: usize = 8;

/// Why the kernel could not be asked, or what it said.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// It said no.
    #[error("{doing}: the kernel refused: {errno}")]
    Refused {
        /// What was asked.
        doing: &'static str,
        /// Its error.
        errno: Errno,
    },
    /// Its answer can't be read.
    #[error("{doing}: the kernel's answer is not understood ({what})")]
    Malformed {
        /// What was asked.
        doing: &'static str,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Somebody kept changing what was being read.
    #[error("{doing}: it changed {DUMP_ATTEMPTS} times while it was read; try again")]
    Restless {
        /// What was asked.
        doing: &'static str,
    },
}

impl NetlinkError {
    /// Whether the kernel said that there is no such thing.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { errno: Errno::ENOENT, .. })
    }
}

/// One message from the kernel.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    /// Of a notification: the socket whose request it tells of.
    pub(super) port: u32,
    pub(super) body: Vec<u8>,
}

/// Appends one message: header, then what `body` writes.
pub(super) fn message(
    to: &mut Vec<u8>,
    kind: u16,
    flags: u16,
    sequence: u32,
    body: impl FnOnce(&mut Vec<u8>),
) {
    let start = to.len();
    to.extend_from_slice(&[0; 4]);
    to.extend_from_slice(&kind.to_ne_bytes());
    to.extend_from_slice(&flags.to_ne_bytes());
    to.extend_from_slice(&sequence.to_ne_bytes());
    to.extend_from_slice(&[0; 4]);
    body(to);
    let length = u32::try_from(to.len() - start).unwrap_or(u32::MAX);
    to[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    pad(to);
}

/// Appends an attribute.
pub(super) fn attribute(to: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    to.extend_from_slice(&length.to_ne_bytes());
    to.extend_from_slice(&kind.to_ne_bytes());
    to.extend_from_slice(value);
    pad(to);
}

/// Appends an attribute with text, ended by a zero byte.
pub(super) fn text(to: &mut Vec<u8>, kind: u16, value: &str) {
    let mut bytes = value.as_bytes().to_vec();
    bytes.push(0);
    attribute(to, kind, &bytes);
}

/// Appends an attribute with a number in network order, as all of nftables' are.
pub(super) fn number(to: &mut Vec<u8>, kind: u16, value: u32) {
    attribute(to, kind, &value.to_be_bytes());
}

/// Appends an attribute that holds attributes.
pub(super) fn nest(to: &mut Vec<u8>, kind: u16, inside: impl FnOnce(&mut Vec<u8>)) {
    let start = to.len();
    to.extend_from_slice(&[0; 2]);
    to.extend_from_slice(&(kind | 0x8000).to_ne_bytes());
    inside(to);
    let length = u16::try_from(to.len() - start).unwrap_or(u16::MAX);
    to[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    pad(to);
}

fn pad(to: &mut Vec<u8>) {
    to.resize(to.len().next_multiple_of(4), 0);
}

/// The attributes in `bytes`; ends at the first that does not fit.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk::<2>()?;
        let (kind, _) = rest.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_ne_bytes(*length));
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes(*kind) & 0x3fff, value))
    })
}

/// The attribute of one kind.
pub(super) fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// The attribute of one kind, as a number in network order.
pub(super) fn find_number(bytes: &[u8], kind: u16) -> Option<u32> {
    find(bytes, kind).and_then(|value| value.try_into().ok()).map(u32::from_be_bytes)
}

/// The attribute of one kind, as text up to its zero byte.
pub(super) fn find_text(bytes: &[u8], kind: u16) -> Option<String> {
    let value = find(bytes, kind)?;
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    Some(String::from_utf8_lossy(&value[..end]).into_owned())
}

fn messages(mut bytes: &[u8]) -> Option<Vec<Message>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let header: &[u8; HEADER] = bytes.first_chunk()?;
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        found.push(Message {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            flags: u16::from_ne_bytes([header[6], header[7]]),
            sequence: u32::from_ne_bytes([header[8], header[9], header[10], header[11]]),
            port: u32::from_ne_bytes([header[12], header[13], header[14], header[15]]),
            body: bytes.get(HEADER..length)?.to_vec(),
        });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(found)
}

/// A netlink socket in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(super) struct Channel {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Channel {
    /// Opens one; `groups` is the mask of notifications that it is to receive.
    pub(super) fn open(protocol: SockProtocol, groups: u32) -> Result<Self, NetlinkError> {
        let refused = |errno| NetlinkError::Refused { doing: "opening a netlink socket", errno };
        let socket =
            socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)
                .map_err(refused)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups)).map_err(refused)?;
        // A kernel that does not answer must not hang the helper; all answers here are immediate.
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(5, 0)).map_err(refused)?;
        // Only root may; without it the default buffer (208 KiB) carries 500 rules.
        let _ = setsockopt(&socket, sockopt::SndBufForce, &SEND_BUFFER_BYTES);
        Ok(Self { socket, sequence: 0, buffer: vec![0; DATAGRAM_BYTES] })
    }

    /// The number by which the kernel knows this socket.
    pub(super) fn port(&self) -> Result<u32, NetlinkError> {
        let refused = |errno| NetlinkError::Refused { doing: "naming a netlink socket", errno };
        getsockname::<NetlinkAddr>(self.socket.as_raw_fd()).map(|at| at.pid()).map_err(refused)
    }

    /// A number for the next message.
    pub(super) fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        self.sequence
    }

    fn send(&self, doing: &'static str, bytes: &[u8]) -> Result<(), NetlinkError> {
        send(self.socket.as_raw_fd(), bytes, MsgFlags::empty())
            .map(drop)
            .map_err(|errno| NetlinkError::Refused { doing, errno })
    }

    /// One datagram's messages; `None` if there is none now (with `MSG_DONTWAIT`).
    pub(super) fn receive(
        &mut self,
        doing: &'static str,
        flags: MsgFlags,
    ) -> Result<Option<Vec<Message>>, NetlinkError> {
        loop {
            match recv(self.socket.as_raw_fd(), &mut self.buffer, flags | MsgFlags::MSG_TRUNC) {
                Ok(length) => {
                    let malformed = NetlinkError::Malformed { doing, what: "a message cut short" };
                    let bytes = self.buffer.get(..length).ok_or(malformed)?;
                    let found = messages(bytes);
                    return found
                        .map(Some)
                        .ok_or(NetlinkError::Malformed { doing, what: "a message cut short" });
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) if flags.contains(MsgFlags::MSG_DONTWAIT) => return Ok(None),
                Err(errno) => return Err(NetlinkError::Refused { doing, errno }),
            }
        }
    }

    /// Sends messages of which the one numbered `last` asks for an acknowledgement, and waits for it.
    ///
    /// The kernel works on a request within `send`, so every answer is waiting when it returns.
    pub(super) fn transact(
        &mut self,
        doing: &'static str,
        bytes: &[u8],
        last: u32,
    ) -> Result<(), NetlinkError> {
        self.send(doing, bytes)?;
        let mut is_acknowledged = false;
        let mut refused = None;
        while let Some(answers) = self.receive(doing, MsgFlags::MSG_DONTWAIT)? {
            for answer in answers.iter().filter(|answer| answer.kind == ERROR) {
                match error_of(answer) {
                    None => is_acknowledged |= answer.sequence == last,
                    Some(errno) => refused = refused.or(Some(errno)),
                }
            }
        }
        match refused {
            Some(errno) => Err(NetlinkError::Refused { doing, errno }),
            None if is_acknowledged => Ok(()),
            None => Err(NetlinkError::Malformed { doing, what: "no acknowledgement" }),
        }
    }

    /// Asks for one thing.
    pub(super) fn ask(
        &mut self,
        doing: &'static str,
        kind: u16,
        body: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Message, NetlinkError> {
        let sequence = self.next_sequence();
        let mut bytes = Vec::new();
        message(&mut bytes, kind, REQUEST, sequence, body);
        self.send(doing, &bytes)?;
        loop {
            let answers = self.receive(doing, MsgFlags::empty())?.unwrap_or_default();
            for answer in answers {
                if answer.sequence != sequence {
                    continue;
                }
                match (answer.kind, error_of(&answer)) {
                    (ERROR, Some(errno)) => return Err(NetlinkError::Refused { doing, errno }),
                    (ERROR, None) => {}
                    _ => return Ok(answer),
                }
            }
        }
    }

    /// Lists things; read again if they changed meanwhile.
    pub(super) fn list(
        &mut self,
        doing: &'static str,
        kind: u16,
        body: impl Fn(&mut Vec<u8>),
    ) -> Result<Vec<Message>, NetlinkError> {
        for _ in 0..DUMP_ATTEMPTS {
            if let Some(found) = self.list_once(doing, kind, &body)? {
                return Ok(found);
            }
        }
        Err(NetlinkError::Restless { doing })
    }

    fn list_once(
        &mut self,
        doing: &'static str,
        kind: u16,
        body: &impl Fn(&mut Vec<u8>),
    ) -> Result<Option<Vec<Message>>, NetlinkError> {
        let sequence = self.next_sequence();
        let mut bytes = Vec::new();
        message(&mut bytes, kind, REQUEST | DUMP, sequence, body);
        self.send(doing, &bytes)?;
        let mut found = Vec::new();
        let mut is_whole = true;
        loop {
            for answer in self.receive(doing, MsgFlags::empty())?.unwrap_or_default() {
                if answer.sequence != sequence {
                    continue;
                }
                is_whole &= answer.flags & DUMP_INTERRUPTED == 0;
                match answer.kind {
                    DONE => return Ok(is_whole.then_some(found)),
                    ERROR => {
                        if let Some(errno) = error_of(&answer) {
                            return Err(NetlinkError::Refused { doing, errno });
                        }
                    }
                    _ => found.push(answer),
                }
            }
        }
    }
}

fn error_of(message: &Message) -> Option<Errno> {
    let code = message.body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
    (code != 0).then(|| Errno::from_raw(-code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_come_back_as_they_were_written() {
        let mut bytes = Vec::new();
        text(&mut bytes, 1, "cordon");
        nest(&mut bytes, 2, |inside| number(inside, 7, 0xdead_beef));
        assert_eq!(find_text(&bytes, 1).as_deref(), Some("cordon"));
        assert_eq!(find_number(find(&bytes, 2).unwrap(), 7), Some(0xdead_beef));
    }

    proptest::proptest! {
        #[test]
        fn bytes_that_are_no_message_are_refused_without_harm(bytes: Vec<u8>) {
            let _ = messages(&bytes);
            let _ = attributes(&bytes).count();
        }
    }
}
