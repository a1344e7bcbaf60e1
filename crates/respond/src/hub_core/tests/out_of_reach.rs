//! A machine that an isolation in full would take out of its hub's reach: it sits behind a tunnel.

use super::*;
use cordon_model::wire::{HUB_LINK, HUB_WAY};

pub(super) fn way(is_cut: bool) -> Vec<Coverage> {
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
    bench.covered(machine(1), 1, &way(true));
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
    bench.covered(machine(1), 1, &way(true));
    bench.covered(machine(1), 1, &way(false));
    // Nor does a link that was lost say anything.
    bench.covered(machine(1), 0, &way(true));
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
    bench.covered(machine(1), 1, &way(true));
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
    bench.covered(machine(1), 1, &way(true));
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
    bench.covered(machine(1), 1, &way(true));
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
    bench.covered(machine(1), 1, &[Coverage { what: HUB_WAY.into(), by: None, gap }]);
    bench.find(1);
    assert_eq!(bench.order(1).unwrap().instruction.isolation(), Some(Isolation::Segment));
}

fn records(bench: &Bench, of: &Deed) -> Vec<String> {
    let detail = |output: &Output| match output {
        Output::Record(record) if record.deed == *of => Some(record.detail.clone()),
        _ => None,
    };
    bench.outputs.iter().filter_map(detail).collect()
}

/// Each change, once, and also over a restart of the hub: a machine can't slip one in between.
#[test]
fn what_it_says_of_its_way_leaves_a_record_whenever_it_changes() {
    let mut bench = bench();
    assert_eq!(records(&bench, &Deed::WaySaid), [""; 0], "there is nothing to say");
    bench.covered(machine(1), 1, &way(true));
    bench.covered(machine(1), 1, &way(true));
    let said = records(&bench, &Deed::WaySaid);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("through tunnel wg0") && said[0].contains("segmented"), "{said:?}");
    let row = bench.outputs.iter().rev().find_map(|output| match output {
        Output::Keep(Change::Machine(row)) => Some(row.clone()),
        _ => None,
    });
    let row = row.unwrap();
    assert_eq!(row.way.since, Some(bench.now().utc));
    // The hub starts again: the same word is no news, another one is.
    (bench.hub, _) = HubCore::restore(&bench.policy, vec![Change::Machine(row)]);
    bench.link_saying(1, 2, way(true));
    assert_eq!(records(&bench, &Deed::WaySaid).len(), 1);
    bench.link_saying(1, 3, way(false));
    let said = records(&bench, &Deed::WaySaid);
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said[1].starts_with("now: through a tunnel that an isolation in full keeps"),
        "{said:?}"
    );
}

#[test]
fn each_response_that_its_word_lowers_leaves_a_record() {
    let mut bench = bench();
    bench.covered(machine(1), 1, &way(true));
    bench.find(1);
    let order = bench.take(1);
    let lowered = records(&bench, &Deed::ResponseLowered);
    assert_eq!(lowered.len(), 1, "{lowered:?}");
    assert!(lowered[0].starts_with("full isolation → segment"), "{lowered:?}");
    assert!(lowered[0].contains("tunnel wg0") && lowered[0].contains("a rule"), "{lowered:?}");
    // It is segmented by now, and the policy would go on: people are asked in place of that.
    bench.receipt(1, order.id.into(), Origin::Order(order.id), MeasureState::Verified);
    bench.find(1);
    let lowered = records(&bench, &Deed::ResponseLowered);
    assert_eq!(lowered.len(), 2, "{lowered:?}");
    assert!(lowered[1].starts_with("full isolation → people are asked"), "{lowered:?}");
    let kept = bench.outputs.iter().rev().find_map(|output| match output {
        Output::Keep(Change::Machine(row)) => Some(row.way.lowered),
        _ => None,
    });
    assert_eq!(kept, Some(2));
    // What its word does not change is none.
    let mut other = self::bench();
    other.find(1);
    assert_eq!(records(&other, &Deed::ResponseLowered), [""; 0]);
}

#[test]
fn an_order_that_gives_way_to_its_word_leaves_a_record() {
    let mut bench = bench();
    let finding = Arrived::Finding(Box::new(bench.finding(1)), vec![]);
    let outputs = bench.hears_of(1, finding);
    bench.hub.unlinked(machine(1), 1);
    bench.carry(outputs);
    bench.link_saying(1, 2, way(true));
    assert_eq!(records(&bench, &Deed::ResponseLowered).len(), 1);
}

