//! The agent at work: one task that owns the agent's mind, and passes on what comes in.
//!
//! ```text
//!  sensor thread ── findings ──►┐            ┌──► spool ──► link ──► hub
//!  link ── orders, documents ──►│  this task │
//!  helper ── receipts, events ─►┘            └──► helper (orders, permits)
//! ```
//!
//! The one idea: nothing is decided here. [`AgentCore`] decides whether the machine defends itself, the
//! helper whether it obeys; this task writes down first and passes on after.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cordon_link::token::EnrolToken;
use cordon_model::finding::Finding;
use cordon_model::ids::OrderId;
use cordon_model::order::Permit;
use cordon_model::time::{BootNanos, UtcNanos};
use cordon_model::wire::{Coverage, FromAgent, Report};
use cordon_respond::agent_core::{Act, AgentCore};
use cordon_respond::clock::Moment;
use nix::sys::signal::{SIGHUP, SigSet};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::time::MissedTickBehavior;

use crate::contain::moment::Clocks;
use crate::contain::protocol::{Answer, Ask};
use crate::contain::survey::limits::ASKED;
use crate::documents::Documents;
use crate::gaps::{Gaps, TELL_EVERY, Why};
use crate::helper_link::{Helper, HelperGone, Told};
use crate::helper_word::Asking;
use crate::identity::{Identity, IdentityError};
use crate::in_force::{InForce, RulesFrom};
use crate::journal::Journal;
use crate::lately::Lately;
use crate::link::{self, FromLink, LinkSide, SharedSpool};
use crate::local::{LocalDetection, Noticed};
use crate::reload::{Handover, renew_at_each};
use crate::sensor::{Place, Sensor, SensorEvent};
use crate::spool::{Spool, SpoolError};

mod handed_down;
mod view;
mod with_helper;
mod with_hub;

use view::{View, hello_from, status_from};

/// Findings that may wait between the sensor's thread and this task. One rule tells a program's matches
/// ten times a minute at most, so this holds what a hundred rules say at once.
const NOTICED: usize = 1_024;
/// Looks for people under way at once; more are not answered, and asked again by whoever waits.
const LOOKS: usize = 2;
/// How often the core looks whether the hub has been silent for too long; it asks for 50 ms at least.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// How often the helper is asked how things are, whatever else happens: as often as the hub is told.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// How often the way to the hub is looked at: a machine that moves to a tunnel has moved for longer.
const LOOK_AT_WAY_EVERY: Duration = Duration::from_secs(10);
/// The pause between two attempts to enrol.
const ENROL_AGAIN: Duration = Duration::from_secs(5);

/// What an agent needs.
pub struct AgentConfig {
    /// The agent's own directory: identity, spool, journal, documents.
    pub directory: PathBuf,
    /// The helper's socket; `None` where nothing can be contained, with the reason.
    pub helper: Result<PathBuf, String>,
    /// The machine's name for itself.
    pub host: String,
    /// Where the hub's link is, if not where it was when the machine enrolled.
    pub hub_at: Option<SocketAddr>,
    /// To enrol with, if it never was.
    pub token: Option<EnrolToken>,
    /// Where the rules come from; those of a folder are read again on SIGHUP.
    pub rules: RulesFrom,
}

