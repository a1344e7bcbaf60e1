//! The [`Hub`] handle: all that people can ask of a running hub.
//!
//! The one idea: console, API, command line and drill use this one handle, so none can do what another
//! may not. Reading is answered from the store and from memory; whatever changes something is a deed of
//! the main task, takes a [`Who`] and a reason, is in the ledger, and is on disk when the call returns.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use cordon_link::token::EnrolToken;
use cordon_model::asset::{Assignment, LATERAL_MOVEMENT};
use cordon_model::ids::{ApprovalId, IncidentId, MachineId, OrderId};
use cordon_model::limits;
use cordon_model::measure::{Isolation, Receipt};
use cordon_model::order::{Instruction, Order};
use cordon_model::policy::{Mode, Policy};
use cordon_model::record::{Actor, Deed, Record};
use cordon_model::time::UtcNanos;
use cordon_respond::approval::{AnswerRefused, Approval, ApprovalState, Identity};
use cordon_respond::decision::Needs;
use cordon_respond::hub_core::{Change as CoreChange, Output, Wish};
use cordon_respond::signer_core::Refusal;
use cordon_store::{
    Change, Cursor, EnrolmentToken, FindingFilter, IncidentFilter, Key, Listed, PAGE_ROWS, Page,
    Person, Role, Session, StoredMeasure,
};
use ed25519_dalek::VerifyingKey;
use tokio::sync::{broadcast, oneshot};

use crate::clock::fresh;
use crate::error::HubError;
use crate::keep::{self, Draft, decode, encode};
use crate::people::{NewSession, Secret, SignIn, Who};
use crate::run::Shared;
use crate::signer::{ClientError, Refused};
use crate::view::{
    AssignmentDraft, Attention, Contact, HubStatus, IncidentRow, IncidentView, LedgerStatus,
    MACHINES_IN_VIEW, MachineRow, MachineView, MeasureView, NAMES_IN_ROW, News, Ordered, Preview,
    TimelineEntry,
};
use crate::work::{Input, Step};

/// How long a person waits for the signer before being told that it is away.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a session lasts: 12 hours, the longest usual shift.
const SESSION: Duration = Duration::from_secs(12 * 3600);

/// The longest that a sign-in link or an enrolment token may be good: 30 days.
const LONGEST_TOKEN: Duration = Duration::from_secs(30 * 24 * 3600);

/// Findings on a machine's page.
const FINDINGS_IN_VIEW: u32 = 50;

/// Measures on a machine's page.
const MEASURES_IN_VIEW: u32 = 20;

/// A running hub. Cheap to clone.
#[derive(Clone)]
pub struct Hub {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub")
            .field("organisation", &self.shared.organisation)
            .finish_non_exhaustive()
    }
}

/// Looking.
impl Hub {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Whose hub it is.
    #[must_use]
    pub fn organisation(&self) -> &cordon_store::Organisation {
        &self.shared.organisation
    }

