//! The rules against an independent statement of what they should do, packet by packet.

use std::net::{IpAddr, SocketAddr};

use cordon_model::asset::{Direction, Lifeline, PortRange};
use cordon_model::time::UtcNanos;
use proptest::prelude::*;

use super::super::nft::{Element, Set};
use super::super::phrase::{TRANSLATED, UDP};
use super::*;

/// Flags of a TCP segment that opens a connection.
const SYN: u8 = 2;
const SYN_ACK: u8 = 0x12;
const ACK: u8 = 0x10;

#[derive(Debug, Clone, Copy)]
struct Packet {
    hook: Hook,
    is_on_loopback: bool,
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    source_port: u16,
    destination_port: u16,
    tcp_flags: u8,
    hop_limit: u8,
    icmp: [u8; 2],
    user: Option<u32>,
    is_reply: bool,
    is_related: bool,
    mark: u32,
    /// The port before translation, if it was translated.
    original_port: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Passes,
    Dies,
}

/// What is meant, said without sets, registers or chains.
fn meant(intent: &Intent, packet: &Packet) -> Fate {
    let Packet { hook, source, destination, .. } = *packet;
    let (far, is_outgoing) = match hook {
        Hook::Input => (source, false),
        Hook::Output => (destination, true),
        Hook::Forward => (destination, true),
    };
    let opens = packet.protocol == TCP && packet.tcp_flags & SYN_ACK == SYN;
    let answers = match packet.protocol {
        TCP => !opens,
        UDP => packet.is_reply,
        _ => false,
    };
    let of = |lifeline: &Lifeline, direction, peer: IpAddr, port: u16| {
        let number = if lifeline.transport == Transport::Tcp { TCP } else { UDP };
        lifeline.direction == direction
            && number == packet.protocol
            && lifeline.peer.contains(&peer)
            && (lifeline.ports.first..=lifeline.ports.last).contains(&port)
    };
    // At a port of this machine that its peer did not open, and that nobody moves by.
    let redirected = packet.original_port.filter(|_| {
        let (is_ours, real) = match hook {
            Hook::Input => (!packet.is_reply, packet.destination_port),
            Hook::Output => (packet.is_reply, packet.source_port),
            Hook::Forward => (false, 0),
        };
        let transports = [Transport::Tcp, Transport::Udp];
        is_ours && !transports.into_iter().any(|of| super::super::intent::is_lateral(of, real))
    });
    let is_lifeline = intent.lifelines.iter().any(|lifeline| {
        let out = |peer, port| of(lifeline, Direction::Outbound, peer, port);
        let inward = |peer, port| of(lifeline, Direction::Inbound, peer, port);
        match hook {
            Hook::Output => {
                out(destination, packet.destination_port)
                    || answers && inward(destination, packet.source_port)
                    || redirected.is_some_and(|port| inward(destination, port))
            }
            Hook::Input => {
                inward(source, packet.destination_port)
                    || answers && out(source, packet.source_port)
                    || redirected.is_some_and(|port| inward(source, port))
            }
            Hook::Forward => {
                out(destination, packet.destination_port)
                    || answers && out(source, packet.source_port)
                    || packet.original_port.is_some_and(|port| {
                        if packet.is_reply {
                            inward(destination, port)
                        } else {
                            inward(source, port)
                        }
                    })
            }
        }
    });
    let is_marked = packet.mark & HUB_MARK != 0;
    let is_hub = packet.protocol == TCP
        && match hook {
            Hook::Output => {
                intent.hub.contains(&SocketAddr::new(far, packet.destination_port))
                    && (packet.user == Some(intent.agent_user) || is_marked && !opens)
            }
            Hook::Input => {
                intent.hub.contains(&SocketAddr::new(far, packet.source_port)) && is_marked
            }
            Hook::Forward => false,
        };
    if packet.is_on_loopback && hook != Hook::Forward || is_lifeline || is_hub {
        return Fate::Passes;
    }
    let is_lateral = |port| {
        [Transport::Tcp, Transport::Udp].into_iter().any(|transport| {
            packet.protocol == if transport == Transport::Tcp { TCP } else { UDP }
                && super::super::intent::is_lateral(transport, port)
        })
    };
    match intent.isolation {
        Isolation::Watch => Fate::Passes,
        Isolation::Segment if is_lateral(packet.source_port) => Fate::Dies,
        Isolation::Segment if is_lateral(packet.destination_port) => Fate::Dies,
        Isolation::Segment if packet.original_port.is_some_and(is_lateral) => Fate::Dies,
        Isolation::Segment => Fate::Passes,
        Isolation::Full if is_configuration(packet, is_outgoing) => Fate::Passes,
        Isolation::Full if hook != Hook::Output && is_path_error(packet) => Fate::Passes,
        Isolation::Full => Fate::Dies,
    }
}

