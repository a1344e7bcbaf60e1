//! Looking closely: one machine, one incident, and what an isolation would do.

use cordon_model::approval::Needs;
use cordon_model::asset::{Assignment, LATERAL_MOVEMENT};
use cordon_model::finding::ReceivedFinding;
use cordon_model::ids::{ApprovalId, IncidentId, MachineId, OrderId};
use cordon_model::look::{LookAt, Seen};
use cordon_model::measure::{Isolation, Receipt};
use cordon_model::order::Order;
use cordon_model::record::{Actor, Deed, Record};
use cordon_model::time::UtcNanos;
use cordon_respond::approval::Approval;
use cordon_store::{
    Cursor, FindingFilter, IncidentFilter, Key, Listed, PAGE_ROWS, Page, StoredMeasure,
};
use ed25519_dalek::VerifyingKey;

use crate::error::HubError;
use crate::foretell;
use crate::handle::Hub;
use crate::keep::decode;
use crate::people::Who;
use crate::view::{
    Contact, IncidentRow, IncidentView, MACHINES_IN_VIEW, MachineRow, MachineView, MeasureView,
    NAMES_IN_ROW, OpenNow, Preview, TimelineEntry,
};

/// Findings on a machine's page.
const FINDINGS_IN_VIEW: u32 = 50;

/// Measures on a machine's page.
const MEASURES_IN_VIEW: u32 = 20;

/// Looking closely.
impl Hub {
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
            codes: card.codes.clone(),
            bedside: self.shared.documents.bedside(id).await.ok(),
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
        let mut entries = Vec::with_capacity(timeline.items.len());
        for record in timeline.items {
            let finding = self.finding_of(&record, &findings.items).await?;
            entries.push(TimelineEntry { record, finding });
        }
        Ok(IncidentView {
            machines: rows,
            timeline: entries,
            timeline_total: timeline.total,
            timeline_next: timeline.next,
            measures,
            questions: self.questions_of(id).await?,
            incident,
        })
    }

    /// The finding that a record is about: of those at hand, or from the store.
    async fn finding_of(
        &self,
        record: &Record,
        at_hand: &[ReceivedFinding],
    ) -> Result<Option<Box<ReceivedFinding>>, HubError> {
        let (Deed::Found(finding), Actor::Agent(machine)) = (&record.deed, &record.actor) else {
            return Ok(None);
        };
        let is_it = |r: &&ReceivedFinding| r.finding.id == *finding && r.machine == *machine;
        if let Some(received) = at_hand.iter().find(is_it) {
            return Ok(Some(Box::new(received.clone())));
        }
        let filter = FindingFilter {
            machine: Some(*machine),
            id: Some(*finding),
            ..FindingFilter::default()
        };
        let organisation = &self.shared.organisation.code;
        let listed = self.shared.store.findings(organisation, &filter, &Page::first(1)).await?;
        Ok(listed.items.into_iter().next().map(Box::new))
    }

    /// Questions, oldest first, at most [`PAGE_ROWS`]: those that wait for an answer, or all.
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

    /// One question.
    ///
    /// # Errors
    /// [`HubError::Missing`].
    pub async fn approval(&self, id: ApprovalId) -> Result<Approval, HubError> {
        let key = Key::new(&self.shared.organisation.code, id);
        let stored = self.shared.store.approval(&key).await?;
        Ok(decode(&stored.ok_or(HubError::Missing { what: "question" })?.document)?)
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
                working += usize::from(card.surely_works(now));
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
            needs: self.policy().approval.needs(Needs::to_contain(tier), tier),
            cautions: cautions(&machine, isolation, stand_ins, assignment),
            stand_ins,
            machine,
            isolation,
            open_now: Err("it was not asked".to_owned()),
        })
    }

    /// The same, with what is open on the machine now.
    ///
    /// # Errors
    /// [`HubError::Missing`]. A machine that can't be asked is no error: the preview says so.
    pub async fn preview_now(
        &self,
        id: MachineId,
        isolation: Isolation,
        who: &Who,
    ) -> Result<Preview, HubError> {
        let mut preview = self.preview(id, isolation)?;
        preview.open_now = match self.look(id, LookAt::Connections(isolation), who).await {
            Ok(Seen::Connections { listed, of }) => Ok(OpenNow {
                flows: foretell::flows(&listed, &preview.lifelines),
                listed: listed.len(),
                of: of.try_into().unwrap_or(usize::MAX),
            }),
            Ok(_) => Err("it answered something else".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        Ok(preview)
    }

    async fn questions_of(&self, incident: IncidentId) -> Result<Vec<Approval>, HubError> {
        let organisation = &self.shared.organisation.code;
        let (mut questions, mut page) = (Vec::new(), Page::first(PAGE_ROWS));
        loop {
            let listed = self.shared.store.approvals(organisation, false, &page).await?;
            for stored in &listed.items {
                let question: Approval = decode(&stored.document)?;
                if question.incident == Some(incident) {
                    questions.push(question);
                }
            }
            match listed.next {
                Some(next) => page.after = Some(next),
                None => return Ok(questions),
            }
        }
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
    if let Some((0, _)) = stand_ins {
        cautions.push(
            "no other machine of its kind is in contact and working: it is the last".to_owned(),
        );
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
    if let Some(why) = &machine.unknown {
        cautions.push(format!("what is in force on it now is not known: {why}"));
    }
    for gap in machine.gaps.iter().filter(|gap| gap.what == "isolation") {
        let why = gap.gap.as_deref().unwrap_or("no reason given");
        let how_far = if gap.by.is_some() { "isolates in part" } else { "can't isolate" };
        cautions.push(format!("its agent {how_far}: {why}"));
    }
    cautions
}
