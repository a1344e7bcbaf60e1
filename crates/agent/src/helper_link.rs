//! The agent's side of the helper's socket: questions with answers, and what the helper tells by itself.
//!
//! One task owns the socket. A helper that is gone (it is being started again) is waited for; a question
//! that it did not answer in time is answered with [`HelperGone`], and whoever asked decides.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use cordon_link::frame::{self, FrameError};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use crate::contain::protocol::{Answer, Ask, Event, FromHelper, MESSAGE_BYTES, Request};

/// How long an answer may take. An isolation takes milliseconds; a machine that is out of memory, longer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
/// How often a helper that is gone is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Questions that may wait. The agent asks one at a time.
const MOST_ASKED: usize = 16;

/// The helper did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the privileged helper does not answer: is it running?")]
pub struct HelperGone;

/// What the helper tells by itself.
#[derive(Debug)]
pub enum Told {
    /// The socket is open (again): everything that it must know has to be said anew.
    Here,
    /// Something happened.
    Event(Event),
}

/// Asks the helper.
#[derive(Debug, Clone)]
pub struct Helper {
    asks: mpsc::Sender<(Ask, oneshot::Sender<Answer>)>,
}

impl Helper {
    /// Keeps a connection to the helper at `socket`; what it tells comes out of the receiver.
    #[must_use]
    pub fn connect(socket: PathBuf) -> (Self, mpsc::Receiver<Told>) {
        let (asks, asked) = mpsc::channel(MOST_ASKED);
        let (tell, told) = mpsc::channel(64);
        tokio::spawn(keep(socket, asked, tell));
        (Self { asks }, told)
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// [`HelperGone`] if none comes in time. It may have been done all the same; its receipts will say.
    pub async fn ask(&self, ask: Ask) -> Result<Answer, HelperGone> {
        let (answer_to, answer) = oneshot::channel();
        let exchange = async {
            self.asks.send((ask, answer_to)).await.map_err(|_| HelperGone)?;
            answer.await.map_err(|_| HelperGone)
        };
        timeout(ANSWERS_WITHIN, exchange).await.map_err(|_| HelperGone)?
    }
}

async fn keep(
    socket: PathBuf,
    mut asked: mpsc::Receiver<(Ask, oneshot::Sender<Answer>)>,
    tell: mpsc::Sender<Told>,
) {
    let mut has_said_gone = false;
    loop {
        match UnixStream::connect(&socket).await {
            Ok(stream) => {
                has_said_gone = false;
                match converse(stream, &mut asked, &tell).await {
                    Ok(()) => return,
                    Err(error) => {
                        tracing::warn!(%error, "the helper is gone; looking for it again")
                    }
                }
            }
            Err(error) if !has_said_gone => {
                has_said_gone = true;
                tracing::warn!(%error, socket = %socket.display(), "no helper yet");
            }
            Err(_) => {}
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Speaks until the agent has nothing more to ask (`Ok`) or the helper is gone.
async fn converse(
    stream: UnixStream,
    asked: &mut mpsc::Receiver<(Ask, oneshot::Sender<Answer>)>,
    tell: &mpsc::Sender<Told>,
) -> Result<(), FrameError> {
    let (mut from, mut to) = stream.into_split();
    let (heard_to, mut heard) = mpsc::channel(64);
    let reader = tokio::spawn(async move {
        loop {
            let message = frame::read::<FromHelper, _>(&mut from, MESSAGE_BYTES).await;
            let is_last = !matches!(message, Ok(Some(_)));
            if heard_to.send(message).await.is_err() || is_last {
                return;
            }
        }
    });
    let mut waiting: HashMap<u64, oneshot::Sender<Answer>> = HashMap::new();
    let mut next = 1;
    if tell.send(Told::Here).await.is_err() {
        return Ok(());
    }
    let result = loop {
        tokio::select! {
            question = asked.recv() => {
                let Some((ask, answer_to)) = question else { break Ok(()) };
                let request = Request { id: next, ask };
                waiting.insert(next, answer_to);
                next += 1;
                if let Err(error) = frame::write(&mut to, &request, MESSAGE_BYTES).await {
                    break Err(error);
                }
            }
            message = heard.recv() => match message {
                Some(Ok(Some(FromHelper::Answer { to, answer }))) => {
                    if let Some(answer_to) = waiting.remove(&to) {
                        let _ = answer_to.send(answer);
                    }
                }
                Some(Ok(Some(FromHelper::Event(event)))) => {
                    if tell.send(Told::Event(event)).await.is_err() {
                        break Ok(());
                    }
                }
                Some(Ok(None)) | None => break Err(FrameError::Torn),
                Some(Err(error)) => break Err(error),
            }
        }
    };
    reader.abort();
    result
}
