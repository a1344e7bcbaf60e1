//! A helper that may come and go, as one thing to ask.
//!
//! [`HelperClient`] is one connection; this keeps one, opens it again when the helper was restarted, and
//! says so, as a new helper must be told anew whom to obey.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use crate::contain::client::HelperClient;
use crate::contain::protocol::{Answer, Ask, Event};

/// How long an answer may take. An isolation takes milliseconds; a machine that is out of memory, longer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
/// How long a helper that is gone is waited for: findings wait meanwhile. It is started again within
/// 200 ms when it died.
const BACK_WITHIN: Duration = Duration::from_millis(1_000);
/// How often a helper that is gone is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The helper did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the privileged helper does not answer: is it running?")]
pub struct HelperGone;

/// What the helper tells by itself.
#[derive(Debug)]
pub enum Told {
    /// The socket is open (again): everything that it must know has to be said anew.
    Here,
    /// The socket was closed: nothing can be asked until it is here again.
    Gone,
    /// Something happened.
    Event(Event),
}

/// Asks the helper.
#[derive(Debug, Clone)]
pub struct Helper {
    client: watch::Receiver<Option<HelperClient>>,
}

impl Helper {
    /// Keeps a connection to the helper at `socket`; what it tells comes out of the receiver.
    #[must_use]
    pub fn connect(socket: PathBuf) -> (Self, mpsc::Receiver<Told>) {
        let (here, client) = watch::channel(None);
        let (tell, told) = mpsc::channel(64);
        tokio::spawn(keep(socket, here, tell));
        (Self { client }, told)
    }

    /// Asks, and waits for the answer; if the helper is away, a moment for its return.
    ///
    /// # Errors
    /// [`HelperGone`] if none comes in time. It may have been done all the same; its receipts will say.
    pub async fn ask(&self, ask: Ask) -> Result<Answer, HelperGone> {
        let exchange = async {
            let mut here = self.client.clone();
            let back = timeout(BACK_WITHIN, here.wait_for(Option::is_some)).await;
            let client = back.map_err(|_| HelperGone)?.map_err(|_| HelperGone)?.clone();
            let client = client.ok_or(HelperGone)?;
            client.ask(ask).await.map_err(|_| HelperGone)
        };
        timeout(ANSWERS_WITHIN, exchange).await.map_err(|_| HelperGone)?
    }
}

async fn keep(
    socket: PathBuf,
    here: watch::Sender<Option<HelperClient>>,
    tell: mpsc::Sender<Told>,
) {
    let mut has_said_gone = false;
    loop {
        match HelperClient::connect(&socket).await {
            Ok((client, mut events)) => {
                has_said_gone = false;
                let _ = here.send(Some(client));
                let mut word = Told::Here;
                loop {
                    if tell.send(word).await.is_err() {
                        return;
                    }
                    let Some(event) = events.recv().await else { break };
                    word = Told::Event(event);
                }
                let _ = here.send(None);
                tracing::warn!("the helper is gone; looking for it again");
                if tell.send(Told::Gone).await.is_err() {
                    return;
                }
            }
            Err(error) if !has_said_gone => {
                has_said_gone = true;
                tracing::warn!(%error, socket = %socket.display(), "no helper yet");
            }
            Err(_) => {}
        }
        if tell.is_closed() {
            return;
        }
        sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contain::protocol::{FromHelper, MESSAGE_BYTES, Receipts, Request};
    use cordon_link::frame;

    #[tokio::test]
    async fn a_helper_that_goes_is_told_to_be_gone() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("helper.sock");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let (_helper, mut told) = Helper::connect(socket);
        let (mut stream, _) = listener.accept().await.unwrap();
        let request = frame::read::<Request, _>(&mut stream, MESSAGE_BYTES).await.unwrap().unwrap();
        let answer = Answer::Obeyed(Receipts::default());
        let answer = FromHelper::Answer { to: request.id, answer };
        frame::write(&mut stream, &answer, MESSAGE_BYTES).await.unwrap();
        assert!(matches!(told.recv().await, Some(Told::Here)));
        drop(stream);
        assert!(matches!(told.recv().await, Some(Told::Gone)));
    }
}
