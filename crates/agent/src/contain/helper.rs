//! The privileged process: one loop around a [`Executor`], on a Unix socket that only the agent and root
//! may speak to.
//!
//! It decides in one thread, so nothing is ever half decided, and it waits for whichever comes first: a
//! request, a change of any nftables table (the kernel notifies), the next step of a lease, the end of what
//! takes long and is done beside. It opens its
//! socket only when what is on disk is in force again. When it ends, by whatever signal, the kernel goes
//! on holding the rules.

use std::convert::Infallible;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cordon_link::frame;
use cordon_model::time::{BootId, BootNanos};
use cordon_respond::lease::CHECKPOINT;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};
use serde::Serialize;

use super::bulletin::Places;
use super::door::Door;
use super::enforce::Enforcer;
use super::executor::Executor;
use super::lookout::{self, LookoutConfig};
use super::moment::{Clocks, boot_time};
use super::netlink::NetlinkError;
use super::pace::{Pace, looked_for};
use super::protocol::{Answer, Ask, Event, FromHelper, MESSAGE_BYTES, Request};
use super::resident::give_back;
use super::survey::SurveyConfig;
use super::table::{Change, Watch};
use super::urgency::{Urgency, go_first};

/// Connections at once: the agent, one that replaces it, and administrators who look.
const CONNECTIONS: usize = 8;
/// What may wait to be read by one connection: four of the longest messages. Who reads no faster is
/// hung up on, and finds everything again when it comes back.
const UNSENT_BYTES: usize = 4 * MESSAGE_BYTES;
/// Between two ticks, however near the end of a lease, so that what can't be done is not tried in a
/// busy loop.
const BETWEEN_TICKS: Duration = Duration::from_millis(100);

/// While somebody stands at the door it is looked at this often, so that who says nothing is sent away.
const DOOR_WAIT: Duration = Duration::from_secs(1);

/// What a helper is told at its start, and by nobody later.
#[derive(Debug, Clone)]
pub struct HelperConfig {
    /// Its socket. The folder must be one that only root can write to.
    pub socket: PathBuf,
    /// The socket that any user may speak to, to open this machine by a code; `None`: there is none.
    pub door: Option<PathBuf>,
    /// Where the person in front of the machine is told; `None`: nowhere.
    pub notice: Option<Places>,
    /// Its folder, which only root reads.
    pub state: PathBuf,
    /// The socket of the warden, who answers the kernel whether a program may be started.
    pub warden: PathBuf,
    /// The agent's user: it alone, besides root, may ask, and it alone may use the hub's link.
    pub agent_user: u32,
    /// How this machine is looked at for what starts by itself or lets somebody in; `None`: it is not.
    pub survey: Option<SurveyConfig>,
    /// Who looks out for changes of what starts by itself or lets somebody in; `None`: nobody does.
    pub lookout: Option<LookoutConfig>,
    /// Which boot this is, if not to be read from the kernel (to try out a restart of the machine).
    pub boot: Option<BootId>,
}

/// Why a helper can't serve.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// The kernel can't be asked.
    #[error("containment is not possible here: {0}")]
    Kernel(#[from] NetlinkError),
    /// Disk or socket.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// What happened.
        source: io::Error,
    },
}

fn failed(doing: impl Into<String>) -> impl FnOnce(io::Error) -> HelperError {
    let doing = doing.into();
    move |source| HelperError::Io { doing, source }
}

/// Serves until the process is ended. Everything is done in this thread's network namespace.
///
/// # Errors
/// [`HelperError`] when it can't begin, or the socket fails.
pub fn serve(config: &HelperConfig) -> Result<Infallible, HelperError> {
    let clocks = match &config.boot {
        Some(boot) => Clocks::of_boot(boot.clone()),
        None => Clocks::of_this_boot().map_err(failed("reading the boot's id"))?,
    };
    let urgency = go_first();
    if urgency == Urgency::Ordinary {
        tracing::warn!("a busy machine can delay containment: this process may not go first");
    }
    // Before the first look, so that no change after it goes unnoticed.
    let watch = Watch::open()?;
    let enforcer = Enforcer::open(config.agent_user)?;
    let mut executor = Executor::start(&config.state, &config.warden, clocks, enforcer)
        .map_err(failed(format!("taking up the state in {}", config.state.display())))?;
    let own_ports = executor.ports()?;
    if let Some(places) = &config.notice {
        executor.tell_people_at(places.clone());
    }
    let listener = listen(config)
        .map_err(failed(format!("opening the socket {}", config.socket.display())))?;
    let door = match &config.door {
        None => None,
        Some(socket) => Some(
            Door::open(socket)
                .map_err(failed(format!("opening the socket {}", socket.display())))?,
        ),
    };
    // Without it everything else goes on: whoever asks is told that nobody looks.
    if let Some(survey) = &config.survey
        && let Err(error) = executor.survey_by(survey.clone())
    {
        tracing::error!(%error, "this machine can't be looked at for what starts by itself");
    }
    if let Some(config) = &config.lookout
        && let Err(error) =
            lookout::start(config.clone()).and_then(|()| executor.tell_changes_by(config.telling()))
    {
        tracing::error!(%error, "nobody can look out for changes on this machine");
    }
    // What holds the network back until then is let go; an isolation stands with or without it.
    if let Err(error) = super::ready::tell() {
        tracing::warn!(%error, "the service manager can't be told that this is ready");
    }
    let mut server = Server {
        door,
        executor,
        watch,
        own_ports,
        listener,
        agent_user: config.agent_user,
        connections: Vec::new(),
        pace: Pace::new(Instant::now()),
        ticked: Instant::now(),
    };
    // The start is over, and the most of what it touched is never looked at again.
    give_back();
    loop {
        server.turn().map_err(failed("waiting for requests"))?;
    }
}

