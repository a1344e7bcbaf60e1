//! One peer is cut, whoever speaks first; everybody else lives; and it is given back as it was.

use std::io::ErrorKind;
use std::net::SocketAddr;

use cordon_model::asset::ClinicalTier;
use cordon_model::measure::MeasureState;

use crate::contain_world::bench::{Bench, HUB_PORT, dial, dial_as, echo, echo_in, lives};
use crate::contain_world::flow::{Flood, answers_ping, comes_back, echo_datagrams};
use crate::contain_world::wiretap::Wiretap;
use crate::contain_world::{
    AGENT_USER, HUB, HUB6, MACHINE, MACHINE6, PACS, PACS6, PEER, PEER6, address,
};
use crate::{block, dial_from, order, undo, whole};

/// Peer, another at the other end of the same cable, and this machine, in each family.
const FAMILIES: [(&str, &str, &str); 2] = [(PEER, PACS, MACHINE), (PEER6, PACS6, MACHINE6)];

#[test]
fn a_blocked_peer_is_cut_in_both_directions_and_its_neighbours_live() {
    let Some(mut bench) = Bench::new(ClinicalTier::Clinical) else { return };
    // Somebody accepts what tracking calls established.
    bench.world.machine.nft(
        "table inet somebody {
           chain i { type filter hook input priority 0; ct state established,related accept; }
           chain o { type filter hook output priority 0; ct state established,related accept; }
         }",
    );
    for (peer, other, machine) in FAMILIES {
        for at in [peer, other] {
            echo(&bench.world, at, 4444);
            echo_datagrams(&bench.world.peer, SocketAddr::new(address(at), 4445));
        }
        echo_in(&bench.world.machine, machine, 8080);
    }
    for hub in [HUB, HUB6] {
        echo(&bench.world, hub, HUB_PORT);
    }
    for (peer, other, machine) in FAMILIES {
        let world = &bench.world;
        let out = |at| dial(world, at, 4444).unwrap();
        let inward = |from| dial_from(&world.peer, from, machine, 8080, true).unwrap();
        let mut cut = [out(peer), inward(peer)];
        let mut kept = [out(other), inward(other)];
        assert!(cut.iter_mut().chain(&mut kept).all(lives));
        let before = world.machine.ruleset();

        let measure = block(&mut bench, &whole(peer));
        let world = &bench.world;
        assert!(!cut.iter_mut().any(lives), "{peer}: its open sessions end");
        assert!(kept.iter_mut().all(lives), "{other}: and no others");
        let sockets = world.machine.run("ss", &["-Htn", "dst", &format!("[{peer}]")]);
        assert_eq!(sockets, "", "nothing is left of them");
        // Programs here are told at once; what comes from outside hears nothing.
        let refused = dial(world, peer, 4444).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{peer}");
        assert!(dial_from(&world.peer, peer, machine, 8080, false).is_err(), "{peer}");
        let datagram = |at| SocketAddr::new(address(at), 4445);
        assert!(!comes_back(&world.machine, datagram(peer), 4, false), "{peer}");
        assert!(!answers_ping(&world.machine, address(peer), false), "{peer}");
        // Everybody else.
        assert!(lives(&mut dial(world, other, 4444).unwrap()));
        assert!(lives(&mut dial_from(&world.peer, other, machine, 8080, true).unwrap()));
        assert!(comes_back(&world.machine, datagram(other), 4, true));
        assert!(answers_ping(&world.machine, address(other), true));
        assert!(dial(world, machine, 8080).is_ok(), "the machine and itself");
        for hub in [HUB, HUB6] {
            assert!(lives(&mut dial_as(world, AGENT_USER, hub, HUB_PORT).unwrap()));
        }

        undo(&mut bench, measure);
        let world = &bench.world;
        assert_eq!(world.machine.ruleset(), before, "to the byte");
        assert!(lives(&mut dial(world, peer, 4444).unwrap()));
        assert!(lives(&mut dial_from(&world.peer, peer, machine, 8080, true).unwrap()));
        assert!(comes_back(&world.machine, datagram(peer), 4, true));
        assert!(!cut.iter_mut().any(lives), "what was cut does not come back to life");
    }
}

/// What leaves is looked at on the wire, not at the machine: from the receipt on, nothing goes to the peer,
/// not a farewell of what was cut.
#[test]
fn not_one_packet_reaches_a_blocked_peer() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let mut tap = Wiretap::on(&bench.world);
    for peer in [PEER, PEER6] {
        echo(&bench.world, peer, 4444);
    }
    let mut sessions = [PEER, PEER6].map(|peer| dial(&bench.world, peer, 4444).unwrap());
    assert!(sessions.iter_mut().all(lives));
    let everywhere = [PEER, PEER6].map(|peer| SocketAddr::new(address(peer), 9)).to_vec();
    let flood = Flood::from(&bench.world.machine, everywhere);
    tap.await_frames(10, |frame| frame.at_port(9).is_some());
    block(&mut bench, &whole(PEER));
    block(&mut bench, &whole(PEER6));
    tap.settle();
    assert!(!sessions.iter_mut().any(lives));
    flood.is_refused(500);
    assert_eq!(tap.settle_traffic(), []);
}

#[test]
fn what_was_done_and_what_shows_it_is_in_the_receipt() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    for peer in [PEER, PEER6] {
        echo(&bench.world, peer, 4444);
        let mut live = dial(&bench.world, peer, 4444).unwrap();
        assert!(lives(&mut live));
        let receipt = order(&mut bench, &whole(peer));
        assert_eq!(receipt.state, MeasureState::Verified);
        assert!(receipt.done.contains(&"1 open connections were closed".to_owned()), "{receipt:?}");
        let proof = receipt.proof.unwrap();
        assert!(proof.is_read_back && proof.table_handle.is_some());
        for transport in ["tcp", "udp"] {
            let tried = format!("{transport} {} outbound", SocketAddr::new(address(peer), 9));
            let probe = proof.probes.iter().find(|probe| probe.tried == tried).expect(&tried);
            assert_eq!((probe.should_pass, probe.did_pass), (false, Some(false)), "{tried}");
        }
        assert!(proof.unproven.iter().any(|words| words.contains("from the peer")), "{proof:?}");
    }
}
