//! Writes small Windows event logs for tests, after the format's published description
//! (MS-EVEN6 section 2.2.12 for BinXML, libevtx for file, chunk and record).
//!
//! Records are template instances, as Windows writes them: the template stands inside the first record
//! of a chunk that uses it, later ones refer to it.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that can't write its input has failed"
)]

use std::collections::HashMap;

pub mod forms;

pub const HEADER: usize = 4096;
pub const CHUNK: usize = 65536;
pub const FIRST_RECORD: usize = 512;

/// One event to write.
#[derive(Clone)]
pub struct TestEvent<'e> {
    pub provider: &'e str,
    pub event_id: u16,
    pub channel: &'e str,
    pub computer: &'e str,
    /// Seconds since 1970.
    pub time: u64,
    pub data: &'e [(&'e str, &'e str)],
}

/// A log being written: chunks of records, one record id after another from 1.
#[derive(Default)]
pub struct TestLog {
    chunks: Vec<ChunkWriter>,
    last_id: u64,
}

#[derive(Default)]
struct ChunkWriter {
    bytes: Vec<u8>,
    first_id: u64,
    last_id: u64,
    last_offset: usize,
    /// Where each template of this chunk stands, by provider and names.
    templates: HashMap<Vec<String>, u32>,
    /// Where each record begins and ends.
    records: Vec<(u64, usize, usize)>,
}

impl TestLog {
    /// Begins a new chunk.
    pub fn chunk(&mut self) -> &mut Self {
        let first_id = self.last_id + 1;
        let bytes = vec![0; FIRST_RECORD];
        self.chunks.push(ChunkWriter { bytes, first_id, ..ChunkWriter::default() });
        self
    }

    /// Adds one record to the last chunk.
    pub fn event(&mut self, event: &TestEvent<'_>) -> &mut Self {
        if self.chunks.is_empty() {
            self.chunk();
        }
        self.last_id += 1;
        self.chunks.last_mut().unwrap().record(self.last_id, event);
        self
    }

    /// Where record `id` begins in the file, and where it ends.
    pub fn place_of(&self, id: u64) -> (usize, usize) {
        for (number, chunk) in self.chunks.iter().enumerate() {
            if let Some((_, begins, ends)) = chunk.records.iter().find(|(record, ..)| *record == id)
            {
                let base = HEADER + number * CHUNK;
                return (base + begins, base + ends);
            }
        }
        panic!("no record {id}")
    }

    /// The whole file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut header = vec![0; HEADER];
        header[..8].copy_from_slice(b"ElfFile\0");
        put(&mut header, 16, &(self.chunks.len() as u64 - 1).to_le_bytes());
        put(&mut header, 24, &(self.last_id + 1).to_le_bytes());
        put(&mut header, 32, &128u32.to_le_bytes());
        put(&mut header, 36, &1u16.to_le_bytes());
        put(&mut header, 38, &3u16.to_le_bytes());
        put(&mut header, 40, &(HEADER as u16).to_le_bytes());
        put(&mut header, 42, &(self.chunks.len() as u16).to_le_bytes());
        let sum = crc32(&header[..120]);
        put(&mut header, 124, &sum.to_le_bytes());
        self.chunks.iter().fold(header, |mut file, chunk| {
            file.extend(chunk.bytes());
            file
        })
    }
}

impl ChunkWriter {
    fn record(&mut self, id: u64, event: &TestEvent<'_>) {
        let begins = self.bytes.len();
        self.bytes.extend(b"\x2a\x2a\x00\x00");
        self.bytes.extend([0; 4]); // size, filled in below
        self.bytes.extend(id.to_le_bytes());
        let filetime = (event.time + 11_644_473_600) * 10_000_000;
        self.bytes.extend(filetime.to_le_bytes());
        self.bytes.extend([0x0f, 1, 1, 0]); // fragment header
        self.bytes.extend([0x0c, 1]); // template instance
        self.bytes.extend(7u32.to_le_bytes());
        let mut key = vec![event.provider.to_owned()];
        key.extend(event.data.iter().map(|(name, _)| (*name).to_owned()));
        if let Some(offset) = self.templates.get(&key) {
            self.bytes.extend(offset.to_le_bytes());
        } else {
            let offset = self.bytes.len() as u32 + 4;
            self.bytes.extend(offset.to_le_bytes());
            self.template(event);
            self.templates.insert(key, offset);
        }
        let mut values: Vec<(u8, Vec<u8>)> = vec![
            (0x06, event.event_id.to_le_bytes().to_vec()),
            (0x11, filetime.to_le_bytes().to_vec()),
            (0x0a, id.to_le_bytes().to_vec()),
            (0x01, utf16(event.channel)),
            (0x01, utf16(event.computer)),
        ];
        values.extend(event.data.iter().map(|(_, value)| (0x01, utf16(value))));
        self.bytes.extend((values.len() as u32).to_le_bytes());
        for (kind, value) in &values {
            self.bytes.extend((value.len() as u16).to_le_bytes());
            self.bytes.extend([*kind, 0]);
        }
        for (_, value) in &values {
            self.bytes.extend(value);
        }
        self.bytes.push(0); // end of fragment
        while !(self.bytes.len() - begins + 4).is_multiple_of(8) {
            self.bytes.push(0);
        }
        let size = (self.bytes.len() - begins + 4) as u32;
        self.bytes.extend(size.to_le_bytes());
        put(&mut self.bytes, begins + 4, &size.to_le_bytes());
        self.last_id = id;
        self.last_offset = begins;
        self.records.push((id, begins, self.bytes.len()));
        assert!(self.bytes.len() <= CHUNK, "the chunk is full");
    }

