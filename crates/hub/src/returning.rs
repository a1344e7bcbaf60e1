//! The return to service: the gate as it is now, what people say of it, and the release.
//!
//! The one idea: `respond::return_gate` judges, and this hands it what was kept and what is seen. The gate
//! holds up nobody who says why: a release with a reason *despite* it goes out at once, also if the gate
//! can't be judged, and the ledger and the screens say that it was so.

use cordon_model::action::ActionKind;
use cordon_model::asset::Assignment;
use cordon_model::gate::{COUNTS_FROM, Despite, MOST_LEFT, Said, Statement};
use cordon_model::ids::{IncidentId, MachineId};
use cordon_model::measure::{Isolation, MeasureState};
use cordon_model::order::Instruction;
use cordon_model::record::{Deed, Record};
use cordon_model::time::UtcNanos;
use cordon_respond::return_gate::{self, Isolating, Seen, Spell};
use cordon_store::{Change, FindingFilter, Key, PAGE_ROWS, Page, Role, StoredMeasure};

use crate::act::Wanted;
use crate::assigning::text;
use crate::board::{Card, Known};
use crate::error::HubError;
use crate::handle::Hub;
use crate::people::Who;
use crate::view::{Contact, GateView, News, Ordered};
use crate::work::After;

/// Statements that a page or a command shows, the newest: 20 of at most 8 KB are well below a message.
const SHOWN: usize = 20;

/// What the sensors must see for a machine to count as probed.
const MUST_SEE: &str = "process starts";

/// What was kept about a machine's return.
pub(crate) struct Kept {
    /// Oldest first, the newest [`PAGE_ROWS`].
    pub statements: Vec<Statement>,
    pub total: u64,
    /// Since when it is isolated.
    pub since: Option<UtcNanos>,
    /// Its measures, newest first.
    pub measures: Vec<StoredMeasure>,
}

impl Kept {
    /// The statements of the present isolation, or all if nothing isolates it.
    pub fn present(&self) -> impl Iterator<Item = &Statement> {
        let since = self.since;
        self.statements.iter().filter(move |one| since.is_none_or(|since| one.at >= since))
    }
}

impl Hub {
    /// Whether a machine may return to service, with what shows it.
    ///
    /// # Errors
    /// [`HubError::Missing`].
    pub async fn gate(&self, machine: MachineId) -> Result<GateView, HubError> {
        let card = self.card(machine)?;
        let kept = self.kept(machine).await?;
        let spell = self.spell(machine, &card, kept.since).await?;
        let (findings, last_finding) = self.findings_that_count(machine).await?;
        let incidents = self.incidents_of(machine).await?;
        let policy = self.policy();
        let assignment = card.assignment.as_deref();
        let tier = assignment
            .map_or(cordon_model::asset::ClinicalTier::WHEN_UNKNOWN, Assignment::effective_tier);
        let now = UtcNanos::now();
        let gate = return_gate::gate(&return_gate::Facts {
            terms: &policy.return_terms,
            tier,
            spell,
            findings,
            last_finding,
            incidents: &incidents,
            statements: &kept.statements,
            seen: seen(&card, now),
            now,
        });
        Ok(GateView {
            machine: card.row(machine, now),
            is_open: gate.is_open(),
            gate,
            isolated_since: spell.and_then(|spell| spell.since),
            of: kept.total,
            statements: kept.statements.into_iter().rev().take(SHOWN).collect(),
        })
    }

    /// A person says that what let the intruder in is closed: Cordon can't tell.
    ///
    /// # Errors
    /// [`HubError::NotAllowed`]; [`HubError::Missing`] if nothing isolates the machine.
    pub async fn say_patched(
        &self,
        machine: MachineId,
        reason: &str,
        who: &Who,
    ) -> Result<GateView, HubError> {
        let reason = text("reason", reason)?;
        self.say_of_return(machine, format!("patched: {reason}"), Said::Patched { reason }, who)
            .await
    }

    /// A person answers for a machine's return.
    ///
    /// # Errors
    /// As [`Hub::say_patched`].
    pub async fn sign_off(
        &self,
        machine: MachineId,
        reason: &str,
        who: &Who,
    ) -> Result<GateView, HubError> {
        let reason = text("reason", reason)?;
        self.say_of_return(
            machine,
            format!("signed off: {reason}"),
            Said::SignedOff { reason },
            who,
        )
        .await
    }

