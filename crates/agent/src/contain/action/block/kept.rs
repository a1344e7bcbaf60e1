//! What a block never cuts (law 3): lifelines, the hub's link, the resolution of names, and what a machine
//! says to itself or needs to have an address at all.
//!
//! The one idea: the hub and the resolvers are written down as lifelines, so that one list is refused by,
//! put before all blocks in the rules, and spared when connections are closed. What is declared after a
//! block was begun is not refused any more, and still comes first in the rules.
//!
//! Resolvers are the machine's own word (`/etc/resolv.conf`): who is root there can make a block spare one
//! address's port 53, and could as well remove the block. Without names a machine is as good as cut off.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use cordon_model::action::{Blocked, BlockedPeer};
use cordon_model::asset::{Assignment, Direction, Lifeline, PortRange, Transport};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::super::super::intent::{Connection, belongs_to};

/// Where a machine's resolvers are named; the second is systemd-resolved's, whose own address is in the first.
const RESOLVERS: [&str; 2] = ["etc/resolv.conf", "run/systemd/resolve/resolv.conf"];
/// Resolvers that are kept: the C library asks three, systemd-resolved a few for each link.
const MOST_RESOLVERS: usize = 16;
/// The most that is read of such a file.
const RESOLVER_BYTES: u64 = 64 << 10;
/// DNS (RFC 1035) over either transport, and over TLS (RFC 7858).
const NAME_SERVICES: [(Transport, u16); 3] =
    [(Transport::Udp, 53), (Transport::Tcp, 53), (Transport::Tcp, 853)];
/// DHCP (RFC 2131) and DHCPv6 (RFC 8415).
const CONFIGURATION: [PortRange; 2] =
    [PortRange { first: 67, last: 68 }, PortRange { first: 546, last: 547 }];

/// Everything that wins over a block on one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    /// As lifelines, each named by what it is.
    pub(super) flows: Vec<Lifeline>,
    /// This machine's own addresses.
    own: BTreeSet<IpAddr>,
}

impl Kept {
    /// What `assignment` declares, and names resolved at `resolvers`, on a machine with the addresses `own`.
    pub(super) fn of(assignment: &Assignment, resolvers: &[IpAddr], own: BTreeSet<IpAddr>) -> Self {
        let pinned = |name: String, peer: IpAddr, transport, port| Lifeline {
            name,
            peer: peer.to_canonical().into(),
            transport,
            ports: PortRange::one(port),
            direction: Direction::Outbound,
            signed_off_by: None,
        };
        let declared = assignment.lifelines.iter().map(|lifeline| Lifeline {
            name: format!("the lifeline {:?}", lifeline.name),
            ..lifeline.clone()
        });
        let hub = assignment.hub.iter().map(|hub| {
            pinned(format!("the link to the hub at {hub}"), hub.ip(), Transport::Tcp, hub.port())
        });
        let names = resolvers.iter().flat_map(|resolver| {
            let name = format!("the resolution of names at {resolver}");
            NAME_SERVICES.map(|(transport, port)| pinned(name.clone(), *resolver, transport, port))
        });
        Self { flows: declared.chain(hub).chain(names).collect(), own }
    }

    /// Why `blocked` may not be begun, if so.
    pub(super) fn why_not(&self, blocked: &Blocked) -> Option<String> {
        let is_configuration = |ports: PortRange| CONFIGURATION.iter().any(|of| of.overlaps(ports));
        if blocked.transport == Some(Transport::Udp) && blocked.ports.is_some_and(is_configuration)
        {
            return Some("address configuration (DHCP) is never blocked".into());
        }
        for network in networks(blocked) {
            if itself().iter().any(|of| overlap(of, &network)) {
                return Some(format!("{network} has addresses of every machine itself (loopback)"));
            }
            if is_single(&network) && self.own.contains(&network.addr()) {
                return Some(format!("{} is this machine's own address", network.addr()));
            }
            let cuts = |flow: &&Lifeline| would_cut(blocked, &network, flow);
            if let Some(flow) = self.flows.iter().find(cuts) {
                return Some(format!(
                    "it would cut {} ({}): what is kept is never blocked; leave it out by transport, \
                     ports or direction",
                    flow.name,
                    in_words(flow)
                ));
            }
        }
        None
    }

    /// The names of what is kept though a block of before would cut it.
    pub(super) fn overruled(&self, blocked: &Blocked) -> BTreeSet<String> {
        let networks = networks(blocked);
        let is_cut = |flow: &&Lifeline| networks.iter().any(|net| would_cut(blocked, net, flow));
        self.flows.iter().filter(is_cut).map(|flow| flow.name.clone()).collect()
    }

