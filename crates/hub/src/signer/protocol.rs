//! What hub and signer say to each other, over one Unix socket: a [`Request`], an [`Answer`], again.
//!
//! The one idea: there is no "sign these bytes". Each request names one kind of document in typed
//! fields, and the signer builds what it signs itself.

use cordon_model::asset::Assignment;
use cordon_model::guidance::Bedside;
use cordon_model::ids::{ApprovalId, MachineId, MeasureId, OdsCode, OrderId};
use cordon_model::measure::Isolation;
use cordon_model::order::Approver;
use cordon_model::policy::Policy;
use cordon_model::signed::Envelope;
use cordon_respond::decision::Situation;
use cordon_respond::names::Pin;
use cordon_respond::signer_core::{Proposal, Refusal};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;

use super::codes::{CodesAnswer, CodesAsk};
use super::leave::SaidAhead;

/// The largest message: as on every link. The largest honest one is an answer of
/// [`MOST_PERMITS`](super::limits::MOST_PERMITS) permits of about 500 bytes: 500 KB.
pub const MESSAGE_BYTES: usize = cordon_model::limits::MESSAGE_BYTES;

/// Steps of a consistency proof: two for each level of a tree of 2⁶⁴ leaves.
pub const PROOF_STEPS: usize = 128;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Peer {
    /// The hub.
    Hub,
    /// Root on this machine, or the signer's own user: whoever could read the keys.
    Keeper,
}

/// What the hub asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Whose signer is this, and what are its keys?
    Keys,
    /// Whom does the signer take the asker for?
    Peer,
    /// Sign what the organisation says of a machine. The signer gives the revision.
    Assign {
        /// What is said.
        draft: Box<Assignment>,
        /// The key that the machine signs receipts with, at its enrolment.
        receipt_key: Option<ByteArray<32>>,
        /// Who says it. A machine may be made known by nobody. What makes anything weaker
        /// ([`weakening`](cordon_respond::weakening)) needs a name, and is signed for the keeper alone.
        by: Option<Approver>,
    },
    /// Note what a machine will be that is still to enrol: the next of which the hub says just this is that.
    /// For the keeper alone.
    SayAhead {
        /// What is said.
        said: Box<SaidAhead>,
        /// Who says it.
        by: Approver,
        /// Seconds that it is good for.
        good_for_seconds: u32,
    },
    /// Sign the assignment that follows when addresses of a name are pinned: `SignerCore::pin`. The signer
    /// makes it from what it signed last.
    Pin {
        /// Which machine.
        machine: MachineId,
        /// What is pinned. Who signs it off is a person; nobody: the bound that a person signed.
        pin: Box<Pin>,
    },
    /// Sign a policy. The signer gives the revision; from the hub, what holds already is signed again as it is.
    SetPolicy {
        /// What is to hold.
        draft: Box<Policy>,
        /// Who wants it.
        by: Approver,
    },
    /// The policy in force.
    Policy,
    /// A machine's assignment in force.
    Assignment(MachineId),
    /// Sign an order.
    Sign(Box<Proposal>),
    /// Sign the permits that are due.
    RenewPermits,
    /// A machine's signed receipt: `SignerCore::learn`.
    Learn {
        /// Which machine.
        machine: MachineId,
        /// The receipt, exactly as signed.
        receipt: Envelope,
    },
    /// An order will never begin a measure: `SignerCore::never_begun`.
    NeverBegun {
        /// For which machine it was.
        machine: MachineId,
        /// The order.
        order: OrderId,
    },
    /// A machine denies a measure: `SignerCore::not_in_force`.
    NotInForce {
        /// Which machine.
        machine: MachineId,
        /// The measure.
        measure: MeasureId,
    },
    /// People are asked about a machine: `SignerCore::asked`.
    Asked {
        /// Which machine.
        machine: MachineId,
        /// The question.
        approval: ApprovalId,
    },
    /// A machine is in contact: `SignerCore::heard`.
    Heard {
        /// Which machine.
        machine: MachineId,
        /// How far it says that it is isolated.
        isolation: Option<Isolation>,
    },
    /// What the registry says of a machine now, for the hub's own decision.
    Situation(MachineId),
    /// Size and root of the hub's ledger as last signed.
    LastCosigned,
    /// Sign a checkpoint of the hub's ledger.
    Cosign {
        /// How many records it has.
        size: u64,
        /// Its root.
        root: ByteArray<32>,
        /// That it begins with what was signed last.
        proof: Vec<ByteArray<32>>,
    },
    /// About break-glass codes.
    Codes(CodesAsk),
    /// Take what the organisation says of a machine for the person in front of it.
    SetBedside {
        /// Which machine.
        machine: MachineId,
        /// What is said.
        bedside: Box<Bedside>,
        /// Who says it: what stands on a hospital's screens needs a name.
        by: Approver,
    },
    /// What the organisation says of a machine for the person in front of it.
    Bedside(MachineId),
    /// Sign what people in front of a machine are told.
    Guide {
        /// Which machine.
        machine: MachineId,
        /// The next of its kind that works, as the hub hears it.
        nearest: Option<MachineId>,
    },
}

