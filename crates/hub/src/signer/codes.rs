//! What is asked of the signer about break-glass codes, and what it answers.
//!
//! The one idea: the hub never sees a code. It has the hashes signed and brought to the machines; the codes
//! themselves are handed to root on the signer's machine alone, who could read the keys anyway. So a stolen
//! hub, or a stolen console, opens nothing by them.

use cordon_model::ids::{MachineId, OdsCode};
use cordon_model::time::UtcNanos;
use cordon_respond::signer_core::{CodeFate, CodesRow};
use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

/// Rows in one answer: 500 of about 100 bytes, and a name of at most 1 KiB in each.
pub const ROWS: usize = 500;

/// What was shown to whom, kept until the hub has written it down: 1,000 of at most 2.2 KB. The signer's own
/// ledger has all of it for ever.
pub const SHOWN_KEPT: usize = 1_000;

/// How many of them one answer has: 100 of at most 2.2 KB fit a message.
pub const SHOWN_PER_ANSWER: usize = 100;

/// What is asked about codes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum CodesAsk {
    /// The signed hashes of a machine's codes; made now if it has none, or if their time nears its end.
    Document(MachineId),
    /// Other codes for a machine: those that it has are known to somebody who should not know them.
    Renew {
        /// Which machine.
        machine: MachineId,
        /// Who wants it, and why.
        by: Asker,
    },
    /// How the codes of machines are, in the order of their ids.
    Rows {
        /// Of machines after this one.
        after: Option<MachineId>,
    },
    /// A machine's codes, to print. For root on this machine only.
    Sheet {
        /// Which machine.
        machine: MachineId,
        /// Who prints it, and why.
        by: Asker,
    },
    /// One code, to be read out by phone. For root on this machine only.
    ReadOne {
        /// Which machine.
        machine: MachineId,
        /// Who is at the other end, and why.
        by: Asker,
    },
    /// What was shown to whom, after this number.
    Shown {
        /// The last number that the asker has.
        after: u64,
    },
}

/// Who wants something, and why, as they say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asker {
    /// Who.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// A code in clear, on its way to somebody who reads it out or prints it. Never formatted, wiped after use.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClearCode(String);

impl ClearCode {
    pub(super) fn new(code: &cordon_code::Code) -> Self {
        Self(code.characters().to_string())
    }

    /// The code.
    ///
    /// # Errors
    /// If the signer is of another version.
    pub fn code(&self) -> Result<cordon_code::Code, cordon_code::NoCode> {
        cordon_code::Code::parse(&self.0)
    }
}

impl Drop for ClearCode {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::fmt::Debug for ClearCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClearCode(hidden)")
    }
}

/// A machine's codes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sheet {
    /// Whose machine.
    pub organisation: OdsCode,
    /// Which machine.
    pub machine: MachineId,
    /// What people call it.
    pub name: String,
    /// What it is.
    pub kind: Option<String>,
    /// Ward or department.
    pub group: Option<String>,
    /// Which revision of its codes.
    pub revision: u64,
    /// When they were made.
    pub issued_at: UtcNanos,
    /// Until when they are good.
    pub expires_at: UtcNanos,
    /// How long Cordon then leaves the machine alone.
    pub hold_off_seconds: u32,
    /// Number, code and what became of it.
    pub codes: Vec<(u8, ClearCode, CodeFate)>,
}

/// Codes that were shown to somebody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shown {
    /// Counts up from 1.
    pub number: u64,
    /// Of which machine.
    pub machine: MachineId,
    /// Which code was read out; `None`: a sheet was printed.
    pub code: Option<u8>,
    /// To whom, and why.
    pub by: Asker,
    /// When.
    pub at: UtcNanos,
}

/// What the signer answers about codes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum CodesAnswer {
    /// To [`CodesAsk::Rows`].
    Rows(Vec<CodesRow>),
    /// To [`CodesAsk::Sheet`] and, with one code in it, to [`CodesAsk::ReadOne`].
    Sheet(Box<Sheet>),
    /// To [`CodesAsk::Shown`].
    Shown(Vec<Shown>),
}
