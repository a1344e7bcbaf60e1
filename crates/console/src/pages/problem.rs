//! A problem, in words, with a way on.

use maud::{Markup, html};

use crate::page::bare;
use crate::text::Shown;

/// What went wrong, for somebody who wanted something done.
pub fn page(title: &str, what: &str) -> Markup {
    bare(
        title,
        &html! {
            h1 { (title) }
            div.notice.notice--bad role="alert" { p { (Shown(what)) } }
            p { "Go back with your browser, or " a href="/" { "to the incidents" } "." }
        },
    )
}
