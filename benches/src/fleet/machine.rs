//! A simulated machine: the real agent's keys, enrolment and TLS, and a conversation that obeys at once.
//!
//! What it leaves out is the machine itself: no kernel is changed, and a receipt says what a real helper's would.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use cordon_agent::identity::Identity;
use cordon_link::frame;
use cordon_link::token::EnrolToken;
use cordon_model::action::{Action, ActionKind};
use cordon_model::asset::Assignment;
use cordon_model::event::RawEvent;
use cordon_model::finding::{Finding, Level, RuleRef};
use cordon_model::holds::{Holding, Holds};
use cordon_model::ids::{FindingId, MachineId, OrderId};
use cordon_model::limits::MESSAGE_BYTES;
use cordon_model::measure::{Isolation, MeasureState, Origin, Proof, Receipt};
use cordon_model::order::{Instruction, Order};
use cordon_model::policy::Policy;
use cordon_model::signed::seal;
use cordon_model::time::{BootId, BootNanos, UtcNanos};
use cordon_model::wire::{FromAgent, FromHub, Hello, Numbered, Report, Status, VERSION};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncRead;
use tokio::sync::{Semaphore, mpsc, watch};

/// As the real agent.
const STATUS_EVERY: Duration = Duration::from_secs(2);
/// First and longest pause between two tries, as the real agent's.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// What all machines share.
pub struct Fleet {
    pub linked: AtomicU64,
    pub lost: AtomicU64,
    /// The revision of the policy that is waited for, and how many machines have it.
    pub policy: AtomicU64,
    pub has_policy: AtomicU64,
    pub assignments: AtomicU64,
    pub codes: AtomicU64,
    /// Findings that the hub has on its disk.
    pub findings: AtomicU64,
    /// Becomes true when every machine is to find something.
    pub attack: watch::Receiver<bool>,
    pub told: mpsc::UnboundedSender<Told>,
    /// Connections under way at one time, when the fleet is first linked.
    pub doors: Semaphore,
    /// Whether a machine that loses its link comes back by itself, as a real one does, through no door.
    pub comes_back: AtomicBool,
    /// Links that ended while machines come back, and tries that came to nothing.
    pub dropped: AtomicU64,
    pub tries: AtomicU64,
}

/// What a machine tells of an order.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    pub order: OrderId,
    pub is_confirmed: bool,
    pub at: Instant,
}

/// Enrols as a real agent does. Its files are in memory, so that it is the hub's disk alone that is measured.
pub async fn enrol(folder: PathBuf, token: &str, host: &str) -> Result<Identity> {
    let token: EnrolToken = token.parse()?;
    std::fs::create_dir_all(&folder)?;
    Ok(Identity::enrol(&folder, &token, host).await?)
}

/// Is linked until the hub hangs up, and again while machines come back.
pub async fn live(identity: Arc<Identity>, host: String, fleet: Arc<Fleet>) {
    let (mut pause, mut is_first) = (PAUSES.0, true);
    loop {
        let (began, mut was_linked) = (Instant::now(), false);
        let ended = converse(&identity, &host, &fleet, is_first, &mut was_linked).await;
        if was_linked {
            fleet.linked.fetch_sub(1, Ordering::Relaxed);
        }
        if !fleet.comes_back.load(Ordering::Relaxed) {
            // The first says enough.
            if let Err(error) = ended
                && fleet.lost.fetch_add(1, Ordering::Relaxed) == 0
            {
                println!("  a machine lost its link: {error:#}");
            }
            return;
        }
        let counter = if was_linked { &fleet.dropped } else { &fleet.tries };
        counter.fetch_add(1, Ordering::Relaxed);
        if began.elapsed() > PAUSES.1 {
            pause = PAUSES.0;
        }
        // Half to all of it; the id is as good as a die.
        let share = f64::from(identity.machine().as_bytes()[14]) / 512.0;
        tokio::time::sleep(pause.mul_f64(0.5 + share)).await;
        pause = (pause * 2).min(PAUSES.1);
        is_first = false;
    }
}

