//! Programs: what the events of one origin are asked, made once for all its groups together.
//!
//! The one idea: of a field it is known which machines its values go to, in whatever groups, and all that
//! these find is numbered in one row. So a value is looked at once, or remembered once, for all groups.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};

use cordon_model::event::{FieldId, Source};

use crate::field::Local;
use crate::group::{Group, Late, Slot};
use crate::quick_hash::{QuickMap, quick_hasher};
use crate::ruleset::{Interest, Plan, RuleSet, origin_of};
use crate::taxonomy::Reach;

/// Most sources that are remembered: a busy Windows server has about 300 pairs of channel and event id.
/// Each takes less than 1 KiB. When they are too many (sources that make up names), all are forgotten.
const SOURCES: usize = 1024;

/// Most programs that are remembered, each of a few KiB. Sources of which nothing in particular is asked
/// share theirs, so that made-up names don't add any.
const PROGRAMS: usize = 1024;

/// A predicate's number within a program.
pub(crate) type Number = u32;

/// What the events of one origin are asked.
#[derive(Debug)]
pub(crate) struct Program {
    /// Tells it from all other programs of the same [`Plans`], earlier ones too.
    pub(crate) serial: u32,
    pub(crate) parts: Vec<Part>,
    /// How many predicates and rules all parts have.
    pub(crate) predicates: usize,
    pub(crate) rules: usize,
    /// By field: where in `reads` it is, and 0 for a field that no part reads.
    by_field: Box<[u32]>,
    /// The first is of all fields that no part reads by name.
    reads: Vec<Read>,
    /// The parts that read the event's id: it goes to each to which no field brings it.
    pub(crate) ids: Vec<Read>,
}

/// A group, and how events reach it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    pub(crate) group: u32,
    pub(crate) reach: Reach,
    /// The number of its first predicate; those of a group follow one another.
    pub(crate) first: Number,
    /// The number of its first rule.
    pub(crate) first_rule: u32,
    /// Where the event's id goes if no field brings it.
    pub(crate) event_id: Option<Slot>,
}

/// Who reads a field.
#[derive(Debug, Default)]
pub(crate) struct Read {
    /// The parts, by place, and their slots.
    pub(crate) slots: Box<[(u32, Slot)]>,
    /// The parts that search every value for keywords.
    pub(crate) keywords: Box<[u32]>,
    /// Whether it counts that the field is there, whatever its value makes hold.
    pub(crate) presence_counts: bool,
    /// Whether it may bring the event's id.
    pub(crate) may_be_id: bool,
    /// Whether nothing can hold for a [code](crate::field::is_code).
    pub(crate) passes_codes: bool,
}

impl Program {
    fn new(serial: u32, plan: &Plan, rules: &RuleSet) -> Self {
        let mut program = Self {
            serial,
            parts: Vec::with_capacity(plan.len()),
            predicates: 0,
            rules: 0,
            by_field: vec![0; rules.fields.len()].into(),
            reads: Vec::new(),
            ids: Vec::new(),
        };
        let mut keywords = Vec::new();
        let mut passes_codes = true;
        for (number, reach) in plan {
            let Some(group) = rules.groups.get(*number as usize) else { continue };
            if let Some(machine) = &group.keywords {
                keywords.push(program.parts.len() as u32);
                passes_codes &= machine.passes_codes();
            }
            program.parts.push(Part {
                group: *number,
                reach: *reach,
                first: program.predicates as Number,
                first_rule: program.rules as u32,
                event_id: group.event_id,
            });
            program.predicates += group.predicates.len();
            program.rules += group.rules.len();
        }
        let keywords: Box<[u32]> = keywords.into();
        let unnamed = Read { keywords: keywords.clone(), passes_codes, ..Read::default() };
        program.reads.push(unnamed);
        let counts = |group: &Group, slot: Slot| {
            let counts = |late: &Late| matches!(late, Late::Null(asked) if *asked == slot);
            group.late.iter().any(counts)
        };
        for (at, part) in (0..).zip(&program.parts) {
            let Some(group) = rules.groups.get(part.group as usize) else { continue };
            let Some(slot) = part.event_id else { continue };
            let (slots, presence_counts) = ([(at, slot)].into(), counts(group, slot));
            program.ids.push(Read { slots, presence_counts, ..Read::default() });
        }
        for (field, place) in (0..).map(FieldId).zip(program.by_field.iter_mut()) {
            let mut read = Read { keywords: keywords.clone(), ..Read::default() };
            let mut slots = Vec::new();
            for (at, part) in (0..).zip(&program.parts) {
                let Some(group) = rules.groups.get(part.group as usize) else { continue };
                for slot in group.wiring(part.reach).slots(field) {
                    slots.push((at, slot));
                    read.may_be_id |= part.event_id == Some(slot);
                    read.presence_counts |= counts(group, slot);
                }
            }
            if !slots.is_empty() {
                read.slots = slots.into();
                *place = program.reads.len() as u32;
                program.reads.push(read);
            }
        }
        program
    }

