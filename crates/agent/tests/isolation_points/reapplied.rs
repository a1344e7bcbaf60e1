//! Point 1, seen by packets: while one set of rules takes the place of another, nothing slips through and
//! nothing that lives is hurt.
//!
//! Answers Velociraptor on Windows, which deletes its policy and makes it anew every 600 seconds: a gap
//! each time.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cordon_agent::contain::nft::Set;
use cordon_agent::contain::protocol::{Ask, Event};
use cordon_agent::contain::table::Tables;
use cordon_model::asset::{ClinicalTier, Lifeline, PortRange, Transport};
use cordon_model::measure::Isolation;

use crate::contain_world::bench::{Bench, PACS_PORT, dial, echo};
use crate::contain_world::flow::{Flood, echo_datagrams};
use crate::contain_world::wiretap::Wiretap;
use crate::contain_world::{Namespace, PACS, PEER, PEER6, address};

/// How often the rules are replaced. Each is a chance for a packet to come in between.
const REPLACEMENTS: u64 = 200;

/// Other lifelines, so that other rules and other sets: the ones that count stay among them. Every one is
/// in a set that has another name each time.
fn other_rules(bench: &Bench, revision: u64) {
    let mut assignment = bench.assignment(revision, Some(ClinicalTier::None));
    let first = assignment.lifelines[0].clone();
    let mut add = |peer: String, transport, ports| {
        let peer = peer.parse().unwrap();
        assignment.lifelines.push(Lifeline { peer, transport, ports, ..first.clone() });
    };
    add(format!("{PACS}/32"), Transport::Udp, PortRange::one(PACS_PORT));
    let second = 80 + revision % 2;
    for index in 0..40 {
        let ranges = PortRange { first: 104, last: 110 };
        add(format!("10.{second}.{index}.0/24"), Transport::Tcp, ranges);
        add(format!("10.{second}.{index}.7/32"), Transport::Tcp, PortRange::one(2575));
    }
    bench.reassign(&assignment);
}

/// Programs try NetBIOS without pause. *Segment* is replaced by *segment* with other lifelines, and by
/// *full*, and back, two hundred times; both cut NetBIOS; not one datagram of it comes out.
#[test]
fn point_1_not_one_packet_slips_through_two_hundred_replacements() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    bench.isolate(Isolation::Segment);
    let mut tap = Wiretap::on(&bench.world);
    let netbios = [PEER, PEER6].map(|peer| SocketAddr::new(address(peer), 137)).to_vec();
    let floods = [1, 2].map(|_| Flood::from(&bench.world.machine, netbios.clone()));
    for round in 0..REPLACEMENTS {
        match round % 4 {
            0 => drop(bench.isolate(Isolation::Full)),
            2 => drop(bench.isolate(Isolation::Segment)),
            _ => other_rules(&bench, round + 2),
        }
        floods[0].is_refused(5);
    }
    let leaked: Vec<_> =
        tap.settle().into_iter().filter(|frame| frame.at_port(137).is_some()).collect();
    let tried: u64 = floods.iter().map(|flood| flood.counts().1).sum();
    eprintln!("{tried} datagrams tried during {REPLACEMENTS} replacements");
    assert_eq!(leaked, [], "{} of {tried}", leaked.len());
}

/// Speaks without pause and counts what was answered, and what was not.
struct Chat {
    is_over: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<std::io::Result<()>>,
}

impl Chat {
    fn begin(
        namespace: &Namespace,
        mut turn: impl FnMut() -> std::io::Result<()> + Send + 'static,
    ) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU64::new(0));
        let (ends, counts) = (Arc::clone(&is_over), Arc::clone(&answered));
        let thread = namespace.spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                turn()?;
                counts.fetch_add(1, Ordering::Relaxed);
                // Whoever replaces the rules needs the processor too.
                std::thread::sleep(Duration::from_micros(100));
            }
            Ok(())
        });
        Self { is_over, answered, thread }
    }

    fn by_datagrams(namespace: &Namespace, to: SocketAddr) -> Self {
        let any = if to.ip().is_loopback() { "127.0.0.1:0" } else { "0.0.0.0:0" };
        let socket = namespace.inside(move || {
            let socket = UdpSocket::bind(any).unwrap();
            socket.connect(to).unwrap();
            // None is lost on the way: silence is a datagram that was cut.
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            socket
        });
        Self::begin(namespace, move || {
            socket.send(b"word")?;
            socket.recv(&mut [0; 8]).map(drop)
        })
    }

    /// Ends it, and says how much was answered, and what ended it if anything did.
    fn end(self) -> (u64, Option<std::io::Error>) {
        self.is_over.store(true, Ordering::Relaxed);
        let ended = self.thread.join().unwrap().err();
        (self.answered.load(Ordering::Relaxed), ended)
    }
}

