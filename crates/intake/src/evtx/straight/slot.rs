//! One value of a record, as it stands in the chunk: whether it is of a form that is read here, and what it is
//! as text, as JSON and as an event's value.
//!
//! The forms are MS-EVEN6's (section 2.2.12) in the words of the `evtx` crate, whose text for each of them is
//! ours, byte by byte. What is not read here (floating point, most lists) makes the
//! record one for the crate.

use std::ops::Range;

use cordon_model::event::Value;
use cordon_model::time::UtcNanos;

use crate::gathered::Found;

/// A value's place and type.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub at: u32,
    pub length: u16,
    pub kind: u8,
}

pub(super) const NULL: u8 = 0x00;
const TEXT: u8 = 0x01;
const ANSI: u8 = 0x02;
const I8: u8 = 0x03;
const U8: u8 = 0x04;
const I16: u8 = 0x05;
const U16: u8 = 0x06;
const I32: u8 = 0x07;
const U32: u8 = 0x08;
const I64: u8 = 0x09;
const U64: u8 = 0x0a;
const BOOL: u8 = 0x0d;
const BINARY: u8 = 0x0e;
const GUID: u8 = 0x0f;
const POINTER: u8 = 0x10;
const FILETIME: u8 = 0x11;
const SYSTEMTIME: u8 = 0x12;
const SID: u8 = 0x13;
const HEX32: u8 = 0x14;
const HEX64: u8 = 0x15;
pub(super) const BINXML: u8 = 0x21;
pub(super) const TEXTS: u8 = 0x81;

/// The first FILETIME that is after what a record's header may say: 9999-12-30 22:00 UTC.
pub(crate) const LAST_FILETIME: u64 = 2_650_466_808_000_000_000;
/// 1970 as a FILETIME, which counts from 1601 in steps of 100 ns.
const UNIX_FILETIME: i64 = 116_444_736_000_000_000;
const TICKS_PER_SECOND: u64 = 10_000_000;
const TICKS_PER_DAY: u64 = 86_400 * TICKS_PER_SECOND;

/// Whether `bytes` are a value of type `kind` that is read here.
pub(super) fn is_read(kind: u8, bytes: &[u8]) -> bool {
    match kind {
        NULL | BINARY | BINXML => true,
        TEXT => bytes.len().is_multiple_of(2),
        ANSI => bytes.iter().all(|byte| matches!(byte, 0 | b' '..=b'~')),
        I8 | U8 => bytes.len() == 1,
        I16 | U16 => bytes.len() == 2,
        I32 | U32 | BOOL | HEX32 => bytes.len() == 4,
        I64 | U64 | FILETIME | HEX64 => bytes.len() == 8,
        POINTER => matches!(bytes.len(), 4 | 8),
        GUID | SYSTEMTIME => bytes.len() == 16,
        SID => bytes.get(1).is_some_and(|count| bytes.len() == 8 + 4 * usize::from(*count)),
        TEXTS => bytes.len().is_multiple_of(2) && bytes.ends_with(&[0, 0]),
        _ => false,
    }
}

impl Slot {
    fn range(self) -> Range<usize> {
        self.at as usize..self.at as usize + usize::from(self.length)
    }

    /// The value's bytes.
    pub(super) fn bytes(self, chunk: &[u8]) -> &[u8] {
        chunk.get(self.range()).unwrap_or_default()
    }

    /// Whether it is no value at all: elements that depend on it are left out.
    pub(super) fn is_null(self) -> bool {
        self.kind == NULL || (self.kind == BINXML && self.length == 0)
    }

    /// Whether there is nothing to show of it.
    pub(super) fn is_empty(self, chunk: &[u8]) -> bool {
        match self.kind {
            NULL => true,
            TEXT => self.length == 0 || self.bytes(chunk).starts_with(&[0, 0]),
            ANSI => self.bytes(chunk).iter().all(|byte| *byte == 0),
            BINARY | BINXML => self.length == 0,
            _ => false,
        }
    }

