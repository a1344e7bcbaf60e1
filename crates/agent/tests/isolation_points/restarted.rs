//! Point 5: in force again after a crash, `kill -9`, an upgrade, a jump of the clock.
//!
//! Answers Velociraptor on Linux, whose isolation is lost at a restart. That the rules are in force before
//! the network is, after a restart of a whole machine: `../foes/boot.rs`.

use std::net::SocketAddr;

use cordon_model::asset::ClinicalTier;
use cordon_model::measure::{Isolation, MeasureState};

use crate::contain_world::bench::{Bench, HUB_PORT, dial, echo};
use crate::contain_world::flow::Flood;
use crate::contain_world::wiretap::Wiretap;
use crate::contain_world::{PEER, PEER6, address, until};

/// The machine's running time jumps: by a week back, as a restart does, and by a day ahead, as sleep
/// does. The isolation stands; its lease ends no earlier than it would have, and after a day it ends.
#[test]
fn point_5_a_jump_of_the_clock_opens_nothing() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    echo(&bench.world, PEER, 445);
    let starts_at = |bench: &mut Bench, offset: &str| {
        bench.kill();
        // A time namespace of its own: a real kernel's clock, moved.
        let plain = bench.command();
        let mut command = std::process::Command::new("unshare");
        command.args(["--time", "--fork", "--kill-child", "--boottime", offset, "--"]);
        command.arg(plain.get_program()).args(plain.get_args());
        command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        bench.helper = Some(command.stdout(std::process::Stdio::null()).spawn().unwrap());
        let _ = bench.connect();
    };
    // Of another boot than this machine's: whoever moves the running clock moves the time that is known, too.
    bench.boot = Some("first");
    starts_at(&mut bench, "604800");
    let receipt = bench.isolate(Isolation::Full);
    assert_eq!(receipt.state, MeasureState::Verified);
    let week_ahead = receipt.at_boot;
    // Another boot, a week "earlier".
    bench.boot = Some("another");
    starts_at(&mut bench, "0");
    let held = bench.status().in_force.unwrap();
    assert_eq!((held.isolation, held.state), (Isolation::Full, MeasureState::Verified));
    assert!(held.lease_ends < week_ahead, "counted in this boot's time");
    assert!(dial(&bench.world, PEER, 445).is_err());
    // The same boot, a day later.
    starts_at(&mut bench, "86400");
    until(|| bench.status().in_force.unwrap().isolation != Isolation::Full);
    assert!(dial(&bench.world, PEER, 445).is_err(), "it stepped down, and opened nothing");
}

/// An upgrade: the helper is killed and another started, again and again, while a program tries to send
/// without pause. The rules are never touched, and not one datagram leaves.
#[test]
fn point_5_kill_and_upgrade_leave_no_gap() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    bench.isolate(Isolation::Full);
    let mut tap = Wiretap::on(&bench.world);
    let everywhere = [PEER, PEER6].map(|peer| SocketAddr::new(address(peer), 9)).to_vec();
    let flood = Flood::from(&bench.world.machine, everywhere);
    for _ in 0..5 {
        flood.is_refused(50);
        bench.kill();
        flood.is_refused(50);
        bench.start();
    }
    // Each helper that starts tries the hub's link.
    let leaked: Vec<_> = tap
        .settle_traffic()
        .into_iter()
        .filter(|frame| frame.at_port(HUB_PORT).is_none())
        .collect();
    assert_eq!(leaked, []);
    assert_eq!(bench.status().wiped, 0);
}
