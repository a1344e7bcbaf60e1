//! What starts by itself on this machine or lets somebody in, and which programs lie where anybody may write, looked
//! at again and again.
//!
//! ```text
//! helper ─► Surveyor ─► its thread ─► a process for each look: tasks ─► look ─► read
//!                                                                        └───► memory ─► kept
//! ```
//!
//! The one idea: what came during an incident is told by what was seen when, not by a file's own times
//! ([`memory`]). A look is taken at the helper's start, every hour, and when somebody asks.
//!
//! The helper never waits for one. A thread of its own starts a **process of its own**, the last in every
//! queue, waits for it, and ends it if it takes too long; both end with the helper, which only puts questions
//! into a channel and takes answers out of another. An answer is passed on as the bytes that it came as: the
//! helper understands none of it.
//!
//! | module | owns |
//! |---|---|
//! | [`places`], [`limits`] | where is looked, and how much at most |
//! | `tasks`, [`keys_files`] | the places as they lie on this machine, with its accounts |
//! | `read`, [`lines`] | what stands at a place, whatever stands there |
//! | `dropped` | programs in a place where anybody may write |
//! | [`mod@look`] | one look |
//! | [`memory`], `blind`, [`unreadable`], [`kept`] | what is remembered of all, and kept |
//! | [`take`] | the process |

mod blind;
mod dropped;
pub mod kept;
pub mod keys_files;
pub mod limits;
pub mod lines;
pub mod look;
pub mod memory;
#[cfg(test)]
mod memory_tests;
pub mod places;
pub(in crate::contain) mod read;
pub mod take;
pub(in crate::contain) mod tasks;
pub mod unreadable;
mod words;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel,
};
use std::time::{Duration, Instant};

use cordon_model::limits::MESSAGE_BYTES;
use cordon_model::time::UtcNanos;

use self::limits::{ASKED, EVERY, GRACE, LOOK, ONE_BEFORE};
use self::take::Wanted;
use super::urgency::HELPER;

/// How often it is looked whether the process has ended, or the one before it. Who looks waits for nothing else.
const STEP: Duration = Duration::from_millis(20);

/// What is looked at, by which process, and where it is remembered.
#[derive(Debug, Clone)]
pub struct SurveyConfig {
    /// The program that takes a look: it is given these arguments, the folder, the root and what is wanted
    /// (see [`take::run`]).
    pub program: PathBuf,
    /// Its first arguments.
    pub arguments: Vec<OsString>,
    /// Where what was seen is remembered. Only root may reach it.
    pub folder: PathBuf,
    /// Where the machine's file system begins; `/`, but for a try.
    pub root: PathBuf,
    /// Between two looks that nobody asked for.
    pub every: Duration,
}

impl SurveyConfig {
    /// Looks of this machine, taken by this very program.
    #[must_use]
    pub fn of_this_machine(folder: PathBuf) -> Self {
        Self {
            program: "/proc/self/exe".into(),
            arguments: vec!["role".into(), "survey".into()],
            folder,
            root: "/".into(),
            every: EVERY,
        }
    }
}

/// How far a look is that somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// It is not done.
    Running,
    /// What was asked for, as the process wrote it. Told once.
    Done(Vec<u8>),
    /// It failed, or is not known (any more): why.
    Failed(String),
}

/// Has looks taken, and never waits.
#[derive(Debug)]
pub struct Surveyor {
    asked: SyncSender<(u64, Wanted)>,
    answered: Receiver<(u64, Result<Vec<u8>, String>)>,
    /// By the number of the look; `None` while it is not done.
    looks: BTreeMap<u64, Option<Result<Vec<u8>, String>>>,
    last: u64,
}

impl Surveyor {
    /// Begins with a look at once.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(config: SurveyConfig) -> io::Result<Self> {
        let (asked, to_do) = sync_channel(ASKED);
        let (answer, answered) = channel();
        std::thread::Builder::new()
            .name("survey".into())
            .spawn(move || Looks { config, lingering: Vec::new() }.go_on(&to_do, &answer))?;
        Ok(Self { asked, answered, looks: BTreeMap::new(), last: 0 })
    }

    /// Asks for a look that is begun after this. Its number, to ask for what came of it.
    ///
    /// # Errors
    /// When too many are asked for already.
    pub fn ask(&mut self, since: Option<UtcNanos>) -> Result<u64, String> {
        self.hear();
        let number = self.last + 1;
        match self.asked.try_send((number, Wanted::of(since))) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                return Err(format!("{ASKED} looks wait already: ask again in a moment"));
            }
            Err(TrySendError::Disconnected(_)) => return Err("nobody looks here any more".into()),
        }
        self.last = number;
        self.looks.insert(number, None);
        // Answers that nobody came for. The oldest of so many waits the longest.
        while self.looks.len() > 2 * ASKED {
            self.looks.pop_first();
        }
        Ok(number)
    }

    /// What came of look `number`.
    pub fn look(&mut self, number: u64) -> Progress {
        self.hear();
        match self.looks.get(&number) {
            Some(None) => return Progress::Running,
            None => return Progress::Failed("the helper knows no such look: ask again".into()),
            Some(Some(_)) => {}
        }
        match self.looks.remove(&number).flatten() {
            Some(Ok(bytes)) => Progress::Done(bytes),
            Some(Err(why)) => Progress::Failed(why),
            None => Progress::Running,
        }
    }

    fn hear(&mut self) {
        while let Ok((number, outcome)) = self.answered.try_recv() {
            if let Some(look) = self.looks.get_mut(&number) {
                *look = Some(outcome);
            }
        }
    }
}