    /// Whether an open connection stays, whatever is blocked.
    pub(super) fn keeps(&self, connection: &Connection) -> bool {
        let remote = connection.remote.ip();
        remote.is_loopback()
            || self.owns(remote)
            || self.flows.iter().any(|flow| belongs_to(flow, connection))
    }

    /// Whether `address` is this machine's own.
    pub(super) fn owns(&self, address: IpAddr) -> bool {
        self.own.contains(&address)
    }
}

/// The peer's networks, each once, as packets show them.
pub(super) fn networks(blocked: &Blocked) -> BTreeSet<IpNet> {
    match &blocked.peer {
        BlockedPeer::Network(network) => BTreeSet::from([canonical(*network)]),
        BlockedPeer::Domain { addresses, .. } => {
            addresses.iter().map(|address| IpNet::from(address.to_canonical())).collect()
        }
    }
}

/// `::ffff:a.b.c.d` is an IPv4 peer: such packets are IPv4's.
fn canonical(network: IpNet) -> IpNet {
    let network = network.trunc();
    match (network, network.addr().to_canonical()) {
        (IpNet::V6(net), IpAddr::V4(address)) if net.prefix_len() >= 96 => {
            let net = Ipv4Net::new(address, net.prefix_len() - 96);
            net.map_or(network, |net| IpNet::V4(net).trunc())
        }
        _ => network,
    }
}

fn is_single(network: &IpNet) -> bool {
    network.prefix_len() == network.max_prefix_len()
}

fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

/// Loopback and "this host" (RFC 1122 section 3.2.1.3), and the same of IPv6.
fn itself() -> [IpNet; 4] {
    let four = |first| Ipv4Net::new_assert([first, 0, 0, 0].into(), 8).into();
    let six = |last| Ipv6Net::new_assert([0, 0, 0, 0, 0, 0, 0, last].into(), 128).into();
    [four(127), four(0), six(1), six(0)]
}

/// Whether `blocked` covers any flow that `flow` declares.
fn would_cut(blocked: &Blocked, network: &IpNet, flow: &Lifeline) -> bool {
    overlap(network, &flow.peer.trunc())
        && blocked.transport.is_none_or(|transport| transport == flow.transport)
        && blocked.direction.is_none_or(|direction| direction == flow.direction)
        && blocked.ports.is_none_or(|ports| ports.overlaps(flow.ports))
}

fn in_words(flow: &Lifeline) -> String {
    let transport = match flow.transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    };
    let way = match flow.direction {
        Direction::Inbound => "inbound",
        Direction::Outbound => "outbound",
    };
    let PortRange { first, last } = flow.ports;
    let ports = if first == last { first.to_string() } else { format!("{first}-{last}") };
    format!("{way} {} {transport} {ports}", flow.peer)
}

/// The resolvers that the machine under `root` asks.
pub(super) fn resolvers(root: &Path) -> Vec<IpAddr> {
    use std::io::Read as _;
    let mut found = BTreeSet::new();
    for file in RESOLVERS {
        let mut text = Vec::new();
        let read = std::fs::File::open(root.join(file))
            .and_then(|file| file.take(RESOLVER_BYTES).read_to_end(&mut text));
        if read.is_ok() {
            found.extend(named(&String::from_utf8_lossy(&text)));
        }
    }
    found.into_iter().take(MOST_RESOLVERS).collect()
}

