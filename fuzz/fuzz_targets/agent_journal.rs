//! Any bytes as what the journal says of a measure: no panic, and what is read is written the same.
#![no_main]

use cordon_agent::contain::action::deny::DeniedProgram;
use cordon_agent::contain::action::hold::Held;
use cordon_agent::contain::action::kill::Killed;
use cordon_agent::contain::action::quarantine::Quarantined;
use cordon_agent::contain::disk::decode;
use serde::Serialize;
use serde::de::DeserializeOwned;

fn read_and_write<T: Serialize + DeserializeOwned + PartialEq>(bytes: &[u8]) {
    let Some(entry) = decode::<T>(bytes) else { return };
    let mut written = Vec::new();
    ciborium::into_writer(&entry, &mut written).expect("what was read can be written");
    assert!(decode::<T>(&written).is_some_and(|again| again == entry));
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    read_and_write::<Held>(bytes);
    read_and_write::<Killed>(bytes);
    read_and_write::<Quarantined>(bytes);
    read_and_write::<DeniedProgram>(bytes);
});
