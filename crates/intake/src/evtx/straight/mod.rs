//! Records of a chunk read straight into events, without text between.
//!
//! A record is mostly numbers and texts for the places of a template that stands in the chunk too (BinXML,
//! MS-EVEN6 section 2.2.12). So a template is read once ([`template`]), compiled to what its values are in an
//! event and in JSON ([`plan`]), and known again wherever it comes again ([`known`]); of a record only its
//! values are read ([`slot`]).
//!
//! The `evtx` crate's reading stays the measure: whatever is not of the plainest form (a value of a rare type,
//! a template with a rarer part, a record that is damaged) is not read here but by the crate, and what is read
//! here is the same event and the same JSON, which tests compare for every record of the corpus and for logs
//! with bytes changed at random. What the crate lets one chunk render to is a limit here, too: it is counted more
//! roughly, so that a chunk that is made to come near it is left to the crate from there on.

mod known;
mod plan;
mod slot;
mod template;

use std::fmt;
use std::ops::Range;

use cordon_model::event::{Event, Value};

use crate::Reading;
use crate::gathered::{Found, Gathered};
use crate::meaning::{Meaning, Names, Naming, Use};
use known::Known;
use plan::{Attribute, Empty, JsonAttribute, JsonOp, Mixed, Plan, Role, ValueOp};
use slot::{BINXML, Slot, TEXTS};

pub(super) use slot::LAST_FILETIME;

/// Most elements, attributes and values of all records of a chunk, and most literal JSON of them: half of what the
/// `evtx` crate lets a chunk have before it gives the chunk up.
const NODES_A_CHUNK: usize = 786_432 / 2;
const LITERALS_A_CHUNK: usize = 24 << 20;

/// Most values of one record.
const SLOTS: usize = 4096;
/// Most texts of a list: with them a record has fewer values than are read of one.
const TEXTS_OF_A_LIST: usize = 4096;

/// What is kept from record to record and file to file. Belongs to one [`Reading`].
#[derive(Debug, Default)]
pub(crate) struct Straight {
    known: Known,
    slots: Vec<Slot>,
    gathered: Gathered,
    /// What the records of this chunk had so far, of [`NODES_A_CHUNK`] and [`LITERALS_A_CHUNK`].
    spent: (usize, usize),
}

/// A template with the values of one record.
#[derive(Debug, Clone)]
struct Instance {
    plan: usize,
    slots: Range<usize>,
}

/// A record that was read.
#[derive(Clone)]
pub(crate) struct Told<'a> {
    chunk: &'a [u8],
    known: &'a Known,
    slots: &'a [Slot],
    whole: Instance,
    inner: Option<Instance>,
}

impl Straight {
    /// A chunk begins.
    pub(super) fn begin_chunk(&mut self) {
        self.known.begin_chunk();
        self.spent = (0, 0);
    }

