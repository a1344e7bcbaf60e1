//! The hub's disk: what its mind says to keep, by keys, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use cordon_model::ids::{ApprovalId, FindingId, IncidentId, MachineId, MeasureId, OrderId};
use cordon_model::incident::IncidentState;
use cordon_respond::approval::Approval;
use cordon_respond::grouping::{Seat, Story};
use cordon_respond::hub_core::{Change, MachineRow};
use cordon_respond::order::{MeasureLife, OrderLife};
use cordon_respond::signer_core::Proposal;

/// The hub's database: rows by their keys, and the ledger beside them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rows {
    pub(crate) stories: BTreeMap<IncidentId, Story>,
    pub(crate) seats: BTreeMap<(IncidentId, MachineId), Seat>,
    pub(crate) findings: BTreeSet<(MachineId, FindingId)>,
    pub(crate) machines: BTreeMap<MachineId, MachineRow>,
    pub(crate) approvals: BTreeMap<ApprovalId, Approval>,
    pub(crate) proposals: BTreeMap<OrderId, Proposal>,
    pub(crate) orders: BTreeMap<OrderId, OrderLife>,
    pub(crate) measures: BTreeMap<MeasureId, MeasureLife>,
    pub(crate) ledger: BTreeSet<OrderId>,
}

impl Rows {
    pub(crate) fn write(&mut self, change: Change) {
        match change {
            Change::Story(row) => {
                if row.incident.state == IncidentState::Closed {
                    self.seats.retain(|(of, _), _| *of != row.incident.id);
                }
                self.stories.insert(row.incident.id, row);
            }
            Change::Seat(row) => drop(self.seats.insert((row.incident, row.machine), row)),
            Change::Finding(row, _) => {
                self.findings.insert((row.machine, row.finding.id));
            }
            Change::Machine(row) => drop(self.machines.insert(row.assignment.machine, row)),
            Change::Approval(row) => drop(self.approvals.insert(row.id, row)),
            Change::Proposed(row) => drop(self.proposals.insert(row.id, row)),
            Change::Answered(id) => drop(self.proposals.remove(&id)),
            Change::Order(row) => drop(self.orders.insert(row.order.id, row)),
            Change::Measure(row) => drop(self.measures.insert(row.measure, row)),
            Change::Policy(..) => {}
        }
    }

    /// All of it, as a hub reads it at its start.
    pub(crate) fn all(&self) -> Vec<Change> {
        let rows = self.clone();
        let mut all: Vec<Change> = rows.stories.into_values().map(Change::Story).collect();
        all.extend(rows.seats.into_values().map(Change::Seat));
        all.extend(rows.machines.into_values().map(Change::Machine));
        all.extend(rows.approvals.into_values().map(Change::Approval));
        all.extend(rows.proposals.into_values().map(Change::Proposed));
        all.extend(rows.orders.into_values().map(Change::Order));
        all.extend(rows.measures.into_values().map(Change::Measure));
        all
    }
}
