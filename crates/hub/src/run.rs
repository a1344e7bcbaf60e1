//! Starting and stopping the hub: what runs, in which order, and what ends it.
//!
//! The one idea: everything that the hub must know is on disk, so a failure that it can't answer for (a
//! full disk, a torn ledger) ends it, loudly, and whoever supervises it starts it again.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cordon_model::ids::{MachineId, OdsCode};
use cordon_model::policy::Policy;
use cordon_model::record::{Actor, Deed, Record};
use cordon_model::signed::Verified;
use cordon_model::time::UtcNanos;
use cordon_respond::hub_core::{HubCore, Output};
use cordon_store::{Organisation, SqliteState, State, StoreError};
use tokio::net::TcpListener;
use tokio::sync::{Notify, broadcast, mpsc, watch};
use tokio::task::JoinHandle;

use crate::authority::{Authority, AuthorityError};
use crate::board::Board;
use crate::clock::Clock;
use crate::committer::Committer;
use crate::handle::Hub;
use crate::keep::{self, Draft, SetAside};
use crate::ledger::{LedgerDesk, LedgerFailure};
use crate::links::Links;
use crate::looking::Looks;
use crate::names::{Names, looking_at_names};
use crate::quota::{Bucket, CODES_AT_ONCE, RECORDED_REFUSALS};
use crate::signer::{Client, ClientError};
use crate::signing::{Connections, Kept, NOTES, ORDER_CONNECTIONS, Signers, Telling};
use crate::view::News;
use crate::work::{BATCHES, INPUTS, Input, Waiters, Work};
use crate::{control, enrol, link_server};

/// News that a slow listener may be behind: 1,024; then it is told that it missed some, and looks at all.
const NEWS: usize = 1_024;

/// How long the hub waits for its signer at the start: they are started together.
const SIGNER_WITHIN: Duration = Duration::from_secs(30);

/// How long listeners and housekeeping may take to stop by themselves.
const STOP_WITHIN: Duration = Duration::from_secs(3);

/// How often permits are renewed, and other housekeeping is done.
const HOUSEKEEPING: Duration = Duration::from_secs(60);

/// Between two renewals of permits that something gave rise to. One looks at all machines: ten thousand that
/// are enrolled or assigned in a minute have it looked sixty times, and not ten thousand times.
const BETWEEN_RENEWALS: Duration = Duration::from_secs(1);

/// How often it is looked whether the next working machine of a kind is another now.
const GUIDING: Duration = Duration::from_secs(10);

/// What a hub needs to know.
#[derive(Debug, Clone)]
pub struct HubConfig {
    /// Its state, authority and ledger: its own, mode 700.
    pub directory: PathBuf,
    /// Whose hub it is.
    pub organisation: OdsCode,
    /// What people call the organisation.
    pub name: String,
    /// Where machines connect; port 0 takes a free one.
    pub link: SocketAddr,
    /// Where machines enrol; port 0 takes a free one.
    pub enrol: SocketAddr,
    /// The addresses of `link` as machines see them; empty: as bound.
    pub link_seen_as: Vec<SocketAddr>,
    /// The addresses of `enrol` as machines see them; empty: as bound.
    pub enrol_seen_as: Vec<SocketAddr>,
    /// Where the signer listens.
    pub signer: PathBuf,
    /// Where the command line speaks to the hub; `None`: nowhere.
    pub control: Option<PathBuf>,
}

/// Why the hub does not run, or runs no more.
#[derive(Debug, thiserror::Error)]
pub enum HubFailure {
    /// A directory or socket.
    #[error("the hub can't {what} {at}")]
    System {
        /// What was tried.
        what: &'static str,
        /// With what.
        at: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The certificate authority.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerFailure),
    /// The ledger's files.
    #[error(transparent)]
    LedgerFiles(#[from] cordon_evidence::LedgerError),
    /// The ledger's thread ended.
    #[error("the ledger's thread ended: the hub can't account for what it does")]
    LedgerEnded,
    /// The signer was not there.
    #[error("the signer at {path} did not answer within {} s: is it running?", SIGNER_WITHIN.as_secs())]
    NoSigner {
        /// Its socket.
        path: PathBuf,
        /// What was seen last.
        #[source]
        source: ClientError,
    },
    /// The signer is another's.
    #[error("the signer at {path} is of {signer}, and this hub of {hub}")]
    ForeignSigner {
        /// Its socket.
        path: PathBuf,
        /// Its organisation.
        signer: OdsCode,
        /// The hub's.
        hub: OdsCode,
    },
    /// The signer has another key than before.
    #[error(
        "the signer has another command key than the one that the machines of this hub obey: restore the \
         signer's directory from its backup, or enrol every machine again with a new hub directory"
    )]
    OtherKey,
    /// A task panicked.
    #[error("a part of the hub ended: {0}")]
    Ended(String),
}

