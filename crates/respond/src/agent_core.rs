//! The agent's mind for the time without a hub (law 6): when a machine defends itself.
//!
//! The one idea: with a hub in reach the hub decides, because it sees more. The agent reports, waits
//! [`HUB_ANSWERS_WITHIN`] for the hub to say that it has the finding, and only then uses its permit; with
//! no link it does not wait. What it does then is decided by the same [`decision::decide`] as everywhere,
//! and checked again by the helper.

use std::time::Duration;

use cordon_model::asset::Assignment;
use cordon_model::finding::{Finding, Level};
use cordon_model::ids::{FindingId, MachineId, OdsCode, PermitId};
use cordon_model::measure::Isolation;
use cordon_model::order::Permit;
use cordon_model::policy::Policy;
use cordon_model::signed::Verified;
use cordon_model::time::{BootNanos, UtcNanos};

use crate::clock::{Moment, RunningClock};
use crate::decision::{self, Decision, Situation};

/// How long a hub that seems in reach may take to say that a finding is on its disk. A hub answers in
/// single milliseconds; a cut that TCP has not noticed yet would take minutes. 250 ms is two and a half
/// hops of a worm that infects a machine every 100 ms.
pub const HUB_ANSWERS_WITHIN: Duration = Duration::from_millis(250);

/// Findings that wait for the hub's answer; one permit is enough for all of them, so only the most
/// serious matter. 16.
pub const MOST_WAITING: usize = 16;

/// What the agent's shell has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Give this permit and finding to the helper, and say if the permit is spent ([`AgentCore::used`]).
    UsePermit {
        /// The permit.
        permit: Verified<Permit>,
        /// Why.
        finding: FindingId,
        /// Its level.
        level: Level,
    },
}

/// A permit as the agent keeps it: it ages by running time too, so that a clock set back does not keep
/// it young.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    permit: Verified<Permit>,
    age: RunningClock,
}

/// A serious finding that the hub has not acknowledged yet.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Waiting {
    finding: FindingId,
    level: Level,
    /// Its number in the spool.
    number: u64,
    since: BootNanos,
}

/// The agent's state. Its documents are kept by the shell as envelopes and given again at each start.
#[derive(Debug, Clone)]
pub struct AgentCore {
    organisation: OdsCode,
    machine: MachineId,
    policy: Option<Verified<Policy>>,
    assignment: Option<Verified<Assignment>>,
    permit: Option<Kept>,
    /// When the last permit that was used would have ended: the hub sends what it has at each link,
    /// and a used one must not pass for a good one.
    used_until: Option<UtcNanos>,
    is_linked: bool,
    isolation: Option<Isolation>,
    waiting: Vec<Waiting>,
}

impl AgentCore {
    /// The agent of this machine, with no documents yet.
    #[must_use]
    pub fn new(organisation: OdsCode, machine: MachineId) -> Self {
        Self {
            organisation,
            machine,
            policy: None,
            assignment: None,
            permit: None,
            used_until: None,
            is_linked: false,
            isolation: None,
            waiting: Vec::new(),
        }
    }

    /// Whether a genuine document is meant for this machine. One for another, sent here by mistake or by
    /// a stolen hub, must not take the place of its own.
    #[must_use]
    pub fn is_for_us(&self, organisation: &OdsCode, machine: MachineId) -> bool {
        *organisation == self.organisation && machine == self.machine
    }

    /// Takes a policy; an older one than it has, or another organisation's, is ignored, and `false` says so.
    pub fn policy(&mut self, policy: Verified<Policy>) -> bool {
        let is_newer = policy.organisation == self.organisation
            && self.policy.as_ref().is_none_or(|held| held.revision < policy.revision);
        if is_newer {
            self.policy = Some(policy);
        }
        is_newer
    }

    /// What the organisation says of this machine, as far as it has reached it.
    #[must_use]
    pub fn assignment(&self) -> Option<&Assignment> {
        self.assignment.as_deref()
    }

