//! What the hub keeps: state behind narrow traits, embedded first.
//!
//! Open a [`SqliteState`] on a directory and hold it as an `Arc<dyn State>`; nobody else needs to know
//! which database it is. [`State`] is the sum of small traits, one for each thing that is kept:
//!
//! | trait | keeps |
//! |---|---|
//! | [`Organisations`] | organisations, settings, policies |
//! | [`Machines`] | enrolment, machines, what they last said |
//! | [`Findings`] | what machines reported, exactly once |
//! | [`Incidents`] | stories with their timelines, questions to people |
//! | [`Orders`] | orders, permits, receipts, measures |
//! | [`People`] | people, their sign-ins and sessions |
//! | [`Statements`] | what was shown and said of a machine on its way back to service |
//! | [`Rows`] | what a state machine keeps of itself, to go on from |
//!
//! Three rules hold for every backend, and one conformance suite (`tests/conformance`) checks them:
//! what a call acknowledged survives `kill -9` and power loss; a [`commit`](State::commit) of
//! [`Change`]s is all or nothing; and the organisation is part of every [`Key`], so that no mistake in a
//! caller can show one organisation's rows to another.

#![forbid(unsafe_code)]

mod change;
mod findings;
mod incidents;
mod key;
mod machines;
mod orders;
mod organisations;
mod people;
mod rows;
mod sqlite;
mod state;
mod statements;

pub use change::Change;
pub use findings::{FindingFilter, Findings, Taken, TakenReport, TakenWhat};
pub use incidents::{IncidentFilter, Incidents, StoredApproval};
pub use key::{Cursor, Key, Listed, PAGE_ROWS, Page, Unreadable};
pub use machines::{
    EnrolmentRefused, EnrolmentToken, Machine, Machines, NewCertificate, NewMachine, Seen,
};
pub use orders::{OrderState, Orders, StoredMeasure, StoredOrder, StoredPermit};
pub use organisations::{Organisation, Organisations, SETTING_BYTES};
pub use people::{People, Person, Role, Session};
pub use rows::{ROW_BYTES, Row, Rows};
pub use sqlite::SqliteState;
pub use state::{Counts, State, StoreError, secret_hash};
pub use statements::Statements;
