//! Gathering one piece after the other, without ever waiting for what does not answer.
//!
//! The one idea: everything that is read is read by a [`Reader`], a thread that does nothing else, and
//! what it reads comes through a channel. A reader that keeps silent too long is left where it hangs (a
//! file server that is gone, a program that answers for its own file system, a process that holds its
//! memory map) and another takes its place. So a collection always ends, and has everything that could
//! be read.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use cordon_evidence::archive::{ArchiveWriter, Missing, PieceRecord, printable};
use cordon_model::time::UtcNanos;

use super::limits::{HANGING, PATIENCE};
use crate::contain::action::reader::Reader;

/// What a reader sends at once.
const CHUNK_BYTES: usize = 64 << 10;
/// Chunks that may wait: a reader that is faster than the disk stops there.
const CHUNKS_WAITING: usize = 8;

/// What one step of a piece does: it reads, and gives what it read to the [`Sink`].
pub(super) type Step = Box<dyn FnOnce(&mut Sink) -> Result<(), String> + Send>;

enum Message {
    Bytes(Vec<u8>),
    /// How long the thing is there.
    Length(u64),
    /// The last one: in what way it ended.
    Over(Result<(), String>),
}

/// Where a step puts what it read.
pub(super) struct Sink {
    to: SyncSender<Message>,
}

/// The collection takes no more.
pub(super) const ENOUGH: &str = "the limit is reached";

impl Sink {
    /// Adds bytes.
    ///
    /// # Errors
    /// [`ENOUGH`]: give up at once.
    pub(super) fn add(&mut self, bytes: Vec<u8>) -> Result<(), String> {
        self.to.send(Message::Bytes(bytes)).map_err(|_| ENOUGH.to_owned())
    }

    /// Says how long the thing is there.
    pub(super) fn length(&mut self, bytes: u64) {
        let _ = self.to.send(Message::Length(bytes));
    }

    /// Adds a row of JSON.
    ///
    /// # Errors
    /// As [`Sink::add`].
    pub(super) fn row(&mut self, row: &impl serde::Serialize) -> Result<(), String> {
        let mut line = serde_json::to_vec(row).map_err(|error| error.to_string())?;
        line.push(b'\n');
        self.add(line)
    }

    /// Adds what `from` has, up to `most`.
    ///
    /// # Errors
    /// As [`Sink::add`], or what reading says.
    pub(super) fn copy(&mut self, from: &mut impl io::Read, most: u64) -> Result<(), String> {
        let mut from = from.take(most);
        loop {
            let mut chunk = vec![0; CHUNK_BYTES];
            let count = from.read(&mut chunk).map_err(|error| error.to_string())?;
            if count == 0 {
                return Ok(());
            }
            chunk.truncate(count);
            self.add(chunk)?;
        }
    }
}

/// What is known of a piece before it is gathered.
#[derive(Debug, Clone, Copy)]
pub(super) struct About<'a> {
    pub(super) kind: &'static str,
    pub(super) source: &'a [u8],
    pub(super) how: &'a str,
    pub(super) most: u64,
}

/// How a step ended.
enum End {
    Whole,
    /// It failed, and this is why.
    Failed(String),
    /// A limit was reached.
    Cut,
}

/// Gathers pieces into an archive.
pub(super) struct Gatherer {
    archive: ArchiveWriter<File>,
    /// A piece before its length is known.
    spool: File,
    reader: Reader<Message>,
    hanging: usize,
    left: u64,
    ends: Instant,
    pub(super) pieces: Vec<PieceRecord>,
    pub(super) missing: Vec<Missing>,
    /// The first failure of the archive itself; nothing more is gathered then.
    broken: Option<io::Error>,
}

impl Gatherer {
    /// Into `archive`, at most `most` bytes, until `time` is over; `folder` is where a piece waits until
    /// its length is known.
    pub(super) fn new(archive: File, folder: &Path, most: u64, time: Duration) -> io::Result<Self> {
        Ok(Self {
            archive: ArchiveWriter::new(archive),
            spool: nameless(folder)?,
            reader: Reader::start()?,
            hanging: 0,
            left: most,
            ends: Instant::now() + time,
            pieces: Vec::new(),
            missing: Vec::new(),
            broken: None,
        })
    }

