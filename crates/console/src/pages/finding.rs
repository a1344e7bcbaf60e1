//! A finding's evidence: what its rule means, why it matched, in which process, and the event as it came.

use cordon_model::finding::{Finding, ReceivedFinding};
use cordon_model::time::UtcNanos;
use maud::{Markup, html};

use crate::page::facts;
use crate::pages::measuring;
use crate::rules;
use crate::text::{Block, Shown, when};
use crate::words;

/// The evidence, folded; `id` makes it one place on the page.
pub fn evidence(received: &ReceivedFinding, now: UtcNanos) -> Markup {
    let finding = &received.finding;
    html! {
        details.nhsuk-details id={ "finding-" (finding.id) "-" (received.machine) } {
            summary.nhsuk-details__summary {
                span.nhsuk-details__summary-text { "Evidence: what it means, why it matched, and the event" }
            }
            div.nhsuk-details__text {
                (meaning(finding))
                (matched(finding))
                (facts(&[
                    ("Rule", html! { (Shown(&finding.rule.title)) " (" (Shown(&finding.rule.id)) ")" }),
                    ("ATT&CK and other tags", tags(&finding.rule.tags)),
                    ("Process", process(finding)),
                    ("Machine, as the event says it", html! { (Shown(&finding.host)) }),
                    ("Event, by the machine’s clock", when(finding.time, now)),
                    ("Received by the hub", when(received.received, now)),
                ]))
                (measuring::for_finding(received.machine, finding))
                h4 { "The event as it came" }
                @if finding.raw.is_cut {
                    p { "It was longer than is kept; this is its beginning." }
                }
                pre.raw tabindex="0" { code { (Block(&pretty(&finding.raw.json))) } }
                p.hash { "SHA-256 of the whole event: " code { (hex(&finding.raw_sha256)) } }
            }
        }
    }
}

/// What the rule means and what to look at first, in its author's words; nothing of a rule that is not of
/// the pack in this program.
fn meaning(finding: &Finding) -> Markup {
    html! {
        @if let Some(said) = rules::said_of(&finding.rule) {
            h4 { "What it means" }
            @for part in &said.description { p { (Shown(part)) } }
            @if !said.false_positives.is_empty() {
                h4 { "What else may look so" }
                ul.plain { @for other in &said.false_positives { li { (Shown(other)) } } }
            }
        }
    }
}

fn matched(finding: &Finding) -> Markup {
    html! {
        h4 { "Why it matched" }
        @if finding.matched.is_empty() {
            p { "The rule matches on the event’s source alone." }
        }
        ul.matched {
            @for field in &finding.matched {
                li {
                    @if field.field.is_empty() { "Some value" } @else { strong { (Shown(&field.field)) } }
                    " was " code { (Shown(&field.value)) }
                    br;
                    "asked for: " code { (Shown(&field.pattern)) }
                }
            }
        }
    }
}

fn process(finding: &Finding) -> Markup {
    html! {
        @match &finding.process {
            Some(process) => { (Shown(&process.image)) ", process " (process.pid) }
            None => "Not said by this event"
        }
    }
}

/// Tags as they are written, with the ATT&CK ids as people say them.
fn tags(tags: &[String]) -> Markup {
    html! {
        @if tags.is_empty() { "None" }
        @for (index, tag) in tags.iter().enumerate() {
            @if index > 0 { ", " }
            (Shown(&tag_word(tag)))
        }
    }
}

fn tag_word(tag: &str) -> String {
    match tag.strip_prefix("attack.") {
        Some(id) if is_attack_id(id) => format!("ATT&CK {}", id.to_ascii_uppercase()),
        Some(tactic) => tactic.replace(['-', '_'], " "),
        None => tag.to_owned(),
    }
}

/// `t1021.002`, `s0154`, `g0016`.
fn is_attack_id(id: &str) -> bool {
    let mut bytes = id.bytes();
    bytes.next().is_some_and(|first| matches!(first, b't' | b's' | b'g' | b'm'))
        && bytes.next().is_some_and(|second| second.is_ascii_digit())
        && bytes.all(|byte| byte.is_ascii_digit() || byte == b'.')
}

/// JSON with one field a line; what is not JSON (a cut event) stays as it is.
fn pretty(json: &str) -> String {
    serde_json::from_str::<serde_json::Value>(json)
        .ok()
        .and_then(|value| serde_json::to_string_pretty(&value).ok())
        .unwrap_or_else(|| json.to_owned())
}

/// Level and title on a line.
pub fn headline(finding: &Finding) -> Markup {
    html! { (words::level(finding.rule.level)) " " (Shown(&finding.rule.title)) }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_said_as_people_say_them() {
        assert_eq!(tag_word("attack.t1021.002"), "ATT&CK T1021.002");
        assert_eq!(tag_word("attack.lateral-movement"), "lateral movement");
        assert_eq!(tag_word("attack.stealth"), "stealth");
        assert_eq!(tag_word("cve.2021-44228"), "cve.2021-44228");
    }

    #[test]
    fn an_event_is_shown_one_field_a_line_or_as_it_is() {
        assert_eq!(pretty(r#"{"a":1}"#), "{\n  \"a\": 1\n}");
        assert_eq!(pretty(r#"{"a":1"#), r#"{"a":1"#);
    }
}