    /// Says when something changed. A listener that falls behind is told so, and looks at everything.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<News> {
        self.shared.news.subscribe()
    }

    /// How the hub is.
    ///
    /// # Errors
    /// [`HubError::Store`]; so for all that look.
    pub async fn status(&self) -> Result<HubStatus, HubError> {
        let now = UtcNanos::now();
        let nanos = i64::try_from(crate::board::SILENT_AFTER.as_nanos()).unwrap_or(i64::MAX);
        let since = UtcNanos::from_unix_nanos(now.unix_nanos() - nanos);
        let board = &self.shared.board;
        let mut counts = self.shared.store.counts(&self.shared.organisation.code, since).await?;
        // Who was heard in these seconds is known here before it is on disk.
        let (mut heard, mut never) = (0, 0);
        for card in board.machines().values() {
            match card.contact(now) {
                Contact::Linked { .. } => heard += 1,
                Contact::Silent { .. } => {}
                Contact::Never => never += 1,
            }
        }
        counts.machines_heard = heard;
        counts.machines_never_heard = never;
        Ok(HubStatus {
            organisation: self.shared.organisation.clone(),
            mode: board.policy().mode,
            counts,
            linked: self.shared.links.count(),
            ledger: board.ledger(),
            signer_away: board.signer_away(),
            refused: board.refused(),
        })
    }

    /// How the ledger is.
    #[must_use]
    pub fn ledger(&self) -> LedgerStatus {
        self.shared.board.ledger()
    }

    /// Records of the ledger, at most a thousand.
    ///
    /// # Errors
    /// If a record is damaged.
    pub async fn ledger_records(
        &self,
        range: std::ops::Range<u64>,
    ) -> Result<Vec<cordon_evidence::Entry>, HubError> {
        let read = self.shared.ledger.read(range).await.ok_or(HubError::Closing)?;
        read.map_err(|error| HubError::Document(error.to_string()))
    }

    /// What people must see, newest first.
    #[must_use]
    pub fn attention(&self) -> Vec<Attention> {
        self.shared.board.attention()
    }

    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> Arc<Policy> {
        self.shared.board.policy()
    }

    /// All machines, by name; how many there are is the list's length.
    #[must_use]
    pub fn machines(&self) -> Vec<MachineRow> {
        let now = UtcNanos::now();
        let machines = self.shared.board.machines();
        let known = machines.iter().filter(|(_, card)| !card.is_struck_off);
        let mut rows: Vec<MachineRow> = known.map(|(id, card)| card.row(*id, now)).collect();
        drop(machines);
        rows.sort_by(|a, b| a.name.cmp(&b.name).then(a.id.cmp(&b.id)));
        rows
    }

    /// The machine that people call `name`, if exactly one is called so, or that has this id.
    #[must_use]
    pub fn machine_called(&self, name: &str) -> Option<MachineId> {
        let machines = self.shared.board.machines();
        if let Some(id) = name.parse().ok().filter(|id| machines.contains_key(id)) {
            return Some(id);
        }
        let mut called = machines.iter().filter(|(_, card)| card.name() == name);
        match (called.next(), called.next()) {
            (Some((id, _)), None) => Some(*id),
            _ => None,
        }
    }

    /// One machine in full.
    ///
    /// # Errors
    /// [`HubError::Missing`].
    pub async fn machine(&self, id: MachineId) -> Result<MachineView, HubError> {
        let card = self.card(id)?;
        let organisation = &self.shared.organisation.code;
        let page = Page::first(MEASURES_IN_VIEW);
        let key = Key::new(organisation, id);
        let measures = self.shared.store.measures_of(&key, &page).await?;
        let filter = FindingFilter { machine: Some(id), ..FindingFilter::default() };
        let page = Page::first(FINDINGS_IN_VIEW);
        let findings = self.shared.store.findings(organisation, &filter, &page).await?;
        let questions = self.approvals(true).await?;
        Ok(MachineView {
            row: card.row(id, UtcNanos::now()),
            assignment: card.assignment.as_deref().cloned(),
            enrolled_at: card.enrolled_at,
            build: card.seen.as_ref().map(|seen| seen.build.clone()),
            coverage: card.seen.as_ref().map(|seen| seen.coverage.clone()).unwrap_or_default(),
            status: card.seen.as_ref().and_then(|seen| seen.status.clone()),
            measures: self.measure_views(measures.items, card.receipt_key).await?,
            findings: findings.items,
            finding_count: findings.total,
            questions: questions.into_iter().filter(|question| question.machine == id).collect(),
        })
    }

    /// Incidents, newest first.
    ///
    /// # Errors
    /// [`HubError::Store`].
    pub async fn incidents(
        &self,
        filter: IncidentFilter,
        page: &Page,
    ) -> Result<Listed<IncidentRow>, HubError> {
        let organisation = &self.shared.organisation.code;
        let listed = self.shared.store.incidents(organisation, filter, page).await?;
        let questions = self.approvals(true).await?;
        let machines = self.shared.board.machines();
        let items = listed.items.into_iter().map(|incident| {
            let cards = || incident.machines.iter().filter_map(|id| machines.get(id));
            IncidentRow {
                machine_names: cards().take(NAMES_IN_ROW).map(|c| c.name().to_owned()).collect(),
                isolated: cards().filter(|card| card.is_cut_off()).count(),
                questions: questions.iter().filter(|q| q.incident == Some(incident.id)).count(),
                incident,
            }
        });
        Ok(Listed { items: items.collect(), next: listed.next, total: listed.total })
    }

    /// One incident in full, its timeline from `after` on.
    ///
    /// # Errors
    /// [`HubError::Missing`].
    pub async fn incident(
        &self,
        id: IncidentId,
        after: Option<Cursor>,
    ) -> Result<IncidentView, HubError> {
        let (store, organisation) = (&self.shared.store, &self.shared.organisation.code);
        let key = Key::new(organisation, id);
        let incident = store.incident(&key).await?.ok_or(HubError::Missing { what: "incident" })?;
        let timeline = store.timeline(&key, &Page { after, limit: PAGE_ROWS }).await?;
        let filter = FindingFilter { incident: Some(id), ..FindingFilter::default() };
        let findings = store.findings(organisation, &filter, &Page::first(PAGE_ROWS)).await?;
        let now = UtcNanos::now();
        let rows: Vec<MachineRow> = {
            let machines = self.shared.board.machines();
            let cards = incident.machines.iter().take(MACHINES_IN_VIEW);
            cards.filter_map(|id| Some(machines.get(id)?.row(*id, now))).collect()
        };
        let measures = self.measures_in(&incident.machines, id).await?;
        let finding_of = |record: &Record| match (&record.deed, &record.actor) {
            (Deed::Found(finding), Actor::Agent(machine)) => findings
                .items
                .iter()
                .find(|received| received.finding.id == *finding && received.machine == *machine)
                .cloned()
                .map(Box::new),
            _ => None,
        };
        let entries = timeline.items.into_iter().map(|record| {
            let finding = finding_of(&record);
            TimelineEntry { record, finding }
        });
        Ok(IncidentView {
            machines: rows,
            timeline: entries.collect(),
            timeline_total: timeline.total,
            timeline_next: timeline.next,
            measures,
            questions: self.questions_of(id).await?,
            incident,
        })
    }

    /// Questions, oldest first: those that wait for an answer, or all of the newest.
    ///
    /// # Errors
    /// [`HubError::Store`].
    pub async fn approvals(&self, only_open: bool) -> Result<Vec<Approval>, HubError> {
        let organisation = &self.shared.organisation.code;
        let page = Page::first(PAGE_ROWS);
        let listed = self.shared.store.approvals(organisation, only_open, &page).await?;
        let approvals = listed.items.iter().map(|stored| decode(&stored.document));
        Ok(approvals.collect::<Result<_, _>>()?)
    }

    /// What isolating a machine would do to it.
    ///
    /// # Errors
    /// [`HubError::Missing`].
    pub fn preview(&self, id: MachineId, isolation: Isolation) -> Result<Preview, HubError> {
        let card = self.card(id)?;
        let now = UtcNanos::now();
        let machine = card.row(id, now);
        let assignment = card.assignment.as_deref();
        let tier = assignment
            .map_or(cordon_model::asset::ClinicalTier::WHEN_UNKNOWN, Assignment::effective_tier);
        let stand_ins = machine.kind.as_ref().map(|kind| {
            let machines = self.shared.board.machines();
            let others = machines.iter().filter(|(other, card)| {
                let assignment = card.assignment.as_ref();
                **other != id && assignment.is_some_and(|a| a.kind.as_ref() == Some(kind))
            });
            let (mut working, mut all) = (0, 0);
            for (_, card) in others {
                all += 1;
                let is_there = matches!(card.contact(now), Contact::Linked { .. });
                working += usize::from(is_there && !card.is_cut_off());
            }
            (working, all)
        });
        Ok(Preview {
            lifelines: assignment.map(|a| a.lifelines.clone()).unwrap_or_default(),
            cut: match isolation {
                Isolation::Segment => LATERAL_MOVEMENT.to_vec(),
                Isolation::Watch | Isolation::Full => Vec::new(),
            },
            cuts_everything_else: isolation == Isolation::Full,
            needs: Needs::to_contain(tier),
            cautions: cautions(&machine, isolation, stand_ins, assignment),
            stand_ins,
            machine,
            isolation,
        })
    }

    fn card(&self, id: MachineId) -> Result<crate::board::Card, HubError> {
        self.shared.board.card(id).ok_or(HubError::Missing { what: "machine" })
    }

    async fn questions_of(&self, incident: IncidentId) -> Result<Vec<Approval>, HubError> {
        let mut questions: Vec<Approval> = self.approvals(false).await?;
        questions.retain(|question| question.incident == Some(incident));
        Ok(questions)
    }

    /// The measures that orders of an incident began on its machines.
    async fn measures_in(
        &self,
        machines: &[MachineId],
        incident: IncidentId,
    ) -> Result<Vec<MeasureView>, HubError> {
        let mut views = Vec::new();
        for id in machines.iter().take(MACHINES_IN_VIEW) {
            let key = Key::new(&self.shared.organisation.code, *id);
            let page = Page::first(MEASURES_IN_VIEW);
            let measures = self.shared.store.measures_of(&key, &page).await?;
            let receipt_key = self.shared.board.card(*id).and_then(|card| card.receipt_key);
            let of_machine = self.measure_views(measures.items, receipt_key).await?;
            views.extend(of_machine.into_iter().filter(|view| {
                view.order.as_ref().is_some_and(|order| order.incident == Some(incident))
            }));
        }
        views.sort_by_key(|view| std::cmp::Reverse(view.measure.since));
        Ok(views)
    }

    async fn measure_views(
        &self,
        measures: Vec<StoredMeasure>,
        receipt_key: Option<VerifyingKey>,
    ) -> Result<Vec<MeasureView>, HubError> {
        let (store, organisation) = (&self.shared.store, &self.shared.organisation.code);
        let mut views = Vec::with_capacity(measures.len());
        for measure in measures {
            // The order that begins a measure has the same bytes; others have none here.
            let order = measure.id.to_string().parse::<OrderId>().ok();
            let order = match order {
                Some(id) => store.order(&Key::new(organisation, id)).await?,
                None => None,
            };
            let command_key = self.shared.documents.command_key();
            let order = order.and_then(|stored| stored.envelope.open::<Order>(command_key).ok());
            let envelopes =
                store.receipts(&Key::new(organisation, (measure.machine, measure.id))).await?;
            let receipts = envelopes.iter().filter_map(|envelope| {
                Some(envelope.open::<Receipt>(&receipt_key?).ok()?.into_document())
            });
            views.push(MeasureView {
                receipts: receipts.collect(),
                order: order.map(cordon_model::signed::Verified::into_document),
                measure,
            });
        }
        Ok(views)
    }
}

