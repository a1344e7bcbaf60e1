//! The hub's ledger at work: appended by a thread of its own, cosigned by the signer.
//!
//! The one idea: a record is first written with what it tells of, in the store's transaction (its
//! *outbox*), and then appended here; only then it leaves the outbox. So a crash can neither lose a
//! record nor tell of something that did not happen. What a crash leaves in the outbox although the
//! ledger has it is found by comparing with the ledger's tail.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cordon_evidence::{Entry, Ledger, LedgerError, LogError, SignedCheckpoint};
use cordon_model::record::Record;
use cordon_model::time::UtcNanos;
use tokio::sync::{mpsc, oneshot};

use crate::board::Board;
use crate::signer::{Client, ClientError, Request};
use crate::view::LedgerStatus;

/// How often the ledger is cosigned when it has grown, and the signer asked whether it is there: every 2 s, so that less
/// than that can be rewritten unseen by somebody who takes the hub.
const COSIGN_EVERY: Duration = Duration::from_secs(2);

/// Batches that wait for the ledger's thread: 256; beyond that the hub's committer waits with it.
const WAITING: usize = 256;

/// How long a hub that ends may hold the ledger: 5 s, then two hubs were started on one directory.
const LET_GO_WITHIN: Duration = Duration::from_secs(5);

type CosignAnswer = Result<Option<Request>, LedgerError>;

enum ToLedger {
    Append(Vec<(u64, Record)>),
    Read(std::ops::Range<u64>, oneshot::Sender<Result<Vec<Entry>, LedgerError>>),
    CosignRequest((u64, [u8; 32]), oneshot::Sender<CosignAnswer>),
    Keep(Box<SignedCheckpoint>, oneshot::Sender<Result<(), LedgerError>>),
}

/// The way to the ledger's thread.
#[derive(Debug, Clone)]
pub(crate) struct LedgerDesk {
    to: mpsc::Sender<ToLedger>,
}

/// Why the ledger is not there.
#[derive(Debug, thiserror::Error)]
pub enum LedgerFailure {
    /// Its files.
    #[error(transparent)]
    Files(#[from] LedgerError),
    /// Its thread.
    #[error("the ledger's thread can't be started: {0}")]
    Thread(std::io::Error),
}

/// Numbers of records that are in the ledger now and may leave the outbox; an error ends the hub.
pub(crate) type Appended = mpsc::UnboundedReceiver<Result<Vec<u64>, LedgerError>>;

impl LedgerDesk {
    /// Opens the ledger, appends what the outbox still has, and starts the thread.
    ///
    /// # Errors
    /// If the ledger can't be opened or written.
    pub fn open(
        directory: PathBuf,
        origin: &str,
        outbox: Vec<(u64, Record)>,
        board: Arc<Board>,
    ) -> Result<(Self, Appended, Vec<u64>), LedgerFailure> {
        let (mut ledger, recovery) = open(&directory, origin)?;
        if let Some(torn) = &recovery.torn {
            tracing::warn!(?torn, "an append that was never acknowledged was set aside");
        }
        let missing = not_yet_in(&ledger, &outbox)?;
        if !missing.is_empty() {
            ledger.append_all(&missing)?;
        }
        let drained = outbox.into_iter().map(|(number, _)| number).collect();
        board.set_ledger(status(&ledger, None));
        let (to, from) = mpsc::channel(WAITING);
        // Bounded by what waits before it: one message for each batch that was taken.
        let (appended_to, appended) = mpsc::unbounded_channel();
        std::thread::Builder::new()
            .name("ledger".into())
            .spawn(move || work(ledger, from, &appended_to, &board))
            .map_err(LedgerFailure::Thread)?;
        Ok((Self { to }, appended, drained))
    }

    /// Appends records, in order. Waits while the disk is behind.
    pub async fn append(&self, records: Vec<(u64, Record)>) {
        // A ledger that is gone has ended the hub already.
        let _ = self.to.send(ToLedger::Append(records)).await;
    }

    /// Reads records.
    pub async fn read(
        &self,
        range: std::ops::Range<u64>,
    ) -> Option<Result<Vec<Entry>, LedgerError>> {
        let (answer, answered) = oneshot::channel();
        self.to.send(ToLedger::Read(range, answer)).await.ok()?;
        answered.await.ok()
    }

    /// Has the ledger cosigned whenever it has grown, for ever. The signer is asked also when it has not: one that died
    /// while nothing happened is told of before somebody needs it (law 12).
    pub async fn cosign_for_ever(self, signer: Arc<Client>, board: Arc<Board>) {
        let mut every = tokio::time::interval(COSIGN_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            match self.cosign(&signer).await {
                Ok(()) => {
                    board.set_signer_away(None);
                    board.set_ledger_alarm(None);
                }
                Err(error @ ClientError::Unreachable { .. }) => {
                    board.set_signer_away(Some(error.to_string()));
                }
                // The ledger is not what it was when it was last signed: people must know, and nothing
                // that the hub does can mend it.
                Err(error) => {
                    tracing::error!(%error, "the ledger is not cosigned");
                    let why = std::error::Error::source(&error);
                    let why =
                        why.map_or_else(|| error.to_string(), |why| format!("{error}: {why}"));
                    board.set_ledger_alarm(Some(why));
                }
            }
        }
    }

