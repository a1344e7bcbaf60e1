//! Flows of datagrams: a peer that answers, a question, a flood.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, recv, sendto,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use super::Namespace;

/// Says back every datagram that comes to `address`.
pub fn echo_datagrams(namespace: &Namespace, address: SocketAddr) {
    let (ready, is_ready) = std::sync::mpsc::channel();
    namespace.spawn(move || {
        let socket = UdpSocket::bind(address).unwrap();
        ready.send(()).unwrap();
        let mut bytes = vec![0; 64 << 10];
        while let Ok((length, from)) = socket.recv_from(&mut bytes) {
            let _ = socket.send_to(&bytes[..length], from);
        }
    });
    is_ready.recv().unwrap();
}

/// Whether a datagram of `length` bytes comes back from `to`. Where it must, it may take its time.
pub fn comes_back(namespace: &Namespace, to: SocketAddr, length: usize, should: bool) -> bool {
    let (patience, attempts) = if should { (1000, 10) } else { (150, 2) };
    namespace.inside(move || {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(patience))).unwrap();
        let question: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        let mut answer = vec![0; length + 1];
        (0..attempts).any(|_| {
            socket.send_to(&question, to).is_ok()
                && socket.recv(&mut answer).is_ok_and(|got| answer[..got] == question)
        })
    })
}

/// Whether `to` answers an echo request (RFC 792, RFC 4443).
pub fn answers_ping(namespace: &Namespace, to: IpAddr, should: bool) -> bool {
    let (patience, attempts) = if should { (1, 10) } else { (0, 2) };
    namespace.inside(move || {
        let (family, protocol, request, reply) = match to {
            IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, 8u8, 0u8),
            IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6, 128, 129),
        };
        let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).unwrap();
        let timeout = TimeVal::new(patience, 200_000);
        setsockopt(&socket, sockopt::ReceiveTimeout, &timeout).unwrap();
        let address = SockaddrStorage::from(SocketAddr::new(to, 0));
        // Type, code 0, checksum (of ICMPv6 the kernel's business), and the rest zero.
        let sum = if to.is_ipv4() { !(u16::from(request) << 8) } else { 0 }.to_be_bytes();
        let message = [request, 0, sum[0], sum[1], 0, 0, 0, 0];
        (0..attempts).any(|_| {
            if sendto(socket.as_raw_fd(), &message, &address, MsgFlags::empty()).is_err() {
                return false;
            }
            let mut bytes = [0; 256];
            loop {
                let Ok(length) = recv(socket.as_raw_fd(), &mut bytes, MsgFlags::empty()) else {
                    return false;
                };
                // A raw IPv4 socket shows the header too.
                let header = if to.is_ipv4() { usize::from(bytes[0] & 15) * 4 } else { 0 };
                if bytes[..length].get(header) == Some(&reply) {
                    return true;
                }
            }
        })
    })
}

/// Sends datagrams to every one of `to`, again and again, until it is stopped.
pub struct Flood {
    is_over: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

impl Flood {
    pub fn from(namespace: &Namespace, to: Vec<SocketAddr>) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let (sent, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (ends, sends, refuses) = (is_over.clone(), sent.clone(), refused.clone());
        let thread = namespace.spawn(move || {
            let sockets = [UdpSocket::bind("0.0.0.0:0"), UdpSocket::bind("[::]:0")];
            let sockets = sockets.map(Result::unwrap);
            while !ends.load(Ordering::Relaxed) {
                for to in &to {
                    let counts = match sockets[usize::from(to.is_ipv6())].send_to(b"flood", to) {
                        Ok(_) => &sends,
                        Err(_) => &refuses,
                    };
                    counts.fetch_add(1, Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_micros(100));
            }
        });
        Self { is_over, sent, refused, thread: Some(thread) }
    }

    /// How many the kernel took, and how many it refused or had no way for.
    pub fn counts(&self) -> (u64, u64) {
        (self.sent.load(Ordering::Relaxed), self.refused.load(Ordering::Relaxed))
    }

    /// Waits until it was refused `times` more.
    pub fn is_refused(&self, times: u64) {
        let before = self.counts().1;
        super::until(|| self.counts().1 >= before + times);
    }
}
