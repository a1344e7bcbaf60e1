//! One incident: what it is, what waits for an answer, its machines, what was done, and its timeline.

use std::collections::HashMap;

use cordon_hub::view::{IncidentView, MachineRow, TimelineEntry};
use cordon_model::ids::MachineId;
use cordon_model::incident::IncidentState;
use cordon_model::record::{Actor, Record};
use cordon_model::time::UtcNanos;
use cordon_respond::approval::ApprovalState;
use maud::{Markup, html};

use crate::page::{Frame, Place, Table, facts, more, reason_field};
use crate::pages::{finding, measure, question};
use crate::text::{Shown, count, when};
use crate::words;

/// The page; `timeline_next` is the address of the timeline's next part.
pub fn page(frame: &Frame, view: &IncidentView, timeline_next: Option<&str>) -> Markup {
    let incident = &view.incident;
    let now = frame.now;
    let names: HashMap<MachineId, &str> =
        view.machines.iter().map(|row| (row.id, row.name.as_str())).collect();
    let name = |id: MachineId| names.get(&id).copied().unwrap_or("a machine");
    let (open, answered): (Vec<_>, Vec<_>) =
        view.questions.iter().partition(|question| question.state == ApprovalState::Open);
    let main = html! {
        p { a.back href="/" { "All incidents" } }
        h1 { (Shown(&incident.title)) }
        p { (words::level(incident.level)) " " (words::incident_state(incident.state)) }
        (facts(&[
            ("Owner", html! {
                @match &incident.owner { Some(owner) => (Shown(owner)), None => strong { "Nobody" } }
            }),
            ("First event", when(incident.first, now)),
            ("Last event", when(incident.last, now)),
            ("Findings", html! { (incident.finding_count) }),
            ("Machines", html! { (incident.machines.len()) }),
            ("Risk", html! { (incident.risk) " (grows with each new kind of finding)" }),
        ]))
        (work(frame, view))
        @if !open.is_empty() {
            section aria-labelledby="questions" {
                h2 #questions { "Questions that wait: " (open.len()) }
                @for question in open { (question::card(question, name(question.machine), now)) }
            }
        }
        (machines(view, now))
        section aria-labelledby="measures" {
            h2 #measures { "Measures: " (view.measures.len()) }
            @if view.measures.is_empty() { p { "Nothing was done to a machine in this incident." } }
            @for measure in &view.measures {
                (measure::card(measure, name(measure.measure.machine), None, now))
            }
        }
        @if !answered.is_empty() {
            section aria-labelledby="answered" {
                h2 #answered { "Questions that are closed: " (answered.len()) }
                @for question in answered { (question::card(question, name(question.machine), now)) }
            }
        }
        section aria-labelledby="timeline" {
            h2 #timeline { "Timeline: " (count(view.timeline_total, "entry").replace("entrys", "entries")) }
            ol.timeline {
                @for entry in &view.timeline { (timeline_entry(entry, &name, now)) }
            }
            @if timeline_next.is_some() || view.timeline.len() as u64 != view.timeline_total {
                (more(view.timeline.len(), view.timeline_total, "timeline row", timeline_next))
            }
        }
    };
    frame.live(&incident.title, Place::Incidents, &main)
}

