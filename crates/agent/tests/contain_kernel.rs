//! The table in a real kernel: what is written is what is read back, and nobody else's is touched.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own tools fail the test")]

mod contain_world;

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use contain_world::{MACHINE, MACHINE6, PACS, PACS6, PEER, PEER6, World};
use cordon_agent::contain::intent::{Connection, Intent};
use cordon_agent::contain::nft::Table;
use cordon_agent::contain::ruleset::ruleset;
use cordon_agent::contain::table::{Tables, Watch};
use cordon_model::asset::{Direction, Lifeline, PortRange, Transport};
use cordon_model::ids::MeasureId;
use cordon_model::measure::Isolation;
use cordon_model::time::UtcNanos;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

fn measure() -> MeasureId {
    MeasureId::new(UtcNanos::from_unix_nanos(1_700_000_000_000_000_000), [7; 10])
}

fn lifeline() -> impl Strategy<Value = Lifeline> {
    let peer = prop_oneof![
        (any::<u32>(), 0u8..=32)
            .prop_map(|(bits, length)| format!("{}/{length}", std::net::Ipv4Addr::from(bits))),
        (any::<u128>(), 0u8..=128)
            .prop_map(|(bits, length)| format!("{}/{length}", std::net::Ipv6Addr::from(bits))),
        (0u8..4, 24u8..=32).prop_map(|(last, length)| format!("10.0.0.{last}/{length}")),
        (0u8..4, 120u8..=128).prop_map(|(last, length)| format!("fd00::{last}/{length}")),
    ];
    let more = prop_oneof![2 => Just(0), 1 => 0u16..999];
    (peer, any::<bool>(), 1u16.., more, any::<bool>()).prop_map(
        |(peer, is_tcp, first, more, is_inbound)| Lifeline {
            name: "a flow".into(),
            peer: peer.parse().unwrap(),
            transport: if is_tcp { Transport::Tcp } else { Transport::Udp },
            ports: PortRange { first, last: first.saturating_add(more) },
            direction: if is_inbound { Direction::Inbound } else { Direction::Outbound },
            signed_off_by: None,
        },
    )
}

fn intents() -> impl Strategy<Value = Intent> {
    let hub = prop_oneof![Just("10.0.0.1:7443"), Just("[fd00::1]:7443")];
    (
        any::<bool>(),
        proptest::collection::vec(hub, 0..3),
        proptest::collection::vec(lifeline(), 0..40),
    )
        .prop_map(|(is_full, hub, lifelines)| Intent {
            isolation: if is_full { Isolation::Full } else { Isolation::Segment },
            hub: hub.iter().map(|hub| hub.parse().unwrap()).collect(),
            lifelines,
            agent_user: 990,
        })
}

#[test]
fn what_is_read_back_is_what_was_meant_whatever_the_assignment() {
    let Some(world) = World::new() else { return };
    world.machine.inside(|| {
        let tables = std::cell::RefCell::new(Tables::open().unwrap());
        TestRunner::default()
            .run(&intents(), |intent| {
                let table = ruleset(&intent, measure()).unwrap().unwrap();
                let mut tables = tables.borrow_mut();
                tables.replace(&table).unwrap();
                let in_force = tables.read_back().unwrap().unwrap();
                prop_assert_eq!(in_force.table, table);
                Ok(())
            })
            .unwrap();
    });
    let listed = world.machine.ruleset();
    assert!(listed.contains("table inet cordon"), "{listed}");
}

#[test]
fn people_can_read_the_rules_with_the_usual_tool() {
    let Some(world) = World::new() else { return };
    let lifeline = |direction| Lifeline {
        name: "DICOM".into(),
        peer: "10.77.0.0/24".parse().unwrap(),
        transport: Transport::Tcp,
        ports: PortRange { first: 104, last: 110 },
        direction,
        signed_off_by: None,
    };
    let intent = Intent {
        isolation: Isolation::Full,
        hub: vec![SocketAddr::from(([10, 77, 0, 4], 7443))],
        lifelines: vec![lifeline(Direction::Outbound), lifeline(Direction::Inbound)],
        agent_user: 990,
    };
    let table = ruleset(&intent, measure()).unwrap().unwrap();
    world.machine.inside(move || Tables::open().unwrap().replace(&table).unwrap());
    let listed = world.machine.ruleset();
    eprintln!("{listed}");
    for line in [
        "comment \"cordon: full, measure 018bcfe5-6800-",
        "type filter hook output priority -50; policy accept;",
        "ip daddr 10.77.0.4 tcp dport 7443 meta skuid 990",
        "ip daddr 10.77.0.0/24 tcp dport 104-110 accept",
        "ip saddr 10.77.0.0/24 tcp sport 104-110 jump answers",
    ] {
        assert!(listed.contains(line), "{line} is missing in\n{listed}");
    }
    for hook in ["input", "forward", "output"] {
        let (_, chain) = listed.split_once(&format!("chain {hook} {{")).unwrap();
        let rules: Vec<&str> = chain.split('}').next().unwrap().trim().lines().collect();
        assert_eq!(rules.last().unwrap().trim(), "drop", "{hook} ends in it\n{listed}");
    }
}

