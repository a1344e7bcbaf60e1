//! What to do about a finding: do it, ask people, or only watch.
//!
//! The one idea: [`decide`] is a pure function of the signed policy, the signed assignment, the
//! finding's level and the [`Situation`]; hub, signer and agent call the same one. Care comes first: tiers
//! 2 and 3 (and unknown, which is 2) are never contained by themselves, whatever the policy says.

use cordon_model::action::{Action, ActionKind};
use cordon_model::approval::{Needs, Unanswered};
use cordon_model::asset::{Assignment, ClinicalTier};
use cordon_model::finding::Level;
use cordon_model::measure::Isolation;
use cordon_model::order::Lease;
use cordon_model::policy::{Mode, Policy};
use serde::{Deserialize, Serialize};

use crate::budget::Exhausted;

/// From this level on a finding is serious: it may not lie unread (law 10).
pub const SERIOUS: Level = Level::High;

/// What else is known when a finding comes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Situation {
    /// The strongest isolation that is ordered for, or in force on, the machine.
    pub contained: Option<Isolation>,
    /// Whether the budget allows one more automatic isolation.
    pub budget: Result<(), Exhausted>,
    /// The machine is of a declared kind, and no other of that kind surely works: every other is, or may
    /// be, isolated. See [`is_last_of_kind`].
    pub is_last_of_kind: bool,
}

/// Whether `standing` other machines of a kind leave this one the last: a machine whose kind nobody has
/// said has no stand-in that anybody counts on.
#[must_use]
pub fn is_last_of_kind(kind: Option<&str>, standing: usize) -> bool {
    kind.is_some() && standing == 0
}

/// Why nothing is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum WatchReason {
    /// The organisation only looks.
    #[error("the policy's mode is observe")]
    Observing,
    /// No response fits level and tier.
    #[error("the policy has no response to this level on this tier")]
    NoResponse,
    /// The response is to watch.
    #[error("the policy's response is to watch")]
    WatchOnly,
    /// The machine is isolated as far as the response goes.
    #[error("the machine is isolated as far already")]
    AlreadyContained,
}

/// Why people are asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum AskReason {
    /// The organisation wants to be asked.
    #[error("the policy's mode is ask")]
    ModeIsAsk,
    /// This response is not done by itself.
    #[error("the policy asks before this response")]
    PolicyAsks,
    /// Care depends on the machine directly.
    #[error("the machine is clinical ({0}), which nothing isolates by itself")]
    Clinical(ClinicalTier),
    /// Nobody has said what depends on the machine.
    #[error("nobody has said how care depends on the machine")]
    UnknownTier,
    /// No other of its kind surely works.
    #[error("no other machine of its kind is sure to be working")]
    LastOfKind,
    /// The brake.
    #[error("the budget is spent: {0}")]
    BudgetSpent(Exhausted),
    /// Somebody needed the machine more.
    #[error("a break-glass code opened the machine, and for a time only people isolate it again")]
    HeldOpen,
    /// Nobody could take it back.
    #[error(
        "the machine says that isolated in full it may lose its hub, which it reaches through a tunnel that is no lifeline, or by a way that it does not know"
    )]
    OutOfReach,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Nothing but look.
    Watch {
        /// Why.
        why: WatchReason,
        /// A serious finding that nothing stops: people must see it ("seen but not blocked", law 10).
        escalates: bool,
    },
    /// Isolate, now.
    Do {
        /// How far.
        isolation: Isolation,
        /// For how long.
        lease: Lease,
    },
    /// Ask people to isolate.
    Ask {
        /// How far.
        isolation: Isolation,
        /// For how long.
        lease: Lease,
        /// Who has to agree.
        needs: Needs,
        /// Why it isn't done by itself.
        why: AskReason,
    },
}

impl Decision {
    /// The same for a machine that a break-glass code holds open: what would be done by itself is asked.
    #[must_use]
    pub fn of_a_machine_held_open(self, policy: &Policy, tier: ClinicalTier) -> Self {
        match self {
            Self::Do { isolation, lease } => {
                let needs = policy.approval.needs(Needs::to_contain(tier), tier);
                Self::Ask { isolation, lease, needs, why: AskReason::HeldOpen }
            }
            Self::Ask { .. } | Self::Watch { .. } => self,
        }
    }

    /// The same for a machine that a full isolation would take out of its hub's reach: by itself it is
    /// segmented, which its tunnel outlives, and once it is, people are asked for the rest. Asking alone
    /// would leave a worm its way until somebody answers; in full, nobody could release it.
    #[must_use]
    pub fn of_a_machine_out_of_reach(
        self,
        policy: &Policy,
        tier: ClinicalTier,
        contained: Option<Isolation>,
    ) -> Self {
        let Self::Do { isolation: isolation @ Isolation::Full, lease } = self else {
            return self;
        };
        if contained < Some(Isolation::Segment) {
            return Self::Do { isolation: Isolation::Segment, lease };
        }
        let needs = policy.approval.needs(Needs::to_contain(tier), tier);
        Self::Ask { isolation, lease, needs, why: AskReason::OutOfReach }
    }
}

