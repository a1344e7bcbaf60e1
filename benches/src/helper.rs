//! The privileged helper by itself: how long from an order to what the kernel holds, with 200 lifelines and
//! with 200 connections to cut, how long until rules that somebody wiped are back, and how much memory it and
//! its warden take.
//!
//! The real program in a network namespace of its own, asked over its socket as the agent asks it: signature,
//! disk sync, nftables, read-back and probes, receipt.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use cordon_agent::contain::moment::boot_time;
use cordon_agent::contain::protocol::{
    Answer, Ask, Event, FromHelper, MESSAGE_BYTES, Pin, Request,
};
use cordon_drill::network::{Host, Network};
use cordon_link::frame::blocking as frame;
use cordon_model::action::{Action, FilePath, FileTarget};
use cordon_model::asset::{
    Assignment, ClinicalTier, Direction, Lifeline, PortRange, Protected, Transport,
};
use cordon_model::ids::{MachineId, MeasureId, OdsCode, OrderId};
use cordon_model::measure::{Isolation, MeasureState, Receipt};
use cordon_model::order::{Approver, Authority, Instruction, Lease, Order};
use cordon_model::signed::seal;
use cordon_model::time::UtcNanos;
use ed25519_dalek::SigningKey;

use crate::{Row, cordon, memory, quantile};

/// Isolations and releases that are measured; 500, so that p99 is the fifth worst and no single one.
const ROUNDS: u64 = 500;
const LIFELINES: u32 = 200;
/// Connections that every isolation of these rounds has to close; fewer rounds, for each opens them anew.
const CONNECTIONS: usize = 200;
const CUTTING_ROUNDS: u64 = 100;
/// A quarter of the largest file that is set aside.
const LARGE_FILE_MIB: usize = 256;
/// Wipes that are measured: p99 is the second worst.
const WIPES: u64 = 200;
/// From one of them to the next, for whoever wipes in a loop is looked at a hundred times a second and no more.
const CALM: Duration = Duration::from_millis(100);
/// Homes of the machine that is looked out on, isolations meanwhile, how long it is left alone before it is measured, and how
/// long then.
const HOMES: usize = 200;
const WITH_LOOKOUT: u64 = 200;
const QUIET: Duration = Duration::from_secs(15);
const IDLE: Duration = Duration::from_secs(60);
const HUB_PORT: u16 = 7443;
/// Where nothing is a lifeline.
const OTHER_PORT: u16 = 8080;
/// Whom the helper takes for the agent: nobody that runs anything here.
const AGENT_USER: &str = "65534";
const PATIENCE: Duration = Duration::from_secs(60);
/// From an order to its being in force, in milliseconds: half of them are to take less than the first, 99 of 100 than the
/// second.
const IN_FORCE_AIMS: [f64; 2] = [5.0, 50.0];
/// The helper is to have less than ten megabytes resident: so many mebibytes.
const RESIDENT_AIM: f64 = 10e6 / (1 << 20) as f64;
/// Within this, wiped rules are to be back in force.
const WIPE_AIM: Duration = Duration::from_millis(100);
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
    let mut ward = Ward::new(None)?;
    let pid = ward.helper.id();
    ward.assign(1, 0)?;
    rows.extend(resident(pid, "when idle")?);
    let mut alone = Times::default();
    ward.rounds(ROUNDS, 0, &mut alone)?;
    rows.extend(alone.rows("no lifelines"));
    rows.extend(ward.wipes("no lifelines")?);
    ward.assign(2, LIFELINES)?;
    let mut many = Times::default();
    ward.rounds(ROUNDS, 0, &mut many)?;
    rows.extend(many.rows("200 lifelines"));
    rows.extend(ward.wipes("200 lifelines")?);
    let mut cutting = Times::default();
    ward.rounds(CUTTING_ROUNDS, CONNECTIONS, &mut cutting)?;
    rows.extend(cutting.rows("200 lifelines, 200 connections cut"));
    ward.isolate()?;
    rows.extend(resident(pid, "isolating with 200 lifelines")?);
    rows.extend(ward.highest("isolating")?);
    let took = ward.set_aside_a_large_file()?.as_secs_f64() * 1e3;
    let what = format!("order to proof, quarantine of {LARGE_FILE_MIB} MiB");
    rows.push(Row::new(what, took, "ms", 1));
    rows.extend(ward.highest("after that quarantine")?);
    Ok(rows)
}