fn is_path_error(packet: &Packet) -> bool {
    packet.is_related
        && match packet.protocol {
            ICMP => packet.source.is_ipv4() && packet.icmp == [3, 4],
            ICMPV6 => packet.source.is_ipv6() && packet.icmp[0] == 2,
            _ => false,
        }
}

fn is_configuration(packet: &Packet, is_outgoing: bool) -> bool {
    if packet.hook == Hook::Forward {
        return false;
    }
    let ports = (packet.source_port, packet.destination_port);
    let local = |address: IpAddr| match address {
        IpAddr::V6(address) => address.segments()[0] & 0xffc0 == 0xfe80,
        IpAddr::V4(_) => false,
    };
    match (packet.protocol, packet.source.is_ipv4(), is_outgoing) {
        (UDP, true, true) => ports == (68, 67),
        (UDP, true, false) => ports == (67, 68),
        (UDP, false, true) => {
            let servers: IpAddr = "ff02::1:2".parse().unwrap();
            ports == (546, 547) && (packet.destination == servers || local(packet.destination))
        }
        (UDP, false, false) => ports == (547, 546) && local(packet.source),
        (ICMPV6, false, true) => match packet.icmp[0] {
            133 | 135 | 136 => packet.hop_limit == 255,
            131 | 132 | 143 => packet.hop_limit == 1,
            _ => false,
        },
        (ICMPV6, false, false) => match packet.icmp[0] {
            134..=136 => packet.hop_limit == 255,
            130 => packet.hop_limit == 1,
            _ => false,
        },
        _ => false,
    }
}

/// Runs the rules as the kernel does.
fn run(table: &Table, packet: &Packet) -> Fate {
    let chain = table
        .chains
        .iter()
        .find(|chain| chain.base.as_ref().is_some_and(|base| base.hook == packet.hook.number()))
        .unwrap();
    let mut mark = packet.mark;
    match run_chain(table, chain, packet, &mut mark) {
        Some(fate) => fate,
        None if chain.base.as_ref().unwrap().drops => Fate::Dies,
        None => Fate::Passes,
    }
}

fn run_chain(table: &Table, chain: &Chain, packet: &Packet, mark: &mut u32) -> Option<Fate> {
    'rules: for rule in &chain.rules {
        // 20 quarters of 4 bytes: register 1 is at 0, 2 at 16, 8 at 0, 9 at 4…
        let mut registers = [0u8; 80];
        let at = |register: u32| -> usize {
            (if register < 8 { (register - 1) * 16 } else { (register - 8) * 4 }) as usize
        };
        let load = |registers: &mut [u8; 80], register, value: &[u8]| {
            let start = at(register);
            registers[start..start + value.len().next_multiple_of(4)].fill(0);
            registers[start..start + value.len()].copy_from_slice(value);
        };
        for step in rule {
            match step {
                Expression::Meta { key, into } => {
                    let interface = |yes: bool| u32::from(!yes) + 1;
                    let value = match key {
                        Meta::InputInterface | Meta::OutputInterface => {
                            interface(packet.is_on_loopback).to_ne_bytes().to_vec()
                        }
                        Meta::SocketUser => match packet.user {
                            Some(user) => user.to_ne_bytes().to_vec(),
                            None => continue 'rules,
                        },
                        Meta::Family => vec![if packet.source.is_ipv4() { 2 } else { 10 }],
                        Meta::Protocol => vec![packet.protocol],
                    };
                    load(&mut registers, *into, &value);
                }
                Expression::Payload { header, offset, bytes, into } => {
                    let Some(value) = bytes_of(packet, *header, *offset, *bytes) else {
                        continue 'rules;
                    };
                    load(&mut registers, *into, &value);
                }
                Expression::Track { key, into } => {
                    let value = match key {
                        Track::State => {
                            if packet.is_related { RELATED } else { 2 }.to_ne_bytes().to_vec()
                        }
                        Track::Direction => vec![u8::from(packet.is_reply)],
                        Track::Status => {
                            let bits = if packet.original_port.is_some() { TRANSLATED } else { 0 };
                            bits.to_ne_bytes().to_vec()
                        }
                        Track::Mark => mark.to_ne_bytes().to_vec(),
                        Track::OriginalPort => {
                            packet.original_port.unwrap_or(0).to_be_bytes().to_vec()
                        }
                    };
                    load(&mut registers, *into, &value);
                }
                Expression::SetMark { from } => {
                    let start = at(*from);
                    *mark = u32::from_ne_bytes(registers[start..start + 4].try_into().unwrap());
                }
                Expression::Bits { register, mask, flip } => {
                    let start = at(*register);
                    for (index, (mask, flip)) in mask.iter().zip(flip).enumerate() {
                        registers[start + index] = registers[start + index] & mask ^ flip;
                    }
                }
                Expression::Compare { register, is_equal, value } => {
                    let start = at(*register);
                    if (registers[start..start + value.len()] == value[..]) != *is_equal {
                        continue 'rules;
                    }
                }
                Expression::Between { register, first, last } => {
                    let value = &registers[at(*register)..][..first.len()];
                    if value < &first[..] || value > &last[..] {
                        continue 'rules;
                    }
                }
                Expression::Comment(_) => {}
                Expression::Lookup { set, register } => {
                    let set = table.sets.iter().find(|found| found.name == *set).unwrap();
                    if !holds(set, &registers[at(*register)..]) {
                        continue 'rules;
                    }
                }
                Expression::Verdict(Verdict::Accept) => return Some(Fate::Passes),
                Expression::Verdict(Verdict::Drop) | Expression::Reset => return Some(Fate::Dies),
                Expression::Verdict(Verdict::Jump(name)) => {
                    let next = table.chains.iter().find(|chain| chain.name == *name).unwrap();
                    if let Some(fate) = run_chain(table, next, packet, mark) {
                        return Some(fate);
                    }
                }
                Expression::Foreign(name) => panic!("{name} is never meant"),
            }
        }
    }
    None
}

