//! Any bytes as compiled rules: no panic, an end, also when an event is put to what was read.
#![no_main]

use cordon_detect::stored::Stored;
use cordon_model::event::{Event, FieldId, Source, Value};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some(Stored { set, .. }) = Stored::from_bytes(bytes) else { return };
    let mut matcher = set.matcher();
    for event_id in [1, 4624] {
        let event = Event {
            source: Source {
                channel: Some("Security".into()),
                product: Some("windows".into()),
                event_id: Some(event_id),
                ..Source::default()
            },
            fields: (0..8).map(|at| (FieldId(at), Value::Text("a -x abc".into()))).collect(),
            ..Event::default()
        };
        for rule in matcher.matches(&set, &event).to_vec() {
            let _ = matcher.why(&set, &event, rule);
            let _ = matcher.hit(&set, &event, rule, 0);
        }
    }
});
