//! Why the hub did not do what a person asked.

use cordon_respond::approval::AnswerRefused;
use cordon_respond::signer_core::Refusal;
use cordon_store::{Role, StoreError};

use crate::signer::Refused;

/// Why the hub did not do what was asked. The words are for the person who asked.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The person's role does not reach so far.
    #[error("this needs the role {needs:?}")]
    NotAllowed {
        /// The least role that may.
        needs: Role,
    },
    /// There is none such here.
    #[error("no such {what}")]
    Missing {
        /// What was looked for.
        what: &'static str,
    },
    /// What was given can't be taken.
    #[error("the {what} can't be taken: {why}")]
    Invalid {
        /// What was given.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The signer looked at it and said no.
    #[error("the signer refuses: {0}")]
    Refused(#[from] Refusal),
    /// It would make something weaker, which takes root on the signer's machine.
    #[error("{}", Refused::NeedsKeeper(weaker.clone()))]
    NeedsKeeper {
        /// What would become weaker.
        weaker: String,
    },
    /// The answer to a question was not taken.
    #[error(transparent)]
    Answer(#[from] AnswerRefused),
    /// The signer does not answer; nothing was done, or it will be done when it is back.
    #[error(
        "the signer does not answer ({why}): is it running? what was proposed is kept and asked again"
    )]
    SignerAway {
        /// What was seen.
        why: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A document that should be genuine is not.
    #[error("a stored document can't be used: {0}")]
    Document(String),
    /// The gate of the return to service is closed.
    #[error(
        "it is not ready to return to service: {missing}. If care needs it now: `cordon release {machine} \
         --reason \"...\" --despite \"why\"`"
    )]
    GateClosed {
        /// What people call it.
        machine: String,
        /// What is missing, each with the command that brings it.
        missing: String,
    },
    /// The machine did not show how it is.
    #[error("the machine can't be looked at: {0}")]
    NotSeen(String),
    /// The hub is ending.
    #[error("the hub is shutting down: try again when it is back")]
    Closing,
}
