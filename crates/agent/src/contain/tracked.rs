//! What connection tracking remembers of an open connection: the port that the peer opened, where this machine
//! has redirected it to another.
//!
//! The one idea: the rules judge such a connection by that port, so its socket must be judged by it too, or the
//! lifeline would live and its open session be closed, or a blocked port's session live on. It is asked about
//! single connections, never listed.

use std::net::{IpAddr, SocketAddr};

use cordon_model::asset::{Direction, Lifeline};
use nix::errno::Errno;
use nix::sys::socket::SockProtocol;

use super::intent::{Connection, belongs_to, may_be_redirected};
use super::netlink::{Channel, NetlinkError, attribute, find, nest};
use super::phrase::number_of;

/// `IPCTNL_MSG_CT_GET` of `NFNL_SUBSYS_CTNETLINK`.
const GET: u16 = 1 << 8 | 1;
/// `CTA_TUPLE_ORIG`.
const ORIGINAL: u16 = 1;
/// `CTA_TUPLE_REPLY`.
const REPLY: u16 = 2;
/// `CTA_TUPLE_IP`.
const ADDRESSES: u16 = 1;
/// `CTA_TUPLE_PROTO`.
const PROTOCOL: u16 = 2;
/// `CTA_PROTO_NUM`.
const NUMBER: u16 = 1;
/// `CTA_PROTO_SRC_PORT`.
const SOURCE_PORT: u16 = 2;
/// `CTA_PROTO_DST_PORT`.
const DESTINATION_PORT: u16 = 3;
/// `struct nfgenmsg`.
const GENERAL: usize = 4;

/// The way to this namespace's connection tracking.
#[derive(Debug)]
pub(super) struct Tracked {
    channel: Channel,
}

impl Tracked {
    /// Opens it in this thread's network namespace.
    ///
    /// # Errors
    /// When the kernel gives no netlink socket.
    pub(super) fn open() -> Result<Self, NetlinkError> {
        Channel::open(SockProtocol::NetlinkNetFilter, 0).map(|channel| Self { channel })
    }

    /// Whether an open connection is an inbound one of `lifelines` by the port that its peer opened. Where the
    /// kernel does not say, it is taken for one: its packets are judged by the rules all the same.
    pub(super) fn is_redirected_lifeline(
        &mut self,
        lifelines: &[Lifeline],
        connection: &Connection,
    ) -> bool {
        let is_inbound = |opened: Connection| {
            lifelines.iter().any(|lifeline| {
                lifeline.direction == Direction::Inbound && belongs_to(lifeline, &opened)
            })
        };
        may_be_redirected(lifelines, connection)
            && match self.as_opened(connection) {
                Ok(opened) => opened.is_some_and(is_inbound),
                Err(_) => true,
            }
    }

    /// `connection` as its peer opened it; `None` if it is not tracked, or this machine opened it.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub(super) fn as_opened(
        &mut self,
        connection: &Connection,
    ) -> Result<Option<Connection>, NetlinkError> {
        let port = self.opened_port(connection)?;
        let local = |port| SocketAddr::new(connection.local.ip(), port);
        Ok(port.map(|port| Connection { local: local(port), ..*connection }))
    }

    /// The port to which the peer of `connection` opened it; `None` if it is not tracked, or this machine opened
    /// it.
    ///
    /// # Errors
    /// When the kernel does not say.
    fn opened_port(&mut self, connection: &Connection) -> Result<Option<u16>, NetlinkError> {
        let (local, remote) = (connection.local, connection.remote);
        let family = if local.is_ipv4() { 2 } else { 10 };
        let answer = self.channel.ask("asking for a tracked connection", GET, |to| {
            to.extend_from_slice(&[family, 0, 0, 0]);
            // As this machine answers in it.
            nest(to, REPLY, |to| {
                nest(to, ADDRESSES, |to| addresses(to, local.ip(), remote.ip()));
                nest(to, PROTOCOL, |to| {
                    attribute(to, NUMBER, &[number_of(connection.transport)]);
                    attribute(to, SOURCE_PORT, &local.port().to_be_bytes());
                    attribute(to, DESTINATION_PORT, &remote.port().to_be_bytes());
                });
            });
        });
        let answer = match answer {
            Ok(answer) => answer,
            Err(NetlinkError::Refused { errno: Errno::ENOENT, .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let body = answer.body.get(GENERAL..).unwrap_or_default();
        Ok(find(body, ORIGINAL).and_then(|tuple| {
            let from = port(tuple, SOURCE_PORT)?;
            // What this machine opened has its own port there.
            (from == remote.port()).then(|| port(tuple, DESTINATION_PORT))?
        }))
    }
}

fn addresses(to: &mut Vec<u8>, source: IpAddr, destination: IpAddr) {
    // `CTA_IP_V4_SRC` and so on.
    for (address, [kind4, kind6]) in [(source, [1, 3]), (destination, [2, 4])] {
        match address {
            IpAddr::V4(address) => attribute(to, kind4, &address.octets()),
            IpAddr::V6(address) => attribute(to, kind6, &address.octets()),
        }
    }
}

fn port(tuple: &[u8], which: u16) -> Option<u16> {
    let bytes = find(find(tuple, PROTOCOL)?, which)?;
    bytes.try_into().ok().map(u16::from_be_bytes)
}
