//! What the signer's ledger says: one line for each thing that it signed, noted or refused.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use cordon_model::asset::Assignment;
use cordon_model::guidance::{Bedside, Guidance};
use cordon_model::ids::{IncidentId, MachineId, OdsCode};
use cordon_model::limits::NAME_BYTES;
use cordon_model::order::{Approver, Authority, Order};
use cordon_model::policy::Policy;
use cordon_model::record::{Actor, Deed, Record};
use cordon_model::time::{BootNanos, span};
use cordon_respond::clock::Moment;
use cordon_respond::names::Pin;

use super::codes::CodesAsk;
use super::leave::Leave;
use super::protocol::{Refused, Request};
use super::state::{Input, Outcome};

/// Refusals that are written down in a minute; what goes beyond is counted, and the count written with
/// the next. A stolen hub could fill the disk otherwise: 100 of 500 bytes a minute are 70 MB a day.
const REFUSALS_A_MINUTE: u32 = 100;

/// A line of the ledger of `organisation`'s signer.
pub(super) fn record(
    organisation: &OdsCode,
    deed: Deed,
    (machine, incident): (Option<MachineId>, Option<IncidentId>),
    detail: String,
    now: &Moment,
) -> Record {
    let (organisation, detail) = (organisation.clone(), cut(detail));
    Record { at: now.utc, organisation, actor: Actor::Signer, deed, machine, incident, detail }
}

/// What the ledger says of an input and what came of it: of each document that is signed there is a line,
/// whatever had it signed. The same input at the same moment gives the same lines, so that a start can tell
/// which are missing.
pub(super) fn accounts(
    organisation: &OdsCode,
    input: &Input,
    outcome: &Outcome,
    now: &Moment,
) -> Vec<Record> {
    let record = |deed, about, said| record(organisation, deed, about, said, now);
    match (input, outcome) {
        (Input::Assign { by, leave, .. }, Outcome::Assignment(assignment)) => {
            let about = (Some(assignment.machine), None);
            let said = of_assignment(assignment, by.as_ref()) + &by_leave(*leave);
            vec![record(Deed::Assigned, about, said)]
        }
        (Input::SayAhead { said, by, good_for }, _) => {
            let said = format!(
                "of a machine that is still to enrol: called {}, {}, kind {}, group {}, {} lifelines{}; good for \
                 {}; said by {}{}",
                said.name.as_deref().unwrap_or("as it calls itself"),
                said.tier.map_or("tier unknown".to_owned(), |tier| tier.to_string()),
                said.kind.as_deref().unwrap_or("unknown"),
                said.group.as_deref().unwrap_or("none"),
                said.lifelines.len(),
                said.bedside
                    .as_ref()
                    .map_or(String::new(), |bedside| format!(", {}", of_bedside(bedside))),
                span(*good_for),
                by.name,
                by_leave(Leave::Keeper),
            );
            vec![record(Deed::Assigned, (None, None), said)]
        }
        (Input::Pin { machine, pin, leave }, Outcome::Assignment(assignment)) => {
            let said = of_pin(pin, assignment) + &by_leave(*leave);
            vec![record(Deed::Assigned, (Some(*machine), None), said)]
        }
        (Input::SetPolicy { by, leave, .. }, Outcome::Policy(policy)) => {
            let said = of_policy(policy, by) + &by_leave(*leave);
            vec![record(Deed::PolicySet, (None, None), said)]
        }
        (_, Outcome::Order(order)) => {
            let about = (Some(order.machine), order.incident);
            vec![record(Deed::Ordered(order.id), about, of_order(order))]
        }
        (_, Outcome::Permits(permits)) => permits
            .iter()
            .map(|permit| {
                let good_for = span(permit.expires_at.since(permit.issued_at));
                let said = format!("to segment itself, good for {good_for}");
                record(Deed::Permitted(permit.id), (Some(permit.machine), None), said)
            })
            .collect(),
        (Input::SetBedside { machine, bedside, by }, _) => {
            let said = format!("{}; said by {}", of_bedside(bedside), by.name);
            vec![record(Deed::BedsideSaid, (Some(*machine), None), said)]
        }
        (_, Outcome::Codes(document)) => {
            let by = match input {
                Input::CodesMade { by: Some(by), .. } => format!("{}: {}", by.name, by.reason),
                _ => "the hub, as they were due".to_owned(),
            };
            let (codes, revision) = (document.codes.len(), document.revision);
            let said = format!("{codes} break-glass codes, revision {revision}, for {by}");
            vec![record(Deed::CodesSigned, (Some(document.machine), None), said)]
        }
        // What says the same as before is the same document, signed then and written down then.
        (_, Outcome::Guidance(guidance)) if guidance.issued_at != now.utc => Vec::new(),
        (_, Outcome::Guidance(guidance)) => {
            let about = (Some(guidance.machine), None);
            vec![record(Deed::BedsideSaid, about, of_guidance(guidance))]
        }
        (Input::CodesShown { machine, code, by }, _) => {
            let what = code.map_or("a sheet of codes was printed".to_owned(), |code| {
                format!("code number {code} was read out")
            });
            let said = format!("{what} for {}: {}", by.name, by.reason);
            vec![record(Deed::CodesShown, (Some(*machine), None), said)]
        }
        (Input::NeverBegun { machine, order }, Outcome::Noted) => {
            let said = format!("the hub says that order {order} never began");
            vec![record(Deed::MeasureChanged((*order).into()), (Some(*machine), None), said)]
        }
        (_, Outcome::Assignment(assignment)) => {
            let about = (Some(assignment.machine), None);
            vec![record(Deed::Assigned, about, of_assignment(assignment, None))]
        }
        (_, Outcome::Policy(policy)) => {
            let said = format!("revision {}, mode {:?}", policy.revision, policy.mode);
            vec![record(Deed::PolicySet, (None, None), said)]
        }
        (_, Outcome::Noted | Outcome::Nothing) => Vec::new(),
    }
}

