//! Reports on their way to the hub: on disk until the hub acknowledged them.
//!
//! The one idea: a number is never used twice, whatever crashes, and getting there costs no wait on the
//! path from event to isolation. Numbers are *reserved* on disk in blocks ahead (flushed and synced); a
//! report is then written to the file without waiting for the disk, and sent at once. `kill -9` loses
//! nothing, as the kernel has the bytes; a power cut may lose the last moments, and then the numbers of
//! the lost reports are simply never used again.
//!
//! Numbering and acknowledgement are [`delivery::Spool`]'s, which the simulator drives too.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use cordon_model::limits;
use cordon_model::wire::{Numbered, Report};
use cordon_respond::decision::SERIOUS;
use cordon_respond::delivery;

/// Numbers reserved with one sync. At 100 reports a second, far more than a machine in trouble makes
/// (doubles fold before they get here), that is a sync every ten seconds.
const BLOCK: u64 = 1_000;
/// The file is rewritten without what is acknowledged once it has grown past this.
const REWRITE_ABOVE: u64 = 8 << 20;

/// What the reports of one message come to, at most: the rest is for what is around them.
const BATCH_BYTES: usize = limits::MESSAGE_BYTES - (4 << 10);

/// Room that findings of no great weight may not take: serious ones always find it, so that a flood of
/// harmless matches can't hide them.
const KEPT_FOR_SERIOUS: usize = 2_000;
/// Room that no finding and no gap may take: what was done to the machine is always told. An isolation
/// has about five receipts, so this is a hundred of them with no hub in reach.
const KEPT_FOR_RECEIPTS: usize = 500;

/// Why the spool can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The disk refused.
    #[error("spool {path}: {source}: reports can't be kept until this is mended", path = path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Too many reports wait.
    #[error("{} reports wait for a hub; this one is counted as lost", delivery::MOST_WAITING)]
    Full,
}

/// What a torn end of the file cost, found at opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Torn {
    /// Bytes that made no whole report and were cut off.
    pub bytes: u64,
}

/// The reports that wait.
#[derive(Debug)]
pub struct Spool {
    path: PathBuf,
    file: File,
    reports: delivery::Spool<Report>,
    reserved: u64,
    length: u64,
}

impl Spool {
    /// Opens the spool in `directory`, or begins one.
    ///
    /// # Errors
    /// If the disk refuses. A torn end (the machine died while writing) is cut off and told.
    pub fn open(directory: &Path) -> Result<(Self, Option<Torn>), SpoolError> {
        let path = directory.join("spool.cbor");
        let disk = |source| SpoolError::Disk { path: path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(disk)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(disk)?;
        let (waiting, whole) = read_frames(&bytes);
        let torn = (bytes.len() > whole).then(|| Torn { bytes: (bytes.len() - whole) as u64 });
        if torn.is_some() {
            file.set_len(whole as u64).map_err(disk)?;
        }
        file.seek(SeekFrom::End(0)).map_err(disk)?;
        let reserved = read_reserved(&reserved_path(&path)).map_err(disk)?;
        let last = waiting.back().map_or(0, |(number, _)| *number);
        let spool = Self {
            file,
            // Everything below the reservation may have been used before a crash.
            reports: delivery::Spool::resume(waiting, reserved.max(last) + 1),
            reserved,
            length: whole as u64,
            path,
        };
        Ok((spool, torn))
    }

    /// Numbers `report` and keeps it; its number.
    ///
    /// # Errors
    /// [`SpoolError::Full`], or the disk's refusal; then the report has no number and is not kept.
    pub fn push(&mut self, report: Report) -> Result<u64, SpoolError> {
        if self.reports.waiting().len() >= most_waiting_for(&report) {
            return Err(SpoolError::Full);
        }
        let number = self.reports.next_number();
        if number > self.reserved {
            self.reserve(number + BLOCK)?;
        }
        // Written before it is kept: a report that is not on disk has no number.
        let frame = frame_of(number, &report);
        if let Err(source) = self.file.write_all(&frame) {
            // Half a frame (the disk is full) would hide all that come after it.
            let _ = self.file.set_len(self.length);
            return Err(self.disk(source));
        }
        self.length += frame.len() as u64;
        self.reports.push(report).ok_or(SpoolError::Full)
    }

    /// The reports with numbers above `after`, oldest first, as many as one message takes. One that no message
    /// takes is passed over: else it would be the first at every new link, and nothing would come after it.
    #[must_use]
    pub fn batch_after(&self, after: u64) -> Vec<Numbered> {
        let mut room = BATCH_BYTES;
        let mut batch = Vec::new();
        for (number, report) in self.reports.waiting().iter().filter(|(number, _)| *number > after)
        {
            let length = frame_of(*number, report).len();
            if length > BATCH_BYTES {
                tracing::error!(
                    number,
                    length,
                    "a report is too long for the link, and is not sent"
                );
                continue;
            }
            if length > room || batch.len() >= limits::FINDINGS_PER_MESSAGE {
                break;
            }
            room -= length;
            batch.push(Numbered { number: *number, report: report.clone() });
        }
        batch
    }

    /// Forgets everything up to `number`: the hub has it on disk.
    ///
    /// # Errors
    /// If the disk refuses; nothing is lost then, and the hub folds the doubles.
    pub fn acknowledged(&mut self, number: u64) -> Result<(), SpoolError> {
        self.reports.acknowledged(number);
        if self.is_empty() && self.length > 0 {
            self.file.set_len(0).map_err(|source| self.disk(source))?;
            self.length = 0;
        } else if self.length > REWRITE_ABOVE {
            self.rewrite()?;
        }
        Ok(())
    }

    /// How many reports wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.reports.waiting().len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.reports.waiting().is_empty()
    }