/// The same with a lookout on a machine with so many homes, and what that costs: memory, and the processor while nothing
/// happens.
pub fn measure_with_lookout() -> Result<Vec<Row>> {
    if !nix::unistd::geteuid().is_root() {
        println!("the lookout: skipped, as it needs root");
        return Ok(Vec::new());
    }
    println!(
        "the lookout: {WITH_LOOKOUT} isolations and releases, {HOMES} homes, then {} s of nothing",
        IDLE.as_secs()
    );
    let mut ward = Ward::new(Some(HOMES))?;
    let pid = ward.lookout()?;
    ward.assign(1, LIFELINES)?;
    let mut times = Times::default();
    ward.rounds(WITH_LOOKOUT, 0, &mut times)?;
    let with = format!("200 lifelines, a lookout with {HOMES} homes");
    let mut rows = times.rows(&with);
    ward.isolate()?;
    rows.extend(resident(ward.helper.id(), &format!("isolating, {with}"))?);
    // What the first look needed is given back after some seconds of quiet.
    std::thread::sleep(QUIET);
    let (began, spent) = (Instant::now(), processor_seconds(pid)?);
    std::thread::sleep(IDLE);
    let share = (processor_seconds(pid)? - spent) / began.elapsed().as_secs_f64() * 100.0;
    rows.push(Row::new(
        format!("lookout with {HOMES} homes, nothing happens"),
        share,
        "% of a core",
        1,
    ));
    for (field, what) in [
        ("VmRSS", "resident"),
        ("RssAnon", "resident, its own"),
        ("RssFile", "resident, the program's file"),
        ("VmHWM", "resident at its highest"),
    ] {
        let what = format!("lookout with {HOMES} homes: {what}");
        rows.push(Row::new(what, memory::mebibytes(pid, field)?, "MiB", 1));
    }
    Ok(rows)
}

/// Processor seconds of a process so far, user and system: of `/proc/PID/stat`, in hundredths.
fn processor_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("it is gone")?;
    let fields: Vec<&str> =
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
    Ok((ticks(11).context("no user time")? + ticks(12).context("no system time")?) / 100.0)
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
        let mut rows = shares("order to in force", with, &mut self.to_in_force);
        rows = rows
            .into_iter()
            .enumerate()
            .map(|(at, row)| match IN_FORCE_AIMS.get(at) {
                Some(aim) => row.with_aim_below(*aim),
                None => row,
            })
            .collect();
        for (what, times) in
            [("order to receipt", &mut self.to_receipt), ("release to open", &mut self.to_open)]
        {
            rows.extend(shares(what, with, times));
        }
        rows
    }
}

fn shares(what: &str, with: &str, times: &mut [f64]) -> Vec<Row> {
    let n = times.len() as u64;
    let shares = [("p50", 0.5), ("p99", 0.99), ("max", 1.0)];
    let rows = shares.map(|(name, share)| {
        Row::new(format!("{what}, {with}, {name}"), quantile(times, share), "ms", n)
    });
    rows.into()
}

/// The helper's memory: all that is in RAM, and of that what is its own. The rest are pages of the program's
/// file, which the helper and the warden share and the kernel may drop at any time.
fn resident(pid: u32, when: &str) -> Result<Vec<Row>> {
    let of = |field: &str| memory::mebibytes(pid, field);
    let own = of("RssAnon")? + of("RssShmem")?;
    Ok(vec![
        Row::new(format!("helper resident {when}"), of("VmRSS")?, "MiB", 1)
            .with_aim_below(RESIDENT_AIM),
        Row::new(format!("helper resident {when}, its own"), own, "MiB", 1),
        Row::new(format!("helper resident {when}, the program's file"), of("RssFile")?, "MiB", 1),
    ])
}

/// One machine with its helper and its warden, and a hub's door beside it.
struct Ward {
    helper: Child,
    warden: Child,
    stream: UnixStream,
    folder: PathBuf,
    hub: SocketAddr,
    key: SigningKey,
    machine: MachineId,
    sequence: u64,
    asked: u64,
    /// The hub's side of what the machine opened to [`OTHER_PORT`].
    accepted: Arc<Mutex<Vec<TcpStream>>>,
    /// Last, so that it goes when nothing is in it any more.
    network: Network,
}

