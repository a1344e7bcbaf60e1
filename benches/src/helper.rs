//! The privileged helper by itself: how long from an order to what the kernel holds, with 200 lifelines, and
//! how much memory it takes.
//!
//! The real program in a network namespace of its own, asked over its socket as the agent asks it: signature,
//! disk sync, nftables, read-back and probes, receipt.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use cordon_agent::contain::moment::boot_time;
use cordon_agent::contain::protocol::{Answer, Ask, FromHelper, MESSAGE_BYTES, Pin, Request};
use cordon_drill::network::{Host, Network};
use cordon_link::frame::blocking as frame;
use cordon_model::asset::{
    Assignment, ClinicalTier, Direction, Lifeline, PortRange, Protected, Transport,
};
use cordon_model::ids::{MachineId, OdsCode, OrderId};
use cordon_model::measure::{Isolation, MeasureState, Receipt};
use cordon_model::order::{Approver, Authority, Instruction, Lease, Order};
use cordon_model::signed::seal;
use cordon_model::time::UtcNanos;
use ed25519_dalek::SigningKey;

use crate::{Row, cordon, memory, quantile};

/// Isolations and releases that are measured; 500, so that p99 is the fifth worst and no single one.
const ROUNDS: u64 = 500;
const LIFELINES: u32 = 200;
const HUB_PORT: u16 = 7443;
/// Whom the helper takes for the agent: nobody that runs anything here.
const AGENT_USER: &str = "65534";
const PATIENCE: Duration = Duration::from_secs(60);
const LEASE: Lease = Lease { seconds: 3600, step_down_seconds: 1800, warn_seconds: 60 };

pub fn measure() -> Result<Vec<Row>> {
    if !nix::unistd::geteuid().is_root() {
        println!("order to in force: skipped, as it needs root");
        return Ok(Vec::new());
    }
    println!(
        "order to in force: {ROUNDS} isolations and releases by the real helper, {LIFELINES} lifelines"
    );
    let mut rows = Vec::new();
    let mut ward = Ward::new()?;
    let pid = ward.helper.id();
    ward.assign(1, 0)?;
    rows.extend(resident(pid, "when idle")?);
    let mut alone = Times::default();
    ward.rounds(&mut alone)?;
    rows.extend(alone.rows("no lifelines"));
    ward.assign(2, LIFELINES)?;
    let mut many = Times::default();
    ward.rounds(&mut many)?;
    rows.extend(many.rows("200 lifelines"));
    ward.isolate()?;
    rows.extend(resident(pid, "isolating with 200 lifelines")?);
    Ok(rows)
}

/// How long it took, in milliseconds.
#[derive(Default)]
struct Times {
    to_in_force: Vec<f64>,
    to_receipt: Vec<f64>,
    to_open: Vec<f64>,
}

impl Times {
    fn rows(mut self, with: &str) -> Vec<Row> {
        let mut rows = Vec::new();
        for (what, times) in [
            ("order to in force", &mut self.to_in_force),
            ("order to receipt", &mut self.to_receipt),
            ("release to open", &mut self.to_open),
        ] {
            let n = times.len() as u64;
            for (name, share) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
                let value = quantile(times, share);
                rows.push(Row::new(format!("{what}, {with}, {name}"), value, "ms", n));
            }
        }
        rows
    }
}

/// The helper's memory: all that is in RAM, and of that what is its own. The rest are pages of the program's
/// file, which all of Cordon's processes on a machine share and the kernel may drop at any time.
fn resident(pid: u32, when: &str) -> Result<Vec<Row>> {
    let of = |field: &str| memory::mebibytes(pid, field);
    let own = of("RssAnon")? + of("RssShmem")?;
    Ok(vec![
        Row::new(format!("helper resident {when}"), of("VmRSS")?, "MiB", 1),
        Row::new(format!("helper resident {when}, its own"), own, "MiB", 1),
        Row::new(format!("helper resident {when}, the program's file"), of("RssFile")?, "MiB", 1),
    ])
}

/// One machine with its helper, and a hub's door beside it.
struct Ward {
    helper: Child,
    stream: UnixStream,
    folder: PathBuf,
    hub: SocketAddr,
    key: SigningKey,
    machine: MachineId,
    sequence: u64,
    asked: u64,
    /// Last, so that it goes when nothing is in it any more.
    _network: Network,
}