/// What a careful person would want to know first.
fn cautions(
    machine: &MachineRow,
    isolation: Isolation,
    stand_ins: Option<(usize, usize)>,
    assignment: Option<&Assignment>,
) -> Vec<String> {
    let mut cautions = Vec::new();
    if machine.tier.is_none() {
        cautions.push(
            "nobody has said how care depends on this machine: it is treated as clinical"
                .to_owned(),
        );
    }
    let has_lifelines = assignment.is_some_and(|assignment| !assignment.lifelines.is_empty());
    let is_clinical = machine.tier.is_none_or(cordon_model::asset::ClinicalTier::is_clinical);
    if isolation == Isolation::Full && is_clinical && !has_lifelines {
        cautions.push("no lifeline is declared: nothing but the hub's link will live".to_owned());
    }
    match stand_ins {
        Some((0, _)) => cautions.push(
            "no other machine of its kind is in contact and working: it is the last".to_owned(),
        ),
        Some(_) | None => {}
    }
    match machine.contact {
        Contact::Linked { .. } => {}
        Contact::Silent { .. } => {
            cautions.push("it is not in contact: the order waits until it is back".to_owned());
        }
        Contact::Never => cautions.push("it was never heard: the order waits".to_owned()),
    }
    if machine.isolation >= Some(isolation) {
        cautions.push("it is, or is being, isolated as far already".to_owned());
    }
    for gap in machine.gaps.iter().filter(|gap| gap.what == "isolation") {
        let why = gap.gap.as_deref().unwrap_or("no reason given");
        cautions.push(format!("its agent can't isolate: {why}"));
    }
    cautions
}

