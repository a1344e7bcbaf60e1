//! The correlator: hits in, firings out.
//!
//! The one idea: hits wait until no earlier one is expected any more, and are then taken in the order of
//! their times, those of one time together. So what fires doesn't depend on the order in which they came,
//! as long as none is later than the stated lateness. There is no clock: time is what the events say. All
//! state is plain data, and all of it is limited: at a limit the oldest hits are given up, and counted.

mod carry;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use cordon_model::time::UtcNanos;

use super::section::Kind;
use super::window::{Entry, Group, Measure};
use super::{Correlations, Feed, Passed, Plan};
use crate::fold::fold;
use crate::number::Number;
use crate::rule::RuleIndex;
use crate::ruleset::RuleSet;

pub use carry::CarriedOver;

/// Numbers that one group of a correlation reckons with at once: putting one in its place among 10,000
/// moves 80 KB at the most, some microseconds.
pub const NUMBERS_A_GROUP: usize = 10_000;

/// Groups, or combinations of values to be counted, that one hit may belong to, where fields are lists.
pub const GROUPS_A_HIT: usize = 256;

/// Hits that are named with a firing. All are counted.
pub const EVIDENCE: usize = 64;

/// Hits that a firing hands on with itself along a chain.
const EVIDENCE_HANDED_ON: usize = 16;

/// How often everything that is over is looked for, in moments at which hits came: a group that gets no
/// more hits is otherwise only forgotten when another one of its correlation does.
const MOMENTS_A_SWEEP: u32 = 1_024;

/// How much may be kept, and for how long hits wait.
#[derive(Debug, Clone, Copy)]
pub struct CorrelatorLimits {
    /// How much later than a newer one a hit may come and still be taken in its order. Firings wait as
    /// long. At zero nothing waits, and whatever is older than the last hit comes too late.
    pub lateness: Duration,
    /// Most hits kept, each once for every correlation and group that it counts for.
    pub hits: usize,
    /// Most memory that they may take, in bytes, roughly.
    pub bytes: usize,
}

impl Default for CorrelatorLimits {
    /// For a machine that works by itself: two seconds, 200,000 hits (a correlation may ask for
    /// [`COUNTED`](crate::COUNTED)) and 64 MiB, of which a hit takes 200 bytes and its values.
    fn default() -> Self {
        Self { lateness: Duration::from_secs(2), hits: 200_000, bytes: 64 << 20 }
    }
}

/// That a rule matched, with the values that correlations want:
/// [`Matcher::hit`](crate::Matcher::hit) makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// The rule.
    pub rule: RuleIndex,
    /// Whatever the caller knows the event by: it comes back as evidence.
    pub tag: u64,
    pub(crate) values: Vec<Vec<Box<str>>>,
}

impl Hit {
    /// About how much memory it takes while it waits.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let values = self.values.iter().flatten().map(|value| value.len() + 16).sum::<usize>();
        size_of::<Self>() + self.values.len() * 24 + values
    }
}

/// A hit that made a correlation fire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    /// The rule that matched.
    pub rule: RuleIndex,
    /// When.
    pub time: UtcNanos,
    /// What the caller knows the event by.
    pub tag: u64,
}

/// A correlation fired.
#[derive(Debug, Clone, PartialEq)]
pub struct Firing {
    /// Which one, by its number among the rules.
    pub correlation: RuleIndex,
    /// When the hit was that made it fire.
    pub time: UtcNanos,
    /// When the first hit was that counts for it.
    pub since: UtcNanos,
    /// What it is grouped by: names and values.
    pub group: Vec<(Box<str>, Box<str>)>,
    /// What was asked for: the count, sum, average or percentile.
    pub outcome: Number,
    /// The hits that made it fire, in order of time; at most [`EVIDENCE`] of them.
    pub hits: Vec<Evidence>,
    /// How many hits there are within its timespan in all.
    pub hits_in_all: usize,
}

/// What a correlator could not take into account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unheard {
    /// Hits that came later than the lateness allows.
    pub late: u64,
    /// Hits of events that lack a field that a correlation groups by, once for each correlation.
    pub ungrouped: u64,
    /// Hits of events that lack the field, or a number in it, that a correlation counts.
    pub uncounted: u64,
    /// Hits given up before their time, at a limit.
    pub given_up: u64,
    /// Hits with more values than [`GROUPS_A_HIT`], of which only so many were taken.
    pub cut: u64,
}

