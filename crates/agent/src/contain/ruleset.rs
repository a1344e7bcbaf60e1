//! The table that carries an [`Intent`] out. Pure: the same intent gives the same table.
//!
//! How it is shaped, and why:
//!
//! * **One table of our own**, `inet cordon`, for IPv4 and IPv6 alike. A drop in any chain is final in
//!   nftables, so no other table's `accept` (docker's, firewalld's) can overrule ours; and ours lifts
//!   nothing that others forbid.
//! * **Priority −50**: after connection tracking (−200) and destination translation (−100), so that we
//!   judge the real other side and not what a local redirect made of it; before the usual filters (0),
//!   which then neither log nor answer what is cut.
//! * **`established` is never accepted.** Replies are told by their side of a flow that is allowed, so
//!   a live session of an intruder dies with everything else. TCP replies are told without memory (not
//!   a segment that opens a connection): tracking may begin with this very table, and would take the
//!   next packet of an open session for its first, in the wrong direction. UDP has no opening segment,
//!   so its replies need tracking's direction.
//! * **The hub's link** is open to the agent's user alone; its connections get a bit in their mark, by
//!   which replies, and the last packets of a socket that was closed, are known.
//! * **DNS is closed**: nothing is resolved on a contained machine, and names are an exit for data.
//!
//! What it does not reach, and is not claimed: frames that root sends by a packet socket, which pass no
//! `inet` hook; traffic between ports of one bridge on this machine, unless the kernel is set to show
//! bridged packets to IP hooks; connections that somebody's flow table already carries past all chains
//! (told in the proof).
//!
//! Refused TCP from this machine is answered by a reset, so that its programs fail at once instead of
//! hanging; what comes from outside is dropped without a word.

use std::collections::BTreeSet;
use std::net::IpAddr;

use cordon_model::asset::{Direction, LATERAL_MOVEMENT, Transport};
use cordon_model::ids::MeasureId;
use cordon_model::measure::Isolation;
use ipnet::IpNet;
use sha2::{Digest, Sha256};

use super::cover::{self, Patch};
use super::intent::Intent;
use super::nft::{
    Base, Chain, Element, Expression, Field, Header, Hook, Meta, Rule, Set, Table, Track, Verdict,
};
use super::phrase::{
    Family, ICMP, ICMPV6, Port, Side, TCP, UDP, dhcp, different, direction, equal, icmpv6, in_set,
    is_marked, is_translated, link_local, mask, of_family, of_hub, on_loopback, opens_nothing,
    protocol, to_answers,
};

/// The table's name.
pub const TABLE: &str = "cordon";
/// See the module's text.
pub const PRIORITY: i32 = -50;
/// The bit of a connection's mark that says "opened by the agent to the hub". One bit, and one that
/// Docker, Kubernetes (14, 15), Cilium (8–11) and Tailscale (16–23) leave alone.
pub const HUB_MARK: u32 = 1 << 28;

/// Tracking's state bit for an error about a known connection.
const RELATED: u32 = 1 << 2;

/// A declared set of flows that is too scattered to be kept exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the lifelines come to {0} separate pieces, and {limit} can be kept: declare wider ranges",
    limit = cover::ELEMENTS
)]
pub struct TooScattered(usize);

/// The table for `intent`, or `None` where nothing is cut.
///
/// # Errors
/// [`TooScattered`].
pub fn ruleset(intent: &Intent, measure: MeasureId) -> Result<Option<Table>, TooScattered> {
    let flows = Flows::of(intent)?;
    let mut table = match intent.isolation {
        Isolation::Watch => return Ok(None),
        Isolation::Segment => segment(intent, flows),
        Isolation::Full => full(intent, flows),
    };
    // Read back by people; what is compared is the table itself.
    let digest = Sha256::digest(format!("{:?}{:?}", table.sets, table.chains));
    let digest: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    table.comment = format!("cordon: {}, measure {measure}, rules {digest}", intent.isolation);
    Ok(Some(table))
}

