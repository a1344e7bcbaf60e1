//! Matching: one event through its program.
//!
//! The one idea: what is found out about a value is a set of predicates that hold, and what is found out about
//! an event follows from these sets. Both are remembered ([`memo`](crate::memo)), so that the machines only
//! see values that are new, and the rules only events for whose values something new holds. All scratch space
//! is owned here.

use cordon_model::event::{Event, FieldId, Source, Value};
use cordon_model::finding::MatchedField;

use crate::condition::EVENT_ID;
use crate::correlation::state::Hit;
use crate::explain::{self, Depth, Explanation};
use crate::field::{Local, Verdicts, is_code};
use crate::group::Group;
use crate::memo::{Effect, Memo, Of, Recall};
use crate::number::Number as Numeric;
use crate::predicate::{Predicate, Seen};
use crate::program::{Number, Part, Plans, Program, Read};
use crate::rule::RuleIndex;
use crate::ruleset::{Interest, RuleSet};
use crate::taxonomy::Reach;
use crate::texts::Texts;
use crate::verdict::{Asked, Open, Truth};

/// Matches events against a [`RuleSet`]. One a thread; reuse it.
#[derive(Debug, Default)]
pub struct Matcher {
    plans: Plans,
    texts: Texts,
    truth: Truth,
    memo: Memo,
    findings: Findings,
    matched: Vec<RuleIndex>,
    open: Vec<Open>,
}

impl Matcher {
    /// A matcher with nothing remembered yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What has to be read of events of this source: an intake asks before it reads the fields.
    pub fn interest(&mut self, rules: &RuleSet, source: &Source<'_>) -> Interest {
        self.plans.interest(rules, source)
    }

    /// The rules that match `event`, in order of their numbers.
    pub fn matches(&mut self, rules: &RuleSet, event: &Event<'_>) -> &[RuleIndex] {
        self.matched.clear();
        let event_id = event_id_of(rules, event);
        let Some(program) = self.plans.program(rules, &event.source, event_id) else {
            return &self.matched;
        };
        if program.parts.is_empty() {
            return &self.matched;
        }
        self.memo.begin(rules.serial);
        self.truth.begin(program);
        self.texts.begin(event.fields.len());
        self.findings.begin(program);
        let id = event_id.map(|id| Value::Unsigned(u64::from(id)));
        Observing {
            rules,
            program,
            texts: &mut self.texts,
            memo: &mut self.memo,
            truth: &mut self.truth,
            findings: &mut self.findings,
        }
        .observe(event, id.as_ref());
        let Findings { effects, are_all, .. } = &self.findings;
        let recall = match are_all {
            true => self.memo.recall_event(program.serial, effects),
            false => Recall::Unknown,
        };
        let mut asked = Asked {
            rules,
            program,
            event,
            has_id: event_id.is_some(),
            texts: &mut self.texts,
            truth: &mut self.truth,
        };
        let place = match recall {
            Recall::Known((matched, open)) => {
                self.matched.extend_from_slice(matched);
                asked.close(open, &mut self.matched);
                if !open.is_empty() {
                    self.matched.sort_unstable();
                }
                return &self.matched;
            }
            Recall::Wanted(place) => Some(place),
            Recall::Unknown => None,
        };
        for effect in effects {
            asked.truth.hold(rules, program, self.memo.held(Effect::in_event(*effect)));
        }
        self.open.clear();
        asked.settle(&mut self.matched, &mut self.open);
        self.matched.sort_unstable();
        let settled = self.matched.len();
        asked.close(&self.open, &mut self.matched);
        if let Some(place) = place {
            let settled = self.matched.get(..settled).unwrap_or_default();
            self.memo.keep_event(place, program.serial, effects, settled, &mut self.open);
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
        explain::explain(rules, event, rule, self.reach(rules, event, rule), Depth::Whole)
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
        let program = self.plans.program(rules, &event.source, event_id_of(rules, event))?;
        let asks = |part: &&Part| {
            let group = rules.groups.get(part.group as usize);
            group.is_some_and(|group| group.rules.iter().any(|(index, _)| *index == rule))
        };
        program.parts.iter().find(asks).map(|part| (part.group, part.reach))
    }
}

/// The event's id: from its source, else from its field.
pub(crate) fn event_id_of(rules: &RuleSet, event: &Event<'_>) -> Option<u32> {
    event.source.event_id.or_else(|| match Numeric::of(event.first(rules.event_id?)?)? {
        Numeric::Whole(id) => u32::try_from(id).ok(),
        Numeric::Real(_) => None,
    })
}

/// What is found out about one event's values.
#[derive(Debug, Default)]
struct Findings {
    /// The effects of the values, each with its field. Without those that change nothing.
    effects: Vec<u64>,
    /// Whether these are all: whether there was no value whose set of predicates has no number.
    are_all: bool,
    /// What holds for the value that is looked at.
    held: Vec<Number>,
    /// Marks of `held`, so that each predicate is in it once.
    is_held: Vec<u32>,
    value: u32,
    /// Predicates that were tried on the value in the form that is looked at.
    is_tried: Vec<u32>,
    form: u32,
    /// The fields that may have brought the event's id.
    id_fields: Vec<FieldId>,
}

impl Findings {
    /// Starts an event.
    fn begin(&mut self, program: &Program) {
        self.effects.clear();
        self.are_all = true;
        self.id_fields.clear();
        for marks in [&mut self.is_held, &mut self.is_tried] {
            if marks.len() < program.predicates {
                marks.resize(program.predicates, 0);
            }
        }
    }

