//! Which break-glass codes a machine has, which are used up, and which were told to somebody.
//!
//! The one idea: the signer can say any code again at any time (the shell derives them from a key), so what
//! is kept here are the hashes and the marks. Making them is slow, so it goes in three steps: what is to
//! be made, the hashing (by the shell, with nobody waiting), and [`SignerCore::codes_made`].

use std::collections::BTreeSet;
use std::time::Duration;

use cordon_model::break_glass::{BreakGlass, BreakGlassTerms};
use cordon_model::ids::{MachineId, OdsCode};
use cordon_model::measure::{Origin, Receipt};
use cordon_model::time::UtcNanos;
use serde::{Deserialize, Serialize};

use super::{Refusal, SignerCore};
use crate::clock::Moment;

/// New codes are made when the present ones have less than this left: 30 days, to print and lay out the new
/// sheets in.
pub const RENEW_BEFORE: Duration = Duration::from_secs(30 * 24 * 3600);

/// What the signer keeps of a machine's codes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Codes {
    document: BreakGlass,
    /// Numbers that opened the machine, as its receipts say.
    used: BTreeSet<u8>,
    /// Numbers that were read out to somebody.
    read: BTreeSet<u8>,
    /// When they were printed last.
    printed_at: Option<UtcNanos>,
}

/// What is to be made for a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodesToMake {
    /// Whose machine.
    pub organisation: OdsCode,
    /// Which.
    pub machine: MachineId,
    /// As what.
    pub revision: u64,
    /// By which terms.
    pub terms: BreakGlassTerms,
    /// When they are made.
    pub issued_at: UtcNanos,
}

impl CodesToMake {
    /// The document without its hashes yet.
    #[must_use]
    pub fn document(&self, salt: [u8; 16]) -> BreakGlass {
        let days = u64::from(self.terms.good_for_days);
        BreakGlass {
            organisation: self.organisation.clone(),
            machine: self.machine,
            revision: self.revision,
            salt: salt.into(),
            hashing: self.terms.hashing,
            codes: Vec::new(),
            brake: self.terms.brake,
            hold_off_seconds: self.terms.hold_off_seconds,
            issued_at: self.issued_at,
            expires_at: self.issued_at.plus(Duration::from_secs(days * 24 * 3600)),
        }
    }
}

/// What became of one code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CodeFate {
    /// It opens its machine.
    Good,
    /// It opens its machine, and was read out to somebody.
    Read,
    /// It opened its machine, and never will again.
    Used,
}

/// A machine's codes, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodesRow {
    /// Which machine.
    pub machine: MachineId,
    /// What people call it.
    pub name: String,
    /// Of which revision; 0: it has none yet.
    pub revision: u64,
    /// What became of each, from number 1.
    pub fates: Vec<CodeFate>,
    /// When this revision was printed last.
    pub printed_at: Option<UtcNanos>,
    /// Until when they are good.
    pub expires_at: UtcNanos,
    /// New ones are to be made.
    pub is_due: bool,
}

impl Codes {
    fn is_due(&self, now: UtcNanos) -> bool {
        let unused = self.document.codes.len().saturating_sub(self.used.len());
        unused == 0 || now.plus(RENEW_BEFORE) >= self.document.expires_at
    }

    fn fate(&self, number: u8) -> CodeFate {
        if self.used.contains(&number) {
            CodeFate::Used
        } else if self.read.contains(&number) {
            CodeFate::Read
        } else {
            CodeFate::Good
        }
    }

    fn fates(&self) -> impl Iterator<Item = (u8, CodeFate)> {
        let count = u8::try_from(self.document.codes.len()).unwrap_or(u8::MAX);
        (1..=count).map(|number| (number, self.fate(number)))
    }
}

impl SignerCore {
    /// The machine's codes, as they were signed last.
    #[must_use]
    pub fn codes(&self, machine: MachineId) -> Option<&BreakGlass> {
        Some(&self.machines.get(&machine)?.codes.as_ref()?.document)
    }

    /// Whether any machine has codes: then the key that they were made with must not be made anew.
    #[must_use]
    pub fn has_codes(&self) -> bool {
        self.machines.values().any(|known| known.codes.is_some())
    }

