//! What this machine offers and uses though it may be idle, and how each would fare under an isolation: print
//! queues, folders of other machines, what waits for others, and what was used lately.
//!
//! An open connection says what stops now; these say what people miss next. How each fares is told by the same
//! [`Intent`] that would carry the isolation out. Of what is known by a name alone nothing is looked up here, and
//! where only that could tell, it is said that it can't be told.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use cordon_model::asset::{Assignment, Direction, Lifeline, PortRange, Transport};
use cordon_model::look::{IdleService, KnownBy, MOST_SERVICES, SERVICE_BYTES};
use cordon_model::measure::Isolation;

use crate::contain::action::mounts::Mount;
use crate::contain::intent::{Connection, Intent, is_lateral};
use crate::contain::printers::PrintQueue;

/// Kinds of filesystems that are another machine's, and the port by which.
const FOLDERS: &[(&str, u16)] = &[("nfs", 2049), ("nfs4", 2049), ("cifs", 445), ("smb3", 445)];

/// What is known of a machine, before anybody asks how it fares.
#[derive(Debug, Default)]
pub struct Known {
    /// Its print queues.
    pub queues: Vec<PrintQueue>,
    /// Its mounts.
    pub mounts: Vec<Mount>,
    /// Where its programs wait for TCP.
    pub waiting: BTreeSet<SocketAddr>,
    /// What it used lately: peer, port, and how many seconds ago.
    pub used: Vec<(IpAddr, u16, u64)>,
}

/// How what is known fares, what people know by a name first; [`MOST_SERVICES`] at most.
#[must_use]
pub fn fates(
    known: &Known,
    intent: &Intent,
    assignment: &Assignment,
    own: &BTreeSet<IpAddr>,
) -> Vec<IdleService> {
    let to = |peer: IpAddr, port: u16| {
        let nobody = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        let remote = SocketAddr::new(peer.to_canonical(), port);
        let flow = Connection { transport: Transport::Tcp, local: nobody, remote, user: u32::MAX };
        intent.keeps(&flow, own)
    };
    let service = |known_by, port, peer, goes_on| IdleService {
        known_by,
        transport: Transport::Tcp,
        port,
        peer,
        goes_on,
    };
    let stays_here = |peer: &IpAddr| peer.is_loopback() || own.contains(peer);

    let queues = known.queues.iter().filter_map(|queue| {
        let peer: Option<IpAddr> = queue.host.parse().ok();
        if peer.as_ref().is_some_and(stays_here) || queue.host == "localhost" {
            return None;
        }
        let goes_on = match peer {
            Some(peer) => Some(to(peer, queue.port)),
            None => by_name(&queue.host, queue.port, intent, assignment),
        };
        Some(service(KnownBy::PrintQueue(queue.name.clone()), queue.port, peer, goes_on))
    });
    let folders = known.mounts.iter().filter_map(|mount| {
        let (_, port) = FOLDERS.iter().find(|(kind, _)| *kind == mount.kind)?;
        let peer = mount.address;
        if peer.as_ref().is_some_and(stays_here) {
            return None;
        }
        let goes_on = peer.map(|peer| to(peer, *port));
        let point = mount.point.to_string_lossy();
        Some(service(KnownBy::NetworkFolder(cut(&point)), *port, peer, goes_on))
    });
    let ports: BTreeSet<u16> = known
        .waiting
        .iter()
        .filter(|address| !address.ip().to_canonical().is_loopback())
        .map(SocketAddr::port)
        .collect();
    // Those that segment cuts first: a server of many ports may have more than are told.
    let (lateral, others): (Vec<u16>, Vec<u16>) =
        ports.into_iter().partition(|port| is_lateral(Transport::Tcp, *port));
    let waiting = lateral.into_iter().chain(others);
    let waiting =
        waiting.map(|port| service(KnownBy::Waiting, port, None, Some(is_reached(port, intent))));
    let used = known.used.iter().filter(|(peer, ..)| !stays_here(peer));
    let used = used.map(|(peer, port, ago)| {
        service(KnownBy::Used(*ago), *port, Some(*peer), Some(to(*peer, *port)))
    });
    queues.chain(folders).chain(used).chain(waiting).take(MOST_SERVICES).collect()
}

/// Whether a flow to whoever has this name goes on, as far as that can be told by the name.
fn by_name(host: &str, port: u16, intent: &Intent, assignment: &Assignment) -> Option<bool> {
    if intent.isolation == Isolation::Watch
        || intent.isolation == Isolation::Segment && !is_lateral(Transport::Tcp, port)
    {
        return Some(true);
    }
    let is_over = |lifeline: &Lifeline| {
        lifeline.direction == Direction::Outbound
            && lifeline.transport == Transport::Tcp
            && lifeline.ports.overlaps(PortRange::one(port))
    };
    let named = assignment
        .names
        .iter()
        .filter(|named| named.host.as_str().eq_ignore_ascii_case(host.trim_end_matches('.')));
    let mut lifelines = named.flat_map(|named| named.lifelines(assignment));
    if lifelines.any(is_over) {
        return Some(true);
    }
    // A lifeline that is known by its address alone may be this one.
    if intent.lifelines.iter().any(is_over) { None } else { Some(false) }
}

