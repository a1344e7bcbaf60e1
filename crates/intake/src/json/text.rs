//! JSON text, read once from left to right with nothing built on the way.
//!
//! [`Cursor`] steps over one value at a time: the caller asks for a key, then either takes the value
//! (borrowed where it holds no escapes) or steps over it. It checks the grammar of RFC 8259 as it goes,
//! so that a torn record is found where it tears, and tells "more bytes are needed" from "no bytes can
//! mend this". Two leniencies, because logs have both: raw control characters inside strings other than
//! a line end, and bytes that are not UTF-8 (shown as U+FFFD).

use std::borrow::Cow;
use std::ops::Range;

use cordon_model::event::Value;

use crate::gathered::text_of;

/// Why a value could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The bytes end before the value does.
    Incomplete,
    /// The value is not JSON from byte `at` on.
    Bad {
        /// Where, counted from the start of the text.
        at: usize,
        /// What is wrong, in a few words.
        what: &'static str,
    },
}

/// What kind of value comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Object,
    Array,
    Scalar,
}

/// A place in a JSON text.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes were read.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// What was not read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// What was read from byte `start` on.
    pub(crate) fn since(&self, start: usize) -> &'a [u8] {
        self.bytes.get(start..self.at).unwrap_or_default()
    }

    /// Passes `length` bytes whose content is known.
    pub(crate) fn pass(&mut self, length: usize) {
        self.at += length;
    }

    /// The next byte that is not white space, not taken.
    pub(crate) fn peek(&mut self) -> Result<u8, Fault> {
        while let Some(&byte) = self.bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Ok(byte);
            }
            self.at += 1;
        }
        Err(Fault::Incomplete)
    }

    /// What kind of value comes next.
    pub(crate) fn kind(&mut self) -> Result<Kind, Fault> {
        Ok(match self.peek()? {
            b'{' => Kind::Object,
            b'[' => Kind::Array,
            _ => Kind::Scalar,
        })
    }

    /// Takes `expected`, white space before it stepped over.
    pub(crate) fn take(&mut self, expected: u8, what: &'static str) -> Result<(), Fault> {
        if self.peek()? == expected {
            self.at += 1;
            Ok(())
        } else {
            self.bad(what)
        }
    }

    /// The next key of an object whose `{` was taken, with its colon; `None` when the object ends.
    /// `is_first` says whether this is the object's first key.
    pub(crate) fn next_key(&mut self, is_first: bool) -> Result<Option<Cow<'a, str>>, Fault> {
        match self.peek()? {
            b'}' => {
                self.at += 1;
                return Ok(None);
            }
            b',' if !is_first => self.at += 1,
            _ if is_first => {}
            _ => return self.bad("expected a comma or a closing brace"),
        }
        if self.peek()? != b'"' {
            return self.bad("expected a key in quotes");
        }
        let key = self.string()?;
        self.take(b':', "expected a colon after the key")?;
        Ok(Some(key))
    }

    /// Whether an array whose `[` was taken has another item; takes the comma or the bracket.
    pub(crate) fn next_item(&mut self, is_first: bool) -> Result<bool, Fault> {
        match self.peek()? {
            b']' => {
                self.at += 1;
                Ok(false)
            }
            b',' if !is_first => {
                self.at += 1;
                Ok(true)
            }
            _ if is_first => Ok(true),
            _ => self.bad("expected a comma or a closing bracket"),
        }
    }

    /// A scalar value that is no text.
    pub(crate) fn plain(&mut self) -> Result<Value<'static>, Fault> {
        match self.peek()? {
            b't' => self.word(b"true").map(|()| Value::Bool(true)),
            b'f' => self.word(b"false").map(|()| Value::Bool(false)),
            b'n' => self.word(b"null").map(|()| Value::Null),
            b'-' | b'0'..=b'9' => self.number(),
            _ => self.bad("expected a value"),
        }
    }

    /// Whether the next byte, white space stepped over, begins a text.
    pub(crate) fn is_at_text(&mut self) -> Result<bool, Fault> {
        Ok(self.peek()? == b'"')
    }

    /// The text that comes next: what it stands for is put at the end of `arena`, in one pass over it.
    /// Bytes that are no UTF-8 stay what they are.
    pub(crate) fn text_into(&mut self, arena: &mut Vec<u8>) -> Result<Range<usize>, Fault> {
        let from = arena.len();
        let mut at = self.at + 1;
        loop {
            at = copy_plain(self.bytes, at, arena);
            match self.bytes.get(at) {
                Some(b'"') => {
                    self.at = at + 1;
                    return Ok(from..arena.len());
                }
                Some(b'\\') => match self.bytes.get(at + 1) {
                    Some(escape @ (b'\\' | b'"' | b'/')) => {
                        arena.push(*escape);
                        at += 2;
                    }
                    Some(_) => at = self.escape(at, arena)?,
                    None => return Err(Fault::Incomplete),
                },
                Some(_) => return Err(Fault::Bad { at, what: LINE_ENDS }),
                None => return Err(Fault::Incomplete),
            }
        }
    }

    /// Puts what the escape at `at` stands for at the end of `arena`. Returns where it ends.
    #[cold]
    fn escape(&self, at: usize, arena: &mut Vec<u8>) -> Result<usize, Fault> {
        match escaped(self.bytes.get(at + 1..).unwrap_or_default()) {
            Ok((character, length)) => {
                arena.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                Ok(at + 1 + length)
            }
            Err(what) => {
                // A text that does not end is told first: the bytes to come may mend the escape.
                self.clone().text_end()?;
                Err(Fault::Bad { at, what })
            }
        }
    }

    /// Steps over one value of any kind and depth, without recursion. The grammar inside objects and
    /// arrays is not checked beyond strings and balanced brackets: nobody reads what is skipped.
    pub(crate) fn skip(&mut self) -> Result<(), Fault> {
        if self.kind()? == Kind::Scalar {
            return self.skip_scalar();
        }
        let mut depth = 0usize;
        loop {
            match self.peek()? {
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth -= 1;
                    self.at += 1;
                    if depth == 0 {
                        return Ok(());
                    }
                }
                b',' | b':' => self.at += 1,
                _ => self.skip_scalar()?,
            }
        }
    }

    fn skip_scalar(&mut self) -> Result<(), Fault> {
        if self.is_at_text()? { self.text_end() } else { self.plain().map(|_| ()) }
    }

    fn bad<T>(&self, what: &'static str) -> Result<T, Fault> {
        Err(Fault::Bad { at: self.at, what })
    }

    fn word(&mut self, word: &'static [u8]) -> Result<(), Fault> {
        let rest = &self.bytes[self.at..];
        if rest.starts_with(word) {
            self.at += word.len();
            Ok(())
        } else if word.starts_with(rest) {
            Err(Fault::Incomplete)
        } else {
            self.bad("expected true, false or null")
        }
    }

    fn number(&mut self) -> Result<Value<'static>, Fault> {
        let start = self.at;
        let in_number = |b: &&u8| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let rest = self.bytes.get(start..).unwrap_or_default();
        // Nearly all are short and whole.
        let digits = rest.iter().take(18).take_while(|b| b.is_ascii_digit());
        let (length, whole) = digits.fold((0, 0i64), |(length, whole), digit| {
            (length + 1, whole * 10 + i64::from(digit - b'0'))
        });
        if length > 0 && rest.get(length).is_some_and(|next| !in_number(&next)) {
            self.at += length;
            return Ok(Value::Int(whole));
        }
        let end = start + rest.iter().take_while(in_number).count();
        if end == self.bytes.len() {
            return Err(Fault::Incomplete);
        }
        let text = std::str::from_utf8(&self.bytes[start..end]).unwrap_or("");
        let is_whole = !text.contains(['.', 'e', 'E']);
        let value = if let (true, Ok(number)) = (is_whole, text.parse::<i64>()) {
            Value::Int(number)
        } else if let (true, Ok(number)) = (is_whole, text.parse::<u64>()) {
            Value::Unsigned(number)
        } else {
            // Rust's grammar for floats is wider than JSON's only in forms that no other JSON token
            // starts with, except a leading plus, which `scalar` does not let in.
            match text.parse::<f64>() {
                Ok(number) => Value::Float(number),
                Err(_) => return self.bad("not a number"),
            }
        };
        self.at = end;
        Ok(value)
    }

    /// Moves past the text that starts here.
    fn text_end(&mut self) -> Result<(), Fault> {
        let mut at = self.at + 1;
        loop {
            at = special(self.bytes, at);
            match self.bytes.get(at) {
                Some(b'"') => {
                    self.at = at + 1;
                    return Ok(());
                }
                Some(b'\\') => at += 2,
                Some(_) => return Err(Fault::Bad { at, what: LINE_ENDS }),
                None => return Err(Fault::Incomplete),
            }
        }
    }

    fn string(&mut self) -> Result<Cow<'a, str>, Fault> {
        let start = self.at + 1;
        let end = special(self.bytes, start);
        if self.bytes.get(end) == Some(&b'"') {
            self.at = end + 1;
            return Ok(text_of(self.bytes.get(start..end).unwrap_or_default()));
        }
        let mut text = Vec::new();
        self.text_into(&mut text)?;
        Ok(Cow::Owned(text_of(&text).into_owned()))
    }
}

