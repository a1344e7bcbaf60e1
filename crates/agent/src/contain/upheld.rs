//! A table of Cordon's that is put in force, read back, and found changed when somebody changes it.
//!
//! The one idea: what was read back as meant is remembered with the kernel's handle, so that a later look
//! is one comparison with that, and a table that somebody deleted and made again is another one.
//!
//! A table that is gone is put back before anything else is asked or worked out ([`Upheld::put_back`]), for
//! there is a race to be won. Whoever deletes rules and then closes their netlink socket, as `nft` does when it
//! ends, keeps the kernel's lock on all transactions of the namespace until the kernel has freed what was
//! deleted, and for that it waits until every processor has passed a quiet state (`nft_rcv_nl_event` in
//! `nf_tables_api.c`; seen with Linux 6.18): 4 to 16 ms in which a transaction of ours stands still, and packets
//! pass. A transaction that is there first is in force in a fraction of one.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::netlink::NetlinkError;
use super::nft::Table;
use super::table::{InForce, Tables};

/// How what is in the kernel compares with what was put there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing was put there, or it was refused.
    NothingPut,
    /// It is there, to the handle.
    AsMeant,
    /// It was put there, and was not to be read back as it was meant.
    NeverAsMeant,
    /// It was there as meant, and somebody has changed it since.
    Changed,
}

/// By what a table of Cordon's is known again: see [`Standing`] for what may be different.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// The kernel's handle.
    pub handle: u64,
    /// SHA-256 of what it holds, as this build of the program writes that down.
    #[serde(with = "serde_bytes")]
    content: [u8; 32],
}

impl Mark {
    fn of(found: &InForce) -> Self {
        let content = Sha256::digest(format!("{:?}", found.table)).into();
        Self { handle: found.handle, content }
    }
}

/// What was seen of a table when it was put in force.
#[derive(Debug)]
pub(super) struct Put {
    /// The kernel's handle of what is there now.
    pub(super) handle: Option<u64>,
    /// Whether that is what was meant.
    pub(super) is_as_meant: bool,
    /// Why it could not be read back, if so.
    pub(super) unread: Option<NetlinkError>,
}

/// What was seen of the rules that were put into the kernel last.
#[derive(Debug)]
enum Seen {
    Nothing,
    AsMeant(InForce, Mark),
    Otherwise,
}

/// One table of Cordon's, and what was seen of it last.
#[derive(Debug)]
pub(super) struct Upheld {
    pub(super) tables: Tables,
    seen: Seen,
}

impl Upheld {
    /// The table that `tables` leads to, of which nothing was seen yet.
    pub(super) fn new(tables: Tables) -> Self {
        Self { tables, seen: Seen::Nothing }
    }

    /// Puts `meant` in force in place of what is there, and reads it back. What is there already just as
    /// meant (after a restart of the helper) is left alone.
    pub(super) fn put(&mut self, meant: &Table) -> Result<Put, NetlinkError> {
        let mut unread = None;
        // What can't be read, because somebody keeps changing it, can still be replaced.
        let mut found = self.tables.read_back().unwrap_or(None);
        if found.as_ref().map(|found| &found.table) != Some(meant) {
            self.tables.replace(meant)?;
            self.seen = Seen::Otherwise;
            found = self.tables.read_back().unwrap_or_else(|error| {
                unread = Some(error);
                None
            });
        }
        let handle = found.as_ref().map(|found| found.handle);
        let is_as_meant = found.as_ref().is_some_and(|found| found.table == *meant);
        self.seen = match (found, &self.seen) {
            (Some(found), Seen::AsMeant(seen, _)) if is_as_meant && found == *seen => {
                return Ok(Put { handle, is_as_meant, unread });
            }
            (Some(found), _) if is_as_meant => {
                let mark = Mark::of(&found);
                Seen::AsMeant(found, mark)
            }
            _ => Seen::Otherwise,
        };
        Ok(Put { handle, is_as_meant, unread })
    }

    /// Puts what was seen as meant back if its table is gone, or another by now; and says whether it was. Nothing
    /// is read back yet: [`Upheld::put`] does, and finds it there.
    pub(super) fn put_back(&mut self) -> Result<bool, NetlinkError> {
        let Seen::AsMeant(seen, _) = &self.seen else { return Ok(false) };
        if self.tables.handle()? == Some(seen.handle) {
            return Ok(false);
        }
        self.tables.make(&seen.table)?;
        self.seen = Seen::Otherwise;
        Ok(true)
    }

    /// Takes the table away, and says whether it is gone.
    pub(super) fn remove(&mut self) -> Result<bool, NetlinkError> {
        // Nothing is written where nothing is: others would be told of a change that was none.
        let is_gone = if self.tables.read_back()?.is_none() {
            true
        } else {
            self.tables.remove()?;
            self.tables.read_back()?.is_none()
        };
        self.seen = Seen::Nothing;
        Ok(is_gone)
    }

    /// How what is in the kernel now compares with what was put there last.
    pub(super) fn standing(&mut self) -> Result<Standing, NetlinkError> {
        Ok(match &self.seen {
            Seen::Nothing => Standing::NothingPut,
            Seen::Otherwise => Standing::NeverAsMeant,
            Seen::AsMeant(seen, _) if self.tables.read_back()?.as_ref() == Some(seen) => {
                Standing::AsMeant
            }
            Seen::AsMeant(..) => Standing::Changed,
        })
    }

    /// By what the table is known again that was put there last, as it was meant.
    pub(super) fn mark(&self) -> Option<Mark> {
        match &self.seen {
            Seen::AsMeant(_, mark) => Some(*mark),
            Seen::Nothing | Seen::Otherwise => None,
        }
    }

    /// The same of what is in the kernel now, whoever put it there.
    pub(super) fn found(&mut self) -> Result<Option<Mark>, NetlinkError> {
        Ok(self.tables.read_back()?.as_ref().map(Mark::of))
    }
}
