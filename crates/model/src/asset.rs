//! Machines, what they are for, and which of their flows must live.
//!
//! The one idea: what a machine is (tier, group, lifelines) is said by the organisation and signed as
//! an [`Assignment`]; a machine never says it of itself (law 11).

use std::fmt;
use std::net::SocketAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::action::FilePath;
use crate::ids::{MachineId, OdsCode};
use crate::limits;
use crate::named::{self, NamedLifeline};
use crate::signed::Document;

/// How directly a patient depends on an asset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClinicalTier {
    /// 0: no care depends on it (an office machine).
    None,
    /// 1: it supports care (booking, printing), and care goes on without it.
    Supports,
    /// 2: clinical (a PACS workstation, a laboratory analyser).
    Clinical,
    /// 3: life-sustaining (a ventilator's gateway, a theatre system). Never contained without two
    /// people, one of them clinical.
    LifeSustaining,
}

impl ClinicalTier {
    /// What an asset is treated as whose tier nobody has said: clinical (law 3).
    pub const WHEN_UNKNOWN: Self = Self::Clinical;

    /// The tier's number, 0 to 3.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Supports => 1,
            Self::Clinical => 2,
            Self::LifeSustaining => 3,
        }
    }

    /// The tier with `number`, 0 to 3.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::None),
            1 => Some(Self::Supports),
            2 => Some(Self::Clinical),
            3 => Some(Self::LifeSustaining),
            _ => None,
        }
    }

    /// Whether nothing may be done to it by itself: tiers 2 and 3.
    #[must_use]
    pub fn is_clinical(self) -> bool {
        self >= Self::Clinical
    }
}

impl fmt::Display for ClinicalTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self {
            Self::None => "no care depends on it",
            Self::Supports => "supports care",
            Self::Clinical => "clinical",
            Self::LifeSustaining => "life-sustaining",
        };
        write!(f, "tier {}: {word}", self.number())
    }
}

/// Transport protocol of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Which side opens a flow, seen from the machine that it is declared for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// The peer connects to a service on this machine.
    Inbound,
    /// This machine connects to a service on the peer.
    Outbound,
}

/// One or more consecutive ports of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortRange {
    /// Lowest port.
    pub first: u16,
    /// Highest port, included.
    pub last: u16,
}

impl PortRange {
    /// One port.
    #[must_use]
    pub fn one(port: u16) -> Self {
        Self { first: port, last: port }
    }

    /// Whether the two ranges share a port.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// Services that worms and intruders move sideways by; **segment** cuts them.
///
/// TCP: SSH 22, RPC endpoint mapper 135, NetBIOS session 139, SMB 445, RDP 3389, VNC 5900,
/// WinRM 5985–5986. UDP: NetBIOS 137–138, RDP 3389. Data, with the reasons in the user guide.
pub const LATERAL_MOVEMENT: &[(Transport, PortRange)] = &[
    (Transport::Tcp, PortRange { first: 22, last: 22 }),
    (Transport::Tcp, PortRange { first: 135, last: 135 }),
    (Transport::Tcp, PortRange { first: 139, last: 139 }),
    (Transport::Tcp, PortRange { first: 445, last: 445 }),
    (Transport::Tcp, PortRange { first: 3389, last: 3389 }),
    (Transport::Tcp, PortRange { first: 5900, last: 5900 }),
    (Transport::Tcp, PortRange { first: 5985, last: 5986 }),
    (Transport::Udp, PortRange { first: 137, last: 138 }),
    (Transport::Udp, PortRange { first: 3389, last: 3389 }),
];

/// A flow that containment must keep (law 3).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lifeline {
    /// What people call it: `DICOM to the PACS`.
    pub name: String,
    /// The other side: an address or a network.
    pub peer: IpNet,
    /// The service's transport.
    pub transport: Transport,
    /// The service's ports, on whichever side serves.
    pub ports: PortRange,
    /// Which side opens the flow.
    pub direction: Direction,
    /// Who accepted the risk, where the flow uses a lateral-movement port.
    #[serde(default)]
    pub signed_off_by: Option<String>,
}

