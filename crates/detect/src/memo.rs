//! What is known from before: of values that come again, and of events that come to the same.
//!
//! The one idea: which predicates hold for a value in a field depends on nothing but the value, and which
//! rules match depends on nothing but what holds for the event's values together. Most values of a log are
//! few: programs, folders, users, machines. And of those that are new each time (command lines, hashes) most
//! make nothing hold that another one didn't. So each *set* of predicates that some value made hold has a
//! number, its [`Effect`]; of a value its effect is kept; and of an event's effects what matched.
//!
//! Both tables have one place for each hash, and what comes takes its place when it comes for the second
//! time: what is never seen again costs no more than a mark. So there is no order to keep, no table grows past
//! its limit, and somebody who makes up values can only make the tables useless, not slow: what they say is always checked
//! against the whole value.

use std::hash::Hasher as _;

use cordon_model::event::{FieldId, Value};

use crate::program::Number;
use crate::quick_hash::{QuickMap, quick_hasher};
use crate::rule::RuleIndex;
use crate::verdict::Open;

/// Values that are kept.
const VALUES: usize = 4096;
/// The longest value that is kept, in bytes.
const VALUE_BYTES: usize = 512;
/// Effects that have a number. When there are more, all is forgotten.
const EFFECTS: usize = 4096;
/// Predicates of an effect.
const HELD: usize = 64;
/// Events that are kept.
const EVENTS: usize = 16_384;
/// Effects of an event that is kept.
const EFFECTS_OF_AN_EVENT: usize = 24;
/// Rules that an event which is kept may match, and predicates that may stay open.
///
/// With all places full of the largest that they take (the places 64 and 88 bytes, a value 512, an effect 256,
/// an event 192 for its effects, 64 for its rules and 320 for what stays open) a matcher remembers 14 MiB. The
/// tables begin small and grow with what they hold: a machine with 500 values and 500 kinds of events needs
/// less than 1 MiB.
const MATCHED: usize = 16;
const OPEN: usize = 8;

/// What was found out. Of one set of rules.
#[derive(Debug, Default)]
pub(crate) struct Memo {
    serial: u64,
    values: Table<KnownValue>,
    events: Table<KnownEvent>,
    effects: Effects,
}

/// The number of a set of predicates that a value makes hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Effect(u32);

impl Effect {
    /// No predicate holds.
    pub(crate) const NONE: Self = Self(0);
}

/// Which field a value is of: its program's serial number, and its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Of(pub u32, pub FieldId);

/// What the memo says of a value or an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recall<K> {
    /// It is known.
    Known(K),
    /// It is not, and is to be kept at this place.
    Wanted(Place),
    /// It is not, and need not be.
    Unknown,
}

/// Where something is to be kept: its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(u64);

#[derive(Debug)]
struct KnownValue {
    of: Of,
    kind: u8,
    bytes: Box<[u8]>,
    effect: Effect,
}

#[derive(Debug)]
struct KnownEvent {
    program: u32,
    effects: Box<[u64]>,
    matched: Box<[RuleIndex]>,
    open: Box<[Open]>,
}

/// What is known to match of an event, and what stays open.
type Verdict<'m> = (&'m [RuleIndex], &'m [Open]);

impl Memo {
    /// Forgets what is of another set of rules, and all if there are too many effects.
    pub(crate) fn begin(&mut self, serial: u64) {
        if self.serial != serial || self.effects.is_full() {
            *self = Self { serial, ..Self::default() };
        }
    }

    /// What is known of a field's `value`.
    pub(crate) fn recall(&mut self, of: Of, value: &Value<'_>) -> Recall<Effect> {
        let number;
        let (kind, bytes) = match value {
            Value::Text(text) => (0, text.as_bytes()),
            Value::Int(whole) => {
                number = whole.to_le_bytes();
                (1, &number[..])
            }
            Value::Bool(bool) => (2 + u8::from(*bool), &[][..]),
            Value::Unsigned(_) | Value::Float(_) | Value::Null => return Recall::Unknown,
        };
        if bytes.len() > VALUE_BYTES {
            return Recall::Unknown;
        }
        let mut hasher = quick_hasher();
        hasher.write(bytes);
        hasher.write_u64((u64::from(of.0) << 32 | u64::from(of.1.0)) ^ u64::from(kind) << 24);
        let is_it =
            |known: &KnownValue| known.of == of && known.kind == kind && *known.bytes == *bytes;
        match self.values.recall(hasher.finish(), is_it) {
            Recall::Known(known) => Recall::Known(known.effect),
            Recall::Wanted(place) => Recall::Wanted(place),
            Recall::Unknown => Recall::Unknown,
        }
    }

