//! A restart of the whole machine: its memory is gone, its disk is not. The helper is started as its unit
//! starts it, the network waits until it says that it is ready, and no packet passes before or after.
//!
//! The same in a virtual machine that really restarts: `tests/tests/reboot.rs`, by hand.

use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use cordon_model::asset::ClinicalTier;
use cordon_model::measure::{Isolation, MeasureState};

use crate::contain_world::bench::{Bench, HUB_PORT, dial, echo};
use crate::contain_world::flow::Flood;
use crate::contain_world::wiretap::{Frame, Wiretap};
use crate::contain_world::{PEER, PEER6, address, until};

/// What leaves a machine that has just been switched on, once its network is there: the worm's datagrams,
/// and whatever else is neither housekeeping nor the helper's own try of the hub's link.
fn leaked(tap: &mut Wiretap) -> Vec<Frame> {
    let mut frames = tap.settle_traffic();
    frames.retain(|frame| frame.at_port(HUB_PORT).is_none());
    frames
}

/// Switches `bench` off and on, with a worm that is there before everything else. `then` starts what comes
/// before the network; the network follows, and the frames that left the machine are given.
fn restarted(bench: &mut Bench, then: impl FnOnce(&mut Bench)) -> Vec<Frame> {
    bench.kill();
    bench.world.restart();
    bench.begin_boot("the next");
    let everywhere = [PEER, PEER6].map(|peer| SocketAddr::new(address(peer), 137)).to_vec();
    let worm = Flood::from(&bench.world.machine, everywhere);
    let mut tap = Wiretap::on(&bench.world);
    then(bench);
    assert_eq!(tap.settle(), [], "no network yet");
    bench.world.plug();
    // Until the worm has tried over a network that is there: it is let through, or refused by rules.
    let is_up = || {
        dial(&bench.world, PEER, 7)
            .is_err_and(|e| e.kind() != std::io::ErrorKind::NetworkUnreachable)
    };
    until(is_up);
    let (sent, refused) = worm.counts();
    until(|| worm.counts().0 + worm.counts().1 >= sent + refused + 400);
    leaked(&mut tap)
}

/// What starts the helper, on a clock that began just now, as a machine's running time does when it starts.
fn just_booted(bench: &Bench) -> Command {
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
    let seconds: u64 = uptime.split('.').next().unwrap().parse().unwrap();
    let plain = bench.command();
    let mut command = Command::new("unshare");
    command.args(["--time", "--fork", "--kill-child", "--boottime", &format!("-{seconds}"), "--"]);
    command.arg(plain.get_program()).args(plain.get_args());
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.stdout(Stdio::null());
    command
}

/// Answers Velociraptor on Linux: "lost at reboot".
#[test]
fn it_is_not_lost_at_reboot_and_no_packet_passes_before_it_is_in_force() {
    for isolation in [Isolation::Full, Isolation::Segment] {
        let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
        assert_eq!(bench.isolate(isolation).state, MeasureState::Verified);
        let frames = restarted(&mut bench, |bench| {
            let notify = bench.folder.path().join("notify");
            let manager = UnixDatagram::bind(&notify).unwrap();
            bench.helper = Some(just_booted(bench).env("NOTIFY_SOCKET", &notify).spawn().unwrap());
            let mut word = [0; 16];
            let length = manager.recv(&mut word).unwrap();
            assert_eq!(&word[..length], b"READY=1");
            assert!(bench.is_cut_off(), "ready means in force");
        });
        let worms = frames.iter().filter(|frame| frame.at_port(137).is_some()).count();
        assert_eq!(worms, 0, "{isolation}");
        if isolation == Isolation::Full {
            assert_eq!(frames, []);
        }
        assert_eq!(bench.status().in_force.unwrap().isolation, isolation);
        // With the network, what could not be tried before it can be.
        echo(&bench.world, PEER, 8080);
        assert_eq!(dial(&bench.world, PEER, 8080).is_ok(), isolation == Isolation::Segment);
        bench.release();
        echo(&bench.world, PEER, 445);
        assert!(dial(&bench.world, PEER, 445).is_ok());
    }
}

/// Without the helper before the network, the same worm gets out: the test above can fail.
#[test]
fn a_network_that_does_not_wait_lets_the_worm_out() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    bench.isolate(Isolation::Full);
    let frames = restarted(&mut bench, |_| {});
    assert!(frames.iter().any(|frame| frame.at_port(137).is_some()));
}

/// At boot something may fail that works a moment later (loopback itself, on a slow machine). What could not
/// be shown then is shown later, without a new order.
#[test]
fn what_could_not_be_proven_at_first_is_proven_later() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    bench.world.machine.nft(
        "table inet somebody {
           chain o { type filter hook output priority 10; oif lo drop; }
         }",
    );
    assert!(bench.isolate(Isolation::Full).state.is_unproven());
    bench.world.machine.nft("delete table inet somebody");
    until(|| bench.status().in_force.unwrap().state == MeasureState::Verified);
}
