//! One group of one correlation: its hits within the timespan, and what they come to.
//!
//! The one idea: nothing is reckoned anew for a hit that comes or goes. Counts are kept beside the window;
//! the ordered kind keeps, for each rule and length, the latest beginning of a chain that ends there, which
//! only ever grows and needs no window at all; only numbers that aren't whole are added up again, because
//! taking them away again would not give exactly what was before.

use std::collections::{BTreeMap, HashMap, VecDeque};

use cordon_model::time::UtcNanos;

use super::section::{Asked, Kind};
use super::state::Evidence;
use crate::number::Number;

/// Whole numbers beyond this are reckoned with as reals: 100,000 of these stay within 127 bits.
const WHOLE: i128 = 1 << 96;

/// A hit in a window.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// Numbers hits in the order in which they were taken.
    pub sequence: u64,
    pub time: i64,
    /// As which of the correlation's rules.
    pub input: usize,
    pub measure: Measure,
    /// By carried field: its values.
    pub carried: Vec<Vec<Box<str>>>,
    pub evidence: Vec<Evidence>,
}

/// What a hit adds to the count.
#[derive(Debug, Clone)]
pub(super) enum Measure {
    /// Itself.
    One,
    /// These values.
    Values(Vec<Box<str>>),
    /// These numbers.
    Numbers(Vec<Number>),
}

impl Entry {
    /// About how much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        let measure = match &self.measure {
            Measure::One => 0,
            // Once here, and at worst once more as a key with its count.
            Measure::Values(values) => values.iter().map(|value| 2 * value.len() + 64).sum(),
            Measure::Numbers(numbers) => numbers.len() * 40,
        };
        let carried: usize = self
            .carried
            .iter()
            .map(|values| values.iter().map(|value| 2 * value.len() + 64).sum::<usize>() + 24)
            .sum();
        size_of::<Self>() + measure + carried + self.evidence.len() * size_of::<Evidence>()
    }
}

/// A group.
#[derive(Debug)]
pub(super) struct Group {
    pub key: Box<str>,
    /// Its values as the first hit spelled them.
    pub shown: Vec<Box<str>>,
    pub window: VecDeque<Entry>,
    /// When it last fired.
    pub fired: Option<i64>,
    tally: Tally,
    /// By carried field: its values, with how many hits have each.
    carried: Vec<BTreeMap<Box<str>, usize>>,
}

#[derive(Debug)]
enum Tally {
    Events,
    Values(HashMap<Box<str>, usize>),
    Rules { hits: Vec<usize>, chains: Option<Chains> },
    Numbers(Numbers),
}

/// Chains of rules in their order.
#[derive(Debug)]
struct Chains {
    rules: usize,
    /// By last rule and length - 1: when the latest such chain began. `i64::MIN`: there is none.
    began: Vec<i64>,
}

#[derive(Debug, Default)]
struct Numbers {
    /// For percentiles, in order.
    sorted: Option<Vec<f64>>,
    wholes: i128,
    reals: usize,
    count: usize,
}

impl Group {
    pub(super) fn new(key: Box<str>, shown: Vec<Box<str>>, kind: Kind, rules: usize) -> Self {
        let tally = match kind {
            Kind::EventCount => Tally::Events,
            Kind::ValueCount => Tally::Values(HashMap::new()),
            Kind::Temporal => Tally::Rules { hits: vec![0; rules], chains: None },
            Kind::TemporalOrdered => Tally::Rules {
                hits: vec![0; rules],
                chains: Some(Chains { rules, began: vec![i64::MIN; rules * rules] }),
            },
            Kind::ValueSum | Kind::ValueAverage => Tally::Numbers(Numbers::default()),
            Kind::ValuePercentile(_) => {
                Tally::Numbers(Numbers { sorted: Some(Vec::new()), ..Numbers::default() })
            }
        };
        Self { key, shown, window: VecDeque::new(), fired: None, tally, carried: Vec::new() }
    }

    /// About how much memory an empty one takes.
    pub(super) fn bytes(&self) -> usize {
        let shown: usize = self.shown.iter().map(|value| value.len() + 16).sum();
        let table = match &self.tally {
            Tally::Rules { hits, chains } => {
                (hits.len() + chains.as_ref().map_or(0, |chains| chains.began.len())) * 8
            }
            _ => 0,
        };
        // The key stands in the table of groups too.
        size_of::<Self>() + 2 * (self.key.len() + 16) + shown + table
    }

    /// Takes a hit, which is no older than the last.
    pub(super) fn push(&mut self, entry: Entry) {
        match (&mut self.tally, &entry.measure) {
            (Tally::Values(counts), Measure::Values(values)) => {
                for value in values {
                    *counts.entry(value.clone()).or_default() += 1;
                }
            }
            (Tally::Rules { hits, chains }, _) => {
                if let Some(hits) = hits.get_mut(entry.input) {
                    *hits += 1;
                }
                if let Some(chains) = chains {
                    chains.push(entry.input, entry.time);
                }
            }
            (Tally::Numbers(numbers), Measure::Numbers(values)) => {
                values.iter().for_each(|value| numbers.add(*value));
            }
            _ => {}
        }
        if self.carried.len() < entry.carried.len() {
            self.carried.resize_with(entry.carried.len(), BTreeMap::new);
        }
        for (known, values) in self.carried.iter_mut().zip(&entry.carried) {
            for value in values {
                *known.entry(value.clone()).or_default() += 1;
            }
        }
        self.window.push_back(entry);
    }

