//! The plan against what was found on one machine, and whether anything of it is left.
//!
//! The one idea: **one function makes the plan and looks whether it is done**, of the same facts, taken anew
//! each time: the findings of the incidents, the processes that run now, what starts by itself and since
//! when it is there, and what measures are in force. A step is done when a look shows it, never because an
//! order was given (law 4); what can't be looked at is a step too, and not done (law 12).
//!
//! Nothing here is a new way to change a machine: a step is an [`Action`] that goes the existing way, or it
//! is for a person's hand, with the place and what to do. What a machine says of itself chooses no target
//! beyond itself (law 11).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cordon_model::action::{Action, FilePath};
use cordon_model::asset::ClinicalTier;
use cordon_model::change::Changes;
use cordon_model::finding::ReceivedFinding;
use cordon_model::gate::COUNTS_FROM;
use cordon_model::ids::IncidentId;
use cordon_model::look::SeenProcess;
use cordon_model::measure::MeasureState;
use cordon_model::survey::Survey;
use cordon_model::time::{BootId, UtcNanos};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

mod changes;
mod dropped;
pub mod place;
mod processes;
mod things;

/// What starts by itself is suspect if it came at most so long before the first finding: an intruder plants
/// what brings them back within minutes, most often before the first thing that a rule sees; an hour leaves
/// room, and a day would take in every update of the night.
pub const MARGIN: Duration = Duration::from_secs(3600);

/// A finding is believed to be at most so old when it comes: a machine waits a week with what it could not
/// send, and its clock can be years wrong. Else one start without a battery would make all that was ever
/// installed suspect.
pub const MOST_LATE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Steps in one plan: 128 of at most 7 KB each (the longest paths and lines, and a few reasons) are below
/// a message. What is beyond is said, and comes with the next plan.
pub const MOST_STEPS: usize = 128;

/// Programs that were dropped and never started, and stand among the first steps, with the programs that findings name:
/// as many as an intruder brings, and fewer than are ordered at once.
const FIRST_DROPPED: usize = 8;

/// How many reasons one step names, each cut to [`REASON_CHARS`].
const MOST_REASONS: usize = 4;
const REASON_CHARS: usize = 500;

/// What the plan is made of. All of it is of one machine.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// What people call it.
    pub name: &'a str,
    /// Its tier, as people said it.
    pub tier: Option<ClinicalTier>,
    /// Whose findings these are.
    pub incidents: &'a [IncidentId],
    /// Its findings in these incidents…
    pub findings: &'a [ReceivedFinding],
    /// …of so many.
    pub findings_of: u64,
    /// When its present boot began, by the hub's clock; `None`: not known.
    pub boot_began: Option<UtcNanos>,
    /// What runs there, or why that is not known.
    pub processes: Result<Processes, String>,
    /// What starts by itself there, or why that is not known.
    pub survey: Result<Survey, String>,
    /// What its lookout saw to be changed since, or why that is not known.
    pub changes: Result<Changes, String>,
    /// Whether the survey was asked for all there is, not only for what came or went since the beginning.
    pub is_whole: bool,
    /// Its measures, newest first.
    pub measures: &'a [Measured],
    /// Steps of which a person said that the thing may stay, or was dealt with by hand.
    pub accepted: &'a [Accepted],
    /// When the looks were taken, by the hub's clock.
    pub now: UtcNanos,
}

/// What runs on a machine.
#[derive(Debug, Clone)]
pub struct Processes {
    /// The youngest first…
    pub listed: Vec<SeenProcess>,
    /// …of so many.
    pub of: u32,
    /// In which boot.
    pub boot: BootId,
}

/// A measure on the machine.
#[derive(Debug, Clone)]
pub struct Measured {
    /// What it does.
    pub action: Action,
    /// What it is now.
    pub state: MeasureState,
}

/// A person's word on one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The step's id.
    pub step: String,
    /// Who.
    pub by: String,
    /// Why.
    pub why: String,
}