    /// The event of the record whose BinXML is at `place` of the chunk, if it is read here.
    pub(super) fn read<'a>(
        &'a mut self,
        chunk: &'a [u8],
        place: Range<usize>,
        reading: &Reading<'_>,
    ) -> Option<(Event<'a>, Told<'a>)> {
        self.slots.clear();
        let names = &mut Names { reading, joined: String::new() };
        let whole = self.instance(chunk, place, Role::Whole, names)?;
        let inner = match self.known.plan(whole.plan)?.inner {
            Some((slot, role)) => self.inner(chunk, &whole, slot, role, names)?,
            None => None,
        };
        for part in [Some(&whole), inner.as_ref()].into_iter().flatten() {
            let (nodes, literals) = self.known.cost(part.plan)?;
            self.spent = (self.spent.0 + nodes, self.spent.1 + literals);
        }
        if self.spent.0 > NODES_A_CHUNK || self.spent.1 > LITERALS_A_CHUNK {
            return None;
        }
        self.gathered.begin();
        let Self { known, slots, gathered, .. } = self;
        let told = Told { chunk, known, slots, whole, inner };
        told.gather(&told.whole, gathered)?;
        (gathered.left_out == 0).then(|| (gathered.event(reading), told))
    }

    /// The record in the value `slot` of `whole`, if that has one.
    fn inner(
        &mut self,
        chunk: &[u8],
        whole: &Instance,
        slot: u16,
        role: Role,
        names: &mut Names<'_>,
    ) -> Option<Option<Instance>> {
        let slots = self.slots.get(whole.slots.clone())?;
        let Some(slot) = slots.get(usize::from(slot)) else { return Some(None) };
        if slot.kind != BINXML {
            return slot.is_empty(chunk).then_some(None);
        }
        if slot.length == 0 {
            return Some(None);
        }
        let at = slot.at as usize;
        let inner = self.instance(chunk, at..at + usize::from(slot.length), role, names)?;
        let plan = self.known.plan(inner.plan)?;
        // One that holds another itself would be gathered into itself, for ever.
        if plan.inner.is_some() {
            return None;
        }
        let root = plan.root.as_str();
        let is_read = match role {
            Role::InData => root != "Data", // which would be written without its name
            _ => matches!(root, "EventData" | "UserData"), // as no member of `Event` beside it is called
        };
        is_read.then_some(Some(inner))
    }

    /// Reads an instance of a template, which has to be all that is at `place`.
    fn instance(
        &mut self,
        chunk: &[u8],
        place: Range<usize>,
        role: Role,
        names: &mut Names<'_>,
    ) -> Option<Instance> {
        let mut bytes = Bytes { bytes: chunk.get(..place.end)?, at: place.start };
        match bytes.take::<1>()? {
            [0x0f] => {
                bytes.take::<3>()?;
                (bytes.take()? == [0x0c]).then_some(())?;
            }
            [0x0c] => {}
            _ => return None,
        }
        bytes.take::<5>()?;
        let definition = u32::from_le_bytes(bytes.take()?);
        if definition as usize == bytes.at {
            let (_, size) = template::identity(chunk, bytes.at)?;
            bytes.at = bytes.at.checked_add(template::HEADER_BYTES + size)?;
        }
        let count = u32::from_le_bytes(bytes.take()?) as usize;
        let plan = self.known.number_of(chunk, definition, role, names)?;
        let Plan { inner, lists, .. } = self.known.plan(plan)?;
        let from = self.slots.len();
        if count > SLOTS {
            return None;
        }
        let descriptors = bytes.at;
        bytes.at += 4 * count;
        for number in 0..count {
            let mut descriptor = Bytes { bytes: bytes.bytes, at: descriptors + 4 * number };
            let [low, high, kind, _] = descriptor.take()?;
            let length = u16::from_le_bytes([low, high]);
            let value = bytes.bytes.get(bytes.at..bytes.at + usize::from(length))?;
            let number = u16::try_from(number).ok()?;
            let is_placed = match kind {
                BINXML => length == 0 || inner.is_some_and(|(slot, _)| slot == number),
                TEXTS => lists.contains(&number) && slot::texts(value).count() <= TEXTS_OF_A_LIST,
                _ => true,
            };
            if !is_placed || !slot::is_read(kind, value) {
                return None;
            }
            self.slots.push(Slot { at: u32::try_from(bytes.at).ok()?, length, kind });
            bytes.at += usize::from(length);
        }
        let is_end = matches!(bytes.bytes.get(bytes.at..)?, [] | [0, ..]);
        is_end.then_some(Instance { plan, slots: from..self.slots.len() })
    }
}

struct Bytes<'c> {
    bytes: &'c [u8],
    at: usize,
}

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let bytes = *self.bytes.get(self.at..)?.first_chunk()?;
        self.at += N;
        Some(bytes)
    }
}

impl fmt::Debug for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // All that is known of templates would be told with it.
        f.debug_struct("Told").field("values", &self.slots.len()).finish_non_exhaustive()
    }
}

