//! The frame around every page: landmarks, navigation, who is signed in, and how fresh the page is.
//!
//! The one idea: everything works as plain pages, links and forms; the one small script only fetches the
//! page again when the hub has news, and says whether it is doing so.

use cordon_hub::view::HubStatus;
use cordon_model::time::UtcNanos;
use maud::{DOCTYPE, Markup, Render, html};

use crate::assets;
use crate::text::{Shown, count, plain, utc};

/// Where the page is in the navigation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Incidents.
    Incidents,
    /// Machines.
    Machines,
    /// The policy.
    Policy,
    /// The ledger, and how the hub is.
    Ledger,
}

/// What every page of a signed-in person shows.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Sign-in name.
    pub person: String,
    /// The session's CSRF token.
    pub csrf: String,
    /// How the hub is.
    pub status: HubStatus,
    /// When the page was made.
    pub now: UtcNanos,
}

impl Frame {
    /// A page that follows the hub's news.
    pub fn live(&self, title: &str, place: Place, main: &Markup) -> Markup {
        self.whole(title, place, true, main)
    }

    /// A page that stays as it is: a person decides something on it.
    pub fn still(&self, title: &str, place: Place, main: &Markup) -> Markup {
        self.whole(title, place, false, main)
    }

    /// A form of this session; `method` is POST and `fields` are inside.
    pub fn form(&self, action: &str, fields: &Markup) -> Markup {
        html! {
            form method="post" action=(action) {
                input type="hidden" name="csrf" value=(self.csrf);
                (fields)
            }
        }
    }

    fn whole(&self, title: &str, place: Place, is_live: bool, main: &Markup) -> Markup {
        let unowned = self.status.counts.incidents_unowned;
        document(
            title,
            &html! {
                header.bar {
                    div.bar__row {
                        a.bar__name href="/" { "Cordon" }
                        span.bar__organisation {
                            (Shown(&self.status.organisation.name)) " (" (self.status.organisation.code.as_str()) ")"
                        }
                        div.bar__person {
                            span { "Signed in: " (Shown(&self.person)) }
                            (self.form("/sign-out", &html! {
                                button.bar__button type="submit" { "Sign out" }
                            }))
                        }
                    }
                    nav aria-label="Main" {
                        ul.bar__links {
                            (link(place, Place::Incidents, "/", "Incidents", (unowned > 0).then(|| {
                                format!("{unowned} that nobody has")
                            })))
                            (link(place, Place::Machines, "/machines", "Machines", None))
                            (link(place, Place::Policy, "/policy", "Policy", None))
                            (link(place, Place::Ledger, "/ledger", "Ledger", None))
                        }
                    }
                }
                p.freshness #freshness data-live[is_live] {
                    span #freshness-state { "Page of " (utc(self.now)) ". " }
                    span #freshness-hint {
                        @if is_live { "Load it again for what is new." } @else { "It does not change by itself." }
                    }
                }
                main #main tabindex="-1" {
                    @if let Some(why) = &self.status.signer_away {
                        div.notice.notice--bad {
                            h2 { "The signer does not answer" }
                            p {
                                "Nothing can be isolated or released until it does. What is isolated stays "
                                "isolated: when a lease ends full becomes segment, and segment goes on. "
                                "What was seen: " (Shown(why))
                            }
                        }
                    }
                    @if let Some(why) = &self.status.ledger_alarm {
                        div.notice.notice--bad {
                            h2 { "The ledger is not what was signed" }
                            p {
                                "It was altered, or put back from a backup; the signer signs it no more. Leave "
                                "the hub’s disk as it is, and have somebody find out: " code { "cordon verify" }
                                " on the hub’s machine says more. What is isolated stays so, and machines are "
                                "isolated and released as ever. What was seen: " (Shown(why))
                            }
                        }
                    }
                    @if let Some(why) = &self.status.held_up {
                        div.notice.notice--bad {
                            h2 { "Descriptions, addresses, guidance and codes wait" }
                            p {
                                "Isolations and releases do not. Find out what the hub had signed: the signer’s "
                                "ledger has each. What was seen: " (Shown(why))
                            }
                        }
                    }
                    @if let Some(what) = &self.status.set_aside {
                        div.notice.notice--bad {
                            h2 { "Something that was kept can’t be read" }
                            p { (Shown(what)) "." }
                        }
                    }
                    (main)
                }
            },
        )
    }
}