    /// Keeps the effect of a value.
    pub(crate) fn keep(&mut self, place: Place, of: Of, value: &Value<'_>, effect: Effect) {
        let (kind, bytes) = match value {
            Value::Text(text) => (0, text.as_bytes().into()),
            Value::Int(whole) => (1, whole.to_le_bytes().into()),
            Value::Bool(bool) => (2 + u8::from(*bool), Box::default()),
            Value::Unsigned(_) | Value::Float(_) | Value::Null => return,
        };
        self.values.keep(place, VALUES, KnownValue { of, kind, bytes, effect });
    }

    /// The number of the set of predicates in `held`, which is in order. None if it is not to have one.
    pub(crate) fn effect(&mut self, held: &[Number]) -> Option<Effect> {
        self.effects.number(held)
    }

    /// The predicates of an effect.
    pub(crate) fn held(&self, effect: Effect) -> &[Number] {
        self.effects.held(effect)
    }

    /// What is known to match of an event whose values have these effects.
    pub(crate) fn recall_event(&mut self, program: u32, effects: &[u64]) -> Recall<Verdict<'_>> {
        if effects.len() > EFFECTS_OF_AN_EVENT {
            return Recall::Unknown;
        }
        let mut hasher = quick_hasher();
        effects.iter().for_each(|effect| hasher.write_u64(*effect));
        hasher.write_u32(program);
        let is_it = |known: &KnownEvent| known.program == program && *known.effects == *effects;
        match self.events.recall(hasher.finish(), is_it) {
            Recall::Known(known) => Recall::Known((&known.matched, &known.open)),
            Recall::Wanted(place) => Recall::Wanted(place),
            Recall::Unknown => Recall::Unknown,
        }
    }

    /// Keeps what matched of an event, and takes what stays open.
    pub(crate) fn keep_event(
        &mut self,
        place: Place,
        program: u32,
        effects: &[u64],
        matched: &[RuleIndex],
        open: &mut Vec<Open>,
    ) {
        let size: usize = open.iter().map(Open::size).sum();
        if matched.len() <= MATCHED && size <= OPEN {
            let open = open.drain(..).collect();
            let (effects, matched) = (effects.into(), matched.into());
            self.events.keep(place, EVENTS, KnownEvent { program, effects, matched, open });
        }
    }
}

/// A table with one place for each hash. It begins small and grows as it fills.
#[derive(Debug)]
struct Table<K> {
    places: Vec<Kept<K>>,
    /// How many places are taken.
    taken: usize,
}

#[derive(Debug)]
struct Kept<K> {
    /// The hash of what came last, to tell when it comes again.
    mark: u64,
    known: Option<(u64, K)>,
}

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self { places: Vec::new(), taken: 0 }
    }
}

impl<K> Table<K> {
    const SMALLEST: usize = 256;

    fn place(&mut self, hash: u64) -> Option<&mut Kept<K>> {
        if self.places.is_empty() {
            self.places.resize_with(Self::SMALLEST, || Kept { mark: 0, known: None });
        }
        let at = hash as usize % self.places.len();
        self.places.get_mut(at)
    }

    fn recall(&mut self, hash: u64, is_it: impl Fn(&K) -> bool) -> Recall<&K> {
        match self.place(hash) {
            Some(Kept { known: Some((known_hash, known)), .. })
                if *known_hash == hash && is_it(known) =>
            {
                Recall::Known(known)
            }
            Some(Kept { mark, .. }) if *mark == hash => Recall::Wanted(Place(hash)),
            Some(Kept { mark, .. }) => {
                *mark = hash;
                Recall::Unknown
            }
            None => Recall::Unknown,
        }
    }

    fn keep(&mut self, Place(hash): Place, largest: usize, known: K) {
        if self.taken * 4 > self.places.len() && self.places.len() < largest {
            self.grow();
        }
        if let Some(place) = self.place(hash) {
            let before = place.known.replace((hash, known));
            self.taken += usize::from(before.is_none());
        }
    }

    fn grow(&mut self) {
        let size = self.places.len() * 2;
        let before = std::mem::take(&mut self.places);
        self.taken = 0;
        self.places.resize_with(size, || Kept { mark: 0, known: None });
        for (hash, known) in before.into_iter().filter_map(|place| place.known) {
            if let Some(place) = self.place(hash) {
                place.known = Some((hash, known));
                self.taken += 1;
            }
        }
    }
}

/// The sets of predicates that values made hold.
#[derive(Debug)]
struct Effects {
    sets: Vec<Box<[Number]>>,
    by_hash: QuickMap<u64, u32>,
}

impl Default for Effects {
    fn default() -> Self {
        // The first one is [`Effect::NONE`].
        Self { sets: vec![Box::default()], by_hash: QuickMap::default() }
    }
}

impl Effects {
    fn is_full(&self) -> bool {
        self.sets.len() >= EFFECTS
    }

    fn held(&self, effect: Effect) -> &[Number] {
        self.sets.get(effect.0 as usize).map_or(&[], AsRef::as_ref)
    }

