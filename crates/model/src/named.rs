//! Lifelines that people know by name: `files.trust.example`, not `10.20.0.5`.
//!
//! The one idea: a name is a way for people to *say* a flow, and never a thing that an isolation depends on.
//! The hub resolves it, the signer pins what it gave as ordinary [`Lifeline`]s to single addresses, and the
//! name goes along only so that the hub can look again. On the suspect machine nothing is resolved.
//!
//! What may be pinned later without a person is a network that a person gave and that is signed with the
//! rest ([`NamedLifeline::within`]); never over a port that intruders move by.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::asset::{Assignment, Direction, Lifeline, LifelineError, PortRange, Transport};
use crate::limits;

/// A name that the hub can look up: letters in lower case, at least two labels, no dot at its end.
///
/// Two labels, because one alone is completed by the search list of whoever resolves it, and so means
/// something else elsewhere. The last begins with a letter, because resolvers read `10.20.5` as an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

impl HostName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text that is no name to look up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no full name of a machine, such as files.trust.example")]
pub struct NoHostName {
    /// Its beginning.
    text: String,
}

impl FromStr for HostName {
    type Err = NoHostName;

    fn from_str(text: &str) -> Result<Self, NoHostName> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let last = name.rsplit('.').next().unwrap_or_default();
        let is_name = name.len() <= 253
            && name.contains('.')
            && name.split('.').all(is_label)
            && last.starts_with(|letter: char| letter.is_ascii_lowercase());
        if is_name {
            Ok(Self(name))
        } else {
            Err(NoHostName { text: text.chars().take(64).collect() })
        }
    }
}

/// RFC 1035 section 2.3.1, with the underscore that real names have.
fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        && !label.starts_with('-')
}

impl TryFrom<String> for HostName {
    type Error = NoHostName;

    fn try_from(text: String) -> Result<Self, NoHostName> {
        text.parse()
    }
}

impl From<HostName> for String {
    fn from(name: HostName) -> Self {
        name.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A name whose addresses are pinned as lifelines, in the same [`Assignment`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedLifeline {
    /// What people call it. The lifelines of this name are its pinned addresses, one each for every service.
    pub name: String,
    /// What the hub looks up.
    pub host: HostName,
    /// Networks within which the signer pins further addresses of the name by itself, where the port is none
    /// that intruders move by. None: each further address is for people to confirm.
    #[serde(default)]
    pub within: Vec<IpNet>,
}

impl NamedLifeline {
    /// Whether `address` is within what a person said.
    #[must_use]
    pub fn reaches(&self, address: IpAddr) -> bool {
        self.within.iter().any(|network| network.contains(&address))
    }

    /// The addresses that `assignment` pins for it.
    #[must_use]
    pub fn pinned(&self, assignment: &Assignment) -> BTreeSet<IpAddr> {
        self.lifelines(assignment).map(|lifeline| lifeline.peer.addr()).collect()
    }

    /// The lifelines that `assignment` has for it.
    pub fn lifelines<'a>(
        &'a self,
        assignment: &'a Assignment,
    ) -> impl Iterator<Item = &'a Lifeline> {
        assignment.lifelines.iter().filter(|lifeline| lifeline.name == self.name)
    }

    fn check(&self, assignment: &Assignment) -> Result<(), LifelineError> {
        let wrong =
            |why: &str| Err(LifelineError::Named { name: self.name.clone(), why: why.to_owned() });
        if assignment.names.iter().filter(|other| other.name == self.name).count() > 1 {
            return wrong("two names are called so: a lifeline by name has a name of its own");
        }
        if self.within.len() > limits::NETWORKS_PER_NAME {
            return wrong("it is bound to more networks than are taken");
        }
        if self.within.iter().any(|network| network.prefix_len() == 0) {
            return wrong("all addresses are no bound: give the network that the name stays in");
        }
        let is_single =
            |lifeline: &Lifeline| lifeline.peer.prefix_len() == lifeline.peer.max_prefix_len();
        if !self.lifelines(assignment).all(is_single) {
            return wrong("a lifeline to a network is called so too: give it another name");
        }
        let pinned = self.pinned(assignment);
        if pinned.is_empty() {
            return wrong("none of its addresses is pinned: a name alone keeps nothing alive");
        }
        if pinned.len() > limits::ADDRESSES_PER_NAME {
            return wrong("it has more addresses than are pinned for one name");
        }
        if !pinned.into_iter().all(is_peer) {
            return wrong("one of its addresses is of no other machine");
        }
        Ok(())
    }
}

/// Accepts what an assignment says of names.
pub(crate) fn check(assignment: &Assignment) -> Result<(), LifelineError> {
    if assignment.names.len() > limits::NAMES_PER_MACHINE {
        return Err(LifelineError::TooManyNames { count: assignment.names.len() });
    }
    assignment.names.iter().try_for_each(|named| named.check(assignment))
}

/// Whether an address can be another machine's: what filters of names answer (`0.0.0.0`, `127.0.0.1`) and
/// what is meant for many is not.
#[must_use]
pub fn is_peer(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            !(v4.is_unspecified()
                || v4.is_loopback()
                || v4.is_multicast()
                || v4.is_broadcast()
                || v4.is_link_local())
        }
        IpAddr::V6(v6) => {
            !(v6.is_unspecified()
                || v6.is_loopback()
                || v6.is_multicast()
                || v6.is_unicast_link_local())
        }
    }
}