/// Why a lifeline can't be accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LifelineError {
    /// The first port is above the last, or is 0.
    #[error("lifeline {name:?}: ports {first}-{last} are not a range of ports from 1 to 65535")]
    Ports {
        /// The lifeline's name.
        name: String,
        /// As given.
        first: u16,
        /// As given.
        last: u16,
    },
    /// A lateral-movement port needs a pinned address and a name that answers for it.
    #[error(
        "lifeline {name:?} covers a lateral-movement port: pin its peer to one address (it is {peer}) \
         and name who signed it off"
    )]
    LateralMovement {
        /// The lifeline's name.
        name: String,
        /// As given.
        peer: IpNet,
    },
    /// A name is empty, too long or has control characters.
    #[error("a lifeline's name must be 1 to {limit} bytes with no control characters", limit = limits::NAME_BYTES)]
    Name,
    /// What is said of a name that lifelines are known by.
    #[error("lifeline {name:?}: {why}")]
    Named {
        /// What it is called.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// Too many names that lifelines are known by.
    #[error("{count} lifelines by name, and one machine may have {limit}", limit = limits::NAMES_PER_MACHINE)]
    TooManyNames {
        /// How many were given.
        count: usize,
    },
    /// Too many names of what is needed for care.
    #[error("more than {limit} names of what is needed for care", limit = limits::PROTECTED)]
    TooMuchProtected,
    /// The root, no plain absolute path, or named twice.
    #[error(
        "{path} can't be watched for denied contents: name the mount point of another filesystem than that \
             of /, once"
    )]
    Watched {
        /// As given.
        path: String,
    },
    /// Too many filesystems that are watched.
    #[error("{count} filesystems to watch, and one machine may have {limit}", limit = limits::WATCHED)]
    TooManyWatched {
        /// How many were given.
        count: usize,
    },
    /// Too many.
    #[error("{count} lifelines, and one machine may have {limit}", limit = limits::LIFELINES_PER_MACHINE)]
    TooMany {
        /// How many were given.
        count: usize,
    },
}

impl Lifeline {
    /// Whether the flow runs over a service that **segment** cuts.
    #[must_use]
    pub fn covers_lateral_movement(&self) -> bool {
        LATERAL_MOVEMENT
            .iter()
            .any(|(transport, ports)| *transport == self.transport && ports.overlaps(self.ports))
    }

    /// Accepts the lifeline, or says why not (law 3).
    ///
    /// # Errors
    /// See [`LifelineError`].
    pub fn check(&self) -> Result<(), LifelineError> {
        if self.name.is_empty()
            || self.name.len() > limits::NAME_BYTES
            || self.name.chars().any(char::is_control)
        {
            return Err(LifelineError::Name);
        }
        let PortRange { first, last } = self.ports;
        if first == 0 || first > last {
            return Err(LifelineError::Ports { name: self.name.clone(), first, last });
        }
        let is_pinned = self.peer.prefix_len() == self.peer.max_prefix_len();
        if self.covers_lateral_movement() && !(is_pinned && self.signed_off_by.is_some()) {
            return Err(LifelineError::LateralMovement {
                name: self.name.clone(),
                peer: self.peer,
            });
        }
        Ok(())
    }
}

/// What is needed for care on a machine, as the organisation names it: nothing is frozen, killed, set aside or
/// denied there. Where the policy would have done so, people are asked at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protected {
    /// Units of systemd: `pacs-viewer.service`. Only what systemd itself runs counts, not a unit of
    /// that name in a user's own session.
    #[serde(default)]
    pub units: Vec<String>,
    /// Control groups, each with all below it: `/machine.slice/modality`.
    #[serde(default)]
    pub cgroups: Vec<String>,
    /// Programs: all processes that run them, and the files themselves. For what an interpreter runs,
    /// name the unit: an interpreter named here protects every script.
    #[serde(default)]
    pub executables: Vec<FilePath>,
}

impl Protected {
    /// Units, control groups and programs together.
    #[must_use]
    pub fn len(&self) -> usize {
        self.units.len() + self.cgroups.len() + self.executables.len()
    }

    /// Whether nothing is protected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it is short enough to be looked through for every process.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.len() <= limits::PROTECTED
    }

    /// Each by its name: units, then control groups, then programs.
    pub fn names(&self) -> impl Iterator<Item = String> + '_ {
        let groups = self.units.iter().chain(&self.cgroups).cloned();
        groups.chain(self.executables.iter().map(ToString::to_string))
    }
}

/// What the organisation says of one machine, signed with its command key and pinned by the agent.
///
/// It is shipped before any incident: nothing in it is ever resolved on a suspect machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assignment {
    /// Whose machine it is.
    pub organisation: OdsCode,
    /// Which machine.
    pub machine: MachineId,
    /// Counts up; an agent refuses one that is not newer than what it has.
    pub revision: u64,
    /// Its name, as the organisation knows it.
    pub name: String,
    /// Its tier; `None` means that nobody has said, and it is treated as
    /// [`ClinicalTier::WHEN_UNKNOWN`].
    pub tier: Option<ClinicalTier>,
    /// What it is, where others of the same kind can stand in for it: `CT workstation`.
    pub kind: Option<String>,
    /// Ward or department, for the budget's share of a group.
    pub group: Option<String>,
    /// The flows that containment keeps.
    pub lifelines: Vec<Lifeline>,
    /// By which names people know some of them. For the hub, which looks these up again: a machine keeps the
    /// lifelines alive, and resolves nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<NamedLifeline>,
    /// What is needed for care there.
    #[serde(default)]
    pub protected: Protected,
    /// Mount points of filesystems there on which every program is looked at before it starts, while a content
    /// is denied. Never that of `/`: who is asked must answer, and a machine whose every start waits stands still.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub watched: Vec<FilePath>,
    /// Where the hub's link is, by address: always kept, for the agent's own user only.
    pub hub: Vec<SocketAddr>,
}

