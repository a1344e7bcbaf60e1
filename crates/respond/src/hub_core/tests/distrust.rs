//! What a machine that lies, or a signer that says no, can't bring about.

use super::*;
use cordon_model::limits;

fn not_blocked(outputs: &[Output]) -> usize {
    let is_it = |output: &&Output| matches!(output, Output::Tell(Notice::NotBlocked { .. }));
    outputs.iter().filter(is_it).count()
}

pub(super) fn finding_of(number: u8, raw: u8, level: Level) -> Finding {
    let raw_sha256 = [raw; 32];
    let rule = RuleRef { id: "rule".into(), title: "a rule".into(), level, tags: vec![] };
    Finding {
        id: FindingId::of("rule", &format!("m{number}"), &raw_sha256),
        rule,
        host: format!("m{number}"),
        time: UtcNanos::from_unix_nanos(i64::from(raw) * 1_000_000),
        boot_time: None,
        process: None,
        matched: vec![],
        raw: RawEvent { json: "{}".into(), is_cut: false },
        raw_sha256,
    }
}

#[test]
fn what_the_signer_refuses_without_asking_is_told_to_people() {
    let mut bench = Bench::new(1);
    let now = bench.now();
    let reports = vec![(1, Arrived::Finding(Box::new(finding_of(1, 1, Level::High)), vec![]))];
    let outputs = bench.hub.arrived(machine(1), 1, reports, &now, &mut || [1; 16]);
    let proposal = outputs.iter().find_map(|output| match output {
        Output::Signer(ForSigner::Propose(proposal)) => Some(proposal.clone()),
        _ => None,
    });
    let proposal = proposal.unwrap();
    assert_eq!(not_blocked(&outputs), 0, "not yet: it is the signer's turn");
    let refusal = Err(Refusal::UnknownMachine);
    let outputs = bench.hub.signer_answered(proposal.id, refusal.clone(), &now, &mut || [2; 16]);
    assert_eq!(not_blocked(&outputs), 1);
    // The same again, of another finding of the same story: they know.
    let reports = vec![(2, Arrived::Finding(Box::new(finding_of(1, 2, Level::High)), vec![]))];
    let outputs = bench.hub.arrived(machine(1), 1, reports, &now, &mut || [3; 16]);
    let again = outputs.iter().find_map(|output| match output {
        Output::Signer(ForSigner::Propose(proposal)) => Some(proposal.id),
        _ => None,
    });
    let outputs = bench.hub.signer_answered(again.unwrap(), refusal, &now, &mut || [4; 16]);
    assert_eq!(not_blocked(&outputs), 0);
}

#[test]
fn a_machine_that_takes_anothers_finding_id_hides_nothing() {
    let mut bench = Bench::new(2);
    let mut stolen = finding_of(1, 7, Level::Medium);
    stolen.host = "m2".into();
    bench.report(2, Arrived::Finding(Box::new(stolen), vec![]));
    assert!(bench.order(1).is_none());
    bench.report(1, Arrived::Finding(Box::new(finding_of(1, 7, Level::High)), vec![]));
    assert!(bench.order(1).is_some(), "the genuine one is answered");
}

#[test]
fn a_machine_can_report_no_more_measures_than_fit() {
    let mut bench = Bench::new(1);
    let measure = |number: u16| {
        let mut bytes = [0; 10];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        MeasureId::new(UtcNanos::from_unix_nanos(0), bytes)
    };
    let origin = Origin::LeaseEnd(measure(0));
    let many = u16::try_from(limits::STANDING_PER_MACHINE).unwrap() + 10;
    for number in 1..=many {
        bench.receipt(1, measure(number), origin, MeasureState::Verified);
    }
    assert_eq!(bench.hub.measures().count(), limits::STANDING_PER_MACHINE);
    assert_eq!(bench.hub.refused(), 10);
    let said = bench.outputs.iter().filter(|output| {
        matches!(output, Output::Record(record) if record.detail.contains("more measures"))
    });
    assert_eq!(said.count(), 10);
    // What is known goes on changing, and what is over makes room, and does not pile up either.
    for number in 1..=many {
        bench.receipt(1, measure(number), origin, MeasureState::Released);
    }
    assert_eq!(bench.hub.measures().count(), CLOSED_PER_MACHINE);
}

#[test]
fn of_many_incidents_of_one_machine_only_the_last_are_remembered_as_told() {
    let mut bench = Bench::new(1);
    let mut policy = (*bench.policy).clone();
    policy.mode = Mode::Observe;
    policy.revision += 1;
    bench.hub.policy_set(&verified(&policy));
    for raw in 0..40 {
        bench.report(1, Arrived::Finding(Box::new(finding_of(1, raw, Level::High)), vec![]));
        let incident = bench.hub.incidents().next().unwrap().id;
        let now = bench.now();
        bench.hub.close(incident, "ann", "seen", &now, &mut || [98; 16]);
    }
    assert_eq!(not_blocked(&bench.outputs), 40);
    let told = &bench.hub.machines[&machine(1)].told;
    assert_eq!(told.len(), limits::TOLD_PER_MACHINE);
}

