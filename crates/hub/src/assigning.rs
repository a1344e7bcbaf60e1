//! Having it signed what a machine is, and the permits that follow from it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use cordon_model::asset::Assignment;
use cordon_model::guidance::Bedside;
use cordon_model::ids::{MachineId, OdsCode};
use cordon_model::limits;
use cordon_model::order::Approver;
use cordon_model::record::{Actor, Deed, Record};
use cordon_model::signed::Verified;
use cordon_model::time::UtcNanos;
use cordon_model::wire::WATCHED;
use cordon_respond::signer_core::Refusal;
use tokio::sync::oneshot;

use crate::error::HubError;
use crate::keep::{self, Draft};
use crate::run::Shared;
use crate::signer::{ClientError, Refused};
use crate::view::AssignmentDraft;
use crate::work::{Input, Step};

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

    /// What would be signed of a machine by `draft`, with its names resolved now.
    pub async fn drafted(
        self: &Arc<Self>,
        machine: MachineId,
        draft: AssignmentDraft,
    ) -> Result<Assignment, HubError> {
        let draft = self.resolved(draft, Some(machine)).await?;
        let card = self.board.card(machine).ok_or(HubError::Missing { what: "machine" })?;
        check_draft(&self.organisation.code, &draft)?;
        check_read(&draft, card.version_kept)?;
        let before = card.assignment.as_ref();
        let watched_before = before.map(|before| before.watched.clone());
        let name_before = before.map(|before| before.name.clone());
        let before = before.map(|before| before.protected.clone());
        Ok(Assignment {
            organisation: self.organisation.code.clone(),
            machine,
            revision: 0,
            name: draft.name.or(name_before).unwrap_or_else(|| card.host.clone()),
            tier: draft.tier,
            kind: draft.kind,
            group: draft.group,
            lifelines: draft.lifelines,
            names: draft.names,
            protected: draft.protected.or(before).unwrap_or_default(),
            watched: draft.watched.or(watched_before).unwrap_or_default(),
            hub: self.link_addresses.clone(),
        })
    }

    /// Has it signed what a machine is: by `draft`, or, for one that the signer does not know yet, as
    /// little as is known.
    pub async fn assign(
        self: &Arc<Self>,
        machine: MachineId,
        draft: Option<Draft>,
        actor: Actor,
    ) -> Result<Assignment, HubError> {
        let (draft, by) = match draft {
            Some(Draft { draft, by }) => (draft, Some(by)),
            None => (AssignmentDraft::default(), None),
        };
        let said = draft.bedside.clone();
        let assignment = self.drafted(machine, draft).await?;
        let card = self.board.card(machine).ok_or(HubError::Missing { what: "machine" })?;
        let is_new = card.assignment.is_none();
        let bedside = by.clone().zip(said);
        // Before anything is signed: what takes root is refused whole.
        let mut unsaid = bedside;
        if let Some((by, bedside)) = unsaid.take_if(|_| !is_new) {
            match self.say_bedside(machine, bedside.clone(), by.clone()).await {
                // A signer that was set back: it is told with the rest.
                Err(HubError::Refused(Refusal::UnknownMachine)) => unsaid = Some((by, bedside)),
                said => said?,
            }
        }
        let receipt_key = card.receipt_key.filter(|_| is_new).map(|key| key.to_bytes());
        let signed = self.documents.assign(assignment, receipt_key, by).await;
        let signed = signed.map_err(|error| self.told_by_signer(error))?;
        if let Some((by, bedside)) = unsaid
            && let Err(error) = self.say_bedside(machine, bedside, by).await
        {
            tracing::warn!(%machine, %error, "people in front of it are told only what the policy says");
        }
        self.take_assignment(machine, signed, actor).await
    }

    /// Takes what was signed of a machine: the main task knows it and brings it there.
    async fn take_assignment(
        self: &Arc<Self>,
        machine: MachineId,
        signed: Verified<Assignment>,
        actor: Actor,
    ) -> Result<Assignment, HubError> {
        let mut detail = format!("{}, {}", signed.name, signed.effective_tier());
        for named in &signed.names {
            let pinned: Vec<String> =
                named.pinned(&signed).iter().map(ToString::to_string).collect();
            detail += &format!("; {} at {}", named.host, pinned.join(", "));
        }
        let assignment = (*signed).clone();
        let record =
            Record { machine: Some(machine), ..self.record(actor, Deed::Assigned, detail) };
        let no_draft = keep::draft(machine, None)?;
        self.drafts.lock().unwrap_or_else(PoisonError::into_inner).remove(&machine);
        self.deed(move |step| {
            step.changes.push(no_draft);
            step.assigned(&signed);
            step.record(record);
        })
        .await?;
        self.show_names(machine).await;
        Ok(assignment)
    }

    /// What a refusal or a failure of the signer means to whoever asked; that its bound holds documents up is noted.
    pub(crate) fn told_by_signer(&self, error: ClientError) -> HubError {
        self.board.note_held_up(&error, UtcNanos::now());
        from_signer(error)
    }

    async fn say_bedside(
        &self,
        machine: MachineId,
        bedside: Bedside,
        by: Approver,
    ) -> Result<(), HubError> {
        match self.documents.set_bedside(machine, bedside, by).await {
            Ok(()) => {
                self.bedside_said.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => Err(from_signer(error)),
        }
    }

    /// Makes sure that the signer and the main task know a machine: at its enrolment, and at its first
    /// link if the signer was away then.
    pub async fn ensure_assigned(self: &Arc<Self>, machine: MachineId) -> Result<(), HubError> {
        match self.board.card(machine) {
            Some(card) if card.assignment.is_some() => Ok(()),
            Some(_) => {
                match self.draft_of(machine) {
                    None => self.assign_as_known(machine).await?,
                    draft => match self.assign(machine, draft, Actor::Hub).await {
                        // What its token says was not said at the signer's machine.
                        Err(HubError::NeedsKeeper { weaker }) => {
                            tracing::warn!(%machine, weaker, "what its token says is not taken");
                            self.assign_as_known(machine).await?;
                        }
                        assigned => drop(assigned?),
                    },
                }
                self.permits_wanted.notify_one();
                let mut at_once = self.codes_at_once.lock().unwrap_or_else(PoisonError::into_inner);
                if at_once.try_take(Instant::now()) {
                    let shared = self.clone();
                    tokio::spawn(async move { shared.codes_of(machine).await });
                }
                Ok(())
            }
            None => Err(HubError::Missing { what: "machine" }),
        }
    }

    /// A machine of which this hub has no assignment is what the signer says that it is. One that the signer does
    /// not know either is a machine of which nothing is known: the strictest that there is, until somebody says more.
    async fn assign_as_known(self: &Arc<Self>, machine: MachineId) -> Result<(), HubError> {
        match self.documents.assignment(machine).await {
            Ok(signed) => self.take_assignment(machine, signed, Actor::Hub).await.map(drop),
            Err(ClientError::Refused(Refused::Rule(Refusal::UnknownMachine))) => {
                tracing::warn!(%machine, "it is one of which nothing is known");
                self.assign(machine, None, Actor::Hub).await.map(drop)
            }
            Err(error) => Err(self.told_by_signer(error)),
        }
    }

    /// Has the permits signed that are due.
    pub async fn renew_permits(&self) {
        match self.documents.renew_permits().await {
            Ok(permits) => {
                self.board.set_signer_away(None);
                if !permits.is_empty() {
                    self.tell(Input::Permitted(permits)).await;
                }
            }
            Err(error) => {
                self.board.set_signer_away(Some(error.to_string()));
                tracing::warn!(%error, "permits are not renewed; asking again in a minute");
            }
        }
    }
}

