//! A table of Cordon's in the kernel: put in place, read back, removed, watched. Nobody else's is touched.
//!
//! There are two, each with its own [`Tables`]: the isolation's, and the one of blocked peers
//! ([`super::action::block`]), so that either comes and goes without the other.
//!
//! The one idea: one netlink batch is one nftables transaction, and rules change from the old to the new
//! for every packet at once. So whatever was there before, and wherever the process dies, the kernel holds
//! the old rules or the new ones and nothing between.
//!
//! That is true of **rules**, and of the elements of plain sets, which the kernel turns on and off by the
//! same bit. It is not of everything that stands beside them, and what follows was seen with real packets
//! (`tests/isolation_points/reapplied.rs`):
//!
//! * A set of intervals that is made in a transaction is empty until after its rules are in force, for
//!   as long as the kernel takes to notify of everything else in it.
//! * A base chain that is made anew has its policy a little after its rules; and one that is deleted
//!   keeps its policy, without its rules, until it is unhooked.
//! * A packet that is on its way through the hooks when its chain is deleted may meet neither chain.
//!
//! So the table's base chains stay when rules are exchanged, and only what they hold is replaced. All sets
//! are made anew with the rules that ask them, and those before are deleted whole, never emptied: the
//! kernel frees one when no packet can be at a rule that asks it any more.

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::socket::{MsgFlags, SockProtocol};

use super::action::block;
use super::codec::{
    comment, read_comment, read_elements, read_rule, read_set, write_elements, write_rule,
    write_set,
};
use super::netlink::{
    ACK, APPEND, CREATE, Channel, Message, NetlinkError, REQUEST, attribute, find, find_number,
    find_text, message, nest, number, text,
};
use super::nft::{ANONYMOUS, Base, Chain, Element, Set, Table};
use super::ruleset::TABLE;

/// Elements in one message: they are one attribute, which is at most 64 KiB, and an element at most 36
/// bytes (three headers of 4 and a key of 24).
const ELEMENTS_PER_MESSAGE: usize = 1000;

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// `NFPROTO_INET`.
const FAMILY: u8 = 1;
/// `NFNLGRP_NFTABLES` (7), as a mask.
const NOTIFICATIONS: u32 = 1 << 6;

/// `NFT_MSG_*`, in the kernel's order.
mod kind {
    pub(super) const NEW_TABLE: u16 = 0;
    pub(super) const GET_TABLE: u16 = 1;
    pub(super) const DELETE_TABLE: u16 = 2;
    pub(super) const NEW_CHAIN: u16 = 3;
    pub(super) const GET_CHAIN: u16 = 4;
    pub(super) const DELETE_CHAIN: u16 = 5;
    pub(super) const NEW_RULE: u16 = 6;
    pub(super) const GET_RULE: u16 = 7;
    pub(super) const DELETE_RULE: u16 = 8;
    pub(super) const NEW_SET: u16 = 9;
    pub(super) const GET_SET: u16 = 10;
    pub(super) const DELETE_SET: u16 = 11;
    pub(super) const NEW_ELEMENTS: u16 = 12;
    pub(super) const GET_ELEMENTS: u16 = 13;
    pub(super) const NEW_GENERATION: u16 = 15;
    pub(super) const NEW_FLOW_TABLE: u16 = 22;
    pub(super) const GET_FLOW_TABLE: u16 = 23;
}

const DOING: &str = "reading the rules back";

/// A table of Cordon's as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InForce {
    /// The kernel's handle: another one if anybody deleted and remade the table.
    pub handle: u64,
    /// What it holds.
    pub table: Table,
}

/// Who changed the ruleset, as the kernel noted it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Process id.
    pub process: u32,
    /// Process name.
    pub name: String,
    /// Whether it was at a table of Cordon's.
    pub was_at_ours: bool,
}

/// The way to one table of Cordon's in one network namespace.
#[derive(Debug)]
pub struct Tables {
    channel: Channel,
    name: &'static str,
}

