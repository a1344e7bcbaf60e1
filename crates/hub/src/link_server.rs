//! The listener for machines: mutual TLS, one task a connection.
//!
//! The one idea (law 11): who speaks is what its certificate says and the store still knows, and nothing
//! that it says can make it anybody else. A connection's task checks and opens everything before the
//! main task sees it; what can't be read or is not genuine is refused, counted and told as a gap, and the
//! rest goes on. A frame that can't be read at all ends the connection, for its position is lost.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cordon_link::frame::{self, FrameError};
use cordon_model::finding::Finding;
use cordon_model::ids::MachineId;
use cordon_model::limits;
use cordon_model::measure::Receipt;
use cordon_model::wire::{Coverage, FromAgent, FromHub, Hello, Numbered, Report, VERSION};
use cordon_store::Key;
use ed25519_dalek::VerifyingKey;
use rustls::ServerConfig;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::links::LinkSide;
use crate::quota::{ATTEMPTS_OF_ADDRESS, BYTES, Bucket, Buckets, MESSAGES, REPORTS};
use crate::run::{Shared, stopped};
use crate::work::{Input, Reported, ReportedWhat};

/// Connections at one time: 20,000, four times a large trust's machines; about 64 KiB each, 1.3 GB at the
/// very most.
const CONNECTIONS: usize = 20_000;

/// Handshakes at one time: 256; each costs about half a millisecond of one core.
const HANDSHAKES: usize = 256;

/// Connections that have not shown yet who they are: 2,000, so that strangers who only connect do not
/// take the seats of machines.
const STRANGERS: usize = 2_000;

/// Addresses whose rates are remembered: 10,000 × about 100 bytes.
const ADDRESSES: usize = 10_000;

/// How long TLS and hello may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A link on which nothing is heard for this long is closed: agents speak every 2 s.
const SILENCE: Duration = Duration::from_secs(30);

/// How long one message may take to be written: a machine that reads nothing holds its task no longer.
const WRITE_WITHIN: Duration = Duration::from_secs(10);

/// Messages of one machine that are on their way to the disk: 2, so that one is checked while the other is
/// written, and a machine in a flood stands at most 2 × 16 findings before another's.
const UNDER_WAY: usize = 2;

/// Report numbers stay below this, so that arithmetic on them can't overflow: 2⁶².
const NUMBERS: u64 = 1 << 62;

/// Coverage lines in a hello; an agent has about ten.
const COVERAGE_LINES: usize = 64;

/// Tags of one rule; the most tagged rule of SigmaHQ has about 20.
const TAGS: usize = 128;

/// The buckets of every machine, so that connecting again does not refill them. One entry for each
/// enrolled machine that was ever linked.
type Quotas = Mutex<HashMap<MachineId, Quota>>;

#[derive(Debug, Clone, Copy)]
struct Quota {
    messages: Bucket,
    reports: Bucket,
    bytes: Bucket,
}

