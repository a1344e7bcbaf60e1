//! The laws about people: who has to have agreed before a machine is closed in their names, and when their
//! silence closes it.
//!
//! How many orders may be given in their names is a budget like another: [`super::by_people`].

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Law, Violation, hold};
use crate::approval::{Needs, Unanswered};
use crate::asset::ClinicalTier;
use crate::measure::Isolation;
use crate::order::{Instruction, Order};
use crate::policy::Policy;

/// Law 1, with laws 3 and 11: an order in people's names that closes has as many people as the law and the
/// signed policy ask for, at night of those whom it names. Whoever needs to prove who they are can't yet, so
/// nobody signs for tier 3.
///
/// # Errors
/// Who is missing.
pub fn agreed(policy: &Policy, tier: ClinicalTier, order: &Order) -> Result<(), Violation> {
    let by_law = match &order.instruction {
        Instruction::Begin { action, .. } => Needs::to_do(action, tier),
        Instruction::Renew { .. } => Needs::to_contain(tier),
        Instruction::Undo { .. } | Instruction::Release => return Ok(()),
    };
    let needs = policy.approval.needs(by_law, tier);
    let machine = order.machine;
    hold(Law::Lifelines, needs != Needs::TwoKeysOneClinical, || {
        format!("{machine} ({tier}): closed in the names of people who can't prove who they are")
    })?;
    let night = policy.approval.night_of(tier, order.issued_at);
    let night = night.filter(|_| order.instruction.closes());
    let counts = |name: &str| night.is_none_or(|night| night.people.iter().any(|one| one == name));
    let named = || {
        let people = order.authority.people().iter();
        people.filter(|person| !person.name.is_empty() && counts(&person.name))
    };
    let names: BTreeSet<&str> = named().map(|person| person.name.as_str()).collect();
    let has_clinical = !needs.asks_for_a_clinical_one() || named().any(|person| person.is_clinical);
    hold(Law::Authority, has_clinical, || {
        format!("{machine} ({tier}): closed by nobody clinical")
    })?;
    hold(Law::Authority, names.len() >= needs.count(), || {
        let when = if night.is_some() { " at night" } else { "" };
        format!(
            "{machine} ({tier}): closed by {} people{when}, and {needs} are needed",
            names.len()
        )
    })
}

/// Law 1: an order that is only for a machine that is still isolated so far is carried out on no other.
/// `before`: how far it was isolated, or meant to be, when it took the order.
///
/// # Errors
/// How far it was.
pub fn still_isolated(order: &Order, before: Option<Isolation>) -> Result<(), Violation> {
    let Instruction::Begin { if_isolated: Some(least), .. } = order.instruction else {
        return Ok(());
    };
    hold(Law::Authority, before >= Some(least), || {
        format!(
            "{} carried out an order for machines that are still isolated ({least}), and was isolated less \
             ({before:?})",
            order.machine
        )
    })
}

