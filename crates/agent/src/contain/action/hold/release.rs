//! Letting a tree go: each process is back where it came from, and goes on.

use std::io;
use std::path::Path;

use nix::errno::Errno;
use rustix::process::Signal;

use super::super::pens::{Hierarchy, Pens};
use super::super::{ActError, Undone, failed};
use super::{Group, Handle, Held, Holder};

impl Holder {
    /// Lets the tree go: each process is back in the control group that it came from, or continued.
    ///
    /// # Errors
    /// When the system fails; do it again.
    pub fn release(&self, held: &Held) -> Result<Undone, ActError> {
        let mut undone = Undone::default();
        if !self.is_of_this_boot(held) {
            return Ok(undone);
        }
        if let Some(hierarchy) = &self.hierarchy {
            let pens = Pens::of(hierarchy, held.measure);
            empty(hierarchy, &pens, held, &mut undone)?;
            pens.remove().map_err(failed("removing Cordon's control groups"))?;
        }
        for process in &held.stopped {
            let opened = Handle::open(*process).map_err(failed("opening a stopped process"))?;
            // Also one that does not stand still: it may have been told to stop, and not have come to it yet.
            // It would then stop for good, while a SIGCONT too many changes nothing.
            if let Some(handle) = opened {
                handle.signal(Signal::CONT).map_err(failed("continuing a stopped process"))?;
            }
        }
        Ok(undone)
    }
}

/// Moves all out of the pens, back to where they came from.
fn empty(
    hierarchy: &Hierarchy,
    pens: &Pens<'_>,
    held: &Held,
    undone: &mut Undone,
) -> Result<(), ActError> {
    // What goes on may fork, but not into a pen: each look finds fewer.
    loop {
        let inside = pens.inside().map_err(failed("reading Cordon's control groups"))?;
        if inside.is_empty() {
            return Ok(());
        }
        for (number, pid) in inside {
            let group = held.groups.get(number).map_or(Path::new("/"), |Group(path)| path);
            give_back(hierarchy, pid, group, undone)?;
        }
    }
}

fn give_back(
    hierarchy: &Hierarchy,
    pid: u32,
    group: &Path,
    undone: &mut Undone,
) -> Result<(), ActError> {
    let differs = |text: String, undone: &mut Undone| {
        if !undone.differs.contains(&text) {
            undone.differs.push(text);
        }
    };
    if !hierarchy.has(group) && hierarchy.make_again(group).is_ok() {
        let text =
            format!("control group {} had been removed, and was made again", group.display());
        differs(text, undone);
    }
    let is_gone = |error: &io::Error| error.raw_os_error() == Some(Errno::ESRCH as i32);
    match hierarchy.put(pid, group) {
        Ok(()) => return Ok(()),
        Err(error) if is_gone(&error) => return Ok(()),
        Err(error) => {
            let group = group.display();
            let text =
                format!("control group {group} takes no process any more ({error}): in the root");
            differs(text, undone);
        }
    }
    // Never left standing: the root takes every process.
    match hierarchy.put(pid, Path::new("/")) {
        Err(error) if !is_gone(&error) => Err(failed("moving a process out of its pen")(error)),
        _ => Ok(()),
    }
}
