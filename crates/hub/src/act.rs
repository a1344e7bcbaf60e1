//! Acting: what people order, answer, take, say and set.

use std::collections::BTreeMap;
use std::time::Duration;

use cordon_link::token::EnrolToken;
use cordon_model::action::Action;
use cordon_model::approval::NightGap;
use cordon_model::asset::Assignment;
use cordon_model::ids::{ApprovalId, IncidentId, MachineId, MeasureId, OrderId};
use cordon_model::measure::Isolation;
use cordon_model::order::Instruction;
use cordon_model::policy::{Mode, Policy};
use cordon_model::record::{Deed, Record};
use cordon_model::time::{UtcNanos, span};
use cordon_respond::approval::{AnswerRefused, ApprovalState};
use cordon_respond::grouping::Story;
use cordon_respond::hub_core::{Change as CoreChange, Output, Wish, Wished};
use cordon_respond::signer_core::Refusal;
use cordon_store::{Change, EnrolmentToken, Key, Person, Role};
use tokio::sync::oneshot;

use crate::assigning::{check_draft, text};
use crate::clock::fresh;
use crate::error::HubError;
use crate::handle::Hub;
use crate::keep::{self, Draft, encode};
use crate::people::{LONGEST_TOKEN, Secret, Who};
use crate::view::{AssignmentDraft, Contact, Ordered, Standing, StandingNow};
use crate::work::Step;

/// How long a person waits for the signer before being told that it is away.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The signer's answer to a proposal, once it is there.
pub(crate) type SignersAnswer = oneshot::Receiver<Result<(), Refusal>>;

/// What a person wants ordered.
pub(crate) struct Wanted<'a> {
    pub machine: MachineId,
    pub instruction: Instruction,
    pub reason: &'a str,
    pub incident: Option<IncidentId>,
    pub who: &'a Who,
}