/// What a refusal is about.
pub(super) struct Subject {
    what: &'static str,
    about: (Option<MachineId>, Option<IncidentId>),
}

impl Subject {
    /// What `request` is about.
    pub(super) fn of(request: &Request) -> Self {
        let (what, machine, incident) = match request {
            Request::Assign { draft, .. } => ("assignment", Some(draft.machine), None),
            Request::SayAhead { .. } => ("assignment", None, None),
            Request::Pin { machine, .. } => ("address of a name", Some(*machine), None),
            Request::SetPolicy { .. } => ("policy", None, None),
            Request::Sign(proposal) => ("order", Some(proposal.machine), proposal.incident),
            Request::Learn { machine, .. } => ("receipt", Some(*machine), None),
            Request::Cosign { .. } => ("checkpoint", None, None),
            Request::Assignment(machine) | Request::Situation(machine) => {
                ("question", Some(*machine), None)
            }
            Request::SetBedside { machine, .. }
            | Request::Bedside(machine)
            | Request::Guide { machine, .. } => ("what people are told", Some(*machine), None),
            Request::Codes(
                CodesAsk::Document(machine)
                | CodesAsk::Renew { machine, .. }
                | CodesAsk::Sheet { machine, .. }
                | CodesAsk::ReadOne { machine, .. },
            ) => ("break-glass codes", Some(*machine), None),
            Request::Codes(CodesAsk::Rows { .. } | CodesAsk::Shown { .. }) => {
                ("question", None, None)
            }
            Request::NeverBegun { machine, .. }
            | Request::NotInForce { machine, .. }
            | Request::Asked { machine, .. }
            | Request::Heard { machine, .. } => ("note", Some(*machine), None),
            Request::Keys
            | Request::Peer
            | Request::Policy
            | Request::RenewPermits
            | Request::LastCosigned => ("question", None, None),
        };
        Self { what, about: (machine, incident) }
    }

    /// The line for its refusal, unless the brake holds it back.
    pub(super) fn refused(
        &self,
        refused: &Refused,
        brake: &mut RefusalBrake,
        organisation: &OdsCode,
        now: &Moment,
    ) -> Option<Record> {
        let unwritten = brake.may_write(now.at)?;
        let mut said = format!("{}: {refused}", self.what);
        if unwritten > 0 {
            said += &format!(" (and {unwritten} more refusals that were not written down)");
        }
        Some(record(organisation, Deed::OrderRefused, self.about, said, now))
    }
}

