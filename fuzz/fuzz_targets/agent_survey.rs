//! Any bytes as the files that a survey reads: no panic, an end, and nothing longer than it may be.
#![no_main]

use cordon_agent::contain::survey::keys_files::KeysFiles;
use cordon_agent::contain::survey::lines::{accounts, lines_of};
use cordon_agent::contain::survey::places::Lines;
use cordon_model::survey::TEXT_BYTES;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for lines in [Lines::Plain, Lines::Accounts, Lines::ModuleCommands] {
        for line in lines_of(lines, bytes) {
            assert!(line.text.len() <= TEXT_BYTES);
        }
    }
    let keys = KeysFiles::of([bytes]);
    for account in accounts(bytes) {
        let (files, _) = keys.of_account(&account);
        assert!(files.iter().all(|file| file.is_relative()));
    }
});