    /// Gives up the oldest hit.
    pub(super) fn pop(&mut self) -> Option<Entry> {
        let entry = self.window.pop_front()?;
        match (&mut self.tally, &entry.measure) {
            (Tally::Values(counts), Measure::Values(values)) => {
                for value in values {
                    if let Some(count) = counts.get_mut(value) {
                        *count -= 1;
                        if *count == 0 {
                            counts.remove(value);
                        }
                    }
                }
            }
            (Tally::Rules { hits, .. }, _) => {
                if let Some(hits) = hits.get_mut(entry.input) {
                    *hits -= 1;
                }
            }
            (Tally::Numbers(numbers), Measure::Numbers(values)) => {
                values.iter().for_each(|value| numbers.remove(*value));
            }
            _ => {}
        }
        for (known, values) in self.carried.iter_mut().zip(&entry.carried) {
            for value in values {
                if let Some(count) = known.get_mut(value) {
                    *count -= 1;
                    if *count == 0 {
                        known.remove(value);
                    }
                }
            }
        }
        Some(entry)
    }

    /// What the window comes to, if it is as asked. `oldest` is the oldest time within the timespan.
    pub(super) fn outcome(&self, kind: Kind, asked: &Asked, oldest: i64) -> Option<Number> {
        let outcome = match &self.tally {
            Tally::Events => whole(self.window.len()),
            Tally::Values(counts) => whole(counts.len()),
            Tally::Rules { hits, chains } => {
                if let Asked::Expression(expression) = asked {
                    let happened = |rule: usize| hits.get(rule).is_some_and(|hits| *hits > 0);
                    let count = hits.iter().filter(|hits| **hits > 0).count();
                    return expression.holds(&happened).then(|| whole(count));
                }
                whole(match chains {
                    Some(chains) => chains.longest(oldest),
                    None => hits.iter().filter(|hits| **hits > 0).count(),
                })
            }
            Tally::Numbers(numbers) => match kind {
                Kind::ValueSum => numbers.sum(&self.window)?,
                Kind::ValueAverage => return numbers.average(&self.window, asked),
                Kind::ValuePercentile(percentile) => numbers.percentile(percentile)?,
                _ => return None,
            },
        };
        asked.holds_for(&outcome).then_some(outcome)
    }

    /// The hits that made it hold, `most` at the most: of the temporal kinds the last of each rule, in the
    /// ordered one those of one chain; of the others the first and the latest. Unless `in_full`, of the
    /// temporal kinds the newest alone: the others have to be looked for.
    pub(super) fn evidence(&self, kind: Kind, most: usize, in_full: bool) -> Vec<Evidence> {
        let newest = || self.window.back().into_iter().collect();
        let mut entries: Vec<&Entry> = match kind {
            Kind::Temporal if in_full => self.last_of_each(),
            Kind::TemporalOrdered if in_full => self.chain(),
            Kind::Temporal | Kind::TemporalOrdered => newest(),
            _ => {
                let latest = self.window.iter().rev().take(most.saturating_sub(1));
                let first = self.window.front().filter(|_| self.window.len() >= most);
                latest.chain(first).collect()
            }
        };
        if kind.is_temporal() {
            entries.reverse();
        }
        // The latest first, as long as there is room; a hit that is itself made of hits gets its share.
        let share = (most / entries.len().max(1)).max(1);
        let mut evidence: Vec<Evidence> = Vec::new();
        for entry in entries {
            for hit in entry.evidence.iter().rev().take(share) {
                if evidence.len() < most && !evidence.contains(hit) {
                    evidence.push(*hit);
                }
            }
        }
        evidence.reverse();
        evidence.sort_by_key(|hit| hit.time);
        evidence
    }

    fn last_of_each(&self) -> Vec<&Entry> {
        let Tally::Rules { hits, .. } = &self.tally else { return Vec::new() };
        let there = hits.iter().filter(|hits| **hits > 0).count();
        let mut last: Vec<&Entry> = Vec::with_capacity(there);
        for entry in self.window.iter().rev() {
            if last.len() == there {
                break;
            }
            if last.iter().all(|other| other.input != entry.input) {
                last.push(entry);
            }
        }
        last.reverse();
        last
    }

