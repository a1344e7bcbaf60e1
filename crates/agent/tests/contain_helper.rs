//! The privileged helper as a process of its own, in a network namespace, with real packets.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own tools fail the test")]

mod contain_world;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use contain_world::{AGENT_USER, HUB, HUB6, MACHINE, MACHINE6, PACS, PEER, PEER6, World};
use cordon_agent::contain::client::HelperClient;
use cordon_agent::contain::helper::{HelperConfig, serve};
use cordon_agent::contain::protocol::{
    Answer, Ask, Event, FromHelper, MESSAGE_BYTES, Pin, Refusal, Request, Status,
};
use cordon_link::frame::blocking as frame;
use cordon_model::asset::{Assignment, ClinicalTier, Direction, Lifeline, PortRange, Transport};
use cordon_model::finding::Level;
use cordon_model::ids::{FindingId, MachineId, OrderId, PermitId};
use cordon_model::measure::{Isolation, MeasureState, Receipt};
use cordon_model::order::{Approver, Authority, Instruction, Lease, Order, Permit};
use cordon_model::signed::{Envelope, seal};
use cordon_model::time::{BootId, UtcNanos};
use ed25519_dalek::SigningKey;

const PACS_PORT: u16 = 11112;
const HUB_PORT: u16 = 7443;
const LEASE: Lease = Lease { seconds: 3600, step_down_seconds: 1800, warn_seconds: 60 };

/// Not a test: the helper itself, when a test starts this program again with these settings.
#[test]
fn the_helper_itself() {
    let Ok(folder) = std::env::var("CORDON_TEST_HELPER") else { return };
    let folder = PathBuf::from(folder);
    let config = HelperConfig {
        socket: folder.join("helper.sock"),
        state: folder.join("state"),
        agent_user: AGENT_USER,
        boot: std::env::var("CORDON_TEST_BOOT").ok().map(BootId),
    };
    let Err(error) = serve(&config);
    panic!("{error}");
}