#[test]
fn what_a_machine_says_of_anothers_order_or_measure_is_refused_counted_and_said() {
    let mut bench = Bench::new(2);
    let measure = bench.isolated(1);
    let order = bench.order(1).unwrap();
    let now = bench.now();
    let outputs = bench.hub.order_taken(machine(2), 1, order.id, &now);
    bench.carry(outputs);
    bench.report(2, Arrived::OrderRefused(order.id, "no".into()));
    bench.receipt(2, measure, Origin::Order(order.id), MeasureState::Released);
    assert_eq!(bench.hub.refused(), 3);
    let said = bench.outputs.iter().filter(|output| {
        matches!(output, Output::Record(record)
            if record.machine == Some(machine(2)) && record.detail.contains("another machine's"))
    });
    assert_eq!(said.count(), 3);
    assert_eq!(bench.state(measure), MeasureState::Verified);
}

#[test]
fn an_incident_is_called_by_the_name_that_commands_take() {
    let mut bench = Bench::new(1);
    let mut finding = finding_of(1, 1, Level::High);
    finding.host = "DESKTOP-4F2K".into();
    bench.report(1, Arrived::Finding(Box::new(finding), vec![]));
    assert_eq!(bench.hub.incidents().next().unwrap().title, "a rule on m1");
}

/// The signer was about to sign when it was struck off: what it signed is sent to nobody.
#[test]
fn what_is_signed_while_its_machine_is_struck_off_dies_and_nothing_is_sent_to_it() {
    let mut bench = Bench::new(1);
    let now = bench.now();
    let lease = bench.policy.lease;
    let mut waiting = Vec::new();
    for (number, isolation) in [Isolation::Segment, Isolation::Full].into_iter().enumerate() {
        let wish = Wish {
            machine: machine(1),
            instruction: Instruction::isolate(isolation, lease),
            person: Approver { name: "ann".into(), is_clinical: false },
            identity: Identity::Session,
            incident: None,
            reason: "worm".into(),
        };
        let dice = number as u8 + 1;
        let (wished, outputs) = bench.hub.people_propose(wish, &now, &mut || [dice; 16]).unwrap();
        let is_at_once =
            outputs.iter().any(|output| matches!(output, Output::Signer(ForSigner::Propose(_))));
        assert_eq!(is_at_once, number == 0);
        let Wished::Proposed(order) = wished else { panic!("{wished:?}") };
        waiting.push(order);
    }
    let isolations: Vec<_> =
        bench.hub.proposed_for(machine(1)).filter_map(Instruction::isolation).collect();
    assert_eq!(isolations, [Isolation::Segment, Isolation::Full]);
    let at_signer = bench.hub.next_proposals().next().unwrap();
    let outputs = bench.hub.struck_off(machine(1));
    assert!(outputs.contains(&Output::Keep(Change::Answered(waiting[1]))), "{outputs:?}");
    bench.carry(outputs);
    let before = bench.outputs.len();
    bench.tell_signer(ForSigner::Propose(at_signer));
    assert_eq!(bench.order(1).unwrap().id, waiting[0]);
    assert!(matches!(bench.state(waiting[0].into()), MeasureState::Failed { .. }));
    assert_eq!(bench.hub.proposed_for(machine(1)).count(), 0);
    // Its link of before counts no more, and a new one is not taken.
    bench.link(1, 2);
    bench.says(1, Holds::NOTHING);
    assert!(!bench.hub.is_linked(machine(1)));
    let is_sent = |output: &Output| matches!(output, Output::Send(..));
    assert!(!bench.outputs[before..].iter().any(is_sent));
}

/// The signer takes only so many ids ahead of time.
#[test]
fn a_machine_whose_clock_is_far_ahead_has_no_order_named_by_it() {
    let found = |time: UtcNanos| {
        let mut bench = Bench::new(1);
        let finding = Finding { time, ..bench.finding(1) };
        bench.report(1, Arrived::Finding(Box::new(finding), vec![]));
        (bench.order(1).unwrap().id.made_at(), bench.now().utc)
    };
    let far = UtcNanos::from_unix_nanos(8_836_000_000_000_000_000);
    let (made_at, now) = found(far);
    assert!(made_at <= now, "{made_at} is after {now}");
    // A little ahead is any clock; then it is the finding's own time, whenever it is decided.
    let soon = now.plus(Duration::from_secs(60));
    assert_eq!(found(soon).0.unix_millis(), soon.unix_millis());
}
