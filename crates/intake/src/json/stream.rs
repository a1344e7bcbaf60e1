//! A file of JSON objects, one after another: lines, an array, or just objects in a row, told apart by
//! nothing but the next byte. A torn object is reported and the next whole one is found.
//!
//! Memory is one buffer that grows to the largest object, at most [`OBJECT_BYTES`].

use std::io::Read;
use std::ops::ControlFlow;

use super::shape::{Scratch, Shaped, read_event};
use super::text::Fault;
use crate::damage::{Damage, Lost, Unreadable};
use crate::gathered::VALUES;
use crate::{Item, Reading, Record, Text};

/// The largest object that is read: 16 MiB, the most that the EVTX reader renders for one record. A
/// larger one is reported, skipped without being kept, and the rest goes on.
pub const OBJECT_BYTES: usize = 16 << 20;

/// How much is read from the file at a time: a few hundred events of 1 KiB, so that a system call costs
/// nothing against their parsing, and two threads' buffers stay in a second-level cache.
const READ_BYTES: usize = 256 << 10;

/// How much may be read again after tears, beside once the bytes before them: 64 MiB, four objects of the
/// largest size. A tear is usually found within a line or two; but lines that all open an object and close
/// none would have the rest of the file tried from each of them. Past this what was tried is lost whole,
/// so that the work stays in proportion to the file.
const TRIED_AGAIN_BYTES: u64 = 64 << 20;

