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
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cordon_link::token::EnrolToken;
use cordon_model::asset::Assignment;
use cordon_model::break_glass::BreakGlass;
use cordon_model::finding::Finding;
use cordon_model::guidance::Guidance;
use cordon_model::holds::Holds;
use cordon_model::ids::OrderId;
use cordon_model::look::LookAt;
use cordon_model::order::{Order, Permit};
use cordon_model::policy::Policy;
use cordon_model::signed::Envelope;
use cordon_model::time::{BootNanos, UtcNanos};
use cordon_model::wire::{Coverage, FromAgent, Hello, Report, Status};
use cordon_respond::agent_core::{Act, AgentCore};
use cordon_respond::clock::Moment;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::time::MissedTickBehavior;

use crate::contain::moment::Clocks;
use crate::contain::protocol::{Answer, Ask};
use crate::contain::survey::limits::ASKED;
use crate::contain::way;
use crate::documents::Documents;
use crate::gaps::{Gaps, TELL_EVERY, Why};
use crate::helper_link::{Helper, HelperGone, Told};
use crate::helper_word::Asking;
use crate::identity::{Identity, IdentityError};
use crate::journal::Journal;
use crate::lately::Lately;
use crate::link::{self, FromLink, LinkSide, SharedSpool};
use crate::local::{LocalDetection, Noticed};
use crate::look;
use crate::sensor::{Place, Sensor, SensorEvent};
use crate::spool::{Spool, SpoolError};
use crate::surveying;

mod handed_down;
mod with_helper;

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
    /// The rules: origin and YAML text of each.
    pub rules: Vec<(String, String)>,
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

/// What the link's hello and status are made of.
#[derive(Debug, Clone, Default)]
struct View {
    last_order: u64,
    assignment: u64,
    policy: u64,
    coverage: Vec<Coverage>,
    /// Where the hub is and what an isolation keeps, for the way there.
    given: Option<Assignment>,
    /// The address that the present link stands on, or the last one stood on.
    hub: Option<IpAddr>,
    status: Pulse,
}

/// [`Status`] without its time.
#[derive(Debug, Clone)]
struct Pulse {
    holds: Holds,
    rules: u32,
    events: u64,
    lost: u64,
    break_glass: u64,
    guidance: u64,
}

impl Default for Pulse {
    fn default() -> Self {
        let why = "the privileged helper has not been asked yet".to_owned();
        Self {
            holds: Holds::Unknown { why },
            rules: 0,
            events: 0,
            lost: 0,
            break_glass: 0,
            guidance: 0,
        }
    }
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
    let view = Arc::new(Mutex::new(View { coverage, ..View::default() }));
    let added = Arc::new(Notify::new());

