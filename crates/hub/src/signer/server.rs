//! The signer's socket: who may speak, and one request after another.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cordon_link::frame::{self, FrameError};
use cordon_model::break_glass::BreakGlass;
use cordon_model::ids::OdsCode;
use cordon_model::time::{BootId, BootNanos, UtcNanos};
use cordon_respond::clock::Moment;
use nix::time::{ClockId, clock_gettime};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::codes::CodesAsk;
use super::desk::{Broken, Desk};
use super::hardening::{Unsafe, User, give_up};
use super::protocol::{Answer, MESSAGE_BYTES, Peer, Refused, Request};

/// Connections of the hub that are answered at one time, and as many of root, apart, so that a stolen hub
/// can't shut root out. A hub has five.
const SEATS: usize = 8;
/// Connections that may wait for a seat. A hub that was killed leaves its own to be wound up, after the
/// work that it had asked for, and the one that is started in its place must not be turned away meanwhile.
const WAITING: usize = 32;
/// How long they wait: whoever knocks is told rather than left at the door.
const PATIENCE: Duration = Duration::from_secs(10);

/// How far behind others the hashing of codes is (`nice(2)`): it gets a tenth of a core that orders want too,
/// and all of one that nobody wants.
const BEHIND_OTHERS: i32 = 10;

/// What the signer needs to know.
#[derive(Debug, Clone)]
pub struct SignerConfig {
    /// Its keys, memory and ledger; its own, mode 700.
    pub directory: PathBuf,
    /// Where it listens. The directory must be writable by the signer's user alone.
    pub socket: PathBuf,
    /// Whose signer it is.
    pub organisation: OdsCode,
    /// The user that the hub runs as: with root, the only one that is answered.
    pub hub_uid: u32,
    /// Whom to become when started as root.
    pub user: Option<User>,
}

