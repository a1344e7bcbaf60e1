//! Which machines are linked, and the way to each.
//!
//! The one idea: one link a machine, the newest. A machine that connects again has lost its old
//! connection (or somebody copied its key: then both are heard in turn and the ledger shows it); the old
//! one is closed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cordon_model::ids::MachineId;
use cordon_model::wire::FromHub;
use tokio::sync::{mpsc, watch};

/// Messages that wait for one machine: 64; the hub sends a few a minute. A machine that does not read is
/// cut off: at its next contact it gets what still counts.
pub(crate) const WAITING: usize = 64;

/// One machine's link.
#[derive(Debug)]
struct Link {
    number: u64,
    to: mpsc::Sender<FromHub>,
    end: watch::Sender<Option<String>>,
    is_welcomed: bool,
}

/// All links.
#[derive(Debug, Default)]
pub(crate) struct Links {
    links: Mutex<HashMap<MachineId, Link>>,
    last: AtomicU64,
}

/// The connection's side of a link.
#[derive(Debug)]
pub(crate) struct LinkSide {
    pub number: u64,
    pub messages: mpsc::Receiver<FromHub>,
    /// Becomes `Some(why)` when the link is to end.
    pub end: watch::Receiver<Option<String>>,
}

impl Links {
    /// A machine connected: any older link of it ends.
    pub fn open(&self, machine: MachineId) -> LinkSide {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let (to, messages) = mpsc::channel(WAITING);
        let (end, ended) = watch::channel(None);
        let link = Link { number, to, end, is_welcomed: false };
        if let Some(old) = self.lock().insert(machine, link) {
            old.end.send_replace(Some("another connection of this machine took its place".into()));
        }
        LinkSide { number, messages, end: ended }
    }

    /// A connection is over.
    pub fn close(&self, machine: MachineId, number: u64) {
        let mut links = self.lock();
        if links.get(&machine).is_some_and(|link| link.number == number) {
            links.remove(&machine);
        }
    }

    /// Sends over this very link, or not at all: whatever still counts is sent again.
    pub fn send(&self, machine: MachineId, number: u64, message: FromHub) {
        let mut links = self.lock();
        let Some(link) = links.get_mut(&machine).filter(|link| link.number == number) else {
            return;
        };
        link.is_welcomed |= matches!(message, FromHub::Welcome { .. });
        if link.to.try_send(message).is_err() {
            link.end.send_replace(Some("it does not read what it is sent".into()));
        }
    }

    /// Sends over whichever link the machine has now. Whether it has one.
    pub fn send_now(&self, machine: MachineId, message: FromHub) -> bool {
        let links = self.lock();
        let link = links.get(&machine).filter(|link| link.is_welcomed);
        link.is_some_and(|link| link.to.try_send(message).is_ok())
    }

    /// Whether the first message went out, so that others may follow.
    pub fn is_welcomed(&self, machine: MachineId, number: u64) -> bool {
        self.lock().get(&machine).is_some_and(|link| link.number == number && link.is_welcomed)
    }

    /// Ends a machine's link.
    pub fn end(&self, machine: MachineId, why: &str) {
        if let Some(link) = self.lock().get(&machine) {
            link.end.send_replace(Some(why.to_owned()));
        }
    }

    /// How many machines are linked.
    pub fn count(&self) -> usize {
        self.lock().values().filter(|link| link.is_welcomed).count()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<MachineId, Link>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_model::time::UtcNanos;

    #[test]
    fn a_second_connection_takes_the_first_ones_place() {
        let links = Links::default();
        let machine = MachineId::new(UtcNanos::from_unix_nanos(0), [1; 10]);
        let mut first = links.open(machine);
        let mut second = links.open(machine);
        assert!(first.end.borrow().is_some());
        links.send(machine, first.number, FromHub::Acknowledged(1));
        assert!(first.messages.try_recv().is_err());
        links.send(machine, second.number, FromHub::Acknowledged(2));
        assert_eq!(second.messages.try_recv(), Ok(FromHub::Acknowledged(2)));
        links.close(machine, first.number);
        links.send(machine, second.number, FromHub::Acknowledged(3));
        assert!(second.messages.try_recv().is_ok(), "the end of the first does not end the second");
    }

    #[test]
    fn a_machine_that_does_not_read_is_cut_off() {
        let links = Links::default();
        let machine = MachineId::new(UtcNanos::from_unix_nanos(0), [1; 10]);
        let side = links.open(machine);
        for number in 0..=WAITING as u64 {
            links.send(machine, side.number, FromHub::Acknowledged(number));
        }
        assert!(side.end.borrow().is_some());
    }
}
