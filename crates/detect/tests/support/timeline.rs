//! Events at times, put through rules and a correlator as whoever has real ones does it.
#![allow(dead_code, reason = "each test uses its part")]

use std::time::Duration;

use cordon_detect::{
    Compiler, Correlator, CorrelatorLimits, Firing, Refusal, RuleIndex, RuleSet, Unheard,
};
use cordon_model::event::Source;
use cordon_model::time::UtcNanos;
use serde_json::Value as Json;

use crate::support::event_of;

/// What came of some events.
#[derive(Debug, Default)]
pub struct Outcome {
    pub firings: Vec<Firing>,
    /// Ids of rules that were told by themselves, with their events' tags.
    pub told: Vec<(String, u64)>,
    pub unheard: Unheard,
}

pub fn at(seconds: f64) -> UtcNanos {
    UtcNanos::from_unix_nanos((seconds * 1e9) as i64)
}

pub fn seconds(time: UtcNanos) -> f64 {
    time.unix_nanos() as f64 / 1e9
}

/// The rules of these files, and what was refused.
pub fn loaded(files: &[&str]) -> (RuleSet, Vec<Refusal>) {
    let mut compiler = Compiler::new();
    for (number, text) in files.iter().enumerate() {
        compiler.add_yaml(&format!("{number}.yml"), text);
    }
    compiler.compile()
}

/// Puts events (seconds, fields), tagged by their number, to the rules in the order given.
pub fn played(rules: &RuleSet, limits: CorrelatorLimits, events: &[(f64, Json)]) -> Outcome {
    let tagged: Vec<(u64, f64, &Json)> =
        (0..).zip(events).map(|(tag, (time, json))| (tag, *time, json)).collect();
    played_tagged(rules, limits, &tagged)
}

pub fn played_tagged(
    rules: &RuleSet,
    limits: CorrelatorLimits,
    events: &[(u64, f64, &Json)],
) -> Outcome {
    played_over(&[rules], limits, events, events.len().max(1))
}

/// The same, with the next of `sets` in force after each `turn` events, and all that is known carried
/// over. What fires is told by the numbers that the first set has.
pub fn played_over(
    sets: &[&RuleSet],
    limits: CorrelatorLimits,
    events: &[(u64, f64, &Json)],
    turn: usize,
) -> Outcome {
    let mut outcome = Outcome::default();
    let mut correlator = Correlator::new(limits);
    let number_of = |rules: &RuleSet, index: RuleIndex| {
        let id = &rules.rule(index).unwrap().id;
        let at = sets[0].rules().iter().position(|rule| rule.id == *id).unwrap();
        RuleIndex(u32::try_from(at).unwrap())
    };
    let renumbered = |rules: &RuleSet, mut firing: Firing| {
        firing.correlation = number_of(rules, firing.correlation);
        for hit in &mut firing.hits {
            hit.rule = number_of(rules, hit.rule);
        }
        firing
    };
    let mut rules = sets[0];
    let mut matcher = rules.matcher();
    for (count, (tag, time, json)) in events.iter().enumerate() {
        let next = sets[count / turn % sets.len()];
        if count % turn == 0 && count > 0 {
            correlator.carry_over(rules, next);
            rules = next;
        }
        let event = event_of(rules, Source::default(), json);
        let mut hits = Vec::new();
        for index in matcher.matches(rules, &event).to_vec() {
            if rules.is_told(index) {
                outcome.told.push((rules.rule(index).unwrap().id.clone(), *tag));
            }
            hits.extend(matcher.hit(rules, &event, index, *tag));
        }
        correlator.hear(rules, at(*time), hits, &mut |firing| {
            outcome.firings.push(renumbered(rules, firing));
        });
    }
    correlator.finish(rules, &mut |firing| outcome.firings.push(renumbered(rules, firing)));
    outcome.unheard = correlator.unheard();
    outcome
}

/// Everything is waited for.
pub fn patient() -> CorrelatorLimits {
    CorrelatorLimits { lateness: Duration::from_secs(1_000_000), ..CorrelatorLimits::default() }
}