    /// The instant that it is, if it is one; the outer None when that is not known here.
    pub(super) fn time(self, chunk: &[u8]) -> Option<Option<UtcNanos>> {
        let filetime = unsigned(self.bytes(chunk));
        if self.kind != FILETIME || filetime >= LAST_FILETIME {
            return None;
        }
        let nanos = i64::try_from(filetime)
            .ok()
            .and_then(|ticks| ticks.checked_sub(UNIX_FILETIME)?.checked_mul(100));
        Some(nanos.map(UtcNanos::from_unix_nanos))
    }

    /// The value of an event, a text put at the end of `arena`.
    pub(super) fn found(self, chunk: &[u8], arena: &mut Vec<u8>) -> Found {
        let bytes = self.bytes(chunk);
        match self.kind {
            BOOL if matches!(signed(bytes), 0 | 1) => Found::Plain(Value::Bool(signed(bytes) == 1)),
            I8 | I16 | I32 | I64 | BOOL => Found::Plain(Value::Int(signed(bytes))),
            U8 | U16 | U32 | U64 => Found::Plain(match i64::try_from(unsigned(bytes)) {
                Ok(number) => Value::Int(number),
                Err(_) => Value::Unsigned(unsigned(bytes)),
            }),
            _ => {
                let from = arena.len();
                self.put_text(bytes, arena);
                Found::Text(from..arena.len())
            }
        }
    }

    /// The value as JSON, put at the end of `out`.
    pub(super) fn put_json(self, chunk: &[u8], out: &mut Vec<u8>) {
        let bytes = self.bytes(chunk);
        match self.kind {
            BOOL if matches!(signed(bytes), 0 | 1) => {
                out.extend_from_slice(if signed(bytes) == 1 { b"true" } else { b"false" });
            }
            I8 | I16 | I32 | I64 | BOOL => {
                let number = signed(bytes);
                if number < 0 {
                    out.push(b'-');
                }
                put_decimal(number.unsigned_abs(), out);
            }
            U8 | U16 | U32 | U64 => put_decimal(unsigned(bytes), out),
            _ => put_quoted(out, |out| self.put_text(bytes, out)),
        }
    }

    fn put_text(self, bytes: &[u8], out: &mut Vec<u8>) {
        match self.kind {
            TEXT => put_utf16(bytes, out),
            ANSI => out.extend(bytes.iter().filter(|byte| **byte != 0)),
            BINARY => bytes.iter().for_each(|byte| put_hex(*byte, b"0123456789ABCDEF", out)),
            GUID => put_guid(bytes, out),
            FILETIME => put_time(unsigned(bytes), out),
            SYSTEMTIME => put_calendar_time(bytes, out),
            SID => put_sid(bytes, out),
            HEX32 | HEX64 | POINTER => put_hex_number(unsigned(bytes), out),
            _ => {}
        }
    }
}

/// The texts of a list, each without the zero that ends it.
pub(super) fn texts(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let end = rest.chunks_exact(2).position(|unit| unit == [0, 0])? * 2;
        let item = rest.get(..end)?;
        rest = rest.get(end + 2..)?;
        Some(item)
    })
}

fn unsigned(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[expect(clippy::cast_possible_wrap, reason = "the sign is the highest bit of what was written")]
fn signed(bytes: &[u8]) -> i64 {
    let unused = 64 - 8 * bytes.len().min(8);
    if unused == 64 { 0 } else { (unsigned(bytes) << unused) as i64 >> unused }
}

/// What `put` puts at the end of `out`, as a JSON string.
pub(super) fn put_quoted(out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'"');
    let from = out.len();
    put(out);
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1f);
    if out.get(from..).is_some_and(|text| text.iter().any(is_special)) {
        let text = out.split_off(from);
        put_escaped(&text, out);
    }
    out.push(b'"');
}

/// `text` with JSON's escapes.
pub(super) fn put_escaped(text: &[u8], out: &mut Vec<u8>) {
    for byte in text {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            0..=0x1f => {
                out.extend_from_slice(b"\\u00");
                put_hex(*byte, b"0123456789ABCDEF", out);
            }
            _ => out.push(*byte),
        }
    }
}

