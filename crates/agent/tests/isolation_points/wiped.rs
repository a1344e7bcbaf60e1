//! Point 6: watched by kernel notification; put back at once when wiped; each wipe is a finding.
//!
//! Answers Defender for Endpoint on Linux, whose isolation any administrator's change to iptables lifts,
//! and whatever else flushes foreign rules. Time to put back is printed, and judges nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cordon_agent::contain::protocol::{Answer, Ask, Event};
use cordon_agent::contain::table::Tables;
use cordon_model::action::{Action, Blocked, BlockedPeer};
use cordon_model::asset::ClinicalTier;
use cordon_model::measure::{Isolation, MeasureState};
use cordon_model::order::Instruction;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::contain_world::bench::{Bench, LEASE};
use crate::contain_world::flow::Flood;
use crate::contain_world::traced::{POLL, Ran, Traced};
use crate::contain_world::wiretap::Wiretap;
use crate::contain_world::{PEER, PEER6, until};

fn everywhere(port: u16) -> Vec<SocketAddr> {
    [PEER, PEER6].map(|peer| SocketAddr::new(peer.parse().unwrap(), port)).to_vec()
}

/// A program sends without pause while others wipe the rules, in each way that there is: once a wipe is
/// put right, not one of its packets comes out.
#[test]
fn point_6_what_is_wiped_is_put_back_and_then_not_one_packet_leaves() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let mut tap = Wiretap::on(&bench.world);
    let flood = Flood::from(&bench.world.machine, everywhere(9));
    tap.await_frames(10, |frame| frame.at_port(9).is_some());
    bench.isolate(Isolation::Full);
    let mut agent = bench.connect();
    agent.ask(Ask::Listen);
    let mut took = Vec::new();
    for script in [
        "flush ruleset",
        "delete table inet cordon",
        "flush table inet cordon",
        "flush chain inet cordon output",
        "insert rule inet cordon output accept",
        "insert rule inet cordon input accept",
        "add chain inet cordon output { policy drop; }",
        "add table inet cordon { flags dormant; }",
        "delete table inet cordon; add table inet cordon",
    ] {
        bench.world.machine.nft(script);
        let wiped = agent.event(|event| matches!(event, Event::Wiped { .. }));
        let Event::Wiped { by, noticed, restored, .. } = wiped else { unreachable!() };
        assert!(by.1 == "nft" || by.1.is_empty(), "{script}: {by:?}");
        took.push(restored.expect(script).since(noticed));
        // Whatever was let out until now is history; from here on it is judged.
        tap.settle();
        flood.is_refused(200);
        assert_eq!(tap.settle_traffic(), [], "{script}");
    }
    took.sort();
    eprintln!("put back after {took:?}");
    assert_eq!(bench.status().wiped, 9);
    assert_eq!(bench.status().in_force.unwrap().state, MeasureState::Verified);
}

/// What is between the notice and the rules, call by call: one question and one transaction for each table, and
/// nothing that waits. Connections are cut, and it is tried, told and written down, when both tables are back.
#[test]
fn point_6_what_is_wiped_is_put_back_before_anything_else_is_done() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    bench.isolate(Isolation::Full);
    let peer = BlockedPeer::Network(format!("{PEER}/32").parse().unwrap());
    let blocked = Blocked { peer, transport: None, ports: None, direction: None };
    let order = bench.order(Instruction::begin(Action::Block(blocked), LEASE));
    assert!(matches!(bench.give(&order), Answer::Obeyed(_)));
    let mut agent = bench.connect();
    agent.ask(Ask::Listen);
    let meant = bench.world.machine.ruleset();
    let mut traced = Traced::seize(bench.helper.take().unwrap());
    bench.world.machine.nft("flush ruleset");
    let mut calls = Vec::new();
    while bench.world.machine.ruleset() != meant {
        assert_eq!(traced.run_to(1, || true, |_| {}), Ran::ToTheCall, "it sleeps: {calls:?}");
        calls.push(traced.call());
    }
    // Its memory and its clock are its own; and it was waiting when it was stopped.
    let own = [
        libc::SYS_brk,
        libc::SYS_mmap,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_madvise,
        libc::SYS_clock_gettime,
        libc::SYS_restart_syscall,
    ];
    calls.retain(|call| !own.contains(call) && !POLL.contains(call));
    // Where it stands now has not been done yet.
    let last = calls.pop();
    let is_netlink = |call: &i64| [libc::SYS_sendto, libc::SYS_recvfrom].contains(call);
    assert!(calls.iter().all(is_netlink), "{calls:?}, then {last:?}");
    let said = calls.iter().filter(|call| **call == libc::SYS_sendto).count();
    assert_eq!(said, 4, "{calls:?}: whether each is there, and each as a whole");
    traced.run_to(usize::MAX, || true, |_| {});
    drop(traced);
    for _ in 0..2 {
        agent.event(|event| matches!(event, Event::Wiped { restored: Some(_), .. }));
    }
}