impl Tables {
    /// Opens the way to the isolation's table in this thread's network namespace.
    ///
    /// # Errors
    /// When the kernel has no netfilter.
    pub fn open() -> Result<Self, NetlinkError> {
        Self::open_for(TABLE)
    }

    /// Opens the way to the table called `name`.
    ///
    /// # Errors
    /// When the kernel has no netfilter.
    pub fn open_for(name: &'static str) -> Result<Self, NetlinkError> {
        Channel::open(SockProtocol::NetlinkNetFilter, 0).map(|channel| Self { channel, name })
    }

    /// The number by which notifications tell what was done from here.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn port(&self) -> Result<u32, NetlinkError> {
        self.channel.port()
    }

    /// Puts `table` in force in place of whatever the table held.
    ///
    /// # Errors
    /// What the kernel says; then nothing was changed.
    pub fn replace(&mut self, table: &Table) -> Result<(), NetlinkError> {
        // What can't be read is made anew, as is what somebody has made differently meanwhile.
        if let Ok(Some(InForce { table: found, .. })) = self.read_frame()
            && found.has_frame_of(table)
            && self.exchange(&found, table).is_ok()
        {
            return Ok(());
        }
        self.make(table)
    }

    /// The same without asking what is there: for a table that is gone.
    ///
    /// # Errors
    /// What the kernel says; then nothing was changed.
    pub(super) fn make(&mut self, table: &Table) -> Result<(), NetlinkError> {
        self.transaction("putting the rules in force", |batch| {
            batch.add(kind::NEW_TABLE, CREATE, |_| {});
            batch.add(kind::DELETE_TABLE, 0, |_| {});
            batch.add(kind::NEW_TABLE, CREATE, |to| {
                number(to, 2, table.flags);
                attribute(to, 6, &comment(&table.comment));
            });
            write_sets(batch, table);
            for chain in &table.chains {
                batch.add(kind::NEW_CHAIN, CREATE, |to| write_chain(to, chain));
            }
            write_rules(batch, table);
        })
    }

    /// Exchanges the rules, and the sets and chains that they lead to; the base chains stay where they are.
    fn exchange(&mut self, found: &Table, table: &Table) -> Result<(), NetlinkError> {
        let lacks =
            |of: &Table, chain: &Chain| of.chains.iter().all(|known| known.name != chain.name);
        self.transaction("exchanging the rules", |batch| {
            batch.add(kind::DELETE_RULE, 0, |_| {});
            // Also one that is meant again: whoever changed it after it was found changed nothing.
            for set in found.sets.iter().filter(|set| set.flags & ANONYMOUS == 0) {
                batch.add(kind::DELETE_SET, 0, |to| text(to, 2, &set.name));
            }
            for chain in found.chains.iter().filter(|chain| lacks(table, chain)) {
                batch.add(kind::DELETE_CHAIN, 0, |to| text(to, 3, &chain.name));
            }
            write_sets(batch, table);
            for chain in table.chains.iter().filter(|chain| lacks(found, chain)) {
                batch.add(kind::NEW_CHAIN, CREATE, |to| write_chain(to, chain));
            }
            write_rules(batch, table);
        })
    }

    /// Removes the table, if there is one.
    ///
    /// # Errors
    /// What the kernel says; then nothing was changed.
    pub fn remove(&mut self) -> Result<(), NetlinkError> {
        self.transaction("removing the rules", |batch| {
            batch.add(kind::NEW_TABLE, CREATE, |_| {});
            batch.add(kind::DELETE_TABLE, 0, |_| {});
        })
    }

    /// What the kernel holds now under the table's name.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn read_back(&mut self) -> Result<Option<InForce>, NetlinkError> {
        let Some(InForce { handle, mut table }) = self.read_frame()? else {
            return Ok(None);
        };
        let name = self.name;
        for set in &mut table.sets {
            self.read_elements(set)?;
        }
        let rules = self.channel.list(DOING, of(kind::GET_RULE), |to| header(to, name))?;
        for found in rules {
            let body = payload(&found.body);
            if found.kind != of(kind::NEW_RULE) || !is_of(body, name) {
                continue;
            }
            let of_chain = find_text(body, 2).unwrap_or_default();
            if let Some(chain) = table.chains.iter_mut().find(|chain| chain.name == of_chain) {
                chain.rules.push(read_rule(body));
            }
        }
        Ok(Some(InForce { handle, table }))
    }

    /// The kernel's handle of the table, in one question; `None` if there is no table.
    ///
    /// # Errors
    /// When it can't be read.
    pub(super) fn handle(&mut self) -> Result<Option<u64>, NetlinkError> {
        self.ask()?.map(|found| handle_of(payload(&found.body))).transpose()
    }

    fn ask(&mut self) -> Result<Option<Message>, NetlinkError> {
        let name = self.name;
        match self.channel.ask(DOING, of(kind::GET_TABLE), |to| header(to, name)) {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The table without its rules and what is in its sets.
    fn read_frame(&mut self) -> Result<Option<InForce>, NetlinkError> {
        let Some(found) = self.ask()? else { return Ok(None) };
        let body = payload(&found.body);
        let comment = find(body, 6).map(read_comment).unwrap_or_default();
        let table = Table {
            flags: find_number(body, 2).unwrap_or(0),
            ..Table::new(&comment, self.read_sets()?, self.read_chains()?)
        };
        Ok(Some(InForce { handle: handle_of(body)?, table }))
    }

    /// Whether any table of this namespace has a flow table: connections forwarded by one pass no
    /// chain, ours included, until they end.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn has_flow_tables(&mut self) -> Result<bool, NetlinkError> {
        let found =
            self.channel.list("looking for flow tables", of(kind::GET_FLOW_TABLE), |to| {
                // Of every family.
                to.extend_from_slice(&[0, 0, 0, 0]);
            })?;
        Ok(found.iter().any(|found| found.kind == of(kind::NEW_FLOW_TABLE)))
    }

    /// Everything that nftables holds in this namespace, whosever it is, as the kernel's messages: kind and
    /// body. As evidence; nothing here understands it all.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn everything(&mut self) -> Result<Vec<(u16, Vec<u8>)>, NetlinkError> {
        const DOING: &str = "reading all rules";
        const OF_EVERY_FAMILY: [u8; 4] = [0; 4];
        let mut all = Vec::new();
        let kinds = [kind::GET_TABLE, kind::GET_CHAIN, kind::GET_RULE, kind::GET_SET];
        for kind in kinds.into_iter().chain([kind::GET_FLOW_TABLE]) {
            let found =
                self.channel.list(DOING, of(kind), |to| to.extend_from_slice(&OF_EVERY_FAMILY))?;
            all.extend(found.into_iter().map(|message| (message.kind & 0xff, message.body)));
        }
        // Elements are listed set by set.
        let sets: Vec<Vec<u8>> = all
            .iter()
            .filter(|(kind, _)| *kind == kind::NEW_SET)
            .map(|(_, body)| body.clone())
            .collect();
        for set in sets {
            let family = set.first().copied().unwrap_or(FAMILY);
            let [table, name] =
                [1, 2].map(|kind| find_text(payload(&set), kind).unwrap_or_default());
            let found = self.channel.list(DOING, of(kind::GET_ELEMENTS), |to| {
                to.extend_from_slice(&[family, 0, 0, 0]);
                text(to, 1, &table);
                text(to, 2, &name);
            });
            match found {
                Ok(found) => {
                    all.extend(
                        found.into_iter().map(|message| (message.kind & 0xff, message.body)),
                    );
                }
                // It went meanwhile.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    fn read_sets(&mut self) -> Result<Vec<Set>, NetlinkError> {
        let name = self.name;
        let found = self.channel.list(DOING, of(kind::GET_SET), |to| header(to, name))?;
        Ok(found
            .iter()
            .filter(|found| found.kind == of(kind::NEW_SET))
            .map(|found| payload(&found.body))
            .filter(|body| is_of(body, name))
            .map(read_set)
            .collect())
    }

    fn read_elements(&mut self, set: &mut Set) -> Result<(), NetlinkError> {
        let name = self.name;
        let found = self.channel.list(DOING, of(kind::GET_ELEMENTS), |to| {
            header(to, name);
            text(to, 2, &set.name);
        });
        match found {
            Ok(found) => {
                set.elements = found
                    .iter()
                    .filter(|found| found.kind == of(kind::NEW_ELEMENTS))
                    .flat_map(|found| read_elements(payload(&found.body)))
                    .collect();
                Ok(())
            }
            // It went meanwhile, and with it what was in it.
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn read_chains(&mut self) -> Result<Vec<Chain>, NetlinkError> {
        let name = self.name;
        let found = self.channel.list(DOING, of(kind::GET_CHAIN), |to| header(to, name))?;
        Ok(found
            .iter()
            .filter(|found| found.kind == of(kind::NEW_CHAIN))
            .map(|found| payload(&found.body))
            .filter(|body| is_of(body, name))
            .map(|body| Chain {
                name: find_text(body, 3).unwrap_or_default(),
                base: find(body, 4).map(|hook| Base {
                    hook: find_number(hook, 1).unwrap_or(0),
                    priority: find_number(hook, 2).unwrap_or(0).cast_signed(),
                    drops: find_number(body, 5) == Some(0),
                }),
                rules: Vec::new(),
            })
            .collect())
    }

    fn transaction(
        &mut self,
        doing: &'static str,
        write: impl FnOnce(&mut Batch<'_>),
    ) -> Result<(), NetlinkError> {
        let (channel, table) = (&mut self.channel, self.name);
        let mut batch = Batch { channel, table, bytes: Vec::new(), last: None };
        batch.edge(BATCH_BEGIN);
        write(&mut batch);
        let last = batch.ask_acknowledgement();
        batch.edge(BATCH_END);
        let bytes = batch.bytes;
        self.channel.transact(doing, &bytes, last)
    }
}

/// Hears of every change to any table of this namespace, as it happens.
#[derive(Debug)]
pub struct Watch {
    channel: Channel,
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

impl Watch {
    /// Begins to listen.
    ///
    /// # Errors
    /// When the kernel refuses (it lets root only).
    pub fn open() -> Result<Self, NetlinkError> {
        Channel::open(SockProtocol::NetlinkNetFilter, NOTIFICATIONS).map(|channel| Self { channel })
    }

    /// Takes what has been notified: whether anybody but `own` (each a [`Tables::port`]) changed anything, and
    /// who did so last: at a table of Cordon's, if anybody was at one. An overrun counts as a change by nobody
    /// known.
    pub fn changes(&mut self, own: &[u32]) -> Option<Change> {
        let mut last: Option<Change> = None;
        // A transaction's notifications come one after another, and its author after them.
        let mut is_at_ours = false;
        loop {
            match self.channel.receive("watching the rules", MsgFlags::MSG_DONTWAIT) {
                Ok(None) => return last,
                Ok(Some(messages)) => {
                    for message in
                        messages.into_iter().filter(|message| !own.contains(&message.port))
                    {
                        let change = last.get_or_insert_with(Change::default);
                        if message.kind == of(kind::NEW_GENERATION) {
                            let body = payload(&message.body);
                            let by = Change {
                                process: find_number(body, 2).unwrap_or(0),
                                name: find_text(body, 3).unwrap_or_default(),
                                was_at_ours: std::mem::take(&mut is_at_ours),
                            };
                            if by.was_at_ours || !change.was_at_ours {
                                *change = by;
                            }
                        } else {
                            is_at_ours |= is_at_ours_in(&message.body);
                        }
                    }
                }
                // ENOBUFS: more changes than the buffer holds. Look, whatever they were.
                Err(_) => {
                    last.get_or_insert_with(Change::default);
                    return last;
                }
            }
        }
    }
}

struct Batch<'a> {
    channel: &'a mut Channel,
    table: &'static str,
    bytes: Vec<u8>,
    /// Where the last message begins, and its number.
    last: Option<(usize, u32)>,
}

impl Batch<'_> {
    fn edge(&mut self, kind: u16) {
        let sequence = self.channel.next_sequence();
        message(&mut self.bytes, kind, REQUEST, sequence, |to| {
            to.extend_from_slice(&[0, 0]);
            to.extend_from_slice(&SUBSYSTEM.to_be_bytes());
        });
    }

    /// One step, about the batch's table.
    fn add(&mut self, kind: u16, flags: u16, body: impl FnOnce(&mut Vec<u8>)) {
        let sequence = self.channel.next_sequence();
        self.last = Some((self.bytes.len(), sequence));
        message(&mut self.bytes, of(kind), REQUEST | flags, sequence, |to| {
            header(to, self.table);
            body(to);
        });
    }

    /// The kernel then answers the last message once the whole transaction is in force.
    fn ask_acknowledgement(&mut self) -> u32 {
        let Some((start, sequence)) = self.last else { return 0 };
        let [low, high] = [start + 6, start + 7];
        let flags = u16::from_ne_bytes([self.bytes[low], self.bytes[high]]) | ACK;
        self.bytes[low..=high].copy_from_slice(&flags.to_ne_bytes());
        sequence
    }
}

fn of(kind: u16) -> u16 {
    SUBSYSTEM << 8 | kind
}

/// `struct nfgenmsg`, and the table's name, which is attribute 1 of whatever is asked about it.
fn header(to: &mut Vec<u8>, table: &str) {
    to.extend_from_slice(&[FAMILY, 0, 0, 0]);
    text(to, 1, table);
}

fn payload(body: &[u8]) -> &[u8] {
    body.get(4..).unwrap_or_default()
}

fn handle_of(body: &[u8]) -> Result<u64, NetlinkError> {
    let handle = find(body, 4).and_then(|handle| handle.try_into().ok()).map(u64::from_be_bytes);
    handle.ok_or(NetlinkError::Malformed { doing: DOING, what: "no handle" })
}

/// Whether what is notified is of a table of Cordon's: all that is has its table's name as attribute 1.
fn is_at_ours_in(body: &[u8]) -> bool {
    body.first() == Some(&FAMILY)
        && [TABLE, block::TABLE].iter().any(|table| is_of(payload(body), table))
}

fn is_of(body: &[u8], table: &str) -> bool {
    find_text(body, 1).as_deref() == Some(table)
}

fn write_rules(batch: &mut Batch<'_>, table: &Table) {
    for chain in &table.chains {
        for rule in &chain.rules {
            batch.add(kind::NEW_RULE, CREATE | APPEND, |to| {
                text(to, 2, &chain.name);
                write_rule(to, rule);
            });
        }
    }
}

fn write_sets(batch: &mut Batch<'_>, table: &Table) {
    for (set, id) in table.sets.iter().zip(1..) {
        batch.add(kind::NEW_SET, CREATE, |to| write_set(to, set, id));
        let elements: Vec<&Element> = set.elements.iter().collect();
        for some in elements.chunks(ELEMENTS_PER_MESSAGE) {
            batch.add(kind::NEW_ELEMENTS, CREATE, |to| write_elements(to, &set.name, id, some));
        }
    }
}

fn write_chain(to: &mut Vec<u8>, chain: &Chain) {
    text(to, 3, &chain.name);
    if let Some(base) = &chain.base {
        nest(to, 4, |to| {
            number(to, 1, base.hook);
            number(to, 2, base.priority.cast_unsigned());
        });
        number(to, 5, u32::from(!base.drops));
        text(to, 7, "filter");
    }
}
