//! Whether an isolation in full would leave this machine its way to the hub, where that leads through a tunnel.
//!
//! The one idea: the hub's link is let through as the agent's user, but what carries it through a tunnel is
//! nobody's: the outer packets are the kernel's own (WireGuard) or another program's (OpenVPN). They live only
//! as a lifeline to the tunnel's gateway. So the kernel is asked by which device it would send to the hub;
//! where that is a tunnel, its carrier has to be among the lifelines, or this machine could be isolated and
//! never be told that it is released.
//!
//! | device | its gateway | is kept by |
//! |---|---|---|
//! | VXLAN, Geneve | the kernel tells everybody | lifelines to it and from it at the tunnel's port |
//! | WireGuard | only root is told | lifelines called `tunnel wg0`, to it and from it, by UDP |
//! | IPsec's | only root is told | the same, at another port than 500: by that only its keys travel |
//! | a program's own | nobody is told | a lifeline called `tunnel tun0` |
//! | IP in IP, GRE | is of no use: lifelines are TCP and UDP | nothing |
//!
//! Not seen: IPsec by policy alone, which has no device, and a tunnel below a bridge. Needs no privilege.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use cordon_model::asset::{Assignment, Direction, Lifeline, PortRange, Transport};
use cordon_model::limits;
use cordon_model::wire::{Coverage, HUB_LINK, HUB_WAY};
use nix::sys::socket::SockProtocol;

use super::netlink::{Channel, NetlinkError, attribute, find, find_text};

/// What is said where the kernel does not tell.
const NOT_READ: &str = HUB_WAY;

/// `RTM_GETROUTE`.
const GET_ROUTE: u16 = 26;
/// `RTM_GETLINK`.
const GET_LINK: u16 = 18;
/// `struct rtmsg`.
const ROUTE_BYTES: usize = 12;
/// `struct ifinfomsg`.
const LINK_BYTES: usize = 16;
/// `RTA_DST`.
const DESTINATION: u16 = 1;
/// `RTA_OIF`.
const DEVICE: u16 = 4;
/// `IFLA_IFNAME`.
const NAME: u16 = 3;
/// `IFLA_LINKINFO`.
const INFO: u16 = 18;
/// `IFLA_INFO_KIND`.
const KIND: u16 = 1;
/// `IFLA_INFO_DATA`.
const DATA: u16 = 2;
/// Where IKE begins (RFC 7296 section 2): no packet of a tunnel goes by it.
const KEYS: PortRange = PortRange { first: 500, last: 500 };

/// By what a tunnel's packets travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carrier {
    /// UDP to this peer and from it, at one port on both sides.
    Udp(SocketAddr),
    /// Nothing that has ports.
    NoPorts,
    /// The same, where only the organisation can say to which: the kernel sends from one port to one port,
    /// and either side may have spoken first.
    UnsaidUdp,
    /// IPsec's, which is that only inside UDP (RFC 3948): at 4500, and not where its keys are agreed on first.
    Ipsec,
    /// What a program sends: only the organisation can say.
    Unsaid,
}

/// A device that sends what it is given inside other packets.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tunnel {
    device: String,
    kind: String,
    carrier: Carrier,
}

/// One way to somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Way {
    /// There is none.
    None,
    /// By no tunnel, as far as the kernel says.
    Plain,
    /// By a tunnel that a full isolation keeps, and by which lifeline.
    Kept(String),
    /// By one that it cuts, and why.
    Cut(String),
}

/// Whether `coverage` is what [`told`] says.
#[must_use]
pub fn is_told_by(coverage: &Coverage) -> bool {
    coverage.what == HUB_LINK || coverage.what == NOT_READ
}

