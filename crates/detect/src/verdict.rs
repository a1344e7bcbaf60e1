//! Verdicts: which rules match, given what holds for an event's values.
//!
//! The one idea: what holds is marked with an epoch instead of being cleared, and leads to the few rules that
//! need it; all others cost nothing. What a rule asks that nothing of this settles, because it is about the
//! values themselves, stays *open*: the rest of its condition, which is put to the event. So what is settled and
//! what stays open is the same for every event for whose values the same holds.

use cordon_model::event::{Event, FieldId, Value};

use crate::field::Local;
use crate::group::{Group, Late, NO_SLOT, Node, Slot, Wiring};
use crate::predicate::{Predicate, Seen};
use crate::program::{Number, Part, Program};
use crate::rule::RuleIndex;
use crate::ruleset::RuleSet;
use crate::texts::Texts;

/// What is known to hold for an event, marked by epochs.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    epoch: u32,
    held: Vec<u32>,
    reached: Vec<u32>,
    /// Predicates that were put off and are settled by now.
    looked_at: Vec<u32>,
    /// The rules that were reached: the part's place, and the number in its group.
    candidates: Vec<(usize, u32)>,
}

impl Truth {
    /// Forgets everything, and makes room for what `program` asks.
    pub(crate) fn begin(&mut self, program: &Program) {
        self.candidates.clear();
        let Self { held, reached, looked_at, .. } = self;
        if self.epoch == u32::MAX {
            for marks in [&mut *held, &mut *reached, &mut *looked_at] {
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
        grow(held, program.predicates);
        grow(looked_at, program.predicates);
        grow(reached, program.rules);
    }

    /// Takes note that predicates hold. `numbers` are in order.
    pub(crate) fn hold(&mut self, rules: &RuleSet, program: &Program, numbers: &[Number]) {
        let mut at = 0;
        for number in numbers {
            at = program.part_of(*number, at);
            let Some(part) = program.parts.get(at) else { return };
            let Some(group) = rules.groups.get(part.group as usize) else { return };
            if !mark(&mut self.held, *number, self.epoch) {
                continue;
            }
            for rule in group.reached_by(number - part.first) {
                if mark(&mut self.reached, part.first_rule + rule, self.epoch) {
                    self.candidates.push((at, *rule));
                }
            }
        }
    }
}

fn is_marked(marks: &[u32], number: u32, epoch: u32) -> bool {
    marks.get(number as usize).is_some_and(|mark| *mark == epoch)
}

/// Marks, and says whether it wasn't marked before.
fn mark(marks: &mut [u32], number: u32, epoch: u32) -> bool {
    match marks.get_mut(number as usize) {
        Some(mark) if *mark != epoch => {
            *mark = epoch;
            true
        }
        _ => false,
    }
}

/// What stays open of a rule.
#[derive(Debug)]
pub(crate) struct Open {
    /// The place of its part of the program.
    part: usize,
    rule: RuleIndex,
    /// Of nothing but predicates that were put off, and comparisons of two fields.
    node: Node,
}

impl Open {
    /// How many predicates it has.
    pub(crate) fn size(&self) -> usize {
        size(&self.node)
    }
}

/// An event and all that rules may ask of it.
pub(crate) struct Asked<'a, 'e> {
    pub(crate) rules: &'a RuleSet,
    pub(crate) program: &'a Program,
    pub(crate) event: &'a Event<'e>,
    /// Whether the event's id is known, though perhaps by no field.
    pub(crate) has_id: bool,
    pub(crate) texts: &'a mut Texts,
    pub(crate) truth: &'a mut Truth,
}

impl Asked<'_, '_> {
    /// Settles the rules that were reached: those that match are put to the end of `matched`, what stays open
    /// to the end of `open`.
    pub(crate) fn settle(&mut self, matched: &mut Vec<RuleIndex>, open: &mut Vec<Open>) {
        let mut candidates = std::mem::take(&mut self.truth.candidates);
        for (at, part) in self.program.parts.iter().enumerate() {
            if let Some(group) = self.rules.groups.get(part.group as usize) {
                candidates.extend(group.unreached.iter().map(|rule| (at, *rule)));
            }
        }
        for (at, rule) in &candidates {
            let Some(asking) = self.asking(*at) else { continue };
            let Some((rule, node)) = asking.group.rules.get(*rule as usize) else { continue };
            match asking.settle(node) {
                Settled::Holds => matched.push(*rule),
                Settled::Fails => {}
                Settled::Open(node) => open.push(Open { part: *at, rule: *rule, node }),
            }
        }
        self.truth.candidates = candidates;
    }

    /// Puts what stayed open to the event.
    pub(crate) fn close(&mut self, open: &[Open], matched: &mut Vec<RuleIndex>) {
        for Open { part, rule, node } in open {
            if self.asking(*part).is_some_and(|mut asking| asking.holds(node)) {
                matched.push(*rule);
            }
        }
    }

    fn asking(&mut self, at: usize) -> Option<Asking<'_>> {
        let part = self.program.parts.get(at)?;
        let group = self.rules.groups.get(part.group as usize)?;
        Some(Asking {
            part,
            group,
            wiring: group.wiring(part.reach),
            predicates: &self.rules.predicates,
            event: self.event,
            has_id: self.has_id,
            texts: &mut *self.texts,
            truth: &mut *self.truth,
        })
    }
}

/// What is known of a condition.
enum Settled {
    Holds,
    Fails,
    /// This decides.
    Open(Node),
}

impl From<bool> for Settled {
    fn from(holds: bool) -> Self {
        if holds { Self::Holds } else { Self::Fails }
    }
}

/// A rule of one group, asked about one event.
struct Asking<'a> {
    part: &'a Part,
    group: &'a Group,
    wiring: &'a Wiring,
    predicates: &'a [Predicate],
    event: &'a Event<'a>,
    has_id: bool,
    texts: &'a mut Texts,
    truth: &'a mut Truth,
}

