//! What the signer never goes beyond, whoever asks: its last word against a stolen hub.

use cordon_model::policy::{Budget, Policy};

/// The most automatic isolations in ten minutes that a policy may allow: ten times the default of 5. A
/// hospital of 5,000 machines would be lost to a stolen hub in 17 hours, not in a second.
pub const MOST_AUTOMATIC: u64 = 50;

/// The window that [`MOST_AUTOMATIC`] is counted in.
const AUTOMATIC_WINDOW_SECONDS: u64 = 600;

/// The most of a group, in per cent, that a policy may let be isolated automatically: half. The other
/// half is what care goes on with.
pub const MOST_GROUP_PERCENT: u8 = 50;

/// The most permits that a policy may give out: they fit in one answer, and no more machines than this
/// can cut themselves off while the hub is away.
pub const MOST_PERMITS: u32 = 1_000;

/// The longest that a permit may be good: a week, the longest outage that this is meant for.
pub const LONGEST_PERMIT_SECONDS: u32 = 7 * 24 * 3600;

/// Whether `policy` stays below the ceiling.
///
/// # Errors
/// What goes beyond it, in words.
pub fn check_ceiling(policy: &Policy) -> Result<(), String> {
    let Budget { count, window_seconds, group_percent } = policy.budget;
    let window = u64::from(window_seconds).clamp(1, AUTOMATIC_WINDOW_SECONDS);
    if u64::from(count) * AUTOMATIC_WINDOW_SECONDS > MOST_AUTOMATIC * window {
        return Err(format!(
            "{count} automatic isolations in {window_seconds} s; at most {MOST_AUTOMATIC} in \
             {AUTOMATIC_WINDOW_SECONDS} s are signed"
        ));
    }
    if group_percent > MOST_GROUP_PERCENT {
        return Err(format!(
            "{group_percent} % of a group; at most {MOST_GROUP_PERCENT} % are signed"
        ));
    }
    if policy.permits > MOST_PERMITS {
        return Err(format!("{} permits; at most {MOST_PERMITS} are signed", policy.permits));
    }
    if policy.permit_seconds > LONGEST_PERMIT_SECONDS {
        return Err(format!(
            "permits for {} s; at most {LONGEST_PERMIT_SECONDS} s are signed",
            policy.permit_seconds
        ));
    }
    let also = policy.responses.iter().flat_map(|response| &response.also);
    if let Some(kind) = also.clone().find(|kind| !kind.follows_from_a_finding()) {
        return Err(format!(
            "a policy can't {kind}: no finding names whom or what; people do this"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_model::action::ActionKind;

    #[test]
    fn the_default_policy_is_below_the_ceiling() {
        check_ceiling(&Policy::default_for("RJ1".parse().unwrap())).unwrap();
    }

    #[test]
    fn a_policy_that_could_cut_off_a_hospital_is_beyond_it() {
        let default = Policy::default_for("RJ1".parse().unwrap());
        for budget in [
            Budget { count: 51, window_seconds: 600, group_percent: 5 },
            Budget { count: 50, window_seconds: 1, group_percent: 5 },
            // A long window would let all of it be spent at once.
            Budget { count: 51, window_seconds: u32::MAX, group_percent: 5 },
            Budget { count: 5, window_seconds: 600, group_percent: 51 },
        ] {
            let policy = Policy { budget, ..default.clone() };
            assert!(check_ceiling(&policy).is_err(), "{policy:?}");
        }
        assert!(check_ceiling(&Policy { permits: 1_001, ..default.clone() }).is_err());
        assert!(check_ceiling(&Policy { permit_seconds: u32::MAX, ..default.clone() }).is_err());
        let mut aimless = default;
        aimless.responses[0].also = vec![ActionKind::Freeze, ActionKind::DisableAccount];
        assert!(check_ceiling(&aimless).is_err());
    }
}
