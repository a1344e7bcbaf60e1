//! A group: the rules that are asked about the same events, compiled together.
//!
//! The one idea: rules with the same log source (and the same event id, where their conditions name one)
//! form a group with its own machines. Each rule is *reached* through a set of predicates of which one
//! must hold for the rule to match; a rule whose set is silent costs nothing. Few rules have no such set
//! (`not` alone, or a field that must be absent): those are looked at for every event of their group.

use std::collections::HashMap;

use cordon_model::event::{FieldId, FieldTable};
use serde::{Deserialize, Serialize};

use crate::condition::{Condition, EVENT_ID, PredicateId};
use crate::field::{FieldMachine, FieldMachineBuilder, Local};
use crate::fold::fold;
use crate::pattern::Shape;
use crate::predicate::{Place, Predicate, Test};
use crate::required::required_texts;
use crate::rule::{LogSource, RuleIndex};
use crate::stored::{self, deeper};
use crate::taxonomy::{Mapping, MappingIndex, Reach, Taxonomy, Translation};

/// A field's number within its group.
pub(crate) type Slot = u16;

pub(crate) const NO_SLOT: Slot = Slot::MAX;

/// A condition over the group's own predicate numbers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Node {
    /// A value made it hold, or not.
    Holds(Local),
    /// Only the whole event can say: the number counts the group's [`Late`] predicates.
    Late(u32),
    /// One of these values' predicates holds.
    OneOf(Box<[Local]>),
    /// All of these values' predicates hold.
    EachOf(Box<[Local]>),
    All(#[serde(deserialize_with = "deeper")] Box<[Node]>),
    Any(#[serde(deserialize_with = "deeper")] Box<[Node]>),
    AtLeast(u64, #[serde(deserialize_with = "deeper")] Box<[Node]>),
    Not(#[serde(deserialize_with = "deeper")] Box<Node>),
}

/// A predicate that no single value decides.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Late {
    /// The field isn't there, or a value of it is null.
    Null(Slot),
    /// A value of the first field compares so to a value of the second.
    SameAs { field: Slot, other: Slot, place: Place, cased: bool },
}

/// Which event fields feed which slots.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Wiring {
    first: Box<[Slot]>,
    #[serde(with = "stored::fed")]
    more: Box<[(FieldId, Slot)]>,
    words: Box<[Words]>,
}

/// What the values of a slot say in Sigma's words.
#[derive(Debug, Serialize, Deserialize)]
struct Words {
    slot: Slot,
    list: Vec<Word>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Word {
    /// As the log says it, folded.
    log: Box<str>,
    /// As Sigma says it.
    sigma: Box<str>,
    /// That, folded.
    folded: Box<str>,
}

impl Wiring {
    /// The slots that `field` feeds.
    pub(crate) fn slots(&self, field: FieldId) -> impl Iterator<Item = Slot> {
        let first = self.first.get(field.0 as usize).copied().filter(|slot| *slot != NO_SLOT);
        let more =
            self.more.iter().filter(move |(other, _)| *other == field).map(|(_, slot)| *slot);
        first.into_iter().chain(more)
    }

    /// What `folded` in `slot` says in Sigma's words, and that folded.
    pub(crate) fn word(&self, slot: Slot, folded: &str) -> Option<(&str, &str)> {
        let words = self.words.iter().find(|words| words.slot == slot)?;
        let word = words.list.iter().find(|word| *word.log == *folded)?;
        Some((&word.sigma, &word.folded))
    }
}

/// A compiled group.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(crate) rules: Vec<(RuleIndex, Node)>,
    /// Rules that no predicate reaches: looked at every time.
    pub(crate) unreached: Vec<u32>,
    /// By local number, the predicates that values decide.
    pub(crate) predicates: Vec<PredicateId>,
    pub(crate) late: Vec<Late>,
    /// By local number: the slot whose values a predicate is tried on when a rule gets as far as it, instead
    /// of before: nothing in a value shows that it might hold. [`NO_SLOT`] for all others.
    pub(crate) put_off: Vec<Slot>,
    reach_starts: Vec<u32>,
    reached: Vec<u32>,
    pub(crate) fields: Vec<FieldMachine>,
    pub(crate) names: Vec<Box<str>>,
    pub(crate) keywords: Option<FieldMachine>,
    pub(crate) event_id: Option<Slot>,
    direct: Wiring,
    mapped: Vec<(MappingIndex, Wiring)>,
}

impl Group {
    /// The rules that `predicate` reaches.
    pub(crate) fn reached_by(&self, predicate: Local) -> &[u32] {
        let at = predicate as usize;
        match self.reach_starts.get(at..at + 2) {
            Some(&[from, to]) => self.reached.get(from as usize..to as usize).unwrap_or_default(),
            _ => &[],
        }
    }

    /// The wiring for events that arrive this way.
    pub(crate) fn wiring(&self, reach: Reach) -> &Wiring {
        match reach {
            Reach::Direct => &self.direct,
            Reach::Mapped(index) => self
                .mapped
                .iter()
                .find(|(known, _)| *known == index)
                .map_or(&self.direct, |(_, wiring)| wiring),
        }
    }

    /// The slot of a field that a rule of the group reads.
    pub(crate) fn slot(&self, name: &str) -> Option<Slot> {
        self.names.iter().position(|known| **known == *name).and_then(|at| Slot::try_from(at).ok())
    }
}

/// Gives every name that `predicates` read or that is `wanted` otherwise, and every name that logs have
/// for them, its number.
pub(crate) fn intern_names<'p>(
    predicates: impl Iterator<Item = &'p Predicate>,
    wanted: &[Box<str>],
    source: &LogSource,
    table: &mut FieldTable,
) {
    for predicate in predicates {
        let Some(name) = predicate.field.as_deref() else { continue };
        table.intern(name);
        if let Test::SameAs(reference) = &predicate.test {
            table.intern(&reference.field);
        }
    }
    for name in wanted {
        table.intern(name);
    }
    for (_, mapping) in Taxonomy::windows().mappings_of(source) {
        for (name, logs) in &mapping.fields {
            if table.find(name).is_some() {
                logs.iter().for_each(|log| {
                    table.intern(log);
                });
            }
        }
    }
}

