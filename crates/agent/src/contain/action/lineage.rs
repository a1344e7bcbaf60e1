//! Which processes belong to a tree, looked at again and again while it grows.
//!
//! A process belongs to it if it is a root or was forked by one that belongs; that outlives its
//! parent's end, once it was seen. Between two looks a process can be forked by one that is gone by the
//! second look: its parent is then pid 1, and `/proc` can't tell. So the kernel's own telling of forks
//! (the proc connector) is heard as well, where it is to be had; and whoever is in a session that a
//! member leads belongs too.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::sensor::ProcessId;
use crate::sensor::connector::{Connector, Message};
use crate::sensor::proc_files::{self, Stat};

/// A process as it was seen a moment ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Which.
    pub id: ProcessId,
    /// Its parent's pid.
    pub parent: u32,
    /// The pid of the leader of its session.
    pub session: u32,
    /// One letter of `proc_pid_stat(5)`.
    pub state: u8,
    /// It is a part of the kernel.
    pub is_kernel_thread: bool,
}

impl Seen {
    /// The process with `pid` now.
    #[must_use]
    pub fn now(pid: u32) -> Option<Self> {
        proc_files::stat(pid).map(|stat| Self::new(pid, &stat))
    }

    /// Whether `process` itself still has its number, be it only because its parent took no notice yet.
    #[must_use]
    pub fn is_still(process: ProcessId) -> bool {
        Self::now(process.pid).is_some_and(|seen| seen.id.is(process))
    }

    /// All processes now.
    #[must_use]
    pub fn all() -> Vec<Self> {
        proc_files::pids().into_iter().filter_map(Self::now).collect()
    }

    fn new(pid: u32, stat: &Stat) -> Self {
        Self {
            id: ProcessId { pid, started: stat.started },
            parent: stat.parent,
            session: stat.session,
            state: stat.state,
            is_kernel_thread: stat.is_kernel_thread,
        }
    }

    /// Whether it ended, and only waits for its parent to take notice.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }

    /// Whether it is stopped by a signal.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.state == b'T'
    }
}

/// A tree of processes.
pub struct Lineage {
    /// Who was in it at the last look, by pid.
    members: HashMap<u32, ProcessId>,
    /// Pids that the kernel told of as forked within the tree, whether or not seen since, and the members'.
    told: HashSet<u32>,
    /// Processes in the tree that are left alone, and so is all that comes from them.
    left_alone: HashMap<u32, ProcessId>,
    connector: Option<Connector>,
    /// Forks that were heard, parent and child, of strangers too: one may turn out to be a member.
    heard: VecDeque<(u32, u32)>,
    /// Children of members that nobody looked at yet.
    born: Vec<u32>,
    missing: u64,
}

/// Forks that are remembered, the last ones: 8 bytes each, 512 KiB. At 1,640 a second, the highest rate
/// seen on two cores, 40 s; a tree is held within one or two.
const HEARD: usize = 64 << 10;

impl Lineage {
    /// The tree below `roots`, and below what is known already to have been forked in it. Who is gone by
    /// now is nobody's parent any more: who has its number is a stranger.
    #[must_use]
    pub fn of(roots: &[ProcessId], known: impl IntoIterator<Item = ProcessId>) -> Self {
        // Before the first look, so that no fork after it goes unheard.
        let connector = Connector::open().ok();
        let is_there = |process: &ProcessId| Seen::is_still(*process);
        let roots = roots.iter().copied().filter(is_there).collect();
        Self::new(connector, roots, known.into_iter().filter(is_there))
    }

    fn new(
        connector: Option<Connector>,
        roots: Vec<ProcessId>,
        known: impl Iterator<Item = ProcessId>,
    ) -> Self {
        let members: HashMap<u32, ProcessId> =
            known.chain(roots.iter().copied()).map(|process| (process.pid, process)).collect();
        let told = members.keys().copied().collect();
        Self {
            members,
            told,
            left_alone: HashMap::new(),
            connector,
            heard: VecDeque::new(),
            born: Vec::new(),
            missing: 0,
        }
    }

