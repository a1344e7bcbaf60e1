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
use cordon_model::look::LookAt;
use cordon_model::signed::Envelope;
use cordon_model::time::UtcNanos;
use cordon_model::wire::{COVERAGE, FromAgent, FromHub, Hello, Numbered, Status};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, mpsc};
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
    frame::write(&mut to, &FromAgent::Hello((side.hello)(hub)), limits::MESSAGE_BYTES).await?;
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
    let result = talk(&mut to, &mut heard, version, side).await;
    reader.abort();
    result
}

async fn talk<W: AsyncWrite + Unpin>(
    to: &mut W,
    heard: &mut mpsc::Receiver<Result<Option<FromHub>, FrameError>>,
    version: u16,
    side: &mut LinkSide,
) -> Result<(), FrameError> {
    let LinkSide { status, spool, added, tell, say, .. } = side;
    // Both at once: an order never waits behind reports that the hub takes slowly, and a hub that takes
    // none and says none is silent even while we write.
    tokio::select! {
        ended = listen(heard, spool, tell) => ended,
        ended = speak(to, version, status, spool, added, say) => ended,
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
                // A hub that does not know it would end the link, each time.
                if version < COVERAGE && matches!(message, FromAgent::Coverage(_)) {
                    continue;
                }
                frame::write(to, &message, limits::MESSAGE_BYTES).await?;
            }
            _ = tick.tick() => {
                frame::write(to, &FromAgent::Status(status()), limits::MESSAGE_BYTES).await?;
            }
            () = std::future::ready(()), if may_be_more => {}
            () = added.notified() => {}
        }
    }
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
    use cordon_model::ids::OrderId;
    use cordon_model::policy::Policy;
    use cordon_model::signed::seal;
    use cordon_model::time::{BootId, BootNanos};
    use cordon_model::wire::Report;
    use ed25519_dalek::SigningKey;

    fn side(spool: Spool) -> (LinkSide, mpsc::Receiver<FromLink>, mpsc::Sender<FromAgent>) {
        let (tell, told) = mpsc::channel(8);
        let (say, said) = mpsc::channel(8);
        let hello = |_| Hello {
            version: cordon_model::wire::VERSION,
            build: "test".into(),
            host: "m01".into(),
            boot: BootId("boot".into()),
            last_order: 0,
            assignment: 0,
            policy: 0,
            coverage: Vec::new(),
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
        };
        (side, told, say)
    }

    #[tokio::test]
    async fn an_order_does_not_wait_behind_reports_that_the_hub_takes_slowly() {
        let directory = tempfile::tempdir().unwrap();
        let (mut spool, _) = Spool::open(directory.path()).unwrap();
        for _ in 0..1_000 {
            let what = "x".repeat(200);
            spool.push(Report::Gap { events: 1, what, at: UtcNanos::from_unix_nanos(1) }).unwrap();
        }
        let (mut side, mut told, _say) = side(spool);
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
        assert!(matches!(told.recv().await, Some(FromLink::Up(at)) if at == now));
        assert!(matches!(told.recv().await, Some(FromLink::Order(_))));
        link.abort();
    }

    #[tokio::test]
    async fn a_hub_of_an_earlier_version_is_told_no_coverage_after_the_hello() {
        for version in [COVERAGE - 1, COVERAGE] {
            let directory = tempfile::tempdir().unwrap();
            let (mut side, _told, say) = side(Spool::open(directory.path()).unwrap().0);
            let (agent, mut hub) = tokio::io::duplex(16 << 10);
            let link = tokio::spawn(async move { converse(agent, None, &mut side).await });
            let welcome = FromHub::Welcome { version, now: UtcNanos::from_unix_nanos(7) };
            frame::write(&mut hub, &welcome, limits::MESSAGE_BYTES).await.unwrap();
            let last = OrderId::new(UtcNanos::from_unix_nanos(7), [1; 10]);
            say.send(FromAgent::Coverage(Vec::new())).await.unwrap();
            say.send(FromAgent::OrderTaken(last)).await.unwrap();
            let mut was_told = false;
            loop {
                let said = frame::read::<FromAgent, _>(&mut hub, limits::MESSAGE_BYTES).await;
                match said.unwrap().unwrap() {
                    FromAgent::Coverage(_) => was_told = true,
                    FromAgent::OrderTaken(_) => break,
                    _ => {}
                }
            }
            assert_eq!(was_told, version == COVERAGE);
            link.abort();
        }
    }
}
