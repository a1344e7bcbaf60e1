//! One machine, one incident, in full, as far as a message of the local socket holds them.
//!
//! The one idea (law 12): what is left out is counted. Lists are cut to what a person reads on a terminal,
//! and each says of how many it is.

use cordon_model::asset::{Assignment, Protected};
use cordon_model::finding::Level;
use cordon_model::guidance::Bedside;
use cordon_model::ids::{FindingId, IncidentId, MachineId, MeasureId};
use cordon_model::measure::MeasureState;
use cordon_model::policy::Mode;
use cordon_model::record::{Actor, Record};
use cordon_model::time::UtcNanos;
use cordon_respond::approval::{Approval, ApprovalState};
use cordon_respond::signer_core::CodeFate;
use cordon_store::{Key, PAGE_ROWS, Page};
use serde::{Deserialize, Serialize};

use super::words::QuestionRow;
use crate::error::HubError;
use crate::handle::Hub;
use crate::view::{IncidentRow, MachineRow, MeasureView, NAMES_IN_ROW, NameNow};

/// Machines of an incident: a row is below 1 KB, so 50 KB.
const MACHINES: usize = 50;

/// Measures: each may name a file (4 KiB) and say why it is as it is (1 KiB), so 200 KB.
const MEASURES: usize = 40;

/// Questions: each may name some files, so 16 of 16 KiB.
const QUESTIONS: usize = 16;

/// Of what is protected on a machine the first units, control groups and programs: paths of 4 KiB, so 200 KB.
const PROTECTED: usize = 16;

/// Findings of a machine, the newest.
const FINDINGS: usize = 20;

/// Of a timeline the newest lines, at most so many…
const TIMELINE: usize = 200;

/// …and so many bytes: a record says 8 KiB at most, and few do.
const TIMELINE_BYTES: usize = 256 << 10;

/// One machine in full.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineDetail {
    /// The row in the list.
    pub row: MachineRow,
    /// How much the policy has done without asking.
    pub mode: Mode,
    /// What the organisation said of it, but of what it protects there only the beginning; `None`: nothing is
    /// signed yet.
    pub assignment: Option<Assignment>,
    /// So many units, control groups and programs are protected there.
    pub protected_count: usize,
    /// When it was enrolled.
    pub enrolled_at: UtcNanos,
    /// The public key that what it signs is checked by: receipts, and archives of evidence.
    pub receipt_key: Option<[u8; 32]>,
    /// Build of its agent.
    pub build: Option<String>,
    /// How the names of its lifelines are.
    pub names: Vec<NameNow>,
    /// How its break-glass codes are; `None`: nobody can say now.
    pub codes: Option<CodesNow>,
    /// What the organisation says for the person in front of it; `None`: the signer is away.
    pub bedside: Option<Bedside>,
    /// Its measures, the newest first…
    pub measures: Vec<MeasureLine>,
    /// Its newest findings…
    pub findings: Vec<FindingLine>,
    /// …of so many.
    pub finding_count: u64,
    /// Questions about it that wait for an answer, the oldest first…
    pub questions: Vec<QuestionRow>,
    /// …of so many.
    pub question_count: usize,
}

/// How a machine's break-glass codes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodesNow {
    /// Whether the machine says that it holds these.
    pub are_held: bool,
    /// How many were not used…
    pub unused: usize,
    /// …of so many.
    pub of: usize,
    /// When they were printed last.
    pub printed_at: Option<UtcNanos>,
}

/// One measure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasureLine {
    /// Which.
    pub measure: MeasureId,
    /// What people call its machine.
    pub machine: String,
    /// What it does, in words.
    pub what: String,
    /// What it is now.
    pub state: MeasureState,
    /// Whether its machine says that it does not hold it.
    pub is_denied: bool,
    /// Since when, by the hub's clock.
    pub since: UtcNanos,
    /// Why it was ordered.
    pub reason: Option<String>,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FindingLine {
    /// Which.
    pub finding: FindingId,
    /// The rule's title.
    pub title: String,
    /// How serious.
    pub level: Level,
    /// When.
    pub at: UtcNanos,
}

/// One incident in full.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IncidentDetail {
    /// The row in the list, without the ids of its findings.
    pub row: IncidentRow,
    /// Its machines, the first…
    pub machines: Vec<MachineRow>,
    /// …of so many.
    pub machine_count: usize,
    /// Measures that belong to it, the newest first…
    pub measures: Vec<MeasureLine>,
    /// …of so many.
    pub measure_count: usize,
    /// Its questions that wait for an answer, the oldest first…
    pub questions: Vec<QuestionRow>,
    /// …of so many.
    pub question_count: usize,
    /// What happened: the newest lines, the oldest first…
    pub timeline: Vec<TimelineLine>,
    /// …of so many.
    pub timeline_count: u64,
}

/// One thing that happened in an incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimelineLine {
    /// When.
    pub at: UtcNanos,
    /// Who did it, in words.
    pub who: String,
    /// What people call the machine that it is about.
    pub machine: Option<String>,
    /// What was done, in words.
    pub what: String,
    /// More of it.
    pub detail: String,
}

/// The details.
/// The same, of what it protects only what a message has room for.
fn with_less_protected(mut assignment: Assignment) -> Assignment {
    let Protected { units, cgroups, executables } = &mut assignment.protected;
    units.truncate(PROTECTED);
    cgroups.truncate(PROTECTED);
    executables.truncate(PROTECTED);
    assignment
}

