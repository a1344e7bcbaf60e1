//! The privileged helper as a process of its own: whom it obeys, what it keeps, what it tells.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own tools fail the test")]

mod contain_world;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::time::{Duration, Instant};

use contain_world::bench::{Bench, HUB_PORT, LEASE, assert_refused, echo, last};
use contain_world::{AGENT_USER, HUB};
use cordon_agent::contain::client::HelperClient;
use cordon_agent::contain::moment::Clocks;
use cordon_agent::contain::protocol::{Answer, Ask, Event, Refusal};
use cordon_model::action::Action;
use cordon_model::asset::{ClinicalTier, Direction, Lifeline, PortRange, Transport};
use cordon_model::event::RawEvent;
use cordon_model::finding::{Finding, Level, RuleRef};
use cordon_model::ids::{FindingId, MachineId, OdsCode, OrderId, PermitId};
use cordon_model::measure::{Isolation, MeasureState};
use cordon_model::order::{Authority, Instruction, Lease, Permit};
use cordon_model::policy::{Mode, Policy};
use cordon_model::signed::{Document, Envelope, Verified, seal};
use cordon_model::time::UtcNanos;
use cordon_respond::agent_core::{Act, AgentCore};
use ed25519_dalek::SigningKey;

#[test]
fn rules_that_are_wiped_are_put_back_and_each_wipe_is_told() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    bench.isolate(Isolation::Full);
    let mut agent = bench.connect();
    agent.ask(Ask::Listen);
    let mut took = Vec::new();
    for script in [
        "flush ruleset",
        "delete table inet cordon",
        "flush chain inet cordon input",
        "insert rule inet cordon output accept",
        "add table inet cordon { flags dormant; }",
    ] {
        bench.world.machine.nft(script);
        let wiped = agent.event(|event| matches!(event, Event::Wiped { .. }));
        let Event::Wiped { by, noticed, restored, .. } = wiped else { unreachable!() };
        // The kernel names who did it beside the change; a change that is found by looking has no name.
        assert!(by.1 == "nft" || by.1.is_empty(), "{script}: {by:?}");
        took.push(restored.unwrap().since(noticed));
        assert!(bench.is_cut_off(), "{script}");
    }
    eprintln!("put back after {took:?}");
    assert_eq!(bench.status().wiped, 5);
    assert_eq!(bench.status().in_force.unwrap().state, MeasureState::Verified);
}

#[test]
fn changes_to_other_tables_are_no_wipe() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    bench.isolate(Isolation::Full);
    bench.world.machine.nft("add table inet other");
    bench.world.machine.nft("delete table inet other");
    assert_eq!(bench.status().wiped, 0);
}

#[test]
fn a_killed_helper_leaves_the_rules_and_finds_its_lease_where_it_was() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let receipt = bench.isolate(Isolation::Full);
    bench.kill();
    assert!(bench.is_cut_off(), "the kernel holds them");
    bench.start();
    let held = bench.status().in_force.unwrap();
    assert_eq!(held.measure, receipt.measure);
    assert_eq!(held.state, MeasureState::Verified);
    assert_eq!(Some(held.lease_ends), receipt.lease_ends, "the lease is not extended");
    assert_eq!(bench.status().wiped, 0, "left alone, not put there again");
    // And if they went while nobody watched, they are back before the socket is.
    bench.kill();
    bench.world.machine.nft("flush ruleset");
    bench.start();
    assert!(bench.is_cut_off());
    assert_eq!(bench.status().in_force.unwrap().state, MeasureState::Verified);
}

#[test]
fn after_a_restart_of_the_machine_the_measure_is_in_force_and_no_longer_than_before() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let week = Lease { seconds: 7 * 24 * 3600, ..LEASE };
    let isolate = Instruction::isolate(Isolation::Full, week);
    let order = bench.order(isolate);
    let receipt = last(bench.give(&order));
    bench.kill();
    // A new boot has an empty ruleset, another id, and a time that starts at zero.
    bench.world.machine.nft("flush ruleset");
    bench.begin_boot("another");
    bench.start();
    assert!(bench.is_cut_off());
    let held = bench.status().in_force.unwrap();
    assert_eq!(held.state, MeasureState::Verified);
    assert!(Some(held.lease_ends) <= receipt.lease_ends);
}

