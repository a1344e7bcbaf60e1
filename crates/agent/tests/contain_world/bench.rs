//! A machine with its helper, what it is sent, and who dials whom.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cordon_agent::contain::bulletin::Places;
use cordon_agent::contain::helper::{HelperConfig, serve};
use cordon_agent::contain::protocol::{
    Answer, Ask, Event, FromHelper, MESSAGE_BYTES, Pin, Receipts, Refusal, Request, Status,
};
use cordon_link::frame::blocking as frame;
use cordon_model::action::Action;
use cordon_model::asset::{Assignment, ClinicalTier, Direction, Lifeline, PortRange, Transport};
use cordon_model::ids::{MachineId, MeasureId, OrderId};
use cordon_model::measure::{Isolation, MeasureState, Receipt};
use cordon_model::order::{Approver, Authority, Instruction, Lease, Order};
use cordon_model::signed::{Envelope, seal};
use cordon_model::time::{BootId, UtcNanos};
use ed25519_dalek::SigningKey;

use super::{AGENT_USER, HUB, HUB6, Namespace, PACS, World};

pub const PACS_PORT: u16 = 11112;
pub const HUB_PORT: u16 = 7443;
/// For a helper that is to say something: what never comes fails a test instead of hanging it.
const PATIENCE: Duration = Duration::from_secs(120);
pub const LEASE: Lease = Lease { seconds: 3600, step_down_seconds: 1800, warn_seconds: 60 };

/// Not a test: the helper itself, when a test starts this program again with these settings.
#[test]
fn the_helper_itself() {
    let Ok(folder) = std::env::var("CORDON_TEST_HELPER") else { return };
    let folder = PathBuf::from(folder);
    if std::env::var_os("CORDON_TEST_GATE").is_some() {
        // Whoever started it wants to be ready first.
        let _ = std::io::stdin().read(&mut [0]);
    }
    let config = HelperConfig {
        socket: folder.join("helper.sock"),
        door: Some(folder.join("door.sock")),
        notice: Some(Places {
            folder: folder.join("people"),
            greetings: Some(folder.join("greetings")),
            devices: None,
        }),
        state: folder.join("state"),
        warden: folder.join("warden.sock"),
        agent_user: AGENT_USER,
        survey: None,
        lookout: None,
        boot: std::env::var("CORDON_TEST_BOOT").ok().map(BootId),
    };
    let Err(error) = serve(&config);
    panic!("{error}");
}

pub struct Bench {
    pub world: World,
    pub folder: tempfile::TempDir,
    pub helper: Option<Child>,
    pub boot: Option<&'static str>,
    /// The clock of that boot, if it has its own.
    pub clock: Option<Clock>,
    pub machine: MachineId,
    pub key: SigningKey,
    pub sequence: u64,
}

/// A boot's clock: a time namespace of the kernel's, in which the machine was switched on when this was made.
/// Without it a boot that is only called another would be as old as this machine's, and leases long over.
pub struct Clock {
    holder: Child,
}

impl Clock {
    fn from_zero() -> Self {
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let (seconds, _) = uptime.split_once('.').unwrap();
        let mut command = Command::new("unshare");
        command.args(["--time", "--boottime", &format!("-{seconds}"), "--", "cat"]);
        let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // Once it answers, it is in its namespace.
        holder.stdin.as_mut().unwrap().write_all(b"?").unwrap();
        holder.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        Self { holder }
    }