struct Bench {
    world: World,
    folder: tempfile::TempDir,
    helper: Option<Child>,
    boot: Option<&'static str>,
    machine: MachineId,
    key: SigningKey,
    sequence: u64,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Bench {
    /// A machine that is enrolled and assigned: the PACS is its lifeline, the hub is at its port.
    fn new(tier: ClinicalTier) -> Option<Self> {
        let bench = Self::bare()?;
        bench.pin();
        bench.assign(1, Some(tier));
        Some(bench)
    }

    fn bare() -> Option<Self> {
        let mut bench = Self {
            world: World::new()?,
            folder: tempfile::tempdir().unwrap(),
            helper: None,
            boot: None,
            machine: MachineId::new(UtcNanos::now(), [1; 10]),
            key: SigningKey::from_bytes(&[7; 32]),
            sequence: 0,
        };
        bench.start();
        Some(bench)
    }

    fn start(&mut self) {
        let mut command =
            self.world.machine.command(std::env::current_exe().unwrap().to_str().unwrap());
        command
            .args(["--exact", "the_helper_itself", "--nocapture"])
            .env("CORDON_TEST_HELPER", self.folder.path())
            .stdout(Stdio::null());
        if let Some(boot) = self.boot {
            command.env("CORDON_TEST_BOOT", boot);
        }
        self.helper = Some(command.spawn().unwrap());
        let _ = self.connect();
    }

    /// As `kill -9` does.
    fn kill(&mut self) {
        if let Some(mut helper) = self.helper.take() {
            helper.kill().unwrap();
            helper.wait().unwrap();
        }
        let _ = std::fs::remove_file(self.folder.path().join("helper.sock"));
    }

    fn connect(&self) -> Connection {
        // However busy the machine is, the helper comes up; a helper that dies shows by its message.
        loop {
            if let Ok(stream) = UnixStream::connect(self.folder.path().join("helper.sock")) {
                return Connection { stream, id: 0, events: Vec::new() };
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn ask(&self, ask: Ask) -> Answer {
        self.connect().ask(ask)
    }

    fn pin(&self) {
        assert!(matches!(self.ask(Ask::Pin(self.its_pin())), Answer::Obeyed(_)));
    }

    fn its_pin(&self) -> Pin {
        Pin {
            command_key: self.key.verifying_key().to_bytes(),
            organisation: "RJ1".parse().unwrap(),
            machine: self.machine,
        }
    }

    fn assignment(&self, revision: u64, tier: Option<ClinicalTier>) -> Assignment {
        Assignment {
            organisation: "RJ1".parse().unwrap(),
            machine: self.machine,
            revision,
            name: "ward 7".into(),
            tier,
            kind: None,
            group: None,
            lifelines: vec![Lifeline {
                name: "DICOM to the PACS".into(),
                peer: format!("{PACS}/32").parse().unwrap(),
                transport: Transport::Tcp,
                ports: PortRange::one(PACS_PORT),
                direction: Direction::Outbound,
                signed_off_by: None,
            }],
            hub: vec![
                SocketAddr::new(HUB.parse().unwrap(), HUB_PORT),
                SocketAddr::new(HUB6.parse().unwrap(), HUB_PORT),
            ],
        }
    }

    fn assign(&self, revision: u64, tier: Option<ClinicalTier>) {
        let envelope = seal(&self.assignment(revision, tier), &self.key).unwrap();
        let answer = self.ask(Ask::Assignment(envelope));
        assert!(matches!(answer, Answer::Obeyed(_)), "{answer:?}");
    }

    fn order(&mut self, instruction: Instruction) -> Order {
        self.sequence += 1;
        let now = UtcNanos::now();
        let mut randomness = [0; 10];
        randomness[..8].copy_from_slice(&self.sequence.to_be_bytes());
        Order {
            id: OrderId::new(now, randomness),
            organisation: "RJ1".parse().unwrap(),
            machine: self.machine,
            sequence: self.sequence,
            nonce: [0; 16],
            issued_at: now,
            deliver_until: Some(now.plus(Duration::from_secs(600))),
            instruction,
            authority: Authority::People {
                approval: None,
                people: vec![Approver { name: "a.nurse".into(), is_clinical: true }],
            },
            incident: None,
            reason: "test".into(),
        }
    }

    fn give(&self, order: &Order) -> Answer {
        self.ask(Ask::Order(self.sealed(order)))
    }

    fn sealed(&self, order: &Order) -> Envelope {
        seal(order, &self.key).unwrap()
    }

    /// Isolates, and gives the receipt of it.
    fn isolate(&mut self, isolation: Isolation) -> Receipt {
        let order = self.order(Instruction::Isolate { isolation, lease: LEASE });
        match self.give(&order) {
            Answer::Obeyed(receipts) => receipts
                .receipts
                .into_iter()
                .find(|receipt| receipt.measure == order.id.into())
                .unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn release(&mut self) -> Receipt {
        let order = self.order(Instruction::Release);
        last(self.give(&order))
    }

    fn status(&self) -> Status {
        match self.ask(Ask::Status) {
            Answer::Status(status) => *status,
            other => panic!("{other:?}"),
        }
    }

    fn is_cut_off(&self) -> bool {
        self.world.machine.ruleset().contains("table inet cordon")
    }
}

struct Connection {
    stream: UnixStream,
    id: u64,
    events: Vec<Event>,
}

impl Connection {
    fn ask(&mut self, ask: Ask) -> Answer {
        self.id += 1;
        frame::write(&mut self.stream, &Request { id: self.id, ask }, MESSAGE_BYTES).unwrap();
        loop {
            match frame::read(&mut self.stream, MESSAGE_BYTES).unwrap().unwrap() {
                FromHelper::Answer { to, answer } if to == self.id => return answer,
                FromHelper::Answer { .. } => {}
                FromHelper::Event(event) => self.events.push(event),
            }
        }
    }

    fn event(&mut self, is_it: impl Fn(&Event) -> bool) -> Event {
        loop {
            if let Some(at) = self.events.iter().position(&is_it) {
                return self.events.remove(at);
            }
            if let FromHelper::Event(event) =
                frame::read(&mut self.stream, MESSAGE_BYTES).unwrap().unwrap()
            {
                self.events.push(event);
            }
        }
    }
}

fn last(answer: Answer) -> Receipt {
    match answer {
        Answer::Obeyed(receipts) => receipts.receipts.last().cloned().unwrap(),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn assert_refused(answer: &Answer, as_what: Refusal, because: &str) {
    match answer {
        Answer::Refused { kind, why } => {
            assert_eq!(*kind, as_what, "{why}");
            assert!(why.contains(because), "{why}");
        }
        other => panic!("not refused: {other:?}"),
    }
}

/// A peer's service that says back what it hears, on `address`.
fn echo(world: &World, address: &str, port: u16) {
    let address = SocketAddr::new(address.parse().unwrap(), port);
    let (ready, is_ready) = std::sync::mpsc::channel();
    world.peer.spawn(move || {
        let listener = TcpListener::bind(address).unwrap();
        ready.send(()).unwrap();
        for stream in listener.incoming() {
            std::thread::spawn(move || {
                let mut stream = stream.unwrap();
                let mut byte = [0];
                while let Ok(1) = stream.read(&mut byte) {
                    if stream.write_all(&byte).is_err() {
                        break;
                    }
                }
            });
        }
    });
    is_ready.recv().unwrap();
}

fn dial(world: &World, address: &str, port: u16) -> std::io::Result<TcpStream> {
    let address = SocketAddr::new(address.parse().unwrap(), port);
    world.machine.inside(move || TcpStream::connect_timeout(&address, Duration::from_secs(2)))
}

/// As the agent's user, or whichever.
fn dial_as(world: &World, user: u32, address: &str, port: u16) -> std::io::Result<TcpStream> {
    let address = SocketAddr::new(address.parse().unwrap(), port);
    world.machine.inside(move || {
        nix::unistd::setfsuid(nix::unistd::Uid::from_raw(user));
        TcpStream::connect_timeout(&address, Duration::from_secs(2))
    })
}

/// Whether a byte comes back.
fn lives(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(700))).unwrap();
    let mut byte = [0];
    stream.write_all(&[42]).is_ok() && stream.read_exact(&mut byte).is_ok() && byte == [42]
}

#[test]
fn segment_cuts_a_live_smb_session_and_leaves_the_rest() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    for (address, port) in [(PEER, 445), (PEER6, 445), (PEER, 8080)] {
        echo(&bench.world, address, port);
    }
    let mut smb = dial(&bench.world, PEER, 445).unwrap();
    let mut smb6 = dial(&bench.world, PEER6, 445).unwrap();
    let mut web = dial(&bench.world, PEER, 8080).unwrap();
    assert!(lives(&mut smb) && lives(&mut smb6) && lives(&mut web));
    let receipt = bench.isolate(Isolation::Segment);
    assert_eq!(receipt.state, MeasureState::Verified, "{receipt:?}");
    assert_eq!(receipt.sockets_cut, 2);
    assert!(!lives(&mut smb) && !lives(&mut smb6));
    assert!(lives(&mut web));
    for address in [PEER, PEER6] {
        let error = dial(&bench.world, address, 445).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "told at once");
    }
    // And towards this machine.
    let ours = SocketAddr::new(MACHINE.parse().unwrap(), 445);
    bench.world.machine.spawn(move || {
        let listener = TcpListener::bind(ours).unwrap();
        let _ = listener.accept();
    });
    let reached = bench
        .world
        .peer
        .inside(move || TcpStream::connect_timeout(&ours, Duration::from_millis(700)));
    assert_eq!(reached.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
}

#[test]
fn segment_cuts_a_service_that_is_published_under_another_port() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    bench.world.machine.nft(
        "table ip nat {
           chain pre { type nat hook prerouting priority -100; tcp dport 445 redirect to :8445; }
         }",
    );
    let inside = SocketAddr::new(MACHINE.parse().unwrap(), 8445);
    bench.world.machine.spawn(move || {
        let listener = TcpListener::bind(inside).unwrap();
        while listener.accept().is_ok() {}
    });
    let published = SocketAddr::new(MACHINE.parse().unwrap(), 445);
    let reach = |bench: &Bench, to, patience| {
        bench.world.peer.inside(move || TcpStream::connect_timeout(&to, patience).is_ok())
    };
    // The listener is there before anything is cut, however long it takes to come up.
    while !reach(&bench, published, Duration::from_secs(5)) {}
    bench.isolate(Isolation::Segment);
    assert!(!reach(&bench, published, Duration::from_millis(500)));
    assert!(reach(&bench, inside, Duration::from_secs(5)));
}

#[test]
fn full_keeps_an_open_session_with_the_pacs_and_the_hub_and_cuts_everything_else() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    for (address, port) in [
        (PEER, 8080),
        (PEER6, 8080),
        (PACS, PACS_PORT),
        (PACS, 8080),
        (HUB, HUB_PORT),
        (HUB6, HUB_PORT),
    ] {
        echo(&bench.world, address, port);
    }
    let world = &bench.world;
    let mut cut = [
        dial(world, PEER, 8080).unwrap(),
        dial(world, PEER6, 8080).unwrap(),
        dial(world, PACS, 8080).unwrap(),
        dial_as(world, 12345, HUB, HUB_PORT).unwrap(),
    ];
    let mut kept = [
        dial(world, PACS, PACS_PORT).unwrap(),
        dial_as(world, AGENT_USER, HUB, HUB_PORT).unwrap(),
        dial_as(world, AGENT_USER, HUB6, HUB_PORT).unwrap(),
    ];
    assert!(cut.iter_mut().chain(&mut kept).all(lives));
    let receipt = bench.isolate(Isolation::Full);
    assert_eq!(receipt.state, MeasureState::Verified, "{receipt:?}");
    let proof = receipt.proof.unwrap();
    for tried in ["udp 10.77.0.4:9 outbound", "udp [fd77::4]:9 outbound"] {
        let probe = proof.probes.iter().find(|probe| probe.tried == tried).unwrap();
        assert_eq!((probe.should_pass, probe.did_pass), (false, Some(false)));
    }
    let hub = proof.probes.iter().find(|probe| probe.tried.contains("agent's user")).unwrap();
    assert_eq!(hub.did_pass, Some(true));
    assert!(proof.unproven.iter().any(|what| what.contains("inbound")), "{proof:?}");
    assert_eq!(receipt.sockets_cut, 4);
    assert!(!cut.iter_mut().any(lives));
    for stream in &mut kept {
        assert!(lives(stream), "{stream:?}");
    }
    let world = &bench.world;
    assert!(lives(&mut dial(world, PACS, PACS_PORT).unwrap()), "and a new one can be opened");
    assert!(lives(&mut dial_as(world, AGENT_USER, HUB, HUB_PORT).unwrap()));
    assert!(dial_as(world, 12345, HUB, HUB_PORT).is_err(), "the exemption is the agent's alone");
    assert!(dial(world, PACS, 8080).is_err());
    // DNS, the usual exit, is shut; so is every other datagram.
    let refused = world.machine.inside(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.send_to(b"exfil", (PEER, 53)).unwrap_err().kind()
    });
    assert_eq!(refused, std::io::ErrorKind::PermissionDenied);
}

#[test]
fn loopback_addresses_and_neighbours_stay_through_full() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    assert_eq!(bench.isolate(Isolation::Full).state, MeasureState::Verified);
    let world = &bench.world;
    world.machine.inside(|| {
        for address in ["127.0.0.1", "::1", MACHINE, MACHINE6] {
            let address: std::net::IpAddr = address.parse().unwrap();
            let listener = TcpListener::bind(SocketAddr::new(address, 0)).unwrap();
            let to = listener.local_addr().unwrap();
            TcpStream::connect_timeout(&to, Duration::from_secs(2)).unwrap();
        }
    });
    // Neighbour discovery: the hub's IPv6 address is found again from nothing.
    echo(world, HUB6, HUB_PORT);
    world.machine.run("ip", &["-6", "neigh", "flush", "dev", &world.link()]);
    assert!(lives(&mut dial_as(world, AGENT_USER, HUB6, HUB_PORT).unwrap()));
    // DHCP renewal, unicast as at half of the lease: the datagrams pass both ways.
    let server = world.peer.inside(|| UdpSocket::bind((PEER, 67)).unwrap());
    let client = world.machine.inside(|| UdpSocket::bind((MACHINE, 68)).unwrap());
    server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    client.send_to(b"request", (PEER, 67)).unwrap();
    let mut bytes = [0; 16];
    let (_, from) = server.recv_from(&mut bytes).unwrap();
    server.send_to(b"acknowledge", from).unwrap();
    assert_eq!(client.recv(&mut bytes).unwrap(), 11);
}