#[test]
fn a_lease_that_ended_while_the_machine_was_restarted_steps_down_and_opens_nothing() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let lease = Lease { seconds: 1, ..LEASE };
    let order = bench.order(Instruction::isolate(Isolation::Full, lease));
    bench.give(&order);
    bench.kill();
    bench.world.machine.nft("flush ruleset");
    bench.begin_boot("another");
    bench.start();
    assert!(bench.is_cut_off());
    let mut agent = bench.connect();
    agent.ask(Ask::Listen);
    while bench.status().in_force.unwrap().isolation != Isolation::Segment {
        agent.event(|event| matches!(event, Event::Receipts(_)));
    }
    assert!(bench.is_cut_off());
}

#[test]
fn a_lease_warns_and_steps_down_to_segment_again_and_again() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let mut agent = bench.connect();
    agent.ask(Ask::Listen);
    let lease = Lease { seconds: 2, step_down_seconds: 1, warn_seconds: 1 };
    let order = bench.order(Instruction::isolate(Isolation::Full, lease));
    let envelope = bench.sealed(&order);
    let first = last(agent.ask(Ask::Order(envelope)));
    agent.event(|event| matches!(event, Event::LeaseEnds { .. }));
    let mut before = first.measure;
    for _ in 0..2 {
        let stepped = |event: &Event| match event {
            Event::Receipts(receipts) => receipts.receipts.iter().any(|receipt| {
                receipt.measure == before && receipt.state == MeasureState::SteppedDown
            }),
            _ => false,
        };
        let Event::Receipts(receipts) = agent.event(stepped) else { unreachable!() };
        let follows = receipts
            .receipts
            .iter()
            .find(|receipt| receipt.origin == cordon_model::measure::Origin::LeaseEnd(before))
            .unwrap();
        assert_eq!(follows.action, Action::Isolate(Isolation::Segment));
        assert_eq!(follows.state, MeasureState::Verified);
        assert!(bench.is_cut_off());
        before = follows.measure;
    }
}

#[test]
fn a_renewed_lease_goes_on_and_only_for_the_measure_in_force() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let receipt = bench.isolate(Isolation::Segment);
    let longer = Lease { seconds: 7200, ..LEASE };
    let order = bench.order(Instruction::Renew { measure: receipt.measure, lease: longer });
    assert!(last(bench.give(&order)).lease_ends > receipt.lease_ends);
    let other = OrderId::new(UtcNanos::now(), [99; 10]).into();
    let order = bench.order(Instruction::Renew { measure: other, lease: longer });
    assert_refused(&bench.give(&order), Refusal::NotObeyed, "no such measure");
}

#[test]
fn an_order_is_obeyed_once_and_a_replay_changes_nothing() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let isolate = bench.order(Instruction::isolate(Isolation::Full, LEASE));
    bench.give(&isolate);
    let held = bench.status().in_force;
    assert!(matches!(bench.give(&isolate), Answer::Obeyed(_)), "delivered twice is no error");
    assert_eq!(bench.status().in_force.map(|h| h.lease_ends), held.map(|h| h.lease_ends));
    let release = bench.order(Instruction::Release);
    bench.give(&release);
    bench.give(&isolate);
    assert!(!bench.is_cut_off(), "an old order replayed does not isolate again");
    let mut stale = bench.order(Instruction::isolate(Isolation::Full, LEASE));
    stale.sequence = release.sequence;
    assert_refused(&bench.give(&stale), Refusal::NotObeyed, "sequence");
    bench.kill();
    bench.start();
    assert_refused(&bench.give(&stale), Refusal::NotObeyed, "sequence");
    assert!(!bench.is_cut_off());
}