    /// Who reads `field`, if anybody does.
    pub(crate) fn read(&self, field: FieldId) -> Option<&Read> {
        let place = self.by_field.get(field.0 as usize).copied().unwrap_or(0);
        let read = self.reads.get(place as usize)?;
        (place != 0 || !read.keywords.is_empty()).then_some(read)
    }

    /// The place of the part that predicate `number` is of, where that is `from` or later.
    pub(crate) fn part_of(&self, number: Number, from: usize) -> usize {
        let later = self.parts.get(from + 1..).unwrap_or_default();
        from + later.iter().take_while(|part| part.first <= number).count()
    }
}

impl Part {
    /// The number within the program of a predicate of this part.
    pub(crate) fn number(&self, predicate: Local) -> Number {
        self.first + predicate
    }
}

/// The programs of the sources seen so far.
#[derive(Debug, Default)]
pub(crate) struct Plans {
    serial: u64,
    known: QuickMap<u64, Vec<u32>>,
    sources: Vec<Known>,
    /// The one that came last: most events come in runs of one source.
    latest: usize,
    programs: Vec<Program>,
    by_plan: HashMap<Plan, u32>,
    made: u32,
}

#[derive(Debug)]
struct Known {
    source: Source<'static>,
    event_id: Option<u32>,
    program: u32,
    interest: Interest,
}

impl Plans {
    /// What events of `source` with `event_id` are asked.
    pub(crate) fn program(
        &mut self,
        rules: &RuleSet,
        source: &Source<'_>,
        event_id: Option<u32>,
    ) -> Option<&Program> {
        let at = self.find(rules, source, event_id);
        let program = self.sources.get(at)?.program;
        self.programs.get(program as usize)
    }

    /// What has to be read of them.
    pub(crate) fn interest(&mut self, rules: &RuleSet, source: &Source<'_>) -> Interest {
        let at = self.find(rules, source, source.event_id);
        self.sources.get(at).map_or(Interest::Nothing, |known| known.interest)
    }

    fn find(&mut self, rules: &RuleSet, source: &Source<'_>, event_id: Option<u32>) -> usize {
        if self.serial != rules.serial {
            *self = Self { serial: rules.serial, made: self.made, ..Self::default() };
        }
        let is_it = |known: &Known| known.event_id == event_id && known.source == *source;
        if self.sources.get(self.latest).is_some_and(is_it) {
            return self.latest;
        }
        if self.sources.len() >= SOURCES {
            self.known.clear();
            self.sources.clear();
        }
        if self.programs.len() >= PROGRAMS {
            *self = Self { serial: rules.serial, made: self.made, ..Self::default() };
        }
        let mut hasher = quick_hasher();
        source.hash(&mut hasher);
        event_id.hash(&mut hasher);
        let hash = hasher.finish();
        let bucket = self.known.get(&hash).map_or(&[][..], Vec::as_slice);
        let found = bucket.iter().find(|at| self.sources.get(**at as usize).is_some_and(is_it));
        self.latest = match found {
            Some(at) => *at as usize,
            None => {
                let origin = origin_of(source, event_id);
                let program = self.program_of(rules.plan(&origin), rules);
                let interest = rules.interest_in(&origin);
                let at = self.sources.len();
                self.sources.push(Known { source: owned(source), event_id, program, interest });
                self.known.entry(hash).or_default().push(at as u32);
                at
            }
        };
        self.latest
    }

    fn program_of(&mut self, plan: Plan, rules: &RuleSet) -> u32 {
        if let Some(known) = self.by_plan.get(&plan) {
            return *known;
        }
        let at = self.programs.len() as u32;
        self.made = self.made.wrapping_add(1);
        self.programs.push(Program::new(self.made, &plan, rules));
        self.by_plan.insert(plan, at);
        at
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
