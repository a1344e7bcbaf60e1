//! The compiled rules: what the events of each origin are asked.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use cordon_model::event::{FieldId, FieldTable, Source};
use serde::{Deserialize, Serialize};

use crate::condition::{Condition, EVENT_ID};
use crate::correlation::Correlations;
use crate::fold::fold;
use crate::group::{self, Group};
use crate::predicate::Predicate;
use crate::quick_hash::QuickMap;
use crate::rule::{LogSource, RuleIndex, RuleInfo};
use crate::stored;
use crate::taxonomy::{Origin, Reach, Taxonomy};

/// A rule whose condition names more event ids than this is asked of every event of its log source
/// instead of being put into a group for each id.
const EVENT_IDS_A_RULE: usize = 64;

/// What an intake has to read of an event for the rules' sake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Interest {
    /// No rule is about events of this source.
    Nothing,
    /// The fields that [`RuleSet::fields`] names.
    Fields,
    /// Those, and every other value under [`FieldId::UNREAD`]: a keyword is searched for.
    AllValues,
}

/// Compiled rules. Immutable; shared between threads, each with its own [`Matcher`](crate::Matcher).
#[derive(Debug, Serialize, Deserialize)]
pub struct RuleSet {
    /// Tells one set from another, so that no matcher uses what it remembers of another set.
    #[serde(skip, default = "next_serial")]
    pub(crate) serial: u64,
    #[serde(with = "stored::names")]
    pub(crate) fields: FieldTable,
    pub(crate) infos: Vec<RuleInfo>,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) predicates: Vec<Predicate>,
    pub(crate) groups: Vec<Group>,
    #[serde(with = "stored::field")]
    pub(crate) event_id: Option<FieldId>,
    pub(crate) correlations: Correlations,
    selectors: Vec<Selector>,
}

/// The groups of one log source.
#[derive(Debug, Serialize, Deserialize)]
struct Selector {
    log_source: LogSource,
    by_event_id: QuickMap<u32, u32>,
    for_any: Option<u32>,
}

/// What events of one origin are asked: groups, and how their fields reach them.
pub(crate) type Plan = Vec<(u32, Reach)>;

impl RuleSet {
    /// Whether what is asked leads to its own rules only: of a set that was read, not compiled.
    pub(crate) fn names_rules_that_are_there(&self) -> bool {
        let mut asked = self.groups.iter().flat_map(|group| &group.rules);
        // Correlations come after the rules that have conditions.
        self.conditions.len() <= self.infos.len()
            && asked.all(|(rule, _)| (rule.0 as usize) < self.conditions.len())
    }

    /// The field names that rules read, each with its number: what an intake resolves names with.
    #[must_use]
    pub fn fields(&self) -> &FieldTable {
        &self.fields
    }

    /// The rules, by [`RuleIndex`]; after them the correlations.
    #[must_use]
    pub fn rules(&self) -> &[RuleInfo] {
        &self.infos
    }

    /// The rule with this number, if it is of this set.
    #[must_use]
    pub fn rule(&self, index: RuleIndex) -> Option<&RuleInfo> {
        self.infos.get(index.0 as usize)
    }

    /// Whether there are correlations: whether hits have to be given to a
    /// [`Correlator`](crate::Correlator).
    #[must_use]
    pub fn correlates(&self) -> bool {
        !self.correlations.is_empty()
    }

    /// Whether a match of this rule is a finding by itself. What only correlations refer to is none,
    /// unless one of them says `generate: true`.
    #[must_use]
    pub fn is_told(&self, index: RuleIndex) -> bool {
        self.correlations.is_told(index)
    }

    /// What has to be read of events of this source, whatever their id if the source doesn't give it
    /// (it may come as a field). [`Matcher::interest`](crate::Matcher::interest) remembers the answer.
    #[must_use]
    pub fn interest(&self, source: &Source<'_>) -> Interest {
        self.interest_in(&origin_of(source, source.event_id))
    }

    pub(crate) fn interest_in(&self, origin: &Origin) -> Interest {
        let of_group = |number: &u32| match self.groups.get(*number as usize) {
            Some(Group { keywords: Some(_), .. }) => Interest::AllValues,
            Some(_) => Interest::Fields,
            None => Interest::Nothing,
        };
        let plan = self.plan(origin);
        let planned = plan.iter().map(|(number, _)| number);
        if origin.event_id.is_some() {
            return planned.map(of_group).max().unwrap_or(Interest::Nothing);
        }
        // Any id may come, and with it any category of the channel.
        let may_reach = |selector: &&Selector| {
            let service_alone = LogSource { category: None, ..selector.log_source.clone() };
            let taxonomy = Taxonomy::windows();
            taxonomy.reach(&selector.log_source, origin).is_some()
                || (origin.channel.is_some() && taxonomy.reach(&service_alone, origin).is_some())
        };
        let possible = self.selectors.iter().filter(may_reach);
        possible
            .flat_map(|selector| selector.by_event_id.values().chain(&selector.for_any))
            .map(of_group)
            .max()
            .unwrap_or(Interest::Nothing)
    }