impl<'a> Told<'a> {
    /// The record as JSON.
    pub(crate) fn json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(2048);
        self.put_json(&self.whole, &mut out);
        out
    }

    fn slot(&self, instance: &Instance, number: u16) -> Option<Slot> {
        self.slots.get(instance.slots.clone())?.get(usize::from(number)).copied()
    }

    /// The value, unless there is nothing to show of it.
    fn shown(&self, instance: &Instance, number: u16) -> Option<Slot> {
        self.slot(instance, number).filter(|slot| !slot.is_empty(self.chunk))
    }

    fn is_null(&self, instance: &Instance, number: u16) -> bool {
        self.slot(instance, number).is_some_and(Slot::is_null)
    }

    fn are_null(&self, instance: &Instance, numbers: &[u16]) -> bool {
        numbers.iter().all(|number| self.is_null(instance, *number))
    }

    /// Gathers the values of an event.
    fn gather(&self, instance: &Instance, into: &mut Gathered) -> Option<()> {
        let plan: &'a Plan = self.known.plan(instance.plan)?;
        let mut ops = plan.values.iter();
        while let Some(op) = ops.next() {
            match op {
                ValueOp::Constant { naming, text } => match text {
                    Some(text) => put_text(plan, text, *naming, into),
                    None => into.put(into.settle(*naming), Found::Plain(Value::Null)),
                },
                ValueOp::Unless { slot, skip } if self.is_null(instance, *slot) => {
                    ops = ops.as_slice().get(*skip..)?.iter();
                }
                ValueOp::UnlessAll { slots, skip, naming } if self.are_null(instance, slots) => {
                    into.put(into.settle(*naming), Found::Plain(Value::Null));
                    ops = ops.as_slice().get(*skip..)?.iter();
                }
                ValueOp::Unless { .. } | ValueOp::UnlessAll { .. } => {}
                ValueOp::Leaf { slot, empty, naming } => match self.slot(instance, *slot) {
                    Some(slot) if slot.kind == TEXTS => self.gather_list(slot, *naming, into),
                    Some(slot) if !slot.is_empty(self.chunk) => self.put(slot, *naming, into),
                    _ if *empty == Empty::Text => {
                        let end = into.arena.len();
                        into.put(into.settle(*naming), Found::Text(end..end));
                    }
                    _ => into.put(into.settle(*naming), Found::Plain(Value::Null)),
                },
                ValueOp::Mixed(mixed) => self.gather_mixed(instance, plan, mixed, into),
                ValueOp::Inner { slot, empty } => match (self.shown(instance, *slot), empty) {
                    (Some(_), _) => self.gather(self.inner.as_ref()?, into)?,
                    (None, Some(empty)) => {
                        into.put(into.settle(*empty), Found::Plain(Value::Null));
                    }
                    (None, None) => {}
                },
            }
        }
        Some(())
    }

    fn gather_mixed(&self, instance: &Instance, plan: &Plan, mixed: &Mixed, into: &mut Gathered) {
        let mut is_object = false;
        for (naming, attribute) in &mixed.attributes {
            match attribute {
                Attribute::Text(text) => {
                    is_object = true;
                    if let Some(naming) = naming {
                        put_text(plan, text, *naming, into);
                    }
                }
                Attribute::Slot(slot) => {
                    let Some(slot) = self.shown(instance, *slot) else { continue };
                    is_object = true;
                    if let Some(naming) = naming {
                        self.put(slot, *naming, into);
                    }
                }
            }
        }
        let content = mixed.content.and_then(|slot| self.shown(instance, slot));
        match (content, is_object) {
            (Some(slot), true) => self.put(slot, mixed.in_object, into),
            (Some(slot), false) => self.put(slot, mixed.alone, into),
            (None, true) => {}
            (None, false) => {
                let meaning = into.settle(mixed.alone);
                if !meaning.is_nothing() {
                    into.put(meaning, Found::Plain(Value::Null));
                }
            }
        }
    }

    fn gather_list(&self, slot: Slot, naming: Naming, into: &mut Gathered) {
        for text in slot::texts(slot.bytes(self.chunk)) {
            let from = into.arena.len();
            slot::put_utf16(text, &mut into.arena);
            into.put(into.settle(naming), Found::Text(from..into.arena.len()));
        }
    }

    fn put(&self, slot: Slot, naming: Naming, into: &mut Gathered) {
        let mut meaning = into.settle(naming);
        if meaning.used == Use::Time
            && let Some(time) = slot.time(self.chunk)
        {
            if let Some(time) = time {
                into.put_time(time);
            }
            meaning = Meaning { used: Use::Field, ..meaning };
        }
        if !meaning.is_nothing() {
            let found = slot.found(self.chunk, &mut into.arena);
            into.put(meaning, found);
        }
    }

    fn put_json(&self, instance: &Instance, out: &mut Vec<u8>) {
        let Some(plan) = self.known.plan(instance.plan) else { return };
        let literal = |at: &Range<usize>| plan.literals.get(at.clone()).unwrap_or_default();
        let mut ops = plan.json.iter();
        while let Some(op) = ops.next() {
            match op {
                JsonOp::Literal(at) => out.extend_from_slice(literal(at)),
                JsonOp::Comma if out.last() == Some(&b'{') => {}
                JsonOp::Comma => out.push(b','),
                JsonOp::Unless { slot, skip } if self.is_null(instance, *slot) => {
                    ops = ops.as_slice().get(*skip..).unwrap_or_default().iter();
                }
                JsonOp::UnlessAll { slots, skip } if self.are_null(instance, slots) => {
                    out.extend_from_slice(b"null");
                    ops = ops.as_slice().get(*skip..).unwrap_or_default().iter();
                }
                JsonOp::Unless { .. } | JsonOp::UnlessAll { .. } => {}
                JsonOp::Leaf { slot, empty } => match self.slot(instance, *slot) {
                    Some(slot) if slot.kind == TEXTS => self.put_json_list(slot, out),
                    Some(slot) if !slot.is_empty(self.chunk) => slot.put_json(self.chunk, out),
                    _ if *empty == Empty::Text => out.extend_from_slice(b"\"\""),
                    _ => out.extend_from_slice(b"null"),
                },
                JsonOp::Mixed { attributes, content } => {
                    self.put_json_mixed(instance, plan, attributes, *content, out);
                }
                JsonOp::Inner { slot, with_comma } => {
                    if self.shown(instance, *slot).is_some() {
                        out.extend_from_slice(if *with_comma { b"," } else { b"" });
                        self.put_json_inner(out);
                    }
                }
                JsonOp::Holder { slot } if self.shown(instance, *slot).is_none() => {
                    out.extend_from_slice(b"null");
                }
                JsonOp::Holder { .. } => {
                    out.push(b'{');
                    self.put_json_inner(out);
                    out.push(b'}');
                }
            }
        }
    }

    fn put_json_inner(&self, out: &mut Vec<u8>) {
        let Some(inner) = &self.inner else { return };
        let name = self.known.plan(inner.plan).map_or("", |plan| plan.root.as_str());
        slot::put_quoted(out, |out| out.extend_from_slice(name.as_bytes()));
        out.push(b':');
        self.put_json(inner, out);
    }

    fn put_json_mixed(
        &self,
        instance: &Instance,
        plan: &Plan,
        attributes: &[JsonAttribute],
        content: Option<u16>,
        out: &mut Vec<u8>,
    ) {
        let literal = |at: &Range<usize>| plan.literals.get(at.clone()).unwrap_or_default();
        let mut is_object = false;
        for attribute in attributes {
            let slot = match attribute {
                JsonAttribute::Literal(_) => None,
                JsonAttribute::Slot { slot, .. } => match self.shown(instance, *slot) {
                    None => continue,
                    shown => shown,
                },
            };
            out.extend_from_slice(if is_object { b"," } else { b"{\"#attributes\":{" });
            is_object = true;
            let (JsonAttribute::Literal(at) | JsonAttribute::Slot { key: at, .. }) = attribute;
            out.extend_from_slice(literal(at));
            if let Some(slot) = slot {
                slot.put_json(self.chunk, out);
            }
        }
        let content = content.and_then(|slot| self.shown(instance, slot));
        match (content, is_object) {
            (Some(slot), true) => {
                out.extend_from_slice(b"},\"#text\":");
                slot.put_json(self.chunk, out);
                out.push(b'}');
            }
            (Some(slot), false) => slot.put_json(self.chunk, out),
            (None, true) => out.extend_from_slice(b"}}"),
            (None, false) => out.extend_from_slice(b"null"),
        }
    }

    fn put_json_list(&self, slot: Slot, out: &mut Vec<u8>) {
        let bytes = slot.bytes(self.chunk);
        let is_list = slot::texts(bytes).nth(1).is_some();
        for (place, text) in slot::texts(bytes).enumerate() {
            if is_list {
                out.push(if place == 0 { b'[' } else { b',' });
            }
            slot::put_quoted(out, |out| slot::put_utf16(text, out));
        }
        if is_list {
            out.push(b']');
        }
    }
}

/// A text of the template itself.
fn put_text(plan: &Plan, text: &Range<usize>, naming: Naming, into: &mut Gathered) {
    let from = into.arena.len();
    into.arena.extend_from_slice(plan.texts.get(text.clone()).unwrap_or_default().as_bytes());
    into.put(into.settle(naming), Found::Text(from..into.arena.len()));
}