impl Asking<'_> {
    fn settle(&self, node: &Node) -> Settled {
        match node {
            Node::Holds(predicate) => self.settle_predicate(*predicate),
            Node::Late(number) => match self.group.late.get(*number as usize) {
                Some(Late::Null(slot)) => self.is_null(*slot).into(),
                Some(Late::SameAs { .. }) => Settled::Open(Node::Late(*number)),
                None => Settled::Fails,
            },
            Node::OneOf(predicates) => self.settle_predicates(predicates, true),
            Node::EachOf(predicates) => self.settle_predicates(predicates, false),
            Node::All(nodes) => {
                let mut open = Vec::new();
                for node in nodes {
                    match self.settle(node) {
                        Settled::Holds => {}
                        Settled::Fails => return Settled::Fails,
                        Settled::Open(node) => open.push(node),
                    }
                }
                if open.is_empty() { Settled::Holds } else { Settled::Open(Node::All(open.into())) }
            }
            Node::Any(nodes) => self.settle_some(1, nodes),
            Node::AtLeast(count, nodes) => self.settle_some(*count, nodes),
            Node::Not(node) => match self.settle(node) {
                Settled::Holds => Settled::Fails,
                Settled::Fails => Settled::Holds,
                Settled::Open(node) => Settled::Open(Node::Not(Box::new(node))),
            },
        }
    }

    fn settle_predicate(&self, predicate: Local) -> Settled {
        let number = self.part.number(predicate);
        if is_marked(&self.truth.held, number, self.truth.epoch) {
            return Settled::Holds;
        }
        match self.group.put_off.get(predicate as usize) {
            None | Some(&NO_SLOT) => Settled::Fails,
            Some(_) => Settled::Open(Node::Holds(predicate)),
        }
    }

    /// One of `predicates`, or each of them.
    fn settle_predicates(&self, predicates: &[Local], is_one_enough: bool) -> Settled {
        let mut open = Vec::new();
        for predicate in predicates {
            match self.settle_predicate(*predicate) {
                Settled::Open(_) => open.push(*predicate),
                settled if matches!(settled, Settled::Holds) == is_one_enough => return settled,
                Settled::Holds | Settled::Fails => {}
            }
        }
        match open.is_empty() {
            true => (!is_one_enough).into(),
            false if is_one_enough => Settled::Open(Node::OneOf(open.into())),
            false => Settled::Open(Node::EachOf(open.into())),
        }
    }

    fn settle_some(&self, count: u64, nodes: &[Node]) -> Settled {
        let mut wanted = count;
        let mut open = Vec::new();
        for node in nodes {
            if wanted == 0 {
                break;
            }
            match self.settle(node) {
                Settled::Holds => wanted -= 1,
                Settled::Fails => {}
                Settled::Open(node) => open.push(node),
            }
        }
        match wanted {
            0 => Settled::Holds,
            _ if wanted > open.len() as u64 => Settled::Fails,
            _ => Settled::Open(Node::AtLeast(wanted, open.into())),
        }
    }

    /// Whether what stayed open holds.
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

    fn is_held(&mut self, predicate: Local) -> bool {
        let (number, epoch) = (self.part.number(predicate), self.truth.epoch);
        if is_marked(&self.truth.held, number, epoch) {
            return true;
        }
        match self.group.put_off.get(predicate as usize) {
            None | Some(&NO_SLOT) => false,
            Some(slot) => {
                mark(&mut self.truth.looked_at, number, epoch) && self.try_now(predicate, *slot)
            }
        }
    }

    /// Tries a predicate that was put off on the values of its slot.
    fn try_now(&mut self, predicate: Local, slot: Slot) -> bool {
        let id = self.group.predicates.get(predicate as usize);
        let Some(definition) = id.and_then(|id| self.predicates.get(id.0 as usize)) else {
            return false;
        };
        let wiring = self.wiring;
        let event = self.event;
        for (at, value) in values_in(event, wiring, slot) {
            self.texts.make(at, value);
            let seen = self.texts.seen(at, value);
            let in_words = wiring.word(slot, seen.folded).is_some_and(|(word, folded)| {
                let value = Value::Text(word.into());
                definition.test.holds(Seen { value: &value, text: word, folded })
            });
            if in_words || (!seen.is_null() && definition.test.holds(seen)) {
                mark(&mut self.truth.held, self.part.number(predicate), self.truth.epoch);
                return true;
            }
        }
        false
    }

    /// Whether `slot` has no value, or one that is null.
    fn is_null(&self, slot: Slot) -> bool {
        let mut values = values_in(self.event, self.wiring, slot).peekable();
        let is_absent = values.peek().is_none();
        let is_id = self.has_id && self.part.event_id == Some(slot);
        (is_absent && !is_id) || values.any(|(_, value)| matches!(value, Value::Null))
    }

    fn late_holds(&mut self, number: u32) -> bool {
        let (event, wiring) = (self.event, self.wiring);
        match self.group.late.get(number as usize) {
            Some(Late::Null(slot)) => self.is_null(*slot),
            Some(Late::SameAs { field, other, place, cased }) => {
                for slot in [*field, *other] {
                    for (at, value) in values_in(event, wiring, slot) {
                        self.texts.make(at, value);
                    }
                }
                let seen_in = |slot| {
                    values_in(event, wiring, slot)
                        .map(|(at, value)| self.texts.seen(at, value))
                        .filter(|seen| !seen.is_null())
                };
                seen_in(*field).any(|seen| {
                    seen_in(*other).any(|other| match cased {
                        true => place.holds(seen.text, other.text),
                        false => place.holds(seen.folded, other.folded),
                    })
                })
            }
            None => false,
        }
    }
}

fn size(node: &Node) -> usize {
    match node {
        Node::Holds(_) | Node::Late(_) => 1,
        Node::OneOf(predicates) | Node::EachOf(predicates) => predicates.len(),
        Node::All(nodes) | Node::Any(nodes) | Node::AtLeast(_, nodes) => {
            nodes.iter().map(size).sum::<usize>() + 1
        }
        Node::Not(node) => size(node) + 1,
    }
}

/// The values in `slot`, and where they are in the event.
fn values_in<'e>(
    event: &'e Event<'_>,
    wiring: &'e Wiring,
    slot: Slot,
) -> impl Iterator<Item = (usize, &'e Value<'e>)> {
    let feeds = move |field: &FieldId| wiring.slots(*field).any(|fed| fed == slot);
    let values = event.fields.iter().enumerate();
    values.filter(move |(_, (field, _))| feeds(field)).map(|(at, (_, value))| (at, value))
}
