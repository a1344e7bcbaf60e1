//! Fragments, options and extension headers: whatever a packet is cut into or hidden behind, it is judged as
//! what it is.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use cordon_model::asset::{ClinicalTier, Transport};
use cordon_model::measure::Isolation;

use crate::contain_world::bench::{Bench, PACS_PORT};
use crate::contain_world::flow::{comes_back, echo_datagrams};
use crate::contain_world::wiretap::{Frame, Wiretap};
use crate::contain_world::{MACHINE, MACHINE6, PACS, PACS6, PEER, PEER6, address};
use crate::forged::{Trick, Way, from_inside, from_outside, tricks4, tricks6};

/// Cut in both modes: one by datagrams, one by connections.
const NETBIOS: u16 = 137;
const SMB: u16 = 445;
/// Left alone by *segment*.
const HARMLESS: u16 = 8137;

/// A machine with services at both ports, on which every trick is tried.
struct Trial {
    bench: Bench,
    hardware: [u8; 6],
    sockets: Vec<UdpSocket>,
    _doors: Vec<TcpListener>,
}

impl Trial {
    fn new() -> Option<Self> {
        let bench = Bench::new(ClinicalTier::None)?;
        let machine = &bench.world.machine;
        machine.run("sysctl", &["-qw", "net.ipv6.bindv6only=1"]);
        let link = bench.world.link();
        let text = machine.run("cat", &[&format!("/sys/class/net/{link}/address")]);
        let hardware: Vec<u8> =
            text.trim().split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
        let at = |one: &'static str, port| SocketAddr::new(address(one), port);
        let (sockets, doors) = machine.inside(move || {
            let socket = |at: SocketAddr| {
                let socket = UdpSocket::bind(at).unwrap();
                socket.set_read_timeout(Some(Duration::from_millis(60))).unwrap();
                socket
            };
            let sockets = ["0.0.0.0", "::"].map(|any| socket(at(any, NETBIOS)));
            let doors = ["0.0.0.0", "::"].map(|any| TcpListener::bind(at(any, SMB)).unwrap());
            (sockets, doors)
        });
        Some(Self {
            hardware: hardware.try_into().unwrap(),
            sockets: sockets.into(),
            _doors: doors.into(),
            bench,
        })
    }

    /// The tricks that got in: the service heard a datagram, or the machine answered to an opening.
    fn got_in(&self, tap: &mut Wiretap) -> BTreeSet<String> {
        let world = &self.bench.world;
        let inward = |port| {
            let [from, to] = [PEER, MACHINE].map(|at| at.parse().unwrap());
            let [from6, to6] = [PEER6, MACHINE6].map(|at| at.parse().unwrap());
            (Way { from, to, port }, Way { from: from6, to: to6, port })
        };
        let tricks = named(inward(NETBIOS), inward(SMB));
        let worked = tricks.into_iter().filter(|(_, packets)| {
            tap.settle();
            from_outside(&world.peer, &world.far_link(), self.hardware, packets.clone());
            let is_heard = self
                .sockets
                .iter()
                .any(|socket| std::iter::from_fn(|| socket.recv(&mut [0; 64]).ok()).count() > 0);
            let answers = tap.settle();
            is_heard || answers.iter().any(|frame| frame.at_port(SMB).is_some())
        });
        worked.map(|(name, _)| name).collect()
    }

    /// The tricks of which anything got out.
    fn got_out(&self, tap: &mut Wiretap) -> BTreeSet<String> {
        let world = &self.bench.world;
        let outward = |port| {
            let [from, to] = [MACHINE, PEER].map(|at| at.parse().unwrap());
            let [from6, to6] = [MACHINE6, PEER6].map(|at| at.parse().unwrap());
            (Way { from, to, port }, Way { from: from6, to: to6, port })
        };
        let tricks = named(outward(NETBIOS), outward(SMB));
        let worked = tricks.into_iter().filter(|(_, packets)| {
            tap.settle();
            from_inside(&world.machine, packets.clone());
            slips(&tap.settle_traffic())
        });
        worked.map(|(name, _)| name).collect()
    }
}

