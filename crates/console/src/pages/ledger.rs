//! The ledger and the hub: whether what was done is written down where nobody can alter it unseen.

use cordon_model::record::Record;
use maud::{Markup, html};

use crate::page::{Frame, Place, facts};
use crate::pages::incident::record_line;
use crate::pages::incidents::summary;
use crate::text::{Shown, count, when};

/// The page.
pub fn page(frame: &Frame, newest: &[Record]) -> Markup {
    let status = &frame.status;
    let ledger = &status.ledger;
    let uncovered = ledger.size.saturating_sub(ledger.covered);
    let main = html! {
        h1 { "Ledger" }
        p { "Who or what did each thing, and why: an append-only log, whose signed checkpoints make a change to it visible." }
        (facts(&[
            ("Records on disk", html! { (ledger.size) }),
            ("Covered by a signed checkpoint", html! {
                (ledger.covered) " of " (ledger.size)
                @if uncovered > 0 { ": " (count(uncovered, "record")) " not covered yet" }
            }),
            ("Newest checkpoint", html! {
                @match ledger.checkpoint_at {
                    Some(at) => (when(at, frame.now)),
                    None => "None since the hub started"
                }
            }),
            ("Checked by", html! { code { "cordon verify" } " on the hub’s machine; this page does not check it" }),
        ]))
        section aria-labelledby="newest" {
            h2 #newest { "Newest records: " (newest.len()) " of " (ledger.size) }
            ol.records reversed { @for record in newest { li { (record_line(record, frame.now)) } } }
        }
        h2 { "The hub" }
        (facts(&[
            ("Signer", html! {
                @match &status.signer_away {
                    None => "Answered when it was last asked",
                    Some(why) => { strong { "Does not answer: " } (Shown(why)) }
                }
            }),
            ("Refused since the start", html! {
                (count(status.refused.enrolments, "enrolment")) ", "
                (count(status.refused.links, "link")) ", "
                (count(status.refused.messages, "message"))
            }),
        ]))
        h2 { "Of how many" }
        (summary(status))
    };
    frame.live("Ledger", Place::Ledger, &main)
}