/// A lifeline's session, a lifeline by datagrams and loopback speak without pause, one word after
/// another. The rules are replaced under them two hundred times; not one word is lost.
#[test]
fn point_1_not_one_word_of_what_lives_is_lost_in_two_hundred_replacements() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    echo(&bench.world, PACS, PACS_PORT);
    let loopback = SocketAddr::from(([127, 0, 0, 1], 5140));
    let pacs = SocketAddr::new(address(PACS), PACS_PORT);
    echo_datagrams(&bench.world.machine, loopback);
    echo_datagrams(&bench.world.peer, pacs);
    let machine = &bench.world.machine.clone();
    let mut session = dial(&bench.world, PACS, PACS_PORT).unwrap();
    session.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    other_rules(&bench, 2);
    bench.isolate(Isolation::Full);
    let chats = [
        Chat::begin(machine, move || {
            session.write_all(b"?")?;
            session.read_exact(&mut [0])
        }),
        Chat::by_datagrams(machine, pacs),
        Chat::by_datagrams(machine, loopback),
    ];
    for round in 0..REPLACEMENTS {
        match round % 4 {
            0 => drop(bench.isolate(Isolation::Segment)),
            2 => drop(bench.isolate(Isolation::Full)),
            _ => other_rules(&bench, round + 3),
        }
    }
    for (what, chat) in ["session", "datagrams", "loopback"].into_iter().zip(chats) {
        let (answered, ended) = chat.end();
        eprintln!("{what}: {answered} words answered during {REPLACEMENTS} replacements");
        assert!(ended.is_none(), "{what} after {answered} words: {ended:?}");
        assert!(answered > REPLACEMENTS);
    }
}

/// The isolation's sets, as the kernel has them.
fn sets(bench: &Bench) -> Vec<Set> {
    let read = || Tables::open().unwrap().read_back().unwrap().map(|found| found.table.sets);
    bench.world.machine.inside(read).unwrap_or_default()
}

/// A lifeline's session and a lifeline by datagrams speak without pause while somebody takes another
/// lifeline out of the set that has all three, opens a way of their own by it, or empties another set. Each
/// time the kernel ends up with just what was meant, who did it is told, and not one word is lost.
#[test]
fn point_1_what_is_changed_in_a_set_by_hand_is_put_back_without_a_word_lost() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    echo(&bench.world, PACS, PACS_PORT);
    let pacs = SocketAddr::new(address(PACS), PACS_PORT);
    echo_datagrams(&bench.world.peer, pacs);
    let mut session = dial(&bench.world, PACS, PACS_PORT).unwrap();
    session.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    other_rules(&bench, 2);
    bench.isolate(Isolation::Full);
    let mut agent = bench.connect();
    agent.ask(Ask::Listen);
    let machine = &bench.world.machine.clone();
    let chats = [
        Chat::begin(machine, move || {
            session.write_all(b"?")?;
            session.read_exact(&mut [0])
        }),
        Chat::by_datagrams(machine, pacs),
    ];
    let flood = Flood::from(machine, vec![SocketAddr::new(address(PEER), 9)]);
    let meant = sets(&bench);
    let [single, ranges] = ["outbound-ipv4-32-", "outbound-ipv4-24-tcp-104-110-"]
        .map(|of| &meant.iter().find(|set| set.name.starts_with(of)).unwrap().name);
    let mut wipes = 0;
    for _ in 0..10 {
        for script in [
            format!("delete element inet cordon {single} {{ 10.80.7.7 . tcp . 2575 }}"),
            // The element that every key matches.
            format!("add element inet cordon {single} {{ * }}"),
            format!("flush set inet cordon {ranges}"),
        ] {
            machine.nft(&script);
            let wiped = agent.event(|event| matches!(event, Event::Wiped { .. }));
            let Event::Wiped { by, restored, .. } = wiped else { unreachable!() };
            assert!(by.1 == "nft" || by.1.is_empty(), "{script}: {by:?}");
            assert!(restored.is_some(), "{script}");
            assert_eq!(sets(&bench), meant, "{script}");
            flood.is_refused(20);
            wipes += 1;
        }
    }
    assert_eq!(bench.status().wiped, wipes);
    for (what, chat) in ["session", "datagrams"].into_iter().zip(chats) {
        let (answered, ended) = chat.end();
        eprintln!("{what}: {answered} words answered during {wipes} changes");
        assert!(ended.is_none(), "{what} after {answered} words: {ended:?}");
        assert!(answered > wipes);
    }
}