/// Acting.
impl Hub {
    /// Orders a machine to be cut off.
    ///
    /// # Errors
    /// [`HubError::Refused`] with the signer's reason; [`HubError::SignerAway`]: the proposal is kept.
    pub async fn isolate(
        &self,
        machine: MachineId,
        isolation: Isolation,
        reason: &str,
        incident: Option<IncidentId>,
        who: &Who,
    ) -> Result<Ordered, HubError> {
        let lease = self.policy().lease;
        self.order(machine, Instruction::Isolate { isolation, lease }, reason, incident, who).await
    }

    /// Orders every isolation of a machine to be taken back.
    ///
    /// # Errors
    /// As [`Hub::isolate`].
    pub async fn release(
        &self,
        machine: MachineId,
        reason: &str,
        incident: Option<IncidentId>,
        who: &Who,
    ) -> Result<Ordered, HubError> {
        self.order(machine, Instruction::Release, reason, incident, who).await
    }

    async fn order(
        &self,
        machine: MachineId,
        instruction: Instruction,
        reason: &str,
        incident: Option<IncidentId>,
        who: &Who,
    ) -> Result<Ordered, HubError> {
        who.must(Role::Responder)?;
        let reason = text("reason", reason)?;
        self.card(machine)?;
        self.shared.ensure_assigned(machine).await?;
        if let Some(incident) = incident {
            let key = Key::new(&self.shared.organisation.code, incident);
            let known = self.shared.store.incident(&key).await?;
            known.ok_or(HubError::Missing { what: "incident" })?;
        }
        let wish = Wish { machine, instruction, person: who.approver(), incident, reason };
        let waiters = self.shared.waiters.clone();
        let (proposed, answered) = self
            .deed(move |step| {
                step.outputs = step.core.people_propose(wish, &step.now, &mut fresh);
                let proposed = proposed_in(&step.outputs);
                (proposed, proposed.map(|order| waiters.wait(order)))
            })
            .await?;
        let order = proposed.ok_or(HubError::Missing { what: "machine" })?;
        self.signers_answer(answered).await?;
        Ok(Ordered { order, is_linked: self.is_linked(machine) })
    }

