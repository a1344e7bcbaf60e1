//! Keys that come again, and in the same order.
//!
//! The one idea: whoever writes events writes the keys of one kind of event in one order. So behind each key
//! is kept which one came next the last time. If the text goes on exactly so, its meaning is known without
//! looking for its end, and without looking it up. If not, what is written there is read as if nothing were
//! known, and the next time that is expected.

use std::collections::HashMap;

use foldhash::fast::RandomState;

/// Most keys that are kept: the logs of a Windows server have some hundreds. When a source makes up more, all
/// are forgotten. With a text of [`KEY_BYTES`] for each, 0.3 MiB.
const KEYS: usize = 1024;

/// The longest text that is kept: a key with its quotes, comma, colon and blanks.
const KEY_BYTES: usize = 128;

/// Before the first key of an event.
const BEGINNING: usize = 0;

/// What is known of keys: `P` says in what kind of object one stands, `M` what it means there.
#[derive(Debug)]
pub(crate) struct Keys<P, M> {
    known: Vec<Known<P, M>>,
    /// By a hash with a key of its own: the keys are somebody else's.
    numbers: HashMap<Box<[u8]>, Vec<usize>, RandomState>,
    latest: usize,
}

#[derive(Debug)]
struct Known<P, M> {
    /// From the end of the value before to the beginning of the key's own: a comma, if it isn't the first one
    /// of its object, the key, a colon, and blanks.
    text: Box<[u8]>,
    /// None for the beginning.
    of: Option<Of<P, M>>,
    next: usize,
}

#[derive(Debug, Clone, Copy)]
struct Of<P, M> {
    place: P,
    is_first: bool,
    meaning: M,
}

impl<P, M> Default for Keys<P, M> {
    fn default() -> Self {
        let beginning = Known { text: Box::default(), of: None, next: BEGINNING };
        Self { known: vec![beginning], numbers: HashMap::default(), latest: BEGINNING }
    }
}

impl<P: Copy + PartialEq, M: Copy> Keys<P, M> {
    /// An event begins.
    pub(crate) fn begin(&mut self) {
        self.latest = BEGINNING;
    }

