//! The agent's end of the helper's socket.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use cordon_link::frame;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

use super::protocol::{Answer, Ask, Event, FromHelper, MESSAGE_BYTES, Request};

/// Requests that wait to be written. The agent asks one thing at a time of each of its few tasks.
const REQUESTS: usize = 16;
/// Events that wait to be taken: as many as the helper itself lets wait.
const EVENTS: usize = 64;

/// The helper does not answer: it is away, or being started again.
#[derive(Debug, thiserror::Error)]
#[error("the helper has hung up; connect again")]
pub struct HungUp;

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Answer>>>>;

/// A connection to the helper. Clones share it.
#[derive(Debug, Clone)]
pub struct HelperClient {
    requests: mpsc::Sender<(Ask, oneshot::Sender<Answer>)>,
}

impl HelperClient {
    /// Connects, and begins to listen. The events end when the helper hangs up. Take them in a task of
    /// their own: answers come by the same socket, and wait behind events that nobody takes.
    ///
    /// # Errors
    /// When nobody serves the socket, or this user may not speak to it.
    pub async fn connect(socket: &Path) -> io::Result<(Self, mpsc::Receiver<Event>)> {
        let (from, to) = UnixStream::connect(socket).await?.into_split();
        let waiting = Waiting::default();
        let (requests, asked) = mpsc::channel(REQUESTS);
        let (tell, events) = mpsc::channel(EVENTS);
        let (hung_up, is_hung_up) = oneshot::channel();
        tokio::spawn(write(to, asked, Arc::clone(&waiting), is_hung_up));
        tokio::spawn(async move {
            read(from, tell, waiting).await;
            drop(hung_up);
        });
        let client = Self { requests };
        client.ask(Ask::Listen).await.map_err(io::Error::other)?;
        Ok((client, events))
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// [`HungUp`]: whether it was done is not known; ask again, for nothing is done twice.
    pub async fn ask(&self, ask: Ask) -> Result<Answer, HungUp> {
        let (answer, answered) = oneshot::channel();
        self.requests.send((ask, answer)).await.map_err(|_| HungUp)?;
        answered.await.map_err(|_| HungUp)
    }
}

async fn write(
    mut to: OwnedWriteHalf,
    mut asked: mpsc::Receiver<(Ask, oneshot::Sender<Answer>)>,
    waiting: Waiting,
    mut is_hung_up: oneshot::Receiver<Infallible>,
) {
    let mut id = 0;
    loop {
        let asked = tokio::select! {
            asked = asked.recv() => asked,
            _ = &mut is_hung_up => None,
        };
        let Some((ask, answer)) = asked else { break };
        id += 1;
        waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(id, answer);
        if frame::write(&mut to, &Request { id, ask }, MESSAGE_BYTES).await.is_err() {
            break;
        }
    }
    // Whoever waits is told by the sender's end.
    waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

async fn read(mut from: OwnedReadHalf, tell: mpsc::Sender<Event>, waiting: Waiting) {
    loop {
        match frame::read(&mut from, MESSAGE_BYTES).await {
            Ok(Some(FromHelper::Answer { to, answer })) => {
                let asker = waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&to);
                // Whoever asked may have stopped waiting.
                let _ = asker.map(|asker| asker.send(answer));
            }
            // An agent that only asks may let the events go.
            Ok(Some(FromHelper::Event(event))) => drop(tell.send(event).await),
            Ok(None) => break,
            Err(error) => {
                tracing::warn!(%error, "the helper's socket");
                break;
            }
        }
    }
    // Whoever waits is told by the sender's end.
    waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
}
