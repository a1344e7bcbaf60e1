//! The questions that people are asked, as the signer knows of them.
//!
//! The one idea (law 11): where the policy acts because nobody answered, the time for answering counts by the
//! signer's own clock, from when it was told of the question. So a stolen hub can't say that it asked.

use std::time::Duration;

use cordon_model::ids::{ApprovalId, MachineId};

use super::{Known, Refusal, SignerCore};
use crate::clock::Moment;

/// Questions that are remembered per machine: one is open at a time, and 8 leave room for those that follow
/// it. 24 bytes each.
pub const REMEMBERED_QUESTIONS: usize = 8;

/// How long a question may be on its way to the signer: 30 s, what a signer that starts again takes at most.
/// Half of the least time that a question is open.
pub const TOLD_WITHIN: Duration = Duration::from_secs(30);

impl SignerCore {
    /// Takes note that people are asked about a machine: from now on their time to answer counts. A hub that
    /// is stolen may ask nobody; then what the policy does about an unanswered question is still done no
    /// sooner, on no other machine, and no more often than this signer's own clock and budget allow.
    pub fn asked(&mut self, machine: MachineId, approval: ApprovalId, now: &Moment) {
        let running = self.clock.advance(now);
        let Some(known) = self.machines.get_mut(&machine) else { return };
        if known.asked.iter().any(|(known, _)| *known == approval) {
            return;
        }
        if known.asked.len() >= REMEMBERED_QUESTIONS {
            known.asked.pop_front();
        }
        known.asked.push_back((approval, running));
    }

    /// Whether the signer has itself known of a question for as long as one is open.
    pub(super) fn check_unanswered(
        &self,
        known: &Known,
        approval: ApprovalId,
        now: &Moment,
    ) -> Result<(), Refusal> {
        let running = self.clock.reading(now);
        let asked = known.asked.iter().find(|(asked, _)| *asked == approval);
        let since = asked.map_or(Duration::ZERO, |(_, asked)| running.saturating_sub(*asked));
        let open_for_seconds = self.policy.approval.open_for_seconds;
        let open_for = Duration::from_secs(open_for_seconds.into());
        // It hears of a question a moment after the hub has asked it. One of long ago is none any more.
        if since + TOLD_WITHIN < open_for || since > open_for * 2 {
            return Err(Refusal::StillAsked { known_seconds: since.as_secs(), open_for_seconds });
        }
        Ok(())
    }
}
