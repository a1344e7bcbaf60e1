//! The ledger: an append-only log of everything done, that cannot be altered unseen.

#![forbid(unsafe_code)]
