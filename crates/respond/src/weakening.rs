//! What a new assignment or policy would make weaker, field by field and by direction.
//!
//! The one idea: a hub may be stolen, and then it says anything in anybody's name. So what the hub **alone**
//! may have signed is only what can neither make something stop that would not have stopped before, nor open
//! a hole in an isolation, nor take a machine or a program out of the defence's reach. All else takes the
//! **keeper**, root on the signer's machine, who says it there. The signer judges by this, and so do those who
//! tell people before they type what takes the keeper.
//!
//! | the hub alone may say | why |
//! |---|---|
//! | that a new machine is there, of which nothing is known | an unknown tier is clinical: nothing stops by itself, and it makes no brake's share larger |
//! | mode `act` → `ask`, a smaller budget, a response that asks first | the brake, for whoever sees a wrong rule at work; a stolen hub that proposes nothing has as much of it, as long as machines are linked to it |
//! | mode `observe` → `ask`, where nothing follows an unanswered question | people are asked |
//!
//! What that costs: a machine with no hub in reach segments itself only where the newest policy that reached it has
//! that done without asking. So a stolen hub can end that, and it stays ended when the hub is pulled out, until root
//! sets the policy again. It is not bound to permits alone all the same: a wrong rule would go on cutting machines off
//! after people have braked it. It is said instead, wherever it is set ([`ends_self_defence`]).
//!
//! A field that is new in a document does not compile here until somebody has judged it.

use std::cmp::Ordering;

use cordon_model::approval::Unanswered;
use cordon_model::asset::{Assignment, ClinicalTier, Direction, Lifeline, Transport};
use cordon_model::policy::{Budget, Mode, Policy, Response};

/// What of a new assignment takes the keeper, in words; nothing: the hub alone may say it. `known`: what was
/// signed last of that machine.
#[must_use]
pub fn of_assignment(known: Option<&Assignment>, draft: &Assignment) -> Vec<String> {
    // A machine that nobody has spoken of: the strictest that there is. Where it hears its hub, and what it is
    // called, it has to be told once.
    let bare = Assignment {
        hub: draft.hub.clone(),
        ..Assignment::of(draft.organisation.clone(), draft.machine, draft.name.clone())
    };
    let Assignment {
        organisation: _,
        machine: _,
        revision: _,
        name,
        tier,
        kind,
        group,
        lifelines,
        names,
        protected,
        watched,
        hub,
    } = known.unwrap_or(&bare);
    let mut weaker = Vec::new();
    if draft.tier != *tier {
        weaker.push(tiers(*tier, draft.tier));
    }
    weaker.extend(of_lifelines(lifelines, &draft.lifelines));
    let others = [
        // People know a machine by it, on screens, on sheets of codes, and where another stands in for it.
        (
            draft.name != *name,
            "another name: people could take it for another machine and act there",
        ),
        (
            draft.names != *names,
            "other names of lifelines: other addresses could be pinned by them",
        ),
        (
            draft.protected != *protected,
            "other protected programs: what care needs could be stopped, or an intruder's program not",
        ),
        (
            draft.watched != *watched,
            "other filesystems watched for denied contents: what is denied could be started, or what care \
             needs wait for an answer",
        ),
        // Whoever joins counts for how many may be cut off at once, and as a stand-in.
        (
            draft.kind != *kind || draft.group != *group,
            "another kind or group: more of one kind or ward could be cut off at once",
        ),
        // An isolation keeps these addresses and no others of a hub.
        (draft.hub != *hub, "other addresses of the hub: those that an isolation keeps open"),
    ];
    weaker
        .extend(others.into_iter().filter(|(is_other, _)| *is_other).map(|(_, what)| what.into()));
    weaker
}

/// Lower: more is done by itself. Higher, or not said: less can be done at all.
fn tiers(before: Option<ClinicalTier>, after: Option<ClinicalTier>) -> String {
    let word = |tier: Option<ClinicalTier>| {
        tier.map_or("not said".to_owned(), |tier| tier.number().to_string())
    };
    let [was, is] = [before, after].map(|tier| tier.unwrap_or(ClinicalTier::WHEN_UNKNOWN));
    let so = match is.cmp(&was) {
        Ordering::Less => ": more would be done there without asking",
        Ordering::Greater => ": less could be done about an intruder there",
        Ordering::Equal => "",
    };
    format!("tier {} would become {}{so}", word(before), word(after))
}

