//! What a measure would stop, take away or leave alone on this machine now, if it were ordered: for people who
//! are about to. Nothing is changed.
//!
//! The one idea: what would be refused, and what would be spared, is told by the same [`super::spared`] that would
//! refuse and spare. What is counted is counted now: a tree may have grown when the order comes.

use std::collections::{HashMap, HashSet};

use cordon_model::action::{Denied, FilePath, FileTarget};
use cordon_model::look::Would;

use super::lineage::Seen;
use super::place::Place;
use super::spared::{FileId, Protected, SparedFiles, SparedProcesses};
use super::{ActError, path_of};
use crate::sensor::{ProcessId, proc_files};

/// How much of a command line is told here: enough to tell two programs apart.
const COMMAND_BYTES: usize = 160;

/// A tree of processes would stand still, or end.
pub fn to_a_tree(root: ProcessId, protected: &Protected, agent_user: u32) -> Would {
    let mut would = Would::default();
    let all = Seen::all();
    let Some(first) = all.iter().find(|seen| seen.id.is(root) && !seen.is_over()) else {
        return Would::refused("the process is gone, or its number is another's by now");
    };
    let spared = SparedProcesses::now(protected, Some(agent_user));
    if let Some(why) = spared.why(first) {
        return Would::refused(format!("process {}: {why}", root.pid));
    }
    would.notes.extend(spared.doubts());
    let mut below: HashMap<u32, Vec<&Seen>> = HashMap::new();
    for seen in &all {
        below.entry(seen.parent).or_default().push(seen);
        // As the measure takes them: whoever is in a session that a member leads.
        if seen.session != seen.parent {
            below.entry(seen.session).or_default().push(seen);
        }
    }
    let (mut known, mut left) = (HashSet::from([root.pid]), vec![first]);
    while let Some(seen) = left.pop() {
        would.stops(line(seen.id.pid));
        for child in below.get(&seen.id.pid).into_iter().flatten() {
            if child.is_over() || !known.insert(child.id.pid) {
                continue;
            }
            match spared.why(child) {
                Some(why) => would.spares(format!("{}: {why}", line(child.id.pid))),
                None => left.push(child),
            }
        }
    }
    would
}

fn line(pid: u32) -> String {
    let arguments = proc_files::arguments(pid).unwrap_or_default();
    let words = String::from_utf8_lossy(&arguments).replace('\0', " ");
    let mut words = words.trim_end().to_owned();
    if words.is_empty() {
        words = proc_files::stat(pid).map(|stat| stat.short_name).unwrap_or_default();
    }
    let mut end = words.len().min(COMMAND_BYTES);
    while !words.is_char_boundary(end) {
        end -= 1;
    }
    format!("process {pid}: {}", &words[..end])
}

/// A file would be set aside.
pub fn to_a_file(target: &FileTarget, spared: &SparedFiles) -> Would {
    let mut would = match of_file(&target.path, spared) {
        Ok(would) => would,
        Err(error) => return Would::refused(error.to_string()),
    };
    if target.sha256.is_some() {
        would
            .notes
            .push("only if it holds what was ordered: that is looked at when it is done".into());
    }
    would
}

/// A program could not be started.
pub fn to_a_program(denied: &Denied, spared: &SparedFiles) -> Would {
    match denied {
        Denied::Path(path) => {
            of_file(path, spared).unwrap_or_else(|error| Would::refused(error.to_string()))
        }
        Denied::Sha256(digest) => {
            let mut would = Would::default();
            would.stops(format!("starting whatever holds sha256:{digest}, wherever it is"));
            would.notes.push(
                "which files hold that, and whether one is needed, is looked for when it is ordered".into(),
            );
            would
        }
    }
}

/// The file, and who runs it now.
fn of_file(path: &FilePath, spared: &SparedFiles) -> Result<Would, ActError> {
    let place = Place::find(path_of(path))?;
    let found = place.file()?;
    if let Some(why) = spared.why(found.id(), Some(&place)) {
        return Err(ActError::refused(why));
    }
    let mut would = Would::default();
    would.stops(format!("{path} ({} bytes)", found.metadata.len()));
    let runs = |pid: &u32| FileId::at(format!("/proc/{pid}/exe")) == Some(found.id());
    for pid in proc_files::pids().into_iter().filter(runs) {
        would.notes.push(format!("runs now, and goes on: {}", line(pid)));
    }
    Ok(would)
}
