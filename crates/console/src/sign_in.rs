//! Beginning a session with a one-time link.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{ConnectInfo, Form, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use cordon_model::time::UtcNanos;
use maud::Markup;
use serde::Deserialize;

use crate::Desk;
use crate::listener::Peer;
use crate::pages;
use crate::problem::Problem;
use crate::routes::to;

/// The longest token that is looked at: ours are 43 characters.
const TOKEN_CHARS: usize = 200;

/// What a link brings.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Link {
    token: Option<String>,
}

/// Asks for the token, or for one press if the link brought it. Nothing is used up by looking.
pub async fn page(Query(link): Query<Link>) -> Markup {
    let token = link.token.filter(|token| token.len() <= TOKEN_CHARS && !token.is_empty());
    pages::sign_in::page(token.as_deref(), None)
}

/// The sign-in form.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    token: String,
}

/// Uses the token up and begins a session.
pub async fn sign_in(
    State(desk): State<Arc<Desk>>,
    ConnectInfo(Peer(from)): ConnectInfo<Peer>,
    Form(Token { token }): Form<Token>,
) -> Result<Response, Problem> {
    if !desk.attempts.may_try(from.ip(), Instant::now()) {
        let problem = "too many attempts failed: wait a minute, and try again";
        let page = pages::sign_in::page(None, Some(problem));
        return Ok((StatusCode::TOO_MANY_REQUESTS, page).into_response());
    }
    let begun = if token.len() <= TOKEN_CHARS { desk.hub.sign_in(&token).await? } else { None };
    let Some(begun) = begun else {
        desk.attempts.failed(from.ip(), Instant::now());
        let problem = "The link was used before, has expired, or is not complete. Make a new one with “cordon sign-in”.";
        let page = pages::sign_in::page(None, Some(problem));
        return Ok((StatusCode::FORBIDDEN, page).into_response());
    };
    let lasts = begun.session.expires_at.since(UtcNanos::now());
    let mut response = to("/");
    let cookie = desk.cookie(&begun.secret.text(), lasts.as_secs());
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    Ok(response)
}