/// The lifelines as sets; a set that would be empty is left out, and so are its rules.
struct Flows {
    sets: Vec<Set>,
}

impl Flows {
    fn of(intent: &Intent) -> Result<Self, TooScattered> {
        let mut sets = Vec::new();
        for (direction, name) in
            [(Direction::Outbound, "outbound"), (Direction::Inbound, "inbound")]
        {
            let patches: Vec<Patch> = intent
                .lifelines
                .iter()
                .filter(|lifeline| lifeline.direction == direction)
                .map(|lifeline| Patch {
                    network: lifeline.peer,
                    transport: lifeline.transport,
                    ports: lifeline.ports,
                })
                .collect();
            let pieces = cover::disjoint(&patches);
            for (suffix, address) in [("4", Field::Ipv4), ("6", Field::Ipv6)] {
                let elements: BTreeSet<Element> = pieces
                    .iter()
                    .filter(|piece| matches!(piece.network, IpNet::V4(_)) == (suffix == "4"))
                    .map(element)
                    .collect();
                if !elements.is_empty() {
                    sets.push(Set {
                        name: format!("{name}{suffix}"),
                        key: vec![address, Field::Protocol, Field::Port],
                        elements,
                    });
                }
            }
        }
        let pieces = sets.iter().map(|set: &Set| set.elements.len()).sum();
        if pieces > cover::ELEMENTS { Err(TooScattered(pieces)) } else { Ok(Self { sets }) }
    }

    fn has(&self, set: &str) -> bool {
        self.sets.iter().any(|found| found.name == set)
    }

    /// Rules for packets whose `address` and `port` side are in one of `set`'s two families.
    fn rules(
        &self,
        set: &str,
        address: Side,
        port: Port,
        before: &[Expression],
        then: Verdict,
    ) -> Vec<Rule> {
        [("4", Family::V4), ("6", Family::V6)]
            .into_iter()
            .map(|(suffix, family)| (format!("{set}{suffix}"), family))
            .filter(|(name, _)| self.has(name))
            .map(|(name, family)| {
                let mut rule = before.to_vec();
                rule.extend(in_set(name, Some((family, address)), port));
                rule.push(Expression::Verdict(then.clone()));
                rule
            })
            .collect()
    }
}

fn element(piece: &Patch) -> Element {
    let number = match piece.transport {
        Transport::Tcp => TCP,
        Transport::Udp => UDP,
    };
    let bytes = |address: IpAddr, port: u16| {
        let mut key = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        key.extend_from_slice(&[number, 0, 0, 0]);
        key.extend_from_slice(&port.to_be_bytes());
        key.extend_from_slice(&[0, 0]);
        key
    };
    Element {
        first: bytes(piece.network.network(), piece.ports.first),
        last: bytes(piece.network.broadcast(), piece.ports.last),
    }
}

fn lateral() -> Set {
    let elements = LATERAL_MOVEMENT
        .iter()
        .map(|(transport, ports)| {
            let number = if *transport == Transport::Tcp { TCP } else { UDP };
            let [first, last] = [ports.first, ports.last].map(|port| {
                let port = port.to_be_bytes();
                vec![number, 0, 0, 0, port[0], port[1], 0, 0]
            });
            Element { first, last }
        })
        .collect();
    Set { name: "lateral".into(), key: vec![Field::Protocol, Field::Port], elements }
}

