//! A tap on the peer's end of the cable: every frame that left the machine, as it came out.
//!
//! The one idea: what a program was told by its own kernel is not taken for what happened on the wire.
//! [`Wiretap::settle`] compares the tap with the machine's own count of sent frames, so "not one came"
//! means that none was sent, and not that none was heard yet.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeVal;

use super::{Namespace, World};

/// Frames that may wait to be read: more than any test sends between two looks.
const BUFFER_BYTES: usize = 64 << 20;
/// Looks before a frame that is missing is called lost, or a cable never calm; a cable between namespaces
/// holds nothing back, and between two tests nobody speaks.
const MOST_LOOKS: u32 = 10_000;
/// How long the listener waits for a frame at a time.
const PATIENCE: TimeVal = TimeVal::new(0, 20_000);
/// `PACKET_OUTGOING`: the peer's own frames.
const OUTGOING: u8 = 4;
/// Loopback is interface 1.
const LOOPBACK: usize = 1;

/// One frame that came out of the machine.
#[derive(Clone, PartialEq, Eq)]
pub enum Frame {
    Arp,
    Ip(Packet),
    /// Neither ARP nor IP: its Ethernet type.
    Other(u16),
}

/// One IP packet.
#[derive(Clone, PartialEq, Eq)]
pub struct Packet {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// The transport, behind any IPv6 extension headers.
    pub protocol: u8,
    /// 0 where there is none: ICMP, and fragments after the first.
    pub source_port: u16,
    /// The same; of ICMP it is the type.
    pub destination_port: u16,
    /// Of TCP.
    pub flags: u8,
    pub is_fragment: bool,
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arp => f.write_str("ARP"),
            Self::Other(kind) => write!(f, "ethernet type {kind:#x}"),
            Self::Ip(p) => write!(
                f,
                "{}:{} > {}:{} protocol {} flags {:#x}{}",
                p.source,
                p.source_port,
                p.destination,
                p.destination_port,
                p.protocol,
                p.flags,
                if p.is_fragment { " fragment" } else { "" }
            ),
        }
    }
}

impl Frame {
    /// What every contained machine may send: ARP, and what keeps an IPv6 address (neighbour and router
    /// solicitation, multicast listening).
    pub fn is_housekeeping(&self) -> bool {
        const ICMPV6: u8 = 58;
        match self {
            Self::Arp => true,
            Self::Ip(packet) => {
                packet.protocol == ICMPV6
                    && matches!(packet.destination_port, 131 | 132 | 133 | 135 | 136 | 143)
            }
            Self::Other(_) => false,
        }
    }

    /// The packet, if it goes to or comes from `port`.
    pub fn at_port(&self, port: u16) -> Option<&Packet> {
        match self {
            Self::Ip(p) if [p.source_port, p.destination_port].contains(&port) => Some(p),
            _ => None,
        }
    }

    /// Whether it is a packet to `address`.
    pub fn is_to(&self, address: IpAddr) -> bool {
        matches!(self, Self::Ip(packet) if packet.destination == address)
    }

    pub fn read(frame: &[u8]) -> Self {
        let kind = frame.get(12..14).map_or(0, |kind| u16::from_be_bytes([kind[0], kind[1]]));
        let body = frame.get(14..).unwrap_or_default();
        match kind {
            0x0806 => Self::Arp,
            0x0800 => ipv4(body).map_or(Self::Other(kind), Self::Ip),
            0x86dd => ipv6(body).map_or(Self::Other(kind), Self::Ip),
            other => Self::Other(other),
        }
    }
}

fn ipv4(body: &[u8]) -> Option<Packet> {
    let header = usize::from(body.first()? & 15) * 4;
    let address =
        |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(body.get(at..at + 4)?).ok()?));
    let fragment = u16::from_be_bytes([*body.get(6)?, *body.get(7)?]);
    let is_first = fragment & 0x1fff == 0;
    let transport = if is_first { body.get(header..).unwrap_or_default() } else { &[] };
    Some(Packet {
        is_fragment: fragment & 0x3fff != 0,
        ..transported(address(12)?.into(), address(16)?.into(), *body.get(9)?, transport)
    })
}

fn ipv6(body: &[u8]) -> Option<Packet> {
    let address =
        |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(body.get(at..at + 16)?).ok()?));
    let (mut protocol, mut rest) = (*body.get(6)?, body.get(40..)?);
    let (mut is_fragment, mut is_first) = (false, true);
    // Hop-by-hop, routing, destination options and fragment headers (RFC 8200 section 4).
    while matches!(protocol, 0 | 43 | 44 | 60) && is_first {
        let length = if protocol == 44 { 8 } else { (usize::from(*rest.get(1)?) + 1) * 8 };
        if protocol == 44 {
            is_fragment = true;
            is_first = u16::from_be_bytes([*rest.get(2)?, *rest.get(3)?]) >> 3 == 0;
        }
        protocol = *rest.first()?;
        rest = rest.get(length..).unwrap_or_default();
    }
    let transport = if is_first { rest } else { &[] };
    Some(Packet {
        is_fragment,
        ..transported(address(8)?.into(), address(24)?.into(), protocol, transport)
    })
}