#[test]
fn forwarded_traffic_is_cut_as_the_machines_own() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let world = &bench.world;
    // A container: a namespace behind the machine.
    let inner = format!("{}c", world.machine.name);
    contain_world::run("ip", &["netns", "add", &inner]);
    let container = contain_world::Namespace { name: inner.clone() };
    let (ours, theirs) = (format!("{inner}a"), format!("{inner}b"));
    contain_world::run(
        "ip",
        &[
            "link",
            "add",
            &ours,
            "netns",
            &world.machine.name,
            "type",
            "veth",
            "peer",
            "name",
            &theirs,
            "netns",
            &inner,
        ],
    );
    world.machine.run("ip", &["addr", "add", "172.31.7.1/24", "dev", &ours]);
    world.machine.run("ip", &["link", "set", &ours, "up"]);
    container.run("ip", &["addr", "add", "172.31.7.2/24", "dev", &theirs]);
    container.run("ip", &["link", "set", &theirs, "up"]);
    container.run("ip", &["route", "add", "default", "via", "172.31.7.1"]);
    world.machine.run("sysctl", &["-qw", "net.ipv4.ip_forward=1"]);
    world.peer.run("ip", &["route", "add", "172.31.7.0/24", "via", MACHINE]);
    echo(world, PEER, 8080);
    echo(world, PACS, PACS_PORT);
    let dial = |address: &'static str, port| {
        container.inside(move || {
            let address = SocketAddr::new(address.parse().unwrap(), port);
            TcpStream::connect_timeout(&address, Duration::from_millis(700))
        })
    };
    let mut live = dial(PEER, 8080).unwrap();
    let mut pacs = dial(PACS, PACS_PORT).unwrap();
    assert!(lives(&mut live) && lives(&mut pacs));
    bench.isolate(Isolation::Full);
    assert!(!lives(&mut live), "no socket here to cut, and its packets die");
    assert!(dial(PEER, 8080).is_err());
    assert!(lives(&mut pacs), "the lifeline is the machine's, whichever container serves it");
    contain_world::run("ip", &["netns", "del", &inner]);
}

