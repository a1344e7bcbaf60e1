//! The table that carries an [`Intent`] out. Pure: the same intent gives the same table.
//!
//! How it is shaped, and why:
//!
//! * **One table of our own**, `inet cordon`, for IPv4 and IPv6 alike. A drop in any chain is final in
//!   nftables, so no other table's `accept` (docker's, firewalld's) can overrule ours; and ours lifts
//!   nothing that others forbid.
//! * **Priority −50**: after connection tracking (−200) and destination translation (−100), so that we
//!   judge the real other side and not what a local redirect made of it; before the usual filters (0),
//!   which then neither log nor answer what is cut.
//! * **`established` is never accepted.** Replies are told by their side of a flow that is allowed, so
//!   a live session of an intruder dies with everything else. TCP replies are told without memory (not
//!   a segment that opens a connection): tracking may begin with this very table, and would take the
//!   next packet of an open session for its first, in the wrong direction. UDP has no opening segment,
//!   so its replies need tracking's direction.
//! * **The hub's link** is open to the agent's user alone; its connections get a bit in their mark, by
//!   which replies, and the last packets of a socket that was closed, are known.
//! * **Rules and plain sets only**: no sets of intervals, no policies. Rules and elements of plain sets change
//!   from the old to the new in one instant; what else stands beside them does not (see [`super::table`]).
//!   Lifelines have chains and sets of their own (`flows`).
//! * **DNS is closed**: nothing is resolved on a contained machine, and names are an exit for data.
//!
//! What it does not reach, and is not claimed: frames that root sends by a packet socket, which pass no
//! `inet` hook; traffic between ports of one bridge on this machine, unless the kernel is set to show
//! bridged packets to IP hooks; connections that somebody's flow table already carries past all chains
//! (told in the proof).
//!
//! Refused TCP from this machine is answered by a reset, so that its programs fail at once instead of
//! hanging; what comes from outside is dropped without a word.

use std::net::SocketAddr;

use cordon_model::asset::{LATERAL_MOVEMENT, Transport};
use cordon_model::ids::MeasureId;
use cordon_model::measure::Isolation;
use sha2::{Digest, Sha256};

use super::cover;
use super::flows::Flows;
use super::intent::Intent;
use super::nft::{Base, Chain, Expression, Header, Hook, Meta, Rule, Table, Track, Verdict};
use super::phrase::{
    Family, ICMP, ICMPV6, Port, Side, TCP, at_ports, dhcp, different, direction, equal, icmpv6,
    is_marked, is_translated, jump, link_local, load_port, mask, of_family, of_hub, on_loopback,
    opens_nothing, protocol,
};

/// The table's name.
pub const TABLE: &str = "cordon";
/// See the module's text.
pub const PRIORITY: i32 = -50;
/// The bit of a connection's mark that says "opened by the agent to the hub". One bit, and one that
/// Docker, Kubernetes (14, 15), Cilium (8–11) and Tailscale (16–23) leave alone.
pub const HUB_MARK: u32 = 1 << 28;

/// Tracking's state bit for an error about a known connection.
const RELATED: u32 = 1 << 2;

/// What people see beside the table. It never changes: a table's comment can't be exchanged in place.
const COMMENT: &str = "Cordon isolates this machine; its helper puts this back";

/// A declared set of flows that is too scattered to be kept exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the lifelines come to {0} separate pieces, and {limit} can be kept: declare wider ranges",
    limit = cover::ELEMENTS
)]
pub struct TooScattered(pub(super) usize);

/// The table for `intent`, or `None` where nothing is cut.
///
/// # Errors
/// [`TooScattered`].
pub fn ruleset(intent: &Intent, measure: MeasureId) -> Result<Option<Table>, TooScattered> {
    let flows = Flows::of(&intent.lifelines)?;
    let (mut base_chains, helpers) = match intent.isolation {
        Isolation::Watch => return Ok(None),
        Isolation::Segment => segment(intent),
        Isolation::Full => full(intent),
    };
    // Read back by people; what is compared is the table itself.
    let digest = Sha256::digest(format!("{base_chains:?}{helpers:?}"));
    let digest: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let label = format!("cordon: {}, measure {measure}, rules {digest}", intent.isolation);
    base_chains[0].rules[0].push(Expression::Comment(label));
    let chains = [base_chains.into(), helpers, flows.chains].concat();
    Ok(Some(Table::new(COMMENT, flows.sets, chains)))
}

