//! A milder isolation in place of a stricter one opens the machine by the difference, and does nothing else.

use cordon_model::order::Lease;

use super::*;

fn lease() -> Lease {
    Policy::default_for("RJ1".parse().unwrap()).lease
}

fn isolate(isolation: Isolation) -> Instruction {
    Instruction::isolate(isolation, lease())
}

/// Machine 1 shows that it is isolated in full, as people ordered.
fn in_full(change: impl FnOnce(&mut Policy)) -> Bench {
    let mut bench = Bench::with(1, change);
    bench.wish(1, isolate(Isolation::Full));
    let order = bench.take(1);
    bench.receipt(1, order.id.into(), Origin::Order(order.id), MeasureState::Verified);
    bench
}

#[test]
fn a_milder_isolation_is_ordered_for_a_machine_that_is_isolated_still() {
    let mut bench = in_full(|_| ());
    bench.wish(1, isolate(Isolation::Segment));
    let ease = bench.take(1);
    assert_eq!(ease.instruction, Instruction::ease(Isolation::Segment, lease()));
    // A code was typed meanwhile: the machine refuses, and that is told.
    let why = "it is isolated less by now".to_owned();
    bench.wish(1, isolate(Isolation::Watch));
    let watch = bench.order(1).unwrap();
    assert_eq!(watch.instruction, Instruction::ease(Isolation::Watch, lease()));
    bench.report(1, Arrived::OrderRefused(watch.id, why.clone()));
    assert_eq!(bench.state(watch.id.into()), MeasureState::Failed { why });
    assert_eq!(bench.told(watch.id.into()), 1);
    // As far or further is what it says.
    let mut bench = in_full(|_| ());
    bench.wish(1, isolate(Isolation::Full));
    assert_eq!(bench.order(1).unwrap().instruction, isolate(Isolation::Full));
}

/// What is not in force, or is about to end, is no isolation that a milder one takes the place of: whoever
/// wants the milder one gets it.
#[test]
fn where_no_stricter_isolation_is_shown_a_milder_one_is_ordered_without_a_condition() {
    // Never sent: the newer order takes its place.
    let mut bench = Bench::with(1, |_| ());
    let link = bench.hub.machines.get(&machine(1)).and_then(|known| known.link).unwrap();
    bench.hub.unlinked(machine(1), link);
    bench.wish(1, isolate(Isolation::Full));
    bench.wish(1, isolate(Isolation::Segment));
    assert_eq!(bench.order(1).unwrap().instruction, isolate(Isolation::Segment));
    // Its release is on its way.
    let mut bench = in_full(|_| ());
    bench.release(1);
    bench.wish(1, isolate(Isolation::Segment));
    assert_eq!(bench.order(1).unwrap().instruction, isolate(Isolation::Segment));
    // The machine says that it holds nothing.
    let mut bench = in_full(|_| ());
    bench.says(1, Holds::NOTHING);
    bench.says(1, Holds::NOTHING);
    bench.wish(1, isolate(Isolation::Segment));
    assert_eq!(bench.order(1).unwrap().instruction, isolate(Isolation::Segment));
    // A machine of before there were conditions could not read it.
    let mut bench = in_full(|_| ());
    bench.hub.machines.get_mut(&machine(1)).unwrap().row.version = 1;
    bench.wish(1, isolate(Isolation::Segment));
    assert_eq!(bench.order(1).unwrap().instruction, isolate(Isolation::Segment));
}

#[test]
fn what_only_opens_needs_nobody_whom_the_night_names() {
    let mut bench = in_full(|_| ());
    let night = cordon_model::approval::Night {
        from: "00:00".into(),
        until: "23:59".into(),
        time_zone: "UTC".into(),
        tiers: vec![ClinicalTier::None],
        people: vec!["bob".into()],
    };
    let mut policy = (*bench.policy).clone();
    policy.approval.night = Some(night);
    let policy = verified(&bench.signer.set_policy(policy).unwrap());
    bench.hub.policy_set(&policy);
    let wished = bench.wish_of("ann", 1, isolate(Isolation::Segment));
    assert!(matches!(wished, Ok(Wished::Proposed(_))), "{wished:?}");
    let order = bench.order(1).unwrap();
    assert_eq!(order.instruction, Instruction::ease(Isolation::Segment, lease()));
    // What closes still does.
    let wished = bench.wish_of("ann", 1, isolate(Isolation::Full));
    assert!(matches!(wished, Ok(Wished::Asked(_))), "{wished:?}");
}

/// The order to isolate less found the machine opened by a code: a finding is not left to that order.
#[test]
fn an_order_that_found_its_machine_open_hides_no_finding_from_the_signer() {
    let mut bench = in_full(|_| ());
    let code = Origin::BreakGlass { revision: 1, code: 1 };
    let by_code = MeasureId::new(bench.now().utc, [77; 10]);
    bench.wish(1, isolate(Isolation::Segment));
    let ease = bench.order(1).unwrap();
    assert_eq!(bench.contained(1), Some(Isolation::Segment));
    let mut bench = in_full(|_| ());
    bench.receipt(1, by_code, code, MeasureState::Verified);
    assert_eq!(bench.contained(1), None, "the code opened it");
    let people = vec![Approver { name: "ann".into(), is_clinical: false }];
    let proposal = Proposal {
        id: ease.id,
        machine: machine(1),
        instruction: ease.instruction,
        basis: Basis::People { approval: None, people },
        incident: None,
        reason: "a test".into(),
    };
    bench.tell_signer(ForSigner::Propose(proposal));
    bench.tell_signer(ForSigner::NeverBegun(machine(1), ease.id));
    assert_eq!(bench.contained(1), None);
}