#[test]
fn release_leaves_the_ruleset_as_it_was_to_the_byte() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    bench.world.machine.nft(
        "table inet firewalld {
           set s { type ipv4_addr; elements = { 10.0.0.9 }; }
           chain input { type filter hook input priority 0; policy accept;
             ct state established,related accept
             ip saddr @s tcp dport 22 counter accept
           }
         }
         table ip nat {
           chain post { type nat hook postrouting priority 100; ip saddr 172.17.0.0/16 masquerade; }
         }",
    );
    let before = bench.world.machine.ruleset();
    for isolation in [Isolation::Segment, Isolation::Full] {
        assert_eq!(bench.isolate(isolation).state, MeasureState::Verified);
        let during = bench.world.machine.ruleset();
        assert!(during.starts_with(&before), "others' tables are not touched\n{during}");
    }
    let receipt = bench.release();
    assert_eq!(receipt.state, MeasureState::Released);
    assert_eq!(receipt.proof.unwrap().table_handle, None);
    assert_eq!(bench.world.machine.ruleset(), before);
}

#[test]
fn another_tables_accept_does_not_overrule_a_cut() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    for priority in [-300, 0, 300] {
        bench.world.machine.nft(&format!(
            "table inet docker{} {{
               chain o {{ type filter hook output priority {priority}; policy accept; accept; }}
             }}",
            priority + 300
        ));
    }
    echo(&bench.world, PEER, 445);
    bench.isolate(Isolation::Segment);
    assert!(dial(&bench.world, PEER, 445).is_err());
}

