//! What goes on and what stops, in a ward's words: of the connections that are open now, and of what the machine
//! offers and uses though it is idle.
//!
//! The one idea: people decide by "3 DICOM associations to the PACS go on; the print queue ward-7 stops", not
//! by addresses. Pure: the same things seen give the same lines. What the machine itself says is all there is
//! to say it by, and is shown as that.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use cordon_model::asset::{Direction, Lifeline, PortRange, Transport};
use cordon_model::look::{IdleService, KnownBy, OpenConnection};
use cordon_model::services::{Service, common};
use serde::{Deserialize, Serialize};

/// Names of print queues, or of folders, in one line; of more it is said how many.
const NAMED: usize = 5;

/// How something fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It stops.
    Stops,
    /// It is known by a name alone, which nobody looks up on that machine.
    MayStop,
    /// It goes on.
    GoesOn,
}

/// What fares alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// How it fares.
    pub fate: Fate,
    /// What it is: `3 DICOM associations to the PACS`, `the print queue ward-7`.
    pub what: String,
    /// Whether that is one thing.
    pub is_one: bool,
    /// What else is known of it.
    pub beside: Option<String>,
}

impl Flow {
    /// As people say it: `3 DICOM associations to the PACS go on (with 2 others)`.
    #[must_use]
    pub fn in_words(&self) -> String {
        let fares = match (self.fate, self.is_one) {
            (Fate::GoesOn, true) => "goes on",
            (Fate::GoesOn, false) => "go on",
            (Fate::Stops, true) => "stops",
            (Fate::Stops, false) => "stop",
            (Fate::MayStop, _) => "may stop",
        };
        match &self.beside {
            Some(beside) => format!("{} {fares} ({beside})", self.what),
            None => format!("{} {fares}", self.what),
        }
    }
}

impl Fate {
    fn of(goes_on: Option<bool>) -> Self {
        match goes_on {
            Some(true) => Self::GoesOn,
            Some(false) => Self::Stops,
            None => Self::MayStop,
        }
    }
}

/// What a flow is called: by the lifeline that it is, and by what its port is commonly used for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Called {
    lifeline: Option<String>,
    transport: Transport,
    port: u16,
    is_served_here: bool,
}

impl Called {
    fn service(&self) -> Option<&'static Service> {
        common(self.transport, self.port)
    }

    /// Without a number: `DICOM images`. Several ports may be of one name.
    fn name(&self) -> String {
        let (transport, port) = (word(self.transport), self.port);
        let common = self.service().map(|service| service.name.to_owned());
        let called = self.lifeline.clone().or(common);
        called.unwrap_or_else(|| format!("{transport} {port}"))
    }

    /// So many connections: `3 DICOM associations to the PACS`, and the lifeline's name if that is not in it.
    fn counted(&self, count: usize) -> (String, Option<String>) {
        let noun =
            self.service().map(|service| if count == 1 { service.one } else { service.many });
        let connections = if count == 1 { "connection" } else { "connections" };
        match (noun, &self.lifeline) {
            (Some(noun), Some(lifeline)) => {
                // "DICOM to the PACS" is told by "DICOM associations to the PACS".
                let short = noun.split(' ').next().unwrap_or(noun);
                match lifeline.strip_prefix(short).filter(|rest| rest.starts_with(' ')) {
                    Some(rest) => (format!("{count} {noun}{rest}"), None),
                    None => (format!("{count} {noun}"), Some(lifeline.clone())),
                }
            }
            (Some(noun), None) => (format!("{count} {noun}"), None),
            (None, Some(lifeline)) => (format!("{count} {connections} of {lifeline}"), None),
            (None, None) => (format!("{count} {connections} at {}", self.name()), None),
        }
    }
}

