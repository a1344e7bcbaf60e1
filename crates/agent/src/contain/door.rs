//! The one thing that any user of this machine may ask of the helper: to open it by a one-time code.
//!
//! It is a second socket, apart from the agent's, because whoever stands in front of a machine that is cut
//! off is an ordinary user. So it takes tiny messages, one from each connection, few connections at once
//! and fewer of one user, and it hashes one code at a time, on a thread that goes behind everything else:
//! nobody gets more of the helper's time than it takes to say no.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use cordon_code::{Code, slow_hash};
use cordon_link::frame;
use cordon_model::guidance::Contact;
use cordon_model::measure::Isolation;
use nix::sys::socket::{getsockopt, sockopt};
use serde::{Deserialize, Serialize};

use super::executor::Executor;

/// The longest message: a code of at most 64 characters and its frame.
pub const MESSAGE_BYTES: usize = 128;

/// The longest answer: a machine's name (1 KiB), four telephone numbers (800 bytes) and a sentence.
const ANSWER_BYTES: usize = 4 << 10;

/// Connections at once…
const CALLERS: usize = 8;

/// …and of one user, so that a program that knocks all the time keeps nobody else out.
const CALLERS_OF_ONE_USER: usize = 2;

/// How long a connection may take to say what it wants. The command asks at once.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a user may ask.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum DoorAsk {
    /// How is this machine?
    Look,
    /// Open it by this code.
    Code(String),
}

/// Never shows a code.
impl std::fmt::Debug for DoorAsk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Look => "Look",
            Self::Code(_) => "Code(hidden)",
        })
    }
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum DoorAnswer {
    /// How it is.
    Seen(Seen),
    /// It is open.
    Opened(Opened),
    /// It is not.
    Unopened(Unopened),
}

/// What anybody at the machine may know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// What the organisation calls it.
    pub name: Option<String>,
    /// How far it is cut off.
    pub isolation: Option<Isolation>,
    /// Codes that were not used yet; `None`: it was never given any.
    pub unused_codes: Option<u32>,
    /// For so many seconds more no code is taken.
    pub pause_seconds: u64,
    /// Whom the organisation signed to be rung about it; none: nobody was named.
    #[serde(default)]
    pub ring: Vec<Contact>,
}

/// A code opened the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opened {
    /// Its number.
    pub code: u8,
    /// Whether it was read back that nothing is cut any more.
    pub is_proven: bool,
    /// For how long Cordon leaves the machine alone.
    pub hold_off_seconds: u32,
}

/// Nothing was opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unopened {
    /// Why, for the person who typed the code.
    pub why: String,
    /// How long to wait before another try.
    pub wait_seconds: Option<u64>,
}

impl From<&str> for Unopened {
    fn from(why: &str) -> Self {
        Self { why: why.to_owned(), wait_seconds: None }
    }
}

/// Asks the helper's door, as any user may.
///
/// # Errors
/// When nobody serves it, or the answer can't be read.
pub fn ask(socket: &Path, ask: &DoorAsk) -> Result<DoorAnswer, frame::FrameError> {
    let mut stream = UnixStream::connect(socket)?;
    frame::blocking::write(&mut stream, ask, MESSAGE_BYTES)?;
    frame::blocking::read(&mut stream, ANSWER_BYTES)?.ok_or(frame::FrameError::Torn)
}

/// A connection.
struct Caller {
    number: u64,
    stream: UnixStream,
    user: u32,
    since: Instant,
    received: Vec<u8>,
    /// Its code is being hashed.
    waits: bool,
    is_over: bool,
}

/// A hash that is ready, for the caller of this number; or why there is none.
type Hashed = (u64, Result<[u8; 32], String>);

/// The door.
pub struct Door {
    listener: UnixListener,
    callers: Vec<Caller>,
    last: u64,
    is_hashing: bool,
    hashed: mpsc::Receiver<Hashed>,
    tell: mpsc::Sender<Hashed>,
    /// A byte is written to the second when a hash is ready, so that the first wakes who waits.
    wake: (UnixStream, UnixStream),
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("callers", &self.callers.len()).finish_non_exhaustive()
    }
}

