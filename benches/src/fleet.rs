//! One hub and its signer with 10,000 machines on real connections: what it takes to enrol and link them, to
//! have them all back when the hub was killed, to push documents to all, and to order them; and that brake and
//! budget hold while somebody tries to order all.
//!
//! The real program runs hub and signer. The machines are tasks of this process, and so their half of every
//! handshake and signature is paid on the same cores: a hub of its own is faster than this.
//!
//! The signer's brakes hold while it is measured: people get 5 % of the machines whose tier is said, each way, in
//! 10 minutes, and there is no switch that lifts that. So the organisation is the largest that there can be, of
//! 100,000 described machines, of which 10,000 are linked here: somebody tries to isolate all of these, and then
//! to release all, from the other end, and 5,000 of each are signed: an order for every machine. What the policy isolates by its budget, and a document for each
//! machine, which no brake holds, are measured beside that.
//!
//! What a machine is, and a policy that acts, takes root at the signer's socket: the bench is root, and says it
//! there first, as `cordon assign` and `cordon policy` do.

use std::collections::HashMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use cordon_agent::identity::Identity;
use cordon_hub::control::{Answer, Request, Status};
use cordon_hub::signer::Client;
use cordon_hub::view::{AssignmentDraft, Ordered};
use cordon_link::frame;
use cordon_model::asset::{Assignment, ClinicalTier};
use cordon_model::ids::{MachineId, OrderId};
use cordon_model::limits::MESSAGE_BYTES;
use cordon_model::measure::Isolation;
use cordon_model::order::Approver;
use cordon_model::policy::{Mode, Policy};
use cordon_model::time::UtcNanos;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::UnixStream;
use tokio::sync::{Mutex, Semaphore, mpsc, watch};

use crate::agent_cost::{cpu_ticks, seconds};
use crate::{Row, cordon, memory, quantile};

mod machine;
use machine::{Fleet, Told};

/// Machines, unless `CORDON_BENCH_MACHINES` says another number.
const MACHINES: usize = 10_000;
/// Machines that root has described, linked or not: as many as a signer takes.
const DESCRIBED: usize = 100_000;
/// Within so many seconds one hub is to have ordered 10,000 machines.
const ORDERED_AIM: f64 = 60.0;
/// Machines of one ward.
const WARD: usize = 100;
/// Asked at one time over the control socket, which has 16 seats.
const ASKED_AT_ONCE: usize = 8;
/// Links that are being made at one time.
const DOORS: usize = 48;
/// Enrolments at one time: the hub lets 30 from one address be under way.
const ENROLLING: usize = 24;
/// How long a phase may take.
const PATIENCE: Duration = Duration::from_secs(1_800);
/// How long the hub is looked at when nothing happens.
const IDLE: Duration = Duration::from_secs(10);

/// Measures into `rows`: a part that fails leaves there what was measured before it.
pub fn measure(rows: &mut Vec<Row>) -> Result<()> {
    let wanted = std::env::var("CORDON_BENCH_MACHINES").ok();
    let machines = match wanted {
        Some(number) => number.parse().context("CORDON_BENCH_MACHINES")?,
        None => MACHINES,
    };
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if hard < machines as u64 + 1_000 {
        println!(
            "fleet: skipped, as only {hard} files may be open here, too few for {machines} links"
        );
        return Ok(());
    }
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    println!("fleet: {machines} simulated machines on real connections, one hub and its signer");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let site = Site::start()?;
    let measured = runtime.block_on(site.measure(machines, rows));
    runtime.shutdown_background();
    measured
}

/// A running hub with its signer, without an agent.
struct Site {
    child: Child,
    state: PathBuf,
    /// The machines' own files: in memory, so that the disk is the hub's and signer's alone.
    agents: PathBuf,
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let pid = nix::unistd::Pid::from_raw(pid);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        }
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.state);
        let _ = std::fs::remove_dir_all(&self.agents);
    }
}

