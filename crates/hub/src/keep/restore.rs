//! At a start: what was kept is read back, as far as it counts still and can be read.
//!
//! The one idea: one row that can't be read stops nothing else. It stays where it is, is named in the log, in the
//! ledger and on the console, and nothing that hangs on it is taken for over and removed ([`dim`]).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::time::Duration;

use cordon_model::asset::Assignment;
use cordon_model::ids::{ApprovalId, IncidentId, MachineId, MeasureId, OdsCode};
use cordon_model::record::Record;
use cordon_model::signed::{Envelope, Verified};
use cordon_model::time::UtcNanos;
use cordon_respond::approval::Approval;
use cordon_respond::delivery::Inbox;
use cordon_respond::grouping::{Seat, Story};
use cordon_respond::hub_core::{self as core, MachineRow, WayWord};
use cordon_respond::order::{Delivery, MeasureLife, OrderLife};
use cordon_respond::signer_core::Proposal;
use cordon_store::{
    Change, Cursor, Key, Listed, Machine, Page, Row, State, StoreError, StoredApproval, Unreadable,
};
use ed25519_dalek::VerifyingKey;

use super::{
    CODES, DRAFT, Draft, GAP, GUIDANCE, KINDS, MEASURE, ORDER, OUTBOX, PROPOSAL, SEAT, STORY,
    STRUCK_OFF, VERSION, WAY, decode, encode, row, stored_approval, unreadable,
};
use crate::board::{Card, Known};
use crate::signer::Client;

mod dim;
use dim::{Dim, fits, is_damaged};

/// How long an order that died is told to the signer again at each start.
const DEAD_ORDERS: Duration = Duration::from_secs(7 * 24 * 3600);

/// Says that of each question it is kept whether it counts: those of an earlier version were read once for that.
const THAT_COUNT: &str = "approvals-that-count";

/// The same of a version that kept their incident alone.
const BY_INCIDENT: &str = "approvals-by-incident";

/// Everything that was kept.
pub(crate) struct Kept {
    /// For the hub's mind.
    pub rows: Vec<core::Change>,
    /// For reading.
    pub cards: BTreeMap<MachineId, Card>,
    /// Records that the ledger may not have yet, by number.
    pub outbox: Vec<(u64, Record)>,
    /// The number of the next one: above those that can't be read, too.
    pub next_record: u64,
    /// What is of no use any more, and is removed at the start, and what is put right.
    pub prune: Vec<Change>,
    /// What enrolled machines are to be whom the signer does not know yet.
    pub drafts: HashMap<MachineId, Draft>,
    /// What can't be read, and is left where it is.
    pub set_aside: Vec<SetAside>,
}

/// Revisions and envelopes of one kind of document, of all machines.
type Documents = BTreeMap<MachineId, (u64, Envelope)>;

/// A row that can't be read. It is left where it is, unless it is [mended](SetAside::mended).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SetAside {
    /// What it should be.
    pub what: String,
    /// Which.
    pub id: String,
    /// The decoder's words.
    pub why: String,
    /// How it goes on without anybody doing anything; `None`: what it is about is not minded.
    pub mended: Option<&'static str>,
}

impl fmt::Display for SetAside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} {}: {}", self.what, self.id, self.why)?;
        self.mended.map_or(Ok(()), |mended| write!(f, " ({mended})"))
    }
}

/// What the rows of state machines say, beside what the mind takes as it is.
#[derive(Default)]
struct Read {
    struck_off: Vec<MachineId>,
    gaps: Vec<(MachineId, UtcNanos)>,
    codes: Documents,
    guidance: Documents,
    versions: BTreeMap<MachineId, u16>,
    ways: BTreeMap<MachineId, WayWord>,
    /// Rows of measures and of stories that can't be read: what hangs on one is not over.
    dim: Dim,
    /// Machines' shares of stories that can't be read.
    dim_seats: Vec<(IncidentId, MachineId)>,
    /// Damaged names of machines that were struck off.
    dim_struck_off: Vec<String>,
}