impl Door {
    /// Opens the door at `socket`, whose folder only root may write to.
    ///
    /// # Errors
    /// When it can't be bound.
    pub fn open(socket: &Path) -> io::Result<Self> {
        match std::fs::remove_file(socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(socket)?;
        std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o666))?;
        listener.set_nonblocking(true)?;
        let (wakes, wake) = UnixStream::pair()?;
        wakes.set_nonblocking(true)?;
        wake.set_nonblocking(true)?;
        let (tell, hashed) = mpsc::channel();
        Ok(Self {
            listener,
            callers: Vec::new(),
            last: 0,
            is_hashing: false,
            hashed,
            tell,
            wake: (wakes, wake),
        })
    }

    /// What to wait for: any of these may be read.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let callers = self.callers.iter().filter(|caller| !caller.waits);
        [self.listener.as_fd(), self.wake.0.as_fd()]
            .into_iter()
            .chain(callers.map(|caller| caller.stream.as_fd()))
    }

    /// Whether a connection is open: then its patience runs, and [`Door::serve`] is to be called at least
    /// every few seconds.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.callers.is_empty()
    }

    /// Does what there is to do.
    pub fn serve(&mut self, executor: &mut Executor) {
        self.accept();
        self.take_hashes(executor);
        for at in 0..self.callers.len() {
            self.hear(at, executor);
        }
        self.callers.retain(|caller| !caller.is_over);
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            let Ok(peer) = getsockopt(&stream, sockopt::PeerCredentials) else { continue };
            let user = peer.uid();
            let of_user = self.callers.iter().filter(|caller| caller.user == user).count();
            // Root may always come in: it has other ways to open the machine, and worse ones.
            let has_room =
                user == 0 || (of_user < CALLERS_OF_ONE_USER && self.callers.len() < CALLERS);
            if has_room && stream.set_nonblocking(true).is_ok() {
                self.last += 1;
                self.callers.push(Caller {
                    number: self.last,
                    stream,
                    user,
                    since: Instant::now(),
                    received: Vec::new(),
                    waits: false,
                    is_over: false,
                });
            }
        }
    }

    fn take_hashes(&mut self, executor: &mut Executor) {
        let _ = self.wake.0.read(&mut [0; 16]);
        while let Ok((number, hash)) = self.hashed.try_recv() {
            self.is_hashing = false;
            let caller = self.callers.iter_mut().find(|caller| caller.number == number);
            // Whoever hung up meanwhile has had his try, and opened nothing.
            let Some(caller) = caller else { continue };
            let answer = match hash {
                Ok(hash) => match executor.open_by(&hash, caller.user) {
                    Ok(opened) => DoorAnswer::Opened(opened),
                    Err(why) => DoorAnswer::Unopened(why),
                },
                Err(why) => DoorAnswer::Unopened(why.as_str().into()),
            };
            caller.say(&answer);
        }
    }

    fn hear(&mut self, at: usize, executor: &mut Executor) {
        let Some(caller) = self.callers.get_mut(at) else { return };
        if caller.waits || caller.is_over {
            return;
        }
        let ask = match caller.read() {
            Some(Ok(ask)) => ask,
            Some(Err(())) => {
                caller.is_over = true;
                return;
            }
            None => {
                caller.is_over |= caller.since.elapsed() > PATIENCE;
                return;
            }
        };
        match ask {
            DoorAsk::Look => caller.say(&DoorAnswer::Seen(executor.seen())),
            DoorAsk::Code(_) if self.is_hashing => {
                let why = "another code is being looked at: try again in a moment";
                caller.say(&DoorAnswer::Unopened(Unopened {
                    wait_seconds: Some(1),
                    ..Unopened::from(why)
                }));
            }
            DoorAsk::Code(text) => match Code::parse(&text) {
                // A slip costs nobody a try.
                Err(slip) => caller.say(&DoorAnswer::Unopened(slip.to_string().as_str().into())),
                Ok(code) => match executor.begin_code(caller.user) {
                    Err(why) => caller.say(&DoorAnswer::Unopened(why)),
                    Ok(document) => {
                        caller.waits = true;
                        let number = caller.number;
                        self.is_hashing = true;
                        self.hash(number, document, code);
                    }
                },
            },
        }
    }

    /// Hashes on a thread of its own. A thread that this one starts goes behind everything else, as it gave
    /// that up at its start.
    fn hash(&mut self, number: u64, document: cordon_model::break_glass::BreakGlass, code: Code) {
        let tell = self.tell.clone();
        let started = self.wake.1.try_clone().and_then(|mut wake| {
            std::thread::Builder::new().name("code".into()).spawn(move || {
                let hash = slow_hash(&document, &code).map_err(|error| error.to_string());
                let _ = tell.send((number, hash));
                let _ = wake.write(&[1]);
            })
        });
        if let Err(error) = started {
            let why = format!("this computer is too busy to look at a code now: {error}");
            let _ = self.tell.send((number, Err(why)));
            let _ = self.wake.1.write(&[1]);
        }
    }
}

impl Caller {
    /// What it asks, once it is whole; `Err` when it is over.
    fn read(&mut self) -> Option<Result<DoorAsk, ()>> {
        let mut chunk = [0; MESSAGE_BYTES + 4];
        match self.stream.read(&mut chunk) {
            Ok(0) => return Some(Err(())),
            Ok(count) => self.received.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Some(Err(())),
        }
        let (head, body) = self.received.split_first_chunk::<4>()?;
        let length = u32::from_be_bytes(*head) as usize;
        if length > MESSAGE_BYTES || body.len() > length {
            return Some(Err(()));
        }
        if body.len() < length {
            return None;
        }
        let ask = frame::decode::<DoorAsk>(body).map_err(|_| ());
        self.received.clear();
        Some(ask)
    }

    /// Answers, and is over. An answer is small; whoever reads it so slowly that it does not fit asks again.
    fn say(&mut self, answer: &DoorAnswer) {
        if let Ok(bytes) = frame::encode(answer, ANSWER_BYTES) {
            let _ = self.stream.write(&bytes);
        }
        self.is_over = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_of_anybody_are_an_ask_or_an_end(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let (mut person, stream) = UnixStream::pair().unwrap();
            person.write_all(&bytes).unwrap();
            drop(person);
            let mut caller = Caller {
                number: 1,
                stream,
                user: 1_000,
                since: Instant::now(),
                received: Vec::new(),
                waits: false,
                is_over: false,
            };
            // It never waits, never panics, and never keeps more than one message and a reading.
            while caller.read().is_none() {
                prop_assert!(caller.received.len() <= MESSAGE_BYTES + 4);
            }
            prop_assert!(caller.received.len() <= 2 * (MESSAGE_BYTES + 4));
        }
    }

    #[test]
    fn a_code_in_an_ask_is_not_shown_in_a_log() {
        let ask = DoorAsk::Code("7KQ4-M2XF-93TV-HBWC".into());
        assert!(!format!("{ask:?}").contains("7KQ4"));
        assert!(frame::encode(&ask, MESSAGE_BYTES).is_ok());
    }
}
