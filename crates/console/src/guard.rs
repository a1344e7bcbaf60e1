//! What every request passes before anything looks at it, and what every answer carries.
//!
//! The one idea: a browser is a confused deputy. The `Host` check stops a foreign name that resolves to
//! this address (DNS rebinding), the origin check stops foreign pages from sending forms, and the answer's
//! headers stop the page itself from loading, sending or being framed by anything but this console.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::Desk;
use crate::problem::Problem;

/// How long one answer may take: the signer is waited for 10 s within it.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// On every answer. `style-src` and `script-src` have no `unsafe-inline`: no page has any.
const HEADERS: [(HeaderName, &str); 8] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
         form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-embedder-policy"), "require-corp"),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), microphone=(), geolocation=(), usb=(), serial=(), payment=()",
    ),
];

/// Around everything.
pub async fn guard(State(desk): State<Arc<Desk>>, request: Request, next: Next) -> Response {
    let mut response = match check(&desk, &request) {
        Ok(()) => match tokio::time::timeout(ANSWER_WITHIN, next.run(request)).await {
            Ok(response) => response,
            Err(_) => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "It took too long",
                "the hub did not answer in time: look whether it was done before doing it again",
            )
            .into_response(),
        },
        Err(problem) => problem.into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let is_kept = headers.contains_key(header::CACHE_CONTROL);
    if !is_kept {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

fn check(desk: &Desk, request: &Request) -> Result<(), Problem> {
    // An absolute address in the request line must not say otherwise than the header.
    let authority = request.uri().authority().map(|authority| authority.as_str());
    let named = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .filter(|host| authority.is_none_or(|authority| authority.eq_ignore_ascii_case(host)))
        .map(str::to_ascii_lowercase);
    let Some(host) = named.filter(|host| desk.hosts.contains(host)) else {
        return Err(Problem::new(
            StatusCode::MISDIRECTED_REQUEST,
            "This console has another name",
            "the address in your browser is none that this console goes by",
        ));
    };
    if *request.method() == Method::POST && !is_own_origin(desk, &host, request.headers()) {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "The form was sent by another page",
            "nothing was done: only this console’s own pages may send it forms",
        ));
    }
    Ok(())
}

/// Whether the browser says that one of our own pages sent the form. Under `no-referrer` browsers send
/// `Origin: null` even from our own pages, so then `Sec-Fetch-Site` has to say it.
fn is_own_origin(desk: &Desk, host: &str, headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let scheme = if desk.is_behind_tls { "https" } else { "http" };
    match (text("sec-fetch-site"), text("origin")) {
        (Some("same-origin"), None | Some("null")) => true,
        (Some("same-origin") | None, Some(origin)) => origin == format!("{scheme}://{host}"),
        _ => false,
    }
}