#[test]
fn orders_for_others_by_others_or_too_late_are_refused() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let isolate = Instruction::isolate(Isolation::Full, LEASE);
    let mut order = bench.order(isolate.clone());
    order.machine = MachineId::new(UtcNanos::now(), [2; 10]);
    assert_refused(&bench.give(&order), Refusal::NotObeyed, "another machine");
    let mut order = bench.order(isolate.clone());
    order.organisation = "RXX".parse().unwrap();
    assert_refused(&bench.give(&order), Refusal::NotObeyed, "another machine or organisation");
    let mut order = bench.order(isolate.clone());
    order.deliver_until = Some(UtcNanos::from_unix_nanos(1));
    assert_refused(&bench.give(&order), Refusal::NotObeyed, "delivered before");
    let order = bench.order(isolate.clone());
    let forged = seal(&order, &SigningKey::from_bytes(&[8; 32])).unwrap();
    assert_refused(&bench.ask(Ask::Order(forged)), Refusal::NotGenuine, "pinned key");
    let mut altered = bench.sealed(&order);
    altered.payload[20] ^= 1;
    assert_refused(&bench.ask(Ask::Order(altered)), Refusal::NotGenuine, "pinned key");
    // An assignment is no order, however genuine.
    let other = seal(&bench.assignment(9, None), &bench.key).unwrap();
    assert_refused(&bench.ask(Ask::Order(other)), Refusal::NotGenuine, "type");
    assert!(!bench.is_cut_off());
    assert_eq!(bench.status().last_order, 3, "only the one that was too late was for this machine");
}

#[test]
fn the_policy_alone_never_contains_a_clinical_machine() {
    for tier in [Some(ClinicalTier::Clinical), Some(ClinicalTier::LifeSustaining), None] {
        let Some(mut bench) = Bench::bare() else { return };
        bench.pin();
        bench.assign(1, tier);
        for isolation in [Isolation::Segment, Isolation::Full] {
            let mut order = bench.order(Instruction::isolate(isolation, LEASE));
            let finding = FindingId::of("rule", "host", &[1; 32]);
            order.authority = Authority::Policy { revision: 1, finding };
            assert_refused(&bench.give(&order), Refusal::NotObeyed, "needs people");
        }
        assert!(!bench.is_cut_off());
    }
}

#[test]
fn a_life_sustaining_machine_takes_two_people() {
    let Some(mut bench) = Bench::new(ClinicalTier::LifeSustaining) else { return };
    let isolate = Instruction::isolate(Isolation::Segment, LEASE);
    let order = bench.order(isolate);
    assert_refused(&bench.give(&order), Refusal::NotObeyed, "two people");
    assert!(!bench.is_cut_off());
}

#[test]
fn a_machine_without_an_assignment_is_not_cut() {
    let Some(mut bench) = Bench::bare() else { return };
    let order = bench.order(Instruction::Release);
    assert_refused(&bench.give(&order), Refusal::NotPinned, "not enrolled");
    bench.pin();
    let order = bench.order(Instruction::isolate(Isolation::Full, LEASE));
    assert_refused(&bench.give(&order), Refusal::NotObeyed, "no assignment");
    assert!(!bench.is_cut_off());
}

#[test]
fn a_permit_segments_once_and_only_for_what_is_serious_enough() {
    let Some(mut bench) = Bench::new(ClinicalTier::Supports) else { return };
    let permit = |number: u8, expires_in: i64| {
        let now = UtcNanos::now();
        let permit = Permit {
            id: PermitId::new(now, [number; 10]),
            organisation: "RJ1".parse().unwrap(),
            machine: bench.machine,
            level_at_least: Level::High,
            lease: LEASE,
            issued_at: now,
            expires_at: UtcNanos::from_unix_nanos(now.unix_nanos() + expires_in * 1_000_000_000),
        };
        seal(&permit, &bench.key).unwrap()
    };
    let finding = FindingId::of("rule", "host", &[1; 32]);
    let used = |permit: &Envelope, level| Ask::UsePermit { permit: permit.clone(), finding, level };
    let (good, old, other) = (permit(1, 600), permit(2, -1), permit(3, 600));
    assert_refused(&bench.ask(used(&good, Level::Medium)), Refusal::NotObeyed, "level");
    assert_refused(&bench.ask(used(&old, Level::High)), Refusal::NotObeyed, "time is over");
    let receipt = last(bench.ask(used(&good, Level::High)));
    assert_eq!(
        (receipt.action, receipt.state),
        (Action::Isolate(Isolation::Segment), MeasureState::Verified)
    );
    assert_refused(&bench.ask(used(&other, Level::High)), Refusal::NotObeyed, "already");
    bench.release();
    assert_refused(&bench.ask(used(&good, Level::Critical)), Refusal::Used, "used already");
    bench.kill();
    bench.start();
    assert_refused(&bench.ask(used(&good, Level::Critical)), Refusal::Used, "used already");
    assert!(!bench.is_cut_off());
    bench.assign(2, Some(ClinicalTier::Clinical));
    assert_refused(&bench.ask(used(&other, Level::Critical)), Refusal::NotObeyed, "needs people");
}

