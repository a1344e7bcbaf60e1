//! The brake on what people order (law 5): so much in ten minutes, whoever says that they are people.
//!
//! The one idea: who holds the web tier, or somebody's session, must not be able to isolate or release a
//! hospital in a second. What closes and what opens are counted apart, so that whoever spends the one
//! can't keep honest people from the other. What began without any person is taken back without limit, each
//! once: the policy's budget and the number of permits bound it already, and whoever takes back a wrong rule's work
//! at night must not wait for it. Like the policy's budget it is judged by the signer alone, by
//! its own running time, and written to disk before anything is signed.

use std::fmt;
use std::time::Duration;

use cordon_model::order::{Instruction, Order};
use cordon_model::policy::Budget;
use cordon_model::time::span;
use serde::{Deserialize, Serialize};

use crate::budget::Spending;
use crate::clock::{Moment, Randomness};
use crate::signer_core::{Basis, Proposal, Refusal, SignerCore};

/// Orders by people, of one way, in [`WINDOW_SECONDS`]: at least 60, one every ten seconds for the whole
/// time, more than one person decides with care…
pub const AT_LEAST: u32 = 60;

/// …or this share of all machines whose tier is said, in per cent: at 5 % in ten minutes a whole hospital takes over three
/// hours, time in which somebody notices.
pub const PERCENT: u32 = 5;

/// The window that orders by people are counted in.
pub const WINDOW_SECONDS: u32 = 600;

/// How many orders of one way are signed for people when there are `machines`.
#[must_use]
pub fn budget(machines: usize) -> Budget {
    let machines = u32::try_from(machines).unwrap_or(u32::MAX);
    let share = machines / 100 * PERCENT;
    Budget { count: share.max(AT_LEAST), window_seconds: WINDOW_SECONDS, group_percent: 100 }
}

/// Which way an order goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// It begins a measure, or has one go on.
    Closing,
    /// It takes one back, or [can only open](Instruction::closes).
    Opening,
}

impl Way {
    /// Which way this goes.
    #[must_use]
    pub fn of(instruction: &Instruction) -> Self {
        if instruction.closes() { Self::Closing } else { Self::Opening }
    }
}

/// As many orders as people get in a time are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spent {
    /// Which way they went.
    pub way: Way,
    /// How many were signed.
    pub ordered: u32,
    /// How many are, at most…
    pub allowed: u32,
    /// …in so many seconds.
    pub window_seconds: u32,
}

/// Says what was braked, and what can be done instead: somebody reads it at 3 a.m.
impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { way, ordered, allowed, window_seconds } = self;
        let window = span(Duration::from_secs((*window_seconds).into()));
        let (what, instead) = match way {
            Way::Closing => {
                ("isolations and other measures (or renewals)", "wait, or have the policy act")
            }
            Way::Opening => (
                "releases (or milder isolations, or measures taken back)",
                "wait, or open the machine itself by a break-glass code",
            ),
        };
        write!(
            f,
            "people ordered {ordered} {what} in {window}, of {allowed} that are signed in \
             that time: {instead}"
        )
    }
}

/// What people ordered lately, the one way and the other. The signer keeps both on its disk.
#[derive(Debug)]
pub struct Lately<'a> {
    /// What closed.
    pub closed: &'a mut Spending,
    /// What opened.
    pub opened: &'a mut Spending,
}