    /// Looks once more: the members that are there now, parents before their children, and whether the
    /// kernel told of forks in the tree since the look before.
    pub fn look(&mut self) -> (Vec<Seen>, bool) {
        let all = Seen::all();
        self.hear();
        let members = self.members_among(&all);
        (members, !self.born.is_empty())
    }

    /// The members that the kernel told of as forked just now, if they are still there. A process that
    /// does nothing but fork and end is gone before a look at all processes comes to it.
    pub fn just_born(&mut self) -> Vec<Seen> {
        self.hear();
        let born = std::mem::take(&mut self.born).into_iter().filter_map(Seen::now);
        let born: Vec<Seen> = born.filter(|seen| self.told.contains(&seen.id.pid)).collect();
        self.members.extend(born.iter().map(|seen| (seen.id.pid, seen.id)));
        born
    }

    /// Leaves `processes` alone from now on, and all that comes from them.
    pub fn leave_alone(&mut self, processes: impl IntoIterator<Item = ProcessId>) {
        for process in processes {
            self.told.remove(&process.pid);
            self.members.remove(&process.pid);
            self.left_alone.insert(process.pid, process);
        }
    }

    /// What may have been missed, in words; `None` if every fork was heard.
    #[must_use]
    pub fn doubt(&self) -> Option<String> {
        match (&self.connector, self.missing) {
            (Some(_), 0) => None,
            (Some(_), missing) => Some(format!(
                "{missing} of the kernel's messages about forks were lost: a process whose parent had \
                 ended by then may have been missed"
            )),
            (None, _) => Some(
                "the kernel does not tell of forks here: a process whose parent ended while the tree \
                 was being looked at may have been missed"
                    .to_owned(),
            ),
        }
    }

    fn hear(&mut self) {
        let Some(connector) = &mut self.connector else { return };
        let mut forks = Vec::new();
        while let Some(reading) = connector.next() {
            self.missing = self.missing.saturating_add(reading.missing);
            if let Some(Message::Forked { parent, child }) = reading.message {
                forks.push((parent, child));
            }
        }
        forks.into_iter().for_each(|(parent, child)| self.forked(parent, child));
    }

    fn forked(&mut self, parent: u32, child: u32) {
        if self.heard.len() == HEARD {
            self.heard.pop_front();
        }
        self.heard.push_back((parent, child));
        if self.told.contains(&parent) {
            self.told.insert(child);
            self.born.push(child);
            // Who had its number before is gone.
            self.members.remove(&child);
        } else {
            // A number that a stranger's child gets is no member's any more.
            self.told.remove(&child);
        }
    }

    /// Members were found by looking. What they forked before we knew them is in the tree too, and what
    /// that forked.
    fn found(&mut self, fresh: &HashSet<u32>) {
        // What had the same number before them is not they.
        let mut since: HashMap<u32, usize> = fresh.iter().map(|pid| (*pid, 0)).collect();
        for (at, (_, child)) in self.heard.iter().enumerate() {
            since.entry(*child).and_modify(|since| *since = at);
        }
        self.told.extend(fresh);
        for (at, (parent, child)) in self.heard.iter().enumerate() {
            if since.get(parent).is_some_and(|since| *since <= at) && !fresh.contains(child) {
                since.insert(*child, at);
                if self.told.insert(*child) {
                    self.born.push(*child);
                }
            }
        }
    }