impl Hub {
    /// One machine in full.
    ///
    /// # Errors
    /// [`HubError::Missing`].
    pub(super) async fn machine_detail(&self, id: MachineId) -> Result<MachineDetail, HubError> {
        let view = self.machine(id).await?;
        let held = view.status.as_ref().map(|status| status.break_glass);
        let codes = view.codes.as_ref().map(|codes| CodesNow {
            are_held: codes.revision > 0 && held == Some(codes.revision),
            unused: codes.fates.iter().filter(|fate| **fate != CodeFate::Used).count(),
            of: codes.fates.len(),
            printed_at: codes.printed_at,
        });
        let question_count = view.questions.len();
        let questions = view.questions.into_iter().take(QUESTIONS).map(|question| QuestionRow {
            machine: view.row.name.clone(),
            tier: view.row.tier,
            question,
        });
        let findings = view.findings.iter().take(FINDINGS).map(|received| FindingLine {
            finding: received.finding.id,
            title: received.finding.rule.title.clone(),
            level: received.finding.rule.level,
            at: received.finding.time,
        });
        Ok(MachineDetail {
            mode: self.policy().mode,
            protected_count: view.assignment.as_ref().map_or(0, |said| said.protected.len()),
            assignment: view.assignment.map(with_less_protected),
            enrolled_at: view.enrolled_at,
            receipt_key: view.receipt_key,
            build: view.build,
            names: view.names,
            codes,
            bedside: view.bedside,
            measures: self.measure_lines(&view.measures),
            findings: findings.collect(),
            finding_count: view.finding_count,
            questions: questions.collect(),
            question_count,
            row: view.row,
        })
    }

    /// One incident in full.
    ///
    /// # Errors
    /// [`HubError::Missing`].
    pub(super) async fn incident_detail(&self, id: IncidentId) -> Result<IncidentDetail, HubError> {
        let view = self.incident(id, None).await?;
        let (mut incident, mut machines) = (view.incident, view.machines);
        let names = machines.iter().take(NAMES_IN_ROW).map(|row| row.name.clone()).collect();
        let open = view.questions.iter().filter(|open| open.state == ApprovalState::Open);
        let question_count = open.clone().count();
        let question = |question: &Approval| QuestionRow {
            machine: self.machine_name(question.machine),
            tier: self.tier(question.machine),
            question: question.clone(),
        };
        let questions = open.take(QUESTIONS).map(question).collect();
        machines.truncate(MACHINES);
        for row in &mut machines {
            row.to_confirm.clear();
        }
        let (machine_count, isolated) =
            (incident.machines.len(), self.cut_off_of(&incident.machines));
        incident.findings.clear();
        incident.machines.truncate(MACHINES);
        let (timeline, timeline_count) = self.end_of_timeline(id).await?;
        Ok(IncidentDetail {
            row: IncidentRow {
                machine_names: names,
                isolated,
                questions: question_count,
                incident,
            },
            machines,
            machine_count,
            measures: self.measure_lines(&view.measures),
            measure_count: view.measures.len(),
            questions,
            question_count,
            timeline,
            timeline_count,
        })
    }

    fn measure_lines(&self, views: &[MeasureView]) -> Vec<MeasureLine> {
        let line = |view: &MeasureView| MeasureLine {
            measure: view.measure.id,
            machine: self.machine_name(view.measure.machine),
            what: match &view.order {
                Some(order) => order.instruction.to_string(),
                None => view.measure.action.to_string(),
            },
            state: view.measure.state.clone(),
            is_denied: view.measure.is_denied,
            since: view.measure.since,
            reason: view.order.as_ref().map(|order| order.reason.clone()),
        };
        views.iter().take(MEASURES).map(line).collect()
    }

    /// The newest lines of a timeline, as many as fit, of how many.
    async fn end_of_timeline(
        &self,
        incident: IncidentId,
    ) -> Result<(Vec<TimelineLine>, u64), HubError> {
        let key = Key::new(&self.shared.organisation.code, incident);
        let (mut last, mut page): (Vec<Record>, _) = (Vec::new(), Page::first(PAGE_ROWS));
        let total = loop {
            let listed = self.shared.store.timeline(&key, &page).await?;
            last.extend(listed.items);
            last.drain(..last.len().saturating_sub(TIMELINE));
            match listed.next {
                Some(next) => page.after = Some(next),
                None => break listed.total,
            }
        };
        let mut room = TIMELINE_BYTES;
        let fits = |record: &&Record| match room.checked_sub(record.detail.len()) {
            Some(left) => {
                room = left;
                true
            }
            None => false,
        };
        let mut lines: Vec<TimelineLine> =
            last.iter().rev().take_while(fits).map(|record| self.timeline_line(record)).collect();
        lines.reverse();
        Ok((lines, total))
    }

    fn timeline_line(&self, record: &Record) -> TimelineLine {
        TimelineLine {
            at: record.at,
            who: match &record.actor {
                Actor::Person(person) | Actor::LocalOperator(person) => person.clone(),
                Actor::Policy(revision) => format!("the policy (revision {revision})"),
                Actor::Hub => "the hub".to_owned(),
                Actor::Signer => "the signer".to_owned(),
                Actor::Agent(machine) => format!("the agent of {}", self.machine_name(*machine)),
            },
            machine: record.machine.map(|machine| self.machine_name(machine)),
            what: record.deed.in_words().to_owned(),
            detail: record.detail.clone(),
        }
    }
}
