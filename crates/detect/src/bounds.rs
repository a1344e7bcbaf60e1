//! What the text of a document may come to, looked at before anything is made of it.
//!
//! The one idea: a short text can stand for a huge document (YAML's aliases repeat what they name, and what
//! they name may have aliases itself), or for one that is nested deeper than a parser's stack. So the text is
//! gone through once, aliases followed and nothing kept, and it is given up where a bound is passed. What
//! passes is read as usual: whatever the parser then builds is within these bounds.

use std::fmt;

use serde::de::{DeserializeSeed, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor};
use yaml_serde::Deserializer;

/// Longest text of one document. SigmaHQ's longest rule has 70 KiB; 20,000 values of 50 bytes have 1 MB.
pub const DOCUMENT_BYTES: usize = 1 << 20;

/// Most values and keys in one document, each alias counted as what it stands for. Ten times as many as a
/// rule may ask things; each takes about 100 bytes while the document is read.
pub const DOCUMENT_NODES: usize = 200_000;

/// Most bytes of its texts, each alias counted as what it stands for: four times the longest document.
pub const EXPANDED_BYTES: usize = 4 * DOCUMENT_BYTES;

/// Deepest nesting of lists and mappings. A list of values in a list of detections is on the fifth level.
pub const NESTING: usize = 32;

/// Most opening brackets and braces in a document's text, wherever they stand: the YAML scanner looks at all
/// open ones again for each word, so that so many in one another cost it a tenth of a second, and ten times as
/// many ten seconds.
pub const BRACKETS: usize = 10_000;

/// Most `%TAG` lines, which are looked through at each one.
const TAG_LINES: usize = 100;

/// Longest text of all conditions of a document. The parser copies what it has at each `and`.
pub const CONDITION_BYTES: usize = 16 << 10;

/// Most brackets within brackets, and `not` after `not`, in a condition: as many as the parser's own depth.
pub const CONDITION_DEPTH: usize = 64;

/// Most bytes of texts, and a hundredth of it of values, that documents which build on one another (`action:
/// global`) come to together, each with all that it takes over. A hundred rules of 50 KiB fit.
pub const MERGED_BYTES: usize = 32 << 20;

/// Looks whether `text`, one document or several that build on one another, stays within the bounds.
/// What is no YAML at all passes: the parser says that better.
///
/// # Errors
/// The bound that is passed, in a rule author's words, and the line of `text`, from 1, where it was.
pub(crate) fn within_bounds(text: &str) -> Result<(), (usize, String)> {
    if text.len() > DOCUMENT_BYTES {
        let reason = format!("the rule is longer than {} MiB: split it", DOCUMENT_BYTES >> 20);
        return Err((1, reason));
    }
    if text.bytes().filter(|byte| matches!(byte, b'[' | b'{')).count() > BRACKETS {
        return Err((1, format!("the rule has more than {BRACKETS} opening brackets: split it")));
    }
    if text.matches("%TAG").nth(TAG_LINES).is_some() {
        return Err((1, "the rule has more `%TAG` lines than any has use for".to_owned()));
    }
    within(text, Bounds { nodes: DOCUMENT_NODES, bytes: EXPANDED_BYTES, nesting: NESTING })
}

#[derive(Clone, Copy)]
struct Bounds {
    nodes: usize,
    bytes: usize,
    nesting: usize,
}

fn within(text: &str, bounds: Bounds) -> Result<(), (usize, String)> {
    let mut walk = Walk { bounds, nodes: 0, bytes: 0, condition_bytes: 0, passed: None };
    let mut documents = 0;
    for document in Deserializer::from_str(text) {
        let node = Node { walk: &mut walk, depth: 0, is_condition: false };
        if let Err(error) = node.deserialize(document) {
            let line = error.location().map_or(1, |location| location.line());
            return match walk.passed {
                Some(reason) => Err((line, reason)),
                // The YAML library's own bound, where each alias stands for little: a hundred aliases for
                // each word of the text.
                None if error.to_string().contains("repetition limit") => {
                    Err((line, too_many(bounds.nodes)))
                }
                None => Ok(()),
            };
        }
        documents += 1;
        let (bytes, nodes) = (walk.bytes * documents, walk.nodes * documents);
        if documents > 1 && (bytes > MERGED_BYTES || nodes > MERGED_BYTES / 100) {
            return Err((
                1,
                format!(
                    "its documents build on one another and come to more than {} MiB together: give each rule a \
                 file of its own",
                    MERGED_BYTES >> 20
                ),
            ));
        }
    }
    Ok(())
}

struct Walk {
    bounds: Bounds,
    nodes: usize,
    bytes: usize,
    condition_bytes: usize,
    passed: Option<String>,
}

impl Walk {
    fn pass<E: Error>(&mut self, reason: String) -> E {
        self.passed = Some(reason.clone());
        E::custom(reason)
    }