    async fn say_of_return(
        &self,
        machine: MachineId,
        detail: String,
        said: Said,
        who: &Who,
    ) -> Result<GateView, HubError> {
        who.must(Role::Responder)?;
        self.must_be_reachable(machine)?;
        let card = self.card(machine)?;
        if card.isolation().is_none_or(|isolation| isolation == Isolation::Watch) {
            return Err(HubError::Missing { what: "isolation of this machine: it is in service" });
        }
        let (findings, _) = self.findings_that_count(machine).await?;
        self.state(machine, findings, said, Deed::ReturnSaid, detail, None, who).await?;
        self.gate(machine).await
    }

    /// Orders every isolation of a machine to be taken back: through the open gate, or, with a reason,
    /// `despite` it.
    ///
    /// # Errors
    /// As [`Hub::isolate`]; [`HubError::GateClosed`] with what is missing.
    pub async fn release(
        &self,
        machine: MachineId,
        reason: &str,
        despite: Option<&str>,
        incident: Option<IncidentId>,
        who: &Who,
    ) -> Result<Ordered, HubError> {
        who.must(Role::Responder)?;
        let reason = text("reason", reason)?;
        let despite = despite.map(|why| text("reason despite the gate", why)).transpose()?;
        self.must_be_reachable(machine)?;
        let missing = match (self.gate(machine).await, &despite) {
            (Ok(gate), _) if gate.is_open => Vec::new(),
            (Ok(gate), None) => return Err(closed(&gate)),
            (Err(error), None) => return Err(error),
            (Ok(gate), Some(_)) => in_words(&gate),
            // Whoever needs the machine does not wait for a gate that can't be judged.
            (Err(error), Some(_)) => vec![format!("the gate could not be judged: {error}")],
        };
        let despite = despite.filter(|_| !missing.is_empty()).map(|why| Despite { missing, why });
        let instruction = Instruction::Release;
        let wanted = Wanted { machine, instruction, reason: &reason, incident, who };
        let ordered = self.order(wanted).await;
        // One that the signer has not answered yet is asked for again, and may still go out.
        if matches!(ordered, Ok(_) | Err(HubError::SignerAway { .. })) {
            let is_despite = despite.is_some();
            let detail = match &despite {
                None => format!("through the gate: {reason}"),
                Some(Despite { missing, why }) => {
                    format!("DESPITE {}: {why} ({reason})", missing.join("; "))
                }
            };
            let said = Said::Returned { reason, despite };
            let deed = Deed::Returned { is_despite };
            // The order is out: a count that can't be read does not take that back.
            let findings = self.findings_that_count(machine).await.map_or(0, |(count, _)| count);
            self.state(machine, findings, said, deed, detail, incident, who).await?;
        }
        ordered
    }

    /// For what opens a machine by another word than a release.
    pub(crate) async fn must_be_open(&self, machine: MachineId, who: &Who) -> Result<(), HubError> {
        who.must(Role::Responder)?;
        let card = self.card(machine)?;
        if card.isolation().is_none_or(|isolation| isolation == Isolation::Watch) {
            return Ok(());
        }
        let gate = self.gate(machine).await?;
        if gate.is_open { Ok(()) } else { Err(closed(&gate)) }
    }

    /// Writes a statement down, and tells whoever looks at the machine.
    #[expect(clippy::too_many_arguments, reason = "they are the parts of one statement")]
    pub(crate) async fn state(
        &self,
        machine: MachineId,
        findings: u64,
        said: Said,
        deed: Deed,
        detail: String,
        incident: Option<IncidentId>,
        who: &Who,
    ) -> Result<(), HubError> {
        let record = Record {
            machine: Some(machine),
            incident,
            ..self.shared.record(who.actor(), deed, detail)
        };
        let by = who.actor();
        self.deed(move |step| {
            let at = step.now.utc;
            let statement = Statement { machine, at, by, findings, said };
            step.changes.push(Change::Statement(Box::new(statement)));
            step.record(record);
            step.after.push(After::News(News::Machine(machine)));
        })
        .await
    }

    /// What was kept about a machine's return.
    pub(crate) async fn kept(&self, machine: MachineId) -> Result<Kept, HubError> {
        let key = Key::new(&self.shared.organisation.code, machine);
        let page = Page::first(PAGE_ROWS);
        let listed = self.shared.store.statements(&key, &page).await?;
        let measures = self.shared.store.measures_of(&key, &page).await?.items;
        let since = return_gate::isolated_since(measures.iter().map(|measure| Isolating {
            measure: measure.id,
            action: &measure.action,
            state: &measure.state,
            since: measure.since,
        }));
        let mut statements = listed.items;
        statements.reverse();
        Ok(Kept { statements, total: listed.total, since, measures })
    }

