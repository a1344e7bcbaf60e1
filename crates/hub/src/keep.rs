//! From what the hub's mind wants kept to what the store keeps, and back at a restart.
//!
//! The one idea: each [`Change`](core::Change) of the mind becomes, in one transaction, what people ask
//! for (incidents, measures, orders in tables) and, where that is not enough to go on from, a row of its
//! own (`story`, `proposal`, `order`, `measure`). [`restore`] reads them back into the same mind.

use std::collections::HashMap;

use cordon_model::ids::{IncidentId, MachineId, OdsCode};
use cordon_model::incident::IncidentState;
use cordon_model::order::Approver;
use cordon_model::record::Record;
use cordon_model::time::UtcNanos;
use cordon_respond::approval::{Approval, ApprovalState};
use cordon_respond::grouping::{Seat, Story};
use cordon_respond::hub_core as core;
use cordon_respond::order::{Delivery, MeasureLife, OrderLife};
use cordon_respond::signer_core::Proposal;
use cordon_store::{
    Change, OrderState, State, StoreError, StoredApproval, StoredMeasure, StoredOrder, StoredPermit,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::board::Revisions;
use crate::view::AssignmentDraft;

mod restore;
pub(crate) use restore::{SetAside, restore};

const STORY: &str = "story";
/// What a machine has brought to a story, by both ids.
const SEAT: &str = "seat";
const PROPOSAL: &str = "proposal";
const ORDER: &str = "order";
const MEASURE: &str = "measure";
/// Records on their way to the ledger.
const OUTBOX: &str = "outbox";
/// What a machine is to be, as its enrolment token said, until the signer has signed it.
const DRAFT: &str = "draft";
/// Machines that may speak no more.
const STRUCK_OFF: &str = "struck-off";
/// Revision and signed hashes of a machine's break-glass codes.
const CODES: &str = "break-glass";
/// Revision and signed text of what people in front of a machine are told.
const GUIDANCE: &str = "guidance";

/// The version of the protocol that a machine spoke on its last link.
const VERSION: &str = "version";

/// What a machine says of its way to the hub, and what came of it.
const WAY: &str = "way";

/// When something of a machine was last not seen that should have been.
const GAP: &str = "gap";

/// All kinds of rows.
const KINDS: [&str; 13] = [
    STORY, SEAT, PROPOSAL, ORDER, MEASURE, OUTBOX, DRAFT, STRUCK_OFF, CODES, GUIDANCE, VERSION,
    WAY, GAP,
];

/// CBOR of a document of our own. Encoding to memory fails for none of them; if it ever does, the caller
/// stops the hub rather than forget.
pub(crate) fn encode<T: Serialize>(document: &T) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    ciborium::into_writer(document, &mut bytes).map_err(|error| unreadable(&error))?;
    Ok(bytes)
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    ciborium::from_reader(bytes).map_err(|error| unreadable(&error))
}

fn unreadable(error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Unreadable { what: "row of the hub", reason: error.to_string() }
}

fn row<T: Serialize>(
    kind: &'static str,
    id: impl ToString,
    document: Option<&T>,
) -> Result<Change, StoreError> {
    let document = document.map(encode).transpose()?;
    Ok(Change::Row { kind, id: id.to_string(), document })
}

/// A change on its way to the store.
#[expect(clippy::large_enum_variant, reason = "a commit's few exist at once")]
pub(crate) enum Pending {
    /// As the store takes it.
    Change(Change),
    /// A story. A large one is 35 KB, and in a flood it changes with every finding: it is encoded once
    /// for each commit, and not in the main task.
    Story(Story),
}

impl From<Change> for Pending {
    fn from(change: Change) -> Self {
        Self::Change(change)
    }
}

/// What the store has to change for `change`. Of a machine's row that is what is newer than what it `kept`.
pub(crate) fn changes_of(
    change: core::Change,
    kept: Revisions,
    now: UtcNanos,
) -> Result<Vec<Pending>, StoreError> {
    let changes = match change {
        core::Change::Story(story) => return Ok(vec![Pending::Story(story)]),
        core::Change::Seat(seat) => {
            vec![row(SEAT, seat_id(seat.incident, seat.machine), Some(&seat))?]
        }
        core::Change::Finding(received, incident) => vec![Change::Group {
            machine: received.machine,
            finding: received.finding.id,
            incident,
        }],
        core::Change::Machine(machine) => {
            // Its inbox is kept with the reports themselves, its permit when it is signed.
            let mut changes = Vec::new();
            let codes = machine.codes.as_ref().filter(|(revision, _)| *revision > kept.codes);
            if let Some(codes) = codes {
                changes.push(row(CODES, machine.assignment.machine, Some(codes))?);
            }
            let guidance = machine.guidance.as_ref().filter(|(held, _)| *held > kept.guidance);
            if let Some(guidance) = guidance {
                changes.push(row(GUIDANCE, machine.assignment.machine, Some(guidance))?);
            }
            if machine.version != kept.version {
                changes.push(row(VERSION, machine.assignment.machine, Some(&machine.version))?);
            }
            if machine.way.revision > kept.way {
                changes.push(row(WAY, machine.assignment.machine, Some(&machine.way))?);
            }
            if machine.assignment.revision > kept.assignment {
                changes.push(Change::Assignment {
                    machine: machine.assignment.machine,
                    revision: machine.assignment.revision,
                    envelope: machine.assignment_envelope,
                });
            }
            changes
        }
        core::Change::Approval(approval) => vec![Change::Approval(stored_approval(&approval)?)],
        core::Change::Proposed(proposal) => vec![row(PROPOSAL, proposal.id, Some(&proposal))?],
        core::Change::Answered(order) => vec![row::<Proposal>(PROPOSAL, order, None)?],
        core::Change::Order(life) => {
            let state = order_state(&life);
            vec![
                Change::Order(StoredOrder {
                    id: life.order.id,
                    machine: life.order.machine,
                    sequence: life.order.sequence,
                    incident: life.order.incident,
                    state: state.clone(),
                    envelope: life.envelope.clone(),
                }),
                Change::OrderState { order: life.order.id, state },
                row(ORDER, life.order.id, Some(&life))?,
            ]
        }
        core::Change::Measure(life) => vec![
            Change::Measure(stored_measure(&life, now)),
            row(MEASURE, life.measure, (!life.state.is_over()).then_some(&life))?,
        ],
        core::Change::Policy(policy, envelope) => {
            vec![Change::Policy { revision: policy.revision, envelope }]
        }
    };
    Ok(changes.into_iter().map(Pending::from).collect())
}

