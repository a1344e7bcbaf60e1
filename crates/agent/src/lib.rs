//! The agent on a machine: sensors, containment, the local loop and the link to the hub.

#[cfg(target_os = "linux")]
pub mod contain;
pub mod documents;
pub mod gaps;
pub mod helper_link;
mod helper_word;
pub mod identity;
pub mod in_force;
pub mod journal;
pub mod lately;
pub mod link;
pub mod local;
pub mod look;
mod noticed;
pub mod reload;
pub mod run;
pub mod sensor;
pub mod services;
pub mod spool;
mod surveying;