    fn count<E: Error>(&mut self, bytes: usize) -> Result<(), E> {
        self.nodes += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        let Bounds { nodes, bytes, .. } = self.bounds;
        if self.nodes > nodes {
            return Err(self.pass(too_many(nodes)));
        }
        if self.bytes > bytes {
            return Err(self.pass(format!(
                "its texts come to more than {} MiB, each alias (`*name`) counted as what it stands for: \
                 write the text once",
                bytes >> 20
            )));
        }
        Ok(())
    }
}

fn too_many(nodes: usize) -> String {
    format!(
        "it has more than {nodes} values, each alias (`*name`) counted as what it stands for: split the rule"
    )
}

/// A value that is gone through.
struct Node<'w> {
    walk: &'w mut Walk,
    /// How many lists and mappings it is in.
    depth: usize,
    /// Whether it stands under the key `condition`.
    is_condition: bool,
}

impl Node<'_> {
    fn one_deeper<E: Error>(&mut self) -> Result<usize, E> {
        self.walk.count(0)?;
        let most = self.walk.bounds.nesting;
        match self.depth + 1 {
            depth if depth <= most => Ok(depth),
            _ => Err(self.walk.pass(format!("lists and mappings are nested deeper than {most}"))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.walk.count(0)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.walk.count(0)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        self.walk.count(0)
    }

    fn visit_i128<E: Error>(self, _: i128) -> Result<(), E> {
        self.walk.count(0)
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<(), E> {
        self.walk.count(0)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.walk.count(0)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.walk.count(0)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.walk.count(text.len())?;
        if !self.is_condition {
            return Ok(());
        }
        self.walk.condition_bytes += text.len();
        if self.walk.condition_bytes > CONDITION_BYTES {
            let most = CONDITION_BYTES >> 10;
            return Err(self.walk.pass(format!(
                "the condition is longer than {most} KiB: use `1 of name*` and `all of name*`"
            )));
        }
        if condition_depth(text) > CONDITION_DEPTH {
            return Err(self.walk.pass(format!(
                "the condition has more than {CONDITION_DEPTH} brackets within brackets, or `not` after `not`"
            )));
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        let depth = self.one_deeper()?;
        let is_condition = self.is_condition;
        while list.next_element_seed(Node { walk: &mut *self.walk, depth, is_condition })?.is_some()
        {
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let depth = self.one_deeper()?;
        while let Some(is_condition) = map.next_key_seed(Key { walk: &mut *self.walk, depth })? {
            map.next_value_seed(Node { walk: &mut *self.walk, depth, is_condition })?;
        }
        Ok(())
    }

    fn visit_enum<A: EnumAccess<'de>>(mut self, tagged: A) -> Result<(), A::Error> {
        let depth = self.one_deeper()?;
        let tag = Node { walk: &mut *self.walk, depth, is_condition: false };
        let ((), value) = tagged.variant_seed(tag)?;
        value.newtype_variant_seed(Node { walk: self.walk, depth, is_condition: self.is_condition })
    }
}

/// A key; what comes of it is whether it is `condition`.
struct Key<'w> {
    walk: &'w mut Walk,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = bool;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Key<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<bool, E> {
        self.walk.count(text.len())?;
        Ok(text == "condition")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<bool, E> {
        self.walk.count(0).map(|()| false)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<bool, E> {
        self.walk.count(0).map(|()| false)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<bool, E> {
        self.walk.count(0).map(|()| false)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<bool, E> {
        self.walk.count(0).map(|()| false)
    }

    fn visit_unit<E: Error>(self) -> Result<bool, E> {
        self.walk.count(0).map(|()| false)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<bool, A::Error> {
        let node = Node { walk: self.walk, depth: self.depth, is_condition: false };
        node.visit_seq(list).map(|()| false)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<bool, A::Error> {
        let node = Node { walk: self.walk, depth: self.depth, is_condition: false };
        node.visit_map(map).map(|()| false)
    }

    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<bool, A::Error> {
        let node = Node { walk: self.walk, depth: self.depth, is_condition: false };
        node.visit_enum(tagged).map(|()| false)
    }
}

/// How deep the parser of conditions would go into `text`: brackets within brackets, or `not` after `not`.
fn condition_depth(text: &str) -> usize {
    let (mut open, mut nots, mut deepest) = (0_usize, 0_usize, 0);
    let is_of_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    for part in text.split_inclusive(|c| !is_of_word(c)) {
        match part.trim_end_matches(|c| !is_of_word(c)) {
            "not" => nots += 1,
            "" => {}
            _ => nots = 0,
        }
        match part.chars().last() {
            Some('(') => open += 1,
            Some(')') => open = open.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(open).max(nots);
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reason(text: &str) -> String {
        within_bounds(text).unwrap_err().1
    }

    #[test]
    fn aliases_count_as_what_they_stand_for() {
        let long = "x".repeat(100_000);
        let times = |count: usize| format!("a: &a {long}\nb: [{}]\n", vec!["*a"; count].join(", "));
        assert_eq!(within_bounds(&times(40)), Ok(()));
        assert!(reason(&times(42)).contains("texts come to more than 4 MiB"));
        let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let below = vec![format!("*a{}", level - 1); 9].join(", ");
            laughs.push_str(&format!("a{level}: &a{level} [{below}]\n"));
        }
        assert!(reason(&laughs).contains("more than 200000 values"));
    }

    #[test]
    fn depth_is_bounded_wherever_it_is() {
        let nested = |open: &str, close: &str, times: usize| {
            format!("a: {}b{}\n", open.repeat(times), close.repeat(times))
        };
        assert_eq!(within_bounds(&nested("[", "]", NESTING - 1)), Ok(()));
        assert!(reason(&nested("[", "]", NESTING)).contains("nested deeper"));
        assert!(reason(&nested("{a: ", "}", NESTING)).contains("nested deeper"));
        assert!(reason(&nested("[? [", "]]", NESTING)).contains("nested deeper"));
        let condition = |text: String| format!("detection:\n  condition: {text}\n");
        let brackets = |times| format!("{}a{}", "(".repeat(times), ")".repeat(times));
        assert_eq!(within_bounds(&condition(brackets(64))), Ok(()));
        assert!(reason(&condition(brackets(65))).contains("brackets within brackets"));
        assert!(reason(&condition(format!("[{}]", brackets(65)))).contains("brackets"));
        assert!(reason(&condition(format!("{}a", "not ".repeat(65)))).contains("`not`"));
        assert!(reason(&condition(format!("\"{}a\"", "\\x28".repeat(65)))).contains("brackets"));
        assert_eq!(within_bounds(&condition("a and not b or ".repeat(200) + "c")), Ok(()));
    }

    #[test]
    fn documents_that_build_on_one_another_count_each_with_all_that_it_takes_over() {
        let text = |times: usize| {
            let long = "x".repeat(100_000);
            format!("action: global\na: {long}\n{}", "---\nb: c\n".repeat(times))
        };
        assert_eq!(within_bounds(&text(100)), Ok(()));
        assert!(reason(&text(400)).contains("build on one another"));
    }

    const FEW: Bounds = Bounds { nodes: 24, bytes: 30, nesting: 4 };

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        /// A text passes exactly if the tree that the parser makes of it is within the bounds.
        #[test]
        fn what_passes_stands_for_no_more_than_is_said(
            pieces in prop::collection::vec(
                prop_oneof![
                    Just("&a "), Just("*a "), Just("["), Just("]"), Just(", "), Just("{"), Just("}"),
                    Just(": "), Just("- "), Just("\n"), Just("  "), Just("b"), Just("c"), Just("!t "),
                    Just("'x y'"), Just("&b "), Just("*b "), Just("long text "),
                    Just("- &a [b, c]\n"), Just("- &b [*a, *a]\n"), Just("- [*b, *b, *a]\n"),
                    Just("- &a [[[b]]]\n"), Just("- &b [[*a]]\n"), Just("- *b\n"),
                ],
                0..12,
            ),
        ) {
            let text = pieces.concat();
            let Ok(value) = yaml_serde::from_str::<yaml_serde::Value>(&text) else { return Ok(()) };
            let (nodes, bytes, depth) = measured(&value);
            let fits = nodes <= FEW.nodes && bytes <= FEW.bytes && depth <= FEW.nesting;
            prop_assert_eq!(within(&text, FEW).is_ok(), fits, "{} {:?}", text, (nodes, bytes, depth));
        }
    }

    /// Values, bytes of texts and depth.
    fn measured(value: &yaml_serde::Value) -> (usize, usize, usize) {
        use yaml_serde::Value::{Mapping, Sequence, String, Tagged};
        let sum = |parts: Vec<(usize, usize, usize)>| {
            let (nodes, bytes) = parts.iter().fold((1, 0), |(n, b), part| (n + part.0, b + part.1));
            (nodes, bytes, parts.iter().map(|part| part.2).max().unwrap_or(0) + 1)
        };
        match value {
            Sequence(list) => sum(list.iter().map(measured).collect()),
            Mapping(map) => sum(map.iter().flat_map(|(k, v)| [measured(k), measured(v)]).collect()),
            Tagged(tagged) => {
                let tag = tagged.tag.to_string();
                sum(vec![(1, tag.len() - 1, 0), measured(&tagged.value)])
            }
            String(text) => (1, text.len(), 0),
            _ => (1, 0, 0),
        }
    }
}
