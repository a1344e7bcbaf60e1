//! How two Cordon processes speak: length-prefixed CBOR with a cap, over anything that is a stream.
//!
//! [`frame`] is used by every socket and every TLS link; the messages themselves are types of
//! `cordon_model::wire`, the helper's and the signer's protocols. [`token`] is the one line of text that
//! brings a machine to its hub. Nothing here decides anything.

#![forbid(unsafe_code)]

pub mod frame;
pub mod token;
