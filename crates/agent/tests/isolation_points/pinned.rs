//! Point 2: what stays allowed is pinned addresses and ports, shipped signed before any incident.
//! Nothing is resolved on the suspect machine; DNS is shut.
//!
//! Answers Velociraptor #4281 and #4922 (its server's name is looked up when names are cut already, and
//! DNS stays open to anyone), LimaCharlie and Yuzu (the suspect machine's own resolver says which address
//! is exempt).

use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;

use cordon_model::asset::ClinicalTier;
use cordon_model::measure::{Isolation, MeasureState};
use nix::sys::socket::{setsockopt, sockopt};

use crate::contain_world::bench::{Bench, HUB_PORT, dial, dial_as, echo, lives};
use crate::contain_world::wiretap::Wiretap;
use crate::contain_world::{AGENT_USER, HUB, HUB6, PEER, PEER6, World};

const NAME: &str = "hub.trust.example";
/// TCP's flag (RFC 9293 section 3.1).
const RST: u8 = 4;

/// The machine's resolver is the intruder's: whatever is asked, the answer is his own address.
pub struct HostileResolver {
    files: PathBuf,
}

impl Drop for HostileResolver {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.files);
    }
}

impl HostileResolver {
    /// For programs that are started in `world`'s machine from now on.
    pub fn of(world: &World) -> Self {
        // `ip netns exec` lays these over /etc for what it starts.
        let files = PathBuf::from("/etc/netns").join(&world.machine.name);
        std::fs::create_dir_all(&files).unwrap();
        let settings = format!("nameserver {PEER}\noptions timeout:1 attempts:1\n");
        std::fs::write(files.join("resolv.conf"), settings).unwrap();
        std::fs::write(files.join("hosts"), "127.0.0.1 localhost\n").unwrap();
        std::fs::write(files.join("nsswitch.conf"), "hosts: files dns\n").unwrap();
        let (ready, is_ready) = std::sync::mpsc::channel();
        world.peer.spawn(move || {
            let socket = UdpSocket::bind((PEER, 53)).unwrap();
            ready.send(()).unwrap();
            let mut bytes = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut bytes) {
                let _ = socket.send_to(&lie(&bytes[..length]), from);
            }
        });
        is_ready.recv().unwrap();
        Self { files }
    }
}

/// The question back (RFC 1035 section 4.1), with one answer: the peer's first address, and none for IPv6.
fn lie(question: &[u8]) -> Vec<u8> {
    let name = question[12..].iter().position(|length| *length == 0).unwrap() + 12;
    let is_ipv4 = question[name + 1..name + 3] == [0, 1];
    let mut answer = question[..name + 5].to_vec();
    answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(is_ipv4), 0, 0, 0, 0]);
    if is_ipv4 {
        answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 77, 0, 2]);
    }
    answer
}

/// What a program on the machine is told that `NAME` is.
pub fn looked_up(world: &World) -> String {
    let output = world.machine.command("getent").args(["ahostsv4", NAME]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The intruder answers every question of the machine's resolver with his own address, and sits there
/// with a hub of his own. Isolating asks him nothing; the link to the real hub lives; his is cut off.
#[test]
fn point_2_nothing_is_resolved_and_a_hub_that_the_resolver_moves_is_not_followed() {
    let Some(mut bench) = Bench::off() else { return };
    let _hostile = HostileResolver::of(&bench.world);
    for address in [HUB, HUB6, PEER, PEER6] {
        echo(&bench.world, address, HUB_PORT);
    }
    bench.start();
    bench.pin();
    bench.assign(1, Some(ClinicalTier::None));
    let mut tap = Wiretap::on(&bench.world);
    assert!(looked_up(&bench.world).contains(PEER), "the lie works while names do");
    assert!(tap.settle().iter().any(|frame| frame.at_port(53).is_some()), "and is seen");
    let mut his = dial_as(&bench.world, AGENT_USER, PEER, HUB_PORT).unwrap();
    assert!(lives(&mut his));
    // Reset, so that no farewell of it comes later; and waited for, since a program that another test is just
    // starting may hold the session for a moment longer.
    let at_once = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    setsockopt(&his, sockopt::Linger, &at_once).unwrap();
    drop(his);
    let peer = PEER.parse::<std::net::IpAddr>().unwrap();
    tap.await_frames(1, |frame| {
        frame.at_port(HUB_PORT).is_some_and(|p| p.destination == peer && p.flags & RST != 0)
    });

    let receipt = bench.isolate(Isolation::Full);
    assert_eq!(receipt.state, MeasureState::Verified);
    for address in [HUB, HUB6] {
        assert!(lives(&mut dial_as(&bench.world, AGENT_USER, address, HUB_PORT).unwrap()));
    }
    let hubs = [HUB, HUB6].map(|hub| hub.parse::<std::net::IpAddr>().unwrap());
    for frame in tap.settle_traffic() {
        let packet = frame.at_port(HUB_PORT).unwrap_or_else(|| panic!("{frame:?}"));
        assert!(hubs.contains(&packet.destination), "{frame:?}");
    }
    for address in [PEER, PEER6] {
        assert!(dial_as(&bench.world, AGENT_USER, address, HUB_PORT).is_err());
    }
    assert_eq!(looked_up(&bench.world), "", "and nobody on the machine resolves anything");
    // The sessions with the real hub may still be saying farewell.
    let strays: Vec<_> = tap
        .settle_traffic()
        .into_iter()
        .filter(|frame| !frame.at_port(HUB_PORT).is_some_and(|p| hubs.contains(&p.destination)))
        .collect();
    assert_eq!(strays, [], "not a question left, nor a word to the intruder's hub");
}

/// Names are a way out for data, by whichever transport and to whomever, the hub's own address included.
#[test]
fn point_2_dns_is_shut_in_every_form() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let mut tap = Wiretap::on(&bench.world);
    bench.isolate(Isolation::Full);
    tap.settle();
    for address in [PEER, PEER6, HUB, HUB6] {
        for port in [53, 853, 443, 5353] {
            let to = SocketAddr::new(address.parse().unwrap(), port);
            let sent = bench.world.machine.inside(move || {
                let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                UdpSocket::bind(any).unwrap().send_to(b"data", to).map_err(|error| error.kind())
            });
            assert_eq!(sent, Err(std::io::ErrorKind::PermissionDenied), "{to}");
            let dialled = dial(&bench.world, address, port).map_err(|error| error.kind());
            assert_eq!(dialled.err(), Some(std::io::ErrorKind::ConnectionRefused), "{to}");
        }
    }
    assert_eq!(tap.settle_traffic(), []);
}
