//! From what the hub's mind wants kept to what the store keeps, and back at a restart.
//!
//! The one idea: each [`Change`](core::Change) of the mind becomes, in one transaction, what people ask
//! for (incidents, measures, orders in tables) and, where that is not enough to go on from, a row of its
//! own (`story`, `proposal`, `order`, `measure`). [`restore`] reads them back into the same mind.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use cordon_model::asset::Assignment;
use cordon_model::ids::{IncidentId, MachineId, MeasureId, OdsCode};
use cordon_model::incident::IncidentState;
use cordon_model::order::Approver;
use cordon_model::record::Record;
use cordon_model::signed::Envelope;
use cordon_model::time::UtcNanos;
use cordon_respond::approval::{Approval, ApprovalState};
use cordon_respond::delivery::Inbox;
use cordon_respond::grouping::Story;
use cordon_respond::hub_core::{self as core, MachineRow, WayWord};
use cordon_respond::order::{Delivery, MeasureLife, OrderLife};
use cordon_respond::signer_core::Proposal;
use cordon_store::{
    Change, Cursor, Key, OrderState, Page, Row, State, StoreError, StoredApproval, StoredMeasure,
    StoredOrder, StoredPermit,
};
use ed25519_dalek::VerifyingKey;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::board::{Card, Known, Revisions};
use crate::view::AssignmentDraft;

const STORY: &str = "story";
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

/// How long an order that died is told to the signer again at each start.
const DEAD_ORDERS: Duration = Duration::from_secs(7 * 24 * 3600);

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
        core::Change::Approval(approval) => vec![Change::Approval(StoredApproval {
            id: approval.id,
            is_open: approval.state == ApprovalState::Open,
            expires_at: approval.expires_at,
            document: encode(&approval)?,
        })],
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

/// Everything that was kept.
pub(crate) struct Kept {
    /// For the hub's mind.
    pub rows: Vec<core::Change>,
    /// For reading.
    pub cards: BTreeMap<MachineId, Card>,
    /// Records that the ledger may not have yet, by number.
    pub outbox: Vec<(u64, Record)>,
    /// What is of no use any more: removed at the start.
    pub prune: Vec<Change>,
    /// What enrolled machines are to be whom the signer does not know yet.
    pub drafts: HashMap<MachineId, Draft>,
}

/// Revisions and envelopes of one kind of document, of all machines.
type Documents = BTreeMap<MachineId, (u64, Envelope)>;

/// Reads everything back.
pub(crate) async fn restore(
    store: &dyn State,
    organisation: &OdsCode,
    command_key: &VerifyingKey,
    now: UtcNanos,
) -> Result<Kept, StoreError> {
    let mut kept = Kept {
        rows: Vec::new(),
        cards: BTreeMap::new(),
        outbox: Vec::new(),
        drafts: HashMap::new(),
        prune: Vec::new(),
    };
    let (mut struck_off, mut gaps) = (Vec::new(), Vec::new());
    let (mut codes, mut guidance) = (Documents::new(), Documents::new());
    let (mut versions, mut ways) = (BTreeMap::new(), BTreeMap::new());
    for Row { kind, id, document } in store.rows(organisation).await? {
        match kind.as_str() {
            STORY => kept.rows.push(core::Change::Story(decode::<Story>(&document)?)),
            PROPOSAL => kept.rows.push(core::Change::Proposed(decode(&document)?)),
            ORDER => kept.rows.push(core::Change::Order(decode(&document)?)),
            MEASURE => kept.rows.push(core::Change::Measure(decode(&document)?)),
            OUTBOX => {
                let number = id.parse().map_err(|error| unreadable(&error))?;
                kept.outbox.push((number, decode(&document)?));
            }
            DRAFT => {
                let machine = id.parse::<MachineId>().map_err(|error| unreadable(&error))?;
                kept.drafts.insert(machine, decode(&document)?);
            }
            STRUCK_OFF => struck_off.push(id.parse::<MachineId>().map_err(|e| unreadable(&e))?),
            GAP => {
                let machine = id.parse::<MachineId>().map_err(|error| unreadable(&error))?;
                gaps.push((machine, decode::<UtcNanos>(&document)?));
            }
            CODES => {
                let machine = id.parse::<MachineId>().map_err(|error| unreadable(&error))?;
                codes.insert(machine, decode(&document)?);
            }
            VERSION => {
                let machine = id.parse::<MachineId>().map_err(|error| unreadable(&error))?;
                versions.insert(machine, decode::<u16>(&document)?);
            }
            WAY => {
                let machine = id.parse::<MachineId>().map_err(|error| unreadable(&error))?;
                ways.insert(machine, decode::<WayWord>(&document)?);
            }
            GUIDANCE => {
                let machine = id.parse::<MachineId>().map_err(|error| unreadable(&error))?;
                guidance.insert(machine, decode(&document)?);
            }
            // Of a newer version: it stays where it is.
            _ => tracing::warn!(kind, "a row of an unknown kind is left alone"),
        }
    }
    prune_orders(&mut kept, now)?;
    restore_machines(
        store,
        organisation,
        command_key,
        now,
        (&codes, &guidance, &versions, &ways),
        &mut kept,
    )
    .await?;
    for machine in struck_off {
        if let Some(card) = kept.cards.get_mut(&machine) {
            card.is_struck_off = true;
        }
    }
    for (machine, at) in gaps {
        if let Some(card) = kept.cards.get_mut(&machine) {
            card.gap_at = Some(at);
        }
    }
    restore_measures(store, organisation, &mut kept).await?;
    restore_approvals(store, organisation, &mut kept).await?;
    Ok(kept)
}

