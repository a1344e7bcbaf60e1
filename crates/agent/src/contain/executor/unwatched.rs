//! What happened to Cordon's tables while no helper ran.
//!
//! The one idea: with each memory goes **how the tables stood** when it was written, by the kernel's handle (a
//! table that somebody deleted and made again has another) and by a hash of what they held. The next start of the
//! same boot compares before it puts anything back. What is not as it stood was changed by somebody else, and that
//! is counted on the disk, for the hub to hear of as often as it takes.
//!
//! Before the helper itself changes a table, the memory is written without that: whoever dies in between takes
//! nobody's change for somebody's.

use std::io;

use cordon_model::time::BootId;
use serde::{Deserialize, Serialize};

use super::super::netlink::NetlinkError;
use super::super::protocol::Unwatched;
use super::super::upheld::Mark;
use super::{Executor, Kept, STATE};

/// How the tables stood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stood {
    /// In which boot: the next begins with none.
    boot: BootId,
    /// By which build of this program, which may read the same table as another value.
    build: String,
    /// The isolation's; `None`: there was none, or it was not as it was meant.
    isolation: Option<Mark>,
    /// That of blocked peers.
    blocks: Option<Mark>,
}

impl Executor {
    pub(super) fn as_it_stands(&self) -> Stood {
        Stood {
            boot: self.clocks.now().boot,
            build: env!("CARGO_PKG_VERSION").to_owned(),
            isolation: self.enforcer.mark(),
            blocks: self.means.blocks_mark(),
        }
    }

    /// Compares how the tables stood with how they stand, and counts what is other. Before anything is put back.
    pub(super) fn count_unwatched(&mut self, kept: &mut Kept) {
        let Some(stood) = kept.stood.take() else { return };
        let now = self.clocks.now();
        if stood.boot != now.boot {
            return;
        }
        let noticed = now.best_utc(kept.core.time_floor());
        let is_same_build = stood.build == env!("CARGO_PKG_VERSION");
        let is_other = |before: Option<Mark>, found: Result<Option<Mark>, NetlinkError>| {
            // What can't be read is put back, and not said to be somebody's doing.
            let (Some(before), Ok(found)) = (before, found) else { return false };
            !found.is_some_and(|found| {
                found.handle == before.handle && (!is_same_build || found == before)
            })
        };
        let isolation = is_other(stood.isolation, self.enforcer.found());
        let blocks = is_other(stood.blocks, self.means.blocks_found());
        for (is_other, table) in [(isolation, "isolation"), (blocks, "blocks")] {
            if !is_other {
                continue;
            }
            tracing::warn!(table, "the rules were changed while no helper ran");
            let total = kept.unwatched.total.saturating_add(1);
            kept.unwatched = Unwatched { total, noticed: Some(noticed) };
        }
    }

    /// Writes the memory, with or without how the tables stand.
    pub(super) fn write_state(&mut self, stood: Option<Stood>) -> io::Result<()> {
        let Some(enrolled) = &mut self.enrolled else { return Ok(()) };
        enrolled.kept.stood = stood;
        self.disk.write(STATE, &enrolled.kept)
    }
}
