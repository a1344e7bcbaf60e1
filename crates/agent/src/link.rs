//! The link to the hub: one outgoing connection, opened again whenever it is lost.
//!
//! The one idea: the link decides nothing. It carries waiting reports up, in order and from where the
//! hub last acknowledged, and hands down what the hub sends, still sealed. Whether a hub is in reach is
//! said by what it answers, not by what TCP believes: silence for [`SILENCE`] is a lost link.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cordon_link::frame::{self, FrameError};
use cordon_model::limits;
use cordon_model::signed::Envelope;
use cordon_model::time::UtcNanos;
use cordon_model::wire::{FromAgent, FromHub, Hello, Numbered, Status};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, interval, timeout};

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
}

/// The reports that wait, shared between the agent and its link. The lock is held for moments, never
/// across an await.
pub type SharedSpool = Arc<Mutex<Spool>>;

/// What the link needs from the agent.
pub struct LinkSide {
    /// Makes the hello of a new connection.
    pub hello: Box<dyn Fn() -> Hello + Send + Sync>,
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
            Ok(stream) => match converse(stream, &mut side).await {
                Ok(()) => "the hub closed the link".to_owned(),
                Err(error) => error.to_string(),
            },
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

async fn converse<S>(stream: S, side: &mut LinkSide) -> Result<(), FrameError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut from, mut to) = tokio::io::split(stream);
    frame::write(&mut to, &FromAgent::Hello((side.hello)()), limits::MESSAGE_BYTES).await?;
    let welcome = timeout(WELCOME_WITHIN, frame::read(&mut from, limits::MESSAGE_BYTES)).await;
    match welcome.map_err(|_| silent())?? {
        Some(FromHub::Welcome { now, .. }) => drop(side.tell.send(FromLink::Up(now)).await),
        Some(FromHub::Goodbye { why }) => return Err(FrameError::Unreadable(why)),
        Some(_) | None => return Err(FrameError::Torn),
    }
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
    let result = talk(&mut to, &mut heard, side).await;
    reader.abort();
    result
}

async fn talk<W: AsyncWrite + Unpin>(
    to: &mut W,
    heard: &mut mpsc::Receiver<Result<Option<FromHub>, FrameError>>,
    side: &mut LinkSide,
) -> Result<(), FrameError> {
    let mut sent = 0;
    let mut last_heard = Instant::now();
    let mut status = interval(STATUS_EVERY);
    loop {
        sent = send_waiting(to, &side.spool, sent).await?;
        tokio::select! {
            () = side.added.notified() => {}
            message = side.say.recv() => {
                let Some(message) = message else { return Ok(()) };
                frame::write(to, &message, limits::MESSAGE_BYTES).await?;
            }
            _ = status.tick() => {
                if last_heard.elapsed() > SILENCE {
                    return Err(silent());
                }
                let status = FromAgent::Status((side.status)());
                frame::write(to, &status, limits::MESSAGE_BYTES).await?;
            }
            message = heard.recv() => {
                last_heard = Instant::now();
                match message {
                    None | Some(Ok(None)) => return Ok(()),
                    Some(Err(error)) => return Err(error),
                    Some(Ok(Some(message))) => {
                        let Some(news) = news_of(message, &side.spool)? else { continue };
                        if side.tell.send(news).await.is_err() {
                            return Ok(());
                        }
                    }
                }
            }
        }
    }
}

/// Sends every report above `sent`, and says how far it got.
async fn send_waiting<W: AsyncWrite + Unpin>(
    to: &mut W,
    spool: &SharedSpool,
    mut sent: u64,
) -> Result<u64, FrameError> {
    loop {
        let batch: Vec<Numbered> =
            spool.lock().unwrap_or_else(PoisonError::into_inner).batch_after(sent);
        let Some(last) = batch.last() else { return Ok(sent) };
        sent = last.number;
        frame::write(to, &FromAgent::Reports(batch), limits::MESSAGE_BYTES).await?;
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
