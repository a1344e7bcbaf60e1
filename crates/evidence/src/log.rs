//! One append-only file of frames, which survives a crash at any byte.
//!
//! A frame is a little-endian `u32` length, the first 8 bytes of the payload's leaf hash (so that the
//! checksum costs nothing where a Merkle tree needs that hash anyway), and the payload. An append is
//! one write and one `fdatasync`. After a crash the tail may hold a part of the last append: it is
//! set aside in a file of its own, never thrown away, and said.

use std::fs::TryLockError;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cordon_durable::{FileError, failed};

use crate::merkle::{Hash, leaf_hash};

/// The largest payload: 64 KiB. A record is a few hundred bytes; its longest parts are a name and a
/// detail of [`NAME_BYTES`](cordon_model::limits::NAME_BYTES) each. The journals that share this
/// format keep one assignment a frame: 256 lifelines of about 130 bytes come to 33 KiB.
pub const FRAME_BYTES: usize = 64 << 10;

/// Length and checksum.
const HEAD_BYTES: usize = 12;

/// How much is read at once when a log is scanned: a thousand records or so.
const SCAN_BYTES: usize = 512 << 10;

/// How long a lock is waited for: a process that is just dying, or a child that has not begun its own program
/// yet, holds it for a moment.
const FREE_WITHIN: Duration = Duration::from_secs(5);

/// Why a log can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another kind of file, or of another version.
    #[error(
        "{path} does not begin with {expected:?}: it is another kind of file, or of another version"
    )]
    OtherFormat {
        /// The file.
        path: PathBuf,
        /// The format's name, which is its first line.
        expected: &'static str,
    },
    /// A frame that must be whole is not.
    #[error("{path} is altered or damaged at byte {offset}: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// In what way.
        what: &'static str,
    },
    /// A payload over the limit.
    #[error("a payload of {bytes} bytes; at most {FRAME_BYTES} are taken")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// An earlier write failed: what is on disk is not known until the file is opened anew.
    #[error("{path} failed to take an earlier write: open it again before writing more")]
    Broken {
        /// The file.
        path: PathBuf,
    },
    /// Another process has it.
    #[error("{path} is in use by another process")]
    Busy {
        /// The lock's file.
        path: PathBuf,
    },
}

impl LogError {
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let failed = failed(what, path);
        move |source| Self::File(failed(source))
    }
}

/// One whole frame.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// Where it begins.
    pub offset: u64,
    /// What it holds.
    pub payload: &'a [u8],
    /// The payload's leaf hash.
    pub hash: Hash,
}

/// The part of an append that a crash left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    /// Where it began.
    pub offset: u64,
    /// How long it was.
    pub bytes: u64,
    /// Why it is not a frame.
    pub why: &'static str,
    /// The file that it was set aside in.
    pub kept_in: PathBuf,
}

/// Where a scan stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ScanEnd {
    /// Behind the last whole frame.
    pub offset: u64,
    /// What is wrong with the bytes that follow, if any do.
    pub trouble: Option<&'static str>,
}

/// An append-only file of frames.
#[derive(Debug)]
pub struct Log {
    file: File,
    path: PathBuf,
    format: &'static str,
    end: u64,
    is_broken: bool,
}

