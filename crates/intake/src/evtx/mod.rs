//! Windows event logs (EVTX): a 4 KiB header, then chunks of 64 KiB, each readable alone.
//!
//! The chunks are walked here, so that each damage is known by its byte and the next chunk goes on. The
//! records of a chunk are read straight into events while they are of the usual form ([`straight`]). From the
//! first one that is not, they are read by the `evtx` crate, which renders a record to JSON; that JSON goes
//! through the same reader as JSON from anywhere else ([`crate::json::shape`]). Both give the same.
//!
//! What the crate gives up on is tried again here: a chunk without its magic, a file without its header,
//! a last chunk cut short.

pub(crate) mod straight;
mod whole;

use std::io::{Read, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::sync::Arc;

use cordon_model::event::Event;
use cordon_model::time::UtcNanos;
use evtx::err::{ChunkError, EvtxError};
use evtx::{EvtxChunkData, EvtxFileHeader, EvtxRecordHeader, ParserSettings};

use crate::damage::{Damage, Lost, Unreadable};
use crate::gathered::VALUES;
use crate::json::shape::{Scratch, Shaped, read_event};
use crate::{Item, Reading, Record, Text};
use straight::Straight;

/// The file header's block.
pub(crate) const HEADER_BYTES: u64 = 4096;
/// One chunk.
const CHUNK_BYTES: u64 = 65536;
/// A chunk's own header, at its start.
const CHUNK_HEADER_BYTES: usize = 512;
/// A record's header, and the copy of its size that ends it.
const RECORD_FRAME_BYTES: u64 = 24 + 4;

pub(crate) const FILE_MAGIC: &[u8] = b"ElfFile\0";
pub(crate) const CHUNK_MAGIC: &[u8] = b"ElfChnk\0";
const RECORD_MAGIC: &[u8] = b"\x2a\x2a\x00\x00";

type Each<'e> = dyn FnMut(Item<'_>) -> ControlFlow<()> + 'e;

/// What is used again for chunk after chunk. Belongs to one [`Reading`].
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub text: Scratch,
    pub straight: Straight,
    /// A chunk's bytes.
    pub chunk: Vec<u8>,
    /// Whether every record is read by the `evtx` crate, for comparison.
    pub is_all_by_text: bool,
}

/// Reads every record of an event log of `length` bytes.
pub(crate) fn read<R: Read + Seek>(
    mut input: R,
    length: u64,
    reading: &Reading<'_>,
    memory: &mut Memory,
    each: &mut Each<'_>,
) -> Result<(), Unreadable> {
    if length < HEADER_BYTES {
        return Err(Unreadable::CutHeader { bytes: length });
    }
    let mut header = [0; HEADER_BYTES as usize];
    input.seek(SeekFrom::Start(0))?;
    input.read_exact(&mut header)?;
    let reason = match EvtxFileHeader::from_bytes(&header) {
        Ok(header) if header.validate_checksum() => None,
        Ok(_) => Some("the file header's checksum is wrong; its chunks are read all the same"),
        Err(_) => Some("the file header is not one; its chunks are read all the same"),
    };
    if let Some(reason) = reason {
        let damage =
            Damage { offset: 0, line: None, reason: reason.to_owned(), lost: Lost::Nothing };
        if each(Item::Damage(damage)).is_break() {
            return Ok(());
        }
    }

    let of = (length - HEADER_BYTES).div_ceil(CHUNK_BYTES);
    let oldest = oldest_chunk(&mut input, of)?;
    let settings = Arc::new(ParserSettings::new().indent(false));
    let mut bytes = std::mem::take(&mut memory.chunk);
    for number in (oldest..of).chain(0..oldest) {
        let offset = HEADER_BYTES + number * CHUNK_BYTES;
        input.seek(SeekFrom::Start(offset))?;
        fill(&mut input, CHUNK_BYTES as usize, &mut bytes)?;
        let chunk = Chunk { number, of, offset, settings: &settings, reading };
        match chunk.read(std::mem::take(&mut bytes), memory, each) {
            ControlFlow::Continue(spent) => bytes = spent,
            ControlFlow::Break(()) => return Ok(()),
        }
    }
    memory.chunk = bytes;
    Ok(())
}

/// Reads `length` bytes to `into`, or what there is of them.
pub(crate) fn fill<R: Read>(
    input: &mut R,
    length: usize,
    into: &mut Vec<u8>,
) -> std::io::Result<()> {
    // What was read before is written over; to clear it first would cost as much as to read.
    into.resize(length, 0);
    let mut filled = 0;
    while let Some(rest) = into.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match input.read(rest) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    into.truncate(filled);
    Ok(())
}