/// What is to be done about a machine, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Whose findings it is about.
    pub incidents: Vec<IncidentId>,
    /// From when on what starts by itself is suspect; `None`: no finding gives a beginning.
    pub since: Option<UtcNanos>,
    /// What a careful person would want to know first.
    pub cautions: Vec<String>,
    /// At most [`MOST_STEPS`].
    pub steps: Vec<Step>,
    /// What was looked at: of how many, how old.
    pub looked_at: Vec<String>,
}

/// One thing to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Sixteen hexadecimal digits that stay the same as long as the step is about the same thing.
    pub id: String,
    /// What it is about.
    pub what: String,
    /// Which findings or things give rise to it.
    pub why: Vec<String>,
    /// Who does it, and what that does to the machine.
    pub how: How,
    /// Where it is.
    pub status: StepStatus,
    /// How the digest names it.
    #[serde(default)]
    pub named: Named,
}

/// How a digest names a step. What lies where anybody may write changes as fast as anybody likes: who makes a file a
/// second there keeps no plan from being ordered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Named {
    /// In its first part.
    #[default]
    Always,
    /// In a second part: a program that was dropped there.
    Apart,
    /// Not: nothing is ordered for it.
    Never,
}

/// Whether a plan is still the one that somebody saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agrees {
    /// It is.
    Whole,
    /// But for programs that were dropped where anybody may write.
    ButDropped,
    /// It is another, or nothing else is to be ordered.
    Not,
}

/// Who does a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum How {
    /// A measure, ordered like any other.
    Order {
        /// What is ordered.
        action: Action,
        /// What it does to the machine, in plain words.
        does: String,
    },
    /// A person.
    ByHand {
        /// What to do.
        todo: String,
        /// Why no measure does it.
        because: String,
    },
}

/// Where a step is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum StepStatus {
    /// Not done.
    ToDo {
        /// What came of the last try, if there was one.
        last: Option<String>,
    },
    /// A look shows it.
    Done {
        /// What shows it.
        shown: String,
    },
    /// Nobody can tell.
    Unknown {
        /// Why not.
        why: String,
    },
    /// A person said that the thing may stay, or was dealt with by hand.
    Accepted {
        /// Who.
        by: String,
        /// Why.
        why: String,
    },
}

impl Step {
    /// Whether it is still to be done, or nobody can tell.
    #[must_use]
    pub fn is_left(&self) -> bool {
        matches!(self.status, StepStatus::ToDo { .. } | StepStatus::Unknown { .. })
    }

    /// What is ordered for it now; `None`: nothing.
    #[must_use]
    pub fn to_order(&self) -> Option<&Action> {
        match (&self.how, &self.status) {
            (How::Order { action, .. }, StepStatus::ToDo { .. }) => Some(action),
            _ => None,
        }
    }
}

impl Plan {
    /// What is left of it.
    pub fn left(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| step.is_left())
    }

    /// The steps that are ordered when the plan is.
    pub fn to_order(&self) -> impl Iterator<Item = (&Step, &Action)> {
        self.steps.iter().filter_map(|step| Some((step, step.to_order()?)))
    }

    /// Twelve hexadecimal digits that name what is left to do: whoever orders by it orders what they saw.
    /// Not the processes below one that is to end, nor what work puts into `/tmp`: they come and go while a person
    /// reads. Programs that were dropped there have twelve of their own, after a dash.
    #[must_use]
    pub fn digest(&self) -> String {
        let first = self.part(Named::Always);
        match self.left().any(|step| step.named == Named::Apart) {
            true => format!("{first}-{}", self.part(Named::Apart)),
            false => first,
        }
    }

    fn part(&self, named: Named) -> String {
        let mut hash = Sha256::new();
        for step in self.left().filter(|step| step.named == named) {
            let kind = match (&step.how, &step.status) {
                (How::ByHand { .. }, _) => "by hand".to_owned(),
                (How::Order { .. }, StepStatus::Unknown { .. }) => "waits".to_owned(),
                (How::Order { action, .. }, _) => action.kind().to_string(),
            };
            for part in [step.id.as_str(), &kind] {
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part);
            }
        }
        hex(&hash.finalize()[..6])
    }

    /// Whether it is the plan that this digest names.
    #[must_use]
    pub fn agrees(&self, digest: &str) -> Agrees {
        let now = self.digest();
        let first =
            |digest: &str| digest.split_once('-').map_or(digest, |(first, _)| first).to_owned();
        let is_more = || self.to_order().any(|(step, _)| step.named == Named::Always);
        match (now == digest, first(&now) == first(digest)) {
            (true, _) => Agrees::Whole,
            (false, true) if is_more() => Agrees::ButDropped,
            (false, _) => Agrees::Not,
        }
    }
}

