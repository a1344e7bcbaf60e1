//! A peer that can't be spoken to any more, and can again.
//!
//! The one idea: all blocks of a machine are one nftables table (`inet cordon-blocks`), made anew from the
//! journal whenever one comes or goes and exchanged in one transaction, beside the isolation's table and
//! without touching it. So any number of blocks compose, each is taken back by itself, and the last one
//! leaves the kernel's rules as they were.
//!
//! | module | owns |
//! |---|---|
//! | `kept` | what a block never cuts, and so is refused for |
//! | `rules` | the table, as a value |
//! | `tries` | trying the peer without speaking to it |
//!
//! A **name** is blocked by the addresses that the hub resolved it to, which are in the order: nothing is
//! resolved on a suspect machine, and its answers from DNS are not touched. Addresses that the name gets
//! later are not blocked; other names at these addresses are.

mod kept;
mod rules;
mod tries;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cordon_model::action::{ActionKind, Blocked};
use cordon_model::asset::{Assignment, Direction, Transport};
use cordon_model::ids::MeasureId;
use cordon_model::look::Would;
use cordon_model::measure::Proof;
use serde::{Deserialize, Serialize};

use self::kept::{Kept, networks, resolvers};
use super::super::intent::Connection;
use super::super::moment::boot_time;
use super::super::netlink::NetlinkError;
use super::super::probe::Probes;
use super::super::sockets::{Cut, Sockets, own_addresses};
use super::super::table::Tables;
use super::super::tracked::Tracked;
use super::super::upheld::{Mark, Put, Standing, Upheld};
use super::journal::Journal;
use super::{ActError, Undone, failed};

pub use rules::TABLE;

/// Addresses and networks that are blocked at once. Each is two to six rules of about 400 bytes, so at most
/// 2.4 MB of a transaction of 8; a plan against one intruder names a dozen.
const NETWORKS: usize = 1024;

/// A blocked peer: what the journal holds of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Applied {
    /// The measure.
    pub measure: MeasureId,
    /// What was ordered.
    pub blocked: Blocked,
    /// Open connections that were closed, so far.
    pub closed: u32,
}

/// What was done, with what shows it.
#[derive(Debug)]
pub struct Shown {
    /// What the journal holds.
    pub applied: Applied,
    /// What shows it.
    pub proof: Proof,
    /// What is kept all the same, because it was declared later.
    pub overruled: Vec<String>,
}

/// The means to block peers, in one network namespace.
#[derive(Debug)]
pub struct Blocks {
    journal: Journal,
    root: PathBuf,
    upheld: Upheld,
    sockets: Sockets,
    tracked: Tracked,
    /// What the journal holds; nobody else writes to it.
    held: BTreeMap<MeasureId, Applied>,
}

impl Blocks {
    /// Of this thread's network namespace, on the machine whose file system begins at `root` (`/`, but for
    /// a try).
    ///
    /// # Errors
    /// When the kernel has no netfilter, or the journal can't be listed.
    pub fn open(journal: Journal, root: &Path) -> Result<Self, ActError> {
        let (tables, sockets, tracked) = Tables::open_for(TABLE)
            .and_then(|tables| Ok((tables, Sockets::open()?, Tracked::open()?)))
            .map_err(kernel("opening the way to the packet filter"))?;
        let mut held = BTreeMap::new();
        for measure in journal.measures(ActionKind::Block)? {
            match journal.read::<Applied>(ActionKind::Block, measure) {
                Ok(applied) => held.extend(applied.map(|applied| (measure, applied))),
                // Its own measure says so at each look; it must not keep the others from being blocked.
                Err(error) => tracing::error!(%error, %measure, "a block can't be read"),
            }
        }
        let upheld = Upheld::new(tables);
        Ok(Self { journal, root: root.to_owned(), upheld, sockets, tracked, held })
    }