impl Drop for Ward {
    fn drop(&mut self) {
        for child in [&mut self.helper, &mut self.warden] {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Ward {
    /// With somebody who looks out on so many homes besides this machine's own places, or nobody.
    fn new(homes: Option<usize>) -> Result<Self> {
        let id = std::process::id();
        let network = Network::build(&format!("cbh{id}"), &["m".to_owned(), "hub".to_owned()])?;
        let hub = SocketAddr::new(network.host("hub")?.address, HUB_PORT);
        answer_at(network.host("hub")?, hub)?;
        let accepted = keep_open(network.host("hub")?, SocketAddr::new(hub.ip(), OTHER_PORT))?;
        let folder = std::env::temp_dir().join(format!("cordon-bench-helper-{id}"));
        std::fs::create_dir_all(folder.join("state"))?;
        let socket = folder.join("helper.sock");
        let program = cordon().canonicalize().context("finding the built program")?;
        let warden = network
            .host("m")?
            .command(&program)
            .args(["role", "warden", "--socket"])
            .arg(folder.join("warden.sock"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting the warden")?;
        let mut helper = match homes {
            None => network.host("m")?.command(&program),
            Some(homes) => {
                let script = with_homes(&folder, homes)?;
                let mut helper = network.host("m")?.command(Path::new("unshare"));
                helper.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
                helper.arg(&program);
                helper
            }
        };
        helper.args(["role", "helper", "--agent-uid", AGENT_USER]);
        helper.args(homes.is_none().then_some("--no-look-out"));
        let helper = helper
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
            warden,
            // Read below, so that the helper is ended and the folder removed also when it never came up.
            stream: UnixStream::pair()?.0,
            folder,
            hub,
            key: SigningKey::from_bytes(&[7; 32]),
            machine: MachineId::new(UtcNanos::now(), [1; 10]),
            sequence: 0,
            asked: 0,
            accepted,
            network,
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

    /// The process that looks out, when it has looked at everything for the first time.
    fn lookout(&self) -> Result<u32> {
        let began = Instant::now();
        while !self.folder.join("state/lookout/known.cbor").exists() {
            if began.elapsed() > PATIENCE {
                bail!("nobody looks out");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let helper = format!("PPid:\t{}\n", self.helper.id());
        let is_it = |pid: &u32| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.starts_with("Name:\tcordon-lookout\n") && status.contains(&helper)
        };
        let names = std::fs::read_dir("/proc")?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter_map(|name| name.parse().ok()).find(is_it).context("the lookout is gone")
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

    /// What the machine is, with so many lifelines.
    fn assign(&mut self, revision: u64, lifelines: u32) -> Result<()> {
        let assignment = Assignment {
            organisation: organisation()?,
            machine: self.machine,
            revision,
            name: "ward 7".into(),
            tier: Some(ClinicalTier::None),
            kind: None,
            group: None,
            lifelines: (0..lifelines).map(lifeline).collect::<Result<_>>()?,
            names: Vec::new(),
            protected: Protected::default(),
            watched: Vec::new(),
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

    /// Isolates and releases `rounds` times, with so many connections open each time that have to end.
    fn rounds(&mut self, rounds: u64, connections: usize, times: &mut Times) -> Result<()> {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        for _ in 0..rounds {
            let open = self.open(connections)?;
            let (boot, began) = (boot_time(), Instant::now());
            let receipt = self.isolate()?;
            times.to_receipt.push(ms(began.elapsed()));
            if (receipt.sockets_cut as usize) < connections {
                bail!("{} of {connections} connections were cut", receipt.sockets_cut);
            }
            let proof = receipt.proof.context("verified without a proof")?;
            times.to_in_force.push(ms(proof.at.since(boot)));
            let began = Instant::now();
            let (_, receipts) = self.order(Instruction::Release)?;
            times.to_open.push(ms(began.elapsed()));
            if !receipts.iter().any(|receipt| receipt.state == MeasureState::Released) {
                bail!("not released: {receipts:?}");
            }
            self.ask(Ask::Reported { before: u64::MAX })?;
            // The other side never heard that they were cut.
            drop(open);
            locked(&self.accepted).clear();
        }
        Ok(())
    }

    /// Somebody wipes all rules, again and again. Counted from before `nft` is started, so what it takes to
    /// start is counted too, to the moment at which the rules were read back in force.
    fn wipes(&mut self, with: &str) -> Result<Vec<Row>> {
        self.isolate()?;
        let (mut from_nft, mut from_noticed) = (Vec::new(), Vec::new());
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        // A connection of its own, so that the other measurements hear nothing unasked.
        let mut told = connected(&self.folder.join("helper.sock"))?;
        frame::write(&mut told, &Request { id: 1, ask: Ask::Listen }, MESSAGE_BYTES)?;
        for _ in 0..WIPES {
            std::thread::sleep(CALM);
            let before = boot_time();
            let mut nft = self.network.host("m")?.command(Path::new("nft"));
            if !nft.args(["flush", "ruleset"]).status().context("running nft")?.success() {
                bail!("nft flushed nothing");
            }
            let (noticed, restored) = loop {
                let said = frame::read(&mut told, MESSAGE_BYTES)?.context("the helper is gone")?;
                // What was told of an earlier wipe is over.
                if let FromHelper::Event(Event::Wiped { noticed, restored, .. }) = said
                    && restored.is_none_or(|restored| restored > before)
                {
                    break (noticed, restored.context("wiped rules could not be put back")?);
                }
            };
            from_nft.push(ms(restored.since(before)));
            from_noticed.push(ms(restored.since(noticed)));
        }
        self.order(Instruction::Release)?;
        self.ask(Ask::Reported { before: u64::MAX })?;
        let late = from_nft.iter().filter(|took| **took >= ms(WIPE_AIM)).count();
        let mut rows = shares("wipe to read back", with, &mut from_nft);
        let what = format!("wipe to read back, {with}: later than {} ms", WIPE_AIM.as_millis());
        rows.push(Row::new(what, late as f64, "wipes", from_nft.len() as u64));
        rows.extend(shares("wipe noticed to read back", with, &mut from_noticed));
        Ok(rows)
    }

    /// Connections of the machine to where nothing is a lifeline, known to both sides.
    fn open(&self, count: usize) -> Result<Vec<TcpStream>> {
        let to = SocketAddr::new(self.hub.ip(), OTHER_PORT);
        let dial =
            move || (0..count).map(|_| TcpStream::connect(to)).collect::<io::Result<Vec<_>>>();
        let open = inside(self.network.host("m")?, dial)?.context("opening connections")?;
        let began = Instant::now();
        while locked(&self.accepted).len() < count {
            if began.elapsed() > PATIENCE {
                bail!("the other side does not take {count} connections");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(open)
    }

    /// The most that helper and warden have ever had in memory.
    fn highest(&self, when: &str) -> Result<Vec<Row>> {
        let of = |child: &Child| memory::mebibytes(child.id(), "VmHWM");
        Ok(vec![
            Row::new(format!("helper at its highest, {when}"), of(&self.helper)?, "MiB", 1)
                .with_aim_below(RESIDENT_AIM),
            Row::new(format!("warden at its highest, {when}"), of(&self.warden)?, "MiB", 1),
        ])
    }

    /// Has a large file set aside, and puts it back; how long the first took.
    fn set_aside_a_large_file(&mut self) -> Result<Duration> {
        let path = self.folder.join("large");
        let mut file = File::create(&path)?;
        let mebibyte: Vec<u8> = (0..1 << 20_u32).map(|at| (at % 251) as u8).collect();
        for _ in 0..LARGE_FILE_MIB {
            file.write_all(&mebibyte)?;
        }
        file.sync_all()?;
        drop(file);
        let path = FilePath::new(path.as_os_str().as_bytes());
        let action = Action::Quarantine(FileTarget { path, sha256: None });
        // It is done beside, and told when it is.
        let mut told = connected(&self.folder.join("helper.sock"))?;
        frame::write(&mut told, &Request { id: 1, ask: Ask::Listen }, MESSAGE_BYTES)?;
        let began = Instant::now();
        let (order, _) =
            self.order(Instruction::Begin { action, lease: LEASE, if_isolated: None })?;
        match told_of(&mut told, order.into(), |_| true)? {
            MeasureState::Verified | MeasureState::Done => {}
            other => bail!("the file was not set aside: {other:?}"),
        }
        let took = began.elapsed();
        self.order(Instruction::Undo { measure: order.into() })?;
        told_of(&mut told, order.into(), |state| *state == MeasureState::Released)?;
        Ok(took)
    }
}

/// Accounts with homes, as people have them, and what has them be the machine's in a mount namespace of its own before it
/// goes on as its arguments say.
fn with_homes(folder: &Path, homes: usize) -> Result<String> {
    let mut accounts = std::fs::read_to_string("/etc/passwd")?;
    for number in 0..homes {
        accounts +=
            &format!("user{number}:x:{0}:{0}::/home/user{number}:/bin/bash\n", 2_000 + number);
        let home = folder.join(format!("home/user{number}"));
        for inner in [".ssh", ".config/autostart", ".config/systemd/user"] {
            std::fs::create_dir_all(home.join(inner))?;
        }
        for (file, bytes) in [
            (".profile", 800),
            (".bashrc", 3_500),
            (".bash_logout", 220),
            (".ssh/authorized_keys", 100),
            (".config/autostart/viewer.desktop", 200),
        ] {
            // Each its own: nobody's content is kept once for all.
            std::fs::write(home.join(file), format!("# {number} {}\n", "x".repeat(bytes)))?;
        }
    }
    std::fs::write(folder.join("passwd"), accounts)?;
    let folder = folder.display();
    Ok(format!(
        "mount --bind '{folder}/passwd' /etc/passwd && mount --bind '{folder}/home' /home && exec \"$0\" \"$@\""
    ))
}

/// Waits until a listener is told that a measure is so; how it is.
fn told_of(
    told: &mut UnixStream,
    measure: MeasureId,
    is_so: impl Fn(&MeasureState) -> bool,
) -> Result<MeasureState> {
    loop {
        let said = frame::read(told, MESSAGE_BYTES)?.context("the helper is gone")?;
        let FromHelper::Event(Event::Receipts(receipts)) = said else { continue };
        let is_it = |receipt: &Receipt| receipt.measure == measure && is_so(&receipt.state);
        if let Some(receipt) = receipts.receipts.into_iter().find(is_it) {
            return Ok(receipt.state);
        }
    }
}

/// What a hospital declares: single devices, small and larger networks, both families, one port and several,
/// both ways. Few of them have much in common.
fn lifeline(index: u32) -> Result<Lifeline> {
    let peer = match index % 5 {
        0 | 1 => format!("10.120.{}.{}/32", index / 100, 1 + index % 100),
        2 => format!("10.121.{}.{}/28", index / 16, index % 16 * 16),
        3 => format!("10.122.{index}.0/24"),
        _ if index.is_multiple_of(2) => format!("fd77::{index:x}/128"),
        _ => format!("fd77:{index:x}::/64"),
    };
    let (first, last) = match index % 7 {
        0 | 1 => (11112, 11112),
        2 => (2575, 2575),
        3 => (104, 110),
        4 => (2000, 2010),
        5 => (9100, 9102),
        _ => (443, 443),
    };
    Ok(Lifeline {
        name: format!("modality {index}"),
        peer: peer.parse()?,
        transport: if index.is_multiple_of(11) { Transport::Udp } else { Transport::Tcp },
        ports: PortRange { first, last },
        direction: if index.is_multiple_of(3) { Direction::Inbound } else { Direction::Outbound },
        signed_off_by: None,
    })
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

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What `what` gives on a thread that lives in a host's namespace.
fn inside<T: Send + 'static>(host: &Host, what: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let namespace = File::open(format!("/run/netns/{}", host.namespace))?;
    let thread = std::thread::spawn(move || {
        nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET)?;
        Ok::<T, nix::errno::Errno>(what())
    });
    match thread.join() {
        Ok(result) => result.context("entering a namespace"),
        Err(_) => bail!("a thread in a namespace panicked"),
    }
}

/// What answers at the hub's address, inside its namespace: the helper's probes must find it.
fn answer_at(host: &Host, address: SocketAddr) -> Result<()> {
    let listener = inside(host, move || TcpListener::bind(address))?.context("the hub's door")?;
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // One probe at a time; what is dialled says nothing, or a byte that comes back.
            let _ = stream.set_read_timeout(Some(Duration::from_millis(200)));
            let mut byte = [0];
            if let Ok(1) = stream.read(&mut byte) {
                let _ = stream.write_all(&byte);
            }
        }
    });
    Ok(())
}

/// What takes every connection to `address` and holds it.
fn keep_open(host: &Host, address: SocketAddr) -> Result<Arc<Mutex<Vec<TcpStream>>>> {
    let listener = inside(host, move || TcpListener::bind(address))?.context("the other door")?;
    let accepted: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
    let holds = Arc::clone(&accepted);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            locked(&holds).push(stream);
        }
    });
    Ok(accepted)
}
