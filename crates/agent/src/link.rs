//! The link to the hub: one outgoing connection, opened again whenever it is lost.
//!
//! The one idea: the link decides nothing. It carries waiting reports up, in order and from where the
//! hub last acknowledged, and hands down what the hub sends, still sealed. Whether a hub is in reach is
//! said by what it answers, not by what TCP believes: silence for `SILENCE` is a lost link.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cordon_link::frame::{self, FrameError};
use cordon_model::limits;
use cordon_model::look::{LookAt, Seen};
use cordon_model::signed::Envelope;
use cordon_model::time::UtcNanos;
use cordon_model::wire::{
    COVERAGE, Coverage, DROPPED, FromAgent, FromHub, Hello, Numbered, Status,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::identity::Identity;
use crate::spool::Spool;

/// How often the agent says how it is. The hub answers each with what it has on disk.
const STATUS_EVERY: Duration = Duration::from_secs(2);
/// Without a word from the hub for this long the link is lost: three answers missed.
const SILENCE: Duration = Duration::from_secs(6);
/// First and longest pause between attempts. A hub that comes back is found within the longest; 5,000
/// machines then come back over ten seconds, 500 a second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// How long a hub may take to answer the hello.
const WELCOME_WITHIN: Duration = Duration::from_secs(10);

/// What the link tells.
#[derive(Debug)]
pub enum FromLink {
    /// The hub welcomed us; its clock said this.
    Up(UtcNanos),
    /// No hub in reach, and why.
    Down(String),
    /// Everything up to this number is on the hub's disk.
    Acknowledged(u64),
    /// A sealed order.
    Order(Envelope),
    /// A sealed permit.
    Permit(Envelope),
    /// A sealed policy.
    Policy(Envelope),
    /// A sealed assignment.
    Assignment(Envelope),
    /// Somebody wants to see how it is here.
    Look(u64, LookAt),
    /// Sealed hashes of break-glass codes.
    BreakGlass(Envelope),
    /// A sealed text for people in front of the machine.
    Guidance(Envelope),
}

/// The reports that wait, shared between the agent and its link. The lock is held for moments, never
/// across an await.
pub type SharedSpool = Arc<Mutex<Spool>>;

/// What the link needs from the agent.
pub struct LinkSide {
    /// Makes the hello of a new connection, to this address.
    pub hello: Box<dyn Fn(Option<IpAddr>) -> Hello + Send + Sync>,
    /// Makes the status that is sent now and then.
    pub status: Box<dyn Fn() -> Status + Send + Sync>,
    /// The reports.
    pub spool: SharedSpool,
    /// Told when a report was added.
    pub added: Arc<Notify>,
    /// Where news goes.
    pub tell: mpsc::Sender<FromLink>,
    /// Small things to say that need no number.
    pub say: mpsc::Receiver<FromAgent>,
    /// What the machine can see and do, as the hello says it. What has changed since is said as it is when it is
    /// said, and not as it was when it changed: a word that waited for a link would undo a fresh hello.
    pub coverage: watch::Receiver<Vec<Coverage>>,
}

/// Keeps the link up, for ever. Dropping the future ends it.
pub async fn run(identity: Arc<Identity>, mut side: LinkSide) {
    let mut pause = PAUSES.0;
    loop {
        let began = Instant::now();
        let why = match identity.connect().await {
            Ok(stream) => {
                let hub = stream.get_ref().0.peer_addr().ok().as_ref().map(SocketAddr::ip);
                match converse(stream, hub, &mut side).await {
                    Ok(()) => "the hub closed the link".to_owned(),
                    Err(error) => error.to_string(),
                }
            }
            Err(error) => error.to_string(),
        };
        if side.tell.send(FromLink::Down(why)).await.is_err() {
            return;
        }
        if began.elapsed() > PAUSES.1 {
            pause = PAUSES.0;
        }
        tokio::time::sleep(jittered(pause)).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// Half to all of `pause`, so that machines that lost their hub together do not come back together.
fn jittered(pause: Duration) -> Duration {
    let mut byte = [0];
    // Without randomness they come back together, which a hub survives.
    let _ = getrandom::fill(&mut byte);
    pause.mul_f64(0.5 + f64::from(byte[0]) / 512.0)
}

async fn converse<S>(stream: S, hub: Option<IpAddr>, side: &mut LinkSide) -> Result<(), FrameError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut from, mut to) = tokio::io::split(stream);
    let hello = (side.hello)(hub);
    let told = hello.coverage.clone();
    frame::write(&mut to, &FromAgent::Hello(hello), limits::MESSAGE_BYTES).await?;
    let welcome = timeout(WELCOME_WITHIN, frame::read(&mut from, limits::MESSAGE_BYTES)).await;
    let version = match welcome.map_err(|_| silent())?? {
        Some(FromHub::Welcome { now, version }) => {
            drop(side.tell.send(FromLink::Up(now)).await);
            version
        }
        Some(FromHub::Goodbye { why }) => return Err(FrameError::Unreadable(why)),
        Some(_) | None => return Err(FrameError::Torn),
    };
    // A task of its own reads, so that a frame that came half is not lost when something else is ready.
    let (heard_to, mut heard) = mpsc::channel(64);
    let reader = tokio::spawn(async move {
        loop {
            let message = frame::read::<FromHub, _>(&mut from, limits::MESSAGE_BYTES).await;
            let is_last = !matches!(message, Ok(Some(_)));
            if heard_to.send(message).await.is_err() || is_last {
                return;
            }
        }
    });
    let result = talk(&mut to, &mut heard, version, told, side).await;
    reader.abort();
    result
}

async fn talk<W: AsyncWrite + Unpin>(
    to: &mut W,
    heard: &mut mpsc::Receiver<Result<Option<FromHub>, FrameError>>,
    version: u16,
    told: Vec<Coverage>,
    side: &mut LinkSide,
) -> Result<(), FrameError> {
    let LinkSide { status, spool, added, tell, say, coverage, .. } = side;
    // A hub that does not know the message would end the link, each time.
    let coverage = (version >= COVERAGE).then_some((told, coverage));
    // Both at once: an order never waits behind reports that the hub takes slowly, and a hub that takes
    // none and says none is silent even while we write.
    tokio::select! {
        ended = listen(heard, spool, tell) => ended,
        ended = speak(to, version, coverage, status, spool, added, say) => ended,
    }
}

/// Hands down what the hub says, until it is silent.
async fn listen(
    heard: &mut mpsc::Receiver<Result<Option<FromHub>, FrameError>>,
    spool: &SharedSpool,
    tell: &mpsc::Sender<FromLink>,
) -> Result<(), FrameError> {
    loop {
        match timeout(SILENCE, heard.recv()).await.map_err(|_| silent())? {
            None | Some(Ok(None)) => return Ok(()),
            Some(Err(error)) => return Err(error),
            Some(Ok(Some(message))) => {
                let Some(news) = news_of(message, spool)? else { continue };
                if tell.send(news).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}

/// Sends the reports that wait, one message after another, and between them what hurries more.
async fn speak<W: AsyncWrite + Unpin>(
    to: &mut W,
    version: u16,
    mut coverage: Option<(Vec<Coverage>, &mut watch::Receiver<Vec<Coverage>>)>,
    status: &(dyn Fn() -> Status + Send + Sync),
    spool: &SharedSpool,
    added: &Notify,
    say: &mut mpsc::Receiver<FromAgent>,
) -> Result<(), FrameError> {
    let mut sent = 0;
    let mut tick = interval(STATUS_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let batch: Vec<Numbered> =
            spool.lock().unwrap_or_else(PoisonError::into_inner).batch_after(sent);
        let may_be_more = !batch.is_empty();
        if let Some(last) = batch.last() {
            sent = last.number;
            frame::write(to, &FromAgent::Reports(batch), limits::MESSAGE_BYTES).await?;
        }
        tokio::select! {
            biased;
            message = say.recv() => {
                let Some(message) = message else { return Ok(()) };
                frame::write(to, &known_to(version, message), limits::MESSAGE_BYTES).await?;
            }
            now = news(&mut coverage) => {
                frame::write(to, &FromAgent::Coverage(now), limits::MESSAGE_BYTES).await?;
            }
            _ = tick.tick() => {
                frame::write(to, &FromAgent::Status(status()), limits::MESSAGE_BYTES).await?;
            }
            () = std::future::ready(()), if may_be_more => {}
            () = added.notified() => {}
        }
    }
}

/// The message without what a hub of this version does not know: it would end the link.
fn known_to(version: u16, message: FromAgent) -> FromAgent {
    match message {
        FromAgent::Looked { number, seen: Seen::Survey(survey) } if version < DROPPED => {
            let survey = survey.without_dropped("the hub is of a version that knows none");
            FromAgent::Looked { number, seen: Seen::Survey(survey) }
        }
        message => message,
    }
}

/// What the machine can see and do, once that is another than what the hub was told over this link.
async fn news(
    coverage: &mut Option<(Vec<Coverage>, &mut watch::Receiver<Vec<Coverage>>)>,
) -> Vec<Coverage> {
    let Some((told, now)) = coverage else { return std::future::pending().await };
    // An agent that is gone changes nothing any more.
    let Ok(now) = now.wait_for(|now| now != told).await.map(|now| now.clone()) else {
        return std::future::pending().await;
    };
    told.clone_from(&now);
    now
}

fn news_of(message: FromHub, spool: &SharedSpool) -> Result<Option<FromLink>, FrameError> {
    Ok(Some(match message {
        FromHub::Acknowledged(number) => {
            let done = spool.lock().unwrap_or_else(PoisonError::into_inner).acknowledged(number);
            if let Err(error) = done {
                tracing::warn!(%error, "acknowledged reports are kept a while longer");
            }
            FromLink::Acknowledged(number)
        }
        FromHub::Order(envelope) => FromLink::Order(envelope),
        FromHub::Permit(envelope) => FromLink::Permit(envelope),
        FromHub::Policy(envelope) => FromLink::Policy(envelope),
        FromHub::Assignment(envelope) => FromLink::Assignment(envelope),
        FromHub::Look { number, at } => FromLink::Look(number, at),
        FromHub::BreakGlass(envelope) => FromLink::BreakGlass(envelope),
        FromHub::Guidance(envelope) => FromLink::Guidance(envelope),
        FromHub::Welcome { .. } => return Ok(None),
        FromHub::Goodbye { why } => return Err(FrameError::Unreadable(why)),
    }))
}

fn silent() -> FrameError {
    FrameError::Stream(std::io::Error::new(
        std::io::ErrorKind::TimedOut,
        format!("the hub said nothing for {} s", SILENCE.as_secs()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_model::policy::Policy;
    use cordon_model::signed::seal;
    use cordon_model::time::{BootId, BootNanos};
    use cordon_model::wire::Report;
    use ed25519_dalek::SigningKey;

    /// What the agent says, and what it is told.
    struct AgentSide {
        told: mpsc::Receiver<FromLink>,
        _say: mpsc::Sender<FromAgent>,
        coverage: watch::Sender<Vec<Coverage>>,
    }

    fn side(spool: Spool) -> (LinkSide, AgentSide) {
        let (tell, told) = mpsc::channel(8);
        let (say, said) = mpsc::channel(8);
        let (coverage, covered) = watch::channel(Vec::new());
        let now = coverage.clone();
        let hello = move |_| Hello {
            version: cordon_model::wire::VERSION,
            build: "test".into(),
            host: "m01".into(),
            boot: BootId("boot".into()),
            last_order: 0,
            assignment: 0,
            policy: 0,
            coverage: now.borrow().clone(),
        };
        let status = || Status {
            at_boot: BootNanos(1),
            holds: cordon_model::holds::Holds::NOTHING,
            rules: 0,
            events: 0,
            lost: 0,
            break_glass: 0,
            guidance: 0,
        };
        let side = LinkSide {
            hello: Box::new(hello),
            status: Box::new(status),
            spool: Arc::new(Mutex::new(spool)),
            added: Arc::new(Notify::new()),
            tell,
            say: said,
            coverage: covered,
        };
        (side, AgentSide { told, _say: say, coverage })
    }

    #[tokio::test]
    async fn an_order_does_not_wait_behind_reports_that_the_hub_takes_slowly() {
        let directory = tempfile::tempdir().unwrap();
        let (mut spool, _) = Spool::open(directory.path()).unwrap();
        for _ in 0..1_000 {
            let what = "x".repeat(200);
            spool.push(Report::Gap { events: 1, what, at: UtcNanos::from_unix_nanos(1) }).unwrap();
        }
        let (mut side, mut agent_side) = side(spool);
        // The pipe holds a few messages, and this hub reads the hello only.
        let (agent, mut hub) = tokio::io::duplex(16 << 10);
        let link = tokio::spawn(async move { converse(agent, None, &mut side).await });
        let hello = frame::read::<FromAgent, _>(&mut hub, limits::MESSAGE_BYTES).await.unwrap();
        assert!(matches!(hello, Some(FromAgent::Hello(_))));
        let now = UtcNanos::from_unix_nanos(7);
        let key = SigningKey::from_bytes(&[1; 32]);
        let sealed = seal(&Policy::default_for("RJ1".parse().unwrap()), &key).unwrap();
        let welcome = FromHub::Welcome { version: cordon_model::wire::VERSION, now };
        for message in [welcome, FromHub::Order(sealed)] {
            frame::write(&mut hub, &message, limits::MESSAGE_BYTES).await.unwrap();
        }
        assert!(matches!(agent_side.told.recv().await, Some(FromLink::Up(at)) if at == now));
        assert!(matches!(agent_side.told.recv().await, Some(FromLink::Order(_))));
        link.abort();
    }

    fn gap(why: &str) -> Vec<Coverage> {
        vec![Coverage { what: "isolation".into(), by: None, gap: Some(why.into()) }]
    }

    /// What a hub hears of it over one link up to the first status, which comes after what is to be said.
    async fn heard(hub: &mut tokio::io::DuplexStream, version: u16) -> Vec<Vec<Coverage>> {
        let welcome = FromHub::Welcome { version, now: UtcNanos::from_unix_nanos(7) };
        frame::write(hub, &welcome, limits::MESSAGE_BYTES).await.unwrap();
        let mut coverage = Vec::new();
        loop {
            let said = frame::read::<FromAgent, _>(hub, limits::MESSAGE_BYTES).await;
            match said.unwrap().unwrap() {
                FromAgent::Hello(hello) => coverage.push(hello.coverage),
                FromAgent::Coverage(now) => coverage.push(now),
                FromAgent::Status(_) => return coverage,
                _ => {}
            }
        }
    }

    #[tokio::test]
    async fn a_hub_of_an_earlier_version_is_told_no_coverage_after_the_hello() {
        for version in [COVERAGE - 1, COVERAGE] {
            let directory = tempfile::tempdir().unwrap();
            let (mut side, agent) = side(Spool::open(directory.path()).unwrap().0);
            let (stream, mut hub) = tokio::io::duplex(16 << 10);
            let link = tokio::spawn(async move { converse(stream, None, &mut side).await });
            let hello = frame::read::<FromAgent, _>(&mut hub, limits::MESSAGE_BYTES).await;
            assert!(matches!(hello.unwrap(), Some(FromAgent::Hello(_))));
            agent.coverage.send_replace(gap("new"));
            let heard = heard(&mut hub, version).await;
            let told = if version == COVERAGE { vec![gap("new")] } else { Vec::new() };
            assert_eq!(heard, told);
            link.abort();
        }
    }

    #[test]
    fn a_hub_of_an_earlier_version_is_told_of_no_dropped_programs() {
        use cordon_model::survey::{FirstSeen, Survey, Thing, ThingKind};
        let thing = |kind| Thing {
            kind,
            path: cordon_model::action::FilePath::new("/tmp/x"),
            line: None,
            sha256: [1; 32],
            owner: 0,
            first_seen: FirstSeen::AtTheFirstLook,
            gone_at: None,
        };
        let survey = Survey {
            taken_at: UtcNanos::from_unix_nanos(2),
            known_since: UtcNanos::from_unix_nanos(1),
            things: vec![thing(ThingKind::Unit), thing(ThingKind::DroppedProgram)],
            of: 9,
            unread: Vec::new(),
        };
        for (version, told) in [(DROPPED - 1, (1, 8)), (DROPPED, (2, 9))] {
            let seen = Seen::Survey(survey.clone());
            let said = known_to(version, FromAgent::Looked { number: 5, seen });
            let FromAgent::Looked { number: 5, seen: Seen::Survey(said) } = said else { panic!() };
            assert_eq!((said.things.len(), said.of), told);
            // Whoever is told of none is told so: none told is none looked for.
            let is_said = said.unread.iter().any(|one| one.why.contains("are not told"));
            assert_eq!(is_said, version < DROPPED);
        }
    }

    /// What was to be said when the link went is not said after the hello that came later.
    #[tokio::test]
    async fn what_a_hello_says_is_undone_by_no_word_from_before_it() {
        let directory = tempfile::tempdir().unwrap();
        let (mut side, agent) = side(Spool::open(directory.path()).unwrap().0);
        // Nobody is there to hear either, and the second is what is so when the link comes up.
        agent.coverage.send_replace(gap("older"));
        agent.coverage.send_replace(gap("newer"));
        let (stream, mut hub) = tokio::io::duplex(16 << 10);
        let link = tokio::spawn(async move {
            drop(converse(stream, None, &mut side).await);
            side
        });
        assert_eq!(heard(&mut hub, COVERAGE).await, [gap("newer")]);
        drop(hub);
        let mut side = link.await.unwrap();
        // The same on the link after it; and what changes then is said.
        agent.coverage.send_replace(gap("on no link"));
        agent.coverage.send_replace(gap("newest"));
        let (stream, mut hub) = tokio::io::duplex(16 << 10);
        let link = tokio::spawn(async move { converse(stream, None, &mut side).await });
        let hello = frame::read::<FromAgent, _>(&mut hub, limits::MESSAGE_BYTES).await;
        assert!(
            matches!(hello.unwrap(), Some(FromAgent::Hello(of)) if of.coverage == gap("newest"))
        );
        agent.coverage.send_replace(gap("since the hello"));
        assert_eq!(heard(&mut hub, COVERAGE).await, [gap("since the hello")]);
        link.abort();
    }
}
