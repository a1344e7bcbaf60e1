//! Which address shows which page, and which form does what.
//!
//! The one idea: a handler asks the hub's handle and hands the answer to a page; permissions, limits and
//! the ledger are the handle's. Forms are explicit types that refuse fields they don't know.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use cordon_model::asset::ClinicalTier;
use cordon_model::ids::{IncidentId, MachineId};
use cordon_model::incident::IncidentState;
use cordon_store::{Cursor, IncidentFilter, Listed, Page};
use maud::Markup;
use serde::Deserialize;

use crate::pages::incidents::{Incidents, Rated, Which};
use crate::pages::{self};
use crate::problem::Problem;
use crate::session::{Posted, SessionForm, SignedIn};
use crate::{Desk, acts, assets, guard, live, measuring, returns, sign_in};

/// The largest form: 64 KiB. 256 lifelines of 200 characters are 50 KiB.
const FORM_BYTES: usize = 64 << 10;

/// Rows of a list on one page.
const ROWS: u32 = 50;

/// Records on the ledger's page.
const RECORDS: u64 = 50;

/// What a page is: its markup, or what went wrong.
pub type Shown = Result<Markup, Problem>;

/// All addresses.
pub fn router(desk: Arc<Desk>) -> Router {
    Router::new()
        .route("/", get(open_incidents))
        .route("/incidents/closed", get(closed_incidents))
        .route("/incidents/{id}", get(incident))
        .route("/incidents/{id}/take", post(acts::take))
        .route("/incidents/{id}/comment", post(acts::comment))
        .route("/incidents/{id}/close", post(acts::close))
        .route("/questions/{id}", get(acts::question).post(acts::answer))
        .route("/machines", get(machines))
        .route("/machines/{id}", get(machine))
        .route("/machines/{id}/assignment", get(acts::assignment).post(acts::assign))
        .route("/machines/{id}/isolate", get(acts::preview_isolation).post(acts::isolate))
        .route("/machines/{id}/eliminate", get(returns::plan).post(returns::order))
        .route("/machines/{id}/verify", post(returns::verify))
        .route("/machines/{id}/accept", post(returns::accept))
        .route("/machines/{id}/gate", post(returns::say))
        .route("/machines/{id}/release", get(acts::preview_release).post(acts::release))
        .route("/machines/{id}/processes", get(measuring::processes))
        .route("/machines/{id}/measure", get(measuring::preview).post(measuring::begin))
        .route(
            "/machines/{id}/measures/{measure}/undo",
            get(measuring::preview_undo).post(measuring::undo),
        )
        .route("/policy", get(acts::policy).post(acts::set_mode))
        .route("/policy/change", get(acts::preview_mode))
        .route("/ledger", get(ledger))
        .route("/live", get(live::live))
        .route("/sign-in", get(sign_in::page).post(sign_in::sign_in))
        .route("/sign-out", post(sign_out))
        .route("/assets/{name}", get(assets::serve))
        .fallback(|| async { Problem::no_page() })
        .method_not_allowed_fallback(|| async {
            Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "That does not go this way",
                "nothing was done",
            )
        })
        .layer(DefaultBodyLimit::max(FORM_BYTES))
        .layer(axum::middleware::from_fn_with_state(desk.clone(), guard::guard))
        .with_state(desk)
}

/// Parses an id of an address.
pub fn id<T: std::str::FromStr>(text: &str) -> Result<T, Problem> {
    text.parse().map_err(|_| Problem::no_page())
}

/// Where lists go on.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Places {
    unowned: Option<String>,
    owned: Option<String>,
}

async fn open_incidents(
    State(desk): State<Arc<Desk>>,
    by: SignedIn,
    Query(places): Query<Places>,
) -> Shown {
    let tiers = Tiers::of(&desk);
    let unowned = incidents(&desk, &tiers, IncidentState::New, places.unowned.clone()).await?;
    let owned = incidents(&desk, &tiers, IncidentState::Owned, places.owned.clone()).await?;
    let frame = by.frame(&desk).await?;
    Ok(pages::incidents::page(
        &frame,
        &Incidents {
            which: Which::Open,
            unowned_next: next_address("/", "unowned", unowned.next.as_ref()),
            others_next: next_address("/", "owned", owned.next.as_ref()),
            unowned: &unowned,
            others: &owned,
            attention: &desk.hub.attention(),
        },
    ))
}

/// Where one list goes on.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct After {
    after: Option<String>,
}

async fn closed_incidents(
    State(desk): State<Arc<Desk>>,
    by: SignedIn,
    Query(place): Query<After>,
) -> Shown {
    let tiers = Tiers::of(&desk);
    let closed = incidents(&desk, &tiers, IncidentState::Closed, place.after).await?;
    let frame = by.frame(&desk).await?;
    Ok(pages::incidents::page(
        &frame,
        &Incidents {
            which: Which::Closed,
            unowned: &Listed { items: Vec::new(), next: None, total: 0, unreadable: Vec::new() },
            unowned_next: None,
            others_next: next_address("/incidents/closed", "after", closed.next.as_ref()),
            others: &closed,
            attention: &[],
        },
    ))
}