/// Why a connection was refused or ended.
#[derive(Debug, thiserror::Error)]
enum LinkEnd {
    #[error("TLS: {0}")]
    Tls(std::io::Error),
    #[error("it took too long")]
    Slow,
    #[error("its certificate names no machine of this organisation")]
    Nameless,
    #[error("the machine is not, or no longer, known here")]
    Unknown,
    #[error("version {0} is not spoken here; this hub speaks {VERSION} and the one before")]
    Version(u16),
    #[error("its first message is no hello, or its hello is not readable")]
    NoHello,
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Protocol(&'static str),
    #[error("{0}")]
    Ended(String),
    #[error("nothing was heard for {} s", SILENCE.as_secs())]
    Silent,
    #[error(transparent)]
    Store(#[from] cordon_store::StoreError),
}

/// Takes connections until the hub stops.
pub(crate) async fn serve(listener: TcpListener, config: ServerConfig, shared: Arc<Shared>) {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    let quotas = Arc::new(Quotas::default());
    let strangers = Arc::new(Semaphore::new(STRANGERS));
    let attempts = Buckets::new(ATTEMPTS_OF_ADDRESS, ADDRESSES, Instant::now());
    let attempts = Arc::new(Mutex::new(attempts));
    let mut stop = shared.stop.clone();
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, from) = tokio::select! {
            () = stopped(&mut stop) => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, most likely: the links that are up go on.
                    tracing::warn!(%error, "a connection was lost before it began");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let is_within_rate = attempts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .try_take(from.ip(), Instant::now());
        let seats = (room.clone().try_acquire_owned(), strangers.clone().try_acquire_owned());
        let (true, (Ok(seat), Ok(stranger))) = (is_within_rate, seats) else {
            shared.board.refused_links.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let door = Door { attempts: attempts.clone(), from, stranger };
        let (acceptor, handshakes) = (acceptor.clone(), handshakes.clone());
        let (shared, quotas) = (shared.clone(), quotas.clone());
        connections.spawn(async move {
            let end = Box::pin(connection(stream, door, &acceptor, &handshakes, &shared, &quotas));
            if let Err(end) = end.await {
                tracing::info!(%from, %end, "a link ended");
            }
            drop(seat);
        });
    }
    connections.shutdown().await;
}

/// What a connection holds until it has shown who it is.
struct Door {
    attempts: Arc<Mutex<Buckets<IpAddr>>>,
    from: SocketAddr,
    stranger: OwnedSemaphorePermit,
}

impl Door {
    /// It is a machine: it gives up its stranger's seat, and its attempt counts for nothing.
    fn passed(self) {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.put_back(&self.from.ip());
        drop(self.stranger);
    }
}

async fn connection(
    stream: TcpStream,
    door: Door,
    acceptor: &TlsAcceptor,
    handshakes: &Semaphore,
    shared: &Arc<Shared>,
    quotas: &Quotas,
) -> Result<(), LinkEnd> {
    let refused = |end: LinkEnd| {
        shared.board.refused_links.fetch_add(1, Ordering::Relaxed);
        end
    };
    // Findings and orders are each one small packet; waiting for more would cost 40 ms.
    stream.set_nodelay(true).map_err(LinkEnd::Tls)?;
    let handshake = async {
        let _turn = handshakes.acquire().await;
        acceptor.accept(stream).await
    };
    let stream = timeout(PATIENCE, handshake)
        .await
        .map_err(|_| refused(LinkEnd::Slow))?
        .map_err(|error| refused(LinkEnd::Tls(error)))?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let certificate = certificate.ok_or_else(|| refused(LinkEnd::Nameless))?;
    let fingerprint: [u8; 32] = Sha256::digest(certificate).into();
    let machine =
        shared.authority.machine_of(certificate).ok_or_else(|| refused(LinkEnd::Nameless))?;
    let receipt_key = admitted(shared, machine, fingerprint).await.map_err(refused)?;
    let (mut reader, writer) = tokio::io::split(stream);
    let hello = timeout(PATIENCE, frame::read::<FromAgent, _>(&mut reader, limits::MESSAGE_BYTES));
    let hello = match hello.await.map_err(|_| refused(LinkEnd::Slow))? {
        Ok(Some(FromAgent::Hello(hello))) if is_sound_hello(&hello) => hello,
        Ok(None) => return Err(refused(LinkEnd::NoHello)),
        // It is a machine of ours, and what it says is no hello, or no sound one.
        Ok(Some(_)) => {
            shared.board.refused_messages.fetch_add(1, Ordering::Relaxed);
            return Err(refused(LinkEnd::NoHello));
        }
        Err(error) => {
            count_unreadable(shared, &error);
            return Err(refused(LinkEnd::NoHello));
        }
    };
    if hello.version == 0 || hello.version.saturating_add(1) < VERSION {
        let end = LinkEnd::Version(hello.version);
        goodbye(writer, &end).await;
        return Err(refused(end));
    }
    if shared.ensure_assigned(machine).await.is_err() {
        goodbye(writer, &LinkEnd::Ended("the signer is away; try again".into())).await;
        return Err(refused(LinkEnd::Unknown));
    }
    shared.board.change(machine, |card| card.address = Some(door.from.ip()));
    door.passed();
    let side = shared.links.open(machine);
    let number = side.number;
    // It may have been struck off since: whoever does that after this ends the link that it finds open.
    if let Err(end) = still_a_member(shared, machine) {
        shared.links.close(machine, number);
        return Err(refused(end));
    }
    let mut conversation = Conversation {
        machine,
        number,
        receipt_key,
        shared,
        quotas,
        turns: Arc::new(Semaphore::new(UNDER_WAY)),
    };
    shared.tell(Input::Linked { machine, link: number, hello: Box::new(hello) }).await;
    let end = conversation.run(reader, writer, side).await;
    shared.links.close(machine, number);
    shared.tell(Input::Unlinked { machine, link: number }).await;
    end
}

/// Whether this certificate is the one that the store knows the machine by, and the machine may speak.
async fn admitted(
    shared: &Shared,
    machine: MachineId,
    fingerprint: [u8; 32],
) -> Result<VerifyingKey, LinkEnd> {
    let known = shared.store.machine(&Key::new(&shared.organisation.code, machine)).await?;
    let known = known.filter(|known| known.certificate == fingerprint).ok_or(LinkEnd::Unknown)?;
    still_a_member(shared, machine)?;
    VerifyingKey::from_bytes(&known.receipt_key).map_err(|_| LinkEnd::Unknown)
}

fn still_a_member(shared: &Shared, machine: MachineId) -> Result<(), LinkEnd> {
    let is_struck_off = shared.board.card(machine).is_none_or(|card| card.is_struck_off);
    if is_struck_off { Err(LinkEnd::Unknown) } else { Ok(()) }
}

/// A message that can't be read is counted; a connection that was lost is none.
fn count_unreadable(shared: &Shared, error: &FrameError) {
    if matches!(error, FrameError::TooLong { .. } | FrameError::Unreadable(_)) {
        shared.board.refused_messages.fetch_add(1, Ordering::Relaxed);
    }
}

async fn goodbye(mut to: impl AsyncWrite + Unpin, why: &LinkEnd) {
    let message = FromHub::Goodbye { why: why.to_string() };
    let _ = timeout(WRITE_WITHIN, frame::write(&mut to, &message, limits::MESSAGE_BYTES)).await;
    let _ = timeout(WRITE_WITHIN, to.shutdown()).await;
}

fn is_sound_hello(hello: &Hello) -> bool {
    is_short(&hello.build)
        && is_short(&hello.host)
        && hello.boot.0.len() <= 64
        && is_sound_coverage(&hello.coverage)
}

fn is_sound_coverage(coverage: &[Coverage]) -> bool {
    coverage.len() <= COVERAGE_LINES
        && coverage.iter().all(|line| {
            is_short(&line.what)
                && line.by.as_deref().is_none_or(is_short)
                && line.gap.as_deref().is_none_or(is_short)
        })
}

fn is_short(text: &str) -> bool {
    text.len() <= limits::NAME_BYTES
}

/// One machine's conversation with the hub.
struct Conversation<'a> {
    machine: MachineId,
    number: u64,
    receipt_key: VerifyingKey,
    shared: &'a Shared,
    quotas: &'a Quotas,
    turns: Arc<Semaphore>,
}

impl Conversation<'_> {
    async fn run(
        &mut self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        side: LinkSide,
    ) -> Result<(), LinkEnd> {
        let LinkSide { mut messages, mut end, .. } = side;
        let mut stop = self.shared.stop.clone();
        let listening = self.listen(&mut from);
        tokio::pin!(listening);
        let ended = loop {
            tokio::select! {
                biased;
                () = stopped(&mut stop) => break Err(LinkEnd::Ended("the hub stops".into())),
                why = ending(&mut end) => break Err(LinkEnd::Ended(why)),
                message = messages.recv() => {
                    let Some(message) = message else { break Ok(()) };
                    let write = frame::write(&mut to, &message, limits::MESSAGE_BYTES);
                    match timeout(WRITE_WITHIN, write).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => return Err(error.into()),
                        Err(_) => return Err(LinkEnd::Slow),
                    }
                }
                ended = &mut listening => break ended,
            }
        };
        if let Err(why) = &ended {
            goodbye(&mut to, why).await;
        }
        ended
    }

    async fn listen(&self, from: &mut (impl AsyncRead + Unpin)) -> Result<(), LinkEnd> {
        loop {
            let message =
                timeout(SILENCE, frame::read_counted::<FromAgent, _>(from, limits::MESSAGE_BYTES));
            let (message, bytes) = match message.await.map_err(|_| LinkEnd::Silent)? {
                Ok(Some(message)) => message,
                Ok(None) => return Ok(()),
                Err(error) => {
                    count_unreadable(self.shared, &error);
                    return Err(error.into());
                }
            };
            let pause = self.pause_after(&message, bytes);
            if let Err(end) = self.hear(message).await {
                if let LinkEnd::Protocol(what) = &end {
                    self.shared.board.refused_messages.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(machine = %self.machine, what, "a message was refused");
                }
                return Err(end);
            }
            if !pause.is_zero() {
                tracing::debug!(machine = %self.machine, ?pause, "it sends more than it may");
                tokio::time::sleep(pause).await;
            }
        }
    }

    fn pause_after(&self, message: &FromAgent, bytes: usize) -> Duration {
        let now = Instant::now();
        let mut quotas = self.quotas.lock().unwrap_or_else(PoisonError::into_inner);
        let quota = quotas.entry(self.machine).or_insert_with(|| Quota {
            messages: Bucket::full(MESSAGES, now),
            reports: Bucket::full(REPORTS, now),
            bytes: Bucket::full(BYTES, now),
        });
        let reports = match message {
            FromAgent::Reports(reports) => reports.len(),
            FromAgent::Hello(_)
            | FromAgent::Coverage(_)
            | FromAgent::OrderTaken(_)
            | FromAgent::Status(_)
            | FromAgent::Looked { .. } => 0,
        };
        // Counts of at most a mebibyte are exact in an f64.
        quota
            .messages
            .take(1.0, now)
            .max(quota.reports.take(reports as f64, now))
            .max(quota.bytes.take(bytes as f64, now))
    }

    async fn hear(&self, message: FromAgent) -> Result<(), LinkEnd> {
        let (machine, link) = (self.machine, self.number);
        let input = match message {
            FromAgent::Hello(_) => return Err(LinkEnd::Protocol("a second hello")),
            FromAgent::Reports(reports) => {
                if reports.len() > limits::FINDINGS_PER_MESSAGE {
                    return Err(LinkEnd::Protocol("more reports in a message than it may have"));
                }
                let rises = reports.is_sorted_by(|a, b| a.number < b.number);
                if !rises || reports.iter().any(|r| r.number == 0 || r.number >= NUMBERS) {
                    return Err(LinkEnd::Protocol("report numbers must rise, from 1"));
                }
                let reports = reports.into_iter().map(|report| self.open(report)).collect();
                let Some(turn) = self.turn().await else { return Ok(()) };
                Input::Reports { machine, link, reports, turn }
            }
            FromAgent::Coverage(coverage) => {
                if !is_sound_coverage(&coverage) {
                    return Err(LinkEnd::Protocol("more of what it can see than it may say"));
                }
                Input::Covered { machine, link, coverage }
            }
            FromAgent::OrderTaken(order) => Input::OrderTaken { machine, link, order },
            FromAgent::Looked { number, seen } => {
                if !seen.is_bounded() {
                    return Err(LinkEnd::Protocol("an answer longer than it may be"));
                }
                self.shared.looks.answer(machine, number, seen);
                return Ok(());
            }
            FromAgent::Status(status) => {
                if !status.holds.is_within_limits() {
                    return Err(LinkEnd::Protocol("more in a status than it may have"));
                }
                let Some(turn) = self.turn().await else { return Ok(()) };
                Input::Status { machine, link, status: Box::new(status), turn }
            }
        };
        self.shared.tell(input).await;
        Ok(())
    }

    /// Waits until what this machine sent before is on disk, as far as it must be.
    async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        self.turns.clone().acquire_owned().await.ok()
    }

    /// Checks one report. One that is not taken becomes a gap under its own number: it is said, and the
    /// machine need not send it again.
    fn open(&self, Numbered { number, report }: Numbered) -> Reported {
        let what = match report {
            Report::Finding(finding) => match unsound(&finding) {
                None => {
                    let touched = self.shared.board.machines_at(&addresses_in(&finding));
                    ReportedWhat::Finding(finding, touched)
                }
                Some(why) => self.refuse(format!("a finding was refused: {why}")),
            },
            Report::Receipt(envelope) => match envelope.open::<Receipt>(&self.receipt_key) {
                Ok(receipt) if receipt.machine == self.machine => {
                    ReportedWhat::Receipt(Box::new(receipt))
                }
                Ok(_) => self.refuse("it sent a receipt in another machine's name; refused".into()),
                Err(error) => self.refuse(format!("a receipt was refused: {error}")),
            },
            Report::OrderRefused { order, why } => {
                ReportedWhat::OrderRefused(order, shortened(&why))
            }
            // Nothing of a number: something is wrong, and no event is known to be lost by it.
            Report::Gap { events: 0, what, .. } => ReportedWhat::Gap(shortened(&what)),
            Report::Gap { events, what, .. } => {
                ReportedWhat::Gap(format!("{events} events lost: {}", shortened(&what)))
            }
        };
        Reported { number, what }
    }

    fn refuse(&self, why: String) -> ReportedWhat {
        self.shared.board.refused_messages.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(machine = %self.machine, "{why}");
        ReportedWhat::Gap(why)
    }
}

