//! Packets made by hand, whole and in pieces, as an attacker makes them, and the sockets that send them as
//! they are: past the machine's own stack from the peer, past no hook on the machine itself.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, sendto, socket,
};

use crate::contain_world::Namespace;

const TCP: u8 = 6;
const UDP: u8 = 17;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// Between whom, and to which port.
#[derive(Clone, Copy)]
pub struct Way<A> {
    pub from: A,
    pub to: A,
    pub port: u16,
}

/// A trick: its name, and the packets it is made of, in their order.
pub type Trick = (&'static str, Vec<Vec<u8>>);

fn sum(parts: &[&[u8]]) -> u16 {
    let bytes: Vec<u8> = parts.concat();
    let words =
        bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

/// A datagram of 40 bytes with its checksum; `pseudo` is what the checksum covers besides.
fn datagram(pseudo: &[u8], port: u16) -> Vec<u8> {
    let mut bytes = [40_000u16, port, 48, 0].map(u16::to_be_bytes).concat();
    bytes.extend([b'x'; 40]);
    let check = sum(&[pseudo, &48u16.to_be_bytes(), &[0, UDP], &bytes]);
    bytes[6..8].copy_from_slice(&check.to_be_bytes());
    bytes
}

/// What opens a connection, with 12 bytes of options that say nothing.
fn opening(pseudo: &[u8], port: u16) -> Vec<u8> {
    let mut bytes = [40_000u16, port, 0, 1, 0, 0].map(u16::to_be_bytes).concat();
    // Eight words long; SYN; a window.
    bytes.extend([0x80, 0x02, 0x20, 0, 0, 0, 0, 0]);
    bytes.extend([1; 12]);
    let check = sum(&[pseudo, &32u16.to_be_bytes(), &[0, TCP], &bytes]);
    bytes[16..18].copy_from_slice(&check.to_be_bytes());
    bytes
}

fn ipv4(
    way: &Way<Ipv4Addr>,
    protocol: u8,
    id: u16,
    flags_offset: u16,
    options: &[u8],
    body: &[u8],
) -> Vec<u8> {
    let header = 20 + options.len();
    let mut bytes = vec![0x40 | u8::try_from(header / 4).unwrap(), 0];
    bytes.extend(u16::try_from(header + body.len()).unwrap().to_be_bytes());
    bytes.extend(id.to_be_bytes());
    bytes.extend(flags_offset.to_be_bytes());
    bytes.extend([64, protocol, 0, 0]);
    bytes.extend(way.from.octets());
    bytes.extend(way.to.octets());
    bytes.extend(options);
    let check = sum(&[&bytes]);
    bytes[10..12].copy_from_slice(&check.to_be_bytes());
    bytes.extend(body);
    bytes
}

const MORE: u16 = 0x2000;

/// What is tried by IPv4. `harmless` is a port that *segment* leaves open.
pub fn tricks4(way: Way<Ipv4Addr>, harmless: u16) -> Vec<Trick> {
    let pseudo = [way.from.octets(), way.to.octets()].concat();
    let (udp, syn) = (datagram(&pseudo, way.port), opening(&pseudo, way.port));
    let id = || {
        use std::sync::atomic::{AtomicU16, Ordering};
        static ID: AtomicU16 = AtomicU16::new(7);
        ID.fetch_add(1, Ordering::Relaxed)
    };
    let cut = |protocol, body: &[u8], at: &[usize]| {
        let id = id();
        let mut pieces = Vec::new();
        let mut ends = at.to_vec();
        ends.push(body.len());
        let mut from = 0;
        for end in ends {
            let more = if end < body.len() { MORE } else { 0 };
            let offset = u16::try_from(from / 8).unwrap() | more;
            pieces.push(ipv4(&way, protocol, id, offset, &[], &body[from..end]));
            from = end;
        }
        pieces
    };
    let reversed = |mut pieces: Vec<Vec<u8>>| {
        pieces.reverse();
        pieces
    };
    let disguise = datagram(&pseudo, harmless);
    let overlapping = |first: &[u8], then: &[u8]| {
        let id = id();
        vec![
            ipv4(&way, UDP, id, MORE, &[], &first[..24]),
            // The ports again, otherwise.
            ipv4(&way, UDP, id, MORE, &[], &then[..24]),
            ipv4(&way, UDP, id, 3, &[], &then[24..]),
        ]
    };
    vec![
        ("whole", vec![ipv4(&way, UDP, id(), 0, &[], &udp)]),
        ("in two", cut(UDP, &udp, &[24])),
        ("the ports alone in the first piece", cut(UDP, &udp, &[8])),
        ("the last piece first", reversed(cut(UDP, &udp, &[8, 24]))),
        ("every eight bytes", cut(UDP, &udp, &[8, 16, 24, 32, 40])),
        ("behind options", vec![ipv4(&way, UDP, id(), 0, &[1; 40], &udp)]),
        ("behind a router alert", vec![ipv4(&way, UDP, id(), 0, &[148, 4, 0, 0], &udp)]),
        ("a harmless port, overlapped", overlapping(&disguise, &udp)),
        ("overlapped by a harmless port", overlapping(&udp, &disguise)),
        ("a tiny first piece (RFC 1858)", cut(TCP, &syn, &[8])),
        ("a tiny first piece at last", reversed(cut(TCP, &syn, &[8]))),
        ("an opening behind options", vec![ipv4(&way, TCP, id(), 0, &[1; 40], &syn)]),
    ]
}

fn ipv6(way: &Way<Ipv6Addr>, next: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    bytes.extend([next, 64]);
    bytes.extend(way.from.octets());
    bytes.extend(way.to.octets());
    bytes.extend(body);
    bytes
}

/// Options that say nothing: padding (RFC 8200 section 4.2).
fn padding(next: u8) -> [u8; 8] {
    [next, 0, 1, 4, 0, 0, 0, 0]
}

/// A routing header that is at its end: Mobile IPv6's (RFC 6275 section 6.4), or an unknown one.
fn routing(next: u8, kind: u8) -> Vec<u8> {
    let mut header = vec![next, 2, kind, 0];
    header.extend([0; 20]);
    header
}

fn piece(next: u8, offset: usize, has_more: bool, id: u32) -> Vec<u8> {
    let at = u16::try_from(offset).unwrap() | u16::from(has_more);
    let mut header = vec![next, 0];
    header.extend(at.to_be_bytes());
    header.extend(id.to_be_bytes());
    header
}

/// What is tried by IPv6.
pub fn tricks6(way: Way<Ipv6Addr>, harmless: u16) -> Vec<Trick> {
    let pseudo = [way.from.octets(), way.to.octets()].concat();
    let (udp, syn) = (datagram(&pseudo, way.port), opening(&pseudo, way.port));
    let disguise = datagram(&pseudo, harmless);
    let id = || {
        use std::sync::atomic::{AtomicU32, Ordering};
        static ID: AtomicU32 = AtomicU32::new(7);
        ID.fetch_add(1, Ordering::Relaxed)
    };
    let cut = |next, body: &[u8], at: &[usize]| {
        let id = id();
        let mut ends = at.to_vec();
        ends.push(body.len());
        let mut from = 0;
        let mut pieces = Vec::new();
        for end in ends {
            let head = piece(next, from, end < body.len(), id);
            pieces.push(ipv6(&way, FRAGMENT, &[&head, &body[from..end]].concat()));
            from = end;
        }
        pieces
    };
    let reversed = |mut pieces: Vec<Vec<u8>>| {
        pieces.reverse();
        pieces
    };
    let overlapping = |first: &[u8], then: &[u8]| {
        let id = id();
        [(first, 0, 24, true), (then, 0, 24, true), (then, 24, 48, false)]
            .map(|(of, from, end, more)| {
                let head = piece(UDP, from, more, id);
                ipv6(&way, FRAGMENT, &[&head, &of[from..end]].concat())
            })
            .to_vec()
    };
    let behind = |headers: &[&[u8]], next, body: &[u8]| {
        vec![ipv6(&way, next, &[headers.concat(), body.to_vec()].concat())]
    };
    let atomic = |next, body: &[u8]| {
        vec![ipv6(&way, FRAGMENT, &[&piece(next, 0, false, id())[..], body].concat())]
    };
    let [options, more] = [padding(DESTINATION_OPTIONS), padding(UDP)];
    vec![
        ("whole", behind(&[], UDP, &udp)),
        ("in two", cut(UDP, &udp, &[24])),
        ("the ports alone in the first piece", cut(UDP, &udp, &[8])),
        ("the last piece first", reversed(cut(UDP, &udp, &[8, 24]))),
        ("one piece that is all (RFC 6946)", atomic(UDP, &udp)),
        ("an opening in one piece that is all", atomic(TCP, &syn)),
        ("behind hop-by-hop options", behind(&[&padding(UDP)], HOP_BY_HOP, &udp)),
        ("behind destination options", behind(&[&padding(UDP)], DESTINATION_OPTIONS, &udp)),
        ("behind options and options", behind(&[&options, &more], HOP_BY_HOP, &udp)),
        ("behind a routing header", behind(&[&routing(UDP, 2)], ROUTING, &udp)),
        ("behind an unknown routing header", behind(&[&routing(UDP, 200)], ROUTING, &udp)),
        ("options in pieces", cut(DESTINATION_OPTIONS, &[&padding(UDP)[..], &udp].concat(), &[16])),
        (
            "a first piece with no ports in it (RFC 7112)",
            cut(DESTINATION_OPTIONS, &[&padding(UDP)[..], &udp].concat(), &[8]),
        ),
        ("a piece in a piece", atomic(FRAGMENT, &[&piece(UDP, 0, false, id())[..], &udp].concat())),
        ("a harmless port, overlapped", overlapping(&disguise, &udp)),
        ("overlapped by a harmless port", overlapping(&udp, &disguise)),
        ("a tiny first piece", cut(TCP, &syn, &[8])),
        ("a tiny first piece at last", reversed(cut(TCP, &syn, &[8]))),
        ("an opening behind options", behind(&[&padding(TCP)], DESTINATION_OPTIONS, &syn)),
    ]
}

/// Puts packets on the peer's end of the cable as they are.
pub fn from_outside(peer: &Namespace, link: &str, to: [u8; 6], packets: Vec<Vec<u8>>) {
    let link = link.to_owned();
    peer.inside(move || {
        let socket =
            socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None).unwrap();
        let mut all = nix::ifaddrs::getifaddrs().unwrap();
        let ours = all.find(|one| {
            one.interface_name == link && one.address.is_some_and(|at| at.as_link_addr().is_some())
        });
        let place = ours.unwrap().address.unwrap();
        for packet in packets {
            let kind: [u8; 2] = if packet[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
            let frame = [&to[..], &[2, 0, 0, 0, 0, 1], &kind, &packet].concat();
            sendto(socket.as_raw_fd(), &frame, &place, MsgFlags::empty()).unwrap();
        }
    });
}

/// Sends packets from the machine by a raw socket, which takes the header as it is given. How many the
/// kernel took.
pub fn from_inside(machine: &Namespace, packets: Vec<Vec<u8>>) -> usize {
    machine.inside(move || {
        let of = |family| {
            socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw).unwrap()
        };
        let sockets = [of(AddressFamily::Inet), of(AddressFamily::Inet6)];
        let took = packets.iter().filter(|packet| {
            let is_ipv4 = packet[0] >> 4 == 4;
            let to = if is_ipv4 {
                SocketAddr::from((<[u8; 4]>::try_from(&packet[16..20]).unwrap(), 0))
            } else {
                SocketAddr::from((<[u8; 16]>::try_from(&packet[24..40]).unwrap(), 0))
            };
            let socket = &sockets[usize::from(!is_ipv4)];
            sendto(socket.as_raw_fd(), packet, &SockaddrStorage::from(to), MsgFlags::empty())
                .is_ok()
        });
        took.count()
    })
}