    fn members_among(&mut self, all: &[Seen]) -> Vec<Seen> {
        let mut children: HashMap<u32, Vec<&Seen>> = HashMap::new();
        let mut followers: HashMap<u32, Vec<&Seen>> = HashMap::new();
        for seen in all.iter().filter(|seen| !seen.is_kernel_thread) {
            children.entry(seen.parent).or_default().push(seen);
            followers.entry(seen.session).or_default().push(seen);
        }
        // Whose start is known is known by that; only who was told of and never seen is known by the number.
        let is_known = |seen: &Seen| match self.members.get(&seen.id.pid) {
            Some(member) => member.is(seen.id),
            None => self.told.contains(&seen.id.pid),
        };
        let is_left_alone = |seen: &Seen| {
            self.left_alone.get(&seen.id.pid).is_some_and(|process| process.is(seen.id))
        };
        let mut waiting: Vec<&Seen> = all.iter().filter(|seen| is_known(seen)).collect();
        // Popped from the end: the oldest first.
        waiting.sort_by_key(|seen| std::cmp::Reverse(seen.id.started));
        let mut found = Vec::new();
        let mut members = HashMap::new();
        while let Some(seen) = waiting.pop() {
            if is_left_alone(seen) || members.insert(seen.id.pid, seen.id).is_some() {
                continue;
            }
            found.push(*seen);
            for born in [&children, &followers].into_iter().filter_map(|map| map.get(&seen.id.pid))
            {
                waiting.extend(born);
            }
        }
        // Gone, and all that they forked was heard by now.
        let there: HashMap<u32, ProcessId> =
            all.iter().map(|seen| (seen.id.pid, seen.id)).collect();
        for (pid, member) in &self.members {
            if !there.get(pid).is_some_and(|process| process.is(*member)) {
                self.told.remove(pid);
            }
        }
        let fresh = members.keys().filter(|pid| !self.told.contains(pid)).copied().collect();
        self.found(&fresh);
        self.members = members;
        parents_first(found)
    }
}

fn parents_first(found: Vec<Seen>) -> Vec<Seen> {
    let by_pid: HashMap<u32, Seen> = found.iter().map(|seen| (seen.id.pid, *seen)).collect();
    let (mut ordered, mut is_in) = (Vec::with_capacity(found.len()), HashSet::new());
    for seen in found {
        let mut line = vec![seen];
        while let Some(parent) = line.last().and_then(|child| by_pid.get(&child.parent))
            && !is_in.contains(&parent.id.pid)
            // A table read while it changes could go in a circle.
            && line.len() <= by_pid.len()
        {
            line.push(*parent);
        }
        line.into_iter().rev().filter(|s| is_in.insert(s.id.pid)).for_each(|s| ordered.push(s));
    }
    ordered
}

#[cfg(test)]
mod tests {
    use cordon_model::time::BootNanos;
    use proptest::prelude::*;

    use super::*;

    fn seen(pid: u32, parent: u32, session: u32) -> Seen {
        let started = BootNanos(u64::from(pid) * 10_000_000);
        Seen {
            id: ProcessId { pid, started },
            parent,
            session,
            state: b'S',
            is_kernel_thread: false,
        }
    }

    fn quiet(roots: &[Seen]) -> Lineage {
        Lineage::new(None, roots.iter().map(|root| root.id).collect(), std::iter::empty())
    }

    fn pids(found: &[Seen]) -> Vec<u32> {
        found.iter().map(|seen| seen.id.pid).collect()
    }

    #[test]
    fn a_tree_is_its_root_and_all_below_and_nobody_beside() {
        let all = [seen(10, 1, 10), seen(11, 10, 10), seen(12, 11, 12), seen(13, 1, 13)];
        let mut lineage = quiet(&all[..1]);
        assert_eq!(pids(&lineage.members_among(&all)), [10, 11, 12]);
    }

    #[test]
    fn who_was_seen_once_stays_a_member_when_its_parent_ends() {
        let all = [seen(10, 1, 1), seen(11, 10, 1), seen(12, 11, 1)];
        let mut lineage = quiet(&all[..1]);
        lineage.members_among(&all);
        let orphan = Seen { parent: 1, ..all[2] };
        assert_eq!(pids(&lineage.members_among(&[all[0], orphan])), [10, 12]);
    }

    #[test]
    fn an_orphan_in_a_members_session_belongs_to_the_tree() {
        let all = [seen(10, 1, 10), seen(13, 1, 10), seen(12, 13, 10)];
        let mut lineage = quiet(&all[..1]);
        assert_eq!(pids(&lineage.members_among(&all)), [10, 13, 12], "parents first");
    }

    #[test]
    fn a_number_used_again_is_not_the_member_that_had_it() {
        let all = [seen(10, 1, 1), seen(11, 10, 1)];
        let mut lineage = quiet(&all[..1]);
        lineage.members_among(&all);
        lineage.forked(999, 11);
        let mut stranger = seen(11, 999, 999);
        stranger.id.started = BootNanos(99_000_000_000);
        assert_eq!(pids(&lineage.members_among(&[all[0], stranger])), [10]);
        let mut not_the_root = stranger;
        not_the_root.id.pid = 10;
        lineage.forked(999, 10);
        assert_eq!(pids(&lineage.members_among(&[not_the_root])), [0; 0]);
    }

