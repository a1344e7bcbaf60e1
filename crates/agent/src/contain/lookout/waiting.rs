//! What waits to be looked at: each place once, with all who are named for it, and of each home only so much.
//!
//! The one idea: whoever makes much wait, makes only their own wait. What is looked at next is taken from the system and
//! from each home in turn.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cordon_model::change::{Doer, MOST_DOERS};

use super::limits;
use super::spots::{Realm, SYSTEM};

/// A thing or folder, and who is named for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waits {
    /// Whose it is.
    pub realm: Realm,
    /// Where.
    pub path: PathBuf,
    /// It is a folder that came or went.
    pub is_folder: bool,
    /// Who is named.
    pub doers: Vec<Doer>,
}

/// All that waits.
#[derive(Debug, Default)]
pub struct Waiting {
    of: BTreeMap<Realm, BTreeMap<(PathBuf, bool), Vec<Doer>>>,
    last: Realm,
}

impl Waiting {
    /// Adds it; `false`: of these too much waits, and all of it was given up.
    pub fn add(&mut self, one: Waits) -> bool {
        let theirs = self.of.entry(one.realm).or_default();
        let most = if one.realm == SYSTEM { limits::WAITING } else { limits::HOME_WAITING };
        let place = (one.path, one.is_folder);
        if theirs.len() >= most && !theirs.contains_key(&place) {
            self.of.remove(&one.realm);
            return false;
        }
        let doers = theirs.entry(place).or_default();
        one.doers.into_iter().for_each(|doer| add_doer(doers, doer));
        true
    }

    /// Has a thing wait no longer: it is looked at later.
    pub fn forget(&mut self, realm: Realm, path: &Path) {
        if let Some(theirs) = self.of.get_mut(&realm) {
            theirs.remove(&(path.to_owned(), false));
            if theirs.is_empty() {
                self.of.remove(&realm);
            }
        }
    }

    /// Gives up all that is of these.
    pub fn give_up(&mut self, realm: Realm) {
        self.of.remove(&realm);
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// Who is named for a thing that waits still.
    #[must_use]
    pub fn named(&self, realm: Realm, path: &Path) -> &[Doer] {
        let theirs = self.of.get(&realm);
        theirs.and_then(|theirs| theirs.get(&(path.to_owned(), false))).map_or(&[], Vec::as_slice)
    }

    /// The next: of those whose turn it is.
    pub fn take(&mut self) -> Option<Waits> {
        let after = self.of.range(self.last.saturating_add(1)..).next();
        let realm = *after.or_else(|| self.of.iter().next())?.0;
        self.last = realm;
        let theirs = self.of.get_mut(&realm)?;
        let ((path, is_folder), doers) = theirs.pop_first()?;
        if theirs.is_empty() {
            self.of.remove(&realm);
        }
        Some(Waits { realm, path, is_folder, doers })
    }
}

/// One more than may be named is enough to know that it is too many.
pub fn add_doer(doers: &mut Vec<Doer>, doer: Doer) {
    if doers.len() <= MOST_DOERS && !doers.contains(&doer) {
        doers.push(doer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(realm: Realm, number: usize) -> Waits {
        let path = PathBuf::from(format!("/{realm}/{number:05}"));
        Waits { realm, path, is_folder: false, doers: Vec::new() }
    }

    #[test]
    fn whoever_makes_much_wait_has_nobody_else_wait() {
        let mut waiting = Waiting::default();
        for number in 0..limits::HOME_WAITING {
            assert!(waiting.add(waits(1, number)));
            assert!(waiting.add(waits(1, number)), "it waits already");
        }
        for realm in [SYSTEM, 7] {
            assert!(waiting.add(waits(realm, 0)) && waiting.add(waits(realm, 1)));
        }
        let order: Vec<_> = (0..7).map(|_| waiting.take().unwrap().realm).collect();
        assert_eq!(order, [1, 7, 0, 1, 7, 0, 1]);
        for number in 0..3 {
            assert!(waiting.add(waits(1, 10_000 + number)));
        }
        assert!(!waiting.add(waits(1, 20_000)), "too much");
        assert!(waiting.is_empty());
        assert!(waiting.add(waits(1, 1)));
        waiting.forget(1, &waits(1, 1).path);
        assert!(waiting.is_empty());
    }
}
