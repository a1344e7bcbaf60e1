//! Documents that the hub hands down: opened with the pinned key, kept, and brought to the helper.
//!
//! The one idea: what is genuine and meant for this machine is kept for the next start; whether it is newer
//! than what is held is decided by the minds, and by the helper once more.

use std::net::SocketAddr;

use cordon_model::asset::Assignment;
use cordon_model::ids::{MachineId, OdsCode};
use cordon_model::order::Permit;
use cordon_model::policy::Policy;
use cordon_model::signed::{Document, Envelope, Verified};

use super::*;
use crate::documents::Kept;

impl Agent {
    /// Takes what the disk holds, checked anew.
    pub(super) fn read_documents(&mut self) {
        let key = *self.identity.command_key();
        if let Some(policy) = self.documents.read::<Policy>(&key) {
            locked(&self.view).policy = policy.revision;
            self.core.policy(policy);
        }
        if let Some(assignment) = self.documents.read::<Assignment>(&key) {
            let mut view = locked(&self.view);
            view.assignment = assignment.revision;
            view.given = Some((*assignment).clone());
            drop(view);
            self.core.assign(assignment);
        }
        if let Some(permit) = self.documents.read::<Permit>(&key) {
            let now = self.now();
            self.core.permit(permit, &now);
        }
    }

    /// Whether a genuine document is meant for this machine; one that is not is said, and left alone.
    pub(super) fn is_for_us(&mut self, organisation: &OdsCode, machine: MachineId) -> bool {
        let is_for_us = self.core.is_for_us(organisation, machine);
        if !is_for_us {
            let what =
                format!("the hub sent a document that is meant for {machine}; it is not taken");
            tracing::warn!("{what}");
            self.note(what);
        }
        is_for_us
    }

    /// Whether an isolation by this assignment would keep the link that this machine has; one that would not is
    /// told, and left alone.
    pub(super) fn keeps_our_hub(&mut self, assignment: &Assignment) -> bool {
        let cut = would_cut(assignment, self.identity.link_addresses());
        if let Some(what) = cut.clone() {
            tracing::error!("{what}");
            self.report_gap(0, what);
        }
        cut.is_none()
    }

    /// Brings to the helper what it is to tell the person in front of this machine.
    pub(super) async fn take_guidance(&mut self, envelope: Envelope) {
        let answer = self.ask(Ask::Guidance(envelope)).await;
        if let Ok(Answer::Refused { why, .. }) = &answer {
            tracing::debug!(why, "the helper kept its guidance");
        }
        self.look_if(answer.is_ok()).await;
    }

    /// Brings the hashes of break-glass codes to the helper, which says in its status which it holds.
    pub(super) async fn take_codes(&mut self, envelope: Envelope) {
        let answer = self.ask(Ask::BreakGlass(envelope)).await;
        if let Ok(Answer::Refused { why, .. }) = &answer {
            tracing::debug!(why, "the helper kept its break-glass codes");
        }
        self.look_if(answer.is_ok()).await;
    }

    /// Brings an assignment to the helper; it counts as held once the helper has it, or is not needed.
    pub(super) async fn assign(&mut self, envelope: Envelope, revision: u64) {
        let answer = self.tell(Ask::Assignment(envelope)).await;
        let is_here = answer.is_ok();
        match answer {
            Ok(Answer::Obeyed(receipts)) => {
                locked(&self.view).assignment = revision;
                self.take(receipts).await;
            }
            Ok(Answer::Refused { why, .. }) => {
                tracing::debug!(why, "the helper kept its assignment")
            }
            Ok(Answer::Status(_) | Answer::Survey(_) | Answer::Printers(_) | Answer::Would(_)) => {}
            Err(HelperGone) if self.helper.is_none() => locked(&self.view).assignment = revision,
            Err(HelperGone) => tracing::warn!("{HelperGone}"),
        }
        self.look_if(is_here).await;
    }

    pub(super) fn genuine<D: Document>(&self, envelope: &Envelope) -> Option<Verified<D>> {
        match envelope.open::<D>(self.identity.command_key()) {
            Ok(document) => Some(document),
            Err(error) => {
                tracing::error!(%error, "the hub sent a document that the command key did not sign");
                None
            }
        }
    }

    pub(super) fn keep<D: Kept>(&self, document: &Verified<D>) {
        if let Err(error) = self.documents.write(document) {
            tracing::error!(%error, document = D::NAME, "a document can't be kept");
        }
    }
}

/// Why an isolation by this assignment would cut the machine from the hub that it links to at `dialled`: then
/// nobody could take it back but with a break-glass code.
fn would_cut(assignment: &Assignment, dialled: &[SocketAddr]) -> Option<String> {
    if assignment.hub.iter().any(|hub| dialled.contains(hub)) {
        return None;
    }
    let said = |addresses: &[SocketAddr]| {
        addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let (theirs, ours) = (said(&assignment.hub), said(dialled));
    Some(format!(
        "assignment {} is not taken: an isolation would keep the hub at [{theirs}], and this machine links to \
         [{ours}]. If the hub has moved, enrol this machine again",
        assignment.revision
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_that_would_cut_the_machine_from_its_own_hub_is_not_taken() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let machine = MachineId::new(UtcNanos::from_unix_nanos(0), [1; 10]);
        let mut assignment = Assignment::of("RJ1".parse().unwrap(), machine, "pc");
        let dialled = [at("10.0.0.1:7443"), at("[fd00::1]:7443")];
        assert!(would_cut(&assignment, &dialled).is_some(), "no hub at all");
        assignment.hub = vec![at("192.0.2.66:7443"), at("10.0.0.1:7444")];
        let why = would_cut(&assignment, &dialled).unwrap();
        assert!(why.contains("192.0.2.66:7443") && why.contains("[fd00::1]:7443"), "{why}");
        assignment.hub.push(at("[fd00::1]:7443"));
        assert_eq!(would_cut(&assignment, &dialled), None, "one of them is enough");
    }
}
