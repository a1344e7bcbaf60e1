//! The signer: the only holder of the command key, in a process of its own.
//!
//! [`serve`] is the whole of that process; [`Client`] is how the hub speaks to it. It has no network and
//! runs as a user of its own; only the hub's user is answered, on a Unix socket. It never signs bytes
//! that it is given: it is told what is wanted ([`Request`]), checks it against its own registry
//! with the rules of [`cordon_respond::signer_core`], writes down what it allows (fsync), and only then
//! signs a document that it built itself. So somebody who owns the hub and its web pages can spend a
//! budget, and no more: see [`limits`] for the arithmetic. What would make anything weaker is signed for root
//! on the signer's machine alone: see [`leave`].
//!
//! | file in its directory | holds |
//! |---|---|
//! | `command.key`, `ledger.key`, `break-glass.key` | the private keys, 32 bytes each, mode 600; back them up |
//! | `state`, `journal` | what it remembers: [`state`], and how it survives a crash |
//! | `ledger/` | everything that it signed or refused, as `cordon verify` reads it |
//!
//! It also signs the checkpoints of the hub's ledger, each only if it can be shown to begin with the
//! one before: a stolen hub can't rewrite what was done.

mod account;
mod brake;
mod client;
pub mod codes;
mod desk;
mod hardening;
mod journal;
mod keys;
pub mod leave;
pub mod limits;
pub mod protocol;
mod server;
pub mod state;
#[cfg(test)]
mod tests;

pub use client::{Client, ClientError};
pub use desk::{Broken, Desk};
pub use hardening::{Unsafe, User};
pub use journal::JournalError;
pub use keys::KeyError;
pub use protocol::{Answer, Keys, OTHER_WORDS, Peer, Refused, Request, hub_origin, signer_origin};
pub use server::{SignerConfig, SignerError, serve, serve_until};
