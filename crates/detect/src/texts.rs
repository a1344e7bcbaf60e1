//! The texts of an event's values, and their folds, each made when it is first asked for.

use std::fmt::Write as _;

use cordon_model::event::Value;

use crate::fold::fold_into;
use crate::predicate::Seen;

/// The texts of one event.
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
