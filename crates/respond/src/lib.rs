//! The decisions as state machines. No input or output, no clock, no randomness of their own.
//!
//! Everything here is `step(now, input) → outputs` over plain data, so that production and the simulator
//! drive the same code. Four **cores** are the minds of four processes; each has a thin shell elsewhere
//! that verifies signatures, writes the core's state to disk **before** it carries out what the core
//! said, and reports back:
//!
//! | core | process | decides |
//! |---|---|---|
//! | [`hub_core`] | hub | what belongs together, what to propose, whom to ask, what to send again |
//! | [`agent_core`] | agent | when a machine with no hub in reach defends itself |
//! | [`signer_core`] | signer | which proposals become signed orders and permits |
//! | [`helper_core`] | privileged helper | which orders a machine obeys, what it holds in force, and until when |
//!
//! They are made of parts that each keep one rule: [`decision`] (do, ask or watch), [`budget`] (the
//! brake), [`approval`] (who agreed), [`peoples_brake`] (how much people order at once), [`lease`] (every measure ends), [`grouping`]
//! (one story), [`notice`] (what the person in front of a machine is told), [`names`] (a name of a lifeline answers otherwise),
//! [`order`] (an order's delivery, a measure's state), [`delivery`] (exactly once), [`permits`] (leave given ahead), [`plan`] (what else a finding calls for),
//! [`clock`] (running time, which nobody can set), [`weakening`] (what a hub alone may not have signed).

#![forbid(unsafe_code)]

pub mod agent_core;
pub mod approval;
pub mod budget;
pub mod clock;
pub mod decision;
pub mod delivery;
pub mod eliminate;
pub mod grouping;
pub mod helper_core;
pub mod hub_core;
pub mod lease;
pub mod names;
pub mod notice;
pub mod order;
pub mod peoples_brake;
pub mod permits;
pub mod plan;
pub mod return_gate;
pub mod signer_core;
pub mod weakening;
