//! The pages, each a pure function of what the hub shows: no page asks for anything itself.

pub mod assignment;
pub mod containment;
pub mod eliminate;
pub mod finding;
pub mod gate;
pub mod incident;
pub mod incidents;
pub mod ledger;
pub mod machine;
pub mod machines;
pub mod measure;
pub mod measuring;
pub mod policy;
pub mod problem;
pub mod question;
pub mod sign_in;