pub(crate) fn from_signer(error: ClientError) -> HubError {
    match error {
        ClientError::Refused(Refused::Rule(refusal)) => HubError::Refused(refusal),
        ClientError::Refused(Refused::NeedsKeeper(weaker)) => HubError::NeedsKeeper { weaker },
        ClientError::Refused(refused) => {
            HubError::Invalid { what: "request", why: refused.to_string() }
        }
        error => HubError::SignerAway { why: error.to_string() },
    }
}

/// A text of a person: not empty, not long, one line.
pub(crate) fn text(what: &'static str, given: &str) -> Result<String, HubError> {
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

/// Refuses what a machine that speaks `version` (0: nobody knows) could not read.
pub(crate) fn check_read(draft: &AssignmentDraft, version: u16) -> Result<(), HubError> {
    let is_watching = draft.watched.as_ref().is_some_and(|watched| !watched.is_empty());
    if is_watching && (1..WATCHED).contains(&version) {
        let why =
            "the agent there is too old to read which filesystems are watched: update it first";
        return Err(HubError::Invalid { what: "filesystem to watch", why: why.to_owned() });
    }
    Ok(())
}

pub(crate) fn check_draft(organisation: &OdsCode, draft: &AssignmentDraft) -> Result<(), HubError> {
    for (what, given) in [("name", &draft.name), ("kind", &draft.kind), ("group", &draft.group)] {
        given.as_deref().map(|given| text(what, given)).transpose()?;
    }
    if let Some(Err(error)) = draft.bedside.as_ref().map(Bedside::check) {
        return Err(HubError::Invalid { what: "text for people", why: error.to_string() });
    }
    let invalid = |why: String| HubError::Invalid { what: "lifeline", why };
    if draft.lifelines.len() > limits::LIFELINES_PER_MACHINE {
        return Err(invalid(format!(
            "at most {} are taken, and these come to {} (each service at each address is one)",
            limits::LIFELINES_PER_MACHINE,
            draft.lifelines.len()
        )));
    }
    // Whose it is makes no difference to what is checked.
    let nobody = MachineId::new(UtcNanos::from_unix_nanos(0), [0; 10]);
    let assignment = Assignment {
        lifelines: draft.lifelines.clone(),
        names: draft.names.clone(),
        watched: draft.watched.clone().unwrap_or_default(),
        ..Assignment::of(organisation.clone(), nobody, "")
    };
    assignment.check().map_err(|error| invalid(error.to_string()))
}
