//! Trying whether a blocked peer can still be spoken to, without saying anything to it.
//!
//! The one idea: what an output rule refuses fails with EPERM at the call itself. A datagram is sent by an
//! ordinary socket; a TCP segment by a raw one, because a `connect` that is refused looks the same whether
//! a rule or the peer refused it. The segment's checksum is wrong on purpose: should it get out, the peer
//! throws it away. What the peer sends can't be tried from here, and that is said.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;

use cordon_model::action::Blocked;
use cordon_model::asset::{Direction, Transport};
use cordon_model::measure::Probe;
use ipnet::IpNet;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, sendto, socket,
};

use super::super::super::intent::Connection;
use super::super::super::probe::{Probes, loopback, sends};
use super::kept::{Kept, networks};

/// Networks that are tried; the others of a name are read back only. A look every ten seconds at 64 blocks
/// is then at most 512 refused calls.
const TRIED: usize = 4;
/// Addresses of one network that are looked at for one that may be tried.
const LOOKED_AT: usize = 8;
/// Discard (RFC 863), where no ports are named; and a port that nobody waits at, for this side.
const DISCARD: u16 = 9;

/// Tries `blocked` on this machine.
pub(super) fn tries(blocked: &Blocked, kept: &Kept) -> Probes {
    let mut probes = Probes::default();
    for address in [IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])] {
        probes.tried.extend(loopback(address));
    }
    let networks = networks(blocked);
    for network in networks.iter().take(TRIED) {
        let address = hosts(network).find(|address| !kept.owns(*address));
        let tried: Vec<Probe> =
            address.iter().flat_map(|address| outbound(blocked, kept, *address)).collect();
        if tried.is_empty() {
            probes.unproven.push(format!(
                "to {network}: read back, not tried, for want of a route or a way to try it"
            ));
        }
        probes.tried.extend(tried);
    }
    if networks.len() > TRIED {
        let others = networks.len() - TRIED;
        probes.unproven.push(format!("to {others} more addresses: read back, not tried"));
    }
    probes.unproven.push("from the peer: read back, not tried by it".into());
    probes
}

/// The first addresses of a network that are a host's.
fn hosts(network: &IpNet) -> impl Iterator<Item = IpAddr> {
    network.hosts().take(LOOKED_AT)
}

fn outbound(blocked: &Blocked, kept: &Kept, address: IpAddr) -> Vec<Probe> {
    let port = blocked.ports.map_or(DISCARD, |ports| ports.first);
    // Which side's port is the service's, and whether a packet from here begins or answers.
    let answers = blocked.direction == Some(Direction::Inbound);
    let (near, far) = if answers { (port, DISCARD) } else { (DISCARD, port) };
    let may = |transport| {
        let connection = Connection {
            transport,
            local: SocketAddr::new(address, near),
            remote: SocketAddr::new(address, far),
            user: 0,
        };
        blocked.transport.is_none_or(|of| of == transport) && !kept.keeps(&connection)
    };
    let to = SocketAddr::new(address, far);
    let tried = |what: &str, did_pass| Probe {
        tried: format!("{what} {to} outbound"),
        should_pass: false,
        did_pass: Some(did_pass),
    };
    let segment = may(Transport::Tcp)
        .then(|| segment_leaves(address, near, far, answers))
        .flatten()
        .map(|did_pass| tried("tcp", did_pass));
    // An answer by UDP needs a question first.
    let datagram = (may(Transport::Udp) && !answers)
        .then(|| sends(to))
        .flatten()
        .map(|did_pass| tried("udp", did_pass));
    segment.into_iter().chain(datagram).collect()
}

/// Whether a segment that opens a connection (or answers one that does) left; `None` if the machine has no
/// way there.
fn segment_leaves(to: IpAddr, near: u16, far: u16, answers: bool) -> Option<bool> {
    const SYN: u8 = 0x02;
    const ACK: u8 = 0x10;
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Tcp).ok()?;
    // RFC 9293 section 3.1: ports, sequence, acknowledgement, header of five words, flags, window.
    let mut segment = [0; 20];
    segment[0..2].copy_from_slice(&near.to_be_bytes());
    segment[2..4].copy_from_slice(&far.to_be_bytes());
    segment[12] = 5 << 4;
    segment[13] = if answers { SYN | ACK } else { SYN };
    let to = SockaddrStorage::from(SocketAddr::new(to, 0));
    match sendto(socket.as_raw_fd(), &segment, &to, MsgFlags::MSG_DONTWAIT) {
        Ok(_) => Some(true),
        Err(Errno::EPERM) => Some(false),
        Err(_) => None,
    }
}
