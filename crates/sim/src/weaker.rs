//! The documents that a stolen hub would like to have signed in somebody's name, and what judges that none was.
//!
//! The one idea: the judge does not ask the signer's own table. Of a machine nothing may be other than root
//! said, and of the policy nothing that is tried here.

use cordon_model::action::FilePath;
use cordon_model::approval::Unanswered;
use cordon_model::asset::{Assignment, ClinicalTier, PortRange, Protected};
use cordon_model::guidance::Contact;
use cordon_model::laws::{Law, Violation};
use cordon_model::measure::Isolation;
use cordon_model::policy::{Mode, Policy};

/// How many drafts of an assignment there are.
pub(crate) const ASSIGNMENTS: u64 = 15;

/// How many drafts of a policy there are.
pub(crate) const POLICIES: u64 = 17;

/// The `which`th thing that a thief would like a machine to be.
pub(crate) fn assignment(which: u64, known: &Assignment) -> Assignment {
    let mut draft = known.clone();
    let thief = std::net::SocketAddr::from(([203, 0, 113, 9], 443));
    match which {
        // Care: more is stopped, or cut.
        0 => draft.tier = Some(ClinicalTier::None),
        1 => draft.tier = Some(ClinicalTier::Supports),
        2 => draft.lifelines.clear(),
        3 => draft.protected = Protected::default(),
        4 => draft.kind = None,
        5 => draft.group = None,
        6 => draft.hub.clear(),
        // The defence: less is done, or a way stays open.
        7 => draft.tier = Some(ClinicalTier::LifeSustaining),
        8 => draft.tier = None,
        9 => draft.hub.push(thief),
        10 => draft.protected.executables.push(FilePath::new("/tmp/program-0")),
        11 => {
            for lifeline in &mut draft.lifelines {
                lifeline.peer = thief.ip().into();
            }
        }
        12 => {
            for lifeline in &mut draft.lifelines {
                lifeline.ports = PortRange { first: 1, last: u16::MAX };
            }
        }
        13 => draft.watched.push(FilePath::new("/srv")),
        // People take it for another.
        _ => draft.name.push_str(" (spare)"),
    }
    draft
}

/// The `which`th policy that a thief would like.
pub(crate) fn policy(which: u64, known: &Policy) -> Policy {
    let mut draft = known.clone();
    match which {
        0 => draft.budget.count = 1_000,
        1 => draft.budget.group_percent = 100,
        2 => draft.budget.window_seconds = 1,
        3 => draft.permits = 1_000,
        4 => draft.permit_seconds += 3_600,
        5 => draft.approval.needs.clear(),
        6 => draft.approval.night = None,
        7 => draft.approval.unanswered = Unanswered::Segment,
        8 => {
            for response in &mut draft.responses {
                response.tiers.extend([ClinicalTier::Clinical, ClinicalTier::LifeSustaining]);
            }
        }
        9 => {
            for response in &mut draft.responses {
                response.isolation = Isolation::Full;
            }
        }
        10 => draft.mode = Mode::Observe,
        11 => draft.responses.clear(),
        12 => draft.permits = 0,
        13 => draft.lease.seconds = draft.lease.seconds.saturating_mul(4),
        14 => draft.break_glass.hold_off_seconds = 1,
        15 => draft.ring = vec![Contact { who: "help".into(), number: "1".into() }],
        _ => draft.return_terms.counts_for_seconds += 1,
    }
    draft
}

/// Judges what was signed for a stolen hub of a machine that was `said` before.
pub(crate) fn judge_assignment(said: &Assignment, signed: &Assignment) -> Result<(), Violation> {
    let same = Assignment { revision: signed.revision, ..said.clone() };
    judge(same == *signed, || {
        format!("the signer signed for a stolen hub {signed:?}, and root said {said:?}")
    })
}

/// The same of a policy. A smaller budget is anybody's to set.
pub(crate) fn judge_policy(said: &Policy, signed: &Policy) -> Result<(), Violation> {
    let (before, now) = (&said.budget, &signed.budget);
    let is_smaller = now.count <= before.count
        && now.group_percent <= before.group_percent
        && now.window_seconds >= before.window_seconds;
    let budget = if is_smaller { now } else { before }.clone();
    let same = Policy { revision: signed.revision, budget, ..said.clone() };
    judge(same == *signed, || {
        format!("the signer signed for a stolen hub {signed:?}, and root said {said:?}")
    })
}

fn judge(holds: bool, how: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation { law: Law::Authority, how: how() }) }
}
