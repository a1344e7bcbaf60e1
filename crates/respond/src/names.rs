//! A name of a lifeline answers otherwise than what is pinned: what follows.
//!
//! The one idea: **by itself nothing is ever dropped, and nothing is pinned but what a person's signed bound
//! allows**. [`read`] says what a new answer means; [`pin`] makes the assignment that follows, and refuses
//! what goes beyond. The hub asks by the first, the signer decides by the second, and both go through the
//! same few lines, so a hub that is stolen gets no further than an honest one.
//!
//! An answer that is empty, late or partial changes nothing. So a name that moves leaves its old addresses
//! pinned: they are what a person signed, and a care that still uses one is not cut by a mistake in a zone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use cordon_model::asset::{Assignment, Lifeline, LifelineError};
use cordon_model::limits;
use cordon_model::named::{HostName, NamedLifeline, Service, is_peer};
use serde::{Deserialize, Serialize};

/// Addresses of one answer that are looked at, in their order: 64, as of a domain that is blocked. What a name
/// answers beyond is for people to look at.
pub const ADDRESSES_PER_ANSWER: usize = limits::ADDRESSES_PER_DOMAIN;

/// Why an address has to be confirmed by people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// Something that intruders move by is needed there.
    LateralMovement,
    /// No bound was signed.
    NoBound,
    /// It is outside the bound that was signed.
    OutsideTheBound,
    /// As many as may be are pinned.
    NoRoom,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LateralMovement => "it is needed over a port that intruders move by",
            Self::NoBound => "nobody signed within which network it may move",
            Self::OutsideTheBound => "it is outside the network that was signed for it",
            Self::NoRoom => "as many addresses as may be are pinned for it",
        })
    }
}

/// What an answer means for one machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// What the signer may pin without a person.
    pub follow: BTreeSet<IpAddr>,
    /// What people have to confirm, and why; an address that is followed for one service may need it for
    /// another.
    pub confirm: BTreeMap<IpAddr, Why>,
    /// What is pinned and was not in the answer. It stays.
    pub unanswered: BTreeSet<IpAddr>,
}

/// What it means for the machine of `assignment` that `host` was looked up and `answered` so; `None`: there was
/// no answer.
#[must_use]
pub fn read(
    assignment: &Assignment,
    host: &HostName,
    answered: Option<&BTreeSet<IpAddr>>,
) -> Reading {
    let mut reading = Reading::default();
    // No answer says nothing of any address.
    let Some(answered) = answered.filter(|answered| !answered.is_empty()) else { return reading };
    let addresses: BTreeSet<IpAddr> = answered
        .iter()
        .map(IpAddr::to_canonical)
        .filter(|address| is_peer(*address))
        .take(ADDRESSES_PER_ANSWER)
        .collect();
    let mut now = assignment.clone();
    for address in &addresses {
        if let Some(next) = followed(&now, host, *address) {
            now = next;
            reading.follow.insert(*address);
        }
    }
    for address in &addresses {
        if let Some(why) = why_not(&now, host, *address) {
            reading.confirm.insert(*address, why);
        }
    }
    let pinned = of(assignment, host).flat_map(|named| named.pinned(assignment));
    reading.unanswered = pinned.filter(|address| !addresses.contains(address)).collect();
    reading
}

/// What is to be pinned for a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// The name.
    pub host: HostName,
    /// Addresses of it that are to be kept alive too.
    pub add: BTreeSet<IpAddr>,
    /// Addresses that are to be kept no more: only for a person to say.
    #[serde(default)]
    pub drop: BTreeSet<IpAddr>,
    /// Who accepts the risk, where a port that intruders move by is needed. A person's name: whoever names
    /// none is the signed bound.
    #[serde(default)]
    pub signed_off_by: Option<String>,
}

/// Why nothing is pinned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PinRefused {
    /// Not declared.
    #[error("no lifeline of this machine is known by the name {host}")]
    UnknownName {
        /// As given.
        host: HostName,
    },
    /// Too many at once.
    #[error("at most {ADDRESSES_PER_ANSWER} addresses of a name are looked at")]
    TooMany,
    /// A person has to say it.
    #[error("{address} is for people to confirm: {why}")]
    NeedsPerson {
        /// Which.
        address: IpAddr,
        /// Why.
        why: Why,
    },
    /// By itself nothing is dropped.
    #[error("an address of a lifeline is dropped by people only")]
    DropNeedsPerson,
    /// Nobody's address.
    #[error("{address} is no other machine's address")]
    NoPeer {
        /// As given.
        address: IpAddr,
    },
    /// What would come of it can't be accepted.
    #[error(transparent)]
    Lifeline(#[from] LifelineError),
}

