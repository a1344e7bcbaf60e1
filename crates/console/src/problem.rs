//! What went wrong, as a status and as words for the person who asked.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use cordon_hub::HubError;

use crate::pages;

/// A request that was not done as asked.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    title: &'static str,
    what: String,
}

impl Problem {
    /// A problem with its words.
    pub fn new(status: StatusCode, title: &'static str, what: impl Into<String>) -> Self {
        Self { status, title, what: what.into() }
    }

    /// There is no such page.
    pub fn no_page() -> Self {
        Self::new(StatusCode::NOT_FOUND, "There is no such page", "the address leads nowhere here")
    }
}

impl From<HubError> for Problem {
    fn from(error: HubError) -> Self {
        let (status, title) = match &error {
            HubError::NotAllowed { .. } => (StatusCode::FORBIDDEN, "You may not do that"),
            HubError::Missing { .. } => (StatusCode::NOT_FOUND, "It is not here"),
            HubError::Invalid { .. } => {
                (StatusCode::UNPROCESSABLE_ENTITY, "Not done: it can’t be taken")
            }
            HubError::Refused(_) => (StatusCode::CONFLICT, "Not done: the signer refuses"),
            HubError::NeedsKeeper { .. } => {
                (StatusCode::FORBIDDEN, "Not done: it takes root on the hub’s machine")
            }
            HubError::Answer(_) => (StatusCode::CONFLICT, "The answer was not taken"),
            HubError::SignerAway { .. } => {
                (StatusCode::SERVICE_UNAVAILABLE, "Not done yet: the signer does not answer")
            }
            HubError::GateClosed { .. } => {
                (StatusCode::CONFLICT, "Not done: it is not ready to return to service")
            }
            HubError::NotSeen(_) => (StatusCode::BAD_GATEWAY, "The machine can’t be looked at"),
            HubError::Closing => (StatusCode::SERVICE_UNAVAILABLE, "The hub is shutting down"),
            HubError::Store(_) | HubError::Document(_) => {
                tracing::error!(%error, "a page could not be made");
                (StatusCode::INTERNAL_SERVER_ERROR, "The hub could not do that")
            }
        };
        Self { status, title, what: error.to_string() }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.status, pages::problem::page(self.title, &self.what)).into_response()
    }
}