#[test]
fn a_permit_that_is_spent_is_not_offered_again_and_the_next_one_is() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let key = bench.key.clone();
    let (organisation, machine): (OdsCode, _) = ("RJ1".parse().unwrap(), bench.machine);
    let permit = |number: u8, good_for: u64| {
        let now = UtcNanos::now();
        let permit = Permit {
            id: PermitId::new(now, [number; 10]),
            organisation: organisation.clone(),
            machine,
            level_at_least: Level::High,
            lease: LEASE,
            issued_at: now,
            expires_at: now.plus(Duration::from_secs(good_for)),
        };
        verified(&permit, &key)
    };
    let clocks = Clocks::of_this_boot().unwrap();
    let mut core = AgentCore::new(organisation.clone(), machine);
    core.policy(verified(
        &Policy { mode: Mode::Act, ..Policy::default_for(organisation.clone()) },
        &key,
    ));
    core.assign(verified(&bench.assignment(1, Some(ClinicalTier::None)), &key));
    let first = permit(1, 600);
    assert!(core.permit(first.clone(), &clocks.now()));
    // What the mind wants of the helper, what that answers, and what the mind makes of it if it hears.
    let defends = |bench: &Bench, core: &mut AgentCore, is_heard: bool| {
        let Act::UsePermit { permit, finding, level } = core.found(&serious(), 1, &clocks.now())?;
        let answer =
            bench.ask(Ask::UsePermit { permit: permit.envelope().clone(), finding, level });
        if is_heard && answer.spends_permit() {
            core.used(permit.id);
        }
        Some(answer)
    };
    // The helper used it, and the agent died before it heard: it holds the permit still.
    let unheard = defends(&bench, &mut core, false).unwrap();
    assert!(matches!(unheard, Answer::Obeyed(_)), "{unheard:?}");
    let again = defends(&bench, &mut core, true).unwrap();
    assert_refused(&again, Refusal::Used, "used already");
    assert!(defends(&bench, &mut core, true).is_none(), "once told, it is not tried again");
    assert!(!core.permit(first, &clocks.now()), "nor when the hub sends it again");

    // What is refused for now is kept for the next finding.
    assert!(core.permit(permit(2, 900), &clocks.now()));
    let contained = defends(&bench, &mut core, true).unwrap();
    assert_refused(&contained, Refusal::NotObeyed, "isolated as far");
    bench.release();
    let now_used = defends(&bench, &mut core, true).unwrap();
    assert!(matches!(now_used, Answer::Obeyed(_)), "{now_used:?}");
    assert!(bench.is_cut_off());
    assert!(defends(&bench, &mut core, true).is_none());
}

fn verified<D: Document>(document: &D, key: &SigningKey) -> Verified<D> {
    seal(document, key).unwrap().open(&key.verifying_key()).unwrap()
}

fn serious() -> Finding {
    let rule = RuleRef { id: "r".into(), title: "r".into(), level: Level::High, tags: vec![] };
    Finding {
        id: FindingId::of("r", "host", &[0; 32]),
        rule,
        host: "host".into(),
        time: UtcNanos::now(),
        boot_time: None,
        process: None,
        matched: vec![],
        raw: RawEvent { json: "{}".into(), is_cut: false },
        raw_sha256: [0; 32],
    }
}

