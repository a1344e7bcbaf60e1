//! The plan against what was found on a machine: shown first, ordered by its digest.

use cordon_hub::view::{PlanView, StepCame, StepOrdered};
use cordon_model::ids::IncidentId;
use cordon_respond::eliminate::{How, Step, StepStatus};
use maud::{Markup, html};

use crate::page::{Frame, Place, reason_field};
use crate::text::{Shown, count, utc};
use crate::words;

/// The plan. `is_other`: somebody wanted to order another one, which it is not any more.
pub fn page(
    frame: &Frame,
    view: &PlanView,
    incident: Option<IncidentId>,
    is_other: bool,
) -> Markup {
    let machine = &view.machine;
    let here = format!("/machines/{}", machine.id);
    let title = format!("Plan for {}", machine.name);
    let to_order = view.plan.to_order().count();
    let main = html! {
        p { a.back href=(here) { "Back to the machine" } }
        h1 { "Plan against what was found on " (Shown(&machine.name)) }
        @if is_other {
            div.notice.notice--bad {
                h2 { "Nothing is ordered" }
                p { "Looked at again, it is another plan. This is what is left now." }
            }
        }
        @if !view.plan.cautions.is_empty() {
            div.notice.notice--warn {
                h2 { "Know first" }
                ul.plain { @for caution in &view.plan.cautions { li { (Shown(caution)) } } }
            }
        }
        p { "Nothing is done before you confirm at the end of this page." }
        section aria-labelledby="seen" {
            h2 #seen { "What was looked at" }
            ul.plain { @for looked in &view.plan.looked_at { li { (Shown(looked)) } } }
            @if let Some(since) = view.plan.since { p { "What came after " (utc(since)) " is suspect." } }
            @if view.plan.incidents.is_empty() {
                p { "No incident of this machine is open, and no isolation of it answers one." }
            }
        }
        section aria-labelledby="steps" {
            h2 #steps { (count(view.plan.steps.len(), "step")) ", of which " (view.plan.left().count()) " left" }
            @if view.plan.steps.is_empty() { p { "Nothing is to be done, by what was looked at." } }
            @for step in &view.plan.steps { (card(frame, &here, step, incident)) }
        }
        section aria-labelledby="confirm" {
            h2 #confirm { "Confirm" }
            p { "Digest of this plan: " code { (view.digest) } }
            @if to_order > 0 {
                (frame.form(&format!("{here}/eliminate"), &html! {
                    input type="hidden" name="digest" value=(view.digest);
                    @if let Some(incident) = incident { input type="hidden" name="incident" value=(incident); }
                    (reason_field("Why"))
                    div.choosing {
                        button.nhsuk-button.nhsuk-button--warning type="submit" {
                            "Order " (count(to_order, "step")) " now"
                        }
                        a href=(here) { "Do nothing" }
                    }
                }))
            } @else {
                p { "There is nothing that a measure does: what is left is for people." }
            }
        }
    };
    frame.still(&title, Place::Machines, &main)
}

fn card(frame: &Frame, here: &str, step: &Step, incident: Option<IncidentId>) -> Markup {
    html! {
        article.card {
            h3 { (Shown(&step.what)) " " (state(step)) }
            ul.plain { @for why in &step.why { li { "Because: " (Shown(why)) } } }
            @if step.is_left() {
                @match &step.how {
                    How::Order { does, .. } => p { "What it does: " (Shown(does)) "." },
                    How::ByHand { todo, because } => {
                        p { "What to do: " (Shown(todo)) "." }
                        p { "By hand, because: " (Shown(because)) "." }
                    }
                }
            }
            @match &step.status {
                StepStatus::ToDo { last: Some(last) } => p { "Before: " (Shown(last)) "." },
                StepStatus::ToDo { last: None } => {}
                StepStatus::Unknown { why } => p { "Not known: " (Shown(why)) "." },
                StepStatus::Done { shown } => p { "Shown: " (Shown(shown)) "." },
                StepStatus::Accepted { by, why } => p { (Shown(by)) ": “" (Shown(why)) "”" },
            }
            @if step.is_left() { (accept(frame, here, step, incident)) }
        }
    }
}

fn accept(frame: &Frame, here: &str, step: &Step, incident: Option<IncidentId>) -> Markup {
    let id = format!("why-{}", step.id);
    html! {
        details.nhsuk-details id={ "step-" (step.id) } {
            summary.nhsuk-details__summary {
                span.nhsuk-details__summary-text { "It may stay, or was dealt with by hand" }
            }
            div.nhsuk-details__text {
                (frame.form(&format!("{here}/accept"), &html! {
                    input type="hidden" name="step" value=(step.id);
                    @if let Some(incident) = incident { input type="hidden" name="incident" value=(incident); }
                    div.nhsuk-form-group {
                        label.nhsuk-label for=(id) { "Why" }
                        textarea.nhsuk-textarea id=(id) name="reason" rows="2" required maxlength="1000" {}
                    }
                    button.nhsuk-button.nhsuk-button--secondary type="submit" { "Say so" }
                }))
            }
        }
    }
}

fn state(step: &Step) -> Markup {
    match (&step.status, &step.how) {
        (StepStatus::ToDo { .. }, How::Order { .. }) => words::mark("orange", "To be ordered"),
        (StepStatus::ToDo { .. }, How::ByHand { .. }) => words::mark("yellow", "By hand"),
        (StepStatus::Unknown { .. }, _) => words::mark("orange", "Not known"),
        (StepStatus::Done { .. }, _) => words::mark("green", "Done"),
        (StepStatus::Accepted { .. }, _) => words::mark("blue", "Accepted"),
    }
}

/// What came of each step of a plan that was ordered.
pub fn ordered(frame: &Frame, machine: &str, here: &str, steps: &[StepOrdered]) -> Markup {
    let main = html! {
        p { a.back href=(here) { "Back to the machine" } }
        h1 { "What came of the plan for " (Shown(machine)) }
        p { "Ordered is not done: the measures on the machine’s page say what was shown, and “Look again now” there looks anew." }
        ul {
            @for one in steps {
                li {
                    (Shown(&one.what)) ": "
                    @match &one.came {
                        StepCame::Signed { is_linked: true, .. } => "ordered, on its way",
                        StepCame::Signed { is_linked: false, .. } => "ordered; it waits: the machine is not in contact",
                        StepCame::Asked { approval, needs } => {
                            (needs) " must agree: " a href={ "/questions/" (approval) } { "the question" }
                        }
                        StepCame::Refused(why) => { strong { "not ordered: " } (Shown(why)) }
                    }
                }
            }
        }
    };
    frame.still("What came of the plan", Place::Machines, &main)
}
