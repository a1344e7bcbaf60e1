//! What takes long, beside the helper's one thread.
//!
//! The one idea: whoever puts wiped rules back and obeys people must never wait for a disk. Copying a large
//! file into the vault takes seconds, and so may a warden that does not answer; so each such mechanism has a
//! **thread of its own**, which is given one thing after another to do, and says what came of it. Nothing is
//! decided there: the helper hears of it when its loop comes by ([`Beside::finished`]), woken by a descriptor.
//!
//! The thread ends with its process, so a helper that is killed leaves what it would have left by itself: the
//! mechanism's own journal, which says how far it came.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use cordon_model::action::Action;
use cordon_model::asset::Assignment;
use cordon_model::ids::MeasureId;
use cordon_respond::helper_core::{Acted, TakenBack};

/// What is to be done with a measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Do it, or see that it is done.
    Apply,
    /// Look whether it still holds.
    Look,
    /// Take it back.
    TakeBack,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// What.
    pub verb: Verb,
    /// With which measure.
    pub measure: MeasureId,
    /// What that is.
    pub action: Action,
    /// What the organisation says of this machine.
    pub assignment: Assignment,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Came {
    /// Of [`Verb::Apply`] and [`Verb::Look`].
    Acted(Acted),
    /// Of [`Verb::TakeBack`].
    TakenBack(TakenBack),
}

/// By which all threads wake the helper.
#[derive(Debug, Clone)]
pub struct Bell {
    rope: Arc<UnixStream>,
    heard: Arc<UnixStream>,
}

impl Bell {
    /// One that is silent.
    ///
    /// # Errors
    /// When the system gives none.
    pub fn new() -> io::Result<Self> {
        let (rope, heard) = UnixStream::pair()?;
        rope.set_nonblocking(true)?;
        heard.set_nonblocking(true)?;
        Ok(Self { rope: Arc::new(rope), heard: Arc::new(heard) })
    }

    /// Readable when something has come to an end.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.heard.as_fd()
    }

    /// Silences it: before it is looked what has come, or what comes meanwhile would ring for nobody.
    pub fn silence(&self) {
        let mut rung = [0; 256];
        while matches!((&*self.heard).read(&mut rung), Ok(count) if count > 0) {}
    }

    /// Wakes the helper.
    pub fn ring(&self) {
        // What is full rings already.
        let _ = (&*self.rope).write(&[1]);
    }
}

/// A thread that does one thing after another. Of each measure it has one at most, and one more waits here:
/// the newest, for what was wanted before that is not wanted any more.
#[derive(Debug)]
pub struct Beside {
    jobs: Sender<Job>,
    came: Receiver<(MeasureId, Came)>,
    at_work: BTreeMap<MeasureId, (Job, Option<Job>)>,
}

impl Beside {
    /// A thread called `name` that does each job by `does`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        name: &str,
        bell: Bell,
        mut does: impl FnMut(&Job) -> Came + Send + 'static,
    ) -> io::Result<Self> {
        let (jobs, to_do) = channel::<Job>();
        let (tell, came) = channel();
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            for job in to_do {
                if tell.send((job.measure, does(&job))).is_err() {
                    return;
                }
                bell.ring();
            }
        })?;
        Ok(Self { jobs, came, at_work: BTreeMap::new() })
    }

    /// Sees to it that this is done. What is being done already is not done twice.
    pub fn ask(&mut self, job: Job) {
        match self.at_work.get_mut(&job.measure) {
            Some((now, next)) => *next = Some(job).filter(|job| job != now),
            None => self.give(job),
        }
    }

    /// Whether it is at work.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.at_work.is_empty()
    }

    /// What has come to an end since this was called last. Never waits.
    pub fn finished(&mut self) -> Vec<(MeasureId, Came)> {
        let finished: Vec<_> = self.came.try_iter().collect();
        for (measure, _) in &finished {
            self.ended(*measure);
        }
        finished
    }

    /// The same, when all has come to an end.
    pub fn wait(&mut self) -> Vec<(MeasureId, Came)> {
        let mut finished = Vec::new();
        while self.is_busy() {
            // It hangs up only if it broke: then nothing more comes.
            let Ok(one) = self.came.recv() else { break };
            self.ended(one.0);
            finished.push(one);
        }
        finished
    }

    fn ended(&mut self, measure: MeasureId) {
        if let Some((_, Some(next))) = self.at_work.remove(&measure) {
            self.give(next);
        }
    }

    fn give(&mut self, job: Job) {
        self.at_work.insert(job.measure, (job.clone(), None));
        let _ = self.jobs.send(job);
    }
}