/// Decides what to do about a finding of `level` on the machine of `assignment`.
#[must_use]
pub fn decide(
    policy: &Policy,
    assignment: &Assignment,
    level: Level,
    situation: &Situation,
) -> Decision {
    let tier = assignment.effective_tier();
    let is_serious = level >= SERIOUS;
    let watch = |why, escalates| Decision::Watch { why, escalates };

    let Some(response) = response(policy, assignment, level) else {
        return watch(WatchReason::NoResponse, is_serious);
    };
    if situation.contained >= Some(response.isolation) {
        return watch(WatchReason::AlreadyContained, false);
    }
    if response.isolation == Isolation::Watch {
        return watch(WatchReason::WatchOnly, is_serious);
    }
    let why = match policy.mode {
        Mode::Observe => return watch(WatchReason::Observing, is_serious),
        Mode::Ask => Some(AskReason::ModeIsAsk),
        Mode::Act => why_ask(assignment, response.by_itself, situation),
    };
    let (isolation, lease) = (response.isolation, policy.lease);
    match why {
        None => Decision::Do { isolation, lease },
        Some(why) => {
            let needs = policy.approval.needs(Needs::to_contain(tier), tier);
            Decision::Ask { isolation, lease, needs, why }
        }
    }
}

/// Decides the same for a finding about which people were asked and nobody answered in time: what the policy
/// has done then is at most *segment*, and under all that binds mode `act`.
#[must_use]
pub fn decide_unanswered(
    policy: &Policy,
    assignment: &Assignment,
    level: Level,
    situation: &Situation,
) -> Decision {
    let decision = decide(policy, assignment, level, situation);
    let Decision::Ask { isolation, lease, needs, .. } = decision else { return decision };
    if policy.approval.unanswered != Unanswered::Segment {
        return decision;
    }
    if situation.contained >= Some(Isolation::Segment) {
        return Decision::Watch { why: WatchReason::AlreadyContained, escalates: false };
    }
    match why_ask(assignment, true, situation) {
        None => Decision::Do { isolation: isolation.min(Isolation::Segment), lease },
        Some(why) => Decision::Ask { isolation, lease, needs, why },
    }
}

/// Who has to agree to `action` on a machine of `tier` under this policy.
#[must_use]
pub fn needs_to_do(policy: &Policy, action: &Action, tier: ClinicalTier) -> Needs {
    policy.approval.needs(Needs::to_do(action, tier), tier)
}

/// What a response asks for besides the isolation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Also {
    /// What.
    pub kinds: Vec<ActionKind>,
    /// Why people are asked first; `None`: it is done.
    pub why_ask: Option<AskReason>,
}

/// Decides what else to do about a finding: under the same conditions as [`decide`], but for a machine that
/// is isolated already, too, for its next process is another one. `None`: nothing.
#[must_use]
pub fn decide_also(
    policy: &Policy,
    assignment: &Assignment,
    level: Level,
    situation: &Situation,
) -> Option<Also> {
    let response = response(policy, assignment, level)?;
    if response.also.is_empty() {
        return None;
    }
    let why_ask = match policy.mode {
        Mode::Observe => return None,
        Mode::Ask => Some(AskReason::ModeIsAsk),
        Mode::Act => why_ask(assignment, response.by_itself, situation),
    };
    Some(Also { kinds: response.also.clone(), why_ask })
}

/// The first response that fits.
fn response<'a>(
    policy: &'a Policy,
    assignment: &Assignment,
    level: Level,
) -> Option<&'a cordon_model::policy::Response> {
    let tier = assignment.effective_tier();
    let mut responses = policy.responses.iter();
    responses.find(|response| level >= response.level_at_least && response.tiers.contains(&tier))
}