/// What comes in, through and out; and the chains of their own that they jump to.
type Chains = ([Chain; 3], Vec<Chain>);

pub(super) fn go(chain: &str) -> Rule {
    vec![Expression::Verdict(jump(chain))]
}

fn segment(intent: &Intent) -> Chains {
    // A service that is published by translation shows another port by now.
    let cut = |chain: &str| {
        let translated = [is_translated(), go(&format!("{chain}-published"))].concat();
        vec![go(chain), translated]
    };
    let bases = [
        base(Hook::Input, [kept_in(&intent.hub), cut("lateral")].concat()),
        base(Hook::Forward, [kept_through(), cut("lateral")].concat()),
        base(Hook::Output, [kept_out(&intent.hub, intent.agent_user), cut("refused")].concat()),
    ];
    let both = [Port::Destination, Port::Source];
    let helpers = vec![
        lateral("lateral", &both, false),
        lateral("lateral-published", &[Port::Original], false),
        lateral("refused", &both, true),
        lateral("refused-published", &[Port::Original], true),
    ];
    (bases, helpers)
}

/// What worms and intruders move by, at any of `ports`; aloud, programs here are told at once.
fn lateral(name: &str, ports: &[Port], is_aloud: bool) -> Chain {
    let rules = ports.iter().flat_map(|port| {
        LATERAL_MOVEMENT.iter().map(|(transport, range)| {
            let mut rule = at_ports(*transport, *port, *range);
            rule.push(match transport {
                Transport::Tcp if is_aloud => Expression::Reset,
                Transport::Tcp | Transport::Udp => Expression::Verdict(Verdict::Drop),
            });
            rule
        })
    });
    Chain { name: name.into(), base: None, rules: rules.collect() }
}

fn full(intent: &Intent) -> Chains {
    let drop = || vec![vec![Expression::Verdict(Verdict::Drop)]];
    let reset = vec![[protocol(TCP), vec![Expression::Reset]].concat()];
    let bases = [
        base(
            Hook::Input,
            [kept_in(&intent.hub), configuration_in(), path_errors(), drop()].concat(),
        ),
        base(Hook::Forward, [kept_through(), path_errors(), drop()].concat()),
        base(
            Hook::Output,
            [kept_out(&intent.hub, intent.agent_user), configuration_out(), reset, drop()].concat(),
        ),
    ];
    (bases, Vec::new())
}

/// What no rule decides is accepted: a policy comes into force beside the rules, not with them.
pub(super) fn base(hook: Hook, rules: Vec<Rule>) -> Chain {
    let name = match hook {
        Hook::Input => "input",
        Hook::Forward => "forward",
        Hook::Output => "output",
    };
    let base = Base { hook: hook.number(), priority: PRIORITY, drops: false };
    Chain { name: name.into(), base: Some(base), rules }
}

pub(super) fn kept_in(hub: &[SocketAddr]) -> Vec<Rule> {
    let mut rules = vec![on_loopback(Meta::InputInterface)];
    rules.extend(hub.iter().map(|hub| {
        let mut rule = of_hub(hub, Side::Source, Port::Source);
        rule.extend(is_marked());
        rule.push(Expression::Verdict(Verdict::Accept));
        rule
    }));
    let redirected = redirected(0, Port::Destination, "published");
    rules.extend([go("inbound"), go("outbound-answers"), redirected]);
    rules
}

pub(super) fn kept_out(hub: &[SocketAddr], agent_user: u32) -> Vec<Rule> {
    let mut rules = vec![on_loopback(Meta::OutputInterface)];
    for hub in hub {
        let to_hub = of_hub(hub, Side::Destination, Port::Destination);
        let mut opening = to_hub.clone();
        opening.extend([
            Expression::Meta { key: Meta::SocketUser, into: 1 },
            equal(&agent_user.to_ne_bytes()),
            Expression::Track { key: Track::Mark, into: 1 },
            Expression::Bits {
                register: 1,
                mask: (!HUB_MARK).to_ne_bytes().to_vec(),
                flip: HUB_MARK.to_ne_bytes().to_vec(),
            },
            Expression::SetMark { from: 1 },
            Expression::Verdict(Verdict::Accept),
        ]);
        // A socket that was closed has no user any more, and still has a farewell to send.
        let closing =
            [to_hub, is_marked(), opens_nothing(), vec![Expression::Verdict(Verdict::Accept)]];
        rules.extend([opening, closing.concat()]);
    }
    let redirected = redirected(1, Port::Source, "published-answers");
    rules.extend([go("outbound"), go("inbound-answers"), redirected]);
    rules
}

