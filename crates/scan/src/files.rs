//! Which files a scan reads: those named, and all under the folders named, in a stable order.
//!
//! Links are followed; a folder or file that was seen under another name is not read twice, which also
//! ends every loop.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Folders nested deeper than this are reported, not entered: 128, four times the longest path that a
/// backup of a Windows disk was seen to need, and small against any stack.
const DEPTH: usize = 128;

/// One file to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogFile {
    pub path: PathBuf,
    pub bytes: u64,
    /// Whether its owner named it. A file met in a folder may be no log at all, one that was named is
    /// expected to be one.
    pub is_named: bool,
}

/// What there is to read.
#[derive(Debug, Default)]
pub(crate) struct Files {
    pub files: Vec<LogFile>,
    /// Paths that can't be entered or opened, with the reason.
    pub refused: Vec<(PathBuf, io::Error)>,
    seen: HashSet<PathBuf>,
}

impl Files {
    /// Everything under `paths`.
    pub(crate) fn under(paths: &[PathBuf]) -> Self {
        let mut files = Self::default();
        for path in paths {
            files.add(path, None, 0);
        }
        files
    }

    /// How many bytes there are.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// `real` is where the path leads, if that is known; it is for what was met in a folder and is no link.
    fn add(&mut self, path: &Path, real: Option<PathBuf>, depth: usize) {
        if let Err(error) = self.try_add(path, real, depth) {
            self.refused.push((path.to_owned(), error));
        }
    }

    fn try_add(&mut self, path: &Path, real: Option<PathBuf>, depth: usize) -> io::Result<()> {
        let is_named = depth == 0;
        let about = fs::metadata(path)?;
        if !about.is_dir() && !about.is_file() {
            // A pipe or a device has no beginning to go back to, and no end.
            if is_named {
                return Err(io::Error::other("neither a file nor a folder"));
            }
            return Ok(());
        }
        let real = real.map_or_else(|| fs::canonicalize(path), Ok)?;
        if about.is_file() {
            if self.seen.insert(real) {
                self.files.push(LogFile { path: path.to_owned(), bytes: about.len(), is_named });
            }
            return Ok(());
        }
        if !self.seen.insert(real.clone()) {
            return Ok(());
        }
        if depth >= DEPTH {
            return Err(io::Error::other("nested too deeply"));
        }
        let mut entries = fs::read_dir(path)?
            .map(|entry| entry.map(|entry| (entry.file_name(), entry.file_type())))
            .collect::<io::Result<Vec<_>>>()?;
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (name, kind) in entries {
            // To ask the system where each of thousands of files leads costs more than all else here.
            let is_itself = kind.is_ok_and(|kind| kind.is_file() || kind.is_dir());
            self.add(&path.join(&name), is_itself.then(|| real.join(&name)), depth + 1);
        }
        Ok(())
    }
}

/// The most that one thread takes at once of small files: 1 MiB, some milliseconds of work. For each parcel
/// threads are woken and sent to sleep, which for a log of one chunk costs as much as to read it.
const PARCEL_BYTES: u64 = 1 << 20;
/// Parcels for each thread, at least, so that all end at about the same time.
const PARCELS_PER_THREAD: u64 = 16;

/// Which files follow each other in one thread's hands.
pub(crate) fn parcels(files: &[LogFile], threads: usize) -> Vec<Range<usize>> {
    let all: u64 = files.iter().map(|file| file.bytes).sum();
    let most = (all / (threads as u64 * PARCELS_PER_THREAD).max(1)).min(PARCEL_BYTES);
    let mut parcels: Vec<Range<usize>> = Vec::new();
    let mut bytes = 0;
    for (number, file) in files.iter().enumerate() {
        match parcels.last_mut() {
            Some(parcel) if bytes + file.bytes <= most => {
                parcel.end = number + 1;
                bytes += file.bytes;
            }
            _ => {
                parcels.push(number..number + 1);
                bytes = file.bytes;
            }
        }
    }
    parcels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_read_in_order_and_each_file_once() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("b/c")).unwrap();
        for name in ["z", "a", "b/2", "b/1", "b/c/x"] {
            fs::write(at(name), name).unwrap();
        }
        let files = Files::under(&[at("z"), dir.path().to_owned()]);
        let names: Vec<_> = files.files.iter().map(|file| file.path.clone()).collect();
        assert_eq!(names, ["z", "a", "b/1", "b/2", "b/c/x"].map(at));
        assert!(files.files[0].is_named && !files.files[1].is_named);
        assert_eq!(files.bytes(), 13);
    }

    #[cfg(unix)]
    #[test]
    fn a_loop_of_links_ends() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("a")).unwrap();
        fs::write(at("a/log"), "x").unwrap();
        std::os::unix::fs::symlink(dir.path(), at("a/up")).unwrap();
        std::os::unix::fs::symlink(at("gone"), at("a/dangling")).unwrap();
        let files = Files::under(&[dir.path().to_owned()]);
        assert_eq!(files.files.len(), 1);
        assert_eq!(files.refused.len(), 1);
        assert_eq!(files.refused[0].0, at("a/dangling"));
    }

    #[test]
    fn parcels_are_small_and_leave_no_file_out() {
        for (threads, most) in [(1, 64), (2, 32), (3, 21)] {
            let sizes = (0..1024u64).map(|number| number % 3);
            let files: Vec<_> = sizes
                .map(|bytes| LogFile { path: PathBuf::new(), bytes, is_named: false })
                .collect();
            let parcels = parcels(&files, threads);
            assert_eq!((parcels[0].start, parcels.last().unwrap().end), (0, 1024));
            assert!(parcels.windows(2).all(|pair| pair[0].end == pair[1].start));
            let bytes = |parcel: &Range<usize>| -> u64 {
                files[parcel.clone()].iter().map(|file| file.bytes).sum()
            };
            let largest = parcels.iter().map(bytes).max().unwrap();
            assert!((most - 2..=most).contains(&largest), "{largest} for {threads}");
        }
        assert!(parcels(&[], 2).is_empty());
    }

    #[test]
    fn a_path_that_is_not_there_is_refused_with_its_reason() {
        let files = Files::under(&["/no/such/path".into()]);
        assert_eq!(files.refused[0].1.kind(), io::ErrorKind::NotFound);
    }
}
