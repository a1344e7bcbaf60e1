//! An isolated machine under siege: programs on it and around it try without pause, by datagrams and by
//! connections, over both families, what *segment* and *full* both forbid; the hub's link and a lifeline
//! speak all the while. What comes through is counted, on the wire and at the services.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cordon_model::asset::ClinicalTier;
use cordon_model::measure::{Isolation, MeasureState};

use crate::contain_world::bench::{Bench, HUB_PORT, PACS_PORT, dial, dial_as, echo, lives};
use crate::contain_world::flow::Flood;
use crate::contain_world::wiretap::{Frame, Wiretap};
use crate::contain_world::{
    AGENT_USER, HUB, HUB6, MACHINE, MACHINE6, Namespace, PACS, PEER, PEER6, address, until,
};

/// What the siege goes by: NetBIOS by datagrams, SMB by connections.
const NETBIOS: u16 = 137;
const SMB: u16 = 445;
/// Tries in each direction that one step has to stand.
const TRIES: u64 = 60;

pub struct Siege {
    pub bench: Bench,
    pub tap: Wiretap,
    isolation: Isolation,
    outward: Flood,
    inward: Flood,
    dialler: Ticker,
    heard: Arc<AtomicU64>,
    lifeline: Ticker,
    before: [u64; 2],
}

impl Siege {
    /// Lays it, shows that everything passes, and isolates.
    pub fn lay(isolation: Isolation) -> Option<Self> {
        let mut bench = Bench::new(ClinicalTier::None)?;
        let world = &bench.world;
        echo(world, PACS, PACS_PORT);
        for hub in [HUB, HUB6] {
            echo(world, hub, HUB_PORT);
        }
        let heard = Arc::new(AtomicU64::new(0));
        let marks = Arc::new(AtomicU64::new(0));
        // One socket for each family, or the second would find its port taken.
        world.machine.run("sysctl", &["-qw", "net.ipv6.bindv6only=1"]);
        for at in ["0.0.0.0", "::"] {
            listen(&world.machine, at, &heard, &marks);
        }
        let mut tap = Wiretap::on(world);
        let mut session = dial(world, PACS, PACS_PORT).unwrap();
        session.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let lifeline = Ticker::start(&world.machine, move || {
            session.write_all(b"?")?;
            session.read_exact(&mut [0])
        });
        let everywhere = |one: &str, other: &str, port| {
            [one, other].map(|at| SocketAddr::new(address(at), port))
        };
        let outward = Flood::from(&world.machine, everywhere(PEER, PEER6, NETBIOS).to_vec());
        let inward = Flood::from(&world.peer, everywhere(MACHINE, MACHINE6, NETBIOS).to_vec());
        let doors = everywhere(MACHINE, MACHINE6, SMB);
        let dialler = Ticker::start(&world.peer, move || {
            for door in doors {
                let _ = TcpStream::connect_timeout(&door, Duration::from_millis(30));
            }
            Ok(())
        });
        // The besiegers do come through where nothing is in their way.
        tap.await_frames(10, |frame| is_besiegers(frame, NETBIOS));
        tap.await_frames(2, |frame| is_besiegers(frame, SMB));
        until(|| heard.load(Ordering::Relaxed) >= 20);
        let receipt = bench.isolate(isolation);
        assert_eq!(receipt.state, MeasureState::Verified);
        tap.settle();
        // What came through before waits in the services' queues: it was counted when what is behind it was.
        bench.world.machine.inside(|| {
            for own in ["127.0.0.1", "::1"].map(address) {
                let socket = UdpSocket::bind(SocketAddr::new(own, 0)).unwrap();
                socket.send_to(b"mark", SocketAddr::new(own, NETBIOS)).unwrap();
                TcpStream::connect(SocketAddr::new(own, SMB)).unwrap();
            }
        });
        until(|| marks.load(Ordering::Relaxed) == 4);
        heard.store(0, Ordering::Relaxed);
        let before = [outward.counts().1, inward.counts().0];
        Some(Self { bench, tap, isolation, outward, inward, dialler, heard, lifeline, before })
    }

    /// Lets `step` of somebody's program happen, and shows that it changed nothing: not a packet in or
    /// out, nothing wiped, the lifeline and the hub's link alive.
    pub fn withstands(&mut self, what: &str, step: impl FnOnce(&Namespace)) {
        step(&self.bench.world.machine.clone());
        self.stands_for_a_while();
        let leaked = self.leaked();
        let status = self.bench.status();
        let tried = self.tried();
        eprintln!(
            "{} during {what}: {tried:?} tried out and in, {leaked:?} leaked",
            self.isolation
        );
        assert_eq!(
            (leaked.len(), self.heard.load(Ordering::Relaxed)),
            (0, 0),
            "{what}: {leaked:?}"
        );
        assert_eq!(status.wiped, 0, "{what}");
        assert_eq!(status.in_force.unwrap().state, MeasureState::Verified, "{what}");
        self.care_goes_on(what);
    }

