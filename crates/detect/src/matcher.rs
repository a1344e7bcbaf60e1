//! Matching: one event through the plan.
//!
//! The one idea: all scratch space is owned here and marked with an epoch instead of being cleared, so
//! that an event which matches nothing costs no allocation, and nothing is done for predicates and rules
//! that it doesn't touch. What is known of a value from before is remembered ([`memo`](crate::memo)).

use std::collections::HashMap;
use std::fmt::Write as _;
use std::hash::{Hash, Hasher};

use cordon_model::event::{Event, FieldId, Source, Value};
use cordon_model::finding::MatchedField;

use crate::condition::EVENT_ID;
use crate::correlation::state::Hit;
use crate::explain::{self, Explanation};
use crate::field::{Local, Verdicts};
use crate::fold::fold_into;
use crate::group::{Group, Late, NO_SLOT, Node, Slot, Wiring};
use crate::memo::{Memo, Of, Recall};
use crate::number::Number;
use crate::predicate::{Predicate, Seen};
use crate::quick_hash::quick_hasher;
use crate::rule::RuleIndex;
use crate::ruleset::{Interest, Plan, RuleSet, origin_of};
use crate::taxonomy::Reach;

/// Most plans that are remembered: a busy Windows server has about 300 pairs of channel and event id.
/// Each takes less than 1 KiB. When they are too many (sources that make up names), all are forgotten.
const PLANS: usize = 1024;

/// Matches events against a [`RuleSet`]. One a thread; reuse it.
#[derive(Debug, Default)]
pub struct Matcher {
    plans: Plans,
    texts: Texts,
    truth: Truth,
    memo: Memo,
    held: Vec<Local>,
    matched: Vec<RuleIndex>,
}

impl Matcher {
    /// A matcher with nothing remembered yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What has to be read of events of this source: an intake asks before it reads the fields.
    pub fn interest(&mut self, rules: &RuleSet, source: &Source<'_>) -> Interest {
        self.plans.of(rules, source, source.event_id).interest
    }

    /// The rules that match `event`, in order of their numbers.
    pub fn matches(&mut self, rules: &RuleSet, event: &Event<'_>) -> &[RuleIndex] {
        self.matched.clear();
        let event_id = event_id_of(rules, event);
        let plan = &self.plans.of(rules, &event.source, event_id).plan;
        if plan.is_empty() {
            return &self.matched;
        }
        self.memo.begin(rules.serial);
        self.texts.begin(event.fields.len());
        for (number, reach) in plan {
            let Some(group) = rules.groups.get(*number as usize) else { continue };
            self.truth.begin(group);
            let mut ask = Ask {
                number: *number,
                reach: *reach,
                group,
                wiring: group.wiring(*reach),
                predicates: &rules.predicates,
                event,
                event_id: event_id.map(|id| Value::Unsigned(u64::from(id))),
                texts: &mut self.texts,
                truth: &mut self.truth,
                memo: &mut self.memo,
                held: &mut self.held,
            };
            ask.observe();
            ask.conclude(&mut self.matched);
        }
        self.matched.sort_unstable();
        &self.matched
    }

    /// Why `rule` matches `event`: the fields and values that made it. Empty if it doesn't match.
    pub fn why(
        &mut self,
        rules: &RuleSet,
        event: &Event<'_>,
        rule: RuleIndex,
    ) -> Vec<MatchedField> {
        explain::why(rules, event, rule, self.reach(rules, event, rule))
    }

    /// How each part of `rule` fares with `event`, for rule authors. None if the rule isn't of this set.
    pub fn explain(
        &mut self,
        rules: &RuleSet,
        event: &Event<'_>,
        rule: RuleIndex,
    ) -> Option<Explanation> {
        explain::explain(rules, event, rule, self.reach(rules, event, rule))
    }