    /// What `nsenter` is told, to start a program by this clock.
    fn entered(&self) -> String {
        format!("--time=/proc/{}/ns/time_for_children", self.holder.id())
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Bench {
    /// A machine that is enrolled and assigned: the PACS is its lifeline, the hub is at its port.
    pub fn new(tier: ClinicalTier) -> Option<Self> {
        let bench = Self::bare()?;
        bench.pin();
        bench.assign(1, Some(tier));
        Some(bench)
    }

    pub fn bare() -> Option<Self> {
        let mut bench = Self::off()?;
        bench.start();
        Some(bench)
    }

    /// The same, before its helper was ever started.
    pub fn off() -> Option<Self> {
        Some(Self {
            world: World::new()?,
            folder: tempfile::tempdir().unwrap(),
            helper: None,
            boot: None,
            clock: None,
            machine: MachineId::new(UtcNanos::now(), [1; 10]),
            key: SigningKey::from_bytes(&[7; 32]),
            sequence: 0,
        })
    }

    pub fn start(&mut self) {
        self.helper = Some(self.spawn());
        let _ = self.connect();
    }

    /// The helper's process, which may end by itself.
    pub fn spawn(&self) -> Child {
        self.command().spawn().unwrap()
    }

    /// What starts the helper.
    pub fn command(&self) -> Command {
        let program = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
        let mut command = match &self.clock {
            Some(clock) => {
                let mut command = self.world.machine.command("nsenter");
                command.args([&clock.entered(), &program]);
                command
            }
            None => self.world.machine.command(&program),
        };
        command
            .args(["--exact", "contain_world::bench::the_helper_itself", "--nocapture"])
            .env("CORDON_TEST_HELPER", self.folder.path())
            .stdout(Stdio::null());
        if let Some(boot) = self.boot {
            command.env("CORDON_TEST_BOOT", boot);
        }
        command
    }

    /// From its next start on the helper is in another boot, called `name`, whose time starts about now.
    pub fn begin_boot(&mut self, name: &'static str) {
        (self.boot, self.clock) = (Some(name), Some(Clock::from_zero()));
    }

    /// As `kill -9` does.
    pub fn kill(&mut self) {
        if let Some(mut helper) = self.helper.take() {
            helper.kill().unwrap();
            helper.wait().unwrap();
        }
        let _ = std::fs::remove_file(self.folder.path().join("helper.sock"));
    }

    pub fn connect(&self) -> Connection {
        // However busy the machine is, the helper comes up; a helper that dies shows by its message.
        for _ in 0..PATIENCE.as_millis() / 5 {
            if let Ok(stream) = UnixStream::connect(self.folder.path().join("helper.sock")) {
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                return Connection { stream, id: 0, events: Vec::new() };
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the helper does not come up");
    }

    pub fn ask(&self, ask: Ask) -> Answer {
        self.connect().ask(ask)
    }

    pub fn pin(&self) {
        assert!(matches!(self.ask(Ask::Pin(self.its_pin())), Answer::Obeyed(_)));
    }

    pub fn its_pin(&self) -> Pin {
        Pin {
            command_key: self.key.verifying_key().to_bytes(),
            organisation: "RJ1".parse().unwrap(),
            machine: self.machine,
        }
    }

    pub fn assignment(&self, revision: u64, tier: Option<ClinicalTier>) -> Assignment {
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
            names: Vec::new(),
            protected: cordon_model::asset::Protected::default(),
            watched: Vec::new(),
            hub: vec![
                SocketAddr::new(HUB.parse().unwrap(), HUB_PORT),
                SocketAddr::new(HUB6.parse().unwrap(), HUB_PORT),
            ],
        }
    }

    pub fn assign(&self, revision: u64, tier: Option<ClinicalTier>) {
        self.reassign(&self.assignment(revision, tier));
    }

    pub fn reassign(&self, assignment: &Assignment) {
        let answer = self.ask(Ask::Assignment(seal(assignment, &self.key).unwrap()));
        assert!(matches!(answer, Answer::Obeyed(_)), "{answer:?}");
    }

    pub fn order(&mut self, instruction: Instruction) -> Order {
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
            // A boot that is only said to be another has its clock jump, and what ends would have had its time.
            deliver_until: self.boot.is_none().then(|| now.plus(Duration::from_secs(600))),
            instruction,
            authority: Authority::People {
                approval: None,
                people: vec![Approver { name: "a.nurse".into(), is_clinical: true }],
            },
            incident: None,
            reason: "test".into(),
        }
    }

    pub fn give(&self, order: &Order) -> Answer {
        self.ask(Ask::Order(self.sealed(order)))
    }

    pub fn sealed(&self, order: &Order) -> Envelope {
        seal(order, &self.key).unwrap()
    }

    /// Gives an order, and waits for what came of it, also where that takes its time: the first receipt of
    /// `measure` that `is_it`.
    pub fn outcome(
        &self,
        order: &Order,
        measure: MeasureId,
        is_it: impl Fn(&MeasureState) -> bool,
    ) -> Receipt {
        let mut agent = self.connect();
        agent.ask(Ask::Listen);
        agent.give(self.sealed(order));
        agent.receipt(|receipt| receipt.measure == measure && is_it(&receipt.state))
    }

    /// Begins a measure under `lease`, and gives the receipt of what became of it.
    pub fn begin(&mut self, action: Action, lease: Lease) -> Receipt {
        let order = self.order(Instruction::begin(action, lease));
        self.outcome(&order, order.id.into(), |_| true)
    }

    /// Takes a measure back, and gives the receipt of that.
    pub fn undo(&mut self, measure: MeasureId) -> Receipt {
        let order = self.order(Instruction::Undo { measure });
        self.outcome(&order, measure, |state| *state == MeasureState::Released)
    }

    /// Isolates, and gives the receipt of it.
    pub fn isolate(&mut self, isolation: Isolation) -> Receipt {
        let order = self.order(Instruction::isolate(isolation, LEASE));
        match self.give(&order) {
            Answer::Obeyed(receipts) => receipts
                .receipts
                .into_iter()
                .find(|receipt| receipt.measure == order.id.into())
                .unwrap(),
            other => panic!("{other:?}"),
        }
    }

    pub fn release(&mut self) -> Receipt {
        let order = self.order(Instruction::Release);
        last(self.give(&order))
    }

    pub fn status(&self) -> Status {
        match self.ask(Ask::Status) {
            Answer::Status(status) => *status,
            other => panic!("{other:?}"),
        }
    }

    pub fn is_cut_off(&self) -> bool {
        self.world.machine.ruleset().contains("table inet cordon {")
    }
}

pub struct Connection {
    pub stream: UnixStream,
    pub id: u64,
    pub events: Vec<Event>,
}

impl Connection {
    pub fn ask(&mut self, ask: Ask) -> Answer {
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

    pub fn event(&mut self, is_it: impl Fn(&Event) -> bool) -> Event {
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

impl Connection {
    /// Gives an order that is obeyed; what its answer tells is heard like what comes later.
    #[track_caller]
    pub fn give(&mut self, order: Envelope) {
        match self.ask(Ask::Order(order)) {
            Answer::Obeyed(receipts) => self.events.push(Event::Receipts(receipts)),
            other => panic!("{other:?}"),
        }
    }

    /// Waits until this measure is said to be so. What else is told is kept for who asks later.
    pub fn receipt_of(&mut self, measure: MeasureId, state: MeasureState) -> Receipt {
        let is_it = |receipt: &Receipt| receipt.measure == measure && receipt.state == state;
        let told = self.event(|event| match event {
            Event::Receipts(told) => told.receipts.iter().any(is_it),
            _ => false,
        });
        let Event::Receipts(told) = &told else { unreachable!() };
        let found = told.receipts.iter().find(|receipt| is_it(receipt)).cloned().unwrap();
        self.events.insert(0, Event::Receipts(told.clone()));
        found
    }

    /// Waits for a receipt; those that are told before it are passed over.
    pub fn receipt(&mut self, is_it: impl Fn(&Receipt) -> bool) -> Receipt {
        loop {
            let told = self.event(|event| matches!(event, Event::Receipts(_)));
            let Event::Receipts(mut told) = told else { unreachable!() };
            if let Some(at) = told.receipts.iter().position(&is_it) {
                let rest = told.receipts.split_off(at + 1);
                let receipt = told.receipts.swap_remove(at);
                self.events.insert(0, Event::Receipts(Receipts { receipts: rest, ..told }));
                return receipt;
            }
        }
    }
}

pub fn last(answer: Answer) -> Receipt {
    match answer {
        Answer::Obeyed(receipts) => receipts.receipts.last().cloned().unwrap(),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub fn assert_refused(answer: &Answer, as_what: Refusal, because: &str) {
    match answer {
        Answer::Refused { kind, why } => {
            assert_eq!(*kind, as_what, "{why}");
            assert!(why.contains(because), "{why}");
        }
        other => panic!("not refused: {other:?}"),
    }
}

/// A peer's service that says back what it hears, on `address`.
pub fn echo(world: &World, address: &str, port: u16) {
    echo_in(&world.peer, address, port);
}

/// The same, in whichever namespace.
pub fn echo_in(namespace: &Namespace, address: &str, port: u16) {
    let address = SocketAddr::new(address.parse().unwrap(), port);
    let (ready, is_ready) = std::sync::mpsc::channel();
    namespace.spawn(move || {
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

pub fn dial(world: &World, address: &str, port: u16) -> std::io::Result<TcpStream> {
    let address = SocketAddr::new(address.parse().unwrap(), port);
    world.machine.inside(move || TcpStream::connect_timeout(&address, Duration::from_secs(2)))
}

/// As the agent's user, or whichever.
pub fn dial_as(world: &World, user: u32, address: &str, port: u16) -> std::io::Result<TcpStream> {
    let address = SocketAddr::new(address.parse().unwrap(), port);
    world.machine.inside(move || {
        nix::unistd::setfsuid(nix::unistd::Uid::from_raw(user));
        TcpStream::connect_timeout(&address, Duration::from_secs(2))
    })
}

/// Whether a byte comes back. Who says it back may have to wait for a processor first.
pub fn lives(stream: &mut TcpStream) -> bool {
    let patience = Some(Duration::from_secs(3));
    stream.set_read_timeout(patience).unwrap();
    stream.set_write_timeout(patience).unwrap();
    let mut byte = [0];
    stream.write_all(&[42]).is_ok() && stream.read_exact(&mut byte).is_ok() && byte == [42]
}