/// What all tasks share.
pub(crate) struct Shared {
    pub organisation: Organisation,
    pub store: Arc<dyn State>,
    pub board: Arc<Board>,
    pub links: Arc<Links>,
    pub authority: Authority,
    pub ledger: LedgerDesk,
    pub documents: Arc<Client>,
    /// For break-glass codes: making them takes long, and nothing else waits behind it.
    pub codes: Client,
    pub waiters: Arc<Waiters>,
    pub looks: Looks,
    pub names: Names,
    /// Something changed by which permits may be due.
    pub permits_wanted: Notify,
    /// Machines that get their break-glass codes right at their enrolment.
    pub codes_at_once: Mutex<Bucket>,
    pub news: broadcast::Sender<News>,
    pub work: mpsc::Sender<Input>,
    pub stop: watch::Receiver<bool>,
    pub drafts: Mutex<HashMap<MachineId, Draft>>,
    /// How often somebody said something for the people in front of machines, since the start.
    pub bedside_said: AtomicU64,
    pub refused_sign_ins: Mutex<Bucket>,
    pub link_addresses: Vec<SocketAddr>,
    pub enrol_addresses: Vec<SocketAddr>,
}

impl Shared {
    /// Tells the main task. One that is gone has ended the hub already.
    pub async fn tell(&self, input: Input) {
        let _ = self.work.send(input).await;
    }

    pub fn draft_of(&self, machine: MachineId) -> Option<Draft> {
        self.drafts.lock().unwrap_or_else(PoisonError::into_inner).get(&machine).cloned()
    }

    /// A record of now.
    pub fn record(&self, actor: Actor, deed: Deed, detail: impl Into<String>) -> Record {
        Record {
            at: UtcNanos::now(),
            organisation: self.organisation.code.clone(),
            actor,
            deed,
            machine: None,
            incident: None,
            detail: detail.into(),
        }
    }
}

/// Waits for the stop.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Nobody left to say so is as good as a stop.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// A running hub.
pub struct Running {
    /// The handle that console, API and command line use.
    pub hub: Hub,
    /// Where machines connect.
    pub link: SocketAddr,
    /// Where machines enrol.
    pub enrol: SocketAddr,
    stop: watch::Sender<bool>,
    ended: JoinHandle<Result<(), HubFailure>>,
}

impl Running {
    /// Stops: links are closed, what is under way is written down.
    ///
    /// # Errors
    /// What ended the hub, if it had failed before.
    pub async fn stop(self) -> Result<(), HubFailure> {
        let _ = self.stop.send(true);
        self.ended().await
    }

    /// Runs until `shutdown`, or until the hub ends by itself, which is a failure.
    ///
    /// # Errors
    /// What ended it.
    pub async fn until(self, shutdown: impl Future<Output = ()>) -> Result<(), HubFailure> {
        let Self { stop, mut ended, hub, .. } = self;
        drop(hub);
        let joined = tokio::select! {
            () = shutdown => {
                let _ = stop.send(true);
                ended.await
            }
            joined = &mut ended => joined,
        };
        joined.map_err(|error| HubFailure::Ended(error.to_string()))?
    }

    /// Waits until the hub ends by itself, which is a failure.
    ///
    /// # Errors
    /// What ended it.
    pub async fn ended(self) -> Result<(), HubFailure> {
        drop(self.hub);
        match self.ended.await {
            Ok(ended) => ended,
            Err(error) => Err(HubFailure::Ended(error.to_string())),
        }
    }
}

/// Runs a hub until `shutdown`.
///
/// # Errors
/// See [`HubFailure`].
pub async fn run(config: HubConfig, shutdown: impl Future<Output = ()>) -> Result<(), HubFailure> {
    start(config).await?.until(shutdown).await
}

