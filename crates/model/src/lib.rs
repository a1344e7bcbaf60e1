//! The words of Cordon. No input or output, almost no dependencies.
//!
//! Read in this order, which is the order in which things happen:
//!
//! | word | module | is |
//! |---|---|---|
//! | event | [`event`] | what happened |
//! | finding | [`finding`] | what it means |
//! | incident | [`incident`] | what belongs together |
//! | decision | [`policy`] | what to do |
//! | order, permit | [`order`] | the signed instruction, or the leave given ahead |
//! | measure | [`measure`], [`action`] | the effect, with its lease and its proof |
//! | record | [`record`] | the account of it |
//!
//! Around them: [`ids`] (names), [`time`] (three clocks), [`asset`] (machines, tiers, lifelines),
//! [`named`] (lifelines that people know by name), [`well_known`] (needs that they know by a word),
//! [`approval`] (who has to agree, and when),
//! [`break_glass`] (codes that open a machine with nobody in reach),
//! [`guidance`] (what the person in front of a machine is told),
//! [`signed`] (what a signature covers), [`wire`] (what the links say), [`holds`] (what a machine says is in
//! force on it now), [`look`] (what a person is shown of a machine), [`survey`] and [`change`] (what starts by itself
//! there, and what was changed of it),
//! [`limits`] (how much of anything there may be) and [`laws`] (what must always hold).

#![forbid(unsafe_code)]

pub mod action;
pub mod approval;
pub mod asset;
pub mod break_glass;
pub mod change;
pub mod event;
pub mod finding;
pub mod gate;
pub mod guidance;
pub mod holds;
pub mod ids;
pub mod incident;
pub mod laws;
pub mod limits;
pub mod look;
pub mod measure;
pub mod named;
pub mod order;
pub mod policy;
pub mod record;
pub mod services;
pub mod signed;
pub mod survey;
pub mod time;
pub mod well_known;
pub mod wire;
