//! Steps about what a machine's lookout saw to be changed by the processes that findings name, or by what came of them.
//!
//! The one idea: what stood there before is put back only if **nobody else** has changed the place since the first of
//! those processes did: else what they wrote would go with it, and a person decides. A process is told by its number and
//! its start, and so are those above it: what an intruder's shell started counts with the shell.
//!
//! Of a place that has a step here, no other step is made by what the survey says of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cordon_model::action::{
    Action, FilePath, FileTarget, MOST_UNDONE, PutBackTarget, UndoneProcess,
};
use cordon_model::change::{Change, Changes, Doer, Stood};
use cordon_model::finding::{ProcessRef, ReceivedFinding};
use cordon_model::survey::ThingKind;
use cordon_model::time::{BootId, UtcNanos};

use super::processes::{CLOCKS_APART, TICK};
use super::{Draft, Drafts, Facts, How, Measured, Rank, StepStatus, age, measured, status_of};

/// Lines of a change that a step shows.
const SHOWN_LINES: usize = 3;

/// The steps; the places that they are about.
pub(super) fn steps(
    counted: &[&ReceivedFinding],
    facts: &Facts<'_>,
    since: Option<UtcNanos>,
    drafts: &mut Drafts,
    looked_at: &mut Vec<String>,
) -> BTreeSet<FilePath> {
    let changes = match &facts.changes {
        Ok(changes) => changes,
        Err(why) => {
            looked_at.push(format!("what was changed there, and by whom: NOT SEEN: {why}"));
            return BTreeSet::new();
        }
    };
    let named = Named::of(counted, facts);
    let mut by_path: BTreeMap<&FilePath, Vec<&Change>> = BTreeMap::new();
    for change in &changes.changes {
        // An account that came is disabled, and its line left: others of that file are everybody's.
        if change.kind != ThingKind::Account {
            by_path.entry(&change.path).or_default().push(change);
        }
    }
    let mut places = BTreeSet::new();
    for (path, mut changes) in by_path {
        changes.sort_by_key(|change| change.number);
        let first = first_left(&changes, &named);
        let Some(first) = first.filter(|_| path.check().is_ok()) else { continue };
        drafts.put(of_place(facts, path, changes.split_at(first), since, &named));
        places.insert(path.clone());
    }
    looked_at.push(in_words(facts, changes, places.len()));
    if (changes.changes.len() as u64) < u64::from(changes.of) {
        drafts.put(not_told(changes));
    }
    places
}

fn in_words(facts: &Facts<'_>, changes: &Changes, places: usize) -> String {
    let gaps = match &changes.gaps[..] {
        [] => String::new(),
        [first, ..] => format!("; NOT ALL WAS SEEN: {first} ({} such)", changes.gaps.len()),
    };
    format!(
        "{} of {} changes of what starts by itself or lets somebody in, looked at {} ago, seen since {}; {places} \
         places were changed by what findings name{gaps}",
        changes.changes.len(),
        changes.of,
        age(facts.now, changes.taken_at),
        changes.watched_since,
    )
}

fn not_told(changes: &Changes) -> Draft {
    Draft {
        key: "changes not told".to_owned(),
        rank: Rank::Look,
        what: "changes that were not told".to_owned(),
        why: vec![format!("{} of {} were told", changes.changes.len(), changes.of)],
        how: How::ByHand {
            todo: "look on the machine itself at what else was changed since the beginning"
                .to_owned(),
            because: "there are more than one answer holds, and the newest are told".to_owned(),
        },
        status: StepStatus::Unknown { why: "they were not told".to_owned() },
    }
}

/// From where on something of theirs is left: the first of their changes, or the first since Cordon put the place back.
/// What stood there before it is what is put back.
fn first_left(changes: &[&Change], named: &Named) -> Option<usize> {
    let mut first = changes.iter().position(|change| named.did(change))?;
    while let Some(at) = put_back_at(changes, first) {
        match changes[at..].iter().position(|change| named.did(change)) {
            Some(next) => first = at + next,
            None => break,
        }
    }
    Some(first)
}