/// The chunk that holds the oldest records. A full log writes each new chunk over its oldest one, so the
/// records' order starts there; the file header's own word for it can be stale.
fn oldest_chunk<R: Read + Seek>(input: &mut R, of: u64) -> Result<u64, Unreadable> {
    if of < 2 {
        return Ok(0);
    }
    let mut oldest = (u64::MAX, 0);
    let mut header = [0; 40];
    for number in 0..of {
        input.seek(SeekFrom::Start(HEADER_BYTES + number * CHUNK_BYTES))?;
        if input.read_exact(&mut header).is_err() {
            break;
        }
        let first = read_u64(&header, 24);
        let is_ordered = first <= read_u64(&header, 32);
        if header.starts_with(CHUNK_MAGIC) && is_ordered && first < oldest.0 {
            oldest = (first, number);
        }
    }
    Ok(oldest.1)
}

fn read_u64(bytes: &[u8], at: usize) -> u64 {
    let field = bytes.get(at..at + 8).and_then(|field| field.try_into().ok());
    u64::from_le_bytes(field.unwrap_or_default())
}

/// One chunk and where it stands.
struct Chunk<'c> {
    number: u64,
    of: u64,
    /// Where it begins in the file.
    offset: u64,
    settings: &'c Arc<ParserSettings>,
    reading: &'c Reading<'c>,
}