/// Correlates. One for all events whose times can be compared.
///
/// A time that is wrong by far makes all that comes after it late: give it only times that a clock has
/// been read for, or that were looked at all together.
#[derive(Debug)]
pub struct Correlator {
    limits: CorrelatorLimits,
    /// Which set the state belongs to.
    serial: u64,
    waiting: BTreeMap<i64, Vec<Hit>>,
    waiting_hits: usize,
    waiting_bytes: usize,
    /// The newest time heard of.
    latest: i64,
    /// The last time whose hits were taken.
    taken: i64,
    states: Vec<State>,
    sequence: u64,
    hits: usize,
    bytes: usize,
    moments: u32,
    unheard: Unheard,
}

/// The groups of one correlation.
#[derive(Debug, Default)]
struct State {
    places: HashMap<Box<str>, usize>,
    groups: Vec<Option<Group>>,
    free: Vec<usize>,
    /// Every hit of every group, in order: sequence, time and place of the group.
    queue: VecDeque<(u64, i64, usize)>,
}

/// A hit on its way into a group.
struct Arrival {
    key: Box<str>,
    shown: Vec<Box<str>>,
    entry: Entry,
}

impl Correlator {
    /// A correlator that has heard nothing.
    #[must_use]
    pub fn new(limits: CorrelatorLimits) -> Self {
        Self {
            limits,
            serial: 0,
            waiting: BTreeMap::new(),
            waiting_hits: 0,
            waiting_bytes: 0,
            latest: i64::MIN,
            taken: i64::MIN,
            states: Vec::new(),
            sequence: 0,
            hits: 0,
            bytes: 0,
            moments: 0,
            unheard: Unheard::default(),
        }
    }

    /// Hears what matched at `time`, also nothing: then it is only told how late it is. `fired` is told
    /// of what fires, in order of time.
    ///
    /// With another set of rules than before it starts anew, unless it was told to
    /// [`carry_over`](Self::carry_over).
    pub fn hear(
        &mut self,
        rules: &RuleSet,
        time: UtcNanos,
        hits: impl IntoIterator<Item = Hit>,
        fired: &mut impl FnMut(Firing),
    ) {
        if self.serial != rules.serial {
            *self = Self { serial: rules.serial, unheard: self.unheard, ..Self::new(self.limits) };
            self.states.resize_with(rules.correlations.plans.len(), State::default);
        }
        let time = time.unix_nanos();
        for hit in hits {
            if time < self.taken {
                self.unheard.late += 1;
                continue;
            }
            self.waiting_hits += 1;
            self.waiting_bytes += hit.bytes();
            self.waiting.entry(time).or_default().push(hit);
        }
        self.latest = self.latest.max(time);
        let lateness = i64::try_from(self.limits.lateness.as_nanos()).unwrap_or(i64::MAX);
        let expected_from = self.latest.saturating_sub(lateness);
        while let Some((time, _)) = self.waiting.first_key_value() {
            // When too many wait, the oldest are taken before their time.
            let are_many = self.waiting_hits > self.limits.hits / 2
                || self.waiting_bytes > self.limits.bytes / 2;
            if *time > expected_from && !are_many {
                break;
            }
            self.take_first(&rules.correlations, fired);
        }
    }

    /// Takes all that waits: no earlier hit will come.
    pub fn finish(&mut self, rules: &RuleSet, fired: &mut impl FnMut(Firing)) {
        while !self.waiting.is_empty() && self.serial == rules.serial {
            self.take_first(&rules.correlations, fired);
        }
    }

    /// What could not be taken into account so far.
    #[must_use]
    pub fn unheard(&self) -> Unheard {
        self.unheard
    }

    /// How many hits are kept, waiting or within a timespan.
    #[must_use]
    pub fn hits_kept(&self) -> usize {
        self.hits + self.waiting_hits
    }

