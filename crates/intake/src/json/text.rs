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

/// A scalar value, its text borrowed or put where texts with escapes go.
#[derive(Debug)]
pub(crate) enum Scalar<'a> {
    /// What it is.
    Value(Value<'a>),
    /// A text, at this place of the unescaped ones.
    Unescaped(Range<usize>),
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

    /// A scalar value, text borrowed where it holds no escapes.
    pub(crate) fn scalar(&mut self) -> Result<Value<'a>, Fault> {
        match self.peek()? {
            b'"' => self.string().map(Value::Text),
            b't' => self.word(b"true").map(|()| Value::Bool(true)),
            b'f' => self.word(b"false").map(|()| Value::Bool(false)),
            b'n' => self.word(b"null").map(|()| Value::Null),
            b'-' | b'0'..=b'9' => self.number(),
            _ => self.bad("expected a value"),
        }
    }

    /// A scalar value. What a text with escapes stands for is put at the end of `unescaped`.
    pub(crate) fn scalar_in(&mut self, unescaped: &mut String) -> Result<Scalar<'a>, Fault> {
        if self.peek()? != b'"' {
            return self.scalar().map(Scalar::Value);
        }
        let start = self.at + 1;
        let (content, has_escapes) = self.string_end()?;
        if !has_escapes {
            return Ok(Scalar::Value(Value::Text(text_of(content))));
        }
        let from = unescaped.len();
        unescape(content, start, unescaped)?;
        Ok(Scalar::Unescaped(from..unescaped.len()))
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
        if self.peek()? == b'"' { self.string_end().map(|_| ()) } else { self.scalar().map(|_| ()) }
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

    fn number(&mut self) -> Result<Value<'a>, Fault> {
        let start = self.at;
        let mut end = start;
        while self
            .bytes
            .get(end)
            .is_some_and(|b| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'))
        {
            end += 1;
        }
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

    /// Finds the closing quote of the string that starts here and moves past it. Returns the content's
    /// bytes and whether it holds escapes.
    fn string_end(&mut self) -> Result<(&'a [u8], bool), Fault> {
        let start = self.at + 1;
        let mut at = start;
        let mut has_escapes = false;
        loop {
            let rest = self.bytes.get(at..).unwrap_or_default();
            let Some(step) = memchr::memchr3(b'"', b'\\', b'\n', rest) else {
                return Err(Fault::Incomplete);
            };
            at += step;
            match self.bytes[at] {
                b'"' => {
                    self.at = at + 1;
                    return Ok((&self.bytes[start..at], has_escapes));
                }
                b'\\' => {
                    has_escapes = true;
                    at += 2;
                }
                _ => {
                    return Err(Fault::Bad { at, what: "the line ends inside a string" });
                }
            }
        }
    }

    fn string(&mut self) -> Result<Cow<'a, str>, Fault> {
        let start = self.at + 1;
        let (content, has_escapes) = self.string_end()?;
        if !has_escapes {
            return Ok(text_of(content));
        }
        let mut text = String::with_capacity(content.len());
        unescape(content, start, &mut text)?;
        Ok(Cow::Owned(text))
    }
}

/// `content` as text. (The checked conversion first: the lossy one is several times slower on good text.)
fn text_of(content: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(content).map_or_else(|_| String::from_utf8_lossy(content), Cow::Borrowed)
}

/// Appends the text that `content` (between quotes, starting at byte `start` of the text) stands for. A lone
/// surrogate becomes U+FFFD, as Windows logs do hold them.
fn unescape(content: &[u8], start: usize, text: &mut String) -> Result<(), Fault> {
    // Made text once, not once for each piece between two escapes: a path has many.
    let whole = text_of(content);
    let content = whole.as_bytes();
    let mut at = 0;
    while at < content.len() {
        let step = memchr::memchr(b'\\', &content[at..]).unwrap_or(content.len() - at);
        text.push_str(whole.get(at..at + step).unwrap_or_default());
        at += step;
        let Some(&escape) = content.get(at + 1) else { break };
        let escape_at = start + at;
        let bad = |what| Err(Fault::Bad { at: escape_at, what });
        at += 2;
        text.push(match escape {
            b'"' | b'\\' | b'/' => char::from(escape),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let Some(unit) = hex4(content, at) else {
                    return bad("not four hex digits after \\u");
                };
                at += 4;
                let low = (0xd800..0xdc00)
                    .contains(&unit)
                    .then(|| content.get(at..at + 2).filter(|next| *next == b"\\u"))
                    .flatten()
                    .and_then(|_| hex4(content, at + 2))
                    .filter(|low| (0xdc00..0xe000).contains(low));
                let code = if let Some(low) = low {
                    at += 6;
                    0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00)
                } else {
                    unit
                };
                char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            _ => return bad("unknown escape"),
        });
    }
    Ok(())
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
            Kind::Scalar => match cursor.scalar()? {
                Value::Null => serde_json::Value::Null,
                Value::Bool(value) => value.into(),
                Value::Int(value) => value.into(),
                Value::Unsigned(value) => value.into(),
                Value::Float(value) => value.into(),
                Value::Text(value) => value.into_owned().into(),
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
    fn surrogates_pair_up_and_lone_ones_are_replaced() {
        let mut cursor = Cursor::new(br#""\ud83d\ude00 \ud83d x""#);
        assert_eq!(cursor.scalar(), Ok(Value::Text("\u{1f600} \u{fffd} x".into())));
    }
}