async fn converse(
    identity: &Identity,
    host: &str,
    fleet: &Arc<Fleet>,
    is_first: bool,
    was_linked: &mut bool,
) -> Result<()> {
    let door = if is_first { Some(fleet.doors.acquire().await?) } else { None };
    let stream = identity.connect().await?;
    let (mut from, mut to) = tokio::io::split(stream);
    let hello = Hello {
        version: VERSION,
        build: "bench".into(),
        host: host.to_owned(),
        boot: BootId("boot".into()),
        last_order: 0,
        assignment: 0,
        policy: 0,
        coverage: vec![],
    };
    frame::write(&mut to, &FromAgent::Hello(hello), MESSAGE_BYTES).await?;
    match frame::read(&mut from, MESSAGE_BYTES).await? {
        Some(FromHub::Welcome { .. }) => {}
        other => bail!("no welcome: {other:?}"),
    }
    drop(door);
    fleet.linked.fetch_add(1, Ordering::Relaxed);
    *was_linked = true;
    let (say, mut said) = mpsc::channel(64);
    let machine = Machine {
        identity,
        host,
        fleet,
        say,
        state: Held { began: Instant::now(), next: 1, holds: None, codes: 0, waiting: Vec::new() },
    };
    let writing = async {
        while let Some(message) = said.recv().await {
            frame::write(&mut to, &message, MESSAGE_BYTES).await?;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        ended = machine.hear(&mut from) => ended,
        ended = writing => ended,
    }
}

struct Machine<'a> {
    identity: &'a Identity,
    host: &'a str,
    fleet: &'a Fleet,
    say: mpsc::Sender<FromAgent>,
    state: Held,
}

struct Held {
    began: Instant,
    next: u64,
    holds: Option<Holding>,
    codes: u64,
    /// Reports that the hub has not acknowledged yet, and the order that each confirms.
    waiting: Vec<(u64, Option<OrderId>)>,
}