#[test]
fn rules_that_are_wiped_are_put_back_and_each_wipe_is_told() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    bench.isolate(Isolation::Full);
    let mut agent = bench.connect();
    agent.ask(Ask::Listen);
    let mut took = Vec::new();
    for script in [
        "flush ruleset",
        "delete table inet cordon",
        "flush chain inet cordon input",
        "insert rule inet cordon output accept",
        "add table inet cordon { flags dormant; }",
    ] {
        bench.world.machine.nft(script);
        let wiped = agent.event(|event| matches!(event, Event::Wiped { .. }));
        let Event::Wiped { by, noticed, restored, .. } = wiped else { unreachable!() };
        assert_eq!(by.1, "nft", "{script}");
        took.push(restored.unwrap().since(noticed));
        assert!(bench.is_cut_off(), "{script}");
    }
    eprintln!("put back after {took:?}");
    assert_eq!(bench.status().wiped, 5);
    assert_eq!(bench.status().in_force.unwrap().state, MeasureState::Verified);
}

#[test]
fn changes_to_other_tables_are_no_wipe() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    bench.isolate(Isolation::Full);
    bench.world.machine.nft("add table inet other");
    bench.world.machine.nft("delete table inet other");
    assert_eq!(bench.status().wiped, 0);
}

#[test]
fn a_killed_helper_leaves_the_rules_and_finds_its_lease_where_it_was() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let receipt = bench.isolate(Isolation::Full);
    bench.kill();
    assert!(bench.is_cut_off(), "the kernel holds them");
    bench.start();
    let held = bench.status().in_force.unwrap();
    assert_eq!(held.measure, receipt.measure);
    assert_eq!(held.state, MeasureState::Verified);
    assert_eq!(Some(held.lease_ends), receipt.lease_ends, "the lease is not extended");
    assert_eq!(bench.status().wiped, 0, "left alone, not put there again");
    // And if they went while nobody watched, they are back before the socket is.
    bench.kill();
    bench.world.machine.nft("flush ruleset");
    bench.start();
    assert!(bench.is_cut_off());
    assert_eq!(bench.status().in_force.unwrap().state, MeasureState::Verified);
}

#[test]
fn after_a_restart_of_the_machine_the_measure_is_in_force_and_no_longer_than_before() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let week = Lease { seconds: 7 * 24 * 3600, ..LEASE };
    let isolate = Instruction::Isolate { isolation: Isolation::Full, lease: week };
    let order = bench.order(isolate);
    let receipt = last(bench.give(&order));
    bench.kill();
    // A new boot has an empty ruleset and another id. (Its boot time goes on here where a real one
    // starts at zero, and all of it counts as run.)
    bench.world.machine.nft("flush ruleset");
    bench.boot = Some("another");
    bench.start();
    assert!(bench.is_cut_off());
    let held = bench.status().in_force.unwrap();
    assert_eq!(held.state, MeasureState::Verified);
    assert!(Some(held.lease_ends) <= receipt.lease_ends);
}

#[test]
fn a_lease_that_ended_while_the_machine_was_restarted_steps_down_and_opens_nothing() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let lease = Lease { seconds: 1, ..LEASE };
    let order = bench.order(Instruction::Isolate { isolation: Isolation::Full, lease });
    bench.give(&order);
    bench.kill();
    bench.world.machine.nft("flush ruleset");
    bench.boot = Some("another");
    bench.start();
    assert!(bench.is_cut_off());
    let mut agent = bench.connect();
    agent.ask(Ask::Listen);
    while bench.status().in_force.unwrap().isolation != Isolation::Segment {
        agent.event(|event| matches!(event, Event::Receipts(_)));
    }
    assert!(bench.is_cut_off());
}

#[test]
fn a_lease_warns_and_steps_down_to_segment_again_and_again() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let mut agent = bench.connect();
    agent.ask(Ask::Listen);
    let lease = Lease { seconds: 2, step_down_seconds: 1, warn_seconds: 1 };
    let order = bench.order(Instruction::Isolate { isolation: Isolation::Full, lease });
    let envelope = bench.sealed(&order);
    let first = last(agent.ask(Ask::Order(envelope)));
    agent.event(|event| matches!(event, Event::LeaseEnds { .. }));
    let mut before = first.measure;
    for _ in 0..2 {
        let stepped = |event: &Event| match event {
            Event::Receipts(receipts) => receipts.receipts.iter().any(|receipt| {
                receipt.measure == before && receipt.state == MeasureState::SteppedDown
            }),
            _ => false,
        };
        let Event::Receipts(receipts) = agent.event(stepped) else { unreachable!() };
        let follows = receipts
            .receipts
            .iter()
            .find(|receipt| receipt.origin == cordon_model::measure::Origin::LeaseEnd(before))
            .unwrap();
        assert_eq!(follows.isolation, Isolation::Segment);
        assert_eq!(follows.state, MeasureState::Verified);
        assert!(bench.is_cut_off());
        before = follows.measure;
    }
}

#[test]
fn a_renewed_lease_goes_on_and_only_for_the_measure_in_force() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let receipt = bench.isolate(Isolation::Segment);
    let longer = Lease { seconds: 7200, ..LEASE };
    let order = bench.order(Instruction::Renew { measure: receipt.measure, lease: longer });
    assert!(last(bench.give(&order)).lease_ends > receipt.lease_ends);
    let other = OrderId::new(UtcNanos::now(), [99; 10]).into();
    let order = bench.order(Instruction::Renew { measure: other, lease: longer });
    assert_refused(&bench.give(&order), Refusal::NotObeyed, "no such measure");
}