    /// `event`, which `rule` matched, as a [`Correlator`](crate::Correlator) wants it, under a tag that
    /// comes back as evidence. None if no correlation refers to the rule.
    pub fn hit(
        &mut self,
        rules: &RuleSet,
        event: &Event<'_>,
        rule: RuleIndex,
        tag: u64,
    ) -> Option<Hit> {
        let wanted = rules.correlations.wanted_of(rule)?;
        let (number, way) = self.reach(rules, event, rule)?;
        let group = rules.groups.get(number as usize)?;
        let wiring = group.wiring(way);
        let mut values = vec![Vec::new(); wanted.len()];
        for (field, value) in &event.fields {
            for slot in wiring.slots(*field) {
                let places = wanted.iter().zip(&mut values);
                let is_wanted = |name: &str| group.slot(name) == Some(slot);
                for (_, values) in places.filter(|(name, _)| is_wanted(name)) {
                    values.extend(explain::text_of(value, slot, wiring));
                }
            }
        }
        // An intake may give the id with the source alone.
        if let Some(id) = event_id_of(rules, event) {
            for (_, values) in wanted
                .iter()
                .zip(&mut values)
                .filter(|(name, values)| ***name == *EVENT_ID && values.is_empty())
            {
                values.push(id.to_string().into());
            }
        }
        Some(Hit { rule, tag, values })
    }

    /// The group and the way by which events of this origin are put to `rule`.
    fn reach(
        &mut self,
        rules: &RuleSet,
        event: &Event<'_>,
        rule: RuleIndex,
    ) -> Option<(u32, Reach)> {
        let plan = &self.plans.of(rules, &event.source, event_id_of(rules, event)).plan;
        plan.iter().copied().find(|(number, _)| {
            let group = rules.groups.get(*number as usize);
            group.is_some_and(|group| group.rules.iter().any(|(index, _)| *index == rule))
        })
    }
}

/// The event's id: from its source, else from its field.
pub(crate) fn event_id_of(rules: &RuleSet, event: &Event<'_>) -> Option<u32> {
    event.source.event_id.or_else(|| match Number::of(event.first(rules.event_id?)?)? {
        Number::Whole(id) => u32::try_from(id).ok(),
        Number::Real(_) => None,
    })
}

/// The plans of the sources seen so far.
#[derive(Debug, Default)]
struct Plans {
    serial: u64,
    known: HashMap<u64, Vec<Known>>,
    count: usize,
}

#[derive(Debug)]
struct Known {
    source: Source<'static>,
    event_id: Option<u32>,
    plan: Plan,
    interest: Interest,
}

impl Plans {
    fn of(&mut self, rules: &RuleSet, source: &Source<'_>, event_id: Option<u32>) -> &Known {
        if self.serial != rules.serial || self.count >= PLANS {
            self.serial = rules.serial;
            self.known.clear();
            self.count = 0;
        }
        let mut hasher = quick_hasher();
        source.hash(&mut hasher);
        event_id.hash(&mut hasher);
        let bucket = self.known.entry(hasher.finish()).or_default();
        let at =
            bucket.iter().position(|known| known.event_id == event_id && known.source == *source);
        let at = at.unwrap_or_else(|| {
            self.count += 1;
            let origin = origin_of(source, event_id);
            let (plan, interest) = (rules.plan(&origin), rules.interest_in(&origin));
            bucket.push(Known { source: owned(source), event_id, plan, interest });
            bucket.len() - 1
        });
        #[expect(clippy::indexing_slicing, reason = "`at` was found or pushed just above")]
        &bucket[at]
    }
}

fn owned(source: &Source<'_>) -> Source<'static> {
    let own = |text: &Option<std::borrow::Cow<'_, str>>| {
        text.as_ref().map(|text| text.clone().into_owned().into())
    };
    Source {
        product: own(&source.product),
        category: own(&source.category),
        service: own(&source.service),
        channel: own(&source.channel),
        event_id: source.event_id,
    }
}

/// The texts of an event's values, and their folds, each made when it is first asked for.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    arena: String,
    spans: Vec<Option<(usize, usize)>>,
}

impl Texts {
    /// Starts an event of `values` values; one more is kept for its id.
    pub(crate) fn begin(&mut self, values: usize) {
        self.arena.clear();
        self.spans.clear();
        self.spans.resize(values + 1, None);
    }

