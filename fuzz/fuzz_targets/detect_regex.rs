//! A regular expression (to the first line's end) and a value for it: no panic, an end, and the same answer as
//! the expression's own engine gives, though ours cuts it and first looks for texts that it needs.
#![no_main]

use cordon_detect::Compiler;
use cordon_model::event::{Event, FieldId, Source, Value};
use regex_automata::meta::Regex;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Some((pattern, value)) = text.split_once('\n') else { return };
    let Ok(quoted) = serde_json::to_string(pattern) else { return };
    let mut compiler = Compiler::new();
    let rule = format!(
        "title: t\nlogsource: {{product: p}}\ndetection:\n  s:\n    A|re: {quoted}\n  condition: s\n"
    );
    compiler.add_yaml("fuzz.yml", &rule);
    let (rules, _) = compiler.compile();
    if rules.rules().is_empty() {
        return;
    }
    let event = Event {
        source: Source { product: Some("p".into()), ..Source::default() },
        fields: vec![(FieldId(0), Value::Text(value.into()))],
        ..Event::default()
    };
    let ours = !rules.matcher().matches(&rules, &event).is_empty();
    // What ours took, uncut, may be too large for the other.
    let limited = Regex::config().nfa_size_limit(Some(32 << 20));
    if let Ok(theirs) = Regex::builder().configure(limited).build(pattern) {
        assert_eq!(ours, theirs.is_match(value), "{pattern:?} on {value:?}");
    }
});