    /// Whether no more is to be begun.
    pub(super) fn is_over(&self) -> bool {
        self.broken.is_some() || self.left == 0 || Instant::now() >= self.ends
    }

    /// Gathers one piece in one step. A step that read nothing and failed is missing, with why.
    pub(super) fn piece(&mut self, about: About<'_>, step: Step) {
        self.piece_of(about, vec![(Vec::new(), step)]);
    }

    /// Gathers one piece in many steps, each with a row that is put in its place if it fails.
    pub(super) fn piece_of(&mut self, about: About<'_>, steps: Vec<(Vec<u8>, Step)>) {
        if self.is_over() {
            let why = if self.left == 0 { ENOUGH } else { "no time was left" };
            return self.lacks(about.kind, about.source, why);
        }
        let began = UtcNanos::now();
        let most = about.most.min(self.left);
        let mut piece = Piece { bytes: 0, most, there: None, failed: Vec::new(), cut: None };
        if let Err(error) = self.spool.seek(SeekFrom::Start(0)).and_then(|_| self.spool.set_len(0))
        {
            self.broken = Some(error);
            return;
        }
        let mut not_begun = 0;
        for (instead, step) in steps {
            if piece.cut.is_some() || Instant::now() >= self.ends {
                not_begun += 1;
                continue;
            }
            match self.step(step, &mut piece) {
                End::Whole => {}
                End::Cut => {
                    let limit =
                        if most < about.most { "of the whole archive" } else { "of one piece" };
                    piece.cut = Some(format!("at {} bytes, the limit {limit}", piece.bytes));
                }
                End::Failed(why) => {
                    if !instead.is_empty() {
                        self.spooled(&mut piece, &instead);
                    }
                    piece.failed.push(why);
                }
            }
        }
        if not_begun > 0 {
            let cut = piece.cut.take().unwrap_or_else(|| "no time was left".into());
            piece.cut = Some(format!("{cut}; {not_begun} rows are not here"));
        }
        self.keep(about, began, piece);
    }

    /// Notes something that is not there.
    pub(super) fn lacks(&mut self, kind: &str, source: &[u8], why: &str) {
        let source = printable(source);
        self.missing.push(Missing { kind: kind.into(), source, why: why.into() });
    }

    fn keep(&mut self, about: About<'_>, began: UtcNanos, piece: Piece) {
        if piece.bytes == 0 && !piece.failed.is_empty() {
            return self.lacks(about.kind, about.source, &piece.failed[0]);
        }
        let mut cut = piece.cut;
        if let Some(first) = piece.failed.first() {
            let before = cut.map(|cut| format!("{cut}; ")).unwrap_or_default();
            cut = Some(format!("{before}{} could not be read ({first})", piece.failed.len()));
        }
        let packed = self
            .spool
            .seek(SeekFrom::Start(0))
            .and_then(|_| self.archive.piece(piece.bytes, &mut self.spool));
        match packed {
            Ok(sha256) => {
                self.left = self.left.saturating_sub(piece.bytes);
                self.pieces.push(PieceRecord {
                    kind: about.kind.into(),
                    source: printable(about.source),
                    how: about.how.into(),
                    bytes: piece.bytes,
                    bytes_there: piece.there,
                    sha256,
                    began,
                    ended: UtcNanos::now(),
                    cut,
                });
            }
            Err(error) => self.broken = Some(error),
        }
    }