/// How what is open and what is known fare, what stops first.
#[must_use]
pub fn flows(
    connections: &[OpenConnection],
    services: &[IdleService],
    lifelines: &[Lifeline],
) -> Vec<Flow> {
    let open = open(connections, lifelines);
    let mut flows: Vec<Flow> = Vec::new();
    for ((goes_on, _, is_served_here), of) in &open {
        let count = of.connections;
        let (what, lifeline) = of.called.counted(count);
        let with = match of.peers.len() {
            1 => "with one other".to_owned(),
            many => format!("with {many} others"),
        };
        let here = is_served_here.then(|| "served here".to_owned());
        let beside: Vec<String> = lifeline.into_iter().chain(here).chain([with]).collect();
        flows.push(Flow {
            fate: Fate::of(Some(*goes_on)),
            what,
            is_one: count == 1,
            beside: Some(beside.join(", ")),
        });
    }
    let is_open = |name: &str, is_served_here: bool| {
        open.keys().any(|(_, of, here)| of == name && *here == is_served_here)
    };
    flows.extend(named(services, "print queue", |by| match by {
        KnownBy::PrintQueue(name) => Some(name),
        _ => None,
    }));
    flows.extend(named(services, "folder", |by| match by {
        KnownBy::NetworkFolder(name) => Some(name),
        _ => None,
    }));
    flows.extend(used(services, lifelines, is_open));
    flows.extend(waiting(services, lifelines, is_open));
    flows.sort_by_key(|flow| flow.fate);
    flows
}

/// Connections that fare alike and are called alike.
struct Open {
    called: Called,
    connections: usize,
    peers: BTreeSet<IpAddr>,
}

/// By whether they go on, their name, and whether the service is here.
fn open(
    connections: &[OpenConnection],
    lifelines: &[Lifeline],
) -> BTreeMap<(bool, String, bool), Open> {
    let mut groups: BTreeMap<_, Open> = BTreeMap::new();
    for connection in connections {
        let called = called(connection, lifelines);
        let key = (connection.goes_on, called.name(), called.is_served_here);
        let group =
            groups.entry(key).or_insert(Open { called, connections: 0, peers: BTreeSet::new() });
        group.connections += 1;
        group.peers.insert(connection.remote.ip());
    }
    groups
}

/// Print queues or folders, which people know by their names: those that fare alike in one line.
fn named(
    services: &[IdleService],
    kind: &str,
    name_of: impl Fn(&KnownBy) -> Option<&String>,
) -> Vec<Flow> {
    let mut by_fate: BTreeMap<Fate, Vec<&String>> = BTreeMap::new();
    for service in services {
        if let Some(name) = name_of(&service.known_by) {
            by_fate.entry(Fate::of(service.goes_on)).or_default().push(name);
        }
    }
    let line = |(fate, names): (Fate, Vec<&String>)| {
        let mut listed: Vec<&str> = names.iter().take(NAMED).map(|name| name.as_str()).collect();
        let more = format!("{} more", names.len().saturating_sub(NAMED));
        if names.len() > NAMED {
            listed.push(&more);
        }
        let is_one = names.len() == 1;
        let (plural, last) = (if is_one { "" } else { "s" }, listed.pop().unwrap_or_default());
        let listed = match listed.is_empty() {
            true => last.to_owned(),
            false => format!("{} and {last}", listed.join(", ")),
        };
        let beside = (fate == Fate::MayStop)
            .then(|| "its address is not known here: a lifeline may keep it".to_owned());
        Flow { fate, what: format!("the {kind}{plural} {listed}"), is_one, beside }
    };
    by_fate.into_iter().map(line).collect()
}

/// What the machine used lately and has no connection to now.
fn used(
    services: &[IdleService],
    lifelines: &[Lifeline],
    is_open: impl Fn(&str, bool) -> bool,
) -> Vec<Flow> {
    // What stands there by its own name is not said again by its port.
    let has_name = |peer: IpAddr, port: u16| {
        services.iter().any(|known| {
            !known.called().is_empty() && known.peer == Some(peer) && known.port == port
        })
    };
    let mut groups: BTreeMap<(Fate, String), (bool, u64)> = BTreeMap::new();
    for service in services {
        let (KnownBy::Used(ago), Some(peer)) = (&service.known_by, service.peer) else { continue };
        let lifeline = lifelines.iter().find(|lifeline| {
            lifeline.direction == Direction::Outbound
                && is_over(lifeline, service)
                && lifeline.peer.contains(&peer)
        });
        let called = called_idle(service, lifeline, false);
        let name = called.name();
        if is_open(&name, false) || has_name(peer, service.port) {
            continue;
        }
        let is_one = is_singular(&called);
        let group = groups.entry((Fate::of(service.goes_on), name)).or_insert((is_one, *ago));
        group.1 = group.1.min(*ago);
    }
    let line = |((fate, what), (is_one, ago)): (_, (bool, u64))| Flow {
        fate,
        what,
        is_one,
        beside: Some(format!("nothing is open now; last used {}", ago_in_words(ago))),
    };
    groups.into_iter().map(line).collect()
}

