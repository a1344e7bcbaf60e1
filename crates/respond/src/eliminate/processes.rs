//! Steps about what runs, and about the programs that findings name.
//!
//! The one idea: a process is one process of one boot, or it is left alone: its number, its start and the
//! boot have to agree with what runs now. All that descends from it is shown and ends with it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cordon_model::action::{Action, FilePath, FileTarget, ProcessTarget};
use cordon_model::finding::{Finding, ProcessRef, ReceivedFinding};
use cordon_model::look::SeenProcess;
use cordon_model::measure::MeasureState;

use super::{
    Draft, Drafts, Facts, How, Processes, Rank, StepStatus, dropped, measured, place, reasons,
    status_of,
};

/// The kernel tells a start to this: one of its ticks (a hundredth of a second). A process's own files say
/// it no finer.
pub(super) const TICK: u64 = 10_000_000;

/// How far a machine's clock and its hub's may be apart when it is told whether a finding is of this boot.
pub(super) const CLOCKS_APART: Duration = Duration::from_secs(300);

/// Processes of a tree that are named; all are counted.
const NAMED: usize = 12;

/// Trees that end: each finding's process that still runs, but for those below another such.
pub(super) fn trees(
    counted: &[&ReceivedFinding],
    facts: &Facts<'_>,
    drafts: &mut Drafts,
    looked_at: &mut Vec<String>,
) {
    let processes = match &facts.processes {
        Ok(processes) => processes,
        Err(why) => {
            looked_at.push(format!("what runs there: NOT LOOKED AT: {why}"));
            drafts.put(Draft {
                key: "processes".to_owned(),
                rank: Rank::Look,
                what: "what runs there".to_owned(),
                why: vec!["a finding's process may still run".to_owned()],
                how: How::ByHand {
                    todo: "look at what runs on the machine itself".to_owned(),
                    because: "the machine did not tell".to_owned(),
                },
                status: StepStatus::Unknown { why: why.clone() },
            });
            return;
        }
    };
    let named = named(counted);
    let running = running(&named, processes, facts);
    looked_at.push(format!(
        "{} of {} processes, looked at now; of {} that findings name, {} run",
        processes.listed.len(),
        processes.of,
        named.len(),
        running.len(),
    ));
    let children = children(processes);
    let below: BTreeSet<u32> =
        running.keys().flat_map(|pid| descendants(*pid, &children)).collect();
    for (pid, findings) in &running {
        let Some(seen) = processes.listed.iter().find(|one| one.process.pid == *pid) else {
            continue;
        };
        if !below.contains(pid) {
            drafts.put(tree(facts, processes, seen, findings, &descendants(*pid, &children)));
        }
    }
    ended(&named, &running, facts, drafts);
    if (processes.listed.len() as u64) < u64::from(processes.of) {
        drafts.put(Draft {
            key: "processes not told".to_owned(),
            rank: Rank::Look,
            what: "processes that were not told".to_owned(),
            why: vec![format!("{} of {} were told", processes.listed.len(), processes.of)],
            how: How::ByHand {
                todo: "look at the oldest processes on the machine itself".to_owned(),
                because: "there are more than one answer holds, and the youngest are told"
                    .to_owned(),
            },
            status: StepStatus::Unknown { why: "they were not told".to_owned() },
        });
    }
}

/// The processes that findings name, with their findings.
type Named<'a> = BTreeMap<(u32, u64), Vec<&'a ReceivedFinding>>;

fn named<'a>(counted: &[&'a ReceivedFinding]) -> Named<'a> {
    let mut named = Named::new();
    for received in counted {
        if let Some(process) = &received.finding.process {
            named.entry((process.pid, process.started.0 / TICK)).or_default().push(received);
        }
    }
    named
}

/// Those of them that run now.
fn running<'a>(
    named: &Named<'a>,
    processes: &Processes,
    facts: &Facts<'_>,
) -> BTreeMap<u32, Vec<&'a ReceivedFinding>> {
    let mut running = BTreeMap::new();
    for seen in &processes.listed {
        let id = (seen.process.pid, seen.process.started.0 / TICK);
        let Some(findings) = named.get(&id) else { continue };
        let of_this_boot: Vec<&ReceivedFinding> = findings
            .iter()
            .copied()
            .filter(|received| {
                facts
                    .boot_began
                    .is_none_or(|began| received.finding.time.plus(CLOCKS_APART) >= began)
            })
            .collect();
        if !of_this_boot.is_empty() {
            running.insert(seen.process.pid, of_this_boot);
        }
    }
    running
}

/// The users as which those run that findings name, by what runs now.
pub(super) fn users(counted: &[&ReceivedFinding], facts: &Facts<'_>) -> Vec<u32> {
    let Ok(processes) = &facts.processes else { return Vec::new() };
    let running = running(&named(counted), processes, facts);
    let is_named = |one: &&SeenProcess| running.contains_key(&one.process.pid);
    processes.listed.iter().filter(is_named).map(|one| one.user).collect()
}

fn children(processes: &Processes) -> BTreeMap<u32, Vec<&SeenProcess>> {
    let mut children: BTreeMap<u32, Vec<&SeenProcess>> = BTreeMap::new();
    for seen in &processes.listed {
        children.entry(seen.parent).or_default().push(seen);
    }
    children
}

/// All that descend from a process, without itself. A table that a liar made round ends all the same.
fn descendants(pid: u32, children: &BTreeMap<u32, Vec<&SeenProcess>>) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    let mut open = vec![pid];
    while let Some(parent) = open.pop() {
        for child in children.get(&parent).into_iter().flatten() {
            let child = child.process.pid;
            if child != pid && found.insert(child) {
                open.push(child);
            }
        }
    }
    found
}