    /// What the key that `rest` starts with means, and how long its text is, if it is the one that was
    /// expected and its value is neither an object nor an array.
    pub(crate) fn expected(&mut self, place: P, is_first: bool, rest: &[u8]) -> Option<(M, usize)> {
        let number = self.known.get(self.latest)?.next;
        let known = self.known.get(number)?;
        let of = known.of?;
        let after = rest.strip_prefix(&*known.text)?;
        let is_scalar =
            matches!(after.first(), Some(b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n'));
        if (of.place, of.is_first) != (place, is_first) || !is_scalar {
            return None;
        }
        self.latest = number;
        Some((of.meaning, known.text.len()))
    }

    /// Takes note of a key that was not expected, and that it came now. `text` is all from the end of the
    /// value before to the beginning of its own, a scalar.
    pub(crate) fn learn(&mut self, place: P, is_first: bool, text: &[u8], meaning: M) {
        if text.len() > KEY_BYTES {
            return;
        }
        if self.known.len() > KEYS {
            *self = Self::default();
        }
        let numbers = self.numbers.get(text).map_or(&[][..], Vec::as_slice);
        let is_it = |number: &&usize| {
            let of = self.known.get(**number).and_then(|known| known.of);
            of.is_some_and(|of| (of.place, of.is_first) == (place, is_first))
        };
        let number = numbers.iter().find(is_it).copied().unwrap_or_else(|| {
            let number = self.known.len();
            let of = Some(Of { place, is_first, meaning });
            self.known.push(Known { text: text.into(), of, next: BEGINNING });
            self.numbers.entry(text.into()).or_default().push(number);
            number
        });
        if let Some(latest) = self.known.get_mut(self.latest) {
            latest.next = number;
        }
        self.latest = number;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Reading;
    use crate::json::shape::{Scratch, read_event};
    use cordon_model::event::{FieldTable, Source};
    use proptest::prelude::*;

    /// An event of keys that mean something here, there and nowhere, in any order, with blanks or without.
    fn any_event() -> impl Strategy<Value = String> {
        let key = prop::sample::select(vec![
            "EventID",
            "Channel",
            "CommandLine",
            "Command Line",
            "CommandLine_1",
            "Data",
            "Computer",
            "SourceName",
            "winlog.event_id",
            "x",
            "#text",
            "é",
        ]);
        let scalar = prop::sample::select(vec![
            "1",
            "-2.5",
            "null",
            "true",
            "\"a\"",
            "\"C:\\\\x\"",
            "\"\\u00e9\"",
            "\"\"",
            "[]",
            "{}",
            "[1,\"a\"]",
        ]);
        let blank = prop::sample::select(vec!["", "", "", " ", "\n  "]);
        let member = (key, scalar, blank.clone(), blank)
            .prop_map(|(key, value, before, after)| format!("{before}\"{key}\":{after}{value}"));
        let members = prop::collection::vec(member, 0..6).prop_map(|members| members.join(","));
        let nested =
            prop::sample::select(vec!["Event", "EventData", "System", "winlog", "event_data"]);
        let inner = prop::collection::vec((nested, members.clone()), 0..3);
        (members, inner).prop_map(|(members, inner)| {
            let inner = inner.into_iter().map(|(key, members)| format!("\"{key}\":{{{members}}}"));
            let all: Vec<String> = std::iter::once(members)
                .filter(|members| !members.is_empty())
                .chain(inner)
                .collect();
            format!("{{{}}}", all.join(","))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]
        #[test]
        fn what_is_remembered_of_keys_changes_nothing(
            events in prop::collection::vec(any_event(), 1..12), cut: prop::sample::Index,
        ) {
            let mut table = FieldTable::default();
            for name in ["EventID", "Channel", "CommandLine", "Data"] {
                table.intern(name);
            }
            let reading = Reading { fields: &table, every_value: false, assumed: Source::default() };
            let mut scratch = Scratch::default();
            // Each of them again, when its keys are known; and torn.
            for json in events.iter().chain(events.iter().rev()) {
                let torn = json.as_bytes().get(..cut.index(json.len())).unwrap();
                for json in [json.as_bytes(), torn] {
                    let known = format!("{:?}", read_event(json, &reading, &mut scratch));
                    prop_assert_eq!(known, format!("{:?}", read_event(json, &reading, &mut Scratch::default())));
                }
            }
        }
    }

    #[test]
    fn a_comma_before_the_first_key_is_a_fault_though_the_key_is_known() {
        let table = FieldTable::default();
        let reading = Reading { fields: &table, every_value: true, assumed: Source::default() };
        let mut scratch = Scratch::default();
        for _ in 0..2 {
            for json in [r#"{"a":1,"b":2}"#, r#"{"b":2}"#] {
                assert!(read_event(json.as_bytes(), &reading, &mut scratch).is_ok());
            }
            for json in [r#"{,"b":2}"#, r#"{"a":1"b":2}"#] {
                assert!(read_event(json.as_bytes(), &reading, &mut scratch).is_err(), "{json}");
            }
        }
    }

    #[test]
    fn keys_that_are_made_up_are_forgotten_in_the_end() {
        let mut keys = Keys::default();
        for number in 0..5000 {
            let text = format!("\"k{number}\":");
            keys.begin();
            keys.learn('a', true, text.as_bytes(), number);
            assert!(keys.known.len() <= KEYS + 1);
            keys.begin();
            let rest = format!("{text}1");
            assert_eq!(keys.expected('a', true, rest.as_bytes()), Some((number, text.len())));
            keys.begin();
            assert_eq!(keys.expected('b', true, rest.as_bytes()), None);
            assert_eq!(keys.expected('a', false, rest.as_bytes()), None);
        }
    }
}
