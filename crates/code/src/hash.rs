//! The slow hash by which a machine knows its codes.
//!
//! The document's costs, its salt, and whose code it is all go into the hash, so that a code's hash says
//! nothing about another machine or sheet.

use argon2::{Algorithm, Argon2, AssociatedData, ParamsBuilder, Version};
use cordon_model::break_glass::BreakGlass;

use crate::Code;

/// The document's costs can't be paid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the code can't be hashed: {0}")]
pub struct HashError(String);

/// Hashes `code` as `document` says; compare with [`BreakGlass::number_of`]. Takes tens of milliseconds
/// and tens of mebibytes: not on a thread that others wait for.
///
/// # Errors
/// [`HashError`] for costs that Argon2 does not know.
pub fn slow_hash(document: &BreakGlass, code: &Code) -> Result<[u8; 32], HashError> {
    let failed = |error: argon2::Error| HashError(error.to_string());
    // Argon2 takes 32 bytes of associated data: the machine and the revision; the organisation is in what
    // is hashed.
    let mut whose = [0; 24];
    whose[..16].copy_from_slice(document.machine.as_bytes());
    whose[16..].copy_from_slice(&document.revision.to_be_bytes());
    let hashing = document.hashing;
    let params = ParamsBuilder::new()
        .m_cost(hashing.memory_kib)
        .t_cost(hashing.passes)
        .p_cost(hashing.lanes)
        .data(AssociatedData::new(&whose).map_err(failed)?)
        .output_len(32)
        .build()
        .map_err(failed)?;
    let mut said = code.characters();
    said.push('\0');
    said.push_str(document.organisation.as_str());
    let mut hash = [0; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(said.as_bytes(), &document.salt[..], &mut hash)
        .map_err(failed)?;
    Ok(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MasterKey;
    use cordon_model::break_glass::{Brake, Hashing};
    use cordon_model::ids::MachineId;
    use cordon_model::time::UtcNanos;

    fn document() -> BreakGlass {
        BreakGlass {
            organisation: "RJ1".parse().unwrap(),
            machine: MachineId::new(UtcNanos::from_unix_nanos(0), [1; 10]),
            revision: 3,
            salt: [5; 16].into(),
            hashing: Hashing { memory_kib: 64, passes: 1, lanes: 1 },
            codes: Vec::new(),
            brake: Brake::DEFAULT,
            hold_off_seconds: 1,
            issued_at: UtcNanos::from_unix_nanos(0),
            expires_at: UtcNanos::from_unix_nanos(1),
        }
    }

    #[test]
    fn a_document_knows_its_own_codes_and_no_others() {
        let mut document = document();
        let key = MasterKey::new([1; 32]);
        let code = |number| key.code(&document.organisation, document.machine, 3, number);
        let (first, second, third) = (code(1), code(2), code(3));
        let hashes = [&first, &second].map(|code| slow_hash(&document, code).unwrap().into());
        document.codes = hashes.to_vec();
        let number =
            |document: &BreakGlass, code| document.number_of(&slow_hash(document, code).unwrap());
        assert_eq!(number(&document, &first), Some(1));
        assert_eq!(number(&document, &second), Some(2));
        assert_eq!(number(&document, &third), None);
        // The same hashes in another's name know nothing.
        let other = BreakGlass {
            machine: MachineId::new(UtcNanos::from_unix_nanos(0), [2; 10]),
            ..document.clone()
        };
        assert_eq!(number(&other, &first), None);
        let other = BreakGlass { organisation: "RJ2".parse().unwrap(), ..document.clone() };
        assert_eq!(number(&other, &first), None);
        let other = BreakGlass { revision: 4, ..document.clone() };
        assert_eq!(number(&other, &first), None);
        let other = BreakGlass { salt: [6; 16].into(), ..document };
        assert_eq!(number(&other, &first), None);
    }

    #[test]
    fn costs_that_argon2_does_not_know_are_an_error() {
        let impossible = Hashing { memory_kib: 1, passes: 0, lanes: 0 };
        let document = BreakGlass { hashing: impossible, ..document() };
        let code = MasterKey::new([1; 32]).code(&document.organisation, document.machine, 3, 1);
        assert!(slow_hash(&document, &code).is_err());
    }
}