fn link(at: Place, place: Place, href: &str, word: &str, aside: Option<String>) -> Markup {
    html! {
        li {
            a href=(href) aria-current=[(at == place).then_some("page")] {
                (word)
                @if let Some(aside) = aside { " " span.bar__count { (aside) } }
            }
        }
    }
}

/// A page for somebody who is not signed in, or for a problem before anybody is known.
pub fn bare(title: &str, main: &Markup) -> Markup {
    document(
        title,
        &html! {
            header.bar { div.bar__row { a.bar__name href="/" { "Cordon" } } }
            main #main tabindex="-1" { (main) }
        },
    )
}

fn document(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="robots" content="noindex";
                title { (plain(title)) " – Cordon" }
                link rel="icon" href=(assets::icon().address) type="image/svg+xml";
                @for sheet in assets::style_sheets() { link rel="stylesheet" href=(sheet.address); }
                script src=(assets::script().address) defer {}
            }
            body {
                a.skip href="#main" { "Skip to the main content" }
                (body)
                footer.foot {
                    p { "Cordon " (env!("CARGO_PKG_VERSION")) ". Times are UTC." }
                }
            }
        }
    }
}

/// A table that becomes a list of cards on a narrow screen; the roles keep it a table for those who
/// listen to it.
pub struct Table<'a> {
    /// What it holds, for those who can't see it at a glance.
    pub caption: Markup,
    /// Its columns.
    pub columns: &'a [&'a str],
    /// Its rows, as many cells as columns; the first names the row.
    pub rows: Vec<Vec<Markup>>,
}

impl Render for Table<'_> {
    fn render(&self) -> Markup {
        html! {
            table.list role="table" {
                caption { (self.caption) }
                thead role="rowgroup" {
                    tr role="row" {
                        @for column in self.columns { th scope="col" role="columnheader" { (column) } }
                    }
                }
                tbody role="rowgroup" {
                    @for row in &self.rows {
                        tr role="row" {
                            @for (index, (cell, column)) in row.iter().zip(self.columns).enumerate() {
                                @if index == 0 {
                                    th scope="row" role="rowheader" { (cell) }
                                } @else {
                                    td role="cell" {
                                        span.list__column aria-hidden="true" { (column) }
                                        div { (cell) }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Names with their values.
pub fn facts(facts: &[(&str, Markup)]) -> Markup {
    html! {
        dl.facts {
            @for (name, value) in facts {
                div { dt { (name) } dd { (value) } }
            }
        }
    }
}

/// A field of a form with its label and, if it needs one, a hint.
pub fn text_field(name: &str, label: &str, hint: &str, value: &str, lines: u32) -> Markup {
    let hint_id = format!("{name}-hint");
    let described = (!hint.is_empty()).then_some(hint_id.as_str());
    html! {
        div.nhsuk-form-group {
            label.nhsuk-label for=(name) { (label) }
            @if let Some(id) = described { div.nhsuk-hint id=(id) { (hint) } }
            @if lines == 1 {
                input.nhsuk-input id=(name) name=(name) value=(value) aria-describedby=[described]
                    autocomplete="off" maxlength="1024";
            } @else {
                textarea.nhsuk-textarea id=(name) name=(name) rows=(lines) aria-describedby=[described] {
                    // A parser takes away the first line break of a text area.
                    "\n" (value)
                }
            }
        }
    }
}

/// The reason that every act needs.
pub fn reason_field(label: &str) -> Markup {
    html! {
        div.nhsuk-form-group {
            label.nhsuk-label for="reason" { (label) }
            div.nhsuk-hint #reason-hint { "It is kept in the ledger with your name. No patients’ details." }
            textarea.nhsuk-textarea #reason name="reason" rows="2" required maxlength="1000"
                aria-describedby="reason-hint" {}
        }
    }
}

/// Where a list goes on.
pub fn more(shown: usize, total: u64, word: &str, next: Option<&str>) -> Markup {
    html! {
        p.more {
            "Shown: " (shown) " of " (count(total, word)) "."
            @if let Some(next) = next { " " a href=(next) rel="next" { "Next page" } }
        }
    }
}
