//! The table of all blocked peers. Pure: the same blocks and the same kept flows give the same table.
//!
//! Shaped as the isolation's table ([`super::super::super::ruleset`]) and for its reasons: one table for
//! both families, at its priority, of rules and plain sets only, without a policy. What is kept comes first
//! and is accepted; then every block has its rules in two chains, `from-peer` and `to-peer`; what matches none
//! of them is left to others.
//!
//! | a block | cuts |
//! |---|---|
//! | of everything, or of one transport | every packet from or to the peer |
//! | of ports | every packet from or to those ports, at either side |
//! | of one direction | what opens a connection that way, and the first answer to it; of UDP and others, which have no opening packet, what connection tracking says was begun that way |
//!
//! A direction can't be told from a packet in the middle of a TCP session, and tracking may know the
//! session only since this table. So open sessions of a blocked direction end by their sockets
//! ([`super::Blocks`]), and those that are only forwarded go on.

use cordon_model::action::Blocked;
use cordon_model::asset::{Direction, Transport};
use cordon_model::ids::MeasureId;
use ipnet::IpNet;

use super::super::super::flows::Flows;
use super::super::super::nft::{
    Chain, Expression, Header, Hook, Meta, Register, Rule, Table, Verdict,
};
use super::super::super::phrase::{
    Port, Side, TCP, at_ports, different, direction, equal, in_network, is_translated, jump, mask,
    number_of, protocol,
};
use super::super::super::ruleset::{
    TooScattered, base, configuration_in, configuration_out, go, kept_in, kept_out, kept_through,
    path_errors,
};
use super::kept::{Kept, networks};

/// The table's name.
pub const TABLE: &str = "cordon-blocks";

/// What people see beside the table. It never changes: a table's comment can't be exchanged in place.
const COMMENT: &str = "Cordon blocks peers of this machine; its helper puts this back";
/// The most of a label: a comment holds 250 bytes.
const LABEL_BYTES: usize = 200;

/// The table for all of `blocks`, under what is `kept`.
pub(super) fn table<'a>(
    blocks: impl Iterator<Item = (MeasureId, &'a Blocked)>,
    kept: &Kept,
) -> Result<Table, TooScattered> {
    let (mut from, mut to) = (Vec::new(), Vec::new());
    for (measure, blocked) in blocks {
        let start = from.len();
        for network in networks(blocked) {
            let both = Both::of(blocked, &network);
            from.extend(both.from);
            to.extend(both.to);
        }
        if let Some(first) = from.get_mut(start) {
            first.push(Expression::Comment(label(measure, blocked)));
        }
    }
    let bases = vec![
        base(
            Hook::Input,
            [kept_in(&[]), configuration_in(), path_errors(), vec![go("from-peer")]].concat(),
        ),
        base(
            Hook::Forward,
            [kept_through(), path_errors(), vec![go("from-peer"), go("to-peer")]].concat(),
        ),
        base(Hook::Output, [kept_out(&[], 0), configuration_out(), vec![go("to-peer")]].concat()),
    ];
    let chain = |name: &str, rules| Chain { name: name.into(), base: None, rules };
    // Programs of this machine, and of its containers, are told at once instead of hanging.
    let refused = vec![
        [protocol(TCP), vec![Expression::Reset]].concat(),
        vec![Expression::Verdict(Verdict::Drop)],
    ];
    let own = vec![chain("from-peer", from), chain("to-peer", to), chain("refused", refused)];
    let flows = Flows::of(&kept.flows)?;
    Ok(Table::new(COMMENT, flows.sets, [bases, own, flows.chains].concat()))
}

fn label(measure: MeasureId, blocked: &Blocked) -> String {
    let mut label = format!("measure {measure}: {blocked}");
    label.truncate(label.floor_char_boundary(LABEL_BYTES));
    label
}

/// The rules of one network, by who sends.
struct Both {
    from: Vec<Rule>,
    to: Vec<Rule>,
}

impl Both {
    fn of(blocked: &Blocked, network: &IpNet) -> Self {
        let from_peer = in_network(network, Side::Source);
        let to_peer = in_network(network, Side::Destination);
        let whole =
            |side: &Rule, of: Rule, then: Expression| [side.clone(), of, vec![then]].concat();
        let service = |port| match (blocked.transport, blocked.ports) {
            (None, _) => Rule::new(),
            (Some(transport), None) => protocol(number_of(transport)),
            (Some(transport), Some(ports)) => at_ports(transport, port, ports),
        };
        // A service that is published by translation shows another port by now.
        let published = || [is_translated(), service(Port::Original)].concat();
        let is_of_ports = blocked.ports.is_some();
        match blocked.direction {
            None => {
                let mut matches = vec![service(Port::Destination)];
                if is_of_ports {
                    matches.extend([service(Port::Source), published()]);
                }
                let all = |side: &Rule, then: fn() -> Expression| -> Vec<Rule> {
                    matches.iter().map(|of| whole(side, of.clone(), then())).collect()
                };
                Self { from: all(&from_peer, dropped), to: all(&to_peer, refused) }
            }
            Some(way) => {
                let opened = |side: &Rule, port, begins, then: fn() -> Expression| -> Vec<Rule> {
                    let mut matches = vec![service(port)];
                    if is_of_ports && way == Direction::Inbound {
                        matches.push(published());
                    }
                    let ways = begun(blocked.transport, begins);
                    let pairs = matches.iter().flat_map(|of| ways.iter().map(move |w| (of, w)));
                    pairs
                        .map(|(of, w)| whole(side, [of.clone(), w.clone()].concat(), then()))
                        .collect()
                };
                let (asked, answering) = (Port::Destination, Port::Source);
                match way {
                    Direction::Outbound => Self {
                        from: opened(&from_peer, answering, false, dropped),
                        to: opened(&to_peer, asked, true, refused),
                    },
                    Direction::Inbound => Self {
                        from: opened(&from_peer, asked, true, dropped),
                        to: opened(&to_peer, answering, false, refused),
                    },
                }
            }
        }
    }
}

