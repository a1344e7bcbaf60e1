//! What a measure would do, looked at beside the helper's one thread.
//!
//! The one idea: a question of people's is worth no millisecond of an isolation's. Whatever is read for it (files at
//! hostile places, the words by which processes were started, which their owners can have lie where nobody answers) is
//! read by a **thread of its own**, which is given nothing to decide and changes nothing; what it saw is heard when the
//! helper's loop comes by. One that hangs holds up nobody, and only so many can.

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use cordon_model::look::Would;

use super::beside::Bell;

/// Threads at once: each has its stack, some 30 KiB of it in memory. People ask one after the other; a plan asks twenty
/// times, one after the other.
const AT_ONCE: usize = 8;

/// The looks that are being taken.
#[derive(Debug)]
pub struct Previews {
    bell: Bell,
    tell: Sender<(u64, Would)>,
    told: Receiver<(u64, Would)>,
    looking: BTreeMap<u64, JoinHandle<()>>,
    last: u64,
}

impl Previews {
    /// None yet; each rings `bell` when it is done.
    #[must_use]
    pub fn new(bell: Bell) -> Self {
        let (tell, told) = channel();
        Self { bell, tell, told, looking: BTreeMap::new(), last: 0 }
    }

    /// Has `looks` called by a thread of its own. The number of this look.
    ///
    /// # Errors
    /// In words, when too many hang, or the system gives no thread.
    pub fn begin(&mut self, looks: impl FnOnce() -> Would + Send + 'static) -> Result<u64, String> {
        self.looking.retain(|_, thread| !thread.is_finished());
        if self.looking.len() >= AT_ONCE {
            return Err(format!(
                "{AT_ONCE} looks at this machine are not done: ask again in a moment; if that lasts, what they look at \
                 does not answer"
            ));
        }
        self.last += 1;
        let (number, tell, bell) = (self.last, self.tell.clone(), self.bell.clone());
        let looks = move || {
            let _ = tell.send((number, looks()));
            bell.ring();
        };
        let thread = std::thread::Builder::new().name("preview".into()).spawn(looks);
        let thread = thread.map_err(|error: io::Error| format!("nobody can look: {error}"))?;
        self.looking.insert(number, thread);
        Ok(number)
    }

    /// What was seen since this was called last. Never waits.
    pub fn finished(&mut self) -> Vec<(u64, Would)> {
        self.told.try_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    #[test]
    fn nobody_waits_for_a_preview_that_hangs_and_only_so_many_can() {
        let bell = Bell::new().unwrap();
        let mut previews = Previews::new(bell.clone());
        let (go, gone) = sync_channel::<()>(0);
        let gone = std::sync::Arc::new(std::sync::Mutex::new(gone));
        for number in 1..=AT_ONCE as u64 {
            let gone = gone.clone();
            let hangs = move || {
                let _ = gone.lock().unwrap().recv();
                Would::default()
            };
            assert_eq!(previews.begin(hangs), Ok(number));
        }
        assert!(previews.begin(Would::default).is_err());
        assert!(previews.finished().is_empty());
        // Whoever hung them lets one go.
        go.send(()).unwrap();
        let mut rung = [PollFd::new(bell.descriptor(), PollFlags::POLLIN)];
        poll(&mut rung, PollTimeout::NONE).unwrap();
        let told = previews.finished();
        assert_eq!(told.len(), 1);
        // It has told, and may not have ended yet.
        while !previews.looking[&told[0].0].is_finished() {
            std::thread::yield_now();
        }
        assert_eq!(previews.begin(Would::default), Ok(AT_ONCE as u64 + 1));
        drop(go);
    }
}
