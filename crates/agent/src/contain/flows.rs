//! Lifelines as the kernel looks them up.
//!
//! The one idea: lifelines to networks of one size are elements of one set, found by their hash however
//! many they are; one rule asks the set where otherwise each would have a rule. The kernel takes some fifty
//! times as long to put a rule in force as an element.
//!
//! | lifelines of | are in a set of | whose rule tells |
//! |---|---|---|
//! | one port | addresses, transports and ports | nothing else |
//! | a few ports in a row | the same: each port is an element | nothing else |
//! | a range of many ports | addresses, one set for each range | the range |
//!
//! * **What has nothing in common with another stays a rule**: it costs no more, and reads better.
//! * **A set is never changed.** Its name carries a digest of what is in it, so that other lifelines are
//!   another set. The one that gives way stays whole until no packet is at the rules that ask it (see
//!   [`super::table`]).
//! * **Plain sets only.** The kernel flips a rule and an element of a plain set by the same bit; it does not
//!   do so with sets of intervals. That is why ranges are told by rules.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use cordon_model::asset::{Direction, Lifeline, PortRange, Transport};
use ipnet::IpNet;
use sha2::{Digest, Sha256};

use super::cover::{self, Patch};
use super::nft::{Chain, Element, Expression, Field, Meta, Rule, Set, Verdict, quarter};
use super::phrase::{
    Family, Port, Side, TCP, UDP, at_ports, direction, in_network, jump, load_address, load_port,
    mask, number_of, of_family, opens_nothing, protocol,
};
use super::ruleset::TooScattered;

/// The fewest pieces that make a set worth it.
const FEWEST: usize = 2;

/// Elements that the pieces of one range may become: about what a set of its own costs the kernel with the two
/// to four rules that ask it.
const SPELLED: usize = 64;

/// Elements that all ranges of one direction may become, so that the transaction stays small.
const SPELLED_IN_ALL: usize = 2048;

/// What accepts the lifelines: packets come to the chains by [`super::ruleset`]'s.
#[derive(Debug, Default)]
pub(super) struct Flows {
    pub(super) sets: Vec<Set>,
    /// There also when they are empty.
    pub(super) chains: Vec<Chain>,
}

impl Flows {
    pub(super) fn of(lifelines: &[Lifeline]) -> Result<Self, TooScattered> {
        let [outbound, inbound] = [Direction::Outbound, Direction::Inbound].map(|direction| {
            let declared = lifelines.iter().filter(|lifeline| lifeline.direction == direction);
            let patches = declared.map(|lifeline| Patch {
                network: lifeline.peer,
                transport: lifeline.transport,
                ports: lifeline.ports,
            });
            cover::disjoint(&patches.collect::<Vec<_>>())
        });
        let pieces = outbound.len() + inbound.len();
        if pieces > cover::ELEMENTS {
            return Err(TooScattered(pieces));
        }
        let outbound = Looked::up("outbound", outbound);
        let inbound = Looked::up("inbound", inbound);
        let (peer_is_asked, peer_asks) = (Side::Destination, Side::Source);
        let accept = Verdict::Accept;
        let chains = vec![
            outbound.chain("outbound", peer_is_asked, Port::Destination, &accept),
            outbound.chain("outbound-answers", peer_asks, Port::Source, &jump("answers")),
            inbound.chain("inbound", peer_asks, Port::Destination, &accept),
            inbound.chain("inbound-answers", peer_is_asked, Port::Source, &jump("answers")),
            // A service in a container is published by translating its port, so a lifeline to it is known
            // by the port that the peer opened.
            inbound.chain("published", peer_asks, Port::Original, &accept),
            inbound.chain("published-answers", peer_is_asked, Port::Original, &accept),
            answers(),
        ];
        let sets = [outbound, inbound].into_iter().flat_map(|looked| looked.sets);
        Ok(Self { sets: sets.map(|(_, set)| set).collect(), chains })
    }
}

/// One direction's lifelines, by how they are looked up.
struct Looked {
    sets: Vec<(Common, Set)>,
    alone: Vec<Patch>,
}

impl Looked {
    fn up(of: &str, pieces: Vec<Patch>) -> Self {
        let (shared, alone): (Vec<_>, Vec<_>) = by_common(spelled_out(pieces))
            .into_iter()
            .partition(|(_, pieces)| pieces.len() >= FEWEST);
        Self {
            sets: shared
                .into_iter()
                .map(|(common, of_it)| (common, common.set(of, &of_it)))
                .collect(),
            alone: alone.into_iter().flat_map(|(_, pieces)| pieces).collect(),
        }
    }

    /// Packets that belong to these lifelines, by the side where the peer is and the port that tells.
    fn chain(&self, name: &str, peer: Side, port: Port, then: &Verdict) -> Chain {
        let shared = self.sets.iter().map(|(common, set)| common.is_in(set, peer, port));
        let alone = self.alone.iter().map(|piece| {
            [in_network(&piece.network, peer), at_ports(piece.transport, port, piece.ports)]
                .concat()
        });
        let rules = shared.chain(alone).map(|mut rule| {
            rule.push(Expression::Verdict(then.clone()));
            rule
        });
        Chain { name: name.into(), base: None, rules: rules.collect() }
    }
}

fn by_common(pieces: Vec<Patch>) -> BTreeMap<Common, Vec<Patch>> {
    let mut by_common: BTreeMap<Common, Vec<Patch>> = BTreeMap::new();
    for piece in pieces {
        by_common.entry(Common::of(&piece)).or_default().push(piece);
    }
    by_common
}

