//! Blocked peers, each behaviour shown with real packets in network namespaces: over IPv4 and IPv6, out and
//! in, through and from the machine.
//!
//! | what | where |
//! |---|---|
//! | a peer is cut, its open sessions end, others live; given back to the byte | `peers` |
//! | ports, transports, directions; names; containers | `narrow` |
//! | what is kept is refused, or comes first | `kept` |
//! | several at once, beside an isolation; leases, restarts, wipes | `together` |
//! | killed anywhere: the old rules or the new | `killed` |
//!
//! All need root, and say so when they are skipped.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own tools fail the test")]

#[path = "../contain_world/mod.rs"]
mod contain_world;

mod kept;
mod killed;
mod narrow;
mod peers;
mod together;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;

use cordon_agent::contain::action::block::TABLE;
use cordon_agent::contain::nft::Table;
use cordon_agent::contain::protocol::Answer;
use cordon_agent::contain::table::Tables;
use cordon_model::action::{Action, Blocked, BlockedPeer};
use cordon_model::ids::MeasureId;
use cordon_model::measure::{MeasureState, Receipt};
use cordon_model::order::{Instruction, Lease};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use contain_world::Namespace;
use contain_world::bench::{Bench, LEASE};

/// Everything from and to `peer`.
fn whole(peer: &str) -> Blocked {
    let length = if peer.contains(':') { 128 } else { 32 };
    network(&format!("{peer}/{length}"))
}

fn network(peer: &str) -> Blocked {
    let peer = BlockedPeer::Network(peer.parse().unwrap());
    Blocked { peer, transport: None, ports: None, direction: None }
}

fn begin(blocked: &Blocked, lease: Lease) -> Instruction {
    Instruction::begin(Action::Block(blocked.clone()), lease)
}

/// Orders the block, and gives its receipt.
fn order(bench: &mut Bench, blocked: &Blocked) -> Receipt {
    let order = bench.order(begin(blocked, LEASE));
    receipt_of(bench.give(&order), order.id.into())
}

/// Orders it, and sees that it is shown.
#[track_caller]
fn block(bench: &mut Bench, blocked: &Blocked) -> MeasureId {
    let receipt = order(bench, blocked);
    assert_eq!(receipt.state, MeasureState::Verified, "{receipt:?}");
    receipt.measure
}

#[track_caller]
fn undo(bench: &mut Bench, measure: MeasureId) {
    let order = bench.order(Instruction::Undo { measure });
    let receipt = receipt_of(bench.give(&order), measure);
    assert_eq!(receipt.state, MeasureState::Released, "{receipt:?}");
}

/// The newest one about `measure`.
fn receipt_of(answer: Answer, measure: MeasureId) -> Receipt {
    let Answer::Obeyed(receipts) = answer else { panic!("{answer:?}") };
    receipts.receipts.into_iter().rfind(|receipt| receipt.measure == measure).unwrap()
}

/// The table of blocks, as the kernel has it.
fn table(bench: &Bench) -> Option<Table> {
    let found = bench.world.machine.inside(|| Tables::open_for(TABLE).unwrap().read_back());
    found.unwrap().map(|found| found.table)
}

/// Opens a connection from the address `source` of `from`. Where it must come, it may take its time.
fn dial_from(
    from: &Namespace,
    source: &str,
    to: &str,
    port: u16,
    should: bool,
) -> io::Result<TcpStream> {
    let (source, to): (IpAddr, IpAddr) = (source.parse().unwrap(), to.parse().unwrap());
    from.inside(move || {
        let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(source, 0)))?;
        let patience = if should { TimeVal::new(10, 0) } else { TimeVal::new(0, 300_000) };
        setsockopt(&socket, sockopt::SendTimeout, &patience)?;
        connect(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(to, port)))?;
        Ok(TcpStream::from(socket))
    })
}

/// A session from `source` in one namespace to `to` in the other: the end that dials, and the other.
fn session(
    from: &Namespace,
    source: &str,
    namespace: &Namespace,
    to: &str,
    port: u16,
) -> (TcpStream, TcpStream) {
    let at: IpAddr = to.parse().unwrap();
    let listener = namespace.inside(move || TcpListener::bind((at, port)).unwrap());
    let near = dial_from(from, source, to, port, true).unwrap();
    (near, listener.accept().unwrap().0)
}