impl Log {
    /// Opens the log in `path`, or begins it; `format` is its first line. Frames from `from` on (a
    /// frame's beginning; 0 for all) are passed to `each`; a torn tail behind them is set aside.
    ///
    /// One process at a time: the file is locked until the log is dropped.
    ///
    /// # Errors
    /// See [`LogError`]; also whatever `each` returns.
    pub fn open<E: From<LogError>>(
        path: &Path,
        format: &'static str,
        from: u64,
        each: impl FnMut(Frame<'_>) -> Result<(), E>,
    ) -> Result<(Self, Option<TornTail>), E> {
        let mut log = Self::lock(path, format)?;
        let end = log.scan(from.max(log.first()), each)?;
        let torn = log.set_aside_behind(end)?;
        Ok((log, torn))
    }

    /// The first half of [`Log::open`]: locks, and changes no frame. Nothing can be appended yet.
    pub(crate) fn lock(path: &Path, format: &'static str) -> Result<Self, LogError> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .map_err(LogError::io("open", path))?;
        let began = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if began.elapsed() < FREE_WITHIN => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(LogError::Busy { path: path.to_owned() });
                }
                Err(TryLockError::Error(source)) => {
                    return Err(LogError::io("lock", path)(source));
                }
            }
        }
        let mut log = Self { file, path: path.to_owned(), format, end: 0, is_broken: true };
        log.begin()?;
        Ok(log)
    }

    /// Opens without locking or changing anything, to read.
    pub(crate) fn open_to_read(path: &Path, format: &'static str) -> Result<Self, LogError> {
        let file = File::open(path).map_err(LogError::io("open", path))?;
        let log = Self { file, path: path.to_owned(), format, end: u64::MAX, is_broken: true };
        log.check_format()?;
        Ok(log)
    }

    /// Writes the first line, if the file is new; else checks it.
    fn begin(&mut self) -> Result<(), LogError> {
        let length = self.length()?;
        let first_line = format!("{}\n", self.format);
        if length < first_line.len() as u64 {
            // New, or a crash came before the first line was whole: then no frame was acknowledged.
            let mut found = vec![0; usize::try_from(length).unwrap_or(0)];
            self.file.read_exact_at(&mut found, 0).map_err(LogError::io("read", &self.path))?;
            if !first_line.as_bytes().starts_with(&found) {
                return Err(self.other_format());
            }
            self.file.set_len(0).map_err(LogError::io("begin", &self.path))?;
            self.file
                .write_all(first_line.as_bytes())
                .map_err(LogError::io("begin", &self.path))?;
            self.file.sync_all().map_err(LogError::io("sync", &self.path))?;
            sync_directory_of(&self.path)?;
        }
        self.check_format()
    }

    fn check_format(&self) -> Result<(), LogError> {
        let expected = format!("{}\n", self.format);
        let mut found = vec![0; expected.len()];
        match self.file.read_exact_at(&mut found, 0) {
            Ok(()) if found == expected.as_bytes() => Ok(()),
            Ok(()) => Err(self.other_format()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(self.other_format()),
            Err(error) => Err(LogError::io("read", &self.path)(error)),
        }
    }

    fn other_format(&self) -> LogError {
        LogError::OtherFormat { path: self.path.clone(), expected: self.format }
    }

    /// Where the first frame begins.
    pub(crate) fn first(&self) -> u64 {
        self.format.len() as u64 + 1
    }

    /// Where the frame behind one at `offset` with a payload of `length` bytes begins.
    pub(crate) fn behind(offset: u64, length: usize) -> u64 {
        offset + (HEAD_BYTES + length) as u64
    }

    /// How many bytes the log has, its first line included.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    pub(crate) fn length(&self) -> Result<u64, LogError> {
        Ok(self.file.metadata().map_err(LogError::io("look at", &self.path))?.len())
    }

    /// Passes each whole frame from `from` on to `each`, and says where and why it stopped.
    pub(crate) fn scan<E: From<LogError>>(
        &self,
        from: u64,
        mut each: impl FnMut(Frame<'_>) -> Result<(), E>,
    ) -> Result<ScanEnd, E> {
        let length = self.length()?;
        let mut buffer = Vec::new();
        let (mut base, mut at) = (from, 0usize);
        loop {
            let offset = base + at as u64;
            if offset >= length {
                let trouble = (offset > length).then_some("the file ends before this frame begins");
                return Ok(ScanEnd { offset, trouble });
            }
            // Refill when less than one largest frame is at hand and the file has more.
            let at_hand = buffer.len() - at;
            if at_hand < HEAD_BYTES + FRAME_BYTES && offset + (at_hand as u64) < length {
                let wanted = usize::try_from(length - offset).unwrap_or(usize::MAX).min(SCAN_BYTES);
                buffer.resize(wanted, 0);
                self.file
                    .read_exact_at(&mut buffer, offset)
                    .map_err(LogError::io("read", &self.path))?;
                (base, at) = (offset, 0);
            }
            match parse_frame(&buffer[at..]) {
                Ok((payload, hash)) => {
                    each(Frame { offset, payload, hash })?;
                    at += HEAD_BYTES + payload.len();
                }
                Err(why) => return Ok(ScanEnd { offset, trouble: Some(why) }),
            }
        }
    }

    /// Moves what is behind `end` to a file of its own; from now on the log takes frames.
    pub(crate) fn set_aside_behind(&mut self, end: ScanEnd) -> Result<Option<TornTail>, LogError> {
        self.end = end.offset;
        self.is_broken = false;
        let length = self.length()?;
        let Some(why) = end.trouble.filter(|_| length > end.offset) else {
            return if length < end.offset {
                Err(self.damaged(end.offset, "it is cut"))
            } else {
                Ok(None)
            };
        };
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".torn-at-{}", end.offset));
        let kept_in = PathBuf::from(name);
        let mut aside = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&kept_in)
            .map_err(LogError::io("open", &kept_in))?;
        let mut at = end.offset;
        let mut buffer = vec![0; SCAN_BYTES];
        while at < length {
            let wanted = usize::try_from(length - at).unwrap_or(SCAN_BYTES).min(SCAN_BYTES);
            self.file
                .read_exact_at(&mut buffer[..wanted], at)
                .map_err(LogError::io("read", &self.path))?;
            aside.write_all(&buffer[..wanted]).map_err(LogError::io("write", &kept_in))?;
            at += wanted as u64;
        }
        aside.sync_all().map_err(LogError::io("sync", &kept_in))?;
        sync_directory_of(&kept_in)?;
        self.file.set_len(end.offset).map_err(LogError::io("cut", &self.path))?;
        self.file.sync_all().map_err(LogError::io("sync", &self.path))?;
        Ok(Some(TornTail { offset: end.offset, bytes: length - end.offset, why, kept_in }))
    }

    fn damaged(&self, offset: u64, what: &'static str) -> LogError {
        LogError::Damaged { path: self.path.clone(), offset, what }
    }

    /// Appends `payloads` in one write and returns when they are on disk, with where each begins and
    /// its leaf hash. After a crash in between, a beginning of them may be there.
    ///
    /// # Errors
    /// [`LogError::TooLarge`] before anything is written; after a failed write or sync the log is
    /// [`LogError::Broken`] until it is opened anew, because what the disk holds is not known.
    pub fn append_all<P: AsRef<[u8]>>(
        &mut self,
        payloads: &[P],
    ) -> Result<Vec<(u64, Hash)>, LogError> {
        if self.is_broken {
            return Err(LogError::Broken { path: self.path.clone() });
        }
        let mut bytes = Vec::new();
        let mut placed = Vec::with_capacity(payloads.len());
        for payload in payloads {
            let payload = payload.as_ref();
            let length = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= FRAME_BYTES);
            let length = length.ok_or(LogError::TooLarge { bytes: payload.len() })?;
            let hash = leaf_hash(payload);
            placed.push((self.end + bytes.len() as u64, hash));
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(&hash.0[..8]);
            bytes.extend_from_slice(payload);
        }
        self.is_broken = true;
        self.file.write_all(&bytes).map_err(LogError::io("append to", &self.path))?;
        self.file.sync_data().map_err(LogError::io("sync", &self.path))?;
        self.is_broken = false;
        self.end += bytes.len() as u64;
        Ok(placed)
    }

    /// Removes all frames: for a journal whose content is kept elsewhere by now.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn clear(&mut self) -> Result<(), LogError> {
        self.is_broken = true;
        self.file.set_len(self.first()).map_err(LogError::io("empty", &self.path))?;
        self.file.sync_all().map_err(LogError::io("sync", &self.path))?;
        self.is_broken = false;
        self.end = self.first();
        Ok(())
    }

    /// The payload of the frame at `offset`, checked.
    ///
    /// # Errors
    /// [`LogError::Damaged`] if there is no whole frame.
    pub fn read(&self, offset: u64) -> Result<Vec<u8>, LogError> {
        let mut head = [0; HEAD_BYTES];
        let read = |buffer: &mut [u8], at| match self.file.read_exact_at(buffer, at) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(self.damaged(offset, "the file ends within a frame"))
            }
            result => result.map_err(LogError::io("read", &self.path)),
        };
        read(&mut head, offset)?;
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        if length > FRAME_BYTES {
            return Err(self.damaged(offset, "a frame's length is impossible"));
        }
        let mut payload = vec![0; length];
        read(&mut payload, offset + HEAD_BYTES as u64)?;
        if leaf_hash(&payload).0[..8] != head[4..] {
            return Err(self.damaged(offset, "a frame's checksum is false"));
        }
        Ok(payload)
    }

    /// The bytes from `start` to `end` as they are, checked by nothing.
    pub(crate) fn bytes(&self, start: u64, end: u64) -> Result<Vec<u8>, LogError> {
        let mut bytes = vec![0; usize::try_from(end - start).unwrap_or(0)];
        self.file.read_exact_at(&mut bytes, start).map_err(LogError::io("read", &self.path))?;
        Ok(bytes)
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The frame that `bytes` begin with, or why they don't begin with one.
fn parse_frame(bytes: &[u8]) -> Result<(&[u8], Hash), &'static str> {
    let (head, rest) =
        bytes.split_at_checked(HEAD_BYTES).ok_or("the file ends within a frame's head")?;
    let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
    if length > FRAME_BYTES {
        return Err("a frame's length is impossible");
    }
    let payload = rest.get(..length).ok_or("the file ends within a frame")?;
    let hash = leaf_hash(payload);
    if hash.0[..8] != head[4..] {
        return Err("a frame's checksum is false");
    }
    Ok((payload, hash))
}

