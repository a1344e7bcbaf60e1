//! From one set of rules to the next without forgetting what was heard.
//!
//! A correlation goes on if the new set has one of the same id that means the same: it asks the same of the
//! same rules, by the same fields. That those rules' own conditions changed doesn't matter: what they
//! matched, they matched.

use std::collections::HashMap;

use super::super::{Correlations, Feed, Plan};
use super::{Correlator, Hit, State};
use crate::rule::RuleIndex;
use crate::ruleset::RuleSet;

/// What became of a correlator's state with another set of rules.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CarriedOver {
    /// Correlations that go on where they were.
    pub going_on: usize,
    /// Correlations of the new set that begin with nothing: they are new, or mean something else now.
    pub anew: usize,
}

impl Correlator {
    /// Goes on with the rules `new` in place of `old`, with all that it knows for the correlations that
    /// both have. Hits that wait for their turn are kept if the new rules want the same of them, else given up
    /// and counted.
    ///
    /// What is not known of `old` is nothing: a correlator that heard none of its hits starts anew.
    pub fn carry_over(&mut self, old: &RuleSet, new: &RuleSet) -> CarriedOver {
        let plans = new.correlations.plans.len();
        if self.serial != old.serial {
            return CarriedOver { going_on: 0, anew: plans };
        }
        let rules = new_numbers(old, new);
        let matching = matching_plans(old, new, &rules);
        let mut before: Vec<Option<State>> = self.states.drain(..).map(Some).collect();
        for place in &matching {
            let state = place.and_then(|old| before.get_mut(old)).and_then(Option::take);
            let mut state = state.unwrap_or_default();
            state.renumber(&rules);
            self.states.push(state);
        }
        (self.hits, self.bytes) = (0, 0);
        for state in &self.states {
            for group in state.groups.iter().flatten() {
                self.hits += group.window.len();
                self.bytes += group.bytes();
                self.bytes += group.window.iter().map(super::Entry::bytes).sum::<usize>();
            }
        }
        let wants_same = |hit: &Hit, now: RuleIndex| {
            old.correlations.wanted_of(hit.rule) == new.correlations.wanted_of(now)
        };
        let mut given_up = 0;
        for hits in self.waiting.values_mut() {
            hits.retain_mut(|hit| match rules.get(&hit.rule) {
                Some(now) if wants_same(hit, *now) => {
                    hit.rule = *now;
                    true
                }
                other => {
                    given_up += u64::from(other.is_some());
                    false
                }
            });
        }
        self.unheard.given_up += given_up;
        self.waiting.retain(|_, hits| !hits.is_empty());
        self.waiting_hits = self.waiting.values().map(Vec::len).sum();
        self.waiting_bytes = self.waiting.values().flatten().map(Hit::bytes).sum();
        self.serial = new.serial;
        let going_on = matching.iter().flatten().count();
        CarriedOver { going_on, anew: plans - going_on }
    }
}

impl State {
    /// Calls the rules that its evidence names by their new numbers. Evidence of rules that are gone goes.
    fn renumber(&mut self, rules: &HashMap<RuleIndex, RuleIndex>) {
        for entry in self.groups.iter_mut().flatten().flat_map(|group| &mut group.window) {
            entry.evidence.retain_mut(|hit| match rules.get(&hit.rule) {
                Some(now) => {
                    hit.rule = *now;
                    true
                }
                None => false,
            });
        }
    }
}

/// The new numbers of the rules that both sets have.
fn new_numbers(old: &RuleSet, new: &RuleSet) -> HashMap<RuleIndex, RuleIndex> {
    let numbered = |rules: &RuleSet| -> Vec<(String, RuleIndex)> {
        rules.rules().iter().map(|rule| rule.id.clone()).zip((0..).map(RuleIndex)).collect()
    };
    let by_id: HashMap<String, RuleIndex> = numbered(new).into_iter().collect();
    let pairs = numbered(old).into_iter();
    pairs.filter_map(|(id, number)| Some((number, *by_id.get(&id)?))).collect()
}

/// For each plan of the new set, the plan of the old one that means the same.
fn matching_plans(
    old: &RuleSet,
    new: &RuleSet,
    rules: &HashMap<RuleIndex, RuleIndex>,
) -> Vec<Option<usize>> {
    let (old, new) = (&old.correlations, &new.correlations);
    let of_rule: HashMap<RuleIndex, usize> = old
        .plans
        .iter()
        .enumerate()
        .filter_map(|(at, plan)| Some((*rules.get(&plan.rule)?, at)))
        .collect();
    let (was_fed_by, is_fed_by) = (fed_by(old), fed_by(new));
    // Each after those that it refers to, so these are settled before it.
    let mut matching: Vec<Option<usize>> = Vec::with_capacity(new.plans.len());
    for (at, plan) in new.plans.iter().enumerate() {
        let same = of_rule.get(&plan.rule).copied().filter(|before| {
            let Some(was) = old.plans.get(*before) else { return false };
            was.asks_like(plan)
                && (0..plan.inputs.len()).all(|number| {
                    let input = |plan| Feed { plan, input: number };
                    match (was_fed_by.get(&input(*before)), is_fed_by.get(&input(at))) {
                        (Some(Source::Rule(was)), Some(Source::Rule(is))) => {
                            rules.get(was) == Some(is)
                                && names(old, *was, *before, number) == names(new, *is, at, number)
                        }
                        // Those pass on the same, in the same order: so do the places in it mean the same.
                        (Some(Source::Plan(below_was)), Some(Source::Plan(below_is))) => {
                            matching.get(*below_is) == Some(&Some(*below_was))
                                && places(was, number) == places(plan, number)
                        }
                        _ => false,
                    }
                })
        });
        matching.push(same);
    }
    matching
}

/// What feeds an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Rule(RuleIndex),
    Plan(usize),
}

fn fed_by(correlations: &Correlations) -> HashMap<Feed, Source> {
    let rules = correlations
        .needs
        .iter()
        .flat_map(|(rule, needs)| needs.feeds.iter().map(move |feed| (*feed, Source::Rule(*rule))));
    let plans = correlations
        .plans
        .iter()
        .enumerate()
        .flat_map(|(at, plan)| plan.feeds.iter().map(move |feed| (*feed, Source::Plan(at))));
    rules.chain(plans).collect()
}

/// The names of the fields of `rule` that an input groups by, counts and carries.
fn names(
    correlations: &Correlations,
    rule: RuleIndex,
    plan: usize,
    input: usize,
) -> Option<[Vec<&str>; 3]> {
    let wanted = correlations.wanted_of(rule)?;
    let input = correlations.plans.get(plan)?.inputs.get(input)?;
    Some([&input.group, &input.counted, &input.carried].map(|places| {
        places.iter().map(|place| wanted.get(*place).map_or("", |name| &**name)).collect()
    }))
}

/// Where in what it is given an input's own values are.
fn places(plan: &Plan, input: usize) -> Option<[&[usize]; 3]> {
    let input = plan.inputs.get(input)?;
    Some([&input.group, &input.counted, &input.carried].map(Vec::as_slice))
}

impl Plan {
    /// Whether it asks for the same, whoever feeds it.
    fn asks_like(&self, other: &Self) -> bool {
        self.kind == other.kind
            && self.timespan_nanos == other.timespan_nanos
            && self.asked == other.asked
            && self.group_by == other.group_by
            && self.passes == other.passes
            && self.inputs.len() == other.inputs.len()
    }
}