fn work(frame: &Frame, view: &IncidentView) -> Markup {
    let incident = &view.incident;
    let address = |act: &str| format!("/incidents/{}/{act}", incident.id);
    let is_mine = incident.owner.as_deref() == Some(frame.person.as_str());
    html! {
        section.work aria-labelledby="work" {
            h2 #work { "Work on it" }
            @if incident.state == IncidentState::Closed {
                p { "It is closed. A new finding of the same story opens a new incident." }
            } @else {
                @if is_mine {
                    p { "You have it." }
                } @else {
                    (frame.form(&address("take"), &html! {
                        button.nhsuk-button type="submit" {
                            @if incident.owner.is_some() { "Take it over" } @else { "Take it" }
                        }
                    }))
                }
                details.nhsuk-details #comment {
                    summary.nhsuk-details__summary { span.nhsuk-details__summary-text { "Comment" } }
                    div.nhsuk-details__text {
                        (frame.form(&address("comment"), &html! {
                            div.nhsuk-form-group {
                                label.nhsuk-label for="comment-text" { "Comment" }
                                div.nhsuk-hint #comment-hint { "It is kept in the ledger with your name. No patients’ details." }
                                textarea.nhsuk-textarea #comment-text name="comment" rows="3" required
                                    maxlength="1000" aria-describedby="comment-hint" {}
                            }
                            button.nhsuk-button.nhsuk-button--secondary type="submit" { "Add the comment" }
                        }))
                    }
                }
                details.nhsuk-details #close {
                    summary.nhsuk-details__summary { span.nhsuk-details__summary-text { "Close it" } }
                    div.nhsuk-details__text {
                        p { "Closing releases nothing: what is isolated stays so until it is released." }
                        (frame.form(&address("close"), &html! {
                            (reason_field("Why it is done"))
                            button.nhsuk-button.nhsuk-button--secondary type="submit" { "Close the incident" }
                        }))
                    }
                }
            }
        }
    }
}

fn machines(view: &IncidentView, now: UtcNanos) -> Markup {
    let total = view.incident.machines.len();
    html! {
        section aria-labelledby="machines" {
            h2 #machines { "Machines: " (total) }
            (Table {
                caption: html! { "Machines of this incident, in the order in which they joined" },
                columns: &["Machine", "Tier", "Contact", "Isolation", "Act"],
                rows: view.machines.iter().map(|row| machine_cells(view, row, now)).collect(),
            })
            @if view.machines.len() < total {
                (more(view.machines.len(), total as u64, "machine", None))
            }
        }
    }
}

fn machine_cells(view: &IncidentView, row: &MachineRow, now: UtcNanos) -> Vec<Markup> {
    vec![
        html! { a href={ "/machines/" (row.id) } { (Shown(&row.name)) } },
        html! { (words::tier(row.tier)) },
        words::contact(row.contact, now),
        words::isolation(row),
        measure::actions(row, Some(view.incident.id)),
    ]
}

fn timeline_entry<'a>(
    entry: &TimelineEntry,
    name: &impl Fn(MachineId) -> &'a str,
    now: UtcNanos,
) -> Markup {
    let record = &entry.record;
    html! {
        li.timeline__entry {
            p.timeline__time { (when(record.at, now)) }
            h3.timeline__deed {
                @match &entry.finding {
                    Some(received) => { (finding::headline(&received.finding)) }
                    None => { (record.deed.in_words()) }
                }
            }
            p {
                (actor(&record.actor, name))
                @if let Some(machine) = record.machine {
                    ", on " a href={ "/machines/" (machine) } { (Shown(name(machine))) }
                }
            }
            @let is_said = entry.finding.as_ref().is_some_and(|f| f.finding.rule.title == record.detail);
            @if !record.detail.is_empty() && !is_said { p.detail { (Shown(&record.detail)) } }
            @if let Some(received) = &entry.finding { (finding::evidence(received, now)) }
        }
    }
}

/// Who did it.
fn actor<'a>(actor: &Actor, name: &impl Fn(MachineId) -> &'a str) -> Markup {
    html! {
        @match actor {
            Actor::Person(person) => { "By " (Shown(person)) }
            Actor::Policy(revision) => { "By the policy (revision " (revision) ")" }
            Actor::Hub => "By the hub",
            Actor::Signer => "By the signer",
            Actor::Agent(machine) => { "By the agent of " (Shown(name(*machine))) }
            Actor::LocalOperator(person) => { "By " (Shown(person)) }
        }
    }
}

/// A ledger line outside any incident.
pub fn record_line(record: &Record, now: UtcNanos) -> Markup {
    html! {
        (when(record.at, now)) ": " (record.deed.in_words()) ". " (actor(&record.actor, &|_| "a machine"))
        @if !record.detail.is_empty() { ": " (Shown(&record.detail)) }
    }
}
