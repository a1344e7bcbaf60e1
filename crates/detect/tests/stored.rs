//! Compiled rules as bytes: what is read is what was written, and what is anything else is not read or harms
//! nobody.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside of test functions: it stops at the first thing that is wrong"
)]

mod support;

use cordon_detect::stored::Stored;
use cordon_detect::{Compiler, Correlator, CorrelatorLimits, RuleSet};
use cordon_model::event::Source;
use cordon_model::time::UtcNanos;
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use support::{event_of, matched};

/// Something of everything that a set can have.
const RULES: &str = r#"
title: failed
id: failed
name: failed
logsource: {product: windows, category: process_creation}
detection:
    image: {Image|endswith: '\a.exe', CommandLine|contains|windash: ' -x'}
    glob: {CommandLine: 'a*b?c*'}
    re: {CommandLine|re: 'k[ab]{2}\d+'}
    cased: {User|cased: Nurse}
    none: {Description: null}
    same: {User|fieldref: ParentUser}
    number: {Size|gte: 10}
    hour: {UtcTime|hour: 5}
    net: {Address|cidr: [10.0.0.0/8, 'fd00::/8']}
    there: {Hashes|exists: true}
    words: [needle, 'hay*stack']
    short: {Short|contains: [a, bc]}
    level: {IntegrityLevel: High}
    condition: 2 of them or (image and not 1 of s*)
---
title: by id
id: by-id
logsource: {product: windows, service: security}
detection:
    s: {EventID: [4624, 4688], LogonType: 3}
    condition: s
level: high
---
title: many
id: many
correlation:
    type: event_count
    rules: [failed]
    group-by: [User]
    timespan: 1m
    condition: {gte: 2}
---
title: in words
id: in-words
correlation:
    type: temporal
    rules: [failed, by-id]
    timespan: 1m
    condition: failed and not by-id
---
title: refused
logsource: {product: windows}
detection:
    s: {A|re: '(?=a)'}
    condition: s
"#;

fn compiled() -> (RuleSet, Vec<cordon_detect::Refusal>) {
    let mut compiler = Compiler::new();
    compiler.add_yaml("all.yml", RULES);
    compiler.compile()
}

fn bytes() -> Vec<u8> {
    let (set, refusals) = compiled();
    Stored { set: &set, refusals: &refusals[..], withdrawn: 3 }.to_bytes().unwrap()
}

fn events() -> Vec<(Source<'static>, Json)> {
    let source = |channel: &'static str, id| Source {
        channel: Some(channel.into()),
        event_id: Some(id),
        ..Source::default()
    };
    let sysmon = "Microsoft-Windows-Sysmon/Operational";
    vec![
        (
            source(sysmon, 1),
            json!({
                "EventID": 1, "Image": r"C:\a.exe", "CommandLine": "a –x b1c kab77", "User": "Nurse",
                "ParentUser": "nurse", "Size": 12, "UtcTime": "2024-05-01T05:00:00Z", "Address": "10.1.2.3",
                "Hashes": "", "Other": "a needle", "Short": "abc", "IntegrityLevel": "High", "Description": "x",
            }),
        ),
        (
            source("Security", 4688),
            json!({
                "EventID": 4688, "NewProcessName": r"C:\a.exe", "CommandLine": "axb1c", "LogonType": 3,
                "MandatoryLabel": "S-1-16-12288", "User": "nurse",
            }),
        ),
        (
            source(sysmon, 1),
            json!({"EventID": 1, "CommandLine": "kba1", "Address": "fd00::1", "User": "x"}),
        ),
    ]
}

/// All that the rules say of the events.
fn said(rules: &RuleSet) -> Vec<String> {
    let mut said = Vec::new();
    let mut matcher = rules.matcher();
    let mut correlator = Correlator::new(CorrelatorLimits::default());
    for (second, (source, json)) in (1..).zip(events().iter().chain(&events())) {
        let event = event_of(rules, source.clone(), json);
        said.push(matched(&mut matcher, rules, &event).join(" "));
        let numbers = matcher.matches(rules, &event).to_vec();
        let mut hits = Vec::new();
        for number in numbers {
            said.push(format!("{:?}", matcher.why(rules, &event, number)));
            said.push(format!("{:?}", matcher.explain(rules, &event, number)));
            hits.extend(matcher.hit(rules, &event, number, 0));
        }
        let time = UtcNanos::from_unix_nanos(second * 1_000_000_000);
        correlator.hear(rules, time, hits, &mut |firing| said.push(format!("{firing:?}")));
    }
    correlator.finish(rules, &mut |firing| said.push(format!("{firing:?}")));
    said
}

#[test]
fn what_was_stored_says_the_same_as_what_was_compiled() {
    let (set, refusals) = compiled();
    assert_eq!((set.rules().len(), refusals.len()), (4, 1), "{refusals:?}");
    let stored = Stored::from_bytes(&bytes()).unwrap();
    assert_eq!((stored.refusals, stored.withdrawn), (refusals, 3));
    let (ours, theirs) = (said(&set), said(&stored.set));
    assert!(ours.iter().any(|line| line.contains("failed")) && ours.len() > 12, "{ours:#?}");
    assert_eq!(ours, theirs);
    for rule in 0..4 {
        let rule = cordon_detect::RuleIndex(rule);
        assert_eq!(format!("{:?}", set.rule(rule)), format!("{:?}", stored.set.rule(rule)));
        assert_eq!(set.is_told(rule), stored.set.is_told(rule));
    }
}

#[test]
fn a_part_of_it_or_more_than_it_is_not_read() {
    let bytes = bytes();
    for end in 0..bytes.len() {
        assert!(Stored::from_bytes(&bytes[..end]).is_none(), "{end} of {}", bytes.len());
    }
    assert!(Stored::from_bytes(&[&bytes[..], &[0]].concat()).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]
    /// Whoever writes bytes there may make rules that match anything; nothing panics and all ends.
    #[test]
    fn bytes_that_somebody_changed_harm_nobody(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = bytes();
        for (at, to) in changes {
            let at = at.index(bytes.len());
            bytes[at] = to;
        }
        if let Some(stored) = Stored::from_bytes(&bytes) {
            said(&stored.set);
        }
    }
}