impl Chunk<'_> {
    /// Reads the chunk. Gives its buffer back for the next one.
    fn read(
        &self,
        bytes: Vec<u8>,
        memory: &mut Memory,
        each: &mut Each<'_>,
    ) -> ControlFlow<(), Vec<u8>> {
        let is_chunk = bytes.starts_with(CHUNK_MAGIC);
        if !is_chunk && is_blank(&bytes) {
            return ControlFlow::Continue(bytes); // never written
        }
        if bytes.len() < CHUNK_HEADER_BYTES {
            let lost = Lost::Records { ids: None, bytes: bytes.len() as u64 };
            self.tell(each, 0, "the file ends inside a chunk's header".to_owned(), lost)?;
            return ControlFlow::Continue(bytes);
        }
        if !is_chunk {
            return self.salvage(bytes, "the chunk does not begin as one", memory, each);
        }
        let data = match EvtxChunkData::new(bytes, false) {
            Ok(data) => data,
            // Only its magic and length are checked, and both hold; if the crate comes to check more,
            // the chunk is lost and said to be.
            Err(error) => {
                self.tell(each, 0, sentence(&error), self.lost(0))?;
                return ControlFlow::Continue(Vec::new());
            }
        };
        if !data.validate_header_checksum() {
            let reason = "the chunk header's checksum is wrong".to_owned();
            self.tell(each, 0, reason, Lost::Nothing)?;
        } else if !data.validate_data_checksum() {
            let reason = "the chunk's checksum is wrong".to_owned();
            self.tell(each, 0, reason, Lost::Nothing)?;
        }
        self.each_record(data, memory, each)
    }

    /// Finds records in a chunk whose header can't be used, by their own marks: a header is made that
    /// says nothing but "look everywhere".
    fn salvage(
        &self,
        mut bytes: Vec<u8>,
        reason: &str,
        memory: &mut Memory,
        each: &mut Each<'_>,
    ) -> ControlFlow<(), Vec<u8>> {
        let mut salvaged = 0;
        if let Some(first) = memchr::memmem::find(&bytes[CHUNK_HEADER_BYTES..], RECORD_MAGIC) {
            let end = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
            bytes[..CHUNK_HEADER_BYTES].fill(0);
            bytes[..8].copy_from_slice(CHUNK_MAGIC);
            bytes[16..24].fill(0xff); // last record's number
            bytes[32..40].fill(0xff); // last record's id
            bytes[40] = 128; // header size
            bytes[44..48].copy_from_slice(&end); // last record's offset
            bytes[48..52].copy_from_slice(&end); // free space's offset
            // Junk before the first record would be reported as a gap of its own.
            let first = CHUNK_HEADER_BYTES + first;
            if first > CHUNK_HEADER_BYTES {
                bytes[CHUNK_HEADER_BYTES..first].fill(0);
            }
            if let Ok(data) = EvtxChunkData::new(bytes, false) {
                bytes = self.each_record(data, memory, &mut |item| match item {
                    Item::Record(record) => {
                        salvaged += 1;
                        each(Item::Record(record))
                    }
                    // The chunk is reported as a whole.
                    Item::Damage(_) => ControlFlow::Continue(()),
                })?;
            } else {
                bytes = Vec::new();
            }
        }
        self.tell(each, 0, reason.to_owned(), self.lost(salvaged))?;
        ControlFlow::Continue(bytes)
    }

    /// Every record of a chunk, as event and JSON, and every gap between them.
    fn each_record(
        &self,
        mut data: EvtxChunkData,
        memory: &mut Memory,
        each: &mut Each<'_>,
    ) -> ControlFlow<(), Vec<u8>> {
        // Up to where the records were told.
        let mut until = 0;
        if !memory.is_all_by_text
            && let Some(places) = whole::records(&data)
        {
            let told = self.each_straight(&data, &places, &mut memory.straight, each)?;
            let Some(next) = places.get(told) else { return ControlFlow::Continue(data.data) };
            until = next.begins as u64;
        }
        let last_id = data.header.last_event_record_id;
        let mut seen = Seen { end: CHUNK_HEADER_BYTES as u64, id: None, gap: None };
        let mut unusable = None;
        let is_cut = (data.data.len() as u64) < CHUNK_BYTES;
        match data.parse(Arc::clone(self.settings)) {
            Ok(mut chunk) => {
                let bytes = chunk.data;
                for record in chunk.iter() {
                    match record {
                        Ok(record) => {
                            let begins = record.binxml_offset.saturating_sub(24);
                            self.close_gap(&mut seen, Some(record.event_record_id), begins, each)?;
                            seen.end = begins + u64::from(record.binxml_size) + RECORD_FRAME_BYTES;
                            seen.id = Some(record.event_record_id);
                            if begins < until {
                                continue;
                            }
                            self.one_record(record, begins, &mut memory.text, each)?;
                        }
                        Err(EvtxError::FailedToParseRecord { record_id, source }) => {
                            let begins = place_of(bytes, record_id, seen.end);
                            self.close_gap(&mut seen, Some(record_id), begins, each)?;
                            let size = EvtxRecordHeader::from_bytes(&bytes[begins as usize..])
                                .map_or(0, |header| u64::from(header.data_size));
                            seen.end = begins + size;
                            seen.id = Some(record_id);
                            if begins < until {
                                continue;
                            }
                            let lost = Lost::Record { id: record_id, bytes: size };
                            self.tell(each, begins, sentence(&source), lost)?;
                        }
                        Err(EvtxError::FailedToReadRecordAt { offset, source, .. }) => {
                            seen.gap = Some((offset, sentence(&source)));
                        }
                        Err(error) => seen.gap = Some((seen.end, sentence(&error))),
                    }
                }
                let end = bytes.len() as u64;
                let after = seen.id.is_none_or(|id| id < last_id).then(|| last_id.wrapping_add(1));
                if is_cut && seen.gap.is_none() && after.is_some() {
                    let reason = format!("the file ends {end} bytes into a chunk of {CHUNK_BYTES}");
                    seen.gap = Some((seen.end.min(end), reason));
                }
                self.close_gap(&mut seen, after, end, each)?;
            }
            Err(error) => unusable = Some(error),
        }
        let Some(error) = unusable else { return ControlFlow::Continue(data.data) };
        let mut bytes = data.data;
        let names = &mut bytes[128..CHUNK_HEADER_BYTES];
        let is_names_table = matches!(error, ChunkError::FailedToBuildStringCache { .. })
            && names.iter().any(|byte| *byte != 0);
        if !is_names_table {
            self.tell(each, 0, sentence(&error), self.lost(0))?;
            return ControlFlow::Continue(bytes);
        }
        // The names themselves stand beside the records that use them first, and are found without
        // their table.
        names.fill(0);
        self.tell(each, 0, "the chunk's table of names is damaged".to_owned(), Lost::Nothing)?;
        match EvtxChunkData::new(bytes, false) {
            Ok(data) => self.each_record(data, memory, each),
            Err(_) => ControlFlow::Continue(Vec::new()),
        }
    }

    /// The chunk's first records, while they can be read straight. Returns how many those are.
    fn each_straight(
        &self,
        data: &EvtxChunkData,
        places: &[whole::Place],
        straight: &mut Straight,
        each: &mut Each<'_>,
    ) -> ControlFlow<(), usize> {
        straight.begin_chunk();
        for (number, place) in places.iter().enumerate() {
            let read = straight.read(&data.data, place.binxml(), self.reading);
            let Some((event, told)) = read else { return ControlFlow::Continue(number) };
            let text = Text::BinXml(told);
            self.tell_record(event, text, place.id, place.time, place.begins as u64, each)?;
        }
        ControlFlow::Continue(places.len())
    }

    fn tell_record(
        &self,
        mut event: Event<'_>,
        text: Text<'_>,
        id: u64,
        time: Option<UtcNanos>,
        begins: u64,
        each: &mut Each<'_>,
    ) -> ControlFlow<()> {
        event.record_id = event.record_id.or(Some(id));
        event.time = event.time.or(time);
        event.source.product = Some("windows".into());
        each(Item::Record(Record::new(event, text, self.offset + begins, None)))
    }

    fn one_record(
        &self,
        record: evtx::EvtxRecord<'_>,
        begins: u64,
        scratch: &mut Scratch,
        each: &mut Each<'_>,
    ) -> ControlFlow<()> {
        let (id, stamp) = (record.event_record_id, record.timestamp);
        let lost = Lost::Record { id, bytes: u64::from(record.binxml_size) + RECORD_FRAME_BYTES };
        let rendered = match record.into_json_bytes() {
            Ok(rendered) => rendered,
            Err(error) => return self.tell(each, begins, sentence(&error), lost),
        };
        let Ok(shaped) = read_event(&rendered.data, self.reading, scratch) else {
            return self.tell(each, begins, "the record's text is not an event".to_owned(), lost);
        };
        let Shaped { event, length, left_out } = shaped;
        let time = i64::try_from(stamp.as_nanosecond()).ok().map(UtcNanos::from_unix_nanos);
        let text = Text::Json(&rendered.data[..length]);
        self.tell_record(event, text, id, time, begins, each)?;
        if left_out > 0 {
            let lost = Lost::Values { values: left_out };
            self.tell(each, begins, format!("record {id} has more than {VALUES} values"), lost)?;
        }
        ControlFlow::Continue(())
    }

    /// Reports the run of unreadable bytes that ends where record `next` begins.
    fn close_gap(
        &self,
        seen: &mut Seen,
        next: Option<u64>,
        ends: u64,
        each: &mut Each<'_>,
    ) -> ControlFlow<()> {
        let Some((begins, reason)) = seen.gap.take() else { return ControlFlow::Continue(()) };
        // A gap in the middle of a log that counts by one has the numbers between its neighbours.
        let ids = match (seen.id, next) {
            (Some(before), Some(after)) if after > before.saturating_add(1) => {
                Some((before + 1, after - 1))
            }
            _ => None,
        };
        let lost = Lost::Records { ids, bytes: ends.saturating_sub(begins) };
        self.tell(each, begins, reason, lost)
    }

    fn lost(&self, salvaged: u64) -> Lost {
        Lost::Chunk { number: self.number, of: self.of, bytes: CHUNK_BYTES, salvaged }
    }

    fn tell(&self, each: &mut Each<'_>, at: u64, reason: String, lost: Lost) -> ControlFlow<()> {
        each(Item::Damage(Damage { offset: self.offset + at, line: None, reason, lost }))
    }
}