impl Site {
    fn start() -> Result<Self> {
        let id = std::process::id();
        let state = std::env::temp_dir().join(format!("cordon-bench-fleet-{id}"));
        let memory = Path::new("/dev/shm");
        let agents = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let agents = agents.join(format!("cordon-bench-fleet-{id}-agents"));
        std::fs::create_dir_all(&state)?;
        std::fs::create_dir_all(&agents)?;
        let log = std::fs::File::create("target/bench/fleet.log")?;
        let [link, enrol] = free()?;
        let child = Command::new(cordon().canonicalize().context("finding the built program")?)
            .args(["up", "--no-agent", "--console", "127.0.0.1:0"])
            // The same when the hub is started again.
            .args(["--link", &link, "--enrol", &enrol])
            .arg("--state")
            .arg(&state)
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting the hub")?;
        Ok(Self { child, state, agents })
    }

    async fn measure(self, count: usize, rows: &mut Vec<Row>) -> Result<()> {
        let controls = self.controls().await?;
        let (mut hub, signer) = (self.process("cordon-hub")?, self.process("cordon-signer")?);
        let identities = self.enrol(&controls, count, rows).await?;
        let keepers = self.keepers().await?;
        self.describe(&controls, &keepers, &identities, rows).await?;

        let (attack, attacked) = watch::channel(false);
        let (told, mut heard) = mpsc::unbounded_channel();
        let fleet = Arc::new(Fleet {
            linked: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            policy: AtomicU64::new(0),
            has_policy: AtomicU64::new(0),
            assignments: AtomicU64::new(0),
            codes: AtomicU64::new(0),
            findings: AtomicU64::new(0),
            attack: attacked,
            told,
            doors: Semaphore::new(DOORS),
            comes_back: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
            tries: AtomicU64::new(0),
        });
        let all = count as u64;
        let began = Instant::now();
        for (number, identity) in identities.iter().enumerate() {
            let (identity, fleet) = (identity.clone(), fleet.clone());
            tokio::spawn(machine::live(identity, host(number), fleet));
        }
        reached("linked", &fleet.linked, all, &fleet).await?;
        rows.push(Row::new("all linked at once, until all are", secs(began), "s", all));

        tokio::time::sleep(IDLE).await;
        let before = (cpu_ticks(hub)?, cpu_ticks(signer)?);
        tokio::time::sleep(IDLE).await;
        let share = |now: u64, then: u64| 100.0 * seconds(now - then) / IDLE.as_secs_f64();
        for (name, pid, then) in [("hub", hub, before.0), ("signer", signer, before.1)] {
            let cpu = share(cpu_ticks(pid)?, then);
            rows.push(Row::new(format!("{name} CPU, all linked and quiet"), cpu, "% of core", all));
            let resident = memory::mebibytes(pid, "VmRSS")?;
            rows.push(Row::new(format!("{name} resident, all linked"), resident, "MiB", all));
        }

        hub = self.killed(hub, &fleet, all, rows).await?;

        let policy = match controls[0].ask(&Request::Policy).await? {
            Answer::Policy(policy) => policy,
            other => bail!("no policy: {other:?}"),
        };
        fleet.policy.store(policy.revision + 1, Ordering::Relaxed);
        let began = Instant::now();
        keepers[0].set_policy((*policy).clone(), by()).await?;
        controls[0].ask(&Request::SetPolicy(policy)).await?;
        reached("have the policy", &fleet.has_policy, all, &fleet).await?;
        rows.push(Row::new("one policy pushed to all, until all have it", secs(began), "s", all));

        fleet.assignments.store(0, Ordering::Relaxed);
        let began = Instant::now();
        let answers = at_once(&controls, &identities, |number, identity| Request::SetAssignment {
            machine: identity.machine().to_string(),
            draft: draft(number),
        });
        let answers = answers.await?;
        if let Some((_, refused, _)) =
            answers.iter().find(|(_, a, _)| !matches!(a, Answer::Assigned(_)))
        {
            bail!("an assignment was refused: {refused:?}");
        }
        reached("have the assignment", &fleet.assignments, all, &fleet).await?;
        let took = secs(began);
        rows.push(Row::new("a document signed for each and delivered, all", took, "s", all));
        rows.push(Row::new("documents signed and delivered", all as f64 / took, "1/s", all));

        self.describe_others(&keepers, count, rows).await?;
        let (mut signed, mut took) = (0, 0.0);
        // The other way round for releases, so that every machine gets an order.
        let backwards: Vec<_> = identities.iter().rev().cloned().collect();
        for (is_isolation, machines) in [(true, &identities), (false, &backwards)] {
            let part = self.people(is_isolation, &controls, machines, &mut heard, rows).await?;
            signed += part.0;
            took += part.1;
        }
        let what = "orders by people in all: signed, delivered, confirmed";
        rows.push(Row::new(what, signed as f64, "orders", 2 * all));
        let what = "…and as many refused by the brake, all in";
        rows.push(Row::new(what, took, "s", 2 * all).with_aim_below(2.0 * ORDERED_AIM));

        let known = keepers[0].policy().await?;
        let acting = Policy { mode: Mode::Act, ..(*known).clone() };
        keepers[0].set_policy(acting, by()).await?;
        match controls[0].ask(&Request::SetMode(Mode::Act)).await? {
            Answer::PolicySet { .. } => {}
            other => bail!("the mode was not set: {other:?}"),
        }
        let before = self.status(&controls[0]).await?;
        let began = Instant::now();
        attack.send(true)?;
        reached("have their finding taken", &fleet.findings, all, &fleet).await?;
        rows.push(Row::new(
            "a finding of each at once, until all are on disk",
            secs(began),
            "s",
            all,
        ));
        let signed = self.settled(&controls[0], &mut heard).await?;
        let after = self.status(&controls[0]).await?;
        let asked = after.questions - before.questions;
        rows.push(Row::new(
            "of these, isolated by the policy (its budget)",
            signed as f64,
            "machines",
            all,
        ));
        rows.push(Row::new("of these, asked of people", asked as f64, "questions", all));
        rows.push(Row::new(
            "links lost in all",
            fleet.lost.load(Ordering::Relaxed) as f64,
            "links",
            all,
        ));
        let resident = memory::mebibytes(hub, "VmHWM")?;
        rows.push(Row::new("hub resident at its highest", resident, "MiB", all));
        Ok(())
    }