/// Where Cordon put back what stood there before the change at `first`, if it did not take that back.
fn put_back_at(changes: &[&Change], first: usize) -> Option<usize> {
    let before = &changes.get(first)?.before;
    let last_by_cordon = changes.iter().rposition(|change| change.is_by_cordon())?;
    let is_it = last_by_cordon > first && changes.get(last_by_cordon)?.after.is(before);
    is_it.then_some(last_by_cordon)
}

/// A process's number, and its start in ticks.
type Id = (u32, u64);

/// The processes that findings name: a number and a start are of one boot.
struct Named {
    boot: Option<BootId>,
    of_this_boot: BTreeSet<Id>,
    /// With when each was found: a finding does not say of which boot it is.
    of_earlier: BTreeMap<Id, Vec<UtcNanos>>,
    /// Which boot it was when something changed.
    boots: Vec<(UtcNanos, BootId)>,
}

impl Named {
    fn of(counted: &[&ReceivedFinding], facts: &Facts<'_>) -> Self {
        let processes = facts.processes.as_ref().ok();
        let listed = processes.map_or(&[][..], |processes| &processes.listed);
        let runs: BTreeSet<Id> = listed.iter().map(|one| id(&one.process)).collect();
        let changes = facts.changes.as_ref().map_or(&[][..], |changes| &changes.changes);
        let boots = changes.iter().map(|change| (change.at, change.boot.clone())).collect();
        let mut named = Self {
            boot: processes.map(|processes| processes.boot.clone()),
            of_this_boot: BTreeSet::new(),
            of_earlier: BTreeMap::new(),
            boots,
        };
        for received in counted {
            let Some(process) = &received.finding.process else { continue };
            let (id, time) = (id(process), received.finding.time);
            // How long the machine had run when it was found: as it says, or no shorter than the process.
            let told = received.finding.boot_time;
            let uptime = Duration::from_nanos(told.unwrap_or(process.started).0);
            let began = facts.boot_began;
            let is_of_this = began.is_none_or(|began| {
                let then = began.plus(uptime);
                then.since(time) <= CLOCKS_APART
                    && (told.is_none() || time.since(then) <= CLOCKS_APART)
            });
            if is_of_this {
                named.of_this_boot.insert(id);
            }
            // What runs now is of no earlier boot.
            let is_of_earlier = began.is_none_or(|began| time < began.plus(CLOCKS_APART));
            if is_of_earlier && !(is_of_this && runs.contains(&id)) {
                named.of_earlier.entry(id).or_default().push(time);
            }
        }
        named
    }

    /// Whether one of them did it, or what came of one, and nobody else.
    fn did(&self, change: &Change) -> bool {
        !change.by.is_empty() && change.by.iter().all(|doer| self.of_them(change, doer).is_some())
    }

    /// Whom of them the one came of, that changed it.
    fn of_them(&self, change: &Change, doer: &Doer) -> Option<UndoneProcess> {
        // Everything on the machine came of the first process.
        let mut line = doer.line().filter(|(pid, _)| *pid != 1);
        let is_of_this_boot = self.boot.as_ref() == Some(&change.boot);
        let found = line.find(|(pid, started)| {
            let id = (*pid, started.0 / TICK);
            if is_of_this_boot {
                return self.of_this_boot.contains(&id);
            }
            let times = self.of_earlier.get(&id);
            times.is_some_and(|times| times.iter().any(|time| self.is_one_boot(change, *time)))
        });
        found.map(|(pid, started)| UndoneProcess { boot: change.boot.clone(), pid, started })
    }

    /// Whether no change of another boot lies between this one and what was found then: numbers come again in each boot,
    /// and at much the same time after its beginning.
    fn is_one_boot(&self, change: &Change, found: UtcNanos) -> bool {
        let (from, to) = (change.at.min(found), change.at.max(found));
        !self.boots.iter().any(|(at, boot)| *at > from && *at < to && *boot != change.boot)
    }
}

fn id(process: &ProcessRef) -> Id {
    (process.pid, process.started.0 / TICK)
}