/// Starts a hub; it runs until it is [stopped](Running::stop).
///
/// # Errors
/// See [`HubFailure`].
pub async fn start(config: HubConfig) -> Result<Running, HubFailure> {
    let system = |what: &'static str, at: String| {
        move |source: std::io::Error| HubFailure::System { what, at, source }
    };
    let clock = Clock::start().map_err(system("read", "which boot this is".into()))?;
    let store: Arc<dyn State> = Arc::new(SqliteState::open(&config.directory).await?);
    let organisation = Organisation {
        code: config.organisation.clone(),
        name: config.name.clone(),
        created_at: UtcNanos::now(),
    };
    store.put_organisation(&organisation).await?;
    let authority = Authority::open(&config.directory.join("authority"), &config.organisation)?;
    let signer = find_signer(&config).await?;
    pin_command_key(store.as_ref(), &config.organisation, &signer).await?;
    let policy = policy_in_force(store.as_ref(), &config.organisation, &signer).await?;

    let kept =
        keep::restore(store.as_ref(), &config.organisation, &signer, UtcNanos::now()).await?;
    let is_off = kept.cards.iter().filter(|(_, card)| card.is_struck_off);
    let struck_off: Vec<MachineId> = is_off.map(|(machine, _)| *machine).collect();
    let board = Arc::new(Board::new((*policy).clone(), kept.cards));
    kept.rows.iter().for_each(|row| board.standing().take(row));
    let next_record = kept.next_record;
    let (ledger, appended, drained) = LedgerDesk::open(
        config.directory.join("ledger"),
        &signer.keys().hub_origin,
        kept.outbox,
        board.clone(),
    )?;
    let link = bind(config.link).await?;
    let enrol = bind(config.enrol).await?;
    let (link_at, enrol_at) = (bound(&link)?, bound(&enrol)?);
    let seen_as = |given: &[SocketAddr], bound| {
        if given.is_empty() { vec![bound] } else { given.to_vec() }
    };

    let (stop, stopped) = watch::channel(false);
    let (work, inputs) = mpsc::channel(INPUTS);
    let (committer, batches) = mpsc::channel(BATCHES);
    let (news, _) = broadcast::channel(NEWS);
    let mut orders = Vec::with_capacity(ORDER_CONNECTIONS);
    for _ in 0..ORDER_CONNECTIONS {
        orders.push(Arc::new(connect(&config).await?));
    }
    let notes = Arc::new(connect(&config).await?);
    let codes = connect(&config).await?;
    let (link_config, enrol_config) = (authority.link_config()?, authority.enrol_config()?);
    let control = match &config.control {
        Some(path) => Some(
            control::listen(path)
                .map_err(system("listen for the command line at", path.display().to_string()))?,
        ),
        None => None,
    };
    // Only by a hub that starts, and nothing after this keeps it from that: the next would know nothing of what was put
    // right. Nothing that acts has begun.
    store.commit(&config.organisation, &kept.prune).await?;
    let set_aside = say_set_aside(&kept.set_aside, &config.organisation);
    board.set_set_aside(set_aside.as_ref().map(|record| record.detail.clone()));
    let (mut core, mut at_start) = HubCore::restore(&policy, kept.rows);
    at_start.extend(set_aside.map(Output::Record));
    for machine in struck_off {
        at_start.extend(core.struck_off(machine));
    }

    let (signers, telling) = Signers::start(
        Connections { orders, notes },
        Kept { store: store.clone(), organisation: config.organisation.clone() },
        NOTES,
        work.downgrade(),
        board.clone(),
        stopped.clone(),
    );
    let shared = Arc::new(Shared {
        organisation,
        store: store.clone(),
        board: board.clone(),
        links: Arc::new(Links::default()),
        authority,
        ledger: ledger.clone(),
        documents: signer.clone(),
        codes,
        waiters: Arc::default(),
        looks: Looks::default(),
        names: Names::default(),
        permits_wanted: Notify::new(),
        codes_at_once: Mutex::new(Bucket::full(CODES_AT_ONCE, Instant::now())),
        news: news.clone(),
        work,
        stop: stopped.clone(),
        drafts: Mutex::new(kept.drafts),
        bedside_said: AtomicU64::new(0),
        refused_sign_ins: Mutex::new(Bucket::full(RECORDED_REFUSALS, Instant::now())),
        link_addresses: seen_as(&config.link_seen_as, link_at),
        enrol_addresses: seen_as(&config.enrol_seen_as, enrol_at),
    });
    let working = tokio::spawn(
        Work {
            core,
            clock,
            board: board.clone(),
            links: shared.links.clone(),
            signers: signers.clone(),
            waiters: shared.waiters.clone(),
            committer,
            next_record,
            saved_up_to: None,
            ticks_of_seen: 0,
            stop: stopped.clone(),
        }
        .run(inputs, at_start),
    );
    let keeping = tokio::spawn(
        Committer {
            organisation: config.organisation.clone(),
            store: store.clone(),
            ledger: ledger.clone(),
            links: shared.links.clone(),
            signers,
            news,
            drained,
        }
        .run(batches, appended),
    );
    let mut serving = tokio::task::JoinSet::new();
    serving.spawn(link_server::serve(link, link_config, shared.clone()));
    serving.spawn(enrol::serve(enrol, enrol_config, shared.clone()));
    serving.spawn(housekeeping(shared.clone()));
    serving.spawn(guiding(shared.clone()));
    serving.spawn(looking_at_names(shared.clone()));
    serving.spawn(permitting(shared.clone()));
    let cosigning = ledger.cosign_for_ever(signer, board);
    let mut until = stopped.clone();
    serving.spawn(async move {
        tokio::select! {
            () = cosigning => {}
            () = crate::run::stopped(&mut until) => {}
        }
    });
    let hub = Hub::new(shared.clone());
    if let Some(listener) = control {
        serving.spawn(control::serve(listener, hub.clone(), stopped.clone()));
    }
    let started = shared.record(Actor::Hub, Deed::Started, env!("CARGO_PKG_VERSION"));
    shared.tell(Input::Deed(Box::new(move |step| step.record(started)))).await;
    drop(shared);
    let ended =
        tokio::spawn(supervise(serving, (working, keeping, telling), stopped, stop.clone(), store));
    Ok(Running { hub, link: link_at, enrol: enrol_at, stop, ended })
}