/// What is removed, and what is new. In addresses and ports, for a name is whatever somebody typed.
fn of_lifelines(before: &[Lifeline], after: &[Lifeline]) -> Vec<String> {
    let of = |one: &[Lifeline], other: &[Lifeline], so: &str| {
        let mut differing = one.iter().filter(|lifeline| !other.contains(lifeline));
        let first = differing.next()?;
        let more = match differing.count() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Some(format!("{}{more} {so}", in_short(first)))
    };
    let removed =
        of(before, after, "would no longer be kept: an isolation would cut what care needs");
    let added = of(after, before, "would be kept: an isolation would leave a way to an intruder");
    let is_only_order = removed.is_none() && added.is_none() && before != after;
    let order = is_only_order.then(|| "the lifelines are in another order".to_owned());
    [removed, added, order].into_iter().flatten().collect()
}

fn in_short(lifeline: &Lifeline) -> String {
    let Lifeline { name: _, peer, transport, ports, direction, signed_off_by: _ } = lifeline;
    let transport = match transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    };
    let way = match direction {
        Direction::Inbound => "from",
        Direction::Outbound => "to",
    };
    let ports = match (ports.first, ports.last) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    };
    format!("the flow {way} {peer} ({transport} {ports})")
}

/// What of a new policy takes the keeper, in words; nothing: the hub alone may set it.
#[must_use]
pub fn of_policy(known: &Policy, draft: &Policy) -> Vec<String> {
    let Policy {
        organisation: _,
        revision: _,
        mode,
        responses,
        budget,
        approval,
        lease,
        deliver_within_seconds,
        permit_seconds,
        permits,
        break_glass,
        ring,
        return_terms,
    } = known;
    let mut weaker = Vec::new();
    if !is_milder_mode(known, draft) {
        let so = match draft.mode {
            Mode::Act => "more would be done without asking",
            Mode::Ask => "more would be done where nobody answers",
            Mode::Observe => "nothing would be done about an intruder, nor anybody asked",
        };
        weaker.push(format!("mode {} would become {}: {so}", word(*mode), word(draft.mode)));
    }
    if !asks_as_much(responses, &draft.responses) {
        weaker.push(
            "other responses: more could be done without asking, or less about an intruder".into(),
        );
    }
    if !is_within(&draft.budget, budget) {
        weaker
            .push("a larger budget: more machines could be cut off at once without asking".into());
    }
    let others = [
        (
            draft.approval != *approval,
            "another way of asking: fewer people could agree, or none be asked",
        ),
        (draft.lease != *lease, "another lease: an isolation could last too long, or end too soon"),
        (
            draft.deliver_within_seconds != *deliver_within_seconds,
            "another time that an order may wait: it could come too late, or never",
        ),
        (
            (draft.permit_seconds, draft.permits) != (*permit_seconds, *permits),
            "other permits: more machines could cut themselves off with no hub in reach, or none",
        ),
        (
            draft.break_glass != *break_glass,
            "other terms of break-glass codes: nobody could open a machine by one, or anybody",
        ),
        (draft.ring != *ring, "other numbers to ring: people could ring an intruder"),
        (
            draft.return_terms != *return_terms,
            "other terms of return: a machine could come back that is not clean, or never",
        ),
    ];
    weaker
        .extend(others.into_iter().filter(|(is_other, _)| *is_other).map(|(_, what)| what.into()));
    weaker
}

/// Said of a policy by which machines segment themselves less than before. Of those that have no hub in reach now it is
/// not so yet: it has to reach them.
pub const ENDS_SELF_DEFENCE: &str = "machines that have this policy will segment themselves no more where no hub is in \
     reach, or for less, until root on the hub's machine sets the policy again; those that have no hub in reach NOW \
     go on by the policy that they hold, until it reaches them or their permit ends (within a day, if the policy says \
     nothing else; within a week at most)";

/// Whether machines with no hub in reach would segment themselves no more, or for less. The hub alone may say so: it is
/// to be told where it is.
#[must_use]
pub fn ends_self_defence(known: &Policy, draft: &Policy) -> bool {
    let by_itself = |policy: &Policy| match policy.mode {
        Mode::Act => policy.responses.iter().filter(|response| response.by_itself).count(),
        Mode::Ask | Mode::Observe => 0,
    };
    by_itself(draft) < by_itself(known)
}

fn is_milder_mode(known: &Policy, draft: &Policy) -> bool {
    match (known.mode, draft.mode) {
        (before, after) if before == after => true,
        (Mode::Act, Mode::Ask) => true,
        // A question that nobody answers may end in an isolation.
        (Mode::Observe, Mode::Ask) => known.approval.unanswered == Unanswered::AskAgain,
        (_, Mode::Act | Mode::Observe) | (Mode::Ask, Mode::Ask) => false,
    }
}

