//! Correlations as written to correlations with numbers for names.
//!
//! The one idea: they are put in an order in which each comes after those that it refers to. Upward in
//! that order each is resolved or refused (and with it whoever refers to it); downward each says which
//! values it wants of what it refers to, so that a value wanted at the end of a chain is read at its
//! beginning.

use std::collections::HashMap;
use std::sync::Arc;

use super::section::Written;
use super::{CHAIN, Correlations, Feed, Input, Passed, Plan};
use crate::names::{Names, Referent};
use crate::rule::{Refusal, RuleIndex, RuleInfo};

/// A correlation that waits until every rule is known.
#[derive(Debug)]
pub(crate) struct Pending {
    pub info: RuleInfo,
    pub written: Written,
    /// The line of its list of rules.
    pub rules_line: usize,
    /// The line of its aliases.
    pub aliases_line: usize,
}

/// What became of a pending correlation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Waiting,
    /// The plan that it became, and how deep it refers.
    Compiled(usize, usize),
    Refused,
    PassedOver,
}

/// Compiles what can be compiled. Each correlation's own [`RuleInfo`] is added to `infos`.
pub(crate) fn compile(
    pending: Vec<Pending>,
    names: &Names,
    infos: &mut Vec<RuleInfo>,
    refusals: &mut Vec<Refusal>,
) -> Correlations {
    let mut compiling = Compiling {
        names,
        fates: vec![Fate::Waiting; pending.len()],
        correlations: Correlations::default(),
        written: Vec::new(),
    };
    let mut pending: Vec<Option<Pending>> = pending.into_iter().map(Some).collect();
    // Rounds, as many as the chains are deep; what is left then refers to itself.
    loop {
        let mut went_on = false;
        for at in 0..pending.len() {
            let Some(waiting) = pending.get_mut(at).and_then(Option::take) else { continue };
            match compiling.resolve(&waiting.written) {
                Ok(None) => {
                    if let Some(place) = pending.get_mut(at) {
                        *place = Some(waiting);
                    }
                    continue;
                }
                Ok(Some(resolved)) if resolved.is_passed_over => {
                    compiling.end(at, Fate::PassedOver);
                }
                Ok(Some(resolved)) => match compiling.inputs(&waiting.written, &resolved.rules) {
                    Ok(inputs) => {
                        let rule = RuleIndex(u32::try_from(infos.len()).unwrap_or(u32::MAX));
                        let plan = compiling.add(rule, waiting.written, inputs);
                        compiling.end(at, Fate::Compiled(plan, resolved.depth));
                        infos.push(waiting.info);
                    }
                    Err(reason) => {
                        refusals.push(refusal(&waiting.info, waiting.aliases_line, reason));
                        compiling.end(at, Fate::Refused);
                    }
                },
                Err(reason) => {
                    refusals.push(refusal(&waiting.info, waiting.rules_line, reason));
                    compiling.end(at, Fate::Refused);
                }
            }
            went_on = true;
        }
        if !went_on {
            break;
        }
    }
    for left in pending.into_iter().flatten() {
        let reason = "it refers to itself, by way of other correlations or through one that does";
        refusals.push(refusal(&left.info, left.rules_line, reason.to_owned()));
    }
    compiling.wire()
}

fn refusal(info: &RuleInfo, line: usize, reason: String) -> Refusal {
    Refusal { origin: Arc::clone(&info.origin), line, rule: Some(info.id.clone()), reason }
}

/// What a correlation refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Rule(RuleIndex),
    Plan(usize),
}

struct Resolved {
    rules: Vec<Source>,
    depth: usize,
    /// All of its rules are about another product.
    is_passed_over: bool,
}

/// An input whose field names aren't numbers yet.
struct NamedInput {
    source: Source,
    group: Vec<Box<str>>,
    counted: Vec<Box<str>>,
    /// The correlation's aliases as they are for this input.
    aliases: HashMap<Box<str>, Box<str>>,
}