/// The same flows, with short ranges of ports port by port, wherever that saves a set or comes into one that
/// there is anyway.
fn spelled_out(pieces: Vec<Patch>) -> Vec<Patch> {
    let mut groups = by_common(pieces);
    let cost = |common: &Common, pieces: &[Patch]| {
        common.range.map(|(_, ports)| pieces.len() * (1 + usize::from(ports.last - ports.first)))
    };
    let mut ranges: Vec<(usize, Common)> = groups
        .iter()
        .filter_map(|(common, pieces)| Some((cost(common, pieces)?, *common)))
        .filter(|(cost, common)| {
            let one_port = Common { range: None, ..*common };
            *cost <= SPELLED && (groups[common].len() >= FEWEST || groups.contains_key(&one_port))
        })
        .collect();
    ranges.sort_unstable();
    let mut left = SPELLED_IN_ALL;
    for (cost, common) in ranges {
        let Some(rest) = left.checked_sub(cost) else { break };
        left = rest;
        let spelled = groups.remove(&common).unwrap_or_default().into_iter().flat_map(|piece| {
            let ports = piece.ports.first..=piece.ports.last;
            ports.map(move |port| Patch { ports: PortRange::one(port), ..piece })
        });
        groups.entry(Common { range: None, ..common }).or_default().extend(spelled);
    }
    groups.into_values().flatten().collect()
}

/// What the pieces in one set have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Common {
    family: Family,
    /// The bits of the address that count.
    prefix: u8,
    /// The range of ports; if none, each piece has one port, and the set tells which.
    range: Option<(Transport, PortRange)>,
}

impl Common {
    fn of(piece: &Patch) -> Self {
        let PortRange { first, last } = piece.ports;
        Self {
            family: match piece.network {
                IpNet::V4(_) => Family::V4,
                IpNet::V6(_) => Family::V6,
            },
            prefix: piece.network.prefix_len(),
            range: (first < last).then_some((piece.transport, piece.ports)),
        }
    }

    fn set(self, of: &str, pieces: &[Patch]) -> Set {
        let keys: BTreeSet<Vec<u8>> = pieces.iter().map(|piece| self.key_of(piece)).collect();
        // The name says the rest; every key of a set is equally long.
        let mut digest = Sha256::new();
        for key in &keys {
            digest.update(key);
        }
        let digest = digest.finalize();
        let elements = keys.into_iter().map(Element::Key).collect();
        let digest: String = digest[..4].iter().map(|byte| format!("{byte:02x}")).collect();
        Set { name: format!("{of}-{self}-{digest}"), flags: 0, key: self.key(), elements }
    }

    fn key(self) -> Vec<Field> {
        let address = self.address_field().into_iter();
        match self.range {
            Some(_) => address.collect(),
            None => address.chain([Field::Protocol, Field::Port]).collect(),
        }
    }

    /// Where no bit of the address counts, it is no part of the key. (Pieces of a range are then never
    /// two, for they would be the same.)
    fn address_field(self) -> Option<Field> {
        match self.family {
            _ if self.prefix == 0 => None,
            Family::V4 => Some(Field::Ipv4),
            Family::V6 => Some(Field::Ipv6),
        }
    }

    fn key_of(self, piece: &Patch) -> Vec<u8> {
        let mut key = match piece.network.trunc() {
            _ if self.prefix == 0 => Vec::new(),
            IpNet::V4(network) => network.addr().octets().to_vec(),
            IpNet::V6(network) => network.addr().octets().to_vec(),
        };
        if self.range.is_none() {
            let [high, low] = piece.ports.first.to_be_bytes();
            // Each field is filled up to 4 bytes.
            key.extend([number_of(piece.transport), 0, 0, 0, high, low, 0, 0]);
        }
        key
    }

    /// Goes on only with what is in `set`, by the peer's side and the port that tells.
    fn is_in(self, set: &Set, peer: Side, port: Port) -> Rule {
        let mut rule = of_family(self.family);
        let address = self.address_field();
        if address.is_some() {
            rule.push(load_address(self.family, peer));
            rule.extend(self.mask().map(|bits| mask(&bits)));
        }
        let lookup = Expression::Lookup { set: set.name.clone(), register: quarter(0) };
        if let Some((transport, ports)) = self.range {
            rule.push(lookup);
            rule.extend(at_ports(transport, port, ports));
        } else {
            let next = address.map_or(0, |field| field.bytes() / 4);
            rule.push(Expression::Meta { key: Meta::Protocol, into: quarter(next) });
            rule.push(load_port(port, quarter(next + 1)));
            rule.push(lookup);
        }
        rule
    }

    /// The bits that count, if not all do.
    fn mask(self) -> Option<Vec<u8>> {
        let prefix = u32::from(self.prefix);
        match self.family {
            Family::V4 => u32::MAX.checked_shr(prefix).map(|rest| (!rest).to_be_bytes().to_vec()),
            Family::V6 => u128::MAX.checked_shr(prefix).map(|rest| (!rest).to_be_bytes().to_vec()),
        }
    }
}

/// In a set's name.
impl fmt::Display for Common {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match self.family {
            Family::V4 => "ipv4",
            Family::V6 => "ipv6",
        };
        write!(to, "{family}-{}", self.prefix)?;
        match self.range {
            Some((Transport::Tcp, PortRange { first, last })) => write!(to, "-tcp-{first}-{last}"),
            Some((Transport::Udp, PortRange { first, last })) => write!(to, "-udp-{first}-{last}"),
            None => Ok(()),
        }
    }
}

/// Packets of the side that answers: TCP that opens nothing, UDP that tracking knows as a reply.
fn answers() -> Chain {
    let accept = Expression::Verdict(Verdict::Accept);
    let tcp = [protocol(TCP), opens_nothing(), vec![accept.clone()]].concat();
    let udp = [protocol(UDP), direction(1), vec![accept]].concat();
    Chain { name: "answers".into(), base: None, rules: vec![tcp, udp] }
}