    /// The hub is killed: every machine loses its link at once, and dials again by itself, as nobody tells it
    /// when. Returns the new hub's process.
    async fn killed(&self, hub: u32, fleet: &Fleet, all: u64, rows: &mut Vec<Row>) -> Result<u32> {
        fleet.comes_back.store(true, Ordering::Relaxed);
        let began = Instant::now();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(hub)?);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL)?;
        reached("lost their link", &fleet.dropped, all, fleet).await?;
        reached("linked again", &fleet.linked, all, fleet).await?;
        rows.push(Row::new("hub killed, until all are linked again", secs(began), "s", all));
        let tries = fleet.tries.load(Ordering::Relaxed);
        rows.push(Row::new("…tries that came to nothing", tries as f64, "tries", all));
        fleet.comes_back.store(false, Ordering::Relaxed);
        self.process("cordon-hub")
    }

    /// Everybody's orders to every machine: what the brake lets through, how fast, and nothing else.
    async fn people(
        &self,
        is_isolation: bool,
        controls: &[Control],
        identities: &[Arc<Identity>],
        heard: &mut mpsc::UnboundedReceiver<Told>,
        rows: &mut Vec<Row>,
    ) -> Result<(usize, f64)> {
        let what = if is_isolation { "isolations by people" } else { "releases by people" };
        let reason = "measured".to_owned();
        let began = Instant::now();
        let answers = at_once(controls, identities, |_, identity| {
            let (machine, reason) = (identity.machine().to_string(), reason.clone());
            if is_isolation {
                Request::Isolate { machine, isolation: Isolation::Full, reason }
            } else {
                let despite = Some("a measurement".to_owned());
                Request::Release { machine, reason, despite }
            }
        })
        .await?;
        let mut orders: HashMap<OrderId, Instant> = HashMap::new();
        let all_answered = Instant::now();
        let (mut refused, mut last_signed) = (HashMap::<String, usize>::new(), began);
        for (asked, answer, answered) in answers {
            match answer {
                Answer::Ordered { ordered: Ordered::Signed { order, .. }, .. }
                | Answer::Released { ordered: Ordered::Signed { order, .. }, .. } => {
                    orders.insert(order, asked);
                    last_signed = last_signed.max(answered);
                }
                Answer::Refused(why) => *refused.entry(why).or_default() += 1,
                other => bail!("{what}: {other:?}"),
            }
        }
        for (why, times) in &refused {
            println!("  {what}: refused {times} times: {why}");
        }
        let signed = orders.len();
        let (mut delivered, mut confirmed) = (Vec::new(), Vec::new());
        let mut last = began;
        let all = async {
            while confirmed.len() < signed {
                let Told { order, is_confirmed, at } = heard.recv().await.context("no machines")?;
                let Some(asked) = orders.get(&order) else { continue };
                let ms = at.saturating_duration_since(*asked).as_secs_f64() * 1e3;
                if is_confirmed {
                    confirmed.push(ms)
                } else {
                    delivered.push(ms)
                }
                last = last.max(at);
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(PATIENCE, all).await.context("orders were not confirmed")??;
        // Until everybody has an answer, and every order its proof.
        let took = last.max(all_answered).duration_since(began).as_secs_f64();
        let n = signed as u64;
        let tried = identities.len() as u64;
        let rate = |until: Instant| signed as f64 / until.duration_since(began).as_secs_f64();
        rows.push(Row::new(
            format!("{what}: signed before the brake"),
            signed as f64,
            "orders",
            tried,
        ));
        rows.push(Row::new(format!("{what}: signed"), rate(last_signed), "1/s", n));
        rows.push(Row::new(format!("{what}: signed, delivered, confirmed"), rate(last), "1/s", n));
        for (name, times) in
            [("wish to machine", &mut delivered), ("wish to proof on disk", &mut confirmed)]
        {
            for (quantile_name, share) in [("p50", 0.5), ("p99", 0.99)] {
                let value = quantile(times, share);
                rows.push(Row::new(format!("{what}: {name} {quantile_name}"), value, "ms", n));
            }
        }
        Ok((signed, took))
    }

    /// Waits until nothing more is ordered or asked, and says how many orders came.
    async fn settled(
        &self,
        control: &Control,
        heard: &mut mpsc::UnboundedReceiver<Told>,
    ) -> Result<u64> {
        let (mut signed, mut before) = (0, None);
        let began = Instant::now();
        loop {
            tokio::time::sleep(Duration::from_secs(3)).await;
            while let Ok(told) = heard.try_recv() {
                signed += u64::from(!told.is_confirmed);
            }
            let now = (signed, self.status(control).await?.questions);
            if before == Some(now) {
                return Ok(signed);
            }
            before = Some(now);
            if began.elapsed() > PATIENCE {
                bail!("orders and questions never end");
            }
        }
    }

    async fn status(&self, control: &Control) -> Result<Status> {
        match control.ask(&Request::Status).await? {
            Answer::Status(status) => Ok(*status),
            other => bail!("no status: {other:?}"),
        }
    }

    /// Tokens from the control socket, enrolment through the real door. A tenth at a time, so that it shows
    /// whether the last machines take longer than the first.
    async fn enrol(
        &self,
        controls: &[Control],
        count: usize,
        rows: &mut Vec<Row>,
    ) -> Result<Vec<Arc<Identity>>> {
        let numbers: Vec<usize> = (0..count).collect();
        let began = Instant::now();
        let answers = at_once(controls, &numbers, |_, _| Request::CreateEnrolToken {
            draft: AssignmentDraft::default(),
            good_for_seconds: 24 * 3600,
        });
        let mut tokens = Vec::with_capacity(count);
        for (_, answer, _) in answers.await? {
            match answer {
                Answer::Secret(token) => tokens.push(token),
                other => bail!("no token: {other:?}"),
            }
        }
        let rate = |many: usize, seconds: f64| many as f64 / seconds;
        let n = count as u64;
        rows.push(Row::new("enrolment tokens made", rate(count, secs(began)), "1/s", n));
        let doors = Arc::new(Semaphore::new(ENROLLING));
        let mut identities = Vec::with_capacity(count);
        let mut rates = Vec::new();
        for (part, tokens) in tokens.chunks(count.div_ceil(10)).enumerate() {
            let part_began = Instant::now();
            let mut under_way = Vec::new();
            for (number, token) in tokens.iter().enumerate() {
                let number = part * count.div_ceil(10) + number;
                let (doors, token) = (doors.clone(), token.clone());
                let folder = self.agents.join(number.to_string());
                under_way.push(tokio::spawn(async move {
                    let _turn = doors.acquire().await?;
                    machine::enrol(folder, &token, &host(number)).await
                }));
            }
            for enrolled in under_way {
                identities.push(Arc::new(enrolled.await??));
            }
            rates.push(rate(tokens.len(), secs(part_began)));
            println!(
                "  {} of {count} enrolled, {:.0} a second; load {}",
                identities.len(),
                rates[part],
                crate::load()
            );
        }
        rows.push(Row::new("all enrolled", secs(began), "s", n));
        rows.push(Row::new("enrolled, the first tenth", rates[0], "1/s", n / 10));
        rows.push(Row::new("enrolled, the last tenth", rates[rates.len() - 1], "1/s", n / 10));
        Ok(identities)
    }

    /// Ways to the signer, as root.
    async fn keepers(&self) -> Result<Vec<Client>> {
        let socket = self.state.join("run/signer/signer.sock");
        let mut keepers = Vec::with_capacity(ASKED_AT_ONCE);
        for _ in 0..ASKED_AT_ONCE {
            keepers.push(Client::connect(&socket).await?);
        }
        Ok(keepers)
    }

    /// Says what each machine is, as `cordon assign` does: the hub says what it would have signed, root has it
    /// signed, and the hub has the same signed once more and brings it to the machine.
    async fn describe(
        &self,
        controls: &[Control],
        keepers: &[Client],
        identities: &[Arc<Identity>],
        rows: &mut Vec<Row>,
    ) -> Result<()> {
        let next = AtomicU64::new(0);
        let next = &next;
        let began = Instant::now();
        let work = controls.iter().zip(keepers).map(|(control, keeper)| async move {
            loop {
                let number = usize::try_from(next.fetch_add(1, Ordering::Relaxed))?;
                let Some(identity) = identities.get(number) else { return anyhow::Ok(()) };
                let (machine, draft) = (identity.machine().to_string(), draft(number));
                let would = Request::WouldAssign { machine: machine.clone(), draft: draft.clone() };
                let would = match control.ask(&would).await? {
                    Answer::Assigned(would) => *would,
                    other => bail!("nothing would be signed: {other:?}"),
                };
                keeper.assign(would, None, Some(by())).await?;
                match control.ask(&Request::SetAssignment { machine, draft }).await? {
                    Answer::Assigned(_) => {}
                    other => bail!("an assignment was refused: {other:?}"),
                }
            }
        });
        futures_util::future::try_join_all(work).await?;
        let (took, n) = (secs(began), identities.len() as u64);
        rows.push(Row::new("all described by root at the signer", took, "s", n));
        Ok(())
    }

    /// Says what the organisation's other machines are, which are not linked here.
    async fn describe_others(
        &self,
        keepers: &[Client],
        linked: usize,
        rows: &mut Vec<Row>,
    ) -> Result<()> {
        let organisation = keepers[0].policy().await?.organisation.clone();
        let next = AtomicU64::new(linked as u64);
        let (next, organisation) = (&next, &organisation);
        let began = Instant::now();
        let work = keepers.iter().map(|keeper| async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= DESCRIBED as u64 {
                    return anyhow::Ok(());
                }
                let mut bytes = [0; 10];
                bytes[..8].copy_from_slice(&number.to_be_bytes());
                let machine = MachineId::new(UtcNanos::now(), bytes);
                let other = Assignment {
                    tier: Some(ClinicalTier::None),
                    ..Assignment::of(organisation.clone(), machine, format!("other {number}"))
                };
                keeper.assign(other, None, Some(by())).await?;
            }
        });
        futures_util::future::try_join_all(work).await?;
        let others = DESCRIBED.saturating_sub(linked) as u64;
        rows.push(Row::new("the organisation's others described", secs(began), "s", others));
        Ok(())
    }

    async fn controls(&self) -> Result<Vec<Control>> {
        let socket = self.state.join("run/hub/hub.sock");
        let began = Instant::now();
        while UnixStream::connect(&socket).await.is_err() {
            if began.elapsed() > Duration::from_secs(60) {
                bail!("the hub does not come up: see target/bench/fleet.log");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok((0..ASKED_AT_ONCE)
            .map(|_| Control { socket: socket.clone(), stream: Mutex::default() })
            .collect())
    }

    /// A role's process, started by ours.
    fn process(&self, name: &str) -> Result<u32> {
        let parent = format!("PPid:\t{}", self.child.id());
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|pid| pid.parse().ok()) else {
                continue;
            };
            let status = std::fs::read_to_string(entry.path().join("status")).unwrap_or_default();
            let is_child = status.lines().any(|line| line == parent);
            if is_child && status.lines().next() == Some(&format!("Name:\t{name}")) {
                return Ok(pid);
            }
        }
        bail!("{name} does not run")
    }
}