/// A plan's part that becomes numbers last.
struct NamedPlan {
    inputs: Vec<NamedInput>,
    generate: bool,
}

struct Compiling<'n> {
    names: &'n Names,
    fates: Vec<Fate>,
    correlations: Correlations,
    /// Beside each plan.
    written: Vec<NamedPlan>,
}

impl Compiling<'_> {
    fn end(&mut self, at: usize, fate: Fate) {
        if let Some(place) = self.fates.get_mut(at) {
            *place = fate;
        }
    }

    /// What a correlation refers to; none as long as something of it isn't compiled yet.
    fn resolve(&self, written: &Written) -> Result<Option<Resolved>, String> {
        let mut resolved = Resolved { rules: Vec::new(), depth: 1, is_passed_over: false };
        let (mut passed_over, mut waits) = (None, false);
        for reference in &written.rules {
            let found = self.names.find(reference);
            let fate = match found {
                Some(Referent::Correlation(at)) => self.fates.get(at).copied(),
                _ => None,
            };
            let source = match (found, fate) {
                (Some(Referent::Rule(index)), _) => Source::Rule(index),
                (_, Some(Fate::Compiled(plan, depth))) => {
                    resolved.depth = resolved.depth.max(depth + 1);
                    Source::Plan(plan)
                }
                (_, Some(Fate::Waiting)) => {
                    waits = true;
                    continue;
                }
                (Some(Referent::PassedOver), _) | (_, Some(Fate::PassedOver)) => {
                    passed_over = Some(reference);
                    continue;
                }
                (_, Some(Fate::Refused)) => {
                    return Err(Names::reason(reference, Some(Referent::Refused)));
                }
                (found, _) => return Err(Names::reason(reference, found)),
            };
            if resolved.rules.contains(&source) {
                return Err(format!("`{reference}` is a rule that it already refers to"));
            }
            resolved.rules.push(source);
        }
        if waits {
            return Ok(None);
        }
        match passed_over {
            Some(_) if resolved.rules.is_empty() => resolved.is_passed_over = true,
            Some(reference) => {
                return Err(Names::reason(reference, Some(Referent::PassedOver)));
            }
            None => {}
        }
        if resolved.depth > CHAIN {
            return Err(format!("correlations refer to one another more than {CHAIN} deep"));
        }
        Ok(Some(resolved))
    }

    /// The fields that a correlation reads of each of its rules.
    fn inputs(&self, written: &Written, sources: &[Source]) -> Result<Vec<NamedInput>, String> {
        let mut aliases: Vec<HashMap<Box<str>, Box<str>>> = vec![HashMap::new(); sources.len()];
        for (alias, fields) in &written.aliases {
            for (reference, field) in fields {
                let target = match self.names.find(reference) {
                    Some(Referent::Rule(index)) => Some(Source::Rule(index)),
                    Some(Referent::Correlation(at)) => match self.fates.get(at) {
                        Some(Fate::Compiled(plan, _)) => Some(Source::Plan(*plan)),
                        _ => None,
                    },
                    _ => None,
                };
                let mut is_used = false;
                for (source, aliases) in sources.iter().zip(&mut aliases) {
                    if target.is_none_or(|target| !self.is_below(target, *source)) {
                        continue;
                    }
                    is_used = true;
                    match aliases.insert(alias.as_str().into(), field.as_str().into()) {
                        Some(other) if *other != **field => {
                            return Err(format!(
                                "alias `{alias}`: for one correlation it stands for both \
                                 `{other}` and `{field}`"
                            ));
                        }
                        _ => {}
                    }
                }
                if !is_used {
                    return Err(format!(
                        "alias `{alias}`: `{reference}` is none of the rules it refers to"
                    ));
                }
            }
        }
        let inputs = sources.iter().zip(aliases).map(|(source, aliases)| {
            let field = |name: &String| {
                aliases.get(name.as_str()).cloned().unwrap_or_else(|| name.as_str().into())
            };
            NamedInput {
                source: *source,
                group: written.group_by.iter().map(field).collect(),
                counted: written.counted.iter().map(field).collect(),
                aliases,
            }
        });
        Ok(inputs.collect())
    }

    /// Whether `target` is `source` or something that it refers to.
    fn is_below(&self, target: Source, source: Source) -> bool {
        let (mut seen, mut at) = (vec![source], 0);
        while let Some(source) = seen.get(at).copied() {
            if source == target {
                return true;
            }
            if let Source::Plan(plan) = source {
                for input in self.written.get(plan).iter().flat_map(|plan| &plan.inputs) {
                    if !seen.contains(&input.source) {
                        seen.push(input.source);
                    }
                }
            }
            at += 1;
        }
        false
    }

    fn add(&mut self, rule: RuleIndex, written: Written, inputs: Vec<NamedInput>) -> usize {
        self.correlations.plans.push(Plan {
            rule,
            kind: written.kind,
            timespan_nanos: written.timespan_nanos,
            asked: written.asked,
            group_by: written.group_by.iter().map(|name| name.as_str().into()).collect(),
            inputs: Vec::new(),
            passes: Vec::new(),
            feeds: Vec::new(),
        });
        self.written.push(NamedPlan { inputs, generate: written.generate });
        self.correlations.plans.len() - 1
    }

    /// Makes numbers of field names, from the ends of the chains to their beginnings.
    fn wire(self) -> Correlations {
        let Self { mut correlations, written, .. } = self;
        // The names that each plan is asked to pass on, known when all that refer to it were seen.
        let mut passed: Vec<Vec<Box<str>>> = vec![Vec::new(); written.len()];
        let mut told: HashMap<RuleIndex, bool> = HashMap::new();
        for (at, named) in written.into_iter().enumerate().rev() {
            let (before, from_here) = correlations.plans.split_at_mut(at);
            let (Some(plan), Some(own)) = (from_here.first_mut(), passed.get_mut(at)) else {
                continue;
            };
            let own = std::mem::take(own);
            let mut carried: Vec<Box<str>> = Vec::new();
            for name in own {
                plan.passes.push(match plan.group_by.iter().position(|group| *group == name) {
                    Some(group) => Passed::Group(group),
                    None => {
                        carried.push(name);
                        Passed::Carried(carried.len() - 1)
                    }
                });
            }
            for (number, input) in named.inputs.into_iter().enumerate() {
                let feed = Feed { plan: at, input: number };
                let (rule, wanted) = match input.source {
                    Source::Rule(rule) => {
                        let needs = correlations.needs.entry(rule).or_default();
                        needs.feeds.push(feed);
                        (rule, &mut needs.fields)
                    }
                    Source::Plan(below) => {
                        let (Some(plan), Some(wanted)) =
                            (before.get_mut(below), passed.get_mut(below))
                        else {
                            continue;
                        };
                        plan.feeds.push(feed);
                        (plan.rule, wanted)
                    }
                };
                let is_told = told.entry(rule).or_default();
                *is_told |= named.generate;
                let mut numbers = |names: &mut dyn Iterator<Item = &Box<str>>| -> Vec<usize> {
                    names.map(|name| number_of(name, wanted)).collect()
                };
                let aliases = &input.aliases;
                plan.inputs.push(Input {
                    group: numbers(&mut input.group.iter()),
                    counted: numbers(&mut input.counted.iter()),
                    carried: numbers(
                        &mut carried.iter().map(|name| aliases.get(name).unwrap_or(name)),
                    ),
                });
            }
        }
        correlations.silent =
            told.into_iter().filter(|(_, is_told)| !is_told).map(|(rule, _)| rule).collect();
        correlations
    }
}

/// The place of `name` in `wanted`, given now if it had none.
fn number_of(name: &str, wanted: &mut Vec<Box<str>>) -> usize {
    wanted.iter().position(|known| **known == *name).unwrap_or_else(|| {
        wanted.push(name.into());
        wanted.len() - 1
    })
}