/// Of the changes, the oldest first, those before the first of theirs, and the others.
fn of_place(
    facts: &Facts<'_>,
    path: &FilePath,
    (earlier, changes): (&[&Change], &[&Change]),
    since: Option<UtcNanos>,
    named: &Named,
) -> Draft {
    let (Some(first), Some(last)) = (changes.first(), changes.last()) else {
        return nothing_known(path);
    };
    let theirs: Vec<&&Change> = changes.iter().filter(|change| named.did(change)).collect();
    let by_others = changes.iter().find(|change| !named.did(change) && !change.is_by_cordon());
    let target = PutBackTarget {
        path: path.clone(),
        first: first.number,
        last: theirs.last().map_or(first.number, |change| change.number),
        found: theirs.last().and_then(|change| change.after.sha256()),
        wanted: first.before.sha256(),
        by: {
            let doers = theirs.iter().flat_map(|one| one.by.iter().map(move |doer| (one, doer)));
            let all: BTreeSet<_> =
                doers.filter_map(|(change, doer)| named.of_them(change, doer)).collect();
            all.into_iter().collect()
        },
    };
    let why = theirs.iter().map(|change| in_short(change)).collect();
    let is_as_before = last.after.is(&first.before) && last.is_now;
    let was_put_back = put_back_at(changes, 0).and_then(|at| changes.get(at));
    let measure = of_measure(facts, path);
    let last_after = theirs.last().map_or(&first.after, |change| &change.after);
    let too_many = "more processes than one order undoes changed it";
    let by_hand = by_hand((earlier, since), first, last, by_others.copied())
        .or_else(|| (target.by.len() > MOST_UNDONE).then(|| too_many.to_owned()));
    let (how, status) = match by_hand {
        _ if is_as_before => (
            order(path, first, last_after, target),
            done(measure, "it is as it was before, by a look"),
        ),
        _ if was_put_back.is_some() => {
            let at = was_put_back.map_or(last.at, |change| change.at);
            let shown =
                format!("it was put back at {at}, and nobody whom findings name changed it since");
            (order(path, first, last_after, target), done(measure, &shown))
        }
        Some(because) => (by_a_person(path, first, because), StepStatus::ToDo { last: None }),
        None => {
            let how = order(path, first, last_after, target);
            let status = match status_of(measure) {
                StepStatus::Done { .. } => StepStatus::ToDo {
                    last: Some("it was put back, and is another again".to_owned()),
                },
                status => status,
            };
            (how, status)
        }
    };
    Draft {
        // Of another change by the same or others it is another step: a person's word is not good for that.
        key: format!("change {path} {} {}", first.number, last_of_theirs(&theirs)),
        rank: Rank::Persistence,
        what: format!("{path} ({}), as it was before {}", first.kind, first.at),
        why,
        how,
        status,
    }
}

fn last_of_theirs(theirs: &[&&Change]) -> u64 {
    theirs.last().map_or(0, |change| change.number)
}

fn nothing_known(path: &FilePath) -> Draft {
    Draft {
        key: format!("change {path}"),
        rank: Rank::Look,
        what: path.to_string(),
        why: Vec::new(),
        how: How::ByHand { todo: format!("look at {path}"), because: "nothing is told".to_owned() },
        status: StepStatus::Unknown { why: "nothing is told of it".to_owned() },
    }
}

fn done(measure: Option<&Measured>, shown: &str) -> StepStatus {
    match status_of(measure) {
        status @ StepStatus::Unknown { .. } => status,
        _ => StepStatus::Done { shown: shown.to_owned() },
    }
}

/// Why a person has to decide; `None`: nobody else is concerned.
fn by_hand(
    (earlier, since): (&[&Change], Option<UtcNanos>),
    first: &Change,
    last: &Change,
    by_others: Option<&Change>,
) -> Option<String> {
    if matches!(first.kind, ThingKind::Pam | ThingKind::Sudoers) {
        return Some(
            "it decides who can sign in, and has to fit the others like it as they are now"
                .to_owned(),
        );
    }
    if first.follows_unknown {
        return Some(
            "earlier changes of it are not remembered: they may be theirs, too".to_owned(),
        );
    }
    let is_unknown =
        |change: &&&Change| change.by.is_empty() && since.is_none_or(|since| change.at >= since);
    if let Some(unknown) = earlier.iter().find(is_unknown) {
        return Some(format!(
            "it was changed before that, and nobody knows who did ({}): it may be theirs, too",
            in_short(unknown)
        ));
    }
    if let Some(other) = by_others {
        return Some(format!(
            "somebody else changed it since ({}): what they did would be lost",
            in_short(other)
        ));
    }
    if !last.is_now {
        return Some(
            "it is not as it was seen last: somebody changes it at this moment".to_owned(),
        );
    }
    if let Stood::Other(what) = &last.after {
        return Some(format!("there is {what} now"));
    }
    if !first.before.can_be_put_back() {
        return Some("what stood there before is too large to be kept".to_owned());
    }
    None
}