    fn step(&mut self, step: Step, piece: &mut Piece) -> End {
        if self.hanging >= HANGING {
            return End::Failed("too much hangs already, so this was not tried".into());
        }
        let job = move |to| {
            let mut sink = Sink { to };
            let result = step(&mut sink);
            let _ = sink.to.send(Message::Over(result));
        };
        let Some(from) = self.reader.begin(CHUNKS_WAITING, Box::new(job)) else {
            return End::Failed("the reader ended".into());
        };
        let end = self.drain(&from, piece);
        // Left behind, it may still be at work for a moment, or for ever: it gets no other.
        let is_left = !matches!(end, Ended::Over(_));
        if is_left {
            match Reader::start() {
                Ok(reader) => self.reader = reader,
                Err(error) => self.broken = Some(error),
            }
        }
        match end {
            Ended::Over(Ok(())) => End::Whole,
            Ended::Over(Err(why)) => End::Failed(why),
            Ended::Cut => End::Cut,
            Ended::Silent => {
                self.hanging += 1;
                End::Failed(format!("no answer within {} s", PATIENCE.as_secs()))
            }
            Ended::OutOfTime => End::Failed("no time was left".into()),
        }
    }

    fn drain(&mut self, from: &Receiver<Message>, piece: &mut Piece) -> Ended {
        loop {
            let left = self.ends.saturating_duration_since(Instant::now());
            match from.recv_timeout(PATIENCE.min(left)) {
                Ok(Message::Length(bytes)) => piece.there = Some(bytes),
                Ok(Message::Over(result)) => return Ended::Over(result),
                Ok(Message::Bytes(bytes)) => {
                    let room = usize::try_from(piece.most - piece.bytes).unwrap_or(usize::MAX);
                    if bytes.len() > room {
                        self.spooled(piece, &bytes[..room]);
                        return Ended::Cut;
                    }
                    self.spooled(piece, &bytes);
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Ended::Over(Err("the reader ended".into()));
                }
                Err(RecvTimeoutError::Timeout) if left <= PATIENCE => return Ended::OutOfTime,
                Err(RecvTimeoutError::Timeout) => return Ended::Silent,
            }
            if self.broken.is_some() {
                return Ended::Cut;
            }
        }
    }

    fn spooled(&mut self, piece: &mut Piece, bytes: &[u8]) {
        let room = usize::try_from(piece.most - piece.bytes).unwrap_or(usize::MAX);
        let bytes = &bytes[..bytes.len().min(room)];
        match self.spool.write_all(bytes) {
            Ok(()) => piece.bytes += bytes.len() as u64,
            Err(error) => self.broken = Some(error),
        }
    }

    /// Gives back the archive and what is known of it.
    ///
    /// # Errors
    /// When the archive failed meanwhile: the disk is full.
    pub(super) fn end(self) -> io::Result<(ArchiveWriter<File>, Vec<PieceRecord>, Vec<Missing>)> {
        match self.broken {
            Some(error) => Err(error),
            None => Ok((self.archive, self.pieces, self.missing)),
        }
    }
}

/// A piece that is being gathered.
struct Piece {
    bytes: u64,
    most: u64,
    there: Option<u64>,
    failed: Vec<String>,
    cut: Option<String>,
}

/// How a reader was left.
enum Ended {
    Over(Result<(), String>),
    Cut,
    Silent,
    OutOfTime,
}

/// A file without a name: it is gone with the process, however that ends.
fn nameless(folder: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let flags = nix::fcntl::OFlag::O_TMPFILE.bits();
    let open = |flags| {
        std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .mode(0o600)
            .custom_flags(flags)
            .open(folder)
    };
    open(flags).or_else(|_| {
        // A file system that has no such thing.
        let path = folder.join("spool");
        let _ = std::fs::remove_file(&path);
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(file)
    })
}

/// The last `most` bytes of `file`, whose length is `length`.
pub(super) fn last_of(file: &File, length: u64, most: u64, sink: &mut Sink) -> Result<(), String> {
    let mut at = length.saturating_sub(most);
    while at < length {
        let mut chunk = vec![0; CHUNK_BYTES];
        let room = usize::try_from(length - at).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        let count = file.read_at(&mut chunk[..room], at).map_err(|error| error.to_string())?;
        if count == 0 {
            break;
        }
        chunk.truncate(count);
        at += count as u64;
        sink.add(chunk)?;
    }
    Ok(())
}