fn holds(set: &Set, registers: &[u8]) -> bool {
    let bytes: u32 = set.key.iter().map(|field| field.bytes().next_multiple_of(4)).sum();
    set.elements.contains(&Element::Key(registers[..bytes as usize].to_vec()))
}

fn bytes_of(packet: &Packet, header: Header, offset: u32, bytes: u32) -> Option<Vec<u8>> {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let mut image = vec![0; 40];
    match header {
        Header::Network if packet.source.is_ipv4() => {
            image[12..16].copy_from_slice(&octets(packet.source));
            image[16..20].copy_from_slice(&octets(packet.destination));
        }
        Header::Network => {
            image[7] = packet.hop_limit;
            image[8..24].copy_from_slice(&octets(packet.source));
            image[24..40].copy_from_slice(&octets(packet.destination));
        }
        Header::Transport if [TCP, UDP].contains(&packet.protocol) => {
            image[0..2].copy_from_slice(&packet.source_port.to_be_bytes());
            image[2..4].copy_from_slice(&packet.destination_port.to_be_bytes());
            image[13] = packet.tcp_flags;
            // A UDP header ends before TCP's flags.
            image.truncate(if packet.protocol == TCP { 20 } else { 8 });
        }
        Header::Transport => image[0..2].copy_from_slice(&packet.icmp),
    }
    image.get(offset as usize..(offset + bytes) as usize).map(<[u8]>::to_vec)
}

const ADDRESSES: [&str; 8] = [
    "10.0.0.1",
    "10.0.0.2",
    "10.0.1.200",
    "192.168.7.7",
    "fd00::1",
    "fd00::8000:0:0:2",
    "fe80::9",
    "ff02::1:2",
];
const PORTS: [u16; 15] =
    [22, 67, 68, 104, 110, 137, 445, 546, 547, 3389, 5986, 7443, 11112, 33000, 50000];

fn lifeline() -> impl Strategy<Value = Lifeline> {
    let peer = proptest::sample::select(vec![
        "10.0.0.0/8",
        "10.0.0.2/32",
        "10.0.1.0/24",
        "192.168.7.7/32",
        "10.0.0.1/32",
        "10.0.0.0/24",
        "fd00::1/128",
        "0.0.0.0/0",
        "::/0",
        "fd00::/64",
        "fd00::8000:0:0:2/128",
    ]);
    // Many have one port, and many one range of ports, so that some share a set; a short range also with
    // single ports, a long one with its like only.
    let more = prop_oneof![2 => Just(0), 1 => Just(7), 1 => 0u16..9, 1 => Just(300)];
    (peer, any::<bool>(), proptest::sample::select(&PORTS[..]), more, any::<bool>()).prop_map(
        |(peer, is_tcp, first, more, is_inbound)| Lifeline {
            name: "a flow".into(),
            peer: peer.parse().unwrap(),
            transport: if is_tcp { Transport::Tcp } else { Transport::Udp },
            ports: PortRange { first, last: first + more },
            direction: if is_inbound { Direction::Inbound } else { Direction::Outbound },
            signed_off_by: None,
        },
    )
}

