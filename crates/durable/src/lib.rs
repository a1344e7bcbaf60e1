//! Files that are whole or not there, whenever the machine dies.
//!
//! [`write_whole`] puts bytes under a name: after it the file holds all of them, on disk; if the machine
//! dies meanwhile, or the disk refuses, it holds what it held before. Only its owner may read it: what
//! Cordon keeps so are keys, identities and the state of what is in force.
//!
//! [`FileError`] says what was tried on which file, for the errors of those who use it. (The privileged
//! helper keeps two generations of a file with their checksums, and writes them by itself:
//! `agent/src/contain/disk.rs`.)

#![forbid(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Why a file could not be used.
#[derive(Debug, thiserror::Error)]
#[error("can't {what} {path}")]
pub struct FileError {
    /// What was tried.
    pub what: &'static str,
    /// On which file.
    pub path: PathBuf,
    /// Why not.
    #[source]
    pub source: io::Error,
}

impl From<FileError> for io::Error {
    fn from(error: FileError) -> Self {
        Self::new(error.source.kind(), error)
    }
}

/// Says of an error what was tried, and on which file.
pub fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError { what, path, source }
}

/// Puts `bytes` in place of what `path` holds, for its owner alone to read; on disk when this returns.
///
/// # Errors
/// If the system refuses; `path` then holds what it held before.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let unfinished = beside(path);
    // A dead writer's. Made anew each time, so that nobody else's mode or owner is inherited.
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove", &unfinished)(error));
        }
        _ => {}
    }
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished);
    let mut file = made.map_err(failed("make", &unfinished))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed("write", &unfinished))?;
    std::fs::rename(&unfinished, path).map_err(failed("name", path))?;
    // The name itself must be on disk too.
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(failed("sync", directory))
}

/// Where it is written before it has its name: `NAME.unfinished`.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".unfinished");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_file_is_replaced_whole_and_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        for text in ["the first, which is longer", "the second"] {
            write_whole(&path, text.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(
            std::fs::read_dir(directory.path()).unwrap().count(),
            1,
            "nothing is left beside"
        );
    }

    #[test]
    fn what_a_dead_writer_left_lends_neither_its_bytes_nor_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("command.key");
        std::fs::write(beside(&path), "torn, and longer than what comes").unwrap();
        std::fs::set_permissions(beside(&path), std::fs::Permissions::from_mode(0o644)).unwrap();
        write_whole(&path, b"whole").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_refusal_says_what_was_tried_where_and_leaves_the_old() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        write_whole(&path, b"old").unwrap();
        // In the way: a directory can't be removed as a file.
        std::fs::create_dir(beside(&path)).unwrap();
        let error = write_whole(&path, b"new").unwrap_err();
        assert_eq!(error.to_string(), format!("can't remove {}", beside(&path).display()));
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
    }
}
