//! Whether a chunk is whole, and where its records are if so.
//!
//! Whole is: the records stand one after the other from the first place to where the header says that they end,
//! and the table of names can be read. In any other chunk the `evtx` crate looks for what is left.

use std::ops::Range;

use cordon_model::time::UtcNanos;
use evtx::EvtxChunkData;

use super::straight::LAST_FILETIME;
use super::{CHUNK_BYTES, CHUNK_HEADER_BYTES, RECORD_FRAME_BYTES, RECORD_MAGIC, read_u64};

/// A record's header, before its BinXML.
const RECORD_HEADER_BYTES: usize = 24;
/// Seconds from 1601, where a FILETIME begins, to 1970.
const UNIX_SECONDS: i64 = 11_644_473_600;
/// Most bytes of names that are looked at; a chunk of Windows' own has 2 KiB of them.
const NAME_BYTES: usize = 128 << 10;

/// One record of a chunk.
pub(super) struct Place {
    pub id: u64,
    /// By its header.
    pub time: Option<UtcNanos>,
    pub begins: usize,
    size: usize,
}

impl Place {
    /// Where its BinXML is.
    pub(super) fn binxml(&self) -> Range<usize> {
        let begins = self.begins + RECORD_HEADER_BYTES;
        begins..begins + self.size - RECORD_FRAME_BYTES as usize
    }
}

/// Every record of a whole chunk.
pub(super) fn records(data: &EvtxChunkData) -> Option<Vec<Place>> {
    let chunk = data.data.as_slice();
    let ends = data.header.free_space_offset as usize;
    if chunk.len() as u64 != CHUNK_BYTES || ends > chunk.len() || !names_are_whole(chunk) {
        return None;
    }
    let mut places = Vec::new();
    let mut at = CHUNK_HEADER_BYTES;
    while at < ends {
        let header = chunk.get(at..at + RECORD_HEADER_BYTES)?;
        let size = u32::from_le_bytes(*header.get(4..)?.first_chunk()?) as usize;
        let (id, filetime) = (read_u64(header, 8), read_u64(header, 16));
        let is_record = header.starts_with(RECORD_MAGIC) && filetime < LAST_FILETIME;
        if !is_record || size <= RECORD_FRAME_BYTES as usize || size > chunk.len() - at {
            return None;
        }
        places.push(Place { id, time: time(filetime), begins: at, size });
        at += size;
        if id == data.header.last_event_record_id {
            break;
        }
    }
    Some(places)
}

fn time(filetime: u64) -> Option<UtcNanos> {
    let ticks = i64::try_from(filetime).ok()?.checked_sub(UNIX_SECONDS * 10_000_000)?;
    ticks.checked_mul(100).map(UtcNanos::from_unix_nanos)
}

/// Whether every name that the header's table leads to can be read.
fn names_are_whole(chunk: &[u8]) -> bool {
    let Some(table) = chunk.get(128..128 + 64 * 4) else { return false };
    let mut seen = Seen::default();
    let mut looked_at = 0;
    for first in table.as_chunks::<4>().0 {
        let mut next = u32::from_le_bytes(*first) as usize;
        // One that was read already is the beginning of what was read with it.
        while next > 0 && !seen.has(next) {
            seen.add(next);
            let Some(name) = name_at(chunk, next) else { return false };
            looked_at += name.len();
            let is_half = |unit: &[u8; 2]| unit[1] & 0xf8 == 0xd8;
            if looked_at > NAME_BYTES || name.as_chunks::<2>().0.iter().any(is_half) {
                return false;
            }
            let Some(link) = chunk.get(next..).and_then(|rest| rest.first_chunk()) else {
                return false;
            };
            next = u32::from_le_bytes(*link) as usize;
        }
    }
    true
}

/// The characters of the name at `at`, which a zero has to follow.
fn name_at(chunk: &[u8], at: usize) -> Option<&[u8]> {
    let length = 2 * usize::from(u16::from_le_bytes(*chunk.get(at + 6..)?.first_chunk()?));
    let name = chunk.get(at + 8..at + 8 + length + 2)?;
    name.get(..length)
}

/// A set of places in a chunk: most chunks have a few dozen names.
#[derive(Default)]
struct Seen(Vec<u64>);

impl Seen {
    fn has(&self, at: usize) -> bool {
        self.0.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    fn add(&mut self, at: usize) {
        if self.0.is_empty() {
            self.0.resize(CHUNK_BYTES as usize / 64 + 1, 0);
        }
        if let Some(word) = self.0.get_mut(at / 64) {
            *word |= 1 << (at % 64);
        }
    }
}