    /// Whether events of this source must bring values that no rule reads by name.
    #[must_use]
    pub fn wants_all_values(&self, source: &Source<'_>) -> bool {
        self.interest(source) == Interest::AllValues
    }

    /// Whether events of any source at all must bring them: for an intake that learns a source only
    /// while it reads the fields.
    #[must_use]
    pub fn has_keywords(&self) -> bool {
        self.groups.iter().any(|group| group.keywords.is_some())
    }

    /// A matcher for one thread.
    #[must_use]
    pub fn matcher(&self) -> crate::Matcher {
        crate::Matcher::new()
    }

    pub(crate) fn plan(&self, origin: &Origin) -> Plan {
        let mut plan = Plan::default();
        for selector in &self.selectors {
            let Some(reach) = Taxonomy::windows().reach(&selector.log_source, origin) else {
                continue;
            };
            let by_id = origin.event_id.and_then(|id| selector.by_event_id.get(&id));
            plan.extend(by_id.into_iter().chain(&selector.for_any).map(|group| (*group, reach)));
        }
        plan
    }

    /// Compiles rules and their conditions, which have the same order; after the rules, `infos` has the
    /// correlations.
    pub(crate) fn compile(
        infos: Vec<RuleInfo>,
        conditions: Vec<Condition>,
        predicates: Vec<Predicate>,
        correlations: Correlations,
    ) -> Self {
        // Log source → event id, or any → rules. In order, so that the same rules give the same plan.
        type ByEventId = BTreeMap<Option<u32>, Vec<RuleIndex>>;
        let mut by_source: BTreeMap<String, (LogSource, ByEventId)> = BTreeMap::new();
        for (index, (info, condition)) in (0..).map(RuleIndex).zip(infos.iter().zip(&conditions)) {
            let source = folded(&info.log_source);
            let (_, by_id) = by_source
                .entry(source.to_string())
                .or_insert_with(|| (source, ByEventId::default()));
            match condition.event_ids(&predicates) {
                Some(ids) if !ids.is_empty() && ids.len() <= EVENT_IDS_A_RULE => {
                    for id in ids {
                        by_id.entry(Some(id)).or_default().push(index);
                    }
                }
                _ => by_id.entry(None).or_default().push(index),
            }
        }
        let mut fields = FieldTable::default();
        for (source, by_id) in by_source.values() {
            for rule in by_id.values().flatten() {
                if let Some(condition) = conditions.get(rule.0 as usize) {
                    let mut own = Vec::new();
                    condition.for_each(&mut |id| own.extend(predicates.get(id.0 as usize)));
                    let wanted = correlations.wanted_of(*rule).unwrap_or_default();
                    group::intern_names(own.into_iter(), wanted, source, &mut fields);
                }
            }
        }
        let mut set = Self {
            serial: next_serial(),
            event_id: fields.find(EVENT_ID),
            fields,
            infos,
            conditions,
            predicates,
            groups: Vec::new(),
            correlations,
            selectors: Vec::new(),
        };
        for (log_source, by_id) in by_source.into_values() {
            let mut selector =
                Selector { by_event_id: QuickMap::default(), for_any: None, log_source };
            for (id, rules) in by_id {
                let rules: Vec<(RuleIndex, &Condition)> = rules
                    .into_iter()
                    .filter_map(|index| Some((index, set.conditions.get(index.0 as usize)?)))
                    .collect();
                let wanted = rules
                    .iter()
                    .filter_map(|(index, _)| set.correlations.wanted_of(*index))
                    .flatten();
                let group = group::compile(
                    &rules,
                    &set.predicates,
                    wanted,
                    &selector.log_source,
                    &set.fields,
                );
                let number = set.groups.len() as u32;
                set.groups.push(group);
                match id {
                    Some(id) => {
                        selector.by_event_id.insert(id, number);
                    }
                    None => selector.for_any = Some(number),
                }
            }
            set.selectors.push(selector);
        }
        set
    }
}

fn next_serial() -> u64 {
    static SERIAL: AtomicU64 = AtomicU64::new(1);
    SERIAL.fetch_add(1, Ordering::Relaxed)
}

/// The source in the words of rules.
pub(crate) fn origin_of(source: &Source<'_>, event_id: Option<u32>) -> Origin {
    Origin {
        product: source.product.as_deref().map(fold),
        category: source.category.as_deref().map(fold),
        service: source.service.as_deref().map(fold),
        channel: source.channel.as_deref().map(fold),
        event_id,
    }
}

fn folded(source: &LogSource) -> LogSource {
    let fold = |part: &Option<Box<str>>| part.as_deref().map(|text| fold(text.trim()).into());
    LogSource {
        product: fold(&source.product),
        category: fold(&source.category),
        service: fold(&source.service),
    }
}
