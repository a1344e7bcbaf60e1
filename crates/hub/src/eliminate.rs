//! Eliminating what was found on a machine: the plan, its orders, and looking again.
//!
//! The one idea: the plan is made anew each time, from new looks, by the same pure function; this only
//! gathers what it is made of. Its steps are ordered one by one like anything that people order, with the
//! same people, brakes, leases and proofs; what is refused is said, and the rest goes on.

use cordon_model::change::Changes;
use cordon_model::finding::ReceivedFinding;
use cordon_model::gate::{Looked, MOST_LEFT, Said};
use cordon_model::ids::{IncidentId, MachineId};
use cordon_model::look::{LookAt, Seen};
use cordon_model::record::Deed;
use cordon_model::survey::Survey;
use cordon_model::time::{BootId, UtcNanos};
use cordon_model::wire::CHANGES;
use cordon_respond::eliminate::{
    self, Accepted, Agrees, Facts, How, Measured, Named, Processes, Step, StepStatus,
};
use cordon_store::{FindingFilter, Key, PAGE_ROWS, Page, Role};

use crate::assigning::text;
use crate::board::Card;
use crate::error::HubError;
use crate::handle::Hub;
use crate::people::Who;
use crate::view::{Ordered, PlanOrdered, PlanView, StepCame, StepOrdered};

/// Findings that one plan reads: ten pages of the store. What is beyond is a step of its own.
const MOST_PAGES: usize = 10;

/// How long one line of what is left may be in a statement: 16 of these are below 8 KB.
const LEFT_CHARS: usize = 400;

/// Steps that are ordered at once. The signer's brake on what people order (60 in ten minutes, in all but the
/// largest hospitals) is one for all machines: a third of it leaves room to isolate by hand meanwhile.
const AT_ONCE: usize = 20;

impl Hub {
    /// The plan against what was found on a machine, in all of its open incidents and in those that its
    /// isolation answers, or in one.
    ///
    /// # Errors
    /// [`HubError::Missing`]; [`HubError::NotAllowed`]. A machine that can't be looked at is no error: the
    /// plan says so.
    pub async fn elimination(
        &self,
        machine: MachineId,
        incident: Option<IncidentId>,
        who: &Who,
    ) -> Result<PlanView, HubError> {
        who.must(Role::Responder)?;
        let card = self.card(machine)?;
        let incidents = self.incidents_to_plan(machine, incident).await?;
        let (findings, findings_of) = self.findings_in(machine, &incidents).await?;
        let kept = self.kept(machine).await?;
        let accepted: Vec<Accepted> = kept
            .present()
            .filter_map(|statement| match &statement.said {
                Said::Accepted { step, reason, .. } => Some(Accepted {
                    step: step.clone(),
                    by: statement.who().to_owned(),
                    why: reason.clone(),
                }),
                _ => None,
            })
            .collect();
        let measures: Vec<Measured> = kept
            .measures
            .iter()
            .map(|one| Measured { action: one.action.clone(), state: one.state.clone() })
            .collect();
        let processes = self.processes(machine, who).await;
        let boot = processes.as_ref().ok().map(|processes| &processes.boot);
        let boot_began = boot.and_then(|boot| boot_began(&card, boot));
        let since = eliminate::since(&findings);
        let (survey, is_whole) = match self.survey(machine, since, who).await {
            Ok((survey, is_whole)) => (Ok(survey), is_whole),
            Err(why) => (Err(why), false),
        };
        let changes = match since {
            Some(since) => self.changes(&card, machine, since, who).await,
            None => Err("no finding says since when".to_owned()),
        };
        let plan = eliminate::plan(&Facts {
            name: card.name(),
            tier: card.assignment.as_deref().and_then(|assignment| assignment.tier),
            incidents: &incidents,
            findings: &findings,
            findings_of,
            boot_began,
            processes,
            survey,
            changes,
            is_whole,
            measures: &measures,
            accepted: &accepted,
            now: UtcNanos::now(),
        });
        let machine = card.row(machine, UtcNanos::now());
        Ok(PlanView { machine, digest: plan.digest(), plan })
    }