/// What became of a person's wish, before the signer has answered.
pub(crate) enum Put {
    /// It is proposed.
    Proposed(OrderId, SignersAnswer),
    /// Others have to agree first.
    Asked(ApprovalId),
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
        // A watch in place of an isolation opens the machine.
        self.must_be_reachable(machine)?;
        if isolation == Isolation::Watch {
            self.must_be_open(machine, who).await?;
        }
        let lease = self.policy().lease;
        let instruction = Instruction::isolate(isolation, lease);
        self.order(Wanted { machine, instruction, reason, incident, who }).await
    }

    /// Orders a measure besides the isolation, under the policy's lease.
    ///
    /// # Errors
    /// As [`Hub::isolate`]; [`HubError::Refused`] for terms that can't be.
    pub async fn begin(
        &self,
        machine: MachineId,
        action: Action,
        reason: &str,
        incident: Option<IncidentId>,
        who: &Who,
    ) -> Result<Ordered, HubError> {
        if action.isolation() == Some(Isolation::Watch) {
            self.must_be_open(machine, who).await?;
        }
        let lease = self.policy().lease;
        let instruction = Instruction::begin(action, lease);
        self.order(Wanted { machine, instruction, reason, incident, who }).await
    }

    /// Orders one measure to be taken back.
    ///
    /// # Errors
    /// As [`Hub::isolate`]; [`HubError::Missing`] if it is not in force on that machine.
    pub async fn undo(
        &self,
        machine: MachineId,
        measure: MeasureId,
        reason: &str,
        who: &Who,
    ) -> Result<Ordered, HubError> {
        self.must_be_reachable(machine)?;
        if !self.card(machine)?.measures.contains_key(&measure) {
            return Err(HubError::Missing { what: "such measure in force on this machine" });
        }
        // What Cordon did by itself is taken back whatever the gate says, as `cordon undo` does.
        let is_peoples = self
            .deed(move |step| {
                step.core.measure(measure).is_some_and(|life| {
                    life.action.isolation() > Some(Isolation::Watch) && !life.is_by_itself
                })
            })
            .await?;
        if is_peoples {
            self.must_be_open(machine, who).await?;
        }
        let instruction = Instruction::Undo { measure };
        self.order(Wanted { machine, instruction, reason, incident: None, who }).await
    }

    /// The measures on a machine that are not over.
    ///
    /// # Errors
    /// [`HubError::Missing`].
    pub fn standing(&self, machine: MachineId) -> Result<StandingNow, HubError> {
        let card = self.card(machine)?;
        let measures = card
            .measures
            .iter()
            .map(|(measure, known)| Standing { measure: *measure, what: known.action.to_string() });
        Ok(StandingNow {
            measures: measures.collect(),
            isolation: card.isolation(),
            unknown: card.unknown(),
        })
    }

    /// Orders the lease of a machine's strongest measure in force to be extended by the policy's length.
    ///
    /// # Errors
    /// As [`Hub::isolate`]; [`HubError::Missing`] if none is in force.
    pub async fn renew(
        &self,
        machine: MachineId,
        reason: &str,
        who: &Who,
    ) -> Result<Ordered, HubError> {
        self.must_be_reachable(machine)?;
        let card = self.card(machine)?;
        let acting = card.measures.iter().filter(|(_, known)| known.is_acting());
        let (measure, _) = acting
            .max_by_key(|(_, known)| known.action.isolation())
            .ok_or(HubError::Missing { what: "measure in force on this machine" })?;
        let instruction = Instruction::Renew { measure: *measure, lease: self.policy().lease };
        self.order(Wanted { machine, instruction, reason, incident: None, who }).await
    }

    /// Nothing is ordered for a machine that was struck off. Asked again in the step that orders, for it may be
    /// struck off meanwhile.
    pub(crate) fn must_be_reachable(&self, machine: MachineId) -> Result<(), HubError> {
        match self.card(machine)?.is_struck_off {
            true => Err(AnswerRefused::StruckOff.into()),
            false => Ok(()),
        }
    }

    pub(crate) async fn order(&self, wanted: Wanted<'_>) -> Result<Ordered, HubError> {
        let machine = wanted.machine;
        match self.propose(wanted).await? {
            Put::Proposed(order, answered) => {
                self.signers_answer(Some(answered)).await?;
                Ok(Ordered::Signed { order, is_linked: self.is_in_contact(machine) })
            }
            Put::Asked(approval) => {
                let question = self.deed(move |step| step.core.approval(approval).cloned()).await?;
                let question = question.ok_or(HubError::Missing { what: "question" })?;
                let night = self.night_for(&question)?;
                Ok(Ordered::Asked { approval, needs: question.needs, night })
            }
        }
    }

    /// The same, without waiting for the signer's answer: what is proposed is on disk, and the signer is asked for it
    /// until it answers. An error means that nothing was proposed.
    pub(crate) async fn propose(&self, wanted: Wanted<'_>) -> Result<Put, HubError> {
        let Wanted { machine, instruction, reason, incident, who } = wanted;
        who.must(Role::Responder)?;
        let reason = text("reason", reason)?;
        self.must_be_reachable(machine)?;
        self.shared.ensure_assigned(machine).await.map_err(not_proposed)?;
        if let Some(incident) = incident {
            let key = Key::new(&self.shared.organisation.code, incident);
            let known = self.shared.store.incident(&key).await?;
            known.ok_or(HubError::Missing { what: "incident" })?;
        }
        let (person, identity) = (who.approver(), who.identity());
        let wish = Wish { machine, instruction, person, identity, incident, reason };
        let waiters = self.shared.waiters.clone();
        let wished = self
            .deed(move |step| {
                let (wished, outputs) = step.core.people_propose(wish, &step.now, &mut fresh)?;
                step.outputs = outputs;
                Ok::<_, AnswerRefused>(match wished {
                    Wished::Proposed(order) => Put::Proposed(order, waiters.wait(order)),
                    Wished::Asked(approval) => Put::Asked(approval),
                })
            })
            .await?;
        Ok(wished?)
    }

    async fn signers_answer(&self, answered: Option<SignersAnswer>) -> Result<(), HubError> {
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

    /// A link that is up proves nothing: a machine that froze a minute ago holds its end open.
    pub(crate) fn is_in_contact(&self, machine: MachineId) -> bool {
        let contact = self.shared.board.card(machine).map(|card| card.contact(UtcNanos::now()));
        matches!(contact, Some(Contact::Linked { .. }))
    }

    /// Answers a question, for a reason that goes into the ledger. When that was the last answer needed, the
    /// signer's answer is waited for. What was judged when it was asked is judged again: who is needed and who
    /// may at this hour, and for a watch, which opens a machine, the gate.
    ///
    /// # Errors
    /// [`HubError::Answer`]; [`HubError::Refused`]; [`HubError::GateClosed`].
    pub async fn answer(
        &self,
        approval: ApprovalId,
        is_approved: bool,
        reason: &str,
        who: &Who,
    ) -> Result<ApprovalState, HubError> {
        let answered = self.answer_with_age(approval, is_approved, reason, who).await?;
        Ok(answered.0)
    }

    /// The same, and until when a no holds.
    ///
    /// # Errors
    /// As above.
    pub async fn answer_with_age(
        &self,
        approval: ApprovalId,
        is_approved: bool,
        reason: &str,
        who: &Who,
    ) -> Result<(ApprovalState, Option<UtcNanos>), HubError> {
        who.must(Role::Responder)?;
        let reason = text("reason", reason)?;
        if is_approved {
            let watched = self.deed(move |step| step.core.would_be_watched(approval)).await?;
            if let Some(machine) = watched {
                self.must_be_open(machine, who).await?;
            }
        }
        let (person, identity, waiters) =
            (who.approver(), who.identity(), self.shared.waiters.clone());
        let answer = self
            .deed(move |step| {
                step.outputs = step.core.answer(
                    approval,
                    &person,
                    identity,
                    is_approved,
                    &reason,
                    &step.now,
                    &mut fresh,
                )?;
                let state = step.outputs.iter().find_map(|output| match output {
                    Output::Keep(CoreChange::Approval(of)) => Some((of.state, of.no_until)),
                    _ => None,
                });
                let proposed = proposed_in(&step.outputs).map(|order| waiters.wait(order));
                Ok::<_, AnswerRefused>((state.unwrap_or((ApprovalState::Open, None)), proposed))
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
        self.changed(incident, move |step, kept| match kept {
            None => step.core.own(incident, &name, &step.now),
            Some(kept) => step.core.own_kept(kept, &name, &step.now),
        })
        .await
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
        self.changed(incident, move |step, kept| match kept {
            None => step.core.close(incident, &name, &reason, &step.now, &mut fresh),
            Some(kept) => step.core.close_kept(kept, &name, &reason, &step.now, &mut fresh),
        })
        .await
    }

    /// Changes an open incident: first as the hub's mind has it, then as it was kept, for one that made room
    /// for others is in no memory.
    async fn changed(
        &self,
        incident: IncidentId,
        change: impl Fn(&mut Step<'_>, Option<Story>) -> Vec<Output> + Clone + Send + 'static,
    ) -> Result<(), HubError> {
        let missing = HubError::Missing { what: "open incident" };
        let first = change.clone();
        let is_done = self
            .deed(move |step| {
                step.outputs = first(step, None);
                !step.outputs.is_empty()
            })
            .await?;
        if is_done {
            return Ok(());
        }
        let (store, organisation) = (&*self.shared.store, &self.shared.organisation.code);
        let kept = keep::story(store, organisation, incident).await?.ok_or(missing)?;
        let is_done = self
            .deed(move |step| {
                step.outputs = change(step, Some(kept));
                !step.outputs.is_empty()
            })
            .await?;
        if is_done { Ok(()) } else { Err(HubError::Missing { what: "open incident" }) }
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

    /// Says what a machine is; what was signed of it, with the addresses of its names.
    ///
    /// # Errors
    /// [`HubError::Invalid`] for a lifeline that can't be; [`HubError::Refused`].
    pub async fn assign(
        &self,
        machine: MachineId,
        draft: AssignmentDraft,
        who: &Who,
    ) -> Result<Assignment, HubError> {
        who.must(Role::Administrator)?;
        self.card(machine)?;
        let draft = Draft { draft, by: who.approver() };
        let assignment = self.shared.assign(machine, Some(draft), who.actor()).await?;
        self.shared.permits_wanted.notify_one();
        Ok(assignment)
    }

    /// Sets how much is done without asking.
    ///
    /// # Errors
    /// As [`Hub::set_policy`].
    pub async fn set_mode(&self, mode: Mode, who: &Who) -> Result<u64, HubError> {
        self.set_policy(Policy { mode, ..(*self.policy()).clone() }, who).await
    }

    /// Whether a policy could be set, but for what the signer says.
    ///
    /// # Errors
    /// [`HubError::Invalid`].
    pub async fn check_policy(&self, draft: &Policy, who: &Who) -> Result<(), HubError> {
        who.must(Role::Administrator)?;
        self.check_night(draft).await
    }

    /// Sets the policy, and says its revision.
    ///
    /// # Errors
    /// [`HubError::Refused`] or [`HubError::Invalid`] with the signer's reason.
    pub async fn set_policy(&self, draft: Policy, who: &Who) -> Result<u64, HubError> {
        self.check_policy(&draft, who).await?;
        let detail = format!("mode {:?}", draft.mode).to_lowercase();
        let signed = self.shared.documents.set_policy(draft, who.approver()).await;
        let signed = signed.map_err(|error| self.shared.told_by_signer(error))?;
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

    /// Whoever a policy newly names for the night must be somebody who can sign in and answer. Who was named
    /// before and can't any more stops nobody from changing a policy at night: [`Hub::night_gap`] says it.
    async fn check_night(&self, draft: &Policy) -> Result<(), HubError> {
        let policy = self.policy();
        let before = policy.approval.night.as_ref().map_or(&[][..], |night| &night.people);
        for name in draft.approval.night.iter().flat_map(|night| &night.people) {
            if !before.contains(name) && self.who_may_answer(name).await?.is_none() {
                let why = format!("{name:?} is nobody who may answer here: see `cordon person`");
                return Err(HubError::Invalid { what: "night", why });
            }
        }
        Ok(())
    }

    /// What is missing at night, when too few of those whom the policy names can still answer.
    ///
    /// # Errors
    /// [`HubError::Store`].
    pub async fn night_gap(&self) -> Result<Option<NightGap>, HubError> {
        let approval = self.policy().approval.clone();
        let mut able = BTreeMap::new();
        for name in approval.night.iter().flat_map(|night| &night.people) {
            if let Some(person) = self.who_may_answer(name).await? {
                able.insert(name.clone(), person.is_clinical);
            }
        }
        Ok(approval.night_gap(|name| able.get(name).copied()))
    }

    async fn who_may_answer(&self, name: &str) -> Result<Option<Person>, HubError> {
        let person = self.person(name).await?;
        Ok(person.filter(|person| {
            person.name == *name && person.is_active && person.role >= Role::Responder
        }))
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
        // Resolved now, while the person looks: an enrolment depends on no resolver.
        let draft = self.shared.resolved(draft, None).await?;
        check_draft(&self.shared.organisation.code, &draft)?;
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
        let detail = format!("{name}, within {}", span(expires_at.since(now)));
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

/// A signer that is away before anything was proposed: this will not go out by itself.
pub(crate) fn not_proposed(error: HubError) -> HubError {
    match error {
        HubError::SignerAway { why } => HubError::Invalid {
            what: "order",
            why: format!(
                "the signer does not answer ({why}), and what this machine is has to be signed first; nothing \
                 is ordered: try again when it is back"
            ),
        },
        error => error,
    }
}

fn proposed_in(outputs: &[Output]) -> Option<OrderId> {
    outputs.iter().find_map(|output| match output {
        Output::Keep(CoreChange::Proposed(proposal)) => Some(proposal.id),
        _ => None,
    })
}