    fn number(&mut self, held: &[Number]) -> Option<Effect> {
        if held.is_empty() {
            return Some(Effect::NONE);
        }
        if held.len() > HELD {
            return None;
        }
        let mut hasher = quick_hasher();
        held.iter().for_each(|number| hasher.write_u32(*number));
        let hash = hasher.finish();
        match self.by_hash.get(&hash) {
            Some(number) => {
                let effect = Effect(*number);
                (*self.held(effect) == *held).then_some(effect)
            }
            None if self.is_full() => None,
            None => {
                let number = self.sets.len() as u32;
                self.sets.push(held.into());
                self.by_hash.insert(hash, number);
                Some(Effect(number))
            }
        }
    }
}

impl Effect {
    /// The effect of a value of `field` as part of an event's: different for different fields, effects, and
    /// for null.
    pub(crate) fn of_field(self, field: FieldId, is_null: bool) -> u64 {
        u64::from(field.0) << 32 | u64::from(is_null) << 31 | u64::from(self.0)
    }

    /// The effect that is part of an event's.
    pub(crate) fn in_event(part: u64) -> Self {
        Self(part as u32 & (u32::MAX >> 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: Of = Of(0, FieldId(3));

    fn text(value: &str) -> Value<'_> {
        Value::Text(value.into())
    }

    /// A memo that knows `value` of [`IMAGE`] to have this effect.
    fn knowing(value: &str, held: &[Number]) -> (Memo, Effect) {
        let mut memo = Memo::default();
        memo.begin(1);
        assert_eq!(memo.recall(IMAGE, &text(value)), Recall::Unknown);
        let Recall::Wanted(place) = memo.recall(IMAGE, &text(value)) else { panic!("not wanted") };
        let effect = memo.effect(held).unwrap();
        memo.keep(place, IMAGE, &text(value), effect);
        (memo, effect)
    }

    #[test]
    fn a_value_is_kept_when_it_comes_again_and_known_from_then_on() {
        let (mut memo, effect) = knowing("cmd.exe", &[2, 9]);
        assert_eq!(memo.recall(IMAGE, &text("cmd.exe")), Recall::Known(effect));
        assert_eq!(memo.held(effect), [2, 9]);
        // In another field, of another program, in another case, as a number: another value.
        for (of, value) in [
            (Of(0, FieldId(4)), text("cmd.exe")),
            (Of(1, FieldId(3)), text("cmd.exe")),
            (IMAGE, text("CMD.exe")),
            (IMAGE, Value::Int(i64::from_le_bytes(*b"cmd.exe\0"))),
        ] {
            assert!(!matches!(memo.recall(of, &value), Recall::Known(_)), "{of:?} {value:?}");
        }
        // Nor is anything of it true with other rules.
        memo.begin(2);
        assert_eq!(memo.recall(IMAGE, &text("cmd.exe")), Recall::Unknown);
    }

    #[test]
    fn what_never_comes_again_pushes_nothing_out() {
        let (mut memo, effect) = knowing("often", &[1]);
        for number in 0..10 * VALUES {
            let value = format!("once {number}");
            assert_eq!(memo.recall(IMAGE, &text(&value)), Recall::Unknown, "{value}");
        }
        assert_eq!(memo.recall(IMAGE, &text("often")), Recall::Known(effect));
    }

    #[test]
    fn what_is_long_or_makes_much_hold_is_not_kept() {
        let mut memo = Memo::default();
        memo.begin(1);
        let long = "x".repeat(VALUE_BYTES + 1);
        for _ in 0..3 {
            assert_eq!(memo.recall(IMAGE, &text(&long)), Recall::Unknown);
        }
        assert_eq!(memo.effect(&(0..=HELD as Number).collect::<Vec<_>>()), None);
    }

    #[test]
    fn tables_grow_to_their_limits_and_lose_nothing_on_the_way() {
        let mut table = Table::default();
        for number in 0..2000u64 {
            assert!(!matches!(table.recall(number, |known| *known == number), Recall::Known(_)));
            let Recall::Wanted(place) = table.recall(number, |known| *known == number) else {
                panic!("not wanted")
            };
            table.keep(place, 1024, number);
            assert!(table.places.len() <= 1024);
        }
        // A number's hash is the number here: the later ones took all places.
        for number in 976..2000u64 {
            assert!(matches!(table.recall(number, |known| *known == number), Recall::Known(_)));
        }
    }

    #[test]
    fn too_many_effects_are_forgotten_together() {
        let (mut memo, _) = knowing("cmd.exe", &[2, 9]);
        let given = (0..10_000).filter(|number| memo.effect(&[*number]).is_some()).count();
        assert_eq!(given, EFFECTS - 2);
        memo.begin(1);
        assert_eq!(memo.recall(IMAGE, &text("cmd.exe")), Recall::Unknown);
        assert!(memo.effect(&[9_999]).is_some());
    }
}