    /// Orders a plan that somebody has seen: looks again, and orders it only if it is the same.
    ///
    /// # Errors
    /// As [`Hub::elimination`]. What the signer refuses of it is no error: each step says what came of it.
    pub async fn order_elimination(
        &self,
        machine: MachineId,
        incident: Option<IncidentId>,
        digest: &str,
        reason: &str,
        who: &Who,
    ) -> Result<PlanOrdered, HubError> {
        let reason = text("reason", reason)?;
        let (findings, _) = self.findings_that_count(machine).await?;
        let view = self.elimination(machine, incident, who).await?;
        let agrees = view.plan.agrees(digest);
        if agrees == Agrees::Not {
            return Ok(PlanOrdered::Differs(Box::new(view)));
        }
        let story = incident.or_else(|| view.plan.incidents.first().copied());
        let to_order: Vec<(Step, cordon_model::action::Action)> =
            view.plan.to_order().map(|(step, action)| (step.clone(), action.clone())).collect();
        let (mut steps, mut is_away, mut number) = (Vec::with_capacity(to_order.len()), false, 0);
        for (step, action) in to_order {
            if agrees == Agrees::ButDropped && step.named == Named::Apart {
                // Nobody saw these; the rest must not wait until nobody drops anything any more.
                let why = "not ordered: what lies where anybody may write is another than you saw; look again, and \
                           order the rest";
                let came = StepCame::Refused(why.to_owned());
                steps.push(StepOrdered { id: step.id, what: step.what, came });
                continue;
            }
            number += 1;
            // The reason says what it is part of, as far as there is room.
            let why: String = format!("{reason} (plan {digest}, step {})", step.id);
            let why =
                if why.len() > cordon_model::limits::NAME_BYTES { reason.clone() } else { why };
            let came = match is_away {
                true => StepCame::Refused("not tried: the signer does not answer".to_owned()),
                false if number > AT_ONCE => StepCame::Refused(format!(
                    "not ordered yet: {AT_ONCE} at once, so that people can still isolate machines; look \
                     again, and order the rest"
                )),
                false => match self.begin(machine, action, &why, story, who).await {
                    Ok(Ordered::Signed { order, is_linked }) => {
                        StepCame::Signed { order, is_linked }
                    }
                    Ok(Ordered::Asked { approval, needs, .. }) => {
                        StepCame::Asked { approval, needs }
                    }
                    Err(HubError::Closing) => return Err(HubError::Closing),
                    Err(error) => {
                        is_away = matches!(error, HubError::SignerAway { .. });
                        StepCame::Refused(error.to_string())
                    }
                },
            };
            steps.push(StepOrdered { id: step.id, what: step.what, came });
        }
        let of = u32::try_from(steps.len()).unwrap_or(u32::MAX);
        let is_refused = |one: &&StepOrdered| matches!(one.came, StepCame::Refused(_));
        let refused = u32::try_from(steps.iter().filter(is_refused).count()).unwrap_or(u32::MAX);
        let ordered = of.saturating_sub(refused);
        let detail =
            format!("plan {digest}: {ordered} of {of} steps ordered or asked about: {reason}");
        let said = Said::Ordered { digest: digest.to_owned(), ordered, of, reason };
        self.state(machine, findings, said, Deed::EliminationOrdered, detail, story, who).await?;
        Ok(PlanOrdered::Ordered(steps))
    }

    /// Looks at a machine anew, and keeps whether anything of the plan is left: see [`Hub::gate`].
    ///
    /// # Errors
    /// As [`Hub::elimination`].
    pub async fn verify_elimination(
        &self,
        machine: MachineId,
        incident: Option<IncidentId>,
        who: &Who,
    ) -> Result<(PlanView, bool), HubError> {
        // Counted before the look: what comes while it is taken came after it.
        let (findings, _) = self.findings_that_count(machine).await?;
        let view = self.elimination(machine, incident, who).await?;
        let (after, _) = self.findings_that_count(machine).await?;
        let mut left: Vec<String> = view.plan.left().map(left_in_words).collect();
        if after != findings {
            left.insert(0, "something was found on it while it was looked at".to_owned());
        }
        let is_clean = left.is_empty();
        let left_of = u32::try_from(left.len()).unwrap_or(u32::MAX);
        left.truncate(MOST_LEFT);
        let lost = self.card(machine)?.seen.and_then(|seen| seen.status).map(|status| status.lost);
        let story = incident.or_else(|| view.plan.incidents.first().copied());
        let detail = match left.first() {
            None => format!("clean: {}", view.plan.looked_at.join("; ")),
            Some(first) => format!("{left_of} left or not known, first: {first}"),
        };
        let said = Said::Looked(Looked {
            is_clean,
            incidents: view.plan.incidents.clone(),
            left,
            left_of,
            looked_at: view.plan.looked_at.clone(),
            lost,
        });
        let deed = Deed::LookedAgain { is_clean };
        self.state(machine, findings, said, deed, detail, story, who).await?;
        Ok((view, is_clean))
    }

    /// A person says of steps that their things may stay, or were dealt with by hand.
    ///
    /// # Errors
    /// As [`Hub::elimination`]; [`HubError::Missing`] if the plan has no such step left.
    pub async fn accept_steps(
        &self,
        machine: MachineId,
        incident: Option<IncidentId>,
        steps: &[String],
        reason: &str,
        who: &Who,
    ) -> Result<PlanView, HubError> {
        let reason = text("reason", reason)?;
        let (findings, _) = self.findings_that_count(machine).await?;
        let view = self.elimination(machine, incident, who).await?;
        let mut found = Vec::with_capacity(steps.len());
        for id in steps {
            let step = view.plan.left().find(|step| step.id == *id);
            found.push(step.ok_or(HubError::Missing { what: "such step left in the plan" })?);
        }
        for step in found {
            let what: String = step.what.chars().take(LEFT_CHARS).collect();
            let detail = format!("may stay, or was dealt with by hand: {what}: {reason}");
            let said = Said::Accepted { step: step.id.clone(), what, reason: reason.clone() };
            self.state(machine, findings, said, Deed::ReturnSaid, detail, incident, who).await?;
        }
        self.elimination(machine, incident, who).await
    }