/// Law 1: where people are asked, the policy closes only because nobody answered: it says so, the question
/// was open for as long as it says (`known_for`, since the signer heard of it; `None`: it never did), and no
/// more than a segment comes of it.
///
/// # Errors
/// What does not hold.
pub fn unanswered(
    policy: &Policy,
    order: &Order,
    known_for: Option<Duration>,
    on_its_way: Duration,
) -> Result<(), Violation> {
    let machine = order.machine;
    let judge =
        |holds, what: &str| hold(Law::Authority, holds, || format!("{machine} closed: {what}"));
    judge(policy.approval.unanswered == Unanswered::Segment, "the policy asks again")?;
    let is_mild = order.instruction.isolation().is_some_and(|it| it <= Isolation::Segment);
    judge(is_mild, "further than a segment, or otherwise, with nobody asked")?;
    let open_for = Duration::from_secs(policy.approval.open_for_seconds.into());
    let was_open = known_for.is_some_and(|known| known + on_its_way >= open_for);
    judge(was_open, "nobody had the time to answer")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::{Action, Denied, FilePath};
    use crate::approval::{NeedsMore, Night};
    use crate::ids::{FindingId, MachineId, OrderId};
    use crate::order::{Approver, Authority};
    use crate::time::UtcNanos;

    fn policy() -> Policy {
        Policy::default_for("RJ1".parse().unwrap())
    }

    fn order(isolation: Isolation, authority: Authority) -> Order {
        let Policy { organisation, lease, .. } = policy();
        Order {
            id: OrderId::new(UtcNanos::from_unix_nanos(0), [1; 10]),
            organisation,
            machine: MachineId::new(UtcNanos::from_unix_nanos(0), [1; 10]),
            sequence: 1,
            nonce: [0; 16],
            issued_at: UtcNanos::from_unix_nanos(0),
            deliver_until: None,
            instruction: Instruction::isolate(isolation, lease),
            authority,
            incident: None,
            reason: String::new(),
        }
    }

    fn by(names: &[&str]) -> Order {
        let person = |name: &&str| Approver { name: (*name).into(), is_clinical: true };
        let people = names.iter().map(person).collect();
        order(Isolation::Segment, Authority::People { approval: None, people })
    }

    #[test]
    fn what_closes_needs_those_whom_law_and_policy_name() {
        let mut policy = policy();
        let (one, two) = (by(&["ann"]), by(&["ann", "bob"]));
        let release = Order { instruction: Instruction::Release, ..by(&["cem"]) };
        let clinical = ClinicalTier::Clinical;
        assert!(agreed(&policy, clinical, &one).is_ok());
        assert!(agreed(&policy, ClinicalTier::LifeSustaining, &two).is_err());
        assert!(agreed(&policy, clinical, &by(&["", ""])).is_err());

        let tiers = vec![clinical];
        policy.approval.needs = vec![NeedsMore { tiers: tiers.clone(), needs: Needs::TwoPeople }];
        assert!(agreed(&policy, clinical, &one).is_err());
        assert!(agreed(&policy, clinical, &by(&["ann", "ann"])).is_err());
        assert!(agreed(&policy, clinical, &two).is_ok());
        assert!(agreed(&policy, ClinicalTier::None, &one).is_ok());

        policy.approval.night = Some(Night {
            from: "20:00".into(),
            until: "08:00".into(),
            time_zone: "Europe/London".into(),
            tiers,
            people: vec!["ann".into(), "cem".into()],
        });
        assert!(agreed(&policy, clinical, &two).is_err(), "bob is not named for the night");
        assert!(agreed(&policy, clinical, &by(&["cem", "ann"])).is_ok());
        assert!(agreed(&policy, clinical, &release).is_ok(), "opening is for anybody");
        let lease = policy.lease;
        let ease = |names: &[&str]| Order {
            instruction: Instruction::ease(Isolation::Segment, lease),
            ..by(names)
        };
        assert!(agreed(&policy, clinical, &ease(&["bob", "dan"])).is_ok(), "and so is this");
        assert!(agreed(&policy, clinical, &ease(&["bob"])).is_err(), "but two are two");
    }

    #[test]
    fn an_order_for_isolated_machines_is_carried_out_on_no_other() {
        let lease = policy().lease;
        let instruction = Instruction::ease(Isolation::Segment, lease);
        let ease = Order { instruction, ..by(&["ann"]) };
        assert!(still_isolated(&ease, Some(Isolation::Full)).is_ok());
        for before in [None, Some(Isolation::Watch), Some(Isolation::Segment)] {
            assert!(still_isolated(&ease, before).is_err(), "{before:?}");
            assert!(still_isolated(&by(&["ann"]), before).is_ok(), "it has no condition");
        }
    }

    #[test]
    fn silence_closes_only_what_the_policy_says_and_after_its_time() {
        let mut policy = policy();
        policy.approval.unanswered = Unanswered::Segment;
        policy.approval.open_for_seconds = 60;
        let finding = FindingId::of("rule", "host", &[0; 32]);
        let by_policy = |isolation| order(isolation, Authority::Policy { revision: 1, finding });
        let (segment, full) = (by_policy(Isolation::Segment), by_policy(Isolation::Full));
        let after = |seconds| Some(Duration::from_secs(seconds));
        let on_its_way = Duration::from_secs(10);
        assert!(unanswered(&policy, &segment, after(50), on_its_way).is_ok());
        assert!(unanswered(&policy, &segment, after(49), on_its_way).is_err());
        assert!(unanswered(&policy, &segment, None, on_its_way).is_err());
        assert!(unanswered(&policy, &full, after(60), on_its_way).is_err());
        let action = Action::Deny(Denied::Path(FilePath::new("/tmp/worm")));
        let deny = Instruction::begin(action, policy.lease);
        let deny = Order { instruction: deny, ..segment.clone() };
        assert!(unanswered(&policy, &deny, after(60), on_its_way).is_err(), "no segment");
        policy.approval.unanswered = Unanswered::AskAgain;
        assert!(unanswered(&policy, &segment, after(60), on_its_way).is_err());
    }
}