/// What people have to know of the way to the hub of `assignment`; `None` where it leads through no tunnel.
/// `link`: the address that the present link stands on, which alone is judged where there is one.
#[must_use]
pub fn told(assignment: &Assignment, link: Option<IpAddr>) -> Option<Coverage> {
    let declared = || assignment.hub.iter().map(SocketAddr::ip).collect();
    let hubs: Vec<IpAddr> = link.map_or_else(declared, |link| vec![link]);
    let ways = Routes::open().and_then(|mut routes| {
        let ways = hubs.iter().map(|hub| {
            let hub = hub.to_canonical();
            way_to(hub, &assignment.lifelines, &mut routes, &mut BTreeSet::new())
        });
        ways.collect::<Result<Vec<Way>, _>>()
    });
    let ways = match ways {
        Ok(ways) => ways,
        Err(why) => {
            let gap =
                format!("whether it is a tunnel, which an isolation cuts, is not known: {why}");
            return Some(Coverage { what: NOT_READ.into(), by: None, gap: Some(gap) });
        }
    };
    let (by, gap) = worst(&ways)?;
    Some(Coverage { what: HUB_LINK.into(), by: by.map(brief), gap: gap.map(brief) })
}

/// By what the hub is reached, or what cuts it. A default route is a way to every address, also to one at
/// which no hub answers from here: so of several ways one that is cut counts.
fn worst(ways: &[Way]) -> Option<(Option<String>, Option<String>)> {
    let cut = ways.iter().find_map(|way| match way {
        Way::Cut(why) => Some((None, Some(format!("this machine reaches its hub {why}")))),
        Way::None | Way::Plain | Way::Kept(_) => None,
    });
    let kept = || {
        ways.iter().find_map(|way| match way {
            Way::Kept(by) => Some((Some(by.clone()), None)),
            Way::None | Way::Plain | Way::Cut(_) => None,
        })
    };
    cut.or_else(kept)
}

/// As much as the hub takes of it: a lifeline's name alone may be as long.
fn brief(text: String) -> String {
    const LONGEST_LETTER: usize = 4;
    text.chars().take(limits::NAME_BYTES / LONGEST_LETTER).collect()
}

/// Where packets to an address go, as the kernel says.
trait Lookup {
    /// The tunnel by which they leave: `Ok(None)` if there is no way, `Ok(Some(None))` if it is no tunnel.
    fn leaves_by(&mut self, to: IpAddr) -> Result<Option<Option<Tunnel>>, NetlinkError>;
}

fn way_to(
    to: IpAddr,
    lifelines: &[Lifeline],
    lookup: &mut impl Lookup,
    through: &mut BTreeSet<String>,
) -> Result<Way, NetlinkError> {
    let tunnel = match lookup.leaves_by(to)? {
        None => return Ok(Way::None),
        Some(None) => return Ok(Way::Plain),
        // A tunnel for everything takes its own gateway's address too, for all but what its own mark is on.
        Some(Some(tunnel)) if !through.insert(tunnel.device.clone()) => return Ok(Way::Plain),
        Some(Some(tunnel)) => tunnel,
    };
    let Tunnel { device, kind, carrier } = &tunnel;
    let by = format!("through tunnel {device} ({kind})");
    let lifeline = match carrier {
        Carrier::Udp(gateway) => keeps_both_ways(lifelines, *gateway).ok_or_else(|| {
            format!("{by}; its gateway {gateway} is no lifeline by UDP, outbound and inbound")
        }),
        Carrier::NoPorts => {
            Err(format!("{by}, which is neither TCP nor UDP and so can be no lifeline"))
        }
        Carrier::UnsaidUdp => called_both_ways(lifelines, device, |_| true).ok_or_else(|| {
            format!(
                "{by}; its gateway is no lifeline: declare it to one address, by UDP, outbound and inbound at the same ports, as \"tunnel {device}\""
            )
        }),
        Carrier::Ipsec => {
            called_both_ways(lifelines, device, |ports| ports != KEYS).ok_or_else(|| {
                format!(
                    "{by}; its gateway is no lifeline: declare it to one address, by UDP at 500 and at 4500, which carries it, outbound and inbound, as \"tunnel {device}\""
                )
            })
        }
        Carrier::Unsaid => called(lifelines, device).next().ok_or_else(|| {
            format!(
                "{by}; its gateway is no lifeline: declare it to one address, outbound, as \"tunnel {device}\""
            )
        }),
    };
    let lifeline = match lifeline {
        Ok(lifeline) => lifeline,
        Err(why) => return Ok(Way::Cut(why)),
    };
    let gateway = match carrier {
        Carrier::Udp(gateway) => gateway.ip(),
        Carrier::NoPorts | Carrier::UnsaidUdp | Carrier::Ipsec | Carrier::Unsaid => {
            lifeline.peer.addr()
        }
    };
    Ok(match way_to(gateway, lifelines, lookup, through)? {
        Way::Cut(why) => Way::Cut(format!("{by}, and its gateway is reached {why}")),
        // Where there is no way now, the tunnel is down: what is kept is all that is said.
        Way::Plain | Way::Kept(_) | Way::None => {
            Way::Kept(format!("{device} ({kind}), carried by the lifeline {:?}", lifeline.name))
        }
    })
}

