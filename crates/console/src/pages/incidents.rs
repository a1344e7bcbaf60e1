//! Incidents, those that nobody has first; and what else people must see.

use cordon_hub::SILENT_AFTER;
use cordon_hub::view::{Attention, HubStatus, IncidentRow};
use cordon_model::asset::ClinicalTier;
use cordon_model::incident::IncidentState;
use cordon_model::time::UtcNanos;
use cordon_respond::hub_core::Notice;
use cordon_store::Listed;
use maud::{Markup, html};

use crate::page::{Frame, Place, Table, more};
use crate::text::{Shown, age_only, count, span, utc};
use crate::words;

/// Which incidents a page lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Open ones: nobody's first.
    Open,
    /// Closed ones.
    Closed,
}

/// An incident with the highest tier of its machines; `None`: of one of them nobody has said.
pub type Rated = (IncidentRow, Option<ClinicalTier>);

/// What the page shows.
pub struct Incidents<'a> {
    /// Which.
    pub which: Which,
    /// Open ones that nobody has; empty on later pages.
    pub unowned: &'a Listed<Rated>,
    /// The others.
    pub others: &'a Listed<Rated>,
    /// Where the first list goes on, as an address.
    pub unowned_next: Option<String>,
    /// Where the second does.
    pub others_next: Option<String>,
    /// What people must see.
    pub attention: &'a [Attention],
}

/// The list.
pub fn page(frame: &Frame, view: &Incidents<'_>) -> Markup {
    let title = match view.which {
        Which::Open => "Incidents",
        Which::Closed => "Closed incidents",
    };
    let main = html! {
        h1 { (title) }
        (summary(&frame.status))
        @if view.which == Which::Open {
            (attention(view.attention, frame.now))
            (list("Nobody has these", "unowned", view.unowned, view.unowned_next.as_deref(), frame.now))
            (list("Somebody has these", "owned", view.others, view.others_next.as_deref(), frame.now))
            p { a href="/incidents/closed" { "Closed incidents" } }
        } @else {
            (list("Closed", "closed", view.others, view.others_next.as_deref(), frame.now))
            p { a href="/" { "Open incidents" } }
        }
    };
    frame.live(title, Place::Incidents, &main)
}

/// How much there is, of how many, and how much of it was heard of (law 12).
pub fn summary(status: &HubStatus) -> Markup {
    let counts = &status.counts;
    let silent = counts.machines.saturating_sub(counts.machines_heard);
    html! {
        ul.sums {
            li { strong { (counts.incidents_unowned) } " of " (count(counts.incidents_open, "open incident")) " that nobody has" }
            li { strong { (counts.machines_contained) } " of " (count(counts.machines, "machine")) " with an isolation that acts, proven or not" }
            li { strong { (counts.machines_heard) } " of " (count(counts.machines, "machine")) " heard in the last " (span(SILENT_AFTER)) }
            @if counts.machines_never_heard > 0 {
                li { strong { (counts.machines_never_heard) } " of " (count(counts.machines, "machine")) " never heard" }
            }
        }
        @if counts.machines == 0 {
            p.evidence { "No machine is enrolled: nothing is watched, so nothing can be said." }
        } @else {
            p.evidence {
                "Known from what " (counts.machines_heard) " of " (count(counts.machines, "machine"))
                " said in the last " (span(SILENT_AFTER))
                @if silent > 0 {
                    "; of the other " (silent) " nothing is known since the hub last heard them ("
                    a href="/machines" { "see when" } ")"
                }
                ". " (count(counts.findings, "finding")) " in all"
                @if counts.findings_ungrouped > 0 { ", " (counts.findings_ungrouped) " of them not sorted into incidents yet" }
                "."
            }
        }
    }
}

fn attention(attention: &[Attention], now: UtcNanos) -> Markup {
    html! {
        @if !attention.is_empty() {
            section.notice.notice--warn aria-labelledby="attention" {
                h2 #attention { "To be seen: " (attention.len()) }
                ul.plain {
                    @for item in attention.iter().take(ATTENTION_SHOWN) {
                        li { (notice(item)) " (" (age_only(item.at, now)) ")" }
                    }
                }
                @if attention.len() > ATTENTION_SHOWN {
                    p { "And " (attention.len() - ATTENTION_SHOWN) " more." }
                }
            }
        }
    }
}