/// Reads every object of `input`.
pub(crate) fn read<R: Read>(
    input: R,
    reading: &Reading<'_>,
    scratch: &mut Scratch,
    each: &mut dyn FnMut(Item<'_>) -> ControlFlow<()>,
) -> Result<(), Unreadable> {
    let mut source = Source::new(input);
    let mut loss = Loss::default();
    let mut open_arrays = 0u64;
    source.skip_byte_order_mark()?;
    while let Some(byte) = source.next_byte()? {
        match byte {
            b'{' => {
                let (offset, line) = (source.offset(), source.line);
                let fault = match read_event(source.rest(), reading, scratch) {
                    Ok(Shaped { event, length, left_out }) => {
                        if loss.tell(each).is_break() {
                            return Ok(());
                        }
                        let json = &source.rest()[..length];
                        let record = Record::new(event, Text::Json(json), offset, Some(line));
                        if each(Item::Record(record)).is_break() {
                            return Ok(());
                        }
                        if left_out > 0 {
                            let reason = format!("an event of more than {VALUES} values");
                            let lost = Lost::Values { values: left_out };
                            let damage = Damage { offset, line: Some(line), reason, lost };
                            if each(Item::Damage(damage)).is_break() {
                                return Ok(());
                            }
                        }
                        source.consume(length);
                        continue;
                    }
                    Err(fault) => fault,
                };
                let pending = source.rest().len();
                let (what, at, tried) = match fault {
                    Fault::Bad { at, what } => (what, at, at),
                    Fault::Incomplete if pending >= OBJECT_BYTES => {
                        ("an object of more than 16 MiB", 0, pending)
                    }
                    Fault::Incomplete if source.fill()? => continue,
                    Fault::Incomplete => ("the file ends inside an object", pending, pending),
                };
                let reason = format!("torn object: {what} at byte {}", offset + at as u64);
                let bytes = source.skip_torn_object(tried as u64)?;
                loss.add(offset, line, bytes, reason);
            }
            b'[' => {
                open_arrays += 1;
                source.consume(1);
            }
            b']' if open_arrays > 0 => {
                open_arrays -= 1;
                source.consume(1);
            }
            b',' => source.consume(1),
            _ => {
                let (offset, line) = (source.offset(), source.line);
                let bytes = source.skip_line()?;
                loss.add(offset, line, bytes, "not a JSON object".to_owned());
            }
        }
    }
    if loss.tell(each).is_break() {
        return Ok(());
    }
    if open_arrays > 0 {
        let _ = each(Item::Damage(Damage {
            offset: source.offset(),
            line: Some(source.line),
            reason: "the file ends before its array does".to_owned(),
            lost: Lost::Unknown,
        }));
    }
    Ok(())
}

/// Text lost since the last whole event. Neighbouring tears are told as one, so that a file of rubbish
/// is one line to read and not a million.
#[derive(Default)]
struct Loss(Option<Damage>);

impl Loss {
    fn add(&mut self, offset: u64, line: u64, more: u64, reason: String) {
        match &mut self.0 {
            Some(Damage { lost: Lost::Text { bytes }, .. }) => *bytes += more,
            _ => {
                let lost = Lost::Text { bytes: more };
                self.0 = Some(Damage { offset, line: Some(line), reason, lost });
            }
        }
    }

    fn tell(&mut self, each: &mut dyn FnMut(Item<'_>) -> ControlFlow<()>) -> ControlFlow<()> {
        match self.0.take() {
            Some(damage) => each(Item::Damage(damage)),
            None => ControlFlow::Continue(()),
        }
    }
}

/// The file's bytes from the first one not yet consumed, and where that one stands.
struct Source<R> {
    input: R,
    buffer: Vec<u8>,
    /// The first byte of `buffer` not yet consumed.
    start: usize,
    /// Where `buffer` stands in the file.
    base: u64,
    /// The line of the first byte not yet consumed, from one.
    line: u64,
    /// Where that line begins in the file.
    line_begins: u64,
    /// How many bytes were tried in vain and left to be tried again.
    tried_again: u64,
}

impl<R: Read> Source<R> {
    fn new(input: R) -> Self {
        Self {
            input,
            buffer: Vec::new(),
            start: 0,
            base: 0,
            line: 1,
            line_begins: 0,
            tried_again: 0,
        }
    }

    fn rest(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    fn offset(&self) -> u64 {
        self.base + self.start as u64
    }

    /// Reads more: as much as is pending, at least [`READ_BYTES`], so that a long object is tried a
    /// logarithmic number of times. Returns whether there was more.
    fn fill(&mut self) -> Result<bool, Unreadable> {
        self.buffer.drain(..self.start);
        self.base += self.start as u64;
        self.start = 0;
        let want = self.buffer.len().max(READ_BYTES) as u64;
        let got = self.input.by_ref().take(want).read_to_end(&mut self.buffer)?;
        Ok(got > 0)
    }

    /// Takes `length` bytes as done.
    fn consume(&mut self, length: usize) {
        let taken = &self.buffer[self.start..self.start + length];
        if let Some(last) = memchr::memrchr(b'\n', taken) {
            self.line += memchr::memchr_iter(b'\n', taken).count() as u64;
            self.line_begins = self.base + (self.start + last + 1) as u64;
        }
        self.start += length;
    }

    fn skip_byte_order_mark(&mut self) -> Result<(), Unreadable> {
        while self.rest().len() < 3 && self.fill()? {}
        if self.rest().starts_with(b"\xef\xbb\xbf") {
            self.start += 3;
        }
        Ok(())
    }

    /// The next byte that is not white space, not taken. `None` at the end of the file.
    fn next_byte(&mut self) -> Result<Option<u8>, Unreadable> {
        loop {
            let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
            if let Some(at) = self.rest().iter().position(|byte| !blank(byte)) {
                self.consume(at);
                return Ok(self.rest().first().copied());
            }
            self.consume(self.rest().len());
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    /// Skips to the end of the line. Returns how many bytes that was.
    fn skip_line(&mut self) -> Result<u64, Unreadable> {
        let from = self.offset();
        loop {
            if let Some(at) = memchr::memchr(b'\n', self.rest()) {
                self.consume(at + 1);
                break;
            }
            self.consume(self.rest().len());
            if !self.fill()? {
                break;
            }
        }
        Ok(self.offset() - from)
    }

    /// Skips an object that can't be read, to where the next one may begin. `tried` bytes of it were read
    /// to find that out.
    fn skip_torn_object(&mut self, tried: u64) -> Result<u64, Unreadable> {
        let from = self.offset();
        let mut tear = Tear::at_column(from - self.line_begins);
        loop {
            if let Some(at) = tear.end_in(self.rest()) {
                self.consume(at);
                break;
            }
            self.consume(self.rest().len());
            if !self.fill()? {
                break;
            }
        }
        let again = (from + tried).saturating_sub(self.offset());
        self.tried_again += again;
        if self.tried_again > from + TRIED_AGAIN_BYTES {
            self.tried_again -= again;
            self.skip_to(from + tried)?;
        }
        Ok(self.offset() - from)
    }

    /// Skips to byte `end` of the file.
    fn skip_to(&mut self, end: u64) -> Result<(), Unreadable> {
        while self.offset() < end {
            let left = usize::try_from(end - self.offset()).unwrap_or(usize::MAX);
            self.consume(left.min(self.rest().len()));
            if self.offset() < end && !self.fill()? {
                break;
            }
        }
        Ok(())
    }
}

/// Where a torn object ends: after its last brace, if its braces still balance; at the end of a line
/// inside a string, which no JSON has; or before a line that opens an object in the same column as the
/// torn one did. Whichever comes first.
struct Tear {
    column: u64,
    depth: u64,
    is_in_string: bool,
    is_escaped: bool,
    /// How many blanks the line has begun with, while it has begun with nothing else.
    indent: Option<u64>,
}

impl Tear {
    fn at_column(column: u64) -> Self {
        Self { column, depth: 0, is_in_string: false, is_escaped: false, indent: None }
    }

    fn end_in(&mut self, bytes: &[u8]) -> Option<usize> {
        for (at, &byte) in bytes.iter().enumerate() {
            if byte == b'\n' {
                if self.is_in_string {
                    return Some(at + 1);
                }
                self.indent = Some(0);
                continue;
            }
            match self.indent {
                Some(indent) if indent == self.column && byte == b'{' => return Some(at),
                Some(indent) if byte == b' ' || byte == b'\t' => self.indent = Some(indent + 1),
                _ => self.indent = None,
            }
            if self.is_in_string {
                match byte {
                    _ if self.is_escaped => self.is_escaped = false,
                    b'\\' => self.is_escaped = true,
                    b'"' => self.is_in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.is_in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(at + 1);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_model::event::{FieldTable, Source as EventSource, Value};
    use proptest::prelude::*;

    /// What a file gives: each event's `n`, and each damage's line and lost bytes.
    #[derive(Debug, PartialEq)]
    enum Got {
        Event(i64, u64),
        Lost(u64, Lost),
    }

    /// A reader that gives a few bytes at a time, so that every boundary is crossed.
    struct Dribble<'a>(&'a [u8], usize);
    impl Read for Dribble<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let length = self.1.min(self.0.len()).min(buffer.len());
            buffer[..length].copy_from_slice(&self.0[..length]);
            self.0 = &self.0[length..];
            Ok(length)
        }
    }

    fn read_all(bytes: &[u8]) -> Vec<Got> {
        let mut table = FieldTable::default();
        let n = table.intern("n");
        let reading =
            Reading { fields: &table, every_value: false, assumed: EventSource::default() };
        let mut got = Vec::new();
        read(Dribble(bytes, 7), &reading, &mut Scratch::default(), &mut |item| {
            got.push(match item {
                Item::Record(record) => {
                    assert!(
                        bytes[usize::try_from(record.offset).unwrap()..].starts_with(record.json())
                    );
                    let Some(Value::Int(n)) = record.event.first(n) else { panic!("{record:?}") };
                    Got::Event(*n, record.line.unwrap())
                }
                Item::Damage(damage) => Got::Lost(damage.line.unwrap(), damage.lost),
            });
            ControlFlow::Continue(())
        })
        .unwrap();
        got
    }

    fn lost(line: u64, bytes: u64) -> Got {
        Got::Lost(line, Lost::Text { bytes })
    }

    #[test]
    fn lines_arrays_pretty_print_and_objects_in_a_row_are_all_read() {
        for text in [
            "{\"n\":1}\n{\"n\":2}\n",
            "{\"n\":1}\r\n\r\n{\"n\":2}",
            "\u{feff}[{\"n\":1},\n{\"n\":2}]",
        ] {
            assert_eq!(read_all(text.as_bytes()).len(), 2, "{text}");
        }
        assert_eq!(read_all(b"{\"n\":1}{\"n\":2}"), [Got::Event(1, 1), Got::Event(2, 1)]);
        let pretty = b"[\n  {\n    \"n\": 1\n  },\n  {\n    \"n\": 2\n  }\n]";
        assert_eq!(read_all(pretty), [Got::Event(1, 2), Got::Event(2, 5)]);
    }

    #[test]
    fn a_torn_line_is_lost_alone_wherever_it_tears() {
        let line = "{\"n\":2,\"a\":{\"b\":[1,\"x\",{\"c\":null}]},\"d\":true}";
        for cut in 1..line.len() {
            let text = format!("{{\"n\":1}}\n{}\n{{\"n\":3}}\n", &line[..cut]);
            let got = read_all(text.as_bytes());
            assert_eq!(got[0], Got::Event(1, 1), "{text}");
            assert!(matches!(got[1], Got::Lost(2, Lost::Text { .. })), "{text} {got:?}");
            assert_eq!(got[2..], [Got::Event(3, 3)], "{text}");
        }
    }

    #[test]
    fn a_torn_object_in_a_pretty_array_is_lost_alone() {
        let text = "[\n  {\n    \"n\": 1\n  },\n  {\n    \"n\": ,\n    \"a\": {\n    }\n  },\n  {\n    \"n\": 3\n  }\n]";
        let got = read_all(text.as_bytes());
        assert_eq!(got.len(), 3, "{got:?}");
        assert!(matches!(
            (&got[0], &got[1], &got[2]),
            (Got::Event(1, 2), Got::Lost(5, _), Got::Event(3, 10))
        ));
    }

    #[test]
    fn rubbish_between_objects_is_told_once() {
        let got = read_all(b"{\"n\":1}\nhello\nworld\n\n{\"n\":2}");
        assert_eq!(got, [Got::Event(1, 1), lost(2, 12), Got::Event(2, 5)]);
    }

    #[test]
    fn a_file_cut_inside_an_object_or_an_array_says_so() {
        assert_eq!(read_all(b"{\"n\":1}\n{\"n\":"), [Got::Event(1, 1), lost(2, 5)]);
        assert_eq!(read_all(b"[{\"n\":1},"), [Got::Event(1, 1), Got::Lost(1, Lost::Unknown)]);
    }

    #[test]
    fn an_object_over_the_limit_is_skipped_and_the_next_is_read() {
        let long = "x".repeat(OBJECT_BYTES + READ_BYTES);
        let text = format!("{{\"n\":1,\"a\":\"{long}\"}}\n{{\"n\":2}}\n");
        let table = FieldTable::default();
        let reading =
            Reading { fields: &table, every_value: false, assumed: EventSource::default() };
        let mut got = Vec::new();
        read(text.as_bytes(), &reading, &mut Scratch::default(), &mut |item| {
            got.push(matches!(item, Item::Record(_)));
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(got, [false, true]);
    }

    #[test]
    fn lines_that_only_open_objects_cost_no_more_than_their_length() {
        // Each of 700,000 lines begins an object that all the following ones continue.
        let text = "{\"a\":\n".repeat(700_000);
        assert!(matches!(
            read_all(text.as_bytes())[..],
            [Got::Lost(1, Lost::Text { bytes: 4_200_000 })]
        ));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_always_end(bytes: Vec<u8>) {
            let table = FieldTable::default();
            let reading = Reading { fields: &table, every_value: true, assumed: EventSource::default() };
            read(bytes.as_slice(), &reading, &mut Scratch::default(), &mut |_| ControlFlow::Continue(())).unwrap();
        }

        #[test]
        fn bytes_changed_in_a_good_file_lose_no_line_but_their_own(
            at in 0usize..200, to: u8, lines in 3usize..8,
        ) {
            let line = "{\"n\":5,\"a\":{\"b\":[1,\"x\"]},\"d\":\"y\"}\n";
            let mut bytes = line.repeat(lines).into_bytes();
            let at = at % bytes.len();
            bytes[at] = to;
            let table = FieldTable::default();
            let reading = Reading { fields: &table, every_value: false, assumed: EventSource::default() };
            let mut records = 0;
            read(bytes.as_slice(), &reading, &mut Scratch::default(), &mut |item| {
                records += usize::from(matches!(item, Item::Record(_)));
                ControlFlow::Continue(())
            }).unwrap();
            // A changed byte spoils its line; a line end or a bracket changed may join it to the next.
            prop_assert!(records + 2 >= lines, "{} of {lines}", records);
        }
    }
}