/// An isolation whose lifelines are in sets: two sizes of network in either family, of one port and of seven; and one that is alone.
fn with_sets(isolation: Isolation) -> Intent {
    let lifelines = [
        ("10.77.0.0/24", 11112, 11112),
        ("10.78.0.0/24", 104, 104),
        ("10.79.0.3/32", 443, 443),
        ("10.79.0.4/32", 2575, 2575),
        ("fd77::/64", 11112, 11112),
        ("fd78::/64", 11112, 11112),
        ("fd79::3/128", 443, 443),
        ("fd79::4/128", 2575, 2575),
        ("10.80.0.0/24", 104, 110),
        ("10.81.0.0/24", 104, 110),
        ("10.82.0.0/16", 50_000, 50_999),
    ];
    let lifelines = lifelines.into_iter().flat_map(|(peer, first, last)| {
        [Direction::Outbound, Direction::Inbound].map(|direction| Lifeline {
            name: "a flow".into(),
            peer: peer.parse().unwrap(),
            transport: Transport::Tcp,
            ports: PortRange { first, last },
            direction,
            signed_off_by: None,
        })
    });
    Intent { isolation, hub: Vec::new(), lifelines: lifelines.collect(), agent_user: 990 }
}

#[test]
fn people_can_read_the_sets_with_the_usual_tool() {
    let Some(world) = World::new() else { return };
    let table = ruleset(&with_sets(Isolation::Full), measure()).unwrap().unwrap();
    world.machine.inside(move || Tables::open().unwrap().replace(&table).unwrap());
    let listed = world.machine.ruleset();
    eprintln!("{listed}");
    for words in [
        "type ipv4_addr . inet_proto . inet_service",
        "10.77.0.0 . tcp . 11112",
        "fd79::4 . tcp . 2575",
        "elements = { 10.80.0.0, 10.81.0.0 }",
        "ip daddr & 255.255.255.0 . meta l4proto . th dport @outbound-ipv4-24-",
        "ip6 saddr . meta l4proto . th sport @outbound-ipv6-128-",
        "ip daddr . meta l4proto . ct original proto-dst @inbound-ipv4-32-",
        "tcp dport 104-110 accept",
    ] {
        assert!(listed.contains(words), "{words} is missing in\n{listed}");
    }
}

#[test]
fn the_most_lifelines_that_fit_go_into_one_set_and_are_read_back() {
    let Some(world) = World::new() else { return };
    let lifelines = (0..4096u16).map(|index| Lifeline {
        name: "a flow".into(),
        peer: format!("fd77::{:x}/128", index / 2).parse().unwrap(),
        transport: Transport::Tcp,
        ports: PortRange::one(10_000 + index % 2 * 2),
        direction: Direction::Outbound,
        signed_off_by: None,
    });
    let intent = Intent { lifelines: lifelines.collect(), ..with_sets(Isolation::Full) };
    let table = ruleset(&intent, measure()).unwrap().unwrap();
    assert_eq!(table.sets.iter().map(|set| set.elements.len()).collect::<Vec<_>>(), [4096]);
    world.machine.inside(move || {
        let mut tables = Tables::open().unwrap();
        tables.replace(&table).unwrap();
        assert_eq!(tables.read_back().unwrap().unwrap().table, table);
    });
}