/// One connection to the hub's control socket.
struct Control {
    socket: PathBuf,
    stream: Mutex<Option<UnixStream>>,
}

impl Control {
    async fn ask(&self, request: &Request) -> Result<Answer> {
        let mut slot = self.stream.lock().await;
        // One that was idle for a minute was hung up on.
        for is_last in [false, true] {
            let mut stream = match slot.take() {
                Some(stream) => stream,
                None => UnixStream::connect(&self.socket).await?,
            };
            let asked = async {
                frame::write(&mut stream, request, MESSAGE_BYTES).await?;
                frame::read(&mut stream, MESSAGE_BYTES).await
            };
            match asked.await {
                Ok(Some(answer)) => {
                    *slot = Some(stream);
                    return Ok(answer);
                }
                Ok(None) | Err(_) if !is_last => {}
                Ok(None) => bail!("the hub hung up"),
                Err(error) => return Err(error.into()),
            }
        }
        bail!("the hub hung up")
    }
}

/// Asks about each of `of`, some at a time; when it was asked, the answer, and when that came, in order.
async fn at_once<T>(
    controls: &[Control],
    of: &[T],
    request: impl Fn(usize, &T) -> Request,
) -> Result<Vec<(Instant, Answer, Instant)>> {
    let next = AtomicU64::new(0);
    let (next, request) = (&next, &request);
    let work = controls.iter().map(|control| async move {
        let mut answers = Vec::new();
        loop {
            let number = usize::try_from(next.fetch_add(1, Ordering::Relaxed))?;
            let Some(one) = of.get(number) else { return anyhow::Ok(answers) };
            let request = request(number, one);
            let asked = Instant::now();
            let answer = control.ask(&request).await?;
            answers.push((number, (asked, answer, Instant::now())));
        }
    });
    let mut all: Vec<_> =
        futures_util::future::try_join_all(work).await?.into_iter().flatten().collect();
    all.sort_by_key(|(number, _)| *number);
    Ok(all.into_iter().map(|(_, answer)| answer).collect())
}

