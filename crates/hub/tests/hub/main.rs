//! The hub as a whole: a real signer, a real store and ledger, real TLS on loopback; only the machine at
//! the other end is written here, so that it can also lie.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may state expectations too"
)]

mod approval;
mod attention;
mod beside;
mod codes;
mod control;
mod crash;
mod enrolment;
mod guidance;
mod incidents;
mod keeping;
mod lies;
mod links;
mod names;
mod returning;
mod support;
mod tunnel;
mod undo;