    async fn signers_answer(
        &self,
        answered: Option<oneshot::Receiver<Result<(), Refusal>>>,
    ) -> Result<(), HubError> {
        let Some(answered) = answered else { return Ok(()) };
        match tokio::time::timeout(PATIENCE, answered).await {
            Ok(Ok(answer)) => Ok(answer?),
            Ok(Err(_)) => Err(HubError::Closing),
            Err(_) => {
                let why = self.shared.board.signer_away();
                Err(HubError::SignerAway { why: why.unwrap_or_else(|| "no answer".into()) })
            }
        }
    }

    fn is_linked(&self, machine: MachineId) -> bool {
        self.shared.board.card(machine).is_some_and(|card| card.link.is_some())
    }

    /// Answers a question. When that was the last answer needed, the signer's answer is waited for.
    ///
    /// # Errors
    /// [`HubError::Answer`]; [`HubError::Refused`].
    pub async fn answer(
        &self,
        approval: ApprovalId,
        is_approved: bool,
        who: &Who,
    ) -> Result<ApprovalState, HubError> {
        who.must(Role::Responder)?;
        let (person, waiters) = (who.approver(), self.shared.waiters.clone());
        let answer = self
            .deed(move |step| {
                step.outputs = step.core.answer(
                    approval,
                    &person,
                    Identity::Session,
                    is_approved,
                    &step.now,
                    &mut fresh,
                )?;
                let state = step.outputs.iter().find_map(|output| match output {
                    Output::Keep(CoreChange::Approval(approval)) => Some(approval.state),
                    _ => None,
                });
                let proposed = proposed_in(&step.outputs).map(|order| waiters.wait(order));
                Ok::<_, AnswerRefused>((state.unwrap_or(ApprovalState::Open), proposed))
            })
            .await?;
        let (state, answered) = answer?;
        self.signers_answer(answered).await?;
        Ok(state)
    }

    /// Takes an incident.
    ///
    /// # Errors
    /// [`HubError::Missing`] if none such is open.
    pub async fn take_incident(&self, incident: IncidentId, who: &Who) -> Result<(), HubError> {
        who.must(Role::Responder)?;
        let name = who.name().to_owned();
        self.changed(move |step| step.core.own(incident, &name, &step.now)).await
    }

    /// Closes an incident.
    ///
    /// # Errors
    /// [`HubError::Missing`] if none such is open.
    pub async fn close_incident(
        &self,
        incident: IncidentId,
        reason: &str,
        who: &Who,
    ) -> Result<(), HubError> {
        who.must(Role::Responder)?;
        let (name, reason) = (who.name().to_owned(), text("reason", reason)?);
        self.changed(move |step| step.core.close(incident, &name, reason, &step.now)).await
    }