    fn template(&mut self, event: &TestEvent<'_>) {
        self.bytes.extend([0; 4]); // next template
        self.bytes.extend([7; 16]); // its GUID
        let size_at = self.bytes.len();
        self.bytes.extend([0; 4]);
        let begins = self.bytes.len();
        self.bytes.extend([0x0f, 1, 1, 0]);
        self.open("Event", &[]);
        self.open("System", &[]);
        self.open("Provider", &[("Name", Content::Text(event.provider))]);
        self.close_empty();
        self.element("EventID", 0, 0x06);
        self.open("TimeCreated", &[("SystemTime", Content::Value(1, 0x11))]);
        self.close_empty();
        self.element("EventRecordID", 2, 0x0a);
        self.element("Channel", 3, 0x01);
        self.element("Computer", 4, 0x01);
        self.close();
        self.open("EventData", &[]);
        for (index, (name, _)) in event.data.iter().enumerate() {
            self.open("Data", &[("Name", Content::Text(name))]);
            self.substitution(5 + index as u16, 0x01);
            self.close();
        }
        self.close();
        self.close();
        self.bytes.push(0);
        let size = (self.bytes.len() - begins) as u32;
        put(&mut self.bytes, size_at, &size.to_le_bytes());
    }

    fn element(&mut self, name: &str, value: u16, kind: u8) {
        self.open(name, &[]);
        self.substitution(value, kind);
        self.close();
    }

    fn open(&mut self, name: &str, attributes: &[(&str, Content<'_>)]) {
        self.bytes.push(if attributes.is_empty() { 0x01 } else { 0x41 });
        self.bytes.extend(0xffffu16.to_le_bytes()); // depends on no value
        self.bytes.extend([0; 4]); // size, which readers don't need
        self.name(name);
        if !attributes.is_empty() {
            self.bytes.extend([0; 4]);
        }
        for (name, content) in attributes {
            self.bytes.push(0x06);
            self.name(name);
            match content {
                Content::Text(text) => {
                    self.bytes.extend([0x05, 0x01]);
                    self.bytes.extend((text.encode_utf16().count() as u16).to_le_bytes());
                    self.bytes.extend(utf16(text));
                }
                Content::Value(index, kind) => self.substitution(*index, *kind),
            }
        }
        self.pending_start_tag();
    }

    fn pending_start_tag(&mut self) {
        self.bytes.push(0x02);
    }

    fn close(&mut self) {
        self.bytes.push(0x04);
    }

    fn close_empty(&mut self) {
        *self.bytes.last_mut().unwrap() = 0x03;
    }

    fn substitution(&mut self, index: u16, kind: u8) {
        self.bytes.push(0x0d);
        self.bytes.extend(index.to_le_bytes());
        self.bytes.push(kind);
    }

    /// A name, written where it is used.
    fn name(&mut self, name: &str) {
        let offset = self.bytes.len() as u32 + 4;
        self.bytes.extend(offset.to_le_bytes());
        self.bytes.extend([0; 4]); // next name
        let hash = name
            .encode_utf16()
            .fold(0u32, |hash, unit| hash.wrapping_mul(65599).wrapping_add(u32::from(unit)));
        self.bytes.extend((hash as u16).to_le_bytes());
        self.bytes.extend((name.encode_utf16().count() as u16).to_le_bytes());
        self.bytes.extend(utf16(name));
        self.bytes.extend([0; 2]);
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        let free = bytes.len();
        bytes.resize(CHUNK, 0);
        bytes[..8].copy_from_slice(b"ElfChnk\0");
        for (at, number) in
            [(8, self.first_id), (16, self.last_id), (24, self.first_id), (32, self.last_id)]
        {
            put(&mut bytes, at, &number.to_le_bytes());
        }
        put(&mut bytes, 40, &128u32.to_le_bytes());
        put(&mut bytes, 44, &(self.last_offset as u32).to_le_bytes());
        put(&mut bytes, 48, &(free as u32).to_le_bytes());
        let records = crc32(&bytes[FIRST_RECORD..free]);
        put(&mut bytes, 52, &records.to_le_bytes());
        let header = crc32(&[&bytes[..120], &bytes[128..FIRST_RECORD]].concat());
        put(&mut bytes, 124, &header.to_le_bytes());
        bytes
    }
}

enum Content<'c> {
    Text(&'c str),
    Value(u16, u8),
}

fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    bytes[at..at + field.len()].copy_from_slice(field);
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ if sum & 1 == 1 { 0xedb8_8320 } else { 0 }
        })
    })
}

/// A log of `chunks` chunks with `each` process starts in each.
pub fn process_starts(chunks: usize, each: usize) -> TestLog {
    let mut log = TestLog::default();
    for chunk in 0..chunks {
        log.chunk();
        for record in 0..each {
            log.event(&TestEvent {
                provider: "Microsoft-Windows-Sysmon",
                event_id: 1,
                channel: "Microsoft-Windows-Sysmon/Operational",
                computer: "WARD-7.hospital.example",
                time: 1_700_000_000 + (chunk * each + record) as u64,
                data: &[
                    ("Image", "C:\\Windows\\System32\\vssadmin.exe"),
                    ("CommandLine", "vssadmin.exe delete shadows /all /quiet"),
                    ("User", "WARD-7\\nurse"),
                ],
            });
        }
    }
    log
}
