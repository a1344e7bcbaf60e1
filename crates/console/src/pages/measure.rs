//! A measure: how far, how sure, on what proof, until when.

use cordon_hub::view::{MachineRow, MeasureView};
use cordon_model::measure::{Isolation, MeasureState, Origin, Probe, Proof, Receipt};
use cordon_model::order::{Authority, Order};
use cordon_model::time::UtcNanos;
use cordon_model::wire::Status;
use maud::{Markup, html};

use crate::measuring::has_a_way_back;
use crate::page::facts;
use crate::text::{Shown, count, span, utc, when};
use crate::words;

/// One measure. `machine` is its machine's name; `status` what that machine last said, for the lease.
pub fn card(view: &MeasureView, machine: &str, status: Option<&Status>, now: UtcNanos) -> Markup {
    let measure = &view.measure;
    // What shows that it was in force stays on the page when it is over.
    let shown = view.receipts.iter().rev().filter(|receipt| receipt.proof.is_some());
    let acting = shown.clone().find(|receipt| receipt.state.is_acting());
    let proof = acting.or(shown.clone().next()).and_then(|receipt| receipt.proof.as_ref());
    let is_over = measure.state.is_over();
    let unknown = status.filter(|_| !is_over).and_then(|status| status.holds.unknown());
    html! {
        article.card {
            h3 {
                (words::action(&measure.action)) " on "
                a href={ "/machines/" (measure.machine) } { (Shown(machine)) }
                " " (words::measure_state(&measure.state))
            }
            p { (words::measure_meaning(&measure.state)) " Since " (when(measure.since, now)) "." }
            @if let Some(why) = unknown { p { (words::mark("orange", "Unknown now")) " " (Shown(why)) } }
            (steps(view))
            (facts(&[
                ("Ordered by", origin(view)),
                ("Lease", lease(view, status)),
                ("Open connections cut", cut(view)),
            ]))
            (done(measure.receipt.as_ref()))
            @if has_a_way_back(measure) {
                p.actions {
                    a.act href={ "/machines/" (measure.machine) "/measures/" (measure.id) "/undo" } {
                        "Take it back…" span.heard { " " (Shown(machine)) }
                    }
                }
            }
            @if let Some(proof) = proof { (proof_details(proof, view)) }
        }
    }
}

/// What the machine says that it did, and what it left as it is.
fn done(receipt: Option<&Receipt>) -> Markup {
    let told: Vec<&str> = receipt.into_iter().flat_map(Receipt::told).collect();
    html! {
        @if !told.is_empty() {
            h4 { "What the machine did, and what it left alone" }
            ul.plain { @for what in told { li { (Shown(what)) } } }
        }
    }
}

/// Requested, delivered, applied, verified, and how it ended: with times, from what the machine signed.
fn steps(view: &MeasureView) -> Markup {
    html! {
        ol.steps {
            @if let Some(order) = &view.order {
                li { "Requested " span.steps__time { (utc(order.issued_at)) } }
            }
            @for receipt in &view.receipts {
                li {
                    (state_word(&receipt.state)) " "
                    span.steps__time { (utc(receipt.at)) ", by the machine’s clock" }
                }
            }
        }
    }
}

fn state_word(state: &MeasureState) -> Markup {
    html! {
        @match state {
            MeasureState::Requested => "Requested",
            MeasureState::Delivered => "Delivered",
            MeasureState::Applied => "Applied",
            MeasureState::Verified => "Verified",
            MeasureState::Unproven { why } => { "Unproven: " (Shown(why)) }
            MeasureState::SteppedDown => "Stepped down at the end of its lease",
            MeasureState::Superseded => "Superseded by a newer order",
            MeasureState::Released => "Released",
            MeasureState::Done => "Done",
            MeasureState::Failed { why } => { "Failed: " (Shown(why)) }
        }
    }
}

fn origin(view: &MeasureView) -> Markup {
    html! {
        @match (&view.order, view.measure.receipt.as_ref().map(|receipt| receipt.origin)) {
            (Some(order), _) => (ordered(order)),
            (None, Some(Origin::Permit { .. })) => "The machine itself, by a signed permit, with no hub in reach",
            (None, Some(Origin::BreakGlass { code, .. })) => {
                "Somebody at the machine, by break-glass code number " (code)
                ": nothing is cut, and until the lease ends only people isolate it again"
            }
            (None, Some(Origin::LeaseEnd(_))) => "The end of an earlier isolation’s lease",
            (None, _) => "An order that the hub does not have"
        }
    }
}

