//! Point 9: the modes. **Watch** cuts nothing; **segment** cuts what worms and intruders move by, in and
//! out; **full** cuts everything but what is declared.
//!
//! Answers Wazuh #177 and #15264: it has no isolation of a host, only blocks of one address.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use cordon_model::asset::{ClinicalTier, LATERAL_MOVEMENT, Transport};
use cordon_model::measure::Isolation;

use crate::contain_world::bench::{Bench, HUB_PORT, PACS_PORT};
use crate::contain_world::flow::{comes_back, echo_datagrams};
use crate::contain_world::{
    AGENT_USER, HUB, HUB6, MACHINE, MACHINE6, Namespace, PACS, PEER, PEER6, address,
};

/// Ports of services that *segment* leaves alone.
const ORDINARY: [u16; 3] = [443, 8080, 2575];

fn lateral(transport: Transport) -> Vec<u16> {
    LATERAL_MOVEMENT
        .iter()
        .filter(|(of, _)| *of == transport)
        .flat_map(|(_, ports)| ports.first..=ports.last)
        .collect()
}

/// Services at all of these ports, by TCP and UDP and over either family.
fn serve(namespace: &Namespace, addresses: &[&str], ports: &[u16]) {
    for port in ports {
        for at in addresses {
            let at = SocketAddr::new(address(at), *port);
            let listener = namespace.inside(move || TcpListener::bind(at).unwrap());
            std::thread::spawn(move || while listener.accept().is_ok() {});
            echo_datagrams(namespace, at);
        }
    }
}

fn opens(from: &Namespace, user: u32, to: SocketAddr, should: bool) -> bool {
    let patience = Duration::from_millis(if should { 10_000 } else { 200 });
    from.inside(move || {
        nix::unistd::setfsuid(nix::unistd::Uid::from_raw(user));
        TcpStream::connect_timeout(&to, patience).is_ok()
    })
}

/// Every service that *segment* is said to cut, and some that it is not, in both directions, by TCP and
/// UDP, over either family, in each mode; the lifeline and the hub's link in all of them.
#[test]
fn point_9_each_mode_cuts_what_it_is_said_to_cut_and_nothing_else() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let mut ports: Vec<u16> =
        [lateral(Transport::Tcp), lateral(Transport::Udp), ORDINARY.to_vec()].concat();
    ports.sort_unstable();
    ports.dedup();
    let (machine, peer) = (bench.world.machine.clone(), bench.world.peer.clone());
    serve(&machine, &[MACHINE, MACHINE6], &ports);
    serve(&peer, &[PEER, PEER6], &ports);
    serve(&peer, &[PACS], &[PACS_PORT]);
    serve(&peer, &[HUB, HUB6], &[HUB_PORT]);
    for isolation in [Isolation::Watch, Isolation::Segment, Isolation::Full] {
        bench.isolate(isolation);
        let lives = |transport, port| match isolation {
            Isolation::Watch => true,
            Isolation::Segment => !lateral(transport).contains(&port),
            Isolation::Full => false,
        };
        for port in &ports {
            for (from, to) in
                [(&machine, PEER), (&machine, PEER6), (&peer, MACHINE), (&peer, MACHINE6)]
            {
                let to = SocketAddr::new(address(to), *port);
                let should = lives(Transport::Tcp, *port);
                assert_eq!(opens(from, 0, to, should), should, "{isolation}: tcp to {to}");
                let should = lives(Transport::Udp, *port);
                assert_eq!(comes_back(from, to, 8, should), should, "{isolation}: udp to {to}");
            }
        }
        let kept =
            [(0, PACS, PACS_PORT), (AGENT_USER, HUB, HUB_PORT), (AGENT_USER, HUB6, HUB_PORT)];
        for (user, at, port) in kept {
            let to = SocketAddr::new(address(at), port);
            assert!(opens(&machine, user, to, true), "{isolation}: {to} as {user}");
        }
    }
}