fn segment(intent: &Intent, mut flows: Flows) -> Table {
    let cut = |then: fn(bool) -> Rule| {
        let mut rules = Vec::new();
        for is_tcp in [true, false] {
            for port in [Port::Destination, Port::Source, Port::Original] {
                let mut rule = if is_tcp { protocol(TCP) } else { Rule::new() };
                // A service that is published by translation shows another port by now.
                rule.extend(if port == Port::Original { is_translated() } else { Rule::new() });
                rule.extend(in_set("lateral".into(), None, port));
                rule.extend(then(is_tcp));
                rules.push(rule);
            }
        }
        rules
    };
    let silently = |_| vec![Expression::Verdict(Verdict::Drop)];
    let aloud =
        |is_tcp| vec![if is_tcp { Expression::Reset } else { Expression::Verdict(Verdict::Drop) }];
    let chains = vec![
        answers(),
        base(Hook::Input, false, [kept_in(intent, &flows), cut(silently)].concat()),
        base(Hook::Forward, false, [kept_through(&flows), cut(silently)].concat()),
        base(Hook::Output, false, [kept_out(intent, &flows), cut(aloud)].concat()),
    ];
    flows.sets.push(lateral());
    Table { comment: String::new(), flags: 0, sets: flows.sets, chains }
}

fn full(intent: &Intent, flows: Flows) -> Table {
    let mut reset = protocol(TCP);
    reset.push(Expression::Reset);
    let chains = vec![
        answers(),
        base(
            Hook::Input,
            true,
            [kept_in(intent, &flows), configuration_in(), path_errors()].concat(),
        ),
        base(Hook::Forward, true, [kept_through(&flows), path_errors()].concat()),
        base(
            Hook::Output,
            true,
            [kept_out(intent, &flows), configuration_out(), vec![reset]].concat(),
        ),
    ];
    Table { comment: String::new(), flags: 0, sets: flows.sets, chains }
}

fn base(hook: Hook, drops: bool, rules: Vec<Rule>) -> Chain {
    let name = match hook {
        Hook::Input => "input",
        Hook::Forward => "forward",
        Hook::Output => "output",
    };
    Chain {
        name: name.into(),
        base: Some(Base { hook: hook.number(), priority: PRIORITY, drops }),
        rules,
    }
}

/// Packets of the side that answers: TCP that opens nothing, UDP that tracking knows as a reply.
fn answers() -> Chain {
    let accept = Expression::Verdict(Verdict::Accept);
    let tcp = [protocol(TCP), opens_nothing(), vec![accept.clone()]].concat();
    let udp = [protocol(UDP), direction(1), vec![accept]].concat();
    Chain { name: "answers".into(), base: None, rules: vec![tcp, udp] }
}

fn kept_in(intent: &Intent, flows: &Flows) -> Vec<Rule> {
    let mut rules = vec![on_loopback(Meta::InputInterface)];
    rules.extend(intent.hub.iter().map(|hub| {
        let mut rule = of_hub(hub, Side::Source, Port::Source);
        rule.extend(is_marked());
        rule.push(Expression::Verdict(Verdict::Accept));
        rule
    }));
    rules.extend(flows.rules("inbound", Side::Source, Port::Destination, &[], Verdict::Accept));
    rules.extend(flows.rules("outbound", Side::Source, Port::Source, &[], to_answers()));
    rules
}

fn kept_out(intent: &Intent, flows: &Flows) -> Vec<Rule> {
    let mut rules = vec![on_loopback(Meta::OutputInterface)];
    for hub in &intent.hub {
        let to_hub = of_hub(hub, Side::Destination, Port::Destination);
        let mut opening = to_hub.clone();
        opening.extend([
            Expression::Meta { key: Meta::SocketUser, into: 1 },
            equal(&intent.agent_user.to_ne_bytes()),
            Expression::Track { key: Track::Mark, into: 1 },
            Expression::Bits {
                register: 1,
                mask: (!HUB_MARK).to_ne_bytes().to_vec(),
                flip: HUB_MARK.to_ne_bytes().to_vec(),
            },
            Expression::SetMark { from: 1 },
            Expression::Verdict(Verdict::Accept),
        ]);
        // A socket that was closed has no user any more, and still has a farewell to send.
        let closing =
            [to_hub, is_marked(), opens_nothing(), vec![Expression::Verdict(Verdict::Accept)]];
        rules.extend([opening, closing.concat()]);
    }
    rules.extend(flows.rules(
        "outbound",
        Side::Destination,
        Port::Destination,
        &[],
        Verdict::Accept,
    ));
    rules.extend(flows.rules("inbound", Side::Destination, Port::Source, &[], to_answers()));
    rules
}