fn listen(config: &HelperConfig) -> io::Result<UnixListener> {
    // A socket left by a helper that was killed; a live one is not asked, for there is one helper.
    match std::fs::remove_file(&config.socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Bound under another name and renamed: nobody sees it before it has its owner and mode.
    let fresh = config.socket.with_extension("new");
    let _ = std::fs::remove_file(&fresh);
    let listener = UnixListener::bind(&fresh)?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
    std::os::unix::fs::chown(&fresh, Some(config.agent_user), None)?;
    std::fs::rename(&fresh, &config.socket)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

struct Server {
    door: Option<Door>,
    executor: Executor,
    watch: Watch,
    own_ports: [u32; 2],
    listener: UnixListener,
    agent_user: u32,
    connections: Vec<Connection>,
    pace: Pace,
    ticked: Instant,
}

impl Server {
    /// Waits for something, and does it.
    fn turn(&mut self) -> io::Result<()> {
        let mut waiting = vec![
            PollFd::new(self.watch.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.executor.bell(), PollFlags::POLLIN),
        ];
        let fixed = waiting.len();
        waiting.extend(self.connections.iter().map(|connection| {
            let unsent = !connection.unsent.is_empty();
            let writable = if unsent { PollFlags::POLLOUT } else { PollFlags::empty() };
            PollFd::new(connection.stream.as_fd(), PollFlags::POLLIN | writable)
        }));
        let own = waiting.len();
        let at_door = self.door.iter().flat_map(Door::descriptors);
        waiting.extend(at_door.map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN)));
        let is_door_busy = self.door.as_ref().is_some_and(Door::is_busy);
        let wait = if is_door_busy { self.until_tick().min(DOOR_WAIT) } else { self.until_tick() };
        let timeout = PollTimeout::try_from(wait).unwrap_or(PollTimeout::ZERO);
        match poll(&mut waiting, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let is_ready = |fd: &PollFd<'_>| fd.revents().is_none_or(|events| !events.is_empty());
        let ready: Vec<bool> = waiting.iter().map(is_ready).collect();
        drop(waiting);
        if ready[0] {
            self.rules_changed();
        }
        if ready[2] {
            self.executor.hear();
            for (look, answer) in self.executor.previewed() {
                self.connections.iter_mut().for_each(|connection| connection.saw(look, &answer));
            }
        }
        for (connection, is_ready) in self.connections.iter_mut().zip(&ready[fixed..own]) {
            if *is_ready {
                connection.serve(&mut self.executor);
            }
        }
        if ready[1] {
            self.accept();
        }
        if is_door_busy || ready[own..].contains(&true) {
            self.door.iter_mut().for_each(|door| door.serve(&mut self.executor));
        }
        if self.until_tick().is_zero() {
            self.ticked = Instant::now();
            self.executor.tick();
        }
        self.tell_events();
        // After the agent: the hub is to know first, and this writes to disk.
        self.executor.tell_people();
        self.connections.retain(|connection| !connection.is_over);
        Ok(())
    }

    /// Rounded up to the milliseconds that `poll` counts, or the last would be spent in a busy loop.
    fn until_tick(&self) -> Duration {
        let wake = self.executor.next_wake().clamp(BETWEEN_TICKS, CHECKPOINT);
        let left = wake.saturating_sub(self.ticked.elapsed());
        if left.is_zero() { left } else { left + Duration::from_millis(1) }
    }

    fn rules_changed(&mut self) {
        // Our own transactions are notified like any other; they are told by our sockets' numbers.
        let Some(change) = self.watch.changes(&self.own_ports) else { return };
        let (change, noticed) = self.waited(change, boot_time());
        let began = Instant::now();
        self.executor.look(Some(change), noticed);
        self.pace.looked(began, Instant::now());
    }

    /// Waits until the next look may be had; whose change it is for then, and when that was noticed.
    fn waited(&mut self, change: Change, noticed: BootNanos) -> (Change, BootNanos) {
        let wait = self.pace.wait(Instant::now());
        if wait.is_zero() {
            return (change, noticed);
        }
        // Not woken by what comes meanwhile: a storm is not to have the processor through us.
        std::thread::sleep(wait);
        let later = self.watch.changes(&self.own_ports);
        looked_for((change, noticed), later.map(|later| (later, boot_time())))
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            let user = getsockopt(&stream, sockopt::PeerCredentials).map(|peer| peer.uid());
            let is_known = matches!(user, Ok(user) if user == 0 || user == self.agent_user);
            if !is_known || self.connections.len() >= CONNECTIONS {
                tracing::warn!(?user, "a connection was refused");
                continue;
            }
            if stream.set_nonblocking(true).is_ok() {
                self.connections.push(Connection::new(stream));
            }
        }
    }

    fn tell_events(&mut self) {
        if !self.connections.iter().any(|connection| connection.is_listening) {
            return;
        }
        let mut events = self.executor.take_events();
        let receipts = self.executor.receipts();
        for connection in self.connections.iter_mut().filter(|c| c.is_listening) {
            let next = receipts.first + receipts.receipts.len() as u64;
            if connection.told_before < next {
                connection.told_before = next;
                connection.send(&FromHelper::Event(Event::Receipts(receipts.clone())));
            }
            for event in &mut events {
                connection.send(&FromHelper::Event(event.clone()));
            }
        }
    }
}