    /// The hits of a longest chain, the latest that there is.
    fn chain(&self) -> Vec<&Entry> {
        let Tally::Rules { hits, .. } = &self.tally else { return Vec::new() };
        let mut ordered: Vec<&Entry> = self.window.iter().collect();
        ordered.sort_by_key(|entry| (entry.time, entry.input));
        // By rule: the longest chain that ends with it, as the places of its hits.
        let mut best: Vec<Vec<usize>> = vec![Vec::new(); hits.len()];
        for (at, entry) in ordered.iter().enumerate() {
            let before = best
                .iter()
                .take(entry.input)
                .max_by_key(|chain| (chain.len(), chain.first().copied()))
                .cloned()
                .unwrap_or_default();
            if let Some(own) = best.get_mut(entry.input)
                && before.len() + 1 >= own.len()
            {
                *own = before;
                own.push(at);
            }
        }
        let longest = best.into_iter().max_by_key(|chain| (chain.len(), chain.last().copied()));
        longest.unwrap_or_default().into_iter().filter_map(|at| ordered.get(at).copied()).collect()
    }

    /// The values that its hits carry in a field, each once, up to `most`; and whether there are more.
    pub(super) fn carried(&self, field: usize, most: usize) -> (Vec<Box<str>>, bool) {
        let Some(values) = self.carried.get(field) else { return (Vec::new(), false) };
        (values.keys().take(most).cloned().collect(), values.len() > most)
    }

    /// When its oldest hit was.
    pub(super) fn since(&self) -> Option<UtcNanos> {
        self.window.front().map(|entry| UtcNanos::from_unix_nanos(entry.time))
    }
}

fn whole(count: usize) -> Number {
    Number::Whole(count as i128)
}

impl Chains {
    fn push(&mut self, rule: usize, time: i64) {
        for length in 0..=rule {
            let began = match length {
                0 => time,
                // The latest beginning of a chain shorter by one that ends with a rule before this one.
                _ => (0..rule).map(|before| self.at(before, length - 1)).max().unwrap_or(i64::MIN),
            };
            if let Some(place) = self.began.get_mut(rule * self.rules + length) {
                *place = (*place).max(began);
            }
        }
    }

    fn at(&self, rule: usize, length: usize) -> i64 {
        self.began.get(rule * self.rules + length).copied().unwrap_or(i64::MIN)
    }

    /// The most rules that came in order and began no earlier than `oldest`.
    fn longest(&self, oldest: i64) -> usize {
        let began_in_time =
            |length: &usize| (0..self.rules).any(|rule| self.at(rule, *length) >= oldest);
        (0..self.rules).rev().find(began_in_time).map_or(0, |length| length + 1)
    }
}

/// A number as a real.
fn real(number: Number) -> f64 {
    match number {
        Number::Whole(whole) => whole as f64,
        Number::Real(real) => real,
    }
}

/// The whole that is reckoned with as one, if the number is such.
fn small_whole(number: Number) -> Option<i128> {
    match number {
        Number::Whole(whole) if (-WHOLE..=WHOLE).contains(&whole) => Some(whole),
        _ => None,
    }
}

impl Numbers {
    fn add(&mut self, number: Number) {
        self.count += 1;
        match small_whole(number) {
            Some(whole) => self.wholes += whole,
            None => self.reals += 1,
        }
        if let Some(sorted) = &mut self.sorted {
            let value = real(number);
            let at = sorted.partition_point(|known| known.total_cmp(&value).is_lt());
            sorted.insert(at, value);
        }
    }

    fn remove(&mut self, number: Number) {
        self.count -= 1;
        match small_whole(number) {
            Some(whole) => self.wholes -= whole,
            None => self.reals -= 1,
        }
        if let Some(sorted) = &mut self.sorted {
            let value = real(number);
            let at = sorted.partition_point(|known| known.total_cmp(&value).is_lt());
            if at < sorted.len() {
                sorted.remove(at);
            }
        }
    }

    fn sum(&self, window: &VecDeque<Entry>) -> Option<Number> {
        if self.reals == 0 {
            return Some(Number::Whole(self.wholes));
        }
        let numbers = window.iter().flat_map(|entry| match &entry.measure {
            Measure::Numbers(numbers) => numbers.as_slice(),
            _ => &[],
        });
        let reals: f64 = numbers
            .filter(|number| small_whole(**number).is_none())
            .map(|number| real(*number))
            .sum();
        Number::from_float(self.wholes as f64 + reals)
    }

    fn average(&self, window: &VecDeque<Entry>, asked: &Asked) -> Option<Number> {
        let count = i128::try_from(self.count).ok().filter(|count| *count > 0)?;
        let average = match self.sum(window)? {
            Number::Whole(sum) if sum % count == 0 => Number::Whole(sum / count),
            sum => Number::from_float(real(sum) / self.count as f64)?,
        };
        asked.holds_for(&average).then_some(average)
    }

    /// Between the two nearest values in proportion, as spreadsheets and statistics do by default.
    fn percentile(&self, percentile: u8) -> Option<Number> {
        let sorted = self.sorted.as_ref()?;
        let last = sorted.len().checked_sub(1)?;
        let rank = last as f64 * f64::from(percentile) / 100.0;
        let below = rank.floor();
        let low = *sorted.get(below as usize)?;
        let high = *sorted.get(rank.ceil() as usize)?;
        Number::from_float(if low == high { low } else { low + (rank - below) * (high - low) })
    }
}