/// An order that was taken, and whose measure is over, is history: the tables have it. One that died is
/// kept for a week, so that a signer that was away learns of it.
fn prune_orders(kept: &mut Kept, now: UtcNanos) -> Result<(), StoreError> {
    let measures: BTreeSet<MeasureId> = kept
        .rows
        .iter()
        .filter_map(|row| match row {
            core::Change::Measure(life) => Some(life.measure),
            _ => None,
        })
        .collect();
    for row in std::mem::take(&mut kept.rows) {
        let is_history = match &row {
            core::Change::Order(life) => match life.delivery {
                Delivery::Waiting | Delivery::Sent => None,
                Delivery::Taken if measures.contains(&life.order.id.into()) => None,
                Delivery::Taken => Some(life.order.id),
                Delivery::Dead { .. } => {
                    (now.since(life.order.issued_at) > DEAD_ORDERS).then_some(life.order.id)
                }
            },
            _ => None,
        };
        match is_history {
            Some(order) => kept.prune.push(self::row::<OrderLife>(ORDER, order, None)?),
            None => kept.rows.push(row),
        }
    }
    Ok(())
}

/// What else is kept of machines, each by itself.
type Said<'a> =
    (&'a Documents, &'a Documents, &'a BTreeMap<MachineId, u16>, &'a BTreeMap<MachineId, WayWord>);

async fn restore_machines(
    store: &dyn State,
    organisation: &OdsCode,
    command_key: &VerifyingKey,
    now: UtcNanos,
    (codes, guidance, versions, ways): Said<'_>,
    kept: &mut Kept,
) -> Result<(), StoreError> {
    let mut page = Page::default();
    loop {
        let listed = store.machines(organisation, &page).await?;
        for machine in listed.items {
            let assignment = machine.assignment.as_ref().and_then(|envelope| {
                envelope
                    .open::<Assignment>(command_key)
                    .map_err(|error| {
                        tracing::error!(machine = %machine.id, %error, "its assignment is not used");
                    })
                    .ok()
            });
            if let Some(assignment) = &assignment {
                let permits = store.permits(&Key::new(organisation, machine.id), now).await?;
                kept.rows.push(core::Change::Machine(MachineRow {
                    assignment: (**assignment).clone(),
                    assignment_envelope: assignment.envelope().clone(),
                    permit: permits.into_iter().next().map(|permit| permit.envelope),
                    codes: codes.get(&machine.id).cloned(),
                    guidance: guidance.get(&machine.id).cloned(),
                    inbox: Inbox { highest: machine.reported },
                    version: versions.get(&machine.id).copied().unwrap_or(0),
                    way: ways.get(&machine.id).cloned().unwrap_or_default(),
                }));
            }
            kept.cards.insert(
                machine.id,
                Card {
                    host: machine.host,
                    enrolled_at: machine.enrolled_at,
                    receipt_key: VerifyingKey::from_bytes(&machine.receipt_key).ok(),
                    assignment: assignment.map(|assignment| assignment.into_document().into()),
                    seen: machine.seen,
                    is_unsaved: false,
                    link: None,
                    address: None,
                    is_struck_off: false,
                    gap_at: None,
                    measures: BTreeMap::new(),
                    ended: BTreeMap::new(),
                    names: Vec::new(),
                    codes: None,
                    codes_kept: codes.get(&machine.id).map_or(0, |(revision, _)| *revision),
                    version_kept: versions.get(&machine.id).copied().unwrap_or(0),
                    way: ways.get(&machine.id).cloned().unwrap_or_default(),
                    guided_by: None,
                    guidance_kept: guidance.get(&machine.id).map_or(0, |(held, _)| *held),
                },
            );
        }
        match listed.next {
            Some(next) => page.after = Some(next),
            None => return Ok(()),
        }
    }
}

async fn restore_measures(
    store: &dyn State,
    organisation: &OdsCode,
    kept: &mut Kept,
) -> Result<(), StoreError> {
    let mut page = Page::default();
    loop {
        let listed = store.measures_not_over(organisation, &page).await?;
        for measure in listed.items {
            if let Some(card) = kept.cards.get_mut(&measure.machine) {
                card.measures.insert(measure.id, Known::of(&measure));
            }
        }
        match listed.next {
            Some(next) => page.after = Some(next),
            None => return Ok(()),
        }
    }
}

/// Questions that wait, and those that were answered in a story that still goes on.
async fn restore_approvals(
    store: &dyn State,
    organisation: &OdsCode,
    kept: &mut Kept,
) -> Result<(), StoreError> {
    let open: Vec<_> = kept
        .rows
        .iter()
        .filter_map(|row| match row {
            core::Change::Story(story) => Some(story.incident.id),
            _ => None,
        })
        .collect();
    let mut after: Option<Cursor> = None;
    loop {
        let page = Page { after, limit: 0 };
        let listed = store.approvals(organisation, false, &page).await?;
        for stored in listed.items {
            let approval: Approval = decode(&stored.document)?;
            let goes_on = approval.incident.is_some_and(|incident| open.contains(&incident));
            if goes_on || approval.state == ApprovalState::Open {
                kept.rows.push(core::Change::Approval(approval));
            }
        }
        match listed.next {
            Some(next) => after = Some(next),
            None => return Ok(()),
        }
    }
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
                changes.push(Change::Incident(story.incident));
            }
        }
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_writings_of_a_row_the_last_is_kept_at_the_place_of_the_first() {
        let row = |id: &str, byte: u8| Change::Row {
            kind: ORDER,
            id: id.into(),
            document: Some(vec![byte]),
        };
        let pending = [row("a", 1), row("b", 2), row("a", 3)].map(Pending::from);
        assert_eq!(folded(pending.into()).unwrap(), vec![row("a", 3), row("b", 2)]);
    }
}