fn dropped() -> Expression {
    Expression::Verdict(Verdict::Drop)
}

fn refused() -> Expression {
    Expression::Verdict(jump("refused"))
}

/// What `begins` a connection of `transport` (of any, if none), or is the first answer to that.
fn begun(transport: Option<Transport>, begins: bool) -> Vec<Rule> {
    let tracked = |of: Rule| [of, direction(u8::from(!begins))].concat();
    let no_tcp = vec![Expression::Meta { key: Meta::Protocol, into: 1 }, different(&[TCP])];
    match transport {
        Some(Transport::Tcp) => vec![opening(begins)],
        Some(Transport::Udp) => vec![tracked(Rule::new())],
        None => vec![[protocol(TCP), opening(begins)].concat(), tracked(no_tcp)],
    }
}

/// SYN alone, or SYN with ACK (RFC 9293 section 3.5).
fn opening(begins: bool) -> Rule {
    const SYN: u8 = 0x02;
    const ACK: u8 = 0x10;
    const INTO: Register = 1;
    let flags = if begins { SYN } else { SYN | ACK };
    vec![
        Expression::Payload { header: Header::Transport, offset: 13, bytes: 1, into: INTO },
        mask(&[SYN | ACK]),
        equal(&[flags]),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use cordon_model::action::BlockedPeer;
    use cordon_model::asset::PortRange;
    use cordon_model::time::UtcNanos;

    use super::*;

    fn measure(last: u8) -> MeasureId {
        MeasureId::new(UtcNanos::from_unix_nanos(0), [last; 10])
    }

    fn kept() -> Kept {
        let id = cordon_model::ids::MachineId::new(UtcNanos::from_unix_nanos(0), [1; 10]);
        let nothing = cordon_model::asset::Assignment::of("RJ1".parse().unwrap(), id, "ward 7");
        Kept::of(&nothing, &[], BTreeSet::new())
    }

    fn block(peer: &str) -> Blocked {
        let peer = BlockedPeer::Network(peer.parse().unwrap());
        Blocked { peer, transport: None, ports: None, direction: None }
    }

    fn rules<'a>(table: &'a Table, chain: &str) -> &'a [Rule] {
        &table.chains.iter().find(|found| found.name == chain).unwrap().rules
    }

    #[test]
    fn several_blocks_are_one_table_and_what_is_kept_comes_before_them() {
        let (one, other) = (block("10.0.0.9/32"), block("fd00::9/128"));
        let blocks = [(measure(1), &one), (measure(2), &other)];
        let both = table(blocks.into_iter(), &kept()).unwrap();
        assert_eq!((rules(&both, "from-peer").len(), rules(&both, "to-peer").len()), (2, 2));
        for base in ["input", "forward", "output"] {
            let rules = rules(&both, base);
            let at = |chain: &str| {
                let jumps = Expression::Verdict(jump(chain));
                rules.iter().position(|rule| rule.contains(&jumps))
            };
            let first = [at("from-peer"), at("to-peer")].into_iter().flatten().min().unwrap();
            let kept = ["inbound", "outbound", "inbound-answers", "outbound-answers"];
            assert!(kept.into_iter().filter_map(at).all(|kept| kept < first), "{base}");
        }
        // The frame is the same whatever is blocked, so that blocks come and go by their rules only.
        let single = table(std::iter::once((measure(1), &one)), &kept()).unwrap();
        assert!(single.has_frame_of(&both));
        assert_ne!(single, both);
    }

    #[test]
    fn a_label_has_room_beside_a_rule_however_long_the_name_is() {
        let name = vec!["a".repeat(60); 4].join(".");
        let peer = BlockedPeer::Domain { name, addresses: vec!["192.0.2.1".parse().unwrap()] };
        let blocked = Blocked { peer, ..block("10.0.0.9/32") };
        assert_eq!(label(measure(1), &blocked).len(), LABEL_BYTES);
        assert!(label(measure(1), &blocked).is_ascii());
    }

    #[test]
    fn ports_are_met_at_either_side_and_before_translation() {
        let ports = Some(PortRange::one(445));
        let blocked = Blocked { transport: Some(Transport::Tcp), ports, ..block("10.0.0.9/32") };
        let table = table(std::iter::once((measure(1), &blocked)), &kept()).unwrap();
        assert_eq!((rules(&table, "from-peer").len(), rules(&table, "to-peer").len()), (3, 3));
    }

    #[test]
    fn an_ipv4_peer_that_is_written_as_ipv6_is_met_as_ipv4() {
        let mapped = block("::ffff:10.0.0.9/128");
        let plain = block("10.0.0.9/32");
        let of = |blocked| table(std::iter::once((measure(1), blocked)), &kept()).unwrap();
        let strip = |table: &Table| {
            let mut rule = rules(table, "from-peer")[0].clone();
            rule.pop();
            rule
        };
        assert_eq!(strip(&of(&mapped)), strip(&of(&plain)));
    }
}