/// From when on what starts by itself is suspect; `None`: no finding gives a beginning.
#[must_use]
pub fn since(findings: &[ReceivedFinding]) -> Option<UtcNanos> {
    let at = |one: &ReceivedFinding| {
        one.finding.time.min(one.received).max(earlier(one.received, MOST_LATE))
    };
    let first = findings.iter().map(at).min();
    first.map(|first| earlier(first, MARGIN))
}

/// Makes the plan, each step with where it is.
#[must_use]
pub fn plan(facts: &Facts<'_>) -> Plan {
    let counted: Vec<&ReceivedFinding> =
        facts.findings.iter().filter(|one| one.finding.rule.level >= COUNTS_FROM).collect();
    let since = since(facts.findings);
    let mut drafts = Drafts::default();
    let mut looked_at = vec![findings_in_words(facts, counted.len())];
    // What brings an intruder back goes first, then what they brought, then what runs of it: a process that
    // ends while its unit is there is started again.
    let put_back = changes::steps(&counted, facts, since, &mut drafts, &mut looked_at);
    let intruder = dropped::Intruder::of(&counted, facts, since);
    things::steps(facts, since, &intruder, &put_back, &mut drafts, &mut looked_at);
    processes::programs(&counted, facts, &mut drafts);
    processes::trees(&counted, facts, &mut drafts, &mut looked_at);
    if facts.findings_of > facts.findings.len() as u64 {
        drafts.put(Draft {
            key: "findings".to_owned(),
            rank: Rank::Look,
            what: "findings that were not read".to_owned(),
            why: vec![format!("{} of {} were read", facts.findings.len(), facts.findings_of)],
            how: How::ByHand {
                todo: "read the incident's page, and act on what is not in this plan".to_owned(),
                because: "there are more findings than one plan takes".to_owned(),
            },
            status: StepStatus::Unknown { why: "they were not read".to_owned() },
        });
    }
    Plan {
        incidents: facts.incidents.to_vec(),
        since,
        cautions: cautions(facts.tier),
        steps: drafts.into_steps(facts.accepted),
        looked_at,
    }
}

fn findings_in_words(facts: &Facts<'_>, counted: usize) -> String {
    let (read, of) = (facts.findings.len(), facts.findings_of);
    let newest = facts.findings.iter().map(|one| one.received).max();
    let newest = newest.map_or_else(
        || "none was received".to_owned(),
        |at| format!("the newest {} old", age(facts.now, at)),
    );
    format!("{read} of {of} findings, {newest}; {counted} of them {COUNTS_FROM} or more give steps")
}

/// The clinical consequence comes first: whoever orders must have thought of who is at the machine.
fn cautions(tier: Option<ClinicalTier>) -> Vec<String> {
    let caution = match tier {
        None => {
            "nobody has said how care depends on this machine: it is treated as clinical. Each step can stop \
             a program that somebody is working with: ring whoever is at it first"
        }
        Some(ClinicalTier::LifeSustaining) => {
            "life-sustaining: whatever a step ends may be what keeps a patient alive. Each needs two people, \
             one of them clinical; be at the machine, with its replacement running, before anything is done"
        }
        Some(ClinicalTier::Clinical) => {
            "clinical: care goes on through this machine. Each step can stop a program that somebody is \
             working with, and ending a process can't be taken back: ring the ward, and agree on when"
        }
        Some(ClinicalTier::Supports) => {
            "it supports care: tell the people at it that programs on it will end"
        }
        Some(ClinicalTier::None) => return Vec::new(),
    };
    vec![caution.to_owned()]
}

