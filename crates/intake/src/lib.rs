//! Bytes from outside to events: Windows event logs (EVTX) and JSON in its usual forms.
//!
//! Give [`read_file`] a path, the names that your rules read and a closure; it is called once for each
//! [`Item`] in the file's order, a record or a damage, and decides whether to go on:
//!
//! ```no_run
//! use std::ops::ControlFlow;
//! use cordon_intake::{Item, Reading, read_file};
//! use cordon_model::event::{FieldTable, Source};
//!
//! let mut fields = FieldTable::default();
//! let image = fields.intern("Image");
//! let reading = Reading { fields: &fields, every_value: false, assumed: Source::default() };
//! read_file("Sysmon.evtx".as_ref(), &reading, &mut |item| {
//!     match item {
//!         Item::Record(record) => println!("{:?}", record.event.first(image)),
//!         Item::Damage(damage) => eprintln!("{damage}"),
//!     }
//!     ControlFlow::Continue(())
//! })?;
//! # Ok::<(), cordon_intake::Unreadable>(())
//! ```
//!
//! Three things always hold, whatever the bytes: nothing panics, memory stays within the limits named
//! here, and what can't be read is said with its place while the rest goes on. What a file is follows
//! from its content; its name only says what its owner took it for.

#![forbid(unsafe_code)]

mod damage;
mod evtx;
mod gathered;
mod json;
mod meaning;

use std::cell::OnceCell;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::path::Path;

use cordon_model::event::{Event, FieldTable, RawEvent, Source};
use cordon_model::limits::RAW_EVENT_BYTES;
use sha2::{Digest, Sha256};

use evtx::Memory;

pub use damage::{Damage, Lost, Unreadable};
pub use gathered::VALUES;
pub use json::shape::DEPTH;
pub use json::stream::OBJECT_BYTES;

/// What is wanted of each event.
#[derive(Debug, Clone)]
pub struct Reading<'t> {
    /// The names that the rules read. Other fields are stepped over.
    pub fields: &'t FieldTable,
    /// Whether a keyword rule wants the other fields' values too, under
    /// [`FieldId::UNREAD`](cordon_model::event::FieldId::UNREAD).
    pub every_value: bool,
    /// Product, category and service of events that don't say them, which JSON seldom does.
    pub assumed: Source<'static>,
}

/// One thing found in a file.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "one at a time, on the stack: a box would be an allocation for each event"
)]
pub enum Item<'a> {
    /// An event.
    Record(Record<'a>),
    /// A place that could not be read.
    Damage(Damage),
}

/// An event, the text that it came from, and where it stood.
#[derive(Debug, Clone)]
pub struct Record<'a> {
    /// The event.
    pub event: Event<'a>,
    /// The byte of the file where it begins.
    pub offset: u64,
    /// The line of the file where it begins, counted from one, if the file has lines.
    pub line: Option<u64>,
    text: Text<'a>,
    /// What the text is once it was asked for: most events are of no finding, and nobody asks.
    json: OnceCell<Vec<u8>>,
    sha256: OnceCell<[u8; 32]>,
}

/// What an event was read from.
#[derive(Debug, Clone)]
pub(crate) enum Text<'a> {
    Json(&'a [u8]),
    BinXml(evtx::straight::Told<'a>),
}

impl<'a> Record<'a> {
    pub(crate) fn new(event: Event<'a>, text: Text<'a>, offset: u64, line: Option<u64>) -> Self {
        Self { event, offset, line, text, json: OnceCell::new(), sha256: OnceCell::new() }
    }

    /// The complete event as JSON: the file's own bytes, or what an EVTX record renders to.
    pub fn json(&self) -> &[u8] {
        match &self.text {
            Text::Json(json) => json,
            Text::BinXml(told) => self.json.get_or_init(|| told.json()),
        }
    }

    /// The event as it is kept with a finding, cut at
    /// [`RAW_EVENT_BYTES`].
    #[must_use]
    pub fn raw(&self) -> RawEvent {
        let mut json = self.json();
        let is_cut = json.len() > RAW_EVENT_BYTES;
        if is_cut {
            // Back to a character's first byte, so that the cut leaves no half of one.
            let mut end = RAW_EVENT_BYTES;
            while end > 0 && json[end] & 0xc0 == 0x80 {
                end -= 1;
            }
            json = &json[..end];
        }
        RawEvent { json: String::from_utf8_lossy(json).into_owned(), is_cut }
    }

    /// The SHA-256 of the complete text: what a finding's id is made of.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        *self.sha256.get_or_init(|| Sha256::digest(self.json()).into())
    }
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A Windows event log.
    Evtx,
    /// JSON objects: lines, an array, or just in a row.
    Json,
}