/// Compiles `rules`, all of one log source, into a group. `wanted` are further fields whose values are
/// asked for when a rule matched.
pub(crate) fn compile<'w>(
    rules: &[(RuleIndex, &Condition)],
    predicates: &[Predicate],
    wanted: impl Iterator<Item = &'w Box<str>>,
    source: &LogSource,
    table: &FieldTable,
) -> Group {
    let mut building = Building { predicates, ..Building::default() };
    let mut compiled: Vec<(RuleIndex, Node)> = Vec::with_capacity(rules.len());
    for (index, condition) in rules {
        compiled.push((*index, building.node(condition)));
    }
    for name in wanted {
        building.slot(name);
    }
    let mut reached_by: Vec<Vec<u32>> = vec![Vec::new(); building.locals.len()];
    let mut reaches = vec![false; building.locals.len()];
    let mut unreached = Vec::new();
    for (at, (_, node)) in compiled.iter().enumerate() {
        let at = at as u32;
        match building.necessary(node) {
            Some(necessary) => {
                for predicate in necessary.predicates {
                    if let Some(reaches) = reaches.get_mut(predicate as usize) {
                        *reaches = true;
                    }
                    match reached_by.get_mut(predicate as usize) {
                        Some(rules) if rules.last() != Some(&at) => rules.push(at),
                        _ => {}
                    }
                }
            }
            None => unreached.push(at),
        }
    }
    let mut reach_starts = Vec::with_capacity(reached_by.len() + 1);
    let mut reached = Vec::new();
    for rules in reached_by {
        reach_starts.push(reached.len() as u32);
        reached.extend(rules);
    }
    reach_starts.push(reached.len() as u32);

    let (mut fields, keywords) = building.machines();
    let names = building.names;
    let slots: HashMap<&str, Slot> =
        names.iter().zip(0..).map(|(name, slot)| (&**name, slot)).collect();
    let event_id = slots.get(EVENT_ID).copied();
    let mut put_off = vec![NO_SLOT; building.locals.len()];
    for (slot, machine) in (0..).zip(&mut fields) {
        // An event may bring its id as no value of a field.
        if Some(slot) == event_id {
            continue;
        }
        let reaches = |predicate: Local| reaches.get(predicate as usize) == Some(&true);
        for predicate in machine.put_off(reaches) {
            if let Some(place) = put_off.get_mut(predicate as usize) {
                *place = slot;
            }
        }
    }
    let mapped = Taxonomy::windows()
        .mappings_of(source)
        .map(|(index, mapping)| (index, wiring(&slots, Some(mapping), table)))
        .collect();
    Group {
        rules: compiled,
        unreached,
        predicates: building.locals,
        late: building.late,
        reach_starts,
        reached,
        fields,
        keywords,
        event_id,
        put_off,
        direct: wiring(&slots, None, table),
        mapped,
        names,
    }
}

