//! Points 2 and 9, for lifelines over the services that intruders move by, and for needs that people know by
//! a word: logon, printing, shares, remote desktops. What a person signed for, to one server, lives through
//! *segment* and *full*; the same service anywhere else is cut.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream};

use cordon_agent::contain::protocol::{Ask, Refusal};
use cordon_model::asset::{
    Assignment, ClinicalTier, Direction, LATERAL_MOVEMENT, PortRange, Transport,
};
use cordon_model::measure::{Isolation, MeasureState};
use cordon_model::named::Service;
use cordon_model::signed::seal;
use cordon_model::well_known::well_known;

use crate::contain_world::bench::{Bench, assert_refused, dial, echo, lives};
use crate::contain_world::flow::{comes_back, echo_datagrams};
use crate::contain_world::wiretap::Wiretap;
use crate::contain_world::{PACS, PACS6, PEER, PEER6, World, address};

/// The signed server, and a neighbour that nobody signed for.
const SERVER: [&str; 2] = [PACS, PACS6];
const NEIGHBOUR: [&str; 2] = [PEER, PEER6];

const SMB: (Transport, u16) = (Transport::Tcp, 445);
const RDP: (Transport, u16) = (Transport::Tcp, 3389);
const RDP_BY_UDP: (Transport, u16) = (Transport::Udp, 3389);

fn service((transport, port): (Transport, u16)) -> Service {
    Service {
        transport,
        ports: PortRange::one(port),
        direction: Direction::Outbound,
        signed_off_by: Some("Dr Osei".into()),
    }
}

/// A machine's assignment with `services` at the server's addresses.
fn with(bench: &Bench, services: &[Service]) -> Assignment {
    let mut assignment = bench.assignment(2, Some(ClinicalTier::Supports));
    for at in SERVER {
        assignment.lifelines.extend(services.iter().map(|one| one.at(address(at), "the server")));
    }
    assignment
}

/// Everybody serves all of `ports`.
fn serve(world: &World, ports: &BTreeSet<(Transport, u16)>) {
    for (transport, port) in ports {
        for at in SERVER.into_iter().chain(NEIGHBOUR) {
            match transport {
                Transport::Tcp => echo(world, at, *port),
                Transport::Udp => {
                    echo_datagrams(&world.peer, SocketAddr::new(address(at), *port));
                }
            }
        }
    }
}

/// Sessions with everybody at `at`, by TCP.
fn sessions(world: &World, at: [&str; 2], ports: &BTreeSet<(Transport, u16)>) -> Vec<TcpStream> {
    let tcp = || ports.iter().filter(|(transport, _)| *transport == Transport::Tcp);
    at.into_iter()
        .flat_map(|at| tcp().map(move |(_, port)| (at, *port)))
        .map(|(at, port)| dial(world, at, port).unwrap())
        .collect()
}

fn is_lateral((transport, port): (Transport, u16)) -> bool {
    LATERAL_MOVEMENT
        .iter()
        .any(|(of, ports)| *of == transport && ports.overlaps(PortRange::one(port)))
}

/// Whether something new gets through to each of `at`.
fn reaches(world: &World, at: [&str; 2], service: (Transport, u16), should: bool) -> [bool; 2] {
    let (transport, port) = service;
    at.map(|at| match transport {
        Transport::Tcp => dial(world, at, port).is_ok_and(|mut stream| lives(&mut stream)),
        Transport::Udp => {
            let to = SocketAddr::new(address(at), port);
            comes_back(&world.machine, to, 8, should)
        }
    })
}