    fn reserve(&mut self, reserved: u64) -> Result<(), SpoolError> {
        // On disk before a number is used.
        let digits = reserved.to_string();
        cordon_durable::write_whole(&reserved_path(&self.path), digits.as_bytes())
            .map_err(|error| self.disk(error.into()))?;
        self.reserved = reserved;
        Ok(())
    }

    fn rewrite(&mut self) -> Result<(), SpoolError> {
        let waiting = self.reports.waiting().iter();
        let bytes: Vec<u8> =
            waiting.flat_map(|(number, report)| frame_of(*number, report)).collect();
        let file = cordon_durable::write_whole(&self.path, &bytes)
            .map_err(io::Error::from)
            .and_then(|()| OpenOptions::new().read(true).append(true).open(&self.path))
            .map_err(|source| self.disk(source))?;
        self.file = file;
        self.length = bytes.len() as u64;
        Ok(())
    }

    fn disk(&self, source: io::Error) -> SpoolError {
        SpoolError::Disk { path: self.path.clone(), source }
    }
}

/// How many reports may wait for one of this kind to be taken too.
fn most_waiting_for(report: &Report) -> usize {
    delivery::MOST_WAITING
        - match report {
            Report::Receipt(_) | Report::OrderRefused { .. } => 0,
            Report::Finding(finding) if finding.rule.level >= SERIOUS => KEPT_FOR_RECEIPTS,
            Report::Finding(_) | Report::Gap { .. } => KEPT_FOR_RECEIPTS + KEPT_FOR_SERIOUS,
        }
}

fn frame_of(number: u64, report: &Report) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    let numbered = Numbered { number, report: report.clone() };
    // Writing to memory fails for no type of the wire.
    if ciborium::into_writer(&numbered, &mut bytes).is_ok() {
        let length = u32::try_from(bytes.len() - 4).unwrap_or(0);
        bytes[..4].copy_from_slice(&length.to_be_bytes());
    }
    bytes
}

/// The whole frames of `bytes`, and how many bytes they fill. Stops at the first that is not whole.
fn read_frames(bytes: &[u8]) -> (VecDeque<(u64, Report)>, usize) {
    let mut frames = VecDeque::new();
    let mut at = 0;
    while let Some(head) = bytes.get(at..at + 4) {
        let mut length = [0; 4];
        length.copy_from_slice(head);
        let length = u32::from_be_bytes(length) as usize;
        let Some(body) = bytes.get(at + 4..at + 4 + length) else { break };
        let Ok(numbered) = ciborium::from_reader::<Numbered, _>(body) else { break };
        frames.push_back((numbered.number, numbered.report));
        at += 4 + length;
    }
    (frames, at)
}

fn reserved_path(path: &Path) -> PathBuf {
    path.with_extension("reserved")
}