struct Connection {
    stream: UnixStream,
    received: Vec<u8>,
    unsent: Vec<u8>,
    is_listening: bool,
    /// Receipts below this number were told to it.
    told_before: u64,
    /// Previews that are being looked at for it: the look, and the request that it answers.
    previews: Vec<(u64, u64)>,
    is_over: bool,
}

impl Connection {
    fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            received: Vec::new(),
            unsent: Vec::new(),
            is_listening: false,
            told_before: 0,
            previews: Vec::new(),
            is_over: false,
        }
    }

    fn serve(&mut self, executor: &mut Executor) {
        self.flush();
        let mut chunk = vec![0; 64 << 10];
        match self.stream.read(&mut chunk) {
            Ok(0) => self.is_over = true,
            Ok(count) => self.received.extend_from_slice(&chunk[..count]),
            Err(error) if is_later(&error) => {}
            Err(_) => self.is_over = true,
        }
        while !self.is_over {
            let Some((head, rest)) = self.received.split_first_chunk::<4>() else { return };
            let length = u32::from_be_bytes(*head) as usize;
            if length > MESSAGE_BYTES {
                tracing::warn!(length, "a message above the cap: hung up");
                self.is_over = true;
                return;
            }
            let Some(body) = rest.get(..length) else { return };
            let request = frame::decode::<Request>(body);
            self.received.drain(..4 + length);
            match request {
                Ok(request) => {
                    if request.ask == Ask::Listen {
                        self.is_listening = true;
                    }
                    let answer = match &request.ask {
                        Ask::Would(action) => match executor.begin_preview(action) {
                            Ok(look) => {
                                self.previews.push((look, request.id));
                                continue;
                            }
                            Err(answer) => answer,
                        },
                        _ => executor.answer(request.ask),
                    };
                    if let Answer::Obeyed(receipts) = &answer {
                        let next = receipts.first + receipts.receipts.len() as u64;
                        self.told_before = self.told_before.max(next);
                    }
                    self.send(&FromHelper::Answer { to: request.id, answer });
                }
                Err(error) => {
                    tracing::warn!(%error, "not a request: hung up");
                    self.is_over = true;
                }
            }
        }
    }

    /// Answers with what a look saw, if it was taken for this connection.
    fn saw(&mut self, look: u64, answer: &Answer) {
        let Some(at) = self.previews.iter().position(|(number, _)| *number == look) else { return };
        let (_, to) = self.previews.swap_remove(at);
        self.send(&FromHelper::Answer { to, answer: answer.clone() });
    }

    fn send(&mut self, message: &impl Serialize) {
        match frame::encode(message, MESSAGE_BYTES) {
            Ok(bytes) if self.unsent.len() + bytes.len() <= UNSENT_BYTES => {
                self.unsent.extend_from_slice(&bytes);
                self.flush();
            }
            Ok(_) | Err(_) => self.is_over = true,
        }
    }

    fn flush(&mut self) {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(0) => break,
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if is_later(&error) => return,
                Err(_) => {
                    self.is_over = true;
                    return;
                }
            }
        }
    }
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