    async fn changed(
        &self,
        change: impl FnOnce(&mut Step<'_>) -> Vec<Output> + Send + 'static,
    ) -> Result<(), HubError> {
        let is_found = self
            .deed(move |step| {
                step.outputs = change(step);
                !step.outputs.is_empty()
            })
            .await?;
        if is_found { Ok(()) } else { Err(HubError::Missing { what: "open incident" }) }
    }

    /// Writes a comment into an incident's timeline, also of a closed one. No patient data: it goes into
    /// the ledger.
    ///
    /// # Errors
    /// [`HubError::Missing`].
    pub async fn comment_incident(
        &self,
        incident: IncidentId,
        comment: &str,
        who: &Who,
    ) -> Result<(), HubError> {
        who.must(Role::Responder)?;
        let comment = text("comment", comment)?;
        let key = Key::new(&self.shared.organisation.code, incident);
        let known = self.shared.store.incident(&key).await?;
        known.ok_or(HubError::Missing { what: "incident" })?;
        let record = Record {
            incident: Some(incident),
            ..self.shared.record(who.actor(), Deed::IncidentChanged, format!("comment: {comment}"))
        };
        self.deed(move |step| step.record(record)).await
    }

    /// Says what a machine is.
    ///
    /// # Errors
    /// [`HubError::Invalid`] for a lifeline that can't be; [`HubError::Refused`].
    pub async fn assign(
        &self,
        machine: MachineId,
        draft: AssignmentDraft,
        who: &Who,
    ) -> Result<(), HubError> {
        who.must(Role::Administrator)?;
        self.card(machine)?;
        let draft = Draft { draft, by: who.approver() };
        self.shared.assign(machine, Some(draft), who.actor()).await?;
        self.shared.renew_permits().await;
        Ok(())
    }

    /// Sets how much is done without asking.
    ///
    /// # Errors
    /// As [`Hub::set_policy`].
    pub async fn set_mode(&self, mode: Mode, who: &Who) -> Result<u64, HubError> {
        self.set_policy(Policy { mode, ..(*self.policy()).clone() }, who).await
    }

    /// Sets the policy, and says its revision.
    ///
    /// # Errors
    /// [`HubError::Refused`] or [`HubError::Invalid`] with the signer's reason.
    pub async fn set_policy(&self, draft: Policy, who: &Who) -> Result<u64, HubError> {
        who.must(Role::Administrator)?;
        let detail = format!("mode {:?}", draft.mode).to_lowercase();
        let signed = self.shared.documents.set_policy(draft, who.approver()).await;
        let signed = signed.map_err(from_signer)?;
        let revision = signed.revision;
        let detail = format!("revision {revision}: {detail}");
        let record = self.shared.record(who.actor(), Deed::PolicySet, detail);
        self.deed(move |step| {
            step.outputs = step.core.policy_set(&signed);
            step.record(record);
        })
        .await?;
        self.shared.renew_permits().await;
        Ok(revision)
    }

    /// Strikes a machine off: its link ends at once, and its certificate opens nothing any more.
    ///
    /// # Errors
    /// [`HubError::Missing`].
    pub async fn strike_off(
        &self,
        machine: MachineId,
        reason: &str,
        who: &Who,
    ) -> Result<(), HubError> {
        who.must(Role::Administrator)?;
        let reason = text("reason", reason)?;
        self.card(machine)?;
        let change = keep::struck_off(machine, &reason)?;
        let record = Record {
            machine: Some(machine),
            ..self.shared.record(who.actor(), Deed::StruckOff, reason)
        };
        self.shared.board.change(machine, |card| card.is_struck_off = true);
        self.deed(move |step| {
            step.changes.push(change);
            step.record(record);
        })
        .await?;
        self.shared.links.end(machine, "this machine was struck off");
        Ok(())
    }

    /// Makes a token that enrols one machine, once.
    ///
    /// # Errors
    /// [`HubError::Invalid`] for a lifeline that can't be.
    pub async fn create_enrolment_token(
        &self,
        draft: AssignmentDraft,
        good_for: Duration,
        who: &Who,
    ) -> Result<EnrolToken, HubError> {
        who.must(Role::Administrator)?;
        check_draft(&draft)?;
        let secret = Secret::new()?;
        let now = UtcNanos::now();
        let expires_at = now.plus(good_for.min(LONGEST_TOKEN));
        let note = encode(&Draft { draft: draft.clone(), by: who.approver() })?;
        let token = EnrolmentToken {
            hash: secret.hash(),
            made_by: who.name().to_owned(),
            made_at: now,
            expires_at,
            note,
        };
        let name = draft.name.as_deref().unwrap_or("a machine");
        let detail = format!("{name}, within {} s", expires_at.since(now).as_secs());
        let record = self.shared.record(who.actor(), Deed::EnrolmentAllowed, detail);
        self.deed(move |step| {
            step.changes.push(Change::EnrolmentToken(token));
            step.record(record);
        })
        .await?;
        Ok(EnrolToken {
            authority_sha256: self.shared.authority.sha256(),
            secret: secret.bytes(),
            addresses: self.shared.enrol_addresses.clone(),
        })
    }
}

/// People.
impl Hub {
    /// Makes a person known, or changes what they may do.
    ///
    /// # Errors
    /// [`HubError::Invalid`] for a name that can't be.
    pub async fn put_person(&self, person: Person, who: &Who) -> Result<(), HubError> {
        who.must(Role::Administrator)?;
        let name = text("name", &person.name)?;
        let detail = format!("{name} is {:?}", person.role).to_lowercase();
        let record = self.shared.record(who.actor(), Deed::SignInAllowed, detail);
        self.deed(move |step| {
            step.changes.push(Change::Person(Person { name, ..person }));
            step.record(record);
        })
        .await
    }