/// The order to sign for `proposal`: [`SignerCore::sign`], behind this brake if it is in people's names.
/// An order that was signed before is given again and counts once; one that takes back only what Cordon did by itself
/// counts not at all.
///
/// # Errors
/// [`Refusal::PeoplesBudget`], or as [`SignerCore::sign`]; the state is then as it was.
pub fn sign(
    core: &mut SignerCore,
    lately: Lately<'_>,
    proposal: &Proposal,
    now: &Moment,
    randomness: Randomness<'_>,
) -> Result<Order, Refusal> {
    let is_by_people = matches!(proposal.basis, Basis::People { .. });
    let is_counted = is_by_people
        && !core.remembers(proposal.machine, proposal.id)
        && !core.takes_back_only_its_own(proposal.machine, &proposal.instruction);
    if !is_counted {
        return core.sign(proposal, now, randomness);
    }
    let way = Way::of(&proposal.instruction);
    let spending = match way {
        Way::Closing => lately.closed,
        Way::Opening => lately.opened,
    };
    let budget = budget(core.with_a_tier_count());
    if spending.check(&budget, now).is_err() {
        return Err(Refusal::PeoplesBudget(Spent {
            way,
            ordered: spending.spent(&budget, now),
            allowed: budget.count,
            window_seconds: budget.window_seconds,
        }));
    }
    let order = core.sign(proposal, now, randomness)?;
    spending.spend(&budget, proposal.machine, now);
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_model::measure::Isolation;

    #[test]
    fn people_get_a_share_of_a_large_hospital_and_enough_for_a_small_one() {
        assert_eq!(budget(20).count, 60);
        assert_eq!(budget(5_000).count, 250);
    }

    #[test]
    fn machines_that_a_hub_makes_up_give_people_no_more() {
        let organisation: cordon_model::ids::OdsCode = "RJ1".parse().unwrap();
        let policy = cordon_model::policy::Policy::default_for(organisation.clone());
        let mut core = SignerCore::new(policy, &crate::clock::tests::moment("a", 0));
        let draft = |number: u16| {
            let mut bytes = [0; 10];
            bytes[4..6].copy_from_slice(&number.to_be_bytes());
            let at = cordon_model::time::UtcNanos::from_unix_nanos(0);
            let machine = cordon_model::ids::MachineId::new(at, bytes);
            cordon_model::asset::Assignment::of(organisation.clone(), machine, "made up")
        };
        for number in 0..5_000 {
            core.assign(draft(number)).unwrap();
        }
        assert_eq!(budget(core.with_a_tier_count()).count, AT_LEAST);
        // Nor does the hub alone describe one.
        let tier = Some(cordon_model::asset::ClinicalTier::Clinical);
        let described = cordon_model::asset::Assignment { tier, ..draft(6_000) };
        assert!(!crate::weakening::of_assignment(None, &described).is_empty());
        for number in 0..5_000 {
            core.assign(cordon_model::asset::Assignment { tier, ..draft(number) }).unwrap();
        }
        assert_eq!(budget(core.with_a_tier_count()).count, 250);
        // One more that is new, with a tier from the first; and one that has none any more.
        core.assign(described).unwrap();
        assert_eq!(core.with_a_tier_count(), 5_001);
        core.assign(draft(0)).unwrap();
        assert_eq!(core.with_a_tier_count(), 5_000);
        let kept = serde_json::to_string(&core).unwrap();
        let mut read: SignerCore = serde_json::from_str(&kept).unwrap();
        assert_eq!(read.with_a_tier_count(), 5_000, "read back, it is counted anew");
    }

    /// Whoever isolates a hospital less is not kept from it by what was isolated before.
    #[test]
    fn a_milder_isolation_that_can_only_open_is_counted_with_what_opens() {
        let lease = cordon_model::policy::Policy::default_for("RJ1".parse().unwrap()).lease;
        let ease = Instruction::ease(Isolation::Segment, lease);
        assert_eq!(Way::of(&ease), Way::Opening);
        assert_eq!(Way::of(&Instruction::isolate(Isolation::Segment, lease)), Way::Closing);
        assert_eq!(Way::of(&Instruction::ease(Isolation::Full, lease)), Way::Closing);
        assert_eq!(Way::of(&Instruction::Release), Way::Opening);
    }

    #[test]
    fn a_brake_on_people_says_what_they_ordered_and_what_else_they_can_do() {
        let said = |way| {
            Spent { way, ordered: 60, allowed: 60, window_seconds: WINDOW_SECONDS }.to_string()
        };
        assert_eq!(
            said(Way::Closing),
            "people ordered 60 isolations and other measures (or renewals) in 10 min, of 60 that are \
             signed in that time: wait, or have the policy act"
        );
        assert_eq!(
            said(Way::Opening),
            "people ordered 60 releases (or milder isolations, or measures taken back) in 10 min, of 60 \
             that are signed in that time: wait, or open the machine itself by a break-glass code"
        );
    }
}