/// Reads back what counts still.
///
/// # Errors
/// If the store itself fails; what it holds and can't be read is in [`Kept::set_aside`].
pub(crate) async fn restore(
    store: &dyn State,
    organisation: &OdsCode,
    signer: &Client,
    now: UtcNanos,
) -> Result<Kept, StoreError> {
    let mut kept = Kept {
        rows: Vec::new(),
        cards: BTreeMap::new(),
        outbox: Vec::new(),
        next_record: 0,
        drafts: HashMap::new(),
        prune: Vec::new(),
        set_aside: Vec::new(),
    };
    let mut read = Read::default();
    for row in store.rows(organisation).await? {
        if let Err(error) = read.take(&row, &mut kept) {
            read.keep_what_hangs_on(&row);
            let why = reason(error)?;
            kept.set_aside.push(SetAside { what: row.kind, id: row.id, why, mended: None });
        }
    }
    prune_orders(&mut kept, &read.dim, now)?;
    prune_seats(&mut kept, &read.dim)?;
    restore_machines(store, organisation, signer, now, &read, &mut kept).await?;
    let dim_seats = std::mem::take(&mut read.dim_seats);
    for damaged in &read.dim_struck_off {
        let mut like = kept.cards.keys().filter(|machine| fits(damaged, &machine.to_string()));
        if let (Some(machine), None) = (like.next(), like.next()) {
            read.struck_off.push(*machine);
        }
    }
    for machine in read.struck_off {
        if let Some(card) = kept.cards.get_mut(&machine) {
            card.is_struck_off = true;
        }
    }
    for (machine, at) in read.gaps {
        if let Some(card) = kept.cards.get_mut(&machine) {
            card.gap_at = Some(at);
        }
    }
    restore_measures(store, organisation, &mut kept).await?;
    note_what_counts_of_approvals(store, organisation, &mut kept).await?;
    restore_approvals(store, organisation, &mut kept).await?;
    restore_answered(store, organisation, &mut kept).await?;
    for (incident, machine) in dim_seats {
        let covered = covered(&kept.rows, incident, machine);
        let seat = Seat::of_unknown(incident, machine, covered);
        kept.rows.push(core::Change::Seat(seat));
    }
    Ok(kept)
}

/// Of which story and machine a share is that can't be read, by the name of its row.
fn ids_of_seat(id: &str) -> Option<(IncidentId, MachineId)> {
    let (incident, machine) = id.split_once(' ')?;
    Some((incident.parse().ok()?, machine.parse().ok()?))
}

/// How much of what a story brought about a machine any question about it knew of, or noted.
fn covered(rows: &[core::Change], incident: IncidentId, machine: MachineId) -> u32 {
    let questions = rows.iter().filter_map(|row| match row {
        core::Change::Approval(question) if question.machine == machine => Some(question),
        _ => None,
    });
    let news = questions.flat_map(|question| {
        let own = (question.incident == Some(incident)).then_some(question.news);
        let since = question.since.iter().filter(|since| since.incident == Some(incident));
        own.into_iter().chain(since.map(|since| since.news))
    });
    news.max().unwrap_or(0)
}

/// Why something can't be read.
///
/// # Errors
/// What is another failure, of the store itself.
fn reason(error: StoreError) -> Result<String, StoreError> {
    match error {
        StoreError::Unreadable { reason, .. } => Ok(reason),
        other => Err(other),
    }
}