    /// Takes the hits of the earliest time that wait.
    fn take_first(&mut self, rules: &Correlations, fired: &mut impl FnMut(Firing)) {
        let Some((time, mut hits)) = self.waiting.pop_first() else { return };
        self.taken = time;
        self.waiting_hits -= hits.len();
        self.waiting_bytes -= hits.iter().map(Hit::bytes).sum::<usize>();
        hits.sort_by(|left, right| {
            (left.rule, left.tag, &left.values).cmp(&(right.rule, right.tag, &right.values))
        });
        // By correlation; whom a correlation feeds comes after it.
        let mut arrivals: BTreeMap<usize, Vec<Arrival>> = BTreeMap::new();
        for hit in hits {
            let evidence =
                [Evidence { rule: hit.rule, time: UtcNanos::from_unix_nanos(time), tag: hit.tag }];
            for feed in rules.feeds_of(hit.rule) {
                self.arrive(rules, *feed, time, &hit.values, &evidence, &mut arrivals);
            }
        }
        while let Some((number, arrived)) = arrivals.pop_first() {
            let Some(plan) = rules.plans.get(number) else { continue };
            self.forget_before(number, time.saturating_sub(plan.timespan_nanos));
            for place in self.put(number, plan, arrived) {
                self.judge(rules, number, plan, place, time, &mut arrivals, fired);
            }
        }
        self.moments += 1;
        if self.moments >= MOMENTS_A_SWEEP {
            self.moments = 0;
            for (number, plan) in rules.plans.iter().enumerate() {
                self.forget_before(number, time.saturating_sub(plan.timespan_nanos));
            }
        }
        self.keep_within_limits();
    }

    /// Makes of a hit what it is for one correlation: one entry for each group that it belongs to.
    fn arrive(
        &mut self,
        rules: &Correlations,
        feed: Feed,
        time: i64,
        values: &[Vec<Box<str>>],
        evidence: &[Evidence],
        arrivals: &mut BTreeMap<usize, Vec<Arrival>>,
    ) {
        let Some(plan) = rules.plans.get(feed.plan) else { return };
        let Some(input) = plan.inputs.get(feed.input) else { return };
        let of = |places: &[usize]| -> Vec<&[Box<str>]> {
            places.iter().map(|place| values.get(*place).map_or(&[][..], Vec::as_slice)).collect()
        };
        let (groups, are_cut) = combinations(&of(&input.group));
        self.unheard.cut += u64::from(are_cut);
        if groups.is_empty() {
            self.unheard.ungrouped += 1;
            return;
        }
        let counted = of(&input.counted);
        let measure = match plan.kind {
            Kind::EventCount | Kind::Temporal | Kind::TemporalOrdered => Measure::One,
            Kind::ValueCount => {
                let (values, are_cut) = combinations(&counted);
                self.unheard.cut += u64::from(are_cut);
                Measure::Values(values.iter().map(|values| key_of(values)).collect())
            }
            Kind::ValueSum | Kind::ValueAverage | Kind::ValuePercentile(_) => {
                let texts = counted.iter().flat_map(|values| values.iter());
                Measure::Numbers(
                    texts.filter_map(|text| Number::parse(text)).take(GROUPS_A_HIT).collect(),
                )
            }
        };
        let says_nothing = match &measure {
            Measure::One => false,
            Measure::Values(values) => values.is_empty(),
            Measure::Numbers(numbers) => numbers.is_empty(),
        };
        if says_nothing {
            self.unheard.uncounted += 1;
            return;
        }
        let carried: Vec<Vec<Box<str>>> =
            of(&input.carried).into_iter().map(<[Box<str>]>::to_vec).collect();
        for group in groups {
            self.sequence += 1;
            arrivals.entry(feed.plan).or_default().push(Arrival {
                key: key_of(&group),
                shown: group.into_iter().map(Into::into).collect(),
                entry: Entry {
                    sequence: self.sequence,
                    time,
                    input: feed.input,
                    measure: measure.clone(),
                    carried: carried.clone(),
                    evidence: evidence.to_vec(),
                },
            });
        }
    }