/// UTF-16 as UTF-8, to the first zero. What is half a character becomes U+FFFD.
pub(super) fn put_utf16(bytes: &[u8], out: &mut Vec<u8>) {
    let mut rest = bytes;
    // Most texts are ASCII: eight characters at once while they are.
    while let Some((block, after)) = rest.split_first_chunk::<16>() {
        let (mut narrow, mut all, mut has_zero) = ([0; 8], 0, false);
        for (byte, unit) in narrow.iter_mut().zip(block.as_chunks::<2>().0) {
            let unit = u16::from_le_bytes(*unit);
            all |= unit;
            has_zero |= unit == 0;
            *byte = (unit & 0x7f) as u8;
        }
        if all > 0x7f || has_zero {
            break;
        }
        out.extend_from_slice(&narrow);
        rest = after;
    }
    let units = rest.as_chunks::<2>().0.iter().map(|unit| u16::from_le_bytes(*unit));
    for character in char::decode_utf16(units.take_while(|unit| *unit != 0)) {
        let character = character.unwrap_or(char::REPLACEMENT_CHARACTER);
        if character.is_ascii() {
            out.push(character as u8);
        } else {
            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
}

fn put_hex(byte: u8, digits: &[u8; 16], out: &mut Vec<u8>) {
    out.extend_from_slice(&[digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]);
}

fn put_hex_number(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0x");
    let digits = (64 - number.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        out.push(b"0123456789abcdef"[(number >> (4 * place) & 15) as usize]);
    }
}

fn put_decimal(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut from = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        from -= 1;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(from..).unwrap_or_default());
}

fn put_guid(bytes: &[u8], out: &mut Vec<u8>) {
    const ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    out.push(b'{');
    for (place, byte) in ORDER.iter().filter_map(|at| bytes.get(*at)).enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        put_hex(*byte, b"0123456789abcdef", out);
    }
    out.push(b'}');
}

fn put_sid(bytes: &[u8], out: &mut Vec<u8>) {
    let Some((&[revision, _, ref authority @ ..], parts)) = bytes.split_first_chunk::<8>() else {
        return;
    };
    out.extend_from_slice(b"S-");
    put_decimal(u64::from(revision), out);
    out.push(b'-');
    put_decimal(authority.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)), out);
    for part in parts.chunks_exact(4) {
        out.push(b'-');
        put_decimal(unsigned(part), out);
    }
}

/// A FILETIME as Windows shows it. Years past 9999 keep their last four digits, and a time past `i64::MAX`
/// is all zeros.
fn put_time(filetime: u64, out: &mut Vec<u8>) {
    if i64::try_from(filetime).is_err() {
        return put_date_and_time([0; 7], out);
    }
    let (year, month, day) = date(filetime / TICKS_PER_DAY);
    let seconds = filetime % TICKS_PER_DAY / TICKS_PER_SECOND;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    put_date_and_time([year, month, day, hour, minute, second, filetime % TICKS_PER_SECOND], out);
}

/// A SYSTEMTIME as Windows shows it: one that is no time is the beginning of 1601.
fn put_calendar_time(bytes: &[u8], out: &mut Vec<u8>) {
    let mut fields = [0; 8];
    for (field, bytes) in fields.iter_mut().zip(bytes.chunks_exact(2)) {
        *field = unsigned(bytes);
    }
    let [year, month, _, day, hour, minute, second, millis] = fields;
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let is_date = (1601..=30827).contains(&year) && (1..=12).contains(&month);
    let is_time = hour < 24 && minute < 60 && second < 60 && millis < 1000;
    if is_date && is_time && (1..=days).contains(&day) {
        put_date_and_time([year, month, day, hour, minute, second, millis * 10_000], out);
    } else {
        put_date_and_time([1601, 1, 1, 0, 0, 0, 0], out);
    }
}

/// Year, month, day, hour, minute, second, and steps of 100 ns.
fn put_date_and_time(fields: [u64; 7], out: &mut Vec<u8>) {
    let mut text = *b"0000-00-00T00:00:00.0000000Z";
    let places = [0..4, 5..7, 8..10, 11..13, 14..16, 17..19, 20..27];
    for (places, mut number) in places.into_iter().zip(fields) {
        for place in text.get_mut(places).unwrap_or_default().iter_mut().rev() {
            *place = b'0' + (number % 10) as u8;
            number /= 10;
        }
    }
    out.extend_from_slice(&text);
}

/// Year, month and day, `days` after 1601-01-01: Howard Hinnant's `civil_from_days`, which counts from
/// 0000-03-01 in eras of 400 years.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 584_694;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}
