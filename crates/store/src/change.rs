//! What can be written together.
//!
//! The one idea: a step of the hub's state machine changes several things, and a crash must leave all
//! of them or none. So a step's outcome is a list of [`Change`]s, written by one
//! [`commit`](crate::State::commit). What depends on what is in the store at that instant (using up a
//! token, folding repeated reports) has calls of its own.

use cordon_model::gate::Statement;
use cordon_model::ids::{FindingId, IncidentId, MachineId, OrderId};
use cordon_model::incident::Incident;
use cordon_model::record::Record;
use cordon_model::signed::Envelope;
use cordon_model::time::UtcNanos;

use crate::findings::TakenReport;
use crate::incidents::StoredApproval;
use crate::machines::{EnrolmentToken, NewCertificate, Seen};
use crate::orders::{OrderState, StoredMeasure, StoredOrder, StoredPermit};
use crate::people::Person;

/// One change.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a commit's few exist at once")]
pub enum Change {
    /// An incident is this now.
    Incident(Incident),
    /// A machine's reports: as [`take_reports`](crate::Findings::take_reports), together with what
    /// follows from them. Reports that are on disk already change nothing.
    Reports {
        /// The machine.
        machine: MachineId,
        /// When the hub received them.
        received: UtcNanos,
        /// The reports; numbers must rise.
        reports: Vec<TakenReport>,
    },
    /// A finding belongs to an incident.
    Group {
        /// The machine that reported it.
        machine: MachineId,
        /// The finding.
        finding: FindingId,
        /// The incident.
        incident: IncidentId,
    },
    /// Something happened in an incident.
    Timeline {
        /// Which.
        incident: IncidentId,
        /// What.
        record: Record,
    },
    /// A question is this now.
    Approval(StoredApproval),
    /// An order was signed.
    Order(StoredOrder),
    /// An order went on.
    OrderState {
        /// Which.
        order: OrderId,
        /// Where it is now.
        state: OrderState,
    },
    /// A permit was signed. One of a machine that is not known here is passed over.
    Permit(StoredPermit),
    /// A measure is this now.
    Measure(StoredMeasure),
    /// The organisation said what a machine is. One that is not newer changes nothing.
    Assignment {
        /// The machine.
        machine: MachineId,
        /// Its revision.
        revision: u64,
        /// The signed assignment.
        envelope: Envelope,
    },
    /// A policy was signed.
    Policy {
        /// Its revision.
        revision: u64,
        /// The signed policy.
        envelope: Envelope,
    },
    /// A machine has a new certificate.
    Certificate {
        /// The machine.
        machine: MachineId,
        /// The certificate.
        certificate: NewCertificate,
    },
    /// A machine was heard.
    Seen {
        /// The machine.
        machine: MachineId,
        /// How it is.
        seen: Box<Seen>,
    },
    /// A machine may enrol with this token.
    EnrolmentToken(EnrolmentToken),
    /// Something was shown or said of a machine on its way back to service. It is numbered as it is written.
    Statement(Box<Statement>),
    /// A person is this now.
    Person(Person),
    /// A state machine's row; `None` removes it.
    Row {
        /// Its kind.
        kind: &'static str,
        /// Its id within the kind.
        id: String,
        /// Its content, at most [`ROW_BYTES`](crate::ROW_BYTES).
        document: Option<Vec<u8>>,
    },
    /// A named value; `None` removes it.
    Setting {
        /// Its name.
        name: String,
        /// Its value, at most [`SETTING_BYTES`](crate::SETTING_BYTES).
        value: Option<Vec<u8>>,
    },
}
