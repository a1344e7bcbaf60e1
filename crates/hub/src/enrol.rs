//! The listener for machines that are not known yet.
//!
//! The one idea: a stranger gets one small message, ten seconds and one kind of "no". What opens the
//! door is a secret of 256 bits, kept as a hash, used up in the same transaction that makes the machine
//! known. Everything is in the ledger, refusals too (as far as a flood of them allows).

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cordon_link::frame;
use cordon_model::ids::MachineId;
use cordon_model::limits;
use cordon_model::record::{Actor, Deed, Record};
use cordon_model::time::UtcNanos;
use cordon_model::wire::{EnrolAnswer, EnrolRequest, Enrolled};
use cordon_store::{Key, NewCertificate, NewMachine};
use ed25519_dalek::VerifyingKey;
use rustls::ServerConfig;
use serde_bytes::ByteBuf;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::authority::HUB_NAME;

use crate::board::Card;
use crate::clock::fresh_id;
use crate::keep::{self, Draft, decode};
use crate::people::Secret;
use crate::quota::{Bucket, Buckets, ENROLMENTS, ENROLMENTS_OF_ADDRESS, RECORDED_REFUSALS};
use crate::run::{Shared, stopped};

/// Enrolments under way at one time: 64, each a handshake and two syncs.
const AT_ONCE: usize = 64;

/// How long one enrolment may take in all.
const PATIENCE: Duration = Duration::from_secs(10);

/// Addresses whose rates are remembered: 10,000 × about 100 bytes.
const ADDRESSES: usize = 10_000;

/// What a stranger is told, whatever is wrong with the token.
const NO_GOOD: &str = "the token is not good, or no longer: have a new one made at the hub, it works once and for a time";

struct Rates {
    addresses: Buckets<IpAddr>,
    all: Bucket,
    recorded: Bucket,
}