/// The assignment that follows from `pin`, with the revision as it was.
///
/// # Errors
/// See [`PinRefused`]; of several addresses none is pinned then.
pub fn pin(assignment: &Assignment, pin: &Pin) -> Result<Assignment, PinRefused> {
    if of(assignment, &pin.host).next().is_none() {
        return Err(PinRefused::UnknownName { host: pin.host.clone() });
    }
    if pin.add.len().max(pin.drop.len()) > ADDRESSES_PER_ANSWER {
        return Err(PinRefused::TooMany);
    }
    let mut next = assignment.clone();
    for address in pin.add.iter().map(IpAddr::to_canonical) {
        if !is_peer(address) {
            return Err(PinRefused::NoPeer { address });
        }
        match &pin.signed_off_by {
            Some(person) => confirm(&mut next, &pin.host, address, person),
            None => {
                if let Some(followed) = followed(&next, &pin.host, address) {
                    next = followed;
                } else if let Some(why) = why_not(&next, &pin.host, address) {
                    return Err(PinRefused::NeedsPerson { address, why });
                }
            }
        }
    }
    if !pin.drop.is_empty() {
        if pin.signed_off_by.is_none() {
            return Err(PinRefused::DropNeedsPerson);
        }
        let names: BTreeSet<&str> =
            of(assignment, &pin.host).map(|named| named.name.as_str()).collect();
        let dropped: BTreeSet<IpAddr> = pin.drop.iter().map(IpAddr::to_canonical).collect();
        next.lifelines.retain(|lifeline| {
            !(names.contains(lifeline.name.as_str()) && dropped.contains(&lifeline.peer.addr()))
        });
    }
    next.check()?;
    Ok(next)
}

/// What `assignment` has by this name: one machine may have several needs at one server.
fn of<'a>(
    assignment: &'a Assignment,
    host: &HostName,
) -> impl Iterator<Item = &'a NamedLifeline> + use<'a> {
    let host = host.clone();
    assignment.names.iter().filter(move |named| named.host == host)
}

/// The services of a name, each once, whoever signed them off.
fn services(assignment: &Assignment, named: &NamedLifeline) -> Vec<Service> {
    let mut services: Vec<Service> = Vec::new();
    for lifeline in named.lifelines(assignment) {
        let Lifeline { transport, ports, direction, ref signed_off_by, .. } = *lifeline;
        let is_same = |known: &Service| {
            (known.transport, known.ports, known.direction) == (transport, ports, direction)
        };
        if !services.iter().any(is_same) {
            let signed_off_by = signed_off_by.clone();
            services.push(Service { transport, ports, direction, signed_off_by });
        }
    }
    services
}

/// The lifelines that are missing for `address`, with the name that each is of.
fn missing<'a>(
    assignment: &'a Assignment,
    host: &HostName,
    address: IpAddr,
) -> Vec<(&'a NamedLifeline, Lifeline)> {
    let mut missing = Vec::new();
    for named in of(assignment, host) {
        for service in services(assignment, named) {
            let lifeline = service.at(address, &named.name);
            let is_pinned = named.lifelines(assignment).any(|known| {
                let Lifeline { peer, transport, ports, direction, .. } = *known;
                (peer, transport, ports, direction)
                    == (lifeline.peer, lifeline.transport, lifeline.ports, lifeline.direction)
            });
            if !is_pinned {
                missing.push((named, lifeline));
            }
        }
    }
    missing
}

/// The assignment with all of `address` that no person is needed for; `None`: there is nothing of that kind, or
/// no room for it.
fn followed(assignment: &Assignment, host: &HostName, address: IpAddr) -> Option<Assignment> {
    let more: Vec<Lifeline> = missing(assignment, host, address)
        .into_iter()
        .filter(|(named, lifeline)| needs_person(named, lifeline, address).is_none())
        .map(|(_, lifeline)| lifeline)
        .collect();
    if more.is_empty() {
        return None;
    }
    let mut next = assignment.clone();
    next.lifelines.extend(more);
    next.check().is_ok().then_some(next)
}

fn confirm(assignment: &mut Assignment, host: &HostName, address: IpAddr, person: &str) {
    let more: Vec<Lifeline> = missing(assignment, host, address)
        .into_iter()
        .map(|(_, lifeline)| {
            let is_risky = lifeline.covers_lateral_movement();
            let signed_off_by =
                if is_risky { Some(person.to_owned()) } else { lifeline.signed_off_by.clone() };
            Lifeline { signed_off_by, ..lifeline }
        })
        .collect();
    assignment.lifelines.extend(more);
}

/// Why `address` is not, or not for everything, pinned yet; `None`: it is.
fn why_not(assignment: &Assignment, host: &HostName, address: IpAddr) -> Option<Why> {
    let missing = missing(assignment, host, address);
    let why = missing.iter().filter_map(|(named, line)| needs_person(named, line, address)).min();
    why.or((!missing.is_empty()).then_some(Why::NoRoom))
}

fn needs_person(named: &NamedLifeline, lifeline: &Lifeline, address: IpAddr) -> Option<Why> {
    if lifeline.covers_lateral_movement() {
        Some(Why::LateralMovement)
    } else if named.within.is_empty() {
        Some(Why::NoBound)
    } else if !named.reaches(address) {
        Some(Why::OutsideTheBound)
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
