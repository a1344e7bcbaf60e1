//! Any bytes as an archive of evidence, packed and unpacked: no panic, an end, memory within the limits.
#![no_main]

use cordon_evidence::archive::{check, check_unpacked};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = check(bytes, None);
    let _ = check_unpacked(bytes, None);
});