    /// Makes the text of the value at `at`.
    pub(crate) fn make(&mut self, at: usize, value: &Value<'_>) {
        let Some(span @ None) = self.spans.get_mut(at) else { return };
        let from = self.arena.len();
        match value {
            Value::Null => {}
            Value::Text(text) => fold_into(text, &mut self.arena),
            // Writing to a string doesn't fail.
            Value::Bool(bool) => drop(write!(self.arena, "{bool}")),
            Value::Int(whole) => drop(write!(self.arena, "{whole}")),
            Value::Unsigned(whole) => drop(write!(self.arena, "{whole}")),
            Value::Float(real) => drop(write!(self.arena, "{real}")),
        }
        *span = Some((from, self.arena.len()));
    }

    /// The value at `at`, whose text was made.
    pub(crate) fn seen<'v>(&'v self, at: usize, value: &'v Value<'v>) -> Seen<'v> {
        let span = self.spans.get(at).copied().flatten();
        let folded = span.and_then(|(from, to)| self.arena.get(from..to)).unwrap_or_default();
        let text = match value {
            Value::Text(text) => text,
            _ => folded,
        };
        Seen { value, text, folded }
    }
}

/// What is known to hold, marked by epochs.
#[derive(Debug, Default)]
struct Truth {
    epoch: u32,
    held: Vec<u32>,
    reached: Vec<u32>,
    slots: Vec<u32>,
    nulls: Vec<u32>,
    attempt: u32,
    tried: Vec<u32>,
    /// Predicates that were put off and are settled by now.
    looked_at: Vec<u32>,
    candidates: Vec<u32>,
}

impl Truth {
    /// Forgets everything, and makes room for `group`.
    fn begin(&mut self, group: &Group) {
        self.candidates.clear();
        if self.epoch == u32::MAX {
            let Self { held, reached, slots, nulls, looked_at, .. } = self;
            for marks in [held, reached, slots, nulls, looked_at] {
                marks.fill(0);
            }
            self.epoch = 0;
        }
        self.epoch += 1;
        let grow = |marks: &mut Vec<u32>, size: usize| {
            if marks.len() < size {
                marks.resize(size, 0);
            }
        };
        grow(&mut self.held, group.predicates.len());
        grow(&mut self.tried, group.predicates.len());
        grow(&mut self.looked_at, group.predicates.len());
        grow(&mut self.reached, group.rules.len());
        grow(&mut self.slots, group.names.len());
        grow(&mut self.nulls, group.names.len());
    }

    fn begin_value(&mut self) {
        if self.attempt == u32::MAX {
            self.tried.fill(0);
            self.attempt = 0;
        }
        self.attempt += 1;
    }

    fn is_marked(marks: &[u32], at: usize, epoch: u32) -> bool {
        marks.get(at).is_some_and(|mark| *mark == epoch)
    }

    /// Marks, and says whether it wasn't marked before.
    fn mark(marks: &mut [u32], at: usize, epoch: u32) -> bool {
        match marks.get_mut(at) {
            Some(mark) if *mark != epoch => {
                *mark = epoch;
                true
            }
            _ => false,
        }
    }
}

/// One value's verdicts, written down.
struct Answering<'a, 'v> {
    group: &'a Group,
    predicates: &'a [Predicate],
    seen: Seen<'v>,
    truth: &'a mut Truth,
    /// What holds for this value, if it is to be kept: also what another one made hold before.
    held: Option<&'a mut Vec<Local>>,
}

impl Verdicts for Answering<'_, '_> {
    fn holds(&mut self, predicate: Local) {
        if let Some(held) = &mut self.held {
            held.push(predicate);
        }
        let truth = &mut *self.truth;
        if Truth::mark(&mut truth.held, predicate as usize, truth.epoch) {
            for rule in self.group.reached_by(predicate) {
                if Truth::mark(&mut truth.reached, *rule as usize, truth.epoch) {
                    truth.candidates.push(*rule);
                }
            }
        }
    }

    fn may_hold(&mut self, predicate: Local) {
        let truth = &mut *self.truth;
        let is_held = Truth::is_marked(&truth.held, predicate as usize, truth.epoch);
        if (is_held && self.held.is_none())
            || !Truth::mark(&mut truth.tried, predicate as usize, truth.attempt)
        {
            return;
        }
        let definition = self
            .group
            .predicates
            .get(predicate as usize)
            .and_then(|id| self.predicates.get(id.0 as usize));
        if definition.is_some_and(|definition| definition.test.holds(self.seen)) {
            self.holds(predicate);
        }
    }
}

