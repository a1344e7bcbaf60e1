//! The gate of the return to service: what is met, what is missing, who said what.

use cordon_hub::view::{GateView, MachineRow};
use cordon_model::gate::Need;
use cordon_model::time::UtcNanos;
use maud::{Markup, html};

use crate::page::Frame;
use crate::text::{Shown, count, when};
use crate::words;

/// What the machine's page shows: the gate, while something isolates the machine, with what a person can do
/// about it; what was said before is kept below. Where the gate can't be judged its reason stands there, and
/// the way to a release despite it.
pub fn section(frame: &Frame, machine: &MachineRow, judged: &Result<GateView, String>) -> Markup {
    let here = format!("/machines/{}", machine.id);
    html! {
        section aria-labelledby="gate" {
            h2 #gate { "Return to service" }
            p.actions {
                a.act href={ (here) "/eliminate" } { "The plan against what was found…" }
            }
            @match judged {
                Ok(view) => {
                    @if view.isolated_since.is_some() && machine.isolation.is_some() {
                        (shown(view, frame.now))
                        (words_on_it(frame, &here))
                    } @else {
                        p { "Nothing isolates it that anybody knows of." }
                    }
                    (said(view, frame.now))
                }
                Err(why) => {
                    (unjudged(why))
                    @if machine.isolation.is_some() || machine.unknown.is_some() {
                        p {
                            "It can be released all the same, with a reason: "
                            a href={ (here) "/release" } { "release it despite the gate" } "."
                        }
                        (words_on_it(frame, &here))
                    }
                }
            }
        }
    }
}

/// In the place of a gate that can't be judged: why.
pub fn unjudged(why: &str) -> Markup {
    html! {
        div.notice.notice--bad {
            h3 { "The gate can’t be judged" }
            p { (Shown(why)) }
        }
    }
}

/// What a person can do and say about a machine's return.
fn words_on_it(frame: &Frame, here: &str) -> Markup {
    html! {
        (frame.form(&format!("{here}/verify"), &html! {
            p {
                "Looks at the machine anew, changes nothing, and keeps the answer for the gate. "
                button.nhsuk-button.nhsuk-button--secondary type="submit" { "Look again now" }
            }
        }))
        (word(frame, here, "patched", "Say that it is patched",
            "What let the intruder in, how it was closed, and how you know. Cordon does not look at patches."))
        (word(frame, here, "signed-off", "Sign off its return",
            "Why it may return to service. You answer for it, after all else is there."))
    }
}

/// A person's word, in a part of the page that opens.
fn word(frame: &Frame, here: &str, value: &str, title: &str, hint: &str) -> Markup {
    let (id, hint_id) = (format!("why-{value}"), format!("why-{value}-hint"));
    html! {
        details.nhsuk-details id={ "say-" (value) } {
            summary.nhsuk-details__summary { span.nhsuk-details__summary-text { (title) } }
            div.nhsuk-details__text {
                (frame.form(&format!("{here}/gate"), &html! {
                    input type="hidden" name="word" value=(value);
                    div.nhsuk-form-group {
                        label.nhsuk-label for=(id) { (title) ": why" }
                        div.nhsuk-hint id=(hint_id) { (hint) " No patients’ details." }
                        textarea.nhsuk-textarea id=(id) name="reason" rows="2" required maxlength="1000"
                            aria-describedby=(hint_id) {}
                    }
                    button.nhsuk-button.nhsuk-button--secondary type="submit" { (title) }
                }))
            }
        }
    }
}

/// The gate as it is.
pub fn shown(view: &GateView, now: UtcNanos) -> Markup {
    html! {
        p {
            @if view.is_open { (words::mark("green", "The gate is open")) }
            @else { (words::mark("orange", "The gate is closed")) }
            @if let Some(since) = view.isolated_since { " Isolated since " (when(since, now)) "." }
        }
        @match &view.gate.nothing_asked {
            Some(why) => p { "Nothing is asked: " (Shown(why)) "." },
            None => {
                dl.facts {
                    @for asked in &view.gate.needs {
                        div {
                            dt { (title(asked.need)) }
                            dd {
                                @if asked.is_met { (words::mark("green", "Yes")) }
                                @else { (words::mark("orange", "Missing")) }
                                " " (Shown(&asked.because))
                            }
                        }
                    }
                }
            }
        }
    }
}

fn title(need: Need) -> &'static str {
    match need {
        Need::Clean => "Clean",
        Need::Patched => "Patched, by a person’s word",
        Need::Probed => "Probed, now",
        Need::SignedOff => "Signed off",
    }
}

fn said(view: &GateView, now: UtcNanos) -> Markup {
    html! {
        @if !view.statements.is_empty() {
            h3 { "What was said and seen, newest first: " (view.statements.len()) " of " (view.of) }
            ul.plain {
                @for statement in &view.statements {
                    li { (when(statement.at, now)) ": " (Shown(&statement.in_words())) }
                }
            }
        } @else if view.of > 0 {
            p { (count(view.of, "statement")) " are kept." }
        }
    }
}

/// The explicit choice to release with the gate closed.
pub fn despite_field() -> Markup {
    html! {
        div.nhsuk-form-group {
            label.nhsuk-label for="despite" { "Why despite what is missing" }
            div.nhsuk-hint #despite-hint {
                "Care may need it now: then say so. It is released at once, and the ledger and this page say that the gate was closed."
            }
            textarea.nhsuk-textarea #despite name="despite" rows="2" required maxlength="1000"
                aria-describedby="despite-hint" {}
        }
    }
}
