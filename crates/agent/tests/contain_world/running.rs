//! A process to be frozen or ended.

use std::process::{Child, Command};

use cordon_agent::contain::action::lineage::Seen;
use cordon_model::action::ProcessTarget;
use cordon_model::finding::ProcessRef;
use cordon_model::time::BootId;

/// A process that is ended with its test.
pub struct Running(pub Child);

impl Running {
    pub fn start(program: &std::path::Path) -> Self {
        Self(Command::new(program).arg("1000").spawn().unwrap())
    }

    pub fn target(&self) -> ProcessTarget {
        target(self.0.id())
    }

    pub fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

/// A process that runs now, as an order names it.
pub fn target(pid: u32) -> ProcessTarget {
    let seen = Seen::now(pid).unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let process = ProcessRef { pid: seen.id.pid, started: seen.id.started, image: "sleep".into() };
    ProcessTarget { boot: BootId(boot.trim().into()), process }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