#[test]
fn an_order_is_obeyed_once_and_a_replay_changes_nothing() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let isolate = bench.order(Instruction::Isolate { isolation: Isolation::Full, lease: LEASE });
    bench.give(&isolate);
    let held = bench.status().in_force;
    assert!(matches!(bench.give(&isolate), Answer::Obeyed(_)), "delivered twice is no error");
    assert_eq!(bench.status().in_force.map(|h| h.lease_ends), held.map(|h| h.lease_ends));
    let release = bench.order(Instruction::Release);
    bench.give(&release);
    bench.give(&isolate);
    assert!(!bench.is_cut_off(), "an old order replayed does not isolate again");
    let mut stale = bench.order(Instruction::Isolate { isolation: Isolation::Full, lease: LEASE });
    stale.sequence = release.sequence;
    assert_refused(&bench.give(&stale), Refusal::NotObeyed, "sequence");
    bench.kill();
    bench.start();
    assert_refused(&bench.give(&stale), Refusal::NotObeyed, "sequence");
    assert!(!bench.is_cut_off());
}

#[test]
fn orders_for_others_by_others_or_too_late_are_refused() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let isolate = Instruction::Isolate { isolation: Isolation::Full, lease: LEASE };
    let mut order = bench.order(isolate.clone());
    order.machine = MachineId::new(UtcNanos::now(), [2; 10]);
    assert_refused(&bench.give(&order), Refusal::NotObeyed, "another machine");
    let mut order = bench.order(isolate.clone());
    order.organisation = "RXX".parse().unwrap();
    assert_refused(&bench.give(&order), Refusal::NotObeyed, "another machine or organisation");
    let mut order = bench.order(isolate.clone());
    order.deliver_until = Some(UtcNanos::from_unix_nanos(1));
    assert_refused(&bench.give(&order), Refusal::NotObeyed, "delivered before");
    let order = bench.order(isolate.clone());
    let forged = seal(&order, &SigningKey::from_bytes(&[8; 32])).unwrap();
    assert_refused(&bench.ask(Ask::Order(forged)), Refusal::NotGenuine, "pinned key");
    let mut altered = bench.sealed(&order);
    altered.payload[20] ^= 1;
    assert_refused(&bench.ask(Ask::Order(altered)), Refusal::NotGenuine, "pinned key");
    // An assignment is no order, however genuine.
    let other = seal(&bench.assignment(9, None), &bench.key).unwrap();
    assert_refused(&bench.ask(Ask::Order(other)), Refusal::NotGenuine, "type");
    assert!(!bench.is_cut_off());
    assert_eq!(bench.status().last_order, 0);
}

#[test]
fn the_policy_alone_never_contains_a_clinical_machine() {
    for tier in [Some(ClinicalTier::Clinical), Some(ClinicalTier::LifeSustaining), None] {
        let Some(mut bench) = Bench::bare() else { return };
        bench.pin();
        bench.assign(1, tier);
        for isolation in [Isolation::Segment, Isolation::Full] {
            let mut order = bench.order(Instruction::Isolate { isolation, lease: LEASE });
            let finding = FindingId::of("rule", "host", &[1; 32]);
            order.authority = Authority::Policy { revision: 1, finding };
            assert_refused(&bench.give(&order), Refusal::NotObeyed, "needs people");
        }
        assert!(!bench.is_cut_off());
    }
}

#[test]
fn a_life_sustaining_machine_takes_two_people() {
    let Some(mut bench) = Bench::new(ClinicalTier::LifeSustaining) else { return };
    let isolate = Instruction::Isolate { isolation: Isolation::Segment, lease: LEASE };
    let order = bench.order(isolate);
    assert_refused(&bench.give(&order), Refusal::NotObeyed, "life-sustaining");
    assert!(!bench.is_cut_off());
}

#[test]
fn a_machine_without_an_assignment_is_not_cut() {
    let Some(mut bench) = Bench::bare() else { return };
    let order = bench.order(Instruction::Release);
    assert_refused(&bench.give(&order), Refusal::NotPinned, "not enrolled");
    bench.pin();
    let order = bench.order(Instruction::Isolate { isolation: Isolation::Full, lease: LEASE });
    assert_refused(&bench.give(&order), Refusal::NotObeyed, "no assignment");
    assert!(!bench.is_cut_off());
}

#[test]
fn a_permit_segments_once_and_only_for_what_is_serious_enough() {
    let Some(mut bench) = Bench::new(ClinicalTier::Supports) else { return };
    let permit = |number: u8, expires_in: i64| {
        let now = UtcNanos::now();
        let permit = Permit {
            id: PermitId::new(now, [number; 10]),
            organisation: "RJ1".parse().unwrap(),
            machine: bench.machine,
            level_at_least: Level::High,
            lease: LEASE,
            issued_at: now,
            expires_at: UtcNanos::from_unix_nanos(now.unix_nanos() + expires_in * 1_000_000_000),
        };
        seal(&permit, &bench.key).unwrap()
    };
    let finding = FindingId::of("rule", "host", &[1; 32]);
    let used = |permit: &Envelope, level| Ask::UsePermit { permit: permit.clone(), finding, level };
    let (good, old, other) = (permit(1, 600), permit(2, -1), permit(3, 600));
    assert_refused(&bench.ask(used(&good, Level::Medium)), Refusal::NotObeyed, "level");
    assert_refused(&bench.ask(used(&old, Level::High)), Refusal::NotObeyed, "time is over");
    let receipt = last(bench.ask(used(&good, Level::High)));
    assert_eq!((receipt.isolation, receipt.state), (Isolation::Segment, MeasureState::Verified));
    assert_refused(&bench.ask(used(&other, Level::High)), Refusal::NotObeyed, "already");
    bench.release();
    assert_refused(&bench.ask(used(&good, Level::Critical)), Refusal::NotObeyed, "used already");
    bench.kill();
    bench.start();
    assert_refused(&bench.ask(used(&good, Level::Critical)), Refusal::NotObeyed, "used already");
    assert!(!bench.is_cut_off());
    bench.assign(2, Some(ClinicalTier::Clinical));
    assert_refused(&bench.ask(used(&other, Level::Critical)), Refusal::NotObeyed, "needs people");
}