/// A word that waited on a link that is gone is older than the hello that came after, whenever it arrives.
#[test]
fn the_newer_link_has_the_last_word_of_its_way() {
    for is_cut in [true, false] {
        let mut bench = bench();
        bench.link_saying(1, 2, way(is_cut));
        bench.covered(machine(1), 1, &way(!is_cut));
        let finding = Arrived::Finding(Box::new(bench.finding(1)), vec![]);
        let (now, reports) = (bench.now(), vec![(1, finding)]);
        let outputs = bench.hub.arrived(machine(1), 2, reports, &now, &mut || [9; 16]);
        bench.carry(outputs);
        let expected = if is_cut { Isolation::Segment } else { Isolation::Full };
        assert_eq!(bench.order(1).unwrap().instruction.isolation(), Some(expected));
    }
}

impl Bench {
    fn says_no(&mut self, question: ApprovalId) {
        let (now, person) = (self.now(), Approver { name: "bob".into(), is_clinical: false });
        let (identity, dice) = (Identity::Session, &mut || [3; 16]);
        let outputs = self.hub.answer(question, &person, identity, false, "no", &now, dice);
        self.carry(outputs.unwrap());
    }

    /// A finding that the machine's story has not seen the like of.
    pub(super) fn find_more(&mut self, number: u8, tags: &[&str], level: Level) {
        let mut finding = self.finding(number);
        finding.rule.tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        finding.rule.level = level;
        self.report(number, Arrived::Finding(Box::new(finding), vec![]));
    }
}

/// Segmented, asked for the rest, declined; later it is segmented anew.
#[test]
fn the_rest_that_people_declined_is_asked_again_only_after_something_new() {
    let mut bench = Bench::with(1, |policy| {
        policy.mode = Mode::Act;
        policy.responses[0].isolation = Isolation::Full;
        policy.budget.count = 100;
    });
    bench.covered(machine(1), 1, &way(true));
    bench.find(1);
    let order = bench.take(1);
    bench.receipt(1, order.id.into(), Origin::Order(order.id), MeasureState::Verified);
    bench.says_no(questions(&bench)[0].id);
    bench.release(1);
    bench.find(1);
    let again = bench.order(1).unwrap();
    assert!(again.id != order.id && again.instruction.isolation() == Some(Isolation::Segment));
    assert_eq!(questions(&bench), [], "people have decided that");
    // Nor does a hub that starts again forget it.
    let mut rows: Vec<Change> = bench.hub.approvals().cloned().map(Change::Approval).collect();
    rows.extend(bench.hub.grouping.stories().cloned().map(Change::Story));
    rows.extend(bench.hub.machines.values().map(|known| Change::Machine(known.row.clone())));
    (bench.hub, _) = HubCore::restore(&bench.policy, rows);
    bench.link_saying(1, 1, way(true));
    bench.release(1);
    bench.find(1);
    assert_eq!(questions(&bench), [], "it was decided before");
    for (tags, level) in
        [(&["attack.lateral-movement"][..], Level::High), (&[][..], Level::Critical)]
    {
        bench.release(1);
        bench.find_more(1, tags, level);
        let asked = questions(&bench);
        assert_eq!(asked.len(), 1, "{level} {tags:?}: {asked:?}");
        assert_eq!(asked[0].instruction.isolation(), Some(Isolation::Full));
        bench.says_no(asked[0].id);
        bench.release(1);
        bench.find_more(1, tags, level);
        assert_eq!(questions(&bench), [], "{level} {tags:?}: that was decided too");
    }
}

/// The same of what the signer wants people for, whatever the machine says.
#[test]
fn what_people_declined_is_not_asked_again_because_the_signer_asks() {
    let mut bench = Bench::with(1, |policy| {
        policy.mode = Mode::Act;
        policy.budget.count = 0;
    });
    bench.find(1);
    let asked = questions(&bench);
    assert_eq!(asked.len(), 1, "{asked:?}");
    bench.says_no(asked[0].id);
    bench.find(1);
    assert_eq!(questions(&bench), []);
    bench.find_more(1, &["attack.lateral-movement"], Level::High);
    assert_eq!(questions(&bench).len(), 1);
}
