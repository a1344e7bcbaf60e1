//! Who is asking: the session's cookie, and the token that every form of a session carries.
//!
//! The one idea: a handler can't run without a [`SignedIn`], and one that changes something can't run
//! without a [`Posted`] form: both are checked before the handler is called, here and nowhere else.

use std::sync::Arc;

use axum::extract::{Form, FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use cordon_hub::Who;
use cordon_model::time::UtcNanos;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::Desk;
use crate::page::Frame;
use crate::problem::Problem;

/// Cookies in one request that are looked at: a browser sends one of ours.
const COOKIES_LOOKED_AT: usize = 32;

/// A signed-in person's request.
pub struct SignedIn {
    /// What the hub knows the person as.
    pub who: Who,
    /// The session's secret, as the cookie carries it.
    pub secret: String,
}

impl SignedIn {
    /// The token that the session's forms carry. It follows from the secret, which no page can read, so
    /// nothing more has to be kept.
    pub fn csrf(&self) -> String {
        let digest = Sha256::new()
            .chain_update(b"cordon console form v1\0")
            .chain_update(self.secret.as_bytes())
            .finalize();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The frame of this person's pages.
    ///
    /// # Errors
    /// If the hub's store fails.
    pub async fn frame(&self, desk: &Desk) -> Result<Frame, Problem> {
        Ok(Frame {
            person: self.who.name().to_owned(),
            csrf: self.csrf(),
            status: desk.hub.status().await?,
            now: UtcNanos::now(),
        })
    }
}

impl FromRequestParts<Arc<Desk>> for SignedIn {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, desk: &Arc<Desk>) -> Result<Self, Response> {
        for secret in secrets(&parts.headers, desk.cookie_name()) {
            match desk.hub.session(&secret).await {
                Ok(Some(session)) => return Ok(Self { who: Who::of(&session), secret }),
                Ok(None) => {}
                Err(error) => return Err(Problem::from(error).into_response()),
            }
        }
        if parts.method == Method::GET && parts.uri.path() != "/live" {
            return Err(Redirect::to("/sign-in").into_response());
        }
        Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "You are not signed in",
            "the session has ended, and nothing was done: sign in and do it again",
        )
        .into_response())
    }
}

/// A form whose session and token are checked.
pub struct Posted<T> {
    /// Who sent it.
    pub by: SignedIn,
    /// What it says.
    pub form: T,
}

/// A form of a session.
pub trait SessionForm: DeserializeOwned {
    /// The token that it came with.
    fn csrf(&self) -> &str;
}

impl<T: SessionForm> FromRequest<Arc<Desk>> for Posted<T> {
    type Rejection = Response;

    async fn from_request(request: Request, desk: &Arc<Desk>) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let by = SignedIn::from_request_parts(&mut parts, desk).await?;
        let request = Request::from_parts(parts, body);
        let Form(form) = Form::<T>::from_request(request, desk).await.map_err(|rejection| {
            let status = rejection.status();
            Problem::new(status, "The form can’t be taken", rejection.body_text()).into_response()
        })?;
        if !bool::from(form.csrf().as_bytes().ct_eq(by.csrf().as_bytes())) {
            return Err(Problem::new(
                StatusCode::FORBIDDEN,
                "The form is not of your session",
                "nothing was done: load the page again, and send it from there",
            )
            .into_response());
        }
        Ok(Self { by, form })
    }
}

/// The values of our cookie.
fn secrets(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .take(COOKIES_LOOKED_AT)
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| value.to_owned())
        .collect()
}

impl Desk {
    /// With TLS before it the prefix makes browsers refuse the cookie from anywhere else.
    fn cookie_name(&self) -> &'static str {
        if self.is_behind_tls { "__Host-cordon" } else { "cordon" }
    }

    /// The header that begins a session in the browser, until `expires_at`.
    pub(crate) fn cookie(&self, secret: &str, seconds: u64) -> HeaderValue {
        let secure = if self.is_behind_tls { "; Secure" } else { "" };
        let name = self.cookie_name();
        let cookie = format!(
            "{name}={secret}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}"
        );
        // A secret is base64url: it is always a header's value. If it ever were not, nobody signs in.
        HeaderValue::from_str(&cookie).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_cookies_only_ours_are_looked_at() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=1; cordon=x; cordonx=2"));
        headers.append(header::COOKIE, HeaderValue::from_static("cordon=y"));
        headers.append(header::COOKIE, HeaderValue::from_bytes(b"cordon=\xff").unwrap());
        assert_eq!(secrets(&headers, "cordon"), ["x", "y"]);
    }
}