fn read_reserved(path: &Path) -> io::Result<u64> {
    match std::fs::read_to_string(path) {
        Ok(text) => text.trim().parse().map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidData, "the file of reserved numbers is damaged")
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_model::time::UtcNanos;

    fn gap(events: u64) -> Report {
        Report::Gap { events, what: "test".into(), at: UtcNanos::from_unix_nanos(1) }
    }

    #[test]
    fn reports_wait_through_a_crash_until_acknowledged() {
        let directory = tempfile::tempdir().unwrap();
        let (mut spool, _) = Spool::open(directory.path()).unwrap();
        let first = spool.push(gap(1)).unwrap();
        let second = spool.push(gap(2)).unwrap();
        drop(spool);
        let (mut spool, torn) = Spool::open(directory.path()).unwrap();
        assert_eq!(torn, None);
        assert_eq!(spool.batch_after(0).len(), 2);
        spool.acknowledged(first).unwrap();
        assert_eq!(spool.batch_after(0)[0].number, second);
    }

    #[test]
    fn reports_go_in_messages_that_the_link_takes_and_one_that_is_too_long_stops_none() {
        use cordon_model::wire::FromAgent;
        let directory = tempfile::tempdir().unwrap();
        let (mut spool, _) = Spool::open(directory.path()).unwrap();
        let long = |bytes: usize| Report::Gap {
            events: 1,
            what: "x".repeat(bytes),
            at: UtcNanos::from_unix_nanos(1),
        };
        let too_long = spool.push(long(2 << 20)).unwrap();
        let meant: Vec<u64> = (0..40).map(|_| spool.push(long(66 << 10)).unwrap()).collect();
        let (mut sent, mut after) = (Vec::new(), 0);
        loop {
            let batch = spool.batch_after(after);
            let Some(last) = batch.last() else { break };
            after = last.number;
            sent.extend(batch.iter().map(|report| report.number));
            let message = FromAgent::Reports(batch);
            assert!(cordon_link::frame::encode(&message, limits::MESSAGE_BYTES).is_ok());
        }
        assert!(!sent.contains(&too_long));
        assert_eq!(sent, meant);
        spool.acknowledged(after).unwrap();
        assert!(spool.is_empty());
    }

    #[test]
    fn a_number_is_never_used_twice() {
        let directory = tempfile::tempdir().unwrap();
        let mut used = std::collections::BTreeSet::new();
        for _ in 0..5 {
            let (mut spool, _) = Spool::open(directory.path()).unwrap();
            for _ in 0..3 {
                let number = spool.push(gap(0)).unwrap();
                assert!(used.insert(number), "{number}");
                spool.acknowledged(number).unwrap();
            }
        }
    }

    #[test]
    fn a_torn_end_is_cut_off_and_told() {
        let directory = tempfile::tempdir().unwrap();
        let (mut spool, _) = Spool::open(directory.path()).unwrap();
        spool.push(gap(1)).unwrap();
        drop(spool);
        let path = directory.path().join("spool.cbor");
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(&[0, 0, 1, 0, 7, 7]).unwrap();
        let (mut spool, torn) = Spool::open(directory.path()).unwrap();
        assert_eq!(torn, Some(Torn { bytes: 6 }));
        spool.push(gap(2)).unwrap();
        drop(spool);
        assert_eq!(Spool::open(directory.path()).unwrap().0.len(), 2);
    }

    #[test]
    fn a_flood_leaves_room_for_what_was_done_to_the_machine() {
        let directory = tempfile::tempdir().unwrap();
        let (mut spool, _) = Spool::open(directory.path()).unwrap();
        while spool.push(gap(1)).is_ok() {}
        assert_eq!(spool.len(), delivery::MOST_WAITING - KEPT_FOR_RECEIPTS - KEPT_FOR_SERIOUS);
        let order = cordon_model::ids::OrderId::new(UtcNanos::from_unix_nanos(1), [0; 10]);
        for _ in 0..KEPT_FOR_RECEIPTS {
            spool.push(Report::OrderRefused { order, why: "test".into() }).unwrap();
        }
    }

    #[test]
    fn a_frame_that_does_not_fit_the_disk_hides_none_that_comes_after_it() {
        let directory = tempfile::tempdir().unwrap();
        let (mut spool, _) = Spool::open(directory.path()).unwrap();
        spool.push(gap(1)).unwrap();
        // A file that can't be written to at all stands for the full disk.
        let good = std::mem::replace(&mut spool.file, File::open(&spool.path).unwrap());
        assert!(matches!(spool.push(gap(2)), Err(SpoolError::Disk { .. })));
        spool.file = good;
        spool.push(gap(3)).unwrap();
        drop(spool);
        let (spool, torn) = Spool::open(directory.path()).unwrap();
        assert_eq!((spool.len(), torn), (2, None));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(0u8.., 0..400)) {
            let (_, whole) = read_frames(&bytes);
            proptest::prop_assert!(whole <= bytes.len());
        }
    }
}