fn stored_approval(approval: &Approval) -> Result<StoredApproval, StoreError> {
    Ok(StoredApproval {
        id: approval.id,
        is_open: approval.state == ApprovalState::Open,
        expires_at: approval.expires_at,
        incident: approval.incident,
        is_left: core::is_left(approval),
        document: encode(approval)?,
    })
}

fn seat_id(incident: IncidentId, machine: MachineId) -> String {
    format!("{incident} {machine}")
}

fn order_state(life: &OrderLife) -> OrderState {
    match &life.delivery {
        Delivery::Waiting | Delivery::Sent => OrderState::Waiting,
        Delivery::Taken => OrderState::Taken,
        Delivery::Dead { why } => OrderState::Refused { why: why.clone() },
    }
}

/// A measure for people.
pub(crate) fn stored_measure(life: &MeasureLife, now: UtcNanos) -> StoredMeasure {
    StoredMeasure {
        id: life.measure,
        machine: life.machine,
        action: life.action.clone(),
        state: life.state.clone(),
        is_denied: life.is_denied(),
        since: now,
        receipt: life.receipt.clone(),
    }
}

/// A signed permit.
pub(crate) fn permit(
    permit: &cordon_model::signed::Verified<cordon_model::order::Permit>,
) -> Change {
    Change::Permit(StoredPermit {
        id: permit.id,
        machine: permit.machine,
        expires_at: permit.expires_at,
        envelope: permit.envelope().clone(),
    })
}

/// A record on its way to the ledger, in the same transaction as what it tells of.
pub(crate) fn outbox(number: u64, record: Option<&Record>) -> Result<Change, StoreError> {
    row(OUTBOX, format_args!("{number:020}"), record)
}

/// What a newly enrolled machine is to be, and who says so; `None` once it is signed.
pub(crate) fn draft(machine: MachineId, draft: Option<&Draft>) -> Result<Change, StoreError> {
    row(DRAFT, machine, draft)
}

/// Something of a machine was not seen that should have been, now.
pub(crate) fn gap(machine: MachineId, at: UtcNanos) -> Result<Change, StoreError> {
    row(GAP, machine, Some(&at))
}

/// A machine may speak no more.
pub(crate) fn struck_off(machine: MachineId, reason: &str) -> Result<Change, StoreError> {
    row(STRUCK_OFF, machine, Some(&reason))
}

/// An open incident as it was kept; `None`: it is closed, or nobody knows of it.
pub(crate) async fn story(
    store: &dyn State,
    organisation: &OdsCode,
    incident: IncidentId,
) -> Result<Option<Story>, StoreError> {
    let row = store.row(organisation, STORY, &incident.to_string()).await?;
    row.map(|document| decode(&document)).transpose()
}

/// What a person said of a machine when they made its enrolment token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Draft {
    pub draft: AssignmentDraft,
    pub by: Approver,
}

/// Leaves only the last of several writings of the same thing, at the place of the first: what others
/// refer to is still there before them.
pub(crate) fn folded(pending: Vec<Pending>) -> Result<Vec<Change>, StoreError> {
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut last: Vec<Pending> = Vec::with_capacity(pending.len());
    for change in pending {
        let name = match &change {
            Pending::Story(story) => format!("{STORY} {}", story.incident.id),
            Pending::Change(Change::Row { kind, id, .. }) => format!("{kind} {id}"),
            Pending::Change(_) => {
                last.push(change);
                continue;
            }
        };
        match places.get(&name) {
            Some(place) => last[*place] = change,
            None => {
                places.insert(name, last.len());
                last.push(change);
            }
        }
    }
    let mut changes = Vec::with_capacity(last.len() + 1);
    for change in last {
        match change {
            Pending::Change(change) => changes.push(change),
            Pending::Story(story) => {
                let is_open = story.incident.state != IncidentState::Closed;
                changes.push(row(STORY, story.incident.id, is_open.then_some(&story))?);
                let machines = story.incident.machines.iter().filter(|_| !is_open);
                let seats = machines.map(|machine| seat_id(story.incident.id, *machine));
                for seat in seats {
                    changes.push(row::<Seat>(SEAT, seat, None)?);
                }
                changes.push(Change::Incident(story.incident));
            }
        }
    }
    Ok(changes)
}

#[cfg(test)]
mod tests;