impl Assignment {
    /// A machine about which nothing is said yet but whose it is: of unknown tier, without lifelines.
    #[must_use]
    pub fn of(organisation: OdsCode, machine: MachineId, name: impl Into<String>) -> Self {
        Self {
            organisation,
            machine,
            revision: 1,
            name: name.into(),
            tier: None,
            kind: None,
            group: None,
            lifelines: Vec::new(),
            names: Vec::new(),
            protected: Protected::default(),
            watched: Vec::new(),
            hub: Vec::new(),
        }
    }

    /// The tier that decisions use.
    #[must_use]
    pub fn effective_tier(&self) -> ClinicalTier {
        self.tier.unwrap_or(ClinicalTier::WHEN_UNKNOWN)
    }

    /// Accepts the assignment's lifelines, or says which is wrong.
    ///
    /// # Errors
    /// The first [`LifelineError`].
    pub fn check(&self) -> Result<(), LifelineError> {
        if self.lifelines.len() > limits::LIFELINES_PER_MACHINE {
            return Err(LifelineError::TooMany { count: self.lifelines.len() });
        }
        if !self.protected.is_short() {
            return Err(LifelineError::TooMuchProtected);
        }
        check_watched(&self.watched)?;
        self.lifelines.iter().try_for_each(Lifeline::check)?;
        named::check(self)
    }
}

fn check_watched(watched: &[FilePath]) -> Result<(), LifelineError> {
    if watched.len() > limits::WATCHED {
        return Err(LifelineError::TooManyWatched { count: watched.len() });
    }
    for (number, path) in watched.iter().enumerate() {
        // No plain path is `/`.
        if path.check().is_err() || watched[..number].contains(path) {
            return Err(LifelineError::Watched { path: path.to_string() });
        }
    }
    Ok(())
}

impl Document for Assignment {
    const TYPE: &'static str = "application/vnd.cordon.assignment.v1+cbor";
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lifeline(port: u16, peer: &str, signed_off_by: Option<&str>) -> Lifeline {
        Lifeline {
            name: "flow".into(),
            peer: peer.parse().unwrap(),
            transport: Transport::Tcp,
            ports: PortRange::one(port),
            direction: Direction::Outbound,
            signed_off_by: signed_off_by.map(Into::into),
        }
    }

    #[test]
    fn a_lifeline_over_smb_needs_one_address_and_a_name() {
        assert!(lifeline(11112, "10.0.0.0/8", None).check().is_ok());
        assert!(lifeline(445, "10.0.0.0/8", Some("Dr A")).check().is_err());
        assert!(lifeline(445, "10.0.0.1/32", None).check().is_err());
        assert!(lifeline(445, "10.0.0.1/32", Some("Dr A")).check().is_ok());
    }

    #[test]
    fn the_filesystem_of_the_root_is_never_watched_and_no_other_twice() {
        let watching = |paths: &[&str]| {
            let watched = paths.iter().map(|path| FilePath::new(path.as_bytes())).collect();
            let nobody = MachineId::new(crate::time::UtcNanos::from_unix_nanos(0), [0; 10]);
            Assignment { watched, ..Assignment::of("RJ1".parse().unwrap(), nobody, "ward 7") }
                .check()
        };
        assert!(watching(&["/srv", "/home"]).is_ok());
        for wrong in [&["/"][..], &["/srv/.."], &["//"], &["srv"], &[""], &["/srv", "/srv"]] {
            assert!(matches!(watching(wrong), Err(LifelineError::Watched { .. })), "{wrong:?}");
        }
        let many: Vec<String> = (0..=limits::WATCHED).map(|number| format!("/{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(matches!(watching(&many), Err(LifelineError::TooManyWatched { count: 17 })));
    }

    #[test]
    fn an_unknown_tier_is_clinical() {
        assert!(ClinicalTier::WHEN_UNKNOWN.is_clinical());
        for number in 0..4 {
            assert_eq!(ClinicalTier::from_number(number).map(ClinicalTier::number), Some(number));
        }
    }
}