/// Containers' lifelines. A service in a container is published by translating its port, so an
/// inbound lifeline is known by the port that the peer opened, and only on translated connections:
/// this machine does not become a router to others' services.
fn kept_through(flows: &Flows) -> Vec<Rule> {
    let accept = || Verdict::Accept;
    let published = |way: u8| [is_translated(), direction(way)].concat();
    [
        flows.rules("outbound", Side::Destination, Port::Destination, &[], accept()),
        flows.rules("outbound", Side::Source, Port::Source, &[], to_answers()),
        flows.rules("inbound", Side::Source, Port::Original, &published(0), accept()),
        flows.rules("inbound", Side::Destination, Port::Original, &published(1), accept()),
    ]
    .concat()
}

/// What keeps the machine's addresses: neighbour and router discovery (RFC 4861, hop limit 255 proves
/// that it comes from the link), multicast listening (RFC 3810, hop limit 1), DHCP (RFC 2131: ports 67
/// and 68; RFC 8415: 546 and 547, link-local). ARP is not IP and never reaches this table.
fn configuration_in() -> Vec<Rule> {
    const ROUTER_ADVERTISEMENT: u8 = 134;
    const NEIGHBOUR: [u8; 2] = [135, 136];
    const LISTENER_QUERY: u8 = 130;
    vec![
        icmpv6(ROUTER_ADVERTISEMENT, 255),
        icmpv6(NEIGHBOUR[0], 255),
        icmpv6(NEIGHBOUR[1], 255),
        icmpv6(LISTENER_QUERY, 1),
        dhcp(Family::V4, 67, 68, &[]),
        dhcp(Family::V6, 547, 546, &link_local(Side::Source)),
    ]
}

/// The other half of [`configuration_in`]. A machine never advertises routes while contained.
fn configuration_out() -> Vec<Rule> {
    const ROUTER_SOLICITATION: u8 = 133;
    const NEIGHBOUR: [u8; 2] = [135, 136];
    const LISTENER: [u8; 3] = [131, 132, 143];
    /// All DHCP relays and servers on the link: ff02::1:2.
    const SERVERS: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2];
    let servers = vec![
        Expression::Payload { header: Header::Network, offset: 24, bytes: 16, into: 1 },
        equal(&SERVERS),
    ];
    let mut rules = vec![icmpv6(ROUTER_SOLICITATION, 255)];
    rules.extend(NEIGHBOUR.map(|kind| icmpv6(kind, 255)));
    rules.extend(LISTENER.map(|kind| icmpv6(kind, 1)));
    rules.push(dhcp(Family::V4, 68, 67, &[]));
    rules.push(dhcp(Family::V6, 546, 547, &servers));
    rules.push(dhcp(Family::V6, 546, 547, &link_local(Side::Destination)));
    rules
}

/// Errors without which a lifeline over a narrower path would stall: fragmentation needed (RFC 1191)
/// and packet too big (RFC 8201), about connections that tracking knows.
fn path_errors() -> Vec<Rule> {
    let about_known = [
        Expression::Track { key: Track::State, into: 1 },
        mask(&RELATED.to_ne_bytes()),
        different(&0u32.to_ne_bytes()),
    ];
    [(Family::V4, ICMP, &[3u8, 4][..]), (Family::V6, ICMPV6, &[2u8][..])]
        .into_iter()
        .map(|(family, number, kind)| {
            let bytes = u32::try_from(kind.len()).unwrap_or(0);
            [
                about_known.to_vec(),
                of_family(family),
                protocol(number),
                vec![
                    Expression::Payload { header: Header::Transport, offset: 0, bytes, into: 1 },
                    equal(kind),
                    Expression::Verdict(Verdict::Accept),
                ],
            ]
            .concat()
        })
        .collect()
}

#[cfg(test)]
#[path = "ruleset_tests.rs"]
mod tests;
