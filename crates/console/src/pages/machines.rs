//! Machines and their state, of how many, and how old that is.

use cordon_hub::view::{EventCounts, MachineRow};
use cordon_model::time::UtcNanos;
use cordon_store::Listed;
use maud::{Markup, html};

use crate::page::{Frame, Place, Table, more};
use crate::pages::incidents::summary;
use crate::text::{Shown, count};
use crate::words;

/// The list.
pub fn page(frame: &Frame, listed: &Listed<MachineRow>, next: Option<&str>) -> Markup {
    let main = html! {
        h1 { "Machines" }
        (summary(&frame.status))
        @if listed.items.is_empty() {
            p { "None on this page. A machine appears when it is enrolled: " code { "cordon enrol-token" } " makes a token for it." }
        } @else {
            (Table {
                caption: html! { "Machines by name" },
                columns: &["Machine", "Isolation", "Contact", "Tier", "Group", "Gaps"],
                rows: listed.items.iter().map(|row| cells(row, frame.now)).collect(),
            })
        }
        (more(listed.items.len(), listed.total, "machine", next))
    };
    frame.live("Machines", Place::Machines, &main)
}

fn cells(row: &MachineRow, now: UtcNanos) -> Vec<Markup> {
    vec![
        html! {
            a href={ "/machines/" (row.id) } { (Shown(&row.name)) }
            @if row.host != row.name { br; span.aside { "calls itself " (Shown(&row.host)) } }
        },
        words::isolation(row),
        words::contact(row.contact, now),
        html! { (words::tier(row.tier)) },
        html! {
            @match &row.group { Some(group) => (Shown(group)), None => "Not said" }
            @if let Some(kind) = &row.kind { br; span.aside { (Shown(kind)) } }
        },
        html! {
            @match row.gaps.len() {
                0 => "No gap reported",
                n => { a href={ "/machines/" (row.id) "#coverage" } { (count(n, "gap")) } ": " (gap_names(row)) }
            }
            @if !row.to_confirm.is_empty() {
                br; a href={ "/machines/" (row.id) "#names" } { strong { "A lifeline’s name to confirm" } }
            }
            @if let Some(EventCounts { lost: lost @ 1.., .. }) = row.counts {
                br; strong { (count(lost, "event")) " lost" }
            }
        },
    ]
}

fn gap_names(row: &MachineRow) -> Markup {
    html! {
        @for (index, gap) in row.gaps.iter().enumerate() {
            @if index > 0 { ", " }
            (Shown(&gap.what))
        }
    }
}
