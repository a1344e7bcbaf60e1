//! What people do, each with the page that shows it first: isolate, release, answer, assign, set the mode,
//! and work on an incident.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use cordon_hub::HubError;
use cordon_hub::view::Ordered;
use cordon_model::ids::{IncidentId, MachineId};
use cordon_model::measure::Isolation;
use cordon_model::order::Instruction;
use cordon_model::policy::Mode;
use cordon_store::Role;
use serde::Deserialize;

use crate::Desk;
use crate::pages;
use crate::pages::assignment::Typed;
use crate::problem::Problem;
use crate::routes::{Plain, Shown, id, to};
use crate::session::{Posted, SessionForm, SignedIn};

/// What came of a form: another page, or what went wrong.
pub type Done = Result<Response, Problem>;

/// Defines forms of a session: each carries the session's token and refuses fields that it doesn't know.
macro_rules! session_forms {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name { csrf: String, $($field: $type),* }

        impl SessionForm for $name {
            fn csrf(&self) -> &str {
                &self.csrf
            }
        }
    )*};
}
pub(crate) use session_forms;

session_forms! {
    /// A comment.
    Comment { comment: String }
    /// A reason alone.
    Reason { reason: String }
    /// An isolation, seen and confirmed.
    Isolate { how: Isolation, incident: Option<IncidentId>, reason: String }
    /// A release, seen and confirmed.
    Release { incident: Option<IncidentId>, reason: String, despite: Option<String> }
    /// An answer to a question.
    AnswerForm { answer: YesNo, reason: String }
    /// What a machine is.
    Assign {
        name: String,
        tier: String,
        kind: String,
        group: String,
        lifelines: String,
        protected: String,
        place: String,
        instead: String,
        ring: String,
    }
    /// A mode, seen and confirmed with the policy that it was seen with.
    SetMode { mode: Mode, revision: u64 }
}

/// Yes or no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum YesNo {
    /// Yes.
    Approve,
    /// No.
    Decline,
}

/// A person's text as one line: a text area's line breaks are spaces in the ledger.
pub fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Takes an incident.
pub async fn take(
    State(desk): State<Arc<Desk>>,
    Path(incident): Path<String>,
    Posted { by, .. }: Posted<Plain>,
) -> Done {
    let incident: IncidentId = id(&incident)?;
    desk.hub.take_incident(incident, &by.who).await?;
    Ok(to(&format!("/incidents/{incident}")))
}

/// Comments on an incident.
pub async fn comment(
    State(desk): State<Arc<Desk>>,
    Path(incident): Path<String>,
    Posted { by, form }: Posted<Comment>,
) -> Done {
    let incident: IncidentId = id(&incident)?;
    desk.hub.comment_incident(incident, &line(&form.comment), &by.who).await?;
    Ok(to(&format!("/incidents/{incident}#timeline")))
}

/// Closes an incident.
pub async fn close(
    State(desk): State<Arc<Desk>>,
    Path(incident): Path<String>,
    Posted { by, form }: Posted<Reason>,
) -> Done {
    let incident: IncidentId = id(&incident)?;
    desk.hub.close_incident(incident, &line(&form.reason), &by.who).await?;
    Ok(to(&format!("/incidents/{incident}")))
}

/// Where a person came from, and how far the machine would be cut off.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Choice {
    how: Option<Isolation>,
    incident: Option<IncidentId>,
}

/// Shows what an isolation would do.
pub async fn preview_isolation(
    State(desk): State<Arc<Desk>>,
    by: SignedIn,
    Path(machine): Path<String>,
    Query(choice): Query<Choice>,
) -> Shown {
    let machine: MachineId = id(&machine)?;
    let how = choice.how.unwrap_or(Isolation::Segment);
    let preview = desk.hub.preview_now(machine, how, &by.who).await?;
    Ok(pages::containment::isolate(&by.frame(&desk).await?, &preview, choice.incident))
}

/// Isolates.
pub async fn isolate(
    State(desk): State<Arc<Desk>>,
    Path(machine): Path<String>,
    Posted { by, form }: Posted<Isolate>,
) -> Done {
    let machine: MachineId = id(&machine)?;
    let reason = line(&form.reason);
    let ordered = desk.hub.isolate(machine, form.how, &reason, form.incident, &by.who).await?;
    Ok(match ordered {
        Ordered::Signed { .. } => back(machine, form.incident),
        Ordered::Asked { approval, .. } => to(&format!("/questions/{approval}")),
    })
}

/// Shows what a release would do.
pub async fn preview_release(
    State(desk): State<Arc<Desk>>,
    by: SignedIn,
    Path(machine): Path<String>,
    Query(choice): Query<Choice>,
) -> Shown {
    let machine: MachineId = id(&machine)?;
    let row = desk.hub.preview(machine, Isolation::Segment)?.machine;
    // A gate that can't be judged holds nobody up: the page says so, and asks why all the same.
    let gate = desk.hub.gate(machine).await.map_err(|error| error.to_string());
    Ok(pages::containment::release(&by.frame(&desk).await?, &row, &gate, choice.incident))
}