prop_compose! {
    pub(super) fn intents()(
        is_full in any::<bool>(),
        hub in proptest::sample::subsequence(
            vec!["10.0.0.1:7443", "fd00::1:7443", "[fd00::1]:7443", "10.0.0.1:445"], 0..4),
        lifelines in proptest::collection::vec(lifeline(), 0..8),
    ) -> Intent {
        Intent {
            isolation: if is_full { Isolation::Full } else { Isolation::Segment },
            hub: hub.iter().filter_map(|hub| hub.parse().ok()).collect(),
            lifelines,
            agent_user: 990,
        }
    }
}

prop_compose! {
    fn packets()(
        hook in proptest::sample::select(vec![Hook::Input, Hook::Output, Hook::Forward]),
        is_on_loopback in proptest::bool::weighted(0.05),
        addresses in proptest::sample::select(vec![(0, 1), (1, 0), (0, 2), (2, 0), (3, 1), (1, 3),
            (4, 5), (5, 4), (6, 5), (5, 6), (6, 7), (5, 7)]),
        protocol in proptest::sample::select(vec![TCP, TCP, UDP, ICMP, ICMPV6]),
        source_port in proptest::sample::select(&PORTS[..]),
        destination_port in proptest::sample::select(&PORTS[..]),
        tcp_flags in proptest::sample::select(vec![SYN, SYN_ACK, ACK, 4, 1]),
        hop_limit in proptest::sample::select(vec![1, 64, 255]),
        icmp in proptest::sample::select(vec![[3, 4], [3, 1], [8, 0], [2, 0], [130, 0], [131, 0],
            [133, 0], [134, 0], [135, 0], [136, 0], [143, 0], [128, 0]]),
        user in proptest::sample::select(vec![None, Some(0), Some(990)]),
        is_reply in any::<bool>(),
        is_related in proptest::bool::weighted(0.2),
        mark in proptest::sample::select(vec![0, HUB_MARK, 1, HUB_MARK | 1]),
        original_port in proptest::option::weighted(0.3, proptest::sample::select(&PORTS[..])),
    ) -> Packet {
        let [source, destination] =
            [addresses.0, addresses.1].map(|index: usize| ADDRESSES[index].parse().unwrap());
        Packet {
            hook, is_on_loopback, source, destination, protocol, source_port, destination_port,
            tcp_flags, hop_limit, icmp, user, is_reply, is_related, mark,
            // Loopback is not forwarded.
            original_port,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn every_packet_fares_as_meant(
        intent in intents(),
        packets in proptest::collection::vec(packets(), 40),
    ) {
        let table = ruleset(&intent, measure()).unwrap().unwrap();
        for packet in &packets {
            prop_assert_eq!(run(&table, packet), meant(&intent, packet), "{:?}", packet);
        }
    }
}

pub(super) fn measure() -> MeasureId {
    MeasureId::new(UtcNanos::from_unix_nanos(1_700_000_000_000_000_000), [7; 10])
}

#[test]
fn watching_cuts_nothing() {
    let intent = Intent {
        isolation: Isolation::Watch,
        hub: Vec::new(),
        lifelines: Vec::new(),
        agent_user: 990,
    };
    assert_eq!(ruleset(&intent, measure()), Ok(None));
}

#[test]
fn two_hundred_and_fifty_six_lifelines_fit_and_a_contrived_nesting_is_refused() {
    let lifeline = |peer: String, first, last| Lifeline {
        name: "a flow".into(),
        peer: peer.parse().unwrap(),
        transport: Transport::Tcp,
        ports: PortRange { first, last },
        direction: Direction::Outbound,
        signed_off_by: None,
    };
    let plain = (0..=255u16).map(|i| lifeline(format!("10.1.{i}.0/24"), 104, 110)).collect();
    let mut intent =
        Intent { isolation: Isolation::Full, hub: Vec::new(), lifelines: plain, agent_user: 990 };
    assert!(ruleset(&intent, measure()).is_ok());
    let holes = (0..128u16).map(|i| lifeline("10.0.0.0/8".into(), 1000 + 2 * i, 1000 + 2 * i));
    let inner = (0..128u16).map(|i| lifeline(format!("10.0.0.{i}/32"), 1, 65535));
    intent.lifelines = holes.chain(inner).collect();
    assert!(ruleset(&intent, measure()).is_err());
}

#[test]
fn a_set_is_named_by_what_is_in_it_in_whichever_order_it_was_declared() {
    let lifeline = |last: u8, port| Lifeline {
        name: "a flow".into(),
        peer: format!("10.0.0.{last}/32").parse().unwrap(),
        transport: Transport::Tcp,
        ports: PortRange::one(port),
        direction: Direction::Outbound,
        signed_off_by: None,
    };
    let table = |lifelines: Vec<Lifeline>| {
        let hub = Vec::new();
        let intent = Intent { isolation: Isolation::Full, hub, lifelines, agent_user: 990 };
        ruleset(&intent, measure()).unwrap().unwrap()
    };
    let one = table(vec![lifeline(1, 104), lifeline(2, 443)]);
    assert_eq!(one, table(vec![lifeline(2, 443), lifeline(1, 104)]));
    let other = table(vec![lifeline(1, 104), lifeline(2, 444)]);
    assert_eq!((one.sets.len(), other.sets.len()), (1, 1));
    assert_ne!(one.sets[0].name, other.sets[0].name);
    // What is alone in its size of network is a rule, which reads better.
    assert_eq!(table(vec![lifeline(1, 104)]).sets, []);
}

#[test]
fn a_short_range_is_its_ports_where_that_saves_a_set() {
    let lifeline = |last: u8, ports| Lifeline {
        name: "a flow".into(),
        peer: format!("10.0.0.{last}/32").parse().unwrap(),
        transport: Transport::Tcp,
        ports,
        direction: Direction::Outbound,
        signed_off_by: None,
    };
    let elements = |lifelines: Vec<Lifeline>| {
        let hub = Vec::new();
        let intent = Intent { isolation: Isolation::Full, hub, lifelines, agent_user: 990 };
        let table = ruleset(&intent, measure()).unwrap().unwrap();
        table.sets.iter().map(|set| set.elements.len()).collect::<Vec<_>>()
    };
    let short = PortRange { first: 104, last: 110 };
    // Alone it is a rule; two of them, or one beside a single port, are elements of one set.
    assert!(elements(vec![lifeline(1, short)]).is_empty());
    assert_eq!(elements(vec![lifeline(1, short), lifeline(2, short)]), [14]);
    assert_eq!(elements(vec![lifeline(1, short), lifeline(2, PortRange::one(443))]), [8]);
    // What would come to more elements than its own set costs has its own.
    let long = PortRange { first: 1000, last: 1032 };
    assert_eq!(elements(vec![lifeline(1, long), lifeline(2, long)]), [2]);
    let all = (1..=200u8).map(|last| {
        let first = 1000 + 40 * u16::from(last);
        lifeline(last, PortRange { first, last: first + 31 })
    });
    let companion = lifeline(250, PortRange::one(443));
    let spelled: usize = elements(all.chain([companion]).collect()).iter().sum();
    assert_eq!(spelled, 2048 + 1, "64 ranges of 32 ports are spelled out, and no more");
}

#[test]
fn two_hundred_lifelines_are_a_few_rules() {
    let lifelines = (0..200u8).map(|index| Lifeline {
        name: "a flow".into(),
        peer: format!("10.0.{index}.0/24").parse().unwrap(),
        transport: Transport::Tcp,
        ports: if index % 2 == 0 {
            PortRange::one(104 + u16::from(index))
        } else {
            PortRange { first: 50_000, last: 50_999 }
        },
        direction: if index % 4 < 2 { Direction::Outbound } else { Direction::Inbound },
        signed_off_by: None,
    });
    let intent = Intent {
        isolation: Isolation::Full,
        hub: Vec::new(),
        lifelines: lifelines.collect(),
        agent_user: 990,
    };
    let table = ruleset(&intent, measure()).unwrap().unwrap();
    let elements: usize = table.sets.iter().map(|set| set.elements.len()).sum();
    assert_eq!((table.sets.len(), elements), (4, 200));
    let rules = |chain: &str| {
        let chain = table.chains.iter().find(|found| found.name == chain).unwrap();
        chain.rules.len()
    };
    // Whatever their number: one for the ports, one for the range.
    for chain in ["outbound", "outbound-answers", "inbound", "inbound-answers", "published"] {
        assert_eq!(rules(chain), 2, "{chain}");
    }
}