/// In which order steps stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// What starts by itself.
    Persistence,
    Account,
    Program,
    Tree,
    ByHand,
    /// What could not be looked at.
    Look,
    /// What was dropped where anybody may write and never started, but for the first [`FIRST_DROPPED`]: whoever drops
    /// hundreds hides nothing that is above.
    Dropped,
    /// The same, where anybody may write: what follows comes and goes while a person reads, and is the last.
    OpenToAll,
    /// What may be of somebody's work there.
    Work,
}

/// A step before it has its place.
struct Draft {
    /// Names what it is about, for good.
    key: String,
    rank: Rank,
    what: String,
    why: Vec<String>,
    how: How,
    status: StepStatus,
}

impl Draft {
    fn rank(&self) -> Rank {
        match self.how {
            How::ByHand { .. } => self.rank.max(Rank::ByHand),
            How::Order { .. } => self.rank,
        }
    }
}

/// Steps by what they are about: two reasons for the same are one step.
#[derive(Default)]
struct Drafts {
    by_key: BTreeMap<String, Draft>,
    /// What may be of somebody's work.
    work: Vec<dropped::Work>,
}

impl Drafts {
    fn put(&mut self, draft: Draft) {
        if let Some(known) = self.by_key.get_mut(&draft.key) {
            known.why.extend(draft.why);
            return;
        }
        self.by_key.insert(draft.key.clone(), draft);
    }

    fn into_steps(mut self, accepted: &[Accepted]) -> Vec<Step> {
        dropped::together(std::mem::take(&mut self.work))
            .into_iter()
            .for_each(|draft| self.put(draft));
        // What is done goes last of its kind, so that no long history hides what is left.
        let is_done = |draft: &Draft| matches!(draft.status, StepStatus::Done { .. });
        let mut drafts: Vec<(Rank, Draft)> =
            self.by_key.into_values().map(|draft| (draft.rank(), draft)).collect();
        let first =
            drafts.iter_mut().filter(|(rank, draft)| *rank == Rank::Dropped && !is_done(draft));
        first.take(FIRST_DROPPED).for_each(|(rank, _)| *rank = Rank::Program);
        drafts.sort_by(|(a_rank, a), (b_rank, b)| {
            (a_rank, is_done(a), &a.key).cmp(&(b_rank, is_done(b), &b.key))
        });
        bounded(drafts.into_iter().map(|(_, draft)| step(draft, accepted)).collect())
    }

    /// Another reason for setting a file aside that is set aside already. Whether there is one.
    fn also(&mut self, file: &FilePath, why: &[String]) -> bool {
        let is_it = |draft: &&mut Draft| matches!(&draft.how, How::Order { action: Action::Quarantine(target), .. } if target.path == *file);
        let known = self.by_key.values_mut().find(is_it);
        known.map(|draft| draft.why.extend_from_slice(why)).is_some()
    }
}

/// At most [`MOST_STEPS`]; what is done gives way first.
fn bounded(mut steps: Vec<Step>) -> Vec<Step> {
    let of = steps.len();
    if of <= MOST_STEPS {
        return steps;
    }
    let room = MOST_STEPS - 1;
    let left = steps.iter().filter(|step| step.is_left()).count();
    let mut room_for_done = room.saturating_sub(left);
    steps.retain(|step| {
        let is_kept = step.is_left() || room_for_done > 0;
        room_for_done = room_for_done.saturating_sub(usize::from(!step.is_left()));
        is_kept
    });
    let cut = steps.split_off(room.min(steps.len()));
    // Of what comes and goes where anybody may write no digest depends.
    let named = cut.iter().filter(|step| step.is_left()).map(|step| step.named).min();
    steps.push(the_rest(of - steps.len(), left > room, named.unwrap_or_default()));
    steps
}