/// Its agent was put back to an older one while the order was on its way: nothing waits behind it.
#[test]
fn an_order_that_an_older_machine_cannot_read_dies_and_the_release_after_it_is_sent() {
    for is_sent in [true, false] {
        let mut bench = in_full(|_| ());
        if !is_sent {
            bench.hub.unlinked(machine(1), 1);
        }
        bench.wish(1, isolate(Isolation::Segment));
        let ease = bench.order(1).unwrap();
        assert_eq!(ease.instruction, Instruction::ease(Isolation::Segment, lease()));
        bench.hub.unlinked(machine(1), 1);
        if is_sent {
            bench.release(1);
        }
        bench.link_as(1, 2, 1);
        assert!(matches!(bench.state(ease.id.into()), MeasureState::Failed { .. }));
        assert_eq!(bench.told(ease.id.into()), 1);
        if !is_sent {
            bench.release(1);
        }
        let release = bench.order(1).unwrap();
        let sent = bench.outputs.iter().any(|output| {
            matches!(output, Output::Send(_, 2, FromHub::Order(order))
                if order.signature == verified(&release).envelope().signature)
        });
        assert!(sent && release.instruction == Instruction::Release);
    }
}

/// Its receipt may be lost or late, and a code typed since.
#[test]
fn what_was_sent_and_is_not_shown_may_be_in_force_and_a_milder_one_has_the_condition() {
    for is_taken in [false, true] {
        let mut bench = Bench::with(1, |_| ());
        bench.wish(1, isolate(Isolation::Full));
        if is_taken {
            bench.take(1);
        }
        bench.wish(1, isolate(Isolation::Segment));
        let ease = Instruction::ease(Isolation::Segment, lease());
        assert_eq!(bench.order(1).unwrap().instruction, ease, "{is_taken}");
    }
}

#[test]
fn a_hub_that_starts_again_knows_which_version_a_machine_speaks_that_is_away() {
    let is_row = |output: &&Output| matches!(output, Output::Keep(Change::Machine(_)));
    let linked = Bench::with(1, |_| ());
    let is_said = |output: &Output| {
        matches!(output, Output::Keep(Change::Machine(row))
            if row.version == cordon_model::wire::VERSION)
    };
    assert!(linked.outputs.iter().any(is_said), "written as soon as it is known");
    let mut bench = in_full(|_| ());
    let row = bench.outputs.iter().rev().find(is_row).cloned();
    let Some(Output::Keep(Change::Machine(row))) = row else { panic!("no row") };
    // One of before there was a version in it is read as well.
    let mut bytes = serde_json::to_value(&row).unwrap();
    bytes.as_object_mut().unwrap().remove("version").unwrap();
    let of_before: MachineRow = serde_json::from_value(bytes).unwrap();
    for (row, knows) in [(row, true), (of_before, false)] {
        let mut rows: Vec<Change> = bench.rows.values().cloned().collect();
        rows.push(Change::Machine(row));
        rows.extend(bench.hub.orders().cloned().map(Change::Order));
        let (hub, _) = HubCore::restore(&bench.policy, rows);
        assert_eq!(hub.would_only_open(machine(1), Isolation::Segment), knows);
    }
    // It comes back the same: nothing is to be written.
    bench.hub.unlinked(machine(1), 1);
    let before = bench.outputs.len();
    bench.link(1, 2);
    assert_eq!(bench.outputs[before..].iter().filter(is_row).count(), 0);
}

/// Two people ease it at the same time, and the signer has not answered the first.
#[test]
fn what_only_opens_and_waits_for_the_signer_leaves_the_next_one_its_condition() {
    let mut bench = in_full(|_| ());
    let people = vec![Approver { name: "ann".into(), is_clinical: false }];
    let proposal = Proposal {
        id: OrderId::new(bench.now().utc, [66; 10]),
        machine: machine(1),
        instruction: Instruction::ease(Isolation::Watch, lease()),
        basis: Basis::People { approval: None, people },
        incident: None,
        reason: "a test".into(),
    };
    bench.hub.propose_this(proposal);
    assert!(bench.hub.would_only_open(machine(1), Isolation::Watch));
    assert!(bench.hub.would_only_open(machine(1), Isolation::Segment));
    // A finding is not left to what is about to end.
    assert_eq!(bench.hub.intended(machine(1)), Some(Isolation::Watch));
}

/// A wrong isolation is undone in less than five seconds: of these the hub takes none, for it waits for nothing
/// but the signer and the machine, and for no tick.
#[test]
fn what_opens_a_machine_is_sent_in_the_step_in_which_it_is_wished() {
    let mut bench = Bench::new(1);
    bench.isolated(1);
    let [(undo, _)] = &bench.hub.undoing(machine(1))[..] else { panic!() };
    bench.outputs.clear();
    bench.wish(1, undo.clone());
    let sent = |output: &&Output| matches!(output, Output::Send(_, 1, FromHub::Order(_)));
    assert_eq!(bench.outputs.iter().filter(sent).count(), 1, "{:?}", bench.outputs);
    let release = bench.take(1);
    assert_eq!(release.instruction, Instruction::Release);
    // What is sent already and not confirmed is all that it waits for: the machine's own word.
    bench.isolated(1);
    let wish =
        Instruction::begin(Action::Deny(Denied::Sha256(Sha256Digest([1; 32]))), bench.policy.lease);
    bench.wish(1, wish);
    bench.wish(1, Instruction::Release);
    bench.outputs.clear();
    let first = bench.hub.orders().find(|life| life.is_open()).unwrap().order.id;
    let now = bench.now();
    let outputs = bench.hub.order_taken(machine(1), 1, first, &now);
    bench.carry(outputs);
    assert_eq!(bench.outputs.iter().filter(sent).count(), 1, "{:?}", bench.outputs);
}
