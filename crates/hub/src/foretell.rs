//! What goes on and what stops, said of the connections that are open now, in a ward's words.
//!
//! The one idea: people decide by "3 DICOM associations to the PACS go on; 1 print job stops", not by
//! addresses. Pure: the same connections give the same lines. What the machine itself says is all there is
//! to say it by, and is shown as that.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use cordon_model::asset::{Direction, Lifeline, PortRange, Transport};
use cordon_model::look::OpenConnection;
use serde::{Deserialize, Serialize};

/// Connections of one service that fare alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Flow {
    /// Whether they go on.
    pub goes_on: bool,
    /// The declared lifeline that they are, by its name; else what the port is commonly used for.
    pub name: String,
    /// Whether this machine serves, or uses, the service.
    pub is_served_here: bool,
    /// How many connections.
    pub connections: usize,
    /// With how many others.
    pub peers: usize,
}

impl Flow {
    /// As people say it: `3 DICOM associations with 2 others go on`.
    #[must_use]
    pub fn in_words(&self) -> String {
        let Self { name, connections, peers, .. } = self;
        let fate = match (self.goes_on, *connections) {
            (true, 1) => "goes on",
            (true, _) => "go on",
            (false, 1) => "stops",
            (false, _) => "stop",
        };
        let (is, others) = (
            if *connections == 1 { "connection" } else { "connections" },
            match peers {
                1 => "one other".to_owned(),
                many => format!("{many} others"),
            },
        );
        let side = if self.is_served_here { " (served here)" } else { "" };
        format!("{name}{side}: {connections} {is} with {others} {fate}")
    }
}

/// What a port is commonly used for: to name a flow that nobody declared, and for nothing else.
const COMMON: &[(Transport, u16, &str)] = &[
    (Transport::Tcp, 22, "SSH"),
    (Transport::Tcp, 25, "mail"),
    (Transport::Tcp, 53, "names (DNS)"),
    (Transport::Udp, 53, "names (DNS)"),
    (Transport::Tcp, 80, "web"),
    (Transport::Tcp, 88, "signing in to the domain"),
    (Transport::Tcp, 104, "DICOM images"),
    (Transport::Udp, 123, "time"),
    (Transport::Tcp, 135, "Windows remote procedures"),
    (Transport::Tcp, 139, "file shares"),
    (Transport::Tcp, 389, "the directory"),
    (Transport::Tcp, 443, "web"),
    (Transport::Udp, 443, "web"),
    (Transport::Tcp, 445, "file shares"),
    (Transport::Tcp, 515, "printing"),
    (Transport::Tcp, 631, "printing"),
    (Transport::Tcp, 636, "the directory"),
    (Transport::Tcp, 1433, "a database (SQL Server)"),
    (Transport::Tcp, 1494, "Citrix sessions"),
    (Transport::Tcp, 1521, "a database (Oracle)"),
    (Transport::Tcp, 2575, "HL7 messages"),
    (Transport::Tcp, 2598, "Citrix sessions"),
    (Transport::Tcp, 2762, "DICOM images"),
    (Transport::Tcp, 3306, "a database (MySQL)"),
    (Transport::Tcp, 3389, "remote desktops"),
    (Transport::Udp, 3389, "remote desktops"),
    (Transport::Tcp, 5432, "a database (PostgreSQL)"),
    (Transport::Tcp, 5900, "screen sharing"),
    (Transport::Tcp, 5985, "Windows remote management"),
    (Transport::Tcp, 5986, "Windows remote management"),
    (Transport::Tcp, 9100, "printing"),
    (Transport::Tcp, 11112, "DICOM images"),
];

/// What `connections` come to, those that stop first.
#[must_use]
pub fn flows(connections: &[OpenConnection], lifelines: &[Lifeline]) -> Vec<Flow> {
    let mut groups: BTreeMap<(bool, String, bool), (usize, BTreeSet<IpAddr>)> = BTreeMap::new();
    for connection in connections {
        let (name, is_served_here) = name_of(connection, lifelines);
        let group = groups.entry((connection.goes_on, name, is_served_here)).or_default();
        group.0 += 1;
        group.1.insert(connection.remote.ip());
    }
    let flow =
        |((goes_on, name, is_served_here), (connections, peers)): (_, (usize, BTreeSet<_>))| Flow {
            goes_on,
            name,
            is_served_here,
            connections,
            peers: peers.len(),
        };
    groups.into_iter().map(flow).collect()
}

fn name_of(connection: &OpenConnection, lifelines: &[Lifeline]) -> (String, bool) {
    let (here, there) = (connection.local.port(), connection.remote.port());
    let declared = lifelines.iter().find(|lifeline| {
        let port = match lifeline.direction {
            Direction::Outbound => there,
            Direction::Inbound => here,
        };
        lifeline.transport == connection.transport
            && lifeline.ports.overlaps(PortRange::one(port))
            && lifeline.peer.contains(&connection.remote.ip())
    });
    if let Some(lifeline) = declared {
        return (lifeline.name.clone(), lifeline.direction == Direction::Inbound);
    }
    let common = |port: u16| {
        let known = COMMON.iter().find(|(of, at, _)| *of == connection.transport && *at == port);
        known.map(|(_, _, name)| (*name).to_owned())
    };
    // The side with the known port serves; of two unknown ports, the lower one.
    if let Some(name) = common(there) {
        return (name, false);
    }
    if let Some(name) = common(here) {
        return (name, true);
    }
    let transport = match connection.transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    };
    (format!("{transport} {}", there.min(here)), here < there)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(local: &str, remote: &str, goes_on: bool) -> OpenConnection {
        let (local, remote) = (local.parse().unwrap(), remote.parse().unwrap());
        OpenConnection { transport: Transport::Tcp, local, remote, user: 1000, goes_on }
    }

    #[test]
    fn what_goes_on_and_what_stops_is_said_as_a_ward_says_it() {
        let pacs = Lifeline {
            name: "DICOM to the PACS".into(),
            peer: "10.0.9.0/24".parse().unwrap(),
            transport: Transport::Tcp,
            ports: PortRange::one(11112),
            direction: Direction::Outbound,
            signed_off_by: None,
        };
        let open = [
            connection("10.0.0.5:40000", "10.0.9.7:11112", true),
            connection("10.0.0.5:40001", "10.0.9.7:11112", true),
            connection("10.0.0.5:40002", "10.0.9.8:11112", true),
            connection("10.0.0.5:40003", "10.0.0.20:9100", false),
            connection("10.0.0.5:445", "10.0.0.6:50000", false),
            connection("10.0.0.5:40004", "10.0.0.30:7777", false),
        ];
        let words: Vec<String> = flows(&open, &[pacs]).iter().map(Flow::in_words).collect();
        assert_eq!(
            words,
            [
                "file shares (served here): 1 connection with one other stops",
                "printing: 1 connection with one other stops",
                "tcp 7777: 1 connection with one other stops",
                "DICOM to the PACS: 3 connections with 2 others go on",
            ]
        );
    }

    #[test]
    fn ports_are_named_once_and_in_order() {
        assert!(COMMON.is_sorted_by_key(|(_, port, _)| *port));
    }
}
