//! What a hub does that has lost a control: the ways in which [`Sabotage`](crate::Sabotage) leads it astray.

use cordon_model::ids::MachineId;
use cordon_model::policy::Policy;
use cordon_model::signed::{Verified, seal};
use cordon_respond::approval::ApprovalState;
use cordon_respond::clock::Moment;
use cordon_respond::hub_core::{Arrived, Change, HubCore, Output};
use cordon_respond::order::MeasureLife;

use ed25519_dalek::SigningKey;

use crate::besides;
use crate::scenario::Sabotage;

/// The rows of a hub that starts, as one reads them that has lost a control.
pub(crate) fn rows_at_a_start(sabotage: Option<Sabotage>, mut rows: Vec<Change>) -> Vec<Change> {
    let is_no = |row: &Change| matches!(row, Change::Approval(question) if question.state == ApprovalState::Declined);
    if sabotage == Some(Sabotage::ForgetsNo) {
        rows.retain(|row| !is_no(row));
    }
    for row in &mut rows {
        let Change::Approval(question) = row else { continue };
        let is_no = question.state == ApprovalState::Declined;
        match sabotage {
            Some(Sabotage::NoSilencesAll) if is_no => question.news = u32::MAX,
            _ => {}
        }
    }
    rows
}

/// The policy as a hub reads it that has lost a control, if that changes it.
pub(crate) fn policy(
    sabotage: Option<Sabotage>,
    policy: &Policy,
    key: &SigningKey,
) -> Option<Verified<Policy>> {
    let mut draft = policy.clone();
    match sabotage {
        Some(Sabotage::NoHoldsForEver) => draft.approval.no_holds_for_seconds = u32::MAX,
        _ => return None,
    }
    seal(&draft, key).ok()?.open(&key.verifying_key()).ok()
}

/// Whether a report speaks for another machine.
pub(crate) fn is_bad(from: MachineId, report: &Arrived) -> bool {
    matches!(report, Arrived::Receipt(receipt) if receipt.machine != from)
}

/// What a hub keeps that believes a finding about the machine on which it was found, of those that there are.
pub(crate) fn believe_hosts<'a>(
    outputs: &mut [Output],
    machines: impl Iterator<Item = &'a MachineId> + Clone,
) {
    for output in outputs {
        let Output::Keep(Change::Finding(received, _)) = output else { continue };
        let named = machines.clone().find(|id| id.to_string() == received.finding.host);
        received.machine = named.copied().unwrap_or(received.machine);
    }
}

/// A question as a hub asks it that forgets all but the isolation.
pub(crate) fn without_acts(change: Change) -> Change {
    let Change::Approval(mut question) = change else { return change };
    question.also.clear();
    if besides::begins(&question.instruction) {
        question.state = ApprovalState::Expired;
    }
    Change::Approval(question)
}

/// What a hub without limits would keep.
pub(crate) fn all_measures(from: MachineId, reports: &[(u64, Arrived)]) -> Vec<Output> {
    let kept = reports.iter().filter_map(|(number, report)| match report {
        Arrived::Receipt(receipt) if receipt.machine == from => {
            let life = MeasureLife::reported(*number, receipt.clone(), false);
            Some(Output::Keep(Change::Measure(life)))
        }
        _ => None,
    });
    kept.collect()
}

/// What a hub that believes senders would do: take a receipt as if from whom it names.
pub(crate) trait Gullible {
    fn believe(&mut self, reports: &mut Vec<(u64, Arrived)>, now: &Moment) -> Vec<Output>;
}

impl Gullible for HubCore {
    fn believe(&mut self, reports: &mut Vec<(u64, Arrived)>, _: &Moment) -> Vec<Output> {
        let mut outputs = Vec::new();
        for (_, report) in reports.iter() {
            if let Arrived::Receipt(receipt) = report
                && let Some(life) = self.measures().find(|life| life.measure == receipt.measure)
            {
                let mut life = life.clone();
                life.state = receipt.state.clone();
                outputs.push(Output::Keep(Change::Measure(life)));
            }
        }
        outputs
    }
}
