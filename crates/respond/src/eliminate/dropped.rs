//! Which programs that lie where anybody may write are the intruder's: `/tmp` and its like.
//!
//! The one idea: that a program lies there says nothing, as work puts programs there too. It is the intruder's if it
//! **surely** came after the beginning and either is the same to the byte as a program that a finding names, or is
//! owned by an account as which a process ran that one names. An account of many (root) tells nobody apart. All
//! others that came are for a person's hand; those that were there before are nobody's concern.

use std::collections::{BTreeMap, BTreeSet};

use cordon_model::action::{Action, FilePath};
use cordon_model::finding::{Finding, ReceivedFinding};
use cordon_model::survey::{Survey, Thing, ThingKind};
use cordon_model::time::UtcNanos;
use sha2::{Digest as _, Sha256};

use super::{Draft, Facts, How, Rank, StepStatus, hex, measured, place, processes};

/// Accounts as which many run that have nothing to do with each other: root, and nobody (`nobody(8)` of Linux, the
/// number that stands for whoever has none).
const OF_MANY: [u32; 2] = [0, 65_534];

/// What tells a program as the intruder's.
#[derive(Debug, Default)]
pub(super) struct Intruder {
    /// The accounts as which processes ran that findings name, but for those of many.
    users: BTreeSet<u32>,
    /// The programs that findings name, where they lie.
    named: BTreeSet<FilePath>,
    /// What these hold, as it was seen since the beginning, and where one lies.
    contents: BTreeMap<[u8; 32], FilePath>,
}

impl Intruder {
    /// By the findings that count, what runs, and what surveys saw.
    pub(super) fn of(
        counted: &[&ReceivedFinding],
        facts: &Facts<'_>,
        since: Option<UtcNanos>,
    ) -> Self {
        let named: BTreeSet<FilePath> =
            counted.iter().filter_map(|one| processes::program_of(&one.finding)).collect();
        let mut users: BTreeSet<u32> =
            counted.iter().flat_map(|one| said_users(&one.finding)).collect();
        users.extend(processes::users(counted, facts));
        users.retain(|user| !OF_MANY.contains(user));
        let was_there = |thing: &&Thing| {
            thing.gone_at.is_none_or(|gone| since.is_some_and(|since| gone >= since))
        };
        let seen = facts.survey.iter().flat_map(dropped_in).filter(was_there);
        let contents = seen
            .filter(|thing| named.contains(&thing.path))
            .map(|thing| (thing.sha256, thing.path.clone()))
            .collect();
        Self { users, named, contents }
    }

    /// Whether a finding names the program at this path: it has a step of its own.
    pub(super) fn is_named(&self, path: &FilePath) -> bool {
        self.named.contains(path)
    }

    /// By what the program is told as the intruder's; `None`: it may be anybody's.
    pub(super) fn told_by(&self, thing: &Thing) -> Option<String> {
        if let Some(named) = self.contents.get(&thing.sha256) {
            return Some(format!("it is the same to the byte as {named}, which a finding names"));
        }
        let user = self.users.get(&thing.owner)?;
        Some(format!("the account {user} owns it, as which a process ran that a finding names"))
    }

    /// Why a program that surely came is not set aside by the plan; `None`: it is.
    pub(super) fn by_hand(&self, thing: &Thing) -> Option<String> {
        if self.told_by(thing).is_none() {
            return Some(
                "it may be of somebody's work: neither its content nor its owner says that it is not"
                    .to_owned(),
            );
        }
        place::copy_by_hand(&thing.path).map(str::to_owned)
    }

    /// Whether it is said of one that is gone: work leaves nothing to be said.
    pub(super) fn tells_of_gone(&self, facts: &Facts<'_>, thing: &Thing) -> bool {
        let is_it = |action: &Action| matches!(action, Action::Quarantine(target) if target.path == thing.path);
        self.told_by(thing).is_some() || measured(facts, is_it).is_some()
    }
}

fn dropped_in(survey: &Survey) -> impl Iterator<Item = &Thing> {
    survey.things.iter().filter(|thing| thing.kind == ThingKind::DroppedProgram)
}