/// Whether others still reach what waits at a port: all, or those of a lifeline.
fn is_reached(port: u16, intent: &Intent) -> bool {
    let is_lifeline = intent.lifelines.iter().any(|lifeline| {
        lifeline.direction == Direction::Inbound
            && lifeline.transport == Transport::Tcp
            && lifeline.ports.overlaps(PortRange::one(port))
    });
    is_lifeline
        || match intent.isolation {
            Isolation::Watch => true,
            Isolation::Segment => !is_lateral(Transport::Tcp, port),
            Isolation::Full => false,
        }
}

fn cut(text: &str) -> String {
    let mut end = text.len().min(SERVICE_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use cordon_model::ids::MachineId;
    use cordon_model::named::NamedLifeline;
    use cordon_model::time::UtcNanos;

    use super::*;

    fn lifeline(name: &str, direction: Direction, peer: &str, port: u16) -> Lifeline {
        Lifeline {
            name: name.into(),
            peer: peer.parse().unwrap(),
            transport: Transport::Tcp,
            ports: PortRange::one(port),
            direction,
            signed_off_by: Some("Dr Osei".into()),
        }
    }

    fn queue(name: &str, host: &str, port: u16) -> PrintQueue {
        PrintQueue { name: name.into(), host: host.into(), port }
    }

    /// How each fares, by what people call it or by its port.
    fn told(isolation: Isolation, lifelines: Vec<Lifeline>) -> Vec<(String, Option<bool>)> {
        let machine = MachineId::new(UtcNanos::from_unix_nanos(0), [1; 10]);
        let mut assignment = Assignment::of("RJ1".parse().unwrap(), machine, "m");
        assignment.names = vec![NamedLifeline {
            name: "labels".into(),
            host: "labels.trust.example".parse().unwrap(),
            within: vec![],
        }];
        assignment.lifelines = lifelines;
        let mount = |point: &str, kind: &str, address: Option<[u8; 4]>| Mount {
            id: 1,
            device: (0, 1),
            root: "/".into(),
            point: point.into(),
            kind: kind.into(),
            address: address.map(IpAddr::from),
        };
        let known = Known {
            queues: vec![
                queue("ward-7", "10.0.0.20", 9100),
                queue("labels", "Labels.trust.example", 9100),
                queue("office", "files", 445),
                queue("here", "localhost", 631),
            ],
            mounts: vec![
                mount("/", "ext4", None),
                mount("/scans", "cifs", Some([10, 0, 0, 5])),
                mount("/home", "nfs4", Some([10, 0, 0, 6])),
                mount("/own", "nfs4", Some([10, 0, 0, 1])),
            ],
            waiting: ["0.0.0.0:3389", "127.0.0.1:631", "[::]:2575"]
                .map(|at| at.parse().unwrap())
                .into(),
            used: vec![([10, 0, 9, 7].into(), 11112, 60), ([10, 0, 0, 1].into(), 443, 5)],
        };
        let own = BTreeSet::from(["10.0.0.1".parse().unwrap()]);
        let intent = Intent::new(isolation, &assignment, 990);
        let fates = fates(&known, &intent, &assignment, &own);
        let named = |one: &IdleService| match one.called() {
            "" => one.port.to_string(),
            name => name.to_owned(),
        };
        fates.iter().map(|one| (named(one), one.goes_on)).collect()
    }

    fn as_told(expected: &[(&str, Option<bool>)]) -> Vec<(String, Option<bool>)> {
        expected.iter().map(|(name, goes_on)| ((*name).to_owned(), *goes_on)).collect()
    }

    const YES: Option<bool> = Some(true);
    const NO: Option<bool> = Some(false);

    #[test]
    fn segment_stops_shares_and_remote_desktops_and_lets_printers_go_on() {
        let told = told(Isolation::Segment, vec![]);
        let expected = [
            ("ward-7", YES),
            ("labels", YES),
            ("office", NO),
            ("/scans", NO),
            ("/home", YES),
            ("11112", YES),
            ("3389", NO),
            ("2575", YES),
        ];
        assert_eq!(told, as_told(&expected));
    }

    #[test]
    fn full_stops_all_but_lifelines_and_what_only_a_name_could_tell_is_not_told() {
        let expected = [
            ("ward-7", NO),
            ("labels", NO),
            ("office", NO),
            ("/scans", NO),
            ("/home", NO),
            ("11112", NO),
            ("3389", NO),
            ("2575", NO),
        ];
        assert_eq!(told(Isolation::Full, vec![]), as_told(&expected));
        let lifelines = vec![
            lifeline("labels", Direction::Outbound, "10.0.0.21/32", 9100),
            lifeline("files", Direction::Outbound, "10.0.0.5/32", 445),
            lifeline("PACS", Direction::Outbound, "10.0.9.0/24", 11112),
            lifeline("HL7", Direction::Inbound, "10.0.9.0/24", 2575),
        ];
        let expected = [
            // Another printer's lifeline does not keep it.
            ("ward-7", NO),
            ("labels", YES),
            ("office", None),
            ("/scans", YES),
            ("/home", NO),
            ("11112", YES),
            ("3389", NO),
            ("2575", YES),
        ];
        assert_eq!(told(Isolation::Full, lifelines), as_told(&expected));
    }
}