/// One event put to one group.
struct Ask<'a, 'e> {
    number: u32,
    reach: Reach,
    group: &'a Group,
    wiring: &'a Wiring,
    predicates: &'a [Predicate],
    event: &'a Event<'e>,
    event_id: Option<Value<'static>>,
    texts: &'a mut Texts,
    truth: &'a mut Truth,
    memo: &'a mut Memo,
    held: &'a mut Vec<Local>,
}

impl Ask<'_, '_> {
    fn observe(&mut self) {
        let (event, wiring) = (self.event, self.wiring);
        for (at, (field, value)) in event.fields.iter().enumerate() {
            let is_read = wiring.slots(*field).next().is_some();
            for slot in wiring.slots(*field) {
                self.see(slot, value);
            }
            if is_read || self.group.keywords.is_some() {
                self.answer(*field, at, value);
            }
        }
        // An intake may give the id with the source alone.
        if let (Some(slot), Some(id)) = (self.group.event_id, self.event_id.take())
            && !Truth::is_marked(&self.truth.slots, usize::from(slot), self.truth.epoch)
        {
            self.see(slot, &id);
            self.texts.make(event.fields.len(), &id);
            self.put_to_slot(slot, event.fields.len(), &id, false);
        }
    }

    /// Notes that a slot has a value.
    fn see(&mut self, slot: Slot, value: &Value<'_>) {
        let (slot, epoch) = (usize::from(slot), self.truth.epoch);
        Truth::mark(&mut self.truth.slots, slot, epoch);
        if matches!(value, Value::Null) {
            Truth::mark(&mut self.truth.nulls, slot, epoch);
        }
    }

    /// Finds out what holds for a value of a field, or remembers it.
    fn answer(&mut self, field: FieldId, at: usize, value: &Value<'_>) {
        let of = Of(self.number, self.reach, field);
        let recall = match value {
            Value::Text(text) => self.memo.recall(of, text),
            _ => Recall::Unknown,
        };
        // Whoever compares fields with one another reads their texts later.
        if self.group.compares || !matches!(recall, Recall::Known(_)) {
            self.texts.make(at, value);
        }
        if let Recall::Known(place) = recall {
            let (group, predicates) = (self.group, self.predicates);
            let seen = Seen { value, text: "", folded: "" };
            let mut answering =
                Answering { group, predicates, seen, truth: self.truth, held: None };
            self.memo.held(place).iter().for_each(|predicate| answering.holds(*predicate));
            return;
        }
        self.held.clear();
        let is_wanted = matches!(recall, Recall::Wanted(_));
        for slot in self.wiring.slots(field) {
            self.put_to_slot(slot, at, value, is_wanted);
        }
        if let Some(keywords) = &self.group.keywords {
            let seen = self.texts.seen(at, value);
            let held = is_wanted.then_some(&mut *self.held);
            let (group, predicates, truth) = (self.group, self.predicates, &mut *self.truth);
            truth.begin_value();
            let mut answering = Answering { group, predicates, seen, truth, held };
            keywords.observe(seen, &mut answering);
        }
        if let (Recall::Wanted(place), Value::Text(text)) = (recall, value) {
            self.memo.keep(place, of, text, self.held);
        }
    }

