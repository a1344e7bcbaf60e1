//! One machine: how it is, what it is for, what is done to it, and what it reported.

use cordon_hub::view::{Contact, GateView, MachineView, NameNow};
use cordon_model::time::UtcNanos;
use cordon_model::wire::Status;
use cordon_respond::approval::ApprovalState;
use cordon_respond::signer_core::CodeFate;
use maud::{Markup, html};

use crate::page::{Frame, Place, Table, facts, more};
use crate::pages::assignment::protected_lines;
use crate::pages::finding::hex;
use crate::pages::{finding, gate, measure, measuring, question};
use crate::text::{Shown, utc, when};
use crate::words;

/// The page. `judged` is the gate of its return to service, or why nobody can judge it.
pub fn page(frame: &Frame, view: &MachineView, judged: &Result<GateView, String>) -> Markup {
    let row = &view.row;
    let now = frame.now;
    let main = html! {
        p { a.back href="/machines" { "All machines" } }
        h1 { (Shown(&row.name)) }
        p { (words::isolation(row)) }
        @if let Some(lowers) = &row.lowers {
            div.notice.notice--warn #its-word {
                p { strong { "Its own word" } " " (lowers.in_words()) }
            }
        }
        (measure::actions(row, None))
        (facts(&[
            ("Contact", words::contact(row.contact, now)),
            ("Calls itself", html! { (Shown(&row.host)) }),
            ("Enrolled", when(view.enrolled_at, now)),
            ("Agent", html! {
                @match &view.build { Some(build) => (Shown(build)), None => "Not heard yet" }
            }),
            ("Signs by", html! {
                @match &view.receipt_key { Some(key) => code { (hex(key)) }, None => "Not known" }
            }),
            ("Rules", html! {
                @match &view.status {
                    Some(status) => { (status.rules) " loaded" }
                    None => "Not heard yet"
                }
            }),
            ("Events", events(view.status.as_ref(), row.contact, now)),
        ]))
        @for question in view.questions.iter().filter(|q| q.state == ApprovalState::Open) {
            (question::card(question, &row.name, now))
        }
        (gate::section(frame, row, judged))
        (assignment(view))
        (names(view, now))
        (codes(view, now))
        section aria-labelledby="measures" {
            h2 #measures { "Measures, newest first: " (view.measures.len()) }
            @if view.measures.is_empty() { p { "Nothing was ever done to it." } }
            @for measure in &view.measures {
                (measure::card(measure, &row.name, view.status.as_ref(), now))
            }
        }
        (measuring::actions(row.id))
        (coverage(view))
        section aria-labelledby="findings" {
            h2 #findings { "Findings, newest first: " (view.finding_count) }
            @if view.findings.is_empty() { p { "None was received from it." } }
            ol.timeline {
                @for received in &view.findings {
                    li.timeline__entry {
                        p.timeline__time { (when(received.finding.time, now)) }
                        h3.timeline__deed { (finding::headline(&received.finding)) }
                        (finding::evidence(received, now))
                    }
                }
            }
            @if (view.findings.len() as u64) < view.finding_count {
                (more(view.findings.len(), view.finding_count, "finding", None))
            }
        }
    };
    frame.live(&row.name, Place::Machines, &main)
}

/// What its agent saw, and what it knows that it did not see: never one without the other.
fn events(status: Option<&Status>, contact: Contact, now: UtcNanos) -> Markup {
    html! {
        @match (status, contact) {
            (Some(status), Contact::Linked { heard } | Contact::Silent { heard }) => {
                (status.events) " seen, "
                @if status.lost > 0 {
                    strong { (status.lost) " lost" } " (no rule looked at these)"
                } @else {
                    "0 lost"
                }
                " since its agent started; said " (when(heard, now))
            }
            _ => "Not heard yet"
        }
    }
}

fn assignment(view: &MachineView) -> Markup {
    let edit = format!("/machines/{}/assignment", view.row.id);
    html! {
        section aria-labelledby="assignment" {
            h2 #assignment { "What it is, as your organisation says" }
            @match &view.assignment {
                None => p {
                    "Nobody has said yet. Until then it is treated as clinical (tier 2), and no flow of it "
                    "is known as one that must live."
                }
                Some(assignment) => {
                    (facts(&[
                        ("Tier", html! { (words::tier(assignment.tier)) }),
                        ("Group", html! {
                            @match &assignment.group { Some(group) => (Shown(group)), None => "Not said" }
                        }),
                        ("Kind", html! {
                            @match &assignment.kind {
                                Some(kind) => (Shown(kind)),
                                None => "Not said: no other machine counts as its stand-in"
                            }
                        }),
                        ("Lifelines", html! {
                            @if assignment.lifelines.is_empty() { "None said" }
                            ul.plain { @for line in &assignment.lifelines { li { (words::lifeline(line)) } } }
                        }),
                        ("Needed for care, and touched by no order", html! {
                            @let lines = protected_lines(&assignment.protected);
                            @if lines.is_empty() { "None said" }
                            ul.plain { @for line in lines.lines() { li { (Shown(line)) } } }
                        }),
                        ("Revision", html! { (assignment.revision) }),
                        ("Where it stands", html! {
                            @match view.bedside.as_ref().and_then(|bedside| bedside.place.as_ref()) {
                                Some(place) => (Shown(place)),
                                None => "Not said"
                            }
                        }),
                        ("People at it ring", html! {
                            @let ring = view.bedside.as_ref().map_or(&[][..], |bedside| &bedside.ring);
                            @if ring.is_empty() { "Whom the policy says" }
                            ul.plain { @for one in ring { li { (Shown(&one.who)) " " (Shown(&one.number)) } } }
                        }),
                    ]))
                }
            }
            p.actions { a.act href=(edit) { "Say what it is…" } }
        }
    }
}