/// SMB and RDP to a server that somebody signed for, over both families: open sessions and new ones live in
/// both modes, by TCP and UDP. To a neighbour the same ports are cut in both, and nothing comes out.
#[test]
fn point_9_smb_and_rdp_live_to_a_signed_server_and_are_cut_to_everybody_else() {
    let Some(mut bench) = Bench::new(ClinicalTier::Supports) else { return };
    let ports = BTreeSet::from([SMB, RDP, RDP_BY_UDP]);
    serve(&bench.world, &ports);

    // The helper takes no such lifeline that nobody signed for, or that is to a whole network.
    let all: Vec<Service> = ports.iter().copied().map(service).collect();
    let mut unsigned = with(&bench, &all);
    unsigned.lifelines.last_mut().unwrap().signed_off_by = None;
    let mut to_all = with(&bench, &all);
    to_all.lifelines.last_mut().unwrap().peer = "fd77::/64".parse().unwrap();
    for wrong in [unsigned, to_all] {
        let answer = bench.ask(Ask::Assignment(seal(&wrong, &bench.key).unwrap()));
        assert_refused(&answer, Refusal::NotObeyed, "lateral-movement port");
    }
    bench.reassign(&with(&bench, &all));

    let mut kept = sessions(&bench.world, SERVER, &ports);
    for isolation in [Isolation::Segment, Isolation::Full] {
        let mut cut = sessions(&bench.world, NEIGHBOUR, &ports);
        assert_eq!((kept.len(), cut.len()), (4, 4));
        assert!(kept.iter_mut().chain(&mut cut).all(lives), "before {isolation}");
        for service in &ports {
            assert_eq!(reaches(&bench.world, NEIGHBOUR, *service, true), [true; 2], "{service:?}");
        }
        assert_eq!(bench.isolate(isolation).state, MeasureState::Verified);
        let mut tap = Wiretap::on(&bench.world);
        assert!(!cut.iter_mut().any(lives), "{isolation}: a neighbour's open sessions");
        for service in &ports {
            let through = reaches(&bench.world, NEIGHBOUR, *service, false);
            assert_eq!(through, [false; 2], "{isolation}: {service:?} to a neighbour");
        }
        // What speaks with the server still says that it heard.
        let mut strays = tap.settle_traffic();
        strays.retain(|frame| !SERVER.iter().any(|at| frame.is_to(address(at))));
        assert_eq!(strays, [], "{isolation}: not a word to a neighbour");
        drop(tap);
        assert!(kept.iter_mut().all(lives), "{isolation}: the server's open sessions");
        for service in &ports {
            let through = reaches(&bench.world, SERVER, *service, true);
            assert_eq!(through, [true; 2], "{isolation}: {service:?} to the server");
        }
        bench.release();
        assert!(kept.iter_mut().all(lives), "and through the release");
    }
}

/// Each need that people know by a word, signed for as `cordon assign --lifeline WORD:…` proposes it: every
/// service of it lives to the server, by TCP and by UDP, in sessions that are open and new. To a neighbour
/// *full* cuts all of them, and *segment* those that intruders move by.
#[test]
fn point_2_logon_printing_shares_and_remote_desktops_live_to_the_signed_server() {
    let Some(mut bench) = Bench::new(ClinicalTier::Supports) else { return };
    let words = ["smb", "print", "print-server", "logon", "citrix", "rds"];
    let needs = words.map(|word| well_known(word).unwrap());
    let services: Vec<Service> = needs
        .iter()
        .flat_map(|need| need.services)
        .map(|known| Service {
            ports: known.ports,
            ..service((known.transport, known.ports.first))
        })
        .collect();
    // A range is tried at its first port.
    let ports: BTreeSet<(Transport, u16)> =
        services.iter().map(|service| (service.transport, service.ports.first)).collect();
    for must in [(Transport::Udp, 88), (Transport::Tcp, 9100), (Transport::Tcp, 631), SMB, RDP] {
        assert!(ports.contains(&must), "{must:?}");
    }
    serve(&bench.world, &ports);
    bench.reassign(&with(&bench, &services));
    let mut kept = sessions(&bench.world, SERVER, &ports);
    assert!(kept.iter_mut().all(lives));
    for isolation in [Isolation::Segment, Isolation::Full] {
        assert_eq!(bench.isolate(isolation).state, MeasureState::Verified);
        assert!(kept.iter_mut().all(lives), "{isolation}: open sessions");
        for service in &ports {
            let through = reaches(&bench.world, SERVER, *service, true);
            assert_eq!(through, [true; 2], "{isolation}: {service:?} to the server");
            let should = isolation == Isolation::Segment && !is_lateral(*service);
            let through = reaches(&bench.world, NEIGHBOUR, *service, should);
            assert_eq!(through, [should; 2], "{isolation}: {service:?} to a neighbour");
        }
    }
}