#[test]
fn rules_are_exchanged_in_place_and_what_others_made_of_the_table_is_made_anew() {
    let Some(world) = World::new() else { return };
    let machine = world.machine.clone();
    world.machine.inside(move || {
        let mut tables = Tables::open().unwrap();
        let [segment, mut full] = [Isolation::Segment, Isolation::Full].map(with_sets);
        // Some sets stay, some go, and some come.
        full.lifelines.retain(|lifeline| lifeline.peer.prefix_len() != 128);
        full.lifelines.iter_mut().for_each(|lifeline| lifeline.ports.last += 1);
        full.lifelines[0].ports.last -= 1;
        full.lifelines[2].ports.last -= 1;
        let [segment, full] =
            [segment, full].map(|intent| ruleset(&intent, measure()).unwrap().unwrap());
        let mut put = |table: &Table| {
            tables.replace(table).unwrap();
            let found = tables.read_back().unwrap().unwrap();
            assert_eq!(found.table, *table);
            found.handle
        };
        let first = put(&segment);
        assert_eq!([put(&full), put(&segment), put(&full)], [first; 3], "the same table");
        for script in [
            "add chain inet cordon input { policy drop; }",
            "add table inet cordon { flags dormant; }",
            "add chain inet cordon own { type filter hook input priority 0; }",
            "delete table inet cordon; add table inet cordon",
        ] {
            let before = put(&full);
            machine.nft(script);
            assert_ne!(put(&segment), before, "{script}");
        }
        let before = put(&full);
        machine.nft("add chain inet cordon foreign; add rule inet cordon input accept");
        assert_eq!(put(&segment), before, "and foreign rules go without a trace");
        machine.nft(
            "add chain inet cordon foreign;
             add set inet cordon own { type ipv4_addr; flags interval; elements = { 10.0.0.0/8 }; };
             add map inet cordon ways { type ipv4_addr : verdict; };
             add element inet cordon ways { 10.0.0.9 : jump foreign };
             add rule inet cordon input ip saddr @own accept;
             add rule inet cordon input ip saddr vmap @ways;
             add rule inet cordon input ip saddr { 10.0.0.7, 10.0.0.8 } accept",
        );
        assert_eq!(put(&full), before, "nor do foreign sets leave any");
    });
}