/// A service of this machine that waits at another port than the one that peers open (`REDIRECT`): its
/// lifeline is known by the port that was opened, as a container's is. `real` is the port where it waits: one
/// that worms move by is not reached so, whatever a rule on this machine calls it.
fn redirected(way: u8, real: Port, chain: &str) -> Rule {
    let lateral = LATERAL_MOVEMENT.iter().flat_map(|(_, ports)| ports.first..=ports.last);
    let elsewhere = lateral.map(|port| different(&port.to_be_bytes())).collect();
    [is_translated(), direction(way), vec![load_port(real, 1)], elsewhere, go(chain)].concat()
}

/// Containers' lifelines. An inbound one is taken on translated connections only: this machine does not
/// become a router to others' services.
pub(super) fn kept_through() -> Vec<Rule> {
    let published = |way: u8, chain| [is_translated(), direction(way), go(chain)].concat();
    vec![
        go("outbound"),
        go("outbound-answers"),
        published(0, "published"),
        published(1, "published-answers"),
    ]
}

/// What keeps the machine's addresses: neighbour and router discovery (RFC 4861, hop limit 255 proves
/// that it comes from the link), multicast listening (RFC 3810, hop limit 1), DHCP (RFC 2131: ports 67
/// and 68; RFC 8415: 546 and 547, link-local). ARP is not IP and never reaches this table.
pub(super) fn configuration_in() -> Vec<Rule> {
    const ROUTER_ADVERTISEMENT: u8 = 134;
    const NEIGHBOUR: [u8; 2] = [135, 136];
    const LISTENER_QUERY: u8 = 130;
    vec![
        icmpv6(ROUTER_ADVERTISEMENT, 255),
        icmpv6(NEIGHBOUR[0], 255),
        icmpv6(NEIGHBOUR[1], 255),
        icmpv6(LISTENER_QUERY, 1),
        dhcp(Family::V4, 67, 68, &[]),
        dhcp(Family::V6, 547, 546, &link_local(Side::Source)),
    ]
}

/// The other half of [`configuration_in`]. A machine never advertises routes while contained.
pub(super) fn configuration_out() -> Vec<Rule> {
    const ROUTER_SOLICITATION: u8 = 133;
    const NEIGHBOUR: [u8; 2] = [135, 136];
    const LISTENER: [u8; 3] = [131, 132, 143];
    /// All DHCP relays and servers on the link: ff02::1:2.
    const SERVERS: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2];
    let servers = vec![
        Expression::Payload { header: Header::Network, offset: 24, bytes: 16, into: 1 },
        equal(&SERVERS),
    ];
    let mut rules = vec![icmpv6(ROUTER_SOLICITATION, 255)];
    rules.extend(NEIGHBOUR.map(|kind| icmpv6(kind, 255)));
    rules.extend(LISTENER.map(|kind| icmpv6(kind, 1)));
    rules.push(dhcp(Family::V4, 68, 67, &[]));
    rules.push(dhcp(Family::V6, 546, 547, &servers));
    rules.push(dhcp(Family::V6, 546, 547, &link_local(Side::Destination)));
    rules
}

/// Errors without which a lifeline over a narrower path would stall: fragmentation needed (RFC 1191)
/// and packet too big (RFC 8201), about connections that tracking knows.
pub(super) fn path_errors() -> Vec<Rule> {
    let about_known = [
        Expression::Track { key: Track::State, into: 1 },
        mask(&RELATED.to_ne_bytes()),
        different(&0u32.to_ne_bytes()),
    ];
    [(Family::V4, ICMP, &[3u8, 4][..]), (Family::V6, ICMPV6, &[2u8][..])]
        .into_iter()
        .map(|(family, number, kind)| {
            let bytes = u32::try_from(kind.len()).unwrap_or(0);
            [
                about_known.to_vec(),
                of_family(family),
                protocol(number),
                vec![
                    Expression::Payload { header: Header::Transport, offset: 0, bytes, into: 1 },
                    equal(kind),
                    Expression::Verdict(Verdict::Accept),
                ],
            ]
            .concat()
        })
        .collect()
}

#[cfg(test)]
#[path = "ruleset_tests.rs"]
mod tests;