#[test]
fn what_is_done_without_people_has_a_brake_of_the_machines_own() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let finding = FindingId::of("rule", "host", &[1; 32]);
    let by_policy = |bench: &mut Bench| {
        let isolation = Isolation::Segment;
        let mut order = bench.order(Instruction::isolate(isolation, LEASE));
        order.authority = Authority::Policy { revision: 1, finding };
        bench.give(&order)
    };
    for _ in 0..5 {
        assert!(matches!(by_policy(&mut bench), Answer::Obeyed(_)));
    }
    assert_refused(&by_policy(&mut bench), Refusal::NotObeyed, "brake");
    bench.kill();
    bench.start();
    assert_refused(&by_policy(&mut bench), Refusal::NotObeyed, "brake");
    assert_eq!(bench.isolate(Isolation::Full).state, MeasureState::Verified, "people still can");
}

#[test]
fn the_policy_alone_never_weakens_a_measure() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    bench.isolate(Isolation::Full);
    for isolation in [Isolation::Watch, Isolation::Segment] {
        let mut order = bench.order(Instruction::isolate(isolation, LEASE));
        let finding = FindingId::of("rule", "host", &[1; 32]);
        order.authority = Authority::Policy { revision: 1, finding };
        assert_refused(&bench.give(&order), Refusal::NotObeyed, "isolated as far");
    }
    assert_eq!(bench.status().in_force.unwrap().isolation, Isolation::Full);
    assert_eq!(bench.isolate(Isolation::Segment).state, MeasureState::Verified, "people may");
}

#[test]
fn a_machine_is_not_re_homed_by_a_message() {
    let Some(bench) = Bench::new(ClinicalTier::None) else { return };
    assert!(matches!(bench.ask(Ask::Pin(bench.its_pin())), Answer::Obeyed(_)), "the same again");
    let mut other = bench.its_pin();
    other.command_key = SigningKey::from_bytes(&[8; 32]).verifying_key().to_bytes();
    assert_refused(&bench.ask(Ask::Pin(other)), Refusal::PinnedElsewhere, "enrolled already");
    let pin = std::fs::metadata(bench.folder.path().join("state/pin.cbor")).unwrap();
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    assert_eq!((pin.uid(), pin.permissions().mode() & 0o777), (0, 0o600));
}

#[test]
fn receipts_wait_on_disk_until_the_agent_has_them() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    bench.isolate(Isolation::Segment);
    bench.kill();
    bench.start();
    let waiting = |bench: &Bench| match bench.ask(Ask::Reported { before: 0 }) {
        Answer::Obeyed(receipts) => receipts,
        other => panic!("{other:?}"),
    };
    let receipts = waiting(&bench);
    assert_eq!(receipts.receipts[0].state, MeasureState::Verified);
    let before = receipts.first + receipts.receipts.len() as u64;
    bench.ask(Ask::Reported { before });
    assert_eq!(waiting(&bench).receipts, Vec::new());
    assert_eq!(waiting(&bench).first, before);
}

#[test]
fn the_agents_end_asks_hears_and_notices_that_the_helper_is_gone() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let order = bench.order(Instruction::isolate(Isolation::Full, LEASE));
    let order = Ask::Order(bench.sealed(&order));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let socket = bench.folder.path().join("helper.sock");
        let (client, mut events) = HelperClient::connect(&socket).await.unwrap();
        let both = tokio::join!(client.ask(Ask::Status), client.ask(order));
        assert!(matches!(both, (Ok(Answer::Status(_)), Ok(Answer::Obeyed(_)))), "{both:?}");
        bench.world.machine.nft("flush ruleset");
        while !matches!(events.recv().await, Some(Event::Wiped { .. })) {}
        bench.kill();
        while events.recv().await.is_some() {}
        assert!(client.ask(Ask::Status).await.is_err());
    });
}

#[test]
fn strangers_and_nonsense_are_hung_up_on_and_the_helper_goes_on() {
    let Some(bench) = Bench::new(ClinicalTier::None) else { return };
    let socket = bench.folder.path().join("helper.sock");
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let meta = std::fs::metadata(&socket).unwrap();
    assert_eq!((meta.uid(), meta.permissions().mode() & 0o777), (AGENT_USER, 0o600));
    for nonsense in [&[0xff; 64][..], &[0, 0, 0, 3, 1, 2, 3][..], &[0, 0, 0, 0][..]] {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(nonsense).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty());
    }
    // Another user, who got past the socket's mode somehow, is known by the kernel's word.
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666)).unwrap();
    std::fs::set_permissions(bench.folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let stranger = std::process::Command::new("perl")
        .args(["-MIO::Socket::UNIX", "-e"])
        .arg("$s = IO::Socket::UNIX->new($ARGV[0]) or die; print defined(<$s>) ? 'heard' : 'hung up'")
        .arg(&socket)
        .uid(12345)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&stranger.stdout), "hung up");
    assert_eq!(bench.status().last_order, 0);
}

