//! The console over a real hub with its signer, asked as a browser asks.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test states what it expects by unwrapping"
)]

#[expect(dead_code, reason = "the hub's own tests use all of it")]
#[path = "../../../hub/tests/hub/support.rs"]
mod support;

mod acting;
mod browser;
mod guarding;
mod looking;
mod measuring;
mod others;