    /// Makes a link's secret that signs `name` in once; a person who is not known yet becomes one with
    /// `role`.
    ///
    /// # Errors
    /// [`HubError::Invalid`] for a name that can't be.
    pub async fn create_sign_in(
        &self,
        name: &str,
        role: Role,
        good_for: Duration,
        who: &Who,
    ) -> Result<SignIn, HubError> {
        who.must(Role::Administrator)?;
        let name = text("name", name)?;
        let key = Key::new(&self.shared.organisation.code, name.clone());
        if self.shared.store.person(&key).await?.is_none() {
            let person = Person {
                name: name.clone(),
                role,
                is_clinical: false,
                is_active: true,
                password: None,
                created_at: UtcNanos::now(),
            };
            self.put_person(person, who).await?;
        }
        let token = Secret::new()?;
        let expires_at = UtcNanos::now().plus(good_for.min(LONGEST_TOKEN));
        let hash = Key::new(&self.shared.organisation.code, token.hash());
        self.shared.store.put_sign_in_token(&hash, &name, expires_at).await?;
        let record = self.shared.record(who.actor(), Deed::SignInAllowed, name.clone());
        self.deed(move |step| step.record(record)).await?;
        Ok(SignIn { token, name, expires_at })
    }

    /// Signs in with a link's secret: it is used up. `None`: it is not, or no longer, good.
    ///
    /// # Errors
    /// [`HubError::Store`].
    pub async fn sign_in(&self, token: &str) -> Result<Option<NewSession>, HubError> {
        let (store, organisation) = (&self.shared.store, &self.shared.organisation.code);
        let now = UtcNanos::now();
        let person = match Secret::hash_of(token) {
            Some(hash) => store.use_sign_in_token(&Key::new(organisation, hash), now).await?,
            None => None,
        };
        let Some(person) = person else {
            let detail = "a sign-in link that is not, or no longer, good";
            let record = self.shared.record(Actor::Hub, Deed::SignInRefused, detail);
            self.deed(move |step| step.record(record)).await?;
            return Ok(None);
        };
        let secret = Secret::new()?;
        let expires_at = now.plus(SESSION);
        let key = Key::new(organisation, secret.hash());
        store.begin_session(&key, &person.name, now, expires_at).await?;
        let actor = Actor::Person(person.name.clone());
        let record = self.shared.record(actor, Deed::SignedIn, "by a one-time link");
        self.deed(move |step| step.record(record)).await?;
        Ok(Some(NewSession { secret, session: Session { person, begun_at: now, expires_at } }))
    }

    /// The session that a cookie's secret is of, if it is good.
    ///
    /// # Errors
    /// [`HubError::Store`].
    pub async fn session(&self, secret: &str) -> Result<Option<Session>, HubError> {
        let Some(hash) = Secret::hash_of(secret) else { return Ok(None) };
        let key = Key::new(&self.shared.organisation.code, hash);
        Ok(self.shared.store.session(&key, UtcNanos::now()).await?)
    }

    /// Ends a session.
    ///
    /// # Errors
    /// [`HubError::Store`].
    pub async fn sign_out(&self, secret: &str) -> Result<(), HubError> {
        let Some(hash) = Secret::hash_of(secret) else { return Ok(()) };
        let key = Key::new(&self.shared.organisation.code, hash);
        Ok(self.shared.store.end_session(&key).await?)
    }

    /// Does something as a step of the main task; on disk when this returns.
    async fn deed<T: Send + 'static>(
        &self,
        does: impl FnOnce(&mut Step<'_>) -> T + Send + 'static,
    ) -> Result<T, HubError> {
        self.shared.deed(does).await
    }
}

impl Shared {
    /// Does something as a step of the main task; on disk when this returns.
    pub async fn deed<T: Send + 'static>(
        &self,
        does: impl FnOnce(&mut Step<'_>) -> T + Send + 'static,
    ) -> Result<T, HubError> {
        let (answer, answered) = oneshot::channel();
        self.tell(Input::Deed(Box::new(move |step| {
            let result = does(step);
            step.afterwards(move || drop(answer.send(result)));
        })))
        .await;
        answered.await.map_err(|_| HubError::Closing)
    }