    /// What is to be made for a machine: `None` if it has good codes, and nobody wants others.
    ///
    /// # Errors
    /// [`Refusal::UnknownMachine`].
    pub fn codes_to_make(
        &self,
        machine: MachineId,
        wants_new: bool,
        now: &Moment,
    ) -> Result<Option<CodesToMake>, Refusal> {
        let known = self.machines.get(&machine).ok_or(Refusal::UnknownMachine)?;
        let held = known.codes.as_ref();
        if !wants_new && held.is_some_and(|codes| !codes.is_due(now.utc)) {
            return Ok(None);
        }
        // At least the second in which it is made: a signer that was restored from an old backup must not
        // give a number that a machine has seen.
        let seconds = u64::try_from(now.utc.unix_nanos() / 1_000_000_000).unwrap_or(0);
        let next = held.map_or(1, |codes| codes.document.revision.saturating_add(1));
        Ok(Some(CodesToMake {
            organisation: self.policy.organisation.clone(),
            machine,
            revision: next.max(seconds),
            terms: self.policy.break_glass,
            issued_at: now.utc,
        }))
    }

    /// Takes codes that were made, unless newer ones are there. Gives those that hold now.
    ///
    /// # Errors
    /// [`Refusal::UnknownMachine`], [`Refusal::Terms`].
    pub fn codes_made(&mut self, document: BreakGlass) -> Result<BreakGlass, Refusal> {
        document.check().map_err(|error| Refusal::Terms(error.to_string()))?;
        let known = self.machines.get_mut(&document.machine).ok_or(Refusal::UnknownMachine)?;
        let held = known.codes.as_ref().map_or(0, |codes| codes.document.revision);
        if document.revision > held {
            known.codes = Some(Codes {
                document,
                used: BTreeSet::new(),
                read: BTreeSet::new(),
                printed_at: None,
            });
        }
        known.codes.as_ref().map(|codes| codes.document.clone()).ok_or(Refusal::UnknownMachine)
    }

    /// Which code to read out next: one that nobody was told of, else the one that was told longest ago
    /// by number and not used.
    ///
    /// # Errors
    /// [`Refusal::UnknownMachine`], [`Refusal::NoCodes`].
    pub fn next_code(&self, machine: MachineId) -> Result<u8, Refusal> {
        let known = self.machines.get(&machine).ok_or(Refusal::UnknownMachine)?;
        let codes = known.codes.as_ref().ok_or(Refusal::NoCodes)?;
        let next =
            |wanted| codes.fates().find(|(_, fate)| *fate == wanted).map(|(number, _)| number);
        next(CodeFate::Good).or_else(|| next(CodeFate::Read)).ok_or(Refusal::NoCodes)
    }

    /// Takes note that codes were read out (`numbers`) or printed (none named).
    ///
    /// # Errors
    /// [`Refusal::UnknownMachine`], [`Refusal::NoCodes`].
    pub fn codes_shown(
        &mut self,
        machine: MachineId,
        numbers: &[u8],
        now: &Moment,
    ) -> Result<(), Refusal> {
        let known = self.machines.get_mut(&machine).ok_or(Refusal::UnknownMachine)?;
        let codes = known.codes.as_mut().ok_or(Refusal::NoCodes)?;
        if numbers.is_empty() {
            codes.printed_at = Some(now.utc);
        }
        codes.read.extend(numbers);
        Ok(())
    }

    /// What became of a machine's codes.
    #[must_use]
    pub fn codes_row(&self, machine: MachineId, now: UtcNanos) -> Option<CodesRow> {
        let known = self.machines.get(&machine)?;
        Some(match &known.codes {
            Some(codes) => CodesRow {
                machine,
                name: known.assignment.name.clone(),
                revision: codes.document.revision,
                fates: codes.fates().map(|(_, fate)| fate).collect(),
                printed_at: codes.printed_at,
                expires_at: codes.document.expires_at,
                is_due: codes.is_due(now),
            },
            None => CodesRow {
                machine,
                name: known.assignment.name.clone(),
                revision: 0,
                fates: Vec::new(),
                printed_at: None,
                expires_at: now,
                is_due: true,
            },
        })
    }

    /// The same of machines after one, in order, at most `limit`.
    #[must_use]
    pub fn codes_rows(
        &self,
        after: Option<MachineId>,
        limit: usize,
        now: UtcNanos,
    ) -> Vec<CodesRow> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        let machines = self.machines.range((from, Unbounded)).map(|(machine, _)| *machine);
        machines.take(limit).filter_map(|machine| self.codes_row(machine, now)).collect()
    }

    /// A receipt may tell of a code that was used.
    pub(super) fn learn_of_codes(&mut self, receipt: &Receipt) {
        if let Origin::BreakGlass { revision, code } = receipt.origin
            && let Some(known) = self.machines.get_mut(&receipt.machine)
            && let Some(codes) = &mut known.codes
            && codes.document.revision == revision
            && usize::from(code) <= codes.document.codes.len()
        {
            codes.used.insert(code);
        }
    }
}
