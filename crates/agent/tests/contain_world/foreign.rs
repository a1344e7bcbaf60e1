//! Other people's programs in a namespace of the test: a shell in which they are to be had.
//!
//! They are unpacked beside the system by `tools/foreign` and see a file tree of their own, so that no
//! test can change the firewall or the addresses of the machine that it runs on. Everything that was
//! started ends with the shell.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use super::Namespace;

pub struct Shell {
    child: Child,
    orders: ChildStdin,
    says: Lines<BufReader<ChildStdout>>,
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The script that lays foreign programs over the system's.
pub fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/foreign")
}

/// Whether they are there; says so if not.
pub fn are_unpacked() -> bool {
    let are = script().with_file_name("../target/foreign/unpacked").exists();
    if !are {
        eprintln!("skipped: no foreign programs to try this with; tools/install test unpacks them");
    }
    are
}

impl Shell {
    /// A shell in `namespace`; `None` where foreign programs are not unpacked.
    pub fn inside(namespace: &Namespace) -> Option<Self> {
        if !are_unpacked() {
            return None;
        }
        let mut child = namespace
            .command(script().to_str().unwrap())
            .args(["run", "sh"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = child.stdin.take().unwrap();
        let says = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut shell = Self { child, orders, says };
        shell.run("exec 2>&1; set -e");
        Some(shell)
    }

    /// Runs a script to its end and gives what it printed. What it leaves running goes on.
    #[track_caller]
    pub fn run(&mut self, script: &str) -> String {
        writeln!(self.orders, "{script}\necho; echo @end").unwrap();
        let mut said = String::new();
        loop {
            match self.says.next() {
                Some(Ok(line)) if line == "@end" => return said,
                Some(Ok(line)) => {
                    said.push_str(&line);
                    said.push('\n');
                }
                Some(Err(error)) => panic!("{error} in {script}"),
                None => panic!("failed: {script}\n{said}"),
            }
        }
    }
}