/// What the signer answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Answer {
    /// To [`Request::Keys`].
    Keys(Keys),
    /// To [`Request::Peer`].
    Peer(Peer),
    /// A signed document.
    Document(Envelope),
    /// Signed documents.
    Documents(Vec<Envelope>),
    /// To [`Request::Situation`].
    Situation(Situation),
    /// To [`Request::LastCosigned`].
    Cosigned {
        /// How many records it had.
        size: u64,
        /// Its root.
        root: ByteArray<32>,
    },
    /// A signed checkpoint, as a note.
    Note(String),
    /// About break-glass codes.
    Codes(CodesAnswer),
    /// To [`Request::Bedside`].
    Bedside(Box<Bedside>),
    /// It is noted.
    Done,
    /// No.
    Refused(Refused),
}

/// The signer's public keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// Whose signer it is.
    pub organisation: OdsCode,
    /// Ed25519: orders, permits, policies, assignments. Every machine pins it.
    pub command: ByteArray<32>,
    /// Ed25519: checkpoints of the ledgers.
    pub ledger: ByteArray<32>,
    /// The origin of the hub's checkpoints.
    pub hub_origin: String,
    /// The origin of the signer's own.
    pub signer_origin: String,
}

/// The origin of the hub's checkpoints.
#[must_use]
pub fn hub_origin(organisation: &OdsCode) -> String {
    format!("cordon/{organisation}/hub")
}

/// The origin of the signer's own.
#[must_use]
pub fn signer_origin(organisation: &OdsCode) -> String {
    format!("cordon/{organisation}/signer")
}

/// What takes the keeper beside what weakens, in words.
pub const OTHER_WORDS: &str = "other words for the person in front of the machine: where it is, what to use instead, whom to ring";

/// Why the signer does not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Refused {
    /// The rules of [`SignerCore`](cordon_respond::signer_core::SignerCore).
    #[error(transparent)]
    Rule(Refusal),
    /// What weakens a machine's protection needs a person's name.
    #[error("{0}: that needs the name of a person who answers for it")]
    NeedsPerson(String),
    /// What makes anything weaker, from the hub.
    #[error(
        "the signer does not take that from the hub alone ({0}), whoever says it there. As root on its machine, say \
         it with `cordon assign`, `cordon lifelines confirm` or `cordon policy`"
    )]
    NeedsKeeper(String),
    /// More documents than a hub may have signed in a time.
    #[error(
        "the signer has signed too many documents for the hub: {0}. It writes each down for ever. Say it later, or as \
         root on the signer's machine; root frees it at once by restarting the signer there (`systemctl restart \
         cordon-signer`), and should ask what the hub did with so many"
    )]
    TooMany(String),
    /// A name that is none.
    #[error("a person's name has 1 to {limit} bytes and no control characters", limit = cordon_model::limits::NAME_BYTES)]
    BadName,
    /// Codes in clear.
    #[error(
        "break-glass codes are shown to root on the signer's machine alone, by the command `cordon \
         break-glass`, and never to the hub"
    )]
    NotForTheHub,
    /// A policy beyond what this signer signs whoever asks.
    #[error("the policy is beyond this signer's ceiling: {0}")]
    Ceiling(String),
    /// A receipt of a machine whose key is not known here, or that its key did not sign.
    #[error("the receipt is not that machine's: {0}")]
    NotGenuine(String),
    /// The hub's ledger does not begin with what was signed before: it was rewritten.
    #[error("the ledger does not begin with the {size} records that were signed before")]
    Inconsistent {
        /// How many were.
        size: u64,
    },
    /// The message is none that this version knows.
    #[error("not understood: {0}")]
    Malformed(String),
    /// The signer's disk fails: it signs nothing that it can't remember.
    #[error("the signer's disk fails: {0}")]
    Disk(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_link::frame::{decode, encode};
    use proptest::prelude::*;

    fn honest() -> Vec<u8> {
        let request = Request::Cosign {
            size: 7,
            root: ByteArray::new([1; 32]),
            proof: vec![ByteArray::new([2; 32]); 3],
        };
        encode(&request, MESSAGE_BYTES).unwrap()[4..].to_vec()
    }

    #[test]
    fn a_request_with_a_field_that_is_not_known_is_refused() {
        #[derive(Serialize)]
        #[serde(rename_all = "kebab-case")]
        enum Newer {
            Heard { machine: MachineId, isolation: Option<Isolation>, sign_this_too: Vec<u8> },
        }
        let machine = MachineId::new(cordon_model::time::UtcNanos::from_unix_nanos(0), [1; 10]);
        let newer = Newer::Heard { machine, isolation: None, sign_this_too: vec![1] };
        let bytes = encode(&newer, MESSAGE_BYTES).unwrap();
        assert!(decode::<Request>(&bytes[4..]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode::<Request>(&bytes);
        }

        #[test]
        fn an_honest_request_with_any_byte_changed_is_read_or_refused(
            at in any::<prop::sample::Index>(), by in 1u8..,
        ) {
            let mut bytes = honest();
            let at = at.index(bytes.len());
            bytes[at] ^= by;
            let _ = decode::<Request>(&bytes);
        }
    }
}
