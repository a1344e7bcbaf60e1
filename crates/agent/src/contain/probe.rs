//! Trying what must fail and what must live, in milliseconds.
//!
//! A TCP connect under `drop` hangs until its time-out; a UDP send that an output rule drops fails with
//! EPERM at once, and nothing has left the machine. So what must fail is tried by UDP, towards addresses
//! that have a route. What must live is tried on loopback, and towards the hub by opening the link's
//! connection as the agent's own user. Lifelines are **not** tried: a stranger's connection can upset the
//! clinical device at the other end. What can't be tried from here is said in words (law 4).

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::Duration;

use cordon_model::asset::Transport;
use cordon_model::measure::{Isolation, Probe};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, connect, getsockopt, socket, sockopt,
};
use nix::unistd::{Uid, setfsuid};

use super::intent::{Connection, Intent};

/// How long the hub's answer is waited for. A hospital's own network answers in under 1 ms, a regional
/// centre in 10; a hub that takes longer is "not answered", which is no failure of the isolation.
const HUB_ANSWERS_WITHIN: Duration = Duration::from_millis(25);

/// Addresses of documentation networks (RFC 5737, RFC 3849): nobody's, reached by the default route.
const NOBODY: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];

/// What was tried, and what can't be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Probes {
    /// With what was seen.
    pub tried: Vec<Probe>,
    /// In words.
    pub unproven: Vec<String>,
}

/// Tries `intent` on this machine, whose own addresses are `own`.
#[must_use]
pub fn probe(intent: &Intent, own: &BTreeSet<IpAddr>) -> Probes {
    let mut probes = Probes::default();
    if intent.isolation == Isolation::Watch {
        probes.unproven.push("watch cuts nothing".into());
        return probes;
    }
    for address in [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)] {
        probes.tried.extend(loopback(address));
    }
    for is_ipv4 in [true, false] {
        let family = if is_ipv4 { "IPv4" } else { "IPv6" };
        match forbidden(intent, own, is_ipv4) {
            Some(tried) => probes.tried.push(tried),
            None => probes.unproven.push(format!(
                "{family} outbound: read back, not probed, for want of a route to try"
            )),
        }
    }
    if intent.hub.is_empty() {
        probes.unproven.push("the hub's link: no address is assigned".into());
    }
    // One address is enough: the others are standbys.
    probes.tried.extend(intent.hub.first().map(|hub| hub_link(intent, *hub)));
    probes.unproven.push("inbound: read back, not probed by a peer".into());
    if !intent.lifelines.is_empty() {
        probes.unproven.push("lifelines: read back, not exercised".into());
    }
    probes
}

/// `None` where the machine does not have the family.
pub(super) fn loopback(address: IpAddr) -> Option<Probe> {
    let listener = TcpListener::bind(SocketAddr::new(address, 0)).ok()?;
    let to = listener.local_addr().ok()?;
    let did_pass = connects(to, Duration::from_millis(100));
    Some(Probe {
        tried: format!("tcp {address} on loopback"),
        should_pass: true,
        did_pass: Some(did_pass == Some(true)),
    })
}

/// Sends one byte where nothing may go.
fn forbidden(intent: &Intent, own: &BTreeSet<IpAddr>, is_ipv4: bool) -> Option<Probe> {
    // Discard (RFC 863) is open in segment; NetBIOS is not.
    let ports: &[u16] = match intent.isolation {
        Isolation::Full => &[9, 137],
        Isolation::Segment | Isolation::Watch => &[137, 138, 3389],
    };
    let hubs = intent.hub.iter().map(SocketAddr::ip);
    hubs.chain(NOBODY)
        .filter(|address| address.is_ipv4() == is_ipv4 && !address.is_loopback())
        .flat_map(|address| ports.iter().map(move |port| SocketAddr::new(address, *port)))
        .filter(|to| !is_kept(intent, own, *to))
        .find_map(|to| {
            let did_pass = sends(to)?;
            Some(Probe {
                tried: format!("udp {to} outbound"),
                should_pass: false,
                did_pass: Some(did_pass),
            })
        })
}

/// What a hub's own machine sends to the hub's address never leaves it, and passes.
fn is_kept(intent: &Intent, own: &BTreeSet<IpAddr>, to: SocketAddr) -> bool {
    let local = SocketAddr::new(to.ip(), 40_000);
    let connection = Connection { transport: Transport::Udp, local, remote: to, user: 0 };
    intent.keeps(&connection, own)
}

/// Whether a datagram left; `None` if the machine has no way there anyway.
pub(super) fn sends(to: SocketAddr) -> Option<bool> {
    let any: IpAddr =
        if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    match socket.send_to(&[0], to) {
        Ok(_) => Some(true),
        Err(error) if error.raw_os_error() == Some(Errno::EPERM as i32) => Some(false),
        Err(_) => None,
    }
}

/// Opens the hub's port as the agent's user. No answer is no proof either way: the hub may be away.
fn hub_link(intent: &Intent, hub: SocketAddr) -> Probe {
    let answered = as_user(intent.agent_user, || connects(hub, HUB_ANSWERS_WITHIN));
    Probe {
        tried: format!("tcp {hub} outbound, as the agent's user {}", intent.agent_user),
        should_pass: true,
        did_pass: answered.filter(|answered| *answered),
    }
}

/// `Some(false)` if refused, `None` if nobody answered.
fn connects(to: SocketAddr, within: Duration) -> Option<bool> {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(family, SockType::Stream, flags, None).ok()?;
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) => return Some(true),
        Err(Errno::EINPROGRESS) => {}
        Err(Errno::ECONNREFUSED) => return Some(false),
        Err(_) => return None,
    }
    let mut waiting = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
    let timeout = PollTimeout::try_from(within).unwrap_or(PollTimeout::ZERO);
    if poll(&mut waiting, timeout).ok()? == 0 {
        return None;
    }
    match getsockopt(&socket, sockopt::SocketError).ok()? {
        0 => {
            // Ends at once, leaving nothing waiting at either side.
            let stream = TcpStream::from(socket);
            let _: io::Result<()> = stream.shutdown(std::net::Shutdown::Both);
            Some(true)
        }
        error if error == Errno::ECONNREFUSED as i32 => Some(false),
        _ => None,
    }
}

/// Sockets opened meanwhile belong to `user`, as the packet filter sees it. The file-system user is one
/// thread's own, and the only thing that changes.
fn as_user<T>(user: u32, what: impl FnOnce() -> T) -> T {
    let before = setfsuid(Uid::from_raw(user));
    let result = what();
    setfsuid(before);
    result
}