/// Why a response that the mode would do by itself has to be asked for.
fn why_ask(assignment: &Assignment, by_itself: bool, situation: &Situation) -> Option<AskReason> {
    match assignment.tier {
        None => return Some(AskReason::UnknownTier),
        Some(tier) if tier.is_clinical() => return Some(AskReason::Clinical(tier)),
        Some(_) => {}
    }
    if !by_itself {
        return Some(AskReason::PolicyAsks);
    }
    if situation.is_last_of_kind {
        return Some(AskReason::LastOfKind);
    }
    situation.budget.clone().err().map(AskReason::BudgetSpent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_model::ids::MachineId;
    use cordon_model::policy::Response;
    use cordon_model::time::UtcNanos;

    fn policy(mode: Mode) -> Policy {
        Policy { mode, ..Policy::default_for("RJ1".parse().unwrap()) }
    }

    fn assignment(tier: Option<ClinicalTier>) -> Assignment {
        Assignment {
            organisation: "RJ1".parse().unwrap(),
            machine: MachineId::new(UtcNanos::from_unix_nanos(0), [1; 10]),
            revision: 1,
            name: "office-1".into(),
            tier,
            kind: None,
            group: None,
            lifelines: vec![],
            names: Vec::new(),
            protected: cordon_model::asset::Protected::default(),
            watched: Vec::new(),
            hub: vec![],
        }
    }

    const CALM: Situation = Situation { contained: None, budget: Ok(()), is_last_of_kind: false };

    fn asks(decision: &Decision) -> Option<&AskReason> {
        match decision {
            Decision::Ask { why, .. } => Some(why),
            _ => None,
        }
    }

    #[test]
    fn an_office_machine_is_segmented_by_itself_in_act_mode() {
        let office = assignment(Some(ClinicalTier::None));
        let decision = decide(&policy(Mode::Act), &office, Level::High, &CALM);
        assert!(matches!(decision, Decision::Do { isolation: Isolation::Segment, .. }));
        let decision = decide(&policy(Mode::Ask), &office, Level::High, &CALM);
        assert_eq!(asks(&decision), Some(&AskReason::ModeIsAsk));
    }

    #[test]
    fn a_clinical_or_unknown_machine_is_asked_for_even_if_the_policy_says_otherwise() {
        let mut reckless = policy(Mode::Act);
        for response in &mut reckless.responses {
            response.by_itself = true;
        }
        for tier in [None, Some(ClinicalTier::Clinical), Some(ClinicalTier::LifeSustaining)] {
            let decision = decide(&reckless, &assignment(tier), Level::Critical, &CALM);
            assert!(asks(&decision).is_some(), "{tier:?}: {decision:?}");
        }
        let decision = decide(
            &reckless,
            &assignment(Some(ClinicalTier::LifeSustaining)),
            Level::Critical,
            &CALM,
        );
        assert!(matches!(decision, Decision::Ask { needs: Needs::TwoKeysOneClinical, .. }));
    }

    #[test]
    fn seen_but_not_blocked_escalates() {
        let office = assignment(Some(ClinicalTier::None));
        let observed = decide(&policy(Mode::Observe), &office, Level::High, &CALM);
        assert_eq!(observed, Decision::Watch { why: WatchReason::Observing, escalates: true });
        let none = Policy { responses: vec![], ..policy(Mode::Act) };
        let unanswered = decide(&none, &office, Level::Critical, &CALM);
        assert!(matches!(unanswered, Decision::Watch { escalates: true, .. }));
        let mild = decide(&none, &office, Level::Medium, &CALM);
        assert!(matches!(mild, Decision::Watch { escalates: false, .. }));
    }

    #[test]
    fn what_is_isolated_already_is_left_alone() {
        let office = assignment(Some(ClinicalTier::None));
        for contained in [Isolation::Segment, Isolation::Full] {
            let situation = Situation { contained: Some(contained), ..CALM };
            let decision = decide(&policy(Mode::Act), &office, Level::High, &situation);
            assert_eq!(
                decision,
                Decision::Watch { why: WatchReason::AlreadyContained, escalates: false }
            );
        }
    }

    #[test]
    fn the_last_of_a_kind_and_a_spent_budget_ask() {
        let office = assignment(Some(ClinicalTier::Supports));
        let situation = Situation { is_last_of_kind: is_last_of_kind(Some("CT"), 0), ..CALM };
        let decision = decide(&policy(Mode::Act), &office, Level::High, &situation);
        assert_eq!(asks(&decision), Some(&AskReason::LastOfKind));
        let spent = Exhausted::Window { spent: 5, count: 5, window_seconds: 600 };
        let situation = Situation { budget: Err(spent.clone()), ..CALM };
        let decision = decide(&policy(Mode::Act), &office, Level::High, &situation);
        assert_eq!(asks(&decision), Some(&AskReason::BudgetSpent(spent)));
        assert!(
            !is_last_of_kind(None, 0),
            "a machine of no declared kind has no stand-in to count"
        );
    }

    #[test]
    fn the_first_response_that_fits_is_taken() {
        let mut two = policy(Mode::Act);
        two.responses.insert(
            0,
            Response {
                level_at_least: Level::Critical,
                tiers: vec![ClinicalTier::None],
                isolation: Isolation::Full,
                also: Vec::new(),
                by_itself: true,
            },
        );
        let office = assignment(Some(ClinicalTier::None));
        let at = |level| decide(&two, &office, level, &CALM);
        assert!(matches!(at(Level::Critical), Decision::Do { isolation: Isolation::Full, .. }));
        assert!(matches!(at(Level::High), Decision::Do { isolation: Isolation::Segment, .. }));
    }
}