/// Who allowed an order, and why.
pub fn ordered(order: &Order) -> Markup {
    html! {
        @match &order.authority {
            Authority::Policy { revision, .. } => { "The policy (revision " (revision) ")" }
            Authority::People { people, .. } => {
                @if people.is_empty() { "People" }
                @for (index, person) in people.iter().enumerate() {
                    @if index > 0 { " and " }
                    (Shown(&person.name)) @if person.is_clinical { " (clinical)" }
                }
            }
        }
        @if !order.reason.is_empty() { ": “" (Shown(&order.reason)) "”" }
    }
}

/// A lease counts the machine's boot time; what is left is as old as the machine's last word.
fn lease(view: &MeasureView, status: Option<&Status>) -> Markup {
    let receipt = view.measure.receipt.as_ref();
    html! {
        @if view.measure.state.is_over() {
            "Over"
        } @else if let Some(ends) = receipt.and_then(|receipt| receipt.lease_ends) {
            @let as_of = status.map_or_else(|| receipt.map(|r| r.at_boot), |s| Some(s.at_boot));
            @let held = status.and_then(|s| s.holds.holding(view.measure.id));
            @let ends = held.map_or(ends, |held| held.lease_ends);
            @match as_of {
                Some(as_of) => { (span(ends.since(as_of))) " left when the machine last said so, by its boot clock; then it steps down, never silently open" }
                None => "Runs"
            }
        } @else if view.measure.state.is_acting() {
            "Not said by the machine"
        } @else {
            "Begins when it is applied"
        }
    }
}

fn cut(view: &MeasureView) -> Markup {
    html! {
        @match &view.measure.receipt {
            Some(receipt) => (receipt.sockets_cut),
            None => "Not known yet"
        }
    }
}

fn proof_details(proof: &Proof, view: &MeasureView) -> Markup {
    html! {
        @if !proof.unproven.is_empty() {
            div.notice.notice--warn {
                h4 { "What stays unproven" }
                ul.plain { @for what in &proof.unproven { li { (Shown(what)) } } }
            }
        }
        details.nhsuk-details id={ "proof-" (view.measure.id) } {
            summary.nhsuk-details__summary {
                span.nhsuk-details__summary-text {
                    "Proof: " (count(proof.probes.len(), "probe")) " and what was read back"
                }
            }
            div.nhsuk-details__text {
                p {
                    @if proof.is_read_back {
                        "The kernel’s rules were read back and are the ones that were meant."
                    } @else {
                        strong { "The rules read back from the kernel are not the ones that were meant." }
                    }
                    @if let Some(handle) = proof.table_handle { " Table handle " (handle) "." }
                }
                ul.plain { @for probe in &proof.probes { li { (probe_line(probe)) } } }
            }
        }
    }
}

fn probe_line(probe: &Probe) -> Markup {
    let passes = |passes: bool| if passes { "got through" } else { "was stopped" };
    html! {
        (Shown(&probe.tried)) ": "
        @match probe.did_pass {
            Some(did) if did == probe.should_pass => { (passes(did)) ", as it should" }
            Some(did) => strong { (passes(did)) ", and should not have" @if probe.should_pass { " been" } }
            None => { "can’t be told from this machine" }
        }
    }
}

/// What may be done about a machine's isolation, as links to pages that show it first.
pub fn actions(machine: &MachineRow, incident: Option<cordon_model::ids::IncidentId>) -> Markup {
    let MachineRow { id, name, isolation, unknown, .. } = machine;
    let query = incident.map_or_else(String::new, |incident| format!("?incident={incident}"));
    html! {
        p.actions {
            @if *isolation != Some(Isolation::Full) {
                a.act href={ "/machines/" (id) "/isolate" (query) } {
                    "Isolate…" span.heard { " " (Shown(name)) }
                }
            }
            @if isolation.is_some() || unknown.is_some() {
                a.act href={ "/machines/" (id) "/release" (query) } {
                    "Release…" span.heard { " " (Shown(name)) }
                }
            }
        }
    }
}
