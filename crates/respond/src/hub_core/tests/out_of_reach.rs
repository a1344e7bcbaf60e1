//! A machine that an isolation in full would take out of its hub's reach: it sits behind a tunnel.

use super::*;
use cordon_model::wire::{HUB_LINK, HUB_WAY};

fn way(is_cut: bool) -> Vec<Coverage> {
    let gap = is_cut.then(|| "this machine reaches its hub through tunnel wg0".to_owned());
    vec![Coverage { what: HUB_LINK.into(), by: None, gap }]
}

/// Where the policy isolates in full by itself.
fn bench() -> Bench {
    Bench::with(1, |policy| {
        policy.mode = Mode::Act;
        policy.responses[0].isolation = Isolation::Full;
    })
}

fn questions(bench: &Bench) -> Vec<Approval> {
    bench.hub.questions_about(machine(1))
}

#[test]
fn by_itself_it_is_segmented_and_people_are_asked_for_the_rest() {
    let mut bench = bench();
    bench.hub.covered(machine(1), 1, &way(true));
    bench.find(1);
    let order = bench.take(1);
    assert_eq!(order.instruction.isolation(), Some(Isolation::Segment));
    assert!(matches!(order.authority, Authority::Policy { .. }));
    let asked = questions(&bench);
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0].instruction.isolation(), Some(Isolation::Full));
    assert!(asked[0].why.contains("lose its hub"), "{}", asked[0].why);
    // In force, it answers no question, and the next finding asks no other and orders nothing.
    bench.receipt(1, order.id.into(), Origin::Order(order.id), MeasureState::Verified);
    bench.find(1);
    assert_eq!(questions(&bench), asked);
    assert_eq!(bench.order(1).unwrap().id, order.id);
    // People may, knowing it.
    bench.wish(1, asked[0].instruction.clone());
    let order = bench.order(1).unwrap();
    assert_eq!(order.instruction.isolation(), Some(Isolation::Full));
    assert!(matches!(order.authority, Authority::People { .. }));
}

#[test]
fn what_keeps_its_hub_is_isolated_as_the_policy_says() {
    let mut bench = bench();
    // It said so, and has since got its lifeline.
    bench.hub.covered(machine(1), 1, &way(true));
    bench.hub.covered(machine(1), 1, &way(false));
    // Nor does a link that was lost say anything.
    bench.hub.covered(machine(1), 0, &way(true));
    bench.find(1);
    assert_eq!(bench.order(1).unwrap().instruction.isolation(), Some(Isolation::Full));
    assert_eq!(questions(&bench), []);
}

/// The budget is spent: people are asked for what would be done, and can agree to it without the rest.
#[test]
fn what_the_signer_asks_for_first_is_asked_and_not_only_the_rest() {
    let mut bench = Bench::with(1, |policy| {
        policy.mode = Mode::Act;
        policy.responses[0].isolation = Isolation::Full;
        policy.budget.count = 0;
    });
    bench.hub.covered(machine(1), 1, &way(true));
    bench.find(1);
    assert_eq!(bench.order(1), None);
    let asked = questions(&bench);
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0].instruction.isolation(), Some(Isolation::Segment));
}

/// One for everything, that is open from before, does not stand for the part either.
#[test]
fn a_question_for_all_does_not_hide_the_part() {
    let mut bench = Bench::with(1, |policy| {
        policy.mode = Mode::Act;
        policy.responses[0].isolation = Isolation::Full;
        policy.budget.count = 0;
    });
    // Nothing was known of its way to the hub then.
    bench.find(1);
    assert_eq!(questions(&bench)[0].instruction.isolation(), Some(Isolation::Full));
    bench.hub.covered(machine(1), 1, &way(true));
    bench.find(1);
    bench.find(1);
    let asked = questions(&bench);
    assert_eq!(asked.len(), 2, "{asked:?}");
    let part = |open: &Approval| open.instruction.isolation() == Some(Isolation::Segment);
    assert_eq!(asked.iter().filter(|open| part(open)).count(), 1, "{asked:?}");
}

/// Its way changed while the order waited: what it says when it is back counts.
#[test]
fn the_policys_order_that_was_never_sent_gives_way_when_it_would_lose_the_hub() {
    let mut bench = bench();
    // The link goes while the signer signs.
    let finding = Arrived::Finding(Box::new(bench.finding(1)), vec![]);
    let outputs = bench.hears_of(1, finding);
    bench.hub.unlinked(machine(1), 1);
    bench.carry(outputs);
    let full = bench.order(1).unwrap();
    assert_eq!(full.instruction.isolation(), Some(Isolation::Full));
    bench.link_saying(1, 2, way(true));
    let sent = |id| {
        bench.outputs.iter().any(|output| {
            matches!(output, Output::Keep(Change::Order(life))
                if life.order.id == id && life.delivery == Delivery::Sent)
        })
    };
    let order = bench.order(1).unwrap();
    assert_eq!(order.instruction.isolation(), Some(Isolation::Segment));
    assert!(matches!(order.authority, Authority::Policy { .. }));
    assert!(sent(order.id) && !sent(full.id));
    let asked = questions(&bench);
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0].instruction.isolation(), Some(Isolation::Full));
}

#[test]
fn peoples_order_in_full_is_sent_all_the_same() {
    let mut bench = bench();
    bench.hub.unlinked(machine(1), 1);
    bench.wish(1, Instruction::isolate(Isolation::Full, bench.policy.lease));
    bench.link_saying(1, 2, way(true));
    let order = bench.order(1).unwrap();
    assert_eq!(order.instruction.isolation(), Some(Isolation::Full));
    assert!(!bench.hub.orders().any(OrderLife::is_dead));
}

/// Whyever people are asked to isolate it in full, they read what that means.
#[test]
fn every_question_for_full_says_that_it_loses_the_hub() {
    let mut bench = Bench::with(1, |policy| {
        policy.mode = Mode::Ask;
        policy.responses[0].isolation = Isolation::Full;
    });
    bench.hub.covered(machine(1), 1, &way(true));
    bench.find(1);
    let asked = questions(&bench);
    assert_eq!(asked.len(), 1);
    assert!(asked[0].why.starts_with("the policy's mode is ask"), "{}", asked[0].why);
    assert!(asked[0].why.contains("lose its hub"), "{}", asked[0].why);
}

/// A machine that does not know its way may lose it.
#[test]
fn a_way_that_is_not_known_counts_as_lost() {
    let mut bench = bench();
    let gap = Some("whether it is a tunnel is not known".to_owned());
    bench.hub.covered(machine(1), 1, &[Coverage { what: HUB_WAY.into(), by: None, gap }]);
    bench.find(1);
    assert_eq!(bench.order(1).unwrap().instruction.isolation(), Some(Isolation::Segment));
}