impl Machine<'_> {
    async fn hear(mut self, from: &mut (impl AsyncRead + Send + Unpin)) -> Result<()> {
        let mut attack = self.fleet.attack.clone();
        // Not all at once, as real ones do not.
        let jitter = STATUS_EVERY.mul_f64(f64::from(self.id().as_bytes()[15]) / 256.0);
        let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + jitter, STATUS_EVERY);
        let (heard_to, mut heard) = mpsc::channel(64);
        // A frame that came half must not be lost because it is time for a status.
        let reading = async {
            loop {
                let message = frame::read::<FromHub, _>(from, MESSAGE_BYTES).await?;
                let Some(message) = message else { bail!("the hub hung up") };
                heard_to.send(message).await?;
            }
        };
        let working = async {
            let mut is_attacked = false;
            loop {
                tokio::select! {
                    message = heard.recv() => match message {
                        Some(message) => self.take(message).await?,
                        None => return anyhow::Ok(()),
                    },
                    _ = tick.tick() => self.say.send(FromAgent::Status(self.status())).await?,
                    changed = attack.changed(), if !is_attacked => {
                        changed?;
                        is_attacked = true;
                        let finding = Report::Finding(Box::new(finding(self.host)));
                        self.report(vec![(finding, None)]).await?;
                    }
                }
            }
        };
        tokio::select! {
            ended = reading => ended,
            ended = working => ended,
        }
    }

    fn id(&self) -> MachineId {
        self.identity.machine()
    }

    async fn take(&mut self, message: FromHub) -> Result<()> {
        let key = self.identity.command_key();
        match message {
            FromHub::Acknowledged(up_to) => {
                let at = Instant::now();
                for (_, order) in self.state.waiting.extract_if(.., |(number, _)| *number <= up_to)
                {
                    match order {
                        Some(order) => {
                            self.fleet.told.send(Told { order, is_confirmed: true, at })?;
                        }
                        None => drop(self.fleet.findings.fetch_add(1, Ordering::Relaxed)),
                    }
                }
            }
            FromHub::Order(envelope) => {
                let order = envelope.open::<Order>(key).context("an order that is not genuine")?;
                let at = Instant::now();
                self.fleet.told.send(Told { order: order.id, is_confirmed: false, at })?;
                self.obey(&order).await?;
            }
            FromHub::Assignment(envelope) => {
                envelope.open::<Assignment>(key)?;
                self.fleet.assignments.fetch_add(1, Ordering::Relaxed);
            }
            FromHub::Policy(envelope) => {
                let policy = envelope.open::<Policy>(key)?;
                if policy.revision == self.fleet.policy.load(Ordering::Relaxed) {
                    self.fleet.has_policy.fetch_add(1, Ordering::Relaxed);
                }
            }
            FromHub::BreakGlass(envelope) => {
                let codes = envelope.open::<cordon_model::break_glass::BreakGlass>(key)?;
                self.state.codes = codes.revision;
                self.fleet.codes.fetch_add(1, Ordering::Relaxed);
            }
            FromHub::Goodbye { why } => bail!("the hub says goodbye: {why}"),
            _ => {}
        }
        Ok(())
    }

    /// On its disk, in force, and shown: what a real agent sends, as fast as it could be.
    async fn obey(&mut self, order: &Order) -> Result<()> {
        self.say.send(FromAgent::OrderTaken(order.id)).await?;
        let boot = BootNanos(self.nanos());
        let (states, isolation) = match &order.instruction {
            Instruction::Begin { action: Action::Isolate(isolation), lease, .. } => {
                self.state.holds = Some(Holding {
                    measure: order.id.into(),
                    kind: ActionKind::Isolate,
                    isolation: Some(*isolation),
                    lease_ends: BootNanos(boot.0 + u64::from(lease.seconds) * 1_000_000_000),
                });
                (&[MeasureState::Applied, MeasureState::Verified][..], *isolation)
            }
            Instruction::Release => {
                let held = self.state.holds.take().and_then(|held| held.isolation);
                (&[MeasureState::Released][..], held.unwrap_or(Isolation::Segment))
            }
            other => bail!("this bench orders no such thing: {other}"),
        };
        let mut reports = Vec::new();
        for state in states {
            let receipt = Receipt {
                machine: self.id(),
                measure: order.id.into(),
                origin: Origin::Order(order.id),
                action: Action::Isolate(isolation),
                state: state.clone(),
                proof: Some(Proof {
                    table_handle: state.is_acting().then_some(7),
                    is_read_back: true,
                    probes: vec![],
                    unproven: vec!["a simulated machine".into()],
                    at: boot,
                }),
                lease_ends: self.state.holds.as_ref().map(|held| held.lease_ends),
                boot: BootId("boot".into()),
                at_boot: boot,
                at: UtcNanos::now(),
                sockets_cut: 0,
                done: Vec::new(),
                spared: Vec::new(),
            };
            reports.push(Report::Receipt(seal(&receipt, self.identity.receipt_key())?));
        }
        let last = reports.len() - 1;
        let named = reports.into_iter().enumerate();
        let named = named.map(|(at, report)| (report, (at == last).then_some(order.id)));
        self.report(named.collect()).await
    }

    async fn report(&mut self, reports: Vec<(Report, Option<OrderId>)>) -> Result<()> {
        let mut numbered = Vec::new();
        for (report, order) in reports {
            let number = self.state.next;
            self.state.next += 1;
            if order.is_some() || matches!(report, Report::Finding(_)) {
                self.state.waiting.push((number, order));
            }
            numbered.push(Numbered { number, report });
        }
        Ok(self.say.send(FromAgent::Reports(numbered)).await?)
    }

    fn nanos(&self) -> u64 {
        u64::try_from(self.state.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn status(&self) -> Status {
        Status {
            at_boot: BootNanos(self.nanos()),
            holds: Holds::Measures(self.state.holds.iter().cloned().collect()),
            rules: 200,
            events: 0,
            lost: 0,
            break_glass: self.state.codes,
            guidance: 0,
        }
    }
}

fn finding(host: &str) -> Finding {
    let raw = r#"{"Image":"/tmp/worm"}"#.to_owned();
    let raw_sha256: [u8; 32] = Sha256::digest(raw.as_bytes()).into();
    Finding {
        id: FindingId::of("bench", host, &raw_sha256),
        rule: RuleRef {
            id: "bench".into(),
            title: "A worm spreads".into(),
            level: Level::Critical,
            tags: vec!["attack.lateral-movement".into()],
        },
        host: host.to_owned(),
        time: UtcNanos::now(),
        boot_time: None,
        process: None,
        matched: vec![],
        raw: RawEvent { json: raw, is_cut: false },
        raw_sha256,
    }
}
