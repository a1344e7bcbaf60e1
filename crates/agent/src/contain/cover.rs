//! Lifelines as pieces that don't overlap.
//!
//! People declare lifelines that do (`104 to the PACS`, `104–110 to the imaging network`), and whatever
//! they declare comes to as few rules as need be. Networks are nested or apart, never half inside each
//! other, so it is enough to take from each network's ports those that a wider network already has.

use std::collections::{BTreeMap, BTreeSet};

use cordon_model::asset::{PortRange, Transport};
use ipnet::IpNet;

/// Pieces that one ruleset's lifelines may come to. 256 lifelines of a real machine give at most a few
/// hundred; only a contrived nesting gives more. Each piece costs two rules (an inbound one four, for a
/// service may be published) of about 400 bytes of the transaction.
pub const ELEMENTS: usize = 4096;

/// A network, a transport and ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Patch {
    /// The peers.
    pub network: IpNet,
    /// The transport.
    pub transport: Transport,
    /// The ports.
    pub ports: PortRange,
}

/// The same flows as `patches`, in pieces of which no two overlap.
#[must_use]
pub fn disjoint(patches: &[Patch]) -> Vec<Patch> {
    let mut declared: BTreeMap<(IpNet, Transport), Vec<PortRange>> = BTreeMap::new();
    for patch in patches {
        declared.entry((patch.network.trunc(), patch.transport)).or_default().push(patch.ports);
    }
    let sizes: BTreeSet<u8> = declared.keys().map(|(network, _)| network.prefix_len()).collect();
    declared
        .iter()
        .flat_map(|(&(network, transport), own)| {
            // Each size of network around it can be one network only.
            let wider = sizes.range(..network.prefix_len()).filter_map(|size| {
                let around = IpNet::new(network.addr(), *size).ok()?.trunc();
                declared.get(&(around, transport))
            });
            let wider = merged(wider.flatten().copied());
            let own = merged(own.iter().copied());
            without(&own, &wider).into_iter().map(move |ports| Patch { network, transport, ports })
        })
        .collect()
}

/// The same ports in ascending ranges that neither overlap nor touch.
fn merged(ranges: impl Iterator<Item = PortRange>) -> Vec<PortRange> {
    let mut ranges: Vec<PortRange> = ranges.collect();
    ranges.sort_unstable();
    let mut merged: Vec<PortRange> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(before) if range.first <= before.last.saturating_add(1) => {
                before.last = before.last.max(range.last);
            }
            _ => merged.push(range),
        }
    }
    merged
}

/// What of `ranges` is not in `taken`; both [`merged`].
fn without(ranges: &[PortRange], taken: &[PortRange]) -> Vec<PortRange> {
    let mut left = Vec::new();
    for range in ranges {
        let mut next = u32::from(range.first);
        for hole in taken.iter().filter(|hole| hole.overlaps(*range)) {
            push(&mut left, next, u32::from(hole.first));
            next = u32::from(hole.last) + 1;
        }
        push(&mut left, next, u32::from(range.last) + 1);
    }
    left
}

/// Adds the range from `first` to before `end`, if there is any.
fn push(to: &mut Vec<PortRange>, first: u32, end: u32) {
    if first < end
        && let (Ok(first), Ok(last)) = (u16::try_from(first), u16::try_from(end - 1))
    {
        to.push(PortRange { first, last });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn patch() -> impl Strategy<Value = Patch> {
        let network = prop_oneof![
            (0u8..4, 24u8..=32).prop_map(|(last, length)| format!("10.0.0.{last}/{length}")),
            (0u8..4, 120u8..=128).prop_map(|(last, length)| format!("fd00::{last}/{length}")),
        ];
        (network, any::<bool>(), 1u16..40, 0u16..20).prop_map(|(network, tcp, first, more)| Patch {
            network: network.parse().unwrap(),
            transport: if tcp { Transport::Tcp } else { Transport::Udp },
            ports: PortRange { first, last: first + more },
        })
    }

    fn covers(patch: &Patch, address: &str, port: u16) -> bool {
        patch.network.contains(&address.parse::<std::net::IpAddr>().unwrap())
            && patch.ports.overlaps(PortRange::one(port))
    }

    proptest! {
        #[test]
        fn the_pieces_are_the_same_flows_and_each_only_once(
            patches in proptest::collection::vec(patch(), 0..12),
        ) {
            let pieces = disjoint(&patches);
            for transport in [Transport::Tcp, Transport::Udp] {
                for address in ["10.0.0.0", "10.0.0.1", "10.0.0.3", "10.0.0.9", "fd00::", "fd00::2"] {
                    for port in 0..70 {
                        let count = |of: &[Patch]| {
                            of.iter()
                                .filter(|p| p.transport == transport && covers(p, address, port))
                                .count()
                        };
                        prop_assert_eq!(count(&pieces), count(&patches).min(1));
                    }
                }
            }
        }
    }

    #[test]
    fn the_last_port_is_a_port() {
        let all = Patch {
            network: "10.0.0.0/8".parse().unwrap(),
            transport: Transport::Tcp,
            ports: PortRange { first: 1, last: 65535 },
        };
        let top = Patch { ports: PortRange { first: 65000, last: 65535 }, ..all };
        assert_eq!(disjoint(&[all, top]), vec![all]);
    }
}