/// Reads file after file for one [`Reading`], and goes on with what it has learnt of their keys: most logs of a
/// machine are small and alike.
#[derive(Debug)]
pub struct Reader<'r> {
    reading: &'r Reading<'r>,
    memory: Memory,
}

impl<'r> Reader<'r> {
    /// A reader that knows nothing yet.
    #[must_use]
    pub fn new(reading: &'r Reading<'r>) -> Self {
        Self { reading, memory: Memory::default() }
    }

    /// A reader that has the `evtx` crate render every record of an event log to JSON, and reads that: what
    /// reading it straight is compared with.
    #[must_use]
    pub fn by_text(reading: &'r Reading<'r>) -> Self {
        Self { reading, memory: Memory { is_all_by_text: true, ..Memory::default() } }
    }

    /// Reads the file at `path`, giving each record and each damage to `each` until it says stop.
    ///
    /// # Errors
    /// When nothing of the file can be read. Damage inside it is no error but an [`Item`].
    pub fn read_file(
        &mut self,
        path: &Path,
        each: &mut dyn FnMut(Item<'_>) -> ControlFlow<()>,
    ) -> Result<Form, Unreadable> {
        let is_named_evtx = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("evtx"));
        self.read(File::open(path)?, is_named_evtx, each)
    }

    /// Reads `input` from its beginning. `is_named_evtx` only chooses the words of a refusal.
    ///
    /// # Errors
    /// When nothing of it can be read.
    pub fn read<R: Read + Seek>(
        &mut self,
        mut input: R,
        is_named_evtx: bool,
        each: &mut dyn FnMut(Item<'_>) -> ControlFlow<()>,
    ) -> Result<Form, Unreadable> {
        let Self { reading, memory } = self;
        let length = input.seek(SeekFrom::End(0))?;
        let form = form_of(&mut input, length, is_named_evtx)?;
        input.seek(SeekFrom::Start(0))?;
        match form {
            Form::Evtx => evtx::read(input, length, reading, memory, each)?,
            Form::Json => json::stream::read(input, reading, &mut memory.text, each)?,
        }
        Ok(form)
    }
}

/// Reads one file: [`Reader::read_file`].
///
/// # Errors
/// As that.
pub fn read_file(
    path: &Path,
    reading: &Reading<'_>,
    each: &mut dyn FnMut(Item<'_>) -> ControlFlow<()>,
) -> Result<Form, Unreadable> {
    Reader::new(reading).read_file(path, each)
}

/// Reads one input: [`Reader::read`].
///
/// # Errors
/// As that.
pub fn read<R: Read + Seek>(
    input: R,
    is_named_evtx: bool,
    reading: &Reading<'_>,
    each: &mut dyn FnMut(Item<'_>) -> ControlFlow<()>,
) -> Result<Form, Unreadable> {
    Reader::new(reading).read(input, is_named_evtx, each)
}

/// What `input` of `length` bytes is, by its content.
fn form_of<R: Read + Seek>(
    input: &mut R,
    length: u64,
    is_named_evtx: bool,
) -> Result<Form, Unreadable> {
    if length == 0 {
        return Err(Unreadable::Empty);
    }
    input.seek(SeekFrom::Start(0))?;
    let mut head = Vec::new();
    evtx::fill(input, 512, &mut head)?;
    if head.starts_with(evtx::FILE_MAGIC) {
        return Ok(Form::Evtx);
    }
    let mut mark = [0; 8];
    input.seek(SeekFrom::Start(evtx::HEADER_BYTES))?;
    if input.read_exact(&mut mark).is_ok() && mark == evtx::CHUNK_MAGIC {
        return Ok(Form::Evtx);
    }
    let known: [(&[u8], Unreadable); 6] = [
        (b"\x30\x00\x00\x00LfLe", Unreadable::OldEventLog),
        (b"\x1f\x8b", Unreadable::Compressed("gzip")),
        (b"PK\x03\x04", Unreadable::Compressed("zip")),
        (b"\x28\xb5\x2f\xfd", Unreadable::Compressed("zstd")),
        (b"7z\xbc\xaf\x27\x1c", Unreadable::Compressed("7z")),
        (b"\xfd7zXZ", Unreadable::Compressed("xz")),
    ];
    for (magic, refusal) in known {
        if head.starts_with(magic) {
            return Err(refusal);
        }
    }
    if head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff") {
        return Err(Unreadable::Utf16);
    }
    if is_named_evtx {
        return Err(Unreadable::NotEvtx);
    }
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&head);
    match text.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{' | b'[') => Ok(Form::Json),
        _ => Err(Unreadable::Unknown),
    }
}