/// Somebody wipes the rules again just as they are put back: at each system call of putting them back in
/// turn. The helper does not rest before they are there.
#[test]
fn point_6_a_wipe_while_a_wipe_is_being_put_right_is_put_right_too() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    bench.isolate(Isolation::Full);
    let mut agent = bench.connect();
    agent.ask(Ask::Listen);
    let mut traced = Traced::seize(bench.helper.take().unwrap());
    let mut late = Vec::new();
    for call in 1.. {
        bench.world.machine.nft("flush ruleset");
        let ran = traced.run_to(call, || true, |_| {});
        if let Ran::ToTheEnd { calls } = ran {
            eprintln!("wiped again at each of {calls} system calls; late at {late:?}");
            break;
        }
        bench.world.machine.nft("flush ruleset");
        traced.run_to(usize::MAX, || true, |_| {});
        if !bench.is_cut_off() {
            late.push(call);
            // It has given itself a second; so that the next round begins as this one did.
            traced.run_to(usize::MAX, || bench.is_cut_off(), |_| {});
        }
    }
    assert!(late.is_empty(), "the helper rested while the machine was open");
}

/// Rules are wiped thousands of times a second from before the order comes until after it was obeyed.
/// When that is over, the machine is isolated, and every screen can say so.
#[test]
fn point_6_a_storm_of_wipes_neither_keeps_an_isolation_out_nor_outlives_it() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let mut tap = Wiretap::on(&bench.world);
    let is_over = Arc::new(AtomicBool::new(false));
    let ends = Arc::clone(&is_over);
    let storm = bench.world.machine.spawn(move || {
        let mut tables = Tables::open().unwrap();
        let mut wipes = 0u32;
        while !ends.load(Ordering::Relaxed) {
            tables.remove().unwrap();
            wipes += 1;
        }
        wipes
    });
    bench.isolate(Isolation::Full);
    until(|| bench.status().wiped >= 20);
    is_over.store(true, Ordering::Relaxed);
    let wipes = storm.join().unwrap();
    // It may still have to put right what was wiped last.
    until(|| bench.status().in_force.unwrap().state == MeasureState::Verified);
    eprintln!("{wipes} wipes; put back {} times", bench.status().wiped);
    assert!(bench.is_cut_off());
    tap.settle();
    let flood = Flood::from(&bench.world.machine, everywhere(9));
    flood.is_refused(200);
    assert_eq!(tap.settle_traffic(), []);
}

/// Others change rules of their own just before and just after a wipe, and all of it is heard of at once: the
/// finding names who wiped.
#[test]
fn point_6_a_wipe_is_told_with_who_wiped_and_not_with_who_changed_something_else() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    bench.isolate(Isolation::Full);
    let mut agent = bench.connect();
    agent.ask(Ask::Listen);
    let helper = Pid::from_raw(bench.helper.as_ref().unwrap().id().try_into().unwrap());
    kill(helper, Signal::SIGSTOP).unwrap();
    let changes = |script: &str| {
        let mut nft = bench.world.machine.command("nft").arg(script).spawn().unwrap();
        assert!(nft.wait().unwrap().success(), "{script}");
        nft.id()
    };
    changes("add table inet foreign");
    let wiped_by = changes("delete table inet cordon");
    changes("delete table inet foreign");
    kill(helper, Signal::SIGCONT).unwrap();
    let wiped = agent.event(|event| matches!(event, Event::Wiped { .. }));
    let Event::Wiped { by, restored, .. } = wiped else { unreachable!() };
    assert_eq!(by, (wiped_by, "nft".to_owned()));
    assert!(restored.is_some() && bench.is_cut_off());
}
