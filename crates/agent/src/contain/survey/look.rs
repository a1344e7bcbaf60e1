//! One look: every task, read by a thread that may be left where it hangs.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::Instant;

use super::limits::{HANGING, LOOK, PATIENCE, THINGS};
use super::memory::{Look, Missed};
use super::read::{Files, Task, Told};
use super::tasks::Plan;
use crate::contain::action::mounts::Mount;
use crate::contain::action::reader::Reader;

/// What a reader says that may wait: it stops there if nobody listens.
const WAITING: usize = 64;

/// Looks at all places of the machine whose file system begins at `root`.
#[must_use]
pub fn look(root: &Path, mounts: Vec<Mount>) -> Look {
    let Plan { files, tasks, dropped, missed } = Plan::of(root, mounts);
    let mut looking = Looking {
        files: Arc::new(files),
        reader: Reader::start().ok(),
        hanging: 0,
        ends: Instant::now() + LOOK,
        look: Look { missed, ..Look::default() },
    };
    // Last, so that whatever lies there costs no other place its turn.
    for task in tasks.into_iter().chain(dropped) {
        looking.at(task);
    }
    let Looking { mut look, .. } = looking;
    // Each once: homes on one file server are all missed with it.
    let mut said = std::collections::BTreeSet::new();
    look.missed.retain(|missed| said.insert((missed.path.clone(), missed.why.clone())));
    look
}

struct Looking {
    files: Arc<Files>,
    /// `None` when the system gives no thread.
    reader: Option<Reader<Told>>,
    hanging: usize,
    ends: Instant,
    look: Look,
}

impl Looking {
    fn at(&mut self, task: Task) {
        let why_not = if self.look.present.len() >= THINGS {
            Some("there are more things than are looked at")
        } else if Instant::now() >= self.ends {
            Some("no time was left")
        } else if self.hanging >= HANGING {
            Some("too much hangs already, so this was not tried")
        } else {
            None
        };
        if let Some(why) = why_not {
            return self.miss(&task, why);
        }
        let (files, read) = (Arc::clone(&self.files), task.clone());
        let job = Box::new(move |to: SyncSender<Told>| files.read(&read, &to));
        let begun = self.reader.as_ref().and_then(|reader| reader.begin(WAITING, job));
        let Some(from) = begun else { return self.miss(&task, "nothing can be read here") };
        if let Err(why) = self.listen(&from) {
            // Left behind, it may still be at work, or hang for ever: it gets no other.
            self.hanging += 1;
            self.reader = Reader::start().ok();
            self.miss(&task, &why);
        }
    }

    fn listen(&mut self, from: &Receiver<Told>) -> Result<(), String> {
        loop {
            let left = self.ends.saturating_duration_since(Instant::now());
            match from.recv_timeout(PATIENCE.min(left)) {
                Ok(Told::Over) => return Ok(()),
                Ok(Told::Present(present)) => self.look.present.push(present),
                Ok(Told::Missed(missed)) => self.look.missed.push(missed),
                Ok(Told::Unread(marks)) => self.look.unread.push(marks),
                Ok(Told::GoingOn) => {}
                Err(RecvTimeoutError::Disconnected) => return Err("the reader ended".into()),
                Err(RecvTimeoutError::Timeout) if left <= PATIENCE => {
                    return Err("no time was left".into());
                }
                Err(RecvTimeoutError::Timeout) => {
                    return Err(format!("no answer within {} s", PATIENCE.as_secs()));
                }
            }
        }
    }

    /// Nothing is known of any of these places.
    fn miss(&mut self, task: &Task, why: &str) {
        let missed =
            |(_, path): &(_, std::path::PathBuf)| -> Missed { self.files.missed(path, why) };
        let all: Vec<Missed> = task.places.iter().map(missed).collect();
        self.look.missed.extend(all);
    }
}