/// The thread's own: one look after the other.
struct Looks {
    config: SurveyConfig,
    /// Processes that were ended and have not gone yet, because something that they read hangs.
    lingering: Vec<Child>,
}

impl Looks {
    fn go_on(
        &mut self,
        to_do: &Receiver<(u64, Wanted)>,
        answer: &Sender<(u64, Result<Vec<u8>, String>)>,
    ) {
        let mut next = Instant::now();
        loop {
            match to_do.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok((number, wanted)) => {
                    if answer.send((number, self.take(wanted))).is_err() {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    if let Err(why) = self.take(Wanted::Nothing) {
                        tracing::warn!(why, "this machine was not looked at");
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
            next = Instant::now() + self.config.every;
        }
    }

    /// Takes one look, and waits for it.
    fn take(&mut self, wanted: Wanted) -> Result<Vec<u8>, String> {
        self.lingering.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        let failed = |error: io::Error| format!("the process that looks can't be started: {error}");
        // In memory, so that the answer waits for no disk; gone when nobody holds it.
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        let out =
            rustix::fs::memfd_create("survey", flags).map_err(|error| failed(error.into()))?;
        let mut out = File::from(out);
        let mut child = Command::new(&self.config.program)
            .args(&self.config.arguments)
            .arg(&self.config.folder)
            .arg(&self.config.root)
            .arg(wanted.to_string())
            .env_clear()
            .env(HELPER, std::process::id().to_string())
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(out.try_clone().map_err(failed)?)
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let late = Instant::now() + ONE_BEFORE + LOOK + GRACE;
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if Instant::now() < late => std::thread::sleep(STEP),
                Ok(None) => {
                    let _ = child.kill();
                    self.lingering.push(child);
                    return Err("it took too long, and was ended".into());
                }
                Err(error) => return Err(failed(error)),
            }
        };
        let mut bytes = Vec::new();
        let most = MESSAGE_BYTES as u64;
        let read = out.rewind().and_then(|()| out.take(most).read_to_end(&mut bytes));
        match (read, status.success()) {
            (Ok(_), true) => Ok(bytes),
            (Ok(count), false) if count > 0 => {
                Err(words::cut(String::from_utf8_lossy(&bytes).into_owned()))
            }
            (Ok(_), false) => Err(format!("the process that looks ended with {status}")),
            (Err(error), _) => Err(failed(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A surveyor whose looks are taken by this shell script.
    fn surveyor(script: &str) -> Surveyor {
        Surveyor::start(SurveyConfig {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into(), "look".into()],
            folder: "/folder".into(),
            root: "/root".into(),
            every: Duration::from_secs(3_600),
        })
        .unwrap()
    }

    fn outcome(surveyor: &mut Surveyor, number: u64) -> Progress {
        for _ in 0..1_500 {
            match surveyor.look(number) {
                Progress::Running => std::thread::sleep(STEP),
                progress => return progress,
            }
        }
        panic!("look {number} never ended");
    }

    #[test]
    fn a_look_is_told_once_and_as_its_process_wrote_it() {
        let mut surveyor = surveyor("printf '%s %s %s' \"$1\" \"$2\" \"$3\"");
        let number = surveyor.ask(Some(UtcNanos::from_unix_nanos(7))).unwrap();
        assert_eq!(outcome(&mut surveyor, number), Progress::Done(b"/folder /root 7".to_vec()));
        assert!(matches!(surveyor.look(number), Progress::Failed(_)), "told once");
        assert!(matches!(surveyor.look(99), Progress::Failed(_)));
    }

    #[test]
    fn a_look_that_fails_says_why() {
        let mut surveyor = surveyor("printf 'no room'; exit 1");
        let number = surveyor.ask(None).unwrap();
        assert_eq!(outcome(&mut surveyor, number), Progress::Failed("no room".into()));
        let mut silent = self::surveyor("kill -9 $$");
        let number = silent.ask(None).unwrap();
        let Progress::Failed(why) = outcome(&mut silent, number) else { panic!() };
        assert!(why.contains("signal"), "{why}");
    }

    #[test]
    fn nobody_waits_for_a_look_that_hangs_and_only_so_many_wait_for_it() {
        // A look that ends when its surveyor does: by then its standard output is closed.
        let folder = tempfile::tempdir().unwrap();
        let go = folder.path().join("go");
        let script = format!("while [ ! -e {} ]; do sleep 0.05; done", go.display());
        let mut surveyor = surveyor(&script);
        let began = Instant::now();
        let numbers: Vec<u64> = (0..ASKED).map(|_| surveyor.ask(None).unwrap()).collect();
        // One may have been taken out of the queue by now.
        while surveyor.ask(None).is_ok() {}
        for number in &numbers {
            assert_eq!(surveyor.look(*number), Progress::Running);
        }
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        std::fs::write(&go, "").unwrap();
        for number in numbers {
            assert_eq!(outcome(&mut surveyor, number), Progress::Done(Vec::new()));
        }
    }
}
