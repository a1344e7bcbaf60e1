//! Any text as rules, and an event for them: no panic, an end, memory within the limits; and what was stored
//! says the same as what was compiled.
#![no_main]

use cordon_detect::stored::Stored;
use cordon_detect::{Compiler, RuleIndex, RuleSet};
use cordon_model::event::{Event, FieldId, Source, Value};

/// An event that has whatever the rules read, by each log that they may be about.
fn said(rules: &RuleSet) -> Vec<RuleIndex> {
    let values = ["", "a", "Abc -x /y 10.1.2.3", "2024-05-01T05:00:00Z", "\u{e9}\\*?", "12"];
    let mut matcher = rules.matcher();
    let mut said = Vec::new();
    for (number, channel) in (0..).zip(["Security", "Microsoft-Windows-Sysmon/Operational", "other"]) {
        let value = |at: usize| match at % 8 {
            6 => Value::Null,
            7 => Value::Int(1),
            at => Value::Text((*values.get(at).unwrap_or(&"")).into()),
        };
        let fields = (0..rules.fields().len()).map(|at| (FieldId(at as u32), value(at + number)));
        let event = Event {
            source: Source {
                channel: Some(channel.into()),
                product: Some("windows".into()),
                event_id: Some(1),
                ..Source::default()
            },
            fields: fields.chain([(FieldId::UNREAD, Value::Text("needle".into()))]).collect(),
            ..Event::default()
        };
        let matched = matcher.matches(rules, &event).to_vec();
        for rule in &matched {
            let _ = matcher.why(rules, &event, *rule);
            let _ = matcher.explain(rules, &event, *rule);
            let _ = matcher.hit(rules, &event, *rule, 0);
        }
        said.extend(matched);
    }
    said
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut compiler = Compiler::new().placeholder("p", ["a".to_owned(), "b*".to_owned()]);
    compiler.add_yaml("fuzz.yml", text);
    let (rules, refusals) = compiler.compile();
    for refusal in &refusals {
        assert!(refusal.line >= 1 && !refusal.to_string().is_empty());
    }
    let bytes = Stored { set: &rules, refusals: &refusals[..], withdrawn: 0 }.to_bytes();
    let stored = Stored::from_bytes(&bytes.expect("what was compiled can be stored"));
    assert_eq!(said(&rules), said(&stored.expect("and read").set));
});
