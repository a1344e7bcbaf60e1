//! Finding a real program, and running it in a machine's network namespace with files of its own.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::contain_world::Namespace;

/// Looks at a program that is to start or to stop, a twentieth of a second apart, before it is given up.
const LOOKS: u32 = 1200;

/// A program that runs until it is stopped, at the latest when this is dropped.
pub struct Daemon {
    child: Child,
}

impl Daemon {
    /// Starts `command`, which must become the program itself and not its parent.
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let log = std::fs::File::create(log).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child }
    }

    /// Waits until it is so, or until the program ended: `false` then.
    pub fn runs_until(&mut self, is_so: impl Fn() -> bool) -> bool {
        for _ in 0..LOOKS {
            if is_so() {
                return true;
            }
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return false;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("it runs, and never was so");
    }

    /// As a service manager does: asked first, then killed.
    pub fn stop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM);
        for _ in 0..LOOKS {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        panic!("it does not stop when asked to");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        } else {
            self.stop();
        }
    }
}

/// Runs a shell script as root of `namespace`, in mounts of its own.
pub fn script(namespace: &Namespace, text: &str) -> String {
    namespace.run("sh", &["-ec", text])
}

/// The rules of everybody but Cordon: nftables without counts, and what the old interface holds.
pub fn rules_of_others(namespace: &Namespace) -> String {
    let nft = namespace.run("nft", &["-s", "list", "ruleset"]);
    let mut rules = String::new();
    let mut is_ours = false;
    for line in nft.lines() {
        is_ours |= line.starts_with("table inet cordon ");
        if !is_ours {
            rules.push_str(line);
            rules.push('\n');
        }
        is_ours &= line != "}";
    }
    for old in ["iptables-legacy-save", "ip6tables-legacy-save"] {
        if Path::new("/usr/sbin").join(old).exists() {
            let saved = namespace.run(old, &[]);
            // Dates and counts of packets.
            let kept = saved.lines().filter(|line| !line.starts_with('#'));
            let kept = kept.map(|line| line.split(" [").next().unwrap());
            rules.extend(kept.flat_map(|line| [line, "\n"]));
        }
    }
    rules
}
