//! Any bytes as a Windows event log: no panic, an end, memory within the limits; and what is read straight is
//! what the records' text says.
#![no_main]

use std::io::Cursor;
use std::ops::ControlFlow;

use cordon_intake::{Item, Reader, Reading};
use cordon_model::event::{FieldTable, Source};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut fields = FieldTable::default();
    fields.intern("Image");
    let reading = Reading { fields: &fields, every_value: true, assumed: Source::default() };
    let [straight, by_text] = [Reader::new(&reading), Reader::by_text(&reading)].map(|mut reader| {
        let mut all = Vec::new();
        let _ = reader.read(Cursor::new(bytes), true, &mut |item| {
            all.push(match item {
                Item::Record(record) => {
                    (format!("{:?}", record.event), record.offset, record.json().to_vec())
                }
                Item::Damage(damage) => (damage.to_string(), 0, Vec::new()),
            });
            ControlFlow::Continue(())
        });
        all
    });
    assert_eq!(straight, by_text);
});
