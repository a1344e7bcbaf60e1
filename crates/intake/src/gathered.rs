//! What is gathered of one record while it is read, and the [`Event`] that it comes to: the same for JSON and
//! for BinXML.

use std::borrow::Cow;
use std::ops::Range;

use cordon_model::event::{Event, FieldId, Source, Value};
use cordon_model::time::UtcNanos;

use crate::Reading;
use crate::meaning::{Meaning, Naming, Use, time, whole};

/// The most values that are read of one event: 10,000, thirty times what the fullest of some 32,000 Windows
/// records has; 400 KiB. The others are counted and said to be left out.
pub const VALUES: usize = 10_000;

/// A value that was found.
#[derive(Debug)]
pub(crate) enum Found {
    /// It is no text.
    Plain(Value<'static>),
    /// A text, at this place of the arena.
    Text(Range<usize>),
}

/// What is gathered of one event. Used again for the next one.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    /// The texts of an event's values, one after the other: most Windows events have a dozen paths, each with
    /// escapes, and to copy the other texts too costs less than to find out which they are.
    pub arena: Vec<u8>,
    /// The values, in the order they came.
    found: Vec<(FieldId, Found)>,
    event_id: Option<u32>,
    time: Option<UtcNanos>,
    record_id: Option<u64>,
    /// Where in the arena the machine's name is.
    host: Option<Range<usize>>,
    /// Where in the arena the channel's name is.
    channel: Option<Range<usize>>,
    has_windows_signs: bool,
    /// How many values are left out because there are more than [`VALUES`].
    pub left_out: u64,
}

impl Gathered {
    /// An event begins.
    pub(crate) fn begin(&mut self) {
        self.arena.clear();
        self.found.clear();
        let (arena, found) = (std::mem::take(&mut self.arena), std::mem::take(&mut self.found));
        *self = Self { arena, found, ..Self::default() };
    }

    /// What a name means after all that came before it.
    pub(crate) fn settle(&self, naming: Naming) -> Meaning {
        match naming {
            Naming::Known(meaning) => meaning,
            Naming::Numbered { first, otherwise } => {
                match self.found.iter().any(|(field, _)| *field == first) {
                    true => Meaning { field: Some(first), used: Use::Field },
                    false => otherwise,
                }
            }
        }
    }

    /// Takes a value.
    pub(crate) fn put(&mut self, Meaning { field, used }: Meaning, found: Found) {
        if used != Use::Field {
            self.put_to_use(used, &found);
        }
        match field {
            Some(_) if self.found.len() >= VALUES => self.left_out += 1,
            Some(field) => self.found.push((field, found)),
            None => {}
        }
    }

    /// Takes the event's time, if none came yet.
    pub(crate) fn put_time(&mut self, time: UtcNanos) {
        self.time = self.time.or(Some(time));
    }

    fn put_to_use(&mut self, used: Use, found: &Found) {
        let text;
        let value = match found {
            Found::Plain(value) => value,
            Found::Text(at) => {
                text = Value::Text(text_of(self.arena.get(at.clone()).unwrap_or_default()));
                &text
            }
        };
        match (used, value, found) {
            (Use::Channel, _, Found::Text(at)) => {
                self.has_windows_signs = true;
                self.channel = Some(at.clone());
            }
            (Use::EventId, _, _) => {
                let id = whole(value).and_then(|id| u32::try_from(id).ok());
                self.event_id = self.event_id.or(id);
            }
            (Use::Computer, _, Found::Text(at)) if self.host.is_none() => {
                self.host = Some(at.clone());
            }
            (Use::RecordId, _, _) => self.record_id = self.record_id.or(whole(value)),
            (Use::Time, Value::Text(text), _) if self.time.is_none() => self.time = time(text),
            (Use::Provider, Value::Text(_), _) => self.has_windows_signs = true,
            _ => {}
        }
    }

    /// The event.
    pub(crate) fn event<'a>(&'a self, reading: &Reading<'_>) -> Event<'a> {
        let arena = self.arena.as_slice();
        // Looked through once for all: what is no UTF-8 is mended value by value.
        let whole = std::str::from_utf8(arena).ok();
        let text = |at: &Range<usize>| match whole.and_then(|whole| whole.get(at.clone())) {
            Some(text) => Cow::Borrowed(text),
            None => text_of(arena.get(at.clone()).unwrap_or_default()),
        };
        let value = |found: &Found| match found {
            Found::Plain(value) => value.clone(),
            Found::Text(at) => Value::Text(text(at)),
        };
        let mut source = Source {
            event_id: self.event_id,
            channel: self.channel.as_ref().map(text),
            ..Source::default()
        };
        if self.has_windows_signs {
            source.product = Some(Cow::Borrowed("windows"));
        } else {
            let Source { product, category, service, .. } = &reading.assumed;
            source.product.clone_from(product);
            source.category.clone_from(category);
            source.service.clone_from(service);
        }
        Event {
            source,
            time: self.time,
            host: self.host.as_ref().map(text),
            record_id: self.record_id,
            fields: self.found.iter().map(|(field, found)| (*field, value(found))).collect(),
        }
    }
}

/// `content` as text. (The checked conversion first: the lossy one is several times slower on good text.)
pub(crate) fn text_of(content: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(content).map_or_else(|_| String::from_utf8_lossy(content), Cow::Borrowed)
}