/// How far a chunk has been read.
struct Seen {
    /// Where the last record ended.
    end: u64,
    /// Its number.
    id: Option<u64>,
    /// Where reading failed since, and why.
    gap: Option<(u64, String)>,
}

/// Whether all bytes are zero. Compared in blocks, which is thirty times faster than one by one: most of
/// a young log is unused chunks.
fn is_blank(bytes: &[u8]) -> bool {
    const ZEROES: [u8; 1024] = [0; 1024];
    bytes.chunks(ZEROES.len()).all(|block| *block == ZEROES[..block.len()])
}

/// Where in the chunk record `id` begins: at `expected` if it is there, else wherever its mark is.
fn place_of(chunk: &[u8], id: u64, expected: u64) -> u64 {
    let is_here =
        |at: usize| chunk.get(at..at + 4) == Some(RECORD_MAGIC) && read_u64(chunk, at + 8) == id;
    let start = usize::try_from(expected).unwrap_or(usize::MAX);
    if is_here(start) {
        return expected;
    }
    // Only from there on: records are met in order, and a hostile chunk may have many to look for.
    let start = start.min(chunk.len());
    memchr::memmem::find_iter(&chunk[start..], RECORD_MAGIC)
        .map(|at| start + at)
        .find(|at| is_here(*at))
        .map_or(start as u64, |at| at as u64)
}

/// An error and its causes in one line, without the crate's capitals, full stops and words that say
/// nothing.
fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = String::new();
    let mut cause = Some(error);
    while let Some(error) = cause {
        cause = error.source();
        let said = error.to_string();
        if cause.is_some() && said.starts_with("An error occurred") {
            continue;
        }
        let said = said.trim_end_matches('.');
        if !text.is_empty() {
            text.push_str(": ");
        }
        let mut letters = said.chars();
        if let Some(first) = letters.next() {
            text.extend(first.to_lowercase());
            text.push_str(letters.as_str());
        }
    }
    text
}
