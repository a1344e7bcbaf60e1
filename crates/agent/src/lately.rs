//! Which known services this machine has used lately: what it opened connections to, by port and peer.
//!
//! The one idea: a printer or a file share that nobody uses at this moment has no open connection, and an
//! isolation stops it all the same. So the sensor's thread notes here what goes by; nothing is asked of anybody.
//! Kept in memory, since the agent's start.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use cordon_model::asset::Transport;
use cordon_model::services;
use cordon_model::time::BootNanos;

use crate::sensor::{Connection, Direction};

/// How long a use counts: a week, so that what is used on working days is there on Monday.
const LATELY: Duration = Duration::from_secs(7 * 24 * 3600);

/// Peers of one port that are remembered; the one that was used longest ago gives way. What tries the whole
/// network at one port pushes nothing out but that port's. 32 peers of some 30 known ports, 32 bytes each:
/// 30 KiB.
const PEERS_PER_PORT: usize = 32;

/// What was used.
#[derive(Debug, Default)]
pub struct Lately {
    used: BTreeMap<u16, Vec<(IpAddr, BootNanos)>>,
}

impl Lately {
    /// A connection was opened.
    pub fn note(&mut self, connection: &Connection) {
        let (peer, port) = (connection.remote.address, connection.remote.port);
        let is_use = connection.direction == Direction::Outgoing
            && !peer.is_loopback()
            && services::common(Transport::Tcp, port).is_some();
        if is_use {
            self.used_at(peer, port, connection.boot_time);
        }
    }

    fn used_at(&mut self, peer: IpAddr, port: u16, at: BootNanos) {
        let peers = self.used.entry(port).or_default();
        if let Some((_, last)) = peers.iter_mut().find(|(known, _)| *known == peer) {
            *last = (*last).max(at);
            return;
        }
        if peers.len() >= PEERS_PER_PORT {
            let oldest = peers.iter().enumerate().min_by_key(|(_, (_, last))| *last);
            if let Some((oldest, _)) = oldest {
                peers.swap_remove(oldest);
            }
        }
        peers.push((peer, at));
    }

    /// What was used within a week before `now`, each with how long ago in seconds; the newest first.
    #[must_use]
    pub fn used(&self, now: BootNanos) -> Vec<(IpAddr, u16, u64)> {
        let all = self.used.iter().flat_map(|(port, peers)| {
            peers.iter().map(move |(peer, last)| (*peer, *port, now.since(*last)))
        });
        let mut lately: Vec<_> = all
            .filter(|(_, _, ago)| *ago <= LATELY)
            .map(|(peer, port, ago)| (peer, port, ago.as_secs()))
            .collect();
        lately.sort_by_key(|(_, _, ago)| *ago);
        lately
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn second(second: u64) -> BootNanos {
        BootNanos(second * 1_000_000_000)
    }

    fn peer(number: u8) -> IpAddr {
        [10, 0, 0, number].into()
    }

    #[test]
    fn what_was_used_is_remembered_for_a_week_and_a_scan_of_one_port_pushes_out_no_other() {
        let mut lately = Lately::default();
        lately.used_at(peer(20), 9100, second(10));
        lately.used_at(peer(20), 9100, second(100));
        for number in 0..=255 {
            lately.used_at(peer(number), 445, second(200 + u64::from(number)));
        }
        let used = lately.used(second(500));
        assert_eq!(used.len(), PEERS_PER_PORT + 1);
        assert_eq!(used[0], (peer(255), 445, 45), "the newest first");
        assert_eq!(used.last(), Some(&(peer(20), 9100, 400)));
        assert_eq!(lately.used(second(100 + 7 * 24 * 3600 + 1)).len(), PEERS_PER_PORT);
        assert!(lately.used(second(9 * 24 * 3600)).is_empty());
    }
}