    /// The number by which the kernel's notifications tell what was done from here.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn port(&self) -> Result<u32, NetlinkError> {
        self.upheld.tables.port()
    }

    /// Blocks the peer, closes what is open to it, and shows it. Applied again, it puts back what is missing.
    ///
    /// # Errors
    /// [`ActError::Refused`] for what would cut what is kept; nothing is changed by an `apply` that fails.
    pub fn apply(
        &mut self,
        measure: MeasureId,
        blocked: &Blocked,
        assignment: &Assignment,
    ) -> Result<Shown, ActError> {
        let kept = self.kept(assignment);
        let is_fresh = self.begun(measure)?.is_none();
        if is_fresh {
            self.refuse(blocked, &kept)?;
            let applied = Applied { measure, blocked: blocked.clone(), closed: 0 };
            self.journal.write(ActionKind::Block, measure, &applied)?;
            self.held.insert(measure, applied);
        }
        let put = match self.put(&kept) {
            Ok(put) => put,
            Err(error) => {
                if is_fresh {
                    // The kernel took none of it, and nothing of it is to come back at the next start.
                    self.held.remove(&measure);
                    self.journal.forget(ActionKind::Block, measure)?;
                }
                return Err(error);
            }
        };
        let at = boot_time();
        let (closed, left) = self.cut(blocked, &kept);
        let mut applied = self.begun(measure)?.ok_or_else(|| ActError::unfit("it is not held"))?;
        if closed > 0 {
            applied.closed = applied.closed.saturating_add(closed);
            self.journal.write(ActionKind::Block, measure, &applied)?;
            self.held.insert(measure, applied.clone());
        }
        let proof = self.proof(blocked, &kept, &put, left, at);
        let overruled = kept.overruled(blocked).into_iter().collect();
        Ok(Shown { applied, proof, overruled })
    }

    /// What the journal has of `measure`.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn begun(&self, measure: MeasureId) -> Result<Option<Applied>, ActError> {
        self.journal.read(ActionKind::Block, measure)
    }

    /// Lets the peer be spoken to again. The other blocks stay, without a gap.
    ///
    /// # Errors
    /// When the kernel refuses; do it again.
    pub fn undo(
        &mut self,
        measure: MeasureId,
        assignment: &Assignment,
    ) -> Result<Undone, ActError> {
        let taken = self.held.remove(&measure);
        let kept = self.kept(assignment);
        let put = self.put(&kept);
        if !put.as_ref().is_ok_and(|put| put.is_as_meant) {
            // Still to be done, so still to be known.
            self.held.extend(taken.map(|applied| (measure, applied)));
            put?;
            return Err(ActError::unfit("somebody else changes the rules all the time"));
        }
        self.journal.forget(ActionKind::Block, measure)?;
        Ok(Undone::default())
    }

    /// Puts the table back if it is gone, and says whether it was: the shortest way, still to be shown by
    /// [`Blocks::apply`].
    ///
    /// # Errors
    /// What the kernel says.
    pub fn put_back(&mut self) -> Result<bool, NetlinkError> {
        if self.held.is_empty() { Ok(false) } else { self.upheld.put_back() }
    }

    /// Whether the table is in the kernel as it was put there; `None` if nothing is blocked.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn standing(&mut self) -> Result<Option<Standing>, NetlinkError> {
        if self.held.is_empty() {
            return Ok(None);
        }
        self.upheld.standing().map(Some)
    }

    /// By what the table is known again that was put there last, as it was meant.
    #[must_use]
    pub fn mark(&self) -> Option<Mark> {
        self.upheld.mark()
    }

    /// The same of what is in the kernel now.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn found(&mut self) -> Result<Option<Mark>, NetlinkError> {
        self.upheld.found()
    }

    /// What blocking the peer would do now: which open connections it would close.
    pub fn would(&mut self, blocked: &Blocked, assignment: &Assignment) -> Would {
        let kept = self.kept(assignment);
        if let Err(error) = self.refuse(blocked, &kept) {
            return Would::refused(error.to_string());
        }
        let mut would = Would::default();
        let networks = networks(blocked);
        let found =
            self.sockets.connections().and_then(|open| Ok((open, self.sockets.listening()?)));
        let (open, listening) = match found {
            Ok(found) => found,
            Err(error) => {
                would.notes.push(format!("open connections can't be listed: {error}"));
                return would;
            }
        };
        let meant = open.iter().filter(|connection| {
            networks.iter().any(|network| network.contains(&connection.remote.ip()))
                && covers(blocked, connection, listening.contains(&connection.local.port()))
        });
        for connection in meant {
            let line =
                format!("an open connection: {} with {}", connection.local, connection.remote);
            match kept.keeps(connection) {
                true => would.spares(format!("{line}: it is kept")),
                false => would.stops(line),
            }
        }
        would.notes.extend(kept.overruled(blocked).into_iter().map(|what| format!("kept: {what}")));
        if would.of == 0 {
            would.notes.push("no connection with it is open now".into());
        }
        would
    }

    fn kept(&self, assignment: &Assignment) -> Kept {
        Kept::of(assignment, &resolvers(&self.root), own_addresses())
    }

    /// What no order may do, or this machine can't.
    fn refuse(&self, blocked: &Blocked, kept: &Kept) -> Result<(), ActError> {
        if let Some(why) = kept.why_not(blocked) {
            return Err(ActError::refused(why));
        }
        let held: usize = self.held.values().map(|held| networks(&held.blocked).len()).sum();
        if held + networks(blocked).len() > NETWORKS {
            return Err(ActError::unfit(format!(
                "{held} addresses and networks are blocked already, and {NETWORKS} can be: take some back"
            )));
        }
        Ok(())
    }

    /// Puts everything that is held in force, or takes the table away if nothing is.
    fn put(&mut self, kept: &Kept) -> Result<Put, ActError> {
        const DOING: &str = "putting the blocks in force";
        if self.held.is_empty() {
            let is_as_meant = self.upheld.remove().map_err(kernel(DOING))?;
            return Ok(Put { handle: None, is_as_meant, unread: None });
        }
        let blocks = self.held.values().map(|held| (held.measure, &held.blocked));
        let meant =
            rules::table(blocks, kept).map_err(|error| ActError::unfit(error.to_string()))?;
        self.upheld.put(&meant).map_err(kernel(DOING))
    }

    fn cut(&mut self, blocked: &Blocked, kept: &Kept) -> (u32, Option<NetlinkError>) {
        let networks = networks(blocked);
        // Who opened a connection is told by who waits at its port; only a block of one direction asks.
        let listening =
            blocked.direction.map_or_else(|| Ok(Default::default()), |_| self.sockets.listening());
        let (listening, unknown) = match listening {
            Ok(ports) => (ports, None),
            Err(error) => (Default::default(), Some(error)),
        };
        let tracked = &mut self.tracked;
        // A port that is redirected on this machine is met in the rules as its peer opened it.
        let is_of_near_ports =
            blocked.ports.is_some() && blocked.direction != Some(Direction::Outbound);
        let Cut { closed, left } = self.sockets.cut(|connection| {
            let is_with_peer =
                networks.iter().any(|network| network.contains(&connection.remote.ip()));
            if !is_with_peer || kept.keeps(connection) {
                return false;
            }
            let is_served = listening.contains(&connection.local.port());
            let is_covered = covers(blocked, connection, is_served)
                || is_of_near_ports
                    && tracked
                        .as_opened(connection)
                        .is_ok_and(|it| it.is_some_and(|it| covers(blocked, &it, is_served)));
            is_covered && !tracked.is_redirected_lifeline(&kept.flows, connection)
        });
        (closed, left.or(unknown))
    }

    fn proof(
        &mut self,
        blocked: &Blocked,
        kept: &Kept,
        put: &Put,
        left: Option<NetlinkError>,
        at: cordon_model::time::BootNanos,
    ) -> Proof {
        let mut unproven: Vec<String> = put.unread.iter().map(ToString::to_string).collect();
        unproven.extend(left.map(|why| format!("open connections may not all be cut: {why}")));
        if self.upheld.tables.has_flow_tables().unwrap_or(true) {
            unproven.push(
                "forwarded connections that another table's flow table carries may go on".into(),
            );
        }
        if blocked.direction.is_some() {
            unproven.push(
                "of one direction only: sessions that are open through this machine, and not its own, go on"
                    .into(),
            );
        }
        let Probes { tried, unproven: not_tried } = tries::tries(blocked, kept);
        unproven.extend(not_tried);
        Proof {
            table_handle: put.handle,
            is_read_back: put.is_as_meant,
            probes: tried,
            unproven,
            at,
        }
    }
}