impl Read {
    /// Takes one row to where it belongs.
    ///
    /// # Errors
    /// [`StoreError::Unreadable`]; nothing is taken of it then.
    fn take(&mut self, row: &Row, kept: &mut Kept) -> Result<(), StoreError> {
        let Row { kind, id, document } = row;
        if is_damaged(kind) || is_damaged(id) {
            return Err(unreadable(&"its name is damaged"));
        }
        let machine = || id.parse::<MachineId>().map_err(|error| unreadable(&error));
        match kind.as_str() {
            STORY => {
                let story = decode::<Story>(document)?;
                self.is_of(row, story.incident.id)?;
                kept.rows.push(core::Change::Story(story));
            }
            SEAT => {
                let seat = decode::<Seat>(document)?;
                self.is_of(row, super::seat_id(seat.incident, seat.machine))?;
                kept.rows.push(core::Change::Seat(seat));
            }
            PROPOSAL => {
                let proposal = decode::<Proposal>(document)?;
                self.is_of(row, proposal.id)?;
                kept.rows.push(core::Change::Proposed(proposal));
            }
            ORDER => {
                let life = decode::<OrderLife>(document)?;
                self.is_of(row, life.order.id)?;
                kept.rows.push(core::Change::Order(life));
            }
            MEASURE => {
                let life = decode::<MeasureLife>(document)?;
                self.is_of(row, life.measure)?;
                kept.rows.push(core::Change::Measure(life));
            }
            OUTBOX => {
                let number: u64 = id.parse().map_err(|error| unreadable(&error))?;
                // Also where its record can't be read: another would take its place.
                kept.next_record = kept.next_record.max(number.saturating_add(1));
                kept.outbox.push((number, decode::<Record>(document)?));
            }
            DRAFT => {
                kept.drafts.insert(machine()?, decode::<Draft>(document)?);
            }
            STRUCK_OFF => self.struck_off.push(machine()?),
            GAP => self.gaps.push((machine()?, decode(document)?)),
            CODES => {
                self.codes.insert(machine()?, decode(document)?);
            }
            VERSION => {
                self.versions.insert(machine()?, decode(document)?);
            }
            WAY => {
                self.ways.insert(machine()?, decode(document)?);
            }
            GUIDANCE => {
                self.guidance.insert(machine()?, decode(document)?);
            }
            // Of a newer version: it stays where it is. Or of one whose kind is damaged and is a text all the same.
            _ => {
                tracing::warn!(kind, id, "a row of an unknown kind is left alone");
                self.keep_what_hangs_on(row);
            }
        }
        Ok(())
    }

    /// Whether a document is the row's own. It could not be ended by its row, and would come back at every start.
    ///
    /// # Errors
    /// [`StoreError::Unreadable`], if it is not.
    fn is_of(&mut self, row: &Row, own: impl ToString) -> Result<(), StoreError> {
        let own = own.to_string();
        if row.id == own {
            return Ok(());
        }
        let error = unreadable(&format_args!("it holds another one's: {own}"));
        self.keep_what_hangs_on(&Row { id: own, ..row.clone() });
        Err(error)
    }

    /// Of a row that can't be read: what hangs on it is not over. Where its kind is damaged, on whatever it may be.
    fn keep_what_hangs_on(&mut self, row: &Row) {
        let may_be = |kind: &str| fits(&row.kind, kind);
        let is_known = KINDS.contains(&row.kind.as_str());
        if !is_known || row.kind == MEASURE || row.kind == STORY {
            self.dim.add(&row.id);
        }
        if !is_known || row.kind == SEAT {
            self.dim_seats.extend(ids_of_seat(&row.id));
        }
        // Nobody is kept out by a row that may as well be another.
        let is_surely = |kind: &str| KINDS.iter().filter(|of| may_be(of)).eq([&kind]);
        if is_surely(STRUCK_OFF) {
            match row.id.parse() {
                Ok(machine) => self.struck_off.push(machine),
                Err(_) => self.dim_struck_off.push(row.id.clone()),
            }
        }
    }
}

impl Kept {
    /// The rows of a list that can be read; the others are set aside.
    fn readable<T>(&mut self, listed: &mut Listed<T>) -> Vec<T> {
        for Unreadable { what, id, reason } in std::mem::take(&mut listed.unreadable) {
            let row = SetAside { what: what.to_owned(), id, why: reason, mended: None };
            // A question may be in two lists.
            if !self.set_aside.contains(&row) {
                self.set_aside.push(row);
            }
        }
        std::mem::take(&mut listed.items)
    }

    /// A question that can be read; any other is set aside.
    ///
    /// # Errors
    /// If the store itself failed.
    fn takes_question(
        &mut self,
        id: ApprovalId,
        question: Result<Approval, StoreError>,
    ) -> Result<(), StoreError> {
        match question {
            Ok(question) => self.rows.push(core::Change::Approval(question)),
            Err(error) => {
                let (what, id, why) = ("question".to_owned(), id.to_string(), reason(error)?);
                // One whose columns can't be read is named already, by the list that it is in.
                if !self.set_aside.iter().any(|row| row.id == id) {
                    self.set_aside.push(SetAside { what, id, why, mended: None });
                }
            }
        }
        Ok(())
    }
}

