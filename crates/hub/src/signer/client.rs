//! The hub's side of the signer's socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cordon_evidence::{Ledger, SignedCheckpoint};
use cordon_link::frame::{self, FrameError};
use cordon_model::asset::Assignment;
use cordon_model::break_glass::BreakGlass;
use cordon_model::guidance::{Bedside, Guidance};
use cordon_model::ids::{ApprovalId, MachineId, MeasureId, OrderId};
use cordon_model::measure::Isolation;
use cordon_model::order::{Approver, Order, Permit};
use cordon_model::policy::Policy;
use cordon_model::signed::{Document, Envelope, SignatureError, Verified};
use cordon_respond::decision::Situation;
use cordon_respond::names::Pin;
use cordon_respond::signer_core::{CodesRow, Proposal};
use ed25519_dalek::VerifyingKey;
use serde_bytes::ByteArray;
use tokio::net::UnixStream;
use tokio::sync::Mutex;

use super::codes::{Asker, CodesAnswer, CodesAsk, Sheet, Shown};
use super::leave::SaidAhead;
use super::protocol::{Answer, Keys, MESSAGE_BYTES, Peer, Refused, Request};

/// How long an answer may take. It is one disk sync; a disk that takes longer is as good as none.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long new break-glass codes may take: each is hashed slowly on purpose, one machine's at a time.
const PATIENCE_FOR_CODES: Duration = Duration::from_secs(300);

