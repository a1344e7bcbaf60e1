//! What is looked at later: what can't be looked at now, and what somebody writes to faster than their home may cost.
//!
//! The one idea: whoever is named meanwhile is kept with it, so that putting a look off makes nobody's doing somebody
//! else's; and whoever has much looked at has only their own home wait.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cordon_model::change::Doer;

use super::limits;
use super::spots::{Realm, SYSTEM};
use super::waiting::add_doer;

/// A place that is to be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Debt {
    /// Whose it is.
    pub realm: Realm,
    /// Who is named for it.
    pub doers: Vec<Doer>,
    /// More happened than could be heard: nobody is named for what is different, whoever is heard of.
    pub is_lost: bool,
    /// How often it was looked at in vain.
    pub tries: u32,
}

/// All of these, each with when it is to be looked at.
#[derive(Debug, Default)]
pub struct Owed {
    of: BTreeMap<PathBuf, (Debt, Instant)>,
    /// So many are of each.
    counts: BTreeMap<Realm, usize>,
}

impl Owed {
    /// Has it looked at from `at` on. `false`: of these too much is to be looked at later.
    pub fn owe(&mut self, path: &Path, debt: Debt, at: Instant) -> bool {
        if let Some((known, again)) = self.of.get_mut(path) {
            debt.doers.into_iter().for_each(|doer| add_doer(&mut known.doers, doer));
            known.is_lost |= debt.is_lost;
            known.tries = known.tries.max(debt.tries);
            *again = at;
            return true;
        }
        let most = if debt.realm == SYSTEM { limits::OWED } else { limits::HOME_OWED };
        let count = self.counts.entry(debt.realm).or_default();
        if *count >= most {
            return false;
        }
        *count += 1;
        self.of.insert(path.to_owned(), (debt, at));
        true
    }

    /// Names these for it, if it is owed; else they are given back.
    #[must_use]
    pub fn name(&mut self, path: &Path, doers: Vec<Doer>) -> Option<Vec<Doer>> {
        match self.of.get_mut(path) {
            Some((debt, _)) => {
                doers.into_iter().for_each(|doer| add_doer(&mut debt.doers, doer));
                None
            }
            None => Some(doers),
        }
    }

    /// One whose time has come.
    pub fn take_due(&mut self, now: Instant) -> Option<(PathBuf, Debt)> {
        let (path, _) = self.of.iter().find(|(_, (_, at))| *at <= now)?;
        let path = path.clone();
        let (debt, _) = self.of.remove(&path)?;
        self.paid(debt.realm);
        Some((path, debt))
    }

    /// Gives up all that is of these.
    pub fn give_up(&mut self, realm: Realm) {
        self.of.retain(|_, (debt, _)| debt.realm != realm);
        self.counts.remove(&realm);
    }

    /// How long until the next is due.
    #[must_use]
    pub fn next_in(&self, now: Instant) -> Option<Duration> {
        let next = self.of.values().map(|(_, at)| *at).min()?;
        Some(next.saturating_duration_since(now))
    }

    /// Whether nothing is owed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    fn paid(&mut self, realm: Realm) {
        if let Some(count) = self.counts.get_mut(&realm) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.counts.remove(&realm);
            }
        }
    }
}

/// When what was looked at in vain so often is looked at again: sooner at first.
#[must_use]
pub fn wait_after(tries: u32) -> Duration {
    limits::OWED_AFTER * 2_u32.saturating_pow(tries.saturating_sub(1).min(6))
}

/// How much was read of each home lately: nobody has the whole processor by having their own files read.
#[derive(Debug, Default)]
pub struct Spent(BTreeMap<Realm, (Instant, u64)>);