/// An order that was taken, and whose measure is over, is history: the tables have it. One that died is
/// kept for a week, so that a signer that was away learns of it.
fn prune_orders(kept: &mut Kept, dim: &Dim, now: UtcNanos) -> Result<(), StoreError> {
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
                // Nobody knows that it is over.
                Delivery::Taken if dim.has(&MeasureId::from(life.order.id).to_string()) => None,
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

/// What machines brought to a story that is over is of no use any more.
fn prune_seats(kept: &mut Kept, dim: &Dim) -> Result<(), StoreError> {
    let open: BTreeSet<IncidentId> = kept
        .rows
        .iter()
        .filter_map(|row| match row {
            core::Change::Story(story) => Some(story.incident.id),
            _ => None,
        })
        .collect();
    for row in std::mem::take(&mut kept.rows) {
        match &row {
            core::Change::Seat(seat) if !open.contains(&seat.incident) => {
                if !dim.has(&seat.incident.to_string()) {
                    let id = super::seat_id(seat.incident, seat.machine);
                    kept.prune.push(self::row::<Seat>(SEAT, id, None)?);
                }
            }
            _ => kept.rows.push(row),
        }
    }
    Ok(())
}

async fn restore_machines(
    store: &dyn State,
    organisation: &OdsCode,
    signer: &Client,
    now: UtcNanos,
    read: &Read,
    kept: &mut Kept,
) -> Result<(), StoreError> {
    let Read { codes, guidance, versions, ways, .. } = read;
    let mut page = Page::default();
    loop {
        let mut listed = store.machines(organisation, &page).await?;
        for machine in kept.readable(&mut listed) {
            let assignment = assignment_of(&machine, signer, kept).await;
            if let Some(assignment) = &assignment {
                let permit = permit_of(store, organisation, machine.id, now, kept).await?;
                kept.rows.push(core::Change::Machine(MachineRow {
                    assignment: (**assignment).clone(),
                    assignment_envelope: assignment.envelope().clone(),
                    permit,
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
                    assignment: assignment.map(|assignment| assignment.into_document().into()),
                    seen: machine.seen,
                    codes_kept: codes.get(&machine.id).map_or(0, |(revision, _)| *revision),
                    version_kept: versions.get(&machine.id).copied().unwrap_or(0),
                    way: ways.get(&machine.id).cloned().unwrap_or_default(),
                    guidance_kept: guidance.get(&machine.id).map_or(0, |(held, _)| *held),
                    ..Card::new(
                        machine.host,
                        machine.enrolled_at,
                        VerifyingKey::from_bytes(&machine.receipt_key).ok(),
                    )
                },
            );
        }
        match listed.next {
            Some(next) => page.after = Some(next),
            None => return Ok(()),
        }
    }
}

/// What a machine is, as it was signed. What can't be read or is not genuine is taken from the signer and put in its
/// place, and so is what is missing: without it no order goes to that machine, not even a release.
async fn assignment_of(
    machine: &Machine,
    signer: &Client,
    kept: &mut Kept,
) -> Option<Verified<Assignment>> {
    let why = match &machine.assignment {
        Ok(Some(envelope)) => match envelope.open::<Assignment>(signer.command_key()) {
            Ok(assignment) if assignment.machine == machine.id => return Some(assignment),
            Ok(_) => "it is another machine's".to_owned(),
            Err(error) => error.to_string(),
        },
        Err(why) => why.clone(),
        // It is still to be signed, by what its token says.
        Ok(None) if kept.drafts.contains_key(&machine.id) => return None,
        Ok(None) => "it is missing".to_owned(),
    };
    let signed = signer.assignment(machine.id).await;
    let signed = signed.ok().filter(|assignment| assignment.machine == machine.id);
    // One that the signer does not know either is new to it: there was none.
    if signed.is_none() && machine.assignment == Ok(None) {
        return None;
    }
    kept.set_aside.push(SetAside {
        what: "assignment".into(),
        id: machine.id.to_string(),
        why: match &signed {
            Some(_) => why,
            None => format!("{why} (the signer is asked for it when an order or a link needs it)"),
        },
        mended: signed.is_some().then_some("it was replaced by the signer's"),
    });
    kept.prune.extend(signed.as_ref().map(|assignment| Change::Assignment {
        machine: machine.id,
        revision: assignment.revision,
        envelope: assignment.envelope().clone(),
    }));
    signed
}

/// A machine's newest permit. One that can't be read is none here; the machine has it still, and the signer gives the
/// next.
async fn permit_of(
    store: &dyn State,
    organisation: &OdsCode,
    machine: MachineId,
    now: UtcNanos,
    kept: &mut Kept,
) -> Result<Option<Envelope>, StoreError> {
    match store.permits(&Key::new(organisation, machine), now).await {
        Ok(permits) => Ok(permits.into_iter().next().map(|permit| permit.envelope)),
        Err(error) => {
            let why = reason(error)?;
            kept.set_aside.push(SetAside {
                what: "permit of machine".into(),
                id: machine.to_string(),
                why,
                mended: Some(
                    "the machine goes on by the one that it holds; the signer gives the next",
                ),
            });
            Ok(None)
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
        let mut listed = store.measures_not_over(organisation, &page).await?;
        for measure in kept.readable(&mut listed) {
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

/// Once: each question that an earlier version kept is kept with its incident, and with whether something is left on
/// it, so that no start has to read them all again.
async fn note_what_counts_of_approvals(
    store: &dyn State,
    organisation: &OdsCode,
    kept: &mut Kept,
) -> Result<(), StoreError> {
    let name = THAT_COUNT.to_owned();
    if store.setting(&Key::new(organisation, name.clone())).await?.is_some() {
        return Ok(());
    }
    let mut after: Option<Cursor> = None;
    loop {
        let mut listed = store.approvals(organisation, false, &Page { after, limit: 0 }).await?;
        let stored = kept.readable(&mut listed);
        let mut changes = Vec::new();
        for stored in stored {
            let Ok(approval) = decode::<Approval>(&stored.document) else { continue };
            let noted = (approval.incident, core::is_left(&approval));
            if noted != (stored.incident, stored.is_left) {
                changes.push(Change::Approval(stored_approval(&approval)?));
            }
        }
        store.commit(organisation, &changes).await?;
        match listed.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    kept.prune.push(Change::Setting { name, value: Some(encode(&true)?) });
    kept.prune.push(Change::Setting { name: BY_INCIDENT.to_owned(), value: None });
    Ok(())
}

/// Questions that wait, those on which something is left, and those that were answered in a story that still goes on.
async fn restore_approvals(
    store: &dyn State,
    organisation: &OdsCode,
    kept: &mut Kept,
) -> Result<(), StoreError> {
    let mut after: Option<Cursor> = None;
    loop {
        let page = Page { after, limit: 0 };
        let mut listed = store.approvals_that_count(organisation, &page).await?;
        for StoredApproval { id, document, .. } in kept.readable(&mut listed) {
            kept.takes_question(id, decode(&document))?;
        }
        match listed.next {
            Some(next) => after = Some(next),
            None => return Ok(()),
        }
    }
}

/// Questions of which follows what the signer has not answered yet, whatever became of their stories: if it refuses,
/// what came while people were asked is asked about.
async fn restore_answered(
    store: &dyn State,
    organisation: &OdsCode,
    kept: &mut Kept,
) -> Result<(), StoreError> {
    let known: BTreeSet<ApprovalId> = kept
        .rows
        .iter()
        .filter_map(|row| match row {
            core::Change::Approval(question) => Some(question.id),
            _ => None,
        })
        .collect();
    let answered: BTreeSet<ApprovalId> = kept
        .rows
        .iter()
        .filter_map(|row| match row {
            core::Change::Proposed(proposal) => proposal.basis.question(),
            _ => None,
        })
        .filter(|question| !known.contains(question))
        .collect();
    for id in answered {
        let question = match store.approval(&Key::new(organisation, id)).await {
            Ok(None) => continue,
            Ok(Some(stored)) => decode(&stored.document),
            Err(error) => Err(error),
        };
        kept.takes_question(id, question)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_that_cannot_be_read_is_named_by_its_row() {
        let at = UtcNanos::from_unix_nanos(0);
        let (incident, machine) = (IncidentId::new(at, [1; 10]), MachineId::new(at, [2; 10]));
        let id = super::super::seat_id(incident, machine);
        assert_eq!(ids_of_seat(&id), Some((incident, machine)));
        assert_eq!(ids_of_seat("nonsense"), None);
    }
}
