//! What the helper must not forget, though its whole memory is lost (law 1).
//!
//! The one idea: a document that was used up, or that a newer one replaced, must not become good again
//! because a disk rots or an administrator moves a file away. So what makes it bad is a small part of the
//! memory, the **floor**, which the shell keeps a second time, beside the memory. Where the two differ the
//! stricter counts. It is written before anything is done by it, so nothing that was done is above it.
//!
//! | what | is remembered by | until |
//! |---|---|---|
//! | orders | the highest sequence | for ever |
//! | permits | the ids of those used | each has expired by the time below |
//! | the time | what it is at least ([`HelperCore::time_floor`]), to the hour | for ever |
//! | break-glass codes | the newest revision, and the numbers of its used ones | a newer revision is taken |
//! | assignment, guidance | the newest revision | for ever |
//!
//! Its size: [`MOST_USED_PERMITS`](super::MOST_USED_PERMITS) times 40 bytes, 16 numbers, and a handful more:
//! below 12 KiB.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cordon_model::ids::PermitId;
use cordon_model::time::UtcNanos;
use serde::{Deserialize, Serialize};

use super::{HelperCore, NotObeyed};

/// How often the time alone is a reason to write: 24 small writes a day.
const WRITES_TIME_EVERY: Duration = Duration::from_secs(3600);

/// The newest revision of each document that was ever taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Revisions {
    /// Of the assignment.
    pub assignment: u64,
    /// Of the guidance.
    pub guidance: u64,
    /// Of the break-glass codes.
    pub codes: u64,
}

/// What was used up besides orders.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Marks {
    /// Below which no document is taken.
    pub revisions: Revisions,
    /// Numbers of the used codes of that revision.
    pub used_codes: BTreeSet<u8>,
    /// Used permits, and when each expires.
    pub used_permits: BTreeMap<PermitId, UtcNanos>,
    /// It is later than this: a permit that had expired by it may be forgotten as used, so it must not look
    /// young again.
    pub time: Option<UtcNanos>,
}

/// Below what nothing is obeyed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Floor {
    /// The highest order sequence that was taken or refused.
    pub sequence: u64,
    /// What else is used up.
    pub marks: Marks,
}

impl Floor {
    /// Whether it holds back the same, but for less than an hour of time.
    #[must_use]
    pub fn holds_back_the_same_as(&self, other: &Self) -> bool {
        let (mine, theirs) = (&self.marks, &other.marks);
        let begin = UtcNanos::from_unix_nanos(0);
        let (here, there) = (mine.time.unwrap_or(begin), theirs.time.unwrap_or(begin));
        here.since(there).max(there.since(here)) < WRITES_TIME_EVERY
            && self.sequence == other.sequence
            && mine.revisions == theirs.revisions
            && mine.used_codes == theirs.used_codes
            && mine.used_permits == theirs.used_permits
    }
}

impl HelperCore {
    /// The newest revisions that were ever taken.
    pub(super) fn newest_revisions(&self) -> Revisions {
        let known = self.revisions;
        let newest = |held: Option<u64>, known: u64| held.map_or(known, |held| held.max(known));
        Revisions {
            assignment: newest(self.assignment.as_ref().map(|a| a.revision), known.assignment),
            guidance: newest(self.guidance.as_ref().map(|g| g.revision), known.guidance),
            codes: newest(self.glass.document.as_ref().map(|d| d.revision), known.codes),
        }
    }

    /// What must not be forgotten of this state.
    #[must_use]
    pub fn floor(&self) -> Floor {
        let marks = Marks {
            revisions: self.newest_revisions(),
            used_codes: self.glass.used.clone(),
            used_permits: self.used_permits.clone(),
            time: (self.time_floor > UtcNanos::from_unix_nanos(0)).then_some(self.time_floor),
        };
        Floor { sequence: self.last_sequence, marks }
    }

    /// At a start: the floor that was kept beside this state, which may be fresh. The stricter of the two
    /// counts from here on.
    pub fn meet(&mut self, floor: &Floor) {
        let mine = self.newest_revisions();
        let Floor { sequence, marks } = floor;
        self.last_sequence = self.last_sequence.max(*sequence);
        // Where the memory does not know more, it may be lost, and with it since when the machine runs.
        if marks.time.is_none_or(|time| time >= self.time_floor) {
            self.time_floor = marks.time.unwrap_or(self.time_floor);
            self.lacks_time_off = true;
        }
        for (permit, expires) in &marks.used_permits {
            let known = self.used_permits.entry(*permit).or_insert(*expires);
            *known = (*known).max(*expires);
        }
        if marks.revisions.codes > mine.codes {
            // A machine in whose memory older codes are may have been opened by the newer ones. It is given
            // the newer document again; the older one's codes are void.
            self.glass.document = None;
            self.glass.used.clone_from(&marks.used_codes);
        } else if marks.revisions.codes == mine.codes {
            self.glass.used.extend(&marks.used_codes);
        }
        // An assignment that is held stays, though a newer one was taken once: without any the lifelines
        // are not known, and what is in force could not be put back.
        self.revisions = Revisions {
            assignment: marks.revisions.assignment.max(mine.assignment),
            guidance: marks.revisions.guidance.max(mine.guidance),
            codes: marks.revisions.codes.max(mine.codes),
        };
    }
}

/// Whether a document may take the place of one with the revision `held`, if any, where `lowest` was taken
/// before the memory was lost. That very one is taken again: nobody has it any more.
pub(super) fn check_revision(
    revision: u64,
    held: Option<u64>,
    lowest: u64,
) -> Result<(), NotObeyed> {
    match held {
        Some(held) if revision <= held => Err(NotObeyed::OldRevision { revision, held }),
        // A signer counts from 1.
        Some(_) | None if revision < lowest.max(1) => {
            Err(NotObeyed::OldRevision { revision, held: lowest })
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
#[path = "floor_tests.rs"]
mod tests;