fn tree(
    facts: &Facts<'_>,
    processes: &Processes,
    seen: &SeenProcess,
    findings: &[&ReceivedFinding],
    below: &BTreeSet<u32>,
) -> Draft {
    let pid = seen.process.pid;
    let words = |one: &SeenProcess| format!("{} {}", one.process.pid, plain(&one.command));
    let mut shown: Vec<String> = processes
        .listed
        .iter()
        .filter(|one| below.contains(&one.process.pid))
        .take(NAMED)
        .map(words)
        .collect();
    if below.len() > shown.len() {
        shown.push(format!("and {} more", below.len() - shown.len()));
    }
    let does = match below.len() {
        0 => format!("ends the process {}; it has no children now", words(seen)),
        count => format!(
            "ends the process {} and the {count} that descend from it: {}",
            words(seen),
            shown.join("; ")
        ),
    };
    // By the finding's own words: of its start they are finer, and of its program more than a look without
    // privilege tells.
    let process = findings.iter().find_map(|received| received.finding.process.clone());
    let process = process.unwrap_or_else(|| seen.process.clone());
    let what = format!("process {pid} ({}) and all that descend from it", plain(&process.image));
    let action = Action::Kill(ProcessTarget { boot: processes.boot.clone(), process });
    let status = match status_of(killed(facts, &seen.process)) {
        StepStatus::Done { .. } => {
            StepStatus::ToDo { last: Some("it was ended, and still runs".to_owned()) }
        }
        status => status,
    };
    let how = match action.check() {
        Ok(()) => How::Order { action, does: format!("{does}. That can't be taken back") },
        Err(error) => How::ByHand {
            todo: "restart the machine, and look again".to_owned(),
            because: error.to_string(),
        },
    };
    Draft {
        key: format!("process {pid} {} {:?}", seen.process.started.0 / TICK, processes.boot),
        rank: Rank::Tree,
        what,
        why: reasons(findings.iter().copied()),
        how,
        status,
    }
}

fn killed<'a>(facts: &Facts<'a>, process: &ProcessRef) -> Option<&'a super::Measured> {
    measured(facts, |action| {
        matches!(action, Action::Kill(target) if target.process.pid == process.pid
            && target.process.started.0 / TICK == process.started.0 / TICK)
    })
}

/// What a measure ended is shown as done; what ended by itself is only counted.
fn ended(
    named: &Named<'_>,
    running: &BTreeMap<u32, Vec<&ReceivedFinding>>,
    facts: &Facts<'_>,
    drafts: &mut Drafts,
) {
    for ((pid, started), findings) in named {
        let process = findings.iter().find_map(|received| received.finding.process.as_ref());
        let Some(process) = process.filter(|_| !running.contains_key(pid)) else { continue };
        let Some(measured) = killed(facts, process) else { continue };
        let last = match &measured.state {
            MeasureState::Done => "it was ended, and runs no more".to_owned(),
            _ => "it runs no more".to_owned(),
        };
        drafts.put(Draft {
            key: format!("ended {pid} {started}"),
            rank: Rank::Tree,
            what: format!("process {pid} ({})", plain(&process.image)),
            why: reasons(findings.iter().copied()),
            how: How::Order { action: measured.action.clone(), does: "nothing more".to_owned() },
            status: StepStatus::Done { shown: format!("{last}, by what runs now") },
        });
    }
}

/// The program that a finding names, if it has a name that an order can name. Of one without nothing is left but
/// what runs.
pub(super) fn program_of(finding: &Finding) -> Option<FilePath> {
    let image = &finding.process.as_ref()?.image;
    let is_named = image.starts_with('/') && !image.ends_with(" (deleted)");
    let path = FilePath::new(image.as_bytes());
    (is_named && path.check().is_ok()).then_some(path)
}

/// The programs that findings name, each once.
pub(super) fn programs(counted: &[&ReceivedFinding], facts: &Facts<'_>, drafts: &mut Drafts) {
    let mut by_image: BTreeMap<FilePath, Vec<&ReceivedFinding>> = BTreeMap::new();
    for received in counted {
        if let Some(path) = program_of(&received.finding) {
            by_image.entry(path).or_default().push(received);
        }
    }
    for (path, findings) in by_image {
        let why = reasons(findings.iter().copied());
        if drafts.also(&path, &why) {
            continue;
        }
        let is_it =
            |action: &Action| matches!(action, Action::Quarantine(target) if target.path == path);
        let status = dropped::shown(facts, &path, status_of(measured(facts, is_it)));
        let how = match place::program_by_hand(&path) {
            None => How::Order {
                does: format!(
                    "moves the program {path} into the machine's vault, encrypted: it can't be started from \
                     there any more. `cordon measure undo` puts it back exactly"
                ),
                action: Action::Quarantine(FileTarget { path: path.clone(), sha256: None }),
            },
            Some(because) => How::ByHand {
                todo: format!(
                    "compare {path} with what its package brought, and set it aside if it differs (`cordon \
                     measure quarantine {} {path}`)",
                    facts.name
                ),
                because: because.to_owned(),
            },
        };
        drafts.put(Draft {
            key: format!("program {path}"),
            rank: Rank::Program,
            what: format!("the program {path}"),
            why,
            how,
            status,
        });
    }
}

/// Words of strangers: nothing in them may drive a terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