    /// Takes an assignment; an older one than it has, or another machine's, is ignored, and `false` says
    /// so.
    pub fn assign(&mut self, assignment: Verified<Assignment>) -> bool {
        let is_newer = self.is_for_us(&assignment.organisation, assignment.machine)
            && self.assignment.as_ref().is_none_or(|held| held.revision < assignment.revision);
        if is_newer {
            self.assignment = Some(assignment);
        }
        is_newer
    }

    /// Takes a permit of this machine if it ends later than the one it has, or has used.
    pub fn permit(&mut self, permit: Verified<Permit>, now: &Moment) -> bool {
        if !self.is_for_us(&permit.organisation, permit.machine) {
            return false;
        }
        let held_until = self.permit.as_ref().map(|held| held.permit.expires_at);
        let is_later = held_until.max(self.used_until) < Some(permit.expires_at);
        if is_later {
            self.permit = Some(Kept { permit, age: RunningClock::start(now) });
        }
        is_later
    }

    /// The helper has used this permit, or says that it was used before or that its time is over, so it is not
    /// tried again. One that the helper refused otherwise (its brake, say) stays: the next finding may come
    /// when it can be used.
    pub fn used(&mut self, permit: PermitId) {
        if let Some(kept) = self.permit.take_if(|kept| kept.permit.id == permit) {
            self.used_until = Some(kept.permit.expires_at);
        }
    }

    /// The link to the hub is up, or is not.
    pub fn link(&mut self, is_up: bool) {
        self.is_linked = is_up;
    }

    /// How far the helper says that the machine is isolated.
    pub fn isolated(&mut self, isolation: Option<Isolation>) {
        self.isolation = isolation;
    }

    /// The hub has everything up to this number on its disk, so it decides about it.
    pub fn acknowledged(&mut self, number: u64) {
        self.waiting.retain(|waiting| waiting.number > number);
    }

    /// A rule matched, and the finding has this number in the spool.
    pub fn found(&mut self, finding: &Finding, number: u64, now: &Moment) -> Option<Act> {
        let level = finding.rule.level;
        if !self.is_linked {
            return self.defend(finding.id, level, now);
        }
        if level >= decision::SERIOUS {
            self.wait_for(Waiting { finding: finding.id, level, number, since: now.at });
        }
        None
    }

    /// Where there is no room, the mildest gives way to what is more serious; of several the last, for the
    /// first is due soonest.
    fn wait_for(&mut self, serious: Waiting) {
        if self.waiting.len() >= MOST_WAITING {
            let mildest = self.waiting.iter().enumerate().rev().min_by_key(|(_, one)| one.level);
            match mildest.map(|(at, one)| (at, one.level)) {
                Some((at, level)) if level < serious.level => drop(self.waiting.remove(at)),
                _ => return,
            }
        }
        self.waiting.push(serious);
    }

    /// Looks whether the hub has been silent for too long. Call at least every 50 ms while
    /// [`AgentCore::is_waiting`], and when the link goes.
    pub fn tick(&mut self, now: &Moment) -> Option<Act> {
        let is_linked = self.is_linked;
        let is_due =
            |waiting: &Waiting| !is_linked || now.at.since(waiting.since) >= HUB_ANSWERS_WITHIN;
        let due = self.waiting.iter().filter(|waiting| is_due(waiting));
        let most_serious = due.max_by_key(|waiting| waiting.level).cloned()?;
        self.waiting.retain(|waiting| !is_due(waiting));
        self.defend(most_serious.finding, most_serious.level, now)
    }

