//! What happened: one event, as the detection engine reads it.
//!
//! The one idea: a field's *name* is looked up once, at intake, in the [`FieldTable`] of the compiled
//! rules, and from then on it is a number; a field's *value* is borrowed from the bytes it came in.
//! Fields that no rule reads never become part of an event (unless a keyword rule wants every value).
//! The raw text of an event is made only when a rule hit it, by whoever still holds its bytes.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::time::UtcNanos;

/// A field name's number in the [`FieldTable`] of one compiled plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldId(pub u32);

impl FieldId {
    /// A value that no rule reads by name: only keyword searches see it.
    pub const UNREAD: Self = Self(u32::MAX);
}

/// The names that the compiled rules read, each with its number. Names are case-sensitive, as in the
/// Sigma specification.
#[derive(Debug, Clone, Default)]
pub struct FieldTable {
    names: Vec<Box<str>>,
    /// By a fast hash that nobody's key protects: rules make the entries, events only look them up.
    numbers: HashMap<Box<str>, FieldId, foldhash::fast::FixedState>,
}

impl FieldTable {
    /// The number of `name`, given now if it had none.
    pub fn intern(&mut self, name: &str) -> FieldId {
        if let Some(id) = self.numbers.get(name) {
            return *id;
        }
        let id = FieldId(u32::try_from(self.names.len()).unwrap_or(u32::MAX - 1));
        self.names.push(name.into());
        self.numbers.insert(name.into(), id);
        id
    }

    /// The number of `name`, if a rule reads it.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<FieldId> {
        self.numbers.get(name).copied()
    }

    /// The name of `id`, if it is of this table.
    #[must_use]
    pub fn name(&self, id: FieldId) -> Option<&str> {
        self.names.get(id.0 as usize).map(AsRef::as_ref)
    }

    /// How many names there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether no rule reads any field.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

/// A field's value, borrowed where it can be.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// The field is there and says "nothing" (JSON `null`).
    Null,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number too large for [`Value::Int`].
    Unsigned(u64),
    /// Any other number.
    Float(f64),
    /// Text.
    Text(Cow<'a, str>),
}

/// Where an event comes from, in the terms that rules are dispatched by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Source<'a> {
    /// Sigma's product (`windows`, `linux`…), if known.
    pub product: Option<Cow<'a, str>>,
    /// Sigma's category (`process_creation`…), if the source says it; else it follows from channel and
    /// event id by the taxonomy's tables.
    pub category: Option<Cow<'a, str>>,
    /// Sigma's service (`auditd`…), if the source says it; on Windows it follows from the channel.
    pub service: Option<Cow<'a, str>>,
    /// Windows event log channel, as recorded.
    pub channel: Option<Cow<'a, str>>,
    /// Windows event id.
    pub event_id: Option<u32>,
}

/// One event.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Event<'a> {
    /// Where it comes from.
    pub source: Source<'a>,
    /// When it happened, by the clock of the machine that it happened on.
    pub time: Option<UtcNanos>,
    /// The machine's name as the event says it: shown, never trusted.
    pub host: Option<Cow<'a, str>>,
    /// The record's number in its log.
    pub record_id: Option<u64>,
    /// Fields that rules read, in the order they came. A name may occur more than once (a list).
    pub fields: Vec<(FieldId, Value<'a>)>,
}

impl Event<'_> {
    /// The first value of `field`.
    #[must_use]
    pub fn first(&self, field: FieldId) -> Option<&Value<'_>> {
        self.fields.iter().find(|(id, _)| *id == field).map(|(_, value)| value)
    }
}

/// An event as it is kept for people: every field by name, and the raw text that it came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawEvent {
    /// The event as JSON text: what the source said, complete, at most
    /// [`limits::RAW_EVENT_BYTES`](crate::limits::RAW_EVENT_BYTES) long.
    pub json: String,
    /// Whether `json` was cut at the limit.
    pub is_cut: bool,
}
