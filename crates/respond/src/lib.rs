//! The decisions as state machines: grouping, policy, approval, order, lease, budget. No input or output, no clock.

#![forbid(unsafe_code)]

pub mod approval;
pub mod budget;
pub mod clock;
pub mod decision;
pub mod lease;
