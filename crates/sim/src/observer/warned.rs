//! The observer's account of who was told that a lease is about to end, and of whether anybody could have been.
//!
//! The one idea: time in which a machine is off, or its helper dead, is no time to tell anything in. So the last
//! seconds of a lease are counted back from where it really ended, in the machine's waking time, without those in
//! which no helper was at work.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cordon_model::action::AtEnd;
use cordon_model::ids::MeasureId;
use cordon_model::laws::{self, Violation};

use super::Observer;

/// How long a helper that wakes up in the last seconds of a lease may take to tell of it.
const SLACK: Duration = Duration::from_secs(1);

/// Whether a lease that has this much left began just now.
pub(super) fn is_of_a_moment_ago(left: Duration, granted: Duration) -> bool {
    left <= granted && left + SLACK > granted
}

/// Of one machine.
#[derive(Debug, Default)]
pub(super) struct Telling {
    /// How long each lease had left when people were told of its end last, since it began or was renewed.
    told: BTreeMap<MeasureId, Duration>,
    /// Leases whose end was judged.
    ended: BTreeSet<MeasureId>,
    /// When no helper was at work, in the machine's waking time.
    away: Vec<(Duration, Duration)>,
    /// Since when none is.
    away_since: Option<Duration>,
}

impl Telling {
    /// Its lease begins once more: what was told of the one before counts no longer.
    pub(super) fn begins_anew(&mut self, measure: MeasureId) {
        self.told.remove(&measure);
        self.ended.remove(&measure);
    }

    /// A lease that began at `since` has ended at `end`.
    pub(super) fn judge(
        &mut self,
        measure: MeasureId,
        warn: Duration,
        since: Duration,
        end: Duration,
    ) -> Result<(), Violation> {
        if !self.ended.insert(measure) {
            return Ok(());
        }
        let from = end.saturating_sub(warn).max(since);
        let away = self.away.iter().copied().chain(self.away_since.map(|since| (since, end)));
        let away: Duration =
            away.map(|(left, back)| back.min(end).saturating_sub(left.max(from))).sum();
        let at_work = end.saturating_sub(from).saturating_sub(away);
        laws::warned(measure, warn, at_work, self.told.get(&measure).copied(), SLACK)
    }
}

impl Observer {
    /// People are told that a lease ends in so long.
    pub(crate) fn warned(&mut self, index: usize, measure: MeasureId, left: Duration) {
        self.machines[index].telling.told.insert(measure, left);
    }

    /// A machine's helper died, or is back.
    pub(crate) fn helper_at_work(&mut self, index: usize, is_at_work: bool, now: Duration) {
        let awake = self.awake(index, now);
        let telling = &mut self.machines[index].telling;
        if !is_at_work {
            telling.away_since.get_or_insert(awake);
        } else if let Some(since) = telling.away_since.take() {
            telling.away.push((since, awake));
        }
    }

    /// A helper sets about what follows an isolation whose lease ended.
    pub(crate) fn steps_down(
        &mut self,
        index: usize,
        of: MeasureId,
        now: Duration,
    ) -> Result<(), Violation> {
        let awake = self.awake(index, now);
        let watched = &mut self.machines[index];
        let Some(taken) = watched.taken.get(&of) else { return Ok(()) };
        watched.telling.judge(of, taken.warn, taken.since_awake, awake)
    }

    /// A helper sets about taking a measure besides the isolation back, which nobody ordered: its lease ended.
    pub(crate) fn is_taken_back(
        &mut self,
        index: usize,
        measure: MeasureId,
        now: Duration,
    ) -> Result<(), Violation> {
        let awake = self.awake(index, now);
        let watched = &mut self.machines[index];
        let tier = watched.tier();
        let by_lease = watched.acts.get(&measure).filter(|act| {
            let is_by_people_or_care = act.to_go.is_some() || act.was_needed;
            !is_by_people_or_care && act.action.kind().at_end(tier) == AtEnd::TakeBack
        });
        let Some(act) = by_lease else { return Ok(()) };
        watched.telling.judge(measure, act.warn, act.since_awake, awake)
    }
}