const LINE_ENDS: &str = "the line ends inside a string";

/// How many bytes are looked through eight at a time before a routine is called that is faster for many: most
/// texts are shorter, and end before such a call would have begun.
const NEAR: usize = 64;

/// Marks the lowest byte of `word` that is a quote, a backslash or a line end; bytes above it may be marked
/// though they are none. (A borrow runs upwards only, so the lowest mark is always right.)
fn specials(word: u64) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word;
    let each = |byte: u8| zeros(word ^ u64::from_le_bytes([byte; 8]));
    (each(b'"') | each(b'\\') | each(b'\n')) & u64::from_le_bytes([0x80; 8])
}

/// Where from `at` on the first quote, backslash or line end is, or the bytes' end.
fn special(bytes: &[u8], mut at: usize) -> usize {
    let mut rest = bytes.get(at..).unwrap_or_default();
    for _ in 0..NEAR / 8 {
        let Some((word, after)) = rest.split_first_chunk() else { break };
        let found = specials(u64::from_le_bytes(*word));
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
        rest = after;
    }
    memchr::memchr3(b'"', b'\\', b'\n', rest).map_or(bytes.len(), |step| at + step)
}

/// Copies to the end of `arena` what is before the place that [`special`] says, and returns that.
fn copy_plain(bytes: &[u8], mut at: usize, arena: &mut Vec<u8>) -> usize {
    let mut rest = bytes.get(at..).unwrap_or_default();
    for _ in 0..NEAR / 8 {
        let Some((word, after)) = rest.split_first_chunk() else { break };
        // The whole word, and back: a copy of a length that is known takes one instruction.
        arena.extend_from_slice(word);
        let found = specials(u64::from_le_bytes(*word));
        if found != 0 {
            let plain = (found.trailing_zeros() / 8) as usize;
            arena.truncate(arena.len() - (8 - plain));
            return at + plain;
        }
        at += 8;
        rest = after;
    }
    let plain = memchr::memchr3(b'"', b'\\', b'\n', rest).unwrap_or(rest.len());
    arena.extend_from_slice(rest.get(..plain).unwrap_or_default());
    at + plain
}