#[test]
fn what_is_done_without_people_has_a_brake_of_the_machines_own() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let finding = FindingId::of("rule", "host", &[1; 32]);
    let by_policy = |bench: &mut Bench| {
        let isolation = Isolation::Segment;
        let mut order = bench.order(Instruction::Isolate { isolation, lease: LEASE });
        order.authority = Authority::Policy { revision: 1, finding };
        bench.give(&order)
    };
    for _ in 0..5 {
        assert!(matches!(by_policy(&mut bench), Answer::Obeyed(_)));
    }
    assert_refused(&by_policy(&mut bench), Refusal::NotObeyed, "brake");
    bench.kill();
    bench.start();
    assert_refused(&by_policy(&mut bench), Refusal::NotObeyed, "brake");
    assert_eq!(bench.isolate(Isolation::Full).state, MeasureState::Verified, "people still can");
}

#[test]
fn the_policy_alone_never_weakens_a_measure() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    bench.isolate(Isolation::Full);
    for isolation in [Isolation::Watch, Isolation::Segment] {
        let mut order = bench.order(Instruction::Isolate { isolation, lease: LEASE });
        let finding = FindingId::of("rule", "host", &[1; 32]);
        order.authority = Authority::Policy { revision: 1, finding };
        assert_refused(&bench.give(&order), Refusal::NotObeyed, "isolated as far");
    }
    assert_eq!(bench.status().in_force.unwrap().isolation, Isolation::Full);
    assert_eq!(bench.isolate(Isolation::Segment).state, MeasureState::Verified, "people may");
}

#[test]
fn a_machine_is_not_re_homed_by_a_message() {
    let Some(bench) = Bench::new(ClinicalTier::None) else { return };
    assert!(matches!(bench.ask(Ask::Pin(bench.its_pin())), Answer::Obeyed(_)), "the same again");
    let mut other = bench.its_pin();
    other.command_key = SigningKey::from_bytes(&[8; 32]).verifying_key().to_bytes();
    assert_refused(&bench.ask(Ask::Pin(other)), Refusal::PinnedElsewhere, "enrolled already");
    let pin = std::fs::metadata(bench.folder.path().join("state/pin.cbor")).unwrap();
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    assert_eq!((pin.uid(), pin.permissions().mode() & 0o777), (0, 0o600));
}

#[test]
fn new_lifelines_take_effect_in_force_and_old_ones_are_refused() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    echo(&bench.world, PEER, 2575);
    bench.isolate(Isolation::Full);
    assert!(dial(&bench.world, PEER, 2575).is_err());
    let mut assignment = bench.assignment(2, Some(ClinicalTier::None));
    assignment.lifelines.push(Lifeline {
        name: "HL7 to its engine".into(),
        peer: format!("{PEER}/32").parse().unwrap(),
        transport: Transport::Tcp,
        ports: PortRange::one(2575),
        direction: Direction::Outbound,
        signed_off_by: None,
    });
    bench.ask(Ask::Assignment(seal(&assignment, &bench.key).unwrap()));
    assert!(lives(&mut dial(&bench.world, PEER, 2575).unwrap()));
    assert_eq!(bench.status().wiped, 0);
    let old = seal(&bench.assignment(1, None), &bench.key).unwrap();
    assert_refused(&bench.ask(Ask::Assignment(old)), Refusal::NotObeyed, "revision");
    let mut smb = bench.assignment(3, None);
    smb.lifelines[0].ports = PortRange::one(445);
    let smb = seal(&smb, &bench.key).unwrap();
    assert_refused(&bench.ask(Ask::Assignment(smb)), Refusal::NotObeyed, "lateral-movement");
}

#[test]
fn receipts_wait_on_disk_until_the_agent_has_them() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    bench.isolate(Isolation::Segment);
    bench.kill();
    bench.start();
    let waiting = |bench: &Bench| match bench.ask(Ask::Reported { before: 0 }) {
        Answer::Obeyed(receipts) => receipts,
        other => panic!("{other:?}"),
    };
    let receipts = waiting(&bench);
    assert_eq!(receipts.receipts[0].state, MeasureState::Verified);
    let before = receipts.first + receipts.receipts.len() as u64;
    bench.ask(Ask::Reported { before });
    assert_eq!(waiting(&bench).receipts, Vec::new());
    assert_eq!(waiting(&bench).first, before);
}