    async fn spell(
        &self,
        machine: MachineId,
        card: &Card,
        since: Option<UtcNanos>,
    ) -> Result<Option<Spell>, HubError> {
        if card.isolation().is_none_or(|isolation| isolation == Isolation::Watch) {
            return Ok(None);
        }
        let is_by_people = self
            .deed(move |step| {
                let standing: Vec<bool> = step
                    .core
                    .measures()
                    .filter(|life| life.machine == machine && !life.state.is_over())
                    .filter(|life| life.action.isolation().is_some())
                    .map(|life| life.is_by_itself)
                    .collect();
                !standing.is_empty() && standing.iter().all(|by_itself| !by_itself)
            })
            .await?;
        Ok(Some(Spell { since, is_by_people }))
    }

    /// How many findings the hub has of a machine that count, and when it received the newest.
    pub(crate) async fn findings_that_count(
        &self,
        machine: MachineId,
    ) -> Result<(u64, Option<UtcNanos>), HubError> {
        let filter = FindingFilter {
            machine: Some(machine),
            level_at_least: Some(COUNTS_FROM),
            ..FindingFilter::default()
        };
        let organisation = &self.shared.organisation.code;
        let listed = self.shared.store.findings(organisation, &filter, &Page::first(1)).await?;
        Ok((listed.total, listed.items.first().map(|newest| newest.received)))
    }

    /// The incidents that a machine's plan is about: its open ones, and those that its isolation answers.
    pub(crate) async fn incidents_of(
        &self,
        machine: MachineId,
    ) -> Result<Vec<IncidentId>, HubError> {
        self.deed(move |step| {
            let core = &step.core;
            let open = core.incidents().filter(|incident| incident.machines.contains(&machine));
            let mut incidents: Vec<IncidentId> = open.map(|incident| incident.id).collect();
            let standing = core.measures().filter(|life| {
                life.machine == machine
                    && !life.state.is_over()
                    && life.action.isolation().is_some()
            });
            for measure in standing.map(|life| life.measure) {
                let mut orders = core.orders();
                let began = orders.find(|life| measure == life.order.id.into());
                incidents.extend(began.and_then(|life| life.order.incident));
            }
            incidents.sort_unstable();
            incidents.dedup();
            incidents
        })
        .await
    }
}

/// How much of what an unproven measure is said to do is told: a machine makes such words too.
const UNPROVEN_CHARS: usize = 200;

/// How a machine is now, by what the hub hears of it.
fn seen(card: &Card, now: UtcNanos) -> Seen {
    let is_proven = |known: &Known| known.state == MeasureState::Verified && !known.is_denied;
    // Evidence that is still being gathered stops nothing and proves nothing.
    let is_gathering = |known: &Known| known.action.kind() == ActionKind::Collect;
    let measures = || card.measures.values().filter(|known| !is_gathering(known));
    let said = card.seen.as_ref().filter(|seen| !seen.coverage.is_empty());
    Seen {
        heard: match card.contact(now) {
            Contact::Linked { heard } => Some(heard),
            Contact::Silent { .. } | Contact::Never => None,
        },
        unknown: card.unknown(),
        unproven: measures()
            .filter(|one| !is_proven(one))
            .take(MOST_LEFT)
            .map(|one| one.action.to_string().chars().take(UNPROVEN_CHARS).collect())
            .collect(),
        proven: measures().filter(|one| is_proven(one)).count(),
        blind: said.map(|seen| {
            let blind = seen.coverage.iter().filter(|one| one.what == MUST_SEE && one.by.is_none());
            blind.map(|one| one.what.clone()).collect()
        }),
        gap_at: card.gap_at,
        lost: card.seen.as_ref().and_then(|seen| seen.status.as_ref()).map(|status| status.lost),
    }
}

fn closed(gate: &GateView) -> HubError {
    let name = gate.machine.name.clone();
    let missing = gate
        .gate
        .missing()
        .map(|asked| format!("{}: {} ({})", asked.need, asked.because, asked.command(&name)))
        .collect::<Vec<_>>()
        .join("; ");
    HubError::GateClosed { machine: name, missing }
}

fn in_words(gate: &GateView) -> Vec<String> {
    gate.gate.missing().map(|asked| format!("{}: {}", asked.need, asked.because)).collect()
}