/// Notices above the list: five lines leave the list on the first screen.
const ATTENTION_SHOWN: usize = 5;

fn notice(item: &Attention) -> Markup {
    let machine = html! {
        @if let Some((id, name)) = &item.machine { a href={ "/machines/" (id) } { (Shown(name)) } }
        @else { "a machine" }
    };
    let others = html! { @if item.and_more > 0 { " and " (count(item.and_more, "other")) } };
    html! {
        @match &item.notice {
            Notice::Asked(question) => {
                a href={ "/questions/" (question) } { "A question waits for an answer" } ": " (machine)
                @if item.and_more > 0 { ", and " (item.and_more) " more of the same incident" }
            }
            Notice::Unanswered(question) => {
                a href={ "/questions/" (question) } { "Nobody answered a question in time" } ": " (machine)
            }
            Notice::NotBlocked { incident, why, .. } => {
                a href={ "/incidents/" (incident) } { "Seen and not blocked" }
                " on " (machine) (others) ": " (Shown(why))
            }
            Notice::NotInForce { why, .. } => {
                "A measure on " (machine) " is not shown to be in force: " (Shown(why))
            }
            Notice::OpenedByCode { code, at, .. } => {
                "Somebody opened " (machine) " by a break-glass code (number " (code) ") at " (utc(*at))
                ", by its clock: find out who and why, and look at it"
            }
            Notice::NameMoved { machine: id, names, commands } => {
                a href={ "/machines/" (id) "#names" } { "A lifeline’s name answers with what nobody has signed for" }
                " (" (machine) "): " (Shown(&names.join(", "))) "; confirm it, or it is cut in an isolation: "
                @for command in commands { code { (Shown(command)) } " " }
            }
            Notice::NobodyHasIt(incident) => {
                a href={ "/incidents/" (incident) } { "Serious, and nobody has it" } ": " (machine) (others)
            }
            Notice::LeaseEnds { within, .. } => {
                "The lease on " (machine) " ends within " (span(*within))
                "; then it steps down, unless somebody renews or releases it"
            }
        }
    }
}

fn list(
    title: &str,
    id: &str,
    listed: &Listed<Rated>,
    next: Option<&str>,
    now: UtcNanos,
) -> Markup {
    html! {
        section aria-labelledby=(id) {
            h2 id=(id) { (title) ": " (listed.total) }
            @if !listed.unreadable.is_empty() {
                div.notice.notice--bad {
                    p { (count(listed.unreadable.len(), "incident")) " can’t be read, and the rest is below:" }
                    ul.plain {
                        @for row in &listed.unreadable { li { (Shown(&row.id)) ": " (Shown(&row.reason)) } }
                    }
                }
            }
            @if listed.items.is_empty() {
                p { @if listed.unreadable.is_empty() { "None." } @else { "None that can be read." } }
            } @else {
                (Table {
                    caption: html! { "The most serious of these first" },
                    columns: &["Incident", "Level", "Tier", "Machines", "Isolation", "Owner", "Last event"],
                    rows: listed.items.iter().map(|rated| cells(rated, now)).collect(),
                })
                (more(listed.items.len(), listed.total, "incident", next))
            }
        }
    }
}

fn cells((row, tier): &Rated, now: UtcNanos) -> Vec<Markup> {
    let incident = &row.incident;
    let machines = incident.machines.len();
    vec![
        html! {
            a href={ "/incidents/" (incident.id) } { (Shown(&incident.title)) }
            @if row.questions > 0 { " " (words::mark("yellow", &count(row.questions, "question"))) }
        },
        words::level(incident.level),
        html! { (words::tier(*tier)) },
        html! {
            @for (index, name) in row.machine_names.iter().enumerate() {
                @if index > 0 { ", " } (Shown(name))
            }
            @if machines > row.machine_names.len() { " and " (machines - row.machine_names.len()) " more" }
        },
        html! { (row.isolated) " of " (machines) " isolated" },
        html! {
            @match (&incident.owner, incident.state) {
                (Some(owner), _) => (Shown(owner)),
                (None, IncidentState::Closed) => "Closed",
                (None, _) => strong { "Nobody" }
            }
        },
        age_only(incident.last, now),
    ]
}