/// Takes enrolments until the hub stops.
pub(crate) async fn serve(listener: TcpListener, config: ServerConfig, shared: Arc<Shared>) {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let now = Instant::now();
    let rates = Arc::new(Mutex::new(Rates {
        addresses: Buckets::new(ENROLMENTS_OF_ADDRESS, ADDRESSES, now),
        all: Bucket::full(ENROLMENTS, now),
        recorded: Bucket::full(RECORDED_REFUSALS, now),
    }));
    let mut stop = shared.stop.clone();
    let mut under_way = tokio::task::JoinSet::new();
    loop {
        let (stream, from) = tokio::select! {
            () = stopped(&mut stop) => break,
            Some(_) = under_way.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "an enrolment was lost before it began");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let Ok(seat) = room.clone().try_acquire_owned() else {
            shared.board.refused_enrolments.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let (acceptor, shared, rates) = (acceptor.clone(), shared.clone(), rates.clone());
        under_way.spawn(async move {
            let enrolment = Box::pin(enrolment(stream, from, &acceptor, &shared, &rates));
            if timeout(PATIENCE, enrolment).await.is_err() {
                refused(&shared, &rates, from, "it took too long").await;
            }
            drop(seat);
        });
    }
    under_way.shutdown().await;
}

async fn enrolment(
    stream: TcpStream,
    from: SocketAddr,
    acceptor: &TlsAcceptor,
    shared: &Arc<Shared>,
    rates: &Mutex<Rates>,
) {
    let is_within_rates = {
        let mut rates = rates.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        rates.addresses.try_take(from.ip(), now) && rates.all.try_take(now)
    };
    if !is_within_rates {
        refused(shared, rates, from, "too many enrolments at once").await;
        return;
    }
    let mut stream = match acceptor.accept(stream).await {
        Ok(stream) => stream,
        Err(error) => return refused(shared, rates, from, &format!("TLS: {error}")).await,
    };
    let request = frame::read::<EnrolRequest, _>(&mut stream, limits::ENROL_MESSAGE_BYTES).await;
    let answer = match request {
        Ok(Some(request)) => decide(request, from, shared, rates).await,
        Ok(None) => return,
        Err(error) => {
            refused(shared, rates, from, &error.to_string()).await;
            EnrolAnswer::Refused { why: "the request can't be read".into() }
        }
    };
    let written = frame::write(&mut stream, &answer, limits::MESSAGE_BYTES).await;
    if let Err(error) = written {
        tracing::warn!(%from, %error, "an enrolment's answer was lost");
    }
    let _ = stream.shutdown().await;
}

async fn decide(
    request: EnrolRequest,
    from: SocketAddr,
    shared: &Arc<Shared>,
    rates: &Mutex<Rates>,
) -> EnrolAnswer {
    match enrol(&request, shared).await {
        Ok(enrolled) => {
            let mut rates = rates.lock().unwrap_or_else(PoisonError::into_inner);
            rates.addresses.put_back(&from.ip());
            rates.all.put_back();
            EnrolAnswer::Enrolled(Box::new(enrolled))
        }
        Err(No { told, because }) => {
            refused(shared, rates, from, &because).await;
            EnrolAnswer::Refused { why: told.to_owned() }
        }
    }
}

/// What the stranger is told, and what the ledger is.
struct No {
    told: &'static str,
    because: String,
}

fn no(told: &'static str) -> impl Fn(&dyn std::fmt::Display) -> No {
    move |because| No { told, because: because.to_string() }
}

async fn enrol(request: &EnrolRequest, shared: &Arc<Shared>) -> Result<Enrolled, No> {
    let broken = no("the hub can't enrol now: try again, the token is still good");
    let no_good = no(NO_GOOD);
    let bad_request = no("the certificate request or receipt key can't be used");
    let organisation = &shared.organisation.code;
    let hash = Secret::hash_of(&request.token).ok_or_else(|| no_good(&"the token is none"))?;
    let hash = Key::new(organisation, hash);
    let token = shared.store.enrolment_token(&hash).await.map_err(|error| broken(&error))?;
    let token = token.ok_or_else(|| no_good(&"the token is not known here"))?;
    let host = host_name(&request.host).ok_or_else(|| bad_request(&"the host's name is none"))?;
    let receipt_key = VerifyingKey::from_bytes(&request.receipt_key)
        .ok()
        // A weak key is one under which anybody can sign (RFC 8032 allows what we must not).
        .filter(|key| !key.is_weak())
        .ok_or_else(|| bad_request(&"the receipt key is no Ed25519 key"))?;
    let now = UtcNanos::now();
    let machine = MachineId::new(now, fresh_id());
    let issued = shared
        .authority
        .issue(machine, &request.certificate_request, now)
        .map_err(|error| bad_request(&error))?;
    let new = NewMachine {
        id: machine,
        host: host.clone(),
        certificate: NewCertificate { fingerprint: issued.fingerprint, serial: issued.serial },
        receipt_key: request.receipt_key,
    };
    let used = shared.store.enrol(&hash, &new, now).await.map_err(|error| broken(&error))?;
    used.map_err(|refused| no_good(&refused))?;
    // From here on the machine is known; what fails now is made up for at its first link.
    let draft = decode::<Draft>(&token.note).ok();
    let card = Card::new(host.clone(), now, Some(receipt_key));
    shared.board.machines_mut().insert(machine, card);
    if let Some(draft) = &draft {
        let mut drafts = shared.drafts.lock().unwrap_or_else(PoisonError::into_inner);
        drafts.insert(machine, draft.clone());
    }
    let row = keep::draft(machine, draft.as_ref()).map_err(|error| broken(&error))?;
    let detail = format!("{host}, with a token made by {}", token.made_by);
    let record = Record {
        machine: Some(machine),
        ..shared.record(Actor::Agent(machine), Deed::Enrolled, detail)
    };
    let kept = shared.deed(move |step| {
        step.changes.push(row);
        step.record(record);
    });
    kept.await.map_err(|error| broken(&error))?;
    if let Err(error) = shared.ensure_assigned(machine).await {
        tracing::warn!(%machine, %error, "the new machine is assigned at its first link");
    }
    tracing::info!(%machine, host, "enrolled");
    Ok(Enrolled {
        machine,
        organisation: organisation.clone(),
        certificates: issued.chain.into_iter().map(ByteBuf::from).collect(),
        authority: shared.authority.certificate().to_vec(),
        command_key: shared.documents.command_key().to_bytes(),
        link: shared.link_addresses.clone(),
        hub_name: HUB_NAME.to_owned(),
    })
}

/// A host's name as it may be shown: without control characters, cut, not empty.
fn host_name(given: &str) -> Option<String> {
    let name: String = given.chars().filter(|c| !c.is_control()).take(255).collect();
    let name = name.trim().to_owned();
    (!name.is_empty()).then_some(name)
}

async fn refused(shared: &Shared, rates: &Mutex<Rates>, from: SocketAddr, because: &str) {
    shared.board.refused_enrolments.fetch_add(1, Ordering::Relaxed);
    tracing::warn!(%from, because, "an enrolment was refused");
    let is_recorded =
        rates.lock().unwrap_or_else(PoisonError::into_inner).recorded.try_take(Instant::now());
    if is_recorded {
        let detail = format!("from {}: {because}", from.ip());
        let record = shared.record(Actor::Hub, Deed::EnrolmentRefused, detail);
        let _ = shared.deed(move |step| step.record(record)).await;
    }
}