#[test]
fn any_change_by_others_is_seen_and_told_with_its_author() {
    let Some(world) = World::new() else { return };
    let machine = world.machine.clone();
    world.machine.inside(move || {
        let mut tables = Tables::open().unwrap();
        let mut watch = Watch::open().unwrap();
        let own = tables.port().unwrap();
        assert_eq!(watch.changes(&[own]), None);
        let table = ruleset(&with_sets(Isolation::Segment), measure()).unwrap().unwrap();
        let set = &table.sets.iter().find(|set| set.name.starts_with("outbound-ipv4-32")).unwrap();
        let in_set = |script: &str| script.replace("SET", &format!("inet cordon {}", set.name));
        let as_others = [
            "delete element SET { 10.79.0.3 . tcp . 443 }",
            // It takes the place of another: there is room for no more.
            "delete element SET { 10.79.0.3 . tcp . 443 }
             add element SET { 10.79.0.3 . tcp . 22 }",
            "delete element SET { 10.79.0.3 . tcp . 443 }
             add element SET { 10.79.0.3 . tcp . 443 comment \"ours\" }",
            // The element that every key matches.
            "add element SET { * }",
            "flush set SET",
            "flush chain inet cordon outbound
             flush chain inet cordon outbound-answers
             delete set SET",
        ];
        for script in as_others.map(in_set).iter().map(String::as_str).chain([
            "add rule inet cordon input accept",
            "flush chain inet cordon output",
            "flush chain inet cordon lateral",
            "insert rule inet cordon lateral return",
            "add rule inet cordon outbound tcp dport 445 accept",
            "add chain inet cordon foreign",
            "add set inet cordon foreign { type ipv4_addr; }",
            "add table inet cordon { flags dormant; }",
            "add chain inet cordon input { policy drop; }",
            "delete table inet cordon",
            "flush ruleset",
        ]) {
            tables.replace(&table).unwrap();
            let before = tables.read_back().unwrap().unwrap();
            assert_eq!(before.table, table);
            assert_eq!(
                watch.changes(&[own]),
                None,
                "what is done from here is no change by others"
            );
            // One change after another.
            script.lines().for_each(|one| machine.nft(one));
            let change = watch.changes(&[own]).unwrap();
            assert_eq!((change.name.as_str(), change.was_at_ours), ("nft", true), "{script}");
            assert_ne!(tables.read_back().unwrap(), Some(before), "{script}");
        }
        // Who was at ours is told, and not who was at another's before or after, however late it is heard of.
        tables.replace(&table).unwrap();
        let foreign = "add table inet foreign; add chain inet foreign cordon";
        let by = |script: &str| {
            let mut child = machine.command("nft").arg(script).spawn().unwrap();
            assert!(child.wait().unwrap().success(), "{script}");
            child.id()
        };
        by(foreign);
        let ours = by("flush chain inet cordon lateral");
        by("delete table inet foreign");
        let change = watch.changes(&[own]).unwrap();
        assert_eq!((change.process, change.was_at_ours), (ours, true));
        machine.nft(foreign);
        assert!(!watch.changes(&[own]).unwrap().was_at_ours);
    });
}

/// Where a peer listens, and the machine.
const LISTENING: [u16; 5] = [445, 3389, 5986, 8080, 11112];

fn small_lifeline() -> impl Strategy<Value = Lifeline> {
    let peers = vec!["10.77.0.0/24", "10.77.0.2/32", "10.77.0.3/32", "fd77::/64", "fd77::3/128"];
    // Many have one port, and many one range of ports, so that some share a set.
    let more = prop_oneof![2 => Just(0), 1 => Just(1000), 1 => 0u16..2000];
    (proptest::sample::select(peers), proptest::sample::select(&LISTENING[..]), more, any::<bool>())
        .prop_map(|(peer, first, more, is_inbound)| Lifeline {
            name: "a flow".into(),
            peer: peer.parse().unwrap(),
            transport: Transport::Tcp,
            ports: PortRange { first, last: first + more },
            direction: if is_inbound { Direction::Inbound } else { Direction::Outbound },
            signed_off_by: None,
        })
}

/// Opens a connection; waits long where it should be opened, and shortly where silence is expected.
fn opens(to: SocketAddr, should: bool) -> bool {
    let patience = if should { Duration::from_secs(10) } else { Duration::from_millis(150) };
    TcpStream::connect_timeout(&to, patience).is_ok()
}

#[test]
fn a_connection_can_be_opened_exactly_if_an_open_one_would_be_kept() {
    let Some(world) = World::new() else { return };
    let listen = |namespace: &contain_world::Namespace| {
        namespace.inside(|| {
            LISTENING.map(|port| TcpListener::bind(("::", port)).unwrap()).map(|listener| {
                std::thread::spawn(move || while listener.accept().is_ok() {});
            })
        });
    };
    listen(&world.machine);
    listen(&world.peer);
    let peer = world.peer.clone();
    world.machine.inside(move || {
        let tables = std::cell::RefCell::new(Tables::open().unwrap());
        let config = ProptestConfig { cases: 12, failure_persistence: None, ..Default::default() };
        let cases = (any::<bool>(), proptest::collection::vec(small_lifeline(), 0..9));
        TestRunner::new(config)
            .run(&cases, |(is_full, lifelines)| {
                let isolation = if is_full { Isolation::Full } else { Isolation::Segment };
                let intent = Intent { isolation, hub: Vec::new(), lifelines, agent_user: 990 };
                let table = ruleset(&intent, measure()).unwrap().unwrap();
                tables.borrow_mut().replace(&table).unwrap();
                let connection = |local, remote| Connection {
                    transport: Transport::Tcp,
                    local,
                    remote,
                    user: 0,
                };
                let at = |address: &str, port| SocketAddr::new(address.parse().unwrap(), port);
                for (machine, peers) in [(MACHINE, [PEER, PACS]), (MACHINE6, [PEER6, PACS6])] {
                    for (far, port) in
                        peers.iter().flat_map(|far| LISTENING.map(|port| (far, port)))
                    {
                        let out = connection(at(machine, 40_000), at(far, port));
                        let should = intent.keeps(&out, &BTreeSet::new());
                        prop_assert_eq!(
                            opens(at(far, port), should),
                            should,
                            "to {} {}",
                            far,
                            port
                        );
                    }
                    // The peer dials from its first address.
                    let port = LISTENING[usize::from(is_full) + intent.lifelines.len() % 4];
                    let inward = connection(at(machine, port), at(peers[0], 40_000));
                    let should = intent.keeps(&inward, &BTreeSet::new());
                    let to = at(machine, port);
                    let did = peer.inside(move || opens(to, should));
                    prop_assert_eq!(did, should, "to the machine's {}", to);
                }
                Ok(())
            })
            .unwrap();
    });
}