type Working = JoinHandle<Result<(), StoreError>>;
type Keeping = JoinHandle<Result<(), HubFailure>>;

/// Waits for the stop, or for the first part that fails; then everything ends in the order in which it
/// feeds each other: listeners, main task, committer, what is told to the signer, store.
async fn supervise(
    mut serving: tokio::task::JoinSet<()>,
    (mut working, mut keeping, telling): (Working, Keeping, Telling),
    mut stopped: watch::Receiver<bool>,
    stop: watch::Sender<bool>,
    store: Arc<dyn State>,
) -> Result<(), HubFailure> {
    let panicked = |error: tokio::task::JoinError| HubFailure::Ended(error.to_string());
    let (mut worked, mut kept) = (None, None);
    tokio::select! {
        () = crate::run::stopped(&mut stopped) => {}
        done = &mut working => worked = Some(done),
        done = &mut keeping => kept = Some(done),
    }
    let was_asked = stop.send_replace(true);
    let all = async { while serving.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_WITHIN, all).await.is_err() {
        // It waits for a signer that hangs: nothing of it is lost, for it is asked again.
        serving.shutdown().await;
    }
    let worked = match worked {
        Some(done) => done,
        None => working.await,
    };
    let kept = match kept {
        Some(done) => done,
        None => keeping.await,
    };
    // What the committer has queued last, too.
    telling.end().await;
    store.close().await;
    worked.map_err(panicked)??;
    kept.map_err(panicked)??;
    if was_asked {
        Ok(())
    } else {
        Err(HubFailure::Ended("its main task ended without being asked".into()))
    }
}

/// Rows that are named one by one, of those that can't be read.
const NAMED_ROWS: usize = 5;

/// Says which rows of the hub can't be read: each in the log, all in one record. Only for those that are not mended
/// somebody has to do something: a hub that is put back loses what it has kept since.
fn say_set_aside(rows: &[SetAside], organisation: &OdsCode) -> Option<Record> {
    let (mended, lost): (Vec<&SetAside>, Vec<&SetAside>) =
        rows.iter().partition(|row| row.mended.is_some());
    for SetAside { what, id, why, .. } in &lost {
        tracing::error!(what, id, why, "a row can't be read; it is left where it is");
    }
    for SetAside { what, id, why, mended } in &mended {
        tracing::warn!(what, id, why, mended, "a row could not be read");
    }
    let lost = (!lost.is_empty()).then(|| {
        format!(
            "{} of the rows that the hub keeps can't be read, and are left where they are in its state.db: {}. \
             What they are about is not minded by this hub: put the hub's directory back from a backup, or look at \
             those machines and incidents by hand",
            lost.len(),
            first_of(&lost),
        )
    });
    let mended = (!mended.is_empty()).then(|| {
        format!(
            "{} of the rows that the hub keeps could not be read, and nothing is to be done about that: {}",
            mended.len(),
            first_of(&mended),
        )
    });
    let said: Vec<String> = lost.into_iter().chain(mended).collect();
    (!said.is_empty()).then(|| Record {
        at: UtcNanos::now(),
        organisation: organisation.clone(),
        actor: Actor::Hub,
        deed: Deed::Gap,
        machine: None,
        incident: None,
        detail: said.join(". "),
    })
}