/// Makes a new or renamed file's name durable.
pub(crate) fn sync_directory_of(path: &Path) -> Result<(), LogError> {
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(LogError::io("sync", directory))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FORMAT: &str = "cordon test log 1";

    fn open(path: &Path) -> (Log, Vec<Vec<u8>>, Option<TornTail>) {
        let mut found = Vec::new();
        let (log, torn) = Log::open::<LogError>(path, FORMAT, 0, |frame| {
            found.push(frame.payload.to_vec());
            Ok(())
        })
        .unwrap();
        (log, found, torn)
    }

    #[test]
    fn what_was_appended_is_there_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let (mut log, found, torn) = open(&path);
        assert!(found.is_empty() && torn.is_none());
        let placed = log.append_all(&["one", "", "three"]).unwrap();
        assert_eq!(log.read(placed[2].0).unwrap(), b"three");
        drop(log);
        let (_, found, torn) = open(&path);
        assert_eq!(found, [&b"one"[..], b"", b"three"]);
        assert_eq!(torn, None);
    }

    #[test]
    fn a_cleared_log_is_empty_and_takes_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let (mut log, ..) = open(&path);
        log.append_all(&["one"]).unwrap();
        log.clear().unwrap();
        let placed = log.append_all(&["two"]).unwrap();
        assert_eq!(log.read(placed[0].0).unwrap(), b"two");
        drop(log);
        assert_eq!(open(&path).1, [b"two"]);
    }

    #[test]
    fn a_log_has_one_writer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let (_log, ..) = open(&path);
        let second = Log::open::<LogError>(&path, FORMAT, 0, |_| Ok(()));
        assert!(matches!(second, Err(LogError::Busy { .. })));
    }

    #[test]
    fn a_file_of_another_kind_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        for content in ["precious", "precious and longer than the format's line"] {
            std::fs::write(&path, content).unwrap();
            let opened = Log::open::<LogError>(&path, FORMAT, 0, |_| Ok(()));
            assert!(matches!(opened, Err(LogError::OtherFormat { .. })));
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
        }
    }

    #[test]
    fn a_payload_over_the_limit_is_refused_and_the_rest_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, ..) = open(&dir.path().join("log"));
        let refused = log.append_all(&[vec![0; FRAME_BYTES + 1]]);
        assert!(matches!(refused, Err(LogError::TooLarge { .. })));
        log.append_all(&[vec![0; FRAME_BYTES]]).unwrap();
    }

    #[test]
    fn frames_larger_than_a_read_are_scanned_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let (mut log, ..) = open(&path);
        let payloads: Vec<Vec<u8>> =
            (0..40u8).map(|n| vec![n; FRAME_BYTES - usize::from(n)]).collect();
        log.append_all(&payloads).unwrap();
        drop(log);
        assert_eq!(open(&path).1, payloads);
    }

    proptest! {
        /// However much of the last append reached the disk, the earlier ones are there, the rest is
        /// set aside, and the log takes more.
        #[test]
        fn a_torn_tail_is_set_aside_and_said(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 1..8),
            lost in 1usize..200,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("log");
            let (mut log, ..) = open(&path);
            let placed = log.append_all(&payloads).unwrap();
            let end = log.end();
            drop(log);
            let cut = end.saturating_sub(lost as u64).max(FORMAT.len() as u64 + 1);
            File::options().write(true).open(&path).unwrap().set_len(cut).unwrap();
            let whole = (0..payloads.len())
                .filter(|i| placed.get(i + 1).map_or(end, |next| next.0) <= cut)
                .count();
            let (mut log, found, torn) = open(&path);
            prop_assert_eq!(&found[..], &payloads[..whole]);
            let whole_end = placed.get(whole).map_or(end, |next| next.0);
            prop_assert_eq!(torn.as_ref().map_or(0, |torn| torn.bytes), cut - whole_end);
            if let Some(torn) = torn {
                prop_assert_eq!(std::fs::metadata(&torn.kept_in).unwrap().len(), torn.bytes);
            }
            log.append_all(&["after"]).unwrap();
            drop(log);
            prop_assert_eq!(open(&path).1.len(), whole + 1);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse_frame(&bytes);
        }
    }
}
