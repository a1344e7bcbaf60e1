//! The lookout's disk: contents that are kept, changes, and what is known, as far as there is room for them.

use std::io;
use std::time::Instant;

use cordon_model::action::FilePath;
use cordon_model::limits::NAME_BYTES;
use cordon_model::time::UtcNanos;

use super::super::lines;
use super::super::spots::{Realm, SYSTEM};
use super::super::standing::{Standing, cut};
use super::{Lookout, in_root, limits};

/// Contents that nothing needs any more are removed after so many changes.
const TIDIED_AFTER: usize = 256;

impl Lookout {
    /// Keeps the content of what stands there now, if that is another than before.
    pub(super) fn keep(
        &mut self,
        shown: &FilePath,
        realm: Realm,
        now: &mut Standing,
        content: Option<&[u8]>,
    ) {
        let (Standing::File(file), Some(content)) = (now, content) else { return };
        let before = self.book.known.standings.get(shown);
        if let Some(Standing::File(before)) = before
            && before.sha256 == file.sha256
        {
            file.is_kept = before.is_kept;
            return;
        }
        let length = content.len() as u64;
        if !self.has_room_for(realm, length) {
            file.is_kept = false;
            self.book.known.unkept = self.book.known.unkept.saturating_add(1);
            return;
        }
        match self.store.keep(file.sha256, content) {
            Ok(()) => *self.kept.entry(realm).or_default() += length,
            Err(error) => {
                file.is_kept = false;
                self.gap(SYSTEM, format!("what stood somewhere is not kept: {error}"));
            }
        }
    }

    /// Of one home so much is kept, of all homes half of all.
    fn has_room_for(&self, realm: Realm, length: u64) -> bool {
        let of = |realm| self.kept.get(&realm).copied().unwrap_or(0);
        let all: u64 = self.kept.values().sum();
        let in_homes = all.saturating_sub(of(SYSTEM));
        all.saturating_add(length) <= limits::KEPT_BYTES
            && (realm == SYSTEM
                || (of(realm).saturating_add(length) <= limits::HOME_BYTES
                    && in_homes.saturating_add(length) <= limits::KEPT_BYTES / 2))
    }

    pub(super) fn write_change(&mut self, number: u64, after: Option<&[u8]>) {
        let Some(record) = self.book.records.get_mut(&number) else { return };
        let before = match &record.before {
            Standing::File(file) if file.is_kept => self.store.content(file.sha256).ok(),
            _ => None,
        };
        let sides = ((&record.before, before.as_deref()), (&record.after, after));
        let may_be_shown = !matches!(&record.after, Standing::File(_)) || after.is_some();
        let told = if may_be_shown { lines::told(record.kind, sides.0, sides.1) } else { vec![] };
        // Of whoever is named later for the same nothing is read anew.
        if !told.is_empty() {
            record.lines = told;
        }
        let written = self.store.write_change(record);
        if written.is_err() {
            self.unwritten.insert(number);
        }
        self.say_of_the_disk(written);
        self.since_tidied += 1;
        if self.since_tidied >= TIDIED_AFTER
            && let Err(error) = self.tidy()
        {
            tracing::warn!(%error, "what is kept can't be tidied");
        }
    }

    pub(super) fn forget(&mut self, number: u64) {
        self.unwritten.remove(&number);
        if let Err(error) = self.store.forget(number) {
            tracing::warn!(%error, number, "a change can't be forgotten");
        }
    }

    /// What can't be looked out for is told with every answer. Of one home, and of all homes, only so much is: what is missed
    /// of the system is crowded out by nobody.
    pub(super) fn gap(&mut self, realm: Realm, what: String) {
        let what = cut(&what, NAME_BYTES);
        let of = |is: &dyn Fn(Realm) -> bool| self.gaps.iter().filter(|(of, _)| is(*of)).count();
        let is_room = match realm {
            SYSTEM => of(&|other| other == SYSTEM) < limits::GAPS,
            _ => {
                of(&|other| other != SYSTEM) < limits::GAPS
                    && of(&|other| other == realm) < limits::HOME_GAPS
            }
        };
        if is_room && self.gaps.insert((realm, what.clone())) {
            // A place that is known to see less is no fault.
            tracing::info!(what, "the lookout misses something");
            self.dirty.get_or_insert_with(Instant::now);
        }
    }

    pub(super) fn tidy(&mut self) -> io::Result<()> {
        self.since_tidied = 0;
        self.store.keep_only(&self.book.contents())?;
        let (root, spots) = (&self.root, &self.spots);
        self.kept = self.book.bytes_kept(|path| spots.realm_of(&in_root(root, path)));
        Ok(())
    }

    /// Somebody looks out still.
    pub(super) fn live(&mut self) {
        self.lived = Some(Instant::now());
        let lived = self.store.live(UtcNanos::now());
        self.say_of_the_disk(lived);
    }

    /// Writes all that is not on the disk. Where that takes nothing (anybody can fill one), it is tried again: whoever looks
    /// out goes on.
    pub(super) fn write_known(&mut self) {
        self.dirty = None;
        self.book.known.gaps = self.gaps.iter().map(|(_, what)| what.clone()).collect();
        let written = self.write_all();
        if written.is_err() {
            self.dirty = Some(Instant::now());
        }
        self.say_of_the_disk(written);
    }

    fn write_all(&mut self) -> io::Result<()> {
        for number in self.unwritten.clone() {
            if let Some(record) = self.book.records.get(&number) {
                self.store.write_change(record)?;
            }
            self.unwritten.remove(&number);
        }
        // The changes first, which are not flushed one by one.
        self.store.flush()?;
        self.store.write_known(&self.book.known)
    }

    fn say_of_the_disk(&mut self, written: io::Result<()>) {
        match written {
            Err(error) if !self.is_disk_full => {
                tracing::error!(%error, "what is seen can't be written; tried again until it can");
                self.is_disk_full = true;
            }
            Ok(()) if self.is_disk_full => {
                tracing::info!("what is seen is written again");
                self.is_disk_full = false;
            }
            _ => {}
        }
    }
}