/// The first of them, and how many more there are.
fn first_of(rows: &[&SetAside]) -> String {
    let first: Vec<String> = rows.iter().take(NAMED_ROWS).map(ToString::to_string).collect();
    let more = match rows.len().saturating_sub(NAMED_ROWS) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    first.join("; ") + &more
}

async fn find_signer(config: &HubConfig) -> Result<Arc<Client>, HubFailure> {
    let until = tokio::time::Instant::now() + SIGNER_WITHIN;
    loop {
        match Client::connect(&config.signer).await {
            Ok(client) if client.keys().organisation == config.organisation => {
                return Ok(Arc::new(client));
            }
            Ok(client) => {
                return Err(HubFailure::ForeignSigner {
                    path: config.signer.clone(),
                    signer: client.keys().organisation.clone(),
                    hub: config.organisation.clone(),
                });
            }
            Err(source) if tokio::time::Instant::now() >= until => {
                return Err(HubFailure::NoSigner { path: config.signer.clone(), source });
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn connect(config: &HubConfig) -> Result<Client, HubFailure> {
    Client::connect(&config.signer)
        .await
        .map_err(|source| HubFailure::NoSigner { path: config.signer.clone(), source })
}

/// The machines of this hub obey one key for ever; a signer with another would be talking to nobody.
async fn pin_command_key(
    store: &dyn State,
    organisation: &OdsCode,
    signer: &Client,
) -> Result<(), HubFailure> {
    let name = "command-key".to_owned();
    let key = signer.command_key().to_bytes().to_vec();
    match store.setting(&cordon_store::Key::new(organisation, name.clone())).await? {
        Some(pinned) if pinned == key => Ok(()),
        Some(_) => Err(HubFailure::OtherKey),
        None => {
            let change = cordon_store::Change::Setting { name, value: Some(key) };
            Ok(store.commit(organisation, &[change]).await?)
        }
    }
}

/// The newest policy that the signer signed; it is kept here too.
async fn policy_in_force(
    store: &dyn State,
    organisation: &OdsCode,
    signer: &Client,
) -> Result<Verified<Policy>, HubFailure> {
    let policy = signer
        .policy()
        .await
        .map_err(|error| HubFailure::Ended(format!("the signer gives no policy: {error}")))?;
    let change = cordon_store::Change::Policy {
        revision: policy.revision,
        envelope: policy.envelope().clone(),
    };
    store.commit(organisation, &[change]).await?;
    Ok(policy)
}

async fn bind(at: SocketAddr) -> Result<TcpListener, HubFailure> {
    TcpListener::bind(at).await.map_err(|source| HubFailure::System {
        what: "listen at",
        at: at.to_string(),
        source,
    })
}

fn bound(listener: &TcpListener) -> Result<SocketAddr, HubFailure> {
    listener.local_addr().map_err(|source| HubFailure::System {
        what: "learn where it listens of",
        at: "a socket".into(),
        source,
    })
}

/// Keeps fresh what people in front of machines are told.
async fn guiding(shared: Arc<Shared>) {
    let mut every = tokio::time::interval(GUIDING);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut stop = shared.stop.clone();
    loop {
        tokio::select! {
            _ = every.tick() => shared.look_after_guidance().await,
            () = crate::run::stopped(&mut stop) => return,
        }
    }
}

/// Renews permits as soon as they are wanted, and again a moment later if more were wanted meanwhile. Until
/// then machines have fewer permits than they might, never more.
async fn permitting(shared: Arc<Shared>) {
    let mut stop = shared.stop.clone();
    loop {
        tokio::select! {
            () = shared.permits_wanted.notified() => {}
            () = crate::run::stopped(&mut stop) => return,
        }
        shared.renew_permits().await;
        tokio::select! {
            () = tokio::time::sleep(BETWEEN_RENEWALS) => {}
            () = crate::run::stopped(&mut stop) => return,
        }
    }
}

/// Renews permits and the hub's certificate, and forgets sessions that are over.
async fn housekeeping(shared: Arc<Shared>) {
    let mut every = tokio::time::interval(HOUSEKEEPING);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut stop = shared.stop.clone();
    loop {
        tokio::select! {
            _ = every.tick() => {}
            () = crate::run::stopped(&mut stop) => return,
        }
        shared.renew_permits().await;
        shared.look_after_codes().await;
        let now = UtcNanos::now();
        if let Err(error) = shared.authority.renew_hub_certificate(now) {
            tracing::error!(%error, "the hub's certificate is not renewed");
        }
        if let Err(error) = shared.store.forget_expired(&shared.organisation.code, now).await {
            tracing::warn!(%error, "sessions that are over are not forgotten");
        }
    }
}