    #[test]
    fn who_has_the_number_of_a_member_that_is_gone_is_a_stranger() {
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let stranger = Seen::now(child.id()).unwrap().id;
        let gone = ProcessId { started: BootNanos(1), ..stranger };
        let look = |roots: &[ProcessId], known: &[ProcessId]| {
            let (found, _) = Lineage::of(roots, known.iter().copied()).look();
            pids(&found)
        };
        let found = [look(&[gone], &[]), look(&[], &[gone]), look(&[stranger], &[])];
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found, [vec![], vec![], vec![stranger.pid]]);
    }

    #[test]
    fn a_number_used_again_is_a_members_only_if_a_member_forked_it() {
        // Nobody tells of forks here: the start alone tells who has the number.
        let all = [seen(10, 1, 1), seen(11, 10, 1), seen(12, 10, 1)];
        let later = |pid, parent| {
            let mut later = seen(pid, parent, 1);
            later.id.started = BootNanos(99_000_000_000);
            later
        };
        let mut lineage = quiet(&all[..1]);
        lineage.members_among(&all);
        let stranger = later(11, 1);
        assert_eq!(pids(&lineage.members_among(&[all[0], stranger])), [10]);
        // Nor does what was forgotten of it come back.
        assert_eq!(pids(&lineage.members_among(&[all[0], stranger])), [10]);
        lineage.forked(10, 12);
        assert_eq!(pids(&lineage.members_among(&[all[0], later(12, 1)])), [10, 12]);
    }

    #[test]
    fn a_fork_that_was_told_makes_a_member_though_its_parent_is_gone() {
        let root = seen(10, 1, 1);
        let mut lineage = quiet(&[root]);
        lineage.forked(10, 11);
        lineage.forked(11, 12);
        assert_eq!(pids(&lineage.members_among(&[root, seen(12, 1, 12)])), [10, 12]);
    }

    #[test]
    fn what_a_member_forked_before_it_was_known_as_one_belongs_to_the_tree() {
        // 20 and its children are orphans in a session that the root leads.
        let all = [seen(10, 1, 10), seen(20, 1, 10)];
        let mut lineage = quiet(&all[..1]);
        for (parent, child) in [(20, 19), (7, 20), (20, 21), (21, 22), (8, 23)] {
            lineage.forked(parent, child);
        }
        assert_eq!(pids(&lineage.members_among(&all)), [10, 20]);
        assert_eq!(lineage.born, [21, 22], "19 was forked by who had the number before");
        assert!(!lineage.told.contains(&23));
    }

    #[test]
    fn what_is_left_alone_is_left_alone_with_all_below_it() {
        let all = [seen(10, 1, 1), seen(11, 10, 1), seen(12, 11, 1), seen(13, 10, 1)];
        let mut lineage = quiet(&all[..1]);
        lineage.members_among(&all);
        lineage.leave_alone([all[1].id, all[2].id]);
        let born = seen(14, 12, 1);
        lineage.forked(12, 14);
        let all = [all[0], all[1], all[2], all[3], born];
        assert_eq!(pids(&lineage.members_among(&all)), [10, 13]);
    }

    proptest! {
        #[test]
        fn a_member_is_never_a_stranger(parents in prop::collection::vec(0_usize..64, 64)) {
            // Process 0 stands for pid 1; each other's parent is an older one.
            let all: Vec<Seen> = (1..parents.len())
                .map(|at| seen(at as u32 + 1, (parents[at] % at) as u32 + 1, 1))
                .collect();
            let root = all[0];
            let found = quiet(&[root]).members_among(&all);
            let is_below = |mut pid: u32| loop {
                if pid == root.id.pid { return true }
                match all.iter().find(|seen| seen.id.pid == pid) {
                    Some(seen) => pid = seen.parent,
                    None => return false,
                }
            };
            for seen in &all {
                prop_assert_eq!(found.iter().any(|f| f.id == seen.id), is_below(seen.id.pid));
            }
        }
    }
}