/// The tiers of all machines, for the highest of an incident.
struct Tiers(std::collections::HashMap<MachineId, Option<ClinicalTier>>);

impl Tiers {
    fn of(desk: &Desk) -> Self {
        Self(desk.hub.machines().into_iter().map(|row| (row.id, row.tier)).collect())
    }

    /// The tier to reckon with: the highest; one that nobody said counts as clinical.
    fn highest(&self, machines: &[MachineId]) -> Option<ClinicalTier> {
        machines
            .iter()
            .map(|id| self.0.get(id).copied().flatten())
            .max_by_key(|tier| (tier.unwrap_or(ClinicalTier::WHEN_UNKNOWN), tier.is_none()))
            .flatten()
    }
}

/// One part of a list, the most serious of it first.
async fn incidents(
    desk: &Desk,
    tiers: &Tiers,
    state: IncidentState,
    after: Option<String>,
) -> Result<Listed<Rated>, Problem> {
    let page = Page { after: after.map(Cursor), limit: ROWS };
    let listed = desk.hub.incidents(IncidentFilter::In(state), &page).await?;
    let rate = |row: cordon_hub::view::IncidentRow| {
        let tier = tiers.highest(&row.incident.machines);
        (row, tier)
    };
    let mut items: Vec<Rated> = listed.items.into_iter().map(rate).collect();
    items.sort_by_key(|(row, _)| std::cmp::Reverse((row.incident.level, row.incident.last)));
    Ok(Listed { items, next: listed.next, total: listed.total, unreadable: listed.unreadable })
}

/// The address of a list's next part. A cursor is ours, and still nothing is pasted into an address as it
/// is.
pub fn next_address(path: &str, name: &str, next: Option<&Cursor>) -> Option<String> {
    let next = next?;
    let encoded: String = next
        .0
        .bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect();
    Some(format!("{path}?{name}={encoded}"))
}

async fn incident(
    State(desk): State<Arc<Desk>>,
    by: SignedIn,
    Path(incident): Path<String>,
    Query(place): Query<After>,
) -> Shown {
    let incident: IncidentId = id(&incident)?;
    let view = desk.hub.incident(incident, place.after.map(Cursor)).await?;
    let next =
        next_address(&format!("/incidents/{incident}"), "after", view.timeline_next.as_ref());
    Ok(pages::incident::page(&by.frame(&desk).await?, &view, next.as_deref()))
}

/// Which part of the machines.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct From {
    from: usize,
}

async fn machines(
    State(desk): State<Arc<Desk>>,
    by: SignedIn,
    Query(From { from }): Query<From>,
) -> Shown {
    let all = desk.hub.machines();
    let total = all.len();
    let items: Vec<_> = all.into_iter().skip(from).take(ROWS as usize).collect();
    let end = from.saturating_add(items.len());
    let next = (end < total).then(|| format!("/machines?from={end}"));
    let listed = Listed { items, next: None, total: total as u64, unreadable: Vec::new() };
    Ok(pages::machines::page(&by.frame(&desk).await?, &listed, next.as_deref()))
}

async fn machine(
    State(desk): State<Arc<Desk>>,
    by: SignedIn,
    Path(machine): Path<String>,
) -> Shown {
    let machine: MachineId = id(&machine)?;
    let view = desk.hub.machine(machine).await?;
    // A gate that can't be judged takes the rest of the page from nobody: the reason stands in its place.
    let gate = desk.hub.gate(machine).await.map_err(|error| error.to_string());
    Ok(pages::machine::page(&by.frame(&desk).await?, &view, &gate))
}

async fn ledger(State(desk): State<Arc<Desk>>, by: SignedIn) -> Shown {
    let frame = by.frame(&desk).await?;
    let size = frame.status.ledger.size;
    let entries = desk.hub.ledger_records(size.saturating_sub(RECORDS)..size).await?;
    let newest: Vec<_> = entries.into_iter().rev().map(|entry| entry.record).collect();
    Ok(pages::ledger::page(&frame, &newest))
}

/// A form that says nothing but that it is of this session.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plain {
    csrf: String,
}

impl SessionForm for Plain {
    fn csrf(&self) -> &str {
        &self.csrf
    }
}

async fn sign_out(
    State(desk): State<Arc<Desk>>,
    posted: Posted<Plain>,
) -> Result<Response, Problem> {
    desk.hub.sign_out(&posted.by.secret).await?;
    let mut response = pages::sign_in::signed_out().into_response();
    let headers = response.headers_mut();
    headers.insert(axum::http::header::SET_COOKIE, desk.cookie("", 0));
    let clear = axum::http::HeaderValue::from_static("\"cache\"");
    headers.insert("clear-site-data", clear);
    Ok(response)
}

/// To another page after a form was taken, so that loading again does not send it again.
pub fn to(address: &str) -> Response {
    Redirect::to(address).into_response()
}