/// What waits here for others, of whom nobody is connected now.
fn waiting(
    services: &[IdleService],
    lifelines: &[Lifeline],
    is_open: impl Fn(&str, bool) -> bool,
) -> Vec<Flow> {
    let mut lines = BTreeMap::new();
    for service in services.iter().filter(|known| known.known_by == KnownBy::Waiting) {
        let lifeline = lifelines.iter().find(|lifeline| {
            lifeline.direction == Direction::Inbound && is_over(lifeline, service)
        });
        let called = called_idle(service, lifeline, true);
        // A port that nobody declared and nobody knows tells a ward nothing.
        let is_told = called.lifeline.is_some() || called.service().is_some();
        let name = called.name();
        if !is_told || is_open(&name, true) {
            continue;
        }
        let fate = Fate::of(service.goes_on);
        let what = if called.lifeline.is_some() { name } else { format!("{name} served here") };
        let beside = Some("nobody is connected now".to_owned());
        let is_one = is_singular(&called);
        lines.insert((fate, what.clone()), Flow { fate, what, is_one, beside });
    }
    lines.into_values().collect()
}

fn called_idle(service: &IdleService, lifeline: Option<&Lifeline>, is_served_here: bool) -> Called {
    let lifeline = lifeline.map(|lifeline| lifeline.name.clone());
    let (transport, port) = (service.transport, service.port);
    Called { lifeline, transport, port, is_served_here }
}

fn is_over(lifeline: &Lifeline, service: &IdleService) -> bool {
    lifeline.transport == service.transport && lifeline.ports.overlaps(PortRange::one(service.port))
}

/// A lifeline is one; of what is common the names of several end so.
fn is_singular(called: &Called) -> bool {
    called.lifeline.is_some() || called.service().is_none_or(|service| !is_plural(service.name))
}

fn is_plural(name: &str) -> bool {
    name.split(" (").next().is_some_and(|name| name.ends_with('s') && name != "looking up names")
}

fn ago_in_words(seconds: u64) -> String {
    match (seconds / 60, seconds / 3600, seconds / 86_400) {
        (0 | 1, ..) => "a moment ago".to_owned(),
        (minutes, 0, _) => format!("{minutes} min ago"),
        (_, hours, 0 | 1) => format!("{hours} h ago"),
        (.., days) => format!("{days} days ago"),
    }
}

fn called(connection: &OpenConnection, lifelines: &[Lifeline]) -> Called {
    let (here, there) = (connection.local.port(), connection.remote.port());
    let transport = connection.transport;
    let port_of = |lifeline: &Lifeline| match lifeline.direction {
        Direction::Outbound => there,
        Direction::Inbound => here,
    };
    let declared = lifelines.iter().find(|lifeline| {
        lifeline.transport == transport
            && lifeline.ports.overlaps(PortRange::one(port_of(lifeline)))
            && lifeline.peer.contains(&connection.remote.ip())
    });
    if let Some(lifeline) = declared {
        return Called {
            lifeline: Some(lifeline.name.clone()),
            transport,
            port: port_of(lifeline),
            is_served_here: lifeline.direction == Direction::Inbound,
        };
    }
    // The side with the known port serves; of two unknown ports, the lower one.
    let is_served_here = match (common(transport, there), common(transport, here)) {
        (Some(_), _) => false,
        (None, Some(_)) => true,
        (None, None) => here < there,
    };
    let port = if is_served_here { here } else { there };
    Called { lifeline: None, transport, port, is_served_here }
}

