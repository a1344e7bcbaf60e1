//! A machine that reaches its hub through a tunnel, isolated in full.
//!
//! Microsoft Defender for Endpoint loses hosts behind a full VPN when it isolates them. What carries a tunnel
//! is not the agent's: here the kernel itself sends it (VXLAN over UDP), as it does for WireGuard, and no
//! process of the machine has a socket for it.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own tools fail the test")]

mod contain_world;

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use contain_world::bench::{Bench, HUB_PORT, dial, dial_as, echo, lives};
use contain_world::flow::{comes_back, echo_datagrams};
use contain_world::{AGENT_USER, MACHINE, Namespace, PEER};
use cordon_agent::contain::way;
use cordon_model::asset::{Assignment, ClinicalTier, Direction, Lifeline, PortRange, Transport};
use cordon_model::measure::{Isolation, MeasureState};
use cordon_model::wire::Coverage;

/// The hub, and a stranger, behind the tunnel.
const HUB_BEHIND: &str = "10.99.0.4";
const STRANGER_BEHIND: &str = "10.99.0.9";
const MACHINE_BEHIND: &str = "10.99.0.1";
/// VXLAN's port (RFC 7348).
const TUNNEL_PORT: u16 = 4789;
const NO_LIFELINE: &str = "no lifeline";

/// A tunnel from the machine to its peer. `false` where the kernel has none to make.
fn dig(bench: &Bench) -> bool {
    let (port, world) = (TUNNEL_PORT.to_string(), &bench.world);
    let ends = [(&world.machine, MACHINE, PEER), (&world.peer, PEER, MACHINE)];
    for (namespace, here, there) in ends {
        let kind = ["link", "add", "vx7", "type", "vxlan", "id", "7", "dstport", &port];
        let made =
            namespace.command("ip").args(kind).args(["local", here, "remote", there]).output();
        let made = made.unwrap();
        if !made.status.success() {
            let why = String::from_utf8_lossy(&made.stderr);
            cordon_tests::cannot_be_had(&format!("the kernel makes no VXLAN device: {why}"));
            return false;
        }
    }
    let addressed = |namespace: &Namespace, addresses: &[&str]| {
        for address in addresses {
            namespace.run("ip", &["addr", "add", &format!("{address}/24"), "dev", "vx7"]);
        }
        namespace.run("ip", &["link", "set", "vx7", "up"]);
    };
    addressed(&world.machine, &[MACHINE_BEHIND]);
    addressed(&world.peer, &[HUB_BEHIND, STRANGER_BEHIND]);
    true
}

/// A machine whose hub is behind the tunnel.
fn behind_a_tunnel() -> Option<Bench> {
    let bench = Bench::bare()?;
    bench.pin();
    if !dig(&bench) {
        return None;
    }
    bench.reassign(&assignment(&bench, 1));
    echo(&bench.world, HUB_BEHIND, HUB_PORT);
    echo(&bench.world, STRANGER_BEHIND, 8080);
    Some(bench)
}

fn assignment(bench: &Bench, revision: u64) -> Assignment {
    let hub = vec![SocketAddr::new(HUB_BEHIND.parse().unwrap(), HUB_PORT)];
    Assignment { hub, ..bench.assignment(revision, Some(ClinicalTier::None)) }
}

fn to_gateway(port: u16) -> [Lifeline; 2] {
    [Direction::Outbound, Direction::Inbound].map(|direction| Lifeline {
        name: "tunnel vx7".into(),
        peer: format!("{PEER}/32").parse().unwrap(),
        transport: Transport::Udp,
        ports: PortRange::one(port),
        direction,
        signed_off_by: None,
    })
}

fn told(bench: &Bench, assignment: &Assignment) -> Option<Coverage> {
    let assignment = assignment.clone();
    bench.world.machine.inside(move || way::told(&assignment, None))
}