/// Waits until `counter` is `all`, and says how it goes.
async fn reached(what: &str, counter: &AtomicU64, all: u64, fleet: &Fleet) -> Result<()> {
    let began = Instant::now();
    let mut said = began;
    loop {
        let now = counter.load(Ordering::Relaxed);
        if now >= all {
            return Ok(());
        }
        if began.elapsed() > PATIENCE {
            bail!("only {now} of {all} {what}; {} links lost", fleet.lost.load(Ordering::Relaxed));
        }
        if said.elapsed() > Duration::from_secs(10) {
            said = Instant::now();
            println!("  {now} of {all} {what}; load {}", crate::load());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// In whose name root speaks here.
fn by() -> Approver {
    Approver { name: "root (bench)".into(), is_clinical: false }
}

/// Two addresses that nobody listens at.
fn free() -> Result<[String; 2]> {
    let (one, other) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
    Ok([one.local_addr()?.to_string(), other.local_addr()?.to_string()])
}

fn host(number: usize) -> String {
    format!("bench-{number}")
}

/// An office machine of a ward, of no kind.
fn draft(number: usize) -> AssignmentDraft {
    AssignmentDraft {
        tier: Some(ClinicalTier::None),
        group: Some(format!("ward {}", number / WARD)),
        ..AssignmentDraft::default()
    }
}

fn secs(since: Instant) -> f64 {
    since.elapsed().as_secs_f64()
}
