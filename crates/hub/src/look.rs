//! Looking closely: one machine, one incident, and what an isolation would do.

use cordon_model::action::Action;
use cordon_model::approval::Needs;
use cordon_model::asset::{Assignment, ClinicalTier, LATERAL_MOVEMENT};
use cordon_model::finding::ReceivedFinding;
use cordon_model::ids::{ApprovalId, IncidentId, MachineId, MeasureId, OrderId};
use cordon_model::look::{LookAt, Seen};
use cordon_model::measure::{Isolation, MeasureState, Receipt};
use cordon_model::order::Order;
use cordon_model::record::{Actor, Deed, Record};
use cordon_model::time::UtcNanos;
use cordon_respond::approval::{AnswerRefused, Approval};
use cordon_respond::decision::needs_to_do;
use cordon_store::{
    Cursor, FindingFilter, IncidentFilter, Key, Listed, PAGE_ROWS, Page, StoredMeasure,
};
use ed25519_dalek::VerifyingKey;

use crate::board::Card;
use crate::error::HubError;
use crate::foretell;
use crate::handle::Hub;
use crate::keep::decode;
use crate::people::Who;
use crate::view::{
    Contact, IncidentRow, IncidentView, MACHINES_IN_VIEW, MachineRow, MachineView, MeasurePreview,
    MeasureView, NAMES_IN_ROW, OpenNow, Preview, TimelineEntry,
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
        let questions = self.deed(move |step| step.core.questions_about(id)).await?;
        Ok(MachineView {
            row: card.row(id, UtcNanos::now()),
            assignment: card.assignment.as_deref().cloned(),
            enrolled_at: card.enrolled_at,
            receipt_key: card.receipt_key.map(|key| key.to_bytes()),
            build: card.seen.as_ref().map(|seen| seen.build.clone()),
            coverage: card.seen.as_ref().map(|seen| seen.coverage.clone()).unwrap_or_default(),
            status: card.seen.as_ref().and_then(|seen| seen.status.clone()),
            names: self.names(id)?,
            codes: card.codes.clone(),
            bedside: self.shared.documents.bedside(id).await.ok(),
            measures: self.measure_views(measures.items, card.receipt_key).await?,
            findings: findings.items,
            finding_count: findings.total,
            questions,
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
        let ids: Vec<IncidentId> = listed.items.iter().map(|incident| incident.id).collect();
        let questions = self.deed(move |step| step.core.count_questions(&ids)).await?;
        let machines = self.shared.board.machines();
        let items = listed.items.into_iter().map(|incident| {
            let cards = || incident.machines.iter().filter_map(|id| machines.get(id));
            IncidentRow {
                machine_names: cards().take(NAMES_IN_ROW).map(|c| c.name().to_owned()).collect(),
                isolated: cards().filter(|card| card.is_cut_off()).count(),
                questions: questions.get(&incident.id).copied().unwrap_or_default(),
                incident,
            }
        });
        let (next, total, unreadable) = (listed.next, listed.total, listed.unreadable);
        Ok(Listed { items: items.collect(), next, total, unreadable })
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

    /// How many of these machines are cut off, proven or not.
    pub(crate) fn cut_off_of(&self, machines: &[MachineId]) -> usize {
        let cards = self.shared.board.machines();
        machines.iter().filter(|id| cards.get(id).is_some_and(|card| card.is_cut_off())).count()
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
        // One that can't be read was said at the start.
        Ok(listed.items.iter().filter_map(|stored| decode(&stored.document).ok()).collect())
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
        let tier = assignment.map_or(ClinicalTier::WHEN_UNKNOWN, Assignment::effective_tier);
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
            night: self.night_people(tier, now),
            cautions: caution_of_membership(&card)
                .into_iter()
                .chain(cautions(&machine, isolation, stand_ins, assignment))
                .collect(),
            stand_ins,
            machine,
            isolation,
            open_now: Err("it was not asked".to_owned()),
        })
    }

    /// Who alone may agree to a question now, and not whoever may answer: those whom the policy names for
    /// this hour. `None` too for what opens, which is for anybody at any hour.
    ///
    /// # Errors
    /// [`HubError::Missing`].
    pub fn night_for(&self, question: &Approval) -> Result<Option<Vec<String>>, HubError> {
        let card = self.card(question.machine)?;
        let tier = card.assignment.as_deref().map(Assignment::effective_tier);
        let tier = tier.unwrap_or(ClinicalTier::WHEN_UNKNOWN);
        let closes = question.instruction.closes();
        Ok(if closes { self.night_people(tier, UtcNanos::now()) } else { None })
    }

    /// A machine's tier, as people said it.
    pub(crate) fn tier(&self, machine: MachineId) -> Option<ClinicalTier> {
        self.shared.board.card(machine)?.assignment.as_deref()?.tier
    }

    fn night_people(&self, tier: ClinicalTier, now: UtcNanos) -> Option<Vec<String>> {
        self.policy().approval.night_of(tier, now).map(|night| night.people.clone())
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
        // What only opens is for anybody, at any hour.
        if self.deed(move |step| step.core.would_only_open(id, isolation)).await? {
            preview.night = None;
        }
        preview.open_now = match self.look(id, LookAt::Connections(isolation), who).await {
            Ok(Seen::Connections { listed, of, services, unseen }) => Ok(OpenNow {
                flows: foretell::flows(&listed, &services, &preview.lifelines),
                unseen,
                listed: listed.len(),
                of: of.try_into().unwrap_or(usize::MAX),
            }),
            Ok(_) => Err("it answered something else".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        Ok(preview)
    }

    /// What a measure would do to a machine now. Nothing is done.
    ///
    /// # Errors
    /// [`HubError::Missing`]. A machine that can't be asked is no error: the preview says so.
    pub async fn preview_measure(
        &self,
        id: MachineId,
        action: Action,
        who: &Who,
    ) -> Result<MeasurePreview, HubError> {
        let card = self.card(id)?;
        let now = UtcNanos::now();
        let machine = card.row(id, now);
        let assignment = card.assignment.as_deref();
        let tier = assignment.map_or(ClinicalTier::WHEN_UNKNOWN, Assignment::effective_tier);
        let mut cautions: Vec<String> = caution_of_membership(&card).into_iter().collect();
        if action.kind().stops_something() {
            cautions.extend(caution_of_tier(machine.tier, true));
        }
        cautions.extend(caution_of_contact(machine.contact));
        let would = match self.look(id, LookAt::Measure(Box::new(action.clone())), who).await {
            Ok(Seen::Would(would)) => Ok(would),
            Ok(_) => Err("it answered something else".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        Ok(MeasurePreview {
            protected: assignment.map(|known| known.protected.clone()).unwrap_or_default(),
            needs: needs_to_do(&self.policy(), &action, tier),
            night: self.night_people(tier, now),
            cautions,
            would,
            machine,
            action,
        })
    }

    async fn questions_of(&self, incident: IncidentId) -> Result<Vec<Approval>, HubError> {
        let key = Key::new(&self.shared.organisation.code, incident);
        let (mut questions, mut page) = (Vec::new(), Page::first(PAGE_ROWS));
        loop {
            let listed = self.shared.store.approvals_of(&key, &page).await?;
            // One that can't be read was said at the start.
            questions.extend(listed.items.iter().filter_map(|of| decode(&of.document).ok()));
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

    /// What a measure of a machine is now; `None`: the hub knows of none such (yet).
    ///
    /// # Errors
    /// [`HubError::Missing`] if there is no such machine; [`HubError::Store`].
    pub async fn measure_now(
        &self,
        machine: MachineId,
        measure: MeasureId,
    ) -> Result<Option<MeasureState>, HubError> {
        let known = self.card(machine)?.measures.remove(&measure);
        if let Some(known) = known {
            return Ok(Some(known.state));
        }
        // Only what is not over is at hand in memory.
        let key = Key::new(&self.shared.organisation.code, (machine, measure));
        Ok(self.shared.store.measure(&key).await?.map(|measure| measure.state))
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

/// What stands in the way of the order itself comes first, then who is at the machine.
fn caution_of_tier(said: Option<ClinicalTier>, cuts: bool) -> Option<String> {
    let tier = said.unwrap_or(ClinicalTier::WHEN_UNKNOWN);
    if Needs::to_contain(tier) == Needs::TwoKeysOneClinical {
        Some(format!(
            "{tier}: this will be refused: ring the clinical lead and the network team, and act by hand \
             (docs/3am.md)"
        ))
    } else if said.is_none() {
        Some(
            "nobody has said how care depends on this machine: it is treated as clinical: ring whoever is at \
             it first"
                .to_owned(),
        )
    } else if tier.is_clinical() && cuts {
        Some("clinical (tier 2): ring whoever is at it first".to_owned())
    } else {
        None
    }
}

/// That nothing reaches it any more: whoever orders is refused.
fn caution_of_membership(card: &Card) -> Option<String> {
    card.is_struck_off.then(|| AnswerRefused::StruckOff.to_string())
}

fn caution_of_contact(contact: Contact) -> Option<String> {
    match contact {
        Contact::Linked { .. } => None,
        Contact::Silent { .. } => {
            Some("it is not in contact: the order waits until it is back".to_owned())
        }
        Contact::Never => Some("it was never heard: the order waits".to_owned()),
    }
}

/// What a careful person would want to know first.
fn cautions(
    machine: &MachineRow,
    isolation: Isolation,
    stand_ins: Option<(usize, usize)>,
    assignment: Option<&Assignment>,
) -> Vec<String> {
    let tier = machine.tier.unwrap_or(ClinicalTier::WHEN_UNKNOWN);
    let of_tier = caution_of_tier(machine.tier, isolation > Isolation::Watch);
    let mut cautions: Vec<String> = of_tier.into_iter().collect();
    let has_lifelines = assignment.is_some_and(|assignment| !assignment.lifelines.is_empty());
    if tier.is_clinical() && !has_lifelines {
        match isolation {
            Isolation::Watch => {}
            Isolation::Segment => cautions.push(
                "no lifeline is declared: what care needs of the services that are cut stops too"
                    .to_owned(),
            ),
            Isolation::Full => cautions
                .push("no lifeline is declared: nothing but the hub's link will live".to_owned()),
        }
    }
    if let Some((0, _)) = stand_ins {
        cautions.push(
            "no other machine of its kind is in contact and working: it is the last".to_owned(),
        );
    }
    cautions.extend(caution_of_contact(machine.contact));
    match machine.isolation {
        Some(now) if now > isolation && isolation == Isolation::Watch => {
            cautions.push(format!("this OPENS all that {now} cuts"));
        }
        Some(now) if now > isolation => {
            cautions.push(format!("this OPENS what {now} cuts and {isolation} does not"));
        }
        Some(now) if now == isolation => {
            cautions.push("it is, or is being, isolated as far already".to_owned());
        }
        Some(_) | None => {}
    }
    if let Some(why) = &machine.unknown {
        cautions.push(format!("what is in force on it now is not known: {why}"));
    }
    if isolation == Isolation::Full
        && let Some(gap) = machine.gaps.iter().find(|gap| gap.loses_the_hub())
    {
        let why = gap.gap.as_deref().unwrap_or("no reason given");
        cautions.push(format!("{why}. Isolated in full, only a break-glass code opens it"));
    }
    for gap in machine.gaps.iter().filter(|gap| gap.what == "isolation") {
        let why = gap.gap.as_deref().unwrap_or("no reason given");
        let how_far = if gap.by.is_some() { "isolates in part" } else { "can't isolate" };
        cautions.push(format!("its agent {how_far}: {why}"));
    }
    cautions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(tier: Option<ClinicalTier>, isolation: Option<Isolation>) -> MachineRow {
        let now = UtcNanos::from_unix_nanos(0);
        MachineRow {
            id: MachineId::new(now, [1; 10]),
            name: "ct-2".into(),
            host: "ct-2".into(),
            tier,
            kind: None,
            group: None,
            contact: Contact::Linked { heard: now },
            isolation,
            truth: None,
            unknown: None,
            opened_by_code: None,
            gaps: Vec::new(),
            lowers: None,
            to_confirm: Vec::new(),
            counts: None,
        }
    }

    fn said(tier: Option<ClinicalTier>, now: Option<Isolation>, isolation: Isolation) -> String {
        cautions(&row(tier, now), isolation, None, None).join("\n")
    }

    #[test]
    fn who_is_to_be_rung_is_said_before_a_clinical_machine_is_cut_off() {
        for isolation in [Isolation::Segment, Isolation::Full] {
            let clinical = said(Some(ClinicalTier::Clinical), None, isolation);
            assert!(clinical.starts_with("clinical (tier 2): ring whoever is at it"), "{clinical}");
            assert!(clinical.contains("no lifeline is declared"), "{clinical}");
            let unknown = said(None, None, isolation);
            assert!(unknown.contains("treated as clinical: ring whoever is at it"), "{unknown}");
            let vital = said(Some(ClinicalTier::LifeSustaining), None, isolation);
            assert!(vital.contains("tier 3") && vital.contains("will be refused"), "{vital}");
            assert!(vital.contains("clinical lead") && vital.contains("by hand"), "{vital}");
            assert_eq!(said(Some(ClinicalTier::Supports), None, isolation), "");
        }
        assert_eq!(said(Some(ClinicalTier::Clinical), None, Isolation::Watch), "");
    }

    #[test]
    fn a_milder_isolation_is_said_to_open_the_machine() {
        use Isolation::{Full, Segment, Watch};
        let said = |now, isolation| said(Some(ClinicalTier::None), Some(now), isolation);
        assert_eq!(said(Full, Segment), "this OPENS what full cuts and segment does not");
        assert_eq!(said(Full, Watch), "this OPENS all that full cuts");
        assert_eq!(said(Segment, Segment), "it is, or is being, isolated as far already");
        assert_eq!(said(Segment, Full), "");
    }

    #[test]
    fn a_machine_whose_hub_is_behind_a_tunnel_is_told_of_before_it_is_isolated_in_full() {
        let mut machine = row(Some(ClinicalTier::None), None);
        let gap = "this machine reaches its hub through tunnel wg0; its gateway is no lifeline";
        let (what, by) = (cordon_model::wire::HUB_LINK.to_owned(), None);
        machine.gaps = vec![cordon_model::wire::Coverage { what, by, gap: Some(gap.to_owned()) }];
        let said = |isolation| cautions(&machine, isolation, None, None);
        assert_eq!(
            said(Isolation::Full),
            [format!("{gap}. Isolated in full, only a break-glass code opens it")]
        );
        assert_eq!(said(Isolation::Segment), [""; 0], "a tunnel outlives that");
    }
}