/// Whether an open connection with the peer is one that `blocked` cuts. Somebody waits at this side's port
/// if the peer opened it (`is_served`).
fn covers(blocked: &Blocked, connection: &Connection, is_served: bool) -> bool {
    let is_meant =
        |port: u16| blocked.ports.is_none_or(|ports| (ports.first..=ports.last).contains(&port));
    let (near, far) = (is_meant(connection.local.port()), is_meant(connection.remote.port()));
    // A connected UDP socket is nearly always the side that asks; nobody waits at a port of UDP's.
    let is_served = is_served && connection.transport == Transport::Tcp;
    blocked.transport.is_none_or(|transport| transport == connection.transport)
        && match blocked.direction {
            None => near || far,
            Some(Direction::Outbound) => !is_served && far,
            Some(Direction::Inbound) => is_served && near,
        }
}

fn kernel(doing: &'static str) -> impl FnOnce(NetlinkError) -> ActError {
    move |error| failed(doing)(std::io::Error::other(error))
}

#[cfg(test)]
mod tests {
    use cordon_model::action::BlockedPeer;
    use cordon_model::asset::PortRange;

    use super::*;

    #[test]
    fn of_open_connections_those_that_are_blocked_are_told_by_transport_ports_and_who_opened_them()
    {
        let connection = |transport, local: &str, remote: &str| Connection {
            transport,
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
            user: 0,
        };
        let opened = connection(Transport::Tcp, "10.0.0.5:40000", "10.0.0.9:445");
        let served = connection(Transport::Tcp, "10.0.0.5:445", "10.0.0.9:50000");
        let asked = connection(Transport::Udp, "10.0.0.5:40000", "10.0.0.9:53");
        let peer = BlockedPeer::Network("10.0.0.9/32".parse().unwrap());
        let block = |transport, port: Option<u16>, direction| {
            let ports = port.map(PortRange::one);
            let blocked = Blocked { peer: peer.clone(), transport, ports, direction };
            [(&opened, false), (&served, true), (&asked, false)]
                .map(|(connection, is_served)| covers(&blocked, connection, is_served))
        };
        let (tcp, udp) = (Some(Transport::Tcp), Some(Transport::Udp));
        let (inbound, outbound) = (Some(Direction::Inbound), Some(Direction::Outbound));
        assert_eq!(block(None, None, None), [true, true, true]);
        assert_eq!(block(tcp, None, None), [true, true, false]);
        assert_eq!(block(tcp, Some(445), None), [true, true, false]);
        assert_eq!(block(tcp, Some(446), None), [false, false, false]);
        assert_eq!(block(None, None, outbound), [true, false, true]);
        assert_eq!(block(None, None, inbound), [false, true, false]);
        assert_eq!(block(tcp, Some(445), inbound), [false, true, false]);
        assert_eq!(block(udp, Some(53), outbound), [false, false, true]);
    }
}