/// A lifeline that keeps UDP to `gateway`, where one keeps it from there too: both sides send to that port.
fn keeps_both_ways(lifelines: &[Lifeline], gateway: SocketAddr) -> Option<&Lifeline> {
    let in_direction = |direction| {
        lifelines.iter().find(move |lifeline| {
            lifeline.direction == direction
                && lifeline.transport == Transport::Udp
                && lifeline.ports.overlaps(PortRange::one(gateway.port()))
                && lifeline.peer.contains(&gateway.ip())
        })
    };
    in_direction(Direction::Inbound).and(in_direction(Direction::Outbound))
}

/// The lifelines to one address that the organisation calls after the tunnel: `tunnel wg0`, or that and more
/// words.
fn called<'a>(lifelines: &'a [Lifeline], device: &str) -> impl Iterator<Item = &'a Lifeline> {
    lifelines.iter().filter(move |lifeline| {
        let mut words = lifeline.name.split_whitespace();
        words.next() == Some("tunnel")
            && words.next() == Some(device)
            && lifeline.direction == Direction::Outbound
            && lifeline.peer.prefix_len() == lifeline.peer.max_prefix_len()
    })
}

/// One of these that is UDP at ports that carry it, where another keeps the same from there: if the gateway has
/// spoken first, its flow is an inbound one from then on.
fn called_both_ways<'a>(
    lifelines: &'a [Lifeline],
    device: &str,
    carry: impl Fn(PortRange) -> bool,
) -> Option<&'a Lifeline> {
    let is_carrier = |out: &&Lifeline| out.transport == Transport::Udp && carry(out.ports);
    called(lifelines, device).filter(is_carrier).find(|out| {
        lifelines.iter().any(|back| {
            back.direction == Direction::Inbound
                && back.transport == Transport::Udp
                && (back.peer, back.ports) == (out.peer, out.ports)
        })
    })
}

/// The kernel's routes and devices of this network namespace.
struct Routes {
    channel: Channel,
}

impl Routes {
    fn open() -> Result<Self, NetlinkError> {
        Channel::open(SockProtocol::NetlinkRoute, 0).map(|channel| Self { channel })
    }