/// The addresses in a resolv.conf(5), but those of the machine itself.
fn named(text: &str) -> impl Iterator<Item = IpAddr> {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then_some(())?;
        // A link-local one is followed by its link: fe80::1%eth0.
        let address = words.next()?.split('%').next()?.parse::<IpAddr>().ok()?.to_canonical();
        (!address.is_loopback() && !address.is_unspecified()).then_some(address)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assignment() -> Assignment {
        let id = cordon_model::ids::MachineId::new(
            cordon_model::time::UtcNanos::from_unix_nanos(0),
            [1; 10],
        );
        let mut assignment = Assignment::of("RJ1".parse().unwrap(), id, "ward 7");
        assignment.hub = vec!["10.0.0.4:7443".parse().unwrap(), "[fd00::4]:7443".parse().unwrap()];
        assignment.lifelines = vec![Lifeline {
            name: "DICOM to the PACS".into(),
            peer: "10.0.9.0/24".parse().unwrap(),
            transport: Transport::Tcp,
            ports: PortRange { first: 104, last: 110 },
            direction: Direction::Outbound,
            signed_off_by: None,
        }];
        assignment
    }

    fn kept() -> Kept {
        let resolvers = ["10.0.0.53".parse().unwrap(), "fd00::53".parse().unwrap()];
        let own = ["10.0.0.1", "fd00::1"].map(|own| own.parse().unwrap());
        Kept::of(&assignment(), &resolvers, own.into())
    }

    fn block(peer: &str) -> Blocked {
        let peer = BlockedPeer::Network(peer.parse().unwrap());
        Blocked { peer, transport: None, ports: None, direction: None }
    }

    fn why_not(blocked: &Blocked) -> String {
        kept().why_not(blocked).unwrap_or_default()
    }

    #[test]
    fn a_block_that_would_cut_what_is_kept_is_refused_by_its_name() {
        for peer in ["10.0.9.7/32", "10.0.9.0/25", "10.0.0.0/16"] {
            assert!(why_not(&block(peer)).contains("DICOM to the PACS"), "{peer}");
        }
        for peer in ["10.0.0.4/32", "::ffff:10.0.0.4/128", "fd00::4/128"] {
            assert!(why_not(&block(peer)).contains("the link to the hub"), "{peer}");
        }
        for peer in ["10.0.0.53/32", "fd00::53/128"] {
            assert!(why_not(&block(peer)).contains("resolution of names"), "{peer}");
        }
        for peer in ["127.0.0.1/32", "64.0.0.0/2", "::1/128", "0.0.0.0/32", "::/1"] {
            assert!(why_not(&block(peer)).contains("loopback"), "{peer}");
        }
        assert!(why_not(&block("10.0.0.1/32")).contains("own address"));
        assert!(why_not(&block("fd00::1/128")).contains("own address"));
    }

    #[test]
    fn a_name_is_refused_for_any_one_of_its_addresses() {
        let addresses = vec!["192.0.2.7".parse().unwrap(), "10.0.9.7".parse().unwrap()];
        let peer = BlockedPeer::Domain { name: "c2.example".into(), addresses };
        let blocked = Blocked { peer, transport: None, ports: None, direction: None };
        assert!(why_not(&blocked).contains("DICOM"));
    }

    #[test]
    fn what_leaves_the_kept_flow_out_is_no_harm() {
        let leaves = |transport, ports: Option<(u16, u16)>, direction| {
            let ports = ports.map(|(first, last)| PortRange { first, last });
            let blocked = Blocked { transport, ports, direction, ..block("10.0.9.7/32") };
            why_not(&blocked).is_empty()
        };
        assert!(leaves(Some(Transport::Udp), None, None));
        assert!(leaves(Some(Transport::Tcp), Some((445, 445)), None));
        assert!(leaves(None, None, Some(Direction::Inbound)));
        assert!(!leaves(None, None, Some(Direction::Outbound)));
        assert!(!leaves(Some(Transport::Tcp), Some((100, 104)), None));
        assert!(why_not(&block("10.0.8.7/32")).is_empty());
    }

    #[test]
    fn address_configuration_is_never_blocked() {
        for ports in [67, 68, 546, 547] {
            let blocked = Blocked {
                transport: Some(Transport::Udp),
                ports: Some(PortRange::one(ports)),
                ..block("10.0.8.1/32")
            };
            assert!(why_not(&blocked).contains("DHCP"));
        }
    }

    #[test]
    fn resolvers_are_read_as_the_c_library_reads_them() {
        let text = "# nameserver 10.9.9.9\nsearch ward\nnameserver 10.0.0.53\n\tnameserver  fe80::1%eth0\n\
                    nameserver 127.0.0.53\nnameserver\nnameserver nonsense\n";
        let found: Vec<String> = named(text).map(|address| address.to_string()).collect();
        assert_eq!(found, ["10.0.0.53", "fe80::1"]);
    }

    #[test]
    fn what_became_kept_later_is_named() {
        assert_eq!(
            kept().overruled(&block("10.0.9.0/24")).into_iter().collect::<Vec<_>>(),
            ["the lifeline \"DICOM to the PACS\""]
        );
        assert!(kept().overruled(&block("10.0.8.0/24")).is_empty());
    }

    proptest::proptest! {
        #[test]
        fn a_resolv_conf_of_any_bytes_does_no_harm(text: String) {
            let _ = named(&text).count();
        }
    }
}