    /// Puts a value, whose text was made, to a slot's machine, as it stands and in Sigma's words.
    fn put_to_slot(&mut self, slot: Slot, at: usize, value: &Value<'_>, is_wanted: bool) {
        let (group, predicates) = (self.group, self.predicates);
        let Some(machine) = group.fields.get(usize::from(slot)) else { return };
        let seen = self.texts.seen(at, value);
        let word = self.wiring.word(slot, seen.folded);
        let mut put = |seen: Seen<'_>| {
            let held = is_wanted.then_some(&mut *self.held);
            let truth = &mut *self.truth;
            truth.begin_value();
            machine.observe(seen, &mut Answering { group, predicates, seen, truth, held });
        };
        put(seen);
        if let Some((word, folded)) = word {
            let value = Value::Text(word.into());
            put(Seen { value: &value, text: word, folded });
        }
    }

    /// Looks at the rules that were reached.
    fn conclude(&mut self, matched: &mut Vec<RuleIndex>) {
        let group = self.group;
        let candidates = std::mem::take(&mut self.truth.candidates);
        for rule in candidates.iter().chain(&group.unreached) {
            if let Some((index, node)) = group.rules.get(*rule as usize)
                && self.holds(node)
            {
                matched.push(*index);
            }
        }
        self.truth.candidates = candidates;
    }

    fn is_held(&mut self, predicate: Local) -> bool {
        let (at, epoch) = (predicate as usize, self.truth.epoch);
        if Truth::is_marked(&self.truth.held, at, epoch) {
            return true;
        }
        match self.group.put_off.get(at) {
            None | Some(&NO_SLOT) => false,
            Some(slot) => {
                Truth::mark(&mut self.truth.looked_at, at, epoch) && self.try_now(predicate, *slot)
            }
        }
    }

    /// Tries a predicate that was put off on the values of its slot.
    fn try_now(&mut self, predicate: Local, slot: Slot) -> bool {
        let id = self.group.predicates.get(predicate as usize);
        let Some(definition) = id.and_then(|id| self.predicates.get(id.0 as usize)) else {
            return false;
        };
        let (event, wiring) = (self.event, self.wiring);
        let fed = |(_, (field, _)): &(usize, &(FieldId, Value<'_>))| {
            wiring.slots(*field).any(|fed| fed == slot)
        };
        for (at, (_, value)) in event.fields.iter().enumerate().filter(fed) {
            self.texts.make(at, value);
            let seen = self.texts.seen(at, value);
            let in_words = wiring.word(slot, seen.folded).is_some_and(|(word, folded)| {
                let value = Value::Text(word.into());
                definition.test.holds(Seen { value: &value, text: word, folded })
            });
            if in_words || (!seen.is_null() && definition.test.holds(seen)) {
                Truth::mark(&mut self.truth.held, predicate as usize, self.truth.epoch);
                return true;
            }
        }
        false
    }

    fn holds(&mut self, node: &Node) -> bool {
        match node {
            Node::Holds(predicate) => self.is_held(*predicate),
            Node::Late(number) => self.late_holds(*number),
            Node::OneOf(predicates) => predicates.iter().any(|predicate| self.is_held(*predicate)),
            Node::EachOf(predicates) => predicates.iter().all(|predicate| self.is_held(*predicate)),
            Node::All(nodes) => nodes.iter().all(|node| self.holds(node)),
            Node::Any(nodes) => nodes.iter().any(|node| self.holds(node)),
            Node::AtLeast(count, nodes) => {
                let wanted = usize::try_from(*count).unwrap_or(usize::MAX);
                nodes.iter().filter(|node| self.holds(node)).take(wanted).count() == wanted
            }
            Node::Not(node) => !self.holds(node),
        }
    }

    fn late_holds(&self, number: u32) -> bool {
        let epoch = self.truth.epoch;
        match self.group.late.get(number as usize) {
            Some(Late::Null(slot)) => {
                let slot = usize::from(*slot);
                !Truth::is_marked(&self.truth.slots, slot, epoch)
                    || Truth::is_marked(&self.truth.nulls, slot, epoch)
            }
            Some(Late::SameAs { field, other, place, cased }) => {
                // Both were observed, so their texts are made.
                self.values_in(*field).any(|seen| {
                    self.values_in(*other).any(|other| match cased {
                        true => place.holds(seen.text, other.text),
                        false => place.holds(seen.folded, other.folded),
                    })
                })
            }
            None => false,
        }
    }

    /// The values in `slot` that are not null.
    fn values_in(&self, slot: Slot) -> impl Iterator<Item = Seen<'_>> {
        self.event
            .fields
            .iter()
            .enumerate()
            .filter(move |(_, (field, _))| self.wiring.slots(*field).any(|fed| fed == slot))
            .map(|(at, (_, value))| self.texts.seen(at, value))
            .filter(|seen| !seen.is_null())
    }
}