    /// The number of the device by which packets of this thread's user leave.
    fn device_to(&mut self, to: IpAddr) -> Result<Option<u32>, NetlinkError> {
        let (family, address) = match to {
            IpAddr::V4(to) => (2, to.octets().to_vec()),
            IpAddr::V6(to) => (10, to.octets().to_vec()),
        };
        let bits = if to.is_ipv4() { 32 } else { 128 };
        let answer = self.channel.ask("asking for a route", GET_ROUTE, |body| {
            let mut route = [0; ROUTE_BYTES];
            (route[0], route[1]) = (family, bits);
            body.extend_from_slice(&route);
            attribute(body, DESTINATION, &address);
        });
        match answer {
            Ok(answer) => Ok(attribute_u32(answer.body.get(ROUTE_BYTES..), DEVICE)),
            // No such network, no such host, forbidden: no way.
            Err(NetlinkError::Refused { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Lookup for Routes {
    fn leaves_by(&mut self, to: IpAddr) -> Result<Option<Option<Tunnel>>, NetlinkError> {
        let Some(device) = self.device_to(to)? else { return Ok(None) };
        let answer = self.channel.ask("asking for a device", GET_LINK, |body| {
            let mut link = [0; LINK_BYTES];
            link[4..8].copy_from_slice(&device.to_ne_bytes());
            body.extend_from_slice(&link);
        })?;
        Ok(Some(tunnel(answer.body.get(LINK_BYTES..).unwrap_or_default())))
    }
}

fn attribute_u32(bytes: Option<&[u8]>, kind: u16) -> Option<u32> {
    find(bytes?, kind)?.try_into().ok().map(u32::from_ne_bytes)
}

/// The tunnel that a device is, by its attributes.
fn tunnel(attributes: &[u8]) -> Option<Tunnel> {
    let info = find(attributes, INFO)?;
    let kind = find_text(info, KIND)?;
    let data = find(info, DATA).unwrap_or_default();
    let carrier = match kind.as_str() {
        // `IFLA_VXLAN_GROUP`, `_GROUP6` and `_PORT`; the same of Geneve's remote.
        "vxlan" => to_peer(data, 2, 16, 15),
        "geneve" => to_peer(data, 2, 7, 5),
        "ipip" | "sit" | "ip6tnl" | "gre" | "gretap" | "ip6gre" | "ip6gretap" | "erspan"
        | "ip6erspan" => Carrier::NoPorts,
        "wireguard" | "amneziawg" | "bareudp" => Carrier::UnsaidUdp,
        "xfrm" | "vti" | "vti6" => Carrier::Ipsec,
        "tun" | "ovpn" | "ovpn-dco" | "ppp" => Carrier::Unsaid,
        _ => return None,
    };
    let device = find_text(attributes, NAME).unwrap_or_default();
    Some(Tunnel { device, kind, carrier })
}

/// The one peer that a device sends to; one that has many, or learns them, has none.
fn to_peer(data: &[u8], kind4: u16, kind6: u16, port: u16) -> Carrier {
    let ipv4 = || Some(Ipv4Addr::from(<[u8; 4]>::try_from(find(data, kind4)?).ok()?).into());
    let ipv6 = || Some(Ipv6Addr::from(<[u8; 16]>::try_from(find(data, kind6)?).ok()?).into());
    let peer =
        ipv4().or_else(ipv6).filter(|peer: &IpAddr| !peer.is_unspecified() && !peer.is_multicast());
    let port = find(data, port).and_then(|port| port.try_into().ok()).map(u16::from_be_bytes);
    match peer.zip(port) {
        Some((peer, port)) => Carrier::Udp(SocketAddr::new(peer, port)),
        None => Carrier::UnsaidUdp,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Where packets to each address leave; to all others there is no way.
    struct Told(BTreeMap<IpAddr, Option<Tunnel>>);

    impl Lookup for Told {
        fn leaves_by(&mut self, to: IpAddr) -> Result<Option<Option<Tunnel>>, NetlinkError> {
            Ok(self.0.get(&to).cloned())
        }
    }

    const HUB: &str = "10.99.0.4";
    const GATEWAY: &str = "203.0.113.9";

    fn tunnel(device: &str, kind: &str, carrier: Carrier) -> Option<Tunnel> {
        Some(Tunnel { device: device.into(), kind: kind.into(), carrier })
    }

    fn lifeline(name: &str, peer: &str, port: u16, direction: Direction) -> Lifeline {
        Lifeline {
            name: name.into(),
            peer: peer.parse().unwrap(),
            transport: Transport::Udp,
            ports: PortRange::one(port),
            direction,
            signed_off_by: None,
        }
    }

    fn way(routes: &[(&str, Option<Tunnel>)], lifelines: &[Lifeline]) -> Way {
        let routes = routes.iter().map(|(to, by)| (to.parse().unwrap(), by.clone()));
        let (hub, mut told) = (HUB.parse().unwrap(), Told(routes.collect()));
        way_to(hub, lifelines, &mut told, &mut BTreeSet::new()).unwrap()
    }

    fn is_cut(way: &Way, because: &str) -> bool {
        matches!(way, Way::Cut(why) if why.contains(because))
    }

    #[test]
    fn a_tunnel_is_kept_by_a_lifeline_to_one_address_that_is_called_after_it() {
        let routes = [(HUB, tunnel("wg0", "tun", Carrier::Unsaid)), (GATEWAY, None)];
        let to_gateway = format!("{GATEWAY}/32");
        let out = Direction::Outbound;
        let kept = lifeline("tunnel wg0 to the data centre", &to_gateway, 51820, out);
        let found = way(&routes, std::slice::from_ref(&kept));
        assert!(matches!(&found, Way::Kept(by) if by.contains("wg0 (tun)")), "{found:?}");
        for other in [
            lifeline("the data centre", &to_gateway, 51820, out),
            lifeline("tunnel wg01", &to_gateway, 51820, out),
            lifeline("tunnel wg0", &to_gateway, 51820, Direction::Inbound),
            lifeline("tunnel wg0", "203.0.113.0/24", 51820, out),
        ] {
            let found = way(&routes, &[other]);
            assert!(is_cut(&found, "through tunnel wg0 (tun); its gateway"), "{found:?}");
        }
        // A tunnel for everything: what is no packet of its own goes to the gateway through it.
        let everything = [routes[0].clone(), (GATEWAY, routes[0].1.clone())];
        assert!(matches!(way(&everything, std::slice::from_ref(&kept)), Way::Kept(_)));
    }

    /// The kernel sends from one port to one port: where the gateway spoke first, outbound alone keeps nothing.
    #[test]
    fn wireguard_is_kept_by_udp_in_both_directions_only() {
        let routes = [(HUB, tunnel("wg0", "wireguard", Carrier::UnsaidUdp)), (GATEWAY, None)];
        let to_gateway = format!("{GATEWAY}/32");
        let both = [Direction::Outbound, Direction::Inbound]
            .map(|direction| lifeline("tunnel wg0", &to_gateway, 51820, direction));
        assert!(matches!(way(&routes, &both), Way::Kept(_)));
        let [out, back] = both;
        let tcp = Lifeline { transport: Transport::Tcp, ..back.clone() };
        let elsewhere = Lifeline { peer: "203.0.113.10/32".parse().unwrap(), ..back.clone() };
        let other_port = Lifeline { ports: PortRange::one(51821), ..back.clone() };
        for others in [vec![], vec![tcp], vec![elsewhere], vec![other_port]] {
            let lifelines: Vec<Lifeline> = std::iter::once(out.clone()).chain(others).collect();
            let found = way(&routes, &lifelines);
            assert!(is_cut(&found, "by UDP, outbound and inbound"), "{found:?}");
        }
        let tcp = Lifeline { transport: Transport::Tcp, ..out };
        assert!(is_cut(&way(&routes, &[tcp, back]), "by UDP"));
        assert!(matches!(
            super::tunnel(&of_kind("wireguard")),
            Some(Tunnel { carrier: Carrier::UnsaidUdp, .. })
        ));
    }

    /// Where its keys are agreed on is not where its packets travel.
    #[test]
    fn ipsec_is_kept_by_the_port_that_carries_it_and_not_by_that_of_its_keys() {
        for kind in ["xfrm", "vti", "vti6"] {
            let told = super::tunnel(&of_kind(kind)).unwrap();
            assert_eq!(told.carrier, Carrier::Ipsec, "{kind}");
        }
        let routes = [(HUB, tunnel("ipsec0", "xfrm", Carrier::Ipsec)), (GATEWAY, None)];
        let to_gateway = format!("{GATEWAY}/32");
        let both = |port| {
            [Direction::Outbound, Direction::Inbound]
                .map(|direction| lifeline("tunnel ipsec0", &to_gateway, port, direction))
        };
        let [keys, packets] = [both(500), both(4500)];
        assert!(is_cut(&way(&routes, &keys), "at 4500, which carries it"));
        assert!(matches!(way(&routes, &[keys.clone(), packets.clone()].concat()), Way::Kept(_)));
        // One direction of it is not made good by both of the keys'.
        let half = [keys.to_vec(), packets[..1].to_vec()].concat();
        assert!(is_cut(&way(&routes, &half), "outbound and inbound"));
        // A range that has both is no port of the keys alone.
        let range =
            packets.map(|one| Lifeline { ports: PortRange { first: 500, ..one.ports }, ..one });
        assert!(matches!(way(&routes, &range), Way::Kept(_)));
    }

    /// What the kernel says of a device of this kind.
    fn of_kind(kind: &str) -> Vec<u8> {
        let (mut info, mut said) = (Vec::new(), Vec::new());
        attribute(&mut info, KIND, kind.as_bytes());
        attribute(&mut said, INFO, &info);
        said
    }

    /// A default route leads to every address, and says nothing of whether a hub is there.
    #[test]
    fn of_several_ways_one_that_is_cut_counts() {
        let cut = Way::Cut("through tunnel wg0".into());
        let (by, gap) = worst(&[Way::Plain, Way::Kept("vx0".into()), cut]).unwrap();
        assert!(by.is_none() && gap.is_some_and(|gap| gap.contains("wg0")));
        assert!(matches!(worst(&[Way::Plain, Way::Kept("vx0".into())]), Some((Some(_), None))));
        assert_eq!(worst(&[Way::Plain, Way::None]), None);
    }

    #[test]
    fn a_tunnel_whose_peer_the_kernel_tells_is_kept_by_lifelines_both_ways() {
        let gateway: SocketAddr = SocketAddr::new(GATEWAY.parse().unwrap(), 4789);
        let routes = [(HUB, tunnel("vx0", "vxlan", Carrier::Udp(gateway))), (GATEWAY, None)];
        let to_gateway = format!("{GATEWAY}/32");
        let both = [Direction::Outbound, Direction::Inbound]
            .map(|direction| lifeline("overlay", &to_gateway, 4789, direction));
        assert!(matches!(way(&routes, &both), Way::Kept(_)));
        assert!(is_cut(&way(&routes, &both[..1]), "outbound and inbound"));
        assert!(is_cut(&way(&routes, &both[1..]), "outbound and inbound"));
        let elsewhere =
            both.clone().map(|lifeline| Lifeline { ports: PortRange::one(4790), ..lifeline });
        assert!(is_cut(&way(&routes, &elsewhere), "203.0.113.9:4789"));
    }

    #[test]
    fn what_has_no_ports_is_never_kept_and_a_tunnel_in_a_tunnel_is_only_as_good_as_the_outer_one() {
        let called = lifeline("tunnel gre1", &format!("{GATEWAY}/32"), 4500, Direction::Outbound);
        let gre = [(HUB, tunnel("gre1", "gre", Carrier::NoPorts)), (GATEWAY, None)];
        assert!(is_cut(&way(&gre, &[called]), "neither TCP nor UDP"));
        let inner = lifeline("tunnel tun0", "10.0.0.9/32", 1194, Direction::Outbound);
        let outer = lifeline("tunnel wg0", &format!("{GATEWAY}/32"), 51820, Direction::Outbound);
        let nested = [
            (HUB, tunnel("tun0", "tun", Carrier::Unsaid)),
            ("10.0.0.9", tunnel("wg0", "wireguard", Carrier::Unsaid)),
            (GATEWAY, None),
        ];
        assert!(is_cut(
            &way(&nested, std::slice::from_ref(&inner)),
            "its gateway is reached through tunnel wg0"
        ));
        assert!(matches!(way(&nested, &[inner, outer]), Way::Kept(by) if by.contains("tun0")));
    }

    #[test]
    fn a_plain_way_and_none_are_no_tunnel() {
        assert_eq!(way(&[(HUB, None)], &[]), Way::Plain);
        assert_eq!(way(&[], &[]), Way::None);
    }
}