    /// Puts hits into their groups, and says which groups that are.
    fn put(&mut self, number: usize, plan: &Plan, mut arrived: Vec<Arrival>) -> Vec<usize> {
        let Some(state) = self.states.get_mut(number) else { return Vec::new() };
        // In the order of the rules, so that those of one time may be one chain.
        arrived.sort_by_key(|arrival| arrival.entry.input);
        let mut touched = Vec::new();
        for Arrival { key, shown, mut entry } in arrived {
            // Numbered where it is put: a queue is in order.
            self.sequence += 1;
            entry.sequence = self.sequence;
            let place = match state.places.get(&key) {
                Some(place) => *place,
                None => {
                    let group = Group::new(key.clone(), shown, plan.kind, plan.inputs.len());
                    self.bytes += group.bytes();
                    let place = state.free.pop().unwrap_or_else(|| {
                        state.groups.push(None);
                        state.groups.len() - 1
                    });
                    if let Some(free) = state.groups.get_mut(place) {
                        *free = Some(group);
                    }
                    state.places.insert(key, place);
                    place
                }
            };
            let Some(Some(group)) = state.groups.get_mut(place) else { continue };
            self.hits += 1;
            self.bytes += entry.bytes();
            state.queue.push_back((entry.sequence, entry.time, place));
            group.push(entry);
            if plan.kind.is_numeric() && group.window.len() > NUMBERS_A_GROUP {
                if let Some(entry) = group.pop() {
                    self.hits -= 1;
                    self.bytes -= entry.bytes();
                }
                self.unheard.given_up += 1;
            }
            if !touched.contains(&place) {
                touched.push(place);
            }
        }
        touched
    }

    /// Asks whether a group is as its correlation wants it, and says so to whom it concerns.
    #[expect(clippy::too_many_arguments, reason = "one step of one loop, named")]
    fn judge(
        &mut self,
        rules: &Correlations,
        number: usize,
        plan: &Plan,
        place: usize,
        time: i64,
        arrivals: &mut BTreeMap<usize, Vec<Arrival>>,
        fired: &mut impl FnMut(Firing),
    ) {
        let Some(state) = self.states.get_mut(number) else { return };
        let Some(Some(group)) = state.groups.get_mut(place) else { return };
        let oldest = time.saturating_sub(plan.timespan_nanos);
        let Some(outcome) = group.outcome(plan.kind, &plan.asked, oldest) else { return };
        // No hit is part of two firings: the next one is when this one's hits are all over.
        let fires = group.fired.is_none_or(|last| last < oldest);
        if fires {
            group.fired = Some(time);
            if rules.is_told(plan.rule) {
                let time = UtcNanos::from_unix_nanos(time);
                fired(Firing {
                    correlation: plan.rule,
                    time,
                    since: group.since().unwrap_or(time),
                    group: plan.group_by.iter().cloned().zip(group.shown.iter().cloned()).collect(),
                    outcome,
                    hits: group.evidence(plan.kind, EVIDENCE, true),
                    hits_in_all: group.window.len(),
                });
            }
        }
        if plan.feeds.is_empty() {
            return;
        }
        let evidence = group.evidence(plan.kind, EVIDENCE_HANDED_ON, fires);
        let mut are_cut = false;
        let values: Vec<Vec<Box<str>>> = plan
            .passes
            .iter()
            .map(|passed| match passed {
                Passed::Group(at) => group.shown.get(*at).cloned().into_iter().collect(),
                Passed::Carried(field) => {
                    let (values, are_more) = group.carried(*field, GROUPS_A_HIT);
                    are_cut |= are_more;
                    values
                }
            })
            .collect();
        self.unheard.cut += u64::from(are_cut);
        for feed in &plan.feeds {
            // What is counted is counted once; what has to be there is there as long as it holds.
            let counts_each = rules
                .plans
                .get(feed.plan)
                .is_none_or(|fed| fed.kind == Kind::EventCount || fed.kind.is_numeric());
            if fires || !counts_each {
                self.arrive(rules, *feed, time, &values, &evidence, arrivals);
            }
        }
    }

    /// Forgets a correlation's hits of before `oldest`.
    fn forget_before(&mut self, number: usize, oldest: i64) {
        let is_over =
            |state: &State| state.queue.front().is_some_and(|(_, time, _)| *time < oldest);
        while self.states.get(number).is_some_and(is_over) {
            self.drop_first(number);
        }
    }