/// Why the signer gave no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It can't be reached; ask again later.
    #[error("the signer at {path} can't be reached")]
    Unreachable {
        /// Its socket.
        path: PathBuf,
        /// Why not.
        #[source]
        source: FrameError,
    },
    /// It said no.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// What it signed does not check with the keys that it had when we first spoke.
    #[error("the signer's document can't be used")]
    Signature(#[from] SignatureError),
    /// An answer to another question.
    #[error("the signer answered something else than was asked")]
    Confused,
    /// Our own ledger failed, or the checkpoint is not of it.
    #[error("a checkpoint can't be made")]
    Ledger(#[from] cordon_evidence::LedgerError),
    /// The signer's checkpoint is none.
    #[error("the signer's checkpoint can't be used")]
    Note(#[from] cordon_evidence::NoteError),
}

/// A connection to the signer, opened when it is needed and again after it failed. Requests of many
/// tasks are sent one after another; each is answered in about the time of one disk sync.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    stream: Mutex<Option<UnixStream>>,
    keys: Keys,
    command: VerifyingKey,
    ledger: VerifyingKey,
}

impl Client {
    /// Connects, and learns the keys that every later document is checked with.
    ///
    /// # Errors
    /// If the signer can't be reached.
    pub async fn connect(path: &Path) -> Result<Self, ClientError> {
        let stream = Mutex::new(None);
        let keys = match exchange(path, &stream, &Request::Keys).await? {
            Answer::Keys(keys) => keys,
            Answer::Refused(refused) => return Err(refused.into()),
            _ => return Err(ClientError::Confused),
        };
        let key = |bytes: &ByteArray<32>| {
            VerifyingKey::from_bytes(bytes).map_err(|_| ClientError::Confused)
        };
        let (command, ledger) = (key(&keys.command)?, key(&keys.ledger)?);
        Ok(Self { path: path.to_owned(), stream, keys, command, ledger })
    }

    /// The keys, as the signer said them when we first spoke.
    #[must_use]
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The key that every machine pins.
    #[must_use]
    pub fn command_key(&self) -> &VerifyingKey {
        &self.command
    }

    /// The key that checkpoints are signed with.
    #[must_use]
    pub fn ledger_key(&self) -> &VerifyingKey {
        &self.ledger
    }

    /// Has an assignment signed; see [`Request::Assign`].
    ///
    /// # Errors
    /// See [`ClientError`]; the same for all that follow.
    pub async fn assign(
        &self,
        draft: Assignment,
        receipt_key: Option<[u8; 32]>,
        by: Option<Approver>,
    ) -> Result<Verified<Assignment>, ClientError> {
        let receipt_key = receipt_key.map(ByteArray::new);
        self.document(Request::Assign { draft: Box::new(draft), receipt_key, by }).await
    }

    /// Whom the signer takes this side for.
    ///
    /// # Errors
    /// As above.
    pub async fn peer(&self) -> Result<Peer, ClientError> {
        match self.ask(Request::Peer).await? {
            Answer::Peer(peer) => Ok(peer),
            _ => Err(ClientError::Confused),
        }
    }

    /// Says what a machine will be that is still to enrol; see [`Request::SayAhead`].
    ///
    /// # Errors
    /// As above.
    pub async fn say_ahead(
        &self,
        said: SaidAhead,
        by: Approver,
        good_for_seconds: u32,
    ) -> Result<(), ClientError> {
        self.tell(Request::SayAhead { said: Box::new(said), by, good_for_seconds }).await
    }

    /// Has addresses of a name pinned; see [`Request::Pin`].
    ///
    /// # Errors
    /// As above; a refusal says which address is for people to confirm.
    pub async fn pin(
        &self,
        machine: MachineId,
        pin: Pin,
    ) -> Result<Verified<Assignment>, ClientError> {
        self.document(Request::Pin { machine, pin: Box::new(pin) }).await
    }

    /// The assignment in force.
    ///
    /// # Errors
    /// As above.
    pub async fn assignment(
        &self,
        machine: MachineId,
    ) -> Result<Verified<Assignment>, ClientError> {
        self.document(Request::Assignment(machine)).await
    }

    /// Has a policy signed.
    ///
    /// # Errors
    /// As above.
    pub async fn set_policy(
        &self,
        draft: Policy,
        by: Approver,
    ) -> Result<Verified<Policy>, ClientError> {
        self.document(Request::SetPolicy { draft: Box::new(draft), by }).await
    }

    /// The policy in force.
    ///
    /// # Errors
    /// As above.
    pub async fn policy(&self) -> Result<Verified<Policy>, ClientError> {
        self.document(Request::Policy).await
    }

    /// Has an order signed. [`ClientError::Refused`] with [`Refused::Rule`] is the signer's last word on
    /// this proposal; after any other error ask again with the same proposal.
    ///
    /// # Errors
    /// As above.
    pub async fn sign(&self, proposal: Proposal) -> Result<Verified<Order>, ClientError> {
        self.document(Request::Sign(Box::new(proposal))).await
    }

    /// Has the permits signed that are due now.
    ///
    /// # Errors
    /// As above.
    pub async fn renew_permits(&self) -> Result<Vec<Verified<Permit>>, ClientError> {
        match self.ask(Request::RenewPermits).await? {
            Answer::Documents(envelopes) => envelopes.iter().map(|e| self.open(e)).collect(),
            _ => Err(ClientError::Confused),
        }
    }

    /// The signed hashes of a machine's break-glass codes, made if they are due. Takes some tenths of a
    /// second then: on a connection of its own.
    ///
    /// # Errors
    /// As above.
    pub async fn codes(&self, machine: MachineId) -> Result<Verified<BreakGlass>, ClientError> {
        self.document(Request::Codes(CodesAsk::Document(machine))).await
    }

    /// Other codes for a machine.
    ///
    /// # Errors
    /// As above.
    pub async fn renew_codes(
        &self,
        machine: MachineId,
        by: Asker,
    ) -> Result<Verified<BreakGlass>, ClientError> {
        self.document(Request::Codes(CodesAsk::Renew { machine, by })).await
    }

    /// Takes what the organisation says of a machine for the person in front of it.
    ///
    /// # Errors
    /// As above.
    pub async fn set_bedside(
        &self,
        machine: MachineId,
        bedside: Bedside,
        by: Approver,
    ) -> Result<(), ClientError> {
        self.tell(Request::SetBedside { machine, bedside: Box::new(bedside), by }).await
    }

    /// What the organisation says of a machine for the person in front of it.
    ///
    /// # Errors
    /// As above.
    pub async fn bedside(&self, machine: MachineId) -> Result<Bedside, ClientError> {
        match self.ask(Request::Bedside(machine)).await? {
            Answer::Bedside(bedside) => Ok(*bedside),
            _ => Err(ClientError::Confused),
        }
    }

    /// What people in front of a machine are told, with the next machine of its kind that works.
    ///
    /// # Errors
    /// As above; a refusal is the signer's word that this is not the next one.
    pub async fn guide(
        &self,
        machine: MachineId,
        nearest: Option<MachineId>,
    ) -> Result<Verified<Guidance>, ClientError> {
        self.document(Request::Guide { machine, nearest }).await
    }

    /// How the codes of machines after one are.
    ///
    /// # Errors
    /// As above.
    pub async fn codes_rows(&self, after: Option<MachineId>) -> Result<Vec<CodesRow>, ClientError> {
        match self.ask(Request::Codes(CodesAsk::Rows { after })).await? {
            Answer::Codes(CodesAnswer::Rows(rows)) => Ok(rows),
            _ => Err(ClientError::Confused),
        }
    }

    /// What was shown to whom since.
    ///
    /// # Errors
    /// As above.
    pub async fn codes_shown(&self, after: u64) -> Result<Vec<Shown>, ClientError> {
        match self.ask(Request::Codes(CodesAsk::Shown { after })).await? {
            Answer::Codes(CodesAnswer::Shown(shown)) => Ok(shown),
            _ => Err(ClientError::Confused),
        }
    }

    /// Codes in clear: a whole sheet, or one to read out. For root alone.
    ///
    /// # Errors
    /// As above; [`Refused::NotForTheHub`].
    pub async fn show_codes(&self, ask: CodesAsk) -> Result<Sheet, ClientError> {
        match self.ask(Request::Codes(ask)).await? {
            Answer::Codes(CodesAnswer::Sheet(sheet)) => Ok(*sheet),
            _ => Err(ClientError::Confused),
        }
    }

    /// Tells the signer of a machine's receipt.
    ///
    /// # Errors
    /// As above.
    pub async fn learn(&self, machine: MachineId, receipt: Envelope) -> Result<(), ClientError> {
        self.tell(Request::Learn { machine, receipt }).await
    }

    /// Tells the signer that an order will never begin a measure.
    ///
    /// # Errors
    /// As above.
    pub async fn never_begun(&self, machine: MachineId, order: OrderId) -> Result<(), ClientError> {
        self.tell(Request::NeverBegun { machine, order }).await
    }

    /// Tells the signer that a machine denies a measure.
    ///
    /// # Errors
    /// As above.
    pub async fn not_in_force(
        &self,
        machine: MachineId,
        measure: MeasureId,
    ) -> Result<(), ClientError> {
        self.tell(Request::NotInForce { machine, measure }).await
    }

    /// Tells the signer that people are asked about a machine.
    ///
    /// # Errors
    /// As above.
    pub async fn asked(&self, machine: MachineId, approval: ApprovalId) -> Result<(), ClientError> {
        self.tell(Request::Asked { machine, approval }).await
    }

    /// Tells the signer that a machine is in contact, and how it is.
    ///
    /// # Errors
    /// As above.
    pub async fn heard(
        &self,
        machine: MachineId,
        isolation: Option<Isolation>,
    ) -> Result<(), ClientError> {
        self.tell(Request::Heard { machine, isolation }).await
    }

    /// What the signer's registry says of a machine.
    ///
    /// # Errors
    /// As above.
    pub async fn situation(&self, machine: MachineId) -> Result<Situation, ClientError> {
        match self.ask(Request::Situation(machine)).await? {
            Answer::Situation(situation) => Ok(situation),
            _ => Err(ClientError::Confused),
        }
    }

    /// Has the ledger's present state signed: the request with its proof is made here, and the answer
    /// goes to [`Client::cosign`]. Two steps, so that the ledger is not held while the signer thinks.
    ///
    /// # Errors
    /// If the ledger is shorter than what was signed: it was rewritten, or restored from a backup.
    pub fn cosign_request(
        ledger: &Ledger,
        (old, _): (u64, [u8; 32]),
    ) -> Result<Request, cordon_evidence::LedgerError> {
        let checkpoint = ledger.checkpoint();
        let proof = ledger.consistency_proof(old, checkpoint.size)?;
        Ok(Request::Cosign {
            size: checkpoint.size,
            root: ByteArray::new(checkpoint.root.0),
            proof: proof.into_iter().map(|hash| ByteArray::new(hash.0)).collect(),
        })
    }

    /// Size and root of the hub's ledger as last signed.
    ///
    /// # Errors
    /// As above.
    pub async fn last_cosigned(&self) -> Result<(u64, [u8; 32]), ClientError> {
        match self.ask(Request::LastCosigned).await? {
            Answer::Cosigned { size, root } => Ok((size, root.into_array())),
            _ => Err(ClientError::Confused),
        }
    }

    /// Has a checkpoint signed, for [`Ledger::keep`].
    ///
    /// # Errors
    /// As above; [`Refused::Inconsistent`] is an alarm: the ledger was rewritten.
    pub async fn cosign(&self, request: Request) -> Result<SignedCheckpoint, ClientError> {
        match self.ask(request).await? {
            Answer::Note(note) => {
                let signed = SignedCheckpoint::parse(&note)?;
                signed.check(&self.ledger)?;
                Ok(signed)
            }
            _ => Err(ClientError::Confused),
        }
    }

    async fn document<D: Document>(&self, request: Request) -> Result<Verified<D>, ClientError> {
        match self.ask(request).await? {
            Answer::Document(envelope) => self.open(&envelope),
            _ => Err(ClientError::Confused),
        }
    }

    fn open<D: Document>(&self, envelope: &Envelope) -> Result<Verified<D>, ClientError> {
        Ok(envelope.open(&self.command)?)
    }

    async fn tell(&self, request: Request) -> Result<(), ClientError> {
        match self.ask(request).await? {
            Answer::Done => Ok(()),
            _ => Err(ClientError::Confused),
        }
    }

    async fn ask(&self, request: Request) -> Result<Answer, ClientError> {
        match exchange(&self.path, &self.stream, &request).await? {
            Answer::Refused(refused) => Err(refused.into()),
            answer => Ok(answer),
        }
    }
}

/// Sends a request and reads its answer. After any failure (or when the caller goes away in between) the
/// connection is dropped: its next message might be the answer to another question.
async fn exchange(
    path: &Path,
    stream: &Mutex<Option<UnixStream>>,
    request: &Request,
) -> Result<Answer, ClientError> {
    let unreachable =
        |source: FrameError| ClientError::Unreachable { path: path.to_owned(), source };
    let mut slot = stream.lock().await;
    let (mut connection, is_new) = match slot.take() {
        Some(connection) => (connection, false),
        None => (connect(path).await.map_err(unreachable)?, true),
    };
    let mut answer = in_time(&mut connection, request).await;
    if !is_new && matches!(answer, Err(ref error) if !is_late(error)) {
        // The signer was started again since. Every request may be repeated.
        connection = connect(path).await.map_err(unreachable)?;
        answer = in_time(&mut connection, request).await;
    }
    let answer = answer.map_err(unreachable)?;
    *slot = Some(connection);
    Ok(answer)
}

async fn connect(path: &Path) -> Result<UnixStream, FrameError> {
    Ok(UnixStream::connect(path).await?)
}

/// A signer that hangs is as good as none, and must be shown as away.
async fn in_time(stream: &mut UnixStream, request: &Request) -> Result<Answer, FrameError> {
    let patience = match request {
        Request::Codes(_) => PATIENCE_FOR_CODES,
        _ => PATIENCE,
    };
    match tokio::time::timeout(patience, exchange_once(stream, request)).await {
        Ok(answer) => answer,
        Err(_) => Err(FrameError::Stream(std::io::ErrorKind::TimedOut.into())),
    }
}

fn is_late(error: &FrameError) -> bool {
    matches!(error, FrameError::Stream(error) if error.kind() == std::io::ErrorKind::TimedOut)
}

async fn exchange_once(stream: &mut UnixStream, request: &Request) -> Result<Answer, FrameError> {
    frame::write(stream, request, MESSAGE_BYTES).await?;
    frame::read(stream, MESSAGE_BYTES).await?.ok_or(FrameError::Torn)
}