impl Drop for Ward {
    fn drop(&mut self) {
        let _ = self.helper.kill();
        let _ = self.helper.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Ward {
    fn new() -> Result<Self> {
        let id = std::process::id();
        let network = Network::build(&format!("cbh{id}"), &["m".to_owned(), "hub".to_owned()])?;
        let hub = SocketAddr::new(network.host("hub")?.address, HUB_PORT);
        answer_at(network.host("hub")?, hub)?;
        let folder = std::env::temp_dir().join(format!("cordon-bench-helper-{id}"));
        std::fs::create_dir_all(folder.join("state"))?;
        let socket = folder.join("helper.sock");
        let program = cordon().canonicalize().context("finding the built program")?;
        let helper = network
            .host("m")?
            .command(&program)
            .args(["role", "helper", "--agent-uid", AGENT_USER])
            .arg("--directory")
            .arg(folder.join("state"))
            .arg("--socket")
            .arg(&socket)
            .arg("--warden")
            .arg(folder.join("warden.sock"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting the helper")?;
        let stream = connected(&socket);
        let mut ward = Self {
            helper,
            // Read below, so that the helper is ended and the folder removed also when it never came up.
            stream: UnixStream::pair()?.0,
            folder,
            hub,
            key: SigningKey::from_bytes(&[7; 32]),
            machine: MachineId::new(UtcNanos::now(), [1; 10]),
            sequence: 0,
            asked: 0,
            _network: network,
        };
        ward.stream = stream?;
        let pin = Pin {
            command_key: ward.key.verifying_key().to_bytes(),
            organisation: organisation()?,
            machine: ward.machine,
        };
        ward.obeyed(Ask::Pin(pin))?;
        Ok(ward)
    }

    fn ask(&mut self, ask: Ask) -> Result<Answer> {
        self.asked += 1;
        frame::write(&mut self.stream, &Request { id: self.asked, ask }, MESSAGE_BYTES)?;
        loop {
            let said =
                frame::read(&mut self.stream, MESSAGE_BYTES)?.context("the helper is gone")?;
            if let FromHelper::Answer { to, answer } = said
                && to == self.asked
            {
                return Ok(answer);
            }
        }
    }

    fn obeyed(&mut self, ask: Ask) -> Result<Vec<Receipt>> {
        match self.ask(ask)? {
            Answer::Obeyed(receipts) => Ok(receipts.receipts),
            other => bail!("the helper did not obey: {other:?}"),
        }
    }

    /// What the machine is, with so many lifelines that share nothing with each other.
    fn assign(&mut self, revision: u64, lifelines: u32) -> Result<()> {
        let lifelines = (0..lifelines).map(|index| {
            Ok(Lifeline {
                name: format!("modality {index}"),
                peer: format!("10.{}.{}.0/24", 120 + index / 100, index % 100).parse()?,
                transport: Transport::Tcp,
                ports: PortRange { first: 104, last: 110 },
                direction: if index % 2 == 0 { Direction::Outbound } else { Direction::Inbound },
                signed_off_by: None,
            })
        });
        let assignment = Assignment {
            organisation: organisation()?,
            machine: self.machine,
            revision,
            name: "ward 7".into(),
            tier: Some(ClinicalTier::None),
            kind: None,
            group: None,
            lifelines: lifelines.collect::<Result<_>>()?,
            protected: Protected::default(),
            hub: vec![self.hub],
        };
        let envelope = seal(&assignment, &self.key)?;
        self.obeyed(Ask::Assignment(envelope)).map(drop)
    }

    fn order(&mut self, instruction: Instruction) -> Result<(OrderId, Vec<Receipt>)> {
        self.sequence += 1;
        let now = UtcNanos::now();
        let mut distinct = [0; 10];
        distinct[..8].copy_from_slice(&self.sequence.to_be_bytes());
        let order = Order {
            id: OrderId::new(now, distinct),
            organisation: organisation()?,
            machine: self.machine,
            sequence: self.sequence,
            nonce: [0; 16],
            issued_at: now,
            deliver_until: Some(now.plus(PATIENCE)),
            instruction,
            authority: Authority::People {
                approval: None,
                people: vec![Approver { name: "bench".into(), is_clinical: true }],
            },
            incident: None,
            reason: "measured".into(),
        };
        let envelope = seal(&order, &self.key)?;
        Ok((order.id, self.obeyed(Ask::Order(envelope))?))
    }

    fn isolate(&mut self) -> Result<Receipt> {
        let (order, receipts) = self.order(Instruction::isolate(Isolation::Full, LEASE))?;
        let last = receipts.into_iter().rfind(|receipt| receipt.measure == order.into());
        match last.context("no receipt for an isolation")? {
            verified @ Receipt { state: MeasureState::Verified, .. } => Ok(verified),
            other => bail!("not verified: {other:?}"),
        }
    }

    fn rounds(&mut self, times: &mut Times) -> Result<()> {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        for _ in 0..ROUNDS {
            let (boot, began) = (boot_time(), Instant::now());
            let receipt = self.isolate()?;
            times.to_receipt.push(ms(began.elapsed()));
            let proof = receipt.proof.context("verified without a proof")?;
            times.to_in_force.push(ms(proof.at.since(boot)));
            let began = Instant::now();
            let (_, receipts) = self.order(Instruction::Release)?;
            times.to_open.push(ms(began.elapsed()));
            if !receipts.iter().any(|receipt| receipt.state == MeasureState::Released) {
                bail!("not released: {receipts:?}");
            }
            self.ask(Ask::Reported { before: u64::MAX })?;
        }
        Ok(())
    }
}

fn organisation() -> Result<OdsCode> {
    "RJ1".parse().context("an organisation's code")
}

fn connected(socket: &Path) -> Result<UnixStream> {
    let began = Instant::now();
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                return Ok(stream);
            }
            Err(error) if began.elapsed() > PATIENCE => {
                return Err(error).context("the helper does not come up");
            }
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// What answers at the hub's address, inside its namespace: the helper's probes must find it.
fn answer_at(host: &Host, address: SocketAddr) -> Result<()> {
    let namespace = File::open(format!("/run/netns/{}", host.namespace))?;
    let (ready, is_ready) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let bound = nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET)
            .map_err(std::io::Error::from)
            .and_then(|()| TcpListener::bind(address));
        let listener = match bound {
            Ok(listener) => listener,
            Err(error) => return drop(ready.send(Err(error))),
        };
        let _ = ready.send(Ok(()));
        for mut stream in listener.incoming().flatten() {
            // One probe at a time; what is dialled says nothing, or a byte that comes back.
            let _ = stream.set_read_timeout(Some(Duration::from_millis(200)));
            let mut byte = [0];
            if let Ok(1) = stream.read(&mut byte) {
                let _ = stream.write_all(&byte);
            }
        }
    });
    is_ready.recv().context("the hub's door")?.context("the hub's door")
}