    async fn incidents_to_plan(
        &self,
        machine: MachineId,
        incident: Option<IncidentId>,
    ) -> Result<Vec<IncidentId>, HubError> {
        let Some(incident) = incident else { return self.incidents_of(machine).await };
        let key = Key::new(&self.shared.organisation.code, incident);
        let known = self.shared.store.incident(&key).await?;
        match known.filter(|known| known.machines.contains(&machine)) {
            Some(_) => Ok(vec![incident]),
            None => Err(HubError::Missing { what: "incident of this machine" }),
        }
    }

    async fn findings_in(
        &self,
        machine: MachineId,
        incidents: &[IncidentId],
    ) -> Result<(Vec<ReceivedFinding>, u64), HubError> {
        let organisation = &self.shared.organisation.code;
        let (mut findings, mut of, mut pages) = (Vec::new(), 0_u64, 0);
        for incident in incidents {
            let filter = FindingFilter {
                machine: Some(machine),
                incident: Some(*incident),
                ..FindingFilter::default()
            };
            let (mut page, mut is_first) = (Page::first(PAGE_ROWS), true);
            loop {
                let listed = self.shared.store.findings(organisation, &filter, &page).await?;
                of += if is_first { listed.total } else { 0 };
                is_first = false;
                if pages < MOST_PAGES {
                    findings.extend(listed.items);
                }
                pages += 1;
                match listed.next {
                    Some(next) if pages < MOST_PAGES => page.after = Some(next),
                    _ => break,
                }
            }
        }
        Ok((findings, of))
    }

    async fn processes(&self, machine: MachineId, who: &Who) -> Result<Processes, String> {
        match self.look(machine, LookAt::Processes, who).await {
            Ok(Seen::Processes { listed, of, boot }) => Ok(Processes { listed, of, boot }),
            Ok(_) => Err("it answered something else".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// What came since, and all that starts by itself there where that is needed and fits an answer: whether
    /// a file came whole is told only by all of its lines.
    async fn survey(
        &self,
        machine: MachineId,
        since: Option<UtcNanos>,
        who: &Who,
    ) -> Result<(Survey, bool), String> {
        let newer = self.survey_since(machine, since, who).await?;
        let has_lines = newer.things.iter().any(|thing| thing.line.is_some());
        if since.is_none() || !has_lines {
            return Ok((newer, since.is_none()));
        }
        let all = self.survey_since(machine, None, who).await?;
        let is_whole = all.things.len() as u64 == u64::from(all.of);
        // Places that were first read since the beginning are told by the one, all things by the other.
        Ok(if is_whole { (Survey { unread: newer.unread, ..all }, true) } else { (newer, false) })
    }

    /// What was changed since, as its lookout saw it.
    async fn changes(
        &self,
        card: &Card,
        machine: MachineId,
        since: UtcNanos,
        who: &Who,
    ) -> Result<Changes, String> {
        // An earlier one would hang up on the question.
        if card.version_kept < CHANGES {
            return Err("its agent is of a version that sees no changes".to_owned());
        }
        match self.look(machine, LookAt::Changes { since }, who).await {
            Ok(Seen::Changes(changes)) => Ok(changes),
            Ok(_) => Err("it answered something else".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn survey_since(
        &self,
        machine: MachineId,
        since: Option<UtcNanos>,
        who: &Who,
    ) -> Result<Survey, String> {
        match self.look(machine, LookAt::Survey { since }, who).await {
            Ok(Seen::Survey(survey)) => Ok(survey),
            Ok(_) => Err("it answered something else".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// When the boot began that a machine is in, by what it last said: its boot time, when the hub heard it.
fn boot_began(card: &Card, boot: &BootId) -> Option<UtcNanos> {
    let seen = card.seen.as_ref().filter(|seen| seen.boot == *boot)?;
    let ran = i64::try_from(seen.status.as_ref()?.at_boot.0).ok()?;
    Some(UtcNanos::from_unix_nanos(seen.at.unix_nanos().saturating_sub(ran)))
}

fn left_in_words(step: &Step) -> String {
    let why = match &step.status {
        StepStatus::Unknown { why } => format!("not known: {why}"),
        StepStatus::ToDo { last: Some(last) } => format!("not done: {last}"),
        StepStatus::ToDo { last: None } => match step.how {
            How::Order { .. } => "not done".to_owned(),
            How::ByHand { .. } => "for a person's hand".to_owned(),
        },
        StepStatus::Done { shown } => shown.clone(),
        StepStatus::Accepted { by, .. } => format!("accepted by {by}"),
    };
    format!("{} ({why})", step.what).chars().take(LEFT_CHARS).collect()
}
