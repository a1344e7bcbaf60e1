//! What an isolation is meant to do to this machine's flows, before any mechanism.
//!
//! The one idea: an [`Intent`] is everything that the decision depends on (the mode, the organisation's
//! signed assignment, the agent's user), and nothing of it comes from the machine that is contained.
//! [`super::ruleset`] turns it into rules; here is what it says of sockets that are already open.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use cordon_model::asset::{
    Assignment, Direction, LATERAL_MOVEMENT, Lifeline, PortRange, Transport,
};
use cordon_model::measure::Isolation;

/// Hub addresses that one assignment may name: a hub and its standbys on two families; each costs
/// three rules.
pub const HUB_ADDRESSES: usize = 16;

/// Everything that decides which flows live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// How far.
    pub isolation: Isolation,
    /// Where the hub's link is.
    pub hub: Vec<SocketAddr>,
    /// The flows that live.
    pub lifelines: Vec<Lifeline>,
    /// The agent's own user: the hub's link is open to nobody else.
    pub agent_user: u32,
}

/// A connection as its socket on this machine shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// Its transport.
    pub transport: Transport,
    /// This machine's side.
    pub local: SocketAddr,
    /// The other side.
    pub remote: SocketAddr,
    /// Whose socket it is.
    pub user: u32,
}

impl Intent {
    /// What `assignment` and `isolation` mean on a machine whose agent runs as `agent_user`.
    #[must_use]
    pub fn new(isolation: Isolation, assignment: &Assignment, agent_user: u32) -> Self {
        Self {
            isolation,
            hub: assignment
                .hub
                .iter()
                .map(|hub| SocketAddr::new(hub.ip().to_canonical(), hub.port()))
                .collect(),
            lifelines: assignment.lifelines.clone(),
            agent_user,
        }
    }

    /// Whether an open connection may stay. `own` are this machine's addresses: what it says to itself
    /// never leaves it.
    #[must_use]
    pub fn keeps(&self, connection: &Connection, own: &BTreeSet<IpAddr>) -> bool {
        let remote = connection.remote.ip();
        if remote.is_loopback() || own.contains(&remote) {
            return true;
        }
        match self.isolation {
            Isolation::Watch => true,
            _ if self.is_hub_link(connection) || self.is_lifeline(connection) => true,
            Isolation::Full => false,
            Isolation::Segment => ![connection.local.port(), connection.remote.port()]
                .into_iter()
                .any(|port| is_lateral(connection.transport, port)),
        }
    }

    fn is_hub_link(&self, connection: &Connection) -> bool {
        connection.transport == Transport::Tcp
            && connection.user == self.agent_user
            && self.hub.contains(&connection.remote)
    }

    fn is_lifeline(&self, connection: &Connection) -> bool {
        self.lifelines.iter().any(|lifeline| belongs_to(lifeline, connection))
    }
}

/// Whether `connection` is one of the flows that `lifeline` declares.
#[must_use]
pub fn belongs_to(lifeline: &Lifeline, connection: &Connection) -> bool {
    let service = match lifeline.direction {
        Direction::Outbound => connection.remote,
        Direction::Inbound => connection.local,
    };
    lifeline.transport == connection.transport
        && lifeline.ports.overlaps(PortRange::one(service.port()))
        && lifeline.peer.contains(&connection.remote.ip())
}

/// Whether an open connection may be an inbound one of `lifelines` whose port is redirected on this machine: only
/// connection tracking knows the port that its peer opened. A port that worms move by is not reached so.
#[must_use]
pub fn may_be_redirected(lifelines: &[Lifeline], connection: &Connection) -> bool {
    let waits_at = connection.local.port();
    let is_from_peer = |lifeline: &Lifeline| {
        lifeline.direction == Direction::Inbound
            && lifeline.transport == connection.transport
            && lifeline.peer.contains(&connection.remote.ip())
    };
    !LATERAL_MOVEMENT.iter().any(|(_, ports)| ports.overlaps(PortRange::one(waits_at)))
        && lifelines.iter().any(is_from_peer)
}

/// Whether `port` is one that **segment** cuts.
#[must_use]
pub fn is_lateral(transport: Transport, port: u16) -> bool {
    LATERAL_MOVEMENT
        .iter()
        .any(|(of, ports)| *of == transport && ports.overlaps(PortRange::one(port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intent(isolation: Isolation) -> Intent {
        Intent {
            isolation,
            hub: vec!["10.0.0.1:7443".parse().unwrap()],
            lifelines: vec![Lifeline {
                name: "DICOM to the PACS".into(),
                peer: "10.0.9.0/24".parse().unwrap(),
                transport: Transport::Tcp,
                ports: PortRange::one(11112),
                direction: Direction::Outbound,
                signed_off_by: None,
            }],
            agent_user: 990,
        }
    }

    fn connection(local: &str, remote: &str, user: u32) -> Connection {
        Connection {
            transport: Transport::Tcp,
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
            user,
        }
    }

    #[test]
    fn full_keeps_the_agents_link_lifelines_and_what_stays_on_the_machine() {
        let own = BTreeSet::from(["10.0.0.5".parse().unwrap()]);
        let full = intent(Isolation::Full);
        let keeps = |local, remote, user| full.keeps(&connection(local, remote, user), &own);
        assert!(keeps("10.0.0.5:40000", "10.0.0.1:7443", 990));
        assert!(!keeps("10.0.0.5:40000", "10.0.0.1:7443", 0), "the link is the agent's alone");
        assert!(!keeps("10.0.0.5:40000", "10.0.0.1:7444", 990));
        assert!(keeps("10.0.0.5:40000", "10.0.9.7:11112", 1000));
        assert!(!keeps("10.0.0.5:11112", "10.0.9.7:40000", 1000), "the other direction");
        assert!(keeps("127.0.0.1:1", "127.0.0.1:445", 0));
        assert!(keeps("10.0.0.5:1", "10.0.0.5:445", 0));
    }

    #[test]
    fn segment_cuts_lateral_movement_both_ways_and_nothing_else() {
        let own = BTreeSet::new();
        let segment = intent(Isolation::Segment);
        let keeps = |local, remote| segment.keeps(&connection(local, remote, 0), &own);
        assert!(!keeps("10.0.0.5:40000", "10.0.0.9:445"));
        assert!(!keeps("10.0.0.5:445", "10.0.0.9:40000"));
        assert!(!keeps("[fd00::5]:40000", "[fd00::9]:3389"));
        assert!(keeps("10.0.0.5:40000", "10.0.0.9:443"));
    }
}