fn transported(source: IpAddr, destination: IpAddr, protocol: u8, bytes: &[u8]) -> Packet {
    let pair = |at: usize| bytes.get(at..at + 2).map_or(0, |b| u16::from_be_bytes([b[0], b[1]]));
    let (source_port, destination_port) = match protocol {
        6 | 17 => (pair(0), pair(2)),
        1 | 58 => (0, bytes.first().copied().map_or(0, u16::from)),
        _ => (0, 0),
    };
    let flags = if protocol == 6 { bytes.get(13).copied().unwrap_or(0) } else { 0 };
    Packet {
        source,
        destination,
        protocol,
        source_port,
        destination_port,
        flags,
        is_fragment: false,
    }
}

/// Listens until it is dropped.
pub struct Wiretap {
    seen: Arc<Mutex<Vec<Frame>>>,
    /// How often the listener had nothing left to read, for a whole [`PATIENCE`].
    idle: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    listener: Option<std::thread::JoinHandle<()>>,
    machine: Namespace,
    link: String,
    sent_before: u64,
}

impl Drop for Wiretap {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let _ = self.listener.take().map(std::thread::JoinHandle::join);
    }
}

impl Wiretap {
    /// Begins to listen on the peer's end of `world`'s cable, while it is calm: who speaks all the time
    /// begins after this.
    pub fn on(world: &World) -> Self {
        let seen: Arc<Mutex<Vec<Frame>>> = Arc::default();
        let (idle, is_over) = (Arc::<AtomicU64>::default(), Arc::new(AtomicBool::new(false)));
        let (ready, is_ready) = std::sync::mpsc::channel();
        let (writes, idles, ends) = (Arc::clone(&seen), Arc::clone(&idle), Arc::clone(&is_over));
        let listener = world.peer.spawn(move || {
            let socket = socket(
                AddressFamily::Packet,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                SockProtocol::EthAll,
            )
            .unwrap();
            setsockopt(&socket, sockopt::RcvBufForce, &BUFFER_BYTES).unwrap();
            setsockopt(&socket, sockopt::ReceiveTimeout, &PATIENCE).unwrap();
            ready.send(()).unwrap();
            let mut bytes = vec![0; 64 << 10];
            while !ends.load(Ordering::Relaxed) {
                match recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut bytes) {
                    Ok((length, Some(from)))
                        if from.pkttype() != OUTGOING && from.ifindex() != LOOPBACK =>
                    {
                        writes.lock().unwrap().push(Frame::read(&bytes[..length]));
                    }
                    Err(Errno::EAGAIN) => {
                        idles.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(_) | Err(Errno::EINTR | Errno::ENETDOWN) => {}
                    Err(errno) => panic!("the tap is broken: {errno}"),
                }
            }
        });
        is_ready.recv().unwrap();
        let mut tap = Self {
            seen,
            idle,
            is_over,
            listener: Some(listener),
            machine: world.machine.clone(),
            link: world.link(),
            sent_before: 0,
        };
        // Nothing that was sent while the tap was being set is counted, either here or there: also what the
        // listener got to late, for want of a processor.
        for _ in 0..MOST_LOOKS {
            let sent = tap.sent();
            tap.await_idle();
            if tap.sent() == sent {
                tap.seen.lock().unwrap().clear();
                tap.sent_before = sent;
                return tap;
            }
        }
        panic!("the cable is never calm: set the tap before anybody speaks");
    }

    /// Waits until the listener has read everything that had come when this was called.
    fn await_idle(&self) {
        // The first time may have begun to wait before.
        let enough = self.idle.load(Ordering::Relaxed) + 2;
        super::until(|| self.idle.load(Ordering::Relaxed) >= enough);
    }

    /// Frames that the machine has put on the cable, by its own count.
    fn sent(&self) -> u64 {
        let link = format!("{}:", self.link);
        let counts =
            self.machine.inside(|| std::fs::read_to_string("/proc/thread-self/net/dev").unwrap());
        let line = counts.lines().find_map(|line| line.trim().strip_prefix(&link)).unwrap();
        // Eight columns of what came in, then bytes and packets of what went out.
        line.split_whitespace().nth(9).unwrap().parse().unwrap()
    }

    /// Waits until everything that has been sent is seen, and gives it; it is then forgotten.
    pub fn settle(&mut self) -> Vec<Frame> {
        for _ in 0..MOST_LOOKS {
            let sent = self.sent();
            let mut seen = self.seen.lock().unwrap();
            // A frame may be seen before it is counted.
            if seen.len() as u64 >= sent.saturating_sub(self.sent_before) {
                let frames: Vec<Frame> = seen.drain(..).collect();
                self.sent_before += frames.len() as u64;
                return frames;
            }
            drop(seen);
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!("the tap has lost frames that the machine says it has sent");
    }

    /// Waits until so `many` frames that `are` so have come out; they are then forgotten.
    #[track_caller]
    pub fn await_frames(&mut self, many: usize, are: impl Fn(&Frame) -> bool) {
        let mut seen = 0;
        super::until(|| {
            seen += self.settle().iter().filter(|frame| are(frame)).count();
            seen >= many
        });
    }

    /// The same as [`Wiretap::settle`], without what any contained machine may send.
    pub fn settle_traffic(&mut self) -> Vec<Frame> {
        self.settle().into_iter().filter(|frame| !frame.is_housekeeping()).collect()
    }
}
