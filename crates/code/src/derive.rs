//! Where codes come from: a key that the signer holds, and the name of each code.
//!
//! The one idea: codes are never stored. A code is a keyed hash (HMAC-SHA-256, RFC 2104) of whose, which
//! machine's, which sheet's and which number it is, so the signer can say it again, print a lost sheet
//! anew, and read one code by phone while the machine is out of reach already. The key is as secret as the
//! command key and lies beside it: whoever has that one can sign a release anyway.

use cordon_model::ids::{MachineId, OdsCode};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{BASE, CARRYING, Code};

/// The key that codes are made with.
pub struct MasterKey(Zeroizing<[u8; 32]>);

/// Never shows it.
impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey(hidden)")
    }
}

impl MasterKey {
    /// The key of these bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Code `number` (from 1) of a machine's codes of this `revision`.
    #[must_use]
    pub fn code(
        &self,
        organisation: &OdsCode,
        machine: MachineId,
        revision: u64,
        number: u8,
    ) -> Code {
        // HMAC takes a key of any length, so this can't fail; were it to, nobody's code comes out.
        let mut mac = <Hmac<Sha256> as hmac::Mac>::new_from_slice(&self.0[..])
            .unwrap_or_else(|_| Hmac::<Sha256>::new(&Default::default()));
        mac.update(b"cordon break-glass code v1\0");
        let organisation = organisation.as_str().as_bytes();
        // Its length first, so that no two names run together to the same bytes.
        mac.update(&(organisation.len() as u64).to_be_bytes());
        mac.update(organisation);
        mac.update(machine.as_bytes());
        mac.update(&revision.to_be_bytes());
        mac.update(&[number]);
        let digest = Zeroizing::new(<[u8; 32]>::from(mac.finalize().into_bytes()));
        let mut wide = Zeroizing::new([0; 16]);
        wide.copy_from_slice(&digest[..16]);
        let mut rest = Zeroizing::new(u128::from_be_bytes(*wide));
        // 2¹²⁸ is some 2⁵³ times 31¹⁵, so that no code is likelier than another by more than 2⁻⁵³.
        let mut values = [0; CARRYING];
        for value in &mut values {
            *value = u8::try_from(*rest % u128::from(BASE)).unwrap_or(0);
            *rest /= u128::from(BASE);
        }
        Code::of(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_model::time::UtcNanos;
    use std::collections::BTreeSet;

    #[test]
    fn a_code_belongs_to_one_organisation_machine_sheet_and_number() {
        let key = MasterKey::new([1; 32]);
        let machine = |byte| MachineId::new(UtcNanos::from_unix_nanos(0), [byte; 10]);
        let (ours, theirs) = ("RJ1".parse().unwrap(), "RJ12".parse().unwrap());
        let codes = [
            key.code(&ours, machine(1), 1, 1),
            key.code(&theirs, machine(1), 1, 1),
            key.code(&ours, machine(2), 1, 1),
            key.code(&ours, machine(1), 2, 1),
            key.code(&ours, machine(1), 1, 2),
            MasterKey::new([2; 32]).code(&ours, machine(1), 1, 1),
        ];
        let texts: BTreeSet<String> =
            codes.iter().map(|code| code.characters().to_string()).collect();
        assert_eq!(texts.len(), codes.len());
        assert_eq!(key.code(&ours, machine(1), 1, 1), codes[0], "it can be said again");
    }

    #[test]
    fn every_character_comes_about_as_often_at_every_place() {
        let key = MasterKey::new([3; 32]);
        let organisation = "RJ1".parse().unwrap();
        let machine = MachineId::new(UtcNanos::from_unix_nanos(0), [1; 10]);
        let mut counts = [[0u32; 31]; CARRYING];
        for revision in 0..6_200 {
            let code = key.code(&organisation, machine, revision, 1);
            for (place, value) in code.values.iter().enumerate() {
                counts[place][usize::from(*value)] += 1;
            }
        }
        // 200 are expected; seven standard deviations are 99.
        assert!(counts.iter().flatten().all(|count| (101..=299).contains(count)), "{counts:?}");
    }
}