fn wiring(slots: &HashMap<&str, Slot>, mapping: Option<&Mapping>, table: &FieldTable) -> Wiring {
    let mut first = vec![NO_SLOT; table.len()].into_boxed_slice();
    let mut more = Vec::new();
    let mut by_name: Vec<(&str, Slot)> = slots.iter().map(|(name, slot)| (*name, *slot)).collect();
    by_name.sort_unstable();
    for (name, slot) in by_name {
        let logs =
            mapping.and_then(|mapping| mapping.fields.iter().find(|(sigma, _)| **sigma == *name));
        // Where a log has its own name for a field, Sigma's name means something else in it, or nothing.
        let sources: Vec<&str> = match logs {
            Some((_, logs)) => logs.iter().map(AsRef::as_ref).collect(),
            None => vec![name],
        };
        for field in sources.into_iter().filter_map(|source| table.find(source)) {
            match first.get_mut(field.0 as usize) {
                Some(free) if *free == NO_SLOT => *free = slot,
                _ => more.push((field, slot)),
            }
        }
    }
    let words =
        mapping.into_iter().flat_map(|mapping| &mapping.values).filter_map(|(name, words)| {
            let word = |word: &Translation| Word {
                log: word.log.clone(),
                sigma: word.sigma.clone(),
                folded: fold(&word.sigma).into(),
            };
            let list = words.iter().map(word).collect();
            Some(Words { slot: *slots.get(&**name)?, list })
        });
    Wiring { first, more: more.into(), words: words.collect() }
}

/// Predicates of which one must hold, and how often that is expected.
struct Necessary {
    cost: f64,
    predicates: Vec<Local>,
}

#[derive(Default)]
struct Building<'a> {
    predicates: &'a [Predicate],
    locals: Vec<PredicateId>,
    local_of: HashMap<PredicateId, Local>,
    uses: Vec<u32>,
    late: Vec<Late>,
    late_of: HashMap<PredicateId, u32>,
    names: Vec<Box<str>>,
    slot_of: HashMap<Box<str>, Slot>,
}

