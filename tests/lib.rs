//! Whole-program tests: the real binary, real packets, a real browser; and the tree itself.
//!
//! What the tests share: where the binary is, a running `cordon up`, and whether this machine can run what
//! a test needs.

#![forbid(unsafe_code)]

mod hospital;
mod person;
mod programs;
mod skip;
mod up;

pub use hospital::{End, HUBS_ADDRESS, Hospital};
pub use person::Person;
pub use programs::copy_program;
pub use skip::{MUST_RUN, cannot_be_had, lacks_programs, lacks_root, skip};
pub use up::{Attack, Up, Where, eventually, log_in};

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The root of the source tree.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// The real `cordon`, built now if it is not up to date.
///
/// # Panics
/// If it can't be built: then no whole-program test can mean anything.
#[must_use]
#[expect(clippy::expect_used, reason = "a test harness stops where it can't go on")]
pub fn cordon() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let mut build = Command::new(option_env!("CARGO").unwrap_or("cargo"));
        build.args(["build", "--locked", "--quiet", "--package", "cordon", "--bin", "cordon"]);
        // What `cordon role helper` goes on as.
        build.args(["--package", "cordon-helper", "--bin", "cordon-helper"]);
        // What cargo tells this test of its package would have some build scripts (ring's) run anew, and with them half
        // of the workspace.
        for (name, _) in std::env::vars_os() {
            let told = name.to_string_lossy();
            if told.starts_with("CARGO_PKG_") || told.starts_with("CARGO_MANIFEST_") {
                build.env_remove(&name);
            }
        }
        let status = build.current_dir(root()).status().expect("running cargo");
        assert!(status.success(), "cordon can't be built");
        // Test programs lie in `<target>/<profile>/deps`.
        let own = std::env::current_exe().expect("finding this test");
        let profile = own.ancestors().nth(2).expect("a test lies in a profile's directory");
        profile.join("cordon")
    })
}
