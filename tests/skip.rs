//! Tests that can't run where they are: one way to say so, and one setting by which they must run.
//!
//! The one idea: a test that is skipped is green, so a machine on which everything is skipped is green and
//! has shown nothing. With [`MUST_RUN`] a test that lacks what root, namespaces and `tools/install test` give
//! fails instead. What no setting gives (a kernel that refuses eBPF, real logs that are kept elsewhere) is
//! said by [`cannot_be_had`], and stays skipped.

use std::path::Path;

/// `1`: nothing may be skipped for want of root or of a program. `.ci/run` sets it.
pub const MUST_RUN: &str = "CORDON_MUST_RUN";

/// Says why a test is skipped, for want of something that everybody can give it.
///
/// # Panics
/// If it must run.
#[track_caller]
pub fn skip(why: &str) {
    let must_run = std::env::var_os(MUST_RUN).is_some_and(|set| set == "1");
    assert!(!must_run, "this must run here, as {MUST_RUN} is 1, and can't: {why}");
    cannot_be_had(why);
}

/// Says why a test is skipped that can't run on this machine, whoever sets it up.
pub fn cannot_be_had(why: &str) {
    println!("skipped: {why}");
}

/// Whether `what` can't be done here for want of root; says so.
///
/// # Panics
/// As [`skip`].
#[must_use]
#[track_caller]
pub fn lacks_root(what: &str) -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        skip(&format!("{what} needs root"));
    }
    !is_root
}

/// Whether any of `programs` is not installed; says which.
///
/// # Panics
/// As [`skip`]. Not beside systemd, where `tools/install` leaves out what would be started at once.
#[must_use]
#[track_caller]
pub fn lacks_programs(programs: &[&str]) -> bool {
    let folders = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let is_there = |program: &&&str| folders.iter().any(|at| Path::new(at).join(program).exists());
    let missing: Vec<_> = programs.iter().filter(|program| !is_there(program)).collect();
    if missing.is_empty() {
        return false;
    }
    let why = format!("{missing:?} not installed here (`tools/install test` as root installs it)");
    if Path::new("/run/systemd/system").exists() {
        cannot_be_had(&why)
    } else {
        skip(&why)
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Not a test of its own: what the test below starts.
    #[test]
    fn child_that_skips() {
        match std::env::var("CORDON_TEST_SKIPS").as_deref() {
            Ok("skip") => skip("it is told to"),
            Ok("programs") => drop(lacks_programs(&["no-such-program"])),
            Ok("cannot") => cannot_be_had("it is told to"),
            _ => {}
        }
    }

    #[test]
    fn where_everything_must_run_only_what_cannot_be_had_is_skipped() {
        let child = |how: &str, must_run: &str| {
            let output = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "skip::tests::child_that_skips", "--nocapture"])
                .env("CORDON_TEST_SKIPS", how)
                .env(MUST_RUN, must_run)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            (output.status.success(), said.contains("skipped: "))
        };
        for how in ["skip", "programs", "cannot"] {
            assert_eq!(child(how, "0"), (true, true), "{how}");
        }
        assert_eq!(child("skip", "1"), (false, false));
        let is_left_out = Path::new("/run/systemd/system").exists();
        assert_eq!(child("programs", "1"), (is_left_out, is_left_out));
        assert_eq!(child("cannot", "1"), (true, true));
    }
}
