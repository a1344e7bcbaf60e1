//! One-time codes, as the signer makes them.

use cordon_code::{Code, MasterKey, slow_hash};
use cordon_model::break_glass::{Brake, BreakGlass, Hashing};
use cordon_model::ids::MachineId;
use cordon_model::time::UtcNanos;

/// What only the signer has.
fn master() -> MasterKey {
    MasterKey::new([4; 32])
}

/// The code of this number in a machine's document.
pub fn code(of: MachineId, revision: u64, number: u8) -> Code {
    master().code(&"RJ1".parse().unwrap(), of, revision, number)
}

/// A document of three codes, as the signer makes it, with costs that a test can pay.
pub fn document(machine: MachineId, revision: u64) -> BreakGlass {
    let now = UtcNanos::now();
    let mut document = BreakGlass {
        organisation: "RJ1".parse().unwrap(),
        machine,
        revision,
        salt: [3; 16].into(),
        hashing: Hashing { memory_kib: 256, passes: 1, lanes: 1 },
        codes: Vec::new(),
        // A day: a test's second boot has the boot time of this machine's first.
        brake: Brake {
            tries: 3,
            window_seconds: 900,
            pause_seconds: 86_400,
            longest_pause_seconds: 86_400,
        },
        hold_off_seconds: 3_600,
        issued_at: now,
        expires_at: now.plus(std::time::Duration::from_secs(3_600)),
    };
    document.codes = (1..=3)
        .map(|number| slow_hash(&document, &code(machine, revision, number)).unwrap().into())
        .collect();
    document
}