/// The same responses, some of which ask by now.
fn asks_as_much(known: &[Response], draft: &[Response]) -> bool {
    let is_as_much = |(known, draft): (&Response, &Response)| {
        let asks = Response { by_itself: known.by_itself, ..draft.clone() };
        asks == *known && (known.by_itself || !draft.by_itself)
    };
    known.len() == draft.len() && known.iter().zip(draft).all(is_as_much)
}

fn is_within(draft: &Budget, known: &Budget) -> bool {
    let Budget { count, window_seconds, group_percent } = known;
    draft.count <= *count
        && draft.window_seconds >= *window_seconds
        && draft.group_percent <= *group_percent
}

fn word(mode: Mode) -> &'static str {
    match mode {
        Mode::Observe => "observe",
        Mode::Ask => "ask",
        Mode::Act => "act",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_model::asset::{PortRange, Protected};
    use cordon_model::guidance::Contact;
    use cordon_model::ids::MachineId;
    use cordon_model::time::UtcNanos;

    fn assignment() -> Assignment {
        let machine = MachineId::new(UtcNanos::from_unix_nanos(0), [1; 10]);
        Assignment {
            tier: Some(ClinicalTier::Supports),
            kind: Some("CT".into()),
            group: Some("ward 7".into()),
            lifelines: vec![lifeline(104)],
            hub: vec!["10.0.0.1:8444".parse().unwrap()],
            ..Assignment::of("RJ1".parse().unwrap(), machine, "ct-1")
        }
    }

    fn lifeline(port: u16) -> Lifeline {
        Lifeline {
            name: "PACS".into(),
            peer: "10.0.0.9/32".parse().unwrap(),
            transport: Transport::Tcp,
            ports: PortRange::one(port),
            direction: Direction::Outbound,
            signed_off_by: None,
        }
    }

    fn policy() -> Policy {
        Policy { mode: Mode::Act, ..Policy::default_for("RJ1".parse().unwrap()) }
    }

    #[test]
    fn a_machine_of_which_nothing_is_known_may_be_made_known_by_the_hub_alone() {
        let known = assignment();
        let bare = Assignment {
            hub: known.hub.clone(),
            ..Assignment::of(known.organisation.clone(), known.machine, "any")
        };
        assert_eq!(of_assignment(None, &bare), Vec::<String>::new());
        // One that is said counts for how much people may order at once.
        for tier in [
            ClinicalTier::None,
            ClinicalTier::Supports,
            ClinicalTier::Clinical,
            ClinicalTier::LifeSustaining,
        ] {
            let said = Assignment { tier: Some(tier), ..bare.clone() };
            assert_eq!(of_assignment(None, &said).len(), 1, "{tier}");
        }
        assert_eq!(of_assignment(None, &known).len(), 3, "tier, lifelines, kind and group");
    }

    #[test]
    fn it_is_said_where_machines_without_a_hub_defend_themselves_less_though_the_hub_alone_may() {
        let known = policy();
        let mut asks = known.clone();
        asks.responses.iter_mut().for_each(|response| response.by_itself = false);
        for draft in [Policy { mode: Mode::Ask, ..known.clone() }, asks] {
            assert!(of_policy(&known, &draft).is_empty());
            assert!(ends_self_defence(&known, &draft));
            assert!(!ends_self_defence(&draft, &draft) && !ends_self_defence(&draft, &known));
        }
        // Of just those that have none in reach now it is not so yet.
        assert!(ENDS_SELF_DEFENCE.contains("until it reaches them or their permit ends"));
        let smaller = Budget { count: 1, ..known.budget.clone() };
        assert!(!ends_self_defence(&known, &Policy { budget: smaller, ..known.clone() }));
    }

    #[test]
    fn each_field_of_an_assignment_takes_the_keeper_either_way() {
        let known = assignment();
        let (a, b) = (known.clone(), known.clone());
        let same = Assignment { revision: 9, ..known.clone() };
        assert!(of_assignment(Some(&known), &same).is_empty());
        let others = [
            Assignment { name: "ct-2".into(), ..a.clone() },
            Assignment { tier: Some(ClinicalTier::None), ..a.clone() },
            Assignment { tier: None, ..a.clone() },
            Assignment { kind: None, ..a.clone() },
            Assignment { group: Some("ward 8".into()), ..a.clone() },
            Assignment { lifelines: vec![], ..a.clone() },
            Assignment { lifelines: vec![lifeline(104), lifeline(105)], ..a.clone() },
            Assignment {
                protected: Protected { units: vec!["x.service".into()], ..Protected::default() },
                ..a.clone()
            },
            Assignment { watched: vec![cordon_model::action::FilePath::new(b"/srv")], ..a.clone() },
            Assignment { hub: vec![], ..a },
        ];
        for other in others {
            assert_eq!(of_assignment(Some(&b), &other).len(), 1, "{other:?}");
            assert_eq!(of_assignment(Some(&other), &b).len(), 1, "and back: {other:?}");
        }
    }

    #[test]
    fn it_says_what_would_become_weaker_and_whom_that_harms() {
        let known = assignment();
        let said = |draft: Assignment| of_assignment(Some(&known), &draft).join("; ");
        let lower = said(Assignment { tier: Some(ClinicalTier::None), ..known.clone() });
        assert_eq!(lower, "tier 1 would become 0: more would be done there without asking");
        let higher = said(Assignment { tier: Some(ClinicalTier::LifeSustaining), ..known.clone() });
        assert!(higher.ends_with(": less could be done about an intruder there"), "{higher}");
        let lifelines = vec![lifeline(443), lifeline(445)];
        assert_eq!(
            said(Assignment { lifelines, ..known.clone() }),
            "the flow to 10.0.0.9/32 (tcp 104) would no longer be kept: an isolation would cut what care needs; \
             the flow to 10.0.0.9/32 (tcp 443) and 1 more would be kept: an isolation would leave a way to an \
             intruder"
        );
        let two = Assignment { lifelines: vec![lifeline(104), lifeline(105)], ..known.clone() };
        let turned = Assignment { lifelines: vec![lifeline(105), lifeline(104)], ..known.clone() };
        assert_eq!(of_assignment(Some(&two), &turned).len(), 1, "nothing that differs is nothing");
    }

    #[test]
    fn the_hub_alone_may_ask_more_and_do_less_by_itself() {
        let known = policy();
        let less = |mode| Policy { mode, ..known.clone() };
        assert!(of_policy(&known, &known).is_empty());
        assert!(of_policy(&known, &less(Mode::Ask)).is_empty());
        assert_eq!(of_policy(&known, &less(Mode::Observe)).len(), 1);
        assert_eq!(of_policy(&less(Mode::Ask), &known).len(), 1);
        assert_eq!(of_policy(&less(Mode::Observe), &known).len(), 1);
        assert!(of_policy(&less(Mode::Observe), &less(Mode::Ask)).is_empty());
        let mut unanswered = less(Mode::Observe);
        unanswered.approval.unanswered = Unanswered::Segment;
        let asking = Policy { mode: Mode::Ask, ..unanswered.clone() };
        assert_eq!(of_policy(&unanswered, &asking).len(), 1);
        let mut asks = known.clone();
        asks.responses[0].by_itself = false;
        assert!(of_policy(&known, &asks).is_empty());
        assert_eq!(of_policy(&asks, &known).len(), 1);
    }

    #[test]
    fn a_budget_only_shrinks_by_the_hub_alone() {
        let known = policy();
        let with = |count, window_seconds, group_percent| Policy {
            budget: Budget { count, window_seconds, group_percent },
            ..known.clone()
        };
        for smaller in [with(4, 600, 5), with(5, 601, 5), with(5, 600, 4)] {
            assert!(of_policy(&known, &smaller).is_empty());
            assert_eq!(of_policy(&smaller, &known).len(), 1);
        }
        // One larger is larger, whatever else is smaller.
        assert_eq!(of_policy(&known, &with(6, 6_000, 1)).len(), 1);
    }

    #[test]
    fn every_other_field_of_a_policy_takes_the_keeper_either_way() {
        let known = policy();
        let change = |change: fn(&mut Policy)| {
            let mut other = known.clone();
            change(&mut other);
            other
        };
        let others = [
            change(|p| p.responses.clear()),
            change(|p| p.responses[0].tiers.push(ClinicalTier::Clinical)),
            change(|p| p.responses[0].isolation = cordon_model::measure::Isolation::Full),
            change(|p| p.approval.open_for_seconds += 1),
            // Longer: more could be silenced by one no. Shorter: people could be buried in questions.
            change(|p| p.approval.no_holds_for_seconds += 1),
            change(|p| p.approval.no_holds_for_seconds -= 1),
            change(|p| p.lease.seconds += 1),
            change(|p| p.deliver_within_seconds = Some(1)),
            change(|p| p.permit_seconds += 1),
            change(|p| p.permits += 1),
            change(|p| p.break_glass.hold_off_seconds += 1),
            change(|p| p.ring.push(Contact { who: "x".into(), number: "1".into() })),
            change(|p| p.return_terms.counts_for_seconds += 1),
        ];
        for other in others {
            assert_eq!(of_policy(&known, &other).len(), 1, "{other:?}");
            assert_eq!(of_policy(&other, &known).len(), 1, "and back: {other:?}");
        }
    }
}
