//! Signing in by a one-time link.
//!
//! The one idea: opening the link uses nothing up (programs that look at links ahead do no harm); one
//! press of the button does. The press sends the token in a form's body, and the script takes it out of
//! the address bar.

use maud::{Markup, html};

use crate::page::bare;

/// Asks for the token, or for one press if the link brought it.
pub fn page(token: Option<&str>, problem: Option<&str>) -> Markup {
    bare(
        "Sign in",
        &html! {
            h1 { "Sign in" }
            @if let Some(problem) = problem {
                div.notice.notice--bad role="alert" { h2 { "That did not work" } p { (problem) } }
            }
            form #sign-in method="post" action="/sign-in" {
                @if let Some(token) = token {
                    p { "This one-time link signs you in on this browser. It works once." }
                    input type="hidden" name="token" value=(token);
                } @else {
                    div.nhsuk-form-group {
                        label.nhsuk-label for="token" { "One-time token" }
                        div.nhsuk-hint #token-hint {
                            "The end of the sign-in link, after # or “token=”. On the hub’s machine, "
                            code { "cordon sign-in" } " makes a new link."
                        }
                        input.nhsuk-input #token name="token" type="password" required maxlength="200"
                            autocomplete="off" aria-describedby="token-hint";
                    }
                }
                button.nhsuk-button type="submit" { "Sign in" }
            }
            p { "Signed in already, and came from another page? " a href="/" { "Go to the incidents" } "." }
        },
    )
}

/// After signing out.
pub fn signed_out() -> Markup {
    bare(
        "Signed out",
        &html! {
            h1 { "You are signed out" }
            p { "The session is ended on the hub as well. To sign in again, make a new link with " code { "cordon sign-in" } "." }
        },
    )
}
