//! A thread that does nothing but read, so that nobody else has to wait for what may never answer.
//!
//! Who wants something read hands over a job and listens. A reader that keeps silent too long (a file server
//! that is gone, a program that answers for its own file system) is left where it hangs, and another takes
//! its place: the kernel gives the thread back when the other side answers, or when the process ends.

use std::io;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

/// What a reader does: it reads, and says what it read.
pub type Job<M> = Box<dyn FnOnce(SyncSender<M>) + Send>;

/// The thread.
#[derive(Debug)]
pub struct Reader<M> {
    jobs: Sender<(Job<M>, SyncSender<M>)>,
}

impl<M: Send + 'static> Reader<M> {
    /// Starts one. It ends when this is dropped and its last job is done.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start() -> io::Result<Self> {
        let (jobs, to_do) = channel::<(Job<M>, SyncSender<M>)>();
        std::thread::Builder::new().name("reader".into()).spawn(move || {
            for (job, to) in to_do {
                job(to);
            }
        })?;
        Ok(Self { jobs })
    }

    /// Has it do `job`. What it says comes out of the receiver, of which at most `waiting` wait: a reader that
    /// is faster than its listener stops there. `None` if the thread has ended.
    pub fn begin(&self, waiting: usize, job: Job<M>) -> Option<Receiver<M>> {
        let (to, from) = sync_channel(waiting);
        self.jobs.send((job, to)).ok().map(|()| from)
    }
}
