//! Which files a scan reads: those named, and all under the folders named, in a stable order.
//!
//! Links are followed; a folder or file that was seen under another name is not read twice, which also
//! ends every loop.

use std::collections::HashSet;
use std::fs;
use std::io;
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
            files.add(path, true, 0);
        }
        files
    }

    /// How many bytes there are.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    fn add(&mut self, path: &Path, is_named: bool, depth: usize) {
        if let Err(error) = self.try_add(path, is_named, depth) {
            self.refused.push((path.to_owned(), error));
        }
    }

    fn try_add(&mut self, path: &Path, is_named: bool, depth: usize) -> io::Result<()> {
        let about = fs::metadata(path)?;
        if !about.is_dir() && !about.is_file() {
            // A pipe or a device has no beginning to go back to, and no end.
            if is_named {
                return Err(io::Error::other("neither a file nor a folder"));
            }
            return Ok(());
        }
        if !self.seen.insert(fs::canonicalize(path)?) {
            return Ok(());
        }
        if about.is_file() {
            self.files.push(LogFile { path: path.to_owned(), bytes: about.len(), is_named });
            return Ok(());
        }
        if depth >= DEPTH {
            return Err(io::Error::other("nested too deeply"));
        }
        let mut names = fs::read_dir(path)?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        for name in names {
            self.add(&path.join(name), false, depth + 1);
        }
        Ok(())
    }
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
    fn a_path_that_is_not_there_is_refused_with_its_reason() {
        let files = Files::under(&["/no/such/path".into()]);
        assert_eq!(files.refused[0].1.kind(), io::ErrorKind::NotFound);
    }
}