/// How the names of its lifelines are, if it has any.
fn names(view: &MachineView, now: UtcNanos) -> Markup {
    html! {
        @if !view.names.is_empty() {
            section aria-labelledby="names" {
                h2 #names { "Lifelines by name" }
                @for waits in &view.row.to_confirm {
                    div.notice.notice--warn {
                        p {
                            strong { (Shown(waits.host.as_str())) " also answers with what nobody has signed for" }
                            ": cut in an isolation until somebody confirms it."
                        }
                        ul.plain { @for (address, why) in &waits.addresses { li { (address) ": " (why) } } }
                        p { "Is it the right machine? Then, on the hub’s machine:" }
                        p { code { (Shown(&waits.command(&view.row))) } }
                    }
                }
                @for name in &view.names { (one_name(name, now)) }
            }
        }
    }
}

fn one_name(name: &NameNow, now: UtcNanos) -> Markup {
    let list = |addresses: &[std::net::IpAddr]| {
        addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    html! {
        h3 { (Shown(name.host.as_str())) }
        (facts(&[
            ("Needed for", html! { (Shown(&name.called.join("; "))) }),
            ("Kept alive at", html! { (list(&name.pinned)) }),
            ("Followed", html! {
                @if name.within.is_empty() { "Nowhere: a person confirms each further address" }
                @else { "Within " (name.within.join(", ")) ", but over ports that intruders move by" }
            }),
            ("Looked up", html! {
                @match (name.looked_at, &name.trouble) {
                    (None, _) => "Not since the hub started",
                    (Some(at), None) => (when(at, now)),
                    (Some(at), Some(why)) => {
                        strong { "No answer" } " " (when(at, now)) ": " (Shown(why))
                        ". What is kept alive stays so."
                    }
                }
            }),
            ("Not in its last answer", html! {
                @if name.trouble.is_some() { "Not known" }
                @else if name.unanswered.is_empty() { "None" }
                @else { (list(&name.unanswered)) " (kept alive all the same, until a person drops it)" }
            }),
        ]))
    }
}

/// How the machine's break-glass codes are. The codes themselves are never on a page.
fn codes(view: &MachineView, now: UtcNanos) -> Markup {
    let held = view.status.as_ref().map(|status| status.break_glass);
    html! {
        section aria-labelledby="codes" {
            h2 #codes { "Break-glass codes" }
            @match &view.codes {
                None => p { "Not known yet: the signer has not said." }
                Some(row) if row.revision == 0 => {
                    p { strong { "None yet" } ": they are made within minutes of its enrolment." }
                }
                Some(row) => {
                    (facts(&[
                        ("On the machine", html! {
                            @match held {
                                Some(held) if held == row.revision => "Yes",
                                Some(0) | None => strong { "No: a code would not open it yet" },
                                Some(_) => strong { "Other ones: those printed last do not open it yet" },
                            }
                        }),
                        ("Not used", html! {
                            (row.fates.iter().filter(|fate| **fate != CodeFate::Used).count())
                            " of " (row.fates.len())
                            ", of which were read out "
                            (row.fates.iter().filter(|fate| **fate == CodeFate::Read).count())
                        }),
                        ("Printed", html! {
                            @match row.printed_at {
                                Some(at) => (when(at, now)),
                                None => strong { "Never: there is no sheet for this machine" },
                            }
                        }),
                        ("Good until", html! { (utc(row.expires_at)) }),
                    ]))
                }
            }
        }
    }
}

fn coverage(view: &MachineView) -> Markup {
    html! {
        section aria-labelledby="coverage" {
            h2 #coverage { "What it can and can’t see and do" }
            @if view.coverage.is_empty() {
                p { "Unassessed: its agent has not said." }
            } @else {
                (Table {
                    caption: html! { "As its agent says" },
                    columns: &["What", "By", "What is missing"],
                    rows: view.coverage.iter().map(|coverage| vec![
                        html! { (Shown(&coverage.what)) },
                        html! {
                            @match &coverage.by { Some(by) => (Shown(by)), None => strong { "Not at all" } }
                        },
                        html! {
                            @match &coverage.gap { Some(gap) => (Shown(gap)), None => "No gap reported" }
                        },
                    ]).collect(),
                })
            }
        }
    }
}
