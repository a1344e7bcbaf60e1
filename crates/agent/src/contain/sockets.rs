//! Open connections of this network namespace, and cutting them.
//!
//! Rules stop packets; a connection's socket would still hang in its program until a time-out, and
//! come back to life when the rules go. So what an isolation or a block forbids is closed at once, by the kernel's
//! own `SOCK_DESTROY` (the program reads "connection aborted"). Sockets inside containers live in other
//! namespaces: their packets are stopped on the way through, their sockets are not reached from here.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use cordon_model::asset::Transport;
use nix::errno::Errno;
use nix::sys::socket::SockProtocol;

use super::intent::Connection;
use super::netlink::{ACK, Channel, NetlinkError, REQUEST, message};

/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// `SOCK_DESTROY`.
const DESTROY: u16 = 21;
const IPV4: u8 = 2;
const IPV6: u8 = 10;
/// TCP states 1–5, 8, 9, 11, 12: everything but listening, closed and waiting out its time.
const CONNECTED: u32 = 0b1_1011_0011_1110;
/// TCP state 10.
const LISTENING: u32 = 1 << 10;
/// `struct inet_diag_sockid`.
const ID_BYTES: usize = 48;

/// An open connection, and the kernel's name for it.
#[derive(Debug, Clone)]
struct Found {
    connection: Connection,
    family: u8,
    id: [u8; ID_BYTES],
}

/// What became of the connections that an isolation forbids.
#[derive(Debug)]
pub struct Cut {
    /// How many were closed.
    pub closed: u32,
    /// Why some may still be there; their packets are stopped by the rules all the same.
    pub left: Option<NetlinkError>,
}

/// The way to this namespace's sockets.
#[derive(Debug)]
pub struct Sockets {
    channel: Channel,
}

impl Sockets {
    /// Opens it in this thread's network namespace.
    ///
    /// # Errors
    /// When the kernel has no socket diagnostics.
    pub fn open() -> Result<Self, NetlinkError> {
        Channel::open(SockProtocol::NetlinkSockDiag, 0).map(|channel| Self { channel })
    }

    /// Closes every connection that `is_cut` names, and says how many. One that can't be closed does not
    /// save the others.
    pub fn cut(&mut self, mut is_cut: impl FnMut(&Connection) -> bool) -> Cut {
        let mut cut = Cut { closed: 0, left: None };
        for (transport, number) in [(Transport::Tcp, 6), (Transport::Udp, 17)] {
            for family in [IPV4, IPV6] {
                let found = self.list(transport, number, family, CONNECTED);
                let found = found.unwrap_or_else(|error| {
                    cut.left.get_or_insert(error);
                    Vec::new()
                });
                for found in found.iter().filter(|found| is_cut(&found.connection)) {
                    match self.close(number, found) {
                        Ok(was_there) => cut.closed += u32::from(was_there),
                        Err(error) => drop(cut.left.get_or_insert(error)),
                    }
                }
            }
        }
        cut
    }

    /// Every open connection.
    ///
    /// # Errors
    /// When they can't be listed.
    pub fn connections(&mut self) -> Result<Vec<Connection>, NetlinkError> {
        let mut connections = Vec::new();
        for (transport, number) in [(Transport::Tcp, 6), (Transport::Udp, 17)] {
            for family in [IPV4, IPV6] {
                let listed = self.list(transport, number, family, CONNECTED)?;
                connections.extend(listed.into_iter().map(|found| found.connection));
            }
        }
        Ok(connections)
    }

    /// The TCP ports that programs of this machine wait at.
    ///
    /// # Errors
    /// When they can't be listed.
    pub fn listening(&mut self) -> Result<BTreeSet<u16>, NetlinkError> {
        Ok(self.listening_at()?.iter().map(SocketAddr::port).collect())
    }

    /// Where programs of this machine wait for TCP.
    ///
    /// # Errors
    /// When they can't be listed.
    pub fn listening_at(&mut self) -> Result<BTreeSet<SocketAddr>, NetlinkError> {
        let mut places = BTreeSet::new();
        for family in [IPV4, IPV6] {
            let listed = self.list(Transport::Tcp, 6, family, LISTENING)?;
            places.extend(listed.into_iter().map(|found| found.connection.local));
        }
        Ok(places)
    }

    fn list(
        &mut self,
        transport: Transport,
        number: u8,
        family: u8,
        states: u32,
    ) -> Result<Vec<Found>, NetlinkError> {
        let listed = self.channel.list("listing connections", BY_FAMILY, |to| {
            to.extend_from_slice(&[family, number, 0, 0]);
            to.extend_from_slice(&states.to_ne_bytes());
            to.extend_from_slice(&[0; ID_BYTES]);
        })?;
        Ok(listed.iter().filter_map(|listed| read(&listed.body, transport)).collect())
    }

    /// Whether it was there to be closed.
    fn close(&mut self, number: u8, found: &Found) -> Result<bool, NetlinkError> {
        let sequence = self.channel.next_sequence();
        let mut bytes = Vec::new();
        message(&mut bytes, DESTROY, REQUEST | ACK, sequence, |to| {
            to.extend_from_slice(&[found.family, number, 0, 0]);
            to.extend_from_slice(&CONNECTED.to_ne_bytes());
            to.extend_from_slice(&found.id);
        });
        match self.channel.transact("closing a connection", &bytes, sequence) {
            Ok(()) => Ok(true),
            // It went by itself meanwhile.
            Err(NetlinkError::Refused { errno: Errno::ENOENT | Errno::ESTALE, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// One `struct inet_diag_msg`.
fn read(body: &[u8], transport: Transport) -> Option<Found> {
    let family = *body.first()?;
    let id: [u8; ID_BYTES] = body.get(4..4 + ID_BYTES)?.try_into().ok()?;
    let user = body.get(64..68)?.try_into().ok().map(u32::from_ne_bytes)?;
    let address = |at: usize| -> Option<IpAddr> {
        Some(match family {
            IPV4 => Ipv4Addr::from(<[u8; 4]>::try_from(id.get(at..at + 4)?).ok()?).into(),
            IPV6 => {
                let address = Ipv6Addr::from(<[u8; 16]>::try_from(id.get(at..at + 16)?).ok()?);
                // A socket for both families shows IPv4 peers as ::ffff:a.b.c.d.
                IpAddr::from(address).to_canonical()
            }
            _ => return None,
        })
    };
    let port = |at: usize| u16::from_be_bytes([id[at], id[at + 1]]);
    Some(Found {
        connection: Connection {
            transport,
            local: SocketAddr::new(address(4)?, port(0)),
            remote: SocketAddr::new(address(20)?, port(2)),
            user,
        },
        family,
        id,
    })
}

/// The addresses of this namespace's interfaces.
#[must_use]
pub fn own_addresses() -> BTreeSet<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return BTreeSet::new() };
    interfaces
        .filter_map(|interface| interface.address)
        .filter_map(|address| match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
            (Some(address), _) => Some(IpAddr::from(address.ip())),
            (_, Some(address)) => Some(IpAddr::from(address.ip())),
            _ => None,
        })
        .collect()
}