#[test]
fn a_machine_whose_hub_is_behind_a_tunnel_says_so_before_it_is_isolated() {
    let Some(bench) = behind_a_tunnel() else { return };
    let mut assignment = assignment(&bench, 2);
    let before = told(&bench, &assignment).unwrap();
    assert!(before.loses_the_hub(), "{before:?}");
    let gap = before.gap.unwrap();
    assert!(gap.contains("through tunnel vx7 (vxlan)") && gap.contains(NO_LIFELINE), "{gap}");
    assert!(gap.contains(&format!("{PEER}:{TUNNEL_PORT}")), "{gap}");
    // The lifelines to its gateway make it good; those to another port do not.
    assignment.lifelines.extend(to_gateway(TUNNEL_PORT + 1));
    assert!(told(&bench, &assignment).unwrap().loses_the_hub());
    assignment.lifelines.extend(to_gateway(TUNNEL_PORT));
    let kept = told(&bench, &assignment).unwrap();
    assert!(!kept.loses_the_hub() && kept.by.is_some(), "{kept:?}");
    // A hub that is no farther than the cable needs none. Of several addresses the one counts that the link
    // stands on, and without a link one that would be cut.
    let plain = bench.assignment(2, None);
    assert_eq!(told(&bench, &plain), None);
    assignment.lifelines.clear();
    let (behind, near) = (assignment.hub[0].ip(), plain.hub[0].ip());
    assignment.hub.extend(plain.hub);
    assert!(told(&bench, &assignment).unwrap().loses_the_hub());
    let told_on = |link| {
        let assignment = assignment.clone();
        bench.world.machine.inside(move || way::told(&assignment, Some(link)))
    };
    assert_eq!(told_on(near), None);
    assert!(told_on(behind).unwrap().loses_the_hub());
}

/// What an OpenVPN client or WireGuard made by `ip` is to the kernel: nobody but root is told its gateway.
#[test]
fn a_tunnel_of_a_program_is_kept_by_the_lifeline_that_is_called_after_it() {
    let Some(bench) = Bench::bare() else { return };
    let machine = &bench.world.machine;
    let made = machine.command("ip").args(["tuntap", "add", "dev", "tun7", "mode", "tun"]).status();
    if !made.unwrap().success() {
        cordon_tests::cannot_be_had("the kernel makes no tun device");
        return;
    }
    machine.run("ip", &["addr", "add", &format!("{MACHINE_BEHIND}/24"), "dev", "tun7"]);
    machine.run("ip", &["link", "set", "tun7", "up"]);
    let mut assignment = assignment(&bench, 2);
    let gap = told(&bench, &assignment).unwrap().gap.unwrap();
    assert!(gap.contains("through tunnel tun7 (tun)") && gap.contains(NO_LIFELINE), "{gap}");
    let [outbound, _] = to_gateway(1194);
    assignment.lifelines.push(Lifeline { name: "tunnel tun7".into(), ..outbound });
    let kept = told(&bench, &assignment).unwrap();
    assert!(!kept.loses_the_hub(), "{kept:?}");
}

#[test]
fn a_full_isolation_takes_a_tunnel_that_is_no_lifeline_and_segment_does_not() {
    let Some(mut bench) = behind_a_tunnel() else { return };
    let mut link = dial_as(&bench.world, AGENT_USER, HUB_BEHIND, HUB_PORT).unwrap();
    assert!(lives(&mut link));
    assert_eq!(bench.isolate(Isolation::Segment).state, MeasureState::Verified);
    assert!(lives(&mut link), "the kernel's own packets are no lateral movement");

    let receipt = bench.isolate(Isolation::Full);
    assert!(!lives(&mut link), "what carries it is nobody's");
    assert!(dial_as(&bench.world, AGENT_USER, HUB_BEHIND, HUB_PORT).is_err());
    // The proof does not claim it.
    let proof = receipt.proof.unwrap();
    let hub = proof.probes.iter().find(|probe| probe.tried.contains("agent's user")).unwrap();
    assert_eq!(hub.did_pass, None, "{proof:?}");
}

