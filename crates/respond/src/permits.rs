//! How many machines may hold a leave to segment themselves (law 6), and when it is renewed.
//!
//! The one idea: permits are a budget that is given out ahead. If every holder used its permit at the
//! same instant with no hub in reach, no more than the policy's number would be segmented, and no kind
//! of machine would be gone altogether.

use std::time::Duration;

use cordon_model::asset::Assignment;
use cordon_model::finding::Level;
use cordon_model::measure::Isolation;
use cordon_model::policy::{Mode, Policy};

/// How long after its end a permit still counts as one that may have been used: a use just before the
/// end may still be on its way to us. 60 s is far above any delay on a link that is up.
pub const SETTLE: Duration = Duration::from_secs(60);

/// The least serious finding that a permit for this machine may be used for; `None` if the policy
/// gives such machines none: not in act mode, tier clinical or unknown, or no response that is done by
/// itself and cuts anything.
#[must_use]
pub fn permit_level(policy: &Policy, assignment: &Assignment) -> Option<Level> {
    let tier = assignment.tier.filter(|tier| !tier.is_clinical())?;
    if policy.mode != Mode::Act {
        return None;
    }
    // The first response that fits is the one that is taken, so the levels above it are covered by it
    // or by an earlier one; a level counts only if what is taken for it is done by itself.
    let levels = [Level::Informational, Level::Low, Level::Medium, Level::High, Level::Critical];
    levels.into_iter().find(|level| {
        policy
            .responses
            .iter()
            .find(|response| *level >= response.level_at_least && response.tiers.contains(&tier))
            .is_some_and(|response| response.by_itself && response.isolation >= Isolation::Segment)
    })
}

/// Shares `total` permits among groups in proportion to how many machines of each may hold one: each
/// gets its whole share rounded down, and what is left goes to the largest remainders (ties: first).
#[must_use]
pub fn allot(total: u32, eligible: &[u32]) -> Vec<u32> {
    let all: u64 = eligible.iter().copied().map(u64::from).sum();
    if all <= u64::from(total) {
        return eligible.to_vec();
    }
    let exact = |count: u32| u64::from(count) * u64::from(total);
    let mut shares: Vec<u32> = eligible
        .iter()
        .map(|count| u32::try_from(exact(*count) / all).unwrap_or(u32::MAX))
        .collect();
    let given: u64 = shares.iter().copied().map(u64::from).sum();
    let mut by_remainder: Vec<usize> = (0..eligible.len()).collect();
    by_remainder.sort_by_key(|index| std::cmp::Reverse(exact(eligible[*index]) % all));
    let left = usize::try_from(u64::from(total) - given).unwrap_or(0);
    for index in by_remainder.into_iter().take(left) {
        shares[index] += 1;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_model::asset::ClinicalTier;
    use cordon_model::ids::MachineId;
    use cordon_model::time::UtcNanos;

    #[test]
    fn small_totals_go_to_the_largest_groups() {
        assert_eq!(allot(100, &[3, 4]), [3, 4]);
        assert_eq!(allot(10, &[90, 9, 1]), [9, 1, 0]);
        assert_eq!(allot(0, &[5, 5]), [0, 0]);
        assert_eq!(allot(1, &[]), [0; 0]);
    }

    #[test]
    fn only_machines_that_the_policy_contains_by_itself_get_a_permit() {
        let mut policy = Policy::default_for("RJ1".parse().unwrap());
        let assignment = |tier| Assignment {
            organisation: policy.organisation.clone(),
            machine: MachineId::new(UtcNanos::from_unix_nanos(0), [1; 10]),
            revision: 1,
            name: "a".into(),
            tier,
            kind: None,
            group: None,
            lifelines: vec![],
            names: Vec::new(),
            protected: cordon_model::asset::Protected::default(),
            watched: Vec::new(),
            hub: vec![],
        };
        let office = assignment(Some(ClinicalTier::None));
        let (scanner, unknown) = (assignment(Some(ClinicalTier::Clinical)), assignment(None));
        assert_eq!(permit_level(&policy, &office), None, "the default mode asks");
        policy.mode = Mode::Act;
        assert_eq!(permit_level(&policy, &office), Some(Level::High));
        assert_eq!(permit_level(&policy, &scanner), None);
        assert_eq!(permit_level(&policy, &unknown), None);
    }

    proptest::proptest! {
        #[test]
        fn the_total_is_never_exceeded_and_no_group_gets_more_than_it_can_hold(
            total in 0u32..500,
            eligible in proptest::collection::vec(0u32..200, 0..20),
        ) {
            let shares = allot(total, &eligible);
            let all: u32 = eligible.iter().sum();
            proptest::prop_assert_eq!(shares.iter().sum::<u32>(), total.min(all));
            proptest::prop_assert!(shares.iter().zip(&eligible).all(|(share, most)| share <= most));
        }
    }
}