/// Whether what left the machine shows a port that is cut, or can be put together to something that hides
/// its ports. *Segment* lets through what is harmless in pieces too. It also lets a first piece of IPv6
/// pass that ends before the ports: alone, for the kernel holds back the pieces that belong to it.
fn slips(frames: &[Frame]) -> bool {
    let shows = |port| frames.iter().any(|frame| frame.at_port(port).is_some());
    let pieces = frames.iter().filter(|frame| matches!(frame, Frame::Ip(p) if p.is_fragment));
    shows(NETBIOS) || shows(SMB) || (!shows(HARMLESS) && pieces.count() > 1)
}

type Ways = (Way<std::net::Ipv4Addr>, Way<std::net::Ipv6Addr>);

/// Datagrams go to the one, openings to the other.
fn named(datagrams: Ways, openings: Ways) -> Vec<(String, Vec<Vec<u8>>)> {
    let is_opening = |trick: &Trick| trick.0.contains("opening") || trick.0.contains("tiny");
    let of = |family, datagrams: Vec<Trick>, openings: Vec<Trick>| {
        let datagrams = datagrams.into_iter().filter(move |trick| !is_opening(trick));
        let openings = openings.into_iter().filter(move |trick| is_opening(trick));
        datagrams.chain(openings).map(move |(name, packets)| (format!("{family}: {name}"), packets))
    };
    let four = of("IPv4", tricks4(datagrams.0, HARMLESS), tricks4(openings.0, HARMLESS));
    let six = of("IPv6", tricks6(datagrams.1, HARMLESS), tricks6(openings.1, HARMLESS));
    four.chain(six).collect()
}

/// Answers Elastic ("all IPv6 and fragments dropped", because they could not be judged) from the other side:
/// they are judged, and none of them gets around an isolation, in or out. Without one most do.
#[test]
fn no_fragment_and_no_extension_header_gets_around_it() {
    let Some(mut trial) = Trial::new() else { return };
    let mut tap = Wiretap::on(&trial.bench.world);
    let (inward, outward) = (trial.got_in(&mut tap), trial.got_out(&mut tap));
    eprintln!("open: {} got in, {} got out; in: {inward:#?}", inward.len(), outward.len());
    for name in ["IPv4: in two", "IPv4: a tiny first piece (RFC 1858)", "IPv6: in two"] {
        assert!(inward.contains(name) && outward.contains(name), "the trick works: {name}");
    }
    assert!(inward.contains("IPv6: behind options and options"));
    for isolation in [Isolation::Segment, Isolation::Full] {
        trial.bench.isolate(isolation);
        assert_eq!(trial.got_in(&mut tap), BTreeSet::new(), "{isolation}, in");
        assert_eq!(trial.got_out(&mut tap), BTreeSet::new(), "{isolation}, out");
    }
}

/// Answers Elastic: "all IPv6 and fragments dropped". A lifeline's datagrams that are larger than any packet
/// go to and fro under full isolation.
#[test]
fn the_fragments_of_a_lifeline_are_not_dropped() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let mut assignment = bench.assignment(2, Some(ClinicalTier::None));
    for peer in [format!("{PACS}/32"), format!("{PACS6}/128")] {
        let mut lifeline = assignment.lifelines[0].clone();
        lifeline.peer = peer.parse().unwrap();
        lifeline.transport = Transport::Udp;
        assignment.lifelines.push(lifeline);
    }
    bench.reassign(&assignment);
    bench.isolate(Isolation::Full);
    let mut tap = Wiretap::on(&bench.world);
    for pacs in [PACS, PACS6] {
        let pacs = SocketAddr::new(address(pacs), PACS_PORT);
        echo_datagrams(&bench.world.peer, pacs);
        assert!(comes_back(&bench.world.machine, pacs, 9000, true), "{pacs}");
        let pieces = tap.settle();
        assert!(pieces.iter().any(|frame| matches!(frame, Frame::Ip(p) if p.is_fragment)));
        let other = SocketAddr::new(pacs.ip(), PACS_PORT + 1);
        echo_datagrams(&bench.world.peer, other);
        assert!(!comes_back(&bench.world.machine, other, 9000, false), "{other}");
        assert_eq!(tap.settle_traffic(), []);
    }
}