    async fn cosign(&self, signer: &Client) -> Result<(), ClientError> {
        let last = signer.last_cosigned().await?;
        let (answer, answered) = oneshot::channel();
        if self.to.send(ToLedger::CosignRequest(last, answer)).await.is_err() {
            return Ok(());
        }
        let Ok(request) = answered.await else { return Ok(()) };
        let Some(request) = request? else { return Ok(()) };
        let signed = signer.cosign(request).await?;
        let (answer, answered) = oneshot::channel();
        if self.to.send(ToLedger::Keep(Box::new(signed), answer)).await.is_err() {
            return Ok(());
        }
        answered.await.unwrap_or(Ok(())).map_err(ClientError::from)
    }
}

/// A hub that was just killed may still be letting go of its files.
fn open(
    directory: &std::path::Path,
    origin: &str,
) -> Result<(Ledger, cordon_evidence::Recovery), LedgerError> {
    let until = std::time::Instant::now() + LET_GO_WITHIN;
    loop {
        match Ledger::open(directory, origin) {
            Err(LedgerError::Log(LogError::Busy { .. })) if std::time::Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(20));
            }
            opened => return opened,
        }
    }
}

/// The records of the outbox that the ledger does not have: a crash came between the two writings. They
/// are compared with the ledger's last records, as many as the outbox has.
fn not_yet_in(ledger: &Ledger, outbox: &[(u64, Record)]) -> Result<Vec<Record>, LedgerError> {
    let count = outbox.len() as u64;
    let mut tail = Vec::new();
    let mut at = ledger.size().saturating_sub(count);
    while at < ledger.size() {
        let read = ledger.read(at..ledger.size())?;
        at += read.len() as u64;
        tail.extend(read.into_iter().map(|entry| entry.record));
    }
    // What is there already is a beginning of the outbox and an end of the ledger; the longest counts.
    let records: Vec<&Record> = outbox.iter().map(|(_, record)| record).collect();
    let there = (0..=tail.len())
        .rev()
        .find(|length| tail[tail.len() - length..].iter().eq(records[..*length].iter().copied()))
        .unwrap_or(0);
    Ok(outbox[there..].iter().map(|(_, record)| record.clone()).collect())
}

fn status(ledger: &Ledger, checkpoint_at: Option<UtcNanos>) -> LedgerStatus {
    let covered = ledger.last_checkpoint().map_or(0, |signed| signed.unchecked().size);
    LedgerStatus { size: ledger.size(), covered, checkpoint_at }
}

fn work(
    mut ledger: Ledger,
    mut from: mpsc::Receiver<ToLedger>,
    appended: &mpsc::UnboundedSender<Result<Vec<u64>, LedgerError>>,
    board: &Board,
) {
    let mut checkpoint_at = None;
    let mut next = None;
    while let Some(message) = next.take().or_else(|| from.blocking_recv()) {
        match message {
            ToLedger::Append(mut records) => {
                // What waits behind it shares its sync.
                while records.len() < 1_000 {
                    match from.try_recv() {
                        Ok(ToLedger::Append(more)) => records.extend(more),
                        Ok(other) => {
                            next = Some(other);
                            break;
                        }
                        Err(_) => break,
                    }
                }
                let (numbers, records): (Vec<u64>, Vec<Record>) = records.into_iter().unzip();
                let done = ledger.append_all(&records).map(|_| numbers);
                let is_over = done.is_err();
                if appended.send(done).is_err() || is_over {
                    return;
                }
            }
            ToLedger::Read(range, answer) => {
                let _ = answer.send(ledger.read(range));
            }
            ToLedger::CosignRequest(last, answer) => {
                let request = if last.0 == ledger.size() && checkpoint_at.is_some() {
                    Ok(None)
                } else {
                    Client::cosign_request(&ledger, last).map(Some)
                };
                let _ = answer.send(request);
            }
            ToLedger::Keep(signed, answer) => {
                let kept = ledger.keep(&signed);
                if kept.is_ok() {
                    checkpoint_at = Some(UtcNanos::now());
                }
                let _ = answer.send(kept);
            }
        }
        board.set_ledger(status(&ledger, checkpoint_at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_model::record::{Actor, Deed};

    fn record(number: i64) -> Record {
        Record {
            at: UtcNanos::from_unix_nanos(number),
            organisation: "RJ1".parse().unwrap(),
            actor: Actor::Hub,
            deed: Deed::Started,
            machine: None,
            incident: None,
            detail: String::new(),
        }
    }

    #[test]
    fn what_a_crash_left_in_the_outbox_is_appended_once() {
        for already in 0..=3 {
            let directory = tempfile::tempdir().unwrap();
            let (mut ledger, _) = Ledger::open(directory.path(), "cordon/RJ1/hub").unwrap();
            ledger.append(&record(0)).unwrap();
            let outbox: Vec<_> = (1..=3).map(|number| (number, record(number as i64))).collect();
            for (_, record) in &outbox[..already] {
                ledger.append(record).unwrap();
            }
            let missing = not_yet_in(&ledger, &outbox).unwrap();
            assert_eq!(missing, (already as i64 + 1..=3).map(record).collect::<Vec<_>>());
        }
    }
}
