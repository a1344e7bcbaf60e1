//! The policy: what is done by itself, what is asked, and how much of the budget is spent.

use cordon_model::policy::{Mode, Policy};
use maud::{Markup, html};

use crate::page::{Frame, Place, Table, facts};
use crate::text::{count, span};
use crate::words;

const MODES: [Mode; 3] = [Mode::Observe, Mode::Ask, Mode::Act];

/// The page.
pub fn page(frame: &Frame, policy: &Policy, may_change: bool) -> Markup {
    let main = html! {
        h1 { "Policy" }
        p { "Mode: " strong { (words::mode(policy.mode)) } ". " (words::mode_meaning(policy.mode)) }
        (facts(&[
            ("Revision", html! { (policy.revision) ", signed; every agent checks it" }),
            ("Budget", html! {
                "At most " (count(policy.budget.count, "automatic isolation")) " in "
                (span(seconds(policy.budget.window_seconds))) ", and " (policy.budget.group_percent)
                " % of a group at once (at least one machine). At the limit, people are asked."
            }),
            ("Lease", html! {
                (span(seconds(policy.lease.seconds))) ", with a warning "
                (span(seconds(policy.lease.warn_seconds))) " before its end; then segment for "
                (span(seconds(policy.lease.step_down_seconds))) ", again and again, until released"
            }),
            ("An order waits for its machine", html! {
                @match policy.deliver_within_seconds {
                    Some(within) => (span(seconds(within))),
                    None => "Until a newer order takes its place"
                }
            }),
            ("Permits", html! {
                "At most " (count(policy.permits, "machine")) " may segment themselves with no hub in reach; "
                "a permit is good for " (span(seconds(policy.permit_seconds)))
            }),
            ("Return to service", html! {
                @if policy.return_terms.needs.is_empty() {
                    "Nothing is asked"
                } @else {
                    "An isolated machine has to be "
                    @for (index, need) in policy.return_terms.needs.iter().enumerate() {
                        @if index > 0 { ", " } (need.as_str())
                    }
                    "; a word counts for " (span(seconds(policy.return_terms.counts_for_seconds)))
                    @if !policy.return_terms.another_signs_off.is_empty() {
                        "; somebody else signs off on tiers "
                        @for (index, tier) in policy.return_terms.another_signs_off.iter().enumerate() {
                            @if index > 0 { ", " } (tier.number())
                        }
                    }
                    ". A release despite it is always possible, with a reason."
                }
            }),
        ]))
        section aria-labelledby="responses" {
            h2 #responses { "Responses, the first that fits is taken" }
            (Table {
                caption: html! { "What is done about a finding" },
                columns: &["From level", "Tiers", "Measure", "By itself in act mode"],
                rows: policy.responses.iter().map(|response| vec![
                    words::level(response.level_at_least),
                    html! { @for tier in &response.tiers { (words::tier(Some(*tier))) br; } },
                    html! { (words::isolation_word(response.isolation)) },
                    html! { (if response.by_itself { "Yes, within the budget" } else { "No: people are asked" }) },
                ]).collect(),
            })
            p { "Machines of no known tier are treated as tier 2." }
        }
        section aria-labelledby="change" {
            h2 #change { "Change the mode" }
            @if may_change {
                p { "Nothing is changed before a second page shows what it means and you confirm." }
                ul.choices {
                    @for mode in MODES.into_iter().filter(|mode| *mode != policy.mode) {
                        li {
                            a href={ "/policy/change?mode=" (words::mode(mode)) } { "To " (words::mode(mode)) "…" }
                            ": " (words::mode_meaning(mode))
                        }
                    }
                }
            } @else {
                p { "Administrators may change it." }
            }
        }
    };
    frame.live("Policy", Place::Policy, &main)
}

/// What another mode means, and the form to confirm it.
pub fn change(frame: &Frame, policy: &Policy, mode: Mode) -> Markup {
    let title = format!("Change the mode to {}", words::mode(mode));
    let main = html! {
        p { a.back href="/policy" { "Back to the policy" } }
        h1 { (title) "?" }
        div.beside {
            section.card aria-labelledby="now" {
                h2 #now { "Now: " (words::mode(policy.mode)) }
                p { (words::mode_meaning(policy.mode)) }
            }
            section.card aria-labelledby="then" {
                h2 #then { "Then: " (words::mode(mode)) }
                p { (words::mode_meaning(mode)) }
                @if mode == Mode::Act {
                    ul {
                        @for response in policy.responses.iter().filter(|response| response.by_itself) {
                            li {
                                (words::isolation_word(response.isolation)) " without asking, from level "
                                (response.level_at_least) ", on tiers "
                                @for (index, tier) in response.tiers.iter().filter(|tier| !tier.is_clinical()).enumerate() {
                                    @if index > 0 { ", " } (tier.number())
                                }
                            }
                        }
                    }
                }
            }
        }
        p { "What is isolated now stays as it is." }
        @if mode != Mode::Ask {
            p { "This takes root on the hub’s machine: " code { "cordon policy mode " (words::mode(mode)) } ". \
                 Else it is refused here." }
        }
        (frame.form("/policy", &html! {
            input type="hidden" name="mode" value=(words::mode(mode));
            input type="hidden" name="revision" value=(policy.revision);
            div.choosing {
                button.nhsuk-button.nhsuk-button--warning type="submit" { (title) }
                a href="/policy" { "Change nothing" }
            }
        }))
    };
    frame.still(&title, Place::Policy, &main)
}

fn seconds(seconds: u32) -> std::time::Duration {
    std::time::Duration::from_secs(seconds.into())
}