fn word(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(local: &str, remote: &str, goes_on: bool) -> OpenConnection {
        let (local, remote) = (local.parse().unwrap(), remote.parse().unwrap());
        OpenConnection { transport: Transport::Tcp, local, remote, user: 1000, goes_on }
    }

    fn idle(
        known_by: KnownBy,
        port: u16,
        peer: Option<&str>,
        goes_on: Option<bool>,
    ) -> IdleService {
        let peer = peer.map(|peer| peer.parse().unwrap());
        IdleService { known_by, transport: Transport::Tcp, port, peer, goes_on }
    }

    fn lifeline(name: &str, direction: Direction, port: u16) -> Lifeline {
        Lifeline {
            name: name.into(),
            peer: "10.0.9.0/24".parse().unwrap(),
            transport: Transport::Tcp,
            ports: PortRange::one(port),
            direction,
            signed_off_by: None,
        }
    }

    fn words(
        open: &[OpenConnection],
        services: &[IdleService],
        lifelines: &[Lifeline],
    ) -> Vec<String> {
        flows(open, services, lifelines).iter().map(Flow::in_words).collect()
    }

    #[test]
    fn what_goes_on_and_what_stops_is_said_as_a_ward_says_it() {
        let open = [
            connection("10.0.0.5:40000", "10.0.9.7:11112", true),
            connection("10.0.0.5:40001", "10.0.9.7:11112", true),
            connection("10.0.0.5:40002", "10.0.9.8:11112", true),
            connection("10.0.0.5:40003", "10.0.0.20:9100", false),
            connection("10.0.0.5:445", "10.0.0.6:50000", false),
            connection("10.0.0.5:40004", "10.0.0.30:7777", false),
            connection("10.0.0.5:40005", "10.0.9.7:7000", true),
            connection("10.0.0.5:40006", "10.0.9.7:2575", true),
        ];
        let lifelines = [
            lifeline("DICOM to the PACS", Direction::Outbound, 11112),
            lifeline("laboratory", Direction::Outbound, 7000),
            lifeline("results", Direction::Outbound, 2575),
        ];
        assert_eq!(
            words(&open, &[], &lifelines),
            [
                "1 connection to a file share stops (served here, with one other)",
                "1 connection to a printer stops (with one other)",
                "1 connection at tcp 7777 stops (with one other)",
                "3 DICOM associations to the PACS go on (with 2 others)",
                "1 connection of laboratory goes on (with one other)",
                "1 HL7 connection goes on (results, with one other)",
            ]
        );
    }

    #[test]
    fn what_is_idle_is_said_too_and_nothing_twice() {
        let open = [
            connection("10.0.0.5:40000", "10.0.9.7:11112", true),
            connection("10.0.0.5:22", "10.0.0.6:50000", false),
        ];
        let queue = |name: &str| KnownBy::PrintQueue(name.into());
        let services = [
            idle(queue("ward-7"), 9100, Some("10.0.0.20"), Some(false)),
            idle(queue("labels"), 631, None, None),
            idle(KnownBy::NetworkFolder("/scans".into()), 445, Some("10.0.0.5"), Some(false)),
            idle(KnownBy::NetworkFolder("/home".into()), 2049, Some("10.0.0.6"), Some(false)),
            // The printer of the queue; open already; the lifeline's; and what nobody else tells.
            idle(KnownBy::Used(60), 9100, Some("10.0.0.20"), Some(false)),
            idle(KnownBy::Used(60), 11112, Some("10.0.9.8"), Some(true)),
            idle(KnownBy::Used(7_300), 2575, Some("10.0.9.7"), Some(true)),
            idle(KnownBy::Used(200_000), 445, Some("10.0.0.9"), Some(false)),
            idle(KnownBy::Used(300), 445, Some("10.0.0.8"), Some(false)),
            idle(KnownBy::Waiting, 22, None, Some(false)),
            idle(KnownBy::Waiting, 3389, None, Some(false)),
            idle(KnownBy::Waiting, 2762, None, Some(true)),
            idle(KnownBy::Waiting, 40_404, None, Some(false)),
        ];
        let lifelines = [
            lifeline("DICOM to the PACS", Direction::Outbound, 11112),
            lifeline("HL7 results", Direction::Outbound, 2575),
            lifeline("images from the CT", Direction::Inbound, 2762),
        ];
        assert_eq!(
            words(&open, &services, &lifelines),
            [
                "1 SSH session stops (served here, with one other)",
                "the print queue ward-7 stops",
                "the folders /scans and /home stop",
                "file shares stop (nothing is open now; last used 5 min ago)",
                "remote desktops served here stop (nobody is connected now)",
                "the print queue labels may stop (its address is not known here: a lifeline may keep it)",
                "1 DICOM association to the PACS goes on (with one other)",
                "HL7 results goes on (nothing is open now; last used 2 h ago)",
                "images from the CT goes on (nobody is connected now)",
            ]
        );
    }

    #[test]
    fn many_names_are_counted() {
        let queue = |number: u8| {
            let by = KnownBy::PrintQueue(format!("q{number}"));
            idle(by, 9100, Some("10.0.0.20"), Some(false))
        };
        let many: Vec<IdleService> = (1..=7).map(queue).collect();
        assert_eq!(words(&[], &many, &[]), ["the print queues q1, q2, q3, q4, q5 and 2 more stop"]);
    }
}