/// A service at a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Its transport.
    pub transport: Transport,
    /// Its ports.
    pub ports: PortRange,
    /// Which side opens the flow.
    pub direction: Direction,
    /// Who accepted the risk, where it uses a lateral-movement port.
    #[serde(default)]
    pub signed_off_by: Option<String>,
}

impl Service {
    /// The lifeline that keeps it, at one address.
    #[must_use]
    pub fn at(&self, address: IpAddr, name: &str) -> Lifeline {
        let Self { transport, ports, direction, ref signed_off_by } = *self;
        let (name, signed_off_by) = (name.to_owned(), signed_off_by.clone());
        let peer = address.to_canonical().into();
        Lifeline { name, peer, transport, ports, direction, signed_off_by }
    }
}

/// A lifeline by name as a person says it, before it is resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedDraft {
    /// The name, what it is called, and its bound.
    pub named: NamedLifeline,
    /// Its addresses, if the person gives them; none: what the hub resolves the name to.
    #[serde(default)]
    pub at: Vec<IpAddr>,
    /// What is needed there.
    pub services: Vec<Service>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::MachineId;
    use crate::time::UtcNanos;

    fn host(text: &str) -> HostName {
        text.parse().unwrap()
    }

    fn assignment(within: &str, peers: &[&str]) -> Assignment {
        let machine = MachineId::new(UtcNanos::from_unix_nanos(0), [1; 10]);
        let service = Service {
            transport: Transport::Tcp,
            ports: PortRange::one(104),
            direction: Direction::Outbound,
            signed_off_by: None,
        };
        let mut assignment = Assignment::of("RJ1".parse().unwrap(), machine, "ct-1");
        assignment.names = vec![NamedLifeline {
            name: "PACS".into(),
            host: host("pacs.trust.example"),
            within: vec![within.parse().unwrap()],
        }];
        assignment.lifelines =
            peers.iter().map(|peer| service.at(peer.parse().unwrap(), "PACS")).collect();
        assignment
    }

    #[test]
    fn a_name_is_a_full_name_and_never_an_address_in_disguise() {
        assert_eq!(host("Files.Trust.Example.").as_str(), "files.trust.example");
        let long = format!("{}.example", "a".repeat(64));
        for text in [
            "files",
            "10.0.0.1",
            "10.20.5",
            "a..b",
            ".a.b",
            "a b.c",
            "",
            "-a.b",
            "x.1",
            long.as_str(),
        ] {
            assert!(text.parse::<HostName>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_is_signed_only_with_addresses_that_keep_it_alive() {
        assert!(assignment("10.0.0.0/8", &["10.0.0.1", "fd00::1"]).check().is_ok());
        assert!(assignment("10.0.0.0/8", &[]).check().is_err(), "a name alone keeps nothing alive");
        assert!(assignment("0.0.0.0/0", &["10.0.0.1"]).check().is_err(), "no bound at all");
        assert!(assignment("10.0.0.0/8", &["127.0.0.1"]).check().is_err());
        let many: Vec<String> = (1..=17).map(|last| format!("10.0.0.{last}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(assignment("10.0.0.0/8", &many).check().is_err());
        assert!(assignment("10.0.0.0/8", &many[1..]).check().is_ok());
        let mut twice = assignment("10.0.0.0/8", &["10.0.0.1"]);
        twice.names.push(twice.names[0].clone());
        assert!(twice.check().is_err());
        let mut wide = assignment("10.0.0.0/8", &["10.0.0.1"]);
        wide.lifelines[0].peer = "10.0.0.0/24".parse().unwrap();
        assert!(wide.check().is_err(), "a network is no pinned address");
    }

    #[test]
    fn what_a_filter_of_names_answers_is_nobodys_address() {
        for text in
            ["0.0.0.0", "127.0.0.1", "::", "::1", "::ffff:127.0.0.1", "224.0.0.1", "fe80::1"]
        {
            assert!(!is_peer(text.parse().unwrap()), "{text}");
        }
        assert!(is_peer("10.0.0.1".parse().unwrap()) && is_peer("fd00::1".parse().unwrap()));
    }
}