/// The character that an escape stands for of which `rest` is what follows the backslash, and how long that
/// is. A lone surrogate becomes U+FFFD, as Windows logs do hold them.
fn escaped(rest: &[u8]) -> Result<(char, usize), &'static str> {
    let character = match rest.first() {
        Some(plain @ (b'"' | b'\\' | b'/')) => char::from(*plain),
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => {
            let unit = hex4(rest, 1).ok_or("not four hex digits after \\u")?;
            let low = (0xd800..0xdc00)
                .contains(&unit)
                .then(|| rest.get(5..7).filter(|next| *next == b"\\u"))
                .flatten()
                .and_then(|_| hex4(rest, 7))
                .filter(|low| (0xdc00..0xe000).contains(low));
            let (code, length) = match low {
                Some(low) => (0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00), 11),
                None => (unit, 5),
            };
            return Ok((char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), length));
        }
        _ => return Err("unknown escape"),
    };
    Ok((character, 1))
}

fn hex4(content: &[u8], at: usize) -> Option<u32> {
    content
        .get(at..at + 4)?
        .iter()
        .try_fold(0, |code, &digit| char::from(digit).to_digit(16).map(|value| code * 16 + value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `value` as serde_json sees it, read through the cursor.
    fn read(cursor: &mut Cursor<'_>) -> Result<serde_json::Value, Fault> {
        Ok(match cursor.kind()? {
            Kind::Object => {
                cursor.take(b'{', "{")?;
                let mut object = serde_json::Map::new();
                while let Some(key) = cursor.next_key(object.is_empty())? {
                    object.insert(key.into_owned(), read(cursor)?);
                }
                serde_json::Value::Object(object)
            }
            Kind::Array => {
                cursor.take(b'[', "[")?;
                let mut array = Vec::new();
                while cursor.next_item(array.is_empty())? {
                    array.push(read(cursor)?);
                }
                serde_json::Value::Array(array)
            }
            Kind::Scalar if cursor.is_at_text()? => {
                let mut text = b"before".to_vec();
                let place = cursor.text_into(&mut text)?;
                text_of(&text[place]).into_owned().into()
            }
            Kind::Scalar => match cursor.plain()? {
                Value::Null => serde_json::Value::Null,
                Value::Bool(value) => value.into(),
                Value::Int(value) => value.into(),
                Value::Unsigned(value) => value.into(),
                Value::Float(value) => value.into(),
                Value::Text(_) => panic!("a text"),
            },
        })
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<u64>().prop_map(Into::into),
            (-1e9f64..1e9).prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::hash_map(any::<String>(), inner, 0..6)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_serde_json_writes_is_read_back_the_same(value in any_json(), pretty: bool) {
            // In an array, so that a bare number has an end.
            let value = serde_json::Value::Array(vec![value]);
            let text = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) };
            let text = text.unwrap();
            let mut cursor = Cursor::new(&text);
            prop_assert_eq!(read(&mut cursor).unwrap(), value);
            prop_assert_eq!(cursor.at(), text.len());
            let mut skipping = Cursor::new(&text);
            skipping.skip().unwrap();
            prop_assert_eq!(skipping.at(), text.len());
        }

        #[test]
        fn every_cut_of_a_good_text_asks_for_more(value in any_json(), cut: prop::sample::Index) {
            let text = serde_json::to_vec(&serde_json::Value::Array(vec![value])).unwrap();
            let cut = cut.index(text.len());
            prop_assert_eq!(read(&mut Cursor::new(&text[..cut])), Err(Fault::Incomplete));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = read(&mut Cursor::new(&bytes));
            let _ = Cursor::new(&bytes).skip();
        }
    }

    #[test]
    fn a_line_end_inside_a_string_is_a_tear_at_its_byte() {
        let mut cursor = Cursor::new(b"{\"a\":\"torn\n{\"b\":1}");
        assert_eq!(
            read(&mut cursor),
            Err(Fault::Bad { at: 10, what: "the line ends inside a string" })
        );
    }

    #[test]
    fn what_is_special_is_found_at_every_place_of_a_text_of_every_length() {
        for length in 0..200 {
            for at in (0..length).step_by(1 + length / 16) {
                for (special, stands_for) in [("\\\\", "\\"), ("\\u00e9", "é"), ("é", "é")] {
                    let (before, after) = ("a".repeat(at), "b".repeat(length - at));
                    let text = format!("\"{before}{special}{after}\" ");
                    let meant = format!("{before}{stands_for}{after}");
                    assert_eq!(read(&mut Cursor::new(text.as_bytes())), Ok(meant.into()));
                    let mut cursor = Cursor::new(text.as_bytes());
                    cursor.skip().unwrap();
                    assert_eq!(cursor.at(), text.len() - 1);
                }
                let torn = format!("\"{}\n{}\"", "a".repeat(at), "b".repeat(length - at));
                let fault = Fault::Bad { at: at + 1, what: LINE_ENDS };
                assert_eq!(read(&mut Cursor::new(torn.as_bytes())), Err(fault));
                assert_eq!(Cursor::new(torn.as_bytes()).skip(), Err(fault));
            }
        }
    }

    #[test]
    fn an_escape_that_is_none_is_a_fault_once_its_text_has_ended() {
        for (text, fault) in [
            (r#""a\z""#, Fault::Bad { at: 2, what: "unknown escape" }),
            (r#""a\u12g4""#, Fault::Bad { at: 2, what: "not four hex digits after \\u" }),
            (r#""a\u12"#, Fault::Incomplete),
            (r#""a\"#, Fault::Incomplete),
        ] {
            assert_eq!(read(&mut Cursor::new(text.as_bytes())), Err(fault), "{text}");
        }
    }

    #[test]
    fn surrogates_pair_up_and_lone_ones_are_replaced() {
        let mut cursor = Cursor::new(br#""\ud83d\ude00 \ud83d x""#);
        assert_eq!(read(&mut cursor), Ok("\u{1f600} \u{fffd} x".into()));
    }
}