impl Building<'_> {
    fn slot(&mut self, name: &str) -> Slot {
        if let Some(slot) = self.slot_of.get(name) {
            return *slot;
        }
        let slot = Slot::try_from(self.names.len()).unwrap_or(NO_SLOT - 1);
        self.names.push(name.into());
        self.slot_of.insert(name.into(), slot);
        slot
    }

    fn node(&mut self, condition: &Condition) -> Node {
        match condition {
            Condition::Holds(id) => self.leaf(*id),
            Condition::Named(_, inner) => self.node(inner),
            Condition::Not(inner) => Node::Not(Box::new(self.node(inner))),
            Condition::All(parts) => {
                let nodes: Vec<Node> = parts.iter().map(|part| self.node(part)).collect();
                all_locals(&nodes).map_or_else(|| Node::All(nodes.into()), Node::EachOf)
            }
            Condition::Any(parts) => {
                let nodes: Vec<Node> = parts.iter().map(|part| self.node(part)).collect();
                all_locals(&nodes).map_or_else(|| Node::Any(nodes.into()), Node::OneOf)
            }
            Condition::AtLeast(count, parts) => {
                Node::AtLeast(*count, parts.iter().map(|part| self.node(part)).collect())
            }
        }
    }

    fn leaf(&mut self, id: PredicateId) -> Node {
        let Some(predicate) = self.predicates.get(id.0 as usize) else {
            return Node::OneOf(Box::default());
        };
        if let (Some(field), Test::Null | Test::SameAs(_)) =
            (predicate.field.as_deref(), &predicate.test)
        {
            if let Some(late) = self.late_of.get(&id) {
                return Node::Late(*late);
            }
            let field = self.slot(field);
            let late = match &predicate.test {
                Test::SameAs(reference) => Late::SameAs {
                    field,
                    other: self.slot(&reference.field),
                    place: reference.place,
                    cased: reference.cased,
                },
                _ => Late::Null(field),
            };
            let number = self.late.len() as u32;
            self.late.push(late);
            self.late_of.insert(id, number);
            return Node::Late(number);
        }
        if let Some(field) = predicate.field.as_deref() {
            self.slot(field);
        }
        let local = *self.local_of.entry(id).or_insert_with(|| {
            self.locals.push(id);
            self.uses.push(0);
            (self.locals.len() - 1) as Local
        });
        if let Some(uses) = self.uses.get_mut(local as usize) {
            *uses += 1;
        }
        Node::Holds(local)
    }

    /// The cheapest set of predicates of which one must hold for the node to hold, if there is one.
    fn necessary(&self, node: &Node) -> Option<Necessary> {
        match node {
            Node::Holds(local) => {
                Some(Necessary { cost: self.cost(*local), predicates: vec![*local] })
            }
            Node::Late(_) | Node::Not(_) => None,
            Node::OneOf(locals) => Some(Necessary {
                cost: locals.iter().map(|local| self.cost(*local)).sum(),
                predicates: locals.to_vec(),
            }),
            Node::EachOf(locals) => locals
                .iter()
                .map(|local| Necessary { cost: self.cost(*local), predicates: vec![*local] })
                .min_by(|left, right| left.cost.total_cmp(&right.cost)),
            Node::All(nodes) => nodes
                .iter()
                .filter_map(|node| self.necessary(node))
                .min_by(|left, right| left.cost.total_cmp(&right.cost)),
            Node::Any(nodes) => self.one_of_each(nodes),
            Node::AtLeast(0, _) => None,
            Node::AtLeast(_, nodes) => self.one_of_each(nodes),
        }
    }

    fn one_of_each(&self, nodes: &[Node]) -> Option<Necessary> {
        nodes.iter().map(|node| self.necessary(node)).try_fold(
            Necessary { cost: 0.0, predicates: Vec::new() },
            |mut sum, necessary| {
                let necessary = necessary?;
                sum.cost += necessary.cost;
                sum.predicates.extend(necessary.predicates);
                Some(sum)
            },
        )
    }

    /// How often a predicate is expected to hold, roughly: long texts are rare; what many rules ask
    /// about is common (the names of interpreters); a field that only has to be there is there often.
    fn cost(&self, local: Local) -> f64 {
        const RARER_A_CHARACTER: f64 = 0.7;
        const PER_USE: f64 = 0.01;
        // Every value has to be tried: anything else is cheaper.
        const UNTRIGGERED: f64 = 1000.0;
        let Some(predicate) =
            self.locals.get(local as usize).and_then(|id| self.predicates.get(id.0 as usize))
        else {
            return f64::INFINITY;
        };
        let rarity =
            |length: usize| RARER_A_CHARACTER.powi(i32::try_from(length.min(30)).unwrap_or(30));
        let by_test = match &predicate.test {
            Test::Text(pattern) => match pattern.shape() {
                Shape::Anything => 100.0,
                Shape::Equals(text) => rarity(text.len() + 6),
                Shape::Contains(text) | Shape::StartsWith(text) | Shape::EndsWith(text) => {
                    rarity(text.len())
                }
                Shape::Glob => pattern
                    .required_texts()
                    .map_or(UNTRIGGERED, |texts| texts.iter().map(|text| rarity(text.len())).sum()),
            },
            Test::Regex(expression) => {
                required_texts(&expression.source).map_or(UNTRIGGERED, |_| 0.5)
            }
            Test::Network(_) | Test::Compare(..) | Test::Time(..) => 1.0,
            Test::Exists => 100.0,
            Test::Null | Test::SameAs(_) => f64::INFINITY,
        };
        let keyword = if predicate.field.is_none() { 2.0 } else { 1.0 };
        let uses = self.uses.get(local as usize).copied().unwrap_or(0);
        by_test * keyword + PER_USE * f64::from(uses)
    }

    fn machines(&self) -> (Vec<FieldMachine>, Option<FieldMachine>) {
        let mut fields: Vec<FieldMachineBuilder> = Vec::new();
        fields.resize_with(self.names.len(), FieldMachineBuilder::default);
        let mut keywords: Option<FieldMachineBuilder> = None;
        for (local, id) in self.locals.iter().enumerate() {
            let Some(predicate) = self.predicates.get(id.0 as usize) else { continue };
            let builder = match predicate.field.as_deref() {
                None => Some(keywords.get_or_insert_with(FieldMachineBuilder::default)),
                Some(name) => {
                    self.slot_of.get(name).and_then(|slot| fields.get_mut(usize::from(*slot)))
                }
            };
            if let Some(builder) = builder {
                builder.add(local as Local, &predicate.test);
            }
        }
        let fields = fields.into_iter().map(FieldMachineBuilder::build).collect();
        (fields, keywords.map(FieldMachineBuilder::build))
    }
}

/// The numbers of `nodes` if each is just a predicate.
fn all_locals(nodes: &[Node]) -> Option<Box<[Local]>> {
    nodes
        .iter()
        .map(|node| match node {
            Node::Holds(local) => Some(*local),
            _ => None,
        })
        .collect()
}
