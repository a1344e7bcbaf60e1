//! Point 4: existing flows are cut, shown with a live session.
//!
//! Answers LimaCharlie and Yuzu, which accept what connection tracking calls established, so that a live
//! command-and-control session goes on.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use cordon_model::asset::ClinicalTier;
use cordon_model::measure::Isolation;

use crate::contain_world::bench::Bench;
use crate::contain_world::wiretap::Wiretap;
use crate::contain_world::{MACHINE, MACHINE6, Namespace, PEER, PEER6, address};

/// What tracking says of the flows at `port`.
fn tracked(namespace: &Namespace, port: u16) -> Vec<String> {
    let table = namespace
        .inside(|| std::fs::read_to_string("/proc/thread-self/net/nf_conntrack"))
        .unwrap_or_default();
    let port = format!("dport={port} ");
    table.lines().filter(|line| line.contains(&port)).map(str::to_owned).collect()
}

/// Says something every few milliseconds, and gives how often it was heard, until the session ends.
fn command_and_control(mut session: TcpStream) -> std::thread::JoinHandle<ErrorKind> {
    std::thread::spawn(move || {
        session.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        loop {
            let spoken = session.write_all(b"?").and_then(|()| session.read_exact(&mut [0]));
            if let Err(error) = spoken {
                return error.kind();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    })
}

/// Sessions that speak all the while, opened from inside (a shell that calls home) and from outside (one
/// that waits), over either family; tracking knows them as established, and a rule of somebody accepts
/// that. They end at once, their programs are told, and not a byte of theirs leaves any more.
#[test]
fn point_4_live_command_and_control_ends_though_tracking_calls_it_established() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    bench.world.machine.nft(
        "table inet somebody {
           chain i { type filter hook input priority 0; ct state established,related accept; }
           chain o { type filter hook output priority 0; ct state established,related accept; }
         }",
    );
    // Before the first word, for they leave no calm to set it in.
    let mut tap = Wiretap::on(&bench.world);
    let mut sessions = Vec::new();
    for (machine, peer) in [(MACHINE, PEER), (MACHINE6, PEER6)] {
        let (machine, peer): (IpAddr, IpAddr) = (address(machine), address(peer));
        let opens = |from: &Namespace, to: &Namespace, at: IpAddr, port: u16| {
            let listener = to.inside(move || TcpListener::bind((at, port)).unwrap());
            let one = from.inside(move || TcpStream::connect((at, port)).unwrap());
            (one, listener.accept().unwrap().0)
        };
        let (world_machine, world_peer) = (&bench.world.machine, &bench.world.peer);
        let (inner, outer) = opens(world_machine, world_peer, peer, 4444);
        sessions.push((inner, outer));
        let (outer, inner) = opens(world_peer, world_machine, machine, 4445);
        sessions.push((inner, outer));
    }
    let mut told = Vec::new();
    for (inner, mut outer) in sessions {
        std::thread::spawn(move || {
            let mut byte = [0];
            while outer.read_exact(&mut byte).and_then(|()| outer.write_all(&byte)).is_ok() {}
        });
        told.push(command_and_control(inner));
    }
    for port in [4444, 4445] {
        let established = || {
            let known = tracked(&bench.world.machine, port);
            known.iter().filter(|line| line.contains("ESTABLISHED")).count()
        };
        let is_known = (0..2000).any(|_| {
            std::thread::sleep(Duration::from_millis(5));
            established() >= 2
        });
        assert!(is_known, "{:?}", tracked(&bench.world.machine, port));
    }

    for session in &told {
        assert!(!session.is_finished(), "all four are alive");
    }
    bench.isolate(Isolation::Full);
    tap.settle();
    for session in told {
        let how = session.join().unwrap();
        // By the socket that was closed, or before that by the refusal of its next word.
        let is_told = [ErrorKind::ConnectionAborted, ErrorKind::ConnectionReset].contains(&how);
        assert!(is_told, "{how}");
    }
    assert_eq!(bench.world.machine.run("ss", &["-Htn"]), "", "nothing is left of them");
    assert_eq!(tap.settle_traffic(), [], "not a byte, nor a farewell");
}

/// A session by datagrams, which tracking calls assured: the same.
#[test]
fn point_4_a_session_by_datagrams_ends_too() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    bench.world.machine.nft(
        "table inet somebody {
           chain o { type filter hook output priority 0; ct state established accept; }
         }",
    );
    let mut sessions = Vec::new();
    for peer in [PEER, PEER6] {
        let to = SocketAddr::new(address(peer), 4446);
        crate::contain_world::flow::echo_datagrams(&bench.world.peer, to);
        let session = bench.world.machine.inside(move || {
            let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any).unwrap();
            socket.connect(to).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            socket
        });
        for _ in 0..4 {
            session.send(b"?").unwrap();
            session.recv(&mut [0; 4]).unwrap();
        }
        sessions.push(session);
    }
    let known = tracked(&bench.world.machine, 4446);
    assert_eq!(known.iter().filter(|line| line.contains("src=")).count(), 2, "{known:?}");
    bench.isolate(Isolation::Full);
    let mut tap = Wiretap::on(&bench.world);
    for session in &sessions {
        assert!(session.send(b"?").is_err() || session.send(b"?").is_err());
    }
    assert_eq!(tap.settle_traffic(), []);
}

/// What is cut does not come back to life with the release: its sockets are gone.
#[test]
fn point_4_a_session_that_was_cut_stays_dead_after_the_release() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    crate::contain_world::bench::echo(&bench.world, PEER, 4444);
    let mut session = crate::contain_world::bench::dial(&bench.world, PEER, 4444).unwrap();
    assert!(crate::contain_world::bench::lives(&mut session));
    bench.isolate(Isolation::Full);
    bench.release();
    assert!(!crate::contain_world::bench::lives(&mut session));
    assert!(
        crate::contain_world::bench::dial(&bench.world, PEER, 4444).is_ok(),
        "a new one is open"
    );
}