    /// Whether a finding waits for the hub's answer.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn defend(&mut self, finding: FindingId, level: Level, now: &Moment) -> Option<Act> {
        let (policy, assignment) = (self.policy.as_ref()?, self.assignment.as_ref()?);
        let kept = self.permit.as_ref()?;
        let good_for = kept.permit.expires_at.since(kept.permit.issued_at);
        let is_good = kept.age.reading(now) < good_for
            && now.best_utc(kept.permit.issued_at) < kept.permit.expires_at
            && level >= kept.permit.level_at_least;
        if !is_good {
            return None;
        }
        // The permit is the budget, given ahead; and it was given so that a stand-in is left.
        let situation =
            Situation { contained: self.isolation, budget: Ok(()), is_last_of_kind: false };
        match decision::decide(policy, assignment, level, &situation) {
            // However far the hub would go, a machine by itself goes no further than segment.
            Decision::Do { .. } if self.isolation < Some(Isolation::Segment) => {
                Some(Act::UsePermit { permit: kept.permit.clone(), finding, level })
            }
            Decision::Do { .. } | Decision::Ask { .. } | Decision::Watch { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::tests::moment;
    use cordon_model::asset::ClinicalTier;
    use cordon_model::event::RawEvent;
    use cordon_model::finding::RuleRef;
    use cordon_model::policy::Mode;
    use cordon_model::signed::{Document, seal};
    use ed25519_dalek::SigningKey;

    fn verified<D: Document>(document: &D) -> Verified<D> {
        let key = SigningKey::from_bytes(&[1; 32]);
        seal(document, &key).unwrap().open(&key.verifying_key()).unwrap()
    }

    fn finding(level: Level) -> Finding {
        Finding {
            id: FindingId::of("rule", "host", &[0; 32]),
            rule: RuleRef { id: "rule".into(), title: "a rule".into(), level, tags: vec![] },
            host: "host".into(),
            time: UtcNanos::from_unix_nanos(0),
            boot_time: None,
            process: None,
            matched: vec![],
            raw: RawEvent { json: "{}".into(), is_cut: false },
            raw_sha256: [0; 32],
        }
    }

    fn core(tier: ClinicalTier) -> AgentCore {
        let machine = MachineId::new(UtcNanos::from_unix_nanos(0), [1; 10]);
        let policy = Policy { mode: Mode::Act, ..Policy::default_for("RJ1".parse().unwrap()) };
        let mut core = AgentCore::new(policy.organisation.clone(), machine);
        core.assign(verified(&Assignment {
            organisation: policy.organisation.clone(),
            machine,
            revision: 1,
            name: "a".into(),
            tier: Some(tier),
            kind: None,
            group: None,
            lifelines: vec![],
            names: Vec::new(),
            protected: cordon_model::asset::Protected::default(),
            watched: Vec::new(),
            hub: vec![],
        }));
        let permit = Permit {
            id: PermitId::new(UtcNanos::from_unix_nanos(0), [2; 10]),
            organisation: policy.organisation.clone(),
            machine,
            level_at_least: Level::High,
            lease: policy.lease,
            issued_at: UtcNanos::from_unix_nanos(0),
            expires_at: UtcNanos::from_unix_nanos(0).plus(Duration::from_secs(100)),
        };
        core.policy(verified(&policy));
        core.permit(verified(&permit), &moment("a", 0));
        core
    }

    #[test]
    fn with_no_hub_in_reach_it_uses_its_permit_once() {
        let mut core = core(ClinicalTier::None);
        assert!(core.found(&finding(Level::Medium), 1, &moment("a", 1)).is_none());
        let act = core.found(&finding(Level::High), 2, &moment("a", 1));
        let Some(Act::UsePermit { permit, .. }) = act else { panic!("{act:?}") };
        core.used(permit.id);
        assert!(core.found(&finding(Level::High), 3, &moment("a", 1)).is_none());
        assert!(!core.permit(permit, &moment("a", 1)), "the hub sends what it has at each link");
    }

    /// The brake, for whoever sees a wrong rule at work; a stolen hub can pull it too (SECURITY.md).
    #[test]
    fn a_policy_that_only_asks_has_no_permit_used_though_one_is_held_until_one_acts_again() {
        let mut core = core(ClinicalTier::None);
        let mut next = (**core.policy.as_ref().unwrap()).clone();
        let mut set = |core: &mut AgentCore, mode| {
            (next.revision, next.mode) = (next.revision + 1, mode);
            assert!(core.policy(verified(&next)));
        };
        set(&mut core, Mode::Ask);
        assert!(core.found(&finding(Level::Critical), 1, &moment("a", 1)).is_none());
        set(&mut core, Mode::Act);
        assert!(core.found(&finding(Level::Critical), 2, &moment("a", 1)).is_some());
    }

    #[test]
    fn a_permit_that_the_helper_refused_is_tried_again() {
        let mut core = core(ClinicalTier::None);
        for number in 1..=2 {
            let act = core.found(&finding(Level::High), number, &moment("a", 1));
            assert!(matches!(act, Some(Act::UsePermit { .. })), "{act:?}");
        }
        core.used(PermitId::new(UtcNanos::from_unix_nanos(0), [9; 10]));
        assert!(core.found(&finding(Level::High), 3, &moment("a", 1)).is_some(), "another's");
    }

    #[test]
    fn a_clinical_machine_never_defends_itself() {
        for tier in [ClinicalTier::Clinical, ClinicalTier::LifeSustaining] {
            let mut core = core(tier);
            assert!(core.found(&finding(Level::Critical), 1, &moment("a", 1)).is_none());
        }
    }

    #[test]
    fn a_hub_that_answers_decides_and_a_silent_one_does_not() {
        let mut answered = core(ClinicalTier::None);
        answered.link(true);
        assert!(answered.found(&finding(Level::High), 7, &moment("a", 1)).is_none());
        let mut silent = answered.clone();
        answered.acknowledged(7);
        assert!(answered.tick(&moment("a", 2)).is_none());
        assert!(silent.tick(&moment("a", 1)).is_none(), "not yet");
        assert!(silent.tick(&moment("a", 2)).is_some());
    }

    #[test]
    fn the_most_serious_finding_waits_however_many_milder_ones_do() {
        let mut core = core(ClinicalTier::None);
        let mut strict = (*core.permit.as_ref().unwrap().permit).clone();
        strict.level_at_least = Level::Critical;
        strict.expires_at = strict.expires_at.plus(Duration::from_secs(1));
        assert!(core.permit(verified(&strict), &moment("a", 0)));
        core.link(true);
        for number in 1..=20 {
            assert!(core.found(&finding(Level::High), number, &moment("a", 1)).is_none());
        }
        assert!(core.found(&finding(Level::Critical), 21, &moment("a", 1)).is_none());
        assert!(core.found(&finding(Level::High), 22, &moment("a", 1)).is_none());
        assert_eq!(core.waiting.len(), MOST_WAITING);
        let mut acknowledged = core.clone();
        acknowledged.acknowledged(20);
        assert!(acknowledged.is_waiting());
        acknowledged.acknowledged(21);
        assert!(!acknowledged.is_waiting(), "the last mild one had no room");
        let act = core.tick(&moment("a", 2));
        assert!(matches!(act, Some(Act::UsePermit { level: Level::Critical, .. })), "{act:?}");
    }

    #[test]
    fn documents_of_another_machine_do_not_take_the_place_of_its_own() {
        let mut core = core(ClinicalTier::None);
        let other = MachineId::new(UtcNanos::from_unix_nanos(0), [7; 10]);
        let mut permit = (*core.permit.as_ref().unwrap().permit).clone();
        permit.machine = other;
        permit.expires_at = permit.expires_at.plus(Duration::from_secs(100));
        assert!(!core.permit(verified(&permit), &moment("a", 0)));
        let mut assignment = (**core.assignment.as_ref().unwrap()).clone();
        assignment.machine = other;
        assignment.revision = 9;
        assignment.tier = Some(ClinicalTier::LifeSustaining);
        assert!(!core.assign(verified(&assignment)));
        let policy = Policy::default_for("RXX".parse().unwrap());
        assert!(!core.policy(verified(&Policy { revision: 9, ..policy })));
        let act = core.found(&finding(Level::High), 1, &moment("a", 1));
        let Some(Act::UsePermit { permit, .. }) = act else { panic!("{act:?}") };
        assert_ne!(permit.machine, other, "it defends itself by its own");
    }

    #[test]
    fn a_permit_ends_by_running_time_even_if_the_clock_is_set_back() {
        let mut core = core(ClinicalTier::None);
        let mut late = moment("a", 100);
        late.utc = UtcNanos::from_unix_nanos(0);
        assert!(core.found(&finding(Level::High), 1, &late).is_none());
    }
}
