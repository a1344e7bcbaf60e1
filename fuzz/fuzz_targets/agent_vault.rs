//! Any bytes as a file of the vault, and any content behind a right seal: no panic, an end.
#![no_main]

use cordon_agent::contain::action::quarantine::chunks::{HEADER_BYTES, Header, Sealing, VaultKey};
use cordon_agent::contain::action::quarantine::records::Recorded;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let key = VaultKey::new([1; 32].into());
    if let Some(header) = bytes.first_chunk::<HEADER_BYTES>()
        && let Ok(parsed) = Header::parse(header)
    {
        assert_eq!(parsed.bytes(), *header);
    }
    let read = |from: &[u8]| {
        if let Ok((_, recorded)) = Recorded::begin(from, &key) {
            let _ = recorded.each(|_, _| Ok(()));
        }
    };
    read(bytes);
    let sealed = Sealing::begin(Vec::new(), &key, [7; 19]).and_then(|mut sealing| {
        sealing.write(bytes)?;
        sealing.end()
    });
    if let Ok(sealed) = sealed {
        read(&sealed);
    }
});