#[test]
fn the_agents_end_asks_hears_and_notices_that_the_helper_is_gone() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let order = bench.order(Instruction::Isolate { isolation: Isolation::Full, lease: LEASE });
    let order = Ask::Order(bench.sealed(&order));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let socket = bench.folder.path().join("helper.sock");
        let (client, mut events) = HelperClient::connect(&socket).await.unwrap();
        let both = tokio::join!(client.ask(Ask::Status), client.ask(order));
        assert!(matches!(both, (Ok(Answer::Status(_)), Ok(Answer::Obeyed(_)))), "{both:?}");
        bench.world.machine.nft("flush ruleset");
        while !matches!(events.recv().await, Some(Event::Wiped { .. })) {}
        bench.kill();
        while events.recv().await.is_some() {}
        assert!(client.ask(Ask::Status).await.is_err());
    });
}

#[test]
fn strangers_and_nonsense_are_hung_up_on_and_the_helper_goes_on() {
    let Some(bench) = Bench::new(ClinicalTier::None) else { return };
    let socket = bench.folder.path().join("helper.sock");
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let meta = std::fs::metadata(&socket).unwrap();
    assert_eq!((meta.uid(), meta.permissions().mode() & 0o777), (AGENT_USER, 0o600));
    for nonsense in [&[0xff; 64][..], &[0, 0, 0, 3, 1, 2, 3][..], &[0, 0, 0, 0][..]] {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(nonsense).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty());
    }
    // Another user, who got past the socket's mode somehow, is known by the kernel's word.
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666)).unwrap();
    std::fs::set_permissions(bench.folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let stranger = std::process::Command::new("perl")
        .args(["-MIO::Socket::UNIX", "-e"])
        .arg("$s = IO::Socket::UNIX->new($ARGV[0]) or die; print defined(<$s>) ? 'heard' : 'hung up'")
        .arg(&socket)
        .uid(12345)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&stranger.stdout), "hung up");
    assert_eq!(bench.status().last_order, 0);
}

/// Orders full and release so many times, and gives for each the time to the read-back and to the
/// receipt.
fn measure(bench: &mut Bench, times: usize) -> Vec<[Duration; 2]> {
    let mut agent = bench.connect();
    (0..times)
        .map(|_| {
            let isolate = Instruction::Isolate { isolation: Isolation::Full, lease: LEASE };
            let order = bench.order(isolate);
            let envelope = bench.sealed(&order);
            let (boot, start) = (cordon_agent::contain::moment::boot_time(), Instant::now());
            let receipt = last(agent.ask(Ask::Order(envelope)));
            let answered = start.elapsed();
            assert_eq!(receipt.state, MeasureState::Verified, "{receipt:?}");
            let order = bench.order(Instruction::Release);
            let envelope = bench.sealed(&order);
            agent.ask(Ask::Order(envelope));
            agent.ask(Ask::Reported { before: u64::MAX });
            [receipt.proof.unwrap().at.since(boot), answered]
        })
        .collect()
}

fn print_times(of: &str, times: &[[Duration; 2]]) {
    for (index, what) in ["order to read back", "order to receipt"].into_iter().enumerate() {
        let mut times: Vec<Duration> = times.iter().map(|pair| pair[index]).collect();
        times.sort();
        let n = times.len();
        let [p50, p99, max] = [n / 2, n * 99 / 100, n - 1].map(|at| times[at]);
        eprintln!("{of}: {what}: n {n}, p50 {p50:?}, p99 {p99:?}, max {max:?}");
    }
}

/// Not a judgement: prints how long it takes from the order's first byte to the read-back, and to the
/// receipt; alone, with many lifelines, and on twenty machines at once.
#[test]
#[ignore = "a measurement: cargo test --release --test contain_helper -- --ignored --nocapture"]
fn how_long_from_order_to_verified() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    echo(&bench.world, HUB, HUB_PORT);
    print_times("alone", &measure(&mut bench, 100));
    let mut assignment = bench.assignment(2, Some(ClinicalTier::None));
    assignment.lifelines.extend((0..200u32).map(|index| Lifeline {
        name: format!("modality {index}"),
        peer: format!("10.{}.{}.0/24", 80 + index / 100, index % 100).parse().unwrap(),
        transport: Transport::Tcp,
        ports: PortRange { first: 104, last: 110 },
        direction: if index % 2 == 0 { Direction::Outbound } else { Direction::Inbound },
        signed_off_by: None,
    }));
    bench.ask(Ask::Assignment(seal(&assignment, &bench.key).unwrap()));
    print_times("with 200 lifelines", &measure(&mut bench, 100));
    let helper = bench.helper.as_ref().unwrap().id();
    let status = std::fs::read_to_string(format!("/proc/{helper}/status")).unwrap();
    for line in status.lines().filter(|line| line.starts_with("VmRSS") || line.starts_with("VmHWM"))
    {
        eprintln!("helper {line}");
    }
    drop(bench);
    let benches: Vec<Bench> = (0..20).filter_map(|_| Bench::new(ClinicalTier::None)).collect();
    benches.iter().for_each(|bench| echo(&bench.world, HUB, HUB_PORT));
    let threads: Vec<_> = benches
        .into_iter()
        .map(|mut bench| std::thread::spawn(move || measure(&mut bench, 20)))
        .collect();
    let times: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    print_times("20 machines at once", &times);
}