/// Why an agent can't run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Who it is.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// It was never enrolled, and was given no token.
    #[error("this machine is not enrolled: give it a token (on the hub: cordon enrol-token)")]
    NotEnrolled,
    /// It has no rules, and never had any.
    #[error("{0}")]
    NoRules(String),
    /// Its reports.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// Its other files.
    #[error("{what}: {source}")]
    Files {
        /// Which.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// It would go on blind, or without a hub, and not say so.
    #[error("{0} has ended by itself, which it never should: the agent has to be started again")]
    PartEnded(&'static str),
    /// The helper belongs to another organisation or machine.
    #[error("the privileged helper refuses this identity: {0}")]
    PinnedElsewhere(String),
}

/// Runs the agent until `stop` says so. `sensor` was opened with the privileges that it needs; this needs
/// none.
///
/// # Errors
/// If the agent can't begin. Once it runs, it goes on.
pub async fn run(
    config: AgentConfig,
    sensor: Sensor,
    mut stop: watch::Receiver<bool>,
) -> Result<(), AgentError> {
    let files = |what| move |source| AgentError::Files { what, source };
    let hangups = hangups().map_err(files("listening for SIGHUP"))?;
    let clocks = Clocks::of_this_boot().map_err(files("reading the boot id"))?;
    let mut coverage: Vec<Coverage> = sensor
        .coverage()
        .iter()
        .map(|one| Coverage {
            what: one.what.to_owned(),
            by: one.seen_by.map(str::to_owned),
            gap: one.gap.clone(),
        })
        .collect();
    coverage.push(match &config.helper {
        Ok(_) => Coverage {
            what: "isolation".into(),
            by: Some("nftables".into()),
            gap: Place::of_this_process().isolation_gap(),
        },
        Err(why) => Coverage { what: "isolation".into(), by: None, gap: Some(why.clone()) },
    });

    let Some(identity) = identify(&config, &mut stop).await? else { return Ok(()) };
    let identity = match config.hub_at {
        Some(address) => identity.linked_at(address),
        None => identity,
    };
    let identity = Arc::new(identity);
    let (spool, torn) = Spool::open(&config.directory)?;
    let spool: SharedSpool = Arc::new(Mutex::new(spool));
    let view = Arc::new(Mutex::new(View::default()));
    let (in_force, rules) =
        InForce::begin(&config.rules, &config.directory).map_err(AgentError::NoRules)?;
    in_force.put_into(&mut coverage);
    let wrong_rules = in_force.gap();
    let (coverage, covered) = watch::channel(coverage);
    let added = Arc::new(Notify::new());

    // The sensor's thread detects; what it notices comes here.
    let mut detection = LocalDetection::with(rules, config.host.clone());
    locked(&view).status.rules = u32::try_from(detection.rule_count()).unwrap_or(u32::MAX);
    let (notice, noticed) = mpsc::channel(NOTICED);
    let counted = Arc::clone(&view);
    let mut unheard = 0;
    let lately = Arc::new(Mutex::new(Lately::default()));
    let used = Arc::clone(&lately);
    let handover = Handover::default();
    // Not a sender that keeps the channel open: its end is how the sensor's end is noticed.
    let say = notice.downgrade();
    let read = match &config.rules {
        RulesFrom::Program(_) => None,
        RulesFrom::Folder(read) => Some(Arc::clone(read)),
    };
    let renewing = renew_at_each(hangups, read, in_force, handover.clone(), coverage.clone(), say);
    let renewing = tokio::spawn(renewing);
    let given = handover.clone();
    let sensing = sensor
        .start(move |event: SensorEvent, _| {
            if let Some(rules) = given.take() {
                let carried = detection.take(rules, |one| {
                    let count = one.count();
                    unheard += if notice.try_send(one).is_err() { count } else { 0 };
                });
                let rules = detection.rule_count();
                tracing::info!(
                    rules,
                    going_on = carried.going_on,
                    anew = carried.anew,
                    "new rules"
                );
                locked(&counted).status.rules = u32::try_from(rules).unwrap_or(u32::MAX);
            }
            if let SensorEvent::Connection(connection) = &event {
                locked(&used).note(connection);
            }
            let (seen, mut lost) = match &event {
                SensorEvent::Loss(loss) => (0, loss.count),
                _ => (1, 0),
            };
            detection.notice(&event, |one| {
                let (count, is_counted) = (one.count(), matches!(one, Noticed::Lost(_)));
                if notice.try_send(one).is_err() {
                    unheard += count;
                    lost += if is_counted { 0 } else { count };
                }
            });
            if unheard > 0 && notice.try_send(Noticed::Unheard(unheard)).is_ok() {
                unheard = 0;
            }
            let status = &mut locked(&counted).status;
            status.events += seen;
            status.lost += lost;
        })
        .map_err(files("starting the sensor's thread"))?;

    let (tell, from_link) = mpsc::channel(64);
    let (say, said) = mpsc::channel(64);
    let linking = tokio::spawn(link::run(
        Arc::clone(&identity),
        LinkSide {
            hello: hello_from(&view, &coverage, &config.host, &clocks, config.helper.is_ok()),
            coverage: covered,
            status: status_from(&view, &clocks),
            spool: Arc::clone(&spool),
            added: Arc::clone(&added),
            tell,
            say: said,
        },
    ));

    let mut agent = Agent {
        core: AgentCore::new(identity.organisation().clone(), identity.machine()),
        documents: Documents::open(&config.directory).map_err(files("opening the documents"))?,
        journal: Journal::open(&config.directory).map_err(files("opening the journal"))?,
        helper: None,
        identity,
        spool,
        added,
        say,
        view,
        coverage,
        clocks,
        trusted: None,
        lately,
        looks: Arc::new(Semaphore::new(LOOKS)),
        surveys: Arc::new(Semaphore::new(ASKED)),
        host: config.host.clone(),
        gaps: Gaps::default(),
        wrong_codes: 0,
        unwatched: 0,
        not_yet: None,
        turn: 0,
    };
    if let Some(torn) = torn {
        agent.report_gap(0, format!("the spool ended torn: {} bytes were cut off", torn.bytes));
    }
    if let Some(gap) = wrong_rules {
        agent.report_gap(0, format!("rules: {gap}"));
    }
    let told = match &config.helper {
        Ok(socket) => {
            let (helper, told) = Helper::connect(socket.clone());
            agent.helper = Some(helper);
            told
        }
        Err(why) => {
            agent.not_known(format!("nothing can be contained here, nor asked about: {why}"));
            mpsc::channel(1).1
        }
    };
    agent.read_documents();
    let result = agent.work(noticed, from_link, told, &mut stop).await;
    agent.tell_gaps(Gaps::rest);
    linking.abort();
    renewing.abort();
    drop(sensing);
    result
}

/// From now on SIGHUP ends nothing. Whoever starts an agent has held it back until here, for it may come before
/// the agent has got so far.
fn hangups() -> io::Result<Signal> {
    let hangups = signal(SignalKind::hangup())?;
    SigSet::from_iter([SIGHUP]).thread_unblock()?;
    Ok(hangups)
}

/// The kept identity, or one made now with the token; `None` if stopped meanwhile.
async fn identify(
    config: &AgentConfig,
    stop: &mut watch::Receiver<bool>,
) -> Result<Option<Identity>, AgentError> {
    if let Some(identity) = Identity::load(&config.directory)? {
        return Ok(Some(identity));
    }
    let token = config.token.as_ref().ok_or(AgentError::NotEnrolled)?;
    loop {
        match Identity::enrol(&config.directory, token, &config.host).await {
            Ok(identity) => {
                tracing::info!(machine = %identity.machine(), organisation = %identity.organisation(), "enrolled");
                return Ok(Some(identity));
            }
            // Only a hub that isn't there is worth waiting for; a refusal stays one.
            Err(error @ IdentityError::NoHub { .. }) => {
                tracing::warn!("{error}; trying again in {} s", ENROL_AGAIN.as_secs());
            }
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            _ = stop.changed() => return Ok(None),
            () = tokio::time::sleep(ENROL_AGAIN) => {}
        }
    }
}

struct Agent {
    core: AgentCore,
    documents: Documents,
    journal: Journal,
    helper: Option<Helper>,
    identity: Arc<Identity>,
    spool: SharedSpool,
    added: Arc<Notify>,
    say: mpsc::Sender<FromAgent>,
    /// What it can see and do, as it is said to the hub.
    coverage: watch::Sender<Vec<Coverage>>,
    view: Arc<Mutex<View>>,
    clocks: Clocks,
    /// What the hub's clock said, and our boot time then.
    trusted: Option<(UtcNanos, BootNanos)>,
    host: String,
    lately: Arc<Mutex<Lately>>,
    looks: Arc<Semaphore>,
    surveys: Arc<Semaphore>,
    gaps: Gaps,
    /// Wrong break-glass codes that were told.
    wrong_codes: u64,
    /// Changes of rules while no helper ran that the hub was told of by this process.
    unwatched: u64,
    /// The order that the helper was last unable to take.
    not_yet: Option<OrderId>,
    /// Counts up whenever what the helper said is out of date: an answer from before says nothing of after.
    turn: u64,
}

impl Agent {
    async fn work(
        &mut self,
        mut noticed: mpsc::Receiver<Noticed>,
        mut from_link: mpsc::Receiver<FromLink>,
        mut told: mpsc::Receiver<Told>,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<(), AgentError> {
        // One for all turns of the loop: a pause begun anew at each finding would never end in a flood.
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut tell_gaps = tokio::time::interval(TELL_EVERY);
        tell_gaps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ask = tokio::time::interval(ASK_EVERY);
        ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look_at_way = tokio::time::interval(LOOK_AT_WAY_EVERY);
        look_at_way.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut asking = Asking::default();
        loop {
            tokio::select! {
                // What may end in an isolation first.
                biased;
                _ = stop.changed() => return Ok(()),
                news = from_link.recv() => match news {
                    Some(news) => self.hear(news).await,
                    None => return Err(AgentError::PartEnded("the link")),
                },
                // Before the findings, of which an attacker may make as many as he likes.
                _ = look.tick(), if self.core.is_waiting() => {
                    let act = self.core.tick(&self.now());
                    self.act(act).await;
                }
                Some(word) = told.recv() => self.listen(word).await?,
                (turn, answer) = asking.answered() => {
                    if turn == self.turn {
                        self.hear_helper(answer);
                    }
                }
                _ = ask.tick() => match &self.helper {
                    Some(_) if asking.is_under_way() => {
                        self.not_known("the privileged helper does not answer");
                    }
                    Some(helper) => asking.begin(helper, self.turn),
                    None => {}
                },
                _ = look_at_way.tick() => self.look_at_way(),
                _ = tell_gaps.tick(), if self.gaps.are_waiting() => self.tell_gaps(Gaps::due),
                one = noticed.recv() => match one {
                    Some(one) => self.notice(one).await,
                    None => return Err(AgentError::PartEnded("the sensor")),
                },
            }
        }
    }

    fn now(&self) -> Moment {
        let mut now = self.clocks.now();
        now.trusted_utc = self.trusted.map(|(utc, at)| utc.plus(now.at.since(at)));
        now
    }

    async fn notice(&mut self, one: Noticed) {
        match one {
            Noticed::Finding(finding) => self.find(*finding).await,
            Noticed::Folded { rule, image, count } => {
                self.report_gap(count, format!("{rule} went on matching {image}, and was folded"));
            }
            Noticed::Lost(loss) => {
                self.gaps.add(Why::Sensor(loss.reason), loss.count);
                self.tell_gaps(Gaps::due);
            }
            Noticed::Rules(gap) => self.report_gap(0, format!("rules: {gap}")),
            Noticed::Unheard(count) => {
                self.gaps.add(Why::Unheard, count);
                self.tell_gaps(Gaps::due);
            }
        }
    }

    fn tell_gaps(&mut self, which: impl Fn(&mut Gaps, BootNanos) -> Vec<(Why, u64)>) {
        for (why, count) in which(&mut self.gaps, self.clocks.now().at) {
            self.report_gap(count, why.words().to_owned());
        }
    }

    async fn find(&mut self, finding: Finding) {
        tracing::info!(rule = finding.rule.title, level = %finding.rule.level, "found");
        // Kept and on its way first, so that the hub hears of it whatever the machine does next. One that
        // can't be kept (a full disk, a full spool) the hub never acknowledges, and the machine still
        // defends itself: else whoever fills the disk first is let through.
        let number = self.report(Report::Finding(Box::new(finding.clone()))).unwrap_or(u64::MAX);
        let act = self.core.found(&finding, number, &self.now());
        self.act(act).await;
    }

    async fn act(&mut self, act: Option<Act>) {
        let Some(Act::UsePermit { permit, finding, level }) = act else { return };
        tracing::warn!(%finding, "no hub in reach: this machine segments itself by its permit");
        let ask = Ask::UsePermit { permit: permit.envelope().clone(), finding, level };
        let answer = self.tell(ask).await;
        let is_here = answer.is_ok();
        if answer.as_ref().is_ok_and(Answer::spends_permit) {
            self.core.used(permit.id);
            if let Err(error) = self.documents.forget::<Permit>() {
                tracing::warn!(%error, "a spent permit can't be forgotten; the helper knows it");
            }
        }
        match answer {
            Ok(Answer::Obeyed(receipts)) => {
                self.note("no hub in reach: used the permit to segment this machine");
                self.take(receipts).await;
            }
            Ok(Answer::Refused { why, .. }) => {
                self.note(format!("the helper refused the permit: {why}"));
                tracing::error!(why, "the helper refused the permit");
            }
            Ok(Answer::Status(_) | Answer::Survey(_) | Answer::Printers(_) | Answer::Would(_)) => {}
            Err(HelperGone) => tracing::error!("{HelperGone}: the machine is not segmented"),
        }
        self.look_if(is_here).await;
    }

    /// Keeps a report for the hub; its number, or `None` if there is no room.
    fn report(&mut self, report: Report) -> Option<u64> {
        let pushed = self.spool.lock().unwrap_or_else(PoisonError::into_inner).push(report);
        match pushed {
            Ok(number) => {
                self.added.notify_one();
                Some(number)
            }
            Err(error) => {
                tracing::error!(%error, "a report is lost");
                locked(&self.view).status.lost += 1;
                None
            }
        }
    }

    fn report_gap(&mut self, events: u64, what: String) {
        self.report(Report::Gap { events, what, at: UtcNanos::now() });
    }

    fn note(&mut self, text: impl Into<String>) {
        if let Err(error) = self.journal.note(UtcNanos::now(), text) {
            tracing::error!(%error, "the journal can't be written");
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