/// `there`: what stands there after the last change of theirs.
fn order(path: &FilePath, first: &Change, there: &Stood, target: PutBackTarget) -> How {
    let back = "`cordon measure undo` takes that back exactly";
    let unit = match first.kind {
        ThingKind::Unit | ThingKind::UnitLink => {
            "; systemd goes by it from the next `systemctl daemon-reload` or start on"
        }
        _ => "",
    };
    // A file that came is set aside like any other; a link has no content to set aside.
    let is_set_aside = matches!(there, Stood::File { .. });
    if first.before == Stood::Nothing && is_set_aside {
        let file = FileTarget { path: path.clone(), sha256: target.found };
        return How::Order {
            does: format!(
                "moves {path}, which was not there before, into the machine's vault, encrypted{unit}. {back}"
            ),
            action: Action::Quarantine(file),
        };
    }
    let does = match &first.before {
        Stood::Nothing => format!("takes {path} away, which was not there before, and keeps it"),
        Stood::Link { to, .. } => format!("makes {path} the link to {to} again that it was"),
        Stood::File { bytes, rights, sha256, .. } => format!(
            "puts {path} back as it was before {}: {bytes} bytes ({rights}, sha256 {sha256}), to the byte, with owner, \
             times and attributes; what is there now is kept, encrypted",
            first.at
        ),
        Stood::Other(what) => format!("nothing: {what} stood at {path}"),
    };
    How::Order { action: Action::PutBack(target), does: format!("{does}{unit}. {back}") }
}

fn by_a_person(path: &FilePath, first: &Change, because: String) -> How {
    let before = match &first.before {
        Stood::Nothing => "nothing was there".to_owned(),
        Stood::File { bytes, rights, sha256, .. } => {
            format!("a file of {bytes} bytes ({rights}, sha256 {sha256})")
        }
        Stood::Link { to, .. } => format!("a link to {to}"),
        Stood::Other(what) => what.clone(),
    };
    let what = match &first.lines[..] {
        [] => String::new(),
        lines => format!("; take back by hand: {}", shown(lines)),
    };
    How::ByHand {
        todo: format!("look at {path}: before {} it was: {before}{what}", first.at),
        because,
    }
}

/// When, by whom, and which lines.
fn in_short(change: &Change) -> String {
    let by: Vec<String> = change.by.iter().map(who).collect();
    let by = match &by[..] {
        [] => "by whom is not known".to_owned(),
        by => format!("by {}", by.join(" or ")),
    };
    let what = match (&change.before, &change.after) {
        (Stood::Nothing, _) => "came",
        (_, Stood::Nothing) => "was removed",
        (Stood::File { sha256, .. }, Stood::File { sha256: other, .. }) if sha256 == other => {
            "got other rights, times or attributes"
        }
        _ => "was changed",
    };
    let digest = change.after.sha256().map_or_else(String::new, |it| format!(", sha256 {it}"));
    let lines = match &change.lines[..] {
        [] => String::new(),
        lines => format!(": {}", shown(lines)),
    };
    format!("{what} at {} {by}{digest}{lines}", change.at)
}

fn who(doer: &Doer) -> String {
    match &doer.process {
        Some(process) => format!("process {} ({})", doer.pid, plain(&process.image)),
        None => format!("process {}, which had ended", doer.pid),
    }
}

fn shown(lines: &[String]) -> String {
    let mut shown: Vec<String> = lines
        .iter()
        .take(SHOWN_LINES)
        .map(|line| format!("\u{201c}{}\u{201d}", plain(line)))
        .collect();
    if lines.len() > SHOWN_LINES {
        shown.push("and more".to_owned());
    }
    shown.join(" ")
}

fn of_measure<'a>(facts: &Facts<'a>, path: &FilePath) -> Option<&'a Measured> {
    measured(facts, |action| match action {
        Action::PutBack(target) => target.path == *path,
        Action::Quarantine(target) => target.path == *path,
        _ => false,
    })
}

/// Words of strangers: nothing in them may drive a terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