fn step(draft: Draft, accepted: &[Accepted]) -> Step {
    let named = match draft.rank() {
        Rank::Dropped => Named::Apart,
        Rank::OpenToAll | Rank::Work => Named::Never,
        _ => Named::Always,
    };
    let Draft { key, what, mut why, how, mut status, .. } = draft;
    // Long enough that nobody finds a file of theirs for a step that was accepted.
    let id = hex(&Sha256::digest(key.as_bytes())[..8]);
    let beyond = why.len().saturating_sub(MOST_REASONS);
    why.truncate(MOST_REASONS);
    why.iter_mut().for_each(|reason| *reason = reason.chars().take(REASON_CHARS).collect());
    if beyond > 0 {
        why.push(format!("and {beyond} more reasons"));
    }
    if !matches!(status, StepStatus::Done { .. })
        && let Some(word) = accepted.iter().rev().find(|word| word.step == id)
    {
        status = StepStatus::Accepted { by: word.by.clone(), why: word.why.clone() };
    }
    Step { id, what, why, how, status, named }
}

fn the_rest(count: usize, is_left: bool, named: Named) -> Step {
    Step {
        id: "0000000000000000".to_owned(),
        what: format!("{count} more steps"),
        why: vec![format!("a plan shows {MOST_STEPS} steps at most")],
        how: How::ByHand {
            todo: "do these first, then look again: the next come up".to_owned(),
            because: "nobody reads more at once".to_owned(),
        },
        status: match is_left {
            true => StepStatus::Unknown { why: "they are not shown".to_owned() },
            false => StepStatus::Done { shown: "a look shows each of them".to_owned() },
        },
        named,
    }
}

/// Where the measures have an action that does this: the newest counts.
fn measured<'a>(facts: &Facts<'a>, is_it: impl Fn(&Action) -> bool) -> Option<&'a Measured> {
    facts.measures.iter().find(|measured| is_it(&measured.action))
}

/// Where a step is whose measure stays in force once done.
fn status_of(measured: Option<&Measured>) -> StepStatus {
    let last = |text: String| StepStatus::ToDo { last: Some(text) };
    match measured.map(|measured| &measured.state) {
        None => StepStatus::ToDo { last: None },
        Some(MeasureState::Verified) => {
            StepStatus::Done { shown: "in force: read back".to_owned() }
        }
        Some(
            state @ (MeasureState::Requested | MeasureState::Delivered | MeasureState::Applied),
        ) => {
            let state = match state {
                MeasureState::Requested => "ordered, and not yet with the machine",
                MeasureState::Delivered => "with the machine, and not yet carried out",
                _ => "carried out, and not yet proven",
            };
            StepStatus::Unknown { why: state.to_owned() }
        }
        Some(MeasureState::Unproven { why }) => last(format!("the last try is unproven: {why}")),
        Some(MeasureState::Failed { why }) => last(format!("the last try failed: {why}")),
        Some(MeasureState::Released | MeasureState::Superseded | MeasureState::SteppedDown) => {
            last("it was done and taken back".to_owned())
        }
        Some(MeasureState::Done) => StepStatus::Done { shown: "done".to_owned() },
    }
}

/// Each different finding once, in words.
fn reasons<'a>(findings: impl IntoIterator<Item = &'a ReceivedFinding>) -> Vec<String> {
    let mut said = BTreeSet::new();
    let mut reasons = Vec::new();
    for received in findings {
        let finding = &received.finding;
        if said.insert(&finding.rule.id) {
            let (level, title) = (finding.rule.level, &finding.rule.title);
            reasons.push(format!("finding {}: {level}, {title}, {}", finding.id, finding.time));
        }
    }
    reasons
}

fn earlier(at: UtcNanos, by: Duration) -> UtcNanos {
    let by = i64::try_from(by.as_nanos()).unwrap_or(i64::MAX);
    UtcNanos::from_unix_nanos(at.unix_nanos().saturating_sub(by))
}

/// How old, in words.
pub(crate) fn age(now: UtcNanos, at: UtcNanos) -> String {
    let seconds = now.since(at).as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
