//! Whole-program tests: the real binary, real packets, a real browser; and the tree itself.
//!
//! What the tests share: where the binary is, and whether this machine can run what a test needs.

#![forbid(unsafe_code)]