#[test]
fn a_lifeline_to_the_gateway_keeps_the_hub_and_nothing_else_behind_the_tunnel() {
    let Some(mut bench) = behind_a_tunnel() else { return };
    let mut assignment = assignment(&bench, 2);
    assignment.lifelines.extend(to_gateway(TUNNEL_PORT));
    bench.reassign(&assignment);
    let world = &bench.world;
    let mut link = dial_as(world, AGENT_USER, HUB_BEHIND, HUB_PORT).unwrap();
    let mut stranger = dial(world, STRANGER_BEHIND, 8080).unwrap();
    assert!(lives(&mut link) && lives(&mut stranger));

    let receipt = bench.isolate(Isolation::Full);
    assert_eq!(receipt.state, MeasureState::Verified, "{receipt:?}");
    let proof = receipt.proof.unwrap();
    let hub = proof.probes.iter().find(|probe| probe.tried.contains("agent's user")).unwrap();
    assert_eq!(hub.did_pass, Some(true), "{proof:?}");
    assert!(lives(&mut link), "the open link");
    let world = &bench.world;
    assert!(lives(&mut dial_as(world, AGENT_USER, HUB_BEHIND, HUB_PORT).unwrap()), "a new one");
    // What goes through the tunnel is judged as if there were none.
    assert!(!lives(&mut stranger));
    assert!(dial(world, STRANGER_BEHIND, 8080).is_err());
    assert!(dial_as(world, 12345, HUB_BEHIND, HUB_PORT).is_err(), "the agent's alone");
    let refused = |to: &'static str, port: u16| {
        world.machine.inside(move || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.send_to(b"exfil", (to, port)).unwrap_err().kind()
        })
    };
    for (to, port) in [(STRANGER_BEHIND, 53), (HUB_BEHIND, 53), (PEER, TUNNEL_PORT + 1)] {
        assert_eq!(refused(to, port), std::io::ErrorKind::PermissionDenied, "{to}:{port}");
    }
    // And what comes in by it.
    let ours = SocketAddr::new(MACHINE_BEHIND.parse().unwrap(), 445);
    contain_world::bench::echo_in(&world.machine, MACHINE_BEHIND, 445);
    let reached = world
        .peer
        .inside(move || std::net::TcpStream::connect_timeout(&ours, Duration::from_millis(700)));
    assert!(reached.is_err());
}

/// WireGuard and IPsec send from one port to one port, and either side may speak first. What tracking takes
/// for the gateway's own flow is an inbound one from then on: so both directions are declared.
#[test]
fn a_tunnel_that_its_gateway_began_is_kept_where_both_directions_are_declared() {
    const PORT: u16 = 51820;
    let at = |address: &str| SocketAddr::new(address.parse().unwrap(), PORT);
    for directions in [1, 2] {
        let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
        // Some other table has made tracking begin.
        bench.world.machine.nft(
            "table inet others {
               chain i { type filter hook input priority 0; ct state new accept
               }
             }",
        );
        let mut assignment = bench.assignment(2, Some(ClinicalTier::None));
        assignment.lifelines.extend(to_gateway(PORT).into_iter().take(directions));
        bench.reassign(&assignment);
        echo_datagrams(&bench.world.machine, at(MACHINE));
        let (gateway, machine) = (at(PEER), at(MACHINE));
        let socket = bench.world.peer.inside(move || UdpSocket::bind(gateway).unwrap());
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let answers = |attempts: usize| {
            let mut bytes = [0; 8];
            (0..attempts).any(|_| {
                socket.send_to(b"keepalive", machine).is_ok() && socket.recv(&mut bytes).is_ok()
            })
        };
        assert!(answers(30), "the gateway speaks first");
        assert_eq!(bench.isolate(Isolation::Full).state, MeasureState::Verified);
        assert_eq!(answers(if directions == 2 { 30 } else { 3 }), directions == 2);
        // Nothing else is let in by it.
        echo_datagrams(&bench.world.machine, SocketAddr::new(MACHINE.parse().unwrap(), PORT + 1));
        let other = SocketAddr::new(MACHINE.parse().unwrap(), PORT + 1);
        assert!(!comes_back(&bench.world.peer, other, 8, false));
    }
}