    // The sensor's thread detects; what it notices comes here.
    let rules = config.rules.iter().map(|(origin, yaml)| (origin.as_str(), yaml.as_str()));
    let (mut detection, refusals) = LocalDetection::new(rules, config.host.clone());
    for refusal in &refusals {
        tracing::warn!(%refusal, "a rule is refused");
    }
    locked(&view).status.rules = u32::try_from(detection.rule_count()).unwrap_or(u32::MAX);
    let (notice, noticed) = mpsc::channel(NOTICED);
    let counted = Arc::clone(&view);
    let mut unheard = 0;
    let lately = Arc::new(Mutex::new(Lately::default()));
    let used = Arc::clone(&lately);
    let sensing = sensor
        .start(move |event: SensorEvent, _| {
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
            hello: hello_from(&view, &config.host, &clocks, config.helper.is_ok()),
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
    drop(sensing);
    result
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

/// The same, with what there is to say now of the way to the hub.
fn with_way(coverage: &[Coverage], told: Option<Coverage>) -> Vec<Coverage> {
    coverage.iter().filter(|one| !way::is_told_by(one)).cloned().chain(told).collect()
}

fn hello_from(
    view: &Arc<Mutex<View>>,
    host: &str,
    clocks: &Clocks,
    is_helped: bool,
) -> Box<dyn Fn(Option<IpAddr>) -> Hello + Send + Sync> {
    let (view, host, clocks) = (Arc::clone(view), host.to_owned(), clocks.clone());
    Box::new(move |hub| {
        let given = locked(&view).given.clone();
        // Asked now: while there was no link the way may have become another, and what waits at the hub is
        // sent by what the hello says.
        let told = given.filter(|_| is_helped).map(|given| way::told(&given, hub));
        let mut view = locked(&view);
        view.hub = hub;
        if let Some(told) = told {
            view.coverage = with_way(&view.coverage, told);
        }
        Hello {
            version: cordon_model::wire::VERSION,
            build: env!("CARGO_PKG_VERSION").to_owned(),
            host: host.clone(),
            boot: clocks.now().boot,
            last_order: view.last_order,
            assignment: view.assignment,
            policy: view.policy,
            coverage: view.coverage.clone(),
        }
    })
}

fn status_from(view: &Arc<Mutex<View>>, clocks: &Clocks) -> Box<dyn Fn() -> Status + Send + Sync> {
    let (view, clocks) = (Arc::clone(view), clocks.clone());
    Box::new(move || {
        let view = &locked(&view).status;
        Status {
            at_boot: clocks.now().at,
            holds: view.holds.clone(),
            rules: view.rules,
            events: view.events,
            lost: view.lost,
            break_glass: view.break_glass,
            guidance: view.guidance,
        }
    })
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
            Noticed::Unheard(count) => {
                self.gaps.add(Why::Unheard, count);
                self.tell_gaps(Gaps::due);
            }
        }
    }

    /// Tells the hub, where it has changed, whether a full isolation would leave this machine its way there.
    fn look_at_way(&mut self) {
        if self.helper.is_none() {
            return;
        }
        let hub = locked(&self.view).hub;
        let told = self.core.assignment().and_then(|given| way::told(given, hub));
        let mut view = locked(&self.view);
        let coverage = with_way(&view.coverage, told);
        // One that can't be said now is tried again.
        if coverage != view.coverage
            && self.say.try_send(FromAgent::Coverage(coverage.clone())).is_ok()
        {
            view.coverage = coverage;
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

    async fn hear(&mut self, news: FromLink) {
        match news {
            FromLink::Up(utc) => {
                tracing::info!("linked to the hub");
                self.trusted = Some((utc, self.clocks.now().at));
                self.core.link(true);
                self.look_at_way();
            }
            FromLink::Down(why) => {
                tracing::warn!(why, "no hub in reach");
                self.core.link(false);
                let act = self.core.tick(&self.now());
                self.act(act).await;
            }
            FromLink::Acknowledged(number) => self.core.acknowledged(number),
            FromLink::Order(envelope) => self.obey(envelope).await,
            FromLink::Policy(envelope) => {
                if let Some(policy) = self.genuine::<Policy>(&envelope)
                    && self.core.policy(policy.clone())
                {
                    locked(&self.view).policy = policy.revision;
                    self.keep(&policy);
                }
            }
            FromLink::Permit(envelope) => {
                let now = self.now();
                if let Some(permit) = self.genuine::<Permit>(&envelope)
                    && self.core.permit(permit.clone(), &now)
                {
                    self.keep(&permit);
                }
            }
            FromLink::Look(number, LookAt::Survey { since }) => {
                let helper = self.helper.clone();
                surveying::answer(&self.surveys, helper, &self.say, number, since);
            }
            FromLink::Look(number, at) => {
                let now = self.clocks.now();
                let of = look::Of {
                    assignment: self.documents.read::<Assignment>(self.identity.command_key()),
                    helper: self.helper.clone(),
                    used: locked(&self.lately).used(now.at),
                    boot: now.boot,
                };
                look::answer(&self.looks, &self.say, of, number, at);
            }
            FromLink::Assignment(envelope) => {
                let Some(assignment) = self.genuine::<Assignment>(&envelope) else { return };
                if !self.is_for_us(&assignment.organisation, assignment.machine)
                    || !self.keeps_our_hub(&assignment)
                {
                    return;
                }
                if self.core.assign(assignment.clone()) {
                    locked(&self.view).given = Some((*assignment).clone());
                    self.keep(&assignment);
                    self.look_at_way();
                }
                self.assign(envelope, assignment.revision).await;
            }
            FromLink::BreakGlass(envelope) => {
                let Some(codes) = self.genuine::<BreakGlass>(&envelope) else { return };
                if !self.is_for_us(&codes.organisation, codes.machine) {
                    return;
                }
                self.keep(&codes);
                self.take_codes(envelope).await;
            }
            FromLink::Guidance(envelope) => {
                let Some(guidance) = self.genuine::<Guidance>(&envelope) else { return };
                if !self.is_for_us(&guidance.organisation, guidance.machine) {
                    return;
                }
                self.keep(&guidance);
                self.take_guidance(envelope).await;
            }
        }
    }

    async fn obey(&mut self, envelope: Envelope) {
        let Some(order) = self.genuine::<Order>(&envelope) else { return };
        let answer = self.tell(Ask::Order(envelope)).await;
        let is_here = answer.is_ok();
        match answer {
            Ok(Answer::Obeyed(receipts)) => {
                {
                    let mut view = locked(&self.view);
                    view.last_order = view.last_order.max(order.sequence);
                }
                let _ = self.say.try_send(FromAgent::OrderTaken(order.id));
                self.take(receipts).await;
            }
            // Not taken either: the hub sends it again, until it is too late for it. Said once.
            Ok(Answer::Refused { kind, why }) if !kind.is_final() => {
                tracing::error!(order = %order.id, why, "an order can't be taken yet");
                if self.not_yet.replace(order.id) != Some(order.id) {
                    let what =
                        format!("order {} can't be taken yet, and is tried again: {why}", order.id);
                    self.report_gap(0, what);
                }
            }
            Ok(Answer::Refused { kind, why }) => {
                tracing::warn!(order = %order.id, ?kind, why, "an order is refused");
                self.report(Report::OrderRefused { order: order.id, why });
            }
            Ok(Answer::Status(_) | Answer::Survey(_) | Answer::Printers(_) | Answer::Would(_)) => {}
            Err(HelperGone) if self.helper.is_none() => {
                let why = "nothing can be contained on this machine: it runs without root".into();
                self.report(Report::OrderRefused { order: order.id, why });
            }
            // Not taken: the hub sends it again.
            Err(HelperGone) => tracing::error!(order = %order.id, "{HelperGone}"),
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

#[cfg(test)]
mod tests {
    use cordon_model::asset::Protected;
    use cordon_model::ids::MachineId;
    use cordon_model::wire::HUB_LINK;

    use super::*;

    /// What waits at the hub is sent by what the hello says.
    #[test]
    fn a_hello_says_the_way_of_now_and_not_the_one_of_before() {
        let given = Assignment {
            organisation: "RJ1".parse().unwrap(),
            machine: MachineId::new(UtcNanos::from_unix_nanos(0), [1; 10]),
            revision: 1,
            name: "m01".into(),
            tier: None,
            kind: None,
            group: None,
            lifelines: Vec::new(),
            names: Vec::new(),
            protected: Protected::default(),
            watched: Vec::new(),
            hub: Vec::new(),
        };
        let coverage = |what: &str| {
            let gap = Some("by what was so before".to_owned());
            Coverage { what: what.into(), by: None, gap }
        };
        let before = vec![coverage("isolation"), coverage(HUB_LINK)];
        let view = View { coverage: before.clone(), given: Some(given), ..View::default() };
        let view = Arc::new(Mutex::new(view));
        let clocks = Clocks::of_this_boot().unwrap();
        let here = Some(IpAddr::from([127, 0, 0, 1]));
        // Without a helper nothing is isolated, and nothing asked.
        assert_eq!(hello_from(&view, "m01", &clocks, false)(here).coverage, before);
        let said = hello_from(&view, "m01", &clocks, true)(here).coverage;
        assert_eq!(said, before[..1]);
        assert_eq!(locked(&view).hub, here);
    }
}