/// Waits until the link is to end, and says why.
async fn ending(end: &mut watch::Receiver<Option<String>>) -> String {
    match end.wait_for(Option::is_some).await {
        Ok(why) => why.clone().unwrap_or_default(),
        Err(_) => "another connection of this machine took its place".into(),
    }
}

fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(limits::NAME_BYTES / 4).collect()
}

/// What is wrong with a finding's sizes: an honest agent keeps to them.
fn unsound(finding: &Finding) -> Option<&'static str> {
    let is_long = |text: &str| text.len() > limits::NAME_BYTES;
    if finding.raw.json.len() > limits::RAW_EVENT_BYTES {
        return Some("its raw event is larger than is taken");
    }
    if finding.matched.len() > limits::MATCHED_FIELDS_PER_FINDING {
        return Some("it has more matched fields than are taken");
    }
    let matched = finding.matched.iter();
    let rule = &finding.rule;
    let texts = [&rule.id, &rule.title, &finding.host].into_iter().chain(&rule.tags);
    let is_too_long = texts.into_iter().any(|text| is_long(text))
        || matched.into_iter().any(|m| {
            is_long(&m.field) || m.value.len() + m.pattern.len() > limits::RAW_EVENT_BYTES
        })
        || finding
            .process
            .as_ref()
            .is_some_and(|process| process.image.len() > 8 * limits::NAME_BYTES);
    if is_too_long {
        return Some("it has a name that is longer than is taken");
    }
    (rule.tags.len() > TAGS).then_some("its rule has more tags than are taken")
}

