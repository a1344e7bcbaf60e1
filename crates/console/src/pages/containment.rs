//! Before anybody isolates or releases: what will stop, what lives, who has to agree.
//!
//! The one idea: the page that confirms is the page that shows. Nothing is proposed before a person has
//! seen it and said why.

use cordon_hub::view::{GateView, MachineRow, Preview};
use cordon_model::approval::Needs;
use cordon_model::ids::IncidentId;
use cordon_model::measure::Isolation;
use maud::{Markup, html};

use crate::page::{Frame, Place, facts, reason_field};
use crate::pages::gate;
use crate::text::{Shown, count};
use crate::words;

/// What an isolation would do, and the form to confirm it.
pub fn isolate(frame: &Frame, preview: &Preview, incident: Option<IncidentId>) -> Markup {
    let machine = &preview.machine;
    let title = format!("Isolate {}", machine.name);
    let address = |how: Isolation| {
        let incident = incident.map_or_else(String::new, |id| format!("&incident={id}"));
        format!("/machines/{}/isolate?how={how}{incident}", machine.id)
    };
    let choice = |how: Isolation, meaning: &str| {
        html! {
            li {
                a href=(address(how)) aria-current=[(preview.isolation == how).then_some("true")] {
                    (words::isolation_word(how))
                    @if preview.isolation == how { " (shown below)" }
                }
                ": " (meaning)
            }
        }
    };
    let main = html! {
        p { a.back href={ "/machines/" (machine.id) } { "Back to the machine" } }
        h1 { "Isolate " (Shown(&machine.name)) "?" }
        p { "Nothing is done before you confirm at the end of this page." }
        section aria-labelledby="how" {
            h2 #how { "How far" }
            ul.choices {
                (choice(Isolation::Segment, "cut the services that worms and intruders move by; the rest lives"))
                (choice(Isolation::Full, "cut everything but the lifelines and the hub"))
            }
        }
        (consequences(preview, frame))
        section aria-labelledby="confirm" {
            h2 #confirm { "Confirm" }
            (who_agrees(preview, frame))
            // A button for what will be refused costs the minutes in which somebody rings.
            @if preview.needs == Needs::TwoKeysOneClinical {
                p { a href={ "/machines/" (machine.id) } { "Do nothing here" } }
            } @else {
                (frame.form(&format!("/machines/{}/isolate", machine.id), &html! {
                    input type="hidden" name="how" value=(preview.isolation.as_str());
                    @if let Some(incident) = incident {
                        input type="hidden" name="incident" value=(incident);
                    }
                    (reason_field("Why"))
                    div.choosing {
                        button.nhsuk-button.nhsuk-button--warning type="submit" {
                            @match preview.isolation {
                                Isolation::Watch => "Only watch now: nothing is cut",
                                how => { "Isolate now (" (how.as_str()) ")" }
                            }
                        }
                        a href={ "/machines/" (machine.id) } { "Do nothing" }
                    }
                }))
            }
        }
    };
    frame.still(&title, Place::Machines, &main)
}

/// Who else has to agree, so that nobody takes their own confirmation for the isolation.
fn who_agrees(preview: &Preview, frame: &Frame) -> Markup {
    let is_named = |people: &Vec<String>| people.contains(&frame.person);
    html! {
        @if preview.needs == Needs::TwoKeysOneClinical {
            p {
                strong { "This can’t be confirmed here: " } "it needs " (preview.needs)
                ", which this version can’t check. Ring the clinical lead and "
                "the network team, and act by hand."
            }
        } @else if preview.needs != Needs::OnePerson {
            p { "Your confirmation makes a question: " (preview.needs) " have to agree, and you are one." }
        }
        @if let Some(people) = preview.night.as_ref().filter(|people| !is_named(people)) {
            p {
                "Your confirmation makes a question: at this hour the policy takes a yes of "
                (Shown(&people.join(", "))) " only. Ring them."
            }
        }
    }
}