/// Lets so many refusals a minute be written down, and counts the others.
#[derive(Debug, Default)]
pub(super) struct RefusalBrake {
    began: BootNanos,
    written: u32,
    unwritten: u64,
}

impl RefusalBrake {
    /// `Some(how many were not written since)` if this one may be.
    fn may_write(&mut self, now: BootNanos) -> Option<u64> {
        if now.since(self.began) >= Duration::from_secs(60) {
            (self.began, self.written) = (now, 0);
        }
        if self.written >= REFUSALS_A_MINUTE {
            self.unwritten += 1;
            return None;
        }
        self.written += 1;
        Some(std::mem::take(&mut self.unwritten))
    }
}

/// Whether root stood behind a name, or only the hub's word.
fn by_leave(leave: Leave) -> String {
    match leave {
        Leave::Hub => String::new(),
        Leave::Keeper => ", at the signer's machine".to_owned(),
        Leave::Ahead(number) => {
            format!(", as said ahead at the signer's machine (number {number})")
        }
    }
}

fn of_assignment(assignment: &Assignment, by: Option<&Approver>) -> String {
    format!(
        "revision {}, {}, kind {}, group {}, {} lifelines; said by {}",
        assignment.revision,
        assignment.tier.map_or("tier unknown".to_owned(), |tier| tier.to_string()),
        assignment.kind.as_deref().unwrap_or("unknown"),
        assignment.group.as_deref().unwrap_or("none"),
        assignment.lifelines.len(),
        by.map_or("nobody", |by| &by.name),
    )
}

fn of_bedside(bedside: &Bedside) -> String {
    let ring: Vec<String> =
        bedside.ring.iter().map(|one| format!("{} {}", one.who, one.number)).collect();
    format!(
        "place {}, instead {}, ring {}",
        bedside.place.as_deref().unwrap_or("not said"),
        bedside.instead.as_deref().unwrap_or("not said"),
        if ring.is_empty() { "as the policy says".to_owned() } else { ring.join(" or ") },
    )
}

fn of_guidance(guidance: &Guidance) -> String {
    let nearest = guidance.nearest.as_ref();
    let place = nearest.and_then(|nearest| nearest.group.as_deref()).unwrap_or("no group");
    format!(
        "revision {}, the next of its kind that works: {}; said by the hub",
        guidance.revision,
        nearest.map_or("none".to_owned(), |nearest| format!("{} in {place}", nearest.name)),
    )
}

fn of_pin(pin: &Pin, assignment: &Assignment) -> String {
    let list = |addresses: &BTreeSet<IpAddr>| {
        addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let mut said = format!("revision {}, {}", assignment.revision, pin.host);
    if !pin.add.is_empty() {
        said += &format!(", pinned too: {}", list(&pin.add));
    }
    if !pin.drop.is_empty() {
        said += &format!(", kept no more: {}", list(&pin.drop));
    }
    match &pin.signed_off_by {
        Some(person) => said + &format!("; signed off by {person}"),
        None => said + "; within what was signed before",
    }
}

fn of_policy(policy: &Policy, by: &Approver) -> String {
    format!(
        "revision {}, mode {:?}, {} automatic isolations in {}, {} % of a group, {} permits; set by {}",
        policy.revision,
        policy.mode,
        policy.budget.count,
        span(Duration::from_secs(policy.budget.window_seconds.into())),
        policy.budget.group_percent,
        policy.permits,
        by.name,
    )
}

fn of_order(order: &Order) -> String {
    let by = match &order.authority {
        Authority::Policy { revision, finding } => {
            format!("policy revision {revision}, finding {finding}")
        }
        Authority::People { people, .. } => {
            people.iter().map(|person| person.name.as_str()).collect::<Vec<_>>().join(", ")
        }
    };
    format!("{}, sequence {}, by {by}: {}", order.instruction, order.sequence, order.reason)
}

/// At most [`NAME_BYTES`], cut between characters.
fn cut(mut text: String) -> String {
    if text.len() > NAME_BYTES {
        text.truncate(text.floor_char_boundary(NAME_BYTES));
    }
    text
}