/// The accounts that a finding's own event says that its process ran as. Whatever else stands in an event says
/// nothing here.
fn said_users(finding: &Finding) -> Vec<u32> {
    let Some(process) = finding.process.as_ref() else { return Vec::new() };
    let Ok(event) = serde_json::from_str::<serde_json::Value>(&finding.raw.json) else {
        return Vec::new();
    };
    let is_of_process = |of: &serde_json::Value| of["pid"].as_u64() == Some(u64::from(process.pid));
    let said = match event["type"].as_str() {
        Some("process_start") if is_of_process(&event) => {
            vec![&event["user"]["uid"], &event["user"]["effective_uid"]]
        }
        Some("connection") if is_of_process(&event["process"]) => vec![&event["uid"]],
        _ => Vec::new(),
    };
    said.into_iter().filter_map(|user| u32::try_from(user.as_u64()?).ok()).collect()
}

/// Where the step is that sets aside the program at `path`, which findings name, if surveys look there: a look is
/// newer than a measure's proof, and tells of one that is gone though no measure took it.
pub(super) fn shown(facts: &Facts<'_>, path: &FilePath, status: StepStatus) -> StepStatus {
    let survey = facts.survey.as_ref().ok();
    let seen: Vec<&Thing> =
        survey.into_iter().flat_map(dropped_in).filter(|thing| thing.path == *path).collect();
    let is_there = seen.iter().any(|thing| thing.gone_at.is_none());
    let gone = seen.iter().filter_map(|thing| thing.gone_at).max();
    match (status, is_there, gone) {
        (StepStatus::Done { .. }, true, _) => {
            StepStatus::ToDo { last: Some("it was set aside, and is there again".to_owned()) }
        }
        (StepStatus::ToDo { .. }, false, Some(gone)) => {
            StepStatus::Done { shown: format!("it is gone since {gone}") }
        }
        (status, ..) => status,
    }
}

/// Programs of one account in one place of which a person is asked one by one. Of more they are asked at once: a build
/// makes a thousand, and nobody reads a thousand questions at night.
const ASKED_ONE_BY_ONE: usize = 4;

/// A program of which a person is asked whose work it is.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Whose {
    place: &'static str,
    owner: u32,
    because: String,
}

/// The same, with the step that it is by itself.
pub(super) struct Work {
    whose: Whose,
    machine: String,
    draft: Draft,
}

impl Work {
    /// Of this program, which is for a person's hand.
    pub(super) fn of(facts: &Facts<'_>, thing: &Thing, because: String, draft: Draft) -> Self {
        let place = place::open_to_all(&thing.path).unwrap_or("elsewhere");
        let whose = Whose { place, owner: thing.owner, because };
        Self { whose, machine: facts.name.to_owned(), draft }
    }
}

/// The steps of all of it: whoever accepts many at once accepts these, and none that comes later or is changed.
pub(super) fn together(work: Vec<Work>) -> Vec<Draft> {
    let mut by_whose: BTreeMap<Whose, (String, Vec<Draft>)> = BTreeMap::new();
    for Work { whose, machine, draft } in work {
        by_whose.entry(whose).or_insert((machine, Vec::new())).1.push(draft);
    }
    by_whose
        .into_iter()
        .flat_map(|(whose, (machine, drafts))| at_once(whose, &machine, drafts))
        .collect()
}

fn at_once(whose: Whose, machine: &str, mut drafts: Vec<Draft>) -> Vec<Draft> {
    drafts.sort_by(|a, b| a.key.cmp(&b.key));
    drafts.dedup_by(|a, b| a.key == b.key);
    if drafts.len() <= ASKED_ONE_BY_ONE {
        return drafts;
    }
    let Whose { place, owner, because } = whose;
    let mut hash = Sha256::new();
    for draft in &drafts {
        hash.update((draft.key.len() as u64).to_be_bytes());
        hash.update(&draft.key);
    }
    vec![Draft {
        key: format!("work {place} {owner} {}", hex(&hash.finalize())),
        rank: Rank::Work,
        what: format!("{} programs of account {owner} in {place} (dropped program)", drafts.len()),
        why: drafts.into_iter().flat_map(|draft| draft.why).collect(),
        how: How::ByHand {
            todo: format!(
                "ask whose work they are (all of them: `cordon survey {machine}`); what is nobody's, set aside (`cordon \
                 measure quarantine {machine} PATH`)"
            ),
            because,
        },
        status: StepStatus::ToDo { last: None },
    }]
}
