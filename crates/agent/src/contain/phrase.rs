//! The phrases that rules are made of.
//!
//! Each is a run of expressions that goes on only if it matches; a rule is a few of them and a verdict.

use std::net::{IpAddr, SocketAddr};

use cordon_model::asset::{PortRange, Transport};
use ipnet::IpNet;

use super::nft::{Expression, Header, Meta, Rule, Track, Verdict};
use super::ruleset::HUB_MARK;

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const ICMP: u8 = 1;
pub(super) const ICMPV6: u8 = 58;
/// Loopback is interface 1 in every network namespace.
const LOOPBACK: u32 = 1;
/// Tracking's status bit for a connection whose destination was translated.
pub(super) const TRANSLATED: u32 = 1 << 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    V4,
    V6,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Source,
    Destination,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Port {
    Source,
    Destination,
    /// As the connection was opened, before translation.
    Original,
}

pub(super) fn jump(chain: &str) -> Verdict {
    Verdict::Jump(chain.into())
}

pub(super) fn number_of(transport: Transport) -> u8 {
    match transport {
        Transport::Tcp => TCP,
        Transport::Udp => UDP,
    }
}

pub(super) fn equal(value: &[u8]) -> Expression {
    Expression::Compare { register: 1, is_equal: true, value: value.to_vec() }
}

pub(super) fn different(value: &[u8]) -> Expression {
    Expression::Compare { register: 1, is_equal: false, value: value.to_vec() }
}

pub(super) fn mask(bits: &[u8]) -> Expression {
    Expression::Bits { register: 1, mask: bits.to_vec(), flip: vec![0; bits.len()] }
}

pub(super) fn on_loopback(key: Meta) -> Rule {
    vec![
        Expression::Meta { key, into: 1 },
        equal(&LOOPBACK.to_ne_bytes()),
        Expression::Verdict(Verdict::Accept),
    ]
}

pub(super) fn of_family(family: Family) -> Rule {
    let number = match family {
        Family::V4 => 2,
        Family::V6 => 10,
    };
    vec![Expression::Meta { key: Meta::Family, into: 1 }, equal(&[number])]
}

pub(super) fn protocol(number: u8) -> Rule {
    vec![Expression::Meta { key: Meta::Protocol, into: 1 }, equal(&[number])]
}

pub(super) fn direction(way: u8) -> Rule {
    vec![Expression::Track { key: Track::Direction, into: 1 }, equal(&[way])]
}

pub(super) fn is_translated() -> Rule {
    vec![
        Expression::Track { key: Track::Status, into: 1 },
        mask(&TRANSLATED.to_ne_bytes()),
        different(&0u32.to_ne_bytes()),
    ]
}

pub(super) fn is_marked() -> Rule {
    vec![
        Expression::Track { key: Track::Mark, into: 1 },
        mask(&HUB_MARK.to_ne_bytes()),
        equal(&HUB_MARK.to_ne_bytes()),
    ]
}

/// Not SYN without ACK (RFC 9293 section 3.5): such a segment can't open a connection.
pub(super) fn opens_nothing() -> Rule {
    const SYN: u8 = 0x02;
    const ACK: u8 = 0x10;
    vec![
        Expression::Payload { header: Header::Transport, offset: 13, bytes: 1, into: 1 },
        mask(&[SYN | ACK]),
        different(&[SYN]),
    ]
}

pub(super) fn load_address(family: Family, side: Side) -> Expression {
    let (offset, bytes) = match (family, side) {
        (Family::V4, Side::Source) => (12, 4),
        (Family::V4, Side::Destination) => (16, 4),
        (Family::V6, Side::Source) => (8, 16),
        (Family::V6, Side::Destination) => (24, 16),
    };
    Expression::Payload { header: Header::Network, offset, bytes, into: 1 }
}

pub(super) fn load_port(port: Port, into: u32) -> Expression {
    let offset = match port {
        Port::Source => 0,
        Port::Destination => 2,
        Port::Original => return Expression::Track { key: Track::OriginalPort, into },
    };
    Expression::Payload { header: Header::Transport, offset, bytes: 2, into }
}

pub(super) fn is_port(port: Port, number: u16) -> Rule {
    vec![load_port(port, 1), equal(&number.to_be_bytes())]
}

pub(super) fn of_hub(hub: &SocketAddr, side: Side, port: Port) -> Rule {
    let (family, address) = match hub.ip() {
        IpAddr::V4(address) => (Family::V4, address.octets().to_vec()),
        IpAddr::V6(address) => (Family::V6, address.octets().to_vec()),
    };
    [
        of_family(family),
        vec![load_address(family, side), equal(&address)],
        protocol(TCP),
        is_port(port, hub.port()),
    ]
    .concat()
}

/// An address of `network` at one side.
pub(super) fn in_network(network: &IpNet, side: Side) -> Rule {
    let (family, address, netmask) = match network.trunc() {
        IpNet::V4(net) => {
            (Family::V4, net.addr().octets().to_vec(), net.netmask().octets().to_vec())
        }
        IpNet::V6(net) => {
            (Family::V6, net.addr().octets().to_vec(), net.netmask().octets().to_vec())
        }
    };
    let mut rule = of_family(family);
    if network.prefix_len() > 0 {
        rule.push(load_address(family, side));
        if network.prefix_len() < network.max_prefix_len() {
            rule.push(mask(&netmask));
        }
        rule.push(equal(&address));
    }
    rule
}

/// One of `ports` of `transport`.
pub(super) fn at_ports(transport: Transport, port: Port, ports: PortRange) -> Rule {
    let mut rule = protocol(number_of(transport));
    rule.push(load_port(port, 1));
    rule.push(if ports.first == ports.last {
        equal(&ports.first.to_be_bytes())
    } else {
        let [first, last] = [ports.first, ports.last].map(|port| port.to_be_bytes().to_vec());
        Expression::Between { register: 1, first, last }
    });
    rule
}

pub(super) fn icmpv6(kind: u8, hop_limit: u8) -> Rule {
    [
        of_family(Family::V6),
        protocol(ICMPV6),
        vec![
            Expression::Payload { header: Header::Transport, offset: 0, bytes: 1, into: 1 },
            equal(&[kind]),
            Expression::Payload { header: Header::Network, offset: 7, bytes: 1, into: 1 },
            equal(&[hop_limit]),
            Expression::Verdict(Verdict::Accept),
        ],
    ]
    .concat()
}

/// fe80::/10.
pub(super) fn link_local(side: Side) -> Rule {
    let of_prefix = |first: [u8; 2]| [&first[..], &[0; 14]].concat();
    vec![
        load_address(Family::V6, side),
        mask(&of_prefix([0xff, 0xc0])),
        equal(&of_prefix([0xfe, 0x80])),
    ]
}

pub(super) fn dhcp(family: Family, from: u16, to: u16, and: &[Expression]) -> Rule {
    [
        of_family(family),
        protocol(UDP),
        is_port(Port::Source, from),
        is_port(Port::Destination, to),
        and.to_vec(),
        vec![Expression::Verdict(Verdict::Accept)],
    ]
    .concat()
}