impl Spent {
    /// So many bytes of these were read. A look that read nothing costs something, too.
    pub fn spend(&mut self, realm: Realm, bytes: u64, now: Instant) {
        if realm == SYSTEM {
            return;
        }
        let (since, spent) = self.0.entry(realm).or_insert((now, 0));
        if now.saturating_duration_since(*since) >= limits::SPENT_IN {
            (*since, *spent) = (now, 0);
        }
        *spent = spent.saturating_add(bytes.max(limits::LOOK_BYTES));
        let is_over = |since: Instant| now.saturating_duration_since(since) >= limits::SPENT_IN;
        if self.0.len() > limits::LOST {
            self.0.retain(|_, (since, _)| !is_over(*since));
        }
    }

    /// Until when no more of these is to be read, if so much was.
    #[must_use]
    pub fn pause(&self, realm: Realm, now: Instant) -> Option<Instant> {
        let (since, spent) = self.0.get(&realm)?;
        let ends = *since + limits::SPENT_IN;
        (now < ends && *spent >= limits::HOME_SPENT).then_some(ends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn debt(realm: Realm, pids: &[u32]) -> Debt {
        let doer =
            |pid: &u32| Doer { pid: *pid, process: None, above: Vec::new(), is_cordon: false };
        Debt { realm, doers: pids.iter().map(doer).collect(), is_lost: false, tries: 1 }
    }

    #[test]
    fn whoever_is_named_meanwhile_is_named_when_it_is_looked_at() {
        let (mut owed, now) = (Owed::default(), Instant::now());
        let (path, later) = (Path::new("/a"), now + Duration::from_secs(1));
        assert!(owed.owe(path, debt(1, &[7]), later));
        assert_eq!(owed.name(path, debt(1, &[8]).doers), None);
        assert_eq!(owed.name(Path::new("/b"), Vec::new()), Some(Vec::new()));
        assert_eq!(owed.take_due(now), None);
        assert_eq!(owed.next_in(now), Some(Duration::from_secs(1)));
        let (_, paid) = owed.take_due(later).unwrap();
        assert_eq!(paid.doers.iter().map(|doer| doer.pid).collect::<Vec<_>>(), [7, 8]);
        assert!(owed.is_empty());
    }

    #[test]
    fn one_home_has_only_its_own_put_off_and_only_so_much() {
        let (mut owed, now) = (Owed::default(), Instant::now());
        for number in 0..limits::HOME_OWED {
            assert!(owed.owe(Path::new(&format!("/a/{number}")), debt(1, &[]), now));
        }
        assert!(!owed.owe(Path::new("/a/more"), debt(1, &[]), now));
        assert!(owed.owe(Path::new("/b"), debt(2, &[]), now));
        assert!(owed.owe(Path::new("/etc/crontab"), debt(SYSTEM, &[]), now));
        owed.give_up(1);
        assert!(owed.owe(Path::new("/a/more"), debt(1, &[]), now));
    }

    #[test]
    fn so_much_is_read_of_one_home_in_a_second_and_of_the_others_all_the_same() {
        let (mut spent, now) = (Spent::default(), Instant::now());
        spent.spend(1, limits::HOME_SPENT, now);
        spent.spend(SYSTEM, u64::MAX, now);
        assert_eq!(spent.pause(1, now), Some(now + limits::SPENT_IN));
        assert_eq!((spent.pause(2, now), spent.pause(SYSTEM, now)), (None, None));
        let later = now + limits::SPENT_IN;
        assert_eq!(spent.pause(1, later), None);
        spent.spend(1, 1, later);
        assert_eq!(spent.pause(1, later), None, "it begins anew");
        for _ in 0..limits::HOME_SPENT / limits::LOOK_BYTES {
            spent.spend(2, 0, now);
        }
        assert!(spent.pause(2, now).is_some(), "looks that read nothing count, too");
    }

    #[test]
    fn what_is_restless_is_looked_at_less_and_less_often() {
        let waits: Vec<_> = (1..9).map(|tries| wait_after(tries).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_600, 3_200, 6_400, 6_400]);
    }
}
