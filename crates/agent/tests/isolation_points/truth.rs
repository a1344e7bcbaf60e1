//! Point 7: what is said of an isolation is the weakest truth: requested → delivered → applied →
//! **verified** → released, each with a receipt; verified means read back, what must work works, and what
//! must fail fails.
//!
//! Answers Elastic (kibana #138151: "isolating" for ever; #104375: success shown as failure), Wazuh
//! (#11842, #13952: failures that nobody is told of) and Velociraptor (a failed self-test opens
//! everything).

use std::net::SocketAddr;

use cordon_agent::contain::protocol::{Answer, Ask};
use cordon_model::asset::ClinicalTier;
use cordon_model::measure::{Isolation, MeasureState, Probe};
use cordon_model::order::Instruction;
use cordon_model::signed::seal;

use crate::contain_world::bench::{Bench, HUB_PORT, LEASE, dial, echo};
use crate::contain_world::{HUB, MACHINE, MACHINE6, PEER, until};

/// Every word of a receipt is what packets show.
#[test]
fn point_7_verified_is_said_when_packets_show_it_and_released_when_they_pass_again() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    echo(&bench.world, HUB, HUB_PORT);
    echo(&bench.world, PEER, 8080);
    let receipt = bench.isolate(Isolation::Full);
    assert_eq!(receipt.state, MeasureState::Verified);
    let proof = receipt.proof.unwrap();
    assert!(proof.is_read_back && proof.table_handle.is_some());
    let outcome = |words: &str| {
        let probe = proof.probes.iter().find(|probe| probe.tried.contains(words)).expect(words);
        (probe.should_pass, probe.did_pass)
    };
    assert_eq!(outcome("10.77.0.4:9 outbound"), (false, Some(false)), "what must fail fails");
    assert_eq!(outcome("fd77::4]:9 outbound"), (false, Some(false)));
    assert_eq!(outcome("127.0.0.1 on loopback"), (true, Some(true)), "what must work works");
    assert_eq!(outcome("as the agent's user"), (true, Some(true)));
    assert!(!proof.unproven.is_empty(), "and what can't be tried from here is said");
    assert!(dial(&bench.world, PEER, 8080).is_err());
    let released = bench.release();
    assert_eq!(released.state, MeasureState::Released);
    assert_eq!(released.proof.unwrap().table_handle, None);
    assert!(dial(&bench.world, PEER, 8080).is_ok());
    // Each change of state waits as a receipt, in order, until the agent has it on disk.
    let Answer::Obeyed(receipts) = bench.ask(Ask::Reported { before: 0 }) else { panic!() };
    let states: Vec<_> = receipts
        .receipts
        .iter()
        .filter(|receipt| receipt.measure == released.measure)
        .map(|receipt| receipt.state.clone())
        .collect();
    assert_eq!(states, [MeasureState::Verified, MeasureState::Released]);
}

/// Somebody's rule cuts loopback: what must work does not. That is said, and opens nothing; when it is
/// over, that is said too.
#[test]
fn point_7_a_probe_that_fails_is_said_and_opens_nothing() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    bench.world.machine.nft(
        "table inet somebody {
           chain o { type filter hook output priority 10; oif lo drop; }
         }",
    );
    // Somebody listens: what is refused below is refused by the rules.
    echo(&bench.world, PEER, 8080);
    assert!(dial(&bench.world, PEER, 8080).is_ok(), "before");
    let receipt = bench.isolate(Isolation::Full);
    let MeasureState::Unproven { why } = &receipt.state else { panic!("{receipt:?}") };
    assert!(why.contains("127.0.0.1 on loopback did not get through"), "{why}");
    assert!(bench.is_cut_off() && dial(&bench.world, PEER, 8080).is_err(), "it stays in force");
    bench.world.machine.nft("delete table inet somebody");
    let again = bench.isolate(Isolation::Full);
    assert_eq!(again.state, MeasureState::Verified);
    assert!(dial(&bench.world, PEER, 8080).is_err(), "and still");
    bench.release();
    assert!(dial(&bench.world, PEER, 8080).is_ok(), "it was the isolation");
}

/// The hub's own machine: what it sends to the hub's address is what it says to itself, and passes. That is no
/// reason to call it unproven, for ever.
#[test]
fn point_7_a_machine_that_is_its_own_hub_is_proven_by_other_addresses() {
    let Some(mut bench) = Bench::bare() else { return };
    bench.pin();
    let mut assignment = bench.assignment(1, Some(ClinicalTier::None));
    let own = [MACHINE, MACHINE6].map(|own| SocketAddr::new(own.parse().unwrap(), HUB_PORT));
    assignment.hub = own.to_vec();
    let sealed = seal(&assignment, &bench.key).unwrap();
    let answer = bench.ask(Ask::Assignment(sealed));
    assert!(matches!(answer, Answer::Obeyed(_)), "{answer:?}");
    for isolation in [Isolation::Segment, Isolation::Full] {
        let receipt = bench.isolate(isolation);
        assert_eq!(receipt.state, MeasureState::Verified, "{receipt:?}");
        let probes = receipt.proof.unwrap().probes;
        let is_outbound = |probe: &&Probe| probe.tried.starts_with("udp");
        assert!(probes.iter().filter(is_outbound).all(|probe| !probe.tried.contains(MACHINE)));
    }
}

/// The kernel refuses: somebody holds a table of Cordon's name as its owner. Nothing is called done; the
/// reason is in the receipt; and as soon as the kernel lets it, it is done, without a new order.
#[test]
fn point_7_what_the_kernel_refuses_is_never_called_done_and_is_done_when_it_can_be() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    // The table lives as long as the socket of whoever made it.
    let mut owner = bench
        .world
        .machine
        .command("nft")
        .arg("-i")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    use std::io::Write as _;
    let mut orders = owner.stdin.take().unwrap();
    orders.write_all(b"add table inet cordon { flags owner; }\n").unwrap();
    until(|| bench.world.machine.ruleset().contains("cordon"));
    let order = bench.order(Instruction::isolate(Isolation::Full, LEASE));
    let Answer::Obeyed(receipts) = bench.give(&order) else { panic!() };
    let receipt = receipts.receipts.last().unwrap();
    let MeasureState::Unproven { why } = &receipt.state else { panic!("{receipt:?}") };
    assert!(why.contains("the kernel refused"), "{why}");
    echo(&bench.world, PEER, 8080);
    assert!(dial(&bench.world, PEER, 8080).is_ok(), "and indeed nothing is cut");
    owner.kill().unwrap();
    owner.wait().unwrap();
    until(|| bench.status().in_force.is_some_and(|held| held.state == MeasureState::Verified));
    assert!(dial(&bench.world, PEER, 8080).is_err());
    let Answer::Obeyed(receipts) = bench.ask(Ask::Reported { before: 0 }) else { panic!() };
    assert_eq!(receipts.receipts.last().unwrap().state, MeasureState::Verified, "and that is told");
}