    /// Drops the oldest hit of a correlation; says whether there was one to drop still.
    fn drop_first(&mut self, number: usize) -> bool {
        let Some(state) = self.states.get_mut(number) else { return false };
        let Some((sequence, _, place)) = state.queue.pop_front() else { return false };
        let Some(slot) = state.groups.get_mut(place) else { return false };
        let Some(group) = slot.as_mut() else { return false };
        // A group may have given it up already.
        if group.window.front().is_none_or(|entry| entry.sequence != sequence) {
            return false;
        }
        if let Some(entry) = group.pop() {
            self.hits -= 1;
            self.bytes -= entry.bytes();
        }
        if group.window.is_empty() {
            self.bytes -= group.bytes();
            state.places.remove(&group.key);
            *slot = None;
            state.free.push(place);
        }
        true
    }

    /// Gives up the oldest hits of all while there are too many.
    fn keep_within_limits(&mut self) {
        if self.hits <= self.limits.hits && self.bytes <= self.limits.bytes {
            return;
        }
        // A little more than needed, so that it isn't done for every hit.
        let (hits, bytes) = (self.limits.hits / 16 * 15, self.limits.bytes / 16 * 15);
        while self.hits > hits || self.bytes > bytes {
            let first = |(number, state): (usize, &State)| {
                state.queue.front().map(|(sequence, ..)| (*sequence, number))
            };
            let mut firsts: Vec<(u64, usize)> =
                self.states.iter().enumerate().filter_map(first).collect();
            firsts.sort_unstable();
            let Some((_, number)) = firsts.first().copied() else { return };
            let until = firsts.get(1).map_or(u64::MAX, |(sequence, _)| *sequence);
            while (self.hits > hits || self.bytes > bytes)
                && self.states.get(number).is_some_and(|state| {
                    state.queue.front().is_some_and(|(sequence, ..)| *sequence <= until)
                })
            {
                self.unheard.given_up += u64::from(self.drop_first(number));
            }
        }
    }
}

/// Every choice of one value from each list, up to [`GROUPS_A_HIT`]; and whether there are more. Of no
/// lists there is one choice, of an empty list none. Values that only differ in case are one.
fn combinations<'v>(lists: &[&'v [Box<str>]]) -> (Vec<Vec<&'v str>>, bool) {
    let mut choices: Vec<Vec<&str>> = vec![Vec::new()];
    let mut are_cut = false;
    for list in lists {
        let mut longer: Vec<Vec<&str>> = Vec::with_capacity(choices.len());
        for choice in &choices {
            for (at, value) in list.iter().enumerate() {
                let is_double =
                    list.len() > 1 && list.iter().take(at).any(|other| fold(other) == fold(value));
                if is_double {
                    continue;
                }
                if longer.len() == GROUPS_A_HIT {
                    are_cut = true;
                    break;
                }
                longer.push(choice.iter().copied().chain([&**value]).collect());
            }
        }
        choices = longer;
    }
    (choices, are_cut)
}

/// Values as one text that no other values have, compared as rules compare: whatever the case.
fn key_of(values: &[&str]) -> Box<str> {
    use std::fmt::Write as _;
    let mut key = String::new();
    for value in values {
        let value = fold(value);
        // Writing to a string doesn't fail.
        let _ = write!(key, "{}:{value}", value.len());
    }
    key.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hit_belongs_to_each_choice_of_its_values_once() {
        let boxed = |texts: &[&str]| texts.iter().map(|text| Box::from(*text)).collect::<Vec<_>>();
        let (users, hosts) = (boxed(&["a", "b", "A"]), boxed(&["x"]));
        let (choices, are_cut) = combinations(&[&users, &hosts]);
        assert_eq!((choices, are_cut), (vec![vec!["a", "x"], vec!["b", "x"]], false));
        assert_eq!(combinations(&[]).0.len(), 1);
        assert!(combinations(&[&users, &[]]).0.is_empty());
        let many: Vec<Box<str>> = (0..300).map(|n| n.to_string().into()).collect();
        let (choices, are_cut) = combinations(&[&many, &users]);
        assert_eq!((choices.len(), are_cut), (GROUPS_A_HIT, true));
    }

    #[test]
    fn values_do_not_run_together() {
        assert_ne!(key_of(&["a", "b"]), key_of(&["ab"]));
        assert_ne!(key_of(&["1:a", ""]), key_of(&["1", "a"]));
        assert_eq!(key_of(&["Bob"]), key_of(&["bOB"]));
    }
}