/// Orders full and release so many times, and gives for each the time to the read-back and to the
/// receipt.
fn measure(bench: &mut Bench, times: usize) -> Vec<[Duration; 2]> {
    let mut agent = bench.connect();
    (0..times)
        .map(|_| {
            let isolate = Instruction::isolate(Isolation::Full, LEASE);
            let order = bench.order(isolate);
            let envelope = bench.sealed(&order);
            let (boot, start) = (cordon_agent::contain::moment::boot_time(), Instant::now());
            let receipt = last(agent.ask(Ask::Order(envelope)));
            let answered = start.elapsed();
            assert_eq!(receipt.state, MeasureState::Verified, "{receipt:?}");
            let order = bench.order(Instruction::Release);
            let envelope = bench.sealed(&order);
            agent.ask(Ask::Order(envelope));
            agent.ask(Ask::Reported { before: u64::MAX });
            [receipt.proof.unwrap().at.since(boot), answered]
        })
        .collect()
}

fn print_times(of: &str, times: &[[Duration; 2]]) {
    for (index, what) in ["order to read back", "order to receipt"].into_iter().enumerate() {
        let mut times: Vec<Duration> = times.iter().map(|pair| pair[index]).collect();
        times.sort();
        let n = times.len();
        let [p50, p99, max] = [n / 2, n * 99 / 100, n - 1].map(|at| times[at]);
        eprintln!("{of}: {what}: n {n}, p50 {p50:?}, p99 {p99:?}, max {max:?}");
    }
}

/// Not a judgement: prints how long it takes from the order's first byte to the read-back, and to the
/// receipt; alone, with many lifelines, and on twenty machines at once.
#[test]
#[ignore = "a measurement: cargo test --release --test contain_helper -- --ignored --nocapture"]
fn how_long_from_order_to_verified() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    echo(&bench.world, HUB, HUB_PORT);
    print_times("alone", &measure(&mut bench, 100));
    let kinds = [
        ("with 200 lifelines of one port", PortRange::one(11112)),
        ("with 200 lifelines of seven ports", PortRange { first: 104, last: 110 }),
        ("with 200 lifelines of a thousand ports", PortRange { first: 50_000, last: 50_999 }),
    ];
    for (revision, (what, ports)) in (2..).zip(kinds) {
        let mut assignment = bench.assignment(revision, Some(ClinicalTier::None));
        assignment.lifelines.extend((0..200u32).map(|index| Lifeline {
            name: format!("modality {index}"),
            peer: format!("10.{}.{}.0/24", 80 + index / 100, index % 100).parse().unwrap(),
            transport: Transport::Tcp,
            ports,
            direction: if index % 2 == 0 { Direction::Outbound } else { Direction::Inbound },
            signed_off_by: None,
        }));
        bench.reassign(&assignment);
        print_times(what, &measure(&mut bench, 100));
    }
    let helper = bench.helper.as_ref().unwrap().id();
    let status = std::fs::read_to_string(format!("/proc/{helper}/status")).unwrap();
    for line in status.lines().filter(|line| line.starts_with("VmRSS") || line.starts_with("VmHWM"))
    {
        eprintln!("helper {line}");
    }
    drop(bench);
    let benches: Vec<Bench> = (0..20).filter_map(|_| Bench::new(ClinicalTier::None)).collect();
    benches.iter().for_each(|bench| echo(&bench.world, HUB, HUB_PORT));
    let threads: Vec<_> = benches
        .into_iter()
        .map(|mut bench| std::thread::spawn(move || measure(&mut bench, 20)))
        .collect();
    let times: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    print_times("20 machines at once", &times);
}