    /// The same of a step that wipes foreign rules, ours with them: what came through before they were put
    /// back is counted, and nothing comes after.
    pub fn recovers(&mut self, what: &str, step: impl FnOnce(&Namespace)) {
        let wiped = self.bench.status().wiped;
        step(&self.bench.world.machine.clone());
        until(|| self.bench.status().wiped != wiped && self.bench.is_cut_off());
        let (out, inward) = (self.leaked().len(), self.heard.swap(0, Ordering::Relaxed));
        let tried = self.tried();
        self.stands_for_a_while();
        let (leaked, then) = (self.leaked(), self.tried());
        eprintln!(
            "{} during {what}: wiped and put back; {out} out and {inward} in before that, of {tried:?}; \
             of the next {then:?}: {leaked:?}",
            self.isolation,
        );
        assert_eq!(
            (leaked.len(), self.heard.load(Ordering::Relaxed)),
            (0, 0),
            "{what}: {leaked:?}"
        );
        assert_eq!(self.bench.status().in_force.unwrap().state, MeasureState::Verified, "{what}");
        self.care_goes_on(what);
    }

    /// Releases, and shows that the besiegers come through again in all their ways.
    pub fn lift(&mut self) {
        assert_eq!(self.bench.release().state, MeasureState::Released);
        self.heard.store(0, Ordering::Relaxed);
        self.tap.await_frames(10, |frame| is_besiegers(frame, NETBIOS));
        self.tap.await_frames(2, |frame| is_besiegers(frame, SMB));
        until(|| self.heard.load(Ordering::Relaxed) >= 10);
    }

    /// What left the machine that should not have.
    fn leaked(&mut self) -> Vec<Frame> {
        let mut frames = self.tap.settle_traffic();
        frames.retain(|frame| match self.isolation {
            Isolation::Full => {
                let kept = [HUB_PORT, PACS_PORT];
                !kept.iter().any(|port| frame.at_port(*port).is_some())
            }
            _ => is_besiegers(frame, NETBIOS) || is_besiegers(frame, SMB),
        });
        frames
    }

    fn stands_for_a_while(&self) {
        self.outward.is_refused(TRIES);
        let (inward, dialled) = (self.inward.counts().0, self.dialler.ticks());
        until(|| self.inward.counts().0 >= inward + TRIES && self.dialler.ticks() >= dialled + 2);
    }

    /// Tries out of the machine and into it since this was asked last.
    fn tried(&mut self) -> [u64; 2] {
        let now = [self.outward.counts().1, self.inward.counts().0];
        let before = std::mem::replace(&mut self.before, now);
        [now[0] - before[0], now[1] - before[1]]
    }

    fn care_goes_on(&self, what: &str) {
        let words = self.lifeline.ticks();
        until(|| {
            assert!(!self.lifeline.is_over(), "{what}: the lifeline's open session ended");
            self.lifeline.ticks() >= words + 5
        });
        let world = &self.bench.world;
        assert!(lives(&mut dial(world, PACS, PACS_PORT).unwrap()), "{what}: a lifeline");
        for hub in [HUB, HUB6] {
            assert!(
                lives(&mut dial_as(world, AGENT_USER, hub, HUB_PORT).unwrap()),
                "{what}: {hub}"
            );
        }
    }
}

fn is_besiegers(frame: &Frame, port: u16) -> bool {
    frame.at_port(port).is_some()
}

/// Services of the machine at both besieged ports, which count who gets through to them, and apart from that who
/// comes from the machine itself.
fn listen(machine: &Namespace, at: &'static str, heard: &Arc<AtomicU64>, marks: &Arc<AtomicU64>) {
    let count = || {
        let (heard, marks) = (Arc::clone(heard), Arc::clone(marks));
        move |from: SocketAddr| {
            let counter = if from.ip().is_loopback() { &marks } else { &heard };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    };
    let (datagrams, connections) = (count(), count());
    let [netbios, smb] = [NETBIOS, SMB].map(|port| SocketAddr::new(address(at), port));
    let (socket, listener) = machine
        .inside(move || (UdpSocket::bind(netbios).unwrap(), TcpListener::bind(smb).unwrap()));
    std::thread::spawn(move || {
        while let Ok((_, from)) = socket.recv_from(&mut [0; 64]) {
            datagrams(from);
        }
    });
    std::thread::spawn(move || {
        while let Ok((_, from)) = listener.accept() {
            connections(from);
        }
    });
}

/// Does something again and again until it is dropped or it fails.
pub struct Ticker {
    is_over: Arc<AtomicBool>,
    ticks: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

impl Ticker {
    pub fn start(
        namespace: &Namespace,
        mut turn: impl FnMut() -> std::io::Result<()> + Send + 'static,
    ) -> Self {
        let (is_over, ticks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ends, counts) = (Arc::clone(&is_over), Arc::clone(&ticks));
        let thread = namespace.spawn(move || {
            while !ends.load(Ordering::Relaxed) && turn().is_ok() {
                counts.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
            ends.store(true, Ordering::Relaxed);
        });
        Self { is_over, ticks, thread: Some(thread) }
    }

    pub fn ticks(&self) -> u64 {
        self.ticks.load(Ordering::Relaxed)
    }

    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}