/// The addresses that a connection's event names, wherever the source puts them.
fn addresses_in(finding: &Finding) -> Vec<IpAddr> {
    const FIELDS: [&str; 2] = ["DestinationIp", "SourceIp"];
    let Ok(serde_json::Value::Object(event)) = serde_json::from_str(&finding.raw.json) else {
        return Vec::new();
    };
    let nested = event.values().filter_map(serde_json::Value::as_object);
    std::iter::once(&event)
        .chain(nested)
        .flat_map(|object| FIELDS.iter().filter_map(|field| object.get(*field)))
        .filter_map(|value| value.as_str()?.parse().ok())
        .filter(|address: &IpAddr| !address.is_loopback() && !address.is_unspecified())
        .take(4)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_model::event::RawEvent;
    use cordon_model::finding::RuleRef;
    use cordon_model::ids::FindingId;
    use cordon_model::time::UtcNanos;

    fn finding(json: &str) -> Finding {
        Finding {
            id: FindingId::of("r", "h", &[0; 32]),
            rule: RuleRef {
                id: "r".into(),
                title: "r".into(),
                level: Default::default(),
                tags: vec![],
            },
            host: "h".into(),
            time: UtcNanos::from_unix_nanos(0),
            boot_time: None,
            process: None,
            matched: vec![],
            raw: RawEvent { json: json.into(), is_cut: false },
            raw_sha256: [0; 32],
        }
    }

    #[test]
    fn the_other_side_of_a_connection_is_found_wherever_the_event_names_it() {
        let flat = finding(r#"{"DestinationIp":"10.0.0.7","DestinationPort":445}"#);
        let nested =
            finding(r#"{"EventData":{"DestinationIp":"10.0.0.7","SourceIp":"127.0.0.1"}}"#);
        for finding in [flat, nested] {
            assert_eq!(addresses_in(&finding), ["10.0.0.7".parse::<IpAddr>().unwrap()]);
        }
        assert!(addresses_in(&finding("not json")).is_empty());
    }

    #[test]
    fn a_finding_larger_than_an_honest_one_is_refused() {
        assert!(unsound(&finding("{}")).is_none());
        assert!(unsound(&finding(&"x".repeat(limits::RAW_EVENT_BYTES + 1))).is_some());
        let mut tagged = finding("{}");
        tagged.rule.tags = vec![String::new(); TAGS + 1];
        assert!(unsound(&tagged).is_some());
    }
}