    fn begin_value(&mut self) {
        self.held.clear();
        next_epoch(&mut self.value, &mut self.is_held);
    }

    fn begin_form(&mut self) {
        next_epoch(&mut self.form, &mut self.is_tried);
    }
}

fn next_epoch(epoch: &mut u32, marks: &mut [u32]) {
    if *epoch == u32::MAX {
        marks.fill(0);
        *epoch = 0;
    }
    *epoch += 1;
}

/// Marks, and says whether it wasn't marked before.
fn mark(marks: &mut [u32], number: Number, epoch: u32) -> bool {
    match marks.get_mut(number as usize) {
        Some(mark) if *mark != epoch => {
            *mark = epoch;
            true
        }
        _ => false,
    }
}

/// One form of a value put to one machine.
struct Answering<'a, 'v> {
    part: &'a Part,
    group: &'a Group,
    predicates: &'a [Predicate],
    seen: Seen<'v>,
    findings: &'a mut Findings,
}

impl Verdicts for Answering<'_, '_> {
    fn holds(&mut self, predicate: Local) {
        let (number, findings) = (self.part.number(predicate), &mut *self.findings);
        if mark(&mut findings.is_held, number, findings.value) {
            findings.held.push(number);
        }
    }

    fn may_hold(&mut self, predicate: Local) {
        let (number, findings) = (self.part.number(predicate), &mut *self.findings);
        if !mark(&mut findings.is_tried, number, findings.form) {
            return;
        }
        let id = self.group.predicates.get(predicate as usize);
        let definition = id.and_then(|id| self.predicates.get(id.0 as usize));
        if definition.is_some_and(|definition| definition.test.holds(self.seen)) {
            self.holds(predicate);
        }
    }
}

/// The values of one event, looked at.
struct Observing<'a> {
    rules: &'a RuleSet,
    program: &'a Program,
    texts: &'a mut Texts,
    memo: &'a mut Memo,
    truth: &'a mut Truth,
    findings: &'a mut Findings,
}

impl Observing<'_> {
    fn observe(&mut self, event: &Event<'_>, id: Option<&Value<'_>>) {
        let program = self.program;
        for (at, (field, value)) in event.fields.iter().enumerate() {
            let Some(read) = program.read(*field) else { continue };
            if read.passes_codes && is_code(value) {
                continue;
            }
            if read.may_be_id {
                self.findings.id_fields.push(*field);
            }
            self.value(*field, at, value, read);
        }
        // An intake may give the id with the source alone.
        let Some(id) = id else { return };
        for (number, read) in (1..).zip(&program.ids) {
            let brings = |field: &FieldId| {
                let fed = program.read(*field).map_or(&[][..], |fed| &fed.slots);
                fed.iter().any(|slot| read.slots.contains(slot))
            };
            if !self.findings.id_fields.iter().any(brings) {
                // A number that no field has.
                let field = FieldId(FieldId::UNREAD.0 - number);
                self.value(field, event.fields.len(), id, read);
            }
        }
    }

    /// Finds out what holds for a value of a field, or remembers it.
    fn value(&mut self, field: FieldId, at: usize, value: &Value<'_>, read: &Read) {
        let of = Of(self.program.serial, field);
        let recall = self.memo.recall(of, value);
        let effect = match recall {
            Recall::Known(effect) => effect,
            Recall::Wanted(_) | Recall::Unknown => {
                self.ask(at, value, read);
                self.findings.held.sort_unstable();
                match self.memo.effect(&self.findings.held) {
                    Some(effect) => {
                        if let Recall::Wanted(place) = recall {
                            self.memo.keep(place, of, value, effect);
                        }
                        effect
                    }
                    None => {
                        self.findings.are_all = false;
                        self.truth.hold(self.rules, self.program, &self.findings.held);
                        return;
                    }
                }
            }
        };
        if effect != Effect::NONE || read.presence_counts {
            let is_null = matches!(value, Value::Null);
            self.findings.effects.push(effect.of_field(field, is_null));
        }
    }

    /// Puts a value to all machines of those who read it.
    fn ask(&mut self, at: usize, value: &Value<'_>, read: &Read) {
        self.texts.make(at, value);
        let (rules, program) = (self.rules, self.program);
        let group_of = |place: u32| {
            let part = program.parts.get(place as usize)?;
            Some((part, rules.groups.get(part.group as usize)?))
        };
        let seen = self.texts.seen(at, value);
        self.findings.begin_value();
        let mut put = |seen: Seen<'_>, part, group, machine: &crate::field::FieldMachine| {
            self.findings.begin_form();
            let findings = &mut *self.findings;
            let predicates = &rules.predicates;
            machine.observe(seen, &mut Answering { part, group, predicates, seen, findings });
        };
        for (place, slot) in &read.slots {
            let Some((part, group)) = group_of(*place) else { continue };
            let Some(machine) = group.fields.get(usize::from(*slot)) else { continue };
            put(seen, part, group, machine);
            // Once more in Sigma's words, where the log has others.
            if let Some((word, folded)) = group.wiring(part.reach).word(*slot, seen.folded) {
                let value = Value::Text(word.into());
                put(Seen { value: &value, text: word, folded }, part, group, machine);
            }
        }
        for place in &read.keywords {
            if let Some((part, group)) = group_of(*place)
                && let Some(machine) = &group.keywords
            {
                put(seen, part, group, machine);
            }
        }
    }
}