/// Releases.
pub async fn release(
    State(desk): State<Arc<Desk>>,
    Path(machine): Path<String>,
    Posted { by, form }: Posted<Release>,
) -> Done {
    let machine: MachineId = id(&machine)?;
    let despite = form.despite.as_deref().map(line).filter(|why| !why.is_empty());
    let reason = line(&form.reason);
    desk.hub.release(machine, &reason, despite.as_deref(), form.incident, &by.who).await?;
    Ok(back(machine, form.incident))
}

/// To the measures, where the order shows first.
pub fn back(machine: MachineId, incident: Option<IncidentId>) -> Response {
    match incident {
        Some(incident) => to(&format!("/incidents/{incident}#measures")),
        None => to(&format!("/machines/{machine}#measures")),
    }
}

/// Shows a question, with what a yes would do.
pub async fn question(
    State(desk): State<Arc<Desk>>,
    by: SignedIn,
    Path(question): Path<String>,
) -> Shown {
    let question = desk.hub.approval(id(&question)?).await?;
    let frame = by.frame(&desk).await?;
    let view = desk.hub.machine(question.machine).await?;
    // Whoever says yes says it to all of it.
    let mut shows = Vec::new();
    for instruction in std::iter::once(&question.instruction).chain(&question.also) {
        if let Some(how) = instruction.isolation() {
            let preview = desk.hub.preview_now(question.machine, how, &by.who).await?;
            shows.push(pages::containment::consequences(&preview, &frame));
        } else if let Instruction::Begin { action, .. } = instruction {
            shows.push(pages::measuring::consequences(&view, action, shows.len()));
        }
    }
    let night = desk.hub.night_for(&question)?;
    Ok(pages::question::page(&frame, &question, &view.row.name, night.as_deref(), &shows))
}

/// Answers a question. The reason is a comment of its incident, written first, so that it is there whatever
/// comes of the answer; that the answer was taken is the hub's to say.
pub async fn answer(
    State(desk): State<Arc<Desk>>,
    Path(question): Path<String>,
    Posted { by, form }: Posted<AnswerForm>,
) -> Done {
    let question = desk.hub.approval(id(&question)?).await?;
    let is_approved = form.answer == YesNo::Approve;
    desk.hub.answer(question.id, is_approved, &line(&form.reason), &by.who).await?;
    Ok(back(question.machine, question.incident))
}

/// Shows what a machine is, to change it.
pub async fn assignment(
    State(desk): State<Arc<Desk>>,
    by: SignedIn,
    Path(machine): Path<String>,
) -> Shown {
    let view = desk.hub.machine(id(&machine)?).await?;
    let frame = by.frame(&desk).await?;
    Ok(pages::assignment::page(&frame, &view, &Typed::of(&view), None))
}

/// Says what a machine is.
pub async fn assign(
    State(desk): State<Arc<Desk>>,
    Path(machine): Path<String>,
    Posted { by, form }: Posted<Assign>,
) -> Done {
    let machine: MachineId = id(&machine)?;
    let typed = Typed {
        name: form.name,
        tier: form.tier,
        kind: form.kind,
        group: form.group,
        lifelines: form.lifelines,
        protected: form.protected,
        place: form.place,
        instead: form.instead,
        ring: form.ring,
    };
    match typed.draft() {
        Ok(draft) => match desk.hub.assign(machine, draft, &by.who).await {
            Ok(_) => Ok(to(&format!("/machines/{machine}"))),
            // A name that does not resolve: what was typed is not lost for that.
            Err(error @ (HubError::Invalid { .. } | HubError::NeedsKeeper { .. })) => {
                let view = desk.hub.machine(machine).await?;
                let frame = by.frame(&desk).await?;
                let why = error.to_string();
                let page = pages::assignment::page(&frame, &view, &typed, Some(&why));
                Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
            }
            Err(error) => Err(error.into()),
        },
        // What was typed is given back with what is wrong with it.
        Err(why) => {
            let view = desk.hub.machine(machine).await?;
            let frame = by.frame(&desk).await?;
            let page = pages::assignment::page(&frame, &view, &typed, Some(&why));
            Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
        }
    }
}

/// Shows the policy.
pub async fn policy(State(desk): State<Arc<Desk>>, by: SignedIn) -> Shown {
    let may_change = by.who.may(Role::Administrator);
    Ok(pages::policy::page(&by.frame(&desk).await?, &desk.hub.policy(), may_change))
}

/// A mode that somebody thinks of.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModeChoice {
    mode: Mode,
}

/// Shows what another mode means.
pub async fn preview_mode(
    State(desk): State<Arc<Desk>>,
    by: SignedIn,
    Query(choice): Query<ModeChoice>,
) -> Shown {
    Ok(pages::policy::change(&by.frame(&desk).await?, &desk.hub.policy(), choice.mode))
}

/// Sets the mode.
pub async fn set_mode(State(desk): State<Arc<Desk>>, Posted { by, form }: Posted<SetMode>) -> Done {
    if desk.hub.policy().revision != form.revision {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "Not done: the policy has changed",
            "somebody set another policy since you looked: look at it first",
        ));
    }
    desk.hub.set_mode(form.mode, &by.who).await?;
    Ok(to("/policy"))
}
