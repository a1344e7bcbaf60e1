//! The plan against what was found on a machine, and people's words on its return to service.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use cordon_hub::view::PlanOrdered;
use cordon_model::ids::{IncidentId, MachineId};
use serde::Deserialize;

use crate::Desk;
use crate::acts::{line, session_forms};
use crate::pages;
use crate::problem::Problem;
use crate::routes::{Shown, id, to};
use crate::session::{Posted, SessionForm, SignedIn};

session_forms! {
    /// A plan, seen and confirmed by its digest.
    OrderPlan { digest: String, incident: Option<IncidentId>, reason: String }
    /// To look again.
    Verify { incident: Option<IncidentId> }
    /// A step whose thing may stay.
    Accept { step: String, incident: Option<IncidentId>, reason: String }
    /// A person's word on a machine's return.
    Say { word: Word, reason: String }
}

/// What a person says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// What let the intruder in is closed.
    Patched,
    /// It may return.
    SignedOff,
}

/// Of which incident only.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Of {
    incident: Option<IncidentId>,
}

/// Shows the plan.
pub async fn plan(
    State(desk): State<Arc<Desk>>,
    by: SignedIn,
    Path(machine): Path<String>,
    Query(Of { incident }): Query<Of>,
) -> Shown {
    let view = desk.hub.elimination(id(&machine)?, incident, &by.who).await?;
    Ok(pages::eliminate::page(&by.frame(&desk).await?, &view, incident, false))
}

/// Orders it, if it is still the one that was seen.
pub async fn order(
    State(desk): State<Arc<Desk>>,
    Path(machine): Path<String>,
    Posted { by, form }: Posted<OrderPlan>,
) -> Result<Response, Problem> {
    let machine: MachineId = id(&machine)?;
    let reason = line(&form.reason);
    let came =
        desk.hub.order_elimination(machine, form.incident, &form.digest, &reason, &by.who).await?;
    let frame = by.frame(&desk).await?;
    Ok(match came {
        PlanOrdered::Differs(view) => {
            let page = pages::eliminate::page(&frame, &view, form.incident, true);
            (StatusCode::CONFLICT, page).into_response()
        }
        PlanOrdered::Ordered(steps) => {
            let (name, here) = (desk.hub.machine_name(machine), format!("/machines/{machine}"));
            pages::eliminate::ordered(&frame, &name, &here, &steps).into_response()
        }
    })
}

/// Looks again.
pub async fn verify(
    State(desk): State<Arc<Desk>>,
    Path(machine): Path<String>,
    Posted { by, form }: Posted<Verify>,
) -> Result<Response, Problem> {
    let machine: MachineId = id(&machine)?;
    desk.hub.verify_elimination(machine, form.incident, &by.who).await?;
    Ok(to(&format!("/machines/{machine}#gate")))
}

/// Takes a person's word on one step.
pub async fn accept(
    State(desk): State<Arc<Desk>>,
    Path(machine): Path<String>,
    Posted { by, form }: Posted<Accept>,
) -> Result<Response, Problem> {
    let machine: MachineId = id(&machine)?;
    let reason = line(&form.reason);
    desk.hub.accept_steps(machine, form.incident, &[form.step], &reason, &by.who).await?;
    let of = form.incident.map_or_else(String::new, |incident| format!("?incident={incident}"));
    Ok(to(&format!("/machines/{machine}/eliminate{of}")))
}

/// Takes a person's word on a machine's return.
pub async fn say(
    State(desk): State<Arc<Desk>>,
    Path(machine): Path<String>,
    Posted { by, form }: Posted<Say>,
) -> Result<Response, Problem> {
    let machine: MachineId = id(&machine)?;
    let reason = line(&form.reason);
    match form.word {
        Word::Patched => desk.hub.say_patched(machine, &reason, &by.who).await?,
        Word::SignedOff => desk.hub.sign_off(machine, &reason, &by.who).await?,
    };
    Ok(to(&format!("/machines/{machine}#gate")))
}
