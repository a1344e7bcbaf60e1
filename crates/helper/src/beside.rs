//! Going on as the small program, where it lies beside this one.
//!
//! The one idea: it will run as root, so it is taken only where nobody but root can have put it: it and every
//! folder above it are root's and writable by nobody else. It must also be of this very version, for the words
//! between helper and agent may change with one. Whatever is missing, nothing is lost: this program
//! has the same roles.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The small program's name.
pub const PROGRAM: &str = "cordon-helper";

/// Goes on as the program beside this one, with the same arguments and environment. Comes back only if that
/// can't be, and says why.
#[must_use]
pub fn go_on() -> String {
    let program = match trusted() {
        Ok(program) => program,
        Err(why) => return why,
    };
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| "cordon".into());
    let error = Command::new(&program).arg0(name).args(arguments).exec();
    format!("{} can't be started: {error}", program.display())
}

fn trusted() -> Result<PathBuf, String> {
    let own =
        fs::read_link("/proc/self/exe").map_err(|error| format!("/proc/self/exe: {error}"))?;
    let program = own.with_file_name(PROGRAM);
    only_roots(&program)?;
    let said = Command::new(&program)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{} can't be started: {error}", program.display()))?;
    let said = String::from_utf8_lossy(&said.stdout);
    let wanted = concat!("cordon-helper ", env!("CARGO_PKG_VERSION"));
    if said.trim() != wanted {
        return Err(format!("{} is {:?}, not {wanted:?}", program.display(), said.trim()));
    }
    Ok(program)
}

/// Whether nobody but root can have put this file there, or can put another in its place.
fn only_roots(path: &Path) -> Result<(), String> {
    for (depth, part) in path.ancestors().enumerate() {
        let name = part.display();
        let found = fs::symlink_metadata(part).map_err(|error| format!("{name}: {error}"))?;
        let is_right = if depth == 0 { found.is_file() } else { found.is_dir() };
        if !is_right {
            return Err(format!(
                "{name} is no plain {}",
                if depth == 0 { "file" } else { "folder" }
            ));
        }
        if found.uid() != 0 {
            return Err(format!("{name} is not root's"));
        }
        if found.mode() & 0o022 != 0 {
            return Err(format!("{name} can be written to by others than root"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    /// A folder that is root's from `/` down: what is temporary is everybody's.
    fn roots_folder() -> Option<tempfile::TempDir> {
        if cordon_tests::lacks_root("making files that are root's") {
            return None;
        }
        let folder = tempfile::tempdir_in("/root").unwrap();
        only_roots(&folder.path().join("..")).unwrap_err();
        Some(folder)
    }

    fn program(folder: &Path, mode: u32) -> PathBuf {
        let path = folder.join(PROGRAM);
        fs::write(&path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn only_what_root_alone_can_have_put_there_is_run() {
        let Some(folder) = roots_folder() else { return };
        let path = program(folder.path(), 0o755);
        assert_eq!(only_roots(&path), Ok(()));

        for mode in [0o775, 0o757] {
            program(folder.path(), mode);
            assert!(only_roots(&path).is_err(), "{mode:o}");
        }
        program(folder.path(), 0o755);
        chown(&path, Some(1), None).unwrap();
        assert!(only_roots(&path).is_err(), "another user's program");
        chown(&path, Some(0), None).unwrap();

        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        assert!(only_roots(&path).is_err(), "in a folder that anybody writes to");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        chown(folder.path(), Some(1), None).unwrap();
        assert!(only_roots(&path).is_err(), "in another user's folder");
        chown(folder.path(), Some(0), None).unwrap();
        assert_eq!(only_roots(&path), Ok(()));

        fs::rename(&path, folder.path().join("elsewhere")).unwrap();
        symlink(folder.path().join("elsewhere"), &path).unwrap();
        assert!(only_roots(&path).is_err(), "a link");
        fs::remove_file(&path).unwrap();
        assert!(only_roots(&path).is_err(), "nothing");
    }

    #[test]
    fn a_program_that_is_not_beside_is_not_run() {
        // This test's own folder has none, or is not root's alone.
        let why = trusted().unwrap_err();
        assert!(why.contains(PROGRAM) || why.contains("root"), "{why}");
    }
}