/// What an isolation would do.
pub fn consequences(preview: &Preview, frame: &Frame) -> Markup {
    let machine = &preview.machine;
    html! {
        @if !preview.cautions.is_empty() {
            div.notice.notice--warn {
                h2 { "Know first" }
                ul.plain { @for caution in &preview.cautions { li { (Shown(caution)) } } }
            }
        }
        div.beside {
            section.card aria-labelledby="stops" {
                h2 #stops { "What will stop" }
                @if preview.cuts_everything_else {
                    p { strong { "Everything else:" } " every connection in and out, open ones too, that is not listed under what lives." }
                } @else if preview.cut.is_empty() {
                    p { "Nothing: the machine is only watched more closely." }
                } @else {
                    p { "These services, in and out, open connections too:" }
                    ul { @for (transport, ports) in &preview.cut { li { (words::service(*transport, *ports)) } } }
                }
                @if preview.loses_the_hub() {
                    p { strong { "The agent’s link to this hub, too:" } " its tunnel is no lifeline. Nothing that is ordered here reaches the machine then, no release either." }
                }
            }
            section.card aria-labelledby="lives" {
                h2 #lives { "What lives" }
                ul {
                    @for lifeline in &preview.lifelines { li { (words::lifeline(lifeline)) } }
                    @if !preview.cuts_everything_else {
                        li { "All other services" }
                    }
                    li { "The machine’s own loopback and address (DHCP, neighbour discovery)" }
                    @if !preview.loses_the_hub() { li { "The agent’s link to this hub" } }
                }
                @if preview.lifelines.is_empty() {
                    p { strong { "No lifeline is declared for this machine." } " A clinical flow that nobody declared is not kept by name." }
                }
            }
        }
        section.card aria-labelledby="open-now" {
            h2 #open-now { "What goes on there now, and what it uses" }
            @match &preview.open_now {
                Ok(open) => {
                    @if open.flows.is_empty() { p { "No connection with another machine." } }
                    @else { ul { @for flow in &open.flows { li { (Shown(&flow.in_words())) } } } }
                    @for what in &open.unseen { p { "Not known: " (Shown(what)) "." } }
                    @if open.listed < open.of {
                        p { "Of " (count(open.of, "connection")) ", " (open.listed) " were told." }
                    }
                    p { "By the machine’s own word." }
                }
                Err(why) => { p { "Not known: " (Shown(why)) "." } }
            }
        }
        (facts(&[
            ("Tier", html! { (words::tier(machine.tier)) }),
            ("Who has to agree", html! {
                (preview.needs)
                @if let Some(people) = &preview.night { ", at this hour of: " (Shown(&people.join(", "))) }
            }),
            ("Stand-ins", html! {
                @match preview.stand_ins {
                    Some((standing, of)) => { (standing) " of " (count(of, "other")) " of its kind in contact and not isolated" }
                    None => "Not known: nobody has said of what kind it is"
                }
            }),
            ("Now", words::isolation(machine)),
            ("Contact", words::contact(machine.contact, frame.now)),
        ]))
    }
}

/// What a release would do, and the form to confirm it.
pub fn release(
    frame: &Frame,
    machine: &MachineRow,
    judged: &Result<GateView, String>,
    incident: Option<IncidentId>,
) -> Markup {
    let is_open = judged.as_ref().is_ok_and(|gate| gate.is_open);
    let title = format!("Release {}", machine.name);
    let main = html! {
        p { a.back href={ "/machines/" (machine.id) } { "Back to the machine" } }
        h1 { "Release " (Shown(&machine.name)) "?" }
        p { "Nothing is done before you confirm at the end of this page." }
        (facts(&[
            ("Now", words::isolation(machine)),
            ("Tier", html! { (words::tier(machine.tier)) }),
            ("Contact", words::contact(machine.contact, frame.now)),
        ]))
        div.notice.notice--warn {
            h2 { "Know first" }
            ul.plain {
                li { "Every isolation of this machine is taken back exactly: everything that was cut is open again, both ways, at once." }
                li { "Whatever was on it when it was isolated can reach others again. Release it when it was shown clean, or when care needs it more." }
            }
        }
        @match judged {
            Ok(view) => (gate::shown(view, frame.now)),
            Err(why) => (gate::unjudged(why)),
        }
        section aria-labelledby="confirm" {
            h2 #confirm { "Confirm" }
            (frame.form(&format!("/machines/{}/release", machine.id), &html! {
                @if let Some(incident) = incident {
                    input type="hidden" name="incident" value=(incident);
                }
                (reason_field("Why it may be open again"))
                @if !is_open { (gate::despite_field()) }
                div.choosing {
                    button.nhsuk-button.nhsuk-button--warning type="submit" {
                        @if is_open { "Release now" } @else { "Release now, despite what is missing" }
                    }
                    a href={ "/machines/" (machine.id) } { "Do nothing" }
                }
            }))
        }
    };
    frame.still(&title, Place::Machines, &main)
}
