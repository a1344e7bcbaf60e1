//! A question to people, and the form to answer it.

use cordon_model::approval::Needs;
use cordon_model::time::UtcNanos;
use cordon_respond::approval::{Approval, ApprovalState};
use maud::{Markup, html};

use crate::page::{Frame, Place, facts, reason_field};
use crate::text::{Shown, when};
use crate::words;

/// A question on a page of its own, with what an answer would do.
///
/// `night`: whom the policy names for this hour, where only they may agree. `previews`: what each part of a yes does.
pub fn page(
    frame: &Frame,
    question: &Approval,
    machine: &str,
    night: Option<&[String]>,
    previews: &[Markup],
) -> Markup {
    let title = title(question, machine);
    let main = html! {
        h1 { (Shown(&title)) }
        @if let Some(incident) = question.incident {
            p { a href={ "/incidents/" (incident) } { "The incident that it belongs to" } }
        }
        @if question.state != ApprovalState::Open { p { (state(question)) } }
        (about(question, machine, frame.now))
        @if question.state == ApprovalState::Open {
            @for preview in previews { (preview) }
            (answer(frame, question, night))
        }
    };
    frame.still(&title, Place::Incidents, &main)
}

fn title(question: &Approval, machine: &str) -> String {
    let asked = words::instruction(&question.instruction, machine);
    match question.also.len() {
        0 => format!("{asked}?"),
        more => format!("{asked}, and {more} more?"),
    }
}

/// All that a yes does.
fn asked(question: &Approval, machine: &str) -> Markup {
    let all = std::iter::once(&question.instruction).chain(&question.also);
    html! {
        ul.plain { @for instruction in all { li { (Shown(&words::instruction(instruction, machine))) } } }
    }
}

/// The question in short, with a link to answer it.
pub fn card(question: &Approval, machine: &str, now: UtcNanos) -> Markup {
    html! {
        article.card.card--question[question.state == ApprovalState::Open] {
            h3 { (Shown(&title(question, machine))) " " (state(question)) }
            (about(question, machine, now))
            @if question.state == ApprovalState::Open {
                p.actions {
                    a.act href={ "/questions/" (question.id) } {
                        "Look and answer…" span.heard { " " (Shown(machine)) }
                    }
                }
            }
        }
    }
}

fn about(question: &Approval, machine: &str, now: UtcNanos) -> Markup {
    let answers = html! {
        @if question.answers.is_empty() { "Nobody yet" }
        @for (index, answer) in question.answers.iter().enumerate() {
            @if index > 0 { ", " }
            (Shown(&answer.person.name)) " said " (if answer.is_approved { "yes" } else { "no" })
        }
    };
    let withdrawn = question.withdrawn.as_deref();
    let yes = question.answers.iter().filter(|answer| answer.is_approved).count();
    html! {
        @if let Some(why) = withdrawn {
            p { "Nobody has to answer it any more: " (Shown(why)) "." }
        }
        (facts(&[
            ("A yes does", asked(question, machine)),
            ("Machine", html! { a href={ "/machines/" (question.machine) } { (Shown(machine)) } }),
            ("Why you are asked", html! { (Shown(&question.why)) }),
            ("Found since you were asked", html! {
                @for (index, since) in question.since.iter().enumerate() {
                    @if index > 0 { "; " }
                    (Shown(&since.in_words()))
                }
                @if question.since.is_empty() { "Nothing that is new" } @else {
                    ". A no leaves that open: you are asked about it at once after it"
                }
            }),
            ("Asked by", html! {
                @match &question.asked_by { Some(person) => (Shown(person)), None => "The policy" }
            }),
            ("Asked", when(question.asked_at, now)),
            ("Open until", when(question.expires_at, now)),
            ("Who has to agree", html! {
                (question.needs)
                @if question.needs.count() > 1 {
                    ": " (yes) " of " (question.needs.count()) " said yes"
                }
                @if question.lacks_a_clinical_one() { ", and nobody clinical yet" }
            }),
            ("Answers", answers),
        ]))
        @if let Some(until) = question.no_until {
            p {
                "The no holds until " (when(until, now)) ": what it covers is not asked again until then, however "
                "often it is found. What is new on the machine is."
            }
        }
    }
}

fn state(question: &Approval) -> Markup {
    match question.state {
        ApprovalState::Open => words::mark("yellow", "Waits for an answer"),
        ApprovalState::Approved => words::mark("green", "Approved"),
        ApprovalState::Declined => words::mark("grey", "Declined"),
        ApprovalState::Expired if question.withdrawn.is_some() => words::mark("grey", "Withdrawn"),
        ApprovalState::Expired => words::mark("orange", "Nobody answered in time"),
    }
}

fn answer(frame: &Frame, question: &Approval, night: Option<&[String]>) -> Markup {
    let needs_more = question.needs == Needs::TwoKeysOneClinical;
    html! {
        section aria-labelledby="answer" {
            h2 #answer { "Your answer" }
            @if needs_more {
                p {
                    "This needs two people, one of them clinical, each with a key of their own. This version "
                    "can’t check such keys, so it takes a “no” only."
                }
            }
            @if let Some(people) = night {
                p {
                    "At this hour the policy takes a yes of " strong { (Shown(&people.join(", "))) }
                    " only. Anybody may say no."
                }
            }
            (frame.form(&format!("/questions/{}", question.id), &html! {
                (reason_field("Why"))
                div.choosing {
                    button.nhsuk-button type="submit" name="answer" value="approve" { "Approve" }
                    button.nhsuk-button.nhsuk-button--secondary type="submit" name="answer" value="decline" {
                        "Decline"
                    }
                }
            }))
        }
    }
}