    /// Has it signed what a machine is: by `draft`, or, for one that the signer does not know yet, as
    /// little as is known.
    pub async fn assign(
        &self,
        machine: MachineId,
        draft: Option<Draft>,
        actor: Actor,
    ) -> Result<(), HubError> {
        let card = self.board.card(machine).ok_or(HubError::Missing { what: "machine" })?;
        let (draft, by) = match draft {
            Some(Draft { draft, by }) => (draft, Some(by)),
            None => (AssignmentDraft::default(), None),
        };
        check_draft(&draft)?;
        let assignment = Assignment {
            organisation: self.organisation.code.clone(),
            machine,
            revision: 0,
            name: draft.name.unwrap_or_else(|| card.host.clone()),
            tier: draft.tier,
            kind: draft.kind,
            group: draft.group,
            lifelines: draft.lifelines,
            hub: self.link_addresses.clone(),
        };
        let is_new = card.assignment.is_none();
        let receipt_key = card.receipt_key.filter(|_| is_new).map(|key| key.to_bytes());
        let signed = self.documents.assign(assignment, receipt_key, by).await;
        let signed = signed.map_err(from_signer)?;
        let detail = format!("{}, {}", signed.name, signed.effective_tier());
        let record =
            Record { machine: Some(machine), ..self.record(actor, Deed::Assigned, detail) };
        let no_draft = keep::draft(machine, None)?;
        self.drafts.lock().unwrap_or_else(PoisonError::into_inner).remove(&machine);
        self.deed(move |step| {
            step.changes.push(no_draft);
            step.outputs = step.core.assigned(&signed);
            step.record(record);
        })
        .await
    }

    /// Makes sure that the signer and the main task know a machine: at its enrolment, and at its first
    /// link if the signer was away then.
    pub async fn ensure_assigned(&self, machine: MachineId) -> Result<(), HubError> {
        match self.board.card(machine) {
            Some(card) if card.assignment.is_some() => Ok(()),
            Some(_) => {
                let draft = self.draft_of(machine);
                self.assign(machine, draft, Actor::Hub).await?;
                self.renew_permits().await;
                Ok(())
            }
            None => Err(HubError::Missing { what: "machine" }),
        }
    }

    /// Has the permits signed that are due.
    pub async fn renew_permits(&self) {
        match self.documents.renew_permits().await {
            Ok(permits) if permits.is_empty() => {}
            Ok(permits) => self.tell(Input::Permitted(permits)).await,
            Err(error) => {
                self.board.set_signer_away(Some(error.to_string()));
                tracing::warn!(%error, "permits are not renewed; asking again in a minute");
            }
        }
    }
}

fn from_signer(error: ClientError) -> HubError {
    match error {
        ClientError::Refused(Refused::Rule(refusal)) => HubError::Refused(refusal),
        ClientError::Refused(refused) => {
            HubError::Invalid { what: "request", why: refused.to_string() }
        }
        error => HubError::SignerAway { why: error.to_string() },
    }
}

fn proposed_in(outputs: &[Output]) -> Option<OrderId> {
    outputs.iter().find_map(|output| match output {
        Output::Keep(CoreChange::Proposed(proposal)) => Some(proposal.id),
        _ => None,
    })
}

/// A text of a person: not empty, not long, one line.
fn text(what: &'static str, given: &str) -> Result<String, HubError> {
    let given = given.trim();
    let why = if given.is_empty() {
        "it is empty"
    } else if given.len() > limits::NAME_BYTES {
        "it is too long"
    } else if given.chars().any(char::is_control) {
        "it has control characters"
    } else {
        return Ok(given.to_owned());
    };
    Err(HubError::Invalid { what, why: why.to_owned() })
}

fn check_draft(draft: &AssignmentDraft) -> Result<(), HubError> {
    for (what, given) in [("name", &draft.name), ("kind", &draft.kind), ("group", &draft.group)] {
        given.as_deref().map(|given| text(what, given)).transpose()?;
    }
    let invalid = |why: String| HubError::Invalid { what: "lifeline", why };
    if draft.lifelines.len() > limits::LIFELINES_PER_MACHINE {
        return Err(invalid(format!("at most {} are taken", limits::LIFELINES_PER_MACHINE)));
    }
    let checked = draft.lifelines.iter().try_for_each(cordon_model::asset::Lifeline::check);
    checked.map_err(|error| invalid(error.to_string()))
}
