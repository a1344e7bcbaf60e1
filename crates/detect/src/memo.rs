//! What is known of values that come again and again.
//!
//! The one idea: which predicates hold for a value in a field depends on nothing but the value. And most
//! values of a log are few: programs, folders, users, machines. So what was found out about one is kept,
//! and the next time it is looked up instead of being put through the field's machines.
//!
//! The table has one place for each hash, and a value takes it when it comes for the second time: values
//! that are never seen again (most command lines) cost no more than a mark. So there is no order to keep,
//! nothing grows, and somebody who makes up values can only make the table useless, not slow: what it says
//! is always checked against the whole value.

use std::hash::Hasher as _;

use cordon_model::event::FieldId;

use crate::field::Local;
use crate::quick_hash::quick_hasher;
use crate::taxonomy::Reach;

/// Values that are kept.
const PLACES: usize = 4096;
/// The longest value that is kept, in bytes. With the numbers of what holds for each (256 bytes at the most)
/// and the table: 3.5 MiB at the most, a tenth of it on an ordinary machine.
const VALUE_BYTES: usize = 512;
/// Predicates that a value which is kept may make hold.
const HELD: usize = 64;

/// What was found out about values. Of one set of rules.
#[derive(Debug, Default)]
pub(crate) struct Memo {
    serial: u64,
    places: Vec<Place>,
}

#[derive(Debug, Default, Clone)]
struct Place {
    /// The hash of the value that came last, to tell when it comes again.
    mark: u32,
    known: Option<Box<Known>>,
}

#[derive(Debug, Clone)]
struct Known {
    field: Of,
    value: Box<str>,
    held: Box<[Local]>,
}

/// Which field a value is of: its group's number, the way by which the event reached it, and its name's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Of(pub u32, pub Reach, pub FieldId);

/// What the memo says of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recall {
    /// It is known: [`Memo::held`] says what holds.
    Known(usize),
    /// It is not, and [`Memo::keep`] is to be told what holds.
    Wanted(usize),
    /// It is not, and need not be.
    Unknown,
}

impl Memo {
    /// Forgets what is of another set of rules.
    pub(crate) fn begin(&mut self, serial: u64) {
        if self.serial != serial {
            self.serial = serial;
            self.places.clear();
        }
    }

    /// What is known of a field's `value`.
    pub(crate) fn recall(&mut self, field: Of, value: &str) -> Recall {
        if value.len() > VALUE_BYTES {
            return Recall::Unknown;
        }
        if self.places.is_empty() {
            self.places.resize(PLACES, Place::default());
        }
        let mut hasher = quick_hasher();
        hasher.write(value.as_bytes());
        hasher.write_u32(field.0);
        if let Reach::Mapped(mapping) = field.1 {
            hasher.write_u32(u32::from(mapping.0));
        }
        hasher.write_u32(field.2.0);
        let hash = hasher.finish();
        let at = hash as usize % PLACES;
        // Not of the same bits as the place; never 0, which is the mark of nothing.
        let mark = (hash >> 32) as u32 | 1;
        let Some(place) = self.places.get_mut(at) else { return Recall::Unknown };
        match &place.known {
            Some(known) if known.field == field && *known.value == *value => Recall::Known(at),
            _ if place.mark == mark => Recall::Wanted(at),
            _ => {
                place.mark = mark;
                Recall::Unknown
            }
        }
    }

    /// What holds for the value that is known at a place.
    pub(crate) fn held(&self, at: usize) -> &[Local] {
        let known = self.places.get(at).and_then(|place| place.known.as_deref());
        known.map_or(&[], |known| &known.held)
    }

    /// Keeps what holds for a value.
    pub(crate) fn keep(&mut self, at: usize, field: Of, value: &str, held: &mut Vec<Local>) {
        held.sort_unstable();
        held.dedup();
        if held.len() > HELD {
            return;
        }
        if let Some(place) = self.places.get_mut(at) {
            let held = held.as_slice().into();
            place.known = Some(Box::new(Known { field, value: value.into(), held }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::taxonomy::MappingIndex;

    const IMAGE: Of = Of(0, Reach::Direct, FieldId(3));

    #[test]
    fn a_value_is_kept_when_it_comes_again_and_known_from_then_on() {
        let mut memo = Memo::default();
        memo.begin(1);
        assert_eq!(memo.recall(IMAGE, "cmd.exe"), Recall::Unknown);
        let Recall::Wanted(at) = memo.recall(IMAGE, "cmd.exe") else { panic!("not wanted") };
        memo.keep(at, IMAGE, "cmd.exe", &mut vec![9, 2, 9]);
        assert_eq!(memo.recall(IMAGE, "cmd.exe"), Recall::Known(at));
        assert_eq!(memo.held(at), [2, 9]);
        // In another field, another group, by another way, in another case: another value.
        let mapped = Reach::Mapped(MappingIndex(0));
        for (field, value) in [
            (Of(0, Reach::Direct, FieldId(4)), "cmd.exe"),
            (Of(1, Reach::Direct, FieldId(3)), "cmd.exe"),
            (Of(0, mapped, FieldId(3)), "cmd.exe"),
            (IMAGE, "CMD.exe"),
        ] {
            assert!(!matches!(memo.recall(field, value), Recall::Known(_)), "{field:?} {value}");
        }
        // Nor is anything of it true with other rules.
        memo.begin(2);
        assert_eq!(memo.recall(IMAGE, "cmd.exe"), Recall::Unknown);
    }

    #[test]
    fn what_never_comes_again_pushes_nothing_out() {
        let mut memo = Memo::default();
        memo.begin(1);
        memo.recall(IMAGE, "often");
        let Recall::Wanted(at) = memo.recall(IMAGE, "often") else { panic!("not wanted") };
        memo.keep(at, IMAGE, "often", &mut vec![1]);
        for number in 0..10 * PLACES {
            let value = format!("once {number}");
            assert_eq!(memo.recall(IMAGE, &value), Recall::Unknown, "{value}");
        }
        assert_eq!(memo.recall(IMAGE, "often"), Recall::Known(at));
    }

    #[test]
    fn what_is_long_or_makes_much_hold_is_not_kept() {
        let mut memo = Memo::default();
        memo.begin(1);
        let long = "x".repeat(VALUE_BYTES + 1);
        for _ in 0..3 {
            assert_eq!(memo.recall(IMAGE, &long), Recall::Unknown);
        }
        memo.recall(IMAGE, "much");
        let Recall::Wanted(at) = memo.recall(IMAGE, "much") else { panic!("not wanted") };
        memo.keep(at, IMAGE, "much", &mut (0..=HELD as Local).collect());
        assert_eq!(memo.recall(IMAGE, "much"), Recall::Wanted(at));
    }
}