/// Why the signer does not run.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// It would not be safe.
    #[error(transparent)]
    Unsafe(#[from] Unsafe),
    /// It can't go on.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// Its socket.
    #[error("the signer can't {what} {path}")]
    Socket {
        /// What was tried.
        what: &'static str,
        /// The socket.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The system.
    #[error("the signer can't {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Runs the signer until SIGTERM or SIGINT. This is the whole of its process: call it from `main`,
/// before any other thread is started.
///
/// # Errors
/// See [`SignerError`].
pub fn serve(config: &SignerConfig) -> Result<(), SignerError> {
    for left in give_up(config.user)? {
        tracing::warn!("the signer is less safe than it could be: {left}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("start"))?;
    runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).map_err(system("take signals"))?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(system("take signals"))?;
        serve_until(config, async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
        .await
    })
}

/// The same within a runtime, until `stop`; gives up nothing. For tests, and for drills that run all
/// roles in one process.
///
/// # Errors
/// See [`SignerError`].
pub async fn serve_until(
    config: &SignerConfig,
    stop: impl Future<Output = ()>,
) -> Result<(), SignerError> {
    let clock = Clock::start()?;
    let desk = Desk::open(&config.directory, &config.organisation, &clock.now()?)?;
    let desk = Arc::new(Mutex::new(desk));
    let listener = listen(&config.socket)?;
    let (hub, keeper) = (Room::new(), Room::new());
    // One at a time: each takes tens of mebibytes.
    let hashing = Arc::new(Semaphore::new(1));
    let (failed, mut failure) = mpsc::channel::<SignerError>(1);
    let mut connections = tokio::task::JoinSet::new();
    tokio::pin!(stop);
    let ended = loop {
        let stream = tokio::select! {
            () = &mut stop => break Ok(()),
            Some(error) = failure.recv() => break Err(error),
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, most likely: the others go on.
                    tracing::warn!(%error, "a connection to the signer was lost");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let peer = match admit(&stream, config.hub_uid) {
            Ok(peer) => peer,
            Err(why) => {
                tracing::warn!("a connection to the signer was refused: {why}");
                continue;
            }
        };
        let room = match peer {
            Peer::Hub => &hub,
            Peer::Keeper => &keeper,
        };
        let Ok(place) = room.places.clone().try_acquire_owned() else {
            tracing::warn!("a connection to the signer was refused: {WAITING} wait already");
            continue;
        };
        let seats = room.seats.clone();
        let (desk, clock, failed) = (desk.clone(), clock.clone(), failed.clone());
        let hashing = hashing.clone();
        connections.spawn(async move {
            let Ok(_seat) = tokio::time::timeout(PATIENCE, seats.acquire_owned()).await else {
                tracing::warn!("a connection to the signer was refused: {SEATS} are open");
                return;
            };
            let talk = converse(stream, peer, &desk, &clock, &hashing);
            if let Err(error) = talk.await {
                let _ = failed.try_send(error);
            }
            drop(place);
        });
    };
    connections.shutdown().await;
    let _ = std::fs::remove_file(&config.socket);
    if ended.is_ok()
        && let Some(desk) = Arc::into_inner(desk)
    {
        desk.into_inner().unwrap_or_else(PoisonError::into_inner).close()?;
    }
    ended
}

/// How many connections of one kind of peer there may be: on seats they are answered, and some may wait.
struct Room {
    places: Arc<Semaphore>,
    seats: Arc<Semaphore>,
}

impl Room {
    fn new() -> Self {
        Self {
            places: Arc::new(Semaphore::new(SEATS + WAITING)),
            seats: Arc::new(Semaphore::new(SEATS)),
        }
    }
}

/// Answers one connection until it ends or says what is not understood.
async fn converse(
    mut stream: UnixStream,
    peer: Peer,
    desk: &Mutex<Desk>,
    clock: &Clock,
    hashing: &Semaphore,
) -> Result<(), SignerError> {
    loop {
        let request: Request = match frame::read(&mut stream, MESSAGE_BYTES).await {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(()),
            Err(error) => {
                tracing::warn!(%error, "a message to the signer was refused");
                if matches!(error, FrameError::Unreadable(_)) {
                    let refused = Refused::Malformed(error.to_string());
                    let _ =
                        frame::write(&mut stream, &Answer::Refused(refused), MESSAGE_BYTES).await;
                }
                return Ok(());
            }
        };
        let now = clock.now()?;
        let made = match &request {
            Request::Codes(ask) => make_codes(ask, desk, &now, hashing).await?,
            _ => None,
        };
        let answer = at(desk)?.answer_to(peer, request, made, &now)?;
        let sent = frame::write(&mut stream, &answer, MESSAGE_BYTES).await;
        at(desk)?.settle()?;
        if let Err(error) = sent {
            tracing::warn!(%error, "an answer of the signer was lost");
            return Ok(());
        }
    }
}

/// Makes what the ask needs, with the desk free for others meanwhile.
async fn make_codes(
    ask: &CodesAsk,
    desk: &Mutex<Desk>,
    now: &Moment,
    hashing: &Semaphore,
) -> Result<Option<BreakGlass>, SignerError> {
    let _turn = hashing.acquire().await;
    // A refusal is said, and written down, by the desk itself.
    let Ok(Some(making)) = at(desk)?.codes_to_make(ask, now)? else { return Ok(None) };
    let (made, is_made) = oneshot::channel();
    // A thread of its own, behind all others: nobody waits for it as orders are waited for.
    let hashing = std::thread::Builder::new().name("codes".into()).spawn(move || {
        let _ = rustix::process::nice(BEHIND_OTHERS);
        let _ = made.send(making.hash());
    });
    hashing.map_err(system("start to hash codes"))?;
    match is_made.await {
        Ok(Ok(document)) => Ok(Some(document)),
        Ok(Err(why)) => Err(system("hash a code")(io::Error::other(why))),
        Err(error) => Err(system("hash a code")(io::Error::other(error))),
    }
}

/// The desk, for one request. A panic while it was held would leave its memory ahead of its disk: stop.
fn at(desk: &Mutex<Desk>) -> Result<MutexGuard<'_, Desk>, SignerError> {
    desk.lock().map_err(|_| {
        let source = io::Error::other("an earlier request failed half-way");
        SignerError::System { what: "go on", source }
    })
}

/// Who the other side is: root or the signer's own user, who could read the keys anyway, or the hub's.
fn admit(stream: &UnixStream, hub_uid: u32) -> Result<Peer, String> {
    let own = nix::unistd::geteuid().as_raw();
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == 0 || peer.uid() == own => Ok(Peer::Keeper),
        Ok(peer) if peer.uid() == hub_uid => Ok(Peer::Hub),
        Ok(peer) => Err(format!("user {} is not the hub's", peer.uid())),
        Err(error) => Err(format!("the system does not say whose it is: {error}")),
    }
}

fn listen(path: &Path) -> Result<UnixListener, SignerError> {
    let failed = |what| {
        let path = path.to_owned();
        move |source| SignerError::Socket { what, path, source }
    };
    // What a killed signer left. Two signers at once are kept apart by the lock on the journal, which
    // was taken before.
    match std::fs::symlink_metadata(path) {
        Ok(old) if old.file_type().is_socket() => {
            std::fs::remove_file(path).map_err(failed("remove the old"))?;
        }
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed("listen at"))?;
    // Anybody may knock: the peer's credentials decide, and they can't be forged.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))
        .map_err(failed("open"))?;
    Ok(listener)
}

/// Reads the clocks of this machine.
#[derive(Debug, Clone)]
struct Clock {
    boot: BootId,
}

impl Clock {
    fn start() -> Result<Self, SignerError> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map_err(system("read which boot this is"))?;
        Ok(Self { boot: BootId(boot.trim().to_owned()) })
    }

    fn now(&self) -> Result<Moment, SignerError> {
        let at = clock_gettime(ClockId::CLOCK_BOOTTIME)
            .map_err(|error| system("read the clock")(error.into()))?;
        let at = Duration::from(at);
        Ok(Moment {
            boot: self.boot.clone(),
            at: BootNanos(u64::try_from(at.as_nanos()).unwrap_or(u64::MAX)),
            utc: UtcNanos::now(),
            // Nobody above this process vouches for a time; running time is what its budgets count.
            trusted_utc: None,
        })
    }
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> SignerError {
    move |source| SignerError::System { what, source }
}
