//! The hub: links to machines, enrolment, incidents at work, and the signer in a process of its own.
//!
//! [`start`] gives a [`Running`] hub, and with it the [`Hub`] handle: all that console, API, command line
//! and drill can ask. The command line of another process asks by [`control`]. [`signer`] is the process
//! that alone holds the command key; start it first.
//!
//! What happens to a finding, and where to read it:
//!
//! | step | module |
//! |---|---|
//! | a machine enrols with a one-time token, and gets a certificate | `enrol`, [`authority`] |
//! | it connects; its messages are checked, its quota kept | `link_server`, `links`, `quota` |
//! | the main task lets the mind (`respond::hub_core`) say what follows | `work` |
//! | all of it is committed in one transaction, then carried out | `committer`, `keep` |
//! | the signer is asked; its order goes out at once | `signing`, [`signer`] |
//! | every record goes to the ledger, which the signer cosigns | `ledger` |
//! | what was found is eliminated, and the machine returns | `eliminate`, `returning` |
//! | names of lifelines are looked up, here and never on a suspect machine | `names` |
//! | people see what waits for them | `attention` |
//! | people look and act | [`Hub`], [`view`], [`people`], [`effect`] (what a measure means for care, in words) |
//!
//! What is acknowledged is on disk (law 7): kill the hub at any time, and the next start goes on.

#![forbid(unsafe_code)]

mod act;
mod assigning;
mod attention;
pub mod authority;
mod board;
mod clock;
mod codes;
mod committer;
pub mod control;
pub mod effect;
mod eliminate;
mod enrol;
mod error;
pub mod foretell;
mod guidance;
mod handle;
mod keep;
mod ledger;
mod link_server;
mod links;
mod look;
mod looking;
mod names;
pub mod people;
mod quota;
mod returning;
mod run;
mod sign_in;
pub mod signer;
mod signing;
mod striking;
mod undoing;
pub mod view;
mod work;

pub use board::SILENT_AFTER;
pub use error::HubError;
pub use handle::Hub;
pub use ledger::LedgerFailure;
pub use people::Who;
pub use run::{HubConfig, HubFailure, Running, run, start};
