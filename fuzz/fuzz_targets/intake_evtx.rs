//! Any bytes as a Windows event log: no panic, an end, memory within the limits.
#![no_main]

use std::io::Cursor;
use std::ops::ControlFlow;

use cordon_intake::{Reading, read};
use cordon_model::event::{FieldTable, Source};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let fields = FieldTable::default();
    let reading = Reading { fields: &fields, every_value: true, assumed: Source::default() };
    let _ = read(Cursor::new(bytes), true, &reading, &mut |_| ControlFlow::Continue(()));
});
